// SPDX-License-Identifier: Apache-2.0
// capture.h -- mirrors that last as long as somebody reads them, and what of a mirror only the running system knows.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>

#include "agent/frame_filter.h"
#include "compile/ids.h"
#include "ivds.pb.h"
#include "loader/tables.h"
#include "model/model.h"

struct ring_buffer;

namespace ivds {

constexpr std::uint32_t kCaptureRingBytes = 4U << 20;

// What a capture watches.
struct Capture {
    std::string vport;                // a vPort or an uplink; or …
    std::set<std::string> instances;  // … all vPorts of these; neither: what is dropped anywhere
    bool in_alone = false;            // what comes in by the port, also what is dropped of it
    std::uint32_t snap_bytes = 0;
    std::uint32_t sample = 0;    // one of so many frames; 0, 1: all
    bool without_drops = false;  // no copies for drops alone: a frame from a VM is copied as it comes
};
// A filter and a trace want all of a frame: what was asked to be cut is cut behind them.
[[nodiscard]] Result<Capture> plan_capture(const Model& model, const Ids& ids, const pb::CaptureRequest& request);
// A session that nothing has.
[[nodiscard]] Result<std::uint32_t> free_session(const Tables& tables);
// Puts the captures into the tables. One whose session is a mirror's now is left out: it gets no more frames.
void add_captures(const std::map<std::uint32_t, Capture>& captures, Tables& tables);
// Of a capture, and no mirror of the configuration's.
[[nodiscard]] bool is_capture(const MirrorRow& row);
// The tables as they are without captures.
[[nodiscard]] Tables without_captures(Tables tables);

// Fills in the sources of copies in ERSPAN that the configuration leaves to the host's routes.
void find_sources(Tables& tables);
// Whether the routes give other ones than the tables hold.
[[nodiscard]] bool sources_changed(const Tables& tables);

[[nodiscard]] pb::MirrorState mirror_state(const pb::Mirror& mirror, std::uint32_t session, const ivds_mirror& value,
                                           const ivds_mirror_stats& stats);

// Which frames of a capture are traced, however many come: the first so many of each second, in half of it at most,
// so that the agent has time for others, and none that waited long for those before it, so that a trace is of the
// time of its frame.
class TraceBudget {
public:
    static constexpr int kPerSecond = 100;
    static constexpr std::chrono::milliseconds kSpentPerSecond{500};
    static constexpr std::chrono::seconds kOldest{1};
    [[nodiscard]] bool take(std::chrono::steady_clock::time_point now, std::chrono::nanoseconds age);
    void spend(std::chrono::nanoseconds time) { spent_ += time; }

private:
    std::chrono::steady_clock::time_point second_{};
    int taken_ = 0;
    std::chrono::nanoseconds spent_{};
};

// Reads the ring of a capture.
class CaptureReader {
public:
    CaptureReader() = default;
    CaptureReader(const CaptureReader&) = delete;
    CaptureReader& operator=(const CaptureReader&) = delete;
    ~CaptureReader();
    [[nodiscard]] Result<> open(int ring);  // takes the descriptor
    // Hands what comes and matches to `sink`, with its age, until that says false.
    void run(const FrameFilter& filter, const std::function<std::string(std::uint32_t)>& name_of,
             const std::function<std::uint64_t()>& lost,
             const std::function<bool(pb::CapturePacket&, std::chrono::nanoseconds)>& sink);

private:
    int fd_ = -1;
    ring_buffer* ring_ = nullptr;
    std::function<bool(const void*, std::size_t)> take_;
};

}  // namespace ivds
