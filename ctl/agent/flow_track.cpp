// SPDX-License-Identifier: Apache-2.0
#include "agent/flow_track.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "agent/flow_view.h"

namespace ivds {
namespace {

constexpr std::uint64_t kSecondNs = 1'000'000'000;

std::uint64_t mixed(std::uint64_t hash, std::uint64_t word) {
    hash = (hash ^ word) * 0x9e3779b97f4a7c15ULL;
    return hash ^ hash >> 29;
}

// One end of a flow.
std::uint64_t end_hash(const std::uint8_t (&mac)[6], const std::uint8_t (&address)[16], std::uint16_t port) {
    std::array<std::uint64_t, 3> words{};
    std::memcpy(words.data(), address, sizeof(address));
    std::memcpy(words.data() + 2, mac, sizeof(mac));
    words[2] |= std::uint64_t{port} << 48;
    std::uint64_t hash = 0;
    for (const std::uint64_t word : words) hash = mixed(hash, word);
    return hash;
}

// A connection stands under what let its first frame pass.
std::uint8_t action_of(const ivds_flow& flow, unsigned way) {
    return flow.way[flow.state == IVDS_FLOW_VERDICT ? way : flow.opener & 1U].action;
}

}  // namespace

bool is_sampled(const ivds_flow_key& key, std::uint32_t n) {
    if (n <= 1) return true;
    const ivds_fields& f = key.fields;
    std::uint64_t hash = end_hash(f.src_mac, f.src, f.sport_be) + end_hash(f.dst_mac, f.dst, f.dport_be);
    hash = mixed(hash, std::uint64_t{key.instance} << 24 | std::uint64_t{f.proto} << 16 | f.type_be);
    return (hash ^ hash >> 32) % n == 0;
}

std::size_t FlowTracker::Hash::operator()(const ivds_flow_key& key) const {
    static_assert(sizeof(key) % sizeof(std::uint64_t) == 0);
    std::array<std::uint64_t, sizeof(key) / sizeof(std::uint64_t)> words{};
    std::memcpy(words.data(), &key, sizeof(key));
    std::uint64_t hash = 0;
    for (const std::uint64_t word : words) hash = mixed(hash, word);
    return hash;
}

bool FlowTracker::Equal::operator()(const ivds_flow_key& a, const ivds_flow_key& b) const {
    return std::memcmp(&a, &b, sizeof(a)) == 0;
}

void FlowTracker::tell_way(const ivds_flow_key& key, Known& flow, unsigned way, FlowEnd end, const Sink& sink) const {
    const Count& counted = flow.counted[way];
    Count& told = flow.told[way];
    if (counted.packets <= told.packets) return;
    FlowRecord record;
    record.key = key;
    record.way = static_cast<std::uint8_t>(way);
    record.end = end;
    record.action = flow.action[way];
    record.target = way == IVDS_WAY_IN && record.action == IVDS_ACL_REDIRECT ? flow.target : 0;
    record.packets = counted.packets - told.packets;
    record.bytes = counted.bytes - std::min(told.bytes, counted.bytes);
    record.start_ns = std::min(flow.start_ns, flow.seen_ns);
    record.end_ns = flow.seen_ns;
    record.vlan = flow.vlan;
    record.vvlan = flow.vvlan;
    told = counted;
    sink(record);
}

void FlowTracker::tell(const ivds_flow_key& key, Known& flow, FlowEnd end, const Sink& sink) const {
    for (const unsigned way : {IVDS_WAY_IN, IVDS_WAY_OUT}) tell_way(key, flow, way, end, sink);
    flow.start_ns = flow.seen_ns;
    flow.told_ns = now_ns_;
}

// Why a flow that is not in the table any more, or counts as gone, is over.
FlowEnd FlowTracker::end_of(const ivds_flow_key& key, const Known& flow) const {
    if (flow.state == IVDS_FLOW_CLOSING) return FlowEnd::closed;
    ivds_flow entry{};
    entry.state = flow.state;
    const std::uint64_t limit_ns = flow_timeout_s(key, entry) * kSecondNs;
    return now_ns_ > flow.seen_ns && now_ns_ - flow.seen_ns > limit_ns ? FlowEnd::idle : FlowEnd::forced;
}

void FlowTracker::begin(std::uint64_t now_ns, std::uint32_t active_timeout_s) {
    looked_ns_ = std::exchange(now_ns_, now_ns);
    active_ns_ = active_timeout_s * kSecondNs;
    ++look_;
}

void FlowTracker::see(const FlowRow& row, std::uint16_t vlan, std::uint16_t vvlan, const Sink& sink) {
    const auto [place, is_new] = known_.try_emplace(row.key);
    Known& flow = place->second;
    bool fresh = is_new;
    // One that went and came back between two looks.
    if (!fresh && flow.since_s != row.flow.since_s) {
        tell(row.key, flow, end_of(row.key, flow), sink);
        flow = {};
        fresh = true;
    }
    if (fresh) {
        flow.since_s = row.flow.since_s;
        flow.start_ns = flow.told_ns = row.flow.since_s * kSecondNs;
        // What was there before anybody looked counts from now on. Entries know the second that they came in.
        if ((row.flow.since_s + 1U) * kSecondNs < looked_ns_) {
            for (const unsigned way : {IVDS_WAY_IN, IVDS_WAY_OUT})
                flow.counted[way] = flow.told[way] = {row.flow.way[way].packets, row.flow.way[way].bytes};
            flow.start_ns = flow.told_ns = now_ns_;
        }
    }
    for (const unsigned way : {IVDS_WAY_IN, IVDS_WAY_OUT}) {
        const std::uint8_t action = action_of(row.flow, way);
        if (!fresh && flow.action[way] != action) tell_way(row.key, flow, way, FlowEnd::active, sink);
        flow.action[way] = action;
        flow.counted[way] = {row.flow.way[way].packets, row.flow.way[way].bytes};
    }
    flow.target = row.flow.way[IVDS_WAY_IN].target;
    flow.state = row.flow.state;
    flow.seen_ns = row.flow.last_seen_ns;
    flow.vlan = vlan;
    flow.vvlan = vvlan;
    flow.look = look_;
    const FlowEnd end = end_of(row.key, flow);
    if (end == FlowEnd::idle)
        tell(row.key, flow, end, sink);
    else if (now_ns_ >= flow.told_ns + active_ns_)
        tell(row.key, flow, FlowEnd::active, sink);
}

void FlowTracker::end(const Sink& sink) {
    for (auto at = known_.begin(); at != known_.end();) {
        if (at->second.look == look_) {
            ++at;
            continue;
        }
        tell(at->first, at->second, end_of(at->first, at->second), sink);
        at = known_.erase(at);
    }
}

void FlowTracker::finish(const Sink& sink) {
    for (auto& [key, flow] : known_) tell(key, flow, FlowEnd::forced, sink);
    known_.clear();
}

}  // namespace ivds
