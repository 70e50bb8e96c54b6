// SPDX-License-Identifier: Apache-2.0
#include "world.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace ivds::test {

namespace {

std::uint16_t big_endian(std::uint16_t value) {
    return static_cast<std::uint16_t>(value >> 8U | value << 8U);
}

void add(std::map<std::string, std::uint64_t>& counts, const std::string& name, std::uint64_t value) {
    if (value != 0) {
        counts[name] += value;
    }
}

bool is_learned(const ivds_fdb_entry& entry) {
    return (entry.flags & IVDS_FDB_STATIC) == 0;
}

// `got` with each frame that hides its first tag replaced by the expected frame that it is otherwise equal to.
Outcome with_hidden_tags(const Outcome& expected, Outcome got) {
    for (Sent& sent : got.sent) {
        for (const Sent& wanted : expected.sent) {
            Bytes hidden = wanted.bytes;
            if (hidden.size() >= 18) {
                hidden.erase(hidden.begin() + 12, hidden.begin() + 16);
            }
            if (sent.is_tag_hidden && sent.port == wanted.port && sent.bytes == hidden) {
                sent.bytes = wanted.bytes;
                break;
            }
        }
        sent.is_tag_hidden = false;
    }
    std::ranges::sort(got.sent);
    return got;
}

}  // namespace

World& World::uplink(std::uint32_t id, std::uint16_t mtu, std::uint16_t outer_tpid, std::uint16_t inner_tpid) {
    ivds_port port{};
    port.kind = IVDS_PORT_UPLINK;
    port.flags = IVDS_PF_UP | IVDS_PF_XDP_TARGET;
    port.mtu_bytes = mtu;
    port.outer_tpid_be = big_endian(outer_tpid);
    port.inner_tpid_be = big_endian(inner_tpid);
    port.fdb_limit = 16;
    ports[id] = port;
    return *this;
}

World& World::vport(std::uint32_t id, std::uint32_t instance, const Mac& vmac) {
    ivds_port port{};
    port.kind = IVDS_PORT_VPORT;
    port.flags = IVDS_PF_UP | IVDS_PF_XDP_TARGET | IVDS_PF_ANTI_SPOOF;
    port.instance = instance;
    port.mtu_bytes = 1500;
    port.fdb_limit = 16;
    port.flow_limit = 1024;
    std::ranges::copy(vmac, port.vmac);
    ports[id] = port;
    return instance == 0 ? *this : local_mac(instance, vmac, id);
}

World& World::instance(std::uint32_t id, std::uint32_t uplink, std::uint16_t vlan, std::uint16_t vvlan) {
    ivds_instance value{};
    value.uplink = uplink;
    value.vlan = vlan;
    value.vvlan = vvlan;
    value.mtu_bytes = 9000;
    value.fdb_limit = 64;
    value.flags = IVDS_IF_ACTIVE;
    if (uplink != 0) {
        value.flags |= IVDS_IF_WIRE | IVDS_IF_LEARN_WIRE;
        vvlans[{uplink, vlan, 0}] = 0;
        vvlans[{uplink, vlan, vvlan}] = id;
    }
    instances[id] = value;
    return *this;
}

World& World::peer_vlan(std::uint32_t id, std::uint16_t vlan) {
    ivds_instance& value = instances.at(id);
    *std::ranges::find(value.peer_vlans, 0) = vlan;
    vvlans[{value.uplink, vlan, 0}] = 0;
    vvlans[{value.uplink, vlan, value.vvlan}] = id;
    return *this;
}

World& World::plain_access(std::uint32_t id) {
    ivds_instance& value = instances.at(id);
    value.flags |= IVDS_IF_PLAIN_OUT;
    ports.at(value.uplink).flags |= IVDS_PF_PLAIN_IN;
    vvlans[{value.uplink, value.vlan, 0}] = id;
    return *this;
}

World& World::single_tag(std::uint32_t id) {
    ivds_instance& value = instances.at(id);
    vvlans.erase({value.uplink, value.vlan, value.vvlan});
    value.vvlan = 0;
    ports.at(value.uplink).flags |= IVDS_PF_PLAIN_IN;
    vvlans[{value.uplink, value.vlan, 0}] = id;
    return *this;
}

World& World::inspector(std::uint32_t id) {
    ivds_port port{};
    port.kind = IVDS_PORT_INSPECTOR;
    port.flags = IVDS_PF_UP;
    port.inspector = id;
    port.timeout_ms = 3'600'000;
    port.queue = 1000;
    ports[id] = port;
    listening.insert(id);
    return *this;
}

namespace {
constexpr ivds_rate one_frame = {.ns_per_mib = 1ULL << 50, .burst_ns = 0};
}

World& World::rate(std::uint32_t port, ivds_way way) {
    ports.at(port).rate[way] = one_frame;
    return *this;
}

World& World::peer_rate(std::uint32_t instance, std::uint16_t vlan, ivds_way way) {
    peer_rates[{instance, vlan}].rate[way] = one_frame;
    instances.at(instance).flags |= IVDS_IF_PEER_RATES;
    return *this;
}

World& World::span(std::uint32_t session, std::uint32_t target, const std::set<std::uint32_t>& sources) {
    mirrors[session] = {};
    mirrors[session].kind = IVDS_MIRROR_SPAN;
    mirrors[session].target = target;
    for (const std::uint32_t port : sources) ports.at(port).mirror_out |= 1U << session;
    return *this;
}

World& World::local_mac(std::uint32_t instance, const Mac& mac, std::uint32_t port) {
    ivds_fdb_entry entry{};
    entry.port = port;
    entry.flags = IVDS_FDB_STATIC;
    fdb[{instance, mac}] = entry;
    return *this;
}

World& World::remote_mac(std::uint32_t instance, const Mac& mac, std::uint16_t vlan) {
    local_mac(instance, mac, instances.at(instance).uplink);
    fdb[{instance, mac}].vlan = vlan;
    return *this;
}

World& World::moved_mac(std::uint32_t instance, const Mac& mac, std::uint16_t vlan, bool is_over) {
    remote_mac(instance, mac, vlan);
    fdb[{instance, mac}].flags |= IVDS_FDB_MOVED;
    fdb[{instance, mac}].last_seen_s = is_over ? long_ago_s : 0x7fffffff;
    return *this;
}

World& World::learned_mac(std::uint32_t instance, const Mac& mac, std::uint32_t port, std::uint16_t vlan) {
    ivds_fdb_entry entry{};
    entry.port = port;
    entry.vlan = vlan;
    entry.last_seen_s = long_ago_s;
    fdb[{instance, mac}] = entry;
    return *this;
}

World& World::learned_plain_mac(std::uint32_t instance, const Mac& mac) {
    const ivds_instance& value = instances.at(instance);
    learned_mac(instance, mac, value.uplink, value.vlan);
    fdb[{instance, mac}].flags = IVDS_FDB_PLAIN;
    return *this;
}

World& World::answers(std::uint32_t instance, std::uint8_t number, const Mac& mac) {
    instances.at(instance).flags |= IVDS_IF_ANSWER;
    neighbours[{instance, {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 0, 0, number}}] = mac;
    neighbours[{instance, {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, number}}] = mac;
    return *this;
}

World& World::behind(std::uint32_t trunk, std::uint16_t vid, std::uint32_t id, std::uint32_t instance,
                     const Mac& vmac) {
    vport(id, instance, vmac);
    ivds_port& port = ports.at(id);
    port.kind = IVDS_PORT_SUB;
    port.flags &= static_cast<std::uint16_t>(~IVDS_PF_XDP_TARGET);
    port.peer = trunk;
    port.vid = vid;
    ports.at(trunk).flags |= IVDS_PF_TRUNK;
    vvlans[{trunk, vid, 0}] = id;
    return *this;
}

World& World::patch(std::uint32_t id, std::uint32_t instance, std::uint32_t peer, std::uint32_t peer_instance) {
    ivds_port port{};
    port.kind = IVDS_PORT_PATCH;
    port.flags = IVDS_PF_UP;
    port.mtu_bytes = 1500;
    port.instance = instance;
    port.peer = peer;
    ports[id] = port;
    port.instance = peer_instance;
    port.peer = id;
    ports[peer] = port;
    return *this;
}

bool World::is_stateful(std::uint32_t port) const {
    const ivds_port& at = ports.at(port);
    return std::ranges::any_of(std::array{at.acl_in, at.acl_out}, [&](std::uint32_t acl) {
        return acl != 0 && std::ranges::any_of(acls.at(acl).rules, [](const AclRule& rule) {
                   return (rule.flags & IVDS_ACL_STATEFUL) != 0;
               });
    });
}

void World::link_members() {
    for (auto& [id, instance] : instances) {
        instance.first_member = 0;
    }
    for (auto& [id, port] : ports) {
        port.next_member = 0;
        const auto instance = instances.find(port.instance);
        if ((port.kind == IVDS_PORT_VPORT || port.kind == IVDS_PORT_SUB) && instance != instances.end()) {
            port.next_member = instance->second.first_member;
            instance->second.first_member = id;
        }
    }
}

std::uint32_t World::learned_at_port(std::uint32_t port) const {
    return static_cast<std::uint32_t>(std::ranges::count_if(
        fdb, [&](const auto& row) { return row.second.port == port && is_learned(row.second); }));
}

std::uint32_t World::learned_in_instance(std::uint32_t instance) const {
    return static_cast<std::uint32_t>(std::ranges::count_if(
        fdb, [&](const auto& row) { return row.first.instance == instance && is_learned(row.second); }));
}

std::string World::text() const {
    std::string out;
    for (const auto& [id, port] : ports) {
        out += fmt::format(
            "port {}: kind {} instance {} flags {:#x} mtu {} vmac {:02x} tpids {:04x} {:04x} limit {} flows {} rates "
            "{} {} "
            "peer {} vid {} pcp {} dscp {} inspector {}{}{}\n",
            id, port.kind, port.instance, port.flags, port.mtu_bytes, fmt::join(port.vmac, ":"),
            big_endian(port.outer_tpid_be), big_endian(port.inner_tpid_be), port.fdb_limit, port.flow_limit,
            port.rate[IVDS_WAY_IN].ns_per_mib != 0, port.rate[IVDS_WAY_OUT].ns_per_mib != 0, port.peer, port.vid,
            port.pcp, port.dscp, port.inspector, listening.contains(id) ? " (listens)" : "",
            strangers.contains(id) ? " (stranger)" : "");
    }
    for (const auto& [id, instance] : instances) {
        out += fmt::format("instance {}: uplink {} vlan {} vvlan {} mtu {} flags {:#x} limit {} peers {}\n", id,
                           instance.uplink, instance.vlan, instance.vvlan, instance.mtu_bytes, instance.flags,
                           instance.fdb_limit, fmt::join(instance.peer_vlans, " "));
    }
    for (const auto& [key, instance] : vvlans) {
        out += fmt::format("vvlan {}: instance {}\n", fmt::join(key, " "), instance);
    }
    for (const auto& [key, entry] : fdb) {
        out += "fdb " + fdb_text(key, entry, false) + "\n";
    }
    for (const auto& [key, peer] : peer_rates) {
        out += fmt::format("peers of {} on VLAN {}: rates {} {}\n", key.first, key.second,
                           peer.rate[IVDS_WAY_IN].ns_per_mib != 0, peer.rate[IVDS_WAY_OUT].ns_per_mib != 0);
    }
    for (const auto& [key, mac] : neighbours) {
        out += fmt::format("neighbour {} {:02x}: {}\n", key.first, fmt::join(key.second, ""), to_text(mac));
    }
    for (const auto& [id, port] : ports) {
        if (port.acl_in != 0 || port.acl_out != 0) {
            out += fmt::format("port {}: rules in {} out {}\n", id, port.acl_in, port.acl_out);
        }
    }
    for (const auto& [session, mirror] : mirrors) {
        out += fmt::format("mirror {}: kind {} to {} of", session, mirror.kind, mirror.target);
        for (const auto& [id, port] : ports) {
            if ((port.mirror_out >> session & 1U) != 0) out += fmt::format(" {}", id);
            if ((port.mirror_in >> session & 1U) != 0) out += fmt::format(" {} (in)", id);
        }
        out += "\n";
    }
    for (const auto& [id, members] : pools) {
        out += fmt::format("pool {}: {}\n", id, fmt::join(members, " "));
    }
    for (const auto& [id, acl] : acls) {
        out += fmt::format("rules {}, else {}\n", id, static_cast<int>(acl.default_action));
        for (const AclRule& rule : acl.rules) {
            out += fmt::format(
                "  {}: action {} flags {} target {:#x} types {::x} macs {} {} src {} dst {} proto {} ports {} {} "
                "icmp {} flags {} about {}\n",
                rule.id, static_cast<int>(rule.action), rule.flags, rule.target, rule.ethertypes,
                rule.src_mac ? to_text(rule.src_mac->value) : "-", rule.dst_mac ? to_text(rule.dst_mac->value) : "-",
                rule.src ? int(rule.src->bits) : -1, rule.dst ? int(rule.dst->bits) : -1,
                rule.proto ? *rule.proto : -1, rule.sports.size(), rule.dports.size(),
                rule.icmp_type ? *rule.icmp_type : -1, rule.tcp_flags ? rule.tcp_flags->mask : -1,
                rule.nd_target ? int(rule.nd_target->bits) : -1);
        }
    }
    return out;
}

const char* drop_name(std::uint32_t reason) {
    switch (reason) {
#define IVDS_X(name, number, side, id, text) \
    case number:                             \
        return id;
        IVDS_DROPS(IVDS_X)
#undef IVDS_X
        default:
            return "unknown";
    }
}

const char* event_name(std::uint32_t kind) {
    switch (kind) {
        case IVDS_EVENT_SPOOF:
            return "spoof";
        case IVDS_EVENT_MOVE:
            return "move";
        case IVDS_EVENT_LIMIT:
            return "limit";
        case IVDS_EVENT_FDB_FULL:
            return "fdb_full";
        case IVDS_EVENT_FLOW_LIMIT:
            return "flow_limit";
        case IVDS_EVENT_RULE:
            return "rule";
        case IVDS_EVENT_UNREGISTERED:
            return "unregistered";
        default:
            return "unknown";
    }
}

std::string event_text(const ivds_event& event) {
    const std::string rule = event.rule != 0 ? fmt::format(" rule {}", event.rule) : "";
    return fmt::format("{} {} from {} in {}: {:02x}{}", event_name(event.kind), event.port, event.other_port,
                       event.instance, fmt::join(event.mac, ":"), rule);
}

std::string fdb_text(const FdbKey& key, const ivds_fdb_entry& entry, bool now) {
    const char* kind = !is_learned(entry) ? "static" : now ? "learned now" : "learned before";
    const char* plain = (entry.flags & IVDS_FDB_PLAIN) != 0 ? " plain" : "";
    return fmt::format("{} {} at {} vlan {}{} {}", key.instance, to_text(key.mac), entry.port, entry.vlan, plain,
                       kind);
}

void add_counts(std::map<std::string, std::uint64_t>& counts, const std::string& prefix,
                const ivds_port_stats& stats) {
    add(counts, prefix + " rx_packets", stats.rx_packets);
    add(counts, prefix + " rx_bytes", stats.rx_bytes);
    add(counts, prefix + " tx_packets", stats.tx_packets);
    add(counts, prefix + " tx_bytes", stats.tx_bytes);
    add(counts, prefix + " rx_local", stats.rx_local);
    add(counts, prefix + " rx_wire", stats.rx_wire);
    add(counts, prefix + " rx_flood", stats.rx_flood);
    add(counts, prefix + " rx_host", stats.rx_host);
    add(counts, prefix + " rx_answered", stats.rx_answered);
}

void add_counts(std::map<std::string, std::uint64_t>& counts, const std::string& prefix,
                const ivds_instance_stats& stats) {
    add(counts, prefix + " port_packets", stats.port_packets);
    add(counts, prefix + " port_bytes", stats.port_bytes);
    add(counts, prefix + " wire_packets", stats.wire_packets);
    add(counts, prefix + " wire_bytes", stats.wire_bytes);
}

void add_counts(std::map<std::string, std::uint64_t>& counts, const std::string& prefix,
                const ivds_inspector& inspector) {
    add(counts, prefix + " sent", inspector.sent);
    add(counts, prefix + " answered", inspector.answered);
    add(counts, prefix + " passed", inspector.passed);
    add(counts, prefix + " blocked", inspector.blocked);
    add(counts, prefix + " uninspected", inspector.uninspected);
    add(counts, prefix + " refused", inspector.refused);
}

void add_counts(std::map<std::string, std::uint64_t>& counts, const std::string& prefix, const ivds_count& count) {
    add(counts, prefix + " packets", count.packets);
    add(counts, prefix + " bytes", count.bytes);
}

std::string Outcome::text() const {
    std::string out;
    for (const auto& [port, bytes, is_tag_hidden] : sent) {
        const std::string where = port == to_host    ? "to the host"
                                  : port == to_stack ? "to the stack"
                                                     : fmt::format("to {}", port);
        out += fmt::format("  sent {} ({} bytes): {}\n", where, bytes.size(), to_hex(bytes).substr(0, 160));
    }
    for (const auto& [name, value] : counts) {
        out += fmt::format("  {} {}\n", name, value);
    }
    for (const auto& event : events) {
        out += fmt::format("  event {}\n", event);
    }
    for (const auto& entry : fdb) {
        out += fmt::format("  fdb {}\n", entry);
    }
    for (const auto& [name, value] : learned) {
        out += fmt::format("  learned {} {}\n", name, value);
    }
    return out;
}

std::string difference(const Outcome& expected, const Outcome& raw) {
    const Outcome got = with_hidden_tags(expected, raw);
    const auto lines = [](const Outcome& outcome) {
        std::vector<std::string> out;
        const std::string all = outcome.text();
        for (std::size_t from = 0; from < all.size();) {
            const std::size_t end = all.find('\n', from);
            out.push_back(all.substr(from, end - from));
            from = end + 1;
        }
        std::ranges::sort(out);
        return out;
    };
    const auto left = lines(expected);
    const auto right = lines(got);
    std::vector<std::string> missing;
    std::vector<std::string> extra;
    std::ranges::set_difference(left, right, std::back_inserter(missing));
    std::ranges::set_difference(right, left, std::back_inserter(extra));
    std::string out;
    for (const auto& line : missing) {
        out += "expected" + line + "\n";
    }
    for (const auto& line : extra) {
        out += "     got" + line + "\n";
    }
    return out.empty() && expected != got ? "the frames or events differ beyond the printed part\n" : out;
}

}  // namespace ivds::test
