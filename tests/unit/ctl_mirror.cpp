// SPDX-License-Identifier: Apache-2.0
// Mirrors: what a configuration may say of them, the sessions that come of it, and captures among them.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "agent/capture.h"
#include "agent/frame_filter.h"
#include "api/codec.h"
#include "compile/compile.h"
#include "compile/mirror.h"

using namespace ivds;
using Catch::Matchers::ContainsSubstring;

namespace mirror_test {
namespace {

const std::string kBase =
    "uplinks: [{name: up, netdev: eth1}]\n"
    "instances: [{name: red, mode: piggyback, vlan: 100, vvlan: 10, scope: distributed, uplink: up},\n"
    "            {name: watch, mode: piggyback, vlan: 100, vvlan: 20, scope: distributed, uplink: up}]\n"
    "vports: [{name: a, instance: red, netdev: va}, {name: b, instance: red, netdev: vb},\n"
    "         {name: p, instance: watch, netdev: vp}, {name: q, instance: watch, netdev: vq}]\n";

Result<Model> model_of(const std::string& mirrors) {
    auto config = config_from_yaml(kBase + "mirrors:\n" + mirrors, "t");
    INFO((config ? "" : config.error().text()));
    REQUIRE(config);
    return next_from_config({}, std::move(*config), {});
}

std::string error_of(const std::string& mirrors) {
    const auto model = model_of(mirrors);
    REQUIRE_FALSE(model);
    return model.error().text();
}

struct Compiled {
    Ids ids;
    Tables tables;
    [[nodiscard]] const ivds_port& port(const char* name) const { return tables.ports.at(ids.ports.at(name)).value; }
    [[nodiscard]] std::uint32_t bit(const char* name) const { return 1U << ids.mirrors.at(name); }
    [[nodiscard]] const ivds_mirror& row(const char* name) const {
        return tables.mirrors.at(ids.mirrors.at(name)).value;
    }
};

Compiled compiled(const std::string& mirrors) {
    const auto model = model_of(mirrors);
    INFO((model ? "" : model.error().text()));
    REQUIRE(model);
    Compiled out{assign_ids(*model, {}).value(), {}};
    out.tables = compile(*model, out.ids).value();
    return out;
}

}  // namespace

TEST_CASE("a mirror's sources become its bit in the masks of the ports that they mean") {
    const auto c = compiled(
        "- {name: one, sources: [{vport: a, direction: in}, {uplink: up, direction: out}], to_vport: p}\n"
        "- {name: all, sources: [{instance: red}], to_uplink: up, rspan_vlan: 900, snap_bytes: 128, sample: 10}\n"
        "- {name: lost, sources: [{vport: b, drops: true}], erspan_remote: 192.0.2.9, session_id: 7, index: 3}\n");
    CHECK(c.port("a").mirror_in == (c.bit("one") | c.bit("all")));
    CHECK(c.port("a").mirror_out == c.bit("all"));
    CHECK(c.port("b").mirror_in == c.bit("all"));
    CHECK(c.port("b").mirror_drop == c.bit("lost"));
    CHECK(c.port("up").mirror_in == 0);
    CHECK(c.port("up").mirror_out == c.bit("one"));
    CHECK(c.port("p").mirror_in == 0);
    CHECK(c.row("one").kind == IVDS_MIRROR_SPAN);
    CHECK(c.row("one").target == c.ids.ports.at("p"));
    CHECK(c.row("all").kind == IVDS_MIRROR_RSPAN);
    CHECK(c.row("all").vlan == 900);
    CHECK(c.row("all").snap_bytes == 128);
    CHECK(c.row("all").sample == 10);
    CHECK(c.row("lost").kind == IVDS_MIRROR_ERSPAN_II);
    CHECK(c.row("lost").session_id == 7);
    CHECK(c.row("lost").index == 3);
    CHECK(std::ranges::equal(c.row("lost").remote, mapped_address("192.0.2.9")));
}

TEST_CASE("a mirror to a ring says how large it is, and is no capture") {
    const auto c = compiled(
        "- {name: small, sources: [{vport: a}], to_ring: true, ring_kib: 64}\n"
        "- {name: usual, sources: [{vport: b, direction: in}], to_ring: true}\n");
    CHECK(c.row("small").kind == IVDS_MIRROR_RING);
    CHECK(c.port("a").mirror_in == c.bit("small"));
    CHECK(c.tables.mirrors.at(c.ids.mirrors.at("small")).ring_bytes == 64U << 10U);
    CHECK(c.tables.mirrors.at(c.ids.mirrors.at("usual")).ring_bytes == 4U << 20U);
    Tables with = c.tables;
    Capture capture;
    capture.vport = "a";
    add_captures({{31, capture}}, with);
    CHECK(with.mirrors.size() == 3);
    const Tables without = without_captures(with);
    CHECK(without.mirrors.size() == 2);
    CHECK(without.ports.at(c.ids.ports.at("a")).value.mirror_in == c.bit("small"));
}

TEST_CASE("a mirror's filter is a list that drops what no rule allows, and is shared by those that are the same") {
    const std::string filter = "filter: [{protocol: tcp, action: allow}]";
    const auto c = compiled("- {name: one, sources: [{vport: a}], to_vport: p, " + filter +
                            "}\n- {name: two, sources: [{vport: b}], to_vport: p, " + filter +
                            "}\n- {name: three, sources: [{vport: b}], to_vport: q}\n");
    REQUIRE(c.row("one").filter != 0);
    CHECK(c.row("one").filter == c.row("two").filter);
    CHECK(c.row("three").filter == 0);
    const AclRow& list = *c.tables.acls.at(c.row("one").filter);
    CHECK(list.default_action == IVDS_ACL_DROP);
    CHECK_FALSE(list.rules.empty());
    for (const auto& [key, rule] : list.rules) CHECK(rule.rule == 0);
}

TEST_CASE("a mirror that cannot be is refused with what is wrong and what to do") {
    const auto is = [](const std::string& mirrors, const std::string& id, const std::string& text) {
        const std::string error = error_of(mirrors);
        CHECK_THAT(error, ContainsSubstring(id));
        CHECK_THAT(error, ContainsSubstring(text));
    };
    is("- {name: m, sources: [{vport: a}]}", "IVDS-M060", "nothing gets the copies");
    is("- {name: m, to_vport: p, erspan_remote: 192.0.2.9}", "IVDS-M060", "more than one target");
    is("- {name: m, to_uplink: up}", "IVDS-M060", "rspan_vlan");
    is("- {name: m, to_vport: p, rspan_vlan: 5}", "IVDS-M060", "rspan_vlan");
    is("- {name: m, to_uplink: up, rspan_vlan: 4095}", "IVDS-M060", "rspan_vlan");
    is("- {name: m, to_uplink: up, rspan_vlan: 100}", "IVDS-M064", "in use by instance");
    is("- {name: m, erspan_remote: nowhere}", "IVDS-M061", "no address");
    is("- {name: m, erspan_remote: 192.0.2.9, erspan_local: 'fd00::1'}", "IVDS-M061", "erspan_local");
    is("- {name: m, erspan_remote: 192.0.2.9, session_id: 1024}", "IVDS-M003", "session_id");
    is("- {name: m, erspan_remote: 192.0.2.9, erspan: iii, index: 64}", "IVDS-M003", "index");
    is("- {name: m, to_vport: p, to_ring: true}", "IVDS-M060", "more than one target");
    is("- {name: m, to_vport: p, ring_kib: 64}", "IVDS-M060", "ring_kib");
    is("- {name: m, to_ring: true, ring_kib: 100}", "IVDS-M060", "ring_kib = 100");
    is("- {name: m, to_ring: true, ring_kib: 32}", "IVDS-M060", "ring_kib = 32");
    is("- {name: m, to_vport: p, snap_bytes: 10}", "IVDS-M003", "snap_bytes");
    is("- {name: m, to_vport: p, sources: [{vport: a, instance: red}]}", "IVDS-M062", "one vport");
    is("- {name: m, to_vport: nobody}", "IVDS-M006", "vport nobody");
    is("- {name: m, to_vport: p, sources: [{uplink: nobody}]}", "IVDS-M006", "uplink nobody");
    is("- {name: m, to_vport: p, filter: [{action: allow, stateful: true}]}", "IVDS-M063", "more than match");
    is("- {name: m, to_vport: p, filter: [{action: allow, mirror: m}]}", "IVDS-M063", "more than match");
    is("- {name: m, to_vport: p, sources: [{vport: a, drops: true, direction: in}]}", "IVDS-M082", "has a direction");
    for (const char* remote : {"0.0.0.0", "127.0.0.1", "224.0.0.1", "255.255.255.255", "'::'", "'::1'", "'ff02::1'"})
        is(std::string("- {name: m, erspan_remote: ") + remote + "}", "IVDS-M061", "of no other host");
    std::string many;
    for (int i = 0; i < 33; ++i) many += "- {name: m" + std::to_string(i) + ", sources: [{vport: a}], to_vport: p}\n";
    const auto model = model_of(many);
    REQUIRE(model);
    const auto ids = assign_ids(*model, {});
    REQUIRE_FALSE(ids);
    CHECK_THAT(ids.error().text(), ContainsSubstring("IVDS-M020"));
}

TEST_CASE("copies that would come back to where they are from are refused, over other mirrors and rules as well") {
    CHECK_THAT(error_of("- {name: m, sources: [{vport: a}], to_vport: a}"), ContainsSubstring("IVDS-M065"));
    CHECK_THAT(error_of("- {name: m, sources: [{instance: red}], to_vport: b}"), ContainsSubstring("IVDS-M065"));
    CHECK_THAT(
        error_of("- {name: m, sources: [{vport: a}], to_vport: p}\n- {name: n, sources: [{vport: p}], to_vport: q}\n"
                 "- {name: o, sources: [{vport: q}], to_vport: a}\n"),
        ContainsSubstring("IVDS-M065"));
    CHECK(model_of(
        "- {name: m, sources: [{vport: a}], to_vport: p}\n- {name: n, sources: [{vport: p}], to_vport: q}\n"));
    // Two into each other; and by an uplink, whose fabric floods the copies' VLAN back to it.
    CHECK_THAT(
        error_of(
            "- {name: m, sources: [{vport: a}], to_vport: p}\n- {name: n, sources: [{vport: p}], to_vport: a}\n"),
        ContainsSubstring("IVDS-M065") && ContainsSubstring("copies of the frames of vport a come back to it"));
    CHECK_THAT(error_of("- {name: m, sources: [{uplink: up}], to_uplink: up, rspan_vlan: 900}\n"),
               ContainsSubstring("IVDS-M065") && ContainsSubstring("of uplink up come back"));
    CHECK_THAT(error_of("- {name: m, sources: [{uplink: up}], to_vport: p}\n"
                        "- {name: n, sources: [{instance: watch}], to_uplink: up, rspan_vlan: 900}\n"),
               ContainsSubstring("IVDS-M065"));
    CHECK(model_of("- {name: m, sources: [{instance: red}], to_uplink: up, rspan_vlan: 900}\n"));
}

TEST_CASE("a capture of what comes in by a port alone is in one mask of one port") {
    auto c = compiled(" []");
    pb::CaptureRequest request;
    request.set_target("a");
    request.set_trace(true);
    request.set_snap_bytes(96);
    const auto capture = plan_capture(model_of(" []").value(), c.ids, request);
    REQUIRE(capture);
    add_captures({{31U, *capture}}, c.tables);
    CHECK(c.tables.mirrors.at(31).value.snap_bytes == 0);
    for (const auto& [id, port] : c.tables.ports) {
        CHECK(port.value.mirror_in == (port.name == "a" ? 1U << 31 : 0));
        CHECK(port.value.mirror_out == 0);
        CHECK(port.value.mirror_drop == 0);
    }
}

TEST_CASE("what a capture may be of, and what of it is cut by the data plane") {
    const auto model = model_of(" []").value();
    const auto ids = assign_ids(model, {}).value();
    const auto plan = [&](const std::string& target, bool trace, const std::string& filter = "") {
        pb::CaptureRequest request;
        request.set_target(target);
        request.set_trace(trace);
        request.set_filter(filter);
        request.set_snap_bytes(96);
        return plan_capture(model, ids, request);
    };
    CHECK(plan("a", false).value().snap_bytes == 96);
    CHECK_FALSE(plan("a", false).value().in_alone);
    CHECK(plan("a", false, "tcp port 80").value().snap_bytes == 0);
    CHECK(plan("red", false).value().instances == std::set<std::string>{"red"});
    CHECK(plan("drops", false).value().vport.empty());
    CHECK(plan("nobody", false).error().id == "IVDS-M027");
    CHECK(plan("up", true).value().in_alone);
    for (const char* target : {"red", "drops", "nobody"}) {
        const auto refused = plan(target, true);
        REQUIRE_FALSE(refused);
        CHECK(refused.error().id == "IVDS-M027");
        CHECK_FALSE(refused.error().fix.empty());
    }
}

TEST_CASE("a trace of what comes in by an end of a patch is refused: nothing does") {
    auto config = config_from_yaml(
        "uplinks: [{name: up, netdev: eth1}]\n"
        "instances: [{name: red, mode: piggyback, vlan: 100, vvlan: 10, scope: distributed, uplink: up},\n"
        "            {name: blue, mode: piggyback, vlan: 100, vvlan: 20, scope: distributed, uplink: up}]\n"
        "vports: [{name: to-blue, instance: red, patch: to-red}, {name: to-red, instance: blue, patch: to-blue}]\n",
        "t");
    REQUIRE(config);
    const auto model = next_from_config({}, std::move(*config), {});
    INFO((model ? "" : model.error().text()));
    REQUIRE(model);
    pb::CaptureRequest request;
    request.set_target("to-blue");
    const auto ids = assign_ids(*model, {}).value();
    CHECK(plan_capture(*model, ids, request));
    request.set_trace(true);
    const auto refused = plan_capture(*model, ids, request);
    REQUIRE_FALSE(refused);
    CHECK(refused.error().id == "IVDS-A021");
}

TEST_CASE("a filter takes the frames that its expression names, by the bytes that there are and the frame's length") {
    // Ethernet, IPv4, TCP from port 40000 to port 80.
    const std::vector<std::uint8_t> tcp = {2, 0,  0, 0, 0,  2, 2, 0, 0,  0, 0,    1, 8,  0, 0x45, 0, 0,    40,
                                           0, 0,  0, 0, 64, 6, 0, 0, 10, 0, 0,    1, 10, 0, 0,    2, 0x9c, 0x40,
                                           0, 80, 0, 0, 0,  0, 0, 0, 0,  0, 0x50, 2, 0,  0, 0,    0, 0,    0};
    std::vector<std::uint8_t> tagged = tcp;
    const std::vector<std::uint8_t> tags = {0x88, 0xa8, 0, 100, 0x81, 0, 0, 10};
    tagged.insert(tagged.begin() + 12, tags.begin(), tags.end());
    const auto matches = [](const std::string& text, std::span<const std::uint8_t> frame, std::uint32_t bytes = 0) {
        const auto filter = FrameFilter::compile(text);
        INFO(text << (filter ? "" : ": " + filter.error().text()));
        REQUIRE(filter);
        return filter->matches(frame, bytes == 0 ? static_cast<std::uint32_t>(frame.size()) : bytes);
    };
    CHECK(matches("", tcp));
    CHECK(matches("", {}, 1));
    CHECK(matches("tcp port 80", tcp));
    CHECK(matches("ether src 02:00:00:00:00:01 and host 10.0.0.2", tcp));
    CHECK_FALSE(matches("tcp port 81", tcp));
    CHECK_FALSE(matches("udp", tcp));
    CHECK_FALSE(matches("tcp port 80", tagged));
    CHECK(matches("vlan 100 and vlan 10 and tcp port 80", tagged));
    CHECK_FALSE(matches("vlan 100 and vlan 11", tagged));
    // The frame's length counts, and what was not captured matches nothing.
    CHECK(matches("greater 1000", tcp, 1500));
    CHECK_FALSE(matches("greater 1000", tcp));
    CHECK_FALSE(matches("tcp port 80", std::span(tcp).first(34), 54));
    CHECK_FALSE(matches("tcp port 80", {}, 54));
}

TEST_CASE("a wrong filter is refused in the words of libpcap, with a way out") {
    for (const char* text : {"tcp prt 80", "port 99999", "tcp and", "vlan 5000", "(", "ip and arp"}) {
        const auto filter = FrameFilter::compile(text);
        INFO(text);
        REQUIRE_FALSE(filter);
        CHECK(filter.error().id == "IVDS-A020");
        CHECK_THAT(filter.error().what, ContainsSubstring(std::string("the filter '") + text + "' is none: "));
        CHECK(filter.error().what.size() > std::string("the filter '' is none: ").size() + std::string(text).size());
        CHECK_FALSE(filter.error().fix.empty());
    }
}

TEST_CASE("so many frames of each second are traced, the next second has as many again, and none is old") {
    TraceBudget budget;
    const std::chrono::steady_clock::time_point begin(std::chrono::hours(5));
    const auto taken = [&](std::chrono::milliseconds at, int asked, std::chrono::nanoseconds age = {}) {
        int count = 0;
        for (int i = 0; i < asked; ++i) count += budget.take(begin + at, age) ? 1 : 0;
        return count;
    };
    using std::chrono::milliseconds;
    CHECK(taken(milliseconds(0), 60) == 60);
    CHECK(taken(milliseconds(500), 60, milliseconds(1001)) == 0);
    CHECK(taken(milliseconds(999), 60) == TraceBudget::kPerSecond - 60);
    CHECK(taken(milliseconds(1000), 1000) == TraceBudget::kPerSecond);
    CHECK(taken(milliseconds(60'000), 1000) == TraceBudget::kPerSecond);
    CHECK(taken(milliseconds(70'000), 3) == 3);
    budget.spend(milliseconds(499));
    CHECK(taken(milliseconds(70'500), 3) == 3);
    budget.spend(milliseconds(1));
    CHECK(taken(milliseconds(70'500), 3) == 0);
    CHECK(taken(milliseconds(71'000), 3) == 3);
}

TEST_CASE("a capture is a session of its own at the top, and leaves the tables as they were") {
    auto c = compiled("- {name: m, sources: [{vport: a}], to_vport: p}\n");
    const auto before = c.tables;
    REQUIRE(free_session(c.tables) == 31U);
    add_captures({{31U, Capture{.vport = "", .instances = {"red"}, .snap_bytes = 96}},
                  {30U, Capture{}},
                  {c.ids.mirrors.at("m"), Capture{.vport = "b", .instances = {}}}},
                 c.tables);
    CHECK(c.tables.mirrors.at(31).value.kind == IVDS_MIRROR_RING);
    CHECK(c.tables.mirrors.at(31).value.snap_bytes == 96);
    CHECK(c.port("b").mirror_in == 1U << 31);
    CHECK(c.port("a").mirror_out == (1U << 31 | c.bit("m")));
    CHECK(c.port("p").mirror_in == 0);
    CHECK(c.port("up").mirror_drop == 1U << 30);
    // A mirror's session is not taken from it.
    CHECK(c.row("m").kind == IVDS_MIRROR_SPAN);
    CHECK(free_session(c.tables) == 29U);

    const Tables after = without_captures(c.tables);
    CHECK(after.mirrors.size() == before.mirrors.size());
    for (const auto& [id, port] : before.ports) {
        CHECK(after.ports.at(id).value.mirror_in == port.value.mirror_in);
        CHECK(after.ports.at(id).value.mirror_out == port.value.mirror_out);
        CHECK(after.ports.at(id).value.mirror_drop == port.value.mirror_drop);
    }
}

}  // namespace mirror_test
