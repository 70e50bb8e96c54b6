// SPDX-License-Identifier: Apache-2.0
#include "plan/snapshot.h"

#include <algorithm>

namespace ivds::offload {

namespace {

constexpr std::uint16_t jumbo = 9216;  // what fabrics carry, and NICs switch

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
        if (!row.netdev.empty() || port.kind == IVDS_PORT_VF) port.flags |= IVDS_PF_UP;
        if (port.kind == IVDS_PORT_UPLINK) port.mtu_bytes = jumbo;
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

Tables as_software_sees(Tables tables, const std::set<std::uint32_t>& vports) {
    std::map<std::uint32_t, std::vector<StaticMac>> lists;  // of the instances that have some of them
    for (const std::uint32_t id : vports) {
        const auto found = tables.ports.find(id);
        if (found == tables.ports.end()) continue;
        PortRow& row = found->second;
        row.value.flags |= IVDS_PF_UP;
        const InstanceRow& instance = tables.instances.at(row.value.instance);
        auto& list = lists.try_emplace(row.value.instance, instance.fdb ? *instance.fdb : std::vector<StaticMac>{})
                         .first->second;
        const auto hand_over = [&](StaticMac& entry) {
            entry.port = instance.value.uplink;
            entry.vlan = instance.value.vlan;
            entry.vport = id;
        };
        for (StaticMac& entry : list)
            if (entry.port == id) hand_over(entry);
        for (const Mac& mac : row.macs) hand_over(list.emplace_back(StaticMac{.mac = mac}));
        row.macs.clear();
    }
    for (auto& [id, list] : lists) {
        std::ranges::sort(list, {}, &StaticMac::mac);
        tables.instances.at(id).fdb = std::make_shared<const std::vector<StaticMac>>(std::move(list));
    }
    return tables;
}

}  // namespace ivds::offload
