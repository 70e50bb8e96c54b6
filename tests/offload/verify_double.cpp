// SPDX-License-Identifier: Apache-2.0
// Two tags: the walk of every class of frames through a NIC that sorts to uplinks, with the plan in it and with bits
// of that broken.
#include "nic_rig.h"  // first: its Outcome is the model's
// clang-format off
#include "offload/verify/verify.h"
#include "tables.h"
// clang-format on

#include <catch2/catch_test_macros.hpp>
#include <set>
#include <stdexcept>
#include <string>

#include "offload/nic/writer_82599.h"

using namespace ivds;
using namespace ivds::test;
using offload::verify::Verdict;
using offload::verify::Verifier;

namespace {

constexpr std::uint32_t wire = 1, red_up = 2, blue_up = 3;  // the PF, VF 0 and VF 1
constexpr std::uint32_t red = 1, blue = 2, green = 3, grey = 4;

// Red and blue are sorted; green is the PF's and has red's V.VLAN in another VLAN; grey is the PF's too.
World four_networks() {
    World world;
    for (const std::uint32_t id : {wire, red_up, blue_up}) world.uplink(id, 9216, tpid_s);
    world.instance(red, red_up, 100, 10).instance(blue, blue_up, 200, 20);
    world.instance(green, wire, 300, 10).instance(grey, wire, 400, 30);
    world.peer_vlan(blue, 250);
    // One address in all of them, which a table of addresses could not hold.
    for (std::uint32_t id = red; id <= grey; ++id) world.vport(10 * id, id, vmac(0)).vport(10 * id + 1, id, vmac(id));
    world.ports.at(10).flags &= static_cast<__u16>(~IVDS_PF_ANTI_SPOOF);
    world.remote_mac(red, vmac(9), 100);
    return world;
}

struct Sorted {
    explicit Sorted(const World& world)
        : tables(snapshot_of(world)),
          nic({.switching = false,
               .two_tags = true,
               .pools_on = false,
               .fctrl = reg::fctrl::bam.put() | reg::fctrl::mpe.put() | reg::fctrl::upe.put()}) {
        for (unsigned queue = 0; queue < 2 * pf; ++queue)
            nic.put(Reg::rxdctl, queue, reg::rxdctl::enable.put() | reg::rxdctl::vme.put());
        nic.set_bits(Reg::hlreg0, 0, reg::hlreg0::jumboen.put());
        nic.put(Reg::maxfrs, reg::maxfrs::mfs.put(reg::chip().max_frame));
        auto plan = offload::make_plan(tables, device, {}, {});
        if (!plan) throw std::runtime_error(plan.error().text());
        Writer82599 writer(nic.model, pf, {.two = true, .outer_tpid = tpid_s});
        must(writer.check_setup());
        must(writer.clear());
        for (const offload::Step& step : plan->steps) must(writer.apply(step));
    }
    [[nodiscard]] Verdict verdict() {
        const auto card = offload::verify::read_nic(reg::chip(), nic.model);
        if (!card) throw std::runtime_error(card.error().text());
        (void)nic.take();
        return Verifier({.tables = tables, .device = device, .told = told}).check(**card);
    }
    // The first kind of what is found with these bits other than they are.
    [[nodiscard]] std::string with(Reg which, unsigned element, std::uint32_t bits) {
        const std::uint32_t before = nic.get(which, element);
        nic.put(which, element, before ^ bits);
        const Verdict found = verdict();
        nic.put(which, element, before);
        (void)nic.take();
        std::set<std::string> kinds;
        for (const auto& example : found.examples) kinds.insert(std::string(name(example.fault)));
        std::string words;
        for (const std::string& kind : kinds) words += (words.empty() ? "" : " ") + kind;
        return words;
    }

    offload::Snapshot tables;
    offload::Device device{.chip = &offload::i82599::chip(),
                           .uplink = wire,
                           .pf = pf,
                           .pools = {},
                           .uplinks = {{red_up, 0}, {blue_up, 1}}};
    offload::Software told;
    Nic nic;
};

}  // namespace

TEST_CASE("with two tags a NIC that sorts as planned does with every frame what one interface does",
          "[unit][R98][R110]") {
    Sorted sorted(four_networks());
    const Verdict verdict = sorted.verdict();
    INFO(text(verdict));
    CHECK(verdict.holds());
    CHECK(verdict.limits.empty());
    CHECK(verdict.classes > 1000);
}

TEST_CASE("with two tags each register bit that takes a frame from its uplink, or brings it twice, is found",
          "[unit][R98]") {
    Sorted sorted(four_networks());
    const auto slot = [&](std::uint16_t vvlan) {
        for (unsigned i = 0; i < reg::chip().vlan_entries; ++i)
            if (sorted.nic.get(Reg::pfvlvf, i) == (reg::pfvlvf::vlan_id.put(vvlan) | reg::pfvlvf::vi_en.put()))
                return i;
        throw std::runtime_error("no slot");
    };
    namespace flag = reg::pfvml2flt;
    const unsigned red_slot = slot(10);
    const unsigned blue_slot = slot(20);
    CHECK(sorted.with(Reg::pfvlvfb, 2 * red_slot, 1U) == "lost");
    CHECK(sorted.with(Reg::pfvlvfb, 2 * red_slot, 1U << pf) == "lost");  // green's
    CHECK(sorted.with(Reg::pfvlvfb, 2 * blue_slot, 2U) == "lost");
    CHECK(sorted.with(Reg::pfvlvf, blue_slot, reg::pfvlvf::vi_en.put()) == "lost");
    CHECK(sorted.with(Reg::vfta, 0, 1U << 10) == "lost");
    CHECK(sorted.with(Reg::vfta, 0, 1U << 30) == "lost");
    CHECK(sorted.with(Reg::pfvml2flt, 0, flag::bam.put()) == "lost");
    CHECK(sorted.with(Reg::pfvml2flt, 0, flag::mpe.put()) == "lost");
    CHECK(sorted.with(Reg::pfvml2flt, 1, flag::rope.put()) == "lost");
    CHECK(sorted.with(Reg::pfvml2flt, pf, flag::rope.put()) == "lost");
    CHECK(sorted.with(Reg::pfvfre, 0, 2U) == "lost");
    CHECK(sorted.with(Reg::pfvfte, 0, 1U) == "lost");
    CHECK(sorted.with(Reg::pfvfspoof, 0, reg::pfvfspoof::macas.put(1U)) == "lost");
    // The V.VLAN's tag would come first, which makes it the host's frame.
    CHECK(sorted.with(Reg::rxdctl, 0, reg::rxdctl::vme.put()) == "leak");
    CHECK(sorted.with(Reg::pfvmvir, 1, reg::pfvmvir::vlana.put(reg::pfvmvir::always)).find("lost") !=
          std::string::npos);
    CHECK(sorted.with(Reg::exvet, 0, 0x10000000U) == "lost");
    // What a sender's neighbours get they refuse, as it comes from the wire with their senders' pair or another's.
    CHECK(sorted.with(Reg::pfdtxgswc, 0, reg::pfdtxgswc::lbe.put()) != "leak");
    // A V.VLAN more of an uplink's is dropped there by its outer tag.
    CHECK(sorted.with(Reg::pfvlvfb, 2 * blue_slot, 1U).empty());
    CHECK(sorted.with(Reg::vfta, 1, 1U << 8).empty());
}

TEST_CASE("with two tags an uplink that the tables do not tell apart from another is found", "[unit][R98]") {
    World world = four_networks();
    Sorted sorted(world);
    // Somebody registers red's pair with the PF too, after the plan.
    sorted.tables.vvlans[{wire, 100, 10}] = green;
    CHECK_FALSE(sorted.verdict().holds());
}
