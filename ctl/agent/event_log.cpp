// SPDX-License-Identifier: Apache-2.0
#include "agent/event_log.h"

#include <fmt/chrono.h>
#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <utility>

namespace ivds {

std::string time_text(std::chrono::system_clock::time_point time) {
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count();
    return fmt::format("{:%Y-%m-%dT%H:%M:%S}.{:03}Z", fmt::gmtime(static_cast<std::time_t>(ms / 1000)), ms % 1000);
}

void EventLog::push(pb::Event event) {
    if (event.time().empty()) event.set_time(time_text(std::chrono::system_clock::now()));
    {
        const std::lock_guard lock(mutex_);
        event.set_sequence(++last_);
        events_.push_back(std::move(event));
        if (events_.size() > kKept) events_.pop_front();
    }
    changed_.notify_all();
}

std::vector<pb::Event> EventLog::wait(std::uint64_t since, std::chrono::milliseconds timeout) {
    std::unique_lock lock(mutex_);
    changed_.wait_for(lock, timeout, [&] { return closed_ || last_ > since; });
    if (last_ <= since) return {};
    // Sequence numbers are consecutive, so the place of the first wanted one follows from the last.
    const std::uint64_t wanted = std::min<std::uint64_t>(last_ - since, events_.size());
    return {std::prev(events_.end(), static_cast<std::ptrdiff_t>(wanted)), events_.end()};
}

void EventLog::close() {
    {
        const std::lock_guard lock(mutex_);
        closed_ = true;
    }
    changed_.notify_all();
}

bool EventLog::closed() const {
    const std::lock_guard lock(mutex_);
    return closed_;
}

}  // namespace ivds
