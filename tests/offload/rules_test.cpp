// SPDX-License-Identifier: Apache-2.0
// Why no list of rules is the NIC's (offload/plan/acl.h): each of its filters, set to a rule as well as it can be,
// lets a frame through that the rule drops, or takes one from somebody else. The model of the NIC against the
// reference switch.
#include "nic_rig.h"  // first: its Outcome is the model's
// clang-format off
#include "reference.h"
#include "tables.h"
// clang-format on

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

using namespace ivds::test;
using ivds::AclRule;

namespace {

constexpr std::uint32_t up = 1, first_vf = 10;
constexpr std::uint16_t odd_type = 0x88f7;

// VFs 0 and 1 in one instance, and a rule that drops what is sent to VF 0. The second queue of VF 0 is off.
struct Both {
    explicit Both(const AclRule& rule, const Uncertain& uncertain = {}) : nic({.uncertain = uncertain}) {
        world.uplink(up, 9216, tpid_c, 0).instance(1, up, 10, 1).single_tag(1);
        for (unsigned n = 0; n < 2; ++n) {
            world.vport(first_vf + n, 1, vm(n));
            nic.mac(n + 1, vm(n), {n});
            nic.accept(n, {reg::pfvml2flt::bam});
            nic.port_vlan(n, 10);
        }
        nic.vlan(1, 10, {0, 1});
        nic.put(Reg::rxdctl, 1, 0);
        world.acls[1].rules = {rule};
        world.ports.at(first_vf).acl_out = 1;
    }

    // Whether the VF gets the frame, by the rule and by the NIC.
    struct Got {
        bool by_rule, by_nic;
        bool operator==(const Got&) const = default;
    };
    Got from_wire(const Bytes& frame, unsigned vf = 0) {
        Bytes tagged = frame;
        const Bytes vlan{0x81, 0, 0, 10};
        tagged.insert(tagged.begin() + 12, vlan.begin(), vlan.end());
        return {.by_rule = is_sent(up, tagged, vf), .by_nic = is_in(nic.wire(tagged), vf)};
    }
    Got from_neighbour(const Bytes& frame) {
        return {.by_rule = is_sent(first_vf + 1, frame, 0), .by_nic = is_in(nic.send(1, frame), 0)};
    }

    World world;
    Nic nic;

private:
    bool is_sent(std::uint32_t port, const Bytes& frame, unsigned vf) {
        const auto sent = ReferenceSwitch(world).forward(port, frame).sent;
        return std::ranges::find(sent, first_vf + vf, &Sent::port) != sent.end();
    }
    static bool is_in(const ivds::offload::Outcome& outcome, unsigned vf) {
        return std::ranges::any_of(outcome.deliveries,
                                   [&](const Delivery& one) { return !one.to_wire && one.pool == vf; });
    }
};

AclRule drop() {
    AclRule rule;
    rule.action = IVDS_ACL_DROP;
    return rule;
}
AclRule drop_udp() {
    AclRule rule = drop();
    rule.ethertypes = {0x0800};
    rule.proto = 17;
    return rule;
}
AclRule drop_type() {
    AclRule rule = drop();
    rule.ethertypes = {odd_type};
    return rule;
}

Bytes to_vf(unsigned vf, const Mac& from) {
    return eth(vm(vf), from) / ip4_udp(60);
}
Bytes odd_to_vf(unsigned vf, const Mac& from) {
    return eth(vm(vf), from) / raw(odd_type, 46);
}
Bytes fragment(Bytes frame) {
    frame[20] = 0x20;  // more follow
    return frame;
}

constexpr Both::Got both_drop{.by_rule = false, .by_nic = false};
constexpr Both::Got hole{.by_rule = false, .by_nic = true};
constexpr Both::Got taken{.by_rule = true, .by_nic = false};

}  // namespace

TEST_CASE("a five-tuple filter misses fragments and frames between VMs that a rule drops", "[unit][R126]") {
    const bool sees_loopback = GENERATE(false, true);
    Uncertain uncertain;
    uncertain.loopback_flows = sees_loopback;
    Both both(drop_udp(), uncertain);
    both.nic.put(Reg::l34timir, 0, reg::l34timir::must_be_one.put() | reg::l34timir::rx_queue.put(1));
    both.nic.put(Reg::ftqf, 0,
                 reg::ftqf::protocol.put(reg::ftqf::udp) | reg::ftqf::priority.put(7) | reg::ftqf::pool.put(0) |
                     reg::ftqf::ignore_source.put() | reg::ftqf::ignore_destination.put() |
                     reg::ftqf::ignore_source_port.put() | reg::ftqf::ignore_destination_port.put() |
                     reg::ftqf::queue_en.put());
    CHECK(both.from_wire(to_vf(0, outside)) == both_drop);
    CHECK(both.from_wire(fragment(to_vf(0, outside))) == hole);
    CHECK(both.from_neighbour(to_vf(0, vm(1))) == (sees_loopback ? both_drop : hole));
    CHECK(both.from_neighbour(fragment(to_vf(0, vm(1)))) == hole);
    // Its VM turns the queue on that the filter drops into.
    both.nic.put(Reg::rxdctl, 1, reg::rxdctl::enable.put());
    CHECK(both.from_wire(to_vf(0, outside)) == hole);
}

TEST_CASE("an EtherType filter drops at the mercy of the VM, or for all VFs", "[unit]") {
    const bool sees_loopback = GENERATE(false, true);
    Uncertain uncertain;
    uncertain.loopback_ethertype = sees_loopback;
    Both both(drop_type(), uncertain);
    SECTION("into a queue of the VF's own") {
        both.nic.put(Reg::etqs, 1, reg::etqs::queue_en.put() | reg::etqs::rx_queue.put(1));
        both.nic.put(Reg::etqf, 1, reg::etqf::etype.put(odd_type) | reg::etqf::filter_en.put());
        CHECK(both.from_wire(odd_to_vf(0, outside)) == both_drop);
        both.nic.put(Reg::rxdctl, 1, reg::rxdctl::enable.put());
        CHECK(both.from_wire(odd_to_vf(0, outside)) == hole);
    }
    SECTION("into a pool that is off") {
        both.nic.put(Reg::pfvfre, 1, 0);
        both.nic.put(Reg::etqs, 1, reg::etqs::queue_en.put() | reg::etqs::rx_queue.put(2 * 40));
        both.nic.put(Reg::etqf, 1,
                     reg::etqf::etype.put(odd_type) | reg::etqf::pool.put(40) | reg::etqf::pool_en.put() |
                         reg::etqf::filter_en.put());
        CHECK(both.from_wire(odd_to_vf(0, outside)) == both_drop);
        CHECK(both.from_wire(odd_to_vf(1, outside), 1) == taken);
        CHECK(both.from_neighbour(odd_to_vf(0, vm(1))) == (sees_loopback ? both_drop : hole));
    }
}

TEST_CASE("what a VM sends passes no filter", "[unit]") {
    Both both(drop_udp());
    both.world.ports.at(first_vf).acl_out = 0;
    both.world.ports.at(first_vf + 1).acl_in = 1;
    both.nic.put(Reg::l34timir, 0, reg::l34timir::must_be_one.put() | reg::l34timir::rx_queue.put(3));
    both.nic.put(Reg::ftqf, 0,
                 reg::ftqf::protocol.put(reg::ftqf::udp) | reg::ftqf::priority.put(7) | reg::ftqf::pool.put(1) |
                     reg::ftqf::ignore_source.put() | reg::ftqf::ignore_destination.put() |
                     reg::ftqf::ignore_source_port.put() | reg::ftqf::ignore_destination_port.put() |
                     reg::ftqf::queue_en.put());
    CHECK(both.from_neighbour(to_vf(0, vm(1))) == hole);
}
