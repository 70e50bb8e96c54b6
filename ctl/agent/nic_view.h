// SPDX-License-Identifier: Apache-2.0
// nic_view.h -- the physical side of the state: the interfaces under the ports, and for each vPort the way of its
// frames through the stages, as the pinned maps and the hooks have it. The same two sources as view.h: the agent, and
// `ivds-ctl` when it is down.
#pragma once

#include "agent/view.h"

namespace ivds {

// `status` is what view_status() gave for the same source; it must have `interfaces`, looked at thoroughly.
// Code::not_found if the request names what is neither an uplink, a vPort nor the interface of one.
[[nodiscard]] Result<pb::NicReply> view_nics(const ViewSource& source, const pb::StatusReply& status,
                                             const pb::NicRequest& request);
[[nodiscard]] Result<pb::MapReply> view_map(const ViewSource& source, const pb::StatusReply& status,
                                            const pb::MapRequest& request);
// The interfaces that the request is about: what `interfaces` must hold.
[[nodiscard]] std::set<std::string> interfaces_of(const Model& model, const pb::NicRequest& request);
[[nodiscard]] std::set<std::string> interfaces_of(const Model& model, const pb::MapRequest& request);
[[nodiscard]] std::set<std::string> interfaces_of(const Model& model);  // of all ports

// What each VLAN of the fabric carries, of one uplink or of all.
[[nodiscard]] pb::VlanList vlans_of(const pb::ObjectList& uplinks, const pb::StatusReply& status,
                                    const std::string& uplink);

// "up", "no_carrier", "down" or "away" for an interface that is not there.
[[nodiscard]] std::string link_text(const Interface* interface);
[[nodiscard]] pb::NetdevCounters counters_of(const Netdev& netdev);
// `got`: the hooks that the port has on it.
[[nodiscard]] pb::Netdev netdev_of(const Interface& interface, const std::string& got);

}  // namespace ivds
