// SPDX-License-Identifier: Apache-2.0
// report.h -- the rows that a run gives, as JSON for machines and as a table for people.
#pragma once

#include <map>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace ivds::bench {

// Something that the benchmark needs failed. Falling short of a bar is none.
struct Failure : std::runtime_error {
    using std::runtime_error::runtime_error;
};

// The ratio of a row to one of its baselines: the median over the repetitions, and their extremes.
struct Ratio {
    double median = 0;
    double low = 0;
    double high = 0;
};

// What a row is held to: its ratio to `against`, or its value where `against` is empty.
struct Bar {
    std::string against;
    double limit = 0;
    bool at_most = false;
};

struct Row {
    std::string name;
    double value = 0;
    std::string unit;
    std::map<std::string, Ratio> ratios;  // by baseline: "bare-xdp", "bare-tc", "bridge"
    std::vector<Bar> bars;
    std::string note;  // for the table only
};

[[nodiscard]] double median(std::vector<double> values);
// Medians of what was measured side by side: repetition i of the row and of the baseline are neighbours in time.
[[nodiscard]] Ratio ratio(const std::vector<double>& row, const std::vector<double>& baseline);

// What the numbers were measured on, a line for each fact.
[[nodiscard]] std::string environment();
[[nodiscard]] std::string table(const std::vector<Row>& rows);
[[nodiscard]] std::string json(const std::vector<Row>& rows);

}  // namespace ivds::bench
