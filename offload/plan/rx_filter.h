// SPDX-License-Identifier: Apache-2.0
// rx_filter.h -- which receive queue of a VF gets what comes for its VM, by the NIC's five-tuple filters (R29). They
// choose a queue and no more: each looks at the copies for its own pool, so that what arrives is the same with and
// without them. Why they are no verdicts is in acl.h.
//
// What a filter does not see is received as ever: frames from VF to VF, fragments, IPv6. Of a frame that goes to
// several pools it is to see the copy for its own; the maker says so of Flow Director, and it has not been tried on a
// card. Else it would take copies of broadcasts from other VMs of the V.VLAN, never from another V.VLAN's.
//
// Two others could choose queues, and do not:
//   EtherType filters  Each has one queue for all pools, or takes its type away from all but one; whether the copies
//                      of other pools keep to theirs is nowhere said, and they may be another tenant's.
//   Flow Director      Which drivers offer as ntuple. All its filters look at the same fields (one set of masks for a
//                      port, FDIRM first), and no read lists them, so that neither an agent that starts anew nor a
//                      check of the NIC could tell what is there.
#pragma once

#include "plan/choose.h"
#include "plan/plan.h"

namespace ivds::offload {

// Puts the filters of the vPorts that are in the NIC into plan.state, and says of all where they are. Those that the
// NIC has keep their slots; the others come by their vPort and their place in its list, as long as there is room.
void choose_rx_filters(Plan& plan, const Snapshot& tables, const Device& device, const Choices& choices,
                       const NicState& present);

}  // namespace ivds::offload
