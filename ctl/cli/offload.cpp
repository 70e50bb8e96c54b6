// SPDX-License-Identifier: Apache-2.0
// offload.cpp -- what the NICs carry of the switch and why not the rest, and what one would carry.
#include <fmt/format.h>

#include <array>
#include <memory>
#include <ostream>

#include "agent/offload_view.h"
#include "command.h"
#include "compile/compile.h"
#include "compile/offload.h"
#include "offload/nic/82576.h"
#include "offload/nic/82599.h"
#include "table.h"

namespace ivds::cli {
namespace {

void print_nic(const Context& context, const pb::OffloadNic& nic, bool why) {
    std::ostream& out = context.io.out;
    out << fmt::format("uplink {} ({}): {}", nic.uplink(), nic.netdev(), nic.state());
    if (!nic.chip().empty()) out << ", " << nic.chip();
    if (!nic.backend().empty()) out << " by " << nic.backend();
    if (nic.drifts() != 0) out << fmt::format(", set right {} times: {}", nic.drifts(), nic.last_drift());
    out << '\n';
    if (!nic.error().empty()) out << "  " << nic.error() << '\n';
    for (const std::string& text : nic.shortcomings()) out << "  " << text << '\n';
    if (!nic.tables().empty()) {
        Table tables({"TABLE", ">USED", ">RESERVED", ">FREE", ">SIZE"});
        for (const pb::NicTable& table : nic.tables())
            tables.row({{table.name()},
                        Cell::number(table.used()),
                        Cell::number(table.reserved()),
                        Cell::number(table.size() - table.reserved() - table.used()),
                        Cell::number(table.size())});
        tables.print(out, context.io.color);
    }
    if (nic.objects().empty()) return;
    std::vector<std::string> head{"KIND", "NAME", "WHERE"};
    if (why) head.insert(head.end(), {"REASON", "WHY"});
    Table objects(head);
    for (const pb::Placement& at : nic.objects()) {
        std::vector<Cell> row{{at.kind()}, {at.name()}, {at.where(), at.where() == "hw" ? Color::good : Color::none}};
        if (why) row.insert(row.end(), {{at.reason()}, {at.text()}});
        objects.row(std::move(row));
    }
    objects.print(out, context.io.color);
}

Result<int> print(const Context& context, const pb::OffloadReply& reply, bool why) {
    if (context.options.json) {
        context.json(reply);
        return exit_ok;
    }
    if (reply.nics().empty()) context.io.out << "no uplink has offload: all is software's\n";
    for (const pb::OffloadNic& nic : reply.nics()) {
        print_nic(context, nic, why);
        for (const std::string& step : nic.steps()) context.io.out << "  " << step << '\n';
    }
    return exit_ok;
}

struct Wanted {
    std::string uplink;
    bool why = false;
    bool fdb = false;
};

Result<int> show(const Context& context, const Wanted& wanted) {
    pb::OffloadRequest request;
    request.set_uplink(wanted.uplink);
    request.set_fdb(wanted.fdb);
    const auto reply = context.agent.offload(request);
    if (!reply) return std::unexpected(reply.error());
    return print(context, *reply, wanted.why);
}

const std::array<const offload::Chip*, 2>& chips() {
    static const std::array<const offload::Chip*, 2> all{&offload::i82599::chip(), &offload::i82576::chip()};
    return all;
}

struct Asked {
    std::string file;
    std::string nic;
    bool why = false;
    bool fdb = false;
    bool steps = false;
};

// What NICs would carry of a file's configuration: with all their VFs, and nothing in them yet.
Result<int> plan(const Context& context, const Asked& asked) {
    const auto chip = std::ranges::find(chips(), asked.nic, [](const offload::Chip* known) { return known->name; });
    if (chip == chips().end())
        return fail(Code::invalid, "IVDS-U030", fmt::format("no NIC {} is known", asked.nic),
                    "ivds-ctl offload plan --help lists them");
    auto config = read_config(context.io, asked.file);
    if (!config) return std::unexpected(config.error());
    for (pb::Uplink& uplink : *config->mutable_uplinks()) uplink.set_offload(pb::Uplink::ON);
    const auto no_mac = [](const std::string& netdev) -> Result<Mac> {
        return fail(Code::not_found, "IVDS-U031", fmt::format("the MAC of {} is not looked up for a plan", netdev),
                    "give the pool a physical_mac");
    };
    const auto model = next_from_config({}, std::move(*config), no_mac);
    if (!model) return std::unexpected(model.error());
    const auto ids = assign_ids(*model, {});
    if (!ids) return std::unexpected(ids.error());
    const auto tables = compile(*model, *ids);
    if (!tables) return std::unexpected(tables.error());

    const offload::Snapshot snapshot = offload::snapshot_of(*tables);
    pb::OffloadReply reply;
    for (const NicIntent& intent : nic_intents(*model, *ids)) {
        const offload::Device device = device_of(intent, **chip, (*chip)->virtual_functions);
        const auto made = offload::make_plan(snapshot, device, intent.choices, {});
        if (!made) return std::unexpected(made.error().in("uplink " + intent.uplink));
        pb::OffloadNic& nic = *reply.add_nics();
        nic.set_uplink(intent.uplink);
        nic.set_netdev(intent.netdev);
        nic.set_chip(std::string((*chip)->name));
        nic.set_state("planned");
        nic.set_vfs((*chip)->virtual_functions);
        view_plan(*made, *ids, nic);
        if (asked.fdb) view_fdb(*made, snapshot, *ids, nic);
        if (asked.steps)
            for (const offload::Step& step : made->steps) nic.add_steps(text(step));
    }
    return print(context, reply, asked.why);
}

}  // namespace

void add_offload_commands(Commands& commands) {
    CLI::App& group = Commands::group(commands.root(), "offload", "What NICs carry of the switch, and why not the rest");
    auto wanted = std::make_shared<Wanted>();
    CLI::App& show_app = commands.leaf(group, "show", "Where every object runs: in the NIC, in software or in both",
                                       "ivds-ctl offload show\nivds-ctl offload show up0 --why",
                                       [wanted](const Context& context) { return show(context, *wanted); });
    add_value(show_app, "UPLINK", "UPLINK", wanted->uplink, "the NIC of this uplink alone");
    show_app.add_flag("--why", wanted->why, "the reason for each");
    show_app.add_flag("--fdb", wanted->fdb, "each entry of the forwarding table too");

    auto asked = std::make_shared<Asked>();
    std::string words;
    for (const offload::Chip* chip : chips()) words += fmt::format("{}{}", words.empty() ? "" : "|", chip->name);
    CLI::App& plan_app = commands.leaf(
        group, "plan", "What NICs would carry of a file's configuration; needs neither agent nor NIC",
        "ivds-ctl offload plan --nic 82599 --why switch.yaml\nivds-ctl offload plan --nic 82599 --steps switch.yaml",
        [asked](const Context& context) { return plan(context, *asked); });
    add_value(plan_app, "FILE", "FILE", asked->file, "YAML file; - is standard input").required();
    add_value(plan_app, "--nic", words, asked->nic, "the chip of all uplinks").required();
    plan_app.add_flag("--why", asked->why, "the reason for each");
    plan_app.add_flag("--fdb", asked->fdb, "each entry of the forwarding table too");
    plan_app.add_flag("--steps", asked->steps, "what would be done to a NIC that carries nothing yet");
}

}  // namespace ivds::cli
