// SPDX-License-Identifier: Apache-2.0
#include "compile/ids.h"

#include <fmt/format.h>

#include <set>

#include "compile/rules.h"

namespace ivds {
namespace {

using IdsByName = std::map<std::string, std::uint32_t>;

// Gives every name in `names` an id from `first` to below `limit`, going round from `cursor`. With `inherit`, ids of
// names that go are given away at once where there are no others.
Result<IdsByName> assign(const std::set<std::string>& names, const IdsByName& now, std::uint32_t& cursor,
                         std::uint32_t first, std::uint32_t limit, const char* what, bool inherit) {
    const std::size_t room = limit - first;
    if (names.size() > room)
        return fail(Code::exhausted, "IVDS-M020",
                    fmt::format("{} {} are too many: the data plane holds {}", names.size(), what, room),
                    fmt::format("use at most {} of them on a host", room));
    IdsByName next;
    std::vector<bool> used(limit);
    for (std::uint32_t id = 0; id < first; ++id) used[id] = true;
    for (const auto& [name, id] : now) {
        // Also the ids of names that go now are not free yet: whoever gets one would inherit its past.
        if (id < limit) used[id] = true;
        if (names.contains(name)) next.emplace(name, id);
    }
    const bool full = now.size() + names.size() - next.size() > room;
    if (full && !inherit)
        return fail(Code::exhausted, "IVDS-M020",
                    fmt::format("{} {} beside {} that go are too many: the data plane holds {} together",
                                names.size(), what, now.size() - next.size(), room),
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
    for (const auto& [name, inspector] : model.inspectors) ports.insert(name);
    for (const auto& [name, instance] : model.instances) instances.insert(name);

    Ids next;
    next.next_port = now.next_port;
    next.next_instance = now.next_instance;
    next.next_rule = now.next_rule;
    next.next_acl = now.next_acl;
    next.next_pool = now.next_pool;
    next.next_mirror = now.next_mirror;
    auto port_ids = assign(ports, now.ports, next.next_port, 1, IVDS_MAX_PORTS, "ports", true);
    if (!port_ids) return std::unexpected(port_ids.error());
    auto instance_ids =
        assign(instances, now.instances, next.next_instance, 1, IVDS_MAX_INSTANCES, "instances", true);
    if (!instance_ids) return std::unexpected(instance_ids.error());
    next.ports = std::move(*port_ids);
    next.instances = std::move(*instance_ids);

    std::set<std::string> rules;
    // What other hosts share takes nothing of this one's tables until it is named.
    std::set<std::string> pools;
    for (const auto& [name, pool] : model.vport_pools)
        if (pool->shared_by().empty()) pools.insert(name);
    for (const OwnedRule& owned : all_rules(model)) {
        rules.insert(rule_key(owned.owner_kind, owned.owner, owned.name));
        if (!owned.rule->to_pool().empty()) pools.insert(owned.rule->to_pool());
    }
    auto rule_ids = assign(rules, now.rules, next.next_rule, 1, IVDS_MAX_ACL_RULES, "rules", true);
    if (!rule_ids) return std::unexpected(rule_ids.error());
    next.rules = std::move(*rule_ids);

    // The lists that name a pool go after its id could be another's.
    auto pool_ids = assign(pools, now.pools, next.next_pool, 1, IVDS_MAX_POOLS + 1, "vPort pools", false);
    if (!pool_ids) return std::unexpected(pool_ids.error());
    next.pools = std::move(*pool_ids);

    std::set<std::string> mirrors;
    for (const auto& [name, mirror] : model.mirrors) mirrors.insert(name);
    auto mirror_ids = assign(mirrors, now.mirrors, next.next_mirror, 0, IVDS_MAX_MIRRORS, "mirrors", true);
    if (!mirror_ids) return std::unexpected(mirror_ids.error());
    next.mirrors = std::move(*mirror_ids);

    std::set<std::string> digests;
    RuleLists lists(model, next);
    for (const auto& [name, vport] : model.vports)
        for (const auto direction : {pb::Rule::IN, pb::Rule::OUT})
            if (const std::string& digest = lists.digest(*vport, direction); !digest.empty()) digests.insert(digest);
    for (const auto& [name, mirror] : model.mirrors)
        if (std::string digest = lists.filter_digest(*mirror); !digest.empty()) digests.insert(std::move(digest));
    // An id that is still in use by a list that goes cannot be another's: a frame would meet half of each.
    auto acl_ids = assign(digests, now.acls, next.next_acl, 1, IVDS_MAX_ACLS, "lists of rules", false);
    if (!acl_ids) return std::unexpected(acl_ids.error());
    next.acls = std::move(*acl_ids);
    return next;
}

}  // namespace ivds
