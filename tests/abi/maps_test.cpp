// SPDX-License-Identifier: Apache-2.0
// The maps of the BPF object against abi.h: what clang put into the object's BTF for each map's key and value is what
// gcc makes of the header on the host, member by member.
#include <bpf/btf.h>
#include <bpf/libbpf.h>

#include <catch2/catch_test_macros.hpp>
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ivds.skel.h"
#include "ivds/abi.h"
#include "ivds/abi_check.h"

namespace {

struct Member {
    std::string name;
    std::uint32_t bit_offset;
    std::int64_t bytes;
    bool operator==(const Member&) const = default;
};

struct Layout {
    std::uint32_t bytes = 0;
    std::vector<Member> members;
    bool operator==(const Layout&) const = default;
};

using Skeleton = std::unique_ptr<ivds_bpf, decltype(&ivds_bpf__destroy)>;
using Btf = std::unique_ptr<btf, decltype(&btf__free)>;

Layout layout_of(const btf* types, std::int32_t id) {
    const btf_type* type = btf__type_by_id(types, static_cast<std::uint32_t>(id));
    REQUIRE(type != nullptr);
    REQUIRE(btf_is_struct(type));
    Layout layout{.bytes = type->size, .members = {}};
    const btf_member* member = btf_members(type);
    for (std::uint32_t i = 0; i < btf_vlen(type); ++i, ++member) {
        layout.members.push_back({btf__name_by_offset(types, member->name_off), btf_member_bit_offset(type, i),
                                  btf__resolve_size(types, member->type)});
    }
    return layout;
}

Skeleton open_skeleton() {
    Skeleton skeleton(ivds_bpf__open(), &ivds_bpf__destroy);
    REQUIRE(skeleton);
    return skeleton;
}

// Map name to the structures of abi.h that are its key and its value; empty: a __u32.
const std::map<std::string, std::pair<std::string, std::string>> structures = {
    {"meta", {"", "ivds_meta"}},
    {"ifports", {"", ""}},
    {"ports", {"", "ivds_port"}},
    {"port_state", {"", "ivds_port_state"}},
    {"instances", {"", "ivds_instance"}},
    {"instance_state", {"", "ivds_instance_state"}},
    {"vvlans", {"ivds_vvlan_key", "ivds_vvlan"}},
    {"fdb", {"ivds_fdb_key", "ivds_fdb_entry"}},
    {"neighbours", {"ivds_neighbour_key", "ivds_neighbour"}},
    {"peer_rates", {"ivds_peer_key", "ivds_peer_rate"}},
    {"tx", {"", ""}},
    {"port_stats", {"", "ivds_port_stats"}},
    {"nic_stats", {"", "ivds_nic_stats"}},
    {"instance_stats", {"", "ivds_instance_stats"}},
    {"drops", {"ivds_drop_key", "ivds_count"}},
    {"misses", {"ivds_vvlan_key", "ivds_count"}},
    {"acls", {"", "ivds_acl"}},
    {"acl_masks", {"ivds_acl_mask_key", "ivds_acl_mask"}},
    {"acl_rules", {"ivds_acl_key", "ivds_acl_rule"}},
    {"rule_stats", {"", "ivds_rule_count"}},
    {"flows", {"ivds_flow_key", "ivds_flow"}},
    {"pools", {"", "ivds_pool"}},
    {"mirrors", {"", "ivds_mirror"}},
    {"mirror_state", {"", "ivds_mirror_state"}},
    {"mirror_stats", {"", "ivds_mirror_stats"}},
    {"inspectors", {"", "ivds_inspector"}},
};

}  // namespace

TEST_CASE("every map's key and value are the structures of the header, member by member") {
    const Skeleton skeleton = open_skeleton();
    const Btf host(btf__parse_elf(IVDS_ABI_TYPES, nullptr), &btf__free);
    REQUIRE(host);
    const btf* object = bpf_object__btf(skeleton->obj);

    const auto check = [&](std::uint32_t id, std::uint32_t size, const std::string& structure) {
        if (structure.empty()) {
            CHECK(size == sizeof(__u32));
            return;
        }
        INFO(structure);
        const auto host_id = btf__find_by_name_kind(host.get(), structure.c_str(), BTF_KIND_STRUCT);
        REQUIRE(host_id > 0);
        const btf_type* type = btf__type_by_id(object, id);
        REQUIRE(type != nullptr);
        CHECK(btf__name_by_offset(object, type->name_off) == structure);
        const Layout in_object = layout_of(object, static_cast<std::int32_t>(id));
        CHECK(in_object == layout_of(host.get(), host_id));
        CHECK(in_object.bytes == size);
    };

    std::size_t seen = 0;
    const bpf_map* map = nullptr;
    bpf_object__for_each_map(map, skeleton->obj) {
        // The scratch holds nothing between two frames, and what is recent nothing after a sweep: no agent has a use
        // for them, and abi.h does not say what is in them.
        if (bpf_map__is_internal(map) || bpf_map__type(map) == BPF_MAP_TYPE_RINGBUF ||
            bpf_map__type(map) == BPF_MAP_TYPE_ARRAY_OF_MAPS || bpf_map__name(map) == std::string("scratch") ||
            bpf_map__name(map) == std::string("recents") || bpf_map__name(map) == std::string("capture_room")) {
            continue;
        }
        INFO(bpf_map__name(map));
        REQUIRE(structures.contains(bpf_map__name(map)));
        const auto& [key, value] = structures.at(bpf_map__name(map));
        check(bpf_map__btf_key_type_id(map), bpf_map__key_size(map), key);
        check(bpf_map__btf_value_type_id(map), bpf_map__value_size(map), value);
        ++seen;
    }
    CHECK(seen == structures.size());
}

TEST_CASE("the maps hold what the header promises") {
    const Skeleton skeleton = open_skeleton();
    const auto& maps = skeleton->maps;
    CHECK(bpf_map__max_entries(maps.ports) == IVDS_MAX_PORTS);
    CHECK(bpf_map__max_entries(maps.ifports) == IVDS_MAX_PORTS);
    CHECK(bpf_map__max_entries(maps.instances) == IVDS_MAX_INSTANCES);
    CHECK(bpf_map__max_entries(maps.fdb) == IVDS_MAX_FDB);
    CHECK(bpf_map__max_entries(maps.vvlans) == IVDS_MAX_VVLANS);
    CHECK(bpf_map__max_entries(maps.misses) == IVDS_MAX_MISSES);
    CHECK(bpf_map__max_entries(maps.acls) == IVDS_MAX_ACLS);
    CHECK(bpf_map__max_entries(maps.acl_rules) == IVDS_MAX_ACL_RULES);
    CHECK(bpf_map__max_entries(maps.events) == IVDS_EVENTS_BYTES);
    CHECK((bpf_map__map_flags(maps.port_state) & BPF_F_MMAPABLE) != 0);
    CHECK((bpf_map__map_flags(maps.instance_state) & BPF_F_MMAPABLE) != 0);
}

TEST_CASE("names of pins have no dot and fit the kernel's names") {
    const Skeleton skeleton = open_skeleton();
    const bpf_map* map = nullptr;
    bpf_object__for_each_map(map, skeleton->obj) {
        if (!bpf_map__is_internal(map)) {
            const std::string name = bpf_map__name(map);
            INFO(name);
            CHECK(name.find('.') == std::string::npos);
            CHECK(name.size() <= 15);
        }
    }
}

TEST_CASE("drop reasons are numbered without gaps and their names are unique") {
    std::map<std::string, int> names;
    int next = 1;
#define IVDS_X(name, number, side, id, text) \
    CHECK((number) == next++);               \
    CHECK(names.emplace(id, number).second);
    IVDS_DROPS(IVDS_X)
#undef IVDS_X
    CHECK(next == IVDS_DROP_MAX);
}
