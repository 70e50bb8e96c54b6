// SPDX-License-Identifier: Apache-2.0
// neighbour.cpp -- the addresses for which the switch answers ARP and Neighbour Discovery.
#include <memory>
#include <vector>

#include "list.h"

namespace ivds::cli {
namespace {

Result<int> show(const Context& context, const pb::NeighboursRequest& request) {
    return print_list<pb::NeighbourEntry>(
        context, {"INSTANCE", "ADDRESS", "MAC", "PORT", ">VLAN"}, 2,
        [&](const auto& print) { return context.source.neighbours(request, print); },
        [](const pb::NeighbourEntry& entry) -> std::vector<Cell> {
            return {{entry.instance()},
                    {entry.address()},
                    {entry.mac()},
                    {entry.port()},
                    Cell::number_or_none(entry.vlan())};
        });
}

}  // namespace

void add_neighbour_command(Commands& commands) {
    CLI::App& group = Commands::group(commands.root(), "neighbour", "Addresses that the switch answers for");
    auto wanted = std::make_shared<pb::NeighboursRequest>();
    CLI::App& app = commands.leaf(
        group, "show", "Print who is answered for, by ARP and Neighbour Discovery; with --json one object a line",
        "ivds-ctl neighbour show --instance red\nivds-ctl neighbour show --address 10.0.0.1\n"
        "Instances with answer-neighbours alone have any: of the addresses of vPorts, here and on the\n"
        "registry's hosts. Two vPorts that claim one address have none; see doctor.",
        [wanted](const Context& context) { return show(context, *wanted); });
    add_value(app, "--instance", "INSTANCE", *wanted->mutable_instance(), "of this instance alone");
    add_value(app, "--port", "PORT", *wanted->mutable_port(), "of VMs at this vPort or uplink alone");
    add_value(app, "--address", "ADDRESS", *wanted->mutable_address(), "this IPv4 or IPv6 address alone");
}

}  // namespace ivds::cli
