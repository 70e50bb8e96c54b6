// SPDX-License-Identifier: Apache-2.0
#include "verify/doubts.h"

#include <algorithm>
#include <array>

namespace ivds::offload::verify {

namespace {

struct Named {
    Doubts::Flag flag;
    std::string_view name;
};
#define IVDS_X(id)          \
    Named {                 \
        &Uncertain::id, #id \
    }
constexpr std::array all{
    IVDS_X(early_vfre),
    IVDS_X(disabled_pool_is_unknown),
    IVDS_X(tx_default_pool),
    IVDS_X(tx_default_pool_unreplicated),
    IVDS_X(mirrors_chain),
    IVDS_X(vlan_mirror_needs_pool),
    IVDS_X(vlan_mirror_sees_spoofed),
    IVDS_X(filters_cross_pools),
    IVDS_X(flow_director_first),
    IVDS_X(low_priority_wins),
    IVDS_X(loopback_rss),
    IVDS_X(loopback_flows),
    IVDS_X(loopback_ethertype),
    IVDS_X(loopback_vfta),
    IVDS_X(loopback_l2_filter),
    IVDS_X(vmvir_passes_tagged),
    IVDS_X(spoof_check_untagged),
    IVDS_X(inner_tag_alone_counts),
    IVDS_X(rss_with_two_tags),
};
#undef IVDS_X
static_assert(all.size() * sizeof(bool) == sizeof(Uncertain), "each of them is named");

}  // namespace

bool Doubts::ask(Flag flag) {
    if (fixed_ != nullptr) return fixed_->*flag;
    for (const auto& [known, answer] : answers_)
        if (known == flag) return answer;
    answers_.emplace_back(flag, false);
    return false;
}

// The walk asks the same as before up to the last answer that changes.
bool Doubts::next() {
    while (!answers_.empty() && answers_.back().second) answers_.pop_back();
    if (answers_.empty()) return false;
    answers_.back().second = true;
    return true;
}

std::vector<std::string> Doubts::assumed() const {
    std::vector<std::string> out;
    for (const auto& [flag, answer] : answers_)
        if (answer) out.emplace_back(name(flag));
    return out;
}

std::string_view name(Doubts::Flag flag) {
    const auto found = std::ranges::find(all, flag, &Named::flag);
    return found == all.end() ? std::string_view{} : found->name;
}

}  // namespace ivds::offload::verify
