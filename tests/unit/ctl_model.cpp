// SPDX-License-Identifier: Apache-2.0
// The model: what is refused and in which words, what the agent assigns and keeps, what a change is called.
#include <fmt/format.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <set>

#include "api/codec.h"
#include "model/model.h"
#include "model/vmac_pool.h"

using namespace ivds;
using Catch::Matchers::ContainsSubstring;

namespace {

Result<Mac> mac_of(const std::string& netdev) {
    if (netdev == "away") return fail(Code::unavailable, "IVDS-A004", "no such interface");
    return Mac{0x90, 0xe2, 0xba, 0, 0, static_cast<std::uint8_t>(netdev.size())};
}

pb::Config config(const std::string& text) {
    auto read = config_from_yaml(text, "t");
    INFO((read ? "" : read.error().text()));
    REQUIRE(read);
    return *read;
}

Result<Model> follow(const Model& now, const std::string& text) {
    return next_from_config(now, config(text), mac_of);
}

Model good(const std::string& text, const Model& now = {}) {
    auto model = follow(now, text);
    INFO((model ? "" : model.error().text()));
    REQUIRE(model);
    return *model;
}

Error bad(const std::string& text, const Model& now = {}) {
    auto model = follow(now, text);
    CAPTURE(text);
    REQUIRE(!model);
    return model.error();
}

const std::string kUplink = "uplinks: [{name: up, netdev: ens1f0, transport_vlan: 7}, {name: up2, netdev: ens1f1}]\n";

std::string instances(const std::string& list) {
    return kUplink + "instances: [" + list + "]\n";
}

// A PF, and two of its VFs as uplinks: VF 1, and one with these fields.
std::string vf_uplinks(const std::string& fields) {
    return "uplinks:\n- {name: up, netdev: ens1f0, outer_tpid: '0x88a8', offload: on}\n- {name: up2, netdev: "
           "ens1f1}\n"
           "- {name: blue-up, netdev: v1, outer_tpid: '0x88a8', vf: {pf: up, index: 1}}\n"
           "- {name: red-up, netdev: v0, outer_tpid: '0x88a8', " +
           fields + "}\n";
}

std::vector<std::string> words(const std::vector<pb::Change>& changes) {
    std::vector<std::string> out;
    for (const pb::Change& change : changes) {
        std::string line = change.verb() + " " + to_text(change.kind()) + " " + change.name();
        for (const std::string& field : change.fields()) line += " | " + field;
        out.push_back(line);
    }
    return out;
}

}  // namespace

TEST_CASE("model refuses what is wrong, names the object and the rule") {
    struct Wrong {
        std::string text;
        Code code;
        const char* id;
        const char* words;
    };
    const auto wrong = GENERATE(
        // names
        Wrong{"uplinks: [{netdev: e}]", Code::invalid, "IVDS-M001", "uplink has no name"},
        Wrong{"uplinks: [{name: Up, netdev: e}]", Code::invalid, "IVDS-M001", "\"Up\": not a name"},
        Wrong{"uplinks: [{name: -up, netdev: e}]", Code::invalid, "IVDS-M001", "not a name"},
        Wrong{"uplinks: [{name: a/b, netdev: e}]", Code::invalid, "IVDS-M001", "not a name"},
        Wrong{"uplinks: [{name: " + std::string(64, 'a') + ", netdev: e}]", Code::invalid, "IVDS-M001", "not a name"},
        // uplinks
        Wrong{"uplinks: [{name: u}]", Code::invalid, "IVDS-M002", "netdev is missing"},
        Wrong{"uplinks: [{name: u, netdev: a-name-too-long-}]", Code::invalid, "IVDS-M004",
              "no name of an interface"},
        Wrong{"uplinks: [{name: u, netdev: a/b}]", Code::invalid, "IVDS-M004", "no name of an interface"},
        Wrong{"uplinks: [{name: u, netdev: lo}]", Code::invalid, "IVDS-M004", "the host's own loopback"},
        Wrong{"vports: [{name: p, netdev: lo}]", Code::invalid, "IVDS-M004", "the host's own loopback"},
        Wrong{"uplinks: [{name: u, netdev: e, outer_tpid: 33024}]", Code::invalid, "IVDS-M021",
              "outer_tpid \"33024\""},
        Wrong{"uplinks: [{name: u, netdev: e, transport_vlan: 4095}]", Code::invalid, "IVDS-M003",
              "transport_vlan = 4095"},
        Wrong{"uplinks: [{name: u, netdev: e, fdb_limit: 2000000}]", Code::invalid, "IVDS-M003", "fdb_limit"},
        Wrong{"uplinks: [{name: u, netdev: e}, {name: v, netdev: e}]", Code::conflict, "IVDS-M015",
              "netdev e is used by uplink u"},
        // instances
        Wrong{instances("{name: a, uplink: no, vlan: 1}"), Code::not_found, "IVDS-M006",
              "instance a names uplink no"},
        Wrong{instances("{name: a, scope: distributed}"), Code::invalid, "IVDS-M010", "needs an uplink"},
        Wrong{instances("{name: a, mode: independent}"), Code::invalid, "IVDS-M010", "needs an uplink"},
        Wrong{instances("{name: a, uplink: up2, mode: independent}"), Code::conflict, "IVDS-M011", "transport VLAN"},
        Wrong{instances("{name: a, uplink: up, mode: independent, vlan: 5}"), Code::invalid, "IVDS-M003",
              "vlan is for mode piggyback"},
        Wrong{instances("{name: a, uplink: up}"), Code::invalid, "IVDS-M002", "vlan is missing"},
        Wrong{instances("{name: a, uplink: up, vlan: 4095}"), Code::invalid, "IVDS-M003",
              "vlan = 4095 is out of range (1 to 4094)"},
        Wrong{instances("{name: a, uplink: up, vlan: 1, vvlan: 4095}"), Code::invalid, "IVDS-M003", "vvlan = 4095"},
        Wrong{instances("{name: a, uplink: up, vlan: 7}"), Code::conflict, "IVDS-M011",
              "is the transport VLAN of uplink up"},
        Wrong{instances("{name: a, uplink: up, vlan: 1, vvlan: 2}, {name: b, uplink: up, vlan: 1, vvlan: 2}"),
              Code::exists, "IVDS-M008", "instance b: V.VLAN 2 of VLAN 1 on uplink up is taken by instance a"},
        Wrong{instances("{name: a, uplink: up, mode: independent, vvlan: 2}, {name: b, uplink: up, mode: "
                        "independent, vvlan: 2}"),
              Code::exists, "IVDS-M008", "is taken by instance a"},
        Wrong{instances("{name: a, mtu_bytes: 67}"), Code::invalid, "IVDS-M003",
              "mtu_bytes = 67 is out of range (68 to 65535)"},
        Wrong{instances("{name: a, mtu_bytes: 65536}"), Code::invalid, "IVDS-M003", "mtu_bytes"},
        Wrong{instances("{name: a, tenant: \"a b\"}"), Code::invalid, "IVDS-M001", "tenant"},
        Wrong{instances("{name: a, plain_access: true}"), Code::invalid, "IVDS-M030", "needs scope distributed"},
        Wrong{instances("{name: a, scope: distributed, uplink: up, vlan: 1, peer_vlans: [2], plain_access: true}"),
              Code::invalid, "IVDS-M030", "exclude each other"},
        Wrong{instances("{name: a, scope: distributed, uplink: up, vlan: 1, plain_access: true}, {name: b, scope: "
                        "distributed, uplink: up, vlan: 1, plain_access: true}"),
              Code::conflict, "IVDS-M030", "has the plain hosts of VLAN 1"},
        Wrong{"uplinks: [{name: up, netdev: e0, outer_tpid: 0x9100}]\ninstances: [{name: a, scope: distributed, "
              "uplink: "
              "up, vlan: 1, plain_access: true}]",
              Code::conflict, "IVDS-M030", "0x9100"},
        Wrong{instances("{name: a, unregistered: dropped}"), Code::invalid, "IVDS-M088", "its scope is local"},
        Wrong{instances("{name: a, max_peers: 2}"), Code::invalid, "IVDS-M088", "its scope is local"},
        Wrong{instances("{name: a, scope: distributed, uplink: up, vlan: 1, max_peers: 65536}"), Code::invalid,
              "IVDS-M003", "max_peers = 65536 is out of range (1 to 65535)"},
        Wrong{instances("{name: a, scope: distributed, uplink: up, vlan: 1, unregistered: dropped, plain_access: "
                        "true}"),
              Code::invalid, "IVDS-M088", "exclude each other: plain hosts"},
        Wrong{"uplinks: [{name: up, netdev: e0, offload: on}]\ninstances: [{name: a, scope: distributed, uplink: up, "
              "vlan: 1, unregistered: dropped}]",
              Code::conflict, "IVDS-M088", "a NIC looks at no source"},
        Wrong{"vports: [{name: p, netdev: d, addresses: [10.0.0.1]}]", Code::invalid, "IVDS-M089", "no vNIC"},
        Wrong{"vports: [{name: p, netdev: d, addresses: [10.0.0.0/8]}]", Code::invalid, "IVDS-M089",
              "addresses \"10.0.0.0/8\" is no address"},
        Wrong{"vports: [{name: p, netdev: d, addresses: [224.0.0.1]}]", Code::invalid, "IVDS-M089", "224.0.0.1"},
        Wrong{"vports: [{name: p, netdev: d, addresses: [0.0.0.0]}]", Code::invalid, "IVDS-M089", "0.0.0.0"},
        Wrong{"vports: [{name: p, netdev: d, addresses: [\"ff02::1\"]}]", Code::invalid, "IVDS-M089", "ff02::1"},
        Wrong{"vports: [{name: p, netdev: d, addresses: [\"::ffff:10.0.0.1\"]}]", Code::invalid, "IVDS-M089",
              "::ffff:10.0.0.1"},
        Wrong{"vports: [{name: p, netdev: d, addresses: [\"fd00::1\", \"fd00:0::1\"]}]", Code::invalid, "IVDS-M089",
              "given twice"},
        Wrong{"vports: [{name: p, patch: q, addresses: [10.0.0.1]}]", Code::invalid, "IVDS-M056", "a patch has no"},
        Wrong{"instances: [{name: a}]\nvnics: [{name: n, vmac: \"02:00:00:00:00:01\"}, {name: m, vmac: "
              "\"02:00:00:00:00:02\"}]\nvports: [{name: p, instance: a, netdev: d, vnic: n, addresses: [10.0.0.1]}, "
              "{name: q, instance: a, netdev: e, vnic: m, addresses: [10.0.0.1]}]",
              Code::conflict, "IVDS-M089", "by vport p"},
        Wrong{"vports: [{name: p, netdev: d, rx_filters: [{protocol: tcp}]}]", Code::invalid, "IVDS-M095",
              "has none"},
        Wrong{"vports: [{name: p, vf: {pf: up}, rx_filters: [{queue: 1}]}]", Code::invalid, "IVDS-M095",
              "nothing to match"},
        Wrong{"vports: [{name: p, vf: {pf: up}, rx_filters: [{src: 10.0.0.0/8}]}]", Code::invalid, "IVDS-M095",
              "10.0.0.0/8"},
        Wrong{"vports: [{name: p, vf: {pf: up}, rx_filters: [{dst: \"fd00::1\"}]}]", Code::invalid, "IVDS-M095",
              "fd00::1"},
        Wrong{"vports: [{name: p, vf: {pf: up}, rx_filters: [{protocol: icmp}]}]", Code::invalid, "IVDS-M095",
              "icmp"},
        Wrong{"vports: [{name: p, vf: {pf: up}, rx_filters: [{src_port: 80}]}]", Code::invalid, "IVDS-M095",
              "without a protocol"},
        Wrong{"vports: [{name: p, vf: {pf: up}, rx_filters: [{protocol: tcp, dst_port: 65536}]}]", Code::invalid,
              "IVDS-M095", "65536"},
        Wrong{"vports: [{name: p, vf: {pf: up}, rx_filters: [{protocol: tcp, queue: 8}]}]", Code::invalid,
              "IVDS-M095", "queue 8"},
        Wrong{"vports: [{name: p, vf: {pf: up}, rx_filters: [{protocol: tcp}, {src: 10.0.0.1}]}]", Code::invalid,
              "IVDS-M095", "rx_filter 1 (tcp) and 2 (ip from 10.0.0.1)"},
        Wrong{instances("{name: a, peer_rates: [{rate_in_mbps: 1}]}"), Code::invalid, "IVDS-M094", "scope is local"},
        Wrong{instances("{name: a, scope: distributed, uplink: up, vlan: 1, peer_rates: [{burst_in_kib: 8}]}"),
              Code::invalid, "IVDS-M003", "burst_in_kib without rate_in_mbps"},
        Wrong{instances("{name: a, scope: distributed, uplink: up, vlan: 1, peer_rates: [{}]}"), Code::invalid,
              "IVDS-M094", "say nothing"},
        Wrong{instances("{name: a, scope: distributed, uplink: up, vlan: 1, peer_rates: [{vlan: 1}, {vlan: 1}]}"),
              Code::invalid, "IVDS-M094", "VLAN 1 twice"},
        Wrong{instances("{name: a, scope: distributed, uplink: up, vlan: 1, peer_rates: [{vlan: 2}]}"),
              Code::conflict, "IVDS-M094", "VLAN 2, where it has no peers"},
        Wrong{instances("{name: a, peer_vlans: [2]}"), Code::invalid, "IVDS-M012", "need scope distributed"},
        Wrong{instances("{name: a, scope: distributed, uplink: up, vlan: 1, peer_vlans: [1]}"), Code::conflict,
              "IVDS-M012", "is the instance's own"},
        Wrong{instances("{name: a, scope: distributed, uplink: up, vlan: 1, peer_vlans: [2, 2]}"), Code::invalid,
              "IVDS-M012", "given twice"},
        Wrong{instances("{name: a, scope: distributed, uplink: up, vlan: 1, peer_vlans: [0]}"), Code::invalid,
              "IVDS-M003", "peer_vlans = 0"},
        Wrong{instances("{name: a, scope: distributed, uplink: up, vlan: 1, peer_vlans: [2,3,4,5,6,8,9,10,11]}"),
              Code::invalid, "IVDS-M012", "9 peer VLANs are too many"},
        Wrong{instances("{name: a, scope: distributed, uplink: up, vlan: 1, vvlan: 5, peer_vlans: [2]}, {name: b, "
                        "uplink: up, vlan: 2, vvlan: 5}"),
              Code::conflict, "IVDS-M012", "clash with instance b"},
        Wrong{instances("{name: a, scope: distributed, uplink: up, vlan: 1, vvlan: 5, peer_vlans: [3]}, "
                        "{name: b, scope: distributed, uplink: up, vlan: 2, vvlan: 5, peer_vlans: [3]}"),
              Code::conflict, "IVDS-M012", "clash with instance a"},
        // static MACs
        Wrong{instances("{name: a, fdb: [{mac: 02:00:00:00:00:01}]}"), Code::invalid, "IVDS-M018",
              "either a vport or a vlan"},
        Wrong{instances("{name: a, fdb: [{mac: 02:00:00:00:00:01, vlan: 3}]}"), Code::invalid, "IVDS-M018",
              "the instance is local"},
        Wrong{instances("{name: a, fdb: [{mac: 02:00:00:00:00:01, vport: p}]}"), Code::not_found, "IVDS-M006",
              "name vport p"},
        Wrong{instances("{name: a, fdb: [{mac: 03:00:00:00:00:01, vport: p}]}"), Code::invalid, "IVDS-M004",
              "is a multicast address"},
        Wrong{instances("{name: a, fdb: [{mac: xx, vport: p}]}"), Code::invalid, "IVDS-M004",
              "\"xx\" is no MAC address"},
        Wrong{
            instances("{name: a, scope: distributed, uplink: up, vlan: 1, fdb: [{mac: 02:00:00:00:00:01, vlan: 3}]}"),
            Code::conflict, "IVDS-M018", "name VLAN 3, where it has no peers"},
        Wrong{instances("{name: a, scope: distributed, uplink: up, vlan: 1, fdb: [{mac: 02:00:00:00:00:01, vlan: 1}, "
                        "{mac: 02:00:00:00:00:01, vlan: 1}]}"),
              Code::conflict, "IVDS-M013", "02:00:00:00:00:01 is static twice"},
        Wrong{instances("{name: a, fdb: [{mac: 02:00:00:00:00:01, vport: p}]}, {name: b}") +
                  "vports: [{name: p, netdev: v, instance: b}]",
              Code::conflict, "IVDS-M018", "name vport p of instance b"},
        // vNICs, pools, profiles
        Wrong{"vnics: [{name: n}]", Code::invalid, "IVDS-M002", "neither vmac nor pool"},
        Wrong{"vnics: [{name: n, vmac: 01:00:5e:00:00:01}]", Code::invalid, "IVDS-M004", "is a multicast address"},
        Wrong{"vnics: [{name: n, vmac: 00:00:00:00:00:00}]", Code::invalid, "IVDS-M004", "is zero"},
        Wrong{"vnics: [{name: n, pool: no}]", Code::not_found, "IVDS-M006", "vnic n names vmac_pool no"},
        Wrong{"vmac_pools: [{name: p}]", Code::invalid, "IVDS-M002", "neither physical_mac nor uplink"},
        Wrong{"vmac_pools: [{name: p, uplink: no}]", Code::not_found, "IVDS-M006", "vmac_pool p names uplink no"},
        Wrong{"vmac_pools: [{name: p, uplink: u}]\nuplinks: [{name: u, netdev: away}]", Code::unavailable,
              "IVDS-A004", "vmac_pool p: "},
        Wrong{"vmac_pools: [{name: p, physical_mac: 00:11:22:33:44:55, size: 65537}]", Code::invalid, "IVDS-M003",
              "size = 65537"},
        Wrong{"profiles: [{name: p, fdb_limit: 3}]", Code::invalid, "IVDS-M003", "has no effect"},
        // vPorts
        Wrong{"vports: [{name: p}]", Code::invalid, "IVDS-M002", "netdev is missing"},
        Wrong{"vports: [{name: p, netdev: v, instance: no}]", Code::not_found, "IVDS-M006",
              "vport p names instance no"},
        Wrong{"vports: [{name: p, netdev: v, vnic: no}]", Code::not_found, "IVDS-M006", "vport p names vnic no"},
        Wrong{"sets: [{name: s, vports: ['']}]", Code::invalid, "IVDS-M002",
              "set s: its list of vports has an empty name"},
        Wrong{"vport_pools: [{name: f, vports: ['']}]", Code::invalid, "IVDS-M002",
              "vport_pool f: its list of vports has an empty name"},
        Wrong{"exporters: [{name: e, collector: '192.0.2.9:4739', instances: ['']}]", Code::invalid, "IVDS-M002",
              "exporter e: its list of instances has an empty name"},
        Wrong{"vports: [{name: p, netdev: v, profile: no}]", Code::not_found, "IVDS-M006",
              "vport p names profile no"},
        Wrong{"vports: [{name: p, netdev: v}, {name: q, netdev: v}]", Code::conflict, "IVDS-M015",
              "vport q: netdev v is used by vport p"},
        Wrong{kUplink + "vports: [{name: p, netdev: ens1f0}]", Code::conflict, "IVDS-M015", "is used by uplink up"},
        Wrong{kUplink + "vports: [{name: up, netdev: v}]", Code::conflict, "IVDS-M019", "have one name"},
        Wrong{"vnics: [{name: n, vmac: 02:00:00:00:00:01}]\nvports: [{name: p, netdev: v, vnic: n}, {name: q, "
              "netdev: w, vnic: n}]",
              Code::exists, "IVDS-M014", "vport q: vnic n is bound to vport p"},
        Wrong{instances("{name: a}") +
                  "vnics: [{name: n, vmac: 02:00:00:00:00:01}, {name: m, vmac: 02:00:00:00:00:01}]\n"
                  "vports: [{name: p, netdev: v, vnic: n, instance: a}, {name: q, netdev: w, vnic: m, instance: a}]",
              Code::conflict, "IVDS-M013", "vport q: MAC 02:00:00:00:00:01 is in instance a already, by vport p"},
        Wrong{instances("{name: a}") +
                  "vports: [{name: p, netdev: v, extra_macs: [02:00:00:00:00:01, 02:00:00:00:00:01], instance: a}]",
              Code::conflict, "IVDS-M013", "is in instance a already"},
        Wrong{instances("{name: a, fdb: [{mac: 02:00:00:00:00:01, vport: p}]}") +
                  "vports: [{name: p, netdev: v, extra_macs: [02:00:00:00:00:01], instance: a}]",
              Code::conflict, "IVDS-M013", "in the static MACs"},
        Wrong{"vports: [{name: p, netdev: v, extra_macs: [ff:ff:ff:ff:ff:ff]}]", Code::invalid, "IVDS-M004",
              "extra_macs"},
        Wrong{"vports: [{name: p, netdev: v, mtu_bytes: 1}]", Code::invalid, "IVDS-M003", "mtu_bytes = 1"},
        // uplinks that are VFs
        Wrong{vf_uplinks("vf: {pf: up, index: 256}"), Code::invalid, "IVDS-M003", "index of the VF = 256"},
        Wrong{vf_uplinks("vf: {pf: red-up}"), Code::invalid, "IVDS-M002", "or itself"},
        Wrong{vf_uplinks("vf: {pf: away}"), Code::not_found, "IVDS-M006", "uplink away"},
        Wrong{vf_uplinks("vf: {pf: up2}"), Code::conflict, "IVDS-M086", "uplink up2 has no offload"},
        Wrong{vf_uplinks("vf: {pf: blue-up}"), Code::conflict, "IVDS-M086", "blue-up is a VF itself"},
        Wrong{vf_uplinks("vf: {pf: up, index: 1}"), Code::conflict, "IVDS-M084",
              "VF 1 of uplink up is uplink blue-up"},
        Wrong{vf_uplinks("vf: {pf: up}, offload: on"), Code::invalid, "IVDS-M086", "no NIC of its own"},
        Wrong{vf_uplinks("vf: {pf: up}, tags: single"), Code::conflict, "IVDS-M086", "has one tag"},
        Wrong{vf_uplinks("vf: {pf: up}, inner_tpid: '0x88a8'"), Code::invalid, "IVDS-M086", "TPID 0x8100 alone"},
        Wrong{"uplinks: [{name: up, netdev: e, offload: on}, {name: v, netdev: f, vf: {pf: up}}]", Code::invalid,
              "IVDS-M086", "insert tags of TPID 0x8100"},
        Wrong{"uplinks: [{name: up, netdev: e, offload: on, outer_tpid: '0x9100'},\n"
              "          {name: v, netdev: f, outer_tpid: '0x88a8', vf: {pf: up}}]",
              Code::conflict, "IVDS-M086", "other TPIDs"},
        Wrong{vf_uplinks("vf: {pf: up}") +
                  "instances: [{name: a, uplink: red-up, vlan: 5, vvlan: 6, scope: distributed},\n"
                  "            {name: b, uplink: up, vlan: 5, vvlan: 6, scope: distributed}]",
              Code::exists, "IVDS-M008", "is taken by instance"},
        Wrong{vf_uplinks("vf: {pf: up}") +
                  "instances: [{name: a, uplink: red-up, vlan: 5, scope: distributed, plain_access: true}]",
              Code::conflict, "IVDS-M086", "sorts frames by their V.VLAN"},
        Wrong{vf_uplinks("vf: {pf: up}") + "instances: [{name: a, uplink: up, vlan: 5}]\n"
                                           "vports: [{name: p, instance: a, vf: {pf: up, index: 0}}]",
              Code::conflict, "IVDS-M084", "is uplink red-up"});
    const Error error = bad(wrong.text);
    CAPTURE(wrong.text, error.text());
    CHECK(error.code == wrong.code);
    CHECK(error.id == wrong.id);
    CHECK_THAT(error.what, ContainsSubstring(wrong.words));
}

TEST_CASE("model takes what is right, at the edges", "[R71][R72][R74]") {
    good(
        instances("{name: a, uplink: up, vlan: 1, vvlan: 1}, {name: b, uplink: up, vlan: 4094, vvlan: 4094}, "
                  "{name: c, uplink: up, vlan: 1, vvlan: 4094}, {name: d, uplink: up, vlan: 4094, vvlan: 1}"));
    // The same pair on another uplink, and one V.VLAN on two VLANs, are networks of their own.
    good(
        instances("{name: a, uplink: up, vlan: 1, vvlan: 1}, {name: b, uplink: up2, vlan: 1, vvlan: 1}, "
                  "{name: c, uplink: up, vlan: 2, vvlan: 1}"));
    // The same vMAC in two instances is two VMs.
    good(instances("{name: a}, {name: b}") +
         "vnics: [{name: n, vmac: 02:00:00:00:00:01}, {name: m, vmac: 02:00:00:00:00:01}]\n"
         "vports: [{name: p, netdev: v, vnic: n, instance: a}, {name: q, netdev: w, vnic: m, instance: b}]");
    good("vports: [{name: p, netdev: v}]");
    good(instances("{name: a, scope: distributed, uplink: up, mode: independent, peer_vlans: [2,3,4,5,6,8,9,10]}"));
}

TEST_CASE("two objects of a kind by one name are refused") {
    pb::Config twice;
    twice.add_vnics()->set_name("n");
    twice.add_vnics()->set_name("n");
    const auto model = next_from_config({}, twice, mac_of);
    REQUIRE(!model);
    CHECK(model.error().id == "IVDS-M005");
}

TEST_CASE("a new instance is local and has no uplink", "[R45]") {
    const Model model = good("instances: [{name: a}]");
    CHECK(model.instances.at("a")->scope() == pb::LOCAL);
    CHECK(model.instances.at("a")->vvlan() == 0);
}

TEST_CASE("a V.VLAN that is left out is assigned, unique under its VLAN, and kept", "[R71]") {
    const std::string text = instances(
        "{name: a, uplink: up, vlan: 1}, {name: b, uplink: up, vlan: 1, vvlan: 1}, {name: c, uplink: up, vlan: 1}, "
        "{name: d, uplink: up, vlan: 2}, {name: e, uplink: up, mode: independent}, {name: f, uplink: up, mode: "
        "independent}");
    const Model model = good(text);
    const auto vvlan = [&](const char* name) { return model.instances.at(name)->vvlan(); };
    CHECK(vvlan("a") == 2);
    CHECK(vvlan("b") == 1);
    CHECK(vvlan("c") == 3);
    CHECK(vvlan("d") == 1);
    CHECK(vvlan("e") == 1);
    CHECK(vvlan("f") == 2);

    const Model again = good(text, model);
    CHECK(diff(model, again).empty());
    CHECK(again.instances.at("a") == model.instances.at("a"));

    // Without b, whose V.VLAN is free then, the others keep theirs.
    const Model fewer = good(
        instances("{name: a, uplink: up, vlan: 1}, {name: c, uplink: up, vlan: 1}, {name: g, uplink: up, vlan: 1}"),
        model);
    CHECK(fewer.instances.at("a")->vvlan() == 2);
    CHECK(fewer.instances.at("c")->vvlan() == 3);
    CHECK(fewer.instances.at("g")->vvlan() == 1);
}

TEST_CASE("an uplink that is a VF has the V.VLANs of its PF's wire, and goes before that", "[R71]") {
    const Model model = good(vf_uplinks("vf: {pf: up}") +
                             "instances: [{name: a, uplink: red-up, vlan: 5, scope: distributed},\n"
                             "            {name: b, uplink: up, vlan: 5, scope: distributed},\n"
                             "            {name: c, uplink: blue-up, vlan: 5, scope: distributed}]");
    std::set<std::uint32_t> vvlans;
    for (const auto& [name, instance] : model.instances) vvlans.insert(instance->vvlan());
    CHECK(vvlans == std::set<std::uint32_t>{1, 2, 3});
    pb::Ref ref;
    ref.set_kind(pb::UPLINK);
    ref.set_name("up");
    const auto refused = next_without(model, ref);
    REQUIRE(!refused);
    CHECK_THAT(refused.error().what, ContainsSubstring("uplink red-up"));
}

TEST_CASE("when all 4094 V.VLANs of a VLAN are taken, the next instance is refused", "[R71]") {
    pb::Config all = config(kUplink);
    for (int i = 0; i < 4095; ++i) {
        pb::Instance& instance = *all.add_instances();
        instance.set_name(fmt::format("i{:04}", i));
        instance.set_uplink("up");
        instance.set_vlan(i < 4094 ? 1 : 2);
    }
    const auto full = next_from_config({}, all, mac_of);
    REQUIRE(full);
    std::set<std::uint32_t> vvlans;
    for (const auto& [name, instance] : full->instances)
        if (instance->vlan() == 1) vvlans.insert(instance->vvlan());
    CHECK(vvlans.size() == 4094);
    CHECK(*vvlans.begin() == 1);
    CHECK(*vvlans.rbegin() == 4094);

    all.mutable_instances(4094)->set_vlan(1);
    const auto over = next_from_config({}, all, mac_of);
    REQUIRE(!over);
    CHECK(over.error().code == Code::exhausted);
    CHECK(over.error().id == "IVDS-M009");
}

TEST_CASE("a pool is derived from its uplink's MAC once, and gives vNICs what is free", "[R59][R60][R61]") {
    const std::string text =
        kUplink + "vmac_pools: [{name: p, uplink: up, size: 2}]\nvnics: [{name: a, pool: p}, {name: b, pool: p}]\n";
    const Model model = good(text);
    CHECK(model.vmac_pools.at("p")->physical_mac() == "90:e2:ba:00:00:06");
    const std::string a = model.vnics.at("a")->vmac();
    const std::string b = model.vnics.at("b")->vmac();
    CHECK(a != b);
    CHECK(is_local(parse_mac(a).value()));
    CHECK(is_unicast(parse_mac(a).value()));

    const Model again = good(text, model);
    CHECK(diff(model, again).empty());

    const Error error = bad(kUplink +
                                "vmac_pools: [{name: p, uplink: up, size: 2}]\nvnics: [{name: a, pool: p}, {name: b, "
                                "pool: p}, {name: c, pool: p}]\n",
                            model);
    CHECK(error.code == Code::exhausted);
    CHECK(error.id == "IVDS-M017");
    CHECK_THAT(error.what, ContainsSubstring("vnic c: vmac_pool p: all 2 vMACs are taken"));

    // Without b, there is one for c: b's.
    const Model other = good(
        kUplink + "vmac_pools: [{name: p, uplink: up, size: 2}]\nvnics: [{name: a, pool: p}, {name: c, pool: p}]\n",
        model);
    CHECK(other.vnics.at("a")->vmac() == a);
    CHECK(other.vnics.at("c")->vmac() == b);
}

TEST_CASE("a pool gives no vMAC that this host knows already", "[R60]") {
    const std::string pool = "vmac_pools: [{name: p, physical_mac: 90:e2:ba:00:00:01, size: 4}]\n";
    const VmacSequence sequence({0x90, 0xe2, 0xba, 0, 0, 1}, "p");
    const auto at = [&](std::uint64_t n) { return format_mac(sequence.at(n)); };
    const Model model = good(pool + "instances: [{name: i, fdb: [{mac: \"" + at(0) +
                             "\", vport: q}]}]\nvports: [{name: q, netdev: v, instance: i, extra_macs: [\"" + at(1) +
                             "\"]}]\nvnics: [{name: a, vmac: \"" + at(2) + "\"}, {name: b, pool: p}]\n");
    CHECK(model.vnics.at("b")->vmac() == at(3));
}

TEST_CASE("a pool gives no vMAC that another host is known to have, to no vNIC and no reservation", "[R60]") {
    const std::string text = "vmac_pools: [{name: p, physical_mac: 90:e2:ba:00:00:01, size: 4}]\n";
    const VmacSequence sequence({0x90, 0xe2, 0xba, 0, 0, 1}, "p");
    const auto is_bound = [&](const Mac& mac) { return mac == sequence.at(0) || mac == sequence.at(2); };
    const auto config = config_from_yaml(text + "vnics: [{name: a, pool: p}]\n", "t");
    REQUIRE(config);
    const auto model = next_from_config({}, *config, mac_of, is_bound);
    REQUIRE(model);
    CHECK(model->vnics.at("a")->vmac() == format_mac(sequence.at(1)));
    std::string reserved;
    const auto next = next_reserved(*model, "p", reserved, is_bound);
    REQUIRE(next);
    CHECK(reserved == format_mac(sequence.at(3)));
    pb::Object object;
    object.mutable_vnic()->set_name("b");
    object.mutable_vnic()->set_pool("p");
    const auto none = next_with(*next, object, mac_of, is_bound);
    REQUIRE_FALSE(none);
    CHECK(none.error().code == Code::exhausted);
    // What a vNIC has already, it keeps.
    CHECK(next_from_config(*next, *config, mac_of, [](const Mac&) { return true; }));
}

TEST_CASE("reservations: any, a certain one, twice, none left, back again, and kept by apply", "[R61]") {
    const std::string text =
        "vmac_pools: [{name: p, physical_mac: 90:e2:ba:00:00:01, size: 3}]\nvnics: [{name: a, pool: p}]\n";
    Model model = good(text);
    std::string first;
    auto next = next_reserved(model, "p", first);
    REQUIRE(next);
    CHECK(first != model.vnics.at("a")->vmac());
    model = *next;
    CHECK(diff(good(text), model).size() == 1);

    std::string same = first;
    next = next_reserved(model, "p", same);
    REQUIRE(next);
    CHECK(diff(model, *next).empty());

    std::string second;
    model = next_reserved(model, "p", second).value();
    std::string third;
    auto none = next_reserved(model, "p", third);
    REQUIRE(!none);
    CHECK(none.error().code == Code::exhausted);

    // The file says nothing of reservations: they stay.
    model = good(text, model);
    CHECK(model.vmac_pools.at("p")->reserved_size() == 2);

    model = next_released(model, "p", first).value();
    CHECK(model.vmac_pools.at("p")->reserved_size() == 1);
    CHECK(diff(model, next_released(model, "p", first).value()).empty());
    model = next_released(model, "p", second).value();
    CHECK(model.vmac_pools.at("p")->reserved().empty());
    std::string again = second;
    CHECK(next_reserved(model, "p", again));

    std::string foreign = "02:00:00:00:00:01";
    CHECK(next_reserved(model, "p", foreign).error().id == "IVDS-M022");
    std::string used = model.vnics.at("a")->vmac();
    CHECK(next_reserved(model, "p", used).error().code == Code::exists);
    CHECK(next_released(model, "p", model.vnics.at("a")->vmac()).error().code == Code::conflict);
    std::string any;
    CHECK(next_reserved(model, "no", any).error().code == Code::not_found);
}

TEST_CASE("MACs and TPIDs are kept in one form, whatever the file wrote") {
    const Model model =
        good("uplinks: [{name: u, netdev: e, outer_tpid: 0x88A8}]\nvnics: [{name: n, vmac: 02:AB:CD:00:00:01}]");
    CHECK(model.uplinks.at("u")->outer_tpid() == "0x88a8");
    CHECK(model.vnics.at("n")->vmac() == "02:ab:cd:00:00:01");
}

TEST_CASE("what is in use cannot be deleted, and the users are named") {
    const Model model = good(
        instances("{name: a, uplink: up, vlan: 1, scope: distributed, fdb: [{mac: 02:00:00:00:00:09, vport: p}]}") +
        "profiles: [{name: f}]\nvmac_pools: [{name: v, uplink: up}]\nvnics: [{name: n, pool: v}]\n"
        "vports: [{name: p, netdev: d, vnic: n, profile: f, instance: a}]");
    struct Use {
        pb::Kind kind;
        const char* name;
        const char* words;
    };
    const auto use = GENERATE(Use{pb::UPLINK, "up", "uplink up is in use by vmac_pool v, instance a"},
                              Use{pb::INSTANCE, "a", "instance a is in use by vport p"},
                              Use{pb::VNIC, "n", "vnic n is in use by vport p"},
                              Use{pb::PROFILE, "f", "in use by vport p"}, Use{pb::VMAC_POOL, "v", "in use by vnic n"},
                              Use{pb::VPORT, "p", "in use by static MACs of instance a"});
    pb::Ref ref;
    ref.set_kind(use.kind);
    ref.set_name(use.name);
    const auto next = next_without(model, ref);
    REQUIRE(!next);
    CHECK(next.error().code == Code::conflict);
    CHECK(next.error().id == "IVDS-M007");
    CHECK_THAT(next.error().what, ContainsSubstring(use.words));
}

TEST_CASE("deleting works from the leaves, and deleting twice is no error") {
    Model model = good("vnics: [{name: n, vmac: 02:00:00:00:00:01}]\nvports: [{name: p, netdev: d, vnic: n}]");
    pb::Ref ref;
    ref.set_kind(pb::VPORT);
    ref.set_name("p");
    model = next_without(model, ref).value();
    CHECK(model.vports.empty());
    CHECK(diff(model, next_without(model, ref).value()).empty());
    ref.set_kind(pb::VNIC);
    ref.set_name("n");
    CHECK(next_without(model, ref).value().vnics.empty());
}

TEST_CASE("mode, VLAN and uplink of an instance with vPorts change only while it drains", "[R78]") {
    const std::string ports = "vports: [{name: p, netdev: d, instance: a}]\n";
    const Model active = good(instances("{name: a, uplink: up, vlan: 1}") + ports);
    const std::string other = GENERATE("{name: a, uplink: up, mode: independent}", "{name: a, uplink: up, vlan: 2}",
                                       "{name: a, uplink: up2, vlan: 1}");
    const Error error = bad(instances(other) + ports, active);
    CHECK(error.id == "IVDS-M016");
    CHECK(error.code == Code::conflict);
    CHECK_THAT(error.fix, ContainsSubstring("draining: true"));

    const Model draining = good(instances("{name: a, uplink: up, vlan: 1, draining: true}") + ports, active);
    good(instances(other) + ports, draining);
    // Nobody is in it: nothing to drain.
    const Model empty = good(instances("{name: a, uplink: up, vlan: 1}"));
    good(instances(other), empty);
    // What it is known by inside changes at any time.
    good(instances("{name: a, uplink: up, vlan: 1, vvlan: 77, mtu_bytes: 9000}") + ports, active);
}

TEST_CASE("a change is told by field, in the order of references, deletions last and reversed") {
    const Model before = good(instances("{name: a, uplink: up, vlan: 1, vvlan: 5, scope: distributed, fdb: [{mac: "
                                        "02:00:00:00:00:01, vlan: 1}]}, {name: b}") +
                              "vports: [{name: p, netdev: v, instance: b}]");
    const Model after = good(
        instances("{name: a, uplink: up, vlan: 1, vvlan: 6, scope: distributed, mtu_bytes: 9000, peer_vlans: [2, 3], "
                  "fdb: [{mac: 02:00:00:00:00:02, vlan: 1}, {mac: 02:00:00:00:00:03, vlan: 1}]}") +
            "vnics: [{name: n, vmac: 02:00:00:00:00:01}]",
        before);
    CHECK(words(diff(before, after)) ==
          std::vector<std::string>{"update instance a | vvlan: 5 -> 6 | mtu_bytes: 0 -> 9000 | peer_vlans: [] -> [2, "
                                   "3] | fdb: 1 -> 2 entries (+2 -1)",
                                   "create vnic n", "delete vport p", "delete instance b"});
    CHECK(diff(after, after).empty());
    const Model none;
    CHECK(words(diff(none,
                     good("vnics: [{name: n, vmac: 02:00:00:00:00:01}]\nvports: [{name: p, netdev: v, vnic: n}]"))) ==
          std::vector<std::string>{"create vnic n", "create vport p"});
}

TEST_CASE("single objects: created, read, listed, replaced", "[R47][R57][R82]") {
    pb::Object object;
    object.mutable_instance()->set_name("a");
    Model model = next_with({}, object, mac_of).value();
    pb::Ref ref;
    ref.set_kind(pb::INSTANCE);
    ref.set_name("a");
    CHECK(get(model, ref).value().instance().name() == "a");
    object.mutable_instance()->set_mtu_bytes(9000);
    model = next_with(model, object, mac_of).value();
    CHECK(get(model, ref).value().instance().mtu_bytes() == 9000);
    CHECK(list(model, pb::INSTANCE).objects_size() == 1);
    CHECK(list(model, pb::VPORT).objects_size() == 0);
    CHECK(list(model, pb::KIND_NONE).objects_size() == 1);
    ref.set_name("b");
    CHECK(get(model, ref).error().code == Code::not_found);
    ref.set_kind(pb::KIND_NONE);
    CHECK(get(model, ref).error().code == Code::invalid);
    CHECK(next_with({}, pb::Object(), mac_of).error().code == Code::invalid);
}

TEST_CASE("export gives the configuration back, with what the agent assigned, and applying it changes nothing",
          "[R55][R83]") {
    const Model model = good(instances("{name: a, uplink: up, vlan: 1}") +
                             "vmac_pools: [{name: v, uplink: up}]\nvnics: [{name: n, pool: v}]\n"
                             "vports: [{name: p, netdev: d, vnic: n, instance: a}]");
    const std::string text = to_yaml(to_config(model));
    CHECK_THAT(text, ContainsSubstring("vvlan: 1"));
    const Model again = good(text, model);
    CHECK(diff(model, again).empty());
    // Also on a host that never saw it.
    CHECK(to_yaml(to_config(good(text))) == text);
}

TEST_CASE("a tenant's quota bounds its instances, their vPorts and what they may learn together", "[R87]") {
    const std::string quota = "tenants: [{name: t, max_instances: 2, max_vports: 1, max_fdb: 300}]\n";
    const std::string two =
        "instances: [{name: a, tenant: t, fdb_limit: 100}, {name: b, tenant: t, fdb_limit: 200}, "
        "{name: c, tenant: other}, {name: d}]\n";
    const Model model =
        good(quota + two + "vports: [{name: p, netdev: v, instance: a}, {name: q, netdev: w, instance: c}]");

    struct Over {
        const char* change;
        const char* words;
        const char* fix;
    };
    const auto over =
        GENERATE(Over{"instance: {name: e, tenant: t, fdb_limit: 1}",
                      "tenant t: 3 instances are more than its quota of 2", "--max-instances 3"},
                 Over{"vport: {name: r, netdev: x, instance: b}", "tenant t: 2 vPorts are more than its quota of 1",
                      "--max-vports 2"},
                 Over{"vport: {name: q, netdev: w, instance: b}", "tenant t: 2 vPorts", "--max-vports 2"},
                 Over{"instance: {name: a, tenant: t, fdb_limit: 101}", "may hold are more than its quota of 300",
                      "--max-fdb 301"},
                 Over{"instance: {name: a, tenant: t}", "tenant t: 16584 learned MACs", "--max-fdb 16584"},
                 Over{"instance: {name: d, tenant: t, fdb_limit: 1}", "tenant t: 3 instances", "tenant update t"},
                 Over{"tenant: {name: t, max_instances: 1}", "tenant t: 2 instances are more than its quota of 1",
                      "delete an instance"});
    CAPTURE(over.change);
    pb::Object object;
    REQUIRE(message_from_yaml(over.change, "t", object));
    const auto next = next_with(model, object, mac_of);
    REQUIRE(!next);
    CHECK(next.error().code == Code::exhausted);
    CHECK(next.error().id == "IVDS-M028");
    CHECK_THAT(next.error().what, ContainsSubstring(over.words));
    CHECK_THAT(next.error().fix, ContainsSubstring(over.fix));
}

TEST_CASE("a tenant's quota bounds its bindings and the rates of its vPorts together", "[R87]") {
    const Model model = good(
        "uplinks: [{name: up, netdev: e}]\n"
        "tenants: [{name: t, max_bindings: 2, max_rate_mbps: 100}]\n"
        "profiles: [{name: half, rate_in_mbps: 50, rate_out_mbps: 50}, {name: more, rate_in_mbps: 50, rate_out_mbps: "
        "51}, "
        "{name: in, rate_in_mbps: 1}]\n"
        "instances: [{name: a, tenant: t, uplink: up, vlan: 1, vvlan: 1, scope: distributed, fdb: [{mac: "
        "\"02:00:00:00:00:09\", "
        "vlan: 1}]}, {name: b, tenant: t}]\n"
        "vnics: [{name: n1, vmac: \"02:00:00:00:00:01\"}, {name: n2, vmac: \"02:00:00:00:00:02\"}]\n"
        "vports: [{name: p, netdev: v, instance: a, vnic: n1, profile: half}]");
    CHECK(tenant_use(model).at("t").bindings == 2);
    struct Over {
        const char* change;
        const char* words;
        const char* fix;
    };
    const auto over = GENERATE(
        Over{"vport: {name: q, netdev: w, instance: a, vnic: n2, profile: half}",
             "tenant t: 3 bindings are more than its quota of 2", "--max-bindings 3"},
        Over{"vport: {name: q, netdev: w, instance: b, vnic: n2, profile: more}",
             "tenant t: 101 Mbit/s of its vPorts one way are more than its quota of 100", "--max-rate-mbps 101"},
        Over{"vport: {name: q, netdev: w, instance: b, vnic: n2, profile: in}",
             "tenant t: 1 of its vPorts have no rate both ways, and its quota is 100 Mbit/s", "rate_out_mbps"},
        Over{"vport: {name: q, netdev: w, instance: b, vnic: n2}", "tenant t: 1 of its vPorts have no rate",
             "rate_in_mbps"},
        Over{"profile: {name: half, rate_in_mbps: 101, rate_out_mbps: 1}", "tenant t: 101 Mbit/s", "smaller rates"},
        Over{"tenant: {name: t, max_rate_mbps: 49}", "tenant t: 50 Mbit/s", "--max-rate-mbps 50"},
        Over{"tenant: {name: t, max_bindings: 1}", "tenant t: 2 bindings", "delete a vPort"});
    CAPTURE(over.change);
    pb::Object object;
    REQUIRE(message_from_yaml(over.change, "t", object));
    const auto next = next_with(model, object, mac_of);
    REQUIRE(!next);
    CHECK(next.error().code == Code::exhausted);
    CHECK(next.error().id == "IVDS-M028");
    CHECK_THAT(next.error().what, ContainsSubstring(over.words));
    CHECK_THAT(next.error().fix, ContainsSubstring(over.fix));
    // A local instance's vMACs are no bindings, and half the rate is left.
    pb::Object fits;
    REQUIRE(message_from_yaml("vport: {name: q, netdev: w, instance: b, vnic: n2, profile: half}", "t", fits));
    CHECK(next_with(model, fits, mac_of));
}

TEST_CASE("a tenant that is not declared, or without limits, has no quota", "[R87]") {
    std::string list;
    for (int i = 0; i < 100; ++i) list += fmt::format("{}{{name: i{}, tenant: t}}", i > 0 ? ", " : "", i);
    CHECK(good("instances: [" + list + "]").instances.size() == 100);
    CHECK(good("tenants: [{name: t}]\ninstances: [" + list + "]").instances.size() == 100);
    CHECK(tenant_use(good("instances: [" + list + "]")).at("t").fdb == 100ULL * kDefaultInstanceFdb);
}

TEST_CASE("a tenant that instances name is not deleted by itself", "[R87]") {
    const Model model = good("tenants: [{name: t}, {name: u}]\ninstances: [{name: a, tenant: t}]");
    pb::Ref ref;
    ref.set_kind(pb::TENANT);
    ref.set_name("t");
    const auto refused = next_without(model, ref);
    REQUIRE(!refused);
    CHECK_THAT(refused.error().what, ContainsSubstring("tenant t is in use by instance a"));
    ref.set_name("u");
    CHECK(next_without(model, ref)->tenants.size() == 1);
}
