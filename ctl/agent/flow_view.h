// SPDX-License-Identifier: Apache-2.0
// flow_view.h -- the flow table as the API shows it, and six-tuples in words. As in view.h, `ivds-ctl` calls the same
// when the agent is down.
#pragma once

#include <functional>
#include <string>

#include "agent/view.h"

namespace ivds {

// Calls `sink` with every entry that the request asks for and that has not run out, in no particular order, until it
// returns false. Entries are told one by one: a million of them need no memory here. Code::not_found if the request
// names a vPort or an instance that does not exist.
[[nodiscard]] Result<> view_flows(const ViewSource& source, const pb::FlowsRequest& request,
                                  const std::function<bool(const pb::FlowState&)>& sink);

// Seconds without a frame after which the entry counts as gone.
[[nodiscard]] std::uint32_t flow_timeout_s(const ivds_flow_key& key, const ivds_flow& flow);

// What rules look at of a frame, in words: "02:00:00:00:00:01 tcp 10.0.0.1:4000 -> 10.0.0.2:23".
[[nodiscard]] std::string fields_text(const ivds_fields& fields);
// The same as a message; `vmac` is the source's.
[[nodiscard]] pb::FrameTuple tuple_of(const ivds_fields& fields);

}  // namespace ivds
