// SPDX-License-Identifier: Apache-2.0
// forward.h -- the rows that count frames: from one VM's veth to another's, or between a VM's and the cable.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "report.h"

namespace ivds::bench {

struct Options {
    double seconds = 1;   // of each repetition
    bool smoke = false;   // only to see that it works
    int repetitions = 5;  // of each contender, in turn with the others
    std::function<bool(const std::string&)> wanted;
    std::function<void(const std::string&)> progress;
};

// Puts the process, and what it starts, ahead of ordinary processes, so that a machine's other work is not measured.
class Ahead {
public:
    Ahead();
    Ahead(const Ahead&) = delete;
    Ahead& operator=(const Ahead&) = delete;
    ~Ahead();
};

// Holds it on one core as well: softirqs then run in it, and its CPU time is what the frames cost.
class Pinned {
public:
    Pinned();
    Pinned(const Pinned&) = delete;
    Pinned& operator=(const Pinned&) = delete;
    ~Pinned();

private:
    Ahead ahead_;
};

[[nodiscard]] double cpu_seconds();  // of this thread

[[nodiscard]] std::vector<Row> forward_rows(const Options& options);
[[nodiscard]] std::vector<Row> cost_rows(const Options& options);
[[nodiscard]] std::vector<Row> latency_rows(const Options& options);
[[nodiscard]] std::vector<Row> tcp_rows(const Options& options);
[[nodiscard]] std::vector<Row> agent_rows(const Options& options);
[[nodiscard]] std::vector<Row> registry_rows(const Options& options);
[[nodiscard]] std::vector<Row> plan_rows(const Options& options);    // of the offload
[[nodiscard]] std::vector<Row> verify_rows(const Options& options);  // of the offload

}  // namespace ivds::bench
