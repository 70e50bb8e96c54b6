// SPDX-License-Identifier: Apache-2.0
// rules.h -- which rules a vPort's frames are held against, in which order: the vPort's own, then those of its
// profile, then those of its instance, each by priority. vPorts whose rules are the same share one list. Pure.
#pragma once

#include <array>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <tuple>
#include <unordered_map>
#include <vector>

#include "compile/acl.h"
#include "compile/ids.h"
#include "loader/tables.h"
#include "model/model.h"

namespace ivds {

// A rule of the model, and whose it is.
struct OwnedRule {
    pb::Kind owner_kind = pb::KIND_NONE;
    std::string owner;
    std::string name;
    const pb::Rule* rule = nullptr;
};

// The name that a rule has in Ids::rules: "vport/web1/no-telnet".
[[nodiscard]] std::string rule_key(pb::Kind owner_kind, const std::string& owner, const std::string& rule);

// All rules of the model, by owner; those of one owner by priority. A profile that another host shares, and no vPort
// here has, is not among the owners.
[[nodiscard]] std::vector<OwnedRule> all_rules(const Model& model);
// Those of one vPort, profile or instance, and none where there is no such object.
[[nodiscard]] std::vector<OwnedRule> own_rules(const Model& model, pb::Kind owner_kind, const std::string& owner);
// Those that the vPort's frames are held against, of both directions.
[[nodiscard]] std::vector<OwnedRule> effective_rules(const Model& model, const pb::VPort& vport);
// What happens to a frame that none of them matches; IN or OUT.
[[nodiscard]] pb::Rule::Action default_action(const Model& model, const pb::VPort& vport,
                                              pb::Rule::Direction direction);

// The members of a set, those that vPorts stand for with the others.
[[nodiscard]] SetMatch members_of(const Model& model, const pb::Set& set);

// The lists of one direction, IN or OUT, each told by a digest of all that it holds: what sets hold and what targets
// and mirrors are, too. Valid as long as the model and its ids; those of lists themselves need not be known yet.
class RuleLists {
public:
    RuleLists(const Model& model, const Ids& ids);

    // Lists with the same digest are the same; empty: there is nothing to hold a frame against. Where flows are
    // exported there is a list in any case, as the data plane keeps flows of vPorts with a list alone.
    [[nodiscard]] const std::string& digest(const pb::VPort& vport, pb::Rule::Direction direction);
    [[nodiscard]] Result<AclRow> compile(const pb::VPort& vport, pb::Rule::Direction direction);
    // The list of a mirror's filter, which allows what is copied; empty: there is none.
    [[nodiscard]] std::string filter_digest(const pb::Mirror& mirror);
    [[nodiscard]] Result<AclRow> compile_filter(const pb::Mirror& mirror);
    // Whether a rule of the list opens connections.
    [[nodiscard]] bool stateful(const pb::VPort& vport, pb::Rule::Direction direction);

private:
    // What an owner adds to a list; made once, however many vPorts have it.
    struct Part {
        std::string digest;  // empty: nothing
        bool stateful = false;
    };
    struct Members {
        std::shared_ptr<const SetMatch> match;
        std::string digest;
    };
    [[nodiscard]] std::string content(pb::Rule rule, std::uint32_t id);
    [[nodiscard]] Result<AclRule> lay_out(const pb::Rule& rule, std::uint32_t id);
    const Part& part(pb::Kind owner_kind, const std::string& owner, pb::Rule::Direction direction,
                     bool of_patch = false);
    [[nodiscard]] const Part& instance_part(const pb::VPort& vport, pb::Rule::Direction direction);
    const Members& set(const std::string& name);
    [[nodiscard]] std::uint32_t target(const pb::Rule& rule) const;
    [[nodiscard]] std::uint32_t mirrors(const pb::Rule& rule) const;

    const Model& model_;
    const Ids& ids_;
    std::set<std::string> exported_;  // instances
    std::map<std::tuple<pb::Kind, std::string, pb::Rule::Direction, bool>, Part> parts_;
    std::map<std::string, Members> sets_;
    std::unordered_map<std::string, std::string> digests_;  // by the parts, joined
};

}  // namespace ivds
