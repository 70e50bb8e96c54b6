// SPDX-License-Identifier: Apache-2.0
// ixgbe.h -- the kernel backend on an 82599 whose driver ixgbe is bound. As with igb.h, the driver is asked for what
// it offers, by rtnetlink, so that it brings it back when the VF or the NIC resets, and a VF that is off is parked;
// that it also stays off when its VM resets it, the driver sees to itself from Linux 5.18 on (link state).
//
// Addresses are the driver's alone: it keeps a table of its own, and whenever the lists of the PF's interface change
// it writes all of RAL, RAH and MPSAR from that, so that nothing else there lasts. It gives a VF one address (vf N
// mac); those of software are the interface's own (bridge fdb … self), and all that are there are taken to be a
// plan's, but for those of devices on the interface (a macvlan). The driver chooses the slots. An address that moves
// between a VF and the PF is both's for as long as two messages take: until then frames for it go to either, or to
// both.
//
// Registers beside the driver, and why each is safe:
//
//   PFVLVF(B)    The driver looks for an entry by its VLAN and takes the one that it finds for its own. It frees one
//                that only the PF is left in when a VF resets or leaves; what the calls from here cause is put right
//                at once, and after a VF's reset read() tells.
//   VFTA         The driver changes a bit when the VLAN's first pool comes or its last one goes.
//   PFVFRE, PFVFTE  The driver sets and clears a VF's bits as its link state says, and when the VF resets.
//   PFVML2FLT    Of a VF: read only, but for the bits that the driver sets the same way. Of the PF: ROPE, which the
//                driver clears when the lists of its interface change.
//   PFVMTXSW, PFUTA, PFMRCTL, PFMRVM, SAQF, DAQF, SDPQF, FTQF, L34TIMIR  The driver never writes them.
//
// From the in-tree driver's text (Linux 5.18 to 6.9); it has not run on a card.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "apply/backend.h"
#include "apply/pf_link.h"
#include "nic/registers.h"

namespace ivds::offload {

// Looks at the PF once, for the number of its VFs. `shortcomings` are those of the way to the registers. Two tags are
// refused.
[[nodiscard]] Result<std::unique_ptr<Backend>> make_ixgbe(std::unique_ptr<PfLink> link,
                                                          std::unique_ptr<Registers> registers,
                                                          std::vector<std::string> shortcomings, WireTags tags = {});

}  // namespace ivds::offload
