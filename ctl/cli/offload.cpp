// SPDX-License-Identifier: Apache-2.0
// offload.cpp -- what the NICs carry of the switch and why not the rest, what one would carry, and whether NIC and
// software then agree.
#include "compile/offload.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <fstream>
#include <memory>
#include <ostream>
#include <sstream>

#include "agent/names.h"
#include "agent/offload_view.h"
#include "command.h"
#include "compile/compile.h"
#include "offload/apply/model.h"
#include "offload/nic/82576.h"
#include "offload/nic/82599.h"
#include "offload/nic/model_82599.h"
#include "offload/plan/uplink.h"
#include "offload/verify/nic.h"
#include "offload/verify/verify.h"
#include "table.h"

namespace ivds::cli {
namespace {

// The last line is for the reader to complete: the port's own counters are cleared by reading, and are the driver's,
// which begin anew with it. ixgbe's tx_packets are those of its interface alone.
void print_traffic(const Context& context, const pb::OffloadNic& nic) {
    std::ostream& out = context.io.out;
    Table table({"CARRIED", ">VF", ">RX_PACKETS", ">RX_BYTES", ">TX_PACKETS", ">TX_BYTES"});
    std::uint64_t sent = nic.software().tx_packets();
    const auto row = [&](const std::string& name, const std::string& vf, const pb::Counters& c) {
        table.row({{name},
                   {vf},
                   Cell::number(c.rx_packets()),
                   Cell::number(c.rx_bytes()),
                   Cell::number(c.tx_packets()),
                   Cell::number(c.tx_bytes())});
    };
    for (const pb::NicTraffic& of : nic.traffic()) {
        row(of.vport(), std::to_string(of.vf()), of.counters());
        sent += of.counters().rx_packets();
    }
    if (nic.has_software()) row("software, by the PF", "", nic.software());
    table.print(out, context.io.color);
    out << fmt::format(
        "VFs and software sent {} packets: what of these the port does not count (ethtool -S {}: {}) meanwhile stays "
        "within the NIC\n",
        sent, nic.netdev(), nic.chip() == offload::i82599::chip().name ? "tx_pkts_nic" : "tx_packets");
}

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
    if (!nic.traffic().empty()) print_traffic(context, nic);
    if (!nic.slots().empty()) {
        Table slots({"REGISTERS", ">SLOT", "HOLD"});
        for (const pb::NicSlot& slot : nic.slots())
            slots.row({{slot.table()}, Cell::number(slot.slot()), {slot.text()}});
        slots.print(out, context.io.color);
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
    bool registers = false;
};

Result<int> show(const Context& context, const Wanted& wanted) {
    pb::OffloadRequest request;
    request.set_uplink(wanted.uplink);
    request.set_fdb(wanted.fdb);
    request.set_registers(wanted.registers);
    const auto reply = context.agent.offload(request);
    if (!reply) return std::unexpected(reply.error());
    return print(context, *reply, wanted.why);
}

// A dump, as `verify --registers` takes it.
Result<int> dump(const Context& context, const std::string& uplink) {
    pb::OffloadRequest request;
    request.set_uplink(uplink);
    request.set_registers(true);
    const auto reply = context.agent.offload(request);
    if (!reply) return std::unexpected(reply.error());
    if (reply->nics().empty() || reply->nics(0).registers().empty())
        return fail(Code::unavailable, "IVDS-U037", fmt::format("no registers of uplink {} are read", uplink),
                    "ivds-ctl offload show says what is in the way");
    if (context.options.json) {
        context.json(reply->nics(0));
        return exit_ok;
    }
    for (const pb::NicRegister& reg : reply->nics(0).registers())
        context.io.out << fmt::format("{:05x} {:08x} {}\n", reg.offset(), reg.value(), reg.name());
    return exit_ok;
}

const std::array<const offload::Chip*, 2>& chips() {
    static const std::array<const offload::Chip*, 2> all{&offload::i82599::chip(), &offload::i82576::chip()};
    return all;
}

// A file's configuration, as NICs that are all of one chip are planned for it: with all their VFs, and nothing in
// them.
struct Draft {
    Ids ids;
    offload::Snapshot tables;
    std::vector<NicIntent> intents;
    const offload::Chip* chip = nullptr;
    unsigned given_vfs = 0;  // 0: all
    // The PF has a pool as well.
    [[nodiscard]] unsigned vfs() const {
        return given_vfs != 0 ? given_vfs : std::min(chip->virtual_functions, chip->pools - 1);
    }
    [[nodiscard]] offload::Device device(const NicIntent& intent) const { return device_of(intent, *chip, vfs()); }
    [[nodiscard]] Result<offload::Plan> plan(const NicIntent& intent) const {
        auto made = offload::make_plan(tables, device(intent), intent.choices, {});
        if (!made) return std::unexpected(made.error().in("uplink " + intent.uplink));
        return made;
    }
};
Result<Draft> read_draft(Io& io, const std::string& file, const std::string& nic) {
    const auto chip = std::ranges::find(chips(), nic, [](const offload::Chip* known) { return known->name; });
    if (chip == chips().end())
        return fail(Code::invalid, "IVDS-U030", fmt::format("no NIC {} is known", nic),
                    "ivds-ctl offload plan --help lists them");
    auto config = read_config(io, file);
    if (!config) return std::unexpected(config.error());
    for (pb::Uplink& uplink : *config->mutable_uplinks())
        if (!uplink.has_vf()) uplink.set_offload(pb::Uplink::ON);
    const auto no_mac = [](const std::string& netdev) -> Result<Mac> {
        return fail(Code::not_found, "IVDS-U031", fmt::format("the MAC of {} is not looked up for a plan", netdev),
                    "give the pool a physical_mac");
    };
    const auto model = next_from_config({}, std::move(*config), no_mac);
    if (!model) return std::unexpected(model.error());
    auto ids = assign_ids(*model, {});
    if (!ids) return std::unexpected(ids.error());
    const auto tables = compile(*model, *ids);
    if (!tables) return std::unexpected(tables.error());
    Draft draft{.ids = std::move(*ids), .tables = offload::snapshot_of(*tables), .intents = {}, .chip = *chip};
    draft.intents = nic_intents(*model, draft.ids);
    return draft;
}

struct Asked {
    std::string file;
    std::string nic;
    bool why = false;
    bool fdb = false;
    bool steps = false;
};

Result<int> plan(const Context& context, const Asked& asked) {
    const auto draft = read_draft(context.io, asked.file, asked.nic);
    if (!draft) return std::unexpected(draft.error());
    pb::OffloadReply reply;
    for (const NicIntent& intent : draft->intents) {
        const auto made = draft->plan(intent);
        if (!made) return std::unexpected(made.error());
        pb::OffloadNic& nic = *reply.add_nics();
        nic.set_uplink(intent.uplink);
        nic.set_netdev(intent.netdev);
        nic.set_chip(std::string(draft->chip->name));
        nic.set_state("planned");
        nic.set_vfs(draft->vfs());
        view_plan(*made, draft->ids, nic);
        if (asked.fdb) view_plan_fdb(*made, draft->tables, draft->ids, nic);
        if (asked.steps)
            for (const offload::Step& step : made->steps) nic.add_steps(text(step));
    }
    return print(context, reply, asked.why);
}

// Registers as a file has them: "OFFSET VALUE" a line, both hexadecimal, and what follows is not looked at; what is
// not in it reads as 0.
class Dump final : public offload::Registers {
public:
    static Result<Dump> read_file(const std::string& name) {
        std::ifstream file(name);
        Dump dump;
        std::uint32_t offset = 0;
        std::uint32_t value = 0;
        std::string line;
        bool is_right = true;
        while (std::getline(file, line)) {
            std::istringstream words(line);
            is_right = is_right && (words >> std::hex >> offset >> value);
            dump.values_[offset] = value;
        }
        if (!is_right || dump.values_.empty())
            return fail(Code::invalid, "IVDS-U032", name + " is no dump of registers",
                        "give a file of lines \"OFFSET VALUE\", both in hexadecimal");
        return dump;
    }
    Result<std::uint32_t> read(std::uint32_t offset) override {
        const auto found = values_.find(offset);
        return found == values_.end() ? 0 : found->second;
    }
    Result<> write(std::uint32_t, std::uint32_t) override {
        return fail(Code::unsupported, "IVDS-U033", "a dump of registers is not written");
    }

private:
    std::map<std::uint32_t, std::uint32_t> values_;
};

struct Doubted {
    std::string uplink;  // of the agent
    std::string file;
    std::string nic;
    std::string registers;
    unsigned vfs = 0;  // 0: all that the chip can have
};

// The registers that the plan makes of a modelled card, or those that somebody read from a real one.
Result<std::unique_ptr<offload::verify::Nic>> card_of(const Doubted& doubted, const offload::Chip& chip,
                                                      const offload::Plan& plan, unsigned pf,
                                                      offload::WireTags tags) {
    if (!doubted.registers.empty()) {
        auto dump = Dump::read_file(doubted.registers);
        if (!dump) return std::unexpected(dump.error());
        return offload::verify::read_nic(chip, *dump);
    }
    if (chip.name != offload::i82599::chip().name)
        return fail(Code::unsupported, "IVDS-U035", fmt::format("there is no model of a card {}", chip.name),
                    "give --registers of a real one, or ask the agent: ivds-ctl verify");
    offload::Model82599 card;
    if (auto done = set_up_as_driver(card, pf, tags); !done) return std::unexpected(done.error());
    const auto backend = make_model(card, pf, tags);
    if (auto done = backend->clear(); !done) return std::unexpected(done.error());
    for (const offload::Step& step : plan.steps)
        if (auto done = backend->apply(step); !done) return std::unexpected(done.error().in(text(step)));
    return offload::verify::read_nic(chip, card);
}

Result<int> print(const Context& context, const pb::VerifyReply& reply, const char* none) {
    if (context.options.json) {
        context.json(reply);
    } else {
        if (reply.verdicts().empty()) context.io.out << none;
        for (const pb::Verdict& verdict : reply.verdicts())
            context.io.out << "uplink " << verdict.uplink() << ": " << verdict.text() << '\n';
    }
    return std::ranges::all_of(reply.verdicts(), &pb::Verdict::holds) ? exit_ok : exit_findings;
}

// The NICs in use, by the agent.
Result<int> verify_running(const Context& context, const Doubted& doubted) {
    if (!doubted.registers.empty())
        return fail(Code::invalid, "IVDS-U034", "registers of a file are held against the configuration of a file",
                    "give the configuration as FILE, or leave --registers out");
    pb::VerifyRequest request;
    request.set_uplink(doubted.uplink);
    const auto reply = context.agent.verify(request);
    if (!reply) return std::unexpected(reply.error());
    return print(context, *reply, "no uplink has offload: all is software's\n");
}

Result<int> verify(const Context& context, const Doubted& doubted) {
    if (doubted.file.empty()) return verify_running(context, doubted);
    if (!doubted.uplink.empty())
        return fail(Code::invalid, "IVDS-U034", "--uplink is for the NICs that the agent has",
                    "leave out FILE, or --uplink");
    auto draft = read_draft(context.io, doubted.file,
                            doubted.nic.empty() ? std::string(offload::i82599::chip().name) : doubted.nic);
    if (!draft) return std::unexpected(draft.error());
    if (doubted.vfs > draft->vfs())
        return fail(Code::invalid, "IVDS-U036",
                    fmt::format("a NIC {} has {} VFs at most", draft->chip->name, draft->vfs()), "give fewer --vfs");
    if (doubted.vfs != 0) draft->given_vfs = doubted.vfs;
    const auto ports = names_by_id(draft->ids.ports);
    const auto instances = names_by_id(draft->ids.instances);
    pb::VerifyReply reply;
    for (const NicIntent& intent : draft->intents) {
        const auto made = draft->plan(intent);
        if (!made) return std::unexpected(made.error());
        offload::Software told;
        for (const offload::Step& step : made->steps)
            if (const auto* software = std::get_if<offload::Software>(&step)) told = *software;
        offload::Device device = draft->device(intent);
        std::erase_if(device.uplinks,
                      [&](const auto& row) { return made->uplinks.at(row.first).reason != offload::Reason::sorted; });
        const auto card =
            card_of(doubted, *draft->chip, *made, device.pf, offload::wire_tags(draft->tables, intent.port));
        if (!card) return std::unexpected(card.error());
        const offload::verify::Verifier verifier({.tables = draft->tables,
                                                  .device = device,
                                                  .told = told,
                                                  .port_names = &ports,
                                                  .instance_names = &instances});
        *reply.add_verdicts() = view_verdict(intent.uplink, verifier.check(**card));
    }
    return print(context, reply, "the file has no uplink\n");
}

}  // namespace

void add_offload_commands(Commands& commands) {
    CLI::App& group = Commands::group(commands.root(), "offload",
                                      "What NICs carry of the switch and why not the rest, and what they shall");
    auto wanted = std::make_shared<Wanted>();
    CLI::App& show_app = commands.leaf(group, "show", "Where every object runs: in the NIC, in software or in both",
                                       "ivds-ctl offload show\nivds-ctl offload show up0 --why",
                                       [wanted](const Context& context) { return show(context, *wanted); });
    add_value(show_app, "UPLINK", "UPLINK", wanted->uplink, "the NIC of this uplink alone");
    show_app.add_flag("--why", wanted->why, "the reason for each");
    show_app.add_flag("--fdb", wanted->fdb, "each entry of the forwarding table too");
    show_app.add_flag("--registers", wanted->registers, "what the NIC's tables hold, as they read back");

    add_offload_set(commands, group);

    auto dumped = std::make_shared<std::string>();
    CLI::App& dump_app = commands.leaf(
        group, "dump", "The NIC's registers that decide about frames, for verify --registers",
        "ivds-ctl offload dump up0 > card.txt", [dumped](const Context& context) { return dump(context, *dumped); });
    add_value(dump_app, "UPLINK", "UPLINK", *dumped, "the uplink").required();

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

    auto doubted = std::make_shared<Doubted>();
    CLI::App& verify_app = commands.leaf(
        commands.root(), "verify",
        "Whether NIC and software do together what the switch alone would, for every class of frames. Without FILE:\n"
        "the NICs that the agent has, by their registers as they read back, and the maps as they are pinned.",
        "ivds-ctl verify\nivds-ctl verify switch.yaml\n"
        "ivds-ctl verify --nic 82576 --vfs 3 --registers card.txt switch.yaml",
        [doubted](const Context& context) { return verify(context, *doubted); });
    add_value(verify_app, "FILE", "FILE", doubted->file, "YAML file of a configuration; - is standard input");
    add_value(verify_app, "--uplink", "UPLINK", doubted->uplink, "without FILE: the NIC of this uplink alone");
    add_value(verify_app, "--nic", words, doubted->nic, "with FILE: the chip of all uplinks; 82599 if not given");
    add_value(verify_app, "--vfs", "N", doubted->vfs, "with FILE: VFs of the card; without: all that it can have");
    add_value(verify_app, "--registers", "FILE", doubted->registers,
              "registers read from a card, \"OFFSET VALUE\" a line in hexadecimal; without: those of a modelled card "
              "with the plan in it");
}

}  // namespace ivds::cli
