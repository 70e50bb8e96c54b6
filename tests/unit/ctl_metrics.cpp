// SPDX-License-Identifier: Apache-2.0
// Metrics: replies of the agent as families of Prometheus, and the addresses to serve them on.
#include <prometheus/text_serializer.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <set>

#include "agent/metrics.h"

using namespace ivds;

namespace {

// One uplink and one vPort with counters that are all different, so that none can stand for another.
MetricsReading reading() {
    MetricsReading it;
    it.status.set_version("1.2.3");
    it.status.set_programs("1.2.2");
    it.status.set_generation(7);
    it.status.set_uptime_s(60);
    pb::TenantState& tenant = *it.status.add_tenants();
    tenant.set_name("acme");
    tenant.set_vports(1);
    tenant.set_max_vports(4);

    pb::PortState& uplink = *it.stats.add_ports();
    uplink.set_kind(pb::UPLINK);
    uplink.set_name("up0");
    uplink.set_speed_mbps(10'000);
    uplink.mutable_counters()->set_rx_packets(11);
    uplink.mutable_counters()->set_tx_packets(12);
    uplink.mutable_counters()->set_rx_bytes(13);
    uplink.mutable_counters()->set_tx_bytes(14);
    uplink.mutable_counters()->set_rx_host(15);
    uplink.mutable_netdev_counters()->set_rx_crc(16);
    pb::PortState& vport = *it.stats.add_ports();
    vport.set_kind(pb::VPORT);
    vport.set_name("web1");
    vport.set_instance("red");
    vport.set_vmac("02:00:00:00:00:01");
    vport.set_up(true);
    vport.set_learned(21);
    vport.set_flows(22);
    vport.mutable_counters()->set_rx_packets(9'007'199'254'740'000);
    vport.mutable_counters()->set_tx_packets(24);
    vport.mutable_counters()->set_rx_bytes(25);
    vport.mutable_counters()->set_tx_bytes(26);
    vport.mutable_counters()->set_rx_wire(27);
    vport.mutable_nic_counters()->set_rx_packets(71);
    vport.mutable_nic_counters()->set_tx_bytes(74);

    pb::InstanceState& instance = *it.stats.add_instances();
    instance.set_name("red");
    instance.set_tenant("acme");
    instance.set_uplink("up0");
    instance.set_learned(31);
    instance.set_port_packets(32);
    instance.set_wire_bytes(33);
    pb::Drop& drop = *it.stats.add_drops();
    drop.set_port("web1");
    drop.set_reason("spoof");
    drop.set_packets(41);
    drop.set_bytes(42);
    pb::MirrorState& mirror = *it.mirrors.add_mirrors();
    mirror.set_name("watch");
    mirror.set_packets(51);
    mirror.set_refused(52);
    pb::ExporterState& exporter = *it.exporters.add_exporters();
    exporter.set_name("flows");
    exporter.set_flows(61);
    exporter.set_flow_records(62);
    exporter.set_packet_records(63);
    exporter.set_messages(64);
    exporter.set_failed_records(65);
    exporter.set_lost_samples(66);
    return it;
}

std::string text_of(const MetricsReading& it) {
    return prometheus::TextSerializer().Serialize(metric_families(it));
}

bool has(const std::string& text, const std::string& line) {
    return ("\n" + text).find("\n" + line + "\n") != std::string::npos;
}

}  // namespace

TEST_CASE("what the replies count is there under names, types and labels by Prometheus' conventions") {
    const std::string text = text_of(reading());
    INFO(text);
    for (const char* line : {
             "# TYPE ivds_build_info gauge",
             R"(ivds_build_info{version="1.2.3",programs="1.2.2"} 1)",
             "ivds_agent_uptime_seconds 60",
             "ivds_generation 7",
             "# TYPE ivds_vport_packets_total counter",
             R"(ivds_vport_packets_total{vport="web1",instance="red",direction="rx"} 9007199254740000)",
             R"(ivds_vport_packets_total{vport="web1",instance="red",direction="tx"} 24)",
             R"(ivds_vport_nic_packets_total{vport="web1",instance="red",direction="rx"} 71)",
             R"(ivds_vport_nic_bytes_total{vport="web1",instance="red",direction="tx"} 74)",
             R"(ivds_vport_bytes_total{vport="web1",instance="red",direction="rx"} 25)",
             R"(ivds_vport_bytes_total{vport="web1",instance="red",direction="tx"} 26)",
             R"(ivds_vport_switched_packets_total{vport="web1",instance="red",to="wire"} 27)",
             "# TYPE ivds_vport_up gauge",
             R"(ivds_vport_up{vport="web1",instance="red"} 1)",
             R"(ivds_vport_fdb_entries{vport="web1",instance="red"} 21)",
             R"(ivds_flow_entries{vport="web1",instance="red"} 22)",
             R"(ivds_uplink_packets_total{uplink="up0",direction="rx"} 11)",
             R"(ivds_uplink_packets_total{uplink="up0",direction="tx"} 12)",
             R"(ivds_uplink_bytes_total{uplink="up0",direction="rx"} 13)",
             R"(ivds_uplink_bytes_total{uplink="up0",direction="tx"} 14)",
             R"(ivds_uplink_host_packets_total{uplink="up0"} 15)",
             R"(ivds_uplink_up{uplink="up0"} 0)",
             R"(ivds_uplink_speed_bytes{uplink="up0"} 1250000000)",
             R"(ivds_uplink_netdev_errors_total{uplink="up0",reason="rx_crc"} 16)",
             R"(ivds_fdb_entries{instance="red",tenant="acme",uplink="up0"} 31)",
             R"(ivds_instance_packets_total{instance="red",tenant="acme",uplink="up0",from="vport"} 32)",
             R"(ivds_instance_bytes_total{instance="red",tenant="acme",uplink="up0",from="wire"} 33)",
             R"(ivds_drops_total{port="web1",reason="spoof"} 41)",
             R"(ivds_drops_bytes_total{port="web1",reason="spoof"} 42)",
             R"(ivds_tenant_vports{tenant="acme"} 1)",
             R"(ivds_tenant_vports_quota{tenant="acme"} 4)",
             R"(ivds_mirror_packets_total{mirror="watch"} 51)",
             R"(ivds_mirror_refused_total{mirror="watch"} 52)",
             R"(ivds_exporter_flows{exporter="flows"} 61)",
             R"(ivds_exporter_records_total{exporter="flows",kind="flow"} 62)",
             R"(ivds_exporter_records_total{exporter="flows",kind="packet"} 63)",
             R"(ivds_exporter_messages_total{exporter="flows"} 64)",
             R"(ivds_exporter_failed_records_total{exporter="flows"} 65)",
             R"(ivds_exporter_lost_samples_total{exporter="flows"} 66)",
         }) {
        INFO(line);
        CHECK(has(text, line));
    }
}

TEST_CASE("a family is there once, counters alone end in _total, and labels are of a fixed set") {
    const std::set<std::string> allowed = {"vport",    "instance", "tenant", "uplink", "port", "reason",  "direction",
                                           "exporter", "kind",     "mirror", "to",     "from", "version", "programs"};
    std::set<std::string> names;
    std::set<std::string> series;
    for (const prometheus::MetricFamily& family : metric_families(reading())) {
        INFO(family.name);
        CHECK(names.insert(family.name).second);
        CHECK(family.name.starts_with("ivds_"));
        CHECK(std::ranges::all_of(family.name, [](char c) { return c == '_' || (c >= 'a' && c <= 'z'); }));
        CHECK(family.name.ends_with("_total") == (family.type == prometheus::MetricType::Counter));
        CHECK_FALSE(family.help.empty());
        for (const prometheus::ClientMetric& metric : family.metric) {
            std::string key = family.name;
            for (const auto& label : metric.label) {
                CHECK(allowed.contains(label.name));
                key += " " + label.name + "=" + label.value;
            }
            CHECK(series.insert(key).second);
        }
    }
}

TEST_CASE("no MAC gets into the metrics, and what is unknown is left out") {
    MetricsReading it = reading();
    CHECK(text_of(it).find("02:00:00") == std::string::npos);
    it.stats.mutable_ports(0)->clear_speed_mbps();
    it.stats.mutable_ports(0)->clear_netdev_counters();
    it.status.mutable_tenants(0)->clear_max_vports();
    const std::string text = text_of(it);
    CHECK(text.find("ivds_uplink_speed_bytes") == std::string::npos);
    CHECK(text.find("ivds_uplink_netdev") == std::string::npos);
    CHECK(text.find("ivds_tenant_vports_quota") == std::string::npos);
}

TEST_CASE("metrics are served on an address with a port, and on nothing else") {
    for (const char* right :
         {"127.0.0.1:9464", "0.0.0.0:1", "192.0.2.1:65535", "[::1]:9464", "[::]:1", "[2001:db8::7]:65535"}) {
        INFO(right);
        CHECK(check_address("--metrics", right));
    }
    for (const char* wrong : {"",
                              "9464",
                              ":9464",
                              "127.0.0.1",
                              "127.0.0.1:",
                              "127.0.0.1:0",
                              "127.0.0.1:65536",
                              "127.0.0.1:80,0.0.0.0:81",
                              "127.0.0.1:443s",
                              "localhost:9464",
                              "::1:9464",
                              "[::1]",
                              "[::1]:",
                              "[::1]:0",
                              "[::1]9464",
                              "[]:80",
                              "[:1",
                              "[fe80::1%lo]:80",
                              "]:80",
                              "[127.0.0.1]:80"}) {
        INFO(wrong);
        const auto checked = check_address("--metrics", wrong);
        REQUIRE_FALSE(checked);
        CHECK(checked.error().id == std::string("IVDS-A008"));
    }
}
