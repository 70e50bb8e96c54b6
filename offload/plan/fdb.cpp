// SPDX-License-Identifier: Apache-2.0
#include "plan/fdb.h"

#include <algorithm>
#include <functional>

namespace ivds::offload {

Mac mac_of(const ivds_fdb_key& key) {
    Mac mac{};
    std::ranges::copy(key.mac, mac.begin());
    return mac;
}

std::size_t Addresses::Hash::operator()(const Mac& mac) const {
    std::uint64_t value = 0;
    for (const std::uint8_t byte : mac) value = value << 8 | byte;
    return std::hash<std::uint64_t>{}(value * 0x9e3779b97f4a7c15ULL);
}

Addresses::Addresses(const Snapshot& tables, std::uint32_t uplink) {
    places_.reserve(tables.fdb.size());
    std::set<std::uint32_t> on_uplink;
    for (const auto& [id, instance] : tables.instances)
        if (instance.uplink == uplink &&
            (instance.flags & (IVDS_IF_ACTIVE | IVDS_IF_WIRE)) == (IVDS_IF_ACTIVE | IVDS_IF_WIRE))
            on_uplink.insert(id);
    for (const auto& [key, entry] : tables.fdb) {
        const Mac mac = mac_of(key);
        if (is_group(mac)) continue;
        if ((entry.flags & IVDS_FDB_STATIC) == 0) learned_at_.insert(entry.port);
        if (!on_uplink.contains(key.instance)) continue;
        Places& places = places_[mac];
        if (entry.port == uplink) {
            places.remote.push_back(key.instance);
        } else {
            places.local.push_back(key.instance);
            local_[key.instance].push_back({.mac = mac, .port = entry.port});
        }
    }
}

const std::vector<Addresses::Entry>& Addresses::local(std::uint32_t instance) const {
    static const std::vector<Entry> none;
    const auto found = local_.find(instance);
    return found == local_.end() ? none : found->second;
}

bool Addresses::has_vmac(std::uint32_t id, const ivds_port& port) const {
    return std::ranges::any_of(local(port.instance), [&](const Entry& entry) {
        return entry.port == id && std::ranges::equal(entry.mac, port.vmac);
    });
}

bool Addresses::is_remote_elsewhere(const Mac& mac, std::uint32_t instance) const {
    const auto found = places_.find(mac);
    return found != places_.end() &&
           std::ranges::any_of(found->second.remote, [&](std::uint32_t other) { return other != instance; });
}

bool Addresses::is_local_elsewhere(const Mac& mac, std::uint32_t instance,
                                   const std::set<std::uint32_t>& instances) const {
    const auto found = places_.find(mac);
    return found != places_.end() && std::ranges::any_of(found->second.local, [&](std::uint32_t other) {
               return other != instance && instances.contains(other);
           });
}

}  // namespace ivds::offload
