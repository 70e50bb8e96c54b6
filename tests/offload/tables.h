// SPDX-License-Identifier: Apache-2.0
// tables.h -- worlds as the planner and the verifier read them.
#pragma once

#include "offload/plan/snapshot.h"
#include "world.h"

namespace ivds::test {

[[nodiscard]] offload::Snapshot snapshot_of(const World& world);

// The addresses that these worlds have.
inline Mac vmac(unsigned n) {
    return mac(0x02005e000000 + n);
}

// Adds what mirrors copy of what was sent: of each of the sessions one, of the first frame that goes to a port that
// it watches. Sorted.
void add_copies(std::vector<Sent>& sent, const World& world, const std::set<std::uint32_t>& sessions);
// Limit::one_copy: of the same frame, a mirror's target is left one.
void leave_out_seconds(std::vector<Sent>& sent, const World& world);

}  // namespace ivds::test
