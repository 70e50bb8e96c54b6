// SPDX-License-Identifier: Apache-2.0
// exporter.h -- what an exporter's words stand for. Pure.
#pragma once

#include <sys/socket.h>

#include <cstddef>
#include <optional>
#include <string>

#include "model/model.h"

namespace ivds {

// Each holds up to two threads.
constexpr std::size_t kMaxExporters = 8;

struct Collector {
    sockaddr_storage address{};
    socklen_t size = 0;
};
// "192.0.2.9:4739", "[fd00::9]:4739": in numbers, so that exporting depends on no name service.
[[nodiscard]] std::optional<Collector> parse_collector(const std::string& text);

}  // namespace ivds
