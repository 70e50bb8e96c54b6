// SPDX-License-Identifier: Apache-2.0
// The registry without etcd: keys and values as text, the mirror, what a host writes, and the remote MACs that
// follow.
#include <fmt/format.h>

#include <catch2/catch_test_macros.hpp>
#include <ctime>
#include <random>
#include <set>
#include <string>

#include "api/codec.h"
#include "compile/compile.h"
#include "fabric/bindings.h"
#include "fabric/registry.h"
#include "fabric/validity.h"
#include "model/shared.h"

using namespace ivds;
using namespace ivds::fabric;

namespace {

Model model_of(const std::string& text) {
    auto config = config_from_yaml(text, "t");
    INFO((config ? "" : config.error().text()));
    REQUIRE(config);
    auto model =
        next_from_config({}, *config, [](const std::string&) -> Result<Mac> { return Mac{2, 0, 0, 0, 0, 9}; });
    INFO((model ? "" : model.error().text()));
    REQUIRE(model);
    return *model;
}

const std::string kHost = R"(
uplinks: [{name: up, netdev: ens1f0, transport_vlan: 7}]
instances:
- {name: red, uplink: up, vlan: 100, vvlan: 10, scope: distributed, peer_vlans: [200]}
- {name: blue, uplink: up, mode: independent, vvlan: 20, scope: distributed}
- {name: here, vlan: 101, vvlan: 11, scope: local}
vnics:
- {name: n1, vmac: "02:00:00:00:00:01"}
- {name: n2, vmac: "02:00:00:00:00:02"}
- {name: n3, vmac: "02:00:00:00:00:03"}
vports:
- {name: p1, instance: red, netdev: v1, vnic: n1, extra_macs: ["02:00:00:00:00:11"]}
- {name: p2, instance: blue, netdev: v2, vnic: n2}
- {name: p3, instance: here, netdev: v3, vnic: n3}
)";

etcd::KeyValue kv(const std::string& key, const std::string& value, std::int64_t revision = 1,
                  std::int64_t lease = 0) {
    return {key, value, revision, revision, lease};
}

std::string binding(const std::string& host, unsigned vlan, unsigned vvlan, const std::string& vmac) {
    return fmt::format(R"({{"vvlan":{},"vmac":"{}","vport":"p","vlan":{},"host":"{}","generation":"1"}})", vvlan,
                       vmac, vlan, host);
}

// What etcd would hold after the steps.
void carry_out(Mirror& mirror, const Publication& publication, std::int64_t& revision) {
    for (const Step& step : publication.steps) {
        ++revision;
        mirror.apply(
            {kv(step.write.key, step.write.value.value_or(""), revision, step.write.lease), !step.write.value});
    }
}

Mac mac(std::uint8_t last) {
    return {2, 0, 0, 0, 0, last};
}

}  // namespace

TEST_CASE("keys of the registry read back, and others are refused with a reason", "[R79][R174]") {
    for (const BindingKey& key : {BindingKey{{100, 10}, mac(1)}, BindingKey{{0, 4094}, mac(255)}}) {
        const ParsedKey read = parse_key(key_text(key));
        REQUIRE(std::holds_alternative<BindingKey>(read));
        CHECK(std::get<BindingKey>(read) == key);
    }
    CHECK(key_text({{100, 10}, mac(1)}) == "/ivds/v1/bindings/100.10/02:00:00:00:00:01");
    CHECK(std::get<std::string>(parse_key("/ivds/v1/hosts/a.example")) == "a.example");

    const auto why = [](const std::string& key) {
        const ParsedKey read = parse_key(key);
        REQUIRE(std::holds_alternative<Refused>(read));
        return std::get<Refused>(read).why;
    };
    for (const char* key : {"/ivds/v1/bindings/",
                            "/ivds/v1/bindings/10",
                            "/ivds/v1/bindings/10/",
                            "/ivds/v1/hosts/",
                            "/ivds/v1/bindings/010/02:00:00:00:00:01",
                            "/ivds/v1/bindings/0.10/02:00:00:00:00:01",
                            "/ivds/v1/bindings/4095/02:00:00:00:00:01",
                            "/ivds/v1/bindings/+1/02:00:00:00:00:01",
                            "/ivds/v1/bindings/1.2.3/02:00:00:00:00:01",
                            "/ivds/v1/bindings/./02:00:00:00:00:01",
                            "/ivds/v1/bindings/10/02:00:00:00:00:0A",
                            "/ivds/v1/bindings/10/03:00:00:00:00:01",
                            "/ivds/v1/bindings/10/00:00:00:00:00:00",
                            "/ivds/v1/bindings/10/02:00:00:00:00:01/",
                            "/ivds/v1/hosts/No",
                            "/ivds/v1/hosts/a/b",
                            "/ivds/v1/moves/",
                            "/ivds/v1/moves/a",
                            "/ivds/v1/moves/a/10",
                            "/ivds/v1/moves/a/10/",
                            "/ivds/v1/moves/A/10/02:00:00:00:00:01",
                            "/ivds/v1/owners/",
                            "/ivds/v1/owners/10",
                            "/ivds/v1/owners/a/10/02:00:00:00:00:01"}) {
        INFO(key);
        CHECK(why(key) == Refusal::malformed);
    }
    CHECK(why("/ivds/v2/hosts/a") == Refusal::newer);
    CHECK(why("/ivds/v1/peers/a") == Refusal::unknown);
    CHECK(why("/ivds/") == Refusal::unknown);
    CHECK(why("/i") == Refusal::unknown);
}

TEST_CASE("an owner says what its key says", "[R154][R164]") {
    const OwnerKey key{{{200, 10}, mac(1)}};
    CHECK(key_text(key) == "/ivds/v1/owners/200.10/02:00:00:00:00:01");
    CHECK(std::get<OwnerKey>(parse_key(key_text(key))) == key);
    fabric::registry::Owner owner;
    owner.set_host("b");
    owner.set_vvlan(10);
    owner.set_vmac("02:00:00:00:00:01");
    owner.set_vport("p");
    CHECK(std::get<fabric::registry::Owner>(parse_owner(key, value_text(owner))).host() == "b");
    const auto is_refused = [&](auto change) {
        fabric::registry::Owner other = owner;
        change(other);
        const auto read = parse_owner(key, value_text(other));
        return std::holds_alternative<Refused>(read) && std::get<Refused>(read).why == Refusal::malformed;
    };
    CHECK(is_refused([](fabric::registry::Owner& each) { each.set_host("B b"); }));
    CHECK(is_refused([](fabric::registry::Owner& each) { each.set_vvlan(11); }));
    CHECK(is_refused([](fabric::registry::Owner& each) { each.set_vmac("02:00:00:00:00:02"); }));
    CHECK(is_refused([](fabric::registry::Owner& each) { each.set_vport(""); }));
    Mirror mirror("a");
    mirror.apply({kv(key_text(key), "{", 2), false});
    CHECK(mirror.refused().size() == 1);
    mirror.apply({kv(key_text(key), value_text(owner), 3), false});
    CHECK(mirror.refused().empty());
    // Another host's is not this one's to remove; its own without a vPort is.
    CHECK(mirror.publication({}, 1).steps.empty());
    owner.set_host("a");
    mirror.apply({kv(key_text(key), value_text(owner), 4), false});
    CHECK(mirror.publication({}, 1).steps.size() == 1);
}

TEST_CASE("a word of a move is for the host of its key, and says what its key says", "[R164]") {
    const MoveKey key{"a.example", {{200, 10}, mac(1)}};
    CHECK(key_text(key) == "/ivds/v1/moves/a.example/200.10/02:00:00:00:00:01");
    CHECK(std::get<MoveKey>(parse_key(key_text(key))) == key);
    fabric::registry::Move move;
    move.set_host("a.example");
    move.set_vvlan(10);
    move.set_vmac("02:00:00:00:00:01");
    move.set_vport("p");
    move.set_to_host("b");
    move.set_generation(2);
    CHECK(std::get<fabric::registry::Move>(parse_move(key, value_text(move))).to_host() == "b");
    const auto is_refused = [&](auto change) {
        fabric::registry::Move other = move;
        change(other);
        const auto read = parse_move(key, value_text(other));
        return std::holds_alternative<Refused>(read) && std::get<Refused>(read).why == Refusal::malformed;
    };
    CHECK(is_refused([](fabric::registry::Move& each) { each.set_host("c"); }));
    CHECK(is_refused([](fabric::registry::Move& each) { each.set_vvlan(11); }));
    CHECK(is_refused([](fabric::registry::Move& each) { each.set_vmac("02:00:00:00:00:02"); }));
    CHECK(is_refused([](fabric::registry::Move& each) { each.set_vport(""); }));
    CHECK(is_refused([](fabric::registry::Move& each) { each.set_to_host("B b"); }));
    // For another host it is kept, and nothing comes of it.
    Mirror mirror("b");
    mirror.apply({kv(key_text(key), value_text(move), 1), false});
    CHECK(mirror.refused().empty());
    CHECK(mirror.publication({}, 1).steps.empty());
    mirror.apply({kv(key_text(key), "{", 2), false});
    CHECK(mirror.refused().size() == 1);
}

TEST_CASE("what a stranger wrote is counted and told, and nothing comes of it", "[R79][R174]") {
    Mirror mirror("a");
    const std::string key = key_text({{100, 10}, mac(1)});
    const std::string good = binding("b", 100, 10, "02:00:00:00:00:01");
    std::int64_t revision = 0;
    for (const std::string& value :
         {std::string(), std::string("{"), std::string("[]"), std::string("\xff\xfe"),
          std::string("{\"vvlan\":\"x\"}"), std::string(100'000, '['), std::string(64, '['),
          binding("b", 100, 11, "02:00:00:00:00:01"), binding("b", 100, 10, "02:00:00:00:00:02"),
          binding("b", 200, 10, "02:00:00:00:00:01"), binding("B b", 100, 10, "02:00:00:00:00:01"),
          binding("", 100, 10, "02:00:00:00:00:01")}) {
        INFO(printable(value));
        // It takes the place of one that was good.
        mirror.apply({kv(key, good, ++revision), false});
        CHECK(mirror.others() == 1);
        CHECK(mirror.refused().empty());
        mirror.apply({kv(key, value, ++revision), false});
        CHECK(mirror.others() == 0);
        REQUIRE(mirror.refused().size() == 1);
        CHECK(mirror.refused().begin()->second.why ==
              (value.size() > kMaxValueBytes ? Refusal::huge : Refusal::malformed));
    }
    CHECK(mirror.refused_total() == 12);
    mirror.apply({kv(key, "", ++revision), true});
    CHECK(mirror.refused().empty());

    // Fields that a later minor adds are no reason.
    mirror.apply({kv(key, good.substr(0, good.size() - 1) + R"(,"colour":{"a":[1]}})", ++revision), false});
    CHECK(mirror.others() == 1);

    // So many, and with names so long, that remembering them all would cost something.
    for (int i = 0; i < 10'000; ++i)
        mirror.apply({kv(fmt::format("/ivds/\n{}{}", i, std::string(1000, 'x')), "", ++revision), false});
    CHECK(mirror.refused().size() == kMaxRefused);
    CHECK(mirror.refused().begin()->first.size() < 200);
    CHECK(mirror.refused().begin()->first.find('\n') == std::string::npos);
    CHECK(mirror.refused_total() == 10'012);
}

TEST_CASE("a host claims what its distributed instances have, and writes nothing twice", "[R79][R81]") {
    const auto claims = claims_of(model_of(kHost), "a", {{"up", mac(9)}});
    REQUIRE(claims.size() == 3);
    CHECK(key_text(claims[0].key) == "/ivds/v1/bindings/20/02:00:00:00:00:02");
    CHECK(claims[0].binding.vlan() == 7);
    CHECK(key_text(claims[1].key) == "/ivds/v1/bindings/100.10/02:00:00:00:00:01");
    CHECK(claims[1].binding.vport() == "p1");
    CHECK(claims[1].binding.physical_mac() == "02:00:00:00:00:09");
    CHECK(claims[1].networks == std::vector<Network>{{100, 10}, {200, 10}});
    CHECK(key_text(claims[2].key) == "/ivds/v1/bindings/100.10/02:00:00:00:00:11");

    Mirror mirror("a");
    std::int64_t revision = 5;
    const auto first = mirror.publication(claims, 77);
    REQUIRE(first.steps.size() == 3);
    CHECK(first.conflicts.empty());
    // In none of the networks that the instance is in may somebody else have it, or have taken it over.
    REQUIRE(first.steps[1].guards.size() == 4);
    CHECK(first.steps[1].guards[1].key == "/ivds/v1/bindings/200.10/02:00:00:00:00:01");
    CHECK(first.steps[1].guards[3].key == "/ivds/v1/owners/200.10/02:00:00:00:00:01");
    for (const auto& guard : first.steps[1].guards) CHECK(guard.mod_revision == 0);
    CHECK(first.steps[1].bound == "p1");
    carry_out(mirror, first, revision);
    CHECK(mirror.own() == 3);
    CHECK(mirror.publication(claims, 77).steps.empty());

    SECTION("under another lease all are written anew, guarded by their revisions") {
        const auto again = mirror.publication(claims, 78);
        REQUIRE(again.steps.size() == 3);
        CHECK(again.steps[0].guards[0].mod_revision == 6);
        CHECK(std::ranges::all_of(again.steps, [](const Step& step) { return step.bound.empty(); }));
        const auto read = parse_binding(claims[0].key, *again.steps[0].write.value);
        REQUIRE(std::holds_alternative<fabric::registry::Binding>(read));
        CHECK(std::get<fabric::registry::Binding>(read).generation() == 2);
    }
    SECTION("what is claimed no more goes") {
        const auto less = mirror.publication({claims[0]}, 77);
        REQUIRE(less.steps.size() == 2);
        CHECK_FALSE(less.steps[0].write.value);
        carry_out(mirror, less, revision);
        CHECK(mirror.own() == 1);
    }
    SECTION("a registry that lost everything gets it again") {
        mirror.relist({}, 100);
        CHECK(mirror.own() == 0);
        const auto anew = mirror.publication(claims, 77);
        REQUIRE(anew.steps.size() == 3);
        CHECK(std::ranges::all_of(anew.steps, [](const Step& step) { return step.bound.empty(); }));
        // On another VLAN, the fabric has to hear of it.
        auto elsewhere = claims;
        for (Claim& claim : elsewhere) claim.binding.set_vlan(200);
        const auto moved = mirror.publication(elsewhere, 77);
        CHECK(std::ranges::none_of(moved.steps, [](const Step& step) { return step.bound.empty(); }));
    }
}

TEST_CASE("bindings are read a part at a time, in order, each once, also while they change", "[R153]") {
    Mirror mirror("a");
    std::vector<etcd::KeyValue> keys;
    std::set<std::string> wanted;
    for (const Network& network : {Network{0, 7}, Network{100, 10}, Network{200, 10}})
        for (std::uint8_t n = 1; n <= 5; ++n) {
            const BindingKey key{network, mac(n)};
            keys.push_back(kv(key_text(key),
                              binding("b", network.vlan != 0 ? network.vlan : 7, network.vvlan, format_mac(mac(n))),
                              9));
            wanted.insert(key_text(key));
        }
    mirror.relist(keys, 0);
    for (const std::size_t most : {1U, 2U, 5U, 7U, 15U, 16U}) {
        std::vector<std::string> got;
        std::optional<BindingKey> last;
        while (true) {
            const auto page = mirror.page(last ? &*last : nullptr, most);
            for (const auto& [key, value] : page) {
                got.push_back(key_text(key));
                CHECK(value.host() == "b");
            }
            if (page.size() < most) break;
            last = page.back().first;
        }
        INFO("parts of " << most);
        CHECK(got.size() == wanted.size());
        CHECK(std::set<std::string>(got.begin(), got.end()) == wanted);
    }
    // Where the last one was is gone: what comes behind it does not go missing.
    const BindingKey gone{{100, 10}, mac(3)};
    mirror.apply({kv(key_text(gone), "", 10), true});
    CHECK(mirror.page(&gone, 1).at(0).first == BindingKey{{100, 10}, mac(4)});
}

TEST_CASE(
    "what a host withdraws of a VM that came from others, or loses with its lease, it has again with all hosts that "
    "it was on",
    "[R154][R164]") {
    const Model model = model_of(kHost);
    const auto claims = claims_of(model, "a", {});
    const auto held = [&](const Mirror& mirror) { return mirror.bindings({100, 10})->at(mac(1)).binding; };
    Mirror mirror("a");
    std::int64_t revision = 10;
    auto first = mirror.publication(claims, 77);
    carry_out(mirror, first, revision);
    auto came = held(mirror);
    came.set_generation(4);
    came.set_moved_from("b");
    came.add_moved_before("c");
    mirror.apply({kv(key_text({{100, 10}, mac(1)}), value_text(came), ++revision, 77), false});
    CHECK(mirror.take_came_changed());
    REQUIRE(mirror.came().size() == 1);

    const auto is_as_before = [&](const fabric::registry::Binding& binding) {
        CHECK(binding.generation() == 5);
        CHECK(binding.moved_from() == "b");
        REQUIRE(binding.moved_before_size() == 1);
        CHECK(binding.moved_before(0) == "c");
    };
    SECTION("withdrawn while the VLAN changes") {
        carry_out(mirror, mirror.publication({}, 77), revision);
        CHECK(mirror.own() == 0);
        mirror.forget_but(model.vports);
        Model next = model;
        auto red = std::make_shared<pb::Instance>(*model.instances.at("red"));
        red->set_vlan(300);
        next.instances["red"] = red;
        carry_out(mirror, mirror.publication(claims_of(next, "a", {}), 77), revision);
        is_as_before(mirror.bindings({300, 10})->at(mac(1)).binding);
        CHECK(mirror.came().size() == 1);
        // Of one that never moved the generation alone goes on.
        const auto& other = mirror.bindings({300, 10})->at(mac(0x11)).binding;
        CHECK(other.generation() == 2);
        CHECK(other.moved_from().empty());
    }
    SECTION("gone with its lease, and read back by the next agent") {
        const auto kept = mirror.came();
        Mirror next("a");
        for (const auto& binding : kept) next.remember(binding);
        next.relist({}, 100);
        next.forget_but(model.vports);
        carry_out(next, next.publication(claims, 78), revision);
        is_as_before(held(next));
    }
    SECTION("gone with all that etcd had") {
        mirror.relist({}, 100);
        carry_out(mirror, mirror.publication(claims, 78), revision);
        is_as_before(held(mirror));
    }
    SECTION("not of a vPort that was deleted, nor once another host has it") {
        Model without = model;
        without.vports.erase("p1");
        carry_out(mirror, mirror.publication(claims_of(without, "a", {}), 77), revision);
        mirror.forget_but(without.vports);
        CHECK(mirror.came().empty());
        carry_out(mirror, mirror.publication(claims, 77), revision);
        CHECK(held(mirror).generation() == 1);
        mirror.apply({kv(key_text({{100, 10}, mac(1)}), value_text(came), ++revision, 77), false});
        const std::string theirs = binding("b", 200, 10, "02:00:00:00:00:01");
        mirror.apply({kv(key_text({{100, 10}, mac(1)}), "", ++revision), true});
        mirror.apply({kv(key_text({{200, 10}, mac(1)}), theirs, revision), false});
        CHECK(mirror.came().empty());
    }
    SECTION("and who takes it over from a host whose lease ended still tells of all before") {
        Mirror third("d");
        third.apply({kv(key_text({{100, 10}, mac(1)}), value_text(came), ++revision, 77), false});
        third.apply({kv(key_text({{100, 10}, mac(1)}), "", ++revision), true});
        const auto taken = third.takeover({claims_of(model, "d", {})[1]}, "a", 99);
        REQUIRE(taken);
        const auto read = parse_binding({{100, 10}, mac(1)}, *taken->steps.front().write.value);
        REQUIRE(std::holds_alternative<fabric::registry::Binding>(read));
        const auto& binding = std::get<fabric::registry::Binding>(read);
        CHECK(binding.generation() == 5);
        CHECK(binding.moved_from() == "a");
        REQUIRE(binding.moved_before_size() == 2);
        CHECK(binding.moved_before(0) == "b");
        CHECK(binding.moved_before(1) == "c");
    }
}

TEST_CASE(
    "instances across hosts are in the registry, with a vPort or without, written once, and go with what they are of",
    "[R79][R81][R174]") {
    const Model model = model_of(kHost);
    const auto instances = instances_of(model, "a", {});
    REQUIRE(instances.size() == 2);
    CHECK(instances[0].key == "/ivds/v1/instances/a/blue");
    CHECK(instances[0].value == R"({"name":"blue","host":"a","network":"20","vvlan":20,"vlan":7})");
    CHECK(instances[1].key == "/ivds/v1/instances/a/red");
    CHECK(instances[1].value ==
          R"({"name":"red","host":"a","network":"100.10","vvlan":10,"vlan":100,"peer_vlans":[200]})");

    Mirror mirror("a");
    std::int64_t revision = 0;
    const auto first = mirror.publication({}, 5, instances);
    REQUIRE(first.steps.size() == 2);
    CHECK(first.steps[0].write.lease == 5);
    CHECK(first.steps[0].guards.front().mod_revision == 0);
    carry_out(mirror, first, revision);
    CHECK(mirror.instances().size() == 2);
    CHECK(mirror.publication({}, 5, instances_of(model, "a", instances)).steps.empty());
    CHECK(mirror.publication({}, 6, instances).steps.size() == 2);  // under another lease
    // A list that has them is no reason to write, nor is what another host has ours to take back.
    const std::string theirs =
        R"({"name":"red","host":"b","network":"200.10","vvlan":10,"vlan":200,"tenant":"acme","colour":1})";
    mirror.relist({kv(instances[0].key, instances[0].value, 3, 5), kv(instances[1].key, instances[1].value, 3, 5),
                   kv("/ivds/v1/instances/b/red", theirs, 4)},
                  100);
    CHECK(mirror.publication({}, 5, instances).steps.empty());
    CHECK(mirror.instances().at({"b", "red"}).instance.tenant() == "acme");

    Model next = model;
    auto draining = std::make_shared<pb::Instance>(*model.instances.at("red"));
    draining->set_draining(true);
    next.instances["red"] = draining;
    const auto less = mirror.publication({}, 5, instances_of(next, "a", instances));
    REQUIRE(less.steps.size() == 1);
    CHECK(less.steps[0].write.key == "/ivds/v1/instances/a/red");
    CHECK_FALSE(less.steps[0].write.value);

    for (const char* key : {"/ivds/v1/instances/", "/ivds/v1/instances/a", "/ivds/v1/instances/a/",
                            "/ivds/v1/instances//red", "/ivds/v1/instances/a/red/x", "/ivds/v1/instances/a/No"}) {
        INFO(key);
        REQUIRE(std::holds_alternative<Refused>(parse_key(key)));
        CHECK(std::get<Refused>(parse_key(key)).why == Refusal::malformed);
    }
    const InstanceKey key{"b", "red"};
    for (const char* value :
         {"{", "[]", R"({"name":"red"})", R"({"name":"blue","host":"b","network":"10","vvlan":10,"vlan":1})",
          R"({"name":"red","host":"c","network":"10","vvlan":10,"vlan":1})",
          R"({"name":"red","host":"b","network":"1.10.2","vvlan":10,"vlan":1})",
          R"({"name":"red","host":"b","network":"1.10","vvlan":11,"vlan":1})",
          R"({"name":"red","host":"b","network":"1.10","vvlan":10,"vlan":2})",
          R"({"name":"red","host":"b","network":"10","vvlan":10,"vlan":4095})",
          R"({"name":"red","host":"b","network":"10","vvlan":10,"vlan":1,"peer_vlans":[0]})",
          R"({"name":"red","host":"b","network":"10","vvlan":10,"vlan":1,"tenant":"No One"})"}) {
        INFO(value);
        mirror.apply({kv(key_text(key), theirs, ++revision + 10), false});
        CHECK(mirror.instances().contains(key));
        mirror.apply({kv(key_text(key), value, ++revision + 10), false});
        CHECK_FALSE(mirror.instances().contains(key));
        REQUIRE(mirror.refused().size() == 1);
        CHECK(mirror.refused().begin()->second.why == Refusal::malformed);
    }
    // What is not understood is not overwritten, also by this host's own name; what nothing here is of is taken back.
    mirror.apply({kv(instances[0].key, "{", ++revision + 10), false});
    CHECK(mirror.publication({}, 5, instances).share_conflicts.size() == 1);
    mirror.apply({kv("/ivds/v1/instances/a/old", R"({"name":"old","host":"a","network":"10","vvlan":10,"vlan":1})",
                     ++revision + 10),
                  false});
    REQUIRE(mirror.publication({}, 5, instances).steps.size() == 1);
    CHECK(mirror.publication({}, 5, instances).steps[0].write.key == "/ivds/v1/instances/a/old");
}

TEST_CASE("an authority that is not valid at a time is told with its own; of several one is enough", "[R142]") {
    // Made by openssl: valid for two days, from 2020-01-01 and from 2030-01-01.
    const std::string early = R"(-----BEGIN CERTIFICATE-----
MIIBGjCBwQIUVjDlPwHeVcaVE41oJY7rTy/ej08wCgYIKoZIzj0EAwIwEDEOMAwG
A1UEAwwFZWFybHkwHhcNMjAwMTAxMDAwMDAwWhcNMjAwMTAzMDAwMDAwWjAQMQ4w
DAYDVQQDDAVlYXJseTBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABE0dmlxct//s
1bCoW7tGl3jpBS/F51Cs8Xh/bVbSgCbHBfTnxjHrEn9eAVIKidsRQnukeD6hDxrL
EuizOYh/jLAwCgYIKoZIzj0EAwIDSAAwRQIgFz29wX/pKMsUC1BXyhiVEg1/MuSd
jLiBmQS/jzun3IoCIQCjWCFsPHpFYKsI00Epej8YtQoZ2HRSSVCOkl1NK9qopg==
-----END CERTIFICATE-----
)";
    const std::string late = R"(-----BEGIN CERTIFICATE-----
MIIBGDCBvwIUURccwE1rRIQW5VAMOnkVpvBRi70wCgYIKoZIzj0EAwIwDzENMAsG
A1UEAwwEbGF0ZTAeFw0zMDAxMDEwMDAwMDBaFw0zMDAxMDMwMDAwMDBaMA8xDTAL
BgNVBAMMBGxhdGUwWTATBgcqhkjOPQIBBggqhkjOPQMBBwNCAAQo89sCgWULLHvZ
4ghnO+PD9grz2o5xCSx3fr3VT9zM4iA/gN0Ox5vkojN+lUEufMejnIFIXFarSTY6
bzbSwDiWMAoGCCqGSM49BAMCA0gAMEUCIGmvBo09Vk8GBJMejaYABTJskw+gL0OC
HCVWcddEdDU7AiEA12vH2XNI7ETY+5E05Dc9cPnQJvjL8L5YvvRo2aKWMVI=
-----END CERTIFICATE-----
)";
    constexpr std::time_t day = 86400;
    constexpr std::time_t in_2020 = 1577836800;
    constexpr std::time_t in_2030 = 1893456000;
    CHECK_FALSE(why_not_valid(early, in_2020 + day));
    CHECK(why_not_valid(early, in_2020 - 1) == "it is valid from 2020-01-01T00:00:00Z on");
    CHECK(why_not_valid(early, in_2020 + 3 * day) == "it was valid until 2020-01-03T00:00:00Z");
    CHECK_FALSE(why_not_valid(early + late, in_2020 + day));
    CHECK_FALSE(why_not_valid(early + late, in_2030 + day));
    CHECK(why_not_valid(early + late, in_2020 + 3 * day));
    CHECK_FALSE(why_not_valid("", 0));
    CHECK_FALSE(why_not_valid("nonsense", 0));
    CHECK(calendar_text(in_2030) == "2030-01-01T00:00:00Z");
}

TEST_CASE("another host's binding is never overwritten", "[R79][R174]") {
    const auto claims = claims_of(model_of(kHost), "a", {});
    Mirror mirror("a");
    // On the peer VLAN it is the same network's.
    for (const Network& network : {Network{100, 10}, Network{200, 10}}) {
        const BindingKey key{network, mac(1)};
        mirror.relist({kv(key_text(key), binding("b", network.vlan, 10, "02:00:00:00:00:01"), 9)}, 0);
        mirror.expire(1);
        const auto publication = mirror.publication(claims, 77);
        REQUIRE(publication.conflicts.size() == 1);
        CHECK(publication.conflicts[0].vport == "p1");
        CHECK(publication.conflicts[0].other.binding.host() == "b");
        CHECK(publication.steps.size() == 2);
        for (const Step& step : publication.steps) CHECK(step.write.key.find("00:01") == std::string::npos);
        // Once it is gone, it is to be had.
        mirror.apply({kv(key_text(key), "", 10), true});
        CHECK(mirror.publication(claims, 77).steps.size() == 3);
    }
    // Nor is what nobody understands.
    mirror.apply({kv(key_text({{100, 10}, mac(1)}), "?", 11), false});
    const auto publication = mirror.publication(claims, 77);
    REQUIRE(publication.conflicts.size() == 1);
    CHECK(publication.conflicts[0].other.binding.host().empty());
    CHECK(publication.steps.size() == 2);
}

TEST_CASE("a list that lacks bindings takes them away only after a while, and no old news counts", "[R82][R147]") {
    Mirror mirror("a");
    const BindingKey one{{100, 10}, mac(41)};
    const BindingKey two{{100, 10}, mac(42)};
    const auto told = [](const BindingKey& key, std::int64_t revision) {
        auto out = kv(key_text(key), binding("b", 100, 10, format_mac(key.vmac)), revision);
        out.create_revision = 50;
        return out;
    };
    const auto both = [&](std::int64_t revision) { return std::vector{told(one, revision), told(two, revision)}; };
    mirror.relist(both(50), 0);
    CHECK(mirror.others() == 2);
    CHECK(mirror.take_changed() == std::set<Network>{{100, 10}});
    mirror.relist(both(60), 10);
    CHECK(mirror.take_changed().empty());

    mirror.relist({}, 10);
    mirror.expire(9);
    CHECK(mirror.others() == 2);
    CHECK(mirror.take_changed().empty());
    // The host says one of them again: nothing flapped. The other goes.
    mirror.apply({told(one, 61), false});
    CHECK(mirror.take_changed().empty());
    mirror.expire(10);
    CHECK(mirror.others() == 1);
    CHECK_FALSE(mirror.take_changed().empty());

    // A deletion from before the last write.
    mirror.apply({kv(key_text(one), "", 55), true});
    CHECK(mirror.others() == 1);
    mirror.apply({kv(key_text(one), "", 62), true});
    CHECK(mirror.others() == 0);

    // A registry that begins anew, and counts its revisions from 1 again.
    mirror.relist(both(63), 20);
    mirror.relist({}, 20);
    mirror.apply({told(one, 2), false});
    mirror.expire(20);
    CHECK(mirror.others() == 1);
}

TEST_CASE("after each of many changes, looking at their networks alone gives what looking at all gives",
          "[R80][R81]") {
    const Model model = model_of(kHost);
    Mirror mirror("a");
    std::vector<Unusable> unusable;
    Remotes remotes = remotes_of(model, mirror, "a", {}, nullptr, unusable);
    std::mt19937 random(1);
    std::int64_t revision = 1;
    int shared = 0;
    for (int i = 0; i < 2000; ++i) {
        const auto vlan = static_cast<std::uint16_t>(100 * (1 + random() % 3));
        const Network network = random() % 4 == 0 ? Network{0, 20} : Network{vlan, 10};
        const BindingKey key{network, mac(static_cast<std::uint8_t>(0x29 + random() % 3))};
        const char* host = random() % 4 == 0 ? "a" : random() % 2 == 0 ? "b" : "c";
        mirror.apply({kv(key_text(key), binding(host, vlan, network.vvlan, format_mac(key.vmac)), ++revision),
                      random() % 3 == 0});
        const auto changed = mirror.take_changed();
        const Remotes before = remotes;
        remotes = remotes_of(model, mirror, "a", remotes, &changed, unusable);
        std::vector<Unusable> all_unusable;
        const Remotes all = remotes_of(model, mirror, "a", {}, nullptr, all_unusable);
        REQUIRE(remotes.size() == all.size());
        for (const auto& [instance, list] : all) {
            REQUIRE(*remotes.at(instance) == *list);
            if (const auto old = before.find(instance); old != before.end() && old->second == remotes.at(instance))
                ++shared;
        }
        REQUIRE(unusable.size() == all_unusable.size());
        const std::uint64_t own = mirror.own();
        REQUIRE(mirror.publication({}, 0).steps.size() == own);
    }
    CHECK(shared > 500);
}

// A binding with what else its JSON says.
std::string binding_with(const std::string& host, unsigned vlan, const std::string& vmac, const std::string& more) {
    std::string text = binding(host, vlan, 10, vmac);
    text.insert(text.size() - 1, "," + more);
    return text;
}

Remotes remotes_of_keys(const Model& model, std::vector<etcd::KeyValue> keys,
                        std::vector<Unusable>* unusable = nullptr) {
    Mirror mirror("a");
    mirror.relist(std::move(keys), 0);
    std::vector<Unusable> local;
    return remotes_of(model, mirror, "a", {}, nullptr, unusable != nullptr ? *unusable : local);
}

ivds_instance row_of(const Model& model, const std::string& name, const Remotes& remotes) {
    const Ids ids = assign_ids(model, {}).value();
    return compile(model, ids, {}, {}, remotes).value().instances.at(ids.instances.at(name)).value;
}

std::string replaced(std::string text, const std::string& what, const std::string& by) {
    return text.replace(text.find(what), what.size(), by);
}

TEST_CASE("floods go to the VLANs where registered peers are, to all while nobody knows, and as an instance says",
          "[R80][R109][R110]") {
    const Model model = model_of(kHost);
    constexpr auto skips = IVDS_IF_SKIP_OWN;
    const auto on_200 = remotes_of_keys(
        model, {kv("/ivds/v1/bindings/200.10/02:00:00:00:00:2a", binding("c", 200, 10, "02:00:00:00:00:2a"), 4)});
    const auto on_own = remotes_of_keys(
        model, {kv("/ivds/v1/bindings/100.10/02:00:00:00:00:29", binding("b", 100, 10, "02:00:00:00:00:29"), 4)});
    const auto nobody = remotes_of_keys(model, {});

    CHECK((row_of(model, "red", {}).flags & skips) == 0);
    CHECK(row_of(model, "red", {}).peer_vlans[0] == 200);
    CHECK((row_of(model, "red", on_200).flags & skips) != 0);
    CHECK(row_of(model, "red", on_200).peer_vlans[0] == 200);
    CHECK((row_of(model, "red", on_own).flags & skips) == 0);
    CHECK(row_of(model, "red", on_own).peer_vlans[0] == 0);
    CHECK((row_of(model, "red", nobody).flags & skips) != 0);
    CHECK(row_of(model, "red", nobody).peer_vlans[0] == 0);
    CHECK((row_of(model, "here", nobody).flags & skips) == 0);
    // What the last agent knew holds until the registry is read, also that there was nobody.
    const Ids ids = assign_ids(model, {}).value();
    const Remotes last = remotes_in(compile(model, ids, {}, {}, nobody).value(), model, ids);
    REQUIRE(last.size() == nobody.size());
    for (const auto& [name, list] : last) CHECK((list->empty() && nobody.contains(name)));
    CHECK(remotes_in(compile(model, ids, {}, {}, {}).value(), model, ids).empty());

    const Model flooded = model_of(replaced(kHost, "peer_vlans", "unregistered: flooded, peer_vlans"));
    CHECK((row_of(flooded, "red", nobody).flags & skips) == 0);
    CHECK(row_of(flooded, "red", nobody).peer_vlans[0] == 200);
    const Model dropped = model_of(replaced(
        kHost, "peer_vlans", "unregistered: dropped, fdb: [{mac: \"02:00:00:00:00:55\", vlan: 200}], peer_vlans"));
    CHECK((row_of(dropped, "red", {}).flags & IVDS_IF_REGISTERED) != 0);
    CHECK((row_of(dropped, "red", {}).flags & skips) != 0);
    CHECK(row_of(dropped, "red", {}).peer_vlans[0] == 200);
    CHECK((row_of(model, "red", nobody).flags & IVDS_IF_REGISTERED) == 0);
    // What a NIC sends for a VF's VM goes to all: the others' floods then do as well.
    const Model nic = model_of(replaced(kHost, "transport_vlan: 7", "transport_vlan: 7, offload: on"));
    CHECK((row_of(nic, "red", nobody).flags & skips) == 0);
}

TEST_CASE("an instance takes as many peers as it says, those that came first, and the next is refused", "[R79]") {
    const Model model = model_of(replaced(kHost, "peer_vlans", "max_peers: 2, peer_vlans"));
    std::vector<Unusable> unusable;
    const Remotes remotes = remotes_of_keys(
        model,
        {kv("/ivds/v1/bindings/100.10/02:00:00:00:00:29", binding("z", 100, 10, "02:00:00:00:00:29"), 3),
         kv("/ivds/v1/bindings/200.10/02:00:00:00:00:2a", binding("c", 200, 10, "02:00:00:00:00:2a"), 4),
         kv("/ivds/v1/bindings/100.10/02:00:00:00:00:2b", binding("b", 100, 10, "02:00:00:00:00:2b"), 5),
         kv("/ivds/v1/bindings/100.10/02:00:00:00:00:2c", binding("b", 100, 10, "02:00:00:00:00:2c"), 6),
         kv("/ivds/v1/bindings/100.10/02:00:00:00:00:2d", binding("z", 100, 10, "02:00:00:00:00:2d"), 7)},
        &unusable);
    CHECK(*remotes.at("red") == std::vector<RemoteMac>{{mac(41), 100}, {mac(42), 200}, {mac(45), 100}});
    REQUIRE(unusable.size() == 1);
    CHECK(unusable.front().is_over);
    CHECK(unusable.front().entry.binding.host() == "b");
    CHECK(unusable.front().why == "instance red takes 2 peers, and others came before");
}

TEST_CASE("of two that hold one vMAC on two VLANs of an instance the later is told, by its own key", "[R79][R174]") {
    const Model model = model_of(kHost);
    const std::string vmac = "02:00:00:00:00:29";
    for (const bool later_is_last : {true, false}) {  // in the order of their keys
        std::vector<Unusable> unusable;
        const Remotes remotes = remotes_of_keys(
            model,
            {kv("/ivds/v1/bindings/100.10/" + vmac, binding("b", 100, 10, vmac), later_is_last ? 3 : 4),
             kv("/ivds/v1/bindings/200.10/" + vmac, binding("c", 200, 10, vmac), later_is_last ? 4 : 3)},
            &unusable);
        CHECK(*remotes.at("red") == std::vector<RemoteMac>{{mac(41), std::uint16_t(later_is_last ? 100 : 200)}});
        REQUIRE(unusable.size() == 1);
        CHECK(key_text(unusable.front().key) ==
              fmt::format("/ivds/v1/bindings/{}.10/{}", later_is_last ? 200 : 100, vmac));
        CHECK(unusable.front().entry.binding.host() == (later_is_last ? "c" : "b"));
        CHECK(unusable.front().why == fmt::format("host {} had it before", later_is_last ? "b" : "c"));
    }
}

TEST_CASE("what a host's key says of itself is text for terminals too", "[R174]") {
    const auto is_taken = [](const std::string& more) {
        return std::holds_alternative<fabric::registry::Host>(
            parse_host("a", R"({"name":"a","id":"1")" + more + "}"));
    };
    CHECK(is_taken(R"(,"version":"0.1.0+e8","address":"[2001:db8::1]:7443")"));
    CHECK_FALSE(is_taken(R"(,"version":"1\u001b[2J")"));
    CHECK_FALSE(is_taken(R"(,"address":"a\u001b[31m:1")"));
    CHECK_FALSE(is_taken(R"(,"address":"\u00e4:1")"));
}

TEST_CASE("one address of two vPorts in one network is told, with who claims it; in two networks it is right",
          "[R84][R153]") {
    const std::string text = replaced(kHost, "vnic: n1,", "vnic: n1, addresses: [10.0.0.1, \"fd00::1\"],");
    const Model model = model_of(replaced(text, "vnic: n2}", "vnic: n2, addresses: [10.0.0.1]}"));
    Mirror mirror("a");
    const auto say = [&](const std::string& network, unsigned vlan, std::uint8_t last, const std::string& addresses,
                         std::int64_t revision) {
        const std::string vmac = format_mac(mac(last));
        mirror.apply({kv("/ivds/v1/bindings/" + network + "/" + vmac,
                         binding_with("b", vlan, vmac, "\"addresses\":[" + addresses + "]"), revision),
                      false});
    };
    const auto clashes = [&] { return address_clashes(model, mirror, claims_of(model, "a", {}), "a"); };
    CHECK(clashes().empty());
    say("100.10", 100, 41, "\"10.0.0.2\"", 1);
    say("300.10", 300, 42, "\"10.0.0.1\"", 2);
    CHECK(clashes().empty());
    // By another VLAN of the instance, and in another form of the address.
    say("200.10", 200, 43, "\"fd00:0::1\",\"10.0.0.2\"", 3);
    const auto found = clashes();
    REQUIRE(found.size() == 2);
    CHECK((found[0].instance == "red" && found[1].instance == "red"));
    std::set<std::string> pairs;
    for (const AddressClash& each : found)
        pairs.insert(fmt::format("{} {} {}", each.address, each.one.vmac(), each.other.vmac()));
    CHECK(pairs == std::set<std::string>{"fd00::1 02:00:00:00:00:01 02:00:00:00:00:2b",
                                         "10.0.0.2 02:00:00:00:00:29 02:00:00:00:00:2b"});
    // A VM that is to come claims nothing yet; nor does what went from the list.
    Model prepared = model;
    auto vport = std::make_shared<pb::VPort>(*prepared.vports.at("p1"));
    vport->set_state(pb::VPort::PREPARED);
    prepared.vports["p1"] = vport;
    CHECK(address_clashes(prepared, mirror, claims_of(prepared, "a", {}), "a").size() == 1);
    mirror.relist({}, 10);
    CHECK(clashes().empty());
}

TEST_CASE("bindings say whose they are, and those of other hosts are counted by tenant", "[R79][R87]") {
    const Model model = model_of(replaced(kHost, "{name: red,", "{name: red, tenant: acme,"));
    const auto claims = claims_of(model, "a", {});
    CHECK(claims_of_tenant(claims, "acme") == 2);
    Mirror mirror("a");
    std::int64_t revision = 0;
    carry_out(mirror, mirror.publication(claims, 5), revision);
    CHECK(mirror.others_of("acme") == 0);
    const auto say = [&](const std::string& host, std::uint8_t last, const std::string& tenant) {
        const std::string vmac = format_mac(mac(last));
        mirror.apply({kv("/ivds/v1/bindings/300.10/" + vmac,
                         binding_with(host, 300, vmac, fmt::format("\"tenant\":\"{}\"", tenant)), ++revision),
                      false});
    };
    say("b", 41, "acme");
    say("b", 42, "acme");
    say("b", 43, "other");
    CHECK(mirror.others_of("acme") == 2);
    CHECK(mirror.others_of("other") == 1);
    say("b", 42, "other");
    say("b", 44, "No Name");
    CHECK(mirror.others_of("acme") == 1);
    CHECK(mirror.others_of("other") == 2);
    CHECK(mirror.others() == 3);
    mirror.apply({kv("/ivds/v1/bindings/300.10/" + format_mac(mac(41)), "", ++revision), true});
    CHECK(mirror.others_of("acme") == 0);
    say("a", 42, "other");
    CHECK(mirror.others_of("other") == 1);
}

TEST_CASE("addresses of VMs are in their bindings, and answered for where an instance says so", "[R84][R153]") {
    const std::string text = replaced(replaced(kHost, "peer_vlans", "answer_neighbours: true, peer_vlans"),
                                      "vnic: n1,", "vnic: n1, addresses: [10.0.0.1, \"fd00::1\"],");
    const Model model = model_of(text);
    for (const Claim& claim : claims_of(model, "a", {}))
        CHECK(claim.binding.addresses_size() == (claim.key.vmac == mac(1) ? 2 : 0));
    const auto keys = [](const std::string& addresses) {
        return std::vector<etcd::KeyValue>{
            kv("/ivds/v1/bindings/100.10/02:00:00:00:00:29",
               binding_with("b", 100, "02:00:00:00:00:29", "\"addresses\":[" + addresses + "]"), 3)};
    };
    const Remotes remotes = remotes_of_keys(model, keys("\"fd00::2\",\"10.0.0.2\",\"10.0.0.1\""));
    REQUIRE(remotes.at("red")->size() == 1);
    CHECK(remotes.at("red")->front().addresses.size() == 3);
    const Ids ids = assign_ids(model, {}).value();
    const Tables tables = compile(model, ids, {}, {}, remotes).value();
    const InstanceRow& red = tables.instances.at(ids.instances.at("red"));
    CHECK((red.value.flags & IVDS_IF_ANSWER) != 0);
    REQUIRE(red.neighbours != nullptr);
    // 10.0.0.1 is said to be of two, and so nobody's.
    CHECK(*red.neighbours == std::vector<Neighbour>{{*host_address("10.0.0.2"), mac(41)},
                                                    {*host_address("fd00::1"), mac(1)},
                                                    {*host_address("fd00::2"), mac(41)}});
    const Tables again = compile(model, ids, model, tables, remotes, remotes).value();
    CHECK(again.instances.at(ids.instances.at("red")).neighbours == red.neighbours);
    CHECK(tables.instances.at(ids.instances.at("blue")).neighbours == nullptr);

    const Model quiet = model_of(kHost);
    const Tables none = compile(quiet, assign_ids(quiet, {}).value(), {}, {}, remotes).value();
    for (const auto& [id, row] : none.instances) {
        CHECK(row.neighbours == nullptr);
        CHECK((row.value.flags & IVDS_IF_ANSWER) == 0);
    }
    Mirror mirror("a");
    mirror.relist(keys("\"10.0.0.256\""), 0);
    CHECK(mirror.others() == 0);
    CHECK(mirror.refused().size() == 1);
    mirror.relist(keys("\"10.0.0.2\""), 0);
    CHECK_FALSE(mirror.take_changed().empty());
    mirror.relist(keys("\"10.0.0.2\""), 0);
    CHECK(mirror.take_changed().empty());
    mirror.relist(keys("\"10.0.0.3\""), 0);
    CHECK_FALSE(mirror.take_changed().empty());
}

TEST_CASE("others' bindings are static MACs behind the uplink, and lists that stay are shared", "[R80][R81]") {
    const Model model = model_of(kHost);
    const Ids ids = assign_ids(model, {}).value();
    Mirror mirror("a");
    mirror.relist({kv("/ivds/v1/bindings/100.10/02:00:00:00:00:29", binding("b", 100, 10, "02:00:00:00:00:29"), 3),
                   kv("/ivds/v1/bindings/200.10/02:00:00:00:00:2a", binding("c", 200, 10, "02:00:00:00:00:2a"), 4),
                   // One vMAC on two VLANs of one network: the first counts.
                   kv("/ivds/v1/bindings/200.10/02:00:00:00:00:29", binding("c", 200, 10, "02:00:00:00:00:29"), 5),
                   // This host's own vPort's, and its own key.
                   kv("/ivds/v1/bindings/100.10/02:00:00:00:00:01", binding("b", 100, 10, "02:00:00:00:00:01"), 6),
                   kv("/ivds/v1/bindings/100.10/02:00:00:00:00:11", binding("a", 100, 10, "02:00:00:00:00:11"), 6),
                   // A network that is not here, and a VLAN that is not this one's.
                   kv("/ivds/v1/bindings/300.10/02:00:00:00:00:29", binding("b", 300, 10, "02:00:00:00:00:29"), 7),
                   kv("/ivds/v1/bindings/20/02:00:00:00:00:2b", binding("b", 8, 20, "02:00:00:00:00:2b"), 8)},
                  0);
    std::vector<Unusable> unusable;
    const Remotes remotes = remotes_of(model, mirror, "a", {}, nullptr, unusable);
    CHECK(unusable.size() == 2);
    REQUIRE(remotes.size() == 2);
    CHECK(*remotes.at("red") == std::vector<RemoteMac>{{mac(1), 100}, {mac(41), 100}, {mac(42), 200}});
    CHECK(remotes_of(model, mirror, "a", remotes, nullptr, unusable).at("red") == remotes.at("red"));
    CHECK(unusable.size() == 2);
    CHECK(remotes.at("blue")->empty());

    const Tables tables = compile(model, ids, {}, {}, remotes).value();
    const InstanceRow& red = tables.instances.at(ids.instances.at("red"));
    REQUIRE(red.fdb != nullptr);
    const std::uint32_t up = ids.ports.at("up");
    CHECK(*red.fdb == std::vector<StaticMac>{{mac(41), up, 100}, {mac(42), up, 200}});
    CHECK(tables.instances.at(ids.instances.at("blue")).fdb == nullptr);
    // An agent that starts anew finds them there.
    const Remotes found = remotes_in(tables, model, ids);
    REQUIRE(found.contains("red"));
    CHECK(*found.at("red") == std::vector<RemoteMac>{{mac(41), 100}, {mac(42), 200}});

    SECTION("a vPort that goes leaves its MAC to who else has it") {
        auto without = next_without(model, [] {
            pb::Ref ref;
            ref.set_kind(pb::VPORT);
            ref.set_name("p1");
            return ref;
        }());
        REQUIRE(without);
        const Ids next_ids = assign_ids(*without, ids).value();
        const Tables next = compile(*without, next_ids, model, tables, remotes, remotes).value();
        CHECK(next.instances.at(next_ids.instances.at("red")).fdb->size() == 3);
    }
    SECTION("a list without such a MAC stays the same one") {
        const Remotes fewer = {
            {"red", std::make_shared<const std::vector<RemoteMac>>(std::vector<RemoteMac>{{mac(41), 100}})}};
        const Tables one = compile(model, ids, model, tables, fewer, remotes).value();
        const Tables two = compile(model, ids, model, one, fewer, fewer).value();
        const auto& list = one.instances.at(ids.instances.at("red")).fdb;
        CHECK(list->size() == 1);
        CHECK(two.instances.at(ids.instances.at("red")).fdb == list);
        const Tables none = compile(model, ids, model, two, {}, fewer).value();
        CHECK(none.instances.at(ids.instances.at("red")).fdb == nullptr);
    }
}

TEST_CASE("options of the registry are refused with a reason before anything is done", "[R174]") {
    const auto refused = [](const std::string& endpoints, etcd::Tls tls, const std::string& host) {
        const auto settings = settings_of(endpoints, std::move(tls), {}, host, 15);
        return !settings && !settings.error().id.empty() && !settings.error().fix.empty();
    };
    CHECK(refused("", {}, "a"));
    CHECK(refused("etcd", {}, "a"));
    CHECK(refused("etcd:", {}, "a"));
    CHECK(refused("etcd:http", {}, "a"));
    CHECK(refused("a:1,", {}, "a"));
    CHECK(refused("http://a:1,https://b:1", {}, "a"));
    CHECK(refused("a:1", {.on = false, .ca = "", .cert = "c", .key = ""}, "a"));
    CHECK(refused("a:1", {}, "Not A Name"));
    const auto settings = settings_of("https://etcd1:2379,[fd00::1]:2379", {}, {}, "a", 15);
    REQUIRE(settings);
    CHECK(settings->endpoints == std::vector<std::string>{"etcd1:2379", "[fd00::1]:2379"});
    CHECK(settings->tls.on);
}

// ---------------------------------------------------------------------------------------- what hosts share

namespace {

const std::string kSharing = kHost + R"(
sets:
- {name: office, addresses: [192.0.2.0/24], vports: [p1], shared: true}
- {name: mine, addresses: [192.0.2.7]}
profiles:
- {name: closed, default_in: drop, shared: true, rules: [{name: in, ethertype: ip, src_set: office}]}
vport_pools:
- {name: web, vports: [p1], shared: true}
)";

// What a host's mirror has once `other` wrote what it shares.
void write_shares(Mirror& mirror, const Model& other, const std::string& host, std::int64_t& revision,
                  std::int64_t lease = 7) {
    for (const Share& share : shares_of(other, host, {}))
        mirror.apply({kv(share.key, share.value, ++revision, share.leased ? lease : 0), false});
}

Shared shared_at(const Mirror& mirror, const Model& model) {
    std::vector<ForeignMembers> foreign;
    return mirror.shared(model, foreign);
}

std::string error_id(const Result<Model>& model) {
    return model ? "" : model.error().id;
}

pb::Ref ref_to(pb::Kind kind, const std::string& name) {
    pb::Ref ref;
    ref.set_kind(kind);
    ref.set_name(name);
    return ref;
}

Model with(const Model& now, const std::string& text) {
    auto config = config_from_yaml(text, "t");
    REQUIRE(config);
    auto next = next_from_config(now, *config, {});
    INFO((next ? "" : next.error().text()));
    REQUIRE(next);
    return *next;
}

}  // namespace

TEST_CASE("keys of what hosts share read back, and others are refused with a reason", "[R53][R174]") {
    CHECK(std::get<SharedKey>(parse_key("/ivds/v1/sets/office")) == SharedKey{pb::SET, "office"});
    CHECK(std::get<SharedKey>(parse_key(key_text(SharedKey{pb::PROFILE, "web.1"}))) ==
          SharedKey{pb::PROFILE, "web.1"});
    CHECK(std::get<PoolKey>(parse_key(key_text(PoolKey{"web", "a"}))) == PoolKey{"web", "a"});
    for (const char* key :
         {"/ivds/v1/sets/", "/ivds/v1/sets/No", "/ivds/v1/sets/a/b", "/ivds/v1/profiles/", "/ivds/v1/pools/",
          "/ivds/v1/pools/web", "/ivds/v1/pools/web/", "/ivds/v1/pools//a", "/ivds/v1/pools/web/a/b"}) {
        INFO(key);
        REQUIRE(std::holds_alternative<Refused>(parse_key(key)));
        CHECK(std::get<Refused>(parse_key(key)).why == Refusal::malformed);
    }
}

TEST_CASE("values of what hosts share read back; a part that is not known is never skipped", "[R53][R174]") {
    const SharedKey set{pb::SET, "office"};
    const SharedKey profile{pb::PROFILE, "closed"};
    const auto good = parse_shared(
        set, R"({"host":"b","set":{"name":"office","addresses":["192.0.2.0/24"],"macs":["02:00:00:00:00:0A"]}})");
    INFO((std::holds_alternative<Refused>(good) ? std::get<Refused>(good).text : ""));
    REQUIRE(std::holds_alternative<SharedObject>(good));
    const auto& object = std::get<SharedObject>(good);
    CHECK(object.host == "b");
    CHECK(object.set->shared_by() == "b");
    CHECK(object.set->macs(0) == "02:00:00:00:00:0a");

    const auto why = [](const SharedKey& key, const std::string& value) {
        const auto read = parse_shared(key, value);
        INFO(printable(value));
        REQUIRE(std::holds_alternative<Refused>(read));
        return std::get<Refused>(read).why;
    };
    for (const std::string& value :
         {std::string(), std::string("{"), std::string("\xff"), std::string(R"({"host":"b"})"),
          std::string(R"({"host":"b","set":{"name":"other"}})"),
          std::string(R"({"host":"B b","set":{"name":"office"}})"), std::string(R"({"set":{"name":"office"}})"),
          std::string(R"({"host":"b","profile":{"name":"office"}})"),
          std::string(R"({"host":"b","set":{"name":"office","addresses":["nowhere"]}})"),
          std::string(R"({"host":"b","set":{"name":"office","vports":["p1"]}})")})
        CHECK(why(set, value) != Refusal::huge);
    CHECK(why(set, std::string(kMaxSharedBytes + 1, ' ')) == Refusal::huge);
    CHECK(why(set, std::string(kMaxSharedBytes, '[')) == Refusal::malformed);
    // A match or an action that a later version adds: without it the rule would let more pass.
    CHECK(why(profile, R"({"host":"b","profile":{"name":"closed","rules":[{"name":"r","colour":"red"}]}})") ==
          Refusal::newer);
    CHECK(why(profile, R"({"host":"b","profile":{"name":"closed","rules":[{"name":"r","action":9}]}})") ==
          Refusal::newer);
    CHECK(why(profile, R"({"host":"b","profile":{"name":"closed","default_in":"REJECT"}})") == Refusal::newer);
    CHECK(why(profile, R"({"host":"b","profile":{"name":"closed","rules":[{"name":"r","mirror":"m"}]}})") ==
          Refusal::malformed);
    CHECK(why(profile, R"({"host":"b","profile":{"name":"closed","rules":[{"name":"r","hard_s":5}]}})") ==
          Refusal::malformed);

    const PoolKey pool{"web", "b"};
    const auto members = [](const std::string& more) {
        return R"({"pool":"web","host":"b","network":"100.10","vlan":100,"members":[{"vport":"q1","vmac":"02:00:00:00:00:02"}])" +
               more + "}";
    };
    CHECK(!std::holds_alternative<Refused>(parse_pool(pool, members(R"(,"colour":1)"))));
    CHECK(std::holds_alternative<Refused>(parse_pool({"web", "c"}, members(""))));
    CHECK(std::holds_alternative<Refused>(parse_pool({"other", "b"}, members(""))));
    for (
        const char* value :
        {R"({"pool":"web","host":"b","network":"x","vlan":100})",
         R"({"pool":"web","host":"b","network":"10","vlan":0})",
         R"({"pool":"web","host":"b","network":"10","vlan":1,"members":[{"vport":"Q"}]})",
         R"({"pool":"web","host":"b","network":"10","vlan":1,"members":[{"vport":"q","vmac":"03:00:00:00:00:01"}]})"})
        CHECK(std::holds_alternative<Refused>(parse_pool(pool, value)));
}

TEST_CASE("what a host shares is written once, another's key is never overwritten, and goes with what it is of",
          "[R53][R174]") {
    const Model a = model_of(kSharing);
    const auto shares = shares_of(a, "a", {});
    REQUIRE(shares.size() == 3);
    CHECK(shares[0].key == "/ivds/v1/sets/office");
    CHECK(shares[0].value ==
          R"({"host":"a","set":{"name":"office","addresses":["192.0.2.0/24"],"macs":["02:00:00:00:00:01"]}})");
    CHECK(shares[1].key == "/ivds/v1/profiles/closed");
    CHECK(shares[2].key == "/ivds/v1/pools/web/a");

    Mirror mirror("a");
    std::int64_t revision = 0;
    const auto first = mirror.publication({}, 5, shares);
    REQUIRE(first.steps.size() == 3);
    CHECK(first.steps[0].guards.front().mod_revision == 0);  // created, or refused
    CHECK(first.steps[0].write.lease == 0);
    CHECK(first.steps[2].write.lease == 5);
    carry_out(mirror, first, revision);
    CHECK(mirror.publication({}, 5, shares).steps.empty());
    // Another lease: the members alone are under it.
    CHECK(mirror.publication({}, 6, shares).steps.size() == 1);
    CHECK(shared_at(mirror, a).sets.empty());

    // The second host to share a name keeps its own to itself.
    Mirror other("b");
    for (const Step& step : first.steps) other.apply({kv(step.write.key, *step.write.value, ++revision), false});
    const auto late = other.publication({}, 8, shares_of(a, "b", {}));
    CHECK(late.steps.size() == 1);  // its members in the pool
    REQUIRE(late.share_conflicts.size() == 2);
    CHECK(late.share_conflicts[0].host == "a");
    CHECK(other.sharer({pb::SET, "office"}) == "a");
    // What is not understood there is not overwritten either.
    other.apply({kv("/ivds/v1/sets/office", "{", ++revision), false});
    CHECK(other.publication({}, 8, shares_of(a, "b", {})).share_conflicts[0].host.empty());
    // Free again, it is taken.
    other.apply({kv("/ivds/v1/sets/office", "", ++revision), true});
    CHECK(other.publication({}, 8, shares_of(a, "b", {})).steps.size() == 2);

    const auto gone = mirror.publication({}, 5, {});
    REQUIRE(gone.steps.size() == 3);
    for (const Step& step : gone.steps) CHECK(!step.write.value);
    // Old news changes nothing.
    mirror.apply({kv("/ivds/v1/sets/office", R"({"host":"a","set":{"name":"office"}})", 0), false});
    CHECK(mirror.publication({}, 5, shares).steps.empty());
}

TEST_CASE("another host's set and profile are here, read-only, until they go; in use, they stay as they were",
          "[R53][R147]") {
    Mirror mirror("b");
    std::int64_t revision = 0;
    write_shares(mirror, model_of(kSharing), "a", revision);
    const std::string own = R"(
uplinks: [{name: wire, netdev: ens2f0}]
instances: [{name: red, uplink: wire, vlan: 100, vvlan: 10, scope: distributed}]
vnics: [{name: q, vmac: "02:00:00:00:00:21"}]
vports: [{name: q1, instance: red, netdev: w1, vnic: q}]
)";
    const Model before = model_of(own);
    auto b = next_shared(before, shared_at(mirror, before));
    INFO((b ? "" : b.error().text()));
    REQUIRE(b);
    REQUIRE(b->sets.contains("office"));
    CHECK(!b->sets.contains("mine"));
    CHECK(b->profiles.at("closed")->shared_by() == "a");
    CHECK(diff(before, *b).size() == 3);
    // Of no use yet, they take nothing of the data plane's.
    const auto ids = assign_ids(*b, {});
    REQUIRE(ids);
    CHECK((ids->rules.empty() && ids->pools.empty()));
    CHECK(to_yaml(to_config(*b)) == to_yaml(to_config(before)));

    pb::Object object;
    *object.mutable_set() = *b->sets.at("office");
    CHECK(error_id(next_with(*b, object, {})) == "IVDS-M090");
    CHECK(error_id(next_without(*b, ref_to(pb::PROFILE, "closed"))) == "IVDS-M090");
    CHECK(error_id(next_from_config(*b, config_from_yaml("sets: [{name: x, shared_by: a}]", "t").value(), {})) ==
          "IVDS-M090");

    // A vPort names it; what was applied before stays what it was when it is applied again.
    const std::string using_it = own.substr(0, own.size() - 3) + ", profile: closed}]\n";
    const Model used = with(*b, using_it);
    CHECK(diff(used, with(used, using_it)).empty());
    CHECK(assign_ids(used, {})->rules.size() == 1);

    // Saved and read back, it is there without the registry.
    pb::Config saved;
    for (const auto& [name, set] : used.sets) *saved.add_sets() = *set;
    for (const auto& [name, pool] : used.vport_pools) *saved.add_vport_pools() = *pool;
    for (const auto& [name, profile] : used.profiles) *saved.add_profiles() = *profile;
    CHECK(same(model_from_saved(saved).shared, used.shared));

    // The set goes, and the profile names it; both go, and the vPort has the profile.
    mirror.apply({kv("/ivds/v1/sets/office", "", ++revision), true});
    mirror.apply({kv("/ivds/v1/pools/web/a", "", ++revision), true});
    auto without = next_shared(used, shared_at(mirror, used));
    REQUIRE(without);
    CHECK(without->sets.at("office") == used.sets.at("office"));
    CHECK(without->vport_pools.empty());
    mirror.apply({kv("/ivds/v1/profiles/closed", "{", ++revision), false});
    without = next_shared(*without, shared_at(mirror, *without));
    REQUIRE(without);
    CHECK(without->profiles.at("closed") == used.profiles.at("closed"));
    CHECK(diff(*without, *next_shared(*without, shared_at(mirror, *without))).empty());

    // No vPort has it any more: the profile goes, and then the set.
    Model free = with(*without, own);
    free = *next_shared(free, shared_at(mirror, free));
    free = *next_shared(free, shared_at(mirror, free));
    CHECK((free.profiles.empty() && free.sets.empty()));
}

TEST_CASE("a host's own set takes the place of another's by the name, and gives it back", "[R53]") {
    Mirror mirror("b");
    std::int64_t revision = 0;
    write_shares(mirror, model_of(kSharing), "a", revision);
    Model b = model_of(
        "sets: [{name: office, addresses: [10.0.0.1]}]\nprofiles: [{name: p, rules: [{name: r, ethertype: ip, "
        "src_set: office}]}]\n");
    b = *next_shared(b, shared_at(mirror, b));
    CHECK(b.sets.at("office")->shared_by().empty());
    CHECK(b.sets.at("office")->addresses(0) == "10.0.0.1");
    // A rule names it, and it may go: there is another.
    auto next = next_without(b, ref_to(pb::SET, "office"));
    REQUIRE(next);
    CHECK(next->sets.at("office")->shared_by() == "a");
    pb::Object object;
    object.mutable_set()->set_name("office");
    next = next_with(*next, object, {});
    REQUIRE(next);
    CHECK(next->sets.at("office")->shared_by().empty());
}

TEST_CASE("what is shared names nothing that is one host's alone", "[R53][R174]") {
    const auto id = [](const std::string& text) {
        const auto config = config_from_yaml(text, "t");
        REQUIRE(config);
        return error_id(next_from_config({}, *config, {}));
    };
    const std::string profile = "profiles: [{name: p, shared: true, rules: [{name: r, ethertype: ip, ";
    CHECK(id("sets: [{name: s}]\n" + profile + "src_set: s}]}]") == "IVDS-M091");
    CHECK(id("sets: [{name: s, shared: true}]\n" + profile + "src_set: s}]}]").empty());
    CHECK(id("mirrors: [{name: m, erspan_remote: 192.0.2.1}]\n" + profile + "mirror: m}]}]") == "IVDS-M091");
    CHECK(id(profile + "idle_s: 5}]}]") == "IVDS-M091");
    const std::string pool =
        "vports: [{name: p1, instance: red, netdev: v1}]\nvport_pools: [{name: web, shared: true, vports: [p1]}]\n";
    CHECK(id("instances: [{name: red, scope: local, vvlan: 1}]\n" + pool) == "IVDS-M091");
}

TEST_CASE("a pool has the members of all hosts, of one network, and loses those of a host that goes", "[R52][R53]") {
    Mirror mirror("a");
    std::int64_t revision = 0;
    const auto members = [](const std::string& host, const std::string& network, const std::string& vport) {
        return fmt::format(
            R"({{"pool":"web","host":"{}","network":"{}","vlan":200,"members":[{{"vport":"{}","vmac":"02:00:00:00:00:31"}}]}})",
            host, network, vport);
    };
    mirror.apply({kv("/ivds/v1/pools/web/b", members("b", "200.10", "q1"), ++revision, 9), false});
    mirror.apply({kv("/ivds/v1/pools/web/c", members("c", "100.99", "r1"), ++revision, 9), false});
    const Model own = model_of(kSharing);
    std::vector<ForeignMembers> foreign;
    auto a = next_shared(own, mirror.shared(own, foreign));
    REQUIRE(a);
    REQUIRE(foreign.size() == 1);
    CHECK(foreign[0].key == PoolKey{"web", "c"});
    const pb::VPortPool& pool = *a->vport_pools.at("web");
    CHECK(pool.shared_by().empty());
    REQUIRE(pool.members_size() == 1);
    CHECK((pool.members(0).host() == "b" && pool.members(0).vport() == "q1" && pool.members(0).vlan() == 200));
    // A change of the pool here keeps them; the file has none.
    pb::Object object;
    *object.mutable_vport_pool() = pool;
    const auto same_again = next_with(*a, object, {});
    REQUIRE(same_again);
    CHECK(same_again->vport_pools.at("web") == a->vport_pools.at("web"));
    CHECK(to_config(*a).vport_pools(0).members().empty());
    // Its vPorts alone are in the data plane.
    const auto ids = assign_ids(*a, {});
    REQUIRE(ids);
    CHECK(compile(*a, *ids)->pools.begin()->second.value.count == 1);

    // etcd lost all it had: b says it again within the time of a lease, and nothing flapped.
    const auto is_member = [&] { return !mirror.shared(*a, foreign).vport_pools.empty(); };
    const auto again = kv("/ivds/v1/pools/web/b", members("b", "200.10", "q1"), 1, 9);
    mirror.relist({}, 10);
    mirror.expire(9);
    CHECK(is_member());
    mirror.apply({again, false});
    mirror.expire(10);
    CHECK(is_member());
    // What it does not say again goes; this host's own is not there at once.
    write_shares(mirror, own, "a", revision);
    const auto writes_own = [&] { return !mirror.publication({}, 7, shares_of(own, "a", {})).steps.empty(); };
    CHECK(!writes_own());
    CHECK(mirror.take_shared_changed());
    mirror.relist({}, 20);
    CHECK(writes_own());
    CHECK(mirror.take_shared_changed());
    mirror.expire(20);
    CHECK(mirror.take_shared_changed());
    CHECK(!is_member());

    mirror.apply({again, false});
    mirror.apply({kv("/ivds/v1/pools/web/b", "", 2), true});
    a = next_shared(*a, mirror.shared(*a, foreign));
    REQUIRE(a);
    CHECK(a->vport_pools.at("web")->members().empty());
}

TEST_CASE(
    "a rule may lead to a pool without vPorts here: what it redirects is dropped, and stays so when the pool goes",
    "[R52][R53]") {
    Mirror mirror("b");
    std::int64_t revision = 0;
    write_shares(mirror, model_of(kSharing), "a", revision);
    Model b = model_of("{}");
    b = *next_shared(b, shared_at(mirror, b));
    b = with(b, R"(
uplinks: [{name: wire, netdev: ens2f0}]
instances: [{name: red, uplink: wire, vlan: 100, vvlan: 10, scope: distributed}]
vports: [{name: q1, instance: red, netdev: w1, rules: [{name: r, direction: in, ethertype: ip, action: redirect, to_pool: web}]}]
)");
    const auto ids = assign_ids(b, {});
    REQUIRE(ids);
    const auto tables = compile(b, *ids);
    REQUIRE(tables);
    REQUIRE(tables->pools.size() == 1);
    CHECK(tables->pools.begin()->second.value.count == 0);
    mirror.apply({kv("/ivds/v1/pools/web/a", "", ++revision), true});
    const auto left = next_shared(b, shared_at(mirror, b));
    REQUIRE(left);
    CHECK(left->vport_pools.at("web")->members().empty());
}

TEST_CASE("more sets than are taken are refused and counted, and read again where there is room", "[R174]") {
    Mirror mirror("a");
    std::vector<etcd::KeyValue> keys;
    for (std::size_t i = 0; i < kMaxShared + 10; ++i)
        keys.push_back(
            kv(fmt::format("/ivds/v1/sets/s{}", i), fmt::format(R"({{"host":"b","set":{{"name":"s{}"}}}})", i)));
    mirror.relist(keys, 0);
    CHECK(mirror.others_shared() == kMaxShared);
    CHECK(mirror.refused_total() == 10);
    CHECK(mirror.take_shared_changed());
    CHECK(!mirror.take_shared_changed());
    // Where one goes, one of those that found no room is to be read again; not while there is none.
    CHECK(!mirror.take_waiting());
    mirror.apply({kv("/ivds/v1/sets/s0", "", 2), true});
    const auto waiting = mirror.take_waiting();
    REQUIRE(waiting);
    const auto found = std::ranges::find(keys, *waiting, &etcd::KeyValue::key);
    REQUIRE(found != keys.end());
    CHECK(found - keys.begin() >= static_cast<std::ptrdiff_t>(kMaxShared));
    mirror.apply({*found, false});
    CHECK(mirror.others_shared() == kMaxShared);
    CHECK(mirror.refused().size() == 9);
    CHECK(!mirror.take_waiting());
    keys.resize(1);
    mirror.relist(keys, 0);
    CHECK(mirror.others_shared() == 1);
    CHECK(shared_at(mirror, {}).sets.size() == 1);
}
