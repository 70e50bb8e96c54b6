// SPDX-License-Identifier: Apache-2.0
// heat.h -- how busy each port is, by what software's maps and the NIC count of it, for the choice of what has a
// place in the NIC (Snapshot::heat). What a NIC carries never reaches the maps, and what software carries no counter
// of a VF. A VF that is off is counted by neither: what moves in its instance speaks for it (choose.cpp).
//
// It is what came since the last look and half of the heat before: a burst is forgotten after some looks, and a pause
// does not make a busy port cold at once.
#pragma once

#include <cstdint>
#include <map>

#include "nic/counters.h"

namespace ivds::offload {

class Heat {
public:
    // Frames both ways that ports have had, by the maps, and VFs, by their NICs; both by port id, and both at regular
    // intervals. A port that is in neither is forgotten. What is seen for the first time has no frames yet.
    void look(const std::map<std::uint32_t, std::uint64_t>& software,
              const std::map<std::uint32_t, PoolCounters>& nic);
    [[nodiscard]] const std::map<std::uint32_t, std::uint64_t>& by_port() const { return heat_; }

private:
    std::map<std::uint32_t, std::uint64_t> software_;
    std::map<std::uint32_t, PoolCounters> nic_;
    std::map<std::uint32_t, std::uint64_t> heat_;
};

}  // namespace ivds::offload
