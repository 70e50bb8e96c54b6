// SPDX-License-Identifier: Apache-2.0
// frame.h -- a frame as the walk of verify.h carries it: the addresses, a stack of tags, and what a NIC's filters or
// a limit of size could look at behind them. Nothing on the way changes anything but the tags.
#pragma once

#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "loader/tables.h"

namespace ivds::offload::verify {

inline constexpr std::uint16_t tpid_c = 0x8100;
inline constexpr std::uint16_t tpid_s = 0x88a8;
inline constexpr std::uint16_t tpid_q = 0x9100;

struct Tag {
    std::uint16_t tpid = 0;
    std::uint16_t tci = 0;
    [[nodiscard]] std::uint16_t vid() const { return tci & 0xfff; }
    [[nodiscard]] std::uint16_t pcp() const { return tci >> 13; }
    auto operator<=>(const Tag&) const = default;
};

// From the outside in. No way through a NIC and software adds more than there is room for.
class Tags {
public:
    static constexpr unsigned room = 8;
    Tags() = default;
    Tags(std::initializer_list<Tag> tags) {
        for (const Tag& tag : tags) insert(size_, tag);
    }
    [[nodiscard]] unsigned size() const { return size_; }
    [[nodiscard]] bool empty() const { return size_ == 0; }
    [[nodiscard]] const Tag& operator[](unsigned at) const { return tags_[at]; }
    [[nodiscard]] Tag& operator[](unsigned at) { return tags_[at]; }
    void insert(unsigned at, Tag tag) {
        for (unsigned i = size_; i > at; --i) tags_[i] = tags_[i - 1];
        tags_[at] = tag;
        ++size_;
    }
    void erase(unsigned at) {
        for (unsigned i = at; i + 1 < size_; ++i) tags_[i] = tags_[i + 1];
        tags_[--size_] = {};
    }
    auto operator<=>(const Tags&) const = default;

private:
    std::array<Tag, room> tags_{};
    unsigned size_ = 0;
};

// What is behind the tags. Ports and the rest are of IPv4.
struct Payload {
    std::uint16_t ethertype = 0x88b5;  // for local experiments: no filter is for it unless the class says so
    unsigned l3_bytes = 46;
    bool is_ipv4 = false;
    std::uint32_t source = 0, destination = 0;  // the first byte on the wire is the lowest
    std::uint8_t protocol = 0;
    std::uint16_t source_port = 0, destination_port = 0;
    bool syn = false;  // of TCP

    [[nodiscard]] bool is_syn() const { return syn && protocol == 6; }
    [[nodiscard]] bool has_ports() const { return protocol == 6 || protocol == 17 || protocol == 132; }
    bool operator==(const Payload&) const = default;
};

struct Frame {
    Mac dst{};
    Mac src{};
    Tags tags{};
    Payload payload{};

    [[nodiscard]] bool is_broadcast() const {
        for (const std::uint8_t byte : dst)
            if (byte != 0xff) return false;
        return true;
    }
    [[nodiscard]] bool is_unicast() const { return (dst[0] & 1U) == 0; }
    [[nodiscard]] bool is_multicast() const { return !is_unicast() && !is_broadcast(); }
    [[nodiscard]] unsigned size() const { return 14 + 4 * tags.size() + payload.l3_bytes; }  // without CRC
    bool operator==(const Frame&) const = default;
};

[[nodiscard]] constexpr std::uint64_t number(const Mac& mac) {
    std::uint64_t value = 0;
    for (const std::uint8_t byte : mac) value = value << 8 | byte;
    return value;
}

// As on the wire, without CRC.
[[nodiscard]] std::vector<std::uint8_t> bytes(const Frame& frame);
// The other way: tags of all TPIDs that are known here count as tags, as many as there is room for. At least 14
// bytes.
[[nodiscard]] Frame parse(std::span<const std::uint8_t> bytes);
// The same bytes with these tags instead of those that parse() finds.
[[nodiscard]] std::vector<std::uint8_t> with_tags(std::span<const std::uint8_t> bytes, const Tags& tags);
[[nodiscard]] std::string text(const Tags& tags);
[[nodiscard]] std::string text(const Frame& frame);

// What decided, in words, in the order in which it was asked; nothing is noted where there is no trail.
using Trail = std::vector<std::string>;

template <class... Args>
void note(Trail* trail, fmt::format_string<Args...> words, Args&&... args) {
    if (trail != nullptr) trail->push_back(fmt::format(words, std::forward<Args>(args)...));
}

}  // namespace ivds::offload::verify
