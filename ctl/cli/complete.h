// SPDX-License-Identifier: Apache-2.0
// complete.h -- what may come next on a half-typed command line, read off the command tree itself. The shell's
// part, scripts/completion/ivds-ctl, only hands over the words and shows the answer.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <set>
#include <string>
#include <vector>

#include "client.h"

namespace ivds::cli {

struct Completion {
    const CLI::App* app = nullptr;                   // the command that the words led to
    std::size_t positionals = 0;                     // how many of its own words are there
    const CLI::Option* open = nullptr;               // the option whose value is being typed
    std::map<std::string, std::string> root_values;  // options of the root and what they were given
};

// Follows whole words down the tree.
[[nodiscard]] Completion follow(const CLI::App& root, const std::vector<std::string>& words);

// What may come after that and begins with `begun`. `names` gives the names of a kind's objects.
[[nodiscard]] std::set<std::string> candidates(const Completion& at, const std::string& begun,
                                               const std::function<std::vector<std::string>(pb::Kind)>& names);

}  // namespace ivds::cli
