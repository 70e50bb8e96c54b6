// SPDX-License-Identifier: Apache-2.0
// tally_test.cpp -- totals of a vPort from a NIC's counters: they never go back.
#include "offload/apply/tally.h"

#include <catch2/catch_test_macros.hpp>
#include <random>

using namespace ivds;
using namespace ivds::offload;

namespace {

constexpr CountedAt here{.uplink = 7, .pool = 2};

PoolCounters counters(std::uint64_t sent, std::uint64_t sent_bytes, std::uint64_t got, std::uint64_t got_bytes,
                      unsigned byte_bits = 36) {
    return {.rx_packets = {.value = got},
            .rx_bytes = {.value = got_bytes, .bits = byte_bits},
            .tx_packets = {.value = sent},
            .tx_bytes = {.value = sent_bytes, .bits = byte_bits}};
}

}  // namespace

TEST_CASE("what a vPort's VF sends and gets is counted from the first look on, without tag and CRC", "[unit][R98]") {
    auto sum = add_up(uncounted(), here, counters(1000, 100'000, 2000, 200'000));
    CHECK(sum.rx_packets == 0);
    CHECK(sum.tx_bytes == 0);
    CHECK(sum.pool == 2);
    sum = add_up(sum, here, counters(1010, 100'000 + 10 * 108, 2001, 200'000 + 68));
    CHECK(sum.rx_packets == 10);
    CHECK(sum.rx_bytes == 10 * 100);
    CHECK(sum.tx_packets == 1);
    CHECK(sum.tx_bytes == 60);
}

TEST_CASE("a NIC that counts frames once their tag is off says so", "[unit]") {
    auto now = counters(0, 0, 0, 0);
    now.rx_beside_bytes = 4;
    auto sum = add_up(uncounted(), here, now);
    now = counters(1, 68, 1, 64);
    now.rx_beside_bytes = 4;
    sum = add_up(sum, here, now);
    CHECK(sum.rx_bytes == 60);
    CHECK(sum.tx_bytes == 60);
}

TEST_CASE("counters that go round go on", "[unit]") {
    constexpr std::uint64_t round = std::uint64_t{1} << 32;
    auto sum = add_up(uncounted(), here, counters(round - 1, (round << 4) - 50, 0, 0));
    sum = add_up(sum, here, counters(1, 166, 0, 0));
    CHECK(sum.rx_packets == 2);
    CHECK(sum.rx_bytes == 216 - 16);
    SECTION("also of fewer bits") {
        sum = add_up(uncounted(), here, counters(0, 0, 0, round - 50, 32));
        sum = add_up(sum, here, counters(0, 0, 1, 18, 32));
        CHECK(sum.tx_bytes == 60);
    }
}

TEST_CASE("a reset is told by any counter that went back, and starts all of the pool's at 0", "[unit]") {
    // The bytes are over half of their range, so that they alone would seem to have gone round.
    auto sum = add_up(uncounted(), here, counters(0, 0, 0, 0, 32));
    sum = add_up(sum, here, counters(2'000'000, 2'000'000'000, 5, 500, 32));
    sum = add_up(sum, here, counters(2'500'000, 2'500'000'000, 5, 500, 32));
    const auto before = sum;
    sum = add_up(sum, here, counters(3, 324, 0, 0, 32));
    CHECK(sum.rx_packets == before.rx_packets + 3);
    CHECK(sum.rx_bytes == before.rx_bytes + 300);
    CHECK(sum.tx_packets == before.tx_packets);
}

TEST_CASE("a vPort that moves takes its total along, and nobody else's", "[unit]") {
    auto sum = add_up(uncounted(), here, counters(100, 10'000, 100, 10'000));
    sum = add_up(sum, here, counters(110, 11'080, 100, 10'000));
    for (const CountedAt& there : {CountedAt{.uplink = 7, .pool = 3}, CountedAt{.uplink = 8, .pool = 2}}) {
        auto moved = add_up(sum, there, counters(5'000'000, 500'000'000, 1, 1));
        CHECK(moved.rx_packets == 10);
        moved = add_up(moved, there, counters(5'000'001, 500'000'108, 1, 1));
        CHECK(moved.rx_packets == 11);
        CHECK(moved.rx_bytes == 1100);
    }
    SECTION("also by way of software") {
        sum.pool = IVDS_NO_POOL;
        sum = add_up(sum, here, counters(7'000'000, 700'000'000, 1, 1));
        CHECK(sum.rx_packets == 10);
    }
}

TEST_CASE("totals never go back, whatever registers read", "[unit]") {
    std::mt19937_64 draw(1);
    for (int run = 0; run < 200; ++run) {
        ivds_nic_stats sum = uncounted();
        for (int look = 0; look < 50; ++look) {
            const CountedAt at{.uplink = 1, .pool = static_cast<std::uint32_t>(draw() % 2)};
            const auto next = add_up(sum, at, counters(draw() >> 32, draw() >> 28, draw() >> 32, draw() >> 28));
            CHECK(next.rx_packets >= sum.rx_packets);
            CHECK(next.rx_bytes >= sum.rx_bytes);
            CHECK(next.tx_packets >= sum.tx_packets);
            CHECK(next.tx_bytes >= sum.tx_bytes);
            sum = next;
        }
    }
}
