// SPDX-License-Identifier: Apache-2.0
// register_map.h -- how a chip's registers are described: a table of rows, found by number or by offset. A row is an
// array of equal registers; one that is not an array has a single element.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace ivds::offload {

enum class Access : std::uint8_t {
    rw,
    ro,
    wo,
    rc,   // a counter: reading clears it, and it stays at its maximum instead of wrapping
    w1c,  // writing a one clears that bit
};

// Elements [first, first + count) are at offset + stride * (element - first); count 0: none.
struct Place {
    std::uint32_t offset = 0;
    std::uint32_t stride = 4;
    unsigned first = 0;
    unsigned count = 1;
};

struct Register {
    std::string_view name;
    std::array<Place, 3> places{Place{}, Place{.count = 0}, Place{.count = 0}};  // the later ones may be aliases
    Access access = Access::rw;
    std::uint32_t writable = 0xffffffff;
    std::uint32_t hardware = 0;  // bits of an rw register that the chip sets and that a write leaves as they are
    std::uint32_t reset = 0;
    bool undefined = false;    // holds anything after a reset: to be written before traffic is enabled
    bool write_first = false;  // reading it before it was written raises an ECC error
    std::string_view order{};  // what must come before or after an access
    std::string_view source;   // the section that describes it

    [[nodiscard]] constexpr unsigned count() const {
        unsigned n = 0;
        for (const Place& place : places)
            if (place.count != 0 && place.first + place.count > n) n = place.first + place.count;
        return n;
    }
    // Bits that must be written as they are after a reset.
    [[nodiscard]] constexpr std::uint32_t reserved() const {
        return access == Access::rw ? ~(writable | hardware) : 0;
    }
};

// Some bits of a register: field(value) gets them, field.put(x) is x at their place.
struct Field {
    unsigned shift;
    unsigned width = 1;

    [[nodiscard]] constexpr std::uint32_t mask() const {
        return static_cast<std::uint32_t>(((std::uint64_t{1} << width) - 1) << shift);
    }
    [[nodiscard]] constexpr std::uint32_t operator()(std::uint32_t value) const { return (value & mask()) >> shift; }
    [[nodiscard]] constexpr std::uint32_t put(std::uint32_t x = 1) const { return (x << shift) & mask(); }
};

class RegisterMap {
public:
    struct Location {
        std::size_t row;
        unsigned element;
    };

    // The table outlives the map.
    explicit RegisterMap(std::span<const Register> rows);

    [[nodiscard]] std::span<const Register> rows() const { return rows_; }
    [[nodiscard]] const Register& row(std::size_t row) const { return rows_[row]; }
    [[nodiscard]] std::optional<Location> locate(std::uint32_t offset) const;
    // The element's own offset (not an alias).
    [[nodiscard]] std::uint32_t offset(std::size_t row, unsigned element) const;
    // All elements of all rows, numbered through: where a register file keeps them.
    [[nodiscard]] std::size_t slot(std::size_t row, unsigned element) const { return first_slot_[row] + element; }
    [[nodiscard]] std::size_t slots() const { return slots_; }

private:
    std::span<const Register> rows_;
    std::vector<std::size_t> first_slot_;
    std::size_t slots_ = 0;
    std::unordered_map<std::uint32_t, Location> by_offset_;
};

}  // namespace ivds::offload
