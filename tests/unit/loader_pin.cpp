// SPDX-License-Identifier: Apache-2.0
// loader_pin.cpp -- names of pins and the comparison of layouts.
#include <rapidcheck.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>

#include "layout.h"
#include "pin.h"

using namespace ivds;

TEST_CASE("an interface's name with a dot becomes one without, and back") {
    CHECK(escape_pin("eth0.100") == "eth0%2E100");
    CHECK(unescape_pin("eth0%2E100") == "eth0.100");
    CHECK(escape_pin("ens1f0np0") == "ens1f0np0");
    CHECK(escape_pin("a%b") == "a%25b");
    CHECK_FALSE(unescape_pin("a%2"));
    CHECK_FALSE(unescape_pin("a%2e"));  // escape_pin writes capitals, so this is nobody's name
    CHECK_FALSE(unescape_pin("a%41"));
    CHECK_FALSE(unescape_pin("a.b"));
}

TEST_CASE("any name survives as a pin, and no two share one") {
    CHECK(rc::check([](const std::string& name) {
        const auto pin = escape_pin(name);
        RC_ASSERT(pin.find('.') == std::string::npos);
        RC_ASSERT(pin.find('/') == std::string::npos);
        RC_ASSERT(unescape_pin(pin) == name);
    }));
}

TEST_CASE("the folder of a link tells index and name") {
    const PinPaths paths{"/r"};
    CHECK(paths.link(12, "eth0.5") == "/r/v1/links/12-eth0%2E5");
    const auto folder = parse_link_folder("12-eth0%2E5");
    REQUIRE(folder);
    CHECK(folder->ifindex == 12);
    CHECK(folder->netdev == "eth0.5");
    for (const char* wrong : {"", "12", "12-", "x-eth0", "0-eth0", "-eth0", "99999999999-eth0"}) {
        CHECK_FALSE(parse_link_folder(wrong));
    }
}

TEST_CASE("another layout is refused with both named") {
    const std::vector<MapShape> ours = {{"fdb", 1, 12, 16, 1, 1000}, {"ports", 2, 4, 80, 0, 10}};
    CHECK(same_layout(ours, ours, "/r"));
    auto theirs = ours;
    theirs[0].value_size = 24;
    const auto r = same_layout(theirs, ours, "/r");
    REQUIRE_FALSE(r);
    CHECK(r.error().code == Code::layout);
    CHECK(r.error().what.find("value 24") != std::string::npos);
    CHECK(r.error().what.find("value 16") != std::string::npos);
    const auto missing = same_layout({ours[0]}, ours, "/r");
    REQUIRE_FALSE(missing);
    CHECK(missing.error().what.find("ports: none") != std::string::npos);
}

TEST_CASE("the digest of a layout follows every part of it and not the order") {
    const std::vector<MapShape> shapes = {{"fdb", 1, 12, 16, 1, 1000}, {"ports", 2, 4, 80, 0, 10}};
    auto turned = shapes;
    std::ranges::reverse(turned);
    CHECK(layout_digest(turned) == layout_digest(shapes));
    for (auto part :
         {&MapShape::type, &MapShape::key_size, &MapShape::value_size, &MapShape::flags, &MapShape::max_entries}) {
        auto other = shapes;
        other[1].*part += 1;
        CHECK(layout_digest(other) != layout_digest(shapes));
    }
}
