// SPDX-License-Identifier: Apache-2.0
// capture.h -- frames of the switch as they pass, for people and for other programs.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "command.h"

namespace ivds::cli {

struct CaptureEnd {
    Result<> done;  // an interrupt is no error
    bool begun = false;
    std::uint64_t taken = 0;
    std::uint64_t lost = 0;
    std::uint64_t untraced = 0;
};
// Hands what the agent captures to `sink`, until that says false, `count` frames came (0: no end), or somebody
// interrupts. Standard error hears when it begins: "capturing web1; end it with Ctrl-C".
[[nodiscard]] CaptureEnd follow_capture(const Context& context, const pb::CaptureRequest& request,
                                        const std::string& what, std::uint64_t count,
                                        const std::function<bool(const pb::CapturePacket&)>& sink);

// "10:31:05.000123 in web1: 02:00:00:00:00:01 > 02:00:00:00:00:02, type 0x0800, 98 bytes"
[[nodiscard]] std::string line_of(const pb::CapturePacket& packet);

}  // namespace ivds::cli
