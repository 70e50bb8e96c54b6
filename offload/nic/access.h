// SPDX-License-Identifier: Apache-2.0
// access.h -- what those who program Intel's NICs by register have in common.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <string>

#include "loader/error.h"
#include "loader/tables.h"
#include "nic/registers.h"

namespace ivds::offload {

// What a device reads as that is not there any more.
inline constexpr std::uint32_t all_ones = 0xffffffff;

// The first failure of several accesses in a row, of which the later ones are then not made.
template <class... Accesses>
[[nodiscard]] Result<> in_turn(Accesses&&... accesses) {
    Result<> result;
    (void)((result = accesses(), result.has_value()) && ...);
    return result;
}

// An address as RAL and the lower half of RAH hold it.
[[nodiscard]] constexpr std::uint32_t low_of(const Mac& mac) {
    return mac[0] | std::uint32_t{mac[1]} << 8 | std::uint32_t{mac[2]} << 16 | std::uint32_t{mac[3]} << 24;
}
[[nodiscard]] constexpr std::uint32_t high_of(const Mac& mac) {
    return mac[4] | std::uint32_t{mac[5]} << 8;
}
[[nodiscard]] constexpr Mac mac_of(std::uint32_t low, std::uint32_t high) {
    const auto byte = [](std::uint32_t word, unsigned n) { return static_cast<std::uint8_t>(word >> (8 * n)); };
    return {byte(low, 0), byte(low, 1), byte(low, 2), byte(low, 3), byte(high, 0), byte(high, 1)};
}

// `where` is a register with its number.
[[nodiscard]] inline std::unexpected<Error> gone(const std::string& where) {
    return fail(Code::unavailable, "IVDS-O011", fmt::format("{} reads as all ones", where),
                "the NIC is gone: look for it with lspci, and reset it");
}
[[nodiscard]] inline std::unexpected<Error> not_kept(const std::string& where, std::uint32_t written,
                                                     std::uint32_t read, const char* chip) {
    return fail(Code::conflict, "IVDS-O012",
                fmt::format("{} was written {:#010x} and reads {:#010x}", where, written, read),
                fmt::format("look for another writer of the NIC's registers, or for a NIC that is no {}", chip));
}

// A chip's registers by their names. Errors: unavailable, the NIC is gone; conflict, it does not keep what is
// written.
template <class Reg>
class ChipRegisters {
public:
    // `registers` outlives it; `chip` is its name, for people.
    ChipRegisters(Registers& registers, const char* chip) : registers_(registers), chip_(chip) {}

    // A NIC that is gone reads as all ones, which some registers may hold; the status never does.
    [[nodiscard]] Result<std::uint32_t> get(Reg reg, unsigned element = 0) const {
        auto value = registers_.read(offset(reg, element));
        if (!value || *value != all_ones) return value;
        const auto status = registers_.read(offset(Reg::status));
        if (!status) return status;
        if (*status != all_ones) return value;
        return gone(text(reg, element));
    }
    // For registers that cannot be read.
    [[nodiscard]] Result<> put_unread(Reg reg, unsigned element, std::uint32_t value) const {
        return registers_.write(offset(reg, element), value);
    }
    // Reads back what it wrote.
    [[nodiscard]] Result<> put(Reg reg, unsigned element, std::uint32_t value) const {
        if (auto done = registers_.write(offset(reg, element), value); !done) return done;
        const auto back = get(reg, element);
        if (!back) return std::unexpected(back.error());
        if (*back == value) return {};
        return not_kept(text(reg, element), value, *back, chip_);
    }
    // The bits of `mask` become those of `value`; nothing is written where they are so.
    [[nodiscard]] Result<> change(Reg reg, unsigned element, std::uint32_t mask, std::uint32_t value) const {
        const auto now = get(reg, element);
        if (!now) return std::unexpected(now.error());
        const std::uint32_t next = (*now & ~mask) | (value & mask);
        return next == *now ? Result<>{} : put(reg, element, next);
    }

private:
    [[nodiscard]] static std::string text(Reg reg, unsigned element) {
        return fmt::format("{}[{}]", describe(reg).name, element);
    }

    Registers& registers_;
    const char* chip_;
};

}  // namespace ivds::offload
