// SPDX-License-Identifier: Apache-2.0
// offload.h -- the NICs that carry a part of the switch: what they hold follows the tables, in an order that is right
// at each step, and what somebody else changed there is set right. The agent's data plane is changed through here
// alone, so that software and NICs never disagree. Not for two threads at once.
#pragma once

#include <chrono>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "agent/plane.h"
#include "compile/offload.h"
#include "ivds.pb.h"
#include "offload/apply/backend.h"
#include "offload/apply/tally.h"
#include "offload/plan/heat.h"
#include "offload/verify/nic.h"

namespace ivds {

// What the NIC behind a PF's interface is asked for. Each is called again after a failure.
struct Nics {
    // For a wire with these tags.
    std::function<Result<std::unique_ptr<offload::Backend>>(const std::string& netdev, offload::WireTags tags)> open;
    // Whether it can have so many VFs now, and gives it so many (offload/apply/nics.h).
    std::function<Result<>(const std::string& netdev, unsigned count)> check_vfs, set_vfs;
};

class Offload {
public:
    // `plane` outlives it. `tell` gets what happened to an uplink's NIC, for the event log.
    Offload(Plane& plane, Nics access, std::function<void(const std::string& uplink, const std::string& text)> tell)
        : plane_(plane), access_(std::move(access)), tell_(std::move(tell)) {}

    // Makes data plane and NICs hold what was compiled. With `refuse`, a vPort that shall be in a NIC and cannot be
    // is an error; otherwise it is left to software; and so is another number of VFs while one of them is in use.
    // After an error all is as it was before. A NIC that fails is no error: it carries nothing then, and is tried
    // again.
    Result<> put(Tables tables, std::vector<NicIntent> intents, bool strict, bool refuse);
    // What was compiled last, as the next compilation wants it.
    [[nodiscard]] const Tables& tables() const { return tables_; }
    // Looks whether the NICs hold what they shall, and how busy the vPorts are, which may put others into a NIC.
    // tick() does so a few seconds after the last look.
    void look();
    void tick();

    // An uplink's NIC as it is this moment, for those who ask what it makes of frames; it outlives the NIC.
    struct Look {
        std::string uplink;
        offload::Chip chip{};
        offload::Device device;  // of this chip
        std::unique_ptr<offload::verify::Nic> nic;
    };
    // Of all uplinks with offload, or of one. Fails where a NIC carries nothing, or its registers are out of reach.
    [[nodiscard]] Result<std::vector<std::unique_ptr<Look>>> look(const std::string& uplink) const;
    // Whether the NIC of this uplink, by its port id, carries anything; else all its frames are software's.
    [[nodiscard]] bool is_on(std::uint32_t uplink) const;

    // Adds what the NICs counted of their vPorts since the last look to the data plane's map nic_stats. It is done at
    // each tick, before a vPort's counters are another's, and before anybody is told of them.
    void count() const;

    [[nodiscard]] Result<pb::OffloadReply> view(const pb::OffloadRequest& request, const Model& model,
                                                const Ids& ids) const;

private:
    struct Nic {
        std::unique_ptr<offload::Backend> backend;
        offload::WireTags tags;          // that it was opened for
        std::uint32_t uplink = 0;        // port id
        std::string error;               // why there is none, or it has not the VFs that it shall have
        offload::NicState known;         // as the last step left it
        offload::Plan plan;              // the one that holds
        std::set<std::uint32_t> vports;  // that software takes to be in the NIC
        std::uint64_t drifts = 0;
        std::string last_drift;
    };
    struct Work {
        const NicIntent* intent;
        Nic* nic;
        offload::Plan plan;
        std::size_t done = 0;  // steps
    };

    Result<> carry_out(const Tables& tables, const std::vector<NicIntent>& intents, bool strict, bool refuse);
    Result<std::vector<Work>> plan_all(const Tables& tables, const std::vector<NicIntent>& intents, bool refuse);
    static Result<offload::Plan> plan_one(const offload::Snapshot& snapshot, const NicIntent& intent,
                                          const offload::Backend& backend, const offload::NicState& present,
                                          bool refuse);
    // Gives the PF the VFs that it shall have, and opens it where it is not open. It may be open after a failure.
    Result<> open(const NicIntent& intent, Nic& nic, offload::WireTags tags);
    // Whether VFs could be made and taken away as `next` asks for, where it asks for another number than is held.
    [[nodiscard]] Result<> check_vfs(const std::vector<NicIntent>& next) const;
    Result<offload::NicState> read(const NicIntent& intent, Nic& nic);
    // The steps up to software's next one, whose vPorts then are the NIC's.
    void advance(Work& work);
    // Clears it, and lets go of it.
    void close(const NicIntent& intent, Nic& nic);
    void give_up(const NicIntent& intent, Nic& nic, const Error& error);
    // One look at the counters of these VFs: the first where a vPort is about to have another, the last where it is
    // without one from here on.
    enum class Reading : std::uint8_t { next, last };
    void count(const Nic& nic, const std::map<unsigned, offload::NicPool>& vfs, Reading reading) const;
    Result<> view_traffic(const NicIntent& intent, const Nic& nic, const Ids& ids, pb::OffloadNic& out) const;
    // Why the NIC carries nothing; what is the same as before is told once.
    void note(const NicIntent& intent, Nic& nic, const Error& error);
    Result<> tell_software(const Tables& tables, bool strict);
    [[nodiscard]] offload::Snapshot look_at(const Tables& tables) const;
    void take_heat();

    Plane& plane_;
    Nics access_;
    std::function<void(const std::string&, const std::string&)> tell_;
    Tables tables_;
    std::vector<NicIntent> intents_;
    bool holds_ = false;               // data plane and NICs hold these two
    std::map<std::string, Nic> nics_;  // by the PF's interface
    // vPorts that software takes to be in NICs; none: it is yet to be told, with other tables than it has.
    std::optional<std::set<std::uint32_t>> told_;
    std::chrono::steady_clock::time_point next_look_;
    offload::Heat heat_;
};

}  // namespace ivds
