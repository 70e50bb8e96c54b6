// SPDX-License-Identifier: Apache-2.0
#include "compile/ids.h"

#include <fmt/format.h>

#include <set>

namespace ivds {
namespace {

// Gives every name in `names` an id below `limit`, going round from `cursor`.
Result<std::map<std::string, std::uint32_t>> assign(const std::set<std::string>& names,
                                                    const std::map<std::string, std::uint32_t>& now,
                                                    std::uint32_t& cursor, std::uint32_t limit, const char* what) {
    if (names.size() >= limit)
        return fail(Code::exhausted, "IVDS-M020",
                    fmt::format("{} {} are too many: the data plane holds {}", names.size(), what, limit - 1));
    std::map<std::string, std::uint32_t> next;
    std::vector<bool> used(limit);
    used[0] = true;
    for (const auto& [name, id] : now) {
        // Also the ids of names that go now are not free yet: whoever gets one would inherit its past.
        if (id < limit) used[id] = true;
        if (names.contains(name)) next.emplace(name, id);
    }
    const bool may_inherit = now.size() + names.size() - next.size() >= limit;
    if (may_inherit)
        for (const auto& [name, id] : now)
            if (!names.contains(name) && id < limit) used[id] = false;
    for (const std::string& name : names) {
        if (next.contains(name)) continue;
        while (used[cursor % limit]) ++cursor;
        cursor %= limit;
        next.emplace(name, cursor);
        used[cursor] = true;
        ++cursor;
    }
    return next;
}

}  // namespace

Result<Ids> assign_ids(const Model& model, const Ids& now) {
    std::set<std::string> ports;
    std::set<std::string> instances;
    for (const auto& [name, uplink] : model.uplinks) ports.insert(name);
    for (const auto& [name, vport] : model.vports) ports.insert(name);
    for (const auto& [name, instance] : model.instances) instances.insert(name);

    Ids next;
    next.next_port = now.next_port;
    next.next_instance = now.next_instance;
    auto port_ids = assign(ports, now.ports, next.next_port, IVDS_MAX_PORTS, "ports");
    if (!port_ids) return std::unexpected(port_ids.error());
    auto instance_ids = assign(instances, now.instances, next.next_instance, IVDS_MAX_INSTANCES, "instances");
    if (!instance_ids) return std::unexpected(instance_ids.error());
    next.ports = std::move(*port_ids);
    next.instances = std::move(*instance_ids);
    return next;
}

}  // namespace ivds
