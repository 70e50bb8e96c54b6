// SPDX-License-Identifier: Apache-2.0
// Random configurations: what holds for all of them.
#include <fmt/format.h>
#include <rapidcheck.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <random>

#include "api/codec.h"
#include "compile/compile.h"

using namespace ivds;

namespace {

// Any printable text, with the characters that YAML and JSON treat as their own among it.
rc::Gen<std::string> text() {
    return rc::gen::container<std::string>(rc::gen::oneOf(
        rc::gen::inRange<char>(0x20, 0x7f), rc::gen::element('"', '\\', ':', '#', '\n', '\t', '-', '{', '\'')));
}

// A message with random fields, whatever they mean.
void fill(google::protobuf::Message& message, int depth = 0) {
    const auto& type = *message.GetDescriptor();
    const auto& reflection = *message.GetReflection();
    for (int i = 0; i < type.field_count(); ++i) {
        const auto& field = *type.field(i);
        if (field.name() == "name") {
            // Unique, as two objects of one name are refused.
            static std::uint64_t serial = 0;
            reflection.SetString(&message, &field, fmt::format("n{}", ++serial));
            continue;
        }
        const int count = field.is_repeated() ? *rc::gen::inRange(0, depth == 0 ? 3 : 4) : *rc::gen::inRange(0, 2);
        for (int n = 0; n < count; ++n) {
            const bool many = field.is_repeated();
            switch (field.cpp_type()) {
                case google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE:
                    fill(many ? *reflection.AddMessage(&message, &field)
                              : *reflection.MutableMessage(&message, &field),
                         depth + 1);
                    break;
                case google::protobuf::FieldDescriptor::CPPTYPE_STRING:
                    many ? reflection.AddString(&message, &field, *text())
                         : reflection.SetString(&message, &field, *text());
                    break;
                case google::protobuf::FieldDescriptor::CPPTYPE_BOOL:
                    reflection.SetBool(&message, &field, *rc::gen::arbitrary<bool>());
                    break;
                case google::protobuf::FieldDescriptor::CPPTYPE_ENUM:
                    reflection.SetEnumValue(&message, &field, *rc::gen::inRange(0, field.enum_type()->value_count()));
                    break;
                default: {
                    const auto value = *rc::gen::arbitrary<std::uint32_t>();
                    many ? reflection.AddUInt32(&message, &field, value)
                         : reflection.SetUInt32(&message, &field, value);
                }
            }
        }
    }
}

// A rule that is valid, of few kinds, so that lists are often the same.
void add_rule(google::protobuf::RepeatedPtrField<pb::Rule>& rules) {
    pb::Rule& rule = *rules.Add();
    if (*rc::gen::arbitrary<bool>()) rule.set_name(fmt::format("r{}", rules.size()));
    rule.set_priority(*rc::gen::inRange(0U, 3U));
    rule.set_direction(*rc::gen::element(pb::Rule::BOTH, pb::Rule::IN, pb::Rule::OUT));
    rule.set_protocol(*rc::gen::element("", "tcp", "udp"));
    if (!rule.protocol().empty()) rule.add_dst_ports(*rc::gen::element("80", "1000-2000"));
    rule.set_action(*rc::gen::element(pb::Rule::ALLOW, pb::Rule::DROP));
}

// A configuration that is valid, with references between its objects and things left to assign.
pb::Config valid_config() {
    pb::Config config;
    pb::Uplink& uplink = *config.add_uplinks();
    uplink.set_name("up");
    uplink.set_netdev("ens1");
    uplink.set_transport_vlan(4000);
    pb::VmacPool& pool = *config.add_vmac_pools();
    pool.set_name("pool");
    pool.set_physical_mac("90:e2:ba:00:00:01");
    pb::Profile& profile = *config.add_profiles();
    profile.set_name("router");
    profile.set_allow_spoof(true);
    profile.set_default_in(*rc::gen::element(pb::Rule::ALLOW, pb::Rule::DROP));
    for (int n = *rc::gen::inRange(0, 4); n > 0; --n) add_rule(*profile.mutable_rules());
    const int instances = *rc::gen::inRange(1, 6);
    for (int i = 0; i < instances; ++i) {
        pb::Instance& instance = *config.add_instances();
        instance.set_name(fmt::format("i{}", i));
        instance.set_uplink("up");
        if (*rc::gen::arbitrary<bool>())
            instance.set_mode(pb::INDEPENDENT);
        else
            instance.set_vlan(*rc::gen::inRange(1U, 3U));
        instance.set_scope(*rc::gen::element(pb::LOCAL, pb::DISTRIBUTED));
        instance.set_draining(*rc::gen::inRange(0, 4) == 0);
        if (*rc::gen::arbitrary<bool>()) instance.set_mtu_bytes(*rc::gen::inRange(68U, 65536U));
        for (int n = *rc::gen::inRange(0, 2); n > 0; --n) add_rule(*instance.mutable_rules());
    }
    const int vports = *rc::gen::inRange(0, 12);
    for (int i = 0; i < vports; ++i) {
        pb::Vnic& vnic = *config.add_vnics();
        vnic.set_name(fmt::format("n{}", i));
        vnic.set_pool("pool");
        pb::VPort& vport = *config.add_vports();
        vport.set_name(fmt::format("p{}", i));
        vport.set_netdev(fmt::format("d{}", i));
        vport.set_vnic(vnic.name());
        const int instance = *rc::gen::inRange(0, instances);
        vport.set_instance(fmt::format("i{}", instance));
        if (*rc::gen::arbitrary<bool>()) vport.set_profile("router");
        for (int n = *rc::gen::inRange(0, 2); n > 0; --n) add_rule(*vport.mutable_rules());
        if (*rc::gen::arbitrary<bool>()) {
            pb::StaticMac& entry = *config.mutable_instances(instance)->add_fdb();
            entry.set_mac(fmt::format("02:00:00:00:01:{:02x}", i));
            entry.set_vport(vport.name());
        }
    }
    return config;
}

// Something of everything, valid.
constexpr const char* kWorld = R"(
tenants: [{name: acme, max_instances: 20, max_vports: 40}, {name: other}]
uplinks:
- {name: up, netdev: ens1f0, transport_vlan: 7, outer_tpid: "0x88a8", plain: drop, attach: tcx}
- {name: up2, netdev: ens1f1, tags: single, transport_vlan: 100, offload: on, vfs: 4}
vmac_pools: [{name: pool, uplink: up, size: 16, reserved: ["02:00:00:00:00:09"], physical_mac: "90:e2:ba:00:00:01"}]
sets:
- {name: office, addresses: [192.0.2.0/24, 198.51.100.7, 'fd00:1::/64'], macs: [02:00:00:00:00:99], vports: [fw1]}
- {name: nobody}
profiles:
- {name: router, guest_tags: carry, allow_spoof: true}
- {name: shut, default_in: drop, rate_in_mbps: 100, rate_out_mbps: 50, rules: [{name: t, protocol: tcp,
   dst_ports: ["80", 1000-2000], dst_set: office, stateful: true, idle_s: 20}, {ethertype: arp},
   {protocol: icmp, priority: 5, action: drop, direction: out}]}
instances:
- {name: red, tenant: acme, uplink: up, vlan: 10, vvlan: 100, scope: distributed, peer_vlans: [20, 30],
   fdb: [{mac: 02:00:00:00:01:01, vport: web}, {mac: 02:00:00:00:01:02, vlan: 20}],
   rules: [{protocol: udp, dst_ports: ["53"]}], answer_neighbours: true, max_peers: 4}
- {name: blue, tenant: other, uplink: up, mode: independent, vvlan: 20, scope: distributed, mtu_bytes: 1400}
- {name: green, uplink: up2, mode: independent, vvlan: 30, scope: distributed}
- {name: here}
- {name: watch, vlan: 101, vvlan: 20, scope: distributed, uplink: up}
vnics: [{name: n1, vmac: 02:00:00:00:00:01}, {name: n2, vmac: 02:00:00:00:00:02}, {name: n3, pool: pool},
        {name: n4, vmac: 02:00:00:00:00:04}, {name: n5, vmac: 02:00:00:00:00:05}]
vports:
- {name: fw1, netdev: d1, instance: red, vnic: n1}
- {name: fw2, netdev: d2, instance: red, vnic: n2, extra_macs: [02:00:00:00:00:03], mtu_bytes: 1300}
- {name: to-blue, patch: to-red, instance: red}
- {name: to-red, patch: to-blue, instance: blue}
- {name: away, netdev: d3, instance: blue, vnic: n3, profile: router}
- {name: web, netdev: d4, instance: red, profile: shut, vnic: n5, addresses: [10.0.0.1, 'fd00::1'],
   rules: [{name: a, direction: in, protocol: tcp, action: redirect, to_vport: fw1, stateful: true},
           {name: b, direction: in, protocol: udp, action: redirect, to_pool: filters, log: true},
           {name: c, protocol: sctp, mirror: m1}]}
- {name: trunk, netdev: d5, instance: red}
- {name: sub, trunk: trunk, vid: 7, instance: blue}
- {name: hw, instance: green, vnic: n4, vf: {pf: up2, index: 0},
   rx_filters: [{src: 10.0.0.1, protocol: tcp, queue: 1}, {protocol: udp, dst_port: 53}]}
- {name: w1, instance: watch, netdev: d7}
vport_pools: [{name: filters, vports: [fw1, fw2]}]
mirrors:
- {name: m1, to_vport: w1}
- {name: m2, sources: [{vport: web, direction: in}], to_vport: w1, snap_bytes: 100}
- {name: m3, sources: [{instance: red}], to_uplink: up, rspan_vlan: 200}
exporters: [{name: ex, collector: "192.0.2.9:4739", tenants: [acme]}]
inspectors: [{name: ips, netdev: ips0}]
)";

constexpr std::array<std::uint32_t, 24> kNumbers{
    0,   1,    2,    3,    7,    20,    63,    64,     67,      68,      100,        255,
    256, 1500, 4094, 4095, 4096, 65535, 65536, 100000, 1048576, 1048577, 2147483648, 4294967295};
const std::vector<std::string> kTexts{"",
                                      "0",
                                      "1",
                                      "4095",
                                      "65536",
                                      "0-65535",
                                      "5-1",
                                      "80-",
                                      "-",
                                      "a b",
                                      "../x",
                                      "\x01",
                                      "\xc3\xa4",
                                      "00:00:00:00:00:00",
                                      "ff:ff:ff:ff:ff:ff",
                                      "02:00:00:00:00:AA",
                                      "10.0.0.0/33",
                                      "0.0.0.0/0",
                                      "::/0",
                                      "10.0.0.300",
                                      "::ffff:10.0.0.1",
                                      "fe80::1",
                                      "ip",
                                      "0x0800",
                                      "0x8100",
                                      "0xfffff",
                                      "icmp6",
                                      "syn",
                                      "lo",
                                      std::string(5000, 'a')};

// Changes one thing in one of a configuration's messages, whatever that makes of it.
class Mutator {
public:
    Mutator(pb::Config& config, std::uint64_t seed) : config_(config), random_(seed) {}

    void change() {
        std::vector<google::protobuf::Message*> within;
        std::vector<std::string> words = kTexts;
        gather(config_, within, words);
        google::protobuf::Message& message = *within[random_() % within.size()];
        const auto& type = *message.GetDescriptor();
        change(message, *type.field(static_cast<int>(random_() % static_cast<unsigned>(type.field_count()))), words);
    }

private:
    // The message with those in it, and their texts, of which names are the most.
    static void gather(google::protobuf::Message& message, std::vector<google::protobuf::Message*>& within,
                       std::vector<std::string>& words) {
        within.push_back(&message);
        const auto& reflection = *message.GetReflection();
        std::vector<const google::protobuf::FieldDescriptor*> fields;
        reflection.ListFields(message, &fields);
        for (const auto* field : fields) {
            const int count = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
            for (int i = 0; i < count; ++i) {
                if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE)
                    gather(field->is_repeated() ? *reflection.MutableRepeatedMessage(&message, field, i)
                                                : *reflection.MutableMessage(&message, field),
                           within, words);
                else if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_STRING)
                    words.push_back(field->is_repeated() ? reflection.GetRepeatedString(message, field, i)
                                                         : reflection.GetString(message, field));
            }
        }
    }

    void change(google::protobuf::Message& message, const google::protobuf::FieldDescriptor& field,
                const std::vector<std::string>& words) {
        const auto& reflection = *message.GetReflection();
        const bool many = field.is_repeated();
        const int count = many ? reflection.FieldSize(message, &field) : 0;
        switch (random_() % 4) {
            case 0:
                reflection.ClearField(&message, &field);
                return;
            case 1:
                if (count == 0) break;
                reflection.SwapElements(&message, &field, 0, count - 1);
                reflection.RemoveLast(&message, &field);
                return;
            default:
                break;
        }
        switch (field.cpp_type()) {
            case google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE:
                if (!many)
                    reflection.MutableMessage(&message, &field);
                else if (auto* added = reflection.AddMessage(&message, &field); count > 0)
                    added->CopyFrom(reflection.GetRepeatedMessage(message, &field, 0));
                break;
            case google::protobuf::FieldDescriptor::CPPTYPE_STRING: {
                const std::string& word = words[random_() % words.size()];
                many ? reflection.AddString(&message, &field, word) : reflection.SetString(&message, &field, word);
                break;
            }
            case google::protobuf::FieldDescriptor::CPPTYPE_BOOL:
                reflection.SetBool(&message, &field, random_() % 2 == 0);
                break;
            case google::protobuf::FieldDescriptor::CPPTYPE_ENUM:
                reflection.SetEnumValue(&message, &field, static_cast<int>(random_() % 6));
                break;
            default: {
                const std::uint32_t number = kNumbers[random_() % kNumbers.size()];
                many ? reflection.AddUInt32(&message, &field, number)
                     : reflection.SetUInt32(&message, &field, number);
            }
        }
    }

    pb::Config& config_;
    std::mt19937_64 random_;
};

std::string bytes_of(const Tables& tables) {
    std::string out;
    const auto add = [&](const auto& value) { out.append(reinterpret_cast<const char*>(&value), sizeof value); };
    for (const auto& [id, row] : tables.ports) {
        out += fmt::format("port {} {} {} {} ", id, row.name, row.netdev, static_cast<int>(row.wanted));
        add(row.value);
        for (const Mac& mac : row.macs) out += format_mac(mac);
    }
    for (const auto& [id, row] : tables.instances) {
        out += fmt::format("instance {} {} ", id, row.name);
        add(row.value);
        if (row.fdb != nullptr)
            for (const StaticMac& entry : *row.fdb)
                out += fmt::format("{} {} {} ", format_mac(entry.mac), entry.port, entry.vlan);
    }
    for (const auto& [id, list] : tables.acls) {
        out += fmt::format("acl {} {} ", id, list->default_action);
        for (const ivds_acl_mask& mask : list->masks) add(mask);
        for (const auto& [key, rule] : list->rules) {
            add(key);
            add(rule);
        }
    }
    for (const auto& [key, instance] : tables.vvlans)
        out += fmt::format("{} {} {} {} ", key[0], key[1], key[2], instance);
    return out;
}

}  // namespace

TEST_CASE("any configuration that is written as YAML or JSON reads back as itself", "[R55]") {
    CHECK(rc::check([] {
        pb::Config config;
        fill(config);
        const auto from_yaml_text = config_from_yaml(to_yaml(config), "yaml");
        RC_ASSERT(from_yaml_text.has_value());
        RC_ASSERT(from_yaml_text->SerializeAsString() == config.SerializeAsString());
        const auto from_json = config_from_yaml(to_json(config), "json");
        RC_ASSERT(from_json.has_value());
        RC_ASSERT(from_json->SerializeAsString() == config.SerializeAsString());
    }));
}

TEST_CASE("applying a configuration twice, or what was exported from it, changes nothing", "[R41][R83]") {
    CHECK(rc::check([] {
        const pb::Config config = valid_config();
        const auto once = next_from_config({}, config, {});
        RC_ASSERT(once.has_value());
        const auto twice = next_from_config(*once, config, {});
        RC_ASSERT(twice.has_value());
        RC_ASSERT(diff(*once, *twice).empty());
        const auto exported = next_from_config(*once, to_config(*once), {});
        RC_ASSERT(exported.has_value());
        RC_ASSERT(diff(*once, *exported).empty());
        const auto elsewhere = next_from_config({}, to_config(*once), {});
        RC_ASSERT(elsewhere.has_value());
        RC_ASSERT(diff(*once, *elsewhere).empty());
    }));
}

TEST_CASE(
    "a configuration in which anything was changed is refused with a cause and an id, or is taken whole: it "
    "compiles, and reads back as itself elsewhere",
    "[R55][R125]") {
    const MacOf mac_of = [](const std::string&) -> Result<Mac> { return Mac{0x90, 0xe2, 0xba, 0, 0, 2}; };
    const pb::Config config = config_from_yaml(kWorld, "world").value();
    const Model world = next_from_config({}, config, mac_of).value();
    const Ids world_ids = assign_ids(world, {}).value();
    const Tables world_tables = compile(world, world_ids).value();
    int taken = 0;
    for (std::uint64_t seed = 0; seed < 3000; ++seed) {
        INFO("seed " << seed);
        pb::Config changed = config;
        Mutator mutator(changed, seed);
        for (std::uint64_t n = seed % 4 + 1; n > 0; --n) mutator.change();
        const auto next = next_from_config(world, changed, mac_of);
        if (!next) {
            INFO(next.error().text());
            REQUIRE(next.error().code != Code::system);
            REQUIRE(next.error().id.starts_with("IVDS-"));
            REQUIRE(!next.error().what.empty());
            continue;
        }
        ++taken;
        const auto ids = assign_ids(*next, world_ids);
        REQUIRE(ids);
        const auto tables = compile(*next, *ids, world, world_tables);
        REQUIRE(tables);
        REQUIRE(bytes_of(*tables) == bytes_of(compile(*next, *ids).value()));
        const auto read = config_from_yaml(to_yaml(to_config(*next)), "yaml");
        INFO((read ? "" : read.error().text()));
        REQUIRE(read);
        const auto elsewhere = next_from_config({}, *read, mac_of);
        INFO((elsewhere ? "" : elsewhere.error().text()));
        REQUIRE(elsewhere);
        REQUIRE(diff(*next, *elsewhere).empty());
    }
    CHECK(taken > 300);
}

TEST_CASE("the same intent and ids compile to the same tables, whatever came before") {
    CHECK(rc::check([] {
        const Model before = next_from_config({}, valid_config(), {}).value();
        const Ids before_ids = assign_ids(before, {}).value();
        const Tables before_tables = compile(before, before_ids).value();
        auto next = next_from_config(before, valid_config(), {});
        if (!next) RC_DISCARD("the second may not follow the first: an instance would have to drain");
        const Ids ids = assign_ids(*next, before_ids).value();
        const Tables alone = compile(*next, ids).value();
        const Tables after = compile(*next, ids, before, before_tables).value();
        RC_ASSERT(bytes_of(alone) == bytes_of(after));
        RC_ASSERT(assign_ids(*next, ids).value() == ids);
        // A list never changes under its id.
        for (const auto& [id, list] : before_tables.acls)
            if (const auto kept = after.acls.find(id); kept != after.acls.end()) RC_ASSERT(kept->second == list);
        for (const auto& [name, id] : ids.ports)
            if (const auto old = before_ids.ports.find(name); old != before_ids.ports.end())
                RC_ASSERT(old->second == id);
    }));
}

TEST_CASE("no two instances share a {VLAN, V.VLAN} pair of an uplink, and every pair names one that exists",
          "[R71][R107]") {
    CHECK(rc::check([] {
        const Model model = next_from_config({}, valid_config(), {}).value();
        const Ids ids = assign_ids(model, {}).value();
        const Tables tables = compile(model, ids).value();
        std::size_t wired = 0;
        for (const auto& [id, row] : tables.instances) wired += (row.value.flags & IVDS_IF_WIRE) != 0 ? 1 : 0;
        std::size_t named = 0;
        for (const auto& [key, instance] : tables.vvlans) {
            if (key[2] == 0) continue;
            ++named;
            const ivds_instance& value = tables.instances.at(instance).value;
            RC_ASSERT(value.uplink == key[0]);
            RC_ASSERT(value.vlan == key[1]);
            RC_ASSERT(value.vvlan == key[2]);
        }
        RC_ASSERT(named == wired);
    }));
}
