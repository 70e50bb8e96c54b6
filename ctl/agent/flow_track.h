// SPDX-License-Identifier: Apache-2.0
// flow_track.h -- which records the flow table gives an exporter: what each entry counted since it was last told,
// when it goes on for long, when it is idle, and when it is gone. Pure: entries and the clock come from the caller.
//
// The table is looked at now and then. An entry outlives its last frame by at least IVDS_FLOW_CLOSING_S, so that
// looks closer together than that miss none but those that are flushed.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <unordered_map>

#include "loader/switch.h"

namespace ivds {

// By the numbers of IPFIX's flowEndReason.
enum class FlowEnd : std::uint8_t { idle = 1, active = 2, closed = 3, forced = 4 };

// What one way of a flow counted in a time.
struct FlowRecord {
    ivds_flow_key key{};   // as the vPort's VM sends; the frames that went to it have both ends exchanged
    std::uint8_t way = 0;  // enum ivds_way
    FlowEnd end = FlowEnd::active;
    std::uint8_t action = 0;   // enum ivds_acl_action
    std::uint32_t target = 0;  // IVDS_ACL_REDIRECT: port id
    std::uint64_t packets = 0;
    std::uint64_t bytes = 0;
    std::uint64_t start_ns = 0;  // CLOCK_MONOTONIC
    std::uint64_t end_ns = 0;
    std::uint16_t vlan = 0;  // of its instance
    std::uint16_t vvlan = 0;
};

// Whether the flow is one of the one in `n`. Both ends of a flow, and both of its entries where it is between two
// vPorts, have the same answer.
[[nodiscard]] bool is_sampled(const ivds_flow_key& key, std::uint32_t n);

class FlowTracker {
public:
    using Sink = std::function<void(const FlowRecord&)>;

    // What entries counted before `now_ns` is not told.
    explicit FlowTracker(std::uint64_t now_ns) : looked_ns_(now_ns), now_ns_(now_ns) {}

    // One look: begin(), see() each entry that is watched, and end(), which tells those that are gone. A look that
    // could not be finished is not ended.
    void begin(std::uint64_t now_ns, std::uint32_t active_timeout_s);
    void see(const FlowRow& row, std::uint16_t vlan, std::uint16_t vvlan, const Sink& sink);
    void end(const Sink& sink);
    // Tells all that is not told yet, and forgets it.
    void finish(const Sink& sink);

    [[nodiscard]] std::size_t size() const { return known_.size(); }

private:
    struct Count {
        std::uint64_t packets = 0;
        std::uint64_t bytes = 0;
    };
    struct Known {
        Count counted[2];  // when it was last seen
        Count told[2];
        std::uint64_t seen_ns = 0;   // of its last frame
        std::uint64_t start_ns = 0;  // of the next record
        std::uint64_t told_ns = 0;   // when it was last told
        std::uint32_t since_s = 0;
        std::uint32_t target = 0;
        std::uint16_t vlan = 0;
        std::uint16_t vvlan = 0;
        std::uint8_t action[2] = {0, 0};
        std::uint8_t state = 0;
        std::uint8_t look = 0;  // when it was last seen
    };
    struct Hash {
        std::size_t operator()(const ivds_flow_key& key) const;
    };
    struct Equal {
        bool operator()(const ivds_flow_key& a, const ivds_flow_key& b) const;
    };
    void tell_way(const ivds_flow_key& key, Known& flow, unsigned way, FlowEnd end, const Sink& sink) const;
    void tell(const ivds_flow_key& key, Known& flow, FlowEnd end, const Sink& sink) const;
    [[nodiscard]] FlowEnd end_of(const ivds_flow_key& key, const Known& flow) const;

    std::unordered_map<ivds_flow_key, Known, Hash, Equal> known_;
    std::uint64_t looked_ns_;  // when the look before began
    std::uint64_t now_ns_;
    std::uint64_t active_ns_ = 0;
    std::uint8_t look_ = 0;
};

}  // namespace ivds
