// SPDX-License-Identifier: Apache-2.0
// Two tags, and VFs that are uplinks of the host's: the NIC's model sorts frames to them, the reference switch is
// behind each, and together they do with every frame what the switch does that has one interface for all. So they do
// at each write of a register on the way from one configuration to another. Whatever the datasheets leave open.
#include "nic_rig.h"  // first: its Outcome is the model's
// clang-format off
#include "draw.h"
#include "reference.h"
#include "tables.h"
// clang-format on

#include <fmt/format.h>
#include <rapidcheck.h>

#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <functional>
#include <map>
#include <set>
#include <stdexcept>
#include <string>
#include <vector>

#include "offload/nic/writer_82599.h"
#include "offload/plan/plan.h"

using namespace ivds;
using namespace ivds::test;
using offload::Device;
using offload::Plan;
using Why = offload::Reason;

namespace {

constexpr std::uint32_t wire = 1;  // the PF's interface; and in what was sent, the cable
constexpr std::uint32_t first_uplink = 2, uplinks = 3, instances = 6;
constexpr std::array<std::uint16_t, 4> vlans{100, 200, 300, 400};  // the last ones are nobody's
constexpr std::array<std::uint16_t, 4> vvlans{10, 20, 30, 40};
constexpr Mac everyone{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr Mac some_group{0x01, 0, 0x5e, 1, 2, 3};
constexpr Mac link_local{0x01, 0x80, 0xc2, 0, 0, 0x0e};
// In what was sent: to a pool that is no uplink's.
constexpr std::uint32_t stray = 0x80000000U;

Device device() {
    Device device{.chip = &offload::i82599::chip(), .uplink = wire, .pf = pf, .pools = {}};
    for (unsigned n = 0; n < uplinks; ++n) device.uplinks[first_uplink + n] = n;
    return device;
}

// An instance as its parts, so that another configuration differs in some of them.
struct Part {
    std::uint32_t uplink = wire;
    std::uint16_t vlan = 0, vvlan = 0, peer = 0;
    bool active = true, plain = false;
    std::array<Mac, 2> macs{};
    std::array<bool, 2> spoof_check{true, true};
};
struct Draft {
    std::uint16_t outer = tpid_c;
    std::array<Part, instances> parts;
};

std::uint16_t host_order(std::uint16_t value) {
    return static_cast<std::uint16_t>(value >> 8 | value << 8);
}

Mac any_mac() {
    return vmac(below(9U));
}
Part draw_part() {
    return {.uplink = wire + below(uplinks + 1),
            .vlan = vlans[below(3U)],
            .vvlan = vvlans[below(3U)],
            .peer = one_in(6) ? vlans[below(3U)] : std::uint16_t{0},
            .active = !one_in(12),
            .plain = one_in(20),
            .macs = {any_mac(), any_mac()},
            .spoof_check = {!one_in(4), !one_in(4)}};
}
Draft draw() {
    Draft draft{.outer = one_in(10) ? tpid_c : one_in(3) ? tpid_q : tpid_s, .parts = {}};
    for (Part& part : draft.parts) part = draw_part();
    return draft;
}
Draft changed(Draft draft) {
    for (unsigned n = 1 + below(3U); n > 0; --n) draft.parts[below(instances)] = draw_part();
    return draft;
}

// A pair of VLAN and V.VLAN is of the first instance that asks for it; seldom also of another uplink's.
World make(const Draft& draft) {
    World world;
    for (std::uint32_t id = wire; id <= uplinks + 1; ++id) world.uplink(id, 9216, draft.outer);
    std::map<std::array<std::uint16_t, 2>, std::uint32_t> owners;
    std::uint32_t id = 0;
    for (const Part& part : draft.parts) {
        ++id;
        const auto [owner, first] = owners.try_emplace({part.vlan, part.vvlan}, part.uplink);
        if (!first && (owner->second == part.uplink || id % 4 != 0)) continue;
        world.instance(id, part.uplink, part.vlan, part.vvlan);
        if (!part.active) world.instances.at(id).flags &= static_cast<__u16>(~IVDS_IF_ACTIVE);
        if (part.peer != 0 && owners.try_emplace({part.peer, part.vvlan}, part.uplink).second)
            world.peer_vlan(id, part.peer);
        if (part.plain && !world.vvlans.contains({part.uplink, part.vlan, 0})) world.plain_access(id);
        for (std::uint32_t n = 0; n < part.macs.size(); ++n) {
            if (world.fdb.contains({id, part.macs.at(n)})) continue;
            const std::uint32_t port = 10 * id + n;
            world.vport(port, id, part.macs.at(n));
            if (!part.spoof_check.at(n)) world.ports.at(port).flags &= static_cast<__u16>(~IVDS_PF_ANTI_SPOOF);
        }
        const Mac remote = vmac(id);
        if (!world.fdb.contains({id, remote})) world.remote_mac(id, remote, part.vlan);
    }
    return world;
}

Plan plan_of(const World& world, const offload::NicState& present) {
    auto plan = offload::make_plan(snapshot_of(world), device(), {}, present);
    if (!plan) RC_FAIL(plan.error().text());
    return *plan;
}
bool is_sorted(const Plan& plan, std::uint32_t uplink) {
    return uplink == wire || plan.uplinks.at(uplink).reason == Why::sorted;
}

struct Probe {
    std::uint32_t port = 0;
    Bytes frame{};
};

Probe draw_probe(const World& world) {
    std::vector<std::uint32_t> ports(4, wire);
    for (const auto& [id, port] : world.ports)
        if (port.kind == IVDS_PORT_VPORT) ports.push_back(id);
    const std::uint32_t port = *rc::gen::elementOf(ports);
    const std::array<Mac, 4> special{everyone, everyone, some_group, link_local};
    const Mac dst = one_in(3) ? special[below(4U)] : any_mac();
    Mac src = any_mac();
    if (port != wire && !one_in(10)) std::ranges::copy(world.ports.at(port).vmac, src.begin());
    Packet packet = eth(dst, src);
    const std::uint16_t outer = host_order(world.ports.at(wire).outer_tpid_be);
    const auto pcp = static_cast<std::uint8_t>(below(8));
    if (port == wire && !world.vvlans.empty() && !one_in(3)) {
        const auto& [key, instance] = *std::next(world.vvlans.begin(), below(static_cast<int>(world.vvlans.size())));
        packet = packet / tag(outer, static_cast<std::uint16_t>(key[1]), pcp);
        if (key[2] != 0) packet = packet / tag(tpid_c, static_cast<std::uint16_t>(key[2]));
    } else if (port == wire && !one_in(12)) {
        if (!one_in(12)) packet = packet / tag(one_in(12) ? tpid_s : outer, vlans[below(4U)], pcp);
        if (!one_in(8))
            packet = packet / tag(one_in(12) ? tpid_s : tpid_c, one_in(20) ? std::uint16_t{0} : vvlans[below(4U)]);
    }
    if (one_in(8)) packet = packet / tag(tpid_c, 7);
    return {port, packet / ip4_udp(one_in(6) ? 1700 : 46)};
}

// The uplink that a frame from the wire is registered at; none: the PF's.
std::uint32_t home(const World& world, const Plan& plan, const Bytes& frame) {
    const Parsed parsed = parse(frame);
    const ivds_port& port = world.ports.at(wire);
    if (parsed.tags.size() < 2 || parsed.tags[0].tpid != host_order(port.outer_tpid_be) ||
        parsed.tags[1].tpid != host_order(port.inner_tpid_be))
        return wire;
    for (std::uint32_t id = first_uplink; id < first_uplink + uplinks; ++id)
        if (is_sorted(plan, id) && world.vvlans.contains({id, parsed.tags[0].vid, parsed.tags[1].vid})) return id;
    return wire;
}

// A V.VLAN's tag alone may be one to the NIC (Limit::inner_alone). It is the host's, whose VLANs its
// driver lets in, and nobody here has any.
void leave_out_host(std::vector<Sent>& sent, const World& world, const Probe& probe) {
    const Parsed parsed = parse(probe.frame);
    if (host_order(world.ports.at(wire).outer_tpid_be) != tpid_c && !parsed.tags.empty() &&
        parsed.tags[0].tpid == tpid_c)
        std::erase_if(sent, [](const Sent& copy) { return copy.port == to_host; });
}

// With one interface for all uplinks of the plan.
std::vector<Sent> alone(const World& world, const Plan& plan, const Probe& probe) {
    if (!world.ports.contains(probe.port)) return {};
    const std::uint32_t port = probe.port == wire ? home(world, plan, probe.frame) : probe.port;
    std::vector<Sent> sent = ReferenceSwitch(world).forward(port, probe.frame).sent;
    std::erase_if(sent, [&](const Sent& copy) {
        return copy.port >= first_uplink && copy.port < first_uplink + uplinks && !is_sorted(plan, copy.port);
    });
    for (Sent& copy : sent)
        if (copy.port >= wire && copy.port < first_uplink + uplinks) copy.port = wire;
    leave_out_host(sent, world, probe);
    std::ranges::sort(sent);
    return sent;
}

// The NIC with the reference switch behind the PF and behind each VF that is an uplink.
class Sorting {
public:
    Sorting(const Uncertain& uncertain, std::uint16_t outer)
        : nic_({.uncertain = uncertain,
                .switching = false,
                .two_tags = true,
                .pools_on = false,
                .fctrl = reg::fctrl::bam.put() | reg::fctrl::mpe.put() | reg::fctrl::upe.put()}),
          registers_(nic_.model),
          writer_(registers_, pf, {.two = true, .outer_tpid = outer}) {
        nic_.put(Reg::exvet, reg::exvet::vet_ext.put(outer));
        // As drivers of VFs do, whatever their tags.
        for (unsigned queue = 0; queue < 2 * pf; ++queue)
            nic_.put(Reg::rxdctl, queue, reg::rxdctl::enable.put() | reg::rxdctl::vme.put());
        nic_.set_bits(Reg::hlreg0, 0, reg::hlreg0::jumboen.put());
        nic_.put(Reg::maxfrs, reg::maxfrs::mfs.put(reg::chip().max_frame));
        must(writer_.check_setup());
        must(writer_.clear());
    }

    void bring(World world) { next_ = std::move(world); }
    void apply(const offload::Step& step) {
        if (const auto* told = std::get_if<offload::Software>(&step); told != nullptr && told->take_tables)
            world_ = next_;
        must(writer_.apply(step));
        nic_.model.check_settled();
    }
    void apply(const std::vector<offload::Step>& steps) {
        for (const offload::Step& step : steps) apply(step);
    }
    void watch(std::function<void()> after_write) { registers_.after_write = std::move(after_write); }
    [[nodiscard]] offload::NicState read() {
        auto state = writer_.read();
        if (!state) throw std::runtime_error(state.error().text());
        return std::move(*state);
    }
    [[nodiscard]] std::string violation() const {
        const auto violations = nic_.model.violations();
        return violations.empty() ? "" : violations.front().what;
    }

    [[nodiscard]] std::vector<Sent> send(const Probe& probe) {
        std::vector<Sent> sent;
        if (probe.port == wire)
            for (const Delivery& delivery : nic_.wire(probe.frame).deliveries) {
                const std::uint32_t port = delivery.pool == pf       ? wire
                                           : delivery.pool < uplinks ? first_uplink + delivery.pool
                                                                     : stray | delivery.pool;
                if ((port & stray) != 0)
                    sent.push_back({port, delivery.bytes});
                else
                    to_software(port, delivery.bytes, sent);
            }
        else
            to_software(probe.port, probe.frame, sent);
        leave_out_host(sent, world_, probe);
        std::ranges::sort(sent);
        return sent;
    }

private:
    void to_software(std::uint32_t port, const Bytes& frame, std::vector<Sent>& sent) {
        if (!world_.ports.contains(port)) return;
        for (const Sent& copy : ReferenceSwitch(world_).forward(port, frame).sent) {
            if (copy.port < wire || copy.port >= first_uplink + uplinks) {
                sent.push_back(copy);
                continue;
            }
            const unsigned pool = copy.port == wire ? pf : copy.port - first_uplink;
            for (const Delivery& delivery : nic_.send(pool, copy.bytes).deliveries)
                sent.push_back({delivery.to_wire ? wire : stray | delivery.pool, delivery.bytes});
        }
    }

    Nic nic_;
    Watched registers_;
    Writer82599 writer_;
    World next_;
    World world_;
};

std::string words(const std::vector<Sent>& sent) {
    std::string out;
    for (const Sent& copy : sent) out += fmt::format("  {}: {}\n", copy.port, to_hex(copy.bytes).substr(0, 60));
    return out;
}
std::string about(const Probe& probe, const std::vector<Sent>& expected, const std::vector<Sent>& got,
                  const World& world) {
    return fmt::format("from {}: {}\nreference:\n{}together:\n{}{}", probe.port, to_hex(probe.frame).substr(0, 60),
                       words(expected), words(got), world.text());
}

}  // namespace

TEST_CASE("with two tags the NIC sorts to uplinks, and together they do what the switch does",
          "[unit][R98][R110][R113][R30][R31][R187]") {
    unsigned agreed = 0;
    unsigned sorted = 0;
    unsigned by_vf = 0;
    CHECK(rc::check("worlds and frames", [&] {
        const Draft draft = draw();
        const World world = make(draft);
        const Plan plan = plan_of(world, {});
        Sorting together(any_doubts(), draft.outer);
        together.bring(world);
        together.apply(plan.steps);
        RC_ASSERT(together.read() == plan.state);
        sorted += static_cast<unsigned>(plan.state.uplinks.size());
        for (unsigned n = 0; n < 40; ++n) {
            const Probe probe = draw_probe(world);
            const std::vector<Sent> expected = alone(world, plan, probe);
            const std::vector<Sent> got = together.send(probe);
            if (expected != got) RC_FAIL("disagree " + about(probe, expected, got, world));
            ++agreed;
            if (!got.empty() && probe.port == wire && home(world, plan, probe.frame) != wire) ++by_vf;
        }
        RC_ASSERT(together.violation() == "");
    }));
    fmt::print("two tags: {} frames agreed, {} uplinks sorted to, {} frames that came by one\n", agreed, sorted,
               by_vf);
    CHECK(sorted > 100);
    CHECK(by_vf > 60);
}

TEST_CASE("with two tags no step to another configuration loses, doubles or misleads a frame", "[unit][R105]") {
    unsigned steps = 0;
    unsigned held = 0;
    CHECK(rc::check("changes", [&] {
        const Draft draft = draw();
        Draft other = changed(draft);
        const World before = make(draft);
        const World after = make(other);
        const Plan now = plan_of(before, {});
        const Plan next = plan_of(after, now.state);
        Sorting together(any_doubts(), draft.outer);
        together.bring(before);
        together.apply(now.steps);
        together.bring(after);
        struct Case {
            Probe probe{};
            std::vector<Sent> before{}, after{};
            bool stays = false;
        };
        std::vector<Case> cases;
        for (unsigned n = 0; n < 24; ++n) {
            Case one{.probe = draw_probe(n % 2 == 0 ? before : after)};
            one.before = alone(before, now, one.probe);
            one.after = alone(after, next, one.probe);
            const auto uplink = [&](const World& world, const Plan& plan) {
                if (one.probe.port == wire) return home(world, plan, one.probe.frame);
                const auto port = world.ports.find(one.probe.port);
                const auto in =
                    port == world.ports.end() ? world.instances.end() : world.instances.find(port->second.instance);
                return in == world.instances.end() ? 0U : in->second.uplink;
            };
            const std::uint32_t at = uplink(before, now);
            one.stays = one.before == one.after && at != 0 && at == uplink(after, next) && is_sorted(now, at) &&
                        is_sorted(next, at);
            cases.push_back(std::move(one));
        }
        std::string when = "at first";
        const auto check = [&](const Case& one) {
            const std::vector<Sent> got = together.send(one.probe);
            const auto fail = [&](const char* what) {
                RC_FAIL(fmt::format("{} {}\nbefore:\n{}{}\nafter:\n{}", what, when,
                                    about(one.probe, one.before, got, before), words(one.after), after.text()));
            };
            if (one.stays) {
                ++held;
                if (got != one.before) fail("not as before and after");
                return;
            }
            for (const Sent& copy : got) {
                const auto times = [&](const std::vector<Sent>& sent) { return std::ranges::count(sent, copy); };
                if (times(got) > std::max(times(one.before), times(one.after))) fail("too much");
            }
        };
        std::size_t turn = 0;
        together.watch([&] {
            for (unsigned n = 0; n < 2; ++n, ++turn) check(cases[turn % cases.size()]);
        });
        for (const offload::Step& step : next.steps) {
            when = text(step);
            together.apply(step);
            ++steps;
            for (const Case& one : cases) check(one);
        }
        RC_ASSERT(together.violation() == "");
    }));
    fmt::print("two tags, from one configuration to another: {} steps, {} frames that had to pass\n", steps, held);
    CHECK(steps > 100);
    CHECK(held > 1000);
}
