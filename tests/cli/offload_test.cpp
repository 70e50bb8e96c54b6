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
- {name: pc, instance: blue, vnic: c, vf: {pf: up0, index: 2}}
- {name: pd, instance: red, vnic: d, netdev: veth0}
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
    CHECK_THAT(squeezed(done.out), ContainsSubstring("uplink up0 (eth1): planned, 82599") &&
                                       ContainsSubstring("instance red mixed some_in_software") &&
                                       ContainsSubstring("vport pa hw fits") &&
                                       ContainsSubstring("vport pb sw rules_from_vm") &&
                                       ContainsSubstring("fdb red 02:00:00:00:00:0d mixed sink") &&
                                       ContainsSubstring("V.VLAN 10 is taken from the wire"));
    CHECK(shell({"offload", "plan", "--nic", "82576", file.name}).code == 0);
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

}  // namespace ivds::test
