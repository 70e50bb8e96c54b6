// SPDX-License-Identifier: Apache-2.0
// acl.h -- why a list of rules is software's. Each is: the filters that these NICs have beyond addresses and VLANs
// choose a queue for a copy that is on its way to a pool, and drop by choosing one that is off. None of them does for
// all frames what a rule does:
//
//   on what a VM sends    Nothing looks at it but the checks of its source.
//   five-tuple filters,   They do not look at frames from pool to pool, which takes a bit that the X550 has and the
//   Flow Director         82599 not. Even if they did, and for a vPort with no neighbour in the NIC: not at fragments
//                         and what is cut short, which a rule drops that it could apply to.
//   EtherType filters     There is one for an EtherType, not one for a pool; whether frames from pool to pool pass
//                         them is left open; and what it drops into is a queue of the VF, which its VM may turn on.
//                         To a pool of nobody it would take the type away from all.
//
// What five-tuple filters are used for is in rx_filter.h. The model shows what five-tuple and EtherType filters miss,
// with what is left open either way (tests/offload/rules_test.cpp).
#pragma once

#include "plan/plan.h"

namespace ivds::offload {

// Of a vPort that has lists: the first reason, or Reason::fits for one without.
[[nodiscard]] Reason why_not_nic(const ivds_port& port, const Snapshot& tables);

}  // namespace ivds::offload
