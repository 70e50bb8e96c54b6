// SPDX-License-Identifier: Apache-2.0
// doubts.h -- what the texts on a chip leave open, as a walk comes upon it: it asks only where the answer makes a
// difference, and is repeated until every combination of answers to what it asked has been tried.
//
//   Doubts doubts;
//   do walk(doubts); while (doubts.next());
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "nic/model_82599.h"

namespace ivds::offload::verify {

class Doubts {
public:
    using Flag = bool Uncertain::*;

    // All combinations, beginning with what the texts most likely mean: everything off.
    Doubts() = default;
    // One answer each.
    explicit Doubts(const Uncertain& fixed) : fixed_(&fixed) {}

    [[nodiscard]] bool ask(Flag flag);
    // Goes on to another combination; false where all were tried.
    [[nodiscard]] bool next();
    // Those that were answered with yes.
    [[nodiscard]] std::vector<std::string> assumed() const;

private:
    const Uncertain* fixed_ = nullptr;
    std::vector<std::pair<Flag, bool>> answers_;
};

[[nodiscard]] std::string_view name(Doubts::Flag flag);

}  // namespace ivds::offload::verify
