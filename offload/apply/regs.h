// SPDX-License-Identifier: Apache-2.0
// regs.h -- a PF's registers while its driver is bound: the ways to them, which of them is open, and why the others
// are not.
//
//   BAR0      the PF's memory, mapped from sysfs (resource0). Needs root, and a kernel that is not locked down and
//             either has no CONFIG_IO_STRICT_DEVMEM or was booted with iomem=relaxed.
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
    std::string way;                   // "BAR0 by resource0"
    std::vector<std::string> refused;  // the ways that are not open, each with its reason
};

// `device` is the PF's folder in sysfs. Fails, with the reasons of all ways, where none is open. Changes nothing.
[[nodiscard]] Result<OpenRegisters> open_registers(const std::string& device, const std::string& debugfs);

}  // namespace ivds::offload
