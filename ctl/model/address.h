// SPDX-License-Identifier: Apache-2.0
// address.h -- IP addresses of VMs, as the data plane's tables hold them. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>

namespace ivds {

using Address = std::array<std::uint8_t, 16>;  // IPv4 as ::ffff:a.b.c.d

// Nothing for what is no address, or none that one host can have: of a group, of nobody, of the host itself.
[[nodiscard]] std::optional<Address> host_address(const std::string& text);

[[nodiscard]] bool is_ip4(const Address& address);
[[nodiscard]] std::string to_text(const Address& address);

// More than a VM has, and few enough for a value of the registry.
constexpr int kMaxAddresses = 64;

}  // namespace ivds
