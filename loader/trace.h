// SPDX-License-Identifier: Apache-2.0
// trace.h -- what the data plane would do with a frame: its own sources, compiled to note each decision and to do
// nothing, run over the pinned maps (bpf/include/ivds/trace.h). Nothing is counted, learned, reported or sent.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "error.h"
#include "fd.h"
#include "ivds/trace.h"

namespace ivds {

// What one rung noted of the frame.
struct RungTrace {
    std::string rung;  // "xdp", "tc"
    std::vector<ivds_trace_step> steps;
    std::uint32_t more_steps = 0;  // that were not kept: copies of a flood to very many members
    ivds_fields fields{};
};

inline constexpr std::size_t kTraceFrameMin = 14;
inline constexpr std::size_t kTraceFrameMax = 3000;  // bytes: what is linear in a test run of either program

// The traced programs over the maps that are pinned below `root`. Needs the rights to load programs, and no agent.
class Tracer {
public:
    [[nodiscard]] static Result<std::unique_ptr<Tracer>> open(const std::string& root);
    // The same over maps of the caller's: `map` gives a descriptor of the one by this name, which is closed.
    [[nodiscard]] static Result<std::unique_ptr<Tracer>> over(
        const std::function<Result<Fd>(const std::string&)>& map);
    ~Tracer();
    Tracer(const Tracer&) = delete;
    Tracer& operator=(const Tracer&) = delete;

    // The frame comes in by the port with this id; `xdp` says whether XDP is in front of TC there. One entry for each
    // rung that sees the frame. Callable from any thread, one frame at a time.
    [[nodiscard]] Result<std::vector<RungTrace>> trace(std::uint32_t port, std::span<const std::uint8_t> frame,
                                                       bool xdp);

private:
    struct Impl;
    explicit Tracer(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace ivds
