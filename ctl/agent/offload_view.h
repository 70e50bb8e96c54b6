// SPDX-License-Identifier: Apache-2.0
// offload_view.h -- a plan as the API shows it: where every object runs, and why; and what was found of a NIC.
#pragma once

#include "compile/ids.h"
#include "ivds.pb.h"
#include "offload/plan/plan.h"
#include "offload/verify/verify.h"

namespace ivds {

void view_plan(const offload::Plan& plan, const Ids& ids, pb::OffloadNic& out);
// Each entry of the forwarding table; `tables` are those that the plan was made from.
void view_plan_fdb(const offload::Plan& plan, const offload::Snapshot& tables, const Ids& ids, pb::OffloadNic& out);

// What NICs counted of a vPort.
[[nodiscard]] pb::Counters counters_of(const ivds_nic_stats& stats);
// What registers hold: decoded, and as they are.
void view_registers(const offload::verify::Nic& nic, pb::OffloadNic& out);
// What the walk of all classes of frames found at an uplink.
[[nodiscard]] pb::Verdict view_verdict(const std::string& uplink, const offload::verify::Verdict& verdict);
// What NIC and software make of one frame, and what the switch alone would.
void view_nic_trace(const offload::verify::Verifier& verifier, const offload::verify::Nic& nic,
                    const offload::verify::Probe& probe, pb::NicTrace& out);

}  // namespace ivds
