// SPDX-License-Identifier: Apache-2.0
#include "source.h"

#include <fmt/format.h>

#include <cstring>
#include <optional>
#include <ostream>

#include "agent/flow_view.h"
#include "agent/nic_view.h"
#include "agent/rule_view.h"
#include "agent/store.h"
#include "agent/view.h"
#include "loader/switch.h"

namespace ivds::cli {
namespace {

constexpr const char* saved_state = "the saved state";
constexpr const char* pinned_maps = "the pinned maps";

// What was saved last; nothing saved is an empty switch.
Result<Intent> saved_intent(const Options& options) {
    auto intent = load_intent(options.state_dir);
    if (!intent) return std::unexpected(intent.error());
    return intent->has_value() ? std::move(**intent) : Intent{};
}

// The agent is away, and what stands in for it cannot be read either.
std::unexpected<Error> neither(const Error& agent, const Error& instead, const char* where) {
    Error error = instead;
    error.what = fmt::format("{}, and {} cannot be read: {}", agent.what, where, instead.what);
    if (error.fix.empty()) error.fix = agent.fix;
    return std::unexpected(std::move(error));
}

// Reads saved state, pinned maps and, of the interfaces that `names` gives for the model, what the kernel says.
template <class Names, class View>
auto with_maps(const Options& options, const Error& agent, bool thorough, Names&& names, View&& view)
    -> decltype(view(std::declval<const ViewSource&>())) {
    const auto maps = MapsView::open(options.root);
    if (!maps) return neither(agent, maps.error(), pinned_maps);
    const auto intent = saved_intent(options);
    if (!intent) return neither(agent, intent.error(), saved_state);
    auto query = NetdevQuery::open();
    const auto interfaces =
        query ? query->look(names(intent->model), thorough) : std::unexpected(std::move(query.error()));
    return view(ViewSource{intent->model, intent->ids, *maps, nullptr, interfaces ? &*interfaces : nullptr});
}

std::set<std::string> all_interfaces(const Model& model) {
    return interfaces_of(model);
}

}  // namespace

bool Source::fall_back(const Error& error, const char* where) {
    // The agent's own refusals are answers; only its silence is not.
    if (error.id != "IVDS-U010" && error.id != "IVDS-U011") return false;
    const bool down = error.id == "IVDS-U010";
    if (away_.empty())
        note_ << fmt::format("note: agent {}; read from {}\n", down ? "is down" : "does not answer", where);
    away_ = down ? "down" : "does not answer";
    return true;
}

Result<pb::Config> Source::export_config() {
    auto reply = agent_.export_config();
    if (reply || !fall_back(reply.error(), saved_state)) return reply;
    const auto intent = saved_intent(options_);
    if (!intent) return neither(reply.error(), intent.error(), saved_state);
    return to_config(intent->model);
}

Result<pb::Object> Source::get(const pb::Ref& ref) {
    auto reply = agent_.get(ref);
    if (reply || !fall_back(reply.error(), saved_state)) return reply;
    const auto intent = saved_intent(options_);
    if (!intent) return neither(reply.error(), intent.error(), saved_state);
    return ivds::get(intent->model, ref);
}

Result<pb::ObjectList> Source::list(pb::Kind kind) {
    auto reply = agent_.list(kind);
    if (reply || !fall_back(reply.error(), saved_state)) return reply;
    const auto intent = saved_intent(options_);
    if (!intent) return neither(reply.error(), intent.error(), saved_state);
    return ivds::list(intent->model, kind);
}

Result<pb::StatusReply> Source::status() {
    auto reply = agent_.status();
    if (reply || !fall_back(reply.error(), pinned_maps)) return reply;
    return with_maps(options_, reply.error(), false, all_interfaces, view_status);
}

Result<pb::StatsReply> Source::stats() {
    auto reply = agent_.stats();
    if (reply || !fall_back(reply.error(), pinned_maps)) return reply;
    return with_maps(options_, reply.error(), false, all_interfaces, view_stats);
}

Result<pb::NicReply> Source::nics(const pb::NicRequest& request) {
    auto reply = agent_.nics(request);
    if (reply || !fall_back(reply.error(), pinned_maps)) return reply;
    return with_maps(
        options_, reply.error(), true, [&](const Model& model) { return interfaces_of(model, request); },
        [&](const ViewSource& source) -> Result<pb::NicReply> {
            const auto status = view_status(source);
            if (!status) return std::unexpected(status.error());
            return view_nics(source, *status, request);
        });
}

Result<pb::MapReply> Source::map(const pb::MapRequest& request) {
    auto reply = agent_.map(request);
    if (reply || !fall_back(reply.error(), pinned_maps)) return reply;
    return with_maps(
        options_, reply.error(), true, [&](const Model& model) { return interfaces_of(model, request); },
        [&](const ViewSource& source) -> Result<pb::MapReply> {
            const auto status = view_status(source);
            if (!status) return std::unexpected(status.error());
            return view_map(source, *status, request);
        });
}

Result<pb::RulesReply> Source::rules(const pb::RulesRequest& request) {
    auto reply = agent_.rules(request);
    if (reply || !fall_back(reply.error(), pinned_maps)) return reply;
    return with_maps(
        options_, reply.error(), false, [](const Model&) { return std::set<std::string>(); },
        [&](const ViewSource& source) -> Result<pb::RulesReply> {
            const auto counts = source.maps.rule_stats();
            if (!counts) return std::unexpected(counts.error());
            return view_rules(source.model, source.ids, *counts, request);
        });
}

// A list that broke off is an error: to begin anew elsewhere would print entries twice.
template <class Request, class Entry, class Ask, class View>
Result<> Source::stream(const Request& request, const std::function<bool(const Entry&)>& sink, Ask&& ask,
                        View&& view) {
    bool begun = false;
    auto reply = ask([&](const Entry& entry) {
        begun = true;
        return sink(entry);
    });
    if (reply || begun || !fall_back(reply.error(), pinned_maps)) return reply;
    return with_maps(
        options_, reply.error(), false, [](const Model&) { return std::set<std::string>(); },
        [&](const ViewSource& source) { return view(source, request, sink); });
}

Result<> Source::fdb(const pb::FdbRequest& request, const std::function<bool(const pb::FdbEntry&)>& sink) {
    return stream(request, sink, [&](const auto& each) { return agent_.fdb(request, each); }, view_fdb);
}

Result<> Source::neighbours(const pb::NeighboursRequest& request,
                            const std::function<bool(const pb::NeighbourEntry&)>& sink) {
    return stream(request, sink, [&](const auto& each) { return agent_.neighbours(request, each); }, view_neighbours);
}

Result<> Source::flows(const pb::FlowsRequest& request, const std::function<bool(const pb::FlowState&)>& sink) {
    return stream(request, sink, [&](const auto& each) { return agent_.flows(request, each); }, view_flows);
}

pb::DoctorReply Source::doctor() const {
    pb::DoctorReply reply;
    const auto add = [&](const char* severity, const std::string& id, const std::string& object,
                         const std::string& text, const std::string& fix) {
        pb::Finding& finding = *reply.add_findings();
        finding.set_severity(severity);
        finding.set_id(id);
        finding.set_object(object);
        finding.set_text(text);
        finding.set_fix(fix);
    };
    const auto failed = [&](const std::string& object, const Error& error) {
        add("error", error.id, object, error.what, error.fix);
    };
    if (const auto maps = MapsView::open(options_.root); !maps) {
        failed(options_.root, maps.error());
    } else if (const auto meta = maps->meta(); !meta) {
        failed(options_.root, meta.error());
    } else {
        const auto* build = reinterpret_cast<const char*>(meta->build);
        add("info", "IVDS-U015", options_.root,
            fmt::format("the maps are pinned (layout {}.{}, programs {}, generation {}); forwarding goes on without "
                        "the agent",
                        meta->layout_major, meta->layout_minor,
                        std::string_view(build, ::strnlen(build, sizeof meta->build)), meta->generation),
            "");
    }
    if (const auto intent = load_intent(options_.state_dir); !intent) {
        failed(options_.state_dir, intent.error());
    } else if (!intent->has_value()) {
        add("info", "IVDS-U016", options_.state_dir, "nothing is saved: nothing was ever applied", "");
    } else if (const auto tables = load_tables(tables_path(options_.state_dir)); !tables) {
        failed(options_.state_dir, tables.error());
    } else if (const auto findings = ivds::doctor({.root = options_.root}, *tables); !findings) {
        failed(options_.root, findings.error());
    } else {
        for (const Finding& finding : *findings) {
            const bool error = finding.severity == Finding::Severity::error;
            const bool warning = finding.severity == Finding::Severity::warning;
            add(error     ? "error"
                : warning ? "warning"
                          : "info",
                finding.id, finding.object, finding.text, finding.fix);
        }
    }
    return reply;
}

}  // namespace ivds::cli
