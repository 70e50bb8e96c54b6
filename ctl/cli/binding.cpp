// SPDX-License-Identifier: Apache-2.0
// binding.cpp -- which host has which vMAC.
#include <fmt/ranges.h>

#include <memory>
#include <ostream>

#include "command.h"
#include "table.h"

namespace ivds::cli {
namespace {

// There may be 100,000: a table is printed in parts of so many rows.
constexpr std::size_t part_rows = 4096;

Result<int> show(const Context& context, const pb::BindingsRequest& request) {
    Table table({">V.VLAN", "VMAC", "VPORT", "SERVER_MAC", ">VLAN", "HOST", ">GENERATION", "INSTANCE", "ADDRESSES"});
    const auto done = context.agent.bindings(request, [&](const pb::BindingEntry& entry) {
        if (context.options.json) {
            context.json(entry);
            return context.io.out.good();
        }
        table.row({Cell::number_or_none(entry.vvlan()),
                   {entry.vmac()},
                   {entry.vport()},
                   {entry.physical_mac()},
                   Cell::number_or_none(entry.vlan()),
                   {entry.host()},
                   Cell::number_or_none(entry.generation()),
                   {entry.instance()},
                   {fmt::format("{}", fmt::join(entry.addresses(), " "))}});
        if (table.rows() == part_rows) table.print(context.io.out, context.io.color);
        return context.io.out.good();
    });
    if (!done) return std::unexpected(done.error());
    if (!context.options.json) table.print(context.io.out, context.io.color);
    return exit_ok;
}

}  // namespace

void add_binding_command(Commands& commands) {
    CLI::App& group =
        Commands::group(commands.root(), "binding", "Which host has which vMAC, in all networks of the registry");
    auto wanted = std::make_shared<pb::BindingsRequest>();
    CLI::App& app = commands.leaf(
        group, "show", "Print the bindings by network and vMAC; with --json one object a line",
        "ivds-ctl binding show --vport web\nWithout a registry these are the bindings of this host alone.",
        [wanted](const Context& context) { return show(context, *wanted); });
    add_value(app, "--instance", "INSTANCE", *wanted->mutable_instance(),
              "in the networks of this host's instance alone");
    add_value(app, "--vport", "VPORT", *wanted->mutable_vport(), "of vPorts by this name: a VM in all its networks");
    add_value(app, "--vmac", "MAC", *wanted->mutable_vmac(), "of this vMAC alone");
    add_value(app, "--host", "HOST", *wanted->mutable_host(), "of this host alone");
}

}  // namespace ivds::cli
