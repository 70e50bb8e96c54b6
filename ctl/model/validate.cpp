// SPDX-License-Identifier: Apache-2.0
// validate.cpp -- what a configuration must hold to: each object by itself, and all of them together.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <set>
#include <string_view>
#include <unordered_map>
#include <unordered_set>

#include "model/address.h"
#include "model/kinds.h"
#include "model/model.h"
#include "model/priority.h"
#include "model/rule.h"
#include "model/rx_filter.h"
#include "model/vmac_pool.h"

namespace ivds {
namespace {

constexpr std::uint32_t kMinInspectorTimeoutMs = 10;
constexpr std::uint32_t kMaxInspectorTimeoutMs = 60'000;

constexpr std::uint32_t kMinMtuBytes = 68;  // what IPv4 asks of every link
constexpr std::uint32_t kMaxMtuBytes = 65535;
constexpr std::uint32_t kMaxVf = 255;
constexpr std::uint32_t kMaxNicQuota = 65535;
constexpr std::uint32_t kMaxTenantRateMbps = 100'000'000;
constexpr std::uint32_t kMaxPeers = 65535;
constexpr std::uint32_t kMaxPoolSize = 65536;
constexpr std::uint32_t kMaxRateMbps = 100'000;
constexpr std::uint32_t kMaxBurstKib = 1U << 20;

template <class... Args>
std::unexpected<Error> refuse(Code code, const char* id, const std::string& fix, fmt::format_string<Args...> format,
                              Args&&... args) {
    return fail(code, id, fmt::format(format, std::forward<Args>(args)...), fix);
}

// Checks one object; every error names it.
class Checker {
public:
    Checker(const char* label, const std::string& name)
        : who_(fmt::format("{} {}", label, name)), result_(validate_name(label, name)) {}

    void number(const char* field, std::uint32_t value, std::uint32_t low, std::uint32_t high, bool zero_is_default) {
        if (!result_ || (zero_is_default && value == 0) || (value >= low && value <= high)) return;
        result_ = refuse(Code::invalid, "IVDS-M003",
                         fmt::format("give {} to {}{}", low, high, zero_is_default ? ", or leave it out" : ""),
                         "{}: {} = {} is out of range ({} to {})", who_, field, value, low, high);
    }

    void rate(const char* way, std::uint32_t rate_mbps, std::uint32_t burst_kib) {
        number(fmt::format("rate_{}_mbps", way).c_str(), rate_mbps, 1, kMaxRateMbps, true);
        number(fmt::format("burst_{}_kib", way).c_str(), burst_kib, 1, kMaxBurstKib, true);
        that(burst_kib == 0 || rate_mbps != 0, "IVDS-M003",
             fmt::format("burst_{0}_kib without rate_{0}_mbps has no effect", way),
             fmt::format("give rate_{0}_mbps, or leave burst_{0}_kib out", way));
    }

    void netdev(const std::string& name) {
        if (!result_) return;
        const bool bad_char = std::ranges::any_of(name, [](char c) {
            return c == '/' || c == ':' || static_cast<unsigned char>(c) <= 0x20 ||
                   static_cast<unsigned char>(c) >= 0x7f;
        });
        if (name.empty())
            result_ = refuse(Code::invalid, "IVDS-M002", "give the interface's name", "{}: netdev is missing", who_);
        else if (name.size() > 15 || bad_char || name == "." || name == "..")
            result_ =
                refuse(Code::invalid, "IVDS-M004", "'ip link' lists the interfaces: a name has up to 15 characters",
                       "{}: \"{}\" is no name of an interface", who_, name);
        else if (name == "lo")
            result_ = refuse(Code::invalid, "IVDS-M004", "give the VM's interface, or the NIC's",
                             "{}: lo is the host's own loopback, and never a port", who_);
    }

    void unicast(const char* field, const std::string& text) {
        if (!result_) return;
        const auto mac = parse_mac(text);
        if (!mac)
            result_ = refuse(Code::invalid, "IVDS-M004", "write it like 02:00:5e:00:00:01",
                             "{}: {} \"{}\" is no MAC address", who_, field, text);
        else if (!is_unicast(*mac))
            result_ =
                refuse(Code::invalid, "IVDS-M004", "use a unicast address: the first byte is even", "{}: {} {} is {}",
                       who_, field, text, to_number(*mac) == 0 ? "zero" : "a multicast address");
    }

    void tpid(const char* field, const std::string& text) {
        if (!result_ || text.empty() || text == "0x8100" || text == "0x88a8" || text == "0x9100") return;
        result_ = refuse(Code::invalid, "IVDS-M021", "use 0x8100, 0x88a8 or 0x9100", "{}: {} \"{}\" is not supported",
                         who_, field, text);
    }

    void that(bool good, const char* id, const std::string& what, const std::string& fix) {
        if (result_ && !good) result_ = fail(Code::invalid, id, fmt::format("{}: {}", who_, what), fix);
    }

    void rules(const RuleList& list) {
        if (!result_) return;
        if (auto valid = validate_rules(list); !valid) result_ = std::unexpected(valid.error().in(who_));
    }

    void rx_filters(const google::protobuf::RepeatedPtrField<pb::RxFilter>& list) {
        if (!result_) return;
        if (auto valid = validate_rx_filters(list); !valid) result_ = std::unexpected(valid.error().in(who_));
    }

    [[nodiscard]] bool ok() const { return result_.has_value(); }
    [[nodiscard]] Result<> result() { return std::move(result_); }

private:
    std::string who_;
    Result<> result_;
};

// ---------------------------------------------------------------------------------------- all together

// Steps of validate(): each looks at one rule over the whole model.
class Whole {
public:
    Whole(const Model& next, const Model& now) : next_(next), now_(now) {}

    Result<> run() {
        for (const auto step : {&Whole::sizes, &Whole::references, &Whole::port_names, &Whole::netdevs, &Whole::vnics,
                                &Whole::networks, &Whole::vfs, &Whole::static_lists, &Whole::macs, &Whole::addresses,
                                &Whole::drains, &Whole::quotas, &Whole::patches, &Whole::trunks, &Whole::pools,
                                &Whole::redirects, &Whole::mirrors, &Whole::exporters, &Whole::shared})
            if (auto done = (this->*step)(); !done) return done;
        return {};
    }

private:
    Result<> mirrors() { return validate_mirrors(next_); }
    Result<> exporters() { return validate_exporters(next_); }

    Result<> sizes() {
        if (next_.inspectors.size() > IVDS_MAX_INSPECTORS)
            return refuse(Code::exhausted, "IVDS-M020", "leave some out: one can serve many vPorts",
                          "{} inspectors are too many: the data plane holds {}", next_.inspectors.size(),
                          IVDS_MAX_INSPECTORS);
        std::size_t macs = 0;
        for (const auto& [name, index] : next_.static_macs) macs += index->macs.size();
        for (const auto& [name, vport] : next_.vports)
            macs += static_cast<std::size_t>(vport->extra_macs_size()) + (vport->vnic().empty() ? 0 : 1);
        if (macs > IVDS_MAX_FDB)
            return refuse(Code::exhausted, "IVDS-M020", "leave some out: MACs that send are learned",
                          "{} static MACs are too many: the FDB holds {}", macs, IVDS_MAX_FDB);
        return {};
    }

    template <class T>
    Result<> reference(const char* label, const std::string& user, const Objects<T>& objects, const char* kind,
                       const std::string& name) {
        if (name.empty() || objects.contains(name)) return {};
        return refuse(Code::not_found, "IVDS-M006", fmt::format("create the {} first, or in the same file", kind),
                      "{} {} names {} {}, which does not exist", label, user, kind, name);
    }

    // One of a list, where an empty name is not one that was left out.
    template <class T>
    Result<> listed(const char* label, const std::string& user, const Objects<T>& objects, const char* kind,
                    const std::string& name) {
        if (name.empty())
            return refuse(Code::invalid, "IVDS-M002", "leave it out, or name one",
                          "{} {}: its list of {}s has an empty name", label, user, kind);
        return reference(label, user, objects, kind, name);
    }

    Result<> references() {
        Result<> done;
        const auto check = [&](Result<> result) {
            if (done && !result) done = std::move(result);
        };
        for (const auto& [name, uplink] : next_.uplinks)
            if (uplink->has_vf()) check(reference("uplink", name, next_.uplinks, "uplink", uplink->vf().pf()));
        for (const auto& [name, pool] : next_.vmac_pools)
            check(reference("vmac_pool", name, next_.uplinks, "uplink", pool->uplink()));
        for (const auto& [name, instance] : next_.instances) {
            check(reference("instance", name, next_.uplinks, "uplink", instance->uplink()));
            check(reference("instance", name, next_.inspectors, "inspector", instance->inspector()));
        }
        for (const auto& [name, vnic] : next_.vnics)
            check(reference("vnic", name, next_.vmac_pools, "vmac_pool", vnic->pool()));
        for (const auto& [name, vport] : next_.vports) {
            check(reference("vport", name, next_.instances, "instance", vport->instance()));
            check(reference("vport", name, next_.vnics, "vnic", vport->vnic()));
            check(reference("vport", name, next_.vports, "vport", vport->trunk()));
            check(reference("vport", name, next_.profiles, "profile", vport->profile()));
            check(reference("vport", name, next_.inspectors, "inspector", vport->inspector()));
            if (vport->has_vf()) check(reference("vport", name, next_.uplinks, "uplink", vport->vf().pf()));
        }
        for (const auto& [name, set] : next_.sets)
            for (const std::string& vport : set->vports()) check(listed("set", name, next_.vports, "vport", vport));
        for (const auto& [name, pool] : next_.vport_pools)
            for (const std::string& vport : pool->vports())
                check(listed("vport_pool", name, next_.vports, "vport", vport));
        for (const auto& [name, mirror] : next_.mirrors) {
            check(reference("mirror", name, next_.vports, "vport", mirror->to_vport()));
            check(reference("mirror", name, next_.uplinks, "uplink", mirror->to_uplink()));
            for (const pb::Mirror::Source& source : mirror->sources()) {
                check(reference("mirror", name, next_.vports, "vport", source.vport()));
                check(reference("mirror", name, next_.instances, "instance", source.instance()));
                check(reference("mirror", name, next_.uplinks, "uplink", source.uplink()));
            }
        }
        for (const auto& [name, exporter] : next_.exporters)
            for (const std::string& instance : exporter->instances())
                check(listed("exporter", name, next_.instances, "instance", instance));
        const auto check_rules = [&](const char* kind, const std::string& owner, const RuleList& rules) {
            for (int place = 0; done && place < rules.size(); ++place) {
                const pb::Rule& rule = rules[place];
                if (rule.src_set().empty() && rule.dst_set().empty() && rule.mirror().empty() &&
                    rule.to_vport().empty() && rule.to_pool().empty())
                    continue;
                const std::string who = fmt::format("{} of {} {}", rule_name(rules, place), kind, owner);
                check(reference("rule", who, next_.sets, "set", rule.src_set()));
                check(reference("rule", who, next_.sets, "set", rule.dst_set()));
                check(reference("rule", who, next_.mirrors, "mirror", rule.mirror()));
                check(reference("rule", who, next_.vports, "vport", rule.to_vport()));
                check(reference("rule", who, next_.vport_pools, "vport_pool", rule.to_pool()));
            }
        };
        for (const auto& [name, vport] : next_.vports) check_rules("vport", name, vport->rules());
        for (const auto& [name, profile] : next_.profiles) check_rules("profile", name, profile->rules());
        for (const auto& [name, instance] : next_.instances) check_rules("instance", name, instance->rules());
        for (const auto& [name, mirror] : next_.mirrors) check_rules("mirror", name, mirror->filter());
        return done;
    }

    // One name is one port, in counters, events and the FDB.
    Result<> port_names() {
        for (const auto& [name, uplink] : next_.uplinks)
            if (next_.vports.contains(name))
                return refuse(Code::conflict, "IVDS-M019", "rename one of them",
                              "uplink {} and vport {} have one name", name, name);
        for (const auto& [name, inspector] : next_.inspectors)
            if (next_.vports.contains(name) || next_.uplinks.contains(name))
                return refuse(Code::conflict, "IVDS-M019", "rename one of them", "inspector {} has the name of {} {}",
                              name, next_.vports.contains(name) ? "vport" : "uplink", name);
        return {};
    }

    Result<> netdevs() {
        std::unordered_map<std::string_view, std::string> users;
        const auto claim = [&](const std::string& netdev, std::string user) -> Result<> {
            const auto [place, fresh] = users.emplace(netdev, std::move(user));
            if (fresh) return {};
            return refuse(Code::conflict, "IVDS-M015", "an interface is one port",
                          "netdev {} is used by {} and once more", netdev, place->second);
        };
        for (const auto& [name, uplink] : next_.uplinks)
            if (auto done = claim(uplink->netdev(), "uplink " + name); !done) return done;
        for (const auto& [name, inspector] : next_.inspectors)
            if (auto done = claim(inspector->netdev(), "inspector " + name); !done) return done;
        for (const auto& [name, vport] : next_.vports)
            if (!vport->patch().empty() || !vport->trunk().empty() || vport->has_vf())
                continue;
            else if (auto done = claim(vport->netdev(), "vport " + name); !done)
                return std::unexpected(done.error().in("vport " + name));
        return {};
    }

    Result<> vnics() {
        std::unordered_map<std::string_view, std::string_view> users;
        for (const auto& [name, vport] : next_.vports) {
            if (vport->vnic().empty()) continue;
            const auto [place, fresh] = users.emplace(vport->vnic(), name);
            if (!fresh)
                return refuse(Code::exists, "IVDS-M014", "a vNIC is bound to one vPort: unbind it there first",
                              "vport {}: vnic {} is bound to vport {}", name, vport->vnic(), place->second);
        }
        return {};
    }

    // What a VF is: an uplink, or a vPort.
    using VfUsers = std::map<std::pair<std::string, std::uint32_t>, std::string>;

    // An uplink that is a VF has the wire of its PF, whose NIC sorts by the inner of two tags.
    Result<> vf_uplinks(VfUsers& users) {
        const auto same = [](const std::string& one, const std::string& other) {
            return (one.empty() ? "0x8100" : one) == (other.empty() ? "0x8100" : other);
        };
        for (const auto& [name, uplink] : next_.uplinks) {
            if (!uplink->has_vf()) continue;
            const pb::Uplink& pf = *next_.uplinks.at(uplink->vf().pf());
            if (pf.has_vf() || pf.offload() != pb::Uplink::ON)
                return refuse(Code::conflict, "IVDS-M086", "name an uplink that is the PF, with offload: on",
                              "uplink {}: no NIC sorts frames to it, as uplink {} {}", name, pf.name(),
                              pf.has_vf() ? "is a VF itself" : "has no offload");
            if (pf.tags() == pb::Uplink::SINGLE || uplink->tags() == pb::Uplink::SINGLE ||
                !same(pf.outer_tpid(), uplink->outer_tpid()) || !same(pf.inner_tpid(), uplink->inner_tpid()))
                return refuse(Code::conflict, "IVDS-M086", "give both tags: double, and the same TPIDs",
                              "uplink {}: it has the wire of uplink {}, and {}", name, pf.name(),
                              pf.tags() == pb::Uplink::SINGLE || uplink->tags() == pb::Uplink::SINGLE
                                  ? "that has one tag, by which the NIC switches to VMs and not to uplinks"
                                  : "other TPIDs than that");
            const auto [place, fresh] =
                users.emplace(std::pair(uplink->vf().pf(), uplink->vf().index()), "uplink " + name);
            if (!fresh)
                return refuse(Code::conflict, "IVDS-M084", "a VF is one uplink or one vPort",
                              "uplink {}: VF {} of uplink {} is {}", name, uplink->vf().index(), pf.name(),
                              place->second);
        }
        return {};
    }

    // Whether its copies are for a VF, and all of them of what is sent to VFs of the same PF, as they are: that is
    // what NICs can do (offload/plan/mirror.h).
    [[nodiscard]] bool is_mirror_of_nic(const pb::Mirror& mirror) const {
        const auto target = next_.vports.find(mirror.to_vport());
        if (target == next_.vports.end() || !target->second->has_vf()) return false;
        const std::string& pf = target->second->vf().pf();
        const auto is_vf = [&](const pb::VPort& vport) { return vport.has_vf() && vport.vf().pf() == pf; };
        if (mirror.filter_size() != 0 || mirror.snap_bytes() != 0 || mirror.sample() > 1) return false;
        return std::ranges::all_of(mirror.sources(), [&](const pb::Mirror::Source& source) {
            if (source.drops() || source.direction() != pb::Mirror::OUT || !source.uplink().empty()) return false;
            return std::ranges::all_of(next_.vports, [&](const auto& row) {
                const bool watched = source.vport().empty() ? row.second->instance() == source.instance()
                                                            : row.first == source.vport();
                return !watched || is_vf(*row.second);
            });
        });
    }

    // A VF is one vPort, of an instance on its PF; nothing can be sent to it but by the NIC.
    Result<> vfs() {
        VfUsers users;
        if (auto done = vf_uplinks(users); !done) return done;
        for (const auto& [name, vport] : next_.vports) {
            if (!vport->has_vf()) continue;
            const auto [place, fresh] =
                users.emplace(std::pair(vport->vf().pf(), vport->vf().index()), "vport " + name);
            if (!fresh)
                return refuse(Code::conflict, "IVDS-M084", "a VF is one uplink or one vPort",
                              "vport {}: VF {} of uplink {} is {}", name, vport->vf().index(), vport->vf().pf(),
                              place->second);
            if (vport->instance().empty()) continue;
            const pb::Instance& instance = *next_.instances.at(vport->instance());
            if (instance.uplink() != vport->vf().pf())
                return refuse(Code::conflict, "IVDS-M084", "use an instance on that uplink",
                              "vport {}: it is a VF of uplink {}, and instance {} is {}", name, vport->vf().pf(),
                              instance.name(),
                              instance.uplink().empty() ? "on none" : "on uplink " + instance.uplink());
        }
        if (users.empty()) return {};
        for (const auto& [vf, user] : users) {
            const pb::Uplink& pf = *next_.uplinks.at(vf.first);
            if (pf.vfs() != 0 && vf.second >= pf.vfs())
                return refuse(Code::conflict, "IVDS-M084", "use another VF, or more vfs",
                              "{}: uplink {} has vfs: {}, and it is VF {}, counted from 0", user, pf.name(), pf.vfs(),
                              vf.second);
        }
        const auto target = [&](const std::string& who, const std::string& vport) -> Result<> {
            const auto found = next_.vports.find(vport);
            if (found == next_.vports.end() || !found->second->has_vf()) return {};
            return refuse(Code::conflict, "IVDS-M084",
                          who.starts_with("mirror ")
                              ? "use a vPort with an interface, or watch VFs of its uplink alone: direction out, "
                                "without filter, snap_bytes and sample"
                              : "use a vPort with an interface",
                          "{}: vport {} is a VF that its VM has, and software sends nothing there", who, vport);
        };
        for (const auto& [name, vport] : next_.vports)
            if (auto done = target("trunk of vport " + name, vport->trunk()); !done) return done;
        for (const auto& [name, mirror] : next_.mirrors)
            if (!is_mirror_of_nic(*mirror))
                if (auto done = target("mirror " + name, mirror->to_vport()); !done) return done;
        for (const auto& [name, pool] : next_.vport_pools)
            for (const std::string& vport : pool->vports())
                if (auto done = target("vport_pool " + name, vport); !done) return done;
        const auto of_rules = [&](const std::string& who, const RuleList& rules) -> Result<> {
            for (int place = 0; place < rules.size(); ++place)
                if (const std::string& vport = rules[place].to_vport(); !vport.empty())
                    if (auto done = target(fmt::format("{} of {}", rule_name(rules, place), who), vport); !done)
                        return done;
            return {};
        };
        for (const auto& [name, vport] : next_.vports)
            if (auto done = of_rules("vport " + name, vport->rules()); !done) return done;
        for (const auto& [name, profile] : next_.profiles)
            if (auto done = of_rules("profile " + name, profile->rules()); !done) return done;
        for (const auto& [name, instance] : next_.instances)
            if (auto done = of_rules("instance " + name, instance->rules()); !done) return done;
        return {};
    }

    // Who has which {wire, outer VLAN, V.VLAN}: its own identity, and where its peers are.
    Result<> networks() {
        std::unordered_map<std::string_view, std::uint64_t> uplink_numbers;
        for (const auto& [name, uplink] : next_.uplinks) uplink_numbers.emplace(name, uplink_numbers.size() + 1);
        std::unordered_map<std::uint64_t, const pb::Instance*> claims;
        claims.reserve(next_.instances.size());
        const auto claim = [&](const pb::Instance& instance, std::uint32_t vlan) -> const pb::Instance* {
            const auto uplink = uplink_numbers.find(wire_of(next_, instance.uplink()));
            const std::uint64_t number = uplink == uplink_numbers.end() ? 0 : uplink->second;
            const auto [place, fresh] =
                claims.emplace(number << 32 | std::uint64_t{vlan} << 12 | instance.vvlan(), &instance);
            return fresh ? nullptr : place->second;
        };

        for (const auto& [name, instance] : next_.instances) {
            if (auto done = network(*instance); !done) return done;
            if (instance->vvlan() == 0) continue;
            const std::uint32_t vlan = outer_vlan(next_, *instance);
            if (const pb::Instance* other = claim(*instance, vlan); other != nullptr)
                return refuse(Code::exists, "IVDS-M008", "leave vvlan out and a free one is assigned",
                              "instance {}: V.VLAN {} of VLAN {}{} is taken by instance {}", name, instance->vvlan(),
                              vlan, on(*instance), other->name());
        }
        for (const auto& [name, instance] : next_.instances)
            for (const std::uint32_t vlan : instance->peer_vlans())
                if (const pb::Instance* other = claim(*instance, vlan); other != nullptr)
                    return refuse(Code::conflict, "IVDS-M012",
                                  "two instances that reach one {VLAN, V.VLAN} are one network",
                                  "instance {}: peers on VLAN {} with V.VLAN {}{} clash with instance {}", name, vlan,
                                  instance->vvlan(), on(*instance), other->name());
        if (claims.size() > IVDS_MAX_VVLANS)
            return refuse(Code::exhausted, "IVDS-M020", "delete an instance, or peer VLANs of one",
                          "{} networks are too many: the data plane holds {}", claims.size(), IVDS_MAX_VVLANS);
        return {};
    }

    static std::string on(const pb::Instance& instance) {
        return instance.uplink().empty() ? "" : fmt::format(" on uplink {}", instance.uplink());
    }

    // An instance against its uplink.
    Result<> network(const pb::Instance& instance) {
        if (instance.uplink().empty()) return {};
        const pb::Uplink& uplink = *next_.uplinks.at(instance.uplink());
        if (instance.mode() == pb::INDEPENDENT && uplink.transport_vlan() == 0)
            return refuse(Code::conflict, "IVDS-M011", fmt::format("set transport_vlan of uplink {}", uplink.name()),
                          "instance {}: mode independent needs an uplink with a transport VLAN, and {} has none",
                          instance.name(), uplink.name());
        if (instance.unregistered() == pb::Instance::DROPPED && uplink.offload() == pb::Uplink::ON)
            return refuse(
                Code::conflict, "IVDS-M088", "leave one of them out",
                "instance {}: unregistered: dropped, and offload of uplink {} exclude each other: a NIC looks at "
                "no source",
                instance.name(), uplink.name());
        if (instance.mode() == pb::PIGGYBACK && uplink.transport_vlan() != 0 &&
            instance.vlan() == uplink.transport_vlan())
            return refuse(Code::conflict, "IVDS-M011", "use another VLAN, or mode independent",
                          "instance {}: VLAN {} is the transport VLAN of uplink {}, for independent instances alone",
                          instance.name(), instance.vlan(), uplink.name());
        if (uplink.tags() == pb::Uplink::SINGLE &&
            (instance.mode() != pb::INDEPENDENT || instance.plain_access() || !instance.peer_vlans().empty()))
            return refuse(Code::conflict, "IVDS-M083",
                          "use mode independent without plain_access and peer_vlans, or tags: double",
                          "instance {}: on uplink {} the V.VLAN is the only tag, and the instance {}",
                          instance.name(), uplink.name(),
                          instance.plain_access()              ? "has hosts without V.VLAN"
                          : instance.mode() != pb::INDEPENDENT ? "has an outer VLAN of its own"
                                                               : "has peers on other VLANs");
        const std::uint32_t outer = outer_vlan(next_, instance);
        if (instance.plain_access()) {
            if (uplink.has_vf())
                return refuse(Code::conflict, "IVDS-M086", "use an instance on the PF's uplink",
                              "instance {}: plain_access on uplink {}, to which the NIC sorts frames by their V.VLAN",
                              instance.name(), uplink.name());
            if (uplink.outer_tpid() == "0x9100")
                return refuse(Code::conflict, "IVDS-M030", "use outer_tpid 0x8100, which such hosts speak",
                              "instance {}: plain_access on uplink {}, whose outer TPID is 0x9100", instance.name(),
                              uplink.name());
            const auto [first, fresh] = plain_.emplace(std::pair(instance.uplink(), outer), &instance);
            if (!fresh)
                return refuse(Code::conflict, "IVDS-M030", "hosts without a V.VLAN are in one network of their VLAN",
                              "instance {}: instance {} has the plain hosts of VLAN {}{} already", instance.name(),
                              first->second->name(), outer, on(instance));
        }
        if (std::ranges::find(instance.peer_vlans(), outer) != instance.peer_vlans().end())
            return refuse(Code::conflict, "IVDS-M012", "leave it out of peer_vlans",
                          "instance {}: peer VLAN {} is the instance's own", instance.name(), outer);
        const std::uint32_t own = uplink.tags() == pb::Uplink::SINGLE ? instance.vvlan() : outer;
        for (const pb::PeerRate& peer : instance.peer_rates())
            if (peer.vlan() != 0 && peer.vlan() != own &&
                std::ranges::find(instance.peer_vlans(), peer.vlan()) == instance.peer_vlans().end())
                return refuse(
                    Code::conflict, "IVDS-M094", fmt::format("add {} to peer_vlans, or use {}", peer.vlan(), own),
                    "instance {}: peer_rates name VLAN {}, where it has no peers", instance.name(), peer.vlan());
        return {};
    }

    Result<> static_lists() {
        for (const auto& [name, index] : next_.static_macs) {
            const pb::Instance& instance = *next_.instances.at(name);
            for (const std::string& vport : index->vports) {
                const auto port = next_.vports.find(vport);
                if (port == next_.vports.end())
                    return refuse(Code::not_found, "IVDS-M006", "create the vport first, or in the same file",
                                  "the static MACs of instance {} name vport {}, which does not exist", name, vport);
                if (port->second->instance() != name)
                    return refuse(Code::conflict, "IVDS-M018", "a static MAC is behind a vPort of its own instance",
                                  "the static MACs of instance {} name vport {} of instance {}", name, vport,
                                  port->second->instance());
                if (!port->second->patch().empty())
                    return refuse(
                        Code::conflict, "IVDS-M018", "redirect to it by a rule",
                        "the static MACs of instance {} name vport {}, which is a patch: no MAC is behind it", name,
                        vport);
            }
            const std::uint32_t outer = outer_vlan(next_, instance);
            for (const std::uint32_t vlan : index->vlans)
                if (vlan != outer && std::ranges::find(instance.peer_vlans(), vlan) == instance.peer_vlans().end())
                    return refuse(Code::conflict, "IVDS-M018",
                                  fmt::format("add {} to peer_vlans, or use {}", vlan, outer),
                                  "the static MACs of instance {} name VLAN {}, where it has no peers", name, vlan);
        }
        return {};
    }

    // One MAC is behind one port of an instance.
    Result<> macs() {
        std::map<std::string_view, std::unordered_map<std::uint64_t, std::string_view>> owners;
        for (const auto& entry : next_.vports) {
            const pb::VPort* vport = entry.second.get();
            if (vport->instance().empty()) continue;
            auto& here = owners[vport->instance()];
            const auto index = next_.static_macs.find(vport->instance());
            const auto claim = [&](const std::string& text) -> Result<> {
                const std::uint64_t mac = to_number(parse_mac(text).value_or(Mac{}));
                const auto [place, fresh] = here.emplace(mac, vport->name());
                if (!fresh)
                    return refuse(Code::conflict, "IVDS-M013", "a MAC is behind one port of an instance",
                                  "vport {}: MAC {} is in instance {} already, by vport {}", vport->name(), text,
                                  vport->instance(), place->second);
                if (index != next_.static_macs.end() && std::ranges::binary_search(index->second->macs, mac))
                    return refuse(Code::conflict, "IVDS-M013", "a MAC is behind one port of an instance",
                                  "vport {}: MAC {} is in the static MACs of instance {} already", vport->name(),
                                  text, vport->instance());
                return {};
            };
            if (const std::string& vnic = vnic_of(next_, *vport); !vnic.empty())
                if (auto done = claim(next_.vnics.at(vnic)->vmac()); !done) return done;
            for (const std::string& mac : vport->extra_macs())
                if (auto done = claim(mac); !done) return done;
        }
        for (const auto& [name, index] : next_.static_macs) {
            const auto twice = std::ranges::adjacent_find(index->macs);
            if (twice != index->macs.end())
                return refuse(Code::conflict, "IVDS-M013", "a MAC is behind one port of an instance",
                              "instance {}: MAC {} is static twice", name, format_mac(to_mac(*twice)));
        }
        return {};
    }

    // One address is of one vPort of an instance, whose vNIC says which MAC it is behind.
    Result<> addresses() {
        std::map<std::pair<std::string_view, Address>, std::string_view> owners;
        std::size_t all = 0;
        for (const auto& [name, vport] : next_.vports) {
            if (vport->addresses().empty()) continue;
            if (vnic_of(next_, *vport).empty())
                return refuse(Code::invalid, "IVDS-M089", "bind a vNIC to it, or leave addresses out",
                              "vport {} has addresses and no vNIC: no MAC is behind them", name);
            all += static_cast<std::size_t>(vport->addresses_size());
            if (vport->instance().empty()) continue;
            for (const std::string& text : vport->addresses()) {
                const auto address = host_address(text).value_or(Address{});
                const auto [place, fresh] =
                    owners.emplace(std::pair(std::string_view(vport->instance()), address), name);
                if (!fresh)
                    return refuse(Code::conflict, "IVDS-M089", "an address is of one vPort of an instance",
                                  "vport {}: address {} is in instance {} already, by vport {}", name, text,
                                  vport->instance(), place->second);
            }
        }
        if (all > IVDS_MAX_NEIGHBOURS)
            return refuse(Code::exhausted, "IVDS-M020", "leave some out: what is asked for them is then flooded",
                          "{} addresses are too many: the data plane holds {}", all, IVDS_MAX_NEIGHBOURS);
        return {};
    }

    // What an instance is known by on the wire changes only while nothing is forwarded.
    Result<> drains() {
        for (const auto& [name, instance] : next_.instances) {
            const auto before = now_.instances.find(name);
            if (before == now_.instances.end() || before->second == instance || before->second->draining()) continue;
            const char* field = nullptr;
            if (before->second->mode() != instance->mode())
                field = "mode";
            else if (before->second->uplink() != instance->uplink())
                field = "uplink";
            else if (before->second->vlan() != instance->vlan())
                field = "vlan";
            if (field == nullptr) continue;
            const bool in_use =
                std::ranges::any_of(now_.vports, [&](const auto& entry) { return entry.second->instance() == name; });
            if (in_use)
                return refuse(Code::conflict, "IVDS-M016",
                              "set draining: true, then change it, then set draining: false",
                              "instance {}: {} cannot change while it has vPorts and is not draining", name, field);
        }
        return {};
    }

    // What the instances of a tenant take together stays within its quota, also when the quota is what changes.
    Result<> quotas() {
        if (next_.tenants.empty()) return {};
        const auto uses = tenant_use(next_);
        for (const auto& [name, tenant] : next_.tenants) {
            const auto found = uses.find(name);
            if (found == uses.end()) continue;
            const TenantUse& use = found->second;
            const auto within = [&, &tenant_name = name](std::uint64_t used, std::uint32_t limit, const char* what,
                                                         const char* flag, const char* smaller) -> Result<> {
                if (limit == 0 || used <= limit) return {};
                return refuse(Code::exhausted, "IVDS-M028",
                              fmt::format("{}, or raise the quota: `ivds-ctl tenant update {} --{} {}`", smaller,
                                          tenant_name, flag, used),
                              "tenant {}: {} {} are more than its quota of {}", tenant_name, used, what, limit);
            };
            if (auto done = within(use.instances, tenant->max_instances(), "instances", "max-instances",
                                   "delete an instance of it");
                !done)
                return done;
            if (auto done = within(use.vports, tenant->max_vports(), "vPorts", "max-vports", "delete a vPort of it");
                !done)
                return done;
            if (auto done = within(use.fdb, tenant->max_fdb(), "learned MACs that its instances may hold", "max-fdb",
                                   "give its instances a smaller fdb_limit");
                !done)
                return done;
            if (auto done = within(use.bindings, tenant->max_bindings(), "bindings", "max-bindings",
                                   "delete a vPort of its distributed instances or a fixed MAC");
                !done)
                return done;
            if (tenant->max_rate_mbps() == 0) continue;
            if (use.unlimited_rates != 0)
                return refuse(
                    Code::exhausted, "IVDS-M028",
                    "give its vPorts profiles with rate_in_mbps and rate_out_mbps, or the tenant no max_rate_mbps",
                    "tenant {}: {} of its vPorts have no rate both ways, and its quota is {} Mbit/s", name,
                    use.unlimited_rates, tenant->max_rate_mbps());
            for (const std::uint64_t mbps : {use.rate_in_mbps, use.rate_out_mbps})
                if (auto done = within(mbps, tenant->max_rate_mbps(), "Mbit/s of its vPorts one way", "max-rate-mbps",
                                       "give its vPorts smaller rates");
                    !done)
                    return done;
        }
        return {};
    }

    // The two ends of a patch name each other, and are of two instances. One end alone is away, and no error: they
    // come one after the other.
    Result<> patches() {
        for (const auto& [name, vport] : next_.vports) {
            if (vport->patch().empty()) continue;
            const auto found = next_.vports.find(vport->patch());
            if (found == next_.vports.end()) continue;
            const pb::VPort& other = *found->second;
            if (other.patch() != name)
                return refuse(Code::conflict, "IVDS-M057", fmt::format("give vport {} patch: {}", other.name(), name),
                              "vport {}: its patch leads to vport {}, which {}", name, other.name(),
                              other.patch().empty() ? "is none" : "leads to " + other.patch());
            if (!vport->instance().empty() && vport->instance() == other.instance())
                return refuse(Code::conflict, "IVDS-M057", "a patch is between two instances: their vPorts are",
                              "vports {} and {} are a patch, and both of instance {}", name, other.name(),
                              vport->instance());
        }
        return {};
    }

    // A trunk has an interface, and each of its tags leads to one vPort.
    Result<> trunks() {
        std::map<std::pair<std::string_view, std::uint32_t>, std::string_view> tags;
        for (const auto& [name, vport] : next_.vports) {
            if (vport->trunk().empty()) continue;
            const pb::VPort& trunk = *next_.vports.at(vport->trunk());
            if (!trunk.trunk().empty() || !trunk.patch().empty())
                return refuse(Code::conflict, "IVDS-M067", "name the vPort that has the interface",
                              "vport {}: its trunk, vport {}, {}", name, trunk.name(),
                              trunk.patch().empty() ? "is itself behind a trunk" : "is a patch");
            if (trunk.state() != pb::VPort::ACTIVE)
                return refuse(Code::conflict, "IVDS-M087", "delete the vPorts behind it first",
                              "vport {}: its trunk, vport {}, is {}", name, trunk.name(),
                              trunk.state() == pb::VPort::MOVED ? "moved" : "prepared");
            const std::uint32_t vid = trunk_vid(next_, *vport);
            if (vid == 0)
                return refuse(Code::invalid, "IVDS-M067", "give the vid, or the instance whose V.VLAN it is",
                              "vport {}: nothing says by which tag the VM of trunk {} knows it", name, trunk.name());
            const auto [place, fresh] = tags.emplace(std::pair{std::string_view(vport->trunk()), vid}, name);
            if (!fresh)
                return refuse(Code::conflict, "IVDS-M067", "give one of them another vid",
                              "vports {} and {} are both behind tag {} of trunk {}", place->second, name, vid,
                              trunk.name());
        }
        return {};
    }

    Result<> pools() {
        for (const auto& [name, pool] : next_.vport_pools) {
            if (pool->vports().empty()) continue;  // of other hosts alone
            const std::string& first = next_.vports.at(pool->vports(0))->instance();
            for (const std::string& vport : pool->vports())
                if (const std::string& other = next_.vports.at(vport)->instance(); other != first)
                    return refuse(Code::conflict, "IVDS-M058", "the vPorts of a pool are of one instance",
                                  "vport_pool {}: vport {} is of {}, and vport {} of {}", name, pool->vports(0),
                                  in_words(first), vport, in_words(other));
            const auto instance = next_.instances.find(first);
            if (pool->shared() && (instance == next_.instances.end() || instance->second->scope() != pb::DISTRIBUTED))
                return refuse(Code::conflict, "IVDS-M091", "make its scope distributed, or leave shared out",
                              "vport_pool {} is shared, and {}, of which its vPorts are, is on this host alone", name,
                              in_words(first));
        }
        return {};
    }

    // What a profile of this host's names is on the other hosts too.
    Result<> shared() {
        const auto on_all = [](const auto& objects, const std::string& name) {
            return name.empty() || objects.at(name)->shared();
        };
        for (const auto& [name, profile] : next_.profiles) {
            if (!profile->shared() || !profile->shared_by().empty()) continue;
            for (int place = 0; place < profile->rules_size(); ++place) {
                const pb::Rule& rule = profile->rules(place);
                for (const std::string& set : {rule.src_set(), rule.dst_set()})
                    if (!on_all(next_.sets, set))
                        return refuse(Code::conflict, "IVDS-M091", "share the set too",
                                      "profile {} is shared, and its {} names set {}, which is this host's alone",
                                      name, rule_name(profile->rules(), place), set);
                if (!on_all(next_.vport_pools, rule.to_pool()))
                    return refuse(Code::conflict, "IVDS-M091", "share the pool too",
                                  "profile {} is shared, and its {} names vport_pool {}, which is this host's alone",
                                  name, rule_name(profile->rules(), place), rule.to_pool());
            }
        }
        return {};
    }

    static std::string in_words(const std::string& instance) {
        return instance.empty() ? "no instance" : "instance " + instance;
    }

    // A redirect stays inside the instance of every vPort that it is for, and a patch passes on what came in by it
    // once: its own frames are not redirected.
    Result<> redirects() {
        struct Redirect {
            const pb::Rule* rule;
            std::string name;
            std::string instance;  // of the target
        };
        // Few rules redirect: they are looked for once an owner, and then held against each vPort.
        const auto of = [&](const char* kind, const std::string& owner, const RuleList& rules) {
            std::vector<Redirect> found;
            for (int place = 0; place < rules.size(); ++place) {
                const pb::Rule& rule = rules[place];
                if (rule.action() != pb::Rule::REDIRECT) continue;
                // A pool of other hosts' alone takes nothing here.
                if (rule.to_vport().empty() && next_.vport_pools.at(rule.to_pool())->vports().empty()) continue;
                const std::string& target =
                    rule.to_vport().empty() ? next_.vport_pools.at(rule.to_pool())->vports(0) : rule.to_vport();
                found.push_back({&rule, fmt::format("rule {} of {} {}", rule_name(rules, place), kind, owner),
                                 next_.vports.at(target)->instance()});
            }
            return found;
        };
        std::map<std::string, std::vector<Redirect>> profiles;
        std::map<std::string, std::vector<Redirect>> instances;
        for (const auto& [name, profile] : next_.profiles)
            if (auto found = of("profile", name, profile->rules()); !found.empty())
                profiles.emplace(name, std::move(found));
        for (const auto& [name, instance] : next_.instances)
            if (auto found = of("instance", name, instance->rules()); !found.empty())
                instances.emplace(name, std::move(found));

        for (const auto& entry : next_.vports) {
            const pb::VPort& vport = *entry.second;
            const auto fits = [&](const std::vector<Redirect>& redirects, bool own) -> Result<> {
                for (const Redirect& redirect : redirects) {
                    if (own && !vport.patch().empty())
                        return refuse(
                            Code::conflict, "IVDS-M059",
                            "put the rule on the vPorts that send, or let the rules of the other end decide",
                            "{}: vport {} is a patch, and what came in by it is not redirected again", redirect.name,
                            vport.name());
                    if (redirect.rule->to_vport() == vport.name() && own)
                        return refuse(Code::conflict, "IVDS-M059", "name another vPort",
                                      "{} leads back to vport {}, where the frame comes from", redirect.name,
                                      vport.name());
                    if (vport.instance().empty() || vport.instance() == redirect.instance) continue;
                    return refuse(Code::conflict, "IVDS-M059",
                                  "redirect to a vPort of the same instance; a patch leads to another one",
                                  "{} is for vport {} of instance {}, and leads to {} of {}", redirect.name,
                                  vport.name(), vport.instance(),
                                  redirect.rule->to_vport().empty() ? "vport_pool " + redirect.rule->to_pool()
                                                                    : "vport " + redirect.rule->to_vport(),
                                  in_words(redirect.instance));
                }
                return {};
            };
            if (auto done = fits(of("vport", vport.name(), vport.rules()), true); !done) return done;
            if (const auto found = profiles.find(vport.profile()); found != profiles.end())
                if (auto done = fits(found->second, true); !done) return done;
            if (const auto found = instances.find(vport.instance()); found != instances.end())
                if (auto done = fits(found->second, false); !done) return done;
        }
        return {};
    }

    const Model& next_;
    std::map<std::pair<std::string, std::uint32_t>, const pb::Instance*> plain_;  // {uplink, VLAN} with plain_access
    const Model& now_;
};

}  // namespace

Result<> validate_name(const char* label, const std::string& name) {
    const auto good = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    };
    if (name.empty()) return refuse(Code::invalid, "IVDS-M001", "give it a name", "{} has no name", label);
    if (name.size() > 63 || !std::ranges::all_of(name, good) ||
        std::isalnum(static_cast<unsigned char>(name[0])) == 0)
        return refuse(Code::invalid, "IVDS-M001",
                      "a name has up to 63 of a-z 0-9 . _ - and starts with a letter or a digit",
                      "{} \"{}\": not a name", label, name);
    return {};
}

Result<> validate_object(const pb::Tenant& tenant) {
    Checker check("tenant", tenant.name());
    check.number("max_instances", tenant.max_instances(), 1, IVDS_MAX_INSTANCES - 1, true);
    check.number("max_vports", tenant.max_vports(), 1, IVDS_MAX_PORTS - 1, true);
    check.number("max_fdb", tenant.max_fdb(), 1, IVDS_MAX_FDB, true);
    check.number("max_bindings", tenant.max_bindings(), 1, IVDS_MAX_FDB, true);
    check.number("max_fabric_bindings", tenant.max_fabric_bindings(), 1, IVDS_MAX_FDB, true);
    check.number("max_rate_mbps", tenant.max_rate_mbps(), 1, kMaxTenantRateMbps, true);
    for (const auto& [field, value] :
         {std::pair("max_vfs", tenant.max_vfs()), std::pair("max_nic_macs", tenant.max_nic_macs()),
          std::pair("max_nic_vlans", tenant.max_nic_vlans()), std::pair("max_nic_rates", tenant.max_nic_rates()),
          std::pair("max_nic_mirrors", tenant.max_nic_mirrors()),
          std::pair("max_nic_filters", tenant.max_nic_filters())})
        check.number(field, value, 1, kMaxNicQuota, true);
    return check.result();
}

Result<> validate_object(const pb::Uplink& uplink) {
    Checker check("uplink", uplink.name());
    check.netdev(uplink.netdev());
    check.tpid("outer_tpid", uplink.outer_tpid());
    check.tpid("inner_tpid", uplink.inner_tpid());
    check.number("transport_vlan", uplink.transport_vlan(), 1, IVDS_VLAN_MAX, true);
    check.number("fdb_limit", uplink.fdb_limit(), 1, IVDS_MAX_FDB, true);
    check.that(uplink.tags() == pb::Uplink::DOUBLE || uplink.inner_tpid() != "0x9100", "IVDS-M083",
               "tags: single with inner TPID 0x9100", "use 0x8100 or 0x88a8");
    if (uplink.has_vf()) {
        check.that(!uplink.vf().pf().empty() && uplink.vf().pf() != uplink.name(), "IVDS-M002",
                   "the VF's pf is missing, or itself", "name the uplink that is its PF");
        check.number("index of the VF", uplink.vf().index(), 0, kMaxVf, false);
        check.that(uplink.offload() == pb::Uplink::OFF, "IVDS-M086", "a VF has no NIC of its own to plan for",
                   "set offload of the PF's uplink");
        check.that(!uplink.outer_tpid().empty() && uplink.outer_tpid() != "0x8100", "IVDS-M086",
                   "a VF's driver has the NIC insert tags of TPID 0x8100, which then are behind the V.VLAN's",
                   "use outer_tpid 0x88a8 or 0x9100, as the fabric has it");
        check.that(uplink.inner_tpid().empty() || uplink.inner_tpid() == "0x8100", "IVDS-M086",
                   "NICs sort by V.VLAN tags of TPID 0x8100 alone", "leave inner_tpid out, or vf");
    }
    check.that(uplink.offload() == pb::Uplink::ON || (uplink.reserved_macs() == 0 && uplink.reserved_vlans() == 0),
               "IVDS-M003", "reserved_macs and reserved_vlans without offload have no effect",
               "set offload: on, or leave them out");
    check.number("vfs", uplink.vfs(), 1, kMaxVf + 1, true);
    check.that(uplink.offload() == pb::Uplink::ON || uplink.vfs() == 0, "IVDS-M003",
               "vfs without offload has no effect", "set offload: on, or leave it out");
    return check.result();
}

Result<> validate_object(const pb::Inspector& inspector) {
    Checker check("inspector", inspector.name());
    check.netdev(inspector.netdev());
    check.number("timeout_ms", inspector.timeout_ms(), kMinInspectorTimeoutMs, kMaxInspectorTimeoutMs, true);
    check.number("queue", inspector.queue(), 1, IVDS_MAX_QUEUE, true);
    return check.result();
}

Result<> validate_object(const pb::Profile& profile) {
    Checker check("profile", profile.name());
    check.number("mtu_bytes", profile.mtu_bytes(), kMinMtuBytes, kMaxMtuBytes, true);
    check.number("fdb_limit", profile.fdb_limit(), 1, IVDS_MAX_FDB, true);
    check.that(profile.fdb_limit() == 0 || profile.allow_spoof(), "IVDS-M003",
               "fdb_limit without allow_spoof has no effect", "set allow_spoof: true, or leave fdb_limit out");
    check.number("flow_limit", profile.flow_limit(), 1, IVDS_MAX_FLOWS, true);
    check.rate("in", profile.rate_in_mbps(), profile.burst_in_kib());
    check.rate("out", profile.rate_out_mbps(), profile.burst_out_kib());
    check.that(parse_pcp(profile.pcp()).has_value(), "IVDS-M068",
               fmt::format("pcp \"{}\" is no priority", profile.pcp()), "use 0 to 7, or keep");
    check.that(parse_dscp(profile.dscp()).has_value(), "IVDS-M068",
               fmt::format("dscp \"{}\" is no DSCP", profile.dscp()),
               "use 0 to 63, or a name: be, le, cs1 to cs7, af11 to af43, va, ef");
    for (const pb::Rule::Action action : {profile.default_in(), profile.default_out()})
        check.that(action == pb::Rule::ALLOW || action == pb::Rule::DROP, "IVDS-M042",
                   "default_in and default_out are to allow or to drop",
                   "use allow or drop; what shall be redirected is so by a rule that matches all");
    check.rules(profile.rules());
    for (int place = 0; profile.shared() && place < profile.rules_size(); ++place) {
        const pb::Rule& rule = profile.rules(place);
        check.that(
            rule.mirror().empty() && rule.to_vport().empty(), "IVDS-M091",
            fmt::format("it is shared, and its {} names what one host alone has", rule_name(profile.rules(), place)),
            "leave mirror and to_vport out, or shared");
        check.that(rule.idle_s() == 0 && rule.hard_s() == 0, "IVDS-M091",
                   fmt::format("it is shared, and its {} goes by itself", rule_name(profile.rules(), place)),
                   "leave idle_s and hard_s out, or shared");
    }
    return check.result();
}

Result<> validate_object(const pb::VmacPool& pool) {
    Checker check("vmac_pool", pool.name());
    check.number("size", pool.size(), 1, kMaxPoolSize, true);
    check.that(!pool.physical_mac().empty() || !pool.uplink().empty(), "IVDS-M002",
               "neither physical_mac nor uplink is given", "give the MAC, or the uplink that has it");
    if (!pool.physical_mac().empty()) check.unicast("physical_mac", pool.physical_mac());
    for (const std::string& mac : pool.reserved()) check.unicast("reserved", mac);
    return check.result();
}

Result<> validate_object(const pb::Instance& instance) {
    Checker check("instance", instance.name());
    const bool independent = instance.mode() == pb::INDEPENDENT;
    check.that(instance.scope() == pb::LOCAL || !instance.uplink().empty(), "IVDS-M010",
               "scope distributed needs an uplink", "give the uplink, or use scope: local");
    check.that(!independent || !instance.uplink().empty(), "IVDS-M010", "mode independent needs an uplink",
               "give the uplink");
    check.that(!independent || instance.vlan() == 0, "IVDS-M003",
               "vlan is for mode piggyback; the uplink's transport_vlan carries it",
               "leave vlan out, or use mode: piggyback");
    check.that(independent || instance.uplink().empty() || instance.vlan() != 0, "IVDS-M002", "vlan is missing",
               "give the VLAN of the fabric that carries it (1 to 4094), or use mode: independent");
    check.number("vlan", instance.vlan(), 1, IVDS_VLAN_MAX, true);
    check.number("vvlan", instance.vvlan(), 1, IVDS_VLAN_MAX, true);
    check.number("mtu_bytes", instance.mtu_bytes(), kMinMtuBytes, kMaxMtuBytes, true);
    check.number("fdb_limit", instance.fdb_limit(), 1, IVDS_MAX_FDB, true);
    const bool good_tenant = instance.tenant().size() <= 63 && std::ranges::all_of(instance.tenant(), [](char c) {
                                 return static_cast<unsigned char>(c) > 0x20 && static_cast<unsigned char>(c) < 0x7f;
                             });
    check.that(good_tenant, "IVDS-M001", "tenant is not a name", "use up to 63 printable characters without spaces");
    check.that(instance.peer_vlans_size() <= static_cast<int>(IVDS_MAX_PEER_VLANS), "IVDS-M012",
               fmt::format("{} peer VLANs are too many", instance.peer_vlans_size()),
               fmt::format("an instance has peers on at most {} VLANs beside its own", IVDS_MAX_PEER_VLANS));
    check.that(instance.peer_vlans().empty() || instance.scope() == pb::DISTRIBUTED, "IVDS-M012",
               "peer_vlans need scope distributed", "use scope: distributed, or leave peer_vlans out");
    check.that(!instance.plain_access() || instance.scope() == pb::DISTRIBUTED, "IVDS-M030",
               "plain_access needs scope distributed", "use scope: distributed, or leave plain_access out");
    check.that(!instance.plain_access() || instance.peer_vlans().empty(), "IVDS-M030",
               "plain_access and peer_vlans exclude each other",
               "with peers on several VLANs nothing is learned from the wire, as plain hosts must be");
    check.number("max_peers", instance.max_peers(), 1, kMaxPeers, true);
    check.that((instance.max_peers() == 0 && instance.unregistered() == pb::Instance::HEARD) ||
                   instance.scope() == pb::DISTRIBUTED,
               "IVDS-M088", "max_peers and unregistered are about other hosts, and its scope is local",
               "use scope: distributed, or leave them out");
    check.that(instance.unregistered() != pb::Instance::DROPPED || !instance.plain_access(), "IVDS-M088",
               "unregistered: dropped and plain_access exclude each other: plain hosts are in no registry",
               "leave one of them out");
    std::set<std::uint32_t> peers;
    for (const std::uint32_t vlan : instance.peer_vlans()) {
        check.number("peer_vlans", vlan, 1, IVDS_VLAN_MAX, false);
        check.that(peers.insert(vlan).second, "IVDS-M012", fmt::format("peer VLAN {} is given twice", vlan),
                   "give it once");
    }
    check.that(instance.peer_rates().empty() || instance.scope() == pb::DISTRIBUTED, "IVDS-M094",
               "peer_rates are about other hosts, and its scope is local",
               "use scope: distributed, or leave them out");
    std::set<std::uint32_t> limited;
    for (const pb::PeerRate& peer : instance.peer_rates()) {
        check.number("vlan of peer_rates", peer.vlan(), 1, IVDS_VLAN_MAX, true);
        check.rate("in", peer.rate_in_mbps(), peer.burst_in_kib());
        check.rate("out", peer.rate_out_mbps(), peer.burst_out_kib());
        const std::string who = peer.vlan() == 0 ? "the other VLANs" : fmt::format("VLAN {}", peer.vlan());
        check.that(peer.rate_in_mbps() != 0 || peer.rate_out_mbps() != 0 || peer.vlan() != 0, "IVDS-M094",
                   "peer_rates without a VLAN or a rate say nothing",
                   "give rate_in_mbps or rate_out_mbps, or with vlan neither: no limit there");
        check.that(limited.insert(peer.vlan()).second, "IVDS-M094", fmt::format("peer_rates name {} twice", who),
                   "give both rates in one entry");
    }
    for (const pb::StaticMac& entry : instance.fdb()) {
        if (!check.ok()) break;
        check.unicast("static MAC", entry.mac());
        check.number("vlan of a static MAC", entry.vlan(), 1, IVDS_VLAN_MAX, true);
        // The texts are made only when they are needed: a list may hold 100,000.
        if (entry.vport().empty() == (entry.vlan() == 0))
            check.that(false, "IVDS-M018", fmt::format("static MAC {} needs either a vport or a vlan", entry.mac()),
                       "vport: behind that port of this host; vlan: on another host");
        if (entry.vlan() != 0 && instance.scope() != pb::DISTRIBUTED)
            check.that(false, "IVDS-M018",
                       fmt::format("static MAC {} is on another host, and the instance is local", entry.mac()),
                       "use scope: distributed");
    }
    check.rules(instance.rules());
    return check.result();
}

Result<> validate_object(const pb::Vnic& vnic) {
    Checker check("vnic", vnic.name());
    check.that(!vnic.vmac().empty() || !vnic.pool().empty(), "IVDS-M002", "neither vmac nor pool is given",
               "give the vMAC, or the pool to take one from");
    if (!vnic.vmac().empty()) check.unicast("vmac", vnic.vmac());
    return check.result();
}

Result<> validate_object(const pb::VPort& vport) {
    Checker check("vport", vport.name());
    if (!vport.trunk().empty()) {
        check.that(vport.trunk() != vport.name(), "IVDS-M067", "it is its own trunk",
                   "name the vPort that has the interface");
        check.that(vport.netdev().empty() && vport.patch().empty() && vport.attach() == pb::AUTO, "IVDS-M067",
                   "a vPort behind a trunk has no interface of its own",
                   "leave netdev, attach and patch out, or trunk");
        check.number("vid", vport.vid(), 1, IVDS_VLAN_MAX, true);
    } else if (vport.has_vf()) {
        check.that(!vport.vf().pf().empty(), "IVDS-M002", "the VF's pf is missing", "name the uplink that is its PF");
        check.that(vport.netdev().empty() && vport.patch().empty() && vport.attach() == pb::AUTO &&
                       vport.inspector().empty(),
                   "IVDS-M084", "a VF that its VM has is no interface of this host's, and no program sees its frames",
                   "leave netdev, attach, patch and inspector out, or vf");
        check.number("index of the VF", vport.vf().index(), 0, kMaxVf, false);
    } else if (vport.patch().empty()) {
        check.netdev(vport.netdev());
    } else {
        check.that(vport.patch() != vport.name(), "IVDS-M056", "its patch leads to itself",
                   "name the vPort at the other end");
        check.that(vport.netdev().empty() && vport.vnic().empty() && vport.extra_macs().empty() &&
                       vport.addresses().empty() && vport.attach() == pb::AUTO && vport.mtu_bytes() == 0 &&
                       vport.inspector().empty(),
                   "IVDS-M056", "a patch has no interface, and nobody behind it",
                   "leave netdev, vnic, extra_macs, addresses, attach, mtu_bytes and inspector out, or patch");
    }
    check.that(vport.rx_filters().empty() || vport.has_vf(), "IVDS-M095",
               "rx_filters choose among the receive queues of a VF, and it has none",
               "give vf, or leave rx_filters out");
    check.rx_filters(vport.rx_filters());
    check.that(vport.offload() == pb::VPort::AUTO || vport.has_vf(), "IVDS-M003", "offload without vf has no effect",
               "give the VF, or leave offload out");
    const bool is_active = vport.state() == pb::VPort::ACTIVE;
    check.that(!is_active || vport.peer_host().empty(), "IVDS-M087",
               "peer_host is of a vPort that is prepared or moved", "leave peer_host out");
    check.that(is_active || (vport.trunk().empty() && vport.patch().empty() && !vport.has_vf()), "IVDS-M087",
               "only a vPort with an interface of its own moves", "leave state out, or give netdev alone");
    if (!vport.peer_host().empty() && check.ok())
        if (auto right = validate_name("host", vport.peer_host()); !right)
            return std::unexpected(right.error().in("vport " + vport.name()));
    check.that(vport.vid() == 0 || !vport.trunk().empty(), "IVDS-M067", "vid is the tag of a trunk, and it has none",
               "give the trunk, or leave vid out");
    check.number("mtu_bytes", vport.mtu_bytes(), kMinMtuBytes, kMaxMtuBytes, true);
    for (const std::string& mac : vport.extra_macs()) check.unicast("extra_macs", mac);
    check.that(vport.addresses_size() <= kMaxAddresses, "IVDS-M089",
               fmt::format("{} addresses are too many", vport.addresses_size()),
               fmt::format("a vPort has at most {}", kMaxAddresses));
    std::set<Address> addresses;
    for (const std::string& text : vport.addresses()) {
        const auto address = host_address(text);
        check.that(address.has_value(), "IVDS-M089",
                   fmt::format("addresses \"{}\" is no address that a VM can have", text),
                   "write it like 10.0.0.1 or fd00::1, without a prefix");
        check.that(!address || addresses.insert(*address).second, "IVDS-M089",
                   fmt::format("address {} is given twice", text), "give it once");
    }
    check.rules(vport.rules());
    return check.result();
}

Result<> validate_object(const pb::Set& set) {
    Checker check("set", set.name());
    if (!check.ok()) return check.result();
    if (const auto parsed = parse_set(set); !parsed) return std::unexpected(parsed.error().in("set " + set.name()));
    return {};
}

Result<> validate_object(const pb::VPortPool& pool) {
    Checker check("vport_pool", pool.name());
    check.that(!pool.vports().empty() || !pool.shared_by().empty(), "IVDS-M058", "it has no vPorts",
               "give at least one");
    check.that(pool.vports_size() <= static_cast<int>(IVDS_MAX_POOL_PORTS), "IVDS-M058",
               fmt::format("{} vPorts are too many", pool.vports_size()),
               fmt::format("a pool has at most {}", IVDS_MAX_POOL_PORTS));
    std::set<std::string> seen;
    for (const std::string& vport : pool.vports())
        check.that(seen.insert(vport).second, "IVDS-M058", fmt::format("vport {} is in it twice", vport),
                   "give it once");
    return check.result();
}

Result<> validate(const Model& next, const Model& now) {
    return Whole(next, now).run();
}

}  // namespace ivds
