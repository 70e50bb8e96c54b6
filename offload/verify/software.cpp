// SPDX-License-Identifier: Apache-2.0
#include "verify/software.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "loader/switch.h"

namespace ivds::offload::verify {

namespace {

constexpr unsigned parsed_tags = 3;  // the pipeline reads no more

bool is_bad_source(const Mac& mac) {
    return (mac[0] & 1U) != 0 || number(mac) == 0;
}
bool is_link_local(const Mac& mac) {
    return number(mac) >> 4 == 0x0180c200000;
}
bool is_same(const Mac& mac, const __u8* other) {
    return std::equal(mac.begin(), mac.end(), other);
}
// Tags of the types that the pipeline knows, as far as it reads.
unsigned read_tags(const Tags& tags) {
    unsigned count = 0;
    while (count < std::min(tags.size(), parsed_tags) &&
           (tags[count].tpid == tpid_c || tags[count].tpid == tpid_s || tags[count].tpid == tpid_q))
        ++count;
    return count;
}
Tags without(Tags tags, unsigned count) {
    for (unsigned i = 0; i < count; ++i) tags.erase(0);
    return tags;
}
std::uint16_t tci_of(std::uint16_t vid, std::uint16_t pcp) {
    return static_cast<std::uint16_t>(pcp << 13 | vid);
}

}  // namespace

Software::Software(const Snapshot& tables) : tables_(tables) {
    fdb_.reserve(tables.fdb.size());
    for (const auto& [id, port] : tables.ports) ports_[id] = &port;
    for (const auto& [id, instance] : tables.instances) instances_[id] = &instance;
    for (const auto& [key, entry] : tables.fdb) {
        Mac mac{};
        std::ranges::copy(key.mac, mac.begin());
        fdb_[{.instance = key.instance, .mac = number(mac)}] = &entry;
    }
    for (const auto& [id, port] : tables.ports)
        if (port.kind == IVDS_PORT_VPORT || port.kind == IVDS_PORT_SUB)
            members_[port.instance].emplace_back(id, &port);
}

const ivds_port* Software::port(std::uint32_t id) const {
    const auto found = ports_.find(id);
    return found == ports_.end() ? nullptr : found->second;
}
const ivds_instance* Software::instance(std::uint32_t id) const {
    const auto found = instances_.find(id);
    return found == instances_.end() ? nullptr : found->second;
}
const ivds_fdb_entry* Software::entry(std::uint32_t instance, const Mac& mac) const {
    const auto found = fdb_.find({.instance = instance, .mac = number(mac)});
    return found == fdb_.end() ? nullptr : found->second;
}

void Software::from_port(std::uint32_t port, const Frame& frame, Told& told, Trail* trail) const {
    const ivds_port* at = this->port(port);
    if (at == nullptr || at->kind == IVDS_PORT_NONE) {
        told.reason = IVDS_DROP_NO_PORT;
        return;
    }
    if (at->kind == IVDS_PORT_UPLINK) return from_uplink(port, frame, told, trail);
    if ((at->flags & IVDS_PF_TRUNK) != 0 && !frame.tags.empty() && frame.tags[0].tpid == tpid_c &&
        frame.tags[0].vid() != 0) {
        const auto behind = tables_.vvlans.find({port, frame.tags[0].vid(), 0});
        if (behind != tables_.vvlans.end()) {
            const ivds_port* sub = this->port(behind->second);
            if (sub != nullptr && sub->kind == IVDS_PORT_SUB)
                return from_vport(behind->second, frame, 1, told, trail);
        }
    }
    from_vport(port, frame, 0, told, trail);
}

void Software::look_behind(const Frame& frame, unsigned own, Under& under) {
    const unsigned read = read_tags(frame.tags);
    under.guest = without(frame.tags, own);
    under.guest_tags = read - own;
    under.l3_bytes = frame.payload.l3_bytes + 4 * (frame.tags.size() - read);
    for (unsigned i = own; i < read; ++i) under.guest_tagged |= frame.tags[i].vid() != 0;
}

void Software::from_vport(std::uint32_t port, const Frame& frame, unsigned trunk_tags, Told& told,
                          Trail* trail) const {
    const ivds_port& at = *this->port(port);
    const auto refuse = [&](std::uint32_t reason) {
        told.reason = reason;
        told.too_long |= reason == IVDS_DROP_OVERSIZE;
        if (trail != nullptr) note(trail, "software at port {}: {}", port, drop_text(reason));
    };
    told.instance = at.instance;
    const ivds_instance* of = at.instance == 0 ? nullptr : instance(at.instance);
    told.control =
        is_link_local(frame.dst) || (frame.payload.ethertype == 0x8808 && read_tags(frame.tags) == frame.tags.size());
    if (of == nullptr) return refuse(IVDS_DROP_NO_INSTANCE);
    if ((of->flags & IVDS_IF_ACTIVE) == 0) return refuse(IVDS_DROP_INSTANCE_DOWN);
    if (is_bad_source(frame.src)) return refuse(IVDS_DROP_BAD_SOURCE);
    if (told.control) return refuse(IVDS_DROP_VM_CONTROL);
    Under under{.port = port, .instance = at.instance, .of = of};
    look_behind(frame, trunk_tags, under);
    const bool has_tag = read_tags(frame.tags) != 0;
    under.pcp = at.pcp != IVDS_PCP_KEEP ? at.pcp : has_tag ? frame.tags[0].pcp() : std::uint16_t{0};
    if (under.guest_tagged && (at.flags & IVDS_PF_CARRY_TAGS) == 0) return refuse(IVDS_DROP_GUEST_TAG);
    if (under.l3_bytes > std::min(at.mtu_bytes, of->mtu_bytes)) return refuse(IVDS_DROP_OVERSIZE);
    if (!is_same(frame.src, at.vmac)) {
        const ivds_fdb_entry* known = entry(at.instance, frame.src);
        const bool is_static = known != nullptr && (known->flags & IVDS_FDB_STATIC) != 0;
        if (is_static ? known->port != port : (at.flags & IVDS_PF_ANTI_SPOOF) != 0) return refuse(IVDS_DROP_SPOOF);
    }
    forward(under, frame, told, trail);
}

void Software::from_patch(std::uint32_t port, const Frame& frame, Told& told, Trail* trail) const {
    const ivds_port* at = this->port(port);
    if (at == nullptr) return;
    told.instance = at->instance;
    const ivds_instance* of = instance(at->instance);
    if (of == nullptr || (of->flags & IVDS_IF_ACTIVE) == 0) return;
    Under under{.port = port, .instance = at->instance, .of = of};
    look_behind(frame, 0, under);
    if (under.l3_bytes > std::min(at->mtu_bytes, of->mtu_bytes)) return;
    forward(under, frame, told, trail);
}

void Software::from_uplink(std::uint32_t port, const Frame& frame, Told& told, Trail* trail) const {
    const ivds_port& at = *this->port(port);
    const Tags& tags = frame.tags;
    const auto refuse = [&](std::uint32_t reason) {
        told.reason = reason;
        told.too_long |= reason == IVDS_DROP_OVERSIZE;
        if (trail != nullptr) note(trail, "software at the uplink: {}", drop_text(reason));
    };
    const auto host = [&] {
        note(trail, "software at the uplink: no frame of the switch, to the host");
        told.outs.push_back({.port = to_host, .via = to_host, .tags = tags});
    };
    told.control = is_link_local(frame.dst);
    if (read_tags(tags) == 0 || tags[0].tpid != ntohs(at.outer_tpid_be)) return host();
    const std::uint16_t vlan = tags[0].vid();
    const bool plain = read_tags(tags) < 2 || tags[1].tpid != ntohs(at.inner_tpid_be);
    std::uint16_t vvlan = 0;
    if (plain) {
        if ((at.flags & (IVDS_PF_PLAIN_DROP | IVDS_PF_PLAIN_IN)) == 0) return host();
    } else {
        vvlan = tags[1].vid();
        const auto is_vid = [](std::uint16_t vid) { return vid != 0 && vid <= IVDS_VLAN_MAX; };
        if (!is_vid(vlan) || !is_vid(vvlan)) return refuse(IVDS_DROP_BAD_VID);
    }
    const auto row = tables_.vvlans.find({port, vlan, vvlan});
    if (row == tables_.vvlans.end()) {
        if (plain) return host();
        return refuse(IVDS_DROP_UNKNOWN_VVLAN);
    }
    const ivds_instance* of = instance(row->second);
    // What a VM sent is none of the host's, where its NIC put the V.VLAN's tag on it.
    if (plain && told.control && (of == nullptr || of->vvlan != 0)) return host();
    if (plain && row->second == 0) {
        if ((at.flags & IVDS_PF_PLAIN_DROP) == 0) return host();
        return refuse(IVDS_DROP_NO_VVLAN);
    }
    told.instance = row->second;
    constexpr unsigned must = IVDS_IF_ACTIVE | IVDS_IF_WIRE;
    if (of == nullptr || (of->flags & must) != must || of->uplink != port) return refuse(IVDS_DROP_INSTANCE_DOWN);
    if (is_bad_source(frame.src)) return refuse(IVDS_DROP_BAD_SOURCE);
    if (told.control) return refuse(IVDS_DROP_VM_CONTROL);
    Under under{.port = port, .instance = row->second, .of = of};
    look_behind(frame, plain ? 1 : 2, under);
    under.pcp = tags[0].pcp();
    under.from_wire = true;
    if (under.l3_bytes > of->mtu_bytes) return refuse(IVDS_DROP_OVERSIZE);
    const ivds_fdb_entry* known = entry(row->second, frame.src);
    if (known != nullptr && (known->flags & IVDS_FDB_STATIC) != 0 && known->port != port)
        return refuse(IVDS_DROP_WIRE_SOURCE);
    if (known != nullptr && of->vvlan != 0 && plain && (known->flags & IVDS_FDB_PLAIN) == 0)
        return refuse(IVDS_DROP_PLAIN_SOURCE);
    const bool is_registered = known != nullptr && (known->flags & IVDS_FDB_STATIC) != 0 &&
                               (known->vlan == 0 || known->vlan == tags[0].vid());
    if ((of->flags & IVDS_IF_REGISTERED) != 0 && !is_registered) return refuse(IVDS_DROP_UNREGISTERED);
    forward(under, frame, told, trail);
}

std::uint32_t Software::refusal(const ivds_port& to, const Under& under) const {
    const ivds_port* carrier = to.kind == IVDS_PORT_SUB ? port(to.peer) : &to;
    if ((to.kind != IVDS_PORT_VPORT && to.kind != IVDS_PORT_SUB) || to.instance != under.instance ||
        carrier == nullptr || (to.flags & carrier->flags & IVDS_PF_UP) == 0)
        return IVDS_DROP_PORT_DOWN;
    if (under.guest_tagged && (to.flags & IVDS_PF_CARRY_TAGS) == 0) return IVDS_DROP_GUEST_TAG_OUT;
    if (under.l3_bytes > to.mtu_bytes) return IVDS_DROP_OVERSIZE_OUT;
    return 0;
}

void Software::to_vport(std::uint32_t id, const ivds_port& to, const Under& under, Told& told) const {
    Out& out = told.outs.emplace_back(Out{.port = id, .via = id, .tags = under.guest});
    if (to.kind != IVDS_PORT_SUB) return;
    out.port = to.peer;
    out.tags.insert(0, {.tpid = tpid_c, .tci = tci_of(to.vid, under.pcp)});
}

bool Software::to_wire(const Under& under, std::uint16_t vlan, std::uint16_t vvlan, unsigned headroom,
                       Told& told) const {
    const ivds_port* uplink = port(under.of->uplink);
    if (uplink == nullptr || uplink->kind != IVDS_PORT_UPLINK || (uplink->flags & IVDS_PF_UP) == 0) return false;
    if (under.l3_bytes + 4 * (under.guest_tags + headroom) > uplink->mtu_bytes) {
        told.too_long = true;
        return false;
    }
    Out& out = told.outs.emplace_back(Out{.port = under.of->uplink, .via = under.of->uplink, .tags = under.guest});
    if (vvlan != 0) out.tags.insert(0, {.tpid = ntohs(uplink->inner_tpid_be), .tci = tci_of(vvlan, under.pcp)});
    out.tags.insert(0, {.tpid = ntohs(uplink->outer_tpid_be), .tci = tci_of(vlan, under.pcp)});
    return true;
}

void Software::forward(const Under& under, const Frame& frame, Told& told, Trail* trail) const {
    const ivds_instance& of = *under.of;
    const bool has_wire = (of.flags & IVDS_IF_WIRE) != 0;
    const ivds_fdb_entry* known = frame.is_unicast() ? entry(under.instance, frame.dst) : nullptr;
    if (known == nullptr) {
        note(trail, "software: a flood in instance {}", under.instance);
        if (const auto members = members_.find(under.instance); members != members_.end())
            for (const auto& [id, to] : members->second) {
                if (id == under.port) continue;
                const std::uint32_t reason = refusal(*to, under);
                if (reason == 0) to_vport(id, *to, under, told);
                told.too_long |= reason == IVDS_DROP_OVERSIZE_OUT;
            }
        if (under.from_wire || !has_wire) return;
        const unsigned headroom = of.vvlan != 0 ? 2 : 1;
        if ((of.flags & IVDS_IF_SKIP_OWN) == 0 && !to_wire(under, of.vlan, of.vvlan, headroom, told)) return;
        for (const std::uint16_t vlan : of.peer_vlans) {
            if (vlan == 0) break;
            to_wire(under, vlan, of.vvlan, headroom, told);
        }
        // Behind the outer VLAN alone, a guest's tag would be a V.VLAN's.
        if ((of.flags & IVDS_IF_PLAIN_OUT) != 0 && !under.guest_tagged) to_wire(under, of.vlan, 0, headroom, told);
        return;
    }
    const auto drop = [&](std::uint32_t reason) {
        if (trail != nullptr) note(trail, "software in instance {}: {}", under.instance, drop_text(reason));
        told.too_long |= reason == IVDS_DROP_OVERSIZE_OUT;
    };
    note(trail, "software: fdb has the destination in instance {} at port {}", under.instance, known->port);
    if (known->port == under.port) return drop(IVDS_DROP_SAME_PORT);
    if (known->port == of.uplink) {
        if (!has_wire) return drop(IVDS_DROP_NO_UPLINK);
        const std::uint16_t vvlan = (known->flags & IVDS_FDB_PLAIN) != 0 ? std::uint16_t{0} : of.vvlan;
        if (vvlan == 0 && of.vvlan != 0 && under.guest_tagged) return drop(IVDS_DROP_GUEST_TAG_OUT);
        to_wire(under, known->vlan != 0 ? known->vlan : of.vlan, vvlan, vvlan != 0 ? 2 : 1, told);
        return;
    }
    const ivds_port* to = port(known->port);
    const std::uint32_t reason = to == nullptr ? std::uint32_t{IVDS_DROP_PORT_DOWN} : refusal(*to, under);
    if (reason != 0) return drop(reason);
    to_vport(known->port, *to, under, told);
}

Views views_of(const Snapshot& tables, const offload::Software& told) {
    Views views{.alone = tables, .beside = tables};
    for (auto& [id, port] : views.alone.ports) {
        if (port.kind != IVDS_PORT_VF) continue;
        port.kind = IVDS_PORT_VPORT;
        if (!told.vports.contains(id)) port.flags &= static_cast<__u16>(~IVDS_PF_UP);
    }
    for (const std::uint32_t vport : told.vports)
        if (const auto port = views.beside.ports.find(vport); port != views.beside.ports.end())
            port->second.flags &= static_cast<__u16>(~IVDS_PF_UP);
    for (auto& [key, entry] : views.beside.fdb) {
        const auto in = tables.instances.find(key.instance);
        if (in == tables.instances.end() || !told.vports.contains(entry.port)) continue;
        if (const auto port = tables.ports.find(entry.port);
            port == tables.ports.end() || port->second.instance != key.instance)
            continue;  // not its instance's
        const std::uint32_t vport = entry.port;
        entry = {};
        entry.port = in->second.uplink;
        entry.vlan = in->second.vlan;
        entry.flags = IVDS_FDB_STATIC | (in->second.vvlan == 0 ? IVDS_FDB_PLAIN : 0);
        entry.vport = vport;
    }
    return views;
}

Cable::Cable(const Snapshot& tables, const Device& device) {
    const auto port = tables.ports.find(device.uplink);
    if (port == tables.ports.end()) return;
    outer_tpid_ = ntohs(port->second.outer_tpid_be);
    single_ = port->second.inner_tpid_be == 0;
    tpid_ = single_ ? outer_tpid_ : ntohs(port->second.inner_tpid_be);
    for (const auto& [key, instance] : tables.vvlans) {
        if (key[0] != device.uplink && !device.uplinks.contains(key[0])) continue;
        vlans_.insert(static_cast<std::uint16_t>(key[1]));
        if (key[2] != 0) inners_.insert(static_cast<std::uint16_t>(key[2]));
        if (single_ && instance != 0) vvlans_[static_cast<std::uint16_t>(key[1])] = instance;
    }
}

std::vector<Tags> Cable::outers() const {
    std::vector<Tags> out{{}};
    if (single_) return out;
    constexpr std::uint16_t nobodys = 4000;
    out.push_back({{.tpid = outer_tpid_, .tci = nobodys}});
    for (const std::uint16_t vlan : vlans_) out.push_back({{.tpid = outer_tpid_, .tci = vlan}});
    return out;
}

}  // namespace ivds::offload::verify
