// SPDX-License-Identifier: Apache-2.0
#include "nic.h"

#include <algorithm>

#include "offload/nic/82599.h"

namespace ivds::bench {

using namespace ivds::offload;

namespace {

constexpr std::uint32_t uplink = 1;

void add_mac(Snapshot& tables, std::uint32_t instance, std::uint32_t number, std::uint32_t port) {
    FdbRow row;
    row.key.instance = instance;
    const std::uint8_t mac[6] = {0x02,
                                 0x10,
                                 static_cast<std::uint8_t>(number >> 24),
                                 static_cast<std::uint8_t>(number >> 16),
                                 static_cast<std::uint8_t>(number >> 8),
                                 static_cast<std::uint8_t>(number)};
    std::ranges::copy(mac, row.key.mac);
    row.entry.port = port;
    row.entry.flags = port == uplink ? IVDS_FDB_PLAIN : IVDS_FDB_STATIC;
    row.entry.vlan = port == uplink ? static_cast<std::uint16_t>(instance) : std::uint16_t{0};
    tables.fdb.push_back(row);
    if (const auto at = tables.ports.find(port); port != uplink && at != tables.ports.end())
        std::ranges::copy(mac, at->second.vmac);
}

void add_vport(Snapshot& tables, std::uint32_t id, std::uint32_t instance) {
    ivds_port port{};
    port.kind = IVDS_PORT_VPORT;
    port.flags = IVDS_PF_UP | IVDS_PF_ANTI_SPOOF;
    port.instance = instance;
    port.mtu_bytes = 1500;
    tables.ports[id] = port;
    tables.heat[id] = id * 7919ULL % 1000;
    add_mac(tables, instance, id, id);
}

}  // namespace

Device nic_device() {
    Device device{.chip = &i82599::chip(), .uplink = uplink, .pf = nic_vfs, .pools = {}};
    for (unsigned n = 0; n < nic_vfs; ++n) device.pools[nic_first_vf + n] = n;
    return device;
}

Snapshot nic_tables(unsigned instances, unsigned softs) {
    Snapshot tables;
    ivds_port pf{};
    pf.kind = IVDS_PORT_UPLINK;
    pf.flags = IVDS_PF_UP | IVDS_PF_PLAIN_IN;
    pf.mtu_bytes = 9216;
    pf.outer_tpid_be = 0x0081;
    tables.ports[uplink] = pf;
    for (std::uint32_t id = 1; id <= instances; ++id) {
        ivds_instance instance{};
        instance.uplink = uplink;
        instance.vlan = static_cast<std::uint16_t>(id);  // the one tag on the wire
        instance.mtu_bytes = 9000;
        instance.flags = IVDS_IF_ACTIVE | IVDS_IF_WIRE | IVDS_IF_LEARN_WIRE;
        tables.instances[id] = instance;
        tables.vvlans[{uplink, id, 0}] = id;
    }
    for (unsigned n = 0; n < nic_vfs; ++n) add_vport(tables, nic_first_vf + n, 1 + n % instances);
    for (unsigned n = 0; n < softs; ++n) add_vport(tables, nic_first_soft + n, 1 + n % instances);
    for (std::uint32_t n = 0; tables.fdb.size() < nic_fdb_entries; ++n)
        add_mac(tables, 1 + n % instances, (1U << 20) + n, uplink);
    return tables;
}

}  // namespace ivds::bench
