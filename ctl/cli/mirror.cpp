// SPDX-License-Identifier: Apache-2.0
// mirror.cpp -- what became of mirrors' copies.
#include <fmt/format.h>

#include <memory>
#include <ostream>

#include "command.h"
#include "table.h"

namespace ivds::cli {
namespace {

Result<int> mirror_states(const Context& context, const std::string& name) {
    pb::MirrorsRequest request;
    request.set_name(name);
    const auto reply = context.agent.mirrors(request);
    if (!reply) return std::unexpected(reply.error());
    if (context.options.json) {
        context.json(*reply);
        return exit_ok;
    }
    Table table({"NAME", ">SESSION", "TO", "FROM", ">PACKETS", ">BYTES", ">REFUSED", ">CUT"});
    for (const pb::MirrorState& mirror : reply->mirrors())
        table.row({{mirror.name()},
                   Cell::number(mirror.session()),
                   {mirror.to()},
                   {mirror.local()},
                   Cell::number(mirror.packets()),
                   Cell::number(mirror.bytes()),
                   Cell::number(mirror.refused()),
                   Cell::number(mirror.cut())});
    table.print(context.io.out, context.io.color);
    return exit_ok;
}

}  // namespace

void add_mirror_commands(Commands& commands) {
    CLI::App& group =
        Commands::group(commands.root(), "mirror", "Objects: copies of frames for somebody who watches");
    auto name = std::make_shared<std::string>();
    CLI::App& state_app = commands.leaf(group, "state", "What became of the copies",
                                        "ivds-ctl mirror state\nivds-ctl mirror state watch",
                                        [name](const Context& context) { return mirror_states(context, *name); });
    add_value(state_app, "NAME", "MIRROR", *name, "this one alone");
}

}  // namespace ivds::cli
