// SPDX-License-Identifier: Apache-2.0
// choose.h -- which of the vPorts that a NIC could carry it does carry: no address that would mean two things, and as
// many instances as have room, the hottest first.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "plan/fdb.h"
#include "plan/plan.h"

namespace ivds::offload {

struct Chosen {
    std::map<std::uint32_t, Reason> vports;  // Reason::fits: in the NIC
    std::set<std::uint32_t> instances;       // that have a vPort in the NIC
};

// `vports` has what fit() says of each.
[[nodiscard]] Chosen choose(std::map<std::uint32_t, Reason> vports, const Snapshot& tables, const Device& device,
                            const Choices& choices, const Addresses& addresses, const NicState& present);

// Heat with hysteresis: what is in the NIC stays there until something else is hotter by a quarter.
struct Rank {
    bool must = false;
    std::uint64_t heat = 0;
    bool incumbent = false;
    std::uint32_t id = 0;
};
// Ids, the first to be carried first.
[[nodiscard]] std::vector<std::uint32_t> in_order(std::vector<Rank> ranks);

// Entries of the chip that are ours to give.
[[nodiscard]] Use mac_room(const Device& device, const Choices& choices);
[[nodiscard]] Use vlan_room(const Device& device, const Choices& choices);

}  // namespace ivds::offload
