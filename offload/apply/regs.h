// SPDX-License-Identifier: Apache-2.0
// regs.h -- a PF's registers: the ways to them, which of them is open, and why the others are not.
//
//   BAR0      the PF's memory, mapped from sysfs (resource0). Needs root, and a kernel that is not locked down and
//             either has no CONFIG_IO_STRICT_DEVMEM or was booted with iomem=relaxed.
//   vfio      the same memory by vfio, where vfio-pci is bound to the PF in place of its driver. Then no interface is
//             there for software's frames, nobody answers the drivers of VFs, and the kernel resets the NIC when who
//             has it open ends: enough to look at a card and to try its registers, not to forward by it, which has to
//             go on without a process. An agent's uplink has its driver, and so takes another way.
//   debugfs   the file reg_ops of ixgbe's: it takes "read OFFSET" and "write OFFSET VALUE". What it reads goes to the
//             kernel's log, so it is not a way for what has to read back. It is looked for to say that.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "loader/error.h"
#include "nic/registers.h"

namespace ivds::offload {

struct OpenRegisters {
    std::unique_ptr<Registers> registers;
    std::string way;                   // "BAR0 by resource0", "BAR0 by vfio"
    std::vector<std::string> refused;  // the ways that are not open, each with its reason
};

// `device` is the PF's folder in sysfs. Fails, with the reasons of all ways, where none is open. Changes nothing, but
// for what is on vfio-pci, which the kernel resets as it is opened.
[[nodiscard]] Result<OpenRegisters> open_registers(const std::string& device, const std::string& debugfs);

}  // namespace ivds::offload
