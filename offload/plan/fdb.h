// SPDX-License-Identifier: Apache-2.0
// fdb.h -- whose the addresses are: the forwarding table, looked at from its instances and ports. Group addresses are
// left out, as the switch floods those whatever the table says.
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <unordered_map>
#include <vector>

#include "plan/snapshot.h"

namespace ivds::offload {

class Addresses {
public:
    struct Entry {
        Mac mac{};
        std::uint32_t port = 0;
    };

    // Instances that forward on the uplink count; addresses behind it are remote.
    Addresses(const Snapshot& tables, std::uint32_t uplink);

    // Those of the instance on this host.
    [[nodiscard]] const std::vector<Entry>& local(std::uint32_t instance) const;
    [[nodiscard]] bool has_learned(std::uint32_t port) const { return learned_at_.contains(port); }
    [[nodiscard]] bool has_vmac(std::uint32_t id, const ivds_port& port) const;

    // Whether the address is on the wire in another instance.
    [[nodiscard]] bool is_remote_elsewhere(const Mac& mac, std::uint32_t instance) const;
    // Whether it is on this host in another instance, one of `instances`.
    [[nodiscard]] bool is_local_elsewhere(const Mac& mac, std::uint32_t instance,
                                          const std::set<std::uint32_t>& instances) const;

private:
    struct Hash {
        std::size_t operator()(const Mac& mac) const;
    };
    struct Places {
        std::vector<std::uint32_t> local;  // instances
        std::vector<std::uint32_t> remote;
    };
    std::unordered_map<std::uint32_t, std::vector<Entry>> local_;  // by instance
    std::unordered_map<Mac, Places, Hash> places_;
    std::set<std::uint32_t> learned_at_;
};

[[nodiscard]] Mac mac_of(const ivds_fdb_key& key);
[[nodiscard]] constexpr bool is_group(const Mac& mac) {
    return (mac[0] & 1U) != 0;
}

}  // namespace ivds::offload
