// SPDX-License-Identifier: Apache-2.0
// loader_preflight.cpp -- each trap is found by its rule, with an id and a fix.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>

#include "preflight.h"

using namespace ivds;

namespace {

Facts hardware(const std::string& driver, AttachMode wanted) {
    Facts facts;
    facts.netdev.name = "ens1";
    facts.netdev.ifindex = 4;
    facts.netdev.mtu = 1500;
    facts.netdev.xdp_features = kXdpBasic | kXdpRedirect;
    facts.driver = driver;
    facts.uplink = true;
    facts.wanted = wanted;
    facts.features = Features{
        {"rx-vlan-hw-parse", {true, false}}, {"tx-vlan-hw-insert", {true, false}}, {"rx-lro", {true, false}}};
    return facts;
}

Facts veth(AttachMode wanted) {
    Facts facts;
    facts.netdev.name = "veth0";
    facts.netdev.kind = "veth";
    facts.netdev.mtu = 1500;
    facts.netdev.xdp_features = kXdpBasic | kXdpRedirect;
    facts.driver = "veth";
    facts.wanted = wanted;
    facts.features = Features{{"rx-vlan-hw-parse", {true, false}}};
    facts.peer_features = Features{
        {"rx-gro", {false, false}}, {"tx-checksum-ip-generic", {true, false}}, {"tx-vlan-hw-insert", {true, false}}};
    return facts;
}

const Finding* finding(const Decision& decision, const std::string& id) {
    const auto found = std::ranges::find(decision.findings, id, &Finding::id);
    return found == decision.findings.end() ? nullptr : &*found;
}
bool refuses(const Facts& facts, const std::string& id) {
    const auto decision = decide(facts);
    return decision.error() != nullptr && decision.error()->id == id && !decision.error()->fix.empty();
}

}  // namespace

TEST_CASE("auto puts native XDP and TC on hardware that redirects, and prepares it", "[R12]") {
    const auto decision = decide(hardware("mlx5_core", AttachMode::automatic));
    CHECK(decision.xdp == Point::native);
    CHECK(decision.tc == Point::tcx);
    CHECK(decision.error() == nullptr);
    REQUIRE(decision.changes.size() == 1);
    // What the NIC inserts on the way out is none of XDP's business.
    CHECK(decision.changes[0].wanted == std::map<std::string, bool>{{"rx-vlan-hw-parse", false}, {"rx-lro", false}});
    CHECK(decision.reason.find("mlx5_core") != std::string::npos);
}

TEST_CASE("auto keeps virtual interfaces on TC and says why") {
    for (const char* kind : {"veth", "tun", "macvlan"}) {
        auto facts = veth(AttachMode::automatic);
        facts.netdev.kind = kind;
        const auto decision = decide(facts);
        CHECK_FALSE(decision.xdp);
        CHECK(decision.tc == Point::tcx);
        CHECK(decision.changes.empty());
        CHECK(decision.reason.find("large TCP") != std::string::npos);
    }
}

TEST_CASE("XDP is refused on what gets its frames from interfaces below it: an outer tag is hidden from it there") {
    for (const char* kind : {"bond", "team", "macvlan", "macvtap", "vlan", "bridge"}) {
        for (const auto mode : {AttachMode::native, AttachMode::generic}) {
            auto facts = veth(mode);
            facts.netdev.kind = kind;
            CHECK(refuses(facts, "IVDS-P021"));
        }
        auto facts = veth(AttachMode::automatic);
        facts.netdev.kind = kind;
        facts.uplink = true;
        CHECK(decide(facts).error() == nullptr);
        CHECK_FALSE(decide(facts).xdp);
    }
    for (const char* kind : {"veth", "tun"}) {
        auto facts = veth(AttachMode::generic);
        facts.netdev.kind = kind;
        CHECK(decide(facts).error() == nullptr);
    }
}

TEST_CASE("an inspector's interface gets TC alone, and hands on nothing that is left for hardware to do", "[R169]") {
    auto facts = veth(AttachMode::automatic);
    facts.inspector = true;
    facts.features = Features{{"tx-checksum-ip-generic", {.on = true, .fixed = false}},
                              {"tx-vlan-hw-insert", {.on = true, .fixed = false}},
                              {"tx-lockless", {.on = true, .fixed = true}},
                              {"tx-gso-list", {.on = false, .fixed = false}},
                              {"rx-gro", {.on = true, .fixed = false}}};
    const auto decision = decide(facts);
    CHECK_FALSE(decision.xdp);
    CHECK(decision.tc == Point::tcx);
    CHECK(decision.error() == nullptr);
    REQUIRE(decision.changes.size() == 1);
    CHECK_FALSE(decision.changes[0].peer);
    CHECK(decision.changes[0].wanted ==
          std::map<std::string, bool>{{"tx-checksum-ip-generic", false}, {"tx-vlan-hw-insert", false}});
}

TEST_CASE("native on ixgbe with SR-IOV on is refused; auto takes TC and names the trap", "[R12]") {
    auto facts = hardware("ixgbe", AttachMode::native);
    CHECK_FALSE(refuses(facts, "IVDS-P001"));
    facts.netdev.num_vf = 4;
    CHECK(refuses(facts, "IVDS-P001"));
    facts.wanted = AttachMode::automatic;
    const auto decision = decide(facts);
    CHECK(decision.error() == nullptr);
    CHECK_FALSE(decision.xdp);
    CHECK(decision.reason.find("IVDS-P001") != std::string::npos);
}

TEST_CASE("native on a VF that cannot redirect is refused") {
    auto facts = hardware("ixgbevf", AttachMode::native);
    facts.netdev.xdp_features = kXdpBasic;
    CHECK(refuses(facts, "IVDS-P002"));
}

TEST_CASE("igb redirects with VFs on; its VF's driver has no XDP and strips tags for good, so that TC is left") {
    auto pf = hardware("igb", AttachMode::automatic);
    pf.netdev.num_vf = 2;
    CHECK(decide(pf).xdp == Point::native);
    CHECK(decide(pf).error() == nullptr);
    auto vf = hardware("igbvf", AttachMode::automatic);
    vf.uplink = false;
    vf.netdev.xdp_features = 0;
    vf.features = Features{{"rx-vlan-hw-parse", {true, true}}};
    CHECK_FALSE(decide(vf).xdp);
    CHECK(decide(vf).reason.find("IVDS-P002") != std::string::npos);
    vf.wanted = AttachMode::generic;
    CHECK(refuses(vf, "IVDS-P008"));
}

TEST_CASE("a TC-only port on a driver that needs its own program says that it is no redirect target") {
    auto facts = hardware("ixgbe", AttachMode::tcx);
    CHECK(finding(decide(facts), "IVDS-P003") != nullptr);
    facts.wanted = AttachMode::native;
    CHECK(finding(decide(facts), "IVDS-P003") == nullptr);
}

TEST_CASE("the reset at the first native attach is announced, and not again") {
    auto facts = hardware("ice", AttachMode::native);
    CHECK(finding(decide(facts), "IVDS-P004") != nullptr);
    facts.hooks.xdp = Point::native;
    CHECK(finding(decide(facts), "IVDS-P004") == nullptr);
}

TEST_CASE("a vPort on a VF is told where its frames go; an uplink with VFs what software does not see") {
    auto facts = hardware("ixgbevf", AttachMode::tcx);
    facts.uplink = false;
    CHECK(finding(decide(facts), "IVDS-P005") != nullptr);
    auto uplink = hardware("ixgbe", AttachMode::tcx);
    uplink.netdev.num_vf = 2;
    CHECK(finding(decide(uplink), "IVDS-P006") != nullptr);
}

TEST_CASE("an uplink's MTU must hold the instance's and both tags") {
    auto facts = hardware("igb", AttachMode::tcx);
    facts.mtu_bytes = 1492;
    CHECK(finding(decide(facts), "IVDS-P007") == nullptr);
    facts.mtu_bytes = 1493;
    const auto decision = decide(facts);
    REQUIRE(finding(decision, "IVDS-P007") != nullptr);
    CHECK(finding(decision, "IVDS-P007")->severity == Finding::Severity::warning);
    CHECK(finding(decision, "IVDS-P007")->fix.find("1501") != std::string::npos);
}

TEST_CASE("the MTU of a vPort's interface must hold the vPort's: what is larger gets lost behind the switch") {
    auto facts = hardware("igb", AttachMode::tcx);
    facts.uplink = false;
    facts.mtu_bytes = 1500;
    CHECK(finding(decide(facts), "IVDS-P007") == nullptr);
    facts.mtu_bytes = 1501;
    const auto decision = decide(facts);
    REQUIRE(finding(decision, "IVDS-P007") != nullptr);
    CHECK(finding(decision, "IVDS-P007")->severity == Finding::Severity::warning);
    CHECK(finding(decision, "IVDS-P007")->fix.find("mtu 1501") != std::string::npos);
}

TEST_CASE("XDP is refused where the NIC strips the tag and cannot be told not to") {
    for (const auto mode : {AttachMode::native, AttachMode::generic}) {
        auto facts = hardware("mlx5_core", mode);
        (*facts.features)["rx-vlan-hw-parse"] = {true, true};
        CHECK(refuses(facts, "IVDS-P008"));
    }
    auto facts = hardware("mlx5_core", AttachMode::automatic);
    (*facts.features)["rx-vlan-hw-parse"] = {true, true};
    CHECK_FALSE(decide(facts).xdp);
}

TEST_CASE("XDP on a veth prepares the peer, and is refused if that cannot be reached") {
    for (const auto mode : {AttachMode::native, AttachMode::generic}) {
        const auto decision = decide(veth(mode));
        CHECK(decision.error() == nullptr);
        REQUIRE(decision.changes.size() == 1);
        CHECK(decision.changes[0].peer);
        CHECK(decision.changes[0].wanted == std::map<std::string, bool>{{"rx-gro", true},
                                                                        {"tx-checksum-ip-generic", false},
                                                                        {"tx-vlan-hw-insert", false}});
        auto lost = veth(mode);
        lost.peer_features.reset();
        lost.peer_error = "no namespace";
        CHECK(refuses(lost, "IVDS-P009"));
    }
}

TEST_CASE("a name with a dot is explained") {
    auto facts = veth(AttachMode::tcx);
    facts.netdev.name = "eth0.5";
    CHECK(finding(decide(facts), "IVDS-P010") != nullptr);
}

TEST_CASE("somebody else's program is named and never replaced; auto goes beside it") {
    auto facts = hardware("mlx5_core", AttachMode::native);
    facts.foreign_xdp = ForeignProgram{42, "xdp_filter", "cafe"};
    CHECK(refuses(facts, "IVDS-P012"));
    CHECK(to_error(*decide(facts).error()).code == Code::foreign);
    CHECK(decide(facts).error()->text.find("42") != std::string::npos);
    facts.coexist = true;
    CHECK(refuses(facts, "IVDS-P012"));
    CHECK(decide(facts).error()->fix.find("dispatcher") != std::string::npos);
    facts.wanted = AttachMode::automatic;
    CHECK_FALSE(decide(facts).xdp);
    facts.foreign_tcx = {{7, "policer", "beef"}};
    CHECK(finding(decide(facts), "IVDS-P013")->severity == Finding::Severity::info);
}

TEST_CASE("LRO that stays on refuses XDP") {
    auto facts = hardware("mlx5_core", AttachMode::native);
    (*facts.features)["rx-lro"] = {true, true};
    CHECK(refuses(facts, "IVDS-P014"));
}

TEST_CASE("a kernel without tcx gives clsact, and refuses tcx where it was asked for") {
    auto facts = veth(AttachMode::automatic);
    facts.has_tcx = false;
    CHECK(decide(facts).tc == Point::clsact);
    CHECK(decide(facts).error() == nullptr);
    facts.wanted = AttachMode::tcx;
    CHECK(refuses(facts, "IVDS-P015"));
}

TEST_CASE("a driver without native XDP refuses native, and a jumbo MTU without frames over several buffers") {
    auto facts = hardware("r8169", AttachMode::native);
    facts.netdev.xdp_features = 0;
    CHECK(refuses(facts, "IVDS-P016"));
    facts = hardware("mlx4_en", AttachMode::native);
    facts.netdev.mtu = 9000;
    CHECK(refuses(facts, "IVDS-P017"));
    facts.netdev.xdp_features = kXdpBasic | kXdpRedirect | 32;
    CHECK(decide(facts).error() == nullptr);
}

TEST_CASE("a dispatcher of libxdp is joined if that was asked for and it runs in the wanted mode") {
    auto facts = hardware("mlx5_core", AttachMode::native);
    facts.foreign_xdp = ForeignProgram{42, "xdp_dispatcher", "cafe"};
    facts.dispatcher = {.there = true, .ours = {}, .others = {{43, "scrubber", "beef"}}};
    CHECK(refuses(facts, "IVDS-P012"));
    CHECK(decide(facts).error()->fix.find("--xdp-coexist") != std::string::npos);
    CHECK(decide(facts).error()->text.find("scrubber") != std::string::npos);
    facts.coexist = true;
    CHECK(decide(facts).error() == nullptr);
    CHECK(decide(facts).xdp == Point::shared_native);
    CHECK(finding(decide(facts), "IVDS-P013") != nullptr);
    facts.wanted = AttachMode::generic;
    CHECK(refuses(facts, "IVDS-P012"));
    facts.netdev.xdp_generic = true;
    CHECK(decide(facts).xdp == Point::shared_generic);
    facts.wanted = AttachMode::automatic;
    CHECK_FALSE(decide(facts).xdp);
    CHECK(decide(facts).reason.find("scrubber") != std::string::npos);
    facts.netdev.xdp_generic = false;
    CHECK(decide(facts).xdp == Point::shared_native);
}

TEST_CASE("XDP that cannot be shared is refused where it was asked for, and automatic does without") {
    auto facts = hardware("mlx5_core", AttachMode::native);
    facts.coexist = true;
    facts.cannot_share = "no freplace";
    CHECK(refuses(facts, "IVDS-P020"));
    CHECK(decide(facts).error()->text.find("no freplace") != std::string::npos);
    facts.wanted = AttachMode::automatic;
    CHECK(decide(facts).error() == nullptr);
    CHECK_FALSE(decide(facts).xdp);
    CHECK(finding(decide(facts), "IVDS-P020")->severity == Finding::Severity::warning);
    facts.wanted = AttachMode::tcx;
    CHECK(finding(decide(facts), "IVDS-P020") == nullptr);
}

TEST_CASE("joining a dispatcher that runs natively resets no NIC") {
    auto facts = hardware("ice", AttachMode::native);
    facts.coexist = true;
    CHECK(finding(decide(facts), "IVDS-P004") != nullptr);
    facts.dispatcher.there = true;
    CHECK(finding(decide(facts), "IVDS-P004") == nullptr);
}
