// SPDX-License-Identifier: Apache-2.0
// offload.h -- what the model says about the NICs that carry a part of it. Pure.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "compile/ids.h"
#include "model/model.h"
#include "offload/plan/plan.h"

namespace ivds {

// An uplink with offload.
struct NicIntent {
    std::string uplink;
    std::string netdev;  // the PF
    std::uint32_t port = 0;
    unsigned num_vfs = 0;                       // that it shall have; 0: those that it has
    std::map<std::uint32_t, unsigned> vfs;      // of vPorts
    std::map<std::uint32_t, unsigned> uplinks;  // VFs of uplinks that are such
    offload::Choices choices;
    bool operator==(const NicIntent&) const = default;
};
[[nodiscard]] std::vector<NicIntent> nic_intents(const Model& model, const Ids& ids);

// The NIC as a plan takes it: of the vPorts' VFs those that there are, below the PF's pool `pf`.
[[nodiscard]] offload::Device device_of(const NicIntent& intent, const offload::Chip& chip, unsigned pf);

}  // namespace ivds
