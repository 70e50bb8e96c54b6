// SPDX-License-Identifier: Apache-2.0
// rx_filter.h -- which receive queue of a VF gets what comes for its VM, by the NIC's filters on five-tuples and
// EtherTypes (R29). They choose a queue and no more: each looks at the copies for its own pool, or leaves those of
// other pools alone, so that what arrives is the same with and without them. Why they are no verdicts is in acl.h.
//
// What a filter does not see is received as ever: frames from VF to VF (five-tuples), fragments, IPv6.
//
// Flow Director, which drivers offer as ntuple, could choose queues too, and is not used for it: all its filters look
// at the same fields (FDIRM and the masks beside it are one set a port), and no read lists them, so that neither an
// agent that starts anew nor a check of the NIC could tell what is there.
#pragma once

#include "plan/choose.h"
#include "plan/plan.h"

namespace ivds::offload {

// Puts the filters of the vPorts that are in the NIC into plan.state, and says of all where they are. Those that the
// NIC has keep their slots; the others come by their vPort and their place in its list, as long as there is room.
void choose_rx_filters(Plan& plan, const Snapshot& tables, const Device& device, const Choices& choices,
                       const NicState& present);

}  // namespace ivds::offload
