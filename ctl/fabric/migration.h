// SPDX-License-Identifier: Apache-2.0
// migration.h -- a vPort whose VM moves: what goes along to the other host, how it is made ready there, and the
// frames that tell the fabric that it came. Pure, but for frame_sender().
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "fabric/announcer.h"
#include "ivds.pb.h"
#include "loader/error.h"
#include "loader/switch.h"
#include "model/model.h"

namespace ivds::fabric {

// All of the vPort that other hosts need, but for its counters and flows. Refused where it cannot move: it is no
// interface of its own, has vPorts behind it, is in no instance that spans hosts, or is not this host's now.
[[nodiscard]] Result<pb::Migration> migration_of(const Model& model, const std::string& vport,
                                                 const std::string& host);

// The intent with the vPort prepared, as the step PREPARE asks; what the two hosts have by one name must be the same.
[[nodiscard]] Result<Model> with_prepared(const Model& now, const pb::MigrateRequest& request,
                                          const std::string& host, const MacOf& mac_of);
// Whether the two hosts still see each other's bindings, where the vPort is prepared here.
[[nodiscard]] Result<> still_meets(const Model& now, const pb::Migration& migration);
// What is here of all that PREPARE changes and ABORT takes back: the vPort of a VM that was here before and moved on,
// the vNIC, and mirrors that watch the vPort or are to.
[[nodiscard]] pb::ObjectList found_by_prepare(const Model& now, const pb::Migration& migration);
// The same taken back, but for what was `found`: the vPort, its part in mirrors, and its vNIC if no other vPort has
// it. A vPort that was found is as it was, its VM at `owner` (empty: where it was then). Profiles and sets stay.
[[nodiscard]] Result<Model> without_prepared(const Model& now, const std::string& vport, const pb::ObjectList& found,
                                             const std::string& owner, const MacOf& mac_of);
// The intent with the vPort in another state; `peer` is empty for ACTIVE.
[[nodiscard]] Result<Model> with_state(const Model& now, const std::string& vport, pb::VPort::State state,
                                       const std::string& peer, const MacOf& mac_of);

// Only connections are carried: any other entry spares a search, and the first frame makes it again.
[[nodiscard]] bool is_carried(const ivds_flow& flow);
[[nodiscard]] pb::Migration::Flow carried(const FlowRow& row, std::uint64_t now_ns);
// The connection as an entry of a port here, whose rules are asked about it at its next frame; times are those of
// this host's clocks. Code::invalid: it is no connection as this layout holds it.
[[nodiscard]] Result<FlowRow> entry_of(const pb::Migration::Flow& flow, std::uint32_t port, std::uint32_t instance,
                                       std::uint64_t now_ns);

// The vMAC of the vPort, and those beside it.
[[nodiscard]] std::vector<Mac> macs_of(const Model& model, const pb::VPort& vport);

// Reverse ARP requests (RFC 903) from each MAC of the vPort, as they leave its uplink in the outer VLAN by which this
// host is reached: switches of the fabric then have the MAC behind this host there. In the VLAN of the host that it
// came from they have it behind that one still, which sends on what comes late. No address is in them: the vPort's
// MACs stay, so ARP's caches need no change.
[[nodiscard]] std::vector<std::vector<std::uint8_t>> announcements(const Model& model, const pb::VPort& vport);
// Sends frames by interfaces as they are. It keeps its socket: the kernel takes its time to close one.
[[nodiscard]] Announcer::Send frame_sender();

}  // namespace ivds::fabric
