// SPDX-License-Identifier: Apache-2.0
// model.h -- the intent: what the operator wants, by name. A Model is a value: a change makes the next Model from
// the one that holds now, validates it as a whole, and only then is it compiled and applied. Objects are shared
// between Models and never change once made, so a pointer that is the same says that nothing changed. Pure.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "ivds.pb.h"
#include "loader/error.h"
#include "loader/tables.h"

namespace ivds {

namespace pb = ::ivds::v1;

template <class T>
using Objects = std::map<std::string, std::shared_ptr<const T>>;

// What validation needs to know again and again about an instance's static MACs, worked out once a list.
struct StaticIndex {
    std::vector<std::uint64_t> macs;   // sorted
    std::vector<std::string> vports;   // that the list names, sorted, each once
    std::vector<std::uint32_t> vlans;  // that the list names, sorted, each once
};

// What other hosts share, as the registry last said: each object names its host in shared_by. Of pools they are the
// members on other hosts.
struct Shared {
    Objects<pb::Profile> profiles;
    Objects<pb::Set> sets;
    Objects<pb::VPortPool> vport_pools;
};

struct Model {
    Objects<pb::Tenant> tenants;
    Objects<pb::Uplink> uplinks;
    Objects<pb::Profile> profiles;
    Objects<pb::VmacPool> vmac_pools;
    Objects<pb::Instance> instances;
    Objects<pb::Vnic> vnics;
    Objects<pb::VPort> vports;
    Objects<pb::Set> sets;
    Objects<pb::VPortPool> vport_pools;
    Objects<pb::Mirror> mirrors;
    Objects<pb::Exporter> exporters;
    Objects<pb::Inspector> inspectors;
    Objects<StaticIndex> static_macs;  // derived; of the instances that have static MACs
    // Of these, what this host defines no object by the name of is above too, and pools here have their members.
    Shared shared;
};

// The MAC of an interface, for pools that are derived from an uplink. Asked once in a pool's life: the answer
// is kept in the pool's physical_mac.
using MacOf = std::function<Result<Mac>(const std::string& netdev)>;

// Whether another host is known to have the MAC, so that no pool here hands it out.
using IsBound = std::function<bool(const Mac&)>;

// The next Model, from the one that holds now. All three write MACs and TPIDs in one form, fill in what the agent
// assigns (V.VLANs, vMACs, a pool's physical MAC) unless the same object has it already, keep a pool's
// reservations if none are given, take over every object that did not change, and validate the whole. They
// fail with the first thing that is wrong, and `now` stays what it was.
[[nodiscard]] Result<Model> next_from_config(const Model& now, pb::Config config, const MacOf& mac_of,
                                             const IsBound& is_bound = {});
[[nodiscard]] Result<Model> next_with(const Model& now, pb::Object object, const MacOf& mac_of,
                                      const IsBound& is_bound = {});
// Code::conflict with the users' names if something refers to it; an object that is not there is no error.
[[nodiscard]] Result<Model> next_without(const Model& now, const pb::Ref& ref);

// Other hosts share these from now on. What `now` has of another host, and `shared` has not, stays as it was as long
// as something here names it; a pool stays without members then.
[[nodiscard]] Result<Model> next_shared(const Model& now, Shared shared);

// Code::not_found: no object of the kind that the file calls `label` has the name.
[[nodiscard]] std::unexpected<Error> no_such(std::string_view label, const std::string& name);

// Takes `vmac`, or any free one if it is empty, out of `pool`. Reserving twice and releasing twice are no errors;
// an empty pool is Code::exhausted. *vmac is the one that was taken.
[[nodiscard]] Result<Model> next_reserved(const Model& now, const std::string& pool, std::string& vmac,
                                          const IsBound& is_bound = {});
[[nodiscard]] Result<Model> next_released(const Model& now, const std::string& pool, const std::string& vmac);

// A Model whose objects are taken as they are, for a state that was valid when it was saved.
[[nodiscard]] Model model_from_saved(pb::Config config);

// This host's own objects: what applied anew makes the same of them.
[[nodiscard]] pb::Config to_config(const Model& model);
// One object, or all of a kind (KIND_NONE: of every kind), sorted by name.
[[nodiscard]] Result<pb::Object> get(const Model& model, const pb::Ref& ref);
[[nodiscard]] pb::ObjectList list(const Model& model, pb::Kind kind);

// What turns `now` into `next`, for people: updates say "field: old -> new". Creations and updates first, in the
// order in which objects refer to each other, then deletions in the reverse order.
[[nodiscard]] std::vector<pb::Change> diff(const Model& now, const Model& next);

// Whether the whole is consistent and may follow `now`. The functions above call it.
[[nodiscard]] Result<> validate(const Model& next, const Model& now);
// Whether a name can be one.
[[nodiscard]] Result<> validate_name(const char* label, const std::string& name);
// Whether one object is well formed by itself.
[[nodiscard]] Result<> validate_object(const pb::Tenant& tenant);
[[nodiscard]] Result<> validate_object(const pb::Uplink& uplink);
[[nodiscard]] Result<> validate_object(const pb::Profile& profile);
[[nodiscard]] Result<> validate_object(const pb::VmacPool& pool);
[[nodiscard]] Result<> validate_object(const pb::Instance& instance);
[[nodiscard]] Result<> validate_object(const pb::Vnic& vnic);
[[nodiscard]] Result<> validate_object(const pb::VPort& vport);
[[nodiscard]] Result<> validate_object(const pb::Set& set);
[[nodiscard]] Result<> validate_object(const pb::VPortPool& pool);
[[nodiscard]] Result<> validate_object(const pb::Mirror& mirror);
[[nodiscard]] Result<> validate_object(const pb::Exporter& exporter);
[[nodiscard]] Result<> validate_object(const pb::Inspector& inspector);
// Whether no mirror's copies can come back to it, and none is in the way of an instance.
[[nodiscard]] Result<> validate_mirrors(const Model& model);
// Whether exporters are not too many, and name tenants that there are.
[[nodiscard]] Result<> validate_exporters(const Model& model);

// Whether the flows of the instance are told by the exporter.
[[nodiscard]] bool is_exported(const pb::Exporter& exporter, const pb::Instance& instance);

// Values with the schema's defaults filled in.
constexpr std::uint32_t kDefaultMtuBytes = 1500;
constexpr std::uint32_t kDefaultAgeS = 300;
constexpr std::uint32_t kDefaultInstanceFdb = 16384;
constexpr std::uint32_t kDefaultUplinkFdb = 1'000'000;
constexpr std::uint32_t kDefaultSpoofFdb = 16;
constexpr std::uint32_t kDefaultPoolSize = 256;
constexpr std::uint32_t kDefaultFlows = 16384;
constexpr std::uint32_t kDefaultActiveTimeoutS = 60;
constexpr std::uint32_t kDefaultTemplateRefreshS = 60;
[[nodiscard]] std::uint32_t mtu_bytes(const pb::Instance& instance);
[[nodiscard]] std::uint32_t pool_size(const pb::VmacPool& pool);
[[nodiscard]] std::uint32_t fdb_limit(const pb::Instance& instance);

// What the instances of a tenant take of the host together.
struct TenantUse {
    std::uint32_t instances = 0;
    std::uint32_t vports = 0;
    std::uint64_t fdb = 0;  // their limits, whether or not so much is learned
    std::uint32_t bindings = 0;
    std::uint64_t rate_in_mbps = 0;
    std::uint64_t rate_out_mbps = 0;
    std::uint32_t unlimited_rates = 0;  // vPorts without a rate, one way or both
};
[[nodiscard]] std::map<std::string, TenantUse> tenant_use(const Model& model);

// The outer VLAN of an instance's frames: its own, or the transport VLAN in independent mode; 0: none.
[[nodiscard]] std::uint32_t outer_vlan(const Model& model, const pb::Instance& instance);
// The uplink whose interface has the cable that this uplink's frames go by: itself, or the PF's where it is a VF.
[[nodiscard]] const std::string& wire_of(const Model& model, const std::string& uplink);

// The vNIC behind the vPort: one in a trunk that has none of its own shares its trunk's. Empty: none.
[[nodiscard]] const std::string& vnic_of(const Model& model, const pb::VPort& vport);

// The VID by which the VM of its trunk knows the vPort; 0: nothing says.
[[nodiscard]] std::uint32_t trunk_vid(const Model& model, const pb::VPort& vport);

}  // namespace ivds
