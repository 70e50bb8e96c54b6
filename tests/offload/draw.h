// SPDX-License-Identifier: Apache-2.0
// draw.h -- what random worlds of the offload's tests are drawn with.
#pragma once

#include <rapidcheck.h>

#include <cstddef>
#include <type_traits>

#include "offload/nic/model_82599.h"
#include "tables.h"

namespace ivds::test {

// Whatever the size of a case is.
template <class T>
T below(T end) {
    return *rc::gen::resize(rc::kNominalSize, rc::gen::inRange<T>(0, end));
}
// What is usual is simplest.
inline bool one_in(unsigned n) {
    return below(n) == n - 1;
}

inline offload::Uncertain any_doubts() {
    offload::Uncertain doubts;
    static_assert(std::is_trivially_copyable_v<offload::Uncertain>);
    for (std::size_t i = 0; i < sizeof(doubts); ++i)
        reinterpret_cast<bool*>(&doubts)[i] = *rc::gen::arbitrary<bool>();
    return doubts;
}

}  // namespace ivds::test
