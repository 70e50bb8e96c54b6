// SPDX-License-Identifier: Apache-2.0
// Each thing that the datasheets leave open changes what it is about, and only with its flag.
#include <catch2/catch_test_macros.hpp>

#include "nic_rig.h"

using namespace ivds::test;
namespace flag = reg::pfvml2flt;

namespace {

using Flag = bool Uncertain::*;

Uncertain with(Flag flag) {
    Uncertain uncertain;
    uncertain.*flag = true;
    return uncertain;
}

// What `scene` says with the flag off and on.
template <class Scene>
std::pair<std::string, std::string> off_on(Flag flag, Setup setup, Scene scene) {
    std::string said[2];
    for (const bool on : {false, true}) {
        if (on) setup.uncertain = with(flag);
        Nic nic(setup);
        said[on ? 1 : 0] = who(scene(nic));
    }
    return {said[0], said[1]};
}

using Both = std::pair<std::string, std::string>;

void two_vms(Nic& nic) {
    for (const unsigned n : {1U, 2U}) {
        nic.mac(n, vm(n), {n});
        nic.accept(n, {flag::aupe, flag::bam});
    }
    nic.vlan(1, 10, {1, 2});
}

// A five-tuple filter that takes all of IPv4 to a queue, of any pool's copies.
void all_to_queue(Nic& nic, unsigned slot, unsigned queue, std::uint32_t more) {
    nic.put(Reg::l34timir, slot, reg::l34timir::must_be_one.put() | reg::l34timir::rx_queue.put(queue));
    nic.put(Reg::ftqf, slot,
            reg::ftqf::queue_en.put() | reg::ftqf::ignore_source.put() | reg::ftqf::ignore_destination.put() |
                reg::ftqf::ignore_source_port.put() | reg::ftqf::ignore_destination_port.put() |
                reg::ftqf::ignore_protocol.put() | more);
}

}  // namespace

TEST_CASE("open: a disabled pool leaves the list early", "[unit]") {
    CHECK(off_on(&Uncertain::early_vfre, {}, [](Nic& nic) {
              two_vms(nic);
              nic.put(Reg::pfvfre, 0, ~0b10U);
              return nic.wire(frame(vm(1), outside));
          }) == Both("nobody", "pf"));
}

TEST_CASE("open: an address of a disabled pool is unknown", "[unit]") {
    CHECK(off_on(&Uncertain::disabled_pool_is_unknown, {}, [](Nic& nic) {
              two_vms(nic);
              nic.put(Reg::pfvfre, 0, ~0b10U);
              return nic.send(2, frame(vm(1), vm(2)));
          }) == Both("nobody", "wire"));
}

TEST_CASE("open: the default pool when a pool sends to a group", "[unit]") {
    CHECK(off_on(&Uncertain::tx_default_pool, {}, [](Nic& nic) {
              nic.vlan(1, 10, {1});
              nic.accept(1, {flag::bam});  // the sender itself is no target
              return nic.send(1, frame(all, vm(1), 10));
          }) == Both("wire", "wire pf"));
    CHECK(off_on(&Uncertain::tx_default_pool_unreplicated, {.replicate = false},
                 [](Nic& nic) { return nic.send(1, frame(all, vm(1))); }) == Both("wire", "wire pf"));
}

TEST_CASE("open: mirrors of mirrors", "[unit]") {
    CHECK(off_on(&Uncertain::mirrors_chain, {}, [](Nic& nic) {
              two_vms(nic);
              nic.mirror(0, reg::pfmrctl::upme, 5);
              nic.put(Reg::pfmrvm, 1, 1U << 5);
              nic.mirror(1, reg::pfmrctl::vpme, 6);
              return nic.wire(frame(vm(1), outside));
          }) == Both("1 5", "1 5 6"));
}

TEST_CASE("open: VLAN mirrors of frames that nobody got", "[unit]") {
    const auto scene = [](Nic& nic) {
        nic.mac(1, vm(1), {1});
        nic.vlan(2, 20, {3});
        nic.put(Reg::pfmrvlan, 0, 1U << 2);
        nic.mirror(0, reg::pfmrctl::vlme, 6);
    };
    CHECK(off_on(&Uncertain::vlan_mirror_needs_pool, {.default_pool = false}, [&](Nic& nic) {
              scene(nic);
              return nic.wire(frame(vm(1), outside, 20));
          }) == Both("6", "nobody"));
    CHECK(off_on(&Uncertain::vlan_mirror_sees_spoofed, {}, [&](Nic& nic) {
              scene(nic);
              nic.spoof_check(3, true);
              return nic.send(3, frame(vm(1), vm(9), 20));
          }) == Both("nobody", "6"));
}

TEST_CASE("open: filters that name a queue of another pool", "[unit]") {
    CHECK(off_on(&Uncertain::filters_cross_pools, {}, [](Nic& nic) {
              two_vms(nic);
              all_to_queue(nic, 0, 4, reg::ftqf::ignore_pool.put());
              return nic.wire(frame(vm(1), outside));
          }) == Both("1", "2"));
}

TEST_CASE("open: who comes first among filters", "[unit]") {
    const auto queue = [](Flag flag, auto scene) {
        std::pair<unsigned, unsigned> queues;
        for (const bool on : {false, true}) {
            Setup setup{.queue_mode = reg::mrqc::vt32_rss};
            if (on) setup.uncertain = with(flag);
            Nic nic(setup);
            two_vms(nic);
            scene(nic);
            (on ? queues.second : queues.first) = to(nic.wire(frame(vm(1), outside)), 1).queue;
        }
        return queues;
    };
    CHECK(queue(&Uncertain::low_priority_wins, [](Nic& nic) {
              all_to_queue(nic, 0, 5, reg::ftqf::pool.put(1) | reg::ftqf::priority.put(1));
              all_to_queue(nic, 1, 6, reg::ftqf::pool.put(1) | reg::ftqf::priority.put(7));
          }) == std::pair(6U, 5U));
    CHECK(queue(&Uncertain::flow_director_first, [](Nic& nic) {
              all_to_queue(nic, 0, 5, reg::ftqf::pool.put(1));
              nic.put(Reg::fdirm, 0x1f);
              nic.put(Reg::fdirsip4m, ~0U);
              nic.put(Reg::fdirdip4m, ~0U);
              nic.put(Reg::rxdctl, 127, 0);
              nic.put(Reg::fdirctrl,
                      reg::fdirctrl::pballoc.put(1) | reg::fdirctrl::perfect.put() | reg::fdirctrl::drop_q.put(127));
              nic.put(Reg::fdircmd, reg::fdircmd::cmd.put(reg::fdircmd::add) | reg::fdircmd::queue_en.put() |
                                        reg::fdircmd::rx_queue.put(7) | reg::fdircmd::pool.put(1));
          }) == std::pair(5U, 7U));
}

TEST_CASE("open: which filters frames from pool to pool pass", "[unit]") {
    CHECK(off_on(&Uncertain::loopback_vfta, {}, [](Nic& nic) {
              two_vms(nic);
              nic.put(Reg::vfta, 0, 0);
              return nic.send(2, frame(vm(1), vm(2), 10));
          }) == Both("1", "nobody"));
    CHECK(off_on(&Uncertain::loopback_l2_filter, {.fctrl = 0}, [](Nic& nic) {
              two_vms(nic);
              return nic.send(2, frame(all, vm(2)));
          }) == Both("wire 1", "wire"));
    CHECK(off_on(&Uncertain::loopback_flows, {}, [](Nic& nic) {
              two_vms(nic);
              all_to_queue(nic, 0, 3, reg::ftqf::pool.put(1));
              nic.put(Reg::rxdctl, 3, 0);
              return nic.send(2, frame(vm(1), vm(2)));
          }) == Both("1", "nobody"));
    CHECK(off_on(&Uncertain::loopback_ethertype, {}, [](Nic& nic) {
              two_vms(nic);
              nic.put(Reg::etqs, 0, reg::etqs::rx_queue.put(2 * pf) | reg::etqs::queue_en.put());
              nic.put(Reg::etqf, 0,
                      0x88cc | reg::etqf::pool.put(pf) | reg::etqf::pool_en.put() | reg::etqf::filter_en.put());
              return nic.send(2, eth(all, vm(2)) / lldp());
          }) == Both("wire 1", "wire pf"));
    CHECK(off_on(&Uncertain::loopback_rss, {}, [](Nic& nic) {
              two_vms(nic);
              nic.put(Reg::mrqc, reg::mrqc::vt64_rss | reg::mrqc::ipv4.put());
              for (unsigned i = 0; i < 32; ++i) nic.put(Reg::reta, i, 0x01010101);
              nic.put(Reg::psrtype, 1, reg::psrtype::rqpl.put(1));
              nic.put(Reg::rxdctl, 3, 0);  // the second queue
              return nic.send(2, frame(vm(1), vm(2)));
          }) == Both("1", "nobody"));
}

TEST_CASE("open: tags and checks of what a pool sends", "[unit]") {
    CHECK(off_on(&Uncertain::vmvir_passes_tagged, {}, [](Nic& nic) {
              two_vms(nic);
              nic.port_vlan(2, 10);
              return nic.send(2, frame(vm(1), vm(2), 77));
          }) == Both("nobody", "1"));
    CHECK(off_on(&Uncertain::spoof_check_untagged, {}, [](Nic& nic) {
              two_vms(nic);
              nic.spoof_check(2, true);
              return nic.send(2, frame(vm(1), vm(2)));
          }) == Both("1", "nobody"));
}

TEST_CASE("open: two tags", "[unit]") {
    CHECK(off_on(&Uncertain::inner_tag_alone_counts, {.two_tags = true}, [](Nic& nic) {
              nic.mac(1, vm(1), {1});
              nic.vlan(1, 10, {1});
              return nic.wire(frame(vm(1), outside, 10));
          }) == Both("pf", "1"));
    CHECK(off_on(&Uncertain::rss_with_two_tags, {.two_tags = true}, [](Nic& nic) {
              nic.mac(1, vm(1), {1});
              nic.vlan(1, 10, {1});
              nic.put(Reg::mrqc, reg::mrqc::vt64_rss | reg::mrqc::ipv4.put());
              for (unsigned i = 0; i < 32; ++i) nic.put(Reg::reta, i, 0x01010101);
              nic.put(Reg::psrtype, 1, reg::psrtype::rqpl.put(1));
              nic.put(Reg::rxdctl, 3, 0);
              return nic.wire(qinq(vm(1), outside, 5, 10));
          }) == Both("1", "nobody"));
}
