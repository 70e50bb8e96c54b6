// SPDX-License-Identifier: Apache-2.0
// rule.h -- the words of a rule and what they mean in the data plane's terms. Pure.
#pragma once

#include <string>
#include <vector>

#include "compile/acl.h"
#include "model/model.h"

namespace ivds {

using RuleList = google::protobuf::RepeatedPtrField<pb::Rule>;

constexpr int kMaxRules = 10'000;   // of one list
constexpr int kMaxPortRanges = 16;  // of one field
constexpr int kMaxSetMembers = 65'536;

// What the rule matches and does, as far as it says so itself: its id, target and mirrors are 0, and its sets are not
// there. Fails with the first word that is wrong, or that contradicts another.
[[nodiscard]] Result<AclRule> parse_rule(const pb::Rule& rule);
// Whether every rule of a list parses, and has a name of its own.
[[nodiscard]] Result<> validate_rules(const RuleList& rules);

// The addresses and MACs of a set; its vPorts are for others to look up. Fails with the first that is wrong.
[[nodiscard]] Result<SetMatch> parse_set(const pb::Set& set);

// Of ASCII letters.
void to_lower(std::string& text);
// Writes addresses and words in one form; what does not parse stays as it is.
void normalise_rules(RuleList& rules);
void normalise_set(pb::Set& set);

// The name of the rule at `place`: its own, or rule-N, counted from 1.
[[nodiscard]] std::string rule_name(const RuleList& rules, int place);
// The places of a list's rules in the order in which they are held against a frame.
[[nodiscard]] std::vector<int> by_priority(const RuleList& rules);
// What the rule matches, in words: "tcp from 10.0.0.0/8 to any port 23".
[[nodiscard]] std::string match_text(const pb::Rule& rule);
// And what it does: "redirect fw1, stateful, log".
[[nodiscard]] std::string action_text(const pb::Rule& rule);

}  // namespace ivds
