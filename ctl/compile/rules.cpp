// SPDX-License-Identifier: Apache-2.0
#include "compile/rules.h"

#include <fmt/format.h>
#include <openssl/evp.h>

#include <cstdint>
#include <set>
#include <string_view>

#include "api/codec.h"
#include "model/rule.h"

namespace ivds {
namespace {

// What a digest begins with. A release that lays the same rules out differently has another one: what is compiled
// under an ACL id never changes, also not by an upgrade.
constexpr const char* kListForm = "ivds list 2";

// Half of a SHA-256, in hexadecimal digits: nobody finds two lists with the same.
std::string digest_of(const std::string& bytes) {
    std::array<unsigned char, EVP_MAX_MD_SIZE> hash{};
    unsigned size = 0;
    if (::EVP_Digest(bytes.data(), bytes.size(), hash.data(), &size, ::EVP_sha256(), nullptr) != 1) std::abort();
    std::string text;
    for (std::size_t i = 0; i < 16; ++i) text += fmt::format("{:02x}", hash[i]);
    return text;
}

const RuleList* rules_of(const Model& model, pb::Kind owner_kind, const std::string& owner) {
    const auto of = [&](const auto& objects) -> const RuleList* {
        const auto found = objects.find(owner);
        return found == objects.end() ? nullptr : &found->second->rules();
    };
    switch (owner_kind) {
        case pb::VPORT:
            return of(model.vports);
        case pb::PROFILE:
            return of(model.profiles);
        case pb::INSTANCE:
            return of(model.instances);
        default:
            return nullptr;
    }
}

// An instance's redirects are about what its VMs send. What comes in by a patch has been redirected, and goes where
// its destination is; the instance's other rules are for it as well.
bool is_for_vms(const pb::Rule& rule) {
    return rule.action() == pb::Rule::REDIRECT;
}

void add_rules(pb::Kind owner_kind, const std::string& owner, const RuleList& rules, std::vector<OwnedRule>& out,
               bool of_patch = false) {
    for (const int place : by_priority(rules))
        if (!of_patch || !is_for_vms(rules[place]))
            out.push_back({owner_kind, owner, rule_name(rules, place), &rules[place]});
}

bool is_for(const pb::Rule& rule, pb::Rule::Direction direction) {
    return rule.direction() == pb::Rule::BOTH || rule.direction() == direction;
}

}  // namespace

std::string rule_key(pb::Kind owner_kind, const std::string& owner, const std::string& rule) {
    return fmt::format("{}/{}/{}", to_text(owner_kind), owner, rule);
}

std::vector<OwnedRule> all_rules(const Model& model) {
    std::vector<OwnedRule> out;
    for (const auto& [name, vport] : model.vports) add_rules(pb::VPORT, name, vport->rules(), out);
    std::set<std::string_view> used;
    for (const auto& [name, vport] : model.vports) used.insert(vport->profile());
    for (const auto& [name, profile] : model.profiles)
        if (profile->shared_by().empty() || used.contains(name)) add_rules(pb::PROFILE, name, profile->rules(), out);
    for (const auto& [name, instance] : model.instances) add_rules(pb::INSTANCE, name, instance->rules(), out);
    return out;
}

std::vector<OwnedRule> own_rules(const Model& model, pb::Kind owner_kind, const std::string& owner) {
    std::vector<OwnedRule> out;
    if (const RuleList* rules = rules_of(model, owner_kind, owner); rules != nullptr)
        add_rules(owner_kind, owner, *rules, out);
    return out;
}

std::vector<OwnedRule> effective_rules(const Model& model, const pb::VPort& vport) {
    std::vector<OwnedRule> out;
    add_rules(pb::VPORT, vport.name(), vport.rules(), out);
    if (const RuleList* rules = rules_of(model, pb::PROFILE, vport.profile()); rules != nullptr)
        add_rules(pb::PROFILE, vport.profile(), *rules, out);
    if (const RuleList* rules = rules_of(model, pb::INSTANCE, vport.instance()); rules != nullptr)
        add_rules(pb::INSTANCE, vport.instance(), *rules, out, !vport.patch().empty());
    return out;
}

pb::Rule::Action default_action(const Model& model, const pb::VPort& vport, pb::Rule::Direction direction) {
    const auto found = model.profiles.find(vport.profile());
    if (found == model.profiles.end()) return pb::Rule::ALLOW;
    return direction == pb::Rule::IN ? found->second->default_in() : found->second->default_out();
}

SetMatch members_of(const Model& model, const pb::Set& set) {
    SetMatch match = parse_set(set).value_or(SetMatch{});  // the model is valid: it parses
    for (const std::string& name : set.vports()) {
        const std::string& vnic = vnic_of(model, *model.vports.at(name));
        if (vnic.empty()) continue;
        MacMatch mac;
        mac.value = parse_mac(model.vnics.at(vnic)->vmac()).value_or(Mac{});
        match.macs.push_back(mac);
    }
    return match;
}

const RuleLists::Members& RuleLists::set(const std::string& name) {
    const auto [place, fresh] = sets_.try_emplace(name);
    if (!fresh) return place->second;
    auto match = std::make_shared<const SetMatch>(members_of(model_, *model_.sets.at(name)));
    std::string bytes = fmt::format("{} {} {} ", match->macs.size(), match->v4.size(), match->v6.size());
    const auto add = [&](const auto& array) {
        bytes.append(reinterpret_cast<const char*>(array.data()), array.size());
    };
    for (const MacMatch& mac : match->macs) {
        add(mac.value);
        add(mac.mask);
    }
    for (const auto* prefixes : {&match->v4, &match->v6})
        for (const PrefixMatch& prefix : *prefixes) {
            add(prefix.value);
            bytes += static_cast<char>(prefix.bits);
        }
    place->second = {std::move(match), digest_of(bytes)};
    return place->second;
}

std::uint32_t RuleLists::target(const pb::Rule& rule) const {
    if (!rule.to_vport().empty()) return ids_.ports.at(rule.to_vport());
    return rule.to_pool().empty() ? 0 : IVDS_TARGET_POOL | ids_.pools.at(rule.to_pool());
}

RuleLists::RuleLists(const Model& model, const Ids& ids) : model_(model), ids_(ids) {
    for (const auto& [exporter_name, exporter] : model.exporters)
        for (const auto& [name, instance] : model.instances)
            if (is_exported(*exporter, *instance)) exported_.insert(name);
}

std::uint32_t RuleLists::mirrors(const pb::Rule& rule) const {
    return rule.mirror().empty() ? 0 : 1U << ids_.mirrors.at(rule.mirror());
}

// All that a rule says, by the numbers that its names stand for.
std::string RuleLists::content(pb::Rule rule, std::uint32_t id) {
    std::string named;
    if (rule.action() == pb::Rule::REDIRECT) named += fmt::format("to {} ", target(rule));
    if (!rule.mirror().empty()) named += fmt::format("mirrors {} ", mirrors(rule));
    if (!rule.src_set().empty()) named += fmt::format("from {} ", set(rule.src_set()).digest);
    if (!rule.dst_set().empty()) named += fmt::format("to {} ", set(rule.dst_set()).digest);
    // What is left of it is what it matches and does.
    rule.clear_name();
    rule.clear_priority();
    rule.clear_direction();
    rule.clear_to_vport();
    rule.clear_to_pool();
    rule.clear_mirror();
    rule.clear_src_set();
    rule.clear_dst_set();
    rule.clear_idle_s();
    rule.clear_hard_s();
    const std::string content = rule.SerializeAsString();
    return fmt::format("{} {} {} ", id, named.size(), content.size()) + named + content;
}

Result<AclRule> RuleLists::lay_out(const pb::Rule& said, std::uint32_t id) {
    auto rule = parse_rule(said);
    if (!rule) return rule;
    rule->id = id;
    rule->target = target(said);
    rule->mirrors = mirrors(said);
    if (!said.src_set().empty()) rule->src_set = set(said.src_set()).match;
    if (!said.dst_set().empty()) rule->dst_set = set(said.dst_set()).match;
    return rule;
}

// The rules of a filter count nothing: their id is 0.
std::string RuleLists::filter_digest(const pb::Mirror& mirror) {
    if (mirror.filter().empty()) return {};
    std::string bytes = std::string(kListForm) + " filter ";
    for (const int at : by_priority(mirror.filter())) bytes += content(mirror.filter()[at], 0);
    return digest_of(bytes);
}

Result<AclRow> RuleLists::compile_filter(const pb::Mirror& mirror) {
    std::vector<AclRule> rules;
    for (const int at : by_priority(mirror.filter())) {
        auto rule = lay_out(mirror.filter()[at], 0);
        if (!rule) return std::unexpected(rule.error());
        rules.push_back(std::move(*rule));
    }
    auto row = compile_acl(rules, IVDS_ACL_DROP);
    if (!row) return std::unexpected(row.error().in(fmt::format("the filter of mirror {}", mirror.name())));
    return row;
}

const RuleLists::Part& RuleLists::part(pb::Kind owner_kind, const std::string& owner, pb::Rule::Direction direction,
                                       bool of_patch) {
    static const Part nothing;
    const RuleList* rules = rules_of(model_, owner_kind, owner);
    if (rules == nullptr || rules->empty()) return nothing;
    const auto [place, fresh] = parts_.try_emplace({owner_kind, owner, direction, of_patch});
    if (!fresh) return place->second;
    std::string bytes;
    for (const int at : by_priority(*rules)) {
        pb::Rule rule = (*rules)[at];
        if (!is_for(rule, direction) || (of_patch && is_for_vms(rule))) continue;
        place->second.stateful = place->second.stateful || rule.stateful();
        bytes += content(std::move(rule), ids_.rules.at(rule_key(owner_kind, owner, rule_name(*rules, at))));
    }
    if (!bytes.empty()) place->second.digest = digest_of(bytes);
    return place->second;
}

const RuleLists::Part& RuleLists::instance_part(const pb::VPort& vport, pb::Rule::Direction direction) {
    return part(pb::INSTANCE, vport.instance(), direction, !vport.patch().empty());
}

bool RuleLists::stateful(const pb::VPort& vport, pb::Rule::Direction direction) {
    return part(pb::VPORT, vport.name(), direction).stateful ||
           part(pb::PROFILE, vport.profile(), direction).stateful || instance_part(vport, direction).stateful;
}

const std::string& RuleLists::digest(const pb::VPort& vport, pb::Rule::Direction direction) {
    static const std::string nothing;
    const std::string& own = part(pb::VPORT, vport.name(), direction).digest;
    const std::string& profile = part(pb::PROFILE, vport.profile(), direction).digest;
    const std::string& instance = instance_part(vport, direction).digest;
    const pb::Rule::Action last = default_action(model_, vport, direction);
    const bool exported = vport.patch().empty() && exported_.contains(vport.instance());
    if (own.empty() && profile.empty() && instance.empty() && last == pb::Rule::ALLOW && !exported) return nothing;
    const std::string parts =
        fmt::format("{} {} {}/{}/{}", kListForm, static_cast<int>(last), own, profile, instance);
    const auto [place, fresh] = digests_.try_emplace(parts);
    if (fresh) place->second = digest_of(parts);
    return place->second;
}

Result<AclRow> RuleLists::compile(const pb::VPort& vport, pb::Rule::Direction direction) {
    std::vector<AclRule> rules;
    for (const OwnedRule& owned : effective_rules(model_, vport)) {
        if (!is_for(*owned.rule, direction)) continue;
        auto rule = lay_out(*owned.rule, ids_.rules.at(rule_key(owned.owner_kind, owned.owner, owned.name)));
        if (!rule) return std::unexpected(rule.error());
        rules.push_back(std::move(*rule));
    }
    const bool drop = default_action(model_, vport, direction) == pb::Rule::DROP;
    auto row = compile_acl(rules, drop ? IVDS_ACL_DROP : IVDS_ACL_ALLOW);
    if (!row)
        return std::unexpected(row.error().in(
            fmt::format("the rules of vport {} {} the VM", vport.name(), direction == pb::Rule::IN ? "from" : "to")));
    return row;
}

}  // namespace ivds
