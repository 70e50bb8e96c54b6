// SPDX-License-Identifier: Apache-2.0
// parking.h -- where a VF is that is off, so that its VM reaches nobody with it, nor anybody the VM, when a reset
// turns it on again: in a VLAN that nobody else is in and no switch forwards, with an address that is nobody else's.
#pragma once

#include <cstdint>

#include "apply/pf_link.h"
#include "loader/tables.h"

namespace ivds::offload {

inline constexpr std::uint16_t parking_vlan = 4095;

// Locally administered, and none of those that the switch gives to vNICs.
[[nodiscard]] constexpr Mac parking_address(const Mac& pf, unsigned vf) {
    Mac mac = pf;
    mac[0] ^= 0x0eU;
    mac[5] = static_cast<std::uint8_t>(mac[5] + vf);
    return mac;
}

// Where a VF is that is off, once its VM resets it.
[[nodiscard]] inline bool is_parked(const VfSettings& settings) {
    return settings.vlan == parking_vlan && settings.spoof_check && !settings.trusted;
}

}  // namespace ivds::offload
