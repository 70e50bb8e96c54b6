// SPDX-License-Identifier: Apache-2.0
// flow.cpp -- the flow table: what was decided about flows, and the connections that are open.
#include <fmt/format.h>

#include <memory>
#include <ostream>
#include <vector>

#include "api/codec.h"
#include "list.h"

namespace ivds::cli {
namespace {

std::string protocol_name(std::uint32_t protocol) {
    switch (protocol) {
        case 1:
            return "icmp";
        case 6:
            return "tcp";
        case 17:
            return "udp";
        case 58:
            return "icmp6";
        case 132:
            return "sctp";
        default:
            return std::to_string(protocol);
    }
}

std::string end_text(const std::string& address, std::uint32_t port) {
    if (port == 0) return address;
    return address.find(':') == std::string::npos ? fmt::format("{}:{}", address, port)
                                                  : fmt::format("[{}]:{}", address, port);
}

Cell way_cell(const pb::FlowState::Way& way) {
    if (way.action().empty()) return {"-"};
    return {way.to().empty() ? way.action() : fmt::format("{} {}", way.action(), way.to()),
            way.action() == "drop" ? Color::bad : Color::none};
}

Result<int> list(const Context& context, const pb::FlowsRequest& request) {
    return print_list<pb::FlowState>(
        context,
        {"VPORT", ">VLAN", ">VVLAN", "VMAC", "PROTOCOL", "FROM", "TO", "STATE", "IN", "OUT", ">PACKETS_IN",
         ">PACKETS_OUT", ">IDLE_S", ">EXPIRES_S", "WHERE"},
        1, [&](const auto& print) { return context.source.flows(request, print); },
        [](const pb::FlowState& flow) -> std::vector<Cell> {
            const pb::FrameTuple& tuple = flow.tuple();
            return {{flow.vport()},
                    Cell::number_or_none(flow.vlan()),
                    Cell::number_or_none(flow.vvlan()),
                    {tuple.vmac()},
                    {protocol_name(tuple.protocol())},
                    {end_text(tuple.src(), tuple.src_port())},
                    {end_text(tuple.dst(), tuple.dst_port())},
                    {flow.state()},
                    way_cell(flow.in()),
                    way_cell(flow.out()),
                    Cell::number(flow.in().packets()),
                    Cell::number(flow.out().packets()),
                    Cell::number(flow.idle_s()),
                    Cell::number(flow.expires_s()),
                    {to_text(flow.where())}};
        });
}

Result<int> flush(const Context& context, const pb::FlowsRequest& request) {
    if (request.instance().empty() == request.vport().empty())
        return fail(Code::invalid, "IVDS-U001", "flush what?", "give either --instance or --vport");
    const auto reply = context.agent.flush_flows(request);
    if (!reply) return std::unexpected(reply.error());
    if (context.options.json) {
        context.json(*reply);
    } else {
        context.io.out << fmt::format("{} flow {} removed\n", reply->removed(),
                                      reply->removed() == 1 ? "entry" : "entries");
    }
    return exit_ok;
}

}  // namespace

void add_flow_commands(Commands& commands) {
    CLI::App& group = Commands::group(commands.root(), "flow", "Flows that the switch knows, and open connections");

    auto wanted = std::make_shared<pb::FlowsRequest>();
    CLI::App& list_app =
        commands.leaf(group, "list", "Print the entries; with --json one object a line",
                      "ivds-ctl flow list --vport web1\nivds-ctl flow list --instance red --json\n"
                      "FROM and TO are as the VM sends: IN is what is decided about its frames, OUT about those\n"
                      "to it. A list of more than 4096 entries is not sorted.",
                      [wanted](const Context& context) { return list(context, *wanted); });
    add_value(list_app, "--vport", "VPORT", *wanted->mutable_vport(), "of this vPort alone");
    add_value(list_app, "--instance", "INSTANCE", *wanted->mutable_instance(), "of this instance alone");

    auto flushed = std::make_shared<pb::FlowsRequest>();
    CLI::App& flush_app = commands.leaf(
        group, "flush", "Forget entries: rules decide anew, and connections end that only their entry lets pass",
        "ivds-ctl flow flush --vport web1\nivds-ctl flow flush --instance red",
        [flushed](const Context& context) { return flush(context, *flushed); });
    CLI::Option& instance =
        add_value(flush_app, "--instance", "INSTANCE", *flushed->mutable_instance(), "of this instance");
    add_value(flush_app, "--vport", "VPORT", *flushed->mutable_vport(), "of this vPort").excludes(&instance);
}

}  // namespace ivds::cli
