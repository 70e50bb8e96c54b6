// SPDX-License-Identifier: Apache-2.0
// Frames that a pool sends: the tag, the checks of the sender, and whether they go to other pools, to the wire or to
// both. Sections are the X550 datasheet's (333369), as in model_82599_rx.cpp: 7.8.3.4 (switching), 7.8.4.2 (checks).
#include <bit>

#include "nic/model_82599.h"

namespace ivds::offload {

using namespace i82599;

Outcome Model82599::send_from(unsigned pool, const Bytes& bytes, const Transmit& descriptor) {
    using enum Drop::Reason;
    check_state();
    Outcome outcome;
    const auto dropped = [&](Drop::Reason reason) {
        drop(outcome, reason);
        return outcome;
    };
    const unsigned queue = (virtualized() ? pool * queues_of_pool() : 0) + descriptor.queue;
    if (bytes.size() < frame_header) return dropped(runt);
    if (!transmit_on()) return dropped(transmit_off);
    if (queue >= queues || (virtualized() ? descriptor.queue >= queues_of_pool() : pool != 0) ||
        txdctl::enable(get(Reg::txdctl, queue)) == 0)
        return dropped(transmit_queue_off);
    if (virtualized() && (enabled(Reg::pfvfte) & pool_bit(pool)) == 0) return dropped(transmit_pool_off);
    const bool switching = virtualized() && pfdtxgswc::lbe(get(Reg::pfdtxgswc)) != 0;
    if (switching && stalled_on_) return dropped(stalled);  // the packet buffer holds back all that may loop back

    Bytes sent = bytes;
    if (!apply_tag(pool, descriptor, sent, outcome)) return outcome;
    const Frame frame = parse(sent, tag_mode(static_cast<std::uint16_t>(dmatxctl::vt(get(Reg::dmatxctl)))));
    if (switching && sent.size() + crc_length > chip().max_frame)
        violate("a frame of more than 9.5 KB is sent while PFDTXGSWC.LBE is 1");
    if (const auto reason = virtualized() ? spoofed(pool, frame) : std::nullopt) {
        if ((enabled(Reg::pfvmecm) & pool_bit(pool)) != 0) count(Reg::ssvpc);
        if (switching && uncertain_.vlan_mirror_sees_spoofed) {
            PoolList list;
            add_mirrors(frame, groups_of(frame), {.from_wire = false, .to_wire = false}, list);
            list.pools &= enabled(Reg::pfvfre);
            deliver(frame, sent, list, true, outcome);
        }
        return dropped(*reason);
    }

    if (switching) {
        switch_frame(pool, frame, sent, outcome);
    } else if (link_) {
        outcome.deliveries.push_back({.to_wire = true, .bytes = sent, .because = {Because::Step::no_switching}});
    } else {
        drop(outcome, link_down);
    }

    const unsigned counters = get(Reg::tqsm, queue / 4) >> (8 * (queue % 4)) & 0xf;
    const std::size_t length = sent.size() + crc_length;
    count(Reg::txdgpc);
    count(Reg::qptc, counters);
    count36(Reg::qbtc_l, Reg::qbtc_h, counters, length);
    count(Reg::pvfgptc, pool);
    count36(Reg::pvfgotc_lsb, Reg::pvfgotc_msb, pool, length);
    if (outcome.on_wire()) {
        count(Reg::gptc);
        count36(Reg::gotcl, Reg::gotch, 0, length);
    }
    return outcome;
}

// 7.8.4.2.3 and, with two tags, 7.4.5: the tag goes behind the addresses or behind the outer tag, which software must
// have put there.
bool Model82599::apply_tag(unsigned pool, const Transmit& descriptor, Bytes& bytes, Outcome& outcome) {
    const auto type = static_cast<std::uint16_t>(dmatxctl::vt(get(Reg::dmatxctl)));
    const TagMode mode = tag_mode(type);
    const Frame frame = parse(bytes, mode);
    const std::uint32_t insert = virtualized() ? get(Reg::pfvmvir, pool) : 0;
    if (mode.two_tags && !frame.outer_tag && virtualized()) {
        const bool checked = (pfvfspoof::vlanas(get(Reg::pfvfspoof, pool / 8)) >> (pool % 8) & 1U) != 0;
        if (checked || pfvmvir::vlana(insert) != pfvmvir::by_descriptor || pfdtxgswc::lbe(get(Reg::pfdtxgswc)) != 0)
            violate("a frame without outer tag is sent in double VLAN mode with VLANAS, PFVMVIR or LBE on");
    }
    std::optional<std::uint16_t> tci;
    switch (pfvmvir::vlana(insert)) {
        case pfvmvir::by_descriptor:
            tci = descriptor.vlan;
            break;
        case pfvmvir::always:
            tci = static_cast<std::uint16_t>(pfvmvir::port_vlan(insert));
            [[fallthrough]];
        default:
            if (frame.tci && !uncertain_.vmvir_passes_tagged) {
                drop(outcome, Drop::Reason::tagged);
                return false;
            }
    }
    if (tci) {
        const std::array<std::uint8_t, tag_length> tag{
            static_cast<std::uint8_t>(type >> 8), static_cast<std::uint8_t>(type & 0xff),
            static_cast<std::uint8_t>(*tci >> 8), static_cast<std::uint8_t>(*tci & 0xff)};
        bytes.insert(bytes.begin() + static_cast<std::ptrdiff_t>(frame.tag_at), tag.begin(), tag.end());
    }
    return true;
}

// 7.8.4.2.1, 7.8.4.2.2: the source address is one of RAL/RAH that the pool receives for, the VLAN one of its groups.
std::optional<Drop::Reason> Model82599::spoofed(unsigned pool, const Frame& frame) const {
    const std::uint32_t checks = get(Reg::pfvfspoof, pool / 8);
    const auto on = [&](Field field) { return (field(checks) >> (pool % 8) & 1U) != 0; };
    if (on(pfvfspoof::macas) && (exact_match(frame.source).pools & pool_bit(pool)) == 0)
        return Drop::Reason::spoofed_mac;
    const bool foreign_vlan =
        frame.tci ? (groups_of(frame).pools & pool_bit(pool)) == 0 : uncertain_.spoof_check_untagged;
    if (on(pfvfspoof::vlanas) && foreign_vlan) return Drop::Reason::spoofed_vlan;
    return std::nullopt;
}

// 7.8.3.4.1 and, without replication, 7.8.3.4.2.
void Model82599::switch_frame(unsigned pool, const Frame& frame, const Bytes& bytes, Outcome& outcome) {
    const std::uint32_t control = get(Reg::pfvtctl);
    const bool replicate = pfvtctl::rpl_en(control) != 0;
    const PoolSet receiving = enabled(Reg::pfvfre);
    const Exact exact = exact_match(frame.destination);
    const Groups groups = groups_of(frame);
    outcome.mac_slot = exact.slot;
    if (groups.slots != 0) outcome.vlan_slot = static_cast<unsigned>(std::countr_zero(groups.slots));

    PoolList list;
    select_by_address(frame, exact, list);
    const bool vlan_gate = vlnctrl::vfe(get(Reg::vlnctrl)) != 0 && frame.tci && !in_vfta(*frame.vid());
    if ((uncertain_.loopback_vfta && vlan_gate) || (uncertain_.loopback_l2_filter && !passes_l2_filter(frame, exact)))
        list.pools = 0;
    const bool own_too = (enabled(Reg::pfvmtxsw) & pool_bit(pool)) != 0;
    const PoolSet others = own_too ? ~PoolSet{0} : ~pool_bit(pool);
    list.pools &= others & accepting_tag(frame, groups);
    const bool default_pool = replicate ? uncertain_.tx_default_pool : uncertain_.tx_default_pool_unreplicated;
    if (default_pool && !frame.unicast() && list.pools == 0 && pfvtctl::dis_def_pl(control) == 0)
        list.add(pool_bit(pfvtctl::def_pl(control)), {Because::Step::default_pool});
    if (const auto filter = ethertype_filter(frame.ethertype);
        uncertain_.loopback_ethertype && filter && etqf::pool_en(get(Reg::etqf, *filter)) != 0) {
        list.pools = 0;
        list.add(pool_bit(etqf::pool(get(Reg::etqf, *filter))), {Because::Step::ethertype, *filter});
    }

    // The wire is decided by the address alone: an exact match keeps a frame from it, whether its pool takes the
    // frame or not.
    const bool known = exact.slot && (!uncertain_.disabled_pool_is_unknown || (exact.pools & receiving) != 0);
    const bool to_wire = !frame.unicast() || !known;
    list.pools &= others & receiving;
    add_mirrors(frame, groups, {.from_wire = false, .to_wire = to_wire}, list);
    list.pools &= receiving;

    if (to_wire && link_)
        outcome.deliveries.push_back(
            {.to_wire = true,
             .bytes = bytes,
             .because = {frame.unicast() ? Because::Step::unknown_unicast : Because::Step::group}});
    // Without link, or with reception off, nothing loops back either.
    if (!link_) {
        drop(outcome, Drop::Reason::link_down);
    } else if (list.pools != 0 && !receive_on()) {
        drop(outcome, Drop::Reason::receive_off);
    } else {
        if (list.pools == 0 && !to_wire) drop(outcome, Drop::Reason::no_pool);
        deliver(frame, bytes, list, true, outcome);
    }
}

}  // namespace ivds::offload
