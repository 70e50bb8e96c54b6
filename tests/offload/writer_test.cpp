// SPDX-License-Identifier: Apache-2.0
// The writer of an 82599's registers: what it needs to find, that it believes only what it reads back, and rates.
#include <catch2/catch_approx.hpp>
#include <catch2/catch_test_macros.hpp>
#include <functional>

#include "nic_rig.h"
#include "offload/nic/writer_82599.h"

using namespace ivds::test;

namespace {

constexpr std::uint32_t take_all = reg::fctrl::bam.put() | reg::fctrl::mpe.put() | reg::fctrl::upe.put();

// A device whose registers read as `reads` has it.
class Lying final : public Registers {
public:
    Lying(Registers& registers, std::function<std::uint32_t(std::uint32_t, std::uint32_t)> reads)
        : registers_(registers), reads_(std::move(reads)) {}
    ivds::Result<std::uint32_t> read(std::uint32_t offset) override {
        auto value = registers_.read(offset);
        if (value) *value = reads_(offset, *value);
        return value;
    }
    ivds::Result<> write(std::uint32_t offset, std::uint32_t value) override {
        return registers_.write(offset, value);
    }

private:
    Registers& registers_;
    std::function<std::uint32_t(std::uint32_t, std::uint32_t)> reads_;
};

std::string id(const ivds::Result<>& done) {
    return done ? "" : done.error().id;
}

constexpr SetPool vf1{.pool = 1, .as = {.vport = 11, .instance = 1, .vvlan = 10, .pcp = 5, .rate_mbps = 1000}};

}  // namespace

TEST_CASE("a NIC that is not set up for the plan is refused, and not changed", "[unit][R26][R27]") {
    const auto check = [](const Setup& setup, unsigned pf_pool = pf) {
        Nic nic(setup);
        const std::uint32_t before = nic.get(Reg::pfvfre);
        const std::string error = id(Writer82599(nic.model, pf_pool).check_setup());
        CHECK(nic.get(Reg::pfvfre) == before);
        return error;
    };
    CHECK(check({.fctrl = take_all}) == "");
    CHECK(check({}) == "IVDS-O010");
    CHECK(check({.switching = false, .fctrl = take_all}) == "IVDS-O010");
    CHECK(check({.default_pool = false, .fctrl = take_all}) == "IVDS-O010");
    CHECK(check({.two_tags = true, .fctrl = take_all}) == "IVDS-O010");
    CHECK(check({.switching = false, .two_tags = true, .fctrl = take_all}) == "IVDS-O010");
    CHECK(check({.queue_mode = reg::mrqc::vt32_rss, .fctrl = take_all}) == "IVDS-O010");
    CHECK(check({.fctrl = take_all}, pf + 1) == "IVDS-O010");
}

TEST_CASE("what does not read back as it was written is an error, and so is a NIC that is gone", "[unit]") {
    Nic nic({.pools_on = false, .fctrl = take_all});
    const std::uint32_t slot = reg::offset(Reg::ral, 100);
    Lying wrong(nic.model, [&](std::uint32_t at, std::uint32_t value) { return at == slot ? value ^ 4U : value; });
    const SetMac step{.mac = vm(1), .entry = {.slot = 100, .pool = 1}};
    CHECK(id(Writer82599(wrong, pf).apply(step)) == "IVDS-O012");
    Lying gone(nic.model, [](std::uint32_t, std::uint32_t) { return ~0U; });
    CHECK(id(Writer82599(gone, pf).apply(step)) == "IVDS-O011");
}

TEST_CASE("a VF is on with its V.VLAN, its priority and its sources checked", "[unit][R26]") {
    Nic nic({.pools_on = false, .fctrl = take_all});
    Writer82599 writer(nic.model, pf);
    REQUIRE(writer.clear());
    CHECK(nic.get(Reg::pfvfre) == 1U << pf);
    for (const ivds::offload::Step& step :
         {ivds::offload::Step(SetVlan{.vvlan = 10, .entry = {.slot = 3, .members = 0b10}}),
          ivds::offload::Step(Admit{.vvlan = 10, .on = true}), ivds::offload::Step(vf1),
          ivds::offload::Step(SetMac{.mac = vm(1), .entry = {.slot = 100, .pool = 1}})})
        REQUIRE(writer.apply(step));
    nic.model.check_settled();
    CHECK(nic.get(Reg::pfvlvf, 3) == (reg::pfvlvf::vlan_id.put(10) | reg::pfvlvf::vi_en.put()));
    CHECK(nic.get(Reg::pfvlvfb, 6) == 0b10);
    CHECK(nic.get(Reg::mpsar, 200) == 0b10);
    CHECK(who(nic.send(1, frame(outside, vm(1)))) == "wire");
    CHECK(nic.send(1, frame(outside, vm(1))).deliveries.at(0).bytes == frame(outside, vm(1), 5U << 13 | 10));
    CHECK(why_dropped(nic.send(1, frame(outside, vm(2)))) == Reason::spoofed_mac);
    CHECK(who(nic.wire(frame(vm(1), outside, 10))) == "1");
    CHECK(who(nic.wire(frame(vm(1), outside, 20))) == "nobody");
    REQUIRE(writer.apply(ClearPool{.pool = 1}));
    CHECK(nic.send(1, frame(outside, vm(1))).deliveries.empty());
}

TEST_CASE("with two tags a VF is on as an uplink with all frames of its V.VLANs and both their tags", "[unit]") {
    const WireTags two{.two = true, .outer_tpid = 0x88a8};
    Nic nic({.switching = false, .two_tags = true, .pools_on = false, .fctrl = take_all});
    CHECK(id(Writer82599(nic.model, pf).check_setup()) == "IVDS-O010");
    CHECK(id(Writer82599(nic.model, pf, {.two = true}).check_setup()) == "IVDS-O010");  // another TPID outside
    Writer82599 writer(nic.model, pf, two);
    CHECK(id(writer.check_setup()) == "");
    for (const unsigned queue : {2U, 3U})  // as the VF's driver does
        nic.put(Reg::rxdctl, queue, reg::rxdctl::enable.put() | reg::rxdctl::vme.put());
    REQUIRE(writer.clear());
    for (const ivds::offload::Step& step :
         {ivds::offload::Step(Admit{.vvlan = 10, .on = true}),
          ivds::offload::Step(SetVlan{.vvlan = 10, .entry = {.slot = 1, .members = 2}}),
          ivds::offload::Step(UnknownToPf{.on = true}), ivds::offload::Step(SetUplink{.pool = 1})})
        REQUIRE(writer.apply(step));
    nic.model.check_settled();
    for (const Mac& to : {vm(1), unknown, all, group}) {
        CHECK(who(nic.wire(qinq(to, outside, 100, 10))) == "1");
        CHECK(nic.wire(qinq(to, outside, 100, 10)).deliveries.at(0).bytes == qinq(to, outside, 100, 10));
    }
    CHECK(who(nic.wire(qinq(vm(1), outside, 100, 20))) == "nobody");
    CHECK(who(nic.wire(frame(all, outside))) == "pf");
    // What it sends goes out as it is, with any source, its neighbours' too, and with no outer tag at all.
    for (const Bytes& sent : {qinq(vm(1), unknown, 300, 30), frame(all, vm(1))}) {
        CHECK(who(nic.send(1, sent)) == "wire");
        CHECK(nic.send(1, sent).deliveries.at(0).bytes == sent);
    }
    CHECK(writer.read()->uplinks == std::set<unsigned>{1});
    nic.set_bits(Reg::rxdctl, 2, reg::rxdctl::vme.put());  // its driver again
    CHECK(writer.read()->uplinks.empty());
    CHECK(writer.read()->pools.at(1).vvlan == 0);
    REQUIRE(writer.apply(ClearPool{.pool = 1}));
    CHECK(who(nic.wire(qinq(vm(1), outside, 100, 10))) == "pf");
    CHECK(nic.send(1, qinq(vm(1), unknown, 300, 30)).deliveries.empty());
}

TEST_CASE("an address that changes its pool never means two", "[unit]") {
    Nic nic({.pools_on = false, .fctrl = take_all});  // which checks it
    Writer82599 writer(nic.model, pf);
    REQUIRE(writer.clear());
    for (const unsigned pool : {pf, 40U, 1U, 63U, 33U, pf}) {
        REQUIRE(writer.apply(SetMac{.mac = vm(1), .entry = {.slot = 100, .pool = pool}}));
        CHECK((nic.get(Reg::mpsar, 200) | std::uint64_t{nic.get(Reg::mpsar, 201)} << 32) == pool_bit(pool));
    }
    REQUIRE(writer.apply(ClearMac{.mac = vm(1), .slot = 100}));
    CHECK(nic.get(Reg::rah, 100) == 0);
    nic.model.check_settled();
}

TEST_CASE("a rate holds for all queues of a VF together, at any speed of the link", "[unit]") {
    Nic nic({.pools_on = false, .fctrl = take_all});
    Writer82599 writer(nic.model, pf);
    REQUIRE(writer.clear());
    const auto rate = [&] { return nic.model.rate_mbps(2).value_or(0) + nic.model.rate_mbps(3).value_or(0); };
    REQUIRE(writer.apply(vf1));
    CHECK(rate() == Catch::Approx(1000).epsilon(0.001));
    REQUIRE(writer.apply(SetRate{.pool = 1, .rate_mbps = 20}));
    CHECK(rate() == Catch::Approx(20).epsilon(0.001));
    REQUIRE(writer.apply(SetRate{.pool = 1, .rate_mbps = 0}));
    CHECK(rate() == 0);
    nic.model.set_link(true, 1000);
    REQUIRE(writer.apply(SetRate{.pool = 1, .rate_mbps = 300}));
    CHECK(rate() == Catch::Approx(300).epsilon(0.001));
}

// Bit for bit as 8.2.3.7.16 to 22 and 8.2.3.5.13 of the datasheet have them: addresses and ports in network order.
TEST_CASE("a filter chooses the queue of its own pool's copies, and is written in the maker's order", "[unit][R29]") {
    Nic nic({.fctrl = take_all});
    Writer82599 writer(nic.model, pf);
    const auto apply = [&](const ivds::offload::Step& step) {
        const auto done = writer.apply(step);
        INFO((done ? "" : done.error().text()));
        CHECK(done);
    };
    REQUIRE(writer.clear_filters());
    using ivds::offload::ClearFilter;
    using ivds::offload::SetFilter;
    const SetFilter web{
        .key = {1, {.src = 0x0a000002, .dst = 0xc0a80001, .protocol = 6, .src_port = 0x1234, .dst_port = 443}},
        .entry = {.slot = 5, .queue = 1}};
    const SetFilter udp{.key = {2, {.protocol = 17, .dst_port = 4789}}, .entry = {.slot = 127, .queue = 1}};
    const SetFilter any{.key = {2, {.src = 0x0a000003, .protocol = 132}}, .entry = {.slot = 1, .queue = 0}};
    for (const SetFilter& filter : {web, udp, any}) apply(filter);
    CHECK(nic.get(Reg::saqf, 5) == 0x0200000a);
    CHECK(nic.get(Reg::daqf, 5) == 0x0100a8c0);
    CHECK(nic.get(Reg::sdpqf, 5) == 0xbb013412);
    CHECK(nic.get(Reg::ftqf, 5) == 0x80000104);
    CHECK(nic.get(Reg::l34timir, 5) == (3U << 21 | 1U << 19 | 1U << 12));
    CHECK(nic.get(Reg::sdpqf, 127) == 0xb5120000);
    CHECK(nic.get(Reg::ftqf, 127) == 0x8e000205);
    CHECK(nic.get(Reg::saqf, 1) == 0x0300000a);
    CHECK(nic.get(Reg::ftqf, 1) == 0x9c000206);
    CHECK(nic.get(Reg::l34timir, 1) == (4U << 21 | 1U << 19 | 1U << 12));
    ivds::offload::NicState state;
    REQUIRE(writer.read_tables(state));
    CHECK(state.filters == std::map<ivds::offload::RxKey, ivds::offload::NicFilter>{
                               {web.key, web.entry}, {udp.key, udp.entry}, {any.key, any.entry}});
    for (const SetFilter& filter : {web, udp, any}) apply(ClearFilter{.key = filter.key, .slot = filter.entry.slot});
    state = {};
    REQUIRE(writer.read_tables(state));
    CHECK(state.filters.empty());
    // One that drops, or looks into other pools, is somebody else's.
    nic.put(Reg::ftqf, 5, 0xc0000104);
    CHECK(id(writer.read_tables(state)) == "IVDS-O013");
}
