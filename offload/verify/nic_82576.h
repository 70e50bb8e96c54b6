// SPDX-License-Identifier: Apache-2.0
// nic_82576.h -- what an 82576 makes of a frame. It is the 82599's older sibling: the steps are the same where both
// have them, by the registers and bits that nic/82576.h names (its datasheet, 320961, was not at hand). With no code
// of the planner or the backend.
//
// Not looked at: mirror rules, which no driver sets and whose registers are not among those known here; the greatest
// length of a pool's frames, which is its VM's; filters for IP, which choose among a pool's queues; rates.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "nic/82576.h"
#include "verify/image.h"
#include "verify/nic.h"

namespace ivds::offload::verify {

class Nic82576 final : public Nic {
public:
    explicit Nic82576(Image image);
    [[nodiscard]] static Result<Image> read(Registers& registers);

    void from_wire(const Frame& frame, Doubts& doubts, Passage& out, Trail* trail = nullptr) const override;
    void from_pool(unsigned pool, const Frame& frame, Doubts& doubts, Passage& out,
                   Trail* trail = nullptr) const override;
    [[nodiscard]] bool can_send(unsigned pool) const override;
    [[nodiscard]] std::uint16_t type_in() const override;
    [[nodiscard]] std::uint16_t type_out() const override { return type_in(); }
    [[nodiscard]] bool looks_at_cfi() const override;
    [[nodiscard]] std::optional<std::uint16_t> adds_tag(unsigned pool) const override;
    // The driver of the PF, igb, has its VFs' MTA, ROMPE and MPME to itself.
    [[nodiscard]] bool vms_choose_multicast() const override { return true; }
    [[nodiscard]] Queues queues(unsigned pool) const override;
    [[nodiscard]] std::vector<std::string> contradictions() const override;

private:
    [[nodiscard]] Checks checks(unsigned pool) const override;
    using Reg = i82576::Reg;
    struct Seen {  // by the parser
        std::optional<Tag> tag{};
        unsigned tag_at = 0;
    };
    [[nodiscard]] Seen parse(const Frame& frame, Doubts& doubts) const;
    [[nodiscard]] PoolSet with_flag(Field flag) const;
    [[nodiscard]] bool passes_port(const Frame& frame, const Address* address) const;
    void copy(const Frame& frame, const Seen& seen, PoolSet pools, Passage& out, Trail* trail) const;

    PoolSet local_ = 0;  // bits of slots of VLVF whose VLANs stay off the wire
};

}  // namespace ivds::offload::verify
