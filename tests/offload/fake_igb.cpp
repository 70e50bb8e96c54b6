// SPDX-License-Identifier: Apache-2.0
#include "fake_igb.h"

namespace ivds::test {

using namespace offload;
using namespace offload::i82576;

class FakeIgb::Bar final : public Registers {
public:
    explicit Bar(FakeIgb& igb) : igb_(igb) {}
    Result<std::uint32_t> read(std::uint32_t offset) override {
        if (igb_.gone) return 0xffffffff;
        if (const auto at = map().locate(offset); at && map().row(at->row).access == Access::wo) return 0;
        const auto found = igb_.values_.find(offset);
        return found == igb_.values_.end() ? 0 : found->second;
    }
    Result<> write(std::uint32_t offset, std::uint32_t value) override {
        const auto at = map().locate(offset);
        if (!at) return fail(Code::invalid, "TEST", "a register that the chip does not have");
        if (map().row(at->row).access == Access::ro) return fail(Code::invalid, "TEST", "a register to be read only");
        if (igb_.before_write)
            if (auto done = igb_.before_write(offset); !done) return done;
        igb_.values_[offset] = value & map().row(at->row).writable;
        return {};
    }

private:
    FakeIgb& igb_;
};

class FakeIgb::Link final : public PfLink {
public:
    explicit Link(FakeIgb& igb) : igb_(igb) {}
    Result<PfView> view() override { return igb_.view; }
    Result<> set_vf_mac(unsigned vf, const Mac& mac) override {
        igb_.view.vfs.at(vf).mac = mac;
        igb_.write_entry(23 - vf, mac, vf, true);
        return {};
    }
    Result<> set_vf_vlan(unsigned vf, std::uint16_t vlan, std::uint8_t pcp) override {
        VfSettings& now = igb_.view.vfs.at(vf);
        const std::uint16_t before = now.vlan;
        igb_.join(vlan, vf, true);
        now.vlan = vlan;
        now.pcp = pcp;
        igb_.write_vf(vf);
        if (before != vlan) igb_.join(before, vf, false);
        return {};
    }
    Result<> set_vf_spoof_check(unsigned vf, bool on) override {
        igb_.view.vfs.at(vf).spoof_check = on;
        const std::uint32_t bits = dtxswc::mac_check.put(1U << vf) | dtxswc::vlan_check.put(1U << vf);
        igb_.set_bits(Reg::dtxswc, 0, bits, on ? bits : 0);
        return {};
    }
    Result<> set_vf_trusted(unsigned vf, bool on) override {
        igb_.view.vfs.at(vf).trusted = on;
        return {};
    }
    Result<> set_vf_rate(unsigned vf, unsigned mbps) override {
        if (!igb_.view.carrier || mbps > 1000) return fail(Code::system, "TEST", "the driver says EINVAL");
        igb_.view.vfs.at(vf).rate_mbps = mbps;
        return {};
    }
    Result<> set_vf_link(unsigned, bool) override {
        return fail(Code::unsupported, "TEST", "the driver says EOPNOTSUPP");
    }
    Result<> set_address(const Mac&, bool) override { return fail(Code::system, "TEST", "nobody asks for that"); }
    Result<> set_veb() override { return fail(Code::unsupported, "TEST", "the driver says EOPNOTSUPP"); }
    Result<> set_promiscuous(bool on) override {
        igb_.view.promiscuous = on;
        igb_.write_modes();
        if (!on) return {};
        for (unsigned i = 0; i < 128; ++i) igb_.put(Reg::vfta, i, igb_.believed_vfta_[i] = 0xffffffff);
        for (unsigned i = 1; i < 32; ++i)
            igb_.set_bits(Reg::vlvf, i, vlvf::pools.put(1U << igb_.pf()), vlvf::pools.put(1U << igb_.pf()));
        return {};
    }

private:
    FakeIgb& igb_;
};

FakeIgb::FakeIgb(unsigned vfs) {
    view.mac = {0x52, 0x54, 0, 0x82, 0x57, 0};
    view.up = view.carrier = true;
    take_vfs(vfs);
}

std::unique_ptr<PfLink> FakeIgb::link() {
    return std::make_unique<Link>(*this);
}
std::unique_ptr<Registers> FakeIgb::registers() {
    return std::make_unique<Bar>(*this);
}

std::uint32_t FakeIgb::get(Reg reg, unsigned element) const {
    const auto found = values_.find(offset(reg, element));
    return found == values_.end() ? 0 : found->second;
}
void FakeIgb::put(Reg reg, unsigned element, std::uint32_t value) {
    values_[offset(reg, element)] = value;
}
void FakeIgb::set_bits(Reg reg, unsigned element, std::uint32_t mask, std::uint32_t value) {
    put(reg, element, (get(reg, element) & ~mask) | (value & mask));
}

void FakeIgb::take_vfs(unsigned count) {
    view.vfs.assign(count, {});
    for (unsigned vf = 0; vf < count; ++vf)
        view.vfs[vf].mac = {0xf2, 0, 0, 0, 1, static_cast<std::uint8_t>(vf)};  // that its driver drew
    reset_pf();
    for (unsigned vf = 0; vf < count; ++vf) {
        Link(*this).set_vf_spoof_check(vf, true).value();
        reset_vf(vf);
    }
}

void FakeIgb::give_address(const Mac& mac) {
    view.addresses.insert(mac);
    unsigned slot = 1;
    while (address_slots_.contains(slot)) ++slot;
    address_slots_[slot] = mac;
    write_entry(slot, mac, pf(), true);
    write_modes();
}

// The driver changes a word of its own copy, and writes that.
void FakeIgb::write_vfta(std::uint16_t vid, bool on) {
    std::uint32_t& word = believed_vfta_.at(vid / 32U);
    const std::uint32_t bit = 1U << (vid % 32);
    const std::uint32_t next = on ? word | bit : view.promiscuous ? word : word & ~bit;
    word = next;
    put(Reg::vfta, vid / 32U, word);
}

// The last entry of the VLAN, else the last that is free. Entry 0 is VLAN 0's.
void FakeIgb::join(std::uint16_t vid, unsigned pool, bool on) {
    unsigned slot = 0;
    for (unsigned i = 31; vid != 0 && i > 0 && slot == 0; --i)
        if (vlvf::vlan_id(get(Reg::vlvf, i)) == vid) slot = i;
    if (slot == 0 && !on && vid != 0) return;
    for (unsigned i = 31; vid != 0 && i > 0 && slot == 0; --i)
        if (get(Reg::vlvf, i) == 0 || (get(Reg::vlvf, i) & ~vlvf::pools.put(1U << pf())) == 0) slot = i;
    std::uint32_t pools = vlvf::pools(get(Reg::vlvf, slot));
    pools = on ? pools | 1U << pool : pools & ~(1U << pool);
    write_vfta(vid, pools != 0);
    put(Reg::vlvf, slot, pools == 0 ? 0 : vlvf::vlan_id.put(vid) | vlvf::pools.put(pools) | vlvf::vi_en.put());
}

void FakeIgb::write_modes() {
    const std::uint32_t modes = rctl::upe.put() | rctl::mpe.put();
    set_bits(Reg::rctl, 0, modes | rctl::vfe.put(), (view.promiscuous ? modes : 0) | rctl::vfe.put());
    set_bits(Reg::vmolr, pf(), vmolr::rope.put() | vmolr::mpme.put(),
             view.promiscuous ? vmolr::rope.put() | vmolr::mpme.put() : 0);
    for (unsigned i = 0; i < 128; ++i) put(Reg::uta, i, view.promiscuous ? 0xffffffff : 0);
}

void FakeIgb::write_vf(unsigned vf) {
    const VfSettings& now = view.vfs.at(vf);
    const std::uint32_t tci = now.vlan | static_cast<std::uint32_t>(now.pcp << 13);
    put(Reg::vmvir, vf, tci != 0 ? vmvir::port_vlan.put(tci) | vmvir::vlana.put(vmvir::always) : 0);
    put(Reg::vmolr, vf, vmolr::bam.put() | vmolr::aupe.put(now.vlan == 0 ? 1 : 0) | vmolr::strvlan.put());
}

void FakeIgb::write_entry(unsigned slot, const Mac& mac, unsigned pool, bool valid) {
    put(Reg::ral, slot,
        mac[0] | std::uint32_t{mac[1]} << 8 | std::uint32_t{mac[2]} << 16 | std::uint32_t{mac[3]} << 24);
    put(Reg::rah, slot,
        mac[4] | std::uint32_t{mac[5]} << 8 | (valid ? rah::pools.put(1U << pool) | rah::av.put() : 0));
}

void FakeIgb::reset_vf(unsigned vf) {
    for (unsigned i = 0; i < 32; ++i) {
        const std::uint32_t value = get(Reg::vlvf, i);
        if ((vlvf::pools(value) & 1U << vf) == 0) continue;
        const std::uint32_t rest = value & ~vlvf::pools.put(1U << vf);
        put(Reg::vlvf, i, vlvf::pools(rest) == 0 ? 0 : rest);
    }
    view.vfs.at(vf).trusted = false;
    join(view.vfs.at(vf).vlan, vf, true);
    write_vf(vf);
    write_modes();
    write_entry(23 - vf, view.vfs.at(vf).mac, vf, true);
    set_bits(Reg::vfre, 0, 1U << vf, 1U << vf);
    set_bits(Reg::vfte, 0, 1U << vf, 1U << vf);
}

void FakeIgb::reset_pf() {
    values_.clear();
    believed_vfta_ = {};
    put(Reg::status, 0, status::link_up.put() | status::speed.put(2));
    put(Reg::mrqc, 0, mrqc::vmdq);
    put(Reg::vet, 0, vet::inner.put(0x8100) | vet::outer.put(0x8100));
    put(Reg::tctl, 0, tctl::en.put());
    put(Reg::rplolr, 0, rplolr::strvlan.put());
    for (unsigned queue = 0; queue < 8; ++queue) {
        put(Reg::rxdctl, queue, rxdctl::enable.put());
        put(Reg::txdctl, queue, txdctl::enable.put());
    }
    put(Reg::rctl, 0, rctl::rxen.put() | rctl::bam.put());
    put(Reg::vt_ctl, 0, vt_ctl::def_pl.put(pf()) | vt_ctl::rpl_en.put());
    put(Reg::vfre, 0, 1U << pf());
    put(Reg::vfte, 0, 1U << pf());
    put(Reg::dtxswc, 0, dtxswc::loopback.put());
    put(Reg::vmolr, pf(), vmolr::bam.put() | vmolr::aupe.put());
    write_entry(0, view.mac, pf(), true);
    for (const auto& [slot, mac] : address_slots_) write_entry(slot, mac, pf(), true);
    write_modes();
    for (unsigned vf = 0; vf < pf(); ++vf) {
        Link(*this).set_vf_spoof_check(vf, view.vfs[vf].spoof_check).value();
        write_vf(vf);
    }
    if (view.promiscuous) Link(*this).set_promiscuous(true).value();
}

}  // namespace ivds::test
