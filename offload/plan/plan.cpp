// SPDX-License-Identifier: Apache-2.0
#include "plan/plan.h"

#include <fmt/format.h>

#include <algorithm>

#include "plan/acl.h"
#include "plan/choose.h"
#include "plan/fdb.h"
#include "plan/mirror.h"
#include "plan/rx_filter.h"
#include "plan/uplink.h"
#include "plan/vport.h"

namespace ivds::offload {

namespace {

Result<> check_device(const Snapshot& tables, const Device& device) {
    const auto uplink = tables.ports.find(device.uplink);
    if (uplink == tables.ports.end() || uplink->second.kind != IVDS_PORT_UPLINK)
        return fail(Code::not_found, "IVDS-O001", fmt::format("port {} is no uplink", device.uplink),
                    "name the uplink that the PF is");
    PoolSet seen = pool_bit(device.pf);
    for (const auto& [vport, pool] : device.pools) {
        if (pool >= device.chip->pools || (seen & pool_bit(pool)) != 0)
            return fail(Code::conflict, "IVDS-O001",
                        fmt::format("vPort {} is VF {}, which is another's, the PF's pool or none", vport, pool),
                        "bind each vPort to a VF of its own");
        seen |= pool_bit(pool);
    }
    for (const auto& [id, pool] : device.uplinks) {
        const auto port = tables.ports.find(id);
        if (port == tables.ports.end() || port->second.kind != IVDS_PORT_UPLINK)
            return fail(Code::not_found, "IVDS-O001", fmt::format("port {} is no uplink", id),
                        "name the uplinks that are VFs of the PF");
        if (pool >= device.pf) continue;  // the PF does not have it now
        if (id == device.uplink || (seen & pool_bit(pool)) != 0)
            return fail(Code::conflict, "IVDS-O001", fmt::format("uplink {} is VF {}, which is another's", id, pool),
                        "bind each uplink to a VF of its own");
        seen |= pool_bit(pool);
    }
    return {};
}

Result<> check_choices(const Choices& choices) {
    for (const std::uint32_t vport : choices.must)
        if (choices.must_not.contains(vport))
            return fail(Code::conflict, "IVDS-O003",
                        fmt::format("vPort {} must be in the NIC and must not be", vport), "choose one of the two");
    return {};
}

Result<> check_must(const Choices& choices, const std::map<std::uint32_t, Placement>& vports) {
    for (const std::uint32_t vport : choices.must) {
        const auto found = vports.find(vport);
        if (found != vports.end() && found->second.where == Where::hw) continue;
        return fail(Code::unsupported, "IVDS-O004",
                    found == vports.end()
                        ? fmt::format("vPort {} must be in the NIC, and there is none", vport)
                        : fmt::format("vPort {} must be in the NIC: {}", vport, text(found->second.reason)),
                    "change the vPort or its profile, or let software carry it");
    }
    return {};
}

bool receives_floods(const ivds_port& port) {
    return port.kind == IVDS_PORT_VPORT || port.kind == IVDS_PORT_SUB;
}

// A new entry's slot: the one that its key has, else one that is free at the end of the table, or at its beginning.
class Slots {
public:
    template <class Entries>
    Slots(const Entries& staying, unsigned first, unsigned size) : taken_(size) {
        std::fill_n(taken_.begin(), std::min(first, size), true);
        for (const auto& [key, entry] : staying) taken_[entry.slot] = true;
    }
    [[nodiscard]] unsigned lowest() { return take(std::ranges::find(taken_, false)); }
    [[nodiscard]] unsigned highest() {
        const auto found = std::ranges::find(taken_.rbegin(), taken_.rend(), false);
        return take(found.base() - 1);
    }

private:
    [[nodiscard]] unsigned take(std::vector<bool>::iterator at) {
        *at = true;
        return static_cast<unsigned>(at - taken_.begin());
    }
    std::vector<bool> taken_;
};

template <class Key, class Entry>
void keep_slots(std::map<Key, Entry>& wanted, const std::map<Key, Entry>& present, Slots&& slots, bool from_end) {
    for (auto& [key, entry] : wanted) {
        const auto now = present.find(key);
        entry.slot = now != present.end() ? now->second.slot : from_end ? slots.highest() : slots.lowest();
    }
}
template <class Key, class Entry>
std::map<Key, Entry> staying(const std::map<Key, Entry>& present, const std::map<Key, Entry>& wanted) {
    std::map<Key, Entry> out = present;
    std::erase_if(out, [&](const auto& row) { return !wanted.contains(row.first); });
    return out;
}

// The V.VLANs of the PF's interface, and of the VFs that the NIC sorts to.
std::set<std::uint16_t> admitted(const Snapshot& tables, const Device& device, const Sorting& sorting) {
    std::set<std::uint16_t> vvlans;
    const bool two_tags = wire_tags(tables, device.uplink).two;
    for (const auto& [key, id] : tables.vvlans) {
        const auto& [uplink, vlan, vvlan] = key;
        const auto instance = tables.instances.find(id);
        const auto sorted = sorting.uplinks.find(uplink);
        if (uplink != device.uplink && (sorted == sorting.uplinks.end() || sorted->second != Reason::sorted))
            continue;
        if (instance == tables.instances.end() || (instance->second.flags & IVDS_IF_ACTIVE) == 0) continue;
        if (!two_tags)
            vvlans.insert(static_cast<std::uint16_t>(vlan));
        else if (vvlan != 0)
            vvlans.insert(static_cast<std::uint16_t>(vvlan));
    }
    return vvlans;
}

NicState make_state(const Chosen& chosen, const Sorting& sorting, const Snapshot& tables, const Device& device,
                    const Addresses& addresses, const Mirrors& mirrors, const NicState& present) {
    NicState state;
    state.admitted = admitted(tables, device, sorting);
    for (const auto& [id, reason] : sorting.uplinks)
        if (reason == Reason::sorted) state.uplinks.insert(device.uplinks.at(id));
    for (const auto& [vvlan, members] : sorting.vvlans) state.vlans[vvlan].members = members;
    // Unknown addresses are given to all uplinks of their V.VLAN, which the PF is one of.
    state.unknown_to_pf = !state.uplinks.empty();
    for (const auto& [id, reason] : chosen.vports) {
        if (reason != Reason::fits) continue;
        const ivds_port& port = tables.ports.at(id);
        const unsigned pool = device.pools.at(id);
        const std::uint16_t vvlan = tables.instances.at(port.instance).vlan;
        state.pools[pool] = {.vport = id,
                             .instance = port.instance,
                             .vvlan = vvlan,
                             // A VM that sends no tags has no priority of its own to keep.
                             .pcp = port.pcp == IVDS_PCP_KEEP ? std::uint8_t{0} : port.pcp,
                             .rate_mbps = rate_in_mbps(port)};
        state.vlans[vvlan].members |= pool_bit(pool);
    }
    const auto is_in_nic = [&](std::uint32_t port) {
        const auto found = chosen.vports.find(port);
        return found != chosen.vports.end() && found->second == Reason::fits;
    };
    for (const std::uint32_t id : chosen.instances) {
        NicVlan& vlan = state.vlans.at(tables.instances.at(id).vlan);
        for (const auto& [mac, port] : addresses.local(id)) {
            const bool own = is_in_nic(port) && tables.ports.at(port).instance == id;
            state.macs[mac].pool = own ? device.pools.at(port) : device.pf;
            if (!own) vlan.members |= pool_bit(device.pf);
        }
    }
    for (const auto& [id, port] : tables.ports) {
        if (!receives_floods(port) || is_in_nic(id) || !chosen.instances.contains(port.instance)) continue;
        state.vlans.at(tables.instances.at(port.instance).vlan).members |= pool_bit(device.pf);
        if ((port.flags & IVDS_PF_ANTI_SPOOF) == 0) state.unknown_to_pf = true;
    }
    for (const auto& [session, reason] : mirrors.reasons()) {
        if (reason != Reason::fits) continue;
        NicMirror& mirror = state.mirrors[device.pools.at(tables.mirrors.at(session).target)];
        for (const std::uint32_t vport : mirrors.sources(session)) mirror.sources |= pool_bit(device.pools.at(vport));
    }
    keep_slots(state.macs, present.macs,
               Slots(staying(present.macs, state.macs), device.chip->kept_mac_entries, device.chip->mac_entries),
               true);
    keep_slots(state.vlans, present.vlans,
               Slots(staying(present.vlans, state.vlans), device.chip->kept_vlan_entries, device.chip->vlan_entries),
               false);
    keep_slots(state.mirrors, present.mirrors,
               Slots(staying(present.mirrors, state.mirrors), 0, device.chip->mirror_rules), false);
    return state;
}

// Whether software's frames of full length for the vPort find no room on the uplink, which has one tag.
bool is_cut_short(const ivds_port& vport, const ivds_instance& instance, const ivds_port& uplink) {
    constexpr unsigned tag_bytes = 4;
    return std::min(vport.mtu_bytes, instance.mtu_bytes) + tag_bytes > uplink.mtu_bytes;
}

// Where every object runs.
void place(Plan& plan, const Chosen& chosen, const Sorting& sorting, const Mirrors& mirrors, const Snapshot& tables,
           const Device& device) {
    for (const auto& [id, reason] : sorting.uplinks)
        plan.uplinks[id] = {.where = reason == Reason::sorted ? Where::mixed : Where::sw, .reason = reason};
    for (const auto& [id, reason] : chosen.vports)
        plan.vports[id] = {.where = reason == Reason::fits ? Where::hw : Where::sw, .reason = reason};

    std::map<std::uint32_t, Reason> first_reason;  // by instance, of its VFs
    std::set<std::uint32_t> has_software;
    for (const auto& [id, port] : tables.ports) {
        const auto vport = chosen.vports.find(id);
        if (vport == chosen.vports.end() || !receives_floods(port)) continue;
        if (vport->second != Reason::fits) has_software.insert(port.instance);
        if (device.pools.contains(id)) first_reason.try_emplace(port.instance, vport->second);
    }
    for (const auto& [id, instance] : tables.instances) {
        Placement& at = plan.instances[id];
        if (chosen.instances.contains(id)) {
            const bool mixed = has_software.contains(id);
            at = {.where = mixed ? Where::mixed : Where::hw,
                  .reason = mixed ? Reason::some_in_software : Reason::fits};
            continue;
        }
        if (const auto uplink = plan.uplinks.find(instance.uplink); uplink != plan.uplinks.end()) {
            at = uplink->second;
            continue;
        }
        const Reason reason = fit_instance(id, tables, device);
        const auto of_vf = first_reason.find(id);
        at.reason = reason != Reason::fits        ? reason
                    : of_vf != first_reason.end() ? of_vf->second
                                                  : Reason::none_in_nic;
    }

    for (auto& [id, at] : plan.vports) {
        if (at.where != Where::hw) continue;
        const ivds_port& vport = tables.ports.at(id);
        Placement& instance = plan.instances.at(vport.instance);
        if (instance.where == Where::mixed &&
            is_cut_short(vport, tables.instances.at(vport.instance), tables.ports.at(device.uplink)))
            at.reason = instance.reason = Reason::uplink_mtu;
    }

    for (const auto& [key, entry] : tables.fdb) {
        Placement at{.where = Where::sw, .reason = Reason::none_in_nic};
        if (chosen.instances.contains(key.instance)) {
            const auto found = plan.state.macs.find(mac_of(key));
            if (entry.port == device.uplink)
                at = {.where = Where::hw, .reason = Reason::to_wire};
            else if (found != plan.state.macs.end())
                at = found->second.pool == device.pf ? Placement{.where = Where::mixed, .reason = Reason::sink}
                                                     : Placement{.where = Where::hw, .reason = Reason::fits};
        }
        plan.fdb.push_back(at);
    }

    for (const auto& [id, port] : tables.ports)
        if (const Reason reason = why_not_nic(port, tables); reason != Reason::fits)
            plan.rules[id] = {.where = Where::sw, .reason = reason};
    for (const auto& [session, reason] : mirrors.reasons())
        plan.mirrors[session] = {.where = reason == Reason::fits ? Where::hw : Where::sw, .reason = reason};
    for (const auto& [id, at] : plan.vports) {
        const ivds_port& port = tables.ports.at(id);
        if (port.rate[IVDS_WAY_IN].ns_per_mib != 0 || port.rate[IVDS_WAY_OUT].ns_per_mib != 0) plan.rates[id] = at;
    }
}

}  // namespace

std::string_view name(Reason reason) {
    switch (reason) {
#define IVDS_X(id, words) \
    case Reason::id:      \
        return #id;
        IVDS_OFFLOAD_REASONS(IVDS_X)
#undef IVDS_X
    }
    return {};
}

std::string_view text(Reason reason) {
    switch (reason) {
#define IVDS_X(id, words) \
    case Reason::id:      \
        return words;
        IVDS_OFFLOAD_REASONS(IVDS_X)
#undef IVDS_X
    }
    return {};
}

std::string_view name(Limit limit) {
    switch (limit) {
#define IVDS_X(id, words) \
    case Limit::id:       \
        return #id;
        IVDS_OFFLOAD_LIMITS(IVDS_X)
#undef IVDS_X
    }
    return {};
}

std::string_view text(Limit limit) {
    switch (limit) {
#define IVDS_X(id, words) \
    case Limit::id:       \
        return words;
        IVDS_OFFLOAD_LIMITS(IVDS_X)
#undef IVDS_X
    }
    return {};
}

std::string_view name(Where where) {
    return where == Where::hw ? "hw" : where == Where::sw ? "sw" : "mixed";
}

Result<Plan> make_plan(const Snapshot& tables, const Device& device, const Choices& choices,
                       const NicState& present) {
    if (auto ok = check_device(tables, device); !ok) return std::unexpected(ok.error());
    if (auto ok = check_choices(choices); !ok) return std::unexpected(ok.error());

    const Addresses addresses(tables, device.uplink);
    const std::set<std::uint32_t> targets = find_targets(tables);
    Mirrors mirrors(tables, device, choices, present);
    Chosen chosen;
    // A mirror and the vPorts that it watches are in the NIC together: each turn keeps one more of them out of it.
    do {
        std::map<std::uint32_t, Reason> vports;
        for (const auto& [id, port] : tables.ports)
            if (port.kind != IVDS_PORT_NONE && port.kind != IVDS_PORT_UPLINK)
                vports[id] = fit(id, tables, device, choices, targets, mirrors, addresses);
        chosen = choose(std::move(vports), tables, device, choices, addresses, present);
    } while (mirrors.settle(chosen.vports));

    Plan plan;
    const Sorting sorting = sort_to_uplinks(tables, device, choices, present);
    plan.state = make_state(chosen, sorting, tables, device, addresses, mirrors, present);
    place(plan, chosen, sorting, mirrors, tables, device);
    choose_rx_filters(plan, tables, device, choices, present);
    if (auto ok = check_must(choices, plan.vports); !ok) return std::unexpected(ok.error());
    plan.pools = {.used = static_cast<unsigned>(plan.state.pools.size() + plan.state.uplinks.size()),
                  .reserved = 1,
                  .size = device.chip->pools};
    plan.macs = mac_room(device, choices);
    plan.macs.used = static_cast<unsigned>(plan.state.macs.size());
    plan.vlans = vlan_room(device, choices);
    plan.vlans.used = static_cast<unsigned>(plan.state.vlans.size());
    plan.mirror_rules = {
        .used = static_cast<unsigned>(plan.state.mirrors.size()), .reserved = 0, .size = device.chip->mirror_rules};
    plan.steps = make_steps(present, plan.state, device.pf);
    return plan;
}

}  // namespace ivds::offload
