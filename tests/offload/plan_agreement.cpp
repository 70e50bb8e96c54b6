// SPDX-License-Identifier: Apache-2.0
// Random worlds: the NIC's model with the reference switch behind its PF does with every frame what the reference
// switch alone does, whatever the datasheets leave open; and on the way from one configuration to another no frame
// leaks, comes twice, or misses a port that it reaches before and after.
//
// What a VF cannot be held to is named (offload::Limit), and such a frame is only followed to where it may not go.
#include <fmt/format.h>
#include <rapidcheck.h>

#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "draw.h"
#include "offload/nic/82599.h"
#include "offload/nic/model_82599.h"
#include "together.h"

using namespace ivds;
using namespace ivds::test;
using offload::Device;
using offload::Limit;
using offload::Plan;

namespace {

constexpr std::uint32_t up = together_uplink;
constexpr unsigned vfs = 7, softs = 4, instances = 3;
constexpr std::uint32_t first_vf = 10, first_soft = 20, trunk = first_soft, behind = 30;
constexpr std::array<std::uint16_t, 4> vvlans{10, 20, 30, 40};  // the last is nobody's
constexpr Mac everyone{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr Mac some_group{0x01, 0, 0x5e, 1, 2, 3};
constexpr Mac link_local{0x01, 0x80, 0xc2, 0, 0, 0x0e};

Mac any_mac() {
    return vmac(below(17U));
}

// A configuration as its parts, so that another differs in some of them.
struct Port {
    bool exists = true;
    std::uint32_t instance = 0;
    Mac mac{};
    bool up = true, spoof_check = true, carry_tags = false, list = false;
    std::uint8_t pcp = 0, dscp = 0;
    std::uint16_t mtu = 1500;
    bool operator==(const Port&) const = default;
};
struct Instance {
    bool active = true, wire = true;
    bool operator==(const Instance&) const = default;
};
struct Entry {
    std::uint32_t instance = 0;
    Mac mac{};
    std::uint32_t port = 0;  // up: remote
    bool learned = false;
    bool operator==(const Entry&) const = default;
};
struct Span {
    bool exists = false;
    std::uint32_t target = 0;
    std::set<std::uint32_t> sources{};
    bool of_senders = false, filters = false;
    bool operator==(const Span&) const = default;
};
struct Draft {
    std::array<Instance, instances> instance;
    std::array<Span, 2> spans;
    std::map<std::uint32_t, Port> ports;
    std::vector<Entry> fdb;
    bool has_trunk = false;
};

std::uint32_t any_instance() {
    return 1 + below(instances);
}
std::uint32_t any_vport() {
    return below(2U) != 0 ? first_vf + below(vfs) : first_soft + below(softs);
}

Port draw_port(std::uint32_t id) {
    return {.exists = !one_in(6),
            .instance = one_in(20) ? 0 : any_instance(),
            .mac = one_in(12) ? any_mac() : vmac(id < first_soft ? id - first_vf : id - first_soft + vfs),
            .up = !one_in(20),
            .spoof_check = !one_in(id < first_soft ? 20 : 6),
            .carry_tags = one_in(20),
            .list = one_in(20),
            .pcp = one_in(4) ? static_cast<std::uint8_t>(below(9)) : std::uint8_t{0},
            .dscp = one_in(20) ? std::uint8_t{11} : std::uint8_t{0},
            .mtu = static_cast<std::uint16_t>(one_in(10) ? 1000 : 1500)};
}
Instance draw_instance() {
    return {.active = !one_in(15), .wire = !one_in(15)};
}
Entry draw_entry() {
    return {.instance = any_instance(),
            .mac = one_in(3) ? any_mac() : vmac(11 + below(6U)),
            .port = one_in(2) ? up : any_vport(),
            .learned = one_in(3)};
}

// Mostly of the kind that a NIC makes.
Span draw_span() {
    Span span{.exists = !one_in(3),
              .target = one_in(20) ? any_vport() : first_vf + below(vfs),
              .sources = {},
              .of_senders = one_in(20),
              .filters = one_in(20)};
    for (unsigned n = one_in(3) ? 2 : 1; n > 0; --n)
        if (const std::uint32_t id = one_in(20) ? any_vport() : first_vf + below(vfs); id != span.target)
            span.sources.insert(id);
    return span;
}

Draft draw() {
    Draft draft;
    for (Span& span : draft.spans) span = draw_span();
    for (Instance& instance : draft.instance) instance = draw_instance();
    for (unsigned n = 0; n < vfs; ++n) draft.ports[first_vf + n] = draw_port(first_vf + n);
    for (unsigned n = 0; n < softs; ++n) draft.ports[first_soft + n] = draw_port(first_soft + n);
    for (unsigned n = below(4U); n > 0; --n) draft.fdb.push_back(draw_entry());
    draft.has_trunk = one_in(4);
    return draft;
}

Draft changed(Draft draft) {
    for (unsigned n = 1 + below(4U); n > 0; --n) {
        switch (below(6U)) {
            case 3:
                draft.spans[below(draft.spans.size())] = draw_span();
                break;
            case 0:
                draft.instance[below(instances)] = draw_instance();
                break;
            case 1:
                draft.fdb.push_back(draw_entry());
                break;
            case 2:
                if (!draft.fdb.empty())
                    draft.fdb.erase(draft.fdb.begin() + below(static_cast<int>(draft.fdb.size())));
                break;
            default: {
                const std::uint32_t id = any_vport();
                draft.ports[id] = draw_port(id);
            }
        }
    }
    return draft;
}

World make(const Draft& draft) {
    World world;
    world.uplink(up, 9216, tpid_c, 0);
    for (unsigned n = 0; n < instances; ++n) {
        const auto& [active, wire] = draft.instance[n];
        const std::uint32_t id = n + 1;
        world.instance(id, up, vvlans[n], 1).single_tag(id);
        ivds_instance& value = world.instances.at(id);
        if (!active) value.flags &= static_cast<__u16>(~IVDS_IF_ACTIVE);
        if (!wire) {
            value.flags &= static_cast<__u16>(~(IVDS_IF_WIRE | IVDS_IF_LEARN_WIRE));
            value.uplink = 0;
            world.vvlans.erase({up, vvlans[n], 0});
        }
    }
    for (const auto& [id, port] : draft.ports) {
        if (!port.exists) continue;
        world.vport(id, port.instance, port.mac);
        ivds_port& value = world.ports.at(id);
        if (!port.up) value.flags &= static_cast<__u16>(~IVDS_PF_UP);
        if (!port.spoof_check) value.flags &= static_cast<__u16>(~IVDS_PF_ANTI_SPOOF);
        if (port.carry_tags) value.flags |= IVDS_PF_CARRY_TAGS;
        if (port.list) {
            world.acls[id].default_action = IVDS_ACL_DROP;
            value.acl_in = id;
        }
        value.pcp = port.pcp;
        value.dscp = port.dscp;
        value.mtu_bytes = port.mtu;
    }
    for (std::uint32_t session = 0; session < draft.spans.size(); ++session) {
        const Span& span = draft.spans[session];
        std::set<std::uint32_t> sources = span.sources;
        std::erase_if(sources, [&](std::uint32_t id) { return !world.ports.contains(id); });
        if (!span.exists || !world.ports.contains(span.target) || sources.empty()) continue;
        world.span(session, span.target, sources);
        if (span.of_senders) world.ports.at(*sources.begin()).mirror_in |= 1U << session;
        if (span.filters) world.mirrors.at(session).snap_bytes = 64;
    }
    if (draft.has_trunk && world.ports.contains(trunk)) world.behind(trunk, 5, behind, 2, vmac(16));
    for (const auto& [instance, mac, port, learned] : draft.fdb) {
        const bool has_wire = world.instances.at(instance).uplink != 0;
        if (port == up && !has_wire) continue;
        if (port != up && !world.ports.contains(port)) continue;
        if (learned && !world.fdb.contains({instance, mac}) && port == up)
            world.learned_plain_mac(instance, mac);
        else if (learned && !world.fdb.contains({instance, mac}))
            world.learned_mac(instance, mac, port, 0);
        else if (port == up && !learned)
            world.remote_mac(instance, mac, 0).fdb.at({instance, mac}).flags |= IVDS_FDB_PLAIN;
        else if (!learned)
            world.local_mac(instance, mac, port);
    }
    return world;
}

Device device() {
    Device device{.chip = &offload::i82599::chip(), .uplink = up, .pf = together_pf, .pools = {}};
    for (unsigned n = 0; n < vfs; ++n) device.pools[first_vf + n] = n;
    return device;
}
Plan plan_of(const World& world, const offload::NicState& present) {
    Device on = device();
    std::erase_if(on.pools, [&](const auto& row) { return !world.ports.contains(row.first); });
    // Whatever queue frames come by, they come or do not. All UDP is to this port.
    offload::Choices choices;
    for (const auto& [id, pool] : on.pools)
        choices.rx_filters[id] = {{.match = {.protocol = 17, .dst_port = 5001}, .queue = 1}};
    auto plan = offload::make_plan(snapshot_of(world), on, choices, present);
    if (!plan) RC_FAIL(plan.error().text());
    return *plan;
}

struct Probe {
    std::uint32_t port = 0;
    Bytes frame;
};

Layer payload() {
    switch (below(4U)) {
        case 0:
            return arp_request(vmac(1));
        case 1:
            return ip4_udp(one_in(2) ? 1200 : 1700);
        default:
            return ip4_udp(46);
    }
}

Packet with_guest_tag(const Packet& packet) {
    return one_in(8) ? packet / tag(one_in(3) ? tpid_s : tpid_c, one_in(3) ? std::uint16_t{0} : std::uint16_t{7})
                     : packet;
}

// An address of the instance's own.
Mac neighbour(const World& world, std::uint32_t port) {
    const std::uint32_t instance = port == up ? any_instance() : world.ports.at(port).instance;
    std::vector<Mac> macs{vmac(0)};
    for (const auto& [key, entry] : world.fdb)
        if (key.instance == instance) macs.push_back(key.mac);
    return *rc::gen::elementOf(macs);
}

Probe draw_probe(const World& world) {
    std::vector<std::uint32_t> ports{up, up, up};
    for (const auto& [id, port] : world.ports)
        if (port.kind == IVDS_PORT_VPORT) ports.push_back(id);
    const std::uint32_t port = *rc::gen::elementOf(ports);
    const unsigned kind = below(16U);
    const Mac dst = kind >= 6   ? neighbour(world, port)
                    : kind == 5 ? link_local
                    : kind >= 3 ? everyone
                    : kind == 2 ? some_group
                                : any_mac();
    const Mac own = [&] {
        Mac out{};
        std::ranges::copy(world.ports.at(port).vmac, out.begin());
        return out;
    }();
    const Mac src = port == up || one_in(10) ? any_mac() : own;
    const Packet begin = eth(dst, src);
    if (port != up) {
        if ((world.ports.at(port).flags & IVDS_PF_TRUNK) != 0 && one_in(2))
            return {port, eth(dst, one_in(4) ? own : vmac(16)) / tag(tpid_c, 5) / payload()};
        return {port, with_guest_tag(begin) / payload()};
    }
    const auto pcp = static_cast<std::uint8_t>(below(8));
    if (one_in(10)) return {port, begin / payload()};
    return {port, with_guest_tag(begin / tag(tpid_c, *rc::gen::elementOf(vvlans), pcp)) / payload()};
}

// The instance that a frame is in; 0: none.
std::uint32_t instance_of(const World& world, const Probe& probe) {
    const Parsed parsed = parse(probe.frame);
    if (probe.port != up) {
        const ivds_port& port = world.ports.at(probe.port);
        if ((port.flags & IVDS_PF_TRUNK) != 0 && !parsed.tags.empty() && parsed.tags[0].vid == 5)
            return world.ports.at(behind).instance;
        return port.instance;
    }
    if (parsed.tags.empty()) return 0;
    const auto found = world.vvlans.find({up, parsed.tags[0].vid, 0});
    return found == world.vvlans.end() ? 0 : found->second;
}

struct Tried {
    std::map<Limit, unsigned> excused;
    unsigned agreed = 0, carried = 0, by_nic = 0, mirrored = 0, filtered = 0;
};

struct Alone {
    std::vector<Sent> sent;
    std::set<std::string> drops;  // reasons
};
// Sessions of mirrors that are the NIC's. What software copies it copies with and without one, and nobody looks.
std::set<std::uint32_t> mirrors_of(const Plan& plan) {
    std::set<std::uint32_t> sessions;
    for (const auto& [session, at] : plan.mirrors)
        if (at.where == offload::Where::hw) sessions.insert(session);
    return sessions;
}
Alone alone(const World& world, const Plan& plan, const Probe& probe) {
    ReferenceSwitch reference(world);
    if (!world.ports.contains(probe.port)) return {};
    Outcome outcome = reference.forward(probe.port, probe.frame);
    Alone out{.sent = std::move(outcome.sent), .drops = {}};
    // The driver lets the VLANs in that the host itself has on the PF: nobody has any here.
    if (probe.port == up && !parse(probe.frame).tags.empty())
        std::erase_if(out.sent, [](const Sent& copy) { return copy.port == to_host; });
    add_copies(out.sent, world, mirrors_of(plan));
    for (const auto& [name, count] : outcome.counts) {
        if (!name.starts_with("drop ")) continue;
        const std::size_t at = name.find(' ', 5) + 1;
        out.drops.insert(name.substr(at, name.rfind(' ') - at));
    }
    return out;
}

// Whether a mirror sends frames of the instance there.
bool is_mirrored_to(const World& world, std::uint32_t port, std::uint32_t instance) {
    return std::ranges::any_of(world.mirrors, [&](const auto& row) {
        return row.second.target == port && std::ranges::any_of(world.ports, [&](const auto& source) {
                   return source.second.instance == instance && (source.second.mirror_out >> row.first & 1U) != 0;
               });
    });
}

// Limit::unknown: a copy of a flooded unicast frame for a vPort that cannot have its address says nothing to its VM.
void leave_out_useless(std::vector<Sent>& sent, const World& world, const Probe& probe) {
    const Parsed parsed = parse(probe.frame);
    const std::uint32_t instance = instance_of(world, probe);
    if ((parsed.dst[0] & 1U) != 0 || world.fdb.contains({instance, parsed.dst})) return;
    std::erase_if(sent, [&](const Sent& copy) {
        if (copy.port == to_host || copy.port == up) return false;
        const Parsed out = parse(copy.bytes);
        const bool is_behind = copy.port == trunk && world.ports.contains(behind) && !out.tags.empty() &&
                               out.tags[0].tpid == tpid_c && out.tags[0].vid == 5;
        const auto port = world.ports.find(is_behind ? behind : copy.port);
        return port != world.ports.end() && (port->second.flags & IVDS_PF_ANTI_SPOOF) != 0;
    });
}

// Why the two may do something else with a frame, if it touches a port in the NIC.
std::optional<Limit> excuse(const World& world, const Probe& probe, const Alone& expected,
                            const std::vector<Sent>& got, const Together& together,
                            const std::map<Mac, offload::NicMac>& macs) {
    const auto in_nic = [&](const Sent& copy) { return together.is_in_nic(copy.port); };
    const std::uint32_t instance = instance_of(world, probe);
    const Parsed parsed = parse(probe.frame);
    const auto known = world.fdb.find({instance, parsed.dst});
    if (probe.port != up && (parsed.dst[0] & 1U) == 0 && known == world.fdb.end() && macs.contains(parsed.dst))
        return Limit::foreign;
    const bool touches = together.is_in_nic(probe.port) || std::ranges::any_of(expected.sent, in_nic) ||
                         std::ranges::any_of(got, in_nic) ||
                         (known != world.fdb.end() && together.is_in_nic(known->second.port));
    const auto source = world.fdb.find({instance, parsed.src});
    const bool forged = source != world.fdb.end() && together.is_in_nic(source->second.port);
    if (probe.port == up && (touches || forged))
        for (const char* reason : {"wire_source", "bad_source", "plain_source"})
            // A VM's source that comes from the wire looks to software as if the NIC had sent it.
            if (expected.drops.contains(reason)) return Limit::wire_source;
    if (!touches) return std::nullopt;
    const std::size_t own_tags = probe.port == up ? 1 : 0;
    if (parsed.tags.size() > own_tags) return Limit::guest_tags;
    for (const char* reason : {"oversize", "oversize_out"})
        if (expected.drops.contains(reason)) return Limit::oversize;
    if (expected.drops.contains("vm_control")) return Limit::control;
    return std::nullopt;
}

std::string words(const std::vector<Sent>& sent) {
    Outcome outcome;
    outcome.sent = sent;
    return outcome.text();
}

// Whatever else happens: a frame stays in its instance, and goes to no port twice.
std::string leak(const std::vector<World>& worlds, const Probe& probe, const std::vector<Sent>& got) {
    std::map<std::uint32_t, unsigned> times;
    for (const Sent& copy : got) {
        // By a trunk for itself and what is behind it; as a member, and as a copy.
        const bool of_mirror = std::ranges::any_of(worlds, [&](const World& world) {
            return world.ports.contains(probe.port) && is_mirrored_to(world, copy.port, instance_of(world, probe));
        });
        if (++times[copy.port] > (copy.port == trunk || of_mirror ? 2U : 1U))
            return fmt::format("twice to {}", copy.port);
        bool may = false;
        for (const World& world : worlds) {
            if (!world.ports.contains(probe.port)) continue;
            const std::uint32_t instance = instance_of(world, probe);
            if (copy.port == to_host) {
                may |= probe.port == up;
            } else if (copy.port == up) {
                const Parsed out = parse(copy.bytes);
                const auto in = world.instances.find(instance);
                may |= in != world.instances.end() && !out.tags.empty() && out.tags[0].vid == in->second.vlan &&
                       probe.port != up;
            } else if (const auto port = world.ports.find(copy.port); port != world.ports.end()) {
                may |= instance != 0 && port->second.instance == instance;
                may |= instance != 0 && is_mirrored_to(world, copy.port, instance);
                may |=
                    copy.port == trunk && world.ports.contains(behind) && world.ports.at(behind).instance == instance;
            }
        }
        if (!may) return fmt::format("leaks to {}", copy.port);
    }
    return {};
}

std::string about(const Probe& probe, const std::vector<Sent>& expected, const std::vector<Sent>& got,
                  const World& world) {
    return fmt::format("from {}: {}\nreference:\n{}together:\n{}{}", probe.port, to_hex(probe.frame).substr(0, 60),
                       words(expected), words(got), world.text());
}

void check_violations(const Together& together) {
    const auto violations = together.violations();
    if (!violations.empty()) RC_FAIL(violations.front());
}

}  // namespace

TEST_CASE("the NIC and software together do what the switch does",
          "[unit][R98][R110][R113][R30][R31][R33][R175][R187][R189]") {
    Tried tried;
    CHECK(rc::check("worlds and frames", [&] {
        const World world = make(draw());
        const Plan plan = plan_of(world, {});
        Together together(any_doubts(), device());
        together.bring(world);
        together.apply(plan.steps);
        for (unsigned n = 0; n < 40; ++n) {
            const Probe probe = draw_probe(world);
            Alone expected = alone(world, plan, probe);
            std::vector<Sent> got = together.send(probe.port, probe.frame);
            const std::string leaked = leak({world}, probe, got);
            if (!leaked.empty()) RC_FAIL(leaked + about(probe, expected.sent, got, world));
            if (const auto why = excuse(world, probe, expected, got, together, plan.state.macs)) {
                ++tried.excused[*why];
                continue;
            }
            leave_out_useless(expected.sent, world, probe);
            leave_out_useless(got, world, probe);
            leave_out_seconds(expected.sent, world);  // Limit::one_copy
            if (expected.sent != got) RC_FAIL("disagree " + about(probe, expected.sent, got, world));
            ++tried.agreed;
            if (!got.empty()) ++tried.carried;
            if (std::ranges::any_of(got, [&](const Sent& copy) { return together.is_in_nic(copy.port); }))
                ++tried.by_nic;
            const std::uint32_t instance = instance_of(world, probe);
            for (const std::uint32_t session : mirrors_of(plan))
                if (std::ranges::find(got, world.mirrors.at(session).target, &Sent::port) != got.end() &&
                    is_mirrored_to(world, world.mirrors.at(session).target, instance))
                    ++tried.mirrored;
        }
        tried.filtered += together.filtered();
        check_violations(together);
    }));
    unsigned excused = 0;
    std::string limits;
    for (const auto& [limit, times] : tried.excused) {
        excused += times;
        limits += fmt::format(" {} {}", name(limit), times);
    }
    fmt::print("one tag: agreed {}, carried {}, by the NIC {}, mirrored {}, by filters {}; excused:{}\n",
               tried.agreed, tried.carried, tried.by_nic, tried.mirrored, tried.filtered, limits);
    CHECK(tried.by_nic > 100);
    CHECK(tried.mirrored > 20);
    CHECK(tried.filtered > 100);
    CHECK(tried.agreed > 3 * excused);  // of many, it is 4.4 times as many
}

namespace {

using Counts = std::map<std::pair<std::uint32_t, Bytes>, unsigned>;
Counts count(const std::vector<Sent>& sent) {
    Counts counts;
    for (const Sent& copy : sent) ++counts[{copy.port, copy.bytes}];
    return counts;
}

// Two configurations, and frames that both are asked about beforehand.
struct Change {
    World before, after;
    Plan now, next;
    std::set<std::uint32_t> moving;  // ports that are not the same before and after
    std::map<Mac, offload::NicMac> macs;
    struct Case {
        Probe probe;
        Alone before, after;
        Counts least, most;
    };
    std::vector<Case> cases;

    Change() {
        const Draft draft = draw();
        before = make(draft);
        after = make(changed(draft));
        now = plan_of(before, {});
        next = plan_of(after, now.state);
        macs = now.state.macs;
        macs.insert(next.state.macs.begin(), next.state.macs.end());
        find_moving();
        for (unsigned n = 0; n < 24; ++n) add(draw_probe(n % 2 == 0 ? before : after));
    }

    void find_moving() {
        for (std::uint32_t id = first_vf; id <= behind; ++id) {
            const auto a = before.ports.find(id);
            const auto b = after.ports.find(id);
            if (a == before.ports.end() || b == after.ports.end()) {
                moving.insert(id);
                continue;
            }
            const auto bytes = [](const ivds_port& port) {
                const auto* begin = reinterpret_cast<const std::uint8_t*>(&port);
                return Bytes(begin, begin + sizeof(port));
            };
            if (bytes(a->second) != bytes(b->second)) moving.insert(id);
        }
        for (unsigned pool = 0; pool < vfs; ++pool) {
            const auto a = now.state.pools.find(pool);
            const auto b = next.state.pools.find(pool);
            const bool is = a != now.state.pools.end();
            const bool will = b != next.state.pools.end();
            if (is != will || (is && !a->second.same_place(b->second))) moving.insert(first_vf + pool);
        }
        // Who gets copies, where a mirror is not the same before and after, or what it watches is not.
        for (std::uint32_t session = 0; session < 2; ++session) {
            std::set<std::uint32_t> targets;
            std::set<std::uint32_t> sources;
            for (const World* world : {&before, &after}) {
                if (const auto mirror = world->mirrors.find(session); mirror != world->mirrors.end())
                    targets.insert(mirror->second.target);
                for (const auto& [id, port] : world->ports)
                    if ((port.mirror_out >> session & 1U) != 0) sources.insert(id);
            }
            const bool moves = targets.size() > 1 ||
                               mirrors_of(now).contains(session) != mirrors_of(next).contains(session) ||
                               std::ranges::any_of(sources, [&](std::uint32_t id) { return moving.contains(id); });
            if (moves) moving.insert(targets.begin(), targets.end());
        }
        if (moving.contains(behind)) moving.insert(trunk);
        if (moving.contains(trunk)) moving.insert(behind);
    }

    void add(const Probe& probe) {
        Case one{.probe = probe,
                 .before = alone(before, now, probe),
                 .after = alone(after, next, probe),
                 .least = {},
                 .most = {}};
        Alone a = one.before;
        Alone b = one.after;
        if (before.ports.contains(probe.port)) leave_out_useless(a.sent, before, probe);
        if (after.ports.contains(probe.port)) leave_out_useless(b.sent, after, probe);
        leave_out_seconds(a.sent, before);
        leave_out_seconds(b.sent, after);
        const Counts in_a = count(a.sent);
        const Counts in_b = count(b.sent);
        one.most = in_a;
        for (const auto& [copy, times] : in_b) {
            one.most[copy] = std::max(one.most[copy], times);
            const auto found = in_a.find(copy);
            const bool stays = !moving.contains(copy.first) && !moving.contains(probe.port);
            if (found != in_a.end() && stays) one.least[copy] = std::min(found->second, times);
        }
        cases.push_back(std::move(one));
    }

    [[nodiscard]] bool is_excused(const Case& one, const std::vector<Sent>& got, const Together& together) const {
        const auto in = [&](const World& world, const Alone& expected) {
            return world.ports.contains(one.probe.port) &&
                   excuse(world, one.probe, expected, got, together, macs).has_value();
        };
        return in(before, one.before) || in(after, one.after);
    }

    void check(const Case& one, Together& together, const std::string& when) const {
        std::vector<Sent> got = together.send(one.probe.port, one.probe.frame);
        const auto fail = [&](const std::string& what) {
            RC_FAIL(fmt::format("{} {}, {}\nbefore:\n{}after:\n{}", what, when,
                                about(one.probe, one.before.sent, got, before), words(one.after.sent), after.text()));
        };
        if (const std::string leaked = leak({before, after}, one.probe, got); !leaked.empty()) fail(leaked);
        if (is_excused(one, got, together)) return;
        if (before.ports.contains(one.probe.port)) leave_out_useless(got, before, one.probe);
        if (after.ports.contains(one.probe.port)) leave_out_useless(got, after, one.probe);
        const Counts counts = count(got);
        for (const auto& [copy, times] : counts) {
            const auto found = one.most.find(copy);
            if (found == one.most.end() || times > found->second) fail(fmt::format("too much to {}", copy.first));
        }
        for (const auto& [copy, times] : one.least) {
            const auto found = counts.find(copy);
            if (found == counts.end() || found->second < times) fail(fmt::format("too little to {}", copy.first));
        }
    }
};

}  // namespace

TEST_CASE("from one configuration to another no frame leaks, doubles or gets lost at any step", "[unit][R105]") {
    unsigned steps = 0;
    unsigned checked = 0;
    CHECK(rc::check("changes", [&] {
        const Change change;
        Together together(any_doubts(), device());
        together.bring(change.before);
        together.apply(change.now.steps);
        together.bring(change.after);
        std::string when = "at first";
        for (const Change::Case& one : change.cases) change.check(one, together, when);
        // At each write of a register some of the frames, in turn; at each step all.
        std::size_t turn = 0;
        together.watch([&] {
            for (unsigned n = 0; n < 2; ++n, ++turn, ++checked)
                change.check(change.cases[turn % change.cases.size()], together, "within " + when);
        });
        for (const offload::Step& step : change.next.steps) {
            when = text(step);
            together.apply(step);
            ++steps;
            for (const Change::Case& one : change.cases) change.check(one, together, "after " + when);
            checked += static_cast<unsigned>(change.cases.size());
        }
        check_violations(together);
    }));
    fmt::print("one tag, from one configuration to another: {} steps, {} frames\n", steps, checked);
    CHECK(steps > 200);
}
