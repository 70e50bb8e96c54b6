// SPDX-License-Identifier: Apache-2.0
#include "verify/nic_82599.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <utility>

namespace ivds::offload::verify {

using namespace i82599;

namespace {

constexpr std::array registers_read{
    Reg::ctrl_ext, Reg::gpie,     Reg::gcr_ext,  Reg::hlreg0,    Reg::maxfrs,    Reg::mflcn,     Reg::exvet,
    Reg::rxctrl,   Reg::fctrl,    Reg::vlnctrl,  Reg::mcstctrl,  Reg::mta,       Reg::ral,       Reg::rah,
    Reg::mpsar,    Reg::vfta,     Reg::mrqc,     Reg::psrtype,   Reg::reta,      Reg::rssrk,     Reg::etqf,
    Reg::etqs,     Reg::saqf,     Reg::daqf,     Reg::sdpqf,     Reg::ftqf,      Reg::l34timir,  Reg::synqf,
    Reg::rxdctl,   Reg::fdirctrl, Reg::fdirfree, Reg::dmatxctl,  Reg::mtqc,      Reg::txdctl,    Reg::pfvtctl,
    Reg::pfvfre,   Reg::pfvfte,   Reg::pfvmtxsw, Reg::pfvfspoof, Reg::pfdtxgswc, Reg::pfvml2flt, Reg::pfvlvf,
    Reg::pfvlvfb,  Reg::pfuta,    Reg::pfvmvir,  Reg::pfmrctl,   Reg::pfmrvlan,  Reg::pfmrvm,
};

unsigned pools_of(const Image& image) {
    switch (mrqc::mrqe(image(Reg::mrqc))) {
        case mrqc::vt32_rss:
        case mrqc::vt32_dcb:
            return 32;
        case mrqc::vt16_dcb:
            return 16;
        default:
            return 64;
    }
}

unsigned kind_of(std::uint8_t protocol) {
    return protocol == 6 ? ftqf::tcp : protocol == 17 ? ftqf::udp : protocol == 132 ? ftqf::sctp : ftqf::other;
}

}  // namespace

std::span<const Reg> Nic82599::deciding() {
    return registers_read;
}

Result<Image> Nic82599::read(Registers& registers) {
    Image image(map());
    for (const Reg reg : registers_read) {
        const auto skip = [&](unsigned i) {
            return reg == Reg::l34timir && ftqf::queue_en(image(Reg::ftqf, i)) == 0;
        };
        if (auto done = image.read(registers, reg, skip); !done) return std::unexpected(done.error());
    }
    if (auto there = image.check_there(); !there) return std::unexpected(there.error());
    return image;
}

Nic82599::Nic82599(Image read)
    : Nic(std::move(read), {.addresses = "RAL/RAH",
                            .groups = "PFVLVF",
                            .flags = "PFVML2FLT",
                            .unicast = "PFUTA",
                            .multicast = "MTA",
                            .filter = "VLNCTRL.VFE",
                            .address_check = "PFVFSPOOF.MACAS",
                            .vlan_check = "PFVFSPOOF.VLANAS"}),
      virtualized_(pfvtctl::vt_en(image_(Reg::pfvtctl)) != 0) {
    const Image& image = image_;
    pools_ = pools_of(image);
    existing_ = pools_ == 64 ? ~PoolSet{0} : pool_bit(pools_) - 1;
    replicates_ = pfvtctl::rpl_en(image(Reg::pfvtctl)) != 0;
    filters_vlans_ = vlnctrl::vfe(image(Reg::vlnctrl)) != 0;
    receiving_ = image.pair(Reg::pfvfre) & existing_;
    sending_ = image.pair(Reg::pfvfte) & existing_;
    hash_shift_ = first_bits_of_hash[mcstctrl::mo(image(Reg::mcstctrl))];
    hashes_multicast_ = mcstctrl::mfe(image(Reg::mcstctrl)) != 0;
    for (unsigned word = 0; word < 128; ++word) {
        unicast_[word] = image(Reg::pfuta, word);
        multicast_[word] = image(Reg::mta, word);
        admit(word, image(Reg::vfta, word));
    }
    for (unsigned i = 0; i < chip().mac_entries; ++i) {
        const std::uint32_t high = image(Reg::rah, i);
        if (rah::av(high) == 0) continue;
        add_address(image(Reg::ral, i), high, i, image.pair(Reg::mpsar, i));
    }
    for (unsigned i = 0; i < chip().vlan_entries; ++i)
        if (const std::uint32_t value = image(Reg::pfvlvf, i); pfvlvf::vi_en(value) != 0)
            add_group(static_cast<std::uint16_t>(pfvlvf::vlan_id(value)), i, image.pair(Reg::pfvlvfb, i));
    aupe_ = with_flag(pfvml2flt::aupe);
    bam_ = with_flag(pfvml2flt::bam);
    rompe_ = with_flag(pfvml2flt::rompe);
    rope_ = with_flag(pfvml2flt::rope);
    mpe_ = with_flag(pfvml2flt::mpe);
    if (replicates_)
        for (unsigned rule = 0; rule < chip().mirror_rules; ++rule) {
            const std::uint32_t control = image(Reg::pfmrctl, rule);
            if (pfmrctl::types(control) == 0) continue;
            const auto both = [&](Reg reg) {
                return image(reg, rule) | std::uint64_t{image(reg, rule + chip().mirror_rules)} << 32;
            };
            mirrors_.push_back(
                {.rule = rule, .control = control, .pools = both(Reg::pfmrvm), .slots = both(Reg::pfmrvlan)});
            vlan_mirrors_ |= pfmrctl::vlme(control) != 0;
        }
    for (unsigned i = 0; i < chip().ethertype_filters; ++i)
        if (const std::uint32_t value = image(Reg::etqf, i); etqf::filter_en(value) != 0)
            ethertypes_.emplace_back(static_cast<std::uint16_t>(etqf::etype(value)), i);
    for (unsigned i = 0; i < chip().five_tuple_filters; ++i)
        if (const std::uint32_t value = image(Reg::ftqf, i); ftqf::queue_en(value) != 0)
            five_tuples_.push_back({.number = i,
                                    .filter = value,
                                    .source = image(Reg::saqf, i),
                                    .destination = image(Reg::daqf, i),
                                    .ports = image(Reg::sdpqf, i),
                                    .queue = l34timir::rx_queue(image(Reg::l34timir, i))});
}

PoolSet Nic82599::with_flag(Field flag) const {
    PoolSet set = 0;
    for (unsigned pool = 0; pool < pools_; ++pool)
        if (flag(image_(Reg::pfvml2flt, pool)) != 0) set |= pool_bit(pool);
    return set;
}

bool Nic82599::can_send(unsigned pool) const {
    const unsigned queue = virtualized_ ? pool * queues_of_pool() : 0;
    return dmatxctl::te(image_(Reg::dmatxctl)) != 0 && txdctl::enable(image_(Reg::txdctl, queue)) != 0 &&
           (virtualized_ ? (sending_ & pool_bit(pool)) != 0 : pool == 0);
}

bool Nic82599::strips(unsigned queue) const {
    return rxdctl::vme(image_(Reg::rxdctl, queue)) != 0;
}

// A single tag: the one that the filters look at comes first. Two: behind the outer one; without an outer one it is
// no tag but an unknown frame.
Nic82599::Seen Nic82599::parse(const Frame& frame, std::uint16_t type, Doubts& doubts) const {
    Seen seen;
    const Tags& tags = frame.tags;
    const auto is = [&](unsigned at, std::uint32_t tpid) { return at < tags.size() && tags[at].tpid == tpid; };
    unsigned at = 0;
    bool may_have_tag = true;
    if (ctrl_ext::extended_vlan(image_(Reg::ctrl_ext)) != 0) {
        seen.outer = is(0, exvet::vet_ext(image_(Reg::exvet)));
        if (seen.outer) at = 1;
        if (!seen.outer && is(0, type)) {
            may_have_tag = doubts.ask(&Uncertain::inner_tag_alone_counts);
            seen.known = may_have_tag;
        }
    }
    seen.tag_at = at;
    if (may_have_tag && is(at, type)) seen.tag = tags[at++];
    seen.ethertype = at < tags.size() ? tags[at].tpid : frame.payload.ethertype;
    seen.has_flow = seen.known && at == tags.size() && frame.payload.is_ipv4;
    return seen;
}

bool Nic82599::passes_port(const Frame& frame, const Address* address) const {
    const std::uint32_t control = image_(Reg::fctrl);
    const bool all_multicast = fctrl::mpe(control) != 0;
    if (frame.is_broadcast()) return all_multicast || fctrl::bam(control) != 0;
    if (address != nullptr) return true;
    if (frame.is_unicast()) return fctrl::upe(control) != 0 || in_hash(Hash::unicast, frame.dst);
    return all_multicast || (hashes_multicast_ && in_hash(Hash::multicast, frame.dst));
}

std::optional<unsigned> Nic82599::ethertype_filter(std::uint16_t ethertype) const {
    for (const auto& [type, number] : ethertypes_)
        if (type == ethertype) return number;
    return std::nullopt;
}

void Nic82599::mirror(const Seen& seen, bool from_wire, bool to_wire, Doubts& doubts, Candidates& list,
                      Trail* trail) const {
    const PoolSet first = list.pools;
    for (const Mirror& rule : mirrors_) {
        const PoolSet looked_at = list.pools != first && doubts.ask(&Uncertain::mirrors_chain) ? list.pools : first;
        bool hit = pfmrctl::vpme(rule.control) != 0 && (looked_at & rule.pools) != 0;
        hit |= pfmrctl::upme(rule.control) != 0 && from_wire && looked_at != 0;
        hit |= pfmrctl::dpme(rule.control) != 0 && to_wire;
        if (!hit && pfmrctl::vlme(rule.control) != 0 && seen.tag &&
            (groups_[seen.tag->vid()].slots & rule.slots) != 0)
            hit = looked_at != 0 || to_wire || !doubts.ask(&Uncertain::vlan_mirror_needs_pool);
        const PoolSet to = pool_bit(pfmrctl::mp(rule.control));
        if (!hit || (list.pools & to) != 0) continue;
        note(trail, "PFMRCTL[{}] mirrors it: pool {}", rule.rule, pfmrctl::mp(rule.control));
        list.pools |= to;
        list.mirrored |= to;
    }
}

void Nic82599::from_wire(const Frame& frame, Doubts& doubts, Passage& out, Trail* trail) const {
    if (rxctrl::rxen(image_(Reg::rxctrl)) == 0) return note(trail, "RXCTRL.RXEN is 0: nothing is received");
    const Seen seen = parse(frame, type_in(), doubts);
    const unsigned most = hlreg0::jumboen(image_(Reg::hlreg0)) != 0 ? maxfrs::mfs(image_(Reg::maxfrs)) : 1518;
    if (frame.size() + 4 > most + (seen.tag ? 4 : 0) + (seen.outer ? 4 : 0))
        return note(trail, "MAXFRS: longer than {}", most);
    if (seen.ethertype == 0x8808 && !seen.tag) {
        const bool is_pause = frame.payload.ethertype == 0x8808 && frame.tags.empty();
        const std::uint32_t control = image_(Reg::mflcn);
        if (is_pause ? mflcn::dpf(control) != 0 : mflcn::pmcf(control) == 0)
            return note(trail, "MFLCN: the MAC keeps its control frames");
    }
    const Address* address = this->address(frame.dst);
    if (!passes_port(frame, address)) return note(trail, "FCTRL and the port's tables do not take the destination");
    const std::uint32_t vlan = image_(Reg::vlnctrl);
    if (seen.tag && vlnctrl::vfe(vlan) != 0) {
        if (!groups_[seen.tag->vid()].admitted)
            return note(trail, "VFTA[{}] does not have VID {}", seen.tag->vid() / 32, seen.tag->vid());
        if (vlnctrl::cfien(vlan) != 0 && (seen.tag->tci >> 12 & 1U) != vlnctrl::cfi(vlan))
            return note(trail, "VLNCTRL.CFIEN: another CFI");
    }
    Candidates list;
    if (!virtualized_) {
        list.pools = 1;
        return copy(frame, frame.tags, seen, list, false, doubts, out, trail);
    }

    const std::uint32_t control = image_(Reg::pfvtctl);
    const PoolSet default_pool = pool_bit(pfvtctl::def_pl(control));
    const PoolSet addressed = by_address(frame, address, doubts, trail);
    list.pools = addressed & taking_tag(seen.tag);
    note_tag(seen.tag, addressed, list.pools, trail);
    const bool nowhere = list.pools == 0 && pfvtctl::dis_def_pl(control) == 0;
    if (nowhere || (!replicates_ && !frame.is_unicast() && addressed == 0)) {
        note(trail, "PFVTCTL.DEF_PL: pool {}", pfvtctl::def_pl(control));
        list.pools |= default_pool;
    }
    if (const auto filter = ethertype_filter(seen.ethertype);
        filter && etqf::pool_en(image_(Reg::etqf, *filter)) != 0 && etqs::queue_en(image_(Reg::etqs, *filter)) != 0) {
        note(trail, "ETQF[{}]: pool {} alone", *filter, etqf::pool(image_(Reg::etqf, *filter)));
        list.pools = pool_bit(etqf::pool(image_(Reg::etqf, *filter)));
    }
    list.pools &= receiving_;
    mirror(seen, true, false, doubts, list, trail);
    list.pools &= receiving_;
    copy(frame, frame.tags, seen, list, false, doubts, out, trail);
}

void Nic82599::copy(const Frame& frame, const Tags& tags, const Seen& seen, const Candidates& list, bool loopback,
                    Doubts& doubts, Passage& out, Trail* trail) const {
    for (PoolSet left = list.pools; left != 0; left &= left - 1) {
        const auto pool = static_cast<unsigned>(std::countr_zero(left));
        const bool mirrored = (list.mirrored & pool_bit(pool)) != 0;
        const unsigned queue =
            mirrored ? pool * queues_of_pool() : queue_of(frame, seen, pool, loopback, doubts, trail);
        Copy copy{.pool = owner(queue),
                  .tags = tags,
                  .stripped = std::nullopt,
                  .listens = rxdctl::enable(image_(Reg::rxdctl, queue)) != 0};
        if (!copy.listens) note(trail, "RXDCTL[{}] of pool {} is off", queue, copy.pool);
        if (seen.tag && strips(queue)) {
            copy.stripped = seen.tag;
            copy.tags.erase(seen.tag_at);
        }
        out.copies.push_back(copy);
    }
}

// RSS is left out: it stays within the pool.
unsigned Nic82599::queue_of(const Frame& frame, const Seen& seen, unsigned pool, bool loopback, Doubts& doubts,
                            Trail* trail) const {
    const unsigned first = pool * queues_of_pool();
    if (const auto filter = ethertype_filter(seen.ethertype)) {
        const std::uint32_t select = image_(Reg::etqs, *filter);
        if (etqs::queue_en(select) != 0 && owner(etqs::rx_queue(select)) == pool) return etqs::rx_queue(select);
    }
    if (!seen.has_flow) return first;
    const std::uint32_t syn = image_(Reg::synqf);
    const bool is_syn = synqf::queue_en(syn) != 0 && frame.payload.is_syn() && owner(synqf::rx_queue(syn)) == pool;
    if (!is_syn && five_tuples_.empty()) return first;
    if (loopback && !doubts.ask(&Uncertain::loopback_flows)) return first;
    if (is_syn && synqf::synqfp(syn) != 0) return synqf::rx_queue(syn);
    if (const auto queue = five_tuple(frame.payload, pool, doubts)) {
        if (*queue != first) note(trail, "a five-tuple filter: queue {}", *queue);
        return *queue;
    }
    return is_syn ? synqf::rx_queue(syn) : first;
}

std::optional<unsigned> Nic82599::five_tuple(const Payload& payload, unsigned pool, Doubts& doubts) const {
    const FiveTuple* best = nullptr;
    for (const FiveTuple& one : five_tuples_) {
        const std::uint32_t filter = one.filter;
        const bool no_source_port = ftqf::ignore_source_port(filter) != 0;
        const bool no_destination_port = ftqf::ignore_destination_port(filter) != 0;
        if (ftqf::ignore_pool(filter) == 0 && ftqf::pool(filter) != pool) continue;
        if (ftqf::ignore_source(filter) == 0 && one.source != payload.source) continue;
        if (ftqf::ignore_destination(filter) == 0 && one.destination != payload.destination) continue;
        if ((!no_source_port || !no_destination_port) && !payload.has_ports()) continue;
        if (!no_source_port && (one.ports & 0xffff) != std::byteswap(payload.source_port)) continue;
        if (!no_destination_port && one.ports >> 16 != std::byteswap(payload.destination_port)) continue;
        if (ftqf::ignore_protocol(filter) == 0 && ftqf::protocol(filter) != kind_of(payload.protocol)) continue;
        if (owner(one.queue) != pool && !doubts.ask(&Uncertain::filters_cross_pools)) continue;
        const auto rank = [](const FiveTuple& of) { return ftqf::priority(of.filter); };
        if (best == nullptr ||
            (rank(one) != rank(*best) && (rank(one) > rank(*best)) != doubts.ask(&Uncertain::low_priority_wins)))
            best = &one;
    }
    return best == nullptr ? std::nullopt : std::optional(best->queue);
}

void Nic82599::from_pool(unsigned pool, const Frame& frame, Doubts& doubts, Passage& out, Trail* trail) const {
    if (!can_send(pool)) return note(trail, "DMATXCTL, TXDCTL or PFVFTE: pool {} does not send", pool);
    const std::uint16_t type = type_out();
    Frame sent = frame;
    Seen seen = parse(sent, type, doubts);
    if (virtualized_) {
        const std::uint32_t insert = image_(Reg::pfvmvir, pool);
        const std::uint32_t how = pfvmvir::vlana(insert);
        if (how != pfvmvir::by_descriptor && seen.tag && !doubts.ask(&Uncertain::vmvir_passes_tagged))
            return note(trail, "PFVMVIR[{}]: a tag is there already", pool);
        if (how == pfvmvir::always) {
            const auto tci = static_cast<std::uint16_t>(pfvmvir::port_vlan(insert));
            note(trail, "PFVMVIR[{}] adds VID {}", pool, tci & 0xfff);
            sent.tags.insert(seen.tag_at, {.tpid = type, .tci = tci});
            seen = parse(sent, type, doubts);
        }
        if (is_spoofed(pool, sent.src, seen.tag, doubts, trail)) {
            if (pfdtxgswc::lbe(image_(Reg::pfdtxgswc)) == 0 || !vlan_mirrors_ ||
                !doubts.ask(&Uncertain::vlan_mirror_sees_spoofed))
                return;
            Candidates list;
            mirror(seen, false, false, doubts, list, trail);
            list.pools &= receiving_;
            return copy(sent, sent.tags, seen, list, true, doubts, out, trail);
        }
        if (pfdtxgswc::lbe(image_(Reg::pfdtxgswc)) != 0)
            return switch_between(pool, sent, sent.tags, seen, doubts, out, trail);
    }
    note(trail, "PFDTXGSWC.LBE is 0: all to the wire");
    out.wire = sent.tags;
}

void Nic82599::switch_between(unsigned pool, const Frame& frame, const Tags& tags, const Seen& seen, Doubts& doubts,
                              Passage& out, Trail* trail) const {
    const std::uint32_t control = image_(Reg::pfvtctl);
    const Address* address = this->address(frame.dst);
    Candidates list;
    list.pools = by_address(frame, address, doubts, trail);
    const bool refused_by_vfta =
        vlnctrl::vfe(image_(Reg::vlnctrl)) != 0 && seen.tag && !groups_[seen.tag->vid()].admitted;
    if (list.pools != 0 && refused_by_vfta && doubts.ask(&Uncertain::loopback_vfta)) list.pools = 0;
    if (list.pools != 0 && !passes_port(frame, address) && doubts.ask(&Uncertain::loopback_l2_filter)) list.pools = 0;
    const bool to_itself = (image_.pair(Reg::pfvmtxsw) & existing_ & pool_bit(pool)) != 0;
    const PoolSet others = to_itself ? ~PoolSet{0} : ~pool_bit(pool);
    list.pools &= others;
    const PoolSet members = list.pools & taking_tag(seen.tag);
    note_tag(seen.tag, list.pools, members, trail);
    list.pools = members;
    if (list.pools == 0 && !frame.is_unicast() && pfvtctl::dis_def_pl(control) == 0 &&
        doubts.ask(replicates_ ? &Uncertain::tx_default_pool : &Uncertain::tx_default_pool_unreplicated)) {
        note(trail, "PFVTCTL.DEF_PL: pool {}", pfvtctl::def_pl(control));
        list.pools = pool_bit(pfvtctl::def_pl(control));
    }
    if (const auto filter = ethertype_filter(seen.ethertype);
        filter && etqf::pool_en(image_(Reg::etqf, *filter)) != 0 && doubts.ask(&Uncertain::loopback_ethertype)) {
        note(trail, "ETQF[{}]: pool {} alone", *filter, etqf::pool(image_(Reg::etqf, *filter)));
        list.pools = pool_bit(etqf::pool(image_(Reg::etqf, *filter)));
    }
    // Known addresses keep off the wire, whether a pool then takes the frame or not.
    bool known = address != nullptr;
    if (known && frame.is_unicast() && (address->pools & receiving_) == 0)
        known = !doubts.ask(&Uncertain::disabled_pool_is_unknown);
    const bool to_wire = !frame.is_unicast() || !known;
    list.pools &= others & receiving_;
    mirror(seen, false, to_wire, doubts, list, trail);
    list.pools &= receiving_;
    if (to_wire) {
        note(trail, "to the wire: {}", frame.is_unicast() ? "no RAL/RAH has the destination" : "a group address");
        out.wire = tags;
    } else if (list.pools == 0) {
        note(trail, "RAL/RAH[{}] keeps it from the wire", address->slot);
    }
    if (list.pools != 0 && rxctrl::rxen(image_(Reg::rxctrl)) == 0)
        return note(trail, "RXCTRL.RXEN is 0: nothing loops back");
    copy(frame, tags, seen, list, true, doubts, out, trail);
}

// The hash's low seven bits are linear in the bits of what is hashed, all of which a sender can choose: the entries
// of RETA that are reached are the span of what each bit adds.
std::vector<unsigned> Nic82599::hashed_queues(unsigned pool) const {
    const std::uint32_t control = image_(Reg::mrqc);
    const std::uint32_t mode = mrqc::mrqe(control);
    if (mode != mrqc::rss && mode != mrqc::vt32_rss && mode != mrqc::vt64_rss) return {};
    struct Hashed {
        Field on;
        unsigned bits;
    };
    constexpr std::array<Hashed, 6> kinds{{{mrqc::ipv4, 64},
                                           {mrqc::tcp_ipv4, 96},
                                           {mrqc::udp_ipv4, 96},
                                           {mrqc::ipv6, 256},
                                           {mrqc::tcp_ipv6, 288},
                                           {mrqc::udp_ipv6, 288}}};
    unsigned longest = 0;
    for (const auto& [on, bits] : kinds)
        if (on(control) != 0) longest = std::max(longest, bits);
    if (longest == 0) return {};
    const auto key_bit = [&](unsigned bit) {
        const unsigned byte = bit / 8;
        return byte < 40 ? image_(Reg::rssrk, byte / 4) >> (8 * (byte % 4) + 7 - bit % 8) & 1U : 0U;
    };
    std::vector<bool> reached(128);
    reached[0] = true;
    for (unsigned bit = 0; bit < longest; ++bit) {
        unsigned adds = 0;
        for (unsigned i = 25; i < 32; ++i) adds = adds << 1 | key_bit(bit + i);
        if (reached[adds]) continue;
        for (unsigned entry = 0; entry < 128; ++entry)
            if (reached[entry]) reached[entry ^ adds] = true;
    }
    const unsigned own = queues_of_pool();
    const unsigned bits =
        std::min(psrtype::rqpl(image_(Reg::psrtype, pool)), static_cast<std::uint32_t>(std::countr_zero(own)));
    std::vector<bool> used(own);
    for (unsigned entry = 0; entry < 128; ++entry)
        if (reached[entry])
            used[(image_(Reg::reta, entry / 4) >> (8 * (entry % 4)) & 0xfU) & ((1U << bits) - 1)] = true;
    std::vector<unsigned> out;
    for (unsigned queue = 1; queue < own; ++queue)
        if (used[queue]) out.push_back(queue);
    return out;
}

std::uint16_t Nic82599::type_in() const {
    return static_cast<std::uint16_t>(vlnctrl::vet(image_(Reg::vlnctrl)));
}

std::uint16_t Nic82599::type_out() const {
    return static_cast<std::uint16_t>(dmatxctl::vt(image_(Reg::dmatxctl)));
}

bool Nic82599::looks_at_cfi() const {
    return vlnctrl::cfien(image_(Reg::vlnctrl)) != 0;
}

std::optional<std::uint16_t> Nic82599::adds_tag(unsigned pool) const {
    const std::uint32_t insert = image_(Reg::pfvmvir, pool);
    if (pfvmvir::vlana(insert) != pfvmvir::always) return std::nullopt;
    return static_cast<std::uint16_t>(pfvmvir::port_vlan(insert) & 0xfff);
}

Nic::Checks Nic82599::checks(unsigned pool) const {
    const std::uint32_t on = image_(Reg::pfvfspoof, pool / 8);
    return {.addresses = (pfvfspoof::macas(on) >> (pool % 8) & 1U) != 0,
            .vlans = (pfvfspoof::vlanas(on) >> (pool % 8) & 1U) != 0};
}

std::set<unsigned> Nic82599::used_queues(unsigned pool) const {
    const std::vector<unsigned> hashed = hashed_queues(pool);
    std::set<unsigned> out(hashed.begin(), hashed.end());
    const auto add = [&](unsigned queue) {
        if (owner(queue) == pool && queue % queues_of_pool() != 0) out.insert(queue % queues_of_pool());
    };
    for (const FiveTuple& one : five_tuples_) add(one.queue);
    for (const auto& [type, number] : ethertypes_)
        if (const std::uint32_t select = image_(Reg::etqs, number); etqs::queue_en(select) != 0)
            add(etqs::rx_queue(select));
    return out;
}

Nic::Queues Nic82599::queues(unsigned pool) const {
    const unsigned first = pool * queues_of_pool();
    const auto receives = [&](unsigned queue) { return rxdctl::enable(image_(Reg::rxdctl, first + queue)) != 0; };
    Queues out{.sends = txdctl::enable(image_(Reg::txdctl, first)) != 0, .receives = receives(0)};
    for (const unsigned queue : used_queues(pool))
        if (!receives(queue))
            out.off.push_back(queue);
        else if (strips(first + queue) != strips(first))
            out.unlike.push_back(queue);
    return out;
}

std::vector<Payload> Nic82599::filtered_payloads() const {
    std::vector<Payload> out;
    out.reserve(ethertypes_.size());
    for (const auto& [type, number] : ethertypes_) out.push_back({.ethertype = type});
    const Payload ip{.ethertype = 0x0800,
                     .l3_bytes = 46,
                     .is_ipv4 = true,
                     .source = 0x0100a8c0,
                     .destination = 0x0200a8c0,
                     .protocol = 89,
                     .source_port = 4321,
                     .destination_port = 1234};
    const std::uint32_t syn = image_(Reg::synqf);
    if (synqf::queue_en(syn) != 0) {
        out.push_back(ip);
        out.back().protocol = 6;
        out.back().syn = true;
    }
    for (const FiveTuple& one : five_tuples_) {
        Payload payload = ip;
        const std::uint32_t filter = one.filter;
        const bool ports = ftqf::ignore_source_port(filter) == 0 || ftqf::ignore_destination_port(filter) == 0;
        if (ftqf::ignore_source(filter) == 0) payload.source = one.source;
        if (ftqf::ignore_destination(filter) == 0) payload.destination = one.destination;
        if (ftqf::ignore_source_port(filter) == 0)
            payload.source_port = std::byteswap(static_cast<std::uint16_t>(one.ports));
        if (ftqf::ignore_destination_port(filter) == 0)
            payload.destination_port = std::byteswap(static_cast<std::uint16_t>(one.ports >> 16));
        if (ftqf::ignore_protocol(filter) == 0) {
            constexpr std::array<std::uint8_t, 4> numbers{6, 17, 132, 89};
            payload.protocol = numbers[ftqf::protocol(filter)];
        } else if (ports) {
            payload.protocol = 17;
        }
        out.push_back(payload);
    }
    return out;
}

std::vector<std::string> Nic82599::contradictions() const {
    std::vector<std::string> out;
    const std::uint32_t mode = mrqc::mrqe(image_(Reg::mrqc));
    const std::uint32_t control = image_(Reg::pfvtctl);
    if (virtualized_ != (mtqc::vt_en(image_(Reg::mtqc)) != 0))
        out.emplace_back("PFVTCTL.VT_EN and MTQC.VT_EN differ");
    if ((ctrl_ext::extended_vlan(image_(Reg::ctrl_ext)) != 0) != (dmatxctl::gdv(image_(Reg::dmatxctl)) != 0))
        out.emplace_back("CTRL_EXT.EXTENDED_VLAN and DMATXCTL.GDV differ");
    if ((mtqc::rt_en(image_(Reg::mtqc)) != 0)) out.emplace_back("MTQC.RT_EN: traffic classes are not looked at");
    if (virtualized_) {
        if (mode != mrqc::vt64 && mode != mrqc::vt64_rss && mode != mrqc::vt32_rss)
            out.push_back(fmt::format("MRQC.MRQE {} is no layout in pools without traffic classes", mode));
        const std::uint32_t code = pools_ == 64 ? 3 : pools_ == 32 ? 2 : 1;
        if (gpie::vtmode(image_(Reg::gpie)) != code || gcr_ext::vt_mode(image_(Reg::gcr_ext)) != code)
            out.emplace_back("GPIE.VTMODE and GCR_EXT.VT_MODE do not say the pools of MRQC.MRQE");
        if ((pools_ == 64) != (mtqc::num_tc_or_q(image_(Reg::mtqc)) == 1))
            out.emplace_back("MTQC.NUM_TC_OR_Q does not say the pools of MRQC.MRQE");
        if (pfvtctl::dis_def_pl(control) == 0 && pfvtctl::def_pl(control) >= pools_)
            out.emplace_back("PFVTCTL.DEF_PL is no pool");
    } else if (pfdtxgswc::lbe(image_(Reg::pfdtxgswc)) != 0 || replicates_) {
        out.emplace_back("PFDTXGSWC.LBE or PFVTCTL.RPL_EN without PFVTCTL.VT_EN");
    }
    std::map<std::uint64_t, unsigned> macs;
    for (unsigned i = 0; i < chip().mac_entries; ++i) {
        const std::uint32_t high = image_(Reg::rah, i);
        if (rah::av(high) == 0) continue;
        const std::uint32_t low = image_(Reg::ral, i);
        const auto [at, fresh] = macs.try_emplace(low | std::uint64_t{rah::address(high)} << 32, i);
        // The driver has an entry of its own for a VF's address, which leads where the switch's does.
        if (!fresh && image_.pair(Reg::mpsar, at->second) != image_.pair(Reg::mpsar, i))
            out.push_back(fmt::format("RAL/RAH[{}] and RAL/RAH[{}] hold one address, and lead apart", at->second, i));
        if ((low & 1U) == 0 && std::popcount(image_.pair(Reg::mpsar, i)) > 1)
            out.push_back(fmt::format("MPSAR[{}] gives a unicast address to more than one pool", 2 * i));
    }
    for (unsigned vid = 0; vid < 4096; ++vid)
        if (std::popcount(groups_[vid].slots) > 1) out.push_back(fmt::format("more than one PFVLVF has VID {}", vid));
    for (unsigned pool = 0; pool < pools_; ++pool) {
        if (virtualized_ && (sending_ & pool_bit(pool)) != 0 && pfvmvir::vlana(image_(Reg::pfvmvir, pool)) == 3)
            out.push_back(fmt::format("PFVMVIR[{}].VLANA 3 is reserved", pool));
        if (const Checks on = checks(pool); on.vlans && !on.addresses)
            out.push_back(fmt::format("PFVFSPOOF.VLANAS of pool {} without its MACAS", pool));
    }
    for (unsigned rule = 0; rule < chip().mirror_rules; ++rule)
        if (std::popcount(pfmrctl::types(image_(Reg::pfmrctl, rule))) > 1)
            out.push_back(fmt::format("PFMRCTL[{}] has more than one type of traffic", rule));
    std::map<std::uint16_t, unsigned> types;
    for (const auto& [type, number] : ethertypes_)
        if (const auto [at, fresh] = types.try_emplace(type, number); !fresh)
            out.push_back(fmt::format("ETQF[{}] and ETQF[{}] hold one EtherType", at->second, number));
    return out;
}

std::vector<std::string> Nic82599::hidden() const {
    const std::uint32_t control = image_(Reg::fdirctrl);
    if (fdirctrl::pballoc(control) == 0) return {};
    const unsigned size = (1024U << fdirctrl::pballoc(control)) - 2;
    if (fdirctrl::perfect(control) != 0 && fdirfree::free(image_(Reg::fdirfree)) == size) return {};
    return {"Flow Director has filters (FDIRCTRL, FDIRFREE), which cannot be read back"};
}

}  // namespace ivds::offload::verify
