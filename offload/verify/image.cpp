// SPDX-License-Identifier: Apache-2.0
#include "verify/image.h"

#include <array>

namespace ivds::offload::verify {

using namespace i82599;

namespace {

constexpr std::array registers_read{
    Reg::ctrl_ext, Reg::gpie,     Reg::gcr_ext,  Reg::hlreg0,    Reg::maxfrs,    Reg::mflcn,     Reg::exvet,
    Reg::rxctrl,   Reg::fctrl,    Reg::vlnctrl,  Reg::mcstctrl,  Reg::mta,       Reg::ral,       Reg::rah,
    Reg::mpsar,    Reg::vfta,     Reg::mrqc,     Reg::psrtype,   Reg::reta,      Reg::rssrk,     Reg::etqf,
    Reg::etqs,     Reg::saqf,     Reg::daqf,     Reg::sdpqf,     Reg::ftqf,      Reg::l34timir,  Reg::synqf,
    Reg::rxdctl,   Reg::fdirctrl, Reg::fdirfree, Reg::dmatxctl,  Reg::mtqc,      Reg::txdctl,    Reg::pfvtctl,
    Reg::pfvfre,   Reg::pfvfte,   Reg::pfvmtxsw, Reg::pfvfspoof, Reg::pfdtxgswc, Reg::pfvml2flt, Reg::pfvlvf,
    Reg::pfvlvfb,  Reg::pfuta,    Reg::pfvmvir,  Reg::pfmrctl,   Reg::pfmrvlan,  Reg::pfmrvm,
};

}  // namespace

std::span<const Reg> deciding() {
    return registers_read;
}

Image::Image() : values_(map().slots()) {}

Result<Image> read_image(Registers& registers) {
    Image image;
    bool all_ones = true;
    for (const Reg reg : registers_read) {
        for (unsigned i = 0; i < describe(reg).count(); ++i) {
            if (reg == Reg::l34timir && ftqf::queue_en(image(Reg::ftqf, i)) == 0) continue;
            const auto value = registers.read(offset(reg, i));
            if (!value) return std::unexpected(value.error());
            all_ones &= *value == ~0U;
            image.set(reg, i, *value);
        }
    }
    if (all_ones)
        return fail(Code::unavailable, "IVDS-O011", "all registers read as all ones",
                    "the NIC is gone: look for it with lspci, and reset it");
    return image;
}

}  // namespace ivds::offload::verify
