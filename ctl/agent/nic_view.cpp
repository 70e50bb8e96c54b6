// SPDX-License-Identifier: Apache-2.0
#include "agent/nic_view.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "offload/apply/nics.h"

namespace ivds {
namespace {

std::unexpected<Error> no_port(const std::string& name) {
    return fail(Code::not_found, "IVDS-M027", fmt::format("there is no uplink, vport or port's interface {}", name),
                "`ivds-ctl show all` shows the ports");
}

bool in_xdp(const std::string& got) {
    return got.starts_with("native") || got.starts_with("generic");
}

// "ivds_xdp at native XDP of eth1, then ivds_tc at tcx": what sees a frame that comes in by this port.
std::string program_at(const pb::PortState& port) {
    if (port.got().empty()) return fmt::format("unknown at {}: the agent is away", port.netdev());
    if (port.got() == "none") return fmt::format("nothing: no program is on {}", port.netdev());
    const std::size_t plus = port.got().find('+');
    const std::string tc = plus == std::string::npos ? port.got() : port.got().substr(plus + 1);
    if (!in_xdp(port.got())) return fmt::format("ivds_tc at {} of {}", tc, port.netdev());
    return fmt::format("ivds_xdp at {} XDP of {}, then ivds_tc at {}", port.got().substr(0, port.got().find('+')),
                       port.netdev(), plus == std::string::npos ? "nothing" : tc);
}

// Puts together the stages of one vPort from what the maps hold.
class Path {
public:
    Path(const ViewSource& source, const pb::StatusReply& status, const pb::PortState& port, pb::PortMap& out)
        : source_(source), status_(status), port_(port), out_(out) {}

    Result<> run() {
        const auto pinned = source_.maps.port(port_.id());
        if (!pinned) return std::unexpected(pinned.error());
        ivds_instance instance{};
        if (pinned->instance != 0) {
            const auto found = source_.maps.instance(pinned->instance);
            if (!found) return std::unexpected(found.error());
            instance = *found;
        }
        const bool wired = instance.uplink != 0 && (instance.flags & IVDS_IF_WIRE) != 0;
        const pb::PortState* uplink = wired ? port_by_id(instance.uplink) : nullptr;
        const std::string entrance =
            uplink != nullptr ? program_at(*uplink) : "the programs at the other vPorts of the instance";

        if (auto done = vlan_filter(uplink, instance, entrance); !done) return done;
        if (auto done = vvlan_lookup(uplink, *pinned, instance, entrance); !done) return done;
        if (auto done = to_vport(*pinned, entrance); !done) return done;
        return forward(uplink, *pinned);
    }

private:
    Result<> vlan_filter(const pb::PortState* uplink, const ivds_instance& instance, const std::string& entrance) {
        if (uplink == nullptr) {
            stage("VLAN filter", pb::PortMap::PHYSICAL, "nothing: the instance has no wire", "");
            return {};
        }
        const auto carried = source_.maps.vvlan(instance.uplink, instance.vlan, 0);
        if (!carried) return std::unexpected(carried.error());
        std::string entry;
        if (*carried) {
            entry = fmt::format("vvlans {{{}, {}, 0}}: carries V.VLANs", instance.uplink, instance.vlan);
            if (**carried != 0) entry += fmt::format(", plain frames -> instance {}", **carried);
        }
        stage("VLAN filter", pb::PortMap::PHYSICAL, entrance, entry);
        return {};
    }

    Result<> vvlan_lookup(const pb::PortState* uplink, const ivds_port& pinned, const ivds_instance& instance,
                          const std::string& entrance) {
        if (uplink == nullptr) {
            stage("V.VLAN look-up", pb::PortMap::VIRTUAL, entrance,
                  pinned.instance == 0 ? "" : fmt::format("ports [{}].instance = {}", port_.id(), pinned.instance));
            return {};
        }
        const auto named = source_.maps.vvlan(instance.uplink, instance.vlan, instance.vvlan);
        if (!named) return std::unexpected(named.error());
        stage("V.VLAN look-up", pb::PortMap::VIRTUAL, entrance,
              *named ? fmt::format("vvlans {{{}, {}, {}}} -> instance {}", instance.uplink, instance.vlan,
                                   instance.vvlan, **named)
                     : "");
        return {};
    }

    Result<> to_vport(const ivds_port& pinned, const std::string& entrance) {
        Mac vmac{};
        std::ranges::copy(pinned.vmac, vmac.begin());
        std::string entry;
        if (pinned.instance != 0) {
            const auto found = source_.maps.fdb_entry(pinned.instance, vmac);
            if (!found) return std::unexpected(found.error());
            if (*found)
                entry = fmt::format("fdb {{{}, {}}} -> port {}", pinned.instance, format_mac(vmac), (*found)->port);
        }
        stage("tuple to vPort", pb::PortMap::PHYSICAL, entrance, entry);
        return {};
    }

    Result<> forward(const pb::PortState* uplink, const ivds_port& pinned) {
        const auto target = source_.maps.xdp_target(port_.id());
        if (!target) return std::unexpected(target.error());
        const auto comes_by_xdp = [&](const pb::PortState& port) {
            return uplink != nullptr
                       ? &port == uplink
                       : port.kind() == pb::VPORT && port.instance() == port_.instance() && &port != &port_;
        };
        const bool xdp = (pinned.flags & IVDS_PF_XDP_TARGET) != 0 && *target &&
                         std::ranges::any_of(status_.ports(), [&](const pb::PortState& port) {
                             return comes_by_xdp(port) && in_xdp(port.got());
                         });
        const std::string by_tc = fmt::format("bpf_redirect by ivds_tc to {}", port_.netdev());
        if ((pinned.flags & IVDS_PF_UP) == 0) {
            stage("forwarding", pb::PortMap::PHYSICAL, "nothing: the vPort is down", "");
        } else if (pinned.kind == IVDS_PORT_SUB) {
            stage("forwarding", pb::PortMap::PHYSICAL, fmt::format("ivds_tc, with the tag {} on top", pinned.vid),
                  fmt::format("ports [{}].ifindex, of its trunk", pinned.peer));
        } else if (pinned.kind == IVDS_PORT_VF) {
            stage("forwarding", pb::PortMap::PHYSICAL, "the NIC, to which software sends by the uplink",
                  fmt::format("fdb entries with vport = {}", port_.id()));
        } else if (pinned.kind == IVDS_PORT_PATCH) {
            stage("forwarding", pb::PortMap::VIRTUAL, "in by the other end of the patch, without an interface",
                  fmt::format("ports [{}].peer = {}", port_.id(), pinned.peer));
        } else if (xdp) {
            stage("forwarding", pb::PortMap::PHYSICAL,
                  fmt::format("XDP redirect to {}; floods and GSO: {}", port_.netdev(), by_tc),
                  fmt::format("tx [{}] -> ifindex {}", port_.id(), **target));
        } else {
            stage("forwarding", pb::PortMap::PHYSICAL, by_tc,
                  fmt::format("ports [{}].ifindex = {}", port_.id(), pinned.ifindex));
        }
        return {};
    }

    void stage(const char* name, pb::PortMap::Plane plane, const std::string& executor, const std::string& entry) {
        pb::PortMap::Stage& made = *out_.add_stages();
        made.set_number(static_cast<std::uint32_t>(out_.stages_size()));
        made.set_name(name);
        made.set_plane(plane);
        made.set_executor(executor);
        made.set_entry(entry);
    }

    [[nodiscard]] const pb::PortState* port_by_id(std::uint32_t id) const {
        const auto found = std::ranges::find(status_.ports(), id, &pb::PortState::id);
        return found == status_.ports().end() ? nullptr : &*found;
    }

    const ViewSource& source_;
    const pb::StatusReply& status_;
    const pb::PortState& port_;
    pb::PortMap& out_;
};

const Interface* interface_of(const ViewSource& source, const std::string& netdev) {
    if (source.interfaces == nullptr) return nullptr;
    const auto found = source.interfaces->find(netdev);
    return found == source.interfaces->end() ? nullptr : &found->second;
}

pb::Usage usage(std::uint64_t used, std::uint64_t limit) {
    pb::Usage out;
    out.set_used(used);
    out.set_limit(limit);
    return out;
}

pb::VfState vf_state(const offload::Vf& vf, const std::string& uplink, const Model& model) {
    pb::VfState out;
    out.set_index(vf.index);
    out.set_address(vf.address);
    out.set_driver(vf.driver);
    out.set_netdev(vf.netdev);
    out.set_rx_queues(vf.rx_queues);
    out.set_tx_queues(vf.tx_queues);
    out.set_interrupts(vf.interrupts);
    if (vf.iommu_group) out.set_iommu_group(fmt::to_string(*vf.iommu_group));
    switch (offload::holder_of(vf)) {
        case offload::VfHolder::nobody:
            out.set_role(pb::VfState::FREE);
            break;
        case offload::VfHolder::host:
            out.set_role(pb::VfState::HOST);
            break;
        case offload::VfHolder::netns:
            out.set_role(pb::VfState::NETNS);
            break;
        case offload::VfHolder::vm:
            out.set_role(pb::VfState::VM);
            break;
    }
    const auto is = [&](const auto& object) { return !vf.netdev.empty() && object.netdev() == vf.netdev; };
    const auto means = [&](const auto& object) {
        return object.has_vf() && object.vf().pf() == uplink && object.vf().index() == vf.index;
    };
    for (const auto& [name, vport] : model.vports) {
        if (is(*vport)) out.set_role(pb::VfState::VPORT);
        if (is(*vport) || means(*vport)) out.set_vport(name);
    }
    for (const auto& [name, other] : model.uplinks) {
        if (is(*other)) out.set_role(pb::VfState::UPLINK);
        if (is(*other) || means(*other)) out.set_uplink(name);
    }
    return out;
}

bool has_netdev(const pb::VPort& vport) {
    return !vport.netdev().empty();
}

bool meant(const pb::NicRequest& request, const std::string& name, const std::string& netdev) {
    return name == request.name() || netdev == request.name();
}

}  // namespace

std::set<std::string> interfaces_of(const Model& model, const pb::NicRequest& request) {
    std::set<std::string> names;
    for (const auto& [name, uplink] : model.uplinks)
        if (request.name().empty() || meant(request, name, uplink->netdev())) names.insert(uplink->netdev());
    if (!request.name().empty())
        for (const auto& [name, vport] : model.vports)
            if (has_netdev(*vport) && meant(request, name, vport->netdev())) names.insert(vport->netdev());
    return names;
}

std::set<std::string> interfaces_of(const Model& model, const pb::MapRequest& request) {
    std::set<std::string> names;
    for (const auto& [name, vport] : model.vports)
        if (has_netdev(*vport) && (request.vport().empty() || name == request.vport())) names.insert(vport->netdev());
    return names;
}

std::set<std::string> interfaces_of(const Model& model) {
    std::set<std::string> names;
    for (const auto& [name, uplink] : model.uplinks) names.insert(uplink->netdev());
    for (const auto& [name, vport] : model.vports)
        if (has_netdev(*vport)) names.insert(vport->netdev());
    return names;
}

std::string link_text(const Interface* interface) {
    if (interface == nullptr) return "away";
    if (!interface->netdev.admin_up) return "down";
    return interface->netdev.carrier ? "up" : "no_carrier";
}

pb::NetdevCounters counters_of(const Netdev& netdev) {
    pb::NetdevCounters out;
    out.set_rx_packets(netdev.counters.rx_packets);
    out.set_tx_packets(netdev.counters.tx_packets);
    out.set_rx_bytes(netdev.counters.rx_bytes);
    out.set_tx_bytes(netdev.counters.tx_bytes);
    out.set_rx_errors(netdev.counters.rx_errors);
    out.set_tx_errors(netdev.counters.tx_errors);
    out.set_rx_dropped(netdev.counters.rx_dropped);
    out.set_tx_dropped(netdev.counters.tx_dropped);
    out.set_rx_missed(netdev.counters.rx_missed);
    out.set_rx_crc(netdev.counters.rx_crc);
    return out;
}

pb::Netdev netdev_of(const Interface& interface, const std::string& got) {
    const auto answer = [](std::optional<bool> known) {
        return !known ? pb::Netdev::UNKNOWN : *known ? pb::Netdev::YES : pb::Netdev::NO;
    };
    const auto feature = [&](std::uint64_t bit) -> std::optional<bool> {
        if (!interface.netdev.xdp_features) return std::nullopt;
        return (*interface.netdev.xdp_features & bit) != 0;
    };
    const Netdev& netdev = interface.netdev;
    const DriverFacts& facts = interface.facts;
    pb::Netdev out;
    out.set_name(netdev.name);
    out.set_ifindex(netdev.ifindex);
    out.set_kind(netdev.kind);
    out.set_driver(facts.driver);
    out.set_bus_info(facts.bus_info);
    out.set_mac(netdev.mac);
    out.set_link(link_text(&interface));
    out.set_speed_mbps(facts.speed_mbps.value_or(0));
    out.set_mtu_bytes(netdev.mtu);
    out.set_rx_queues(facts.rx_queues.value_or(netdev.rx_queues));
    out.set_tx_queues(facts.tx_queues.value_or(netdev.tx_queues));
    out.set_vfs_total(facts.vfs_total);
    out.set_vfs_enabled(netdev.num_vf);
    out.set_native_xdp(got.starts_with("native") ? pb::Netdev::YES : answer(feature(kXdpBasic)));
    out.set_redirect_target(answer(feature(kXdpNdoXmit)));
    out.set_vlan_strip(answer(facts.vlan_strip ? std::optional(facts.vlan_strip->on) : std::nullopt));
    *out.mutable_counters() = counters_of(netdev);
    return out;
}

Result<pb::NicReply> view_nics(const ViewSource& source, const pb::StatusReply& status,
                               const pb::NicRequest& request) {
    const auto vvlans = source.maps.vvlan_count();
    if (!vvlans) return std::unexpected(vvlans.error());
    pb::NicReply reply;
    for (const pb::PortState& port : status.ports()) {
        if (request.name().empty() ? port.kind() != pb::UPLINK : !meant(request, port.name(), port.netdev()))
            continue;
        pb::NicState& nic = *reply.add_nics();
        *nic.mutable_port() = port;
        if (const Interface* interface = interface_of(source, port.netdev()); interface != nullptr) {
            *nic.mutable_netdev() = netdev_of(*interface, port.got());
        } else {
            nic.mutable_netdev()->set_name(port.netdev());
            if (source.interfaces != nullptr) nic.mutable_netdev()->set_link(link_text(nullptr));
        }
        if (port.kind() == pb::UPLINK && source.interfaces != nullptr)
            if (const auto pf = offload::find_pf("/sys", port.netdev())) {
                nic.set_interrupts(pf->interrupts);
                for (const offload::Vf& vf : pf->vfs) *nic.add_vfs() = vf_state(vf, port.name(), source.model);
            }
        for (const pb::InstanceState& instance : status.instances())
            if (port.kind() == pb::UPLINK ? instance.uplink() == port.name() : instance.name() == port.instance())
                *nic.add_instances() = instance;
        *nic.mutable_ports() = usage(source.ids.ports.size(), IVDS_MAX_PORTS - 1);
        *nic.mutable_instance_entries() = usage(source.ids.instances.size(), IVDS_MAX_INSTANCES - 1);
        *nic.mutable_vvlan_entries() = usage(*vvlans, IVDS_MAX_VVLANS);
        *nic.mutable_fdb() = usage(port.learned(), port.fdb_limit());
    }
    if (reply.nics().empty() && !request.name().empty()) return no_port(request.name());
    return reply;
}

Result<pb::MapReply> view_map(const ViewSource& source, const pb::StatusReply& status,
                              const pb::MapRequest& request) {
    pb::MapReply reply;
    for (const pb::PortState& port : status.ports()) {
        if (port.kind() != pb::VPORT || (!request.vport().empty() && port.name() != request.vport())) continue;
        pb::PortMap& map = *reply.add_vports();
        map.set_vport(port.name());
        map.set_id(port.id());
        map.set_instance(port.instance());
        map.set_vnic(source.model.vports.at(port.name())->vnic());
        map.set_vmac(port.vmac());
        if (source.model.vports.at(port.name())->has_vf()) {
            map.set_placement(port.up() ? pb::PortMap::HW : pb::PortMap::SW);
            map.set_reason(port.up() ? pb::PortMap::CARRIED : pb::PortMap::NOT_CARRIED);
        }
        if (const Interface* interface = interface_of(source, port.netdev()); interface != nullptr) {
            *map.mutable_netdev() = netdev_of(*interface, port.got());
        } else if (!port.netdev().empty()) {
            map.mutable_netdev()->set_name(port.netdev());
            if (source.interfaces != nullptr) map.mutable_netdev()->set_link(link_text(nullptr));
        }
        *map.mutable_counters() = port.counters();
        if (auto done = Path(source, status, port, map).run(); !done) return std::unexpected(done.error());
    }
    if (reply.vports().empty() && !request.vport().empty())
        return fail(Code::not_found, "IVDS-M027", fmt::format("there is no vport {}", request.vport()),
                    "`ivds-ctl vport list` shows all");
    return reply;
}

pb::VlanList vlans_of(const pb::ObjectList& uplinks, const pb::StatusReply& status, const std::string& uplink) {
    std::map<std::pair<std::string, std::uint32_t>, pb::VlanState> vlans;
    const auto add = [&](const pb::InstanceState& instance, std::uint32_t vlan, bool peer) {
        pb::VlanState& state = vlans[{instance.uplink(), vlan}];
        pb::VlanState::Network& network = *state.add_networks();
        network.set_vvlan(instance.vvlan());
        network.set_instance(instance.name());
        network.set_tenant(instance.tenant());
        network.set_peer(peer);
        network.set_vports(instance.vports());
        network.set_port_packets(instance.port_packets());
        network.set_wire_packets(instance.wire_packets());
        state.set_vports(state.vports() + instance.vports());
        state.set_port_packets(state.port_packets() + instance.port_packets());
        state.set_wire_packets(state.wire_packets() + instance.wire_packets());
    };
    for (const pb::Object& object : uplinks.objects()) {
        const pb::Uplink& each = object.uplink();
        if (each.transport_vlan() != 0 && (uplink.empty() || each.name() == uplink))
            vlans[{each.name(), each.transport_vlan()}].set_transport(true);
    }
    for (const pb::InstanceState& instance : status.instances()) {
        if (instance.uplink().empty() || (!uplink.empty() && instance.uplink() != uplink)) continue;
        if (instance.vlan() != 0) add(instance, instance.vlan(), false);
        for (const std::uint32_t vlan : instance.peer_vlans()) add(instance, vlan, true);
    }
    pb::VlanList list;
    for (auto& [key, state] : vlans) {
        state.set_uplink(key.first);
        state.set_vlan(key.second);
        std::ranges::sort(*state.mutable_networks(), {}, &pb::VlanState::Network::vvlan);
        *list.add_vlans() = std::move(state);
    }
    return list;
}

}  // namespace ivds
