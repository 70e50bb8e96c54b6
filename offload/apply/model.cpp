// SPDX-License-Identifier: Apache-2.0
#include "apply/model.h"

#include "nic/82599.h"
#include "nic/writer_82599.h"

namespace ivds::offload {

namespace {

class Model final : public Backend {
public:
    Model(Registers& registers, unsigned pf) : writer_(registers, pf), pf_(pf) {}

    [[nodiscard]] std::string_view name() const override { return "model"; }
    [[nodiscard]] const Chip& chip() const override { return i82599::chip(); }
    [[nodiscard]] unsigned pf() const override { return pf_; }
    [[nodiscard]] std::vector<std::string> shortcomings() const override { return {}; }

    // Unicast and multicast of the port are its owner's to let in, so this only looks.
    Result<> prepare() override { return writer_.check_setup(); }
    Result<NicState> read() override {
        if (auto ok = writer_.check_setup(); !ok) return std::unexpected(ok.error());
        return writer_.read();
    }
    Result<> apply(const Step& step) override { return writer_.apply(step); }
    Result<> clear() override { return writer_.clear(); }

private:
    Writer82599 writer_;
    unsigned pf_;
};

}  // namespace

std::unique_ptr<Backend> make_model(Registers& registers, unsigned pf) {
    return std::make_unique<Model>(registers, pf);
}

}  // namespace ivds::offload
