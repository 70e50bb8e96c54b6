// SPDX-License-Identifier: Apache-2.0
// vmac_pool.h -- vMACs derived from a physical MAC. A pool is a keyed permutation of all locally administered
// unicast addresses, and its n-th vMAC is the image of n: the vMACs look random, the same physical MAC gives the
// same ones again, and none can repeat inside a pool. Pure.
#pragma once

#include <cstdint>

#include "loader/tables.h"

namespace ivds {

class VmacSequence {
public:
    // `pool` keeps two pools on one physical MAC apart.
    VmacSequence(const Mac& physical, const std::string& pool);

    // The n-th vMAC; n < 2^46.
    [[nodiscard]] Mac at(std::uint64_t n) const;
    // Which one `mac` is; only meaningful for a locally administered unicast MAC, as every one of those is
    // somewhere in the sequence.
    [[nodiscard]] std::uint64_t index_of(const Mac& mac) const;

private:
    std::uint64_t key_;
};

[[nodiscard]] bool is_unicast(const Mac& mac);  // neither multicast nor zero
[[nodiscard]] bool is_local(const Mac& mac);    // locally administered
[[nodiscard]] std::uint64_t to_number(const Mac& mac);
[[nodiscard]] Mac to_mac(std::uint64_t number);

}  // namespace ivds
