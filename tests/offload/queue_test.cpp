// SPDX-License-Identifier: Apache-2.0
// The queue that a copy goes to within its pool: SYN, five-tuple, Flow Director, RSS.
#include <array>
#include <catch2/catch_test_macros.hpp>

#include "nic_rig.h"

using namespace ivds::test;
namespace flag = reg::pfvml2flt;

namespace {

// The frames here go from 10.0.0.1 port 4096 to 10.0.0.2 port 5001; addresses as their registers hold them.
constexpr std::uint32_t source = 0x0100000a;
constexpr std::uint32_t destination = 0x0200000a;
constexpr std::uint32_t ports_on_wire = 0x8913'0010;  // SDPQF: destination above source, first byte lowest
constexpr std::uint32_t ports = 5001U << 16 | 4096U;  // FDIRPORT: as numbers

Bytes udp(unsigned to_vm) {
    return eth(vm(to_vm), outside) / ip4_udp(46);
}
Bytes tcp(unsigned to_vm, std::uint8_t flags = 0x10) {
    return eth(vm(to_vm), outside) / ip4_tcp(46, flags);
}

struct TwoPools : Nic {
    explicit TwoPools(const Setup& setup = {.queue_mode = reg::mrqc::vt32_rss}) : Nic(setup) {
        for (const unsigned n : {1U, 2U}) {
            mac(n, vm(n), {n});
            accept(n, {flag::aupe, flag::bam});
        }
    }
    void five_tuple(unsigned slot, unsigned queue, std::uint32_t filter) {
        put(Reg::saqf, slot, source);
        put(Reg::daqf, slot, destination);
        put(Reg::sdpqf, slot, ports_on_wire);
        put(Reg::l34timir, slot, reg::l34timir::must_be_one.put() | reg::l34timir::rx_queue.put(queue));
        put(Reg::ftqf, slot, filter | reg::ftqf::queue_en.put());
    }
    // Flow Director on, with these fields looked at; all else is masked.
    void flow_director(std::uint32_t fdirm_bits, std::uint32_t port_mask = 0, unsigned drop_queue = 127) {
        put(Reg::fdirm, fdirm_bits | reg::fdirm::destination_ipv6.put());
        put(Reg::fdirtcpm, port_mask);
        put(Reg::fdirudpm, port_mask);
        put(Reg::rxdctl, drop_queue, 0);
        put(Reg::fdirctrl, reg::fdirctrl::pballoc.put(1) | reg::fdirctrl::perfect.put() |
                               reg::fdirctrl::drop_q.put(drop_queue) | reg::fdirctrl::flex_off.put(6) |
                               reg::fdirctrl::max_len.put(10));
        CHECK(reg::fdirctrl::init_done(get(Reg::fdirctrl)) == 1);
    }
    void flow(unsigned index, std::uint32_t command) {
        put(Reg::fdiripsa, source);
        put(Reg::fdiripda, destination);
        put(Reg::fdirport, ports);
        put(Reg::fdirhash, reg::fdirhash::software_index.put(index) | 0x123);
        (void)get(Reg::status);
        put(Reg::fdircmd, reg::fdircmd::filter_update.put() | reg::fdircmd::last.put() | command);
    }
    static std::uint32_t to_queue(unsigned queue) {
        return reg::fdircmd::cmd.put(reg::fdircmd::add) | reg::fdircmd::queue_en.put() |
               reg::fdircmd::rx_queue.put(queue) | reg::fdircmd::pool.put(queue / 4) |
               reg::fdircmd::l4_type.put(reg::fdircmd::udp);
    }
};

constexpr std::uint32_t no_tags =
    reg::fdirm::vlan_id.put() | reg::fdirm::vlan_priority.put() | reg::fdirm::flex.put();

}  // namespace

TEST_CASE("a five-tuple filter chooses the queue in its pool", "[unit]") {
    TwoPools nic;
    nic.five_tuple(0, 6, reg::ftqf::protocol.put(reg::ftqf::udp) | reg::ftqf::pool.put(1));
    const Outcome hit = nic.wire(udp(1));
    CHECK(to(hit, 1).queue == 6);
    CHECK(to(hit, 1).queue_by == QueueBy::five_tuple);
    CHECK(to(nic.wire(tcp(1)), 1).queue == 4);  // another protocol
    CHECK(to(nic.wire(udp(2)), 2).queue == 8);  // another pool
}

TEST_CASE("each field of a five-tuple filter can be ignored, as a whole", "[unit]") {
    TwoPools nic;
    const std::uint32_t pool_1 = reg::ftqf::pool.put(1);
    struct Part {
        Reg reg;
        Field ignore;
        std::uint32_t other;
    };
    const auto part = std::array{
        Part{Reg::saqf, reg::ftqf::ignore_source, 0x6400000a},
        Part{Reg::daqf, reg::ftqf::ignore_destination, 0x6400000a},
        Part{Reg::sdpqf, reg::ftqf::ignore_source_port, 0x8913'1111},
        Part{Reg::sdpqf, reg::ftqf::ignore_destination_port, 0x1111'0010},
    };
    for (const Part& p : part) {
        const std::uint32_t udp_filter = reg::ftqf::protocol.put(reg::ftqf::udp) | pool_1;
        nic.five_tuple(0, 7, udp_filter);
        nic.put(Reg::ftqf, 0, 0);
        nic.put(p.reg, 0, p.other);
        nic.put(Reg::ftqf, 0, udp_filter | reg::ftqf::queue_en.put());
        CHECK(to(nic.wire(udp(1)), 1).queue == 4);
        nic.put(Reg::ftqf, 0, udp_filter | p.ignore.put() | reg::ftqf::queue_en.put());
        CHECK(to(nic.wire(udp(1)), 1).queue == 7);
        nic.put(Reg::ftqf, 0, 0);
    }
    nic.five_tuple(1, 5, reg::ftqf::ignore_protocol.put() | pool_1);
    CHECK(to(nic.wire(tcp(1)), 1).queue == 5);
}

TEST_CASE("a filter on a queue that is off drops", "[unit]") {
    TwoPools nic;
    nic.put(Reg::rxdctl, 7, 0);
    nic.five_tuple(0, 7, reg::ftqf::protocol.put(reg::ftqf::udp) | reg::ftqf::pool.put(1));
    const Outcome outcome = nic.wire(udp(1));
    CHECK(who(outcome) == "nobody");
    CHECK(outcome.drops.at(0).reason == Reason::queue_off);
    CHECK(who(nic.wire(tcp(1))) == "1");
}

TEST_CASE("five-tuple filters do not see fragments, IPv6 or what follows a second tag", "[unit]") {
    TwoPools nic;
    nic.five_tuple(0, 6,
                   reg::ftqf::pool.put(1) | reg::ftqf::ignore_source.put() | reg::ftqf::ignore_destination.put() |
                       reg::ftqf::ignore_source_port.put() | reg::ftqf::ignore_destination_port.put() |
                       reg::ftqf::ignore_protocol.put());
    Bytes fragment = udp(1);
    CHECK(to(nic.wire(fragment), 1).queue == 6);
    fragment[20] = 0x20;  // more fragments
    CHECK(to(nic.wire(fragment), 1).queue == 4);
    CHECK(to(nic.wire(eth(vm(1), outside) / ip6_neighbour_solicitation()), 1).queue == 4);
    nic.vlan(1, 10, {1});
    CHECK(to(nic.wire(frame(vm(1), outside, 10)), 1).queue == 6);
    CHECK(to(nic.wire(eth(vm(1), outside) / tag(tpid_c, 10) / tag(tpid_c, 20) / ip4_udp(46)), 1).queue == 4);
}

TEST_CASE("the five-tuple filter of the higher priority wins", "[unit]") {
    TwoPools nic;
    const std::uint32_t any_udp = reg::ftqf::protocol.put(reg::ftqf::udp) | reg::ftqf::pool.put(1);
    nic.five_tuple(0, 5, any_udp | reg::ftqf::priority.put(1));
    nic.five_tuple(1, 6, any_udp | reg::ftqf::priority.put(6));
    CHECK(to(nic.wire(udp(1)), 1).queue == 6);
    nic.put(Reg::ftqf, 1, any_udp | reg::ftqf::priority.put(1) | reg::ftqf::queue_en.put());
    nic.wire(udp(1));
    const auto taken = nic.take();  // which of two equals wins is not said
    REQUIRE(taken.size() == 1);
    CHECK(taken[0].kind == Kind::contradiction);
}

TEST_CASE("the SYN filter stands before or after the five-tuple filters", "[unit]") {
    TwoPools nic;
    nic.five_tuple(0, 6, reg::ftqf::protocol.put(reg::ftqf::tcp) | reg::ftqf::pool.put(1));
    nic.put(Reg::synqf, reg::synqf::queue_en.put() | reg::synqf::rx_queue.put(5));
    CHECK(to(nic.wire(tcp(1, 0x02)), 1).queue == 6);
    nic.put(Reg::synqf, nic.get(Reg::synqf) | reg::synqf::synqfp.put());
    CHECK(to(nic.wire(tcp(1, 0x02)), 1).queue == 5);
    CHECK(to(nic.wire(tcp(1, 0x10)), 1).queue == 6);
    CHECK(to(nic.wire(tcp(2, 0x02)), 2).queue == 8);  // its queue is not pool 2's
}

TEST_CASE("a Flow Director filter chooses the queue in its pool or drops there", "[unit]") {
    TwoPools nic;
    nic.flow_director(no_tags);
    nic.flow(1, TwoPools::to_queue(7));
    CHECK(nic.model.flow_filters() == 1);
    const Outcome hit = nic.wire(udp(1));
    CHECK(to(hit, 1).queue == 7);
    CHECK(to(hit, 1).queue_by == QueueBy::flow_director);
    CHECK(to(nic.wire(udp(2)), 2).queue == 8);
    CHECK(to(nic.wire(tcp(1)), 1).queue == 4);

    nic.flow(2, TwoPools::to_queue(9) | reg::fdircmd::drop.put());
    const Outcome dropped = nic.wire(udp(2));
    CHECK(who(dropped) == "nobody");
    CHECK(dropped.drops.at(0).reason == Reason::filtered);
    CHECK(dropped.drops.at(0).pool == 2U);

    CHECK(reg::fdirustat::added(nic.get(Reg::fdirustat)) == 2);
    CHECK(nic.get(Reg::fdirmatch) == 2);
    CHECK(nic.get(Reg::fdirmiss) == 2);
}

TEST_CASE("a Flow Director filter concerns the copy of its pool alone", "[unit]") {
    TwoPools nic;
    nic.flow_director(no_tags);
    nic.flow(1, TwoPools::to_queue(7) | reg::fdircmd::drop.put());
    const Outcome outcome = nic.wire(eth(all, outside) / ip4_udp(46));
    CHECK(who(outcome) == "2");
    CHECK(outcome.drops.at(0).pool == 1U);
}

TEST_CASE("a drop queue that is on hands what should be dropped to its pool", "[unit]") {
    // The Linux driver's drop queue is 127: with 31 VFs and four queues a pool it is the PF's.
    TwoPools nic;
    nic.flow_director(no_tags);
    nic.flow(1, TwoPools::to_queue(7) | reg::fdircmd::drop.put());
    nic.put(Reg::rxdctl, 127, reg::rxdctl::enable.put());
    const Outcome outcome = nic.wire(udp(1));
    CHECK(who(outcome) == "31");
    CHECK(to(outcome, 31).queue == 127);
}

TEST_CASE("all flow filters share one mask, and port masks are bit-reversed", "[unit]") {
    TwoPools nic;
    // Of the destination port 5001 (0x1389) the lowest four bits are ignored: bits 15:12 of the upper half.
    nic.flow_director(no_tags, 0xf000'ffff);
    nic.flow(1, TwoPools::to_queue(7));
    Bytes other = udp(1);
    CHECK(to(nic.wire(other), 1).queue == 7);
    other[37] = 0x80;  // 0x1380
    CHECK(to(nic.wire(other), 1).queue == 7);
    other[36] = 0x12;  // 0x1280
    CHECK(to(nic.wire(other), 1).queue == 4);

    nic.put(Reg::fdirsip4m, ~0U);
    const auto taken = nic.take();
    REQUIRE(taken.size() == 1);
    CHECK(taken[0].kind == Kind::order);
}

TEST_CASE("flow filters match the VLAN and two bytes at a fixed place", "[unit]") {
    TwoPools nic;
    nic.vlan(1, 10, {1});
    nic.vlan(2, 11, {1});
    nic.flow_director(reg::fdirm::vlan_priority.put());
    nic.put(Reg::fdirvlan, 10 | 0x0081U << 16);  // word 6 of the frame holds 81 00
    nic.flow(1, TwoPools::to_queue(7));
    CHECK(to(nic.wire(frame(vm(1), outside, 10)), 1).queue == 7);
    CHECK(to(nic.wire(frame(vm(1), outside, 0xe000 | 10)), 1).queue == 7);
    CHECK(to(nic.wire(frame(vm(1), outside, 11)), 1).queue == 4);
    CHECK(to(nic.wire(udp(1)), 1).queue == 4);
}

TEST_CASE("flow filters are queried and removed by their index, and wiped by a new start", "[unit]") {
    TwoPools nic;
    nic.flow_director(no_tags);
    const std::uint32_t room = reg::fdirfree::free(nic.get(Reg::fdirfree));
    CHECK(room == reg::chip().flow_filters);
    nic.flow(1, TwoPools::to_queue(7));
    CHECK(reg::fdirfree::free(nic.get(Reg::fdirfree)) == room - 1);
    nic.flow(1, reg::fdircmd::cmd.put(reg::fdircmd::query));
    CHECK(reg::fdircmd::filter_valid(nic.get(Reg::fdircmd)) == 1);
    nic.flow(2, reg::fdircmd::cmd.put(reg::fdircmd::query));
    CHECK(reg::fdircmd::filter_valid(nic.get(Reg::fdircmd)) == 0);
    nic.flow(1, reg::fdircmd::cmd.put(reg::fdircmd::remove));
    CHECK(nic.model.flow_filters() == 0);
    nic.flow(1, reg::fdircmd::cmd.put(reg::fdircmd::remove));
    CHECK(reg::fdirfstat::failed_remove(nic.get(Reg::fdirfstat)) == 1);

    nic.flow(3, TwoPools::to_queue(7));
    const std::uint32_t control = nic.get(Reg::fdirctrl);
    nic.put(Reg::fdirctrl, control);
    CHECK(nic.take().size() == 1);  // not without CLEARHT
    nic.put(Reg::fdircmd, reg::fdircmd::clear_tables.put());
    nic.put(Reg::fdircmd, 0);
    CHECK(nic.model.flow_filters() == 0);
    nic.put(Reg::fdirctrl, control);
}

TEST_CASE("a full Flow Director refuses and counts", "[unit]") {
    TwoPools nic;
    nic.flow_director(no_tags);
    nic.put(Reg::fdirfree, reg::fdirfree::free.put(1));
    nic.flow(1, TwoPools::to_queue(7));
    nic.flow(2, TwoPools::to_queue(7));
    CHECK(nic.model.flow_filters() == 1);
    CHECK(reg::fdirfstat::failed_add(nic.get(Reg::fdirfstat)) == 1);
}

TEST_CASE("Flow Director's commands have an order", "[unit]") {
    TwoPools nic;
    const auto one = [&] {
        const auto taken = nic.take();
        REQUIRE(taken.size() == 1);
        return taken[0].kind;
    };
    nic.flow(1, TwoPools::to_queue(7));
    CHECK(one() == Kind::order);  // not initialized
    nic.flow_director(no_tags);
    nic.put(Reg::fdirhash, 1);
    nic.put(Reg::fdircmd, TwoPools::to_queue(7));
    CHECK(one() == Kind::order);  // nothing read in between
    (void)nic.get(Reg::status);
    nic.put(Reg::fdircmd, (TwoPools::to_queue(7) & ~reg::fdircmd::pool.mask()) | reg::fdircmd::pool.put(2));
    CHECK(one() == Kind::forbidden_value);  // queue 7 is pool 1's
}

TEST_CASE("RSS spreads over as many queues of the pool as PSRTYPE says", "[unit]") {
    TwoPools nic;
    // The key and the vectors with which RSS is specified: 66.9.149.187:2794 to 161.142.100.80:1766 is 0x51ccc178.
    constexpr std::array<std::uint8_t, 40> key{0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67,
                                               0x25, 0x3d, 0x43, 0xa3, 0x8f, 0xb0, 0xd0, 0xca, 0x2b, 0xcb,
                                               0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
                                               0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa};
    for (unsigned i = 0; i < 10; ++i)
        nic.put(Reg::rssrk, i,
                key[4 * i] | key[4 * i + 1] << 8 | key[4 * i + 2] << 16 | std::uint32_t{key[4 * i + 3]} << 24);
    nic.put(Reg::mrqc, reg::mrqc::vt32_rss | reg::mrqc::tcp_ipv4.put() | reg::mrqc::ipv4.put());
    Bytes tcp_frame = tcp(1);
    const std::array<std::uint8_t, 12> tuple{66, 9, 149, 187, 161, 142, 100, 80, 0x0a, 0xea, 0x06, 0xe6};
    std::copy(tuple.begin(), tuple.end(), tcp_frame.begin() + 26);
    nic.put(Reg::reta, 0x78 / 4, 0x0000'0003);     // the entry of 0x51ccc178
    CHECK(to(nic.wire(tcp_frame), 1).queue == 4);  // no bits count
    nic.put(Reg::psrtype, 1, reg::psrtype::rqpl.put(1));
    CHECK(to(nic.wire(tcp_frame), 1).queue == 5);
    nic.put(Reg::psrtype, 1, reg::psrtype::rqpl.put(2));
    CHECK(to(nic.wire(tcp_frame), 1).queue == 7);
    CHECK(to(nic.wire(tcp_frame), 1).queue_by == QueueBy::rss);
    // By addresses alone its hash is 0x323e8fc2.
    nic.put(Reg::mrqc, reg::mrqc::vt32_rss | reg::mrqc::ipv4.put());
    CHECK(to(nic.wire(tcp_frame), 1).queue == 4);
    nic.put(Reg::reta, 0x42 / 4, 0x0002'0000);
    CHECK(to(nic.wire(tcp_frame), 1).queue == 6);
}
