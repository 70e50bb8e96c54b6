// SPDX-License-Identifier: Apache-2.0
// Frames from the wire, and what both directions share: the choice of pools, mirrors, the copies. Sections are the
// X550 datasheet's (333369) where they have the steps in words: 7.1.2 (L2 filters), 7.8.3.3 (switching of received
// frames), 7.4.5 (two tags); the 82599's own have the same titles.
#include <algorithm>
#include <bit>
#include <ranges>

#include "nic/model_82599.h"

namespace ivds::offload {

using namespace i82599;

namespace {

bool same(const MacAddress& mac, std::uint32_t low, std::uint32_t high) {
    const auto byte = [](std::uint32_t value, unsigned i) { return static_cast<std::uint8_t>(value >> (8 * i)); };
    return mac[0] == byte(low, 0) && mac[1] == byte(low, 1) && mac[2] == byte(low, 2) && mac[3] == byte(low, 3) &&
           mac[4] == byte(high, 0) && mac[5] == byte(high, 1);
}

}  // namespace

void Model82599::PoolList::add(PoolSet more, Because because) {
    if ((more & ~pools) == 0) return;
    added.emplace_back(more & ~pools, because);
    pools |= more;
}

Because Model82599::PoolList::why(unsigned pool) const {
    // A pool may have been taken off the list and added again.
    for (const auto& [more, because] : std::views::reverse(added))
        if ((more & pool_bit(pool)) != 0) return because;
    return {};
}

TagMode Model82599::tag_mode(std::uint16_t type) const {
    return {.two_tags = ctrl_ext::extended_vlan(get(Reg::ctrl_ext)) != 0,
            .outer_type = static_cast<std::uint16_t>(exvet::vet_ext(get(Reg::exvet))),
            .type = type,
            .inner_only_counts = uncertain_.inner_tag_alone_counts};
}

// Bits of pools that the present number of pools does not have mean nothing.
Model82599::PoolSet Model82599::enabled(Reg reg) const {
    const PoolSet all = pools() == 64 ? ~PoolSet{0} : pool_bit(pools()) - 1;
    return get64(reg, 0) & all;
}

Model82599::PoolSet Model82599::with_flag(Field flag) const {
    PoolSet set = 0;
    for (unsigned pool = 0; pool < pools(); ++pool)
        if (flag(get(Reg::pfvml2flt, pool)) != 0) set |= pool_bit(pool);
    return set;
}

Model82599::Exact Model82599::exact_match(const MacAddress& mac) const {
    Exact exact;
    for (unsigned i = 0; i < chip().mac_entries; ++i) {
        const std::uint32_t high = get(Reg::rah, i);
        if (rah::av(high) == 0 || !same(mac, get(Reg::ral, i), high)) continue;
        exact.pools |= get64(Reg::mpsar, i);
        if (!exact.slot) exact.slot = i;
    }
    return exact;
}

// 8.2.3.7.3, 8.2.3.7.7: MO selects the twelve bits of the address; bits 11:5 select the register, 4:0 the bit.
bool Model82599::hash_match(Reg table, const MacAddress& mac) const {
    constexpr std::array<unsigned, 4> first{4, 3, 2, 0};
    const unsigned shift = first[mcstctrl::mo(get(Reg::mcstctrl))];
    const unsigned hash = ((mac[4] | unsigned{mac[5]} << 8) >> shift) & 0xfff;
    return (get(table, hash >> 5) >> (hash & 31) & 1) != 0;
}

bool Model82599::multicast_hash_match(const MacAddress& mac) const {
    return mcstctrl::mfe(get(Reg::mcstctrl)) != 0 && hash_match(Reg::mta, mac);
}

bool Model82599::in_vfta(std::uint16_t vid) const {
    return (get(Reg::vfta, vid / 32U) >> (vid % 32) & 1) != 0;
}

Model82599::Groups Model82599::groups_of(const Frame& frame) const {
    Groups groups;
    if (!frame.tci) return groups;
    for (unsigned i = 0; i < chip().vlan_entries; ++i) {
        const std::uint32_t value = get(Reg::pfvlvf, i);
        if (pfvlvf::vi_en(value) == 0 || pfvlvf::vlan_id(value) != frame.vid()) continue;
        groups.pools |= get64(Reg::pfvlvfb, i);
        groups.slots |= std::uint64_t{1} << i;
    }
    return groups;
}

// 7.1.2.1: whether the port takes the frame at all, before any pool is looked for.
bool Model82599::passes_l2_filter(const Frame& frame, const Exact& exact) const {
    const std::uint32_t control = get(Reg::fctrl);
    if (frame.broadcast()) return fctrl::bam(control) != 0 || fctrl::mpe(control) != 0;
    if (exact.slot) return true;
    if (frame.multicast()) return fctrl::mpe(control) != 0 || multicast_hash_match(frame.destination);
    return fctrl::upe(control) != 0 || hash_match(Reg::pfuta, frame.destination);
}

// 7.8.3.3.1 step 8: the pools of the frame's VLAN, or those that accept frames without a tag. A priority tag is a
// tag, of VLAN 0.
Model82599::PoolSet Model82599::accepting_tag(const Frame& frame, const Groups& groups) const {
    if (vlnctrl::vfe(get(Reg::vlnctrl)) == 0) return ~PoolSet{0};
    return frame.tci ? groups.pools : with_flag(pfvml2flt::aupe);
}

// 7.8.3.3.1 steps 1 to 6, 7.8.3.4.1 the same: the pools of the address.
void Model82599::select_by_address(const Frame& frame, const Exact& exact, PoolList& list) const {
    using Step = Because::Step;
    if (exact.slot) list.add(exact.pools, {Step::exact, *exact.slot});
    if (uncertain_.early_vfre) list.pools &= enabled(Reg::pfvfre);
    const bool replicate = pfvtctl::rpl_en(get(Reg::pfvtctl)) != 0;
    if (replicate && frame.broadcast()) list.add(with_flag(pfvml2flt::bam), {Step::broadcast});
    if (frame.unicast() && list.pools == 0 && hash_match(Reg::pfuta, frame.destination))
        list.add(with_flag(pfvml2flt::rope), {Step::unicast_hash});
    if (!replicate || !frame.multicast()) return;
    if (list.pools == 0 && multicast_hash_match(frame.destination))
        list.add(with_flag(pfvml2flt::rompe), {Step::multicast_hash});
    list.add(with_flag(pfvml2flt::mpe), {Step::all_multicast});
}

// 7.8.3.3.1 step 13 and 7.8.3.4.1 step 13. Each rule looks at the list as it was before the first.
void Model82599::add_mirrors(const Frame& frame, const Groups& groups, Port port, PoolList& list) const {
    if (pfvtctl::rpl_en(get(Reg::pfvtctl)) == 0) return;
    const PoolSet received = list.pools;
    for (unsigned rule = 0; rule < chip().mirror_rules; ++rule) {
        const std::uint32_t control = get(Reg::pfmrctl, rule);
        const auto selected = [&](Reg reg) {
            return get(reg, rule) | static_cast<std::uint64_t>(get(reg, rule + 4)) << 32;
        };
        const PoolSet seen = uncertain_.mirrors_chain ? list.pools : received;
        const bool by_pool = pfmrctl::vpme(control) != 0 && (seen & selected(Reg::pfmrvm)) != 0;
        const bool by_vlan = pfmrctl::vlme(control) != 0 && frame.tci &&
                             (groups.slots & selected(Reg::pfmrvlan)) != 0 &&
                             (!uncertain_.vlan_mirror_needs_pool || seen != 0 || port.to_wire);
        const bool uplink = pfmrctl::upme(control) != 0 && port.from_wire && seen != 0;
        const bool downlink = pfmrctl::dpme(control) != 0 && port.to_wire;
        if (by_pool || by_vlan || uplink || downlink)
            list.add(pool_bit(pfmrctl::mp(control)), {Because::Step::mirror, rule});
    }
}

void Model82599::drop(Outcome& outcome, Drop::Reason reason, std::optional<unsigned> pool) {
    outcome.drops.push_back({reason, pool});
    ++drops_[static_cast<std::size_t>(reason)];
}

Outcome Model82599::receive_from_wire(const Bytes& bytes) {
    using enum Drop::Reason;
    check_state();
    Outcome outcome;
    const auto dropped = [&](Drop::Reason reason) {
        drop(outcome, reason);
        return outcome;
    };
    if (!link_) return dropped(link_down);
    if (bytes.size() < frame_header) return dropped(runt);
    if (!receive_on()) return dropped(receive_off);

    const Frame frame = parse(bytes, tag_mode(static_cast<std::uint16_t>(vlnctrl::vet(get(Reg::vlnctrl)))));
    count(Reg::rxnfgpc);
    // MAXFRS counts the CRC, and not the tags; without JUMBOEN it is 1518 (8.2.3.22.13).
    const std::size_t most = hlreg0::jumboen(get(Reg::hlreg0)) != 0 ? maxfrs::mfs(get(Reg::maxfrs)) : 1518;
    const std::size_t tags = tag_length * ((frame.tci ? 1U : 0U) + (frame.outer_tag ? 1U : 0U));
    if (bytes.size() + crc_length > most + tags) {
        count(Reg::roc);
        return dropped(oversize);
    }
    // 8.2.3.22.34: PAUSE goes to the host unless DPF is set, other MAC control frames if PMCF is.
    if (frame.ethertype == 0x8808 && !frame.tci && bytes.size() >= frame_header + 2) {
        const bool pause = bytes[14] == 0 && bytes[15] == 1;
        const std::uint32_t control = get(Reg::mflcn);
        if (pause ? mflcn::dpf(control) != 0 : mflcn::pmcf(control) == 0) return dropped(mac_control);
    }

    // It looks beside the host's filters and before them, so that no pool, promiscuous or not, has what is the BMC's.
    outcome.to_bmc = std::ranges::find(bmc_, frame.destination) != bmc_.end();
    if (outcome.to_bmc && !bmc_and_host_) return dropped(manageability);
    const Exact exact = exact_match(frame.destination);
    outcome.mac_slot = exact.slot;
    if (!passes_l2_filter(frame, exact)) return dropped(l2_filter);
    count(Reg::gprc);
    count36(Reg::gorcl, Reg::gorch, 0, bytes.size() + crc_length);
    if (frame.broadcast()) count(Reg::bprc);
    if (frame.multicast()) count(Reg::mprc);

    // 7.1.2.2: the VLAN filter of the port.
    const std::uint32_t vlan = get(Reg::vlnctrl);
    if (frame.tci && vlnctrl::vfe(vlan) != 0) {
        if (!in_vfta(*frame.vid())) return dropped(vlan_filter);
        if (vlnctrl::cfien(vlan) != 0 && (*frame.tci >> 12 & 1U) != vlnctrl::cfi(vlan)) return dropped(cfi);
    }
    if (stalled_on_) {
        count(Reg::rxmpc);
        return dropped(stalled);
    }

    const std::uint32_t control = get(Reg::pfvtctl);
    if (!virtualized()) {
        PoolList list;
        list.add(1, {Because::Step::only_pool});
        deliver(frame, bytes, list, false, outcome);
        return outcome;
    }

    // 7.8.3.3.1 and, without replication, 7.8.3.3.2.
    PoolList list;
    select_by_address(frame, exact, list);
    const bool by_address = list.pools != 0;
    const Groups groups = groups_of(frame);
    if (groups.slots != 0) outcome.vlan_slot = static_cast<unsigned>(std::countr_zero(groups.slots));
    list.pools &= accepting_tag(frame, groups);
    const PoolSet default_pool = pool_bit(pfvtctl::def_pl(control));
    if (list.pools == 0 && pfvtctl::dis_def_pl(control) == 0) list.add(default_pool, {Because::Step::default_pool});
    if (pfvtctl::rpl_en(control) == 0 && !frame.unicast() && !by_address)
        list.add(default_pool, {Because::Step::default_pool});
    if (const auto filter = ethertype_filter(frame.ethertype);
        filter && etqf::pool_en(get(Reg::etqf, *filter)) != 0 && etqs::queue_en(get(Reg::etqs, *filter)) != 0) {
        list.pools = 0;
        list.add(pool_bit(etqf::pool(get(Reg::etqf, *filter))), {Because::Step::ethertype, *filter});
    }
    const bool selected = list.pools != 0;
    list.pools &= enabled(Reg::pfvfre);
    add_mirrors(frame, groups, {.from_wire = true, .to_wire = false}, list);
    list.pools &= enabled(Reg::pfvfre);
    if (list.pools == 0) return dropped(selected ? pools_off : no_pool);
    deliver(frame, bytes, list, false, outcome);
    return outcome;
}

void Model82599::deliver(const Frame& frame, const Bytes& bytes, const PoolList& list, bool loopback,
                         Outcome& outcome) {
    bool first = true;
    for (PoolSet left = list.pools; left != 0; left &= left - 1) {
        const auto pool = static_cast<unsigned>(std::countr_zero(left));
        const std::size_t before = outcome.deliveries.size();
        deliver_copy(frame, bytes, pool, list.why(pool), loopback, outcome);
        if (outcome.deliveries.size() == before) continue;
        if (loopback)
            count(first ? Reg::rxlpbkpc : Reg::rxdlpbkpc);
        else
            count(first ? Reg::rxdgpc : Reg::rxddpc);
        first = false;
    }
}

void Model82599::deliver_copy(const Frame& frame, const Bytes& bytes, unsigned pool, Because because, bool loopback,
                              Outcome& outcome) {
    using enum Drop::Reason;
    const QueueChoice choice = choose_queue(frame, bytes, pool, because.step == Because::Step::mirror, loopback);
    const unsigned queue = choice.queue;
    const unsigned counters = get(Reg::rqsmr, queue / 4) >> (8 * (queue % 4)) & 0xf;
    if (rxdctl::enable(get(Reg::rxdctl, queue)) == 0) {
        count(Reg::qprdc, counters);
        drop(outcome, choice.drop ? filtered : queue_off, pool);
        return;
    }
    if (full_[queue]) {
        if (drop_enable_[queue] || srrctl::drop_en(get(Reg::srrctl, queue)) != 0) {
            count(Reg::qprdc, counters);
            drop(outcome, no_descriptor, pool);
        } else {
            stalled_on_ = queue;
            outcome.stalled_queue = queue;
            drop(outcome, stalled, pool);
        }
        return;
    }
    Delivery delivery{.pool = owner_of(queue),
                      .queue = queue,
                      .queue_by = choice.by,
                      .bytes = bytes,
                      .outer_tag = frame.outer_tag,
                      .loopback = loopback,
                      .because = because};
    if (frame.tci && rxdctl::vme(get(Reg::rxdctl, queue)) != 0) {
        const auto at = delivery.bytes.begin() + static_cast<std::ptrdiff_t>(frame.tag_at);
        delivery.bytes.erase(at, at + tag_length);
        delivery.stripped = frame.tci;
    }
    count(Reg::qprc, counters);
    count36(Reg::qbrc_l, Reg::qbrc_h, counters, bytes.size() + crc_length);
    count(Reg::pvfgprc, delivery.pool);
    count36(Reg::pvfgorc_lsb, Reg::pvfgorc_msb, delivery.pool, bytes.size() + crc_length);
    if (!frame.unicast()) count(Reg::pvfmprc, delivery.pool);
    outcome.deliveries.push_back(std::move(delivery));
}

}  // namespace ivds::offload
