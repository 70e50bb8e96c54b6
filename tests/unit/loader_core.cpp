// SPDX-License-Identifier: Apache-2.0
// loader_core.cpp -- the switch's logic: full undo of a failure at any step, adoption, the life of ports.
#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <cstring>
#include <functional>

#include "core.h"
#include "loader_fake.h"

using namespace ivds;
using ivds::test::FakeKernel;

namespace {

Mac mac_of(std::uint32_t n) {
    return {2, 0, 0, 0, static_cast<std::uint8_t>(n >> 8), static_cast<std::uint8_t>(n)};
}

void add_vport(Tables& tables, std::uint32_t id, const std::string& netdev, std::uint32_t instance,
               AttachMode mode = AttachMode::automatic) {
    auto& row = tables.ports[id];
    row.name = "port-" + netdev;
    row.netdev = netdev;
    row.wanted = mode;
    row.value.kind = IVDS_PORT_VPORT;
    row.value.instance = instance;
    row.value.mtu_bytes = 1500;
    row.macs = {mac_of(id)};
}

void add_uplink(Tables& tables, std::uint32_t id, const std::string& netdev,
                AttachMode mode = AttachMode::automatic) {
    auto& row = tables.ports[id];
    row.name = "up-" + netdev;
    row.netdev = netdev;
    row.wanted = mode;
    row.value.kind = IVDS_PORT_UPLINK;
}

void add_instance(Tables& tables, std::uint32_t id, std::uint32_t uplink, std::uint16_t vvlan) {
    auto& row = tables.instances[id];
    row.name = fmt::format("tenant-{}", id);
    row.value.flags = IVDS_IF_ACTIVE;
    row.value.uplink = uplink;
    row.value.vlan = 100;
    row.value.vvlan = vvlan;
    row.value.mtu_bytes = 1492;
    if (uplink != 0) {
        tables.vvlans[{uplink, 100, 0}] = 0;
        tables.vvlans[{uplink, 100, vvlan}] = id;
    }
}

Neighbour neighbour(std::uint8_t number, const Mac& mac) {
    return {{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, number}, mac};
}
std::shared_ptr<const std::vector<Neighbour>> neighbours(std::vector<Neighbour> list) {
    return std::make_shared<const std::vector<Neighbour>>(std::move(list));
}

// Hardware uplink (native XDP), veths in every mode, two instances, static remote MACs.
Tables large() {
    Tables tables;
    add_uplink(tables, 1, "ens1");
    add_instance(tables, 1, 1, 7);
    add_instance(tables, 2, 1, 8);
    add_vport(tables, 2, "veth2", 1);
    add_vport(tables, 3, "veth3", 1, AttachMode::native);
    add_vport(tables, 4, "veth4", 2, AttachMode::generic);
    add_vport(tables, 5, "veth5", 2, AttachMode::clsact);
    tables.instances[1].fdb = std::make_shared<const std::vector<StaticMac>>(
        std::vector<StaticMac>{{mac_of(500), 1, 100}, {mac_of(501), 1, 101}});
    tables.instances[1].neighbours = neighbours({neighbour(1, mac_of(500)), neighbour(2, mac_of(2))});
    tables.instances[2].neighbours = neighbours({neighbour(1, mac_of(4))});
    return tables;
}

// From large(): a port gone, one moved to the other instance, one rebound, one re-moded, one new; an instance
// gone and one new; MACs changed.
Tables changed() {
    Tables tables;
    add_uplink(tables, 1, "ens1", AttachMode::tcx);
    add_instance(tables, 1, 1, 7);
    add_instance(tables, 3, 1, 9);
    add_vport(tables, 3, "veth3", 3, AttachMode::generic);
    add_vport(tables, 4, "veth6", 1);
    add_vport(tables, 5, "veth5", 3, AttachMode::tcx);
    add_vport(tables, 7, "veth2", 1, AttachMode::native);
    tables.instances[1].fdb = std::make_shared<const std::vector<StaticMac>>(
        std::vector<StaticMac>{{mac_of(500), 1, 102}, {mac_of(502), 1, 100}});
    tables.instances[1].neighbours = neighbours({neighbour(1, mac_of(502)), neighbour(3, mac_of(500))});
    return tables;
}

void add_interfaces(FakeKernel& kernel) {
    kernel.add("ens1", "", "mlx5_core");
    for (int i = 2; i <= 6; ++i) {
        kernel.add(fmt::format("veth{}", i), "veth");
    }
}

// Dispatchers of somebody else's where large() has XDP, but for one whose hook is empty.
void add_foreign(FakeKernel& kernel) {
    kernel.add_foreign("ens1", true);
    kernel.add_foreign("veth4", true, true);
}

std::string text(const Result<>& r) {
    return r ? "" : r.error().text();
}
std::string text(const std::vector<std::string>& lines) {
    std::string out;
    for (const auto& line : lines) {
        out += line + "\n";
    }
    return out;
}

void learn(FakeKernel& kernel, std::uint32_t instance, const Mac& mac, std::uint32_t port) {
    const auto key = to_abi(FdbKey{instance, mac});
    ivds_fdb_entry entry{};
    entry.port = port;
    kernel.set(Map::fdb, key, entry);
    kernel.learned(port, instance, 1);
}

// A list of rules with `entries` entries under two masks; rule ids go up from `first_rule`.
std::shared_ptr<const AclRow> list_of(std::uint32_t entries, std::uint32_t first_rule,
                                      ivds_acl_action default_action = IVDS_ACL_DROP) {
    AclRow list;
    list.default_action = static_cast<std::uint8_t>(default_action);
    list.masks.resize(2);
    list.masks[0].fields.type_be = 0xffff;
    list.masks[1].fields.dport_be = 0xffff;
    list.masks[1].first = 1;
    for (std::uint32_t n = 0; n < entries; ++n) {
        ivds_acl_key key{};
        key.mask = n % 2;
        (key.mask == 0 ? key.fields.type_be : key.fields.dport_be) = static_cast<std::uint16_t>(n + 1);
        list.rules.emplace_back(key, ivds_acl_rule{n, first_rule + n, 0, 0, IVDS_ACL_ALLOW, 0, {}});
    }
    return std::make_shared<const AclRow>(std::move(list));
}

void name_lists(Tables& tables, std::uint32_t port, std::uint32_t in, std::uint32_t out) {
    tables.ports[port].value.acl_in = in;
    tables.ports[port].value.acl_out = out;
}

// Lists that stay, go, and are replaced.
Tables with_lists() {
    auto tables = large();
    tables.acls = {{1, list_of(3, 10)}, {2, list_of(4, 20)}, {3, list_of(5, 30)}};
    name_lists(tables, 2, 1, 2);
    name_lists(tables, 3, 2, 0);
    name_lists(tables, 4, 3, 3);
    return tables;
}

// From with_lists(): list 1 stays, 4 is in the place of 2, 3 goes, 5 is new.
Tables other_lists() {
    auto tables = large();
    tables.acls = {{1, list_of(3, 10)}, {4, list_of(6, 22)}, {5, list_of(1, 50)}};
    name_lists(tables, 2, 1, 4);
    name_lists(tables, 3, 4, 1);
    name_lists(tables, 5, 0, 5);
    return tables;
}

constexpr std::array kListMaps = {Map::ports, Map::acls, Map::acl_masks, Map::acl_rules};

// Whether `kernel` holds the lists of `tables`, and the ports that name them, as if nothing else had ever been there.
void must_hold_lists(const FakeKernel& kernel, const Tables& tables) {
    FakeKernel fresh;
    add_interfaces(fresh);
    Core reference(fresh, false);
    REQUIRE(reference.adopt());
    REQUIRE(reference.apply(tables, true));
    for (const auto map : kListMaps) {
        INFO("map " << map_name(map));
        CHECK(kernel.state().maps[static_cast<std::size_t>(map)] ==
              fresh.state().maps[static_cast<std::size_t>(map)]);
    }
}

// Makes a world, does `prepare`, then `act` with a failure at each of its calls in turn: it must fail, and all
// must be as before. The last round has no failure and must succeed.
int fail_everywhere(const std::function<void(FakeKernel&, Core&)>& prepare, const std::function<Result<>(Core&)>& act,
                    bool coexist = false) {
    for (int step = 1;; ++step) {
        FakeKernel kernel;
        add_interfaces(kernel);
        if (coexist) {
            add_foreign(kernel);
        }
        Core core(kernel, false, coexist);
        REQUIRE(core.adopt());
        prepare(kernel, core);
        const auto before = kernel.state();
        const auto status_before = core.status();
        kernel.calls = 0;
        kernel.fail_at = step;
        const auto r = act(core);
        INFO("step " << step << ": " << text(r));
        INFO(text(kernel.violations));
        CHECK(kernel.violations.empty());
        if (kernel.calls < step) {
            REQUIRE(r);
            return step - 1;
        }
        if (r) {
            continue;  // a failure that only concerns one port, or what comes after the change
        }
        const auto after = kernel.state();
        for (std::size_t map = 0; map < kMapCount; ++map) {
            INFO("map " << map_name(static_cast<Map>(map)));
            CHECK(after.maps[map] == before.maps[map]);
        }
        CHECK(after.links == before.links);
        CHECK(after.foreign == before.foreign);
        CHECK(after.rings == before.rings);
        CHECK(after.interfaces == before.interfaces);
        CHECK(after.running == before.running);
        for (std::size_t i = 0; i < status_before.size(); ++i) {
            CHECK(core.status()[i].got == status_before[i].got);
            CHECK(core.status()[i].up == status_before[i].up);
        }
        // And it is not wedged: the same once more goes through.
        kernel.fail_at = 0;
        const auto again = act(core);
        INFO(text(again));
        CHECK(again);
    }
}

}  // namespace

TEST_CASE("apply writes what the tables say and hooks every port in its mode", "[R12]") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    const auto r = core.apply(large(), true);
    INFO(text(r));
    REQUIRE(r);
    INFO(text(kernel.violations));
    CHECK(kernel.violations.empty());
    const auto status = core.status();
    REQUIRE(status.size() == 5);
    CHECK(status[0].got == "native+tcx");
    CHECK(status[1].got == "tcx");
    CHECK(status[2].got == "native+tcx");
    CHECK(status[3].got == "generic+tcx");
    CHECK(status[4].got == "clsact");
    for (const auto& port : status) {
        CHECK(port.up);
        CHECK_FALSE(port.reason.empty());
    }
    CHECK(kernel.get<ivds_instance>(Map::instances, 1u).first_member == 2);
    CHECK(kernel.get<ivds_port>(Map::ports, 2u).next_member == 3);
    CHECK(kernel.get<ivds_port>(Map::ports, 3u).next_member == 0);
    CHECK(kernel.get<ivds_port>(Map::ports, 1u).mtu_bytes == 1500);
    CHECK(kernel.interfaces.at("ens1").netdev.promiscuous);
    CHECK_FALSE(kernel.interfaces.at("ens1").own.at("rx-vlan-hw-parse").on);
    CHECK(kernel.interfaces.at("veth3").peer.at("rx-gro").on);
    CHECK_FALSE(kernel.interfaces.at("veth3").peer.at("tx-checksum-ip-generic").on);
    CHECK(kernel.interfaces.at("veth2").peer.at("tx-checksum-ip-generic").on);
    const auto entry = kernel.get<ivds_fdb_entry>(Map::fdb, to_abi(FdbKey{1, mac_of(501)}));
    CHECK(entry.port == 1);
    CHECK(entry.vlan == 101);
    CHECK(entry.flags == IVDS_FDB_STATIC);
    CHECK(kernel.rows(Map::fdb) == 6);
    CHECK(kernel.rows(Map::neighbours) == 3);
    const NeighbourKey key{2, neighbour(1, {}).address};
    CHECK(kernel.get<ivds_neighbour>(Map::neighbours, to_abi(key)).mac[5] == mac_of(4)[5]);
}

TEST_CASE("addresses that the switch answers for change one by one, and go with their instance", "[R106]") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), true));
    REQUIRE(core.apply(changed(), true));
    CHECK(kernel.rows(Map::neighbours) == 2);
    const auto mac_at = [&](std::uint8_t number) {
        return kernel.get<ivds_neighbour>(Map::neighbours, to_abi(NeighbourKey{1, neighbour(number, {}).address}));
    };
    CHECK(std::ranges::equal(mac_at(1).mac, mac_of(502)));
    CHECK(std::ranges::equal(mac_at(3).mac, mac_of(500)));
    Tables twice = changed();
    twice.instances[1].neighbours = neighbours({neighbour(1, mac_of(502)), neighbour(1, mac_of(500))});
    const auto refused = core.apply(twice, true);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().what.find("neighbour twice") != std::string::npos);
    CHECK(kernel.rows(Map::neighbours) == 2);
}

TEST_CASE("what is applied already is not written again, also after adoption") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), true));
    kernel.writes = 0;
    REQUIRE(core.apply(large(), true));
    CHECK(kernel.writes == 0);
    Core other(kernel, false);
    REQUIRE(other.adopt());
    REQUIRE(other.apply(large(), true));
    CHECK(kernel.writes == 0);
    CHECK(other.status()[0].got == "native+tcx");
    CHECK(other.status()[4].got == "clsact");
}

TEST_CASE("a change of everything at once keeps the safety rules at every step and ends right") {
    const bool adopted = GENERATE(false, true);
    FakeKernel kernel;
    add_interfaces(kernel);
    Core first(kernel, false);
    REQUIRE(first.adopt());
    REQUIRE(first.apply(large(), true));
    Core second(kernel, false);
    if (adopted) {
        REQUIRE(second.adopt());
    }
    Core& core = adopted ? second : first;
    const auto r = core.apply(changed(), true);
    INFO(text(r));
    REQUIRE(r);
    INFO(text(kernel.violations));
    CHECK(kernel.violations.empty());

    FakeKernel fresh;
    add_interfaces(fresh);
    Core reference(fresh, false);
    REQUIRE(reference.adopt());
    REQUIRE(reference.apply(changed(), true));
    const auto got = kernel.state();
    const auto wanted = fresh.state();
    for (std::size_t map = 0; map < kMapCount; ++map) {
        if (static_cast<Map>(map) != Map::meta) {
            INFO("map " << map_name(static_cast<Map>(map)));
            CHECK(got.maps[map] == wanted.maps[map]);
        }
    }
    CHECK(got.links == wanted.links);
    CHECK_FALSE(kernel.interfaces.at("veth4").netdev.admin_up);  // its port is on another interface now
}

TEST_CASE("a failure at any step of the first apply leaves nothing behind") {
    const auto nothing = [](FakeKernel&, Core&) {};
    CHECK(fail_everywhere(nothing, [](Core& core) { return core.apply(large(), true); }) > 50);
}

TEST_CASE("a failure at any step of a change leaves everything as it was", "[R12][R41]") {
    const auto prepare = [](FakeKernel& kernel, Core& core) {
        REQUIRE(core.apply(large(), true));
        learn(kernel, 1, mac_of(502), 2);  // in the way of a static entry of the change
    };
    CHECK(fail_everywhere(prepare, [](Core& core) { return core.apply(changed(), true); }) > 50);
}

TEST_CASE("lists of rules are in the maps as the tables have them, whole before a port names them") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(with_lists(), true));
    CHECK(kernel.get<ivds_acl>(Map::acls, 2u).masks == 2);
    CHECK(kernel.get<ivds_acl>(Map::acls, 2u).default_action == IVDS_ACL_DROP);
    CHECK(kernel.get<ivds_acl_mask>(Map::acl_masks, ivds_acl_mask_key{2, 1}).fields.dport_be == 0xffff);
    ivds_acl_key key{};
    key.acl = 2;
    key.mask = 1;
    key.fields.dport_be = 4;
    CHECK(kernel.get<ivds_acl_rule>(Map::acl_rules, key).rule == 23);
    CHECK(kernel.rows(Map::acl_masks) == 6);
    CHECK(kernel.rows(Map::acl_rules) == 12);
    CHECK(kernel.get<ivds_port>(Map::ports, 2u).acl_in == 1);
    CHECK(kernel.get<ivds_port>(Map::ports, 2u).acl_out == 2);
    REQUIRE(core.apply(other_lists(), true));
    must_hold_lists(kernel, other_lists());
    REQUIRE(core.apply(large(), true));
    must_hold_lists(kernel, large());
    CHECK(kernel.rows(Map::acl_masks) == 0);
    CHECK(kernel.rows(Map::acl_rules) == 0);
    INFO(text(kernel.violations));
    CHECK(kernel.violations.empty());
}

TEST_CASE("a failure at any step of a change of lists of rules leaves everything as it was") {
    const auto prepare = [](FakeKernel&, Core& core) { REQUIRE(core.apply(with_lists(), true)); };
    // 6 + 2 + 1 and 1 + 2 + 1 rows of new lists, 7 + 8 of those that go, and four ports.
    CHECK(fail_everywhere(prepare, [](Core& core) { return core.apply(other_lists(), true); }) >= 32);
}

TEST_CASE("a list of rules that changes under its id is refused, and nothing is written") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(with_lists(), true));
    kernel.writes = 0;
    auto next = with_lists();
    next.acls[2] = list_of(4, 21);
    const auto r = core.apply(next, true);
    REQUIRE_FALSE(r);
    CHECK(r.error().id == "IVDS-T001");
    CHECK(kernel.writes == 0);
    next.acls[2] = list_of(4, 20);  // the same again in another place
    CHECK(core.apply(next, true));
    CHECK(kernel.writes == 0);
}

TEST_CASE("a list of 10,000 entries is replaced whole, and comes back whole when that fails") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    auto before = large();
    before.acls[1] = list_of(10000, 1);
    name_lists(before, 2, 1, 1);
    REQUIRE(core.apply(before, true));
    auto next = large();
    next.acls[2] = list_of(10000, 20000);
    name_lists(next, 2, 2, 2);
    const auto state = kernel.state();
    // In the middle of the new list, of the old one, and at its last row.
    for (const int at : {5000, 15000, 20007}) {
        kernel.calls = 0;
        kernel.fail_at = at;
        CHECK_FALSE(core.apply(next, true));
        CHECK(kernel.state() == state);
    }
    kernel.revive();
    kernel.writes = 0;
    REQUIRE(core.apply(next, true));
    CHECK(kernel.writes == 2 * (10000 + 2 + 1) + 1 + 1);  // both lists, the port, the generation
    CHECK(kernel.rows(Map::acl_rules) == 10000);
    must_hold_lists(kernel, next);
    INFO(text(kernel.violations));
    CHECK(kernel.violations.empty());
}

TEST_CASE("a change of lists of rules that ended anywhere is finished or taken back by whoever comes next") {
    const bool same_process = GENERATE(false, true);
    const bool forward = GENERATE(false, true);
    const auto wanted = forward ? other_lists() : with_lists();
    int steps = 0;
    for (bool crashed = true; crashed; ++steps) {
        INFO("step " << steps);
        FakeKernel kernel;
        add_interfaces(kernel);
        Core core(kernel, false);
        REQUIRE(core.adopt());
        REQUIRE(core.apply(with_lists(), true));
        kernel.calls = 0;
        kernel.fail_at = steps + 1;
        kernel.dead_from_then = true;
        crashed = !core.apply(other_lists(), true);
        kernel.revive();
        Core next(kernel, false);
        if (!same_process) {
            REQUIRE(next.adopt());
        }
        const auto r = (same_process ? core : next).apply(wanted, true);
        INFO(text(r));
        REQUIRE(r);
        must_hold_lists(kernel, wanted);
        INFO(text(kernel.violations));
        CHECK(kernel.violations.empty());
    }
    CHECK(steps > 32);
}

TEST_CASE("maps that hold another list under an id get the right one, and it is never met half") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core first(kernel, false);
    REQUIRE(first.adopt());
    REQUIRE(first.apply(with_lists(), true));
    auto wanted = with_lists();
    wanted.acls[1] = list_of(7, 70);
    wanted.acls[2] = list_of(1, 80, IVDS_ACL_ALLOW);
    Core second(kernel, false);
    REQUIRE(second.adopt());
    REQUIRE(second.apply(wanted, true));
    must_hold_lists(kernel, wanted);
    // The ports stay on a list that is off for a moment: their frames drop.
    CHECK(kernel.violations == std::vector<std::string>{"port 2 names the list of rules 1, which is not live",
                                                        "port 2 names the list of rules 2, which is not live",
                                                        "port 3 names the list of rules 2, which is not live"});
}

TEST_CASE("a change of one port of 1,000 does not look at the 100 lists of rules") {
    FakeKernel kernel;
    kernel.add("ens1", "", "mlx5_core");
    Core core(kernel, false);
    REQUIRE(core.adopt());
    Tables tables;
    add_instance(tables, 1, 0, 7);
    for (std::uint32_t id = 1; id <= 100; ++id) {
        tables.acls[id] = list_of(20, id * 100);
    }
    for (std::uint32_t id = 1; id <= 1000; ++id) {
        add_vport(tables, id, fmt::format("v{}", id), id == 1 ? 0 : 1);  // their interfaces are away
        name_lists(tables, id, 1 + id % 100, 1 + id % 7);
    }
    REQUIRE(core.apply(tables, false));
    const auto touches = [&] {
        return kernel.touched[static_cast<std::size_t>(Map::acls)] +
               kernel.touched[static_cast<std::size_t>(Map::acl_masks)] +
               kernel.touched[static_cast<std::size_t>(Map::acl_rules)];
    };
    REQUIRE(touches() >= 100 * (20 + 2 + 1));
    kernel.touched = {};
    kernel.writes = 0;
    tables.ports[500].value.acl_in = 99;
    REQUIRE(core.apply(tables, false));
    CHECK(kernel.writes == 2);  // the port and the generation
    CHECK(touches() == 0);
}

TEST_CASE("rules that no list holds any more are no longer counted") {
    const bool adopted = GENERATE(false, true);
    FakeKernel kernel;
    add_interfaces(kernel);
    Core first(kernel, false);
    REQUIRE(first.adopt());
    REQUIRE(first.apply(with_lists(), true));
    // Rule 22 is in list 2, which goes, and in list 4, which comes.
    for (const std::uint32_t rule : {10u, 20u, 22u, 23u, 30u}) {
        kernel.set(Map::rule_stats, rule, ivds_rule_count{1, 60, 7});
    }
    Core second(kernel, false);
    if (adopted) {
        REQUIRE(second.adopt());
    }
    REQUIRE((adopted ? second : first).apply(other_lists(), true));
    CHECK(kernel.rows(Map::rule_stats) == 3);
    for (const std::uint32_t rule : {10u, 22u, 23u}) {
        CHECK(kernel.get<ivds_rule_count>(Map::rule_stats, rule).bytes == 60);
    }
}

TEST_CASE("a failure at any step of an upgrade leaves every hook on the old programs") {
    const auto prepare = [](FakeKernel& kernel, Core& core) {
        REQUIRE(core.apply(large(), true));
        kernel.own_build = "fake-2";
    };
    CHECK(fail_everywhere(prepare, [](Core& core) { return core.upgrade(false); }) >= 10);
}

TEST_CASE("an upgrade puts every hook on the new programs, once") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), true));
    const auto before = kernel.state().links;
    REQUIRE(core.upgrade(false));
    CHECK(kernel.state().links == before);  // it runs already
    kernel.own_build = "fake-2";
    REQUIRE(core.upgrade(false));
    for (const auto& link : kernel.state().links) {
        CHECK(link.program == (is_xdp(link.point) ? kernel.current().xdp : kernel.current().tc));
    }
    CHECK(kernel.running() == "fake-2");
    const auto meta = kernel.get<ivds_meta>(Map::meta, 0u);
    CHECK(std::string(reinterpret_cast<const char*>(meta.build)) == "fake-2");
}

TEST_CASE("a learned entry in the way of a static one is replaced and no longer counted") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), true));
    learn(kernel, 1, mac_of(502), 2);
    REQUIRE(kernel.learned_of(2) == 1);
    auto next = large();
    next.instances[1].fdb =
        std::make_shared<const std::vector<StaticMac>>(std::vector<StaticMac>{{mac_of(502), 1, 100}});
    REQUIRE(core.apply(next, true));
    CHECK(kernel.learned_of(2) == 0);
    CHECK(kernel.get<ivds_instance_state>(Map::instance_state, 1u).learned == 0);
    CHECK(kernel.get<ivds_fdb_entry>(Map::fdb, to_abi(FdbKey{1, mac_of(502)})).port == 1);
}

TEST_CASE("learned entries of ports and instances that go are forgotten") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), true));
    learn(kernel, 1, mac_of(600), 2);
    learn(kernel, 2, mac_of(601), 1);
    learn(kernel, 1, mac_of(602), 1);
    REQUIRE(core.apply(changed(), true));
    CHECK(kernel.get<ivds_fdb_entry>(Map::fdb, to_abi(FdbKey{1, mac_of(600)})).port == 0);
    CHECK(kernel.get<ivds_fdb_entry>(Map::fdb, to_abi(FdbKey{2, mac_of(601)})).port == 0);
    CHECK(kernel.get<ivds_fdb_entry>(Map::fdb, to_abi(FdbKey{1, mac_of(602)})).port == 1);
}

TEST_CASE("forget takes a learned MAC and refuses a configured one") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), true));
    learn(kernel, 1, mac_of(600), 2);
    CHECK(core.forget(1, mac_of(600)));
    CHECK(kernel.learned_of(2) == 0);
    CHECK(core.forget(1, mac_of(600)).error().code == Code::not_found);
    CHECK(core.forget(1, mac_of(2)).error().code == Code::conflict);
}

TEST_CASE("an interface that goes takes its port down, and up when it returns under another index", "[R12][R50]") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), true));
    const auto old = kernel.interfaces.at("veth3").netdev;
    kernel.remove("veth3");
    NetdevWatch::Change change;
    change.netdev.ifindex = old.ifindex;
    change.netdev.name = old.name;
    change.gone = true;
    auto changes = core.on_change(change);
    REQUIRE(changes.size() == 1);
    CHECK(changes[0].id == 3);
    CHECK_FALSE(changes[0].up);
    CHECK(changes[0].reason == "interface vanished");
    const auto port = kernel.get<ivds_port>(Map::ports, 3u);
    CHECK(port.ifindex == 0);
    CHECK((port.flags & kRuntimeFlags) == 0);
    CHECK(port.instance == 1);
    CHECK(kernel.get<std::uint32_t>(Map::ifports, old.ifindex) == 0);

    kernel.add("veth3", "veth");
    changes = core.on_change({kernel.interfaces.at("veth3").netdev, false, false});
    REQUIRE(changes.size() == 1);
    CHECK(changes[0].up);
    CHECK(changes[0].reason == "attached: native+tcx");
    CHECK(kernel.violations.empty());
}

TEST_CASE("a lost watch message is made good by a look at everything") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), true));
    kernel.remove("veth2");
    kernel.remove("veth3");
    kernel.add("veth3", "veth");
    kernel.interfaces.at("veth4").netdev.carrier = false;
    (void)core.resync();
    const auto status = core.status();
    CHECK(status[1].ifindex == 0);
    CHECK(status[2].up);
    CHECK_FALSE(status[3].up);
}

TEST_CASE("a port that cannot be attached as asked is down with the reason, its interface is down, the rest is up") {
    FakeKernel kernel;
    add_interfaces(kernel);
    kernel.refused = {Point::native};
    Core core(kernel, false);
    REQUIRE(core.adopt());
    const auto strict = core.apply(large(), true);
    REQUIRE_FALSE(strict);
    CHECK(kernel.state().links.empty());
    REQUIRE(core.apply(large(), false));
    const auto status = core.status();
    CHECK(status[0].got == "tcx");  // automatic: falls back, and says why
    CHECK(status[0].reason.find("refused") != std::string::npos);
    CHECK(status[2].got == "none");
    CHECK_FALSE(status[2].up);
    CHECK(status[2].reason.find("native") != std::string::npos);
    CHECK_FALSE(kernel.interfaces.at("veth3").netdev.admin_up);
    CHECK(status[3].up);
    kernel.refused.clear();
    REQUIRE(core.apply(large(), false));
    CHECK(core.status()[2].got == "native+tcx");
    CHECK(core.status()[2].up);
}

TEST_CASE("taking the switch down sets vPorts down before their hooks come off, and never the uplink") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), true));
    REQUIRE(core.tear_down());
    CHECK(kernel.violations.empty());
    CHECK(kernel.state().links.empty());
    CHECK(kernel.interfaces.at("ens1").netdev.admin_up);
    CHECK_FALSE(kernel.interfaces.at("ens1").netdev.promiscuous);
    for (int i = 2; i <= 5; ++i) {
        CHECK_FALSE(kernel.interfaces.at(fmt::format("veth{}", i)).netdev.admin_up);
    }
    CHECK(kernel.interfaces.at("veth6").netdev.admin_up);
}

namespace {

std::vector<std::string> drift(Core& core) {
    std::vector<std::string> out;
    for (const auto& finding : core.doctor()) {
        if (finding.id.starts_with("IVDS-D")) {
            out.push_back(finding.id + " " + finding.object + " " + finding.text);
        }
    }
    return out;
}

}  // namespace

TEST_CASE("the audit finds each entry that somebody else changed, and the next change writes it anew", "[R106]") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), true));
    const auto before = kernel.state();
    // 5 ports, 2 instances, 3 V.VLAN entries, 5 interfaces, those of them that take redirects, 6 static MACs, 3
    // addresses.
    CHECK(drift(core) ==
          std::vector<std::string>{fmt::format("IVDS-D000 maps the tables match the intent: {} entries",
                                               5 + 2 + 3 + 5 + kernel.rows(Map::tx) + 6 + 3)});

    struct Fault {
        const char* finding;
        std::function<void()> make;
    };
    const std::vector<Fault> faults = {
        {"IVDS-D002 ports[2] port-veth2 drifted: wanted instance 1, found instance 2",
         [&] {
             auto port = kernel.get<ivds_port>(Map::ports, 2u);
             port.instance = 2;
             kernel.set(Map::ports, 2u, port);
         }},
        {"IVDS-D002 ports[3] port-veth3 drifted: wanted ifindex",
         [&] {
             auto port = kernel.get<ivds_port>(Map::ports, 3u);
             port.ifindex = 77;
             kernel.set(Map::ports, 3u, port);
         }},
        {"IVDS-D001 ports[4] port-veth4 is missing: wanted kind 1", [&] { kernel.set(Map::ports, 4u, ivds_port{}); }},
        {"IVDS-D003 ports[9] is there, and nothing wants it: found kind 1",
         [&] {
             ivds_port port{};
             port.kind = IVDS_PORT_VPORT;
             port.instance = 1;
             kernel.set(Map::ports, 9u, port);
         }},
        {"IVDS-D002 instances[1] tenant-1 drifted: wanted vvlan 7, flags 0x0001, found vvlan 8, flags 0x0000",
         [&] {
             auto instance = kernel.get<ivds_instance>(Map::instances, 1u);
             instance.vvlan = 8;
             instance.flags = 0;
             kernel.set(Map::instances, 1u, instance);
         }},
        {"IVDS-D002 vvlans[uplink, VLAN, V.VLAN [1, 100, 7]] drifted: wanted 1, found 2",
         [&] { kernel.set(Map::vvlans, to_abi(VvlanKey{1, 100, 7}), ivds_vvlan{2}); }},
        {"IVDS-D003 vvlans[uplink, VLAN, V.VLAN [1, 100, 9]] is there, and nothing wants it: found 2",
         [&] { kernel.set(Map::vvlans, to_abi(VvlanKey{1, 100, 9}), ivds_vvlan{2}); }},
        {"IVDS-D001 vvlans[uplink, VLAN, V.VLAN [1, 100, 8]] is missing: wanted 2",
         [&] {
             const auto key = to_abi(VvlanKey{1, 100, 8});
             REQUIRE(kernel.erase(Map::vvlans, &key));
         }},
        {"IVDS-D003 ifports[ifindex 4711] is there, and nothing wants it: found 2",
         [&] { kernel.set(Map::ifports, 4711u, 2u); }},
        {"IVDS-D001 fdb[instance 1, 02:00:00:00:00:02] is missing: wanted port 2",
         [&] {
             const auto key = to_abi(FdbKey{1, mac_of(2)});
             REQUIRE(kernel.erase(Map::fdb, &key));
         }},
        {"IVDS-D002 fdb[instance 1, 02:00:00:00:01:f5] drifted: wanted port 1, VLAN 101, found port 1, VLAN 99",
         [&] { kernel.set(Map::fdb, to_abi(FdbKey{1, mac_of(501)}), to_abi(FdbTarget{1, 99})); }},
        {"IVDS-D003 fdb[instance 2, 02:00:00:00:02:bc] is there, and nothing wants it: found port 4",
         [&] { kernel.set(Map::fdb, to_abi(FdbKey{2, mac_of(700)}), to_abi(FdbTarget{4, 0})); }},
        {"IVDS-D001 neighbours[instance 1, 00000000000000000000ffff0a000002] is missing: wanted 02:00:00:00:00:02",
         [&] {
             const auto key = to_abi(NeighbourKey{1, neighbour(2, {}).address});
             REQUIRE(kernel.erase(Map::neighbours, &key));
         }},
        {"IVDS-D003 neighbours[instance 1, 00000000000000000000ffff0a000009] is there, and nothing wants it",
         [&] { kernel.set(Map::neighbours, to_abi(NeighbourKey{1, neighbour(9, {}).address}), ivds_neighbour{}); }},
    };
    const bool by_mend = GENERATE(false, true);
    for (const auto& fault : faults) {
        INFO(fault.finding);
        fault.make();
        const auto found = drift(core);
        INFO(text(found));
        CHECK(std::ranges::any_of(found, [&](const auto& line) { return line.starts_with(fault.finding); }));
        if (by_mend) {
            REQUIRE(core.mend());
        } else {
            REQUIRE(core.apply(large(), true));
        }
        CHECK(drift(core).front().starts_with("IVDS-D000"));
        auto after = kernel.state();
        after.maps[static_cast<std::size_t>(Map::meta)] = before.maps[static_cast<std::size_t>(Map::meta)];
        for (std::size_t map = 0; map < kMapCount; ++map) {
            INFO("map " << map_name(static_cast<Map>(map)));
            CHECK(after.maps[map] == before.maps[map]);
        }
        CHECK(after.links == before.links);
    }
    CHECK(kernel.violations.empty());
}

TEST_CASE("the audit finds what somebody else changed in lists of rules, and the next change writes it anew",
          "[R106]") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(with_lists(), true));
    const auto before = kernel.state();
    // Besides what the tables without lists have: 3 lists, 2 masks each, 12 rules.
    CHECK(drift(core) ==
          std::vector<std::string>{fmt::format("IVDS-D000 maps the tables match the intent: {} entries",
                                               5 + 2 + 3 + 5 + kernel.rows(Map::tx) + 6 + 3 + 3 + 6 + 12)});
    ivds_acl_key key{};  // of rule 21
    key.acl = 2;
    key.mask = 1;
    key.fields.dport_be = 2;
    struct Fault {
        const char* finding;
        std::function<void()> make;
    };
    const std::vector<Fault> faults = {
        {"IVDS-D001 acls[2] is missing: wanted 2 masks, default drop",
         [&] { kernel.set(Map::acls, 2u, ivds_acl{}); }},
        {"IVDS-D002 acls[2] drifted: wanted 2 masks, default drop, found 0 masks, default allow",
         [&] { kernel.set(Map::acls, 2u, ivds_acl{0, IVDS_ACL_ALLOW, 0, {}}); }},
        {"IVDS-D003 acls[9] is there, and nothing wants it: found 0 masks, default allow",
         [&] { kernel.set(Map::acls, 9u, ivds_acl{0, IVDS_ACL_ALLOW, 0, {}}); }},
        {"IVDS-D002 acl_masks[ACL 2, index 1] drifted: wanted dport ffff; first 1, found dport ff00; first 1",
         [&] {
             auto mask = kernel.get<ivds_acl_mask>(Map::acl_masks, ivds_acl_mask_key{2, 1});
             mask.fields.dport_be = htons(0xff00);
             kernel.set(Map::acl_masks, ivds_acl_mask_key{2, 1}, mask);
         }},
        {"IVDS-D001 acl_rules[ACL 2, mask 1, dport 0200] is missing: wanted order 1, rule 21, allow",
         [&] { kernel.unset(Map::acl_rules, key); }},
        {"IVDS-D002 acl_rules[ACL 2, mask 1, dport 0200] drifted: wanted order 1, rule 21, allow, found order 1, "
         "rule "
         "21, drop",
         [&] { kernel.set(Map::acl_rules, key, ivds_acl_rule{1, 21, 0, 0, IVDS_ACL_DROP, 0, {}}); }},
        {"IVDS-D003 acl_rules[ACL 2, mask 1, dport 0200, proto 06] is there, and nothing wants it: found order 0, "
         "rule 0, allow",
         [&] {
             auto other = key;
             other.fields.proto = 6;
             kernel.set(Map::acl_rules, other, ivds_acl_rule{0, 0, 0, 0, IVDS_ACL_ALLOW, 0, {}});
         }},
        {"IVDS-D003 acl_masks[ACL 4000000, index 0] is there, and nothing wants it: found nothing; first 7",
         [&] { kernel.set(Map::acl_masks, ivds_acl_mask_key{4000000, 0}, ivds_acl_mask{{}, 7, 0}); }},
        {"IVDS-D002 ports[2] port-veth2 drifted: wanted acl_out 2, found acl_out 0",
         [&] {
             auto port = kernel.get<ivds_port>(Map::ports, 2u);
             port.acl_out = 0;
             kernel.set(Map::ports, 2u, port);
         }},
    };
    const bool by_mend = GENERATE(false, true);
    for (const auto& fault : faults) {
        INFO(fault.finding);
        fault.make();
        const auto found = drift(core);
        INFO(text(found));
        CHECK(found == std::vector<std::string>{fault.finding});
        if (by_mend) {
            REQUIRE(core.mend());
        } else {
            REQUIRE(core.apply(with_lists(), true));
        }
        CHECK(drift(core).front().starts_with("IVDS-D000"));
        for (const auto map : kListMaps) {
            INFO("map " << map_name(map));
            CHECK(kernel.state().maps[static_cast<std::size_t>(map)] == before.maps[static_cast<std::size_t>(map)]);
        }
    }
    // A list is off while it is mended, which its ports notice; but it does not change while it is live.
    INFO(text(kernel.violations));
    CHECK(std::ranges::all_of(kernel.violations, [](const auto& line) { return line.ends_with("is not live"); }));
}

TEST_CASE("learned entries and what a vanished interface took along are no drift", "[R106]") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), true));
    learn(kernel, 1, mac_of(900), 1);
    CHECK(drift(core).front().starts_with("IVDS-D000"));
    kernel.remove("veth3");
    const std::uint32_t port = 3;
    REQUIRE(kernel.erase(Map::tx, &port));
    CHECK(drift(core).front().starts_with("IVDS-D000"));
}

TEST_CASE("asked to coexist, XDP joins the dispatchers of others or makes one, and leaves without them") {
    FakeKernel kernel;
    add_interfaces(kernel);
    add_foreign(kernel);
    const auto foreign = kernel.state().foreign;
    Core core(kernel, false, true);
    REQUIRE(core.adopt());
    const auto r = core.apply(large(), true);
    INFO(text(r));
    REQUIRE(r);
    const auto status = core.status();
    CHECK(status[0].got == "native-libxdp+tcx");
    CHECK(status[0].reason.find("libxdp's dispatcher beside scrubber") != std::string::npos);
    CHECK(status[1].got == "tcx");
    CHECK(status[2].got == "native-libxdp+tcx");
    CHECK(status[2].reason == "native XDP through libxdp's dispatcher, as asked");
    CHECK(status[3].got == "generic-libxdp+tcx");
    CHECK(kernel.state().foreign == foreign);
    REQUIRE(core.tear_down());
    INFO(text(kernel.violations));
    CHECK(kernel.violations.empty());
    CHECK(kernel.state().links.empty());
    CHECK(kernel.state().foreign == foreign);
}

TEST_CASE("a failure at any step of an apply, a change or an upgrade undoes what was done in dispatchers") {
    const auto nothing = [](FakeKernel&, Core&) {};
    CHECK(fail_everywhere(nothing, [](Core& core) { return core.apply(large(), true); }, true) > 50);
    // changed() moves veth3 from native to generic, and takes XDP off the uplink and off veth4.
    const auto apply = [](FakeKernel&, Core& core) { REQUIRE(core.apply(large(), true)); };
    CHECK(fail_everywhere(apply, [](Core& core) { return core.apply(changed(), true); }, true) > 50);
    const auto newer = [](FakeKernel& kernel, Core& core) {
        REQUIRE(core.apply(large(), true));
        kernel.own_build = "fake-2";
    };
    CHECK(fail_everywhere(newer, [](Core& core) { return core.upgrade(false); }, true) >= 10);
}

TEST_CASE("an upgrade exchanges the program in a dispatcher, with one of ours there at every moment") {
    FakeKernel kernel;
    add_interfaces(kernel);
    add_foreign(kernel);
    Core core(kernel, false, true);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), true));
    const auto old = kernel.shared_on("ens1");
    kernel.own_build = "fake-2";
    REQUIRE(core.upgrade(false));
    INFO(text(kernel.violations));
    CHECK(kernel.violations.empty());
    for (const auto* name : {"ens1", "veth3", "veth4"}) {
        CHECK(kernel.shared_on(name) == std::vector{kernel.current().xdp});
    }
    CHECK(kernel.shared_on("ens1") != old);
}

TEST_CASE("what shares a hook is adopted and stays shared, also by an agent that was not asked to") {
    const bool coexist = GENERATE(false, true);
    FakeKernel kernel;
    add_interfaces(kernel);
    add_foreign(kernel);
    {
        Core core(kernel, false, true);
        REQUIRE(core.adopt());
        REQUIRE(core.apply(large(), true));
    }
    kernel.writes = 0;
    Core core(kernel, false, coexist);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), true));
    CHECK(kernel.writes == 0);
    CHECK(core.status()[0].got == "native-libxdp+tcx");
    CHECK(core.status()[3].got == "generic-libxdp+tcx");
}

TEST_CASE("an agent that is asked to share takes over a hook that was ours alone") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core alone(kernel, false);
    REQUIRE(alone.adopt());
    REQUIRE(alone.apply(large(), true));
    Core core(kernel, false, true);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), true));
    INFO(text(kernel.violations));
    CHECK(kernel.violations.empty());
    CHECK(core.status()[2].got == "native-libxdp+tcx");
    CHECK(core.status()[0].got == "native+tcx");  // automatic: what it decided once stays
}

TEST_CASE("where XDP cannot be shared, asked-for XDP is refused and automatic goes by TC, both with the reason") {
    FakeKernel kernel;
    add_interfaces(kernel);
    kernel.cannot_share = "no freplace";
    Core core(kernel, false, true);
    REQUIRE(core.adopt());
    const auto strict = core.apply(large(), true);
    REQUIRE_FALSE(strict);
    CHECK(strict.error().id == "IVDS-P020");
    CHECK(strict.error().code == Code::unsupported);
    CHECK(kernel.state().links.empty());
    REQUIRE(core.apply(large(), false));
    const auto status = core.status();
    CHECK(status[0].got == "tcx");
    CHECK(status[0].reason.find("no freplace") != std::string::npos);
    CHECK(status[0].reason.find("IVDS-P020") != std::string::npos);
    CHECK(status[2].got == "none");
    CHECK(status[2].reason.find("IVDS-P020") != std::string::npos);
}

TEST_CASE("an interface that returns joins a dispatcher again, and one whose program was taken out is found") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false, true);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), true));
    NetdevWatch::Change change;
    change.netdev = kernel.interfaces.at("veth3").netdev;
    change.gone = true;
    kernel.remove("veth3");
    (void)core.on_change(change);
    CHECK(core.status()[2].got == "none");
    kernel.add("veth3", "veth");
    change.netdev = kernel.interfaces.at("veth3").netdev;
    change.gone = false;
    (void)core.on_change(change);
    CHECK(core.status()[2].got == "native-libxdp+tcx");
    CHECK(kernel.shared_on("veth3").size() == 1);

    const auto taken_out = [&] {
        const auto findings = core.doctor();
        return std::ranges::count(findings, "IVDS-P018", &Finding::id);
    };
    CHECK(taken_out() == 0);
    REQUIRE(kernel.leave(kernel.interfaces.at("veth3").netdev.ifindex, "veth3", {}));
    CHECK(taken_out() == 1);
}

// ------------------------------------------------------------------ pools and patches

namespace {

// with_lists(), but for lists 6 and 7 in the place of 2 and 3, which redirect to a pool and to a patch.
Tables with_targets() {
    auto tables = with_lists();
    for (const std::uint32_t id : {8u, 9u}) {
        auto& row = tables.ports[id];
        row.name = fmt::format("patch-{}", id);
        row.value.kind = IVDS_PORT_PATCH;
        row.value.instance = id - 7;
        row.value.mtu_bytes = 1492;
        row.value.peer = 17 - id;
        row.value.flags = IVDS_PF_UP;
    }
    auto& pool = tables.pools[4];
    pool.name = "filters";
    pool.value.count = 2;
    pool.value.member[0] = 2;
    pool.value.member[1] = 3;
    const auto redirect = [&](std::uint32_t id, std::uint32_t target) {
        auto list = std::make_shared<AclRow>(*tables.acls.at(id));
        list->rules[0].second.action = IVDS_ACL_REDIRECT;
        list->rules[0].second.target = target;
        tables.acls.erase(id);
        tables.acls[id + 4] = list;
        for (auto& [port, row] : tables.ports) {
            for (auto* slot : {&row.value.acl_in, &row.value.acl_out}) {
                *slot = *slot == id ? id + 4 : *slot;
            }
        }
    };
    redirect(2, IVDS_TARGET_POOL | 4);
    redirect(3, 9);
    return tables;
}

}  // namespace

TEST_CASE("a pool and a patch are in the maps as the tables have them, and a patch has no interface") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(text(core.apply(with_targets(), false)).empty());
    CHECK(text(kernel.violations).empty());
    CHECK(kernel.get<ivds_pool>(Map::pools, 4u).member[1] == 3);
    const auto patch = kernel.get<ivds_port>(Map::ports, 8u);
    CHECK(patch.kind == IVDS_PORT_PATCH);
    CHECK(patch.peer == 9);
    CHECK(patch.flags == IVDS_PF_UP);
    CHECK(patch.ifindex == 0);
    // It is in no list of members, and so in no flood.
    CHECK(patch.next_member == 0);
    for (const std::uint32_t id : {2u, 3u, 4u, 5u}) {
        CHECK(kernel.get<ivds_port>(Map::ports, id).next_member < 8);
    }
    for (const PortStatus& status : core.status()) {
        if (status.id == 8) {
            CHECK(status.got == "patch");
            CHECK(status.up);
        }
    }
    for (const Finding& finding : core.doctor()) {
        CHECK(finding.severity == Finding::Severity::info);
    }
    // What is there is not written again, also after adoption.
    const int writes = kernel.writes;
    REQUIRE(core.apply(with_targets(), false));
    Core second(kernel, false);
    REQUIRE(second.adopt());
    REQUIRE(second.apply(with_targets(), false));
    CHECK(kernel.writes == writes);
    REQUIRE(second.apply(large(), false));
    CHECK(text(kernel.violations).empty());
    CHECK(kernel.rows(Map::pools) == 0);
    CHECK(kernel.get<ivds_port>(Map::ports, 8u).kind == IVDS_PORT_NONE);
}

TEST_CASE("a failure at any step of a change of pools and patches leaves everything as it was") {
    const auto from = [](const Tables& tables) {
        return [&tables](FakeKernel&, Core& core) { REQUIRE(core.apply(tables, true)); };
    };
    const auto lists = with_lists();
    const auto targets = with_targets();
    CHECK(fail_everywhere(from(lists), [&](Core& core) { return core.apply(targets, true); }) > 20);
    CHECK(fail_everywhere(from(targets), [&](Core& core) { return core.apply(lists, true); }) > 20);
}

// large(), with rates for the peers of instance 1 on two VLANs.
Tables with_peer_rates() {
    auto tables = large();
    tables.instances.at(1).value.flags |= IVDS_IF_PEER_RATES;
    tables.peer_rates[{1, 100}].rate[IVDS_WAY_IN] = {.ns_per_mib = 1000, .burst_ns = 2000};
    tables.peer_rates[{1, 200}].rate[IVDS_WAY_OUT] = {.ns_per_mib = 3000, .burst_ns = 4000};
    return tables;
}

TEST_CASE("the rates of peers are in the maps as the tables have them, and what is used up of them stays", "[R81]") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(text(core.apply(with_peer_rates(), false)).empty());
    CHECK(text(kernel.violations).empty());
    const ivds_peer_key key{.instance = 1, .vlan = 100, .pad0 = 0};
    auto row = kernel.get<ivds_peer_rate>(Map::peer_rates, key);
    CHECK(row.rate[IVDS_WAY_IN].burst_ns == 2000);
    row.paid_ns[IVDS_WAY_IN] = 77;  // by the data plane
    kernel.set(Map::peer_rates, key, row);
    for (const Finding& finding : core.doctor()) {
        CHECK(finding.severity == Finding::Severity::info);
    }
    const int writes = kernel.writes;
    REQUIRE(core.apply(with_peer_rates(), false));
    Core second(kernel, false);
    REQUIRE(second.adopt());
    REQUIRE(second.apply(with_peer_rates(), false));
    CHECK(kernel.writes == writes);
    CHECK(kernel.get<ivds_peer_rate>(Map::peer_rates, key).paid_ns[IVDS_WAY_IN] == 77);

    row.rate[IVDS_WAY_IN].burst_ns = 1;  // by somebody else
    kernel.set(Map::peer_rates, key, row);
    std::set<std::string> found;
    for (const Finding& finding : second.doctor()) {
        found.insert(finding.id + " " + finding.object);
    }
    CHECK(found.contains("IVDS-D002 peer_rates[instance 1, VLAN 100]"));
    REQUIRE(second.apply(with_peer_rates(), false));
    CHECK(kernel.get<ivds_peer_rate>(Map::peer_rates, key).rate[IVDS_WAY_IN].burst_ns == 2000);
    REQUIRE(second.apply(large(), false));
    CHECK(kernel.rows(Map::peer_rates) == 0);

    const auto refused = [](const std::function<void(Tables&)>& spoil) {
        auto tables = with_peer_rates();
        spoil(tables);
        const auto r = validate(tables);
        return !r && r.error().id == "IVDS-T001";
    };
    CHECK(refused([](Tables& t) { t.peer_rates[{1, 0}]; }));
    CHECK(refused([](Tables& t) { t.peer_rates[{1, 4095}]; }));
    CHECK(refused([](Tables& t) { t.peer_rates[{99, 100}]; }));
    CHECK(refused([](Tables& t) { t.peer_rates.at({1, 100}).paid_ns[0] = 1; }));
    CHECK(refused([](Tables& t) {
        t.instances.at(1).value.flags =
            static_cast<std::uint16_t>(t.instances.at(1).value.flags & ~IVDS_IF_PEER_RATES);
    }));
}

TEST_CASE("a failure at any step of a change of the rates of peers leaves everything as it was") {
    const auto from = [](const Tables& tables) {
        return [&tables](FakeKernel&, Core& core) { REQUIRE(core.apply(tables, true)); };
    };
    const auto without = large();
    const auto with = with_peer_rates();
    CHECK(fail_everywhere(from(without), [&](Core& core) { return core.apply(with, true); }) > 3);
    CHECK(fail_everywhere(from(with), [&](Core& core) { return core.apply(without, true); }) > 3);
}

TEST_CASE("a vPort that becomes a patch leaves its interface down, and comes back to it") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), false));
    REQUIRE(kernel.interfaces.at("veth2").netdev.admin_up);
    auto next = large();
    auto& row = next.ports.at(2);
    row.netdev.clear();
    row.macs.clear();
    row.value.kind = IVDS_PORT_PATCH;
    REQUIRE(text(core.apply(next, false)).empty());
    CHECK(text(kernel.violations).empty());
    CHECK(!kernel.interfaces.at("veth2").netdev.admin_up);
    CHECK(kernel.link_on(kernel.interfaces.at("veth2").netdev.ifindex, false) == nullptr);
    CHECK(kernel.get<ivds_port>(Map::ports, 2u).flags == 0);
    REQUIRE(text(core.apply(large(), false)).empty());
    CHECK(text(kernel.violations).empty());
    CHECK(kernel.interfaces.at("veth2").netdev.admin_up);
    CHECK((kernel.get<ivds_port>(Map::ports, 2u).flags & IVDS_PF_TC) != 0);
}

TEST_CASE("the audit finds pools that somebody else changed, and the next change writes them anew", "[R106]") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(with_targets(), false));
    auto pool = kernel.get<ivds_pool>(Map::pools, 4u);
    pool.count = 1;
    kernel.set(Map::pools, 4u, pool);
    kernel.set(Map::pools, 5u, pool);
    std::set<std::string> found;
    for (const Finding& finding : core.doctor()) {
        found.insert(finding.id + " " + finding.object);
    }
    CHECK(found.contains("IVDS-D002 pools[4]"));
    CHECK(found.contains("IVDS-D003 pools[5]"));
    REQUIRE(core.apply(with_targets(), false));
    CHECK(kernel.get<ivds_pool>(Map::pools, 4u).count == 2);
    CHECK(kernel.rows(Map::pools) == 1);
}

TEST_CASE("tables whose targets, pools or patches contradict themselves are refused") {
    const auto refused = [](const std::function<void(Tables&)>& spoil) {
        auto tables = with_targets();
        spoil(tables);
        const auto r = validate(tables);
        return !r && r.error().id == "IVDS-T001";
    };
    REQUIRE(validate(with_targets()));
    CHECK(refused([](Tables& t) { t.pools.clear(); }));
    CHECK(refused([](Tables& t) { t.pools.at(4).value.count = 33; }));
    CHECK(refused([](Tables& t) { t.pools.at(4).value.member[1] = 1; }));  // an uplink
    CHECK(refused([](Tables& t) { t.ports.at(9).value.peer = 9; }));
    CHECK(refused([](Tables& t) { t.ports.at(8).value.peer = 2; }));
    CHECK(refused([](Tables& t) { t.ports.at(8).netdev = "veth6"; }));
    CHECK(refused([](Tables& t) { t.ports.at(2).value.peer = 8; }));
    CHECK(refused([](Tables& t) {
        auto list = std::make_shared<AclRow>(*t.acls.at(7));
        list->rules[0].second.target = 77;
        t.acls[7] = list;
    }));
    CHECK(refused([](Tables& t) {
        auto list = std::make_shared<AclRow>(*t.acls.at(7));
        list->default_action = IVDS_ACL_REDIRECT;
        t.acls[7] = list;
    }));
}

TEST_CASE("the flags that a list's rules look at are in its entry, which tells what a flow must remember") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    auto tables = with_lists();
    auto list = std::make_shared<AclRow>(*tables.acls.at(1));
    list->masks[0].fields.tcp_flags = 0x02;
    list->masks[1].fields.tcp_flags = 0x12;
    tables.acls[1] = list;
    REQUIRE(core.apply(tables, false));
    CHECK(kernel.get<ivds_acl>(Map::acls, 1u).tcp_flags == 0x12);
    CHECK(kernel.get<ivds_acl>(Map::acls, 2u).tcp_flags == 0);
}

TEST_CASE("a mirror to a ring has it as long as it is there, and a change that fails leaves the rings as they were") {
    using Rings = std::map<std::string, std::pair<std::uint32_t, std::uint32_t>>;
    const auto with_ring = [](std::uint32_t session, const std::string& name, std::uint32_t bytes) {
        auto tables = large();
        MirrorRow row;
        row.name = name;
        row.value.kind = IVDS_MIRROR_RING;
        row.ring_bytes = bytes;
        tables.mirrors.emplace(session, row);
        return tables;
    };
    FakeKernel kernel;
    add_interfaces(kernel);
    Core first(kernel, false);
    REQUIRE(first.adopt());
    REQUIRE(first.apply(with_ring(3, "watch", 65536), true));
    CHECK(kernel.rings == Rings{{"watch", {3, 65536}}});
    kernel.writes = 0;
    REQUIRE(first.apply(with_ring(3, "watch", 65536), true));
    CHECK(kernel.writes == 0);
    // Whoever comes after a crash finds it, and takes what nobody wants any more.
    Core other(kernel, false);
    REQUIRE(other.adopt());
    CHECK(kernel.rings == Rings{{"watch", {3, 65536}}});
    REQUIRE(other.apply(with_ring(4, "look", 131072), true));
    CHECK(kernel.rings == Rings{{"look", {4, 131072}}});
    REQUIRE(other.apply(large(), true));
    CHECK(kernel.rings.empty());
    CHECK(kernel.tap == 0);

    auto odd = with_ring(3, "watch", 65537);
    CHECK_FALSE(other.apply(odd, true));
    odd = with_ring(3, "watch", 65536);
    odd.mirrors.at(3).value.kind = IVDS_MIRROR_ERSPAN_II;
    CHECK_FALSE(other.apply(odd, true));

    CHECK(fail_everywhere([&](FakeKernel&, Core& core) { REQUIRE(core.apply(with_ring(3, "watch", 65536), true)); },
                          [&](Core& core) { return core.apply(with_ring(3, "watch", 131072), true); }) > 0);
    CHECK(fail_everywhere([&](FakeKernel&, Core& core) { REQUIRE(core.apply(with_ring(3, "watch", 65536), true)); },
                          [&](Core& core) { return core.apply(with_ring(5, "look", 65536), true); }) > 0);
}

TEST_CASE("a MAC whose VM went is marked in its entry alone, until the entry changes; that is no drift", "[R161]") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    const Tables tables = large();
    constexpr std::uint32_t id = 1;
    const Mac went = mac_of(501);
    REQUIRE(core.apply(tables, false));
    ivds_fdb_key key{.instance = id, .mac = {}, .pad0 = 0};
    std::ranges::copy(went, key.mac);
    REQUIRE(core.send_on(id, went, 77));
    auto entry = kernel.get<ivds_fdb_entry>(Map::fdb, key);
    CHECK(entry.flags == (IVDS_FDB_STATIC | IVDS_FDB_MOVED));
    CHECK(entry.last_seen_s == 77);
    CHECK(entry.vlan == 101);

    const int writes = kernel.writes;
    REQUIRE(core.apply(tables, false));
    CHECK(kernel.writes == writes);
    Core next(kernel, false);
    REQUIRE(next.adopt());
    REQUIRE(next.apply(tables, false));
    CHECK(kernel.get<ivds_fdb_entry>(Map::fdb, key).flags == (IVDS_FDB_STATIC | IVDS_FDB_MOVED));

    const auto none = core.send_on(id, mac_of(502), 77);
    REQUIRE_FALSE(none);
    CHECK(none.error().code == Code::not_found);
}

TEST_CASE("what comes from another host takes the place of a port's counters, joins its flows, and counts once",
          "[R163]") {
    FakeKernel kernel;
    add_interfaces(kernel);
    Core core(kernel, false);
    REQUIRE(core.adopt());
    REQUIRE(core.apply(large(), false));
    FlowRow row{};
    row.key = {.port = 2, .instance = 1, .fields = {}};
    row.flow.state = IVDS_FLOW_OPEN;
    ivds_port_stats stats{};
    stats.rx_packets = 5;
    REQUIRE(core.carry_over(2, stats, {row}));
    row.flow.state = IVDS_FLOW_CLOSING;
    REQUIRE(core.carry_over(2, stats, {row}));
    const std::uint32_t port = 2;
    CHECK(kernel.get<ivds_flow>(Map::flows, row.key).state == IVDS_FLOW_CLOSING);
    CHECK(kernel.get<ivds_port_state>(Map::port_state, port).flows == 1);
    CHECK(kernel.get<ivds_port_stats>(Map::port_stats, port).rx_packets == 5);
    const auto none = core.carry_over(99, stats, {row});
    REQUIRE_FALSE(none);
    CHECK(none.error().code == Code::not_found);
}
