// SPDX-License-Identifier: Apache-2.0
// top.h -- the pure part of `ivds-ctl top`: rates from two readings, lines from rates, and what keys do.
#pragma once

#include <array>
#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "client.h"
#include "table.h"

namespace ivds::cli {

// What rows may be sorted by; each is a column and a value of --sort. The first two are words, the others numbers.
inline constexpr std::array<std::string_view, 8> top_columns = {"vport",  "instance", "rx_pps",   "rx_bps",
                                                                "tx_pps", "tx_bps",   "drop_pps", "flows"};

struct TopFilter {
    std::string instance;  // empty: all
    std::string vport;     // a pattern with *, ? or [], or a part of the name; empty: all
};

// Rates of the vPorts between two readings that are `seconds` apart. A vPort that was not in the first has none yet.
[[nodiscard]] pb::Top top_rates(const pb::StatsReply& before, const pb::StatsReply& after, double seconds,
                                const TopFilter& filter);

struct TopView {
    std::size_t column = 3;  // of top_columns
    bool reverse = false;    // else words go up from A, and numbers down from the largest
    std::size_t first = 0;   // rows that are scrolled past
    bool ended = false;
};

void top_sort(pb::Top& top, const TopView& view);

// What these bytes of a keyboard do to the view of so many rows: < and > or the arrows left and right choose the
// column, r reverses, arrows up and down and the page keys scroll, q ends.
void top_press(TopView& view, std::string_view bytes, std::size_t rows);

struct TopLine {
    std::string text;
    Color color = Color::none;
};

// The picture of sorted rates: no line is longer than `width` columns, and there are at most `height` lines. 0: no
// limit, and no line about keys.
[[nodiscard]] std::vector<TopLine> top_lines(const pb::Top& top, const TopView& view, std::size_t width,
                                             std::size_t height);

// "950", "1.20k", "35.1M": at most three digits that count.
[[nodiscard]] std::string short_number(double value);

}  // namespace ivds::cli
