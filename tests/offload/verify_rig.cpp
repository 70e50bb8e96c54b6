// SPDX-License-Identifier: Apache-2.0
#include "verify_rig.h"

#include <algorithm>
#include <stdexcept>

#include "offload/nic/writer_82599.h"

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

Witness::Alone Witness::alone(const Probe& probe) {
    Alone out;
    if (probe.enter.by == Enter::By::host || !alone_.world().ports.contains(probe.enter.port)) return out;
    auto outcome = alone_.forward(probe.enter.port, offload::verify::bytes(probe.frame));
    out.sent = std::move(outcome.sent);
    for (Sent& copy : out.sent)
        if (copy.port == witness_uplink) settle(copy.bytes);
    std::ranges::sort(out.sent);
    for (const auto& [name, count] : outcome.counts) {
        if (!name.starts_with("drop ")) continue;
        const std::size_t at = name.find(' ', 5) + 1;
        out.drops.insert(name.substr(at, name.rfind(' ') - at));
    }
    return out;
}

std::vector<Sent> Witness::software(const Probe& probe) {
    return forwarded(beside_, probe.enter.port, offload::verify::bytes(probe.frame));
}

std::vector<Witness::Input> Witness::into_nic(const Probe& probe) {
    Bytes frame = offload::verify::bytes(probe.frame);
    if (probe.enter.by == Enter::By::pool) return {{.pool = probe.enter.pool, .bytes = frame}};
    if (probe.enter.by == Enter::By::host) return {{.pool = device_.pf, .bytes = frame}};
    if (probe.enter.by == Enter::By::uplink && probe.enter.port == witness_uplink) {
        if (!take_outer(frame)) return {};
        return {{.from_wire = true, .bytes = frame}};
    }
    std::vector<Input> inputs;
    for (const Sent& copy : software(probe)) {
        Bytes out = copy.bytes;
        if (copy.port == witness_uplink && take_outer(out)) inputs.push_back({.pool = device_.pf, .bytes = out});
    }
    return inputs;
}

std::vector<offload::Delivery> Witness::by_nic(offload::Model82599& model, const Input& input) {
    return input.from_wire ? model.receive_from_wire(input.bytes).deliveries
                           : model.send_from(input.pool, input.bytes).deliveries;
}

std::vector<Sent> Witness::onwards(offload::Model82599& model, const Probe& probe,
                                   const std::vector<offload::Delivery>& deliveries) {
    std::vector<Sent> sent;
    if (probe.enter.by == Enter::By::port ||
        (probe.enter.by == Enter::By::uplink && probe.enter.port != witness_uplink))
        for (const Sent& copy : software(probe))
            if (copy.port != witness_uplink) sent.push_back(copy);
    from_nic(model, deliveries, sent, 0);
    std::ranges::sort(sent);
    return sent;
}

std::vector<Sent> Witness::together(offload::Model82599& model, const Probe& probe) {
    std::vector<offload::Delivery> deliveries;
    for (const Input& input : into_nic(probe))
        for (offload::Delivery& delivery : by_nic(model, input)) deliveries.push_back(std::move(delivery));
    return onwards(model, probe, deliveries);
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

offload::Device witness_device(unsigned vfs) {
    offload::Device device{.chip = &reg::chip(), .uplink = witness_uplink, .pf = witness_pf, .pools = {}};
    for (unsigned n = 0; n < vfs; ++n) device.pools[first_vf + n] = n;
    return device;
}

Card::Card(const offload::Snapshot& tables, const offload::Device& device, const offload::Uncertain& uncertain)
    : nic({.uncertain = uncertain,
           .pools_on = false,
           .fctrl = reg::fctrl::bam.put() | reg::fctrl::mpe.put() | reg::fctrl::upe.put()}) {
    const auto must = [](const Result<>& done) {
        if (!done) throw std::runtime_error(done.error().text());
    };
    // As drivers of VFs do, for a tag that they did not ask for.
    for (unsigned queue = 0; queue < 2 * device.pf; ++queue)
        nic.put(Reg::rxdctl, queue, reg::rxdctl::enable.put() | reg::rxdctl::vme.put());
    nic.put(Reg::pfvtctl,
            reg::pfvtctl::vt_en.put() | reg::pfvtctl::def_pl.put(device.pf) | reg::pfvtctl::rpl_en.put());
    nic.set_bits(Reg::hlreg0, 0, reg::hlreg0::jumboen.put());
    nic.put(Reg::maxfrs, reg::maxfrs::mfs.put(reg::chip().max_frame));
    auto plan = offload::make_plan(tables, device, {.port_vlan = witness_vlan}, {});
    if (!plan) throw std::runtime_error(plan.error().text());
    offload::Writer82599 writer(nic.model, device.pf);
    must(writer.check_setup());
    must(writer.clear());
    for (const offload::Step& step : plan->steps) {
        must(writer.apply(step));
        if (const auto* software = std::get_if<offload::Software>(&step)) told = *software;
    }
}

offload::verify::Image Card::image() {
    auto read = offload::verify::read_image(nic.model);
    if (!read) throw std::runtime_error(read.error().text());
    return std::move(*read);
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
