// SPDX-License-Identifier: Apache-2.0
#include "verify_rig.h"

#include <algorithm>

namespace ivds::test {

namespace {

using offload::verify::Enter;
using offload::verify::Probe;
using offload::verify::Verifier;

constexpr std::size_t tag_at = 12;

std::uint16_t word(const Bytes& frame, std::size_t at) {
    return static_cast<std::uint16_t>(frame.at(at) << 8 | frame.at(at + 1));
}
void put_tag(Bytes& frame, std::uint16_t tci) {
    const std::array<std::uint8_t, 4> tag{0x81, 0x00, static_cast<std::uint8_t>(tci >> 8),
                                          static_cast<std::uint8_t>(tci & 0xff)};
    frame.insert(frame.begin() + tag_at, tag.begin(), tag.end());
}
void cut_tag(Bytes& frame) {
    frame.erase(frame.begin() + tag_at, frame.begin() + tag_at + 4);
}
void settle(Bytes& frame) {
    const bool tagged = frame.size() >= tag_at + 8 && word(frame, tag_at + 4) == tpid_c;
    frame[tag_at + 2] =
        static_cast<std::uint8_t>((frame[tag_at + 2] & 0x1f) | (tagged ? frame[tag_at + 6] & 0xe0 : 0));
}
void add_outer(Bytes& frame) {
    put_tag(frame, witness_vlan);
    settle(frame);
}
bool take_outer(Bytes& frame) {
    if (frame.size() < tag_at + 4 || word(frame, tag_at) != tpid_c ||
        (word(frame, tag_at + 2) & 0xfff) != witness_vlan)
        return false;
    cut_tag(frame);
    return true;
}

World forgetful(World world) {
    for (auto& [id, port] : world.ports) port.fdb_limit = 0;
    return world;
}

World as_told(World world, const offload::Software& told) {
    for (const std::uint32_t vport : told.vports)
        if (const auto found = world.ports.find(vport); found != world.ports.end())
            found->second.flags &= static_cast<std::uint16_t>(~IVDS_PF_UP);
    for (const auto& [instance, mac] : told.in_nic) {
        const auto in = world.instances.find(instance);
        const auto entry = world.fdb.find({instance, mac});
        if (in == world.instances.end() || entry == world.fdb.end()) continue;
        entry->second = {};
        entry->second.port = in->second.uplink;
        entry->second.vlan = in->second.vlan;
        entry->second.flags = IVDS_FDB_STATIC;
    }
    return world;
}

std::vector<Sent> forwarded(ReferenceSwitch& by, std::uint32_t port, const Bytes& frame) {
    if (!by.world().ports.contains(port)) return {};
    return by.forward(port, frame).sent;
}

}  // namespace

Witness::Witness(World tables, offload::Device device, offload::Software told)
    : device_(std::move(device)),
      told_(std::move(told)),
      alone_(forgetful(tables)),
      beside_(forgetful(as_told(std::move(tables), told_))) {}

std::vector<Sent> Witness::alone(const Probe& probe) {
    std::vector<Sent> sent;
    if (probe.enter.by != Enter::By::host && probe.enter.port != 0)
        sent = forwarded(alone_, probe.enter.port, offload::verify::bytes(probe.frame));
    for (Sent& copy : sent)
        if (copy.port == witness_uplink) settle(copy.bytes);
    std::ranges::sort(sent);
    return sent;
}

std::vector<Sent> Witness::software(const Probe& probe) {
    return forwarded(beside_, probe.enter.port, offload::verify::bytes(probe.frame));
}

std::vector<offload::Delivery> Witness::first_of_nic(offload::Model82599& model, const Probe& probe) {
    Bytes frame = offload::verify::bytes(probe.frame);
    switch (probe.enter.by) {
        case Enter::By::uplink:
            if (probe.enter.port == witness_uplink)
                return take_outer(frame) ? model.receive_from_wire(frame).deliveries
                                         : std::vector<offload::Delivery>{};
            break;
        case Enter::By::pool:
            return model.send_from(probe.enter.pool, frame).deliveries;
        case Enter::By::host:
            return model.send_from(device_.pf, frame).deliveries;
        default:
            break;
    }
    std::vector<offload::Delivery> all;
    for (const Sent& copy : software(probe)) {
        if (copy.port != witness_uplink) continue;
        Bytes out = copy.bytes;
        if (!take_outer(out)) continue;
        const auto some = model.send_from(device_.pf, out).deliveries;
        all.insert(all.end(), some.begin(), some.end());
    }
    return all;
}

std::vector<Sent> Witness::onwards(offload::Model82599& model, const Probe& probe,
                                   std::vector<offload::Delivery> deliveries) {
    std::vector<Sent> sent;
    const bool by_software = probe.enter.by == Enter::By::port ||
                             (probe.enter.by == Enter::By::uplink && probe.enter.port != witness_uplink);
    if (by_software)
        for (const Sent& copy : software(probe))
            if (copy.port != witness_uplink) sent.push_back(copy);
    from_nic(model, deliveries, sent, 0);
    std::ranges::sort(sent);
    return sent;
}

std::vector<Sent> Witness::together(offload::Model82599& model, const Probe& probe) {
    return onwards(model, probe, first_of_nic(model, probe));
}

void Witness::from_nic(offload::Model82599& model, const std::vector<offload::Delivery>& deliveries,
                       std::vector<Sent>& sent, unsigned depth) {
    for (const offload::Delivery& delivery : deliveries) {
        Bytes frame = delivery.bytes;
        if (delivery.to_wire) {
            add_outer(frame);
            sent.push_back({witness_uplink, frame});
        } else if (delivery.pool == device_.pf) {
            if (depth == 2) continue;
            if (delivery.stripped) put_tag(frame, *delivery.stripped);
            add_outer(frame);
            from_software(model, forwarded(beside_, witness_uplink, frame), sent, depth + 1);
        } else {
            const auto vf =
                std::ranges::find_if(device_.pools, [&](const auto& row) { return row.second == delivery.pool; });
            const bool in_nic = vf != device_.pools.end() && told_.vports.contains(vf->first);
            sent.push_back({in_nic ? vf->first : Verifier::stray(delivery.pool), frame});
        }
    }
}

void Witness::from_software(offload::Model82599& model, const std::vector<Sent>& out, std::vector<Sent>& sent,
                            unsigned depth) {
    for (const Sent& copy : out) {
        if (copy.port != witness_uplink) {
            sent.push_back(copy);
            continue;
        }
        Bytes frame = copy.bytes;
        if (take_outer(frame)) from_nic(model, model.send_from(device_.pf, frame).deliveries, sent, depth);
    }
}

offload::Snapshot tables_of(const World& world) {
    offload::Snapshot snapshot;
    snapshot.ports = world.ports;
    snapshot.instances = world.instances;
    snapshot.vvlans = world.vvlans;
    for (const auto& [key, entry] : world.fdb) {
        offload::FdbRow row{.key = {}, .entry = entry};
        row.key.instance = key.instance;
        std::ranges::copy(key.mac, row.key.mac);
        snapshot.fdb.push_back(row);
    }
    return snapshot;
}

std::vector<Sent> sent_of(const offload::verify::Frame& frame, const std::vector<offload::verify::Out>& outs) {
    std::vector<Sent> sent;
    for (const offload::verify::Out& out : outs) {
        offload::verify::Frame copy = frame;
        copy.tags = out.tags;
        sent.push_back({out.port, offload::verify::bytes(copy)});
    }
    std::ranges::sort(sent);
    return sent;
}

}  // namespace ivds::test
