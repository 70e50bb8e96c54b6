// SPDX-License-Identifier: Apache-2.0
// switch.h -- the switch on this host: pinned maps, programs and links, and the only way to change them.
// One Switch holds the writer's lock. Forwarding needs no process: everything it makes is pinned, and a
// Switch that ends (or is killed) leaves it forwarding; the next one adopts it without a flap.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "error.h"
#include "tables.h"

namespace ivds {

struct SwitchOptions {
    std::string root = IVDS_PIN_ROOT;  // a directory on a mounted bpffs
    bool xdp_coexist = false;          // attach XDP through libxdp's dispatcher, beside other programs
    bool assume_carrier = false;       // for a process that ends (ivds-loader): it cannot follow the carrier
};

// What an interface got, and why. One per port of the tables.
struct PortStatus {
    std::uint32_t id = 0;
    std::string name;
    std::string netdev;
    std::uint32_t ifindex = 0;  // 0: the interface is away
    AttachMode wanted = AttachMode::automatic;
    std::string got;              // "native+tcx", "native-libxdp+tcx", "generic+tcx", "tcx", "clsact", "none"
    std::string reason;           // why `got` and not something faster, or what failed
    bool up = false;              // attached, administratively up and with carrier: frames are sent to it
    std::uint16_t mtu_bytes = 0;  // of the interface
    // Its qdiscs are fq, and no inspector comes first: what leaves by it over a rate waits, and is not dropped.
    bool has_fq = false;
};

// One finding of preflight or doctor. Errors stop an attach, warnings do not.
struct Finding {
    enum class Severity { info, warning, error } severity = Severity::info;
    std::string id;      // "IVDS-P001" …
    std::string object;  // interface, port or pin
    std::string text;
    std::string fix;
};

// A change of an interface that a port is bound to, as the watch reports it.
struct PortChange {
    std::uint32_t id = 0;
    std::string name;
    bool up = false;
    std::string reason;  // "interface vanished", "carrier lost", "attached: native+tcx" …
};

// An entry of the flow table.
struct FlowRow {
    ivds_flow_key key;
    ivds_flow flow;
};

class Switch {
public:
    // Takes the writer's lock of ROOT (Code::busy if held), adopts the pinned maps and programs or, where
    // there are none, loads and pins them two-phase. Pinned maps of another layout: Code::layout, both named.
    [[nodiscard]] static Result<std::unique_ptr<Switch>> open(const SwitchOptions& options);
    ~Switch();
    Switch(const Switch&) = delete;
    Switch& operator=(const Switch&) = delete;

    // Makes the data plane hold exactly `next`: plan (a diff against what is in the maps), execute, and on a
    // failed step undo all before it in reverse; then the maps and hooks are as they were and the error says
    // what failed. An interface that is away, or that cannot be attached for a reason of its own, is not a
    // failure of apply unless it is new in `next` and `strict` is set: the port is down, with the reason in
    // its status. Applying what is already there does nothing and flaps nothing. With `only`, hooks are put on
    // these interfaces alone; the maps are written in full.
    [[nodiscard]] Result<> apply(Tables next, bool strict = false, const std::set<std::string>* only = nullptr);
    [[nodiscard]] const Tables& tables() const;

    // Runs the same preflight that attach runs, on every port of the tables, looks over pins and versions, and
    // compares every entry of the maps with what it shall be. What somebody else changed there, the next apply() or
    // mend() writes anew.
    [[nodiscard]] std::vector<Finding> doctor();
    [[nodiscard]] Result<> mend();
    [[nodiscard]] std::vector<PortStatus> status() const;

    // The rtnetlink watch: poll watch_fd() for input, then call on_watch(). It withdraws the ports of
    // interfaces that went (FDB flushed), attaches those that came back, follows MTU and carrier.
    [[nodiscard]] int watch_fd() const;
    [[nodiscard]] std::vector<PortChange> on_watch();

    // The data plane's events (ring buffer): poll event_fd() for input, then call on_events().
    [[nodiscard]] int event_fd() const;
    void on_events(const std::function<void(const ivds_event&)>& sink);

    // A ring of so many bytes that gets the copies of a session of kind RING, to read by libbpf; it goes with the
    // session.
    [[nodiscard]] Result<int> make_ring(std::uint32_t session, std::uint32_t bytes);

    // One ageing pass over the FDB and the flow table. Returns how many learned entries went.
    [[nodiscard]] Result<std::uint32_t> sweep();
    // Forgets learned entries: of a port, of an instance, or one MAC of an instance (which may not be static).
    [[nodiscard]] Result<std::uint32_t> flush_port(std::uint32_t port);
    [[nodiscard]] Result<std::uint32_t> flush_instance(std::uint32_t instance);
    [[nodiscard]] Result<> forget(std::uint32_t instance, const Mac& mac);
    // Forgets the flow entries of a port, or if that is 0 of an instance; returns how many.
    [[nodiscard]] Result<std::uint32_t> flush_flows(std::uint32_t port, std::uint32_t instance);

    // What a port has of another host, from which its VM comes, while it is in no instance: its counters are these,
    // and its flow entries are in place, also of those that are there already. Doing it again changes nothing.
    [[nodiscard]] Result<> carry_over(std::uint32_t port, const ivds_port_stats& stats,
                                      const std::vector<FlowRow>& flows);

    // The VM of a MAC that the tables have behind another host went there from here: what still comes for it from the
    // wire is sent on through that coarse second. The next change of the entry ends it.
    [[nodiscard]] Result<> send_on(std::uint32_t instance, const Mac& mac, std::uint32_t until_s);

    // What NICs counted of a vPort, in the map of that name; forgotten with the port.
    [[nodiscard]] Result<> set_nic_stats(std::uint32_t port, const ivds_nic_stats& stats);

    // Puts this build's programs into every hook over the same maps, by link update; all or none.
    // `open` adopts programs of another build as they are; the agent and ivds-loader then call this. Where
    // this build runs already nothing is done, unless `again`.
    [[nodiscard]] Result<> upgrade(bool again = false);

    // Detaches every hook, sets the vPorts' interfaces down first (a tenant's frame never reaches the host's
    // stack), and removes the pins. Nothing is left.
    [[nodiscard]] Result<> tear_down();

private:
    struct Impl;
    explicit Switch(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// What doctor() finds for these tables, beside a running Switch or without one; takes no lock, changes nothing.
[[nodiscard]] Result<std::vector<Finding>> doctor(const SwitchOptions& options, const Tables& tables);

// Read-only eyes on pinned maps; needs no lock and no agent, works beside a running Switch.
struct FdbRow {
    ivds_fdb_key key;
    ivds_fdb_entry entry;
};
struct NeighbourRow {
    ivds_neighbour_key key;
    ivds_neighbour owner;
};
struct DropRow {
    std::uint32_t port = 0;
    std::uint32_t reason = 0;
    ivds_count count{};
};
struct MissRow {
    ivds_vvlan_key key{};
    ivds_count count{};
};
class MapsView {
public:
    [[nodiscard]] static Result<MapsView> open(const std::string& root);  // refuses another layout major
    MapsView(MapsView&&) noexcept;
    MapsView& operator=(MapsView&&) noexcept;
    ~MapsView();

    [[nodiscard]] Result<ivds_meta> meta() const;
    [[nodiscard]] Result<ivds_port> port(std::uint32_t id) const;
    [[nodiscard]] Result<ivds_instance> instance(std::uint32_t id) const;
    [[nodiscard]] Result<ivds_port_stats> port_stats(std::uint32_t id) const;  // summed over CPUs
    // What NICs counted of it; no value: none ever carried it.
    [[nodiscard]] Result<std::optional<ivds_nic_stats>> nic_stats(std::uint32_t id) const;
    [[nodiscard]] Result<ivds_instance_stats> instance_stats(std::uint32_t id) const;  // summed over CPUs
    [[nodiscard]] Result<ivds_port_state> port_state(std::uint32_t id) const;
    [[nodiscard]] Result<ivds_instance_state> instance_state(std::uint32_t id) const;
    [[nodiscard]] Result<std::vector<DropRow>> drops() const;
    [[nodiscard]] Result<std::vector<MissRow>> misses() const;
    [[nodiscard]] Result<ivds_mirror_stats> mirror_stats(std::uint32_t session) const;  // summed over CPUs
    // Zeros for one that nothing has come to yet.
    [[nodiscard]] Result<ivds_inspector> inspector(std::uint32_t port) const;
    // What rules decided, by the id that they count under; none for one that decided nothing yet.
    [[nodiscard]] Result<std::map<std::uint32_t, ivds_rule_count>> rule_stats() const;
    // How many frames one rule decided.
    [[nodiscard]] Result<std::uint64_t> rule_packets(std::uint32_t rule) const;
    // Calls `sink` for every entry of the flow table, as fdb() does for the FDB.
    [[nodiscard]] Result<> flows(const std::function<bool(const FlowRow&)>& sink) const;
    // Calls `sink` for every entry of the FDB (batched reads; not a snapshot); stops early on false.
    [[nodiscard]] Result<> fdb(const std::function<bool(const FdbRow&)>& sink) const;
    // The same for every address that the switch answers for.
    [[nodiscard]] Result<> neighbours(const std::function<bool(const NeighbourRow&)>& sink) const;
    [[nodiscard]] Result<std::optional<ivds_fdb_entry>> fdb_entry(std::uint32_t instance, const Mac& mac) const;
    // The instance that an uplink's {VLAN, V.VLAN} names; of {uplink, VLAN, 0} 0. No value: there is no entry.
    [[nodiscard]] Result<std::optional<std::uint32_t>> vvlan(std::uint32_t uplink, std::uint16_t vlan,
                                                             std::uint16_t vvlan) const;
    [[nodiscard]] Result<std::uint32_t> vvlan_count() const;
    // Calls `sink` for every {uplink, VLAN, V.VLAN} and the instance that it names.
    [[nodiscard]] Result<> vvlans(const std::function<void(const ivds_vvlan_key&, std::uint32_t)>& sink) const;
    // Where XDP redirects frames for a port to: an ifindex. No value: nowhere, they go by way of TC.
    [[nodiscard]] Result<std::optional<std::uint32_t>> xdp_target(std::uint32_t port) const;

private:
    struct Impl;
    explicit MapsView(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// Names of drop reasons and event kinds, from the list in abi.h. Unknown numbers give "reason-N".
[[nodiscard]] std::string drop_id(std::uint32_t reason);
[[nodiscard]] std::string drop_text(std::uint32_t reason);
[[nodiscard]] std::string event_id(std::uint32_t kind);
// Now on the data plane's clock (CLOCK_MONOTONIC_COARSE), in seconds; last_seen_s is on it.
[[nodiscard]] std::uint32_t coarse_now_s();

}  // namespace ivds
