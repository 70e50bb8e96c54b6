// SPDX-License-Identifier: Apache-2.0
// tables.h -- the desired content of the data plane's tables, as `compile` (ctl) makes it from the model
// and as ivds-loader reads it from the saved state. Pure data: no ifindex, no kernel handle. What is only
// known at run time (ifindex, which hooks got attached, carrier) is added by Switch when it writes.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "error.h"
#include "ivds/abi.h"

namespace ivds {

using Mac = std::array<std::uint8_t, 6>;  // wire order

[[nodiscard]] Result<Mac> parse_mac(const std::string& text);  // "02:00:5e:00:00:01", either case
[[nodiscard]] std::string format_mac(const Mac& mac);          // lower case

// Which hooks an interface shall get. native and generic put XDP in front of TC; tcx and clsact are TC alone.
enum class AttachMode : std::uint8_t { automatic, native, generic, tcx, clsact };
[[nodiscard]] Result<AttachMode> parse_attach_mode(const std::string& text);  // "auto", "native", …
[[nodiscard]] std::string to_string(AttachMode mode);

struct PortRow {
    std::string name;    // of the vPort or uplink
    std::string netdev;  // interface name in this network namespace; may be away; patch and sub: none
    AttachMode wanted = AttachMode::automatic;
    // What the configuration decides is set; ifindex, next_member and the flags UP, TC and XDP_TARGET are zero, but
    // for the UP of a patch, of a vPort in a trunk, and of a VF (the NIC carries it), which have no interface. An
    // uplink's mtu_bytes is 0: it follows the interface.
    ivds_port value{};
    std::vector<Mac> macs;  // vPort: vMAC and extra MACs, each a static FDB entry of this port
};

// A list of rules, laid out as the data plane looks it up (abi.h, acls). The ACL's id is not in its keys.
struct AclRow {
    std::uint8_t default_action = IVDS_ACL_ALLOW;
    std::vector<ivds_acl_mask> masks;  // by index
    std::vector<std::pair<ivds_acl_key, ivds_acl_rule>> rules;
};

// A static FDB entry of an instance that is not a vPort's own MAC.
struct StaticMac {
    Mac mac{};
    std::uint32_t port = 0;  // vPort id, or the uplink's port id for a remote MAC
    std::uint16_t vlan = 0;  // remote: outer VLAN that reaches it
    // The NIC carries it: the VF's vPort whose address it is, which to software is behind the uplink.
    std::uint32_t vport = 0;
    bool operator==(const StaticMac&) const = default;
};

// Who has an address, where the switch answers for it.
struct Neighbour {
    std::array<std::uint8_t, 16> address{};  // IPv4 as ::ffff:a.b.c.d
    Mac mac{};
    bool operator==(const Neighbour&) const = default;
};

struct InstanceRow {
    std::string name;
    ivds_instance value{};  // first_member is zero; the member list follows from the ports
    // Shared and never changed once made, so that an unchanged list of 100,000 costs nothing to compare.
    std::shared_ptr<const std::vector<StaticMac>> fdb;         // may be null
    std::shared_ptr<const std::vector<Neighbour>> neighbours;  // by address, each once; may be null
};

// A session of a mirror.
struct MirrorRow {
    std::string name;
    ivds_mirror value{};  // tap is zero
    bool routed = false;  // ERSPAN: `local` is what the host's routes gave
    // RING: the size of the ring that is made and pinned under the mirror's name; 0: its reader makes it.
    std::uint32_t ring_bytes = 0;
};

// A pool of vPorts.
struct PoolRow {
    std::string name;
    ivds_pool value{};
};

// Everything the data plane shall hold. Keys are port and instance ids (never 0, never reused while in use).
struct Tables {
    std::map<std::uint32_t, PortRow> ports;
    std::map<std::uint32_t, InstanceRow> instances;
    // {uplink, vlan, vvlan} -> instance, and {uplink, vlan, 0} for each VLAN that carries V.VLANs.
    std::map<std::array<std::uint32_t, 3>, std::uint32_t> vvlans;
    // {instance, outer VLAN} -> the rates of its peers there; what is used up of them is zero.
    std::map<std::array<std::uint32_t, 2>, ivds_peer_rate> peer_rates;
    // By ACL id, which ports name. A list never changes under its id.
    std::map<std::uint32_t, std::shared_ptr<const AclRow>> acls;
    std::map<std::uint32_t, MirrorRow> mirrors;  // by session, from 0; ports name them in masks
    std::map<std::uint32_t, PoolRow> pools;      // by pool id, which rules name as targets
};

// The saved state that ivds-loader brings up at boot with no agent running: one file, replaced atomically
// (write, fsync, rename), with magic, layout version and CRC; anything else than an intact file of a known
// version is an error that names the file, and never half of a state.
[[nodiscard]] Result<> save_tables(const std::string& path, const Tables& tables);
[[nodiscard]] Result<Tables> load_tables(const std::string& path);

}  // namespace ivds
