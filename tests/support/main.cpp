// SPDX-License-Identifier: Apache-2.0
// main.cpp -- Catch2's main for tests that load programs: without the rights to, they are skipped with a reason.
#include <unistd.h>

#include <catch2/catch_session.hpp>
#include <cstdio>

int main(int argc, char** argv) {
    if (geteuid() != 0) {
        std::puts("SKIP: loading BPF programs and making network namespaces need root");
        return 77;
    }
    return Catch::Session().run(argc, argv);
}
