// SPDX-License-Identifier: Apache-2.0
// The registers of the switch. The datasheet (320961) was not at hand. "driver" is the offset that Intel's Linux
// driver igb uses, which QEMU's model of the chip (hw/net/igb_regs.h, igb_core.c) has too; the bits that may be
// written are those that the two name.
#include "nic/82576.h"

#include <array>

namespace ivds::offload::i82576 {

namespace {

constexpr Place none{.count = 0};

constexpr std::array<Place, 3> one(std::uint32_t offset) {
    return {Place{offset}, none, none};
}
constexpr std::array<Place, 3> many(unsigned count, std::uint32_t offset, std::uint32_t stride = 4) {
    return {Place{offset, stride, 0, count}, none, none};
}
// The last eight of the 24 address entries are elsewhere.
constexpr std::array<Place, 3> addresses(std::uint32_t low, std::uint32_t high) {
    return {Place{low, 8, 0, 16}, Place{high, 8, 16, 8}, none};
}

using enum Access;

constexpr std::array table{
    Register{.name = "STATUS", .places = one(0x00008), .access = ro, .source = "driver"},
    Register{.name = "CTRL_EXT", .places = one(0x00018), .source = "driver"},
    Register{.name = "VET", .places = one(0x00038), .reset = 0x81008100, .source = "driver"},
    Register{.name = "RCTL", .places = one(0x00100), .source = "driver"},
    Register{.name = "TCTL", .places = one(0x00400), .source = "driver"},
    Register{.name = "MTA", .places = many(128, 0x05200), .source = "driver"},
    Register{.name = "RAL", .places = addresses(0x05400, 0x054e0), .source = "driver"},
    Register{.name = "RAH", .places = addresses(0x05404, 0x054e4), .writable = 0x83fcffff, .source = "driver"},
    Register{.name = "VFTA", .places = many(128, 0x05600), .source = "driver"},
    Register{.name = "MRQC", .places = one(0x05818), .source = "driver"},
    Register{.name = "UTA", .places = many(128, 0x0a000), .access = wo, .source = "driver, QEMU"},
    Register{.name = "ETQF", .places = many(8, 0x05cb0), .source = "driver"},
    Register{.name = "RXDCTL", .places = many(16, 0x0c028, 0x40), .source = "driver"},
    Register{.name = "TXDCTL", .places = many(16, 0x0e028, 0x40), .source = "driver"},
    Register{.name = "VFRE", .places = one(0x00c8c), .writable = 0x000000ff, .reset = 0xff, .source = "driver"},
    Register{.name = "VFTE", .places = one(0x00c90), .writable = 0x000000ff, .reset = 0xff, .source = "driver"},
    Register{.name = "QDE", .places = one(0x02408), .writable = 0x0000ffff, .source = "driver"},
    Register{.name = "DTXSWC", .places = one(0x03500), .writable = 0x80ffffff, .source = "driver"},
    Register{.name = "DTXCTL", .places = one(0x03590), .source = "driver"},
    Register{.name = "VMVIR", .places = many(8, 0x03700), .writable = 0xc000ffff, .source = "driver"},
    Register{.name = "WVBR", .places = one(0x03554), .access = rc, .source = "driver"},
    Register{.name = "VT_CTL", .places = one(0x0581c), .source = "driver"},
    Register{.name = "VMOLR", .places = many(8, 0x05ad0), .source = "driver"},
    Register{.name = "RPLOLR", .places = one(0x05af0), .source = "driver"},
    Register{.name = "VLVF", .places = many(32, 0x05d00), .writable = 0x801fffff, .source = "driver"},

    Register{.name = "PVFGPRC", .places = many(8, 0x10010, 0x100), .access = ro, .source = "QEMU"},
    Register{.name = "PVFGPTC", .places = many(8, 0x10014, 0x100), .access = ro, .source = "QEMU"},
    Register{.name = "PVFGORC", .places = many(8, 0x10018, 0x100), .access = ro, .source = "QEMU"},
    Register{.name = "PVFGOTC", .places = many(8, 0x10034, 0x100), .access = ro, .source = "QEMU"},
    Register{.name = "PVFMPRC", .places = many(8, 0x1003c, 0x100), .access = ro, .source = "QEMU"},
};
static_assert(table.size() == static_cast<std::size_t>(Reg::end_of_list));

constexpr Chip the_chip{
    .name = "82576",
    .pools = 8,
    .virtual_functions = 7,  // with the PF, one pool each
    .queues = 16,
    .mac_entries = 24,
    .vlan_entries = 32,
    .kept_mac_entries = 1,
    .kept_vlan_entries = 1,
    .multicast_hash_bits = 4096,
    .unicast_hash_bits = 4096,
    .mirror_rules = 0,
    .five_tuple_filters = 8,
    .ethertype_filters = 8,
    .flow_filters = 0,
    .queue_counters = 0,
    .max_frame = 9728,
    .min_rate_mbps = 1,
    .one_mac_per_vf = false,
    .one_queue_per_vf = true,  // igbvf's
    .mac_per_vlan = false,
    .unicast_promiscuous = false,
    .vlan_promiscuous = false,
    .unknown_unicast_local = false,
    .source_prune = false,
    .mirror_by_sender = false,
    .one_flow_mask = false,
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

}  // namespace ivds::offload::i82576
