// SPDX-License-Identifier: Apache-2.0
// fabric_test.cpp -- what ivds-ctl fabric does with its file and its steps, beside agents that only answer.
#include <fmt/format.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "fake_agent.h"

namespace ivds::test {
namespace {

using Catch::Matchers::ContainsSubstring;

TEST_CASE("fabric create that is interrupted takes back what it did, and says so", "[R156][R159]") {
    Shell shell;
    pb::Instance& instance = *shell.agent.object.mutable_instance();
    instance.set_name("red");
    instance.set_uplink("wire");
    instance.set_vlan(100);
    instance.set_vvlan(10);
    instance.set_scope(pb::DISTRIBUTED);
    instance.set_tenant("before");
    shell.input = fmt::format(R"(
hosts: [{{name: a, address: "unix:{}"}}]
networks:
- {{name: red, tenant: after, vvlan: 10, members: [{{host: a, uplink: wire, vlan: 100}}]}}
- {{name: blue, tenant: after, vvlan: 20, members: [{{host: a, uplink: wire, vlan: 100}}]}}
)",
                              shell.socket());

    shell.agent.interrupted_at = "Update";
    const Outcome done = shell({"fabric", "create", "-f", "-"});
    CHECK(done.code == 8);
    CHECK(done.out.empty());
    CHECK_THAT(done.err, ContainsSubstring("interrupted, and taken back [IVDS-U044]") && ContainsSubstring("fix: "));
    CHECK(shell.agent.calls == std::vector<std::string>{"Get", "Get", "Update", "Update"});
    CHECK(shell.agent.put_request.object().instance().tenant() == "before");

    // The next call does it.
    shell.agent.calls.clear();
    CHECK(shell({"fabric", "create", "-f", "-"}).code == 0);
    CHECK(shell.agent.calls == std::vector<std::string>{"Get", "Get", "Update", "Update"});
    CHECK(shell.agent.put_request.object().instance().tenant() == "after");
}

TEST_CASE(
    "networks that would be one on the wire are refused, also on hosts of their own; two fabrics keep them apart",
    "[R156][R159]") {
    Shell shell;
    const auto normalize = [&](const std::string& uplink, const std::string& vlan) {
        shell.input = fmt::format(R"(
networks:
- {{name: red, vvlan: 10, members: [{{host: a, uplink: wire, vlan: 100}}, {{host: b, uplink: wire, vlan: 200}}]}}
- {{name: pink, vvlan: 10, members: [{{host: c, uplink: {}, vlan: 300}}]}}
)",
                                  uplink);
        return shell({"fabric", "normalize", "-f", "-", "red", "--vlan", vlan});
    };
    const Outcome refused = normalize("wire", "300");
    CHECK(refused.code == 4);
    CHECK_THAT(refused.err, ContainsSubstring("IVDS-U042") && ContainsSubstring("pink"));
    CHECK(normalize("wire", "400").code == 0);
    CHECK(normalize("other", "300").code == 0);
    CHECK(shell.agent.calls.empty());
}

}  // namespace
}  // namespace ivds::test
