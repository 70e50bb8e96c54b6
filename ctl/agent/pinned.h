// SPDX-License-Identifier: Apache-2.0
// pinned.h -- the pinned maps as those read them who hold a NIC's registers against them.
#pragma once

#include "loader/switch.h"
#include "loader/tables.h"
#include "offload/plan/snapshot.h"
#include "offload/plan/steps.h"

namespace ivds {

struct Pinned {
    offload::Snapshot tables;  // a VF's addresses are at its vPort, as before anybody was told of a NIC
    offload::Software told;    // vPorts that the maps say are in a NIC
};

// Ports, instances, V.VLANs and the forwarding table are read from the maps. Lists of rules, pools and mirrors are
// those of `in_force`, as nothing is asked of them but whether they name a vPort; `doctor` compares these.
[[nodiscard]] Result<Pinned> pinned_tables(const MapsView& maps, const Tables& in_force);

}  // namespace ivds
