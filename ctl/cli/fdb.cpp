// SPDX-License-Identifier: Apache-2.0
// fdb.cpp -- the forwarding database: show and flush.
#include <fmt/format.h>

#include <memory>
#include <ostream>
#include <vector>

#include "list.h"

namespace ivds::cli {
namespace {

Result<int> show(const Context& context, const pb::FdbRequest& request) {
    return print_list<pb::FdbEntry>(
        context, {"INSTANCE", "MAC", "PORT", ">VLAN", "HOW", ">AGE_S"}, 2,
        [&](const auto& print) { return context.source.fdb(request, print); },
        [](const pb::FdbEntry& entry) -> std::vector<Cell> {
            return {{entry.instance()},
                    {entry.mac()},
                    {entry.port()},
                    Cell::number_or_none(entry.vlan()),
                    {entry.moved()     ? "moved"
                     : entry.static_() ? "static"
                                       : "learned"},
                    {entry.static_() ? "" : std::to_string(entry.age_s())}};
        });
}

Result<int> flush(const Context& context, const pb::FlushRequest& request) {
    if (request.instance().empty() == request.port().empty()) {
        return fail(Code::invalid, "IVDS-U001", "flush what?", "give either --instance or --port");
    }
    const auto reply = context.agent.flush(request);
    if (!reply) return std::unexpected(reply.error());
    if (context.options.json) {
        context.json(*reply);
    } else {
        context.io.out << fmt::format("{} learned {} removed\n", reply->removed(),
                                      reply->removed() == 1 ? "entry" : "entries");
    }
    return exit_ok;
}

}  // namespace

void add_fdb_commands(Commands& commands) {
    CLI::App& group = Commands::group(commands.root(), "fdb", "MAC addresses that the switch knows");

    auto wanted = std::make_shared<pb::FdbRequest>();
    CLI::App& show_app =
        commands.leaf(group, "show", "Print the entries; with --json one object a line",
                      "ivds-ctl fdb show --instance red\nA list of more than 4096 entries is not sorted.",
                      [wanted](const Context& context) { return show(context, *wanted); });
    add_value(show_app, "--instance", "INSTANCE", *wanted->mutable_instance(), "of this instance alone");
    add_value(show_app, "--port", "PORT", *wanted->mutable_port(), "at this vPort or uplink alone");

    auto flushed = std::make_shared<pb::FlushRequest>();
    CLI::App& flush_app =
        commands.leaf(group, "flush", "Forget learned entries; static ones stay",
                      "ivds-ctl fdb flush --instance red\nivds-ctl fdb flush --instance red --mac 02:00:5e:00:00:07\n"
                      "ivds-ctl fdb flush --port web1",
                      [flushed](const Context& context) { return flush(context, *flushed); });
    CLI::Option& instance =
        add_value(flush_app, "--instance", "INSTANCE", *flushed->mutable_instance(), "what this instance learned");
    add_value(flush_app, "--mac", "MAC", *flushed->mutable_mac(), "of the instance, this MAC alone").needs(&instance);
    add_value(flush_app, "--port", "PORT", *flushed->mutable_port(), "what was learned at this vPort or uplink")
        .excludes(&instance);
}

}  // namespace ivds::cli
