// SPDX-License-Identifier: Apache-2.0
#include "model/shared.h"

#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <iterator>
#include <set>

#include "model/kinds.h"

namespace ivds {
namespace {

using google::protobuf::util::MessageDifferencer;

// The pool of this host with the members that `shared` has of it; null: it has them.
std::shared_ptr<const pb::VPortPool> with_members(const pb::VPortPool& pool, const Shared& shared) {
    static const pb::VPortPool none;
    const auto found = pool.shared() ? shared.vport_pools.find(pool.name()) : shared.vport_pools.end();
    const auto& members = (found != shared.vport_pools.end() ? *found->second : none).members();
    if (std::ranges::equal(pool.members(), members, MessageDifferencer::Equals)) return nullptr;
    auto out = std::make_shared<pb::VPortPool>(pool);
    *out->mutable_members() = members;
    return out;
}

}  // namespace

bool same(const Shared& a, const Shared& b) {
    bool same = true;
    for_each_shared_kind([&](auto kind) {
        same = same && std::ranges::equal(a.*kind.shared, b.*kind.shared, [](const auto& one, const auto& other) {
                   return one.first == other.first &&
                          (one.second == other.second || MessageDifferencer::Equals(*one.second, *other.second));
               });
    });
    return same;
}

bool has_own(const Model& model) {
    bool any = false;
    for_each_kind([&](auto kind) {
        any = any || std::ranges::any_of(model.*kind.objects,
                                         [](const auto& entry) { return sharer(*entry.second).empty(); });
    });
    return any;
}

void merge_shared(Model& model) {
    for_each_shared_kind([&](auto kind) {
        auto& objects = model.*kind.objects;
        const auto& shared = model.shared.*kind.shared;
        std::erase_if(objects, [&](const auto& entry) {
            return !sharer(*entry.second).empty() && !shared.contains(entry.first);
        });
        for (const auto& [name, object] : shared) {
            auto& place = objects[name];
            if (place == nullptr || !sharer(*place).empty()) place = object;
        }
    });
    for (auto& [name, pool] : model.vport_pools)
        if (sharer(*pool).empty())
            if (auto filled = with_members(*pool, model.shared)) pool = std::move(filled);
}

void recover_shared(Model& model) {
    for_each_shared_kind([&](auto kind) {
        for (const auto& [name, object] : model.*kind.objects)
            if (!sharer(*object).empty()) (model.shared.*kind.shared).emplace(name, object);
    });
    for (const auto& [name, pool] : model.vport_pools) {
        if (!sharer(*pool).empty() || pool->members().empty()) continue;
        auto others = std::make_shared<pb::VPortPool>(*pool);
        others->clear_vports();
        others->set_shared_by(pool->members(0).host());
        model.shared.vport_pools.emplace(name, std::move(others));
    }
}

pb::Set as_shared(const Model& model, const pb::Set& set, const std::string& host) {
    pb::Set out = set;
    out.clear_vports();
    std::set<std::string> macs(set.macs().begin(), set.macs().end());
    for (const std::string& vport : set.vports()) {
        const std::string& vnic = vnic_of(model, *model.vports.at(vport));
        if (vnic.empty()) continue;
        const std::string& vmac = model.vnics.at(vnic)->vmac();
        if (macs.insert(vmac).second) out.add_macs(vmac);
    }
    out.set_shared(true);
    out.set_shared_by(host);
    return out;
}

pb::Profile as_shared(const pb::Profile& profile, const std::string& host) {
    pb::Profile out = profile;
    out.set_shared(true);
    out.set_shared_by(host);
    return out;
}

}  // namespace ivds
