// SPDX-License-Identifier: Apache-2.0
// kernel.h -- the backend of a PF whose Linux driver is bound.
#pragma once

#include <memory>

#include "apply/backend.h"
#include "apply/nics.h"

namespace ivds::offload {

// The interface of the PF is in this network namespace. Fails where the NIC is none that a plan can be made for,
// where its VFs cannot be told apart, or where its registers are out of reach; the error says which and what opens
// them. Changes nothing. To be opened anew when the number of VFs changes.
[[nodiscard]] Result<std::unique_ptr<Backend>> open_kernel(const Pf& pf, WireTags tags = {});

}  // namespace ivds::offload
