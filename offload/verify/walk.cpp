// SPDX-License-Identifier: Apache-2.0
// One frame through the switch alone, and through NIC and software together.
#include <fmt/format.h>

#include <algorithm>
#include <bit>

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
      cable_(subject.tables, subject.device) {
    for (const auto& [vport, pool] : subject.device.pools) vport_of_[pool] = vport;
    for (const auto& [port, pool] : subject.device.uplinks) uplink_of_[pool] = port;
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
    const std::set<std::uint32_t> targets = find_targets(subject_.tables);
    find_mirrors();
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
        if ((port.mirror_in | port.mirror_drop | (port.mirror_out & ~by_nic_)) != 0)
            say("a mirror watches it that is software's");
        if (port.rate[IVDS_WAY_OUT].ns_per_mib != 0)
            say("what is sent to it has a rate, which the NIC does not hold");
        if ((port.flags & IVDS_PF_TRUNK) != 0) say("vPorts are behind its tags, and the NIC does not look for those");
        if (targets.contains(id)) say("rules redirect to it, and software does not send to it");
        if (!subject_.device.pools.contains(id)) say("software was told that the NIC carries it, and it is no VF");
    }
}

std::uint32_t Verifier::home(const Frame& frame) const {
    const std::uint32_t pf = subject_.device.uplink;
    const Tags& tags = frame.tags;
    if (cable_.is_single() || tags.size() < 2 || tags[0].tpid != cable_.outer_tpid() || tags[1].tpid != cable_.tpid())
        return pf;
    for (const auto& [port, pool] : subject_.device.uplinks)
        if (subject_.tables.vvlans.contains({port, tags[0].vid(), tags[1].vid()})) return port;
    return pf;
}

// A mirror to a vPort in the NIC is the NIC's to make: software has no way there. What such a mirror asks for and the
// NIC does not do is a policy.
void Verifier::find_mirrors() {
    const auto& told = subject_.told.vports;
    for (const auto& [session, mirror] : subject_.tables.mirrors)
        if (mirror.kind == IVDS_MIRROR_SPAN && told.contains(mirror.target)) by_nic_ |= 1U << session;
    if (by_nic_ == 0) return;
    const auto say = [&](std::uint32_t session, std::string_view what) {
        const std::uint32_t target = subject_.tables.mirrors.at(session).target;
        policies_.emplace_back(target, fmt::format("mirror session {} copies to it, and {}", session, what));
    };
    std::uint32_t by_rules = 0;
    for (const auto& [id, list] : subject_.tables.acls)
        for (const auto& [key, rule] : list->rules) by_rules |= rule.mirrors;
    std::set<std::uint32_t> targets;
    for (const auto& [session, mirror] : subject_.tables.mirrors) {
        const std::uint32_t bit = 1U << session;
        if ((by_nic_ & bit) == 0) continue;
        if (mirror.filter != 0 || mirror.snap_bytes != 0 || mirror.sample > 1) say(session, "not all, or cut");
        if ((by_rules & bit) != 0) say(session, "a rule names it");
        if (!targets.insert(mirror.target).second) say(session, "so does another");
        for (const auto& [id, port] : subject_.tables.ports) {
            if (((port.mirror_in | port.mirror_drop) & bit) != 0)
                say(session, fmt::format("of what port {} sends or drops", id));
            if ((port.mirror_out & bit) != 0 && !told.contains(id))
                say(session, fmt::format("watches port {}, which is not the NIC's", id));
        }
    }
}

// A frame is copied once for a mirror, as it is sent to the first that it watches.
void Verifier::add_copies(Software::Told& told) const {
    if (by_nic_ == 0) return;
    std::uint32_t made = 0;
    const std::size_t sent = told.outs.size();
    for (std::size_t i = 0; i < sent; ++i) {
        const ivds_port* port = alone_.port(told.outs[i].via);
        if (port == nullptr) continue;
        for (std::uint32_t left = port->mirror_out & by_nic_ & ~made; left != 0; left &= left - 1) {
            const auto session = static_cast<std::uint32_t>(std::countr_zero(left));
            const std::uint32_t target = subject_.tables.mirrors.at(session).target;
            made |= 1U << session;
            told.outs.push_back({.port = target, .via = target, .tags = told.outs[i].tags});
        }
    }
}

bool Verifier::is_mirrored_to(std::uint32_t vport, std::uint32_t instance) const {
    for (std::uint32_t left = by_nic_; left != 0; left &= left - 1) {
        const auto session = static_cast<std::uint32_t>(std::countr_zero(left));
        if (subject_.tables.mirrors.at(session).target != vport) continue;
        for (const auto& [id, port] : subject_.tables.ports)
            if (port.instance == instance && (port.mirror_out >> session & 1U) != 0) return true;
    }
    return false;
}

void Verifier::alone(const Probe& probe, Software::Told& told, Trail* trail) const {
    told.clear();
    switch (probe.enter.by) {
        case Enter::By::uplink:
            alone_.from_port(probe.enter.port == subject_.device.uplink ? home(probe.frame) : probe.enter.port,
                             probe.frame, told, trail);
            break;
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
    add_copies(told);
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
                from_nic(nic, frame, passage, subject_.device.uplink, doubts, outs, trail, 0);
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
            from_nic(nic, frame, passage, subject_.device.uplink, doubts, outs, trail, 0);
            break;
        case Enter::By::host:
            nic.from_pool(subject_.device.pf, frame, doubts, passage, trail);
            from_nic(nic, frame, passage, subject_.device.uplink, doubts, outs, trail, 0);
            break;
    }
    std::ranges::sort(outs);
}

// The driver hands on what the NIC took off, as the first tag.
Frame Verifier::as_taken(const Frame& frame, const Nic::Copy& copy) const {
    Frame taken = frame;
    taken.tags = copy.tags;
    if (copy.stripped) taken.tags.insert(0, *copy.stripped);
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

void Verifier::from_nic(const Nic& nic, const Frame& frame, const Nic::Passage& passage, std::uint32_t sender,
                        Doubts& doubts, std::vector<Out>& outs, Trail* trail, unsigned depth) const {
    if (passage.wire) outs.push_back({.port = sender, .via = sender, .tags = *passage.wire});
    for (const Nic::Copy& copy : passage.copies) {
        const auto uplink = uplink_of_.find(copy.pool);
        if (copy.pool != subject_.device.pf && uplink == uplink_of_.end()) {
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
        beside_.from_port(uplink != uplink_of_.end() ? uplink->second : subject_.device.uplink, taken, told, trail);
        from_software(nic, taken, told, doubts, outs, trail, depth + 1);
    }
}

void Verifier::from_software(const Nic& nic, const Frame& frame, const Software::Told& told, Doubts& doubts,
                             std::vector<Out>& outs, Trail* trail, unsigned depth) const {
    for (const Out& out : told.outs) {
        if (!is_on_wire(out.port)) {
            outs.push_back(out);
            continue;
        }
        Frame sent = frame;
        sent.tags = out.tags;
        Nic::Passage passage;
        const auto vf = subject_.device.uplinks.find(out.port);
        nic.from_pool(vf == subject_.device.uplinks.end() ? subject_.device.pf : vf->second, sent, doubts, passage,
                      trail);
        from_nic(nic, sent, passage, out.port, doubts, outs, trail, depth);
    }
}

}  // namespace ivds::offload::verify
