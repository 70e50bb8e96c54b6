// SPDX-License-Identifier: Apache-2.0
// model.cpp -- how the next Model comes from the one that holds: taking over, assigning, comparing.
#include "model/model.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>

#include <algorithm>
#include <iterator>
#include <tuple>
#include <unordered_map>
#include <unordered_set>

#include "api/codec.h"
#include "model/kinds.h"
#include "model/rule.h"
#include "model/shared.h"
#include "model/vmac_pool.h"

namespace ivds {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Objects that a change brings, still being filled in.
template <class T>
using Drafts = std::map<std::string, std::shared_ptr<T>>;
using AllDrafts = std::tuple<Drafts<pb::Tenant>, Drafts<pb::Uplink>, Drafts<pb::Profile>, Drafts<pb::VmacPool>,
                             Drafts<pb::Instance>, Drafts<pb::Vnic>, Drafts<pb::VPort>, Drafts<pb::Set>,
                             Drafts<pb::VPortPool>, Drafts<pb::Mirror>, Drafts<pb::Exporter>, Drafts<pb::Inspector>>;

// ---------------------------------------------------------------------------------------- one form

// Text that is no MAC or TPID stays as it is, for validation to name it.
void normalise_mac(std::string& text) {
    if (const auto mac = parse_mac(text)) text = format_mac(*mac);
}
void normalise_tpid(std::string& text) {
    std::ranges::transform(text, text.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
}

void normalise(pb::Uplink& uplink) {
    normalise_tpid(*uplink.mutable_outer_tpid());
    normalise_tpid(*uplink.mutable_inner_tpid());
}
void normalise(pb::Tenant&) {}
void normalise(pb::Profile& profile) {
    normalise_rules(*profile.mutable_rules());
}
void normalise(pb::VmacPool& pool) {
    normalise_mac(*pool.mutable_physical_mac());
    for (std::string& mac : *pool.mutable_reserved()) normalise_mac(mac);
}
void normalise(pb::Instance& instance) {
    for (pb::StaticMac& entry : *instance.mutable_fdb()) normalise_mac(*entry.mutable_mac());
    normalise_rules(*instance.mutable_rules());
}
void normalise(pb::Vnic& vnic) {
    normalise_mac(*vnic.mutable_vmac());
}
void normalise(pb::VPort& vport) {
    for (std::string& mac : *vport.mutable_extra_macs()) normalise_mac(mac);
    normalise_rules(*vport.mutable_rules());
    for (pb::RxFilter& filter : *vport.mutable_rx_filters()) to_lower(*filter.mutable_protocol());
}
void normalise(pb::Set& set) {
    normalise_set(set);
}
void normalise(pb::VPortPool&) {}
void normalise(pb::Mirror& mirror) {
    normalise_rules(*mirror.mutable_filter());
}
void normalise(pb::Exporter&) {}
void normalise(pb::Inspector&) {}

bool same(const Message& a, const Message& b) {
    return a.ByteSizeLong() == b.ByteSizeLong() && a.SerializeAsString() == b.SerializeAsString();
}

template <class T>
const T* find(const Objects<T>& objects, const std::string& name) {
    const auto found = objects.find(name);
    return found == objects.end() ? nullptr : found->second.get();
}

// ---------------------------------------------------------------------------------------- what the agent assigns

Result<> fill_pool(pb::VmacPool& pool, const Model& next, const Model& now, const MacOf& mac_of) {
    const pb::VmacPool* before = find(now.vmac_pools, pool.name());
    if (before != nullptr && pool.reserved().empty()) *pool.mutable_reserved() = before->reserved();
    if (!pool.physical_mac().empty() || pool.uplink().empty()) return {};
    if (before != nullptr && before->uplink() == pool.uplink()) {
        pool.set_physical_mac(before->physical_mac());
        return {};
    }
    const pb::Uplink* uplink = find(next.uplinks, pool.uplink());
    if (uplink == nullptr) return {};  // validation names the missing uplink
    const auto mac = mac_of(uplink->netdev());
    if (!mac) return std::unexpected(mac.error().in("vmac_pool " + pool.name()));
    pool.set_physical_mac(format_mac(*mac));
    return {};
}

// V.VLANs in use, by wire and outer VLAN.
class VvlanAllocator {
public:
    explicit VvlanAllocator(const Model& model) : model_(model) {
        for (const auto& [name, instance] : model.instances) claim(*instance);
    }

    void claim(const pb::Instance& instance) {
        if (instance.vvlan() >= 1 && instance.vvlan() <= IVDS_VLAN_MAX) space(instance).used[instance.vvlan()] = true;
    }

    Result<std::uint32_t> take(const pb::Instance& instance) {
        Space& free = space(instance);
        while (free.next <= IVDS_VLAN_MAX && free.used[free.next]) ++free.next;
        if (free.next > IVDS_VLAN_MAX)
            return fail(Code::exhausted, "IVDS-M009",
                        fmt::format("instance {}: all {} V.VLANs of VLAN {} on uplink {} are taken", instance.name(),
                                    IVDS_VLAN_MAX, outer_vlan(model_, instance), instance.uplink()),
                        "use another VLAN, or delete an instance");
        free.used[free.next] = true;
        return free.next;
    }

private:
    struct Space {
        std::vector<bool> used = std::vector<bool>(IVDS_VLAN_MAX + 1);
        std::uint32_t next = 1;
    };
    Space& space(const pb::Instance& instance) {
        return spaces_[{wire_of(model_, instance.uplink()), outer_vlan(model_, instance)}];
    }

    const Model& model_;
    std::map<std::pair<std::string, std::uint32_t>, Space> spaces_;
};

Result<> fill_vvlans(Drafts<pb::Instance>& drafts, const Model& next, const Model& now) {
    std::vector<pb::Instance*> open;
    for (const auto& [name, draft] : drafts) {
        if (draft->vvlan() != 0 || draft->uplink().empty()) continue;
        const pb::Instance* before = find(now.instances, name);
        if (before != nullptr && before->uplink() == draft->uplink() && before->mode() == draft->mode() &&
            before->vlan() == draft->vlan())
            draft->set_vvlan(before->vvlan());
        if (draft->vvlan() == 0) open.push_back(draft.get());
    }
    if (open.empty()) return {};
    VvlanAllocator allocator(next);
    for (pb::Instance* draft : open) {
        const auto vvlan = allocator.take(*draft);
        if (!vvlan) return std::unexpected(vvlan.error());
        draft->set_vvlan(*vvlan);
    }
    return {};
}

// Every MAC that this host knows: a vMAC out of a pool must be none of them.
std::unordered_set<std::uint64_t> known_macs(const Model& model) {
    std::unordered_set<std::uint64_t> known;
    const auto add = [&](const std::string& text) {
        if (const auto mac = parse_mac(text)) known.insert(to_number(*mac));
    };
    for (const auto& [name, pool] : model.vmac_pools) {
        add(pool->physical_mac());
        for (const std::string& mac : pool->reserved()) add(mac);
    }
    for (const auto& [name, vnic] : model.vnics) add(vnic->vmac());
    for (const auto& [name, vport] : model.vports)
        for (const std::string& mac : vport->extra_macs()) add(mac);
    for (const auto& [name, instance] : model.instances)
        for (const pb::StaticMac& entry : instance->fdb()) add(entry.mac());
    return known;
}

Result<Mac> take_vmac(const pb::VmacPool& pool, std::unordered_set<std::uint64_t>& known, const IsBound& is_bound) {
    const auto physical = parse_mac(pool.physical_mac());
    if (!physical) return std::unexpected(physical.error().in("vmac_pool " + pool.name()));
    const VmacSequence sequence(*physical, pool.name());
    for (std::uint32_t n = 0; n < pool_size(pool); ++n) {
        const Mac mac = sequence.at(n);
        if (known.insert(to_number(mac)).second && !(is_bound && is_bound(mac))) return mac;
    }
    return fail(Code::exhausted, "IVDS-M017",
                fmt::format("vmac_pool {}: all {} vMACs are taken", pool.name(), pool_size(pool)),
                "release reservations, delete vNICs or give the pool a larger size");
}

Result<> fill_vmacs(Drafts<pb::Vnic>& drafts, const Model& next, const Model& now, const IsBound& is_bound) {
    std::vector<pb::Vnic*> open;
    for (const auto& [name, draft] : drafts) {
        if (!draft->vmac().empty() || draft->pool().empty()) continue;
        const pb::Vnic* before = find(now.vnics, name);
        if (before != nullptr && before->pool() == draft->pool())
            draft->set_vmac(before->vmac());
        else if (next.vmac_pools.contains(draft->pool()))  // else validation names the missing pool
            open.push_back(draft.get());
    }
    if (open.empty()) return {};
    auto known = known_macs(next);
    for (pb::Vnic* draft : open) {
        const auto vmac = take_vmac(*next.vmac_pools.at(draft->pool()), known, is_bound);
        if (!vmac) return std::unexpected(vmac.error().in("vnic " + draft->name()));
        draft->set_vmac(format_mac(*vmac));
    }
    return {};
}

std::shared_ptr<const StaticIndex> index_of(const pb::Instance& instance) {
    auto index = std::make_shared<StaticIndex>();
    index->macs.reserve(static_cast<std::size_t>(instance.fdb_size()));
    const std::string* last = nullptr;  // lists name the same vPort many times in a row
    for (const pb::StaticMac& entry : instance.fdb()) {
        index->macs.push_back(to_number(parse_mac(entry.mac()).value_or(Mac{})));
        if (entry.vport().empty()) {
            index->vlans.push_back(entry.vlan());
        } else if (last == nullptr || *last != entry.vport()) {
            index->vports.push_back(entry.vport());
            last = &entry.vport();
        }
    }
    const auto sort_unique = [](auto& list) {
        std::ranges::sort(list);
        list.erase(std::unique(list.begin(), list.end()), list.end());
        list.shrink_to_fit();
    };
    std::ranges::sort(index->macs);
    sort_unique(index->vports);
    sort_unique(index->vlans);
    return index;
}

// ---------------------------------------------------------------------------------------- the next model

// What is another host's is changed there alone.
std::unexpected<Error> read_only(const char* label, const std::string& name, const std::string& host) {
    return fail(Code::conflict, "IVDS-M090",
                fmt::format("{} {} is shared by host {}, and read-only here", label, name, host),
                "change it on that host, or define one of this name here, without shared_by");
}

// `next` holds what is taken over from `now`; `drafts` is what the change brings.
Result<Model> settle(Model next, AllDrafts drafts, const Model& now, const MacOf& mac_of, const IsBound& is_bound) {
    Result<> done;
    for_each_kind([&](auto kind) {
        using T = typename decltype(kind)::Type;
        for (const auto& [name, draft] : std::get<Drafts<T>>(drafts)) {
            if (!done) return;
            normalise(*draft);
            done = validate_object(*draft);
            if (const auto known = check_enums(*draft); done && !known)
                done = std::unexpected(known.error().in(fmt::format("{} {}", kind.label, name)));
            if (const std::string host = sharer(*draft); done && !host.empty())
                done = read_only(kind.label, name, host);
            (next.*kind.objects)[name] = draft;
        }
    });
    if (!done) return std::unexpected(done.error());

    for (const auto& [name, draft] : std::get<Drafts<pb::VmacPool>>(drafts))
        if (auto filled = fill_pool(*draft, next, now, mac_of); !filled) return std::unexpected(filled.error());
    if (auto filled = fill_vvlans(std::get<Drafts<pb::Instance>>(drafts), next, now); !filled)
        return std::unexpected(filled.error());
    if (auto filled = fill_vmacs(std::get<Drafts<pb::Vnic>>(drafts), next, now, is_bound); !filled)
        return std::unexpected(filled.error());

    for (const auto& [name, draft] : std::get<Drafts<pb::VPortPool>>(drafts)) {
        draft->clear_members();
        const auto found = draft->shared() ? next.shared.vport_pools.find(name) : next.shared.vport_pools.end();
        if (found != next.shared.vport_pools.end()) *draft->mutable_members() = found->second->members();
    }

    // An object that is what it was stays the same object.
    for_each_kind([&](auto kind) {
        using T = typename decltype(kind)::Type;
        for (const auto& [name, draft] : std::get<Drafts<T>>(drafts)) {
            const auto before = (now.*kind.objects).find(name);
            if (before != (now.*kind.objects).end() && same(*before->second, *draft))
                (next.*kind.objects)[name] = before->second;
        }
    });
    merge_shared(next);

    next.static_macs.clear();
    for (const auto& [name, instance] : next.instances) {
        if (instance->fdb().empty()) continue;
        const auto before = now.instances.find(name);
        const auto index = now.static_macs.find(name);
        const bool kept =
            before != now.instances.end() && before->second == instance && index != now.static_macs.end();
        next.static_macs.emplace(name, kept ? index->second : index_of(*instance));
    }

    if (auto valid = validate(next, now); !valid) return std::unexpected(valid.error());
    return next;
}

// Moves the objects of one list into drafts; two by one name are refused.
template <class T>
Result<> take(google::protobuf::RepeatedPtrField<T>& list, Drafts<T>& drafts, const char* label) {
    while (!list.empty()) {
        std::shared_ptr<T> object(list.ReleaseLast());
        const std::string name = object->name();
        if (!drafts.emplace(name, std::move(object)).second)
            return fail(Code::invalid, "IVDS-M005", fmt::format("{} {} is given twice", label, name),
                        "give each its own name");
    }
    return {};
}

// Names of the objects in `model` that refer to `ref`, each with its kind.
std::vector<std::string> users_of(const Model& model, const pb::Ref& ref) {
    std::vector<std::string> users;
    const auto check = [&](pb::Kind kind, const std::string& name, const char* label, const std::string& user) {
        if (kind == ref.kind() && name == ref.name()) users.push_back(fmt::format("{} {}", label, user));
    };
    for (const auto& [name, uplink] : model.uplinks) check(pb::UPLINK, uplink->vf().pf(), "uplink", name);
    for (const auto& [name, pool] : model.vmac_pools) check(pb::UPLINK, pool->uplink(), "vmac_pool", name);
    for (const auto& [name, instance] : model.instances) {
        check(pb::UPLINK, instance->uplink(), "instance", name);
        check(pb::TENANT, instance->tenant(), "instance", name);
        check(pb::INSPECTOR, instance->inspector(), "instance", name);
    }
    for (const auto& [name, vnic] : model.vnics) check(pb::VMAC_POOL, vnic->pool(), "vnic", name);
    for (const auto& [name, vport] : model.vports) {
        check(pb::INSTANCE, vport->instance(), "vport", name);
        check(pb::VNIC, vport->vnic(), "vport", name);
        check(pb::VPORT, vport->trunk(), "vport", name);
        check(pb::PROFILE, vport->profile(), "vport", name);
        check(pb::INSPECTOR, vport->inspector(), "vport", name);
        check(pb::UPLINK, vport->vf().pf(), "vport", name);
    }
    for (const auto& [name, index] : model.static_macs)
        for (const std::string& vport : index->vports) check(pb::VPORT, vport, "static MACs of instance", name);
    for (const auto& [name, set] : model.sets)
        for (const std::string& vport : set->vports()) check(pb::VPORT, vport, "set", name);
    for (const auto& [name, pool] : model.vport_pools)
        for (const std::string& vport : pool->vports()) check(pb::VPORT, vport, "vport_pool", name);
    for (const auto& [name, mirror] : model.mirrors) {
        check(pb::VPORT, mirror->to_vport(), "mirror", name);
        check(pb::UPLINK, mirror->to_uplink(), "mirror", name);
        for (const pb::Mirror::Source& source : mirror->sources()) {
            check(pb::VPORT, source.vport(), "mirror", name);
            check(pb::INSTANCE, source.instance(), "mirror", name);
            check(pb::UPLINK, source.uplink(), "mirror", name);
        }
    }
    for (const auto& [name, exporter] : model.exporters) {
        for (const std::string& instance : exporter->instances()) check(pb::INSTANCE, instance, "exporter", name);
        for (const std::string& tenant : exporter->tenants()) check(pb::TENANT, tenant, "exporter", name);
    }
    const auto check_rules = [&](const RuleList& rules, const char* label, const std::string& name) {
        for (const pb::Rule& rule : rules) {
            check(pb::SET, rule.src_set(), label, name);
            if (rule.dst_set() != rule.src_set()) check(pb::SET, rule.dst_set(), label, name);
            check(pb::VPORT, rule.to_vport(), label, name);
            check(pb::VPORT_POOL, rule.to_pool(), label, name);
            check(pb::MIRROR, rule.mirror(), label, name);
        }
    };
    for (const auto& [name, vport] : model.vports) check_rules(vport->rules(), "a rule of vport", name);
    for (const auto& [name, profile] : model.profiles) check_rules(profile->rules(), "a rule of profile", name);
    for (const auto& [name, instance] : model.instances) check_rules(instance->rules(), "a rule of instance", name);
    for (const auto& [name, mirror] : model.mirrors) check_rules(mirror->filter(), "the filter of mirror", name);
    users.erase(std::unique(users.begin(), users.end()), users.end());
    return users;
}

// ---------------------------------------------------------------------------------------- differences in words

std::string value_text(const Message& message, const FieldDescriptor& field) {
    const auto& reflection = *message.GetReflection();
    if (field.is_repeated()) {
        std::vector<std::string> values;
        values.reserve(static_cast<std::size_t>(reflection.FieldSize(message, &field)));
        for (int i = 0; i < reflection.FieldSize(message, &field); ++i)
            values.push_back(field.cpp_type() == FieldDescriptor::CPPTYPE_STRING
                                 ? reflection.GetRepeatedString(message, &field, i)
                                 : std::to_string(reflection.GetRepeatedUInt32(message, &field, i)));
        return fmt::format("[{}]", fmt::join(values, ", "));
    }
    switch (field.cpp_type()) {
        case FieldDescriptor::CPPTYPE_STRING: {
            const std::string text = reflection.GetString(message, &field);
            return text.empty() ? "none" : text;
        }
        case FieldDescriptor::CPPTYPE_BOOL:
            return reflection.GetBool(message, &field) ? "true" : "false";
        case FieldDescriptor::CPPTYPE_ENUM:
            return enum_text(*field.enum_type(), reflection.GetEnumValue(message, &field));
        case FieldDescriptor::CPPTYPE_MESSAGE: {
            if (!reflection.HasField(message, &field)) return "none";
            const Message& part = reflection.GetMessage(message, &field);
            std::vector<std::string> values;
            for (int i = 0; i < part.GetDescriptor()->field_count(); ++i) {
                const FieldDescriptor& of_part = *part.GetDescriptor()->field(i);
                values.push_back(fmt::format("{}={}", of_part.name(), value_text(part, of_part)));
            }
            return fmt::format("{}", fmt::join(values, ","));
        }
        default:
            return std::to_string(reflection.GetUInt32(message, &field));
    }
}

// A long list of messages is told by how many came and went.
std::string list_difference(const Message& before, const Message& after, const FieldDescriptor& field) {
    const auto sorted = [&](const Message& message) {
        std::vector<std::string> items;
        items.reserve(static_cast<std::size_t>(message.GetReflection()->FieldSize(message, &field)));
        for (int i = 0; i < message.GetReflection()->FieldSize(message, &field); ++i)
            items.push_back(message.GetReflection()->GetRepeatedMessage(message, &field, i).SerializeAsString());
        std::ranges::sort(items);
        return items;
    };
    const auto old_items = sorted(before);
    const auto new_items = sorted(after);
    std::vector<std::string> gone;
    std::vector<std::string> come;
    std::ranges::set_difference(old_items, new_items, std::back_inserter(gone));
    std::ranges::set_difference(new_items, old_items, std::back_inserter(come));
    return fmt::format("{} -> {} entries (+{} -{})", old_items.size(), new_items.size(), come.size(), gone.size());
}

void describe_update(const Message& before, const Message& after, pb::Change& change) {
    const auto& type = *before.GetDescriptor();
    for (int i = 0; i < type.field_count(); ++i) {
        const FieldDescriptor& field = *type.field(i);
        if (field.is_repeated() && field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
            const std::string text = list_difference(before, after, field);
            if (!text.ends_with("(+0 -0)")) change.add_fields(fmt::format("{}: {}", field.name(), text));
            continue;
        }
        const std::string old_text = value_text(before, field);
        const std::string new_text = value_text(after, field);
        if (old_text != new_text) change.add_fields(fmt::format("{}: {} -> {}", field.name(), old_text, new_text));
    }
    if (change.fields().empty()) change.add_fields("order of a list");
}

}  // namespace

// ---------------------------------------------------------------------------------------- public

std::unexpected<Error> no_such(std::string_view label, const std::string& name) {
    return fail(Code::not_found, "IVDS-M027", fmt::format("there is no {} {}", label, name),
                fmt::format("`ivds-ctl {} list` shows all", label == "vmac_pool"    ? "vmac-pool"
                                                            : label == "vport_pool" ? "vport-pool"
                                                                                    : label));
}

Result<Model> next_from_config(const Model& now, pb::Config config, const MacOf& mac_of, const IsBound& is_bound) {
    AllDrafts drafts;
    Result<> done;
    for_each_kind([&](auto kind) {
        using T = typename decltype(kind)::Type;
        if (done) done = take<T>(*(config.*kind.mutable_list)(), std::get<Drafts<T>>(drafts), kind.label);
    });
    if (!done) return std::unexpected(done.error());
    Model next;
    next.shared = now.shared;
    return settle(std::move(next), std::move(drafts), now, mac_of, is_bound);
}

Result<Model> next_with(const Model& now, pb::Object object, const MacOf& mac_of, const IsBound& is_bound) {
    AllDrafts drafts;
    bool known = false;
    for_each_kind([&](auto kind) {
        using T = typename decltype(kind)::Type;
        if (kind_of(object) != kind.kind) return;
        known = true;
        auto draft = std::make_shared<T>();
        draft->Swap((object.*kind.mutable_object)());
        std::get<Drafts<T>>(drafts).emplace(draft->name(), draft);
    });
    if (!known)
        return fail(
            Code::invalid, "IVDS-M002", "the object has no kind",
            "give a tenant, uplink, profile, vmac_pool, instance, vnic, vport, set, vport_pool, mirror, exporter or "
            "inspector");
    return settle(now, std::move(drafts), now, mac_of, is_bound);
}

Result<Model> next_shared(const Model& now, Shared shared) {
    for_each_shared_kind([&](auto kind) {
        using T = typename decltype(kind)::Type;
        auto& objects = shared.*kind.shared;
        for (const auto& [name, object] : now.shared.*kind.shared) {
            if (const auto found = objects.find(name); found != objects.end()) {
                if (same(*found->second, *object)) found->second = object;
                continue;
            }
            const T* here = find(now.*kind.objects, name);
            pb::Ref ref;
            ref.set_kind(kind.kind);
            ref.set_name(name);
            if (here == nullptr || sharer(*here).empty() || users_of(now, ref).empty()) continue;
            if constexpr (requires { object->members(); }) {
                if (object->members().empty()) {
                    objects.emplace(name, object);
                    continue;
                }
                auto alone = std::make_shared<T>(*object);
                alone->clear_members();
                objects.emplace(name, std::move(alone));
            } else {
                objects.emplace(name, object);
            }
        }
    });
    Model next = now;
    next.shared = std::move(shared);
    return settle(std::move(next), {}, now, {}, {});
}

Result<Model> next_without(const Model& now, const pb::Ref& ref) {
    // What another host shares by the name takes the place of this host's own.
    bool is_replaced = false;
    Result<> own;
    for_each_shared_kind([&](auto kind) {
        if (ref.kind() != kind.kind) return;
        is_replaced = (now.shared.*kind.shared).contains(ref.name());
        const auto* here = find(now.*kind.objects, ref.name());
        if (here != nullptr && !sharer(*here).empty()) own = read_only(kind.label, ref.name(), sharer(*here));
    });
    if (!own) return std::unexpected(own.error());
    if (const auto users = users_of(now, ref); !is_replaced && !users.empty()) {
        constexpr std::size_t shown = 5;
        std::string text = fmt::format(
            "{}", fmt::join(users.begin(), users.begin() + static_cast<std::ptrdiff_t>(std::min(users.size(), shown)),
                            ", "));
        if (users.size() > shown) text += fmt::format(" and {} more", users.size() - shown);
        return fail(Code::conflict, "IVDS-M007",
                    fmt::format("{} {} is in use by {}", to_text(ref.kind()), ref.name(), text),
                    "delete or change those first");
    }
    Model next = now;
    bool known = false;
    for_each_kind([&](auto kind) {
        if (ref.kind() != kind.kind) return;
        known = true;
        (next.*kind.objects).erase(ref.name());
    });
    if (!known) return fail(Code::invalid, "IVDS-M002", "the reference has no kind");
    return settle(std::move(next), {}, now, {}, {});
}

Result<Model> next_reserved(const Model& now, const std::string& pool, std::string& vmac, const IsBound& is_bound) {
    const pb::VmacPool* before = find(now.vmac_pools, pool);
    if (before == nullptr) return no_such("vmac_pool", pool);
    Mac mac{};
    if (vmac.empty()) {
        auto known = known_macs(now);
        const auto taken = take_vmac(*before, known, is_bound);
        if (!taken) return std::unexpected(taken.error());
        mac = *taken;
    } else {
        const auto given = parse_mac(vmac);
        if (!given) return std::unexpected(given.error());
        mac = *given;
        const VmacSequence sequence(parse_mac(before->physical_mac()).value_or(Mac{}), pool);
        if (!is_unicast(mac) || !is_local(mac) || sequence.index_of(mac) >= pool_size(*before))
            return fail(Code::invalid, "IVDS-M022",
                        fmt::format("{} is no vMAC of vmac_pool {}", format_mac(mac), pool),
                        "reserve without a vMAC takes a free one");
        if (std::ranges::find(before->reserved(), format_mac(mac)) != before->reserved().end()) {
            vmac = format_mac(mac);
            return now;
        }
        for (const auto& [name, vnic] : now.vnics)
            if (vnic->vmac() == format_mac(mac))
                return fail(Code::exists, "IVDS-M023",
                            fmt::format("{} is the vMAC of vnic {}", format_mac(mac), name));
    }
    vmac = format_mac(mac);
    pb::Object object;
    *object.mutable_vmac_pool() = *before;
    object.mutable_vmac_pool()->add_reserved(vmac);
    return next_with(now, std::move(object), {});
}

Result<Model> next_released(const Model& now, const std::string& pool, const std::string& vmac) {
    const pb::VmacPool* before = find(now.vmac_pools, pool);
    if (before == nullptr) return no_such("vmac_pool", pool);
    const auto mac = parse_mac(vmac);
    if (!mac) return std::unexpected(mac.error());
    // Not by way of next_with: there, an empty list of reservations means "keep them".
    auto after = std::make_shared<pb::VmacPool>(*before);
    auto* reserved = after->mutable_reserved();
    const auto gone = std::remove(reserved->begin(), reserved->end(), format_mac(*mac));
    if (gone == reserved->end()) {
        for (const auto& [name, vnic] : now.vnics)
            if (vnic->vmac() == format_mac(*mac))
                return fail(Code::conflict, "IVDS-M023",
                            fmt::format("{} is the vMAC of vnic {}", format_mac(*mac), name),
                            "delete the vNIC, and its vMAC is free");
        return now;
    }
    reserved->erase(gone, reserved->end());
    Model next = now;
    next.vmac_pools[pool] = after;
    return next;
}

Model model_from_saved(pb::Config config) {
    Model model;
    for_each_kind([&](auto kind) {
        using T = typename decltype(kind)::Type;
        auto& list = *(config.*kind.mutable_list)();
        while (!list.empty()) {
            std::shared_ptr<T> object(list.ReleaseLast());
            (model.*kind.objects).emplace(object->name(), object);
        }
    });
    for (const auto& [name, instance] : model.instances)
        if (!instance->fdb().empty()) model.static_macs.emplace(name, index_of(*instance));
    recover_shared(model);
    return model;
}

pb::Config to_config(const Model& model) {
    pb::Config config;
    for_each_kind([&](auto kind) {
        for (const auto& [name, object] : model.*kind.objects)
            if (sharer(*object).empty()) *(config.*kind.mutable_list)()->Add() = *object;
    });
    for (pb::VPortPool& pool : *config.mutable_vport_pools()) pool.clear_members();
    return config;
}

Result<pb::Object> get(const Model& model, const pb::Ref& ref) {
    Result<pb::Object> result = fail(Code::invalid, "IVDS-M002", "the reference has no kind");
    for_each_kind([&](auto kind) {
        if (ref.kind() != kind.kind) return;
        const auto* object = find(model.*kind.objects, ref.name());
        if (object == nullptr) {
            result = no_such(kind.label, ref.name());
            return;
        }
        result = pb::Object();
        *(*result.*kind.mutable_object)() = *object;
    });
    return result;
}

pb::ObjectList list(const Model& model, pb::Kind wanted) {
    pb::ObjectList objects;
    for_each_kind([&](auto kind) {
        if (wanted != pb::KIND_NONE && wanted != kind.kind) return;
        for (const auto& [name, object] : model.*kind.objects)
            *(objects.add_objects()->*kind.mutable_object)() = *object;
    });
    return objects;
}

std::vector<pb::Change> diff(const Model& now, const Model& next) {
    std::vector<pb::Change> changes;
    std::vector<pb::Change> deletions;
    const auto add = [](std::vector<pb::Change>& list, const char* verb, pb::Kind kind,
                        const std::string& name) -> pb::Change& {
        pb::Change& change = list.emplace_back();
        change.set_verb(verb);
        change.set_kind(kind);
        change.set_name(name);
        return change;
    };
    for_each_kind([&](auto kind) {
        const auto& before = now.*kind.objects;
        const auto& after = next.*kind.objects;
        for (const auto& [name, object] : after) {
            const auto old = before.find(name);
            if (old == before.end())
                add(changes, "create", kind.kind, name);
            else if (old->second != object && !same(*old->second, *object))
                describe_update(*old->second, *object, add(changes, "update", kind.kind, name));
        }
        for (const auto& [name, object] : before)
            if (!after.contains(name)) add(deletions, "delete", kind.kind, name);
    });
    changes.insert(changes.end(), std::make_move_iterator(deletions.rbegin()),
                   std::make_move_iterator(deletions.rend()));
    return changes;
}

std::uint32_t mtu_bytes(const pb::Instance& instance) {
    return instance.mtu_bytes() != 0 ? instance.mtu_bytes() : kDefaultMtuBytes;
}

const std::string& wire_of(const Model& model, const std::string& uplink) {
    const auto found = model.uplinks.find(uplink);
    return found != model.uplinks.end() && found->second->has_vf() ? found->second->vf().pf() : uplink;
}

std::uint32_t fdb_limit(const pb::Instance& instance) {
    return instance.fdb_limit() != 0 ? instance.fdb_limit() : kDefaultInstanceFdb;
}

std::map<std::string, TenantUse> tenant_use(const Model& model) {
    std::map<std::string, TenantUse> use;
    for (const auto& [name, instance] : model.instances) {
        if (instance->tenant().empty()) continue;
        TenantUse& of_tenant = use[instance->tenant()];
        ++of_tenant.instances;
        of_tenant.fdb += fdb_limit(*instance);
        of_tenant.bindings += static_cast<std::uint32_t>(instance->fdb_size());
    }
    for (const auto& [name, vport] : model.vports) {
        const pb::Instance* instance = find(model.instances, vport->instance());
        if (instance == nullptr || instance->tenant().empty()) continue;
        TenantUse& of_tenant = use[instance->tenant()];
        ++of_tenant.vports;
        if (instance->scope() == pb::DISTRIBUTED && vport->patch().empty()) {
            const pb::VPort* trunk = find(model.vports, vport->trunk());
            const bool has_vnic = !vport->vnic().empty() || (trunk != nullptr && !trunk->vnic().empty());
            of_tenant.bindings += static_cast<std::uint32_t>(vport->extra_macs_size()) + (has_vnic ? 1 : 0);
        }
        const pb::Profile* profile = find(model.profiles, vport->profile());
        const std::uint32_t in_mbps = profile == nullptr ? 0 : profile->rate_in_mbps();
        const std::uint32_t out_mbps = profile == nullptr ? 0 : profile->rate_out_mbps();
        of_tenant.rate_in_mbps += in_mbps;
        of_tenant.rate_out_mbps += out_mbps;
        if (in_mbps == 0 || out_mbps == 0) ++of_tenant.unlimited_rates;
    }
    return use;
}

std::uint32_t pool_size(const pb::VmacPool& pool) {
    return pool.size() != 0 ? pool.size() : kDefaultPoolSize;
}

const std::string& vnic_of(const Model& model, const pb::VPort& vport) {
    return vport.vnic().empty() && !vport.trunk().empty() ? model.vports.at(vport.trunk())->vnic() : vport.vnic();
}

std::uint32_t trunk_vid(const Model& model, const pb::VPort& vport) {
    if (vport.vid() != 0 || vport.instance().empty()) return vport.vid();
    return model.instances.at(vport.instance())->vvlan();
}

std::uint32_t outer_vlan(const Model& model, const pb::Instance& instance) {
    if (instance.mode() == pb::PIGGYBACK) return instance.vlan();
    const pb::Uplink* uplink = find(model.uplinks, instance.uplink());
    return uplink == nullptr ? 0 : uplink->transport_vlan();
}

}  // namespace ivds
