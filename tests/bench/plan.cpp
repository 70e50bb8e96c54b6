// SPDX-License-Identifier: Apache-2.0
// plan.cpp -- how long the offload's planner takes at the size that it is held to: all pools of an 82599, an FDB of
// 4,096 entries and 10,000 rules; from nothing, and when one vPort changed.
#include "offload/plan/plan.h"

#include <algorithm>
#include <chrono>

#include "forward.h"
#include "offload/nic/82599.h"

namespace ivds::bench {

namespace {

using namespace ivds::offload;

constexpr std::uint32_t uplink = 1;
constexpr std::uint32_t first_vf = 10;
constexpr std::uint32_t first_soft = 100;
constexpr unsigned vfs = 63;  // the PF has the last pool
constexpr unsigned instances = 21;
constexpr unsigned lists = 100;
constexpr unsigned rules_of_list = 100;
constexpr std::size_t fdb_entries = 4096;

void add_mac(Snapshot& tables, std::uint32_t instance, std::uint32_t number, std::uint32_t port) {
    FdbRow row;
    row.key.instance = instance;
    const std::uint8_t mac[6] = {0x02,
                                 0,
                                 static_cast<std::uint8_t>(number >> 24),
                                 static_cast<std::uint8_t>(number >> 16),
                                 static_cast<std::uint8_t>(number >> 8),
                                 static_cast<std::uint8_t>(number)};
    std::ranges::copy(mac, row.key.mac);
    row.entry.port = port;
    row.entry.flags = port == uplink ? 0 : IVDS_FDB_STATIC;
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

Snapshot make_tables() {
    Snapshot tables;
    ivds_port pf{};
    pf.kind = IVDS_PORT_UPLINK;
    pf.flags = IVDS_PF_UP;
    pf.outer_tpid_be = 0x0081;
    tables.ports[uplink] = pf;
    for (std::uint32_t id = 1; id <= instances; ++id) {
        ivds_instance instance{};
        instance.uplink = uplink;
        instance.vlan = static_cast<std::uint16_t>(id);  // the one tag on the wire
        instance.flags = IVDS_IF_ACTIVE | IVDS_IF_WIRE;
        tables.instances[id] = instance;
        tables.vvlans[{uplink, id, 0}] = id;
    }
    for (unsigned n = 0; n < vfs; ++n) add_vport(tables, first_vf + n, 1 + n % instances);
    for (unsigned n = 0; n < vfs; ++n) add_vport(tables, first_soft + n, 1 + n % instances);
    for (std::uint32_t n = 0; tables.fdb.size() < fdb_entries; ++n)
        add_mac(tables, 1 + n % instances, (1U << 20) + n, uplink);
    for (std::uint32_t id = 1; id <= lists; ++id) {
        auto list = std::make_shared<AclRow>();
        for (std::uint32_t n = 0; n < rules_of_list; ++n) {
            ivds_acl_key key{};
            key.fields.dport_be = static_cast<__be16>(n);
            ivds_acl_rule rule{};
            rule.order = n;
            rule.action = n % 2 == 0 ? IVDS_ACL_DROP : IVDS_ACL_REDIRECT;
            rule.target = first_soft + n % vfs;
            list->rules.emplace_back(key, rule);
        }
        tables.acls[id] = list;
        tables.ports.at(first_soft + id % vfs).acl_in = id;
    }
    return tables;
}

double milliseconds(const Snapshot& tables, const Device& device, const NicState& present, NicState& result) {
    const auto begin = std::chrono::steady_clock::now();
    const auto plan = make_plan(tables, device, {}, present);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    if (!plan) throw Failure(plan.error().text());
    result = plan->state;
    return took.count();
}

}  // namespace

std::vector<Row> plan_rows(const Options& options) {
    if (!options.wanted("plan")) return {};
    options.progress("plan");
    Snapshot tables = make_tables();
    Device device{.chip = &i82599::chip(), .uplink = uplink, .pf = vfs, .pools = {}};
    for (unsigned n = 0; n < vfs; ++n) device.pools[first_vf + n] = n;
    std::vector<double> full;
    std::vector<double> changed;
    const Ahead ahead;
    for (int repetition = 0; repetition < 4 * options.repetitions; ++repetition) {
        NicState state;
        full.push_back(milliseconds(tables, device, {}, state));
        if (state.pools.size() != vfs) throw Failure("not all VFs are in the NIC");
        ivds_port& port = tables.ports.at(first_vf);
        port.pcp = static_cast<std::uint8_t>((port.pcp + 1) % 8);
        changed.push_back(milliseconds(tables, device, state, state));
    }
    return {{.name = "plan-full",
             .value = median(full),
             .unit = "ms",
             .ratios = {},
             .bars = {{.against = "", .limit = 10, .at_most = true}},
             .note = "63 VFs, 4,096 FDB entries, 10,000 rules"},
            {.name = "plan-changed",
             .value = median(changed),
             .unit = "ms",
             .ratios = {},
             .bars = {{.against = "", .limit = 1, .at_most = true}},
             .note = "one vPort's priority changed"}};
}

}  // namespace ivds::bench
