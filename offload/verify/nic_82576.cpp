// SPDX-License-Identifier: Apache-2.0
#include "verify/nic_82576.h"

#include <fmt/format.h>

#include <array>
#include <bit>
#include <map>
#include <utility>

namespace ivds::offload::verify {

using namespace i82576;

namespace {

constexpr std::array registers_read{
    Reg::status, Reg::ctrl_ext, Reg::vet,    Reg::rctl,   Reg::mta,    Reg::ral,  Reg::rah,
    Reg::vfta,   Reg::mrqc,     Reg::etqf,   Reg::rxdctl, Reg::txdctl, Reg::vfre, Reg::vfte,
    Reg::dtxswc, Reg::vmvir,    Reg::vt_ctl, Reg::rplolr, Reg::vmolr,  Reg::vlvf,
};

}  // namespace

Result<Image> Nic82576::read(Registers& registers) {
    Image image(map());
    for (const Reg reg : registers_read)
        if (auto done = image.read(registers, reg, [](unsigned) { return false; }); !done)
            return std::unexpected(done.error());
    if (auto there = image.check_there(); !there) return std::unexpected(there.error());
    return image;
}

Nic82576::Nic82576(Image read)
    : Nic(std::move(read), {.addresses = "RAL/RAH",
                            .groups = "VLVF",
                            .flags = "VMOLR",
                            .unicast = "UTA",
                            .multicast = "MTA",
                            .filter = "RCTL.VFE",
                            .address_check = "DTXSWC's check of addresses",
                            .vlan_check = "DTXSWC's check of VLANs"}) {
    pools_ = chip().pools;
    const std::uint32_t control = image_(Reg::rctl);
    replicates_ = vt_ctl::rpl_en(image_(Reg::vt_ctl)) != 0;
    filters_vlans_ = rctl::vfe(control) != 0;
    hash_shift_ = first_bits_of_hash[rctl::mo(control)];
    receiving_ = image_(Reg::vfre) & (pool_bit(pools_) - 1);
    sending_ = image_(Reg::vfte) & (pool_bit(pools_) - 1);
    // UTA cannot be read. The driver and a plan write all of it, with the ROPE of the default pool, the PF's.
    const unsigned pf = vt_ctl::def_pl(image_(Reg::vt_ctl)) % pools_;
    const std::uint32_t unicast = vmolr::rope(image_(Reg::vmolr, pf)) != 0 ? ~0U : 0;
    for (unsigned word = 0; word < 128; ++word) {
        unicast_[word] = unicast;
        multicast_[word] = image_(Reg::mta, word);
        admit(word, image_(Reg::vfta, word));
    }
    for (unsigned i = 0; i < chip().mac_entries; ++i) {
        const std::uint32_t high = image_(Reg::rah, i);
        if (rah::av(high) == 0) continue;
        add_address(image_(Reg::ral, i), high, i, rah::pools(high));
    }
    for (unsigned i = 0; i < chip().vlan_entries; ++i) {
        const std::uint32_t value = image_(Reg::vlvf, i);
        if (vlvf::vi_en(value) == 0) continue;
        add_group(static_cast<std::uint16_t>(vlvf::vlan_id(value)), i, vlvf::pools(value));
        if (vlvf::lvlan(value) != 0) local_ |= std::uint64_t{1} << i;
    }
    aupe_ = with_flag(vmolr::aupe);
    bam_ = with_flag(vmolr::bam);
    rompe_ = with_flag(vmolr::rompe);
    rope_ = with_flag(vmolr::rope);
    mpe_ = with_flag(vmolr::mpme);
}

PoolSet Nic82576::with_flag(Field flag) const {
    PoolSet set = 0;
    for (unsigned pool = 0; pool < pools_; ++pool)
        if (flag(image_(Reg::vmolr, pool)) != 0) set |= pool_bit(pool);
    return set;
}

bool Nic82576::can_send(unsigned pool) const {
    return (sending_ & pool_bit(pool)) != 0 && txdctl::enable(image_(Reg::txdctl, pool)) != 0;
}

std::uint16_t Nic82576::type_in() const {
    return static_cast<std::uint16_t>(vet::inner(image_(Reg::vet)));
}

bool Nic82576::looks_at_cfi() const {
    return rctl::cfien(image_(Reg::rctl)) != 0;
}

std::optional<std::uint16_t> Nic82576::adds_tag(unsigned pool) const {
    const std::uint32_t insert = image_(Reg::vmvir, pool);
    if (vmvir::vlana(insert) != vmvir::always) return std::nullopt;
    return static_cast<std::uint16_t>(vmvir::port_vlan(insert) & 0xfff);
}

Nic::Checks Nic82576::checks(unsigned pool) const {
    const std::uint32_t on = image_(Reg::dtxswc);
    return {.addresses = (dtxswc::mac_check(on) >> pool & 1U) != 0,
            .vlans = (dtxswc::vlan_check(on) >> pool & 1U) != 0};
}

Nic::Queues Nic82576::queues(unsigned pool) const {
    return {.sends = txdctl::enable(image_(Reg::txdctl, pool)) != 0,
            .receives = rxdctl::enable(image_(Reg::rxdctl, pool)) != 0};
}

// A single tag: the one that the filters look at comes first. Two: behind the outer one.
Nic82576::Seen Nic82576::parse(const Frame& frame, Doubts& doubts) const {
    Seen seen;
    const Tags& tags = frame.tags;
    const auto is = [&](unsigned at, std::uint32_t tpid) { return at < tags.size() && tags[at].tpid == tpid; };
    bool may_have_tag = true;
    if (ctrl_ext::extended_vlan(image_(Reg::ctrl_ext)) != 0) {
        if (is(0, vet::outer(image_(Reg::vet))))
            seen.tag_at = 1;
        else if (is(0, type_in()))
            may_have_tag = doubts.ask(&Uncertain::inner_tag_alone_counts);
    }
    if (may_have_tag && is(seen.tag_at, type_in())) seen.tag = tags[seen.tag_at];
    return seen;
}

bool Nic82576::passes_port(const Frame& frame, const Address* address) const {
    const std::uint32_t control = image_(Reg::rctl);
    if (frame.is_broadcast()) return rctl::bam(control) != 0 || rctl::mpe(control) != 0;
    if (address != nullptr) return true;
    if (frame.is_unicast()) return rctl::upe(control) != 0 || in_hash(Hash::unicast, frame.dst);
    return rctl::mpe(control) != 0 || in_hash(Hash::multicast, frame.dst);
}

void Nic82576::from_wire(const Frame& frame, Doubts& doubts, Passage& out, Trail* trail) const {
    const std::uint32_t control = image_(Reg::rctl);
    if (rctl::rxen(control) == 0) return note(trail, "RCTL.RXEN is 0: nothing is received");
    const Seen seen = parse(frame, doubts);
    const Address* address = this->address(frame.dst);
    if (!passes_port(frame, address)) return note(trail, "RCTL and the port's tables do not take the destination");
    if (seen.tag && filters_vlans_) {
        const unsigned vid = seen.tag->vid();
        if (!groups_[vid].admitted) return note(trail, "VFTA[{}] does not have VID {}", vid / 32, vid);
        if (rctl::cfien(control) != 0 && (seen.tag->tci >> 12 & 1U) != rctl::cfi(control))
            return note(trail, "RCTL.CFIEN: another CFI");
    }
    const PoolSet addressed = by_address(frame, address, doubts, trail);
    PoolSet pools = addressed & taking_tag(seen.tag);
    note_tag(seen.tag, addressed, pools, trail);
    const std::uint32_t virtualization = image_(Reg::vt_ctl);
    const bool nowhere = pools == 0 && vt_ctl::dis_def_pl(virtualization) == 0;
    if (nowhere || (!replicates_ && !frame.is_unicast() && addressed == 0)) {
        note(trail, "VT_CTL.DEF_PL: pool {}", vt_ctl::def_pl(virtualization));
        pools |= pool_bit(vt_ctl::def_pl(virtualization));
    }
    copy(frame, seen, pools & receiving_, out, trail);
}

void Nic82576::copy(const Frame& frame, const Seen& seen, PoolSet pools, Passage& out, Trail* trail) const {
    for (PoolSet left = pools; left != 0; left &= left - 1) {
        const auto pool = static_cast<unsigned>(std::countr_zero(left));
        Copy copy{.pool = pool,
                  .tags = frame.tags,
                  .stripped = std::nullopt,
                  .listens = rxdctl::enable(image_(Reg::rxdctl, pool)) != 0};
        if (!copy.listens) note(trail, "RXDCTL[{}] of pool {} is off", pool, pool);
        const bool strips = frame.is_unicast() ? vmolr::strvlan(image_(Reg::vmolr, pool)) != 0
                                               : rplolr::strvlan(image_(Reg::rplolr)) != 0;
        if (seen.tag && strips) {
            copy.stripped = seen.tag;
            copy.tags.erase(seen.tag_at);
        }
        out.copies.push_back(copy);
    }
}

void Nic82576::from_pool(unsigned pool, const Frame& frame, Doubts& doubts, Passage& out, Trail* trail) const {
    if (!can_send(pool)) return note(trail, "TXDCTL or VFTE: pool {} does not send", pool);
    Frame sent = frame;
    Seen seen = parse(sent, doubts);
    const std::uint32_t insert = image_(Reg::vmvir, pool);
    const std::uint32_t how = vmvir::vlana(insert);
    if (how != vmvir::by_descriptor && seen.tag && !doubts.ask(&Uncertain::vmvir_passes_tagged))
        return note(trail, "VMVIR[{}]: a tag is there already", pool);
    if (how == vmvir::always) {
        const auto tci = static_cast<std::uint16_t>(vmvir::port_vlan(insert));
        note(trail, "VMVIR[{}] adds VID {}", pool, tci & 0xfff);
        sent.tags.insert(seen.tag_at, {.tpid = type_out(), .tci = tci});
        seen = parse(sent, doubts);
    }
    if (is_spoofed(pool, sent.src, seen.tag, doubts, trail)) return;
    if (dtxswc::loopback(image_(Reg::dtxswc)) == 0) {
        note(trail, "DTXSWC's loopback is off: all to the wire");
        out.wire = sent.tags;
        return;
    }

    const Address* address = this->address(sent.dst);
    PoolSet pools = by_address(sent, address, doubts, trail);
    const bool refused_by_vfta = filters_vlans_ && seen.tag && !groups_[seen.tag->vid()].admitted;
    if (pools != 0 && refused_by_vfta && doubts.ask(&Uncertain::loopback_vfta)) pools = 0;
    if (pools != 0 && !passes_port(sent, address) && doubts.ask(&Uncertain::loopback_l2_filter)) pools = 0;
    const bool to_itself = (dtxswc::local_loopback(image_(Reg::dtxswc)) >> pool & 1U) != 0;
    const PoolSet others = to_itself ? ~PoolSet{0} : ~pool_bit(pool);
    pools &= others;
    const PoolSet members = pools & taking_tag(seen.tag);
    note_tag(seen.tag, pools, members, trail);
    pools = members;
    const std::uint32_t virtualization = image_(Reg::vt_ctl);
    if (pools == 0 && !sent.is_unicast() && vt_ctl::dis_def_pl(virtualization) == 0 &&
        doubts.ask(replicates_ ? &Uncertain::tx_default_pool : &Uncertain::tx_default_pool_unreplicated)) {
        note(trail, "VT_CTL.DEF_PL: pool {}", vt_ctl::def_pl(virtualization));
        pools = pool_bit(vt_ctl::def_pl(virtualization));
    }
    // Known addresses keep off the wire, whether a pool then takes the frame or not.
    bool known = address != nullptr;
    if (known && sent.is_unicast() && (address->pools & receiving_) == 0)
        known = !doubts.ask(&Uncertain::disabled_pool_is_unknown);
    const bool is_local = seen.tag && (groups_[seen.tag->vid()].slots & local_) != 0;
    const bool to_wire = (!sent.is_unicast() || !known) && !is_local;
    pools &= others & receiving_;
    if (is_local) note(trail, "VLVF.LVLAN keeps VID {} off the wire", seen.tag->vid());
    if (to_wire) {
        note(trail, "to the wire: {}", sent.is_unicast() ? "no RAL/RAH has the destination" : "a group address");
        out.wire = sent.tags;
    } else if (pools == 0 && known) {
        note(trail, "RAL/RAH[{}] keeps it from the wire", address->slot);
    }
    if (pools != 0 && rctl::rxen(image_(Reg::rctl)) == 0) return note(trail, "RCTL.RXEN is 0: nothing loops back");
    copy(sent, seen, pools, out, trail);
}

std::vector<std::string> Nic82576::contradictions() const {
    std::vector<std::string> out;
    const std::uint32_t mode = mrqc::enable(image_(Reg::mrqc));
    if (mode != mrqc::vmdq && mode != mrqc::vmdq_rss)
        out.push_back(fmt::format("MRQC {} is no layout in pools", mode));
    std::map<std::uint64_t, unsigned> macs;
    for (unsigned i = 0; i < chip().mac_entries; ++i) {
        const std::uint32_t high = image_(Reg::rah, i);
        if (rah::av(high) == 0) continue;
        const std::uint32_t low = image_(Reg::ral, i);
        const auto [at, fresh] = macs.try_emplace(low | std::uint64_t{rah::address(high)} << 32, i);
        // The driver has an entry of its own for a VF's address, which leads where the switch's does.
        if (!fresh && image_(Reg::rah, at->second) != high)
            out.push_back(fmt::format("RAL/RAH[{}] and RAL/RAH[{}] hold one address, and lead apart", at->second, i));
    }
    for (unsigned vid = 0; vid < 4096; ++vid)
        if (std::popcount(groups_[vid].slots) > 1) out.push_back(fmt::format("more than one VLVF has VID {}", vid));
    for (unsigned pool = 0; pool < pools_; ++pool) {
        if ((sending_ & pool_bit(pool)) != 0 && vmvir::vlana(image_(Reg::vmvir, pool)) == 3)
            out.push_back(fmt::format("VMVIR[{}].VLANA 3 is reserved", pool));
        if (const Checks on = checks(pool); on.vlans && !on.addresses)
            out.push_back(fmt::format("DTXSWC checks VLANs of pool {} without its addresses", pool));
    }
    for (unsigned i = 0; i < chip().ethertype_filters; ++i)
        if (const std::uint32_t filter = image_(Reg::etqf, i);
            etqf::filter_en(filter) != 0 && etqf::queue_en(filter) != 0)
            out.push_back(fmt::format("ETQF[{}] takes EtherType {:#06x} to a queue, whose pool is not looked at", i,
                                      etqf::etype(filter)));
    return out;
}

}  // namespace ivds::offload::verify
