// SPDX-License-Identifier: Apache-2.0
// backend.h -- the edge between a plan and a NIC: one PF, whose switch is read, changed step by step and cleared.
//
// A backend has no memory of what it was told. What the NIC holds is what read() finds in it, and a plan is made from
// that: after a reset, a driver that came back, another writer or a restart of the agent, read() differs from what
// was applied, the plan from it has steps, and these mend it. A NIC is as it shall be when the plan made from read()
// has no other step than software's.
//
// How it is used:
//
//   prepare()                        once, and again when another call says that the NIC is not set up (IVDS-O010)
//   present = named(read(), known)
//   plan    = make_plan(tables, device, choices, present)
//   each step in turn                software's (Software) by the caller, the others by apply()
//
// One caller at a time. Calls do not wait for links or timers; one takes as long as its register accesses and netlink
// messages do, a few milliseconds. Nothing is kept open in the kernel but file descriptors: a process that ends at
// any moment leaves the NIC as the last step left it.
//
// Errors (loader/error.h) are of these kinds; after each the NIC still holds what read() finds, and is safe:
//
//   unavailable   the NIC, its driver or its interface is gone, or it reads as all ones; the caller looks for it anew
//   conflict      the NIC is not set up as plans take it to be, or does not hold what was just written: another
//   writer exhausted     the driver has no room where the chip's record says there is some unsupported   this way to
//   the NIC cannot do it, whatever its state system        the operating system refused, with its errno
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "loader/error.h"
#include "nic/chip.h"
#include "nic/counters.h"
#include "nic/registers.h"
#include "plan/state.h"
#include "plan/steps.h"

namespace ivds::offload {

class Backend {
public:
    Backend() = default;
    Backend(const Backend&) = delete;
    Backend& operator=(const Backend&) = delete;
    virtual ~Backend() = default;  // leaves the NIC as it is

    [[nodiscard]] virtual std::string_view name() const = 0;  // "kernel", "model", "none"
    // What a plan may use. It may have less than the chip's own record: what the driver keeps for itself is taken
    // off.
    [[nodiscard]] virtual const Chip& chip() const = 0;
    // The PF's pool. It changes with the number of VFs, never while the backend lives: who changes that number opens
    // a new one.
    [[nodiscard]] virtual unsigned pf() const = 0;
    // What this way to the NIC does not do though the chip could, each with its reason, for people.
    [[nodiscard]] virtual std::vector<std::string> shortcomings() const = 0;

    // Sets up what a plan takes as given (plan/state.h): pools, replication, the default pool, switching between
    // pools, the port's own filters. What is so already is not touched, so that it may be called at any time. May
    // reset the PF's link. After a failure nothing may be applied.
    virtual Result<> prepare() = 0;

    // What the NIC holds. It does not know vPorts and instances: these are 0 in its pools; named() tells them. A VF
    // that is on, but not as SetPool leaves it (its sources unchecked, untagged frames let through, ...), or that its
    // VM could turn on so, has V.VLAN 0, which is in no plan, so that any plan turns it off first. The slots are
    // those that the NIC's driver chose, where it chooses. An address that means no pool, or several, has a pool that
    // the chip does not have. Fails with `conflict` where the NIC holds what no plan makes, such as two entries for
    // one V.VLAN: then clear() is the way on.
    virtual Result<NicState> read() = 0;

    // Makes one step and reads it back. The steps come in a plan's order, from what read() told. Each of the accesses
    // that a step takes leaves the NIC safe: after a failure a part of the step may be made, nothing is undone, and
    // the caller goes on from read(), with a new plan. A step that is made already changes nothing. A step of
    // software's does nothing here. A rate that is no limit at the link's present speed is not set, and reads as 0.
    virtual Result<> apply(const Step& step) = 0;

    // What the NIC counts of each of its VFs, those that are off too. Nothing is changed by it, and no state is
    // needed: it may be asked at any time. Empty where the backend has no VFs.
    virtual Result<CountersOfPools> counters() = 0;

    // The NIC's registers, for those who look at what decides about frames (verify/nic.h); who writes there is
    // another writer. Null where the backend has none.
    [[nodiscard]] virtual Registers* registers() { return nullptr; }

    // Turns off all VFs, and takes back whatever apply() may have left: afterwards read() gives an empty state. What
    // prepare() did stays, and so does what others gave the PF. Safe at any time and after any failure; it goes on
    // after a failure of its own, and tells the first.
    virtual Result<> clear() = 0;
};

// What read() found, with the vPort and the instance of each VF that is on as `known` has it: the state that the
// caller believes in, which for one that just started is what a plan of the present tables wants.
[[nodiscard]] NicState named(NicState read, const NicState& known);

// The backend of an uplink whose NIC carries nothing: all is software's, and `why` says so among its shortcomings.
[[nodiscard]] std::unique_ptr<Backend> make_none(std::string why);

}  // namespace ivds::offload
