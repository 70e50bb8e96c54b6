// SPDX-License-Identifier: Apache-2.0
// uplink.h -- VFs that are uplinks of the host's, on a wire with two tags: the NIC sorts what comes from the wire by
// its V.VLAN, and gives it to the uplink whose instances have that.
//
// The NIC looks at the inner tag alone. A V.VLAN that several outer VLANs have is therefore given to the uplinks of
// all of them, the PF among these, and software, which has both tags of every copy, takes it where the pair is
// registered and nowhere else. So the NIC decides by which interface a frame comes, and never to whom it belongs:
// whatever it sorts wrongly is dropped. As an uplink gets all of its V.VLANs, unknown addresses included, no address
// is written into the NIC, and none has to be known before.
#pragma once

#include <cstdint>
#include <map>

#include "plan/plan.h"

namespace ivds::offload {

[[nodiscard]] WireTags wire_tags(const Snapshot& tables, std::uint32_t uplink);

struct Sorting {
    std::map<std::uint32_t, Reason> uplinks;  // Device::uplinks; Reason::sorted: the NIC sorts for it
    std::map<std::uint16_t, PoolSet> vvlans;  // of those, with the pools of all uplinks that have the V.VLAN
};
[[nodiscard]] Sorting sort_to_uplinks(const Snapshot& tables, const Device& device, const Choices& choices,
                                      const NicState& present);

}  // namespace ivds::offload
