// SPDX-License-Identifier: Apache-2.0
// state.h -- what a NIC's switch holds for us, in terms of no chip: which VFs are on and in which V.VLAN, which
// address is whose, which V.VLANs have which members.
//
// What is not here is the same at all times, and the driver's or the writer's to set up: broadcast, all multicast and
// unknown unicast pass the port's own filter; frames that no VF is meant for go to the PF (its default pool), as do
// copies of floods where the PF is a member; which tags the wire has (WireTags). With one tag, frames from VF to VF
// stay in the NIC, and what a VF sends to an address that the NIC does not know goes to the wire. With two, all that
// a VF sends goes to the wire: a NIC that switches between pools must not be given a frame without the outer tag,
// such as the host's own are (X550 7.4.5).
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <utility>

#include "loader/tables.h"

namespace ivds::offload {

using PoolSet = std::uint64_t;  // bit n: pool n
[[nodiscard]] constexpr PoolSet pool_bit(unsigned pool) {
    return PoolSet{1} << pool;
}

// The tags of the switch's frames on the wire: the V.VLAN's alone, or an outer VLAN's before it. With two, the NIC's
// filters look at the V.VLAN's, and the outer one is software's. The V.VLAN's TPID is 0x8100.
struct WireTags {
    bool two = false;
    std::uint16_t outer_tpid = 0x8100;  // with two
    bool operator==(const WireTags&) const = default;
};

// A vPort's VF that is on. The NIC tags what it sends with the V.VLAN, lets it send from its own addresses alone, and
// gives it broadcast and multicast of its V.VLAN.
struct NicPool {
    std::uint32_t vport = 0;
    std::uint32_t instance = 0;
    std::uint16_t vvlan = 0;
    std::uint8_t pcp = 0;    // of the tag
    unsigned rate_mbps = 0;  // of what it sends; 0: no limit
    [[nodiscard]] bool same_place(const NicPool& other) const {
        return vport == other.vport && instance == other.instance && vvlan == other.vvlan && pcp == other.pcp;
    }
    bool operator==(const NicPool&) const = default;
};
// Slots are places in the chip's tables. What stays keeps its slot.
struct NicMac {
    unsigned slot = 0;
    unsigned pool = 0;
    bool operator==(const NicMac&) const = default;
};
struct NicVlan {
    unsigned slot = 0;
    PoolSet members = 0;
    bool operator==(const NicVlan&) const = default;
};

// What reaches one of the sources reaches the pool that this is of as well, once.
struct NicMirror {
    unsigned slot = 0;
    PoolSet sources = 0;
    bool operator==(const NicMirror&) const = default;
};

// Frames of IPv4 that are for a VF; 0: any.
struct RxMatch {
    std::uint32_t src = 0;
    std::uint32_t dst = 0;
    std::uint8_t protocol = 0;  // 6, 17 or 132
    std::uint16_t src_port = 0;
    std::uint16_t dst_port = 0;
    auto operator<=>(const RxMatch&) const = default;
};
// Such frames come by that one of the VF's receive queues; whether they come is not theirs to say.
struct NicFilter {
    unsigned slot = 0;
    unsigned queue = 0;
    bool operator==(const NicFilter&) const = default;
};
using RxKey = std::pair<unsigned, RxMatch>;  // of a pool

struct NicState {
    std::map<unsigned, NicPool> pools;
    // VFs that are on as uplinks of the host's, with two tags: the NIC gives such a one all frames of the V.VLANs
    // that it is a member of, whatever their address, with both tags, and sends what it sends as it is.
    std::set<unsigned> uplinks;
    std::map<Mac, NicMac> macs;  // unicast
    std::map<std::uint16_t, NicVlan> vlans;
    std::set<std::uint16_t> admitted;       // VLANs that are taken in from the wire, those of software ports too
    std::map<unsigned, NicMirror> mirrors;  // by the pool that gets the copies
    std::map<RxKey, NicFilter> filters;
    bool unknown_to_pf = false;  // what VFs send to unknown addresses goes to the PF as well, where it is a member
    bool operator==(const NicState&) const = default;
};

}  // namespace ivds::offload
