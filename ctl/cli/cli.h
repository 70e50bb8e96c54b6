// SPDX-License-Identifier: Apache-2.0
// cli.h -- ivds-ctl as a function of its arguments and streams, so that tests run it in process.
#pragma once

#include <iosfwd>
#include <string>
#include <vector>

namespace ivds::cli {

// What a process may tell its caller. The numbers are part of the interface; ivds-ctl(8) lists them.
enum Exit : int {
    exit_ok = 0,
    exit_findings = 1,  // doctor found an error
    exit_usage = 2,     // wrong words: a command, a flag, a file, a value
    exit_not_found = 3,
    exit_conflict = 4,     // exists, contradicts what is configured, or busy
    exit_exhausted = 5,    // a pool, table or limit is full
    exit_unsupported = 6,  // this kernel, driver or interface cannot; foreign program; other map layout
    exit_unavailable = 7,  // the agent, or with it away the pinned maps, cannot be reached
    exit_refused = 8,      // the operating system refused
};

struct Io {
    std::istream& in;
    std::ostream& out;
    std::ostream& err;
    bool color = false;     // out is a terminal that may be coloured
    bool terminal = false;  // out is the process's standard output, and a terminal
};

// Runs one command line (without the program's name) and returns its exit code.
[[nodiscard]] int run(const std::vector<std::string>& arguments, Io io);

}  // namespace ivds::cli
