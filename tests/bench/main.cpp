// SPDX-License-Identifier: Apache-2.0
// main.cpp -- ivds-bench: picks the rows, runs them and prints what they gave.
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <fstream>

#include "forward.h"

namespace {

// A name picks its row, and every row whose name goes on after it with a dash.
bool picks(const std::string& name, const std::string& row) {
    return row == name || row.starts_with(name + "-");
}

}  // namespace

int main(int argc, char** argv) {
    using namespace ivds::bench;
    CLI::App app{"Measures the switch against what the same machine does without it", "ivds-bench"};
    Options options;
    std::string json_file;
    std::vector<std::string> names;
    app.add_option("--json", json_file, "write the rows to this file as JSON");
    app.add_option("--seconds", options.seconds, "length of each repetition")->check(CLI::Range(0.01, 60.0));
    app.add_flag("--smoke", options.smoke, "each row for a moment, to see that it works; its numbers say nothing");
    app.add_option("names", names, "rows to run, or the beginnings of their names; all if none is given");
    CLI11_PARSE(app, argc, argv);

    if (geteuid() != 0) {
        fmt::print("SKIP: needs root, for network namespaces and BPF\n");
        return 77;
    }
    if (options.smoke) {
        options.seconds = 0.05;
        options.repetitions = 1;
    }
    options.wanted = [&names](const std::string& row) {
        return names.empty() || std::ranges::any_of(names, [&row](const std::string& name) {
                   return picks(name, row) || picks(row, name);
               });
    };
    options.progress = [](const std::string& row) { fmt::print(stderr, "measuring {}\n", row); };

    try {
        std::vector<Row> rows;
        const std::string where = environment();
        for (const auto& group :
             {forward_rows, cost_rows, latency_rows, tcp_rows, agent_rows, registry_rows, plan_rows, verify_rows}) {
            std::vector<Row> more = group(options);
            rows.insert(rows.end(), more.begin(), more.end());
        }
        if (rows.empty()) throw Failure("no row is called that");
        fmt::print("{}\n{}", where, table(rows));
        if (!json_file.empty()) {
            std::ofstream file(json_file);
            file << json(rows);
            file.close();
            if (!file) throw Failure(fmt::format("write {}: {}", json_file, std::strerror(errno)));
        }
    } catch (const Failure& failure) {
        fmt::print(stderr, "ivds-bench: {}\n", failure.what());
        return 1;
    }
    return 0;
}
