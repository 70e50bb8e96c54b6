// SPDX-License-Identifier: Apache-2.0
// rule_view.h -- rules in the order in which they are held against a frame, with what each decided.
#pragma once

#include <cstdint>
#include <map>

#include "compile/ids.h"
#include "ivds.pb.h"
#include "ivds/abi.h"
#include "model/model.h"

namespace ivds {

// `counts` is what MapsView::rule_stats() gives. Code::not_found if the request names what does not exist.
[[nodiscard]] Result<pb::RulesReply> view_rules(const Model& model, const Ids& ids,
                                                const std::map<std::uint32_t, ivds_rule_count>& counts,
                                                const pb::RulesRequest& request);

}  // namespace ivds
