// SPDX-License-Identifier: Apache-2.0
#include "verify/frame.h"

#include <fmt/format.h>

#include <algorithm>

namespace ivds::offload::verify {

namespace {

void put16(std::vector<std::uint8_t>& out, unsigned value) {
    out.push_back(static_cast<std::uint8_t>(value >> 8));
    out.push_back(static_cast<std::uint8_t>(value));
}
void put_address(std::vector<std::uint8_t>& out, std::uint32_t address) {
    for (unsigned i = 0; i < 4; ++i) out.push_back(static_cast<std::uint8_t>(address >> (8 * i)));
}

void put_ipv4(std::vector<std::uint8_t>& out, const Payload& payload) {
    const std::size_t at = out.size();
    put16(out, 0x4500);
    put16(out, payload.l3_bytes);
    put16(out, 0);
    put16(out, 0);
    out.push_back(64);
    out.push_back(payload.protocol);
    put16(out, 0);
    put_address(out, payload.source);
    put_address(out, payload.destination);
    std::uint32_t sum = 0;
    for (std::size_t i = at; i < out.size(); i += 2) sum += static_cast<std::uint32_t>(out[i] << 8 | out[i + 1]);
    while (sum >> 16 != 0) sum = (sum & 0xffff) + (sum >> 16);
    out[at + 10] = static_cast<std::uint8_t>(~sum >> 8);
    out[at + 11] = static_cast<std::uint8_t>(~sum);
    if (!payload.has_ports()) return;
    put16(out, payload.source_port);
    put16(out, payload.destination_port);
    if (payload.protocol == 17) {
        put16(out, payload.l3_bytes - 20);
        put16(out, 0);
    } else if (payload.protocol == 6) {
        for (int i = 0; i < 8; ++i) out.push_back(0);
        out.push_back(0x50);
        out.push_back(payload.is_syn() ? 0x02 : 0x10);
    }
}

}  // namespace

std::vector<std::uint8_t> bytes(const Frame& frame) {
    std::vector<std::uint8_t> out(frame.dst.begin(), frame.dst.end());
    out.reserve(frame.size());
    out.insert(out.end(), frame.src.begin(), frame.src.end());
    for (unsigned i = 0; i < frame.tags.size(); ++i) {
        put16(out, frame.tags[i].tpid);
        put16(out, frame.tags[i].tci);
    }
    put16(out, frame.payload.ethertype);
    if (frame.payload.is_ipv4)
        put_ipv4(out, frame.payload);
    else if (frame.payload.ethertype == 0x8808)
        put16(out, 1);  // PAUSE
    out.resize(std::max<std::size_t>(out.size(), frame.size()));
    return out;
}

Frame parse(std::span<const std::uint8_t> bytes) {
    const auto get16 = [&](std::size_t at) {
        return at + 2 <= bytes.size() ? static_cast<std::uint16_t>(bytes[at] << 8 | bytes[at + 1]) : std::uint16_t{0};
    };
    const auto get_address = [&](std::size_t at) {
        std::uint32_t address = 0;
        for (unsigned i = 0; i < 4; ++i) address |= std::uint32_t{bytes[at + i]} << (8 * i);
        return address;
    };
    Frame frame;
    std::copy_n(bytes.begin(), 6, frame.dst.begin());
    std::copy_n(bytes.begin() + 6, 6, frame.src.begin());
    std::size_t at = 12;
    // Room is left for what the NIC and software add.
    for (; frame.tags.size() + 3 < Tags::room && at + 4 <= bytes.size(); at += 4) {
        const std::uint16_t type = get16(at);
        if (type != tpid_c && type != tpid_s && type != tpid_q) break;
        frame.tags.insert(frame.tags.size(), {.tpid = type, .tci = get16(at + 2)});
    }
    Payload& payload = frame.payload;
    payload.ethertype = get16(at);
    at += 2;
    payload.l3_bytes = bytes.size() > at ? static_cast<unsigned>(bytes.size() - at) : 0;
    payload.is_ipv4 = payload.ethertype == 0x0800 && payload.l3_bytes >= 20 && bytes[at] >> 4 == 4;
    if (!payload.is_ipv4) return frame;
    payload.protocol = bytes[at + 9];
    payload.source = get_address(at + 12);
    payload.destination = get_address(at + 16);
    const std::size_t l4 = at + std::size_t{4} * (bytes[at] & 0xfU);
    if (payload.has_ports()) {
        payload.source_port = get16(l4);
        payload.destination_port = get16(l4 + 2);
    }
    payload.syn = payload.protocol == 6 && l4 + 13 < bytes.size() && (bytes[l4 + 13] & 0x12U) == 0x02;
    return frame;
}

std::vector<std::uint8_t> with_tags(std::span<const std::uint8_t> bytes, const Tags& tags) {
    const std::size_t behind = 12 + std::size_t{4} * parse(bytes).tags.size();
    std::vector<std::uint8_t> out(bytes.begin(), bytes.begin() + 12);
    for (unsigned i = 0; i < tags.size(); ++i) {
        put16(out, tags[i].tpid);
        put16(out, tags[i].tci);
    }
    out.insert(out.end(), bytes.begin() + static_cast<std::ptrdiff_t>(behind), bytes.end());
    return out;
}

std::string text(const Tags& tags) {
    std::string out;
    for (unsigned i = 0; i < tags.size(); ++i) {
        const Tag& tag = tags[i];
        out += fmt::format("{}{}", i == 0 ? "" : " ", tag.vid());
        if (tag.tpid != tpid_c) out += fmt::format("/{:#06x}", tag.tpid);
        if (tag.pcp() != 0) out += fmt::format(" (priority {})", tag.pcp());
        if ((tag.tci & 0x1000) != 0) out += " (CFI)";
    }
    return tags.empty() ? "none" : out;
}

std::string text(const Frame& frame) {
    std::string out =
        fmt::format("{} -> {}, tags {}", format_mac(frame.src), format_mac(frame.dst), text(frame.tags));
    const Payload& payload = frame.payload;
    if (payload.is_ipv4) {
        const auto address = [](std::uint32_t a) {
            return fmt::format("{}.{}.{}.{}", a & 0xff, a >> 8 & 0xff, a >> 16 & 0xff, a >> 24);
        };
        out += fmt::format(", IPv4 {} -> {}, protocol {}", address(payload.source), address(payload.destination),
                           payload.protocol);
        if (payload.has_ports())
            out += fmt::format(", ports {} -> {}", payload.source_port, payload.destination_port);
        if (payload.is_syn()) out += ", SYN";
    } else {
        out += fmt::format(", type {:#06x}", payload.ethertype);
    }
    return out + fmt::format(", {} bytes", frame.size());
}

}  // namespace ivds::offload::verify
