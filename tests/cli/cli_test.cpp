// SPDX-License-Identifier: Apache-2.0
// cli_test.cpp -- ivds-ctl in process, against an agent that answers what the test says.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cerrno>
#include <fstream>
#include <streambuf>

#include "agent/store.h"
#include "api/codec.h"
#include "cli/fields.h"
#include "cli/table.h"
#include "fake_agent.h"

namespace ivds::test {
namespace {

using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::Equals;
using Catch::Matchers::StartsWith;

pb::Object web1() {
    pb::Object object;
    pb::VPort& vport = *object.mutable_vport();
    vport.set_name("web1");
    vport.set_instance("red");
    vport.set_netdev("veth0");
    vport.set_vnic("web1-nic");
    vport.add_extra_macs("02:00:00:00:00:0a");
    vport.set_mtu_bytes(1400);
    return object;
}

std::vector<std::string> lines(const std::string& text) {
    std::vector<std::string> result;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) result.push_back(line);
    return result;
}

pb::StatusReply two_ports() {
    pb::StatusReply status;
    status.set_version(IVDS_VERSION);
    status.set_programs("0.1.0");
    status.set_layout_major(1);
    status.set_generation(7);
    status.set_uptime_s(3700);
    pb::PortState& uplink = *status.add_ports();
    uplink.set_kind(pb::UPLINK);
    uplink.set_name("up0");
    uplink.set_id(1);
    uplink.set_netdev("eth1");
    uplink.set_ifindex(4);
    uplink.set_got("native+tcx");
    uplink.set_up(true);
    uplink.set_mtu_bytes(9000);
    uplink.set_learned(12);
    uplink.set_fdb_limit(1000000);
    pb::PortState& vport = *status.add_ports();
    vport.set_kind(pb::VPORT);
    vport.set_name("web1");
    vport.set_id(12);
    vport.set_instance("red");
    vport.set_netdev("veth0");
    vport.set_vmac("02:00:00:00:00:01");
    vport.set_wanted(pb::NATIVE);
    vport.set_got("none");
    vport.set_reason("interface vanished");
    pb::InstanceState& instance = *status.add_instances();
    instance.set_name("red");
    instance.set_id(1);
    instance.set_uplink("up0");
    instance.set_vlan(10);
    instance.set_vvlan(100);
    instance.set_state("configured");
    instance.set_vports(1);
    instance.set_learned(3);
    instance.set_fdb_limit(16384);
    return status;
}

pb::StatsReply one_reading(std::uint64_t packets) {
    pb::StatsReply stats;
    for (const char* name : {"web1", "web2"}) {
        pb::PortState& port = *stats.add_ports();
        port.set_kind(pb::VPORT);
        port.set_name(name);
        port.mutable_counters()->set_rx_packets(packets);
        port.mutable_counters()->set_rx_bytes(packets * 60);
        port.mutable_counters()->set_drops(5);
        pb::Drop& drop = *stats.add_drops();
        drop.set_port(name);
        drop.set_reason("spoof");
        drop.set_text("the source MAC is not the vPort's");
        drop.set_packets(5);
        drop.set_bytes(300);
    }
    pb::Miss& miss = *stats.add_misses();
    miss.set_uplink("up0");
    miss.set_vlan(10);
    miss.set_vvlan(999);
    miss.set_packets(41);
    stats.add_instances()->set_name("red");
    return stats;
}

TEST_CASE("create sends the fields that its flags name", "[R147]") {
    Shell shell;
    const Outcome done = shell({"vport", "create", "web1", "--instance", "red", "--netdev", "veth0", "--vnic",
                                "web1-nic", "--attach", "native", "--extra-macs", "02:00:00:00:00:0a", "--extra-macs",
                                "02:00:00:00:00:0b", "--mtu-bytes", "9000"});
    REQUIRE(done.err == "");
    REQUIRE(done.code == 0);
    const pb::VPort& sent = shell.agent.put_request.object().vport();
    CHECK(sent.name() == "web1");
    CHECK(sent.instance() == "red");
    CHECK(sent.netdev() == "veth0");
    CHECK(sent.vnic() == "web1-nic");
    CHECK(sent.attach() == pb::NATIVE);
    CHECK(std::vector<std::string>(sent.extra_macs().begin(), sent.extra_macs().end()) ==
          std::vector<std::string>{"02:00:00:00:00:0a", "02:00:00:00:00:0b"});
    CHECK(sent.mtu_bytes() == 9000);
    CHECK(done.out == "vport web1 created\n");
}

TEST_CASE("flags of numbers, switches and lists of entries reach the object") {
    Shell shell;
    const Outcome done =
        shell({"instance", "create", "red", "--mode", "independent", "--scope", "distributed", "--peer-vlans", "20",
               "--peer-vlans", "30,40", "--fdb", "mac=02:00:00:00:00:01,vlan=20", "--fdb",
               "mac=02:00:00:00:00:02,vport=web1", "--draining", "--plain-access"});
    REQUIRE(done.err == "");
    const pb::Instance& sent = shell.agent.put_request.object().instance();
    CHECK(sent.mode() == pb::INDEPENDENT);
    CHECK(sent.scope() == pb::DISTRIBUTED);
    CHECK(std::vector<std::uint32_t>(sent.peer_vlans().begin(), sent.peer_vlans().end()) ==
          std::vector<std::uint32_t>{20, 30, 40});
    REQUIRE(sent.fdb_size() == 2);
    CHECK(sent.fdb(0).mac() == "02:00:00:00:00:01");
    CHECK(sent.fdb(0).vlan() == 20);
    CHECK(sent.fdb(1).vport() == "web1");
    CHECK(sent.draining());
    CHECK(sent.plain_access());
}

TEST_CASE("what the agent filled in is said") {
    Shell shell;
    pb::Vnic& vnic = *shell.agent.object.mutable_vnic();
    vnic.set_name("web1-nic");
    vnic.set_pool("pool0");
    vnic.set_vmac("02:00:00:00:00:01");
    CHECK(shell({"vnic", "create", "web1-nic", "--pool", "pool0"}).out ==
          "vnic web1-nic created (vmac 02:00:00:00:00:01)\n");
}

TEST_CASE("every field of the schema is a flag with a help text") {
    Shell shell;
    for (const pb::Kind kind : cli::all_kinds()) {
        const std::string help = shell({cli::kind_name(kind), "create", "--help"}).out;
        const auto& descriptor = cli::descriptor_of(kind);
        for (int i = 0; i < descriptor.field_count(); ++i) {
            const auto& field = *descriptor.field(i);
            if (field.name() == "name") continue;
            INFO(field.full_name());
            std::string flag = field.name();
            std::ranges::replace(flag, '_', '-');
            // What the agent alone says is no flag.
            CHECK((help.find("--" + flag) != std::string::npos) == !cli::is_told(field));
            CHECK(cli::field_help(field) != nullptr);
        }
    }
}

TEST_CASE("every field of a rule is a flag with a help text") {
    Shell shell;
    const std::string help = shell({"rule", "add", "--help"}).out;
    const auto& descriptor = *pb::Rule::descriptor();
    for (int i = 0; i < descriptor.field_count(); ++i) {
        INFO(descriptor.field(i)->full_name());
        std::string flag = descriptor.field(i)->name();
        std::ranges::replace(flag, '_', '-');
        CHECK_THAT(help, ContainsSubstring("--" + flag));
        CHECK(cli::field_help(*descriptor.field(i)) != nullptr);
    }
}

TEST_CASE("update changes the given fields and keeps the others") {
    Shell shell;
    shell.agent.object = web1();
    const Outcome done = shell({"vport", "update", "web1", "--mtu-bytes", "9000"});
    REQUIRE(done.code == 0);
    pb::VPort wanted = web1().vport();
    wanted.set_mtu_bytes(9000);
    CHECK(to_json(shell.agent.put_request.object().vport()) == to_json(wanted));
    CHECK(shell.agent.ref.kind() == pb::VPORT);
}

TEST_CASE("update replaces a list, and empties it with an empty word") {
    Shell shell;
    shell.agent.object = web1();
    REQUIRE(shell({"vport", "update", "web1", "--extra-macs", "02:00:00:00:00:0b"}).code == 0);
    REQUIRE(shell.agent.put_request.object().vport().extra_macs_size() == 1);
    CHECK(shell.agent.put_request.object().vport().extra_macs(0) == "02:00:00:00:00:0b");
    REQUIRE(shell({"vport", "update", "web1", "--extra-macs", "", "--vnic", ""}).code == 0);
    CHECK(shell.agent.put_request.object().vport().extra_macs_size() == 0);
    CHECK(shell.agent.put_request.object().vport().vnic().empty());
}

TEST_CASE("offload set changes what NICs shall carry, and nothing else", "[R98]") {
    Shell shell;
    shell.agent.object = web1();
    REQUIRE(shell({"offload", "set", "vport", "web1", "--offload", "forbid"}).code == 0);
    pb::VPort wanted = web1().vport();
    wanted.set_offload(pb::VPort::FORBID);
    CHECK(to_json(shell.agent.put_request.object().vport()) == to_json(wanted));

    shell.agent.object.mutable_uplink()->set_name("up0");
    shell.agent.object.mutable_uplink()->set_netdev("ens1f0");
    REQUIRE(shell({"offload", "set", "uplink", "up0", "--offload", "on", "--reserved-macs", "8", "--reserved-vlans",
                   "2", "--tags", "single", "--vfs", "4"})
                .code == 0);
    pb::Uplink uplink = shell.agent.object.uplink();
    uplink.set_offload(pb::Uplink::ON);
    uplink.set_reserved_macs(8);
    uplink.set_reserved_vlans(2);
    uplink.set_tags(pb::Uplink::SINGLE);
    uplink.set_vfs(4);
    CHECK(to_json(shell.agent.put_request.object().uplink()) == to_json(uplink));
    CHECK(shell.agent.ref.kind() == pb::UPLINK);

    shell.agent.calls.clear();
    CHECK(shell({"offload", "set", "vport", "web1", "--mtu-bytes", "1400"}).code == cli::exit_usage);
    CHECK(shell({"offload", "set", "uplink", "up0", "--netdev", "eth9"}).code == cli::exit_usage);
    CHECK(shell({"offload", "set", "vport", "web1"}).code == cli::exit_usage);
    CHECK(shell.agent.calls.empty());
}

TEST_CASE("an update of nothing is a mistake") {
    Shell shell;
    CHECK(shell({"vport", "update", "web1"}).code == cli::exit_usage);
    CHECK(shell.agent.calls.empty());
}

TEST_CASE("an object may be named like a command") {
    Shell shell;
    shell.agent.object = web1();
    for (const char* name : {"status", "show", "vport", "get", "apply"}) {
        REQUIRE(shell({"vport", "get", name}).code == 0);
        CHECK(shell.agent.ref.name() == name);
    }
}

TEST_CASE("wrong words end with exit code 2, a reason and a hint, and ask nothing of the agent", "[R147]") {
    const auto words = GENERATE(values<std::vector<std::string>>({
        {},
        {"vport"},
        {"nope"},
        {"vport", "creat", "web1"},
        {"vport", "create"},
        {"vport", "create", "web1", "--netdev", "a", "--netdev", "b"},
        {"vport", "create", "web1", "--attach", "fast"},
        {"vport", "create", "web1", "--mtu-bytes", "many"},
        {"vport", "create", "web1", "--mtu-bytes", "4294967296"},
        {"vport", "get", "web1", "web2"},
        {"instance", "create", "red", "--fdb", "mac=02:00:00:00:00:01,port=web1"},
        {"show", "ports", "--jsn"},
        {"apply"},
        {"apply", "-f", "/no/such/file"},
        {"stats", "--watch", "0"},
        {"stats", "--count", "2"},
        {"fdb", "flush"},
        {"fdb", "flush", "--mac", "02:00:00:00:00:01"},
        {"fdb", "flush", "--instance", "red", "--port", "web1"},
        {"vmac", "release", "pool0"},
        {"--timeout", "soon", "status"},
    }));
    Shell shell;
    const Outcome done = shell(words);
    INFO(done.err);
    CHECK(done.code == cli::exit_usage);
    CHECK(done.out == "");
    CHECK_THAT(done.err, StartsWith("ivds-ctl: ") && ContainsSubstring(" [IVDS-") && ContainsSubstring("\nfix: "));
    CHECK(shell.agent.calls.empty());
}

TEST_CASE("a mistyped command is answered with the nearest one") {
    Shell shell;
    CHECK_THAT(shell({"vport", "creat", "web1"}).err, ContainsSubstring("'ivds-ctl vport' has no command 'creat'") &&
                                                          ContainsSubstring("did you mean 'ivds-ctl vport create'?"));
}

TEST_CASE("the agent's errors become exit codes and keep id, text and fix", "[R147]") {
    const auto [kind, code] = GENERATE(table<Code, int>({
        {Code::invalid, cli::exit_usage},
        {Code::not_found, cli::exit_not_found},
        {Code::exists, cli::exit_conflict},
        {Code::conflict, cli::exit_conflict},
        {Code::busy, cli::exit_conflict},
        {Code::exhausted, cli::exit_exhausted},
        {Code::unsupported, cli::exit_unsupported},
        {Code::foreign, cli::exit_unsupported},
        {Code::layout, cli::exit_unsupported},
        {Code::unavailable, cli::exit_unavailable},
        {Code::system, cli::exit_refused},
    }));
    Shell shell;
    shell.agent.failure = Error{kind, "IVDS-X123", "the thing; with a part", "mend it", 0};
    const Outcome done = shell({"vport", "delete", "web1"});
    CHECK(done.code == code);
    CHECK(done.err == "ivds-ctl: the thing; with a part [IVDS-X123]\nfix: mend it\n");
}

TEST_CASE("what the system said to the agent reaches the command line", "[R147]") {
    Shell shell;
    shell.agent.failure = Error{Code::system, "IVDS-X123", "set eth1 up", "", EPERM};
    const Outcome done = shell({"vport", "delete", "web1"});
    CHECK(done.err == "ivds-ctl: set eth1 up: Operation not permitted [IVDS-X123]\n");
}

TEST_CASE("a refusal of a reading command is an answer, not an absence") {
    Shell shell;
    shell.agent.failure = Error{Code::unavailable, "IVDS-X123", "the interface is away", "", 0};
    const Outcome done = shell({"status"});
    CHECK(done.code == cli::exit_unavailable);
    CHECK(done.err == "ivds-ctl: the interface is away [IVDS-X123]\n");
}

TEST_CASE("a writing command without an agent ends with exit code 7 and says how to start it") {
    Shell shell;
    shell.stop_agent();
    const Outcome done = shell({"vport", "delete", "web1"});
    CHECK(done.code == cli::exit_unavailable);
    CHECK_THAT(done.err, ContainsSubstring("no agent answers at " + shell.socket() + " [IVDS-U010]") &&
                             ContainsSubstring("\nfix: systemctl start ivdsd\n"));
}

TEST_CASE("an agent that does not answer in time is unavailable") {
    Shell shell;
    shell.agent.silent = true;
    const Outcome done = shell({"vport", "delete", "web1", "--timeout", "0.1"});
    CHECK(done.code == cli::exit_unavailable);
    CHECK_THAT(done.err, ContainsSubstring("does not answer in time [IVDS-U011]"));
}

TEST_CASE("apply sends the file and shows the changes", "[R147]") {
    Shell shell;
    shell.input = "instances:\n  - name: red\n    vvlan: 100\n";
    pb::Change& created = *shell.agent.applied.add_changes();
    created.set_verb("create");
    created.set_kind(pb::INSTANCE);
    created.set_name("red");
    pb::Change& updated = *shell.agent.applied.add_changes();
    updated.set_verb("update");
    updated.set_kind(pb::VMAC_POOL);
    updated.set_name("pool0");
    updated.add_fields("size: 64 -> 128");
    pb::Change& removed = *shell.agent.applied.add_changes();
    removed.set_verb("delete");
    removed.set_kind(pb::VPORT);
    removed.set_name("web9");
    shell.agent.applied.set_generation(8);
    pb::Finding& finding = *shell.agent.applied.add_findings();
    finding.set_severity("warning");
    finding.set_id("IVDS-P004");
    finding.set_object("eth1");
    finding.set_text("strips the outer tag");
    finding.set_fix("ethtool -K eth1 rxvlan off");

    const std::string changes =
        "+ instance red\n"
        "~ vmac-pool pool0\n"
        "    size: 64 -> 128\n"
        "- vport web9\n"
        "1 to create, 1 to update, 1 to delete\n";
    const Outcome done = shell({"apply", "-f", "-"});
    CHECK(done.code == 0);
    CHECK(done.out == changes + "applied: generation 8\n");
    CHECK(done.err == "warning IVDS-P004 eth1: strips the outer tag\n    fix: ethtool -K eth1 rxvlan off\n");
    CHECK(shell.agent.apply_request.config().instances(0).vvlan() == 100);
    CHECK_FALSE(shell.agent.apply_request.dry_run());
    CHECK_FALSE(shell.agent.apply_request.strict());

    CHECK(shell({"apply", "-f", "-", "--dry-run", "--strict"}).out == changes + "dry run: nothing was changed\n");
    CHECK(shell.agent.apply_request.dry_run());
    CHECK(shell.agent.apply_request.strict());
}

TEST_CASE("apply of what is there says so") {
    Shell shell;
    CHECK(shell({"apply", "-f", "-"}).out == "nothing to change\n");
}

TEST_CASE("apply names the place of a mistake in the file") {
    Shell shell;
    shell.input = "instances:\n  - name: red\n    vvlans: 100\n";
    const Outcome done = shell({"apply", "-f", "-"});
    CHECK(done.code == cli::exit_usage);
    CHECK_THAT(done.err, ContainsSubstring("standard input:3:5: ") && ContainsSubstring("vvlans"));
    CHECK(shell.agent.calls.empty());
}

TEST_CASE("export writes what apply takes, also a configuration larger than gRPC's own limit") {
    Shell shell;
    pb::Instance& instance = *shell.agent.config.add_instances();
    instance.set_name("red");
    for (int i = 0; i < 200000; ++i) {
        pb::StaticMac& entry = *instance.add_fdb();
        entry.set_mac("02:00:00:00:00:01");
        entry.set_vlan(20);
    }
    REQUIRE(shell.agent.config.ByteSizeLong() > 4U << 20U);
    const std::string file = shell.directory() + "/out.yaml";
    REQUIRE(shell({"export", "-o", file}).code == 0);
    std::ifstream stream(file);
    const std::string text(std::istreambuf_iterator<char>(stream), {});
    CHECK(std::ranges::count(text, '\n') > 200000);
    REQUIRE(shell({"apply", "-f", file}).code == 0);
    CHECK(shell.agent.apply_request.config().SerializeAsString() == shell.agent.config.SerializeAsString());
}

TEST_CASE("a file that cannot be written is an error") {
    Shell shell;
    CHECK(shell({"export", "-o", shell.directory() + "/no/such/directory"}).code == cli::exit_refused);
}

TEST_CASE("get prints what a configuration file would hold") {
    Shell shell;
    shell.agent.object = web1();
    CHECK(shell({"vport", "get", "web1"}).out ==
          "name: web1\ninstance: red\nnetdev: veth0\nvnic: web1-nic\n"
          "extra_macs: [\"02:00:00:00:00:0a\"]\nmtu_bytes: 1400\n");
}

TEST_CASE("list shows the fields that are used, and names alone on request") {
    Shell shell;
    *shell.agent.objects.add_objects() = web1();
    pb::VPort& other = *shell.agent.objects.add_objects()->mutable_vport();
    other.set_name("db");
    other.set_instance("blue-and-long");
    other.set_netdev("tap7");
    other.set_attach(pb::TCX);
    CHECK(shell({"vport", "list"}).out ==
          "NAME  INSTANCE       NETDEV  VNIC      ATTACH  EXTRA_MACS         MTU_BYTES  OFFLOAD  STATE\n"
          "web1  red            veth0   web1-nic  auto    02:00:00:00:00:0a       1400  auto     active\n"
          "db    blue-and-long  tap7    -         tcx     -                          -  auto     active\n");
    CHECK(shell.agent.listed == pb::VPORT);
    CHECK(shell({"vport", "list", "--names"}).out == "web1\ndb\n");
}

TEST_CASE("vmac reserve prints the address alone") {
    Shell shell;
    shell.agent.vmac = "02:00:00:00:00:07";
    CHECK(shell({"vmac", "reserve", "pool0", "--vmac", "02:00:00:00:00:07"}).out == "02:00:00:00:00:07\n");
    CHECK(shell.agent.vmac_request.pool() == "pool0");
    CHECK(shell.agent.vmac_request.vmac() == "02:00:00:00:00:07");
    CHECK(shell({"vmac", "release", "pool1", "02:00:00:00:00:08"}).code == 0);
    CHECK(shell.agent.vmac_request.pool() == "pool1");
    CHECK(shell.agent.vmac_request.vmac() == "02:00:00:00:00:08");
}

TEST_CASE("show prints aligned tables with a dash for what is empty") {
    Shell shell;
    shell.agent.status_reply = two_ports();
    CHECK(shell({"show", "ports"}).out ==
          "VPORT  ID  STATE  INSTANCE  NETDEV  IFINDEX  VMAC               GOT   MTU  LEARNED\n"
          "web1   12  down   red       veth0         -  02:00:00:00:00:01  none    -        0\n");
    CHECK(shell({"show", "uplinks"}).out ==
          "UPLINK  ID  STATE  NETDEV  IFINDEX  GOT          MTU     LEARNED\n"
          "up0      1  up     eth1          4  native+tcx  9000  12/1000000\n");
    CHECK(shell({"show", "instances"}).out ==
          "INSTANCE  ID  STATE       TENANT  UPLINK  VLAN  VVLAN  VPORTS  LEARNED\n"
          "red        1  configured  -       up0       10    100       1  3/16384\n");
    const std::string all = shell({"show", "all"}).out;
    CHECK(all == shell({"show", "uplinks"}).out + "\n" + shell({"show", "instances"}).out + "\n" +
                     shell({"show", "ports"}).out);
}

TEST_CASE("status shows versions, and wanted, got and why for every port") {
    Shell shell;
    shell.agent.status_reply = two_ports();
    CHECK(shell({"status"}).out == "agent       " IVDS_VERSION
                                   ", running for 1 h 1 min\n"
                                   "programs    0.1.0\n"
                                   "map layout  1.0\n"
                                   "generation  7\n"
                                   "\n"
                                   "PORT  KIND    NETDEV  STATE  WANTED  GOT         WHY\n"
                                   "up0   uplink  eth1    up     auto    native+tcx  -\n"
                                   "web1  vport   veth0   down   native  none        interface vanished\n");
}

TEST_CASE("colour is for terminals") {
    Shell shell;
    shell.agent.status_reply = two_ports();
    CHECK_THAT(shell({"status"}).out, !ContainsSubstring("\033"));
    shell.color = true;
    const std::string colored = shell({"status"}).out;
    CHECK_THAT(colored, ContainsSubstring("\033[32mup\033[0m") && ContainsSubstring("\033[31mdown\033[0m"));
    CHECK_THAT(shell({"status", "--json"}).out, !ContainsSubstring("\033"));
}

TEST_CASE("stats names each drop's reason and the pairs that named no instance", "[R146]") {
    Shell shell;
    shell.agent.stats_replies = {one_reading(7)};
    const std::string out = shell({"stats"}).out;
    CHECK_THAT(out, ContainsSubstring("PORT  KIND   RX_PACKETS  RX_BYTES") &&
                        ContainsSubstring("web1  vport           7       420") &&
                        ContainsSubstring("DROPS AT  REASON  PACKETS  BYTES  MEANING\n"
                                          "web1      spoof         5    300  the source MAC is not the vPort's\n") &&
                        ContainsSubstring("MISSES AT  VLAN  VVLAN  PACKETS\n"
                                          "up0          10    999       41\n"));
}

TEST_CASE("stats of one port shows that port alone") {
    Shell shell;
    shell.agent.stats_replies = {one_reading(7)};
    const std::string out = shell({"stats", "--port", "web2"}).out;
    CHECK_THAT(out, ContainsSubstring("web2") && !ContainsSubstring("web1") && !ContainsSubstring("MISSES"));
    const Outcome missing = shell({"stats", "--port", "web3"});
    CHECK(missing.code == cli::exit_not_found);
    CHECK_THAT(missing.err, ContainsSubstring("web3"));
}

TEST_CASE("stats --watch prints a table of rates each round, from the second reading on") {
    Shell shell;
    pb::StatsReply grown = one_reading(2000007);
    grown.add_ports()->set_name("new");
    shell.agent.stats_replies = {one_reading(7), grown};
    const Outcome done = shell({"stats", "--watch", "0.1", "--count", "2"});
    REQUIRE(done.code == 0);
    std::vector<std::string> words;
    std::istringstream first_row(lines(done.out).at(1));
    for (std::string word; first_row >> word;) words.push_back(word);
    REQUIRE(words.size() == 7);
    CHECK(words[0] == "web1");
    CHECK(std::stod(words[2]) > 0);  // 2,000,000 packets, in whatever time it took
    CHECK(words[4] == "0");          // nothing was sent
    CHECK_THAT(lines(done.out).at(0), StartsWith("PORT  KIND "));
    CHECK(std::ranges::count(lines(done.out), lines(done.out).at(0)) >= 1);
    // Both rounds have a blank line at their end; the port that came in between has rates in the second only.
    CHECK(std::ranges::count(lines(done.out), std::string()) == 2);
    CHECK(std::ranges::count_if(lines(done.out), [](const std::string& l) { return l.starts_with("new "); }) == 1);
}

TEST_CASE("fdb show asks for what is wanted, sorts a short list and tells what is sent on to where a VM went",
          "[R161]") {
    Shell shell;
    for (const char* mac : {"02:00:00:00:00:02", "02:00:00:00:00:01"}) {
        pb::FdbEntry& entry = shell.agent.fdb.emplace_back();
        entry.set_instance("red");
        entry.set_mac(mac);
        entry.set_port("up0");
        entry.set_vlan(20);
        entry.set_age_s(5);
    }
    shell.agent.fdb[0].set_static_(true);
    pb::FdbEntry& moved = shell.agent.fdb.emplace_back(shell.agent.fdb[0]);
    moved.set_mac("02:00:00:00:00:03");
    moved.set_moved(true);
    CHECK(shell({"fdb", "show", "--instance", "red", "--port", "up0"}).out ==
          "INSTANCE  MAC                PORT  VLAN  HOW      AGE_S\n"
          "red       02:00:00:00:00:01  up0     20  learned      5\n"
          "red       02:00:00:00:00:02  up0     20  static       -\n"
          "red       02:00:00:00:00:03  up0     20  moved        -\n");
    CHECK(shell.agent.fdb_request.instance() == "red");
    CHECK(shell.agent.fdb_request.port() == "up0");
}

TEST_CASE("neighbour show asks for what is wanted and tells who is answered for, and where", "[R153]") {
    Shell shell;
    for (const char* address : {"fd00::2", "10.0.0.2"}) {
        pb::NeighbourEntry& entry = shell.agent.neighbours.emplace_back();
        entry.set_instance("red");
        entry.set_address(address);
        entry.set_mac("02:00:00:00:00:02");
    }
    shell.agent.neighbours[0].set_port("up0");
    shell.agent.neighbours[0].set_vlan(200);
    CHECK(shell({"neighbour", "show", "--instance", "red", "--port", "up0", "--address", "fd00::2"}).out ==
          "INSTANCE  ADDRESS   MAC                PORT  VLAN\n"
          "red       10.0.0.2  02:00:00:00:00:02  -        -\n"
          "red       fd00::2   02:00:00:00:00:02  up0    200\n");
    CHECK(shell.agent.neighbours_request.instance() == "red");
    CHECK(shell.agent.neighbours_request.port() == "up0");
    CHECK(shell.agent.neighbours_request.address() == "fd00::2");
    CHECK(shell({"neighbour", "show", "--json"}).out ==
          to_json(shell.agent.neighbours[0]) + "\n" + to_json(shell.agent.neighbours[1]) + "\n");
}

TEST_CASE("fdb show prints a long list whole") {
    Shell shell;
    shell.agent.fdb.resize(10000);
    for (pb::FdbEntry& entry : shell.agent.fdb) entry.set_instance("red");
    CHECK(lines(shell({"fdb", "show"}).out).size() == 10001);
    CHECK(lines(shell({"fdb", "show", "--json"}).out).size() == 10000);
}

TEST_CASE("a list that breaks off is an error, and nothing is printed twice") {
    Shell shell;
    shell.agent.silent = true;
    shell.agent.fdb.resize(3);
    for (pb::FdbEntry& entry : shell.agent.fdb) entry.set_instance("red");
    const Outcome done = shell({"fdb", "show", "--json", "--timeout", "0.5"});
    CHECK(done.code == cli::exit_unavailable);
    CHECK(lines(done.out).size() == 3);
    CHECK_THAT(done.err, ContainsSubstring("[IVDS-U011]") && !ContainsSubstring("note: "));
}

TEST_CASE("binding show asks for what is wanted and tells which host has which vMAC", "[R153][R155]") {
    Shell shell;
    for (const auto& [vlan, host] : {std::pair{100, "a"}, {200, "b"}}) {
        pb::BindingEntry& entry = shell.agent.bindings.emplace_back();
        entry.set_network(std::to_string(vlan) + ".10");
        entry.set_vvlan(10);
        entry.set_vmac("02:00:00:00:00:01");
        entry.set_vport("web");
        entry.set_vlan(static_cast<std::uint32_t>(vlan));
        entry.set_host(host);
    }
    shell.agent.bindings[0].set_physical_mac("02:aa:00:00:00:01");
    shell.agent.bindings[0].set_generation(3);
    shell.agent.bindings[0].set_instance("red");
    shell.agent.bindings[0].set_tenant("acme");
    for (const char* address : {"10.0.0.1", "fd00::1"}) shell.agent.bindings[0].add_addresses(address);
    CHECK(shell({"binding", "show", "--vport", "web", "--instance", "red", "--vmac", "02:00:00:00:00:01", "--host",
                 "a", "--tenant", "acme"})
              .out ==
          "NETWORK  VMAC               VPORT  SERVER_MAC         V.VLAN  VLAN  HOST  GENERATION  INSTANCE  TENANT  "
          "ADDRESSES\n"
          "100.10   02:00:00:00:00:01  web    02:aa:00:00:00:01      10   100  a              3  red       acme    "
          "10.0.0.1 "
          "fd00::1\n"
          "200.10   02:00:00:00:00:01  web    -                      10   200  b              -  -         -       "
          "-\n");
    const pb::BindingsRequest& asked = shell.agent.bindings_request;
    CHECK(asked.vport() == "web");
    CHECK(asked.instance() == "red");
    CHECK(asked.vmac() == "02:00:00:00:00:01");
    CHECK(asked.host() == "a");
    CHECK(asked.tenant() == "acme");
    CHECK_THAT(shell({"binding", "show", "--json"}).out, ContainsSubstring("\"generation\":3"));
}

TEST_CASE("host show tells which networks are on which host, of one or of all", "[R79][R174]") {
    Shell shell;
    for (const char* name : {"a", "b"}) {
        pb::HostState& host = *shell.agent.hosts_reply.add_hosts();
        host.set_name(name);
        pb::HostState::Instance& red = *host.add_instances();
        red.set_name("red");
        red.set_network("100.10");
        red.set_vvlan(10);
        red.set_vlan(100);
    }
    pb::HostState::Instance& blue = *shell.agent.hosts_reply.mutable_hosts(1)->add_instances();
    blue.set_name("blue");
    blue.set_network("20");
    blue.set_vvlan(20);
    blue.set_vlan(7);
    blue.add_peer_vlans(200);
    blue.add_peer_vlans(300);
    blue.set_tenant("acme");
    const std::string head = "HOST  INSTANCE  NETWORK  V.VLAN  VLAN  PEER_VLANS  TENANT\n";
    const std::string a = "a     red       100.10       10   100  -           -\n";
    const std::string b =
        "b     red       100.10       10   100  -           -\n"
        "b     blue      20           20     7  200 300     acme\n";
    CHECK(shell({"host", "show"}).out == head + a + b);
    CHECK(shell({"host", "show", "b"}).out == head + b);
    CHECK_THAT(shell({"host", "list"}).out, ContainsSubstring("b     -        -                2  -"));
    const auto none = shell({"host", "show", "c"});
    CHECK(none.code != 0);
    CHECK_THAT(none.err, ContainsSubstring("IVDS-U043"));
    const std::string json = shell({"host", "show", "a", "--json"}).out;
    CHECK_THAT(json, ContainsSubstring("\"network\":\"100.10\""));
    CHECK_THAT(json, !ContainsSubstring("blue"));
}

TEST_CASE("fdb flush says what to forget") {
    Shell shell;
    shell.agent.removed = 1;
    CHECK(shell({"fdb", "flush", "--instance", "red", "--mac", "02:00:00:00:00:01"}).out ==
          "1 learned entry removed\n");
    CHECK(shell.agent.flush_request.instance() == "red");
    CHECK(shell.agent.flush_request.mac() == "02:00:00:00:00:01");
    shell.agent.removed = 30;
    CHECK(shell({"fdb", "flush", "--port", "web1"}).out == "30 learned entries removed\n");
    CHECK(shell.agent.flush_request.port() == "web1");
}

TEST_CASE("events are asked for from a number on, and printed in order", "[R150]") {
    Shell shell;
    for (const char* kind : {"port_up", "spoof"}) {
        pb::Event& event = shell.agent.events.emplace_back();
        event.set_sequence(shell.agent.events.size() + 120);
        event.set_time("2026-01-02T03:04:05.006Z");
        event.set_kind(kind);
        event.set_port("web1");
    }
    CHECK(shell({"events", "--since", "120", "--follow"}).out ==
          "SEQ  TIME                      KIND     PORT  INSTANCE  MAC  TEXT\n"
          "121  2026-01-02T03:04:05.006Z  port_up  web1  -         -    -\n"
          "122  2026-01-02T03:04:05.006Z  spoof    web1  -         -    -\n");
    CHECK(shell.agent.events_request.since() == 120);
    CHECK(shell.agent.events_request.follow());
}

TEST_CASE("without an agent, reading commands read the saved state and say so") {
    Shell shell;
    shell.stop_agent();
    Outcome done = shell({"vport", "list"});
    CHECK(done.code == 0);
    CHECK(done.out == "NAME\n");
    CHECK(done.err == "note: agent is down; read from the saved state\n");

    pb::Config config;
    config.add_instances()->set_name("red");
    pb::VPort& vport = *config.add_vports();
    vport = web1().vport();
    auto store = Store::open(shell.directory() + "/state");
    REQUIRE(store);
    REQUIRE(store->save({}, {.model = model_from_saved(config), .ids = {}, .came_s = {}}));
    CHECK(shell({"vport", "list", "--names"}).out == "web1\n");
    CHECK(shell({"instance", "list", "--names"}).out == "red\n");
    CHECK(shell({"__complete", "vport", "get", ""}).out == "web1\n");
    CHECK(shell({"__complete", "vport", "get", ""}).err == "");
    CHECK(shell({"vport", "get", "web1", "--json"}).out == to_json(web1()) + "\n");
    CHECK(shell({"vport", "get", "web2"}).code == cli::exit_not_found);
    CHECK(shell({"export"}).out == to_yaml(config));
}

TEST_CASE("without an agent and without pins, status names both") {
    Shell shell;
    shell.stop_agent();
    const Outcome done = shell({"status"});
    CHECK(done.code != 0);
    CHECK_THAT(done.err, ContainsSubstring("no agent answers at") &&
                             ContainsSubstring("the pinned maps cannot be read") && ContainsSubstring("\nfix: "));
}

TEST_CASE("doctor's exit code is 1 for an error and 0 for a warning") {
    Shell shell;
    shell.agent.status_reply = two_ports();
    pb::Finding& finding = *shell.agent.doctor_reply.add_findings();
    finding.set_severity("warning");
    finding.set_id("IVDS-P004");
    finding.set_object("eth1");
    finding.set_text("strips the outer tag");
    finding.set_fix("ethtool -K eth1 rxvlan off");
    Outcome done = shell({"doctor"});
    CHECK(done.code == 0);
    CHECK(done.out ==
          "warning IVDS-P004 eth1: strips the outer tag\n    fix: ethtool -K eth1 rxvlan off\n0 errors, 1 warning\n");
    finding.set_severity("error");
    CHECK(shell({"doctor"}).code == cli::exit_findings);
    CHECK(shell({"doctor", "--json"}).code == cli::exit_findings);
}

TEST_CASE("doctor warns of an agent of another version") {
    Shell shell;
    shell.agent.status_reply.set_version("99.0");
    const Outcome done = shell({"doctor"});
    CHECK(done.code == 0);
    CHECK_THAT(done.out,
               ContainsSubstring("warning IVDS-U014 ivdsd: ivds-ctl is " IVDS_VERSION ", the agent is 99.0"));
}

TEST_CASE("doctor without an agent finds that") {
    Shell shell;
    shell.stop_agent();
    const Outcome done = shell({"doctor"});
    CHECK(done.code == cli::exit_findings);
    CHECK_THAT(done.out, ContainsSubstring("error IVDS-U010 ivdsd: no agent answers"));
}

TEST_CASE("version tells both sides' versions, and works without an agent") {
    Shell shell;
    shell.agent.status_reply = two_ports();
    CHECK(shell({"version"}).out == "ivds-ctl  " IVDS_VERSION " (map layout 1.0)\nagent     " IVDS_VERSION
                                    "\nprograms  0.1.0\n");
    shell.stop_agent();
    const Outcome done = shell({"version"});
    CHECK(done.code == 0);
    CHECK_THAT(done.out, ContainsSubstring("agent     does not answer"));
}

TEST_CASE("--json prints the message of the schema for every command", "[R147]") {
    Shell shell;
    shell.agent.status_reply = two_ports();
    shell.agent.stats_replies = {one_reading(7)};
    shell.agent.object = web1();
    *shell.agent.objects.add_objects() = web1();
    shell.agent.fdb.emplace_back().set_mac("02:00:00:00:00:01");
    shell.agent.events.emplace_back().set_kind("spoof");
    shell.agent.doctor_reply.add_findings()->set_severity("warning");
    shell.agent.config.add_instances()->set_name("red");
    shell.agent.vmac = "02:00:00:00:00:07";
    // The doctor adds a finding of its own when the versions differ; here they do not.
    pb::StatusReply ports = two_ports();
    ports.mutable_ports()->DeleteSubrange(0, 1);
    ports.clear_instances();
    pb::VmacReply vmac;
    vmac.set_vmac(shell.agent.vmac);
    const std::vector<std::pair<std::vector<std::string>, std::string>> cases = {
        {{"status"}, to_json(two_ports())},
        {{"show", "all"}, to_json(two_ports())},
        {{"show", "ports"}, to_json(ports)},
        {{"stats"}, to_json(one_reading(7))},
        {{"vport", "get", "web1"}, to_json(web1())},
        {{"vport", "list"}, to_json(shell.agent.objects)},
        {{"vport", "create", "web1"}, to_json(web1())},
        {{"vport", "update", "web1", "--mtu-bytes", "1400"}, to_json(web1())},
        {{"vport", "delete", "web1"}, to_json(pb::Done{})},
        {{"vmac", "reserve", "pool0"}, to_json(vmac)},
        {{"vmac", "release", "pool0", "02:00:00:00:00:07"}, to_json(pb::Done{})},
        {{"fdb", "show"}, to_json(shell.agent.fdb[0])},
        {{"fdb", "flush", "--port", "web1"}, to_json(pb::FlushReply{})},
        {{"events"}, to_json(shell.agent.events[0])},
        {{"doctor"}, to_json(shell.agent.doctor_reply)},
        {{"export"}, to_json(shell.agent.config)},
        {{"apply", "-f", "-"}, to_json(pb::ApplyReply{})},
    };
    for (const auto& [words, json] : cases) {
        std::vector<std::string> line = words;
        line.emplace_back("--json");
        const Outcome done = shell(line);
        INFO(words[0]);
        CHECK(done.code == 0);
        CHECK(done.out == json + "\n");
    }
}

TEST_CASE("the completion knows commands, flags, choices and the names of objects") {
    Shell shell;
    *shell.agent.objects.add_objects() = web1();
    const auto offered = [&](std::vector<std::string> words) {
        words.insert(words.begin(), "__complete");
        return shell(words).out;
    };
    CHECK(offered({"vm"}) == "vmac\nvmac-pool\n");
    CHECK(offered({"vmac", ""}) == "release\nreserve\n");
    CHECK(offered({"vport", "create", "web9", "--at"}) == "--attach\n");
    CHECK(offered({"vport", "create", "web9", "--attach", ""}) == "auto\nclsact\ngeneric\nnative\ntcx\n");
    CHECK(offered({"uplink", "create", "up0", "--outer-tpid", "0x8"}) == "0x8100\n0x88a8\n");
    CHECK(offered({"vport", "get", ""}) == "web1\n");
    CHECK(shell.agent.listed == pb::VPORT);
    CHECK(offered({"vport", "update", "web1", "--mtu-bytes", "1500", "--vnic", "w"}) == "web1\n");
    CHECK(shell.agent.listed == pb::VNIC);
    CHECK(offered({"vport", "get", "web1", ""}) == "");
    CHECK(offered({"rule", ""}) == "add\nlist\nremove\nset\n");
    CHECK(offered({"rule", "add", ""}) == "instance\nprofile\nvport\n");
    CHECK(offered({"rule", "add", "vport", ""}) == "web1\n");
    CHECK(offered({"rule", "add", "vport", "web1", "--direction", ""}) == "both\nin\nout\n");
    CHECK(offered({"vport", "create", ""}) == "");
    CHECK_THAT(offered({"show", "ports", "--"}), ContainsSubstring("--json\n"));
}

TEST_CASE("an output that cannot be written is an error") {
    struct Full : std::streambuf {
        int overflow(int) override { return traits_type::eof(); }
    } full;
    Shell shell;
    std::istringstream in;
    std::ostream out(&full);
    std::ostringstream err;
    CHECK(cli::run({"status", "--socket", shell.socket()}, {in, out, err, false}) == cli::exit_refused);
    CHECK_THAT(err.str(), ContainsSubstring("IVDS-U004"));
}

TEST_CASE("a table printed in parts keeps its columns and its one title") {
    cli::Table table({"A", ">N"});
    std::ostringstream out;
    table.row({{"long word"}, cli::Cell::number(1)});
    table.print(out, false);
    table.row({{"…"}, cli::Cell::number_or_none(0)});
    table.print(out, false);
    CHECK(out.str() == "A          N\nlong word  1\n…          -\n");
}

}  // namespace
}  // namespace ivds::test
