// SPDX-License-Identifier: Apache-2.0
#include "model/address.h"

#include <arpa/inet.h>

#include <algorithm>

namespace ivds {

std::optional<Address> host_address(const std::string& text) {
    Address bytes{};
    if (::inet_pton(AF_INET, text.c_str(), bytes.data() + 12) == 1) {
        const std::uint8_t first = bytes[12];
        if (first == 0 || first == 127 || first >= 224) return std::nullopt;
        bytes[10] = bytes[11] = 0xff;
        return bytes;
    }
    in6_addr six{};
    if (::inet_pton(AF_INET6, text.c_str(), &six) != 1 || IN6_IS_ADDR_MULTICAST(&six) ||
        IN6_IS_ADDR_UNSPECIFIED(&six) || IN6_IS_ADDR_LOOPBACK(&six) || IN6_IS_ADDR_V4MAPPED(&six))
        return std::nullopt;
    std::ranges::copy(six.s6_addr, bytes.begin());
    return bytes;
}

bool is_ip4(const Address& address) {
    constexpr std::array<std::uint8_t, 12> prefix = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
    return std::equal(prefix.begin(), prefix.end(), address.begin());
}

std::string to_text(const Address& address) {
    std::array<char, INET6_ADDRSTRLEN> text{};
    const bool four = is_ip4(address);
    ::inet_ntop(four ? AF_INET : AF_INET6, address.data() + (four ? 12 : 0), text.data(), text.size());
    return text.data();
}

}  // namespace ivds
