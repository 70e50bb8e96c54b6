// SPDX-License-Identifier: Apache-2.0
// offload_test.cpp -- offload show and plan, and verify.
#include <unistd.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <filesystem>
#include <fstream>

#include "fake_agent.h"

namespace ivds::test {
namespace {

using Catch::Matchers::ContainsSubstring;

// A file that is there while this is.
struct File {
    explicit File(const std::string& text)
        : name(std::filesystem::temp_directory_path() / ("ivds-offload-" + std::to_string(::getpid()))) {
        std::ofstream(name) << text;
    }
    ~File() { std::filesystem::remove(name); }
    File(const File&) = delete;
    File& operator=(const File&) = delete;
    std::string name;
};

// Columns are as wide as what is in them.
std::string squeezed(std::string text) {
    const auto last = std::ranges::unique(text, [](char a, char b) { return a == ' ' && b == ' '; });
    text.erase(last.begin(), last.end());
    return text;
}

const std::string house = R"(
uplinks: [{name: up0, netdev: eth1, tags: single, transport_vlan: 100}]
instances:
- {name: red, uplink: up0, mode: independent, vvlan: 10, scope: distributed}
- {name: blue, uplink: up0, mode: independent, vvlan: 20, scope: distributed}
vnics:
- {name: a, vmac: "02:00:00:00:00:0a"}
- {name: b, vmac: "02:00:00:00:00:0b"}
- {name: c, vmac: "02:00:00:00:00:0c"}
- {name: d, vmac: "02:00:00:00:00:0d"}
vports:
- {name: pa, instance: red, vnic: a, vf: {pf: up0, index: 0}}
- {name: pb, instance: red, vnic: b, vf: {pf: up0, index: 1}, rules: [{action: drop, protocol: udp}]}
- {name: pc, instance: blue, vnic: c, vf: {pf: up0, index: 2}, rx_filters: [{protocol: tcp, dst_port: 443, queue: 1}]}
- {name: pd, instance: red, vnic: d, netdev: veth0}
mirrors: [{name: spy, sources: [{vport: pb, direction: in}], to_vport: pd}]
)";

}  // namespace

TEST_CASE("offload show tells where every object runs, and why", "[R98]") {
    Shell shell;
    const Outcome brief = shell({"offload", "show"});
    CHECK(brief.code == 0);
    CHECK_THAT(squeezed(brief.out),
               ContainsSubstring("uplink up0 (eth1): on, 82599 by kernel, set right 1 times: 1 VFs") &&
                   ContainsSubstring("vlans 3 1 60 64") && ContainsSubstring("vport web0 hw") &&
                   !ContainsSubstring("the NIC carries it"));
    CHECK_THAT(squeezed(shell({"offload", "show", "--why"}).out), ContainsSubstring("fits the NIC carries it"));
    CHECK_THAT(shell({"offload", "show", "--json"}).out, ContainsSubstring("\"reason\":\"fits\""));
}

TEST_CASE("offload plan tells what a NIC would carry of a file, without agent or NIC", "[R98]") {
    const File file(house);
    Shell shell;
    const Outcome done = shell({"offload", "plan", "--nic", "82599", "--why", "--fdb", "--steps", file.name});
    INFO(done.err);
    CHECK(done.code == 0);
    CHECK_THAT(squeezed(done.out),
               ContainsSubstring("uplink up0 (eth1): planned, 82599") &&
                   ContainsSubstring("instance red mixed some_in_software") &&
                   ContainsSubstring("vport pa hw fits") && ContainsSubstring("vport pb sw rules_from_vm") &&
                   ContainsSubstring("rules pb sw rules_from_vm") && ContainsSubstring("mirror spy sw mirror_") &&
                   ContainsSubstring("fdb red 02:00:00:00:00:0d mixed sink") &&
                   ContainsSubstring("V.VLAN 10 is taken from the wire"));
    CHECK_THAT(squeezed(done.out),
               ContainsSubstring("rx_filter pc/1 hw fits") && ContainsSubstring("five-tuples 1 0 127 128") &&
                   ContainsSubstring("five-tuple filter 0: tcp to port 443 for pool 2 to its queue 1"));
    const Outcome small = shell({"offload", "plan", "--nic", "82576", "--why", file.name});
    CHECK(small.code == 0);
    CHECK_THAT(squeezed(small.out), ContainsSubstring("rx_filter pc/1 sw one_queue a VF has one receive queue"));
    const Outcome unknown = shell({"offload", "plan", "--nic", "x", file.name});
    CHECK(unknown.code == cli::exit_usage);
    CHECK_THAT(unknown.err, ContainsSubstring("IVDS-U030"));
}

TEST_CASE("verify walks every class of frames through a planned card, and finds what is broken in one",
          "[R98][R113]") {
    const File file(house);
    Shell shell;
    const Outcome good = shell({"verify", file.name});
    INFO(good.out + good.err);
    CHECK(good.code == 0);
    CHECK_THAT(good.out, ContainsSubstring("uplink up0: NIC and software agree: "));
    CHECK_THAT(shell({"verify", "--json", file.name}).out, ContainsSubstring("\"holds\":true"));
    // A card that nobody set up: all zeros but one register.
    const std::string dump = file.name + ".registers";
    std::ofstream(dump) << "5080 502\n";
    const Outcome bad = shell({"verify", "--registers", dump, file.name});
    CHECK(bad.code == cli::exit_findings);
    CHECK_THAT(bad.out, ContainsSubstring("a frame does not come where the switch alone sends it") ||
                            ContainsSubstring("registers contradict each other"));
    std::ofstream(dump) << "what\n";
    CHECK_THAT(shell({"verify", "--registers", dump, file.name}).err, ContainsSubstring("IVDS-U032"));
    std::filesystem::remove(dump);
}

TEST_CASE("offload show has what each VF passed, and what the NIC's tables hold", "[R98]") {
    Shell shell;
    pb::OffloadNic& nic = *shell.agent.offload_reply.add_nics();
    nic.set_uplink("up0");
    nic.set_netdev("eth1");
    nic.set_chip("82599");
    nic.set_state("on");
    pb::NicTraffic& web = *nic.add_traffic();
    web.set_vport("web0");
    web.set_vf(3);
    web.mutable_counters()->set_rx_packets(70);
    web.mutable_counters()->set_tx_packets(5);
    nic.mutable_software()->set_tx_packets(30);
    pb::NicSlot& slot = *nic.add_slots();
    slot.set_table("VLVF");
    slot.set_slot(3);
    slot.set_text("VID 10: pools 0,1");
    pb::NicRegister& reg = *nic.add_registers();
    reg.set_name("VLVF[3]");
    reg.set_offset(0x5d0c);
    reg.set_value(0x8000300a);
    const std::string shown = squeezed(shell({"offload", "show", "--registers"}).out);
    CHECK(shell.agent.offload_request.registers());
    CHECK_THAT(shown, ContainsSubstring("web0 3 70 0 5 0") && ContainsSubstring("software, by the PF - 0 0 30 0") &&
                          ContainsSubstring("VFs and software sent 100 packets: what of these the port does not "
                                            "count (ethtool -S eth1: tx_pkts_nic)") &&
                          ContainsSubstring("VLVF 3 VID 10: pools 0,1"));
    const Outcome dump = shell({"offload", "dump", "up0"});
    CHECK(dump.out == "05d0c 8000300a VLVF[3]\n");
    CHECK(shell.agent.offload_request.uplink() == "up0");
    // What it prints is what verify reads.
    const File file(house);
    const std::string card = file.name + ".card";
    std::ofstream(card) << dump.out;
    const Outcome read = shell({"verify", "--nic", "82576", "--vfs", "3", "--registers", card, file.name});
    CHECK(read.code == cli::exit_findings);
    CHECK_THAT(read.out, ContainsSubstring("do not agree"));
    std::filesystem::remove(card);
    nic.clear_registers();
    CHECK_THAT(shell({"offload", "dump", "up0"}).err, ContainsSubstring("IVDS-U037"));
}

TEST_CASE("verify asks the agent where no file is given, and says what does not go together", "[R113]") {
    Shell shell;
    CHECK_THAT(shell({"verify"}).out, ContainsSubstring("no uplink has offload"));
    pb::Verdict& verdict = *shell.agent.verify_reply.add_verdicts();
    verdict.set_uplink("up0");
    verdict.set_holds(true);
    verdict.set_text("NIC and software agree: 5 classes");
    const Outcome good = shell({"verify", "--uplink", "up0"});
    CHECK(good.code == 0);
    CHECK(shell.agent.verify_request.uplink() == "up0");
    CHECK_THAT(good.out, ContainsSubstring("uplink up0: NIC and software agree"));
    verdict.set_holds(false);
    CHECK(shell({"verify"}).code == cli::exit_findings);
    const File file(house);
    CHECK_THAT(shell({"verify", "--registers", "x"}).err, ContainsSubstring("IVDS-U034"));
    CHECK_THAT(shell({"verify", "--uplink", "up0", file.name}).err, ContainsSubstring("IVDS-U034"));
    CHECK_THAT(shell({"verify", "--nic", "82576", file.name}).err, ContainsSubstring("IVDS-U035"));
    CHECK_THAT(shell({"verify", "--nic", "82576", "--vfs", "8", file.name}).err, ContainsSubstring("IVDS-U036"));
}

TEST_CASE("trace begins with what the NIC does", "[R124]") {
    Shell shell;
    pb::NicTrace& nic = *shell.agent.trace_reply.mutable_nic();
    nic.set_uplink("up0");
    nic.add_steps("VMVIR[0] adds VID 10");
    nic.add_together("port red-1 of instance red (VF 1)");
    nic.add_alone("port red-1 of instance red (VF 1)");
    const auto traced = [&] {
        return squeezed(shell({"trace", "web1", "--hex", "020000000002020000000001080045"}).out);
    };
    shell.agent.trace_reply.clear_steps();
    shell.agent.trace_reply.clear_verdict();
    shell.agent.trace_reply.clear_sent();
    CHECK_THAT(traced(), ContainsSubstring("nic of uplink up0\n VMVIR[0] adds VID 10\n") &&
                             ContainsSubstring("NIC and software port red-1 of instance red (VF 1)") &&
                             ContainsSubstring("carried by the NIC alone"));
    nic.clear_together();
    CHECK_THAT(traced(), ContainsSubstring("NIC and software nobody") && ContainsSubstring("dropped by the NIC"));
}

}  // namespace ivds::test
