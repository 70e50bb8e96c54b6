// SPDX-License-Identifier: Apache-2.0
// mirror.cpp -- what a mirror must hold to: by itself, and among the others.
#include <arpa/inet.h>
#include <fmt/format.h>

#include <bit>
#include <map>
#include <set>

#include "model/model.h"
#include "model/rule.h"

namespace ivds {
namespace {

constexpr std::uint32_t kMinSnapBytes = 64;  // Ethernet's shortest frame: less tells nothing
constexpr std::uint32_t kMaxSnapBytes = 65535;
constexpr std::uint32_t kMaxSession = 1023;
constexpr std::uint32_t kMaxIndex = 1'048'575;
constexpr std::uint32_t kMaxHardware = 63;
constexpr std::uint32_t kMinRingKib = 64;  // a large frame and some more
constexpr std::uint32_t kMaxRingKib = 262'144;

std::unexpected<Error> wrong(const pb::Mirror& mirror, const char* id, const std::string& what,
                             const std::string& fix) {
    return fail(Code::invalid, id, fmt::format("mirror {}: {}", mirror.name(), what), fix);
}

int family_of(const std::string& text) {
    in6_addr address{};
    return ::inet_pton(AF_INET, text.c_str(), &address) == 1    ? AF_INET
           : ::inet_pton(AF_INET6, text.c_str(), &address) == 1 ? AF_INET6
                                                                : 0;
}

// Whether it may be another host's: not of a group, of everybody, of nobody or of the host itself.
bool is_of_a_host(const std::string& text) {
    in_addr four{};
    in6_addr six{};
    if (::inet_pton(AF_INET, text.c_str(), &four) == 1) {
        const std::uint32_t first = ntohl(four.s_addr) >> 24U;
        return first != 0 && first != 127 && first < 224;
    }
    return ::inet_pton(AF_INET6, text.c_str(), &six) == 1 && !IN6_IS_ADDR_MULTICAST(&six) &&
           !IN6_IS_ADDR_UNSPECIFIED(&six) && !IN6_IS_ADDR_LOOPBACK(&six);
}

Result<> check_target(const pb::Mirror& mirror) {
    const int targets = (mirror.to_vport().empty() ? 0 : 1) + (mirror.to_uplink().empty() ? 0 : 1) +
                        (mirror.erspan_remote().empty() ? 0 : 1) + (mirror.to_ring() ? 1 : 0);
    if (targets != 1)
        return wrong(mirror, "IVDS-M060", targets == 0 ? "nothing gets the copies" : "it has more than one target",
                     "give one of to_vport, to_uplink with rspan_vlan, erspan_remote, and to_ring");
    if (mirror.ring_kib() != 0 && (!mirror.to_ring() || !std::has_single_bit(mirror.ring_kib()) ||
                                   mirror.ring_kib() < kMinRingKib || mirror.ring_kib() > kMaxRingKib))
        return wrong(mirror, "IVDS-M060", fmt::format("ring_kib = {} does not fit", mirror.ring_kib()),
                     fmt::format("it is a power of two, {} to {}, and goes with to_ring", kMinRingKib, kMaxRingKib));
    if (mirror.to_uplink().empty() != (mirror.rspan_vlan() == 0) || mirror.rspan_vlan() > IVDS_VLAN_MAX)
        return wrong(mirror, "IVDS-M060", fmt::format("rspan_vlan = {} does not fit", mirror.rspan_vlan()),
                     "to_uplink goes with an rspan_vlan of 1 to 4094, and nothing else does");
    if (mirror.erspan_remote().empty()) {
        if (!mirror.erspan_local().empty() || mirror.session_id() != 0 || mirror.index() != 0)
            return wrong(mirror, "IVDS-M060", "erspan_local, session_id and index are of ERSPAN alone",
                         "leave them out, or give erspan_remote");
        return {};
    }
    const int family = family_of(mirror.erspan_remote());
    if (family == 0)
        return wrong(mirror, "IVDS-M061", fmt::format("erspan_remote \"{}\" is no address", mirror.erspan_remote()),
                     "write an IPv4 or IPv6 address");
    if (!is_of_a_host(mirror.erspan_remote()))
        return wrong(mirror, "IVDS-M061",
                     fmt::format("erspan_remote {} is the address of no other host", mirror.erspan_remote()),
                     "give the address of the host that gets the copies");
    if (!mirror.erspan_local().empty() && family_of(mirror.erspan_local()) != family)
        return wrong(mirror, "IVDS-M061",
                     fmt::format("erspan_local \"{}\" is no address of the remote's kind", mirror.erspan_local()),
                     "give both as IPv4, or both as IPv6; or leave erspan_local out");
    if (mirror.session_id() > kMaxSession)
        return wrong(mirror, "IVDS-M003",
                     fmt::format("session_id = {} is out of range (0 to {})", mirror.session_id(), kMaxSession),
                     fmt::format("give 0 to {}", kMaxSession));
    const std::uint32_t limit = mirror.erspan() == pb::Mirror::III ? kMaxHardware : kMaxIndex;
    if (mirror.index() > limit)
        return wrong(mirror, "IVDS-M003", fmt::format("index = {} is out of range (0 to {})", mirror.index(), limit),
                     mirror.erspan() == pb::Mirror::III
                         ? "give 0 to 63: in ERSPAN III it is a hardware id of six bits"
                         : fmt::format("give 0 to {}", limit));
    return {};
}

// The mirrors that rules of the list name.
void add_named(const RuleList& rules, std::set<std::string>& mirrors) {
    for (const pb::Rule& rule : rules)
        if (!rule.mirror().empty()) mirrors.insert(rule.mirror());
}

// Where copies of each port's frames come to. An uplink's come back by the fabric, which floods the VLAN that they
// are in.
std::map<std::string, std::map<std::string, std::string>> copies_of(const Model& model) {
    std::map<std::string, std::map<std::string, std::string>> to;  // "vport a" -> "uplink b" -> mirror
    const auto add = [&](const std::string& from, const std::string& mirror_name) {
        const pb::Mirror& mirror = *model.mirrors.at(mirror_name);
        if (!mirror.to_vport().empty()) to[from].emplace("vport " + mirror.to_vport(), mirror_name);
        if (!mirror.to_uplink().empty()) to[from].emplace("uplink " + mirror.to_uplink(), mirror_name);
    };
    for (const auto& [name, mirror] : model.mirrors)
        for (const pb::Mirror::Source& source : mirror->sources())
            if (!source.uplink().empty()) add("uplink " + source.uplink(), name);
    for (const auto& [name, vport] : model.vports) {
        std::set<std::string> mirrors;
        add_named(vport->rules(), mirrors);
        if (const auto profile = model.profiles.find(vport->profile()); profile != model.profiles.end())
            add_named(profile->second->rules(), mirrors);
        if (const auto instance = model.instances.find(vport->instance()); instance != model.instances.end())
            add_named(instance->second->rules(), mirrors);
        for (const auto& [mirror_name, mirror] : model.mirrors)
            for (const pb::Mirror::Source& source : mirror->sources())
                if (source.vport() == name || (!source.instance().empty() && source.instance() == vport->instance()))
                    mirrors.insert(mirror_name);
        for (const std::string& mirror_name : mirrors) add("vport " + name, mirror_name);
    }
    return to;
}

}  // namespace

Result<> validate_object(const pb::Mirror& mirror) {
    if (auto named = validate_name("mirror", mirror.name()); !named) return named;
    if (auto done = check_target(mirror); !done) return done;
    for (const pb::Mirror::Source& source : mirror.sources()) {
        const int places = (source.vport().empty() ? 0 : 1) + (source.instance().empty() ? 0 : 1) +
                           (source.uplink().empty() ? 0 : 1);
        if (places != 1)
            return wrong(mirror, "IVDS-M062", "a source is one vport, instance or uplink",
                         "give several sources instead");
        if (source.drops() && source.direction() != pb::Mirror::BOTH)
            return wrong(mirror, "IVDS-M082", "a source of drops has a direction",
                         "leave the direction out: what is dropped is copied as it came in");
    }
    if (mirror.snap_bytes() != 0 && (mirror.snap_bytes() < kMinSnapBytes || mirror.snap_bytes() > kMaxSnapBytes))
        return wrong(mirror, "IVDS-M003",
                     fmt::format("snap_bytes = {} is out of range ({} to {})", mirror.snap_bytes(), kMinSnapBytes,
                                 kMaxSnapBytes),
                     "0 leaves the copies whole");
    for (const pb::Rule& rule : mirror.filter())
        if (rule.action() == pb::Rule::REDIRECT || rule.stateful() || rule.log() || !rule.mirror().empty() ||
            rule.idle_s() != 0 || rule.hard_s() != 0)
            return wrong(mirror, "IVDS-M063", "a filter's rule does more than match",
                         "its rules allow or drop, without state, log, mirror, redirect or an end");
    return validate_rules(mirror.filter());
}

Result<> validate_mirrors(const Model& model) {
    for (const auto& [name, mirror] : model.mirrors) {
        if (const auto target = model.vports.find(mirror->to_vport());
            target != model.vports.end() && !target->second->patch().empty())
            return wrong(*mirror, "IVDS-M060",
                         fmt::format("vport {} is a patch, and has no interface", mirror->to_vport()),
                         "give a vPort with an interface");
        if (mirror->to_uplink().empty()) continue;
        for (const auto& [instance_name, instance] : model.instances) {
            if (instance->uplink() != mirror->to_uplink()) continue;
            bool taken = outer_vlan(model, *instance) == mirror->rspan_vlan();
            for (const std::uint32_t vlan : instance->peer_vlans()) taken = taken || vlan == mirror->rspan_vlan();
            if (taken)
                return fail(Code::conflict, "IVDS-M064",
                            fmt::format("mirror {}: VLAN {} of uplink {} is in use by instance {}", name,
                                        mirror->rspan_vlan(), mirror->to_uplink(), instance_name),
                            "give the copies a VLAN of their own");
        }
    }
    // From each port along the copies: whoever comes back to where he was is in a cycle.
    if (model.mirrors.empty()) return {};
    const auto to = copies_of(model);
    for (const auto& [start, targets] : to) {
        std::set<std::string> seen;
        std::vector<std::string> todo{start};
        while (!todo.empty()) {
            const std::string at = todo.back();
            todo.pop_back();
            const auto next = to.find(at);
            if (next == to.end()) continue;
            for (const auto& [target, mirror] : next->second) {
                if (target == start)
                    return fail(
                        Code::conflict, "IVDS-M065",
                        fmt::format("mirror {}: copies of the frames of {} come back to it", mirror, start),
                        "send them to a port that no mirror of this chain watches, or leave it out of the sources");
                if (seen.insert(target).second) todo.push_back(target);
            }
        }
    }
    return {};
}

}  // namespace ivds
