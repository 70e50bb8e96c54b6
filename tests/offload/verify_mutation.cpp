// SPDX-License-Identifier: Apache-2.0
// Every single broken bit of a planned card, and every single broken field of its tables: the verifier finds it, or
// the NIC's model and the reference switch show on all classes of frames that it harms nobody.
// What is harmless is shown to be so by a part of the frames, or, where all bits are broken, by all of them; a frame
// for which the model did not look at a register is not sent again when that is broken.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>

#include "verify_rig.h"

using namespace ivds;
using namespace ivds::test;
namespace verify = ivds::offload::verify;
using verify::Enter;
using verify::Probe;
using verify::Verifier;

namespace {

constexpr std::uint32_t up = witness_uplink;
constexpr std::uint32_t first_soft = witness_trunk, behind = witness_behind;
constexpr unsigned vfs = 3;

// A mirror from one VF to the other tenant's. Instance 1: VFs, a port of software's and one behind its tag, and one
// that may have unknown addresses; 2: VFs alone; 3: software's alone.
World make_world() {
    World world;
    world.uplink(up, 9216, tpid_c, 0);
    for (std::uint32_t id = 1; id <= 3; ++id)
        world.instance(id, up, static_cast<std::uint16_t>(10 * id), 1).single_tag(id);
    constexpr std::array<std::uint32_t, vfs> instance_of_vf{1, 1, 2};
    for (unsigned n = 0; n < vfs; ++n) world.vport(first_vf + n, instance_of_vf.at(n), vmac(n));
    world.vport(first_soft, 1, vmac(10)).vport(first_soft + 1, 3, vmac(11)).vport(first_soft + 2, 1, vmac(12));
    world.ports.at(first_soft + 2).flags &= static_cast<__u16>(~IVDS_PF_ANTI_SPOOF);
    world.behind(first_soft, witness_vid, behind, 1, vmac(13));
    world.ports.at(first_vf + 1).pcp = 3;
    world.local_mac(1, vmac(20), first_vf).remote_mac(1, vmac(30), 0);
    world.fdb.at({1, vmac(30)}).flags |= IVDS_FDB_PLAIN;
    world.learned_mac(1, vmac(32), first_soft + 2);
    world.span(7, first_vf + 2, {first_vf + 1});
    return world;
}

// To the queue that other frames do not go to.
offload::Choices make_choices() {
    offload::Choices choices;
    choices.rx_filters[first_vf] = {{.match = {.protocol = 6, .dst_port = 443}, .queue = 1}};
    choices.rx_filters[first_vf + 2] = {{.match = {.src = 0x0a000001, .protocol = 17}, .queue = 1}};
    return choices;
}

// A card, with doubts all off and all on, against the tables.
class Bench {
public:
    explicit Bench(World world)
        : world_(std::move(world)),
          tables_(snapshot_of(world_)),
          device_(witness_device(vfs)),
          card_(tables_, device_, {}, make_choices()),
          doubtful_(tables_, device_, all_doubts(), make_choices()),
          verifier_({.tables = tables_, .device = device_, .told = card_.told}),
          witness_(world_, device_, card_.told),
          image_(card_.image()) {
        verify::Options options;
        options.each = [&](const Probe& probe) { classes_.push_back(probe); };
        const verify::Verdict verdict = verifier_.check(verify::Nic82599(image_), options);
        INFO(text(verdict));
        REQUIRE(verdict.holds());
        REQUIRE(verdict.idle.empty());
        for (const Probe& probe : classes_) REQUIRE(harm_of(witness_, world_, card_, probe).empty());
        remember();
    }

    [[nodiscard]] const World& world() const { return world_; }
    [[nodiscard]] std::size_t classes() const { return classes_.size(); }
    [[nodiscard]] const verify::Image& image() const { return image_; }

    void flip(Reg which, unsigned element, unsigned bit, Tally& tally) {
        const std::uint32_t before = card_.nic.model.peek(which, element);
        const std::uint32_t flipped = before ^ 1U << bit;
        const auto put = [&](std::uint32_t value) {
            card_.nic.put(which, element, value);
            doubtful_.nic.put(which, element, value);
        };
        put(flipped);
        const std::uint32_t now = card_.nic.model.peek(which, element);
        if (now == before) return;  // no such bit
        image_.set(which, element, now);
        // Classes of frames that there were not before.
        std::vector<Probe> more;
        std::size_t next = 0;
        verify::Options options{.examples = 1, .stop_at_first = true, .each = {}};
        options.each = [&](const Probe& probe) {
            const auto from = classes_.begin() + static_cast<std::ptrdiff_t>(next);
            const auto same = std::find(from, std::min(classes_.end(), from + 64), probe);
            if (same == classes_.end() || !(*same == probe))
                more.push_back(probe);
            else
                next = static_cast<std::size_t>(same - classes_.begin()) + 1;
        };
        const verify::Verdict verdict = verifier_.check(verify::Nic82599(image_), options);
        if (!judge(verdict, tally)) {
            std::string why = changes(reg::map().slot(static_cast<std::size_t>(which), element), tally);
            for (const Probe& probe : more) {
                if (!why.empty()) break;
                if (known_.contains({probe.enter.by, probe.enter.port, probe.enter.pool, verify::bytes(probe.frame)}))
                    continue;
                ++tally.frames;
                why = harm_of(witness_, world_, card_, probe);
            }
            settle(tally, why, [&] { return fmt::format("{}[{}] bit {}", reg::describe(which).name, element, bit); });
        }
        put(before);
        image_.set(which, element, before);
        (void)card_.nic.take();
        (void)doubtful_.nic.take();
    }

    // The same card with other tables.
    void change(const std::string& what, const std::function<void(World&)>& how, Tally& tally) {
        World other = world_;
        how(other);
        const offload::Snapshot tables = snapshot_of(other);
        const Verifier verifier({.tables = tables, .device = device_, .told = card_.told});
        std::vector<Probe> classes;
        verify::Options options{.examples = 1, .stop_at_first = true, .each = {}};
        options.each = [&](const Probe& probe) { classes.push_back(probe); };
        if (judge(verifier.check(verify::Nic82599(image_), options), tally)) return;
        Witness witness(other, device_, card_.told);
        std::string why;
        for (std::size_t i = takes_all_bits() ? 0 : tally.harmless % 9; i < classes.size() && why.empty();
             i += takes_all_bits() ? 1 : 9) {
            ++tally.frames;
            why = harm_of(witness, other, card_, classes[i]);
            if (why.empty()) why = harm_of(witness, other, doubtful_, classes[i]);
        }
        settle(tally, why, [&] { return what; });
    }

private:
    static bool judge(const verify::Verdict& verdict, Tally& tally) {
        if (!verdict.holds()) {
            ++(verdict.examples.front().fault == verify::Fault::leak ? tally.leaks : tally.others);
            return true;
        }
        if (verdict.idle.empty()) return false;
        ++tally.others;
        return true;
    }
    static void settle(Tally& tally, const std::string& why, const std::function<std::string()>& what) {
        if (why.empty())
            ++tally.harmless;
        else
            tally.missed.push_back(what() + ": " + why);
    }

    [[nodiscard]] std::string harm_of(Witness& witness, const World& world, Card& card, const Probe& probe) const {
        if (probe.enter.by == Enter::By::patch) return {};
        const std::string why =
            harm(world, card_.told, probe, witness.alone(probe), witness.together(card.nic.model, probe));
        return why.empty() ? why : why + ", " + text(probe.frame);
    }

    // What the NIC makes of all that the classes bring it: as long as that is the same, so is the rest.
    void remember() {
        for (const Probe& probe : classes_) {
            known_.insert({probe.enter.by, probe.enter.port, probe.enter.pool, verify::bytes(probe.frame)});
            if (probe.enter.by == Enter::By::patch) continue;
            for (Witness::Input& input : witness_.into_nic(probe)) inputs_[std::move(input)].probes.push_back(probe);
        }
        std::vector<bool> looks(reg::map().slots());
        lookers_.resize(looks.size());
        for (Card* card : {&card_, &doubtful_}) card->nic.model.mark_looks(&looks);
        for (auto& [input, seen] : inputs_) {
            looks.assign(looks.size(), false);
            seen.surely = made_of(card_, input);
            seen.doubtful = made_of(doubtful_, input);
            for (std::size_t slot = 0; slot < looks.size(); ++slot)
                if (looks[slot]) lookers_[slot].push_back(&*inputs_.find(input));
        }
        for (Card* card : {&card_, &doubtful_}) card->nic.model.mark_looks(nullptr);
    }
    using Made = std::vector<std::tuple<bool, unsigned, Bytes, std::optional<std::uint16_t>>>;
    static Made made_of(Card& card, const Witness::Input& input) {
        Made made;
        for (const offload::Delivery& delivery : Witness::by_nic(card.nic.model, input))
            made.emplace_back(delivery.to_wire, delivery.pool, delivery.bytes, delivery.stripped);
        return made;
    }
    // What harm comes to a frame with which the NIC now does something else, as the register in this slot changed.
    std::string changes(std::size_t slot, Tally& tally) {
        std::size_t turn = 0;
        for (const auto* row : lookers_[slot]) {
            if (++turn % (takes_all_bits() ? 1 : 3) != 0) continue;
            const auto& [input, seen] = *row;
            ++tally.frames;
            const bool same = made_of(card_, input) == seen.surely;
            if (same && made_of(doubtful_, input) == seen.doubtful) continue;
            for (const Probe& probe : seen.probes) {
                std::string why = harm_of(witness_, world_, card_, probe);
                if (why.empty()) why = harm_of(witness_, world_, doubtful_, probe);
                if (!why.empty()) return why;
            }
        }
        return {};
    }

    struct Seen {
        std::vector<Probe> probes;
        Made surely, doubtful;
    };

    World world_;
    offload::Snapshot tables_;
    offload::Device device_;
    Card card_, doubtful_;
    Verifier verifier_;
    Witness witness_;
    verify::Image image_;
    std::vector<Probe> classes_;
    std::set<std::tuple<Enter::By, std::uint32_t, unsigned, Bytes>> known_;
    std::map<Witness::Input, Seen> inputs_;
    std::vector<std::vector<const std::pair<const Witness::Input, Seen>*>> lookers_;  // by slot
};

}  // namespace

TEST_CASE("each broken bit of a register is found, or harms nobody", "[unit]") {
    Bench bench(make_world());
    const Tally sum = break_each_bit(bench.image(), [&](Reg which, unsigned element, unsigned bit, Tally& tally) {
        bench.flip(which, element, bit, tally);
    });
    fmt::print("registers: {}; {} classes of frames\n", sum.text(), bench.classes());
    check_found(sum);
}

TEST_CASE("each broken field of a table is found, or harms nobody", "[unit]") {
    Bench bench(make_world());
    const World& world = bench.world();
    Tally tally;
    std::vector<std::uint32_t> ids{0, 99};
    for (const auto& [id, port] : world.ports) ids.push_back(id);
    const std::array<std::uint32_t, 5> instances{0, 1, 2, 3, 9};
    const auto flags_of = [&](const std::string& what, auto&& at, unsigned bits) {
        for (unsigned bit = 0; bit < bits; ++bit)
            bench.change(
                fmt::format("{} flags bit {}", what, bit),
                [&](World& other) {
                    auto& flags = at(other).flags;
                    flags = static_cast<std::remove_reference_t<decltype(flags)>>(flags ^ 1U << bit);
                },
                tally);
    };
    for (const auto& [key, entry] : world.fdb) {
        const FdbKey which = key;
        const std::string what = fmt::format("fdb {} {}", key.instance, format_mac(key.mac));
        for (const std::uint32_t id : ids)
            if (id != entry.port)
                bench.change(
                    fmt::format("{} port {}", what, id), [&](World& w) { w.fdb.at(which).port = id; }, tally);
        for (const std::uint32_t id : instances)
            if (id != key.instance)
                bench.change(
                    fmt::format("{} instance {}", what, id),
                    [&](World& w) {
                        auto row = w.fdb.extract(which);
                        row.key().instance = id;
                        w.fdb.insert(std::move(row));
                    },
                    tally);
        for (const std::uint16_t vlan : {std::uint16_t{0}, std::uint16_t{200}})
            bench.change(
                fmt::format("{} vlan {}", what, vlan), [&](World& w) { w.fdb.at(which).vlan = vlan; }, tally);
        bench.change(what + " away", [&](World& w) { w.fdb.erase(which); }, tally);
        flags_of(what, [&](World& w) -> ivds_fdb_entry& { return w.fdb.at(which); }, 2);
    }
    for (const auto& [key, instance] : world.vvlans) {
        const VvlanKey which = key;
        const std::string what = fmt::format("vvlan {} {} {}", key[0], key[1], key[2]);
        for (const std::uint32_t id : instances)
            if (id != instance && key[0] == up)
                bench.change(fmt::format("{}: {}", what, id), [&](World& w) { w.vvlans.at(which) = id; }, tally);
        bench.change(what + " away", [&](World& w) { w.vvlans.erase(which); }, tally);
        for (unsigned bit = 0; bit < 12; ++bit)
            bench.change(
                fmt::format("{}: V.VLAN bit {}", what, bit),
                [&](World& w) {
                    auto row = w.vvlans.extract(which);
                    row.key()[1] ^= 1U << bit;
                    w.vvlans.insert(std::move(row));
                },
                tally);
    }
    for (const auto& [id, port] : world.ports) {
        const std::uint32_t which = id;
        const std::string what = fmt::format("port {}", id);
        const auto at = [which](World& w) -> ivds_port& { return w.ports.at(which); };
        for (const std::uint32_t other : instances)
            if (other != port.instance)
                bench.change(
                    fmt::format("{} instance {}", what, other), [&](World& w) { at(w).instance = other; }, tally);
        // A kind of another port is another port.
        flags_of(what, at, 3);
        bench.change(what + " plain in", [&](World& w) { at(w).flags ^= IVDS_PF_PLAIN_IN; }, tally);
        bench.change(what + " plain drop", [&](World& w) { at(w).flags ^= IVDS_PF_PLAIN_DROP; }, tally);
        bench.change(what + " stateful", [&](World& w) { at(w).flags ^= IVDS_PF_STATEFUL; }, tally);
        for (unsigned pcp = 0; pcp < 9; ++pcp)
            bench.change(
                fmt::format("{} pcp {}", what, pcp), [&](World& w) { at(w).pcp = static_cast<std::uint8_t>(pcp); },
                tally);
        for (unsigned byte = 0; byte < 6; ++byte)
            bench.change(fmt::format("{} vmac byte {}", what, byte), [&](World& w) { at(w).vmac[byte] ^= 1; }, tally);
        bench.change(what + " mtu", [&](World& w) { at(w).mtu_bytes = 1000; }, tally);
        bench.change(what + " inner tpid", [&](World& w) { at(w).inner_tpid_be = 0xa888; }, tally);
    }
    for (const auto& [id, instance] : world.instances) {
        const std::uint32_t which = id;
        const std::string what = fmt::format("instance {}", id);
        const auto at = [which](World& w) -> ivds_instance& { return w.instances.at(which); };
        flags_of(what, at, 4);
        for (const std::uint32_t port : ids)
            bench.change(fmt::format("{} uplink {}", what, port), [&](World& w) { at(w).uplink = port; }, tally);
        for (unsigned bit = 0; bit < 12; ++bit) {
            bench.change(
                fmt::format("{} vlan bit {}", what, bit),
                [&](World& w) { at(w).vlan = static_cast<__u16>(at(w).vlan ^ 1U << bit); }, tally);
            bench.change(
                fmt::format("{} vvlan bit {}", what, bit),
                [&](World& w) { at(w).vvlan = static_cast<__u16>(at(w).vvlan ^ 1U << bit); }, tally);
        }
        bench.change(what + " peers", [&](World& w) { at(w).peer_vlans[0] = 200; }, tally);
        bench.change(what + " mtu", [&](World& w) { at(w).mtu_bytes = 1000; }, tally);
    }
    fmt::print("tables: {}\n", tally.text());
    check_found(tally);
}
