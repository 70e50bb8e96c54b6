// SPDX-License-Identifier: Apache-2.0
// verify.h -- whether a NIC, as its registers read back, and software, as its tables are pinned, do together what the
// switch alone would, for every frame there can be: that no frame leaves its instance, and that each reaches the
// ports that it would reach without the NIC, but for what plan.h names as a Limit. Pure.
//
// Not sampled: frames are told apart by all that the two look at, and one of each class is walked through both. A
// class is uniform as neither asks for more than this:
//
//   enters       by the wire, a VF's pool, a port of software's, the far end of a patch, or from the host, which
//   sends
//                in no V.VLAN: each is a class of its own, but for pools that do not send. What the fabric's port
//                keeps from the NIC (Cable) does not enter.
//                An uplink that is a VF is the host's: by it comes what the NIC brings, and what software sends.
//   tags         the NIC asks of a VID for its bit in VFTA and the PFVLVF that have it, software for its row in
//   vvlans:
//                VIDs with the same answers are one class, each registered one is its own. Of a tag of another TPID
//                than either knows, and of a guest's tag behind the V.VLAN's, nothing is asked but whether it is
//                there and has a VID. A pool that PFVMVIR adds a tag for has its own tag either dropped or looked at
//                no more. Priorities are carried, and nothing is decided by them; CFI counts where CFIEN is on.
//   destination  the NIC asks for the pools of its RAL/RAH, and for its bit in MTA or PFUTA; software for the entry
//   in
//                the frame's instance, and whether it is unicast, broadcast, a group, or link-local.
//   source       the NIC asks whether a RAL/RAH of the sending pool has it (MACAS), software whether it is no source
//   at
//                all, the port's vMAC, and for its entry in the instance: static here, static elsewhere, learned,
//                none.
//   payload      where a filter of queues is on, a frame that it looks for, and as little besides; else one for all.
//                As filters decide about each copy for itself, such frames are walked from good senders alone. So are
//                MAC control frames, and those of the greatest length that their sender may send.
//
// What the texts on the chip leave open (Uncertain) is walked both ways, in every combination that a frame comes
// upon.
//
// Not looked at: learning, rules and rates of software's ports (software.h), rates of the NIC's, and whether a VF's
// own queues are on: such a VF's vPort counts as one that does not listen just now (idle).
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <string_view>
#include <unordered_set>
#include <vector>

#include "plan/plan.h"
#include "verify/nic.h"
#include "verify/software.h"

namespace ivds::offload::verify {

// What the registers are held against. Everything outlives the Verifier.
struct Subject {
    const Snapshot& tables;
    const Device& device;           // of uplinks that are VFs those that the NIC is to sort to
    const offload::Software& told;  // what software has been told of the NIC
    // Of ports and instances, for people; without, they are numbers.
    const std::map<std::uint32_t, std::string>* port_names = nullptr;
    const std::map<std::uint32_t, std::string>* instance_names = nullptr;
};

struct Enter {
    enum class By : std::uint8_t { uplink, pool, port, patch, host };
    By by = By::uplink;
    std::uint32_t port = 0;  // an uplink, a vPort, or 0: of the pool no vPort, or the host
    unsigned pool = 0;       // by a pool
    bool operator==(const Enter&) const = default;
};
// As it comes in there: by an uplink with all tags of the wire.
struct Probe {
    Enter enter{};
    Frame frame{};
    bool operator==(const Probe&) const = default;
};

// X(name, text)
#define IVDS_VERIFY_FAULTS(X)                                                         \
    X(leak, "a frame leaves its instance")                                            \
    X(twice, "a frame comes twice")                                                   \
    X(extra, "a frame goes where the switch alone does not send it")                  \
    X(lost, "a frame does not come where the switch alone sends it")                  \
    X(altered, "a frame comes with other tags than the switch alone gives it")        \
    X(policy, "a vPort in the NIC has what the NIC does not do")                      \
    X(undefined, "registers contradict each other, and what then happens is unknown") \
    X(hidden, "what decides cannot be read back")

enum class Fault : std::uint8_t {
#define IVDS_X(name, words) name,
    IVDS_VERIFY_FAULTS(IVDS_X)
#undef IVDS_X
};
[[nodiscard]] std::string_view name(Fault fault);
[[nodiscard]] std::string_view text(Fault fault);

struct Counterexample {
    Fault fault = Fault::leak;
    std::string what{};  // in a line
    // The rest is empty where no frame shows it: policy, undefined, hidden.
    std::optional<Enter> enter{};
    std::vector<std::uint8_t> frame{};  // its bytes, as trace takes them
    std::string frame_text{};
    std::uint32_t port = 0;               // that should, or should not, have had it; 0: the host, or a stray pool
    std::vector<std::string> expected{};  // where the switch alone sends it
    std::vector<std::string> got{};       // where it goes
    std::vector<std::string> trail{};     // which registers, slots and entries decided
    std::vector<std::string> assumed{};   // flags of Uncertain that it takes
};

struct Verdict {
    std::uint64_t found = 0;                // counterexamples, of which …
    std::vector<Counterexample> examples;   // … these are the first of their kind and port
    std::map<Limit, std::uint64_t> limits;  // classes that a limit excuses
    std::set<unsigned> idle;                // VFs in the NIC whose own queues are off
    std::uint64_t classes = 0;              // of frames
    std::uint64_t walks = 0;                // with every answer to what is left open

    [[nodiscard]] bool holds() const { return found == 0; }
};

struct Options {
    std::size_t examples = 16;
    bool stop_at_first = false;
    std::function<void(const Probe&)> each;  // is shown every class
};

class Verifier {
public:
    explicit Verifier(const Subject& subject);
    ~Verifier();
    Verifier(const Verifier&) = delete;
    Verifier& operator=(const Verifier&) = delete;

    [[nodiscard]] Verdict check(const Nic& nic, const Options& options = {}) const;

    // One frame: where the switch alone sends it, and where NIC and software together do. Sorted. A pool that is no
    // vPort's counts as a port, stray(pool).
    void alone(const Probe& probe, Software::Told& told, Trail* trail = nullptr) const;
    void together(const Nic& nic, const Probe& probe, Doubts& doubts, std::vector<Out>& outs,
                  Trail* trail = nullptr) const;
    // The frame as the PF's driver hands it to software, where the NIC gives a copy to the PF; what the texts leave
    // open as they most likely mean it.
    [[nodiscard]] std::optional<Frame> given_to_software(const Nic& nic, const Probe& probe) const;
    [[nodiscard]] static constexpr std::uint32_t stray(unsigned pool) { return 0x80000000U | pool; }
    // In words: "port web (VF 1)", "the wire, tags 10".
    [[nodiscard]] std::string place(const Out& out) const;
    [[nodiscard]] std::string port_name(std::uint32_t port) const;
    [[nodiscard]] std::string instance_name(std::uint32_t instance) const;

private:
    class Run;
    void from_software(const Nic& nic, const Frame& frame, const Software::Told& told, Doubts& doubts,
                       std::vector<Out>& outs, Trail* trail, unsigned depth) const;
    // `sender`: the uplink by whose pool the frame was sent.
    void from_nic(const Nic& nic, const Frame& frame, const Nic::Passage& passage, std::uint32_t sender,
                  Doubts& doubts, std::vector<Out>& outs, Trail* trail, unsigned depth) const;
    // The uplink whose tables have the frame's V.VLAN: of those on the wire, the PF's where none has.
    [[nodiscard]] std::uint32_t home(const Frame& frame) const;
    [[nodiscard]] bool is_on_wire(std::uint32_t port) const {
        return port == subject_.device.uplink || subject_.device.uplinks.contains(port);
    }
    void find_policies();
    void find_mirrors();
    void add_copies(Software::Told& told) const;
    // Whether copies of frames of the instance may go to it.
    [[nodiscard]] bool is_mirrored_to(std::uint32_t vport, std::uint32_t instance) const;
    [[nodiscard]] Frame as_taken(const Frame& frame, const Nic::Copy& copy) const;

    Subject subject_;
    Views views_;
    Software alone_;
    Software beside_;
    Cable cable_;
    std::map<unsigned, std::uint32_t> vport_of_;                   // by pool
    std::map<unsigned, std::uint32_t> uplink_of_;                  // by pool
    std::unordered_set<std::uint64_t> local_;                      // addresses that some instance has on this host
    std::map<std::uint32_t, std::vector<Mac>> macs_;               // of the forwarding table, by instance
    std::vector<std::pair<std::uint32_t, std::string>> policies_;  // by port
    std::uint32_t by_nic_ = 0;                                     // sessions of mirrors
};

// For people: the verdict in a line, and its counterexamples.
[[nodiscard]] std::string text(const Counterexample& example);
[[nodiscard]] std::string text(const Verdict& verdict);

}  // namespace ivds::offload::verify
