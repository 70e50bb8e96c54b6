// SPDX-License-Identifier: Apache-2.0
// preflight.h -- the known traps of drivers and kernels, found before the kernel finds them with a bare
// EINVAL: pure rules over gathered facts. The same rules choose the hooks at attach and speak in doctor.
#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "kernel.h"
#include "switch.h"

namespace ivds {

struct Facts {
    std::string port;
    Netdev netdev;
    bool uplink = false;
    bool inspector = false;
    AttachMode wanted = AttachMode::automatic;
    Hooks hooks;                  // ours, on it already
    std::uint16_t mtu_bytes = 0;  // vPort: its own; uplink: the largest of the instances over it
    bool has_tcx = true;
    bool coexist = false;  // the operator asked to share the XDP hook through libxdp

    // Only looked up where XDP is a question: asked for, or automatic on hardware. The features of an inspector's
    // interface always are.
    std::string driver;
    std::optional<Features> features;
    std::optional<Features> peer_features;      // of a veth's peer
    std::string peer_error;                     // why those are not known
    std::optional<ForeignProgram> foreign_xdp;  // the program on the hook, where none of ours runs there
    Dispatcher dispatcher;                      // what that is, or the dispatcher that ours is in
    std::string cannot_share;                   // why XDP cannot be shared; looked up if `coexist`
    std::vector<ForeignProgram> foreign_tcx;
};

// Features to set before the hooks go on, on the interface itself or its peer.
struct FeatureChange {
    bool peer = false;
    std::map<std::string, bool> wanted;
};

struct Decision {
    Point tc = Point::tcx;
    std::optional<Point> xdp;
    std::string reason;  // why these hooks
    std::vector<FeatureChange> changes;
    std::vector<Finding> findings;
    [[nodiscard]] const Finding* error() const;  // the first one, or null
};

[[nodiscard]] Decision decide(const Facts& facts);
// True if the facts below the line in Facts matter for this port.
[[nodiscard]] bool xdp_is_a_question(const Netdev& netdev, AttachMode wanted);
[[nodiscard]] Facts gather(Kernel& kernel, Facts basic);
// The finding of a failed attach as an Error, with the code that fits.
[[nodiscard]] Error to_error(const Finding& finding);

}  // namespace ivds
