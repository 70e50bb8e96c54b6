// SPDX-License-Identifier: Apache-2.0
// The table of registers. A source is a section of the 82599 datasheet (322429) unless it says otherwise: "X550" is
// the X550 datasheet (333369), whose text stands for the same section of the 82599 where that was not at hand, and
// "driver" the offset that Intel's drivers use.
#include "nic/82599.h"

#include <array>

namespace ivds::offload::i82599 {

namespace {

constexpr Place none{.count = 0};

constexpr std::array<Place, 3> one(std::uint32_t offset) {
    return {Place{offset}, none, none};
}
constexpr std::array<Place, 3> many(unsigned count, std::uint32_t offset, std::uint32_t stride = 4) {
    return {Place{offset, stride, 0, count}, none, none};
}
// The first sixteen are also where the 82598 had them.
constexpr std::array<Place, 3> many_and_old(unsigned count, std::uint32_t offset, std::uint32_t stride,
                                            std::uint32_t old, unsigned old_count) {
    return {Place{offset, stride, 0, count}, Place{old, stride, 0, old_count}, none};
}
// Queues 0 to 63 and 64 to 127 are in different places.
constexpr std::array<Place, 3> rx_queues(std::uint32_t low, std::uint32_t high, Place alias = none) {
    return {Place{low, 0x40, 0, 64}, Place{high, 0x40, 64, 64}, alias};
}

using enum Access;

constexpr std::array table{
    Register{.name = "CTRL", .places = one(0x00000), .writable = 0x0400000c, .source = "8.2.3.1.1"},
    Register{.name = "STATUS", .places = one(0x00008), .access = ro, .source = "8.2.3.1.2"},
    Register{.name = "CTRL_EXT",
             .places = one(0x00018),
             .writable = 0x14034000,
             .order = "EXTENDED_VLAN changes only while reception and transmission are off, and a software reset "
                      "leaves it as it is",
             .source = "8.2.3.1.3; X550 7.4.5"},
    Register{.name = "GPIE", .places = one(0x00898), .writable = 0xc000ffff, .source = "8.2.3.5.18"},
    Register{.name = "GCR_EXT", .places = one(0x11050), .writable = 0x40000013, .source = "8.2.3.4.12"},
    Register{.name = "LINKS", .places = one(0x042a4), .access = ro, .source = "8.2.3.22.20"},
    Register{.name = "HLREG0",
             .places = one(0x04240),
             .writable = 0x18f38407,
             .reset = 0x08012c0b,
             .source = "8.2.3.22.8"},
    Register{.name = "MAXFRS",
             .places = one(0x04268),
             .writable = 0xffff0000,
             .reset = 0x05ee0000,
             .source = "8.2.3.22.13"},
    Register{.name = "MFLCN", .places = one(0x04294), .writable = 0x0000000f, .source = "8.2.3.22.34"},
    Register{.name = "EXVET",
             .places = one(0x05078),
             .writable = 0xffff0000,
             .reset = 0x81000000,
             .source = "8.2.3.1.6; X550 8.2.2.1.4"},

    Register{.name = "RXCTRL",
             .places = one(0x03000),
             .writable = 0x00000001,
             .order = "what is undefined after a reset is written before RXEN is set",
             .source = "8.2.3.8.10"},
    Register{.name = "FCTRL",
             .places = one(0x05080),
             .writable = 0x00000702,
             .order = "changes only while RXCTRL.RXEN is 0",
             .source = "8.2.3.7.1"},
    Register{.name = "VLNCTRL",
             .places = one(0x05088),
             .writable = 0x7000ffff,
             .reset = 0x00008100,
             .source = "8.2.3.7.2"},
    Register{.name = "MCSTCTRL", .places = one(0x05090), .writable = 0x00000007, .source = "8.2.3.7.3"},
    Register{.name = "MTA", .places = many(128, 0x05200), .undefined = true, .source = "8.2.3.7.7"},
    Register{.name = "RAL", .places = many_and_old(128, 0x0a200, 8, 0x05400, 16), .source = "8.2.3.7.8"},
    Register{.name = "RAH",
             .places = many_and_old(128, 0x0a204, 8, 0x05404, 16),
             .writable = 0x8000ffff,
             .source = "8.2.3.7.9"},
    Register{.name = "MPSAR",
             .places = many(256, 0x0a600),
             .undefined = true,
             .order = "after a change, RAL[0] and RAH[0] are written again",
             .source = "8.2.3.7.10; X550 4.6.10.1.1"},
    Register{.name = "VFTA", .places = many(128, 0x0a000), .undefined = true, .source = "8.2.3.7.11"},

    Register{.name = "MRQC",
             .places = many_and_old(1, 0x0ec80, 4, 0x05818, 1),
             .writable = 0x00f3000f,
             .source = "8.2.3.7.12"},
    Register{.name = "PSRTYPE",
             .places = many_and_old(64, 0x0ea00, 4, 0x05480, 16),
             .writable = 0xe0001332,
             .source = "8.2.3.7.4"},
    Register{.name = "RETA",
             .places = many_and_old(32, 0x0eb00, 4, 0x05c00, 32),
             .writable = 0x0f0f0f0f,
             .source = "8.2.3.7.15"},
    Register{.name = "RSSRK", .places = many_and_old(10, 0x0eb80, 4, 0x05c80, 10), .source = "8.2.3.7.14"},
    Register{.name = "ETQF",
             .places = many(8, 0x05128),
             .writable = 0xcff0ffff,
             .order = "with POOL_EN, the ETQS of the same number is written first",
             .source = "8.2.3.7.21; specification update 331521, change 10: bits 19:16 are reserved"},
    Register{.name = "ETQS", .places = many(8, 0x0ec00), .writable = 0xa07f0000, .source = "8.2.3.7.22"},
    Register{.name = "SAQF", .places = many(128, 0x0e000), .source = "8.2.3.7.16"},
    Register{.name = "DAQF", .places = many(128, 0x0e200), .source = "8.2.3.7.17"},
    Register{.name = "SDPQF", .places = many(128, 0x0e400), .source = "8.2.3.7.18"},
    Register{.name = "FTQF",
             .places = many(128, 0x0e600),
             .writable = 0xfe003f1f,
             .undefined = true,
             .order = "QUEUE_EN is set after the rest of the filter, L34TIMIR included, was written",
             .source = "8.2.3.7.19"},
    Register{.name = "L34TIMIR",
             .places = many(128, 0x0e800),
             .writable = 0x0ff81000,
             .undefined = true,
             .write_first = true,
             .order = "written before it is read",
             .source = "8.2.3.5.13"},
    Register{.name = "SYNQF", .places = one(0x0ec30), .writable = 0x800000ff, .source = "8.2.3.7.20"},
    Register{.name = "RXDCTL", .places = rx_queues(0x01028, 0x0d028), .writable = 0x42000000, .source = "8.2.3.8.6"},
    Register{.name = "SRRCTL",
             .places = rx_queues(0x01014, 0x0d014, Place{0x02100, 4, 0, 16}),
             .writable = 0x1fc03f1f,
             .reset = 0x00000402,
             .source = "8.2.3.8.7"},
    Register{.name = "RXPBSIZE",
             .places = many(8, 0x03c00),
             .writable = 0x000ffc00,
             .reset = 0x00080000,
             .source = "8.2.3.8.9"},
    Register{.name = "FCRTH", .places = many(8, 0x03260), .writable = 0x8007ffe0, .source = "8.2.3.3.4"},

    Register{.name = "FDIRCTRL",
             .places = one(0x0ee00),
             .writable = 0xff1f7fb3,
             .hardware = 0x00000008,
             .order = "once initialized, FDIRCMD.CLEARHT is set and cleared before it is written again",
             .source = "8.2.3.21.1; driver"},
    Register{.name = "FDIRHKEY", .places = one(0x0ee68), .source = "8.2.3.21.2"},
    Register{.name = "FDIRSKEY", .places = one(0x0ee6c), .source = "8.2.3.21.3"},
    Register{.name = "FDIRDIP4M",
             .places = one(0x0ee3c),
             .order = "masks change only while there is no filter",
             .source = "8.2.3.21.4"},
    Register{.name = "FDIRSIP4M",
             .places = one(0x0ee40),
             .order = "masks change only while there is no filter",
             .source = "8.2.3.21.5"},
    Register{.name = "FDIRTCPM",
             .places = one(0x0ee44),
             .order = "masks change only while there is no filter",
             .source = "8.2.3.21.6"},
    Register{.name = "FDIRUDPM",
             .places = one(0x0ee48),
             .order = "masks change only while there is no filter",
             .source = "8.2.3.21.7"},
    Register{.name = "FDIRIP6M",
             .places = one(0x0ee74),
             .order = "masks change only while there is no filter",
             .source = "8.2.3.21.8"},
    Register{.name = "FDIRM",
             .places = one(0x0ee70),
             .writable = 0x0000003f,
             .order = "masks change only while there is no filter",
             .source = "8.2.3.21.9"},
    Register{.name = "FDIRFREE", .places = one(0x0ee38), .writable = 0x7fffffff, .source = "8.2.3.21.10"},
    Register{.name = "FDIRLEN", .places = one(0x0ee4c), .access = rc, .source = "8.2.3.21.11"},
    Register{.name = "FDIRUSTAT", .places = one(0x0ee50), .access = rc, .source = "8.2.3.21.12"},
    Register{.name = "FDIRFSTAT", .places = one(0x0ee54), .access = rc, .source = "8.2.3.21.13"},
    Register{.name = "FDIRMATCH", .places = one(0x0ee58), .access = rc, .source = "8.2.3.21.14"},
    Register{.name = "FDIRMISS", .places = one(0x0ee5c), .access = rc, .source = "8.2.3.21.15"},
    Register{.name = "FDIRSIPV6", .places = many(3, 0x0ee0c), .source = "8.2.3.21.16"},
    Register{.name = "FDIRIPSA", .places = one(0x0ee18), .source = "8.2.3.21.17"},
    Register{.name = "FDIRIPDA", .places = one(0x0ee1c), .source = "8.2.3.21.18"},
    Register{.name = "FDIRPORT", .places = one(0x0ee20), .source = "8.2.3.21.19"},
    Register{.name = "FDIRVLAN", .places = one(0x0ee24), .source = "8.2.3.21.20"},
    Register{.name = "FDIRHASH",
             .places = one(0x0ee28),
             .writable = 0x7fffffff,
             .order = "a read stands between it and FDIRCMD",
             .source = "8.2.3.21.21; driver"},
    Register{.name = "FDIRCMD",
             .places = one(0x0ee2c),
             .writable = 0x3f7f8ffb,
             .hardware = 0x00001004,
             .order = "commands are given once FDIRCTRL shows INIT_DONE",
             .source = "8.2.3.21.22"},

    Register{.name = "DMATXCTL",
             .places = one(0x04a80),
             .writable = 0xffff0009,
             .hardware = 0x00000006,
             .reset = 0x81000004,
             .order = "GDV changes only while reception and transmission are off",
             .source = "8.2.3.9.2"},
    Register{.name = "MTQC",
             .places = one(0x08120),
             .writable = 0x0000000f,
             .order = "written while RTTDCS.ARBDIS is 1, which is then cleared, and before DMATXCTL.TE is set",
             .source = "8.2.3.9.15; 7.2.1.2.1"},
    Register{.name = "TXDCTL", .places = many(128, 0x06028, 0x40), .writable = 0x067f7f7f, .source = "8.2.3.9.10"},
    Register{.name = "RTTDCS",
             .places = one(0x04900),
             .writable = 0x80c00053,
             .hardware = 0x000e0000,
             .reset = 0x00c00000,
             .source = "8.2.3.10.2"},
    Register{.name = "RTTDQSEL", .places = one(0x04904), .writable = 0x0000007f, .source = "8.2.3.10.13"},
    Register{.name = "RTTDT1C",
             .places = one(0x04908),
             .writable = 0x00003fff,
             .write_first = true,
             .order = "of the queue that RTTDQSEL names; written before it is read",
             .source = "8.2.3.10.14"},
    Register{.name = "RTTBCNRM", .places = one(0x04980), .writable = 0x000007ff, .source = "driver"},
    Register{.name = "RTTBCNRC",
             .places = one(0x04984),
             .writable = 0x80ffffff,
             .order = "of the queue that RTTDQSEL names; RTTBCNRM is written before the first limit",
             .source = "8.2.3.10.16"},

    Register{.name = "PFVTCTL",
             .places = one(0x051b0),
             .writable = 0x60001f81,
             .order = "mirror rules are off before RPL_EN is cleared",
             .source = "8.2.3.27.1"},
    Register{.name = "PFVFLRE", .places = many(2, 0x00600), .access = ro, .source = "8.2.3.27.5"},
    Register{.name = "PFVFLREC", .places = many(2, 0x00700), .access = w1c, .source = "8.2.3.27.6"},
    Register{.name = "PFVFRE", .places = many(2, 0x051e0), .source = "8.2.3.27.7"},
    Register{.name = "PFVFTE", .places = many(2, 0x08110), .source = "8.2.3.27.8"},
    Register{.name = "PFQDE",
             .places = one(0x02f04),
             .writable = 0x00037f01,
             .order = "a read stands between two writes",
             .source = "8.2.3.27.9; driver"},
    Register{.name = "PFVMTXSW", .places = many(2, 0x05180), .source = "X550 8.2.2.22.11; driver"},
    Register{.name = "PFVFSPOOF", .places = many(8, 0x08200), .writable = 0x0000ffff, .source = "8.2.3.27.11"},
    Register{.name = "PFDTXGSWC",
             .places = one(0x08220),
             .writable = 0x00000001,
             .order = "FCRTH.RTH is written before LBE is set",
             .source = "8.2.3.27.12; X550 7.8.3.4"},
    Register{.name = "PFVMECM", .places = many(2, 0x08790), .source = "X550 8.2.2.22.21; driver"},
    Register{.name = "PFVML2FLT", .places = many(64, 0x0f000), .writable = 0x1f000000, .source = "8.2.3.27.14"},
    Register{.name = "PFVLVF",
             .places = many(64, 0x0f100),
             .writable = 0x80000fff,
             .undefined = true,
             .source = "8.2.3.27.15"},
    Register{.name = "PFVLVFB", .places = many(128, 0x0f200), .undefined = true, .source = "8.2.3.27.16"},
    Register{.name = "PFUTA", .places = many(128, 0x0f400), .undefined = true, .source = "8.2.3.27.17"},
    Register{.name = "PFVMVIR",
             .places = many(64, 0x08000),
             .writable = 0xc000ffff,
             .order = "changes only while the pool does not transmit",
             .source = "X550 8.2.2.22.14 and 7.8.4.2.3; driver"},
    Register{.name = "PFMRCTL",
             .places = many(4, 0x0f600),
             .writable = 0x00003f0f,
             .order = "PFVTCTL.RPL_EN is set before a rule",
             .source = "X550 8.2.2.22.27; driver"},
    Register{.name = "PFMRVLAN", .places = many(8, 0x0f610), .source = "X550 8.2.2.22.28; driver"},
    Register{.name = "PFMRVM", .places = many(8, 0x0f630), .source = "X550 8.2.2.22.29; driver"},

    Register{.name = "SSVPC", .places = one(0x08780), .access = rc, .source = "8.2.3.23.8"},
    // Some texts call the next five read-only; the drivers add up what they read, which only a counter that reading
    // clears allows.
    Register{.name = "GPRC", .places = one(0x04074), .access = rc, .source = "8.2.3.23.26; driver"},
    Register{.name = "BPRC", .places = one(0x04078), .access = rc, .source = "driver"},
    Register{.name = "MPRC", .places = one(0x0407c), .access = rc, .source = "driver"},
    Register{.name = "GORCL", .places = one(0x04088), .access = rc, .source = "8.2.3.23.27"},
    Register{.name = "GORCH", .places = one(0x0408c), .access = rc, .source = "8.2.3.23.28"},
    Register{.name = "ROC", .places = one(0x040ac), .access = rc, .source = "8.2.3.23.52"},
    Register{.name = "RXMPC", .places = many(8, 0x03fa0), .access = rc, .source = "8.2.3.23.4"},
    Register{.name = "RXNFGPC", .places = one(0x041b0), .access = rc, .source = "8.2.3.23.29"},
    Register{.name = "RXDGPC", .places = one(0x02f50), .access = rc, .source = "8.2.3.23.32"},
    Register{.name = "RXDDPC", .places = one(0x02f5c), .access = rc, .source = "X550 8.2.2.17.14"},
    Register{.name = "RXLPBKPC", .places = one(0x02f68), .access = rc, .source = "X550 8.2.2.17.17"},
    Register{.name = "RXDLPBKPC", .places = one(0x02f74), .access = rc, .source = "X550 8.2.2.17.20"},
    Register{.name = "GPTC", .places = one(0x04080), .access = rc, .source = "8.2.3.23.44"},
    Register{.name = "GOTCL", .places = one(0x04090), .access = rc, .source = "8.2.3.23.45"},
    Register{.name = "GOTCH", .places = one(0x04094), .access = rc, .source = "8.2.3.23.46"},
    Register{.name = "TXDGPC", .places = one(0x087a0), .access = rc, .source = "8.2.3.23.47"},
    // The counters of VFs wrap, and reading leaves them.
    Register{.name = "PVFGPRC", .places = many(64, 0x0101c, 0x40), .access = ro, .source = "X550 8.2.2.26.6; driver"},
    Register{
        .name = "PVFGORC_LSB", .places = many(64, 0x01020, 0x40), .access = ro, .source = "X550 8.2.2.26.7; driver"},
    Register{
        .name = "PVFGORC_MSB", .places = many(64, 0x0d020, 0x40), .access = ro, .source = "X550 8.2.2.26.16; driver"},
    Register{
        .name = "PVFMPRC", .places = many(64, 0x0d01c, 0x40), .access = ro, .source = "X550 8.2.2.26.15; driver"},
    Register{.name = "PVFGPTC", .places = many(64, 0x08300), .access = ro, .source = "X550 8.2.2.26.12; driver"},
    Register{
        .name = "PVFGOTC_LSB", .places = many(64, 0x08400, 8), .access = ro, .source = "X550 8.2.2.26.13; driver"},
    Register{
        .name = "PVFGOTC_MSB", .places = many(64, 0x08404, 8), .access = ro, .source = "X550 8.2.2.26.14; driver"},
    Register{.name = "RQSMR", .places = many(32, 0x02300), .writable = 0x0f0f0f0f, .source = "8.2.3.23.71"},
    Register{.name = "TQSM", .places = many(32, 0x08600), .writable = 0x0f0f0f0f, .source = "8.2.3.23.73"},
    Register{.name = "QPRC", .places = many(16, 0x01030, 0x40), .access = rc, .source = "8.2.3.23.74"},
    Register{.name = "QBRC_L", .places = many(16, 0x01034, 0x40), .access = rc, .source = "driver"},
    Register{.name = "QBRC_H", .places = many(16, 0x01038, 0x40), .access = rc, .source = "driver"},
    Register{.name = "QPRDC", .places = many(16, 0x01430, 0x40), .access = rc, .source = "8.2.3.23.75"},
    Register{.name = "QPTC",
             .places = {Place{0x08680, 4, 0, 16}, Place{0x06030, 0x40, 0, 16}, none},
             .access = rc,
             .source = "driver"},
    Register{.name = "QBTC_L", .places = many(16, 0x08700, 8), .access = rc, .source = "driver"},
    Register{.name = "QBTC_H", .places = many(16, 0x08704, 8), .access = rc, .source = "driver"},
};

static_assert(table.size() == static_cast<std::size_t>(Reg::end_of_list), "a row for each name, in their order");

constexpr Chip the_chip{
    .name = "82599",
    .pools = 64,
    .virtual_functions = 64,
    .queues = 128,
    .mac_entries = 128,
    .vlan_entries = 64,
    .kept_mac_entries = 1,
    .kept_vlan_entries = 1,
    .multicast_hash_bits = 4096,
    .unicast_hash_bits = 4096,
    .mirror_rules = 4,
    .five_tuple_filters = 128,
    .ethertype_filters = 8,
    .flow_filters = 2046,
    .queue_counters = 16,
    .max_frame = 9728,
    .min_rate_mbps = 10,
    .one_mac_per_vf = false,
    .one_queue_per_vf = false,
    .mac_per_vlan = false,
    .unicast_promiscuous = false,
    .vlan_promiscuous = false,
    .unknown_unicast_local = false,
    .source_prune = false,
    .mirror_by_sender = false,
    .one_flow_mask = true,
    .flow_redirects = false,
    .flows_see_loopback = false,
    .inner_tag_match = true,
    .outer_tag_match = false,
    .outer_tag_insert = false,
    .filter_counters = false,
};

}  // namespace

const Chip& chip() {
    return the_chip;
}

const RegisterMap& map() {
    static const RegisterMap the_map(table);
    return the_map;
}

const Register& describe(Reg reg) {
    return table[static_cast<std::size_t>(reg)];
}

std::uint32_t offset(Reg reg, unsigned element) {
    return map().offset(static_cast<std::size_t>(reg), element);
}

}  // namespace ivds::offload::i82599
