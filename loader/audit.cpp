// SPDX-License-Identifier: Apache-2.0
#include "audit.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <optional>

namespace ivds {
namespace {

// So many findings say what is wrong; more of them only hide the others.
constexpr std::size_t kShown = 50;

using Fields = std::vector<std::pair<const char*, std::string>>;

Fields fields_of(const ivds_port& port) {
    Mac vmac{};
    std::ranges::copy(port.vmac, vmac.begin());
    return {{"kind", std::to_string(port.kind)},
            {"ifindex", std::to_string(port.ifindex)},
            {"instance", std::to_string(port.instance)},
            {"next_member", std::to_string(port.next_member)},
            {"flags", fmt::format("{:#06x}", port.flags)},
            {"mtu_bytes", std::to_string(port.mtu_bytes)},
            {"vmac", format_mac(vmac)},
            {"outer_tpid", fmt::format("{:#06x}", ntohs(port.outer_tpid_be))},
            {"inner_tpid", fmt::format("{:#06x}", ntohs(port.inner_tpid_be))},
            {"fdb_limit", std::to_string(port.fdb_limit)},
            {"acl_in", std::to_string(port.acl_in)},
            {"acl_out", std::to_string(port.acl_out)},
            {"flow_limit", std::to_string(port.flow_limit)},
            {"peer", std::to_string(port.peer)},
            {"mirror_in", fmt::format("{:#x}", port.mirror_in)},
            {"mirror_out", fmt::format("{:#x}", port.mirror_out)},
            {"mirror_drop", fmt::format("{:#x}", port.mirror_drop)},
            {"vid", std::to_string(port.vid)},
            {"pcp", std::to_string(port.pcp)},
            {"dscp", std::to_string(port.dscp)},
            {"inspector", std::to_string(port.inspector)},
            {"timeout_ms", std::to_string(port.timeout_ms)},
            {"queue", std::to_string(port.queue)},
            {"rate_in", fmt::format("{}/{}", port.rate[IVDS_WAY_IN].ns_per_mib, port.rate[IVDS_WAY_IN].burst_ns)},
            {"rate_out", fmt::format("{}/{}", port.rate[IVDS_WAY_OUT].ns_per_mib, port.rate[IVDS_WAY_OUT].burst_ns)}};
}

Fields fields_of(const ivds_instance& instance) {
    return {
        {"uplink", std::to_string(instance.uplink)},       {"first_member", std::to_string(instance.first_member)},
        {"fdb_limit", std::to_string(instance.fdb_limit)}, {"vlan", std::to_string(instance.vlan)},
        {"vvlan", std::to_string(instance.vvlan)},         {"mtu_bytes", std::to_string(instance.mtu_bytes)},
        {"flags", fmt::format("{:#06x}", instance.flags)}, {"peer_vlans", fmt::format("{}", instance.peer_vlans)},
        {"age_s", std::to_string(instance.age_s)}};
}

// "instance 2, mtu_bytes 1500": the fields of `value` in which it differs from `other`.
template <class T>
std::string differences(const T& value, const T& other) {
    std::string text;
    const Fields mine = fields_of(value);
    const Fields theirs = fields_of(other);
    for (std::size_t i = 0; i < mine.size(); ++i) {
        if (mine[i].second != theirs[i].second) {
            text += fmt::format("{}{} {}", text.empty() ? "" : ", ", mine[i].first, mine[i].second);
        }
    }
    return text.empty() ? "other padding" : text;
}

class Auditor {
public:
    // No text: there is no such entry.
    void compare(const std::string& entry, const std::optional<std::string>& wanted,
                 const std::optional<std::string>& found) {
        if (wanted == found) {
            return;
        }
        ++drifted_;
        if (findings_.size() >= kShown) {
            return;
        }
        const char* id = !found ? "IVDS-D001" : wanted ? "IVDS-D002" : "IVDS-D003";
        std::string text = !found   ? fmt::format("is missing: wanted {}", *wanted)
                           : wanted ? fmt::format("drifted: wanted {}, found {}", *wanted, *found)
                                    : fmt::format("is there, and nothing wants it: found {}", *found);
        findings_.push_back(
            {Finding::Severity::error, id, entry, std::move(text),
             "`ivds-ctl doctor --mend` or the next change writes it anew; find out who else writes the maps"});
    }

    template <class Key>
    void words(const char* map, const char* key_text, const std::map<Key, std::uint32_t>& wanted,
               const std::map<Key, std::uint32_t>& found) {
        const auto text = [](const std::map<Key, std::uint32_t>& rows, const Key& key) {
            const auto row = rows.find(key);
            return row == rows.end() ? std::nullopt : std::optional(std::to_string(row->second));
        };
        for (const auto& [key, value] : wanted) {
            compare(fmt::format("{}[{} {}]", map, key_text, key), text(wanted, key), text(found, key));
        }
        for (const auto& [key, value] : found) {
            if (!wanted.contains(key)) {
                compare(fmt::format("{}[{} {}]", map, key_text, key), std::nullopt, text(found, key));
            }
        }
    }

    // Entries and their values as text.
    void texts(const std::map<std::string, std::string>& wanted, const std::map<std::string, std::string>& found) {
        for (const auto& [entry, value] : wanted) {
            const auto row = found.find(entry);
            compare(entry, value, row == found.end() ? std::nullopt : std::optional(row->second));
        }
        for (const auto& [entry, value] : found) {
            if (!wanted.contains(entry)) {
                compare(entry, std::nullopt, value);
            }
        }
    }

    [[nodiscard]] std::vector<Finding> finish(std::size_t entries) {
        if (drifted_ == 0) {
            return {{Finding::Severity::info, "IVDS-D000", "maps",
                     fmt::format("the tables match the intent: {} entries", entries), ""}};
        }
        if (drifted_ > findings_.size()) {
            findings_.push_back({Finding::Severity::error, "IVDS-D002", "maps",
                                 fmt::format("{} more entries drifted", drifted_ - findings_.size()),
                                 "`ivds-ctl doctor --mend` writes them anew"});
        }
        return std::move(findings_);
    }

private:
    std::vector<Finding> findings_;
    std::size_t drifted_ = 0;
};

std::string text_of(const FdbTarget& target) {
    std::string text = fmt::format("port {}", target.port);
    if (target.vlan != 0) text += fmt::format(", VLAN {}", target.vlan);
    if ((target.flags & IVDS_FDB_PLAIN) != 0) text += " alone";
    if (target.vport != 0) text += fmt::format(", of port {}", target.vport);
    return text;
}

// "dst 00ab…, proto 06": the fields that are not all zeros, their bytes in hexadecimal.
std::string text_of(const ivds_fields& fields) {
    std::string text;
    const auto add = [&](const char* name, const auto& field) {
        using Bytes = std::array<unsigned char, sizeof(field)>;
        const auto bytes = std::bit_cast<Bytes>(field);
        if (bytes != Bytes{}) {
            text += fmt::format("{}{} {:02x}", text.empty() ? "" : ", ", name, fmt::join(bytes, ""));
        }
    };
    add("src_mac", std::to_array(fields.src_mac));
    add("dst_mac", std::to_array(fields.dst_mac));
    add("src", std::to_array(fields.src));
    add("dst", std::to_array(fields.dst));
    add("type", fields.type_be);
    add("sport", fields.sport_be);
    add("dport", fields.dport_be);
    add("proto", fields.proto);
    add("tcp_flags", fields.tcp_flags);
    add("icmp_type", fields.icmp_type);
    add("icmp_code", fields.icmp_code);
    add("unknown", fields.unknown);
    add("padding", fields.pad0);
    return text.empty() ? "nothing" : text;
}

std::string text_of(std::uint8_t action) {
    return action == IVDS_ACL_ALLOW      ? "allow"
           : action == IVDS_ACL_DROP     ? "drop"
           : action == IVDS_ACL_REDIRECT ? "redirect"
                                         : fmt::format("action {}", action);
}

// "order 3, rule 21, redirect, flags 0x1, target port 7"
std::string text_of(const ivds_acl_rule& rule) {
    std::string text = fmt::format("order {}, rule {}, {}", rule.order, rule.rule, text_of(rule.action));
    if (rule.flags != 0) {
        text += fmt::format(", flags {:#x}", rule.flags);
    }
    if (rule.target != 0) {
        text += fmt::format(", target {} {}", (rule.target & IVDS_TARGET_POOL) != 0 ? "pool" : "port",
                            rule.target & ~IVDS_TARGET_POOL);
    }
    if (rule.mirrors != 0) {
        text += fmt::format(", mirrors {:#x}", rule.mirrors);
    }
    return text;
}

std::map<std::string, std::string> texts_of(const std::map<std::uint32_t, ivds_mirror>& mirrors) {
    std::map<std::string, std::string> out;
    for (const auto& [session, mirror] : mirrors) {
        out.emplace(fmt::format("mirrors[{}]", session),
                    fmt::format("kind {}, tap {}, target {}, filter {}, snap {}, sample {}, flags {:#x}, index {}, "
                                "session {}, VLAN {}, local {:02x}, remote {:02x}",
                                mirror.kind, mirror.tap, mirror.target, mirror.filter, mirror.snap_bytes,
                                mirror.sample, mirror.flags, mirror.index, mirror.session_id, mirror.vlan,
                                fmt::join(mirror.local, ""), fmt::join(mirror.remote, "")));
    }
    return out;
}

std::map<std::string, std::string> texts_of(std::uint32_t acl, const AclRows& rows) {
    std::map<std::string, std::string> out;
    if (!same_bytes(rows.head, ivds_acl{})) {
        out.emplace(fmt::format("acls[{}]", acl),
                    fmt::format("{} masks, default {}{}", rows.head.masks, text_of(rows.head.default_action),
                                rows.head.tcp_flags == 0 ? std::string()
                                                         : fmt::format(", TCP flags {:#04x}", rows.head.tcp_flags)));
    }
    for (const auto& [key, mask] : rows.masks) {
        out.emplace(fmt::format("acl_masks[ACL {}, index {}]", acl, key.index),
                    fmt::format("{}; first {}{}", text_of(mask.fields), mask.first,
                                (mask.flags & IVDS_AM_ND_TARGET) != 0 ? "; dst is of the target" : ""));
    }
    for (const auto& [key, rule] : rows.rules) {
        out.emplace(fmt::format("acl_rules[ACL {}, mask {}, {}]", acl, key.mask, text_of(key.fields)), text_of(rule));
    }
    return out;
}

}  // namespace

namespace {

template <class Rows>
std::map<std::string, std::string> pool_texts(const Rows& pools) {
    std::map<std::string, std::string> out;
    for (const auto& [id, row] : pools) {
        const ivds_pool* pool = nullptr;
        if constexpr (std::is_same_v<std::decay_t<decltype(row)>, ivds_pool>) {
            pool = &row;
        } else {
            pool = &row.value;
        }
        out.emplace(fmt::format("pools[{}]", id),
                    fmt::format("{} ports: {}", pool->count, fmt::join(pool->member, " ")));
    }
    return out;
}

std::map<std::string, std::string> texts_of(const std::map<PeerKey, ivds_peer_rate>& peers) {
    const auto text = [](const ivds_rate& rate) { return fmt::format("{}/{}", rate.ns_per_mib, rate.burst_ns); };
    std::map<std::string, std::string> out;
    for (const auto& [key, peer] : peers) {
        out.emplace(
            fmt::format("peer_rates[instance {}, VLAN {}]", key[0], key[1]),
            fmt::format("rate_in {}, rate_out {}", text(peer.rate[IVDS_WAY_IN]), text(peer.rate[IVDS_WAY_OUT])));
    }
    return out;
}

}  // namespace

bool same_runtime(const ivds_port& a, const ivds_port& b) {
    return same_bytes(with_runtime(a, b), a);
}

ivds_port with_runtime(ivds_port value, const ivds_port& from) {
    if (!has_interface(value)) {
        return value;
    }
    value.ifindex = from.ifindex;
    value.flags = static_cast<std::uint16_t>((value.flags & ~kRuntimeFlags) | (from.flags & runtime_flags(from)));
    if (value.kind == IVDS_PORT_UPLINK && from.kind == IVDS_PORT_UPLINK) {
        value.mtu_bytes = from.mtu_bytes;
    }
    return value;
}

std::vector<Finding> audit(const Content& in_map, const Bulk& bulk, const Content& known, const Tables& wanted) {
    Auditor auditor;
    const Plan plan = make_plan(in_map, wanted, &bulk, wanted);
    // What the plan writes last to a place is what shall be there; on the way it may write it more than once.
    std::map<std::uint32_t, std::optional<ivds_port>> ports;
    std::map<std::uint32_t, std::optional<ivds_instance>> instances;
    std::map<std::uint32_t, std::shared_ptr<const AclRows>> acls;  // null: shall not be there
    for (const Step& step : plan.steps) {
        if (const auto* put = std::get_if<PutPort>(&step)) {
            ports[put->port] = put->value;
        } else if (const auto* clear = std::get_if<ClearPort>(&step)) {
            ports[clear->port] = std::nullopt;
        } else if (const auto* put_instance = std::get_if<PutInstance>(&step)) {
            instances[put_instance->instance] = put_instance->value;
        } else if (const auto* clear_instance = std::get_if<ClearInstance>(&step)) {
            instances[clear_instance->instance] = std::nullopt;
        } else if (const auto* put_acl = std::get_if<PutAcl>(&step)) {
            acls[put_acl->acl] = put_acl->rows;
        } else if (const auto* clear_acl = std::get_if<ClearAcl>(&step)) {
            acls[clear_acl->acl] = nullptr;
        }
    }
    // A port's run-time part is no part of the plan: it is as it was written last.
    for (const auto& [id, value] : in_map.ports) {
        const auto written = known.ports.find(id);
        if (written != known.ports.end() && !same_runtime(value, written->second) && !ports.contains(id)) {
            ports[id] = value;
        }
    }
    const auto name_of = [](const auto& rows, std::uint32_t id) {
        const auto row = rows.find(id);
        return row == rows.end() ? "" : " " + row->second.name;
    };
    for (const auto& [id, value] : ports) {
        const std::string entry = fmt::format("ports[{}]{}", id, name_of(wanted.ports, id));
        const auto now = in_map.ports.find(id);
        const auto written = known.ports.find(id);
        if (!value) {
            auditor.compare(entry, std::nullopt, differences(now->second, ivds_port{}));
        } else if (now == in_map.ports.end()) {
            auditor.compare(entry, differences(*value, ivds_port{}), std::nullopt);
        } else {
            const ivds_port shall =
                with_runtime(*value, written == known.ports.end() ? now->second : written->second);
            if (!same_bytes(shall, now->second)) {
                auditor.compare(entry, differences(shall, now->second), differences(now->second, shall));
            }
        }
    }
    for (const auto& [id, value] : instances) {
        const std::string entry = fmt::format("instances[{}]{}", id, name_of(wanted.instances, id));
        const auto now = in_map.instances.find(id);
        if (!value) {
            auditor.compare(entry, std::nullopt, differences(now->second, ivds_instance{}));
        } else if (now == in_map.instances.end()) {
            auditor.compare(entry, differences(*value, ivds_instance{}), std::nullopt);
        } else if (!same_bytes(*value, now->second)) {
            auditor.compare(entry, differences(*value, now->second), differences(now->second, *value));
        }
    }
    auditor.words("vvlans", "uplink, VLAN, V.VLAN", wanted.vvlans, in_map.vvlans);
    auditor.texts(texts_of(known.mirrors), texts_of(in_map.mirrors));
    auditor.texts(texts_of(wanted.peer_rates), texts_of(in_map.peer_rates));
    auditor.texts(pool_texts(wanted.pools), pool_texts(in_map.pools));
    auditor.words("ifports", "ifindex", known.ifports, in_map.ifports);
    auditor.words("tx", "port", known.tx, in_map.tx);
    for (const auto& [id, rows] : acls) {
        const auto found = bulk.acls.find(id);
        auditor.texts(rows ? texts_of(id, *rows) : std::map<std::string, std::string>{},
                      found == bulk.acls.end() ? std::map<std::string, std::string>{} : texts_of(id, *found->second));
    }
    for (const auto* changes : {&plan.fdb_puts, &plan.fdb_clears}) {
        for (const FdbChange& change : *changes) {
            const auto text = [](const FdbTarget& target) {
                return target.port == 0 ? std::nullopt : std::optional(text_of(target));
            };
            auditor.compare(fmt::format("fdb[instance {}, {}]", change.key.instance, format_mac(change.key.mac)),
                            text(change.after), text(change.before));
        }
    }
    for (const auto* changes : {&plan.neighbour_puts, &plan.neighbour_clears}) {
        for (const NeighbourChange& change : *changes) {
            const auto text = [](const std::optional<Mac>& mac) {
                return mac ? std::optional(format_mac(*mac)) : std::nullopt;
            };
            auditor.compare(fmt::format("neighbours[instance {}, {:02x}]", change.key.instance,
                                        fmt::join(change.key.address, "")),
                            text(change.after), text(change.before));
        }
    }
    std::size_t entries = wanted.ports.size() + wanted.instances.size() + wanted.vvlans.size() +
                          known.ifports.size() + known.tx.size() + bulk.fdb.size() + bulk.neighbours.size() +
                          wanted.pools.size() + wanted.mirrors.size() + wanted.peer_rates.size();
    for (const auto& [id, list] : wanted.acls) {
        entries += 1 + list->masks.size() + list->rules.size();
    }
    return auditor.finish(entries);
}

}  // namespace ivds
