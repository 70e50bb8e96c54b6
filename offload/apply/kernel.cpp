// SPDX-License-Identifier: Apache-2.0
#include "apply/kernel.h"

#include <fmt/format.h>

#include <string>
#include <utility>
#include <vector>

#include "apply/igb.h"
#include "apply/ixgbe.h"
#include "apply/pf_link.h"
#include "apply/regs.h"
#include "nic/82576.h"

namespace ivds::offload {

Result<std::unique_ptr<Backend>> open_kernel(const Pf& pf, WireTags tags) {
    if (pf.chip == nullptr)
        return fail(Code::unsupported, "IVDS-O023", fmt::format("no plan can be made for {}: {}", pf.address, pf.why),
                    "let software carry it");
    auto registers = open_registers(pf.device, "/sys/kernel/debug");
    if (!registers) return std::unexpected(registers.error());
    auto link = open_pf_link(pf.device);
    if (!link) return std::unexpected(link.error());
    std::vector<std::string> notes;
    for (const std::string& refused : registers->refused) notes.push_back("not a way to the registers: " + refused);
    const auto make = pf.chip == &i82576::chip() ? make_igb : make_ixgbe;
    return make(std::move(*link), std::move(registers->registers), std::move(notes), tags);
}

}  // namespace ivds::offload
