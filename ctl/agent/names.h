// SPDX-License-Identifier: Apache-2.0
// names.h -- how views call what the maps hold: ids by their names, MACs as text.
#pragma once

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
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

// An address as the fields of a frame have it; of IPv4 the last four bytes.
inline std::string address_text(const std::uint8_t (&bytes)[16], bool v4) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    return ::inet_ntop(v4 ? AF_INET : AF_INET6, v4 ? bytes + 12 : bytes, text.data(), text.size());
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
