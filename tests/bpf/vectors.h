// SPDX-License-Identifier: Apache-2.0
// vectors.h -- the table of what the switch does, frame by frame. Every rung has to do it: the reference switch,
// XDP and TC, called on bytes and receiving from a veth.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "rig.h"
#include "world.h"

namespace ivds::test {

// What one frame is said to do. Counts beside the named ones are the reference switch's business, drops are not:
// a frame drops exactly where it is said to.
struct Expected {
    std::vector<Sent> sent;
    std::map<std::string, std::uint64_t> counts;
    std::vector<std::string> events;
};

struct Vector {
    std::string name;  // the behaviour
    std::string tags;  // Catch2 tags: requirement ids
    World world;
    std::vector<Step> steps;
    std::vector<Expected> expected;  // one a step

    Vector& send(std::uint32_t port, const Bytes& frame, const Gso& gso = {});
    // Of the last frame sent:
    Vector& arrives(std::uint32_t port, const Bytes& frame);
    Vector& reaches_the_host();
    Vector& drops(std::uint32_t port, ivds_drop reason);
    Vector& counts(const std::string& counter, std::uint64_t value);
    Vector& tells(const std::string& event);
};

[[nodiscard]] std::vector<Vector> all_vectors();

// The world that most vectors start from: two tenants with the same MACs on one VLAN, a third network with the same
// V.VLAN under another VLAN, a local one, and one on an uplink with other TPIDs.
//   uplink 1 (8100, 8100)  red: VLAN 10 V.VLAN 100, ports 2 3 4, peers also on VLAN 30
//                          blue: VLAN 10 V.VLAN 200, ports 5 6    green: VLAN 20 V.VLAN 100, port 7
//   uplink 12 (88a8, 8100) white: VLAN 10 V.VLAN 100, ports 10 11   no uplink: grey, ports 8 9
[[nodiscard]] World house();
inline constexpr std::uint32_t red = 1;
inline constexpr std::uint32_t blue = 2;
inline constexpr std::uint32_t green = 3;
inline constexpr std::uint32_t grey = 4;
inline constexpr std::uint32_t white = 5;

[[nodiscard]] Mac vm(std::uint8_t number);      // vMAC 02:00:00:00:00:NN of port NN in its instance (blue: 2 and 3)
[[nodiscard]] Mac remote(std::uint8_t number);  // 02:00:00:00:01:NN

}  // namespace ivds::test
