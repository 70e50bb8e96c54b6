// SPDX-License-Identifier: Apache-2.0
// The plan, case by case: what of a switch an 82599 carries, and why not the rest.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <string>
#include <string_view>

#include "offload/nic/82599.h"
#include "offload/nic/model_82599.h"
#include "offload/plan/heat.h"
#include "together.h"

using namespace ivds;
using namespace ivds::test;
using offload::Choices;
using offload::Device;
using offload::NicState;
using offload::Plan;

namespace {

constexpr std::uint32_t up = together_uplink;
constexpr std::uint32_t vf0 = 10, vf1 = 11, vf2 = 12, soft0 = 20, soft1 = 21;
constexpr std::uint32_t red = 1, blue = 2;

AclRule redirect_to(std::uint32_t target) {
    AclRule rule;
    rule.action = IVDS_ACL_REDIRECT;
    rule.target = target;
    return rule;
}

template <class Flags>
void clear(Flags& flags, unsigned flag) {
    flags = static_cast<Flags>(flags & ~flag);
}

// Two instances; red has VFs 0 and 1, blue VF 2. Ports of software are added by the cases.
World two_instances() {
    World world;
    world.uplink(up, 9216, tpid_c, 0)
        .instance(red, up, 10, 1)
        .single_tag(red)
        .instance(blue, up, 20, 1)
        .single_tag(blue);
    world.vport(vf0, red, vmac(0)).vport(vf1, red, vmac(1)).vport(vf2, blue, vmac(2));
    return world;
}

Device device() {
    return {
        .chip = &offload::i82599::chip(), .uplink = up, .pf = together_pf, .pools = {{vf0, 0}, {vf1, 1}, {vf2, 2}}};
}

Plan plan_of(const World& world, const Choices& choices = {}, const NicState& present = {}) {
    auto plan = offload::make_plan(snapshot_of(world), device(), choices, present);
    if (!plan) FAIL(plan.error().text());
    return *plan;
}

std::string at(const std::map<std::uint32_t, offload::Placement>& placements, std::uint32_t id) {
    return std::string(name(placements.at(id).where)) + " " + std::string(name(placements.at(id).reason));
}

std::string why(const World& world, std::uint32_t vport, const Choices& choices = {}) {
    return at(plan_of(world, choices).vports, vport);
}

std::string refused(const World& world, const Choices& choices, const Device& on = device()) {
    const auto plan = offload::make_plan(snapshot_of(world), on, choices, {});
    return plan ? "" : plan.error().id;
}

}  // namespace

TEST_CASE("instances of VFs alone are the NIC's", "[unit]") {
    const Plan plan = plan_of(two_instances());
    CHECK(at(plan.vports, vf0) == "hw fits");
    CHECK(at(plan.instances, red) == "hw fits");
    CHECK(plan.state.pools.at(0).vvlan == 10);
    CHECK(plan.state.vlans.at(10).members == 0b011);
    CHECK(plan.state.vlans.at(20).members == 0b100);
    CHECK(plan.state.vlans.at(10).slot != 0);  // VLAN 0's
    CHECK(plan.state.macs.at(vmac(1)).pool == 1);
    CHECK(plan.state.macs.at(vmac(1)).slot != 0);  // the station address'
    CHECK_FALSE(plan.state.unknown_to_pf);
    for (const auto& placement : plan.fdb) CHECK(placement.where == offload::Where::hw);
}

TEST_CASE("of VFs alone software sees no frame: tags, filters, pools and copies are the NIC's",
          "[unit][R2][R15][R182]") {
    World world = two_instances();
    world.span(3, vf2, {vf1});
    Together together({}, device());
    together.bring(world);
    together.apply(plan_of(world).steps);
    const auto got = [&](std::uint32_t from, const Packet& headers) {
        std::string who;
        for (const Sent& copy : together.send(from, headers / ip4_udp(46)))
            who += std::to_string(copy.port) + (copy.bytes.at(12) == 0x81 ? " tagged " : " ");
        return who;
    };
    CHECK(got(vf0, eth(vmac(1), vmac(0))) == "11 12 ");                // and its copy
    CHECK(got(vf0, eth(vmac(9), vmac(0))) == "1 tagged ");             // to the wire
    CHECK(got(up, eth(vmac(0), vmac(9)) / tag(tpid_c, 10)) == "10 ");  // and from there
    CHECK(got(vf0, eth(vmac(1), vmac(2))).empty());                    // another's source
    CHECK(got(vf0, eth(vmac(2), vmac(0))).empty());                    // to another's network
    CHECK(got(up, eth(vmac(0), vmac(9)) / tag(tpid_c, 30)).empty());   // out of nobody's
    CHECK(together.seen_by_software() == 0);
    // But what the NIC leaves to the default pool: a known address in another network that is here.
    CHECK(got(up, eth(vmac(0), vmac(9)) / tag(tpid_c, 20)).empty());
    CHECK(together.seen_by_software() == 1);
    CHECK(together.violations().empty());
}

TEST_CASE("a vPort is a bit of its V.VLAN's slot, and the last that goes frees the slot", "[unit][R32]") {
    World world = two_instances();
    const auto both = plan_of(world).state;
    world.ports.erase(vf0);
    world.fdb.erase({red, vmac(0)});
    const Plan one = plan_of(world, {}, both);
    CHECK(one.state.vlans.at(10) == offload::NicVlan{.slot = both.vlans.at(10).slot, .members = 0b010});
    CHECK(one.state.vlans.at(20) == both.vlans.at(20));
    world.ports.erase(vf1);
    world.fdb.erase({red, vmac(1)});
    const Plan none = plan_of(world, {}, one.state);
    CHECK_FALSE(none.state.vlans.contains(10));
    CHECK(none.vlans.free() == one.vlans.free() + 1);
    world = two_instances();
    CHECK(plan_of(world, {}, none.state).state.vlans.at(10).members == 0b011);
}

TEST_CASE("addresses of software ports are given to the PF, so that VFs reach them", "[unit]") {
    World world = two_instances();
    world.vport(soft0, red, vmac(7)).local_mac(red, vmac(8), soft0);
    const Plan plan = plan_of(world);
    CHECK(at(plan.instances, red) == "mixed some_in_software");
    CHECK(at(plan.vports, soft0) == "sw not_a_vf");
    CHECK(plan.state.macs.at(vmac(7)).pool == together_pf);
    CHECK(plan.state.macs.at(vmac(8)).pool == together_pf);
    CHECK(plan.state.vlans.at(10).members == (0b011 | 1U << together_pf));
    CHECK(plan.state.vlans.at(20).members == 0b100);
}

TEST_CASE("an instance of software ports alone takes no entries, and its V.VLAN is taken in", "[unit]") {
    World world = two_instances();
    world.instance(3, up, 30, 1).single_tag(3).vport(soft0, 3, vmac(7));
    const Plan plan = plan_of(world);
    CHECK(at(plan.instances, 3) == "sw none_in_nic");
    CHECK_FALSE(plan.state.macs.contains(vmac(7)));
    CHECK_FALSE(plan.state.vlans.contains(30));
    CHECK(plan.state.admitted == std::set<std::uint16_t>{10, 20, 30});
}

TEST_CASE("remote addresses need no entry", "[unit]") {
    World world = two_instances();
    world.remote_mac(red, vmac(9), 10);
    const Plan plan = plan_of(world);
    CHECK_FALSE(plan.state.macs.contains(vmac(9)));
    CHECK(std::ranges::count(plan.fdb, offload::Placement{offload::Where::hw, offload::Reason::to_wire}) == 1);
}

TEST_CASE("what a vPort asks for and the NIC cannot do keeps it in software", "[unit][R126][R190]") {
    struct Case {
        const char* reason;
        void (*ask)(World&);
    };
    const Case cases[] = {
        {"trunk", [](World& w) { w.behind(vf0, 5, 30, blue, vmac(6)); }},
        {"guest_tags", [](World& w) { w.ports.at(vf0).flags |= IVDS_PF_CARRY_TAGS; }},
        {"dscp", [](World& w) { w.ports.at(vf0).dscp = 1; }},
        {"inspected", [](World& w) { w.ports.at(vf0).inspector = 40; }},
        {"down", [](World& w) { clear(w.ports.at(vf0).flags, IVDS_PF_UP); }},
        {"learning", [](World& w) { clear(w.ports.at(vf0).flags, IVDS_PF_ANTI_SPOOF); }},
        {"learning", [](World& w) { w.learned_mac(red, vmac(6), vf0); }},
        {"address", [](World& w) { w.local_mac(red, vmac(0), vf1); }},
        {"too_long", [](World& w) { w.ports.at(vf0).mtu_bytes = 9710; }},
        {"rules_from_vm", [](World& w) { w.acls[1] = {}, w.ports.at(vf0).acl_in = 1; }},
        {"rules_stateful",
         [](World& w) {
             w.acls[1] = {}, w.ports.at(vf0).acl_out = 1;
             w.ports.at(vf0).flags |= IVDS_PF_STATEFUL;
         }},
        {"rules_on_ip",
         [](World& w) {
             w.acls[1].rules = {AclRule{}};
             w.acls[1].rules[0].proto = 17;
             w.ports.at(vf0).acl_out = 1;
         }},
        {"rules_on_type",
         [](World& w) {
             w.acls[1].rules = {AclRule{}};
             w.acls[1].rules[0].ethertypes = {0x88f7};
             w.ports.at(vf0).acl_out = 1;
         }},
        {"rules_on_macs", [](World& w) { w.acls[1] = {}, w.ports.at(vf0).acl_out = 1; }},
        {"redirect_target", [](World& w) { w.acls[1].rules = {redirect_to(vf0)}; }},
        {"redirect_target",
         [](World& w) {
             w.pools[1] = {vf0};
             w.acls[1].rules = {redirect_to(IVDS_TARGET_POOL | 1)};
         }},
        {"mirrored", [](World& w) { w.ports.at(vf0).mirror_drop = 1; }},
        {"mirror_target", [](World& w) { w.vport(soft0, red, vmac(7)).span(0, vf0, {soft0}); }},
        {"rate_out", [](World& w) { w.rate(vf0, IVDS_WAY_OUT); }},
        {"rate_low", [](World& w) { w.rate(vf0, IVDS_WAY_IN); }},
        {"inactive", [](World& w) { clear(w.instances.at(red).flags, IVDS_IF_ACTIVE); }},
        {"local_scope", [](World& w) { clear(w.instances.at(red).flags, IVDS_IF_WIRE); }},
        {"peer_rate", [](World& w) { w.peer_rate(red, 10, IVDS_WAY_OUT); }},
        {"outer_tag", [](World& w) { w.instance(red, up, 10, 5); }},
        {"not_registered", [](World& w) { w.vvlans.erase({up, 10, 0}); }},
        {"other_uplink", [](World& w) { w.uplink(2).instances.at(red).uplink = 2; }},
        {"no_instance", [](World& w) { w.ports.at(vf0).instance = 0; }},
        {"tpid", [](World& w) { w.ports.at(up).outer_tpid_be = 0xa888; }},
    };
    for (const auto& [reason, ask] : cases) {
        World world = two_instances();
        ask(world);
        CAPTURE(reason);
        CHECK(why(world, vf0) == std::string("sw ") + reason);
    }
}

TEST_CASE("a mirror of what is sent to VFs, for a VF, is the NIC's", "[unit][R139]") {
    World world = two_instances();
    world.span(3, vf2, {vf0, vf1});
    const Plan plan = plan_of(world);
    CHECK(at(plan.mirrors, 3) == "hw fits");
    for (const std::uint32_t vf : {vf0, vf1, vf2}) CHECK(at(plan.vports, vf) == "hw fits");
    CHECK(plan.state.mirrors == std::map<unsigned, offload::NicMirror>{{2, {.slot = 0, .sources = 0b011}}});
    CHECK(plan.mirror_rules.used == 1);
    CHECK(plan.mirror_rules.free() == 3);
    SECTION("and may be within an instance") {
        clear(world.ports.at(vf1).mirror_out, ~0U);
        world.mirrors.at(3).target = vf1;
        CHECK(plan_of(world).state.mirrors.at(1).sources == 0b001);
    }
}

TEST_CASE("what the NIC does not copy has its reason, and keeps its vPorts in software", "[unit][R139][R188]") {
    struct Case {
        const char* reason;
        void (*ask)(World&);
    };
    const Case cases[] = {
        {"mirror_kind", [](World& w) { w.mirrors.at(3).kind = IVDS_MIRROR_RING; }},
        {"mirror_kind", [](World& w) { w.mirrors.at(3).kind = IVDS_MIRROR_ERSPAN_II; }},
        {"mirror_uplink", [](World& w) { w.ports.at(up).mirror_out = 1U << 3; }},
        {"mirror_by_rule", [](World& w) { w.acls[1].rules = {AclRule{}}, w.acls[1].rules[0].mirrors = 1U << 3; }},
        {"mirror_drops", [](World& w) { w.ports.at(vf0).mirror_drop = 1U << 3; }},
        {"mirror_senders", [](World& w) { w.ports.at(vf0).mirror_in = 1U << 3; }},
        {"mirror_part", [](World& w) { w.mirrors.at(3).snap_bytes = 128; }},
        {"mirror_part", [](World& w) { w.mirrors.at(3).sample = 10; }},
        {"mirror_part", [](World& w) { w.mirrors.at(3).filter = 1; }},
        {"mirror_chain", [](World& w) { w.span(4, vf1, {vf2}); }},
        {"mirror_twice", [](World& w) { w.span(4, vf2, {vf1}); }},
        {"mirror_target_away", [](World& w) { w.vport(soft0, blue, vmac(7)).mirrors.at(3).target = soft0; }},
        {"mirror_target_away", [](World& w) { w.ports.at(vf2).dscp = 1; }},
        {"mirror_source_away", [](World& w) { w.vport(soft0, red, vmac(7)).span(3, vf2, {soft0}); }},
        {"mirror_source_away", [](World& w) { w.ports.at(vf0).dscp = 1; }},
        {"mirror_source_away", [](World& w) { w.ports.at(vf0).mirror_out = 0; }},
    };
    for (const auto& [reason, ask] : cases) {
        World world = two_instances();
        world.span(3, vf2, {vf0});
        ask(world);
        CAPTURE(reason);
        const Plan plan = plan_of(world);
        CHECK(at(plan.mirrors, 3) == std::string("sw ") + reason);
        CHECK(plan.state.mirrors.empty());
        // A vPort that nothing watches any more is the NIC's.
        CHECK(plan.state.pools.contains(0) == (world.ports.at(vf0).mirror_out == 0));
    }
    World world = two_instances();
    world.span(3, vf2, {vf0});
    world.mirrors.at(3).sample = 2;
    CHECK(why(world, vf0) == "sw mirrored");
    CHECK(why(world, vf2) == "sw mirror_target");
    CHECK(why(world, vf1) == "hw fits");
}

namespace {

// Pairs of VFs, of which one gets copies of what is sent to the other.
struct Pairs {
    explicit Pairs(unsigned count) {
        world.uplink(up, 9216, tpid_c, 0).instance(red, up, 10, 1).single_tag(red);
        on.pools.clear();
        for (unsigned n = 0; n < 2 * count; ++n) {
            world.vport(vf0 + n, red, vmac(n));
            on.pools[vf0 + n] = n < together_pf ? n : n + 1;
        }
        for (unsigned n = 0; n < count; ++n) world.span(n, vf0 + 2 * n + 1, {vf0 + 2 * n});
    }
    [[nodiscard]] Plan plan(const NicState& present = {}, const Choices& choices = {}) const {
        return offload::make_plan(snapshot_of(world), on, choices, present).value();
    }
    World world;
    Device on = device();
};

}  // namespace

TEST_CASE("the fifth mirror is software's, and those that are in the NIC stay", "[unit][R139][R188]") {
    Pairs pairs(5);
    const Plan plan = pairs.plan();
    for (std::uint32_t session = 0; session < 4; ++session) CHECK(at(plan.mirrors, session) == "hw fits");
    CHECK(at(plan.mirrors, 4) == "sw mirrors_full");
    CHECK(at(plan.vports, vf0 + 8) == "sw mirrored");
    CHECK(at(plan.vports, vf0 + 9) == "sw mirror_target");
    CHECK(plan.mirror_rules.free() == 0);
    // One that comes, with a number before theirs, finds no room.
    const ivds_mirror first = pairs.world.mirrors.at(0);
    pairs.world.mirrors.erase(0);
    pairs.world.ports.at(vf0).mirror_out = 0;
    const Plan without = pairs.plan(plan.state);
    CHECK(at(without.mirrors, 4) == "hw fits");
    for (std::uint32_t session = 1; session < 4; ++session)
        CHECK(without.state.mirrors.at(2 * session + 1) == plan.state.mirrors.at(2 * session + 1));
    pairs.world.mirrors[0] = first;
    pairs.world.ports.at(vf0).mirror_out = 1;
    const Plan again = pairs.plan(without.state);
    CHECK(at(again.mirrors, 0) == "sw mirrors_full");
    CHECK(again.state.mirrors == without.state.mirrors);
}

TEST_CASE("a tenant has no more mirrors in the NIC than it may", "[unit][R185]") {
    Pairs pairs(3);
    Choices choices;
    choices.tenants = {{red, 7}};
    choices.quotas[7].mirrors = 2;
    const Plan plan = pairs.plan({}, choices);
    CHECK(at(plan.mirrors, 1) == "hw fits");
    CHECK(at(plan.mirrors, 2) == "sw quota");
    CHECK(at(plan.vports, vf0 + 4) == "sw mirrored");
}

TEST_CASE("a mirror whose vPorts find no room leaves its rule to another", "[unit]") {
    Pairs pairs(5);
    Choices choices;
    choices.must_not = {vf0 + 3};
    const Plan plan = pairs.plan({}, choices);
    CHECK(at(plan.mirrors, 1) == "sw mirror_target_away");
    CHECK(at(plan.vports, vf0 + 2) == "sw mirrored");
    CHECK(at(plan.mirrors, 4) == "hw fits");
    CHECK(plan.state.mirrors.size() == 4);
}

TEST_CASE("a mirror is given up before its target is, and taken up before there is anything to copy", "[unit]") {
    World world = two_instances();
    const Plan before = plan_of(world);
    world.span(3, vf2, {vf0, vf1});
    const Plan with = plan_of(world, {}, before.state);
    world.ports.at(vf2).dscp = 1;
    const Plan after = plan_of(world, {}, with.state);
    const auto place = [](const Plan& plan, auto is) {
        return std::ranges::find_if(plan.steps, is) - plan.steps.begin();
    };
    const auto off =
        place(after, [](const offload::Step& step) { return std::holds_alternative<offload::ClearMirror>(step); });
    const auto pool_off = place(after, [](const offload::Step& step) {
        const auto* clear = std::get_if<offload::ClearPool>(&step);
        return clear != nullptr && clear->pool == 2;
    });
    CHECK(off < pool_off);
    CHECK(pool_off < std::ssize(after.steps));
}

TEST_CASE("a VF whose vPort is software's is off, and its addresses are sunk", "[unit]") {
    World world = two_instances();
    world.acls[1] = {};
    world.ports.at(vf0).acl_in = 1;
    const Plan plan = plan_of(world);
    CHECK_FALSE(plan.state.pools.contains(0));
    CHECK(plan.state.macs.at(vmac(0)).pool == together_pf);
    CHECK(at(plan.instances, red) == "mixed some_in_software");
    CHECK(at(plan.rules, vf0) == "sw rules_from_vm");
}

TEST_CASE("one MAC in two V.VLANs is in software in both", "[unit]") {
    World world = two_instances();
    SECTION("at two VFs") {
        world.vport(vf2, blue, vmac(0));
        const Plan plan = plan_of(world);
        CHECK(at(plan.vports, vf0) == "sw mac_twice");
        CHECK(at(plan.vports, vf2) == "sw mac_twice");
        CHECK(at(plan.vports, vf1) == "hw fits");
        CHECK(plan.state.macs.at(vmac(0)).pool == together_pf);
    }
    SECTION("at a VF, and on the wire in another V.VLAN: no VF of its instance may have it as neighbour") {
        world.learned_plain_mac(blue, vmac(0));
        const Plan plan = plan_of(world);
        CHECK(at(plan.vports, vf0) == "sw mac_twice");
        CHECK(at(plan.vports, vf1) == "sw mac_twice");
        CHECK(at(plan.vports, vf2) == "hw fits");
        CHECK_FALSE(plan.state.macs.contains(vmac(0)));
    }
    SECTION("at software ports alone: they are all the PF's") {
        world.vport(soft0, red, vmac(7)).vport(soft1, blue, vmac(7));
        const Plan plan = plan_of(world);
        CHECK(at(plan.vports, vf0) == "hw fits");
        CHECK(at(plan.vports, vf2) == "hw fits");
        CHECK(plan.state.macs.at(vmac(7)).pool == together_pf);
    }
    SECTION("on the wire in both: the NIC knows neither") {
        world.remote_mac(red, vmac(9), 10).remote_mac(blue, vmac(9), 20);
        CHECK(why(world, vf0) == "hw fits");
    }
}

TEST_CASE("unknown addresses go to the PF only where a software port may have some", "[unit]") {
    World world = two_instances();
    world.vport(soft0, red, vmac(7));
    CHECK_FALSE(plan_of(world).state.unknown_to_pf);
    clear(world.ports.at(soft0).flags, IVDS_PF_ANTI_SPOOF);
    CHECK(plan_of(world).state.unknown_to_pf);
}

TEST_CASE("a full table leaves the coldest instances to software, and fails nothing", "[unit][R28][R128]") {
    Choices choices;
    World world = two_instances();
    offload::Snapshot tables = snapshot_of(world);
    const auto plan_with = [&](const NicState& present) {
        return offload::make_plan(tables, device(), choices, present).value();
    };
    SECTION("of VLANs") {
        choices.reserved_vlans = 62;
        tables.heat = {{vf2, 100}};
        const Plan plan = plan_with({});
        CHECK(at(plan.instances, red) == "sw vlans_full");
        CHECK(at(plan.instances, blue) == "hw fits");
        CHECK(plan.vlans.used == 1);
        CHECK(plan.vlans.free() == 0);
    }
    SECTION("of addresses") {
        choices.reserved_macs = 125;  // two are left
        tables.heat = {{vf0, 60}, {vf1, 60}, {vf2, 100}};
        const Plan plan = plan_with({});
        CHECK(at(plan.instances, red) == "hw fits");
        CHECK(at(plan.vports, vf2) == "sw macs_full");
        CHECK(plan.macs.free() == 0);
    }
    SECTION("and what does not fit makes room for what is colder and does") {
        choices.reserved_macs = 126;
        tables.heat = {{vf0, 60}, {vf2, 1}};
        CHECK(at(plan_with({}).instances, blue) == "hw fits");
    }
}

TEST_CASE("which instances are in the NIC changes with their heat, and not without need", "[unit][R128]") {
    Choices choices;
    choices.reserved_vlans = 62;
    offload::Snapshot tables = snapshot_of(two_instances());
    const auto in_nic = [&](const NicState& present, std::uint64_t red_heat, std::uint64_t blue_heat) {
        tables.heat = {{vf0, red_heat}, {vf2, blue_heat}};
        return offload::make_plan(tables, device(), choices, present)->state;
    };
    const NicState first = in_nic({}, 100, 99);
    REQUIRE(first.vlans.contains(10));
    CHECK(in_nic(first, 100, 100) == first);
    CHECK(in_nic(first, 100, 124) == first);
    const NicState second = in_nic(first, 100, 126);
    CHECK(second.vlans.contains(20));
    CHECK(in_nic(second, 100, 100) == second);
    CHECK(in_nic(second, 0, 0) == second);
}

TEST_CASE("heat is what maps and NICs count between looks, and fades", "[unit]") {
    offload::Heat heat;
    const auto pools = [](std::uint64_t rx, std::uint64_t tx) {
        return std::map<std::uint32_t, offload::PoolCounters>{
            {vf0, {.rx_packets = {.value = rx}, .rx_bytes = {}, .tx_packets = {.value = tx}, .tx_bytes = {}}}};
    };
    const auto of = [&](std::uint32_t port) { return heat.by_port().at(port); };
    heat.look({{vf0, 5}, {soft0, 1000}}, pools(0xffffff00, 7));
    CHECK(of(vf0) == 0);  // since when, nobody knows
    CHECK(of(soft0) == 0);
    heat.look({{vf0, 5}, {soft0, 1100}}, pools(0x100, 47));  // the NIC's went round
    CHECK(of(vf0) == 0x200 + 40);
    CHECK(of(soft0) == 100);
    heat.look({{vf0, 5}, {soft0, 30}}, pools(3, 47));  // set back, both of them
    CHECK(of(vf0) == (0x200 + 40) / 2 + 3);
    CHECK(of(soft0) == 50 + 30);
    heat.look({{soft0, 30}}, {});
    CHECK(of(soft0) == 40);
    CHECK_FALSE(heat.by_port().contains(vf0));
}

TEST_CASE("what software has for an instance speaks for its VFs that are off", "[unit]") {
    Choices choices;
    choices.reserved_vlans = 62;
    World world = two_instances();
    world.vport(soft0, blue, vmac(7));
    offload::Snapshot tables = snapshot_of(world);
    const NicState first = offload::make_plan(tables, device(), choices, {})->state;
    REQUIRE(first.vlans.contains(10));
    tables.heat = {{vf0, 100}, {soft0, 126}};
    CHECK(offload::make_plan(tables, device(), choices, first)->state.vlans.contains(20));
}

TEST_CASE("a plan made from its own result has no steps but software's", "[unit]") {
    World world = two_instances();
    world.vport(soft0, red, vmac(7)).remote_mac(blue, vmac(9), 20);
    const Plan plan = plan_of(world);
    const Plan again = plan_of(world, {}, plan.state);
    CHECK(again.state == plan.state);
    for (const offload::Step& step : again.steps) CHECK(std::holds_alternative<offload::Software>(step));
}

TEST_CASE("steps lead to the planned state from any other", "[unit]") {
    World world = two_instances();
    world.vport(soft0, red, vmac(7));
    const Plan before = plan_of(world);
    world.vport(vf1, blue, vmac(1));
    world.fdb.erase({red, vmac(1)});
    world.ports.erase(soft0);
    const Plan after = plan_of(world, {}, before.state);
    NicState state = before.state;
    for (const offload::Step& step : after.steps) advance(state, step);
    CHECK(state == after.state);
    CHECK(state.macs.at(vmac(0)) == before.state.macs.at(vmac(0)));  // what stays keeps its slot
}

TEST_CASE("an address goes over the PF from one VF to another, and never to the wire", "[unit]") {
    World world = two_instances();
    const Plan before = plan_of(world);
    // The MAC moves from VF 0 to VF 1.
    world.fdb.erase({red, vmac(0)});
    world.vport(vf1, red, vmac(0));
    world.fdb.erase({red, vmac(1)});
    world.ports.erase(vf0);
    NicState state = before.state;
    for (const offload::Step& step : plan_of(world, {}, before.state).steps) {
        advance(state, step);
        CHECK(state.macs.contains(vmac(0)));
    }
    CHECK(state.macs.at(vmac(0)).pool == 1);
}

TEST_CASE("the operator's word holds, or is refused", "[unit]") {
    Choices choices;
    World world = two_instances();
    SECTION("must not") {
        choices.must_not = {vf1};
        CHECK(why(world, vf1, choices) == "sw by_operator");
    }
    SECTION("must, and can") {
        choices.must = {vf2};
        choices.reserved_vlans = 62;
        CHECK(why(world, vf2, choices) == "hw fits");
        CHECK(why(world, vf0, choices) == "sw vlans_full");
    }
    SECTION("must, and cannot") {
        choices.must = {vf0};
        world.ports.at(vf0).dscp = 1;
        CHECK(refused(world, choices) == "IVDS-O004");
    }
    SECTION("must of nothing") {
        choices.must = {99};
        CHECK(refused(world, choices) == "IVDS-O004");
    }
    SECTION("both") {
        choices.must = choices.must_not = {vf0};
        CHECK(refused(world, choices) == "IVDS-O003");
    }
}

TEST_CASE("with double tags the NIC lets the V.VLANs in, and carries no vPort", "[unit]") {
    World world;
    world.uplink(up).instance(red, up, 100, 10).vport(vf0, red, vmac(0));
    CHECK(why(world, vf0) == "sw outer_tag");
    CHECK(plan_of(world).state.admitted == std::set<std::uint16_t>{10});
}

TEST_CASE("an uplink without room for the tag is told of where software's frames for a VF would be lost", "[unit]") {
    World world = two_instances();
    world.vport(soft0, red, vmac(7));
    CHECK(why(world, vf0) == "hw fits");
    world.ports.at(up).mtu_bytes = 1503;
    CHECK(why(world, vf0) == "hw uplink_mtu");
    CHECK(at(plan_of(world).instances, red) == "mixed uplink_mtu");
    CHECK(why(world, vf2) == "hw fits");  // nobody in blue is software's
    world.ports.at(up).mtu_bytes = 1504;
    CHECK(why(world, vf0) == "hw fits");
    world.ports.at(up).mtu_bytes = 1503;
    world.ports.at(vf0).mtu_bytes = 1400;
    CHECK(why(world, vf0) == "hw fits");
    CHECK(why(world, vf1) == "hw uplink_mtu");
}

namespace {

constexpr std::uint32_t red_up = 2, blue_up = 3;

// Red and blue on VFs that are uplinks, and a third on the PF.
World three_uplinks() {
    World world;
    for (const std::uint32_t id : {up, red_up, blue_up}) world.uplink(id, 9216, tpid_s);
    world.instance(red, red_up, 100, 10).instance(blue, blue_up, 200, 20).instance(3, up, 300, 30);
    return world;
}
Plan sorted(const World& world, const Choices& choices = {}, const NicState& present = {},
            const offload::Chip& chip = offload::i82599::chip()) {
    auto plan = offload::make_plan(
        snapshot_of(world),
        {.chip = &chip, .uplink = up, .pf = together_pf, .pools = {}, .uplinks = {{red_up, 4}, {blue_up, 5}}},
        choices, present);
    if (!plan) FAIL(plan.error().text());
    return *plan;
}

}  // namespace

TEST_CASE("with double tags the NIC sorts V.VLANs to VFs that are uplinks", "[unit][R94]") {
    World world = three_uplinks();
    const auto at_uplink = [&](std::uint32_t id, const Choices& choices = {}) {
        return at(sorted(world, choices).uplinks, id);
    };
    SECTION("by the V.VLAN alone, whatever the addresses") {
        const NicState state = sorted(world).state;
        CHECK(state.uplinks == std::set<unsigned>{4, 5});
        CHECK(state.vlans.at(10).members == offload::pool_bit(4));
        CHECK(state.vlans.at(20).members == offload::pool_bit(5));
        CHECK_FALSE(state.vlans.contains(30));  // the default pool's
        CHECK(state.admitted == std::set<std::uint16_t>{10, 20, 30});
        CHECK((state.macs.empty() && state.pools.empty() && state.unknown_to_pf));
        CHECK(at_uplink(red_up) == "mixed sorted");
        CHECK(at(sorted(world).instances, red) == "mixed sorted");
        CHECK(at(sorted(world).instances, 3) == "sw outer_tag");
        CHECK(sorted(world, {}, state).steps.size() == 2);  // software's
    }
    SECTION("one V.VLAN under several VLANs is given to all who have it") {
        world.instance(4, up, 400, 10).instance(5, blue_up, 500, 10);
        CHECK(sorted(world).state.vlans.at(10).members == (offload::pool_bit(4) | offload::pool_bit(5) | 1U << 8));
    }
    SECTION("the same pair at two uplinks would be two networks in one") {
        world.instance(4, up, 100, 10);
        CHECK(at_uplink(red_up) == "sw network_twice");
        CHECK(at_uplink(blue_up) == "mixed sorted");
        CHECK(sorted(world).state.admitted == std::set<std::uint16_t>{10, 20, 30});
        CHECK_FALSE(sorted(world).state.vlans.contains(10));
    }
    SECTION("hosts without a V.VLAN") {
        world.plain_access(red);
        CHECK(at_uplink(red_up) == "sw plain_hosts");
    }
    SECTION("other tags than the PF's") {
        world.ports.at(red_up).outer_tpid_be = 0x0091;
        CHECK(at_uplink(red_up) == "sw other_tags");
    }
    SECTION("one tag") {
        for (const std::uint32_t id : {up, red_up, blue_up}) world.ports.at(id).inner_tpid_be = 0;
        CHECK(at_uplink(red_up) == "sw other_tags");
    }
    SECTION("V.VLAN tags of another type") {
        for (const std::uint32_t id : {up, red_up, blue_up}) world.ports.at(id).inner_tpid_be = 0xa888;
        CHECK(at_uplink(red_up) == "sw tpid");
    }
    SECTION("outer tags that a VF's driver would have the NIC insert") {
        for (const std::uint32_t id : {up, red_up, blue_up}) world.ports.at(id).outer_tpid_be = 0x0081;
        CHECK(at_uplink(red_up) == "sw outer_tpid");
    }
    SECTION("a VF that the PF does not have") {
        const auto plan = offload::make_plan(snapshot_of(world),
                                             {.chip = &offload::i82599::chip(),
                                              .uplink = up,
                                              .pf = 5,
                                              .pools = {},
                                              .uplinks = {{red_up, 4}, {blue_up, 5}}},
                                             {}, {});
        REQUIRE(plan);
        CHECK(at(plan->uplinks, red_up) == "mixed sorted");
        CHECK(at(plan->uplinks, blue_up) == "sw not_a_vf");
    }
    SECTION("an interface that is down") {
        clear(world.ports.at(blue_up).flags, IVDS_PF_UP);
        CHECK(at_uplink(blue_up) == "sw down");
    }
    SECTION("a NIC that does not know two tags") {
        offload::Chip chip = offload::i82599::chip();
        chip.inner_tag_match = false;
        CHECK(at(sorted(world, {}, {}, chip).uplinks, red_up) == "sw no_two_tags");
    }
    SECTION("with one VLAN left the hotter uplink has it, and the one that has it keeps it for as hot a one") {
        Choices choices;
        choices.reserved_vlans = offload::i82599::chip().vlan_entries - 2;
        CHECK(at_uplink(red_up, choices) == "mixed sorted");
        CHECK(at_uplink(blue_up, choices) == "sw vlans_full");
        NicState present;
        present.uplinks = {5};
        const Plan plan = sorted(world, choices, present);
        CHECK(at(plan.uplinks, red_up) == "sw vlans_full");
        CHECK(at(plan.uplinks, blue_up) == "mixed sorted");
    }
    SECTION("quotas of its tenants") {
        Choices choices{.tenants = {{red, 7}}, .quotas = {{7, {.vlans = 0}}}};
        CHECK(at_uplink(red_up, choices) == "sw quota");
        CHECK(at_uplink(blue_up, choices) == "mixed sorted");
    }
}

TEST_CASE("quotas bound what a tenant has of the NIC", "[unit]") {
    Choices choices;
    choices.tenants = {{red, 7}, {blue, 7}};
    World world = two_instances();
    SECTION("VFs: the hotter is carried") {
        choices.quotas[7].pools = 1;
        offload::Snapshot tables = snapshot_of(world);
        tables.heat = {{vf1, 5}};
        const Plan plan = offload::make_plan(tables, device(), choices, {}).value();
        CHECK(at(plan.vports, vf0) == "sw quota");
        CHECK(at(plan.vports, vf1) == "hw fits");
        CHECK(at(plan.vports, vf2) == "sw quota");
        CHECK(at(plan.instances, blue) == "sw quota");
    }
    SECTION("VLANs") {
        choices.quotas[7].vlans = 1;
        CHECK(why(world, vf0, choices) == "hw fits");
        CHECK(why(world, vf2, choices) == "sw quota");
    }
    SECTION("addresses") {
        choices.quotas[7].macs = 2;
        CHECK(why(world, vf1, choices) == "hw fits");
        CHECK(why(world, vf2, choices) == "sw quota");
    }
    SECTION("and not another's") {
        choices.tenants[blue] = 8;
        choices.quotas[7].vlans = 0;
        CHECK(why(world, vf0, choices) == "sw quota");
        CHECK(why(world, vf2, choices) == "hw fits");
    }
}

TEST_CASE("what cannot be is refused", "[unit]") {
    World world = two_instances();
    Device wrong = device();
    SECTION("no uplink") {
        wrong.uplink = vf0;
        CHECK(refused(world, {}, wrong) == "IVDS-O001");
    }
    SECTION("two vPorts at one VF") {
        wrong.pools[vf1] = 0;
        CHECK(refused(world, {}, wrong) == "IVDS-O001");
    }
    SECTION("a vPort at the PF's pool") {
        wrong.pools[vf1] = together_pf;
        CHECK(refused(world, {}, wrong) == "IVDS-O001");
    }
    SECTION("a VF that the chip does not have") {
        wrong.pools[vf1] = 64;
        CHECK(refused(world, {}, wrong) == "IVDS-O001");
    }
    SECTION("an uplink that is a vPort, or at a vPort's VF") {
        wrong.uplinks[vf1] = 5;
        CHECK(refused(world, {}, wrong) == "IVDS-O001");
        wrong.uplinks = {{2, 0}};
        world.uplink(2, 9216, tpid_c, 0);
        CHECK(refused(world, {}, wrong) == "IVDS-O001");
    }
}

namespace {

std::string rx(const Plan& plan, std::uint32_t vport, unsigned place = 0) {
    const offload::Placement& at = plan.rx_filters.at({vport, place});
    return std::string(name(at.where)) + " " + std::string(name(at.reason));
}

offload::RxFilter tcp_to(std::uint16_t port, unsigned queue = 1) {
    return {.match = {.protocol = 6, .dst_port = port}, .queue = queue};
}

}  // namespace

TEST_CASE("filters choose among the queues that a VF has, and the 129th is passive", "[unit][R29][R188]") {
    const World world = two_instances();
    Choices choices;
    choices.rx_filters[vf0] = {tcp_to(80), tcp_to(81, 2), tcp_to(82, 0)};
    choices.rx_filters[vf2] = {tcp_to(80)};
    const Plan plan = plan_of(world, choices);
    CHECK(rx(plan, vf0, 0) == "hw fits");
    CHECK(rx(plan, vf0, 1) == "sw queue_away");
    CHECK(rx(plan, vf0, 2) == "hw fits");
    CHECK(rx(plan, vf2, 0) == "hw fits");
    CHECK(plan.state.filters.size() == 3);
    CHECK(plan.five_tuples.used == 3);
    CHECK(std::ranges::all_of(plan_of(world, choices, plan.state).steps, [](const offload::Step& step) {
        return std::holds_alternative<offload::Software>(step);
    }));

    // Those that are there stay, whatever comes before them.
    choices.rx_filters[vf2].clear();
    for (std::uint16_t port = 1; port <= 128; ++port) choices.rx_filters[vf2].push_back(tcp_to(port));
    choices.rx_filters[vf0] = {tcp_to(80)};
    Choices later = choices;
    later.rx_filters.erase(vf0);
    const Plan full = plan_of(world, later);
    CHECK(full.five_tuples.free() == 0);
    const Plan over = plan_of(world, choices, full.state);
    CHECK(rx(over, vf0) == "sw filters_full");
    CHECK(over.state.filters == full.state.filters);
    // One goes, and the passive one takes its place.
    choices.rx_filters[vf2].pop_back();
    const Plan next = plan_of(world, choices, over.state);
    CHECK(rx(next, vf0) == "hw fits");
    CHECK(next.state.filters.at({0, tcp_to(80).match}).slot == full.state.filters.at({2, tcp_to(128).match}).slot);
}

TEST_CASE("filters of a vPort that software carries are passive, and a tenant has as many as it may",
          "[unit][R29][R185]") {
    const World world = two_instances();
    Choices choices;
    choices.tenants = {{red, 7}};
    choices.quotas[7].filters = 1;
    choices.must_not = {vf2};
    choices.rx_filters = {{vf0, {tcp_to(80)}}, {vf1, {tcp_to(80)}}, {vf2, {tcp_to(80)}}};
    const Plan plan = plan_of(world, choices);
    CHECK(rx(plan, vf0) == "hw fits");
    CHECK(rx(plan, vf1) == "sw quota");
    CHECK(rx(plan, vf2) == "sw by_operator");

    offload::Chip one = offload::i82599::chip();
    one.one_queue_per_vf = true;
    Device single = device();
    single.chip = &one;
    const auto alone = offload::make_plan(snapshot_of(world), single, choices, {});
    REQUIRE(alone);
    CHECK(rx(*alone, vf0) == "sw one_queue");
    CHECK(alone->state.filters.empty());
}

TEST_CASE("a filter is off before its VF is another vPort's", "[unit][R29]") {
    const World world = two_instances();
    Choices choices;
    choices.rx_filters[vf0] = {tcp_to(80)};
    const Plan before = plan_of(world, choices);
    Device swapped = device();
    swapped.pools = {{vf0, 1}, {vf1, 0}, {vf2, 2}};
    const auto plan = offload::make_plan(snapshot_of(world), swapped, choices, before.state);
    REQUIRE(plan);
    const auto first = [&](auto is) { return std::ranges::find_if(plan->steps, is) - plan->steps.begin(); };
    const auto cleared =
        first([](const offload::Step& step) { return std::holds_alternative<offload::ClearFilter>(step); });
    const auto off =
        first([](const offload::Step& step) { return std::holds_alternative<offload::ClearPool>(step); });
    const auto on = first([](const offload::Step& step) { return std::holds_alternative<offload::SetPool>(step); });
    const auto set =
        first([](const offload::Step& step) { return std::holds_alternative<offload::SetFilter>(step); });
    CHECK(cleared < off);
    CHECK(off < on);
    CHECK(on < set);
    CHECK(plan->state.filters ==
          std::map<offload::RxKey, offload::NicFilter>{{{1, tcp_to(80).match}, {.slot = 0, .queue = 1}}});
}
