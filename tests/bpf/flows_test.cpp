// SPDX-License-Identifier: Apache-2.0
// The flow table over time and change: timeouts, lists that change under a connection, the sweep, and how a pool's
// flows spread. What single frames do is in vectors.cpp.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <linux/pkt_cls.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <ctime>
#include <map>
#include <vector>

#include "ivds.skel.h"
#include "rig.h"
#include "vectors.h"

namespace ivds::test {

namespace {

constexpr std::uint64_t second_ns = 1'000'000'000;

Rig& rig() {
    static Rig the_rig(Rig::Options{});
    return the_rig;
}

// vPort 2 may open anything in IPv4 by list 1; list 3 says the same anew, list 4 allows but opens nothing. Nothing is
// let in by list 2.
World guarded() {
    World world = house();
    for (const std::uint32_t id : {1U, 3U, 4U}) {
        AclRule any;
        any.id = id;
        any.ethertypes = {0x0800};
        any.flags = id == 4 ? 0 : IVDS_ACL_STATEFUL;
        world.acls[id] = {.rules = {any}, .default_action = IVDS_ACL_DROP};
    }
    world.acls[2].default_action = IVDS_ACL_DROP;
    world.ports.at(2).acl_in = 1;
    world.ports.at(2).acl_out = 2;
    return world;
}

bool passes(std::uint32_t port, const Bytes& frame) {
    return rig().tc_verdict({.port = port, .frame = frame}) == TC_ACT_REDIRECT;
}

const bpf_map* flows() {
    return rig().programs().maps.flows;
}

std::map<std::uint32_t, ivds_flow> flows_by_source() {
    std::map<std::uint32_t, ivds_flow> found;
    ivds_flow_key key{};
    ivds_flow_key next{};
    for (const ivds_flow_key* from = nullptr; bpf_map__get_next_key(flows(), from, &next, sizeof next) == 0;
         from = &key) {
        key = next;
        ivds_flow flow{};
        bpf_map__lookup_elem(flows(), &key, sizeof key, &flow, sizeof flow, 0);
        std::uint32_t source = 0;
        for (int byte = 12; byte < 16; ++byte) source = source << 8U | key.fields.src[byte];
        found[source] = flow;
    }
    return found;
}

// Makes every flow look as if it had been silent for so long.
void age_flows(std::uint64_t seconds) {
    ivds_flow_key key{};
    ivds_flow flow{};
    REQUIRE(bpf_map__get_next_key(flows(), nullptr, &key, sizeof key) == 0);
    REQUIRE(bpf_map__lookup_elem(flows(), &key, sizeof key, &flow, sizeof flow, 0) == 0);
    flow.last_seen_ns -= seconds * second_ns;
    --flow.tick;
    REQUIRE(bpf_map__update_elem(flows(), &key, sizeof key, &flow, sizeof flow, BPF_EXIST) == 0);
}

void set_list_in(std::uint32_t port, std::uint32_t acl) {
    const bpf_map* ports = rig().programs().maps.ports;
    ivds_port row{};
    REQUIRE(bpf_map__lookup_elem(ports, &port, sizeof port, &row, sizeof row, 0) == 0);
    row.acl_in = acl;
    REQUIRE(bpf_map__update_elem(ports, &port, sizeof port, &row, sizeof row, BPF_ANY) == 0);
}

Bytes from_vm(const Layer& layer) {
    return eth(vm(3), vm(2)) / layer;
}

// How many flows the sweep removed.
std::uint32_t sweep(ivds_sweep arguments) {
    return rig().sweep(arguments).removed_flows;
}

const Layer udp = ip4_udp(46);

}  // namespace

TEST_CASE("one six-tuple is a flow of its own in each V.VLAN, with a verdict of its own", "[R122][R124]") {
    World world = guarded();
    world.ports.at(5).acl_in = 4;  // VM 2 of the blue V.VLAN on the same VLAN, with the same MAC
    world.acls[4].default_action = IVDS_ACL_DROP;
    rig().apply(world, Rung::tc_live);
    REQUIRE(passes(2, from_vm(udp)));
    REQUIRE(passes(5, from_vm(udp)));
    std::map<std::uint32_t, ivds_flow_key> keys;
    ivds_flow_key key{};
    const ivds_flow_key* from = nullptr;
    for (ivds_flow_key next{}; bpf_map__get_next_key(flows(), from, &next, sizeof next) == 0; from = &key) {
        key = next;
        keys[key.instance] = key;
    }
    REQUIRE(keys.size() == 2);
    CHECK(std::memcmp(&keys.begin()->second.fields, &keys.rbegin()->second.fields, sizeof key.fields) == 0);
    CHECK(keys.begin()->second.port != keys.rbegin()->second.port);
    set_list_in(2, 2);
    CHECK_FALSE(passes(2, from_vm(udp)));
    CHECK(passes(5, from_vm(udp)));
}

TEST_CASE("a connection that was silent for too long is over", "[R121][R130]") {
    const auto lives = [](const Layer& layer, bool is_answered, std::uint64_t seconds) {
        rig().apply(guarded(), Rung::tc_live);
        REQUIRE(passes(2, from_vm(layer)));
        if (is_answered) {
            REQUIRE(passes(3, answer_to(from_vm(layer))));
        }
        age_flows(seconds);
        return passes(3, answer_to(from_vm(layer)));
    };
    CHECK(lives(udp, false, IVDS_FLOW_OPENING_S - 2));
    CHECK_FALSE(lives(udp, false, IVDS_FLOW_OPENING_S + 2));
    CHECK(lives(udp, true, IVDS_FLOW_OPEN_S - 2));
    CHECK_FALSE(lives(udp, true, IVDS_FLOW_OPEN_S + 2));
    CHECK(lives(ip4_tcp(46), true, IVDS_FLOW_TCP_OPEN_S - 2));
    CHECK_FALSE(lives(ip4_tcp(46), true, IVDS_FLOW_TCP_OPEN_S + 2));
}

TEST_CASE("a connection follows its list: kept where the new one opens it too, closed where it does not",
          "[R121][R130]") {
    rig().apply(guarded(), Rung::tc_live);
    REQUIRE(passes(2, from_vm(udp)));
    set_list_in(2, 3);
    CHECK(passes(3, answer_to(from_vm(udp))));
    CHECK(flows_by_source().begin()->second.way[IVDS_WAY_IN].acl == 3);
    set_list_in(2, 4);
    CHECK_FALSE(passes(3, answer_to(from_vm(udp))));
    CHECK(passes(2, from_vm(udp)));
    CHECK_FALSE(passes(3, answer_to(from_vm(udp))));
    set_list_in(2, 0);
    CHECK_FALSE(passes(3, answer_to(from_vm(udp))));
}

// A CPU that has seen a flow in this tick of the clock does not look at its entry. Nearly every round is within one.
TEST_CASE("what a CPU knows of a flow is given up as soon as list or flow change", "[R121][R130]") {
    rig().apply(guarded(), Rung::tc_live);
    for (int round = 0; round < 20; ++round) {
        INFO("round " << round);
        set_list_in(2, 1);
        for (int frame = 0; frame < 3; ++frame) {
            REQUIRE(passes(2, from_vm(udp)));
            REQUIRE(passes(3, answer_to(from_vm(udp))));
        }
        sweep({.now_s = 0, .port = 2, .instance = 0, .removed = 0, .removed_flows = 0, .only = IVDS_SWEEP_FLOWS});
        REQUIRE_FALSE(passes(3, answer_to(from_vm(udp))));
        for (int frame = 0; frame < 3; ++frame) {
            REQUIRE(passes(2, from_vm(udp)));
        }
        set_list_in(2, 2);
        REQUIRE_FALSE(passes(2, from_vm(udp)));
        // Refused, and known to be; then a list lets it open a connection.
        REQUIRE_FALSE(passes(3, answer_to(from_vm(udp))));
        REQUIRE_FALSE(passes(3, answer_to(from_vm(udp))));
        set_list_in(2, 1);
        REQUIRE(passes(2, from_vm(udp)));
        REQUIRE(passes(3, answer_to(from_vm(udp))));
        sweep({.now_s = 0, .port = 2, .instance = 0, .removed = 0, .removed_flows = 0, .only = IVDS_SWEEP_FLOWS});
    }
}

TEST_CASE("what a CPU counts of a flow by itself, flow and rule know after a sweep", "[R121][R127]") {
    std::uint64_t frames = 20'000;
    const auto owed = [] {
        const bpf_map* map = rig().programs().maps.recents;
        const std::size_t size = bpf_map__value_size(map);
        std::vector<std::uint8_t> rows(size * static_cast<std::size_t>(libbpf_num_possible_cpus()));
        std::uint64_t sum = 0;
        for (std::uint32_t at = 0; at < IVDS_MAX_RECENTS; ++at) {
            REQUIRE(bpf_map__lookup_elem(map, &at, sizeof at, rows.data(), rows.size(), 0) == 0);
            for (std::size_t row = 0; row < rows.size(); row += size) {
                std::array<std::uint64_t, 4> counts{};  // packets, bytes, and those that were told
                std::memcpy(counts.data(), rows.data() + row + size - sizeof counts, sizeof counts);
                sum += counts[0] - counts[2];
            }
        }
        return sum;
    };
    rig().apply(guarded(), Rung::tc_live);
    for (std::uint64_t frame = 0; frame < frames; ++frame) {
        REQUIRE(passes(2, from_vm(udp)));
    }
    // The first frame of a tick leaves nothing owed.
    for (int pairs = 0; owed() == 0; ++pairs) {
        REQUIRE(pairs < 100);
        for (int frame = 0; frame < 2; ++frame, ++frames) {
            REQUIRE(passes(2, from_vm(udp)));
        }
    }
    CHECK(flows_by_source().begin()->second.way[IVDS_WAY_IN].packets > 10);  // those of the ticks before
    sweep({.now_s = 0, .port = 0, .instance = 0, .removed = 0, .removed_flows = 0, .only = 0});
    CHECK(owed() == 0);
    CHECK(flows_by_source().begin()->second.way[IVDS_WAY_IN].packets == frames);
    CHECK(rig().state().counts.at("rule 1 packets") == frames);
}

TEST_CASE("the sweep removes flows that are over, or those of a port, and gives back their room", "[R121][R127]") {
    World world = guarded();
    world.ports.at(2).flow_limit = 1;
    rig().apply(world, Rung::tc_live);
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    const auto now_s = static_cast<std::uint32_t>(time.tv_sec);

    REQUIRE(passes(2, from_vm(udp)));
    CHECK_FALSE(passes(2, from_vm(ip4_tcp(46))));
    CHECK(sweep({.now_s = now_s, .port = 0, .instance = 0, .removed = 0, .removed_flows = 0, .only = 0}) == 0);
    CHECK(sweep({.now_s = now_s + IVDS_FLOW_OPENING_S + 2,
                 .port = 0,
                 .instance = 0,
                 .removed = 0,
                 .removed_flows = 0,
                 .only = 0}) == 1);
    CHECK(passes(2, from_vm(ip4_tcp(46))));
    CHECK(sweep({.now_s = now_s, .port = 3, .instance = 0, .removed = 0, .removed_flows = 0, .only = 0}) == 0);
    CHECK(sweep({.now_s = now_s, .port = 2, .instance = 0, .removed = 0, .removed_flows = 0, .only = 0}) == 1);
    CHECK(flows_by_source().empty());
}

TEST_CASE("a pool's flows spread over its members, and one that goes away loses its own alone", "[R52]") {
    World world = house();
    AclRule spread;
    spread.id = 1;
    spread.action = IVDS_ACL_REDIRECT;
    spread.target = IVDS_TARGET_POOL | 7;
    world.acls[1].rules = {spread};
    world.ports.at(2).acl_in = 1;
    world.ports.at(2).flow_limit = 10'000;
    world.vport(13, red, vm(13));
    world.pools[7] = {3, 4, 13};
    const auto targets = [](const World& of) {
        constexpr std::uint32_t flows_sent = 1500;
        rig().apply(of, Rung::tc_live);
        for (std::uint32_t source = 1; source <= flows_sent; ++source) {
            Bytes frame = from_vm(udp);
            frame[14 + 13] = 1;
            frame[14 + 14] = static_cast<std::uint8_t>(source >> 8U);
            frame[14 + 15] = static_cast<std::uint8_t>(source);
            REQUIRE(passes(2, frame));
        }
        std::map<std::uint32_t, std::uint32_t> by_source;
        for (const auto& [source, flow] : flows_by_source()) by_source[source] = flow.way[IVDS_WAY_IN].target;
        REQUIRE(by_source.size() == flows_sent);
        return by_source;
    };
    const auto all = targets(world);
    std::map<std::uint32_t, unsigned> shares;
    for (const auto& [source, target] : all) ++shares[target];
    for (const std::uint32_t member : {3U, 4U, 13U}) {
        INFO("vPort " << member);
        CHECK(shares[member] > 400);
        CHECK(shares[member] < 600);
    }
    world.ports.at(4).flags &= static_cast<std::uint16_t>(~IVDS_PF_UP);
    for (const auto& [source, target] : targets(world)) {
        CHECK(target != 4);
        if (all.at(source) != 4) CHECK(target == all.at(source));
    }
}

}  // namespace ivds::test
