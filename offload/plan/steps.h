// SPDX-License-Identifier: Apache-2.0
// steps.h -- the way from what a NIC holds to what it shall hold, in an order that is right after each step: at no
// moment does a frame reach a port that neither the tables before nor those after allow it to, or reach one twice, or
// miss one that it reaches before and after. A vPort that itself moves between NIC and software, or to another
// instance, is away while it does.
//
//   1. The NIC gives up what is not so in the end: mirrors and addresses first, then VFs, then V.VLANs. An address
//      is given to the PF, and not forgotten yet: frames to one that the NIC does not know go to the wire.
//   2. Software takes the new tables (Software::take_tables).
//   3. The NIC forgets addresses that no one needs any more, and learns all new ones, at the PF.
//   4. Software regards what moves to the NIC as being behind the uplink.
//   5. The NIC takes up what is new: V.VLANs, mirrors, VFs, and last their addresses from the PF.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <variant>
#include <vector>

#include "plan/state.h"

namespace ivds::offload {

struct SetMac {
    Mac mac{};
    NicMac entry;
};
struct ClearMac {
    Mac mac{};
    unsigned slot = 0;
};
struct SetVlan {
    std::uint16_t vvlan = 0;
    NicVlan entry;
};
struct ClearVlan {
    std::uint16_t vvlan = 0;
    unsigned slot = 0;
};
struct Admit {
    std::uint16_t vvlan = 0;
    bool on = false;
};
struct SetPool {  // turns the VF on; it was off
    unsigned pool = 0;
    NicPool as;
};
struct SetUplink {  // turns the VF on as an uplink; it was off
    unsigned pool = 0;
};
struct ClearPool {  // turns the VF off, whose ever it is
    unsigned pool = 0;
};
struct SetRate {
    unsigned pool = 0;
    unsigned rate_mbps = 0;
};
struct SetMirror {  // `target` gets copies; while it is off it gets none
    unsigned target = 0;
    NicMirror entry;
};
struct ClearMirror {
    unsigned target = 0;
    unsigned slot = 0;
};
struct SetFilter {  // it was not there
    RxKey key;
    NicFilter entry;
};
struct ClearFilter {
    RxKey key;
    unsigned slot = 0;
};
struct UnknownToPf {
    bool on = false;
};

struct Software {
    bool take_tables = false;  // those that the plan was made from; else they are there already
    // All that the NIC carries: for software their addresses are behind the uplink (as_software_sees() in
    // snapshot.h).
    std::set<std::uint32_t> vports{};
};

using Step = std::variant<SetMac, ClearMac, SetVlan, ClearVlan, Admit, SetPool, SetUplink, ClearPool, SetRate,
                          SetMirror, ClearMirror, SetFilter, ClearFilter, UnknownToPf, Software>;

// `pf` is the PF's pool. There is always a step that takes the tables.
[[nodiscard]] std::vector<Step> make_steps(const NicState& present, const NicState& wanted, unsigned pf);

// What the NIC holds after the step.
void advance(NicState& state, const Step& step);

[[nodiscard]] std::string text(const Step& step);
[[nodiscard]] std::string text(const RxMatch& match);  // "tcp to port 80"

}  // namespace ivds::offload
