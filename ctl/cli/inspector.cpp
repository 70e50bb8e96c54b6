// SPDX-License-Identifier: Apache-2.0
// inspector.cpp -- whether inspectors listen, and what they let pass.
#include <fmt/format.h>

#include <memory>
#include <ostream>

#include "command.h"
#include "table.h"

namespace ivds::cli {
namespace {

std::string silence(double seconds) {
    return seconds < 0 ? "never heard" : fmt::format("{:.1f} s", seconds);
}

Result<int> inspector_states(const Context& context, const std::string& name) {
    pb::InspectorsRequest request;
    request.set_name(name);
    const auto reply = context.agent.inspectors(request);
    if (!reply) return std::unexpected(reply.error());
    if (context.options.json) {
        context.json(*reply);
        return exit_ok;
    }
    Table table({"NAME", "NETDEV", "STATE", ">SILENT", ">SENT", ">PASSED", ">BLOCKED", ">UNANSWERED", ">UNINSPECTED",
                 ">REFUSED"});
    for (const pb::InspectorState& inspector : reply->inspectors())
        table.row({{inspector.name()},
                   {inspector.netdev()},
                   {inspector.listening() ? "listening"
                    : inspector.up()      ? "not listening"
                                          : "down"},
                   {silence(inspector.silent_s())},
                   Cell::number(inspector.sent()),
                   Cell::number(inspector.passed()),
                   Cell::number(inspector.blocked()),
                   Cell::number(inspector.unanswered()),
                   Cell::number(inspector.uninspected()),
                   Cell::number(inspector.refused())});
    table.print(context.io.out, context.io.color);
    return exit_ok;
}

}  // namespace

void add_inspector_command(Commands& commands) {
    CLI::App& group =
        Commands::group(commands.root(), "inspector", "Objects: a program that lets frames of vPorts pass or not");
    auto name = std::make_shared<std::string>();
    CLI::App& state_app = commands.leaf(group, "state", "Whether inspectors listen, and what they let pass",
                                        "ivds-ctl inspector state\nivds-ctl inspector state ips",
                                        [name](const Context& context) { return inspector_states(context, *name); });
    add_value(state_app, "NAME", "INSPECTOR", *name, "this one alone");
}

}  // namespace ivds::cli
