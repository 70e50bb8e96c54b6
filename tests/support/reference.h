// SPDX-License-Identifier: Apache-2.0
// reference.h -- the reference switch: what the switch does with a frame, written to be read, with no thought
// of speed. The programs of bpf/ are judged by it; it shares no code with them but the layout in abi.h.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <utility>
#include <vector>

#include "reference_acl.h"
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
    std::uint16_t pcp = 0;
    bool dei = false;
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
        std::uint32_t port = 0;         // it came in by
        Bytes bytes{};                  // as it came in
        Bytes inner{};                  // as the VM sees it: without the tags of the wire or of a trunk
        std::ptrdiff_t trunk_tags = 0;  // 1: `port` is a vPort behind that of a trunk
        std::uint16_t pcp = 0;          // of the tags that it gets
        bool is_plain = false;          // it came from the wire without a V.VLAN
        Parsed parsed{};                // of `bytes`
        std::vector<Tag> guest_tags{};
        std::uint32_t l3_bytes = 0;  // without Ethernet header and tags; of one segment
        Gso gso{};
        std::uint32_t in_instance = 0;  // that it came in by
        std::uint16_t peer_vlan = 0;    // from the wire: the outer VLAN that its sender is on
        std::uint32_t in_port = 0;      // that it came in by in the instance where it is now: `port`, or a patch
    };

    // What a vPort remembers of a flow; where it is no connection, only that it has an entry.
    struct Connection {
        ivds_way opener = IVDS_WAY_IN;
        AclVerdict verdict{};
        bool is_closing = false;
        std::set<ivds_way> fins{};
    };
    using Flows = std::map<std::pair<std::uint32_t, FlowName>, std::optional<Connection>>;  // by port and flow

    // The vPort behind the first tag of a trunk's frame, if there is one.
    [[nodiscard]] std::optional<std::uint32_t> behind_trunk(std::uint32_t port, const Parsed& parsed) const;
    // Whether a member of the instance can be sent to.
    [[nodiscard]] bool is_member(std::uint32_t port, std::uint32_t instance) const;
    void come_in(std::uint32_t port, const Bytes& bytes, const Gso& gso);
    void from_vport(Frame& frame);
    // What an inspector says; what it lets pass goes on.
    void from_inspector(std::uint32_t id, const Bytes& bytes);
    // Sends the frame, with these bytes, to the inspector of the vPort at its end.
    enum class Inspected { goes_on, is_gone, is_refused };
    Inspected inspect(const Frame& frame, std::uint32_t port, ivds_way way, const Bytes& bytes);
    void from_uplink(Frame& frame);
    [[nodiscard]] bool goes_on(const Frame& frame, std::uint32_t id, const ivds_fdb_entry& entry) const;
    // `frame` as the instance knows that it is in now, at `frame.in_port`.
    void forward_from_vport(const Frame& frame);
    // To the target of a rule: a vPort, one of a pool, or through a patch.
    void forward_redirected(Frame& frame, std::uint32_t target);
    void through_patch(Frame& frame, std::uint32_t out);
    // The outcome of the frame under way, with the tables as it left them.
    [[nodiscard]] Outcome told();
    // Where the frame asks for an address that the switch answers for: the answer.
    [[nodiscard]] std::optional<Bytes> answer(const Frame& frame, std::uint32_t instance) const;
    [[nodiscard]] bool is_up(std::uint32_t port) const;
    void forward_from_wire(const Frame& frame, std::uint32_t instance);
    bool send_to_member(const Frame& frame, std::uint32_t instance, std::uint32_t member, bool is_flood);
    // One copy for the wire: its outer VLAN, and its V.VLAN or 0 for a plain host.
    struct WireTags {
        std::uint16_t vlan = 0;
        std::uint16_t vvlan = 0;
    };
    bool send_to_wire(const Frame& frame, std::uint32_t instance, const std::vector<WireTags>& copies,
                      bool is_unicast);
    std::size_t copies_sent_ = 0;  // by the last send_to_wire()
    // What the vPort's lists and connections say of a frame; counts for the rule and the flow. A frame that is
    // `passing` leaves nothing behind: a copy of a flood, or at a patch. nullopt: a new connection finds no room.
    std::optional<AclVerdict> ask(const Frame& frame, std::uint32_t port, ivds_way way, bool is_passing);
    // The same without counting.
    std::optional<AclVerdict> decide(const Frame& frame, std::uint32_t port, ivds_way way, bool is_passing);
    [[nodiscard]] std::uint32_t flows_of(std::uint32_t port) const;
    // Whether the vPort's rate that way is used up: the rates of a World let one frame pass (World::rate).
    bool is_over(std::uint32_t port, ivds_way way);
    // The same of the instance's peers on an outer VLAN (World::peer_rate).
    bool is_peer_over(std::uint32_t instance, std::uint16_t vlan, ivds_way way);
    // The same for a frame of the instance about to be sent to `egress`, if that is the uplink to the VLAN, or, 0, in
    // copies; drops it at the port whose rate it is.
    bool drop_over_rate(const Frame& frame, std::uint32_t egress, std::uint32_t instance = 0, std::uint16_t vlan = 0);
    void learn(const Frame& frame, std::uint32_t instance, std::uint16_t vlan);
    void accept(const Frame& frame, std::uint32_t instance, __u64 ivds_port_stats::* path);

    void drop(const Frame& frame, std::uint32_t port, ivds_drop reason);
    void miss(const Frame& frame, const VvlanKey& key);
    void event(ivds_event_kind kind, const Frame& frame, std::uint32_t other_port, std::uint32_t instance);
    void event_of_flow(ivds_event_kind kind, std::uint32_t port, std::uint32_t instance, std::uint32_t rule);
    [[nodiscard]] std::uint64_t packets(const Frame& frame) const;
    [[nodiscard]] std::uint64_t bytes(const Frame& frame, std::size_t frame_length) const;

    World world_;
    std::size_t fdb_capacity_;
    std::set<std::pair<std::uint32_t, std::uint32_t>> told_;  // {port, kind}: events of this second
    Outcome outcome_;                                         // of the frame under way
    Flows flows_;
    std::uint32_t last_rule_ = 0;  // that decided, and …
    bool was_asked_ = false;       // … whether there were any, when a vPort was last asked
    // As the frame under way left them where it came in.
    Flows flows_before_egress_;
    std::vector<std::string> events_before_egress_;
    std::set<std::pair<std::uint32_t, std::uint32_t>> told_before_egress_;
    std::map<std::uint32_t, ivds_inspector> inspectors_, inspectors_before_;  // and before the frame under way
    std::uint32_t inspected_by_ = 0;                                          // on its way in
    bool is_inspected_ = false;  // there is an inspector where it goes out
    // Rates, {port, 0, way} and {instance, VLAN, way}; and before the frame under way.
    std::set<std::array<std::uint32_t, 3>> used_up_, used_up_before_;
    bool is_over_of_tc_ = false;  // it was dropped over a rate, and is none that XDP sends
    bool needs_tc_ = false;       // the frame under way: no V.VLAN on the wire, or to a vPort behind a trunk
};

}  // namespace ivds::test
