// SPDX-License-Identifier: Apache-2.0
// migrate.cpp -- the agent's part of a VM's way to another host. The host that it goes to does the work: it makes the
// vPort ready, takes the binding over by one transaction, and forwards. The other one sees its binding gone to a host
// that says `moved_from` it, and withdraws. Whatever ends in between, the binding says whose the VM is: PREPARE,
// COMMIT and ABORT look there first, and complete or take back what they find.
#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

#include "agent/agent.h"
#include "agent/clock.h"
#include "agent/view.h"
#include "api/codec.h"
#include "fabric/bindings.h"
#include "fabric/migration.h"

namespace ivds {
namespace {

using Clock = std::chrono::steady_clock;

std::uint64_t us_since(Clock::time_point start) {
    return static_cast<std::uint64_t>(
        std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count());
}

// The bindings of the vPort's MACs, as if it forwarded.
std::vector<fabric::Claim> claims_of_vport(const Model& model, const std::string& vport, const std::string& host,
                                           const fabric::UplinkMacs& macs) {
    auto claims = fabric::claims_of(model, host, macs);
    std::erase_if(claims, [&](const fabric::Claim& claim) { return claim.binding.vport() != vport; });
    return claims;
}

ivds_port_stats stats_of(const pb::Counters& counters) {
    return {.rx_packets = counters.rx_packets(),
            .rx_bytes = counters.rx_bytes(),
            .tx_packets = counters.tx_packets(),
            .tx_bytes = counters.tx_bytes(),
            .rx_local = counters.rx_local(),
            .rx_wire = counters.rx_wire(),
            .rx_flood = counters.rx_flood(),
            .rx_host = counters.rx_host(),
            .rx_answered = counters.rx_answered()};
}

ivds_port_stats at_least(ivds_port_stats stats, const ivds_port_stats& other) {
    for (const auto field : {&ivds_port_stats::rx_packets, &ivds_port_stats::rx_bytes, &ivds_port_stats::tx_packets,
                             &ivds_port_stats::tx_bytes, &ivds_port_stats::rx_local, &ivds_port_stats::rx_wire,
                             &ivds_port_stats::rx_flood, &ivds_port_stats::rx_host, &ivds_port_stats::rx_answered})
        stats.*field = std::max(stats.*field, other.*field);
    return stats;
}

// After a move, what other hosts still send to the old one is sent on for so long: they hear of it in milliseconds,
// unless their agent or etcd starts anew just then.
constexpr std::uint32_t kSendOnS = 5;

// The cable of a VM's interface, which is out until put_in(), or until the end.
class Cable {
public:
    explicit Cable(Plane& plane) : plane_(plane) {}
    Cable(const Cable&) = delete;
    Cable& operator=(const Cable&) = delete;
    ~Cable() {
        if (auto done = put_in(); !done) spdlog::warn("{}", done.error().text());
    }
    [[nodiscard]] Result<> pull_out(const std::string& netdev) {
        auto done = plane_.set_link(netdev, false);
        if (done) netdev_ = netdev;
        return done;
    }
    // Whether it was out.
    [[nodiscard]] Result<bool> put_in() {
        if (netdev_.empty()) return false;
        auto done = plane_.set_link(std::exchange(netdev_, ""), true);
        if (!done) return std::unexpected(done.error());
        return true;
    }

private:
    Plane& plane_;
    std::string netdev_;
};

}  // namespace

Result<pb::MigrateReply> Agent::migrate(const pb::MigrateRequest& request) {
    if (registry_ == nullptr) return std::unexpected(fabric::no_registry());
    const std::lock_guard lock(migration_mutex_);
    switch (request.step()) {
        case pb::MigrateRequest::EXPORT: {
            auto migration = exported(request.vport());
            if (!migration) return std::unexpected(migration.error());
            pb::MigrateReply reply;
            *reply.mutable_migration() = std::move(*migration);
            return reply;
        }
        case pb::MigrateRequest::PREPARE:
            return prepare_migration(request);
        case pb::MigrateRequest::COMMIT:
            return commit_migration(request);
        case pb::MigrateRequest::ABORT:
            return abort_migration(request);
        default:
            return fail(Code::invalid, "IVDS-A002", "which step?", "give export, prepare, commit or abort");
    }
}

// The VM may stand still meanwhile. So what the CPUs counted of a connection in this tick and told nobody is not
// waited for: a sweep goes over all of two tables. Nor is the table of flows walked for a vPort that has none.
Result<pb::Migration> Agent::exported(const std::string& vport) {
    const auto held = intent();
    auto migration = fabric::migration_of(held->model, vport, registry_->host());
    if (!migration) return migration;
    put_ages(held->model, held->came_s, calendar_s(), *migration);
    const std::uint32_t port = held->ids.ports.at(vport);
    const auto stats = plane_.maps().port_stats(port);
    if (!stats) return std::unexpected(stats.error());
    *migration->mutable_counters() = counters_of(*stats);
    migration->set_layout_major(IVDS_LAYOUT_MAJOR);
    migration->set_layout_minor(IVDS_LAYOUT_MINOR);
    const std::uint64_t now = now_ns(CLOCK_MONOTONIC_COARSE);
    const auto state = plane_.maps().port_state(port);
    if (!state) return std::unexpected(state.error());
    if (state->flows == 0) return migration;
    auto done = plane_.maps().flows([&](const FlowRow& row) {
        if (row.key.port == port && fabric::is_carried(row.flow)) *migration->add_flows() = fabric::carried(row, now);
        return true;
    });
    if (!done) return std::unexpected(done.error());
    return migration;
}

Result<pb::MigrateReply> Agent::prepare_migration(const pb::MigrateRequest& request) {
    const std::lock_guard lock(mutex_);
    const std::string& name = request.migration().vport().name();
    auto next = fabric::with_prepared(intent_->model, request, registry_->host(), mac_of_);
    if (!next) return std::unexpected(next.error());
    const auto claims = claims_of_vport(*next, name, registry_->host(), uplink_macs_);
    if (claims.empty())
        return fail(Code::conflict, "IVDS-R012", fmt::format("vport {} has no vMAC: nothing would move", name),
                    "give it a vNIC on the host where it is");
    const auto holder = registry_->holder(claims);
    if (!holder) return std::unexpected(holder.error());
    if (!*holder || (*holder)->host() != request.migration().host())
        return fail(
            Code::conflict, "IVDS-R012",
            fmt::format("vMAC {} is {}, not host {}'s", claims.front().binding.vmac(),
                        *holder ? "host " + (*holder)->host() + "'s" : "nobody's", request.migration().host()),
            "prepare with what its host exports; `ivds-ctl doctor` there says whether it is in the registry");

    // Also where the vPort is here already, which the switch would have wait for its interface.
    const auto interfaces = plane_.look({request.netdev()}, false);
    if (!interfaces) return std::unexpected(interfaces.error());
    if (!interfaces->contains(request.netdev()))
        return fail(Code::not_found, "IVDS-P011",
                    fmt::format("vport {}: there is no interface {}", name, request.netdev()),
                    "make the VM's interface on this host first");

    pb::MigrateReply reply;
    for (pb::Change& change : diff(intent_->model, *next)) *reply.add_changes() = std::move(change);
    if (request.dry_run()) return reply;
    const auto before = intent_->prepared.find(name);
    auto prepared = std::make_shared<const Prepared>(
        request.migration(), before != intent_->prepared.end()
                                 ? before->second->found
                                 : fabric::found_by_prepare(intent_->model, request.migration()));
    const bool was_here = intent_->model.vports.contains(name);
    if (auto done = commit(std::move(*next), true, std::move(prepared)); !done) return std::unexpected(done.error());
    // The commit is to find none there but its own.
    if (was_here)
        if (auto flushed = plane_.flush_flows(intent_->ids.ports.at(name), 0); !flushed)
            return std::unexpected(flushed.error());
    note("migration", name, intent_->model.vports.at(name)->instance(),
         fmt::format("prepared, to come from host {}", request.migration().host()));
    return reply;
}

Result<pb::MigrateReply> Agent::commit_migration(const pb::MigrateRequest& request) {
    const std::string& name = request.vport();
    pb::MigrateReply reply;
    std::vector<fabric::Claim> claims;
    std::string from;
    std::string left;  // why connections are lost, if some are
    Cable cable(plane_);
    {
        const std::lock_guard lock(mutex_);
        const auto found = intent_->model.vports.find(name);
        if (found == intent_->model.vports.end()) return no_such("vport", name);
        const pb::VPort& vport = *found->second;
        from = vport.peer_host();
        claims = claims_of_vport(intent_->model, name, registry_->host(), uplink_macs_);
        const auto holder = registry_->holder(claims);
        if (!holder) return std::unexpected(holder.error());
        const bool is_own = *holder && (*holder)->host() == registry_->host();
        if (vport.state() == pb::VPort::ACTIVE && is_own) {  // it was committed before
            reply.set_from_host((*holder)->moved_from());
            reply.set_generation((*holder)->generation());
            return reply;
        }
        if (vport.state() != pb::VPort::PREPARED)
            return fail(Code::conflict, "IVDS-R012",
                        fmt::format("vport {} is {} here, not prepared", name, to_text(vport.state())),
                        "prepare it with what its host exports");
        if (*holder && !is_own && (*holder)->host() != from)
            return fail(
                Code::conflict, "IVDS-R012",
                fmt::format("vport {} was to come from host {}, and is host {}'s now", name, from, (*holder)->host()),
                "abort here, and prepare anew with what that host exports");
        if (request.has_migration() &&
            (request.migration().host() != from || request.migration().vport().name() != name))
            return fail(Code::invalid, "IVDS-R012",
                        fmt::format("this is not what host {} exports of vport {}", from, name),
                        "export it there, or commit without");
        const auto known = intent_->prepared.find(name);
        const pb::Migration* migration = request.has_migration()            ? &request.migration()
                                         : known != intent_->prepared.end() ? &known->second->migration
                                                                            : nullptr;
        if (migration != nullptr)
            if (auto meets = fabric::still_meets(intent_->model, *migration); !meets)
                return std::unexpected(meets.error());
        if (auto may = registry_->may_take_over(claims, from); !may)
            return std::unexpected(may.error().in("take vport " + name + " over"));
        const auto ports = plane_.status();
        const auto port = std::ranges::find(ports, name, &PortStatus::name);
        if (port == ports.end() || !port->up)
            return fail(Code::unavailable, "IVDS-R014",
                        fmt::format("vport {} is not ready: {}", name,
                                    port == ports.end() ? "it has no port" : cause_of(*port)),
                        "plug the VM's interface in and set it up; the VM waits until then");
        if (request.dry_run()) {
            reply.set_from_host(from);
            return reply;
        }
        // Before the VM is this host's: whatever dies after that, it has them here.
        const std::uint32_t id = intent_->ids.ports.at(name);
        const auto state = plane_.maps().port_state(id);
        if (!state) return std::unexpected(state.error());
        if (request.has_migration()) {
            reply.set_flows(carry_over(name, request.migration(), left));
        } else if (state->flows != 0) {
            // It forwards nothing: they are of a commit that brought them, and was not answered.
            reply.set_flows(state->flows);
        } else if (migration != nullptr) {
            // Of those of prepare and of such a commit the counters that are further are the later ones.
            const auto stats = plane_.maps().port_stats(id);
            if (!stats) return std::unexpected(stats.error());
            pb::Migration kept = *migration;
            *kept.mutable_counters() = counters_of(at_least(stats_of(kept.counters()), *stats));
            reply.set_flows(carry_over(name, kept, left));
        } else {
            left = fmt::format("what host {} exported is not known here", from);
        }
        if (request.replug())
            if (auto done = cable.pull_out(vport.netdev()); !done) return std::unexpected(done.error());
    }
    const auto begun = Clock::now();
    for (fabric::Claim& claim : claims) claim.waits = false;
    const auto generation = registry_->take_over(claims, from);
    if (!generation) return std::unexpected(generation.error().in("take vport " + name + " over"));
    reply.set_registry_us(us_since(begun));
    const auto owned = Clock::now();

    const std::lock_guard lock(mutex_);
    const auto found = intent_->model.vports.find(name);
    if (found == intent_->model.vports.end() || found->second->state() != pb::VPort::PREPARED)
        return fail(Code::conflict, "IVDS-R012", fmt::format("vport {} was changed meanwhile", name),
                    "look with `ivds-ctl vport get`, and commit again");
    auto next = fabric::with_state(intent_->model, name, pb::VPort::ACTIVE, "", mac_of_);
    if (!next) return std::unexpected(next.error());
    if (auto done = commit(std::move(*next), false); !done)
        return std::unexpected(done.error().in(
            fmt::format("vport {} is this host's, and does not forward: commit again to complete it", name)));

    if (const auto was_out = cable.put_in(); !was_out)
        spdlog::warn("replug vport {}: {}", name, was_out.error().text());
    else if (*was_out)
        follow_ports();
    const pb::VPort& vport = *intent_->model.vports.at(name);
    announce(vport);
    reply.set_forwarding_us(us_since(owned));
    reply.set_from_host(from);
    reply.set_generation(*generation);
    reply.set_lost(left);
    note("migration", name, vport.instance(),
         fmt::format("came from host {}: generation {}, {} connections{}", from, *generation, reply.flows(),
                     left.empty() ? "" : ", and others are lost: " + left));
    return reply;
}

std::uint32_t Agent::carry_over(const std::string& vport, const pb::Migration& migration, std::string& left) {
    const std::uint32_t port = intent_->ids.ports.at(vport);
    const std::uint32_t instance = intent_->ids.instances.at(intent_->model.vports.at(vport)->instance());
    const std::uint32_t limit = plane_.tables().ports.at(port).value.flow_limit;
    std::vector<FlowRow> flows;
    if (migration.layout_major() == IVDS_LAYOUT_MAJOR && migration.layout_minor() == IVDS_LAYOUT_MINOR) {
        const std::uint64_t now = now_ns(CLOCK_MONOTONIC_COARSE);
        for (const pb::Migration::Flow& flow : migration.flows()) {
            if (flows.size() >= limit) {
                left = fmt::format("it may have {} flows here", limit);
                break;
            }
            auto entry = fabric::entry_of(flow, port, instance, now);
            if (entry)
                flows.push_back(*entry);
            else
                left = entry.error().text();
        }
    } else if (!migration.flows().empty()) {
        left = fmt::format("its connections are of layout {}.{}", migration.layout_major(), migration.layout_minor());
    }
    if (auto done = plane_.carry_over(port, stats_of(migration.counters()), flows); !done) {
        left = done.error().text();
        return 0;
    }
    return static_cast<std::uint32_t>(flows.size());
}

Result<pb::MigrateReply> Agent::abort_migration(const pb::MigrateRequest& request) {
    const std::lock_guard lock(mutex_);
    const std::string& name = request.vport();
    pb::MigrateReply reply;
    const auto found = intent_->model.vports.find(name);
    if (found == intent_->model.vports.end()) return reply;  // it was aborted before
    if (found->second->state() != pb::VPort::PREPARED)
        return fail(Code::conflict, "IVDS-R012",
                    fmt::format("vport {} is {} here, not prepared", name, to_text(found->second->state())),
                    "there is nothing to take back");
    const auto claims = claims_of_vport(intent_->model, name, registry_->host(), uplink_macs_);
    const auto holder = registry_->holder(claims);
    if (!holder) return std::unexpected(holder.error());
    if (is_taken_over(claims, *holder))
        return fail(Code::conflict, "IVDS-R012",
                    fmt::format("vport {} is this host's already: a commit took it over", name),
                    "commit again to complete it");
    const std::string instance = found->second->instance();
    const auto prepared = intent_->prepared.find(name);
    auto next = fabric::without_prepared(
        intent_->model, name, prepared != intent_->prepared.end() ? prepared->second->found : pb::ObjectList(),
        *holder ? (*holder)->host() : "", mac_of_);
    if (!next) {
        Error error = next.error().in("restore what was here before vport " + name + " was prepared");
        error.fix += "; or delete the vPort, and nothing is left of it";
        return std::unexpected(std::move(error));
    }
    for (pb::Change& change : diff(intent_->model, *next)) *reply.add_changes() = std::move(change);
    if (request.dry_run()) return reply;
    if (auto done = commit(std::move(*next), false); !done) return std::unexpected(done.error());
    note("migration", name, instance, "aborted");
    return reply;
}

bool Agent::is_taken_over(const std::vector<fabric::Claim>& claims,
                          const std::optional<fabric::registry::Binding>& holder) const {
    return holder ? holder->host() == registry_->host() : registry_->owns(claims);
}

Finding Agent::look_at_absent(const pb::VPort& vport) const {
    const std::string& name = vport.name();
    Finding finding{.severity = Finding::Severity::info,
                    .id = "IVDS-R015",
                    .object = name,
                    .text = "it forwards nothing: its VM is to come from host " + vport.peer_host(),
                    .fix = "`ivds-ctl migrate commit` or `migrate abort` it"};
    if (vport.state() != pb::VPort::PREPARED) {
        finding.text = "it forwards nothing: its VM went to host " + vport.peer_host();
        finding.fix = "delete it, if it is not to come back";
    } else if (registry_ != nullptr) {
        const auto claims = claims_of_vport(intent_->model, name, registry_->host(), uplink_macs_);
        if (const auto holder = registry_->holder(claims); holder && is_taken_over(claims, *holder)) {
            finding.severity = Finding::Severity::warning;
            finding.text =
                "its VM is this host's, and it forwards nothing: a commit took it over, and went no further";
            finding.fix = fmt::format("`ivds-ctl migrate commit {}` again", name);
        }
    }
    return finding;
}

void Agent::announce(const std::string& vport) {
    const std::lock_guard lock(mutex_);
    const auto found = intent_->model.vports.find(vport);
    if (found != intent_->model.vports.end() && found->second->state() == pb::VPort::ACTIVE) announce(*found->second);
}

void Agent::announce(const pb::VPort& vport) {
    const auto instance = intent_->model.instances.find(vport.instance());
    if (instance == intent_->model.instances.end() || instance->second->uplink().empty()) return;
    if (auto sent = announcer_.announce(vport.name(), intent_->model.uplinks.at(instance->second->uplink())->netdev(),
                                        fabric::announcements(intent_->model, vport));
        !sent)
        spdlog::warn("announce vport {}: {}", vport.name(), sent.error().text());
}

// The other host's bindings are in the tables by now: deliver() comes before publish().
void Agent::send_on(const pb::VPort& vport) {
    const std::uint32_t instance = intent_->ids.instances.at(vport.instance());
    for (const Mac& mac : fabric::macs_of(intent_->model, vport))
        if (auto done = plane_.send_on(instance, mac, coarse_now_s() + kSendOnS); !done)
            spdlog::warn("vport {}: what comes late is not sent on: {}", vport.name(), done.error().text());
}

Result<> Agent::withdraw(const std::string& vport, const std::string& host) {
    const std::lock_guard lock(mutex_);
    const auto found = intent_->model.vports.find(vport);
    if (found == intent_->model.vports.end() || found->second->state() != pb::VPort::ACTIVE) return {};
    announcer_.forget(vport);
    auto next = fabric::with_state(intent_->model, vport, pb::VPort::MOVED, host, mac_of_);
    if (!next) return std::unexpected(next.error());
    if (auto done = commit(std::move(*next), false); !done) return done;
    send_on(*intent_->model.vports.at(vport));
    note("migration", vport, intent_->model.vports.at(vport)->instance(), "went to host " + host);
    return {};
}

}  // namespace ivds
