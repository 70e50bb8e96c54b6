// SPDX-License-Identifier: Apache-2.0
// main.cpp -- ivds-ctl: the words and streams of the process, handed to run().
#include <unistd.h>

#include <cstdlib>
#include <exception>
#include <iostream>

#include "cli.h"

int main(int argc, char** argv) {
    try {
        std::ios::sync_with_stdio(false);
        const bool terminal = ::isatty(STDOUT_FILENO) != 0;
        const bool color = terminal && std::getenv("NO_COLOR") == nullptr;
        return ivds::cli::run({argv + 1, argv + argc}, {std::cin, std::cout, std::cerr, color, terminal});
    } catch (const std::exception& error) {
        std::cerr << "ivds-ctl: " << error.what() << " [IVDS-U000]\n";
        return ivds::cli::exit_refused;
    }
}
