// SPDX-License-Identifier: Apache-2.0
// The register file: checked accesses, registers that act, counters, reset, link.
#include "nic/model_82599.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace ivds::offload {

using namespace i82599;
using enum Violation::Kind;

namespace {

constexpr auto row_of(Reg reg) {
    return static_cast<std::size_t>(reg);
}

// What a register that is undefined after a reset holds: the same in each run, and never all zero by luck.
constexpr std::uint32_t rubbish(std::size_t slot) {
    auto x = static_cast<std::uint32_t>(slot) * 0x9e3779b1U + 0x85ebca6bU;
    x ^= x >> 15;
    return x * 0x2c1b3c6dU | 1U << (slot % 32);
}

std::string name_of(Reg reg, unsigned element) {
    const Register& row = describe(reg);
    return row.count() == 1 ? std::string(row.name) : fmt::format("{}[{}]", row.name, element);
}

}  // namespace

Model82599::Model82599(Uncertain uncertain)
    : uncertain_(uncertain), values_(i82599::map().slots()), written_(i82599::map().slots()) {
    reset_registers(true);
}

std::size_t Model82599::slot(Reg reg, unsigned element) {
    return i82599::map().slot(row_of(reg), element);
}

std::uint64_t Model82599::get64(Reg reg, unsigned pair) const {
    return get(reg, 2 * pair) | static_cast<std::uint64_t>(get(reg, 2 * pair + 1)) << 32;
}

std::uint32_t Model82599::peek(Reg reg, unsigned element) const {
    return get(reg, element);
}

void Model82599::violate(Violation::Kind kind, std::uint32_t offset, std::uint32_t value, std::string what) {
    violations_.push_back({kind, offset, value, std::move(what)});
}

void Model82599::violate(Violation::Kind kind, Reg reg, unsigned element, std::uint32_t value, std::string what) {
    violate(kind, i82599::offset(reg, element), value, fmt::format("{}: {}", name_of(reg, element), what));
}

void Model82599::violate(std::string contradiction_text) {
    violate(contradiction, 0, 0, std::move(contradiction_text));
}

Result<std::uint32_t> Model82599::read(std::uint32_t offset) {
    const auto at = i82599::map().locate(offset);
    if (!at) {
        violate(offset % 4 == 0 ? unknown_offset : unaligned, offset, 0, fmt::format("read of {:#07x}", offset));
        return 0U;
    }
    const auto reg = static_cast<Reg>(at->row);
    const Register& row = describe(reg);
    if (row.access == Access::wo) violate(write_only, reg, at->element, 0, "read");
    // Any read makes the writes before it arrive.
    unread_queue_drop_ = false;
    unread_flow_hash_ = false;
    const bool known = reg == Reg::rttdt1c ? written_[slot(reg, 0)] : written_[slot(reg, at->element)];
    if (row.write_first && !known) violate(order, reg, at->element, 0, std::string(row.order));
    return read_register(reg, at->element);
}

std::uint32_t Model82599::read_register(Reg reg, unsigned element) {
    switch (reg) {
        case Reg::pfqde:
            if (read_queue_drop_) {
                const std::uint32_t value = get(reg);
                return (value & ~pfqde::qde.mask()) | pfqde::qde.put(drop_enable_[pfqde::queue_idx(value)] ? 1U : 0U);
            }
            return get(reg);
        case Reg::rttbcnrc:
            return rate_[rttdqsel::txdq_idx(get(Reg::rttdqsel))];
        case Reg::rttdt1c:
            return credits_[rttdqsel::txdq_idx(get(Reg::rttdqsel))];
        default:
            break;
    }
    const std::uint32_t value = get(reg, element);
    if (describe(reg).access == Access::rc) set(reg, element, 0);
    return value;
}

Result<> Model82599::write(std::uint32_t offset, std::uint32_t value) {
    const auto at = i82599::map().locate(offset);
    if (!at) {
        violate(offset % 4 == 0 ? unknown_offset : unaligned, offset, value,
                fmt::format("write of {:#010x} to {:#07x}", value, offset));
        return {};
    }
    const auto reg = static_cast<Reg>(at->row);
    const Register& row = describe(reg);
    const unsigned element = at->element;
    const std::uint32_t before = get(reg, element);
    switch (row.access) {
        case Access::ro:
        case Access::rc:
            violate(read_only, reg, element, value, "written");
            return {};
        case Access::w1c:
            set(reg, element, before & ~value);
            if (reg == Reg::pfvflrec) set(Reg::pfvflre, element, before & ~value);
            return {};
        case Access::rw:
        case Access::wo:
            break;
    }
    if (const std::uint32_t bits = (value ^ row.reset) & row.reserved(); bits != 0)
        violate(reserved_bits, reg, element, value, fmt::format("reserved bits {:#010x} changed", bits));
    const std::uint32_t after = (before & ~row.writable) | (value & row.writable);
    check_write(reg, element, before, after);
    set(reg, element, after);
    written_[slot(reg, element)] = true;
    unchecked_ = true;
    after_write(reg, element, after);
    return {};
}

void Model82599::after_write(Reg reg, unsigned element, std::uint32_t value) {
    switch (reg) {
        case Reg::ctrl:
            if (ctrl::rst(value) != 0 || ctrl::lrst(value) != 0) reset_registers(false);
            break;
        case Reg::mpsar:
            rewrite_rar0_ = 3;
            break;
        case Reg::ral:
            if (element == 0) rewrite_rar0_ &= ~1U;
            break;
        case Reg::rah:
            if (element == 0) rewrite_rar0_ &= ~2U;
            break;
        case Reg::pfqde:
            read_queue_drop_ = pfqde::re(value) != 0;
            if (pfqde::we(value) != 0) drop_enable_[pfqde::queue_idx(value)] = pfqde::qde(value) != 0;
            unread_queue_drop_ = true;
            break;
        case Reg::rttbcnrc:
            rate_[rttdqsel::txdq_idx(get(Reg::rttdqsel))] = value;
            break;
        case Reg::rttdt1c:
            credits_[rttdqsel::txdq_idx(get(Reg::rttdqsel))] = value;
            break;
        case Reg::fdirctrl:
            if (fdirctrl::pballoc(value) != 0) {
                set(reg, 0, value | fdirctrl::init_done.mask());
                flows_.clear();
                flow_tables_clear_ = false;
                set(Reg::fdirfree, 0, (1024U << fdirctrl::pballoc(value)) - 2);
            }
            break;
        case Reg::fdirhash:
            unread_flow_hash_ = true;
            break;
        case Reg::fdircmd:
            command_flow(value);
            break;
        default:
            break;
    }
}

void Model82599::reset_registers(bool with_pcie) {
    // A software reset leaves EXTENDED_VLAN as it is.
    const std::uint32_t keep = with_pcie ? 0 : get(Reg::ctrl_ext) & ctrl_ext::extended_vlan.mask();
    for (std::size_t row = 0; row < row_of(Reg::end_of_list); ++row) {
        const auto reg = static_cast<Reg>(row);
        const Register& described = describe(reg);
        for (unsigned i = 0; i < described.count(); ++i) {
            const std::size_t at = slot(reg, i);
            values_[at] = described.undefined ? rubbish(at) & described.writable : described.reset;
            written_[at] = false;
        }
    }
    set(Reg::ctrl_ext, 0, get(Reg::ctrl_ext) | keep);
    drop_enable_.fill(false);
    rate_.fill(0);
    credits_.fill(0);
    flows_.clear();
    flow_tables_clear_ = true;
    clearing_flows_ = read_queue_drop_ = unread_queue_drop_ = unread_flow_hash_ = false;
    rewrite_rar0_ = 0;
    unchecked_ = true;
    stalled_on_.reset();
    show_link();
}

void Model82599::reset() {
    reset_registers(true);
}

void Model82599::reset_function(unsigned vf) {
    const unsigned word = vf / 32;
    const std::uint32_t bit = 1U << (vf % 32);
    set(Reg::pfvfre, word, get(Reg::pfvfre, word) & ~bit);
    set(Reg::pfvfte, word, get(Reg::pfvfte, word) & ~bit);
    set(Reg::pfvflre, word, get(Reg::pfvflre, word) | bit);
    set(Reg::pfvflrec, word, get(Reg::pfvflrec, word) | bit);
    // The function's queues are disabled with it.
    const unsigned each = queues_of_pool();
    for (unsigned queue = vf * each; queue < (vf + 1) * each && queue < queues; ++queue) {
        set(Reg::rxdctl, queue, get(Reg::rxdctl, queue) & ~rxdctl::enable.mask());
        set(Reg::txdctl, queue, get(Reg::txdctl, queue) & ~txdctl::enable.mask());
    }
    unchecked_ = true;
}

void Model82599::set_bmc(std::vector<MacAddress> addresses, bool host_too) {
    bmc_ = std::move(addresses);
    bmc_and_host_ = host_too;
}

void Model82599::set_link(bool up, unsigned mbps) {
    link_ = up;
    link_mbps_ = mbps;
    show_link();
}

void Model82599::show_link() {
    const std::uint32_t speed = link_mbps_ >= 10'000 ? 3 : link_mbps_ >= 1'000 ? 2 : 1;
    set(Reg::links, 0, link_ ? links::up.put() | links::speed.put(speed) : 0);
    set(Reg::status, 0, link_ ? status::link_up.put() : 0);
}

void Model82599::set_queue_full(unsigned queue, bool full) {
    full_[queue] = full;
    if (!full && stalled_on_ == queue) stalled_on_.reset();
}

unsigned Model82599::pools() const {
    switch (mrqc::mrqe(get(Reg::mrqc))) {
        case mrqc::vt16_dcb:
            return 16;
        case mrqc::vt32_rss:
        case mrqc::vt32_dcb:
            return 32;
        default:
            return 64;
    }
}

std::optional<double> Model82599::rate_mbps(unsigned queue) const {
    const std::uint32_t value = rate_[queue];
    const std::uint32_t factor = rttbcnrc::rate_factor(value);
    if (rttbcnrc::rs_ena(value) == 0 || factor == 0) return std::nullopt;
    // The factor is of the link's speed: with another speed, another rate (X550 4.6.11.2).
    return link_mbps_ * 16384.0 / factor;
}

// Counters that reading clears stay at their maximum, the others wrap.
void Model82599::count(Reg reg, unsigned element, std::uint32_t by) {
    const std::uint32_t value = get(reg, element);
    const std::uint32_t sum = value + by;
    set(reg, element, describe(reg).access == Access::rc && sum < value ? ~0U : sum);
}

void Model82599::count36(Reg low, Reg high, unsigned element, std::size_t bytes) {
    constexpr std::uint64_t most = (std::uint64_t{1} << 36) - 1;
    const std::uint64_t value = get(low, element) | static_cast<std::uint64_t>(get(high, element)) << 32;
    std::uint64_t sum = value + bytes;
    if (sum > most) sum = describe(low).access == Access::rc ? most : sum & most;
    set(low, element, static_cast<std::uint32_t>(sum));
    set(high, element, static_cast<std::uint32_t>(sum >> 32));
}

bool Outcome::on_wire() const {
    return std::ranges::any_of(deliveries, &Delivery::to_wire);
}

std::uint64_t Outcome::pools() const {
    std::uint64_t pools = 0;
    for (const Delivery& delivery : deliveries)
        if (!delivery.to_wire) pools |= std::uint64_t{1} << delivery.pool;
    return pools;
}

std::string text(const Because& because) {
    using enum Because::Step;
    switch (because.step) {
        case only_pool:
            return "virtualization is off";
        case exact:
            return fmt::format("MAC entry RAL[{}]", because.slot);
        case broadcast:
            return "PFVML2FLT.BAM";
        case unicast_hash:
            return "PFUTA and PFVML2FLT.ROPE";
        case multicast_hash:
            return "MTA and PFVML2FLT.ROMPE";
        case all_multicast:
            return "PFVML2FLT.MPE";
        case default_pool:
            return "default pool, PFVTCTL.DEF_PL";
        case ethertype:
            return fmt::format("EtherType filter ETQF[{}]", because.slot);
        case mirror:
            return fmt::format("mirror rule PFMRCTL[{}]", because.slot);
        case unknown_unicast:
            return "no MAC entry";
        case group:
            return "broadcast or multicast";
        case no_switching:
            return "PFDTXGSWC.LBE is 0";
    }
    return {};
}

std::string_view text(Drop::Reason reason) {
    using enum Drop::Reason;
    switch (reason) {
        case runt:
            return "shorter than an Ethernet header";
        case link_down:
            return "the link is down";
        case receive_off:
            return "reception is off, RXCTRL.RXEN";
        case transmit_off:
            return "transmission is off, DMATXCTL.TE";
        case transmit_queue_off:
            return "the transmit queue is off, TXDCTL.ENABLE";
        case transmit_pool_off:
            return "the pool must not transmit, PFVFTE";
        case oversize:
            return "longer than MAXFRS";
        case mac_control:
            return "consumed by the MAC, MFLCN";
        case manageability:
            return "for the BMC alone, the manageability filter";
        case l2_filter:
            return "the address filter, FCTRL";
        case vlan_filter:
            return "the VLAN filter, VFTA";
        case cfi:
            return "the CFI filter, VLNCTRL.CFIEN";
        case no_pool:
            return "no pool accepts it, PFVLVF and PFVML2FLT";
        case pools_off:
            return "its pools must not receive, PFVFRE";
        case queue_off:
            return "the receive queue is off, RXDCTL.ENABLE";
        case filtered:
            return "a Flow Director filter drops it";
        case no_descriptor:
            return "the receive queue is full";
        case stalled:
            return "the packet buffer waits for a full queue";
        case tagged:
            return "the pool must not send tags, PFVMVIR";
        case spoofed_mac:
            return "the source address is not the pool's, PFVFSPOOF.MACAS";
        case spoofed_vlan:
            return "the VLAN is not the pool's, PFVFSPOOF.VLANAS";
        case end_of_list:
            break;
    }
    return {};
}

std::string_view text(Violation::Kind kind) {
    switch (kind) {
        case unaligned:
            return "unaligned";
        case unknown_offset:
            return "unknown offset";
        case read_only:
            return "read-only";
        case write_only:
            return "write-only";
        case reserved_bits:
            return "reserved bits";
        case forbidden_value:
            return "forbidden value";
        case order:
            return "order";
        case contradiction:
            return "contradiction";
        case not_modelled:
            return "not modelled";
    }
    return {};
}

}  // namespace ivds::offload
