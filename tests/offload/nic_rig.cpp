// SPDX-License-Identifier: Apache-2.0
#include "nic_rig.h"

#include <fmt/format.h>

#include <catch2/catch_test_macros.hpp>

namespace ivds::test {

namespace {

std::uint64_t bits(std::initializer_list<unsigned> pools) {
    std::uint64_t set = 0;
    for (const unsigned pool : pools) set |= std::uint64_t{1} << pool;
    return set;
}

}  // namespace

// In the maker's order: reset, what is undefined, layout of pools and queues, filters, queues, enables.
Nic::Nic(const Setup& setup) : model(setup.uncertain) {
    put(Reg::ctrl, reg::ctrl::rst.put());
    const std::span<const Register> rows = reg::map().rows();
    for (std::size_t row = 0; row < rows.size(); ++row) {
        if (!rows[row].undefined) continue;
        const auto which = static_cast<Reg>(row);
        for (unsigned i = 0; i < rows[row].count(); ++i)
            put(which, i, which == Reg::l34timir ? reg::l34timir::must_be_one.put() : 0);
    }
    const bool wide = setup.queue_mode == reg::mrqc::vt32_rss;
    const std::uint32_t pools_code = wide ? 2 : 3;
    put(Reg::mrqc, reg::mrqc::mrqe.put(setup.queue_mode));
    put(Reg::gpie, reg::gpie::vtmode.put(pools_code));
    put(Reg::gcr_ext, reg::gcr_ext::vt_mode.put(pools_code));
    put(Reg::pfvtctl, reg::pfvtctl::vt_en.put() | reg::pfvtctl::def_pl.put(pf) |
                          reg::pfvtctl::dis_def_pl.put(setup.default_pool ? 0 : 1) |
                          reg::pfvtctl::rpl_en.put(setup.replicate ? 1 : 0));
    const std::uint32_t arbiters = get(Reg::rttdcs);
    put(Reg::rttdcs, arbiters | reg::rttdcs::arbdis.put());
    put(Reg::mtqc, wide ? reg::mtqc::vt32 : reg::mtqc::vt64);
    put(Reg::rttdcs, arbiters);

    put(Reg::fctrl, setup.fctrl);
    put(Reg::mcstctrl, reg::mcstctrl::mfe.put());
    put(Reg::vlnctrl, get(Reg::vlnctrl) | reg::vlnctrl::vfe.put());
    if (setup.two_tags) {
        put(Reg::ctrl_ext, reg::ctrl_ext::extended_vlan.put());
        put(Reg::dmatxctl, get(Reg::dmatxctl) | reg::dmatxctl::gdv.put());
        put(Reg::exvet, reg::exvet::vet_ext.put(0x88a8));
    }
    for (unsigned queue = 0; queue < Model82599::queues; ++queue) {
        put(Reg::rxdctl, queue, reg::rxdctl::enable.put());
        put(Reg::txdctl, queue, reg::txdctl::enable.put());
        put(Reg::pfqde, reg::pfqde::we.put() | reg::pfqde::queue_idx.put(queue) | reg::pfqde::qde.put());
        (void)get(Reg::status);
    }
    put(Reg::ral, 0, 0);
    put(Reg::rah, 0, 0);
    put(Reg::fcrth, 0, reg::fcrth::rth.put(0x1000));
    if (setup.pools_on)
        for (unsigned word = 0; word < 2; ++word) {
            put(Reg::pfvfre, word, ~0U);
            put(Reg::pfvfte, word, ~0U);
        }
    put(Reg::pfdtxgswc, reg::pfdtxgswc::lbe.put(setup.switching ? 1 : 0));
    put(Reg::dmatxctl, get(Reg::dmatxctl) | reg::dmatxctl::te.put());
    put(Reg::rxctrl, reg::rxctrl::rxen.put());
    model.check_settled();
}

Nic::~Nic() {
    for (const Violation& violation : model.violations())
        UNSCOPED_INFO(text(violation.kind) << ": " << violation.what);
    CHECK(model.violations().empty());
}

std::uint32_t Nic::get(Reg which, unsigned element) {
    return *model.read(reg::offset(which, element));
}

void Nic::put(Reg which, unsigned element, std::uint32_t value) {
    (void)model.write(reg::offset(which, element), value);  // what it makes of it, the violations tell
}

void Nic::set_bits(Reg which, unsigned element, std::uint32_t more) {
    put(which, element, get(which, element) | more);
}

void Nic::mac(unsigned slot, const Mac& address, std::initializer_list<unsigned> pools) {
    put(Reg::mpsar, 2 * slot, static_cast<std::uint32_t>(bits(pools)));
    put(Reg::mpsar, 2 * slot + 1, static_cast<std::uint32_t>(bits(pools) >> 32));
    put(Reg::ral, slot, address[0] | address[1] << 8 | address[2] << 16 | std::uint32_t{address[3]} << 24);
    put(Reg::rah, slot, address[4] | std::uint32_t{address[5]} << 8 | reg::rah::av.put());
    put(Reg::ral, 0, get(Reg::ral, 0));
    put(Reg::rah, 0, get(Reg::rah, 0));
}

void Nic::forget_mac(unsigned slot) {
    put(Reg::rah, slot, 0);
    put(Reg::ral, slot, 0);
}

void Nic::vlan(unsigned slot, unsigned vid, std::initializer_list<unsigned> pools) {
    put(Reg::pfvlvfb, 2 * slot, static_cast<std::uint32_t>(bits(pools)));
    put(Reg::pfvlvfb, 2 * slot + 1, static_cast<std::uint32_t>(bits(pools) >> 32));
    put(Reg::pfvlvf, slot, reg::pfvlvf::vlan_id.put(vid) | reg::pfvlvf::vi_en.put());
    set_bits(Reg::vfta, vid / 32, 1U << (vid % 32));
}

void Nic::accept(unsigned pool, std::initializer_list<Field> flags) {
    std::uint32_t value = 0;
    for (const Field flag : flags) value |= flag.put();
    put(Reg::pfvml2flt, pool, value);
}

void Nic::hash(Reg table, const Mac& address) {
    const unsigned bit = (address[4] >> 4 | address[5] << 4) & 0xfff;
    set_bits(table, bit / 32, 1U << (bit % 32));
}

void Nic::port_vlan(unsigned pool, std::uint16_t tci) {
    const std::uint32_t enabled = get(Reg::pfvfte, pool / 32);
    put(Reg::pfvfte, pool / 32, enabled & ~(1U << (pool % 32)));
    put(Reg::pfvmvir, pool, reg::pfvmvir::port_vlan.put(tci) | reg::pfvmvir::vlana.put(reg::pfvmvir::always));
    put(Reg::pfvfte, pool / 32, enabled);
}

void Nic::spoof_check(unsigned pool, bool vlan) {
    const std::uint32_t bit = 1U << (pool % 8);
    set_bits(Reg::pfvfspoof, pool / 8, reg::pfvfspoof::macas.put(bit) | reg::pfvfspoof::vlanas.put(vlan ? bit : 0));
}

void Nic::mirror(unsigned rule, Field type, unsigned to) {
    put(Reg::pfmrctl, rule, type.put() | reg::pfmrctl::mp.put(to));
}

std::vector<Violation> Nic::take() {
    std::vector<Violation> taken = model.violations();
    model.forget_violations();
    return taken;
}

std::string who(const Outcome& outcome) {
    std::string out;
    const auto add = [&](const std::string& word) { out += (out.empty() ? "" : " ") + word; };
    if (outcome.on_wire()) add("wire");
    for (const Delivery& delivery : outcome.deliveries)
        if (!delivery.to_wire) add(delivery.pool == pf ? "pf" : fmt::format("{}", delivery.pool));
    return out.empty() ? "nobody" : out;
}

const Delivery& to(const Outcome& outcome, unsigned pool) {
    for (const Delivery& delivery : outcome.deliveries)
        if (!delivery.to_wire && delivery.pool == pool) return delivery;
    FAIL("pool " << pool << " got nothing");
    return outcome.deliveries.front();
}

Reason why_dropped(const Outcome& outcome) {
    REQUIRE(outcome.deliveries.empty());
    REQUIRE(outcome.drops.size() == 1);
    return outcome.drops[0].reason;
}

Mac vm(unsigned n) {
    return {0x02, 0, 0, 0, 0, static_cast<std::uint8_t>(n)};
}

Bytes frame(const Mac& dst, const Mac& src) {
    return eth(dst, src) / ip4_udp(46);
}
Bytes frame(const Mac& dst, const Mac& src, std::uint16_t tci) {
    const Layer one = tag(tpid_c, tci & 0xfff, static_cast<std::uint8_t>(tci >> 13), (tci >> 12 & 1) != 0);
    return eth(dst, src) / one / ip4_udp(46);
}
Bytes qinq(const Mac& dst, const Mac& src, std::uint16_t outer, std::uint16_t inner) {
    return eth(dst, src) / tag(tpid_s, outer) / tag(tpid_c, inner) / ip4_udp(46);
}

}  // namespace ivds::test
