// SPDX-License-Identifier: Apache-2.0
// rule.cpp -- rules: the lists in effect with their counters, and changes of one rule in the list of its owner.
#include "model/rule.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>
#include <memory>
#include <ostream>

#include "api/codec.h"
#include "command.h"
#include "fields.h"
#include "table.h"

namespace ivds::cli {
namespace {

constexpr const char* owner_kinds = "vport|profile|instance";

struct ListWords {
    std::string vport;
    std::string profile;
    std::string instance;
};

// "12 s ago"
std::string ago(std::uint64_t then_s) {
    const auto now_s = static_cast<std::uint64_t>(std::time(nullptr));
    return then_s == 0 ? "never" : fmt::format("{} s ago", now_s > then_s ? now_s - then_s : 0);
}

Result<int> list(const Context& context, const ListWords& words) {
    pb::RulesRequest request;
    for (const auto& [kind, name] : {std::pair(pb::VPORT, &words.vport), std::pair(pb::PROFILE, &words.profile),
                                     std::pair(pb::INSTANCE, &words.instance)}) {
        if (name->empty()) continue;
        request.mutable_owner()->set_kind(kind);
        request.mutable_owner()->set_name(*name);
    }
    const auto reply = context.source.rules(request);
    if (!reply) return std::unexpected(reply.error());
    if (context.options.json) {
        context.json(*reply);
        return exit_ok;
    }
    Table table(
        {">ORDER", "FROM", "NAME", ">PRIORITY", "DIRECTION", "MATCH", "ACTION", ">PACKETS", ">BYTES", ">LAST"});
    for (const pb::RuleState& state : reply->rules()) {
        const pb::Rule& rule = state.rule();
        // A default counts nothing.
        const bool counts = !state.name().empty();
        table.row({Cell::number(state.order()),
                   {state.owner().empty() ? "" : label(state.owner_kind(), state.owner())},
                   {counts ? state.name() : "default"},
                   counts ? Cell::number(rule.priority()) : Cell{},
                   {to_text(rule.direction())},
                   {state.match()},
                   {action_text(rule), rule.action() == pb::Rule::DROP ? Color::bad : Color::good},
                   counts ? Cell::number(state.packets()) : Cell{},
                   counts ? Cell::number(state.bytes()) : Cell{},
                   {counts ? ago(state.last_s()) : ""}});
    }
    table.print(context.io.out, context.io.color);
    return exit_ok;
}

// The words of a command on one rule.
struct RuleWords {
    std::string kind;
    std::string owner;
    std::string rule;
    std::string before;
    std::unique_ptr<FieldFlags> flags;
};

// The owner as the agent has it, and the list in it.
struct Owner {
    pb::Object object;
    RuleList* rules = nullptr;
};

Result<Owner> fetch(const Context& context, const RuleWords& words) {
    const auto kind = from_text<pb::Kind>(words.kind);
    if (!kind) return std::unexpected(kind.error());
    pb::Ref ref;
    ref.set_kind(*kind);
    ref.set_name(words.owner);
    auto object = context.agent.get(ref);
    if (!object) return std::unexpected(object.error());
    Owner owner{.object = std::move(*object), .rules = nullptr};
    switch (owner.object.kind_case()) {
        case pb::Object::kProfile:
            owner.rules = owner.object.mutable_profile()->mutable_rules();
            break;
        case pb::Object::kInstance:
            owner.rules = owner.object.mutable_instance()->mutable_rules();
            break;
        default:
            owner.rules = owner.object.mutable_vport()->mutable_rules();
    }
    return owner;
}

Result<int> place_of(const RuleList& rules, const RuleWords& words, const std::string& name) {
    for (int place = 0; place < rules.size(); ++place)
        if (rule_name(rules, place) == name) return place;
    return fail(Code::not_found, "IVDS-M027", fmt::format("{} {} has no rule {}", words.kind, words.owner, name),
                fmt::format("'ivds-ctl rule list' shows all"));
}

void move(RuleList& rules, int from, int to) {
    for (; from < to; ++from) rules.SwapElements(from, from + 1);
    for (; from > to; --from) rules.SwapElements(from, from - 1);
}

// Puts the rule at `place` in front of the one that --before names.
Result<> reorder(RuleList& rules, const RuleWords& words, int place) {
    if (words.before.empty()) return {};
    const auto before = place_of(rules, words, words.before);
    if (!before) return std::unexpected(before.error());
    move(rules, place, place < *before ? *before - 1 : *before);
    return {};
}

Result<int> store(const Context& context, const RuleWords& words, const Owner& owner, const std::string& what) {
    const auto stored = context.agent.update(owner.object);
    if (!stored) return std::unexpected(stored.error());
    if (context.options.json) {
        context.json(*stored);
    } else {
        context.io.out << fmt::format("{} of {} {}\n", what, words.kind, words.owner);
    }
    return exit_ok;
}

Result<int> add(const Context& context, const RuleWords& words) {
    auto owner = fetch(context, words);
    if (!owner) return std::unexpected(owner.error());
    pb::Rule rule;
    if (auto done = words.flags->set(rule); !done) return std::unexpected(done.error());
    *owner->rules->Add() = rule;
    const int place = owner->rules->size() - 1;
    if (auto done = reorder(*owner->rules, words, place); !done) return std::unexpected(done.error());
    return store(context, words, *owner,
                 rule.name().empty() ? "rule added to the list" : "rule " + rule.name() + " added to the list");
}

Result<int> set(const Context& context, const RuleWords& words) {
    if (!words.flags->any() && words.before.empty())
        return fail(Code::invalid, "IVDS-U001", "set needs at least one field to change, or --before",
                    "see 'ivds-ctl rule set --help'");
    auto owner = fetch(context, words);
    if (!owner) return std::unexpected(owner.error());
    const auto place = place_of(*owner->rules, words, words.rule);
    if (!place) return std::unexpected(place.error());
    if (auto done = words.flags->set(*owner->rules->Mutable(*place)); !done) return std::unexpected(done.error());
    if (auto done = reorder(*owner->rules, words, *place); !done) return std::unexpected(done.error());
    return store(context, words, *owner, "rule " + words.rule + " changed in the list");
}

Result<int> remove(const Context& context, const RuleWords& words) {
    auto owner = fetch(context, words);
    if (!owner) return std::unexpected(owner.error());
    const auto place = place_of(*owner->rules, words, words.rule);
    if (!place) return std::unexpected(place.error());
    owner->rules->DeleteSubrange(*place, 1);
    return store(context, words, *owner, "rule " + words.rule + " removed from the list");
}

}  // namespace

void add_rule_commands(Commands& commands) {
    CLI::App& group = Commands::group(commands.root(), "rule", "Rules: which frames of a VM pass, and which drop");

    auto listed = std::make_shared<ListWords>();
    CLI::App& list_app = commands.leaf(
        group, "list", "Rules by priority, with what each decided; of a vPort, all that are in effect",
        "ivds-ctl rule list --vport web1\nivds-ctl rule list --profile web --json\n"
        "The first rule that matches decides; the default where none does. A rule counts for all vPorts\n"
        "that it is a rule of.",
        [listed](const Context& context) { return list(context, *listed); });
    CLI::Option& vport = add_value(list_app, "--vport", "VPORT", listed->vport,
                                   "what its frames are held against: its own, its profile's, its instance's");
    CLI::Option& profile = add_value(list_app, "--profile", "PROFILE", listed->profile, "of this profile alone");
    profile.excludes(&vport);
    add_value(list_app, "--instance", "INSTANCE", listed->instance, "of this instance alone")
        .excludes(&vport)
        ->excludes(&profile);

    const auto verb = [&](const std::string& name, const std::string& description, const std::string& examples,
                          Result<int> (*action)(const Context&, const RuleWords&)) {
        auto words = std::make_shared<RuleWords>();
        CLI::App& app = commands.leaf(group, name, description, examples,
                                      [words, action](const Context& context) { return action(context, *words); });
        add_value(app, "OWNER_KIND", owner_kinds, words->kind, "what the list belongs to")
            .required()
            ->check(CLI::IsMember({"vport", "profile", "instance"}).description(""));
        add_value(app, "OWNER", "OWNER", words->owner, "which one").required();
        return std::pair(&app, words);
    };
    const auto flags = [](CLI::App& app, RuleWords& words) {
        words.flags = std::make_unique<FieldFlags>(app, *pb::Rule::descriptor(), true);
        add_value(app, "--before", "RULE", words.before,
                  "put it before this rule of the list; else it stays, or comes last");
    };

    auto [add_app, add_words] = verb(
        "add", "Add a rule to the list of a vPort, a profile or an instance",
        "ivds-ctl rule add vport web1 --name no-telnet --direction out --protocol tcp --dst-ports 23 --action drop\n"
        "ivds-ctl rule add profile web --name https --protocol tcp --dst-ports 80,443 --before no-telnet\n"
        "What is left out matches anything. A rule without --action allows.",
        add);
    flags(*add_app, *add_words);

    auto [set_app, set_words] = verb(
        "set", "Change the given fields of a rule and keep the others, or move it",
        "ivds-ctl rule set vport web1 no-telnet --action allow\nivds-ctl rule set vport web1 no-telnet --before ssh",
        set);
    add_value(*set_app, "RULE", "RULE", set_words->rule, "which rule").required();
    flags(*set_app, *set_words);

    auto [remove_app, remove_words] =
        verb("remove", "Take a rule off the list", "ivds-ctl rule remove vport web1 no-telnet", remove);
    add_value(*remove_app, "RULE", "RULE", remove_words->rule, "which rule").required();
}

}  // namespace ivds::cli
