// SPDX-License-Identifier: Apache-2.0
// offload_view.h -- a plan as the API shows it: where every object runs, and why.
#pragma once

#include "compile/ids.h"
#include "ivds.pb.h"
#include "offload/plan/plan.h"

namespace ivds {

void view_plan(const offload::Plan& plan, const Ids& ids, pb::OffloadNic& out);
// Each entry of the forwarding table; `tables` are those that the plan was made from.
void view_fdb(const offload::Plan& plan, const offload::Snapshot& tables, const Ids& ids, pb::OffloadNic& out);

}  // namespace ivds
