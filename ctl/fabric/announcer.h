// SPDX-License-Identifier: Apache-2.0
// announcer.h -- tells the fabric where a vMAC is now, more than once: a switch that was busy, or whose port came up
// late, hears one of them.
#pragma once

#include <array>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <map>
#include <mutex>
#include <span>
#include <string>
#include <thread>
#include <vector>

#include "loader/error.h"

namespace ivds::fabric {

using Frames = std::vector<std::vector<std::uint8_t>>;

class Announcer {
public:
    // What hypervisors do when a guest went on: some at once, and later ones further apart.
    static constexpr std::array<std::chrono::milliseconds, 4> kAfter = {
        std::chrono::milliseconds(0), std::chrono::milliseconds(50), std::chrono::milliseconds(150),
        std::chrono::milliseconds(350)};

    // Sends frames by an interface. Called from announce(), and from a thread of this.
    using Send =
        std::function<Result<>(const std::string& netdev, std::span<const std::vector<std::uint8_t>> frames)>;
    explicit Announcer(Send send);
    Announcer(const Announcer&) = delete;
    Announcer& operator=(const Announcer&) = delete;
    ~Announcer();

    // The vPort's frames go out by the interface now, and at the times of kAfter. The error is of the first time.
    [[nodiscard]] Result<> announce(const std::string& vport, std::string netdev, Frames frames);
    // No frame of the vPort's goes out any more once this returns: its vMACs are somebody else's.
    void forget(const std::string& vport);

private:
    using Clock = std::chrono::steady_clock;
    struct Turn {
        std::string netdev;
        Frames frames;
        Clock::time_point begun;
        std::size_t next = 1;  // in kAfter
        [[nodiscard]] Clock::time_point due() const { return begun + kAfter.at(next); }
    };
    void run();

    const Send send_;
    std::mutex mutex_;
    std::condition_variable wake_;
    bool stopping_ = false;
    std::map<std::string, Turn> turns_;  // by vPort
    std::thread thread_;                 // started by the first announcement
};

}  // namespace ivds::fabric
