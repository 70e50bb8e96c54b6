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
    return snapshot;
}

}  // namespace ivds::test
