// SPDX-License-Identifier: Apache-2.0
// registry.h -- this host in the registry: its key and its bindings are there under one lease, and what the other
// hosts bind comes from there as remote MACs. One thread talks to etcd, and waits for nobody else: etcd that is away,
// slow or new costs what it would have told, and nothing else. All functions but take_over() return at once.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <string>
#include <thread>
#include <unordered_set>
#include <utility>
#include <vector>

#include "fabric/bindings.h"
#include "fabric/etcd.h"
#include "loader/error.h"
#include "loader/switch.h"

namespace ivds::fabric {

struct Settings {
    std::vector<std::string> endpoints;  // HOST:PORT, tried in turn
    etcd::Tls tls;
    etcd::Login login;
    std::string host;           // this one's name
    std::int64_t lease_s = 15;  // 3..600: a host that is silent for so long is gone
    std::string address;        // HOST:PORT at which others reach this host's API; empty: they do not
    // Where it is kept which hosts this one's VMs came from, over the end of an agent and of its lease; empty:
    // nowhere.
    std::string came_path;
};

// Whether a text has the form HOST:PORT.
[[nodiscard]] bool is_host_port(const std::string& text);

// From what the command line says: endpoints as "HOST:PORT" or "https://HOST:PORT", with commas between. An empty
// `host` is this host's own name.
[[nodiscard]] Result<Settings> settings_of(const std::string& endpoints, etcd::Tls tls, etcd::Login login,
                                           const std::string& host, std::int64_t lease_s);

// The id that tells this host from another by its name: kept in the state directory, drawn at the first call.
[[nodiscard]] Result<std::string> host_id(const std::string& state_dir);

// What an agent without one says.
[[nodiscard]] Error no_registry();

// How this host stands with the registry.
struct State {
    std::string state = "connecting";  // synced; away: etcd does not answer; refused: see reason
    std::string reason;                // why it is not synced; empty: it is
    std::string endpoint;              // that it is connected to, or was
    std::string host;                  // this one's name there
    std::int64_t lease = 0;            // that the host's keys are under; 0: none
    std::int64_t revision = 0;         // of the registry, as far as it is known here
    std::uint64_t own_bindings = 0;    // this host's, in the registry
    std::uint64_t other_bindings = 0;  // all other hosts'
    std::uint64_t remote_macs = 0;     // of those, in this host's FDB
    std::uint64_t own_shared = 0;      // sets, profiles and pools that this host shares
    std::uint64_t other_shared = 0;    // that others share
    std::uint64_t pending = 0;         // changes that are not in the registry yet
    std::uint64_t refused_keys = 0;    // that were not understood, all in all
    std::uint64_t writes = 0;          // keys that this agent wrote or removed
    std::uint64_t resyncs = 0;         // times that the whole registry was read
    std::vector<std::string> hosts;
};

class Registry {
public:
    // Takes remote MACs into the FDB. Called from the registry's thread, without a lock of its own.
    using Sink = std::function<Result<>(Remotes)>;
    // What others share is this from now on; what of it could not be taken, and why. Called as Sink.
    struct NotTaken {
        std::string label;  // "set office"
        Error error;
    };
    using TakeShared = std::function<std::vector<NotTaken>(Shared)>;
    // Gets what happened, for the event log: the vPort that it is about, or empty.
    using Tell = std::function<void(const std::string& vport, const std::string& text)>;
    // The vPort's VM went to that host, which says so in its binding: the vPort shall forward no more. Called as
    // Sink.
    using Withdraw = std::function<Result<>(const std::string& vport, const std::string& host)>;
    // The vPort's VM is this host's now where it was nobody's, or on another VLAN: the fabric shall hear of it.
    // Called as Sink.
    using Bound = std::function<void(const std::string& vport)>;

    // `remotes` are those in the FDB from before, which stay until the registry says better.
    Registry(Settings settings, std::string id, Remotes remotes, Sink sink, TakeShared take_shared, Tell tell,
             Withdraw withdraw, Bound bound);
    Registry(const Registry&) = delete;
    Registry& operator=(const Registry&) = delete;
    // The lease is not given back: the data plane forwards on, and the next agent goes on with it.
    ~Registry();

    // The intent is this from now on; nothing is done before the first call.
    void follow(std::shared_ptr<const Model> model, UplinkMacs macs, std::vector<registry::Nic> nics);
    // Whether `next` claims and shares nothing new that another host is known to hold.
    [[nodiscard]] Result<> check(const Model& next, const Model& now) const;
    // Makes the claims of one VM this host's: `from` has them, or nobody. Waits for etcd's answer, 10 s at most; the
    // highest generation of the bindings. Code::unavailable: etcd does not answer, and whether it was done is not
    // known; calling again finds out. The caller holds no lock that Sink or Withdraw takes, and calls it once at a
    // time.
    [[nodiscard]] Result<std::uint64_t> take_over(std::vector<Claim> claims, const std::string& from);
    // Whether it would be refused, as far as is known here.
    [[nodiscard]] Result<> may_take_over(const std::vector<Claim>& claims, const std::string& from) const;
    // MACs that other hosts are known to have, as to_number() has them.
    [[nodiscard]] std::unordered_set<std::uint64_t> macs_of_others() const;
    [[nodiscard]] const std::string& host() const { return settings_.host; }
    // Who holds any of the claims: this host too; the first one. Code::unavailable: the registry is not known now.
    [[nodiscard]] Result<std::optional<registry::Binding>> holder(const std::vector<Claim>& claims) const;
    // Whether a VM of the claims came here by a move, and is not known to have gone: also where its binding went with
    // the lease.
    [[nodiscard]] bool owns(const std::vector<Claim>& claims) const;
    // Bindings as they are known now, as Mirror::page().
    [[nodiscard]] std::vector<std::pair<BindingKey, registry::Binding>> page(const BindingKey* after,
                                                                             std::size_t most) const;
    // What the tenant has in the registry or is to have: on all hosts.
    [[nodiscard]] std::uint64_t bindings_of(const std::string& tenant) const;
    // Those that are registered. Code::unavailable: the registry was not read yet.
    [[nodiscard]] Result<pb::HostsReply> hosts() const;
    [[nodiscard]] State state() const;
    // How it stands, as one of severity info, and what is wrong.
    [[nodiscard]] std::vector<Finding> findings() const;

private:
    using Clock = std::chrono::steady_clock;

    void run();
    // Talks to one endpoint until the connection fails, or something needs a new start (no error).
    [[nodiscard]] Result<> session();
    // The host's key is there under a lease that lives. Whether the lease is the one from before.
    [[nodiscard]] Result<bool> enroll(etcd::Client& client);
    [[nodiscard]] Result<> resync(etcd::Client& client);
    // Takes what the watch brought; false: a new start is needed.
    [[nodiscard]] Result<bool> take_changes();
    // Reads keys again for which there was no room.
    [[nodiscard]] Result<> take_waiting(etcd::Client& client);
    [[nodiscard]] Result<> publish(etcd::Client& client);
    [[nodiscard]] Result<bool> write(etcd::Client& client, std::vector<Step> steps);
    // Answers the call of take_over() that waits. Whether it took over.
    [[nodiscard]] Result<bool> answer(etcd::Client& client);
    void answer_with(Result<std::uint64_t> answer);
    void deliver();
    void deliver_shared();
    void keep_came();
    void set_state(const std::string& state, const Error* reason);

    const Settings settings_;
    const std::string id_;
    const Sink sink_;
    const TakeShared take_shared_;
    const Tell tell_;
    const Withdraw withdraw_;
    const Bound bound_;

    mutable std::mutex mutex_;
    std::condition_variable wake_;
    bool stopping_ = false;
    // Of the agent: the intent, and whether it changed since it was last looked at.
    std::shared_ptr<const Model> model_;
    UplinkMacs macs_;
    std::vector<registry::Nic> nics_;
    std::vector<Claim> claims_;
    std::vector<Share> shares_;
    bool claims_changed_ = false;
    bool model_changed_ = false;
    bool nics_changed_ = false;
    // A call of take_over() that waits.
    struct Call {
        std::vector<Claim> claims;
        std::string from;
        std::optional<Result<std::uint64_t>> answer;
    };
    std::optional<Call> call_;
    std::condition_variable answered_;
    // Of the watch.
    std::vector<etcd::Changes> queue_;
    std::optional<Result<>> watch_ended_;
    // What is known. Only the thread writes it.
    Mirror mirror_;
    bool listed_ = false;
    std::string state_ = "connecting";
    std::optional<Error> reason_;
    std::string endpoint_;
    std::vector<Conflict> conflicts_;
    std::vector<Unusable> unusable_;
    std::vector<ShareConflict> share_conflicts_;
    std::vector<ForeignMembers> foreign_members_;
    std::vector<NotTaken> not_taken_;
    bool shared_stale_ = false;  // what others share is to be told to take_shared_
    std::optional<Clock::time_point> shared_retry_;
    std::optional<Error> sink_error_;
    Remotes remotes_;
    // The networks of which remotes_ does not have all that mirror_ has; none: of all, the model being another.
    std::optional<std::set<Network>> stale_;
    std::int64_t lease_ = 0;
    std::int64_t revision_ = 0;
    std::uint64_t writes_ = 0;
    std::uint64_t resyncs_ = 0;

    // The thread's own.
    std::uint64_t cluster_ = 0;
    std::size_t next_endpoint_ = 0;
    Clock::time_point next_keep_alive_;
    std::optional<Clock::time_point> retry_;
    std::string withdraw_error_;      // that was told last
    std::string came_text_;           // in the file, as far as this agent wrote it
    etcd::Client* client_ = nullptr;  // guarded by mutex_, so that the end can stop its watch
    std::thread thread_;
};

}  // namespace ivds::fabric
