// SPDX-License-Identifier: Apache-2.0
// names.h -- how views call what the maps hold: ids by their names, MACs as text.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <map>
#include <string>

#include "loader/tables.h"

namespace ivds {

inline std::string mac_text(const std::uint8_t (&bytes)[6]) {
    Mac mac{};
    std::ranges::copy(bytes, mac.begin());
    return format_mac(mac);
}

inline std::map<std::uint32_t, std::string> names_by_id(const std::map<std::string, std::uint32_t>& ids) {
    std::map<std::uint32_t, std::string> names;
    for (const auto& [name, id] : ids) names.emplace(id, name);
    return names;
}

inline std::string name_or_number(const std::map<std::uint32_t, std::string>& names, std::uint32_t id) {
    const auto found = names.find(id);
    return found != names.end() ? found->second : fmt::format("#{}", id);
}

}  // namespace ivds
