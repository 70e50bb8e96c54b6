// SPDX-License-Identifier: Apache-2.0
// nic.h -- the switch that the offload's rows are about: a full 82599, all of whose VFs are vPorts, and an FDB of
// 4,096 entries.
#pragma once

#include "offload/plan/plan.h"

namespace ivds::bench {

inline constexpr std::uint32_t nic_first_vf = 10;     // port ids of VF 0 and on
inline constexpr std::uint32_t nic_first_soft = 100;  // and of software's vPorts
inline constexpr unsigned nic_vfs = 63;               // the PF has the last pool
inline constexpr std::size_t nic_fdb_entries = 4096;

[[nodiscard]] offload::Device nic_device();
// VFs and `softs` vPorts of software's go round the instances, the rest of the FDB is behind the uplink.
[[nodiscard]] offload::Snapshot nic_tables(unsigned instances, unsigned softs);

}  // namespace ivds::bench
