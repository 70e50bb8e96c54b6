// SPDX-License-Identifier: Apache-2.0
#include "nic/register_map.h"

namespace ivds::offload {

RegisterMap::RegisterMap(std::span<const Register> rows) : rows_(rows) {
    for (std::size_t row = 0; row < rows.size(); ++row) {
        first_slot_.push_back(slots_);
        slots_ += rows[row].count();
        for (const Place& place : rows[row].places)
            for (unsigned i = 0; i < place.count; ++i)
                by_offset_.try_emplace(place.offset + place.stride * i, Location{row, place.first + i});
    }
}

std::optional<RegisterMap::Location> RegisterMap::locate(std::uint32_t offset) const {
    const auto found = by_offset_.find(offset);
    return found == by_offset_.end() ? std::nullopt : std::optional(found->second);
}

std::uint32_t RegisterMap::offset(std::size_t row, unsigned element) const {
    for (const Place& place : rows_[row].places)
        if (element >= place.first && element < place.first + place.count)
            return place.offset + place.stride * (element - place.first);
    return ~0U;  // no such element: an offset that no chip has
}

}  // namespace ivds::offload
