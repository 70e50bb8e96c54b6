// SPDX-License-Identifier: Apache-2.0
#include "tables.h"

#include <algorithm>
#include <memory>
#include <stdexcept>

#include "compile/acl.h"

namespace ivds::test {

offload::Snapshot snapshot_of(const World& world) {
    offload::Snapshot snapshot;
    snapshot.ports = world.ports;
    snapshot.instances = world.instances;
    snapshot.vvlans = world.vvlans;
    for (const auto& [key, entry] : world.fdb) {
        offload::FdbRow row{.key = {}, .entry = entry};
        row.key.instance = key.instance;
        std::ranges::copy(key.mac, row.key.mac);
        snapshot.fdb.push_back(row);
    }
    for (const auto& [id, list] : world.acls) {
        auto compiled = compile_acl(list.rules, list.default_action);
        if (!compiled) throw std::runtime_error(compiled.error().text());
        snapshot.acls[id] = std::make_shared<const AclRow>(std::move(*compiled));
    }
    for (const auto& [id, members] : world.pools) {
        ivds_pool& pool = snapshot.pools[id];
        for (const std::uint32_t member : members) pool.member[pool.count++] = member;
    }
    snapshot.mirrors = world.mirrors;
    return snapshot;
}

void add_copies(std::vector<Sent>& sent, const World& world, const std::set<std::uint32_t>& sessions) {
    const std::size_t own = sent.size();
    for (const std::uint32_t session : sessions)
        for (std::size_t i = 0; i < own; ++i) {
            const auto port = world.ports.find(sent[i].port);
            if (port == world.ports.end() || (port->second.mirror_out >> session & 1U) == 0) continue;
            sent.push_back({world.mirrors.at(session).target, sent[i].bytes});
            break;
        }
    std::ranges::sort(sent);
}

void leave_out_seconds(std::vector<Sent>& sent, const World& world) {
    for (const auto& [session, mirror] : world.mirrors) {
        const auto own =
            std::ranges::stable_partition(sent, [&](const Sent& copy) { return copy.port != mirror.target; });
        std::ranges::sort(own);
        sent.erase(std::ranges::unique(own).begin(), sent.end());
    }
    std::ranges::sort(sent);
}

}  // namespace ivds::test
