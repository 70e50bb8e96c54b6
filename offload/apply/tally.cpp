// SPDX-License-Identifier: Apache-2.0
#include "apply/tally.h"

#include <algorithm>
#include <array>

namespace ivds::offload {

ivds_nic_stats add_up(const ivds_nic_stats& before, const CountedAt& at, const PoolCounters& now) {
    // What the VM gets the switch sends.
    const std::array counters{now.tx_packets, now.tx_bytes, now.rx_packets, now.rx_bytes};
    ivds_nic_stats sum = before;
    sum.uplink = at.uplink;
    sum.pool = at.pool;
    for (std::size_t i = 0; i < counters.size(); ++i) sum.read[i] = counters[i].value;
    if (before.uplink != at.uplink || before.pool != at.pool) return sum;

    std::array<std::uint64_t, 4> more{};
    bool is_reset = false;
    for (std::size_t i = 0; i < counters.size(); ++i) {
        const std::uint64_t range = std::uint64_t{1} << counters[i].bits;
        more[i] = (counters[i].value - before.read[i]) & (range - 1);
        is_reset |= more[i] >= range / 2;
    }
    if (is_reset)
        for (std::size_t i = 0; i < counters.size(); ++i) more[i] = counters[i].value;
    // Frames and bytes are not read at one moment: of the last frames the bytes may come with the next look.
    const auto frame_bytes = [&](std::size_t packets, unsigned beside) {
        return more[packets + 1] - std::min(more[packets + 1], more[packets] * beside);
    };
    sum.rx_packets += more[0];
    sum.rx_bytes += frame_bytes(0, now.tx_beside_bytes);
    sum.tx_packets += more[2];
    sum.tx_bytes += frame_bytes(2, now.rx_beside_bytes);
    return sum;
}

}  // namespace ivds::offload
