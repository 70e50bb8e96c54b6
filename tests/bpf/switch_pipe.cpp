// SPDX-License-Identifier: Apache-2.0
// switch_pipe -- the real programs as a filter, for witnesses that build and decode frames by other means. Reads
// lines "PORT HEX", each a frame that a veth of the vectors' house receives; writes for each a line "sent PORT HEX …"
// with everything that came out (port 0: passed to the host). The argument is the rung: tc or ladder.
#include <unistd.h>

#include <exception>
#include <iostream>
#include <string>

#include "vectors.h"

namespace {

using namespace ivds::test;

int run(Rung rung) {
    Rig rig(Rig::Options{});
    std::uint32_t port = 0;
    std::string hex;
    while (std::cin >> port >> hex) {
        const auto outcomes = rig.play(house(), rung, {{.port = port, .frame = from_hex(hex)}});
        std::cout << "sent";
        for (const Sent& sent : outcomes.at(0).sent) {
            std::cout << ' ' << sent.port << ' ' << to_hex(sent.bytes);
        }
        std::cout << std::endl;
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    const std::string rung = argc == 2 ? argv[1] : "";
    if (rung != "tc" && rung != "ladder") {
        std::cerr << "usage: switch_pipe tc|ladder\n";
        return 2;
    }
    if (geteuid() != 0) {
        std::cout << "SKIP: loading BPF programs and making network namespaces need root\n";
        return 77;
    }
    try {
        return run(rung == "tc" ? Rung::tc_live : Rung::ladder_live);
    } catch (const std::exception& error) {
        std::cerr << error.what() << '\n';
        return 1;
    }
}
