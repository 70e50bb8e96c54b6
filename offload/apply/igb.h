// SPDX-License-Identifier: Apache-2.0
// igb.h -- the kernel backend on an 82576 whose driver igb is bound: what the driver offers is asked of it, by
// rtnetlink, and the rest is written to registers beside it.
//
// The driver remembers what it is told of a VF, and brings it back when the VF or the NIC resets. So a VF's V.VLAN
// and priority, its rate, the checks of its sources and the address that its VM finds are the driver's, and a VM that
// resets its VF changes nothing. A VF that is off is parked: it is in VLAN 4095, which nobody else is in and which no
// switch forwards, and keeps an address that its VM cannot change; one that a VM resets is on again, there, until
// read() tells and a plan turns it off.
//
// Registers beside the driver, and why each is safe:
//
//   RAL, RAH     The driver writes entries one by one: 0 for the PF, from 1 up for addresses that others give the PF,
//                from the last down for the addresses of VFs. Ours are between, in the slots that a plan takes from
//                the end; the driver comes by only where it has used up the others, and all are cleared when it
//                resets the NIC. An entry of a VF's own is taken back at once where it is not what the plan says.
//   VLVF         The driver looks for an entry by its VLAN and uses the one that it finds, so it takes ours for its
//                own: it sets a VF's bit when the VF resets, where it is set already.
//   VFTA         The driver writes a word of 32 VLANs as it believes it to be whenever one of them changes for it. It
//                is put right after each of our own calls; after one that a VM causes, read() tells.
//   VFRE, VFTE   The driver sets a VF's bits when the VF resets, and clears none.
//   VMOLR        Of a vPort's VF: read only, but for the bits that the driver sets the same way. Of an uplink's: what
//   it
//                takes, which the driver writes again when the VF resets, and its multicast also with the PF's lists;
//                read() tells. Of the PF: ROPE, which the driver sets again when the PF's modes or addresses change.
//   RPLOLR       With two tags: the tags of floods stay. Written by the driver when it resets the NIC.
//   CTRL_EXT     EXTENDED_VLAN, with VET and DTXSWC's loop back: which tags the wire has. The driver writes them when
//   it
//                resets the NIC, and prepare() again after that, with reception and transmission off for the moment.
//   UTA          Written by the driver, all or nothing, with the PF's ROPE, which tells of it: it cannot be read.
//
// The driver changes bits of these by reading and writing the whole register, and so does this: of two at the same
// moment one may be lost. Each write is read back, and read() finds what was lost later.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "apply/backend.h"
#include "apply/pf_link.h"
#include "nic/registers.h"

namespace ivds::offload {

// Looks at the PF once, for the number of its VFs. `shortcomings` are those of the way to the registers.
[[nodiscard]] Result<std::unique_ptr<Backend>> make_igb(std::unique_ptr<PfLink> link,
                                                        std::unique_ptr<Registers> registers,
                                                        std::vector<std::string> shortcomings, WireTags tags = {});

}  // namespace ivds::offload
