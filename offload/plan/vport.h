// SPDX-License-Identifier: Apache-2.0
// vport.h -- whether a NIC can do for a vPort all that software does, the room in its tables aside.
#pragma once

#include "plan/fdb.h"
#include "plan/plan.h"

namespace ivds::offload {

// What is asked of many vPorts, found once.
struct Targets {
    std::set<std::uint32_t> of_rules;    // ports that rules redirect to
    std::set<std::uint32_t> of_mirrors;  // ports that copies go to
};
[[nodiscard]] Targets find_targets(const Snapshot& tables);

// The reason that keeps the vPort in software, or Reason::fits.
[[nodiscard]] Reason fit(std::uint32_t vport, const Snapshot& tables, const Device& device, const Choices& choices,
                         const Targets& targets, const Addresses& addresses);

// What the instance is kept in software for, or Reason::fits.
[[nodiscard]] Reason fit_instance(std::uint32_t instance, const Snapshot& tables, const Device& device);

// Of what the vPort sends, in Mb/s; 0: no limit.
[[nodiscard]] unsigned rate_in_mbps(const ivds_port& port);

}  // namespace ivds::offload
