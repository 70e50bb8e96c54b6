// SPDX-License-Identifier: Apache-2.0
#include "plan/mirror.h"

#include <algorithm>
#include <bit>
#include <vector>

namespace ivds::offload {

Mirrors::Mirrors(const Snapshot& tables, const Device& device, const Choices& choices, const NicState& present)
    : tables_(tables), device_(device), choices_(choices) {
    if (tables.mirrors.empty()) return;
    for (const auto& [id, port] : tables.ports) {
        of_senders_ |= port.mirror_in;
        of_drops_ |= port.mirror_drop;
        if (port.kind == IVDS_PORT_UPLINK) of_uplinks_ |= port.mirror_in | port.mirror_out | port.mirror_drop;
        for (std::uint32_t left = port.mirror_out; left != 0; left &= left - 1)
            sources_[static_cast<std::uint32_t>(std::countr_zero(left))].insert(id);
    }
    for (const auto& [id, list] : tables.acls)
        for (const auto& [key, rule] : list->rules) of_rules_ |= rule.mirrors;
    for (const auto& [session, mirror] : tables.mirrors) {
        if (mirror.kind != IVDS_MIRROR_SPAN) continue;
        ++users_[mirror.target];
        const auto pool = device.pools.find(mirror.target);
        if (pool == device.pools.end() || !present.mirrors.contains(pool->second)) continue;
        const auto as = present.pools.find(pool->second);
        if (as != present.pools.end() && as->second.vport == mirror.target) incumbents_.insert(session);
    }
    for (const auto& [session, mirror] : tables.mirrors)
        if (mirror.kind != IVDS_MIRROR_NONE) reasons_[session] = form(session, mirror);
    share_out();
}

const std::set<std::uint32_t>& Mirrors::sources(std::uint32_t session) const {
    static const std::set<std::uint32_t> none;
    const auto found = sources_.find(session);
    return found == sources_.end() ? none : found->second;
}

// What keeps it out of any NIC of this kind, whichever vPorts are carried.
Reason Mirrors::form(std::uint32_t session, const ivds_mirror& mirror) const {
    const auto has = [&](std::uint32_t sessions) { return session < 32 && (sessions >> session & 1U) != 0; };
    if (device_.chip->mirror_rules == 0) return Reason::mirror_none;
    if (mirror.kind != IVDS_MIRROR_SPAN) return Reason::mirror_kind;
    if (has(of_uplinks_)) return Reason::mirror_uplink;
    if (has(of_rules_)) return Reason::mirror_by_rule;
    if (has(of_drops_)) return Reason::mirror_drops;
    if (has(of_senders_)) return Reason::mirror_senders;
    if (mirror.filter != 0 || mirror.snap_bytes != 0 || mirror.sample > 1) return Reason::mirror_part;
    const auto target = tables_.ports.find(mirror.target);
    if (target == tables_.ports.end() || !device_.pools.contains(mirror.target)) return Reason::mirror_target_away;
    const ivds_port& port = target->second;
    if ((port.mirror_in | port.mirror_out | port.mirror_drop) != 0) return Reason::mirror_chain;
    if (users_.at(mirror.target) > 1) return Reason::mirror_twice;
    const auto is_vf = [&](std::uint32_t vport) { return device_.pools.contains(vport); };
    if (sources(session).empty() || !std::ranges::all_of(sources(session), is_vf)) return Reason::mirror_source_away;
    return Reason::fits;
}

// Those that have a rule keep it; the others come by their number.
void Mirrors::share_out() {
    std::vector<std::uint32_t> order;
    for (const auto& [session, reason] : reasons_)
        if (reason == Reason::fits || reason == Reason::mirrors_full || reason == Reason::quota)
            order.push_back(session);
    std::ranges::stable_partition(order, [&](std::uint32_t session) { return incumbents_.contains(session); });
    in_nic_ = 0;
    unsigned left = device_.chip->mirror_rules;
    std::map<std::uint32_t, unsigned> used;  // by tenant
    for (const std::uint32_t session : order) {
        const auto tenant = choices_.tenants.find(tables_.ports.at(tables_.mirrors.at(session).target).instance);
        const auto quota =
            tenant == choices_.tenants.end() ? choices_.quotas.end() : choices_.quotas.find(tenant->second);
        Reason& reason = reasons_.at(session);
        if (quota != choices_.quotas.end() && used[quota->first] == quota->second.mirrors) {
            reason = Reason::quota;
        } else if (left == 0) {
            reason = Reason::mirrors_full;
        } else {
            reason = Reason::fits;
            in_nic_ |= 1U << session;
            --left;
            if (quota != choices_.quotas.end()) ++used[quota->first];
        }
    }
    of_software_.clear();
    for (const auto& [session, reason] : reasons_)
        if (const ivds_mirror& mirror = tables_.mirrors.at(session);
            reason != Reason::fits && mirror.kind == IVDS_MIRROR_SPAN)
            of_software_.insert(mirror.target);
}

bool Mirrors::settle(const std::map<std::uint32_t, Reason>& vports) {
    const auto is_carried = [&](std::uint32_t vport) {
        const auto found = vports.find(vport);
        return found != vports.end() && found->second == Reason::fits;
    };
    bool any = false;
    for (auto& [session, reason] : reasons_) {
        if (reason != Reason::fits) continue;
        if (!is_carried(tables_.mirrors.at(session).target))
            reason = Reason::mirror_target_away;
        else if (!std::ranges::all_of(sources(session), is_carried))
            reason = Reason::mirror_source_away;
        any = any || reason != Reason::fits;
    }
    if (any) share_out();
    return any;
}

}  // namespace ivds::offload
