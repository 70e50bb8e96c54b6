// SPDX-License-Identifier: Apache-2.0
// image.h -- an 82599's registers as they were read back, of those that decide where a frame goes.
//
// Not among them, as no read shows it: Flow Director's filters (whether there are any is), what a queue does when it
// is full, and rates.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "nic/82599.h"
#include "nic/registers.h"

namespace ivds::offload::verify {

// A register of one element or many that decides about frames.
[[nodiscard]] std::span<const i82599::Reg> deciding();

class Image {
public:
    Image();
    [[nodiscard]] std::uint32_t operator()(i82599::Reg reg, unsigned element = 0) const {
        return values_[i82599::map().slot(static_cast<std::size_t>(reg), element)];
    }
    // Two registers with a bit for each of 64 pools or entries.
    [[nodiscard]] std::uint64_t pair(i82599::Reg reg, unsigned number = 0) const {
        return (*this)(reg, 2 * number) | std::uint64_t{(*this)(reg, 2 * number + 1)} << 32;
    }
    void set(i82599::Reg reg, unsigned element, std::uint32_t value) {
        values_[i82599::map().slot(static_cast<std::size_t>(reg), element)] = value;
    }

private:
    std::vector<std::uint32_t> values_;
};

// Reads each of them once. Registers that raise an ECC error before they were written are read where their filter is
// on. Fails where an access does not reach the NIC, or all registers read as all ones: then it is gone.
[[nodiscard]] Result<Image> read_image(Registers& registers);

}  // namespace ivds::offload::verify
