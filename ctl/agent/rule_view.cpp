// SPDX-License-Identifier: Apache-2.0
#include "agent/rule_view.h"

#include <fmt/format.h>

#include "agent/clock.h"
#include "api/codec.h"
#include "compile/rules.h"
#include "model/rule.h"

namespace ivds {
namespace {

// A default of a profile, or of a vPort without one.
void add_default(const std::string& profile, pb::Rule::Direction direction, pb::Rule::Action action,
                 pb::RulesReply& reply) {
    pb::RuleState& state = *reply.add_rules();
    if (!profile.empty()) {
        state.set_owner_kind(pb::PROFILE);
        state.set_owner(profile);
    }
    state.mutable_rule()->set_direction(direction);
    state.mutable_rule()->set_action(action);
    state.set_match(match_text(state.rule()));
}

}  // namespace

Result<pb::RulesReply> view_rules(const Model& model, const Ids& ids,
                                  const std::map<std::uint32_t, ivds_rule_count>& counts,
                                  const pb::RulesRequest& request) {
    const pb::Ref& owner = request.owner();
    pb::VPort of_profile;  // stands for any vPort with the profile
    const pb::VPort* defaults = nullptr;
    std::vector<OwnedRule> rules;
    if (!request.has_owner()) {
        rules = all_rules(model);
    } else if (owner.kind() != pb::VPORT && owner.kind() != pb::PROFILE && owner.kind() != pb::INSTANCE) {
        return fail(Code::invalid, "IVDS-A004", "rules of what?", "give a vport, a profile or an instance");
    } else if (const auto object = get(model, owner); !object) {
        return std::unexpected(object.error());
    } else if (owner.kind() == pb::VPORT) {
        defaults = model.vports.at(owner.name()).get();
        rules = effective_rules(model, *defaults);
    } else {
        rules = own_rules(model, owner.kind(), owner.name());
        of_profile.set_profile(owner.name());
        if (owner.kind() == pb::PROFILE) defaults = &of_profile;
    }

    pb::RulesReply reply;
    for (const OwnedRule& owned : rules) {
        pb::RuleState& state = *reply.add_rules();
        state.set_owner_kind(owned.owner_kind);
        state.set_owner(owned.owner);
        state.set_name(owned.name);
        *state.mutable_rule() = *owned.rule;
        state.set_match(match_text(*owned.rule));
        // A shared profile that no vPort here has takes no ids.
        const auto id = ids.rules.find(rule_key(owned.owner_kind, owned.owner, owned.name));
        state.set_id(id != ids.rules.end() ? id->second : 0);
        if (const auto count = counts.find(state.id()); count != counts.end()) {
            state.set_packets(count->second.packets);
            state.set_bytes(count->second.bytes);
            // Counters are of the host's running time, and what is told is of the calendar.
            if (count->second.last_ns != 0) state.set_last_s((epoch_ns() + count->second.last_ns) / 1'000'000'000);
        }
    }
    if (defaults != nullptr)
        for (const auto direction : {pb::Rule::IN, pb::Rule::OUT})
            add_default(defaults->profile(), direction, default_action(model, *defaults, direction), reply);
    for (int i = 0; i < reply.rules_size(); ++i) reply.mutable_rules(i)->set_order(static_cast<std::uint32_t>(i + 1));
    return reply;
}

}  // namespace ivds
