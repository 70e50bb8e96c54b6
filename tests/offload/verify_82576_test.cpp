// SPDX-License-Identifier: Apache-2.0
// verify_82576_test.cpp -- the walk through an 82576, whose registers the backend of igb wrote beside a driver that
// is a fake: what it leaves holds, and what somebody breaks there is found.
#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "fake_igb.h"
#include "offload/apply/igb.h"
#include "offload/verify/nic_82576.h"
#include "offload/verify/verify.h"
#include "tables.h"

using namespace ivds;
using namespace ivds::test;
using namespace ivds::offload::i82576;
namespace verify = ivds::offload::verify;
using Catch::Matchers::ContainsSubstring;
using verify::Fault;

namespace {

constexpr std::uint32_t up = 1, first_vf = 10, soft = 20;  // port ids
constexpr unsigned vfs = 3;                                // two of instance 1, and one of instance 2

// Two instances over a card with three VFs, and a vPort of software's in the first.
struct Rack {
    Rack() {
        World world;
        world.uplink(up, 9216, verify::tpid_c, 0);
        for (std::uint32_t id = 1; id <= 2; ++id)
            world.instance(id, up, static_cast<std::uint16_t>(10 * id), 1).single_tag(id);
        for (unsigned n = 0; n < vfs; ++n) world.vport(first_vf + n, n < 2 ? 1 : 2, vmac(n));
        world.vport(soft, 1, vmac(10));
        tables = snapshot_of(world);
        auto made = offload::make_igb(igb.link(), igb.registers(), {});
        REQUIRE(made);
        backend = std::move(*made);
        REQUIRE(backend->prepare());
        REQUIRE(backend->clear());
        device = {.chip = &backend->chip(), .uplink = up, .pf = vfs, .pools = {}};
        for (unsigned n = 0; n < vfs; ++n) device.pools[first_vf + n] = n;
        const auto plan = offload::make_plan(tables, device, {}, backend->read().value());
        REQUIRE(plan);
        REQUIRE(plan->state.pools.size() == vfs);
        for (const offload::Step& step : plan->steps) {
            REQUIRE(backend->apply(step));
            if (const auto* software = std::get_if<offload::Software>(&step)) told = *software;
        }
    }

    [[nodiscard]] std::unique_ptr<verify::Nic> nic() {
        auto read = verify::read_nic(backend->chip(), *backend->registers());
        REQUIRE(read);
        return std::move(*read);
    }
    [[nodiscard]] verify::Verdict check() {
        return verify::Verifier({.tables = tables, .device = device, .told = told}).check(*nic());
    }
    [[nodiscard]] unsigned slot_of_vid(unsigned vid) const {
        for (unsigned i = 1; i < 32; ++i)
            if (vlvf::vi_en(igb.get(Reg::vlvf, i)) != 0 && vlvf::vlan_id(igb.get(Reg::vlvf, i)) == vid) return i;
        FAIL("no entry for the VID");
        return 0;
    }
    [[nodiscard]] unsigned slot_of_mac(unsigned n) const {
        for (unsigned i = 1; i < 24; ++i)
            if (rah::av(igb.get(Reg::rah, i)) != 0 && igb.get(Reg::ral, i) >> 24 == vmac(n)[3] &&
                (igb.get(Reg::rah, i) >> 8 & 0xff) == vmac(n)[5])
                return i;
        FAIL("no entry for the address");
        return 0;
    }
    void flip(Reg reg, unsigned element, std::uint32_t bits) { igb.put(reg, element, igb.get(reg, element) ^ bits); }

    FakeIgb igb{vfs};
    std::unique_ptr<offload::Backend> backend;
    offload::Snapshot tables;
    offload::Device device;
    offload::Software told;
};

bool has(const verify::Verdict& verdict, Fault fault) {
    return std::ranges::any_of(verdict.examples, [&](const auto& example) { return example.fault == fault; });
}

}  // namespace

TEST_CASE("what the backend of igb makes of a plan keeps instances apart and loses no frame", "[unit][R98][R113]") {
    Rack rack;
    const verify::Verdict verdict = rack.check();
    INFO(text(verdict));
    CHECK(verdict.holds());
    CHECK(verdict.classes > 1000);
    CHECK(verdict.idle.empty());
}

TEST_CASE("what is broken in an 82576 is found, with a frame that shows it and the slots that decide",
          "[unit][R113]") {
    Rack rack;
    SECTION("a VF of one instance in the V.VLAN of another") {
        const unsigned slot = rack.slot_of_vid(10);
        rack.flip(Reg::vlvf, slot, vlvf::pools.put(1U << 2));
        const verify::Verdict verdict = rack.check();
        INFO(text(verdict));
        REQUIRE(has(verdict, Fault::leak));
        const auto leak = std::ranges::find(verdict.examples, Fault::leak, &verify::Counterexample::fault);
        CHECK_THAT(text(*leak), ContainsSubstring(fmt::format("VLVF[{}] has VID 10 for pools 0,1,2,3", slot)));
    }
    SECTION("another V.VLAN in the tag of a VF, whose VLANs are not checked") {
        rack.flip(Reg::dtxswc, 0, dtxswc::vlan_check.put(1U << 2));
        rack.igb.put(Reg::vmvir, 2, vmvir::port_vlan.put(10) | vmvir::vlana.put(vmvir::always));
        CHECK(has(rack.check(), Fault::leak));
    }
    SECTION("no tag for a VF: its VM says which V.VLAN it is in") {
        rack.igb.put(Reg::vmvir, 2, 0);
        rack.flip(Reg::dtxswc, 0, dtxswc::vlan_check.put(1U << 2));
        CHECK(has(rack.check(), Fault::leak));
    }
    SECTION("a VF on that is no vPort's") {
        rack.told.vports.erase(first_vf + 2);
        CHECK_FALSE(rack.check().holds());
    }
    SECTION("an address at another VF") {
        rack.flip(Reg::rah, rack.slot_of_mac(0), rah::pools.put(3));
        CHECK_FALSE(rack.check().holds());
    }
    SECTION("an address that is gone: frames to software's own VM go to the wire too") {
        rack.flip(Reg::rah, rack.slot_of_mac(10), rah::av.put());
        CHECK(has(rack.check(), Fault::extra));
    }
    SECTION("no check of a VF's source addresses") {
        rack.flip(Reg::dtxswc, 0, dtxswc::mac_check.put(1));
        CHECK_FALSE(rack.check().holds());
    }
    SECTION("no switching between pools") {
        rack.flip(Reg::dtxswc, 0, dtxswc::loopback.put());
        CHECK(has(rack.check(), Fault::lost));
    }
    SECTION("the VLAN filter off") {
        rack.flip(Reg::rctl, 0, rctl::vfe.put());
        CHECK(has(rack.check(), Fault::leak));
    }
    SECTION("a V.VLAN that is not taken from the wire") {
        rack.flip(Reg::vfta, 0, 1U << 10);
        CHECK(has(rack.check(), Fault::lost));
    }
    SECTION("another default pool") {
        rack.flip(Reg::vt_ctl, 0, vt_ctl::def_pl.put(vfs ^ 1U));
        CHECK_FALSE(rack.check().holds());
    }
    SECTION("tags that VMs see") {
        rack.flip(Reg::vmolr, 0, vmolr::strvlan.put());
        CHECK(has(rack.check(), Fault::altered));
    }
    SECTION("two entries for one VID") {
        rack.igb.put(Reg::vlvf, 5, rack.igb.get(Reg::vlvf, rack.slot_of_vid(20)));
        CHECK(has(rack.check(), Fault::undefined));
    }
    SECTION("a filter that takes frames elsewhere") {
        rack.igb.put(Reg::etqf, 2, etqf::etype.put(0x88b5) | etqf::filter_en.put() | etqf::queue_en.put());
        CHECK(has(rack.check(), Fault::undefined));
    }
}

TEST_CASE("multicast that a VM's driver does not ask for is a limit of igb, not a loss", "[unit]") {
    Rack rack;
    const verify::Verdict verdict = rack.check();
    REQUIRE(verdict.holds());
    CHECK(verdict.limits.contains(offload::Limit::multicast));
}

TEST_CASE("an 82576 that is gone reads as all ones, and is not walked", "[unit]") {
    Rack rack;
    rack.igb.gone = true;
    const auto read = verify::read_nic(rack.backend->chip(), *rack.backend->registers());
    REQUIRE_FALSE(read);
    CHECK(read.error().id == "IVDS-O011");
    offload::Chip other = rack.backend->chip();
    other.name = "x";
    CHECK(verify::read_nic(other, *rack.backend->registers()).error().id == "IVDS-O036");
}

TEST_CASE("what tables of an NIC hold is told slot by slot", "[unit][R98]") {
    Rack rack;
    const auto nic = rack.nic();
    const auto slots = nic->slots();
    const auto find = [&](const std::string& table, unsigned slot) {
        const auto at = std::ranges::find_if(
            slots, [&](const verify::Nic::Slot& one) { return one.table == table && one.slot == slot; });
        return at == slots.end() ? std::string() : at->text;
    };
    CHECK(find("RAL/RAH", rack.slot_of_mac(1)) == format_mac(vmac(1)) + ": pools 1");
    CHECK(find("VLVF", rack.slot_of_vid(10)) == "VID 10: pools 0,1,3");
    CHECK_THAT(find("pools", 2), ContainsSubstring("on, adds VID 20, checks addresses and VLANs"));
}

TEST_CASE("the bytes of a frame give the frame, and the other way", "[unit]") {
    verify::Frame frame{.dst = vmac(1), .src = vmac(2), .tags = {{.tpid = verify::tpid_c, .tci = 10}}, .payload = {}};
    frame.payload.ethertype = 0x0800;
    frame.payload.is_ipv4 = true;
    frame.payload.protocol = 6;
    frame.payload.l3_bytes = 60;
    frame.payload.source = 0x0100000a;
    frame.payload.destination = 0x0200000a;
    frame.payload.source_port = 1234;
    frame.payload.destination_port = 80;
    frame.payload.syn = true;
    const verify::Frame same = verify::parse(verify::bytes(frame));
    CHECK(verify::text(same) == verify::text(frame));
    CHECK(verify::bytes(same) == verify::bytes(frame));
    CHECK(verify::parse(verify::with_tags(verify::bytes(frame), {})).tags.empty());
    CHECK(verify::parse(std::vector<std::uint8_t>(14)).payload.l3_bytes == 0);
}
