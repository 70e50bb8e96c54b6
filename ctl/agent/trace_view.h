// SPDX-License-Identifier: Apache-2.0
// trace_view.h -- what the traced programs noted, in the words of the configuration: names, entries, and how to
// change what was decided.
#pragma once

#include <vector>

#include "agent/store.h"
#include "ivds.pb.h"
#include "loader/trace.h"
#include "model/model.h"

namespace ivds {

[[nodiscard]] pb::TraceReply view_trace(const Model& model, const Ids& ids, const std::vector<RungTrace>& rungs);

}  // namespace ivds
