// SPDX-License-Identifier: Apache-2.0
#include "agent/view.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <unordered_map>

#include "agent/names.h"
#include "agent/nic_view.h"
#include "agent/offload_view.h"
#include "model/address.h"

namespace ivds {
namespace {

pb::AttachMode attach_mode(AttachMode mode) {
    switch (mode) {
        case AttachMode::native:
            return pb::NATIVE;
        case AttachMode::generic:
            return pb::GENERIC;
        case AttachMode::tcx:
            return pb::TCX;
        case AttachMode::clsact:
            return pb::CLSACT;
        case AttachMode::automatic:
            break;
    }
    return pb::AUTO;
}

// Everything about ports and instances, read in one go.
struct Reading {
    std::vector<pb::PortState> ports;
    std::vector<pb::InstanceState> instances;
};

Result<void> read_port(const ViewSource& source, const std::unordered_map<std::uint32_t, const PortStatus*>& status,
                       const std::unordered_map<std::uint32_t, std::uint64_t>& drops, pb::PortState& state) {
    const auto pinned = source.maps.port(state.id());
    if (!pinned) return std::unexpected(pinned.error());
    const auto stats = source.maps.port_stats(state.id());
    if (!stats) return std::unexpected(stats.error());
    const auto live = source.maps.port_state(state.id());
    if (!live) return std::unexpected(live.error());

    state.set_ifindex(pinned->ifindex);
    state.set_up((pinned->flags & IVDS_PF_UP) != 0);
    state.set_mtu_bytes(pinned->mtu_bytes);
    state.set_fdb_limit(pinned->fdb_limit);
    state.set_learned(live->learned);
    state.set_flows(live->flows);
    if (const auto found = status.find(state.id()); found != status.end()) {
        state.set_ifindex(found->second->ifindex);
        state.set_wanted(attach_mode(found->second->wanted));
        state.set_got(found->second->got);
        state.set_reason(found->second->reason);
        state.set_up(found->second->up);
        state.set_rates(found->second->has_fq ? "shaped" : "policed");
        if (state.kind() == pb::UPLINK && found->second->mtu_bytes != 0)
            state.set_mtu_bytes(found->second->mtu_bytes);
    }
    if (source.interfaces != nullptr && !state.netdev().empty()) {
        const auto found = source.interfaces->find(state.netdev());
        const Interface* interface = found == source.interfaces->end() ? nullptr : &found->second;
        state.set_link(link_text(interface));
        if (interface != nullptr) {
            state.set_speed_mbps(interface->facts.speed_mbps.value_or(0));
            *state.mutable_netdev_counters() = counters_of(interface->netdev);
        }
    }
    pb::Counters& counters = *state.mutable_counters() = counters_of(*stats);
    if (const auto found = drops.find(state.id()); found != drops.end()) counters.set_drops(found->second);
    const auto carried = source.maps.nic_stats(state.id());
    if (!carried) return std::unexpected(carried.error());
    if (*carried) {
        const pb::Counters& nic = *state.mutable_nic_counters() = counters_of(**carried);
        counters.set_rx_packets(counters.rx_packets() + nic.rx_packets());
        counters.set_rx_bytes(counters.rx_bytes() + nic.rx_bytes());
        counters.set_tx_packets(counters.tx_packets() + nic.tx_packets());
        counters.set_tx_bytes(counters.tx_bytes() + nic.tx_bytes());
    }
    return {};
}

Result<Reading> read_all(const ViewSource& source, const std::vector<DropRow>& drop_rows) {
    std::unordered_map<std::uint32_t, const PortStatus*> status;
    if (source.ports != nullptr)
        for (const PortStatus& port : *source.ports) status.emplace(port.id, &port);
    std::unordered_map<std::uint32_t, std::uint64_t> drops;
    for (const DropRow& row : drop_rows) drops[row.port] += row.count.packets;

    Reading reading;
    for (const auto& [name, uplink] : source.model.uplinks) {
        pb::PortState& state = reading.ports.emplace_back();
        state.set_kind(pb::UPLINK);
        state.set_name(name);
        state.set_id(source.ids.ports.at(name));
        state.set_netdev(uplink->netdev());
        state.set_wanted(uplink->attach());
        if (auto done = read_port(source, status, drops, state); !done) return std::unexpected(done.error());
    }
    std::map<std::string, std::pair<std::uint32_t, std::uint32_t>> members;  // vPorts, and how many are up
    for (const auto& [name, vport] : source.model.vports) {
        pb::PortState& state = reading.ports.emplace_back();
        state.set_kind(pb::VPORT);
        state.set_name(name);
        state.set_id(source.ids.ports.at(name));
        state.set_instance(vport->instance());
        state.set_netdev(vport->netdev());
        state.set_wanted(vport->attach());
        if (const std::string& vnic = vnic_of(source.model, *vport); !vnic.empty())
            state.set_vmac(source.model.vnics.at(vnic)->vmac());
        if (!vport->patch().empty()) state.set_got("patch");
        if (!vport->trunk().empty()) state.set_got("trunk");
        if (auto done = read_port(source, status, drops, state); !done) return std::unexpected(done.error());
        if (vport->has_vf()) {
            state.set_got(state.up() ? "nic" : "none");
            state.set_rates("nic");
        }
        auto& [all, up] = members[vport->instance()];
        ++all;
        if (state.up()) ++up;
    }

    for (const auto& [name, instance] : source.model.instances) {
        pb::InstanceState& state = reading.instances.emplace_back();
        const std::uint32_t id = source.ids.instances.at(name);
        const auto stats = source.maps.instance_stats(id);
        if (!stats) return std::unexpected(stats.error());
        const auto live = source.maps.instance_state(id);
        if (!live) return std::unexpected(live.error());
        const auto [all, up] = members[name];
        state.set_name(name);
        state.set_id(id);
        state.set_tenant(instance->tenant());
        state.set_uplink(instance->uplink());
        state.set_vlan(outer_vlan(source.model, *instance));
        state.set_vvlan(instance->vvlan());
        state.set_state(instance_state_text(*instance, all, up));
        state.set_vports(all);
        state.set_learned(live->learned);
        state.set_fdb_limit(fdb_limit(*instance));
        *state.mutable_peer_vlans() = instance->peer_vlans();
        state.set_port_packets(stats->port_packets);
        state.set_port_bytes(stats->port_bytes);
        state.set_wire_packets(stats->wire_packets);
        state.set_wire_bytes(stats->wire_bytes);
    }
    return reading;
}

// Tenants, declared or only named, with what their instances take and counted.
std::vector<pb::TenantState> tenants_of(const ViewSource& source, const Reading& reading) {
    std::map<std::string, pb::TenantState> tenants;
    for (const auto& [name, tenant] : source.model.tenants) {
        pb::TenantState& state = tenants[name];
        state.set_declared(true);
        state.set_max_instances(tenant->max_instances());
        state.set_max_vports(tenant->max_vports());
        state.set_max_fdb(tenant->max_fdb());
        state.set_max_bindings(tenant->max_bindings());
        state.set_max_fabric_bindings(tenant->max_fabric_bindings());
        state.set_max_rate_mbps(tenant->max_rate_mbps());
    }
    for (const auto& [name, use] : tenant_use(source.model)) {
        pb::TenantState& state = tenants[name];
        state.set_instances(use.instances);
        state.set_vports(use.vports);
        state.set_fdb(use.fdb);
        state.set_bindings(use.bindings);
        state.set_rate_in_mbps(use.rate_in_mbps);
        state.set_rate_out_mbps(use.rate_out_mbps);
        state.set_unlimited_rates(use.unlimited_rates);
    }
    std::unordered_map<std::string, pb::TenantState*> of_instance;
    for (const pb::InstanceState& instance : reading.instances) {
        if (instance.tenant().empty()) continue;
        pb::TenantState& state = tenants.at(instance.tenant());
        of_instance.emplace(instance.name(), &state);
        state.set_learned(state.learned() + instance.learned());
        state.set_port_packets(state.port_packets() + instance.port_packets());
        state.set_port_bytes(state.port_bytes() + instance.port_bytes());
        state.set_wire_packets(state.wire_packets() + instance.wire_packets());
        state.set_wire_bytes(state.wire_bytes() + instance.wire_bytes());
    }
    for (const pb::PortState& port : reading.ports) {
        const auto found = of_instance.find(port.instance());
        if (found == of_instance.end()) continue;
        found->second->set_drops(found->second->drops() + port.counters().drops());
        if (port.up()) found->second->set_vports_up(found->second->vports_up() + 1);
    }
    std::vector<pb::TenantState> out;
    for (auto& [name, state] : tenants) {
        state.set_name(name);
        out.push_back(std::move(state));
    }
    return out;
}

template <class T>
void move_into(std::vector<T>& from, google::protobuf::RepeatedPtrField<T>* to) {
    to->Reserve(static_cast<int>(from.size()));
    for (T& item : from) to->Add(std::move(item));
}

// What a request names, by id; 0: all.
struct Wanted {
    std::uint32_t instance = 0;
    std::uint32_t port = 0;
    [[nodiscard]] bool other_instance(std::uint32_t id) const { return instance != 0 && id != instance; }
    [[nodiscard]] bool other_port(std::uint32_t id) const { return port != 0 && id != port; }
};
Result<Wanted> ids_of(const ViewSource& source, const std::string& instance, const std::string& port) {
    const auto id_of = [](const auto& ids, const std::string& name, const char* label) -> Result<std::uint32_t> {
        if (name.empty()) return 0;
        const auto found = ids.find(name);
        if (found != ids.end()) return found->second;
        return fail(Code::not_found, "IVDS-M027", fmt::format("there is no {} {}", label, name),
                    "`ivds-ctl show all` shows what there is");
    };
    const auto instance_id = id_of(source.ids.instances, instance, "instance");
    if (!instance_id) return std::unexpected(instance_id.error());
    const auto port_id = id_of(source.ids.ports, port, "uplink or vport");
    if (!port_id) return std::unexpected(port_id.error());
    return Wanted{*instance_id, *port_id};
}

}  // namespace

pb::InspectorState inspector_state(const PortStatus& port, const ivds_port& value, const ivds_inspector& state,
                                   std::uint64_t now_ns) {
    const std::uint64_t limit_ns = std::uint64_t{value.timeout_ms} * 1'000'000U;
    const std::uint64_t unanswered = state.sent - state.answered;
    const bool is_heard = state.heard_ns != 0 && state.heard_ns + limit_ns > now_ns;
    pb::InspectorState out;
    out.set_name(port.name);
    out.set_id(port.id);
    out.set_netdev(port.netdev);
    out.set_up(port.up);
    out.set_listening(port.up && is_heard && (unanswered < value.queue || state.sent_ns + limit_ns < now_ns));
    out.set_silent_s(state.heard_ns == 0
                         ? -1
                         : static_cast<double>(now_ns - std::min<std::uint64_t>(now_ns, state.heard_ns)) / 1e9);
    out.set_sent(state.sent);
    out.set_passed(state.passed);
    out.set_blocked(state.blocked);
    out.set_unanswered(unanswered);
    out.set_uninspected(state.uninspected);
    out.set_refused(state.refused);
    out.set_reason(port.reason);
    return out;
}

pb::Counters counters_of(const ivds_port_stats& stats) {
    pb::Counters counters;
    counters.set_rx_packets(stats.rx_packets);
    counters.set_rx_bytes(stats.rx_bytes);
    counters.set_tx_packets(stats.tx_packets);
    counters.set_tx_bytes(stats.tx_bytes);
    counters.set_rx_local(stats.rx_local);
    counters.set_rx_wire(stats.rx_wire);
    counters.set_rx_flood(stats.rx_flood);
    counters.set_rx_host(stats.rx_host);
    counters.set_rx_answered(stats.rx_answered);
    return counters;
}

std::string instance_state_text(const pb::Instance& instance, std::uint32_t vports, std::uint32_t vports_up) {
    if (instance.draining()) return "draining";
    if (vports == 0) return "created";
    return vports_up == 0 ? "configured" : "active";
}

Result<pb::StatusReply> view_status(const ViewSource& source) {
    const auto meta = source.maps.meta();
    if (!meta) return std::unexpected(meta.error());
    const auto drops = source.maps.drops();
    if (!drops) return std::unexpected(drops.error());
    auto reading = read_all(source, *drops);
    if (!reading) return std::unexpected(reading.error());

    pb::StatusReply reply;
    reply.set_version(IVDS_VERSION);
    const auto* build = reinterpret_cast<const char*>(meta->build);
    reply.set_programs(std::string(build, std::find(build, build + sizeof meta->build, '\0')));
    reply.set_layout_major(meta->layout_major);
    reply.set_layout_minor(meta->layout_minor);
    reply.set_generation(meta->generation);
    auto tenants = tenants_of(source, *reading);
    move_into(tenants, reply.mutable_tenants());
    move_into(reading->ports, reply.mutable_ports());
    move_into(reading->instances, reply.mutable_instances());
    return reply;
}

Result<pb::StatsReply> view_stats(const ViewSource& source) {
    const auto drops = source.maps.drops();
    if (!drops) return std::unexpected(drops.error());
    const auto misses = source.maps.misses();
    if (!misses) return std::unexpected(misses.error());
    auto reading = read_all(source, *drops);
    if (!reading) return std::unexpected(reading.error());

    pb::StatsReply reply;
    move_into(reading->ports, reply.mutable_ports());
    move_into(reading->instances, reply.mutable_instances());
    const auto names = names_by_id(source.ids.ports);
    for (const DropRow& row : *drops) {
        pb::Drop& drop = *reply.add_drops();
        if (row.port != 0) drop.set_port(name_or_number(names, row.port));
        drop.set_reason(drop_id(row.reason));
        drop.set_text(drop_text(row.reason));
        drop.set_packets(row.count.packets);
        drop.set_bytes(row.count.bytes);
    }
    for (const MissRow& row : *misses) {
        pb::Miss& miss = *reply.add_misses();
        miss.set_uplink(name_or_number(names, row.key.uplink));
        miss.set_vlan(row.key.vlan);
        miss.set_vvlan(row.key.vvlan);
        miss.set_packets(row.count.packets);
    }
    return reply;
}

Result<> view_fdb(const ViewSource& source, const pb::FdbRequest& request,
                  const std::function<bool(const pb::FdbEntry&)>& sink) {
    const auto wanted = ids_of(source, request.instance(), request.port());
    if (!wanted) return std::unexpected(wanted.error());
    const auto instances = names_by_id(source.ids.instances);
    const auto ports = names_by_id(source.ids.ports);
    const std::uint32_t now_s = coarse_now_s();
    return source.maps.fdb([&](const FdbRow& row) {
        if (wanted->other_instance(row.key.instance) || wanted->other_port(row.entry.port)) return true;
        pb::FdbEntry entry;
        entry.set_instance(name_or_number(instances, row.key.instance));
        entry.set_mac(mac_text(row.key.mac));
        entry.set_port(name_or_number(ports, row.entry.port));
        entry.set_vlan(row.entry.vlan);
        entry.set_static_((row.entry.flags & IVDS_FDB_STATIC) != 0);
        entry.set_moved((row.entry.flags & IVDS_FDB_MOVED) != 0);
        if (!entry.static_() && now_s > row.entry.last_seen_s) entry.set_age_s(now_s - row.entry.last_seen_s);
        return sink(entry);
    });
}

Result<> view_neighbours(const ViewSource& source, const pb::NeighboursRequest& request,
                         const std::function<bool(const pb::NeighbourEntry&)>& sink) {
    const auto wanted = ids_of(source, request.instance(), request.port());
    if (!wanted) return std::unexpected(wanted.error());
    const auto address = host_address(request.address());
    if (!request.address().empty() && !address)
        return fail(Code::invalid, "IVDS-A023",
                    fmt::format("\"{}\" is no address that a VM can have", request.address()),
                    "give an IPv4 or IPv6 address, as in 10.0.0.1 or fd00::1");
    const auto instances = names_by_id(source.ids.instances);
    const auto ports = names_by_id(source.ids.ports);
    Result<> read;
    auto done = source.maps.neighbours([&](const NeighbourRow& row) {
        if (wanted->other_instance(row.key.instance) || (address && !std::ranges::equal(*address, row.key.address)))
            return true;
        Mac mac{};
        std::ranges::copy(row.owner.mac, mac.begin());
        const auto place = source.maps.fdb_entry(row.key.instance, mac);
        if (!place) {
            read = std::unexpected(place.error());
            return false;
        }
        const bool is_there = *place && ((*place)->flags & IVDS_FDB_STATIC) != 0;
        if (wanted->other_port(is_there ? (*place)->port : 0)) return true;
        Address bytes{};
        std::ranges::copy(row.key.address, bytes.begin());
        pb::NeighbourEntry entry;
        entry.set_instance(name_or_number(instances, row.key.instance));
        entry.set_address(to_text(bytes));
        entry.set_mac(format_mac(mac));
        if (is_there) {
            entry.set_port(name_or_number(ports, (*place)->port));
            entry.set_vlan((*place)->vlan);
        }
        return sink(entry);
    });
    return read ? done : read;
}

}  // namespace ivds
