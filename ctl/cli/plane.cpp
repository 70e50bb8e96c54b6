// SPDX-License-Identifier: Apache-2.0
// plane.cpp -- the physical side and whom it serves: NICs, the way of each vPort's frames, VLANs of the fabric, and
// the tenants' share of the host.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <ostream>

#include "agent/nic_view.h"
#include "api/codec.h"
#include "command.h"
#include "fields.h"
#include "table.h"

namespace ivds::cli {
namespace {

std::string known(const std::string& text) {
    return text.empty() ? "unknown" : text;
}
std::string known(std::uint64_t number, const char* unit) {
    return number == 0 ? "unknown" : fmt::format("{}{}", number, unit);
}

std::string used_of(std::uint64_t used, std::uint64_t limit) {
    return limit == 0 ? std::to_string(used) : fmt::format("{}/{}", used, limit);
}

// One fact a line, with the names in a column.
class Facts {
public:
    explicit Facts(std::ostream& out) : out_(out) {}
    void operator()(const char* name, const std::string& value) const {
        out_ << fmt::format("  {:<18}{}\n", name, value.empty() ? "-" : value);
    }

private:
    std::ostream& out_;
};

std::string used_free(const pb::Usage& usage) {
    return fmt::format("{} used, {} free", usage.used(), usage.limit() - std::min(usage.used(), usage.limit()));
}

void print_netdev(const Facts& fact, const pb::Netdev& netdev) {
    fact("netdev", fmt::format("{} (ifindex {})", netdev.name(), known(netdev.ifindex(), "")));
    fact("kind", netdev.ifindex() == 0 ? "unknown" : netdev.kind().empty() ? "hardware" : netdev.kind());
    fact("driver", known(netdev.driver()));
    fact("bus", known(netdev.bus_info()));
    fact("MAC", known(netdev.mac()));
    fact("link", known(netdev.link()));
    fact("speed", known(netdev.speed_mbps(), " Mbit/s"));
    fact("MTU", known(netdev.mtu_bytes(), ""));
    fact("queues", fmt::format("rx {}, tx {}", known(netdev.rx_queues(), ""), known(netdev.tx_queues(), "")));
}

void print_counters(const Facts& fact, const pb::NetdevCounters& c) {
    fact("received", fmt::format("{} packets, {} bytes", c.rx_packets(), c.rx_bytes()));
    fact("sent", fmt::format("{} packets, {} bytes", c.tx_packets(), c.tx_bytes()));
    fact("errors",
         fmt::format("rx {} (missed {}, CRC {}), tx {}", c.rx_errors(), c.rx_missed(), c.rx_crc(), c.tx_errors()));
    fact("dropped by netdev", fmt::format("rx {}, tx {}", c.rx_dropped(), c.tx_dropped()));
}

void print_nic(const Io& io, const pb::NicState& nic) {
    const pb::PortState& port = nic.port();
    io.out << fmt::format("{}\n", label(port.kind(), port.name()));
    const Facts fact(io.out);
    const pb::Netdev& netdev = nic.netdev();
    print_netdev(fact, netdev);
    fact("VFs", netdev.ifindex() == 0 ? "unknown"
                                      : fmt::format("{} of {} enabled", netdev.vfs_enabled(), netdev.vfs_total()));
    fact("native XDP", to_text(netdev.native_xdp()));
    fact("redirect target", to_text(netdev.redirect_target()));
    fact("VLAN strip", to_text(netdev.vlan_strip()));
    if (netdev.has_counters()) print_counters(fact, netdev.counters());
    fact("hooks", fmt::format("wanted {}, got {}{}", mode_name(port.wanted()), known(port.got()),
                              port.reason().empty() ? "" : ": " + port.reason()));
    fact("last error",
         port.last_error().empty() ? "none" : fmt::format("{} at {}", port.last_error(), port.last_error_time()));
    fact("ports", used_free(nic.ports()));
    fact("instances", used_free(nic.instance_entries()));
    fact("V.VLAN entries", used_free(nic.vvlan_entries()));
    fact("FDB, learned", used_free(nic.fdb()));
    if (nic.interrupts() != 0) fact("interrupts", fmt::to_string(nic.interrupts()));
    if (nic.vfs_size() != 0) {
        Table table({"  VF", "ADDRESS", "ROLE", "USED BY", "DRIVER", "NETDEV", ">RX QUEUES", ">TX QUEUES",
                     ">INTERRUPTS", ">IOMMU GROUP"});
        for (const pb::VfState& vf : nic.vfs())
            table.row({{fmt::format("  {}", vf.index())},
                       {vf.address()},
                       {to_text(vf.role())},
                       {vf.vport().empty() ? vf.uplink() : vf.vport()},
                       {vf.driver()},
                       {vf.netdev()},
                       Cell::number(vf.rx_queues()),
                       Cell::number(vf.tx_queues()),
                       Cell::number(vf.interrupts()),
                       {vf.iommu_group()}});
        table.print(io.out, io.color);
    }
    if (nic.instances().empty()) return;
    Table table({"  INSTANCE", ">VLAN", ">VVLAN", "STATE", "TENANT", ">VPORTS"});
    for (const pb::InstanceState& instance : nic.instances()) {
        table.row({{"  " + instance.name()},
                   Cell::number_or_none(instance.vlan()),
                   Cell::number_or_none(instance.vvlan()),
                   {instance.state()},
                   {instance.tenant()},
                   Cell::number(instance.vports())});
    }
    table.print(io.out, io.color);
}

Result<int> show_nics(const Context& context, const pb::NicRequest& request) {
    const auto reply = context.source.nics(request);
    if (!reply) return std::unexpected(reply.error());
    if (context.options.json) {
        context.json(*reply);
        return exit_ok;
    }
    for (int i = 0; i < reply->nics_size(); ++i) {
        if (i > 0) context.io.out << '\n';
        print_nic(context.io, reply->nics(i));
    }
    return exit_ok;
}

std::string reason_text(pb::PortMap::Reason reason) {
    return reason == pb::PortMap::CARRIED       ? "a VF that the NIC carries"
           : reason == pb::PortMap::NOT_CARRIED ? "a VF that the NIC does not carry: see offload show --why"
                                                : "no VF";
}

void print_map(const Io& io, const pb::PortMap& map) {
    io.out << fmt::format("vport {}\n", map.vport());
    const Facts fact(io.out);
    fact("placement", fmt::format("{}: {}", to_text(map.placement()), reason_text(map.reason())));
    fact("instance", map.instance());
    fact("vNIC", fmt::format("{} {}", map.vnic().empty() ? "-" : map.vnic(), map.vmac()));
    fact("vPort id", std::to_string(map.id()));
    print_netdev(fact, map.netdev());
    const pb::Counters& c = map.counters();
    fact("counters",
         fmt::format("from the VM {} packets, to the VM {}, dropped {}", c.rx_packets(), c.tx_packets(), c.drops()));
    Table table({"  STAGE", "NAME", "PLANE", "ENTRY", "EXECUTED BY"});
    for (const pb::PortMap::Stage& stage : map.stages()) {
        table.row({{fmt::format("  {}", stage.number())},
                   {stage.name()},
                   {to_text(stage.plane())},
                   {stage.entry()},
                   {stage.executor()}});
    }
    table.print(io.out, io.color);
}

Result<int> show_map(const Context& context, const pb::MapRequest& request) {
    const auto reply = context.source.map(request);
    if (!reply) return std::unexpected(reply.error());
    if (context.options.json) {
        context.json(*reply);
        return exit_ok;
    }
    for (int i = 0; i < reply->vports_size(); ++i) {
        if (i > 0) context.io.out << '\n';
        print_map(context.io, reply->vports(i));
    }
    return exit_ok;
}

Result<int> list_vlans(const Context& context, const std::string& uplink) {
    const auto uplinks = context.source.list(pb::UPLINK);
    if (!uplinks) return std::unexpected(uplinks.error());
    if (!uplink.empty() && std::ranges::find(uplinks->objects(), uplink, name_of) == uplinks->objects().end())
        return fail(Code::not_found, "IVDS-M027", fmt::format("there is no uplink {}", uplink),
                    "`ivds-ctl uplink list` shows all");
    const auto status = context.source.status();
    if (!status) return std::unexpected(status.error());
    const pb::VlanList list = vlans_of(*uplinks, *status, uplink);
    if (context.options.json) {
        context.json(list);
        return exit_ok;
    }
    Table table(
        {"UPLINK", ">VLAN", ">VVLAN", "INSTANCE", "TENANT", "ROLE", ">VPORTS", ">PORT_PACKETS", ">WIRE_PACKETS"});
    for (const pb::VlanState& vlan : list.vlans()) {
        const std::string own = vlan.transport() ? "transport" : "home";
        if (vlan.networks().empty()) table.row({{vlan.uplink()}, Cell::number(vlan.vlan()), {}, {}, {}, {own}});
        for (const pb::VlanState::Network& network : vlan.networks()) {
            table.row({{vlan.uplink()},
                       Cell::number(vlan.vlan()),
                       Cell::number(network.vvlan()),
                       {network.instance()},
                       {network.tenant()},
                       {network.peer() ? "peer" : own},
                       Cell::number(network.vports()),
                       Cell::number(network.port_packets()),
                       Cell::number(network.wire_packets())});
        }
    }
    table.print(context.io.out, context.io.color);
    return exit_ok;
}

Result<int> show_tenants(const Context& context, const std::string& name) {
    auto status = context.source.status();
    if (!status) return std::unexpected(status.error());
    // The schema stays that of status; what is not about tenants is left out.
    status->clear_ports();
    status->clear_instances();
    auto* tenants = status->mutable_tenants();
    if (!name.empty()) {
        tenants->erase(std::remove_if(tenants->begin(), tenants->end(),
                                      [&](const pb::TenantState& tenant) { return tenant.name() != name; }),
                       tenants->end());
        if (tenants->empty())
            return fail(Code::not_found, "IVDS-M027", fmt::format("there is no tenant {}", name),
                        "`ivds-ctl tenant show` shows all");
    }
    if (context.options.json) {
        context.json(*status);
        return exit_ok;
    }
    // The rate of a vPort that has none is without end, and so is the sum.
    const auto rate = [](const pb::TenantState& tenant, std::uint64_t mbps) {
        return tenant.unlimited_rates() != 0 ? Cell{"unlimited"} : Cell{used_of(mbps, tenant.max_rate_mbps())};
    };
    Table table({"TENANT", "QUOTA", ">INSTANCES", ">VPORTS", ">UP", ">FDB", ">LEARNED", ">BINDINGS", ">FABRIC",
                 ">IN_MBPS", ">OUT_MBPS", ">PORT_PACKETS", ">WIRE_PACKETS", ">DROPS"});
    for (const pb::TenantState& tenant : *tenants) {
        table.row({{tenant.name()},
                   {tenant.declared() ? "declared" : "none"},
                   {used_of(tenant.instances(), tenant.max_instances())},
                   {used_of(tenant.vports(), tenant.max_vports())},
                   Cell::number(tenant.vports_up()),
                   {used_of(tenant.fdb(), tenant.max_fdb())},
                   Cell::number(tenant.learned()),
                   {used_of(tenant.bindings(), tenant.max_bindings())},
                   {used_of(tenant.fabric_bindings(), tenant.max_fabric_bindings())},
                   rate(tenant, tenant.rate_in_mbps()),
                   rate(tenant, tenant.rate_out_mbps()),
                   Cell::number(tenant.port_packets()),
                   Cell::number(tenant.wire_packets()),
                   {std::to_string(tenant.drops()), tenant.drops() > 0 ? Color::bad : Color::none}});
    }
    table.print(context.io.out, context.io.color);
    return exit_ok;
}

}  // namespace

void add_plane_commands(Commands& commands) {
    CLI::App& nic = Commands::group(commands.root(), "nic", "The network cards under the uplinks");
    auto nics = std::make_shared<pb::NicRequest>();
    CLI::App& nic_app =
        commands.leaf(nic, "show", "What each NIC is and can, its errors, and what of the host is used over it",
                      "ivds-ctl nic show\nivds-ctl nic show eth1 --json\n"
                      "What the driver does not say is unknown.",
                      [nics](const Context& context) { return show_nics(context, *nics); });
    add_value(nic_app, "NAME", "PORT", *nics->mutable_name(), "this uplink, vPort or interface; else all uplinks");

    CLI::App& map = Commands::group(commands.root(), "map", "Where each VM's frames are switched, and by what");
    auto maps = std::make_shared<pb::MapRequest>();
    CLI::App& map_app = commands.leaf(
        map, "show", "Per vPort: placement, vNIC, interface, queues, and the four stages from the wire to the VM",
        "ivds-ctl map show\nivds-ctl map show web1\n"
        "ENTRY is what the pinned maps hold; '-' says that the entry is not there.",
        [maps](const Context& context) { return show_map(context, *maps); });
    add_value(map_app, "NAME", "VPORT", *maps->mutable_vport(), "this vPort alone");

    CLI::App& vlan = Commands::group(commands.root(), "vlan", "VLANs of the fabric, and what they carry here");
    auto uplink = std::make_shared<std::string>();
    CLI::App& vlan_app =
        commands.leaf(vlan, "list", "Per outer VLAN: its V.VLANs, instances, tenants, vPorts and packets",
                      "ivds-ctl vlan list\nivds-ctl vlan list up0\n"
                      "All that is listed under a VLAN stops when the fabric stops to carry it. ROLE: home is the\n"
                      "instance's own VLAN, peer one that its peers are on, transport that of independent instances.",
                      [uplink](const Context& context) { return list_vlans(context, *uplink); });
    add_value(vlan_app, "NAME", "UPLINK", *uplink, "of this uplink alone");

    CLI::App& tenant = Commands::group(commands.root(), "tenant", "");
    auto name = std::make_shared<std::string>();
    CLI::App& tenant_app = commands.leaf(
        tenant, "show", "Per tenant: what it uses of its quota, and what its instances counted together",
        "ivds-ctl tenant show\nivds-ctl tenant show acme\n"
        "FDB is what its instances may learn together. A tenant that is only named has no quota.",
        [name](const Context& context) { return show_tenants(context, *name); });
    add_value(tenant_app, "NAME", "TENANT", *name, "this tenant alone");
}

}  // namespace ivds::cli
