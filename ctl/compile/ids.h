// SPDX-License-Identifier: Apache-2.0
// ids.h -- the numbers that ports, instances, rules, lists of rules, pools and mirrors have in the data plane. A name
// keeps its id as long as the object exists, over restarts too; an id that became free is taken again only after all
// others had their turn, so that a counter or a log line about an id stays unambiguous for long.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "model/model.h"

namespace ivds {

struct Ids {
    std::map<std::string, std::uint32_t> ports;  // uplinks and vPorts: their names share one space
    std::map<std::string, std::uint32_t> instances;
    std::map<std::string, std::uint32_t> rules;  // by rule_key(): what they count under, whatever they say
    std::map<std::string, std::uint32_t> acls;   // by RuleLists::digest(): a list that changes is another one
    std::map<std::string, std::uint32_t> pools;
    std::map<std::string, std::uint32_t> mirrors;  // sessions, from 0: each is a bit of a mask
    std::uint32_t next_port = 1;                   // where the search for a free id goes on
    std::uint32_t next_instance = 1;
    std::uint32_t next_rule = 1;
    std::uint32_t next_acl = 1;
    std::uint32_t next_pool = 1;
    std::uint32_t next_mirror = 0;

    bool operator==(const Ids&) const = default;
};

// The ids for `model`: those of `now` for names that stay, new ones for new names, none for names that went.
// Code::exhausted if the data plane's tables are too small for so many.
[[nodiscard]] Result<Ids> assign_ids(const Model& model, const Ids& now);

}  // namespace ivds
