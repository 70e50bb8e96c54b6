// SPDX-License-Identifier: Apache-2.0
// reference_acl.h -- rules as the reference switch takes them: one after the other, the first that matches decides.
#pragma once

#include <cstdint>

#include "ctl/compile/acl.h"
#include "world.h"

namespace ivds::test {

struct AclVerdict {
    bool is_allowed = true;
    std::uint32_t rule = 0;  // that decided; 0: the default
};

// `frame` is the VM's, without the tags of the wire.
[[nodiscard]] AclVerdict judge(const Acl& acl, const Bytes& frame);

}  // namespace ivds::test
