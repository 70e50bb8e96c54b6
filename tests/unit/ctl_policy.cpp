// SPDX-License-Identifier: Apache-2.0
// What rules do beside allowing and dropping: redirects to vPorts, pools and patches, connections, sets, mirrors, and
// the time after which they go. How the data plane carries that out is tested with it.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <rapidcheck.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <set>

#include "agent/expiry.h"
#include "agent/flow_view.h"
#include "agent/store.h"
#include "api/codec.h"
#include "compile/compile.h"
#include "compile/rules.h"
#include "ctl_directory.h"
#include "loader/plan.h"
#include "model/rule.h"

using namespace ivds;
using Catch::Matchers::ContainsSubstring;

namespace policy_test {
namespace {

Result<Model> model_of(const std::string& text, const Model& now = {}) {
    auto config = config_from_yaml(text, "t");
    INFO((config ? "" : config.error().text()));
    REQUIRE(config);
    return next_from_config(now, std::move(*config), {});
}

struct Compiled {
    Model model;
    Ids ids;
    Tables tables;

    [[nodiscard]] const ivds_port& port(const std::string& name) const {
        return tables.ports.at(ids.ports.at(name)).value;
    }
    [[nodiscard]] const AclRow& in(const std::string& vport) const { return *tables.acls.at(port(vport).acl_in); }
    // The one entry of the rule in the list of frames from the vPort.
    [[nodiscard]] ivds_acl_rule entry(const std::string& vport, const std::string& rule) const {
        for (const auto& [key, each] : in(vport).rules)
            if (each.rule == ids.rules.at(rule)) return each;
        FAIL("no entry of " << rule);
        return {};
    }
};

Compiled compiled(const std::string& text, const Compiled& now = {}) {
    auto model = model_of(text, now.model);
    INFO((model ? "" : model.error().text()));
    REQUIRE(model);
    Compiled out{*model, assign_ids(*model, now.ids).value(), {}};
    auto tables = compile(out.model, out.ids, now.model, now.tables);
    INFO((tables ? "" : tables.error().text()));
    REQUIRE(tables);
    out.tables = std::move(*tables);
    const auto valid = validate(out.model, out.model);
    INFO((valid ? "" : valid.error().text()));
    REQUIRE(valid);
    return out;
}

// Two instances with a patch between them, and two vPorts that filter, in a pool.
const std::string kScene =
    "instances: [{name: red}, {name: blue}]\n"
    "vnics: [{name: n1, vmac: 02:00:00:00:00:01}, {name: n2, vmac: 02:00:00:00:00:02}]\n"
    "vport_pools: [{name: filters, vports: [fw1, fw2]}]\n"
    "mirrors: [{name: watch, to_vport: fw1}]\n"
    "sets: [{name: office, addresses: [192.0.2.0/24, 198.51.100.7, 'fd00:1::/64'], macs: [02:00:00:00:00:99], "
    "vports: "
    "[fw1]}, {name: nobody}]\n";
std::string scene(const std::string& web_rules, const std::string& more = "") {
    return kScene +
           "vports:\n"
           "- {name: fw1, netdev: d1, instance: red, vnic: n1}\n"
           "- {name: fw2, netdev: d2, instance: red, vnic: n2}\n"
           "- {name: to-blue, patch: to-red, instance: red}\n"
           "- {name: to-red, patch: to-blue, instance: blue}\n"
           "- {name: away, netdev: d3, instance: blue}\n"
           "- {name: web, netdev: d4, instance: red, rules: [" +
           web_rules + "]}\n" + more;
}

// The frames that a list decides about by one of its entries, as a set of "SRC_MAC SRC TYPE".
std::set<std::string> sources(const AclRow& list, std::uint32_t rule) {
    std::set<std::string> out;
    for (const auto& [key, entry] : list.rules)
        if (entry.rule == rule && (key.fields.unknown & IVDS_L3_UNKNOWN) == 0) out.insert(fields_text(key.fields));
    return out;
}

}  // namespace

// ---------------------------------------------------------------------------------------- what a rule does

TEST_CASE("what a rule does beside deciding is in its entries", "[R51][R123]") {
    const Compiled c = compiled(scene(
        "{name: a, direction: in, protocol: tcp, action: redirect, to_vport: fw1, stateful: true}, {name: b, "
        "direction: in, protocol: udp, action: redirect, to_pool: filters, log: true}, {name: c, protocol: sctp, "
        "mirror: watch}, {name: d, ethertype: arp, direction: in, action: redirect, to_vport: to-blue}"));
    const ivds_acl_rule a = c.entry("web", "vport/web/a");
    CHECK(a.action == IVDS_ACL_REDIRECT);
    CHECK(a.target == c.ids.ports.at("fw1"));
    CHECK(a.flags == IVDS_ACL_STATEFUL);
    CHECK(a.mirrors == 0);
    const ivds_acl_rule b = c.entry("web", "vport/web/b");
    CHECK(b.target == (IVDS_TARGET_POOL | c.ids.pools.at("filters")));
    CHECK(b.flags == IVDS_ACL_LOG);
    const ivds_acl_rule d = c.entry("web", "vport/web/c");
    CHECK(d.action == IVDS_ACL_ALLOW);
    CHECK(d.mirrors == 1U << c.ids.mirrors.at("watch"));
    CHECK(d.target == 0);
    CHECK(c.entry("web", "vport/web/d").target == c.ids.ports.at("to-blue"));
    CHECK((c.port("web").flags & IVDS_PF_STATEFUL) != 0);
    CHECK((c.port("fw1").flags & IVDS_PF_STATEFUL) == 0);
}

TEST_CASE("what a rule says of its deeds that cannot be is refused with a cause and a fix", "[R125]") {
    struct Wrong {
        const char* rule;
        const char* id;
        const char* cause;
        const char* fix;
    };
    const auto wrong = GENERATE(
        Wrong{"action: redirect, direction: in", "IVDS-M050", "does not say where to", "to_vport or to_pool"},
        Wrong{"action: redirect, direction: in, to_vport: fw1, to_pool: filters", "IVDS-M050", "exclude each other",
              ""},
        Wrong{"to_vport: fw1", "IVDS-M050", "to_vport without action redirect", "action redirect"},
        Wrong{"action: drop, to_pool: filters", "IVDS-M050", "to_pool without action redirect", ""},
        Wrong{"action: redirect, to_vport: fw1", "IVDS-M051", "from the VM alone", "direction in"},
        Wrong{"action: redirect, direction: out, to_vport: fw1", "IVDS-M051", "from the VM alone", "direction in"},
        Wrong{"action: drop, stateful: true", "IVDS-M052", "opens no connection", "allow or redirect"},
        Wrong{"ethertype: arp, stateful: true", "IVDS-M052", "no connections", "ip or ip6"},
        Wrong{"ethertype: 0x88cc, stateful: true", "IVDS-M052", "no connections", ""},
        Wrong{"src_set: office, src: 10.0.0.1", "IVDS-M054", "src_set excludes", "into the set"},
        Wrong{"dst_set: office, dst_mac: 02:00:00:00:00:01", "IVDS-M054", "dst_set excludes", ""});
    CAPTURE(wrong.rule);
    const auto model = model_of(scene(fmt::format("{{name: it, {}}}", wrong.rule)));
    REQUIRE(!model);
    CHECK(model.error().code == Code::invalid);
    CHECK(model.error().id == wrong.id);
    CHECK_THAT(model.error().what, ContainsSubstring("vport web: rule it: "));
    CHECK_THAT(model.error().what, ContainsSubstring(wrong.cause));
    CHECK(!model.error().fix.empty());
    CHECK_THAT(model.error().fix, ContainsSubstring(wrong.fix));
}

TEST_CASE("a rule that goes by itself has a name") {
    CHECK(model_of(scene("{idle_s: 5}")).error().id == "IVDS-M053");
    CHECK(model_of(scene("{hard_s: 5}")).error().id == "IVDS-M053");
    CHECK(model_of(scene("{name: a, idle_s: 5, hard_s: 9}")));
}

TEST_CASE("rules name what exists, and what rules name is not deleted", "[R125]") {
    struct Named {
        const char* rule;
        const char* missing;
        pb::Kind kind;
        const char* name;
    };
    const auto named =
        GENERATE(Named{"src_set: {}", "set", pb::SET, "nobody"}, Named{"dst_set: {}", "set", pb::SET, "nobody"},
                 Named{"mirror: {}", "mirror", pb::MIRROR, "watch"},
                 Named{"action: redirect, direction: in, to_vport: {}", "vport", pb::VPORT, "fw2"},
                 Named{"action: redirect, direction: in, to_pool: {}", "vport_pool", pb::VPORT_POOL, "filters"});
    CAPTURE(named.rule);
    const auto with = [&](const std::string& name) {
        return scene("{name: it, " + fmt::format(fmt::runtime(named.rule), name) + "}");
    };
    const auto unknown = model_of(with("nothing"));
    REQUIRE(!unknown);
    CHECK(unknown.error().id == "IVDS-M006");
    CHECK_THAT(
        unknown.error().what,
        ContainsSubstring(fmt::format("rule it of vport web names {} nothing, which does not exist", named.missing)));
    const Model model = model_of(with(named.name)).value();
    pb::Ref ref;
    ref.set_kind(named.kind);
    ref.set_name(named.name);
    const auto refused = next_without(model, ref);
    REQUIRE(!refused);
    CHECK(refused.error().id == "IVDS-M007");
    CHECK_THAT(refused.error().what, ContainsSubstring("a rule of vport web"));
}

TEST_CASE("a redirect stays in the instance of every vPort that it is for, and off patches", "[R125]") {
    const auto refused = [](const std::string& text, const std::string& cause) {
        const auto model = model_of(text);
        REQUIRE(!model);
        CHECK(model.error().id == "IVDS-M059");
        CHECK(!model.error().fix.empty());
        CHECK_THAT(model.error().what, ContainsSubstring(cause));
    };
    const std::string to = "{name: it, direction: in, action: redirect, to_vport: ";
    refused(scene(to + "away}"),
            "rule it of vport web is for vport web of instance red, and leads to vport away of "
            "instance blue");
    refused(scene(to + "to-red}"), "leads to vport to-red of instance blue");
    refused(scene(to + "web}"), "leads back to vport web");
    CHECK(model_of(scene(to + "to-blue}")));
    // Of a profile, and of an instance: each of their vPorts counts.
    refused(scene("", "- {name: x, netdev: d9, instance: blue, profile: p}\nprofiles: [{name: p, rules: [" + to +
                          "fw1}]}]\n"),
            "rule it of profile p is for vport x of instance blue");
    CHECK(model_of(scene(
        "", "- {name: x, netdev: d9, instance: red, profile: p}\nprofiles: [{name: p, rules: [" + to + "fw1}]}]\n")));
    // What came in by a patch is not redirected by it again.
    const std::string looped = "- {name: loop, patch: other, instance: red, rules: [" + to + "fw1}]}\n";
    refused(scene("", looped), "vport loop is a patch");
    const auto pools = model_of(scene("") +
                                "- {name: y, netdev: dy, instance: blue, rules: [{name: it, direction: in, "
                                "action: redirect, to_pool: filters}]}\n");
    REQUIRE(!pools);
    CHECK_THAT(pools.error().what, ContainsSubstring("leads to vport_pool filters of instance red"));
}

TEST_CASE("an instance's redirects are for its VMs, and its other rules for what comes by its patches as well",
          "[R51][R125]") {
    const std::string rules =
        ", rules: [{name: away, direction: in, protocol: udp, action: redirect, to_vport: to-blue}, {name: no, "
        "protocol: "
        "tcp, action: drop}, {name: filter, direction: in, protocol: sctp, stateful: true, action: redirect, "
        "to_pool: "
        "filters}]";
    std::string text = scene("{name: own}");
    text.replace(text.find("{name: red}"), 11, "{name: red" + rules + "}");
    const Compiled c = compiled(text);
    const auto decides = [&](const char* vport) {
        std::set<std::string> out;
        for (const auto& [key, entry] : c.tables.acls.at(c.port(vport).acl_in)->rules)
            for (const auto& [name, id] : c.ids.rules)
                if (id == entry.rule) out.insert(name);
        return out;
    };
    CHECK(decides("fw1") == std::set<std::string>{"instance/red/away", "instance/red/no", "instance/red/filter"});
    CHECK(decides("to-blue") == std::set<std::string>{"instance/red/no"});
    CHECK(c.port("to-blue").acl_out == c.port("fw1").acl_out);
    CHECK(c.port("to-red").acl_in == 0);
    CHECK((c.port("fw1").flags & IVDS_PF_STATEFUL) != 0);
    CHECK((c.port("to-blue").flags & IVDS_PF_STATEFUL) == 0);
    const auto shown = effective_rules(c.model, *c.model.vports.at("to-blue"));
    REQUIRE(shown.size() == 1);
    CHECK(shown[0].name == "no");
}

TEST_CASE("patches in a circle with a redirect at each are no circle: a frame goes through one of them", "[R125]") {
    std::string text = "instances: [{name: red}, {name: blue}, {name: green}]\nvports:\n";
    const auto patch = [&](const std::string& from, const std::string& to, const std::string& more) {
        text += fmt::format("- {{name: {0}-{1}, instance: {0}, patch: {1}-{0}{2}}}\n", from, to, more);
    };
    for (const auto& [from, to] : {std::pair("red", "blue"), std::pair("blue", "green"), std::pair("green", "red")}) {
        patch(from, to, "");
        patch(to, from, "");
        text += fmt::format(
            "- {{name: {0}, instance: {0}, netdev: d{0}, rules: [{{direction: in, action: redirect, to_vport: "
            "{0}-{1}}}]}}\n",
            from, to);
    }
    const auto good = model_of(text);
    INFO((good ? "" : good.error().text()));
    CHECK(good);
    // Where the patches themselves were to go on, they would carry a frame for ever.
    text.replace(text.find("patch: red-blue"), 15,
                 "patch: red-blue, rules: [{direction: in, action: redirect, to_vport: blue-green}]");
    const auto circle = model_of(text);
    REQUIRE(!circle);
    CHECK(circle.error().id == "IVDS-M059");
    CHECK_THAT(circle.error().what, ContainsSubstring("vport blue-red is a patch"));
}

TEST_CASE("a default only allows or drops") {
    CHECK(model_of("profiles: [{name: p, default_in: redirect}]").error().id == "IVDS-M042");
    CHECK(model_of("profiles: [{name: p, default_out: redirect}]").error().id == "IVDS-M042");
}

// ---------------------------------------------------------------------------------------- sets

TEST_CASE("a rule matches each member of a set: IPv4, IPv6, MACs and vMACs of vPorts", "[R51]") {
    const Compiled c = compiled(scene("{name: it, direction: in, src_set: office}"));
    const std::uint32_t rule = c.ids.rules.at("vport/web/it");
    CHECK(sources(c.in("web"), rule) ==
          std::set<std::string>{"00:00:00:00:00:00 protocol 0 192.0.2.0 -> 0.0.0.0",
                                "00:00:00:00:00:00 protocol 0 198.51.100.7 -> 0.0.0.0",
                                "00:00:00:00:00:00 protocol 0 fd00:1:: -> ::",
                                "02:00:00:00:00:99 ethertype 0x0000 -> 00:00:00:00:00:00",
                                "02:00:00:00:00:01 ethertype 0x0000 -> 00:00:00:00:00:00"});
    // An IP version, or ARP, leaves those that can be in such a frame.
    const Compiled six = compiled(scene("{name: it, direction: in, ethertype: ip6, src_set: office}"));
    CHECK(sources(six.in("web"), rule).size() == 3);
    const Compiled arp = compiled(scene("{name: it, direction: in, ethertype: arp, src_set: office}"));
    CHECK(sources(arp.in("web"), rule).size() == 4);
    CHECK(sources(arp.in("web"), rule).contains("00:00:00:00:00:00 arp 192.0.2.0 -> 0.0.0.0"));
}

TEST_CASE("an empty set matches nothing, also in a rule that drops") {
    for (const char* action : {"allow", "drop"}) {
        const Compiled c = compiled(
            scene(fmt::format("{{name: it, direction: in, dst_set: nobody, protocol: tcp, action: {}}}", action)));
        CHECK(c.in("web").rules.empty());
    }
}

TEST_CASE("two sets meet pair by pair where both can be of one frame", "[R51]") {
    const Compiled c = compiled(scene("{name: it, direction: in, src_set: office, dst_set: office}"));
    std::size_t mixed = 0;
    for (const auto& [key, entry] : c.in("web").rules) {
        const bool v4_source = key.fields.src[10] == 0xff;
        const bool v6_destination = key.fields.dst[0] == 0xfd;
        mixed += v4_source && v6_destination ? 1 : 0;
    }
    CHECK(mixed == 0);
    // Two IPv4 and one IPv6 prefixes and two MACs at each end.
    CHECK(c.in("web").rules.size() == 2 * 2 + 1 + 2 * 3 * 2 + 2 * 2);
}

TEST_CASE("a drop by a set holds frames whose addresses cannot be read") {
    const Compiled c = compiled(scene("{name: it, direction: in, src_set: office, action: drop}"));
    std::set<std::uint16_t> unread;
    for (const auto& [key, entry] : c.in("web").rules)
        if ((key.fields.unknown & IVDS_L3_UNKNOWN) != 0) unread.insert(key.fields.type_be);
    CHECK(unread.size() == 2);  // IPv4 and IPv6
}

TEST_CASE(
    "a change of a set, a target or a mirror makes another list; one of the timeouts or of another set does not",
    "[R52]") {
    const auto text = [](const std::string& member, const std::string& idle) {
        return "instances: [{name: red}]\nsets: [{name: s, addresses: [" + member +
               "]}, {name: t, addresses: [10.9.9.9, " + member +
               "]}]\nvports: [{name: a, netdev: a, instance: red, rules: [{name: r, src_set: s" + idle + "}]}]";
    };
    const Compiled one = compiled(text("10.0.0.1", ""));
    CHECK(compiled(text("10.0.0.1", ""), one).port("a").acl_in == one.port("a").acl_in);
    CHECK(compiled(text("10.0.0.2", ""), one).port("a").acl_in != one.port("a").acl_in);
    CHECK(compiled(text("10.0.0.1", ", idle_s: 9, hard_s: 10"), one).port("a").acl_in == one.port("a").acl_in);

    // A pool is named by its id, and may change under its lists; another vPort is another target.
    const Compiled pool = compiled(scene("{name: it, direction: in, action: redirect, to_pool: filters}"));
    auto smaller = scene("{name: it, direction: in, action: redirect, to_pool: filters}");
    smaller.replace(smaller.find("[fw1, fw2]"), 10, "[fw2]");
    const Compiled after = compiled(smaller, pool);
    CHECK(after.port("web").acl_in == pool.port("web").acl_in);
    CHECK(after.tables.pools.at(after.ids.pools.at("filters")).value.count == 1);
    const Compiled first = compiled(scene("{name: it, direction: in, action: redirect, to_vport: fw1}"), pool);
    const Compiled second = compiled(scene("{name: it, direction: in, action: redirect, to_vport: fw2}"), first);
    CHECK(first.port("web").acl_in != pool.port("web").acl_in);
    CHECK(second.port("web").acl_in != first.port("web").acl_in);
}

TEST_CASE("sets of thousands are one mask, and what multiplies beyond a list is refused at once", "[R125]") {
    std::string members;
    for (int i = 0; i < 5000; ++i) members += fmt::format("10.1.{}.{}, ", i / 250, i % 250 + 1);
    const auto text = [&](const std::string& rules) {
        return "instances: [{name: red}]\nsets: [{name: big, addresses: [" + members +
               "]}]\nvports: [{name: a, netdev: a, instance: red, rules: [" + rules + "]}]";
    };
    const Compiled c = compiled(text("{name: r, direction: in, src_set: big}"));
    CHECK(c.in("a").masks.size() == 1);
    CHECK(c.in("a").rules.size() == 5000);
    for (const char* rule : {"{src_set: big, dst_set: big}", "{src_set: big, protocol: tcp, dst_ports: ['1-65534']}",
                             // The second says the same again and adds nothing.
                             "{src_set: big}, {src_set: big, dst_set: big}"}) {
        const Model model = model_of(text(rule)).value();
        const auto tables = compile(model, assign_ids(model, {}).value());
        REQUIRE(!tables);
        CHECK(tables.error().id == "IVDS-M041");
        CHECK(tables.error().code == Code::exhausted);
        CHECK_THAT(tables.error().what, ContainsSubstring("sets multiply"));
    }
}

TEST_CASE("what a set holds that cannot be is refused, with the set's name", "[R125]") {
    struct Wrong {
        const char* set;
        const char* id;
        const char* cause;
    };
    const auto wrong = GENERATE(Wrong{"addresses: [10.0.0]", "IVDS-M042", "address \"10.0.0\""},
                                Wrong{"addresses: [10.0.0.1/8]", "IVDS-M048", "behind its prefix"},
                                Wrong{"macs: ['02:00']", "IVDS-M042", "MAC \"02:00\""},
                                Wrong{"vports: [nobody]", "IVDS-M006", "names vport nobody"});
    const auto model = model_of(fmt::format("sets: [{{name: s, {}}}]", wrong.set));
    REQUIRE(!model);
    CHECK(model.error().id == wrong.id);
    CHECK_THAT(model.error().what, ContainsSubstring("set s"));
    CHECK_THAT(model.error().what, ContainsSubstring(wrong.cause));
    CHECK(!model.error().fix.empty());
    CHECK(model_of("sets: [{name: s, addresses: ['FD00::1', 10.0.0.0/8], macs: ['02:AA:00:00:00:01']}]")
              ->sets.at("s")
              ->addresses(0) == "fd00::1");
}

// ---------------------------------------------------------------------------------------- pools and patches

TEST_CASE("a pool is its vPorts' ids", "[R131]") {
    const Compiled c = compiled(scene(""));
    const PoolRow& pool = c.tables.pools.at(c.ids.pools.at("filters"));
    CHECK(pool.name == "filters");
    CHECK(pool.value.count == 2);
    CHECK(pool.value.member[0] == c.ids.ports.at("fw1"));
    CHECK(pool.value.member[1] == c.ids.ports.at("fw2"));
}

TEST_CASE("a pool has 1 to 32 different vPorts of one instance", "[R125]") {
    const auto refused = [](const std::string& vports, const std::string& cause) {
        const auto model = model_of(
            "instances: [{name: red}, {name: blue}]\nvports: [{name: a, netdev: a, instance: "
            "red}, {name: b, netdev: b, instance: blue}]\nvport_pools: [{name: p, vports: [" +
            vports + "]}]");
        REQUIRE(!model);
        CHECK(model.error().id == "IVDS-M058");
        CHECK(!model.error().fix.empty());
        CHECK_THAT(model.error().what, ContainsSubstring(cause));
    };
    refused("", "has no vPorts");
    refused("a, a", "vport a is in it twice");
    refused("a, b", "vport a is of instance red, and vport b of instance blue");
    std::string many;
    for (int i = 0; i < 33; ++i) many += fmt::format("a{}, ", i);
    refused(many, "33 vPorts are too many");
}

TEST_CASE("a patch has no interface, leads to the other instance, and is up when both ends are configured",
          "[R121]") {
    const Compiled c = compiled(scene(""));
    for (const auto& [end, other] : {std::pair("to-blue", "to-red"), std::pair("to-red", "to-blue")}) {
        const PortRow& row = c.tables.ports.at(c.ids.ports.at(end));
        CHECK(row.netdev.empty());
        CHECK(row.macs.empty());
        CHECK(row.value.kind == IVDS_PORT_PATCH);
        CHECK(row.value.peer == c.ids.ports.at(other));
        CHECK(row.value.flags == IVDS_PF_UP);
        CHECK(row.value.mtu_bytes == 1500);
        CHECK(row.value.fdb_limit == 0);
    }
    // One end alone waits, down.
    const Compiled lone = compiled("instances: [{name: red}]\nvports: [{name: a, patch: b, instance: red}]");
    CHECK(lone.port("a").peer == 0);
    CHECK((lone.port("a").flags & IVDS_PF_UP) == 0);
    const Compiled unbound =
        compiled("instances: [{name: red}]\nvports: [{name: a, patch: b, instance: red}, {name: b, patch: a}]");
    CHECK((unbound.port("a").flags & IVDS_PF_UP) == 0);
}

TEST_CASE("patches that contradict themselves are refused", "[R125]") {
    const auto refused = [](const std::string& vports, const char* id, const std::string& cause) {
        const auto model = model_of(
            "instances: [{name: red}]\nvnics: [{name: n, vmac: 02:00:00:00:00:01}]\nvports: [" + vports + "]");
        REQUIRE(!model);
        CHECK(model.error().id == id);
        CHECK(!model.error().fix.empty());
        CHECK_THAT(model.error().what, ContainsSubstring(cause));
    };
    refused("{name: a, patch: a}", "IVDS-M056", "leads to itself");
    for (const char* what :
         {"netdev: d", "vnic: n", "extra_macs: [02:00:00:00:00:05]", "attach: tcx", "mtu_bytes: 99"})
        refused(fmt::format("{{name: a, patch: b, {}}}", what), "IVDS-M056", "has no interface");
    refused("{name: a, patch: b}, {name: b, netdev: d}", "IVDS-M057", "leads to vport b, which is none");
    refused("{name: a, patch: b}, {name: b, patch: c}", "IVDS-M057", "which leads to c");
    refused("{name: a, patch: b, instance: red}, {name: b, patch: a, instance: red}", "IVDS-M057",
            "both of instance red");
    const auto behind = model_of(
        "instances: [{name: red, fdb: [{mac: 02:00:00:00:00:05, vport: a}]}]\nvports: [{name: a, patch: b, instance: "
        "red}]");
    CHECK(behind.error().id == "IVDS-M018");
}

TEST_CASE("trunks that contradict themselves are refused", "[R116]") {
    const auto refused = [](const std::string& vports, const char* id, const std::string& cause) {
        const auto model = model_of(
            "instances: [{name: red, vvlan: 8}, {name: blue, vvlan: 9}]\nvnics: [{name: n, vmac: "
            "02:00:00:00:00:01}]\n"
            "vports: [{name: t, netdev: t, vnic: n, instance: red}, {name: end, patch: other}, " +
            vports + "]");
        REQUIRE(!model);
        CHECK(model.error().id == id);
        CHECK(!model.error().fix.empty());
        CHECK_THAT(model.error().what, ContainsSubstring(cause));
    };
    refused("{name: a, trunk: a, vid: 1}", "IVDS-M067", "its own trunk");
    for (const char* what : {"netdev: d", "patch: end", "attach: tcx"})
        refused(fmt::format("{{name: a, trunk: t, vid: 1, {}}}", what), "IVDS-M067", "no interface of its own");
    CHECK(model_of("vports: [{name: t, netdev: t}, {name: a, trunk: t, vid: 4095}]").error().id == "IVDS-M003");
    refused("{name: a, netdev: d, vid: 5}", "IVDS-M067", "it has none");
    refused("{name: a, trunk: gone, vid: 1}", "IVDS-M006", "gone");
    refused("{name: a, trunk: t}", "IVDS-M067", "by which tag");
    refused("{name: a, trunk: end, vid: 1}", "IVDS-M067", "is a patch");
    refused("{name: a, trunk: t, vid: 1}, {name: b, trunk: a, vid: 2}", "IVDS-M067", "behind a trunk");
    refused("{name: a, trunk: t, instance: blue}, {name: b, trunk: t, vid: 9}", "IVDS-M067", "both behind tag 9");
    // Without a vNIC of its own it has the trunk's vMAC, and that is in red already.
    refused("{name: a, trunk: t, vid: 1, instance: red}", "IVDS-M013", "by vport");
}

TEST_CASE("a vPort behind a trunk is known by its tag, and the trunk's vMAC is its own", "[R116]") {
    const Compiled c = compiled(
        "instances: [{name: red, vvlan: 8}, {name: blue, vvlan: 9}]\nvnics: [{name: n, vmac: 02:00:00:00:00:01}]\n"
        "vports: [{name: t, netdev: t, vnic: n, instance: red}, {name: a, trunk: t, instance: blue}, "
        "{name: b, trunk: t, vid: 77}]");
    const std::uint32_t trunk = c.ids.ports.at("t");
    CHECK((c.port("t").flags & IVDS_PF_TRUNK) != 0);
    const ivds_port& a = c.port("a");
    CHECK(a.kind == IVDS_PORT_SUB);
    CHECK(a.peer == trunk);
    CHECK(a.vid == 9);
    CHECK(a.flags == (IVDS_PF_UP | IVDS_PF_ANTI_SPOOF));
    CHECK(c.tables.ports.at(c.ids.ports.at("a")).macs == std::vector<Mac>{{2, 0, 0, 0, 0, 1}});
    CHECK(c.port("b").vid == 77);
    CHECK((c.port("b").flags & IVDS_PF_UP) == 0);
    CHECK(c.tables.vvlans.at({trunk, 9, 0}) == c.ids.ports.at("a"));
    CHECK(c.tables.vvlans.at({trunk, 77, 0}) == c.ids.ports.at("b"));
    CHECK(validate(c.tables, Tables{}));
    Tables stray = c.tables;
    stray.vvlans.erase({trunk, 9, 0});
    CHECK(!validate(stray, Tables{}));
}

TEST_CASE("a vPort's inspector is its own or its instance's, and a port beside those of the instance", "[R169]") {
    const Compiled c = compiled(
        "inspectors: [{name: ips, netdev: i0, fail: open, timeout_ms: 200, queue: 9}, {name: ids, netdev: i1}]\n"
        "instances: [{name: red, inspector: ids}, {name: blue}]\n"
        "vports: [{name: a, netdev: d0, instance: red}, {name: b, netdev: d1, instance: red, inspector: ips}, "
        "{name: c, netdev: d2, instance: blue}, {name: p, patch: q, instance: red}, {name: q, patch: p, instance: "
        "blue}, {name: s, trunk: c, vid: 7, instance: red}]");
    const ivds_port& ips = c.port("ips");
    CHECK(ips.kind == IVDS_PORT_INSPECTOR);
    CHECK(ips.inspector == c.ids.ports.at("ips"));
    CHECK(ips.flags == IVDS_PF_FAIL_OPEN);
    CHECK((ips.timeout_ms == 200 && ips.queue == 9 && ips.instance == 0));
    CHECK(c.tables.ports.at(c.ids.ports.at("ips")).netdev == "i0");
    const ivds_port& ids = c.port("ids");
    CHECK((ids.flags == 0 && ids.timeout_ms == 500 && ids.queue == 1024));
    CHECK(c.port("a").inspector == c.ids.ports.at("ids"));
    CHECK(c.port("b").inspector == c.ids.ports.at("ips"));
    CHECK(c.port("c").inspector == 0);
    CHECK(c.port("p").inspector == 0);
    CHECK(c.port("s").inspector == c.ids.ports.at("ids"));
    CHECK(validate(c.tables));
}

TEST_CASE("inspectors that contradict themselves are refused", "[R125]") {
    const auto refused = [](const std::string& text, const char* id, const std::string& cause) {
        const auto model = model_of(text);
        REQUIRE(!model);
        CHECK(model.error().id == id);
        CHECK_THAT(model.error().what, ContainsSubstring(cause));
    };
    refused("inspectors: [{name: i}]", "IVDS-M002", "netdev is missing");
    refused("inspectors: [{name: i, netdev: d, timeout_ms: 9}]", "IVDS-M003", "timeout_ms");
    refused("inspectors: [{name: i, netdev: d, queue: 16385}]", "IVDS-M003", "queue");
    refused("inspectors: [{name: i, netdev: d}, {name: j, netdev: d}]", "IVDS-M015", "netdev d");
    refused("inspectors: [{name: a, netdev: d}]\nvports: [{name: a, netdev: e}]", "IVDS-M019", "name of vport a");
    refused("vports: [{name: a, netdev: e, inspector: i}]", "IVDS-M006", "inspector");
    refused("inspectors: [{name: i, netdev: d}]\nvports: [{name: a, patch: b, inspector: i}]", "IVDS-M056",
            "has no interface");
    const auto used = model_of("inspectors: [{name: i, netdev: d}]\ninstances: [{name: red, inspector: i}]");
    REQUIRE(used);
    pb::Ref ref;
    ref.set_kind(pb::INSPECTOR);
    ref.set_name("i");
    const auto without = next_without(*used, ref);
    REQUIRE(!without);
    CHECK_THAT(without.error().what, ContainsSubstring("instance red"));
}

TEST_CASE("priorities are numbers or the names that people know", "[R132]") {
    const auto value = [](const std::string& field) {
        const Compiled c =
            compiled("profiles: [{name: p, " + field + "}]\nvports: [{name: a, netdev: a, profile: p}]");
        return std::pair(int{c.port("a").pcp}, int{c.port("a").dscp} - 1);
    };
    CHECK(value("mtu_bytes: 1500") == std::pair(0, -1));
    CHECK(value("pcp: 7") == std::pair(7, -1));
    CHECK(value("pcp: keep") == std::pair(int{IVDS_PCP_KEEP}, -1));
    CHECK(value("dscp: 0") == std::pair(0, 0));
    CHECK(value("dscp: 63") == std::pair(0, 63));
    CHECK(value("dscp: ef") == std::pair(0, 46));
    CHECK(value("dscp: af41") == std::pair(0, 34));
    CHECK(value("dscp: cs3") == std::pair(0, 24));
    for (const char* wrong : {"pcp: 8", "pcp: -1", "pcp: high", "dscp: 64", "dscp: af44", "dscp: EF "}) {
        const auto model = model_of(std::string("profiles: [{name: p, ") + wrong + "}]");
        REQUIRE(!model);
        CHECK(model.error().id == "IVDS-M068");
        CHECK(!model.error().fix.empty());
    }
}

TEST_CASE("a vPort has as many flow entries as its profile says", "[R123]") {
    const Compiled c = compiled(
        "profiles: [{name: p, flow_limit: 7}]\nvports: [{name: a, netdev: a}, {name: b, netdev: b, profile: p}]");
    CHECK(c.port("a").flow_limit == kDefaultFlows);
    CHECK(c.port("b").flow_limit == 7);
    CHECK(model_of("profiles: [{name: p, flow_limit: 1048577}]").error().id == "IVDS-M003");
}

TEST_CASE("a vPort has the rates of its profile, as the time that bytes take", "[R132]") {
    const Compiled c = compiled(
        "profiles: [{name: p, rate_in_mbps: 8, burst_in_kib: 64, rate_out_mbps: 100000}]\n"
        "vports: [{name: a, netdev: a}, {name: b, netdev: b, profile: p}]");
    CHECK(c.port("a").rate[IVDS_WAY_IN].ns_per_mib == 0);
    CHECK(c.port("b").rate[IVDS_WAY_IN].ns_per_mib == 1'048'576'000);
    CHECK(c.port("b").rate[IVDS_WAY_IN].burst_ns == 65'536'000);
    CHECK(c.port("b").rate[IVDS_WAY_OUT].ns_per_mib == 83'886);
    CHECK(c.port("b").rate[IVDS_WAY_OUT].burst_ns == 6'250'000'000ULL * 83'886 / 1'048'576);
    for (const char* bad : {"rate_in_mbps: 100001", "burst_out_kib: 8", "rate_in_mbps: 1, burst_in_kib: 1048577"})
        CHECK(model_of(fmt::format("profiles: [{{name: p, {}}}]", bad)).error().id == "IVDS-M003");
}

TEST_CASE("ids of pools and mirrors stay with their names and are saved, also a mirror's 0") {
    const Directory dir;
    const auto intent = [](const std::string& text, const Ids& now) {
        Model model = model_of(text).value();
        Ids ids = assign_ids(model, now).value();
        return Intent{std::move(model), std::move(ids), {{"vport/a/r", 1'700'000'000}}};
    };
    const auto with = [](const std::string& mirrors, const std::string& pools) {
        return "vports: [{name: a, netdev: a}]\nmirrors: [" + mirrors + "]\nvport_pools: [" + pools + "]";
    };
    const Intent one = intent(with("{name: m, to_vport: a}, {name: n, to_vport: a}", "{name: p, vports: [a]}"), {});
    CHECK(one.ids.mirrors == std::map<std::string, std::uint32_t>{{"m", 0}, {"n", 1}});
    CHECK(one.ids.pools == std::map<std::string, std::uint32_t>{{"p", 1}});
    const Intent two =
        intent(with("{name: n, to_vport: a}, {name: o, to_vport: a}", "{name: q, vports: [a]}"), one.ids);
    CHECK(two.ids.mirrors == std::map<std::string, std::uint32_t>{{"n", 1}, {"o", 2}});
    CHECK(two.ids.pools == std::map<std::string, std::uint32_t>{{"q", 2}});
    Store store = Store::open(dir.path).value();
    REQUIRE(store.save({}, one));
    CHECK(load_intent(dir.path).value()->ids == one.ids);
    CHECK(load_intent(dir.path).value()->came_s == one.came_s);
    REQUIRE(store.save(one, two));
    CHECK(load_intent(dir.path).value()->ids == two.ids);
    Intent three = two;
    three.came_s.clear();
    REQUIRE(store.save(two, three));
    CHECK(load_intent(dir.path).value()->came_s.empty());
}

TEST_CASE("more than 32 mirrors are refused") {
    std::string mirrors;
    for (int i = 0; i < 33; ++i) mirrors += fmt::format("{{name: m{}, to_vport: a}}, ", i);
    const Model model = model_of("vports: [{name: a, netdev: a}]\nmirrors: [" + mirrors + "]").value();
    const auto refused = assign_ids(model, {});
    REQUIRE(!refused);
    CHECK(refused.error().code == Code::exhausted);
    CHECK_THAT(refused.error().what, ContainsSubstring("33 mirrors are too many: the data plane holds 32"));
}

TEST_CASE("sets, pools and rules with all their fields come back from YAML and JSON as they were", "[R89]") {
    CHECK(rc::check([] {
        pb::Config config;
        pb::Set& set = *config.add_sets();
        set.set_name("s");
        for (int i = 0; i < *rc::gen::inRange(0, 5); ++i)
            set.add_addresses(fmt::format("10.0.0.{}/32", *rc::gen::inRange(0, 256)));
        if (*rc::gen::arbitrary<bool>()) set.add_vports("v");
        pb::VPortPool& pool = *config.add_vport_pools();
        pool.set_name("p");
        for (int i = 0; i < *rc::gen::inRange(0, 5); ++i) pool.add_vports(fmt::format("v{}", i));
        pb::VPort& vport = *config.add_vports();
        vport.set_name("v");
        vport.set_patch("w");
        pb::Rule& rule = *vport.add_rules();
        rule.set_stateful(*rc::gen::arbitrary<bool>());
        rule.set_log(*rc::gen::arbitrary<bool>());
        rule.set_idle_s(*rc::gen::arbitrary<std::uint32_t>());
        rule.set_hard_s(*rc::gen::arbitrary<std::uint32_t>());
        rule.set_action(*rc::gen::element(pb::Rule::ALLOW, pb::Rule::DROP, pb::Rule::REDIRECT));
        rule.set_to_pool(*rc::gen::element<std::string>("", "p"));
        rule.set_src_set(*rc::gen::element<std::string>("", "s", "yes", "0x1"));
        const auto yaml = config_from_yaml(to_yaml(config), "t");
        RC_ASSERT(yaml.has_value());
        RC_ASSERT(yaml->SerializeAsString() == config.SerializeAsString());
        const auto json = config_from_yaml(to_json(config), "t");  // JSON is YAML
        RC_ASSERT(json.has_value());
        RC_ASSERT(json->SerializeAsString() == config.SerializeAsString());
    }));
}

// ---------------------------------------------------------------------------------------- rules that go by
// themselves

TEST_CASE("a rule goes so long after it came, whatever happens meanwhile", "[R52]") {
    const std::string text = "vports: [{name: a, netdev: a, rules: [{name: r, hard_s: 60}, {name: s}]}]";
    const Compiled c = compiled(text);
    const auto came = came_s(c.model, {}, {}, 1000);
    CHECK(came == std::map<std::string, std::uint64_t>{{"vport/a/r", 1000}});
    // Another change does not start its time anew, another timeout does.
    CHECK(came_s(c.model, c.model, came, 1030) == came);
    const Compiled longer = compiled("vports: [{name: a, netdev: a, rules: [{name: r, hard_s: 90}]}]");
    CHECK(came_s(longer.model, c.model, came, 1030).at("vport/a/r") == 1030);

    const auto none = [](std::uint32_t) -> std::uint64_t { return 0; };
    RuleExpiry expiry;
    expiry.watch(c.model);
    CHECK(expiry.due(c.ids, came, none, 1059).empty());
    const auto due = expiry.due(c.ids, came, none, 1060);
    REQUIRE(due.size() == 1);
    CHECK(due[0].rule.name == "r");
    CHECK(due[0].why == "60 s after it came");
    // A restart forgets nothing of it.
    RuleExpiry fresh;
    fresh.watch(c.model);
    CHECK(fresh.due(c.ids, came, none, 5000).size() == 1);
}

TEST_CASE("a rule of a vPort that moves goes when it would have gone where it was", "[R52][R163]") {
    const std::string text = R"(
profiles: [{name: web, rules: [{name: q, hard_s: 60}]}]
vports: [{name: a, netdev: a, profile: web, rules: [{name: r, hard_s: 60}, {name: s, idle_s: 9}]}]
)";
    const Compiled c = compiled(text);
    pb::Migration migration;
    *migration.mutable_vport() = *c.model.vports.at("a");
    *migration.mutable_profile() = *c.model.profiles.at("web");
    put_ages(c.model, {{"vport/a/r", 1000}, {"profile/web/q", 1010}}, 1030, migration);
    REQUIRE(migration.rule_ages_size() == 2);
    // The clocks of the two hosts are an hour apart. A profile that was there has had its own time.
    const auto ages = [&](const Model& before) {
        auto came = came_s(c.model, before, {}, 4630);
        take_ages(migration, before, 4630, came);
        return came;
    };
    CHECK(ages({}) == std::map<std::string, std::uint64_t>{{"profile/web/q", 4610}, {"vport/a/r", 4600}});
    CHECK(ages(compiled("profiles: [{name: web, rules: [{name: q, hard_s: 60}]}]").model) ==
          std::map<std::string, std::uint64_t>{{"profile/web/q", 4630}, {"vport/a/r", 4600}});
    // What somebody else made up changes no other rule, and no clock.
    auto& forged = *migration.add_rule_ages();
    forged.set_owner(pb::INSTANCE);
    forged.set_rule("x");
    forged.set_age_s(~0U);
    CHECK(ages({}).size() == 2);
}

TEST_CASE("tables are looked through as rarely as the shortest age allows", "[R181]") {
    const auto period_s = [](const std::string& text) { return sweep_period(compiled(text).model).count(); };
    const std::string red = "instances: [{name: red, vvlan: 10, age_s: ";
    CHECK(period_s("") == 5);
    CHECK(period_s(red + "300}]") == 5);
    CHECK(period_s(red + "30}]") == 3);
    CHECK(period_s(red + "2}]") == 1);
    CHECK(period_s("vports: [{name: a, netdev: a, rules: [{name: r, hard_s: 60}]}]") == 5);
    CHECK(period_s("vports: [{name: a, netdev: a, rules: [{name: r, idle_s: 60}]}]") == 1);
}

TEST_CASE("a rule goes when it decided nothing for so long; a restart counts as a decision", "[R52]") {
    const Compiled c = compiled("vports: [{name: a, netdev: a, rules: [{name: r, idle_s: 10}]}]");
    std::uint64_t count = 5;
    const auto packets = [&](std::uint32_t rule) { return rule == c.ids.rules.at("vport/a/r") ? count : 0; };
    RuleExpiry expiry;
    expiry.watch(c.model);
    CHECK(expiry.due(c.ids, {}, packets, 100).empty());
    CHECK(expiry.due(c.ids, {}, packets, 109).empty());
    count = 6;
    CHECK(expiry.due(c.ids, {}, packets, 110).empty());
    expiry.watch(c.model);  // another change
    CHECK(expiry.due(c.ids, {}, packets, 119).empty());
    const auto due = expiry.due(c.ids, {}, packets, 120);
    REQUIRE(due.size() == 1);
    CHECK(due[0].why == "it decided nothing for 10 s");
    RuleExpiry fresh;
    fresh.watch(c.model);
    CHECK(fresh.due(c.ids, {}, packets, 500).empty());
    // A clock that was set back.
    CHECK(fresh.due(c.ids, {}, packets, 400).empty());
    CHECK(fresh.due(c.ids, {}, packets, 409).empty());
    CHECK(fresh.due(c.ids, {}, packets, 410).size() == 1);
}

// ---------------------------------------------------------------------------------------- flows in words

TEST_CASE("a flow counts as gone after the time of its state", "[R123]") {
    ivds_flow_key key{};
    ivds_flow flow{};
    CHECK(flow_timeout_s(key, flow) == 15);
    flow.state = IVDS_FLOW_OPENING;
    CHECK(flow_timeout_s(key, flow) == 30);
    flow.state = IVDS_FLOW_OPEN;
    CHECK(flow_timeout_s(key, flow) == 180);
    key.fields.proto = 6;
    CHECK(flow_timeout_s(key, flow) == 7500);
    flow.state = IVDS_FLOW_CLOSING;
    CHECK(flow_timeout_s(key, flow) == 10);
}

TEST_CASE("what rules look at of a frame is told in words") {
    ivds_fields fields{};
    fields.src_mac[0] = 2;
    fields.type_be = htons(0x86dd);
    fields.proto = 6;
    fields.src[0] = 0xfd;
    fields.src[15] = 1;
    fields.dst[0] = 0xfd;
    fields.sport_be = htons(4000);
    fields.dport_be = htons(23);
    CHECK(fields_text(fields) == "02:00:00:00:00:00 tcp [fd00::1]:4000 -> [fd00::]:23");
    fields.unknown = IVDS_L4_UNKNOWN | IVDS_L4_FRAGMENT;
    CHECK_THAT(fields_text(fields), ContainsSubstring(", a fragment"));
    fields = {};
    fields.type_be = htons(0x88cc);
    CHECK(fields_text(fields) == "00:00:00:00:00:00 ethertype 0x88cc -> 00:00:00:00:00:00");
}

}  // namespace policy_test
