// SPDX-License-Identifier: Apache-2.0
// bindings.h -- what the registry holds, and what this host has to say to it: keys and values as text, a mirror of
// the keys, what to write so that the host's bindings and what it shares are there, and the remote MACs that follow.
// registry.proto has the layout. Pure: no I/O, no clock.
//
// Keys and values may be anybody's. What does not read back is counted with a reason, told with its key, and
// otherwise as if it were not there.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <utility>
#include <variant>
#include <vector>

#include "compile/compile.h"
#include "fabric/etcd.h"
#include "loader/error.h"
#include "model/model.h"
#include "registry.pb.h"

namespace ivds::fabric {

namespace registry = ::ivds::registry::v1;

constexpr std::string_view kRoot = "/ivds/";
constexpr std::string_view kHosts = "/ivds/v1/hosts/";
constexpr std::string_view kInstances = "/ivds/v1/instances/";
constexpr std::string_view kBindings = "/ivds/v1/bindings/";
constexpr std::string_view kMoves = "/ivds/v1/moves/";
constexpr std::string_view kOwners = "/ivds/v1/owners/";
constexpr std::string_view kSets = "/ivds/v1/sets/";
constexpr std::string_view kProfiles = "/ivds/v1/profiles/";
constexpr std::string_view kPools = "/ivds/v1/pools/";
// A value that is larger is nobody's binding or host, and is not even parsed.
constexpr std::size_t kMaxValueBytes = 16 << 10;
// The same of sets and profiles: etcd takes no request of more than 1.5 MiB.
constexpr std::size_t kMaxSharedBytes = 1 << 20;
// So many sets and profiles together are taken, and so many hosts in pools; more are refused.
constexpr std::size_t kMaxShared = 4096;
// Hosts of which a binding knows that its VM was there, beside the last one.
constexpr std::size_t kMaxMovedBefore = 16;
// Refused keys that are remembered, to be told; more are only counted.
constexpr std::size_t kMaxRefused = 256;

// A network as the registry knows it: VLAN 0 for independent mode, where the V.VLAN alone is the identity.
struct Network {
    std::uint16_t vlan = 0;
    std::uint16_t vvlan = 0;
    auto operator<=>(const Network&) const = default;
};
[[nodiscard]] std::string to_text(const Network& network);  // "100.10", "10"

struct BindingKey {
    Network network;
    Mac vmac{};
    auto operator<=>(const BindingKey&) const = default;
};
[[nodiscard]] std::string key_text(const BindingKey& key);
[[nodiscard]] std::string host_key(const std::string& name);

// A binding that a host had until its VM moved.
struct MoveKey {
    std::string host;
    BindingKey binding;  // of the host that has it since
    auto operator<=>(const MoveKey&) const = default;
};
[[nodiscard]] std::string key_text(const MoveKey& key);

// Whose a VM is that moved: at the place of its binding, which may be gone.
struct OwnerKey {
    BindingKey binding;
    auto operator<=>(const OwnerKey&) const = default;
};
[[nodiscard]] std::string key_text(const OwnerKey& key);

// A key's bytes for people: what is not printable ASCII is escaped, what is long is cut.
[[nodiscard]] std::string printable(std::string_view bytes);

// Why a key or its value is refused.
enum class Refusal : std::uint8_t { malformed, huge, newer, unknown };
[[nodiscard]] const char* to_text(Refusal refusal);

struct Refused {
    Refusal why = Refusal::malformed;
    std::string text;  // what is wrong with it
};

// A set or a profile.
struct SharedKey {
    pb::Kind kind = pb::SET;
    std::string name;
    auto operator<=>(const SharedKey&) const = default;
};
[[nodiscard]] std::string key_text(const SharedKey& key);

// What one host has in a pool.
struct PoolKey {
    std::string pool;
    std::string host;
    auto operator<=>(const PoolKey&) const = default;
};
[[nodiscard]] std::string key_text(const PoolKey& key);

// An instance across hosts on one of them.
struct InstanceKey {
    std::string host;
    std::string name;
    auto operator<=>(const InstanceKey&) const = default;
};
[[nodiscard]] std::string key_text(const InstanceKey& key);

// The string: a host's name.
using ParsedKey = std::variant<BindingKey, std::string, SharedKey, PoolKey, InstanceKey, MoveKey, OwnerKey, Refused>;
[[nodiscard]] ParsedKey parse_key(std::string_view key);
[[nodiscard]] std::variant<registry::Binding, Refused> parse_binding(const BindingKey& key, const std::string& value);
[[nodiscard]] std::variant<registry::Host, Refused> parse_host(const std::string& name, const std::string& value);
// A set or a profile as the Model of another host than its own has it.
struct SharedObject {
    std::string host;
    std::shared_ptr<const pb::Set> set;
    std::shared_ptr<const pb::Profile> profile;
};
[[nodiscard]] std::variant<SharedObject, Refused> parse_shared(const SharedKey& key, const std::string& value);
[[nodiscard]] std::variant<registry::PoolMembers, Refused> parse_pool(const PoolKey& key, const std::string& value);
[[nodiscard]] std::variant<registry::Instance, Refused> parse_instance(const InstanceKey& key,
                                                                       const std::string& value);
[[nodiscard]] std::variant<registry::Move, Refused> parse_move(const MoveKey& key, const std::string& value);
[[nodiscard]] std::variant<registry::Owner, Refused> parse_owner(const OwnerKey& key, const std::string& value);
[[nodiscard]] std::string value_text(const google::protobuf::Message& message);

// A binding that this host wants to have. Its networks are all those that its instance is in by its VLAN and its peer
// VLANs: in none of them may another host have the vMAC.
struct Claim {
    BindingKey key;
    registry::Binding binding;  // without generation
    std::vector<Network> networks;
    std::string instance;
    // Its vPort is prepared: the binding is not asked for, and kept if this host has it already.
    bool waits = false;
};
// The MAC of each uplink by name, where it is known.
using UplinkMacs = std::map<std::string, Mac>;
// Of the vPorts of distributed instances that forward, or are prepared to: the vMAC and the extra MACs of each.
[[nodiscard]] std::vector<Claim> claims_of(const Model& model, const std::string& host, const UplinkMacs& macs);

// How many of the claims a tenant has that are to be in the registry.
[[nodiscard]] std::uint64_t claims_of_tenant(const std::vector<Claim>& claims, const std::string& tenant);

// What this host shares: a set, a profile, what it has in a pool, or that it has an instance across hosts.
struct Share {
    std::string key;
    std::string label;  // "set office"
    std::string value;
    bool leased = false;
    std::shared_ptr<const void> object;  // that the value is of, where it follows from that alone
};
// What is in `before` with the same object is not made anew.
[[nodiscard]] std::vector<Share> shares_of(const Model& model, const std::string& host,
                                           const std::vector<Share>& before);
// The instances across hosts that it has, with vPorts or without; as shares_of().
[[nodiscard]] std::vector<Share> instances_of(const Model& model, const std::string& host,
                                              const std::vector<Share>& before);

// A binding in the registry, and which revision of its key says so.
struct Entry {
    registry::Binding binding;
    std::int64_t create_revision = 0;
    std::int64_t mod_revision = 0;
    std::int64_t lease = 0;
    // Not in the last list, and not told to be deleted either: it goes at that time unless it comes back. 0: it is
    // there.
    std::int64_t gone_at_s = 0;
};

// One step towards the claims: it is for one transaction.
struct Step {
    std::vector<etcd::Guard> guards;
    etcd::Write write;
    std::string bound{};  // the vPort that has a binding by this that it had not, or had on another VLAN; or empty
};

struct Conflict {
    BindingKey key;
    std::string vport;  // of ours
    Entry other;
};

// A set or a profile of this host's by whose name another host shares one; or a key of this host's that holds what is
// not understood.
struct ShareConflict {
    std::string key;
    std::string label;
    std::string host;  // empty: what is there is not understood
};

// What another host has in a pool here, and is not taken.
struct ForeignMembers {
    PoolKey key;
    std::string network;  // of these
    std::string here;     // of the pool's vPorts here
};

struct Publication {
    std::vector<Step> steps;
    std::vector<ShareConflict> share_conflicts;
    std::vector<Conflict>
        conflicts;  // claims that another host holds; without a host: what is there is not understood
    std::map<std::string, std::string> went;  // vPorts whose VM moved away from here, and whose it is now
};

// The registry's keys as they are known here.
class Mirror {
public:
    explicit Mirror(std::string host) : host_(std::move(host)) {}

    // Takes a whole list. What it does not hold, and was another's binding or what another had in a pool, stays until
    // `gone_at_s`: a registry that lost its content gets it back from the hosts within that time, and nothing flaps.
    // This host's own goes at once.
    void relist(std::vector<etcd::KeyValue> keys, std::int64_t gone_at_s);
    // Something older than what is known of the key changes nothing.
    void apply(const etcd::Change& change);
    // What was to stay until now goes.
    void expire(std::int64_t now_s);

    [[nodiscard]] const std::map<std::string, registry::Host>& hosts() const { return hosts_; }
    struct InstanceEntry {
        registry::Instance instance;
        std::int64_t mod_revision = 0;
        std::int64_t lease = 0;
        std::string value;  // of this host's own
    };
    [[nodiscard]] const std::map<InstanceKey, InstanceEntry>& instances() const { return instances_; }
    [[nodiscard]] const std::map<Mac, Entry>* bindings(const Network& network) const;
    // Bindings in the order of their keys, those after `after` or from the first on; at most so many.
    [[nodiscard]] std::vector<std::pair<BindingKey, registry::Binding>> page(const BindingKey* after,
                                                                             std::size_t most) const;
    [[nodiscard]] std::uint64_t own() const { return own_.size(); }
    [[nodiscard]] std::uint64_t others() const { return others_; }
    // Other hosts' bindings of the tenant.
    [[nodiscard]] std::uint64_t others_of(const std::string& tenant) const;
    [[nodiscard]] const std::map<std::string, Refused>& refused() const { return refused_; }  // by printable key
    [[nodiscard]] std::uint64_t refused_total() const { return refused_total_; }

    // The networks in which anything changed about where bindings are, since the last call.
    [[nodiscard]] std::set<Network> take_changed() { return std::exchange(changed_, {}); }

    [[nodiscard]] Publication publication(const std::vector<Claim>& claims, std::int64_t lease,
                                          const std::vector<Share>& shares = {}) const;
    // What other hosts share. A pool that `model` has vPorts in has the members of their network alone.
    [[nodiscard]] Shared shared(const Model& model, std::vector<ForeignMembers>& foreign) const;
    // Whether anything that is shared changed since the last call.
    [[nodiscard]] bool take_shared_changed() { return std::exchange(shared_changed_, false); }
    // The other host that shares this; empty: none.
    [[nodiscard]] std::string sharer(const SharedKey& key) const;
    // A key that was refused for the limit alone, once there is room for it: it is to be read, and applied, again.
    [[nodiscard]] std::optional<std::string> take_waiting();
    // Whether another host has something in the pool.
    [[nodiscard]] bool has_pool(const std::string& pool) const;
    [[nodiscard]] std::uint64_t others_shared() const;  // keys
    // What other hosts have in any network, as to_number() has MACs.
    [[nodiscard]] std::unordered_set<std::uint64_t> macs_of_others() const;
    // The first other host that holds the claim.
    [[nodiscard]] const Entry* holder(const Claim& claim) const;

    // Where a VM was before, of a binding that went otherwise than to another host: whoever missed a move shall see
    // it in the binding that is made anew. Own ones, and those of VMs that had moved.
    void remember(const registry::Binding& binding);
    // Bindings of other vPorts than these are forgotten.
    void forget_but(const Objects<pb::VPort>& vports);
    // What is remembered of this host's VMs that came from another: bindings that it has, and those that went.
    [[nodiscard]] std::vector<registry::Binding> came() const;
    // Whether that changed since the last call.
    [[nodiscard]] bool take_came_changed() { return std::exchange(came_changed_, false); }

    // Whether the claim's VM came here, and went nowhere since, also if the binding is gone.
    [[nodiscard]] bool owns(const Claim& claim) const;

    // What makes claims of a VM that moves this host's own, all in one transaction: what `from` holds of them goes,
    // and it is left a word of that. No steps: they are it already. Code::conflict: a third host holds one; or nobody
    // does, and it is not by its owner this host's, while `from` is there, or the VM went from there to a host whose
    // lease is gone.
    struct Takeover {
        std::vector<Step> steps;
        std::uint64_t generation = 0;  // the highest of the bindings, once the steps are made
    };
    [[nodiscard]] Result<Takeover> takeover(const std::vector<Claim>& claims, const std::string& from,
                                            std::int64_t lease) const;

private:
    void put(const etcd::KeyValue& kv);
    void drop(const std::string& key);
    void drop_binding(const BindingKey& key);
    // What was read of a key that is shared, unless it is refused or one too many: then nothing is known by it.
    template <class Value, class Known, class Key>
    std::optional<Value> read_shared(Known& known, const Key& key, const etcd::KeyValue& kv,
                                     std::variant<Value, Refused> read);
    void put_shared(const SharedKey& key, const etcd::KeyValue& kv);
    void put_pool(const PoolKey& key, const etcd::KeyValue& kv);
    void put_instance(const InstanceKey& key, const etcd::KeyValue& kv);
    void put_move(const MoveKey& key, const etcd::KeyValue& kv);
    void put_owner(const OwnerKey& key, const etcd::KeyValue& kv);
    void publish_shares(const std::vector<Share>& shares, std::int64_t lease, Publication& out) const;
    void refuse(const std::string& key, Refused refused);
    // Not in the list: it stays until then.
    template <class Gone>
    void goes(Gone& entry, std::int64_t gone_at_s);
    void goes_at(std::int64_t gone_at_s);
    [[nodiscard]] const Entry* find(const BindingKey& key) const;
    void forget(const BindingKey& key);
    // What is remembered of the claim's vPort.
    [[nodiscard]] const registry::Binding* past(const Claim& claim) const;
    void index_moved(const BindingKey& key, const registry::Binding& binding, bool is_there);
    // The other host's binding of a VM that was here by the claim, in whichever network of the V.VLAN: the two hosts
    // may no longer have each other's VLANs.
    [[nodiscard]] const Entry* moved(const Claim& claim) const;
    struct MoveEntry {
        registry::Move move;
        std::int64_t mod_revision = 0;
    };
    // What was left for this host of the claim's VM.
    [[nodiscard]] const std::pair<const MoveKey, MoveEntry>* left(const Claim& claim) const;
    struct OwnerEntry {
        registry::Owner owner;
        std::int64_t mod_revision = 0;
    };
    [[nodiscard]] const OwnerEntry* owner(const BindingKey& key) const;
    // Whose the claim's VM is as far as a move said so; none: it did not move, or another VM had the vMAC.
    [[nodiscard]] const std::pair<const OwnerKey, OwnerEntry>* owner(const Claim& claim) const;
    // This host, of the claim's VM since a binding of that generation.
    [[nodiscard]] registry::Owner owner_by(const Claim& claim, std::uint64_t generation) const;
    // Keeps the owners in the claim's networks as `held`, which is this host's own, says; for one that moved here
    // this host is it.
    void publish_owner(const Claim& claim, const Entry& held, Publication& out) const;
    // Whether this host's vPort has the binding, or had it until it withdrew it or its lease went.
    [[nodiscard]] bool has_or_had(const BindingKey& key, const std::string& vport) const;
    // What keeps a transaction from being made beside a takeover of what the claim's networks do not hold.
    void guard_owners(const Claim& claim, Step& step) const;
    // One of others_, or no longer.
    void count_other(const registry::Binding& binding);
    void uncount_other(const registry::Binding& binding);

    const std::string host_;
    std::map<std::string, registry::Host> hosts_;
    std::map<Network, std::map<Mac, Entry>> bindings_;
    // One of those that hosts share; `value` is kept of this host's own.
    struct SharedEntry {
        SharedObject object;
        std::int64_t mod_revision = 0;
        std::string value;
    };
    struct PoolEntry {
        registry::PoolMembers members;
        std::int64_t mod_revision = 0;
        std::int64_t lease = 0;
        std::string value;
        std::int64_t gone_at_s = 0;  // as of a binding
    };
    std::map<SharedKey, SharedEntry> shared_;
    std::map<PoolKey, PoolEntry> pools_;
    std::map<InstanceKey, InstanceEntry> instances_;
    std::map<MoveKey, MoveEntry> moves_;  // from this host
    std::map<OwnerKey, OwnerEntry> owners_;
    bool shared_changed_ = false;
    std::map<std::string, Refused> refused_;
    std::set<std::string> waiting_;  // keys refused for the limit alone, kMaxShared at most
    std::set<Network> changed_;
    std::uint64_t refused_total_ = 0;
    std::set<BindingKey> own_;  // that this host holds: a change of others' shall not walk all there are
    // Bindings of other hosts that say that their VM was here, by V.VLAN and vMAC.
    std::map<std::pair<std::uint16_t, Mac>, std::set<BindingKey>> moved_;
    std::map<std::pair<std::uint16_t, Mac>, registry::Binding> past_;  // by V.VLAN and vMAC
    bool came_changed_ = false;
    std::uint64_t others_ = 0;
    std::map<std::string, std::uint64_t> others_of_;  // by tenant
    std::int64_t next_gone_s_ = 0;                    // none is to go before; 0: none at all
};

// An address that two vPorts of one instance say they have, here or on two hosts.
struct AddressClash {
    std::string instance;
    std::string address;
    registry::Binding one;
    registry::Binding other;
};
// `claims` are this host's; prepared vPorts say nothing yet. Of an address that more than two have, all but the first
// are told beside it.
[[nodiscard]] std::vector<AddressClash> address_clashes(const Model& model, const Mirror& mirror,
                                                        const std::vector<Claim>& claims, const std::string& host);

// A binding that cannot be used here.
struct Unusable {
    BindingKey key;
    Entry entry;
    std::string instance;
    std::string why;
    bool is_over = false;  // its host is one peer more than the instance takes
};

// The MACs behind other hosts, by instance, and what the registry holds for these and cannot be used. Every instance
// across hosts has a list, also an empty one; lists that did not change are those of `now`. Where there are more
// peers than an instance takes, those count that came first. With `changed`, `now` and `unusable` are this function's
// last answer for the same model, and only what is in these networks has changed since: the others' are not looked
// at.
[[nodiscard]] Remotes remotes_of(const Model& model, const Mirror& mirror, const std::string& host,
                                 const Remotes& now, const std::set<Network>* changed,
                                 std::vector<Unusable>& unusable);

// The remote MACs that tables hold beside the intent's own: what the last agent had of the registry.
[[nodiscard]] Remotes remotes_in(const Tables& tables, const Model& model, const Ids& ids);

// The networks that the instance is in; none: it has none across hosts.
[[nodiscard]] std::vector<Network> networks_of(const Model& model, const pb::Instance& instance);

}  // namespace ivds::fabric
