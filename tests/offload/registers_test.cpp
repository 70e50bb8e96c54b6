// SPDX-License-Identifier: Apache-2.0
// The table of registers, and the checks of accesses to them.
#include <catch2/catch_test_macros.hpp>

#include "nic_rig.h"

using namespace ivds::test;

namespace {

// The one violation that an action causes, and its kind.
template <class Action>
Violation::Kind violates(Nic& nic, Action action) {
    action();
    const auto taken = nic.take();
    REQUIRE(taken.size() == 1);
    INFO(taken[0].what);
    CHECK_FALSE(taken[0].what.empty());
    return taken[0].kind;
}

}  // namespace

TEST_CASE("no two registers of the 82599 share an offset", "[unit]") {
    const auto& map = reg::map();
    for (std::size_t row = 0; row < map.rows().size(); ++row)
        for (const Place& place : map.rows()[row].places)
            for (unsigned i = 0; i < place.count; ++i) {
                const std::uint32_t offset = place.offset + place.stride * i;
                INFO(map.rows()[row].name << " at " << offset);
                const auto found = map.locate(offset);
                REQUIRE(found);
                CHECK(found->row == row);
                CHECK(found->element == place.first + i);
            }
}

TEST_CASE("each register of the 82599 names its source and keeps its reset value within its bits", "[unit]") {
    for (const Register& row : reg::map().rows()) {
        INFO(row.name);
        CHECK_FALSE(row.source.empty());
        CHECK(row.count() > 0);
        CHECK((row.writable & row.hardware) == 0);
        CHECK((!row.undefined || row.reset == 0));
        CHECK((!row.write_first || !row.order.empty()));
    }
}

TEST_CASE("registers are where the drivers have them", "[unit]") {
    CHECK(reg::offset(Reg::pfvtctl) == 0x051b0);
    CHECK(reg::offset(Reg::ral, 127) == 0x0a5f8);
    CHECK(reg::offset(Reg::rah, 1) == 0x0a20c);
    CHECK(reg::offset(Reg::rxdctl, 63) == 0x01fe8);
    CHECK(reg::offset(Reg::rxdctl, 64) == 0x0d028);
    CHECK(reg::offset(Reg::pfmrvlan, 4) == 0x0f620);
    CHECK(reg::offset(Reg::pfvlvfb, 127) == 0x0f3fc);
    CHECK(reg::offset(Reg::pvfgotc_msb, 2) == 0x08414);
}

TEST_CASE("an old offset is the same register", "[unit]") {
    Nic nic;
    nic.put(Reg::ral, 3, 0x11223344);
    CHECK(*nic.model.read(0x05400 + 8 * 3) == 0x11223344);
    REQUIRE(nic.model.write(0x05400 + 8 * 3, 0x55667788));
    CHECK(nic.get(Reg::ral, 3) == 0x55667788);
}

TEST_CASE("an access outside of the known registers is a violation", "[unit]") {
    Nic nic;
    CHECK(violates(nic, [&] { (void)nic.model.read(0x0f700); }) == Kind::unknown_offset);
    CHECK(violates(nic, [&] { (void)nic.model.write(0x0f700, 1); }) == Kind::unknown_offset);
    CHECK(violates(nic, [&] { (void)nic.model.write(0x051b2, 1); }) == Kind::unaligned);
}

TEST_CASE("a write to a read-only register or a counter is a violation and changes nothing", "[unit]") {
    Nic nic;
    const std::uint32_t links = nic.get(Reg::links);
    CHECK(violates(nic, [&] { nic.put(Reg::links, 0); }) == Kind::read_only);
    CHECK(nic.get(Reg::links) == links);
    CHECK(violates(nic, [&] { nic.put(Reg::ssvpc, 0); }) == Kind::read_only);
}

TEST_CASE("reserved bits must stay as after a reset", "[unit]") {
    Nic nic;
    SECTION("of PFVML2FLT: the 82599 has no unicast or VLAN promiscuity") {
        CHECK(violates(nic, [&] { nic.put(Reg::pfvml2flt, 1, 1U << 22); }) == Kind::reserved_bits);
        CHECK(violates(nic, [&] { nic.put(Reg::pfvml2flt, 1, 1U << 23); }) == Kind::reserved_bits);
        CHECK(nic.get(Reg::pfvml2flt, 1) == 0);
    }
    SECTION("of PFVFSPOOF: it has no EtherType anti-spoof") {
        CHECK(violates(nic, [&] { nic.put(Reg::pfvfspoof, 0, 1U << 16); }) == Kind::reserved_bits);
    }
    SECTION("of ETQF: user priority must not be used") {
        CHECK(violates(nic, [&] { nic.put(Reg::etqf, 0, 1U << 19); }) == Kind::reserved_bits);
    }
    SECTION("of HLREG0, where some are one") {
        CHECK(violates(nic, [&] { nic.put(Reg::hlreg0, 0); }) == Kind::reserved_bits);
    }
    SECTION("but bits that the chip sets may be written back") {
        nic.put(Reg::dmatxctl, nic.get(Reg::dmatxctl));
        CHECK(nic.take().empty());
    }
}

TEST_CASE("values that the maker excludes are violations", "[unit]") {
    Nic nic;
    SECTION("VLAN anti-spoof without MAC anti-spoof") {
        CHECK(violates(nic, [&] { nic.put(Reg::pfvfspoof, 0, reg::pfvfspoof::vlanas.put(2)); }) ==
              Kind::forbidden_value);
    }
    SECTION("a unicast address with two pools") {
        nic.mac(1, vm(1), {1});
        CHECK(violates(nic, [&] { nic.put(Reg::mpsar, 2, 0b110); }) == Kind::forbidden_value);
        nic.put(Reg::mpsar, 2, 0b010);
    }
    SECTION("another type of the inner tag") {
        CHECK(violates(nic, [&] { nic.put(Reg::vlnctrl, 0x400088a8); }) == Kind::forbidden_value);
        CHECK(violates(nic, [&] { nic.put(Reg::dmatxctl, 0x88a80005); }) == Kind::forbidden_value);
    }
    SECTION("a reserved queue mode") {
        CHECK(violates(nic, [&] { nic.put(Reg::mrqc, 9); }) == Kind::forbidden_value);
    }
    SECTION("two types of traffic in a mirror rule") {
        CHECK(violates(nic, [&] { nic.put(Reg::pfmrctl, 0, reg::pfmrctl::upme.put() | reg::pfmrctl::dpme.put()); }) ==
              Kind::forbidden_value);
    }
    SECTION("an EtherType filter on IP") {
        CHECK(violates(nic, [&] { nic.put(Reg::etqf, 0, 0x0800 | reg::etqf::filter_en.put()); }) ==
              Kind::forbidden_value);
    }
    SECTION("an EtherType filter whose queue is of another pool") {
        nic.put(Reg::etqs, 0, reg::etqs::rx_queue.put(4) | reg::etqs::queue_en.put());
        CHECK(violates(nic, [&] {
                  nic.put(Reg::etqf, 0,
                          0x88cc | reg::etqf::pool.put(8) | reg::etqf::pool_en.put() | reg::etqf::filter_en.put());
              }) == Kind::forbidden_value);
    }
    SECTION("PFVMVIR's reserved action") {
        nic.put(Reg::pfvfte, 1, 0);
        CHECK(violates(nic, [&] { nic.put(Reg::pfvmvir, 60, 3U << 30); }) == Kind::forbidden_value);
    }
    SECTION("PFQDE to read and to write at once") {
        CHECK(violates(nic, [&] { nic.put(Reg::pfqde, reg::pfqde::we.put() | reg::pfqde::re.put()); }) ==
              Kind::forbidden_value);
        (void)nic.get(Reg::status);
    }
    SECTION("L34TIMIR without its constant bit") {
        CHECK(violates(nic, [&] { nic.put(Reg::l34timir, 5, 0); }) == Kind::forbidden_value);
    }
}

TEST_CASE("the maker's order of accesses is checked", "[unit][R27]") {
    Nic nic;
    SECTION("loopback after the flow control threshold") {
        nic.put(Reg::pfdtxgswc, 0);
        nic.put(Reg::fcrth, 0, 0);
        CHECK(violates(nic, [&] { nic.put(Reg::pfdtxgswc, 1); }) == Kind::order);
    }
    SECTION("MTQC only before transmission and with the arbiters off") {
        CHECK(violates(nic, [&] { nic.put(Reg::mtqc, reg::mtqc::vt64); }) == Kind::order);
    }
    SECTION("the global filter only while reception is off") {
        CHECK(violates(nic, [&] { nic.put(Reg::fctrl, reg::fctrl::upe.put()); }) == Kind::order);
        nic.put(Reg::rxctrl, 0);
        nic.put(Reg::fctrl, reg::fctrl::bam.put());
        CHECK(nic.take().empty());
    }
    SECTION("double VLAN only while both directions are off") {
        CHECK(violates(nic, [&] { nic.put(Reg::ctrl_ext, reg::ctrl_ext::extended_vlan.put()); }) == Kind::order);
    }
    SECTION("two writes of PFQDE have a read between them") {
        const std::uint32_t value = reg::pfqde::we.put() | reg::pfqde::queue_idx.put(3);
        nic.put(Reg::pfqde, value);
        CHECK(violates(nic, [&] { nic.put(Reg::pfqde, value); }) == Kind::order);
        CHECK(violates(nic, [&] { nic.model.check_settled(); }) == Kind::order);
        (void)nic.get(Reg::status);
        nic.model.check_settled();
    }
    SECTION("RAL[0] and RAH[0] are written again after MPSAR") {
        nic.put(Reg::mpsar, 7, 1);
        CHECK(violates(nic, [&] { nic.model.check_settled(); }) == Kind::order);
        nic.put(Reg::ral, 0, 0);
        nic.put(Reg::rah, 0, 0);
        nic.model.check_settled();
    }
    SECTION("a pool's tag changes while it does not transmit") {
        const std::uint32_t value = reg::pfvmvir::vlana.put(reg::pfvmvir::always) | 10;
        CHECK(violates(nic, [&] { nic.put(Reg::pfvmvir, 2, value); }) == Kind::order);
        nic.port_vlan(2, 11);
    }
    SECTION("L34TIMIR is written before it is read") {
        nic.put(Reg::ctrl, reg::ctrl::rst.put());
        CHECK(violates(nic, [&] { (void)nic.get(Reg::l34timir, 0); }) == Kind::order);
    }
    SECTION("what is undefined after a reset is written before reception is on") {
        nic.put(Reg::ctrl, reg::ctrl::rst.put());
        nic.put(Reg::rxctrl, 1);
        bool vlan_groups = false;
        for (const Violation& violation : nic.take()) {
            CHECK(violation.kind == Kind::order);
            vlan_groups |= violation.offset == reg::offset(Reg::pfvlvf, 0);
        }
        CHECK(vlan_groups);
    }
    SECTION("a mirror needs replication") {
        nic.mirror(0, reg::pfmrctl::upme, 3);
        CHECK(violates(nic, [&] { nic.put(Reg::pfvtctl, nic.get(Reg::pfvtctl) & ~reg::pfvtctl::rpl_en.mask()); }) ==
              Kind::order);
        CHECK(violates(nic, [&] { nic.mirror(1, reg::pfmrctl::dpme, 3); }) == Kind::order);
    }
    SECTION("a filter's queue is there before the filter") {
        CHECK(violates(nic, [&] {
                  nic.put(Reg::etqf, 0, 0x88cc | reg::etqf::pool_en.put() | reg::etqf::filter_en.put());
              }) == Kind::order);
    }
    SECTION("a rate has its memory window before it") {
        nic.put(Reg::rttdqsel, 4);
        CHECK(violates(nic, [&] { nic.put(Reg::rttbcnrc, reg::rttbcnrc::rs_ena.put() | 10U << 14); }) == Kind::order);
    }
}

TEST_CASE("registers that must agree are compared when a frame comes", "[unit]") {
    Nic nic;
    nic.mac(1, vm(1), {1});
    const Bytes any = frame(vm(1), outside);
    const auto contradiction = [&](auto change) {
        change();
        nic.wire(any);
        nic.wire(any);  // told once
        const auto taken = nic.take();
        REQUIRE(taken.size() == 1);
        CHECK(taken[0].kind == Kind::contradiction);
    };
    SECTION("the number of pools") {
        contradiction([&] { nic.put(Reg::gcr_ext, reg::gcr_ext::vt_mode.put(2)); });
    }
    SECTION("an address in two entries, as one MAC in two VLANs would need") {
        contradiction([&] { nic.mac(2, vm(1), {2}); });
    }
    SECTION("a VID in two entries") {
        nic.vlan(1, 10, {1});
        contradiction([&] { nic.vlan(2, 10, {2}); });
    }
    SECTION("an EtherType in two filters") {
        nic.put(Reg::etqf, 0, 0x88cc | reg::etqf::filter_en.put());
        contradiction([&] { nic.put(Reg::etqf, 1, 0x88cc | reg::etqf::filter_en.put()); });
    }
}

TEST_CASE("what the model does not do is said", "[unit]") {
    Nic nic;
    CHECK(violates(nic, [&] { nic.put(Reg::mrqc, reg::mrqc::vt32_dcb); }) == Kind::not_modelled);
    nic.put(Reg::rxdctl, 127, 0);
    CHECK(violates(nic, [&] {
              nic.put(Reg::fdirctrl, reg::fdirctrl::pballoc.put(1) | reg::fdirctrl::drop_q.put(127));
          }) == Kind::not_modelled);
}

TEST_CASE("Flow Director's drop queue must be off", "[unit]") {
    Nic nic;
    CHECK(violates(nic, [&] {
              nic.put(Reg::fdirctrl,
                      reg::fdirctrl::pballoc.put(1) | reg::fdirctrl::perfect.put() | reg::fdirctrl::drop_q.put(127));
          }) == Kind::forbidden_value);
}

TEST_CASE("a software reset clears the registers but leaves double VLAN on", "[unit]") {
    Nic nic({.two_tags = true});
    nic.put(Reg::ctrl, reg::ctrl::rst.put());
    CHECK(nic.get(Reg::rxctrl) == 0);
    CHECK(nic.get(Reg::vlnctrl) == 0x8100);
    CHECK(reg::ctrl_ext::extended_vlan(nic.get(Reg::ctrl_ext)) == 1);
    nic.model.reset();
    CHECK(nic.get(Reg::ctrl_ext) == 0);
}

TEST_CASE("a VF's reset stops its pool until the PF enables it again", "[unit]") {
    Nic nic;
    nic.mac(1, vm(1), {1});
    nic.mac(2, vm(2), {2});
    nic.accept(1, {reg::pfvml2flt::aupe});
    nic.accept(2, {reg::pfvml2flt::aupe});
    nic.model.reset_function(1);
    CHECK(why_dropped(nic.wire(frame(vm(1), outside))) == Reason::pools_off);
    CHECK(why_dropped(nic.send(1, frame(vm(2), vm(1)))) == Reason::transmit_queue_off);
    CHECK(who(nic.wire(frame(vm(2), outside))) == "2");
    CHECK(nic.get(Reg::pfvflrec, 0) == 0b10);
    nic.put(Reg::pfvflrec, 0, 0b10);
    CHECK(nic.get(Reg::pfvflre, 0) == 0);
}

TEST_CASE("a transmit queue's rate is a part of the link's speed", "[unit]") {
    Nic nic;
    nic.put(Reg::rttbcnrm, 0x14);
    nic.put(Reg::rttdqsel, 5);
    CHECK_FALSE(nic.model.rate_mbps(5));
    nic.put(Reg::rttbcnrc, reg::rttbcnrc::rs_ena.put() | (10'000U << 14) / 500);
    nic.put(Reg::rttdqsel, 6);
    CHECK(nic.get(Reg::rttbcnrc) == 0);  // the register shows the selected queue
    CHECK_FALSE(nic.model.rate_mbps(6));
    CHECK(*nic.model.rate_mbps(5) > 499.9);
    CHECK(*nic.model.rate_mbps(5) < 500.1);
    // On a slower link it falls with it, until it is loaded again.
    nic.model.set_link(true, 1'000);
    CHECK(*nic.model.rate_mbps(5) < 50.1);
    CHECK(reg::links::speed(nic.get(Reg::links)) == 2);
}

TEST_CASE("PFQDE reads a queue's drop enable back", "[unit]") {
    Nic nic;
    nic.put(Reg::pfqde, reg::pfqde::we.put() | reg::pfqde::queue_idx.put(9));
    (void)nic.get(Reg::status);
    nic.put(Reg::pfqde, reg::pfqde::re.put() | reg::pfqde::queue_idx.put(9));
    CHECK(reg::pfqde::qde(nic.get(Reg::pfqde)) == 0);
    nic.put(Reg::pfqde, reg::pfqde::re.put() | reg::pfqde::queue_idx.put(10));
    CHECK(reg::pfqde::qde(nic.get(Reg::pfqde)) == 1);
}
