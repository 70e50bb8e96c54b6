// SPDX-License-Identifier: Apache-2.0
// The agent over a plane that fails on demand: a change is in force and saved, or neither.
#include <arpa/inet.h>
#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <thread>

#include "agent/agent.h"
#include "api/codec.h"
#include "ctl_directory.h"
#include "model/rule.h"

using namespace ivds;
using Catch::Matchers::ContainsSubstring;

namespace {

// Holds tables as the real one does, and no kernel. Ports are up unless their interface is in `away`.
class FakePlane final : public Plane {
public:
    int fail_applies = 0;  // so many of the next applies fail
    int applies = 0;
    int mends = 0;
    std::set<std::string> away;
    std::set<std::string> unplugged;
    std::vector<ivds_event> raw_events;
    std::vector<RungTrace> rungs;  // what every trace gives
    bool traced_xdp = false;
    std::map<std::uint32_t, std::uint64_t> packets;  // that rules decided

    Result<> apply(Tables next, bool strict) override {
        ++applies;
        if (fail_applies > 0) {
            --fail_applies;
            return fail(Code::system, "IVDS-T001", "the plane refuses");
        }
        if (strict)
            for (const auto& [id, row] : next.ports)
                if (away.contains(row.netdev)) return fail(Code::unavailable, "IVDS-T002", row.netdev + " is away");
        tables_ = std::move(next);
        ++generation_;
        return {};
    }
    Result<int> make_ring(std::uint32_t, std::uint32_t) override {
        return fail(Code::unsupported, "IVDS-T003", "no kernel, no ring");
    }
    [[nodiscard]] const Tables& tables() const override { return tables_; }
    [[nodiscard]] std::vector<PortStatus> status() const override {
        std::vector<PortStatus> all;
        for (const auto& [id, row] : tables_.ports) {
            PortStatus& port = all.emplace_back();
            port.id = id;
            port.name = row.name;
            port.netdev = row.netdev;
            const bool there = !away.contains(row.netdev);
            port.up = there && !unplugged.contains(row.netdev);
            port.ifindex = there ? id + 100 : 0;
            port.got = there ? "tcx" : "none";
            port.reason = there ? "a veth" : "no such interface";
        }
        return all;
    }
    std::vector<Finding> doctor() override {
        return {{.severity = Finding::Severity::warning, .id = "IVDS-T003", .object = "x", .text = "t", .fix = "f"}};
    }
    Result<> mend() override {
        ++mends;
        return {};
    }
    // An interface in `away` is not there, one in `unplugged` has no carrier.
    [[nodiscard]] Result<std::map<std::string, Interface>> look(const std::set<std::string>& names,
                                                                bool) const override {
        std::map<std::string, Interface> found;
        for (const std::string& name : names) {
            if (away.contains(name)) continue;
            found[name].netdev.admin_up = true;
            found[name].netdev.carrier = !unplugged.contains(name);
        }
        return found;
    }
    std::vector<PortChange> on_watch() override {
        return {{.id = 1, .name = "p", .up = !away.contains("d"), .reason = "interface vanished"}};
    }
    void on_events(const std::function<void(const ivds_event&)>& sink) override {
        for (const ivds_event& event : raw_events) sink(event);
        raw_events.clear();
    }
    Result<std::uint32_t> sweep() override { return 0U; }
    Result<std::uint32_t> flush_port(std::uint32_t port) override { return 10 + port; }
    Result<std::uint32_t> flush_instance(std::uint32_t instance) override { return 20 + instance; }
    Result<> forget(std::uint32_t, const Mac& mac) override {
        if (mac[5] == 1) return fail(Code::conflict, "IVDS-T004", "static");
        return {};
    }
    Result<std::uint32_t> flush_flows(std::uint32_t port, std::uint32_t instance) override {
        return 100 * port + instance;
    }
    Result<> carry_over(std::uint32_t, const ivds_port_stats&, const std::vector<FlowRow>&) override { return {}; }
    Result<> send_on(std::uint32_t, const Mac&, std::uint32_t) override { return {}; }
    Result<> set_link(const std::string&, bool) override { return {}; }
    [[nodiscard]] std::uint64_t decided(std::uint32_t rule) const override {
        const auto found = packets.find(rule);
        return found == packets.end() ? 0 : found->second;
    }
    void learned(const std::function<void(const FdbRow&)>&) const override {}
    [[nodiscard]] Result<std::optional<ivds_nic_stats>> nic_stats(std::uint32_t) const override {
        return std::nullopt;
    }
    Result<> set_nic_stats(std::uint32_t, const ivds_nic_stats&) override { return {}; }
    [[nodiscard]] const MapsView& maps() const override { std::abort(); }  // no test here reads maps
    [[nodiscard]] std::uint64_t frames(std::uint32_t) const override { return 0; }
    Result<std::vector<RungTrace>> trace(std::uint32_t, std::span<const std::uint8_t>, bool xdp) override {
        traced_xdp = xdp;
        return rungs;
    }
    [[nodiscard]] std::uint64_t generation() const override { return generation_; }

private:
    Tables tables_;
    std::uint64_t generation_ = 0;
};

Nics no_nic() {
    const auto none = [](const std::string& netdev) {
        return fail(Code::unavailable, "IVDS-T005", netdev + " is no PF");
    };
    return {.open = [none](const std::string& netdev,
                           offload::WireTags) -> Result<std::unique_ptr<offload::Backend>> { return none(netdev); },
            .check_vfs = [none](const std::string& netdev, unsigned) -> Result<> { return none(netdev); },
            .set_vfs = [none](const std::string& netdev, unsigned) -> Result<> { return none(netdev); }};
}

std::unique_ptr<Agent> agent_on(FakePlane& plane, const Directory& dir) {
    spdlog::set_level(spdlog::level::off);
    auto store = Store::open(dir.path);
    REQUIRE(store);
    auto agent = Agent::start(
        plane, no_nic(), std::move(*store), [](const std::string&) -> Result<Mac> { return Mac{2, 0, 0, 0, 0, 1}; },
        dir.path);
    INFO((agent ? "" : agent.error().text()));
    REQUIRE(agent);
    return std::move(*agent);
}

pb::ApplyRequest request(const std::string& text) {
    pb::ApplyRequest request;
    *request.mutable_config() = config_from_yaml(text, "t").value();
    return request;
}

pb::Object object(const std::string& text) {
    pb::Object out;
    REQUIRE(message_from_yaml(text, "t", out));
    return out;
}

pb::Ref ref(pb::Kind kind, const std::string& name) {
    pb::Ref out;
    out.set_kind(kind);
    out.set_name(name);
    return out;
}

std::string exported(const Agent& agent) {
    return to_yaml(agent.export_config());
}

std::vector<std::string> events(Agent& agent) {
    std::vector<std::string> out;
    for (const pb::Event& event : agent.events().wait(0, std::chrono::milliseconds(0)))
        out.push_back(fmt::format("{} {} {} {}", event.kind(), event.port(), event.instance(), event.text()));
    return out;
}

// While it lives, no file may grow.
struct FullDisk {
    rlimit old{};
    void (*handler)(int) = std::signal(SIGXFSZ, SIG_IGN);
    FullDisk() {
        REQUIRE(::getrlimit(RLIMIT_FSIZE, &old) == 0);
        rlimit none = old;
        none.rlim_cur = 1;
        REQUIRE(::setrlimit(RLIMIT_FSIZE, &none) == 0);
    }
    ~FullDisk() {
        (void)::setrlimit(RLIMIT_FSIZE, &old);
        (void)std::signal(SIGXFSZ, handler);
    }
};

const std::string kOne = "instances: [{name: i}]\nvports: [{name: p, netdev: d, instance: i}]\n";
const std::string kTwo =
    "instances: [{name: i, age_s: 9}, {name: j}]\nvports: [{name: p, netdev: d, instance: i}, {name: q, netdev: e, "
    "instance: j}]\n";

}  // namespace

TEST_CASE("apply makes the switch match the file, and again changes nothing", "[R41][R83]") {
    FakePlane plane;
    const Directory dir;
    const auto agent = agent_on(plane, dir);
    CHECK(!agent->has_intent());
    auto reply = agent->apply(request(kOne));
    REQUIRE(reply);
    CHECK(reply->changes_size() == 2);
    CHECK(reply->generation() == 1);
    CHECK(plane.tables().ports.size() == 1);
    CHECK(agent->has_intent());

    reply = agent->apply(request(kOne));
    REQUIRE(reply);
    CHECK(reply->changes().empty());

    reply = agent->apply(request(kTwo));
    CHECK(reply->changes_size() == 3);
    CHECK(plane.tables().ports.size() == 2);

    reply = agent->apply(request(""));
    CHECK(reply->changes_size() == 4);
    CHECK(plane.tables().ports.empty());
    CHECK(plane.tables().instances.empty());
}

TEST_CASE("a dry run tells the changes and makes none") {
    FakePlane plane;
    const Directory dir;
    const auto agent = agent_on(plane, dir);
    pb::ApplyRequest dry = request(kOne);
    dry.set_dry_run(true);
    const auto reply = agent->apply(std::move(dry));
    REQUIRE(reply);
    CHECK(reply->changes_size() == 2);
    CHECK(plane.applies == 0);
    CHECK(exported(*agent).empty());
    CHECK(!load_intent(dir.path).value());
}

TEST_CASE("what the plane refuses is neither in force, nor shown, nor saved", "[R41]") {
    FakePlane plane;
    const Directory dir;
    const auto agent = agent_on(plane, dir);
    REQUIRE(agent->apply(request(kOne)));
    const std::string before = exported(*agent);
    plane.fail_applies = 1;
    const auto reply = agent->apply(request(kTwo));
    REQUIRE(!reply);
    CHECK(reply.error().id == "IVDS-T001");
    CHECK(exported(*agent) == before);
    CHECK(to_yaml(to_config(load_intent(dir.path).value()->model)) == before);
    REQUIRE(agent->apply(request(kTwo)));
}

TEST_CASE("rules that do not fit change nothing, and a dry run says so") {
    FakePlane plane;
    const Directory dir;
    const auto agent = agent_on(plane, dir);
    REQUIRE(agent->apply(request(kOne)));
    std::string ranges;
    for (int i = 0; i < 16; ++i) ranges += fmt::format("'{}-{}', ", i * 4096 + 1, i * 4096 + 4094);
    const std::string text = fmt::format(
        "vports: [{{name: p, netdev: d, rules: [{{protocol: tcp, src_ports: [{0}], dst_ports: [{0}]}}]}}]\n", ranges);
    pb::ApplyRequest dry = request(text);
    dry.set_dry_run(true);
    CHECK(agent->apply(std::move(dry)).error().id == "IVDS-M041");
    CHECK(agent->apply(request(text)).error().id == "IVDS-M041");
    CHECK(plane.applies == 1);
    CHECK(agent->get(ref(pb::VPORT, "p")).value().vport().rules().empty());
}

TEST_CASE("bad input of any kind is one error with its id, a cause and a fix, and nothing of it is applied") {
    FakePlane plane;
    const Directory dir;
    const auto agent = agent_on(plane, dir);
    REQUIRE(agent->apply(request(kOne)));
    const std::string before = exported(*agent);
    // Each beside something that is right, of which nothing may come.
    const std::string right =
        "uplinks: [{name: up, netdev: e0}]\ninstances: [{name: i}, {name: j, uplink: up, vlan: 7, scope: "
        "distributed}, "
        "{name: k}]\n";
    const std::string ports =
        "vports: [{name: p, netdev: d, instance: i}, {name: q, netdev: e, instance: j}, {name: x, patch: y, "
        "instance: "
        "i}, {name: y, patch: x, instance: j}";
    const auto ruled = [&](const std::string& rule) {
        return right + ports + ", {name: r, netdev: f, instance: i, rules: [{name: it, " + rule + "}]}]\n";
    };
    const auto mirrored = [&](const std::string& mirrors) {
        return right + ports + "]\nmirrors: [" + mirrors + "]\n";
    };
    std::string many = right + ports + ", {name: r, netdev: f, rules: [";
    for (int i = 0; i <= kMaxRules; ++i) many += "{src: 10.0.0.1}, ";
    std::string sessions;
    for (int i = 0; i < 33; ++i) sessions += fmt::format("{{name: m{}, sources: [{{vport: p}}], to_vport: q}}, ", i);
    std::string ports_too_many;
    for (int i = 0; i < 8192; ++i)
        ports_too_many +=
            fmt::format(", {{name: v{0}, netdev: n{0}, rules: [{{src: 10.{1}.{2}.0/24}}]}}", i, i >> 8, i & 255);
    const std::vector<std::pair<std::string, std::string>> wrong = {
        {ruled("protocol: tcp, dst_ports: ['90-80']"), "IVDS-M045"},
        {ruled("protocol: tcp, dst_ports: ['80-90', '85-100']"), "IVDS-M080"},
        {ruled("protocol: tcp, icmp: '8'"), "IVDS-M044"},
        {ruled("protocol: udp, tcp_flags: syn"), "IVDS-M044"},
        {ruled("protocol: tcp, tcp_flags: syn+ack/syn"), "IVDS-M049"},
        {ruled("ethertype: ip6, src: 10.0.0.0/8"), "IVDS-M043"},
        {ruled("src: 10.0.0.1/8"), "IVDS-M048"},
        {ruled("src: 10.0.0.1, dst: 'fd00::1'"), "IVDS-M043"},
        {ruled("src_mac: ff:ff:ff:ff:ff:ff"), "IVDS-M081"},
        {ruled("src_set: nobody"), "IVDS-M006"},
        {ruled("mirror: nobody"), "IVDS-M006"},
        {ruled("direction: in, action: redirect, to_vport: nobody"), "IVDS-M006"},
        {ruled("direction: in, action: redirect, to_pool: p"), "IVDS-M006"},
        {ruled("direction: in, action: redirect, to_vport: q"), "IVDS-M059"},
        {ruled("direction: in, action: redirect, to_vport: r"), "IVDS-M059"},
        {ruled("direction: out, action: redirect, to_vport: p"), "IVDS-M051"},
        {ruled("action: drop, stateful: true"), "IVDS-M052"},
        {ruled("src_set: s, src: 10.0.0.1") + "sets: [{name: s}]\n", "IVDS-M054"},
        {right + ports + "]\nsets: [{name: s, addresses: [10.0.0.0/33]}]\n", "IVDS-M042"},
        {right + ports + "]\nsets: [{name: s, vports: [nobody]}]\n", "IVDS-M006"},
        {right + ports + "]\nvport_pools: [{name: o, vports: [p, q]}]\n", "IVDS-M058"},
        {right + ports + "]\nprofiles: [{name: o, default_in: redirect}]\n", "IVDS-M042"},
        {right + ports + ", {name: z, patch: x, instance: k}]\n", "IVDS-M057"},
        {right + ports + ", {name: z, patch: z, instance: k}]\n", "IVDS-M056"},
        {right + ports + ", {name: z, trunk: p, instance: k, vid: 4095}]\n", "IVDS-M003"},
        {mirrored("{name: m, sources: [{vport: p}], to_vport: p}"), "IVDS-M065"},
        {mirrored("{name: m, sources: [{vport: p}], to_vport: q}, {name: n, sources: [{vport: q}], to_vport: p}"),
         "IVDS-M065"},
        {mirrored("{name: m, sources: [{uplink: up}], to_uplink: up, rspan_vlan: 900}"), "IVDS-M065"},
        {mirrored("{name: m, sources: [{vport: p}], to_uplink: up, rspan_vlan: 7}"), "IVDS-M064"},
        {mirrored("{name: m, sources: [{vport: p}], to_vport: x}"), "IVDS-M060"},
        {mirrored("{name: m, sources: [{vport: nobody}], to_vport: p}"), "IVDS-M006"},
        {mirrored("{name: m, sources: [{vport: p, instance: i}], to_vport: q}"), "IVDS-M062"},
        {mirrored("{name: m, sources: [{vport: p, drops: true, direction: out}], to_vport: q}"), "IVDS-M082"},
        {mirrored("{name: m, erspan_remote: 224.0.0.1}"), "IVDS-M061"},
        {mirrored(sessions), "IVDS-M020"},
        {many + "]}]\n", "IVDS-M046"},
        {right + ports + ports_too_many + "]\n", "IVDS-M020"},
    };
    for (const auto& [text, id] : wrong) {
        CAPTURE(text.substr(0, 2000));
        for (const bool dry : {true, false}) {
            pb::ApplyRequest one = request(text);
            one.set_dry_run(dry);
            const auto reply = agent->apply(std::move(one));
            REQUIRE(!reply);
            INFO(reply.error().text());
            CHECK(reply.error().id == id);
            CHECK(!reply.error().what.empty());
            CHECK(reply.error().what.find('\n') == std::string::npos);
            CHECK(!reply.error().fix.empty());
        }
    }
    CHECK(plane.applies == 1);
    CHECK(plane.tables().ports.size() == 1);
    CHECK(exported(*agent) == before);
    CHECK(to_yaml(to_config(load_intent(dir.path).value()->model)) == before);
}

TEST_CASE("what cannot be saved is taken back from the plane", "[R41]") {
    FakePlane plane;
    const Directory dir;
    const auto agent = agent_on(plane, dir);
    REQUIRE(agent->apply(request(kOne)));
    const std::string before = exported(*agent);
    const auto ports = plane.tables().ports.size();
    Result<pb::ApplyReply> reply;
    {
        const FullDisk full;
        reply = agent->apply(request(kTwo));
    }
    REQUIRE(!reply);
    CHECK_THAT(reply.error().what, ContainsSubstring("save the change, which is undone"));
    CHECK(plane.tables().ports.size() == ports);
    CHECK(exported(*agent) == before);
    CHECK(to_yaml(to_config(load_intent(dir.path).value()->model)) == before);
    REQUIRE(agent->apply(request(kTwo)));
    CHECK(to_yaml(to_config(load_intent(dir.path).value()->model)) == exported(*agent));
}

TEST_CASE("when even taking back fails, the error says both") {
    FakePlane plane;
    const Directory dir;
    const auto agent = agent_on(plane, dir);
    REQUIRE(agent->apply(request(kOne)));

    // The plane takes the change and then refuses to take it back.
    class Stubborn final : public Plane {
    public:
        explicit Stubborn(FakePlane& inner) : inner_(inner) {}
        Result<> apply(Tables next, bool strict) override {
            return ++calls_ == 2 ? fail(Code::system, "IVDS-T005", "no way back")
                                 : inner_.apply(std::move(next), strict);
        }
        [[nodiscard]] const Tables& tables() const override { return inner_.tables(); }
        [[nodiscard]] std::vector<PortStatus> status() const override { return inner_.status(); }
        std::vector<Finding> doctor() override { return {}; }
        Result<> mend() override { return {}; }
        [[nodiscard]] Result<std::map<std::string, Interface>> look(const std::set<std::string>&,
                                                                    bool) const override {
            return std::map<std::string, Interface>();
        }
        std::vector<PortChange> on_watch() override { return {}; }
        void on_events(const std::function<void(const ivds_event&)>&) override {}
        Result<std::uint32_t> sweep() override { return 0U; }
        Result<std::uint32_t> flush_port(std::uint32_t) override { return 0U; }
        Result<std::uint32_t> flush_instance(std::uint32_t) override { return 0U; }
        Result<> forget(std::uint32_t, const Mac&) override { return {}; }
        Result<std::uint32_t> flush_flows(std::uint32_t, std::uint32_t) override { return 0U; }
        Result<> send_on(std::uint32_t, const Mac&, std::uint32_t) override { return {}; }
        Result<> set_link(const std::string&, bool) override { return {}; }
        Result<> carry_over(std::uint32_t, const ivds_port_stats&, const std::vector<FlowRow>&) override {
            return {};
        }
        Result<int> make_ring(std::uint32_t session, std::uint32_t bytes) override {
            return inner_.make_ring(session, bytes);
        }
        [[nodiscard]] std::uint64_t decided(std::uint32_t) const override { return 0; }
        Result<std::vector<RungTrace>> trace(std::uint32_t, std::span<const std::uint8_t>, bool) override {
            return std::vector<RungTrace>();
        }
        void learned(const std::function<void(const FdbRow&)>&) const override {}
        [[nodiscard]] Result<std::optional<ivds_nic_stats>> nic_stats(std::uint32_t) const override {
            return std::nullopt;
        }
        Result<> set_nic_stats(std::uint32_t, const ivds_nic_stats&) override { return {}; }
        [[nodiscard]] const MapsView& maps() const override { std::abort(); }
        [[nodiscard]] std::uint64_t frames(std::uint32_t) const override { return 0; }
        [[nodiscard]] std::uint64_t generation() const override { return 0; }

    private:
        FakePlane& inner_;
        int calls_ = 0;
    };
    FakePlane inner;
    Stubborn stubborn(inner);
    const Directory other;
    auto second = Agent::start(stubborn, no_nic(), Store::open(other.path).value(), {}, other.path).value();
    Result<pb::ApplyReply> reply;
    {
        const FullDisk full;
        reply = second->apply(request("vports: [{name: p, netdev: d, rules: [{name: a}]}]\n"));
    }
    REQUIRE(!reply);
    CHECK_THAT(reply.error().what, ContainsSubstring("undoing it failed"));
    CHECK_THAT(reply.error().what, ContainsSubstring("no way back"));
    // What is stuck in the plane keeps its id: another list gets another one.
    const auto stuck = inner.tables().acls;
    REQUIRE(stuck.size() == 1);
    REQUIRE(second->apply(request("vports: [{name: p, netdev: d, rules: [{name: a, action: drop}]}]\n")));
    REQUIRE(inner.tables().acls.size() == 1);
    CHECK(inner.tables().acls.begin()->first != stuck.begin()->first);
}

TEST_CASE("a restart brings the same intent under the same ids into force", "[R4][R83]") {
    const Directory dir;
    std::string before;
    Tables tables;
    {
        FakePlane plane;
        const auto agent = agent_on(plane, dir);
        REQUIRE(agent->apply(request(kTwo)));
        REQUIRE(agent->apply(request("vports: [{name: q, netdev: e}]\n")));
        REQUIRE(agent->apply(request(kTwo)));
        before = exported(*agent);
        tables = plane.tables();
    }
    FakePlane plane;
    const auto agent = agent_on(plane, dir);
    CHECK(exported(*agent) == before);
    CHECK(plane.applies == 1);
    REQUIRE(plane.tables().ports.size() == tables.ports.size());
    for (const auto& [id, row] : tables.ports) CHECK(plane.tables().ports.at(id).name == row.name);
    for (const auto& [id, row] : tables.instances) CHECK(plane.tables().instances.at(id).name == row.name);
    CHECK(events(*agent).empty());
}

TEST_CASE("the tables for the next boot are there after a tick, and ids survive the loss of the intent") {
    const Directory dir;
    {
        FakePlane plane;
        const auto agent = agent_on(plane, dir);
        REQUIRE(agent->apply(request("vports: [{name: x, netdev: x}]\n")));
        REQUIRE(agent->apply(request(kTwo)));
        agent->tick();
        const auto boot = load_tables(tables_path(dir.path));
        REQUIRE(boot);
        CHECK(boot->ports.size() == plane.tables().ports.size());
    }
    const auto ids = load_intent(dir.path).value()->ids;
    std::filesystem::remove(intent_path(dir.path));
    FakePlane plane;
    const auto agent = agent_on(plane, dir);
    CHECK(plane.applies == 0);
    REQUIRE(agent->apply(request(kTwo)));
    CHECK(load_intent(dir.path).value()->ids.ports == ids.ports);
}

TEST_CASE("a plane that refuses the saved intent fails the start, and the state stays") {
    const Directory dir;
    {
        FakePlane plane;
        REQUIRE(agent_on(plane, dir)->apply(request(kOne)));
    }
    FakePlane plane;
    plane.fail_applies = 1;
    const auto agent = Agent::start(plane, no_nic(), Store::open(dir.path).value(), {}, dir.path);
    REQUIRE(!agent);
    CHECK_THAT(agent.error().what, ContainsSubstring("apply the saved intent"));
    CHECK(load_intent(dir.path).value());
}

TEST_CASE("strict refuses an interface that is away; else the reply says which") {
    FakePlane plane;
    plane.away = {"d"};
    const Directory dir;
    const auto agent = agent_on(plane, dir);
    pb::ApplyRequest strict = request(kOne);
    strict.set_strict(true);
    CHECK(agent->apply(std::move(strict)).error().id == "IVDS-T002");
    CHECK(exported(*agent).empty());
    const auto reply = agent->apply(request(kOne));
    REQUIRE(reply);
    REQUIRE(reply->findings_size() == 1);
    CHECK(reply->findings(0).object() == "p");
    CHECK_THAT(reply->findings(0).text(), ContainsSubstring("no such interface"));
}

TEST_CASE("single objects go through their life, and repeating a call is no error", "[R42][R47][R57]") {
    FakePlane plane;
    const Directory dir;
    const auto agent = agent_on(plane, dir);
    REQUIRE(agent->create(object("instance: {name: i}")));
    REQUIRE(agent->create(object("instance: {name: i}")));
    const auto other = agent->create(object("instance: {name: i, age_s: 7}"));
    REQUIRE(!other);
    CHECK(other.error().code == Code::exists);
    CHECK(agent->update(object("instance: {name: j}")).error().code == Code::not_found);
    REQUIRE(agent->create(object("vport: {name: p, netdev: d, instance: i}")));
    CHECK(agent->remove(ref(pb::INSTANCE, "i")).error().code == Code::conflict);
    REQUIRE(agent->update(object("instance: {name: i, draining: true}")));
    REQUIRE(agent->update(object("instance: {name: i}")));
    plane.away = {"d"};
    agent->on_watch();
    plane.away.clear();
    agent->on_watch();
    REQUIRE(agent->remove(ref(pb::VPORT, "p")));
    REQUIRE(agent->remove(ref(pb::VPORT, "p")));
    REQUIRE(agent->remove(ref(pb::INSTANCE, "i")));
    CHECK(agent->get(ref(pb::INSTANCE, "i")).error().code == Code::not_found);
    CHECK(events(*agent) == std::vector<std::string>{
                                "applied   1 created, 0 updated, 0 deleted", "instance_state  i created",
                                "applied   1 created, 0 updated, 0 deleted", "port_up p i d: tcx",
                                "instance_state  i created -> active", "applied   0 created, 1 updated, 0 deleted",
                                "instance_state  i active -> draining", "applied   0 created, 1 updated, 0 deleted",
                                "instance_state  i draining -> active", "port_down p i d: interface vanished",
                                "instance_state  i active -> configured", "port_up p i d: interface vanished",
                                "instance_state  i configured -> active", "applied   0 created, 0 updated, 1 deleted",
                                "port_down p  deleted", "instance_state  i active -> created",
                                "applied   0 created, 0 updated, 1 deleted", "instance_state  i deleted"});
}

TEST_CASE("reservations of vMACs survive a restart", "[R61]") {
    const Directory dir;
    std::string vmac;
    pb::VmacRequest any;
    any.set_pool("v");
    {
        FakePlane plane;
        const auto agent = agent_on(plane, dir);
        REQUIRE(agent->create(object("vmac_pool: {name: v, physical_mac: 90:e2:ba:00:00:01, size: 1}")));
        vmac = agent->reserve_vmac(any).value().vmac();
        CHECK(agent->reserve_vmac(any).error().code == Code::exhausted);
    }
    FakePlane plane;
    const auto agent = agent_on(plane, dir);
    CHECK(agent->reserve_vmac(any).error().code == Code::exhausted);
    pb::VmacRequest release = any;
    release.set_vmac(vmac);
    REQUIRE(agent->release_vmac(release));
    CHECK(agent->reserve_vmac(any).value().vmac() == vmac);
}

TEST_CASE("flush takes an instance, a port, or a MAC of an instance, and nothing else") {
    FakePlane plane;
    const Directory dir;
    const auto agent = agent_on(plane, dir);
    REQUIRE(agent->apply(request(kOne)));
    const auto flush = [&](const std::string& text) {
        pb::FlushRequest out;
        REQUIRE(message_from_yaml(text, "t", out));
        return agent->flush(out);
    };
    CHECK(flush("{port: p}")->removed() == 11);
    CHECK(flush("{instance: i}")->removed() == 21);
    CHECK(flush("{instance: i, mac: 02:00:00:00:00:02}")->removed() == 1);
    CHECK(flush("{instance: i, mac: 02:00:00:00:00:01}").error().code == Code::conflict);
    CHECK(flush("{instance: i, mac: x}").error().code == Code::invalid);
    CHECK(flush("{instance: no}").error().code == Code::not_found);
    CHECK(flush("{port: no}").error().code == Code::not_found);
    CHECK(flush("{}").error().code == Code::invalid);
    CHECK(flush("{mac: 02:00:00:00:00:01}").error().code == Code::invalid);
}

TEST_CASE("the data plane's events get names and the calendar's time", "[R150]") {
    FakePlane plane;
    const Directory dir;
    const auto agent = agent_on(plane, dir);
    REQUIRE(agent->apply(request(kTwo)));
    const auto quiet = agent->events().wait(0, std::chrono::milliseconds(0)).size();
    ivds_event raw{};
    timespec now{};
    REQUIRE(::clock_gettime(CLOCK_MONOTONIC, &now) == 0);
    raw.time_ns = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000;
    raw.kind = IVDS_EVENT_MOVE;
    raw.port = 1;
    raw.other_port = 2;
    raw.instance = 1;
    raw.mac[0] = 2;
    plane.raw_events = {raw};
    agent->on_events();
    const auto events = agent->events().wait(quiet, std::chrono::milliseconds(0));
    REQUIRE(events.size() == 1);
    CHECK(events[0].kind() == "move");
    CHECK(events[0].port() == "p");
    CHECK(events[0].instance() == "i");
    CHECK(events[0].mac() == "02:00:00:00:00:00");
    CHECK(events[0].text() == "moved here from q");
    const auto year =
        std::chrono::year_month_day(std::chrono::floor<std::chrono::days>(std::chrono::system_clock::now())).year();
    CHECK(events[0].time().starts_with(std::to_string(static_cast<int>(year))));
}

TEST_CASE("doctor passes on what the plane finds") {
    FakePlane plane;
    const Directory dir;
    const auto agent = agent_on(plane, dir);
    pb::DoctorRequest request;
    const auto reply = agent->doctor(request);
    REQUIRE(reply);
    REQUIRE(reply->findings_size() == 1);
    CHECK(reply->findings(0).severity() == "warning");
    CHECK(reply->findings(0).id() == "IVDS-T003");
    CHECK(plane.mends == 0);
    request.set_mend(true);
    REQUIRE(agent->doctor(request));
    CHECK(plane.mends == 1);
}

TEST_CASE("a port that loses its link says why, in the event", "[R66][R150]") {
    FakePlane plane;
    const Directory dir;
    const auto agent = agent_on(plane, dir);
    REQUIRE(agent->apply(request(kOne)));
    plane.unplugged = {"d"};
    REQUIRE(agent->apply(request(kTwo)));
    const auto all = events(*agent);
    CHECK(std::ranges::find(all, "port_down p i d: no carrier") != all.end());
}

TEST_CASE("a tenant's quota holds for single objects and for files, and a refusal changes nothing", "[R87]") {
    FakePlane plane;
    const Directory dir;
    const auto agent = agent_on(plane, dir);
    REQUIRE(agent->create(object("tenant: {name: t, max_instances: 1, max_vports: 1}")));
    REQUIRE(agent->create(object("instance: {name: i, tenant: t}")));
    REQUIRE(agent->create(object("vport: {name: p, netdev: d, instance: i}")));
    const std::string before = exported(*agent);
    const int applies = plane.applies;
    CHECK(agent->create(object("instance: {name: j, tenant: t}")).error().id == "IVDS-M028");
    CHECK(agent->create(object("vport: {name: q, netdev: e, instance: i}")).error().code == Code::exhausted);
    CHECK(agent
              ->apply(request("tenants: [{name: t, max_instances: 1}]\n"
                              "instances: [{name: i, tenant: t}, {name: j, tenant: t}]\n"))
              .error()
              .id == "IVDS-M028");
    CHECK(agent->remove(ref(pb::TENANT, "t")).error().code == Code::conflict);
    CHECK(exported(*agent) == before);
    CHECK(plane.applies == applies);
    REQUIRE(agent->update(object("tenant: {name: t, max_instances: 2, max_vports: 1}")));
    REQUIRE(agent->create(object("instance: {name: j, tenant: t}")));
}

TEST_CASE("the event log keeps the latest, in order, and its readers see gaps and the end", "[R150]") {
    EventLog log;
    CHECK(log.wait(0, std::chrono::milliseconds(0)).empty());
    for (std::size_t i = 1; i <= EventLog::kKept + 10; ++i) {
        pb::Event event;
        event.set_text(std::to_string(i));
        log.push(std::move(event));
    }
    const auto all = log.wait(0, std::chrono::milliseconds(0));
    REQUIRE(all.size() == EventLog::kKept);
    CHECK(all.front().sequence() == 11);
    CHECK(all.front().text() == "11");
    CHECK(all.back().sequence() == EventLog::kKept + 10);
    CHECK(log.wait(all.back().sequence() - 1, std::chrono::milliseconds(0)).size() == 1);
    CHECK(log.wait(all.back().sequence(), std::chrono::milliseconds(0)).empty());

    std::thread closer([&] { log.close(); });
    CHECK(log.wait(all.back().sequence(), std::chrono::hours(1)).empty());
    closer.join();
    CHECK(log.closed());
}

TEST_CASE("times are RFC 3339 in UTC") {
    CHECK(time_text(std::chrono::system_clock::time_point(std::chrono::milliseconds(1'709'164'800'007))) ==
          "2024-02-29T00:00:00.007Z");
}

TEST_CASE("the agent removes a rule whose time is over, says so, and the others of the list stay", "[R52]") {
    FakePlane plane;
    const Directory dir;
    auto agent = agent_on(plane, dir);
    REQUIRE(
        agent->apply(request("vports: [{name: p, netdev: d, rules: [{name: gone, hard_s: 1}, {protocol: tcp}, "
                             "{name: stays, hard_s: 100000, idle_s: 100000}]}]")));
    // The time of the calendar passes by itself; until then each look finds nothing to do.
    for (int i = 0; i < 200 && agent->export_config().vports(0).rules_size() == 3; ++i) {
        agent->tick();
        ::usleep(20'000);
    }
    const pb::Config config = agent->export_config();
    REQUIRE(config.vports(0).rules_size() == 2);
    CHECK(config.vports(0).rules(0).protocol() == "tcp");
    CHECK(config.vports(0).rules(1).name() == "stays");
    bool told = false;
    for (const pb::Event& event : agent->events().wait(0, {}))
        told = told || (event.kind() == "rule_expired" && event.port() == "p" &&
                        event.text().starts_with("vport/p/gone removed: "));
    CHECK(told);
    // The next agent finds it gone, and knows since when the other is there.
    agent.reset();
    CHECK(load_intent(dir.path).value()->came_s.contains("vport/p/stays"));
    CHECK(!load_intent(dir.path).value()->came_s.contains("vport/p/gone"));
}

TEST_CASE("events of rules and of full flow tables name the rule and the six-tuple", "[R92]") {
    FakePlane plane;
    const Directory dir;
    const auto agent = agent_on(plane, dir);
    REQUIRE(
        agent->apply(request("uplinks: [{name: up, netdev: e}]\ninstances: [{name: i, uplink: up, vlan: 10, vvlan: "
                             "100}]\nvports: [{name: p, netdev: d, instance: i, rules: [{name: ssh, protocol: tcp, "
                             "action: drop, log: true}]}]")));
    const Ids ids = load_intent(dir.path).value()->ids;
    ivds_event event{};
    event.kind = IVDS_EVENT_RULE;
    event.port = ids.ports.at("p");
    event.instance = ids.instances.at("i");
    event.rule = ids.rules.at("vport/p/ssh");
    event.fields.src_mac[0] = 2;
    event.fields.type_be = htons(0x0800);
    event.fields.proto = 6;
    event.fields.src[10] = event.fields.src[11] = event.fields.dst[10] = event.fields.dst[11] = 0xff;
    event.fields.src[12] = 10;
    event.fields.dst[12] = 11;
    event.fields.sport_be = htons(4000);
    event.fields.dport_be = htons(22);
    plane.raw_events.push_back(event);
    event.kind = IVDS_EVENT_FLOW_LIMIT;
    event.rule = 0;
    plane.raw_events.push_back(event);
    agent->on_events();
    std::map<std::string, std::string> texts;
    for (const pb::Event& each : agent->events().wait(0, {})) texts[each.kind()] = each.text();
    CHECK(texts["rule"] ==
          "vport/p/ssh (drop): VLAN 10, V.VLAN 100, 02:00:00:00:00:00 tcp 10.0.0.0:4000 -> 11.0.0.0:22");
    CHECK(texts["flow_limit"].starts_with("no flow entry for VLAN 10, V.VLAN 100, 02:00:00:00:00:00 tcp "));
}

TEST_CASE("flows are flushed of a vPort or of an instance") {
    FakePlane plane;
    const Directory dir;
    const auto agent = agent_on(plane, dir);
    REQUIRE(agent->apply(request("instances: [{name: i}]\nvports: [{name: p, netdev: d, instance: i}]")));
    const auto flush = [&](const std::string& text) {
        pb::FlowsRequest wanted;
        REQUIRE(message_from_yaml(text, "t", wanted));
        return agent->flush_flows(wanted);
    };
    CHECK(flush("{vport: p}")->removed() == 100);
    CHECK(flush("{instance: i}")->removed() == 1);
    CHECK(flush("{}").error().id == "IVDS-A002");
    CHECK(flush("{vport: p, instance: i}").error().id == "IVDS-A002");
    CHECK(flush("{vport: q}").error().code == Code::not_found);
    CHECK(flush("{instance: q}").error().code == Code::not_found);
}
