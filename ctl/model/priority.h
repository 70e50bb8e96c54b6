// SPDX-License-Identifier: Apache-2.0
// priority.h -- the priorities of a profile as people write them.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

namespace ivds {

// As in ivds_port.pcp (abi.h): "" is 0, "keep" IVDS_PCP_KEEP. nullopt: it is no PCP.
[[nodiscard]] std::optional<std::uint8_t> parse_pcp(const std::string& text);
// As in ivds_port.dscp: "" is 0, a DSCP that one more. A number, or a name of RFC 2474, 2597, 3246, 5865 or 8622.
[[nodiscard]] std::optional<std::uint8_t> parse_dscp(const std::string& text);

}  // namespace ivds
