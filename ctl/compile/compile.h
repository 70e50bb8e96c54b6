// SPDX-License-Identifier: Apache-2.0
// compile.h -- from the intent to what the data plane's tables shall hold. Pure: the same model and ids give the
// same tables.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "compile/ids.h"
#include "loader/tables.h"
#include "model/address.h"
#include "model/model.h"

namespace ivds {

// A MAC that the registry says is behind another host: which outer VLAN reaches it, and which addresses it has,
// sorted.
struct RemoteMac {
    Mac mac{};
    std::uint16_t vlan = 0;
    std::vector<Address> addresses{};
    bool operator==(const RemoteMac&) const = default;
};
// By instance; sorted by MAC, and never changed once made. An instance that is not in it has no registry, or one that
// was never read: nobody knows who its peers are.
using Remotes = std::map<std::string, std::shared_ptr<const std::vector<RemoteMac>>>;

// `model` must be valid and `ids` must hold all its names. With `now` and `tables_now`, the model and tables that
// hold so far (compiled under ids that `ids` was assigned from), the static lists of instances that did not
// change, and lists of rules that stay, are shared with them instead of made again: one changed vPort costs nothing
// for 100,000 static MACs. Code::exhausted where lists of rules need more than the data plane's tables hold.
[[nodiscard]] Result<Tables> compile(const Model& model, const Ids& ids, const Model& now = {},
                                     const Tables& tables_now = {}, const Remotes& remotes = {},
                                     const Remotes& remotes_now = {});

}  // namespace ivds
