// SPDX-License-Identifier: Apache-2.0
// plane_test.cpp -- nic, map, vlan and tenant show; and that every call of the service has a command.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <set>

#include "agent/nic_view.h"
#include "api/codec.h"
#include "fake_agent.h"

namespace ivds::test {
namespace {

using Catch::Matchers::ContainsSubstring;

template <class Message>
Message read(const std::string& text) {
    Message out;
    const auto done = message_from_yaml(text, "t", out);
    INFO((done ? "" : done.error().text()));
    REQUIRE(done);
    return out;
}

pb::StatusReply fabric() {
    return read<pb::StatusReply>(R"(
instances:
- {name: red, tenant: acme, uplink: up0, vlan: 10, vvlan: 100, vports: 2, port_packets: 7, wire_packets: 5}
- {name: blue, tenant: acme, uplink: up0, vlan: 10, vvlan: 50, vports: 1, peer_vlans: [20]}
- {name: moon, uplink: up1, vlan: 7, vvlan: 3, port_packets: 9}
- {name: local}
tenants:
- {name: acme, declared: true, instances: 2, max_instances: 4, vports: 3, vports_up: 2, fdb: 600, max_fdb: 1000, drops: 5,
   bindings: 3, max_bindings: 8, fabric_bindings: 7, max_fabric_bindings: 20, rate_in_mbps: 300, rate_out_mbps: 150, max_rate_mbps: 1000}
- {name: other, instances: 1, unlimited_rates: 2}
)");
}

pb::ObjectList uplinks() {
    pb::ObjectList list;
    pb::Uplink& up0 = *list.add_objects()->mutable_uplink();
    up0.set_name("up0");
    pb::Uplink& up1 = *list.add_objects()->mutable_uplink();
    up1.set_name("up1");
    up1.set_transport_vlan(7);
    return list;
}

}  // namespace

TEST_CASE("vlan list says what a VLAN of the fabric carries, at home and of peers", "[R75]") {
    const pb::VlanList list = vlans_of(uplinks(), fabric(), "");
    REQUIRE(list.vlans_size() == 3);
    const pb::VlanState& ten = list.vlans(0);
    CHECK(ten.uplink() == "up0");
    CHECK(ten.vlan() == 10);
    CHECK(ten.vports() == 3);
    CHECK(ten.port_packets() == 7);
    CHECK(ten.wire_packets() == 5);
    REQUIRE(ten.networks_size() == 2);
    CHECK(ten.networks(0).instance() == "blue");
    CHECK_FALSE(ten.networks(0).peer());
    CHECK(ten.networks(1).vvlan() == 100);
    CHECK(list.vlans(1).vlan() == 20);
    CHECK(list.vlans(1).networks(0).peer());
    CHECK(list.vlans(2).transport());
    CHECK(vlans_of(uplinks(), fabric(), "up1").vlans_size() == 1);

    Shell shell;
    shell.agent.objects = uplinks();
    shell.agent.status_reply = fabric();
    CHECK(shell({"vlan", "list"}).out ==
          "UPLINK  VLAN  VVLAN  INSTANCE  TENANT  ROLE       VPORTS  PORT_PACKETS  WIRE_PACKETS\n"
          "up0       10     50  blue      acme    home            1             0             0\n"
          "up0       10    100  red       acme    home            2             7             5\n"
          "up0       20     50  blue      acme    peer            1             0             0\n"
          "up1        7      3  moon      -       transport       0             9             0\n");
    CHECK(shell({"vlan", "list", "--json"}).out == to_json(list) + "\n");
    CHECK(shell({"vlan", "list", "up9"}).code == cli::exit_not_found);
}

TEST_CASE("tenant show puts what is used against the quota", "[R87]") {
    Shell shell;
    shell.agent.status_reply = fabric();
    CHECK(shell({"tenant", "show"}).out ==
          "TENANT  QUOTA     INSTANCES  VPORTS  UP       FDB  LEARNED  BINDINGS  FABRIC    IN_MBPS   OUT_MBPS  "
          "PORT_PACKETS  WIRE_PACKETS  DROPS\n"
          "acme    declared        2/4       3   2  600/1000        0       3/8    7/20   300/1000   150/1000  "
          "           0             0      5\n"
          "other   none              1       0   0         0        0         0       0  unlimited  unlimited  "
          "           0             0      0\n");
    CHECK_THAT(shell({"tenant", "show", "acme", "--json"}).out,
               ContainsSubstring("\"max_fdb\":1000") && !ContainsSubstring("other"));
    CHECK(shell({"tenant", "show", "nobody"}).code == cli::exit_not_found);
}

TEST_CASE("nic show tells what is known, and what is not", "[R43]") {
    Shell shell;
    shell.agent.nics = read<pb::NicReply>(R"(
nics:
- port: {kind: uplink, name: up0, netdev: eth1, wanted: native, got: native+tcx, reason: asked for, last_error: carrier lost, last_error_time: "2026-01-01T00:00:00Z"}
  netdev: {name: eth1, ifindex: 4, driver: ice, bus_info: "0000:01:00.0", mac: "02:00:00:00:00:01", link: up, speed_mbps: 25000, mtu_bytes: 9000, rx_queues: 8, tx_queues: 8, vfs_total: 64, vfs_enabled: 2, native_xdp: yes, redirect_target: yes, vlan_strip: no, counters: {rx_errors: 3, rx_missed: 2, rx_crc: 1}}
  instances: [{name: red, vlan: 10, vvlan: 100, state: active, vports: 2}]
  ports: {used: 3, limit: 10}
  interrupts: 9
  vfs:
  - {index: 0, address: "0000:01:10.0", driver: vfio-pci, role: vm, vport: web1, iommu_group: "14"}
  - {index: 1, address: "0000:01:10.2", driver: iavf, netdev: eth9, role: vport, vport: db1, rx_queues: 4, tx_queues: 2, interrupts: 5}
  - {index: 2, address: "0000:01:10.4", driver: iavf, netdev: eth10, role: uplink, uplink: red-up}
- port: {kind: uplink, name: up1, netdev: eth2}
  netdev: {name: eth2}
)");
    const Outcome done = shell({"nic", "show"});
    REQUIRE(done.code == 0);
    for (const char* line :
         {"uplink up0\n", "  driver            ice\n", "  bus               0000:01:00.0\n",
          "  speed             25000 Mbit/s\n", "  queues            rx 8, tx 8\n",
          "  VFs               2 of 64 enabled\n", "  native XDP        yes\n", "  VLAN strip        no\n",
          "  errors            rx 3 (missed 2, CRC 1), tx 0\n",
          "  hooks             wanted native, got native+tcx: asked for\n",
          "  last error        carrier lost at 2026-01-01T00:00:00Z\n", "  ports             3 used, 7 free\n",
          "  interrupts        9\n", "\n  0   0000:01:10.0  vm      web1     vfio-pci",
          "\n  1   0000:01:10.2  vport   db1      iavf      eth9",
          "\n  2   0000:01:10.4  uplink  red-up   iavf      eth10", "\n  red         10    100  active"})
        CHECK_THAT(done.out, ContainsSubstring(line));
    const std::string second = done.out.substr(done.out.find("uplink up1"));
    for (const char* line :
         {"  driver            unknown\n", "  speed             unknown\n", "  link              unknown\n",
          "  VFs               unknown\n", "  native XDP        unknown\n"})
        CHECK_THAT(second, ContainsSubstring(line));
    CHECK(shell({"nic", "show", "up0", "--json"}).out == to_json(shell.agent.nics) + "\n");
    CHECK(shell.agent.nic_request.name() == "up0");
}

TEST_CASE("map show prints the placement with its reason, and four stages", "[R1][R14]") {
    Shell shell;
    shell.agent.map = read<pb::MapReply>(R"(
vports:
- vport: web1
  id: 3
  instance: red
  vnic: web1-nic
  vmac: "02:00:00:00:00:01"
  netdev: {name: veth0, ifindex: 9, driver: veth}
  stages:
  - {number: 1, name: VLAN filter, plane: physical, executor: ivds_tc at tcx of eth1, entry: "vvlans {1, 10, 0}: carries V.VLANs"}
  - {number: 2, name: V.VLAN look-up, plane: virtual, executor: ivds_tc at tcx of eth1}
)");
    const Outcome done = shell({"map", "show", "web1"});
    REQUIRE(done.code == 0);
    CHECK(shell.agent.map_request.vport() == "web1");
    for (const char* line :
         {"vport web1\n", "  placement         sw: no VF\n", "  vNIC              web1-nic 02:00:00:00:00:01\n",
          "  vPort id          3\n", "  netdev            veth0 (ifindex 9)\n", "vvlans {1, 10, 0}: carries V.VLANs"})
        CHECK_THAT(done.out, ContainsSubstring(line));
    CHECK_THAT(done.out, ContainsSubstring("\n  2      V.VLAN look-up  virtual   -  "));
    CHECK(shell({"map", "show", "--json"}).out == to_json(shell.agent.map) + "\n");
}

TEST_CASE("every call of the service has a command that makes it", "[R147]") {
    Shell shell;
    shell.agent.object.mutable_vport()->set_name("web1");
    shell.agent.nics.add_nics();
    const std::vector<std::vector<std::string>> lines = {
        {"apply", "-f", "-"},
        {"export"},
        {"vport", "create", "web1"},
        {"vport", "update", "web1", "--mtu-bytes", "1400"},
        {"vport", "delete", "web1"},
        {"vport", "get", "web1"},
        {"vport", "list"},
        {"vmac", "reserve", "pool0"},
        {"vmac", "release", "pool0", "02:00:00:00:00:07"},
        {"status"},
        {"stats"},
        {"fdb", "show"},
        {"binding", "show"},
        {"fdb", "flush", "--port", "web1"},
        {"neighbour", "show"},
        {"flow", "list"},
        {"flow", "flush", "--vport", "web1"},
        {"events"},
        {"host", "list"},
        {"host", "show"},
        {"doctor"},
        {"nic", "show"},
        {"map", "show"},
        {"rule", "list"},
        {"mirror", "state"},
        {"exporter", "state"},
        {"inspector", "state"},
        {"offload", "show"},
        {"migrate", "abort", "web1"},
        {"verify"},
        {"capture", "web1"},
        {"trace", "web1", "--hex", "020000000002020000000001080045"},
    };
    for (const auto& line : lines) {
        const Outcome done = shell(line);
        INFO(line[0] << ": " << done.err);
        CHECK(done.code == 0);
    }
    const std::set<std::string> called(shell.agent.calls.begin(), shell.agent.calls.end());
    const auto& service = *pb::NicReply::descriptor()->file()->FindServiceByName("Switch");
    for (int i = 0; i < service.method_count(); ++i) {
        INFO(service.method(i)->name());
        CHECK(called.contains(service.method(i)->name()));
    }
}

}  // namespace ivds::test
