// SPDX-License-Identifier: Apache-2.0
// image.h -- a NIC's registers as they were read back, of those that decide where a frame goes.
#pragma once

#include <cstdint>
#include <type_traits>
#include <vector>

#include "nic/register_map.h"
#include "nic/registers.h"

namespace ivds::offload::verify {

class Image {
public:
    // All zeros; the chip's map outlives it.
    explicit Image(const RegisterMap& map) : map_(&map), values_(map.slots()) {}

    template <class Reg>
        requires std::is_enum_v<Reg>
    [[nodiscard]] std::uint32_t operator()(Reg reg, unsigned element = 0) const {
        return values_[map_->slot(static_cast<std::size_t>(reg), element)];
    }
    // Two registers with a bit for each of 64 pools or entries.
    template <class Reg>
    [[nodiscard]] std::uint64_t pair(Reg reg, unsigned number = 0) const {
        return (*this)(reg, 2 * number) | std::uint64_t{(*this)(reg, 2 * number + 1)} << 32;
    }
    template <class Reg>
    void set(Reg reg, unsigned element, std::uint32_t value) {
        values_[map_->slot(static_cast<std::size_t>(reg), element)] = value;
    }
    // Reads all elements of a register, but those that `skip` is true for. Fails where an access does not reach the
    // NIC.
    template <class Reg, class Skip>
    [[nodiscard]] Result<> read(Registers& registers, Reg reg, const Skip& skip) {
        const auto row = static_cast<std::size_t>(reg);
        for (unsigned i = 0; i < map_->row(row).count(); ++i) {
            if (skip(i)) continue;
            const auto value = registers.read(map_->offset(row, i));
            if (!value) return std::unexpected(value.error());
            is_there_ |= *value != ~0U;
            set(reg, i, *value);
        }
        return {};
    }
    // A NIC that is gone reads as all ones everywhere.
    [[nodiscard]] Result<> check_there() const {
        if (is_there_) return {};
        return fail(Code::unavailable, "IVDS-O011", "all registers read as all ones",
                    "the NIC is gone: look for it with lspci, and reset it");
    }

    [[nodiscard]] const RegisterMap& map() const { return *map_; }
    [[nodiscard]] std::uint32_t at(std::size_t row, unsigned element) const {
        return values_[map_->slot(row, element)];
    }

private:
    const RegisterMap* map_;
    std::vector<std::uint32_t> values_;
    bool is_there_ = false;
};

}  // namespace ivds::offload::verify
