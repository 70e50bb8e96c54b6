// SPDX-License-Identifier: Apache-2.0
// The codec: what it reads, where it says that a text is wrong, and that what it writes reads back.
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>

#include "api/codec.h"

using namespace ivds;
using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;

namespace {

pb::Config read(const std::string& text) {
    auto config = config_from_yaml(text, "t.yaml");
    INFO((config ? "" : config.error().text()));
    REQUIRE(config);
    return *config;
}

const std::string kWhole = R"(uplinks:
  - name: up
    netdev: ens1f0
    attach: tcx
    outer_tpid: "0x88a8"
    transport_vlan: 7
    plain: drop
profiles:
  - name: router
    guest_tags: carry
    allow_spoof: true
vmac_pools:
  - name: pool
    uplink: up
    size: 16
    reserved: ["02:00:00:00:00:09"]
instances:
  - name: blue
    tenant: acme
    uplink: up
    vlan: 10
    vvlan: 100
    scope: distributed
    peer_vlans: [20, 30]
    fdb:
      - {mac: "02:00:00:00:00:01", vport: p1}
      - {mac: "02:00:00:00:00:02", vlan: 20}
vnics:
  - name: n1
    pool: pool
vports:
  - name: p1
    instance: blue
    netdev: veth1
    vnic: n1
    extra_macs: ["02:00:00:00:00:03"]
    mtu_bytes: 9000
)";

}  // namespace

TEST_CASE("codec reads every kind of object and its fields") {
    const pb::Config config = read(kWhole);
    REQUIRE(config.uplinks_size() == 1);
    CHECK(config.uplinks(0).attach() == pb::TCX);
    CHECK(config.uplinks(0).plain() == pb::DROP);
    CHECK(config.uplinks(0).transport_vlan() == 7);
    CHECK(config.profiles(0).allow_spoof());
    CHECK(config.profiles(0).guest_tags() == pb::CARRY);
    CHECK(config.vmac_pools(0).reserved(0) == "02:00:00:00:00:09");
    CHECK(config.instances(0).scope() == pb::DISTRIBUTED);
    CHECK(config.instances(0).peer_vlans(1) == 30);
    CHECK(config.instances(0).fdb(1).vlan() == 20);
    CHECK(config.vports(0).mtu_bytes() == 9000);
}

TEST_CASE("codec writes YAML that reads back as the same configuration, and as the same text", "[R55]") {
    const pb::Config config = read(kWhole);
    const std::string text = to_yaml(config);
    const pb::Config again = read(text);
    CHECK(again.SerializeAsString() == config.SerializeAsString());
    CHECK(to_yaml(again) == text);
    CHECK_THAT(text, ContainsSubstring("- {mac: \"02:00:00:00:00:01\", vport: p1}"));
    CHECK_THAT(text, !ContainsSubstring("age_s"));
}

TEST_CASE("codec takes an empty text, comments alone and empty lists for an empty configuration") {
    const auto* text = GENERATE("", "\n", "# nothing yet\n", "---\n", "vports:\n", "vports: []\ninstances: ~\n");
    CHECK(read(text).ByteSizeLong() == 0);
    CHECK(to_yaml(pb::Config()).empty());
}

TEST_CASE("codec adds up several documents of one text") {
    const pb::Config config =
        read("vnics: [{name: a, vmac: 02:00:00:00:00:01}]\n---\nvnics:\n  - {name: b, pool: p}\n");
    REQUIRE(config.vnics_size() == 2);
    CHECK(config.vnics(1).name() == "b");
}

TEST_CASE("codec reads JSON, also its own") {
    const pb::Config config = read(kWhole);
    CHECK(read(to_json(config)).SerializeAsString() == config.SerializeAsString());
}

TEST_CASE("codec says line, column and the nearest word for what is wrong") {
    struct Wrong {
        const char* text;
        const char* where;
        const char* id;
        const char* words;
    };
    const auto wrong = GENERATE(
        Wrong{"vport:\n  - name: a\n", "t.yaml:1:1: ", "IVDS-C002", "did you mean vports?"},
        Wrong{"vports:\n  - name: a\n    mtu_byte: 9\n", "t.yaml:3:5: ", "IVDS-C002", "did you mean mtu_bytes?"},
        Wrong{"vports:\n  - name: a\n    zzzzzzzzzz: 9\n", "t.yaml:3:5: ", "IVDS-C002", "one of: name, instance"},
        Wrong{"instances:\n  - name: a\n    mode: piggy\n", "t.yaml:3:11: ", "IVDS-C005",
              "one of: piggyback, independent"},
        Wrong{"instances:\n  - name: a\n    mode: Piggyback\n", "t.yaml:3:11: ", "IVDS-C005",
              "did you mean piggyback?"},
        Wrong{"instances:\n  - name: a\n    vlan: ten\n", "t.yaml:3:11: ", "IVDS-C003",
              "vlan is a number, found \"ten\""},
        Wrong{"instances:\n  - name: a\n    vlan: 1.5\n", "t.yaml:3:11: ", "IVDS-C003", "vlan is a number"},
        Wrong{"instances:\n  - name: a\n    vlan: -1\n", "t.yaml:3:11: ", "IVDS-C006",
              "out of range (0 to 4294967295)"},
        Wrong{"instances:\n  - name: a\n    vlan: 4294967296\n", "t.yaml:3:11: ", "IVDS-C006", "out of range"},
        Wrong{"instances:\n  - name: a\n    vlan: [1]\n", "t.yaml:3:11: ", "IVDS-C003", "found a list"},
        Wrong{"instances:\n  - name: a\n    draining: maybe\n", "t.yaml:3:15: ", "IVDS-C003", "true or false"},
        Wrong{"instances:\n  - name: a\n    peer_vlans: 10\n", "t.yaml:3:17: ", "IVDS-C003", "peer_vlans is a list"},
        Wrong{"instances:\n  - name: a\n    fdb: [x]\n", "t.yaml:3:11: ", "IVDS-C003", "fdb is a map of fields"},
        Wrong{"instances:\n  - name: a\n    name: b\n", "t.yaml:3:5: ", "IVDS-C004", "given twice"},
        Wrong{"vports:\n  - name: a\nvports:\n  - name: b\n", "t.yaml:3:1: ", "IVDS-C004", "given twice"},
        Wrong{"vports:\n  - name: a\n  - name: a\n", "t.yaml:3:11: ", "IVDS-C004", "holds \"a\" twice"},
        Wrong{"vports:\n  - name: a\n---\nvports:\n  - name: a\n", "t.yaml:5:11: ", "IVDS-C004", "holds \"a\" twice"},
        Wrong{"vports: {name: a}\n", "t.yaml:1:9: ", "IVDS-C003", "vports is a list"},
        Wrong{"- name: a\n", "t.yaml:1:1: ", "IVDS-C003", "expected a map with fields of Config"},
        Wrong{"just words\n", "t.yaml:1:1: ", "IVDS-C003", "expected a map"},
        Wrong{"vports:\n  - name: a\n   netdev: b\n", "t.yaml:3:", "IVDS-C001", ""},
        Wrong{"vports: [\n", "t.yaml:", "IVDS-C001", ""},
        Wrong{"[a, b]: c\n", "t.yaml:1:1: ", "IVDS-C003", "field's name"});
    CAPTURE(wrong.text);
    const auto config = config_from_yaml(wrong.text, "t.yaml");
    REQUIRE(!config);
    CHECK(config.error().code == Code::invalid);
    CHECK(config.error().id == wrong.id);
    CHECK_THAT(config.error().what, StartsWith(wrong.where));
    CHECK_THAT(config.error().what + "; " + config.error().fix, ContainsSubstring(wrong.words));
}

TEST_CASE("codec says where a key without a value is") {
    const auto config = config_from_yaml("instances:\n  - name: a\n    vlan:\n", "t.yaml");
    REQUIRE(!config);
    CHECK_THAT(config.error().what, ContainsSubstring("vlan is a number, found nothing"));
    CHECK_THAT(config.error().what, StartsWith("t.yaml:"));
}

TEST_CASE("codec survives texts that are not YAML at all") {
    const std::string text = GENERATE(std::string("\0\0\0", 3), std::string("\xff\xfe\xfd"), std::string(3000, '['),
                                      std::string("&a [*a]"), std::string("%YAML 9.9"), std::string("\t- x"));
    CHECK(!config_from_yaml(text, "t.yaml"));
}

TEST_CASE("codec reads one object onto a message and keeps what the text leaves out") {
    pb::VPort vport;
    vport.set_name("p");
    vport.set_mtu_bytes(9000);
    vport.add_extra_macs("02:00:00:00:00:01");
    REQUIRE(message_from_yaml("netdev: tap0\nextra_macs: []\n", "-", vport));
    CHECK(vport.name() == "p");
    CHECK(vport.netdev() == "tap0");
    CHECK(vport.mtu_bytes() == 9000);
    CHECK(vport.extra_macs().empty());
    CHECK(!message_from_yaml("netdev: a\n---\nnetdev: b\n", "-", vport));
}

TEST_CASE("codec reads one kind in an object and refuses a second") {
    pb::Object object;
    REQUIRE(message_from_yaml("vnic: {name: a, pool: p}\n", "-", object));
    CHECK(kind_of(object) == pb::VNIC);
    CHECK(name_of(object) == "a");
    pb::Object two;
    CHECK(!message_from_yaml("vnic: {name: a}\nvport: {name: b}\n", "-", two));
}

TEST_CASE("codec sets single fields from the text of a flag") {
    pb::Instance instance;
    REQUIRE(set_field(instance, "vlan", "10"));
    REQUIRE(set_field(instance, "mode", "independent"));
    REQUIRE(set_field(instance, "draining", "true"));
    REQUIRE(set_field(instance, "peer_vlans", "20,30"));
    CHECK(instance.vlan() == 10);
    CHECK(instance.mode() == pb::INDEPENDENT);
    CHECK(instance.draining());
    REQUIRE(instance.peer_vlans_size() == 2);
    REQUIRE(set_field(instance, "peer_vlans", "[40]"));
    REQUIRE(instance.peer_vlans_size() == 1);
    CHECK(instance.peer_vlans(0) == 40);
    REQUIRE(set_field(instance, "peer_vlans", ""));
    CHECK(instance.peer_vlans().empty());
    REQUIRE(set_field(instance, "fdb", "[{mac: 02:00:00:00:00:01, vport: a}]"));
    CHECK(instance.fdb(0).vport() == "a");

    const auto unknown = set_field(instance, "vlam", "10");
    REQUIRE(!unknown);
    CHECK(unknown.error().fix == "did you mean vlan?");
    const auto wrong = set_field(instance, "vlan", "x");
    REQUIRE(!wrong);
    CHECK_THAT(wrong.error().what, StartsWith("--vlan: vlan is a number"));

    pb::VPort vport;
    REQUIRE(set_field(vport, "extra_macs", "02:00:00:00:00:01,02:00:00:00:00:02"));
    REQUIRE(vport.extra_macs_size() == 2);
    CHECK(vport.extra_macs(1) == "02:00:00:00:00:02");
}

TEST_CASE("codec prints JSON with every field, numbers as numbers and words in lower case", "[R147]") {
    pb::PortState state;
    state.set_kind(pb::VPORT);
    state.set_name("a\"b\\c\n\x01");
    state.mutable_counters()->set_rx_packets(18446744073709551615ULL);
    const std::string json = to_json(state);
    CHECK_THAT(json, ContainsSubstring(R"("kind":"vport","name":"a\"b\\c\n\u0001","id":0)"));
    CHECK_THAT(json, ContainsSubstring(R"("wanted":"auto")"));
    CHECK_THAT(json, ContainsSubstring(R"("up":false)"));
    CHECK_THAT(json, ContainsSubstring(R"("rx_packets":18446744073709551615)"));
    CHECK_THAT(to_json(pb::PutRequest()), ContainsSubstring(R"({"object":null})"));
    CHECK(to_json(pb::Object()) == "{}");
    pb::TraceRequest frame;
    frame.set_frame(std::string("\x02\0\xa6\"\x7f", 5));
    CHECK(to_json(frame) == R"({"port":"","frame":"0200a6227f"})");
    CHECK_THAT(to_json(pb::Config()), ContainsSubstring(R"({"uplinks":[],)"));
}

TEST_CASE("codec quotes text that another YAML reader would take for something else") {
    pb::Instance instance;
    const std::string text =
        GENERATE("true", "No", "null", "12:34:56:10:20:30", "0x10", "1e3", "- a", "a: b", "#x", " a", "");
    instance.set_name("n");
    instance.set_tenant(text);
    const std::string yaml = to_yaml(instance);
    if (!text.empty()) CHECK_THAT(yaml, ContainsSubstring("tenant: \"" + text + "\""));
    pb::Instance again;
    REQUIRE(message_from_yaml(yaml, "-", again));
    CHECK(again.tenant() == text);
}

TEST_CASE("enumerations are words in both directions") {
    CHECK(to_text(pb::VMAC_POOL) == "vmac_pool");
    CHECK(from_text<pb::Kind>("vmac_pool").value() == pb::VMAC_POOL);
    const auto unknown = from_text<pb::Kind>("vmacpool");
    REQUIRE(!unknown);
    CHECK(unknown.error().fix == "did you mean vmac_pool?");
}
