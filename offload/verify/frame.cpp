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
