// SPDX-License-Identifier: Apache-2.0
// event_log.h -- what happened lately: a ring of numbered events that any number of readers follow at their own
// pace. A reader that is slower than the ring misses the oldest and sees the gap in the sequence numbers.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <vector>

#include "ivds.pb.h"

namespace ivds {

namespace pb = ::ivds::v1;

class EventLog {
public:
    static constexpr std::size_t kKept = 4096;

    // Numbers the event and, unless it has one, gives it the time. Wakes who waits.
    void push(pb::Event event);
    // Events after `since`, oldest first; waits up to `timeout` for one. Empty after the timeout or close().
    [[nodiscard]] std::vector<pb::Event> wait(std::uint64_t since, std::chrono::milliseconds timeout);
    // Wakes everyone for good.
    void close();
    [[nodiscard]] bool closed() const;

private:
    mutable std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<pb::Event> events_;
    std::uint64_t last_ = 0;
    bool closed_ = false;
};

// RFC 3339 in UTC with milliseconds.
[[nodiscard]] std::string time_text(std::chrono::system_clock::time_point time);

}  // namespace ivds
