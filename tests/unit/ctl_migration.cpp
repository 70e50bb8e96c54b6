// SPDX-License-Identifier: Apache-2.0
// A VM's way to another host without hosts: what goes along, what contradicts it, who owns the vMAC.
#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <random>

#include "api/codec.h"
#include "compile/compile.h"
#include "fabric/announcer.h"
#include "fabric/bindings.h"
#include "fabric/migration.h"

using namespace ivds;
using namespace ivds::fabric;
using Catch::Matchers::ContainsSubstring;

namespace {

Result<Mac> mac_of(const std::string&) {
    return Mac{2, 0, 0, 0, 0, 9};
}

Model model_of(const std::string& text) {
    auto config = config_from_yaml(text, "t");
    INFO((config ? "" : config.error().text()));
    REQUIRE(config);
    auto model = next_from_config({}, *config, mac_of);
    INFO((model ? "" : model.error().text()));
    REQUIRE(model);
    return *model;
}

const std::string kSource = R"(
uplinks: [{name: up, netdev: ens1f0}]
sets: [{name: friends, addresses: [10.0.0.0/24]}]
profiles:
- {name: web, default_in: drop, rules: [{name: in, protocol: tcp, ethertype: ip, src_set: friends, stateful: true}]}
vmac_pools: [{name: pool, physical_mac: "02:00:00:00:00:00"}]
instances: [{name: red, uplink: up, vlan: 100, vvlan: 10, scope: distributed, peer_vlans: [200]}]
vnics: [{name: n1, vmac: "02:00:00:00:00:01"}, {name: n2, vmac: "02:00:00:00:00:02"}]
vports:
- {name: p1, instance: red, netdev: v1, vnic: n1, profile: web, extra_macs: ["02:00:00:00:00:11"]}
- {name: p2, instance: red, netdev: v2, vnic: n2}
mirrors:
- {name: watch, erspan_remote: 192.0.2.1, sources: [{vport: p1, direction: in}, {vport: p2}]}
)";

const std::string kTarget = R"(
uplinks: [{name: wire, netdev: ens2f0, outer_tpid: "0x88a8"}]
instances: [{name: red, uplink: wire, vlan: 200, vvlan: 10, scope: distributed, peer_vlans: [100]}]
)";

pb::MigrateRequest prepare_of(const Model& source, const std::string& vport = "p1") {
    auto migration = migration_of(source, vport, "a");
    INFO((migration ? "" : migration.error().text()));
    REQUIRE(migration);
    pb::MigrateRequest request;
    request.set_step(pb::MigrateRequest::PREPARE);
    *request.mutable_migration() = *migration;
    request.set_netdev("tap1");
    return request;
}

Tables compiled(const Model& model) {
    const auto ids = assign_ids(model, {});
    REQUIRE(ids);
    const auto tables = compile(model, *ids);
    REQUIRE(tables);
    return *tables;
}

const PortRow& port_row(const Tables& tables, const std::string& name) {
    const auto found =
        std::ranges::find_if(tables.ports, [&](const auto& entry) { return entry.second.name == name; });
    REQUIRE(found != tables.ports.end());
    return found->second;
}

std::string refusal(const Result<Model>& model) {
    REQUIRE_FALSE(model);
    CHECK(!model.error().fix.empty());
    return model.error().what;
}

// etcd, as far as bindings need it.
struct Store {
    std::map<std::string, etcd::KeyValue> keys;
    std::int64_t revision = 1;

    bool write(const std::vector<Step>& steps) {
        for (const Step& step : steps)
            for (const etcd::Guard& guard : step.guards) {
                const auto there = keys.find(guard.key);
                if ((there == keys.end() ? 0 : there->second.mod_revision) != guard.mod_revision) return false;
            }
        ++revision;
        for (const Step& step : steps) {
            if (step.write.value)
                keys[step.write.key] = {step.write.key, *step.write.value, revision, revision, step.write.lease};
            else
                keys.erase(step.write.key);
        }
        return true;
    }
    void list(Mirror& mirror) const {
        std::vector<etcd::KeyValue> all;
        for (const auto& [key, kv] : keys) all.push_back(kv);
        mirror.relist(std::move(all), 1);
        mirror.expire(1);
    }
    [[nodiscard]] std::vector<fabric::registry::Binding> of(const std::string& vmac) const {
        std::vector<fabric::registry::Binding> out;
        for (const auto& [key, kv] : keys) {
            const auto parsed = parse_key(key);
            const auto* binding = std::get_if<BindingKey>(&parsed);
            if (binding != nullptr && format_mac(binding->vmac) == vmac)
                out.push_back(std::get<fabric::registry::Binding>(parse_binding(*binding, kv.value)));
        }
        return out;
    }
};

}  // namespace

TEST_CASE("what belongs to a vPort goes along, and is prepared without being in the network", "[R163][R165]") {
    const Model source = model_of(kSource);
    const Model target = model_of(kTarget);
    const auto next = with_prepared(target, prepare_of(source), "b", mac_of);
    INFO((next ? "" : next.error().text()));
    REQUIRE(next);
    const pb::VPort& vport = *next->vports.at("p1");
    CHECK(vport.state() == pb::VPort::PREPARED);
    CHECK(vport.peer_host() == "a");
    CHECK(vport.netdev() == "tap1");
    CHECK(vport.extra_macs(0) == "02:00:00:00:00:11");
    CHECK(to_yaml(*next->profiles.at("web")) == to_yaml(*source.profiles.at("web")));
    CHECK(to_yaml(*next->sets.at("friends")) == to_yaml(*source.sets.at("friends")));
    CHECK(next->vnics.at("n1")->vmac() == "02:00:00:00:00:01");
    REQUIRE(next->mirrors.at("watch")->sources_size() == 1);
    CHECK(next->mirrors.at("watch")->sources(0).vport() == "p1");

    // Its lists are there, and it is in no instance; its claims wait.
    const PortRow row = port_row(compiled(*next), "p1");
    CHECK(row.value.instance == 0);
    CHECK(row.value.acl_in != 0);
    const auto claims = claims_of(*next, "b", {});
    REQUIRE(claims.size() == 2);
    CHECK(claims[0].waits);
    CHECK(Mirror("b").publication(claims, 1).steps.empty());

    // Again is the same, and taking it back leaves what others may have come to use.
    const auto again = with_prepared(*next, prepare_of(source), "b", mac_of);
    REQUIRE(again);
    CHECK(diff(*next, *again).empty());
    const auto back =
        without_prepared(*next, "p1", found_by_prepare(target, prepare_of(source).migration()), "", mac_of);
    REQUIRE(back);
    CHECK(back->vports.empty());
    CHECK(back->vnics.empty());
    CHECK(back->mirrors.empty());
    CHECK(back->profiles.contains("web"));

    const auto active = with_state(*next, "p1", pb::VPort::ACTIVE, "", mac_of);
    REQUIRE(active);
    CHECK(port_row(compiled(*active), "p1").value.instance != 0);
    const auto moved = with_state(source, "p1", pb::VPort::MOVED, "b", mac_of);
    REQUIRE(moved);
    CHECK(port_row(compiled(*moved), "p1").value.instance == 0);
    CHECK(claims_of(*moved, "a", {}).size() == 1);
    // From there it may come back.
    CHECK(with_prepared(
        *moved,
        [&] {
            auto request = prepare_of(*active);
            request.mutable_migration()->set_host("b");
            return request;
        }(),
        "a", mac_of));
}

TEST_CASE("what was here before a vPort was prepared is here again when that is taken back", "[R164][R165]") {
    const Model source = model_of(kSource);
    // The VM was on b, on other ports there; a vNIC by its name is there for another reason.
    const Model target = model_of(kTarget + R"(
vnics: [{name: n1, vmac: "02:00:00:00:00:01"}, {name: old, vmac: "02:00:00:00:00:21"}]
vports: [{name: p1, instance: red, netdev: v9, vnic: old, state: moved, peer_host: c, mtu_bytes: 1400}]
mirrors:
- {name: watch, erspan_remote: 192.0.2.1, sources: [{vport: p1, direction: out}]}
- {name: mine, erspan_remote: 192.0.2.2, sources: [{vport: p1}]}
)");
    const auto request = prepare_of(source);
    const auto found = found_by_prepare(target, request.migration());
    const auto next = with_prepared(target, request, "b", mac_of);
    INFO((next ? "" : next.error().text()));
    REQUIRE(next);
    CHECK(next->vports.at("p1")->netdev() == "tap1");
    const auto back = without_prepared(*next, "p1", found, "", mac_of);
    INFO((back ? "" : back.error().text()));
    REQUIRE(back);
    CHECK(to_yaml(*back->vports.at("p1")) == to_yaml(*target.vports.at("p1")));
    CHECK(back->vnics.contains("n1"));
    for (const auto& [name, mirror] : target.mirrors) CHECK(to_yaml(*back->mirrors.at(name)) == to_yaml(*mirror));
    // Its VM went on meanwhile.
    const auto on = without_prepared(*next, "p1", found, "a", mac_of);
    REQUIRE(on);
    CHECK(on->vports.at("p1")->peer_host() == "a");
    // A mirror that watches nothing is one that was there.
    const Model idle =
        model_of(kTarget + "mirrors: [{name: watch, erspan_remote: 192.0.2.1, sources: [{instance: red}]}]");
    const auto prepared = with_prepared(idle, request, "b", mac_of);
    REQUIRE(prepared);
    CHECK(prepared->mirrors.at("watch")->sources_size() == 2);
    const auto without = without_prepared(*prepared, "p1", found_by_prepare(idle, request.migration()), "", mac_of);
    REQUIRE(without);
    CHECK(to_yaml(*without->mirrors.at("watch")) == to_yaml(*idle.mirrors.at("watch")));
    CHECK(without->vnics.empty());
    CHECK(without->vports.empty());
}

TEST_CASE("a vPort that cannot move, or contradicts the other host, is refused and says why", "[R163][R167]") {
    const Model source = model_of(kSource);
    const auto prepared = [&](const std::string& target, auto change) {
        auto request = prepare_of(source);
        change(request);
        return refusal(with_prepared(model_of(target), request, "b", mac_of));
    };
    const auto nothing = [](pb::MigrateRequest&) {};
    CHECK_THAT(prepared(kTarget + "profiles: [{name: web}]\n", nothing), ContainsSubstring("profile web is another"));
    CHECK_THAT(prepared(kTarget + "sets: [{name: friends}]\n", nothing), ContainsSubstring("set friends is another"));
    CHECK_THAT(prepared(kTarget + "vnics: [{name: n1, vmac: \"02:00:00:00:00:77\"}]\n", nothing),
               ContainsSubstring("02:00:00:00:00:77 here"));
    CHECK_THAT(prepared(kTarget + "vports: [{name: p1, netdev: x}]\n", nothing), ContainsSubstring("active here"));
    CHECK_THAT(prepared(kTarget, [](auto& request) { request.set_instance("blue"); }),
               ContainsSubstring("no instance blue"));
    CHECK_THAT(prepared(kTarget, [](auto& request) { request.mutable_migration()->set_host("b"); }),
               ContainsSubstring("its own export"));
    CHECK_THAT(prepared(kTarget, [](auto& request) { request.clear_migration(); }), ContainsSubstring("no vPort"));
    CHECK_THAT(prepared(kTarget, [](auto& request) { request.mutable_migration()->set_vvlan(11); }),
               ContainsSubstring("V.VLAN 11"));
    CHECK_THAT(prepared(kTarget, [](auto& request) { request.mutable_migration()->clear_vlans(); }),
               ContainsSubstring("V.VLAN 10"));
    CHECK_THAT(prepared(kTarget, [](auto& request) { request.mutable_migration()->set_vlans(0, 300); }),
               ContainsSubstring("no peers on VLAN 300"));
    CHECK_THAT(prepared(kTarget, [](auto& request) { request.mutable_migration()->mutable_vlans()->RemoveLast(); }),
               ContainsSubstring("on host a has no peers on VLAN 200"));
    CHECK_THAT(prepared(kTarget,
                        [](auto& request) {
                            auto& mirror = *request.mutable_migration()->mutable_mirrors(0);
                            mirror.clear_erspan_remote();
                            mirror.set_to_vport("probe");
                        }),
               ContainsSubstring("no such mirror"));
    CHECK_THAT(prepared(kTarget, [](auto& request) { request.set_netdev(""); }), ContainsSubstring("netdev"));

    const auto exported = [](const std::string& text, const std::string& vport) {
        const auto migration = migration_of(model_of(text), vport, "a");
        REQUIRE_FALSE(migration);
        return migration.error().what;
    };
    CHECK_THAT(exported(kSource, "p9"), ContainsSubstring("no vport p9"));
    CHECK_THAT(exported("instances: [{name: i}]\nvports: [{name: p, netdev: d, instance: i}]\n", "p"),
               ContainsSubstring("no network that spans hosts"));
    const std::string trunk =
        kTarget + "vports: [{name: t, netdev: d, instance: red}, {name: s, trunk: t, vid: 5}]\n";
    CHECK_THAT(exported(trunk, "t"), ContainsSubstring("trunk of vport s"));
    CHECK_THAT(exported(trunk, "s"), ContainsSubstring("no interface of its own"));
    const auto model = [](const std::string& text) {
        return next_from_config({}, config_from_yaml(text, "t").value(), mac_of);
    };
    CHECK_THAT(refusal(model("vports: [{name: t, netdev: d, state: moved}, {name: s, trunk: t, vid: 5}]\n")),
               ContainsSubstring("is moved"));
    CHECK_THAT(refusal(model("vports: [{name: t, netdev: d, peer_host: b}]\n")), ContainsSubstring("peer_host"));
    CHECK_THAT(refusal(model("vports: [{name: t, netdev: d, state: moved, peer_host: B_}]\n")),
               ContainsSubstring("host"));
}

TEST_CASE("two hosts' profiles are the same though rules ran out on one of them", "[R52][R163]") {
    const std::string rule = "{name: stays}";
    const auto with = [](const std::string& rules) { return "profiles: [{name: web, rules: [" + rules + "]}]\n"; };
    const auto is_taken = [&](const std::string& there, const std::string& here) {
        std::string source = kSource;
        const auto begin = source.find("profiles:");
        source.replace(begin, source.find("vmac_pools") - begin, with(there));
        return with_prepared(model_of(kTarget + with(here)), prepare_of(model_of(source)), "b", mac_of).has_value();
    };
    CHECK(is_taken(rule, rule));
    CHECK(is_taken(rule + ", {name: t, hard_s: 60}", rule));
    CHECK(is_taken(rule, "{name: t, idle_s: 60}, " + rule));
    CHECK(is_taken(rule + ", {name: t, hard_s: 60}", rule + ", {name: t, hard_s: 60}"));
    // What is on both is the same, and what does not go by itself did not run out.
    CHECK_FALSE(is_taken(rule + ", {name: t, hard_s: 60}", rule + ", {name: t, hard_s: 90}"));
    CHECK_FALSE(is_taken(rule + ", {name: t}", rule));
}

TEST_CASE("connections go along by the map's own layout, and what is none is refused", "[R161][R163]") {
    FlowRow row{};
    row.key = {.port = 7, .instance = 8, .fields = {}};
    row.key.fields.type_be = htons(0x0800);
    row.key.fields.proto = 6;
    row.key.fields.sport_be = htons(1234);
    row.flow.state = IVDS_FLOW_OPEN;
    row.flow.opener = IVDS_WAY_IN;
    row.flow.open_flags = 2;
    row.flow.last_seen_ns = 90'000'000'000;
    row.flow.since_s = 60;
    row.flow.tick = 5;
    row.flow.way[IVDS_WAY_IN] = {.packets = 10,
                                 .bytes = 1000,
                                 .told_packets = 4,
                                 .told_bytes = 400,
                                 .acl = 3,
                                 .rule = 4,
                                 .target = 5,
                                 .pool = 6,
                                 .mirrors = 1,
                                 .detail = 0x0302,
                                 .action = IVDS_ACL_ALLOW,
                                 .flags = IVDS_ACL_STATEFUL};
    CHECK(is_carried(row.flow));
    const auto flow = carried(row, 100'000'000'000);
    CHECK(flow.idle_ns() == 10'000'000'000);
    CHECK(flow.age_s() == 40);

    // The other host's clocks began elsewhere.
    const auto entry = entry_of(flow, 70, 80, 5000'000'000'000);
    REQUIRE(entry);
    CHECK(entry->key.port == 70);
    CHECK(entry->key.instance == 80);
    CHECK(entry->key.fields.sport_be == htons(1234));
    CHECK(entry->flow.last_seen_ns == 4990'000'000'000);
    CHECK(entry->flow.since_s == 4960);
    const ivds_flow_way& way = entry->flow.way[IVDS_WAY_IN];
    CHECK(way.packets == 10);
    CHECK(way.told_packets == 10);
    CHECK(way.detail == 0x0302);
    // What another host's lists decided decides nothing here.
    CHECK((way.acl | way.rule | way.target | way.pool | way.mirrors) == 0);

    const auto refused = [&](auto change) {
        FlowRow bad = row;
        change(bad);
        return !entry_of(carried(bad, 100'000'000'000), 70, 80, 1);
    };
    CHECK(refused([](FlowRow& bad) { bad.flow.state = IVDS_FLOW_VERDICT; }));
    CHECK(refused([](FlowRow& bad) { bad.flow.state = 4; }));
    CHECK(refused([](FlowRow& bad) { bad.flow.opener = 2; }));
    CHECK(refused([](FlowRow& bad) { bad.flow.fins = 4; }));
    CHECK(refused([](FlowRow& bad) { bad.key.fields.type_be = htons(0x0806); }));
    CHECK(refused([](FlowRow& bad) { bad.key.fields.unknown = 1; }));
    auto cut = flow;
    cut.mutable_flow()->pop_back();
    CHECK_FALSE(entry_of(cut, 70, 80, 1));
    row.flow.state = IVDS_FLOW_VERDICT;
    CHECK_FALSE(is_carried(row.flow));
}

TEST_CASE("each vMAC is announced in the outer VLAN that its host is reached by", "[R166]") {
    const Model source = model_of(kSource);
    const auto frames = announcements(source, *source.vports.at("p1"));
    REQUIRE(frames.size() == 2);
    const std::vector<std::uint8_t> head = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2,    0,    0, 0,
                                            0,    0x11, 0x81, 0x00, 0,    100,  0x81, 0x00, 0, 10,
                                            0x80, 0x35, 0,    1,    8,    0,    6,    4,    0, 3};
    REQUIRE(frames[0].size() == 60);
    CHECK(std::equal(head.begin(), head.end(), frames[0].begin()));
    CHECK(frames[1][11] == 1);
    CHECK(frames[1][15] == 100);
    const auto other = with_prepared(model_of(kTarget), prepare_of(source), "b", mac_of);
    REQUIRE(other);
    const auto there = announcements(*other, *other->vports.at("p1"));
    CHECK(there[0][12] == 0x88);
    CHECK(there[0][15] == 200);

    const Model single = model_of(
        "uplinks: [{name: up, netdev: d, tags: single, transport_vlan: 7}]\nvnics: [{name: n, vmac: "
        "\"02:00:00:00:00:01\"}]\ninstances: [{name: i, uplink: up, mode: independent, vvlan: 20, scope: "
        "distributed}]\nvports: [{name: p, instance: i, netdev: v, vnic: n}]\n");
    const auto one = announcements(single, *single.vports.at("p"));
    REQUIRE(one.size() == 1);
    CHECK(one[0][15] == 20);
    CHECK(one[0][16] == 0x80);
}

TEST_CASE("an announcement goes out four times, and no more once the vMAC went elsewhere", "[R166]") {
    std::mutex mutex;
    std::condition_variable changed;
    std::vector<std::string> sent;  // by which interface
    bool fails = true;
    const auto send = [&](const std::string& netdev, std::span<const std::vector<std::uint8_t>> frames) -> Result<> {
        const std::lock_guard lock(mutex);
        for (const auto& frame : frames) sent.push_back(netdev + std::to_string(frame.at(0)));
        changed.notify_all();
        if (fails) return fail(Code::system, "IVDS-R013", "no");
        return {};
    };
    const auto count = [&](const std::string& what) { return std::ranges::count(sent, what); };
    Announcer announcer(send);
    // The first that cannot be sent is told, and the others are tried all the same.
    CHECK_FALSE(announcer.announce("p", "d", {{1}, {2}}));
    {
        const std::lock_guard lock(mutex);
        CHECK(sent == std::vector<std::string>{"d1", "d2"});
        fails = false;
    }
    CHECK(announcer.announce("q", "e", {{3}}));
    announcer.forget("q");
    announcer.forget("nobody");
    std::unique_lock lock(mutex);
    const auto until_it_went = count("e3");
    CHECK(until_it_went >= 1);
    CHECK(changed.wait_for(lock, std::chrono::seconds(60), [&] { return count("d2") == 4; }));
    CHECK(count("d1") == 4);
    CHECK(count("e3") == until_it_went);
    lock.unlock();
    CHECK(announcer.announce("p", "f", {{1}}));
    // One that ends does not wait for what was to go.
}

TEST_CASE("a takeover is one transaction on the owner's revision, and of nobody else's", "[R154][R164]") {
    const Model source = model_of(kSource);
    Store store;
    Mirror a("a");
    REQUIRE(store.write(a.publication(claims_of(source, "a", {}), 5).steps));
    Mirror b("b");
    store.list(b);
    const auto prepared = with_prepared(model_of(kTarget), prepare_of(source), "b", mac_of);
    REQUIRE(prepared);
    const auto claims = claims_of(*prepared, "b", {});

    const auto plan = b.takeover(claims, "a", 6);
    REQUIRE(plan);
    CHECK(plan->generation == 2);
    Store other = store;
    REQUIRE(store.write(plan->steps));
    const auto held = store.of("02:00:00:00:00:01");
    REQUIRE(held.size() == 1);
    CHECK(held[0].host() == "b");
    CHECK(held[0].vlan() == 200);
    CHECK(held[0].generation() == 2);
    CHECK(held[0].moved_from() == "a");
    CHECK(store.of("02:00:00:00:00:11").size() == 1);
    CHECK(store.of("02:00:00:00:00:02")[0].host() == "a");
    // Twice cannot be, and is not asked for.
    CHECK_FALSE(store.write(plan->steps));
    store.list(b);
    const auto again = b.takeover(claims, "a", 6);
    REQUIRE(again);
    CHECK(again->steps.empty());
    CHECK(again->generation == 2);
    // What was taken and is not in force yet stays this host's, and a new lease does not lose where it came from.
    CHECK(b.publication(claims, 6).steps.empty());
    const auto leased = b.publication(claims, 7);
    REQUIRE(leased.steps.size() == 2);
    CHECK_THAT(*leased.steps[0].write.value, ContainsSubstring("\"moved_from\":\"a\""));
    // The old owner does not take it back, and is told who has it.
    store.list(a);
    const auto late = a.publication(claims_of(source, "a", {}), 5);
    CHECK(late.steps.empty());
    CHECK(late.conflicts.empty());
    CHECK(late.went == std::map<std::string, std::string>{{"p1", "b"}});

    // The owner wrote meanwhile, or it is another one.
    ++other.keys.begin()->second.mod_revision;
    CHECK_FALSE(other.write(plan->steps));
    Mirror c("c");
    store.list(c);
    const auto third = c.takeover(claims, "a", 8);
    REQUIRE_FALSE(third);
    CHECK_THAT(third.error().what, ContainsSubstring("host b"));
    // Of a host that is gone nothing has to go.
    Mirror empty("b");
    const auto alone = empty.takeover(claims, "a", 6);
    REQUIRE(alone);
    CHECK(alone->steps.size() == 6);
}

TEST_CASE("a host that was away hears that its VM went, also when the new host's binding is gone by then",
          "[R154][R164]") {
    const Model source = model_of(kSource);
    Store store;
    Mirror a("a");
    REQUIRE(store.write(a.publication(claims_of(source, "a", {}), 5).steps));
    Mirror b("b");
    store.list(b);
    const auto prepared = with_prepared(model_of(kTarget), prepare_of(source), "b", mac_of);
    REQUIRE(prepared);
    const auto plan = b.takeover(claims_of(*prepared, "b", {}), "a", 6);
    REQUIRE(plan);
    REQUIRE(store.write(plan->steps));
    const auto words = [&] {
        return std::ranges::count_if(store.keys, [](const auto& each) { return each.first.starts_with(kMoves); });
    };
    CHECK(words() == 2);
    std::erase_if(store.keys, [](const auto& each) { return each.second.lease != 0; });

    // Its agent starts anew.
    Mirror back("a");
    store.list(back);
    const auto told = back.publication(claims_of(source, "a", {}), 7);
    CHECK(told.went == std::map<std::string, std::string>{{"p1", "b"}});
    REQUIRE(told.steps.size() == 1);  // the other VM's
    CHECK_THAT(told.steps[0].write.key, ContainsSubstring("02:00:00:00:00:02"));
    // What was heard is not said again.
    const Model moved = with_state(source, "p1", pb::VPort::MOVED, "b", mac_of).value();
    for (const Step& step : back.publication(claims_of(moved, "a", {}), 7).steps) REQUIRE(store.write({step}));
    CHECK(words() == 0);
    CHECK(store.of("02:00:00:00:00:01").empty());

    // A word of a move from which the VM came back since says nothing.
    const auto word =
        std::ranges::find_if(plan->steps, [](const Step& step) { return step.write.key.starts_with(kMoves); });
    REQUIRE(word != plan->steps.end());
    store.keys[word->write.key] = {word->write.key, *word->write.value, 9, 9, 0};
    std::erase_if(store.keys, [](const auto& each) { return each.first.starts_with(kOwners); });
    const auto claims = claims_of(source, "a", {});
    const auto of = std::get<MoveKey>(parse_key(word->write.key)).binding;
    fabric::registry::Binding later =
        std::ranges::find(claims, of.vmac, [](const Claim& claim) { return claim.key.vmac; })->binding;
    later.set_generation(3);
    later.set_moved_from("b");
    Mirror again("a");
    again.remember(later);
    store.list(again);
    const auto stays = again.publication(claims_of(source, "a", {}), 8);
    CHECK(stays.went.empty());
    CHECK(std::ranges::any_of(
        stays.steps, [&](const Step& step) { return step.write.key == word->write.key && !step.write.value; }));
}

namespace {

// A host of three, each on a VLAN of its own. The VM is p.
Model one_of_three(unsigned number, bool has_vm) {
    const std::vector<unsigned> vlans = {100, 200, 300};
    std::string text = fmt::format(
        "uplinks: [{{name: up, netdev: d}}]\ninstances: [{{name: red, uplink: up, vlan: {}, vvlan: 10, scope: "
        "distributed, peer_vlans: [{}, {}]}}]\n",
        vlans[number], vlans[(number + 1) % 3], vlans[(number + 2) % 3]);
    if (has_vm)
        text +=
            "vnics: [{name: n, vmac: \"02:00:00:00:00:01\"}]\nvports: [{name: p, instance: red, netdev: v, vnic: "
            "n}]\n";
    return model_of(text);
}

// The VM of `source` on host `name`, `from` another, in force there.
Model taken(const Model& target, const Model& source, const std::string& from, const std::string& name,
            Mirror& mirror, Store& store) {
    store.list(mirror);
    pb::MigrateRequest request;
    *request.mutable_migration() = migration_of(source, "p", from).value();
    request.set_netdev("v");
    const Model prepared = with_prepared(target, request, name, mac_of).value();
    const auto plan = mirror.takeover(claims_of(prepared, name, {}), from, 1);
    INFO((plan ? "" : plan.error().text()));
    REQUIRE(plan);
    REQUIRE(store.write(plan->steps));
    store.list(mirror);
    return with_state(prepared, "p", pb::VPort::ACTIVE, "", mac_of).value();
}

void write_host(Store& store, const std::string& name, std::int64_t lease = 0) {
    fabric::registry::Host host;
    host.set_name(name);
    host.set_id("0");
    REQUIRE(store.write({{{}, {host_key(name), value_text(host), lease}}}));
}

}  // namespace

TEST_CASE("a host that hears of a VM's moves late, of all at once, withdraws as it does after one", "[R154][R164]") {
    Store store;
    Mirror a("a");
    Mirror b("b");
    Mirror c("c");
    const Model first = one_of_three(0, true);
    REQUIRE(store.write(a.publication(claims_of(first, "a", {}), 1).steps));
    const Model second = taken(one_of_three(1, false), first, "a", "b", b, store);
    const Model third = taken(one_of_three(2, false), second, "b", "c", c, store);
    const auto held = store.of("02:00:00:00:00:01");
    REQUIRE(held.size() == 1);
    CHECK(held[0].moved_from() == "b");
    REQUIRE(held[0].moved_before_size() == 1);
    CHECK(held[0].moved_before(0) == "a");
    store.list(a);
    const auto late = a.publication(claims_of(first, "a", {}), 1);
    CHECK((late.steps.empty() && late.conflicts.empty()));
    CHECK(late.went == std::map<std::string, std::string>{{"p", "c"}});
    // A new lease keeps that; a vPort by another name is another VM, which is told.
    const auto leased = c.publication(claims_of(third, "c", {}), 9);
    REQUIRE(leased.steps.size() == 1);
    CHECK_THAT(*leased.steps[0].write.value, ContainsSubstring("\"moved_before\":[\"a\"]"));
    auto claims = claims_of(first, "a", {});
    claims[0].binding.set_vport("other");
    CHECK(a.publication(claims, 1).conflicts.size() == 1);
    // Back where it was, it was nowhere else twice.
    const Model moved = with_state(first, "p", pb::VPort::MOVED, "c", mac_of).value();
    const Model fourth = taken(moved, third, "c", "a", a, store);
    const auto home = store.of("02:00:00:00:00:01");
    REQUIRE(home.size() == 1);
    CHECK(home[0].moved_before_size() == 1);
    CHECK(home[0].moved_before(0) == "b");
    CHECK(a.publication(claims_of(fourth, "a", {}), 1).went.empty());
}

TEST_CASE("a host whose instance lost the other's VLAN on the way still withdraws", "[R164][R167]") {
    Store store;
    Mirror a("a");
    Mirror b("b");
    const Model first = one_of_three(0, true);
    REQUIRE(store.write(a.publication(claims_of(first, "a", {}), 1).steps));
    (void)taken(one_of_three(1, false), first, "a", "b", b, store);
    pb::Object object;
    *object.mutable_instance() = *first.instances.at("red");
    object.mutable_instance()->clear_peer_vlans();
    const Model alone = next_with(first, object, mac_of).value();
    store.list(a);
    const auto late = a.publication(claims_of(alone, "a", {}), 1);
    CHECK(late.steps.empty());
    CHECK(late.went == std::map<std::string, std::string>{{"p", "b"}});
    // Once that is gone, it may have its vMAC anew.
    store.keys.clear();
    store.list(a);
    CHECK(a.publication(claims_of(alone, "a", {}), 1).steps.size() == 1);
}

TEST_CASE("what a living host is not known to have is not taken over from it", "[R154][R164][R167]") {
    Store store;
    Mirror a("a");
    Mirror b("b");
    const Model first = one_of_three(0, true);
    REQUIRE(store.write(a.publication(claims_of(first, "a", {}), 1).steps));
    write_host(store, "a");
    pb::MigrateRequest request;
    *request.mutable_migration() = migration_of(first, "p", "a").value();
    request.set_netdev("v");
    const Model prepared = with_prepared(one_of_three(1, false), request, "b", mac_of).value();
    CHECK(still_meets(prepared, request.migration()));
    // The instance here lost the other's VLAN after that.
    pb::Object object;
    *object.mutable_instance() = *prepared.instances.at("red");
    object.mutable_instance()->clear_peer_vlans();
    const Model alone = next_with(prepared, object, mac_of).value();
    const auto apart = still_meets(alone, request.migration());
    REQUIRE_FALSE(apart);
    CHECK_THAT(apart.error().what, ContainsSubstring("VLAN 100"));
    store.list(b);
    const auto plan = b.takeover(claims_of(alone, "b", {}), "a", 2);
    REQUIRE_FALSE(plan);
    CHECK(plan.error().code == Code::conflict);
    CHECK_THAT(plan.error().what, ContainsSubstring("in network 200.10 is nobody's, and host a"));
    CHECK(b.takeover(claims_of(prepared, "b", {}), "a", 2));
    // A host that is gone has nothing.
    store.keys.erase(host_key("a"));
    store.list(b);
    CHECK(b.takeover(claims_of(alone, "b", {}), "a", 2));
}

TEST_CASE("what has no binding is taken over from the host alone that the VM went to last", "[R154][R164]") {
    Store store;
    Mirror a("a");
    Mirror b("b");
    Mirror c("c");
    const Model first = one_of_three(0, true);
    REQUIRE(store.write(a.publication(claims_of(first, "a", {}), 1).steps));
    pb::MigrateRequest request;
    *request.mutable_migration() = migration_of(first, "p", "a").value();
    request.set_netdev("v");
    const Model prepared = with_prepared(one_of_three(1, false), request, "b", mac_of).value();
    const auto claims = claims_of(prepared, "b", {});
    const auto forget_leases = [&] {
        std::erase_if(store.keys, [](const auto& entry) { return entry.second.lease != 0; });
    };
    // The lease of a went, and b plans on that; but before it writes, c takes the VM over, and its lease goes too.
    const Store before = store;
    forget_leases();
    store.list(b);
    const auto early = b.takeover(claims, "a", 2);
    REQUIRE(early);
    // It is not done if a is there again, which claims its VM anew.
    Store back = store;
    write_host(back, "a");
    CHECK_FALSE(back.write(early->steps));
    CHECK(Store(store).write(early->steps));
    store = before;
    const Model there = taken(one_of_three(2, false), first, "a", "c", c, store);
    forget_leases();
    CHECK_FALSE(store.write(early->steps));
    // Nor is it done once b knows, nor after a heard, nor when the VM went on.
    const auto is_refused = [&](const std::string& of) {
        store.list(b);
        const auto plan = b.takeover(claims, "a", 2);
        REQUIRE_FALSE(plan);
        CHECK(plan.error().code == Code::conflict);
        CHECK(plan.error().id == "IVDS-R012");
        CHECK_THAT(plan.error().what, ContainsSubstring("went to host " + of));
    };
    is_refused("c");
    store.list(a);
    CHECK(a.publication(claims_of(first, "a", {}), 3).went.contains("p"));
    const Model left = with_state(first, "p", pb::VPort::MOVED, "c", mac_of).value();
    for (const Step& step : a.publication(claims_of(left, "a", {}), 3).steps) REQUIRE(store.write({step}));
    is_refused("c");
    // Of a dead host that has it by all that is known, it is; also by that host itself, which died before it
    // forwarded.
    CHECK(b.takeover(claims, "c", 2));
    store.list(c);
    CHECK(c.owns(claims_of(there, "c", {})[0]));
    CHECK(c.takeover(claims_of(there, "c", {}), "a", 4));
    // Home it says of itself the same, though its networks' VLANs were changed.
    REQUIRE(store.write(c.publication(claims_of(there, "c", {}), 4).steps));
    (void)taken(left, there, "c", "a", a, store);
    forget_leases();
    store.list(b);
    CHECK(b.takeover(claims, "a", 2));
    CHECK_FALSE(b.takeover(claims, "c", 2));
}

TEST_CASE("a move that was carried out is completed by its own host, also where the host it came from is there again",
          "[R154][R164][R167]") {
    Store store;
    Mirror a("a");
    Mirror b("b");
    Mirror c("c");
    const Model first = one_of_three(0, true);
    REQUIRE(store.write(a.publication(claims_of(first, "a", {}), 1).steps));
    write_host(store, "a");
    const Model second = taken(one_of_three(1, false), first, "a", "b", b, store);
    const auto claims = claims_of(second, "b", {});
    // The binding of b goes with its lease, before its vPort was made active.
    std::erase_if(store.keys, [](const auto& entry) { return entry.second.lease != 0; });
    store.list(b);
    const auto completed = b.takeover(claims, "a", 2);
    REQUIRE(completed);
    CHECK(completed->generation > 2);
    Store whole = store;
    REQUIRE(whole.write(completed->steps));
    REQUIRE(whole.of("02:00:00:00:00:01").size() == 1);
    CHECK(whole.of("02:00:00:00:00:01")[0].host() == "b");
    whole.list(a);
    const auto left = a.publication(claims_of(first, "a", {}), 3);
    CHECK(left.steps.empty());
    CHECK(left.went == std::map<std::string, std::string>{{"p", "b"}});
    // Not if the VM went on between the plan and the write, and not after.
    Store on = store;
    (void)taken(one_of_three(2, false), second, "b", "c", c, on);
    std::erase_if(on.keys, [](const auto& entry) { return entry.second.lease != 0; });
    CHECK_FALSE(on.write(completed->steps));
    on.list(b);
    const auto late = b.takeover(claims, "a", 2);
    REQUIRE_FALSE(late);
    CHECK(late.error().id == "IVDS-R012");
}

TEST_CASE("whose a VM is that moved stays known as long as its host has it", "[R154][R164]") {
    Store store;
    Mirror a("a");
    Mirror b("b");
    const Model first = one_of_three(0, true);
    REQUIRE(store.write(a.publication(claims_of(first, "a", {}), 1).steps));
    const Model second = taken(one_of_three(1, false), first, "a", "b", b, store);
    const auto claims = claims_of(second, "b", {});
    const std::string key = key_text(OwnerKey{claims[0].key});
    const auto publish = [&](Mirror& mirror, const std::vector<Claim>& wanted) {
        for (int pass = 0; pass < 3; ++pass) {
            store.list(mirror);
            for (const Step& step : mirror.publication(wanted, 1).steps) (void)store.write({step});
        }
        store.list(mirror);
        CHECK(mirror.publication(wanted, 1).steps.empty());
    };
    REQUIRE(store.keys.contains(key));
    publish(b, claims);
    REQUIRE(store.keys.contains(key));
    // A registry that lost its content hears of it again.
    store.keys.clear();
    publish(b, claims);
    CHECK(store.keys.contains(key));
    // Its instance drains: in no network, it has the VM.
    publish(b, {});
    CHECK(store.of("02:00:00:00:00:01").empty());
    CHECK(store.keys.contains(key));
    publish(b, claims);
    // On another VLAN it says so there, and there alone.
    const auto elsewhere = claims_of(one_of_three(2, true), "b", {});
    publish(b, {});
    publish(b, elsewhere);
    CHECK_FALSE(store.keys.contains(key));
    CHECK(store.keys.contains(key_text(OwnerKey{elsewhere[0].key})));
    publish(b, {});
    publish(b, claims);
    // Its host is gone for good, and somebody makes the VM anew on another.
    std::erase_if(store.keys, [](const auto& entry) { return entry.second.lease != 0; });
    Mirror c("c");
    publish(c, claims_of(one_of_three(2, true), "c", {}));
    CHECK(store.of("02:00:00:00:00:01").size() == 1);
    CHECK_FALSE(store.keys.contains(key));
    // With its vPort it goes.
    std::erase_if(store.keys, [](const auto& entry) { return entry.second.lease != 0; });
    publish(b, claims);
    CHECK(store.keys.contains(key));
    store.list(b);
    for (const Step& step : b.publication({}, 1).steps) (void)store.write({step});
    store.list(b);
    b.forget_but({});
    publish(b, {});
    CHECK_FALSE(store.keys.contains(key));
}

// Hosts that see etcd late, die, are forgotten and come back, and a VM that anybody tries to move: the registry's
// guards alone keep it one host's.
TEST_CASE("in random histories of moves, losses and restarts a vMAC never has two owners", "[R154][R164]") {
    const std::vector<std::string> names = {"a", "b", "c"};
    const std::string vmac = "02:00:00:00:00:01";
    struct Host {
        Mirror mirror;
        Model model;
        std::int64_t lease = 0;
    };
    const char* const more = std::getenv("IVDS_SEEDS");
    const unsigned long seeds = more != nullptr ? std::stoul(more) : 300;
    std::uint64_t moves = 0;
    for (unsigned seed = 1; seed <= seeds; ++seed) {
        INFO("seed " << seed);
        std::mt19937 random(seed);
        const auto draw = [&](unsigned below) { return static_cast<unsigned>(random() % below); };
        Store store;
        std::vector<Host> hosts;
        for (unsigned i = 0; i < 3; ++i) {
            hosts.push_back({Mirror(names[i]), one_of_three(i, i == 0), i + 1});
        }
        const auto state = [&](const Host& host) -> std::optional<pb::VPort::State> {
            const auto found = host.model.vports.find("p");
            if (found == host.model.vports.end()) return std::nullopt;
            return found->second->state();
        };
        const auto is_enrolled = [&](unsigned i) { return store.keys.contains(host_key(names[i])); };
        const auto see = [&](unsigned i) {
            if (!is_enrolled(i)) write_host(store, names[i], hosts[i].lease);
            store.list(hosts[i].mirror);
        };
        // What a registry's thread does once: it withdraws what moved away, and publishes. etcd takes nothing under a
        // lease that is gone.
        const auto publish = [&](unsigned i) {
            if (!is_enrolled(i)) return;
            Host& host = hosts[i];
            const auto publication = host.mirror.publication(claims_of(host.model, names[i], {}), host.lease);
            for (const auto& [vport, to] : publication.went)
                host.model = with_state(host.model, vport, pb::VPort::MOVED, to, mac_of).value();
            for (const Step& step : publication.steps) (void)store.write({step});
        };
        for (int step = 0; step < 200; ++step) {
            const unsigned i = draw(3);
            Host& host = hosts[i];
            switch (draw(6)) {
                case 0:  // it sees what happened; else it stays behind
                case 1:
                    see(i);
                    break;
                case 2:
                    publish(i);
                    break;
                case 3: {  // prepare with what any other host exports, also one that was forgotten
                    const unsigned from = (i + 1 + draw(2)) % 3;
                    const auto exported = migration_of(hosts[from].model, "p", names[from]);
                    if (!exported) break;
                    pb::MigrateRequest request;
                    *request.mutable_migration() = *exported;
                    request.set_netdev("v");
                    if (auto next = with_prepared(host.model, request, names[i], mac_of)) host.model = *next;
                    break;
                }
                case 4: {  // commit, and die or not between the registry and the data plane
                    if (state(host) != pb::VPort::PREPARED || !is_enrolled(i)) break;
                    const auto plan = host.mirror.takeover(claims_of(host.model, names[i], {}),
                                                           host.model.vports.at("p")->peer_host(), host.lease);
                    if (!plan || !store.write(plan->steps) || draw(3) == 0) break;
                    store.list(host.mirror);
                    host.model = with_state(host.model, "p", pb::VPort::ACTIVE, "", mac_of).value();
                    ++moves;
                    break;
                }
                default:  // its lease ends
                    if (draw(4) != 0) break;
                    std::erase_if(store.keys, [&](const auto& entry) { return entry.second.lease == host.lease; });
                    host.lease += 10;
                    break;
            }
            REQUIRE(store.of(vmac).size() <= 1);
        }
        // All see all, complete what they began, and it is one host's that forwards.
        for (int round = 0; round < 3; ++round)
            for (unsigned i = 0; i < 3; ++i) {
                see(i);
                publish(i);
                see(i);
            }
        const auto held = store.of(vmac);
        REQUIRE(held.size() <= 1);
        std::vector<std::string> forwarding;
        for (unsigned i = 0; i < 3; ++i)
            if (state(hosts[i]) == pb::VPort::ACTIVE) forwarding.push_back(names[i]);
        CHECK(forwarding.size() <= 1);
        // Nor does any other host that the VM came by go on, told of it or not.
        for (unsigned i = 0; i < 3 && !held.empty(); ++i) {
            const auto& before = held[0].moved_before();
            if (held[0].moved_from() == names[i] || std::ranges::find(before, names[i]) != before.end())
                CHECK(state(hosts[i]) != pb::VPort::ACTIVE);
        }
        if (!held.empty() && !forwarding.empty()) CHECK(held[0].host() == forwarding[0]);
    }
    CHECK(moves > 100);
}

TEST_CASE(
    "what a host shares is not carried: the other has it by the registry, or as it was told, and its own stands "
    "against it",
    "[R53][R83]") {
    std::string text = kSource;
    for (const std::string word : {"{name: friends, ", "{name: web, "})
        text.replace(text.find(word) + word.size(), 0, "shared: true, ");
    const Model source = model_of(text);
    const auto request = prepare_of(source);
    CHECK(request.migration().profile().shared_by() == "a");

    // The registry has not told it here yet.
    const Model target = model_of(kTarget);
    const auto prepared = with_prepared(target, request, "b", mac_of);
    INFO((prepared ? "" : prepared.error().text()));
    REQUIRE(prepared);
    CHECK(prepared->profiles.at("web")->shared_by() == "a");
    CHECK(prepared->sets.at("friends")->shared_by() == "a");
    CHECK((to_config(*prepared).profiles().empty() && to_config(*prepared).sets().empty()));

    // It told a later or an earlier change of it: that stays.
    Shared other = prepared->shared;
    auto changed = std::make_shared<pb::Profile>(*other.profiles.at("web"));
    changed->set_default_in(pb::Rule::ALLOW);
    other.profiles["web"] = changed;
    const auto knows = next_shared(target, other);
    REQUIRE(knows);
    const auto kept = with_prepared(*knows, request, "b", mac_of);
    REQUIRE(kept);
    CHECK(kept->profiles.at("web")->default_in() == pb::Rule::ALLOW);

    // Of another host, or this one's own: two objects by one name.
    changed = std::make_shared<pb::Profile>(*changed);
    changed->set_shared_by("c");
    other.profiles["web"] = changed;
    CHECK(!with_prepared(*next_shared(target, other), request, "b", mac_of));
    CHECK(!with_prepared(model_of(kTarget + "profiles: [{name: web, shared: true}]\n"), request, "b", mac_of));
    // Nobody's: this is no export.
    auto forged = request;
    forged.mutable_migration()->mutable_profile()->clear_shared_by();
    CHECK(!with_prepared(target, forged, "b", mac_of));
}
