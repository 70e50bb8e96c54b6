// SPDX-License-Identifier: Apache-2.0
#include "nic/writer_82599.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <initializer_list>

#include "nic/access.h"

namespace ivds::offload {

using namespace i82599;

namespace {

constexpr unsigned queues_of_pool = 2;  // with 64 pools

// All frames of its V.VLANs: the table of unicast hashes is full (clear()).
constexpr std::uint32_t uplink_takes = pfvml2flt::bam.put() | pfvml2flt::mpe.put() | pfvml2flt::rope.put();

// Of two that match a frame at once nothing depends: there are none.
constexpr std::uint32_t filter_priority = 1;

// FTQF of a filter that is on: what is 0 in the match is not looked at.
std::uint32_t five_tuple(const RxKey& key) {
    const auto& [pool, match] = key;
    const std::uint32_t protocol = match.protocol == 17 ? ftqf::udp : match.protocol == 132 ? ftqf::sctp : ftqf::tcp;
    const auto ignored = [](bool is) { return is ? 1U : 0U; };
    return ftqf::protocol.put(protocol) | ftqf::priority.put(filter_priority) | ftqf::pool.put(pool) |
           ftqf::ignore_source.put(ignored(match.src == 0)) | ftqf::ignore_destination.put(ignored(match.dst == 0)) |
           ftqf::ignore_source_port.put(ignored(match.src_port == 0)) |
           ftqf::ignore_destination_port.put(ignored(match.dst_port == 0)) |
           ftqf::ignore_protocol.put(ignored(match.protocol == 0)) | ftqf::queue_en.put();
}

std::uint32_t half(PoolSet pools, unsigned word) {
    return static_cast<std::uint32_t>(pools >> (32 * word));
}

}  // namespace

Result<> Writer82599::put_bit(Reg reg, unsigned pool, bool on) {
    const std::uint32_t bit = 1U << (pool % 32);
    return nic_.change(reg, pool / 32, bit, on ? bit : 0);
}

Result<> Writer82599::check_setup() {
    if (auto ok = check_switching(); !ok) return ok;
    const auto mode = nic_.get(Reg::mrqc);
    if (!mode) return std::unexpected(mode.error());
    if (mrqc::mrqe(*mode) != mrqc::vt64 && mrqc::mrqe(*mode) != mrqc::vt64_rss)
        return fail(Code::unsupported, "IVDS-O010", "the NIC is not laid out in 64 pools", "enable 32 VFs or more");
    return {};
}

Result<> Writer82599::check_switching() {
    struct Wanted {
        Reg reg;
        Field field;
        std::uint32_t value;
        const char* what;
    };
    const std::uint32_t two = tags_.two ? 1 : 0;
    const std::initializer_list<Wanted> all = {
        {Reg::pfvtctl, pfvtctl::vt_en, 1, "pools (SR-IOV) on"},
        {Reg::pfvtctl, pfvtctl::rpl_en, 1, "replication to pools on"},
        {Reg::pfvtctl, pfvtctl::dis_def_pl, 0, "a default pool"},
        {Reg::pfvtctl, pfvtctl::def_pl, pf_, "the PF as default pool"},
        {Reg::pfdtxgswc, pfdtxgswc::lbe, 1 - two,
         tags_.two ? "no switching between pools (VEPA)" : "switching between pools (VEB)"},
        {Reg::vlnctrl, vlnctrl::vfe, 1, "the VLAN filter on"},
        {Reg::vlnctrl, vlnctrl::cfien, 0, "no filter on CFI"},
        {Reg::ctrl_ext, ctrl_ext::extended_vlan, two, tags_.two ? "two tags received" : "single tags"},
        {Reg::dmatxctl, dmatxctl::gdv, two, tags_.two ? "two tags sent" : "single tags"},
        {Reg::vlnctrl, vlnctrl::vet, 0x8100, "V.VLAN tags of TPID 0x8100"},
        {Reg::fctrl, fctrl::bam, 1, "broadcast taken in"},
        {Reg::fctrl, fctrl::mpe, 1, "all multicast taken in"},
        {Reg::fctrl, fctrl::upe, 1, "all unicast taken in"},
    };
    for (const auto& [reg, field, value, what] : all) {
        const auto now = nic_.get(reg);
        if (!now) return std::unexpected(now.error());
        if (field(*now) != value)
            return fail(
                Code::conflict, "IVDS-O010",
                fmt::format("{} is {:#010x}: the plan needs {}", describe(reg).name, *now, what),
                fmt::format("enable VFs, set the PF promiscuous and its hwmode to {}{}", tags_.two ? "vepa" : "veb",
                            tags_.two ? ", and double VLAN mode while the port is down" : ""));
    }
    const auto outer = nic_.get(Reg::exvet);
    if (!outer) return std::unexpected(outer.error());
    if (tags_.two && exvet::vet_ext(*outer) != tags_.outer_tpid)
        return fail(
            Code::conflict, "IVDS-O010",
            fmt::format("EXVET is {:#010x}: the plan needs outer tags of TPID {:#06x}", *outer, tags_.outer_tpid),
            "set it while the port is down");
    return {};
}

Result<> Writer82599::clear() {
    Result<> done;
    const auto each = [&](unsigned first, unsigned count, auto&& access) {
        for (unsigned i = first; done && i < count; ++i) done = access(i);
    };
    // Mirrors first: of copies for a pool that does not receive nothing is known but that they did harm.
    each(0, chip().mirror_rules, [&](unsigned i) { return nic_.put(Reg::pfmrctl, i, 0); });
    for (unsigned word = 0; word < 2; ++word) {
        const std::uint32_t own = half(pool_bit(pf_), word);
        each(word, word + 1, [&](unsigned i) { return nic_.put(Reg::pfvfte, i, own); });
        each(word, word + 1, [&](unsigned i) { return nic_.put(Reg::pfvfre, i, own); });
    }
    each(0, 2 * chip().mirror_rules, [&](unsigned i) { return nic_.put(Reg::pfmrvm, i, 0); });
    if (done) done = clear_filters();
    each(0, chip().pools, [&](unsigned i) { return i == pf_ ? Result<>{} : nic_.put(Reg::pfvml2flt, i, 0); });
    each(1, chip().mac_entries, [&](unsigned i) { return nic_.put(Reg::rah, i, 0); });
    each(1, chip().mac_entries, [&](unsigned i) { return put_pools_of_mac(i, 0); });
    each(0, 128, [&](unsigned i) { return nic_.put(Reg::vfta, i, 0); });
    each(0, chip().vlan_entries, [&](unsigned i) { return nic_.put(Reg::pfvlvf, i, 0); });
    each(0, 2 * chip().vlan_entries, [&](unsigned i) { return nic_.put(Reg::pfvlvfb, i, 0); });
    // Every unicast address is in the hash table; whether it means anything is PFVML2FLT.ROPE's.
    each(0, 128, [&](unsigned i) { return nic_.put(Reg::pfuta, i, all_ones); });
    each(0, 1, [&](unsigned) { return write(UnknownToPf{.on = false}); });
    return done;
}

Result<> Writer82599::clear_filters() {
    Result<> done;
    for (unsigned slot = 0; done && slot < chip().five_tuple_filters; ++slot) done = nic_.put(Reg::ftqf, slot, 0);
    return done;
}

Result<unsigned> Writer82599::pool_queues() {
    const auto mode = nic_.get(Reg::mrqc);
    if (!mode) return std::unexpected(mode.error());
    const bool many = mrqc::mrqe(*mode) == mrqc::vt64 || mrqc::mrqe(*mode) == mrqc::vt64_rss;
    return many ? queues_of_pool : 2 * queues_of_pool;
}

Result<PoolSet> Writer82599::get64(Reg reg, unsigned pair) {
    const auto low = nic_.get(reg, 2 * pair);
    if (!low) return std::unexpected(low.error());
    const auto high = nic_.get(reg, 2 * pair + 1);
    if (!high) return std::unexpected(high.error());
    return PoolSet{*high} << 32 | *low;
}

// The two halves are of one moment where the upper one did not change in between; it does so every 4 GB.
Result<Counter> Writer82599::get36(Reg low, Reg high, unsigned pool) {
    auto upper = nic_.get(high, pool);
    if (!upper) return std::unexpected(upper.error());
    auto lower = nic_.get(low, pool);
    if (!lower) return std::unexpected(lower.error());
    const auto after = nic_.get(high, pool);
    if (!after) return std::unexpected(after.error());
    if (*after != *upper) lower = nic_.get(low, pool);
    if (!lower) return std::unexpected(lower.error());
    return Counter{.value = std::uint64_t{*after} << 32 | *lower, .bits = 36};
}

Result<CountersOfPools> Writer82599::counters() {
    CountersOfPools out;
    for (unsigned pool = 0; pool < pf_; ++pool) {
        const auto rx = nic_.get(Reg::pvfgprc, pool);
        if (!rx) return std::unexpected(rx.error());
        const auto tx = nic_.get(Reg::pvfgptc, pool);
        if (!tx) return std::unexpected(tx.error());
        const auto rx_bytes = get36(Reg::pvfgorc_lsb, Reg::pvfgorc_msb, pool);
        if (!rx_bytes) return std::unexpected(rx_bytes.error());
        const auto tx_bytes = get36(Reg::pvfgotc_lsb, Reg::pvfgotc_msb, pool);
        if (!tx_bytes) return std::unexpected(tx_bytes.error());
        out[pool] = {
            .rx_packets = {.value = *rx}, .rx_bytes = *rx_bytes, .tx_packets = {.value = *tx}, .tx_bytes = *tx_bytes};
    }
    return out;
}

Result<unsigned> Writer82599::read_rate(unsigned pool) {
    if (auto done = nic_.put(Reg::rttdqsel, 0, pool * queues_of_pool); !done) return std::unexpected(done.error());
    const auto value = nic_.get(Reg::rttbcnrc);
    if (!value) return std::unexpected(value.error());
    const std::uint64_t factor = rttbcnrc::rate_factor(*value);
    if (rttbcnrc::rs_ena(*value) == 0 || factor == 0) return 0U;
    const auto speed = link_mbps();
    if (!speed) return std::unexpected(speed.error());
    return static_cast<unsigned>(((*speed << rttbcnrc::rf_int.shift) * queues_of_pool + factor / 2) / factor);
}

Result<Writer82599::PoolBits> Writer82599::read_bits(unsigned pool) {
    const auto tag = nic_.get(Reg::pfvmvir, pool);
    if (!tag) return std::unexpected(tag.error());
    const auto checks = nic_.get(Reg::pfvfspoof, pool / 8);
    if (!checks) return std::unexpected(checks.error());
    const auto takes = nic_.get(Reg::pfvml2flt, pool);
    if (!takes) return std::unexpected(takes.error());
    const auto receives = get64(Reg::pfvfre, 0);
    if (!receives) return std::unexpected(receives.error());
    const auto sends = get64(Reg::pfvfte, 0);
    if (!sends) return std::unexpected(sends.error());
    const auto rate = read_rate(pool);
    if (!rate) return std::unexpected(rate.error());
    const std::uint32_t bit = 1U << (pool % 8);
    return PoolBits{.tag = *tag,
                    .takes = *takes,
                    .on = (*receives & *sends & pool_bit(pool)) != 0,
                    .checks_mac = (pfvfspoof::macas(*checks) & bit) != 0,
                    .checks_vlan = (pfvfspoof::vlanas(*checks) & bit) != 0,
                    .rate_mbps = *rate};
}

// V.VLAN 0 where it is not as SetPool leaves it.
Result<NicPool> Writer82599::read_pool(unsigned pool, const PoolBits& bits) {
    const auto to_itself = get64(Reg::pfvmtxsw, 0);
    if (!to_itself) return std::unexpected(to_itself.error());
    const bool proper = bits.on && (*to_itself & pool_bit(pool)) == 0 && bits.checks_mac && bits.checks_vlan &&
                        bits.takes == (pfvml2flt::bam.put() | pfvml2flt::mpe.put()) &&
                        pfvmvir::vlana(bits.tag) == pfvmvir::always;
    const std::uint32_t tci = pfvmvir::port_vlan(bits.tag);
    NicPool as;
    as.vvlan = proper ? static_cast<std::uint16_t>(tci & 0xfff) : std::uint16_t{0};
    as.pcp = static_cast<std::uint8_t>(tci >> 13);
    as.rate_mbps = bits.rate_mbps;
    return as;
}

Result<bool> Writer82599::is_uplink(unsigned pool, const PoolBits& bits) {
    if (!tags_.two) return false;
    for (unsigned i = 0; i < queues_of_pool; ++i) {
        const auto queue = nic_.get(Reg::rxdctl, pool * queues_of_pool + i);
        if (!queue) return std::unexpected(queue.error());
        if (rxdctl::vme(*queue) != 0) return false;
    }
    return bits.on && !bits.checks_mac && !bits.checks_vlan && bits.takes == uplink_takes && bits.tag == 0 &&
           bits.rate_mbps == 0;
}

Result<NicState> Writer82599::read() {
    NicState state;
    const auto receives = get64(Reg::pfvfre, 0);
    if (!receives) return std::unexpected(receives.error());
    const auto sends = get64(Reg::pfvfte, 0);
    if (!sends) return std::unexpected(sends.error());
    for (unsigned pool = 0; pool < chip().pools; ++pool) {
        if (pool == pf_ || ((*receives | *sends) & pool_bit(pool)) == 0) continue;
        const auto bits = read_bits(pool);
        if (!bits) return std::unexpected(bits.error());
        const auto uplink = is_uplink(pool, *bits);
        if (!uplink) return std::unexpected(uplink.error());
        if (*uplink) {
            state.uplinks.insert(pool);
            continue;
        }
        const auto as = read_pool(pool, *bits);
        if (!as) return std::unexpected(as.error());
        state.pools[pool] = *as;
    }
    for (unsigned slot = 1; slot < chip().mac_entries; ++slot) {
        const auto high = nic_.get(Reg::rah, slot);
        if (!high) return std::unexpected(high.error());
        if (rah::av(*high) == 0) continue;
        const auto low = nic_.get(Reg::ral, slot);
        if (!low) return std::unexpected(low.error());
        const auto pools = get64(Reg::mpsar, slot);
        if (!pools) return std::unexpected(pools.error());
        const Mac mac = mac_of(*low, *high);
        const NicMac entry{
            .slot = slot,
            .pool = std::has_single_bit(*pools) ? static_cast<unsigned>(std::countr_zero(*pools)) : chip().pools};
        if (!state.macs.try_emplace(mac, entry).second)
            return fail(Code::conflict, "IVDS-O013", fmt::format("{} has two entries in RAL", format_mac(mac)),
                        "clear the NIC, and look for another writer");
    }
    if (auto done = read_tables(state); !done) return std::unexpected(done.error());
    return state;
}

Result<> Writer82599::read_tables(NicState& state) {
    for (unsigned slot = 0; slot < chip().vlan_entries; ++slot) {
        const auto value = nic_.get(Reg::pfvlvf, slot);
        if (!value) return std::unexpected(value.error());
        if (pfvlvf::vi_en(*value) == 0) continue;
        const auto members = get64(Reg::pfvlvfb, slot);
        if (!members) return std::unexpected(members.error());
        const auto vid = static_cast<std::uint16_t>(pfvlvf::vlan_id(*value));
        if (slot == 0 && vid == 0) continue;  // the driver's
        if (!state.vlans.try_emplace(vid, NicVlan{.slot = slot, .members = *members}).second)
            return fail(Code::conflict, "IVDS-O013", fmt::format("VLAN {} has two entries in PFVLVF", vid),
                        "clear the NIC, and look for another writer");
    }
    for (unsigned word = 0; word < 128; ++word) {
        const auto bits = nic_.get(Reg::vfta, word);
        if (!bits) return std::unexpected(bits.error());
        for (unsigned i = 0; i < 32; ++i)
            if ((*bits >> i & 1U) != 0) state.admitted.insert(static_cast<std::uint16_t>(32 * word + i));
    }
    if (auto done = read_mirrors(state); !done) return std::unexpected(done.error());
    if (auto done = read_filters(state); !done) return std::unexpected(done.error());
    const auto own = nic_.get(Reg::pfvml2flt, pf_);
    if (!own) return std::unexpected(own.error());
    state.unknown_to_pf = pfvml2flt::rope(*own) != 0;
    return {};
}

Result<> Writer82599::read_mirrors(NicState& state) {
    for (unsigned rule = 0; rule < chip().mirror_rules; ++rule) {
        const auto control = nic_.get(Reg::pfmrctl, rule);
        if (!control) return std::unexpected(control.error());
        if (pfmrctl::types(*control) == 0) continue;
        const auto low = nic_.get(Reg::pfmrvm, rule);
        if (!low) return std::unexpected(low.error());
        const auto high = nic_.get(Reg::pfmrvm, rule + chip().mirror_rules);
        if (!high) return std::unexpected(high.error());
        const bool by_pool_alone = pfmrctl::types(*control) == pfmrctl::vpme.put();
        const NicMirror entry{.slot = rule, .sources = PoolSet{*high} << 32 | *low};
        if (!by_pool_alone || !state.mirrors.try_emplace(pfmrctl::mp(*control), entry).second)
            return fail(Code::conflict, "IVDS-O013",
                        fmt::format("PFMRCTL[{}] is {:#x}, which no plan makes", rule, *control),
                        "clear the NIC, and look for another writer");
    }
    return {};
}

Result<> Writer82599::read_filters(NicState& state) {
    const auto conflict = [](const char* reg, unsigned slot, std::uint32_t value) {
        return fail(Code::conflict, "IVDS-O013",
                    fmt::format("{}[{}] is {:#010x}, which no plan makes", reg, slot, value),
                    "clear the NIC, and look for another writer");
    };
    const auto queues = pool_queues();
    if (!queues) return std::unexpected(queues.error());
    for (unsigned slot = 0; slot < chip().five_tuple_filters; ++slot) {
        const auto value = nic_.get(Reg::ftqf, slot);
        if (!value) return std::unexpected(value.error());
        if (ftqf::queue_en(*value) == 0) continue;
        const auto src = nic_.get(Reg::saqf, slot);
        if (!src) return std::unexpected(src.error());
        const auto dst = nic_.get(Reg::daqf, slot);
        if (!dst) return std::unexpected(dst.error());
        const auto ports = nic_.get(Reg::sdpqf, slot);
        if (!ports) return std::unexpected(ports.error());
        const auto target = nic_.get(Reg::l34timir, slot);
        if (!target) return std::unexpected(target.error());
        constexpr std::array<std::uint8_t, 4> protocols{6, 17, 132, 0};
        RxMatch match;
        if (ftqf::ignore_source(*value) == 0) match.src = std::byteswap(*src);
        if (ftqf::ignore_destination(*value) == 0) match.dst = std::byteswap(*dst);
        if (ftqf::ignore_protocol(*value) == 0) match.protocol = protocols.at(ftqf::protocol(*value));
        if (ftqf::ignore_source_port(*value) == 0) match.src_port = std::byteswap(static_cast<std::uint16_t>(*ports));
        if (ftqf::ignore_destination_port(*value) == 0)
            match.dst_port = std::byteswap(static_cast<std::uint16_t>(*ports >> 16));
        const RxKey key{ftqf::pool(*value), match};
        const unsigned queue = l34timir::rx_queue(*target);
        if (*value != five_tuple(key) || queue / *queues != key.first ||
            *target != (l34timir::must_be_one.put() | l34timir::size_bp.put() | l34timir::rx_queue.put(queue)) ||
            !state.filters.try_emplace(key, NicFilter{.slot = slot, .queue = queue % *queues}).second)
            return conflict("FTQF", slot, *value);
    }
    return {};
}

Result<> Writer82599::apply(const Step& step) {
    return std::visit([this](const auto& one) { return write(one); }, step);
}

// Both words hold no more than one pool at any time: a unicast address must not mean two.
Result<> Writer82599::put_pools_of_mac(unsigned slot, PoolSet pools) {
    const auto rewrite = [this](Reg reg) {
        const auto value = nic_.get(reg, 0);
        return value ? nic_.put(reg, 0, *value) : Result<>(std::unexpected(value.error()));
    };
    const unsigned last = half(pools, 1) != 0 ? 1 : 0;
    return in_turn([&] { return nic_.put(Reg::mpsar, 2 * slot + (1 - last), half(pools, 1 - last)); },
                   [&] { return nic_.put(Reg::mpsar, 2 * slot + last, half(pools, last)); },
                   // The maker asks for this after each change of MPSAR.
                   [&] { return rewrite(Reg::ral); }, [&] { return rewrite(Reg::rah); });
}

Result<> Writer82599::write(const SetMac& step) {
    const unsigned slot = step.entry.slot;
    return in_turn([&] { return put_pools_of_mac(slot, pool_bit(step.entry.pool)); },
                   [&] { return nic_.put(Reg::ral, slot, low_of(step.mac)); },
                   [&] { return nic_.put(Reg::rah, slot, high_of(step.mac) | rah::av.put()); });
}

Result<> Writer82599::write(const ClearMac& step) {
    return in_turn([&] { return nic_.put(Reg::rah, step.slot, 0); }, [&] { return nic_.put(Reg::ral, step.slot, 0); },
                   [&] { return put_pools_of_mac(step.slot, 0); });
}

Result<> Writer82599::write(const SetVlan& step) {
    const unsigned slot = step.entry.slot;
    const std::uint32_t key = pfvlvf::vlan_id.put(step.vvlan) | pfvlvf::vi_en.put();
    return in_turn([&] { return nic_.put(Reg::pfvlvfb, 2 * slot, half(step.entry.members, 0)); },
                   [&] { return nic_.put(Reg::pfvlvfb, 2 * slot + 1, half(step.entry.members, 1)); },
                   [&] { return nic_.put(Reg::pfvlvf, slot, key); });
}

Result<> Writer82599::write(const ClearVlan& step) {
    return in_turn([&] { return nic_.put(Reg::pfvlvf, step.slot, 0); },
                   [&] { return nic_.put(Reg::pfvlvfb, 2 * step.slot, 0); },
                   [&] { return nic_.put(Reg::pfvlvfb, 2 * step.slot + 1, 0); });
}

Result<> Writer82599::write(const Admit& step) {
    const std::uint32_t bit = 1U << (step.vvlan % 32);
    return nic_.change(Reg::vfta, step.vvlan / 32U, bit, step.on ? bit : 0);
}

// What is inserted changes while the pool does not transmit, and the VF sends nothing before its sources are checked.
Result<> Writer82599::write(const SetPool& step) {
    const std::uint32_t tci = std::uint32_t{step.as.pcp} << 13 | step.as.vvlan;
    const std::uint32_t bit = 1U << (step.pool % 8);
    const std::uint32_t check = pfvfspoof::macas.put(bit) | pfvfspoof::vlanas.put(bit);
    return in_turn([&] { return put_bit(Reg::pfvfte, step.pool, false); },
                   [&] {
                       return nic_.put(Reg::pfvmvir, step.pool,
                                       pfvmvir::port_vlan.put(tci) | pfvmvir::vlana.put(pfvmvir::always));
                   },
                   [&] { return nic_.change(Reg::pfvfspoof, step.pool / 8, check, check); },
                   [&] { return put_rate(step.pool, step.as.rate_mbps); },
                   [&] { return nic_.put(Reg::pfvml2flt, step.pool, pfvml2flt::bam.put() | pfvml2flt::mpe.put()); },
                   [&] { return put_bit(Reg::pfvfre, step.pool, true); },
                   [&] { return put_bit(Reg::pfvfte, step.pool, true); });
}

// The host sends whatever addresses and V.VLANs its switch does, and has both tags of what it gets.
Result<> Writer82599::write(const SetUplink& step) {
    const std::uint32_t bit = 1U << (step.pool % 8);
    const std::uint32_t checks = pfvfspoof::macas.put(bit) | pfvfspoof::vlanas.put(bit);
    const auto keep_tags = [&](unsigned queue) {
        return nic_.change(Reg::rxdctl, step.pool * queues_of_pool + queue, rxdctl::vme.put(), 0);
    };
    return in_turn(
        [&] { return put_bit(Reg::pfvfte, step.pool, false); }, [&] { return nic_.put(Reg::pfvmvir, step.pool, 0); },
        [&] { return nic_.change(Reg::pfvfspoof, step.pool / 8, checks, 0); }, [&] { return put_rate(step.pool, 0); },
        [&] { return keep_tags(0); }, [&] { return keep_tags(1); },
        [&] { return nic_.put(Reg::pfvml2flt, step.pool, uplink_takes); },
        [&] { return put_bit(Reg::pfvfre, step.pool, true); }, [&] { return put_bit(Reg::pfvfte, step.pool, true); });
}

// Its sources are checked from now on: a VF that is turned on by someone else is not let loose.
Result<> Writer82599::write(const ClearPool& step) {
    const std::uint32_t check = pfvfspoof::macas.put(1U << (step.pool % 8));
    return in_turn([&] { return put_bit(Reg::pfvfte, step.pool, false); },
                   [&] { return put_bit(Reg::pfvfre, step.pool, false); },
                   [&] { return nic_.change(Reg::pfvfspoof, step.pool / 8, check, check); },
                   [&] { return nic_.put(Reg::pfvml2flt, step.pool, 0); }, [&] { return put_rate(step.pool, 0); });
}

Result<> Writer82599::write(const SetRate& step) {
    return put_rate(step.pool, step.rate_mbps);
}

Result<std::uint64_t> Writer82599::link_mbps() {
    constexpr std::array<std::uint64_t, 4> speeds{10'000, 100, 1'000, 10'000};
    const auto link = nic_.get(Reg::links);
    return link ? Result<std::uint64_t>(speeds[links::speed(*link)]) : std::unexpected(link.error());
}

// The limit is a queue's, and the VM may use all queues of its VF.
Result<> Writer82599::put_rate(unsigned pool, unsigned mbps) {
    std::uint32_t value = 0;
    if (mbps != 0) {
        const auto speed = link_mbps();
        if (!speed) return std::unexpected(speed.error());
        const std::uint64_t factor = (*speed << rttbcnrc::rf_int.shift) * queues_of_pool / mbps;
        // A limit at or above the link's speed is none.
        if (factor >= 1U << rttbcnrc::rf_int.shift)
            value = rttbcnrc::rs_ena.put() |
                    static_cast<std::uint32_t>(std::min<std::uint64_t>(factor, rttbcnrc::rate_factor.mask()));
        constexpr std::uint32_t without_jumbo = 4;
        constexpr std::uint32_t with_jumbo = 0x14;
        const auto frames = nic_.get(Reg::hlreg0);
        if (!frames) return std::unexpected(frames.error());
        const std::uint32_t memory = hlreg0::jumboen(*frames) != 0 ? with_jumbo : without_jumbo;
        if (auto done = nic_.change(Reg::rttbcnrm, 0, rttbcnrm::mmw_size.mask(), memory); !done) return done;
    }
    for (unsigned i = 0; i < queues_of_pool; ++i)
        if (auto done = in_turn([&] { return nic_.put(Reg::rttdqsel, 0, pool * queues_of_pool + i); },
                                [&] { return nic_.put(Reg::rttbcnrc, 0, value); });
            !done)
            return done;
    return {};
}

// While its sources change it copies for some of them.
Result<> Writer82599::write(const SetMirror& step) {
    const unsigned rule = step.entry.slot;
    return in_turn([&] { return nic_.put(Reg::pfmrvm, rule, half(step.entry.sources, 0)); },
                   [&] { return nic_.put(Reg::pfmrvm, rule + chip().mirror_rules, half(step.entry.sources, 1)); },
                   [&] { return nic_.put(Reg::pfmrctl, rule, pfmrctl::vpme.put() | pfmrctl::mp.put(step.target)); });
}

Result<> Writer82599::write(const ClearMirror& step) {
    return in_turn([&] { return nic_.put(Reg::pfmrctl, step.slot, 0); },
                   [&] { return nic_.put(Reg::pfmrvm, step.slot, 0); },
                   [&] { return nic_.put(Reg::pfmrvm, step.slot + chip().mirror_rules, 0); });
}

Result<> Writer82599::write(const SetFilter& step) {
    const auto queues = pool_queues();
    if (!queues) return std::unexpected(queues.error());
    const RxMatch match = step.key.second;
    const unsigned slot = step.entry.slot;
    const unsigned queue = step.key.first * *queues + step.entry.queue;
    const std::uint32_t ports = std::uint32_t{std::byteswap(match.dst_port)} << 16 | std::byteswap(match.src_port);
    return in_turn([&] { return nic_.put(Reg::ftqf, slot, 0); },
                   [&] { return nic_.put(Reg::saqf, slot, std::byteswap(match.src)); },
                   [&] { return nic_.put(Reg::daqf, slot, std::byteswap(match.dst)); },
                   [&] { return nic_.put(Reg::sdpqf, slot, ports); },
                   [&] {
                       return nic_.put(
                           Reg::l34timir, slot,
                           l34timir::must_be_one.put() | l34timir::size_bp.put() | l34timir::rx_queue.put(queue));
                   },
                   [&] { return nic_.put(Reg::ftqf, slot, five_tuple(step.key)); });
}

Result<> Writer82599::write(const ClearFilter& step) {
    return nic_.put(Reg::ftqf, step.slot, 0);
}

// The PF takes untagged frames and the floods of the V.VLANs that it is a member of.
Result<> Writer82599::write(const UnknownToPf& step) {
    return nic_.put(
        Reg::pfvml2flt, pf_,
        pfvml2flt::aupe.put() | pfvml2flt::bam.put() | pfvml2flt::mpe.put() | pfvml2flt::rope.put(step.on ? 1 : 0));
}

Result<> Writer82599::write(const Software& /*step*/) {
    return {};
}

}  // namespace ivds::offload
