// SPDX-License-Identifier: Apache-2.0
// plan.cpp -- the diff between tables, in an order that is safe while frames pass.
#include "plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <ranges>
#include <unordered_set>

namespace ivds {
namespace {

bool same(const ivds_port& a, const ivds_port& b) {
    return same_bytes(a, b);
}
bool same(const ivds_instance& a, const ivds_instance& b) {
    return same_bytes(a, b);
}

bool same_but_tap(ivds_mirror a, const ivds_mirror& b) {
    a.tap = b.tap;
    return same_bytes(a, b);
}

const auto same_row = [](const auto& a, const auto& b) {
    return same_bytes(a.first, b.first) && same_bytes(a.second, b.second);
};
const auto less_row = [](const auto& a, const auto& b) {
    return std::memcmp(&a.first, &b.first, sizeof(a.first)) < 0;
};

bool same(const AclRow& a, const AclRow& b) {
    return a.default_action == b.default_action && std::ranges::equal(a.masks, b.masks, same_bytes<ivds_acl_mask>) &&
           std::ranges::equal(a.rules, b.rules, same_row);
}

// A member of an instance.
bool is_vport(const ivds_port& port) {
    return port.kind == IVDS_PORT_VPORT || port.kind == IVDS_PORT_SUB;
}

bool is_default(std::uint8_t action) {
    return action == IVDS_ACL_ALLOW || action == IVDS_ACL_DROP;
}
bool is_action(std::uint8_t action) {
    return is_default(action) || action == IVDS_ACL_REDIRECT;
}

// The part of a port's value that the tables decide.
ivds_port configured(ivds_port value) {
    value.ifindex = 0;
    value.flags = static_cast<std::uint16_t>(value.flags & ~runtime_flags(value));
    if (value.kind == IVDS_PORT_UPLINK) {
        value.mtu_bytes = 0;
    }
    return value;
}

template <class Visit>
void each_static(std::uint32_t id, const PortRow& row, Visit visit) {
    if ((is_vport(row.value) || row.value.kind == IVDS_PORT_VF) && row.value.instance != 0) {
        for (const auto& mac : row.macs) {
            visit(FdbKey{row.value.instance, mac}, FdbTarget{.port = id});
        }
    }
}
template <class Visit>
void each_static(std::uint32_t id, const InstanceRow& row, Visit visit) {
    if (row.fdb) {
        const bool one_tag = row.value.vvlan == 0;
        for (const auto& entry : *row.fdb) {
            const bool plain = one_tag && row.value.uplink != 0 && entry.port == row.value.uplink;
            visit(FdbKey{id, entry.mac},
                  FdbTarget{.port = entry.port,
                            .vlan = entry.vlan,
                            .flags = static_cast<std::uint8_t>(IVDS_FDB_STATIC | (plain ? IVDS_FDB_PLAIN : 0)),
                            .vport = entry.vport});
        }
    }
}

bool same_list(const InstanceRow& a, const InstanceRow& b) {
    static const std::vector<StaticMac> none;
    return a.value.uplink == b.value.uplink && (a.value.vvlan == 0) == (b.value.vvlan == 0) &&
           (a.fdb == b.fdb || (a.fdb ? *a.fdb : none) == (b.fdb ? *b.fdb : none));
}

// The FDB's diff between two tables: only rows that changed are looked into.
void diff_fdb(const Tables& old, const Tables& next, Plan& plan) {
    FdbContent before;
    FdbContent after;
    const auto put = [](FdbContent& content) {
        return [&content](const FdbKey& key, const FdbTarget& target) { content.insert_or_assign(key, target); };
    };
    for (const auto& [id, row] : old.instances) {
        const auto other = next.instances.find(id);
        if (other == next.instances.end() || !same_list(row, other->second)) {
            each_static(id, row, put(before));
        }
    }
    for (const auto& [id, row] : next.instances) {
        const auto other = old.instances.find(id);
        if (other == old.instances.end() || !same_list(row, other->second)) {
            after.reserve(after.size() + (row.fdb ? row.fdb->size() : 0));
            each_static(id, row, put(after));
        }
    }
    const auto same_macs = [](const PortRow& a, const PortRow& b) {
        return a.value.instance == b.value.instance && a.value.kind == b.value.kind && a.macs == b.macs;
    };
    for (const auto& [id, row] : old.ports) {
        const auto other = next.ports.find(id);
        if (other == next.ports.end() || !same_macs(row, other->second)) {
            each_static(id, row, put(before));
        }
    }
    for (const auto& [id, row] : next.ports) {
        const auto other = old.ports.find(id);
        if (other == old.ports.end() || !same_macs(row, other->second)) {
            each_static(id, row, put(after));
        }
    }
    plan.fdb_puts.reserve(after.size());
    for (const auto& [key, target] : after) {
        const auto was = before.find(key);
        if (was == before.end()) {
            plan.fdb_puts.push_back({key, {}, target});
        } else if (was->second != target) {
            plan.fdb_puts.push_back({key, was->second, target});
        }
    }
    for (const auto& [key, target] : before) {
        if (!after.contains(key)) {
            plan.fdb_clears.push_back({key, target, {}});
        }
    }
}

void diff_fdb(const FdbContent& in_map, const Tables& next, Plan& plan) {
    std::unordered_set<FdbKey, FdbKeyHash> wanted;
    const auto visit = [&](const FdbKey& key, const FdbTarget& target) {
        wanted.insert(key);
        const auto was = in_map.find(key);
        if (was == in_map.end()) {
            plan.fdb_puts.push_back({key, {}, target});
        } else if (was->second != target) {
            plan.fdb_puts.push_back({key, was->second, target});
        }
    };
    for (const auto& [id, row] : next.instances) {
        each_static(id, row, visit);
    }
    for (const auto& [id, row] : next.ports) {
        each_static(id, row, visit);
    }
    for (const auto& [key, target] : in_map) {
        if (!wanted.contains(key)) {
            plan.fdb_clears.push_back({key, target, {}});
        }
    }
}

// The same of the neighbours: those of `in_map` are in the maps, or, if it is null, those of `old`.
void diff_neighbours(const Tables& old, const NeighbourContent* in_map, const Tables& next, Plan& plan) {
    static const std::vector<Neighbour> none;
    const auto list_of = [](const Tables& tables, std::uint32_t id) {
        const auto row = tables.instances.find(id);
        return row == tables.instances.end() ? nullptr : row->second.neighbours;
    };
    NeighbourContent before;
    NeighbourContent after;
    const auto put = [](NeighbourContent& content, std::uint32_t id, const std::vector<Neighbour>& list) {
        for (const auto& neighbour : list) {
            content.emplace(NeighbourKey{id, neighbour.address}, neighbour.mac);
        }
    };
    std::set<std::uint32_t> ids;
    for (const auto* tables : {&old, &next}) {
        for (const auto& [id, row] : tables->instances) {
            ids.insert(id);
        }
    }
    for (const auto id : ids) {
        const auto was = list_of(old, id);
        const auto is = list_of(next, id);
        if (in_map == nullptr && was == is) {
            continue;
        }
        put(after, id, is ? *is : none);
        if (in_map == nullptr) {
            put(before, id, was ? *was : none);
        }
    }
    if (in_map == nullptr) {
        in_map = &before;
    }
    for (const auto& [key, mac] : after) {
        const auto was = in_map->find(key);
        if (was == in_map->end()) {
            plan.neighbour_puts.push_back({key, std::nullopt, mac});
        } else if (was->second != mac) {
            plan.neighbour_puts.push_back({key, was->second, mac});
        }
    }
    for (const auto& [key, mac] : *in_map) {
        if (!after.contains(key)) {
            plan.neighbour_clears.push_back({key, mac, std::nullopt});
        }
    }
}

// Writes the ports and lists of the plan while following what the maps hold after each write.
class ListPlanner {
public:
    ListPlanner(const Content& now, const Tables& next, Plan& plan) : next_(next), plan_(plan) {
        for (const auto& [id, value] : now.ports) {
            ports_.emplace(id, configured(value));
        }
        instances_ = now.instances;
        members_ = members_of(next);
        for (const auto& [id, row] : next.instances) {
            auto target = row.value;
            const auto first = members_.first.find(id);
            target.first_member = first == members_.first.end() ? 0 : first->second;
            targets_.emplace(id, target);
        }
    }

    // Instances that are new, not yet active and with an empty list.
    void new_instances() {
        for (const auto& [id, target] : targets_) {
            if (!instances_.contains(id)) {
                auto value = target;
                value.flags = static_cast<std::uint16_t>(value.flags & ~IVDS_IF_ACTIVE);
                value.first_member = 0;
                put(id, value);
                fresh_.insert(id);
            }
        }
    }

    // Takes every port out of its list that goes or changes its instance.
    void unlink() {
        for (auto& [instance, value] : std::map(instances_)) {
            std::uint32_t last = 0;  // the last member that stays
            std::set<std::uint32_t> seen;
            for (auto id = value.first_member; id != 0 && seen.insert(id).second;) {
                const auto found = ports_.find(id);
                const auto after = found == ports_.end() ? 0 : found->second.next_member;
                const auto row = next_.ports.find(id);
                const bool stays = found != ports_.end() && found->second.instance == instance &&
                                   row != next_.ports.end() && row->second.value.instance == instance &&
                                   is_vport(row->second.value);
                if (stays) {
                    last = id;
                } else if (last == 0) {
                    auto changed = instances_.at(instance);
                    changed.first_member = after;
                    put(instance, changed);
                } else {
                    auto changed = ports_.at(last);
                    changed.next_member = after;
                    put(last, changed);
                }
                id = after;
            }
        }
    }

    // Every port's final value, from the end of the lists.
    void ports() {
        // Inspectors before the vPorts that name them.
        for (const auto& [id, row] : next_.ports) {
            const auto now = ports_.find(id);
            if (row.value.kind == IVDS_PORT_INSPECTOR && (now == ports_.end() || !same(now->second, row.value))) {
                put(id, row.value);
            }
        }
        for (const auto& [id, row] : std::views::reverse(next_.ports)) {
            auto value = configured(row.value);
            const auto next = members_.next.find(id);
            value.next_member = next == members_.next.end() ? 0 : next->second;
            const auto now = ports_.find(id);
            if (now == ports_.end() || !same(now->second, value)) {
                if (now != ports_.end() && now->second.instance != 0 && now->second.instance != value.instance) {
                    plan_.flush_ports.insert(id);
                }
                put(id, value);
            }
        }
    }

    // Instances' final values; the new ones stay inactive.
    void instances() {
        for (const auto& [id, target] : targets_) {
            auto value = target;
            if (fresh_.contains(id)) {
                value.flags = static_cast<std::uint16_t>(value.flags & ~IVDS_IF_ACTIVE);
            }
            if (!same(instances_.at(id), value)) {
                put(id, value);
            }
        }
    }

    void activate() {
        for (const auto id : fresh_) {
            if (!same(instances_.at(id), targets_.at(id))) {
                put(id, targets_.at(id));
            }
        }
    }

private:
    void put(std::uint32_t id, const ivds_port& value) {
        ports_[id] = value;
        plan_.steps.emplace_back(PutPort{id, value});
    }
    void put(std::uint32_t id, const ivds_instance& value) {
        instances_[id] = value;
        plan_.steps.emplace_back(PutInstance{id, value});
    }

    const Tables& next_;
    Plan& plan_;
    std::map<std::uint32_t, ivds_port> ports_;
    std::map<std::uint32_t, ivds_instance> instances_;
    std::map<std::uint32_t, ivds_instance> targets_;
    std::set<std::uint32_t> fresh_;
    Members members_;
};

// The steps of the lists of rules: before the ports are written, right behind them, and when all else is done.
struct AclSteps {
    std::vector<Step> before_ports;
    std::vector<Step> behind_ports;
    std::vector<Step> last;
};

AclSteps diff_acls(const Content& now, const Tables& old, const Bulk* in_map, const Tables& next) {
    AclSteps steps;
    if (in_map == nullptr) {
        for (const auto& [id, list] : next.acls) {
            if (!old.acls.contains(id)) {
                steps.before_ports.emplace_back(PutAcl{id, rows_of(id, *list)});
            }
        }
        for (const auto& [id, list] : old.acls) {
            if (!next.acls.contains(id)) {
                steps.last.emplace_back(ClearAcl{id, rows_of(id, *list)});
            }
        }
        return steps;
    }
    std::set<std::uint32_t> named;
    for (const auto& [id, port] : now.ports) {
        named.insert({port.acl_in, port.acl_out});
    }
    for (const auto& [session, mirror] : now.mirrors) {
        named.insert(mirror.filter);
    }
    for (const auto& [id, list] : next.acls) {
        const auto found = in_map->acls.find(id);
        auto rows = rows_of(id, *list);
        if (found != in_map->acls.end()) {
            if (same(*rows, *found->second)) {
                continue;
            }
            steps.before_ports.emplace_back(ClearAcl{id, found->second});
        }
        // Ports that name it now may be about to name another: they must not meet the rules of other ports.
        auto& when = named.contains(id) ? steps.behind_ports : steps.before_ports;
        when.emplace_back(PutAcl{id, std::move(rows)});
    }
    for (const auto& [id, rows] : in_map->acls) {
        if (!next.acls.contains(id)) {
            steps.last.emplace_back(ClearAcl{id, rows});
        }
    }
    return steps;
}

// Of the rules in the lists that the plan clears, those that no list of `next` holds.
std::set<std::uint32_t> gone_rules(const Plan& plan, const Tables& next) {
    std::set<std::uint32_t> gone;
    for (const auto& step : plan.steps) {
        if (const auto* clear = std::get_if<ClearAcl>(&step)) {
            for (const auto& [key, rule] : clear->rows->rules) {
                gone.insert(rule.rule);
            }
        }
    }
    gone.erase(0);  // counts nothing
    for (const auto& [id, list] : next.acls) {
        if (gone.empty()) {
            break;
        }
        for (const auto& [key, rule] : list->rules) {
            gone.erase(rule.rule);
        }
    }
    return gone;
}

std::unexpected<Error> wrong(const std::string& what) {
    return fail(Code::invalid, "IVDS-T001", "the tables contradict themselves: " + what);
}

Result<> validate_mirror(std::uint32_t session, const MirrorRow& row, const Tables& tables) {
    const auto& value = row.value;
    const auto target = tables.ports.find(value.target);
    const int kind = target == tables.ports.end() ? 0 : target->second.value.kind;
    if (session >= IVDS_MAX_MIRRORS || value.kind == IVDS_MIRROR_NONE || value.kind > IVDS_MIRROR_RING) {
        return wrong(
            fmt::format("session {} of mirror {} is out of range, or of kind {}", session, row.name, value.kind));
    }
    if (value.tap != 0) {
        return wrong(fmt::format("mirror {} has run-time fields set", row.name));
    }
    // What is for a VF is the NIC's to copy.
    const bool takes_copies = kind == IVDS_PORT_VPORT || kind == IVDS_PORT_SUB || kind == IVDS_PORT_VF;
    if ((value.kind == IVDS_MIRROR_SPAN && !takes_copies) ||
        (value.kind == IVDS_MIRROR_RSPAN && kind != IVDS_PORT_UPLINK)) {
        return wrong(fmt::format("mirror {} leads to port {}, which is not of the kind", row.name, value.target));
    }
    if (row.ring_bytes != 0 && (value.kind != IVDS_MIRROR_RING || !std::has_single_bit(row.ring_bytes))) {
        return wrong(fmt::format("mirror {} has a ring of {} bytes", row.name, row.ring_bytes));
    }
    if (value.filter != 0 && !tables.acls.contains(value.filter)) {
        return wrong(
            fmt::format("mirror {} names the list of rules {}, which does not exist", row.name, value.filter));
    }
    return {};
}

// A frame can be sent to it.
bool is_target(const Tables& tables, std::uint32_t target) {
    if ((target & IVDS_TARGET_POOL) != 0) {
        return tables.pools.contains(target & ~IVDS_TARGET_POOL);
    }
    const auto found = tables.ports.find(target);
    return found != tables.ports.end() && found->second.value.kind != IVDS_PORT_UPLINK &&
           found->second.value.kind != IVDS_PORT_INSPECTOR;
}

Result<> validate_pool(std::uint32_t id, const PoolRow& row, const Tables& tables) {
    if (id == 0 || id > IVDS_MAX_POOLS || row.value.count > IVDS_MAX_POOL_PORTS) {
        return wrong(fmt::format("pool {} has id {} and {} vPorts", row.name, id, row.value.count));
    }
    for (std::uint32_t i = 0; i < row.value.count; ++i) {
        if ((row.value.member[i] & IVDS_TARGET_POOL) != 0 || !is_target(tables, row.value.member[i])) {
            return wrong(fmt::format("pool {} names port {}, which is no vPort", row.name, row.value.member[i]));
        }
    }
    return {};
}

// Both ends of a patch name each other, and nothing else is known of them.
Result<> validate_patch(std::uint32_t id, const PortRow& row, const Tables& tables) {
    if (!row.netdev.empty() || !row.macs.empty()) {
        return wrong(fmt::format("port {} is a patch, and has an interface or MACs", row.name));
    }
    if (row.value.peer == 0) {
        return {};
    }
    const auto other = tables.ports.find(row.value.peer);
    if (other == tables.ports.end() || other->second.value.kind != IVDS_PORT_PATCH ||
        other->second.value.peer != id || row.value.peer == id) {
        return wrong(
            fmt::format("the other end of patch {} is port {}, which does not lead back", row.name, row.value.peer));
    }
    return {};
}

// A vPort behind a trunk is behind one tag of a vPort with an interface.
Result<> validate_sub(std::uint32_t id, const PortRow& row, const Tables& tables) {
    if (!row.netdev.empty()) {
        return wrong(fmt::format("port {} is in a trunk, and has an interface", row.name));
    }
    const auto trunk = tables.ports.find(row.value.peer);
    const auto entry = tables.vvlans.find({row.value.peer, row.value.vid, 0});
    if (trunk == tables.ports.end() || trunk->second.value.kind != IVDS_PORT_VPORT ||
        (trunk->second.value.flags & IVDS_PF_TRUNK) == 0 || entry == tables.vvlans.end() || entry->second != id) {
        return wrong(
            fmt::format("tag {} of port {} does not lead to port {}", row.value.vid, row.value.peer, row.name));
    }
    return {};
}

// vPorts name an inspector, and inspectors themselves.
Result<> validate_inspection(std::uint32_t id, const PortRow& row, const Tables& tables) {
    const auto& value = row.value;
    if (value.kind == IVDS_PORT_INSPECTOR) {
        if (value.inspector != id || value.instance != 0 || value.timeout_ms == 0 || value.queue == 0 ||
            value.queue > IVDS_MAX_QUEUE) {
            return wrong(fmt::format("inspector {} has inspector {}, instance {}, timeout_ms {} and queue {}",
                                     row.name, value.inspector, value.instance, value.timeout_ms, value.queue));
        }
        return {};
    }
    if (value.timeout_ms != 0 || value.queue != 0 || (value.flags & IVDS_PF_FAIL_OPEN) != 0) {
        return wrong(fmt::format("port {} is no inspector, and has what is an inspector's", row.name));
    }
    if (value.inspector == 0) {
        return {};
    }
    const auto found = tables.ports.find(value.inspector);
    if (!is_vport(value) || found == tables.ports.end() || found->second.value.kind != IVDS_PORT_INSPECTOR) {
        return wrong(fmt::format("port {} names inspector {}, which {}", row.name, value.inspector,
                                 is_vport(value) ? "is none" : "only a vPort may"));
    }
    return {};
}

Result<> validate_list(std::uint32_t id, const AclRow& list, const Tables& tables) {
    if (!is_default(list.default_action)) {
        return wrong(fmt::format("the list of rules {} has no default", id));
    }
    if (list.masks.size() > IVDS_MAX_ACL_MASKS) {
        return wrong(fmt::format("the list of rules {} has {} masks", id, list.masks.size()));
    }
    for (const auto& [key, rule] : list.rules) {
        if (key.acl != 0 || key.mask >= list.masks.size() || !is_action(rule.action)) {
            return wrong(fmt::format("the list of rules {} has an entry with ACL {}, mask {} of {} and action {}", id,
                                     key.acl, key.mask, list.masks.size(), rule.action));
        }
        if ((rule.action == IVDS_ACL_REDIRECT) != (rule.target != 0) ||
            (rule.target != 0 && !is_target(tables, rule.target))) {
            return wrong(fmt::format("the list of rules {} has an entry with action {} and target {:#x}", id,
                                     rule.action, rule.target));
        }
    }
    const auto rows = rows_of(id, list);
    const auto same_key = [](const auto& a, const auto& b) { return same_bytes(a.first, b.first); };
    if (std::ranges::adjacent_find(rows->rules, same_key) != rows->rules.end()) {
        return wrong(fmt::format("the list of rules {} has an entry twice", id));
    }
    return {};
}

}  // namespace

std::size_t FdbKeyHash::operator()(const FdbKey& key) const noexcept {
    std::uint64_t bits = key.instance;
    for (const auto byte : key.mac) {
        bits = bits * 0x100000001b3ull ^ byte;
    }
    return std::hash<std::uint64_t>{}(bits * 0x9e3779b97f4a7c15ull);
}

void AclRows::sort() {
    std::ranges::sort(masks, less_row);
    std::ranges::sort(rules, less_row);
}

std::shared_ptr<const AclRows> rows_of(std::uint32_t acl, const AclRow& list) {
    auto rows = std::make_shared<AclRows>();
    rows->head.masks = static_cast<std::uint32_t>(list.masks.size());
    rows->head.default_action = list.default_action;
    for (const auto& mask : list.masks) {
        rows->head.tcp_flags |= mask.fields.tcp_flags;
    }
    rows->masks.reserve(list.masks.size());
    for (const auto& mask : list.masks) {
        rows->masks.emplace_back(ivds_acl_mask_key{acl, static_cast<std::uint32_t>(rows->masks.size())}, mask);
    }
    rows->rules = list.rules;
    for (auto& [key, rule] : rows->rules) {
        key.acl = acl;
    }
    rows->sort();
    return rows;
}

bool same(const AclRows& a, const AclRows& b) {
    return same_bytes(a.head, b.head) && std::ranges::equal(a.masks, b.masks, same_row) &&
           std::ranges::equal(a.rules, b.rules, same_row);
}

Members members_of(const Tables& tables) {
    Members members;
    // From the highest id down, so that each port's successor is what was the first so far.
    for (const auto& [id, row] : std::views::reverse(tables.ports)) {
        if (is_vport(row.value) && row.value.instance != 0) {
            auto& first = members.first[row.value.instance];
            members.next[id] = first;
            first = id;
        }
    }
    return members;
}

Result<> validate(const Tables& tables, const Tables& before) {
    std::set<std::string> netdevs;
    const auto is_uplink = [&](std::uint32_t id) {
        const auto found = tables.ports.find(id);
        return found != tables.ports.end() && found->second.value.kind == IVDS_PORT_UPLINK;
    };
    std::uint32_t sessions = 0;
    for (const auto& [session, row] : tables.mirrors) {
        if (auto r = validate_mirror(session, row, tables); !r) {
            return r;
        }
        sessions |= 1u << session;
    }
    for (const auto& [id, row] : tables.ports) {
        const auto& value = row.value;
        if (((value.mirror_in | value.mirror_out | value.mirror_drop) & ~sessions) != 0) {
            return wrong(fmt::format("port {} names a session of a mirror that does not exist", row.name));
        }
        if (id == 0 || id >= IVDS_MAX_PORTS) {
            return wrong(fmt::format("port id {} is out of range", id));
        }
        if (value.kind < IVDS_PORT_VPORT || value.kind > IVDS_PORT_VF) {
            return wrong(fmt::format("port {} is neither vPort nor uplink", row.name));
        }
        if (auto r = validate_inspection(id, row, tables); !r) {
            return r;
        }
        if (value.kind == IVDS_PORT_PATCH) {
            if (auto r = validate_patch(id, row, tables); !r) {
                return r;
            }
        } else if (value.kind == IVDS_PORT_SUB) {
            if (auto r = validate_sub(id, row, tables); !r) {
                return r;
            }
        } else if (value.kind == IVDS_PORT_VF && !row.netdev.empty()) {
            return wrong(fmt::format("port {} is a VF of its VM's, and has an interface", row.name));
        } else if (value.peer != 0 || value.vid != 0) {
            return wrong(fmt::format("port {} is no patch and in no trunk, and has another end", row.name));
        }
        if (value.pcp > IVDS_PCP_KEEP || value.dscp > 64) {
            return wrong(fmt::format("port {} has PCP {} and DSCP {}", row.name, value.pcp, value.dscp - 1));
        }
        if (value.ifindex != 0 || value.next_member != 0 || (value.flags & runtime_flags(value)) != 0) {
            return wrong(fmt::format("port {} has run-time fields set", row.name));
        }
        if (value.instance != 0 && !tables.instances.contains(value.instance)) {
            return wrong(
                fmt::format("port {} is bound to instance {}, which does not exist", row.name, value.instance));
        }
        for (const auto acl : {value.acl_in, value.acl_out}) {
            if (acl != 0 && (value.kind == IVDS_PORT_UPLINK || !tables.acls.contains(acl))) {
                return wrong(fmt::format("port {} names the list of rules {}, which {}", row.name, acl,
                                         tables.acls.contains(acl) ? "only a vPort may" : "does not exist"));
            }
        }
        if (!row.netdev.empty() && !netdevs.insert(row.netdev).second) {
            return wrong(fmt::format("interface {} has two ports", row.netdev));
        }
    }
    for (const auto& [id, row] : tables.instances) {
        if (id == 0 || id >= IVDS_MAX_INSTANCES) {
            return wrong(fmt::format("instance id {} is out of range", id));
        }
        if (row.value.first_member != 0) {
            return wrong(fmt::format("instance {} has run-time fields set", row.name));
        }
        if (row.value.uplink != 0 && !is_uplink(row.value.uplink)) {
            return wrong(fmt::format("instance {} names uplink {}, which is none", row.name, row.value.uplink));
        }
        const auto rising = [](const Neighbour& a, const Neighbour& b) { return a.address >= b.address; };
        if (row.neighbours && std::ranges::adjacent_find(*row.neighbours, rising) != row.neighbours->end()) {
            return wrong(fmt::format("instance {} has a neighbour twice, or out of order", row.name));
        }
        const auto& value = row.value;
        const auto uplink = tables.ports.find(value.uplink);
        const bool has_one_tag = uplink != tables.ports.end() && uplink->second.value.outer_tpid_be != 0 &&
                                 uplink->second.value.inner_tpid_be == 0;
        if (has_one_tag && (value.vvlan != 0 || value.peer_vlans[0] != 0 || (value.flags & IVDS_IF_PLAIN_OUT) != 0)) {
            return wrong(fmt::format("instance {} is not of one tag, which is all that its uplink has", row.name));
        }
    }
    for (const auto& [id, row] : tables.pools) {
        if (auto r = validate_pool(id, row, tables); !r) {
            return r;
        }
    }
    for (const auto& [id, list] : tables.acls) {
        if (id == 0 || id >= IVDS_MAX_ACLS || !list) {
            return wrong(fmt::format("the list of rules {} is {}", id, list ? "out of range" : "empty"));
        }
        const auto known = before.acls.find(id);
        if (known != before.acls.end() && known->second == list) {
            continue;
        }
        if (known != before.acls.end() && !same(*known->second, *list)) {
            return wrong(fmt::format("the list of rules {} changed under its id", id));
        }
        if (auto r = validate_list(id, *list, tables); !r) {
            return r;
        }
    }
    for (const auto& [key, instance] : tables.vvlans) {
        if (const auto sub = tables.ports.find(instance); sub != tables.ports.end() && !is_uplink(key[0]) &&
                                                          sub->second.value.kind == IVDS_PORT_SUB &&
                                                          sub->second.value.peer == key[0]) {
            continue;  // validate_sub() has seen it
        }
        if (!is_uplink(key[0]) || key[1] == 0 || key[1] > IVDS_VLAN_MAX || key[2] > IVDS_VLAN_MAX ||
            (instance != 0 && !tables.instances.contains(instance)) || (key[2] != 0 && instance == 0)) {
            return wrong(fmt::format("the entry of uplink {}, VLAN {}, V.VLAN {} to instance {}", key[0], key[1],
                                     key[2], instance));
        }
    }
    for (const auto& [key, rates] : tables.peer_rates) {
        const auto instance = tables.instances.find(key[0]);
        if (instance == tables.instances.end() || (instance->second.value.flags & IVDS_IF_PEER_RATES) == 0 ||
            key[1] == 0 || key[1] > IVDS_VLAN_MAX || rates.paid_ns[IVDS_WAY_IN] != 0 ||
            rates.paid_ns[IVDS_WAY_OUT] != 0) {
            return wrong(fmt::format("the rates of the peers of instance {} on VLAN {}", key[0], key[1]));
        }
    }
    if (tables.peer_rates.size() > IVDS_MAX_PEER_RATES) {
        return wrong(fmt::format("{} rates of peers, {} fit", tables.peer_rates.size(), IVDS_MAX_PEER_RATES));
    }
    return {};
}

Plan make_plan(const Content& now, const Tables& old, const Bulk* in_map, const Tables& next) {
    Plan plan;
    if (in_map != nullptr) {
        diff_fdb(in_map->fdb, next, plan);
    } else {
        diff_fdb(old, next, plan);
    }
    diff_neighbours(old, in_map != nullptr ? &in_map->neighbours : nullptr, next, plan);

    for (const auto& [id, row] : next.pools) {
        const auto found = now.pools.find(id);
        if (found == now.pools.end() || !same_bytes(found->second, row.value)) {
            plan.steps.emplace_back(PutPool{id, row.value});
        }
    }
    for (const auto& [key, rates] : next.peer_rates) {
        const auto found = now.peer_rates.find(key);
        if (found == now.peer_rates.end() || !same_bytes(found->second, rates)) {
            plan.steps.emplace_back(PutPeerRate{key, rates});
        }
    }
    const auto acls = diff_acls(now, old, in_map, next);
    plan.steps.insert(plan.steps.end(), acls.before_ports.begin(), acls.before_ports.end());
    for (const auto& [session, row] : next.mirrors) {
        const auto found = now.mirrors.find(session);
        if (found == now.mirrors.end() || !same_but_tap(found->second, row.value)) {
            plan.steps.emplace_back(PutMirror{session, row.value});
        }
    }
    // What has no interface any more leaves it as the port that it was.
    for (const auto& [id, row] : next.ports) {
        const auto found = now.ports.find(id);
        if (!has_interface(row.value) && found != now.ports.end() && found->second.ifindex != 0) {
            plan.steps.emplace_back(HooksOff{id});
            plan.flush_ports.insert(id);
        }
    }
    ListPlanner lists(now, next, plan);
    lists.new_instances();
    lists.unlink();
    lists.ports();
    plan.steps.insert(plan.steps.end(), acls.behind_ports.begin(), acls.behind_ports.end());
    lists.instances();
    if (!plan.fdb_puts.empty()) {
        plan.steps.emplace_back(PutFdb{});
    }
    if (!plan.neighbour_puts.empty()) {
        plan.steps.emplace_back(PutNeighbours{});
    }
    for (const auto& [key, instance] : next.vvlans) {
        const auto found = now.vvlans.find(key);
        if (found == now.vvlans.end() || found->second != instance) {
            plan.steps.emplace_back(PutVvlan{key, instance});
        }
    }
    lists.activate();

    for (const auto& [id, value] : now.ports) {
        if (!next.ports.contains(id)) {
            plan.steps.emplace_back(HooksOff{id});
            plan.gone_ports.insert(id);
            plan.flush_ports.insert(id);
        }
    }
    plan.steps.emplace_back(HooksOn{});
    for (const auto& [key, instance] : now.vvlans) {
        if (!next.vvlans.contains(key)) {
            plan.steps.emplace_back(ClearVvlan{key});
        }
    }
    for (const auto& [key, rates] : now.peer_rates) {
        if (!next.peer_rates.contains(key)) {
            plan.steps.emplace_back(ClearPeerRate{key});
        }
    }
    if (!plan.neighbour_clears.empty()) {
        plan.steps.emplace_back(ClearNeighbours{});
    }
    if (!plan.fdb_clears.empty()) {
        plan.steps.emplace_back(ClearFdb{});
    }
    for (const auto id : plan.gone_ports) {
        plan.steps.emplace_back(ClearPort{id});
    }
    for (const auto& [id, value] : now.instances) {
        const auto after = next.instances.find(id);
        if (after == next.instances.end()) {
            plan.steps.emplace_back(ClearInstance{id});
            plan.gone_instances.insert(id);
            plan.flush_instances.insert(id);
        } else if (after->second.value.vlan != value.vlan || after->second.value.uplink != value.uplink ||
                   (after->second.value.vvlan == 0) != (value.vvlan == 0) ||
                   ((after->second.value.flags ^ value.flags) & IVDS_IF_PLAIN_OUT) != 0 ||
                   (value.flags & ~after->second.value.flags & IVDS_IF_LEARN_WIRE) != 0) {
            // What was learned names the outer VLAN, the uplink, or the plain hosts of before; and no frame sets
            // right where a host is that moves to another VLAN, where nothing is learned from the wire any more.
            plan.flush_instances.insert(id);
        }
    }
    for (const auto& [session, value] : now.mirrors) {
        if (!next.mirrors.contains(session)) {
            plan.steps.emplace_back(ClearMirror{session});
            plan.gone_mirrors.insert(session);
        }
    }
    plan.steps.insert(plan.steps.end(), acls.last.begin(), acls.last.end());
    for (const auto& [id, value] : now.pools) {
        if (!next.pools.contains(id)) {
            plan.steps.emplace_back(ClearPool{id});
        }
    }
    plan.gone_rules = gone_rules(plan, next);
    return plan;
}

ivds_fdb_key to_abi(const FdbKey& key) {
    ivds_fdb_key out{};
    out.instance = key.instance;
    std::memcpy(out.mac, key.mac.data(), sizeof(out.mac));
    return out;
}

ivds_fdb_entry to_abi(const FdbTarget& target) {
    ivds_fdb_entry out{};
    out.port = target.port;
    out.vlan = target.vlan;
    out.flags = target.flags;
    out.vport = target.vport;
    return out;
}

ivds_neighbour_key to_abi(const NeighbourKey& key) {
    ivds_neighbour_key out{};
    out.instance = key.instance;
    std::ranges::copy(key.address, out.address);
    return out;
}

ivds_vvlan_key to_abi(const VvlanKey& key) {
    ivds_vvlan_key out{};
    out.uplink = key[0];
    out.vlan = static_cast<std::uint16_t>(key[1]);
    out.vvlan = static_cast<std::uint16_t>(key[2]);
    return out;
}

ivds_peer_key to_abi(const PeerKey& key) {
    ivds_peer_key out{};
    out.instance = key[0];
    out.vlan = static_cast<std::uint16_t>(key[1]);
    return out;
}

}  // namespace ivds
