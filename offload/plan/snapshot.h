// SPDX-License-Identifier: Apache-2.0
// snapshot.h -- what the data plane's tables hold at one moment, as the planner reads it: the structs of abi.h. A
// reader of the pinned maps fills it, or the compiler's output does, where there are no maps yet.
#pragma once

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <set>
#include <vector>

#include "loader/tables.h"

namespace ivds::offload {

struct FdbRow {
    ivds_fdb_key key{};
    ivds_fdb_entry entry{};
};

struct Snapshot {
    std::map<std::uint32_t, ivds_port> ports;
    std::map<std::uint32_t, ivds_instance> instances;
    std::map<std::array<std::uint32_t, 3>, std::uint32_t> vvlans;  // {uplink, VLAN, V.VLAN}, as in ivds::Tables
    std::vector<FdbRow> fdb;                                       // static and learned
    std::map<std::uint32_t, std::shared_ptr<const AclRow>> acls;
    std::map<std::uint32_t, ivds_pool> pools;      // of vPorts, that rules redirect to
    std::map<std::uint32_t, ivds_mirror> mirrors;  // by session
    std::map<std::uint32_t, std::uint64_t> heat;   // by port (heat.h); none: 0
};

// The data plane's tables where the NIC carries these vPorts, VFs: their addresses are static entries at the uplink,
// and their rows are up (abi.h, IVDS_PORT_VF).
[[nodiscard]] Tables as_software_sees(Tables tables, const std::set<std::uint32_t>& vports);

// Of a configuration that nothing runs yet: every interface and VF counts as up, uplinks take jumbo
// frames, and nothing is learned.
[[nodiscard]] Snapshot snapshot_of(const Tables& tables);

}  // namespace ivds::offload
