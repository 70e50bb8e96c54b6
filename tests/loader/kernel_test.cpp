// SPDX-License-Identifier: Apache-2.0
// kernel_test.cpp -- the switch on this kernel: pins, hooks, adoption, the watch, upgrade under load.
#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <catch2/catch_session.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <set>
#include <thread>

#include "rig.h"

using namespace ivds;
using namespace ivds::rig;

namespace {

std::string why(const Result<>& r) {
    return r ? "" : r.error().text();
}

std::unique_ptr<Switch> open_switch(const std::string& root, bool coexist = false) {
    SwitchOptions options;
    options.root = root;
    options.xdp_coexist = coexist;
    auto sw = Switch::open(options);
    INFO((sw ? "" : sw.error().text()));
    REQUIRE(sw);
    return std::move(*sw);
}

void apply(Switch& sw, const Tables& tables, bool strict = true) {
    auto r = sw.apply(tables, strict);
    INFO(why(r));
    REQUIRE(r);
}

PortStatus status_of(const Switch& sw, std::uint32_t id) {
    for (const auto& status : sw.status()) {
        if (status.id == id) {
            return status;
        }
    }
    return {};
}

std::uint64_t generation(const std::string& root) {
    return MapsView::open(root)->meta()->generation;
}

class Veths {
public:
    explicit Veths(std::vector<std::string> names) : names_(std::move(names)) {
        for (const auto& name : names_) {
            add_veth(name);
        }
    }
    ~Veths() {
        for (const auto& name : names_) {
            (void)!std::system(
                fmt::format("ip link del {0} 2>/dev/null; ip netns del ns-{0} 2>/dev/null", name).c_str());
        }
    }
    Veths(const Veths&) = delete;
    Veths& operator=(const Veths&) = delete;

private:
    std::vector<std::string> names_;
};

bool carries(const RawSocket& from, const RawSocket& to, std::uint32_t number) {
    REQUIRE(from.send(numbered_frame(mac_of(2), mac_of(1), number)));
    for (;;) {
        const auto frame = to.receive(300);
        if (frame.empty()) {
            return false;
        }
        if (number_of(frame) == number) {
            return true;
        }
    }
}

}  // namespace

TEST_CASE("two vPorts of an instance talk, in every attach mode", "[R5][R46]") {
    const auto [mode, got] = GENERATE(table<AttachMode, std::string>({{AttachMode::automatic, "tcx"},
                                                                      {AttachMode::tcx, "tcx"},
                                                                      {AttachMode::clsact, "clsact"},
                                                                      {AttachMode::native, "native+tcx"},
                                                                      {AttachMode::generic, "generic+tcx"}}));
    const Veths veths({"va", "vb"});
    const auto root = fresh_root();
    auto sw = open_switch(root);
    apply(*sw, one_instance({"va", "vb"}, mode));
    CHECK(status_of(*sw, 1).got == got);
    CHECK(status_of(*sw, 1).up);
    CHECK_FALSE(status_of(*sw, 1).reason.empty());
    const RawSocket a("ns-va", "vap");
    const RawSocket b("ns-vb", "vbp");
    CHECK(carries(a, b, 7));
    REQUIRE(sw->tear_down());
    CHECK_FALSE(std::filesystem::exists(root));
    CHECK_FALSE(is_admin_up("va"));
    CHECK_FALSE(is_admin_up("vb"));
}

TEST_CASE("a switch that ended is adopted without a write or a flap", "[R4][R83]") {
    const auto mode = GENERATE(AttachMode::automatic, AttachMode::clsact, AttachMode::native, AttachMode::generic);
    const Veths veths({"va", "vb"});
    const auto root = fresh_root();
    const auto tables = one_instance({"va", "vb"}, mode);
    std::vector<PortStatus> before;
    {
        auto sw = open_switch(root);
        apply(*sw, tables);
        before = sw->status();
    }
    const auto written = generation(root);
    const RawSocket a("ns-va", "vap");
    const RawSocket b("ns-vb", "vbp");
    CHECK(carries(a, b, 1));  // with nobody there
    auto sw = open_switch(root);
    apply(*sw, tables);
    CHECK(generation(root) == written);
    for (const auto& was : before) {
        const auto now = status_of(*sw, was.id);
        CHECK(now.got == was.got);
        CHECK(now.up);
        CHECK(now.ifindex == was.ifindex);
    }
    CHECK(carries(a, b, 2));
    REQUIRE(sw->tear_down());
}

TEST_CASE("a second writer of the same pins is told who is there", "[R22]") {
    const auto root = fresh_root();
    auto sw = open_switch(root);
    SwitchOptions options;
    options.root = root;
    auto second = Switch::open(options);
    REQUIRE_FALSE(second);
    CHECK(second.error().code == Code::busy);
    REQUIRE(sw->tear_down());
}

TEST_CASE("a root that is no bpffs is refused with the mount command") {
    SwitchOptions options;
    options.root = "/run/netns/ivds";
    auto sw = Switch::open(options);
    REQUIRE_FALSE(sw);
    CHECK(sw.error().code == Code::unavailable);
    CHECK(sw.error().fix.find("mount -t bpf") != std::string::npos);
}

TEST_CASE("an interface that vanishes is withdrawn, and attached again under its new index", "[R50]") {
    const auto mode = GENERATE(AttachMode::automatic, AttachMode::native);
    const Veths veths({"va", "vb"});
    const auto root = fresh_root();
    auto sw = open_switch(root);
    apply(*sw, one_instance({"va", "vb"}, mode));
    const auto old = status_of(*sw, 2).ifindex;
    std::vector<PortChange> changes;
    remove_veth("vb");
    REQUIRE(watch_until(*sw, [&] { return status_of(*sw, 2).ifindex == 0; }, &changes));
    REQUIRE_FALSE(changes.empty());
    CHECK(changes.back().reason == "interface vanished");
    CHECK_FALSE(status_of(*sw, 2).up);
    CHECK(MapsView::open(root)->port(2)->ifindex == 0);
    CHECK_FALSE(std::filesystem::exists(fmt::format("{}/v1/links/{}-vb", root, old)));

    add_veth("vb");
    REQUIRE(watch_until(*sw, [&] { return status_of(*sw, 2).up; }, &changes));
    CHECK(status_of(*sw, 2).ifindex != old);
    const RawSocket a("ns-va", "vap");
    const RawSocket b("ns-vb", "vbp");
    CHECK(carries(a, b, 3));
    REQUIRE(sw->tear_down());
}

TEST_CASE("a new interface index is healed also when nobody watched", "[R50]") {
    const Veths veths({"va", "vb"});
    const auto root = fresh_root();
    const auto tables = one_instance({"va", "vb"});
    {
        apply(*open_switch(root), tables);
    }
    remove_veth("vb");
    add_veth("vb");
    auto sw = open_switch(root);
    apply(*sw, tables);
    CHECK(status_of(*sw, 2).up);
    const RawSocket a("ns-va", "vap");
    const RawSocket b("ns-vb", "vbp");
    CHECK(carries(a, b, 4));
    REQUIRE(sw->tear_down());
    CHECK_FALSE(std::filesystem::exists(root));
}

TEST_CASE("carrier and administrative state of an interface decide whether frames go to it", "[R50]") {
    const Veths veths({"va", "vb"});
    const auto root = fresh_root();
    auto sw = open_switch(root);
    apply(*sw, one_instance({"va", "vb"}));
    sh("nsenter --net=/run/netns/ns-vb ip link set vbp down");
    REQUIRE(watch_until(*sw, [&] { return !status_of(*sw, 2).up; }));
    CHECK((MapsView::open(root)->port(2)->flags & IVDS_PF_UP) == 0);
    sh("nsenter --net=/run/netns/ns-vb ip link set vbp up");
    REQUIRE(watch_until(*sw, [&] { return status_of(*sw, 2).up; }));
    sh("ip link set vb down");
    REQUIRE(watch_until(*sw, [&] { return !status_of(*sw, 2).up; }));
    REQUIRE(sw->tear_down());
}

TEST_CASE("a renamed interface is no longer the port's and is set down") {
    const Veths veths({"va", "vb"});
    const auto root = fresh_root();
    auto sw = open_switch(root);
    apply(*sw, one_instance({"va", "vb"}));
    sh("ip link set vb down && ip link set vb name other && ip link set other up");
    REQUIRE(watch_until(*sw, [&] { return status_of(*sw, 2).ifindex == 0; }));
    CHECK_FALSE(is_admin_up("other"));
    sh("ip link set other name vb");
    REQUIRE(watch_until(*sw, [&] { return status_of(*sw, 2).up; }));
    REQUIRE(sw->tear_down());
}

TEST_CASE("a vPort that is removed leaves its interface down and its slot empty", "[R57]") {
    const Veths veths({"va", "vb"});
    const auto root = fresh_root();
    auto sw = open_switch(root);
    apply(*sw, one_instance({"va", "vb"}));
    apply(*sw, one_instance({"va"}));
    CHECK_FALSE(is_admin_up("vb"));
    CHECK(is_admin_up("va"));
    const auto view = MapsView::open(root);
    REQUIRE(view);
    CHECK(view->port(2)->kind == IVDS_PORT_NONE);
    CHECK(view->port(1)->next_member == 0);
    CHECK_FALSE(view->fdb_entry(1, mac_of(2))->has_value());
    CHECK(view->fdb_entry(1, mac_of(1))->has_value());
    apply(*sw, one_instance({"va", "vb"}));
    CHECK(status_of(*sw, 2).up);
    REQUIRE(sw->tear_down());
}

namespace {

// A list with one rule, which is about the EtherType of numbered frames.
std::shared_ptr<const AclRow> list_of(std::uint32_t rule, ivds_acl_action action, ivds_acl_action default_action) {
    AclRow list;
    list.default_action = static_cast<std::uint8_t>(default_action);
    list.masks.resize(1);
    list.masks[0].fields.type_be = 0xffff;
    ivds_acl_key key{};
    key.fields.type_be = htons(0x88b5);
    list.rules.emplace_back(key, ivds_acl_rule{0, rule, 0, 0, static_cast<std::uint8_t>(action), 0, {}});
    return std::make_shared<const AclRow>(std::move(list));
}

// The keys of a pinned map.
template <class Key>
std::vector<Key> keys_of(const std::string& root, const char* map) {
    const int fd = bpf_obj_get(fmt::format("{}/v1/maps/{}", root, map).c_str());
    REQUIRE(fd >= 0);
    std::vector<Key> keys;
    Key key{};
    while (bpf_map_get_next_key(fd, keys.empty() ? nullptr : &keys.back(), &key) == 0) {
        keys.push_back(key);
    }
    ::close(fd);
    return keys;
}

}  // namespace

TEST_CASE("lists of rules are applied, decide and count, are adopted, and go without a trace") {
    const auto mode = GENERATE(AttachMode::tcx, AttachMode::native);
    const Veths veths({"va", "vb"});
    const auto root = fresh_root();
    auto tables = one_instance({"va", "vb"}, mode);
    tables.acls = {{1, list_of(11, IVDS_ACL_ALLOW, IVDS_ACL_DROP)}, {2, list_of(12, IVDS_ACL_ALLOW, IVDS_ACL_DROP)}};
    tables.ports[1].value.acl_in = 1;
    tables.ports[2].value.acl_out = 2;
    const RawSocket a("ns-va", "vap");
    const RawSocket b("ns-vb", "vbp");
    const auto counted = [&](std::uint32_t rule) {
        const auto counts = MapsView::open(root)->rule_stats();
        REQUIRE(counts);
        const auto found = counts->find(rule);
        return found == counts->end() ? 0 : found->second.packets;
    };
    {
        auto sw = open_switch(root);
        apply(*sw, tables);
        const auto findings = sw->doctor();
        CHECK(std::ranges::count(findings, "IVDS-D000", &Finding::id) == 1);
        CHECK(keys_of<ivds_acl_mask_key>(root, "acl_masks").size() == 2);
        CHECK(keys_of<ivds_acl_key>(root, "acl_rules").size() == 2);
        CHECK(carries(a, b, 1));
        CHECK(counted(11) == 1);
        CHECK(counted(12) == 1);
    }
    const auto written = generation(root);
    auto sw = open_switch(root);
    apply(*sw, tables);
    CHECK(generation(root) == written);
    CHECK(carries(a, b, 2));
    CHECK(counted(11) == 2);

    // Another list in the place of the second: what it drops does not arrive.
    tables.acls.erase(2);
    tables.acls[3] = list_of(13, IVDS_ACL_DROP, IVDS_ACL_ALLOW);
    tables.ports[2].value.acl_out = 3;
    apply(*sw, tables);
    CHECK_FALSE(carries(a, b, 3));
    CHECK(counted(11) == 3);
    CHECK(counted(12) == 0);
    CHECK(counted(13) == 1);
    const auto rules = keys_of<ivds_acl_key>(root, "acl_rules");
    REQUIRE(rules.size() == 2);
    CHECK(std::ranges::count(rules, 1u, &ivds_acl_key::acl) == 1);
    CHECK(std::ranges::count(rules, 3u, &ivds_acl_key::acl) == 1);

    apply(*sw, one_instance({"va", "vb"}, mode));
    CHECK(keys_of<ivds_acl_mask_key>(root, "acl_masks").empty());
    CHECK(keys_of<ivds_acl_key>(root, "acl_rules").empty());
    CHECK(keys_of<std::uint32_t>(root, "rule_stats").empty());
    CHECK(carries(a, b, 4));
    REQUIRE(sw->tear_down());
}

TEST_CASE("a list of 10,000 entries goes into the maps and is adopted as it is") {
    const Veths veths({"va"});
    const auto root = fresh_root();
    auto tables = one_instance({"va"});
    AclRow list = *list_of(1, IVDS_ACL_ALLOW, IVDS_ACL_DROP);
    list.masks[0].fields.dport_be = 0xffff;
    list.rules.resize(1);
    for (std::uint32_t n = 1; n < 10000; ++n) {
        auto [key, rule] = list.rules.front();
        key.fields.dport_be = htons(static_cast<std::uint16_t>(n));
        rule.order = n;
        list.rules.emplace_back(key, rule);
    }
    tables.acls[IVDS_MAX_ACLS - 1] = std::make_shared<const AclRow>(std::move(list));
    tables.ports[1].value.acl_in = IVDS_MAX_ACLS - 1;
    apply(*open_switch(root), tables);
    const auto written = generation(root);
    auto sw = open_switch(root);
    apply(*sw, tables);
    CHECK(generation(root) == written);
    CHECK(keys_of<ivds_acl_key>(root, "acl_rules").size() == 10000);
    REQUIRE(sw->tear_down());
}

TEST_CASE("strict apply fails for a new port whose interface is away, and changes nothing", "[R41]") {
    const Veths veths({"va"});
    const auto root = fresh_root();
    auto sw = open_switch(root);
    apply(*sw, one_instance({"va"}));
    const auto written = generation(root);
    auto r = sw->apply(one_instance({"va", "vmissing"}), true);
    REQUIRE_FALSE(r);
    CHECK(r.error().code == Code::not_found);
    CHECK(generation(root) == written);
    CHECK(MapsView::open(root)->port(2)->kind == IVDS_PORT_NONE);
    CHECK(status_of(*sw, 1).up);

    apply(*sw, one_instance({"va", "vmissing"}), false);
    CHECK(status_of(*sw, 2).reason.find("away") != std::string::npos);
    add_veth("vmissing");
    CHECK(watch_until(*sw, [&] { return status_of(*sw, 2).up; }));
    remove_veth("vmissing");
    REQUIRE(sw->tear_down());
}

TEST_CASE("somebody else's XDP program is never replaced, and named") {
    const Veths veths({"va", "vb"});
    const auto root = fresh_root();
    const auto other_root = fresh_root();
    auto other = open_switch(other_root);
    apply(*other, one_instance({"va"}, AttachMode::native));
    auto sw = open_switch(root);
    auto r = sw->apply(one_instance({"va", "vb"}, AttachMode::native), true);
    REQUIRE_FALSE(r);
    CHECK(r.error().code == Code::foreign);
    CHECK(r.error().id == "IVDS-P012");
    CHECK(r.error().what.find("ivds_xdp") != std::string::npos);
    CHECK(status_of(*other, 1).up);
    CHECK(is_admin_up("va"));
    REQUIRE(other->tear_down());
    REQUIRE(sw->tear_down());
}

// Kernels differ in whether BPF programs can be replaced (freplace). Where they can, tests/lab has the rest.
TEST_CASE("asked to coexist, XDP is shared or refused with the reason, and TC goes on as ever") {
    const auto [mode, got] = GENERATE(table<AttachMode, std::string>(
        {{AttachMode::native, "native-libxdp+tcx"}, {AttachMode::generic, "generic-libxdp+tcx"}}));
    const Veths veths({"va", "vb"});
    const auto root = fresh_root();
    auto sw = open_switch(root, true);
    if (const auto r = sw->apply(one_instance({"va", "vb"}, mode), true); r) {
        CHECK(status_of(*sw, 1).got == got);
        CHECK(status_of(*sw, 1).reason.find("libxdp's dispatcher") != std::string::npos);
    } else {
        INFO(why(r));
        CHECK(r.error().id == "IVDS-P020");
        CHECK(r.error().code == Code::unsupported);
        CHECK(r.error().fix.find("--xdp-coexist") != std::string::npos);
        CHECK(MapsView::open(root)->port(1)->kind == IVDS_PORT_NONE);
        apply(*sw, one_instance({"va", "vb"}, mode), false);
        CHECK(status_of(*sw, 1).got == "none");
        CHECK(status_of(*sw, 1).reason.find("IVDS-P020") != std::string::npos);
        CHECK(std::ranges::count(sw->doctor(), "IVDS-P020", &Finding::id) == 2);
    }
    apply(*sw, one_instance({"va", "vb"}));
    CHECK(status_of(*sw, 1).got == "tcx");
    const RawSocket a("ns-va", "vap");
    const RawSocket b("ns-vb", "vbp");
    CHECK(carries(a, b, 5));
    REQUIRE(sw->tear_down());
}

TEST_CASE("attaching XDP prepares the veth's peer in its own namespace") {
    const auto mode = GENERATE(AttachMode::native, AttachMode::generic);
    const Veths veths({"va"});
    auto sw = open_switch(fresh_root());
    const auto is = [](const std::string& feature, const std::string& state) {
        return std::system(fmt::format("nsenter --net=/run/netns/ns-va ethtool -k vap | grep -qE '^\\s*{}: {}'",
                                       feature, state)
                               .c_str()) == 0;
    };
    REQUIRE(is("tx-checksum-ip-generic", "on"));
    apply(*sw, one_instance({"va"}, mode));
    CHECK(is("generic-receive-offload", "on"));
    CHECK(is("tx-checksumming", "off"));
    CHECK(is("tx-vlan-offload", "off"));
    CHECK(is("tcp-segmentation-offload", "off"));
    REQUIRE(sw->tear_down());
}

TEST_CASE("a veth takes XDP redirects only while its peer polls") {
    const Veths veths({"va", "vb"});
    const auto root = fresh_root();
    auto sw = open_switch(root);
    apply(*sw, one_instance({"va", "vb"}));
    const auto target = [&] { return (MapsView::open(root)->port(2)->flags & IVDS_PF_XDP_TARGET) != 0; };
    CHECK_FALSE(target());
    sh("nsenter --net=/run/netns/ns-vb ethtool -K vbp gro on");
    CHECK(watch_until(*sw, target));
    sh("nsenter --net=/run/netns/ns-vb ethtool -K vbp gro off");
    CHECK(watch_until(*sw, [&] { return !target(); }));
    REQUIRE(sw->tear_down());
}

// What may lose a frame is the exchange on a hook, and what takes long is that the kernel verifies the programs
// first: so each upgrade exchanges them on twenty ports, and frames go through every one of these all the while.
TEST_CASE("20 upgrades in a row of 20 ports under numbered frames lose none and double none", "[upgrade][R4]") {
    const auto mode = GENERATE(AttachMode::tcx, AttachMode::native, AttachMode::clsact);
    constexpr std::uint32_t kPairs = 10;
    constexpr int kUpgrades = 20;
    std::vector<std::string> names;
    for (std::uint32_t i = 1; i <= 2 * kPairs; ++i) {
        names.push_back(fmt::format("v{}", i));
    }
    const Veths veths(names);
    const auto root = fresh_root();
    auto sw = open_switch(root);
    apply(*sw, one_instance(names, mode));

    // The second port of a pair sends, the first receives.
    struct Pair {
        std::uint32_t to;
        std::uint32_t from;
        RawSocket receiver;
        RawSocket sender;
        std::uint32_t sent = 0;
        std::vector<std::uint8_t> times;

        explicit Pair(std::uint32_t number)
            : to(2 * number + 1),
              from(2 * number + 2),
              receiver(fmt::format("ns-v{}", to), fmt::format("v{}p", to)),
              sender(fmt::format("ns-v{}", from), fmt::format("v{}p", from)) {}
        [[nodiscard]] bool send(std::uint32_t frame) const {
            return sender.send(numbered_frame(mac_of(to), mac_of(from), frame));
        }
        void receive(const std::atomic<bool>& stop) {
            for (;;) {
                const auto frame = receiver.receive(500);
                if (frame.empty() && stop) {
                    return;
                }
                const auto number = number_of(frame);
                if (number < 0 || number == 0xffffffff) {
                    continue;
                }
                times.resize(std::max<std::size_t>(times.size(), static_cast<std::size_t>(number) + 1));
                ++times[static_cast<std::size_t>(number)];
            }
        }
    };
    std::vector<std::unique_ptr<Pair>> pairs;
    for (std::uint32_t i = 0; i < kPairs; ++i) {
        const auto& pair = pairs.emplace_back(std::make_unique<Pair>(i));
        REQUIRE(pair->send(0xffffffff));
        REQUIRE(number_of(pair->receiver.receive(300)) == 0xffffffff);
    }

    std::atomic<bool> stop = false;
    std::thread sender([&] {
        auto next = std::chrono::steady_clock::now();
        while (!stop) {
            for (const auto& pair : pairs) {
                pair->sent += pair->send(pair->sent) ? 1u : 0u;
            }
            next += std::chrono::microseconds(500);
            std::this_thread::sleep_until(next);
        }
    });
    std::vector<std::thread> receivers;
    for (const auto& pair : pairs) {
        receivers.emplace_back([&stop, at = pair.get()] { at->receive(stop); });
    }
    int done = 0;
    std::string error;
    for (; done < kUpgrades && error.empty(); ++done) {
        if (auto r = sw->upgrade(true); !r) {
            error = r.error().text();
        }
    }
    stop = true;
    sender.join();
    std::ranges::for_each(receivers, &std::thread::join);
    INFO(error);
    CHECK(done == kUpgrades);
    std::uint32_t sent = 0;
    std::uint32_t lost = 0;
    std::uint32_t doubled = 0;
    for (const auto& pair : pairs) {
        CHECK(pair->sent > 1000);
        sent += pair->sent;
        pair->times.resize(pair->sent);
        for (const auto n : pair->times) {
            lost += n == 0 ? 1u : 0u;
            doubled += n > 1 ? 1u : 0u;
        }
    }
    std::printf("%s: %u frames over %d upgrades, %u lost, %u doubled\n", to_string(mode).c_str(), sent, done, lost,
                doubled);
    CHECK(lost == 0);
    CHECK(doubled == 0);
    CHECK(status_of(*sw, 1).up);
    REQUIRE(sw->tear_down());
}

TEST_CASE("an upgrade where this build runs already changes nothing") {
    const auto root = fresh_root();
    auto sw = open_switch(root);
    REQUIRE(sw->upgrade());
    CHECK(generation(root) == 0);
    REQUIRE(sw->upgrade(true));
    CHECK(generation(root) == 1);
    REQUIRE(sw->tear_down());
}

TEST_CASE("pins that a crash left half made are cleared away") {
    const Veths veths({"va", "vb"});
    const auto root = fresh_root();
    const auto tables = one_instance({"va", "vb"}, AttachMode::native);
    {
        apply(*open_switch(root), tables);
    }

    SECTION("a first set of pins in the making") {
        sh(fmt::format("mkdir -p {0}/v1-new/maps {0}/v1-new/progs", root));
    }
    SECTION("an upgrade that had not begun to update") {
        sh(fmt::format("mkdir {}/v1/progs/next", root));
    }
    SECTION("an upgrade that had removed the old programs' pins") {
        sh(fmt::format("mv {0}/v1/progs/[0-9]* {0}/v1/progs/next", root));
    }
    SECTION("a folder of links that no interface has") {
        sh(fmt::format("mkdir {}/v1/links/9999-gone", root));
    }

    auto sw = open_switch(root);
    apply(*sw, tables);
    CHECK(status_of(*sw, 1).got == "native+tcx");
    REQUIRE(sw->upgrade());
    CHECK_FALSE(std::filesystem::exists(root + "/v1-new"));
    CHECK_FALSE(std::filesystem::exists(root + "/v1/progs/next"));
    CHECK_FALSE(std::filesystem::exists(root + "/v1/links/9999-gone"));
    CHECK(std::distance(std::filesystem::directory_iterator(root + "/v1/progs"), {}) == 1);
    const RawSocket a("ns-va", "vap");
    const RawSocket b("ns-vb", "vbp");
    CHECK(carries(a, b, 5));
    REQUIRE(sw->tear_down());
}

TEST_CASE("pinned maps of another layout are refused with both layouts named, and left alone") {
    const auto root = fresh_root();
    {
        open_switch(root);
    }
    const auto path = root + "/v1/maps/";
    sh(
        fmt::format("bpftool map create {0}other type hash key 12 value 24 entries 64 name fdb && rm {0}fdb && mv "
                    "{0}other {0}fdb",
                    path));
    SwitchOptions options;
    options.root = root;
    auto sw = Switch::open(options);
    REQUIRE_FALSE(sw);
    CHECK(sw.error().code == Code::layout);
    CHECK(sw.error().what.find("value 24") != std::string::npos);
    CHECK(sw.error().what.find("value 16") != std::string::npos);
    CHECK(std::filesystem::exists(path + "fdb"));
    auto view = MapsView::open(root);
    REQUIRE_FALSE(view);
    CHECK(view.error().code == Code::layout);
    std::filesystem::remove_all(root);
}

TEST_CASE("an interface whose name has a dot is attached, and its pins hold none") {
    const Veths veths({"va"});
    sh("ip link set va down && ip link set va name va.5 && ip link set va.5 up");
    const auto root = fresh_root();
    auto sw = open_switch(root);
    apply(*sw, one_instance({"va.5"}));
    CHECK(status_of(*sw, 1).up);
    CHECK(std::filesystem::exists(fmt::format("{}/v1/links/{}-va%2E5/tc", root, ifindex_of("va.5"))));
    REQUIRE(sw->tear_down());
    sh("ip link set va.5 name va");
}

TEST_CASE("an uplink is attached without being set up or down, and is promiscuous meanwhile") {
    const Veths veths({"va", "vup"});
    const auto root = fresh_root();
    auto sw = open_switch(root);
    auto tables = one_instance({"va"});
    auto& up = tables.ports[9];
    up.name = "up";
    up.netdev = "vup";
    up.value.kind = IVDS_PORT_UPLINK;
    up.value.outer_tpid_be = up.value.inner_tpid_be = 0x0081;
    tables.instances[1].value.uplink = 9;
    tables.instances[1].value.flags = IVDS_IF_ACTIVE | IVDS_IF_WIRE;
    tables.vvlans[{9, 10, 0}] = 0;
    tables.vvlans[{9, 10, 20}] = 1;
    apply(*sw, tables);
    CHECK(MapsView::open(root)->port(9)->mtu_bytes == 1500);
    sh("ip -d link show vup | grep -q 'promiscuity 1'");
    sh("ip link set vup mtu 1600");
    CHECK(watch_until(*sw, [&] { return MapsView::open(root)->port(9)->mtu_bytes == 1600; }));
    const auto written = generation(root);
    sw.reset();
    sw = open_switch(root);
    apply(*sw, tables);
    CHECK(generation(root) == written);
    REQUIRE(sw->tear_down());
    CHECK(is_admin_up("vup"));
    sh("ip -d link show vup | grep -q 'promiscuity 0'");
}

TEST_CASE("ivds-loader brings the saved state up, again without change, and takes it down", "[R83]") {
    const Veths veths({"va", "vb"});
    const auto root = fresh_root();
    const std::string state = "/run/netns/tables.state";
    const auto loader = [&](const std::string& words) {
        const int status = std::system(
            fmt::format("{} {} --root {} --state {} >/run/netns/out 2>&1", IVDS_LOADER, words, root, state).c_str());
        return WEXITSTATUS(status);
    };
    CHECK(loader("up") == 3);
    const auto tables = one_instance({"va", "vb"});
    REQUIRE(save_tables(state, tables));
    CHECK(loader("up vb") == 0);
    CHECK((MapsView::open(root)->port(1)->flags & IVDS_PF_TC) == 0);
    CHECK((MapsView::open(root)->port(2)->flags & IVDS_PF_UP) != 0);
    CHECK(loader("up") == 0);
    CHECK((MapsView::open(root)->port(1)->flags & IVDS_PF_UP) != 0);
    const auto written = generation(root);
    CHECK(loader("va vb") == 0);
    CHECK(generation(root) == written);
    CHECK(loader("status --json") == 0);
    sh("python3 -c 'import json; d = json.load(open(\"/run/netns/out\")); assert [p[\"up\"] for p in d[\"ports\"]] "
       "== [True, True]'");
    CHECK(loader("check") == 0);
    CHECK(loader("upgrade") == 0);
    CHECK(loader("upgrade --force") == 0);
    {
        const RawSocket a("ns-va", "vap");
        const RawSocket b("ns-vb", "vbp");
        CHECK(carries(a, b, 6));
        auto agent = open_switch(root);
        CHECK(loader("up") == 0);  // an agent is in charge
        CHECK(loader("upgrade") == 1);
    }
    CHECK(loader("down") == 0);
    CHECK(std::filesystem::exists(root));
    CHECK(loader("down --detach") == 0);
    CHECK_FALSE(std::filesystem::exists(root));
    CHECK(loader("down --detach") == 0);
    CHECK(loader("status") == 3);
    CHECK(loader("nonsense --x") == 2);
}

int main(int argc, char** argv) {
    std::string reason;
    if (!enter(reason)) {
        std::printf("SKIP: %s\n", reason.c_str());
        return 77;
    }
    return Catch::Session().run(argc, argv);
}
