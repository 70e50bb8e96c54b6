// SPDX-License-Identifier: Apache-2.0
// validity.h -- certificates and this host's clock: of a handshake that fails gRPC says no more than that it failed,
// and a clock that is wrong is the likeliest reason.
#pragma once

#include <ctime>
#include <optional>
#include <string>

namespace ivds {

// Why none of the certificates in a PEM text is valid at `now`: "it is valid from … on"; nothing: one is, or there is
// none in it.
[[nodiscard]] std::optional<std::string> why_not_valid(const std::string& pem, std::time_t now);

// "2026-11-28T09:00:00Z"
[[nodiscard]] std::string calendar_text(std::time_t time);

}  // namespace ivds
