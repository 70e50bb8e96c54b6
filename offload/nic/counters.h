// SPDX-License-Identifier: Apache-2.0
// counters.h -- what a NIC counts of a VF, as its registers hold it. Whoever wants totals adds up what comes between
// two looks.
#pragma once

#include <cstdint>
#include <map>

namespace ivds::offload {

// Goes round after `bits` bits. To look at it changes nothing, so that any number of readers may. A reset of the NIC,
// or of the VF by its VM, may set it back to 0.
struct Counter {
    std::uint64_t value = 0;
    unsigned bits = 32;

    // What came since `before`, which is an earlier look at the same counter: at least, where it was set back. To be
    // asked before half of its range can have come: at 10 Gb/s within two minutes for frames (32 bits, 14.9 M/s), and
    // within 27 s for bytes (36 bits); at 1 Gb/s with the 82576's 32 bits, within 17 s for bytes.
    [[nodiscard]] constexpr std::uint64_t since(const Counter& before) const {
        const std::uint64_t range = std::uint64_t{1} << bits;
        const std::uint64_t more = (value - before.value) & (range - 1);
        return more < range / 2 ? more : value;
    }
    bool operator==(const Counter&) const = default;
};

// Of one VF, as its VM sees the direction. Frames that the NIC passes from VF to VF are the one's `tx` and the
// other's `rx`. Bytes are those of whole frames, and of what their VM does not see `*_beside_bytes` each: the CRC,
// and the switch's tag where it is counted before it is taken off, or after it is put on.
struct PoolCounters {
    Counter rx_packets;
    Counter rx_bytes;
    Counter tx_packets;
    Counter tx_bytes;
    unsigned rx_beside_bytes = 8;
    unsigned tx_beside_bytes = 8;
    bool operator==(const PoolCounters&) const = default;
};
using CountersOfPools = std::map<unsigned, PoolCounters>;

}  // namespace ivds::offload
