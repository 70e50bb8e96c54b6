// SPDX-License-Identifier: Apache-2.0
// The four mirror rules.
#include <catch2/catch_test_macros.hpp>

#include "nic_rig.h"

using namespace ivds::test;
namespace flag = reg::pfvml2flt;

namespace {

constexpr unsigned probe = 7;

struct Mirrored : Nic {
    explicit Mirrored(const Setup& setup = {}) : Nic(setup) {
        for (const unsigned n : {1U, 2U}) mac(n, vm(n), {n});
        vlan(3, 10, {1, 2});
        vlan(40, 20, {4});
    }
};

}  // namespace

TEST_CASE("a pool mirror copies what is delivered to the pool, from wherever", "[unit][R33]") {
    Mirrored nic;
    nic.put(Reg::pfmrvm, 0, 0b10);  // rule 0: pool 1
    nic.mirror(0, reg::pfmrctl::vpme, probe);
    const Outcome outcome = nic.wire(frame(vm(1), outside, 10));
    CHECK(who(outcome) == "1 7");
    CHECK(to(outcome, probe).because.step == Step::mirror);
    CHECK(to(outcome, probe).bytes == frame(vm(1), outside, 10));
    CHECK(who(nic.send(2, frame(vm(1), vm(2), 10))) == "1 7");
    CHECK(who(nic.wire(frame(vm(2), outside, 10))) == "2");
    // What the pool sends is not mirrored: no rule selects by sender.
    CHECK(who(nic.send(1, frame(vm(2), vm(1), 10))) == "2");
    CHECK(who(nic.send(1, frame(unknown, vm(1), 10))) == "wire");
}

TEST_CASE("pools above 31 are in the rule's other register", "[unit]") {
    Mirrored nic;
    nic.mac(50, vm(50), {50});
    nic.vlan(4, 30, {50});
    nic.put(Reg::pfmrvm, 2 + 4, 1U << (50 - 32));
    nic.mirror(2, reg::pfmrctl::vpme, probe);
    CHECK(who(nic.wire(frame(vm(50), outside, 30))) == "7 50");
}

TEST_CASE("a VLAN mirror names slots of PFVLVF, not VIDs", "[unit]") {
    Mirrored nic;
    nic.put(Reg::pfmrvlan, 1, 1U << 3);  // rule 1: slot 3, now VLAN 10
    nic.mirror(1, reg::pfmrctl::vlme, probe);
    CHECK(who(nic.wire(frame(vm(1), outside, 10))) == "1 7");
    CHECK(who(nic.send(1, frame(unknown, vm(1), 10))) == "wire 7");
    // Another VLAN takes the slot, and the rule follows the slot.
    nic.put(Reg::pfvlvf, 3, 0);
    nic.vlan(5, 10, {1, 2});
    nic.vlan(3, 30, {1});
    CHECK(who(nic.wire(frame(vm(1), outside, 10))) == "1");
    CHECK(who(nic.wire(frame(vm(1), outside, 30))) == "1 7");
    SECTION("slots above 31 are in its other register") {
        nic.put(Reg::pfmrvlan, 1 + 4, 1U << (40 - 32));
        nic.mac(4, vm(4), {4});
        CHECK(who(nic.wire(frame(vm(4), outside, 20))) == "4 7");
    }
}

TEST_CASE("an uplink mirror copies what reached a pool from the wire", "[unit]") {
    Mirrored nic({.default_pool = false});
    nic.mirror(0, reg::pfmrctl::upme, probe);
    CHECK(who(nic.wire(frame(vm(1), outside, 10))) == "1 7");
    CHECK(why_dropped(nic.wire(frame(vm(1), outside, 20))) == Reason::no_pool);
    CHECK(who(nic.send(2, frame(vm(1), vm(2), 10))) == "1");
}

TEST_CASE("a downlink mirror copies what is sent to the wire", "[unit]") {
    Mirrored nic;
    nic.mirror(0, reg::pfmrctl::dpme, probe);
    CHECK(who(nic.send(1, frame(unknown, vm(1), 10))) == "wire 7");
    CHECK(who(nic.send(1, frame(all, vm(1), 10))) == "wire 7");
    CHECK(who(nic.send(1, frame(vm(2), vm(1), 10))) == "2");
    CHECK(who(nic.wire(frame(vm(1), outside, 10))) == "1");
    // A mirror pool that sends sees its own frame again.
    CHECK(who(nic.send(probe, frame(unknown, vm(7), 10))) == "wire 7");
}

TEST_CASE("a mirror pool gets one copy, and none while it must not receive", "[unit]") {
    Mirrored nic;
    nic.mirror(0, reg::pfmrctl::upme, probe);
    nic.mirror(1, reg::pfmrctl::upme, probe);
    nic.mirror(2, reg::pfmrctl::upme, 1);
    const Outcome outcome = nic.wire(frame(vm(1), outside, 10));
    CHECK(who(outcome) == "1 7");
    CHECK(outcome.deliveries.size() == 2);
    nic.put(Reg::pfvfre, 0, ~(1U << probe));
    CHECK(who(nic.wire(frame(vm(1), outside, 10))) == "1");
}

TEST_CASE("a mirrored copy is stripped as the mirror pool says and ignores the filters of queues", "[unit]") {
    Mirrored nic;
    nic.mirror(0, reg::pfmrctl::upme, probe);
    nic.put(Reg::rxdctl, 2 * probe, reg::rxdctl::enable.put() | reg::rxdctl::vme.put());
    const Outcome outcome = nic.wire(frame(vm(1), outside, 10));
    CHECK(to(outcome, 1).bytes == frame(vm(1), outside, 10));
    CHECK(to(outcome, probe).bytes == frame(vm(1), outside));
    CHECK(to(outcome, probe).queue == 2 * probe);
}

TEST_CASE("four rules, four destinations", "[unit]") {
    Mirrored nic;
    for (unsigned rule = 0; rule < reg::chip().mirror_rules; ++rule) nic.mirror(rule, reg::pfmrctl::upme, 3 + rule);
    CHECK(who(nic.wire(frame(vm(1), outside, 10))) == "1 3 4 5 6");
    CHECK_FALSE(reg::map().locate(reg::offset(Reg::pfmrctl, 3) + 4)->row == static_cast<std::size_t>(Reg::pfmrctl));
}
