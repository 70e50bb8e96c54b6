// SPDX-License-Identifier: Apache-2.0
// plan.cpp -- how long the offload's planner takes at the size that it is held to: all pools of an 82599, an FDB of
// 4,096 entries and 10,000 rules; from nothing, and when one vPort changed.
#include "offload/plan/plan.h"

#include <chrono>

#include "forward.h"
#include "nic.h"

namespace ivds::bench {

namespace {

using namespace ivds::offload;

constexpr unsigned instances = 21;
constexpr unsigned lists = 100;
constexpr unsigned rules_of_list = 100;

Snapshot make_tables() {
    Snapshot tables = nic_tables(instances, nic_vfs);
    for (std::uint32_t id = 1; id <= lists; ++id) {
        auto list = std::make_shared<AclRow>();
        for (std::uint32_t n = 0; n < rules_of_list; ++n) {
            ivds_acl_key key{};
            key.fields.dport_be = static_cast<__be16>(n);
            ivds_acl_rule rule{};
            rule.order = n;
            rule.action = n % 2 == 0 ? IVDS_ACL_DROP : IVDS_ACL_REDIRECT;
            rule.target = nic_first_soft + n % nic_vfs;
            list->rules.emplace_back(key, rule);
        }
        tables.acls[id] = list;
        tables.ports.at(nic_first_soft + id % nic_vfs).acl_in = id;
    }
    return tables;
}

// Two filters on five-tuples for each VF, which is nearly all that the NIC has.
Choices make_choices() {
    Choices choices;
    for (std::uint32_t n = 0; n < nic_vfs; ++n)
        choices.rx_filters[nic_first_vf + n] = {{.match = {.protocol = 6, .dst_port = 443}, .queue = 0},
                                                {.match = {.protocol = 17, .dst_port = 443}, .queue = 1}};
    return choices;
}

double milliseconds(const Snapshot& tables, const Device& device, const Choices& choices, const NicState& present,
                    NicState& result) {
    const auto begin = std::chrono::steady_clock::now();
    const auto plan = make_plan(tables, device, choices, present);
    const std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - begin;
    if (!plan) throw Failure(plan.error().text());
    result = plan->state;
    return took.count();
}

}  // namespace

std::vector<Row> plan_rows(const Options& options) {
    if (!options.wanted("plan")) return {};
    options.progress("plan");
    Snapshot tables = make_tables();
    const Device device = nic_device();
    const Choices choices = make_choices();
    std::vector<double> full;
    std::vector<double> changed;
    const Ahead ahead;
    for (int repetition = 0; repetition < 4 * options.repetitions; ++repetition) {
        NicState state;
        full.push_back(milliseconds(tables, device, choices, {}, state));
        if (state.pools.size() != nic_vfs) throw Failure("not all VFs are in the NIC");
        if (state.filters.size() != 2 * nic_vfs) throw Failure("not all filters are in the NIC");
        ivds_port& port = tables.ports.at(nic_first_vf);
        port.pcp = static_cast<std::uint8_t>((port.pcp + 1) % 8);
        changed.push_back(milliseconds(tables, device, choices, state, state));
    }
    return {{.name = "plan-full",
             .value = median(full),
             .unit = "ms",
             .ratios = {},
             .bars = {{.against = "", .limit = 10, .at_most = true}},
             .note = "63 VFs, 4,096 FDB entries, 10,000 rules, 126 filters"},
            {.name = "plan-changed",
             .value = median(changed),
             .unit = "ms",
             .ratios = {},
             .bars = {{.against = "", .limit = 1, .at_most = true}},
             .note = "one vPort's priority changed"}};
}

}  // namespace ivds::bench
