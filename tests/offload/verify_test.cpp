// SPDX-License-Identifier: Apache-2.0
// The walk of offload/verify against the NIC's model and the reference switch: the same receivers and bytes for
// random registers, tables and frames, whatever they are; and what it says of planned and of broken cards.
#include <fmt/format.h>
#include <rapidcheck.h>

#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <cstdlib>
#include <map>
#include <set>
#include <string>

#include "verify_rig.h"  // first: its Outcome is the model's
// clang-format off
#include "draw.h"
// clang-format on

using namespace ivds;
using namespace ivds::test;
namespace verify = ivds::offload::verify;
using offload::Device;
using offload::pool_bit;
using verify::Enter;
using verify::Fault;
using verify::Probe;
using verify::Verifier;

namespace {

constexpr std::uint32_t up = witness_uplink, other_up = 2;
constexpr std::uint32_t first_soft = witness_trunk, behind = witness_behind;
constexpr unsigned vfs = 6, softs = 3;
constexpr std::array<std::uint16_t, 5> vvlans{10, 20, 30, 40, 50};  // the last two are nobody's
constexpr Mac everyone{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr Mac some_group{0x01, 0, 0x5e, 1, 2, 3};
constexpr Mac other_group{0x01, 0, 0x5e, 0x40, 0x12, 0x34};
constexpr Mac link_local{0x01, 0x80, 0xc2, 0, 0, 0x0e};

bool coin() {
    return below(2U) != 0;
}
template <class T>
T one_of(std::initializer_list<T> all) {
    return *(all.begin() + below(static_cast<unsigned>(all.size())));
}

Mac any_mac() {
    const unsigned n = below(20U);
    return n < 14    ? vmac(n)
           : n < 16  ? everyone
           : n == 16 ? some_group
           : n == 17 ? other_group
           : n == 18 ? link_local
                     : Mac{};
}
std::uint64_t some_pools() {
    std::uint64_t set = 0;
    for (unsigned n = below(4U); n > 0; --n) set |= pool_bit(below(10U));
    return one_in(30) ? ~std::uint64_t{0} : set;
}

// Registers of any value that a switch can have: contradictions and what the maker forbids among them.
void draw_registers(Nic& nic) {
    const auto put = [&](Reg which, unsigned element, std::uint32_t value) { nic.put(which, element, value); };
    const auto put_pools = [&](Reg which, unsigned pair, std::uint64_t pools) {
        put(which, 2 * pair, static_cast<std::uint32_t>(pools));
        put(which, 2 * pair + 1, static_cast<std::uint32_t>(pools >> 32));
    };
    for (unsigned n = 0; n < 8; ++n) {
        const unsigned slot = below(128U);
        const Mac address = any_mac();
        put_pools(Reg::mpsar, slot, some_pools());
        put(Reg::ral, slot, address[0] | address[1] << 8 | address[2] << 16 | std::uint32_t{address[3]} << 24);
        put(Reg::rah, slot, address[4] | std::uint32_t{address[5]} << 8 | reg::rah::av.put(one_in(8) ? 0 : 1));
    }
    for (unsigned n = 0; n < 6; ++n) {
        const unsigned slot = below(64U);
        const unsigned vid = one_in(10) ? 0 : vvlans[below(5U)];
        put_pools(Reg::pfvlvfb, slot, some_pools());
        put(Reg::pfvlvf, slot, reg::pfvlvf::vlan_id.put(vid) | reg::pfvlvf::vi_en.put(one_in(8) ? 0 : 1));
        if (!one_in(6)) nic.set_bits(Reg::vfta, vid / 32, 1U << (vid % 32));
    }
    for (unsigned pool = 0; pool < 10; ++pool) {
        put(Reg::pfvml2flt, pool, below(32U) << 24);
        put(Reg::pfvmvir, pool,
            reg::pfvmvir::vlana.put(below(one_in(9) ? 4U : 2U)) |
                reg::pfvmvir::port_vlan.put(vvlans[below(5U)] | below(8U) << 13));
        const std::uint32_t queue = reg::rxdctl::enable.put(one_in(12) ? 0 : 1) | reg::rxdctl::vme.put(below(2U));
        for (unsigned i = 0; i < 2; ++i) put(Reg::rxdctl, 2 * pool + i, queue);
        put(Reg::txdctl, 2 * pool, reg::txdctl::enable.put(one_in(20) ? 0 : 1));
    }
    for (unsigned n = 0; n < 2; ++n) put(Reg::pfvfspoof, n, coin() ? 0 : below(0x10000U));
    put(Reg::pfvfre, 0, coin() ? ~0U : below(0x400U));
    put(Reg::pfvfte, 0, coin() ? ~0U : 0x100U | below(0x400U));
    put(Reg::pfvmtxsw, 0, one_in(3) ? below(0x400U) : 0);
    for (unsigned n = below(6U); n > 0; --n) {
        put(Reg::mta, below(128U), ~0U);
        put(Reg::pfuta, below(128U), ~0U);
    }
    if (coin())
        for (unsigned n = 0; n < 128; ++n) put(Reg::pfuta, n, ~0U);
    nic.hash(Reg::mta, some_group);
    put(Reg::mcstctrl, 0, below(8U));
    put(Reg::fctrl, 0, below(8U) << 8);
    put(Reg::vlnctrl, 0,
        reg::vlnctrl::vet.put(one_in(8) ? 0x8101 : 0x8100) | reg::vlnctrl::vfe.put(one_in(8) ? 0 : 1) |
            reg::vlnctrl::cfien.put(one_in(8) ? 1 : 0) | reg::vlnctrl::cfi.put(below(2U)));
    put(Reg::pfvtctl, 0,
        reg::pfvtctl::vt_en.put(one_in(15) ? 0 : 1) | reg::pfvtctl::def_pl.put(coin() ? pf : below(10U)) |
            reg::pfvtctl::dis_def_pl.put(one_in(4) ? 1 : 0) | reg::pfvtctl::rpl_en.put(one_in(6) ? 0 : 1));
    put(Reg::pfdtxgswc, 0, one_in(8) ? 0 : 1);
    for (unsigned rule = 0; rule < 4; ++rule) {
        if (coin()) continue;
        put(Reg::pfmrctl, rule, below(16U) | below(10U) << 8);
        for (const Reg which : {Reg::pfmrvm, Reg::pfmrvlan}) {
            put(which, rule, below(0x10000U) * below(3U));
            put(which, rule + 4, which == Reg::pfmrvlan ? ~0U : 0);
        }
    }
    if (one_in(10)) put(Reg::mrqc, 0, reg::mrqc::vt32_rss);
    if (one_in(8)) {
        put(Reg::ctrl_ext, 0, reg::ctrl_ext::extended_vlan.put());
        put(Reg::exvet, 0, reg::exvet::vet_ext.put(one_in(3) ? 0x8100 : 0x88a8));
    }
    if (one_in(15)) put(Reg::rxctrl, 0, 0);
    if (one_in(8)) put(Reg::hlreg0, 0, nic.get(Reg::hlreg0) | reg::hlreg0::jumboen.put());
    put(Reg::maxfrs, 0, reg::maxfrs::mfs.put(one_in(6) ? 200 : 9728));
    put(Reg::mflcn, 0, below(16U));
    for (unsigned i = 0; i < 8; ++i)
        if (one_in(6)) {
            put(Reg::etqs, i, reg::etqs::rx_queue.put(below(20U)) | reg::etqs::queue_en.put(one_in(4) ? 0 : 1));
            put(Reg::etqf, i,
                reg::etqf::etype.put(one_of({0x88b5U, 0x0806U, 0x8100U, 0x88a8U, 0x0800U})) |
                    reg::etqf::pool.put(below(10U)) | reg::etqf::pool_en.put(below(2U)) |
                    reg::etqf::filter_en.put(one_in(4) ? 0 : 1));
        }
    for (unsigned i = 0; i < 4; ++i) {
        if (coin()) continue;
        put(Reg::saqf, i, one_of({0x0100a8c0U, 0x0200a8c0U}));
        put(Reg::daqf, i, one_of({0x0100a8c0U, 0x0200a8c0U}));
        put(Reg::sdpqf, i, one_of({0xd204e110U, 0xd2040000U}));  // 4321 and 1234, as on the wire
        put(Reg::l34timir, i, reg::l34timir::must_be_one.put() | reg::l34timir::rx_queue.put(below(20U)));
        put(Reg::ftqf, i,
            below(4U) | reg::ftqf::priority.put(i + 1) | reg::ftqf::pool.put(below(10U)) |
                (coin() ? 63U : below(64U)) << 25 | reg::ftqf::queue_en.put(one_in(4) ? 0 : 1));
    }
    if (one_in(4)) put(Reg::synqf, 0, below(2U) | below(20U) << 1 | below(2U) << 31);
    (void)nic.take();  // it shall be any state, also one that the maker does not allow
}

verify::Payload draw_payload() {
    const unsigned kind = below(8U);
    if (kind == 0) return {.ethertype = 0x0806};
    if (kind == 1) return {.ethertype = 0x8808};
    if (kind == 2) return {.l3_bytes = one_of({190U, 1500U, 1510U, 3000U})};
    if (kind < 5) return {};
    const auto address = [] { return one_of({0x0100a8c0U, 0x0200a8c0U}); };
    return {.ethertype = 0x0800,
            .is_ipv4 = true,
            .source = address(),
            .destination = address(),
            .protocol = one_of<std::uint8_t>({6, 17, 89}),
            .source_port = one_of<std::uint16_t>({4321, 0}),
            .destination_port = 1234,
            .syn = coin()};
}
verify::Tags draw_tags(unsigned most) {
    verify::Tags tags;
    for (unsigned n = below(most + 1); n > 0; --n)
        tags.insert(0, {.tpid = one_of<std::uint16_t>({0x8100, 0x8100, 0x8100, 0x8100, 0x88a8, 0x8101}),
                        .tci = static_cast<std::uint16_t>((one_in(8) ? 0 : vvlans[below(5U)]) |
                                                          (one_in(4) ? below(16U) << 12 : 0))});
    return tags;
}

std::string words(const std::vector<Sent>& sent) {
    std::string out;
    for (const Sent& copy : sent) out += fmt::format("  {:#x}: {}\n", copy.port, to_hex(copy.bytes).substr(0, 60));
    return out.empty() ? "  nobody\n" : out;
}

constexpr std::uint32_t the_wire = 0xffffffff;

}  // namespace

TEST_CASE("with any registers a frame is walked to where the NIC's model brings it", "[unit]") {
    std::map<std::string, unsigned> kinds;
    CHECK(rc::check("registers and frames", [&] {
        const offload::Uncertain uncertain = any_doubts();
        Nic nic({.uncertain = uncertain});
        draw_registers(nic);
        const auto image = verify::Nic82599::read(nic.model);
        RC_ASSERT(image.has_value());
        const verify::Nic82599 walk(*image);
        for (unsigned n = 0; n < 60; ++n) {
            verify::Frame frame{.dst = any_mac(), .src = any_mac(), .tags = draw_tags(3), .payload = draw_payload()};
            const bool from_wire = coin();
            const unsigned pool = below(10U);
            verify::Nic::Passage passage;
            verify::Doubts doubts(uncertain);
            if (from_wire)
                walk.from_wire(frame, doubts, passage);
            else
                walk.from_pool(pool, frame, doubts, passage);
            std::vector<Sent> got;
            const auto add = [&](std::uint32_t to, const verify::Tags& tags) {
                verify::Frame copy = frame;
                copy.tags = tags;
                got.push_back({to, verify::bytes(copy)});
            };
            if (passage.wire) add(the_wire, *passage.wire);
            for (const auto& copy : passage.copies)
                if (copy.listens) add(copy.pool, copy.tags);
            std::ranges::sort(got);

            const auto outcome = from_wire ? nic.model.receive_from_wire(verify::bytes(frame))
                                           : nic.model.send_from(pool, verify::bytes(frame));
            std::vector<Sent> expected;
            for (const Delivery& delivery : outcome.deliveries)
                expected.push_back({delivery.to_wire ? the_wire : delivery.pool, delivery.bytes});
            std::ranges::sort(expected);
            (void)nic.take();
            if (got != expected)
                RC_FAIL(fmt::format("{} {}\nmodel:\n{}walk:\n{}", from_wire ? "wire" : fmt::format("pool {}", pool),
                                    text(frame), words(expected), words(got)));
            ++kinds[expected.empty() ? "to nobody" : expected.size() == 1 ? "to one" : "to many"];
        }
    }));
    INFO(fmt::format("to nobody {}, to one {}, to many {}", kinds["to nobody"], kinds["to one"], kinds["to many"]));
    CHECK(kinds["to one"] > 500);
    CHECK(kinds["to many"] > 300);
}

namespace {

// Tables of any kind that the planner may meet.
World draw_world() {
    World world;
    world.uplink(up, one_in(6) ? 1500 : 9216, tpid_c, 0).uplink(other_up);
    for (std::uint32_t id = 1; id <= 3; ++id) {
        world.instance(id, up, vvlans[id - 1], 1).single_tag(id);
        ivds_instance& value = world.instances.at(id);
        if (one_in(12)) value.flags &= static_cast<__u16>(~IVDS_IF_ACTIVE);
        if (one_in(12)) value.flags &= static_cast<__u16>(~IVDS_IF_WIRE);
    }
    world.instance(4, other_up, 200, vvlans[0]);
    const auto add = [&](std::uint32_t id, unsigned number) {
        world.vport(id, one_in(12) ? below(5U) : 1 + below(3U), vmac(one_in(12) ? below(14U) : number));
        ivds_port& port = world.ports.at(id);
        if (one_in(12)) port.flags &= static_cast<__u16>(~IVDS_PF_UP);
        if (one_in(6)) port.flags &= static_cast<__u16>(~IVDS_PF_ANTI_SPOOF);
        if (one_in(8)) port.flags |= IVDS_PF_CARRY_TAGS;
        if (one_in(4)) port.pcp = static_cast<std::uint8_t>(below(9U));
        if (one_in(6)) port.mtu_bytes = 1000;
    };
    for (unsigned n = 0; n < vfs; ++n) add(first_vf + n, n);
    for (unsigned n = 0; n < softs; ++n) add(first_soft + n, vfs + n);
    if (one_in(3)) {
        const std::uint32_t target = first_vf + below(vfs);
        const std::uint32_t source = first_vf + below(vfs);
        if (source != target) world.span(0, target, {source});
        if (source != target && one_in(8)) world.ports.at(source).mirror_in = 1;
    }
    if (coin()) world.behind(first_soft, witness_vid, behind, 2, vmac(10));
    for (unsigned n = below(4U); n > 0; --n) {
        const std::uint32_t instance = 1 + below(4U);
        const Mac address = vmac(below(14U));
        if (world.fdb.contains({instance, address})) continue;
        if (coin())
            world.remote_mac(instance, address, 0).fdb.at({instance, address}).flags |=
                instance < 4 ? IVDS_FDB_PLAIN : std::uint8_t{0};
        else if (coin())
            world.learned_mac(instance, address, first_vf + below(vfs));
        else
            world.local_mac(instance, address, one_in(2) ? first_vf + below(vfs) : first_soft + below(softs));
    }
    return world;
}

// Bits here and there, and fields of tables.
void break_registers(Nic& nic, unsigned times) {
    const auto all = verify::Nic82599::deciding();
    for (; times > 0; --times) {
        const Reg which = all[below(all.size())];
        const unsigned element = below(reg::describe(which).count());
        if (which == Reg::l34timir || which == Reg::fdirctrl || which == Reg::fdirfree) continue;
        const std::uint32_t bit = 1U << below(32U);
        if (which == Reg::rxdctl && bit == reg::rxdctl::enable.mask()) continue;  // the VF's own: idle
        nic.put(which, element, nic.get(which, element) ^ bit);
    }
    (void)nic.take();
}
void break_tables(World& world, offload::Software& told, unsigned times) {
    for (; times > 0; --times) {
        const std::uint32_t id = coin() ? first_vf + below(vfs) : first_soft + below(softs);
        switch (below(6U)) {
            case 0:
                world.ports.at(id).instance = below(5U);
                break;
            case 1:
                world.ports.at(id).flags ^= static_cast<__u16>(1U << below(3U));
                break;
            case 2:
                world.instances.at(1 + below(3U)).vlan = vvlans[below(5U)];
                break;
            case 3:
                if (!world.fdb.empty()) {
                    auto& entry = std::next(world.fdb.begin(), below(static_cast<int>(world.fdb.size())))->second;
                    entry.port = coin() ? up : id;
                }
                break;
            case 4:
                world.vvlans[{up, vvlans[below(5U)], 0}] = 1 + below(4U);
                break;
            default:
                told.vports.insert(first_vf + below(vfs));
        }
    }
}

Probe draw_probe(const World& world, const offload::Software& told) {
    Probe probe{.enter = {},
                .frame = {.dst = any_mac(), .src = any_mac(), .tags = draw_tags(2), .payload = draw_payload()}};
    verify::Tags& tags = probe.frame.tags;
    const unsigned kind = below(10U);
    if (kind < 4) {
        probe.enter = {.by = Enter::By::uplink, .port = kind == 3 && coin() ? other_up : up};
        const auto pcp = static_cast<std::uint16_t>(below(8U) << 13);
        if (!tags.empty()) tags[0].tci = static_cast<std::uint16_t>((tags[0].tci & 0x1fff) | pcp);
        if (probe.enter.port != up && !one_in(15)) tags.insert(0, {.tpid = 0x8100, .tci = 200});
        return probe;
    }
    if (kind == 4) {
        probe.enter = {.by = Enter::By::host};
        return probe;
    }
    if (!one_in(3)) tags = {};
    const std::uint32_t id = coin() ? first_vf + below(vfs) : first_soft + below(softs);
    if (one_in(4) && (world.ports.at(id).flags & IVDS_PF_TRUNK) != 0) tags = {{.tpid = 0x8100, .tci = witness_vid}};
    if (coin()) std::ranges::copy(world.ports.at(id).vmac, probe.frame.src.begin());
    if (told.vports.contains(id))
        probe.enter = {.by = Enter::By::pool, .port = id, .pool = id - first_vf};
    else if (one_in(4))
        probe.enter = {.by = Enter::By::pool, .port = 0, .pool = vfs + below(2U)};
    else
        probe.enter = {.by = Enter::By::port, .port = id};
    return probe;
}

}  // namespace

TEST_CASE("with any tables a frame is walked to where the model and the reference switch bring it", "[unit]") {
    unsigned carried = 0;
    CHECK(rc::check("worlds, broken worlds and frames", [&] {
        World world = draw_world();
        const offload::Uncertain uncertain = any_doubts();
        Card card(snapshot_of(world), witness_device(vfs), uncertain);
        if (coin()) break_registers(card.nic, below(30U));
        if (coin()) break_tables(world, card.told, below(6U));
        const verify::Image image = card.image();
        const offload::Snapshot tables = snapshot_of(world);
        const Device on = witness_device(vfs);
        const Verifier verifier({.tables = tables, .device = on, .told = card.told});
        const verify::Nic82599 nic(image);
        Witness witness(world, on, card.told);
        verify::Software::Told alone;
        std::vector<verify::Out> together;
        for (unsigned n = 0; n < 60; ++n) {
            const Probe probe = draw_probe(world, card.told);
            verifier.alone(probe, alone);
            const auto fail = [&](const std::string& what, const std::vector<Sent>& expected,
                                  const std::vector<Sent>& got) {
                RC_FAIL(fmt::format("{} by {} port {} pool {}: {}\nwitness:\n{}walk:\n{}{}", what,
                                    static_cast<int>(probe.enter.by), probe.enter.port, probe.enter.pool,
                                    text(probe.frame), words(expected), words(got), world.text()));
            };
            const auto without = witness.alone(probe).sent;
            if (const auto got = sent_of(probe.frame, alone.outs); got != without) fail("alone", without, got);
            verify::Doubts doubts(uncertain);
            verifier.together(nic, probe, doubts, together);
            const auto with = witness.together(card.nic.model, probe);
            (void)card.nic.take();
            if (const auto got = sent_of(probe.frame, together); got != with) fail("together", with, got);
            carried += with.empty() ? 0 : 1;
        }
    }));
    INFO(carried);
    CHECK(carried > 500);
}

TEST_CASE("what the planner makes of any tables leaves no frame out of its instance and loses none",
          "[unit][R98][R110]") {
    std::map<offload::Limit, std::uint64_t> limits;
    std::uint64_t classes = 0, walks = 0, in_nic = 0, worlds = 0;
    CHECK(rc::check("worlds", [&] {
        World world = draw_world();
        world.ports.at(up).mtu_bytes = 9216;
        Card card(snapshot_of(world), witness_device(vfs));
        const verify::Image image = card.image();
        const offload::Snapshot tables = snapshot_of(world);
        const Device on = witness_device(vfs);
        const verify::Verdict verdict =
            Verifier({.tables = tables, .device = on, .told = card.told}).check(verify::Nic82599(image));
        if (!verdict.holds()) RC_FAIL(text(verdict) + world.text());
        classes += verdict.classes;
        walks += verdict.walks;
        in_nic += card.told.vports.size();
        ++worlds;
        for (const auto& [limit, times] : verdict.limits) limits[limit] += times;
    }));
    std::string words;
    for (const auto& [limit, times] : limits) words += fmt::format(" {} {}", name(limit), times);
    INFO(fmt::format("{} worlds, {} vPorts in the NIC, {} classes, {} walks; limits:{}", worlds, in_nic, classes,
                     walks, words));
    CHECK(in_nic > 50);
    CHECK(limits.size() == 7);
}

TEST_CASE("a broken card on which any frame comes to harm is found", "[unit]") {
    unsigned holding = 0, broken = 0, frames = 0;
    CHECK(rc::check("worlds, broken a little, and frames", [&] {
        World world = draw_world();
        world.ports.at(up).mtu_bytes = 9216;
        const offload::Uncertain uncertain = any_doubts();
        Card card(snapshot_of(world), witness_device(vfs), uncertain);
        if (coin())
            break_registers(card.nic, 1 + below(3U));
        else
            break_tables(world, card.told, 1);
        const verify::Image image = card.image();
        const offload::Snapshot tables = snapshot_of(world);
        const Device on = witness_device(vfs);
        const Verifier verifier({.tables = tables, .device = on, .told = card.told});
        if (!verifier.check(verify::Nic82599(image), {.examples = 0, .stop_at_first = true, .each = {}}).holds()) {
            ++broken;
            return;
        }
        ++holding;
        Witness witness(world, on, card.told);
        for (unsigned n = 0; n < 100; ++n, ++frames) {
            const Probe probe = draw_probe(world, card.told);
            if (probe.enter.by == Enter::By::host && !probe.frame.tags.empty() &&
                world.vvlans.contains({up, probe.frame.tags[0].vid(), 0}))
                continue;  // V.VLANs are not the host's to send
            const Witness::Alone alone = witness.alone(probe);
            const std::vector<Sent> got = witness.together(card.nic.model, probe);
            (void)card.nic.take();
            const std::string why = harm(world, card.told, probe, alone, got);
            if (!why.empty())
                RC_FAIL(fmt::format("{} by {} port {} pool {}: {}\nalone:\n{}together:\n{}{}", why,
                                    static_cast<int>(probe.enter.by), probe.enter.port, probe.enter.pool,
                                    text(probe.frame), words(alone.sent), words(got), world.text()));
        }
    }));
    INFO(fmt::format("{} cards found, {} held against {} frames", broken, holding, frames));
    CHECK(broken > 10);
    CHECK(holding > 10);
}

namespace {

// Two tenants: VFs 0 and 1 in instance 1 with a port of software's, VF 2 in instance 2.
World two_tenants() {
    World world;
    world.uplink(up, 9216, tpid_c, 0);
    for (std::uint32_t id = 1; id <= 2; ++id) world.instance(id, up, vvlans[id - 1], 1).single_tag(id);
    world.vport(first_vf, 1, vmac(0)).vport(first_vf + 1, 1, vmac(1)).vport(first_vf + 2, 2, vmac(2));
    world.vport(first_soft, 1, vmac(6)).remote_mac(1, vmac(9), 0);
    world.fdb.at({1, vmac(9)}).flags |= IVDS_FDB_PLAIN;
    return world;
}

// A planned card that something then happens to.
struct Case {
    explicit Case(World tables = two_tenants()) : world(std::move(tables)), card(snapshot_of(world), on) {}
    [[nodiscard]] verify::Verdict check() {
        (void)card.nic.take();
        const offload::Snapshot tables = snapshot_of(world);
        const verify::Image image = card.image();
        return Verifier({.tables = tables, .device = on, .told = card.told}).check(verify::Nic82599(image));
    }
    // The slot of a V.VLAN in PFVLVF, or of an address in RAL.
    unsigned vlan_slot(std::uint16_t vvlan) {
        for (unsigned i = 0; i < 64; ++i)
            if (card.nic.get(Reg::pfvlvf, i) == (reg::pfvlvf::vlan_id.put(vvlan) | reg::pfvlvf::vi_en.put()))
                return i;
        throw std::runtime_error("no such V.VLAN");
    }
    unsigned mac_slot(const Mac& address) {
        const std::uint32_t low =
            address[0] | address[1] << 8 | address[2] << 16 | static_cast<std::uint32_t>(address[3]) << 24;
        const std::uint32_t high = address[4] | static_cast<std::uint32_t>(address[5]) << 8 | reg::rah::av.put();
        for (unsigned i = 0; i < 128; ++i)
            if (card.nic.get(Reg::ral, i) == low && card.nic.get(Reg::rah, i) == high) return i;
        throw std::runtime_error("no such address");
    }

    World world;
    Device on = witness_device(3);
    Card card;
};

const verify::Counterexample& only(const verify::Verdict& verdict, Fault fault) {
    INFO(text(verdict));
    const auto found = std::ranges::find(verdict.examples, fault, &verify::Counterexample::fault);
    REQUIRE(found != verdict.examples.end());
    return *found;
}

}  // namespace

TEST_CASE("a planned card is found to agree, and the limits that it does so but for are counted", "[unit]") {
    Case one;
    const verify::Verdict verdict = one.check();
    INFO(text(verdict));
    CHECK(verdict.holds());
    CHECK(verdict.idle.empty());
    CHECK(verdict.walks > verdict.classes);  // something was left open, and tried both ways
    CHECK(text(verdict).starts_with("NIC and software agree: "));
    CHECK(text(verdict).find(offload::text(offload::Limit::guest_tags)) != std::string::npos);
}

TEST_CASE("a VF that is let into another tenant's V.VLAN is told with a frame that gets there", "[unit][R98]") {
    Case one;
    one.card.nic.put(Reg::pfvlvfb, 2 * one.vlan_slot(vvlans[0]), 0x107);  // VF 2 as well
    const verify::Verdict verdict = one.check();
    const verify::Counterexample& leak = only(verdict, Fault::leak);
    CHECK(leak.port == first_vf + 2);
    CHECK(leak.what.find("of instance 1") != std::string::npos);
    CHECK(std::ranges::find(leak.expected, std::string("port 12 of instance 2 (VF 2)")) == leak.expected.end());
    CHECK(std::ranges::find(leak.got, std::string("port 12 of instance 2 (VF 2)")) != leak.got.end());
    // The model brings its bytes there.
    REQUIRE(leak.enter);
    REQUIRE(leak.enter->by == Enter::By::uplink);
    CHECK((one.card.nic.wire(leak.frame).pools() & pool_bit(2)) != 0);
    const std::string words = text(leak);
    for (const char* word : {"a frame leaves its instance", "alone", "together", "RAL/RAH[", "PFVLVF[", "as  "}) {
        INFO(words);
        CHECK(words.find(word) != std::string::npos);
    }
}

TEST_CASE("a VF that may send from any address, or add another tag, is told", "[unit][R98]") {
    Case one;
    SECTION("no check of sources") {
        one.card.nic.put(Reg::pfvfspoof, 0, 0x0606);
        const verify::Verdict verdict = one.check();
        const verify::Counterexample& extra = only(verdict, Fault::extra);
        CHECK(extra.expected.empty());
        CHECK(extra.enter->by == Enter::By::pool);
        CHECK(extra.enter->pool == 0);
    }
    SECTION("another tenant's tag") {
        one.card.nic.put(Reg::pfvmvir, 2, reg::pfvmvir::port_vlan.put(vvlans[0]) | reg::pfvmvir::vlana.put(1));
        one.card.nic.put(Reg::pfvfspoof, 0, 0x0307);
        CHECK(only(one.check(), Fault::leak).enter->pool == 2);
    }
    SECTION("a VF that nobody is on") {
        one.card.nic.set_bits(Reg::pfvfte, 0, 1U << 5);
        const verify::Verdict verdict = one.check();
        const verify::Counterexample& leak = only(verdict, Fault::leak);
        CHECK(leak.enter->pool == 5);
        CHECK(leak.enter->port == 0);
        CHECK(leak.what.find("by pool 5, which is no vPort's") != std::string::npos);
    }
}

TEST_CASE("what the datasheets leave open is named where it matters", "[unit]") {
    Case one;
    one.card.nic.put(Reg::pfvfre, 0, 0x105);  // not VF 1
    const verify::Verdict verdict = one.check();
    const verify::Counterexample& lost = only(verdict, Fault::lost);
    CHECK(lost.port == first_vf + 1);
    CHECK(lost.assumed.empty());
    const verify::Counterexample& extra = only(verdict, Fault::extra);
    CHECK(extra.port == up);
    CHECK(extra.assumed == std::vector<std::string>{"disabled_pool_is_unknown"});
}

TEST_CASE("what is lost on the way to or from the NIC is told", "[unit]") {
    Case one;
    SECTION("an address whose VM went elsewhere") {
        one.world.fdb.erase({1, vmac(0)});
        one.world.remote_mac(1, vmac(0), 0).fdb.at({1, vmac(0)}).flags |= IVDS_FDB_PLAIN;
        const verify::Verdict verdict = one.check();
        CHECK(only(verdict, Fault::lost).port == up);
    }
    SECTION("an address that the NIC does not have") {
        one.card.nic.put(Reg::rah, one.mac_slot(vmac(6)), 0);
        CHECK(only(one.check(), Fault::extra).expected == std::vector<std::string>{"port 20 of instance 1"});
    }
    SECTION("a PF whose MTU does not take the tags") {
        one.world.ports.at(up).mtu_bytes = 1500;
        const verify::Verdict verdict = one.check();
        const verify::Counterexample& lost = only(verdict, Fault::lost);
        CHECK(lost.enter->port == first_soft);
        CHECK(lost.frame.size() == 1514);
    }
    SECTION("a VF that does not take its tag off") {
        one.card.nic.put(Reg::rxdctl, 2, reg::rxdctl::enable.put());
        CHECK(only(one.check(), Fault::altered).port == first_vf + 1);
    }
    SECTION("switching off") {
        one.card.nic.put(Reg::pfdtxgswc, 0, 0);
        CHECK(only(one.check(), Fault::lost).enter->by == Enter::By::pool);
    }
}

TEST_CASE("a vPort in the NIC with what the NIC does not do is told", "[unit]") {
    Case one;
    ivds_port& port = one.world.ports.at(first_vf);
    SECTION("rules") {
        port.acl_in = 1;
    }
    SECTION("an inspector") {
        port.inspector = 40;
    }
    SECTION("a mirror") {
        port.mirror_drop = 1;
    }
    SECTION("a rate to its VM") {
        port.rate[IVDS_WAY_OUT].ns_per_mib = 1;
    }
    SECTION("a DSCP") {
        port.dscp = 11;
    }
    const verify::Verdict verdict = one.check();
    CHECK(verdict.found == 1);
    CHECK(only(verdict, Fault::policy).port == first_vf);
    CHECK_FALSE(only(verdict, Fault::policy).enter);
}

TEST_CASE("mirrors that are the NIC's are walked, and a rule that copies other frames or to others is told",
          "[unit]") {
    World world = two_tenants();
    world.span(5, first_vf + 2, {first_vf});
    Case one(std::move(world));
    REQUIRE(one.check().holds());
    REQUIRE(one.card.nic.get(Reg::pfmrctl) == (reg::pfmrctl::vpme.put() | reg::pfmrctl::mp.put(2)));
    SECTION("other sources") {
        one.card.nic.put(Reg::pfmrvm, 0, 0b11);
        const verify::Verdict verdict = one.check();
        CHECK(only(verdict, Fault::extra).port == first_vf + 2);
    }
    SECTION("another target") {
        one.card.nic.put(Reg::pfmrctl, 0, reg::pfmrctl::vpme.put() | reg::pfmrctl::mp.put(1));
        CHECK(only(one.check(), Fault::extra).port == first_vf + 1);
    }
    SECTION("none") {
        one.card.nic.put(Reg::pfmrctl, 0, 0);
        CHECK(only(one.check(), Fault::lost).port == first_vf + 2);
    }
    SECTION("what it is asked for besides") {
        one.world.ports.at(first_vf).mirror_in = 1U << 5;
        const verify::Verdict verdict = one.check();
        CHECK(only(verdict, Fault::policy).what.find("session 5") != std::string::npos);
    }
    SECTION("of software's ports") {
        one.world.ports.at(first_soft).mirror_out = 1U << 5;
        CHECK(only(one.check(), Fault::policy).what.find("which is not the NIC's") != std::string::npos);
    }
}

TEST_CASE("registers that contradict each other, or hide what decides, are told", "[unit]") {
    Case one;
    SECTION("one address twice") {
        one.card.nic.mac(40, vmac(0), {2});
        CHECK(only(one.check(), Fault::undefined).what.find("hold one address") != std::string::npos);
    }
    SECTION("one V.VLAN twice") {
        one.card.nic.put(Reg::pfvlvf, 40, reg::pfvlvf::vlan_id.put(vvlans[0]) | reg::pfvlvf::vi_en.put());
        CHECK(only(one.check(), Fault::undefined).what.find("PFVLVF") != std::string::npos);
    }
    SECTION("pools of another number") {
        one.card.nic.put(Reg::gpie, 0, reg::gpie::vtmode.put(2));
        CHECK(only(one.check(), Fault::undefined).what.find("GPIE") != std::string::npos);
    }
    SECTION("filters of Flow Director") {
        one.card.nic.put(Reg::fdirctrl, 0, reg::fdirctrl::pballoc.put(1) | reg::fdirctrl::perfect.put());
        CHECK(one.check().holds());
        one.card.nic.put(Reg::fdirhash, 0, 1);
        (void)one.card.nic.get(Reg::fdirhash);
        one.card.nic.put(Reg::fdircmd, 0, reg::fdircmd::cmd.put(reg::fdircmd::add));
        CHECK(only(one.check(), Fault::hidden).what.find("Flow Director") != std::string::npos);
    }
}

TEST_CASE("a filter that moves frames to another tenant's queue is told, whether it can or not", "[unit]") {
    Case one;
    one.card.nic.put(Reg::l34timir, 3, reg::l34timir::must_be_one.put() | reg::l34timir::rx_queue.put(4));
    one.card.nic.put(Reg::sdpqf, 3, 0x5000'0000);  // destination port 80
    one.card.nic.put(Reg::ftqf, 3,
                     reg::ftqf::ignore_source.put() | reg::ftqf::ignore_destination.put() |
                         reg::ftqf::ignore_source_port.put() | reg::ftqf::ignore_protocol.put() |
                         reg::ftqf::ignore_pool.put() | reg::ftqf::queue_en.put());
    const verify::Verdict verdict = one.check();
    const verify::Counterexample& leak = only(verdict, Fault::leak);
    CHECK(leak.assumed == std::vector<std::string>{"filters_cross_pools"});
    CHECK(leak.frame_text.find("-> 80") != std::string::npos);
    CHECK(text(leak).find("if        filters_cross_pools") != std::string::npos);
}

TEST_CASE("a VF whose own queue is off counts as one that does not listen", "[unit]") {
    Case one;
    one.card.nic.put(Reg::rxdctl, 0, 0);
    const verify::Verdict verdict = one.check();
    CHECK(verdict.idle == std::set<unsigned>{0});
    CHECK(text(verdict).find("VF 0 does not listen just now") != std::string::npos);
}

TEST_CASE("registers that are not there are no image", "[unit]") {
    struct Gone final : Registers {
        Result<std::uint32_t> read(std::uint32_t /*offset*/) override { return ~0U; }
        Result<> write(std::uint32_t /*offset*/, std::uint32_t /*value*/) override { return {}; }
    } gone;
    const auto image = verify::Nic82599::read(gone);
    REQUIRE_FALSE(image);
    CHECK(image.error().id == "IVDS-O011");
}
