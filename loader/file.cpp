// SPDX-License-Identifier: Apache-2.0
#include "file.h"

#include <cerrno>
#include <fstream>
#include <sstream>

namespace ivds {

Result<std::string> read_text(const std::string& path, const char* id, const std::string& fix) {
    errno = 0;
    std::ifstream file(path);
    std::stringstream text;
    text << file.rdbuf();
    if (!file) return os_error(errno != 0 ? errno : EIO, id, "read " + path, fix);
    return text.str();
}

}  // namespace ivds
