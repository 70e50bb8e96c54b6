// SPDX-License-Identifier: Apache-2.0
// stats.cpp -- counters of ports and instances, drops by reason, and tag pairs that named no instance.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <functional>
#include <memory>
#include <ostream>
#include <thread>
#include <tuple>

#include "command.h"
#include "fields.h"
#include "table.h"

namespace ivds::cli {
namespace {

using Clock = std::chrono::steady_clock;

struct StatsWords {
    std::string port;
    double watch_s = 0;
    std::uint32_t count = 0;
};

// Leaves in the message what concerns one port: its counters, its drops and, of an uplink, its misses.
Result<> keep_port(pb::StatsReply& stats, const std::string& port) {
    const auto keep = [](auto* list, auto&& wanted) {
        list->erase(std::remove_if(list->begin(), list->end(), [&](const auto& item) { return !wanted(item); }),
                    list->end());
    };
    keep(stats.mutable_ports(), [&](const pb::PortState& item) { return item.name() == port; });
    if (stats.ports().empty()) {
        return fail(Code::not_found, "IVDS-U005", "no port is named " + port, "see 'ivds-ctl show all'");
    }
    keep(stats.mutable_drops(), [&](const pb::Drop& item) { return item.port() == port; });
    keep(stats.mutable_misses(), [&](const pb::Miss& item) { return item.uplink() == port; });
    stats.clear_instances();
    return {};
}

void print_stats(const Io& io, const pb::StatsReply& stats) {
    Table ports({"PORT", "KIND", ">RX_PACKETS", ">RX_BYTES", ">TX_PACKETS", ">TX_BYTES", ">RX_LOCAL", ">RX_WIRE",
                 ">RX_FLOOD", ">RX_ANSWERED", ">RX_HOST", ">DROPS"});
    for (const pb::PortState& port : stats.ports()) {
        const pb::Counters& c = port.counters();
        ports.row({{port.name()},
                   {kind_name(port.kind())},
                   Cell::number(c.rx_packets()),
                   Cell::number(c.rx_bytes()),
                   Cell::number(c.tx_packets()),
                   Cell::number(c.tx_bytes()),
                   Cell::number(c.rx_local()),
                   Cell::number(c.rx_wire()),
                   Cell::number(c.rx_flood()),
                   Cell::number(c.rx_answered()),
                   Cell::number(c.rx_host()),
                   {std::to_string(c.drops()), c.drops() > 0 ? Color::bad : Color::none}});
    }
    ports.print(io.out, io.color);

    Table carried({"OF THESE BY NICS", ">RX_PACKETS", ">RX_BYTES", ">TX_PACKETS", ">TX_BYTES"});
    for (const pb::PortState& port : stats.ports()) {
        if (!port.has_nic_counters()) continue;
        const pb::Counters& c = port.nic_counters();
        carried.row({{port.name()},
                     Cell::number(c.rx_packets()),
                     Cell::number(c.rx_bytes()),
                     Cell::number(c.tx_packets()),
                     Cell::number(c.tx_bytes())});
    }
    if (std::ranges::any_of(stats.ports(), &pb::PortState::has_nic_counters)) {
        io.out << '\n';
        carried.print(io.out, io.color);
    }

    if (!stats.instances().empty()) {
        Table instances({"INSTANCE", ">PORT_PACKETS", ">PORT_BYTES", ">WIRE_PACKETS", ">WIRE_BYTES"});
        for (const pb::InstanceState& i : stats.instances()) {
            instances.row({{i.name()},
                           Cell::number(i.port_packets()),
                           Cell::number(i.port_bytes()),
                           Cell::number(i.wire_packets()),
                           Cell::number(i.wire_bytes())});
        }
        io.out << '\n';
        instances.print(io.out, io.color);
    }
    if (!stats.drops().empty()) {
        Table drops({"DROPS AT", "REASON", ">PACKETS", ">BYTES", "MEANING"});
        for (const pb::Drop& drop : stats.drops()) {
            drops.row({{drop.port()},
                       {drop.reason()},
                       Cell::number(drop.packets()),
                       Cell::number(drop.bytes()),
                       {drop.text()}});
        }
        io.out << '\n';
        drops.print(io.out, io.color);
    }
    if (!stats.misses().empty()) {
        Table misses({"MISSES AT", ">VLAN", ">VVLAN", ">PACKETS"});
        for (const pb::Miss& miss : stats.misses()) {
            misses.row({{miss.uplink()},
                        Cell::number(miss.vlan()),
                        Cell::number(miss.vvlan()),
                        Cell::number(miss.packets())});
        }
        io.out << '\n';
        misses.print(io.out, io.color);
    }
}

// Rates of the ports between two readings. A port that was not in the first one has no rate yet.
void print_rates(const Io& io, const pb::StatsReply& before, const pb::StatsReply& after, double seconds) {
    std::map<std::string, const pb::Counters*> first;
    for (const pb::PortState& port : before.ports()) first[port.name()] = &port.counters();
    Table table({"PORT", "KIND", ">RX_PPS", ">RX_MBPS", ">TX_PPS", ">TX_MBPS", ">DROP_PPS"});
    for (const pb::PortState& port : after.ports()) {
        const auto known = first.find(port.name());
        if (known == first.end()) continue;
        const pb::Counters& old = *known->second;
        const pb::Counters& now = port.counters();
        // A counter that went back was made anew; what it holds is what came since.
        const auto per_second = [&](std::uint64_t was, std::uint64_t is) {
            return static_cast<double>(is >= was ? is - was : is) / seconds;
        };
        const auto packets = [&](std::uint64_t was, std::uint64_t is) {
            return Cell{fmt::format("{:.0f}", per_second(was, is))};
        };
        const auto megabits = [&](std::uint64_t was, std::uint64_t is) {
            return Cell{fmt::format("{:.2f}", per_second(was, is) * 8 / 1e6)};
        };
        table.row({{port.name()},
                   {kind_name(port.kind())},
                   packets(old.rx_packets(), now.rx_packets()),
                   megabits(old.rx_bytes(), now.rx_bytes()),
                   packets(old.tx_packets(), now.tx_packets()),
                   megabits(old.tx_bytes(), now.tx_bytes()),
                   packets(old.drops(), now.drops())});
    }
    table.print(io.out, io.color);
}

Result<pb::StatsReply> read(const Context& context, const StatsWords& words) {
    auto stats = context.source.stats();
    if (stats && !words.port.empty()) {
        if (auto kept = keep_port(*stats, words.port); !kept) return std::unexpected(kept.error());
    }
    if (stats) {
        // The maps have no order; people and diffs like one.
        std::ranges::sort(*stats->mutable_drops(), {},
                          [](const pb::Drop& drop) { return std::tuple(drop.port(), drop.reason()); });
        std::ranges::sort(*stats->mutable_misses(), std::greater{}, &pb::Miss::packets);
    }
    return stats;
}

Result<int> stats(const Context& context, const StatsWords& words) {
    auto before = read(context, words);
    if (!before) return std::unexpected(before.error());
    if (words.watch_s <= 0) {
        if (context.options.json) {
            context.json(*before);
        } else {
            print_stats(context.io, *before);
        }
        return exit_ok;
    }
    auto before_at = Clock::now();
    for (std::uint32_t round = 0; words.count == 0 || round < words.count; ++round) {
        std::this_thread::sleep_until(
            before_at + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(words.watch_s)));
        auto after = read(context, words);
        if (!after) return std::unexpected(after.error());
        const auto after_at = Clock::now();
        if (context.options.json) {
            context.json(*after);
        } else {
            if (context.io.color) context.io.out << "\033[H\033[2J";
            print_rates(context.io, *before, *after, std::chrono::duration<double>(after_at - before_at).count());
            context.io.out << '\n' << std::flush;
        }
        if (!context.io.out) break;
        before = std::move(after);
        before_at = after_at;
    }
    return exit_ok;
}

}  // namespace

void add_stats_command(Commands& commands) {
    auto words = std::make_shared<StatsWords>();
    CLI::App& app = commands.leaf(commands.root(), "stats",
                                  "Counters of ports and instances, drops by reason, unknown {VLAN, V.VLAN} pairs",
                                  "ivds-ctl stats\nivds-ctl stats --port web1 --watch 1\n"
                                  "With --watch: rates of the ports; with --json the counters, one object a round.",
                                  [words](const Context& context) { return stats(context, *words); });
    add_value(app, "--port", "PORT", words->port, "this vPort or uplink alone");
    add_value(app, "--watch", "SECS", words->watch_s, "repeat every so many seconds, until interrupted")
        .check(CLI::Range(0.1, 86400.0).description(""));
    add_value(app, "--count", "N", words->count, "with --watch: end after so many rounds").needs("--watch");
}

}  // namespace ivds::cli
