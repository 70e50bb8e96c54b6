// SPDX-License-Identifier: Apache-2.0
// Random registers and frames: what holds for all of them, whatever the datasheets leave open.
#include <rapidcheck.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <optional>
#include <type_traits>

#include "nic_rig.h"

using namespace ivds::test;
namespace flag = reg::pfvml2flt;

namespace {

constexpr unsigned vms = 6;
constexpr unsigned frames = 20;  // in each world
constexpr std::array<std::uint16_t, 3> vids{10, 20, 30};

Uncertain random_doubts() {
    Uncertain doubts;
    static_assert(std::is_trivially_copyable_v<Uncertain>);
    for (std::size_t i = 0; i < sizeof(doubts); ++i)
        reinterpret_cast<bool*>(&doubts)[i] = *rc::gen::arbitrary<bool>();
    return doubts;
}

// VMs 1 to 6 in pools 1 to 6, some of them in each VLAN, with random flags; no mirrors.
struct World : Nic {
    World()
        : Nic({.uncertain = random_doubts(),
               .replicate = *rc::gen::arbitrary<bool>(),
               .default_pool = *rc::gen::arbitrary<bool>(),
               .two_tags = false,
               .fctrl = *rc::gen::arbitrary<std::uint32_t>() & reg::describe(Reg::fctrl).writable}) {
        for (unsigned n = 1; n <= vms; ++n) {
            if (*rc::gen::inRange(0, 4) != 0) mac(n, vm(n), {n});
            flags[n] = *rc::gen::arbitrary<std::uint32_t>() & reg::describe(Reg::pfvml2flt).writable;
            if (*rc::gen::inRange(0, 3) == 0) flags[n] = 0;
            put(Reg::pfvml2flt, n, flags[n]);
            if (*rc::gen::arbitrary<bool>()) spoof_check(n, *rc::gen::arbitrary<bool>());
            if (*rc::gen::inRange(0, 3) == 0) port_vlan(n, *rc::gen::elementOf(vids));
        }
        for (unsigned i = 0; i < vids.size(); ++i) {
            members[i] = *rc::gen::arbitrary<std::uint32_t>() & 0b1111110;
            vlan(i + 1, vids[i], {});
            put(Reg::pfvlvfb, 2 * (i + 1), members[i]);
        }
        if (*rc::gen::arbitrary<bool>()) hash(Reg::pfuta, unknown);
        if (*rc::gen::arbitrary<bool>()) hash(Reg::mta, group);
    }
    static Bytes any_frame(const Mac& src) {
        const unsigned n = *rc::gen::inRange(0U, vms + 4);
        const Mac dst = n == 0 ? unknown : n <= vms ? vm(n) : n == vms + 1 ? all : group;
        if (*rc::gen::arbitrary<bool>()) return frame(dst, src);
        return frame(dst, src, *rc::gen::elementOf(vids));
    }
    std::array<std::uint32_t, vms + 1> flags{};
    std::array<std::uint32_t, vids.size()> members{};
};

// The VID of a frame as it was delivered, by its place alone.
std::optional<std::size_t> vid_index(const Bytes& bytes) {
    if (bytes[12] != 0x81 || bytes[13] != 0x00) return std::nullopt;
    const unsigned vid = (bytes[14] << 8 | bytes[15]) & 0xfff;
    for (std::size_t i = 0; i < vids.size(); ++i)
        if (vids[i] == vid) return i;
    return std::nullopt;
}

}  // namespace

TEST_CASE("a frame never comes back to its own pool, and leaves each way once at most", "[unit][R110]") {
    CHECK(rc::check("sent frames", [] {
        World world;
        for (unsigned i = 0; i < frames; ++i) {
            const unsigned from = *rc::gen::inRange(1U, vms + 1);
            const Outcome outcome = world.send(from, World::any_frame(vm(from)));
            std::uint64_t seen = 0;
            unsigned on_wire = 0;
            for (const Delivery& delivery : outcome.deliveries) {
                if (delivery.to_wire) {
                    ++on_wire;
                    continue;
                }
                RC_ASSERT(delivery.pool != from);
                RC_ASSERT((seen >> delivery.pool & 1) == 0U);
                seen |= std::uint64_t{1} << delivery.pool;
            }
            RC_ASSERT(on_wire <= 1U);
            RC_ASSERT(!outcome.deliveries.empty() || !outcome.drops.empty());
        }
        RC_ASSERT(world.model.violations().empty());
    }));
}

TEST_CASE("what a VF with its accept flags off receives had an exact match", "[unit]") {
    unsigned delivered = 0;
    CHECK(rc::check("received frames", [&] {
        World world;
        for (unsigned n = 0; n < frames; ++n) {
            const bool sent = *rc::gen::arbitrary<bool>();
            const unsigned from = *rc::gen::inRange(1U, vms + 1);
            const Bytes bytes = World::any_frame(sent ? vm(from) : outside);
            const Outcome outcome = sent ? world.send(from, bytes) : world.wire(bytes);
            for (const Delivery& delivery : outcome.deliveries) {
                if (delivery.to_wire || delivery.pool == pf) continue;
                ++delivered;
                if (world.flags[delivery.pool] == 0) RC_ASSERT(delivery.because.step == Step::exact);
                // A VF never gets a VLAN that it is not a member of, nor untagged frames that it did not ask for.
                if (const auto i = vid_index(delivery.bytes))
                    RC_ASSERT((world.members[*i] >> delivery.pool & 1) == 1U);
                else
                    RC_ASSERT(flag::aupe(world.flags[delivery.pool]) == 1U);
            }
        }
        RC_ASSERT(world.model.violations().empty());
    }));
    CHECK(delivered > 100);
}

TEST_CASE("unicast reaches a pool or the wire, not both, unless the hash table says so", "[unit][R111][R112]") {
    CHECK(rc::check("unicast", [] {
        World world;
        for (unsigned i = 0; i < 128; ++i) world.put(Reg::pfuta, i, 0);
        for (unsigned i = 0; i < frames; ++i) {
            const unsigned from = *rc::gen::inRange(1U, vms + 1);
            const Bytes bytes = World::any_frame(vm(from));
            if ((bytes[0] & 1) != 0) continue;
            const Outcome outcome = world.send(from, bytes);
            RC_ASSERT(outcome.deliveries.size() <= 1U);
            if (outcome.on_wire()) RC_ASSERT(!outcome.mac_slot.has_value());
        }
    }));
}
