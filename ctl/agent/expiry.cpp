// SPDX-License-Identifier: Apache-2.0
#include "agent/expiry.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "model/rule.h"

namespace ivds {
namespace {

// Calls `f` with each rule that goes by itself. Owners whose rules all stay cost a look at each.
template <class F>
void each_timed(const Model& model, F&& f) {
    const auto in = [&](pb::Kind kind, const std::string& owner, const RuleList& rules) {
        for (int place = 0; place < rules.size(); ++place)
            if (rules[place].idle_s() != 0 || rules[place].hard_s() != 0)
                f(OwnedRule{kind, owner, rule_name(rules, place), &rules[place]});
    };
    for (const auto& [name, vport] : model.vports) in(pb::VPORT, name, vport->rules());
    for (const auto& [name, profile] : model.profiles) in(pb::PROFILE, name, profile->rules());
    for (const auto& [name, instance] : model.instances) in(pb::INSTANCE, name, instance->rules());
}

}  // namespace

std::chrono::seconds sweep_period(const Model& model) {
    std::uint32_t seconds = 5;
    for (const auto& [name, instance] : model.instances)
        if (instance->age_s() != 0) seconds = std::min(seconds, std::max(instance->age_s() / 10, 1U));
    each_timed(model, [&](const OwnedRule& owned) {
        if (owned.rule->idle_s() != 0) seconds = 1;
    });
    return std::chrono::seconds(seconds);
}

std::map<std::string, std::uint64_t> came_s(const Model& model, const Model& before,
                                            const std::map<std::string, std::uint64_t>& came_before,
                                            std::uint64_t now_s) {
    std::map<std::string, std::uint32_t> hard_before;
    if (!came_before.empty())
        each_timed(before, [&](const OwnedRule& owned) {
            hard_before.emplace(rule_key(owned.owner_kind, owned.owner, owned.name), owned.rule->hard_s());
        });
    std::map<std::string, std::uint64_t> out;
    each_timed(model, [&](const OwnedRule& owned) {
        if (owned.rule->hard_s() == 0) return;
        std::string key = rule_key(owned.owner_kind, owned.owner, owned.name);
        const auto known = came_before.find(key);
        const auto hard = hard_before.find(key);
        const bool same =
            known != came_before.end() && hard != hard_before.end() && hard->second == owned.rule->hard_s();
        out.emplace(std::move(key), same ? known->second : now_s);
    });
    return out;
}

void put_ages(const Model& model, const std::map<std::string, std::uint64_t>& came, std::uint64_t now_s,
              pb::Migration& migration) {
    const auto put = [&](pb::Kind kind, const std::string& owner) {
        for (const OwnedRule& owned : own_rules(model, kind, owner)) {
            const auto came_at = came.find(rule_key(kind, owner, owned.name));
            if (came_at == came.end()) continue;
            auto& age = *migration.add_rule_ages();
            age.set_owner(kind);
            age.set_rule(owned.name);
            age.set_age_s(static_cast<std::uint32_t>(now_s - std::min(now_s, came_at->second)));
        }
    };
    put(pb::VPORT, migration.vport().name());
    if (migration.has_profile()) put(pb::PROFILE, migration.profile().name());
}

void take_ages(const pb::Migration& migration, const Model& before, std::uint64_t now_s,
               std::map<std::string, std::uint64_t>& came) {
    for (const auto& age : migration.rule_ages()) {
        const bool is_profiles = age.owner() == pb::PROFILE;
        const std::string& owner = is_profiles ? migration.profile().name() : migration.vport().name();
        if (is_profiles && before.profiles.contains(owner)) continue;
        const std::string key = rule_key(is_profiles ? pb::PROFILE : pb::VPORT, owner, age.rule());
        if (const auto known = came.find(key); known != came.end())
            known->second = now_s - std::min(now_s, std::uint64_t{age.age_s()});
    }
}

void RuleExpiry::watch(const Model& model) {
    rules_.clear();
    each_timed(model, [&](OwnedRule owned) { rules_.push_back(std::move(owned)); });
}

std::vector<RuleExpiry::Due> RuleExpiry::due(const Ids& ids, const std::map<std::string, std::uint64_t>& came,
                                             const std::function<std::uint64_t(std::uint32_t)>& packets,
                                             std::uint64_t now_s) {
    std::vector<Due> out;
    std::map<std::string, Seen> seen;
    for (const OwnedRule& owned : rules_) {
        const std::string key = rule_key(owned.owner_kind, owned.owner, owned.name);
        const auto came_at = came.find(key);
        if (owned.rule->hard_s() != 0 && came_at != came.end() && now_s >= came_at->second + owned.rule->hard_s()) {
            out.push_back({owned, fmt::format("{} s after it came", now_s - came_at->second)});
            continue;
        }
        if (owned.rule->idle_s() == 0) continue;
        const std::uint32_t id = ids.rules.at(key);
        const std::uint64_t count = packets(id);
        const auto known = seen_.find(key);
        Seen now{count, now_s, id};
        // A clock that was set back starts the time anew.
        if (known != seen_.end() && known->second.id == id && known->second.packets == count &&
            known->second.since_s <= now_s)
            now.since_s = known->second.since_s;
        if (now_s - now.since_s >= owned.rule->idle_s())
            out.push_back({owned, fmt::format("it decided nothing for {} s", now_s - now.since_s)});
        else
            seen.emplace(key, now);
    }
    seen_ = std::move(seen);
    return out;
}

}  // namespace ivds
