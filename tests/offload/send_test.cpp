// SPDX-License-Identifier: Apache-2.0
// What becomes of a frame that a pool sends: tag, checks of the sender, other pools, the wire.
#include <catch2/catch_test_macros.hpp>

#include "nic_rig.h"

using namespace ivds::test;
namespace flag = reg::pfvml2flt;

namespace {

// Tenant A has VMs 1 and 2 in VLAN 10, tenant B has 3 in VLAN 20.
struct Tenants : Nic {
    explicit Tenants(const Setup& setup = {}) : Nic(setup) {
        for (const unsigned n : {1U, 2U, 3U}) {
            mac(n, vm(n), {n});
            accept(n, {flag::bam, flag::mpe});
            spoof_check(n, true);
            port_vlan(n, n == 3 ? 20 : 10);
        }
        vlan(1, 10, {1, 2});
        vlan(2, 20, {3});
    }
};

}  // namespace

TEST_CASE("a VF's unicast to a VF of its VLAN stays in the NIC", "[unit][R34][R111]") {
    Tenants nic;
    const Outcome outcome = nic.send(1, frame(vm(2), vm(1)));
    CHECK(who(outcome) == "2");
    CHECK(to(outcome, 2).loopback);
    CHECK(to(outcome, 2).bytes == frame(vm(2), vm(1), 10));
    CHECK(to(outcome, 2).queue == 4);
}

TEST_CASE("a VF's unicast to an address of another VLAN is neither delivered nor sent", "[unit][R113]") {
    Tenants nic;
    CHECK(why_dropped(nic.send(1, frame(vm(3), vm(1)))) == Reason::no_pool);
}

TEST_CASE("unknown unicast of a VF goes to the wire, never to the PF", "[unit][R112]") {
    Tenants nic;
    const Outcome outcome = nic.send(1, frame(unknown, vm(1)));
    CHECK(who(outcome) == "wire");
    CHECK(outcome.deliveries[0].because.step == Step::unknown_unicast);
    CHECK(outcome.deliveries[0].bytes == frame(unknown, vm(1), 10));
    // So an address behind the PF must be in the PF's entries.
    nic.vlan(1, 10, {1, 2, pf});
    nic.mac(20, unknown, {pf});
    CHECK(who(nic.send(1, frame(unknown, vm(1)))) == "pf");
}

TEST_CASE("broadcast of a VF goes to the wire and to its VLAN's other pools once", "[unit][R110][R112]") {
    Tenants nic;
    const Outcome outcome = nic.send(1, frame(all, vm(1)));
    CHECK(who(outcome) == "wire 2");
    CHECK(outcome.deliveries.size() == 2);
    CHECK(outcome.deliveries[0].because.step == Step::group);
    CHECK(who(nic.send(3, frame(group, vm(3)))) == "wire");
}

TEST_CASE("a pool gets its own frames only if it asked for them", "[unit][R110]") {
    Tenants nic;
    CHECK(why_dropped(nic.send(1, frame(vm(1), vm(1)))) == Reason::no_pool);
    nic.put(Reg::pfvmtxsw, 0, 0b10);
    CHECK(who(nic.send(1, frame(vm(1), vm(1)))) == "1");
    CHECK(who(nic.send(1, frame(all, vm(1)))) == "wire 1 2");
}

TEST_CASE("the anti-spoof checks drop and count foreign addresses and VLANs", "[unit][R37]") {
    Tenants nic;
    nic.put(Reg::pfvmecm, 0, 0b0010);
    CHECK(why_dropped(nic.send(1, frame(vm(2), vm(9)))) == Reason::spoofed_mac);
    CHECK(why_dropped(nic.send(1, frame(vm(2), vm(2)))) == Reason::spoofed_mac);  // another pool's
    CHECK(nic.get(Reg::ssvpc) == 2);
    CHECK(why_dropped(nic.send(2, frame(vm(1), vm(9)))) == Reason::spoofed_mac);
    CHECK(nic.get(Reg::ssvpc) == 0);  // pool 2 is not counted
    SECTION("a VLAN that is not the pool's") {
        nic.port_vlan(1, 20);
        CHECK(why_dropped(nic.send(1, frame(vm(3), vm(1)))) == Reason::spoofed_vlan);
    }
    SECTION("the hash table satisfies no check") {
        nic.hash(Reg::pfuta, vm(9));
        CHECK(why_dropped(nic.send(1, frame(vm(2), vm(9)))) == Reason::spoofed_mac);
    }
    SECTION("untagged frames have no VLAN to check") {
        nic.put(Reg::pfvfte, 0, ~0b10U);
        nic.put(Reg::pfvmvir, 1, 0);
        nic.put(Reg::pfvfte, 0, ~0U);
        CHECK(who(nic.send(1, frame(all, vm(1)))) == "wire");
    }
    SECTION("a VM that bridges for others") {
        nic.mac(30, vm(9), {1});
        CHECK(who(nic.send(1, frame(vm(2), vm(9)))) == "2");
    }
}

TEST_CASE("a pool with a VLAN of its own cannot send tags, and its descriptors' are ignored", "[unit][R37]") {
    Tenants nic;
    CHECK(why_dropped(nic.send(1, frame(vm(2), vm(1), 10))) == Reason::tagged);
    CHECK(why_dropped(nic.send(1, frame(vm(2), vm(1), 20))) == Reason::tagged);
    CHECK(to(nic.send(1, frame(vm(2), vm(1)), {.vlan = 20}), 2).bytes == frame(vm(2), vm(1), 10));
    nic.put(Reg::pfvfte, 0, ~0b10U);
    nic.put(Reg::pfvmvir, 1, reg::pfvmvir::vlana.put(reg::pfvmvir::never));
    nic.put(Reg::pfvfte, 0, ~0U);
    CHECK(why_dropped(nic.send(1, frame(vm(2), vm(1), 10))) == Reason::tagged);
    CHECK(nic.send(1, frame(unknown, vm(1)), {.vlan = 10}).deliveries.at(0).bytes == frame(unknown, vm(1)));
}

TEST_CASE("a pool without a VLAN of its own sends what its descriptors say", "[unit]") {
    Nic nic;
    nic.mac(1, vm(1), {1});
    nic.mac(2, vm(2), {2});
    nic.vlan(1, 10, {1, 2});
    nic.vlan(2, 11, {1, 2});
    CHECK(to(nic.send(1, frame(vm(2), vm(1)), {.vlan = 11}), 2).bytes == frame(vm(2), vm(1), 11));
    CHECK(to(nic.send(1, frame(vm(2), vm(1), 10)), 2).bytes == frame(vm(2), vm(1), 10));
}

TEST_CASE("without loopback everything goes to the wire, still tagged and checked", "[unit]") {
    Tenants nic({.switching = false});
    CHECK(who(nic.send(1, frame(vm(2), vm(1)))) == "wire");
    CHECK(who(nic.send(1, frame(all, vm(1)))) == "wire");
    CHECK(nic.send(1, frame(vm(2), vm(1))).deliveries.at(0).bytes == frame(vm(2), vm(1), 10));
    CHECK(why_dropped(nic.send(1, frame(vm(2), vm(9)))) == Reason::spoofed_mac);
    // What an outside switch sends back is not kept from its sender: the 82599 does not prune by source.
    CHECK(who(nic.wire(frame(all, vm(1), 10))) == "1 2");
}

TEST_CASE("loopback dies with the link and with reception", "[unit]") {
    Tenants nic;
    nic.model.set_link(false);
    CHECK(why_dropped(nic.send(1, frame(vm(2), vm(1)))) == Reason::link_down);
    nic.model.set_link(true);
    nic.put(Reg::rxctrl, 0);
    CHECK(why_dropped(nic.send(1, frame(vm(2), vm(1)))) == Reason::receive_off);
    const Outcome outcome = nic.send(1, frame(all, vm(1)));
    CHECK(who(outcome) == "wire");
}

TEST_CASE("a pool or queue that must not transmit does not", "[unit]") {
    Tenants nic;
    nic.put(Reg::pfvfte, 0, ~0b10U);
    CHECK(why_dropped(nic.send(1, frame(vm(2), vm(1)))) == Reason::transmit_pool_off);
    nic.put(Reg::pfvfte, 0, ~0U);
    nic.put(Reg::txdctl, 3, 0);
    CHECK(why_dropped(nic.send(1, frame(vm(2), vm(1)), {.queue = 1})) == Reason::transmit_queue_off);
    CHECK(why_dropped(nic.send(1, frame(vm(2), vm(1)), {.queue = 2})) == Reason::transmit_queue_off);
    CHECK(who(nic.send(1, frame(vm(2), vm(1)))) == "2");
    nic.put(Reg::dmatxctl, nic.get(Reg::dmatxctl) & ~reg::dmatxctl::te.mask());
    CHECK(why_dropped(nic.send(1, frame(vm(2), vm(1)))) == Reason::transmit_off);
}

TEST_CASE("a pool that must not receive keeps frames to its address from the wire", "[unit]") {
    Tenants nic;
    nic.put(Reg::pfvfre, 0, ~0b100U);
    CHECK(why_dropped(nic.send(1, frame(vm(2), vm(1)))) == Reason::no_pool);
}

TEST_CASE("filters on L3 and L4 do not see frames from VF to VF", "[unit]") {
    Tenants nic;
    nic.put(Reg::l34timir, 0, reg::l34timir::must_be_one.put() | reg::l34timir::rx_queue.put(5));
    nic.put(Reg::ftqf, 0,
            reg::ftqf::queue_en.put() | reg::ftqf::pool.put(2) | reg::ftqf::ignore_source.put() |
                reg::ftqf::ignore_destination.put() | reg::ftqf::ignore_source_port.put() |
                reg::ftqf::ignore_destination_port.put() | reg::ftqf::ignore_protocol.put());
    nic.put(Reg::rxdctl, 5, 0);  // so the filter drops
    CHECK(nic.wire(frame(vm(2), outside, 10)).drops.at(0).reason == Reason::queue_off);
    CHECK(who(nic.send(1, frame(vm(2), vm(1)))) == "2");
}

TEST_CASE("multicast of a VF to link-local addresses is multicast like any other", "[unit]") {
    Tenants nic;
    const Mac bridges{0x01, 0x80, 0xc2, 0, 0, 0};
    CHECK(who(nic.send(1, eth(bridges, vm(1)) / llc_stp())) == "wire 2");
}

TEST_CASE("without replication a VF's group frames go to the wire alone", "[unit]") {
    Tenants nic({.replicate = false});
    CHECK(who(nic.send(1, frame(all, vm(1)))) == "wire");
    CHECK(who(nic.send(1, frame(group, vm(1)))) == "wire");
    CHECK(who(nic.send(1, frame(vm(2), vm(1)))) == "2");
}

TEST_CASE("a VF's unicast by hash reaches pools and the wire", "[unit]") {
    Tenants nic;
    nic.hash(Reg::pfuta, unknown);
    nic.accept(2, {flag::rope});
    nic.accept(3, {flag::rope});
    CHECK(who(nic.send(1, frame(unknown, vm(1)))) == "wire 2");
}

TEST_CASE("frames over 9.5 KB must not be sent while loopback is on", "[unit]") {
    Tenants nic;
    nic.send(1, eth(unknown, vm(1)) / ip4_udp(9'720));
    const auto taken = nic.take();
    REQUIRE(taken.size() == 1);
    CHECK(taken[0].kind == Kind::contradiction);
}

TEST_CASE("counters tell loopback from the wire", "[unit]") {
    Tenants nic;
    nic.put(Reg::tqsm, 0, 5U << 16);  // queue 2, pool 1's first, counts in set 5
    nic.send(1, frame(vm(2), vm(1)));
    nic.send(1, frame(all, vm(1)));
    nic.send(1, frame(unknown, vm(1)));
    const auto bytes = static_cast<std::uint32_t>(frame(vm(2), vm(1), 10).size() + 4);
    CHECK(nic.get(Reg::gptc) == 2);
    CHECK(nic.get(Reg::gotcl) == 2 * bytes);
    CHECK(nic.get(Reg::txdgpc) == 3);
    CHECK(nic.get(Reg::pvfgptc, 1) == 3);
    CHECK(nic.get(Reg::pvfgotc_lsb, 1) == 3 * bytes);
    CHECK(nic.get(Reg::qptc, 5) == 3);
    CHECK(nic.get(Reg::qbtc_l, 5) == 3 * bytes);
    CHECK(nic.get(Reg::rxlpbkpc) == 2);
    CHECK(nic.get(Reg::rxdlpbkpc) == 0);
    CHECK(nic.get(Reg::rxdgpc) == 0);
    CHECK(nic.get(Reg::pvfgprc, 2) == 2);
    CHECK(nic.get(Reg::gprc) == 0);
}
