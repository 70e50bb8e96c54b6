// SPDX-License-Identifier: Apache-2.0
#include "reference.h"

#include <fmt/format.h>

#include <algorithm>
#include <ranges>
#include <string>

#include "reference_acl.h"

namespace ivds::test {

namespace {

constexpr std::uint32_t now_s = long_ago_s + 1;
constexpr std::size_t ethernet_bytes = 14;
constexpr std::size_t tag_bytes = 4;
constexpr std::uint16_t mac_control = 0x8808;

std::uint16_t get16(const Bytes& bytes, std::size_t at) {
    return static_cast<std::uint16_t>(bytes.at(at) << 8U | bytes.at(at + 1));
}

std::uint16_t host_order(std::uint16_t big_endian) {
    return static_cast<std::uint16_t>(big_endian >> 8U | big_endian << 8U);
}

bool is_tpid(std::uint16_t ethertype) {
    return ethertype == tpid_c || ethertype == tpid_s || ethertype == tpid_q;
}
bool is_multicast(const Mac& mac) {
    return (mac[0] & 1U) != 0;
}
bool is_zero(const Mac& mac) {
    return mac == Mac{};
}
bool is_static(const ivds_fdb_entry& entry) {
    return (entry.flags & IVDS_FDB_STATIC) != 0;
}
bool is_bad_source(const Mac& mac) {
    return is_multicast(mac) || is_zero(mac);
}

// 01:80:C2:00:00:00 to :0F, which no bridge forwards.
bool is_link_local(const Mac& mac) {
    return std::equal(mac.begin(), mac.begin() + 5, Mac{0x01, 0x80, 0xc2, 0, 0, 0}.begin()) && mac[5] <= 0x0f;
}

bool has_guest_vlan(const std::vector<Tag>& tags) {
    return std::ranges::any_of(tags, [](const Tag& tag) { return tag.vid != 0; });
}

bool is_icmp_error(const FlowName& flow) {
    const std::uint8_t type = flow.icmp_type;
    return (flow.ethertype == 0x0800 && flow.proto == 1 && (type == 3 || type == 11 || type == 12)) ||
           (flow.ethertype == 0x86dd && flow.proto == 58 && type >= 1 && type <= 4);
}

// The V.VLAN tag is left out where `vvlan` is 0.
Bytes with_words(const Bytes& frame, const std::vector<std::uint16_t>& words) {
    Bytes out(frame.begin(), frame.begin() + 12);
    for (const std::uint16_t word : words) {
        out.push_back(static_cast<std::uint8_t>(word >> 8U));
        out.push_back(static_cast<std::uint8_t>(word & 0xffU));
    }
    out.insert(out.end(), frame.begin() + 12, frame.end());
    return out;
}

Bytes with_tags(const Bytes& frame, const ivds_port& uplink, std::uint16_t vlan, std::uint16_t vvlan,
                std::uint16_t pcp) {
    const auto tci = [&](std::uint16_t vid) { return static_cast<std::uint16_t>(pcp << 13U | vid); };
    std::vector<std::uint16_t> words = {host_order(uplink.outer_tpid_be), tci(vlan)};
    if (vvlan != 0) {
        words.insert(words.end(), {host_order(uplink.inner_tpid_be), tci(vvlan)});
    }
    return with_words(frame, words);
}

// The frame with another DSCP in the IP header at `at`; `dscp` is as in ivds_port. A sum that was wrong stays wrong
// by as much.
Bytes with_dscp(Bytes frame, std::uint16_t ethertype, std::size_t at, unsigned dscp) {
    const std::size_t left = frame.size() - std::min(frame.size(), at);
    if (dscp-- == 0 || left < 20) {
        return frame;
    }
    if (ethertype == 0x0800 && frame[at] >> 4U == 4) {
        const std::uint16_t before = get16(frame, at);
        frame[at + 1] = static_cast<std::uint8_t>(dscp << 2U | (frame[at + 1] & 3U));
        // RFC 1624, equation 3.
        std::uint32_t sum = (get16(frame, at + 10) ^ 0xffffU) + (before ^ 0xffffU) + get16(frame, at);
        sum = (sum & 0xffffU) + (sum >> 16U);
        sum = ((sum & 0xffffU) + (sum >> 16U)) ^ 0xffffU;
        frame[at + 10] = static_cast<std::uint8_t>(sum >> 8U & 0xffU);
        frame[at + 11] = static_cast<std::uint8_t>(sum & 0xffU);
    } else if (ethertype == 0x86dd && frame[at] >> 4U == 6 && left >= 40) {
        frame[at] = static_cast<std::uint8_t>(0x60U | dscp >> 2U);
        frame[at + 1] = static_cast<std::uint8_t>((dscp & 3U) << 6U | (frame[at + 1] & 0x3fU));
    }
    return frame;
}

std::uint32_t sum_of(const Bytes& bytes, std::size_t from, std::size_t to) {
    std::uint32_t sum = 0;
    for (std::size_t at = from; at < to; at += 2) {
        sum += get16(bytes, at);
    }
    return sum;
}

// Of the ICMPv6 message of 32 bytes behind an IPv6 header at 14, in the 16 bits that a checksum has (RFC 8200 8.1).
std::uint16_t icmp6_sum(const Bytes& frame) {
    std::uint32_t sum = sum_of(frame, 14 + 8, 14 + 72) + 32 + 58;
    sum = (sum & 0xffffU) + (sum >> 16U);
    return static_cast<std::uint16_t>((sum & 0xffffU) + (sum >> 16U));
}

// What a frame asks for, if it is a question in its plainest form.
struct Question {
    Address about{};
    bool is_arp = false;
};
std::optional<Question> question_in(const Bytes& frame) {
    Question question{.is_arp = get16(frame, 12) == 0x0806};
    const auto at = [&](std::size_t offset) { return frame.begin() + static_cast<std::ptrdiff_t>(14 + offset); };
    const auto source = frame.begin() + 6;
    if (question.is_arp) {
        const Bytes request{0, 1, 8, 0, 6, 4, 0, 1};
        if (frame.size() < 14 + 28 || !std::equal(request.begin(), request.end(), at(0)) ||
            !std::equal(source, source + 6, at(8)) || std::equal(at(14), at(18), at(24)) ||
            std::all_of(at(14), at(18), [](std::uint8_t byte) { return byte == 0; })) {
            return std::nullopt;
        }
        question.about[10] = question.about[11] = 0xff;
        std::copy(at(24), at(28), question.about.begin() + 12);
        return question;
    }
    const bool is_solicitation = get16(frame, 12) == 0x86dd && frame.size() >= 14 + 72 && *at(0) >> 4U == 6 &&
                                 get16(frame, 14 + 4) == 32 && *at(6) == 58 && *at(7) == 255 && *at(40) == 135 &&
                                 *at(41) == 0 && *at(64) == 1 && *at(65) == 1;
    if (!is_solicitation || !std::equal(source, source + 6, at(66)) || *at(8) == 0xff ||
        std::all_of(at(8), at(24), [](std::uint8_t byte) { return byte == 0; }) || icmp6_sum(frame) != 0xffff) {
        return std::nullopt;
    }
    std::copy(at(48), at(64), question.about.begin());
    return question;
}

// The answer to it, of who has that MAC.
Bytes answer_of(const Bytes& asked, const Question& question, const Mac& owner) {
    Bytes out = asked;
    const auto at = [&](std::size_t offset) { return out.begin() + static_cast<std::ptrdiff_t>(14 + offset); };
    std::copy_n(asked.begin() + 6, 6, out.begin());
    std::ranges::copy(owner, out.begin() + 6);
    if (question.is_arp) {
        out[14 + 7] = 2;
        std::copy_n(asked.begin() + 14 + 8, 10, at(18));
        std::ranges::copy(owner, at(8));
        std::copy_n(asked.begin() + 14 + 24, 4, at(14));
        return out;
    }
    const Bytes head{0x60, 0, 0, 0};
    std::ranges::copy(head, at(0));
    std::copy_n(asked.begin() + 14 + 8, 16, at(24));
    std::ranges::copy(question.about, at(8));
    const Bytes message{136, 0, 0, 0, 0x40, 0, 0, 0};
    std::ranges::copy(message, at(40));
    out[14 + 64] = 2;
    std::ranges::copy(owner, at(66));
    const std::uint16_t sum = icmp6_sum(out) ^ 0xffffU;
    out[14 + 42] = static_cast<std::uint8_t>(sum >> 8U);
    out[14 + 43] = static_cast<std::uint8_t>(sum & 0xffU);
    return out;
}

Bytes without_tags(const Bytes& frame, std::ptrdiff_t tags) {
    Bytes out = frame;
    out.erase(out.begin() + 12, out.begin() + 12 + tags * static_cast<std::ptrdiff_t>(tag_bytes));
    return out;
}

}  // namespace

Parsed parse(const Bytes& frame) {
    Parsed parsed;
    if (frame.size() < ethernet_bytes) {
        parsed.truncated = true;
        return parsed;
    }
    std::copy_n(frame.begin(), 6, parsed.dst.begin());
    std::copy_n(frame.begin() + 6, 6, parsed.src.begin());
    std::size_t type_at = 12;
    while (parsed.tags.size() < 3 && is_tpid(get16(frame, type_at))) {
        // The tag's two bytes and the EtherType after it have to be there.
        if (frame.size() < type_at + 2 + tag_bytes) {
            parsed.truncated = true;
            return parsed;
        }
        parsed.tags.push_back({get16(frame, type_at), static_cast<std::uint16_t>(get16(frame, type_at + 2) & 0xfffU),
                               static_cast<std::uint16_t>(get16(frame, type_at + 2) >> 13U),
                               (get16(frame, type_at + 2) & 0x1000U) != 0});
        type_at += tag_bytes;
    }
    parsed.ethertype = get16(frame, type_at);
    return parsed;
}

ReferenceSwitch::ReferenceSwitch(World world, std::size_t fdb_capacity)
    : world_(std::move(world)), fdb_capacity_(fdb_capacity) {
    world_.link_members();
}

Outcome ReferenceSwitch::forward(std::uint32_t port, const Bytes& bytes, const Gso& gso) {
    outcome_ = {};
    needs_tc_ = false;
    flows_before_egress_ = flows_;
    events_before_egress_.clear();
    told_before_egress_ = told_;
    used_up_before_ = used_up_;
    is_over_of_tc_ = false;
    inspectors_before_ = inspectors_;
    inspected_by_ = 0;
    is_inspected_ = false;
    const auto at = world_.ports.find(port);
    if (!world_.strangers.contains(port) && at != world_.ports.end() && at->second.kind == IVDS_PORT_INSPECTOR) {
        from_inspector(port, bytes);
    } else {
        come_in(port, bytes, gso);
    }
    return told();
}

void ReferenceSwitch::come_in(std::uint32_t port, const Bytes& bytes, const Gso& gso) {
    Frame frame{.port = port, .bytes = bytes, .parsed = parse(bytes), .gso = gso, .in_port = port};
    if (const auto behind = behind_trunk(port, frame.parsed)) {
        frame.port = frame.in_port = *behind;
        frame.trunk_tags = 1;
    }
    if (world_.strangers.contains(port)) {
        outcome_.sent.push_back({to_host, bytes});
    } else if (world_.ports.at(port).kind == IVDS_PORT_NONE) {
        drop(frame, port, IVDS_DROP_NO_PORT);
    } else if (frame.parsed.truncated) {
        drop(frame, port, IVDS_DROP_TRUNCATED);
    } else if (world_.ports.at(port).kind == IVDS_PORT_UPLINK) {
        from_uplink(frame);
    } else if (const auto result = inspect(frame, frame.port, IVDS_WAY_IN, bytes); result == Inspected::goes_on) {
        from_vport(frame);
    } else if (result == Inspected::is_refused) {
        drop(frame, frame.port, IVDS_DROP_INSPECTOR);
    }
}

ReferenceSwitch::Inspected ReferenceSwitch::inspect(const Frame& frame, std::uint32_t port, ivds_way way,
                                                    const Bytes& bytes) {
    const std::uint32_t id = world_.ports.at(port).inspector;
    if (id == 0 || id == inspected_by_) {
        return Inspected::goes_on;
    }
    const ivds_port& inspector = world_.ports.at(id);
    ivds_inspector& state = inspectors_[id];
    const auto count = [&](const char* what) {
        outcome_.counts[fmt::format("inspector {} {}", id, what)] += packets(frame);
    };
    if ((inspector.flags & IVDS_PF_UP) != 0 && world_.listening.contains(id) &&
        state.sent - state.answered < inspector.queue) {
        state.sent += packets(frame);
        count("sent");
        outcome_.sent.push_back(
            {id, with_words(bytes, {IVDS_TYPE_INSPECTION, static_cast<std::uint16_t>(port),
                                    static_cast<std::uint16_t>(way << 8U),
                                    static_cast<std::uint16_t>(state.sent & IVDS_SEQUENCE_MASK)})});
        return Inspected::is_gone;
    }
    if ((inspector.flags & IVDS_PF_FAIL_OPEN) == 0) {
        count("refused");
        return Inspected::is_refused;
    }
    count("uninspected");
    if (way == IVDS_WAY_IN) {
        inspected_by_ = id;
    }
    return Inspected::goes_on;
}

void ReferenceSwitch::from_inspector(std::uint32_t id, const Bytes& bytes) {
    constexpr std::size_t inspection_bytes = 8;
    const auto drop_at = [&](std::uint32_t port, ivds_drop reason, std::size_t length) {
        add_counts(outcome_.counts, fmt::format("drop {} {}", port, drop_name(reason)),
                   ivds_count{.packets = 1, .bytes = length});
    };
    if (bytes.size() < 12 + inspection_bytes || get16(bytes, 12) != IVDS_TYPE_INSPECTION) {
        return drop_at(id, IVDS_DROP_FORGED, bytes.size());
    }
    world_.listening.insert(id);
    const std::uint8_t verdict = bytes[17];
    if (verdict == IVDS_INSPECT_HELLO) {
        return;
    }
    const std::uint32_t port = get16(bytes, 14);
    const auto found = world_.ports.find(port);
    if (found == world_.ports.end() || port == id || found->second.inspector != id) {
        return drop_at(id, IVDS_DROP_FORGED, bytes.size());
    }
    ivds_inspector& state = inspectors_[id];
    for (std::uint64_t sequence = state.answered + 1; sequence <= state.sent; ++sequence) {
        if (((sequence ^ get16(bytes, 18)) & IVDS_SEQUENCE_MASK) == 0) {
            outcome_.counts[fmt::format("inspector {} answered", id)] += sequence - state.answered;
            state.answered = sequence;
            break;
        }
    }
    const std::size_t length = bytes.size() - inspection_bytes;
    if (verdict != IVDS_INSPECT_PASS) {
        ++outcome_.counts[fmt::format("inspector {} blocked", id)];
        return drop_at(port, IVDS_DROP_BLOCKED, length);
    }
    if (length < ethernet_bytes) {
        return drop_at(port, IVDS_DROP_TAG_FAILED, length);
    }
    const Bytes frame = without_tags(bytes, 2);
    Parsed parsed = parse(frame);
    if (parsed.truncated) {
        return drop_at(port, IVDS_DROP_TRUNCATED, length);
    }
    const ivds_port& value = found->second;
    const std::uint32_t carrier = value.kind == IVDS_PORT_SUB ? value.peer : port;
    if (behind_trunk(carrier, parsed).value_or(carrier) != port) {
        return drop_at(id, IVDS_DROP_FORGED, length);
    }
    if ((bytes[16] & 1U) == IVDS_WAY_OUT) {
        if (value.kind == IVDS_PORT_SUB) {
            parsed.tags.erase(parsed.tags.begin());
        }
        const std::size_t l3_bytes =
            length - ethernet_bytes - tag_bytes * (parsed.tags.size() + (value.kind == IVDS_PORT_SUB ? 1 : 0));
        if (!is_member(port, value.instance)) {
            return drop_at(port, IVDS_DROP_PORT_DOWN, length);
        }
        if (has_guest_vlan(parsed.tags) && (value.flags & IVDS_PF_CARRY_TAGS) == 0) {
            return drop_at(port, IVDS_DROP_GUEST_TAG_OUT, length);
        }
        if (l3_bytes > value.mtu_bytes) {
            return drop_at(port, IVDS_DROP_OVERSIZE_OUT, length);
        }
        ++outcome_.counts[fmt::format("inspector {} passed", id)];
        outcome_.sent.push_back({carrier, frame});
        return;
    }
    ++outcome_.counts[fmt::format("inspector {} passed", id)];
    inspected_by_ = id;
    come_in(carrier, frame, {});
}

Outcome ReferenceSwitch::told() {
    std::ranges::sort(outcome_.sent);
    for (const auto& [key, entry] : world_.fdb) {
        outcome_.fdb.insert(fdb_text(key, entry, entry.last_seen_s == now_s));
        if (!is_static(entry)) {
            ++outcome_.learned[fmt::format("port {}", entry.port)];
            ++outcome_.learned[fmt::format("instance {}", key.instance)];
        }
    }
    for (const auto& [key, connection] : flows_) {
        ++outcome_.learned[fmt::format("flows {}", key.first)];
    }
    return outcome_;
}

std::optional<std::uint32_t> ReferenceSwitch::behind_trunk(std::uint32_t port, const Parsed& parsed) const {
    const auto trunk = world_.ports.find(port);
    if (trunk == world_.ports.end() || (trunk->second.flags & IVDS_PF_TRUNK) == 0 ||
        world_.strangers.contains(port) || parsed.truncated || parsed.tags.empty() || parsed.tags[0].tpid != tpid_c ||
        parsed.tags[0].vid == 0) {
        return std::nullopt;
    }
    const auto found = world_.vvlans.find({port, parsed.tags[0].vid, 0});
    return found == world_.vvlans.end() ? std::nullopt : std::optional(found->second);
}

bool ReferenceSwitch::is_member(std::uint32_t port, std::uint32_t instance) const {
    const auto found = world_.ports.find(port);
    if (found == world_.ports.end() || found->second.instance != instance ||
        (found->second.flags & IVDS_PF_UP) == 0) {
        return false;
    }
    const auto& value = found->second;
    return value.kind == IVDS_PORT_VPORT ||
           (value.kind == IVDS_PORT_SUB && (world_.ports.at(value.peer).flags & IVDS_PF_UP) != 0);
}

void ReferenceSwitch::from_vport(Frame& frame) {
    const ivds_port& port = world_.ports.at(frame.port);
    const auto refuse = [&](ivds_drop reason) { drop(frame, frame.port, reason); };
    if (port.instance == 0) {
        return refuse(IVDS_DROP_NO_INSTANCE);
    }
    const auto instance = world_.instances.find(port.instance);
    if (instance == world_.instances.end() || (instance->second.flags & IVDS_IF_ACTIVE) == 0) {
        return refuse(IVDS_DROP_INSTANCE_DOWN);
    }
    const Parsed& parsed = frame.parsed;
    if (is_bad_source(parsed.src)) {
        return refuse(IVDS_DROP_BAD_SOURCE);
    }
    if (is_link_local(parsed.dst) || parsed.ethertype == mac_control) {
        return refuse(IVDS_DROP_VM_CONTROL);
    }
    frame.guest_tags.assign(parsed.tags.begin() + frame.trunk_tags, parsed.tags.end());
    const std::size_t l3_at = ethernet_bytes + tag_bytes * frame.guest_tags.size();
    frame.inner = with_dscp(without_tags(frame.bytes, frame.trunk_tags), parsed.ethertype, l3_at, port.dscp);
    frame.pcp = port.pcp != IVDS_PCP_KEEP ? port.pcp : parsed.tags.empty() ? std::uint16_t{0} : parsed.tags[0].pcp;
    if (has_guest_vlan(frame.guest_tags) && (port.flags & IVDS_PF_CARRY_TAGS) == 0) {
        return refuse(IVDS_DROP_GUEST_TAG);
    }
    const std::size_t l2_bytes = ethernet_bytes + tag_bytes * frame.guest_tags.size();
    frame.l3_bytes = frame.gso.segments != 0 ? frame.gso.size + frame.gso.headers
                                             : static_cast<std::uint32_t>(frame.inner.size() - l2_bytes);
    if (frame.l3_bytes > std::min(port.mtu_bytes, instance->second.mtu_bytes)) {
        return refuse(IVDS_DROP_OVERSIZE);
    }

    const auto known = world_.fdb.find({port.instance, parsed.src});
    const bool is_static_here =
        known != world_.fdb.end() && is_static(known->second) && known->second.port == frame.port;
    const bool is_static_elsewhere =
        known != world_.fdb.end() && is_static(known->second) && known->second.port != frame.port;
    const bool is_vmac = std::ranges::equal(parsed.src, port.vmac);
    const bool is_known_good = is_vmac || is_static_here;
    if (!is_known_good && ((port.flags & IVDS_PF_ANTI_SPOOF) != 0 || is_static_elsewhere)) {
        event(IVDS_EVENT_SPOOF, frame, 0, port.instance);
        return refuse(IVDS_DROP_SPOOF);
    }
    frame.in_instance = port.instance;
    const auto verdict = ask(frame, frame.port, IVDS_WAY_IN, false);
    flows_before_egress_ = flows_;
    events_before_egress_ = outcome_.events;
    told_before_egress_ = told_;
    if (!verdict) {
        return refuse(IVDS_DROP_FLOW_LIMIT);
    }
    if (!verdict->is_allowed) {
        return refuse(IVDS_DROP_ACL);
    }
    if (!is_known_good) {
        learn(frame, port.instance, IVDS_VLAN_NONE);
    }
    if (verdict->is_redirected) {
        forward_redirected(frame, verdict->target);
    } else {
        forward_from_vport(frame);
    }
}

void ReferenceSwitch::forward_redirected(Frame& frame, std::uint32_t target) {
    if ((target & IVDS_TARGET_POOL) != 0) {
        // Worlds have pools of which no more than one member is up: which flow goes to which is shown elsewhere.
        const auto pool = world_.pools.find(target & ~IVDS_TARGET_POOL);
        target = 0;
        for (std::size_t i = 0; pool != world_.pools.end() && i < pool->second.size(); ++i) {
            const auto member = world_.ports.find(pool->second[i]);
            if (member != world_.ports.end() && is_member(member->first, member->second.instance)) {
                target = member->first;
            }
        }
    }
    const auto port = world_.ports.find(target);
    if (target == 0) {
        drop(frame, frame.port, IVDS_DROP_NO_MEMBER);
    } else if (port != world_.ports.end() && port->second.kind == IVDS_PORT_PATCH) {
        through_patch(frame, target);
    } else if (target == frame.port) {
        drop(frame, frame.port, IVDS_DROP_SAME_PORT);
    } else if (send_to_member(frame, frame.in_instance, target, false)) {
        accept(frame, frame.in_instance, &ivds_port_stats::rx_local);
    }
}

// Out of one instance by `out`, and into another by its peer.
void ReferenceSwitch::through_patch(Frame& frame, std::uint32_t out) {
    const ivds_port& from = world_.ports.at(out);
    const auto peer = world_.ports.find(from.peer);
    const bool is_whole = peer != world_.ports.end() && peer->second.kind == IVDS_PORT_PATCH &&
                          (from.flags & peer->second.flags & IVDS_PF_UP) != 0 && from.instance == frame.in_instance &&
                          peer->second.instance != from.instance;
    if (!is_whole) {
        return drop(frame, frame.port, IVDS_DROP_PATCH);
    }
    const std::uint32_t in = peer->first;
    if (has_guest_vlan(frame.guest_tags) && (from.flags & peer->second.flags & IVDS_PF_CARRY_TAGS) == 0) {
        return drop(frame, out, IVDS_DROP_GUEST_TAG_OUT);
    }
    if (frame.l3_bytes > from.mtu_bytes) {
        return drop(frame, out, IVDS_DROP_OVERSIZE_OUT);
    }
    std::vector<std::uint32_t> rules;
    if (from.acl_out != 0) {
        const auto verdict = decide(frame, out, IVDS_WAY_OUT, true);
        if (!verdict->is_allowed) {
            return drop(frame, out, IVDS_DROP_ACL_OUT);
        }
        rules.push_back(verdict->rule);
    }
    const auto instance = world_.instances.find(peer->second.instance);
    if (instance == world_.instances.end() || (instance->second.flags & IVDS_IF_ACTIVE) == 0) {
        return drop(frame, in, IVDS_DROP_INSTANCE_DOWN);
    }
    if (frame.l3_bytes > std::min(peer->second.mtu_bytes, instance->second.mtu_bytes)) {
        return drop(frame, in, IVDS_DROP_OVERSIZE);
    }
    if (peer->second.acl_in != 0) {
        const auto verdict = decide(frame, in, IVDS_WAY_IN, true);
        if (!verdict->is_allowed || verdict->is_redirected) {
            return drop(frame, in, verdict->is_allowed ? IVDS_DROP_PATCH : IVDS_DROP_ACL);
        }
        rules.push_back(verdict->rule);
    }
    frame.in_port = in;
    events_before_egress_ = outcome_.events;
    told_before_egress_ = told_;
    forward_from_vport(frame);
    // Both ends count the frame if it got anywhere.
    const auto counted = outcome_.counts;
    ivds_port_stats stats{};
    stats.rx_packets = packets(frame);
    stats.rx_bytes = bytes(frame, frame.inner.size());
    const auto took = [&](const char* path) { return counted.contains(fmt::format("port {} {}", frame.port, path)); };
    if (!took("rx_packets")) {
        return;
    }
    (took("rx_flood") ? stats.rx_flood : took("rx_wire") ? stats.rx_wire : stats.rx_local) = packets(frame);
    add_counts(outcome_.counts, fmt::format("port {}", in), stats);
    stats = {};
    stats.tx_packets = packets(frame);
    stats.tx_bytes = bytes(frame, frame.inner.size());
    add_counts(outcome_.counts, fmt::format("port {}", out), stats);
    ivds_instance_stats behind{};
    behind.port_packets = packets(frame);
    behind.port_bytes = bytes(frame, frame.inner.size());
    add_counts(outcome_.counts, fmt::format("instance {}", peer->second.instance), behind);
    for (const std::uint32_t rule : rules) {
        if (rule != 0) {
            add_counts(outcome_.counts, fmt::format("rule {}", rule),
                       ivds_count{.packets = packets(frame), .bytes = bytes(frame, frame.inner.size())});
        }
    }
}

bool ReferenceSwitch::is_up(std::uint32_t port) const {
    const auto found = world_.ports.find(port);
    if (found == world_.ports.end() || (found->second.flags & IVDS_PF_UP) == 0) {
        return false;
    }
    return found->second.kind != IVDS_PORT_SUB || is_up(found->second.peer);
}

std::optional<Bytes> ReferenceSwitch::answer(const Frame& frame, std::uint32_t instance) const {
    if ((world_.instances.at(instance).flags & IVDS_IF_ANSWER) == 0 || !frame.guest_tags.empty() ||
        frame.gso.segments != 0 || frame.in_port != frame.port) {
        return std::nullopt;
    }
    const auto question = question_in(frame.inner);
    const auto owner = question ? world_.neighbours.find({instance, question->about}) : world_.neighbours.end();
    if (owner == world_.neighbours.end()) {
        return std::nullopt;
    }
    const auto entry = world_.fdb.find({instance, owner->second});
    if (entry == world_.fdb.end() || !is_static(entry->second) || entry->second.port == frame.port ||
        !is_up(entry->second.port)) {
        return std::nullopt;
    }
    return answer_of(frame.inner, *question, owner->second);
}

void ReferenceSwitch::forward_from_vport(const Frame& frame) {
    const std::uint32_t id = world_.ports.at(frame.in_port).instance;
    const ivds_instance& instance = world_.instances.at(id);
    const auto known = world_.fdb.find({id, frame.parsed.dst});
    const bool has_wire = (instance.flags & IVDS_IF_WIRE) != 0;

    if (is_multicast(frame.parsed.dst) || known == world_.fdb.end()) {
        if (drop_over_rate(frame, 0)) {
            return;
        }
        if (const auto bytes = answer(frame, id)) {
            Frame reply = frame;
            reply.bytes = reply.inner = *bytes;
            reply.pcp = frame.trunk_tags != 0 ? frame.parsed.tags.front().pcp : std::uint16_t{0};
            if (is_member(frame.port, id)) {
                send_to_member(reply, id, frame.port, true);
            }
            return accept(frame, frame.in_instance, &ivds_port_stats::rx_answered);
        }
        bool sent = false;
        for (const auto& [member, port] : world_.ports | std::views::reverse) {  // as link_members() links them
            if (is_member(member, id) && member != frame.in_port) {
                sent |= send_to_member(frame, id, member, true);
            }
        }
        const auto uplink = world_.ports.find(instance.uplink);
        if (has_wire && uplink != world_.ports.end() && (uplink->second.flags & IVDS_PF_UP) != 0) {
            std::vector<WireTags> copies;
            if ((instance.flags & IVDS_IF_SKIP_OWN) == 0) {
                copies.push_back({instance.vlan, instance.vvlan});
            }
            for (const std::uint16_t vlan : instance.peer_vlans) {
                if (vlan == 0) {
                    break;
                }
                copies.push_back({vlan, instance.vvlan});
            }
            const bool has_plain = (instance.flags & IVDS_IF_PLAIN_OUT) != 0;
            const bool is_kept_from_plain = has_plain && has_guest_vlan(frame.guest_tags);
            if (has_plain && !is_kept_from_plain) {
                copies.push_back({instance.vlan, 0});
            }
            const bool has_any = has_plain || !copies.empty();
            const bool has_gone = has_any && send_to_wire(frame, id, copies, false);
            if (has_gone && is_kept_from_plain) {
                drop(frame, instance.uplink, IVDS_DROP_GUEST_TAG_OUT);
            }
            sent |= has_gone && copies_sent_ != 0;
        }
        if (sent) {
            accept(frame, frame.in_instance, &ivds_port_stats::rx_flood);
        } else {
            drop(frame, frame.port, IVDS_DROP_LONE_FLOOD);
        }
        return;
    }

    const ivds_fdb_entry& entry = known->second;
    if (entry.port == frame.port) {
        drop(frame, frame.port, IVDS_DROP_SAME_PORT);
    } else if (entry.port == instance.uplink) {
        if (!has_wire) {
            drop(frame, frame.port, IVDS_DROP_NO_UPLINK);
        } else {
            const std::uint16_t vlan = entry.vlan != 0 ? entry.vlan : instance.vlan;
            const std::uint16_t vvlan = (entry.flags & IVDS_FDB_PLAIN) != 0 ? std::uint16_t{0} : instance.vvlan;
            if (send_to_wire(frame, id, {{vlan, vvlan}}, true)) {
                accept(frame, frame.in_instance, &ivds_port_stats::rx_wire);
            }
        }
    } else if (send_to_member(frame, id, entry.port, false)) {
        accept(frame, frame.in_instance, &ivds_port_stats::rx_local);
    }
}

void ReferenceSwitch::from_uplink(Frame& frame) {
    const ivds_port& uplink = world_.ports.at(frame.port);
    const auto refuse = [&](ivds_drop reason) { drop(frame, frame.port, reason); };
    const auto hand_to_host = [&] {
        outcome_.sent.push_back({to_host, frame.bytes});
        outcome_.counts[fmt::format("port {} rx_host", frame.port)] += packets(frame);
    };
    const Parsed& parsed = frame.parsed;
    const std::vector<Tag>& tags = parsed.tags;
    const bool has_outer = !tags.empty() && tags[0].tpid == host_order(uplink.outer_tpid_be);
    const bool has_inner = tags.size() > 1 && tags[1].tpid == host_order(uplink.inner_tpid_be);
    if (!has_outer) {
        return hand_to_host();
    }
    const std::uint16_t vlan = tags[0].vid;
    std::uint16_t vvlan = 0;
    if (!has_inner) {
        const auto switched = world_.vvlans.find({frame.port, vlan, 0});
        const bool has_policy = (uplink.flags & (IVDS_PF_PLAIN_DROP | IVDS_PF_PLAIN_IN)) != 0;
        if (!has_policy || switched == world_.vvlans.end()) {
            return hand_to_host();
        }
        const auto of_vlan = world_.instances.find(switched->second);
        const bool is_tenants = of_vlan != world_.instances.end() && of_vlan->second.vvlan == 0;
        if (is_link_local(parsed.dst) && !is_tenants) {
            return hand_to_host();
        }
        if (switched->second == 0) {
            return (uplink.flags & IVDS_PF_PLAIN_DROP) != 0 ? refuse(IVDS_DROP_NO_VVLAN) : hand_to_host();
        }
        frame.is_plain = needs_tc_ = true;
    } else {
        vvlan = tags[1].vid;
        if (vlan == 0 || vlan > IVDS_VLAN_MAX || vvlan == 0 || vvlan > IVDS_VLAN_MAX) {
            return refuse(IVDS_DROP_BAD_VID);
        }
    }
    const auto registered = world_.vvlans.find({frame.port, vlan, vvlan});
    if (registered == world_.vvlans.end()) {
        miss(frame, {frame.port, vlan, vvlan});
        const bool is_switched = world_.vvlans.contains({frame.port, vlan, 0});
        return refuse(is_switched ? IVDS_DROP_UNKNOWN_VVLAN : IVDS_DROP_UNKNOWN_VLAN);
    }
    const std::uint32_t id = registered->second;
    const auto found = world_.instances.find(id);
    constexpr auto must = IVDS_IF_ACTIVE | IVDS_IF_WIRE;
    if (found == world_.instances.end() || (found->second.flags & must) != must ||
        found->second.uplink != frame.port) {
        return refuse(IVDS_DROP_INSTANCE_DOWN);
    }
    const ivds_instance& instance = found->second;
    if (is_bad_source(parsed.src)) {
        return refuse(IVDS_DROP_BAD_SOURCE);
    }
    if (is_link_local(parsed.dst)) {
        return refuse(IVDS_DROP_VM_CONTROL);
    }
    const std::ptrdiff_t wire_tags = frame.is_plain ? 1 : 2;
    frame.pcp = tags[0].pcp;
    frame.inner = without_tags(frame.bytes, wire_tags);
    frame.guest_tags.assign(tags.begin() + wire_tags, tags.end());
    const std::size_t l2_bytes = ethernet_bytes + tag_bytes * frame.guest_tags.size();
    frame.l3_bytes = frame.gso.segments != 0 ? frame.gso.size + frame.gso.headers
                                             : static_cast<std::uint32_t>(frame.inner.size() - l2_bytes);
    if (frame.l3_bytes > instance.mtu_bytes) {
        return refuse(IVDS_DROP_OVERSIZE);
    }
    const auto known = world_.fdb.find({id, parsed.src});
    const bool is_known_static = known != world_.fdb.end() && is_static(known->second);
    if (is_known_static && known->second.port != frame.port) {
        return refuse(IVDS_DROP_WIRE_SOURCE);
    }
    if (frame.is_plain && instance.vvlan != 0 && known != world_.fdb.end() &&
        (known->second.flags & IVDS_FDB_PLAIN) == 0) {
        return refuse(IVDS_DROP_PLAIN_SOURCE);
    }
    const bool is_registered = is_known_static && (known->second.vlan == 0 || known->second.vlan == vlan);
    if ((instance.flags & IVDS_IF_REGISTERED) != 0 && !is_registered) {
        event(IVDS_EVENT_UNREGISTERED, frame, 0, id);
        return refuse(IVDS_DROP_UNREGISTERED);
    }
    frame.in_instance = id;
    frame.peer_vlan = !is_known_static ? vlan : known->second.vlan != 0 ? known->second.vlan : instance.vlan;
    if ((instance.flags & IVDS_IF_LEARN_WIRE) != 0 && !is_known_static) {
        learn(frame, id, vlan);
    }
    forward_from_wire(frame, id);
}

// Whether a frame from the wire goes on to where its VM went from here: within its time, by another outer VLAN than
// it came by and than leads to its sender, and once.
bool ReferenceSwitch::goes_on(const Frame& frame, std::uint32_t id, const ivds_fdb_entry& entry) const {
    const std::vector<Tag>& tags = frame.parsed.tags;
    if (const auto sender = world_.fdb.find({id, frame.parsed.src}); sender != world_.fdb.end()) {
        const std::uint16_t own = world_.instances.at(id).vlan;
        if ((sender->second.vlan != 0 ? sender->second.vlan : own) == entry.vlan) {
            return false;
        }
    }
    return (entry.flags & IVDS_FDB_MOVED) != 0 && (entry.flags & IVDS_FDB_PLAIN) == 0 && !frame.is_plain &&
           entry.vlan != 0 && entry.vlan != tags.at(0).vid && !tags.at(1).dei && entry.last_seen_s >= now_s;
}

void ReferenceSwitch::forward_from_wire(const Frame& frame, std::uint32_t id) {
    const auto known = world_.fdb.find({id, frame.parsed.dst});
    if (is_multicast(frame.parsed.dst) || known == world_.fdb.end()) {
        if (drop_over_rate(frame, 0)) {
            return;
        }
        bool sent = false;
        for (const auto& [member, port] : world_.ports | std::views::reverse) {
            if (is_member(member, id)) {
                sent |= send_to_member(frame, id, member, true);
            }
        }
        if (sent) {
            accept(frame, id, &ivds_port_stats::rx_flood);
        } else {
            drop(frame, frame.port, IVDS_DROP_LONE_FLOOD);
        }
    } else if (known->second.port == frame.port && goes_on(frame, id, known->second)) {
        needs_tc_ = true;
        constexpr std::uint16_t sent_on = 0x1000;  // DEI
        const auto vvlan = static_cast<std::uint16_t>(world_.instances.at(id).vvlan | sent_on);
        if (send_to_wire(frame, id, {{known->second.vlan, vvlan}}, true)) {
            accept(frame, id, &ivds_port_stats::rx_wire);
        }
    } else if (known->second.port == frame.port) {
        drop(frame, frame.port, IVDS_DROP_SAME_PORT);
    } else if (send_to_member(frame, id, known->second.port, false)) {
        accept(frame, id, &ivds_port_stats::rx_wire);
    }
}

// The checks on the way out to a vPort, and the copy; false if the frame was dropped there.
bool ReferenceSwitch::send_to_member(const Frame& frame, std::uint32_t instance, std::uint32_t member,
                                     bool is_flood) {
    const auto found = world_.ports.find(member);
    const auto refuse = [&](ivds_drop reason) {
        drop(frame, member, reason);
        return false;
    };
    if (!is_member(member, instance)) {
        return refuse(IVDS_DROP_PORT_DOWN);
    }
    if (has_guest_vlan(frame.guest_tags) && (found->second.flags & IVDS_PF_CARRY_TAGS) == 0) {
        return refuse(IVDS_DROP_GUEST_TAG_OUT);
    }
    if (frame.l3_bytes > found->second.mtu_bytes) {
        return refuse(IVDS_DROP_OVERSIZE_OUT);
    }
    const auto verdict = ask(frame, member, IVDS_WAY_OUT, is_flood);
    if (!verdict) {
        return refuse(IVDS_DROP_FLOW_LIMIT_OUT);
    }
    if (!verdict->is_allowed) {
        return refuse(IVDS_DROP_ACL_OUT);
    }
    if (is_flood && is_over(member, IVDS_WAY_OUT)) {
        return refuse(IVDS_DROP_RATE_OUT);
    }
    if (!is_flood && drop_over_rate(frame, member)) {
        return false;
    }
    const ivds_port& to = found->second;
    const bool is_sub = to.kind == IVDS_PORT_SUB;
    needs_tc_ |= is_sub;
    is_inspected_ |= to.inspector != 0;
    const Bytes out = is_sub
                          ? with_words(frame.inner, {tpid_c, static_cast<std::uint16_t>(frame.pcp << 13U | to.vid)})
                          : frame.inner;
    const auto inspected = inspect(frame, member, IVDS_WAY_OUT, out);
    if (inspected == Inspected::is_refused) {
        return refuse(IVDS_DROP_INSPECTOR);
    }
    if (inspected == Inspected::goes_on) {
        outcome_.sent.push_back({is_sub ? to.peer : member, out});
    }
    outcome_.counts[fmt::format("port {} tx_packets", member)] += packets(frame);
    outcome_.counts[fmt::format("port {} tx_bytes", member)] += bytes(frame, out.size());
    return true;
}

bool ReferenceSwitch::is_over(std::uint32_t port, ivds_way way) {
    return world_.ports.at(port).rate[way].ns_per_mib != 0 && !used_up_.insert({port, 0, std::uint32_t{way}}).second;
}

bool ReferenceSwitch::is_peer_over(std::uint32_t instance, std::uint16_t vlan, ivds_way way) {
    const auto found = world_.peer_rates.find({instance, vlan});
    return (world_.instances.at(instance).flags & IVDS_IF_PEER_RATES) != 0 && found != world_.peer_rates.end() &&
           found->second.rate[way].ns_per_mib != 0 && !used_up_.insert({instance, vlan, std::uint32_t{way}}).second;
}

bool ReferenceSwitch::drop_over_rate(const Frame& frame, std::uint32_t egress, std::uint32_t instance,
                                     std::uint16_t vlan) {
    const bool is_of_tc = egress == 0 || needs_tc_ || world_.ports.at(egress).inspector != 0 ||
                          (world_.ports.at(egress).flags & IVDS_PF_XDP_TARGET) == 0;
    if (is_over(frame.port, IVDS_WAY_IN)) {
        drop(frame, frame.port, IVDS_DROP_RATE);
    } else if (egress != 0 && world_.ports.at(egress).kind != IVDS_PORT_UPLINK && is_over(egress, IVDS_WAY_OUT)) {
        drop(frame, egress, IVDS_DROP_RATE_OUT);
    } else if (frame.peer_vlan != 0 && is_peer_over(frame.in_instance, frame.peer_vlan, IVDS_WAY_IN)) {
        drop(frame, frame.port, IVDS_DROP_RATE_PEER);
    } else if (vlan != 0 && is_peer_over(instance, vlan, IVDS_WAY_OUT)) {
        drop(frame, egress, IVDS_DROP_RATE_PEER_OUT);
    } else {
        return false;
    }
    is_over_of_tc_ = is_of_tc;
    return true;
}

// The checks on the way out to the wire, and a copy for each outer VLAN.
bool ReferenceSwitch::send_to_wire(const Frame& frame, std::uint32_t instance, const std::vector<WireTags>& copies,
                                   bool is_unicast) {
    const ivds_instance& from = world_.instances.at(instance);
    const auto found = world_.ports.find(from.uplink);
    if (found == world_.ports.end() || found->second.kind != IVDS_PORT_UPLINK ||
        (found->second.flags & IVDS_PF_UP) == 0) {
        drop(frame, from.uplink, IVDS_DROP_PORT_DOWN);
        return false;
    }
    // A flood has to fit with all tags, whoever there is.
    const std::uint16_t inner_tag = is_unicast ? copies.front().vvlan : from.vvlan;
    const std::size_t wire_bytes = inner_tag != 0 ? IVDS_TAGS_BYTES : tag_bytes;
    if (frame.l3_bytes + tag_bytes * frame.guest_tags.size() + wire_bytes > found->second.mtu_bytes) {
        drop(frame, from.uplink, IVDS_DROP_OVERSIZE_OUT);
        return false;
    }
    if (is_unicast && copies.front().vvlan == 0 && from.vvlan != 0 && has_guest_vlan(frame.guest_tags)) {
        drop(frame, from.uplink, IVDS_DROP_GUEST_TAG_OUT);
        return false;
    }
    if (is_unicast) {
        needs_tc_ |= copies.front().vvlan == 0;
        if (drop_over_rate(frame, from.uplink, instance, copies.front().vlan)) {
            return false;
        }
    }
    copies_sent_ = 0;
    for (const auto& [vlan, vvlan] : copies) {
        needs_tc_ |= vvlan == 0;
        if (!is_unicast && is_peer_over(instance, vlan, IVDS_WAY_OUT)) {
            drop(frame, from.uplink, IVDS_DROP_RATE_PEER_OUT);
            continue;
        }
        ++copies_sent_;
        const Bytes out = with_tags(frame.inner, found->second, vlan, vvlan, frame.pcp);
        outcome_.sent.push_back({from.uplink, out});
        outcome_.counts[fmt::format("port {} tx_packets", from.uplink)] += packets(frame);
        outcome_.counts[fmt::format("port {} tx_bytes", from.uplink)] += bytes(frame, out.size());
    }
    return true;
}

std::optional<AclVerdict> ReferenceSwitch::ask(const Frame& frame, std::uint32_t port, ivds_way way,
                                               bool is_passing) {
    const auto verdict = decide(frame, port, way, is_passing);
    // What a rule decides counts, also where a connection then finds no room.
    const ivds_count count{.packets = packets(frame), .bytes = bytes(frame, frame.inner.size())};
    if (last_rule_ != 0) {
        add_counts(outcome_.counts, fmt::format("rule {}", last_rule_), count);
    }
    const auto flow = flow_of(frame.inner, way == IVDS_WAY_OUT);
    if (flow && !flow->is_fragment && !is_passing && was_asked_ && flows_.contains({port, flow->name})) {
        add_counts(outcome_.counts, fmt::format("flows {} {}", port, way == IVDS_WAY_IN ? "in" : "out"), count);
    }
    return verdict;
}

std::optional<AclVerdict> ReferenceSwitch::decide(const Frame& frame, std::uint32_t port, ivds_way way,
                                                  bool is_passing) {
    const ivds_port& at = world_.ports.at(port);
    const std::uint32_t acl = way == IVDS_WAY_IN ? at.acl_in : at.acl_out;
    last_rule_ = 0;
    was_asked_ = acl != 0 || world_.is_stateful(port);
    if (!was_asked_) {
        return AclVerdict{};
    }
    const auto flow = flow_of(frame.inner, way == IVDS_WAY_OUT);
    if (flow) {
        const auto known = flows_.find({port, flow->name});
        constexpr std::uint8_t fin = 0x01;
        constexpr std::uint8_t syn = 0x02;
        constexpr std::uint8_t reset = 0x04;
        constexpr std::uint8_t ack = 0x10;
        const std::uint8_t tcp = flow->name.proto == 6 ? flow->tcp_flags : 0;
        if (known != flows_.end() && known->second && !(known->second->is_closing && (tcp & (syn | ack)) == syn)) {
            Connection& connection = *known->second;
            if ((tcp & reset) != 0) {
                connection.is_closing = true;
            } else if ((tcp & fin) != 0) {
                connection.fins.insert(way);
                connection.is_closing |= connection.fins.size() == 2;
            } else if (connection.fins.size() < 2) {
                connection.is_closing = false;
            }
            AclVerdict verdict = connection.verdict;
            verdict.is_redirected &= way == IVDS_WAY_IN;
            last_rule_ = verdict.rule;
            return verdict;
        }
    }
    if (acl == 0) {
        return AclVerdict{};
    }
    if (is_tpid(frame.parsed.ethertype)) {
        return AclVerdict{.is_allowed = false};  // a fourth tag: what is behind it is not looked for
    }
    AclVerdict verdict = judge(world_.acls.at(acl), frame.inner);
    last_rule_ = verdict.rule;
    if ((verdict.flags & IVDS_ACL_LOG) != 0) {
        event_of_flow(IVDS_EVENT_RULE, port, at.instance, verdict.rule);
    }
    if (!verdict.is_allowed) {
        if (const auto about = flow_in_error(frame.inner, way == IVDS_WAY_OUT)) {
            const auto known = flows_.find({port, *about});
            if (known != flows_.end() && known->second) {
                last_rule_ = known->second->verdict.rule;
                return AclVerdict{.rule = last_rule_};
            }
        }
    }
    const bool is_dropped_error = !verdict.is_allowed && flow && is_icmp_error(flow->name);
    if (!flow || flow->is_fragment || is_passing || is_dropped_error) {
        return verdict;
    }
    const std::pair key{port, flow->name};
    const auto known = flows_.find(key);
    const bool is_reset = flow->name.proto == 6 && (flow->tcp_flags & 0x04U) != 0;
    std::optional<Connection> connection;
    if (verdict.is_allowed && (verdict.flags & IVDS_ACL_STATEFUL) != 0 && !is_reset) {
        connection = Connection{.opener = way, .verdict = verdict};
    }
    if (known != flows_.end()) {
        // A SYN that is refused does not end what is left of the connection before.
        if (!known->second || verdict.is_allowed) {
            known->second = connection;
        }
        return verdict;
    }
    // Half of the room is for connections alone.
    if (flows_of(port) < (connection ? at.flow_limit : at.flow_limit / 2)) {
        flows_[key] = connection;
        return verdict;
    }
    event_of_flow(IVDS_EVENT_FLOW_LIMIT, port, at.instance, verdict.rule);
    return connection ? std::nullopt : std::optional(verdict);
}

std::uint32_t ReferenceSwitch::flows_of(std::uint32_t port) const {
    return static_cast<std::uint32_t>(
        std::ranges::count_if(flows_, [&](const auto& flow) { return flow.first.first == port; }));
}

// Remembers where the source is. `vlan` is the outer VLAN it came by, 0 at a vPort. The source is not static.
void ReferenceSwitch::learn(const Frame& frame, std::uint32_t instance, std::uint16_t vlan) {
    const ivds_port& port = world_.ports.at(frame.port);
    const FdbKey key{instance, frame.parsed.src};
    ivds_fdb_entry entry{};
    entry.port = frame.port;
    entry.last_seen_s = now_s;
    entry.vlan = vlan;
    entry.flags = frame.is_plain ? IVDS_FDB_PLAIN : 0;
    const bool is_port_full = world_.learned_at_port(frame.port) >= port.fdb_limit;
    const auto known = world_.fdb.find(key);
    if (known == world_.fdb.end()) {
        if (is_port_full || world_.learned_in_instance(instance) >= world_.instances.at(instance).fdb_limit) {
            return event(IVDS_EVENT_LIMIT, frame, 0, instance);
        }
        if (world_.fdb.size() >= fdb_capacity_) {
            return event(IVDS_EVENT_FDB_FULL, frame, 0, instance);
        }
        world_.fdb[key] = entry;
    } else if (known->second.port == frame.port) {
        if (known->second.vlan != entry.vlan || known->second.flags != entry.flags) {
            event(IVDS_EVENT_MOVE, frame, frame.port, instance);
        }
        known->second = entry;
    } else if (is_port_full) {
        event(IVDS_EVENT_LIMIT, frame, known->second.port, instance);
    } else {
        event(IVDS_EVENT_MOVE, frame, known->second.port, instance);
        known->second = entry;
    }
}

void ReferenceSwitch::accept(const Frame& frame, std::uint32_t instance, __u64 ivds_port_stats::* path) {
    const bool is_from_wire = world_.ports.at(frame.port).kind == IVDS_PORT_UPLINK;
    ivds_port_stats port{};
    port.rx_packets = packets(frame);
    port.rx_bytes = bytes(frame, frame.bytes.size());
    port.*path = packets(frame);
    add_counts(outcome_.counts, fmt::format("port {}", frame.port), port);
    ivds_instance_stats stats{};
    (is_from_wire ? stats.wire_packets : stats.port_packets) = packets(frame);
    (is_from_wire ? stats.wire_bytes : stats.port_bytes) = bytes(frame, frame.inner.size());
    add_counts(outcome_.counts, fmt::format("instance {}", instance), stats);
}

void ReferenceSwitch::drop(const Frame& frame, std::uint32_t port, ivds_drop reason) {
    // At the port it was meant for, it counts as the VM's frame: the tags of the wire are gone or not yet there.
    const std::size_t length = port == frame.port ? frame.bytes.size() : frame.inner.size();
    const ivds_count count{.packets = packets(frame), .bytes = bytes(frame, length)};
    add_counts(outcome_.counts, fmt::format("drop {} {}", port, drop_name(reason)), count);
}

void ReferenceSwitch::miss(const Frame& frame, const VvlanKey& key) {
    const ivds_count count{.packets = packets(frame), .bytes = bytes(frame, frame.bytes.size())};
    add_counts(outcome_.counts, fmt::format("miss {} {} {}", key[0], key[1], key[2]), count);
}

// At most one of a kind, port and second.
void ReferenceSwitch::event(ivds_event_kind kind, const Frame& frame, std::uint32_t other_port,
                            std::uint32_t instance) {
    if (!told_.insert({frame.port, kind}).second) {
        return;
    }
    ivds_event event{};
    event.kind = kind;
    event.port = frame.port;
    event.other_port = other_port;
    event.instance = instance;
    std::ranges::copy(frame.parsed.src, event.mac);
    outcome_.events.push_back(event_text(event));
}

void ReferenceSwitch::event_of_flow(ivds_event_kind kind, std::uint32_t port, std::uint32_t instance,
                                    std::uint32_t rule) {
    if (!told_.insert({port, kind}).second) {
        return;
    }
    ivds_event event{};
    event.kind = kind;
    event.port = port;
    event.instance = instance;
    event.rule = rule;
    outcome_.events.push_back(event_text(event));
}

std::uint64_t ReferenceSwitch::packets(const Frame& frame) const {
    return std::max<std::uint64_t>(frame.gso.segments, 1);
}

// Each segment after the first repeats all headers, the tags of that port among them.
std::uint64_t ReferenceSwitch::bytes(const Frame& frame, std::size_t frame_length) const {
    if (frame.gso.segments < 2) {
        return frame_length;
    }
    const std::size_t tags = tag_bytes * frame.parsed.tags.size();
    const std::size_t added = frame_length + tags - frame.bytes.size();
    return frame_length + (frame.gso.segments - 1) * (ethernet_bytes + added + frame.gso.headers);
}

Outcome ReferenceSwitch::forward_by_xdp_alone(std::uint32_t port, const Bytes& bytes) {
    const Parsed parsed = parse(bytes);
    const bool is_of_trunk = !world_.strangers.contains(port) && (world_.ports.at(port).flags & IVDS_PF_TRUNK) != 0 &&
                             !parsed.truncated && !parsed.tags.empty() && parsed.tags[0].tpid == tpid_c &&
                             parsed.tags[0].vid != 0;
    const bool is_inspected = !world_.strangers.contains(port) && world_.ports.at(port).inspector != 0;
    if (is_of_trunk || is_inspected) {
        outcome_ = {};
        drop(Frame{.port = port, .bytes = bytes}, port, IVDS_DROP_NO_TC);
        Outcome outcome = told();
        return outcome;
    }
    Outcome outcome = forward(port, bytes);
    const auto counted = [&](const std::string& name) {
        return outcome.counts.contains(fmt::format(fmt::runtime(name), port));
    };
    const bool is_flood =
        counted("port {} rx_flood") || counted("port {} rx_answered") || counted("drop {} lone_flood packets");
    const bool is_unicast = counted("port {} rx_local") || counted("port {} rx_wire");
    const auto is_xdp_business = [&] {
        return !needs_tc_ && (world_.ports.at(outcome.sent.front().port).flags & IVDS_PF_XDP_TARGET) != 0;
    };
    if (!is_flood && !is_over_of_tc_ && !is_inspected_ && (!is_unicast || is_xdp_business())) {
        return outcome;
    }
    // It needs TC. Its source has been learned all the same, and where it came in its flow is known.
    outcome.sent.clear();
    used_up_ = used_up_before_;
    inspectors_ = inspectors_before_;
    if (is_flood) {
        flows_ = flows_before_egress_;
        std::erase_if(outcome.events, [&](const std::string& event) {
            return event.starts_with("rule ") &&
                   std::ranges::find(events_before_egress_, event) == events_before_egress_.end();
        });
        std::erase_if(told_, [&](const auto& told) {
            return told.second == IVDS_EVENT_RULE && !told_before_egress_.contains(told);
        });
    }
    outcome_.counts.clear();
    drop(Frame{.port = port, .bytes = bytes}, port, IVDS_DROP_NO_TC);
    outcome.counts = outcome_.counts;
    return outcome;
}

}  // namespace ivds::test
