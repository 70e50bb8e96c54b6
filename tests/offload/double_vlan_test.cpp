// SPDX-License-Identifier: Apache-2.0
// Two tags: the filters see the inner alone, and software owns the outer.
#include <catch2/catch_test_macros.hpp>

#include "nic_rig.h"

using namespace ivds::test;
namespace flag = reg::pfvml2flt;

namespace {

struct Double : Nic {
    explicit Double(const Setup& setup = {.two_tags = true}) : Nic(setup) {
        for (const unsigned n : {1U, 2U, 3U}) mac(n, vm(n), {n});
        vlan(1, 100, {1, 2});
        vlan(2, 200, {3});
    }
};

}  // namespace

TEST_CASE("with two tags the inner one is filtered", "[unit]") {
    Double nic({.default_pool = false, .two_tags = true});
    CHECK(who(nic.wire(qinq(vm(1), outside, 5, 100))) == "1");
    CHECK(why_dropped(nic.wire(qinq(vm(1), outside, 5, 200))) == Reason::no_pool);
    CHECK(why_dropped(nic.wire(qinq(vm(1), outside, 5, 300))) == Reason::vlan_filter);
    // The outer is not looked at: any physical VLAN passes.
    CHECK(who(nic.wire(qinq(vm(1), outside, 4000, 100))) == "1");
}

TEST_CASE("with two tags the inner one is stripped and the outer stays", "[unit]") {
    Double nic;
    nic.put(Reg::rxdctl, 2, reg::rxdctl::enable.put() | reg::rxdctl::vme.put());
    const Delivery delivery = to(nic.wire(qinq(vm(1), outside, 5, 100)), 1);
    CHECK(delivery.bytes == Bytes(eth(vm(1), outside) / tag(tpid_s, 5) / ip4_udp(46)));
    CHECK(delivery.stripped == 100);
    CHECK(delivery.outer_tag);
}

TEST_CASE("with two tags a frame with the outer alone is untagged to the filters", "[unit]") {
    Double nic({.default_pool = false, .two_tags = true});
    const Bytes outer_only = eth(vm(1), outside) / tag(tpid_s, 100) / ip4_udp(46);
    CHECK(why_dropped(nic.wire(outer_only)) == Reason::no_pool);
    nic.accept(1, {flag::aupe});
    CHECK(who(nic.wire(outer_only)) == "1");
    CHECK(to(nic.wire(outer_only), 1).outer_tag);
    // An inner tag alone is an unknown frame, and untagged too.
    CHECK(who(nic.wire(frame(vm(1), outside, 100))) == "1");
    CHECK_FALSE(to(nic.wire(frame(vm(1), outside, 100)), 1).stripped);
}

TEST_CASE("with two tags of one type a single tag is the outer", "[unit]") {
    Double nic;
    nic.put(Reg::exvet, reg::exvet::vet_ext.put(0x8100));
    CHECK(who(nic.wire(eth(vm(1), outside) / tag(tpid_c, 5) / tag(tpid_c, 100) / ip4_udp(46))) == "1");
    CHECK(who(nic.wire(frame(vm(1), outside, 100))) == "pf");
}

TEST_CASE("with two tags the NIC inserts the inner behind the outer that software put there", "[unit]") {
    Double nic;
    nic.port_vlan(1, 100);
    nic.spoof_check(1, true);
    const Bytes sent = eth(vm(2), vm(1)) / tag(tpid_s, 5) / ip4_udp(46);
    CHECK(to(nic.send(1, sent), 2).bytes == qinq(vm(2), vm(1), 5, 100));
    CHECK(why_dropped(nic.send(1, eth(vm(3), vm(1)) / tag(tpid_s, 5) / ip4_udp(46))) == Reason::no_pool);
    CHECK(why_dropped(nic.send(1, qinq(vm(2), vm(1), 5, 200))) == Reason::tagged);
    nic.port_vlan(1, 200);
    CHECK(why_dropped(nic.send(1, sent)) == Reason::spoofed_vlan);
}

TEST_CASE("with two tags and switching, frames without the outer must not be sent", "[unit]") {
    Double nic;
    nic.send(1, frame(vm(2), vm(1)));
    const auto taken = nic.take();
    REQUIRE(taken.size() == 1);
    CHECK(taken[0].kind == Kind::contradiction);
    SECTION("without switching, checks and insertion they may") {
        nic.put(Reg::pfdtxgswc, 0);
        CHECK(who(nic.send(1, frame(vm(2), vm(1)))) == "wire");
    }
}

TEST_CASE("receive and transmit must both know of two tags", "[unit]") {
    Nic nic;
    nic.put(Reg::rxctrl, 0);
    nic.put(Reg::dmatxctl, 0x81000004);
    nic.put(Reg::ctrl_ext, reg::ctrl_ext::extended_vlan.put());
    nic.put(Reg::dmatxctl, 0x81000005);
    nic.put(Reg::rxctrl, 1);
    nic.wire(frame(vm(1), outside));
    const auto taken = nic.take();
    REQUIRE(taken.size() == 1);
    CHECK(taken[0].kind == Kind::contradiction);
}
