// SPDX-License-Identifier: Apache-2.0
#include "compile/ids.h"

#include <fmt/format.h>

#include <set>

#include "compile/rules.h"

namespace ivds {
namespace {

using IdsByName = std::map<std::string, std::uint32_t>;

// Gives every name in `names` an id below `limit`, going round from `cursor`. With `inherit`, ids of names that go
// are given away at once where there are no others.
Result<IdsByName> assign(const std::set<std::string>& names, const IdsByName& now, std::uint32_t& cursor,
                         std::uint32_t limit, const char* what, bool inherit) {
    if (names.size() >= limit)
        return fail(Code::exhausted, "IVDS-M020",
                    fmt::format("{} {} are too many: the data plane holds {}", names.size(), what, limit - 1));
    IdsByName next;
    std::vector<bool> used(limit);
    used[0] = true;
    for (const auto& [name, id] : now) {
        // Also the ids of names that go now are not free yet: whoever gets one would inherit its past.
        if (id < limit) used[id] = true;
        if (names.contains(name)) next.emplace(name, id);
    }
    const bool full = now.size() + names.size() - next.size() >= limit;
    if (full && !inherit)
        return fail(Code::exhausted, "IVDS-M020",
                    fmt::format("{} {} beside {} that go are too many: the data plane holds {} together",
                                names.size(), what, now.size() - next.size(), limit - 1),
                    "change them in two steps");
    if (full)
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
    next.next_rule = now.next_rule;
    next.next_acl = now.next_acl;
    auto port_ids = assign(ports, now.ports, next.next_port, IVDS_MAX_PORTS, "ports", true);
    if (!port_ids) return std::unexpected(port_ids.error());
    auto instance_ids = assign(instances, now.instances, next.next_instance, IVDS_MAX_INSTANCES, "instances", true);
    if (!instance_ids) return std::unexpected(instance_ids.error());
    next.ports = std::move(*port_ids);
    next.instances = std::move(*instance_ids);

    std::set<std::string> rules;
    for (const OwnedRule& owned : all_rules(model)) rules.insert(rule_key(owned.owner_kind, owned.owner, owned.name));
    auto rule_ids = assign(rules, now.rules, next.next_rule, IVDS_MAX_ACL_RULES, "rules", true);
    if (!rule_ids) return std::unexpected(rule_ids.error());
    next.rules = std::move(*rule_ids);

    std::set<std::string> digests;
    RuleLists lists(model, next.rules);
    for (const auto& [name, vport] : model.vports)
        for (const auto direction : {pb::Rule::IN, pb::Rule::OUT})
            if (const std::string& digest = lists.digest(*vport, direction); !digest.empty()) digests.insert(digest);
    // An id that is still in use by a list that goes cannot be another's: a frame would meet half of each.
    auto acl_ids = assign(digests, now.acls, next.next_acl, IVDS_MAX_ACLS, "lists of rules", false);
    if (!acl_ids) return std::unexpected(acl_ids.error());
    next.acls = std::move(*acl_ids);
    return next;
}

}  // namespace ivds
