// SPDX-License-Identifier: Apache-2.0
// mirror.cpp -- what a mirror must hold to by itself.
#include "model/model.h"
#include "model/rule.h"

namespace ivds {

Result<> validate_object(const pb::Mirror& mirror) {
    if (auto named = validate_name("mirror", mirror.name()); !named) return named;
    return validate_rules(mirror.filter());
}

}  // namespace ivds
