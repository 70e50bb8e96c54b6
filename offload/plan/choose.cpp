// SPDX-License-Identifier: Apache-2.0
#include "plan/choose.h"

#include <algorithm>
#include <vector>

#include "plan/vport.h"

namespace ivds::offload {

namespace {

using Groups = std::map<std::uint32_t, std::vector<std::uint32_t>>;  // vPorts by instance

Groups group(const std::map<std::uint32_t, Reason>& vports, const Snapshot& tables) {
    Groups groups;
    for (const auto& [id, reason] : vports)
        if (reason == Reason::fits) groups[tables.ports.at(id).instance].push_back(id);
    return groups;
}

std::set<std::uint32_t> keys(const Groups& groups) {
    std::set<std::uint32_t> out;
    for (const auto& [id, vports] : groups) out.insert(id);
    return out;
}

// An address means one pool, whatever the V.VLAN. It must not be an entry where frames for it in another V.VLAN pass
// the NIC on their way elsewhere: to the wire, or to another pool.
void keep_apart(std::map<std::uint32_t, Reason>& vports, const Snapshot& tables, const Addresses& addresses) {
    const std::set<std::uint32_t> instances = keys(group(vports, tables));
    for (const std::uint32_t id : instances)
        for (const auto& [mac, port] : addresses.local(id)) {
            const auto vport = vports.find(port);
            if (vport == vports.end() || vport->second != Reason::fits) continue;
            if (addresses.is_remote_elsewhere(mac, id) || addresses.is_local_elsewhere(mac, id, instances))
                vport->second = Reason::mac_twice;
        }
    // What is software's now has entries too, to the PF, if its instance stays.
    for (const auto& [id, members] : group(vports, tables)) {
        const bool on_the_wire = std::ranges::any_of(addresses.local(id), [&](const Addresses::Entry& entry) {
            return addresses.is_remote_elsewhere(entry.mac, id);
        });
        if (!on_the_wire) continue;
        for (const std::uint32_t vport : members) vports.at(vport) = Reason::mac_twice;
    }
}

bool before(const Rank& a, const Rank& b) {
    const auto weight = [](const Rank& rank) { return rank.incumbent ? rank.heat + rank.heat / 4 : rank.heat; };
    if (a.must != b.must) return a.must;
    if (weight(a) != weight(b)) return weight(a) > weight(b);
    if (a.incumbent != b.incumbent) return a.incumbent;
    return a.id < b.id;
}

class Chooser {
public:
    Chooser(Chosen& chosen, const Snapshot& tables, const Device& device, const Choices& choices,
            const Addresses& addresses, const NicState& present)
        : chosen_(chosen),
          tables_(tables),
          choices_(choices),
          addresses_(addresses),
          macs_left_(mac_room(device, choices).free()),
          vlans_left_(vlan_room(device, choices).free()) {
        for (const auto& [pool, as] : present.pools) incumbents_.insert(as.vport);
    }

    void run() {
        const Groups groups = group(chosen_.vports, tables_);
        // All that moves in the instance: a VF that is off has no frames of its own, and others have some for it.
        std::map<std::uint32_t, std::uint64_t> heat;
        for (const auto& [id, frames] : tables_.heat)
            if (const auto port = tables_.ports.find(id); port != tables_.ports.end())
                heat[port->second.instance] += frames;
        std::vector<Rank> ranks;
        for (const auto& [id, vports] : groups) {
            Rank rank{.heat = heat[id], .id = id};
            for (const std::uint32_t vport : vports) {
                const Rank one = rank_of(vport);
                rank.must |= one.must;
                rank.incumbent |= one.incumbent;
            }
            ranks.push_back(rank);
        }
        for (const std::uint32_t id : in_order(ranks)) admit(id, groups.at(id));
    }

private:
    [[nodiscard]] Rank rank_of(std::uint32_t vport) const {
        const auto heat = tables_.heat.find(vport);
        return {.must = choices_.must.contains(vport),
                .heat = heat == tables_.heat.end() ? 0 : heat->second,
                .incumbent = incumbents_.contains(vport),
                .id = vport};
    }

    void refuse(const std::vector<std::uint32_t>& vports, Reason reason) {
        for (const std::uint32_t vport : vports)
            if (chosen_.vports.at(vport) == Reason::fits) chosen_.vports.at(vport) = reason;
    }

    // Takes what its tenant may still have of VFs and rates; the other vPorts of the instance are software's.
    [[nodiscard]] bool take_pools(const std::vector<std::uint32_t>& vports, Quota& left) {
        std::vector<Rank> ranks;
        ranks.reserve(vports.size());
        for (const std::uint32_t vport : vports) ranks.push_back(rank_of(vport));
        bool any = false;
        for (const std::uint32_t vport : in_order(ranks)) {
            const unsigned rates = rate_in_mbps(tables_.ports.at(vport)) != 0 ? 1 : 0;
            if (left.pools == 0 || left.rates < rates) {
                chosen_.vports.at(vport) = Reason::quota;
                continue;
            }
            --left.pools;
            left.rates -= rates;
            any = true;
        }
        return any;
    }

    void admit(std::uint32_t id, const std::vector<std::uint32_t>& vports) {
        if (vlans_left_ == 0) return refuse(vports, Reason::vlans_full);
        std::vector<Mac> more;
        for (const Addresses::Entry& entry : addresses_.local(id))
            if (!taken_.contains(entry.mac)) more.push_back(entry.mac);
        if (more.size() > macs_left_) return refuse(vports, Reason::macs_full);

        Quota unlimited;
        const auto tenant = choices_.tenants.find(id);
        Quota& quota = tenant == choices_.tenants.end() ? unlimited : quota_of(tenant->second);
        if (quota.vlans == 0 || quota.macs < more.size()) return refuse(vports, Reason::quota);
        if (!take_pools(vports, quota)) return;
        --quota.vlans;
        quota.macs -= static_cast<unsigned>(more.size());
        --vlans_left_;
        macs_left_ -= static_cast<unsigned>(more.size());
        taken_.insert(more.begin(), more.end());
        chosen_.instances.insert(id);
    }

    [[nodiscard]] Quota& quota_of(std::uint32_t tenant) {
        const auto given = choices_.quotas.find(tenant);
        return quotas_.try_emplace(tenant, given == choices_.quotas.end() ? Quota{} : given->second).first->second;
    }

    Chosen& chosen_;
    const Snapshot& tables_;
    const Choices& choices_;
    const Addresses& addresses_;
    unsigned macs_left_;
    unsigned vlans_left_;
    std::set<std::uint32_t> incumbents_;
    std::set<Mac> taken_;
    std::map<std::uint32_t, Quota> quotas_;  // what is left of them
};

Use room(unsigned size, unsigned kept, unsigned reserved) {
    return {.used = 0, .reserved = std::min(size, kept + reserved), .size = size};
}

}  // namespace

std::vector<std::uint32_t> in_order(std::vector<Rank> ranks) {
    std::ranges::sort(ranks, before);
    std::vector<std::uint32_t> ids;
    ids.reserve(ranks.size());
    for (const Rank& rank : ranks) ids.push_back(rank.id);
    return ids;
}

Use mac_room(const Device& device, const Choices& choices) {
    return room(device.chip->mac_entries, device.chip->kept_mac_entries, choices.reserved_macs);
}
Use vlan_room(const Device& device, const Choices& choices) {
    return room(device.chip->vlan_entries, device.chip->kept_vlan_entries, choices.reserved_vlans);
}

Chosen choose(std::map<std::uint32_t, Reason> vports, const Snapshot& tables, const Device& device,
              const Choices& choices, const Addresses& addresses, const NicState& present) {
    Chosen chosen{.vports = std::move(vports), .instances = {}};
    if (!device.chip->mac_per_vlan) keep_apart(chosen.vports, tables, addresses);
    Chooser(chosen, tables, device, choices, addresses, present).run();
    return chosen;
}

}  // namespace ivds::offload
