// SPDX-License-Identifier: Apache-2.0
// core.cpp -- plan, execute, undo; and the life of a port on its interface.
//
// The leak rule: a tenant's frame never reaches the host's stack. So the entries of a port are written before
// its hooks go on, TC goes on first and comes off last, and an interface that loses its hooks is set down before.
#include "core.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "audit.h"

namespace ivds {
namespace {

constexpr std::uint32_t kZero = 0;
// From so many interfaces to look up on, one list of all is cheaper than one request each.
constexpr std::size_t kListAllFrom = 8;
// From so many hooks to change on, the kernel is told to hurry.
constexpr std::size_t kHurryFrom = 16;

// While it lives the kernel hurries, if enough hooks are to change.
class Hurry {
public:
    Hurry(Kernel& kernel, std::size_t hooks) : kernel_(hooks >= kHurryFrom ? &kernel : nullptr) {
        if (kernel_ != nullptr) {
            kernel_->hurry(true);
        }
    }
    ~Hurry() {
        if (kernel_ != nullptr) {
            kernel_->hurry(false);
        }
    }
    Hurry(const Hurry&) = delete;
    Hurry& operator=(const Hurry&) = delete;

private:
    Kernel* kernel_;
};

// Of the mirrors to rings of their own.
std::set<std::string> ring_names(const Tables& tables) {
    std::set<std::string> names;
    for (const auto& [session, row] : tables.mirrors) {
        if (row.ring_bytes != 0) {
            names.insert(row.name);
        }
    }
    return names;
}

bool gone(const Error& error) {
    return error.os_errno == ENODEV || error.os_errno == ENOLINK || error.os_errno == ENXIO;
}

// The error of a write to a map that holds no more than `capacity` entries says so.
Error full(Error error, const char* what_holds, std::uint32_t capacity) {
    if (error.os_errno == E2BIG || error.os_errno == ENOSPC) {
        error.code = Code::exhausted;
        error.fix = fmt::format("{} {} entries", what_holds, capacity);
    }
    return error;
}

// Whether its interface is up only with a program of ours on it.
bool is_fenced(const ivds_port& port) {
    return port.kind == IVDS_PORT_VPORT || port.kind == IVDS_PORT_INSPECTOR;
}

}  // namespace

// ------------------------------------------------------------------ adoption

// What the maps hold, but for the FDB.
Result<Content> Core::read_content() {
    Content content;
    const ivds_port no_port{};
    const ivds_instance no_instance{};
    auto r = kernel_.each(Map::ports, [&](const void* key, const void* value) {
        ivds_port port;
        std::uint32_t id = 0;
        std::memcpy(&id, key, sizeof(id));
        std::memcpy(&port, value, sizeof(port));
        if (!same_bytes(port, no_port)) {
            content.ports.emplace(id, port);
        }
    });
    if (!r) {
        return std::unexpected(r.error());
    }
    r = kernel_.each(Map::instances, [&](const void* key, const void* value) {
        ivds_instance instance;
        std::uint32_t id = 0;
        std::memcpy(&id, key, sizeof(id));
        std::memcpy(&instance, value, sizeof(instance));
        if (!same_bytes(instance, no_instance)) {
            content.instances.emplace(id, instance);
        }
    });
    if (!r) {
        return std::unexpected(r.error());
    }
    r = kernel_.each(Map::mirrors, [&](const void* key, const void* value) {
        ivds_mirror mirror;
        std::uint32_t session = 0;
        std::memcpy(&session, key, sizeof(session));
        std::memcpy(&mirror, value, sizeof(mirror));
        if (!same_bytes(mirror, ivds_mirror{})) {
            content.mirrors.emplace(session, mirror);
        }
    });
    if (!r) {
        return std::unexpected(r.error());
    }
    r = kernel_.each(Map::vvlans, [&](const void* key, const void* value) {
        ivds_vvlan_key k;
        ivds_vvlan v;
        std::memcpy(&k, key, sizeof(k));
        std::memcpy(&v, value, sizeof(v));
        content.vvlans.emplace(VvlanKey{k.uplink, k.vlan, k.vvlan}, v.instance);
    });
    if (!r) {
        return std::unexpected(r.error());
    }
    r = kernel_.each(Map::peer_rates, [&](const void* key, const void* value) {
        ivds_peer_key k;
        ivds_peer_rate v;
        std::memcpy(&k, key, sizeof(k));
        std::memcpy(&v, value, sizeof(v));
        std::ranges::fill(v.paid_ns, 0);
        content.peer_rates.emplace(PeerKey{k.instance, k.vlan}, v);
    });
    if (!r) {
        return std::unexpected(r.error());
    }
    r = kernel_.each(Map::pools, [&](const void* key, const void* value) {
        ivds_pool pool;
        std::uint32_t id = 0;
        std::memcpy(&id, key, sizeof(id));
        std::memcpy(&pool, value, sizeof(pool));
        content.pools.emplace(id, pool);
    });
    if (!r) {
        return std::unexpected(r.error());
    }
    const auto words = [](std::map<std::uint32_t, std::uint32_t>& into) {
        return [&into](const void* key, const void* value) {
            std::uint32_t k = 0;
            std::uint32_t v = 0;
            std::memcpy(&k, key, sizeof(k));
            std::memcpy(&v, value, sizeof(v));
            into.emplace(k, v);
        };
    };
    if (r = kernel_.each(Map::ifports, words(content.ifports)); !r) {
        return std::unexpected(r.error());
    }
    std::set<std::uint32_t> ids;
    for (const auto* ports : {&content.ports, &content_.ports}) {
        for (const auto& [id, port] : *ports) {
            ids.insert(id);
        }
    }
    for (const auto id : ids) {
        std::uint32_t ifindex = 0;
        auto there = kernel_.lookup(Map::tx, &id, &ifindex);
        if (!there) {
            return std::unexpected(there.error());
        }
        if (*there) {
            content.tx.emplace(id, ifindex);
        }
    }
    return content;
}

Result<> Core::adopt() {
    auto content = read_content();
    if (!content) {
        return std::unexpected(content.error());
    }
    content_ = std::move(*content);
    for (const auto& [session, mirror] : content_.mirrors) {
        tap_ = mirror.tap;
    }
    live_ = true;
    auto hooks = kernel_.hooks();
    if (!hooks) {
        return std::unexpected(hooks.error());
    }
    hooks_ = std::move(*hooks);
    // clsact filters have no pin: the port's TC flag without a tcx link says where to look.
    for (const auto& [id, port] : content_.ports) {
        if (port.ifindex != 0 && (port.flags & IVDS_PF_TC) != 0 && !hooks_[port.ifindex].tc) {
            if (kernel_.clsact_ours(port.ifindex)) {
                hooks_[port.ifindex].tc = Point::clsact;
            }
        }
    }
    std::erase_if(hooks_, [](const auto& item) { return !item.second.tc && !item.second.xdp; });
    adopted_ = true;
    return {};
}

Result<FdbContent> Core::static_fdb() {
    FdbContent entries;
    auto r = kernel_.each(Map::fdb, [&](const void* key, const void* value) {
        ivds_fdb_key k;
        ivds_fdb_entry v;
        std::memcpy(&k, key, sizeof(k));
        std::memcpy(&v, value, sizeof(v));
        if ((v.flags & IVDS_FDB_STATIC) != 0) {
            FdbKey out{k.instance, {}};
            std::memcpy(out.mac.data(), k.mac, sizeof(k.mac));
            // That its VM went from here is for a while only, and no table's.
            const auto flags = static_cast<std::uint8_t>(v.flags & ~IVDS_FDB_MOVED);
            entries.emplace(out, FdbTarget{v.port, v.vlan, flags, v.vport});
        }
    });
    if (!r) {
        return std::unexpected(r.error());
    }
    return entries;
}

Result<NeighbourContent> Core::read_neighbours() {
    NeighbourContent entries;
    auto r = kernel_.each(Map::neighbours, [&](const void* key, const void* value) {
        ivds_neighbour_key k;
        ivds_neighbour v;
        std::memcpy(&k, key, sizeof(k));
        std::memcpy(&v, value, sizeof(v));
        NeighbourKey out{.instance = k.instance};
        std::ranges::copy(k.address, out.address.begin());
        Mac mac{};
        std::ranges::copy(v.mac, mac.begin());
        entries.emplace(out, mac);
    });
    if (!r) {
        return std::unexpected(r.error());
    }
    return entries;
}

// The lists of rules, also what a crash left of one. Live or not, they are read whole: what is in them cannot be told
// from anything less.
Result<AclContent> Core::read_acls() {
    std::map<std::uint32_t, std::shared_ptr<AclRows>> lists;
    const auto list = [&](std::uint32_t id) -> AclRows& {
        auto& rows = lists[id];
        if (!rows) {
            rows = std::make_shared<AclRows>();
        }
        return *rows;
    };
    auto r = kernel_.each(Map::acls, [&](const void* key, const void* value) {
        std::uint32_t id = 0;
        ivds_acl head;
        std::memcpy(&id, key, sizeof(id));
        std::memcpy(&head, value, sizeof(head));
        if (!same_bytes(head, ivds_acl{})) {
            list(id).head = head;
        }
    });
    if (r) {
        r = kernel_.each(Map::acl_masks, [&](const void* key, const void* value) {
            std::pair<ivds_acl_mask_key, ivds_acl_mask> row;
            std::memcpy(&row.first, key, sizeof(row.first));
            std::memcpy(&row.second, value, sizeof(row.second));
            list(row.first.acl).masks.push_back(row);
        });
    }
    if (r) {
        r = kernel_.each(Map::acl_rules, [&](const void* key, const void* value) {
            std::pair<ivds_acl_key, ivds_acl_rule> row;
            std::memcpy(&row.first, key, sizeof(row.first));
            std::memcpy(&row.second, value, sizeof(row.second));
            list(row.first.acl).rules.push_back(row);
        });
    }
    if (!r) {
        return std::unexpected(r.error());
    }
    AclContent content;
    for (const auto& [id, rows] : lists) {
        rows->sort();
        content.emplace(id, rows);
    }
    return content;
}

Result<Bulk> Core::read_bulk() {
    auto fdb = static_fdb();
    if (!fdb) {
        return std::unexpected(fdb.error());
    }
    auto acls = read_acls();
    if (!acls) {
        return std::unexpected(acls.error());
    }
    auto neighbours = read_neighbours();
    if (!neighbours) {
        return std::unexpected(neighbours.error());
    }
    return Bulk{std::move(*fdb), std::move(*acls), std::move(*neighbours)};
}

// ------------------------------------------------------------------ rows, each with its inverse

Result<> Core::put_port(std::uint32_t id, const ivds_port& value, Journal& journal) {
    const auto found = content_.ports.find(id);
    const ivds_port before = found == content_.ports.end() ? ivds_port{} : found->second;
    if (same_bytes(before, value)) {
        return {};
    }
    const auto write = [this, id](const ivds_port& port) {
        auto r = kernel_.put(Map::ports, &id, &port);
        if (r) {
            if (same_bytes(port, ivds_port{})) {
                content_.ports.erase(id);
            } else {
                content_.ports[id] = port;
            }
        }
        return r;
    };
    if (auto r = write(value); !r) {
        return r;
    }
    journal.add([write, before] { (void)write(before); });
    return {};
}

Result<> Core::put_instance(std::uint32_t id, const ivds_instance& value, Journal& journal) {
    const auto found = content_.instances.find(id);
    const ivds_instance before = found == content_.instances.end() ? ivds_instance{} : found->second;
    if (same_bytes(before, value)) {
        return {};
    }
    const auto write = [this, id](const ivds_instance& instance) {
        auto r = kernel_.put(Map::instances, &id, &instance);
        if (r) {
            if (same_bytes(instance, ivds_instance{})) {
                content_.instances.erase(id);
            } else {
                content_.instances[id] = instance;
            }
        }
        return r;
    };
    if (auto r = write(value); !r) {
        return r;
    }
    journal.add([write, before] { (void)write(before); });
    return {};
}

Result<> Core::put_mirror(std::uint32_t session, const ivds_mirror& value, Journal& journal) {
    const auto found = content_.mirrors.find(session);
    const ivds_mirror before = found == content_.mirrors.end() ? ivds_mirror{} : found->second;
    if (same_bytes(before, value)) {
        return {};
    }
    const auto write = [this, session](const ivds_mirror& mirror) {
        auto r = kernel_.put(Map::mirrors, &session, &mirror);
        if (r) {
            if (same_bytes(mirror, ivds_mirror{})) {
                content_.mirrors.erase(session);
            } else {
                content_.mirrors[session] = mirror;
            }
        }
        return r;
    };
    if (auto r = write(value); !r) {
        return r;
    }
    journal.add([write, before] { (void)write(before); });
    return {};
}

Result<> Core::rings_on(const Tables& next, Journal& journal) {
    const auto keep = [this](const Tables& tables) -> Result<> {
        for (const auto& [session, row] : tables.mirrors) {
            if (row.ring_bytes == 0) {
                continue;
            }
            if (auto r = kernel_.keep_ring(session, row.name, row.ring_bytes); !r) {
                return std::unexpected(r.error().in(fmt::format("make the ring of mirror {}", row.name)));
            }
        }
        return {};
    };
    // After an adoption nobody knows which rings there were: none is taken away then.
    if (!adopted_ && !ring_names(next).empty()) {
        journal.add([this, keep] {
            (void)keep(tables_);
            kernel_.forget_rings(ring_names(tables_));
        });
    }
    return keep(next);
}

Result<> Core::tap_on(Journal& journal) {
    const bool was_there = tap_ != 0;
    auto made = kernel_.make_tap();
    if (!made) {
        if (!was_there) {
            (void)kernel_.remove_tap();
        }
        return std::unexpected(made.error());
    }
    journal.add([this, was_there, before = tap_] {
        tap_ = before;
        if (!was_there) {
            (void)kernel_.remove_tap();
        }
    });
    tap_ = *made;
    for (auto [session, value] : std::map(content_.mirrors)) {
        value.tap = tap_;
        if (auto r = put_mirror(session, value, journal); !r) {
            return r;
        }
    }
    return {};
}

Result<> Core::tap_off(Journal& journal) {
    if (auto r = kernel_.remove_tap(); !r) {
        return r;
    }
    if (tap_ != 0) {
        journal.add([this] { tap_ = kernel_.make_tap().value_or(0); });
    }
    tap_ = 0;
    return {};
}

// One row of a keyed map; a null `value` removes it.
template <class MirrorMap, class AbiKey>
Result<> Core::put_row(Map map, MirrorMap& mirror, const typename MirrorMap::key_type& key, const AbiKey& abi_key,
                       const typename MirrorMap::mapped_type* value, Journal& journal) {
    using Value = typename MirrorMap::mapped_type;
    const auto found = mirror.find(key);
    std::optional<Value> before;
    if (found != mirror.end()) {
        before = found->second;
    }
    const std::optional<Value> after = value != nullptr ? std::optional(*value) : std::nullopt;
    if (before.has_value() == after.has_value() && (!before || same_bytes(*before, *after))) {
        return {};
    }
    const auto write = [this, map, &mirror, key, abi_key](const std::optional<Value>& row) {
        auto r = row ? kernel_.put(map, &abi_key, &*row) : kernel_.erase(map, &abi_key);
        if (r) {
            if (row) {
                mirror[key] = *row;
            } else {
                mirror.erase(key);
            }
        }
        return r;
    };
    if (auto r = write(after); !r) {
        return r;
    }
    journal.add([write, before] { (void)write(before); });
    return {};
}

Result<> Core::put_static(const FdbChange& change, std::vector<std::pair<FdbKey, ivds_fdb_entry>>& learned) {
    const auto key = to_abi(change.key);
    if (change.after.port == 0) {
        return kernel_.erase(Map::fdb, &key);
    }
    const auto entry = to_abi(change.after);
    if (change.before.port != 0) {
        return kernel_.put(Map::fdb, &key, &entry);
    }
    // Something may have been learned under this key, also between two tries: taking it out atomically keeps
    // the counts of learned entries exact.
    for (int tries = 0; tries < 8; ++tries) {
        auto fresh = kernel_.put_new(Map::fdb, &key, &entry);
        if (!fresh) {
            return std::unexpected(fresh.error());
        }
        if (*fresh) {
            return {};
        }
        ivds_fdb_entry old{};
        auto taken = kernel_.take(Map::fdb, &key, &old);
        if (!taken) {
            return std::unexpected(taken.error());
        }
        if (*taken && (old.flags & IVDS_FDB_STATIC) == 0) {
            kernel_.learned(old.port, key.instance, -1);
            learned.emplace_back(change.key, old);
        }
    }
    return kernel_.put(Map::fdb, &key, &entry);
}

Result<> Core::put_fdb(const std::vector<FdbChange>& changes, Journal& journal) {
    struct Done {
        std::size_t count = 0;
        std::vector<std::pair<FdbKey, ivds_fdb_entry>> learned;
    };
    const auto done = std::make_shared<Done>();
    // The list itself is the journal; it lives as long as the apply.
    journal.add([this, done, &changes] {
        std::vector<std::pair<FdbKey, ivds_fdb_entry>> ignored;
        for (auto i = done->count; i-- > 0;) {
            (void)put_static({changes[i].key, changes[i].after, changes[i].before}, ignored);
        }
        for (const auto& [key, entry] : done->learned) {
            const auto abi_key = to_abi(key);
            if (const auto fresh = kernel_.put_new(Map::fdb, &abi_key, &entry); fresh && *fresh) {
                kernel_.learned(entry.port, key.instance, 1);
            }
        }
    });
    for (const auto& change : changes) {
        if (auto r = put_static(change, done->learned); !r) {
            // A learned entry taken out for a static one that then failed goes back with the rest.
            return std::unexpected(full(r.error(), "the FDB holds", IVDS_MAX_FDB));
        }
        ++done->count;
    }
    return {};
}

Result<> Core::put_neighbours(const std::vector<NeighbourChange>& changes, Journal& journal) {
    const auto write = [this](const NeighbourKey& key, const std::optional<Mac>& mac) -> Result<> {
        const auto abi_key = to_abi(key);
        if (!mac) {
            return kernel_.erase(Map::neighbours, &abi_key);
        }
        ivds_neighbour value{};
        std::memcpy(value.mac, mac->data(), sizeof(value.mac));
        return kernel_.put(Map::neighbours, &abi_key, &value);
    };
    const auto done = std::make_shared<std::size_t>(0);
    // The list itself is the journal; it lives as long as the apply.
    journal.add([write, done, &changes] {
        for (auto i = *done; i-- > 0;) {
            (void)write(changes[i].key, changes[i].before);
        }
    });
    for (const auto& change : changes) {
        if (auto r = write(change.key, change.after); !r) {
            return std::unexpected(full(r.error(), "the table of addresses holds", IVDS_MAX_NEIGHBOURS));
        }
        ++*done;
    }
    return {};
}

// Writes a list of rules (`there`), or takes it away. The entry that makes it live is the last of the one and the
// first of the other, so that no frame meets a list that is not whole.
Result<> Core::change_acl(std::uint32_t id, const std::shared_ptr<const AclRows>& rows, bool there,
                          Journal& journal) {
    // What was never live has nothing to switch off, and what somebody else wrote may be of an id that no list can
    // have.
    const bool live = !same_bytes(rows->head, ivds_acl{});
    const auto count = rows->rules.size() + rows->masks.size() + (live ? 1 : 0);
    const auto write = [this, id, rows](std::size_t at, bool put) -> Result<> {
        const auto row = [&](Map map, const auto& item) {
            return put ? kernel_.put(map, &item.first, &item.second) : kernel_.erase(map, &item.first);
        };
        if (at < rows->rules.size()) {
            return row(Map::acl_rules, rows->rules[at]);
        }
        if (at -= rows->rules.size(); at < rows->masks.size()) {
            return row(Map::acl_masks, rows->masks[at]);
        }
        const ivds_acl head = put ? rows->head : ivds_acl{};
        return kernel_.put(Map::acls, &id, &head);
    };
    // As many of the rows, from the first on, are in the maps.
    const auto in_map = std::make_shared<std::size_t>(there ? 0 : count);
    const auto bring_to = [write, in_map](std::size_t wanted) -> Result<> {
        Result<> r;
        while (r && *in_map != wanted) {
            const bool put = *in_map < wanted;
            r = write(put ? *in_map : *in_map - 1, put);
            if (r) {
                put ? ++*in_map : --*in_map;
            }
        }
        return r;
    };
    journal.add([this, bring_to, before = *in_map] {
        // Rows that stay behind would be in the way of another list under this id: the next change looks for them.
        drifted_ = !bring_to(before) || drifted_;
    });
    if (auto r = bring_to(there ? count : 0); !r) {
        return std::unexpected(full(r.error(), "the lists of rules together hold", IVDS_MAX_ACL_RULES));
    }
    return {};
}

Result<> Core::bump_generation(Journal& journal, const std::string* build) {
    ivds_meta before{};
    if (auto r = kernel_.lookup(Map::meta, &kZero, &before); !r) {
        return std::unexpected(r.error());
    }
    ivds_meta after = before;
    after.generation += 1;
    if (build != nullptr) {
        std::memset(after.build, 0, sizeof(after.build));
        std::memcpy(after.build, build->data(), std::min(build->size(), sizeof(after.build) - 1));
    }
    if (auto r = kernel_.put(Map::meta, &kZero, &after); !r) {
        return r;
    }
    journal.add([this, before] { (void)kernel_.put(Map::meta, &kZero, &before); });
    return {};
}

// ------------------------------------------------------------------ hooks

void Core::note_hook(const Netdev& netdev, Point point, bool there) {
    auto& hooks = hooks_[netdev.ifindex];
    hooks.netdev = netdev.name;
    auto& slot = is_xdp(point) ? hooks.xdp : hooks.tc;
    if (there) {
        slot = point;
    } else if (slot == point) {
        slot.reset();
    }
    if (!hooks.tc && !hooks.xdp) {
        hooks_.erase(netdev.ifindex);
    }
}

Result<> Core::hook(const Netdev& netdev, Point point) {
    const auto programs = kernel_.current();
    if (point == Point::clsact) {
        if (auto r = kernel_.clsact_attach(netdev, programs.tc); !r) {
            return r;
        }
        note_hook(netdev, point, true);
        return {};
    }
    if (is_shared(point)) {
        if (auto joined = kernel_.join(netdev.ifindex, netdev.name, point); !joined) {
            return std::unexpected(joined.error());
        }
        note_hook(netdev, point, true);
        return {};
    }
    auto link = kernel_.link_create(netdev, point, is_xdp(point) ? programs.xdp : programs.tc);
    if (!link) {
        return std::unexpected(link.error());
    }
    auto pinned = kernel_.link_pin(*link, netdev, point);
    kernel_.link_close(*link);
    if (pinned) {
        note_hook(netdev, point, true);
    }
    return pinned;
}

Result<> Core::unhook(const Netdev& netdev, Point point) {
    auto r = point == Point::clsact ? kernel_.clsact_detach(netdev.ifindex)
             : is_shared(point)     ? kernel_.leave(netdev.ifindex, netdev.name, {})
                                    : kernel_.link_remove(netdev.ifindex, netdev.name, point);
    if (r) {
        note_hook(netdev, point, false);
    }
    return r;
}

Result<> Core::hook(const Netdev& netdev, Point point, Journal& journal) {
    auto r = hook(netdev, point);
    if (r) {
        journal.add([this, netdev, point] { (void)unhook(netdev, point); });
    }
    return r;
}

Result<> Core::unhook(const Netdev& netdev, Point point, Journal& journal) {
    auto r = unhook(netdev, point);
    if (r) {
        journal.add([this, netdev, point] { (void)hook(netdev, point); });
    }
    return r;
}

// ------------------------------------------------------------------ a port and its interface

Facts Core::facts_of(std::uint32_t id, const PortRow& row, const Netdev& netdev, const Tables& tables) const {
    Facts facts;
    facts.port = row.name;
    facts.netdev = netdev;
    facts.uplink = row.value.kind == IVDS_PORT_UPLINK;
    facts.inspector = row.value.kind == IVDS_PORT_INSPECTOR;
    facts.wanted = row.wanted;
    facts.coexist = coexist_;
    if (const auto hooks = hooks_.find(netdev.ifindex); hooks != hooks_.end()) {
        facts.hooks = hooks->second;
    }
    if (facts.uplink) {
        for (const auto& [instance, instance_row] : tables.instances) {
            if (instance_row.value.uplink == id) {
                facts.mtu_bytes = std::max(facts.mtu_bytes, instance_row.value.mtu_bytes);
            }
        }
    } else if (!facts.inspector) {
        facts.mtu_bytes = row.value.mtu_bytes;
    }
    return facts;
}

bool Core::is_up(std::uint32_t id) const {
    const auto port = content_.ports.find(id);
    return port != content_.ports.end() && (port->second.flags & IVDS_PF_UP) != 0 &&
           (port->second.kind != IVDS_PORT_SUB || is_up(port->second.peer));
}

// Makes the run-time part of a port's entry follow its interface and its hooks.
Result<> Core::refresh(std::uint32_t id, const Netdev& netdev, Journal& journal) {
    const auto known = netdevs_.find(netdev.ifindex);
    const std::optional<Netdev> before = known == netdevs_.end() ? std::nullopt : std::optional(known->second);
    netdevs_[netdev.ifindex] = netdev;
    journal.add([this, before, ifindex = netdev.ifindex] {
        if (before) {
            netdevs_[ifindex] = *before;
        } else {
            netdevs_.erase(ifindex);
        }
    });

    const auto hooks = hooks_.find(netdev.ifindex);
    const bool tc = hooks != hooks_.end() && hooks->second.tc.has_value();
    const bool up = tc && netdev.admin_up && (netdev.carrier || assume_carrier_);
    const bool target = tc && (netdev.xdp_features.value_or(0) & kXdpNdoXmit) != 0;

    if (target) {
        if (auto r = put_row(Map::tx, content_.tx, id, id, &netdev.ifindex, journal); !r) {
            return r;
        }
    }
    auto value = content_.ports[id];
    value.flags =
        static_cast<std::uint16_t>((value.flags & ~kRuntimeFlags) | (up ? IVDS_PF_UP : 0) | (tc ? IVDS_PF_TC : 0) |
                                   (target ? IVDS_PF_XDP_TARGET : 0) | (netdev.has_fq ? IVDS_PF_FQ : 0));
    if (value.kind == IVDS_PORT_UPLINK) {
        value.mtu_bytes = static_cast<std::uint16_t>(std::min<std::uint32_t>(netdev.mtu, 0xffff));
    }
    if (auto r = put_port(id, value, journal); !r) {
        return r;
    }
    if (!target) {
        return put_row(Map::tx, content_.tx, id, id, nullptr, journal);
    }
    return {};
}

// Takes a port off its interface, which may be there, renamed or gone.
Result<> Core::release(std::uint32_t id, Journal& journal) {
    const auto port = content_.ports.find(id);
    if (port == content_.ports.end() || port->second.ifindex == 0) {
        return {};
    }
    const auto ifindex = port->second.ifindex;
    const auto found = hooks_.find(ifindex);
    const Hooks hooks = found == hooks_.end() ? Hooks{} : found->second;

    // The cached state knows the interface by the name of its pins; only the index tells whether it is there.
    Netdev netdev;
    netdev.ifindex = ifindex;
    netdev.name = hooks.netdev;
    if (const auto cached = netdevs_.find(ifindex); cached != netdevs_.end()) {
        netdev.admin_up = cached->second.admin_up;
        netdev.kind = cached->second.kind;
        netdev.promiscuous = cached->second.promiscuous;
    } else if (auto current = kernel_.netdev(hooks.netdev); current && *current && (*current)->ifindex == ifindex) {
        netdev.admin_up = (*current)->admin_up;
        netdev.kind = (*current)->kind;
        netdev.promiscuous = (*current)->promiscuous;
    }

    if (is_fenced(port->second)) {
        if (auto r = kernel_.set_up(ifindex, false); r) {
            if (netdev.admin_up) {
                journal.add([this, ifindex] { (void)kernel_.set_up(ifindex, true); });
            }
        } else if (!gone(r.error())) {
            return r;
        }
    }
    auto value = port->second;
    value.flags = static_cast<std::uint16_t>(value.flags & ~(IVDS_PF_UP | IVDS_PF_XDP_TARGET));
    if (auto r = put_port(id, value, journal); !r) {
        return r;
    }
    if (auto r = put_row(Map::tx, content_.tx, id, id, nullptr, journal); !r) {
        return r;
    }
    if (hooks.xdp) {
        if (auto r = unhook(netdev, *hooks.xdp, journal); !r) {
            return r;
        }
    }
    if (value.kind == IVDS_PORT_UPLINK && netdev.promiscuous) {
        if (auto r = kernel_.set_promiscuous(ifindex, netdev.name, false); !r) {
            return r;
        }
        journal.add([this, netdev] { (void)kernel_.set_promiscuous(netdev.ifindex, netdev.name, true); });
    }
    value.flags = static_cast<std::uint16_t>(value.flags & ~IVDS_PF_TC);
    if (auto r = put_port(id, value, journal); !r) {
        return r;
    }
    if (hooks.tc) {
        if (auto r = unhook(netdev, *hooks.tc, journal); !r) {
            return r;
        }
    }
    if (const auto owner = content_.ifports.find(ifindex); owner != content_.ifports.end() && owner->second == id) {
        if (auto r = put_row(Map::ifports, content_.ifports, ifindex, ifindex, nullptr, journal); !r) {
            return r;
        }
    }
    value.ifindex = 0;
    if (value.kind == IVDS_PORT_UPLINK) {
        value.mtu_bytes = 0;
    }
    if (auto r = put_port(id, value, journal); !r) {
        return r;
    }
    if (const auto cached = netdevs_.find(ifindex); cached != netdevs_.end()) {
        journal.add([this, ifindex, saved = cached->second] { netdevs_[ifindex] = saved; });
        netdevs_.erase(cached);
    }
    return {};
}

// A vPort's or inspector's interface that carries no program of ours must not talk to the host's stack.
void Core::fence(std::uint32_t id, const PortRow& row, const Netdev& netdev, Journal& journal) {
    const auto hooks = hooks_.find(netdev.ifindex);
    if (is_fenced(row.value) && netdev.admin_up && (hooks == hooks_.end() || !hooks->second.tc) &&
        kernel_.set_up(netdev.ifindex, false)) {
        journal.add([this, ifindex = netdev.ifindex] { (void)kernel_.set_up(ifindex, true); });
    }
    lives_[id].failed = true;
}

Result<> Core::attach(std::uint32_t id, const PortRow& row, const Netdev& netdev, const Decision& decision,
                      bool fall_back, Journal& journal) {
    for (const auto& change : decision.changes) {
        auto before = kernel_.features(netdev, change.peer);
        if (!before) {
            return std::unexpected(before.error());
        }
        std::map<std::string, bool> old;
        for (const auto& [name, state] : change.wanted) {
            old[name] = (*before)[name].on;
        }
        if (auto r = kernel_.set_features(netdev, change.peer, change.wanted); !r) {
            return r;
        }
        journal.add([this, netdev, peer = change.peer, old] { (void)kernel_.set_features(netdev, peer, old); });
        auto after = kernel_.features(netdev, change.peer);
        if (!after) {
            return std::unexpected(after.error());
        }
        for (const auto& [name, state] : change.wanted) {
            if ((*after)[name].on != state) {
                return fail(Code::unsupported, change.peer ? "IVDS-P009" : "IVDS-P008",
                            fmt::format("{} of {}{} stays {}", name, change.peer ? "the peer of " : "", netdev.name,
                                        state ? "off" : "on"),
                            "use mode auto or tcx");
            }
        }
    }

    auto value = content_.ports[id];
    value.ifindex = netdev.ifindex;
    if (value.kind == IVDS_PORT_UPLINK) {
        value.mtu_bytes = static_cast<std::uint16_t>(std::min<std::uint32_t>(netdev.mtu, 0xffff));
    }
    if (auto r = put_port(id, value, journal); !r) {
        return r;
    }
    if (auto r = put_row(Map::ifports, content_.ifports, netdev.ifindex, netdev.ifindex, &id, journal); !r) {
        return r;
    }

    const Hooks before = hooks_.contains(netdev.ifindex) ? hooks_.at(netdev.ifindex) : Hooks{};
    if (before.tc != decision.tc) {
        // The new TC hook goes on before the old comes off; the first of them that sees a frame ends it.
        if (auto r = hook(netdev, decision.tc, journal); !r) {
            return r;
        }
        if (before.tc) {
            if (auto r = unhook(netdev, *before.tc); !r) {
                return r;
            }
            journal.add([this, netdev, old = *before.tc] { (void)hook(netdev, old); });
            note_hook(netdev, decision.tc, true);
        }
    }
    value = content_.ports[id];
    value.flags = static_cast<std::uint16_t>(value.flags | IVDS_PF_TC);
    if (auto r = put_port(id, value, journal); !r) {
        return r;
    }
    lives_[id].reason = decision.reason;
    if (before.xdp != decision.xdp) {
        if (before.xdp) {
            if (auto r = unhook(netdev, *before.xdp, journal); !r) {
                return r;
            }
        }
        if (decision.xdp) {
            if (auto r = hook(netdev, *decision.xdp, journal); !r) {
                if (!fall_back) {
                    return r;
                }
                lives_[id].reason = "the driver refused native XDP: " + r.error().text();
            }
        }
    }

    if (is_fenced(row.value) && !netdev.admin_up) {
        if (auto r = kernel_.set_up(netdev.ifindex, true); !r) {
            return r;
        }
        journal.add([this, ifindex = netdev.ifindex] { (void)kernel_.set_up(ifindex, false); });
    }
    // vMACs are not the NIC's own, so that its address filter would drop what is for them.
    if (row.value.kind == IVDS_PORT_UPLINK && !netdev.promiscuous) {
        if (auto r = kernel_.set_promiscuous(netdev.ifindex, netdev.name, true); !r) {
            return r;
        }
        journal.add([this, netdev] { (void)kernel_.set_promiscuous(netdev.ifindex, netdev.name, false); });
    }
    // Hooks and flags change what the interface is and can.
    auto now = kernel_.netdev(netdev.name);
    if (!now) {
        return std::unexpected(now.error());
    }
    if (!*now || (*now)->ifindex != netdev.ifindex) {
        return os_error(ENODEV, "IVDS-P011", "the interface " + netdev.name + " went while it was being attached");
    }
    return refresh(id, **now, journal);
}

Result<> Core::converge(std::uint32_t id, const PortRow& row, const Netdev& netdev, Journal& journal) {
    const auto hooks = hooks_.find(netdev.ifindex);
    const auto& port = content_.ports[id];
    const bool bound = port.ifindex == netdev.ifindex && (port.flags & IVDS_PF_TC) != 0 && hooks != hooks_.end() &&
                       hooks->second.tc.has_value() && content_.ifports.contains(netdev.ifindex) &&
                       content_.ifports.at(netdev.ifindex) == id;
    auto& life = lives_[id];
    life.failed = false;
    const auto known = tables_.ports.find(id);
    const bool same_wish = known == tables_.ports.end() || known->second.wanted == row.wanted;
    if (bound && row.wanted == AttachMode::automatic && same_wish) {
        // What auto once decided stays: deciding anew could only take a working hook away.
        if (life.reason.empty() || known == tables_.ports.end()) {
            life.reason =
                netdev.is_hardware() ? "as attached before" : decide(facts_of(id, row, netdev, tables_)).reason;
        }
        return refresh(id, netdev, journal);
    }
    if (const auto owner = content_.ifports.find(netdev.ifindex);
        owner != content_.ifports.end() && owner->second != id && wanted_tables().ports.contains(owner->second)) {
        if (auto r = release(owner->second, journal); !r) {
            return r;
        }
    }
    const auto decision = decide(gather(kernel_, facts_of(id, row, netdev, wanted_tables())));
    if (const auto* finding = decision.error()) {
        life.reason = fmt::format("{} [{}]", finding->text, finding->id);
        return std::unexpected(to_error(*finding));
    }
    if (bound && hooks->second.tc == decision.tc && hooks->second.xdp == decision.xdp) {
        life.reason = decision.reason;
        return refresh(id, netdev, journal);
    }
    const auto mark = journal.mark();
    if (auto r = attach(id, row, netdev, decision, row.wanted == AttachMode::automatic, journal); !r) {
        journal.undo(mark);
        life.reason = r.error().text();
        return r;
    }
    return {};
}

Result<> Core::hooks_on(const Tables& next, bool strict, const std::set<std::string>* only, Journal& journal) {
    std::vector<std::uint32_t> todo;
    for (const auto& [id, row] : next.ports) {
        if (!has_interface(row.value) || (only != nullptr && !only->contains(row.netdev))) {
            continue;
        }
        const auto known = tables_.ports.find(id);
        const auto port = content_.ports.find(id);
        if (adopted_ || known == tables_.ports.end() || known->second.wanted != row.wanted ||
            known->second.netdev != row.netdev || known->second.value.kind != row.value.kind ||
            port == content_.ports.end() || (port->second.flags & IVDS_PF_TC) == 0 || lives_[id].failed) {
            todo.push_back(id);
        }
    }
    std::map<std::string, Netdev> netdevs;
    if (todo.size() >= kListAllFrom) {
        auto all = kernel_.netdevs();
        if (!all) {
            return std::unexpected(all.error());
        }
        for (auto& netdev : *all) {
            netdevs.emplace(netdev.name, std::move(netdev));
        }
    } else {
        for (const auto id : todo) {
            auto one = kernel_.netdev(next.ports.at(id).netdev);
            if (!one) {
                return std::unexpected(one.error());
            }
            if (*one) {
                netdevs.emplace((*one)->name, **one);
            }
        }
    }
    const auto find = [&](std::uint32_t id) -> const Netdev* {
        const auto found = netdevs.find(next.ports.at(id).netdev);
        return found == netdevs.end() ? nullptr : &found->second;
    };
    // First off what is elsewhere than it shall be, so that two ports can swap their interfaces.
    for (const auto id : todo) {
        const auto* netdev = find(id);
        const auto port = content_.ports.find(id);
        if (port != content_.ports.end() && port->second.ifindex != 0 &&
            (netdev == nullptr || netdev->ifindex != port->second.ifindex)) {
            if (auto r = release(id, journal); !r) {
                return r;
            }
            flush_ports_.insert(id);
        }
    }
    for (const auto id : todo) {
        const auto& row = next.ports.at(id);
        const bool is_new = !tables_.ports.contains(id);
        const auto* netdev = find(id);
        if (netdev == nullptr) {
            lives_[id] = {fmt::format("interface {} is away", row.netdev), false};
            if (strict && is_new) {
                return fail(Code::not_found, "IVDS-P011",
                            fmt::format("port {}: there is no interface {}", row.name, row.netdev),
                            "create it first, or leave --strict away and it is attached when it comes");
            }
            continue;
        }
        if (auto r = converge(id, row, *netdev, journal); !r) {
            if (strict && is_new) {
                return std::unexpected(r.error().in(fmt::format("port {} on {}", row.name, row.netdev)));
            }
            fence(id, row, *netdev, journal);
        }
    }
    return {};
}

// ------------------------------------------------------------------ apply

Result<> Core::carry_out(const Plan& plan, const Tables& next, bool strict, const std::set<std::string>* only,
                         Journal& journal) {
    const auto port_value = [&](const PutPort& step) {
        auto value = step.value;
        if (const auto now = content_.ports.find(step.port); now != content_.ports.end()) {
            if (!has_interface(value)) {
                return value;
            }
            value.ifindex = now->second.ifindex;
            value.flags = static_cast<std::uint16_t>(value.flags | (now->second.flags & runtime_flags(now->second)));
            if (value.kind == IVDS_PORT_UPLINK && now->second.kind == IVDS_PORT_UPLINK) {
                value.mtu_bytes = now->second.mtu_bytes;
            }
        }
        return value;
    };
    const auto run = [&](const Step& step) -> Result<> {
        if (const auto* s = std::get_if<PutPort>(&step)) {
            return put_port(s->port, port_value(*s), journal);
        }
        if (const auto* s = std::get_if<PutMirror>(&step)) {
            auto value = s->value;
            value.tap = tap_;
            return put_mirror(s->session, value, journal);
        }
        if (const auto* s = std::get_if<ClearMirror>(&step)) {
            return put_mirror(s->session, ivds_mirror{}, journal);
        }
        if (const auto* s = std::get_if<PutInstance>(&step)) {
            return put_instance(s->instance, s->value, journal);
        }
        if (const auto* s = std::get_if<PutVvlan>(&step)) {
            return put_row(Map::vvlans, content_.vvlans, s->key, to_abi(s->key), &s->instance, journal);
        }
        if (const auto* s = std::get_if<ClearVvlan>(&step)) {
            return put_row(Map::vvlans, content_.vvlans, s->key, to_abi(s->key), nullptr, journal);
        }
        if (const auto* s = std::get_if<PutPeerRate>(&step)) {
            return put_row(Map::peer_rates, content_.peer_rates, s->key, to_abi(s->key), &s->value, journal);
        }
        if (const auto* s = std::get_if<ClearPeerRate>(&step)) {
            return put_row(Map::peer_rates, content_.peer_rates, s->key, to_abi(s->key), nullptr, journal);
        }
        if (const auto* s = std::get_if<PutAcl>(&step)) {
            return change_acl(s->acl, s->rows, true, journal);
        }
        if (const auto* s = std::get_if<ClearAcl>(&step)) {
            return change_acl(s->acl, s->rows, false, journal);
        }
        if (const auto* s = std::get_if<PutPool>(&step)) {
            return put_row(Map::pools, content_.pools, s->pool, s->pool, &s->value, journal);
        }
        if (const auto* s = std::get_if<ClearPool>(&step)) {
            return put_row(Map::pools, content_.pools, s->pool, s->pool, nullptr, journal);
        }
        if (std::holds_alternative<PutFdb>(step)) {
            return put_fdb(plan.fdb_puts, journal);
        }
        if (std::holds_alternative<ClearFdb>(step)) {
            return put_fdb(plan.fdb_clears, journal);
        }
        if (std::holds_alternative<PutNeighbours>(step)) {
            return put_neighbours(plan.neighbour_puts, journal);
        }
        if (std::holds_alternative<ClearNeighbours>(step)) {
            return put_neighbours(plan.neighbour_clears, journal);
        }
        if (const auto* s = std::get_if<HooksOff>(&step)) {
            return release(s->port, journal);
        }
        if (std::holds_alternative<HooksOn>(step)) {
            return hooks_on(next, strict, only, journal);
        }
        if (const auto* s = std::get_if<ClearPort>(&step)) {
            return put_port(s->port, ivds_port{}, journal);
        }
        return put_instance(std::get<ClearInstance>(step).instance, ivds_instance{}, journal);
    };
    if (!next.mirrors.empty() && (adopted_ || drifted_ || tap_ == 0)) {
        if (auto r = tap_on(journal); !r) {
            return r;
        }
    }
    if (auto r = rings_on(next, journal); !r) {
        return r;
    }
    for (const auto& step : plan.steps) {
        if (auto r = run(step); !r) {
            return r;
        }
    }
    if (next.mirrors.empty() && (adopted_ || tap_ != 0)) {
        return tap_off(journal);
    }
    return {};
}

// Writes what was written last over what somebody else made of it. The static FDB and the lists of rules have no
// mirror here: as after an adoption, the next plan starts from what the maps hold of them.
Result<> Core::reconcile() {
    auto now = read_content();
    if (!now) {
        return std::unexpected(now.error());
    }
    Result<> done;
    const auto slots = [&](Map map, const auto& known, const auto& found) {
        using Value = typename std::decay_t<decltype(known)>::mapped_type;
        std::map<std::uint32_t, Value> right;
        for (const auto& [id, value] : found) {
            right.emplace(id, Value{});
        }
        for (const auto& [id, value] : known) {
            right.insert_or_assign(id, value);
        }
        for (const auto& [id, value] : right) {
            const auto there = found.find(id);
            if (done && (there == found.end() || !same_bytes(there->second, value))) {
                done = kernel_.put(map, &id, &value);
            }
        }
    };
    const auto rows = [&](Map map, const auto& known, const auto& found, auto&& to_key) {
        for (const auto& [key, value] : known) {
            const auto there = found.find(key);
            if (done && (there == found.end() || !same_bytes(there->second, value))) {
                const auto abi_key = to_key(key);
                done = kernel_.put(map, &abi_key, &value);
            }
        }
        for (const auto& [key, value] : found) {
            if (done && !known.contains(key)) {
                const auto abi_key = to_key(key);
                done = kernel_.erase(map, &abi_key);
            }
        }
    };
    const auto number = [](std::uint32_t key) { return key; };
    slots(Map::ports, content_.ports, now->ports);
    slots(Map::instances, content_.instances, now->instances);
    slots(Map::mirrors, content_.mirrors, now->mirrors);
    rows(Map::ifports, content_.ifports, now->ifports, number);
    rows(Map::tx, content_.tx, now->tx, number);
    rows(Map::pools, content_.pools, now->pools, number);
    rows(Map::vvlans, content_.vvlans, now->vvlans, [](const VvlanKey& key) { return to_abi(key); });
    rows(Map::peer_rates, content_.peer_rates, now->peer_rates, [](const PeerKey& key) { return to_abi(key); });
    adopted_ = adopted_ || done.has_value();
    return done;
}

Result<> Core::mend() {
    drifted_ = true;
    return apply(tables_, false);
}

Result<> Core::apply(Tables next, bool strict, const std::set<std::string>* only) {
    if (auto r = validate(next, tables_); !r) {
        return r;
    }
    if (drifted_) {
        if (auto r = reconcile(); !r) {
            return r;
        }
    }
    Plan plan;
    if (adopted_) {
        auto in_map = read_bulk();
        if (!in_map) {
            return std::unexpected(in_map.error());
        }
        plan = make_plan(content_, tables_, &*in_map, next);
    } else {
        plan = make_plan(content_, tables_, nullptr, next);
    }

    const auto lives = lives_;
    applying_ = &next;
    Journal journal;
    const auto unhooked = std::ranges::count_if(next.ports, [&](const auto& item) {
        if (!has_interface(item.second.value)) {
            return false;
        }
        const auto port = content_.ports.find(item.first);
        return port == content_.ports.end() || (port->second.flags & IVDS_PF_TC) == 0;
    });
    const Hurry hurry(kernel_, static_cast<std::size_t>(unhooked) + plan.gone_ports.size());
    auto r = carry_out(plan, next, strict, only, journal);
    if (r && !plan.empty()) {
        r = bump_generation(journal, nullptr);
    }
    applying_ = nullptr;
    if (!r) {
        journal.undo();
        lives_ = lives;
        return r;
    }
    journal.commit();

    // Nothing below can fail the change: what cannot be forgotten now is tried again at the next sweep.
    flush_ports_.insert(plan.flush_ports.begin(), plan.flush_ports.end());
    flush_instances_.insert(plan.flush_instances.begin(), plan.flush_instances.end());
    flush_pending();
    for (const auto id : plan.gone_ports) {
        kernel_.forget_port(id);
        lives_.erase(id);
    }
    for (const auto id : plan.gone_instances) {
        kernel_.forget_instance(id);
    }
    for (const auto session : plan.gone_mirrors) {
        kernel_.forget_mirror(session);
    }
    kernel_.forget_rules(plan.gone_rules);
    if (const auto names = ring_names(next); adopted_ || names != ring_names(tables_)) {
        kernel_.forget_rings(names);
    }
    tables_ = std::move(next);
    adopted_ = false;
    drifted_ = false;
    by_netdev_.clear();
    for (const auto& [id, row] : tables_.ports) {
        if (!row.netdev.empty()) {
            by_netdev_.emplace(row.netdev, id);
        }
    }
    return {};
}

void Core::flush_pending() {
    // A sweep goes over the whole FDB: a thousand ports that learned nothing shall not cost a thousand.
    std::erase_if(flush_ports_, [&](std::uint32_t id) {
        return !kernel_.has_learned(id, 0) || kernel_.sweep(id, 0, IVDS_SWEEP_BOTH).has_value();
    });
    std::erase_if(flush_instances_, [&](std::uint32_t id) {
        return !kernel_.has_learned(0, id) || kernel_.sweep(0, id, IVDS_SWEEP_BOTH).has_value();
    });
}

Result<Swept> Core::sweep(std::uint32_t port, std::uint32_t instance, ivds_sweep_only only) {
    flush_pending();
    return kernel_.sweep(port, instance, only);
}

Result<> Core::forget(std::uint32_t instance, const Mac& mac) {
    const auto key = to_abi(FdbKey{instance, mac});
    ivds_fdb_entry entry{};
    auto found = kernel_.lookup(Map::fdb, &key, &entry);
    if (!found) {
        return std::unexpected(found.error());
    }
    if (!*found) {
        return fail(Code::not_found, "IVDS-F001", fmt::format("{} is not in the FDB", format_mac(mac)));
    }
    if ((entry.flags & IVDS_FDB_STATIC) != 0) {
        return fail(Code::conflict, "IVDS-F002", fmt::format("{} is configured, not learned", format_mac(mac)),
                    "remove it from the configuration");
    }
    auto taken = kernel_.take(Map::fdb, &key, &entry);
    if (!taken) {
        return std::unexpected(taken.error());
    }
    if (*taken) {
        kernel_.learned(entry.port, instance, -1);
    }
    return {};
}

Result<> Core::send_on(std::uint32_t instance, const Mac& mac, std::uint32_t until_s) {
    const auto key = to_abi(FdbKey{instance, mac});
    ivds_fdb_entry entry{};
    auto found = kernel_.lookup(Map::fdb, &key, &entry);
    if (!found) {
        return std::unexpected(found.error());
    }
    const auto row = tables_.instances.find(instance);
    if (!*found || (entry.flags & IVDS_FDB_STATIC) == 0 || row == tables_.instances.end() ||
        entry.port != row->second.value.uplink) {
        return fail(Code::not_found, "IVDS-F001", fmt::format("{} is not behind another host", format_mac(mac)));
    }
    entry.flags |= IVDS_FDB_MOVED;
    entry.last_seen_s = until_s;
    return kernel_.put(Map::fdb, &key, &entry);
}

Result<> Core::carry_over(std::uint32_t port, const ivds_port_stats& stats, const std::vector<FlowRow>& flows) {
    if (!tables_.ports.contains(port)) {
        return fail(Code::not_found, "IVDS-F003", fmt::format("there is no port {}", port));
    }
    for (const auto& row : flows) {
        auto fresh = kernel_.put_new(Map::flows, &row.key, &row.flow);
        if (!fresh) {
            return std::unexpected(fresh.error());
        }
        if (*fresh) {
            kernel_.count_flows(port, 1);
            continue;
        }
        if (auto r = kernel_.put(Map::flows, &row.key, &row.flow); !r) {
            return r;
        }
    }
    return kernel_.set_port_stats(port, stats);
}

// ------------------------------------------------------------------ following interfaces

PortChange Core::change_of(std::uint32_t id) const {
    const auto life = lives_.find(id);
    return {id, tables_.ports.at(id).name, is_up(id), life == lives_.end() ? "" : life->second.reason};
}

std::vector<PortChange> Core::on_change(const NetdevWatch::Change& change) {
    std::vector<PortChange> changes;
    const auto& netdev = change.netdev;
    const auto bound = content_.ifports.find(netdev.ifindex);
    const std::uint32_t holder = bound == content_.ifports.end() ? 0 : bound->second;
    const bool configured = holder != 0 && tables_.ports.contains(holder);

    if (change.features_only) {
        if (const auto known = netdevs_.find(netdev.ifindex); configured && known != netdevs_.end()) {
            auto updated = known->second;
            updated.xdp_features = netdev.xdp_features;
            Journal journal;
            (void)refresh(holder, updated, journal);
            journal.commit();
        }
        return changes;
    }

    if (change.gone && !configured) {
        netdevs_.erase(netdev.ifindex);
    }
    const auto named = by_netdev_.find(netdev.name);
    const std::uint32_t owner = change.gone || named == by_netdev_.end() ? 0 : named->second;
    if (configured && holder != owner) {
        // Gone, or it carries another name now and is no longer this port's.
        Journal journal;
        auto r = release(holder, journal);
        journal.commit();
        flush_ports_.insert(holder);
        flush_pending();
        lives_[holder] = {change.gone ? "interface vanished" : "interface was renamed to " + netdev.name, false};
        if (!r) {
            lives_[holder].reason += ", and " + r.error().text();
        }
        changes.push_back(change_of(holder));
        changes.back().up = false;
    }
    if (owner == 0) {
        return changes;
    }

    const bool was_up = is_up(owner);
    const auto port = content_.ports.find(owner);
    if (port != content_.ports.end() && port->second.ifindex == netdev.ifindex) {
        auto updated = netdev;
        if (const auto known = netdevs_.find(netdev.ifindex); known != netdevs_.end()) {
            updated.xdp_features = known->second.xdp_features;
        }
        Journal journal;
        auto r = refresh(owner, updated, journal);
        journal.commit();
        if (is_up(owner) != was_up) {
            changes.push_back(change_of(owner));
            changes.back().reason = is_up(owner)       ? "carrier is there"
                                    : !netdev.admin_up ? "interface set down"
                                                       : "carrier lost";
        } else if (!r) {
            changes.push_back(change_of(owner));
            changes.back().reason = r.error().text();
        }
        return changes;
    }

    // A new interface of a port's name. What the message says may be old: look at what is there now.
    auto now = kernel_.netdev(netdev.name);
    if (!now || !*now || (port != content_.ports.end() && port->second.ifindex == (*now)->ifindex)) {
        return changes;
    }
    const auto& row = tables_.ports.at(owner);
    if (lives_[owner].failed && netdevs_.contains((*now)->ifindex)) {
        return changes;
    }
    Journal journal;
    auto r = release(owner, journal);
    if (r) {
        r = converge(owner, row, **now, journal);
    }
    if (!r) {
        fence(owner, row, **now, journal);
    }
    journal.commit();
    if (!r) {
        netdevs_[(*now)->ifindex] = **now;  // so that its further messages do not try again
        changes.push_back(change_of(owner));
        return changes;
    }
    changes.push_back(change_of(owner));
    const auto hooks = hooks_.find((*now)->ifindex);
    changes.back().reason = "attached: " + (hooks == hooks_.end() ? "none" : hooks->second.got());
    return changes;
}

std::vector<PortChange> Core::resync() {
    std::vector<PortChange> changes;
    auto all = kernel_.netdevs();
    if (!all) {
        return changes;
    }
    std::set<std::uint32_t> there;
    for (const auto& netdev : *all) {
        there.insert(netdev.ifindex);
    }
    const auto add = [&](std::vector<PortChange> more) {
        changes.insert(changes.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
    };
    for (const auto& [ifindex, id] : std::map(content_.ifports)) {
        if (!there.contains(ifindex)) {
            NetdevWatch::Change change;
            change.netdev.ifindex = ifindex;
            change.gone = true;
            add(on_change(change));
        }
    }
    for (const auto& netdev : *all) {
        add(on_change({netdev, false, false}));
        if (netdev.xdp_features) {
            add(on_change({netdev, false, true}));
        }
    }
    return changes;
}

// ------------------------------------------------------------------ status and doctor

std::vector<PortStatus> Core::status() const {
    std::vector<PortStatus> out;
    out.reserve(tables_.ports.size());
    for (const auto& [id, row] : tables_.ports) {
        PortStatus status;
        status.id = id;
        status.name = row.name;
        status.netdev = row.netdev;
        status.wanted = row.wanted;
        status.got = "none";
        if (const auto port = content_.ports.find(id); port != content_.ports.end()) {
            status.ifindex = port->second.ifindex;
            if (const auto hooks = hooks_.find(status.ifindex); hooks != hooks_.end()) {
                status.got = hooks->second.got();
            }
            if (const auto netdev = netdevs_.find(status.ifindex); netdev != netdevs_.end()) {
                status.mtu_bytes = static_cast<std::uint16_t>(std::min<std::uint32_t>(netdev->second.mtu, 0xffff));
            }
        }
        status.up = is_up(id);
        const auto carrier = content_.ports.find(row.value.kind == IVDS_PORT_SUB ? row.value.peer : id);
        status.has_fq =
            carrier != content_.ports.end() && (carrier->second.flags & IVDS_PF_FQ) != 0 && row.value.inspector == 0;
        if (row.value.kind == IVDS_PORT_SUB) {
            status.got = "trunk";
            status.mtu_bytes = row.value.mtu_bytes;
            const auto trunk = tables_.ports.find(row.value.peer);
            const std::string name = trunk == tables_.ports.end() ? "" : trunk->second.name;
            status.reason = status.up                 ? fmt::format("behind tag {} of vport {}", row.value.vid, name)
                            : row.value.instance == 0 ? "it has no instance"
                                                      : fmt::format("its trunk, vport {}, is down", name);
        } else if (row.value.kind == IVDS_PORT_VF) {
            status.got = status.up ? "nic" : "none";
            status.mtu_bytes = row.value.mtu_bytes;
            status.reason = status.up ? "a VF that its VM has: the NIC carries it"
                                      : "a VF that its VM has, and the NIC does not carry it";
        } else if (row.value.kind == IVDS_PORT_PATCH) {
            status.got = "patch";
            status.mtu_bytes = row.value.mtu_bytes;
            status.reason = status.up             ? "no interface: its other end is another vPort"
                            : row.value.peer == 0 ? "the other end does not exist"
                                                  : "an end of the patch has no instance";
        } else if (const auto life = lives_.find(id); life != lives_.end()) {
            status.reason = life->second.reason;
        }
        out.push_back(std::move(status));
    }
    return out;
}

std::vector<Finding> Core::doctor() {
    std::vector<Finding> findings;
    auto all = kernel_.netdevs();
    std::map<std::string, Netdev> netdevs;
    std::set<std::uint32_t> there;
    if (all) {
        for (auto& netdev : *all) {
            there.insert(netdev.ifindex);
            netdevs.emplace(netdev.name, std::move(netdev));
        }
    }
    for (const auto& [id, row] : tables_.ports) {
        if (!has_interface(row.value)) {
            continue;
        }
        const auto netdev = netdevs.find(row.netdev);
        if (netdev == netdevs.end()) {
            findings.push_back({Finding::Severity::warning, "IVDS-P011", row.name,
                                fmt::format("interface {} of port {} is away", row.netdev, row.name),
                                "it is attached when it comes"});
            continue;
        }
        auto facts = gather(kernel_, facts_of(id, row, netdev->second, tables_));
        facts.foreign_tcx = kernel_.foreign_tcx(netdev->second.ifindex);
        for (auto& finding : decide(facts).findings) {
            findings.push_back(std::move(finding));
        }
        const auto hooks = hooks_.find(netdev->second.ifindex);
        if (hooks != hooks_.end() && hooks->second.tc == Point::clsact &&
            !kernel_.clsact_ours(netdev->second.ifindex)) {
            findings.push_back(
                {Finding::Severity::error, "IVDS-P018", row.netdev,
                 fmt::format("the clsact filter of port {} was taken off {}", row.name, row.netdev),
                 "set the interface down and up the configuration again; find out who runs `tc qdisc del`"});
        }
        if (hooks != hooks_.end() && hooks->second.xdp && is_shared(*hooks->second.xdp) &&
            facts.dispatcher.ours.empty()) {
            findings.push_back(
                {Finding::Severity::error, "IVDS-P018", row.netdev,
                 fmt::format(
                     "the program of port {} was taken out of libxdp's dispatcher on {}; TC carries its frames",
                     row.name, row.netdev),
                 "restart the agent, which adds it again; find out who runs `xdp-loader unload`"});
        }
    }
    for (const auto& [ifindex, hooks] : hooks_) {
        if (!content_.ifports.contains(ifindex)) {
            findings.push_back(
                {Finding::Severity::warning, "IVDS-L020", hooks.netdev,
                 fmt::format("programs are on {} (ifindex {}), which is no port", hooks.netdev, ifindex),
                 "apply a configuration, or `ivds-loader down --detach`"});
        }
    }
    if (!content_.ports.empty() && kernel_.running() != kernel_.build()) {
        findings.push_back(
            {Finding::Severity::info, "IVDS-L021", "programs",
             fmt::format("the programs that run are of build {}, this is {}", kernel_.running(), kernel_.build()),
             "ivds-loader upgrade, or restart the agent"});
    }
    if (live_) {
        auto in_map = read_content();
        auto bulk = read_bulk();
        if (!in_map || !bulk) {
            const Error& error = in_map ? bulk.error() : in_map.error();
            findings.push_back({Finding::Severity::error, error.id, "maps", error.text(), error.fix});
            return findings;
        }
        // The kernel takes a redirect target away with its interface; the watch is about to hear of it.
        Content known = content_;
        std::erase_if(known.tx, [&](const auto& row) { return !there.contains(row.second); });
        for (auto& finding : audit(*in_map, *bulk, known, tables_)) {
            drifted_ = drifted_ || finding.severity == Finding::Severity::error;
            findings.push_back(std::move(finding));
        }
    }
    return findings;
}

// ------------------------------------------------------------------ upgrade and the end

Result<> Core::upgrade(bool again) {
    if (!again && kernel_.running() == kernel_.build()) {
        return {};
    }
    auto next = kernel_.load();
    if (!next) {
        return std::unexpected(next.error());
    }
    Journal journal;
    journal.add([this, programs = *next] { kernel_.unload(programs); });
    if (auto r = kernel_.pin_next(*next); !r) {
        return r;
    }
    journal.add([this] { kernel_.unpin_next(); });
    std::vector<int> old_programs;
    // In a dispatcher the new program is added beside the old one, which can be taken back; the old ones come out
    // once all is done, as they could not be put back. Where both are, the second passes what the first has seen.
    struct Joined {
        std::uint32_t ifindex;
        std::string netdev;
        std::vector<std::uint32_t> before;
    };
    std::vector<Joined> joined;
    const auto join = [&](std::uint32_t ifindex, const Hooks& hooks, Point point) -> Result<> {
        auto before = kernel_.dispatcher(ifindex).ours;
        auto fresh = kernel_.join(ifindex, hooks.netdev, point);
        if (!fresh) {
            return gone(fresh.error()) ? Result<>() : std::unexpected(fresh.error().in("upgrade " + hooks.netdev));
        }
        journal.add([this, ifindex, name = hooks.netdev, program = *fresh] {
            (void)kernel_.leave(ifindex, name, {program});
        });
        if (!before.empty()) {
            joined.push_back({ifindex, hooks.netdev, std::move(before)});
        }
        return {};
    };
    const auto swap = [&](std::uint32_t ifindex, const Hooks& hooks, Point point) -> Result<> {
        auto old = kernel_.swap(ifindex, hooks.netdev, point, is_xdp(point) ? next->xdp : next->tc);
        if (!old) {
            // An interface that just went takes its hooks along; the watch sees to the rest.
            return gone(old.error()) ? Result<>() : std::unexpected(old.error().in("upgrade " + hooks.netdev));
        }
        old_programs.push_back(*old);
        journal.add([this, ifindex, name = hooks.netdev, point, program = *old] {
            if (auto back = kernel_.swap(ifindex, name, point, program)) {
                kernel_.close_program(*back);
            }
        });
        return {};
    };
    const auto all = [&]() -> Result<> {
        for (const auto& [ifindex, hooks] : hooks_) {
            for (const auto& point : {hooks.tc, hooks.xdp}) {
                if (point) {
                    if (auto r = is_shared(*point) ? join(ifindex, hooks, *point) : swap(ifindex, hooks, *point);
                        !r) {
                        return r;
                    }
                }
            }
        }
        auto tap = kernel_.swap_tap(next->mirror);
        if (!tap) {
            return std::unexpected(tap.error().in("upgrade the tap of mirrors"));
        }
        if (*tap >= 0) {
            old_programs.push_back(*tap);
            journal.add([this, program = *tap] {
                if (auto back = kernel_.swap_tap(program)) {
                    kernel_.close_program(*back);
                }
            });
        }
        const auto build = kernel_.build();
        if (auto r = bump_generation(journal, &build); !r) {
            return r;
        }
        return kernel_.adopt(*next);
    };
    auto r = all();
    if (!r) {
        journal.undo();
    } else {
        for (const auto& [ifindex, name, before] : joined) {
            (void)kernel_.leave(ifindex, name, before);  // what stays does no harm, and hooks() takes it out
        }
    }
    journal.commit();
    for (const int program : old_programs) {
        kernel_.close_program(program);
    }
    return r;
}

Result<> Core::tear_down() {
    const Hurry hurry(kernel_, hooks_.size());
    Journal journal;
    Result<> result;
    for (const auto& [id, port] : std::map(content_.ports)) {
        const auto name = hooks_.contains(port.ifindex) ? hooks_.at(port.ifindex).netdev : "";
        if (auto r = release(id, journal); !r && result) {
            result = std::unexpected(r.error().in(fmt::format("take down port {} ({})", id, name)));
        }
    }
    for (const auto& [ifindex, hooks] : std::map(hooks_)) {
        Netdev netdev;
        netdev.ifindex = ifindex;
        netdev.name = hooks.netdev;
        for (const auto& point : {hooks.xdp, hooks.tc}) {
            if (point) {
                if (auto r = unhook(netdev, *point); !r && result) {
                    result = r;
                }
            }
        }
    }
    journal.commit();
    if (!result) {
        return result;
    }
    content_ = {};
    tables_ = {};
    tap_ = 0;
    lives_.clear();
    by_netdev_.clear();
    netdevs_.clear();
    return kernel_.remove_pins();
}

}  // namespace ivds
