// SPDX-License-Identifier: Apache-2.0
// migrate_test.cpp -- the steps of a migration, and all of them in a row between two agents.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <filesystem>

#include "fake_agent.h"

namespace ivds::test {
namespace {

using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;

void add_export(FakeAgent& agent) {
    pb::Migration& migration = *agent.migrate_reply.mutable_migration();
    migration.set_host("a");
    migration.mutable_vport()->set_name("web1");
    migration.add_flows()->set_key(std::string("\0\xff", 2));
    agent.migrate_reply.set_from_host("a");
    agent.migrate_reply.set_generation(7);
    agent.migrate_reply.set_registry_us(2500);
}

std::vector<pb::MigrateRequest::Step> steps_of(const FakeAgent& agent) {
    std::vector<pb::MigrateRequest::Step> steps;
    for (const pb::MigrateRequest& request : agent.migrate_requests) steps.push_back(request.step());
    return steps;
}

}  // namespace

TEST_CASE("what migrate export prints is what prepare and commit send on", "[R163]") {
    Shell shell;
    add_export(shell.agent);
    const Outcome exported = shell({"migrate", "export", "web1"});
    REQUIRE(exported.code == 0);
    shell.input = exported.out;
    const Outcome prepared =
        shell({"migrate", "prepare", "-f", "-", "--netdev", "tap7", "--instance", "red", "--dry-run"});
    INFO(prepared.err);
    CHECK(prepared.code == 0);
    CHECK_THAT(prepared.out, ContainsSubstring("dry run"));
    const pb::MigrateRequest& request = shell.agent.migrate_requests.at(1);
    CHECK(request.step() == pb::MigrateRequest::PREPARE);
    CHECK(request.netdev() == "tap7");
    CHECK(request.instance() == "red");
    CHECK(request.dry_run());
    CHECK(request.migration().SerializeAsString() == shell.agent.migrate_reply.migration().SerializeAsString());

    const Outcome committed = shell({"migrate", "commit", "web1", "-f", "-"});
    CHECK(committed.code == 0);
    CHECK_THAT(committed.out, ContainsSubstring("from host a, generation 7") && ContainsSubstring("took 2.5 ms"));
    CHECK(shell.agent.migrate_requests.at(2).migration().flows_size() == 1);
    CHECK(shell({"migrate", "commit", "web1"}).code == 0);
    CHECK_FALSE(shell.agent.migrate_requests.at(3).has_migration());
    CHECK_THAT(shell({"migrate", "commit", "web1", "--json"}).out, ContainsSubstring("\"generation\":7"));
    // Connections that are lost are not silent.
    CHECK_THAT(committed.out, !ContainsSubstring("lost"));
    shell.agent.migrate_reply.set_lost("it may have 8 flows here");
    CHECK_THAT(shell({"migrate", "commit", "web1"}).out,
               ContainsSubstring("0 connections (others, if it had any, are lost: it may have 8 flows here)"));
    CHECK_THAT(shell({"migrate", "commit", "web1", "--json"}).out,
               ContainsSubstring("\"lost\":\"it may have 8 flows here\""));
    // What is not there was taken back before, or is a wrong name: either is said.
    shell.agent.migrate_reply.clear_changes();
    CHECK_THAT(shell({"migrate", "abort", "nonsense"}).out, ContainsSubstring("there is no vport nonsense here"));

    shell.input = "{\"vport\": 5}";
    const Outcome refused = shell({"migrate", "prepare", "-f", "-", "--netdev", "tap7"});
    CHECK(refused.code == 2);
    CHECK_THAT(refused.err, ContainsSubstring("IVDS-U005"));
}

TEST_CASE("migrate run goes through all steps, and takes back what failed before the VM was the other host's",
          "[R161][R164][R165]") {
    Shell source;
    Shell target;
    add_export(source.agent);
    add_export(target.agent);
    const std::string stopped = source.directory() + "/stopped";
    const std::string started = source.directory() + "/started";
    const auto run = [&](std::vector<std::string> more) {
        std::vector<std::string> words = {"migrate", "run", "web1", "--to", target.socket(), "--netdev", "tap7"};
        words.insert(words.end(), more.begin(), more.end());
        target.agent.migrate_requests.clear();
        return source(words);
    };
    using Request = pb::MigrateRequest;

    SECTION("all went well") {
        const Outcome done =
            run({"--stop", "touch " + stopped, "--start", "test -e " + stopped + " && touch " + started});
        INFO(done.err);
        CHECK(done.code == 0);
        CHECK(std::filesystem::exists(started));
        CHECK(steps_of(target.agent) == std::vector{Request::PREPARE, Request::COMMIT});
        CHECK(steps_of(source.agent) == std::vector{Request::EXPORT, Request::EXPORT});
        CHECK(target.agent.migrate_requests.at(1).migration().flows_size() == 1);
        CHECK_THAT(done.err, ContainsSubstring("prepared") && ContainsSubstring("committed"));
        CHECK_THAT(done.out, ContainsSubstring("stood still"));
    }
    SECTION("a dry run prepares nothing and stops nobody") {
        CHECK(run({"--dry-run", "--stop", "touch " + stopped}).code == 0);
        CHECK(steps_of(target.agent) == std::vector{Request::PREPARE});
        CHECK(target.agent.migrate_requests.at(0).dry_run());
        CHECK_THAT(run({"--dry-run", "--json"}).out, StartsWith("{") && !ContainsSubstring("dry run"));
        CHECK_FALSE(std::filesystem::exists(stopped));
    }
    SECTION("the VM does not stop") {
        const Outcome done = run({"--stop", "false", "--start", "touch " + started});
        CHECK(done.code == 8);
        CHECK_THAT(done.err, ContainsSubstring("the vPort is as it was"));
        CHECK(steps_of(target.agent) == std::vector{Request::PREPARE, Request::ABORT});
        CHECK_FALSE(std::filesystem::exists(started));
    }
    SECTION("somebody presses Ctrl-C before the commit") {
        target.agent.interrupted_at = "Migrate";
        const Outcome done = run({"--stop", "touch " + stopped});
        CHECK(done.code == 8);
        CHECK_THAT(done.err, ContainsSubstring("IVDS-U044") && ContainsSubstring("the vPort is as it was"));
        CHECK(steps_of(target.agent) == std::vector{Request::PREPARE, Request::ABORT});
        CHECK_FALSE(std::filesystem::exists(stopped));
    }
    SECTION("the commit is refused after the VM was stopped: whoever asked is to let it go on where it was") {
        target.agent.migrate_failures[Request::COMMIT] = {Code::conflict, "IVDS-R012", "another came first", "", 0};
        CHECK_THAT(run({"--stop", "true"}).err, ContainsSubstring("the VM was stopped: have it go on where it was"));
        CHECK_THAT(run({}).err, !ContainsSubstring("the VM was stopped"));
    }
    SECTION("the commit is refused") {
        target.agent.migrate_failures[Request::COMMIT] = {Code::unavailable, "IVDS-R014", "not ready", "plug it in",
                                                          0};
        CHECK(run({"--start", "touch " + started}).code == 7);
        CHECK(steps_of(target.agent) == std::vector{Request::PREPARE, Request::COMMIT, Request::ABORT});
        CHECK_FALSE(std::filesystem::exists(started));
    }
    SECTION("nobody knows what became of the commit") {
        target.agent.migrate_failures[Request::COMMIT] = {Code::unavailable, "IVDS-R009", "no answer", "again", 0};
        const Outcome done = run({"--start", "touch " + started});
        CHECK(done.code == 7);
        CHECK_THAT(done.err, ContainsSubstring("may have happened"));
        CHECK(steps_of(target.agent) == std::vector{Request::PREPARE, Request::COMMIT});
        CHECK_FALSE(std::filesystem::exists(started));
    }
}

}  // namespace ivds::test
