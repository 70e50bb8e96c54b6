// SPDX-License-Identifier: Apache-2.0
// The queue of a copy within its pool: EtherType filters, SYN filter, five-tuple filters, Flow Director, RSS (X550
// 7.1.3, figures 7-5 and 7-6; the five-tuple filters are the 82599's alone).
#include <algorithm>
#include <bit>
#include <utility>

#include "nic/model_82599.h"

namespace ivds::offload {

using namespace i82599;

namespace {

constexpr std::uint8_t ip_tcp = 6;
constexpr std::uint8_t ip_udp = 17;
constexpr std::uint8_t ip_sctp = 132;

// Registers for addresses and, in SDPQF, ports have the byte that is first on the wire as their lowest.
std::uint32_t wire32(const std::array<std::uint8_t, 16>& address) {
    return address[0] | std::uint32_t{address[1]} << 8 | std::uint32_t{address[2]} << 16 |
           std::uint32_t{address[3]} << 24;
}
std::uint32_t wire16(std::uint16_t port) {
    return port >> 8 | (port & 0xffU) << 8;
}

// Flow Director's port masks are bit-reversed: bit 15 of the mask is for bit 0 of the port.
std::uint16_t reversed(std::uint32_t mask) {
    std::uint16_t out = 0;
    for (unsigned bit = 0; bit < 16; ++bit)
        if ((mask >> bit & 1U) != 0) out = static_cast<std::uint16_t>(out | 1U << (15 - bit));
    return out;
}

void append(Bytes& input, const std::array<std::uint8_t, 16>& address, bool v6) {
    input.insert(input.end(), address.begin(), address.begin() + (v6 ? 16 : 4));
}
void append(Bytes& input, std::uint16_t port) {
    input.push_back(static_cast<std::uint8_t>(port >> 8));
    input.push_back(static_cast<std::uint8_t>(port & 0xff));
}

}  // namespace

Model82599::QueueChoice Model82599::choose_queue(const Frame& frame, const Bytes& bytes, unsigned pool, bool mirrored,
                                                 bool loopback) {
    const bool flows = !loopback || uncertain_.loopback_flows;
    const bool rss = !loopback || uncertain_.loopback_rss;
    if (!mirrored) {
        if (const auto choice = by_ethertype(frame, pool)) return *choice;
        if (flows) {
            std::optional<QueueChoice> choice;
            const auto ask = [&](auto filter) {
                if (!choice) choice = filter();
            };
            const auto flow_director = [&] { return by_flow(frame, bytes, pool); };
            if (uncertain_.flow_director_first) ask(flow_director);
            if (synqf::synqfp(get(Reg::synqf)) != 0) ask([&] { return by_syn(frame, pool); });
            ask([&] { return by_five_tuple(frame, pool); });
            ask([&] { return by_syn(frame, pool); });
            ask(flow_director);
            if (choice) return *choice;
        }
    }
    if (rss)
        if (const auto choice = by_rss(frame, pool)) return *choice;
    return {.queue = pool * queues_of_pool()};
}

std::optional<unsigned> Model82599::ethertype_filter(std::uint16_t ethertype) const {
    for (unsigned i = 0; i < chip().ethertype_filters; ++i) {
        const std::uint32_t value = get(Reg::etqf, i);
        if (etqf::filter_en(value) != 0 && etqf::etype(value) == ethertype) return i;
    }
    return std::nullopt;
}

std::optional<Model82599::QueueChoice> Model82599::by_ethertype(const Frame& frame, unsigned pool) const {
    const auto filter = ethertype_filter(frame.ethertype);
    if (!filter) return std::nullopt;
    const std::uint32_t select = get(Reg::etqs, *filter);
    if (etqs::queue_en(select) == 0 || owner_of(etqs::rx_queue(select)) != pool) return std::nullopt;
    return QueueChoice{.queue = etqs::rx_queue(select), .by = QueueBy::ethertype};
}

std::optional<Model82599::QueueChoice> Model82599::by_syn(const Frame& frame, unsigned pool) const {
    const std::uint32_t value = get(Reg::synqf);
    if (synqf::queue_en(value) == 0 || !frame.flow || !frame.flow->tcp_syn) return std::nullopt;
    if (owner_of(synqf::rx_queue(value)) != pool) return std::nullopt;
    return QueueChoice{.queue = synqf::rx_queue(value), .by = QueueBy::syn};
}

// 8.2.3.7.16 to 19: IPv4 that is not a fragment; of several that match the one of the highest priority.
std::optional<Model82599::QueueChoice> Model82599::by_five_tuple(const Frame& frame, unsigned pool) {
    if (!frame.flow || frame.flow->v6 || frame.flow->fragment) return std::nullopt;
    const Flow& flow = *frame.flow;
    const std::uint32_t protocol = flow.protocol == ip_tcp    ? ftqf::tcp
                                   : flow.protocol == ip_udp  ? ftqf::udp
                                   : flow.protocol == ip_sctp ? ftqf::sctp
                                                              : ftqf::other;
    std::optional<unsigned> best;
    unsigned best_priority = 0;
    for (unsigned i = 0; i < chip().five_tuple_filters; ++i) {
        const std::uint32_t filter = get(Reg::ftqf, i);
        if (ftqf::queue_en(filter) == 0) continue;
        const std::uint32_t ports = get(Reg::sdpqf, i);
        const bool ignore_ports = ftqf::ignore_source_port(filter) != 0 && ftqf::ignore_destination_port(filter) != 0;
        const bool match =
            (ftqf::ignore_pool(filter) != 0 || ftqf::pool(filter) == pool) &&
            (ftqf::ignore_source(filter) != 0 || get(Reg::saqf, i) == wire32(flow.source)) &&
            (ftqf::ignore_destination(filter) != 0 || get(Reg::daqf, i) == wire32(flow.destination)) &&
            (ignore_ports || flow.has_ports) &&
            (ftqf::ignore_source_port(filter) != 0 || (ports & 0xffff) == wire16(flow.source_port)) &&
            (ftqf::ignore_destination_port(filter) != 0 || ports >> 16 == wire16(flow.destination_port)) &&
            (ftqf::ignore_protocol(filter) != 0 || ftqf::protocol(filter) == protocol);
        if (!match) continue;
        const unsigned queue = l34timir::rx_queue(get(Reg::l34timir, i));
        if (owner_of(queue) != pool && !uncertain_.filters_cross_pools) continue;
        const unsigned priority = ftqf::priority(filter) ^ (uncertain_.low_priority_wins ? 7U : 0U);
        if (best && priority == best_priority) violate("two five-tuple filters of one priority match a frame");
        if (!best || priority > best_priority) {
            best = i;
            best_priority = priority;
        }
    }
    if (!best) return std::nullopt;
    return QueueChoice{.queue = l34timir::rx_queue(get(Reg::l34timir, *best)), .by = QueueBy::five_tuple};
}

bool Model82599::flow_matches(const FlowFilter& filter, const Frame& frame, const Bytes& bytes, unsigned pool) const {
    const Flow& flow = *frame.flow;
    const std::uint32_t ignore = get(Reg::fdirm);
    if (fdirm::pool(ignore) == 0 && fdircmd::pool(filter.command) != pool) return false;
    const auto differ = [](std::uint32_t a, std::uint32_t b, std::uint32_t mask) { return ((a ^ b) & ~mask) != 0; };
    if (differ(wire32(flow.source), filter.source, get(Reg::fdirsip4m))) return false;
    if (differ(wire32(flow.destination), filter.destination, get(Reg::fdirdip4m))) return false;

    if (fdirm::l4_type(ignore) == 0) {
        const std::uint32_t type = flow.protocol == ip_udp    ? fdircmd::udp
                                   : flow.protocol == ip_tcp  ? fdircmd::tcp
                                   : flow.protocol == ip_sctp ? fdircmd::sctp
                                                              : 0;
        if (type != fdircmd::l4_type(filter.command)) return false;
        // SCTP's ports are compared under the mask of UDP's.
        const std::uint32_t mask = get(flow.protocol == ip_tcp ? Reg::fdirtcpm : Reg::fdirudpm);
        if (differ(flow.source_port, fdirport::source(filter.ports), reversed(mask & 0xffff))) return false;
        if (differ(flow.destination_port, fdirport::destination(filter.ports), reversed(mask >> 16))) return false;
    }
    const std::uint32_t tag_mask =
        (fdirm::vlan_id(ignore) != 0 ? 0x0fffU : 0U) | (fdirm::vlan_priority(ignore) != 0 ? 0xe000U : 0U) | 0x1000U;
    if (differ(frame.tci.value_or(0), fdirvlan::vlan(filter.vlan), tag_mask)) return false;
    if (fdirm::flex(ignore) == 0) {
        const std::size_t at = 2UL * fdirctrl::flex_off(get(Reg::fdirctrl));
        if (at + 2 > bytes.size()) return false;
        if ((bytes[at] | std::uint32_t{bytes[at + 1]} << 8) != fdirvlan::flex(filter.vlan)) return false;
    }
    return true;
}

// 8.2.3.21; X550 7.1.3.6: with pools, a filter concerns the copy of its pool alone, and its queue is of that pool.
std::optional<Model82599::QueueChoice> Model82599::by_flow(const Frame& frame, const Bytes& bytes, unsigned pool) {
    if (flows_.empty() || !frame.flow || frame.flow->v6 || frame.flow->fragment) return std::nullopt;
    for (const FlowFilter& filter : flows_) {
        if (!flow_matches(filter, frame, bytes, pool)) continue;
        count(Reg::fdirmatch);
        if (fdircmd::drop(filter.command) != 0)
            return QueueChoice{
                .queue = fdirctrl::drop_q(get(Reg::fdirctrl)), .by = QueueBy::flow_director, .drop = true};
        const unsigned queue = fdircmd::rx_queue(filter.command);
        if (fdircmd::queue_en(filter.command) == 0) return std::nullopt;
        if (owner_of(queue) != pool && !uncertain_.filters_cross_pools) return std::nullopt;
        return QueueChoice{.queue = queue, .by = QueueBy::flow_director};
    }
    count(Reg::fdirmiss);
    return std::nullopt;
}

// The command register acts on the filter that the registers beside it describe. A filter's name is its bucket and
// software index; that the bucket is the one that the hash yields is left to who writes it.
void Model82599::command_flow(std::uint32_t command) {
    const bool was_clearing = std::exchange(clearing_flows_, fdircmd::clear_tables(command) != 0);
    if (was_clearing && !clearing_flows_) {
        flows_.clear();
        flow_tables_clear_ = true;
    }
    const std::uint32_t kind = fdircmd::cmd(command);
    if (kind == 0) return;
    const std::uint32_t hash = get(Reg::fdirhash) & (fdirhash::hash.mask() | fdirhash::software_index.mask());
    const auto found = std::ranges::find(flows_, hash, &FlowFilter::hash);
    const bool exists = found != flows_.end();
    const std::uint32_t room = fdirfree::free(get(Reg::fdirfree));
    std::uint32_t result = command & ~(fdircmd::cmd.mask() | fdircmd::filter_valid.mask());
    switch (kind) {
        case fdircmd::add: {
            const FlowFilter filter{.source = get(Reg::fdiripsa),
                                    .destination = get(Reg::fdiripda),
                                    .ports = get(Reg::fdirport),
                                    .vlan = get(Reg::fdirvlan),
                                    .command = command,
                                    .hash = hash};
            if (exists) {
                *found = filter;
            } else if (room == 0) {
                count(Reg::fdirfstat, 0, fdirfstat::failed_add.put());
            } else {
                flows_.push_back(filter);
                set(Reg::fdirfree, 0, room - 1);
                count(Reg::fdirustat, 0, fdirustat::added.put());
            }
            break;
        }
        case fdircmd::remove:
            if (exists) {
                flows_.erase(found);
                set(Reg::fdirfree, 0, room + 1);
                count(Reg::fdirustat, 0, fdirustat::removed.put());
            } else {
                count(Reg::fdirfstat, 0, fdirfstat::failed_remove.put());
            }
            break;
        default:
            if (exists) result = (found->command & ~fdircmd::cmd.mask()) | fdircmd::filter_valid.mask();
    }
    set(Reg::fdircmd, 0, result);
}

// 7.1.3.7 of the 82599: the hash of addresses and ports selects an entry of the table that all pools share, of which
// as many bits count as the pool has (PSRTYPE.RQPL).
std::optional<Model82599::QueueChoice> Model82599::by_rss(const Frame& frame, unsigned pool) const {
    const std::uint32_t control = get(Reg::mrqc);
    const std::uint32_t mode = mrqc::mrqe(control);
    if (mode != mrqc::rss && mode != mrqc::vt32_rss && mode != mrqc::vt64_rss) return std::nullopt;
    if (ctrl_ext::extended_vlan(get(Reg::ctrl_ext)) != 0 && !uncertain_.rss_with_two_tags) return std::nullopt;
    if (!frame.flow) return std::nullopt;
    const Flow& flow = *frame.flow;
    const auto on = [&](Field field) { return field(control) != 0; };
    const bool ports =
        flow.has_ports && ((flow.protocol == ip_tcp && on(flow.v6 ? mrqc::tcp_ipv6 : mrqc::tcp_ipv4)) ||
                           (flow.protocol == ip_udp && on(flow.v6 ? mrqc::udp_ipv6 : mrqc::udp_ipv4)));
    if (!ports && !on(flow.v6 ? mrqc::ipv6 : mrqc::ipv4)) return std::nullopt;

    Bytes input;
    append(input, flow.source, flow.v6);
    append(input, flow.destination, flow.v6);
    if (ports) {
        append(input, flow.source_port);
        append(input, flow.destination_port);
    }
    // Toeplitz: for each set bit of the input, the 32 bits of the key that begin at that bit.
    const auto key_bit = [&](std::size_t bit) {
        const std::size_t byte = bit / 8;
        if (byte >= 40) return 0U;
        const std::uint32_t word = get(Reg::rssrk, static_cast<unsigned>(byte / 4));
        return word >> (8 * (byte % 4) + 7 - bit % 8) & 1U;
    };
    std::uint32_t hash = 0;
    for (std::size_t bit = 0; bit < input.size() * 8; ++bit)
        if ((input[bit / 8] >> (7 - bit % 8) & 1U) != 0)
            for (unsigned i = 0; i < 32; ++i) hash ^= key_bit(bit + i) << (31 - i);

    const unsigned entry = hash & 0x7f;
    const unsigned index = get(Reg::reta, entry / 4) >> (8 * (entry % 4)) & 0xf;
    if (mode == mrqc::rss) return QueueChoice{.queue = index, .by = QueueBy::rss};
    const unsigned bits = std::min(psrtype::rqpl(get(Reg::psrtype, pool)),
                                   static_cast<std::uint32_t>(std::countr_zero(queues_of_pool())));
    const unsigned within = index & ((1U << bits) - 1);
    return QueueChoice{.queue = pool * queues_of_pool() + within, .by = QueueBy::rss};
}

}  // namespace ivds::offload
