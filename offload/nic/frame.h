// SPDX-License-Identifier: Apache-2.0
// frame.h -- an Ethernet frame as a NIC's parser sees it: which tag its filters look at, and the fields of IP and L4.
// Frames are without preamble and CRC.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace ivds::offload {

using Bytes = std::vector<std::uint8_t>;
using MacAddress = std::array<std::uint8_t, 6>;  // in the order of the wire

inline constexpr std::size_t frame_header = 14;
inline constexpr std::size_t tag_length = 4;
inline constexpr std::size_t crc_length = 4;

// Which tags the parser knows.
struct TagMode {
    bool two_tags = false;
    std::uint16_t outer_type = 0x8100;  // with two tags
    std::uint16_t type = 0x8100;        // of the tag that the filters look at
    bool inner_only_counts = false;     // with two tags: a frame that has the inner alone is taken for tagged
};

// IP and, where they can be read, the ports. Addresses are in the order of the wire.
struct Flow {
    bool v6 = false;
    std::array<std::uint8_t, 16> source{};  // IPv4 in the first four bytes
    std::array<std::uint8_t, 16> destination{};
    std::uint8_t protocol = 0;
    bool fragment = false;
    bool has_ports = false;
    std::uint16_t source_port = 0;
    std::uint16_t destination_port = 0;
    bool tcp_syn = false;
};

struct Frame {
    MacAddress destination{};
    MacAddress source{};
    bool outer_tag = false;            // with two tags: the outer one is there
    std::optional<std::uint16_t> tci;  // the tag that the filters look at: priority, CFI, VID
    std::size_t tag_at = 0;            // where that tag is, or would be inserted
    std::uint16_t ethertype = 0;       // after the tags that were parsed
    std::optional<Flow> flow;

    [[nodiscard]] bool broadcast() const;
    [[nodiscard]] bool multicast() const { return (destination[0] & 1) != 0 && !broadcast(); }
    [[nodiscard]] bool unicast() const { return (destination[0] & 1) == 0; }
    [[nodiscard]] std::optional<std::uint16_t> vid() const {
        return tci ? std::optional<std::uint16_t>(*tci & 0xfff) : std::nullopt;
    }
};

// At least frame_header bytes.
[[nodiscard]] Frame parse(std::span<const std::uint8_t> bytes, const TagMode& mode);

}  // namespace ivds::offload
