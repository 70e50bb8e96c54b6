// SPDX-License-Identifier: Apache-2.0
// rule_test.cpp -- rules on the command line: the list that is in effect, and changes of one rule in its owner's
// list.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "api/codec.h"
#include "fake_agent.h"

namespace ivds::test {
namespace {

using Catch::Matchers::ContainsSubstring;

pb::Object web1_with_rules() {
    pb::Object object;
    const auto done = message_from_yaml(
        "vport: {name: web1, netdev: veth0, rules: [{name: ssh, protocol: tcp, dst_ports: ['22']}, {ethertype: arp}, "
        "{name: last, action: drop}]}",
        "t", object);
    REQUIRE(done);
    return object;
}

// The names of the rules that were sent, and "-" for one without.
std::vector<std::string> sent(const Shell& shell) {
    std::vector<std::string> names;
    for (const pb::Rule& rule : shell.agent.put_request.object().vport().rules())
        names.push_back(rule.name().empty() ? "-" : rule.name());
    return names;
}

using Names = std::vector<std::string>;

}  // namespace

TEST_CASE("rule list shows order, origin, match and counters, and the default last", "[R51]") {
    Shell shell;
    REQUIRE(message_from_yaml(R"(
rules:
- {order: 1, owner_kind: vport, owner: web1, name: no-telnet, rule: {priority: 7, direction: out, protocol: tcp, action: drop}, match: tcp to any port 23, id: 3, packets: 5, bytes: 300}
- {order: 2, owner_kind: profile, owner: web, rule: {direction: in}, match: any}
- {order: 3, rule: {direction: out}, match: any}
)",
                              "t", shell.agent.rules_reply));
    const Outcome done = shell({"rule", "list", "--vport", "web1"});
    REQUIRE(done.code == 0);
    CHECK(done.out ==
          "ORDER  FROM         NAME       PRIORITY  DIRECTION  MATCH               ACTION  PACKETS  BYTES   LAST\n"
          "    1  vport web1   no-telnet         7  out        tcp to any port 23  drop          5    300  never\n"
          "    2  profile web  default           -  in         any                 allow         -      -      -\n"
          "    3  -            default           -  out        any                 allow         -      -      -\n");
    CHECK(shell.agent.rules_request.owner().kind() == pb::VPORT);
    CHECK(shell.agent.rules_request.owner().name() == "web1");
    CHECK(shell({"rule", "list", "--json"}).out == to_json(shell.agent.rules_reply) + "\n");
    CHECK(!shell.agent.rules_request.has_owner());
    shell.agent.rules_reply.mutable_rules(0)->set_last_s(static_cast<std::uint64_t>(std::time(nullptr)) - 3600);
    CHECK_THAT(shell({"rule", "list"}).out, ContainsSubstring(" 360") && ContainsSubstring(" s ago"));
    REQUIRE(shell({"rule", "list", "--profile", "web"}).code == 0);
    CHECK(shell.agent.rules_request.owner().kind() == pb::PROFILE);
    REQUIRE(shell({"rule", "list", "--instance", "red"}).code == 0);
    CHECK(shell.agent.rules_request.owner().kind() == pb::INSTANCE);
    CHECK(shell({"rule", "list", "--instance", "red", "--vport", "web1"}).code == cli::exit_usage);
}

TEST_CASE("rule add puts a rule last in the list, or before another", "[R51]") {
    Shell shell;
    shell.agent.object = web1_with_rules();
    const Outcome done =
        shell({"rule", "add", "vport", "web1", "--name", "no-telnet", "--direction", "out", "--protocol", "tcp",
               "--dst-ports", "23,2300-2399", "--src-ports", "1", "--src-ports", "3", "--action", "drop"});
    REQUIRE(done.err == "");
    CHECK(done.out == "rule no-telnet added to the list of vport web1\n");
    CHECK(shell.agent.calls == Names{"Get", "Update"});
    CHECK(shell.agent.ref.kind() == pb::VPORT);
    CHECK(sent(shell) == Names{"ssh", "-", "last", "no-telnet"});
    pb::Rule wanted;
    REQUIRE(
        message_from_yaml("{name: no-telnet, direction: out, protocol: tcp, dst_ports: ['23', 2300-2399], "
                          "src_ports: ['1', '3'], action: drop}",
                          "t", wanted));
    CHECK(to_json(shell.agent.put_request.object().vport().rules(3)) == to_json(wanted));

    REQUIRE(shell({"rule", "add", "vport", "web1", "--name", "first", "--before", "ssh"}).code == 0);
    CHECK(sent(shell) == Names{"first", "ssh", "-", "last"});
    // A rule without a name is called by its place.
    REQUIRE(shell({"rule", "add", "vport", "web1", "--name", "x", "--before", "rule-2"}).code == 0);
    CHECK(sent(shell) == Names{"ssh", "x", "-", "last"});
    shell.agent.calls.clear();
    CHECK(shell({"rule", "add", "vport", "web1", "--before", "nothing"}).code == cli::exit_not_found);
    CHECK(shell({"rule", "add", "uplink", "up0"}).code == cli::exit_usage);
    CHECK(shell.agent.calls == Names{"Get"});
}

TEST_CASE("rule set changes the given fields, keeps the others, and moves a rule", "[R51]") {
    Shell shell;
    shell.agent.object = web1_with_rules();
    REQUIRE(shell({"rule", "set", "vport", "web1", "ssh", "--action", "drop"}).code == 0);
    const pb::Rule& ssh = shell.agent.put_request.object().vport().rules(0);
    CHECK(ssh.action() == pb::Rule::DROP);
    CHECK(ssh.protocol() == "tcp");
    CHECK(ssh.dst_ports(0) == "22");
    REQUIRE(shell({"rule", "set", "vport", "web1", "last", "--before", "ssh"}).code == 0);
    CHECK(sent(shell) == Names{"last", "ssh", "-"});
    REQUIRE(shell({"rule", "set", "vport", "web1", "ssh", "--before", "last"}).code == 0);
    CHECK(sent(shell) == Names{"-", "ssh", "last"});
    REQUIRE(shell({"rule", "set", "vport", "web1", "rule-2", "--name", "arp"}).code == 0);
    CHECK(sent(shell) == Names{"ssh", "arp", "last"});
    CHECK(shell({"rule", "set", "vport", "web1", "ssh"}).code == cli::exit_usage);
    CHECK(shell({"rule", "set", "vport", "web1", "nothing", "--action", "drop"}).code == cli::exit_not_found);
}

TEST_CASE("rule remove takes one rule off, of any owner", "[R51]") {
    Shell shell;
    shell.agent.object = web1_with_rules();
    const Outcome done = shell({"rule", "remove", "vport", "web1", "rule-2"});
    CHECK(done.out == "rule rule-2 removed from the list of vport web1\n");
    CHECK(sent(shell) == Names{"ssh", "last"});
    const Outcome none = shell({"rule", "remove", "vport", "web1", "rule-9"});
    CHECK(none.code == cli::exit_not_found);
    CHECK_THAT(none.err, ContainsSubstring("vport web1 has no rule rule-9"));

    shell.agent.object.Clear();
    shell.agent.object.mutable_profile()->add_rules()->set_name("a");
    REQUIRE(shell({"rule", "remove", "profile", "web", "a", "--json"}).code == 0);
    CHECK(shell.agent.put_request.object().has_profile());
    CHECK(shell.agent.put_request.object().profile().rules().empty());
    shell.agent.object.Clear();
    shell.agent.object.mutable_instance()->set_name("red");
    REQUIRE(shell({"rule", "add", "instance", "red", "--name", "a"}).code == 0);
    CHECK(shell.agent.put_request.object().instance().rules(0).name() == "a");
}

}  // namespace ivds::test
