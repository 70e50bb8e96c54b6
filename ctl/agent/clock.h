// SPDX-License-Identifier: Apache-2.0
// clock.h -- the kernel's clocks in nanoseconds, as the data plane tells time.
#pragma once

#include <cstdint>
#include <ctime>

namespace ivds {

[[nodiscard]] inline std::uint64_t now_ns(clockid_t clock) {
    timespec now{};
    ::clock_gettime(clock, &now);
    return static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U + static_cast<std::uint64_t>(now.tv_nsec);
}

// Since 1970.
[[nodiscard]] inline std::uint64_t calendar_s() {
    return now_ns(CLOCK_REALTIME) / 1'000'000'000U;
}

// When CLOCK_MONOTONIC was 0, since 1970.
[[nodiscard]] inline std::uint64_t epoch_ns() {
    return now_ns(CLOCK_REALTIME) - now_ns(CLOCK_MONOTONIC);
}

}  // namespace ivds
