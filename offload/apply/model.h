// SPDX-License-Identifier: Apache-2.0
// model.h -- the backend of an 82599 that is nothing but its registers: a model of one, or a device that no driver is
// bound to.
#pragma once

#include <memory>

#include "apply/backend.h"
#include "nic/registers.h"

namespace ivds::offload {

// `registers` outlives the backend. Who owns the device has set it up: 64 pools, of which `pf` is the PF's.
[[nodiscard]] std::unique_ptr<Backend> make_model(Registers& registers, unsigned pf, WireTags tags = {});

// Sets it up as a driver does that has turned VFs on: 64 pools, replication, the PF as default pool, switching
// between pools unless the wire has two tags, all queues on and taking the tag off. For a model, after its reset; no
// driver does it in this order.
[[nodiscard]] Result<> set_up_as_driver(Registers& registers, unsigned pf, WireTags tags = {});

}  // namespace ivds::offload
