// SPDX-License-Identifier: Apache-2.0
#include "agent/agent.h"

#include <fmt/format.h>
#include <malloc.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <cstdint>
#include <ctime>
#include <set>
#include <utility>

#include "agent/clock.h"
#include "agent/flow_view.h"
#include "agent/names.h"
#include "agent/nic_view.h"
#include "agent/offload_view.h"
#include "agent/pinned.h"
#include "agent/rule_view.h"
#include "agent/trace_view.h"
#include "agent/view.h"
#include "api/codec.h"
#include "compile/compile.h"
#include "compile/rules.h"
#include "fabric/migration.h"
#include "model/kinds.h"
#include "model/rule.h"
#include "model/shared.h"
#include "model/vmac_pool.h"
#include "offload/verify/verify.h"

namespace ivds {
namespace {

using std::chrono::steady_clock;

// A request with so many objects and static MACs leaves enough free memory behind to give back.
constexpr std::size_t kLargeRequestBytes = 1U << 20;

std::string name_of_id(const Tables& tables, std::uint32_t port) {
    const auto found = tables.ports.find(port);
    return found != tables.ports.end() ? found->second.name : "";
}

std::string instance_of_id(const Tables& tables, std::uint32_t instance) {
    const auto found = tables.instances.find(instance);
    return found != tables.instances.end() ? found->second.name : "";
}

// The ids under which the data plane was filled last, for an agent whose saved intent is gone: the same names get the
// same ids, and applying the same configuration again disturbs nothing.
Ids ids_last_in_force(const std::string& state_dir) {
    Ids ids;
    const auto tables = load_tables(tables_path(state_dir));
    if (!tables) return ids;
    for (const auto& [id, row] : tables->ports) {
        ids.ports.emplace(row.name, id);
        ids.next_port = id + 1;
    }
    for (const auto& [id, row] : tables->instances) {
        ids.instances.emplace(row.name, id);
        ids.next_instance = id + 1;
    }
    for (const auto& [id, row] : tables->pools) {
        ids.pools.emplace(row.name, id);
        ids.next_pool = id + 1;
    }
    // Whose lists and rules these are is lost: the next ones get other ids.
    for (const auto& [id, list] : tables->acls) {
        ids.acls.emplace(fmt::format("lost {}", id), id);
        for (const auto& [key, rule] : list->rules) ids.rules.emplace(fmt::format("lost {}", rule.rule), rule.rule);
    }
    return ids;
}

// Where the time of a change goes, for --log-level debug.
class Stopwatch {
public:
    void lap(const char* what) {
        const auto now = steady_clock::now();
        text_ += fmt::format(" {} {:.1f} ms", what, std::chrono::duration<double, std::milli>(now - last_).count());
        last_ = now;
    }
    [[nodiscard]] const std::string& text() const { return text_; }

private:
    steady_clock::time_point last_ = steady_clock::now();
    std::string text_;
};

pb::Finding to_pb(const Finding& finding) {
    static constexpr const char* severities[] = {"info", "warning", "error"};
    pb::Finding out;
    out.set_severity(severities[static_cast<std::size_t>(finding.severity)]);
    out.set_id(finding.id);
    out.set_object(finding.object);
    out.set_text(finding.text);
    out.set_fix(finding.fix);
    return out;
}

bool is_of_other(const pb::Object& object) {
    return !object.set().shared_by().empty() || !object.profile().shared_by().empty() ||
           !object.vport_pool().shared_by().empty();
}

// Whether a rule that logs allowed, dropped or redirected, of the intent that holds now.
std::string rule_text(const Intent& intent, std::uint32_t id) {
    if (id == 0) return "the default";
    for (const auto& [key, known] : intent.ids.rules) {
        if (known != id) continue;
        for (const OwnedRule& owned : all_rules(intent.model))
            if (rule_key(owned.owner_kind, owned.owner, owned.name) == key)
                return fmt::format("{} ({})", key, to_text(owned.rule->action()));
        return key;
    }
    return fmt::format("#{}", id);
}

// The data plane's clock in the calendar.
std::string event_time(std::uint64_t time_ns) {
    const std::chrono::nanoseconds age(static_cast<std::int64_t>(now_ns(CLOCK_MONOTONIC) - time_ns));
    return time_text(std::chrono::system_clock::now() -
                     std::chrono::duration_cast<std::chrono::system_clock::duration>(age));
}

}  // namespace

Agent::Agent(Plane& plane, Nics nics, Store store, MacOf mac_of, std::string state_dir)
    : plane_(plane),
      offload_(plane, std::move(nics),
               [this](const std::string& uplink, const std::string& text) { note("offload", uplink, "", text); }),
      store_(std::move(store)),
      mac_of_(std::move(mac_of)),
      state_dir_(std::move(state_dir)),
      announcer_(fabric::frame_sender()),
      exports_(
          [this](const std::function<bool(const FlowRow&)>& sink) -> Result<> {
              if (auto told = tell_flows(); !told) return told;
              return plane_.maps().flows(sink);
          },
          [this](const Capture& capture, const std::function<bool(const pb::CapturePacket&)>& sink) {
              return watch([&] { return capture; }, FrameFilter{},
                           [&](pb::CapturePacket& packet, std::chrono::nanoseconds) { return sink(packet); });
          }) {}

Result<std::unique_ptr<Agent>> Agent::start(Plane& plane, Nics nics, Store store, MacOf mac_of, std::string state_dir,
                                            const std::optional<fabric::Settings>& registry) {
    std::unique_ptr<Agent> agent(
        new Agent(plane, std::move(nics), std::move(store), std::move(mac_of), std::move(state_dir)));
    if (agent->store_.dropped_tail())
        spdlog::warn("{}: the last change had not been acknowledged when the agent ended, and is dropped",
                     intent_path(agent->state_dir_));
    auto saved = agent->store_.take_loaded();
    if (saved) {
        if (registry)
            if (const auto last = load_tables(tables_path(agent->state_dir_)))
                agent->remotes_ = fabric::remotes_in(*last, saved->model, saved->ids);
        auto tables = compile(saved->model, saved->ids, {}, {}, agent->remotes_);
        if (!tables) return std::unexpected(tables.error().in("compile the saved intent"));
        if (auto done = agent->put(*saved, std::move(*tables), false, false); !done)
            return std::unexpected(done.error().in("apply the saved intent"));
        agent->boot_tables_stale_ = true;
        agent->intent_ = std::make_shared<const Intent>(std::move(*saved));
    } else {
        agent->intent_ = std::make_shared<const Intent>(Intent{{}, ids_last_in_force(agent->state_dir_), {}});
    }
    agent->expiry_.watch(agent->intent_->model);
    agent->trim_ = true;
    // What was up before a restart is no event.
    for (const PortStatus& port : plane.status()) {
        agent->up_.emplace(port.name, port.up);
        if (!port.up) agent->note_error(port.name, agent->cause_of(port));
    }
    agent->states_ = agent->instance_states();
    agent->exports_.follow(agent->intent_);
    if (registry) {
        auto id = fabric::host_id(agent->state_dir_);
        if (!id) return std::unexpected(id.error());
        fabric::Settings settings = *registry;
        settings.came_path = agent->state_dir_ + "/came";
        agent->registry_ = std::make_unique<fabric::Registry>(
            std::move(settings), std::move(*id), agent->remotes_,
            [self = agent.get()](Remotes next) { return self->take_remotes(std::move(next)); },
            [self = agent.get()](Shared next) { return self->take_shared(std::move(next)); },
            [self = agent.get()](const std::string& vport, const std::string& text) {
                self->note("registry", vport, "", text);
            },
            [self = agent.get()](const std::string& vport, const std::string& host) {
                return self->withdraw(vport, host);
            },
            [self = agent.get()](const std::string& vport) { self->announce(vport); });
        agent->tell_registry();
    } else if (auto left = agent->take_shared({}); !left.empty()) {
        spdlog::warn("{}, of another host's, stays: {}", left.front().label, left.front().error.text());
    }
    return agent;
}

bool Agent::has_intent() const {
    return has_own(intent()->model);
}

std::shared_ptr<const Intent> Agent::intent() const {
    const std::lock_guard lock(mutex_);
    return intent_;
}

// ---------------------------------------------------------------------------------------- changes

Result<> Agent::put(const Intent& intent, Tables tables, bool strict, bool refuse) {
    add_captures(captures_, tables);
    find_sources(tables);
    return offload_.put(std::move(tables), nic_intents(intent.model, intent.ids), strict, refuse);
}

Result<> Agent::take_remotes(Remotes next) {
    const std::lock_guard lock(mutex_);
    auto tables = compile(intent_->model, intent_->ids, intent_->model, offload_.tables(), next, remotes_);
    if (!tables) return std::unexpected(tables.error());
    if (auto done = put(*intent_, std::move(*tables), false, false); !done) return done;
    remotes_ = std::move(next);
    boot_tables_stale_ = true;
    return {};
}

std::vector<fabric::Registry::NotTaken> Agent::take_shared(Shared next) {
    const std::lock_guard lock(mutex_);
    const auto take = [&](Shared shared) -> Result<> {
        if (same(shared, intent_->model.shared)) return {};
        auto model = next_shared(intent_->model, std::move(shared));
        if (!model) return std::unexpected(model.error());
        if (same(model->shared, intent_->model.shared)) return {};
        if (has_own(*model) && !diff(intent_->model, *model).empty()) return commit(std::move(*model), false);
        // The data plane is told nothing, as nothing of this host's follows; without an own intent it stays as it is.
        auto changed = std::make_shared<Intent>(*intent_);
        if (has_own(*model))
            changed->model = std::move(*model);
        else
            changed->model.shared = std::move(model->shared);
        intent_ = std::move(changed);
        expiry_.watch(intent_->model);
        exports_.follow(intent_);
        tell_registry();
        return {};
    };
    std::vector<fabric::Registry::NotTaken> not_taken;
    if (take(next)) return not_taken;
    // One of them cannot be: the others come one by one.
    for_each_shared_kind([&](auto kind) {
        const auto& wanted = next.*kind.shared;
        std::set<std::string> names;
        for (const auto& [name, object] : intent_->model.shared.*kind.shared) names.insert(name);
        for (const auto& [name, object] : wanted) names.insert(name);
        for (const std::string& name : names) {
            Shared one = intent_->model.shared;
            const auto found = wanted.find(name);
            if (found != wanted.end())
                (one.*kind.shared)[name] = found->second;
            else
                (one.*kind.shared).erase(name);
            if (auto done = take(std::move(one)); !done)
                not_taken.push_back({fmt::format("{} {}", kind.label, name), done.error()});
        }
    });
    return not_taken;
}

void Agent::tell_registry() {
    if (registry_ == nullptr) return;
    std::vector<fabric::registry::Nic> nics;
    for (const auto& [name, uplink] : intent_->model.uplinks) {
        // An interface that is away keeps its MAC: the bindings that tell it are not written anew for that.
        if (auto mac = mac_of_(uplink->netdev())) uplink_macs_[name] = *mac;
        fabric::registry::Nic& nic = nics.emplace_back();
        nic.set_uplink(name);
        nic.set_netdev(uplink->netdev());
        if (const auto mac = uplink_macs_.find(name); mac != uplink_macs_.end()) nic.set_mac(format_mac(mac->second));
    }
    registry_->follow({intent_, &intent_->model}, uplink_macs_, std::move(nics));
}

Result<> Agent::put_again() {
    auto tables = compile(intent_->model, intent_->ids, intent_->model, offload_.tables(), remotes_, remotes_);
    if (!tables) return std::unexpected(tables.error());
    return put(*intent_, std::move(*tables), false, false);
}

Result<> Agent::capture(const pb::CaptureRequest& request,
                        const std::function<bool(const pb::CapturePacket&)>& sink) {
    const auto filter = FrameFilter::compile(request.filter());
    if (!filter) return std::unexpected(filter.error());
    if (request.trace()) {
        // Of no frame in particular: it loads the programs, and where that fails nothing is armed.
        pb::TraceRequest first;
        first.set_port(request.target());
        first.set_frame(std::string(kTraceFrameMin, '\0'));
        if (auto done = trace(first); !done) return std::unexpected(done.error());
    }
    TraceBudget budget;
    std::uint64_t untraced = 0;
    return watch([&] { return plan_capture(intent_->model, intent_->ids, request); }, *filter,
                 [&](pb::CapturePacket& packet, std::chrono::nanoseconds age) {
                     if (request.trace() && !packet.port().empty()) {
                         const auto begun = steady_clock::now();
                         if (!budget.take(begun, age)) {
                             ++untraced;
                             return true;
                         }
                         pb::TraceRequest one;
                         one.set_port(request.target());
                         one.set_frame(packet.data());
                         if (auto told = trace(one))
                             *packet.mutable_trace() = std::move(*told);
                         else
                             packet.set_trace_error(told.error().text());
                         budget.spend(steady_clock::now() - begun);
                     }
                     packet.set_untraced(untraced);
                     if (request.snap_bytes() != 0 && packet.data().size() > request.snap_bytes())
                         packet.mutable_data()->resize(request.snap_bytes());
                     return sink(packet);
                 });
}

Result<> Agent::watch(const std::function<Result<Capture>()>& plan, const FrameFilter& filter,
                      const std::function<bool(pb::CapturePacket&, std::chrono::nanoseconds)>& sink) {
    CaptureReader reader;
    std::uint32_t session = 0;
    {
        const std::lock_guard lock(mutex_);
        auto capture = plan();
        if (!capture) return std::unexpected(capture.error());
        auto free = free_session(plane_.tables());
        if (!free) return std::unexpected(free.error());
        session = *free;
        auto ring = plane_.make_ring(session, kCaptureRingBytes);
        if (!ring) return std::unexpected(ring.error());
        if (auto opened = reader.open(*ring); !opened) return opened;
        captures_.emplace(session, std::move(*capture));
        if (auto done = put_again(); !done) {
            captures_.erase(session);
            return done;
        }
    }
    const auto name = [&](std::uint32_t port) {
        const std::lock_guard lock(mutex_);
        return name_of_id(plane_.tables(), port);
    };
    const auto lost = [&]() -> std::uint64_t {
        const auto stats = plane_.maps().mirror_stats(session);
        return stats ? stats->refused : 0;
    };
    reader.run(filter, name, lost, sink);
    const std::lock_guard lock(mutex_);
    captures_.erase(session);
    return put_again();
}

Result<pb::MirrorsReply> Agent::mirrors(const pb::MirrorsRequest& request) const {
    const std::lock_guard lock(mutex_);
    if (!request.name().empty() && !intent_->model.mirrors.contains(request.name()))
        return fail(Code::not_found, "IVDS-M027", fmt::format("there is no mirror {}", request.name()),
                    "`ivds-ctl mirror list` shows all");
    pb::MirrorsReply reply;
    for (const auto& [session, row] : plane_.tables().mirrors) {
        const auto mirror = intent_->model.mirrors.find(row.name);
        if (mirror == intent_->model.mirrors.end() || is_capture(row) ||
            (!request.name().empty() && request.name() != row.name))
            continue;
        const auto stats = plane_.maps().mirror_stats(session);
        if (!stats) return std::unexpected(stats.error());
        *reply.add_mirrors() = mirror_state(*mirror->second, session, row.value, *stats);
    }
    return reply;
}

Result<pb::InspectorsReply> Agent::inspectors(const pb::InspectorsRequest& request) const {
    const std::lock_guard lock(mutex_);
    if (!request.name().empty() && !intent_->model.inspectors.contains(request.name()))
        return fail(Code::not_found, "IVDS-M027", fmt::format("there is no inspector {}", request.name()),
                    "`ivds-ctl inspector list` shows all");
    pb::InspectorsReply reply;
    for (const PortStatus& port : plane_.status()) {
        const ivds_port& value = plane_.tables().ports.at(port.id).value;
        if (value.kind != IVDS_PORT_INSPECTOR || (!request.name().empty() && request.name() != port.name)) continue;
        const auto state = plane_.maps().inspector(port.id);
        if (!state) return std::unexpected(state.error());
        *reply.add_inspectors() = inspector_state(port, value, *state, now_ns(CLOCK_MONOTONIC));
    }
    return reply;
}

Result<pb::OffloadReply> Agent::offload(const pb::OffloadRequest& request) const {
    const std::lock_guard lock(mutex_);
    auto reply = offload_.view(request, intent_->model, intent_->ids);
    if (!reply) return reply;
    for (pb::OffloadNic& nic : *reply->mutable_nics()) {
        const auto stats = plane_.maps().port_stats(intent_->ids.ports.at(nic.uplink()));
        if (!stats) return std::unexpected(stats.error());
        *nic.mutable_software() = counters_of(*stats);
    }
    return reply;
}

// The walk takes its time: it goes over copies, and changes go on meanwhile.
Result<pb::VerifyReply> Agent::verify(const pb::VerifyRequest& request) const {
    std::vector<std::unique_ptr<Offload::Look>> looks;
    Result<Pinned> pinned = Pinned{};
    std::map<std::uint32_t, std::string> ports;
    std::map<std::uint32_t, std::string> instances;
    {
        const std::lock_guard lock(mutex_);
        if (!request.uplink().empty() && !intent_->model.uplinks.contains(request.uplink()))
            return fail(Code::not_found, "IVDS-O024", fmt::format("there is no uplink {}", request.uplink()),
                        "ivds-ctl uplink list");
        auto seen = offload_.look(request.uplink());
        if (!seen) return std::unexpected(seen.error());
        looks = std::move(*seen);
        if (!looks.empty()) pinned = pinned_tables(plane_.maps(), plane_.tables());
        if (!pinned) return std::unexpected(pinned.error());
        ports = names_by_id(intent_->ids.ports);
        instances = names_by_id(intent_->ids.instances);
    }
    pb::VerifyReply reply;
    for (const auto& look : looks) {
        const offload::verify::Verifier verifier({.tables = pinned->tables,
                                                  .device = look->device,
                                                  .told = pinned->told,
                                                  .port_names = &ports,
                                                  .instance_names = &instances});
        *reply.add_verdicts() = view_verdict(look->uplink, verifier.check(*look->nic));
    }
    return reply;
}

Result<pb::ExportersReply> Agent::exporters(const pb::ExportersRequest& request) const {
    const std::lock_guard lock(mutex_);
    if (!request.name().empty() && !intent_->model.exporters.contains(request.name()))
        return fail(Code::not_found, "IVDS-M027", fmt::format("there is no exporter {}", request.name()),
                    "`ivds-ctl exporter list` shows all");
    pb::ExportersReply reply;
    for (pb::ExporterState& state : exports_.states())
        if (request.name().empty() || request.name() == state.name()) *reply.add_exporters() = std::move(state);
    return reply;
}

Result<> Agent::commit(Model next_model, bool strict, std::shared_ptr<const Prepared> prepared) {
    Stopwatch watch;
    auto ids = assign_ids(next_model, intent_->ids);
    if (!ids) return std::unexpected(ids.error());
    auto came = came_s(next_model, intent_->model, intent_->came_s, calendar_s());
    auto all_prepared = intent_->prepared;
    if (prepared != nullptr) {
        take_ages(prepared->migration, intent_->model, calendar_s(), came);
        const std::string name = prepared->migration.vport().name();
        all_prepared[name] = std::move(prepared);
    }
    std::erase_if(all_prepared, [&](const auto& entry) {
        const auto vport = next_model.vports.find(entry.first);
        return vport == next_model.vports.end() || vport->second->state() != pb::VPort::PREPARED;
    });
    auto next = std::make_shared<const Intent>(
        Intent{std::move(next_model), std::move(*ids), std::move(came), std::move(all_prepared)});

    const auto changes = diff(intent_->model, next->model);
    if (registry_ != nullptr)
        if (auto free = registry_->check(next->model, intent_->model); !free) return free;
    auto tables = compile(next->model, next->ids, intent_->model, offload_.tables(), remotes_, remotes_);
    if (!tables) return std::unexpected(tables.error());
    watch.lap("compile");
    if (auto done = put(*next, std::move(*tables), strict, true); !done) return done;
    watch.lap("data plane");
    if (changes.empty() && next->ids == intent_->ids && next->prepared == intent_->prepared) return {};

    if (auto saved = store_.save(*intent_, *next); !saved) {
        auto before = compile(intent_->model, intent_->ids, next->model, offload_.tables(), remotes_, remotes_);
        auto undone = before ? put(*intent_, std::move(*before), false, false)
                             : Result<>(std::unexpected(std::move(before.error())));
        Error error = saved.error().in("save the change, which is undone");
        if (!undone) {
            error = saved.error().in("save the change");
            error.what += "; and undoing it failed: " + undone.error().text();
            // The data plane holds lists of the change: their ids are not given to others.
            auto burnt = std::make_shared<Intent>(*intent_);
            burnt->ids.next_acl = next->ids.next_acl;
            burnt->ids.next_rule = next->ids.next_rule;
            intent_ = std::move(burnt);
            boot_tables_stale_ = true;
        }
        return std::unexpected(error);
    }
    watch.lap("disk");
    const auto before = std::exchange(intent_, std::move(next));
    expiry_.watch(intent_->model);
    exports_.follow(intent_);
    tell_registry();
    boot_tables_stale_ = true;

    std::size_t created = 0;
    std::size_t deleted = 0;
    for (const pb::Change& change : changes) {
        created += change.verb() == "create" ? 1 : 0;
        deleted += change.verb() == "delete" ? 1 : 0;
    }
    note("applied", "", "",
         fmt::format("{} created, {} updated, {} deleted", created, changes.size() - created - deleted, deleted));
    note_ports();
    note_instances(before->model);
    watch.lap("events");
    spdlog::debug("change took{}", watch.text());
    return {};
}

IsBound Agent::bound_elsewhere() const {
    if (registry_ == nullptr) return {};
    // Most changes hand out nothing, and ask for nothing.
    return [this, macs = std::optional<std::unordered_set<std::uint64_t>>()](const Mac& mac) mutable {
        if (!macs) macs = registry_->macs_of_others();
        return macs->contains(to_number(mac));
    };
}

Result<pb::ApplyReply> Agent::apply(pb::ApplyRequest request) {
    const bool large = request.ByteSizeLong() > kLargeRequestBytes;
    const std::lock_guard lock(mutex_);
    trim_ = trim_ || large;
    auto next = next_from_config(intent_->model, std::move(*request.mutable_config()), mac_of_, bound_elsewhere());
    if (!next) return std::unexpected(next.error());

    pb::ApplyReply reply;
    for (pb::Change& change : diff(intent_->model, *next)) *reply.add_changes() = std::move(change);
    if (request.dry_run()) {
        const auto ids = assign_ids(*next, intent_->ids);
        if (!ids) return std::unexpected(ids.error());
        if (registry_ != nullptr)
            if (auto free = registry_->check(*next, intent_->model); !free) return std::unexpected(free.error());
        const auto tables = compile(*next, *ids, intent_->model, offload_.tables(), remotes_, remotes_);
        if (!tables) return std::unexpected(tables.error());
    } else {
        if (auto done = commit(std::move(*next), request.strict()); !done) return std::unexpected(done.error());
        for (const PortStatus& port : plane_.status()) {
            if (port.netdev.empty() || (port.ifindex != 0 && port.got != "none")) continue;
            *reply.add_findings() = to_pb({.severity = Finding::Severity::warning,
                                           .id = "IVDS-A001",
                                           .object = port.name,
                                           .text = fmt::format("{} is not attached: {}", port.netdev, port.reason),
                                           .fix = "it will be attached by itself when the interface is there"});
        }
    }
    reply.set_generation(plane_.generation());
    return reply;
}

pb::Config Agent::export_config() const {
    return to_config(intent()->model);
}

Result<pb::Object> Agent::create(pb::Object object) {
    const std::lock_guard lock(mutex_);
    pb::Ref ref;
    ref.set_kind(kind_of(object));
    ref.set_name(name_of(object));
    const auto existing = ivds::get(intent_->model, ref);
    auto next = next_with(intent_->model, std::move(object), mac_of_, bound_elsewhere());
    if (!next) return std::unexpected(next.error());
    // One of another host's by the name is no reason: this host's own takes its place here.
    if (existing && !is_of_other(*existing) && !diff(intent_->model, *next).empty())
        return fail(Code::exists, "IVDS-M026",
                    fmt::format("{} {} exists, and is another one", to_text(ref.kind()), ref.name()),
                    "update it, or choose another name");
    if (auto done = commit(std::move(*next), false); !done) return std::unexpected(done.error());
    return ivds::get(intent_->model, ref);
}

Result<pb::Object> Agent::update(pb::Object object) {
    const std::lock_guard lock(mutex_);
    pb::Ref ref;
    ref.set_kind(kind_of(object));
    ref.set_name(name_of(object));
    if (auto existing = ivds::get(intent_->model, ref); !existing) return existing;
    auto next = next_with(intent_->model, std::move(object), mac_of_, bound_elsewhere());
    if (!next) return std::unexpected(next.error());
    if (auto done = commit(std::move(*next), false); !done) return std::unexpected(done.error());
    return ivds::get(intent_->model, ref);
}

Result<pb::Done> Agent::remove(const pb::Ref& ref) {
    const std::lock_guard lock(mutex_);
    auto next = next_without(intent_->model, ref);
    if (!next) return std::unexpected(next.error());
    if (auto done = commit(std::move(*next), false); !done) return std::unexpected(done.error());
    pb::Done reply;
    reply.set_generation(plane_.generation());
    return reply;
}

Result<pb::VmacReply> Agent::reserve_vmac(const pb::VmacRequest& request) {
    const std::lock_guard lock(mutex_);
    std::string vmac = request.vmac();
    auto next = next_reserved(intent_->model, request.pool(), vmac, bound_elsewhere());
    if (!next) return std::unexpected(next.error());
    if (auto done = commit(std::move(*next), false); !done) return std::unexpected(done.error());
    pb::VmacReply reply;
    reply.set_vmac(vmac);
    return reply;
}

Result<pb::Done> Agent::release_vmac(const pb::VmacRequest& request) {
    const std::lock_guard lock(mutex_);
    auto next = next_released(intent_->model, request.pool(), request.vmac());
    if (!next) return std::unexpected(next.error());
    if (auto done = commit(std::move(*next), false); !done) return std::unexpected(done.error());
    pb::Done reply;
    reply.set_generation(plane_.generation());
    return reply;
}

Result<pb::FlushReply> Agent::flush(const pb::FlushRequest& request) {
    const std::lock_guard lock(mutex_);
    const auto find = [](const auto& ids, const std::string& name, const char* label) -> Result<std::uint32_t> {
        const auto found = ids.find(name);
        if (found != ids.end()) return found->second;
        return fail(Code::not_found, "IVDS-M027", fmt::format("there is no {} {}", label, name),
                    "`ivds-ctl show all` shows what there is");
    };
    pb::FlushReply reply;
    Result<std::uint32_t> removed = 0;
    if (!request.port().empty() && request.instance().empty() && request.mac().empty()) {
        const auto port = find(intent_->ids.ports, request.port(), "uplink or vport");
        if (!port) return std::unexpected(port.error());
        removed = plane_.flush_port(*port);
    } else if (!request.instance().empty() && request.port().empty()) {
        const auto instance = find(intent_->ids.instances, request.instance(), "instance");
        if (!instance) return std::unexpected(instance.error());
        if (request.mac().empty()) {
            removed = plane_.flush_instance(*instance);
        } else {
            const auto mac = parse_mac(request.mac());
            if (!mac) return std::unexpected(mac.error());
            if (auto done = plane_.forget(*instance, *mac); !done) return std::unexpected(done.error());
            removed = 1;
        }
    } else {
        return fail(Code::invalid, "IVDS-A002", "flush what?",
                    "give an instance, or a port, or an instance and a MAC");
    }
    if (!removed) return std::unexpected(removed.error());
    reply.set_removed(*removed);
    return reply;
}

// ---------------------------------------------------------------------------------------- reading

Result<pb::Object> Agent::get(const pb::Ref& ref) const {
    return ivds::get(intent()->model, ref);
}

pb::ObjectList Agent::list(pb::Kind kind) const {
    return ivds::list(intent()->model, kind);
}

template <class View>
auto Agent::with_source(const std::set<std::string>& netdevs, bool thorough, View&& view) const {
    offload_.count();
    const auto ports = plane_.status();
    // A kernel that does not say is no reason to say nothing: what only it knows stays empty.
    const auto interfaces = plane_.look(netdevs, thorough);
    return view(ViewSource{intent_->model, intent_->ids, plane_.maps(), &ports, interfaces ? &*interfaces : nullptr});
}

template <class Reply>
void Agent::add_errors(Result<Reply>& reply) const {
    if (!reply) return;
    for (pb::PortState& port : *reply->mutable_ports()) {
        const auto found = errors_.find(port.name());
        if (found == errors_.end()) continue;
        port.set_last_error(found->second.first);
        port.set_last_error_time(found->second.second);
    }
}

Result<pb::StatusReply> Agent::status() const {
    const std::lock_guard lock(mutex_);
    auto reply = with_source(interfaces_of(intent_->model), false, view_status);
    add_errors(reply);
    if (reply) {
        const auto up = std::chrono::duration_cast<std::chrono::seconds>(steady_clock::now() - started_).count();
        reply->set_uptime_s(static_cast<std::uint64_t>(std::max<std::int64_t>(up, 1)));
        if (registry_ != nullptr)
            for (pb::TenantState& tenant : *reply->mutable_tenants())
                tenant.set_fabric_bindings(registry_->bindings_of(tenant.name()));
    }
    return reply;
}

Result<pb::StatsReply> Agent::stats() const {
    const std::lock_guard lock(mutex_);
    auto reply = with_source(interfaces_of(intent_->model), false, view_stats);
    add_errors(reply);
    return reply;
}

Result<pb::NicReply> Agent::nics(const pb::NicRequest& request) const {
    const std::lock_guard lock(mutex_);
    return with_source(interfaces_of(intent_->model, request), true,
                       [&](const ViewSource& source) -> Result<pb::NicReply> {
                           auto status = view_status(source);
                           if (!status) return std::unexpected(status.error());
                           add_errors(status);
                           return view_nics(source, *status, request);
                       });
}

Result<pb::MapReply> Agent::map(const pb::MapRequest& request) const {
    const std::lock_guard lock(mutex_);
    return with_source(interfaces_of(intent_->model, request), true,
                       [&](const ViewSource& source) -> Result<pb::MapReply> {
                           const auto status = view_status(source);
                           if (!status) return std::unexpected(status.error());
                           return view_map(source, *status, request);
                       });
}

// A million entries take their time: the names of one moment do, and changes go on meanwhile.
Result<> Agent::fdb(const pb::FdbRequest& request, const std::function<bool(const pb::FdbEntry&)>& sink) const {
    const auto held = intent();
    return view_fdb({held->model, held->ids, plane_.maps()}, request, sink);
}

// The registry's thread does not wait for whoever reads: a part of the bindings at a time is copied under its lock.
Result<> Agent::bindings(const pb::BindingsRequest& request,
                         const std::function<bool(const pb::BindingEntry&)>& sink) const {
    constexpr std::size_t part = 4096;
    const auto held = intent();
    if (!request.instance().empty() && !held->model.instances.contains(request.instance()))
        return no_such("instance", request.instance());
    std::string vmac;
    if (!request.vmac().empty()) {
        const auto mac = parse_mac(request.vmac());
        if (!mac) return std::unexpected(mac.error());
        vmac = format_mac(*mac);
    }
    std::map<fabric::Network, std::string> instances;
    for (const auto& [name, instance] : held->model.instances)
        for (const fabric::Network& network : fabric::networks_of(held->model, *instance))
            instances.emplace(network, name);
    const auto show = [&](const fabric::BindingKey& key, const fabric::registry::Binding& binding) {
        const auto instance = instances.find(key.network);
        const std::string& here = instance != instances.end() ? instance->second : std::string();
        const auto differs = [](const std::string& wanted, const std::string& is) {
            return !wanted.empty() && wanted != is;
        };
        if (differs(request.instance(), here) || differs(request.vport(), binding.vport()) ||
            differs(vmac, binding.vmac()) || differs(request.host(), binding.host()) ||
            differs(request.tenant(), binding.tenant()))
            return true;
        pb::BindingEntry entry;
        entry.set_vvlan(binding.vvlan());
        entry.set_vmac(binding.vmac());
        entry.set_vport(binding.vport());
        entry.set_physical_mac(binding.physical_mac());
        entry.set_vlan(binding.vlan());
        entry.set_host(binding.host());
        entry.set_generation(binding.generation());
        entry.set_moved_from(binding.moved_from());
        *entry.mutable_addresses() = binding.addresses();
        entry.set_network(fabric::to_text(key.network));
        entry.set_instance(here);
        entry.set_tenant(binding.tenant());
        return sink(entry);
    };
    if (registry_ == nullptr) {
        fabric::UplinkMacs macs;
        for (const auto& [name, uplink] : held->model.uplinks)
            if (const auto mac = mac_of_(uplink->netdev())) macs[name] = *mac;
        for (const fabric::Claim& claim : fabric::claims_of(held->model, "", macs))
            if (!claim.waits && !show(claim.key, claim.binding)) break;
        return {};
    }
    std::optional<fabric::BindingKey> last;
    while (true) {
        const auto page = registry_->page(last ? &*last : nullptr, part);
        for (const auto& [key, binding] : page)
            if (!show(key, binding)) return {};
        if (page.size() < part) return {};
        last = page.back().first;
    }
}

Result<> Agent::neighbours(const pb::NeighboursRequest& request,
                           const std::function<bool(const pb::NeighbourEntry&)>& sink) const {
    const auto held = intent();
    return view_neighbours({held->model, held->ids, plane_.maps()}, request, sink);
}

Result<> Agent::tell_flows() {
    const std::lock_guard lock(mutex_);
    if (auto swept = plane_.sweep(); !swept) return std::unexpected(swept.error());
    return {};
}

Result<> Agent::flows(const pb::FlowsRequest& request, const std::function<bool(const pb::FlowState&)>& sink) {
    if (auto told = tell_flows(); !told) return told;
    const auto held = intent();
    return view_flows({held->model, held->ids, plane_.maps()}, request, sink);
}

Result<pb::FlushReply> Agent::flush_flows(const pb::FlowsRequest& request) {
    const std::lock_guard lock(mutex_);
    if (request.vport().empty() == request.instance().empty())
        return fail(Code::invalid, "IVDS-A002", "flush what?", "give either a vport or an instance");
    std::uint32_t port = 0;
    std::uint32_t instance = 0;
    if (request.instance().empty()) {
        if (!intent_->model.vports.contains(request.vport()))
            return fail(Code::not_found, "IVDS-M027", fmt::format("there is no vport {}", request.vport()),
                        "`ivds-ctl vport list` shows all");
        port = intent_->ids.ports.at(request.vport());
    } else {
        const auto found = intent_->ids.instances.find(request.instance());
        if (found == intent_->ids.instances.end())
            return fail(Code::not_found, "IVDS-M027", fmt::format("there is no instance {}", request.instance()),
                        "`ivds-ctl instance list` shows all");
        instance = found->second;
    }
    const auto removed = plane_.flush_flows(port, instance);
    if (!removed) return std::unexpected(removed.error());
    pb::FlushReply reply;
    reply.set_removed(*removed);
    return reply;
}

Result<pb::DoctorReply> Agent::doctor(const pb::DoctorRequest& request) {
    const std::lock_guard lock(mutex_);
    if (request.mend())
        if (auto done = plane_.mend(); !done) return std::unexpected(done.error().in("mend the tables"));
    pb::DoctorReply reply;
    for (const Finding& finding : plane_.doctor()) *reply.add_findings() = to_pb(finding);
    if (registry_ != nullptr)
        for (const Finding& finding : registry_->findings()) *reply.add_findings() = to_pb(finding);
    for (const auto& look : look_too_)
        if (const auto finding = look()) *reply.add_findings() = to_pb(*finding);
    for (const auto& [name, vport] : intent_->model.vports)
        if (vport->state() != pb::VPort::ACTIVE) *reply.add_findings() = to_pb(look_at_absent(*vport));
    return reply;
}

Result<pb::HostsReply> Agent::hosts() const {
    if (registry_ == nullptr) return std::unexpected(fabric::no_registry());
    return registry_->hosts();
}

Result<pb::TraceReply> Agent::trace(const pb::TraceRequest& request) {
    const std::lock_guard lock(mutex_);
    const auto id = intent_->ids.ports.find(request.port());
    if (id == intent_->ids.ports.end() || intent_->model.inspectors.contains(request.port()))
        return fail(Code::not_found, "IVDS-M027", fmt::format("there is no uplink or vport {}", request.port()),
                    "'ivds-ctl show all' lists them");
    if (const auto vport = intent_->model.vports.find(request.port());
        vport != intent_->model.vports.end() && !vport->second->trunk().empty())
        return fail(Code::invalid, "IVDS-A022",
                    fmt::format("vport {} is behind a trunk: no frame comes in by it as it is", request.port()),
                    fmt::format("trace vport {}, with a frame that has the tag {}", vport->second->trunk(),
                                trunk_vid(intent_->model, *vport->second)));
    const std::span frame(reinterpret_cast<const std::uint8_t*>(request.frame().data()), request.frame().size());
    std::string uplink = request.port();
    if (const auto vport = intent_->model.vports.find(request.port()); vport != intent_->model.vports.end()) {
        const auto instance = intent_->model.instances.find(vport->second->instance());
        uplink = instance == intent_->model.instances.end() ? "" : instance->second->uplink();
    }
    const auto nic = intent_->ids.ports.find(uplink);
    if (nic != intent_->ids.ports.end() && offload_.is_on(nic->second) && frame.size() >= kTraceFrameMin)
        return trace_with_nic(uplink, id->second, frame);
    const auto rungs = trace_in_software(id->second, frame);
    if (!rungs) return std::unexpected(rungs.error());
    return view_trace(intent_->model, intent_->ids, *rungs);
}

Result<std::vector<RungTrace>> Agent::trace_in_software(std::uint32_t port, std::span<const std::uint8_t> frame) {
    const auto ports = plane_.status();
    const auto at = std::ranges::find(ports, port, &PortStatus::id);
    const bool xdp = at != ports.end() && (at->got.starts_with("native") || at->got.starts_with("generic"));
    return plane_.trace(port, frame, xdp);
}

// Software's own sources tell of what it gets: of a VF or the wire what the NIC gives to the PF, if anything.
Result<pb::TraceReply> Agent::trace_with_nic(const std::string& uplink, std::uint32_t port,
                                             std::span<const std::uint8_t> frame) {
    namespace verify = offload::verify;
    const auto looks = offload_.look(uplink);
    if (!looks) {
        if (plane_.tables().ports.at(port).value.kind == IVDS_PORT_VF) return std::unexpected(looks.error());
        const auto rungs = trace_in_software(port, frame);
        if (!rungs) return std::unexpected(rungs.error());
        pb::TraceReply reply = view_trace(intent_->model, intent_->ids, *rungs);
        reply.mutable_nic()->set_uplink(uplink);
        reply.mutable_nic()->set_error(looks.error().text());
        return reply;
    }
    const Offload::Look& look = *looks->front();
    const auto pinned = pinned_tables(plane_.maps(), plane_.tables());
    if (!pinned) return std::unexpected(pinned.error());
    const auto ports = names_by_id(intent_->ids.ports);
    const auto instances = names_by_id(intent_->ids.instances);
    const verify::Verifier verifier({.tables = pinned->tables,
                                     .device = look.device,
                                     .told = pinned->told,
                                     .port_names = &ports,
                                     .instance_names = &instances});

    verify::Probe probe{.enter = {.by = verify::Enter::By::port, .port = port}, .frame = verify::parse(frame)};
    if (const auto vf = look.device.pools.find(port); vf != look.device.pools.end())
        probe.enter = {.by = verify::Enter::By::pool, .port = port, .pool = vf->second};
    else if (port == look.device.uplink)
        probe.enter.by = verify::Enter::By::uplink;

    Result<std::vector<RungTrace>> rungs;
    if (probe.enter.by == verify::Enter::By::port)
        rungs = trace_in_software(port, frame);
    else if (const auto taken = verifier.given_to_software(*look.nic, probe))
        rungs = trace_in_software(look.device.uplink, verify::with_tags(frame, taken->tags));
    if (!rungs) return std::unexpected(rungs.error());
    pb::TraceReply reply = view_trace(intent_->model, intent_->ids, *rungs);
    reply.mutable_nic()->set_uplink(uplink);
    view_nic_trace(verifier, *look.nic, probe, *reply.mutable_nic());
    return reply;
}

Result<pb::RulesReply> Agent::rules(const pb::RulesRequest& request) {
    if (auto told = tell_flows(); !told) return std::unexpected(told.error());
    const std::lock_guard lock(mutex_);
    const auto counts = plane_.maps().rule_stats();
    if (!counts) return std::unexpected(counts.error());
    return view_rules(intent_->model, intent_->ids, *counts, request);
}

std::string Agent::summary() const {
    const std::lock_guard lock(mutex_);
    const auto up = std::ranges::count_if(up_, [](const auto& entry) { return entry.second; });
    return fmt::format("{} instances, {} vPorts, {} of {} ports up", intent_->model.instances.size(),
                       intent_->model.vports.size(), up, up_.size());
}

// ---------------------------------------------------------------------------------------- events

void Agent::note(const char* kind, const std::string& port, const std::string& instance, const std::string& text) {
    pb::Event event;
    event.set_kind(kind);
    event.set_port(port);
    event.set_instance(instance);
    event.set_text(text);
    spdlog::info("{}{}{}: {}", kind, port.empty() ? "" : " " + port, instance.empty() ? "" : " " + instance, text);
    events_.push(std::move(event));
}

void Agent::note_error(const std::string& port, const std::string& text) {
    errors_[port] = {text, time_text(std::chrono::system_clock::now())};
}

// Why a port is not up: it has no hooks, or its interface has no link.
std::string Agent::cause_of(const PortStatus& port) const {
    if (port.ifindex == 0 || port.got == "none") return port.reason;
    const auto interfaces = plane_.look({port.netdev}, false);
    if (!interfaces) return interfaces.error().text();
    const auto found = interfaces->find(port.netdev);
    const std::string link = link_text(found == interfaces->end() ? nullptr : &found->second);
    if (link == "away") return "interface vanished";
    return link == "down" ? "interface set down" : link == "up" ? port.reason : "no carrier";
}

void Agent::note_ports(const std::map<std::string, std::string>& reasons) {
    std::map<std::string, bool> up;
    for (const PortStatus& port : plane_.status()) {
        up.emplace(port.name, port.up);
        const auto before = up_.find(port.name);
        const bool was_up = before != up_.end() && before->second;
        const auto reason = reasons.find(port.name);
        if (!port.up && (was_up || before == up_.end() || reason != reasons.end()))
            note_error(port.name, reason != reasons.end() ? reason->second : cause_of(port));
        if (port.up == was_up) continue;
        const auto vport = intent_->model.vports.find(port.name);
        const std::string instance = vport != intent_->model.vports.end() ? vport->second->instance() : "";
        const std::string why = reason != reasons.end() ? reason->second : port.up ? port.got : cause_of(port);
        note(port.up ? "port_up" : "port_down", port.name, instance,
             port.netdev.empty() ? why : fmt::format("{}: {}", port.netdev, why));
    }
    for (const auto& [name, was_up] : up_) {
        if (up.contains(name)) continue;
        if (was_up) note("port_down", name, "", "deleted");
        errors_.erase(name);
    }
    up_ = std::move(up);
}

std::map<std::string, std::string> Agent::instance_states() const {
    std::map<std::string, std::pair<std::uint32_t, std::uint32_t>> members;
    for (const auto& [name, vport] : intent_->model.vports) {
        auto& [all, up] = members[vport->instance()];
        ++all;
        const auto found = up_.find(name);
        if (found != up_.end() && found->second) ++up;
    }
    std::map<std::string, std::string> states;
    for (const auto& [name, instance] : intent_->model.instances) {
        const auto found = members.find(name);
        const auto [all, up] = found != members.end() ? found->second : std::pair(0U, 0U);
        states.emplace(name, instance_state_text(*instance, all, up));
    }
    return states;
}

void Agent::note_instances(const Model& before) {
    auto states = instance_states();
    for (const auto& [name, state] : states) {
        const auto old = states_.find(name);
        if (old == states_.end())
            note("instance_state", "", name, state);
        else if (old->second != state)
            note("instance_state", "", name, fmt::format("{} -> {}", old->second, state));
    }
    for (const auto& [name, instance] : before.instances)
        if (!states.contains(name)) note("instance_state", "", name, "deleted");
    states_ = std::move(states);
}

void Agent::on_watch() {
    const std::lock_guard lock(mutex_);
    follow_ports();
}

void Agent::follow_ports() {
    std::map<std::string, std::string> reasons;
    for (PortChange& change : plane_.on_watch()) reasons[change.name] = std::move(change.reason);
    if (reasons.empty()) return;
    note_ports(reasons);
    note_instances(intent_->model);
    tell_registry();
}

void Agent::on_events() {
    const std::lock_guard lock(mutex_);
    const Tables& tables = plane_.tables();
    // The six-tuple begins with the networks that the frame is in.
    const auto frame_text = [&](const ivds_event& raw) {
        const auto found = intent_->model.instances.find(instance_of_id(tables, raw.instance));
        if (found == intent_->model.instances.end()) return fields_text(raw.fields);
        return fmt::format("VLAN {}, V.VLAN {}, {}", outer_vlan(intent_->model, *found->second),
                           found->second->vvlan(), fields_text(raw.fields));
    };
    plane_.on_events([&](const ivds_event& raw) {
        Mac mac{};
        std::ranges::copy(raw.mac, mac.begin());
        pb::Event event;
        event.set_time(event_time(raw.time_ns));
        event.set_kind(event_id(raw.kind));
        event.set_port(name_of_id(tables, raw.port));
        event.set_instance(instance_of_id(tables, raw.instance));
        event.set_mac(format_mac(mac));
        switch (raw.kind) {
            case IVDS_EVENT_SPOOF:
                event.set_text("a frame with a source that is not the port's was dropped");
                break;
            case IVDS_EVENT_MOVE:
                event.set_text(fmt::format("moved here from {}", name_of_id(tables, raw.other_port)));
                break;
            case IVDS_EVENT_LIMIT:
                event.set_text("not learned: the limit of the port or of the instance is reached");
                break;
            case IVDS_EVENT_FDB_FULL:
                event.set_text("not learned: the FDB is full");
                break;
            case IVDS_EVENT_UNREGISTERED:
                event.set_text("a frame from the wire of a source that is not registered was dropped");
                break;
            case IVDS_EVENT_FLOW_LIMIT:
                event.set_mac(mac_text(raw.fields.src_mac));
                event.set_text(fmt::format(
                    "no flow entry for {}: the vPort has as many as it may, or the table is full", frame_text(raw)));
                break;
            case IVDS_EVENT_RULE:
                event.set_mac(mac_text(raw.fields.src_mac));
                event.set_text(fmt::format("{}: {}", rule_text(*intent_, raw.rule), frame_text(raw)));
                break;
            default:
                break;
        }
        events_.push(std::move(event));
    });
}

void Agent::tick() {
    {
        const std::lock_guard lock(mutex_);
        if (steady_clock::now() >= next_sweep_) {
            next_sweep_ = steady_clock::now() + sweep_period(intent_->model);
            if (auto swept = plane_.sweep(); !swept) spdlog::warn("ageing: {}", swept.error().text());
            // Routes come and go: the source of copies in ERSPAN goes with them.
            if (sources_changed(plane_.tables()))
                if (auto done = put_again(); !done) spdlog::warn("mirrors: {}", done.error().text());
        }
        remove_expired_rules();
        offload_.tick();
        exports_.reap();
        if (auto done = store_.compact_if_long(*intent_); !done) spdlog::warn("{}", done.error().text());
    }
    save_boot_tables();
    bool trim = false;
    {
        const std::lock_guard lock(mutex_);
        trim = std::exchange(trim_, false);
    }
    if (trim) ::malloc_trim(0);
}

// A rule that cannot go now goes at the next look. All that are due of one owner go together.
void Agent::remove_expired_rules() {
    const auto due = expiry_.due(
        intent_->ids, intent_->came_s, [&](std::uint32_t rule) { return plane_.decided(rule); }, calendar_s());
    std::map<std::pair<pb::Kind, std::string>, std::map<std::string, std::string>> by_owner;  // name -> why
    for (const RuleExpiry::Due& each : due)
        by_owner[{each.rule.owner_kind, each.rule.owner}].emplace(each.rule.name, each.why);
    for (const auto& [owner, names] : by_owner) {
        pb::Ref ref;
        ref.set_kind(owner.first);
        ref.set_name(owner.second);
        auto object = ivds::get(intent_->model, ref);
        if (!object) continue;
        RuleList& rules = owner.first == pb::VPORT     ? *object->mutable_vport()->mutable_rules()
                          : owner.first == pb::PROFILE ? *object->mutable_profile()->mutable_rules()
                                                       : *object->mutable_instance()->mutable_rules();
        // Rules that go have a name; those that have none are called by their place, and stay.
        rules.erase(std::remove_if(rules.begin(), rules.end(),
                                   [&](const pb::Rule& rule) { return names.contains(rule.name()); }),
                    rules.end());
        auto next = next_with(intent_->model, std::move(*object), mac_of_);
        const auto done = next ? commit(std::move(*next), false) : Result<>(std::unexpected(next.error()));
        for (const auto& [name, why] : names) {
            const std::string key = rule_key(owner.first, owner.second, name);
            if (done)
                note("rule_expired", owner.first == pb::VPORT ? owner.second : "",
                     owner.first == pb::INSTANCE ? owner.second : "", fmt::format("{} removed: {}", key, why));
            else
                spdlog::warn("remove the rule {}, whose time is over: {}", key, done.error().text());
        }
    }
}

// Written without the lock: it takes its time, and only the main loop does it.
void Agent::save_boot_tables() {
    Tables tables;
    {
        const std::lock_guard lock(mutex_);
        if (!std::exchange(boot_tables_stale_, false)) return;
        tables = without_captures(plane_.tables());
    }
    if (auto saved = save_tables(tables_path(state_dir_), tables); !saved) {
        spdlog::error("{}", saved.error().text());
        const std::lock_guard lock(mutex_);
        boot_tables_stale_ = true;
    }
}

}  // namespace ivds
