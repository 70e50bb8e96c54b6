// SPDX-License-Identifier: Apache-2.0
// plan.h -- what a NIC shall carry of the switch, and where every object then runs and why. Pure: the same tables,
// choices and present state give the same plan, and a plan made from its own result changes nothing.
//
// The unit is the instance. Frames between its vPorts cross between the NIC and software exactly once, which takes an
// entry of the NIC for every address that the instance has on this host: a VF would send a frame for an address that
// the NIC does not know to the wire. So an instance is in the NIC with all its addresses, or not at all; within it a
// vPort is carried by its VF if the NIC can do all that the vPort asks for, and by software otherwise.
//
// With two tags a VM would have to add the outer one, so vPorts are software's; the NIC then sorts what comes from
// the wire to the VFs that the host has as uplinks (uplink.h).
//
// A VF whose vPort is software's is off, as no way leads its frames through software and back. While the NIC switches
// between pools, a frame for an address that it knows goes to the pool of that address or nowhere, and every other
// one to the wire. While it does not (VEPA: PFDTXGSWC.LBE is 0), all goes to the wire, the PF's too, and comes back
// only from a fabric's port that sends frames back where they came from (802.1Qbg), which is not software. A VLAN for
// each VF, with the PF as its other member, would bring its frames to the PF; but a neighbour's address then has to
// mean two pools, the PF's and its own, which the maker forbids for unicast, or none, with which each frame goes to
// the wire as well.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <string_view>
#include <utility>
#include <vector>

#include "loader/error.h"
#include "nic/chip.h"
#include "plan/snapshot.h"
#include "plan/state.h"
#include "plan/steps.h"

namespace ivds::offload {

// The uplink's NIC, and the vPorts that are VFs of it. All other ports are software's.
struct Device {
    const Chip* chip = nullptr;
    std::uint32_t uplink = 0;                 // port id
    unsigned pf = 0;                          // the PF's pool
    std::map<std::uint32_t, unsigned> pools;  // vPort id -> VF, which is its pool
    // Other uplinks, on the same wire, whose interface is a VF of the PF's: port id -> VF, which is its pool where
    // the PF has so many.
    std::map<std::uint32_t, unsigned> uplinks{};
};

// What one tenant may have of the NIC.
struct Quota {
    unsigned pools = std::numeric_limits<unsigned>::max();
    unsigned macs = std::numeric_limits<unsigned>::max();
    unsigned vlans = std::numeric_limits<unsigned>::max();
    unsigned rates = std::numeric_limits<unsigned>::max();
    unsigned mirrors = std::numeric_limits<unsigned>::max();  // that copy to its vPorts
    unsigned filters = std::numeric_limits<unsigned>::max();  // that choose a receive queue of its vPorts
    bool operator==(const Quota&) const = default;
};

// Software has no queues of a VM, so it is no part of its tables: it is wished for, and a NIC that cannot do it gives
// the frames to the queue that it gives others to.
struct RxFilter {
    RxMatch match;
    unsigned queue = 0;  // of the VF
    bool operator==(const RxFilter&) const = default;
};

struct Choices {
    // Entries that are kept free, besides those that the chip's drivers never give away.
    unsigned reserved_macs = 0;
    unsigned reserved_vlans = 0;
    std::set<std::uint32_t> must{};                    // vPorts that the NIC carries, or there is no plan
    std::set<std::uint32_t> must_not{};                // vPorts that stay in software
    std::map<std::uint32_t, std::uint32_t> tenants{};  // of instances; one without is under no quota
    std::map<std::uint32_t, Quota> quotas{};           // by tenant
    // Of vPorts; no frame matches two of one vPort's.
    std::map<std::uint32_t, std::vector<RxFilter>> rx_filters{};
    bool operator==(const Choices&) const = default;
};

// X(name, text): why an object is where it is.
#define IVDS_OFFLOAD_REASONS(X)                                                                       \
    X(fits, "the NIC carries it")                                                                     \
    X(to_wire, "the NIC sends what it does not know to the wire")                                     \
    X(sink, "the NIC hands frames for it to software")                                                \
    X(uplink_mtu, "the uplink's MTU lacks 4 bytes for the tag: full frames of software's are lost")   \
    X(some_in_software, "some of its vPorts are software's")                                          \
    X(none_in_nic, "none of its vPorts is in the NIC")                                                \
    X(sorted, "the NIC sorts its V.VLANs to its VF, and software forwards them")                      \
    X(not_a_vf, "it is no VF of this NIC")                                                            \
    X(by_operator, "the operator keeps it in software")                                               \
    X(outer_tag, "with double tags its VM would have to add the outer VLAN itself")                   \
    X(tpid, "the NIC knows V.VLAN tags of TPID 0x8100 alone")                                         \
    X(no_two_tags, "the NIC does not sort frames with two tags")                                      \
    X(other_tags, "its tags are not the PF's, or not two, and the NIC sorts by the inner of two")     \
    X(outer_tpid, "a VF's driver has the NIC insert tags of 0x8100, and that inserts the inner one")  \
    X(plain_hosts, "hosts without a V.VLAN are on it, and the NIC sorts by the V.VLAN")               \
    X(network_twice, "another uplink of the NIC has one of its pairs of VLAN and V.VLAN too")         \
    X(no_instance, "it is in no instance")                                                            \
    X(inactive, "its instance does not forward")                                                      \
    X(down, "it is down")                                                                             \
    X(other_uplink, "its instance is not on this uplink")                                             \
    X(local_scope, "its instance keeps off the wire, and the NIC sends floods there")                 \
    X(not_registered, "its V.VLAN is not registered on the uplink")                                   \
    X(trunk, "its VM's tags are vPorts, and the NIC does not look behind its own tag")                \
    X(guest_tags, "its VM may send tags, and the NIC drops frames that it would have to tag twice")   \
    X(inspected, "its frames go to an inspector, and the NIC sends none there")                       \
    X(dscp, "the NIC does not change the DSCP")                                                       \
    X(learning, "it may have addresses that the NIC does not know")                                   \
    X(address, "its vMAC is not among its addresses")                                                 \
    X(addresses, "it has several addresses, and the NIC's driver gives a VF one")                     \
    X(too_long, "its MTU is larger than what the NIC switches")                                       \
    X(rules_from_vm, "it has rules on what its VM sends, which none of the NIC's filters look at")    \
    X(rules_stateful, "its rules keep connections, and the NIC keeps none")                           \
    X(rules_on_ip, "the NIC's filters on IP and ports see neither frames between VMs nor fragments")  \
    X(rules_on_type, "the NIC's filter on an EtherType is one for all VFs, and a VM can turn it off") \
    X(rules_on_macs, "the NIC drops nothing for the MACs that it comes from or by default")           \
    X(redirect_target, "a rule redirects frames to it")                                               \
    X(mirrored, "a mirror watches it that the NIC does not make")                                     \
    X(mirror_target, "copies of a mirror go to it that the NIC does not make")                        \
    X(mirror_none, "the NIC has no mirrors")                                                          \
    X(mirror_kind, "the NIC's copies go to a VF, and not to a VLAN, an address or a ring")            \
    X(mirror_uplink, "it watches an uplink, and sees there what software passes on alone")            \
    X(mirror_by_rule, "a rule names it, and the NIC knows no rules")                                  \
    X(mirror_drops, "the NIC makes no copies of what is dropped")                                     \
    X(mirror_senders, "the NIC copies what is sent to a VM, and not what a VM sends")                 \
    X(mirror_part, "it filters, cuts or samples, and the NIC copies all frames as they are")          \
    X(mirror_chain, "another mirror watches its target, and the NIC may copy its copies")             \
    X(mirror_twice, "another mirror has its target, and the NIC gives one pool one copy")             \
    X(mirror_target_away, "its target is none of the NIC's vPorts")                                   \
    X(mirror_source_away, "not all that it watches is in the NIC")                                    \
    X(mirrors_full, "the NIC's mirrors are all in use")                                               \
    X(peer_rate, "the NIC does not limit what peers on a VLAN send and are sent")                     \
    X(rate_out, "the NIC does not limit what is sent to a VM")                                        \
    X(rate_low, "the NIC cannot hold a queue to so low a rate")                                       \
    X(mac_twice, "one address is in two V.VLANs, and the NIC's table knows one")                      \
    X(quota, "its tenant has all that it may have of the NIC")                                        \
    X(macs_full, "the NIC's table of addresses is full")                                              \
    X(vlans_full, "the NIC's table of VLANs is full")                                                 \
    X(one_queue, "a VF has one receive queue")                                                        \
    X(queue_away, "a VF has no such receive queue")                                                   \
    X(filters_full, "the NIC's filters are all in use")

enum class Reason : std::uint8_t {
#define IVDS_X(name, words) name,
    IVDS_OFFLOAD_REASONS(IVDS_X)
#undef IVDS_X
};
[[nodiscard]] std::string_view name(Reason reason);  // "mac_twice"
[[nodiscard]] std::string_view text(Reason reason);

// X(name, text): what is not the same for a vPort in the NIC, whatever the plan. No frame leaves its instance by any
// of them; a vPort for which one matters is kept in software by the operator (Choices::must_not).
#define IVDS_OFFLOAD_LIMITS(X)                                                                                   \
    X(unknown, "unknown unicast is not copied to vPorts that cannot have the address")                           \
    X(guest_tags, "of frames with tags of a VM's own the NIC drops or carries other ones than its profile says") \
    X(oversize, "frames longer than its MTU are not dropped, as the NIC has one limit for all")                  \
    X(control, "link-local control frames of a VM, or from the wire to it, are carried as other multicast")      \
    X(multicast, "a VF gets the multicast that its VM's driver asks for, which other vPorts get unasked")        \
    X(wire_source, "frames from the wire with the source address of a local VM are not dropped")                 \
    X(foreign, "frames to an address that only a neighbour in another instance has do not go to the wire")       \
    X(copies, "an RSPAN mirror's copies of frames for its address do not go to the wire")                        \
    X(inner_alone, "frames with the V.VLAN's tag alone, which are the host's, may go to an uplink's VF")         \
    X(one_copy, "a mirror's target that gets a frame itself has no copy of it besides")

enum class Limit : std::uint8_t {
#define IVDS_X(name, words) name,
    IVDS_OFFLOAD_LIMITS(IVDS_X)
#undef IVDS_X
};
[[nodiscard]] std::string_view name(Limit limit);
[[nodiscard]] std::string_view text(Limit limit);

enum class Where : std::uint8_t { hw, sw, mixed };
[[nodiscard]] std::string_view name(Where where);

struct Placement {
    Where where = Where::sw;
    Reason reason = Reason::not_a_vf;
    bool operator==(const Placement&) const = default;
};

// Entries of one of the NIC's tables.
struct Use {
    unsigned used = 0;
    unsigned reserved = 0;
    unsigned size = 0;
    [[nodiscard]] unsigned free() const { return size - reserved - used; }
};

struct Plan {
    NicState state;
    std::vector<Step> steps;  // from the present state

    std::map<std::uint32_t, Placement> vports;
    std::map<std::uint32_t, Placement> uplinks;  // Device::uplinks
    std::map<std::uint32_t, Placement> instances;
    std::vector<Placement> fdb;                  // in the order of the snapshot's
    std::map<std::uint32_t, Placement> rules;    // of vPorts that have some, and the flows that they decided about
    std::map<std::uint32_t, Placement> mirrors;  // by session
    std::map<std::uint32_t, Placement> rates;    // by vPort: of what it sends, or else of what is sent to it

    // By vPort and place in its list.
    std::map<std::pair<std::uint32_t, unsigned>, Placement> rx_filters;

    Use pools, macs, vlans, mirror_rules, five_tuples;
};

// Fails where the choices contradict the tables or each other, or ask for what cannot be.
[[nodiscard]] Result<Plan> make_plan(const Snapshot& tables, const Device& device, const Choices& choices,
                                     const NicState& present);

}  // namespace ivds::offload
