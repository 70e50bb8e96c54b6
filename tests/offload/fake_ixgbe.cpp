// SPDX-License-Identifier: Apache-2.0
#include "fake_ixgbe.h"

#include <algorithm>

namespace ivds::test {

using namespace offload;
using namespace offload::i82599;

class FakeIxgbe::Bar final : public Registers {
public:
    explicit Bar(FakeIxgbe& ixgbe) : ixgbe_(ixgbe) {}
    Result<std::uint32_t> read(std::uint32_t offset) override {
        if (ixgbe_.gone) return 0xffffffff;
        const auto found = ixgbe_.values_.find(offset);
        return found == ixgbe_.values_.end() ? 0 : found->second;
    }
    Result<> write(std::uint32_t offset, std::uint32_t value) override {
        const auto at = map().locate(offset);
        if (!at) return fail(Code::invalid, "TEST", "a register that the chip does not have");
        if (map().row(at->row).access == Access::ro) return fail(Code::invalid, "TEST", "a register to be read only");
        if (ixgbe_.before_write)
            if (auto done = ixgbe_.before_write(offset); !done) return done;
        ixgbe_.values_[offset] = value & map().row(at->row).writable;
        return {};
    }

private:
    FakeIxgbe& ixgbe_;
};

class FakeIxgbe::Link final : public PfLink {
public:
    explicit Link(FakeIxgbe& ixgbe) : ixgbe_(ixgbe) {}
    Result<PfView> view() override { return ixgbe_.view; }
    // The old address goes before the new one comes; without room for that, the VF has none.
    Result<> set_vf_mac(unsigned vf, const Mac& mac) override {
        Mac& now = ixgbe_.view.vfs.at(vf).mac;
        ixgbe_.remove_filter(now, vf);
        now = {};
        if (!ixgbe_.add_filter(mac, vf)) return fail(Code::exhausted, "TEST", "the driver says ENOMEM");
        now = mac;
        return {};
    }
    Result<> set_vf_vlan(unsigned vf, std::uint16_t vlan, std::uint8_t pcp) override {
        VfSettings& now = ixgbe_.view.vfs.at(vf);
        if (now.vlan != 0) {
            ixgbe_.join(now.vlan, vf, false);
            ixgbe_.join(0, vf, true);
            now.vlan = 0;
            now.pcp = 0;
            ixgbe_.write_tag(vf);
            ixgbe_.accept_untagged(vf, true);
        }
        if (vlan == 0 && pcp == 0) return {};
        ixgbe_.join(vlan, vf, true);
        ixgbe_.join(0, vf, false);
        now.vlan = vlan;
        now.pcp = pcp;
        ixgbe_.write_tag(vf);
        ixgbe_.accept_untagged(vf, false);
        return {};
    }
    Result<> set_vf_spoof_check(unsigned vf, bool on) override {
        ixgbe_.view.vfs.at(vf).spoof_check = on;
        ixgbe_.spoof_check(vf, on);
        return {};
    }
    Result<> set_vf_trusted(unsigned vf, bool on) override {
        ixgbe_.view.vfs.at(vf).trusted = on;
        return {};
    }
    Result<> set_vf_rate(unsigned vf, unsigned mbps) override {
        if (!ixgbe_.view.carrier || (mbps != 0 && mbps <= 10) || mbps > 10'000)
            return fail(Code::system, "TEST", "the driver says EINVAL");
        ixgbe_.view.vfs.at(vf).rate_mbps = mbps;
        return {};
    }
    Result<> set_vf_link(unsigned vf, bool on) override {
        if (!ixgbe_.knows_link_state) return fail(Code::unsupported, "TEST", "the driver says EOPNOTSUPP");
        ixgbe_.view.vfs.at(vf).link_off = !on;
        ixgbe_.link_enable_.at(vf) = on && ixgbe_.view.carrier;
        ixgbe_.turn_as_link_says(vf);
        return {};
    }
    Result<> set_promiscuous(bool on) override {
        ixgbe_.view.promiscuous = on;
        ixgbe_.set_rx_mode();
        return {};
    }
    Result<> set_address(const Mac& mac, bool on) override {
        if (on == ixgbe_.view.addresses.contains(mac)) return {};
        if (on && !ixgbe_.add_filter(mac, ixgbe_.pf()))
            return fail(Code::exhausted, "TEST", "the driver says ENOMEM");
        if (on) {
            ixgbe_.view.addresses.insert(mac);
        } else {
            ixgbe_.view.addresses.erase(mac);
            ixgbe_.remove_filter(mac, ixgbe_.pf());
        }
        ixgbe_.set_rx_mode();
        return {};
    }
    Result<> set_veb() override {
        ixgbe_.put(Reg::pfdtxgswc, 0, pfdtxgswc::lbe.put());
        return {};
    }

private:
    FakeIxgbe& ixgbe_;
};

FakeIxgbe::FakeIxgbe(unsigned vfs) {
    view.mac = {0xa0, 0x36, 0x9f, 0, 0, 0};
    view.up = view.carrier = true;
    take_vfs(vfs);
}

std::unique_ptr<PfLink> FakeIxgbe::link() {
    return std::make_unique<Link>(*this);
}
std::unique_ptr<Registers> FakeIxgbe::registers() {
    return std::make_unique<Bar>(*this);
}

std::uint32_t FakeIxgbe::get(Reg reg, unsigned element) const {
    const auto found = values_.find(offset(reg, element));
    return found == values_.end() ? 0 : found->second;
}
void FakeIxgbe::put(Reg reg, unsigned element, std::uint32_t value) {
    values_[offset(reg, element)] = value;
}
void FakeIxgbe::set_bits(Reg reg, unsigned element, std::uint32_t mask, std::uint32_t value) {
    put(reg, element, (get(reg, element) & ~mask) | (value & mask));
}
void FakeIxgbe::set_pool_bit(Reg reg, unsigned pool, bool on, unsigned pair) {
    const std::uint32_t bit = 1U << (pool % 32);
    set_bits(reg, 2 * pair + pool / 32, bit, on ? bit : 0);
}
bool FakeIxgbe::pool_bit_of(Reg reg, unsigned pool, unsigned pair) const {
    return (get(reg, 2 * pair + pool / 32) & 1U << (pool % 32)) != 0;
}

void FakeIxgbe::take_vfs(unsigned count) {
    view.vfs.assign(count, {});
    link_enable_.assign(count, view.carrier);
    for (unsigned vf = 0; vf < count; ++vf)
        view.vfs[vf] = {.mac = {0xf2, 0, 0, 0, 2, static_cast<std::uint8_t>(vf)}, .spoof_check = true};
    reset_pf();
    for (unsigned vf = 0; vf < count; ++vf) reset_vf(vf);
}

void FakeIxgbe::give_device_address(const Mac& mac) {
    view.addresses.insert(mac);
    view.device_addresses.insert(mac);
    add_filter(mac, pf());
    set_rx_mode();
}

bool FakeIxgbe::add_filter(const Mac& mac, unsigned pool) {
    const auto free = std::ranges::find(filters_, false, &Filter::used);
    if (free == filters_.end()) return false;
    *free = {.mac = mac, .pool = pool, .used = true, .modified = true};
    write_filters(false);
    return true;
}

void FakeIxgbe::remove_filter(const Mac& mac, unsigned pool) {
    for (Filter& filter : filters_)
        if (filter.used && filter.mac == mac && filter.pool == pool) {
            filter.used = false;
            filter.modified = true;
            return write_filters(false);
        }
}

// A pool is added to those that the entry has in MPSAR; they are only ever cleared together.
void FakeIxgbe::write_filters(bool all) {
    for (unsigned slot = 0; slot < filters_.size(); ++slot) {
        Filter& filter = filters_[slot];
        if (!all && !filter.modified) continue;
        filter.modified = false;
        const Mac& mac = filter.mac;
        if (filter.used) {
            set_pool_bit(Reg::mpsar, filter.pool, true, slot);
            put(Reg::ral, slot,
                mac[0] | std::uint32_t{mac[1]} << 8 | std::uint32_t{mac[2]} << 16 | std::uint32_t{mac[3]} << 24);
            put(Reg::rah, slot, mac[4] | std::uint32_t{mac[5]} << 8 | rah::av.put());
        } else {
            put(Reg::ral, slot, 0);
            put(Reg::rah, slot, 0);
            put(Reg::mpsar, 2 * slot, 0);
            put(Reg::mpsar, 2 * slot + 1, 0);
        }
    }
}

// What a VF listens to is written anew with it, and so is the whole table of addresses.
void FakeIxgbe::set_rx_mode() {
    const std::uint32_t modes = fctrl::upe.put() | fctrl::mpe.put();
    set_bits(Reg::fctrl, 0, modes | fctrl::bam.put(), (view.promiscuous ? modes : 0) | fctrl::bam.put());
    set_bits(Reg::pfvml2flt, pf(), pfvml2flt::mpe.put() | pfvml2flt::rompe.put() | pfvml2flt::rope.put(),
             view.promiscuous ? pfvml2flt::mpe.put() : 0);
    write_filters(true);
    if (view.promiscuous) let_all_vlans_in();
}

void FakeIxgbe::change_lists() {
    set_rx_mode();
}

void FakeIxgbe::let_all_vlans_in() {
    if (all_vlans_) return;
    all_vlans_ = true;
    for (unsigned slot = 1; slot < 64; ++slot) set_pool_bit(Reg::pfvlvfb, pf(), true, slot);
    for (unsigned i = 0; i < 128; ++i) put(Reg::vfta, i, 0xffffffff);
}

// The entry of the VLAN, else the last that is free, else 64. Entry 0 is VLAN 0's.
unsigned FakeIxgbe::vlvf_slot(std::uint16_t vid, bool or_free) const {
    if (vid == 0) return 0;
    unsigned free = 64;
    for (unsigned slot = 63; slot > 0; --slot) {
        const std::uint32_t value = get(Reg::pfvlvf, slot);
        if (value == (pfvlvf::vi_en.put() | pfvlvf::vlan_id.put(vid))) return slot;
        if (value == 0 && free == 64) free = slot;
    }
    return or_free ? free : 64;
}

void FakeIxgbe::join(std::uint16_t vid, unsigned vf, bool on) {
    const std::uint32_t bit = 1U << (vid % 32);
    const std::uint32_t word = get(Reg::vfta, vid / 32U);
    const std::uint32_t change = bit & (on ? ~word : word);
    if (const unsigned slot = vlvf_slot(vid, true); slot < 64) {
        set_pool_bit(Reg::pfvlvfb, vf, on, slot);
        if (!on && get(Reg::pfvlvfb, 2 * slot) == 0 && get(Reg::pfvlvfb, 2 * slot + 1) == 0) {
            put(Reg::vfta, vid / 32U, word ^ change);
            put(Reg::pfvlvf, slot, 0);
        } else {
            put(Reg::pfvlvf, slot, pfvlvf::vi_en.put() | pfvlvf::vlan_id.put(vid));
            if (on) put(Reg::vfta, vid / 32U, word ^ change);
        }
    }
    if (!on && all_vlans_) leave_to_default_pool(vid);
}

void FakeIxgbe::leave_to_default_pool(std::uint16_t vid) {
    const unsigned slot = vlvf_slot(vid, false);
    if (slot == 0 || slot == 64) return;
    const std::uint64_t members = std::uint64_t{get(Reg::pfvlvfb, 2 * slot + 1)} << 32 | get(Reg::pfvlvfb, 2 * slot);
    if ((members & ~(std::uint64_t{1} << pf())) == 0) put(Reg::pfvlvf, slot, 0);
}

void FakeIxgbe::leave_all(unsigned vf) {
    for (unsigned slot = 64; slot-- > 0;) {
        if (!pool_bit_of(Reg::pfvlvfb, vf, slot)) continue;
        set_pool_bit(Reg::pfvlvfb, vf, false, slot);
        const std::uint64_t rest = std::uint64_t{get(Reg::pfvlvfb, 2 * slot + 1)} << 32 | get(Reg::pfvlvfb, 2 * slot);
        if ((rest & ~(std::uint64_t{1} << pf())) != 0) continue;
        const std::uint32_t value = get(Reg::pfvlvf, slot);
        if (value == 0) continue;
        if (rest == 0) {
            const std::uint32_t vid = pfvlvf::vlan_id(value);
            set_bits(Reg::vfta, vid / 32, 1U << (vid % 32), 0);
        }
        put(Reg::pfvlvf, slot, 0);
        if (!all_vlans_) set_pool_bit(Reg::pfvlvfb, pf(), false, slot);
    }
}

void FakeIxgbe::write_tag(unsigned vf) {
    const VfSettings& now = view.vfs.at(vf);
    const std::uint32_t tci = now.vlan | static_cast<std::uint32_t>(now.pcp << 13);
    put(Reg::pfvmvir, vf, tci != 0 ? pfvmvir::port_vlan.put(tci) | pfvmvir::vlana.put(pfvmvir::always) : 0);
}

void FakeIxgbe::accept_untagged(unsigned vf, bool on) {
    set_bits(Reg::pfvml2flt, vf, pfvml2flt::bam.put() | pfvml2flt::aupe.put(),
             pfvml2flt::bam.put() | pfvml2flt::aupe.put(on ? 1 : 0));
}

void FakeIxgbe::spoof_check(unsigned vf, bool on) {
    const std::uint32_t bit = 1U << (vf % 8);
    const std::uint32_t bits = pfvfspoof::macas.put(bit) | pfvfspoof::vlanas.put(bit);
    set_bits(Reg::pfvfspoof, vf / 8, bits, on ? bits : 0);
}

void FakeIxgbe::turn_as_link_says(unsigned vf) {
    set_pool_bit(Reg::pfvfte, vf, link_enable_.at(vf));
    set_pool_bit(Reg::pfvfre, vf, link_enable_.at(vf));
}

void FakeIxgbe::reset_vf(unsigned vf) {
    const VfSettings& now = view.vfs.at(vf);
    leave_all(vf);
    join(now.vlan, vf, true);
    accept_untagged(vf, now.vlan == 0);
    write_tag(vf);
    set_rx_mode();
    remove_filter(now.mac, vf);
    add_filter(now.mac, vf);
    turn_as_link_says(vf);
}

// The whole device is reset; the driver knows what it was told, but VFs get theirs only when they reset themselves.
void FakeIxgbe::reset_pf() {
    const std::uint32_t lbe = values_.empty() ? pfdtxgswc::lbe.put() : get(Reg::pfdtxgswc);
    values_.clear();
    all_vlans_ = false;
    put(Reg::links, 0, links::up.put(view.carrier ? 1 : 0) | links::speed.put(3));
    put(Reg::mrqc, 0, pf() < 32 ? mrqc::vt32_rss : mrqc::vt64_rss);
    put(Reg::rxctrl, 0, rxctrl::rxen.put());
    put(Reg::vlnctrl, 0, vlnctrl::vet.put(0x8100) | vlnctrl::vfe.put());
    put(Reg::pfvtctl, 0, pfvtctl::vt_en.put() | pfvtctl::def_pl.put(pf()) | pfvtctl::rpl_en.put());
    // The PF's pool and those above it, which are nobody's.
    for (const Reg reg : {Reg::pfvfre, Reg::pfvfte}) {
        put(reg, pf() / 32, ~0U << (pf() % 32));
        put(reg, 1 - pf() / 32, pf() < 32 ? ~0U : 0);
    }
    put(Reg::pfdtxgswc, 0, lbe);
    put(Reg::pfvml2flt, pf(), pfvml2flt::bam.put() | pfvml2flt::aupe.put());
    filters_ = {};
    filters_[0] = {.mac = view.mac, .pool = pf(), .used = true};
    write_filters(true);
    for (const Mac& mac : view.addresses) add_filter(mac, pf());
    for (unsigned vf = 0; vf < pf(); ++vf) spoof_check(vf, view.vfs[vf].spoof_check);
    join(0, pf(), true);
    set_rx_mode();
}

}  // namespace ivds::test
