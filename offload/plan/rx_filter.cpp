// SPDX-License-Identifier: Apache-2.0
#include "plan/rx_filter.h"

#include <algorithm>
#include <vector>

namespace ivds::offload {

namespace {

// One of the NIC's two tables of filters.
struct Table {
    Use use;
    std::vector<bool> taken;

    Table(unsigned size, unsigned reserved) : use{.reserved = reserved, .size = size}, taken(size - reserved) {}
    void take(unsigned slot) {
        taken[slot] = true;
        ++use.used;
    }
    [[nodiscard]] unsigned lowest() const {
        return static_cast<unsigned>(std::ranges::find(taken, false) - taken.begin());
    }
};

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
    Table five_tuples(chip.five_tuple_filters, 0);
    Table ethertypes(chip.ethertype_filters, chip.kept_ethertype_filters);
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

    std::map<std::uint32_t, unsigned> used;       // by tenant
    std::map<std::uint16_t, unsigned> type_pool;  // by EtherType
    for (const Wish& wish : wishes) {
        const std::uint16_t type = wish.key.second.ethertype;
        Table& table = type != 0 ? ethertypes : five_tuples;
        Placement& at = plan.rx_filters.at({wish.vport, wish.place});
        const auto tenant = choices.tenants.find(tables.ports.at(wish.vport).instance);
        const auto quota =
            tenant == choices.tenants.end() ? choices.quotas.end() : choices.quotas.find(tenant->second);
        at.where = Where::sw;
        if (type != 0 && type_pool.contains(type)) {
            at.reason = Reason::type_twice;
        } else if (quota != choices.quotas.end() && used[quota->first] >= quota->second.filters) {
            at.reason = Reason::quota;
        } else if (table.use.free() == 0) {
            at.reason = Reason::filters_full;
        } else {
            at = {.where = Where::hw, .reason = Reason::fits};
            if (type != 0) type_pool.emplace(type, wish.key.first);
            if (quota != choices.quotas.end()) ++used[quota->first];
            // One that is there has a slot that no other takes, as those come first.
            const auto now = present.filters.find(wish.key);
            const unsigned slot = now != present.filters.end() && now->second.slot < table.taken.size()
                                      ? now->second.slot
                                      : table.lowest();
            table.take(slot);
            plan.state.filters[wish.key] = {.slot = slot, .queue = wish.queue};
        }
    }
    plan.five_tuples = five_tuples.use;
    plan.ethertypes = ethertypes.use;
}

}  // namespace ivds::offload
