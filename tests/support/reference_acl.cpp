// SPDX-License-Identifier: Apache-2.0
#include "reference_acl.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <span>

#include "reference.h"

namespace ivds::test {

namespace {

using Address = std::array<std::uint8_t, 16>;

// What rules can see of a frame; what cannot be read is not there.
struct Seen {
    Mac src_mac{};
    Mac dst_mac{};
    std::uint16_t ethertype = 0;
    bool is_net_readable = true;  // false: it says IP or ARP, and nobody can tell what it is
    bool is_transport_readable = true;
    Address src{};
    Address dst{};
    std::uint8_t proto = 0;
    std::uint16_t sport = 0;
    std::uint16_t dport = 0;
    std::uint8_t icmp_type = 0;
    std::uint8_t icmp_code = 0;
    std::uint8_t tcp_flags = 0;
    bool is_fragment = false;
    std::span<const std::uint8_t> icmp{};  // the message
    std::optional<Address> nd_target{};
};

constexpr std::size_t looked_at = 128;  // bytes of L3: what begins or ends behind them is not read
constexpr std::size_t most_headers = 6;

std::uint16_t get16(std::span<const std::uint8_t> bytes, std::size_t at) {
    return static_cast<std::uint16_t>(bytes[at] << 8U | bytes[at + 1]);
}

Address mapped(std::span<const std::uint8_t> ip4) {
    Address out{};
    out[10] = out[11] = 0xff;
    std::copy_n(ip4.begin(), 4, out.begin() + 12);
    return out;
}

void see_transport(Seen& seen, std::span<const std::uint8_t> l3, std::size_t at) {
    const bool is_tcp = seen.proto == 6;
    const bool is_icmp = seen.proto == 1 || seen.proto == 58;
    const bool has_ports = is_tcp || seen.proto == 17 || seen.proto == 132;
    if (!has_ports && !is_icmp) {
        return;
    }
    // Every header is given the room of the longest one that is read.
    if (at + 14 > looked_at || at + (is_tcp ? 14 : 4) > l3.size()) {
        seen.is_transport_readable = false;
        return;
    }
    if (is_icmp) {
        // What Neighbour Discovery is about is part of what it is: without, the message cannot be read.
        if (seen.ethertype == 0x86dd && seen.proto == 58 && l3[at] >= 135 && l3[at] <= 137) {
            if (at + 24 > l3.size()) {
                seen.is_transport_readable = false;
                return;
            }
            std::copy_n(l3.begin() + static_cast<std::ptrdiff_t>(at) + 8, 16, seen.nd_target.emplace().begin());
        }
        seen.icmp_type = l3[at];
        seen.icmp_code = l3[at + 1];
        seen.icmp = l3.subspan(at);
        return;
    }
    seen.sport = get16(l3, at);
    seen.dport = get16(l3, at + 2);
    if (is_tcp) {
        seen.tcp_flags = l3[at + 13];
    }
}

void see_ip4(Seen& seen, std::span<const std::uint8_t> l3) {
    if (l3.size() < 20 || l3[0] / 16 != 4 || l3[0] % 16 < 5) {
        seen.is_net_readable = false;
        return;
    }
    seen.src = mapped(l3.subspan(12));
    seen.dst = mapped(l3.subspan(16));
    seen.proto = l3[9];
    seen.is_fragment = (get16(l3, 6) & 0x3fffU) != 0;
    if ((get16(l3, 6) & 0x1fffU) != 0) {
        seen.is_transport_readable = false;
    } else {
        see_transport(seen, l3, l3[0] % 16 * std::size_t{4});
    }
}

void see_ip6(Seen& seen, std::span<const std::uint8_t> l3) {
    static const std::set<std::uint8_t> extensions = {0, 43, 44, 51, 60};
    if (l3.size() < 40 || l3[0] / 16 != 6) {
        seen.is_net_readable = false;
        return;
    }
    std::copy_n(l3.begin() + 8, 16, seen.src.begin());
    std::copy_n(l3.begin() + 24, 16, seen.dst.begin());
    std::uint8_t kind = l3[6];
    std::size_t at = 40;
    for (std::size_t headers = 0; extensions.contains(kind); ++headers) {
        if (headers == most_headers || at + 8 > looked_at || at + 8 > l3.size()) {
            seen.is_net_readable = false;
            return;
        }
        const std::uint8_t next = l3[at];
        seen.is_fragment |= kind == 44;
        if (kind == 44 && (get16(l3, at + 2) & 0xfff8U) != 0) {
            seen.proto = next;
            seen.is_transport_readable = false;
            return;
        }
        at += kind == 44 ? 8U : kind == 51 ? (l3[at + 1] + 2U) * 4U : (l3[at + 1] + 1U) * 8U;
        kind = next;
    }
    seen.proto = kind;
    see_transport(seen, l3, at);
}

void see_arp(Seen& seen, std::span<const std::uint8_t> l3) {
    if (l3.size() < 28 || get16(l3, 0) != 1 || get16(l3, 2) != 0x0800 || get16(l3, 4) != 0x0604) {
        seen.is_net_readable = false;
        return;
    }
    seen.proto = l3[7];
    seen.src = mapped(l3.subspan(14));
    seen.dst = mapped(l3.subspan(24));
}

Seen see(const Bytes& frame) {
    const Parsed parsed = parse(frame);
    Seen seen;
    seen.src_mac = parsed.src;
    seen.dst_mac = parsed.dst;
    seen.ethertype = parsed.ethertype;
    std::span l3 = std::span(frame).subspan(14 + 4 * parsed.tags.size());
    l3 = l3.first(std::min(l3.size(), looked_at));
    if (seen.ethertype == 0x0800) {
        see_ip4(seen, l3);
    } else if (seen.ethertype == 0x86dd) {
        see_ip6(seen, l3);
    } else if (seen.ethertype == 0x0806) {
        see_arp(seen, l3);
    }
    return seen;
}

bool fits(const std::optional<MacMatch>& match, const Mac& mac) {
    for (std::size_t i = 0; match && i < 6; ++i) {
        if (((match->value[i] ^ mac[i]) & match->mask[i]) != 0) {
            return false;
        }
    }
    return true;
}

bool fits(const std::optional<PrefixMatch>& match, const Address& address) {
    for (unsigned bit = 0; match && bit < match->bits; ++bit) {
        if (((match->value[bit / 8] ^ address[bit / 8]) & (0x80U >> bit % 8)) != 0) {
            return false;
        }
    }
    return true;
}

bool fits(const std::vector<PortRange>& ranges, std::uint16_t port) {
    return ranges.empty() || std::ranges::any_of(ranges, [&](const PortRange& range) {
               return port >= range.first && port <= range.last;
           });
}

template <class T>
bool fits(const std::optional<T>& match, T value) {
    return !match || *match == value;
}

bool matches(const AclRule& rule, const Seen& seen) {
    const bool asks_transport = !rule.sports.empty() || !rule.dports.empty() || rule.icmp_type || rule.icmp_code ||
                                rule.tcp_flags || rule.nd_target;
    const bool asks_net = rule.src || rule.dst || rule.proto || asks_transport;
    const bool when_unread = rule.action == IVDS_ACL_DROP;
    if (!fits(rule.src_mac, seen.src_mac) || !fits(rule.dst_mac, seen.dst_mac) ||
        (!rule.ethertypes.empty() && std::ranges::find(rule.ethertypes, seen.ethertype) == rule.ethertypes.end())) {
        return false;
    }
    if (!asks_net) {
        return true;
    }
    if (!seen.is_net_readable) {
        return when_unread;
    }
    if (!fits(rule.src, seen.src) || !fits(rule.dst, seen.dst) || !fits(rule.proto, seen.proto)) {
        return false;
    }
    if (!asks_transport) {
        return true;
    }
    if (!seen.is_transport_readable) {
        return when_unread;
    }
    return fits(rule.sports, seen.sport) && fits(rule.dports, seen.dport) && fits(rule.icmp_type, seen.icmp_type) &&
           fits(rule.icmp_code, seen.icmp_code) &&
           (!rule.nd_target || (seen.nd_target && fits(rule.nd_target, *seen.nd_target))) &&
           (!rule.tcp_flags || ((rule.tcp_flags->value ^ seen.tcp_flags) & rule.tcp_flags->mask) == 0);
}

}  // namespace

AclVerdict judge(const Acl& acl, const Bytes& frame) {
    const Seen seen = see(frame);
    for (const AclRule& rule : acl.rules) {
        if (matches(rule, seen)) {
            return {.is_allowed = rule.action != IVDS_ACL_DROP,
                    .rule = rule.id,
                    .flags = rule.flags,
                    .is_redirected = rule.action == IVDS_ACL_REDIRECT,
                    .target = rule.target};
        }
    }
    return {.is_allowed = acl.default_action == IVDS_ACL_ALLOW};
}

std::optional<FlowFrame> flow_of(const Bytes& frame, bool is_to_vm) {
    const Seen seen = see(frame);
    if ((seen.ethertype != 0x0800 && seen.ethertype != 0x86dd) || !seen.is_net_readable ||
        !seen.is_transport_readable || seen.nd_target) {
        return std::nullopt;
    }
    FlowFrame flow{.name = {.vm_mac = seen.src_mac,
                            .peer_mac = seen.dst_mac,
                            .ethertype = seen.ethertype,
                            .proto = seen.proto,
                            .vm = seen.src,
                            .peer = seen.dst,
                            .vm_port = seen.sport,
                            .peer_port = seen.dport,
                            .icmp_type = seen.icmp_type,
                            .icmp_code = seen.icmp_code},
                   .is_fragment = seen.is_fragment,
                   .tcp_flags = seen.tcp_flags};
    FlowName& name = flow.name;
    if (is_to_vm) {
        std::swap(name.vm_mac, name.peer_mac);
        std::swap(name.vm, name.peer);
        std::swap(name.vm_port, name.peer_port);
    }
    const bool is_icmp4 = seen.ethertype == 0x0800 && seen.proto == 1;
    const bool is_icmp6 = seen.ethertype == 0x86dd && seen.proto == 58;
    const bool is_echo = (is_icmp4 && (seen.icmp_type == 8 || seen.icmp_type == 0)) ||
                         (is_icmp6 && (seen.icmp_type == 128 || seen.icmp_type == 129));
    if (is_echo) {
        if (seen.icmp.size() < 8) {
            return std::nullopt;
        }
        name.icmp_type = is_icmp4 ? 8 : 128;
        name.vm_port = name.peer_port = get16(seen.icmp, 4);
    }
    return flow;
}

std::optional<FlowName> flow_in_error(const Bytes& frame, bool is_to_vm) {
    const Seen seen = see(frame);
    const bool is_error4 = seen.ethertype == 0x0800 && seen.proto == 1 &&
                           (seen.icmp_type == 3 || seen.icmp_type == 11 || seen.icmp_type == 12);
    const bool is_error6 = seen.ethertype == 0x86dd && seen.proto == 58 && seen.icmp_type >= 1 && seen.icmp_type <= 4;
    const std::size_t needed = is_error4 ? 8 + 20 + 8 : 8 + 40 + 8;
    if (seen.is_fragment || (!is_error4 && !is_error6) || seen.icmp.size() < needed) {
        return std::nullopt;
    }
    // What it is about went the other way. Its MACs are not told: the error's own stand for them.
    const std::span inner = seen.icmp.subspan(8);
    FlowName name{.vm_mac = is_to_vm ? seen.dst_mac : seen.src_mac,
                  .peer_mac = is_to_vm ? seen.src_mac : seen.dst_mac,
                  .ethertype = seen.ethertype};
    std::size_t at = 40;
    if (is_error4) {
        if (inner[0] != 0x45 || (get16(inner, 6) & 0x1fffU) != 0) {
            return std::nullopt;
        }
        name.proto = inner[9];
        name.vm = mapped(inner.subspan(12));
        name.peer = mapped(inner.subspan(16));
        at = 20;
    } else {
        if (inner[0] / 16 != 6) {
            return std::nullopt;
        }
        name.proto = inner[6];
        std::copy_n(inner.begin() + 8, 16, name.vm.begin());
        std::copy_n(inner.begin() + 24, 16, name.peer.begin());
    }
    if (name.proto != 6 && name.proto != 17 && name.proto != 132) {
        return std::nullopt;
    }
    name.vm_port = get16(inner, at);
    name.peer_port = get16(inner, at + 2);
    if (!is_to_vm) {
        std::swap(name.vm, name.peer);
        std::swap(name.vm_port, name.peer_port);
    }
    return name;
}

}  // namespace ivds::test
