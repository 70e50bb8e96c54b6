// SPDX-License-Identifier: Apache-2.0
// Rules: what their words mean, in which order they are held against a frame, which lists come of them, and what is
// told of them. How a list decides is tested with the data plane.
#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <fstream>
#include <set>
#include <sstream>

#include "agent/clock.h"
#include "agent/rule_view.h"
#include "agent/store.h"
#include "agent/trace_view.h"
#include "api/codec.h"
#include "compile/compile.h"
#include "compile/rules.h"
#include "ctl_directory.h"
#include "model/rule.h"

using namespace ivds;
using Catch::Matchers::ContainsSubstring;

namespace rules_test {
namespace {

Result<Model> model_of(const std::string& text, const Model& now = {}) {
    auto config = config_from_yaml(text, "t");
    INFO((config ? "" : config.error().text()));
    REQUIRE(config);
    return next_from_config(now, std::move(*config), {});
}

// A vPort whose list holds these rules.
std::string vport_with(const std::string& rules) {
    return "vports: [{name: web1, netdev: tap0, rules: [" + rules + "]}]";
}

struct Compiled {
    Model model;
    Ids ids;
    Tables tables;

    [[nodiscard]] const ivds_port& port(const std::string& name) const {
        return tables.ports.at(ids.ports.at(name)).value;
    }
    // The rules of a list in the order in which they decide, by the names of their ids.
    [[nodiscard]] std::vector<std::string> order(std::uint32_t acl) const {
        std::map<std::uint32_t, std::string> by_order;
        for (const auto& [key, entry] : tables.acls.at(acl)->rules) {
            const auto named = std::ranges::find(ids.rules, entry.rule, [](const auto& each) { return each.second; });
            by_order[entry.order] = named->first;
        }
        std::vector<std::string> out;
        for (const auto& [order, name] : by_order) out.push_back(name);
        return out;
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
    return out;
}

pb::Rule rule(const std::string& text) {
    pb::Rule out;
    REQUIRE(message_from_yaml(text, "t", out));
    return out;
}

AclRule parsed(const std::string& text) {
    const auto out = parse_rule(rule(text));
    INFO((out ? "" : out.error().text()));
    REQUIRE(out);
    return *out;
}

pb::RulesRequest of(pb::Kind kind, const std::string& name) {
    pb::RulesRequest request;
    request.mutable_owner()->set_kind(kind);
    request.mutable_owner()->set_name(name);
    return request;
}

// "ORDER FROM NAME DIRECTION ACTION PACKETS", a line a rule.
std::vector<std::string> told(const pb::RulesReply& reply) {
    std::vector<std::string> out;
    for (const pb::RuleState& state : reply.rules())
        out.push_back(fmt::format("{} {} {} {} {} {} {}", state.order(),
                                  state.owner_kind() == pb::KIND_NONE ? "-" : to_text(state.owner_kind()),
                                  state.owner(), state.name().empty() ? "default" : state.name(),
                                  to_text(state.rule().direction()), to_text(state.rule().action()),
                                  state.packets()));
    return out;
}

using Names = std::vector<std::string>;

}  // namespace

// ---------------------------------------------------------------------------------------- words

TEST_CASE("a rule implies the EtherTypes of what it looks at") {
    using Types = std::vector<std::uint16_t>;
    CHECK(parsed("{}").ethertypes == Types{});
    CHECK(parsed("{src_mac: 02:00:00:00:00:01}").ethertypes == Types{});
    CHECK(parsed("{ethertype: 0x88cc}").ethertypes == Types{0x88cc});
    CHECK(parsed("{ethertype: ip6}").ethertypes == Types{0x86dd});
    CHECK(parsed("{src: 10.0.0.1}").ethertypes == Types{0x0800});
    CHECK(parsed("{dst: 'fd00::/8'}").ethertypes == Types{0x86dd});
    CHECK(parsed("{dst: 0.0.0.0/0}").ethertypes == Types{0x0800});
    CHECK(parsed("{protocol: tcp}").ethertypes == Types{0x0800, 0x86dd});
    CHECK(parsed("{protocol: 47}").ethertypes == Types{0x0800, 0x86dd});
    CHECK(parsed("{protocol: udp, src: 'fd00::1'}").ethertypes == Types{0x86dd});
    CHECK(parsed("{protocol: sctp, ethertype: ip}").ethertypes == Types{0x0800});
    CHECK(parsed("{protocol: icmp}").ethertypes == Types{0x0800});
    CHECK(parsed("{protocol: icmp6}").ethertypes == Types{0x86dd});
    CHECK(parsed("{ethertype: arp, src: 10.0.0.1, protocol: reply}").ethertypes == Types{0x0806});
    CHECK(parsed("{ethertype: '0x0806', protocol: request}").proto == 1);
    CHECK(parsed("{nd_target: 'fd00::/8'}").ethertypes == Types{0x86dd});
    CHECK(parsed("{nd_target: 'fd00::/8'}").proto == 58);
}

TEST_CASE("the words of a rule become what the data plane looks at") {
    const AclRule all = parsed(
        "{src_mac: '02:00:5e:00:00:00/ff:ff:ff:00:00:00', dst_mac: 02:00:00:00:00:09, src: 10.1.0.0/16, dst: "
        "10.2.3.4, "
        "protocol: tcp, src_ports: ['1024-65535'], dst_ports: ['80', '8000-8080'], tcp_flags: syn/syn+ack, action: "
        "drop}");
    CHECK(all.action == IVDS_ACL_DROP);
    CHECK(all.src_mac->value == Mac{2, 0, 0x5e, 0, 0, 0});
    CHECK(all.src_mac->mask == Mac{0xff, 0xff, 0xff, 0, 0, 0});
    CHECK(all.dst_mac->mask == Mac{0xff, 0xff, 0xff, 0xff, 0xff, 0xff});
    CHECK(all.src->bits == 112);
    CHECK(all.src->value == std::array<std::uint8_t, 16>{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 1, 0, 0});
    CHECK(all.dst->bits == 128);
    CHECK(all.proto == 6);
    REQUIRE(all.sports.size() == 1);
    CHECK(all.sports[0].first == 1024);
    CHECK(all.sports[0].last == 65535);
    REQUIRE(all.dports.size() == 2);
    CHECK(all.dports[0].first == 80);
    CHECK(all.dports[0].last == 80);
    CHECK(all.dports[1].last == 8080);
    CHECK(all.tcp_flags->value == 0x02);
    CHECK(all.tcp_flags->mask == 0x12);
    CHECK(parsed("{protocol: tcp, tcp_flags: fin}").tcp_flags->mask == 0x01);
    CHECK(parsed("{protocol: tcp, tcp_flags: none/syn+ack}").tcp_flags->value == 0);
    CHECK(parsed("{}").action == IVDS_ACL_ALLOW);
    CHECK(parsed("{src: 'fd00::/8'}").src->bits == 8);
    const AclRule ping = parsed("{protocol: icmp, icmp: 8/0}");
    CHECK(ping.icmp_type == 8);
    CHECK(ping.icmp_code == 0);
    CHECK(!parsed("{protocol: icmp6, icmp: '135'}").icmp_code);
    CHECK(parsed("{nd_target: 'fe80::/10', protocol: icmp6, icmp: '136'}").nd_target->bits == 10);
}

TEST_CASE("what a rule says wrong is refused with the rule's name, a cause and a fix") {
    struct Wrong {
        const char* rule;
        const char* id;
        const char* cause;
        const char* fix;
    };
    const auto wrong = GENERATE(
        Wrong{"ethertype: ipp", "IVDS-M042", "ethertype \"ipp\" is none", "did you mean ip?"},
        Wrong{"ethertype: 0x05ff", "IVDS-M042", "ethertype", "from 0x0600 to 0xffff"},
        Wrong{"ethertype: 0x10000", "IVDS-M042", "ethertype", "0xffff"},
        Wrong{"src_mac: '02:00'", "IVDS-M042", "src_mac \"02:00\" is no MAC", "02:00:5e:00:00:01"},
        Wrong{"dst_mac: '02:00:00:00:00:00/x'", "IVDS-M042", "dst_mac", "with a mask"},
        Wrong{"src_mac: '02:00:00:00:00:01/ff:ff:ff:00:00:00'", "IVDS-M048", "bits that its mask leaves out",
              "write 02:00:00:00:00:00/ff:ff:ff:00:00:00"},
        Wrong{"src: 10.0.0", "IVDS-M042", "src \"10.0.0\" is no address", "10.0.0.0/8"},
        Wrong{"src: 10.0.0.0/33", "IVDS-M042", "no prefix", ""},
        Wrong{"dst: 'fd00::/129'", "IVDS-M042", "dst \"fd00::/129\"", ""},
        Wrong{"dst: 10.0.0.0/", "IVDS-M042", "dst", ""},
        Wrong{"src: 10.1.2.3/16", "IVDS-M048", "bits set behind its prefix", "write 10.1.0.0/16"},
        Wrong{"dst: 'fd00::1/8'", "IVDS-M048", "dst fd00::1/8", "write fd00::/8"},
        Wrong{"src: 10.0.0.1, dst: 'fd00::1'", "IVDS-M043", "src 10.0.0.1 is IPv4, and dst fd00::1 is IPv6",
              "two rules"},
        Wrong{"ethertype: ip6, src: 10.0.0.1", "IVDS-M043", "ethertype ip6 is IPv6, and src 10.0.0.1 is IPv4", ""},
        Wrong{"ethertype: ip, protocol: icmp6", "IVDS-M043", "protocol icmp6 is IPv6", ""},
        Wrong{"src: 'fd00::1', protocol: icmp", "IVDS-M043", "protocol icmp is IPv4", ""},
        Wrong{"ethertype: arp, src: 'fd00::1'", "IVDS-M043", "ethertype arp is of IPv4", "nd_target"},
        Wrong{"ethertype: 0x88cc, dst: 10.0.0.1", "IVDS-M043", "0x88cc, which has no addresses", ""},
        Wrong{"ethertype: 0x88cc, protocol: tcp", "IVDS-M043", "0x88cc, which has none", ""},
        Wrong{"protocol: tpc", "IVDS-M042", "protocol \"tpc\" is none", "did you mean tcp?"},
        Wrong{"protocol: '256'", "IVDS-M042", "protocol \"256\"", "up to 255"},
        Wrong{"ethertype: arp, protocol: tcp", "IVDS-M042", "none of ARP", "request, reply"},
        Wrong{"dst_ports: ['80']", "IVDS-M044", "dst_ports without a protocol", "tcp, udp or sctp"},
        Wrong{"protocol: icmp, src_ports: ['80']", "IVDS-M044", "src_ports", ""},
        Wrong{"ethertype: arp, protocol: '6', src_ports: ['80']", "IVDS-M044", "src_ports", ""},
        Wrong{"protocol: tcp, dst_ports: ['2000-1000']", "IVDS-M045", "2000-1000 is an empty range", "1000-2000"},
        Wrong{"protocol: tcp, dst_ports: ['']", "IVDS-M045", "no port", "80 or 1000-2000"},
        Wrong{"protocol: tcp, dst_ports: ['80-']", "IVDS-M045", "no port", ""},
        Wrong{"protocol: tcp, dst_ports: ['65536']", "IVDS-M045", "no port", "0 to 65535"},
        Wrong{"protocol: tcp, src_ports: ['1-2-3']", "IVDS-M045", "no range", ""},
        Wrong{"protocol: udp, dst_ports: [1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]", "IVDS-M046", "17 ranges",
              "at most 16"},
        Wrong{"protocol: tcp, dst_ports: ['80-90', '85-100']", "IVDS-M080", "dst_ports 85-100 overlaps with 80-90",
              "write 80-100"},
        Wrong{"protocol: udp, src_ports: ['53', '1-9', '53']", "IVDS-M080", "src_ports 53 overlaps with 53",
              "write 53"},
        Wrong{"src_mac: 01:00:5e:00:00:01", "IVDS-M081", "no frame comes from one", "use dst_mac"},
        Wrong{"src_mac: '01:00:00:00:00:00/01:00:00:00:00:00'", "IVDS-M081", "src_mac", ""},
        Wrong{"protocol: tcp, icmp: '8'", "IVDS-M044", "icmp without a protocol", "icmp or icmp6"},
        Wrong{"icmp: '8'", "IVDS-M044", "icmp without a protocol", "icmp or icmp6"},
        Wrong{"protocol: icmp, icmp: '256'", "IVDS-M042", "icmp \"256\"", "TYPE/CODE"},
        Wrong{"protocol: icmp, icmp: 8/", "IVDS-M042", "icmp \"8/\"", ""},
        Wrong{"nd_target: 10.0.0.1", "IVDS-M043", "nd_target 10.0.0.1 is IPv4", "arp with dst"},
        Wrong{"nd_target: 'fe80::1/64'", "IVDS-M048", "nd_target fe80::1/64", "write fe80::/64"},
        Wrong{"nd_target: 'fe80::/'", "IVDS-M042", "nd_target", ""},
        Wrong{"nd_target: 'fe80::1', ethertype: arp", "IVDS-M043", "nd_target with ethertype arp", "ip6"},
        Wrong{"nd_target: 'fe80::1', ethertype: ip", "IVDS-M043", "nd_target fe80::1 is IPv6", ""},
        Wrong{"nd_target: 'fe80::1', src: 10.0.0.1", "IVDS-M043", "src 10.0.0.1 is IPv4", ""},
        Wrong{"nd_target: 'fe80::1', protocol: udp", "IVDS-M044", "nd_target with protocol udp", "icmp6"},
        Wrong{"nd_target: 'fe80::1', protocol: icmp6, icmp: '128'", "IVDS-M044", "icmp 128, which has no target",
              "135"},
        Wrong{"nd_target: 'fe80::1', dst: 'ff02::1'", "IVDS-M054", "nd_target excludes dst", "leave one out"},
        Wrong{"nd_target: 'fe80::1', stateful: true", "IVDS-M052", "opens no connection", "leave stateful out"},
        Wrong{"protocol: udp, tcp_flags: syn", "IVDS-M044", "tcp_flags without protocol tcp", "give protocol tcp"},
        Wrong{"protocol: tcp, tcp_flags: sin", "IVDS-M042", "tcp_flags \"sin\"", "syn/syn+ack"},
        Wrong{"protocol: tcp, tcp_flags: none", "IVDS-M042", "tcp_flags \"none\"", "none/MASK"},
        Wrong{"protocol: tcp, tcp_flags: syn+ack/syn", "IVDS-M049", "match nothing", "in the mask too"});
    CAPTURE(wrong.rule);
    const auto model = model_of(vport_with(fmt::format("{{name: it, {}}}", wrong.rule)));
    REQUIRE(!model);
    CHECK(model.error().code == Code::invalid);
    CHECK(model.error().id == wrong.id);
    CHECK_THAT(model.error().what, ContainsSubstring("vport web1: rule it: "));
    CHECK_THAT(model.error().what, ContainsSubstring(wrong.cause));
    CHECK(!model.error().fix.empty());
    CHECK_THAT(model.error().fix, ContainsSubstring(wrong.fix));
    // The same holds for every owner.
    const std::string list = fmt::format(", rules: [{{{}}}]", wrong.rule);
    CHECK(model_of("profiles: [{name: web" + list + "}]").error().id == wrong.id);
    CHECK(model_of("instances: [{name: red" + list + "}]").error().id == wrong.id);
}

TEST_CASE("rules have names of their own, also those that have none, and a list has an end") {
    CHECK(model_of(vport_with("{name: a}, {name: a}")).error().id == "IVDS-M047");
    const auto implied = model_of(vport_with("{name: rule-2}, {}"));
    REQUIRE(!implied);
    CHECK_THAT(implied.error().what, ContainsSubstring("two rules are named rule-2"));
    for (const char* name : {"A", "a/b", "-a", "ä"})
        CHECK(model_of(vport_with(fmt::format("{{name: '{}'}}", name))).error().id == "IVDS-M047");
    CHECK(model_of(vport_with("{}, {}, {name: rule-1b}")));
    pb::VPort vport;
    vport.set_name("p");
    vport.set_netdev("d");
    for (int i = 0; i < kMaxRules; ++i) vport.add_rules();
    CHECK(validate_object(vport));
    vport.add_rules();
    CHECK(validate_object(vport).error().id == "IVDS-M046");
}

TEST_CASE("numbers that are no words of an enumeration are refused, as a client of the API may send them") {
    pb::Profile profile;
    profile.set_name("p");
    profile.set_default_out(static_cast<pb::Rule::Action>(7));
    CHECK(validate_object(profile).error().id == "IVDS-M042");
    profile.clear_default_out();
    profile.add_rules()->set_action(static_cast<pb::Rule::Action>(7));
    CHECK(validate_object(profile).error().id == "IVDS-M042");
    profile.mutable_rules(0)->clear_action();
    profile.mutable_rules(0)->set_direction(static_cast<pb::Rule::Direction>(7));
    CHECK(validate_object(profile).error().id == "IVDS-M042");
}

TEST_CASE("addresses and words are kept in one form, and read back from YAML as they are") {
    const Model model =
        model_of(vport_with("{name: a, ethertype: IP6, src: 'FD00:0::/8', dst: 'fd00:0:0::1/128', protocol: TCP, "
                            "tcp_flags: SYN, src_mac: 02:00:5E:00:00:01, dst_ports: ['80', 90-99]}"))
            .value();
    const pb::Rule& kept = model.vports.at("web1")->rules(0);
    CHECK(kept.ethertype() == "ip6");
    CHECK(kept.src() == "fd00::/8");
    CHECK(kept.dst() == "fd00::1");
    CHECK(kept.src_mac() == "02:00:5e:00:00:01");
    CHECK(kept.protocol() == "tcp");
    const std::string text = to_yaml(to_config(model));
    CHECK_THAT(text, ContainsSubstring("dst_ports: [\"80\", \"90-99\"]"));
    const Model again = model_of(text).value();
    CHECK(diff(model, again).empty());
    CHECK(to_yaml(to_config(again)) == text);
}

TEST_CASE("what a rule matches is told in words") {
    CHECK(match_text(rule("{}")) == "any");
    CHECK(match_text(rule("{protocol: tcp, src: 10.0.0.0/8, dst_ports: ['80', 90-99]}")) ==
          "tcp from 10.0.0.0/8 to any port 80,90-99");
    CHECK(match_text(rule("{ethertype: arp, protocol: request, dst: 10.0.0.1}")) == "arp request to 10.0.0.1");
    CHECK(match_text(rule("{protocol: icmp, icmp: 8/0}")) == "icmp type 8/0");
    CHECK(match_text(rule("{protocol: icmp6, icmp: '136', nd_target: 'fd00::9'}")) == "icmp6 type 136 about fd00::9");
    CHECK(match_text(rule("{protocol: tcp, tcp_flags: syn/syn+ack, src_mac: 02:00:00:00:00:01, src_ports: ['1']}")) ==
          "tcp flags syn/syn+ack from 02:00:00:00:00:01 port 1");
}

// ---------------------------------------------------------------------------------------- lists

TEST_CASE(
    "a vPort's frames meet its own rules, its profile's, its instance's, each by priority, and last the default",
    "[R51]") {
    const Compiled c = compiled(
        "instances: [{name: red, rules: [{name: i1, priority: 900}, {name: i2, direction: in}]}]\n"
        "profiles: [{name: web, default_out: drop, rules: [{name: p1}, {name: p2, priority: 5, direction: out}, "
        "{name: p3, priority: 5, action: drop, protocol: tcp}]}]\n"
        "vports: [{name: a, netdev: a, instance: red, profile: web, rules: [{name: v1, protocol: udp}, {name: v2, "
        "priority: 1, ethertype: arp, direction: in}]}]");
    CHECK(c.order(c.port("a").acl_in) == Names{"vport/a/v2", "vport/a/v1", "profile/web/p3", "profile/web/p1"});
    CHECK(c.order(c.port("a").acl_out) == Names{"vport/a/v1", "profile/web/p2", "profile/web/p3"});
    CHECK(c.tables.acls.at(c.port("a").acl_in)->default_action == IVDS_ACL_ALLOW);
    CHECK(c.tables.acls.at(c.port("a").acl_out)->default_action == IVDS_ACL_DROP);

    const auto own = effective_rules(c.model, *c.model.vports.at("a"));
    Names names;
    for (const OwnedRule& each : own) names.push_back(each.name);
    CHECK(names == Names{"v2", "v1", "p2", "p3", "p1", "i1", "i2"});
}

TEST_CASE("without a rule and with a default that allows there is no list; a default that drops is one") {
    const Compiled c = compiled(
        "instances: [{name: red, rules: [{name: i, direction: out}]}]\nprofiles: [{name: open}, {name: shut, "
        "default_in: drop}]\nvports: [{name: a, netdev: a}, {name: b, netdev: b, profile: open}, {name: c, netdev: "
        "c, "
        "profile: shut}, {name: d, netdev: d, profile: shut}, {name: e, netdev: e, instance: red}]");
    for (const char* name : {"a", "b"}) {
        CHECK(c.port(name).acl_in == 0);
        CHECK(c.port(name).acl_out == 0);
    }
    REQUIRE(c.port("c").acl_in != 0);
    CHECK(c.port("c").acl_out == 0);
    CHECK(c.port("d").acl_in == c.port("c").acl_in);
    const AclRow& shut = *c.tables.acls.at(c.port("c").acl_in);
    CHECK(shut.masks.empty());
    CHECK(shut.default_action == IVDS_ACL_DROP);
    CHECK(c.port("e").acl_in == 0);
    CHECK(c.port("e").acl_out != 0);
    CHECK(c.tables.acls.size() == 2);
}

TEST_CASE("vPorts with the same rules share one list, however many they are") {
    std::string text = "profiles: [{name: web, rules: [";
    for (int i = 0; i < 100; ++i) text += fmt::format("{{name: r{}, protocol: tcp, dst_ports: ['{}']}}, ", i, i + 1);
    text += "]}]\nvports:\n";
    for (int i = 0; i < 1000; ++i) text += fmt::format("- {{name: p{0}, netdev: d{0}, profile: web}}\n", i);
    const Compiled c = compiled(text + "- {name: other, netdev: x, profile: web, rules: [{name: own}]}\n");
    CHECK(c.ids.rules.size() == 101);
    std::set<std::uint32_t> lists;
    for (int i = 0; i < 1000; ++i) {
        lists.insert(c.port(fmt::format("p{}", i)).acl_in);
        // Both directions have the same rules and the same default.
        lists.insert(c.port(fmt::format("p{}", i)).acl_out);
    }
    CHECK(lists.size() == 1);
    CHECK(c.tables.acls.size() == 2);
    CHECK(!lists.contains(c.port("other").acl_in));
}

TEST_CASE("a list that stays is not made again, and one that changes is another one under another id") {
    const auto text = [](const std::string& port) {
        return fmt::format(
            "profiles: [{{name: web, rules: [{{name: p, protocol: tcp}}]}}]\nvports: [{{name: a, netdev: a, profile: "
            "web}}, {{name: b, netdev: b, profile: web, rules: [{{name: ssh, protocol: tcp, dst_ports: ['{}']}}]}}]",
            port);
    };
    const Compiled one = compiled(text("22"));
    const Compiled two = compiled(text("2222"), one);
    const std::uint32_t a = one.port("a").acl_in;
    CHECK(two.port("a").acl_in == a);
    CHECK(two.tables.acls.at(a) == one.tables.acls.at(a));
    CHECK(two.port("b").acl_in != one.port("b").acl_in);
    // What the rule counts under stays with its name.
    CHECK(two.ids.rules == one.ids.rules);
    CHECK(!two.tables.acls.contains(one.port("b").acl_in));
    // Back again: the list is the same one as at first, and yet not under its id, which waits for its turn.
    const Compiled three = compiled(text("22"), two);
    CHECK(three.port("b").acl_in != one.port("b").acl_in);
    CHECK(three.port("b").acl_in != two.port("b").acl_in);
    CHECK(three.ids.rules == one.ids.rules);
}

TEST_CASE("what a rule counts under stays with its owner and name alone", "[R51]") {
    const Compiled one = compiled(vport_with("{name: a}, {protocol: tcp}, {name: c, priority: 3}"));
    CHECK(one.ids.rules ==
          std::map<std::string, std::uint32_t>{{"vport/web1/a", 1}, {"vport/web1/c", 2}, {"vport/web1/rule-2", 3}});
    const Compiled two = compiled(vport_with("{name: c, action: drop}, {name: b}"), one);
    CHECK(two.ids.rules == std::map<std::string, std::uint32_t>{{"vport/web1/b", 4}, {"vport/web1/c", 2}});
    // Ids that became free are not taken again while others are.
    const Compiled three = compiled(vport_with("{name: a}"), two);
    CHECK(three.ids.rules == std::map<std::string, std::uint32_t>{{"vport/web1/a", 5}});
}

TEST_CASE("no list takes over the id of one that goes in the same change, also when the ids run out") {
    Model model;
    const auto with_default = [&](std::uint32_t count, std::uint16_t port) {
        model.vports.clear();
        for (std::uint32_t i = 0; i < count; ++i) {
            auto vport = std::make_shared<pb::VPort>();
            vport->set_name(fmt::format("p{}", i));
            pb::Rule& one = *vport->add_rules();
            one.set_protocol("tcp");
            one.add_dst_ports(std::to_string(port));
            model.vports[vport->name()] = vport;
        }
    };
    // Each vPort has one list for both directions: its rule is for both.
    constexpr std::uint32_t ports = IVDS_MAX_PORTS - 1;
    with_default(ports, 1);
    const Ids one = assign_ids(model, {}).value();
    REQUIRE(one.acls.size() == ports);
    with_default(ports, 2);
    const Ids two = assign_ids(model, one).value();
    std::set<std::uint32_t> before;
    for (const auto& [digest, id] : one.acls) before.insert(id);
    for (const auto& [digest, id] : two.acls) REQUIRE(!before.contains(id));

    // Lists for each direction fill the table, and there is no room for others beside them.
    for (auto& [name, vport] : model.vports) {
        auto both = std::make_shared<pb::VPort>(*vport);
        both->mutable_rules(0)->set_direction(pb::Rule::IN);
        pb::Rule& out = *both->add_rules();
        out.set_direction(pb::Rule::OUT);
        vport = both;
    }
    const Ids full = assign_ids(model, {}).value();
    CHECK(full.acls.size() == 2 * ports);
    with_default(ports, 3);
    const auto refused = assign_ids(model, full);
    REQUIRE(!refused);
    CHECK(refused.error().code == Code::exhausted);
    CHECK_THAT(refused.error().what, ContainsSubstring("lists of rules"));
}

TEST_CASE("rules that need more than the data plane's tables hold are refused, with the vPort and the direction") {
    // Every source range by every destination range: 16 * 30 prefixes each.
    std::string ranges;
    for (int i = 0; i < 16; ++i) ranges += fmt::format("'{}-{}', ", i * 4096 + 1, i * 4096 + 4094);
    const auto model = model_of(
        vport_with(fmt::format("{{protocol: tcp, direction: out, src_ports: [{0}], dst_ports: [{0}]}}", ranges)));
    REQUIRE(model);
    const Ids ids = assign_ids(*model, {}).value();
    const auto tables = compile(*model, ids);
    REQUIRE(!tables);
    CHECK(tables.error().code == Code::exhausted);
    CHECK(tables.error().id == "IVDS-M041");
    CHECK_THAT(tables.error().what, ContainsSubstring("the rules of vport web1 to the VM"));
}

TEST_CASE("ids of rules and lists are saved with the others") {
    const Directory dir;
    const auto intent = [](const std::string& text, const Ids& now) {
        Model model = model_of(text).value();
        Ids ids = assign_ids(model, now).value();
        return Intent{std::move(model), std::move(ids), {}};
    };
    const Intent one = intent(vport_with("{name: a}, {name: b, protocol: tcp}"), {});
    const Intent two = intent(vport_with("{name: b, protocol: udp}"), one.ids);
    REQUIRE(two.ids.acls.size() == 1);
    {
        Store store = Store::open(dir.path).value();
        REQUIRE(store.save({}, one));
        CHECK(load_intent(dir.path).value()->ids == one.ids);
        REQUIRE(store.save(one, two));
    }
    const auto loaded = load_intent(dir.path).value();
    CHECK(loaded->ids == two.ids);
    CHECK(to_yaml(to_config(loaded->model)) == to_yaml(to_config(two.model)));
}

// ---------------------------------------------------------------------------------------- what is told

TEST_CASE("the rules of a vPort are listed in their order with what each counted, and the default last", "[R51]") {
    const Compiled c = compiled(
        "instances: [{name: red, rules: [{name: i}]}]\nprofiles: [{name: web, default_out: drop, rules: [{name: p, "
        "direction: out}]}]\nvports: [{name: a, netdev: a, instance: red, profile: web, rules: [{name: low}, {name: "
        "high, priority: 7, protocol: tcp, action: drop}]}, {name: b, netdev: b, rules: [{name: other}]}]");
    const std::map<std::uint32_t, ivds_rule_count> counts = {{c.ids.rules.at("vport/a/high"), {5, 300, 0}},
                                                             {c.ids.rules.at("instance/red/i"), {7, 420, 1}},
                                                             {9999, {1, 1, 1}}};
    const auto reply = view_rules(c.model, c.ids, counts, of(pb::VPORT, "a"));
    REQUIRE(reply);
    CHECK(told(*reply) == Names{"1 vport a high both drop 5", "2 vport a low both allow 0",
                                "3 profile web p out allow 0", "4 instance red i both allow 7",
                                "5 profile web default in allow 0", "6 profile web default out drop 0"});
    CHECK(reply->rules(0).bytes() == 300);
    CHECK(reply->rules(0).match() == "tcp");
    CHECK(reply->rules(0).id() == c.ids.rules.at("vport/a/high"));
    // Of the host's running time, told as one of the calendar.
    CHECK(reply->rules(0).last_s() == 0);
    CHECK(reply->rules(3).last_s() + now_ns(CLOCK_MONOTONIC) / 1'000'000'000 >=
          now_ns(CLOCK_REALTIME) / 1'000'000'000 - 1);
    CHECK(reply->rules(3).last_s() <= now_ns(CLOCK_REALTIME) / 1'000'000'000);
    CHECK(told(*view_rules(c.model, c.ids, counts, of(pb::VPORT, "b"))) ==
          Names{"1 vport b other both allow 0", "2 -  default in allow 0", "3 -  default out allow 0"});
    CHECK(
        told(*view_rules(c.model, c.ids, counts, of(pb::PROFILE, "web"))) ==
        Names{"1 profile web p out allow 0", "2 profile web default in allow 0", "3 profile web default out drop 0"});
    CHECK(told(*view_rules(c.model, c.ids, counts, of(pb::INSTANCE, "red"))) ==
          Names{"1 instance red i both allow 7"});
    CHECK(view_rules(c.model, c.ids, counts, {})->rules_size() == 5);
    CHECK(view_rules(c.model, c.ids, counts, of(pb::VPORT, "nobody")).error().code == Code::not_found);
    CHECK(view_rules(c.model, c.ids, counts, of(pb::UPLINK, "up")).error().id == "IVDS-A004");
}

TEST_CASE("a trace names the rule that decided, or whose default, and how to change it") {
    const Compiled c = compiled(
        "profiles: [{name: web, default_out: drop}]\nvports: [{name: a, netdev: a, rules: [{name: no-telnet, "
        "protocol: "
        "tcp, dst_ports: ['23'], action: drop}]}, {name: b, netdev: b, profile: web}]");
    const std::uint32_t a = c.ids.ports.at("a");
    const std::uint32_t b = c.ids.ports.at("b");
    const auto trace = [&](std::vector<ivds_trace_step> steps) {
        return view_trace(c.model, c.ids, {{.rung = "tc", .steps = std::move(steps), .more_steps = 0, .fields = {}}});
    };
    const auto step = [](std::uint32_t kind, std::array<std::uint32_t, 4> arg) {
        ivds_trace_step out{};
        out.kind = kind;
        std::ranges::copy(arg, out.arg);
        return out;
    };

    const auto refused =
        trace({step(IVDS_TRACE_PORT, {a, IVDS_PORT_VPORT, 0, 0}),
               step(IVDS_TRACE_ACL, {c.port("a").acl_in, c.ids.rules.at("vport/a/no-telnet"), IVDS_ACL_DROP, 0}),
               step(IVDS_TRACE_DROP, {a, IVDS_DROP_ACL, 1, 60})});
    CHECK(refused.steps(1).text() == "rule no-telnet of vport a: drop");
    CHECK(refused.steps(1).change() == "ivds-ctl rule set vport a no-telnet --action allow");
    CHECK(refused.steps(1).stage() == 3);
    CHECK_THAT(refused.steps(2).change(), ContainsSubstring("ivds-ctl rule list --vport a"));
    CHECK(refused.drop_reason() == "acl");

    // Its own list lets it pass by default, the other end's does not.
    const auto unwanted = trace({step(IVDS_TRACE_PORT, {a, IVDS_PORT_VPORT, 0, 0}),
                                 step(IVDS_TRACE_ACL, {c.port("a").acl_in, 0, IVDS_ACL_ALLOW, 0}),
                                 step(IVDS_TRACE_DESTINATION, {1, b, 0, 0}),
                                 step(IVDS_TRACE_ACL, {c.port("b").acl_out, 0, IVDS_ACL_DROP, 0}),
                                 step(IVDS_TRACE_EGRESS, {b, 0, 0, IVDS_DROP_ACL_OUT}),
                                 step(IVDS_TRACE_DROP, {b, IVDS_DROP_ACL_OUT, 1, 60})});
    CHECK(unwanted.steps(1).text() == "no rule matches, and vport a has no profile: allow");
    CHECK(unwanted.steps(3).text() == "default of profile web for frames to the VM: drop");
    CHECK(unwanted.steps(3).change() == "ivds-ctl profile update web --default-out allow");
    CHECK_THAT(unwanted.steps(5).change(), ContainsSubstring("ivds-ctl rule list --vport b"));

    const auto gone = trace({step(IVDS_TRACE_ACL, {7, 4711, IVDS_ACL_ALLOW, 0})});
    CHECK(gone.steps(0).text() == "rule #4711: allow");
}

TEST_CASE("the example with rules is a configuration that compiles") {
    std::ifstream file(IVDS_EXAMPLES "/rules.yaml");
    std::stringstream text;
    text << file.rdbuf();
    const Compiled c = compiled(text.str());
    const auto in = c.order(c.port("web1").acl_in);
    REQUIRE(in.size() > 2);
    CHECK(in[0] == "vport/web1/ssh-answers");
    CHECK(in[1] == "profile/web/no-connects");
    CHECK(c.tables.acls.at(c.port("web2").acl_out)->default_action == IVDS_ACL_DROP);
    CHECK(c.tables.acls.size() == 4);
    const auto again = model_of(to_yaml(to_config(c.model)));
    REQUIRE(again);
    CHECK(diff(c.model, *again).empty());
}

}  // namespace rules_test
