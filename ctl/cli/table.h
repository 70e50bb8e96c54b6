// SPDX-License-Identifier: Apache-2.0
// table.h -- aligned columns for people: text to the left, numbers to the right, "-" for what is empty.
#pragma once

#include <cstddef>
#include <cstdint>
#include <iosfwd>
#include <string>
#include <string_view>
#include <vector>

namespace ivds::cli {

enum class Color : std::uint8_t { none, good, bad, dim };

// The text between the escape codes of its colour.
[[nodiscard]] std::string paint(std::string_view text, Color color);

struct Cell {
    std::string text;
    Color color = Color::none;

    // Numbers; the second shows 0 as "-", for fields whose 0 says "none".
    static Cell number(std::uint64_t value) { return {.text = std::to_string(value)}; }
    static Cell number_or_none(std::uint64_t value) { return value == 0 ? Cell{} : number(value); }
};

class Table {
public:
    // A title that begins with '>' makes a column of numbers.
    explicit Table(std::vector<std::string> titles);

    void row(std::vector<Cell> cells);
    // Orders the rows by the text of their first `keys` cells.
    void sort(std::size_t keys);
    [[nodiscard]] std::size_t rows() const { return rows_.size(); }

    // Prints the rows and forgets them; the titles only the first time. Widths never shrink from one call
    // to the next, so that a table may be printed in parts.
    void print(std::ostream& out, bool color);

private:
    std::vector<std::string> titles_;
    std::vector<bool> right_;
    std::vector<std::size_t> widths_;
    std::vector<std::vector<Cell>> rows_;
    bool titled_ = false;
};

}  // namespace ivds::cli
