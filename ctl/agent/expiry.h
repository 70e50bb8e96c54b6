// SPDX-License-Identifier: Apache-2.0
// expiry.h -- rules that go by themselves: so long after they came, or after they last decided about a frame. When a
// rule came is kept with the intent, over restarts. When it last decided is found out by looking at its counter now
// and then, and a restart counts as a decision: nobody looked meanwhile. Pure.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <map>
#include <string>
#include <vector>

#include "compile/ids.h"
#include "compile/rules.h"
#include "model/model.h"

namespace ivds {

// How often FDB and flows are looked through for what is too old. A look goes over all places of two tables, 25 ms of
// a CPU, so that it is as rare as its delay is a small part of the shortest age; rules with an idle timeout want what
// the flows counted for them each second.
[[nodiscard]] std::chrono::seconds sweep_period(const Model& model);

// When the rules of `model` with a hard timeout came, by rule_key(): as `before` says of those that were there with
// the same timeout, `now_s` for the others.
[[nodiscard]] std::map<std::string, std::uint64_t> came_s(const Model& model, const Model& before,
                                                          const std::map<std::string, std::uint64_t>& came_before,
                                                          std::uint64_t now_s);

// A vPort that moves takes along how old such rules are: its own, and those of its profile.
void put_ages(const Model& model, const std::map<std::string, std::uint64_t>& came, std::uint64_t now_s,
              pb::Migration& migration);
// Where it goes to, its rules came that long ago, and those of the profile if it was not there `before`.
void take_ages(const pb::Migration& migration, const Model& before, std::uint64_t now_s,
               std::map<std::string, std::uint64_t>& came);

class RuleExpiry {
public:
    struct Due {
        OwnedRule rule;
        std::string why;  // "it decided nothing for 30 s"
    };

    // From now on about the rules of `model`, until the next call; between two, a look costs what rules with timeouts
    // cost, however many others there are.
    void watch(const Model& model);
    // The rules whose time is over at `now_s`, seconds since 1970. `packets` says what a rule decided so far, by its
    // id.
    [[nodiscard]] std::vector<Due> due(const Ids& ids, const std::map<std::string, std::uint64_t>& came,
                                       const std::function<std::uint64_t(std::uint32_t)>& packets,
                                       std::uint64_t now_s);

private:
    struct Seen {
        std::uint64_t packets = 0;
        std::uint64_t since_s = 0;  // the count is the same
        std::uint32_t id = 0;
    };
    std::vector<OwnedRule> rules_;      // that go by themselves
    std::map<std::string, Seen> seen_;  // rules with an idle timeout
};

}  // namespace ivds
