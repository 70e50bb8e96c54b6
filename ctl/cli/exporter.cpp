// SPDX-License-Identifier: Apache-2.0
// exporter.cpp -- what exporters of flows sent, and what did not arrive.
#include <memory>
#include <ostream>

#include "command.h"
#include "table.h"

namespace ivds::cli {
namespace {

Result<int> exporter_states(const Context& context, const std::string& name) {
    pb::ExportersRequest request;
    request.set_name(name);
    const auto reply = context.agent.exporters(request);
    if (!reply) return std::unexpected(reply.error());
    if (context.options.json) {
        context.json(*reply);
        return exit_ok;
    }
    Table table({"NAME", "COLLECTOR", ">FLOWS", ">FLOW_RECORDS", ">PACKET_RECORDS", ">MESSAGES", ">FAILED_RECORDS",
                 ">LOST_SAMPLES", "ERROR"});
    for (const pb::ExporterState& exporter : reply->exporters())
        table.row({{exporter.name()},
                   {exporter.collector()},
                   Cell::number(exporter.flows()),
                   Cell::number(exporter.flow_records()),
                   Cell::number(exporter.packet_records()),
                   Cell::number(exporter.messages()),
                   Cell::number(exporter.failed_records()),
                   Cell::number(exporter.lost_samples()),
                   {exporter.error()}});
    table.print(context.io.out, context.io.color);
    return exit_ok;
}

}  // namespace

void add_exporter_command(Commands& commands) {
    CLI::App& group = Commands::group(commands.root(), "exporter", "Objects: flow records for a collector");
    auto name = std::make_shared<std::string>();
    CLI::App& app = commands.leaf(group, "state", "What was sent to the collector, and what failed",
                                  "ivds-ctl exporter state\nivds-ctl exporter state flows",
                                  [name](const Context& context) { return exporter_states(context, *name); });
    add_value(app, "NAME", "EXPORTER", *name, "this one alone");
}

}  // namespace ivds::cli
