// SPDX-License-Identifier: Apache-2.0
#include "model/vmac_pool.h"

namespace ivds {
namespace {

constexpr unsigned kHalfBits = 23;  // 48 bits less the group bit and the local bit, in two halves
constexpr std::uint64_t kHalfMask = (1ULL << kHalfBits) - 1;
constexpr int kRounds = 8;

// The finaliser of SplitMix64: every bit of the input reaches every bit of the output.
std::uint64_t mix(std::uint64_t x) {
    x += 0x9e3779b97f4a7c15ULL;
    x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
    x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
    return x ^ (x >> 31);
}

std::uint64_t round_of(std::uint64_t half, std::uint64_t key, int round) {
    return mix(half ^ mix(key + static_cast<std::uint64_t>(round))) & kHalfMask;
}

// 46 bits to a MAC: the two lowest bits of the first byte are fixed (local, unicast).
Mac spread(std::uint64_t bits) {
    const std::uint64_t first = bits >> 40;  // 6 bits
    return to_mac(((first << 2 | 0x02) << 40) | (bits & 0xffffffffffULL));
}

std::uint64_t gather(const Mac& mac) {
    const std::uint64_t number = to_number(mac);
    return (number >> 42) << 40 | (number & 0xffffffffffULL);
}

}  // namespace

std::uint64_t to_number(const Mac& mac) {
    std::uint64_t number = 0;
    for (const std::uint8_t byte : mac) number = number << 8 | byte;
    return number;
}

Mac to_mac(std::uint64_t number) {
    Mac mac{};
    for (std::size_t i = 0; i < mac.size(); ++i) mac[i] = static_cast<std::uint8_t>(number >> (40 - 8 * i));
    return mac;
}

bool is_unicast(const Mac& mac) {
    return (mac[0] & 0x01) == 0 && to_number(mac) != 0;
}

bool is_local(const Mac& mac) {
    return (mac[0] & 0x02) != 0;
}

VmacSequence::VmacSequence(const Mac& physical, const std::string& pool) : key_(mix(to_number(physical))) {
    for (const char c : pool) key_ = mix(key_ ^ static_cast<unsigned char>(c));
}

// A Feistel network is a permutation whatever its round function is.
Mac VmacSequence::at(std::uint64_t n) const {
    std::uint64_t left = n >> kHalfBits & kHalfMask;
    std::uint64_t right = n & kHalfMask;
    for (int round = 0; round < kRounds; ++round) {
        const std::uint64_t next = left ^ round_of(right, key_, round);
        left = right;
        right = next;
    }
    return spread(left << kHalfBits | right);
}

std::uint64_t VmacSequence::index_of(const Mac& mac) const {
    const std::uint64_t bits = gather(mac);
    std::uint64_t left = bits >> kHalfBits & kHalfMask;
    std::uint64_t right = bits & kHalfMask;
    for (int round = kRounds - 1; round >= 0; --round) {
        const std::uint64_t previous = right ^ round_of(left, key_, round);
        right = left;
        left = previous;
    }
    return left << kHalfBits | right;
}

}  // namespace ivds
