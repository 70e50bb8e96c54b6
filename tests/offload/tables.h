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

}  // namespace ivds::test
