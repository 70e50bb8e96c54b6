// SPDX-License-Identifier: Apache-2.0
#include "pcapng.h"

#include <cstring>

namespace ivds::cli {
namespace {

constexpr std::uint32_t kSection = 0x0a0d0d0a;
constexpr std::uint32_t kInterface = 1;
constexpr std::uint32_t kEnhancedPacket = 6;
constexpr std::uint32_t kByteOrder = 0x1a2b3c4d;
constexpr std::uint16_t kEthernet = 1;

template <class T>
void put(std::string& out, T value) {
    out.append(reinterpret_cast<const char*>(&value), sizeof(value));
}
void pad(std::string& out) {
    out.append((4 - out.size() % 4) % 4, '\0');
}
void option(std::string& out, std::uint16_t code, const std::string& value) {
    put(out, code);
    put(out, static_cast<std::uint16_t>(value.size()));
    out += value;
    pad(out);
}
void end_options(std::string& out) {
    put(out, std::uint32_t{0});
}

}  // namespace

Pcapng::Pcapng(std::ostream& out) : out_(out) {
    std::string body;
    put(body, kByteOrder);
    put(body, std::uint16_t{1});  // version 1.0
    put(body, std::uint16_t{0});
    put(body, std::int64_t{-1});  // of unknown length
    option(body, 4, "ivds-ctl");
    end_options(body);
    block(kSection, body);
}

void Pcapng::block(std::uint32_t type, const std::string& body) {
    const auto length = static_cast<std::uint32_t>(body.size() + 12);
    std::string bytes;
    put(bytes, type);
    put(bytes, length);
    bytes += body;
    put(bytes, length);
    out_ << bytes;
    out_.flush();
}

void Pcapng::packet(const std::string& port, std::uint64_t time_ns, std::uint32_t bytes, const std::string& data,
                    bool outbound, const std::string& comment) {
    const auto [place, fresh] = interfaces_.try_emplace(port, static_cast<std::uint32_t>(interfaces_.size()));
    if (fresh) {
        std::string body;
        put(body, kEthernet);
        put(body, std::uint16_t{0});
        put(body, std::uint32_t{0});  // no limit
        option(body, 2, port);
        option(body, 9, std::string(1, '\x09'));  // timestamps in 10^-9 s
        end_options(body);
        block(kInterface, body);
    }
    std::string body;
    put(body, place->second);
    put(body, static_cast<std::uint32_t>(time_ns >> 32));
    put(body, static_cast<std::uint32_t>(time_ns));
    put(body, static_cast<std::uint32_t>(data.size()));
    put(body, bytes);
    body += data;
    pad(body);
    option(body, 1, comment);
    std::string flags;
    put(flags, std::uint32_t{outbound ? 2U : 1U});
    option(body, 2, flags);
    end_options(body);
    block(kEnhancedPacket, body);
}

}  // namespace ivds::cli
