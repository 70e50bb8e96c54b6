// SPDX-License-Identifier: Apache-2.0
#include "apply/model.h"

#include "nic/82599.h"
#include "nic/writer_82599.h"

namespace ivds::offload {

namespace {

class Model final : public Backend {
public:
    Model(Registers& registers, unsigned pf, WireTags tags)
        : registers_(registers), writer_(registers, pf, tags), pf_(pf) {}

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
    Result<CountersOfPools> counters() override { return writer_.counters(); }
    [[nodiscard]] Registers* registers() override { return &registers_; }
    Result<> clear() override { return writer_.clear(); }

private:
    Registers& registers_;
    Writer82599 writer_;
    unsigned pf_;
};

}  // namespace

Result<> set_up_as_driver(Registers& registers, unsigned pf, WireTags tags) {
    using namespace i82599;
    Result<> result;
    const std::uint32_t two = tags.two ? 1 : 0;
    const auto put = [&](Reg reg, unsigned element, std::uint32_t value) {
        if (result) result = registers.write(offset(reg, element), value);
    };
    put(Reg::mrqc, 0, mrqc::vt64_rss);
    put(Reg::gpie, 0, gpie::vtmode.put(3));
    put(Reg::gcr_ext, 0, gcr_ext::vt_mode.put(3));
    put(Reg::mtqc, 0, mtqc::vt64);
    put(Reg::pfvtctl, 0, pfvtctl::vt_en.put() | pfvtctl::def_pl.put(pf) | pfvtctl::rpl_en.put());
    put(Reg::fctrl, 0, fctrl::bam.put() | fctrl::mpe.put() | fctrl::upe.put());
    put(Reg::vlnctrl, 0, vlnctrl::vet.put(0x8100) | vlnctrl::vfe.put());
    put(Reg::hlreg0, 0, hlreg0::jumboen.put());
    put(Reg::maxfrs, 0, maxfrs::mfs.put(chip().max_frame));
    put(Reg::ctrl_ext, 0, ctrl_ext::extended_vlan.put(two));
    if (tags.two) put(Reg::exvet, 0, exvet::vet_ext.put(tags.outer_tpid));
    const unsigned first_of_pf = pf * (chip().queues / chip().pools);
    for (unsigned queue = 0; queue < chip().queues; ++queue) {
        // With two tags the driver of the PF leaves them where they are (IVDS-P008).
        const bool strips = !tags.two || queue < first_of_pf;
        put(Reg::rxdctl, queue, rxdctl::enable.put() | rxdctl::vme.put(strips ? 1 : 0));
        put(Reg::txdctl, queue, txdctl::enable.put());
    }
    for (unsigned n = 0; n < describe(Reg::ftqf).count(); ++n) put(Reg::ftqf, n, 0);
    for (unsigned n = 0; n < describe(Reg::mta).count(); ++n) put(Reg::mta, n, 0);
    for (unsigned n = 0; n < describe(Reg::pfvfspoof).count(); ++n) put(Reg::pfvfspoof, n, 0);
    put(Reg::mpsar, 0, 0);
    put(Reg::mpsar, 1, 0);
    put(Reg::pfdtxgswc, 0, pfdtxgswc::lbe.put(1 - two));
    put(Reg::dmatxctl, 0, dmatxctl::te.put() | dmatxctl::gdv.put(two) | dmatxctl::vt.put(0x8100));
    put(Reg::rxctrl, 0, rxctrl::rxen.put());
    return result;
}

std::unique_ptr<Backend> make_model(Registers& registers, unsigned pf, WireTags tags) {
    return std::make_unique<Model>(registers, pf, tags);
}

}  // namespace ivds::offload
