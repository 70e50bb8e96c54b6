// SPDX-License-Identifier: Apache-2.0
// A trace must say what the switch does, and do nothing: on every frame of the vector table, and in random worlds,
// the traced programs are held against the reference switch, and the tables against what they were.
#include "loader/trace.h"

#include <bpf/libbpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <ivds.skel.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "rig.h"
#include "vectors.h"

namespace ivds::test {
namespace {

// The ports that get a copy, how often, and where it was dropped and why.
struct Fate {
    std::map<std::uint32_t, int> sent;
    std::set<std::pair<std::uint32_t, std::uint32_t>> drops;
    bool host = false;
    bool operator==(const Fate&) const = default;

    [[nodiscard]] std::string text() const {
        return fmt::format("sent {} drops {}{}", sent, drops, host ? " host" : "");
    }
};

Fate fate_of(const Outcome& outcome) {
    Fate fate;
    for (const Sent& sent : outcome.sent) {
        if (sent.port == to_host) {
            fate.host = true;
        } else {
            ++fate.sent[sent.port];
        }
    }
    for (const auto& [name, count] : outcome.counts) {
        for (std::uint32_t reason = 1; reason < IVDS_DROP_MAX; ++reason) {
            for (std::uint32_t port = 0; port < 16; ++port) {
                if (name == fmt::format("drop {} {} packets", port, drop_name(reason))) {
                    fate.drops.emplace(port, reason);
                }
            }
        }
    }
    return fate;
}

// The last rung decides; XDP passes on what it does not decide.
Fate fate_of(const RungTrace& rung) {
    Fate fate;
    for (const ivds_trace_step& step : rung.steps) {
        if (step.kind == IVDS_TRACE_SEND) {
            ++fate.sent[step.arg[0]];
        } else if (step.kind == IVDS_TRACE_DROP) {
            fate.drops.emplace(step.arg[0], step.arg[1]);
        } else if (step.kind == IVDS_TRACE_HOST) {
            fate.host = true;
        }
    }
    return fate;
}

std::unique_ptr<Tracer> tracer_over(Rig& rig) {
    auto tracer = Tracer::over([&](const std::string& name) -> Result<Fd> {
        const bpf_map* map = bpf_object__find_map_by_name(rig.programs().obj, name.c_str());
        REQUIRE(map != nullptr);
        return Fd(::fcntl(bpf_map__fd(map), F_DUPFD_CLOEXEC, 3));
    });
    REQUIRE(tracer);
    return std::move(*tracer);
}

}  // namespace

TEST_CASE("a trace says what the switch does with every first frame of the vectors, and changes nothing", "[R101]") {
    Rig rig(Rig::Options{});
    const auto tracer = tracer_over(rig);
    int traced = 0;
    for (const Vector& vector : all_vectors()) {
        const Step& step = vector.steps.front();
        if (step.frame.size() < kTraceFrameMin || step.frame.size() > kTraceFrameMax || step.gso.segments != 0 ||
            !vector.world.listening.empty() || vector.world.strangers.contains(step.port) ||
            vector.world.ports.at(step.port).kind == IVDS_PORT_NONE || !Rig::can_run(Rung::tc_inline, step)) {
            continue;
        }
        INFO(vector.name);
        rig.apply(vector.world, Rung::xdp_then_tc);
        const std::string before = rig.state().text();
        const Fate wanted = fate_of(play_reference(vector.world, Rung::xdp_then_tc, {step}).front());
        for (const bool xdp : {false, true}) {
            const auto rungs = tracer->trace(step.port, step.frame, xdp);
            REQUIRE(rungs);
            INFO(fmt::format("wanted {}, got {}", wanted.text(), fate_of(rungs->back()).text()));
            CHECK(fate_of(rungs->back()) == wanted);
            CHECK(rungs->back().more_steps == 0);
        }
        CHECK(rig.state().text() == before);
        ++traced;
    }
    CHECK(traced > 300);
}

TEST_CASE("a trace goes on past an inspector that listens, and sends it nothing", "[R169]") {
    Rig rig(Rig::Options{});
    const auto tracer = tracer_over(rig);
    World world = house();
    world.inspector(13);
    world.ports.at(2).inspector = 13;
    rig.apply(world, Rung::xdp_then_tc);
    const std::string before = rig.state().text();
    const Bytes frame = eth(vm(3), vm(2)) / ip4_udp(46);
    for (const bool xdp : {false, true}) {
        const auto rungs = tracer->trace(2, frame, xdp);
        REQUIRE(rungs);
        const auto& steps = rungs->back().steps;
        const auto asked = std::ranges::find(steps, std::uint32_t{IVDS_TRACE_INSPECT}, &ivds_trace_step::kind);
        REQUIRE(asked != steps.end());
        CHECK(std::vector(asked->arg, asked->arg + 4) == std::vector<std::uint32_t>{2, 13, IVDS_WAY_IN, 1});
        CHECK(fate_of(rungs->back()).sent == std::map<std::uint32_t, int>{{3, 1}});
    }
    CHECK(rig.state().text() == before);
}

}  // namespace ivds::test
