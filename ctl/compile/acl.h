// SPDX-License-Identifier: Apache-2.0
// acl.h -- rules in order into the masks and entries of a tuple-space search (bpf/acl.h). Pure.
//
// Where a frame's header cannot be read, or is in another fragment, a rule that looks at it has a stated meaning that
// is never a bypass: an allow rule does not match, a drop rule matches if all that can be read does.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "loader/error.h"
#include "loader/tables.h"

namespace ivds {

struct MacMatch {
    Mac value{};
    Mac mask{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
};
// The first `bits` of an address count; IPv4 is ::ffff:a.b.c.d with 96 bits more.
struct PrefixMatch {
    std::array<std::uint8_t, 16> value{};
    unsigned bits = 128;
};
// One of many: a MAC, or an address in a frame of its IP version.
struct SetMatch {
    std::vector<MacMatch> macs;
    std::vector<PrefixMatch> v4;
    std::vector<PrefixMatch> v6;
};
struct PortRange {
    std::uint16_t first = 0;
    std::uint16_t last = 0xffff;
};
struct FlagsMatch {
    std::uint8_t value = 0;
    std::uint8_t mask = 0;
};

// A rule; what is not given matches anything. With `src`, `dst` or `proto` the EtherTypes are given too; ports, ICMP
// and TCP flags come with a protocol that has them.
struct AclRule {
    std::uint32_t id = 0;  // counts under it; 0: not counted
    ivds_acl_action action = IVDS_ACL_ALLOW;
    std::uint8_t flags = 0;                 // IVDS_ACL_*
    std::uint32_t target = 0;               // REDIRECT: as in ivds_acl_rule
    std::uint32_t mirrors = 0;              // sessions that get a copy
    std::vector<std::uint16_t> ethertypes;  // any of them
    std::optional<MacMatch> src_mac;
    std::optional<MacMatch> dst_mac;
    std::optional<PrefixMatch> src;
    std::optional<PrefixMatch> dst;
    std::shared_ptr<const SetMatch> src_set;  // instead of `src` and `src_mac`; one without members matches nothing
    std::shared_ptr<const SetMatch> dst_set;
    std::optional<std::uint8_t> proto;  // ARP: the operation
    std::vector<PortRange> sports;      // any of them
    std::vector<PortRange> dports;
    std::optional<std::uint8_t> icmp_type;
    std::optional<std::uint8_t> icmp_code;
    std::optional<FlagsMatch> tcp_flags;
    std::optional<PrefixMatch>
        nd_target;  // instead of `dst` and `dst_set`; with the protocol ICMPv6 and a type that has one
};

// Rules earlier in the list win; the default is to allow or to drop. Code::exhausted where the list needs more masks,
// or more entries, than one may have.
[[nodiscard]] Result<AclRow> compile_acl(std::span<const AclRule> rules, ivds_acl_action default_action);

}  // namespace ivds
