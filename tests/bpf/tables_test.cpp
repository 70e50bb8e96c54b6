// SPDX-License-Identifier: Apache-2.0
// The tables themselves: the sweep that ages and flushes the FDB, and forwarding with the tables at full size.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/pkt_cls.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <vector>

#include "ivds.skel.h"
#include "rig.h"
#include "vectors.h"

namespace ivds::test {

namespace {

Rig& rig() {
    static Rig the_rig({.entries = 0});
    return the_rig;
}

// What the sweep removed.
std::uint32_t sweep(ivds_sweep arguments) {
    return rig().sweep(arguments).removed;
}

bool holds(const Outcome& outcome, const Mac& address) {
    return std::ranges::any_of(outcome.fdb,
                               [&](const auto& row) { return row.find(to_text(address)) != std::string::npos; });
}

const Mac old_mac = mac(0x020000001001);
const Mac young_mac = mac(0x020000001002);
const Mac eternal_mac = mac(0x020000001003);

// Red ages after 300 s, blue never; the young entry was seen at second 1000.
World aging() {
    World world = house();
    world.instances.at(red).age_s = 300;
    world.learned_mac(red, old_mac, 2).learned_mac(red, young_mac, 3).learned_mac(blue, eternal_mac, 5);
    world.fdb.at({red, young_mac}).last_seen_s = 1000;
    return world;
}

}  // namespace

TEST_CASE("ages what was not seen for longer than the instance's time and keeps the rest", "[R16][R120]") {
    rig().apply(aging(), Rung::tc_live);
    const auto before = rig().state();
    CHECK(sweep({.now_s = 1000, .port = 0, .instance = 0, .removed = 0, .removed_flows = 0, .only = 0}) == 1);
    const auto after = rig().state();
    CHECK_FALSE(holds(after, old_mac));
    CHECK(holds(after, young_mac));
    CHECK(holds(after, eternal_mac));
    CHECK(after.fdb.size() == before.fdb.size() - 1);
    CHECK(after.learned ==
          std::map<std::string, std::uint32_t>{{"port 3", 1}, {"port 5", 1}, {"instance 1", 1}, {"instance 2", 1}});
}

TEST_CASE("an entry lives until its age is over, to the second", "[R120]") {
    rig().apply(aging(), Rung::tc_live);
    CHECK(sweep({.now_s = long_ago_s + 300, .port = 0, .instance = 0, .removed = 0, .removed_flows = 0, .only = 0}) ==
          0);
    CHECK(sweep({.now_s = long_ago_s + 301, .port = 0, .instance = 0, .removed = 0, .removed_flows = 0, .only = 0}) ==
          1);
}

TEST_CASE("an entry seen after the sweep read the clock is young", "[R120]") {
    rig().apply(aging(), Rung::tc_live);
    CHECK(sweep({.now_s = 999, .port = 0, .instance = 0, .removed = 0, .removed_flows = 0, .only = 0}) == 1);
    CHECK(holds(rig().state(), young_mac));
}

TEST_CASE("what a VM left behind that went is over when its time is, to the second", "[R161]") {
    const auto left = [] {
        ivds_fdb_key key{.instance = red, .mac = {}, .pad0 = 0};
        std::ranges::copy(remote(2), key.mac);
        ivds_fdb_entry entry{};
        REQUIRE(bpf_map_lookup_elem(bpf_map__fd(rig().programs().maps.fdb), &key, &entry) == 0);
        return entry;
    };
    World world = house().moved_mac(red, remote(2), 30);
    world.fdb.at({red, remote(2)}).last_seen_s = 1000;
    rig().apply(world, Rung::tc_live);
    CHECK(sweep({.now_s = 1000, .port = 0, .instance = 0, .removed = 0, .removed_flows = 0, .only = 0}) == 0);
    CHECK(left().flags == (IVDS_FDB_STATIC | IVDS_FDB_MOVED));
    CHECK(sweep({.now_s = 1001, .port = 0, .instance = 0, .removed = 0, .removed_flows = 0, .only = 0}) == 0);
    CHECK(left().flags == IVDS_FDB_STATIC);
    CHECK(left().last_seen_s == 0);
    CHECK(left().vlan == 30);
}

TEST_CASE("flushes what was learned at one port and nothing static", "[R50]") {
    rig().apply(aging(), Rung::tc_live);
    CHECK(sweep({.now_s = 0, .port = 3, .instance = 0, .removed = 0, .removed_flows = 0, .only = 0}) == 1);
    const auto after = rig().state();
    CHECK_FALSE(holds(after, young_mac));
    CHECK(holds(after, old_mac));
    CHECK(holds(after, vm(3)));
    CHECK(after.learned ==
          std::map<std::string, std::uint32_t>{{"port 2", 1}, {"port 5", 1}, {"instance 1", 1}, {"instance 2", 1}});
}

TEST_CASE("flushes what an instance learned", "[R42]") {
    rig().apply(aging(), Rung::tc_live);
    CHECK(sweep({.now_s = 0, .port = 0, .instance = red, .removed = 0, .removed_flows = 0, .only = 0}) == 2);
    const auto after = rig().state();
    CHECK(holds(after, eternal_mac));
    CHECK(after.learned == std::map<std::string, std::uint32_t>{{"port 5", 1}, {"instance 2", 1}});
}

TEST_CASE("forwards by any of 100,000 pairs of VLAN and V.VLAN", "[R72][R186]") {
    World world;
    world.uplink(1);
    world.instance(1, 1, 4094, 4094).vport(2, 1, vm(2));
    rig().apply(world, Rung::tc_live);
    const bpf_map* map = rig().programs().maps.vvlans;
    std::vector<ivds_vvlan_key> keys(100000);
    for (std::uint32_t pair = 0; pair < keys.size(); ++pair) {
        keys[pair] = {.uplink = 1,
                      .vlan = static_cast<__u16>(1 + pair % IVDS_VLAN_MAX),
                      .vvlan = static_cast<__u16>(1 + pair / IVDS_VLAN_MAX)};
    }
    const std::vector<ivds_vvlan> values(keys.size(), ivds_vvlan{.instance = 1});
    auto count = static_cast<std::uint32_t>(keys.size());
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    REQUIRE(bpf_map_update_batch(bpf_map__fd(map), keys.data(), values.data(), &count, &options) == 0);

    for (std::size_t i = 0; i < keys.size(); i += 997) {
        const auto& [uplink, vlan, vvlan] = keys[i];
        INFO("VLAN " << vlan << " V.VLAN " << vvlan);
        const Packet frame = eth(vm(2), remote(1)) / tag(tpid_c, vlan) / tag(tpid_c, vvlan) / ip4_udp(46);
        CHECK(rig().tc_verdict({.port = 1, .frame = frame}) == TC_ACT_REDIRECT);
    }
    CHECK(rig().state().counts.at("port 2 tx_packets") == (keys.size() + 996) / 997);
}

TEST_CASE("holds and finds a million MACs", "[R120]") {
    World world = house();
    rig().apply(world, Rung::tc_live);
    const bpf_map* map = rig().programs().maps.fdb;
    constexpr std::uint32_t chunk = 65536;
    const auto own = static_cast<std::uint32_t>(world.fdb.size());
    std::vector<ivds_fdb_key> keys;
    const auto write = [&] {
        const std::vector<ivds_fdb_entry> values(
            keys.size(),
            ivds_fdb_entry{.port = 8, .last_seen_s = 0, .vlan = 0, .flags = IVDS_FDB_STATIC, .pad0 = 0, .vport = 0});
        auto count = static_cast<std::uint32_t>(keys.size());
        LIBBPF_OPTS(bpf_map_batch_opts, options);
        REQUIRE(bpf_map_update_batch(bpf_map__fd(map), keys.data(), values.data(), &count, &options) == 0);
        keys.clear();
    };
    for (std::uint32_t i = own; i < IVDS_MAX_FDB; ++i) {
        ivds_fdb_key key{.instance = grey, .mac = {}, .pad0 = 0};
        std::ranges::copy(mac(0x060000000000U + i), key.mac);
        keys.push_back(key);
        if (keys.size() == chunk) {
            write();
        }
    }
    write();

    const Packet found = eth(mac(0x060000000000U + IVDS_MAX_FDB - 1), vm(9)) / ip4_udp(46);
    const auto missing = ivds_fdb_key{.instance = grey, .mac = {2}, .pad0 = 0};
    const ivds_fdb_entry entry{};
    CHECK(bpf_map__update_elem(map, &missing, sizeof(missing), &entry, sizeof(entry), BPF_ANY) == -E2BIG);
    CHECK(rig().tc_verdict({.port = 9, .frame = found}) == TC_ACT_REDIRECT);
    CHECK(sweep({.now_s = 100000, .port = 0, .instance = 0, .removed = 0, .removed_flows = 0, .only = 0}) == 0);
}

TEST_CASE("in a dispatcher a frame that another program of ours has passed on is not looked at again", "[R4]") {
    rig().apply(house(), Rung::xdp_then_tc);
    const auto& plain = rig().programs();
    const std::unique_ptr<ivds_bpf, decltype(&ivds_bpf__destroy)> shared(ivds_bpf__open(), ivds_bpf__destroy);
    REQUIRE(shared != nullptr);
    shared->rodata->in_dispatcher = 1;
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, shared->obj) {
        if (!bpf_map__is_internal(map)) {
            REQUIRE(bpf_map__reuse_fd(map, bpf_object__find_map_fd_by_name(plain.obj, bpf_map__name(map))) == 0);
        }
    }
    REQUIRE(ivds_bpf__load(shared.get()) == 0);
    ivds_port port{};
    const std::uint32_t id = 2;
    REQUIRE(bpf_map_lookup_elem(bpf_map__fd(plain.maps.ports), &id, &port) == 0);

    // Known unicast from port 2 to port 3, with four bytes in front of it in metadata.
    const auto verdict = [&](const ivds_bpf& programs, std::uint8_t metadata) {
        Bytes bytes(4, metadata);
        const Bytes frame = eth(vm(3), vm(2)) / ip4_udp(60);
        bytes.insert(bytes.end(), frame.begin(), frame.end());
        xdp_md context{};
        context.data = 4;
        context.data_end = static_cast<std::uint32_t>(bytes.size());
        context.ingress_ifindex = port.ifindex;
        LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = bytes.data(),
                    .data_size_in = static_cast<std::uint32_t>(bytes.size()), .ctx_in = &context,
                    .ctx_size_in = sizeof(context));
        REQUIRE(bpf_prog_test_run_opts(bpf_program__fd(programs.progs.ivds_xdp), &options) == 0);
        return options.retval;
    };
    CHECK(verdict(*shared, 0xff) == XDP_PASS);
    CHECK(rig().state().counts.empty());
    CHECK(verdict(*shared, 0) == XDP_REDIRECT);
    CHECK(verdict(plain, 0xff) == XDP_REDIRECT);
}

}  // namespace ivds::test
