// SPDX-License-Identifier: Apache-2.0
// agent.h -- the only writer: it turns requests into the next intent, compiles it, has the data plane apply it and
// saves it, in this order, so that an acknowledged change is both in force and on disk, and a refused one is
// neither. All functions may be called from any thread; changes happen one at a time.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "agent/capture.h"
#include "agent/event_log.h"
#include "agent/expiry.h"
#include "agent/flow_export.h"
#include "agent/offload.h"
#include "agent/plane.h"
#include "agent/store.h"
#include "fabric/announcer.h"
#include "fabric/registry.h"
#include "ivds.pb.h"
#include "loader/error.h"
#include "model/model.h"

namespace ivds {

class Agent {
public:
    // Takes up the saved intent and applies it, which does nothing where the data plane already holds it. Without a
    // saved intent the data plane stays as it is until the first change. With a registry, the host is in it from now
    // on; what the data plane had of it before stays until it answers.
    [[nodiscard]] static Result<std::unique_ptr<Agent>> start(Plane& plane, Nics nics, Store store, MacOf mac_of,
                                                              std::string state_dir,
                                                              const std::optional<fabric::Settings>& registry = {});

    // Whether an intent was ever saved: `--config` is for an agent without one.
    [[nodiscard]] bool has_intent() const;

    // The calls of the service.
    [[nodiscard]] Result<pb::ApplyReply> apply(pb::ApplyRequest request);
    [[nodiscard]] pb::Config export_config() const;
    [[nodiscard]] Result<pb::Object> create(pb::Object object);
    [[nodiscard]] Result<pb::Object> update(pb::Object object);
    [[nodiscard]] Result<pb::Done> remove(const pb::Ref& ref);
    [[nodiscard]] Result<pb::Object> get(const pb::Ref& ref) const;
    [[nodiscard]] pb::ObjectList list(pb::Kind kind) const;
    [[nodiscard]] Result<pb::VmacReply> reserve_vmac(const pb::VmacRequest& request);
    [[nodiscard]] Result<pb::Done> release_vmac(const pb::VmacRequest& request);
    [[nodiscard]] Result<pb::StatusReply> status() const;
    [[nodiscard]] Result<pb::StatsReply> stats() const;
    [[nodiscard]] Result<> fdb(const pb::FdbRequest& request,
                               const std::function<bool(const pb::FdbEntry&)>& sink) const;
    [[nodiscard]] Result<> neighbours(const pb::NeighboursRequest& request,
                                      const std::function<bool(const pb::NeighbourEntry&)>& sink) const;
    [[nodiscard]] Result<pb::FlushReply> flush(const pb::FlushRequest& request);
    [[nodiscard]] Result<pb::DoctorReply> doctor(const pb::DoctorRequest& request);
    [[nodiscard]] Result<pb::HostsReply> hosts() const;
    [[nodiscard]] Result<pb::NicReply> nics(const pb::NicRequest& request) const;
    [[nodiscard]] Result<pb::MapReply> map(const pb::MapRequest& request) const;
    [[nodiscard]] Result<> bindings(const pb::BindingsRequest& request,
                                    const std::function<bool(const pb::BindingEntry&)>& sink) const;
    [[nodiscard]] Result<pb::RulesReply> rules(const pb::RulesRequest& request);
    [[nodiscard]] Result<pb::TraceReply> trace(const pb::TraceRequest& request);
    [[nodiscard]] Result<> flows(const pb::FlowsRequest& request,
                                 const std::function<bool(const pb::FlowState&)>& sink);
    [[nodiscard]] Result<pb::FlushReply> flush_flows(const pb::FlowsRequest& request);
    [[nodiscard]] Result<pb::MirrorsReply> mirrors(const pb::MirrorsRequest& request) const;
    [[nodiscard]] Result<pb::InspectorsReply> inspectors(const pb::InspectorsRequest& request) const;
    [[nodiscard]] Result<pb::OffloadReply> offload(const pb::OffloadRequest& request) const;
    // NICs as their registers read back, against the maps as they are pinned.
    [[nodiscard]] Result<pb::VerifyReply> verify(const pb::VerifyRequest& request) const;
    [[nodiscard]] Result<pb::ExportersReply> exporters(const pb::ExportersRequest& request) const;
    // Hands frames to `sink` until that says false; it is asked at least twice a second.
    [[nodiscard]] Result<> capture(const pb::CaptureRequest& request,
                                   const std::function<bool(const pb::CapturePacket&)>& sink);
    // A step of a VM's way to another host; one at a time.
    [[nodiscard]] Result<pb::MigrateReply> migrate(const pb::MigrateRequest& request);
    [[nodiscard]] EventLog& events() { return events_; }
    // What doctor() shall look at beside what is the agent's own. Before the first call of the service.
    void look_too(std::function<std::optional<Finding>()> look) { look_too_.push_back(std::move(look)); }

    // What the main loop calls: when the plane's watch or event descriptor is readable, twice a second, and at the
    // end. tick() ages the FDB and the flows, removes rules whose time is over, looks after the NICs, and writes the
    // tables that ivds-loader boots from, if they changed.
    void on_watch();
    void on_events();
    void tick();
    // One line for the service manager: "3 instances, 12 vPorts, 11 up".
    [[nodiscard]] std::string summary() const;

private:
    Agent(Plane& plane, Nics nics, Store store, MacOf mac_of, std::string state_dir);

    // Data plane and NICs hold what was compiled of the intent, and what only the running system knows: sessions of
    // captures, and the addresses that copies in ERSPAN come from. `refuse` as in Offload::put(). The caller holds
    // mutex_.
    [[nodiscard]] Result<> put(const Intent& intent, Tables tables, bool strict, bool refuse);
    [[nodiscard]] Result<> put_again();
    // The capture that `plan` gives, which is called with mutex_ held.
    [[nodiscard]] Result<> watch(const std::function<Result<Capture>()>& plan, const FrameFilter& filter,
                                 const std::function<bool(pb::CapturePacket&, std::chrono::nanoseconds)>& sink);
    // The CPUs may owe flows, and flows their rules, what they counted in their last tick: a sweep tells them.
    [[nodiscard]] Result<> tell_flows();
    // The MACs behind other hosts are these; after an error they are those from before.
    [[nodiscard]] Result<> take_remotes(Remotes next);
    // What other hosts share is this from now on; what of it could not be, stays as it was.
    [[nodiscard]] std::vector<fabric::Registry::NotTaken> take_shared(Shared next);
    // For what a pool hands out in one change.
    [[nodiscard]] IsBound bound_elsewhere() const;
    // Tells the registry of the intent that holds.
    void tell_registry();
    [[nodiscard]] Result<pb::Migration> exported(const std::string& vport);
    [[nodiscard]] Result<pb::MigrateReply> prepare_migration(const pb::MigrateRequest& request);
    [[nodiscard]] Result<pb::MigrateReply> commit_migration(const pb::MigrateRequest& request);
    // Puts counters and connections in place for a vPort that does not forward yet; how many of these. `left` says
    // why others are lost.
    std::uint32_t carry_over(const std::string& vport, const pb::Migration& migration, std::string& left);
    [[nodiscard]] Result<pb::MigrateReply> abort_migration(const pb::MigrateRequest& request);
    // The vPort's VM went to that host: it forwards no more.
    [[nodiscard]] Result<> withdraw(const std::string& vport, const std::string& host);
    // Tells the fabric where the vPort's vMACs are. On the VLAN by which they are reached it hears nothing else of a
    // VM whose peers are all on others, and may know them at another host.
    void announce(const std::string& vport);
    // The caller of these holds mutex_.
    void announce(const pb::VPort& vport);
    // Whether a commit made the claims' VM this host's, `holder` being who has it: what is left is to commit again.
    [[nodiscard]] bool is_taken_over(const std::vector<fabric::Claim>& claims,
                                     const std::optional<fabric::registry::Binding>& holder) const;
    // Why a vPort that is not active forwards nothing.
    [[nodiscard]] Finding look_at_absent(const pb::VPort& vport) const;
    void send_on(const pb::VPort& vport);
    void follow_ports();
    // Makes `next` the intent, or changes nothing; with what belongs to the vPort that it prepares, if it is for
    // that. The caller holds mutex_.
    [[nodiscard]] Result<> commit(Model next, bool strict, std::shared_ptr<const Prepared> prepared = nullptr);
    // Say what changed since they were last called: which ports came up or went down (`reasons` knows why, by port),
    // which instances are in another state; `before` names the instances that there were.
    void note_ports(const std::map<std::string, std::string>& reasons = {});
    void note_instances(const Model& before);
    [[nodiscard]] std::string cause_of(const PortStatus& port) const;
    void note_error(const std::string& port, const std::string& text);
    // Calls `view` with the source of all views, and with what the kernel says of these interfaces.
    template <class View>
    [[nodiscard]] auto with_source(const std::set<std::string>& netdevs, bool thorough, View&& view) const;
    // What every reply about ports says of their last errors.
    template <class Reply>
    void add_errors(Result<Reply>& reply) const;
    void note(const char* kind, const std::string& port, const std::string& instance, const std::string& text);
    // The caller of both holds mutex_.
    [[nodiscard]] Result<std::vector<RungTrace>> trace_in_software(std::uint32_t port,
                                                                   std::span<const std::uint8_t> frame);
    [[nodiscard]] Result<pb::TraceReply> trace_with_nic(const std::string& uplink, std::uint32_t port,
                                                        std::span<const std::uint8_t> frame);
    void save_boot_tables();
    void remove_expired_rules();
    [[nodiscard]] std::map<std::string, std::string> instance_states() const;
    [[nodiscard]] std::shared_ptr<const Intent> intent() const;

    Plane& plane_;
    Offload offload_;
    Store store_;
    const MacOf mac_of_;
    const std::string state_dir_;
    const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
    EventLog events_;
    std::vector<std::function<std::optional<Finding>()>> look_too_;

    // Held for a whole step of a migration, which waits for etcd and does not hold mutex_ meanwhile. Taken before it.
    std::mutex migration_mutex_;
    fabric::Announcer announcer_;

    mutable std::mutex mutex_;
    std::map<std::uint32_t, Capture> captures_;  // by session
    std::shared_ptr<const Intent> intent_;       // readers keep what they got; a change puts another in its place
    std::map<std::string, bool> up_;             // ports, as the last events said
    std::map<std::string, std::string> states_;  // instances, as the last events said
    std::map<std::string, std::pair<std::string, std::string>> errors_;  // ports: why they were last not up, and when
    Remotes remotes_;                                                    // in the data plane's tables
    std::map<std::string, Mac> uplink_macs_;                             // by uplink, as last known
    RuleExpiry expiry_;
    bool boot_tables_stale_ = false;
    bool trim_ = false;  // much memory became free at once
    std::chrono::steady_clock::time_point next_sweep_ = started_;
    // Last: their threads ask for captures, and bring remote MACs, until they end.
    FlowExports exports_;
    std::unique_ptr<fabric::Registry> registry_;  // none: this host alone
};

}  // namespace ivds
