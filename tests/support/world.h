// SPDX-License-Identifier: Apache-2.0
// world.h -- what a test puts into the switch's tables, and what came of one frame. Pure data: the reference
// switch and the real programs take the same World and answer with the same Outcome.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "ctl/compile/acl.h"
#include "ivds/abi.h"
#include "packet.h"

namespace ivds::test {

struct FdbKey {
    std::uint32_t instance = 0;
    Mac mac{};
    auto operator<=>(const FdbKey&) const = default;
};

using VvlanKey = std::array<std::uint32_t, 3>;  // uplink, VLAN, V.VLAN
using Address = std::array<std::uint8_t, 16>;   // IPv4 as ::ffff:a.b.c.d

// A list of rules, in order; what none of them matches takes the default.
struct Acl {
    std::vector<AclRule> rules;
    ivds_acl_action default_action = IVDS_ACL_ALLOW;
};

struct World {
    std::map<std::uint32_t, ivds_port> ports;          // ifindex and next_member are filled elsewhere
    std::map<std::uint32_t, ivds_instance> instances;  // first_member as well
    std::map<VvlanKey, std::uint32_t> vvlans;
    std::map<FdbKey, ivds_fdb_entry> fdb;
    std::map<std::pair<std::uint32_t, Address>, Mac> neighbours;                   // by instance and address
    std::map<std::pair<std::uint32_t, std::uint16_t>, ivds_peer_rate> peer_rates;  // by instance and outer VLAN
    std::map<std::uint32_t, Acl> acls;
    std::map<std::uint32_t, std::vector<std::uint32_t>> pools;  // members
    // Sessions, for planners of NICs: neither the reference switch nor the rigs copy for them.
    std::map<std::uint32_t, ivds_mirror> mirrors;
    std::set<std::uint32_t> listening;  // inspectors that were heard of
    std::set<std::uint32_t> strangers;  // interfaces that carry the programs and are no port of the switch

    // A port that is up, may be a redirect target, and has room for 16 learned MACs.
    World& uplink(std::uint32_t id, std::uint16_t mtu = 9216, std::uint16_t outer_tpid = tpid_c,
                  std::uint16_t inner_tpid = tpid_c);
    // A vPort with anti-spoof, MTU 1500, and its vMAC as a static entry.
    World& vport(std::uint32_t id, std::uint32_t instance, const Mac& vmac);
    // An active instance with room for 64 learned MACs; with an uplink it is distributed, learns from the wire
    // and its {uplink, VLAN, V.VLAN} is registered.
    World& instance(std::uint32_t id, std::uint32_t uplink, std::uint16_t vlan, std::uint16_t vvlan);
    // A further outer VLAN that peers of the instance live on: floods go there and frames from there are its own.
    World& peer_vlan(std::uint32_t id, std::uint16_t vlan);
    // Plain hosts on the instance's VLAN belong to it.
    World& plain_access(std::uint32_t id);
    // The instance's VLAN is its V.VLAN, and the one tag that frames have on the wire.
    World& single_tag(std::uint32_t id);
    // The two ends of a patch, each in its instance.
    World& patch(std::uint32_t id, std::uint32_t instance, std::uint32_t peer, std::uint32_t peer_instance);
    // A vPort behind a tag of another's, with anti-spoof, MTU 1500 and its vMAC as a static entry.
    World& behind(std::uint32_t trunk, std::uint16_t vid, std::uint32_t id, std::uint32_t instance, const Mac& vmac);
    // An inspector that listens, and fails closed.
    World& inspector(std::uint32_t id);
    // One frame may pass that way, and the next after a minute: long after any test.
    World& rate(std::uint32_t port, ivds_way way);
    // The same between an instance and its peers on an outer VLAN.
    World& peer_rate(std::uint32_t instance, std::uint16_t vlan, ivds_way way);
    // A mirror to a vPort of what is sent to these.
    World& span(std::uint32_t session, std::uint32_t target, const std::set<std::uint32_t>& sources);
    World& local_mac(std::uint32_t instance, const Mac& mac, std::uint32_t port);
    World& remote_mac(std::uint32_t instance, const Mac& mac, std::uint16_t vlan);
    // A remote MAC whose VM went there from here: what comes late for it is sent on, or its time is over.
    World& moved_mac(std::uint32_t instance, const Mac& mac, std::uint16_t vlan, bool is_over = false);
    // An entry learned long ago; vlan is 0 for one learned at a vPort.
    World& learned_mac(std::uint32_t instance, const Mac& mac, std::uint32_t port, std::uint16_t vlan = 0);
    World& learned_plain_mac(std::uint32_t instance, const Mac& mac);
    // The switch answers in the instance who asks for 10.0.0.`number` and fe80::`number`.
    World& answers(std::uint32_t instance, std::uint8_t number, const Mac& mac);

    // The members of each instance as the linked list of the port table.
    void link_members();
    // Whether a rule of one of the vPort's lists is stateful.
    [[nodiscard]] bool is_stateful(std::uint32_t port) const;
    [[nodiscard]] std::uint32_t learned_at_port(std::uint32_t port) const;
    [[nodiscard]] std::uint32_t learned_in_instance(std::uint32_t instance) const;
    // The world in words, for the message of a failed test.
    [[nodiscard]] std::string text() const;
};

// The second a learned entry of the World was last seen: long ago.
inline constexpr std::uint32_t long_ago_s = 1;

// Where a frame went besides ports: up to the host untouched, or onwards into the host's stack as a switch
// must never let it.
inline constexpr std::uint32_t to_host = 0;
inline constexpr std::uint32_t to_stack = 0xffffffffU;

struct Sent {
    std::uint32_t port = 0;
    Bytes bytes{};
    bool is_tag_hidden = false;  // the bytes may lack the first tag: it may be in metadata that cannot be read
    auto operator<=>(const Sent&) const = default;
};

// Everything that one frame did. Counts are named "port 3 tx_packets", "drop 2 spoof packets",
// "instance 1 wire_bytes", "miss 1 10 300 packets"; a count that did not change is not there.
struct Outcome {
    std::vector<Sent> sent;  // sorted
    std::map<std::string, std::uint64_t> counts;
    std::vector<std::string> events;  // "move 3 from 2 in 1: 02:…", in order
    std::set<std::string> fdb;  // after the frame: "1 02:… at 2 vlan 0 static", "… learned now", "… learned before"
    std::map<std::string, std::uint32_t>
        learned;  // after the frame: "port 2", "instance 1", "flows 2"; zero is not there
    bool operator==(const Outcome&) const = default;
    [[nodiscard]] std::string text() const;
};

[[nodiscard]] const char* drop_name(std::uint32_t reason);
[[nodiscard]] const char* event_name(std::uint32_t kind);
[[nodiscard]] std::string event_text(const ivds_event& event);
// `now` says whether the entry was last seen in the second of the frame.
[[nodiscard]] std::string fdb_text(const FdbKey& key, const ivds_fdb_entry& entry, bool now);
// Adds the members of a counter record that are not zero, under "prefix member".
void add_counts(std::map<std::string, std::uint64_t>& counts, const std::string& prefix,
                const ivds_port_stats& stats);
void add_counts(std::map<std::string, std::uint64_t>& counts, const std::string& prefix,
                const ivds_instance_stats& stats);
void add_counts(std::map<std::string, std::uint64_t>& counts, const std::string& prefix,
                const ivds_inspector& inspector);
void add_counts(std::map<std::string, std::uint64_t>& counts, const std::string& prefix, const ivds_count& count);
// What differs, a line each; empty if nothing does. A hidden tag of `got` may be any.
[[nodiscard]] std::string difference(const Outcome& expected, const Outcome& got);

}  // namespace ivds::test
