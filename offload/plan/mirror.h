// SPDX-License-Identifier: Apache-2.0
// mirror.h -- which sessions of mirrors the NIC makes: copies, for one VF, of what is sent to other VFs.
//
// Such a session is a rule of the NIC that looks at the pools that a frame reaches (on the 82599 VPME), not at its
// VLAN: a rule for a VLAN would also copy what passes the NIC on its way to software or back, and nothing tells
// whether it copies what no pool takes, or what was dropped for its source. What a VM sends no rule can tell from
// what others send.
//
// All of it is the NIC's or none: software has no interface to send copies for a VF to, and the NIC none of what
// software passes on.
#pragma once

#include <cstdint>
#include <map>
#include <set>

#include "plan/plan.h"

namespace ivds::offload {

class Mirrors {
public:
    Mirrors(const Snapshot& tables, const Device& device, const Choices& choices, const NicState& present);

    // Sessions that the NIC makes, unless settle() says otherwise; a bit each.
    [[nodiscard]] std::uint32_t in_nic() const { return in_nic_; }
    // Whether copies that the NIC does not make go to the vPort.
    [[nodiscard]] bool sends_to(std::uint32_t vport) const { return of_software_.contains(vport); }
    // Of each session why, or Reason::fits.
    [[nodiscard]] const std::map<std::uint32_t, Reason>& reasons() const { return reasons_; }
    // VFs that a session watches, as vPorts.
    [[nodiscard]] const std::set<std::uint32_t>& sources(std::uint32_t session) const;

    // Takes from the NIC the sessions one of whose vPorts is not in it, and gives their rules to others. Whether
    // there were any: then the vPorts are to be looked at once more.
    [[nodiscard]] bool settle(const std::map<std::uint32_t, Reason>& vports);

private:
    [[nodiscard]] Reason form(std::uint32_t session, const ivds_mirror& mirror) const;
    void share_out();

    const Snapshot& tables_;
    const Device& device_;
    const Choices& choices_;
    std::set<std::uint32_t> incumbents_;  // sessions that have a rule now
    std::map<std::uint32_t, Reason> reasons_;
    std::map<std::uint32_t, std::set<std::uint32_t>> sources_;  // by session: what is sent to these
    std::map<std::uint32_t, unsigned> users_;                   // by target: sessions
    std::uint32_t of_senders_ = 0;                              // sessions of what vPorts send, …
    std::uint32_t of_drops_ = 0;
    std::uint32_t of_uplinks_ = 0;
    std::uint32_t of_rules_ = 0;
    std::uint32_t in_nic_ = 0;
    std::set<std::uint32_t> of_software_;  // targets
};

}  // namespace ivds::offload
