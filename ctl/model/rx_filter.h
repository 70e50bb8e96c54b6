// SPDX-License-Identifier: Apache-2.0
// rx_filter.h -- the words of a filter that chooses a VF's receive queue, as offload/plan/state.h has them. Pure.
#pragma once

#include <cstdint>

#include "model/model.h"
#include "offload/plan/state.h"

namespace ivds {

constexpr int kMaxRxFilters = 64;         // of one vPort; a NIC has 128 in all
constexpr std::uint32_t kMaxRxQueue = 7;  // no NIC gives a VF more queues than 8

// What it matches. Fails with the first word that is wrong, or that goes with no other (IVDS-M095).
[[nodiscard]] Result<offload::RxMatch> parse_rx_match(const pb::RxFilter& filter);
// Whether a vPort's filters all parse, and no frame matches two of them: which of two then counts is the NIC's own
// affair.
[[nodiscard]] Result<> validate_rx_filters(const google::protobuf::RepeatedPtrField<pb::RxFilter>& filters);

}  // namespace ivds
