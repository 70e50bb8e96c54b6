// SPDX-License-Identifier: Apache-2.0
// verify_rig.h -- what a verdict of offload/verify is held against: the NIC's model and the reference switch, which
// share no code with it, on the same registers, tables and frames.
#pragma once

#include <memory>
#include <vector>

#include "offload/nic/model_82599.h"
#include "offload/verify/verify.h"
#include "reference.h"

namespace ivds::test {

inline constexpr std::uint32_t witness_uplink = 1;
inline constexpr std::uint16_t witness_vlan = 100;  // of the fabric's port
inline constexpr unsigned witness_pf = 8;           // VFs 0 to 7 before it

// The reference switch with these tables, and what software is told; it learns nothing.
class Witness {
public:
    Witness(World tables, offload::Device device, offload::Software told);

    // Sorted, the priority of the outer tag settled as the fabric's port does; a stray pool is a port as in the
    // verifier. The model's registers are as they are now.
    [[nodiscard]] std::vector<Sent> alone(const offload::verify::Probe& probe);
    [[nodiscard]] std::vector<Sent> together(offload::Model82599& model, const offload::verify::Probe& probe);
    // What the NIC alone makes of it at first: what nothing but its registers can change.
    [[nodiscard]] std::vector<offload::Delivery> first_of_nic(offload::Model82599& model,
                                                              const offload::verify::Probe& probe);
    // The rest of the way, from there.
    [[nodiscard]] std::vector<Sent> onwards(offload::Model82599& model, const offload::verify::Probe& probe,
                                            std::vector<offload::Delivery> deliveries);

private:
    void from_nic(offload::Model82599& model, const std::vector<offload::Delivery>& deliveries,
                  std::vector<Sent>& sent, unsigned depth);
    void from_software(offload::Model82599& model, const std::vector<Sent>& out, std::vector<Sent>& sent,
                       unsigned depth);
    // What of software's goes out by the PF, and what does not.
    [[nodiscard]] std::vector<Sent> software(const offload::verify::Probe& probe);

    offload::Device device_;
    offload::Software told_;
    ReferenceSwitch alone_;
    ReferenceSwitch beside_;
};

// A snapshot of a world, and its rows as the reference has them.
[[nodiscard]] offload::Snapshot tables_of(const World& world);
// Copies as a verifier says them.
[[nodiscard]] std::vector<Sent> sent_of(const offload::verify::Frame& frame,
                                        const std::vector<offload::verify::Out>& outs);

}  // namespace ivds::test
