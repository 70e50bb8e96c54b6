// SPDX-License-Identifier: Apache-2.0
// tally.h -- what NICs counted of a vPort in all: a sum that never goes back, though the counters that it is made of
// go round, start anew when the NIC is reset, and are others where the vPort moves. Pure.
#pragma once

#include <cstdint>

#include "ivds/abi.h"
#include "nic/counters.h"

namespace ivds::offload {

// Where a vPort's counters are. No pool (IVDS_NO_POOL): the vPort is in no NIC.
struct CountedAt {
    std::uint32_t uplink = 0;  // port id
    std::uint32_t pool = IVDS_NO_POOL;
};

// Of a vPort that no NIC carried yet.
[[nodiscard]] inline ivds_nic_stats uncounted() {
    ivds_nic_stats none{};
    none.pool = IVDS_NO_POOL;
    return none;
}

// The sum after a look at the counters of the vPort's pool. Where the look before was at another pool, this one is
// the first, and what the counters hold came for somebody else. A counter that went back tells of a reset, after
// which all four of the pool began at 0: of the four, those of frames take longest to go round, and so tell it
// reliably.
[[nodiscard]] ivds_nic_stats add_up(const ivds_nic_stats& before, const CountedAt& at, const PoolCounters& now);

}  // namespace ivds::offload
