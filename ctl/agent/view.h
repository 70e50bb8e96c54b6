// SPDX-License-Identifier: Apache-2.0
// view.h -- state and counters as the API shows them, put together from the intent (names) and the pinned maps
// (numbers). The agent answers Status, Stats and Fdb with these; `ivds-ctl` calls the same functions when the agent
// is down, as all they need can be had read-only and without it:
//
//     auto intent = load_intent(state_dir);           // agent/store.h; no value: nothing was ever applied
//     auto maps = MapsView::open(root);               // loader/switch.h
//     auto reply = view_status({intent->model, intent->ids, *maps});
#pragma once

#include <functional>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "agent/store.h"
#include "ivds.pb.h"
#include "loader/netdev.h"
#include "loader/switch.h"
#include "model/model.h"

namespace ivds {

struct ViewSource {
    const Model& model;
    const Ids& ids;
    const MapsView& maps;
    // What Switch::status() says. Without it (the agent is down), ifindex and `up` come from the pinned maps, and
    // `got` and `reason` stay empty.
    const std::vector<PortStatus>* ports = nullptr;
    // What NetdevQuery::look() says of the ports' interfaces. Without it, what it tells stays empty.
    const std::map<std::string, Interface>* interfaces = nullptr;
};

// uptime_s is 0; the agent sets its own.
[[nodiscard]] Result<pb::StatusReply> view_status(const ViewSource& source);
[[nodiscard]] Result<pb::StatsReply> view_stats(const ViewSource& source);

// Calls `sink` with every FDB entry that the request asks for, in no particular order, until it returns false.
// Code::not_found if the request names an instance or port that does not exist.
[[nodiscard]] Result<> view_fdb(const ViewSource& source, const pb::FdbRequest& request,
                                const std::function<bool(const pb::FdbEntry&)>& sink);

// The same of the addresses that the switch answers for. Code::invalid if the request names one that no host has.
[[nodiscard]] Result<> view_neighbours(const ViewSource& source, const pb::NeighboursRequest& request,
                                       const std::function<bool(const pb::NeighbourEntry&)>& sink);

// What became of the frames of an inspector's vPorts, and whether it listens at `now_ns`, as the data plane sees it.
[[nodiscard]] pb::InspectorState inspector_state(const PortStatus& port, const ivds_port& value,
                                                 const ivds_inspector& state, std::uint64_t now_ns);

// But for the drops, which are not in it.
[[nodiscard]] pb::Counters counters_of(const ivds_port_stats& stats);

// How far an instance is in its life: "created" (no vPorts), "configured" (none of them up), "active", "draining".
[[nodiscard]] std::string instance_state_text(const pb::Instance& instance, std::uint32_t vports,
                                              std::uint32_t vports_up);

}  // namespace ivds
