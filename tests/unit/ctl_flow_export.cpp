// SPDX-License-Identifier: Apache-2.0
// Export of flows: what a configuration may say of it, the lists that it needs, the records that looks at the flow
// table give, and the messages that they go out in.
#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cstring>
#include <vector>

#include "agent/flow_track.h"
#include "agent/ipfix.h"
#include "api/codec.h"
#include "compile/compile.h"
#include "model/exporter.h"

using namespace ivds;
using Catch::Matchers::ContainsSubstring;

namespace flow_export_test {
namespace {

const std::string kBase =
    "uplinks: [{name: up, netdev: eth1}]\n"
    "instances: [{name: red, tenant: acme, mode: piggyback, vlan: 100, vvlan: 10, scope: distributed, uplink: up},\n"
    "            {name: blue, mode: piggyback, vlan: 100, vvlan: 20, scope: distributed, uplink: up}]\n"
    "profiles: [{name: shut, default_in: drop}]\n"
    "vports: [{name: a, instance: red, netdev: va}, {name: b, instance: red, netdev: vb},\n"
    "         {name: c, instance: red, netdev: vc, profile: shut}, {name: d, instance: blue, netdev: vd},\n"
    "         {name: x, instance: red, patch: y}, {name: y, instance: blue, patch: x}]\n";

Result<Model> model_of(const std::string& exporters) {
    auto config = config_from_yaml(kBase + "exporters:\n" + exporters, "t");
    INFO((config ? "" : config.error().text()));
    REQUIRE(config);
    return next_from_config({}, std::move(*config), {});
}

std::string error_of(const std::string& exporters) {
    const auto model = model_of(exporters);
    REQUIRE_FALSE(model);
    return model.error().text();
}

struct Compiled {
    Ids ids;
    Tables tables;
    [[nodiscard]] const ivds_port& port(const char* name) const { return tables.ports.at(ids.ports.at(name)).value; }
};

Compiled compiled(const std::string& exporters) {
    const auto model = model_of(exporters);
    INFO((model ? "" : model.error().text()));
    REQUIRE(model);
    Compiled out{assign_ids(*model, {}).value(), {}};
    out.tables = compile(*model, out.ids).value();
    return out;
}

constexpr std::uint64_t kSecond = 1'000'000'000;
constexpr std::uint32_t kPort = 5;

ivds_flow_key key_of(std::uint16_t sport, std::uint8_t protocol = 17) {
    ivds_flow_key key{};
    key.port = kPort;
    key.instance = 3;
    key.fields.src_mac[5] = 1;
    key.fields.dst_mac[5] = 2;
    const std::uint8_t src[16] = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, 1};
    std::ranges::copy(src, key.fields.src);
    std::ranges::copy(src, key.fields.dst);
    key.fields.dst[15] = 2;
    key.fields.type_be = htons(0x0800);
    key.fields.proto = protocol;
    key.fields.sport_be = htons(sport);
    key.fields.dport_be = htons(53);
    return key;
}

ivds_flow_key turned(const ivds_flow_key& key) {
    ivds_flow_key other = key;
    other.port = key.port + 1;
    std::swap(other.fields.src_mac, other.fields.dst_mac);
    std::swap(other.fields.src, other.fields.dst);
    std::swap(other.fields.sport_be, other.fields.dport_be);
    return other;
}

// Flows in a table, and the records that come of looks at it.
struct Table {
    std::vector<FlowRow> rows;
    FlowTracker tracker{100 * kSecond};
    std::uint64_t now_s = 100;
    std::uint32_t active_s = 60;

    FlowRow& add(std::uint16_t sport, std::uint64_t in_packets, std::uint64_t out_packets = 0,
                 std::uint8_t state = IVDS_FLOW_VERDICT) {
        FlowRow row{};
        row.key = key_of(sport, state == IVDS_FLOW_VERDICT ? 17 : 6);
        row.flow.since_s = static_cast<std::uint32_t>(now_s);
        row.flow.state = state;
        for (auto& way : row.flow.way) way.action = IVDS_ACL_ALLOW;
        rows.push_back(row);
        send(rows.back(), in_packets, out_packets);
        return rows.back();
    }
    void send(FlowRow& row, std::uint64_t in_packets, std::uint64_t out_packets = 0) const {
        row.flow.way[IVDS_WAY_IN].packets += in_packets;
        row.flow.way[IVDS_WAY_IN].bytes += in_packets * 100;
        row.flow.way[IVDS_WAY_OUT].packets += out_packets;
        row.flow.way[IVDS_WAY_OUT].bytes += out_packets * 60;
        row.flow.last_seen_ns = now_s * kSecond;
    }
    std::vector<FlowRecord> look() {
        std::vector<FlowRecord> records;
        const auto sink = [&](const FlowRecord& record) { records.push_back(record); };
        tracker.begin(now_s * kSecond, active_s);
        for (const FlowRow& row : rows) tracker.see(row, 100, 10, sink);
        tracker.end(sink);
        return records;
    }
    std::vector<FlowRecord> look_after(std::uint64_t seconds) {
        now_s += seconds;
        return look();
    }
};

}  // namespace

TEST_CASE("an exporter that cannot be is refused with what to write instead") {
    CHECK(model_of("- {name: e, collector: '192.0.2.9:4739'}\n"));
    CHECK(model_of("- {name: e, collector: '[fd00::9]:4739', instances: [red], tenants: [acme]}\n"));
    for (const char* collector : {"", "192.0.2.9", "192.0.2.9:0", "192.0.2.9:65536", "fd00::9:4739", "[fd00::9]",
                                  "[192.0.2.9]:4739", "flows.example:4739", "192.0.2.9:4739x"}) {
        INFO(collector);
        CHECK_THAT(error_of(fmt::format("- {{name: e, collector: '{}'}}\n", collector)),
                   ContainsSubstring("IVDS-M066") && ContainsSubstring("[fd00::9]:4739"));
    }
    CHECK_THAT(error_of("- {name: e, collector: '192.0.2.9:1', active_timeout_s: 3601}\n"),
               ContainsSubstring("IVDS-M003") && ContainsSubstring("active_timeout_s"));
    CHECK_THAT(error_of("- {name: e, collector: '192.0.2.9:1', template_refresh_s: 90000}\n"),
               ContainsSubstring("IVDS-M003"));
    CHECK_THAT(error_of("- {name: e, collector: '192.0.2.9:1', instances: [green]}\n"),
               ContainsSubstring("IVDS-M006") && ContainsSubstring("green"));
    CHECK_THAT(error_of("- {name: e, collector: '192.0.2.9:1', tenants: [nobody]}\n"),
               ContainsSubstring("IVDS-M006") && ContainsSubstring("nobody"));
    std::string many;
    for (std::size_t i = 0; i <= kMaxExporters; ++i)
        many += fmt::format("- {{name: e{}, collector: '192.0.2.9:1'}}\n", i);
    CHECK_THAT(error_of(many), ContainsSubstring("IVDS-M020"));
}

TEST_CASE("an instance whose flows are exported stays as long as the exporter names it") {
    const auto model = model_of("- {name: e, collector: '192.0.2.9:1', instances: [red]}\n");
    pb::Ref ref;
    ref.set_kind(pb::INSTANCE);
    ref.set_name("red");
    const auto gone = next_without(*model, ref);
    REQUIRE_FALSE(gone);
    CHECK_THAT(gone.error().text(), ContainsSubstring("exporter e"));
}

TEST_CASE("vPorts without rules get a list that allows all where their flows are exported, and there alone") {
    const auto none = compiled("[]\n");
    CHECK(none.port("a").acl_in == 0);
    for (const char* of : {"instances: [red]", "tenants: [acme]"}) {
        INFO(of);
        const auto c = compiled(fmt::format("- {{name: e, collector: '192.0.2.9:1', {}}}\n", of));
        REQUIRE(c.port("a").acl_in != 0);
        CHECK(c.port("a").acl_out == c.port("a").acl_in);
        CHECK(c.port("b").acl_in == c.port("a").acl_in);
        const AclRow& list = *c.tables.acls.at(c.port("a").acl_in);
        CHECK(list.default_action == IVDS_ACL_ALLOW);
        CHECK(list.masks.empty());
        // What has rules keeps them, a patch has no flows, and others are not touched.
        CHECK(c.tables.acls.at(c.port("c").acl_in)->default_action == IVDS_ACL_DROP);
        CHECK(c.port("x").acl_in == 0);
        CHECK(c.port("d").acl_in == 0);
    }
    const auto all = compiled("- {name: e, collector: '192.0.2.9:1'}\n");
    CHECK(all.port("d").acl_in == all.port("a").acl_in);
    CHECK(all.port("d").acl_in != 0);
}

TEST_CASE("a flow that goes on is told at its active timeout, each time what came since [R171]") {
    Table table;
    table.add(1000, 3, 2, IVDS_FLOW_OPEN);
    CHECK(table.look().empty());
    CHECK(table.look_after(30).empty());
    table.send(table.rows[0], 4);
    const auto first = table.look_after(30);
    REQUIRE(first.size() == 2);
    CHECK((first[0].way == IVDS_WAY_IN && first[0].packets == 7 && first[0].bytes == 700));
    CHECK((first[1].way == IVDS_WAY_OUT && first[1].packets == 2 && first[1].bytes == 120));
    CHECK((first[0].start_ns == 100 * kSecond && first[0].end_ns == 130 * kSecond));
    CHECK((first[0].vlan == 100 && first[0].vvlan == 10));
    table.now_s += 20;
    table.send(table.rows[0], 1);
    const auto second = table.look_after(40);
    REQUIRE(second.size() == 1);
    CHECK((second[0].packets == 1 && second[0].bytes == 100));
    CHECK((second[0].start_ns == 130 * kSecond && second[0].end_ns == 180 * kSecond));
}

TEST_CASE("a flow is told once more when it is idle, closed or flushed, with the reason") {
    Table table;
    table.add(1000, 1);
    table.add(1001, 2, 2, IVDS_FLOW_CLOSING);
    table.add(1002, 3);
    CHECK(table.look().empty());
    // One is flushed, one is closed and gone.
    table.rows.erase(table.rows.begin() + 1, table.rows.end());
    table.active_s = 600;
    auto records = table.look_after(5);
    std::ranges::sort(records, {}, &FlowRecord::packets);
    REQUIRE(records.size() == 3);
    CHECK(records[0].end == FlowEnd::closed);
    CHECK(records[1].end == FlowEnd::closed);
    CHECK((records[2].packets == 3 && records[2].end == FlowEnd::forced));
    // Idle beyond its time it is told while it is still there, and not again when it goes.
    const auto idle = table.look_after(IVDS_FLOW_VERDICT_S);
    REQUIRE(idle.size() == 1);
    CHECK((idle[0].packets == 1 && idle[0].end == FlowEnd::idle));
    table.rows.clear();
    CHECK(table.look_after(1).empty());
    CHECK(table.tracker.size() == 0);
}

TEST_CASE("what was counted before the exporter came is not told, what came after it is") {
    Table table;
    table.now_s = 50;
    table.add(1000, 1000, 1000);
    table.now_s = 100;
    table.add(1001, 5);
    CHECK(table.look().empty());
    table.send(table.rows[0], 2);
    table.rows.clear();
    CHECK(table.look_after(5).size() == 1);  // the old one counted nothing that a look saw

    Table again;
    again.now_s = 50;
    again.add(1000, 1000);
    again.now_s = 100;
    again.look();
    again.send(again.rows[0], 2);
    const auto records = again.look_after(61);
    REQUIRE(records.size() == 1);
    CHECK(records[0].packets == 2);
}

TEST_CASE("a flow that went and came back between two looks is two") {
    Table table;
    table.add(1000, 5);
    table.look();
    table.rows.clear();
    table.now_s += 4;
    table.add(1000, 7);
    const auto records = table.look();
    REQUIRE(records.size() == 1);
    CHECK(records[0].packets == 5);
    const auto more = table.look_after(60);
    REQUIRE(more.size() == 1);
    CHECK(more[0].packets == 7);
}

TEST_CASE("frames are told under the decision that they met") {
    Table table;
    FlowRow& row = table.add(1000, 5);
    row.flow.way[IVDS_WAY_IN].action = IVDS_ACL_DROP;
    table.look();
    row.flow.way[IVDS_WAY_IN].action = IVDS_ACL_REDIRECT;
    row.flow.way[IVDS_WAY_IN].target = 77;
    table.send(row, 2);
    const auto dropped = table.look_after(1);
    REQUIRE(dropped.size() == 1);
    CHECK((dropped[0].packets == 5 && dropped[0].action == IVDS_ACL_DROP && dropped[0].target == 0));
    const auto redirected = table.look_after(60);
    REQUIRE(redirected.size() == 1);
    CHECK((redirected[0].packets == 2 && redirected[0].action == IVDS_ACL_REDIRECT && redirected[0].target == 77));
}

TEST_CASE("an exporter that goes tells all that it has not told") {
    Table table;
    table.add(1000, 5, 4);
    table.look();
    std::uint64_t packets = 0;
    table.tracker.finish([&](const FlowRecord& record) {
        CHECK(record.end == FlowEnd::forced);
        packets += record.packets;
    });
    CHECK(packets == 9);
    CHECK(table.tracker.size() == 0);
}

TEST_CASE("sampling takes one flow in N, wholly: both ends have the same answer [R171]") {
    const std::uint32_t n = GENERATE(2U, 10U, 100U);
    constexpr std::uint32_t flows = 20'000;
    std::uint32_t taken = 0;
    for (std::uint32_t i = 0; i < flows; ++i) {
        ivds_flow_key key = key_of(static_cast<std::uint16_t>(i));
        key.fields.src[14] = static_cast<std::uint8_t>(i >> 8);
        CHECK(is_sampled(key, n) == is_sampled(turned(key), n));
        taken += is_sampled(key, n) ? 1 : 0;
    }
    CHECK(taken > flows / n * 7 / 10);
    CHECK(taken < flows / n * 13 / 10);
    CHECK(is_sampled(key_of(1), 0));
    CHECK(is_sampled(key_of(1), 1));
}

TEST_CASE("messages are IPFIX of the domain, in sequence, each within its size, and hold every record once [R171]") {
    struct Message {
        std::vector<std::uint8_t> bytes;
        IpfixWriter::Content held;
    };
    std::vector<Message> messages;
    auto writer = IpfixWriter::open(77, [&](std::span<const std::uint8_t> bytes, const IpfixWriter::Content& held) {
        messages.push_back({{bytes.begin(), bytes.end()}, held});
    });
    REQUIRE(writer);
    (*writer)->templates();
    (*writer)->sampling(10, 100);
    (*writer)->interface(kPort, "web1", "red");
    FlowRecord record;
    record.key = key_of(1000);
    record.packets = 1;
    record.bytes = 100;
    FlowRecord record6 = record;
    record6.key.fields.type_be = htons(0x86dd);
    for (int i = 0; i < 100; ++i) {
        (*writer)->flow(record, 0);
        (*writer)->flow(record6, 0);
    }
    const std::vector<std::uint8_t> frame(1500, 0x5a);
    for (int i = 0; i < 20; ++i) (*writer)->packet({.port = kPort, .frame_bytes = 1500, .data = frame});
    (*writer)->flush();
    (*writer)->flush();

    const auto number = [](const Message& message, std::size_t at, std::size_t bytes) {
        std::uint32_t value = 0;
        for (std::size_t i = 0; i < bytes; ++i) value = value << 8 | message.bytes.at(at + i);
        return value;
    };
    std::uint32_t flows = 0;
    std::uint32_t packets = 0;
    std::uint32_t sequence = 0;
    REQUIRE(messages.size() > 5);
    for (std::size_t i = 0; i < messages.size(); ++i) {
        const Message& message = messages[i];
        CHECK(number(message, 0, 2) == 10);
        CHECK(number(message, 2, 2) == message.bytes.size());
        CHECK(message.bytes.size() <= kIpfixMessageBytes);
        CHECK(number(message, 12, 4) == 77);
        CHECK(number(message, 8, 4) == sequence);
        flows += message.held.flows;
        packets += message.held.packets;
        // Options count, too, and are all in the first behind the templates.
        sequence += message.held.flows + message.held.packets + (i == 1 ? 4U : 0U);
    }
    CHECK(flows == 200);
    CHECK(packets == 20);
    // Templates come first, in a template set.
    CHECK(number(messages[0], 16, 2) == 2);
    CHECK(messages[0].held.flows == 0);
}

}  // namespace flow_export_test
