// SPDX-License-Identifier: Apache-2.0
#include "apply/backend.h"

#include <fmt/format.h>

#include <utility>

namespace ivds::offload {

namespace {

// It has no tables, and keeps no frame from coming in: every V.VLAN may be admitted.
class None final : public Backend {
public:
    explicit None(std::string why) : why_(std::move(why)) {}

    [[nodiscard]] std::string_view name() const override { return "none"; }
    [[nodiscard]] const Chip& chip() const override {
        static const Chip nothing = [] {
            Chip chip{};
            chip.name = "none";
            return chip;
        }();
        return nothing;
    }
    [[nodiscard]] unsigned pf() const override { return 0; }
    [[nodiscard]] std::vector<std::string> shortcomings() const override { return {why_}; }

    Result<> prepare() override { return {}; }
    Result<NicState> read() override { return state_; }
    Result<> apply(const Step& step) override {
        if (!std::holds_alternative<Admit>(step) && !std::holds_alternative<Software>(step))
            return fail(Code::unsupported, "IVDS-O014", fmt::format("{}: {}", text(step), why_),
                        "let software carry it");
        advance(state_, step);
        return {};
    }
    Result<CountersOfPools> counters() override { return CountersOfPools{}; }
    Result<> clear() override {
        state_ = {};
        return {};
    }

private:
    std::string why_;
    NicState state_;
};

}  // namespace

NicState named(NicState read, const NicState& known) {
    for (auto& [pool, as] : read.pools) {
        const auto found = known.pools.find(pool);
        if (found == known.pools.end() || found->second.vvlan != as.vvlan || found->second.pcp != as.pcp) continue;
        as.vport = found->second.vport;
        as.instance = found->second.instance;
    }
    return read;
}

std::unique_ptr<Backend> make_none(std::string why) {
    return std::make_unique<None>(std::move(why));
}

}  // namespace ivds::offload
