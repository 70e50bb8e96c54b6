// SPDX-License-Identifier: Apache-2.0
// chip.h -- what a NIC's switch can hold and do, as a planner asks for it. The numbers are the chip's; what a driver
// or an operator keeps for itself is taken off elsewhere.
#pragma once

#include <string_view>

namespace ivds::offload {

struct Chip {
    std::string_view name;

    // Tables.
    unsigned pools;              // at most; fewer pools have more queues each
    unsigned virtual_functions;  // at most, a port
    unsigned queues;             // receive queues, and as many to transmit
    unsigned mac_entries;        // exact addresses, unicast or multicast, each with its pools
    unsigned vlan_entries;       // VIDs with their pools
    unsigned kept_mac_entries;   // the first so many of them are the drivers': the station address
    unsigned kept_vlan_entries;  // likewise: VLAN 0
    unsigned multicast_hash_bits;
    unsigned unicast_hash_bits;
    unsigned mirror_rules;
    unsigned five_tuple_filters;
    unsigned ethertype_filters;
    unsigned flow_filters;    // Flow Director, perfect match, with the smallest allocation of packet buffer
    unsigned queue_counters;  // sets of counters that queues can be mapped to
    unsigned max_frame;       // of frames that the switch carries, with CRC
    unsigned min_rate_mbps;   // the lowest that a transmit queue can be held to at full link speed

    // Abilities.
    bool one_mac_per_vf;         // a VF has one address; no chip's, but a driver's limit
    bool one_queue_per_vf;       // a VF has one receive queue; no chip's, but a driver's limit
    bool mac_per_vlan;           // an address can mean other pools in another VLAN
    bool unicast_promiscuous;    // a pool can be given all unicast
    bool vlan_promiscuous;       // a pool can be given all VLANs
    bool unknown_unicast_local;  // unknown unicast from a pool can be given to a pool (else to the wire only)
    bool source_prune;           // frames that come back from the wire are kept from their sender
    bool mirror_by_sender;       // a mirror can select what one pool sends
    bool one_flow_mask;          // all flow filters look at the same fields
    bool flow_redirects;         // a flow filter can move a frame to another pool
    bool flows_see_loopback;     // filters on L3 and L4 see frames from pool to pool
    bool inner_tag_match;        // with two tags, the filters can look at the inner one
    bool outer_tag_match;        // …, at the outer one
    bool outer_tag_insert;       // with two tags, the NIC can insert and strip the outer one
    bool filter_counters;        // each filter entry counts its hits
};

}  // namespace ivds::offload
