// SPDX-License-Identifier: Apache-2.0
// top_test.cpp -- ivds-ctl top: rates from two readings, their order, the picture, the keys, and the command where
// there is no terminal.
#include "cli/top.h"

#include <algorithm>
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <limits>

#include "api/codec.h"
#include "fake_agent.h"

namespace ivds::test {
namespace {

using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;
using cli::TopView;

void add_vport(pb::StatsReply& stats, const char* name, const char* instance, std::uint64_t rx_packets,
               std::uint64_t tx_packets) {
    pb::PortState& port = *stats.add_ports();
    port.set_kind(pb::VPORT);
    port.set_name(name);
    port.set_instance(instance);
    port.set_up(true);
    port.mutable_counters()->set_rx_packets(rx_packets);
    port.mutable_counters()->set_rx_bytes(rx_packets * 100);
    port.mutable_counters()->set_tx_packets(tx_packets);
    port.mutable_counters()->set_tx_bytes(tx_packets * 50);
}

void add_drop(pb::StatsReply& stats, const char* port, const char* reason, std::uint64_t packets) {
    pb::Drop& drop = *stats.add_drops();
    drop.set_port(port);
    drop.set_reason(reason);
    drop.set_packets(packets);
    for (pb::PortState& state : *stats.mutable_ports())
        if (state.name() == port) state.mutable_counters()->set_drops(state.counters().drops() + packets);
}

// An uplink and two instances; vPorts come behind.
pb::StatsReply idle_switch() {
    pb::StatsReply stats;
    pb::PortState& uplink = *stats.add_ports();
    uplink.set_kind(pb::UPLINK);
    uplink.set_name("up0");
    stats.add_instances()->set_name("red");
    stats.add_instances()->set_name("blue");
    return stats;
}

pb::StatsReply first_reading() {
    pb::StatsReply stats = idle_switch();
    add_vport(stats, "web1", "red", 1000, 5000);
    add_vport(stats, "web2", "red", 1000, 1000);
    add_vport(stats, "db1", "blue", 1000, 1000);
    add_drop(stats, "web2", "spoof", 10);
    return stats;
}

// Two seconds later: web1 sent 200 and got 20, db1's counters were made anew, web3 came.
pb::StatsReply second_reading() {
    pb::StatsReply stats = idle_switch();
    add_vport(stats, "web1", "red", 1200, 5020);
    add_vport(stats, "web2", "red", 1000, 1010);
    add_vport(stats, "db1", "blue", 600, 1000);
    add_vport(stats, "web3", "red", 77, 77);
    add_drop(stats, "web2", "spoof", 14);
    add_drop(stats, "web2", "acl", 100);
    stats.mutable_ports(1)->set_flows(12);
    stats.mutable_ports(2)->set_up(false);
    return stats;
}

pb::Top top_of(const cli::TopFilter& filter = {}) {
    return cli::top_rates(first_reading(), second_reading(), 2, filter);
}

std::vector<std::string> names(const pb::Top& top) {
    std::vector<std::string> result;
    for (const pb::VportRates& row : top.vports()) result.push_back(row.vport());
    return result;
}

using Names = std::vector<std::string>;

std::string text_of(const std::vector<cli::TopLine>& lines) {
    std::string text;
    for (const cli::TopLine& line : lines) text += line.text + "\n";
    return text;
}

}  // namespace

TEST_CASE("top's rates are what came between two readings, by their distance", "[R144]") {
    const pb::Top top = top_of();
    CHECK(top.seconds() == Catch::Approx(2));
    REQUIRE(names(top) == Names{"web1", "web2", "db1"});  // no uplink, and nothing of web3 yet
    const pb::VportRates& web1 = top.vports(0);
    CHECK(web1.instance() == "red");
    CHECK(web1.up());
    CHECK(web1.rx_pps() == Catch::Approx(100));
    CHECK(web1.rx_bps() == Catch::Approx(100 * 100 * 8));
    CHECK(web1.tx_pps() == Catch::Approx(10));
    CHECK(web1.tx_bps() == Catch::Approx(10 * 50 * 8));
    CHECK(web1.flows() == 12);
    CHECK(web1.drops().empty());
    // The largest first; one that is new counts from nothing.
    const pb::VportRates& web2 = top.vports(1);
    CHECK(web2.drop_pps() == Catch::Approx(52));
    REQUIRE(web2.drops_size() == 2);
    CHECK(web2.drops(0).reason() == "acl");
    CHECK(web2.drops(0).pps() == Catch::Approx(50));
    CHECK(web2.drops(1).reason() == "spoof");
    CHECK(web2.drops(1).pps() == Catch::Approx(2));
    // A counter that went back holds what came since.
    CHECK(top.vports(2).rx_pps() == Catch::Approx(300));
}

TEST_CASE("top shows the vPorts of an instance, of a part of a name, or of a pattern") {
    CHECK(names(top_of({.instance = "red", .vport = ""})) == Names{"web1", "web2"});
    CHECK(names(top_of({.instance = "", .vport = "b1"})) == Names{"web1", "db1"});
    CHECK(names(top_of({.instance = "", .vport = "*b1"})) == Names{"web1", "db1"});
    CHECK(names(top_of({.instance = "", .vport = "b?"})).empty());
    CHECK(names(top_of({.instance = "blue", .vport = "web*"})).empty());
}

TEST_CASE("top sorts numbers from the largest and words from A, and the other way in reverse") {
    const auto sorted = [](std::size_t column, bool reverse) {
        pb::Top top = top_of();
        cli::top_sort(top, {.column = column, .reverse = reverse});
        return names(top);
    };
    REQUIRE(cli::top_columns[3] == "rx_bps");
    CHECK(sorted(3, false) == Names{"db1", "web1", "web2"});
    CHECK(sorted(3, true) == Names{"web2", "web1", "db1"});
    CHECK(sorted(0, false) == Names{"db1", "web1", "web2"});
    CHECK(sorted(0, true) == Names{"web2", "web1", "db1"});
    CHECK(sorted(1, false) == Names{"db1", "web1", "web2"});
    CHECK(sorted(4, false) == Names{"web1", "web2", "db1"});
    CHECK(sorted(6, false) == Names{"web2", "db1", "web1"});  // equal ones by name
    CHECK(sorted(7, false) == Names{"web1", "db1", "web2"});
}

TEST_CASE("top's picture has totals, drops by reason, and a row for each vPort") {
    const std::string text = text_of(cli::top_lines(top_of(), {}, 0, 0));
    INFO(text);
    CHECK_THAT(text,
               StartsWith("3 vPorts, 2 up; rx 400 packets/s, 320kbit/s; tx 15 packets/s, 6.00kbit/s; 12 flows\n"));
    CHECK_THAT(cli::top_lines(top_of(), {.reverse = true}, 80, 24).back().text, StartsWith("by rx_bps, reversed "));
    CHECK_THAT(text, ContainsSubstring("drops 52/s: acl 50, spoof 2.0\n"));
    CHECK_THAT(text, ContainsSubstring("VPORT  INSTANCE  STATE  RX_PPS  RX_BPS"));
    CHECK_THAT(text, ContainsSubstring("web1   red       up        100   80.0k"));
    CHECK_THAT(text, ContainsSubstring("acl 50, spoof 2.0"));
    CHECK_THAT(text, !ContainsSubstring("q end"));
}

TEST_CASE("top's picture fits any terminal, and scrolling never leaves it empty") {
    pb::Top top;
    for (int i = 0; i < 30; ++i) {
        pb::VportRates& row = *top.add_vports();
        row.set_vport(i == 0 ? std::string("prüfling-00") : "web" + std::to_string(100 + i));
        row.set_drop_pps(1e300);
        for (int reason = 0; reason < 20; ++reason) row.add_drops()->set_reason("ü");
    }
    for (const std::size_t width : {1U, 7U, 80U, 300U}) {
        for (const std::size_t height : {1U, 2U, 4U, 5U, 6U, 24U, 100U}) {
            for (const std::size_t first :
                 {std::size_t{0}, std::size_t{29}, std::numeric_limits<std::size_t>::max()}) {
                CAPTURE(width, height, first);
                const auto lines = cli::top_lines(top, {.first = first}, width, height);
                CHECK(lines.size() <= height);
                for (const cli::TopLine& line : lines) {
                    const auto columns = std::ranges::count_if(
                        line.text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; });
                    CHECK(static_cast<std::size_t>(columns) <= width);
                }
                if (height < 6) continue;
                // Above and below the rows are five lines.
                CHECK(lines.size() == std::min<std::size_t>(height, 35));
                CHECK(std::string("by rx_bps")
                          .starts_with(lines.back().text.substr(0, std::min<std::size_t>(width, 9))));
            }
        }
    }
    CHECK_THAT(text_of(cli::top_lines(top, {.first = 29}, 80, 24)),
               ContainsSubstring("web129") && ContainsSubstring("web111") && !ContainsSubstring("web110"));
    CHECK(text_of(cli::top_lines({}, {}, 80, 24)).starts_with("0 vPorts, 0 up;"));
}

TEST_CASE("top's numbers keep three digits, and never show a thousand of a unit that has a larger one") {
    CHECK(cli::short_number(0) == "0");
    CHECK(cli::short_number(0.25) == "0.2");
    CHECK(cli::short_number(9.96) == "10");
    CHECK(cli::short_number(999.4) == "999");
    CHECK(cli::short_number(999.6) == "1.00k");
    CHECK(cli::short_number(1234) == "1.23k");
    CHECK(cli::short_number(9996) == "10.0k");
    CHECK(cli::short_number(99'960) == "100k");
    CHECK(cli::short_number(999'600) == "1.00M");
    CHECK(cli::short_number(35.06e9) == "35.1G");
    CHECK(cli::short_number(2e15) == "2000T");
}

TEST_CASE("top's keys choose the column, reverse, scroll and end; others do nothing") {
    TopView view;
    const auto press = [&](std::string_view bytes) { cli::top_press(view, bytes, 25); };
    press(">");
    CHECK(view.column == 4);
    press("\033[D\033[D<<");
    CHECK(view.column == 0);
    press("<");
    CHECK(view.column == cli::top_columns.size() - 1);
    press("\033OC");
    CHECK(view.column == 0);
    press("r");
    CHECK(view.reverse);
    press("\033[A");
    CHECK(view.first == 0);
    press("\033[B\033OB\033[6~");
    CHECK(view.first == 12);
    press("\033[6~\033[6~\033[6~");
    CHECK(view.first == 24);
    press("\033[5~\033[A");
    CHECK(view.first == 13);
    press("\033\033[Zx\n");
    CHECK_FALSE(view.ended);
    CHECK((view.column == 0 && view.reverse && view.first == 13));
    press("q");
    CHECK(view.ended);
}

TEST_CASE("top without a terminal prints one table after one interval, sorted as asked, and ends") {
    Shell shell;
    shell.agent.stats_replies = {first_reading(), second_reading()};
    const Outcome done = shell({"top", "--interval", "0.1", "--sort", "tx_pps", "--instance", "red"});
    REQUIRE(done.code == 0);
    CHECK(done.out.find("\nweb1 ") < done.out.find("\nweb2 "));
    CHECK_THAT(done.out, !ContainsSubstring("db1") && !ContainsSubstring("\033") && ContainsSubstring("spoof"));
    CHECK(shell.agent.calls == std::vector<std::string>{"Stats", "Stats"});

    shell.color = true;
    shell.agent.stats_replies = {first_reading(), second_reading()};
    const Outcome colored = shell({"top", "--interval", "0.1", "--once"});
    CHECK_THAT(colored.out, ContainsSubstring("\033[31mweb2 ") && !ContainsSubstring("\033[?1049h"));
}

TEST_CASE("top --json is one message of rates an interval") {
    Shell shell;
    shell.agent.stats_replies = {first_reading(), second_reading()};
    const Outcome done = shell({"top", "--json", "--once", "--interval", "0.1", "--vport", "web1"});
    REQUIRE(done.code == 0);
    CHECK(std::ranges::count(done.out, '\n') == 1);
    CHECK_THAT(done.out, ContainsSubstring(R"("vport":"web1")") && ContainsSubstring(R"("rx_pps":)") &&
                             ContainsSubstring(R"("seconds":0.)") && !ContainsSubstring("web2"));
}

TEST_CASE("top refuses an instance that is none, a column that is none, and no interval at all") {
    Shell shell;
    shell.agent.stats_replies = {first_reading()};
    const Outcome missing = shell({"top", "--instance", "green"});
    CHECK(missing.code == cli::exit_not_found);
    CHECK_THAT(missing.err, ContainsSubstring("green") && ContainsSubstring("IVDS-U005"));
    CHECK(shell({"top", "--sort", "colour"}).code == cli::exit_usage);
    CHECK(shell({"top", "--interval", "0"}).code == cli::exit_usage);
}

}  // namespace ivds::test
