// SPDX-License-Identifier: Apache-2.0
#include "plan/snapshot.h"

#include <algorithm>

namespace ivds::offload {

namespace {

FdbRow static_row(std::uint32_t instance, const Mac& mac, std::uint32_t port, std::uint16_t vlan) {
    FdbRow row;
    row.key.instance = instance;
    std::ranges::copy(mac, row.key.mac);
    row.entry.port = port;
    row.entry.vlan = vlan;
    row.entry.flags = IVDS_FDB_STATIC;
    return row;
}

}  // namespace

Snapshot snapshot_of(const Tables& tables) {
    Snapshot snapshot;
    for (const auto& [id, row] : tables.ports) {
        ivds_port& port = snapshot.ports[id] = row.value;
        if (!row.netdev.empty()) port.flags |= IVDS_PF_UP;
        if (port.instance == 0) continue;
        for (const Mac& mac : row.macs) snapshot.fdb.push_back(static_row(port.instance, mac, id, 0));
    }
    for (const auto& [id, row] : tables.instances) {
        snapshot.instances[id] = row.value;
        if (row.fdb == nullptr) continue;
        for (const StaticMac& entry : *row.fdb)
            snapshot.fdb.push_back(static_row(id, entry.mac, entry.port, entry.vlan));
    }
    for (const auto& [id, row] : tables.pools) snapshot.pools[id] = row.value;
    for (const auto& [id, row] : tables.mirrors) snapshot.mirrors[id] = row.value;
    snapshot.vvlans = tables.vvlans;
    snapshot.acls = tables.acls;
    return snapshot;
}

}  // namespace ivds::offload
