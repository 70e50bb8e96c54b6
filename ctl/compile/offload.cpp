// SPDX-License-Identifier: Apache-2.0
#include "compile/offload.h"

#include <limits>
#include <set>

#include "model/rx_filter.h"

namespace ivds {

namespace {

unsigned or_all(std::uint32_t quota) {
    return quota != 0 ? quota : std::numeric_limits<unsigned>::max();
}

}  // namespace

std::vector<NicIntent> nic_intents(const Model& model, const Ids& ids) {
    std::map<std::string, std::uint32_t> tenants;  // numbered, for those with a quota
    std::map<std::uint32_t, offload::Quota> quotas;
    for (const auto& [name, tenant] : model.tenants) {
        const auto number = static_cast<std::uint32_t>(tenants.size() + 1);
        tenants.emplace(name, number);
        quotas[number] = {.pools = or_all(tenant->max_vfs()),
                          .macs = or_all(tenant->max_nic_macs()),
                          .vlans = or_all(tenant->max_nic_vlans()),
                          .rates = or_all(tenant->max_nic_rates()),
                          .mirrors = or_all(tenant->max_nic_mirrors()),
                          .filters = or_all(tenant->max_nic_filters())};
    }
    std::vector<NicIntent> intents;
    for (const auto& [name, uplink] : model.uplinks) {
        if (uplink->offload() != pb::Uplink::ON) continue;
        NicIntent& intent = intents.emplace_back();
        intent.uplink = name;
        intent.netdev = uplink->netdev();
        intent.port = ids.ports.at(name);
        intent.num_vfs = uplink->vfs();
        std::set<std::string> on_it{name};
        for (const auto& [vf_name, vf] : model.uplinks) {
            if (!vf->has_vf() || vf->vf().pf() != name) continue;
            intent.uplinks[ids.ports.at(vf_name)] = vf->vf().index();
            on_it.insert(vf_name);
        }
        intent.choices.reserved_macs = uplink->reserved_macs();
        intent.choices.reserved_vlans = uplink->reserved_vlans();
        intent.choices.quotas = quotas;
        for (const auto& [instance_name, instance] : model.instances)
            if (const auto tenant = tenants.find(instance->tenant());
                tenant != tenants.end() && on_it.contains(instance->uplink()))
                intent.choices.tenants[ids.instances.at(instance_name)] = tenant->second;
        for (const auto& [vport_name, vport] : model.vports) {
            if (!vport->has_vf() || vport->vf().pf() != name) continue;
            const std::uint32_t id = ids.ports.at(vport_name);
            intent.vfs[id] = vport->vf().index();
            if (vport->offload() == pb::VPort::REQUIRE) intent.choices.must.insert(id);
            if (vport->offload() == pb::VPort::FORBID) intent.choices.must_not.insert(id);
            for (const pb::RxFilter& filter : vport->rx_filters())
                if (const auto match = parse_rx_match(filter))
                    intent.choices.rx_filters[id].push_back({.match = *match, .queue = filter.queue()});
        }
    }
    return intents;
}

offload::Device device_of(const NicIntent& intent, const offload::Chip& chip, unsigned pf) {
    offload::Device device{
        .chip = &chip, .uplink = intent.port, .pf = pf, .pools = intent.vfs, .uplinks = intent.uplinks};
    std::erase_if(device.pools, [&](const auto& row) { return row.second >= pf; });
    return device;
}

}  // namespace ivds
