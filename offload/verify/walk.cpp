// SPDX-License-Identifier: Apache-2.0
// One frame through the switch alone, and through NIC and software together.
#include <fmt/format.h>

#include <algorithm>

#include "plan/vport.h"
#include "verify/verify.h"

namespace ivds::offload::verify {

namespace {

// A frame of software's that comes back to the PF goes no further than to software again.
constexpr unsigned most_turns = 2;

}  // namespace

Verifier::Verifier(const Subject& subject)
    : subject_(subject),
      views_(views_of(subject.tables, subject.told)),
      alone_(views_.alone),
      beside_(views_.beside),
      cable_(subject.tables, subject.device.uplink) {
    for (const auto& [vport, pool] : subject.device.pools) vport_of_[pool] = vport;
    for (const auto& [key, entry] : subject.tables.fdb) {
        Mac mac{};
        std::ranges::copy(key.mac, mac.begin());
        macs_[key.instance].push_back(mac);
        const auto in = subject.tables.instances.find(key.instance);
        if (in == subject.tables.instances.end() || entry.port != in->second.uplink) local_.insert(number(mac));
    }
    find_policies();
}

Verifier::~Verifier() = default;

void Verifier::find_policies() {
    const std::uint32_t uplink = subject_.device.uplink;
    for (const auto& [id, instance] : subject_.tables.instances)
        if (cable_.is_single() && instance.uplink == uplink &&
            (instance.vvlan != 0 || instance.peer_vlans[0] != 0 || (instance.flags & IVDS_IF_PLAIN_OUT) != 0))
            policies_.emplace_back(
                uplink,
                fmt::format("instance {} would send with other tags than its V.VLAN's alone, which is all that "
                            "the uplink has",
                            id));
    const Targets targets = find_targets(subject_.tables);
    for (const std::uint32_t id : subject_.told.vports) {
        const auto say = [&](std::string_view what) { policies_.emplace_back(id, what); };
        const auto found = subject_.tables.ports.find(id);
        if (found == subject_.tables.ports.end() ||
            (found->second.kind != IVDS_PORT_VPORT && found->second.kind != IVDS_PORT_VF)) {
            say("software was told that the NIC carries it, and it is no vPort");
            continue;
        }
        const ivds_port& port = found->second;
        if (!cable_.is_single()) say("with double tags its VM would have to add the outer VLAN itself");
        if (port.acl_in != 0 || port.acl_out != 0 || (port.flags & IVDS_PF_STATEFUL) != 0)
            say("it has rules, and the NIC does not ask them");
        if (port.inspector != 0) say("it has an inspector, and the NIC does not send frames there");
        if (port.dscp != 0) say("it marks packets, and the NIC does not change the DSCP");
        if ((port.mirror_in | port.mirror_out | port.mirror_drop) != 0) say("a mirror watches it");
        if (port.rate[IVDS_WAY_OUT].ns_per_mib != 0)
            say("what is sent to it has a rate, which the NIC does not hold");
        if ((port.flags & IVDS_PF_TRUNK) != 0) say("vPorts are behind its tags, and the NIC does not look for those");
        if (targets.of_rules.contains(id)) say("rules redirect to it, and software does not send to it");
        if (targets.of_mirrors.contains(id)) say("a mirror's copies go to it, and software does not send to it");
        if (!subject_.device.pools.contains(id)) say("software was told that the NIC carries it, and it is no VF");
    }
}

void Verifier::alone(const Probe& probe, Software::Told& told, Trail* trail) const {
    told.clear();
    switch (probe.enter.by) {
        case Enter::By::uplink:
        case Enter::By::port:
            alone_.from_port(probe.enter.port, probe.frame, told, trail);
            break;
        case Enter::By::pool:
            if (probe.enter.port != 0) alone_.from_port(probe.enter.port, probe.frame, told, trail);
            break;
        case Enter::By::patch:
            alone_.from_patch(probe.enter.port, probe.frame, told, trail);
            break;
        case Enter::By::host:
            break;
    }
    std::ranges::sort(told.outs);
}

void Verifier::together(const Nic& nic, const Probe& probe, Doubts& doubts, std::vector<Out>& outs,
                        Trail* trail) const {
    outs.clear();
    Nic::Passage passage;
    Software::Told told;
    Frame frame = probe.frame;
    switch (probe.enter.by) {
        case Enter::By::uplink:
            if (probe.enter.port == subject_.device.uplink) {
                nic.from_wire(frame, doubts, passage, trail);
                from_nic(nic, frame, passage, doubts, outs, trail, 0);
                break;
            }
            [[fallthrough]];
        case Enter::By::port:
            beside_.from_port(probe.enter.port, frame, told, trail);
            from_software(nic, frame, told, doubts, outs, trail, 0);
            break;
        case Enter::By::patch:
            beside_.from_patch(probe.enter.port, frame, told, trail);
            from_software(nic, frame, told, doubts, outs, trail, 0);
            break;
        case Enter::By::pool:
            nic.from_pool(probe.enter.pool, frame, doubts, passage, trail);
            from_nic(nic, frame, passage, doubts, outs, trail, 0);
            break;
        case Enter::By::host:
            nic.from_pool(subject_.device.pf, frame, doubts, passage, trail);
            from_nic(nic, frame, passage, doubts, outs, trail, 0);
            break;
    }
    std::ranges::sort(outs);
}

// The driver hands on what the NIC took off.
Frame Verifier::as_taken(const Frame& frame, const Nic::Copy& copy) const {
    Frame taken = frame;
    taken.tags = copy.tags;
    if (copy.stripped) taken.tags.insert(cable_.is_single() ? 0 : 1, *copy.stripped);
    return taken;
}

std::optional<Frame> Verifier::given_to_software(const Nic& nic, const Probe& probe) const {
    Doubts doubts;
    Nic::Passage passage;
    if (probe.enter.by == Enter::By::uplink)
        nic.from_wire(probe.frame, doubts, passage);
    else
        nic.from_pool(probe.enter.pool, probe.frame, doubts, passage);
    for (const Nic::Copy& copy : passage.copies)
        if (copy.pool == subject_.device.pf && copy.listens) return as_taken(probe.frame, copy);
    return std::nullopt;
}

void Verifier::from_nic(const Nic& nic, const Frame& frame, const Nic::Passage& passage, Doubts& doubts,
                        std::vector<Out>& outs, Trail* trail, unsigned depth) const {
    if (passage.wire)
        outs.push_back({.port = subject_.device.uplink, .via = subject_.device.uplink, .tags = *passage.wire});
    for (const Nic::Copy& copy : passage.copies) {
        if (copy.pool != subject_.device.pf) {
            const auto vf = vport_of_.find(copy.pool);
            const bool in_nic = vf != vport_of_.end() && subject_.told.vports.contains(vf->second);
            // A VF whose own queues are off will get it when they are on.
            if (!in_nic && !copy.listens) continue;
            const std::uint32_t to = in_nic ? vf->second : stray(copy.pool);
            outs.push_back({.port = to, .via = to, .tags = copy.tags});
            continue;
        }
        if (!copy.listens || depth == most_turns) continue;
        const Frame taken = as_taken(frame, copy);
        Software::Told told;
        beside_.from_port(subject_.device.uplink, taken, told, trail);
        from_software(nic, taken, told, doubts, outs, trail, depth + 1);
    }
}

void Verifier::from_software(const Nic& nic, const Frame& frame, const Software::Told& told, Doubts& doubts,
                             std::vector<Out>& outs, Trail* trail, unsigned depth) const {
    for (const Out& out : told.outs) {
        if (out.port != subject_.device.uplink) {
            outs.push_back(out);
            continue;
        }
        Frame sent = frame;
        sent.tags = out.tags;
        Nic::Passage passage;
        nic.from_pool(subject_.device.pf, sent, doubts, passage, trail);
        from_nic(nic, sent, passage, doubts, outs, trail, depth);
    }
}

}  // namespace ivds::offload::verify
