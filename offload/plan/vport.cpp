// SPDX-License-Identifier: Apache-2.0
#include "plan/vport.h"

#include <algorithm>

#include "plan/acl.h"

namespace ivds::offload {

namespace {

constexpr unsigned ethernet_header = 14;
constexpr unsigned tag_and_crc = 8;

bool is_tpid_of_nic(std::uint16_t big_endian) {
    const auto* bytes = reinterpret_cast<const std::uint8_t*>(&big_endian);
    return bytes[0] == 0x81 && bytes[1] == 0x00;
}

bool has_rate(const ivds_rate& rate) {
    return rate.ns_per_mib != 0;
}

}  // namespace

std::set<std::uint32_t> find_targets(const Snapshot& tables) {
    std::set<std::uint32_t> targets;
    for (const auto& [id, list] : tables.acls) {
        for (const auto& [key, rule] : list->rules) {
            if (rule.action != IVDS_ACL_REDIRECT) continue;
            if ((rule.target & IVDS_TARGET_POOL) == 0) {
                targets.insert(rule.target);
                continue;
            }
            const auto pool = tables.pools.find(rule.target & ~IVDS_TARGET_POOL);
            if (pool == tables.pools.end()) continue;
            for (unsigned i = 0; i < std::min(pool->second.count, IVDS_MAX_POOL_PORTS); ++i)
                targets.insert(pool->second.member[i]);
        }
    }
    return targets;
}

unsigned rate_in_mbps(const ivds_port& port) {
    constexpr std::uint64_t mib_bits = 8ULL << 20;
    const std::uint64_t ns = port.rate[IVDS_WAY_IN].ns_per_mib;
    if (ns == 0) return 0;
    return static_cast<unsigned>(std::max<std::uint64_t>(1, (mib_bits * 1000 + ns / 2) / ns));
}

Reason fit_instance(std::uint32_t id, const Snapshot& tables, const Device& device) {
    const auto found = tables.instances.find(id);
    if (found == tables.instances.end()) return Reason::no_instance;
    const ivds_instance& instance = found->second;
    if ((instance.flags & IVDS_IF_ACTIVE) == 0) return Reason::inactive;
    if ((instance.flags & IVDS_IF_WIRE) == 0) return Reason::local_scope;
    if (instance.uplink != device.uplink) return Reason::other_uplink;
    const auto registered = tables.vvlans.find({instance.uplink, instance.vlan, instance.vvlan});
    if (registered == tables.vvlans.end() || registered->second != id) return Reason::not_registered;
    if (instance.vvlan != 0) return Reason::outer_tag;
    if ((instance.flags & IVDS_IF_PEER_RATES) != 0) return Reason::peer_rate;
    if (!is_tpid_of_nic(tables.ports.at(device.uplink).outer_tpid_be)) return Reason::tpid;
    return Reason::fits;
}

Reason fit(std::uint32_t id, const Snapshot& tables, const Device& device, const Choices& choices,
           const std::set<std::uint32_t>& targets, const Mirrors& mirrors, const Addresses& addresses) {
    const ivds_port& port = tables.ports.at(id);
    const auto is = [&](unsigned flag) { return (port.flags & flag) != 0; };
    if (!device.pools.contains(id) || (port.kind != IVDS_PORT_VPORT && port.kind != IVDS_PORT_VF))
        return Reason::not_a_vf;
    if (choices.must_not.contains(id)) return Reason::by_operator;
    if (port.instance == 0) return Reason::no_instance;
    if (const Reason reason = fit_instance(port.instance, tables, device); reason != Reason::fits) return reason;
    if (!is(IVDS_PF_UP)) return Reason::down;
    if (is(IVDS_PF_TRUNK)) return Reason::trunk;
    if (is(IVDS_PF_CARRY_TAGS)) return Reason::guest_tags;
    if (port.inspector != 0) return Reason::inspected;
    if (port.dscp != 0) return Reason::dscp;
    if (const Reason reason = why_not_nic(port, tables); reason != Reason::fits) return reason;
    if (targets.contains(id)) return Reason::redirect_target;
    if ((port.mirror_in | port.mirror_drop | (port.mirror_out & ~mirrors.in_nic())) != 0) return Reason::mirrored;
    if (mirrors.sends_to(id)) return Reason::mirror_target;
    if (has_rate(port.rate[IVDS_WAY_OUT])) return Reason::rate_out;
    const unsigned queues_of_pool = device.chip->queues / device.chip->pools;
    if (has_rate(port.rate[IVDS_WAY_IN]) && rate_in_mbps(port) < device.chip->min_rate_mbps * queues_of_pool)
        return Reason::rate_low;
    if (!is(IVDS_PF_ANTI_SPOOF) || addresses.has_learned(id)) return Reason::learning;
    if (!addresses.has_vmac(id, port)) return Reason::address;
    if (device.chip->one_mac_per_vf &&
        std::ranges::count(addresses.local(port.instance), id, &Addresses::Entry::port) > 1)
        return Reason::addresses;
    if (port.mtu_bytes + ethernet_header + tag_and_crc > device.chip->max_frame) return Reason::too_long;
    return Reason::fits;
}

}  // namespace ivds::offload
