// SPDX-License-Identifier: Apache-2.0
#include "compile/acl.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <map>
#include <string>
#include <string_view>

namespace ivds {
namespace {

constexpr std::size_t kMaxEntries = 65536;  // of one list
constexpr std::size_t kMaxTried = 16 * kMaxEntries;

constexpr std::uint16_t kIp = 0x0800;
constexpr std::uint16_t kArp = 0x0806;
constexpr std::uint16_t kIp6 = 0x86dd;

// ICMPv6 messages that have a target: solicitation, advertisement, redirect (RFC 4861 4.3 to 4.5).
constexpr std::array<std::uint8_t, 3> kNdTypes{135, 136, 137};

// A value and the bits of it that count.
struct Masked {
    ivds_fields value{};
    ivds_fields mask{};
    std::uint32_t flags = 0;  // IVDS_AM_*
};

struct PortPrefix {
    std::uint16_t value = 0;
    std::uint16_t mask = 0;
};

// The least prefixes that cover the range and nothing else.
void add_prefixes(const PortRange& range, std::vector<PortPrefix>& out) {
    for (std::uint32_t at = range.first; at <= range.last;) {
        const std::uint32_t aligned = at == 0 ? 0x10000U : at & (~at + 1);
        const std::uint32_t size = std::min(aligned, std::bit_floor(range.last - at + 1U));
        out.push_back({static_cast<std::uint16_t>(at), static_cast<std::uint16_t>(~(size - 1))});
        at += size;
    }
}

// All that a list of ranges matches; one prefix of no bits where there is none.
std::vector<PortPrefix> prefixes(const std::vector<PortRange>& ranges) {
    std::vector<PortPrefix> out;
    for (const PortRange& range : ranges) add_prefixes(range, out);
    if (out.empty()) out.emplace_back();
    return out;
}

void put_prefix(const PrefixMatch& prefix, std::uint8_t (&value)[16], std::uint8_t (&mask)[16]) {
    for (unsigned i = 0; i < 16; ++i) {
        const unsigned bits = prefix.bits > i * 8 ? std::min(prefix.bits - i * 8, 8U) : 0;
        mask[i] = static_cast<std::uint8_t>(0xff00U >> bits);
        value[i] = prefix.value[i] & mask[i];
    }
}

void put_mac(const MacMatch& mac, std::uint8_t (&value)[6], std::uint8_t (&mask)[6]) {
    for (std::size_t i = 0; i < 6; ++i) {
        mask[i] = mac.mask[i];
        value[i] = mac.value[i] & mac.mask[i];
    }
}

class Builder {
public:
    void add(const AclRule& rule) {
        const std::uint32_t order = order_++;
        const std::vector<End> sources = ends(rule.src_mac, rule.src, rule.src_set.get());
        const std::vector<End> destinations = ends(rule.dst_mac, rule.dst, rule.dst_set.get());
        const std::vector<PortPrefix> sports = prefixes(rule.sports);
        const std::vector<PortPrefix> dports = prefixes(rule.dports);
        for (const End& source : sources) {
            for (const End& destination : destinations) {
                if (overfull()) return;
                // No frame is of both IP versions.
                if (source.version != 0 && destination.version != 0 && source.version != destination.version)
                    continue;
                add(rule, order, source, destination, sports, dports);
            }
        }
    }

    Result<AclRow> finish(ivds_acl_action default_action) {
        if (overfull())
            return fail(
                Code::exhausted, "IVDS-M041",
                "the rules need more than 65536 entries: port ranges and sets multiply, source by destination",
                "use fewer or simpler ranges, a set at one end of a rule alone, or prefixes in sets");
        AclRow row;
        row.default_action = static_cast<std::uint8_t>(default_action);
        std::vector<const std::pair<const std::string, Group>*> groups;
        groups.reserve(groups_.size());
        for (const auto& group : groups_) groups.push_back(&group);
        std::ranges::sort(groups, {}, [](const auto* group) { return group->second.first; });
        if (groups.size() > IVDS_MAX_ACL_MASKS)
            return fail(Code::exhausted, "IVDS-M040", "the rules look at more than 1024 different sets of bits",
                        "use fewer kinds of rules: the same fields with the same prefix lengths cost nothing more");
        for (const auto* group : groups) {
            ivds_acl_mask mask{};
            mask.fields = group->second.mask;
            mask.first = group->second.first;
            mask.flags = group->second.flags;
            for (const auto& [bytes, rule] : group->second.rules) {
                ivds_acl_key key{};
                std::memcpy(&key.fields, bytes.data(), sizeof key.fields);
                key.mask = static_cast<std::uint32_t>(row.masks.size());
                row.rules.emplace_back(key, rule);
            }
            row.masks.push_back(mask);
        }
        return row;
    }

private:
    // The rules that look at the same bits, by their masked values.
    struct Group {
        ivds_fields mask{};
        std::uint32_t first = 0xffffffff;
        std::uint32_t flags = 0;
        std::map<std::string, ivds_acl_rule> rules;
    };

    // What a rule says of one end of a frame.
    struct End {
        std::optional<MacMatch> mac;
        std::optional<PrefixMatch> address;
        unsigned version = 0;  // of IP, where a member of a set tells it
    };

    static std::vector<End> ends(const std::optional<MacMatch>& mac, const std::optional<PrefixMatch>& address,
                                 const SetMatch* set) {
        if (set == nullptr) return {{mac, address, 0}};
        std::vector<End> out;
        out.reserve(set->macs.size() + set->v4.size() + set->v6.size());
        for (const MacMatch& each : set->macs) out.push_back({each, {}, 0});
        for (const PrefixMatch& each : set->v4) out.push_back({{}, each, 4});
        for (const PrefixMatch& each : set->v6) out.push_back({{}, each, 6});
        return out;
    }

    // More than a list may have, or so much to try that it would take long to see that it has not.
    [[nodiscard]] bool overfull() const { return entries_ > kMaxEntries || tried_ > kMaxTried; }

    void add(const AclRule& rule, std::uint32_t order, const End& source, const End& destination,
             const std::vector<PortPrefix>& sports, const std::vector<PortPrefix>& dports) {
        const bool has_l4 = !rule.sports.empty() || !rule.dports.empty() || rule.icmp_type || rule.icmp_code ||
                            rule.tcp_flags || rule.nd_target;
        const bool has_l3 = source.address || destination.address || rule.proto || has_l4;
        for (const Masked& link :
             link_layer(rule, source, destination, std::max(source.version, destination.version))) {
            if (!has_l3) {
                put(rule, order, link);
                continue;
            }
            Masked net = link;
            net.mask.unknown |= IVDS_L3_UNKNOWN;
            if (source.address) put_prefix(*source.address, net.value.src, net.mask.src);
            if (destination.address) put_prefix(*destination.address, net.value.dst, net.mask.dst);
            if (rule.proto) {
                net.value.proto = *rule.proto;
                net.mask.proto = 0xff;
            }
            if (rule.nd_target) {
                neighbour_discovery(rule, order, net, sports, dports);
            } else if (has_l4) {
                transport(rule, order, net, sports, dports);
            } else {
                put(rule, order, net);
            }
            if (rule.action != IVDS_ACL_DROP) continue;
            if (has_l4) {
                net.mask.unknown |= IVDS_L4_UNKNOWN;
                net.value.unknown = IVDS_L4_UNKNOWN;
                put(rule, order, net);
            }
            Masked unread = link;
            unread.mask.unknown |= IVDS_L3_UNKNOWN;
            unread.value.unknown = IVDS_L3_UNKNOWN;
            put(rule, order, unread);
        }
    }

    static std::vector<Masked> link_layer(const AclRule& rule, const End& source, const End& destination,
                                          unsigned version) {
        Masked base;
        if (source.mac) put_mac(*source.mac, base.value.src_mac, base.mask.src_mac);
        if (destination.mac) put_mac(*destination.mac, base.value.dst_mac, base.mask.dst_mac);
        std::vector<std::uint16_t> types = rule.ethertypes;
        if (version == 4) {
            if (types.empty()) types = {kIp};
            std::erase_if(types, [](std::uint16_t type) { return type != kIp && type != kArp; });
        } else if (version == 6) {
            if (types.empty()) types = {kIp6};
            std::erase_if(types, [](std::uint16_t type) { return type != kIp6; });
        } else if (types.empty()) {
            return {base};
        }
        std::vector<Masked> out;
        out.reserve(types.size());
        for (const std::uint16_t type : types) {
            base.value.type_be = htons(type);
            base.mask.type_be = 0xffff;
            out.push_back(base);
        }
        return out;
    }

    // Everything above L3 that can be read.
    void transport(const AclRule& rule, std::uint32_t order, Masked net, const std::vector<PortPrefix>& sports,
                   const std::vector<PortPrefix>& dports) {
        net.mask.unknown |= IVDS_L4_UNKNOWN;
        if (rule.icmp_type) {
            net.value.icmp_type = *rule.icmp_type;
            net.mask.icmp_type = 0xff;
        }
        if (rule.icmp_code) {
            net.value.icmp_code = *rule.icmp_code;
            net.mask.icmp_code = 0xff;
        }
        if (rule.tcp_flags) {
            net.mask.tcp_flags = rule.tcp_flags->mask;
            net.value.tcp_flags = rule.tcp_flags->value & rule.tcp_flags->mask;
        }
        for (const PortPrefix& source : sports) {
            net.value.sport_be = htons(source.value);
            net.mask.sport_be = htons(source.mask);
            for (const PortPrefix& destination : dports) {
                net.value.dport_be = htons(destination.value);
                net.mask.dport_be = htons(destination.mask);
                put(rule, order, net);
            }
        }
    }

    // A target takes the place of the header's destination in masks of their own.
    void neighbour_discovery(const AclRule& rule, std::uint32_t order, Masked net,
                             const std::vector<PortPrefix>& sports, const std::vector<PortPrefix>& dports) {
        net.flags = IVDS_AM_ND_TARGET;
        put_prefix(*rule.nd_target, net.value.dst, net.mask.dst);
        AclRule of_type = rule;
        for (const std::uint8_t type : kNdTypes) {
            if (rule.icmp_type && *rule.icmp_type != type) continue;
            of_type.icmp_type = type;
            transport(of_type, order, net, sports, dports);
        }
    }

    void put(const AclRule& rule, std::uint32_t order, const Masked& masked) {
        ++tried_;
        if (overfull()) return;
        std::string mask(reinterpret_cast<const char*>(&masked.mask), sizeof masked.mask);
        mask += static_cast<char>(masked.flags);
        const std::string value(reinterpret_cast<const char*>(&masked.value), sizeof masked.value);
        Group& group = groups_[mask];
        group.mask = masked.mask;
        group.flags = masked.flags;
        group.first = std::min(group.first, order);
        // An earlier rule of the same bits wins: this one never decides.
        ivds_acl_rule entry{};
        entry.order = order;
        entry.rule = rule.id;
        entry.target = rule.target;
        entry.mirrors = rule.mirrors;
        entry.action = static_cast<std::uint8_t>(rule.action);
        entry.flags = rule.flags;
        entries_ += group.rules.emplace(value, entry).second ? 1 : 0;
    }

    std::map<std::string, Group> groups_;
    std::uint32_t order_ = 0;
    std::size_t entries_ = 0;
    std::size_t tried_ = 0;  // entries that rules came up with, also what earlier rules decide already
};

}  // namespace

Result<AclRow> compile_acl(std::span<const AclRule> rules, ivds_acl_action default_action) {
    Builder builder;
    for (const AclRule& rule : rules) builder.add(rule);
    return builder.finish(default_action);
}

}  // namespace ivds
