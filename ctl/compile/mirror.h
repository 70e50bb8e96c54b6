// SPDX-License-Identifier: Apache-2.0
// mirror.h -- from mirrors to sessions: a row each, its filter among the lists of rules, and its bit in the masks of
// the ports that it watches. Pure.
#pragma once

#include <functional>

#include "compile/ids.h"
#include "compile/rules.h"
#include "loader/tables.h"
#include "model/model.h"

namespace ivds {

[[nodiscard]] Result<> put_mirrors(const Model& model, const Ids& ids, RuleLists& lists, const Tables& tables_now,
                                   Tables& tables);
// Puts the list of rules under its id into the tables: the one that is there already, or one made anew.
[[nodiscard]] Result<> put_list(std::uint32_t id, const Tables& tables_now, Tables& tables,
                                const std::function<Result<AclRow>()>& compile_it);
// An address as the data plane holds it: IPv4 as ::ffff:a.b.c.d. Zeros for what is none.
[[nodiscard]] std::array<std::uint8_t, 16> mapped_address(const std::string& text);

}  // namespace ivds
