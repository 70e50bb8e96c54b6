// SPDX-License-Identifier: Apache-2.0
#include "nic/frame.h"

#include <algorithm>

namespace ivds::offload {

namespace {

constexpr std::uint8_t ip_tcp = 6;
constexpr std::uint8_t ip_udp = 17;
constexpr std::uint8_t ip_sctp = 132;

std::uint16_t be16(std::span<const std::uint8_t> bytes, std::size_t at) {
    return static_cast<std::uint16_t>(bytes[at] << 8 | bytes[at + 1]);
}

bool has_tag(std::span<const std::uint8_t> bytes, std::size_t at, std::uint16_t type) {
    return bytes.size() >= at + tag_length + 2 && be16(bytes, at) == type;
}

void read_ports(std::span<const std::uint8_t> l4, Flow& flow) {
    if (flow.fragment || l4.size() < 4) return;
    if (flow.protocol != ip_tcp && flow.protocol != ip_udp && flow.protocol != ip_sctp) return;
    flow.has_ports = true;
    flow.source_port = be16(l4, 0);
    flow.destination_port = be16(l4, 2);
    flow.tcp_syn = flow.protocol == ip_tcp && l4.size() > 13 && (l4[13] & 0x02) != 0;
}

std::optional<Flow> read_flow(std::span<const std::uint8_t> l3, std::uint16_t ethertype) {
    Flow flow;
    if (ethertype == 0x0800 && l3.size() >= 20 && l3[0] >> 4 == 4) {
        const std::size_t header = (l3[0] & 0x0fU) * 4U;
        if (header < 20 || l3.size() < header) return std::nullopt;
        flow.protocol = l3[9];
        flow.fragment = (be16(l3, 6) & 0x3fff) != 0;
        std::ranges::copy(l3.subspan(12, 4), flow.source.begin());
        std::ranges::copy(l3.subspan(16, 4), flow.destination.begin());
        read_ports(l3.subspan(header), flow);
        return flow;
    }
    if (ethertype == 0x86dd && l3.size() >= 40 && l3[0] >> 4 == 6) {
        flow.v6 = true;
        flow.protocol = l3[6];  // extension headers are not looked behind
        std::ranges::copy(l3.subspan(8, 16), flow.source.begin());
        std::ranges::copy(l3.subspan(24, 16), flow.destination.begin());
        read_ports(l3.subspan(40), flow);
        return flow;
    }
    return std::nullopt;
}

}  // namespace

bool Frame::broadcast() const {
    return std::ranges::all_of(destination, [](std::uint8_t byte) { return byte == 0xff; });
}

Frame parse(std::span<const std::uint8_t> bytes, const TagMode& mode) {
    Frame frame;
    std::ranges::copy(bytes.first(6), frame.destination.begin());
    std::ranges::copy(bytes.subspan(6, 6), frame.source.begin());
    std::size_t at = 12;
    bool known = true;
    if (mode.two_tags) {
        if (has_tag(bytes, at, mode.outer_type)) {
            frame.outer_tag = true;
            at += tag_length;
        } else if (has_tag(bytes, at, mode.type) && !mode.inner_only_counts) {
            known = false;  // what follows is not parsed
        }
    }
    frame.tag_at = at;
    if (known && (frame.outer_tag || !mode.two_tags || mode.inner_only_counts) && has_tag(bytes, at, mode.type)) {
        frame.tci = be16(bytes, at + 2);
        at += tag_length;
    }
    frame.ethertype = be16(bytes, at);
    if (known) frame.flow = read_flow(bytes.subspan(at + 2), frame.ethertype);
    return frame;
}

}  // namespace ivds::offload
