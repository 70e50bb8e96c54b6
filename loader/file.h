// SPDX-License-Identifier: Apache-2.0
// file.h -- files that are read as a whole.
#pragma once

#include <string>

#include "error.h"

namespace ivds {

// What the file holds. Code::system with errno, under the caller's id and with its fix.
[[nodiscard]] Result<std::string> read_text(const std::string& path, const char* id, const std::string& fix = "");

}  // namespace ivds
