// SPDX-License-Identifier: Apache-2.0
// Two tags: the walk of every class of frames through a NIC that sorts to uplinks, with the plan in it and with bits
// of that broken.
#include "nic_rig.h"  // first: its Outcome is the model's
// clang-format off
#include "offload/verify/verify.h"
#include "tables.h"
#include "verify_rig.h"
// clang-format on

#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <map>
#include <set>
#include <stdexcept>
#include <string>

#include "offload/nic/writer_82599.h"

using namespace ivds;
using namespace ivds::test;
using offload::verify::Verdict;
using offload::verify::Verifier;

namespace {

constexpr std::uint32_t wire = 1, red_up = 2, blue_up = 3;  // the PF, VF 0 and VF 1
constexpr std::uint32_t red = 1, blue = 2, green = 3, grey = 4;

// Red and blue are sorted; green is the PF's and has red's V.VLAN in another VLAN; grey is the PF's too.
World four_networks() {
    World world;
    for (const std::uint32_t id : {wire, red_up, blue_up}) world.uplink(id, 9216, tpid_s);
    world.instance(red, red_up, 100, 10).instance(blue, blue_up, 200, 20);
    world.instance(green, wire, 300, 10).instance(grey, wire, 400, 30);
    world.peer_vlan(blue, 250);
    // One address in all of them, which a table of addresses could not hold.
    for (std::uint32_t id = red; id <= grey; ++id) world.vport(10 * id, id, vmac(0)).vport(10 * id + 1, id, vmac(id));
    world.ports.at(10).flags &= static_cast<__u16>(~IVDS_PF_ANTI_SPOOF);
    world.remote_mac(red, vmac(9), 100);
    return world;
}

struct Sorted {
    explicit Sorted(const World& world, const offload::Uncertain& uncertain = {})
        : tables(snapshot_of(world)),
          nic({.uncertain = uncertain,
               .switching = false,
               .two_tags = true,
               .pools_on = false,
               .fctrl = reg::fctrl::bam.put() | reg::fctrl::mpe.put() | reg::fctrl::upe.put()}) {
        for (unsigned queue = 0; queue < 2 * pf; ++queue)
            nic.put(Reg::rxdctl, queue, reg::rxdctl::enable.put() | reg::rxdctl::vme.put());
        nic.set_bits(Reg::hlreg0, 0, reg::hlreg0::jumboen.put());
        nic.put(Reg::maxfrs, reg::maxfrs::mfs.put(reg::chip().max_frame));
        auto plan = offload::make_plan(tables, device, {}, {});
        if (!plan) throw std::runtime_error(plan.error().text());
        Writer82599 writer(nic.model, pf, {.two = true, .outer_tpid = tpid_s});
        must(writer.check_setup());
        must(writer.clear());
        for (const offload::Step& step : plan->steps) must(writer.apply(step));
    }
    [[nodiscard]] Verdict verdict() {
        const auto card = offload::verify::read_nic(reg::chip(), nic.model);
        if (!card) throw std::runtime_error(card.error().text());
        (void)nic.take();
        return Verifier({.tables = tables, .device = device, .told = told}).check(**card);
    }
    // The first kind of what is found with these bits other than they are.
    [[nodiscard]] std::string with(Reg which, unsigned element, std::uint32_t bits) {
        const std::uint32_t before = nic.get(which, element);
        nic.put(which, element, before ^ bits);
        const Verdict found = verdict();
        nic.put(which, element, before);
        (void)nic.take();
        std::set<std::string> kinds;
        for (const auto& example : found.examples) kinds.insert(std::string(name(example.fault)));
        std::string words;
        for (const std::string& kind : kinds) words += (words.empty() ? "" : " ") + kind;
        return words;
    }

    offload::Snapshot tables;
    offload::Device device{.chip = &offload::i82599::chip(),
                           .uplink = wire,
                           .pf = pf,
                           .pools = {},
                           .uplinks = {{red_up, 0}, {blue_up, 1}}};
    offload::Software told;
    Nic nic;
};

// Broken bits of such a NIC. What it makes of a frame that it still gives to the same pools with the same bytes is
// what it made of it before, which the first test here shows to be right; of other frames software, the reference
// switch, tells where they now go.
class Broken {
public:
    Broken()
        : world_(four_networks()),
          image_(read(sorted_.nic)),
          verifier_({.tables = sorted_.tables, .device = sorted_.device, .told = sorted_.told}),
          software_(world_) {
        for (auto& [id, port] : world_.ports) port.fdb_limit = 0;
        software_ = ReferenceSwitch(world_);
        (void)read(doubtful_.nic);
        offload::verify::Options options;
        options.each = [&](const Probe& probe) { note(probe); };
        REQUIRE(verifier_.check(offload::verify::Nic82599(image_), options).holds());
        std::vector<bool> looks(reg::map().slots());
        lookers_.resize(looks.size());
        for (Sorted* card : {&sorted_, &doubtful_}) card->nic.model.mark_looks(&looks);
        for (auto& [input, seen] : inputs_) {
            looks.assign(looks.size(), false);
            seen.surely = made_of(sorted_, input);
            seen.doubtful = made_of(doubtful_, input);
            for (std::size_t slot = 0; slot < looks.size(); ++slot)
                if (looks[slot]) lookers_[slot].push_back(&input);
        }
        for (Sorted* card : {&sorted_, &doubtful_}) card->nic.model.mark_looks(nullptr);
    }

    [[nodiscard]] const offload::verify::Image& image() const { return image_; }
    [[nodiscard]] std::size_t inputs() const { return inputs_.size(); }

    void flip(Reg which, unsigned element, unsigned bit, Tally& tally) {
        const std::uint32_t before = sorted_.nic.model.peek(which, element);
        put(which, element, before ^ 1U << bit);
        const std::uint32_t now = sorted_.nic.model.peek(which, element);
        if (now == before) return;  // no such bit
        image_.set(which, element, now);
        std::vector<Probe> found;
        offload::verify::Options options{.examples = 1, .stop_at_first = true, .each = {}};
        options.each = [&](const Probe& probe) { found.push_back(probe); };
        const Verdict verdict = verifier_.check(offload::verify::Nic82599(image_), options);
        if (!verdict.holds()) {
            ++(verdict.examples.front().fault == offload::verify::Fault::leak ? tally.leaks : tally.others);
        } else {
            const std::string why = harm(reg::map().slot(static_cast<std::size_t>(which), element), found, tally);
            if (why.empty())
                ++tally.harmless;
            else
                tally.missed.push_back(
                    fmt::format("{}[{}] bit {}: {}", reg::describe(which).name, element, bit, why));
        }
        put(which, element, before);
        image_.set(which, element, before);
    }

private:
    using Probe = offload::verify::Probe;
    using Enter = offload::verify::Enter;
    using Made = std::vector<Sent>;  // by pool, or the wire
    static constexpr std::uint32_t by_wire = 1000;
    struct Seen {
        Made surely, doubtful;
        bool of_host = true;  // alone
    };

    static offload::verify::Image read(Nic& nic) {
        auto image = offload::verify::Nic82599::read(nic.model);
        if (!image) throw std::runtime_error(image.error().text());
        (void)nic.take();
        return std::move(*image);
    }
    void put(Reg which, unsigned element, std::uint32_t value) {
        for (Sorted* card : {&sorted_, &doubtful_}) {
            card->nic.put(which, element, value);
            (void)card->nic.take();
        }
    }

    static bool is_uplink(std::uint32_t port) { return port >= wire && port <= blue_up; }
    static unsigned pool_of(std::uint32_t uplink) { return uplink == wire ? pf : uplink - red_up; }
    // What the frame brings into the NIC.
    [[nodiscard]] std::vector<Witness::Input> into_nic(const Probe& probe) {
        const Bytes bytes = offload::verify::bytes(probe.frame);
        switch (probe.enter.by) {
            case Enter::By::uplink:
                return {{.from_wire = true, .bytes = bytes}};
            case Enter::By::pool:
                return {{.pool = probe.enter.pool, .bytes = bytes}};
            case Enter::By::host:
                return {{.pool = pf, .bytes = bytes}};
            default:
                break;
        }
        std::vector<Witness::Input> inputs;
        for (const Sent& copy : software_.forward(probe.enter.port, bytes).sent)
            if (is_uplink(copy.port)) inputs.push_back({.pool = pool_of(copy.port), .bytes = copy.bytes});
        return inputs;
    }
    void note(const Probe& probe) {
        for (Witness::Input& input : into_nic(probe))
            inputs_[std::move(input)].of_host &= probe.enter.by == Enter::By::host;
    }

    static Made made_of(Sorted& card, const Witness::Input& input) {
        Made made;
        for (const offload::Delivery& delivery : Witness::by_nic(card.nic.model, input)) {
            Bytes bytes = delivery.bytes;
            if (delivery.stripped) {
                const std::uint16_t tci = *delivery.stripped;
                bytes.insert(bytes.begin() + 12, {0x81, 0x00, static_cast<std::uint8_t>(tci >> 8),
                                                  static_cast<std::uint8_t>(tci & 0xff)});
            }
            made.push_back({delivery.to_wire ? by_wire : delivery.pool, std::move(bytes)});
        }
        (void)card.nic.take();
        std::ranges::sort(made);
        return made;
    }
    // Where software then sends it. The host's frames are those that its VLANs on the PF let in, which no table
    // tells.
    [[nodiscard]] std::vector<Sent> onwards(const Made& made) {
        std::vector<Sent> sent;
        for (const Sent& copy : made) {
            if (copy.port == by_wire) {
                sent.push_back({wire, copy.bytes});
            } else if (copy.port != pf && copy.port > pool_of(blue_up)) {
                sent.push_back({Verifier::stray(copy.port), copy.bytes});
            } else {
                for (const Sent& one :
                     software_.forward(copy.port == pf ? wire : red_up + copy.port, copy.bytes).sent)
                    if (one.port != to_host || parse(one.bytes).tags.empty()) sent.push_back(one);
            }
        }
        std::ranges::sort(sent);
        return sent;
    }
    // What is the host's own may also be lost.
    static bool is_allowed(const std::vector<Sent>& now, const std::vector<Sent>& before, bool of_host) {
        if (!of_host) return now == before;
        return std::ranges::all_of(now, [](const Sent& copy) { return copy.port == wire || copy.port == to_host; });
    }
    std::string harm(const Witness::Input& input, const Seen& seen, Tally& tally) {
        ++tally.frames;
        for (const auto& [card, before] :
             {std::pair{&sorted_, &seen.surely}, std::pair{&doubtful_, &seen.doubtful}}) {
            const Made now = made_of(*card, input);
            if (now == *before || is_allowed(onwards(now), onwards(*before), seen.of_host)) continue;
            std::string words;
            for (const auto& list : {onwards(*before), onwards(now)}) {
                words += words.empty() ? "before:" : " now:";
                for (const Sent& copy : list)
                    words += fmt::format(" {:#x} {}", copy.port, to_hex(copy.bytes).substr(0, 44));
            }
            return words + fmt::format("; {} {}",
                                       input.from_wire ? "from the wire" : fmt::format("from pool {}", input.pool),
                                       to_hex(input.bytes).substr(0, 60));
        }
        return {};
    }
    // Of the frames for which the NIC looks at the register, and of those that are told apart by now.
    std::string harm(std::size_t slot, const std::vector<Probe>& classes, Tally& tally) {
        std::size_t turn = 0;
        for (const Witness::Input* input : lookers_[slot]) {
            if (++turn % (takes_all_bits() ? 1 : 9) != 0) continue;
            if (std::string why = harm(*input, inputs_.at(*input), tally); !why.empty()) return why;
        }
        for (const Probe& probe : classes) {
            if (probe.enter.by == Enter::By::port) continue;  // the NIC does not tell these apart
            for (const Witness::Input& input : into_nic(probe)) {
                if (inputs_.contains(input)) continue;
                const Seen fresh{.surely = made_of(whole_, input),
                                 .doubtful = made_of(doubtful_whole_, input),
                                 .of_host = probe.enter.by == Enter::By::host};
                if (std::string why = harm(input, fresh, tally); !why.empty()) return why;
            }
        }
        return {};
    }

    World world_;
    Sorted sorted_{world_}, doubtful_{world_, all_doubts()};
    Sorted whole_{world_}, doubtful_whole_{world_, all_doubts()};  // nothing is broken in these
    offload::verify::Image image_;
    Verifier verifier_;
    ReferenceSwitch software_;
    std::map<Witness::Input, Seen> inputs_;
    std::vector<std::vector<const Witness::Input*>> lookers_;  // by slot
};

}  // namespace

TEST_CASE("with two tags a NIC that sorts as planned does with every frame what one interface does",
          "[unit][R98][R110]") {
    Sorted sorted(four_networks());
    const Verdict verdict = sorted.verdict();
    INFO(text(verdict));
    CHECK(verdict.holds());
    CHECK(verdict.limits.empty());
    CHECK(verdict.classes > 1000);
}

TEST_CASE("with two tags each register bit that takes a frame from its uplink, or brings it twice, is found",
          "[unit][R98]") {
    Sorted sorted(four_networks());
    const auto slot = [&](std::uint16_t vvlan) {
        for (unsigned i = 0; i < reg::chip().vlan_entries; ++i)
            if (sorted.nic.get(Reg::pfvlvf, i) == (reg::pfvlvf::vlan_id.put(vvlan) | reg::pfvlvf::vi_en.put()))
                return i;
        throw std::runtime_error("no slot");
    };
    namespace flag = reg::pfvml2flt;
    const unsigned red_slot = slot(10);
    const unsigned blue_slot = slot(20);
    CHECK(sorted.with(Reg::pfvlvfb, 2 * red_slot, 1U) == "lost");
    CHECK(sorted.with(Reg::pfvlvfb, 2 * red_slot, 1U << pf) == "lost");  // green's
    CHECK(sorted.with(Reg::pfvlvfb, 2 * blue_slot, 2U) == "lost");
    CHECK(sorted.with(Reg::pfvlvf, blue_slot, reg::pfvlvf::vi_en.put()) == "lost");
    CHECK(sorted.with(Reg::vfta, 0, 1U << 10) == "lost");
    CHECK(sorted.with(Reg::vfta, 0, 1U << 30) == "lost");
    CHECK(sorted.with(Reg::pfvml2flt, 0, flag::bam.put()) == "lost");
    CHECK(sorted.with(Reg::pfvml2flt, 0, flag::mpe.put()) == "lost");
    CHECK(sorted.with(Reg::pfvml2flt, 1, flag::rope.put()) == "lost");
    CHECK(sorted.with(Reg::pfvml2flt, pf, flag::rope.put()) == "lost");
    CHECK(sorted.with(Reg::pfvfre, 0, 2U) == "lost");
    CHECK(sorted.with(Reg::pfvfte, 0, 1U) == "lost");
    CHECK(sorted.with(Reg::pfvfspoof, 0, reg::pfvfspoof::macas.put(1U)) == "lost");
    // The V.VLAN's tag would come first, which makes it the host's frame.
    CHECK(sorted.with(Reg::rxdctl, 0, reg::rxdctl::vme.put()) == "leak");
    CHECK(sorted.with(Reg::pfvmvir, 1, reg::pfvmvir::vlana.put(reg::pfvmvir::always)).find("lost") !=
          std::string::npos);
    CHECK(sorted.with(Reg::exvet, 0, 0x10000000U) == "lost");
    // What a sender's neighbours get they refuse, as it comes from the wire with their senders' pair or another's.
    CHECK(sorted.with(Reg::pfdtxgswc, 0, reg::pfdtxgswc::lbe.put()) != "leak");
    // A V.VLAN more of an uplink's is dropped there by its outer tag.
    CHECK(sorted.with(Reg::pfvlvfb, 2 * blue_slot, 1U).empty());
    CHECK(sorted.with(Reg::vfta, 1, 1U << 8).empty());
}

TEST_CASE("with two tags each broken bit of a register is found, or harms nobody", "[unit][R98]") {
    Broken broken;
    const Tally sum = break_each_bit(broken.image(), [&](Reg which, unsigned element, unsigned bit, Tally& tally) {
        broken.flip(which, element, bit, tally);
    });
    fmt::print("registers, with two tags: {}; {} frames\n", sum.text(), broken.inputs());
    check_found(sum);
}

TEST_CASE("with two tags an uplink that the tables do not tell apart from another is found", "[unit][R98]") {
    World world = four_networks();
    Sorted sorted(world);
    // Somebody registers red's pair with the PF too, after the plan.
    sorted.tables.vvlans[{wire, 100, 10}] = green;
    CHECK_FALSE(sorted.verdict().holds());
}
