// SPDX-License-Identifier: Apache-2.0
#include "compile/compile.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <optional>
#include <set>

#include "compile/mirror.h"
#include "compile/rules.h"
#include "model/address.h"
#include "model/priority.h"

namespace ivds {
namespace {

// The model is valid: every MAC in it parses.
Mac mac_of(const std::string& text) {
    return parse_mac(text).value_or(Mac{});
}

std::uint16_t tpid_be(const std::string& text) {
    std::uint16_t tpid = 0x8100;
    if (!text.empty()) std::from_chars(text.data() + 2, text.data() + text.size(), tpid, 16);
    return htons(tpid);
}

AttachMode attach_mode(pb::AttachMode mode) {
    switch (mode) {
        case pb::NATIVE:
            return AttachMode::native;
        case pb::GENERIC:
            return AttachMode::generic;
        case pb::TCX:
            return AttachMode::tcx;
        case pb::CLSACT:
            return AttachMode::clsact;
        default:
            return AttachMode::automatic;
    }
}

PortRow uplink_row(const pb::Uplink& uplink) {
    PortRow row;
    row.name = uplink.name();
    row.netdev = uplink.netdev();
    row.wanted = attach_mode(uplink.attach());
    row.value.kind = IVDS_PORT_UPLINK;
    if (uplink.plain() == pb::DROP) row.value.flags |= IVDS_PF_PLAIN_DROP;
    // A single tag is the V.VLAN's, and the first that a frame has.
    const bool single = uplink.tags() == pb::Uplink::SINGLE;
    row.value.outer_tpid_be = tpid_be(single ? uplink.inner_tpid() : uplink.outer_tpid());
    row.value.inner_tpid_be = single ? std::uint16_t{0} : tpid_be(uplink.inner_tpid());
    row.value.fdb_limit = uplink.fdb_limit() != 0 ? uplink.fdb_limit() : kDefaultUplinkFdb;
    return row;
}

constexpr std::uint32_t kInspectorTimeoutMs = 500;
constexpr std::uint32_t kInspectorQueue = 1024;

PortRow inspector_row(const Ids& ids, const pb::Inspector& inspector) {
    PortRow row;
    row.name = inspector.name();
    row.netdev = inspector.netdev();
    row.value.kind = IVDS_PORT_INSPECTOR;
    if (inspector.fail() == pb::Inspector::OPEN) row.value.flags |= IVDS_PF_FAIL_OPEN;
    row.value.inspector = ids.ports.at(inspector.name());
    row.value.timeout_ms = inspector.timeout_ms() != 0 ? inspector.timeout_ms() : kInspectorTimeoutMs;
    row.value.queue = inspector.queue() != 0 ? inspector.queue() : kInspectorQueue;
    return row;
}

// Who inspects the vPort's frames, or empty.
const std::string& inspector_of(const Model& model, const pb::VPort& vport) {
    static const std::string none;
    if (!vport.inspector().empty()) return vport.inspector();
    return vport.instance().empty() ? none : model.instances.at(vport.instance())->inspector();
}

// One end of a patch: no interface, and sources that are others', which it never learns.
void make_patch(const Model& model, const Ids& ids, const pb::VPort& vport, PortRow& row) {
    row.value.kind = IVDS_PORT_PATCH;
    row.value.flags = static_cast<std::uint16_t>(row.value.flags & ~IVDS_PF_ANTI_SPOOF);
    row.value.fdb_limit = 0;
    const auto other = model.vports.find(vport.patch());
    if (other == model.vports.end()) return;
    row.value.peer = ids.ports.at(vport.patch());
    if (!vport.instance().empty() && !other->second->instance().empty()) row.value.flags |= IVDS_PF_UP;
}

constexpr std::uint64_t kLeastBurstBytes = 256 << 10;
// A TCP connection that loses all it had under way is silent for its least retransmission timeout, 200 ms, and now
// and then for twice that. The time is made up for as far as the burst holds it: with half of this, BBR fell short of
// 2 Gbit/s by 8 %.
constexpr std::uint64_t kBurstMs = 500;

// The rate as time: of a MiB, and of the burst.
ivds_rate rate_of(std::uint32_t rate_mbps, std::uint32_t burst_kib) {
    if (rate_mbps == 0) return {};
    constexpr std::uint64_t mib_bits = 8ULL << 20;
    const std::uint64_t ns_per_mib = mib_bits * 1000 / rate_mbps;
    // 125 bytes a millisecond for each Mbit/s.
    const std::uint64_t burst_bytes = burst_kib != 0
                                          ? std::uint64_t{burst_kib} << 10
                                          : std::max(kLeastBurstBytes, std::uint64_t{rate_mbps} * 125 * kBurstMs);
    return {.ns_per_mib = ns_per_mib, .burst_ns = burst_bytes * ns_per_mib >> 20};
}

PortRow vport_row(const Model& model, const Ids& ids, const pb::VPort& vport) {
    static const pb::Profile no_profile;
    const pb::Profile& profile = vport.profile().empty() ? no_profile : *model.profiles.at(vport.profile());

    PortRow row;
    row.name = vport.name();
    row.netdev = vport.netdev();
    row.wanted = attach_mode(vport.attach());
    row.value.kind = !vport.trunk().empty() ? IVDS_PORT_SUB : vport.has_vf() ? IVDS_PORT_VF : IVDS_PORT_VPORT;
    if (!profile.allow_spoof()) row.value.flags |= IVDS_PF_ANTI_SPOOF;
    if (profile.guest_tags() == pb::CARRY) row.value.flags |= IVDS_PF_CARRY_TAGS;
    // A port whose sources are checked against a list has nothing to learn.
    if (profile.allow_spoof())
        row.value.fdb_limit = profile.fdb_limit() != 0 ? profile.fdb_limit() : kDefaultSpoofFdb;

    std::uint32_t mtu = vport.mtu_bytes() != 0 ? vport.mtu_bytes() : profile.mtu_bytes();
    if (!vport.instance().empty()) {
        const pb::Instance& instance = *model.instances.at(vport.instance());
        // One that is another host's has hooks and lists, and is in no instance: nothing passes.
        if (vport.state() == pb::VPort::ACTIVE) row.value.instance = ids.instances.at(instance.name());
        mtu = mtu != 0 ? std::min(mtu, mtu_bytes(instance)) : mtu_bytes(instance);
    } else if (mtu == 0) {
        mtu = kDefaultMtuBytes;
    }
    row.value.mtu_bytes = static_cast<std::uint16_t>(mtu);

    if (const std::string& vnic = vnic_of(model, vport); !vnic.empty()) {
        const Mac vmac = mac_of(model.vnics.at(vnic)->vmac());
        std::ranges::copy(vmac, row.value.vmac);
        row.macs.push_back(vmac);
    }
    for (const std::string& mac : vport.extra_macs()) row.macs.push_back(mac_of(mac));
    row.value.flow_limit = profile.flow_limit() != 0 ? profile.flow_limit() : kDefaultFlows;
    row.value.pcp = parse_pcp(profile.pcp()).value_or(0);
    row.value.dscp = parse_dscp(profile.dscp()).value_or(0);
    if (!vport.trunk().empty()) {
        row.value.peer = ids.ports.at(vport.trunk());
        row.value.vid = static_cast<std::uint16_t>(trunk_vid(model, vport));
        if (!vport.instance().empty()) row.value.flags |= IVDS_PF_UP;
    }
    if (!vport.patch().empty()) {
        make_patch(model, ids, vport, row);
    } else {
        if (const std::string& inspector = inspector_of(model, vport); !inspector.empty())
            row.value.inspector = ids.ports.at(inspector);
        row.value.rate[IVDS_WAY_IN] = rate_of(profile.rate_in_mbps(), profile.burst_in_kib());
        row.value.rate[IVDS_WAY_OUT] = rate_of(profile.rate_out_mbps(), profile.burst_out_kib());
    }
    return row;
}

bool has_single_tag(const Model& model, const pb::Instance& instance) {
    return !instance.uplink().empty() && model.uplinks.at(instance.uplink())->tags() == pb::Uplink::SINGLE;
}

using RemoteList = std::shared_ptr<const std::vector<RemoteMac>>;
RemoteList remotes_of(const Remotes& remotes, const std::string& instance) {
    const auto found = remotes.find(instance);
    return found != remotes.end() ? found->second : nullptr;
}

// The MACs of each instance's ports, sorted.
std::map<std::uint32_t, std::vector<Mac>> port_macs(const Tables& tables) {
    std::map<std::uint32_t, std::vector<Mac>> macs;
    for (const auto& [id, row] : tables.ports) {
        auto& own = macs[row.value.instance];
        own.insert(own.end(), row.macs.begin(), row.macs.end());
    }
    for (auto& [instance, own] : macs) std::ranges::sort(own);
    return macs;
}

bool holds_any(const RemoteList& remotes, const std::vector<Mac>& macs) {
    return std::ranges::any_of(
        macs, [&](const Mac& mac) { return std::ranges::binary_search(*remotes, mac, {}, &RemoteMac::mac); });
}

// `row` is the instance's, but for the list; `own` are the MACs of its ports.
std::shared_ptr<const std::vector<StaticMac>> static_macs(const Ids& ids, const pb::Instance& instance,
                                                          const InstanceRow& row, const RemoteList& remotes,
                                                          const std::vector<Mac>& own) {
    auto list = std::make_shared<std::vector<StaticMac>>();
    list->reserve(static_cast<std::size_t>(instance.fdb_size()) + (remotes ? remotes->size() : 0));
    for (const pb::StaticMac& entry : instance.fdb())
        list->push_back({.mac = mac_of(entry.mac()),
                         .port = ids.ports.at(entry.vport().empty() ? instance.uplink() : entry.vport()),
                         .vlan = entry.vlan() != 0 && row.value.vvlan == 0
                                     ? row.value.vlan
                                     : static_cast<std::uint16_t>(entry.vlan())});
    std::ranges::sort(*list, {}, &StaticMac::mac);
    if (remotes == nullptr) return list;
    const auto configured = list->size();
    for (const RemoteMac& remote : *remotes) {
        const auto end = list->begin() + static_cast<std::ptrdiff_t>(configured);
        if (std::ranges::binary_search(own, remote.mac) ||
            std::ranges::binary_search(list->begin(), end, remote.mac, {}, &StaticMac::mac))
            continue;
        list->push_back({.mac = remote.mac,
                         .port = row.value.uplink,
                         .vlan = row.value.vvlan == 0 ? row.value.vlan : remote.vlan});
    }
    std::ranges::inplace_merge(*list, list->begin() + static_cast<std::ptrdiff_t>(configured), {}, &StaticMac::mac);
    return list;
}

// The outer VLANs that peers of the instance are known to be on: by the registry, and by its own list.
std::set<std::uint16_t> vlans_of_peers(const pb::Instance& instance, const RemoteList& remotes) {
    std::set<std::uint16_t> vlans;
    for (const pb::StaticMac& entry : instance.fdb())
        if (entry.vlan() != 0) vlans.insert(static_cast<std::uint16_t>(entry.vlan()));
    if (remotes != nullptr)
        for (const RemoteMac& remote : *remotes) vlans.insert(remote.vlan);
    return vlans;
}

// Whether floods leave out the VLANs where no known peer is. What a NIC sends for a VF's VM goes to all alike.
bool floods_to_known(const Model& model, const pb::Instance& instance, const RemoteList& remotes) {
    if (model.uplinks.at(instance.uplink())->offload() == pb::Uplink::ON) return false;
    return instance.unregistered() == pb::Instance::DROPPED ||
           (remotes != nullptr && instance.unregistered() == pb::Instance::HEARD);
}

InstanceRow instance_row(const Model& model, const Ids& ids, const pb::Instance& instance,
                         const RemoteList& remotes) {
    InstanceRow row;
    row.name = instance.name();
    ivds_instance& value = row.value;
    const bool single = has_single_tag(model, instance);
    value.vlan = static_cast<std::uint16_t>(single ? instance.vvlan() : outer_vlan(model, instance));
    value.vvlan = static_cast<std::uint16_t>(single ? 0 : instance.vvlan());
    value.mtu_bytes = static_cast<std::uint16_t>(mtu_bytes(instance));
    value.age_s = instance.age_s() != 0 ? instance.age_s() : kDefaultAgeS;
    value.fdb_limit = fdb_limit(instance);
    if (!instance.draining()) value.flags |= IVDS_IF_ACTIVE;
    if (instance.scope() == pb::DISTRIBUTED) {
        value.uplink = ids.ports.at(instance.uplink());
        value.flags |= IVDS_IF_WIRE;
        // With peers on several VLANs, the VLAN that a frame came in by does not say where its sender is.
        if (instance.peer_vlans().empty()) value.flags |= IVDS_IF_LEARN_WIRE;
        if (instance.plain_access()) value.flags |= IVDS_IF_PLAIN_OUT;
        if (instance.unregistered() == pb::Instance::DROPPED) value.flags |= IVDS_IF_REGISTERED;
        const bool all = !floods_to_known(model, instance, remotes);
        const auto known = all ? std::set<std::uint16_t>{} : vlans_of_peers(instance, remotes);
        const auto is_on = [&](std::uint32_t vlan) {
            return all || known.contains(static_cast<std::uint16_t>(vlan));
        };
        if (!is_on(outer_vlan(model, instance))) value.flags |= IVDS_IF_SKIP_OWN;
        std::size_t at = 0;
        for (const std::uint32_t vlan : instance.peer_vlans())
            if (is_on(vlan)) value.peer_vlans[at++] = static_cast<std::uint16_t>(vlan);
    }
    if (instance.answer_neighbours()) value.flags |= IVDS_IF_ANSWER;
    return row;
}

// The rates of its peers, by the VLANs that they may be on.
void put_peer_rates(const pb::Instance& instance, std::uint32_t id, ivds_instance& value, Tables& tables) {
    std::set<std::uint32_t> vlans(instance.peer_vlans().begin(), instance.peer_vlans().end());
    vlans.insert(value.vlan);
    for (const std::uint32_t vlan : vlans) {
        const pb::PeerRate* found = nullptr;
        for (const pb::PeerRate& peer : instance.peer_rates())
            if (peer.vlan() == vlan || (peer.vlan() == 0 && found == nullptr)) found = &peer;
        if (found == nullptr || (found->rate_in_mbps() == 0 && found->rate_out_mbps() == 0)) continue;
        ivds_peer_rate& row = tables.peer_rates[{id, vlan}];
        row.rate[IVDS_WAY_IN] = rate_of(found->rate_in_mbps(), found->burst_in_kib());
        row.rate[IVDS_WAY_OUT] = rate_of(found->rate_out_mbps(), found->burst_out_kib());
        value.flags |= IVDS_IF_PEER_RATES;
    }
}

using NeighbourList = std::shared_ptr<const std::vector<Neighbour>>;

// Who has which address in each instance that answers, here and beyond. What two say they have is nobody's.
std::map<std::string, NeighbourList> neighbours_of(const Model& model, const Remotes& remotes) {
    std::map<std::string, std::map<Address, std::optional<Mac>>> found;
    const auto add = [](std::map<Address, std::optional<Mac>>& owners, const Address& address, const Mac& mac) {
        const auto [place, fresh] = owners.emplace(address, mac);
        if (!fresh && place->second != mac) place->second.reset();
    };
    for (const auto& [name, vport] : model.vports) {
        if (vport->addresses().empty() || vport->instance().empty() || vport->state() != pb::VPort::ACTIVE ||
            !model.instances.at(vport->instance())->answer_neighbours())
            continue;
        const Mac mac = mac_of(model.vnics.at(vnic_of(model, *vport))->vmac());
        for (const std::string& text : vport->addresses())
            add(found[vport->instance()], host_address(text).value_or(Address{}), mac);
    }
    for (const auto& [name, list] : remotes) {
        const auto instance = model.instances.find(name);
        if (instance == model.instances.end() || !instance->second->answer_neighbours()) continue;
        for (const RemoteMac& remote : *list)
            for (const Address& address : remote.addresses) add(found[name], address, remote.mac);
    }
    std::map<std::string, NeighbourList> out;
    for (const auto& [name, owners] : found) {
        auto list = std::make_shared<std::vector<Neighbour>>();
        list->reserve(owners.size());
        for (const auto& [address, mac] : owners)
            if (mac) list->push_back({address, *mac});
        out.emplace(name, std::move(list));
    }
    return out;
}

}  // namespace

Result<> put_list(std::uint32_t id, const Tables& tables_now, Tables& tables,
                  const std::function<Result<AclRow>()>& compile_it) {
    std::shared_ptr<const AclRow>& list = tables.acls[id];
    if (list != nullptr) return {};
    // No list that goes leaves its id to one that comes: what has this id now is this list.
    if (const auto old = tables_now.acls.find(id); old != tables_now.acls.end()) {
        list = old->second;
        return {};
    }
    auto compiled = compile_it();
    if (!compiled) return std::unexpected(compiled.error());
    list = std::make_shared<const AclRow>(std::move(*compiled));
    return {};
}

namespace {

// Puts the lists that the vPort's frames are held against into the tables, and names them in its row.
Result<> put_lists(const pb::VPort& vport, const Ids& ids, RuleLists& lists, const Tables& tables_now,
                   Tables& tables) {
    ivds_port& row = tables.ports.at(ids.ports.at(vport.name())).value;
    for (const auto& [direction, slot] :
         {std::pair(pb::Rule::IN, &row.acl_in), std::pair(pb::Rule::OUT, &row.acl_out)}) {
        const std::string& digest = lists.digest(vport, direction);
        if (digest.empty()) continue;
        *slot = ids.acls.at(digest);
        if (lists.stateful(vport, direction)) row.flags |= IVDS_PF_STATEFUL;
        auto done = put_list(*slot, tables_now, tables, [&, way = direction] { return lists.compile(vport, way); });
        if (!done) return done;
    }
    return {};
}

Result<> check_capacity(const Tables& tables) {
    std::size_t masks = 0;
    std::size_t entries = 0;
    for (const auto& [id, list] : tables.acls) {
        masks += list->masks.size();
        entries += list->rules.size();
    }
    if (entries > IVDS_MAX_ACL_RULES || masks > IVDS_MAX_ACLS * 16)
        return fail(
            Code::exhausted, "IVDS-M020",
            fmt::format("all lists of rules together need {} entries and {} masks: the data plane holds {} and {}",
                        entries, masks, IVDS_MAX_ACL_RULES, IVDS_MAX_ACLS * 16),
            "use fewer rules, or put those that vPorts share into their profile: such vPorts share one list");
    return {};
}

}  // namespace

Result<Tables> compile(const Model& model, const Ids& ids, const Model& now, const Tables& tables_now,
                       const Remotes& remotes, const Remotes& remotes_now) {
    Tables tables;
    for (const auto& [name, uplink] : model.uplinks) tables.ports.emplace(ids.ports.at(name), uplink_row(*uplink));
    for (const auto& [name, inspector] : model.inspectors)
        tables.ports.emplace(ids.ports.at(name), inspector_row(ids, *inspector));
    for (const auto& [name, vport] : model.vports)
        tables.ports.emplace(ids.ports.at(name), vport_row(model, ids, *vport));
    for (const auto& [name, vport] : model.vports)
        if (!vport->trunk().empty()) {
            const std::uint32_t trunk = ids.ports.at(vport->trunk());
            tables.ports.at(trunk).value.flags |= IVDS_PF_TRUNK;
            tables.vvlans[{trunk, trunk_vid(model, *vport), 0}] = ids.ports.at(name);
        }
    RuleLists lists(model, ids);
    for (const auto& [name, vport] : model.vports)
        if (auto done = put_lists(*vport, ids, lists, tables_now, tables); !done)
            return std::unexpected(done.error());
    if (auto done = put_mirrors(model, ids, lists, tables_now, tables); !done) return std::unexpected(done.error());
    if (auto done = check_capacity(tables); !done) return std::unexpected(done.error());
    for (const auto& [name, pool] : model.vport_pools) {
        const auto id = ids.pools.find(name);
        if (id == ids.pools.end()) continue;  // of other hosts, and no rule leads to it
        PoolRow& row = tables.pools[id->second];
        row.name = name;
        for (const std::string& vport : pool->vports()) row.value.member[row.value.count++] = ids.ports.at(vport);
    }

    const auto neighbours = neighbours_of(model, remotes);
    const bool any_remote = !remotes.empty() || !remotes_now.empty();
    const auto own = any_remote ? port_macs(tables) : std::map<std::uint32_t, std::vector<Mac>>{};
    const auto own_now = any_remote ? port_macs(tables_now) : std::map<std::uint32_t, std::vector<Mac>>{};
    const auto macs_in = [](const auto& macs, std::uint32_t id) {
        const auto found = macs.find(id);
        return found != macs.end() ? found->second : std::vector<Mac>{};
    };
    for (const auto& [name, instance] : model.instances) {
        const std::uint32_t id = ids.instances.at(name);
        const bool has_wire = instance->scope() == pb::DISTRIBUTED;
        const RemoteList beyond = has_wire ? remotes_of(remotes, name) : nullptr;
        InstanceRow row = instance_row(model, ids, *instance, beyond);
        if (const auto found = neighbours.find(name); found != neighbours.end()) {
            const auto before = tables_now.instances.find(id);
            const NeighbourList same = before != tables_now.instances.end() ? before->second.neighbours : nullptr;
            row.neighbours = same != nullptr && *same == *found->second ? same : found->second;
        }
        if (row.value.uplink != 0) {
            put_peer_rates(*instance, id, row.value, tables);
            std::uint32_t& plain = tables.vvlans[{row.value.uplink, row.value.vlan, 0}];
            if (row.value.vvlan != 0) tables.vvlans[{row.value.uplink, row.value.vlan, row.value.vvlan}] = id;
            if (instance->plain_access() || row.value.vvlan == 0) {
                plain = id;
                tables.ports.at(row.value.uplink).value.flags |= IVDS_PF_PLAIN_IN;
            }
        }
        if (!instance->fdb().empty() || (beyond != nullptr && !beyond->empty())) {
            const std::vector<Mac> local = macs_in(own, id);
            // A list without a remote MAC that a port has itself is made anew: the port may have it no more.
            const bool same_remotes =
                beyond == remotes_of(remotes_now, name) &&
                (beyond == nullptr || (!holds_any(beyond, local) && !holds_any(beyond, macs_in(own_now, id))));
            // The list names only this instance's ports, and a port that is in both models kept its id.
            const auto old = now.instances.find(name);
            const auto old_row = tables_now.instances.find(id);
            if (old != now.instances.end() && old->second == instance && old_row != tables_now.instances.end() &&
                old_row->second.fdb != nullptr && old_row->second.value.vvlan == row.value.vvlan &&
                old_row->second.value.vlan == row.value.vlan && old_row->second.value.uplink == row.value.uplink &&
                same_remotes)
                row.fdb = old_row->second.fdb;
            else
                row.fdb = static_macs(ids, *instance, row, beyond, local);
        }
        tables.instances.emplace(id, std::move(row));
    }
    return tables;
}

}  // namespace ivds
