// SPDX-License-Identifier: Apache-2.0
// packet.h -- frames as bytes, and a builder that joins layers: eth(dst, src) / tag(0x8100, 10) / ip4_udp(64).
// Each layer writes its EtherType into the place that the layer before it left open.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace ivds::test {

using Bytes = std::vector<std::uint8_t>;
using Mac = std::array<std::uint8_t, 6>;  // wire order

inline constexpr std::uint16_t tpid_c = 0x8100;  // customer tag (802.1Q)
inline constexpr std::uint16_t tpid_s = 0x88a8;  // service tag (802.1ad)
inline constexpr std::uint16_t tpid_q = 0x9100;  // the older QinQ tag
inline constexpr std::uint16_t type_llc = 0;     // the place of the EtherType holds an 802.3 length

// An EtherType and what follows it. A tag ends in the two bytes where the next layer's EtherType goes.
struct Layer {
    std::uint16_t ethertype = 0;
    Bytes bytes{};
};

class Packet {
public:
    explicit Packet(const Mac& dst, const Mac& src);
    Packet operator/(const Layer& layer) const;
    // The frame cut, or grown with zeros, to this length.
    [[nodiscard]] Packet sized(std::size_t length) const;
    operator Bytes() const { return bytes_; }  // NOLINT(google-explicit-constructor): a packet is its bytes
    [[nodiscard]] std::size_t size() const { return bytes_.size(); }

private:
    Bytes bytes_;
};

[[nodiscard]] Packet eth(const Mac& dst, const Mac& src);
// A VLAN tag. The VID's 12 bits and, above them, drop eligibility and priority.
[[nodiscard]] Layer tag(std::uint16_t tpid, std::uint16_t vid, std::uint8_t pcp = 0, bool dei = false);
[[nodiscard]] Layer raw(std::uint16_t ethertype, std::size_t length, std::uint8_t fill = 0xa5);
[[nodiscard]] Layer raw(std::uint16_t ethertype, Bytes bytes);
[[nodiscard]] Layer arp_request(const Mac& sender);
[[nodiscard]] Layer ip4_udp(std::size_t l3_length);  // valid IPv4 header and checksum, at least 28 bytes
[[nodiscard]] Layer ip4_tcp(std::size_t l3_length);  // at least 40 bytes
[[nodiscard]] Layer ip4_tcp(std::size_t l3_length, std::uint8_t flags);
[[nodiscard]] Layer ip4_echo(std::uint8_t type, std::uint16_t identifier);  // 8: request, 0: reply
[[nodiscard]] Layer ip6_neighbour_solicitation();
// From fe80::1 to ff02::1:ff00:2, about fe80::`target`; 135: solicitation, 136: advertisement, 137: redirect.
[[nodiscard]] Layer ip6_neighbour(std::uint8_t type, std::uint8_t target);
// fe80::1 looks for fe80::`target`, and says its MAC.
[[nodiscard]] Layer ip6_question(const Mac& asker, std::uint8_t target);
// From the router 10.0.0.9: "fragmentation needed" about the datagram that `frame` holds, to who sent it.
[[nodiscard]] Bytes icmp_error_about(const Bytes& frame);
// The frame that answers an untagged one: MACs, addresses and ports exchanged, an echo request made a reply.
[[nodiscard]] Bytes answer_to(const Bytes& frame);
[[nodiscard]] Layer llc_stp();  // 802.3 length, LLC and a configuration BPDU
[[nodiscard]] Layer pause();    // MAC control, opcode 1
[[nodiscard]] Layer pfc();      // MAC control, opcode 0x101
[[nodiscard]] Layer lldp();
[[nodiscard]] Layer lacp();
[[nodiscard]] Layer eapol();

// 0x02005e000001 is 02:00:5e:00:00:01.
[[nodiscard]] constexpr Mac mac(std::uint64_t value) {
    Mac out{};
    for (auto byte = out.rbegin(); byte != out.rend(); ++byte, value >>= 8U) {
        *byte = static_cast<std::uint8_t>(value & 0xffU);
    }
    return out;
}
[[nodiscard]] std::string to_hex(const Bytes& bytes);
[[nodiscard]] Bytes from_hex(const std::string& text);  // throws std::invalid_argument
[[nodiscard]] std::string to_text(const Mac& mac);

}  // namespace ivds::test
