// SPDX-License-Identifier: Apache-2.0
// compile.h -- from the intent to what the data plane's tables shall hold. Pure: the same model and ids give the
// same tables.
#pragma once

#include "compile/ids.h"
#include "loader/tables.h"
#include "model/model.h"

namespace ivds {

// `model` must be valid and `ids` must hold all its names. With `now` and `tables_now`, the model and tables that
// hold so far (compiled under ids that `ids` was assigned from), the static lists of instances that did not
// change, and lists of rules that stay, are shared with them instead of made again: one changed vPort costs nothing
// for 100,000 static MACs. Code::exhausted where lists of rules need more than the data plane's tables hold.
[[nodiscard]] Result<Tables> compile(const Model& model, const Ids& ids, const Model& now = {},
                                     const Tables& tables_now = {});

}  // namespace ivds
