// SPDX-License-Identifier: Apache-2.0
#include "agent/pinned.h"

#include <set>

namespace ivds {

Result<Pinned> pinned_tables(const MapsView& maps, const Tables& in_force) {
    Pinned out;
    offload::Snapshot& tables = out.tables;
    std::set<std::uint32_t> instances;
    for (std::uint32_t id = 1; id < IVDS_MAX_PORTS; ++id) {
        const auto port = maps.port(id);
        if (!port) return std::unexpected(port.error());
        if (port->kind == IVDS_PORT_NONE) continue;
        tables.ports[id] = *port;
        instances.insert(port->instance);
        if (port->kind == IVDS_PORT_VF && (port->flags & IVDS_PF_UP) != 0) out.told.vports.insert(id);
    }
    auto done = maps.vvlans([&](const ivds_vvlan_key& key, std::uint32_t names) {
        tables.vvlans[{key.uplink, key.vlan, key.vvlan}] = names;
        const auto at = tables.ports.find(key.uplink);
        if (at != tables.ports.end() && at->second.kind == IVDS_PORT_UPLINK) instances.insert(names);
    });
    if (!done) return std::unexpected(done.error());
    for (const auto& [id, row] : in_force.instances) instances.insert(id);
    instances.erase(0);
    for (const std::uint32_t id : instances) {
        const auto instance = maps.instance(id);
        if (!instance) return std::unexpected(instance.error());
        tables.instances[id] = *instance;
    }
    done = maps.fdb([&](const FdbRow& row) {
        offload::FdbRow entry{.key = row.key, .entry = row.entry};
        const auto in = tables.instances.find(row.key.instance);
        if (entry.entry.vport != 0 && in != tables.instances.end() && entry.entry.port == in->second.uplink) {
            entry.entry = {};
            entry.entry.port = row.entry.vport;
            entry.entry.flags = IVDS_FDB_STATIC;
        }
        tables.fdb.push_back(entry);
        return true;
    });
    if (!done) return std::unexpected(done.error());
    tables.acls = in_force.acls;
    for (const auto& [id, row] : in_force.pools) tables.pools[id] = row.value;
    for (const auto& [id, row] : in_force.mirrors) tables.mirrors[id] = row.value;
    return out;
}

}  // namespace ivds
