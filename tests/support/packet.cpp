// SPDX-License-Identifier: Apache-2.0
#include "packet.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <stdexcept>

namespace ivds::test {

namespace {

void put16(Bytes& bytes, std::size_t at, std::uint16_t value) {
    bytes[at] = static_cast<std::uint8_t>(value >> 8U);
    bytes[at + 1] = static_cast<std::uint8_t>(value & 0xffU);
}

std::uint16_t internet_checksum(const Bytes& bytes, std::size_t length) {
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i + 1 < length; i += 2) {
        sum += static_cast<std::uint32_t>(bytes[i]) << 8U | bytes[i + 1];
    }
    while (sum >> 16U != 0) {
        sum = (sum & 0xffffU) + (sum >> 16U);
    }
    return static_cast<std::uint16_t>(~sum & 0xffffU);
}

// An IPv4 packet from 10.0.0.1 to 10.0.0.2, its payload numbered so that a shifted copy shows.
Bytes ip4(std::uint8_t protocol, std::size_t l3_length) {
    Bytes bytes(std::max<std::size_t>(l3_length, 20));
    for (std::size_t i = 20; i < bytes.size(); ++i) {
        bytes[i] = static_cast<std::uint8_t>(i);
    }
    bytes[0] = 0x45;
    put16(bytes, 2, static_cast<std::uint16_t>(bytes.size()));
    bytes[8] = 64;
    bytes[9] = protocol;
    std::ranges::copy(Bytes{10, 0, 0, 1, 10, 0, 0, 2}, bytes.begin() + 12);
    put16(bytes, 10, internet_checksum(bytes, 20));
    return bytes;
}

Bytes padded(Bytes bytes, std::size_t length) {
    bytes.resize(std::max(bytes.size(), length));
    return bytes;
}

}  // namespace

Packet::Packet(const Mac& dst, const Mac& src) {
    bytes_.insert(bytes_.end(), dst.begin(), dst.end());
    bytes_.insert(bytes_.end(), src.begin(), src.end());
    bytes_.resize(14);
}

Packet Packet::operator/(const Layer& layer) const {
    Packet joined = *this;
    Bytes& bytes = joined.bytes_;
    const bool is_llc = layer.ethertype == type_llc;
    put16(bytes, bytes.size() - 2, is_llc ? static_cast<std::uint16_t>(layer.bytes.size()) : layer.ethertype);
    bytes.insert(bytes.end(), layer.bytes.begin(), layer.bytes.end());
    return joined;
}

Packet Packet::sized(std::size_t length) const {
    Packet other = *this;
    other.bytes_.resize(length);
    return other;
}

Packet eth(const Mac& dst, const Mac& src) {
    return Packet(dst, src);
}

Layer tag(std::uint16_t tpid, std::uint16_t vid, std::uint8_t pcp, bool dei) {
    Layer layer{.ethertype = tpid, .bytes = Bytes(4)};
    put16(layer.bytes, 0, static_cast<std::uint16_t>(pcp << 13U | (dei ? 0x1000U : 0U) | (vid & 0xfffU)));
    return layer;
}

Layer raw(std::uint16_t ethertype, std::size_t length, std::uint8_t fill) {
    return {.ethertype = ethertype, .bytes = Bytes(length, fill)};
}

Layer raw(std::uint16_t ethertype, Bytes bytes) {
    return {.ethertype = ethertype, .bytes = std::move(bytes)};
}

Layer arp_request(const Mac& sender) {
    Bytes bytes{0, 1, 8, 0, 6, 4, 0, 1};
    bytes.insert(bytes.end(), sender.begin(), sender.end());
    bytes.insert(bytes.end(), {10, 0, 0, 1, 0, 0, 0, 0, 0, 0, 10, 0, 0, 2});
    return raw(0x0806, padded(bytes, 46));
}

Layer ip4_udp(std::size_t l3_length) {
    Bytes bytes = ip4(17, std::max<std::size_t>(l3_length, 28));
    put16(bytes, 20, 4096);
    put16(bytes, 22, 5001);
    put16(bytes, 24, static_cast<std::uint16_t>(bytes.size() - 20));
    put16(bytes, 26, 0);
    return raw(0x0800, bytes);
}

Layer ip4_tcp(std::size_t l3_length) {
    Bytes bytes = ip4(6, std::max<std::size_t>(l3_length, 40));
    put16(bytes, 20, 4096);
    put16(bytes, 22, 5001);
    bytes[32] = 0x50;  // header of five words
    bytes[33] = 0x10;  // ACK
    return raw(0x0800, bytes);
}

Layer ip4_tcp(std::size_t l3_length, std::uint8_t flags) {
    Layer layer = ip4_tcp(l3_length);
    layer.bytes[33] = flags;
    return layer;
}

Layer ip4_echo(std::uint8_t type, std::uint16_t identifier) {
    Bytes bytes = ip4(1, 46);
    bytes[20] = type;
    put16(bytes, 24, identifier);
    return raw(0x0800, bytes);
}

Bytes answer_to(const Bytes& frame) {
    Bytes out = frame;
    std::swap_ranges(out.begin(), out.begin() + 6, out.begin() + 6);
    const bool is_ip4 = out[12] == 0x08 && out[13] == 0x00 && out.size() >= 14 + 24;
    if (!is_ip4) {
        return out;
    }
    const auto l3 = out.begin() + 14;
    std::swap_ranges(l3 + 12, l3 + 16, l3 + 16);
    if (l3[9] == 1) {
        l3[20] = 0;
    } else {
        std::swap_ranges(l3 + 20, l3 + 22, l3 + 22);
    }
    return out;
}

Bytes icmp_error_about(const Bytes& frame) {
    Bytes l3 = ip4(1, 56);
    l3[20] = 3;
    l3[21] = 4;
    l3[15] = 9;
    if (frame.size() >= 14 + 28) {
        std::copy_n(frame.begin() + 14 + 12, 4, l3.begin() + 16);
        std::copy_n(frame.begin() + 14, 28, l3.begin() + 28);
    }
    Bytes out(14 + l3.size());
    std::copy_n(frame.begin() + 6, 6, out.begin());
    std::copy_n(frame.begin(), 6, out.begin() + 6);
    out[12] = 0x08;
    std::ranges::copy(l3, out.begin() + 14);
    return out;
}

Layer ip6_neighbour_solicitation() {
    return ip6_neighbour(135, 2);
}

Layer ip6_neighbour(std::uint8_t type, std::uint8_t target) {
    Bytes bytes{0x60, 0, 0, 0, 0, 24, 58, 255};
    bytes.insert(bytes.end(), {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1});
    bytes.insert(bytes.end(), {0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 2});
    bytes.insert(bytes.end(), {type, 0, 0, 0, 0, 0, 0, 0});
    bytes.insert(bytes.end(), {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, target});
    return raw(0x86dd, bytes);
}

Layer ip6_question(const Mac& asker, std::uint8_t target) {
    Bytes bytes = ip6_neighbour(135, target).bytes;
    bytes[5] = 32;
    bytes.insert(bytes.end(), {1, 1});
    bytes.insert(bytes.end(), asker.begin(), asker.end());
    // RFC 8200 8.1: with the addresses, the length and the protocol.
    Bytes summed(bytes.begin() + 8, bytes.end());
    summed.insert(summed.end(), {0, 0, 0, 32, 0, 0, 0, 58});
    put16(bytes, 42, internet_checksum(summed, summed.size()));
    return raw(0x86dd, bytes);
}

Layer llc_stp() {
    Bytes bytes{0x42, 0x42, 3, 0, 0, 0, 0};
    return {.ethertype = type_llc, .bytes = padded(bytes, 38)};
}

Layer pause() {
    return raw(0x8808, padded({0, 1, 0xff, 0xff}, 46));
}
Layer pfc() {
    return raw(0x8808, padded({1, 1, 0, 0xff}, 46));
}
Layer lldp() {
    return raw(0x88cc, padded({2, 7, 4, 2, 0, 0, 0, 0, 1, 0, 0}, 46));
}
Layer lacp() {
    return raw(0x8809, padded({1, 1, 1, 0x14}, 110));
}
Layer eapol() {
    return raw(0x888e, padded({1, 1, 0, 0}, 46));
}

std::string to_hex(const Bytes& bytes) {
    return fmt::format("{:02x}", fmt::join(bytes, ""));
}

Bytes from_hex(const std::string& text) {
    if (text.size() % 2 != 0) {
        throw std::invalid_argument("odd number of hex digits");
    }
    Bytes bytes;
    for (std::size_t i = 0; i < text.size(); i += 2) {
        std::size_t used = 0;
        const auto byte = std::stoul(text.substr(i, 2), &used, 16);
        if (used != 2) {
            throw std::invalid_argument("not hex: " + text);
        }
        bytes.push_back(static_cast<std::uint8_t>(byte));
    }
    return bytes;
}

std::string to_text(const Mac& mac) {
    return fmt::format("{:02x}", fmt::join(mac, ":"));
}

}  // namespace ivds::test
