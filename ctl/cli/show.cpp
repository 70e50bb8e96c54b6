// SPDX-License-Identifier: Apache-2.0
// show.cpp -- the state of ports, instances and uplinks: show and status.
#include <fmt/format.h>

#include <algorithm>

#include "command.h"
#include "fields.h"
#include "table.h"

namespace ivds::cli {
namespace {

Cell up_cell(bool up) {
    return up ? Cell{"up", Color::good} : Cell{"down", Color::bad};
}

std::string used_of(std::uint32_t used, std::uint32_t limit) {
    return limit == 0 ? std::to_string(used) : fmt::format("{}/{}", used, limit);
}

void print_ports(const Io& io, const pb::StatusReply& status) {
    Table table({"VPORT", ">ID", "STATE", "INSTANCE", "NETDEV", ">IFINDEX", "VMAC", "GOT", ">MTU", ">LEARNED"});
    for (const pb::PortState& port : status.ports()) {
        if (port.kind() != pb::VPORT) continue;
        table.row({{port.name()},
                   Cell::number(port.id()),
                   up_cell(port.up()),
                   {port.instance()},
                   {port.netdev()},
                   Cell::number_or_none(port.ifindex()),
                   {port.vmac()},
                   {port.got()},
                   Cell::number_or_none(port.mtu_bytes()),
                   {used_of(port.learned(), port.fdb_limit())}});
    }
    table.print(io.out, io.color);
}

void print_uplinks(const Io& io, const pb::StatusReply& status) {
    Table table({"UPLINK", ">ID", "STATE", "NETDEV", ">IFINDEX", "GOT", ">MTU", ">LEARNED"});
    for (const pb::PortState& port : status.ports()) {
        if (port.kind() != pb::UPLINK) continue;
        table.row({{port.name()},
                   Cell::number(port.id()),
                   up_cell(port.up()),
                   {port.netdev()},
                   Cell::number_or_none(port.ifindex()),
                   {port.got()},
                   Cell::number_or_none(port.mtu_bytes()),
                   {used_of(port.learned(), port.fdb_limit())}});
    }
    table.print(io.out, io.color);
}

void print_instances(const Io& io, const pb::StatusReply& status) {
    Table table({"INSTANCE", ">ID", "STATE", "TENANT", "UPLINK", ">VLAN", ">VVLAN", ">VPORTS", ">LEARNED"});
    for (const pb::InstanceState& instance : status.instances()) {
        const bool active = instance.state() == "active";
        table.row({{instance.name()},
                   Cell::number(instance.id()),
                   {instance.state(), active ? Color::good : Color::none},
                   {instance.tenant()},
                   {instance.uplink()},
                   Cell::number_or_none(instance.vlan()),
                   Cell::number_or_none(instance.vvlan()),
                   Cell::number(instance.vports()),
                   {used_of(instance.learned(), instance.fdb_limit())}});
    }
    table.print(io.out, io.color);
}

std::string duration(std::uint64_t seconds) {
    if (seconds < 60) return fmt::format("{} s", seconds);
    if (seconds < 3600) return fmt::format("{} min", seconds / 60);
    if (seconds < 86400) return fmt::format("{} h {} min", seconds / 3600, seconds / 60 % 60);
    return fmt::format("{} d {} h", seconds / 86400, seconds / 3600 % 24);
}

void print_status(const Io& io, const pb::StatusReply& status, const std::string& agent_away) {
    if (agent_away.empty()) {
        io.out << fmt::format("agent       {}, running for {}\n", status.version(), duration(status.uptime_s()));
    } else {
        io.out << fmt::format("agent       {}\n", agent_away);
    }
    io.out << fmt::format("programs    {}\n", status.programs().empty() ? "-" : status.programs());
    io.out << fmt::format("map layout  {}.{}\n", status.layout_major(), status.layout_minor());
    io.out << fmt::format("generation  {}\n\n", status.generation());
    Table table({"PORT", "KIND", "NETDEV", "STATE", "WANTED", "GOT", "WHY"});
    for (const pb::PortState& port : status.ports()) {
        table.row({{port.name()},
                   {kind_name(port.kind())},
                   {port.netdev()},
                   up_cell(port.up()),
                   {mode_name(port.wanted())},
                   {port.got(), port.got() == "none" ? Color::bad : Color::none},
                   {port.rates() == "shaped" ? port.reason() + "; rates shape: fq" : port.reason()}});
    }
    table.print(io.out, io.color);
}

// `show WHAT` leaves in the message what it is about; the schema stays that of status.
Result<int> show(const Context& context, bool ports, bool uplinks, bool instances) {
    auto status = context.source.status();
    if (!status) return std::unexpected(status.error());
    auto* kept = status->mutable_ports();
    kept->erase(
        std::remove_if(kept->begin(), kept->end(),
                       [&](const pb::PortState& port) { return port.kind() == pb::UPLINK ? !uplinks : !ports; }),
        kept->end());
    if (!instances) status->clear_instances();
    if (context.options.json) {
        context.json(*status);
        return exit_ok;
    }
    const bool all = ports && uplinks && instances;
    if (uplinks) print_uplinks(context.io, *status);
    if (all) context.io.out << '\n';
    if (instances) print_instances(context.io, *status);
    if (all) context.io.out << '\n';
    if (ports) print_ports(context.io, *status);
    return exit_ok;
}

}  // namespace

void add_show_commands(Commands& commands) {
    CLI::App& group = Commands::group(commands.root(), "show", "State of ports, instances and uplinks");
    const auto add = [&](const std::string& name, const std::string& description, bool ports, bool uplinks,
                         bool instances) {
        commands.leaf(group, name, description, "ivds-ctl show " + name + "\nivds-ctl show " + name + " --json",
                      [=](const Context& context) { return show(context, ports, uplinks, instances); });
    };
    add("ports", "vPorts: state, instance, interface, vMAC, hooks, MTU, learned MACs", true, false, false);
    add("instances", "Instances: state, tenant, uplink, VLAN and V.VLAN, vPorts, learned MACs", false, false, true);
    add("uplinks", "Uplinks: state, interface, hooks, MTU, learned MACs", false, true, false);
    add("all", "All three tables", true, true, true);

    commands.leaf(commands.root(), "status",
                  "Versions, and for each port the hooks that were wanted, those it got, and why", "ivds-ctl status",
                  [](const Context& context) -> Result<int> {
                      const auto status = context.source.status();
                      if (!status) return std::unexpected(status.error());
                      if (context.options.json) {
                          context.json(*status);
                      } else {
                          print_status(context.io, *status, context.source.agent_away());
                      }
                      return exit_ok;
                  });
}

}  // namespace ivds::cli
