// SPDX-License-Identifier: Apache-2.0
// together.h -- a modelled NIC with the reference switch behind its PF: the two rungs of the ladder that an offload
// makes of one switch. Frames go in where the whole has ports, and come out there.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "offload/plan/plan.h"
#include "reference.h"
#include "tables.h"

namespace ivds::offload {
struct Uncertain;
}

namespace ivds::test {

// The uplink of such worlds. The V.VLAN is the one tag of their frames on the wire (World::single_tag).
inline constexpr std::uint32_t together_uplink = 1;
inline constexpr unsigned together_pf = 8;  // VFs 0 to 7 before it

// What the data plane's tables are where the NIC carries these: as the step says, behind the uplink.
[[nodiscard]] World as_software_sees(const World& tables, const offload::Software& told);

class Together {
public:
    // The NIC is set up and empty; `device` says which vPort is which VF.
    Together(const offload::Uncertain& uncertain, offload::Device device);
    ~Together();  // the maker's rules were kept

    // The tables that the next Software step with take_tables brings.
    void bring(World tables) { next_ = std::move(tables); }
    void apply(const offload::Step& step);
    void apply(const std::vector<offload::Step>& steps);
    // Called after each write of a register.
    void watch(std::function<void()> after_write);

    // Who gets the frame that comes in by the port, sorted: vPorts, the uplink, the host.
    [[nodiscard]] std::vector<Sent> send(std::uint32_t port, const Bytes& frame);
    // Whether the vPort's VM is on its VF.
    [[nodiscard]] bool is_in_nic(std::uint32_t vport) const { return told_.vports.contains(vport); }
    // Frames that software had to look at so far.
    [[nodiscard]] unsigned seen_by_software() const { return seen_by_software_; }
    // What the maker does not allow and happened, in words.
    [[nodiscard]] std::vector<std::string> violations() const;
    // Copies for VFs that came by queue 1, as filters said; queue 0 takes all others.
    [[nodiscard]] unsigned filtered() const { return filtered_; }
    [[nodiscard]] double rate_mbps(unsigned pool) const;  // of its queues together; 0: no limit

private:
    struct Hardware;
    void to_software(std::uint32_t port, const Bytes& frame, std::vector<Sent>& sent);
    void from_pf(const Bytes& frame, std::vector<Sent>& sent);

    offload::Device device_;
    std::unique_ptr<Hardware> hardware_;
    World next_;
    World tables_;
    World view_;
    offload::Software told_;
    unsigned seen_by_software_ = 0;
    unsigned filtered_ = 0;
};

}  // namespace ivds::test
