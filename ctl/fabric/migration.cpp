// SPDX-License-Identifier: Apache-2.0
#include "fabric/migration.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <google/protobuf/util/message_differencer.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>

#include "api/codec.h"
#include "fabric/bindings.h"
#include "loader/fd.h"
#include "model/shared.h"

namespace ivds::fabric {
namespace {

using google::protobuf::util::MessageDifferencer;

constexpr std::uint64_t kSecond = 1'000'000'000;

template <class... Args>
std::unexpected<Error> refuse(Code code, const std::string& fix, fmt::format_string<Args...> format, Args&&... args) {
    return fail(code, "IVDS-R012", fmt::format(format, std::forward<Args>(args)...), fix);
}

// The profile without rules that go by themselves and that `other` has no more: each host's time of them runs alone.
pb::Profile without_gone(pb::Profile profile, const pb::Profile& other) {
    auto& rules = *profile.mutable_rules();
    const auto rest = std::remove_if(rules.begin(), rules.end(), [&](const pb::Rule& rule) {
        return (rule.idle_s() != 0 || rule.hard_s() != 0) &&
               std::ranges::find(other.rules(), rule.name(), &pb::Rule::name) == other.rules().end();
    });
    rules.erase(rest, rules.end());
    return profile;
}

// Two of one name are the same; of what one host shares with both, the other may not have the last change yet.
template <class T>
Result<> check_same(const Objects<T>& here, const T& carried, const char* label, const std::string& host,
                    const std::string& own) {
    const auto found = here.find(carried.name());
    if (found == here.end() || MessageDifferencer::Equals(*found->second, carried)) return {};
    const T& known = *found->second;
    if constexpr (std::is_same_v<T, pb::Profile>)
        if (MessageDifferencer::Equals(without_gone(known, carried), without_gone(carried, known))) return {};
    if (known.shared() && carried.shared() &&
        carried.shared_by() == (known.shared_by().empty() ? own : known.shared_by()))
        return {};
    return refuse(Code::conflict, fmt::format("make the two the same, or give one of them another name"),
                  "{} {} is another one here than on host {}", label, carried.name(), host);
}

// Whether the mirror watches the vPort by itself.
bool watches(const pb::Mirror::Source& source, const std::string& vport) {
    return source.vport() == vport;
}

// Whether it did so until now.
bool stop_watching(pb::Mirror& mirror, const std::string& vport) {
    auto& sources = *mirror.mutable_sources();
    const auto rest =
        std::remove_if(sources.begin(), sources.end(), [&](const auto& source) { return watches(source, vport); });
    const bool did = rest != sources.end();
    sources.erase(rest, sources.end());
    return did;
}

pb::Ref ref_to(pb::Kind kind, const std::string& name) {
    pb::Ref ref;
    ref.set_kind(kind);
    ref.set_name(name);
    return ref;
}

// Outer VLANs as `Migration.vlans` has them.
std::vector<std::uint32_t> vlans_of(const pb::Instance& instance) {
    if (instance.mode() == pb::INDEPENDENT) return {};
    std::vector<std::uint32_t> vlans = {instance.vlan()};
    vlans.insert(vlans.end(), instance.peer_vlans().begin(), instance.peer_vlans().end());
    return vlans;
}

// Each host sees the other's binding: the VLAN of each is among those of the other's instance.
Result<> check_networks(const pb::Migration& migration, const pb::Instance& here) {
    if (here.vvlan() != migration.vvlan() || (here.mode() == pb::INDEPENDENT) != migration.vlans().empty())
        return refuse(Code::conflict, "name the instance here that is the same network with --instance",
                      "instance {} here is V.VLAN {}, and vport {} is in V.VLAN {} on host {}", here.name(),
                      here.vvlan(), migration.vport().name(), migration.vvlan(), migration.host());
    if (migration.vlans().empty()) return {};
    const auto own = vlans_of(here);
    if (std::ranges::find(own, migration.vlans(0)) == own.end())
        return refuse(
            Code::conflict,
            fmt::format("add VLAN {} to the peer_vlans of instance {} here", migration.vlans(0), here.name()),
            "instance {} here has no peers on VLAN {}, which reaches host {}", here.name(), migration.vlans(0),
            migration.host());
    if (std::ranges::find(migration.vlans(), own.front()) == migration.vlans().end())
        return refuse(Code::conflict,
                      fmt::format("add VLAN {} to the peer_vlans of instance {} on host {}", own.front(),
                                  migration.vport().instance(), migration.host()),
                      "instance {} on host {} has no peers on VLAN {}, which reaches this host",
                      migration.vport().instance(), migration.host(), own.front());
    return {};
}

// What of `migration` a vPort of this model is to have: each object once it does not contradict what is here.
Result<std::vector<pb::Object>> objects_of(const Model& now, const pb::MigrateRequest& request,
                                           const std::string& host) {
    const pb::Migration& from = request.migration();
    std::vector<pb::Object> objects;
    for (const pb::Set& set : from.sets()) {
        if (auto same = check_same(now.sets, set, "set", from.host(), host); !same)
            return std::unexpected(same.error());
        if (!now.sets.contains(set.name()) && !set.shared()) *objects.emplace_back().mutable_set() = set;
    }
    if (from.has_profile()) {
        if (auto same = check_same(now.profiles, from.profile(), "profile", from.host(), host); !same)
            return std::unexpected(same.error());
        if (!now.profiles.contains(from.profile().name()) && !from.profile().shared())
            *objects.emplace_back().mutable_profile() = from.profile();
    }
    if (from.has_vnic()) {
        const auto vnic = now.vnics.find(from.vnic().name());
        if (vnic != now.vnics.end() && vnic->second->vmac() != from.vnic().vmac())
            return refuse(Code::conflict, "give one of the two vNICs another name",
                          "vnic {} has the vMAC {} here, and {} on host {}", from.vnic().name(), vnic->second->vmac(),
                          from.vnic().vmac(), from.host());
        if (vnic == now.vnics.end()) {
            pb::Vnic& carried = *objects.emplace_back().mutable_vnic();
            carried = from.vnic();
            // The pool stays where it is, and the vMAC is its no less.
            carried.clear_pool();
        }
    }
    pb::VPort& vport = *objects.emplace_back().mutable_vport();
    vport = from.vport();
    vport.set_netdev(request.netdev());
    if (!request.instance().empty()) vport.set_instance(request.instance());
    vport.set_attach(pb::AUTO);
    vport.set_state(pb::VPort::PREPARED);
    vport.set_peer_host(from.host());
    for (const pb::Mirror& mirror : from.mirrors()) {
        const auto known = now.mirrors.find(mirror.name());
        if (known == now.mirrors.end() && !mirror.to_vport().empty())
            return refuse(Code::not_found, "make a mirror of that name here, or take the vPort out of it there",
                          "mirror {} watches vport {} on host {}, by a vPort there; here is no such mirror",
                          mirror.name(), from.vport().name(), from.host());
        pb::Mirror& here = *objects.emplace_back().mutable_mirror();
        here = known == now.mirrors.end() ? mirror : *known->second;
        if (known == now.mirrors.end()) continue;
        stop_watching(here, from.vport().name());
        here.mutable_sources()->MergeFrom(mirror.sources());
    }
    return objects;
}

// What a host shares, and the registry has not told here yet, is as the other host has it.
Result<Model> with_carried(const Model& now, const pb::Migration& from) {
    Shared shared = now.shared;
    const auto take = [&]<class T>(const Objects<T>& here, const T& object, Objects<T>& into) -> Result<> {
        if (!object.shared() || here.contains(object.name())) return {};
        if (auto valid = validate_object(object); !valid) return valid;
        if (auto valid = check_enums(object); !valid) return valid;
        if (auto valid = validate_name("host", object.shared_by()); !valid) return valid;
        into.try_emplace(object.name(), std::make_shared<const T>(object));
        return {};
    };
    for (const pb::Set& set : from.sets())
        if (auto taken = take(now.sets, set, shared.sets); !taken) return std::unexpected(taken.error());
    if (auto taken = take(now.profiles, from.profile(), shared.profiles); !taken)
        return std::unexpected(taken.error());
    return next_shared(now, std::move(shared));
}

}  // namespace

Result<pb::Migration> migration_of(const Model& model, const std::string& name, const std::string& host) {
    const auto found = model.vports.find(name);
    if (found == model.vports.end()) return no_such("vport", name);
    const pb::VPort& vport = *found->second;
    if (vport.state() != pb::VPort::ACTIVE)
        return refuse(Code::conflict, fmt::format("ask host {}", vport.peer_host()), "vport {} is host {}'s now",
                      name, vport.peer_host());
    if (vport.netdev().empty())
        return refuse(Code::unsupported, "migrate a vPort with an interface of this host's",
                      "vport {} has no interface of its own, and cannot move", name);
    for (const auto& [other, behind] : model.vports)
        if (behind->trunk() == name)
            return refuse(Code::unsupported, "delete the vPorts behind it, and make them on the other host",
                          "vport {} is the trunk of vport {}, and trunks do not move", name, other);
    if (vport.instance().empty() || networks_of(model, *model.instances.at(vport.instance())).empty())
        return refuse(Code::unsupported, "give it an instance of scope distributed that is not draining",
                      "vport {} is in no network that spans hosts", name);

    pb::Migration out;
    out.set_host(host);
    const pb::Instance& instance = *model.instances.at(vport.instance());
    for (const std::uint32_t vlan : vlans_of(instance)) out.add_vlans(vlan);
    out.set_vvlan(instance.vvlan());
    *out.mutable_vport() = vport;
    if (!vport.vnic().empty()) *out.mutable_vnic() = *model.vnics.at(vport.vnic());
    std::set<std::string> sets;
    const auto name_sets = [&](const auto& rules) {
        for (const pb::Rule& rule : rules)
            for (const std::string& set : {rule.src_set(), rule.dst_set()})
                if (!set.empty()) sets.insert(set);
    };
    name_sets(vport.rules());
    if (!vport.profile().empty()) {
        const pb::Profile& profile = *model.profiles.at(vport.profile());
        *out.mutable_profile() = profile.shared() && profile.shared_by().empty() ? as_shared(profile, host) : profile;
        name_sets(out.profile().rules());
    }
    for (const std::string& name_of_set : sets) {
        const pb::Set& set = *model.sets.at(name_of_set);
        *out.add_sets() = set.shared() && set.shared_by().empty() ? as_shared(model, set, host) : set;
    }
    for (const auto& [mirror_name, mirror] : model.mirrors) {
        pb::Mirror part = *mirror;
        part.clear_sources();
        for (const pb::Mirror::Source& source : mirror->sources())
            if (watches(source, name)) *part.add_sources() = source;
        if (!part.sources().empty()) *out.add_mirrors() = std::move(part);
    }
    return out;
}

Result<Model> with_prepared(const Model& now, const pb::MigrateRequest& request, const std::string& host,
                            const MacOf& mac_of) {
    const pb::Migration& from = request.migration();
    const std::string& name = from.vport().name();
    if (!validate_name("host", from.host()) || !validate_name("vport", name))
        return refuse(Code::invalid, "give what `ivds-ctl migrate export` prints on the other host",
                      "this is no vPort of another host");
    if (from.host() == host)
        return refuse(Code::conflict, "prepare it on the host that it is to go to",
                      "vport {} is this host's, {}: this is its own export", name, host);
    if (const auto there = now.vports.find(name);
        there != now.vports.end() && there->second->state() == pb::VPort::ACTIVE)
        return refuse(Code::exists, "delete or rename one of the two", "vport {} is active here", name);
    const std::string& instance = request.instance().empty() ? from.vport().instance() : request.instance();
    const auto found = now.instances.find(instance);
    if (found == now.instances.end())
        return refuse(Code::not_found, "make the instance, or name another with --instance",
                      "there is no instance {} here for vport {}", instance, name);
    if (networks_of(now, *found->second).empty())
        return refuse(Code::conflict, "make its scope distributed, and let it not drain",
                      "instance {} here is in no network that spans hosts", instance);
    if (auto same = check_networks(from, *found->second); !same) return std::unexpected(same.error());

    auto objects = objects_of(now, request, host);
    if (!objects) return std::unexpected(objects.error());
    auto with_shared = with_carried(now, from);
    if (!with_shared) return std::unexpected(with_shared.error().in("prepare vport " + name));
    Model next = std::move(*with_shared);
    for (pb::Object& object : *objects) {
        auto with = next_with(next, std::move(object), mac_of);
        if (!with) return std::unexpected(with.error().in("prepare vport " + name));
        next = std::move(*with);
    }
    return next;
}

Result<> still_meets(const Model& now, const pb::Migration& migration) {
    const auto vport = now.vports.find(migration.vport().name());
    if (vport == now.vports.end() || vport->second->instance().empty()) return {};
    return check_networks(migration, *now.instances.at(vport->second->instance()));
}

pb::ObjectList found_by_prepare(const Model& now, const pb::Migration& migration) {
    const std::string& name = migration.vport().name();
    pb::ObjectList found;
    if (const auto vport = now.vports.find(name); vport != now.vports.end())
        *found.add_objects()->mutable_vport() = *vport->second;
    if (const auto vnic = now.vnics.find(migration.vnic().name()); vnic != now.vnics.end())
        *found.add_objects()->mutable_vnic() = *vnic->second;
    for (const auto& [mirror_name, mirror] : now.mirrors)
        if (std::ranges::any_of(mirror->sources(), [&](const auto& source) { return watches(source, name); }) ||
            std::ranges::find(migration.mirrors(), mirror_name, &pb::Mirror::name) != migration.mirrors().end())
            *found.add_objects()->mutable_mirror() = *mirror;
    return found;
}

Result<Model> without_prepared(const Model& now, const std::string& name, const pb::ObjectList& found,
                               const std::string& owner, const MacOf& mac_of) {
    const std::string vnic = now.vports.at(name)->vnic();
    std::map<std::string, const pb::Mirror*> mirrors;
    std::optional<pb::VPort> before;
    bool had_vnic = false;
    for (const pb::Object& object : found.objects()) {
        if (object.has_vport()) before = object.vport();
        if (object.has_mirror()) mirrors.emplace(object.mirror().name(), &object.mirror());
        had_vnic = had_vnic || (object.has_vnic() && object.vnic().name() == vnic);
    }
    Model next = now;
    for (const auto& [mirror_name, mirror] : now.mirrors) {
        pb::Object object;
        pb::Mirror& rest = *object.mutable_mirror();
        rest = *mirror;
        if (!stop_watching(rest, name)) continue;
        const auto known = mirrors.find(mirror_name);
        if (known != mirrors.end())
            for (const pb::Mirror::Source& source : known->second->sources())
                if (watches(source, name)) *rest.add_sources() = source;
        const bool is_last = known == mirrors.end() && rest.sources().empty();
        auto without =
            is_last ? next_without(next, ref_to(pb::MIRROR, mirror_name)) : next_with(next, object, mac_of);
        if (!without && is_last) without = next_with(next, std::move(object), mac_of);  // rules name it
        if (!without) return without;
        next = std::move(*without);
    }
    Result<Model> without;
    if (before) {
        if (!owner.empty()) before->set_peer_host(owner);
        pb::Object object;
        *object.mutable_vport() = std::move(*before);
        without = next_with(next, std::move(object), mac_of);
    } else {
        without = next_without(next, ref_to(pb::VPORT, name));
    }
    if (!without) return without;
    if (!vnic.empty() && !had_vnic)
        if (auto unused = next_without(*without, ref_to(pb::VNIC, vnic))) return unused;
    return without;
}

Result<Model> with_state(const Model& now, const std::string& name, pb::VPort::State state, const std::string& peer,
                         const MacOf& mac_of) {
    pb::Object object;
    pb::VPort& vport = *object.mutable_vport();
    vport = *now.vports.at(name);
    vport.set_state(state);
    vport.set_peer_host(peer);
    return next_with(now, std::move(object), mac_of);
}

// ---------------------------------------------------------------------------------------- flows

bool is_carried(const ivds_flow& flow) {
    return flow.state != IVDS_FLOW_VERDICT;
}

pb::Migration::Flow carried(const FlowRow& row, std::uint64_t now_ns) {
    pb::Migration::Flow out;
    out.set_key(&row.key, sizeof(row.key));
    out.set_flow(&row.flow, sizeof(row.flow));
    out.set_idle_ns(now_ns - std::min(now_ns, std::uint64_t{row.flow.last_seen_ns}));
    out.set_age_s(static_cast<std::uint32_t>(now_ns / kSecond) - row.flow.since_s);
    return out;
}

Result<FlowRow> entry_of(const pb::Migration::Flow& flow, std::uint32_t port, std::uint32_t instance,
                         std::uint64_t now_ns) {
    FlowRow row{};
    if (flow.key().size() == sizeof(row.key) && flow.flow().size() == sizeof(row.flow)) {
        std::memcpy(&row.key, flow.key().data(), sizeof(row.key));
        std::memcpy(&row.flow, flow.flow().data(), sizeof(row.flow));
    }
    const ivds_fields& fields = row.key.fields;
    const bool is_ip = ntohs(fields.type_be) == 0x0800 || ntohs(fields.type_be) == 0x86dd;
    if (!is_ip || fields.tcp_flags != 0 || fields.unknown != 0 || fields.pad0 != 0 ||
        row.flow.state < IVDS_FLOW_OPENING || row.flow.state > IVDS_FLOW_CLOSING || row.flow.opener > IVDS_WAY_OUT ||
        row.flow.fins > 3)
        return refuse(Code::invalid, "give what `ivds-ctl migrate export` printed, as it was",
                      "one of the flows is no connection as layout {}.{} holds it", IVDS_LAYOUT_MAJOR,
                      IVDS_LAYOUT_MINOR);
    row.key.port = port;
    row.key.instance = instance;
    for (ivds_flow_way& way : row.flow.way) {
        // Rules here are told of the frames from now on. No list has the id 0: what decides is asked anew.
        ivds_flow_way kept{};
        kept.packets = kept.told_packets = way.packets;
        kept.bytes = kept.told_bytes = way.bytes;
        kept.detail = way.detail;
        way = kept;
    }
    row.flow.last_seen_ns = now_ns - std::min(now_ns, flow.idle_ns());
    row.flow.since_s = static_cast<std::uint32_t>(now_ns / kSecond) - flow.age_s();
    row.flow.tick = 0;
    row.flow.pad0 = 0;
    return row;
}

// ---------------------------------------------------------------------------------------- announcements

std::vector<Mac> macs_of(const Model& model, const pb::VPort& vport) {
    std::vector<Mac> macs;
    for (const std::string& mac : vport.extra_macs()) macs.push_back(parse_mac(mac).value_or(Mac{}));
    if (const std::string& vnic = vnic_of(model, vport); !vnic.empty())
        macs.push_back(parse_mac(model.vnics.at(vnic)->vmac()).value_or(Mac{}));
    return macs;
}

std::vector<std::vector<std::uint8_t>> announcements(const Model& model, const pb::VPort& vport) {
    constexpr std::uint16_t kRarp = 0x8035;
    constexpr std::size_t kLeastBytes = 60;
    const pb::Instance& instance = *model.instances.at(vport.instance());
    const pb::Uplink& uplink = *model.uplinks.at(instance.uplink());
    const auto tpid = [](const std::string& text) {
        return text.empty() ? std::uint16_t{0x8100} : static_cast<std::uint16_t>(std::stoul(text, nullptr, 16));
    };
    std::vector<std::vector<std::uint8_t>> frames;
    for (const Mac& mac : macs_of(model, vport)) {
        std::vector<std::uint8_t>& frame = frames.emplace_back(6, std::uint8_t{0xff});
        const auto put = [&](std::uint32_t value) {
            frame.push_back(static_cast<std::uint8_t>(value >> 8));
            frame.push_back(static_cast<std::uint8_t>(value));
        };
        const auto put_mac = [&] { frame.insert(frame.end(), mac.begin(), mac.end()); };
        put_mac();
        // The fabric's port adds the outer VLAN where there is a single tag.
        if (uplink.tags() == pb::Uplink::DOUBLE) {
            put(tpid(uplink.outer_tpid()));
            put(outer_vlan(model, instance));
        }
        put(tpid(uplink.inner_tpid()));
        put(instance.vvlan());
        put(kRarp);
        put(1);       // Ethernet
        put(0x0800);  // IPv4
        put(0x0604);  // lengths of their addresses
        put(3);       // request reverse
        put_mac();
        put(0), put(0);
        put_mac();
        put(0), put(0);
        frame.resize(std::max(frame.size(), kLeastBytes));
    }
    return frames;
}

Announcer::Send frame_sender() {
    return [socket = std::make_shared<Fd>()](const std::string& netdev,
                                             std::span<const std::vector<std::uint8_t>> frames) -> Result<> {
        if (socket->get() < 0) *socket = Fd(::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, 0));
        if (socket->get() < 0) return os_error(errno, "IVDS-R013", "open a packet socket");
        sockaddr_ll to{};
        to.sll_family = AF_PACKET;
        to.sll_ifindex = static_cast<int>(::if_nametoindex(netdev.c_str()));
        to.sll_halen = 6;
        if (to.sll_ifindex == 0) return os_error(errno, "IVDS-R013", "find the interface " + netdev);
        for (const auto& frame : frames)
            if (::sendto(socket->get(), frame.data(), frame.size(), 0, reinterpret_cast<const sockaddr*>(&to),
                         sizeof(to)) < 0)
                return os_error(errno, "IVDS-R013", "send by " + netdev);
        return {};
    };
}

}  // namespace ivds::fabric
