// SPDX-License-Identifier: Apache-2.0
// plan.h -- pure: from what the maps hold and what they shall hold to the ordered steps between.
//
// The order makes every state on the way safe for frames that pass meanwhile:
//  - nothing is pointed at before it is written: ports before the member lists that name them (from the
//    list's end), instances before vvlans, an instance's ACTIVE flag after all that it needs;
//  - nothing is cleared before it is out of reach: a port leaves its list before it changes or goes;
//  - a list of rules is live before a port names it, and goes when none does any more. Where somebody else changed
//  one
//    under its ports, it is off until it is right, and their frames drop meanwhile;
//  - a session of a mirror is there before a port names it, and goes when none does any more; likewise its filter;
//  - a pool is there before a list names it, and goes when none does any more;
//  - an address is answered for once its MAC is in the FDB, and no more before it goes from there;
//  - hooks of a port that goes are taken off before its entries, and hooks of a new one put on after them.
#pragma once

#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <type_traits>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

#include "tables.h"

namespace ivds {

template <class T>
[[nodiscard]] bool same_bytes(const T& a, const T& b) {
    static_assert(std::has_unique_object_representations_v<T>);
    return std::memcmp(&a, &b, sizeof(T)) == 0;
}

// Whether the port has an interface of its own: no end of a patch has, no vPort behind a trunk, and no VF of a VM's.
[[nodiscard]] constexpr bool has_interface(const ivds_port& port) {
    return port.kind != IVDS_PORT_PATCH && port.kind != IVDS_PORT_SUB && port.kind != IVDS_PORT_VF;
}

// Flags of a port that only the running system knows; the rest comes from the tables. Of a port without an interface
// nothing is known there.
constexpr std::uint16_t kRuntimeFlags = IVDS_PF_UP | IVDS_PF_TC | IVDS_PF_XDP_TARGET | IVDS_PF_FQ;
[[nodiscard]] constexpr std::uint16_t runtime_flags(const ivds_port& port) {
    return has_interface(port) ? kRuntimeFlags : 0;
}

using VvlanKey = std::array<std::uint32_t, 3>;  // uplink, vlan, vvlan

using PeerKey = std::array<std::uint32_t, 2>;  // instance, vlan

// What the maps hold, but for the FDB. Free slots are not in it.
struct Content {
    std::map<std::uint32_t, ivds_port> ports;
    std::map<std::uint32_t, ivds_instance> instances;
    std::map<VvlanKey, std::uint32_t> vvlans;
    std::map<PeerKey, ivds_peer_rate> peer_rates;  // what is used up of them is zero
    std::map<std::uint32_t, ivds_pool> pools;
    std::map<std::uint32_t, std::uint32_t> ifports;  // ifindex -> port id
    std::map<std::uint32_t, std::uint32_t> tx;       // port id -> ifindex
    std::map<std::uint32_t, ivds_mirror> mirrors;
};

// A list of rules as the maps hold it, its rows sorted by their keys: also one that is not whole, as a crash leaves
// it.
struct AclRows {
    ivds_acl head{};  // zeros: it is not live
    std::vector<std::pair<ivds_acl_mask_key, ivds_acl_mask>> masks;
    std::vector<std::pair<ivds_acl_key, ivds_acl_rule>> rules;
    void sort();
};
using AclContent = std::map<std::uint32_t, std::shared_ptr<const AclRows>>;

struct FdbKey {
    std::uint32_t instance = 0;
    Mac mac{};
    bool operator==(const FdbKey&) const = default;
};
struct FdbKeyHash {
    std::size_t operator()(const FdbKey& key) const noexcept;
};
struct FdbTarget {
    std::uint32_t port = 0;
    std::uint16_t vlan = 0;
    std::uint8_t flags = IVDS_FDB_STATIC;
    std::uint32_t vport = 0;
    bool operator==(const FdbTarget&) const = default;
};
// The static entries that are in the map, read from it after adoption.
using FdbContent = std::unordered_map<FdbKey, FdbTarget, FdbKeyHash>;

struct NeighbourKey {
    std::uint32_t instance = 0;
    std::array<std::uint8_t, 16> address{};
    auto operator<=>(const NeighbourKey&) const = default;
};
using NeighbourContent = std::map<NeighbourKey, Mac>;

// What the maps hold besides Content: too much to keep a copy of it.
struct Bulk {
    FdbContent fdb;
    AclContent acls;
    NeighbourContent neighbours;
};

struct FdbChange {
    FdbKey key;
    FdbTarget before;  // port 0: there was no static entry
    FdbTarget after;   // port 0: there shall be none
};

struct NeighbourChange {
    NeighbourKey key;
    std::optional<Mac> before;
    std::optional<Mac> after;
};

// The steps, each with what it writes. HooksOn and HooksOff stand for the work of attach (loader/core).
struct HooksOff {
    std::uint32_t port;
};
struct ClearPort {
    std::uint32_t port;
};
struct PutPort {  // runtime fields are kept as they are in the map
    std::uint32_t port;
    ivds_port value;
};
struct PutInstance {
    std::uint32_t instance;
    ivds_instance value;
};
struct ClearInstance {
    std::uint32_t instance;
};
struct PutVvlan {
    VvlanKey key;
    std::uint32_t instance;
};
struct ClearVvlan {
    VvlanKey key;
};
struct PutPeerRate {
    PeerKey key;
    ivds_peer_rate value;
};
struct ClearPeerRate {
    PeerKey key;
};
// A whole list: its rules, its masks, and then the entry that makes it live; ClearAcl the other way round.
struct PutAcl {
    std::uint32_t acl;
    std::shared_ptr<const AclRows> rows;
};
struct ClearAcl {
    std::uint32_t acl;
    std::shared_ptr<const AclRows> rows;
};
struct PutMirror {  // its tap is what the system has
    std::uint32_t session;
    ivds_mirror value;
};
struct ClearMirror {
    std::uint32_t session;
};
struct PutPool {
    std::uint32_t pool;
    ivds_pool value;
};
struct ClearPool {
    std::uint32_t pool;
};
struct PutFdb {};           // all of Plan::fdb_puts
struct ClearFdb {};         // all of Plan::fdb_clears
struct PutNeighbours {};    // all of Plan::neighbour_puts
struct ClearNeighbours {};  // all of Plan::neighbour_clears
struct HooksOn {};          // every port of the new tables whose hooks are not as wanted
using Step = std::variant<HooksOff, ClearPort, PutPort, PutInstance, ClearInstance, PutVvlan, ClearVvlan, PutPeerRate,
                          ClearPeerRate, PutAcl, ClearAcl, PutPool, ClearPool, PutMirror, ClearMirror, PutFdb,
                          ClearFdb, PutNeighbours, ClearNeighbours, HooksOn>;

struct Plan {
    std::vector<Step> steps;
    std::vector<FdbChange> fdb_puts;
    std::vector<FdbChange> fdb_clears;
    std::vector<NeighbourChange> neighbour_puts;
    std::vector<NeighbourChange> neighbour_clears;
    std::set<std::uint32_t> flush_ports;      // learned entries to forget afterwards: gone or moved ports
    std::set<std::uint32_t> flush_instances;  // instances that are gone, or on another VLAN or uplink
    std::set<std::uint32_t> gone_ports;
    std::set<std::uint32_t> gone_instances;
    std::set<std::uint32_t> gone_mirrors;
    std::set<std::uint32_t> gone_rules;  // ids of rules that were in a list, and are in none now
    [[nodiscard]] bool empty() const { return steps.size() == 1; }
};

// Ids in range, references that exist, no interface twice, runtime fields zero, and each list of rules as it is in
// `before`, if it was there.
[[nodiscard]] Result<> validate(const Tables& tables, const Tables& before = {});

// `now` is in the maps. The FDB's static entries and the lists of rules are those of `old` (which `now` was made
// from), or, if `in_map` is given, exactly those. `next` must be valid after `old`.
[[nodiscard]] Plan make_plan(const Content& now, const Tables& old, const Bulk* in_map, const Tables& next);

// The member lists of `tables`: port id -> next member, and instance id -> first member.
struct Members {
    std::map<std::uint32_t, std::uint32_t> next;
    std::map<std::uint32_t, std::uint32_t> first;
};
[[nodiscard]] Members members_of(const Tables& tables);

// The rows of the list under its id, and whether two lists have the same.
[[nodiscard]] std::shared_ptr<const AclRows> rows_of(std::uint32_t acl, const AclRow& list);
[[nodiscard]] bool same(const AclRows& a, const AclRows& b);

[[nodiscard]] ivds_fdb_key to_abi(const FdbKey& key);
[[nodiscard]] ivds_fdb_entry to_abi(const FdbTarget& target);
[[nodiscard]] ivds_neighbour_key to_abi(const NeighbourKey& key);
[[nodiscard]] ivds_vvlan_key to_abi(const VvlanKey& key);
[[nodiscard]] ivds_peer_key to_abi(const PeerKey& key);

}  // namespace ivds
