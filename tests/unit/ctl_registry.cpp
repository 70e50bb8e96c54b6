// SPDX-License-Identifier: Apache-2.0
// The registry without etcd: keys and values as text, the mirror, what a host writes, and the remote MACs that
// follow.
#include <fmt/format.h>

#include <catch2/catch_test_macros.hpp>
#include <random>
#include <set>
#include <string>

#include "api/codec.h"
#include "compile/compile.h"
#include "fabric/bindings.h"
#include "fabric/registry.h"

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
    for (const char* key : {"/ivds/v1/bindings/", "/ivds/v1/bindings/10", "/ivds/v1/bindings/10/", "/ivds/v1/hosts/",
                            "/ivds/v1/bindings/010/02:00:00:00:00:01", "/ivds/v1/bindings/0.10/02:00:00:00:00:01",
                            "/ivds/v1/bindings/4095/02:00:00:00:00:01", "/ivds/v1/bindings/+1/02:00:00:00:00:01",
                            "/ivds/v1/bindings/1.2.3/02:00:00:00:00:01", "/ivds/v1/bindings/./02:00:00:00:00:01",
                            "/ivds/v1/bindings/10/02:00:00:00:00:0A", "/ivds/v1/bindings/10/03:00:00:00:00:01",
                            "/ivds/v1/bindings/10/02:00:00:00:00:01/", "/ivds/v1/hosts/No", "/ivds/v1/hosts/a/b"}) {
        INFO(key);
        CHECK(why(key) == Refusal::malformed);
    }
    CHECK(why("/ivds/v2/hosts/a") == Refusal::newer);
    CHECK(why("/ivds/v1/peers/a") == Refusal::unknown);
    CHECK(why("/ivds/") == Refusal::unknown);
    CHECK(why("/i") == Refusal::unknown);
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
    // In none of the networks that the instance is in may somebody else have it.
    REQUIRE(first.steps[1].guards.size() == 2);
    CHECK(first.steps[1].guards[1].key == "/ivds/v1/bindings/200.10/02:00:00:00:00:01");
    CHECK(first.steps[1].guards[1].mod_revision == 0);
    carry_out(mirror, first, revision);
    CHECK(mirror.own() == 3);
    CHECK(mirror.publication(claims, 77).steps.empty());

    SECTION("under another lease all are written anew, guarded by their revisions") {
        const auto again = mirror.publication(claims, 78);
        REQUIRE(again.steps.size() == 3);
        CHECK(again.steps[0].guards[0].mod_revision == 6);
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
        CHECK(mirror.publication(claims, 77).steps.size() == 3);
    }
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
