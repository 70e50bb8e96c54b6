// SPDX-License-Identifier: Apache-2.0
// What a frame from the wire meets: the filters of the port, the choice of pools, the receive queue's state,
// counters.
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>

#include "nic_rig.h"

using namespace ivds::test;
namespace flag = reg::pfvml2flt;

TEST_CASE("the address filter of the port comes before any pool", "[unit][R39]") {
    SECTION("unknown unicast is dropped, default pool or not") {
        Nic nic;
        CHECK(why_dropped(nic.wire(frame(unknown, outside))) == Reason::l2_filter);
        CHECK(nic.model.drops(Reason::l2_filter) == 1);
    }
    SECTION("unicast promiscuity sends it to the default pool, none else") {
        Nic nic({.fctrl = reg::fctrl::upe.put()});
        nic.accept(1, {flag::aupe});
        const Outcome outcome = nic.wire(frame(unknown, outside));
        CHECK(who(outcome) == "pf");
        CHECK(to(outcome, pf).because.step == Step::default_pool);
    }
    SECTION("broadcast needs FCTRL.BAM") {
        Nic nic({.fctrl = 0});
        nic.accept(1, {flag::aupe, flag::bam});
        CHECK(why_dropped(nic.wire(frame(all, outside))) == Reason::l2_filter);
    }
    SECTION("multicast needs an entry, its bit in the hash table or promiscuity") {
        Nic nic;
        nic.accept(1, {flag::aupe, flag::mpe});
        CHECK(why_dropped(nic.wire(frame(group, outside))) == Reason::l2_filter);
        nic.hash(Reg::mta, group);
        CHECK(who(nic.wire(frame(group, outside))) == "1");
        nic.put(Reg::mcstctrl, 0);  // the hash table is off
        CHECK(why_dropped(nic.wire(frame(group, outside))) == Reason::l2_filter);
    }
}

TEST_CASE("the VLAN filter of the port drops what no pool could get", "[unit][R99][R39]") {
    Nic nic;
    nic.mac(1, vm(1), {1});
    nic.vlan(1, 10, {1});
    CHECK(who(nic.wire(frame(vm(1), outside, 10))) == "1");
    CHECK(why_dropped(nic.wire(frame(vm(1), outside, 11))) == Reason::vlan_filter);
    CHECK(nic.model.drops(Reason::vlan_filter) == 1);

    nic.put(Reg::vlnctrl, nic.get(Reg::vlnctrl) | reg::vlnctrl::cfien.put());
    CHECK(who(nic.wire(frame(vm(1), outside, 10))) == "1");
    CHECK(why_dropped(nic.wire(frame(vm(1), outside, 0x1000 | 10))) == Reason::cfi);
}

TEST_CASE("known unicast of a VLAN goes to the one pool that has both", "[unit][R108]") {
    Nic nic;
    nic.mac(1, vm(1), {1});
    nic.mac(2, vm(2), {2});
    nic.vlan(1, 10, {1, 2});
    const Outcome outcome = nic.wire(frame(vm(2), outside, 10));
    CHECK(who(outcome) == "2");
    CHECK(to(outcome, 2).because.step == Step::exact);
    CHECK(to(outcome, 2).because.slot == 2);
    CHECK(text(to(outcome, 2).because) == "MAC entry RAL[2]");
    CHECK(outcome.mac_slot == 2U);
    CHECK(outcome.vlan_slot == 1U);
    CHECK(to(outcome, 2).bytes == frame(vm(2), outside, 10));
}

TEST_CASE("a known address in the wrong VLAN falls to the default pool, or nowhere", "[unit]") {
    SECTION("the PF gets the tenant's frame") {
        Nic nic;
        nic.mac(1, vm(1), {1});
        nic.vlan(1, 10, {1});
        nic.vlan(2, 20, {2});
        const Outcome outcome = nic.wire(frame(vm(1), outside, 20));
        CHECK(who(outcome) == "pf");
        CHECK(to(outcome, pf).because.step == Step::default_pool);
        CHECK(who(nic.wire(frame(vm(1), outside))) == "pf");  // untagged, and pool 1 does not accept that
    }
    SECTION("without a default pool it is lost") {
        Nic nic({.default_pool = false});
        nic.mac(1, vm(1), {1});
        nic.vlan(2, 20, {2});
        CHECK(why_dropped(nic.wire(frame(vm(1), outside, 20))) == Reason::no_pool);
        CHECK(why_dropped(nic.wire(frame(vm(1), outside))) == Reason::no_pool);
    }
}

TEST_CASE("one address in two VLANs cannot be told apart by the VLAN", "[unit]") {
    Nic nic({.default_pool = false});
    nic.mac(1, vm(7), {1});  // tenant A's, in VLAN 10
    nic.vlan(1, 10, {1});
    nic.vlan(2, 20, {2});  // tenant B's pool 2 has the same address, and no entry of its own
    CHECK(who(nic.wire(frame(vm(7), outside, 10))) == "1");
    CHECK(why_dropped(nic.wire(frame(vm(7), outside, 20))) == Reason::no_pool);
    // From a pool of the same VLAN it does not even reach the wire.
    CHECK(why_dropped(nic.send(3, frame(vm(7), vm(3), 20))) == Reason::no_pool);
}

TEST_CASE("a VLAN alone does not choose a pool: the address comes first", "[unit][R108]") {
    Nic nic({.default_pool = false});
    nic.vlan(1, 10, {3});
    nic.hash(Reg::pfuta, unknown);  // so that the port takes the frame
    CHECK(why_dropped(nic.wire(frame(unknown, outside, 10))) == Reason::no_pool);
}

TEST_CASE("broadcast goes to the pools of its VLAN that accept broadcast", "[unit][R99][R109]") {
    Nic nic;
    nic.vlan(1, 10, {1, 2, 3});
    nic.vlan(2, 20, {4});
    nic.accept(1, {flag::bam});
    nic.accept(2, {flag::bam});
    nic.accept(4, {flag::bam});
    CHECK(who(nic.wire(frame(all, outside, 10))) == "1 2");
    CHECK(who(nic.wire(frame(all, outside, 20))) == "4");
    nic.vlan(3, 30, {});
    CHECK(who(nic.wire(frame(all, outside, 30))) == "pf");
}

TEST_CASE("untagged frames go to pools that accept them", "[unit]") {
    Nic nic;
    nic.accept(1, {flag::bam, flag::aupe});
    nic.accept(2, {flag::bam});
    CHECK(who(nic.wire(frame(all, outside))) == "1");
    // A priority tag is a tag, of VLAN 0.
    nic.vlan(0, 0, {2});
    CHECK(who(nic.wire(frame(all, outside, 0))) == "2");
}

TEST_CASE("multicast goes by exact entries, else by hash, and to the promiscuous", "[unit][R109]") {
    Nic nic;
    nic.accept(1, {flag::aupe});
    nic.accept(2, {flag::aupe, flag::rompe});
    nic.accept(3, {flag::aupe, flag::mpe});
    nic.accept(4, {flag::aupe, flag::rompe});
    nic.hash(Reg::mta, group);
    CHECK(who(nic.wire(frame(group, outside))) == "2 3 4");
    SECTION("a hash does not know addresses: another group with the same bits leaks in") {
        Mac other = group;
        other[0] ^= 2;
        CHECK(who(nic.wire(frame(other, outside))) == "2 3 4");
    }
    SECTION("an entry with many pools replaces the hash") {
        nic.mac(5, group, {1, 2});
        CHECK(who(nic.wire(frame(group, outside))) == "1 2 3");
    }
}

TEST_CASE("unicast that no entry knows goes by its hash to pools that asked for it", "[unit]") {
    Nic nic;
    nic.accept(1, {flag::aupe, flag::rope});
    nic.accept(2, {flag::aupe});
    nic.accept(3, {flag::aupe, flag::rope});
    nic.hash(Reg::pfuta, unknown);
    CHECK(who(nic.wire(frame(unknown, outside))) == "1 3");
    CHECK(to(nic.wire(frame(unknown, outside)), 1).because.step == Step::unicast_hash);
    nic.mac(2, unknown, {2});
    CHECK(who(nic.wire(frame(unknown, outside))) == "2");
}

TEST_CASE("the hash takes the bits of the address that MCSTCTRL.MO says", "[unit]") {
    // Of 01:00:5e:01:02:03 as bits 47 to 0 from the last byte down, MO selects 47:36, 46:35, 45:34 or 43:32.
    const unsigned mo = GENERATE_COPY(0U, 1U, 2U, 3U);
    const std::array<unsigned, 4> bits{0x030, 0x060, 0x0c0, 0x302};
    Nic nic;
    nic.accept(1, {flag::aupe, flag::rompe});
    nic.put(Reg::mcstctrl, reg::mcstctrl::mfe.put() | reg::mcstctrl::mo.put(mo));
    CHECK(why_dropped(nic.wire(frame(group, outside))) == Reason::l2_filter);
    nic.put(Reg::mta, bits[mo] / 32, 1U << (bits[mo] % 32));
    CHECK(who(nic.wire(frame(group, outside))) == "1");
}

TEST_CASE("without VLAN filtering every pool gets every VLAN", "[unit]") {
    Nic nic;
    nic.put(Reg::vlnctrl, 0x8100);
    nic.mac(1, vm(1), {1});
    nic.vlan(1, 10, {2});
    CHECK(who(nic.wire(frame(vm(1), outside, 10))) == "1");
    CHECK(who(nic.wire(frame(vm(1), outside, 99))) == "1");
    CHECK(who(nic.wire(frame(vm(1), outside))) == "1");
}

TEST_CASE("an EtherType filter with a pool overrides the choice", "[unit]") {
    Nic nic;
    nic.accept(1, {flag::aupe, flag::mpe});
    nic.put(Reg::etqs, 5, reg::etqs::rx_queue.put(pf * 2 + 1) | reg::etqs::queue_en.put());
    nic.put(Reg::etqf, 5, 0x88cc | reg::etqf::pool.put(pf) | reg::etqf::pool_en.put() | reg::etqf::filter_en.put());
    const Mac lldp_group{0x01, 0x80, 0xc2, 0, 0, 0x0e};
    nic.hash(Reg::mta, lldp_group);
    const Outcome outcome = nic.wire(eth(lldp_group, outside) / lldp());
    CHECK(who(outcome) == "pf");
    CHECK(to(outcome, pf).because.step == Step::ethertype);
    CHECK(to(outcome, pf).queue == pf * 2 + 1);
    CHECK(to(outcome, pf).queue_by == QueueBy::ethertype);
    // Other frames to that address are plain multicast.
    CHECK(who(nic.wire(frame(lldp_group, outside))) == "1");
}

TEST_CASE("a pool that must not receive gets nothing", "[unit]") {
    Nic nic;
    nic.mac(1, vm(1), {1});
    nic.accept(1, {flag::aupe, flag::bam});
    nic.accept(2, {flag::aupe, flag::bam});
    nic.put(Reg::pfvfre, 0, ~0b10U);
    CHECK(why_dropped(nic.wire(frame(vm(1), outside))) == Reason::pools_off);
    CHECK(who(nic.wire(frame(all, outside))) == "2");
}

TEST_CASE("without replication a group frame goes to the default pool alone", "[unit]") {
    Nic nic({.replicate = false});
    nic.accept(1, {flag::aupe, flag::bam, flag::mpe});
    nic.hash(Reg::mta, group);
    CHECK(who(nic.wire(frame(all, outside))) == "pf");
    CHECK(who(nic.wire(frame(group, outside))) == "pf");
    nic.mac(1, group, {1});
    CHECK(who(nic.wire(frame(group, outside))) == "1");
}

TEST_CASE("nothing is received while reception, the link or the size forbids it", "[unit]") {
    Nic nic;
    nic.mac(1, vm(1), {1});
    nic.accept(1, {flag::aupe});
    nic.vlan(1, 10, {1});
    SECTION("reception off") {
        nic.put(Reg::rxctrl, 0);
        CHECK(why_dropped(nic.wire(frame(vm(1), outside))) == Reason::receive_off);
    }
    SECTION("no link") {
        nic.model.set_link(false);
        CHECK(why_dropped(nic.wire(frame(vm(1), outside))) == Reason::link_down);
    }
    SECTION("runts") {
        CHECK(why_dropped(nic.wire(Bytes(13))) == Reason::runt);
    }
    SECTION("one maximum for all pools, tags not counted") {
        CHECK(who(nic.wire(eth(vm(1), outside) / ip4_udp(1500))) == "1");
        CHECK(who(nic.wire(eth(vm(1), outside) / tag(tpid_c, 10) / ip4_udp(1500))) == "1");
        CHECK(why_dropped(nic.wire(eth(vm(1), outside) / ip4_udp(1501))) == Reason::oversize);
        CHECK(nic.get(Reg::roc) == 1);
        nic.put(Reg::hlreg0, nic.get(Reg::hlreg0) | reg::hlreg0::jumboen.put());
        nic.put(Reg::maxfrs, reg::maxfrs::mfs.put(9018));
        CHECK(who(nic.wire(eth(vm(1), outside) / ip4_udp(9000))) == "1");
    }
}

TEST_CASE("MAC control frames are the MAC's", "[unit][R96]") {
    Nic nic;
    const Mac mac_control{0x01, 0x80, 0xc2, 0, 0, 1};
    nic.mac(1, mac_control, {1});
    nic.accept(1, {flag::aupe});
    CHECK(why_dropped(nic.wire(eth(mac_control, outside) / pfc())) == Reason::mac_control);
    nic.put(Reg::mflcn, reg::mflcn::dpf.put());
    CHECK(why_dropped(nic.wire(eth(mac_control, outside) / pause())) == Reason::mac_control);
}

TEST_CASE("what is for the BMC is in no pool, of which VF or how promiscuous it may be", "[unit][R40]") {
    Nic nic({.fctrl = reg::fctrl::bam.put() | reg::fctrl::upe.put() | reg::fctrl::mpe.put()});
    const Mac bmc{0x02, 0, 0, 0, 0xbb, 0};
    nic.mac(1, bmc, {1});
    nic.hash(Reg::pfuta, bmc);
    for (const unsigned pool : {1U, 2U}) nic.accept(pool, {flag::aupe, flag::bam, flag::mpe, flag::rope});
    nic.mirror(0, reg::pfmrctl::upme, 2);
    CHECK(who(nic.wire(frame(bmc, outside))) == "1 2");
    nic.model.set_bmc({bmc});
    const Outcome taken = nic.wire(frame(bmc, outside));
    CHECK(taken.to_bmc);
    CHECK(why_dropped(taken) == Reason::manageability);
    CHECK(taken.pools() == 0);
    SECTION("but where the host is to have it as well") {
        nic.model.set_bmc({bmc}, true);
        const Outcome both = nic.wire(frame(bmc, outside));
        CHECK(both.to_bmc);
        CHECK(who(both) == "1 2");
    }
    CHECK(who(nic.wire(frame(all, outside))) == "1 2");
}

TEST_CASE("each stage of the filter chain passes or drops, in its order, and counts what it drops", "[unit][R13]") {
    Nic nic;
    const Mac bmc{0x02, 0, 0, 0, 0xbb, 0};
    nic.model.set_bmc({bmc});
    for (unsigned slot = 1; slot <= 3; ++slot) nic.mac(slot, vm(slot), {slot});
    nic.vlan(1, 10, {1, 2, 3});
    nic.vlan(2, 20, {5});
    nic.put(Reg::pfvtctl, nic.get(Reg::pfvtctl) | reg::pfvtctl::dis_def_pl.put());
    nic.put(Reg::pfvfre, 0, nic.get(Reg::pfvfre) & ~4U);
    nic.put(Reg::rxdctl, 6, 0);
    const struct {
        Mac to;
        std::uint16_t vid;
        Reason stage;
    } stops[] = {
        {unknown, 99, Reason::l2_filter},  // the MAC before the VLAN
        {bmc, 99, Reason::manageability},  // the BMC's filter before the host's
        {vm(1), 99, Reason::vlan_filter},  // the VLAN before the pools
        {vm(1), 20, Reason::no_pool},      // the pools of the address, less those of another VLAN
        {vm(2), 10, Reason::pools_off},    // the pool before its queue
        {vm(3), 10, Reason::queue_off},    // the queue
    };
    for (const auto& stop : stops) {
        const Outcome outcome = nic.wire(frame(stop.to, outside, stop.vid));
        CHECK(outcome.deliveries.empty());
        CHECK(outcome.drops.at(0).reason == stop.stage);
    }
    CHECK(who(nic.wire(frame(vm(1), outside, 10))) == "1");
    for (const auto& stop : stops) CHECK(nic.model.drops(stop.stage) == 1);
}

TEST_CASE("a stale entry keeps a moved VM's frames", "[unit]") {
    Nic nic;
    nic.mac(1, vm(1), {1});
    nic.vlan(1, 10, {1, 2});
    // The VM is now behind the wire. As long as the entry stands, what others send it stays in the host.
    CHECK(who(nic.send(2, frame(vm(1), vm(2), 10))) == "1");
    nic.forget_mac(1);
    CHECK(who(nic.send(2, frame(vm(1), vm(2), 10))) == "wire");
}

TEST_CASE("a queue that is off, or full and drops, loses one copy only", "[unit]") {
    Nic nic;
    nic.accept(1, {flag::aupe, flag::bam});
    nic.accept(2, {flag::aupe, flag::bam});
    SECTION("off") {
        nic.put(Reg::rxdctl, 2, 0);
        const Outcome outcome = nic.wire(frame(all, outside));
        CHECK(who(outcome) == "2");
        REQUIRE(outcome.drops.size() == 1);
        CHECK(outcome.drops[0].reason == Reason::queue_off);
        CHECK(outcome.drops[0].pool == 1U);
    }
    SECTION("full, with drop enable by PFQDE") {
        nic.model.set_queue_full(2, true);
        const Outcome outcome = nic.wire(frame(all, outside));
        CHECK(who(outcome) == "2");
        REQUIRE(outcome.drops.size() == 1);
        CHECK(outcome.drops[0].reason == Reason::no_descriptor);
    }
    CHECK(nic.get(Reg::qprdc, 0) == 1);
}

TEST_CASE("a full queue without drop enable stalls everybody", "[unit]") {
    Nic nic;
    nic.mac(1, vm(1), {1});
    nic.mac(2, vm(2), {2});
    nic.vlan(1, 10, {1, 2, 3});
    nic.put(Reg::pfqde, reg::pfqde::we.put() | reg::pfqde::queue_idx.put(2));
    (void)nic.get(Reg::status);
    nic.model.set_queue_full(2, true);
    CHECK(nic.send(3, frame(vm(1), vm(3), 10)).stalled_queue == 2U);
    // Head of line: other pools neither receive from the wire nor send to each other.
    CHECK(why_dropped(nic.wire(frame(vm(2), outside, 10))) == Reason::stalled);
    CHECK(why_dropped(nic.send(3, frame(vm(2), vm(3), 10))) == Reason::stalled);
    CHECK(nic.get(Reg::rxmpc, 0) == 1);
    nic.model.set_queue_full(2, false);
    CHECK(who(nic.wire(frame(vm(2), outside, 10))) == "2");

    // The other place of the same switch: SRRCTL.
    nic.put(Reg::srrctl, 2, nic.get(Reg::srrctl, 2) | reg::srrctl::drop_en.put());
    nic.model.set_queue_full(2, true);
    CHECK(nic.wire(frame(vm(1), outside, 10)).drops.at(0).reason == Reason::no_descriptor);
    CHECK(who(nic.wire(frame(vm(2), outside, 10))) == "2");
}

TEST_CASE("a queue strips the tag and the descriptor tells it", "[unit]") {
    Nic nic;
    nic.mac(1, vm(1), {1});
    nic.vlan(1, 10, {1});
    nic.put(Reg::rxdctl, 2, reg::rxdctl::enable.put() | reg::rxdctl::vme.put());
    const Outcome outcome = nic.wire(frame(vm(1), outside, 0x6000 | 10));
    CHECK(to(outcome, 1).bytes == frame(vm(1), outside));
    CHECK(to(outcome, 1).stripped == 0x600a);
}

TEST_CASE("a tag of another type is payload", "[unit]") {
    Nic nic;
    nic.mac(1, vm(1), {1});
    nic.accept(1, {flag::aupe});
    CHECK(who(nic.wire(qinq(vm(1), outside, 5, 10))) == "1");
    // Of two 0x8100 tags the filters see the outer.
    nic.vlan(1, 10, {1});
    nic.vlan(2, 20, {2});
    const Bytes twice = eth(vm(1), outside) / tag(tpid_c, 10) / tag(tpid_c, 20) / ip4_udp(46);
    CHECK(who(nic.wire(twice)) == "1");
}

TEST_CASE("counters follow what the port and its pools received", "[unit]") {
    Nic nic;
    nic.mac(1, vm(1), {1});
    nic.vlan(1, 10, {1, 2});
    nic.accept(1, {flag::bam});
    nic.accept(2, {flag::bam});
    nic.put(Reg::rqsmr, 0, 3U << 16);  // queue 2, pool 1's first, counts in set 3
    const Bytes unicast = frame(vm(1), outside, 10);
    nic.wire(unicast);
    nic.wire(frame(all, outside, 10));
    nic.wire(frame(unknown, outside, 10));
    const auto bytes = static_cast<std::uint32_t>(unicast.size() + 4);
    CHECK(nic.get(Reg::rxnfgpc) == 3);
    CHECK(nic.get(Reg::gprc) == 2);
    CHECK(nic.get(Reg::gprc) == 0);  // reading cleared it
    CHECK(nic.get(Reg::bprc) == 1);
    CHECK(nic.get(Reg::gorcl) == 2 * bytes);
    CHECK(nic.get(Reg::rxdgpc) == 2);
    CHECK(nic.get(Reg::rxddpc) == 1);  // the second copy
    CHECK(nic.get(Reg::pvfgprc, 1) == 2);
    CHECK(nic.get(Reg::pvfgprc, 1) == 2);  // of a VF: reading leaves it
    CHECK(nic.get(Reg::pvfgorc_lsb, 1) == 2 * bytes);
    CHECK(nic.get(Reg::pvfmprc, 2) == 1);
    CHECK(nic.get(Reg::qprc, 3) == 2);
    CHECK(nic.get(Reg::qbrc_l, 3) == 2 * bytes);
    CHECK(nic.get(Reg::qprc, 0) == 1);
}

TEST_CASE("without virtualization the port is one pool", "[unit]") {
    Model82599 model;
    const auto put = [&](Reg which, unsigned i, std::uint32_t value) {
        REQUIRE(model.write(reg::offset(which, i), value));
    };
    const auto rows = reg::map().rows();
    for (std::size_t row = 0; row < rows.size(); ++row)
        for (unsigned i = 0; rows[row].undefined && i < rows[row].count(); ++i)
            put(static_cast<Reg>(row), i,
                static_cast<Reg>(row) == Reg::l34timir ? reg::l34timir::must_be_one.put() : 0);
    put(Reg::ral, 0, 0x02);
    put(Reg::rah, 0, reg::rah::av.put() | 0x0100);
    put(Reg::rxdctl, 0, reg::rxdctl::enable.put());
    put(Reg::txdctl, 0, reg::txdctl::enable.put());
    put(Reg::dmatxctl, 0, 0x81000005);
    put(Reg::rxctrl, 0, 1);
    const Outcome in = model.receive_from_wire(frame(vm(1), outside, 5));
    CHECK(who(in) == "0");
    CHECK(to(in, 0).because.step == Step::only_pool);
    CHECK(who(model.send_from(0, frame(vm(1), outside))) == "wire");
    CHECK(model.violations().empty());
}
