// SPDX-License-Identifier: Apache-2.0
// registers.h -- the seam between what programs a NIC and how its registers are reached: a model in memory, BAR0, the
// driver's debugfs, a device on vfio.
#pragma once

#include <cstdint>

#include "loader/error.h"

namespace ivds::offload {

// One port's 32-bit registers by their byte offset in BAR0. Accesses take effect in the order of the calls. An error
// means that the access did not reach the device; what the device made of an access that reached it shows only in
// what it reads back.
class Registers {
public:
    virtual ~Registers() = default;
    virtual Result<std::uint32_t> read(std::uint32_t offset) = 0;
    virtual Result<> write(std::uint32_t offset, std::uint32_t value) = 0;
};

}  // namespace ivds::offload
