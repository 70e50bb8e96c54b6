// SPDX-License-Identifier: Apache-2.0
#include "table.h"

#include <algorithm>
#include <ostream>

namespace ivds::cli {
namespace {

// Columns that UTF-8 text takes on a terminal, for the scripts that need one column a character.
std::size_t width_of(std::string_view text) {
    return static_cast<std::size_t>(
        std::ranges::count_if(text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }));
}

}  // namespace

std::string paint(std::string_view text, Color color) {
    const char* code = nullptr;
    switch (color) {
        case Color::none:
            return std::string(text);
        case Color::good:
            code = "\033[32m";
            break;
        case Color::bad:
            code = "\033[31m";
            break;
        case Color::dim:
            code = "\033[2m";
            break;
    }
    return code + std::string(text) + "\033[0m";
}

Table::Table(std::vector<std::string> titles) : titles_(std::move(titles)) {
    for (std::string& title : titles_) {
        right_.push_back(title.starts_with('>'));
        if (right_.back()) title.erase(0, 1);
        widths_.push_back(width_of(title));
    }
}

void Table::row(std::vector<Cell> cells) {
    cells.resize(titles_.size());
    for (std::size_t i = 0; i < cells.size(); ++i) {
        if (cells[i].text.empty()) cells[i].text = "-";
        widths_[i] = std::max(widths_[i], width_of(cells[i].text));
    }
    rows_.push_back(std::move(cells));
}

void Table::sort(std::size_t keys) {
    std::ranges::sort(rows_, [keys](const std::vector<Cell>& a, const std::vector<Cell>& b) {
        for (std::size_t i = 0; i < keys; ++i) {
            if (a[i].text != b[i].text) return a[i].text < b[i].text;
        }
        return false;
    });
}

void Table::print(std::ostream& out, bool color) {
    auto line = [&](auto&& text_at, auto&& color_at) {
        std::string text;
        for (std::size_t i = 0; i < titles_.size(); ++i) {
            const std::string& cell = text_at(i);
            const std::string gap(widths_[i] - width_of(cell), ' ');
            if (i > 0) text += "  ";
            if (right_[i]) text += gap;
            text += paint(cell, color ? color_at(i) : Color::none);
            if (!right_[i] && i + 1 < titles_.size()) text += gap;
        }
        out << text << '\n';
    };
    if (!titled_) {
        line([&](std::size_t i) -> const std::string& { return titles_[i]; }, [](std::size_t) { return Color::dim; });
        titled_ = true;
    }
    for (const std::vector<Cell>& cells : rows_) {
        line([&](std::size_t i) -> const std::string& { return cells[i].text; },
             [&](std::size_t i) { return cells[i].color; });
    }
    rows_.clear();
}

}  // namespace ivds::cli
