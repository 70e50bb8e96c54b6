// SPDX-License-Identifier: Apache-2.0
// vport.h -- whether a NIC can do for a vPort all that software does, the room in its tables aside.
#pragma once

#include "plan/fdb.h"
#include "plan/mirror.h"
#include "plan/plan.h"

namespace ivds::offload {

// Ports that rules redirect to.
[[nodiscard]] std::set<std::uint32_t> find_targets(const Snapshot& tables);

// The reason that keeps the vPort in software, or Reason::fits.
[[nodiscard]] Reason fit(std::uint32_t vport, const Snapshot& tables, const Device& device, const Choices& choices,
                         const std::set<std::uint32_t>& targets, const Mirrors& mirrors, const Addresses& addresses);

// What the instance is kept in software for, or Reason::fits.
[[nodiscard]] Reason fit_instance(std::uint32_t instance, const Snapshot& tables, const Device& device);

// Of what the vPort sends, in Mb/s; 0: no limit.
[[nodiscard]] unsigned rate_in_mbps(const ivds_port& port);

}  // namespace ivds::offload
