// SPDX-License-Identifier: Apache-2.0
#include "fabric/bindings.h"

#include <fmt/format.h>
#include <google/protobuf/descriptor.h>
#include <google/protobuf/util/json_util.h>
#include <google/protobuf/util/message_differencer.h>

#include <algorithm>
#include <charconv>
#include <memory>
#include <set>
#include <utility>

#include "model/address.h"
#include "model/rule.h"
#include "model/shared.h"
#include "model/vmac_pool.h"

namespace ivds::fabric {
namespace {

constexpr std::size_t kMaxPrintable = 160;

// Decimal without sign or leading zeros, 1..4094.
std::optional<std::uint16_t> parse_vlan(std::string_view text) {
    std::uint16_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || text.front() == '0' || value < 1 ||
        value > IVDS_VLAN_MAX)
        return std::nullopt;
    return value;
}

std::optional<Network> parse_network(std::string_view text) {
    const auto dot = text.find('.');
    Network network;
    if (dot != std::string_view::npos) {
        const auto vlan = parse_vlan(text.substr(0, dot));
        if (!vlan) return std::nullopt;
        network.vlan = *vlan;
        text.remove_prefix(dot + 1);
    }
    const auto vvlan = parse_vlan(text);
    if (!vvlan) return std::nullopt;
    network.vvlan = *vvlan;
    return network;
}

// Lower case and nothing else, so that one MAC has one key; no group address.
std::optional<Mac> parse_vmac(std::string_view text) {
    const auto mac = parse_mac(std::string(text));
    if (!mac || format_mac(*mac) != text || !is_unicast(*mac)) return std::nullopt;
    return *mac;
}

std::optional<Refused> read_json(const std::string& value, google::protobuf::Message& out,
                                 std::size_t max_bytes = kMaxValueBytes, bool knows_all = false) {
    if (value.size() > max_bytes)
        return Refused{Refusal::huge, fmt::format("{} bytes, where {} are the most", value.size(), max_bytes)};
    google::protobuf::util::JsonParseOptions options;
    options.ignore_unknown_fields = !knows_all;
    const auto read = google::protobuf::util::JsonStringToMessage(value, &out, options);
    if (!read.ok())
        return Refused{Refusal::malformed,
                       "not the JSON that belongs there: " + printable(std::string_view(read.message()))};
    return std::nullopt;
}

bool is_same(const registry::Binding& claim, const registry::Binding& held) {
    registry::Binding as_held = claim;
    as_held.set_generation(held.generation());
    as_held.set_moved_from(held.moved_from());
    *as_held.mutable_moved_before() = held.moved_before();
    return google::protobuf::util::MessageDifferencer::Equals(as_held, held);
}

}  // namespace

std::string to_text(const Network& network) {
    return network.vlan != 0 ? fmt::format("{}.{}", network.vlan, network.vvlan) : fmt::format("{}", network.vvlan);
}

std::string key_text(const BindingKey& key) {
    return fmt::format("{}{}/{}", kBindings, to_text(key.network), format_mac(key.vmac));
}

std::string host_key(const std::string& name) {
    return std::string(kHosts) + name;
}

std::string key_text(const SharedKey& key) {
    return std::string(key.kind == pb::SET ? kSets : kProfiles) + key.name;
}

std::string key_text(const PoolKey& key) {
    return fmt::format("{}{}/{}", kPools, key.pool, key.host);
}

std::string key_text(const InstanceKey& key) {
    return fmt::format("{}{}/{}", kInstances, key.host, key.name);
}

std::string key_text(const MoveKey& key) {
    return fmt::format("{}{}/{}/{}", kMoves, key.host, to_text(key.binding.network), format_mac(key.binding.vmac));
}

std::string key_text(const OwnerKey& key) {
    return fmt::format("{}{}/{}", kOwners, to_text(key.binding.network), format_mac(key.binding.vmac));
}

std::string printable(std::string_view bytes) {
    std::string out;
    for (const char c : bytes) {
        if (out.size() >= kMaxPrintable) return out + "…";
        if (c >= 0x20 && c < 0x7f && c != '\\')
            out += c;
        else
            out += fmt::format("\\x{:02x}", static_cast<unsigned char>(c));
    }
    return out;
}

const char* to_text(Refusal refusal) {
    switch (refusal) {
        case Refusal::huge:
            return "huge";
        case Refusal::newer:
            return "newer";
        case Refusal::unknown:
            return "unknown";
        default:
            return "malformed";
    }
}

ParsedKey parse_key(std::string_view key) {
    if (key.starts_with(kHosts)) {
        std::string name(key.substr(kHosts.size()));
        if (!validate_name("host", name)) return Refused{Refusal::malformed, "a host's name that cannot be one"};
        return name;
    }
    const auto binding_of = [](std::string_view rest) -> std::variant<BindingKey, Refused> {
        const auto slash = rest.find('/');
        const auto network = parse_network(rest.substr(0, slash));
        if (!network)
            return Refused{Refusal::malformed, "the network is neither VLAN.VVLAN nor VVLAN, each 1 to 4094"};
        const auto vmac = parse_vmac(slash == std::string_view::npos ? "" : rest.substr(slash + 1));
        if (!vmac) return Refused{Refusal::malformed, "the vMAC is no unicast MAC in lower case"};
        return BindingKey{*network, *vmac};
    };
    if (key.starts_with(kBindings)) {
        auto binding = binding_of(key.substr(kBindings.size()));
        if (auto* refused = std::get_if<Refused>(&binding)) return std::move(*refused);
        return std::get<BindingKey>(binding);
    }
    if (key.starts_with(kOwners)) {
        auto binding = binding_of(key.substr(kOwners.size()));
        if (auto* refused = std::get_if<Refused>(&binding)) return std::move(*refused);
        return OwnerKey{std::get<BindingKey>(binding)};
    }
    if (key.starts_with(kMoves)) {
        const std::string_view rest = key.substr(kMoves.size());
        const auto slash = std::min(rest.find('/'), rest.size());
        std::string host(rest.substr(0, slash));
        if (!validate_name("host", host)) return Refused{Refusal::malformed, "a host's name that cannot be one"};
        auto binding = binding_of(rest.substr(std::min(slash + 1, rest.size())));
        if (auto* refused = std::get_if<Refused>(&binding)) return std::move(*refused);
        return MoveKey{std::move(host), std::get<BindingKey>(binding)};
    }
    for (const auto& [prefix, kind] : {std::pair(kSets, pb::SET), std::pair(kProfiles, pb::PROFILE)}) {
        if (!key.starts_with(prefix)) continue;
        std::string name(key.substr(prefix.size()));
        if (!validate_name("", name)) return Refused{Refusal::malformed, "a name that cannot be one"};
        return SharedKey{kind, std::move(name)};
    }
    const auto two_names = [&](std::string_view prefix) -> std::optional<std::pair<std::string, std::string>> {
        const std::string_view rest = key.substr(prefix.size());
        const auto slash = rest.find('/');
        std::pair names{std::string(rest.substr(0, slash)),
                        std::string(slash == std::string_view::npos ? "" : rest.substr(slash + 1))};
        if (!validate_name("", names.first) || !validate_name("", names.second)) return std::nullopt;
        return names;
    };
    if (key.starts_with(kPools)) {
        auto names = two_names(kPools);
        if (!names) return Refused{Refusal::malformed, "no POOL/HOST by names that can be some"};
        return PoolKey{std::move(names->first), std::move(names->second)};
    }
    if (key.starts_with(kInstances)) {
        auto names = two_names(kInstances);
        if (!names) return Refused{Refusal::malformed, "no HOST/INSTANCE by names that can be some"};
        return InstanceKey{std::move(names->first), std::move(names->second)};
    }
    const std::string_view layout = key.substr(std::min(kRoot.size(), key.size()));
    if (layout.starts_with("v1/")) return Refused{Refusal::unknown, "no object of layout 1"};
    if (layout.size() > 1 && layout[0] == 'v' && layout[1] >= '1' && layout[1] <= '9' &&
        layout.find('/') != std::string_view::npos)
        return Refused{Refusal::newer, "another layout than 1, the one that this agent reads"};
    return Refused{Refusal::unknown, "no layout's"};
}

std::variant<registry::Binding, Refused> parse_binding(const BindingKey& key, const std::string& value) {
    registry::Binding binding;
    if (auto refused = read_json(value, binding)) return *refused;
    const auto wrong = [](std::string what) { return Refused{Refusal::malformed, std::move(what)}; };
    if (binding.vvlan() != key.network.vvlan) return wrong("its vvlan is not the key's");
    if (binding.vmac() != format_mac(key.vmac)) return wrong("its vmac is not the key's");
    if (binding.vlan() < 1 || binding.vlan() > IVDS_VLAN_MAX) return wrong("its vlan is not 1 to 4094");
    if (key.network.vlan != 0 && binding.vlan() != key.network.vlan) return wrong("its vlan is not the key's");
    if (!validate_name("host", binding.host())) return wrong("its host cannot be a host's name");
    if (!binding.vport().empty() && !validate_name("vport", binding.vport()))
        return wrong("its vport cannot be a vPort's name");
    if (!binding.physical_mac().empty() && !parse_mac(binding.physical_mac()))
        return wrong("its physical_mac is no MAC");
    if (binding.addresses_size() > kMaxAddresses) return wrong("it has too many addresses");
    for (const std::string& address : binding.addresses())
        if (!host_address(address)) return wrong("one of its addresses is none that a VM can have");
    if (!binding.tenant().empty() && !validate_name("tenant", binding.tenant()))
        return wrong("its tenant cannot be a tenant's name");
    if (!binding.moved_from().empty() && !validate_name("host", binding.moved_from()))
        return wrong("its moved_from cannot be a host's name");
    if (binding.moved_before_size() > static_cast<int>(kMaxMovedBefore)) return wrong("its moved_before is too long");
    for (const std::string& host : binding.moved_before())
        if (!validate_name("host", host)) return wrong("one of its moved_before cannot be a host's name");
    return binding;
}

std::variant<registry::Host, Refused> parse_host(const std::string& name, const std::string& value) {
    registry::Host host;
    if (auto refused = read_json(value, host)) return *refused;
    if (host.name() != name) return Refused{Refusal::malformed, "its name is not the key's"};
    if (host.id().empty()) return Refused{Refusal::malformed, "it has no id"};
    // They are shown as they are, on terminals too.
    for (const std::string* text : {&host.version(), &host.address()})
        if (std::ranges::any_of(*text, [](unsigned char c) { return c <= 0x20 || c >= 0x7f; }))
            return Refused{Refusal::malformed, "its version or address has other than printable ASCII"};
    return host;
}

namespace {

// Whether an enumeration has a number that is none of this version's, which JSON may give.
bool has_unknown_word(const google::protobuf::Message& message) {
    const auto& reflection = *message.GetReflection();
    std::vector<const google::protobuf::FieldDescriptor*> fields;
    reflection.ListFields(message, &fields);
    return std::ranges::any_of(fields, [&](const google::protobuf::FieldDescriptor* field) {
        const int size = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
        for (int i = 0; i < size; ++i) {
            if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_ENUM) {
                const int number = field->is_repeated() ? reflection.GetRepeatedEnumValue(message, field, i)
                                                        : reflection.GetEnumValue(message, field);
                if (field->enum_type()->FindValueByNumber(number) == nullptr) return true;
            } else if (field->cpp_type() == google::protobuf::FieldDescriptor::CPPTYPE_MESSAGE) {
                if (has_unknown_word(field->is_repeated() ? reflection.GetRepeatedMessage(message, field, i)
                                                          : reflection.GetMessage(message, field)))
                    return true;
            }
        }
        return false;
    });
}

// Whether the object in a shared value can be one, and is there by the key's name.
template <class T>
std::optional<Refused> check_shared(const SharedKey& key, const std::string& host, const T& object) {
    const auto wrong = [](std::string what) { return Refused{Refusal::malformed, std::move(what)}; };
    if (!validate_name("host", host)) return wrong("its host cannot be a host's name");
    if (object.name() != key.name) return wrong("its name is not the key's");
    if constexpr (requires { object.vports(); })
        if (!object.vports().empty()) return wrong("it names vPorts, which are one host's");
    if (auto valid = validate_object(object); !valid) return wrong(printable(valid.error().what));
    return std::nullopt;
}

template <class T>
std::variant<SharedObject, Refused> read_shared(const SharedKey& key, const std::string& value, auto&& part,
                                                auto&& normalise, auto&& keep) {
    T message;
    if (auto refused = read_json(value, message, kMaxSharedBytes, true)) {
        // What a newer agent wrote: a part of it that is not known here may be what forbids something.
        T loose;
        if (refused->why == Refusal::malformed && !read_json(value, loose, kMaxSharedBytes))
            refused->why = Refusal::newer;
        return *refused;
    }
    if (has_unknown_word(message)) return Refused{Refusal::newer, "an enumeration with a number that is not known"};
    auto& object = *part(message);
    object.set_shared(true);
    object.set_shared_by(message.host());
    normalise(object);
    if (auto refused = check_shared(key, message.host(), object)) return *refused;
    SharedObject out;
    out.host = message.host();
    keep(out, std::make_shared<const std::remove_reference_t<decltype(object)>>(std::move(object)));
    return out;
}

}  // namespace

std::variant<SharedObject, Refused> parse_shared(const SharedKey& key, const std::string& value) {
    if (key.kind == pb::SET)
        return read_shared<registry::SharedSet>(
            key, value, [](auto& message) { return message.mutable_set(); }, [](pb::Set& set) { normalise_set(set); },
            [](SharedObject& out, auto object) { out.set = std::move(object); });
    return read_shared<registry::SharedProfile>(
        key, value, [](auto& message) { return message.mutable_profile(); },
        [](pb::Profile& profile) { normalise_rules(*profile.mutable_rules()); },
        [](SharedObject& out, auto object) { out.profile = std::move(object); });
}

std::variant<registry::PoolMembers, Refused> parse_pool(const PoolKey& key, const std::string& value) {
    registry::PoolMembers members;
    if (auto refused = read_json(value, members)) return *refused;
    const auto wrong = [](std::string what) { return Refused{Refusal::malformed, std::move(what)}; };
    if (members.pool() != key.pool) return wrong("its pool is not the key's");
    if (members.host() != key.host) return wrong("its host is not the key's");
    if (members.vlan() < 1 || members.vlan() > IVDS_VLAN_MAX) return wrong("its vlan is not 1 to 4094");
    if (!parse_network(members.network())) return wrong("its network is neither VLAN.VVLAN nor VVLAN");
    if (members.members_size() > static_cast<int>(IVDS_MAX_POOL_PORTS)) return wrong("it has too many members");
    for (const auto& member : members.members()) {
        if (!validate_name("vport", member.vport())) return wrong("a member's vport cannot be a vPort's name");
        if (!member.vmac().empty() && !parse_vmac(member.vmac()))
            return wrong("a member's vmac is no unicast MAC in lower case");
    }
    return members;
}

std::variant<registry::Instance, Refused> parse_instance(const InstanceKey& key, const std::string& value) {
    registry::Instance instance;
    if (auto refused = read_json(value, instance)) return *refused;
    const auto wrong = [](std::string what) { return Refused{Refusal::malformed, std::move(what)}; };
    const auto is_vlan = [](std::uint32_t vlan) { return vlan >= 1 && vlan <= IVDS_VLAN_MAX; };
    if (instance.name() != key.name) return wrong("its name is not the key's");
    if (instance.host() != key.host) return wrong("its host is not the key's");
    const auto network = parse_network(instance.network());
    if (!network) return wrong("its network is neither VLAN.VVLAN nor VVLAN");
    if (instance.vvlan() != network->vvlan) return wrong("its vvlan is not its network's");
    if (!is_vlan(instance.vlan())) return wrong("its vlan is not 1 to 4094");
    if (network->vlan != 0 && instance.vlan() != network->vlan) return wrong("its vlan is not its network's");
    if (instance.peer_vlans_size() > static_cast<int>(IVDS_MAX_PEER_VLANS))
        return wrong("it has too many peer_vlans");
    if (!std::ranges::all_of(instance.peer_vlans(), is_vlan)) return wrong("one of its peer_vlans is not 1 to 4094");
    if (!instance.tenant().empty() && !validate_name("tenant", instance.tenant()))
        return wrong("its tenant cannot be a tenant's name");
    return instance;
}

std::variant<registry::Move, Refused> parse_move(const MoveKey& key, const std::string& value) {
    registry::Move move;
    if (auto refused = read_json(value, move)) return *refused;
    const auto wrong = [](std::string what) { return Refused{Refusal::malformed, std::move(what)}; };
    if (move.host() != key.host) return wrong("its host is not the key's");
    if (move.vvlan() != key.binding.network.vvlan) return wrong("its vvlan is not the key's");
    if (move.vmac() != format_mac(key.binding.vmac)) return wrong("its vmac is not the key's");
    if (!validate_name("vport", move.vport())) return wrong("its vport cannot be a vPort's name");
    if (!validate_name("to_host", move.to_host())) return wrong("its to_host cannot be a host's name");
    return move;
}

std::variant<registry::Owner, Refused> parse_owner(const OwnerKey& key, const std::string& value) {
    registry::Owner owner;
    if (auto refused = read_json(value, owner)) return *refused;
    const auto wrong = [](std::string what) { return Refused{Refusal::malformed, std::move(what)}; };
    if (owner.vvlan() != key.binding.network.vvlan) return wrong("its vvlan is not the key's");
    if (owner.vmac() != format_mac(key.binding.vmac)) return wrong("its vmac is not the key's");
    if (!validate_name("host", owner.host())) return wrong("its host cannot be a host's name");
    if (!validate_name("vport", owner.vport())) return wrong("its vport cannot be a vPort's name");
    return owner;
}

std::string value_text(const google::protobuf::Message& message) {
    google::protobuf::util::JsonPrintOptions options;
    options.preserve_proto_field_names = true;
    std::string text;
    // 64-bit numbers come as strings, as the mapping of protobuf has it; both forms read back.
    (void)google::protobuf::util::MessageToJsonString(message, &text, options);
    return text;
}

// ---------------------------------------------------------------------------------------- claims

std::vector<Network> networks_of(const Model& model, const pb::Instance& instance) {
    if (instance.scope() != pb::DISTRIBUTED || instance.draining() || instance.uplink().empty()) return {};
    const auto vvlan = static_cast<std::uint16_t>(instance.vvlan());
    if (instance.mode() == pb::INDEPENDENT) return {{0, vvlan}};
    std::vector<Network> networks = {{static_cast<std::uint16_t>(outer_vlan(model, instance)), vvlan}};
    for (const std::uint32_t vlan : instance.peer_vlans())
        networks.push_back({static_cast<std::uint16_t>(vlan), vvlan});
    return networks;
}

std::vector<Claim> claims_of(const Model& model, const std::string& host, const UplinkMacs& macs) {
    std::map<BindingKey, Claim> claims;
    for (const auto& [name, vport] : model.vports) {
        if (vport->instance().empty() || !vport->patch().empty() || vport->state() == pb::VPort::MOVED) continue;
        const pb::Instance& instance = *model.instances.at(vport->instance());
        const auto networks = networks_of(model, instance);
        const std::uint32_t vlan = outer_vlan(model, instance);
        if (networks.empty() || vlan == 0) continue;
        std::vector<std::string> vmacs(vport->extra_macs().begin(), vport->extra_macs().end());
        const std::string& vnic = vnic_of(model, *vport);
        const std::string vnic_vmac = vnic.empty() ? "" : model.vnics.at(vnic)->vmac();
        if (!vnic_vmac.empty()) vmacs.push_back(vnic_vmac);
        for (const std::string& text : vmacs) {
            const auto vmac = parse_mac(text);
            if (!vmac) continue;
            Claim claim;
            claim.key = {networks.front(), *vmac};
            claim.networks = networks;
            claim.instance = instance.name();
            claim.waits = vport->state() == pb::VPort::PREPARED;
            claim.binding.set_vvlan(instance.vvlan());
            claim.binding.set_vmac(format_mac(*vmac));
            claim.binding.set_vport(name);
            claim.binding.set_vlan(vlan);
            claim.binding.set_host(host);
            claim.binding.set_tenant(instance.tenant());
            if (vnic_vmac == text) *claim.binding.mutable_addresses() = vport->addresses();
            if (const auto mac = macs.find(instance.uplink()); mac != macs.end())
                claim.binding.set_physical_mac(format_mac(mac->second));
            BindingKey key = claim.key;
            claims.emplace(key, std::move(claim));
        }
    }
    std::vector<Claim> out;
    out.reserve(claims.size());
    for (auto& [key, claim] : claims) out.push_back(std::move(claim));
    return out;
}

std::uint64_t claims_of_tenant(const std::vector<Claim>& claims, const std::string& tenant) {
    return static_cast<std::uint64_t>(std::ranges::count_if(
        claims, [&](const Claim& claim) { return !claim.waits && claim.binding.tenant() == tenant; }));
}

namespace {

// Of which network the pool's vPorts here are; none: it has none that other hosts reach.
std::optional<Network> network_of(const Model& model, const pb::VPortPool& pool) {
    for (const std::string& name : pool.vports()) {
        const auto instance = model.instances.find(model.vports.at(name)->instance());
        if (instance == model.instances.end()) continue;
        if (const auto networks = networks_of(model, *instance->second); !networks.empty()) return networks.front();
    }
    return std::nullopt;
}

class ShareList {
public:
    explicit ShareList(const std::vector<Share>& before) {
        for (const Share& share : before) known_.emplace(share.key, &share);
    }
    // `value` is asked only if the last one was not of the same object; none: it is of more than one.
    void add(std::string key, std::string label, bool leased, std::shared_ptr<const void> object, auto&& value) {
        const auto old = known_.find(key);
        const bool kept = old != known_.end() && object != nullptr && old->second->object == object;
        std::string text = kept ? old->second->value : value();
        out_.push_back({std::move(key), std::move(label), std::move(text), leased, std::move(object)});
    }
    [[nodiscard]] std::vector<Share> take() { return std::move(out_); }

private:
    std::map<std::string_view, const Share*> known_;
    std::vector<Share> out_;
};

}  // namespace

std::vector<Share> shares_of(const Model& model, const std::string& host, const std::vector<Share>& before) {
    ShareList list(before);
    for (const auto& [name, set] : model.sets)
        if (set->shared() && set->shared_by().empty())
            list.add(key_text(SharedKey{pb::SET, name}), "set " + name, false, set->vports().empty() ? set : nullptr,
                     [&, &shared = *set] {
                         registry::SharedSet message;
                         message.set_host(host);
                         pb::Set& own = *message.mutable_set();
                         own = as_shared(model, shared, host);
                         own.clear_shared();
                         own.clear_shared_by();
                         return value_text(message);
                     });
    for (const auto& [name, profile] : model.profiles)
        if (profile->shared() && profile->shared_by().empty())
            list.add(key_text(SharedKey{pb::PROFILE, name}), "profile " + name, false, profile,
                     [&, &shared = *profile] {
                         registry::SharedProfile message;
                         message.set_host(host);
                         pb::Profile& own = *message.mutable_profile();
                         own = shared;
                         own.clear_shared();
                         return value_text(message);
                     });
    for (const auto& [name, pool] : model.vport_pools) {
        if (!pool->shared() || !pool->shared_by().empty()) continue;
        const auto network = network_of(model, *pool);
        if (!network) continue;
        registry::PoolMembers message;
        message.set_pool(name);
        message.set_host(host);
        message.set_network(to_text(*network));
        for (const std::string& member : pool->vports()) {
            const pb::VPort& vport = *model.vports.at(member);
            if (vport.state() != pb::VPort::ACTIVE) continue;
            message.set_vlan(outer_vlan(model, *model.instances.at(vport.instance())));
            auto& each = *message.add_members();
            each.set_vport(member);
            if (const std::string& vnic = vnic_of(model, vport); !vnic.empty())
                each.set_vmac(model.vnics.at(vnic)->vmac());
        }
        if (message.members().empty()) continue;
        list.add(key_text(PoolKey{name, host}), "vport_pool " + name, true, nullptr,
                 [&] { return value_text(message); });
    }
    return list.take();
}

std::vector<Share> instances_of(const Model& model, const std::string& host, const std::vector<Share>& before) {
    ShareList list(before);
    for (const auto& [name, instance] : model.instances) {
        const auto networks = networks_of(model, *instance);
        const std::uint32_t vlan = outer_vlan(model, *instance);
        if (networks.empty() || vlan == 0) continue;
        // The VLAN of one in independent mode is its uplink's.
        list.add(key_text(InstanceKey{host, name}), "instance " + name, true,
                 instance->mode() == pb::INDEPENDENT ? nullptr : instance, [&, &of = *instance, &called = name] {
                     registry::Instance message;
                     message.set_name(called);
                     message.set_host(host);
                     message.set_network(to_text(networks.front()));
                     message.set_vvlan(of.vvlan());
                     message.set_vlan(vlan);
                     *message.mutable_peer_vlans() = of.peer_vlans();
                     message.set_tenant(of.tenant());
                     return value_text(message);
                 });
    }
    return list.take();
}

// ---------------------------------------------------------------------------------------- mirror

const std::map<Mac, Entry>* Mirror::bindings(const Network& network) const {
    const auto found = bindings_.find(network);
    return found != bindings_.end() ? &found->second : nullptr;
}

std::vector<std::pair<BindingKey, registry::Binding>> Mirror::page(const BindingKey* after, std::size_t most) const {
    std::vector<std::pair<BindingKey, registry::Binding>> out;
    for (auto in = after != nullptr ? bindings_.lower_bound(after->network) : bindings_.begin();
         in != bindings_.end(); ++in) {
        const bool goes_on = after != nullptr && in->first == after->network;
        for (auto at = goes_on ? in->second.upper_bound(after->vmac) : in->second.begin(); at != in->second.end();
             ++at) {
            if (out.size() == most) return out;
            out.emplace_back(BindingKey{in->first, at->first}, at->second.binding);
        }
    }
    return out;
}

const Entry* Mirror::find(const BindingKey& key) const {
    const auto* in = bindings(key.network);
    if (in == nullptr) return nullptr;
    const auto found = in->find(key.vmac);
    return found != in->end() ? &found->second : nullptr;
}

void Mirror::refuse(const std::string& key, Refused refused) {
    ++refused_total_;
    if (refused_.size() < kMaxRefused) refused_.insert_or_assign(printable(key), std::move(refused));
}

std::uint64_t Mirror::others_of(const std::string& tenant) const {
    const auto found = others_of_.find(tenant);
    return found != others_of_.end() ? found->second : 0;
}

void Mirror::count_other(const registry::Binding& binding) {
    ++others_;
    if (!binding.tenant().empty()) ++others_of_[binding.tenant()];
}

void Mirror::uncount_other(const registry::Binding& binding) {
    --others_;
    const auto found = others_of_.find(binding.tenant());
    if (found != others_of_.end() && --found->second == 0) others_of_.erase(found);
}

void Mirror::drop_binding(const BindingKey& key) {
    const auto in = bindings_.find(key.network);
    if (in == bindings_.end()) return;
    const auto found = in->second.find(key.vmac);
    if (found == in->second.end()) return;
    if (own_.erase(key) == 0) uncount_other(found->second.binding);
    index_moved(key, found->second.binding, false);
    remember(found->second.binding);
    in->second.erase(found);
    if (in->second.empty()) bindings_.erase(in);
    changed_.insert(key.network);
}

void Mirror::remember(const registry::Binding& binding) {
    const auto vmac = parse_vmac(binding.vmac());
    const bool has_moved = !binding.moved_from().empty();
    if (!vmac || binding.vport().empty() || (!has_moved && binding.host() != host_)) return;
    past_.insert_or_assign({static_cast<std::uint16_t>(binding.vvlan()), *vmac}, binding);
    came_changed_ = came_changed_ || has_moved;
}

void Mirror::forget(const BindingKey& key) {
    if (past_.erase({key.network.vvlan, key.vmac}) != 0) came_changed_ = true;
}

void Mirror::forget_but(const Objects<pb::VPort>& vports) {
    if (std::erase_if(past_, [&](const auto& each) { return !vports.contains(each.second.vport()); }) != 0)
        came_changed_ = true;
}

const registry::Binding* Mirror::past(const Claim& claim) const {
    const auto found = past_.find({claim.key.network.vvlan, claim.key.vmac});
    return found != past_.end() && found->second.vport() == claim.binding.vport() ? &found->second : nullptr;
}

std::vector<registry::Binding> Mirror::came() const {
    std::vector<registry::Binding> out;
    for (const BindingKey& key : own_)
        if (const auto& binding = find(key)->binding; !binding.moved_from().empty()) out.push_back(binding);
    for (const auto& [vmac, binding] : past_)
        if (!binding.moved_from().empty()) out.push_back(binding);
    return out;
}

void Mirror::drop(const std::string& key) {
    refused_.erase(printable(key));
    waiting_.erase(key);
    const ParsedKey parsed = parse_key(key);
    if (const auto* name = std::get_if<std::string>(&parsed)) hosts_.erase(*name);
    if (const auto* binding = std::get_if<BindingKey>(&parsed)) drop_binding(*binding);
    if (const auto* shared = std::get_if<SharedKey>(&parsed))
        shared_changed_ = shared_.erase(*shared) != 0 || shared_changed_;
    if (const auto* pool = std::get_if<PoolKey>(&parsed))
        shared_changed_ = pools_.erase(*pool) != 0 || shared_changed_;
    if (const auto* instance = std::get_if<InstanceKey>(&parsed)) instances_.erase(*instance);
    if (const auto* move = std::get_if<MoveKey>(&parsed)) moves_.erase(*move);
    if (const auto* owner = std::get_if<OwnerKey>(&parsed)) owners_.erase(*owner);
}

template <class Value, class Known, class Key>
std::optional<Value> Mirror::read_shared(Known& known, const Key& key, const etcd::KeyValue& kv,
                                         std::variant<Value, Refused> read) {
    shared_changed_ = true;
    waiting_.erase(kv.key);
    if (std::holds_alternative<Value>(read) && !known.contains(key) && known.size() >= kMaxShared) {
        if (waiting_.size() < kMaxShared) waiting_.insert(kv.key);
        read = Refused{Refusal::huge, fmt::format("one more than the {} that are taken", kMaxShared)};
    }
    if (auto* refused = std::get_if<Refused>(&read)) {
        known.erase(key);
        refuse(kv.key, std::move(*refused));
        return std::nullopt;
    }
    refused_.erase(printable(kv.key));
    return std::get<Value>(std::move(read));
}

std::optional<std::string> Mirror::take_waiting() {
    const auto found = std::ranges::find_if(waiting_, [&](const std::string& key) {
        return (key.starts_with(kPools) ? pools_.size() : shared_.size()) < kMaxShared;
    });
    if (found == waiting_.end()) return std::nullopt;
    return waiting_.extract(found).value();
}

void Mirror::put_shared(const SharedKey& key, const etcd::KeyValue& kv) {
    auto object = read_shared(shared_, key, kv, parse_shared(key, kv.value));
    if (!object) return;
    const bool is_own = object->host == host_;
    shared_.insert_or_assign(key, SharedEntry{std::move(*object), kv.mod_revision, is_own ? kv.value : ""});
}

void Mirror::put_pool(const PoolKey& key, const etcd::KeyValue& kv) {
    auto members = read_shared(pools_, key, kv, parse_pool(key, kv.value));
    if (!members) return;
    pools_.insert_or_assign(
        key, PoolEntry{std::move(*members), kv.mod_revision, kv.lease, key.host == host_ ? kv.value : ""});
}

void Mirror::put_instance(const InstanceKey& key, const etcd::KeyValue& kv) {
    auto read = parse_instance(key, kv.value);
    if (auto* refused = std::get_if<Refused>(&read)) {
        instances_.erase(key);
        return refuse(kv.key, std::move(*refused));
    }
    refused_.erase(printable(kv.key));
    instances_.insert_or_assign(key, InstanceEntry{std::get<registry::Instance>(std::move(read)), kv.mod_revision,
                                                   kv.lease, key.host == host_ ? kv.value : ""});
}

void Mirror::put_move(const MoveKey& key, const etcd::KeyValue& kv) {
    auto read = parse_move(key, kv.value);
    if (auto* refused = std::get_if<Refused>(&read)) {
        moves_.erase(key);
        return refuse(kv.key, std::move(*refused));
    }
    refused_.erase(printable(kv.key));
    if (key.host == host_)
        moves_.insert_or_assign(key, MoveEntry{std::get<registry::Move>(std::move(read)), kv.mod_revision});
}

void Mirror::put_owner(const OwnerKey& key, const etcd::KeyValue& kv) {
    auto read = parse_owner(key, kv.value);
    if (auto* refused = std::get_if<Refused>(&read)) {
        owners_.erase(key);
        return refuse(kv.key, std::move(*refused));
    }
    refused_.erase(printable(kv.key));
    owners_.insert_or_assign(key, OwnerEntry{std::get<registry::Owner>(std::move(read)), kv.mod_revision});
}

void Mirror::put(const etcd::KeyValue& kv) {
    ParsedKey parsed = parse_key(kv.key);
    if (auto* refused = std::get_if<Refused>(&parsed)) return refuse(kv.key, std::move(*refused));
    if (const auto* name = std::get_if<std::string>(&parsed)) {
        auto host = parse_host(*name, kv.value);
        if (auto* refused = std::get_if<Refused>(&host)) {
            hosts_.erase(*name);
            return refuse(kv.key, std::move(*refused));
        }
        refused_.erase(printable(kv.key));
        hosts_.insert_or_assign(*name, std::get<registry::Host>(std::move(host)));
        return;
    }
    if (const auto* shared = std::get_if<SharedKey>(&parsed)) return put_shared(*shared, kv);
    if (const auto* pool = std::get_if<PoolKey>(&parsed)) return put_pool(*pool, kv);
    if (const auto* instance = std::get_if<InstanceKey>(&parsed)) return put_instance(*instance, kv);
    if (const auto* move = std::get_if<MoveKey>(&parsed)) return put_move(*move, kv);
    if (const auto* owner = std::get_if<OwnerKey>(&parsed)) return put_owner(*owner, kv);
    const auto& key = std::get<BindingKey>(parsed);
    auto read = parse_binding(key, kv.value);
    if (auto* refused = std::get_if<Refused>(&read)) {
        drop_binding(key);
        return refuse(kv.key, std::move(*refused));
    }
    refused_.erase(printable(kv.key));
    Entry entry{std::get<registry::Binding>(std::move(read)), kv.create_revision, kv.mod_revision, kv.lease, 0};
    auto& in = bindings_[key.network];
    if (const auto old = in.find(key.vmac); old != in.end()) {
        if (own_.erase(key) == 0) uncount_other(old->second.binding);
        const registry::Binding& before = old->second.binding;
        index_moved(key, before, false);
        if (before.host() != entry.binding.host() || before.vlan() != entry.binding.vlan() ||
            old->second.create_revision != entry.create_revision ||
            !std::ranges::equal(before.addresses(), entry.binding.addresses()))
            changed_.insert(key.network);
    } else {
        changed_.insert(key.network);
    }
    if (entry.binding.host() == host_) {
        own_.insert(key);
        came_changed_ = came_changed_ || !entry.binding.moved_from().empty();
    } else {
        count_other(entry.binding);
    }
    forget(key);
    index_moved(key, entry.binding, true);
    in.insert_or_assign(key.vmac, std::move(entry));
}

void Mirror::apply(const etcd::Change& change) {
    const ParsedKey parsed = parse_key(change.kv.key);
    if (const auto* key = std::get_if<BindingKey>(&parsed))
        if (const Entry* known = find(*key); known != nullptr && known->mod_revision > change.kv.mod_revision) return;
    const auto is_old = [&](const auto& known, const auto& key) {
        const auto found = known.find(key);
        return found != known.end() && found->second.mod_revision > change.kv.mod_revision;
    };
    if (const auto* key = std::get_if<SharedKey>(&parsed); key != nullptr && is_old(shared_, *key)) return;
    if (const auto* key = std::get_if<PoolKey>(&parsed); key != nullptr && is_old(pools_, *key)) return;
    if (const auto* key = std::get_if<InstanceKey>(&parsed); key != nullptr && is_old(instances_, *key)) return;
    if (const auto* key = std::get_if<MoveKey>(&parsed); key != nullptr && is_old(moves_, *key)) return;
    if (const auto* key = std::get_if<OwnerKey>(&parsed); key != nullptr && is_old(owners_, *key)) return;
    if (change.deleted)
        drop(change.kv.key);
    else
        put(change.kv);
}

template <class Gone>
void Mirror::goes(Gone& entry, std::int64_t gone_at_s) {
    entry.gone_at_s = gone_at_s;
    // All that the watch tells of it is newer than the list, also where a registry that began anew counts from 1.
    entry.mod_revision = 0;
    goes_at(gone_at_s);
}

void Mirror::relist(std::vector<etcd::KeyValue> keys, std::int64_t gone_at_s) {
    std::set<BindingKey> listed;
    std::set<PoolKey> listed_pools;
    hosts_.clear();
    instances_.clear();
    moves_.clear();
    owners_.clear();
    refused_.clear();
    waiting_.clear();
    shared_.clear();
    shared_changed_ = true;
    for (const etcd::KeyValue& kv : keys) {
        put(kv);
        const ParsedKey parsed = parse_key(kv.key);
        if (const auto* key = std::get_if<BindingKey>(&parsed)) listed.insert(*key);
        if (const auto* key = std::get_if<PoolKey>(&parsed)) listed_pools.insert(*key);
    }
    std::erase_if(
        pools_, [&](const auto& entry) { return entry.first.host == host_ && !listed_pools.contains(entry.first); });
    for (auto& [key, entry] : pools_)
        if (entry.gone_at_s == 0 && !listed_pools.contains(key)) goes(entry, gone_at_s);
    std::vector<BindingKey> own_gone;
    std::ranges::set_difference(own_, listed, std::back_inserter(own_gone));
    for (const BindingKey& key : own_gone) drop_binding(key);
    for (auto& [network, in] : bindings_)
        for (auto& [vmac, entry] : in)
            if (entry.gone_at_s == 0 && !listed.contains({network, vmac})) goes(entry, gone_at_s);
}

void Mirror::goes_at(std::int64_t gone_at_s) {
    next_gone_s_ = next_gone_s_ == 0 ? gone_at_s : std::min(next_gone_s_, gone_at_s);
}

void Mirror::expire(std::int64_t now_s) {
    if (next_gone_s_ == 0 || now_s < next_gone_s_) return;
    next_gone_s_ = 0;
    std::vector<BindingKey> gone;
    for (const auto& [network, in] : bindings_)
        for (const auto& [vmac, entry] : in) {
            if (entry.gone_at_s == 0) continue;
            if (entry.gone_at_s <= now_s)
                gone.push_back({network, vmac});
            else
                goes_at(entry.gone_at_s);
        }
    for (const BindingKey& key : gone) drop_binding(key);
    const auto pools_gone = std::erase_if(pools_, [&](const auto& entry) {
        const std::int64_t at_s = entry.second.gone_at_s;
        if (at_s > now_s) goes_at(at_s);
        return at_s != 0 && at_s <= now_s;
    });
    shared_changed_ = shared_changed_ || pools_gone != 0;
}

const Entry* Mirror::holder(const Claim& claim) const {
    for (const Network& network : claim.networks) {
        const Entry* entry = find({network, claim.key.vmac});
        if (entry != nullptr && entry->binding.host() != host_ && entry->gone_at_s == 0) return entry;
    }
    return nullptr;
}

void Mirror::index_moved(const BindingKey& key, const registry::Binding& binding, bool is_there) {
    if (binding.host() == host_) return;
    const auto& before = binding.moved_before();
    if (binding.moved_from() != host_ && std::ranges::find(before, host_) == before.end()) return;
    const std::pair vmac(key.network.vvlan, key.vmac);
    auto& keys = moved_[vmac];
    if (is_there)
        keys.insert(key);
    else
        keys.erase(key);
    if (keys.empty()) moved_.erase(vmac);
}

const Entry* Mirror::moved(const Claim& claim) const {
    const auto keys = moved_.find({claim.key.network.vvlan, claim.key.vmac});
    if (keys == moved_.end()) return nullptr;
    for (const BindingKey& key : keys->second) {
        const Entry* entry = find(key);
        if (entry->gone_at_s != 0) continue;
        const std::string& vport = entry->binding.vport();
        if (vport.empty() || vport == claim.binding.vport()) return entry;
    }
    return nullptr;
}

std::unordered_set<std::uint64_t> Mirror::macs_of_others() const {
    std::unordered_set<std::uint64_t> out;
    for (const auto& [network, in] : bindings_)
        for (const auto& [vmac, entry] : in)
            if (entry.binding.host() != host_) out.insert(to_number(vmac));
    return out;
}

std::string Mirror::sharer(const SharedKey& key) const {
    const auto found = shared_.find(key);
    return found != shared_.end() && found->second.object.host != host_ ? found->second.object.host : "";
}

bool Mirror::has_pool(const std::string& pool) const {
    for (auto at = pools_.lower_bound({pool, ""}); at != pools_.end() && at->first.pool == pool; ++at)
        if (at->first.host != host_) return true;
    return false;
}

std::uint64_t Mirror::others_shared() const {
    const auto shared =
        std::ranges::count_if(shared_, [&](const auto& entry) { return entry.second.object.host != host_; });
    const auto pools = std::ranges::count_if(pools_, [&](const auto& entry) { return entry.first.host != host_; });
    return static_cast<std::uint64_t>(shared + pools);
}

Shared Mirror::shared(const Model& model, std::vector<ForeignMembers>& foreign) const {
    Shared out;
    for (const auto& [key, entry] : shared_) {
        if (entry.object.host == host_) continue;
        if (entry.object.set) out.sets.emplace(key.name, entry.object.set);
        if (entry.object.profile) out.profiles.emplace(key.name, entry.object.profile);
    }
    foreign.clear();
    std::map<std::string, std::shared_ptr<pb::VPortPool>> pools;
    for (const auto& [key, entry] : pools_) {
        if (key.host == host_) continue;
        if (const auto here = model.vport_pools.find(key.pool);
            here != model.vport_pools.end() && here->second->shared_by().empty() && here->second->shared()) {
            const auto own = network_of(model, *here->second);
            if (own && to_text(*own) != entry.members.network()) {
                const auto instance = model.vports.at(here->second->vports(0))->instance();
                const auto networks = networks_of(model, *model.instances.at(instance));
                if (std::ranges::none_of(
                        networks, [&](const Network& each) { return to_text(each) == entry.members.network(); })) {
                    foreign.push_back({key, entry.members.network(), to_text(*own)});
                    continue;
                }
            }
        }
        auto& pool = pools[key.pool];
        if (pool == nullptr) {
            pool = std::make_shared<pb::VPortPool>();
            pool->set_name(key.pool);
            pool->set_shared(true);
            pool->set_shared_by(key.host);
        }
        for (const auto& each : entry.members.members()) {
            pb::VPortPool::Member& member = *pool->add_members();
            member.set_host(key.host);
            member.set_vport(each.vport());
            member.set_vmac(each.vmac());
            member.set_vlan(entry.members.vlan());
        }
    }
    for (auto& [name, pool] : pools) out.vport_pools.emplace(name, std::move(pool));
    return out;
}

void Mirror::publish_shares(const std::vector<Share>& shares, std::int64_t lease, Publication& out) const {
    std::set<std::string_view> wanted;
    for (const Share& share : shares) {
        wanted.insert(share.key);
        std::string holder;
        std::int64_t revision = 0;
        bool is_there = false;
        const ParsedKey parsed = parse_key(share.key);
        if (const auto* key = std::get_if<SharedKey>(&parsed))
            if (const auto found = shared_.find(*key); found != shared_.end()) {
                holder = found->second.object.host;
                revision = found->second.mod_revision;
                is_there = holder == host_ && found->second.value == share.value;
            }
        if (const auto* key = std::get_if<PoolKey>(&parsed))
            if (const auto found = pools_.find(*key); found != pools_.end()) {
                holder = key->host;
                revision = found->second.mod_revision;
                is_there = found->second.lease == lease && found->second.value == share.value;
            }
        if (const auto* key = std::get_if<InstanceKey>(&parsed))
            if (const auto found = instances_.find(*key); found != instances_.end()) {
                revision = found->second.mod_revision;
                is_there = found->second.lease == lease && found->second.value == share.value;
            }
        if (is_there) continue;
        if ((!holder.empty() && holder != host_) || refused_.contains(share.key)) {
            out.share_conflicts.push_back({share.key, share.label, holder});
            continue;
        }
        out.steps.push_back({{{share.key, revision}}, {share.key, share.value, share.leased ? lease : 0}});
    }
    const auto take_back = [&](const std::string& key, std::int64_t revision) {
        if (!wanted.contains(key)) out.steps.push_back({{{key, revision}}, {key, std::nullopt, 0}});
    };
    for (const auto& [key, entry] : shared_)
        if (entry.object.host == host_) take_back(key_text(key), entry.mod_revision);
    for (const auto& [key, entry] : pools_)
        if (key.host == host_) take_back(key_text(key), entry.mod_revision);
    for (auto at = instances_.lower_bound({host_, ""}); at != instances_.end() && at->first.host == host_; ++at)
        take_back(key_text(at->first), at->second.mod_revision);
}

Publication Mirror::publication(const std::vector<Claim>& claims, std::int64_t lease,
                                const std::vector<Share>& shares) const {
    Publication out;
    publish_shares(shares, lease, out);
    std::set<BindingKey> wanted;
    std::set<OwnerKey> wanted_owners;
    std::set<MoveKey> unheard;
    for (const Claim& claim : claims) {
        wanted.insert(claim.key);
        const Entry* held = find(claim.key);
        const bool is_own = held != nullptr && held->binding.host() == host_;
        wanted_owners.insert({claim.key});
        if (claim.waits && !is_own) continue;
        if (const Entry* other = is_own ? nullptr : moved(claim)) {
            out.went.emplace(claim.binding.vport(), other->binding.host());
            if (const auto* word = left(claim)) unheard.insert(word->first);
            continue;
        }
        // Whoever has it since may be away itself.
        if (const auto* word = is_own ? nullptr : left(claim)) {
            out.went.emplace(claim.binding.vport(), word->second.move.to_host());
            unheard.insert(word->first);
            continue;
        }
        if (const Entry* other = holder(claim)) {
            out.conflicts.push_back({claim.key, claim.binding.vport(), *other});
            continue;
        }
        // What is not understood there is not ours to overwrite.
        if (refused_.contains(key_text(claim.key))) {
            out.conflicts.push_back({claim.key, claim.binding.vport(), {}});
            continue;
        }
        if (is_own) publish_owner(claim, *held, out);
        if (is_own && held->lease == lease && is_same(claim.binding, held->binding)) continue;
        registry::Binding binding = claim.binding;
        const registry::Binding* last = is_own ? &held->binding : past(claim);
        if (last != nullptr && last->host() != host_) last = nullptr;
        binding.set_generation(last != nullptr ? last->generation() + 1 : 1);
        if (last != nullptr) {
            binding.set_moved_from(last->moved_from());
            *binding.mutable_moved_before() = last->moved_before();
        }
        Step step;
        step.write = {key_text(claim.key), value_text(binding), lease};
        for (const Network& network : claim.networks) {
            const BindingKey key{network, claim.key.vmac};
            // This host's own binding in another of its networks, from before a change of VLANs, goes by itself.
            const Entry* there = find(key);
            if (there == nullptr || there->gone_at_s != 0)
                step.guards.push_back({key_text(key), 0});
            else
                step.guards.push_back({key_text(key), there->mod_revision});
        }
        if (last == nullptr || last->vlan() != binding.vlan()) step.bound = claim.binding.vport();
        // Whoever took the VM over meanwhile may have lost its binding as well.
        if (!is_own) guard_owners(claim, step);
        out.steps.push_back(std::move(step));
    }
    for (const BindingKey& key : own_)
        if (!wanted.contains(key))
            out.steps.push_back({{{key_text(key), find(key)->mod_revision}}, {key_text(key), std::nullopt, 0}});
    // A vPort that is in no network for a while has its VM all the same.
    for (const auto& [key, entry] : owners_)
        if (entry.owner.host() == host_ && !wanted_owners.contains(key) &&
            !has_or_had(key.binding, entry.owner.vport()))
            out.steps.push_back({{{key_text(key), entry.mod_revision}}, {key_text(key), std::nullopt, 0}});
    // What says no more than is so here already.
    for (const auto& [key, entry] : moves_)
        if (!unheard.contains(key))
            out.steps.push_back({{{key_text(key), entry.mod_revision}}, {key_text(key), std::nullopt, 0}});
    return out;
}

const std::pair<const MoveKey, Mirror::MoveEntry>* Mirror::left(const Claim& claim) const {
    // It came back since, if this host is the owner. Where no owner is known, if this host had it by a later
    // generation: who took over from a host whose lease was gone may not have known how far that had come.
    const auto* known = owner(claim);
    if (known != nullptr && known->second.owner.host() == host_) return nullptr;
    const registry::Binding* last = known == nullptr ? past(claim) : nullptr;
    const std::uint64_t generation = last != nullptr && last->host() == host_ ? last->generation() : 0;
    const auto found = std::ranges::find_if(moves_, [&](const auto& entry) {
        const BindingKey& of = entry.first.binding;
        const registry::Move& move = entry.second.move;
        return of.network.vvlan == claim.key.network.vvlan && of.vmac == claim.key.vmac &&
               move.vport() == claim.binding.vport() && move.generation() >= generation;
    });
    return found != moves_.end() ? &*found : nullptr;
}

const Mirror::OwnerEntry* Mirror::owner(const BindingKey& key) const {
    const auto found = owners_.find({key});
    return found != owners_.end() ? &found->second : nullptr;
}

const std::pair<const OwnerKey, Mirror::OwnerEntry>* Mirror::owner(const Claim& claim) const {
    const std::pair<const OwnerKey, OwnerEntry>* last = nullptr;
    for (const Network& network : claim.networks) {
        const auto found = owners_.find({{network, claim.key.vmac}});
        if (found == owners_.end() || found->second.owner.vport() != claim.binding.vport()) continue;
        if (last == nullptr || found->second.owner.generation() > last->second.owner.generation()) last = &*found;
    }
    return last;
}

registry::Owner Mirror::owner_by(const Claim& claim, std::uint64_t generation) const {
    registry::Owner owner;
    owner.set_host(host_);
    owner.set_vvlan(claim.key.network.vvlan);
    owner.set_vmac(format_mac(claim.key.vmac));
    owner.set_vport(claim.binding.vport());
    owner.set_generation(generation);
    return owner;
}

bool Mirror::owns(const Claim& claim) const {
    const auto* known = owner(claim);
    return known != nullptr && known->second.owner.host() == host_;
}

bool Mirror::has_or_had(const BindingKey& key, const std::string& vport) const {
    if (own_.contains(key)) return true;
    const auto found = past_.find({key.network.vvlan, key.vmac});
    return found != past_.end() && found->second.host() == host_ && found->second.vport() == vport;
}

void Mirror::guard_owners(const Claim& claim, Step& step) const {
    for (const Network& network : claim.networks) {
        const OwnerKey key{{network, claim.key.vmac}};
        const OwnerEntry* there = owner(key.binding);
        step.guards.push_back({key_text(key), there != nullptr ? there->mod_revision : 0});
    }
}

void Mirror::publish_owner(const Claim& claim, const Entry& held, Publication& out) const {
    // Guarded by the binding too: a move that is not known here yet makes an owner at another place.
    const etcd::Guard binding{key_text(claim.key), held.mod_revision};
    for (const Network& network : claim.networks) {
        const OwnerKey key{{network, claim.key.vmac}};
        const OwnerEntry* there = owner(key.binding);
        const bool is_right = there != nullptr && there->owner.host() == host_ &&
                              there->owner.vport() == claim.binding.vport() && key.binding == claim.key;
        if (is_right || refused_.contains(key_text(key))) continue;
        if (key.binding == claim.key && !held.binding.moved_from().empty()) {
            out.steps.push_back({{binding, {key_text(key), there != nullptr ? there->mod_revision : 0}},
                                 {key_text(key), value_text(owner_by(claim, held.binding.generation())), 0}});
        } else if (there != nullptr) {
            out.steps.push_back({{binding, {key_text(key), there->mod_revision}}, {key_text(key), std::nullopt, 0}});
        }
    }
}

Result<Mirror::Takeover> Mirror::takeover(const std::vector<Claim>& claims, const std::string& from,
                                          std::int64_t lease) const {
    Takeover out;
    for (const Claim& claim : claims) {
        const std::string what =
            fmt::format("vMAC {} in network {}", format_mac(claim.key.vmac), to_text(claim.key.network));
        const Entry* held = find(claim.key);
        if (held != nullptr && held->binding.host() == host_) {
            out.generation = std::max(out.generation, held->binding.generation());
            continue;
        }
        Step take;
        const registry::Binding* last = nullptr;
        for (const Network& network : claim.networks) {
            const BindingKey key{network, claim.key.vmac};
            const Entry* there = find(key);
            for (const std::string& text : {key_text(key), key_text(OwnerKey{key})})
                if (refused_.contains(text))
                    return fail(Code::conflict, "IVDS-R003",
                                fmt::format("{}: what {} holds is not understood", what, text),
                                "delete the key, or write there what registry.proto says");
            if (there == nullptr || there->gone_at_s != 0) {
                take.guards.push_back({key_text(key), 0});
                continue;
            }
            const registry::Binding& other = there->binding;
            if (other.host() != from && other.host() != host_)
                return fail(Code::conflict, "IVDS-R003",
                            fmt::format("{} is bound by host {}, not by {}", what, other.host(), from),
                            "abort here, and prepare anew with what that host exports");
            take.guards.push_back({key_text(key), there->mod_revision});
            if (last == nullptr || other.generation() > last->generation()) last = &other;
            if (key != claim.key)
                out.steps.push_back({{{key_text(key), there->mod_revision}}, {key_text(key), std::nullopt, 0}});
        }
        const auto* known = owner(claim);
        // A move that was carried out: what is missing is this host's own binding, which went with its lease.
        const bool is_own = known != nullptr && known->second.owner.host() == host_;
        // That host lives, and would claim it anew: the two hosts no longer know each other's binding.
        if (last == nullptr && !is_own && hosts_.contains(from))
            return fail(
                Code::conflict, "IVDS-R012",
                fmt::format("{} is nobody's, and host {} is in the registry without it", what, from),
                fmt::format("let its vPort be in a network with this one on host {}, and on both the VLANs of "
                            "the other among the peer_vlans; or abort here",
                            from));
        // Without a binding only an owner tells whether the VM is still where it was when it was prepared here.
        if (last == nullptr) {
            if (known != nullptr && !is_own && known->second.owner.host() != from) {
                const std::string& of = known->second.owner.host();
                return fail(Code::conflict, "IVDS-R012",
                            fmt::format("{} went to host {} since host {} exported it, and the lease of host {} is "
                                        "gone: the VM may run there",
                                        what, of, from, of),
                            fmt::format("abort here, and prepare with what host {} exports; if that host never comes "
                                        "back, `etcdctl del {}`, and commit again",
                                        of, key_text(known->first)));
            }
            guard_owners(claim, take);
            // It lists what there is only once it is there again: so it hears of this before it claims anything.
            if (!is_own) take.guards.push_back({host_key(from), 0});
        }
        if (last == nullptr) last = past(claim);
        registry::Binding binding = claim.binding;
        binding.set_generation(std::max(last != nullptr ? last->generation() : 0,
                                        known != nullptr ? known->second.owner.generation() : 0) +
                               1);
        binding.set_moved_from(from);
        if (last != nullptr) {
            std::vector<std::string> before(last->moved_before().begin(), last->moved_before().end());
            before.insert(before.begin(), last->moved_from());
            for (const std::string& each : before)
                if (!each.empty() && each != host_ && each != from &&
                    binding.moved_before_size() < static_cast<int>(kMaxMovedBefore))
                    binding.add_moved_before(each);
        }
        take.write = {key_text(claim.key), value_text(binding), lease};
        out.generation = std::max(out.generation, binding.generation());
        out.steps.push_back(std::move(take));
        registry::Move move;
        move.set_host(from);
        move.set_vvlan(claim.key.network.vvlan);
        move.set_vmac(format_mac(claim.key.vmac));
        move.set_vport(claim.binding.vport());
        move.set_to_host(host_);
        move.set_generation(binding.generation());
        out.steps.push_back({{}, {key_text(MoveKey{from, claim.key}), value_text(move), 0}});
        // No two hosts take over from one binding, or guarded by one owner: these need no guard of their own.
        out.steps.push_back(
            {{}, {key_text(OwnerKey{claim.key}), value_text(owner_by(claim, binding.generation())), 0}});
        for (const Network& network : claim.networks)
            if (const OwnerKey key{{network, claim.key.vmac}};
                key.binding != claim.key && owner(key.binding) != nullptr)
                out.steps.push_back({{}, {key_text(key), std::nullopt, 0}});
    }
    std::size_t operations = 0;
    for (const Step& step : out.steps) operations += step.guards.size() + 1;
    if (operations > etcd::kMaxOperations)
        return fail(Code::exhausted, "IVDS-R012",
                    fmt::format("{} bindings in {} networks are more than one transaction takes", claims.size(),
                                claims.front().networks.size()),
                    "give the vPort fewer extra_macs, or the instance fewer peer_vlans");
    return out;
}

// ---------------------------------------------------------------------------------------- remote MACs

namespace {

// Hosts with bindings in the networks that are more than the instance takes.
std::set<std::string> peers_over(const pb::Instance& instance, const std::vector<Network>& networks,
                                 const Mirror& mirror, const std::string& host) {
    std::set<std::string> over;
    if (instance.max_peers() == 0) return over;
    std::map<std::string, std::int64_t> came;
    for (const Network& network : networks) {
        const auto* in = mirror.bindings(network);
        if (in == nullptr) continue;
        for (const auto& [vmac, entry] : *in) {
            if (entry.binding.host() == host) continue;
            const auto [at, is_first] = came.emplace(entry.binding.host(), entry.create_revision);
            if (!is_first) at->second = std::min(at->second, entry.create_revision);
        }
    }
    std::vector<std::pair<std::int64_t, std::string>> order;
    order.reserve(came.size());
    for (const auto& [name, revision] : came) order.emplace_back(revision, name);
    std::ranges::sort(order);
    for (std::size_t i = instance.max_peers(); i < order.size(); ++i) over.insert(order[i].second);
    return over;
}

std::vector<Address> addresses_of(const registry::Binding& binding) {
    std::vector<Address> out;
    for (const std::string& text : binding.addresses()) out.push_back(host_address(text).value_or(Address{}));
    std::ranges::sort(out);
    return out;
}

}  // namespace

Remotes remotes_of(const Model& model, const Mirror& mirror, const std::string& host, const Remotes& now,
                   const std::set<Network>* changed, std::vector<Unusable>& unusable) {
    Remotes out;
    if (changed == nullptr) unusable.clear();
    for (const auto& [name, instance] : model.instances) {
        const auto networks = networks_of(model, *instance);
        const auto old = now.find(name);
        if (changed != nullptr) {
            if (std::ranges::none_of(networks, [&](const Network& each) { return changed->contains(each); })) {
                if (old != now.end()) out.insert(*old);
                continue;
            }
            std::erase_if(unusable, [&](const Unusable& each) { return each.instance == name; });
        }
        const std::uint32_t outer = outer_vlan(model, *instance);
        if (networks.empty()) continue;
        const auto over = peers_over(*instance, networks, mirror, host);
        std::set<std::string> told;
        // Of two that hold one vMAC on two VLANs of the instance, the first to have come counts.
        std::map<Mac, std::pair<Network, const Entry*>> chosen;
        for (const Network& network : networks) {
            const auto* in = mirror.bindings(network);
            if (in == nullptr) continue;
            for (const auto& [vmac, entry] : *in) {
                if (entry.binding.host() == host) continue;
                if (over.contains(entry.binding.host())) {
                    if (told.insert(entry.binding.host()).second)
                        unusable.push_back({{network, vmac},
                                            entry,
                                            name,
                                            fmt::format("instance {} takes {} peers, and others came before", name,
                                                        instance->max_peers()),
                                            true});
                    continue;
                }
                const std::uint32_t vlan = entry.binding.vlan();
                if (vlan != outer &&
                    std::ranges::find(instance->peer_vlans(), vlan) == instance->peer_vlans().end()) {
                    unusable.push_back({{network, vmac},
                                        entry,
                                        name,
                                        fmt::format("VLAN {} is not among those of instance {}", vlan, name)});
                    continue;
                }
                const std::pair<Network, const Entry*> here{network, &entry};
                const auto [at, is_first] = chosen.emplace(vmac, here);
                if (is_first) continue;
                const Entry*& holder = at->second.second;
                const auto [lost_in, loser] =
                    entry.create_revision < holder->create_revision ? std::exchange(at->second, here) : here;
                unusable.push_back(
                    {{lost_in, vmac}, *loser, name, fmt::format("host {} had it before", holder->binding.host())});
            }
        }
        auto list = std::make_shared<std::vector<RemoteMac>>();
        list->reserve(chosen.size());
        for (const auto& [vmac, held] : chosen) {
            const registry::Binding& binding = held.second->binding;
            list->push_back({vmac, static_cast<std::uint16_t>(binding.vlan()), addresses_of(binding)});
        }
        if (old != now.end() && *old->second == *list)
            out.insert(*old);
        else
            out.emplace(name, std::move(list));
    }
    return out;
}

Remotes remotes_in(const Tables& tables, const Model& model, const Ids& ids) {
    Remotes out;
    for (const auto& [name, instance] : model.instances) {
        const auto id = ids.instances.find(name);
        const auto row = id != ids.instances.end() ? tables.instances.find(id->second) : tables.instances.end();
        if (row == tables.instances.end() || row->second.name != name || networks_of(model, *instance).empty())
            continue;
        const auto index = model.static_macs.find(name);
        std::map<Mac, std::vector<Address>> addresses;
        if (row->second.neighbours != nullptr)
            for (const Neighbour& neighbour : *row->second.neighbours)
                addresses[neighbour.mac].push_back(neighbour.address);
        auto list = std::make_shared<std::vector<RemoteMac>>();
        static const std::vector<StaticMac> none;
        for (const StaticMac& entry : row->second.fdb != nullptr ? *row->second.fdb : none) {
            if (entry.port != row->second.value.uplink || entry.vport != 0) continue;
            if (index != model.static_macs.end() &&
                std::ranges::binary_search(index->second->macs, to_number(entry.mac)))
                continue;
            list->push_back({entry.mac, entry.vlan, addresses[entry.mac]});
        }
        // Only who knows all peers leaves VLANs out.
        if (!list->empty() || (row->second.value.flags & IVDS_IF_SKIP_OWN) != 0) out.emplace(name, std::move(list));
    }
    return out;
}

std::vector<AddressClash> address_clashes(const Model& model, const Mirror& mirror, const std::vector<Claim>& claims,
                                          const std::string& host) {
    std::vector<AddressClash> out;
    std::map<std::string, std::vector<const registry::Binding*>> own;
    for (const Claim& claim : claims)
        if (!claim.waits) own[claim.instance].push_back(&claim.binding);
    for (const auto& each : model.instances) {
        const std::string& name = each.first;
        std::map<Address, const registry::Binding*> owners;
        const auto add = [&](const registry::Binding& binding) {
            for (const std::string& text : binding.addresses()) {
                const auto address = host_address(text);
                if (!address) continue;
                const auto [place, fresh] = owners.emplace(*address, &binding);
                if (!fresh && place->second->vmac() != binding.vmac())
                    out.push_back({name, ivds::to_text(place->first), *place->second, binding});
            }
        };
        for (const registry::Binding* binding : own[name]) add(*binding);
        for (const Network& network : networks_of(model, *each.second)) {
            const auto* in = mirror.bindings(network);
            if (in == nullptr) continue;
            for (const auto& [vmac, entry] : *in)
                if (entry.binding.host() != host && entry.gone_at_s == 0) add(entry.binding);
        }
    }
    return out;
}

}  // namespace ivds::fabric
