// SPDX-License-Identifier: Apache-2.0
// shared.h -- objects of other hosts in a Model: `shared` has them all, and each that this host defines none by the
// name of is among the Model's own kind of objects too, and is known by its shared_by. Pure.
#pragma once

#include "model/model.h"

namespace ivds {

// One kind that hosts share: its number, its place in a Model and in Shared, and its name for people.
template <class T, pb::Kind number>
struct SharedKindOf {
    using Type = T;
    static constexpr pb::Kind kind = number;
    Objects<T> Model::* objects;
    Objects<T> Shared::* shared;
    const char* label;
};

// Calls `f` with each, what is referred to first.
template <class F>
void for_each_shared_kind(F&& f) {
    f(SharedKindOf<pb::Set, pb::SET>{&Model::sets, &Shared::sets, "set"});
    f(SharedKindOf<pb::VPortPool, pb::VPORT_POOL>{&Model::vport_pools, &Shared::vport_pools, "vport_pool"});
    f(SharedKindOf<pb::Profile, pb::PROFILE>{&Model::profiles, &Shared::profiles, "profile"});
}

// Whether both are the same to the last field.
[[nodiscard]] bool same(const Shared& a, const Shared& b);

// Whose the object is, where it is another host's; empty: this host's own, or of a kind that is not shared.
template <class T>
[[nodiscard]] std::string sharer(const T& object) {
    if constexpr (requires { object.shared_by(); })
        return object.shared_by();
    else
        return {};
}

// Whether this host defines anything itself.
[[nodiscard]] bool has_own(const Model& model);

// Puts what `model.shared` says among the objects, and takes out what it no longer says.
void merge_shared(Model& model);
// What `model.shared` was when the objects were saved, as far as they show it.
void recover_shared(Model& model);

// How other hosts get an object of `host`'s: a set with the vMACs of its vPorts instead of these.
[[nodiscard]] pb::Set as_shared(const Model& model, const pb::Set& set, const std::string& host);
[[nodiscard]] pb::Profile as_shared(const pb::Profile& profile, const std::string& host);

}  // namespace ivds
