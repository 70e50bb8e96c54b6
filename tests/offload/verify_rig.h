// SPDX-License-Identifier: Apache-2.0
// verify_rig.h -- what a verdict of offload/verify is held against: the NIC's model and the reference switch, which
// share no code with it, on the same registers, tables and frames.
#pragma once

#include "nic_rig.h"  // first: its Outcome is the model's
// clang-format off
#include "offload/verify/nic_82599.h"
#include "offload/verify/verify.h"
#include "reference.h"
#include "tables.h"
// clang-format on

#include <cstdint>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <vector>

namespace ivds::test {

inline constexpr std::uint32_t witness_uplink = 1;
inline constexpr unsigned witness_pf = 8;      // VFs 0 to 7 before it
inline constexpr std::uint32_t first_vf = 10;  // port ids of VF 0 and on
// Where there is a trunk, and the one vPort behind it.
inline constexpr std::uint32_t witness_trunk = 20, witness_behind = 30;
inline constexpr std::uint16_t witness_vid = 5;

[[nodiscard]] offload::Device witness_device(unsigned vfs);

// A modelled card as a driver sets it up, and the plan for the tables in it.
struct Card {
    Card(const offload::Snapshot& tables, const offload::Device& device, const offload::Uncertain& uncertain = {},
         const offload::Choices& choices = {});
    [[nodiscard]] offload::verify::Image image();

    Nic nic;
    offload::Software told;
};

// The reference switch with these tables, and what software is told; it learns nothing.
class Witness {
public:
    Witness(World tables, offload::Device device, offload::Software told);

    // Sorted; a stray pool is a port as in the verifier. The model's registers are as they are now.
    struct Alone {
        std::vector<Sent> sent{};
        std::set<std::string> drops{};  // reasons
    };
    [[nodiscard]] Alone alone(const offload::verify::Probe& probe);
    [[nodiscard]] std::vector<Sent> together(offload::Model82599& model, const offload::verify::Probe& probe);
    // What goes into the NIC at first, of the wire's or of a pool's, and of what software sends by the PF; and what
    // becomes of the frame, when this is what it makes of that.
    struct Input {
        bool from_wire = false;
        unsigned pool = 0;
        Bytes bytes{};
        auto operator<=>(const Input&) const = default;
    };
    [[nodiscard]] std::vector<Input> into_nic(const offload::verify::Probe& probe);
    [[nodiscard]] static std::vector<offload::Delivery> by_nic(offload::Model82599& model, const Input& input);
    [[nodiscard]] std::vector<Sent> onwards(offload::Model82599& model, const offload::verify::Probe& probe,
                                            const std::vector<offload::Delivery>& deliveries);

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

// What harm the frame comes to between `alone` and `got`, whatever the limits of a plan are; empty: none. Written
// apart from the verifier's own judgement.
[[nodiscard]] std::string harm(const World& world, const offload::Software& told, const offload::verify::Probe& probe,
                               const Witness::Alone& alone, std::vector<Sent> got);

[[nodiscard]] offload::Uncertain all_doubts();

// What became of broken bits: the verifier found it, or no frame came to harm.
struct Tally {
    unsigned leaks = 0, others = 0, harmless = 0;
    std::uint64_t frames = 0;
    std::vector<std::string> missed;
    [[nodiscard]] std::string text() const;
};
// Nothing was missed, and there was some of each.
void check_found(const Tally& tally);

// With IVDS_ALL_BITS=1 every bit of every register that decides, or with 1/2 and 2/2 half of them; else those of all
// entries in use, and some of one of each table that is not.
[[nodiscard]] bool takes_all_bits();
// One after the other; says each register as it is done, for it may take long.
[[nodiscard]] Tally break_each_bit(
    const offload::verify::Image& image,
    const std::function<void(offload::i82599::Reg which, unsigned element, unsigned bit, Tally& tally)>& flip);

// Copies as a verifier says them.
[[nodiscard]] std::vector<Sent> sent_of(const offload::verify::Frame& frame,
                                        const std::vector<offload::verify::Out>& outs);

}  // namespace ivds::test
