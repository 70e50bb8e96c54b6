// SPDX-License-Identifier: Apache-2.0
// kinds.h -- the twelve kinds of objects, for code that does the same with each.
#pragma once

#include "model/model.h"

namespace ivds {

// One kind: its number, its place in a Model, its list in a Config and its name for people.
template <class T, pb::Kind number>
struct KindOf {
    using Type = T;
    static constexpr pb::Kind kind = number;
    Objects<T> Model::* objects;
    google::protobuf::RepeatedPtrField<T>* (pb::Config::*mutable_list)();
    T* (pb::Object::*mutable_object)();
    const char* label;
};

constexpr KindOf<pb::Tenant, pb::TENANT> kTenants{&Model::tenants, &pb::Config::mutable_tenants,
                                                  &pb::Object::mutable_tenant, "tenant"};
constexpr KindOf<pb::Uplink, pb::UPLINK> kUplinks{&Model::uplinks, &pb::Config::mutable_uplinks,
                                                  &pb::Object::mutable_uplink, "uplink"};
constexpr KindOf<pb::Profile, pb::PROFILE> kProfiles{&Model::profiles, &pb::Config::mutable_profiles,
                                                     &pb::Object::mutable_profile, "profile"};
constexpr KindOf<pb::VmacPool, pb::VMAC_POOL> kVmacPools{&Model::vmac_pools, &pb::Config::mutable_vmac_pools,
                                                         &pb::Object::mutable_vmac_pool, "vmac_pool"};
constexpr KindOf<pb::Instance, pb::INSTANCE> kInstances{&Model::instances, &pb::Config::mutable_instances,
                                                        &pb::Object::mutable_instance, "instance"};
constexpr KindOf<pb::Vnic, pb::VNIC> kVnics{&Model::vnics, &pb::Config::mutable_vnics, &pb::Object::mutable_vnic,
                                            "vnic"};
constexpr KindOf<pb::VPort, pb::VPORT> kVports{&Model::vports, &pb::Config::mutable_vports,
                                               &pb::Object::mutable_vport, "vport"};
constexpr KindOf<pb::Set, pb::SET> kSets{&Model::sets, &pb::Config::mutable_sets, &pb::Object::mutable_set, "set"};
constexpr KindOf<pb::VPortPool, pb::VPORT_POOL> kVportPools{&Model::vport_pools, &pb::Config::mutable_vport_pools,
                                                            &pb::Object::mutable_vport_pool, "vport_pool"};
constexpr KindOf<pb::Mirror, pb::MIRROR> kMirrors{&Model::mirrors, &pb::Config::mutable_mirrors,
                                                  &pb::Object::mutable_mirror, "mirror"};
constexpr KindOf<pb::Exporter, pb::EXPORTER> kExporters{&Model::exporters, &pb::Config::mutable_exporters,
                                                        &pb::Object::mutable_exporter, "exporter"};

constexpr KindOf<pb::Inspector, pb::INSPECTOR> kInspectors{&Model::inspectors, &pb::Config::mutable_inspectors,
                                                           &pb::Object::mutable_inspector, "inspector"};

// Calls `f` with each kind, in the order in which objects refer to each other: what is referred to comes first. Rules
// alone refer the other way, from vPorts and instances to sets, pools and mirrors.
template <class F>
void for_each_kind(F&& f) {
    f(kTenants);
    f(kUplinks);
    f(kProfiles);
    f(kVmacPools);
    f(kInspectors);
    f(kInstances);
    f(kVnics);
    f(kVports);
    f(kSets);
    f(kVportPools);
    f(kMirrors);
    f(kExporters);
}

}  // namespace ivds
