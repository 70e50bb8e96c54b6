// SPDX-License-Identifier: Apache-2.0
#include "agent/offload_view.h"

#include <fmt/format.h>

#include "agent/names.h"

namespace ivds {

namespace {

void add(pb::OffloadNic& out, const char* kind, std::string name, const offload::Placement& at) {
    pb::Placement& placement = *out.add_objects();
    placement.set_kind(kind);
    placement.set_name(std::move(name));
    placement.set_where(std::string(offload::name(at.where)));
    placement.set_reason(std::string(offload::name(at.reason)));
    placement.set_text(std::string(offload::text(at.reason)));
}

void add_table(pb::OffloadNic& out, const char* name, const offload::Use& use) {
    pb::NicTable& table = *out.add_tables();
    table.set_name(name);
    table.set_used(use.used);
    table.set_reserved(use.reserved);
    table.set_size(use.size);
}

}  // namespace

void view_plan(const offload::Plan& plan, const Ids& ids, pb::OffloadNic& out) {
    add_table(out, "pools", plan.pools);
    add_table(out, "addresses", plan.macs);
    add_table(out, "vlans", plan.vlans);
    add_table(out, "mirrors", plan.mirror_rules);
    const auto ports = names_by_id(ids.ports);
    const auto instances = names_by_id(ids.instances);
    for (const auto& [id, at] : plan.uplinks) add(out, "uplink", name_or_number(ports, id), at);
    for (const auto& [id, at] : plan.instances) add(out, "instance", name_or_number(instances, id), at);
    for (const auto& [id, at] : plan.vports) add(out, "vport", name_or_number(ports, id), at);
    for (const auto& [id, at] : plan.rates) add(out, "rate", name_or_number(ports, id), at);
    for (const auto& [id, at] : plan.lists) add(out, "rules", fmt::format("list {}", id), at);
    for (const auto& [session, at] : plan.mirrors) add(out, "mirror", fmt::format("session {}", session), at);
}

void view_fdb(const offload::Plan& plan, const offload::Snapshot& tables, const Ids& ids, pb::OffloadNic& out) {
    const auto instances = names_by_id(ids.instances);
    for (std::size_t i = 0; i < plan.fdb.size(); ++i)
        add(out, "fdb",
            fmt::format("{} {}", name_or_number(instances, tables.fdb[i].key.instance),
                        mac_text(tables.fdb[i].key.mac)),
            plan.fdb[i]);
}

}  // namespace ivds
