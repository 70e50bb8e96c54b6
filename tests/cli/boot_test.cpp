// SPDX-License-Identifier: Apache-2.0
// boot_test.cpp -- ivds-ctl boot against an agent that keeps a real model and fails on demand: the order of the
// steps, and what a failure at any of them leaves.
#include <fmt/format.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <mutex>

#include "api/codec.h"
#include "fake_agent.h"
#include "model/model.h"

namespace ivds::test {
namespace {

using Catch::Matchers::ContainsSubstring;

Result<Mac> no_mac(const std::string&) {
    return Mac{2, 0, 0, 0, 0, 9};
}

// Objects as the agent keeps them; ports are up when they are in an instance.
class ModelAgent final : public pb::Switch::Service {
public:
    Model model;
    std::vector<std::string> changes;  // "create vport web1" …
    int fail_at = 0;                   // the change that fails, counted from 1; 0: none does
    int made = 0;

    grpc::Status Create(grpc::ServerContext* context, const pb::PutRequest* request, pb::Object* reply) override {
        auto next = next_with(model, request->object(), no_mac);
        if (!next) return to_status(*context, next.error());
        const bool there = get(model, ref_of(request->object())).has_value();
        const bool same = diff(model, *next).empty();
        if (there && !same) return to_status(*context, {Code::exists, "IVDS-M026", "exists", "", 0});
        if (!there)
            if (auto refused = count("create", request->object()); refused) return to_status(*context, *refused);
        model = std::move(*next);
        *reply = get(model, ref_of(request->object())).value();
        return grpc::Status::OK;
    }
    grpc::Status Update(grpc::ServerContext* context, const pb::PutRequest* request, pb::Object* reply) override {
        auto next = next_with(model, request->object(), no_mac);
        if (!next) return to_status(*context, next.error());
        if (auto refused = count("update", request->object()); refused) return to_status(*context, *refused);
        model = std::move(*next);
        *reply = get(model, ref_of(request->object())).value();
        return grpc::Status::OK;
    }
    grpc::Status Delete(grpc::ServerContext* context, const pb::Ref* ref, pb::Done*) override {
        auto next = next_without(model, *ref);
        if (!next) return to_status(*context, next.error());
        changes.push_back("delete " + to_text(ref->kind()) + " " + ref->name());
        model = std::move(*next);
        return grpc::Status::OK;
    }
    grpc::Status Get(grpc::ServerContext* context, const pb::Ref* ref, pb::Object* reply) override {
        auto found = get(model, *ref);
        if (!found) return to_status(*context, found.error());
        *reply = std::move(*found);
        return grpc::Status::OK;
    }
    grpc::Status Status(grpc::ServerContext*, const pb::StatusRequest*, pb::StatusReply* reply) override {
        for (const auto& [name, vport] : model.vports) {
            pb::PortState& port = *reply->add_ports();
            port.set_kind(pb::VPORT);
            port.set_name(name);
            port.set_netdev(vport->netdev());
            port.set_got("tcx");
            port.set_up(!vport->instance().empty());
        }
        return grpc::Status::OK;
    }
    grpc::Status Nics(grpc::ServerContext*, const pb::NicRequest* request, pb::NicReply* reply) override {
        changes.push_back("probe " + request->name());
        pb::NicState& nic = *reply->add_nics();
        nic.mutable_port()->set_got(nic_there ? "tcx" : "none");
        nic.mutable_port()->set_reason("the interface is away");
        nic.mutable_netdev()->set_ifindex(3);
        return grpc::Status::OK;
    }
    bool nic_there = true;

private:
    static pb::Ref ref_of(const pb::Object& object) {
        pb::Ref ref;
        ref.set_kind(kind_of(object));
        ref.set_name(name_of(object));
        return ref;
    }
    std::optional<Error> count(const char* verb, const pb::Object& object) {
        if (++made == fail_at) return Error{Code::system, "IVDS-X001", "the kernel refuses", "", 0};
        changes.push_back(fmt::format("{} {} {}", verb, to_text(kind_of(object)), name_of(object)));
        return std::nullopt;
    }
};

const std::string file = R"(
vports:
- {name: web1, instance: red, netdev: v1, vnic: n1}
- {name: web2, instance: red, netdev: v2, vnic: n2}
vnics: [{name: n1, pool: pool}, {name: n2, vmac: "02:00:00:00:00:02"}]
instances: [{name: red, tenant: acme, uplink: up, vlan: 10, fdb: [{mac: "02:00:00:00:00:77", vport: web1}]}]
vmac_pools: [{name: pool, uplink: up}]
uplinks: [{name: up, netdev: eth1}]
tenants: [{name: acme, max_vports: 2}]
profiles: [{name: plain}]
)";

const std::vector<std::string> order = {
    "create tenant acme", "create profile plain", "create uplink up",    "probe up",          "create vmac_pool pool",
    "create vnic n1",     "create vnic n2",       "create instance red", "create vport web1", "create vport web2",
    "update vport web1",  "update vport web2",    "update instance red"};

std::vector<std::string> split(const std::string& text) {
    std::vector<std::string> out;
    std::istringstream stream(text);
    for (std::string line; std::getline(stream, line);) out.push_back(line);
    return out;
}

pb::BootStep step(const std::string& line) {
    pb::BootStep out;
    REQUIRE(message_from_yaml(line, "t", out));
    return out;
}

}  // namespace

TEST_CASE("boot takes the steps in the order of a server that boots, and each is acknowledged", "[R172][R173]") {
    ModelAgent agent;
    Shell shell(&agent);
    shell.input = file;
    const Outcome done = shell({"boot", "-f", "-", "--json"});
    INFO(done.err);
    REQUIRE(done.code == 0);
    CHECK(agent.changes == order);
    std::vector<std::string> phases;
    for (const std::string& line : split(done.out)) {
        const pb::BootStep each = step(line);
        CHECK(each.result() == (each.phase() == "control_plane" ? "already_there" : "done"));
        if (phases.empty() || phases.back() != each.phase()) phases.push_back(each.phase());
    }
    CHECK(phases == std::vector<std::string>{"control_plane", "policy", "uplink", "vmac_pool", "vnic", "instance",
                                             "vport", "map"});
    CHECK(to_yaml(to_config(agent.model)) ==
          to_yaml(to_config(next_from_config(agent.model, config_from_yaml(file, "t").value(), no_mac).value())));
}

TEST_CASE("rules that name other objects come when those are there, and until then nothing is forwarded", "[R172]") {
    const std::string with_names = R"(
instances: [{name: red}, {name: blue}]
sets: [{name: office, addresses: [10.0.0.0/8]}]
vport_pools: [{name: filters, vports: [fw]}]
mirrors: [{name: watch, to_vport: fw}]
profiles: [{name: p, rules: [{name: q, mirror: watch}, {name: r, protocol: tcp}]}]
vports:
- {name: web, netdev: v1, instance: red, profile: p, rules: [
    {name: a, direction: in, action: redirect, to_pool: filters, src_set: office},
    {name: b, direction: in, action: redirect, to_vport: out}]}
- {name: fw, netdev: v2, instance: red}
- {name: out, patch: in, instance: red}
- {name: in, patch: out, instance: blue}
)";
    ModelAgent agent;
    Shell shell(&agent);
    shell.input = with_names;
    const Outcome done = shell({"boot", "-f", "-"});
    INFO(done.out << done.err);
    REQUIRE(done.code == 0);
    // The last that changes are the instances, which were draining.
    REQUIRE(agent.changes.size() > 2);
    CHECK(std::vector<std::string>(agent.changes.end() - 2, agent.changes.end()) ==
          std::vector<std::string>{"update instance red", "update instance blue"});
    CHECK(
        to_yaml(to_config(agent.model)) ==
        to_yaml(to_config(next_from_config(agent.model, config_from_yaml(with_names, "t").value(), no_mac).value())));
    // The same again changes nothing.
    const auto changes = agent.changes.size();
    shell.input = with_names;
    CHECK(shell({"boot", "-f", "-"}).code == 0);
    CHECK(agent.changes.size() == changes);
}

TEST_CASE("what boot --plan prints is what boot does, and it asks nothing of an agent", "[R173]") {
    ModelAgent agent;
    Shell shell(&agent);
    shell.input = file;
    const Outcome run = shell({"boot", "-f", "-", "--json"});
    REQUIRE(run.code == 0);
    shell.stop_agent();
    shell.input = file;
    const Outcome plan = shell({"boot", "-f", "-", "--plan", "--json"});
    REQUIRE(plan.code == 0);
    const auto planned = split(plan.out);
    const auto ran = split(run.out);
    REQUIRE(planned.size() == ran.size());
    for (std::size_t i = 0; i < planned.size(); ++i) {
        pb::BootStep each = step(planned[i]);
        pb::BootStep taken = step(ran[i]);
        CHECK(each.result() == "planned");
        CHECK(each.number() == i + 1);
        CHECK(each.phase() == taken.phase());
        CHECK(each.kind() == taken.kind());
        CHECK(each.name() == taken.name());
    }
    CHECK(shell({"boot", "-f", "-"}).code == cli::exit_unavailable);
}

TEST_CASE("a failure at any step takes back all before it, in reverse", "[R173]") {
    const int steps = static_cast<int>(order.size()) - 1;  // all but the probe change something
    for (int fail_at = 1; fail_at <= steps; ++fail_at) {
        ModelAgent agent;
        agent.fail_at = fail_at;
        Shell shell(&agent);
        shell.input = file;
        const Outcome done = shell({"boot", "-f", "-"});
        INFO("step " << fail_at << "\n" << done.out << done.err);
        CHECK(done.code == cli::exit_refused);
        CHECK_THAT(done.err, ContainsSubstring("the kernel refuses") && ContainsSubstring("taken back") &&
                                 ContainsSubstring("[IVDS-X001]"));
        CHECK(to_yaml(to_config(agent.model)).empty());
        // Deletions mirror creations.
        std::vector<std::string> created;
        std::vector<std::string> deleted;
        for (const std::string& change : agent.changes) {
            if (change.starts_with("create ")) created.push_back(change.substr(7));
            if (change.starts_with("delete ")) deleted.insert(deleted.begin(), change.substr(7));
        }
        CHECK(created == deleted);
    }
}

TEST_CASE("a NIC that carries no program stops the boot and takes its uplink back", "[R173]") {
    ModelAgent agent;
    agent.nic_there = false;
    Shell shell(&agent);
    shell.input = file;
    const Outcome done = shell({"boot", "-f", "-"});
    CHECK(done.code == cli::exit_unavailable);
    CHECK_THAT(done.err, ContainsSubstring("step 4: the NIC eth1 carries no program: the interface is away; ") &&
                             ContainsSubstring(" [IVDS-U017]"));
    CHECK(to_yaml(to_config(agent.model)).empty());
}

TEST_CASE("what is there and the same is left alone, also when a later step fails", "[R173]") {
    ModelAgent agent;
    Shell shell(&agent);
    shell.input = file;
    REQUIRE(shell({"boot", "-f", "-"}).code == 0);
    const std::string whole = to_yaml(to_config(agent.model));
    agent.changes.clear();
    shell.input = file;
    const Outcome again = shell({"boot", "-f", "-", "--json"});
    REQUIRE(again.code == 0);
    CHECK(agent.changes == std::vector<std::string>{"probe up"});
    for (const std::string& line : split(again.out)) CHECK(step(line).result() == "already_there");

    // One more vPort than the tenant may have: what was there stays.
    shell.input = file +
                  "---\nvnics: [{name: n3, vmac: 02:00:00:00:00:03}]\n"
                  "vports: [{name: web3, instance: red, netdev: v3, vnic: n3}]\n";
    const Outcome over = shell({"boot", "-f", "-"});
    CHECK(over.code == cli::exit_exhausted);
    CHECK_THAT(over.err, ContainsSubstring("IVDS-M028"));
    CHECK(to_yaml(to_config(agent.model)) == whole);
}

TEST_CASE("an object by the same name that is another one stops the boot and stays", "[R173]") {
    ModelAgent agent;
    agent.model =
        next_from_config({}, config_from_yaml("vnics: [{name: n2, vmac: 02:00:00:00:00:0f}]", "t").value(), no_mac)
            .value();
    Shell shell(&agent);
    shell.input = file;
    CHECK(shell({"boot", "-f", "-"}).code == cli::exit_conflict);
    CHECK(to_yaml(to_config(agent.model)) == "vnics:\n  - name: n2\n    vmac: \"02:00:00:00:00:0f\"\n");
}

}  // namespace ivds::test
