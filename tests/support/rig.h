// SPDX-License-Identifier: Apache-2.0
// rig.h -- the real programs in a network namespace of their own, with a veth pair a port: frames are put in and
// caught at the far ends. Making a Rig moves the calling thread into a new namespace and pins it to one CPU, so
// that the kernel works a frame off before the call that sent it returns.
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "reference.h"
#include "world.h"

struct ivds_bpf;

namespace ivds::test {

// The ways a frame can go through the programs. The test runs call a program on bytes; the live ones let the
// kernel receive a frame from a veth, which puts an outer 0x8100 or 0x88A8 tag into the skb's metadata before TC.
enum class Rung {
    xdp_then_tc,  // test run of XDP, and of TC if XDP passes
    xdp_alone,    // test run of XDP where TC is not attached
    tc_inline,    // test run of TC: every tag is in the bytes
    tc_live,      // tcx on a veth
    ladder_live,  // native XDP and tcx on a veth
};
inline constexpr Rung all_rungs[] = {Rung::xdp_then_tc, Rung::xdp_alone, Rung::tc_inline, Rung::tc_live,
                                     Rung::ladder_live};
[[nodiscard]] const char* to_string(Rung rung);

struct Step {
    std::uint32_t port = 0;
    Bytes frame{};
    Gso gso{};
};

class Rig {
public:
    struct Options {
        std::uint32_t ports = 14;  // ids 1 to this
        // Capacity of the hash tables; 0: as the programs have it, which makes each look at the state slow.
        std::uint32_t entries = 16'384;
        std::uint32_t fdb_entries = 0;  // of the FDB alone, 0: as the others
    };
    explicit Rig(const Options& options);  // throws std::runtime_error
    ~Rig();
    Rig(const Rig&) = delete;
    Rig& operator=(const Rig&) = delete;

    // Whether the kernel takes such a frame on this rung: none under 14 bytes, no test run over a page, segmentation
    // offload in TC test runs only; and it drops what it receives with a tag and less than 20 bytes by itself (28,
    // since two tags may go).
    [[nodiscard]] static bool can_run(Rung rung, const Step& step);
    // Sets the tables to the world and sends the frames one after the other; an outcome for each. All of it
    // happens within one second of the data plane's clock.
    [[nodiscard]] std::vector<Outcome> play(const World& world, Rung rung, const std::vector<Step>& steps);
    // Sets the tables alone, for tests that look at the maps themselves.
    void apply(const World& world, Rung rung);
    // Calls TC on a frame and looks at its verdict alone, for tables that are too large to read each time.
    [[nodiscard]] int tc_verdict(const Step& step);
    // What the tables hold now; counts since apply().
    [[nodiscard]] Outcome state();
    // Runs the sweep, and returns the arguments with what it removed.
    ivds_sweep sweep(ivds_sweep arguments) const;
    [[nodiscard]] ivds_bpf& programs();

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// The outcomes that the reference switch gives for the same.
[[nodiscard]] std::vector<Outcome> play_reference(const World& world, Rung rung, const std::vector<Step>& steps,
                                                  std::size_t fdb_capacity = IVDS_MAX_FDB);

}  // namespace ivds::test
