// SPDX-License-Identifier: Apache-2.0
// What every backend keeps (apply/backend.h): on a model of an 82599, on an 82576 and an 82599 beside drivers that
// behave as igb and ixgbe do, and without a NIC. The lab shows the same of the real igb.
#include "offload/apply/backend.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <memory>
#include <set>
#include <string>

#include "fake_igb.h"
#include "fake_ixgbe.h"
#include "nic_rig.h"
#include "offload/apply/igb.h"
#include "offload/apply/ixgbe.h"
#include "offload/apply/model.h"
#include "offload/apply/parking.h"

using namespace ivds::test;
using ivds::Code;
using ivds::Result;
namespace igb = ivds::offload::i82576;
namespace ixgbe = ivds::offload::i82599;

namespace {

constexpr std::uint32_t take_all = reg::fctrl::bam.put() | reg::fctrl::mpe.put() | reg::fctrl::upe.put();

ivds::Result<> broken() {
    return ivds::fail(Code::system, "TEST", "the write fails");
}

// A NIC with a backend, in which the access of a given number fails.
class Bed {
public:
    virtual ~Bed() = default;
    virtual Backend& backend() = 0;
    virtual void fail_write(unsigned number) = 0;  // counted from 0, from now; later ones work
    virtual void mend() = 0;
};

class Failing final : public Registers {
public:
    explicit Failing(Registers& registers) : registers_(registers) {}
    Result<std::uint32_t> read(std::uint32_t offset) override { return registers_.read(offset); }
    Result<> write(std::uint32_t offset, std::uint32_t value) override {
        if (left == 0) {
            left = -1;
            return broken();
        }
        if (left > 0) --left;
        return registers_.write(offset, value);
    }
    int left = -1;

private:
    Registers& registers_;
};

class ModelBed final : public Bed {
public:
    ModelBed()
        : nic_({.pools_on = false, .fctrl = take_all}), registers_(nic_.model), backend_(make_model(registers_, pf)) {
        REQUIRE(backend_->clear());
    }
    Backend& backend() override { return *backend_; }
    void fail_write(unsigned number) override { registers_.left = static_cast<int>(number); }
    void mend() override { registers_.left = -1; }

    Nic& nic() { return nic_; }

private:
    Nic nic_;
    Failing registers_;
    std::unique_ptr<Backend> backend_;
};

// Beside a driver. `make` is the backend's.
template <class Fake, auto make>
class DriverBed final : public Bed {
public:
    explicit DriverBed(unsigned vfs = 4, WireTags tags = {})
        : fake(vfs), tags_(tags), backend_(make(fake.link(), fake.registers(), {}, tags).value()) {
        fake.before_write = [this](std::uint32_t) -> Result<> {
            if (left_ == 0) {
                left_ = -1;
                return broken();
            }
            if (left_ > 0) --left_;
            return {};
        };
    }
    Backend& backend() override { return *backend_; }
    void fail_write(unsigned number) override { left_ = static_cast<int>(number); }
    void mend() override { left_ = -1; }
    void open_anew() { backend_ = make(fake.link(), fake.registers(), {}, tags_).value(); }
    Fake fake;

private:
    WireTags tags_;
    std::unique_ptr<Backend> backend_;
    int left_ = -1;
};
using IgbBed = DriverBed<FakeIgb, make_igb>;
using IxgbeBed = DriverBed<FakeIxgbe, make_ixgbe>;

std::unique_ptr<Bed> bed_of(const std::string& name) {
    if (name == "model") return std::make_unique<ModelBed>();
    if (name == "igb") return std::make_unique<IgbBed>();
    return std::make_unique<IxgbeBed>(name == "ixgbe, 40 VFs" ? 40 : 4);
}

// Two instances with VFs 0 and 1 and VF 2, and an address of software; in slots that the chip has.
NicState two_instances(const Backend& backend) {
    const unsigned last = backend.chip().mac_entries - 1;
    const unsigned first = backend.chip().kept_vlan_entries;
    NicState state;
    state.pools = {{0, {.vvlan = 10, .pcp = 5, .rate_mbps = 100}}, {1, {.vvlan = 10}}, {2, {.vvlan = 20}}};
    state.macs = {{vm(0), {.slot = last, .pool = 0}},
                  {vm(1), {.slot = last - 1, .pool = 1}},
                  {vm(2), {.slot = last - 2, .pool = 2}},
                  {vm(9), {.slot = last - 3, .pool = backend.pf()}}};
    state.vlans = {{10, {.slot = first, .members = 0b11 | pool_bit(backend.pf())}},
                   {20, {.slot = first + 1, .members = 0b100}}};
    state.admitted = {10, 20, 30};
    if (backend.chip().mirror_rules != 0) state.mirrors = {{2, {.slot = 1, .sources = 0b11}}, {1, {.sources = 0b1}}};
    if (!backend.chip().one_queue_per_vf)
        state.filters = {{{0, {.protocol = 6, .dst_port = 443}}, {.slot = 127, .queue = 1}},
                         {{1, {.src = 0x0a000001, .dst = 0x0a0000fe}}, {.slot = 0, .queue = 1}},
                         {{2, {.protocol = 17, .src_port = 53}}, {.slot = 1, .queue = 1}}};
    return state;
}
// VF 1 goes over to the other instance, VF 0 goes away, and software may now have any address.
NicState another(const Backend& backend) {
    NicState state = two_instances(backend);
    state.pools = {{1, {.vvlan = 20, .pcp = 3, .rate_mbps = 50}}, {2, {.vvlan = 20, .rate_mbps = 200}}};
    state.macs.erase(vm(0));
    state.macs[vm(7)] = {.slot = backend.chip().mac_entries - 1,
                         .pool = backend.chip().one_mac_per_vf ? backend.pf() : 2};
    state.vlans.erase(10);
    state.vlans[20].members = 0b110 | pool_bit(backend.pf());
    state.admitted = {20};
    state.unknown_to_pf = true;
    if (backend.chip().mirror_rules != 0) state.mirrors = {{2, {.slot = 1, .sources = 0b10}}};
    if (!backend.chip().one_queue_per_vf)
        state.filters = {{{2, {.protocol = 132, .src_port = 9, .dst_port = 10}}, {.slot = 0, .queue = 1}},
                         {{2, {.protocol = 17, .src_port = 53}}, {.slot = 1, .queue = 0}}};
    return state;
}

// `wanted` with the slots that its entries have now, as the plan gives them.
template <class Entries>
void keep_slots(Entries& wanted, const Entries& present, unsigned slots) {
    std::set<unsigned> taken;
    for (const auto& [key, entry] : present) taken.insert(entry.slot);
    for (auto& [key, entry] : wanted) {
        if (const auto now = present.find(key); now != present.end()) {
            entry.slot = now->second.slot;
            continue;
        }
        while (taken.contains(entry.slot)) entry.slot = (entry.slot == 0 ? slots : entry.slot) - 1;
        taken.insert(entry.slot);
    }
}
Result<> go(Backend& backend, NicState wanted) {
    const auto present = backend.read();
    if (!present) return std::unexpected(present.error());
    keep_slots(wanted.macs, present->macs, backend.chip().mac_entries);
    keep_slots(wanted.vlans, present->vlans, backend.chip().vlan_entries);
    for (const ivds::offload::Step& step : make_steps(*present, wanted, backend.pf()))
        if (auto done = backend.apply(step); !done) return done;
    return {};
}
// Slots are compared only as far as that no two entries share one.
template <class Entries>
Entries without_slots(Entries entries) {
    std::set<unsigned> taken;
    for (auto& [key, entry] : entries) {
        CHECK(taken.insert(entry.slot).second);
        entry.slot = 0;
    }
    return entries;
}
void check_holds(Backend& backend, const NicState& wanted) {
    const auto read = backend.read();
    INFO((read ? "" : read.error().text()));
    REQUIRE(read);
    CHECK(read->pools == wanted.pools);
    CHECK(read->uplinks == wanted.uplinks);
    CHECK(without_slots(read->macs) == without_slots(wanted.macs));
    CHECK(without_slots(read->vlans) == without_slots(wanted.vlans));
    CHECK(read->admitted == wanted.admitted);
    CHECK(read->mirrors == wanted.mirrors);
    CHECK(read->filters == wanted.filters);
    CHECK(read->unknown_to_pf == wanted.unknown_to_pf);
}

}  // namespace

TEST_CASE("what a backend was given reads back, step by step, and is gone when cleared", "[unit][R17][R38][R20]") {
    const auto bed = bed_of(GENERATE("model", "igb", "ixgbe", "ixgbe, 40 VFs"));
    Backend& backend = bed->backend();
    REQUIRE(backend.prepare());
    REQUIRE(backend.clear());
    check_holds(backend, {});
    const NicState first = two_instances(backend);
    const NicState second = another(backend);
    NicState state;
    for (const NicState* wanted : {&first, &second, &first}) {
        for (const ivds::offload::Step& step : make_steps(state, *wanted, backend.pf())) {
            INFO(text(step));
            REQUIRE(backend.apply(step));
            advance(state, step);
            check_holds(backend, state);
            REQUIRE(backend.apply(step));  // made already
            check_holds(backend, state);
        }
    }
    REQUIRE(backend.prepare());
    check_holds(backend, first);
    REQUIRE(backend.clear());
    check_holds(backend, {});
}

TEST_CASE("after a write that failed a backend tells what the NIC holds, and goes on from there", "[unit]") {
    const std::string name = GENERATE("model", "igb", "ixgbe");
    bool failed = true;
    for (unsigned number = 0; failed; ++number) {
        INFO(name << ", write " << number);
        const auto bed = bed_of(name);
        Backend& backend = bed->backend();
        REQUIRE(backend.prepare());
        REQUIRE(backend.clear());
        REQUIRE(go(backend, two_instances(backend)));
        bed->fail_write(number);
        failed = !go(backend, another(backend));
        bed->mend();
        const auto read = backend.read();
        REQUIRE(read);
        for (const auto& [pool, as] : read->pools) {  // on as before, as after, or reported as neither
            const bool known = as.vvlan == 0 || (pool < 2 && as.vvlan == 10) || (pool != 0 && as.vvlan == 20);
            CHECK(known);
        }
        REQUIRE(go(backend, another(backend)));
        check_holds(backend, another(backend));
        REQUIRE(backend.clear());
        check_holds(backend, {});
    }
}

TEST_CASE("a counter goes round, and one that was set back tells what came since then", "[unit]") {
    using ivds::offload::Counter;
    CHECK(Counter{.value = 7}.since({.value = 7}) == 0);
    CHECK(Counter{.value = 9}.since({.value = 7}) == 2);
    CHECK(Counter{.value = 3}.since({.value = 0xfffffffe}) == 5);
    CHECK(Counter{.value = 3}.since({.value = 100}) == 3);
    CHECK(Counter{.value = 3, .bits = 36}.since({.value = 0xffffffffeULL, .bits = 36}) == 5);
    CHECK(Counter{.value = 3, .bits = 36}.since({.value = 0xfffffffeULL, .bits = 36}) == 3);
}

TEST_CASE("a backend tells what the NIC counts of each VF", "[unit]") {
    SECTION("82599: frames between VFs count at both, with tag and CRC") {
        ModelBed bed;
        Backend& backend = bed.backend();
        REQUIRE(go(backend, two_instances(backend)));
        const auto before = backend.counters();
        REQUIRE(before);
        CHECK(before->size() == pf);
        CHECK_FALSE(before->contains(pf));
        const auto sent = frame(vm(1), vm(0));
        bed.nic().send(0, sent);
        bed.nic().send(0, sent);
        const auto after = backend.counters();
        REQUIRE(after);
        CHECK(after->at(0).tx_packets.since(before->at(0).tx_packets) == 2);
        CHECK(after->at(0).tx_bytes.since(before->at(0).tx_bytes) == 2 * (sent.size() + 4 + 4));
        CHECK(after->at(1).rx_packets.since(before->at(1).rx_packets) == 2);
        CHECK(after->at(1).rx_bytes.since(before->at(1).rx_bytes) == 2 * (sent.size() + 4 + 4));
        CHECK(after->at(0).rx_packets == before->at(0).rx_packets);
        CHECK(after->at(2).rx_packets.since(before->at(2).rx_packets) == 2);  // the copies of a mirror
        CHECK(after->at(3) == before->at(3));
        CHECK(after->at(0).rx_bytes.bits == 36);
    }
    SECTION("82576: its four registers of each VF") {
        IgbBed bed;
        bed.fake.put(igb::Reg::pvfgprc, 2, 5);
        bed.fake.put(igb::Reg::pvfgorc, 2, 500);
        bed.fake.put(igb::Reg::pvfgptc, 2, 6);
        bed.fake.put(igb::Reg::pvfgotc, 2, 600);
        const auto counters = bed.backend().counters();
        REQUIRE(counters);
        CHECK(counters->size() == 4);
        CHECK(counters->at(2) == ivds::offload::PoolCounters{.rx_packets = {.value = 5},
                                                             .rx_bytes = {.value = 500},
                                                             .tx_packets = {.value = 6},
                                                             .tx_bytes = {.value = 600},
                                                             .rx_beside_bytes = 4});
        CHECK(counters->at(1).tx_packets == ivds::offload::Counter{});
        bed.fake.gone = true;
        CHECK(bed.backend().counters().error().code == Code::unavailable);
    }
    SECTION("82599 beside ixgbe: its four registers of each VF") {
        IxgbeBed bed;
        bed.fake.put(ixgbe::Reg::pvfgprc, 2, 5);
        bed.fake.put(ixgbe::Reg::pvfgorc_lsb, 2, 500);
        bed.fake.put(ixgbe::Reg::pvfgptc, 2, 6);
        bed.fake.put(ixgbe::Reg::pvfgotc_lsb, 2, 600);
        bed.fake.put(ixgbe::Reg::pvfgotc_msb, 2, 1);
        const auto counters = bed.backend().counters();
        REQUIRE(counters);
        CHECK(counters->size() == 4);
        CHECK(counters->at(2).rx_packets.value == 5);
        CHECK(counters->at(2).rx_bytes == ivds::offload::Counter{.value = 500, .bits = 36});
        CHECK(counters->at(2).tx_packets.value == 6);
        CHECK(counters->at(2).tx_bytes == ivds::offload::Counter{.value = (1ULL << 32) + 600, .bits = 36});
        bed.fake.gone = true;
        CHECK(bed.backend().counters().error().code == Code::unavailable);
    }
    SECTION("and none without a NIC") {
        CHECK(make_none("a veth")->counters()->empty());
    }
}

TEST_CASE("an uplink without a NIC takes V.VLANs in, and nothing else", "[unit]") {
    const auto none = make_none("the uplink is a veth");
    CHECK(none->shortcomings() == std::vector<std::string>{"the uplink is a veth"});
    CHECK(none->chip().pools == 0);
    REQUIRE(none->prepare());
    REQUIRE(none->apply(Admit{.vvlan = 10, .on = true}));
    CHECK(none->read()->admitted == std::set<std::uint16_t>{10});
    CHECK(none->apply(SetMac{.mac = vm(1), .entry = {.slot = 1, .pool = 1}}).error().id == "IVDS-O014");
    REQUIRE(none->clear());
    CHECK(none->read()->admitted.empty());
}

TEST_CASE("names come from what is known, for VFs that are as it says", "[unit]") {
    NicState read;
    read.pools = {{0, {.vvlan = 10}}, {1, {.vvlan = 20}}, {2, {.vvlan = 0}}};
    NicState known;
    known.pools = {{0, {.vport = 5, .instance = 1, .vvlan = 10, .rate_mbps = 7}},
                   {1, {.vport = 6, .instance = 1, .vvlan = 10}}};
    const NicState named = ivds::offload::named(read, known);
    CHECK(named.pools.at(0) == NicPool{.vport = 5, .instance = 1, .vvlan = 10});
    CHECK(named.pools.at(1) == NicPool{.vvlan = 20});
    CHECK(named.pools.at(2) == NicPool{});
}

TEST_CASE("a VF that its VM resets stays in its V.VLAN, and one that is off is found on and turned off", "[unit]") {
    IgbBed bed;
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    const NicState wanted = two_instances(backend);
    REQUIRE(go(backend, wanted));
    for (unsigned vf = 0; vf < 3; ++vf) bed.fake.reset_vf(vf);
    const auto after = backend.read();
    REQUIRE(after);
    CHECK(after->pools == wanted.pools);
    CHECK(after->macs == wanted.macs);
    for (const auto& [vvlan, entry] : wanted.vlans)  // the PF may be among them, with unknown_to_pf
        CHECK((after->vlans.at(vvlan).members | pool_bit(4)) == (entry.members | pool_bit(4)));
    // Parked, it is among nobody.
    bed.fake.reset_vf(3);
    const auto found = backend.read();
    REQUIRE(found);
    REQUIRE(found->pools.contains(3));
    CHECK(found->pools.at(3).vvlan == parking_vlan);
    CHECK((found->vlans.at(parking_vlan).members & 0b1111) == 0b1000);
    REQUIRE(go(backend, wanted));
    check_holds(backend, wanted);
    // It cannot choose an address: the driver refuses, since the PF has set one.
    CHECK(bed.fake.view.vfs[3].mac == ivds::Mac{0xf2, 0, 0, 0, 1, 3});
}

TEST_CASE("what a reset of the interface takes away comes back", "[unit]") {
    IgbBed bed;
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    const NicState wanted = two_instances(backend);
    REQUIRE(go(backend, wanted));
    bed.fake.reset_pf();
    for (unsigned vf = 0; vf < 4; ++vf) bed.fake.reset_vf(vf);
    REQUIRE(backend.prepare());
    REQUIRE(go(backend, wanted));
    check_holds(backend, wanted);
}

TEST_CASE("a VF that is on in another way than planned is told, and mended", "[unit]") {
    IgbBed bed;
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    const NicState wanted = two_instances(backend);
    REQUIRE(go(backend, wanted));
    const auto found = [&] {
        const auto read = backend.read();
        REQUIRE(read);
        const std::uint16_t vvlan = read->pools.at(1).vvlan;
        REQUIRE(go(backend, wanted));
        check_holds(backend, wanted);
        return vvlan;
    };
    const auto flip = [&](igb::Reg reg, unsigned element, std::uint32_t bits) {
        bed.fake.put(reg, element, bed.fake.get(reg, element) ^ bits);
    };
    flip(igb::Reg::dtxswc, 0, igb::dtxswc::mac_check.put(0b10));
    CHECK(found() == 0);
    flip(igb::Reg::dtxswc, 0, igb::dtxswc::vlan_check.put(0b10));
    CHECK(found() == 0);
    flip(igb::Reg::dtxswc, 0, igb::dtxswc::local_loopback.put(0b10));
    CHECK(found() == 0);
    flip(igb::Reg::vmolr, 1, igb::vmolr::aupe.put());
    CHECK(found() == 0);
    flip(igb::Reg::vmolr, 1, igb::vmolr::rope.put());
    CHECK(found() == 0);
    flip(igb::Reg::vmolr, 1, igb::vmolr::bam.put());
    CHECK(found() == 0);
    flip(igb::Reg::vmvir, 1, igb::vmvir::port_vlan.put(30));
    CHECK(found() == 0);
    flip(igb::Reg::vfre, 0, 0b10);
    CHECK(found() == 0);
    bed.fake.view.vfs[1].trusted = true;
    CHECK(found() == 0);
    bed.fake.view.vfs[1].vlan = 20;  // it would be there once it resets
    CHECK(found() == 0);
    bed.fake.view.vfs[3].vlan = 0;  // it is off, and would be on in no V.VLAN
    CHECK(backend.read()->pools.at(3).vvlan == 0);
    REQUIRE(go(backend, wanted));
    check_holds(backend, wanted);
    CHECK(bed.fake.view.vfs[3].vlan == parking_vlan);
}

TEST_CASE("unknown addresses go to the PF and not, by a table that can only be written", "[unit]") {
    IgbBed bed;
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    for (const bool on : {true, false, true}) {
        REQUIRE(backend.apply(UnknownToPf{.on = on}));
        CHECK(backend.read()->unknown_to_pf == on);
        for (unsigned word : {0U, 127U}) CHECK(bed.fake.get(igb::Reg::uta, word) == (on ? 0xffffffff : 0));
    }
}

TEST_CASE("an address with a second entry means no pool, and the plan's step leaves it one", "[unit]") {
    IgbBed bed;
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    const NicState wanted = two_instances(backend);
    REQUIRE(go(backend, wanted));
    const unsigned last = backend.chip().mac_entries - 1;
    bed.fake.put(igb::Reg::ral, last - 7, bed.fake.get(igb::Reg::ral, last));
    bed.fake.put(igb::Reg::rah, last - 7,
                 (bed.fake.get(igb::Reg::rah, last) & 0xffff) | igb::rah::pools.put(0b100) | igb::rah::av.put());
    CHECK(backend.read()->macs.at(vm(0)).pool == backend.chip().pools);
    REQUIRE(go(backend, wanted));
    CHECK((bed.fake.get(igb::Reg::rah, last) == 0) != (bed.fake.get(igb::Reg::rah, last - 7) == 0));
    CHECK(backend.read()->macs.at(vm(0)).pool == 0);
}

TEST_CASE("what others gave the PF stays: addresses of its interface, and VLANs of devices on it", "[unit]") {
    IgbBed bed;
    bed.fake.give_address(vm(50));
    bed.fake.add_vlan_device(400);
    bed.open_anew();
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    bed.fake.put(igb::Reg::vfta, 400 / 32, 1U << (400 % 32));
    const std::uint32_t entry = bed.fake.get(igb::Reg::rah, 1);
    CHECK(entry != 0);
    NicState wanted = two_instances(backend);
    REQUIRE(go(backend, wanted));
    check_holds(backend, wanted);
    // A plan may want the same address at the PF, in a slot of its own.
    wanted.macs[vm(50)] = {.slot = backend.chip().mac_entries - 5, .pool = backend.pf()};
    REQUIRE(go(backend, wanted));
    check_holds(backend, wanted);
    REQUIRE(backend.clear());
    check_holds(backend, {});
    CHECK(bed.fake.get(igb::Reg::rah, 1) == entry);
    CHECK((bed.fake.get(igb::Reg::vfta, 400 / 32) & 1U << (400 % 32)) != 0);
    CHECK((bed.fake.get(igb::Reg::rah, 0) & igb::rah::av.mask()) != 0);
}

TEST_CASE("a NIC that is gone, down, or has other VFs than it had is refused with a reason", "[unit]") {
    IgbBed bed;
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    REQUIRE(go(backend, two_instances(backend)));
    bed.fake.view.promiscuous = false;
    bed.fake.put(igb::Reg::rctl, 0, bed.fake.get(igb::Reg::rctl) & ~igb::rctl::upe.put());
    CHECK(backend.read().error().id == "IVDS-O010");
    CHECK(backend.read().error().code == Code::conflict);
    REQUIRE(backend.prepare());
    CHECK(backend.read());
    bed.fake.gone = true;
    CHECK(backend.read().error().code == Code::unavailable);
    CHECK(backend.apply(Admit{.vvlan = 77, .on = true}).error().code == Code::unavailable);
    bed.fake.gone = false;
    bed.fake.view.up = false;
    CHECK(backend.prepare().error().id == "IVDS-O010");
    bed.fake.view.up = true;
    bed.fake.take_vfs(2);
    CHECK(backend.read().error().id == "IVDS-O021");
    CHECK(backend.read().error().code == Code::unavailable);
    bed.open_anew();
    REQUIRE(bed.backend().prepare());
    CHECK(bed.backend().pf() == 2);
    REQUIRE(bed.backend().clear());
    check_holds(bed.backend(), {});
}

TEST_CASE("without a link a VF with a rate stays off until there is one", "[unit]") {
    IgbBed bed;
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    bed.fake.view.carrier = false;
    const NicState wanted = two_instances(backend);
    CHECK(!go(backend, wanted));
    CHECK((bed.fake.get(igb::Reg::vfte) & 1) == 0);
    CHECK(backend.read()->pools.at(0).vvlan == 0);  // off, and not where it is to be when it is
    bed.fake.view.carrier = true;
    REQUIRE(go(backend, wanted));
    check_holds(backend, wanted);
}

TEST_CASE("a rate that the link does not reach is no limit", "[unit]") {
    IgbBed bed;
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    NicState wanted = two_instances(backend);
    wanted.pools[0].rate_mbps = 2500;
    REQUIRE(go(backend, wanted));
    CHECK(backend.read()->pools.at(0).rate_mbps == 0);
    CHECK(backend.read()->pools.at(0).vvlan == 10);
    REQUIRE(backend.apply(SetRate{.pool = 0, .rate_mbps = 999}));
    CHECK(backend.read()->pools.at(0).rate_mbps == 999);
}

namespace {

constexpr WireTags two_tags{.two = true, .outer_tpid = 0x88a8};

// VFs 0 and 2 are uplinks, of which the second has a V.VLAN in common with the PF.
NicState two_uplinks() {
    NicState state;
    state.uplinks = {0, 2};
    state.vlans = {{10, {.slot = 1, .members = 0b1}}, {20, {.slot = 2, .members = 0b10100}}};
    state.admitted = {10, 20, 30};
    state.unknown_to_pf = true;
    return state;
}

}  // namespace

TEST_CASE("with two tags a PF's VFs are uplinks: the mode, what they take, and what resets take away", "[unit]") {
    IgbBed bed(4, two_tags);
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    CHECK(igb::ctrl_ext::extended_vlan(bed.fake.get(igb::Reg::ctrl_ext)) == 1);
    CHECK(bed.fake.get(igb::Reg::vet) == 0x88a88100);
    CHECK(igb::dtxswc::loopback(bed.fake.get(igb::Reg::dtxswc)) == 0);
    CHECK(igb::rplolr::strvlan(bed.fake.get(igb::Reg::rplolr)) == 0);
    CHECK((igb::rctl::rxen(bed.fake.get(igb::Reg::rctl)) & igb::tctl::en(bed.fake.get(igb::Reg::tctl))) == 1);
    const NicState wanted = two_uplinks();
    REQUIRE(go(backend, wanted));
    check_holds(backend, wanted);
    for (const unsigned vf : {0U, 2U}) {
        CHECK(igb::vmolr::strvlan(bed.fake.get(igb::Reg::vmolr, vf)) == 0);
        CHECK(igb::vmvir::vlana(bed.fake.get(igb::Reg::vmvir, vf)) == igb::vmvir::by_descriptor);
        CHECK_FALSE(bed.fake.view.vfs[vf].spoof_check);
    }
    CHECK(bed.fake.view.vfs[1].vlan == parking_vlan);
    SECTION("it is as it shall be, and an agent that starts anew leaves it so") {
        bed.open_anew();
        REQUIRE(bed.backend().prepare());
        check_holds(bed.backend(), wanted);
    }
    SECTION("a VF resets") {
        bed.fake.reset_vf(2);
        CHECK(backend.read()->uplinks == std::set<unsigned>{0});
        CHECK(backend.read()->pools.at(2).vvlan == 0);
        REQUIRE(go(backend, wanted));
        check_holds(backend, wanted);
    }
    SECTION("bits that others change") {
        const auto uplink_of_vf_0 = [&](igb::Reg reg, unsigned element, std::uint32_t bits) {
            bed.fake.put(reg, element, bed.fake.get(reg, element) ^ bits);
            const bool is = backend.read()->uplinks.contains(0);
            bed.fake.put(reg, element, bed.fake.get(reg, element) ^ bits);
            return is;
        };
        CHECK_FALSE(uplink_of_vf_0(igb::Reg::vmolr, 0, igb::vmolr::strvlan.put()));
        CHECK_FALSE(uplink_of_vf_0(igb::Reg::vmolr, 0, igb::vmolr::aupe.put()));
        CHECK_FALSE(uplink_of_vf_0(igb::Reg::vmolr, 0, igb::vmolr::mpme.put()));
        CHECK_FALSE(uplink_of_vf_0(igb::Reg::vmvir, 0, igb::vmvir::vlana.put(igb::vmvir::always)));
        CHECK_FALSE(uplink_of_vf_0(igb::Reg::dtxswc, 0, igb::dtxswc::mac_check.put(1)));
        CHECK_FALSE(uplink_of_vf_0(igb::Reg::vfre, 0, 1));
        CHECK(uplink_of_vf_0(igb::Reg::vfre, 0, 0));
    }
    SECTION("the driver resets the NIC") {
        bed.fake.reset_pf();
        CHECK(backend.read().error().id == "IVDS-O010");
        REQUIRE(backend.prepare());
        REQUIRE(go(backend, wanted));
        check_holds(backend, wanted);
    }
    SECTION("one tag again") {
        REQUIRE(backend.clear());
        const auto single = make_igb(bed.fake.link(), bed.fake.registers(), {}).value();
        CHECK(single->read().error().id == "IVDS-O010");
        REQUIRE(single->prepare());
        CHECK(igb::ctrl_ext::extended_vlan(bed.fake.get(igb::Reg::ctrl_ext)) == 0);
        CHECK(igb::dtxswc::loopback(bed.fake.get(igb::Reg::dtxswc)) == 1);
        REQUIRE(go(*single, two_instances(*single)));
        check_holds(*single, two_instances(*single));
    }
}

TEST_CASE("ixgbe: a VF that its VM resets stays as it was, and one that is off stays off", "[unit][R17]") {
    IxgbeBed bed(GENERATE(4U, 40U));
    const bool knows = GENERATE(true, false);
    bed.fake.knows_link_state = knows;
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    const NicState wanted = two_instances(backend);
    REQUIRE(go(backend, wanted));
    for (unsigned vf = 0; vf < 4; ++vf) bed.fake.reset_vf(vf);
    const auto after = backend.read();
    REQUIRE(after);
    // Without the link state the driver turns it on, where it reaches nobody.
    CHECK(after->pools.contains(3) != knows);
    if (!knows) CHECK(after->pools.at(3).vvlan == parking_vlan);
    CHECK(without_slots(after->macs) == without_slots(wanted.macs));
    for (unsigned vf = 0; vf < 3; ++vf) {
        const bool first = vf < 2;
        CHECK(after->pools.at(vf).vvlan == (first ? 10 : 20));
        CHECK((after->vlans.at(first ? 10 : 20).members & pool_bit(vf)) != 0);
        CHECK((after->vlans.at(first ? 20 : 10).members & pool_bit(vf)) == 0);
    }
    REQUIRE(go(backend, wanted));
    check_holds(backend, wanted);
    CHECK(bed.fake.view.vfs[3].mac == parking_address(bed.fake.view.mac, 3));
}

TEST_CASE("ixgbe: what a reset of the interface takes away comes back", "[unit]") {
    IxgbeBed bed(GENERATE(4U, 40U));
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    const NicState wanted = two_instances(backend);
    REQUIRE(go(backend, wanted));
    bed.fake.reset_pf();
    if (GENERATE(true, false))  // before or after the agent looks
        for (unsigned vf = 0; vf < 4; ++vf) bed.fake.reset_vf(vf);
    REQUIRE(backend.prepare());
    REQUIRE(go(backend, wanted));
    check_holds(backend, wanted);
}

TEST_CASE(
    "ixgbe: entries of addresses that the driver does not know go when it writes its table, and are found before",
    "[unit]") {
    IxgbeBed bed;
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    const NicState wanted = two_instances(backend);
    REQUIRE(go(backend, wanted));
    const auto write = [&](unsigned slot, const ivds::Mac& mac, std::uint32_t pools) {
        bed.fake.put(ixgbe::Reg::ral, slot,
                     mac[0] | std::uint32_t{mac[1]} << 8 | std::uint32_t{mac[2]} << 16 | std::uint32_t{mac[3]} << 24);
        bed.fake.put(ixgbe::Reg::rah, slot, mac[4] | std::uint32_t{mac[5]} << 8 | ixgbe::rah::av.put());
        bed.fake.put(ixgbe::Reg::mpsar, 2 * slot, pools);
    };
    write(100, vm(60), 0b10);
    CHECK(backend.read()->macs.at(vm(60)).pool == 1);
    bed.fake.change_lists();
    CHECK(!backend.read()->macs.contains(vm(60)));
    // A second entry, of a VF in another instance: the address means no pool, and the plan's step leaves it one.
    write(100, vm(0), 0b100);
    CHECK(backend.read()->macs.at(vm(0)).pool == backend.chip().pools);
    REQUIRE(go(backend, wanted));
    check_holds(backend, wanted);
    CHECK(bed.fake.get(ixgbe::Reg::rah, 100) == 0);
    // Addresses that the NIC lost though the driver believes in them.
    for (unsigned slot = 1; slot < 127; ++slot) bed.fake.put(ixgbe::Reg::rah, slot, 0);
    CHECK(backend.read()->macs.empty());
    REQUIRE(go(backend, wanted));
    check_holds(backend, wanted);
}

TEST_CASE("ixgbe: the driver's changes of its modes are told", "[unit]") {
    IxgbeBed bed;
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    REQUIRE(go(backend, another(backend)));
    CHECK(backend.read()->unknown_to_pf);
    bed.fake.change_lists();
    CHECK(!backend.read()->unknown_to_pf);
    REQUIRE(go(backend, another(backend)));
    check_holds(backend, another(backend));
    // VEPA: frames between VFs would leave for the wire.
    bed.fake.put(ixgbe::Reg::pfdtxgswc, 0, 0);
    CHECK(backend.read().error().id == "IVDS-O010");
    REQUIRE(backend.prepare());
    check_holds(backend, another(backend));
}

TEST_CASE("ixgbe: a VF that is on in another way than planned is told, and mended", "[unit]") {
    IxgbeBed bed(GENERATE(4U, 40U));
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    const NicState wanted = two_instances(backend);
    REQUIRE(go(backend, wanted));
    const auto found = [&] {
        const auto read = backend.read();
        REQUIRE(read);
        const std::uint16_t vvlan = read->pools.at(1).vvlan;
        REQUIRE(go(backend, wanted));
        check_holds(backend, wanted);
        return vvlan;
    };
    const auto flip = [&](ixgbe::Reg reg, unsigned element, std::uint32_t bits) {
        bed.fake.put(reg, element, bed.fake.get(reg, element) ^ bits);
    };
    flip(ixgbe::Reg::pfvfspoof, 0, ixgbe::pfvfspoof::macas.put(0b10));
    CHECK(found() == 0);
    flip(ixgbe::Reg::pfvfspoof, 0, ixgbe::pfvfspoof::vlanas.put(0b10));
    CHECK(found() == 0);
    flip(ixgbe::Reg::pfvmtxsw, 0, 0b10);
    CHECK(found() == 0);
    for (const auto field : {ixgbe::pfvml2flt::aupe, ixgbe::pfvml2flt::rope, ixgbe::pfvml2flt::bam}) {
        flip(ixgbe::Reg::pfvml2flt, 1, field.put());
        CHECK(found() == 0);
    }
    flip(ixgbe::Reg::pfvmvir, 1, ixgbe::pfvmvir::port_vlan.put(30));
    CHECK(found() == 0);
    flip(ixgbe::Reg::pfvfre, 0, 0b10);
    CHECK(found() == 0);
    flip(ixgbe::Reg::pfvlvfb, 0, 0b10);  // of VLAN 0
    CHECK(backend.read()->pools.at(1).vvlan == 0);
    flip(ixgbe::Reg::pfvlvfb, 0, 0b10);
    bed.fake.view.vfs[1].trusted = true;
    CHECK(found() == 0);
    bed.fake.view.vfs[1].vlan = 20;  // it would be there once it resets
    CHECK(found() == 0);
}

TEST_CASE("ixgbe: what others gave the PF stays, and addresses have the room that the driver has", "[unit]") {
    IxgbeBed bed;
    bed.fake.give_device_address(vm(50));
    bed.fake.add_vlan_device(400);
    bed.open_anew();
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    bed.fake.put(ixgbe::Reg::vfta, 400 / 32, 1U << (400 % 32));
    NicState wanted = two_instances(backend);
    REQUIRE(go(backend, wanted));
    check_holds(backend, wanted);
    REQUIRE(backend.clear());
    check_holds(backend, {});
    CHECK(bed.fake.view.addresses == std::set{vm(50)});
    CHECK((bed.fake.get(ixgbe::Reg::vfta, 400 / 32) & 1U << (400 % 32)) != 0);
    // A VF has one address; and a table that is full is an error of its own.
    REQUIRE(go(backend, wanted));
    const auto second = backend.apply(SetMac{.mac = vm(70), .entry = {.slot = 60, .pool = 0}});
    CHECK(second.error().id == "IVDS-O014");
    check_holds(backend, wanted);
    const unsigned room = backend.chip().mac_entries - backend.chip().kept_mac_entries;
    for (unsigned i = 4; i < room; ++i) {
        INFO(i);
        REQUIRE(backend.apply(SetMac{.mac = vm(100 + i), .entry = {.slot = i, .pool = backend.pf()}}));
    }
    CHECK(backend.read()->macs.size() == room);
}

TEST_CASE("ixgbe: two tags are refused", "[unit]") {
    FakeIxgbe fake(4);
    const auto refused = make_ixgbe(fake.link(), fake.registers(), {}, two_tags);
    REQUIRE(!refused);
    CHECK(refused.error().id == "IVDS-O014");
    CHECK(refused.error().code == Code::unsupported);
}

TEST_CASE("ixgbe: a NIC that is gone, down, without a link or with other VFs is refused with a reason", "[unit]") {
    IxgbeBed bed;
    Backend& backend = bed.backend();
    REQUIRE(backend.prepare());
    const NicState wanted = two_instances(backend);
    bed.fake.view.carrier = false;
    bed.fake.put(ixgbe::Reg::links, 0, 0);
    CHECK(go(backend, wanted).error().id == "IVDS-O026");  // VF 0 has a rate
    CHECK((bed.fake.get(ixgbe::Reg::pfvfte) & 1) == 0);
    CHECK(backend.read()->pools.at(0).vvlan == 0);  // off, and not where it is to be when it is
    bed.fake.view.carrier = true;
    bed.fake.put(ixgbe::Reg::links, 0, ixgbe::links::up.put() | ixgbe::links::speed.put(3));
    REQUIRE(go(backend, wanted));
    check_holds(backend, wanted);
    bed.fake.gone = true;
    CHECK(backend.read().error().code == Code::unavailable);
    CHECK(backend.apply(Admit{.vvlan = 77, .on = true}).error().code == Code::unavailable);
    bed.fake.gone = false;
    bed.fake.view.up = false;
    CHECK(backend.prepare().error().id == "IVDS-O010");
    bed.fake.view.up = true;
    bed.fake.take_vfs(2);
    CHECK(backend.read().error().id == "IVDS-O021");
    bed.open_anew();
    REQUIRE(bed.backend().prepare());
    CHECK(bed.backend().pf() == 2);
    REQUIRE(bed.backend().clear());
    check_holds(bed.backend(), {});
}
