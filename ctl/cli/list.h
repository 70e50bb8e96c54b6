// SPDX-License-Identifier: Apache-2.0
// list.h -- lists that may hold a million entries: one object a line as JSON, or a table.
#pragma once

#include <functional>
#include <ostream>
#include <string>
#include <utility>
#include <vector>

#include "command.h"
#include "table.h"

namespace ivds::cli {

// Prints what `ask` hands to the function that it is given, each as the cells that `cells_of` makes of it. The rows
// are sorted by their first `keys` cells; those of a long list are printed in parts, and are not.
template <class Entry, class Ask, class CellsOf>
Result<int> print_list(const Context& context, std::vector<std::string> titles, std::size_t keys, Ask&& ask,
                       CellsOf&& cells_of) {
    constexpr std::size_t part_rows = 4096;
    Table table(std::move(titles));
    bool whole = true;
    const std::function<bool(const Entry&)> print = [&](const Entry& entry) {
        if (context.options.json) {
            context.json(entry);
            return context.io.out.good();
        }
        table.row(cells_of(entry));
        if (table.rows() == part_rows) {
            whole = false;
            table.print(context.io.out, context.io.color);
        }
        return context.io.out.good();
    };
    const Result<> done = ask(print);
    if (!done) return std::unexpected(done.error());
    if (!context.options.json) {
        if (whole) table.sort(keys);
        table.print(context.io.out, context.io.color);
    }
    return exit_ok;
}

}  // namespace ivds::cli
