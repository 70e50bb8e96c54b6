// SPDX-License-Identifier: Apache-2.0
#include "plan/heat.h"

#include <utility>

namespace ivds::offload {

void Heat::look(const std::map<std::uint32_t, std::uint64_t>& software,
                const std::map<std::uint32_t, PoolCounters>& nic) {
    std::map<std::uint32_t, std::uint64_t> heat;
    for (const auto& [port, frames] : software) {
        const auto before = software_.find(port);
        // A counter that fell is another port's, which has the id now.
        heat[port] += before == software_.end() ? 0 : frames >= before->second ? frames - before->second : frames;
    }
    for (const auto& [port, now] : nic) {
        const auto before = nic_.find(port);
        heat[port] += before == nic_.end() ? 0
                                           : now.rx_packets.since(before->second.rx_packets) +
                                                 now.tx_packets.since(before->second.tx_packets);
    }
    for (auto& [port, frames] : heat)
        if (const auto before = heat_.find(port); before != heat_.end()) frames += before->second / 2;
    heat_ = std::move(heat);
    software_ = software;
    nic_ = nic;
}

}  // namespace ivds::offload
