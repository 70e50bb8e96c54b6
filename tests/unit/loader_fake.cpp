// SPDX-License-Identifier: Apache-2.0
// loader_fake.cpp -- the Kernel in memory.
#include "loader_fake.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <utility>

namespace ivds::test {

FakeKernel::FakeKernel() {
    ivds_meta meta{};
    meta.magic = IVDS_MAGIC;
    set(Map::meta, std::uint32_t{0}, meta);
}

void FakeKernel::add(const std::string& name, const std::string& kind, const std::string& driver) {
    Interface interface;
    interface.netdev.ifindex = ++last_ifindex_;
    interface.netdev.name = name;
    interface.netdev.kind = kind;
    interface.netdev.mtu = 1500;
    interface.netdev.admin_up = true;
    interface.netdev.carrier = true;
    interface.netdev.xdp_features = kXdpBasic | kXdpRedirect | kXdpNdoXmit;
    if (kind == "veth") {
        interface.netdev.peer_ifindex = 77;
        interface.peer = {{"rx-gro", {false, false}},
                          {"tx-checksum-ip-generic", {true, false}},
                          {"tx-tcp-segmentation", {true, false}},
                          {"tx-vlan-hw-insert", {true, false}}};
    }
    interface.own = {
        {"rx-vlan-hw-parse", {true, false}}, {"tx-vlan-hw-insert", {true, false}}, {"rx-lro", {false, false}}};
    interfaces[name] = interface;
    drivers[name] = driver.empty() ? kind : driver;
}

void FakeKernel::remove(const std::string& name) {
    const auto ifindex = interfaces.at(name).netdev.ifindex;
    interfaces.erase(name);
    filters_.erase(ifindex);
    foreign_.erase(ifindex);
    hooked_.erase(ifindex);
    for (auto& [handle, link] : links_) {
        if (link.ifindex == ifindex) {
            link.ifindex = 0;  // the link is dead, its pin stays
        }
    }
}

void FakeKernel::add_foreign(const std::string& name, bool in_dispatcher, bool generic) {
    foreign_[interfaces.at(name).netdev.ifindex] = {in_dispatcher, generic};
}

std::vector<int> FakeKernel::shared_on(const std::string& name) const {
    std::vector<int> programs;
    for (const auto& [handle, link] : links_) {
        if (link.ifindex == interfaces.at(name).netdev.ifindex && is_shared(link.point)) {
            programs.push_back(link.program);
        }
    }
    return programs;
}

FakeKernel::State FakeKernel::state() const {
    State state;
    for (std::size_t map = 0; map < kMapCount; ++map) {
        for (const auto& [key, value] : maps_[map]) {
            // An array's row of zeros is as good as none.
            if (!is_array(static_cast<Map>(map)) || value.find_first_not_of('\0') != std::string::npos) {
                state.maps[map].emplace(key, value);
            }
        }
    }
    for (const auto& [handle, link] : links_) {
        state.links.insert(link);
    }
    for (const auto& [ifindex, foreign] : foreign_) {
        state.foreign[ifindex] = foreign.in_dispatcher ? "in a dispatcher" : "alone";
    }
    for (const auto& [ifindex, program] : filters_) {
        state.links.insert({ifindex, Point::clsact, program});
    }
    for (const auto& [name, interface] : interfaces) {
        std::map<std::string, bool> features;
        for (const auto& [feature, value] : interface.own) {
            features["own " + feature] = value.on;
        }
        for (const auto& [feature, value] : interface.peer) {
            features["peer " + feature] = value.on;
        }
        state.interfaces[name] = {interface.netdev.admin_up, interface.netdev.promiscuous, features};
    }
    state.tap = tap;
    state.tap_program = tap_program;
    state.rings = rings;
    state.running = running_ + (next_pinned_ ? " next" : "");
    return state;
}

const FakeKernel::Link* FakeKernel::link_on(std::uint32_t ifindex, bool xdp) const {
    for (const auto& [handle, link] : links_) {
        if (link.ifindex == ifindex && is_xdp(link.point) == xdp) {
            return &link;
        }
    }
    return nullptr;
}

int FakeKernel::learned_of(std::uint32_t port) const {
    return static_cast<int>(get<ivds_port_state>(Map::port_state, port).learned);
}

std::size_t FakeKernel::key_size(Map map) {
    switch (map) {
        case Map::fdb:
            return sizeof(ivds_fdb_key);
        case Map::neighbours:
            return sizeof(ivds_neighbour_key);
        case Map::peer_rates:
            return sizeof(ivds_peer_key);
        case Map::vvlans:
        case Map::misses:
            return sizeof(ivds_vvlan_key);
        case Map::drops:
            return sizeof(ivds_drop_key);
        case Map::acl_masks:
            return sizeof(ivds_acl_mask_key);
        case Map::acl_rules:
            return sizeof(ivds_acl_key);
        case Map::flows:
            return sizeof(ivds_flow_key);
        default:
            return sizeof(std::uint32_t);
    }
}

std::size_t FakeKernel::value_size(Map map) {
    switch (map) {
        case Map::meta:
            return sizeof(ivds_meta);
        case Map::ports:
            return sizeof(ivds_port);
        case Map::port_state:
            return sizeof(ivds_port_state);
        case Map::instances:
            return sizeof(ivds_instance);
        case Map::instance_state:
            return sizeof(ivds_instance_state);
        case Map::peer_rates:
            return sizeof(ivds_peer_rate);
        case Map::vvlans:
            return sizeof(ivds_vvlan);
        case Map::fdb:
            return sizeof(ivds_fdb_entry);
        case Map::neighbours:
            return sizeof(ivds_neighbour);
        case Map::mirrors:
            return sizeof(ivds_mirror);
        case Map::acls:
            return sizeof(ivds_acl);
        case Map::acl_masks:
            return sizeof(ivds_acl_mask);
        case Map::acl_rules:
            return sizeof(ivds_acl_rule);
        case Map::rule_stats:
            return sizeof(ivds_count);
        case Map::flows:
            return sizeof(ivds_flow);
        case Map::pools:
            return sizeof(ivds_pool);
        default:
            return sizeof(std::uint32_t);
    }
}

bool FakeKernel::is_array(Map map) {
    return map == Map::meta || map == Map::ports || map == Map::instances || map == Map::port_state ||
           map == Map::instance_state || map == Map::acls || map == Map::mirrors;
}

bool FakeKernel::fails() {
    ++calls;
    const bool now = calls == fail_at || (dead_from_then && fail_at != 0 && calls > fail_at);
    undoing_ = undoing_ || now;
    return now;
}

bool FakeKernel::fails(Map map) {
    ++touched[static_cast<std::size_t>(map)];
    return fails();
}

// As the next process finds it.
void FakeKernel::revive() {
    fail_at = 0;
    undoing_ = false;
}

Result<> FakeKernel::failed() const {
    return os_error(EIO, "IVDS-TEST", fmt::format("injected at call {}", fail_at));
}

FakeKernel::Interface* FakeKernel::by_index(std::uint32_t ifindex) {
    for (auto& [name, interface] : interfaces) {
        if (interface.netdev.ifindex == ifindex) {
            return &interface;
        }
    }
    return nullptr;
}

void FakeKernel::note(std::string text) {
    if (std::ranges::find(violations, text) == violations.end()) {
        violations.push_back(std::move(text));
    }
}

bool FakeKernel::is_live(std::uint32_t acl) const {
    return get<ivds_acl>(Map::acls, acl).default_action != 0;
}

// What must hold of lists of rules, in an undo as well. Before a write: the rows of a live list are not touched.
void FakeKernel::check_list_row(Map map, const void* key) {
    std::uint32_t acl = 0;
    if (map == Map::acl_masks) {
        std::memcpy(&acl, key, sizeof(acl));
    } else if (map == Map::acl_rules) {
        std::memcpy(&acl, static_cast<const char*>(key) + offsetof(ivds_acl_key, acl), sizeof(acl));
    }
    if (acl != 0 && is_live(acl)) {
        note(fmt::format("the list of rules {} changes while it is live", acl));
    }
}

// After it: ports name live lists alone, and a list goes live with all its masks.
void FakeKernel::check_lists(Map map, const void* key) {
    std::uint32_t id = 0;
    std::memcpy(&id, key, sizeof(id));
    const auto check_port = [&](std::uint32_t port_id, const ivds_port& port) {
        for (const auto acl : {port.acl_in, port.acl_out}) {
            if (acl != 0 && !is_live(acl)) {
                note(fmt::format("port {} names the list of rules {}, which is not live", port_id, acl));
            }
        }
    };
    if (map == Map::ports) {
        check_port(id, get<ivds_port>(Map::ports, id));
    }
    if (map != Map::acls) {
        return;
    }
    if (is_live(id)) {
        const auto masks = get<ivds_acl>(Map::acls, id).masks;
        const auto& rows = maps_[static_cast<std::size_t>(Map::acl_masks)];
        for (std::uint32_t index = 0; index <= masks; ++index) {
            const ivds_acl_mask_key mask{id, index};
            if (rows.contains(bytes(&mask, sizeof(mask))) != (index < masks)) {
                note(fmt::format("the list of rules {} went live with other masks than it says", id));
            }
        }
        return;
    }
    for (const auto& [port_key, value] : maps_[static_cast<std::size_t>(Map::ports)]) {
        ivds_port port;
        std::memcpy(&id, port_key.data(), sizeof(id));
        std::memcpy(&port, value.data(), sizeof(port));
        check_port(id, port);
    }
}

// The rules that must hold at every moment of a change (its undo only has to end where it began).
void FakeKernel::check() {
    if (undoing_) {
        return;
    }
    const auto has_tc = [&](std::uint32_t ifindex) {
        return link_on(ifindex, false) != nullptr || filters_.contains(ifindex);
    };
    for (const auto ifindex : hooked_) {
        const auto* interface = by_index(ifindex);
        if (interface != nullptr && interface->netdev.admin_up && !has_tc(ifindex)) {
            note(interface->netdev.name + " is up and nothing keeps its frames from the host");
        }
    }
    for (const auto& [key, value] : maps_[static_cast<std::size_t>(Map::ports)]) {
        ivds_port port;
        std::uint32_t id = 0;
        std::memcpy(&port, value.data(), sizeof(port));
        std::memcpy(&id, key.data(), sizeof(id));
        if ((port.flags & IVDS_PF_TC) != 0 && by_index(port.ifindex) != nullptr && !has_tc(port.ifindex)) {
            note(fmt::format("port {} says TC, and no TC is there", id));
        }
        if (port.kind != IVDS_PORT_PATCH && (port.flags & IVDS_PF_UP) != 0 && (port.flags & IVDS_PF_TC) == 0) {
            note(fmt::format("port {} is up without TC", id));
        }
        if (link_on(port.ifindex, true) != nullptr && (port.flags & IVDS_PF_TC) == 0) {
            note(fmt::format("port {} has XDP without TC to pass to", id));
        }
        if ((port.flags & IVDS_PF_XDP_TARGET) != 0 && get<std::uint32_t>(Map::tx, id) != port.ifindex) {
            note(fmt::format("port {} is a redirect target that is not in tx", id));
        }
    }
    for (const auto& [handle, link] : links_) {
        if (link.ifindex == 0) {
            continue;
        }
        const auto id = get<std::uint32_t>(Map::ifports, link.ifindex);
        if (id == 0 || get<ivds_port>(Map::ports, id).kind == IVDS_PORT_NONE) {
            note(fmt::format("a program is on interface {}, which is no port", link.ifindex));
        }
    }
    for (const auto& [key, value] : maps_[static_cast<std::size_t>(Map::instances)]) {
        ivds_instance instance;
        std::uint32_t id = 0;
        std::memcpy(&instance, value.data(), sizeof(instance));
        std::memcpy(&id, key.data(), sizeof(id));
        int steps = 0;
        for (auto member = instance.first_member; member != 0 && steps < 10000; ++steps) {
            const auto port = get<ivds_port>(Map::ports, member);
            if (port.kind != IVDS_PORT_VPORT) {
                note(fmt::format("instance {} lists port {}, which is not there", id, member));
            }
            member = port.next_member;
        }
        if (steps >= 10000) {
            note(fmt::format("the member list of instance {} has a loop", id));
        }
    }
    for (const auto& [key, value] : maps_[static_cast<std::size_t>(Map::vvlans)]) {
        std::uint32_t id = 0;
        std::memcpy(&id, value.data(), sizeof(id));
        static const ivds_instance none{};
        const auto instance = get<ivds_instance>(Map::instances, id);
        if (id != 0 && std::memcmp(&instance, &none, sizeof(none)) == 0) {
            note(fmt::format("a V.VLAN leads to instance {}, which is not there", id));
        }
    }
}

Result<bool> FakeKernel::lookup(Map map, const void* key, void* value) {
    if (fails(map)) {
        return std::unexpected(failed().error());
    }
    const auto& rows = maps_[static_cast<std::size_t>(map)];
    const auto found = rows.find(bytes(key, key_size(map)));
    if (found == rows.end()) {
        std::memset(value, 0, value_size(map));
        return is_array(map);
    }
    std::memcpy(value, found->second.data(), value_size(map));
    return true;
}

Result<> FakeKernel::put(Map map, const void* key, const void* value) {
    if (fails(map)) {
        return failed();
    }
    if (std::uint32_t id = 0; map == Map::acls) {
        std::memcpy(&id, key, sizeof(id));
        if (id >= IVDS_MAX_ACLS) {
            return os_error(E2BIG, "IVDS-M002", "write the map acls");
        }
    }
    ++writes;
    check_list_row(map, key);
    maps_[static_cast<std::size_t>(map)][bytes(key, key_size(map))] = bytes(value, value_size(map));
    check_lists(map, key);
    check();
    return {};
}

Result<bool> FakeKernel::put_new(Map map, const void* key, const void* value) {
    if (fails(map)) {
        return std::unexpected(failed().error());
    }
    const bool fresh =
        maps_[static_cast<std::size_t>(map)].emplace(bytes(key, key_size(map)), bytes(value, value_size(map))).second;
    writes += fresh ? 1 : 0;
    return fresh;
}

Result<bool> FakeKernel::take(Map map, const void* key, void* value) {
    if (fails(map)) {
        return std::unexpected(failed().error());
    }
    auto& rows = maps_[static_cast<std::size_t>(map)];
    const auto found = rows.find(bytes(key, key_size(map)));
    if (found == rows.end()) {
        return false;
    }
    ++writes;
    std::memcpy(value, found->second.data(), value_size(map));
    rows.erase(found);
    return true;
}

Result<> FakeKernel::erase(Map map, const void* key) {
    if (fails(map)) {
        return failed();
    }
    ++writes;
    check_list_row(map, key);
    maps_[static_cast<std::size_t>(map)].erase(bytes(key, key_size(map)));
    check();
    return {};
}

Result<> FakeKernel::each(Map map, const std::function<void(const void*, const void*)>& sink) {
    if (fails(map)) {
        return failed();
    }
    for (const auto& [key, value] : maps_[static_cast<std::size_t>(map)]) {
        sink(key.data(), value.data());
    }
    return {};
}

void FakeKernel::forget_rules(const std::set<std::uint32_t>& rules) {
    for (const auto rule : rules) {
        maps_[static_cast<std::size_t>(Map::rule_stats)].erase(bytes(&rule, sizeof(rule)));
    }
}

void FakeKernel::learned(std::uint32_t port, std::uint32_t instance, int by) {
    auto state = get<ivds_port_state>(Map::port_state, port);
    state.learned = static_cast<std::uint32_t>(static_cast<int>(state.learned) + by);
    set(Map::port_state, port, state);
    auto other = get<ivds_instance_state>(Map::instance_state, instance);
    other.learned = static_cast<std::uint32_t>(static_cast<int>(other.learned) + by);
    set(Map::instance_state, instance, other);
}

void FakeKernel::count_flows(std::uint32_t port, int by) {
    auto state = get<ivds_port_state>(Map::port_state, port);
    state.flows = static_cast<std::uint32_t>(static_cast<int>(state.flows) + by);
    set(Map::port_state, port, state);
}

Result<> FakeKernel::set_port_stats(std::uint32_t port, const ivds_port_stats& stats) {
    if (fails(Map::port_stats)) {
        return std::unexpected(failed().error());
    }
    set(Map::port_stats, port, stats);
    return {};
}

Result<Swept> FakeKernel::sweep(std::uint32_t port, std::uint32_t instance, ivds_sweep_only only) {
    if (fails()) {
        return std::unexpected(failed().error());
    }
    Swept removed;
    auto& fdb = maps_[static_cast<std::size_t>(Map::fdb)];
    for (auto at = fdb.begin(); at != fdb.end();) {
        ivds_fdb_key key;
        ivds_fdb_entry entry;
        std::memcpy(&key, at->first.data(), sizeof(key));
        std::memcpy(&entry, at->second.data(), sizeof(entry));
        if (only != IVDS_SWEEP_FLOWS && (entry.flags & IVDS_FDB_STATIC) == 0 &&
            ((port != 0 && entry.port == port) || (instance != 0 && key.instance == instance))) {
            learned(entry.port, key.instance, -1);
            at = fdb.erase(at);
            ++removed.fdb;
        } else {
            ++at;
        }
    }
    removed.flows = only == IVDS_SWEEP_FDB ? 0
                                           : static_cast<std::uint32_t>(std::erase_if(
                                                 maps_[static_cast<std::size_t>(Map::flows)], [&](const auto& row) {
                                                     ivds_flow_key key;
                                                     std::memcpy(&key, row.first.data(), sizeof(key));
                                                     return (port != 0 && key.port == port) ||
                                                            (instance != 0 && key.instance == instance);
                                                 }));
    return removed;
}

Result<Programs> FakeKernel::load() {
    if (fails()) {
        return std::unexpected(failed().error());
    }
    last_handle_ += 4;
    own_xdp_ = last_handle_ - 3;
    return Programs{own_xdp_, last_handle_ - 2, last_handle_ - 1, last_handle_};
}

Result<> FakeKernel::keep_ring(std::uint32_t session, const std::string& name, std::uint32_t bytes) {
    if (fails()) {
        return failed();
    }
    const std::pair wanted{session, bytes};
    const auto before = std::exchange(rings[name], wanted);
    writes += before != wanted ? 1 : 0;
    return {};
}

void FakeKernel::forget_rings(const std::set<std::string>& but) {
    std::erase_if(rings, [&](const auto& ring) { return !but.contains(ring.first); });
}

Result<std::uint32_t> FakeKernel::make_tap() {
    if (fails()) {
        return std::unexpected(failed().error());
    }
    if (tap == 0) {
        ++writes;
        tap = ++last_ifindex_;
        tap_program = current_.mirror;
    }
    return tap;
}

Result<> FakeKernel::remove_tap() {
    if (fails()) {
        return failed();
    }
    writes += tap != 0 ? 1 : 0;
    tap = 0;
    tap_program = -1;
    return {};
}

Result<int> FakeKernel::swap_tap(int program) {
    if (fails()) {
        return std::unexpected(failed().error());
    }
    return tap == 0 ? -1 : std::exchange(tap_program, program);
}

void FakeKernel::unload(const Programs& programs) {
    if (programs.xdp == own_xdp_) {
        own_xdp_ = current_.xdp;
    }
}

Result<> FakeKernel::pin_next(const Programs&) {
    if (fails()) {
        return failed();
    }
    next_pinned_ = true;
    return {};
}

Result<> FakeKernel::adopt(const Programs& programs) {
    if (fails()) {
        return failed();
    }
    next_pinned_ = false;
    current_ = programs;
    running_ = own_build;
    return {};
}

Result<int> FakeKernel::link_create(const Netdev& netdev, Point point, int program) {
    if (fails()) {
        return std::unexpected(failed().error());
    }
    if (by_index(netdev.ifindex) == nullptr) {
        return std::unexpected(os_error(ENODEV, "IVDS-A001", "attach").error());
    }
    if (refused.contains(point)) {
        return std::unexpected(os_error(EOPNOTSUPP, "IVDS-A001", "attach " + to_string(point)).error());
    }
    if (is_xdp(point) && (foreign_.contains(netdev.ifindex) || link_on(netdev.ifindex, true) != nullptr)) {
        return std::unexpected(os_error(EBUSY, "IVDS-P012", "attach " + to_string(point)).error());
    }
    ++writes;
    links_[++last_handle_] = {netdev.ifindex, point, program};
    return last_handle_;
}

Result<> FakeKernel::link_pin(int link, const Netdev& netdev, Point point) {
    if (fails()) {
        return failed();
    }
    pinned_.insert(link);
    if (!is_xdp(point) && by_index(netdev.ifindex) != nullptr) {
        const auto id = get<std::uint32_t>(Map::ifports, netdev.ifindex);
        if (get<ivds_port>(Map::ports, id).kind == IVDS_PORT_VPORT) {
            hooked_.insert(netdev.ifindex);
        }
    }
    check();
    return {};
}

void FakeKernel::link_close(int link) {
    if (!pinned_.contains(link)) {
        links_.erase(link);
    }
}

Result<> FakeKernel::link_remove(std::uint32_t ifindex, const std::string&, Point point) {
    if (fails()) {
        return failed();
    }
    ++writes;
    std::erase_if(links_, [&](const auto& item) {
        return (item.second.ifindex == ifindex || item.second.ifindex == 0) && item.second.point == point;
    });
    check();
    return {};
}

Result<int> FakeKernel::swap(std::uint32_t ifindex, const std::string&, Point point, int program) {
    if (fails()) {
        return std::unexpected(failed().error());
    }
    ++writes;
    if (point == Point::clsact) {
        return std::exchange(filters_.at(ifindex), program);
    }
    for (auto& [handle, link] : links_) {
        if (link.ifindex == ifindex && link.point == point) {
            return std::exchange(link.program, program);
        }
    }
    return std::unexpected(os_error(ENOLINK, "IVDS-A003", "update").error());
}

Result<> FakeKernel::can_share() {
    if (fails()) {
        return failed();
    }
    return cannot_share.empty() ? Result<>() : fail(Code::unsupported, "IVDS-A001", cannot_share);
}

Dispatcher FakeKernel::dispatcher(std::uint32_t ifindex) {
    Dispatcher out;
    for (const auto& [handle, link] : links_) {
        if (link.ifindex == ifindex && is_shared(link.point)) {
            out.there = true;
            out.ours.push_back(static_cast<std::uint32_t>(handle));
        }
    }
    if (const auto foreign = foreign_.find(ifindex); foreign != foreign_.end() && foreign->second.in_dispatcher) {
        out.there = true;
        out.others.push_back({42, "scrubber", "cafe"});
    }
    return out;
}

Result<std::uint32_t> FakeKernel::join(std::uint32_t ifindex, const std::string&, Point point) {
    if (fails()) {
        return std::unexpected(failed().error());
    }
    if (by_index(ifindex) == nullptr) {
        return std::unexpected(os_error(ENODEV, "IVDS-A001", "join").error());
    }
    const auto* there = link_on(ifindex, true);
    const auto foreign = foreign_.find(ifindex);
    if (refused.contains(point) || (there != nullptr && there->point != point) ||
        (foreign != foreign_.end() &&
         (!foreign->second.in_dispatcher || foreign->second.generic != (point == Point::shared_generic)))) {
        return std::unexpected(os_error(EBUSY, "IVDS-P012", "join").error());
    }
    ++writes;
    links_[++last_handle_] = {ifindex, point, own_xdp_};
    check();
    return static_cast<std::uint32_t>(last_handle_);
}

Result<> FakeKernel::leave(std::uint32_t ifindex, const std::string&, const std::vector<std::uint32_t>& programs) {
    if (fails()) {
        return failed();
    }
    ++writes;
    std::erase_if(links_, [&](const auto& item) {
        const bool named =
            programs.empty() || std::ranges::find(programs, static_cast<std::uint32_t>(item.first)) != programs.end();
        return is_shared(item.second.point) && (item.second.ifindex == ifindex || item.second.ifindex == 0) && named;
    });
    if (!programs.empty() && !undoing_ && by_index(ifindex) != nullptr && link_on(ifindex, true) == nullptr) {
        violations.emplace_back("an exchange of programs left none of ours in the dispatcher");
    }
    check();
    return {};
}

Result<> FakeKernel::clsact_attach(const Netdev& netdev, int program) {
    if (fails()) {
        return failed();
    }
    ++writes;
    filters_[netdev.ifindex] = program;
    hooked_.insert(netdev.ifindex);
    check();
    return {};
}

Result<> FakeKernel::clsact_detach(std::uint32_t ifindex) {
    if (fails()) {
        return failed();
    }
    ++writes;
    filters_.erase(ifindex);
    check();
    return {};
}

bool FakeKernel::clsact_ours(std::uint32_t ifindex) {
    return filters_.contains(ifindex);
}

Result<std::map<std::uint32_t, Hooks>> FakeKernel::hooks() {
    if (fails()) {
        return std::unexpected(failed().error());
    }
    std::erase_if(links_, [](const auto& item) { return item.second.ifindex == 0; });
    std::map<std::uint32_t, Hooks> out;
    for (const auto& [handle, link] : links_) {
        auto& hooks = out[link.ifindex];
        hooks.netdev = by_index(link.ifindex)->netdev.name;
        (is_xdp(link.point) ? hooks.xdp : hooks.tc) = link.point;
    }
    return out;
}

Netdev FakeKernel::shown(const Interface& interface) const {
    auto netdev = interface.netdev;
    if (const auto* link = link_on(netdev.ifindex, true)) {
        netdev.xdp_program = static_cast<std::uint32_t>(link->program);
        netdev.xdp_generic = link->point == Point::generic || link->point == Point::shared_generic;
    }
    if (const auto foreign = foreign_.find(netdev.ifindex); foreign != foreign_.end()) {
        netdev.xdp_program = 42;
        netdev.xdp_generic = foreign->second.generic;
    }
    return netdev;
}

Result<std::vector<Netdev>> FakeKernel::netdevs() {
    if (fails()) {
        return std::unexpected(failed().error());
    }
    std::vector<Netdev> out;
    out.reserve(interfaces.size());
    for (const auto& [name, interface] : interfaces) {
        out.push_back(shown(interface));
    }
    return out;
}

Result<std::optional<Netdev>> FakeKernel::netdev(const std::string& name) {
    if (fails()) {
        return std::unexpected(failed().error());
    }
    const auto found = interfaces.find(name);
    return found == interfaces.end() ? std::nullopt : std::optional(shown(found->second));
}

Result<> FakeKernel::set_up(std::uint32_t ifindex, bool up) {
    if (fails()) {
        return failed();
    }
    auto* interface = by_index(ifindex);
    if (interface == nullptr) {
        return os_error(ENODEV, "IVDS-N002", "set up");
    }
    interface->netdev.admin_up = up;
    check();
    return {};
}

Result<> FakeKernel::set_promiscuous(std::uint32_t ifindex, const std::string&, bool on) {
    if (fails()) {
        return failed();
    }
    by_index(ifindex)->netdev.promiscuous = on;
    return {};
}

Result<std::string> FakeKernel::driver(const std::string& name) {
    if (fails()) {
        return std::unexpected(failed().error());
    }
    return drivers.at(name);
}

Result<Features> FakeKernel::features(const Netdev& netdev, bool peer) {
    if (fails()) {
        return std::unexpected(failed().error());
    }
    const auto& interface = interfaces.at(netdev.name);
    return peer ? interface.peer : interface.own;
}

Result<> FakeKernel::set_features(const Netdev& netdev, bool peer, const std::map<std::string, bool>& wanted) {
    if (fails()) {
        return failed();
    }
    auto& interface = interfaces.at(netdev.name);
    for (const auto& [name, on] : wanted) {
        auto& feature = (peer ? interface.peer : interface.own)[name];
        feature.on = feature.fixed ? feature.on : on;
    }
    return {};
}

Result<> FakeKernel::remove_pins() {
    if (fails()) {
        return failed();
    }
    return {};
}

}  // namespace ivds::test
