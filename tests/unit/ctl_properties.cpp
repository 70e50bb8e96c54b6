// SPDX-License-Identifier: Apache-2.0
// Random configurations: what holds for all of them.
#include <fmt/format.h>
#include <rapidcheck.h>

#include <catch2/catch_test_macros.hpp>

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
