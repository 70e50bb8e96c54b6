// SPDX-License-Identifier: Apache-2.0
// binding.cpp -- which host has which vMAC.
#include <fmt/ranges.h>

#include <memory>
#include <vector>

#include "list.h"

namespace ivds::cli {
namespace {

Result<int> show(const Context& context, const pb::BindingsRequest& request) {
    return print_list<pb::BindingEntry>(
        context,
        {"NETWORK", "VMAC", "VPORT", "SERVER_MAC", ">V.VLAN", ">VLAN", "HOST", ">GENERATION", "INSTANCE", "TENANT",
         "ADDRESSES"},
        2, [&](const auto& print) { return context.agent.bindings(request, print); },
        [](const pb::BindingEntry& entry) -> std::vector<Cell> {
            return {{entry.network()},
                    {entry.vmac()},
                    {entry.vport()},
                    {entry.physical_mac()},
                    Cell::number_or_none(entry.vvlan()),
                    Cell::number_or_none(entry.vlan()),
                    {entry.host()},
                    Cell::number_or_none(entry.generation()),
                    {entry.instance()},
                    {entry.tenant()},
                    {fmt::format("{}", fmt::join(entry.addresses(), " "))}};
        });
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
    add_value(app, "--tenant", "TENANT", *wanted->mutable_tenant(), "of this tenant alone");
}

}  // namespace ivds::cli
