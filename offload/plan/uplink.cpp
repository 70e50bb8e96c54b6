// SPDX-License-Identifier: Apache-2.0
#include "plan/uplink.h"

#include <arpa/inet.h>

#include <algorithm>
#include <array>
#include <set>
#include <vector>

#include "plan/choose.h"

namespace ivds::offload {

namespace {

constexpr std::uint16_t tpid_of_vvlans = 0x8100;

struct Network {
    std::uint16_t vlan = 0;
    std::uint16_t vvlan = 0;
    std::uint32_t instance = 0;
};

class Sorter {
public:
    Sorter(const Snapshot& tables, const Device& device, const Choices& choices, const NicState& present)
        : tables_(tables),
          device_(device),
          choices_(choices),
          present_(present),
          vlans_left_(vlan_room(device, choices).free()) {
        for (const auto& [key, instance] : tables.vvlans) {
            const auto& [uplink, vlan, vvlan] = key;
            if (uplink != device.uplink && !device.uplinks.contains(uplink)) continue;
            if (vvlan == 0) {
                if (instance != 0) has_plain_.insert(uplink);
                continue;
            }
            networks_[uplink].push_back({.vlan = static_cast<std::uint16_t>(vlan),
                                         .vvlan = static_cast<std::uint16_t>(vvlan),
                                         .instance = instance});
            ++claims_[{vlan, vvlan}];
        }
    }

    Sorting run() {
        std::vector<Rank> ranks;
        for (const auto& [id, pool] : device_.uplinks) {
            Reason& reason = sorting_.uplinks[id] = fit(id);
            if (reason != Reason::sorted) continue;
            const auto heat = tables_.heat.find(id);
            ranks.push_back({.must = false,
                             .heat = heat == tables_.heat.end() ? 0 : heat->second,
                             .incumbent = present_.uplinks.contains(pool),
                             .id = id});
        }
        for (const std::uint32_t id : in_order(std::move(ranks))) sorting_.uplinks.at(id) = take(id);
        for (auto& [vvlan, pools] : sorting_.vvlans) {
            if (has(device_.uplink, vvlan)) pools |= pool_bit(device_.pf);
            for (const auto& [id, pool] : device_.uplinks)
                if (sorting_.uplinks.at(id) == Reason::sorted && has(id, vvlan)) pools |= pool_bit(pool);
        }
        return std::move(sorting_);
    }

private:
    [[nodiscard]] const std::vector<Network>& networks(std::uint32_t uplink) const {
        static const std::vector<Network> none;
        const auto found = networks_.find(uplink);
        return found == networks_.end() ? none : found->second;
    }
    [[nodiscard]] bool has(std::uint32_t uplink, std::uint16_t vvlan) const {
        return std::ranges::any_of(networks(uplink), [&](const Network& one) { return one.vvlan == vvlan; });
    }

    [[nodiscard]] Reason fit(std::uint32_t id) const {
        if (device_.uplinks.at(id) >= device_.pf) return Reason::not_a_vf;
        const ivds_port& port = tables_.ports.at(id);
        const ivds_port& pf = tables_.ports.at(device_.uplink);
        if (!device_.chip->inner_tag_match) return Reason::no_two_tags;
        if (!wire_tags(tables_, device_.uplink).two || port.outer_tpid_be != pf.outer_tpid_be ||
            port.inner_tpid_be != pf.inner_tpid_be)
            return Reason::other_tags;
        if (ntohs(pf.inner_tpid_be) != tpid_of_vvlans) return Reason::tpid;
        // Drivers of VFs cannot be told not to, and the tag would come to be behind the V.VLAN's (X550 7.4.5).
        if (port.outer_tpid_be == pf.inner_tpid_be) return Reason::outer_tpid;
        if ((port.flags & IVDS_PF_UP) == 0) return Reason::down;
        if (has_plain_.contains(id)) return Reason::plain_hosts;
        for (const Network& one : networks(id))
            if (claims_.at({one.vlan, one.vvlan}) > 1) return Reason::network_twice;
        return Reason::sorted;
    }

    // What it takes of the table of VLANs and of its tenants' quotas, or why it has to do without the NIC.
    [[nodiscard]] Reason take(std::uint32_t id) {
        std::set<std::uint16_t> more;
        std::map<std::uint32_t, std::set<std::uint16_t>> vvlans_of;  // by tenant
        for (const Network& one : networks(id)) {
            if (!sorting_.vvlans.contains(one.vvlan)) more.insert(one.vvlan);
            if (const auto tenant = choices_.tenants.find(one.instance); tenant != choices_.tenants.end())
                vvlans_of[tenant->second].insert(one.vvlan);
        }
        for (const auto& [tenant, vvlans] : vvlans_of) {
            const Quota& left = quota_of(tenant);
            if (left.pools == 0 || left.vlans < vvlans.size()) return Reason::quota;
        }
        if (more.size() > vlans_left_) return Reason::vlans_full;
        for (const auto& [tenant, vvlans] : vvlans_of) {
            --quota_of(tenant).pools;
            quota_of(tenant).vlans -= static_cast<unsigned>(vvlans.size());
        }
        vlans_left_ -= static_cast<unsigned>(more.size());
        for (const std::uint16_t vvlan : more) sorting_.vvlans[vvlan] = 0;
        return Reason::sorted;
    }

    [[nodiscard]] Quota& quota_of(std::uint32_t tenant) {
        const auto given = choices_.quotas.find(tenant);
        return quotas_.try_emplace(tenant, given == choices_.quotas.end() ? Quota{} : given->second).first->second;
    }

    const Snapshot& tables_;
    const Device& device_;
    const Choices& choices_;
    const NicState& present_;
    unsigned vlans_left_;
    std::map<std::uint32_t, std::vector<Network>> networks_;   // by uplink
    std::map<std::array<std::uint32_t, 2>, unsigned> claims_;  // uplinks that have {VLAN, V.VLAN}
    std::set<std::uint32_t> has_plain_;                        // uplinks with hosts without a V.VLAN
    std::map<std::uint32_t, Quota> quotas_;                    // what is left of them
    Sorting sorting_;
};

}  // namespace

WireTags wire_tags(const Snapshot& tables, std::uint32_t uplink) {
    const ivds_port& port = tables.ports.at(uplink);
    if (port.inner_tpid_be == 0) return {};
    return {.two = true, .outer_tpid = ntohs(port.outer_tpid_be)};
}

Sorting sort_to_uplinks(const Snapshot& tables, const Device& device, const Choices& choices,
                        const NicState& present) {
    return Sorter(tables, device, choices, present).run();
}

}  // namespace ivds::offload
