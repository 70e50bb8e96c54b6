// SPDX-License-Identifier: Apache-2.0
#include "fabric/announcer.h"

#include <algorithm>
#include <utility>

namespace ivds::fabric {

Announcer::Announcer(Send send) : send_(std::move(send)) {}

Announcer::~Announcer() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
    }
    wake_.notify_all();
    if (thread_.joinable()) thread_.join();
}

Result<> Announcer::announce(const std::string& vport, std::string netdev, Frames frames) {
    const std::lock_guard lock(mutex_);
    auto sent = send_(netdev, frames);
    turns_[vport] = {.netdev = std::move(netdev), .frames = std::move(frames), .begun = Clock::now()};
    if (!thread_.joinable()) thread_ = std::thread([this] { run(); });
    wake_.notify_all();
    return sent;
}

void Announcer::forget(const std::string& vport) {
    const std::lock_guard lock(mutex_);
    turns_.erase(vport);
}

void Announcer::run() {
    std::unique_lock lock(mutex_);
    while (!stopping_) {
        const auto turn = std::ranges::min_element(turns_, {}, [](const auto& each) { return each.second.due(); });
        if (turn == turns_.end()) {
            wake_.wait(lock);
            continue;
        }
        if (const auto due = turn->second.due(); Clock::now() < due) {
            wake_.wait_until(lock, due);
            continue;
        }
        // Who sends knows of the first time whether it could; a later one that is lost is what the next is for.
        (void)send_(turn->second.netdev, turn->second.frames);
        if (++turn->second.next == kAfter.size()) turns_.erase(turn);
    }
}

}  // namespace ivds::fabric
