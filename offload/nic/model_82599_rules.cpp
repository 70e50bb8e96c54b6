// SPDX-License-Identifier: Apache-2.0
// What the maker allows: values and order of single writes, and registers that must agree when a frame comes.
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <map>
#include <utility>

#include "nic/model_82599.h"

namespace ivds::offload {

using namespace i82599;
using enum Violation::Kind;

namespace {

constexpr std::uint16_t tag_type = 0x8100;

bool reserved_queue_mode(std::uint32_t mrqe) {
    return mrqe == 6 || mrqe == 7 || mrqe == 9 || mrqe > 13;
}

bool legal_mtqc(std::uint32_t value) {
    constexpr std::array legal{0x0U, 0x6U, 0x9U, 0xaU, 0xbU, 0xdU, 0xfU};
    return std::ranges::find(legal, value) != legal.end();
}

}  // namespace

void Model82599::check_write(Reg reg, unsigned element, std::uint32_t before, std::uint32_t after) {
    const std::uint32_t changed = before ^ after;
    const auto forbid = [&](std::string what) { violate(forbidden_value, reg, element, after, std::move(what)); };
    const auto misorder = [&] { violate(order, reg, element, after, std::string(describe(reg).order)); };

    switch (reg) {
        case Reg::ctrl_ext:
            if ((changed & ctrl_ext::extended_vlan.mask()) != 0 && (receive_on() || transmit_on())) misorder();
            break;
        case Reg::rxctrl:
            if (rxctrl::rxen(changed & after) != 0) check_initialized();
            break;
        case Reg::fctrl:
            if (changed != 0 && receive_on()) misorder();
            break;
        case Reg::vlnctrl:  // "For proper operation, software must not change the default setting of this field"
            if (vlnctrl::vet(after) != tag_type) forbid("VET is not 0x8100");
            break;
        case Reg::mrqc:
            if (reserved_queue_mode(mrqc::mrqe(after)))
                forbid(fmt::format("MRQE {} is reserved", mrqc::mrqe(after)));
            else if (mrqc::mrqe(after) >= mrqc::vt16_dcb || (mrqc::mrqe(after) >= 2 && mrqc::mrqe(after) <= 5))
                violate(not_modelled, reg, element, after, "queues by traffic class");
            break;
        case Reg::rah:
            check_unicast_pools(element, get64(Reg::mpsar, element), after, get(Reg::ral, element));
            break;
        case Reg::ral:
            check_unicast_pools(element, get64(Reg::mpsar, element), get(Reg::rah, element), after);
            break;
        case Reg::mpsar: {
            const std::uint64_t other = get(reg, element ^ 1U);
            const std::uint64_t both = element % 2 == 0 ? after | other << 32 : other | std::uint64_t{after} << 32;
            const unsigned entry = element / 2;
            check_unicast_pools(entry, both, get(Reg::rah, entry), get(Reg::ral, entry));
            break;
        }
        case Reg::dmatxctl:
            if (dmatxctl::vt(after) != tag_type) forbid("VT is not 0x8100");
            if ((changed & dmatxctl::gdv.mask()) != 0 && (receive_on() || dmatxctl::te(before) != 0)) misorder();
            if (dmatxctl::te(changed & after) != 0) check_initialized();
            break;
        case Reg::mtqc:
            if (!legal_mtqc(after)) forbid("no such layout of transmit queues");
            if ((after & 1U) != 0) violate(not_modelled, reg, element, after, "queues by traffic class");
            if (transmit_on() || rttdcs::arbdis(get(Reg::rttdcs)) == 0) misorder();
            break;
        case Reg::rttbcnrc:
            if (rttbcnrc::rs_ena(after) != 0) {
                if (rttbcnrc::rf_int(after) == 0) forbid("a rate above that of the link");
                if (get(Reg::rttbcnrm) == 0) misorder();
            }
            break;
        case Reg::pfvtctl:
            if (pfvtctl::rpl_en(after) == 0)
                for (unsigned rule = 0; rule < chip().mirror_rules; ++rule)
                    if (pfmrctl::types(get(Reg::pfmrctl, rule)) != 0) misorder();
            break;
        case Reg::pfqde:
            if (pfqde::we(after) != 0 && pfqde::re(after) != 0) forbid("WE and RE together");
            if (unread_queue_drop_) misorder();
            break;
        case Reg::pfvfspoof:
            if ((pfvfspoof::vlanas(after) & ~pfvfspoof::macas(after)) != 0)
                forbid("VLANAS of a pool without its MACAS");
            break;
        case Reg::pfdtxgswc:
            if (pfdtxgswc::lbe(after) != 0 && fcrth::rth(get(Reg::fcrth, 0)) == 0) misorder();
            break;
        case Reg::pfvmvir: {
            if (pfvmvir::vlana(after) == 3) forbid("VLANA 3 is reserved");
            const bool may_send = (enabled(Reg::pfvfte) >> element & 1) != 0 && transmit_on();
            const unsigned each = queues_of_pool();
            for (unsigned queue = element * each; queue < (element + 1) * each && queue < queues; ++queue)
                if (changed != 0 && may_send && txdctl::enable(get(Reg::txdctl, queue)) != 0) {
                    misorder();
                    break;
                }
            break;
        }
        case Reg::pfmrctl:
            if (std::popcount(pfmrctl::types(after)) > 1) forbid("more than one type of traffic in a rule");
            if (pfmrctl::types(after) != 0 && pfvtctl::rpl_en(get(Reg::pfvtctl)) == 0) misorder();
            break;
        default:
            check_write_of_filter(reg, element, before, after);
            check_write_of_flow(reg, before, after);
    }
}

void Model82599::check_write_of_filter(Reg reg, unsigned element, std::uint32_t before, std::uint32_t after) {
    const auto forbid = [&](std::string what) { violate(forbidden_value, reg, element, after, std::move(what)); };
    switch (reg) {
        case Reg::etqf: {
            if (etqf::filter_en(after) == 0) break;
            if (etqf::etype(after) == 0x0800 || etqf::etype(after) == 0x86dd) forbid("an EtherType of IP");
            if (etqf::fcoe(after) != 0 || etqf::ts_1588(after) != 0)
                violate(not_modelled, reg, element, after, "FCoE and time stamps");
            if (etqf::pool_en(after) == 0) break;
            const std::uint32_t select = get(Reg::etqs, element);
            if (etqs::queue_en(select) == 0)
                violate(order, reg, element, after, std::string(describe(reg).order));
            else if (etqs::rx_queue(select) / queues_of_pool() != etqf::pool(after))
                forbid("its queue is not of its pool");
            break;
        }
        case Reg::ftqf: {
            if (ftqf::queue_en(after) == 0) break;
            if (ftqf::protocol(after) == ftqf::other && ftqf::ignore_protocol(after) == 0 &&
                (ftqf::ignore_source_port(after) == 0 || ftqf::ignore_destination_port(after) == 0))
                forbid("ports of a protocol that has none");
            if (!written_[slot(Reg::l34timir, element)]) {
                violate(order, reg, element, after, std::string(describe(reg).order));
                break;
            }
            const unsigned queue = l34timir::rx_queue(get(Reg::l34timir, element));
            if (ftqf::ignore_pool(after) == 0 && queue / queues_of_pool() != ftqf::pool(after))
                forbid("its queue is not of its pool");
            break;
        }
        case Reg::saqf:
        case Reg::daqf:
        case Reg::sdpqf:
            if (before != after && ftqf::queue_en(get(Reg::ftqf, element)) != 0 && written_[slot(Reg::ftqf, element)])
                violate(order, reg, element, after, "changed while the filter is on");
            break;
        case Reg::l34timir:
            if (l34timir::must_be_one(after) == 0) forbid("bit 19 must be 1");
            break;
        default:
            break;
    }
}

void Model82599::check_write_of_flow(Reg reg, std::uint32_t before, std::uint32_t after) {
    const auto misorder = [&] { violate(order, reg, 0, after, std::string(describe(reg).order)); };
    switch (reg) {
        case Reg::fdirctrl:
            if (fdirctrl::pballoc(after) == 0) break;
            if (!flow_tables_clear_) misorder();
            if (fdirctrl::perfect(after) == 0) violate(not_modelled, reg, 0, after, "signature filters");
            if (rxdctl::enable(get(Reg::rxdctl, fdirctrl::drop_q(after))) != 0)
                violate(forbidden_value, reg, 0, after, "the drop queue is enabled");
            break;
        case Reg::fdirdip4m:
        case Reg::fdirsip4m:
        case Reg::fdirtcpm:
        case Reg::fdirudpm:
        case Reg::fdirip6m:
        case Reg::fdirm:
            if (before != after && !flows_.empty()) misorder();
            break;
        case Reg::fdircmd: {
            const std::uint32_t command = fdircmd::cmd(after);
            if (command == 0) break;
            if (unread_flow_hash_)
                violate(order, Reg::fdirhash, 0, after, std::string(describe(Reg::fdirhash).order));
            if (fdirctrl::init_done(get(Reg::fdirctrl)) == 0) misorder();
            if (command != fdircmd::add) break;
            if (fdircmd::ipv6(after) != 0) violate(not_modelled, reg, 0, after, "filters on IPv6");
            if (fdircmd::drop(after) == 0 && fdircmd::queue_en(after) != 0 && fdirm::pool(get(Reg::fdirm)) == 0 &&
                fdircmd::rx_queue(after) / queues_of_pool() != fdircmd::pool(after))
                violate(forbidden_value, reg, 0, after, "its queue is not of its pool");
            break;
        }
        default:
            break;
    }
}

// "MPSAR[n] must not enable more than one pool for unicast RAL/RAH filters" (X550 7.8.3.3.1).
void Model82599::check_unicast_pools(unsigned entry, std::uint64_t pools, std::uint32_t high, std::uint32_t low) {
    if (rah::av(high) != 0 && (low & 1U) == 0 && std::popcount(pools) > 1)
        violate(forbidden_value, Reg::mpsar, 2 * entry, static_cast<std::uint32_t>(pools),
                "more than one pool for a unicast address");
}

void Model82599::check_initialized() {
    for (std::size_t row = 0; row < static_cast<std::size_t>(Reg::end_of_list); ++row) {
        const auto reg = static_cast<Reg>(row);
        const Register& described = describe(reg);
        // A filter is off or was written as a whole; its other registers may hold anything.
        if (!described.undefined || reg == Reg::l34timir) continue;
        for (unsigned i = 0; i < described.count(); ++i)
            if (!written_[slot(reg, i)]) {
                violate(order, reg, i, 0, "undefined when traffic is enabled");
                break;
            }
    }
}

void Model82599::check_state() {
    if (!std::exchange(unchecked_, false)) return;
    const std::uint32_t control = get(Reg::pfvtctl);
    const std::uint32_t mode = mrqc::mrqe(get(Reg::mrqc));
    if (virtualized() != (mtqc::vt_en(get(Reg::mtqc)) != 0)) violate("PFVTCTL.VT_EN and MTQC.VT_EN differ");
    if ((ctrl_ext::extended_vlan(get(Reg::ctrl_ext)) != 0) != (dmatxctl::gdv(get(Reg::dmatxctl)) != 0))
        violate("CTRL_EXT.EXTENDED_VLAN and DMATXCTL.GDV differ");
    if (virtualized()) {
        if (mode < mrqc::vt64) violate("PFVTCTL.VT_EN with an MRQC.MRQE without pools");
        const std::uint32_t code = pools() == 64 ? 3 : pools() == 32 ? 2 : 1;
        if (gpie::vtmode(get(Reg::gpie)) != code || gcr_ext::vt_mode(get(Reg::gcr_ext)) != code)
            violate("GPIE.VTMODE and GCR_EXT.VT_MODE do not say the pools of MRQC.MRQE");
        const std::uint32_t layout = mtqc::num_tc_or_q(get(Reg::mtqc));
        if ((pools() == 64) != (layout == 1)) violate("MTQC and MRQC.MRQE do not say the same pools");
        if (pfvtctl::dis_def_pl(control) == 0 && pfvtctl::def_pl(control) >= pools())
            violate("PFVTCTL.DEF_PL is not a pool");
    } else if (pfdtxgswc::lbe(get(Reg::pfdtxgswc)) != 0 || pfvtctl::rpl_en(control) != 0) {
        violate("PFDTXGSWC.LBE or PFVTCTL.RPL_EN without PFVTCTL.VT_EN");
    }

    // What the chip does with two entries for one key is not written anywhere.
    std::map<std::uint64_t, unsigned> addresses;
    for (unsigned i = 0; i < chip().mac_entries; ++i) {
        const std::uint32_t high = get(Reg::rah, i);
        if (rah::av(high) == 0) continue;
        const auto [first, fresh] =
            addresses.try_emplace(get(Reg::ral, i) | std::uint64_t{rah::address(high)} << 32, i);
        if (!fresh) violate(fmt::format("RAL[{}] and RAL[{}] hold the same address", first->second, i));
    }
    std::map<std::uint32_t, unsigned> vids;
    for (unsigned i = 0; i < chip().vlan_entries; ++i) {
        const std::uint32_t value = get(Reg::pfvlvf, i);
        if (pfvlvf::vi_en(value) == 0) continue;
        const auto [first, fresh] = vids.try_emplace(pfvlvf::vlan_id(value), i);
        if (!fresh) violate(fmt::format("PFVLVF[{}] and PFVLVF[{}] hold the same VID", first->second, i));
    }
    std::map<std::uint32_t, unsigned> types;
    for (unsigned i = 0; i < chip().ethertype_filters; ++i) {
        const std::uint32_t value = get(Reg::etqf, i);
        if (etqf::filter_en(value) == 0) continue;
        const auto [first, fresh] = types.try_emplace(etqf::etype(value), i);
        if (!fresh) violate(fmt::format("ETQF[{}] and ETQF[{}] hold the same EtherType", first->second, i));
    }
}

void Model82599::check_settled() {
    if (rttdcs::arbdis(get(Reg::rttdcs)) != 0)
        violate(order, Reg::rttdcs, 0, get(Reg::rttdcs), "ARBDIS was not cleared");
    if (rewrite_rar0_ != 0) violate(order, Reg::mpsar, 0, 0, std::string(describe(Reg::mpsar).order));
    if (unread_queue_drop_) violate(order, Reg::pfqde, 0, get(Reg::pfqde), "written and nothing read after it");
    if (unread_flow_hash_) violate(order, Reg::fdirhash, 0, get(Reg::fdirhash), "written and nothing read after it");
}

}  // namespace ivds::offload
