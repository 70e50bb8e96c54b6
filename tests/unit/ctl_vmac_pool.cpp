// SPDX-License-Identifier: Apache-2.0
// vMACs out of a physical MAC.
#include <bit>
#include <catch2/catch_test_macros.hpp>
#include <unordered_set>

#include "model/vmac_pool.h"

using namespace ivds;

namespace {
const Mac kPhysical = {0x90, 0xe2, 0xba, 0x01, 0x02, 0x03};
}

TEST_CASE("100,000 vMACs of a physical MAC are local, unicast and all different", "[R60][R62]") {
    const VmacSequence sequence(kPhysical, "pool");
    std::unordered_set<std::uint64_t> seen;
    for (std::uint64_t n = 0; n < 100'000; ++n) {
        const Mac mac = sequence.at(n);
        REQUIRE((mac[0] & 0x03) == 0x02);
        REQUIRE(seen.insert(to_number(mac)).second);
    }
}

TEST_CASE("vMACs of different physical MACs and pools do not meet in 100,000 draws", "[R60]") {
    Mac neighbour = kPhysical;
    ++neighbour[5];
    std::unordered_set<std::uint64_t> seen;
    for (const VmacSequence& sequence :
         {VmacSequence(kPhysical, "pool"), VmacSequence(neighbour, "pool"), VmacSequence(kPhysical, "other")})
        for (std::uint64_t n = 0; n < 33'334; ++n) REQUIRE(seen.insert(to_number(sequence.at(n))).second);
}

TEST_CASE("the same physical MAC gives the same vMACs", "[R60]") {
    CHECK(VmacSequence(kPhysical, "pool").at(17) == VmacSequence(kPhysical, "pool").at(17));
    CHECK(VmacSequence(kPhysical, "pool").at(17) != VmacSequence(kPhysical, "loop").at(17));
}

TEST_CASE("a vMAC tells its place in the sequence") {
    const VmacSequence sequence(kPhysical, "pool");
    for (const std::uint64_t n : {0ULL, 1ULL, 255ULL, 65'535ULL, (1ULL << 23) - 1, 1ULL << 23, (1ULL << 46) - 1})
        CHECK(sequence.index_of(sequence.at(n)) == n);
}

TEST_CASE("neighbours in the sequence differ in about half of their bits", "[R62]") {
    const VmacSequence sequence(kPhysical, "pool");
    int bits = 0;
    for (std::uint64_t n = 0; n < 1000; ++n)
        bits += std::popcount(to_number(sequence.at(n)) ^ to_number(sequence.at(n + 1)));
    // 46 free bits: 23 on average; the mean of 1,000 draws is within 1 of it with overwhelming certainty.
    CHECK(bits > 22 * 1000);
    CHECK(bits < 24 * 1000);
}
