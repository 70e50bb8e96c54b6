// SPDX-License-Identifier: Apache-2.0
// Random worlds: tables and frames drawn at random, on which every rung has to agree with the reference switch.
// RC_PARAMS sets how many and from which seed ("max_success=100000 seed=1"); a failure shrinks, and prints both.
#include <fmt/format.h>
#include <rapidcheck.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstdio>
#include <cstdlib>
#include <iostream>
#include <set>
#include <string>
#include <vector>

#include "rig.h"
#include "world.h"

namespace ivds::test {

namespace {

const std::vector<std::uint16_t> all_tpids = {tpid_c, tpid_s, tpid_q};
const std::vector<std::uint32_t> vports = {2, 3, 4, 5, 6};
const std::vector<std::uint32_t> patches = {8, 9};  // two ends of one
const std::vector<std::uint32_t> subs = {10, 11};   // behind trunks
constexpr std::uint32_t uplinks[] = {1, 7};
constexpr std::uint32_t inspector = 12;
constexpr std::uint32_t fdb_capacity = 8;  // small, so that it fills up

template <class T>
T one_of(std::initializer_list<T> values) {
    return *rc::gen::elementOf(std::vector<T>(values));
}

// True once in `times`; shrinks to false.
bool rarely(std::size_t times) {
    return *rc::gen::weightedElement<bool>({{times - 1, false}, {1, true}});
}

// From `least` to below `end`, whatever RapidCheck's size is.
template <class T>
T between(T least, T end) {
    return *rc::gen::resize(rc::kNominalSize, rc::gen::inRange<T>(least, end));
}

// Each flag once in its number of times not set.
std::uint16_t drawn_flags(std::initializer_list<std::pair<std::uint16_t, std::size_t>> flags) {
    std::uint16_t out = 0;
    for (const auto& [flag, times] : flags) {
        out = static_cast<std::uint16_t>(out | (rarely(times) ? 0 : flag));
    }
    return out;
}

Mac drawn_mac() {
    return mac(0x020000000000U + between<std::uint64_t>(2, 9));
}

// Rules about few values, so that they meet the frames that are drawn, each other, and what cannot be read.
AclRule drawn_rule(std::uint32_t id) {
    AclRule rule;
    rule.id = id;
    rule.action = one_of({IVDS_ACL_ALLOW, IVDS_ACL_ALLOW, IVDS_ACL_DROP});
    if (rule.action == IVDS_ACL_ALLOW && rarely(2)) {
        rule.flags |= IVDS_ACL_STATEFUL;
    }
    if (rarely(6)) {
        rule.flags |= IVDS_ACL_LOG;
    }
    if (rarely(2)) {
        rule.ethertypes = *rc::gen::elementOf(
            std::vector<std::vector<std::uint16_t>>{{0x0800}, {0x86dd}, {0x0806}, {0x88b5}, {0x0800, 0x86dd}});
    }
    if (rarely(4)) {
        rule.src_mac = MacMatch{.value = drawn_mac()};
    }
    if (rarely(4)) {
        rule.dst_mac = MacMatch{.value = drawn_mac(), .mask = one_of({mac(0xffffffffffff), mac(0x010000000000)})};
    }
    if (rarely(3)) {
        rule.src = PrefixMatch{.value = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1},
                               .bits = 96 + one_of<unsigned>({0, 8, 31, 32})};
    }
    if (rarely(4)) {
        rule.dst = PrefixMatch{.value = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 2},
                               .bits = one_of<unsigned>({0, 96, 128})};
    }
    if (rarely(2)) {
        rule.proto = one_of<std::uint8_t>({1, 6, 17, 17, 58, 0});
    }
    if (rarely(3)) {
        rule.sports = {{one_of<std::uint16_t>({0, 1, 4096}), one_of<std::uint16_t>({4096, 5001, 65535})}};
    }
    if (rarely(3)) {
        rule.dports = {{5001, 5001}, {7, 9}};
    }
    if (rarely(6)) {
        rule.icmp_type = one_of<std::uint8_t>({8, 135});
    }
    if (rarely(6)) {
        rule.tcp_flags = FlagsMatch{.value = 0x02, .mask = one_of<std::uint8_t>({0x02, 0x12})};
    }
    if (rarely(20)) {
        rule.ethertypes = {0x86dd};
        rule.proto = 58;
        rule.dst = std::nullopt;
        rule.icmp_type = *rc::gen::elementOf(std::vector<std::optional<std::uint8_t>>{std::nullopt, 135, 136});
        rule.nd_target = PrefixMatch{.value = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2},
                                     .bits = one_of<unsigned>({0, 10, 127, 128})};
        rule.flags &= static_cast<std::uint8_t>(~IVDS_ACL_STATEFUL);
    }
    return rule;
}

// Whether plain hosts can be in the instance at all: no outer TPID 0x9100 (abi.h, IVDS_IF_PLAIN_OUT).
bool speaks_plain(const World& world, std::uint32_t instance) {
    return world.ports.at(world.instances.at(instance).uplink).outer_tpid_be != __builtin_bswap16(tpid_q);
}

World drawn_world() {
    World world;
    for (const std::uint32_t id : uplinks) {
        world.uplink(id, one_of<std::uint16_t>({9216, 1508, 1507, 108}), *rc::gen::elementOf(all_tpids),
                     *rc::gen::elementOf(all_tpids));
        ivds_port& port = world.ports.at(id);
        port.flags = drawn_flags({{IVDS_PF_PLAIN_DROP, 2}, {IVDS_PF_UP, 6}, {IVDS_PF_XDP_TARGET, 4}});
        port.fdb_limit = one_of<std::uint32_t>({16, 0, 1, 2});
    }
    for (std::uint32_t id = 1; id <= 3; ++id) {
        world.instance(id, one_of<std::uint32_t>({1, 1, 7, 0}), one_of<std::uint16_t>({10, 20}),
                       one_of<std::uint16_t>({100, 200}));
        ivds_instance& instance = world.instances.at(id);
        instance.mtu_bytes = one_of<std::uint16_t>({9000, 1500, 100});
        instance.fdb_limit = one_of<std::uint32_t>({16, 0, 1, 3});
        if (instance.uplink != 0) {
            for (int i = between(0, 3); i > 0; --i) {
                world.peer_vlan(id, static_cast<std::uint16_t>(30 + i));
            }
            instance.flags = drawn_flags({{IVDS_IF_ACTIVE, 8}, {IVDS_IF_WIRE, 6}, {IVDS_IF_LEARN_WIRE, 3}});
            if (rarely(3)) {
                const std::uint16_t own = instance.vlan;
                for (int i = between(1, 3); i > 0; --i) {
                    world.peer_rate(id, one_of<std::uint16_t>({own, own, 31, 32, 20}),
                                    one_of<ivds_way>({IVDS_WAY_IN, IVDS_WAY_IN, IVDS_WAY_OUT}));
                }
            }
            if (speaks_plain(world, id) && rarely(3)) {
                world.plain_access(id);
            } else if (speaks_plain(world, id) && instance.peer_vlans[0] == 0 && rarely(4)) {
                world.single_tag(id);
            }
            if (rarely(4)) {
                instance.flags |= IVDS_IF_SKIP_OWN;
            }
            if (rarely(4)) {
                instance.flags |= IVDS_IF_REGISTERED;
            }
        }
    }
    for (const std::uint32_t id : uplinks) {
        const bool has_two_tags = std::ranges::any_of(
            world.instances, [&](const auto& row) { return row.second.uplink == id && row.second.vvlan != 0; });
        if (!has_two_tags && rarely(2)) {
            world.ports.at(id).inner_tpid_be = 0;
        }
    }
    for (const std::uint32_t id : vports) {
        world.vport(id, rarely(10) ? 0 : one_of<std::uint32_t>({1, 1, 1, 2, 3}), drawn_mac());
        ivds_port& port = world.ports.at(id);
        port.flags =
            drawn_flags({{IVDS_PF_ANTI_SPOOF, 2}, {IVDS_PF_CARRY_TAGS, 2}, {IVDS_PF_UP, 6}, {IVDS_PF_XDP_TARGET, 4}});
        port.mtu_bytes = one_of<std::uint16_t>({9000, 1500, 100, 46});
        port.flow_limit = one_of<std::uint32_t>({1024, 1024, 0, 1, 2, 3});
        if (rarely(6)) {
            world.rate(id, one_of<ivds_way>({IVDS_WAY_IN, IVDS_WAY_OUT}));
        }
        port.fdb_limit = one_of<std::uint32_t>({16, 0, 1, 2});
        if (rarely(4)) {
            port.pcp = one_of<std::uint8_t>({5, IVDS_PCP_KEEP, IVDS_PCP_KEEP});
            port.dscp = one_of<std::uint8_t>({0, 1, 1 + 46, 1 + 63});
        }
        if (rarely(20)) {
            port = ivds_port{};
        }
        if (rarely(30)) {
            world.strangers.insert(id);
            world.ports.at(id).flags &= static_cast<std::uint16_t>(~IVDS_PF_UP);
        }
    }
    if (rarely(2)) {
        world.patch(patches[0], one_of<std::uint32_t>({1, 1, 1, 2}), patches[1], one_of<std::uint32_t>({2, 2, 3, 3}));
        for (const std::uint32_t id : patches) {
            world.ports.at(id).flags = drawn_flags({{IVDS_PF_UP, 8}, {IVDS_PF_CARRY_TAGS, 2}});
            world.ports.at(id).mtu_bytes = one_of<std::uint16_t>({9000, 100});
        }
        if (rarely(4)) {
            world.ports.at(patches[0]).peer = 3;
        }
    }
    for (const std::uint32_t id : subs) {
        const std::uint32_t trunk = *rc::gen::elementOf(vports);
        const std::uint16_t vid = id == subs[0] ? 5 : 100;
        if (!rarely(3) || world.ports.at(trunk).kind != IVDS_PORT_VPORT || world.strangers.contains(trunk)) {
            continue;
        }
        world.behind(trunk, vid, id, one_of<std::uint32_t>({1, 1, 2, 3}), drawn_mac());
        ivds_port& port = world.ports.at(id);
        port.flags = drawn_flags({{IVDS_PF_ANTI_SPOOF, 2}, {IVDS_PF_CARRY_TAGS, 2}, {IVDS_PF_UP, 8}});
        port.flow_limit = one_of<std::uint32_t>({1024, 0, 2});
        port.pcp = one_of<std::uint8_t>({0, IVDS_PCP_KEEP});
        port.dscp = one_of<std::uint8_t>({0, 0, 1 + 46});
    }
    // Which member of a pool has a flow is its hash's to say: one that is up is all that worlds have.
    for (const std::uint32_t id : {1U, 2U}) {
        std::vector<std::uint32_t>& members = world.pools[id];
        for (const std::uint32_t vport : vports) {
            const bool is_up = (world.ports.at(vport).flags & IVDS_PF_UP) != 0;
            const bool has_one = std::ranges::any_of(
                members, [&](std::uint32_t member) { return (world.ports.at(member).flags & IVDS_PF_UP) != 0; });
            if (!(is_up && (has_one || id == 2)) && rarely(2)) {
                members.push_back(vport);
            }
        }
    }
    std::vector<std::uint32_t> with_lists = vports;
    if (world.ports.contains(patches[0])) {
        // Twice: what goes through a patch is rare enough.
        for (int i = 0; i < 2; ++i) {
            with_lists.insert(with_lists.end(), patches.begin(), patches.end());
        }
    }
    std::ranges::copy_if(subs, std::back_inserter(with_lists),
                         [&](std::uint32_t id) { return world.ports.contains(id); });
    if (rarely(2)) {
        world.inspector(inspector);
        ivds_port& port = world.ports.at(inspector);
        port.flags = drawn_flags({{IVDS_PF_UP, 8}, {IVDS_PF_FAIL_OPEN, 2}});
        port.queue = one_of<std::uint32_t>({1000, 1000, 1});
        if (rarely(3)) {
            world.listening.clear();
        }
        for (auto& [id, at] : world.ports) {
            if ((at.kind == IVDS_PORT_VPORT || at.kind == IVDS_PORT_SUB) && !world.strangers.contains(id) &&
                rarely(3)) {
                at.inspector = inspector;
            }
        }
    }
    for (std::uint32_t id = between(0, 6); id > 0; --id) {
        Acl& acl = world.acls[id];
        const bool is_in = rarely(2);
        acl.default_action = one_of({IVDS_ACL_ALLOW, IVDS_ACL_ALLOW, IVDS_ACL_DROP});
        for (std::uint32_t rule = between(0, 6); rule > 0; --rule) {
            acl.rules.push_back(drawn_rule(10 * id + rule));
            if (is_in && rarely(4)) {
                acl.rules.back().action = IVDS_ACL_REDIRECT;
                acl.rules.back().target =
                    one_of<std::uint32_t>({2, 3, 4, subs[0], patches[0], patches[0], patches[0], patches[1],
                                           IVDS_TARGET_POOL | 1, IVDS_TARGET_POOL | 2, IVDS_TARGET_POOL | 2});
            }
        }
        if (is_in && world.ports.contains(patches[0]) && rarely(3)) {
            AclRule all;
            all.id = 10 * id + 9;
            all.action = IVDS_ACL_REDIRECT;
            all.target = one_of<std::uint32_t>({patches[0], patches[0], patches[1]});
            acl.rules.push_back(all);
        }
        ivds_port& port = world.ports.at(*rc::gen::elementOf(with_lists));
        (is_in ? port.acl_in : port.acl_out) = port.kind != IVDS_PORT_NONE ? id : 0;
    }
    for (int i = between(0, 5); i > 0; --i) {
        const std::uint32_t instance = one_of<std::uint32_t>({1, 2, 3});
        const Mac address = drawn_mac();
        const std::uint32_t uplink = world.instances.at(instance).uplink;
        const bool is_remote = uplink != 0 && rarely(2);
        const std::uint32_t port = is_remote ? uplink : *rc::gen::elementOf(vports);
        const std::uint16_t vlan = is_remote ? one_of<std::uint16_t>({0, 10, 31}) : std::uint16_t{0};
        if (is_remote && speaks_plain(world, instance) && rarely(3)) {
            world.learned_plain_mac(instance, address);
        } else if (rarely(2)) {
            world.learned_mac(instance, address, port, vlan);
        } else if (is_remote && rarely(2)) {
            world.moved_mac(instance, address, vlan, rarely(4));
        } else {
            world.local_mac(instance, address, port);
            world.fdb.at({instance, address}).vlan = vlan;
        }
    }
    for (int i = between(0, 5); i > 0; --i) {
        world.answers(one_of<std::uint32_t>({1, 1, 2, 3}), one_of<std::uint8_t>({1, 2, 2, 3}), drawn_mac());
    }
    while (world.fdb.size() > fdb_capacity) {
        world.fdb.erase(std::prev(world.fdb.end()));
    }
    return world;
}

Mac drawn_destination() {
    return rarely(4)
               ? one_of({mac(0xffffffffffff), mac(0x333300000001), mac(0x0180c2000003), mac(0x0180c2000010), Mac{}})
               : drawn_mac();
}

Mac drawn_source(const World& world, std::uint32_t port) {
    if (rarely(12)) {
        return one_of({Mac{}, mac(0x030000000001)});
    }
    Mac vmac{};
    std::ranges::copy(world.ports.at(port).vmac, vmac.begin());
    return vmac != Mac{} && !rarely(3) ? vmac : drawn_mac();
}

std::uint16_t drawn_vid() {
    return one_of<std::uint16_t>({0, 5, 10, 20, 31, 100, 200, 4095});
}

// IP and ARP whole, in pieces, and broken. A test run takes no IP frame that is shorter than its header.
Layer drawn_net(std::size_t l3) {
    Layer layer = *rc::gen::element(
        ip4_tcp(l3), ip4_udp(l3), ip4_tcp(l3, 0x02), ip4_tcp(l3, 0x11), ip4_echo(8, 7),
        ip6_neighbour(one_of<std::uint8_t>({135, 135, 136, 137, 128}), one_of<std::uint8_t>({2, 3})),
        arp_request(drawn_mac()));
    const std::size_t at = between<std::size_t>(0, 44);
    if (rarely(2) && at < layer.bytes.size()) {
        layer.bytes[at] = one_of<std::uint8_t>({0, 1, 6, 17, 44, 58, 0x45, 0x4f, 0x60, 0xff});
    }
    if (rarely(4)) {
        layer.bytes.resize(std::min<std::size_t>(layer.bytes.size(), between<std::size_t>(40, 60)));
    }
    return layer;
}

// Who has an address: whole, or with a byte of it changed.
Layer drawn_question(const Mac& asker) {
    Layer layer = rarely(2) ? arp_request(asker) : ip6_question(asker, one_of<std::uint8_t>({2, 2, 3}));
    if (rarely(4)) {
        layer.bytes[between<std::size_t>(0, layer.bytes.size())] = one_of<std::uint8_t>({0, 1, 2, 0x60, 0xff});
    }
    return layer;
}

Step drawn_step(const World& world) {
    Step step{.port = between<std::uint32_t>(1, 8)};
    const Mac source = drawn_source(world, step.port);
    Packet packet = eth(drawn_destination(), source);
    const ivds_port& port = world.ports.at(step.port);
    const bool asks = rarely(6);
    if (asks && !rarely(6)) {
        packet = eth(mac(0xffffffffffff), source);
    }
    int tags = *rc::gen::element(0, 0, 0, 1, 1, 2, 3, 4);
    if (port.kind == IVDS_PORT_UPLINK && rarely(4)) {
        packet = packet / tag(__builtin_bswap16(port.outer_tpid_be), one_of<std::uint16_t>({10, 20}));
        tags = *rc::gen::element(0, 0, 0, 1);
    } else if (port.kind == IVDS_PORT_UPLINK && !rarely(3)) {
        packet = packet / tag(__builtin_bswap16(port.outer_tpid_be), one_of<std::uint16_t>({10, 20, 31, 32})) /
                 tag(__builtin_bswap16(port.inner_tpid_be), one_of<std::uint16_t>({100, 200}),
                     one_of<std::uint8_t>({0, 5}), rarely(4));
        tags = *rc::gen::element(0, 0, 1, 2);
    }
    for (int i = 0; i < tags; ++i) {
        packet = packet / tag(*rc::gen::elementOf(all_tpids), drawn_vid(), one_of<std::uint8_t>({0, 5}));
    }
    const std::size_t l3 = one_of<std::size_t>({46, 47, 100, 101, 1500, 1501});
    packet = packet / (asks         ? drawn_question(source)
                       : rarely(10) ? pause()
                       : rarely(3)  ? raw(0x88b5, l3)
                       : rarely(2)  ? ip4_udp(l3)
                                    : drawn_net(l3));
    if (rarely(10)) {
        // A test run refuses an IPv4 frame that is too short for its header.
        packet = (eth(mac(0x020000000002), mac(0x020000000003)) / tag(*rc::gen::elementOf(all_tpids), drawn_vid()) /
                  tag(*rc::gen::elementOf(all_tpids), drawn_vid()) /
                  tag(*rc::gen::elementOf(all_tpids), drawn_vid()) / raw(0x88b5, 8))
                     .sized(between<std::size_t>(14, 34));
    }
    step.frame = packet;
    return step;
}

// What an inspector may send: the frame as one of a vPort's, with or without reason.
Step drawn_answer(const World& world, const Step& step) {
    Step answer{.port = inspector};
    const std::uint32_t port =
        rarely(3) || world.ports.at(step.port).inspector == 0 ? between<std::uint32_t>(0, 14) : step.port;
    const auto verdict = one_of<unsigned>({IVDS_INSPECT_PASS, IVDS_INSPECT_PASS, IVDS_INSPECT_PASS, IVDS_INSPECT_PASS,
                                           IVDS_INSPECT_BLOCK, IVDS_INSPECT_HELLO});
    answer.frame.assign(step.frame.begin(), step.frame.begin() + 12);
    for (const unsigned word : {unsigned{IVDS_TYPE_INSPECTION}, unsigned{port}, between(0U, 2U) << 8U | verdict,
                                one_of<unsigned>({0, 1, 2, 3, 65535})}) {
        answer.frame.push_back(static_cast<std::uint8_t>(word >> 8U));
        answer.frame.push_back(static_cast<std::uint8_t>(word & 0xffU));
    }
    answer.frame.insert(answer.frame.end(), step.frame.begin() + 12, step.frame.end());
    return answer;
}

// What may follow a frame that a VM sent: the same again with other flags, the answer to it, an error about it, the
// latter two by the port where the destination lives.
Step drawn_sequel(const World& world, const Step& step) {
    Step next = step;
    if (rarely(3)) {
        const bool is_tcp = next.frame.size() > 60 && next.frame[12] == 0x08 && next.frame[23] == 6;
        if (is_tcp) {
            next.frame[47] = one_of<std::uint8_t>({0x02, 0x10, 0x11, 0x04, 0x18});
        }
        return next;
    }
    next.frame = rarely(5) ? icmp_error_about(step.frame) : answer_to(step.frame);
    const bool is_tcp = next.frame.size() > 60 && next.frame[12] == 0x08 && next.frame[23] == 6;
    if (is_tcp) {
        next.frame[47] = one_of<std::uint8_t>({0x12, 0x10, 0x11, 0x04, 0x02});
    }
    for (const auto& [id, port] : world.ports) {
        if (port.kind == IVDS_PORT_VPORT && std::equal(port.vmac, port.vmac + 6, next.frame.begin() + 6)) {
            next.port = id;
            return next;
        }
    }
    const auto instance = world.instances.find(world.ports.at(step.port).instance);
    if (instance != world.instances.end() && instance->second.uplink != 0) {
        next.port = instance->second.uplink;
        const ivds_port& uplink = world.ports.at(next.port);
        Bytes tagged(next.frame.begin(), next.frame.begin() + 12);
        for (const std::uint16_t word : {__builtin_bswap16(uplink.outer_tpid_be), instance->second.vlan,
                                         __builtin_bswap16(uplink.inner_tpid_be), instance->second.vvlan}) {
            tagged.push_back(static_cast<std::uint8_t>(word >> 8U));
            tagged.push_back(static_cast<std::uint8_t>(word & 0xffU));
        }
        tagged.insert(tagged.end(), next.frame.begin() + 12, next.frame.end());
        next.frame = tagged;
    }
    return next;
}

struct Scenario {
    World world;
    std::vector<Step> steps;
};

Scenario drawn_scenario() {
    Scenario scenario{.world = drawn_world(), .steps = {}};
    for (int i = between(1, 12); i > 0; --i) {
        // Of the last one or of an earlier one, when what a CPU remembers is meanwhile another's.
        const std::size_t count = scenario.steps.size();
        const std::size_t back = count != 0 && rarely(2) ? between<std::size_t>(1, count) : 1;
        const Step earlier = count != 0 ? scenario.steps[count - back] : Step{};
        const bool has_earlier =
            earlier.frame.size() >= 60 && scenario.world.ports.at(earlier.port).kind == IVDS_PORT_VPORT;
        scenario.steps.push_back(has_earlier && rarely(2) ? drawn_sequel(scenario.world, earlier)
                                                          : drawn_step(scenario.world));
        if (scenario.world.ports.contains(inspector) && scenario.steps.back().frame.size() >= 60 && rarely(3)) {
            scenario.steps.push_back(drawn_answer(scenario.world, scenario.steps.back()));
        }
    }
    return scenario;
}

std::string text_of(const Step& step) {
    return fmt::format("into port {}, {} bytes: {}", step.port, step.frame.size(), to_hex(step.frame).substr(0, 100));
}

// NOLINTNEXTLINE(readability-identifier-naming): RapidCheck looks for this name.
void showValue(const Scenario& scenario, std::ostream& out) {
    out << scenario.world.text();
    for (const Step& step : scenario.steps) {
        out << text_of(step) << "\n";
    }
}

// The frames of a scenario that this rung can be given.
std::vector<Step> taken_steps(const Scenario& scenario, Rung rung) {
    std::vector<Step> steps;
    std::ranges::copy_if(scenario.steps, std::back_inserter(steps),
                         [&](const Step& step) { return Rig::can_run(rung, step); });
    return steps;
}

// Which kinds of things an outcome shows: drop reasons, paths and events.
void note(const Outcome& outcome, std::set<std::string>& happened) {
    for (const auto& [name, value] : outcome.counts) {
        const auto last_space = name.rfind(' ');
        happened.insert(name.substr(last_space + 1));
        if (name.starts_with("drop ")) {
            const auto reason_at = name.find(' ', 5) + 1;
            happened.insert(name.substr(reason_at, last_space - reason_at));
        }
    }
    for (const std::string& event : outcome.events) {
        happened.insert("event " + event.substr(0, event.find(' ')));
    }
}

Rig& rig() {
    static Rig the_rig({.ports = 12, .entries = 1024, .fdb_entries = fdb_capacity});
    return the_rig;
}

}  // namespace

TEST_CASE("every rung agrees with the reference switch on random worlds", "[R12][R16][R97][R117]") {
    // A change is judged by the same worlds each time; a run that is to find something new draws its own, of which
    // each gives nearly thirty frames on a rung.
    const char* wanted = getenv("IVDS_CASES");
    const std::uint64_t enough = wanted == nullptr ? 1 : std::strtoull(wanted, nullptr, 10);
    setenv("RC_PARAMS",
           wanted == nullptr ? "max_success=1500 seed=1" : fmt::format("max_success={}", enough / 25 + 1).c_str(), 0);
    std::set<std::string> happened;
    std::uint64_t cases = 0;  // a frame on a rung
    const auto compare = [&] {
        const Scenario scenario = *rc::gen::exec(drawn_scenario);
        for (const Rung rung : all_rungs) {
            const std::vector<Step> steps = taken_steps(scenario, rung);
            const auto expected = play_reference(scenario.world, rung, steps, fdb_capacity);
            const auto got = rig().play(scenario.world, rung, steps);
            for (std::size_t i = 0; i < steps.size(); ++i) {
                const std::string wrong = difference(expected[i], got[i]);
                if (!wrong.empty()) {
                    RC_FAIL(fmt::format("{}, {}\n{}", to_string(rung), text_of(steps[i]), wrong));
                }
                note(expected[i], happened);
                if (++cases % 100'000 == 0) {
                    fmt::print("{} frames on a rung compared\n", cases);
                    std::fflush(stdout);
                }
            }
        }
    };
    REQUIRE(rc::check("rungs agree", compare));
    fmt::print("{} frames on a rung compared\n", cases);
    CHECK(cases >= enough);
    // The worlds are worth nothing if they are all alike.
    for (const char* kind :
         {"no_port",       "no_instance",   "instance_down", "truncated",   "bad_source",       "spoof",
          "guest_tag",     "guest_tag_out", "vm_control",    "oversize",    "oversize_out",     "unknown_vlan",
          "unknown_vvlan", "bad_vid",       "no_vvlan",      "wire_source", "same_port",        "port_down",
          "no_uplink",     "no_tc",         "lone_flood",    "rx_local",    "rx_wire",          "rx_flood",
          "rx_host",       "event spoof",   "event move",    "event limit", "event fdb_full",   "acl",
          "acl_out",       "flow_limit",    "patch",         "event rule",  "event flow_limit", "rate",
          "rate_out",      "sent",          "answered",      "passed",      "blocked",          "uninspected",
          "refused",       "inspector",     "forged",        "rx_answered", "unregistered",     "event unregistered",
          "rate_peer",     "rate_peer_out"}) {
        INFO(kind);
        CHECK(happened.contains(kind));
    }
}

}  // namespace ivds::test
