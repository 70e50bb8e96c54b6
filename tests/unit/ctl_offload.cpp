// SPDX-License-Identifier: Apache-2.0
// The agent's NICs, over a plane and a NIC that do as they are told and fail on demand: software and NICs agree after
// each change, refused or not, and a NIC that is not as it shall be is set right.
#include <spdlog/spdlog.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "agent/capture.h"
#include "agent/offload.h"
#include "api/codec.h"
#include "compile/compile.h"
#include "offload/nic/82599.h"

using namespace ivds;
using Catch::Matchers::ContainsSubstring;

namespace {

// A NIC that holds what it is told, unless it fails.
struct Chips {
    offload::NicState state;
    offload::CountersOfPools counters;
    int fail_in = -1;      // at so many steps from now
    bool is_there = true;  // else it cannot be opened, and reads fail
    bool is_set_up = false;
    int opened = 0;
    offload::WireTags tags{};  // of the last opening
    unsigned vfs = 8;
    bool in_use = false;  // a VF is, so that their number cannot change
};
class FakeNic final : public offload::Backend {
public:
    explicit FakeNic(Chips& chips) : chips_(chips), vfs_(chips.vfs) {}
    [[nodiscard]] std::string_view name() const override { return "fake"; }
    [[nodiscard]] const offload::Chip& chip() const override { return offload::i82599::chip(); }
    [[nodiscard]] unsigned pf() const override { return vfs_; }
    [[nodiscard]] std::vector<std::string> shortcomings() const override { return {}; }
    Result<> prepare() override {
        chips_.is_set_up = true;
        return {};
    }
    Result<offload::NicState> read() override {
        if (!chips_.is_there || chips_.vfs != vfs_) return fail(Code::unavailable, "IVDS-T101", "it is gone");
        if (!chips_.is_set_up) return fail(Code::conflict, "IVDS-T106", "it is not set up");
        offload::NicState state = chips_.state;
        for (auto& [pool, as] : state.pools) as.vport = as.instance = 0;
        return state;
    }
    Result<> apply(const offload::Step& step) override {
        if (chips_.fail_in >= 0 && chips_.fail_in-- == 0) return fail(Code::conflict, "IVDS-T102", "it refuses");
        offload::advance(chips_.state, step);
        return {};
    }
    Result<offload::CountersOfPools> counters() override { return chips_.counters; }
    Result<> clear() override {
        chips_.state = {};
        return {};
    }

private:
    Chips& chips_;
    unsigned vfs_;
};

class FakeTables final : public Plane {
public:
    std::map<std::uint32_t, std::uint64_t> had;  // frames, by port
    int fail_in = -1;                            // at so many applies from now
    int applies = 0;
    Result<> apply(Tables next, bool) override {
        ++applies;
        if (fail_in >= 0 && fail_in-- == 0) return fail(Code::system, "IVDS-T103", "the plane refuses");
        tables_ = std::move(next);
        return {};
    }
    [[nodiscard]] const Tables& tables() const override { return tables_; }
    [[nodiscard]] std::vector<PortStatus> status() const override { return {}; }
    std::vector<Finding> doctor() override { return {}; }
    Result<> mend() override { return {}; }
    std::vector<PortChange> on_watch() override { return {}; }
    void on_events(const std::function<void(const ivds_event&)>&) override {}
    Result<std::uint32_t> sweep() override { return 0U; }
    Result<std::uint32_t> flush_port(std::uint32_t) override { return 0U; }
    Result<std::uint32_t> flush_instance(std::uint32_t) override { return 0U; }
    Result<> forget(std::uint32_t, const Mac&) override { return {}; }
    Result<std::uint32_t> flush_flows(std::uint32_t, std::uint32_t) override { return 0U; }
    Result<> carry_over(std::uint32_t, const ivds_port_stats&, const std::vector<FlowRow>&) override { return {}; }
    Result<> send_on(std::uint32_t, const Mac&, std::uint32_t) override { return {}; }
    Result<> set_link(const std::string&, bool) override { return {}; }
    Result<int> make_ring(std::uint32_t, std::uint32_t) override { return -1; }
    std::map<std::string, Interface> interfaces;
    [[nodiscard]] Result<std::map<std::string, Interface>> look(const std::set<std::string>&, bool) const override {
        return interfaces;
    }
    void learned(const std::function<void(const FdbRow&)>&) const override {}
    [[nodiscard]] Result<std::optional<ivds_nic_stats>> nic_stats(std::uint32_t port) const override {
        const auto found = counts.find(port);
        return found == counts.end() ? std::nullopt : std::optional(found->second);
    }
    Result<> set_nic_stats(std::uint32_t port, const ivds_nic_stats& stats) override {
        counts[port] = stats;
        return {};
    }
    std::map<std::uint32_t, ivds_nic_stats> counts;
    [[nodiscard]] const MapsView& maps() const override { std::abort(); }
    [[nodiscard]] std::uint64_t frames(std::uint32_t port) const override {
        const auto found = had.find(port);
        return found == had.end() ? 0 : found->second;
    }
    Result<std::vector<RungTrace>> trace(std::uint32_t, std::span<const std::uint8_t>, bool) override {
        return std::vector<RungTrace>{};
    }
    [[nodiscard]] std::uint64_t decided(std::uint32_t) const override { return 0; }
    [[nodiscard]] std::uint64_t generation() const override { return 0; }

private:
    Tables tables_;
};

const std::string base =
    "uplinks: [{name: up0, netdev: pf0, tags: single, transport_vlan: 100, offload: on}]\n"
    "instances: [{name: red, uplink: up0, mode: independent, vvlan: 10, scope: distributed}]\n"
    "vnics: [{name: a, vmac: '02:00:00:00:00:0a'}, {name: b, vmac: '02:00:00:00:00:0b'},\n"
    "        {name: c, vmac: '02:00:00:00:00:0c'}]\n";
const std::string soft = "  - {name: pc, instance: red, vnic: c, netdev: veth0}\n";

std::string vf(const std::string& name, const std::string& vnic, unsigned index, const std::string& more = "") {
    return "  - {name: " + name + ", instance: red, vnic: " + vnic +
           ", vf: {pf: up0, index: " + std::to_string(index) + "}" + more + "}\n";
}

// What the agent does with a configuration, but for saving it.
struct Host {
    Chips chips;
    FakeTables plane;
    std::vector<std::string> told;
    Model model;
    Ids ids;
    Offload offload{
        plane,
        {.open = [this](const std::string&, offload::WireTags tags) -> Result<std::unique_ptr<offload::Backend>> {
             chips.tags = tags;
             if (!chips.is_there) return fail(Code::unavailable, "IVDS-T100", "no such NIC");
             if (chips.vfs == 0) return fail(Code::conflict, "IVDS-T104", "it has no VFs");
             ++chips.opened;
             return std::make_unique<FakeNic>(chips);
         },
         .check_vfs = [this](const std::string&, unsigned count) -> Result<> {
             if (!chips.is_there) return fail(Code::not_found, "IVDS-T100", "no such NIC");
             if (chips.in_use && count != chips.vfs) return fail(Code::conflict, "IVDS-T105", "VF 1 is in use");
             return {};
         },
         .set_vfs = [this](const std::string&, unsigned count) -> Result<> {
             if (count != chips.vfs) chips.state = {};
             chips.vfs = count;
             return {};
         }},
        [this](const std::string& uplink, const std::string& text) { told.push_back(uplink + " " + text); }};

    Result<> apply(const std::string& vports) { return configure(base + "vports:\n" + vports); }
    Result<> configure(const std::string& yaml) {
        spdlog::set_level(spdlog::level::off);
        auto next = next_from_config(model, config_from_yaml(yaml, "t").value(), {});
        if (!next) return std::unexpected(next.error());
        auto next_ids = assign_ids(*next, ids).value();
        auto tables = compile(*next, next_ids, model, offload.tables()).value();
        if (auto done = offload.put(std::move(tables), nic_intents(*next, next_ids), false, true); !done) return done;
        model = std::move(*next);
        ids = std::move(next_ids);
        return {};
    }
    // VFs that software takes to be in the NIC, and whose addresses are at the uplink.
    [[nodiscard]] std::set<std::string> in_nic() const {
        std::set<std::string> names;
        for (const auto& [id, row] : plane.tables().ports)
            if (row.value.kind == IVDS_PORT_VF && (row.value.flags & IVDS_PF_UP) != 0) names.insert(row.name);
        for (const auto& [id, row] : plane.tables().instances)
            for (const StaticMac& entry : row.fdb ? *row.fdb : std::vector<StaticMac>{}) {
                if (entry.vport == 0) continue;
                CHECK(entry.port == ids.ports.at("up0"));
                CHECK(names.contains(plane.tables().ports.at(entry.vport).name));
            }
        return names;
    }
    [[nodiscard]] pb::OffloadNic view() const {
        const auto reply = offload.view({}, model, ids);
        REQUIRE(reply);
        REQUIRE(reply->nics_size() == 1);
        return reply->nics(0);
    }
};

std::set<std::string> both() {
    return {"pa", "pb"};
}

}  // namespace

TEST_CASE("VFs are the NIC's, and software sends to their addresses by the uplink", "[unit][R98][R110]") {
    Host host;
    REQUIRE(host.apply(vf("pa", "a", 0) + vf("pb", "b", 1) + soft));
    CHECK(host.in_nic() == both());
    CHECK(host.chips.state.pools.size() == 2);
    CHECK(host.chips.state.pools.at(0).vvlan == 10);
    CHECK(host.chips.state.macs.at({2, 0, 0, 0, 0, 0x0b}).pool == 1);
    CHECK(host.chips.state.macs.at({2, 0, 0, 0, 0, 0x0c}).pool == 8);  // software's, at the PF
    const pb::OffloadNic nic = host.view();
    CHECK(nic.state() == "on");
    CHECK(nic.chip() == "82599");
    const auto at = std::ranges::find(nic.objects(), std::string("pa"), &pb::Placement::name);
    REQUIRE(at != nic.objects().end());
    CHECK(at->where() == "hw");

    const int applies = host.plane.applies;
    REQUIRE(host.apply(vf("pa", "a", 0) + vf("pb", "b", 1) + soft));
    CHECK(host.plane.applies == applies + 1);
    CHECK(host.view().drifts() == 0);

    REQUIRE(host.apply(soft));
    CHECK(host.in_nic().empty());
    CHECK(host.chips.state.pools.empty());
}

TEST_CASE("a VF that the NIC cannot carry is off, and says why", "[unit]") {
    Host host;
    REQUIRE(host.apply(vf("pa", "a", 0, ", rules: [{action: drop, protocol: udp}]") + vf("pb", "b", 1)));
    CHECK(host.in_nic() == std::set<std::string>{"pb"});
    const pb::OffloadNic nic = host.view();
    const auto at = std::ranges::find(nic.objects(), std::string("pa"), &pb::Placement::name);
    REQUIRE(at != nic.objects().end());
    CHECK(at->reason() == "rules_from_vm");
    SECTION("as is one that the PF does not have") {
        REQUIRE(host.apply(vf("pa", "a", 8)));
        CHECK(host.in_nic().empty());
    }
}

TEST_CASE("a mirror for a VF is the NIC's, or is refused", "[unit][R139]") {
    Host host;
    const std::string ports = vf("pa", "a", 0) + vf("pb", "b", 1);
    const auto mirror = [](const std::string& sources, const std::string& more = "") {
        return "mirrors: [{name: ids, sources: [" + sources + "], to_vport: pb" + more + "}]\n";
    };
    REQUIRE(host.apply(ports + mirror("{vport: pa, direction: out}")));
    CHECK(host.in_nic() == both());
    CHECK(host.chips.state.mirrors == std::map<unsigned, offload::NicMirror>{{1, {.slot = 0, .sources = 0b1}}});
    for (const std::string& refused :
         {mirror("{vport: pa}"), mirror("{vport: pa, direction: in}"), mirror("{vport: pa, drops: true}"),
          mirror("{uplink: up0, direction: out}"), mirror("{vport: pa, direction: out}", ", snap_bytes: 64")}) {
        CAPTURE(refused);
        const auto done = host.apply(ports + refused);
        REQUIRE_FALSE(done);
        CHECK(done.error().id == "IVDS-M084");
    }
    CHECK_FALSE(host.apply(ports + soft + mirror("{vport: pc, direction: out}")));
    REQUIRE(host.apply(ports));
    CHECK(host.chips.state.mirrors.empty());
}

TEST_CASE("a capture leaves what it looks at in the NIC", "[unit]") {
    Host host;
    REQUIRE(host.apply(vf("pa", "a", 0) + vf("pb", "b", 1)));
    Tables tables = host.offload.tables();
    add_captures({{31, Capture{}}}, tables);  // of drops, wherever
    REQUIRE(host.offload.put(tables, nic_intents(host.model, host.ids), false, true));
    CHECK(host.in_nic() == both());
}

TEST_CASE("what chooses a VF's receive queue is the NIC's, and goes with it", "[unit][R29]") {
    Host host;
    const std::string filters =
        ", rx_filters: [{protocol: TCP, dst_port: 443, queue: 1}, {protocol: sctp, queue: 1}, {protocol: "
        "udp, src: 10.0.0.1, queue: 5}]";
    REQUIRE(host.apply(vf("pa", "a", 0, filters) + vf("pb", "b", 1)));
    CHECK(host.chips.state.filters == std::map<offload::RxKey, offload::NicFilter>{
                                          {{0, {.protocol = 132}}, {.slot = 1, .queue = 1}},
                                          {{0, {.protocol = 6, .dst_port = 443}}, {.slot = 0, .queue = 1}}});
    std::map<std::string, std::string> shown;
    const auto view = host.view();
    for (const pb::Placement& object : view.objects())
        if (object.kind() == "rx_filter") shown[object.name()] = object.where() + " " + object.reason();
    CHECK(shown ==
          std::map<std::string, std::string>{{"pa/1", "hw fits"}, {"pa/2", "hw fits"}, {"pa/3", "sw queue_away"}});
    REQUIRE(host.apply(vf("pa", "a", 0) + vf("pb", "b", 1)));
    CHECK(host.chips.state.filters.empty());
}

TEST_CASE("what must be in the NIC and cannot be is refused, and all is as before", "[unit]") {
    Host host;
    REQUIRE(host.apply(vf("pa", "a", 0)));
    const auto before = host.chips.state;
    const auto refused = host.apply(vf("pb", "b", 1, ", offload: require, rules: [{action: drop}]"));
    REQUIRE_FALSE(refused);
    CHECK(refused.error().id == "IVDS-O004");
    CHECK(host.chips.state == before);
    CHECK(host.in_nic() == std::set<std::string>{"pa"});
    SECTION("also where the NIC is away") {
        host.chips.is_there = false;
        const auto away = host.apply(vf("pa", "a", 0, ", offload: require"));
        REQUIRE_FALSE(away);
        CHECK(away.error().id == "IVDS-O020");
    }
}

TEST_CASE("where software refuses a change, the NIC is as it was", "[unit]") {
    Host host;
    REQUIRE(host.apply(vf("pa", "a", 0) + vf("pb", "b", 1)));
    const auto before = host.chips.state;
    for (const int at : {0, 1}) {  // before and after VFs come up
        host.plane.fail_in = at;
        const auto refused = host.apply(vf("pc", "c", 2) + vf("pb", "a", 1));
        host.plane.fail_in = -1;
        REQUIRE_FALSE(refused);
        CHECK(refused.error().id == "IVDS-T103");
        CHECK(host.chips.state.pools == before.pools);
        CHECK(host.in_nic() == both());
    }
}

TEST_CASE("where software refuses a VF that comes, it holds what it did before", "[unit]") {
    Host host;
    REQUIRE(host.apply(vf("pa", "a", 0)));
    const auto before = host.chips.state;
    host.plane.fail_in = 1;  // the tables are there already, and the VF is to be handed over
    REQUIRE_FALSE(host.apply(vf("pa", "a", 0) + vf("pb", "b", 1)));
    CHECK(host.plane.tables().ports.size() == 2);
    CHECK(host.in_nic() == std::set<std::string>{"pa"});
    CHECK(host.chips.state.pools == before.pools);
}

TEST_CASE("a NIC that fails at any step carries nothing, and is tried again", "[unit]") {
    for (int at = 0;; ++at) {
        Host host;
        REQUIRE(host.apply(vf("pa", "a", 0)));
        host.chips.fail_in = at;
        REQUIRE(host.apply(vf("pa", "b", 0) + vf("pb", "a", 1)));
        if (host.chips.fail_in >= 0) {
            CHECK(at >= 6);
            break;
        }
        CAPTURE(at);
        CHECK(host.in_nic().empty());
        CHECK(host.chips.state == offload::NicState{});
        CHECK(host.view().state() == "failed");
        CHECK_THAT(host.view().error(), ContainsSubstring("IVDS-T102"));
        CHECK_THAT(host.told.back(), ContainsSubstring("it refuses"));

        REQUIRE(host.apply(vf("pa", "b", 0) + vf("pb", "a", 1)));
        CHECK(host.view().state() == "on");
        CHECK(host.in_nic() == both());
        CHECK(host.chips.state.macs.at({2, 0, 0, 0, 0, 0x0a}).pool == 1);
    }
}

TEST_CASE("what somebody else changes in the NIC is set right, and told", "[unit]") {
    Host host;
    REQUIRE(host.apply(vf("pa", "a", 0) + vf("pb", "b", 1)));
    const auto right = host.chips.state;
    SECTION("a VF's reset") {
        host.chips.state.pools.erase(0);
    }
    SECTION("an address") {
        host.chips.state.macs.at({2, 0, 0, 0, 0, 0x0a}).pool = 8;
    }
    SECTION("a VF that nobody asked for") {
        host.chips.state.pools[3] = {.vvlan = 10};
    }
    SECTION("everything") {
        host.chips.state = {};
    }
    REQUIRE(host.apply(vf("pa", "a", 0) + vf("pb", "b", 1)));
    CHECK(host.chips.state == right);
    CHECK(host.view().drifts() == 1);
    CHECK_THAT(host.told.back(), ContainsSubstring("not as they shall be"));
}

TEST_CASE("a NIC that its driver resets is set up again at the next look, and not given up", "[unit][R98]") {
    Host host;
    REQUIRE(host.apply(vf("pa", "a", 0) + vf("pb", "b", 1)));
    const auto right = host.chips.state;
    const int opened = host.chips.opened;
    host.chips.is_set_up = false;
    SECTION("with all that it held") {
        host.chips.state = {};
    }
    SECTION("and kept the rest") {}
    host.offload.look();
    CHECK(host.chips.state == right);
    CHECK(host.in_nic() == both());
    CHECK(host.chips.opened == opened);
    CHECK(host.view().state() == "on");
    CHECK_THAT(host.told.at(1), ContainsSubstring("it was not set up"));
}

TEST_CASE("of two instances with room for one the busier is in the NIC, by what the NIC and the maps count",
          "[unit]") {
    Host host;
    REQUIRE(host.configure(
        "uplinks: [{name: up0, netdev: pf0, tags: single, transport_vlan: 100, offload: on, reserved_vlans: 62}]\n"
        "instances:\n"
        "  - {name: red, uplink: up0, mode: independent, vvlan: 10, scope: distributed}\n"
        "  - {name: teal, uplink: up0, mode: independent, vvlan: 20, scope: distributed}\n"
        "vnics: [{name: a, vmac: '02:00:00:00:00:0a'}, {name: b, vmac: '02:00:00:00:00:0b'},\n"
        "        {name: c, vmac: '02:00:00:00:00:0c'}]\n"
        "vports:\n"
        "  - {name: pa, instance: red, vnic: a, vf: {pf: up0, index: 0}}\n"
        "  - {name: pb, instance: teal, vnic: b, vf: {pf: up0, index: 1}}\n"
        "  - {name: pc, instance: teal, vnic: c, netdev: veth0}\n"));
    const std::set<std::string> first = host.in_nic();
    REQUIRE(first.size() == 1);
    REQUIRE(first.contains("pa"));
    const auto moves = [&](std::uint64_t by_vf, std::uint64_t by_software) {
        host.chips.counters[0].rx_packets.value += by_vf;
        host.plane.had[host.ids.ports.at("pc")] += by_software;
        host.offload.look();
        return host.in_nic();
    };
    CHECK(moves(0, 0) == first);
    CHECK(moves(1000, 1100) == first);  // not without need
    CHECK(moves(0, 4000) == std::set<std::string>{"pb"});
    CHECK(moves(0, 10) == std::set<std::string>{"pb"});  // a pause
}

TEST_CASE("a NIC that goes away is told once, and comes back", "[unit]") {
    Host host;
    REQUIRE(host.apply(vf("pa", "a", 0)));
    host.chips.is_there = false;
    REQUIRE(host.apply(vf("pa", "a", 0)));
    const std::size_t told = host.told.size();
    CHECK(host.in_nic().empty());
    CHECK(host.view().state() == "failed");
    host.chips.is_there = true;
    host.chips.state = {};
    REQUIRE(host.apply(vf("pa", "a", 0)));
    CHECK(host.in_nic() == std::set<std::string>{"pa"});
    CHECK(host.told.size() == told + 1);
}

TEST_CASE("an uplink without offload gives its NIC back empty", "[unit]") {
    Host host;
    REQUIRE(host.apply(vf("pa", "a", 0)));
    auto tables = host.offload.tables();
    REQUIRE(host.offload.put(tables, {}, false, true));
    CHECK(host.chips.state == offload::NicState{});
    CHECK(host.in_nic().empty());
}

TEST_CASE("with two tags the NIC sorts to uplinks that are VFs, and a change of the tags opens it anew",
          "[unit][R94]") {
    const auto config = [](const std::string& outer) {
        return "uplinks:\n"
               "  - {name: up0, netdev: pf0, offload: on, outer_tpid: '" +
               outer +
               "'}\n"
               "  - {name: red-up, netdev: pf0v0, outer_tpid: '" +
               outer +
               "', vf: {pf: up0, index: 3}}\n"
               "instances:\n"
               "  - {name: red, uplink: red-up, vlan: 100, vvlan: 10, scope: distributed}\n"
               "  - {name: blue, uplink: up0, vlan: 100, vvlan: 20, scope: distributed}\n";
    };
    Host host;
    REQUIRE(host.configure(config("0x88a8")));
    CHECK(host.chips.tags == offload::WireTags{.two = true, .outer_tpid = 0x88a8});
    CHECK(host.chips.state.uplinks == std::set<unsigned>{3});
    CHECK(host.chips.state.vlans.at(10).members == offload::pool_bit(3));
    CHECK(host.chips.state.admitted == std::set<std::uint16_t>{10, 20});
    const auto where = [&](const std::string& kind, const std::string& name) {
        const pb::OffloadNic nic = host.view();
        for (const pb::Placement& at : nic.objects())
            if (at.kind() == kind && at.name() == name) return at.where() + " " + at.reason();
        return std::string("nowhere");
    };
    CHECK(where("uplink", "red-up") == "mixed sorted");
    CHECK(where("instance", "red") == "mixed sorted");
    CHECK(where("instance", "blue") == "sw outer_tag");
    const int opened = host.chips.opened;
    REQUIRE(host.configure(config("0x9100")));
    CHECK(host.chips.opened == opened + 1);
    CHECK(host.chips.tags == offload::WireTags{.two = true, .outer_tpid = 0x9100});
    CHECK(host.chips.state.uplinks.size() == 1);
    SECTION("a VF that the PF does not have") {
        REQUIRE(host.configure(config("0x9100").replace(config("0x9100").find("index: 3"), 8, "index: 9")));
        CHECK(host.chips.state.uplinks.empty());
        CHECK(where("uplink", "red-up") == "sw not_a_vf");
        CHECK(where("instance", "red") == "sw not_a_vf");
    }
}

TEST_CASE("an uplink's MTU is looked at", "[unit]") {
    Host host;
    host.plane.interfaces["pf0"].netdev.mtu = 1500;
    REQUIRE(host.apply(vf("pa", "a", 0) + soft));
    const auto nic = host.view();
    const auto at = std::ranges::find(nic.objects(), std::string("pa"), &pb::Placement::name);
    REQUIRE(at != nic.objects().end());
    CHECK(at->where() == "hw");
    CHECK(at->reason() == "uplink_mtu");
}
namespace {

// As many frames of 100 bytes from the VF, and as many of 60 to it.
void pass(Chips& chips, unsigned vf, unsigned sent, unsigned got) {
    auto& of = chips.counters[vf];
    of.tx_packets.value += sent;
    of.tx_bytes.value += std::uint64_t{sent} * 108;
    of.rx_packets.value += got;
    of.rx_bytes.value += std::uint64_t{got} * 68;
}

}  // namespace

TEST_CASE("what the NIC counts of a vPort adds up over moves, resets and restarts of the agent",
          "[unit][R98][R144]") {
    Host host;
    for (unsigned vf = 0; vf < 4; ++vf) pass(host.chips, vf, 1000 * (vf + 1), 77);  // somebody's before
    REQUIRE(host.apply(vf("pa", "a", 0) + vf("pb", "b", 1)));
    const std::uint32_t pa = host.ids.ports.at("pa");
    const auto sent = [&] {
        host.offload.count();
        return host.plane.counts.at(pa).rx_packets;
    };
    CHECK(sent() == 0);
    pass(host.chips, 0, 5, 3);
    pass(host.chips, 1, 50, 30);
    CHECK(sent() == 5);
    CHECK(host.plane.counts.at(pa).rx_bytes == 500);
    CHECK(host.plane.counts.at(pa).tx_packets == 3);
    CHECK(host.plane.counts.at(pa).tx_bytes == 180);
    SECTION("to another VF, which counts for it from then on") {
        pass(host.chips, 0, 1, 0);
        pass(host.chips, 2, 400, 0);
        REQUIRE(host.apply(vf("pa", "a", 2) + vf("pb", "b", 1)));
        CHECK(sent() == 6);
        pass(host.chips, 0, 10, 0);
        pass(host.chips, 2, 7, 0);
        CHECK(sent() == 13);
    }
    SECTION("to software and back, whose VF another vPort had meanwhile") {
        REQUIRE(host.apply(vf("pa", "a", 0, ", rules: [{action: drop, protocol: udp}]") + vf("pb", "b", 1)));
        CHECK(host.plane.counts.at(pa).pool == IVDS_NO_POOL);
        pass(host.chips, 0, 10, 0);
        CHECK(sent() == 5);
        REQUIRE(host.apply(vf("pa", "a", 0) + vf("pb", "b", 1)));
        pass(host.chips, 0, 2, 0);
        CHECK(sent() == 7);
    }
    SECTION("a NIC that is reset") {
        host.chips.counters = {};
        host.chips.state = {};
        pass(host.chips, 0, 2, 0);
        REQUIRE(host.apply(vf("pa", "a", 0) + vf("pb", "b", 1)));
        CHECK(sent() == 7);
    }
    SECTION("a NIC that fails and comes back") {
        host.chips.is_there = false;
        REQUIRE(host.apply(vf("pa", "a", 0)));
        CHECK(sent() == 5);
        host.chips.is_there = true;
        REQUIRE(host.apply(vf("pa", "a", 0)));
        pass(host.chips, 0, 2, 0);
        CHECK(sent() == 7);
    }
    SECTION("an agent that ends, and one that goes on with what the NIC counted meanwhile") {
        pass(host.chips, 0, 2, 0);
        Offload next(
            host.plane,
            {.open = [&](const std::string&, offload::WireTags) -> Result<std::unique_ptr<offload::Backend>> {
                 return std::make_unique<FakeNic>(host.chips);
             },
             .check_vfs = {},
             .set_vfs = {}},
            [](const std::string&, const std::string&) {});
        REQUIRE(next.put(host.offload.tables(), nic_intents(host.model, host.ids), false, false));
        CHECK(host.plane.counts.at(pa).rx_packets == 7);
    }
    SECTION("offload show has them") {
        const pb::OffloadNic nic = host.view();
        REQUIRE(nic.traffic_size() == 2);
        CHECK(nic.traffic(0).vport() == "pa");
        CHECK(nic.traffic(0).counters().rx_packets() == 5);
        CHECK(nic.traffic(1).vf() == 1);
        CHECK(nic.traffic(1).counters().tx_packets() == 30);
    }
}

TEST_CASE("a PF gets the VFs that its uplink asks for, and gets them again", "[unit][R9]") {
    Host host;
    host.chips.vfs = 0;
    const auto with = [&](unsigned vfs) {
        std::string config = base + "vports:\n" + vf("pa", "a", 0) + vf("pb", "b", 1);
        return host.configure(config.insert(config.find(", offload: on"), ", vfs: " + std::to_string(vfs)));
    };
    REQUIRE(with(2));
    CHECK(host.chips.vfs == 2);
    CHECK(host.in_nic() == both());
    REQUIRE(with(4));
    CHECK(host.chips.vfs == 4);
    CHECK(host.in_nic() == both());
    CHECK(host.chips.opened == 2);
    SECTION("when somebody takes them away") {
        host.chips.vfs = 0;
        host.chips.state = {};
        REQUIRE(with(4));  // it is found to be gone
        REQUIRE(with(4));
        CHECK(host.chips.vfs == 4);
        CHECK(host.in_nic() == both());
        CHECK(host.view().state() == "on");
        CHECK(host.view().error().empty());
    }
    SECTION("when the NIC was away") {
        host.chips.is_there = false;
        REQUIRE(with(3));
        CHECK(host.in_nic().empty());
        CHECK(host.view().state() == "failed");
        CHECK(host.chips.vfs == 4);
        host.chips.is_there = true;
        REQUIRE(with(3));
        CHECK(host.chips.vfs == 3);
        CHECK(host.in_nic() == both());
    }
    SECTION("but not while one is in use: the change is refused, and what is there carries on") {
        host.chips.in_use = true;
        const auto held = host.chips.state;
        const auto refused = with(3);
        CHECK(refused.error().id == "IVDS-T105");
        CHECK_THAT(refused.error().text(), ContainsSubstring("uplink up0"));
        CHECK(host.configure("uplinks: []").error().id == "IVDS-T105");
        CHECK(host.chips.vfs == 4);
        CHECK(host.chips.state == held);
        CHECK(host.in_nic() == both());
        REQUIRE(with(4));  // other changes are none of it
        // Somebody else made another number, and uses them: that is told, and the NIC carries what it has.
        host.chips.vfs = 2;
        host.chips.state = {};
        REQUIRE(with(4));
        REQUIRE(with(4));
        CHECK(host.chips.vfs == 2);
        CHECK(host.in_nic() == both());
        CHECK(host.view().state() == "on");
        CHECK_THAT(host.view().error(), ContainsSubstring("IVDS-T105"));
        const auto said = host.told.size();
        REQUIRE(with(4));
        CHECK(host.told.size() == said);
    }
    SECTION("and they go with the uplink, not with the number") {
        REQUIRE(host.apply(vf("pa", "a", 0)));
        CHECK(host.chips.vfs == 4);
        REQUIRE(with(4));
        REQUIRE(host.configure("uplinks: []"));
        CHECK(host.chips.vfs == 0);
    }
}

TEST_CASE("VFs are asked for with offload, and a vPort is one of those", "[unit][R9]") {
    Host host;
    const auto refused = [&](const std::string& uplink, const std::string& vports) {
        return host.configure("uplinks: [" + uplink + "]\n" + base.substr(base.find("instances:")) + vports)
            .error()
            .id;
    };
    CHECK(refused("{name: up0, netdev: pf0, transport_vlan: 100, vfs: 2}", "") == "IVDS-M003");
    CHECK(refused("{name: up0, netdev: pf0, tags: single, transport_vlan: 100, offload: on, vfs: 257}", "") ==
          "IVDS-M003");
    CHECK(refused("{name: up0, netdev: pf0, tags: single, transport_vlan: 100, offload: on, vfs: 2}",
                  "vports:\n" + vf("pa", "a", 2)) == "IVDS-M084");
}
