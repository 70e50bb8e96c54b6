// SPDX-License-Identifier: Apache-2.0
// audit.h -- pure: where what the maps hold is not what they shall hold. What would have to be written is asked of
// make_plan(), which also plans every change, so that the audit and the changes cannot disagree.
#pragma once

#include <vector>

#include "plan.h"
#include "switch.h"

namespace ivds {

// A part of a Content that only the running system knows: interfaces, hooks, carrier.
[[nodiscard]] bool same_runtime(const ivds_port& a, const ivds_port& b);
// `value` with the run-time part of `from`.
[[nodiscard]] ivds_port with_runtime(ivds_port value, const ivds_port& from);

// `in_map` and `bulk` were read from the maps just now; `known` is what was last written there, whose run-time part
// is the one that shall hold. One error a drifted entry, or one info that says how many entries match.
[[nodiscard]] std::vector<Finding> audit(const Content& in_map, const Bulk& bulk, const Content& known,
                                         const Tables& wanted);

}  // namespace ivds
