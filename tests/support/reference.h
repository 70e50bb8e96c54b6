// SPDX-License-Identifier: Apache-2.0
// reference.h -- the reference switch: what the switch does with a frame, written to be read, with no thought
// of speed. The programs of bpf/ are judged by it; it shares no code with them but the layout in abi.h.
#pragma once

#include <cstdint>
#include <set>
#include <utility>
#include <vector>

#include "world.h"

namespace ivds::test {

// A frame that stands for several: what segmentation offload hands over as one.
struct Gso {
    std::uint32_t segments = 0;  // 0: an ordinary frame
    std::uint32_t size = 0;      // payload of a full segment
    std::uint32_t headers = 0;   // L3 and L4 headers of each segment
};

struct Tag {
    std::uint16_t tpid = 0;
    std::uint16_t vid = 0;
};

// The part of a frame that switching looks at: addresses and up to three tags.
struct Parsed {
    bool truncated = false;  // it ends inside its Ethernet header or inside a tag
    Mac dst{};
    Mac src{};
    std::vector<Tag> tags;
    std::uint16_t ethertype = 0;  // after the parsed tags
};
[[nodiscard]] Parsed parse(const Bytes& frame);

class ReferenceSwitch {
public:
    explicit ReferenceSwitch(World world, std::size_t fdb_capacity = IVDS_MAX_FDB);

    // What the switch as a whole does with a frame that comes in by `port`.
    [[nodiscard]] Outcome forward(std::uint32_t port, const Bytes& frame, const Gso& gso = {});
    // What XDP does where TC is not attached: it forwards known unicast to redirect targets and drops the rest.
    [[nodiscard]] Outcome forward_by_xdp_alone(std::uint32_t port, const Bytes& frame);
    [[nodiscard]] const World& world() const { return world_; }

private:
    // One frame under way: what it is, and what it has done so far.
    struct Frame {
        std::uint32_t port = 0;  // it came in by
        Bytes bytes{};           // as it came in
        Bytes inner{};           // as the VM sees it: without the tags of the wire
        bool is_plain = false;   // it came from the wire without a V.VLAN
        Parsed parsed{};         // of `bytes`
        std::vector<Tag> guest_tags{};
        std::uint32_t l3_bytes = 0;  // without Ethernet header and tags; of one segment
        Gso gso{};
    };

    void from_vport(Frame& frame);
    void from_uplink(Frame& frame);
    void forward_from_vport(const Frame& frame);
    void forward_from_wire(const Frame& frame, std::uint32_t instance);
    bool send_to_member(const Frame& frame, std::uint32_t instance, std::uint32_t member);
    // One copy for the wire: its outer VLAN, and its V.VLAN or 0 for a plain host.
    struct WireTags {
        std::uint16_t vlan = 0;
        std::uint16_t vvlan = 0;
    };
    bool send_to_wire(const Frame& frame, std::uint32_t instance, const std::vector<WireTags>& copies);
    // Whether the list lets the frame pass; counts for the rule that decided, as `frame_length` bytes.
    bool passes(const Frame& frame, std::uint32_t acl, std::size_t frame_length);
    void learn(const Frame& frame, std::uint32_t instance, std::uint16_t vlan);
    void accept(const Frame& frame, std::uint32_t instance, __u64 ivds_port_stats::* path);

    void drop(const Frame& frame, std::uint32_t port, ivds_drop reason);
    void miss(const Frame& frame, const VvlanKey& key);
    void event(ivds_event_kind kind, const Frame& frame, std::uint32_t other_port, std::uint32_t instance);
    [[nodiscard]] std::uint64_t packets(const Frame& frame) const;
    [[nodiscard]] std::uint64_t bytes(const Frame& frame, std::size_t frame_length) const;

    World world_;
    std::size_t fdb_capacity_;
    std::set<std::pair<std::uint32_t, std::uint32_t>> told_;  // {port, kind}: events of this second
    Outcome outcome_;                                         // of the frame under way
    bool is_plain_ = false;  // the frame under way came from the wire, or goes there, without a V.VLAN
};

}  // namespace ivds::test
