// SPDX-License-Identifier: Apache-2.0
// frame_filter.h -- a filter expression of pcap-filter(7) over the bytes of Ethernet frames, run in user space.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>

#include "loader/error.h"

namespace ivds {

// Every frame passes one that was not compiled.
class FrameFilter {
public:
    // Of an empty text: a filter that every frame passes. Names of hosts in it are looked up, which may take its
    // time.
    [[nodiscard]] static Result<FrameFilter> compile(const std::string& text);

    // `captured` are the first bytes of a frame of `bytes`.
    [[nodiscard]] bool matches(std::span<const std::uint8_t> captured, std::uint32_t bytes) const;

private:
    struct Program;
    std::shared_ptr<const Program> program_;
};

}  // namespace ivds
