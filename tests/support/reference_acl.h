// SPDX-License-Identifier: Apache-2.0
// reference_acl.h -- rules as the reference switch takes them: one after the other, the first that matches decides.
#pragma once

#include <compare>
#include <cstdint>
#include <optional>

#include "ctl/compile/acl.h"
#include "world.h"

namespace ivds::test {

struct AclVerdict {
    bool is_allowed = true;
    std::uint32_t rule = 0;  // that decided; 0: the default
    std::uint8_t flags = 0;  // IVDS_ACL_*
    bool is_redirected = false;
    std::uint32_t target = 0;
};

// `frame` is the VM's, without the tags of the wire.
[[nodiscard]] AclVerdict judge(const Acl& acl, const Bytes& frame);

// A flow, as the VM at one vPort knows it.
struct FlowName {
    Mac vm_mac{};
    Mac peer_mac{};
    std::uint16_t ethertype = 0;
    std::uint8_t proto = 0;
    std::array<std::uint8_t, 16> vm{};
    std::array<std::uint8_t, 16> peer{};
    std::uint16_t vm_port = 0;  // ICMP echo: the identifier, at both
    std::uint16_t peer_port = 0;
    std::uint8_t icmp_type = 0;  // of an echo reply: the request's
    std::uint8_t icmp_code = 0;
    auto operator<=>(const FlowName&) const = default;
};
struct FlowFrame {
    FlowName name;
    bool is_fragment = false;  // the first; others belong to no flow that can be told
    std::uint8_t tcp_flags = 0;
};
// The flow of a frame that the VM sends, or that is sent to it.
[[nodiscard]] std::optional<FlowFrame> flow_of(const Bytes& frame, bool is_to_vm);
// The flow of the TCP, UDP or SCTP datagram that an ICMP error is about.
[[nodiscard]] std::optional<FlowName> flow_in_error(const Bytes& frame, bool is_to_vm);

}  // namespace ivds::test
