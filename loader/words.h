// SPDX-License-Identifier: Apache-2.0
// words.h -- libbpf, the verifier and libxdp say why something failed only through a callback; the last of what they
// say while a Words lives goes into the error.
#pragma once

#include <string>

namespace ivds {

class Words {
public:
    Words();
    ~Words();
    Words(const Words&) = delete;
    Words& operator=(const Words&) = delete;
    [[nodiscard]] std::string last() const;  // " (…)" in one line, or nothing if nothing was said

private:
    std::string words_;
    std::string* outer_;
};

}  // namespace ivds
