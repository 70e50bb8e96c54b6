// SPDX-License-Identifier: Apache-2.0
// compile: what the intent becomes in the data plane's tables.
#include <arpa/inet.h>
#include <fmt/format.h>

#include <catch2/catch_test_macros.hpp>
#include <set>

#include "api/codec.h"
#include "compile/compile.h"

using namespace ivds;

namespace {

struct Compiled {
    Model model;
    Ids ids;
    Tables tables;

    [[nodiscard]] const PortRow& port(const std::string& name) const { return tables.ports.at(ids.ports.at(name)); }
    [[nodiscard]] const InstanceRow& instance(const std::string& name) const {
        return tables.instances.at(ids.instances.at(name));
    }
};

Compiled compiled(const std::string& text, const Compiled& now = {}) {
    auto config = config_from_yaml(text, "t");
    INFO((config ? "" : config.error().text()));
    REQUIRE(config);
    auto model =
        next_from_config(now.model, *config, [](const std::string&) -> Result<Mac> { return Mac{2, 0, 0, 0, 0, 9}; });
    INFO((model ? "" : model.error().text()));
    REQUIRE(model);
    Compiled out{*model, assign_ids(*model, now.ids).value(), {}};
    out.tables = compile(out.model, out.ids, now.model, now.tables).value();
    return out;
}

const std::string kFabric = "uplinks: [{name: up, netdev: ens1f0, transport_vlan: 7}]\n";

}  // namespace

TEST_CASE("an uplink has its TPIDs, its policy and no MTU of its own", "[R86]") {
    const Compiled c = compiled(
        "uplinks: [{name: a, netdev: x, attach: native}, {name: b, netdev: y, outer_tpid: 0x88a8, inner_tpid: "
        "0x9100, plain: drop, fdb_limit: 5}]");
    CHECK(c.port("a").netdev == "x");
    CHECK(c.port("a").wanted == AttachMode::native);
    CHECK(c.port("a").value.kind == IVDS_PORT_UPLINK);
    CHECK(c.port("a").value.outer_tpid_be == htons(0x8100));
    CHECK(c.port("a").value.inner_tpid_be == htons(0x8100));
    CHECK(c.port("a").value.flags == 0);
    CHECK(c.port("a").value.fdb_limit == 1'000'000);
    CHECK(c.port("a").value.mtu_bytes == 0);
    CHECK(c.port("b").value.outer_tpid_be == htons(0x88a8));
    CHECK(c.port("b").value.inner_tpid_be == htons(0x9100));
    CHECK(c.port("b").value.flags == IVDS_PF_PLAIN_DROP);
    CHECK(c.port("b").value.fdb_limit == 5);
    CHECK(c.tables.vvlans.empty());
}

TEST_CASE("a vPort is checked for spoofing unless its profile says otherwise, and then learns within a limit",
          "[R59]") {
    const Compiled c = compiled(
        "instances: [{name: i}]\nprofiles: [{name: free, allow_spoof: true, guest_tags: carry}, {name: freer, "
        "allow_spoof: true, fdb_limit: 99}]\n"
        "vnics: [{name: n, vmac: 02:00:00:00:00:01}]\n"
        "vports: [{name: a, netdev: a, instance: i, vnic: n, extra_macs: [02:00:00:00:00:02]}, {name: b, netdev: b, "
        "instance: i, profile: free}, "
        "{name: c, netdev: c, instance: i, profile: freer}, {name: d, netdev: d}]");
    const ivds_port& a = c.port("a").value;
    CHECK(a.kind == IVDS_PORT_VPORT);
    CHECK(a.flags == IVDS_PF_ANTI_SPOOF);
    CHECK(a.fdb_limit == 0);
    CHECK(a.instance == c.ids.instances.at("i"));
    CHECK(a.vmac[5] == 1);
    CHECK(c.port("a").macs == std::vector<Mac>{{2, 0, 0, 0, 0, 1}, {2, 0, 0, 0, 0, 2}});
    CHECK(c.port("b").value.flags == IVDS_PF_CARRY_TAGS);
    CHECK(c.port("b").value.fdb_limit == 16);
    CHECK(c.port("c").value.flags == 0);
    CHECK(c.port("c").value.fdb_limit == 99);
    CHECK(c.port("d").value.instance == 0);
    CHECK(c.port("d").value.mtu_bytes == 1500);
}

TEST_CASE("a vPort's MTU is its own, else its profile's, else the instance's, and never above the instance's",
          "[R145]") {
    const Compiled c = compiled(
        "instances: [{name: i, mtu_bytes: 4000}, {name: j}]\nprofiles: [{name: p, mtu_bytes: 3000}, {name: big, "
        "mtu_bytes: 9000}]\n"
        "vports: [{name: a, netdev: a, instance: i}, {name: b, netdev: b, instance: i, profile: p}, "
        "{name: c, netdev: c, instance: i, profile: p, mtu_bytes: 2000}, {name: d, netdev: d, instance: i, profile: "
        "big}, {name: e, netdev: e, instance: j}]");
    CHECK(c.port("a").value.mtu_bytes == 4000);
    CHECK(c.port("b").value.mtu_bytes == 3000);
    CHECK(c.port("c").value.mtu_bytes == 2000);
    CHECK(c.port("d").value.mtu_bytes == 4000);
    CHECK(c.port("e").value.mtu_bytes == 1500);
}

TEST_CASE("a local instance has nothing to do with the wire", "[R45][R46]") {
    const Compiled c = compiled(kFabric + "instances: [{name: a, uplink: up, vlan: 10, vvlan: 100}, {name: b}]");
    for (const char* name : {"a", "b"}) {
        CHECK(c.instance(name).value.uplink == 0);
        CHECK(c.instance(name).value.flags == IVDS_IF_ACTIVE);
    }
    CHECK(c.tables.vvlans.empty());
}

TEST_CASE("a distributed instance is on the wire under its pair, and the VLAN is known to carry V.VLANs",
          "[R44][R69][R70][R74][R119]") {
    const Compiled c = compiled(kFabric +
                                "instances: [{name: a, uplink: up, scope: distributed, vlan: 10, vvlan: 100}, "
                                "{name: b, uplink: up, scope: distributed, vlan: 10, vvlan: 101}, {name: c, uplink: "
                                "up, scope: distributed, vlan: 11, vvlan: 100}]");
    const std::uint32_t up = c.ids.ports.at("up");
    const ivds_instance& a = c.instance("a").value;
    CHECK(a.uplink == up);
    CHECK(a.vlan == 10);
    CHECK(a.vvlan == 100);
    CHECK(a.flags == (IVDS_IF_ACTIVE | IVDS_IF_WIRE | IVDS_IF_LEARN_WIRE));
    CHECK(a.mtu_bytes == 1500);
    CHECK(a.age_s == 300);
    CHECK(a.fdb_limit == 16384);
    const std::map<std::array<std::uint32_t, 3>, std::uint32_t> expected = {
        {{up, 10, 0}, 0}, {{up, 10, 100}, c.ids.instances.at("a")}, {{up, 10, 101}, c.ids.instances.at("b")},
        {{up, 11, 0}, 0}, {{up, 11, 100}, c.ids.instances.at("c")},
    };
    CHECK(c.tables.vvlans == expected);
}

TEST_CASE("independent instances ride on the transport VLAN, and another transport VLAN changes nothing else",
          "[R76][R77]") {
    const std::string rest =
        "instances: [{name: a, uplink: up, mode: independent, scope: distributed, vvlan: 100}]\nvports: [{name: p, "
        "netdev: d, instance: a}]\n";
    const Compiled c = compiled(kFabric + rest);
    CHECK(c.instance("a").value.vlan == 7);
    CHECK(c.tables.vvlans.contains({c.ids.ports.at("up"), 7, 100}));
    const Compiled d = compiled("uplinks: [{name: up, netdev: ens1f0, transport_vlan: 8}]\n" + rest, c);
    CHECK(d.instance("a").value.vlan == 8);
    CHECK(d.ids == c.ids);
    CHECK(d.tables.vvlans.size() == 2);
    CHECK(d.tables.vvlans.contains({d.ids.ports.at("up"), 8, 100}));
    CHECK(d.port("p").value.instance == c.port("p").value.instance);
}

TEST_CASE("with peers on further VLANs, floods go there and the wire teaches nothing", "[R80][R119]") {
    const Compiled c =
        compiled(kFabric +
                 "instances: [{name: a, uplink: up, scope: distributed, vlan: 10, vvlan: 5, peer_vlans: [20, 30], "
                 "fdb: [{mac: 02:00:00:00:00:02, vlan: 20}, {mac: 02:00:00:00:00:01, vport: p}]}]\nvports: [{name: "
                 "p, netdev: d, instance: a}]\n");
    const InstanceRow& a = c.instance("a");
    CHECK(a.value.flags == (IVDS_IF_ACTIVE | IVDS_IF_WIRE));
    CHECK(a.value.peer_vlans[0] == 20);
    CHECK(a.value.peer_vlans[1] == 30);
    CHECK(a.value.peer_vlans[2] == 0);
    REQUIRE(a.fdb != nullptr);
    CHECK(*a.fdb == std::vector<StaticMac>{{{2, 0, 0, 0, 0, 1}, c.ids.ports.at("p"), 0},
                                           {{2, 0, 0, 0, 0, 2}, c.ids.ports.at("up"), 20}});
}

TEST_CASE("peers have the rate of their VLAN, or that of all others, each for itself", "[R81]") {
    const std::string text =
        kFabric +
        "instances: [{name: a, uplink: up, scope: distributed, vlan: 10, vvlan: 5, peer_vlans: [20, 30], peer_rates: "
        "[{rate_in_mbps: 8, burst_in_kib: 64}, {vlan: 20, rate_out_mbps: 100000}, {vlan: 30}]}, "
        "{name: b, uplink: up, scope: distributed, vlan: 10, vvlan: 6}]\n";
    const Compiled c = compiled(text);
    const std::uint32_t id = c.ids.instances.at("a");
    CHECK((c.instance("a").value.flags & IVDS_IF_PEER_RATES) != 0);
    CHECK((c.instance("b").value.flags & IVDS_IF_PEER_RATES) == 0);
    REQUIRE(c.tables.peer_rates.size() == 2);
    const ivds_peer_rate& own = c.tables.peer_rates.at({id, 10});
    CHECK(own.rate[IVDS_WAY_IN].ns_per_mib == 1'048'576'000);
    CHECK(own.rate[IVDS_WAY_IN].burst_ns == 65'536'000);
    CHECK(own.rate[IVDS_WAY_OUT].ns_per_mib == 0);
    const ivds_peer_rate& further = c.tables.peer_rates.at({id, 20});
    CHECK(further.rate[IVDS_WAY_IN].ns_per_mib == 0);
    CHECK(further.rate[IVDS_WAY_OUT].ns_per_mib == 83'886);
}

TEST_CASE("plain hosts of a VLAN are in the instance that lets them in", "[R95][R115]") {
    const Compiled c =
        compiled(kFabric +
                 "instances: [{name: a, uplink: up, scope: distributed, vlan: 10, vvlan: 5}, {name: b, "
                 "uplink: up, scope: distributed, vlan: 10, vvlan: 6, plain_access: true}]");
    const std::uint32_t up = c.ids.ports.at("up");
    CHECK(c.tables.vvlans.at({up, 10, 0}) == c.ids.instances.at("b"));
    CHECK((c.port("up").value.flags & IVDS_PF_PLAIN_IN) != 0);
    CHECK((c.instance("b").value.flags & IVDS_IF_PLAIN_OUT) != 0);
    CHECK((c.instance("a").value.flags & IVDS_IF_PLAIN_OUT) == 0);
    const Compiled none = compiled(kFabric + "instances: [{name: a, uplink: up, scope: distributed, vlan: 10}]");
    CHECK(none.tables.vvlans.at({none.ids.ports.at("up"), 10, 0}) == 0);
    CHECK((none.port("up").value.flags & IVDS_PF_PLAIN_IN) == 0);
}

TEST_CASE("a draining instance keeps all but its activity", "[R42]") {
    const Compiled c = compiled(
        kFabric + "instances: [{name: a, uplink: up, scope: distributed, vlan: 10, vvlan: 5, draining: true}]");
    CHECK((c.instance("a").value.flags & IVDS_IF_ACTIVE) == 0);
    CHECK((c.instance("a").value.flags & IVDS_IF_WIRE) != 0);
    CHECK(c.tables.vvlans.size() == 2);
}

TEST_CASE("ids stay with their names, and an id that became free waits for its turn", "[R47]") {
    const Compiled one =
        compiled("vports: [{name: a, netdev: a}, {name: b, netdev: b}]\ninstances: [{name: i}, {name: j}]");
    CHECK(one.ids.ports == std::map<std::string, std::uint32_t>{{"a", 1}, {"b", 2}});
    const Compiled two =
        compiled("vports: [{name: b, netdev: b}, {name: c, netdev: c}]\ninstances: [{name: j}, {name: k}]", one);
    CHECK(two.ids.ports == std::map<std::string, std::uint32_t>{{"b", 2}, {"c", 3}});
    CHECK(two.ids.instances == std::map<std::string, std::uint32_t>{{"j", 2}, {"k", 3}});
    const Compiled three = compiled("vports: [{name: a, netdev: a}, {name: b, netdev: b}]", two);
    CHECK(three.ids.ports == std::map<std::string, std::uint32_t>{{"a", 4}, {"b", 2}});
}

TEST_CASE("ids go round, and are never 0 nor one that is in use") {
    Model model;
    const auto port = [](const std::string& name) {
        auto vport = std::make_shared<pb::VPort>();
        vport->set_name(name);
        return vport;
    };
    model.vports["stays"] = port("stays");
    Ids ids = assign_ids(model, {}).value();
    REQUIRE(ids.ports.at("stays") == 1);
    std::set<std::uint32_t> seen;
    for (std::uint32_t i = 0; i < 2 * IVDS_MAX_PORTS; ++i) {
        model.vports.erase(fmt::format("p{}", i));
        model.vports[fmt::format("p{}", i + 1)] = port(fmt::format("p{}", i + 1));
        ids = assign_ids(model, ids).value();
        const std::uint32_t id = ids.ports.at(fmt::format("p{}", i + 1));
        REQUIRE(id > 1);
        REQUIRE(id < IVDS_MAX_PORTS);
        seen.insert(id);
    }
    CHECK(ids.ports.at("stays") == 1);
    CHECK(seen.size() == IVDS_MAX_PORTS - 2);
}

TEST_CASE("every id can be in use, one more is refused, and all can change at once") {
    Model model;
    for (std::uint32_t i = 1; i < IVDS_MAX_PORTS; ++i) {
        auto vport = std::make_shared<pb::VPort>();
        vport->set_name(fmt::format("p{}", i));
        model.vports[vport->name()] = vport;
    }
    const auto ids = assign_ids(model, {});
    REQUIRE(ids);
    CHECK(ids->ports.size() == IVDS_MAX_PORTS - 1);
    Model others;
    for (const auto& [name, vport] : model.vports) others.vports["q" + name] = vport;
    CHECK(assign_ids(others, *ids).value().ports.size() == IVDS_MAX_PORTS - 1);
    model.vports["one-more"] = model.vports.begin()->second;
    CHECK(assign_ids(model, *ids).error().code == Code::exhausted);
}

TEST_CASE("an instance that did not change shares its static list with the tables before, a changed one does not") {
    const auto text = [](const std::string& a, const std::string& b) {
        return kFabric + "instances: [{name: a, fdb: [{mac: 02:00:00:00:00:01, vport: p}]" + a +
               "}, {name: b, fdb: [{mac: 02:00:00:00:00:01, vport: q}]" + b +
               "}]\nvports: [{name: p, netdev: p, instance: a}, {name: q, netdev: q, instance: b}]\n";
    };
    const Compiled one = compiled(text("", ""));
    const Compiled two = compiled(text("", ", age_s: 5"), one);
    CHECK(two.instance("a").fdb == one.instance("a").fdb);
    CHECK(two.instance("b").fdb != one.instance("b").fdb);
    CHECK(*two.instance("b").fdb == *one.instance("b").fdb);
}

TEST_CASE("100,000 instances with their own pairs compile", "[R72]") {
    pb::Config config;
    pb::Uplink& uplink = *config.add_uplinks();
    uplink.set_name("up");
    uplink.set_netdev("e");
    for (std::uint32_t i = 0; i < 100'000; ++i) {
        pb::Instance& instance = *config.add_instances();
        instance.set_name(fmt::format("i{}", i));
        instance.set_uplink("up");
        instance.set_scope(pb::DISTRIBUTED);
        instance.set_vlan(1 + i / 4094);
        instance.set_vvlan(1 + i % 4094);
    }
    auto model = next_from_config({}, std::move(config), {});
    REQUIRE(model);
    const Ids ids = assign_ids(*model, {}).value();
    const Tables tables = compile(*model, ids).value();
    CHECK(tables.instances.size() == 100'000);
    CHECK(tables.vvlans.size() == 100'000 + 25);
}
