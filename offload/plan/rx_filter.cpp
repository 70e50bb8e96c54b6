// SPDX-License-Identifier: Apache-2.0
#include "plan/rx_filter.h"

#include <algorithm>
#include <vector>

namespace ivds::offload {

namespace {

struct Wish {
    std::uint32_t vport;
    unsigned place;
    RxKey key;
    unsigned queue;
    bool incumbent;
};

}  // namespace

void choose_rx_filters(Plan& plan, const Snapshot& tables, const Device& device, const Choices& choices,
                       const NicState& present) {
    const Chip& chip = *device.chip;
    const unsigned queues = chip.one_queue_per_vf ? 1 : chip.queues / chip.pools;

    std::vector<Wish> wishes;
    for (const auto& [vport, list] : choices.rx_filters) {
        const auto carried = plan.vports.find(vport);
        if (carried == plan.vports.end()) continue;
        for (unsigned place = 0; place < list.size(); ++place) {
            const auto& [match, queue] = list[place];
            Placement& at = plan.rx_filters[{vport, place}];
            if (carried->second.where != Where::hw) {
                at = {.where = Where::sw, .reason = carried->second.reason};
            } else if (queues == 1 || queue >= queues) {
                at = {.where = Where::sw, .reason = queues == 1 ? Reason::one_queue : Reason::queue_away};
            } else {
                const RxKey key{device.pools.at(vport), match};
                wishes.push_back({vport, place, key, queue, present.filters.contains(key)});
            }
        }
    }
    std::ranges::stable_partition(wishes, &Wish::incumbent);

    plan.five_tuples = {.size = chip.five_tuple_filters};
    std::vector<bool> taken(chip.five_tuple_filters);
    std::map<std::uint32_t, unsigned> used;  // by tenant
    for (const Wish& wish : wishes) {
        Placement& at = plan.rx_filters.at({wish.vport, wish.place});
        const auto tenant = choices.tenants.find(tables.ports.at(wish.vport).instance);
        const auto quota =
            tenant == choices.tenants.end() ? choices.quotas.end() : choices.quotas.find(tenant->second);
        at.where = Where::sw;
        if (quota != choices.quotas.end() && used[quota->first] >= quota->second.filters) {
            at.reason = Reason::quota;
        } else if (plan.five_tuples.free() == 0) {
            at.reason = Reason::filters_full;
        } else {
            at = {.where = Where::hw, .reason = Reason::fits};
            if (quota != choices.quotas.end()) ++used[quota->first];
            // One that is there has a slot that no other takes, as those come first.
            const auto now = present.filters.find(wish.key);
            const auto slot = now != present.filters.end()
                                  ? now->second.slot
                                  : static_cast<unsigned>(std::ranges::find(taken, false) - taken.begin());
            taken[slot] = true;
            ++plan.five_tuples.used;
            plan.state.filters[wish.key] = {.slot = slot, .queue = wish.queue};
        }
    }
}

}  // namespace ivds::offload
