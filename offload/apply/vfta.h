// SPDX-License-Identifier: Apache-2.0
// vfta.h -- the VLANs that a NIC's port takes in, which its driver sets otherwise than a plan wants: 32 in a word of
// VFTA, of both chips. VLAN 0, and those in `kept`, which the host has devices for, are the driver's.
#pragma once

#include <cstdint>
#include <set>

#include "nic/access.h"

namespace ivds::offload {

inline constexpr unsigned vfta_words = 128;

// All others go. After a failure it goes on, and tells the first.
template <class Reg>
[[nodiscard]] Result<> empty_vfta(const ChipRegisters<Reg>& nic, const std::set<std::uint16_t>& kept) {
    Result<> first;
    for (unsigned word = 0; word < vfta_words; ++word) {
        std::uint32_t mask = word == 0 ? 1 : 0;
        for (const std::uint16_t vid : kept)
            if (vid / 32U == word) mask |= 1U << (vid % 32);
        const auto done = nic.change(Reg::vfta, word, ~mask, 0);
        if (!done && first) first = done;
    }
    return first;
}

// For a promiscuous interface the driver lets all VLANs in: then all others go, as a plan says which; it is made
// next.
template <class Reg>
[[nodiscard]] Result<> close_vfta(const ChipRegisters<Reg>& nic, const std::set<std::uint16_t>& kept) {
    for (unsigned word = 0; word < vfta_words; ++word) {
        const auto now = nic.get(Reg::vfta, word);
        if (!now) return std::unexpected(now.error());
        if (*now != all_ones) return {};
    }
    return empty_vfta(nic, kept);
}

}  // namespace ivds::offload
