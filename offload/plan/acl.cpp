// SPDX-License-Identifier: Apache-2.0
#include "plan/acl.h"

#include <algorithm>

namespace ivds::offload {

namespace {

bool looks_at_ip(const ivds_fields& mask) {
    const auto any = [](const auto& bytes) {
        return std::ranges::any_of(bytes, [](auto byte) { return byte != 0; });
    };
    return any(mask.src) || any(mask.dst) || mask.sport_be != 0 || mask.dport_be != 0 || mask.proto != 0 ||
           mask.tcp_flags != 0 || mask.icmp_type != 0 || mask.icmp_code != 0;
}

// Of a list about what is sent to a VM.
Reason why_not_out(const AclRow& list) {
    if (std::ranges::any_of(list.masks, [](const ivds_acl_mask& mask) { return looks_at_ip(mask.fields); }))
        return Reason::rules_on_ip;
    if (std::ranges::any_of(list.masks, [](const ivds_acl_mask& mask) { return mask.fields.type_be != 0; }))
        return Reason::rules_on_type;
    return Reason::rules_on_macs;
}

Reason why_not_out(std::uint32_t id, const Snapshot& tables) {
    const auto list = tables.acls.find(id);
    return list == tables.acls.end() ? Reason::rules_on_macs : why_not_out(*list->second);
}

}  // namespace

Reason why_not_nic(const ivds_port& port, const Snapshot& tables) {
    if ((port.flags & IVDS_PF_STATEFUL) != 0) return Reason::rules_stateful;
    if (port.acl_in != 0) return Reason::rules_from_vm;
    return port.acl_out == 0 ? Reason::fits : why_not_out(port.acl_out, tables);
}

}  // namespace ivds::offload
