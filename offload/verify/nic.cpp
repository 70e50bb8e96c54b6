// SPDX-License-Identifier: Apache-2.0
#include "verify/nic.h"

#include <fmt/format.h>

#include <bit>
#include <map>
#include <utility>

#include "nic/82576.h"
#include "nic/82599.h"
#include "verify/nic_82576.h"
#include "verify/nic_82599.h"

namespace ivds::offload::verify {

std::string names(PoolSet pools) {
    std::string out;
    for (PoolSet left = pools; left != 0; left &= left - 1)
        out += fmt::format("{}{}", out.empty() ? "" : ",", std::countr_zero(left));
    return out.empty() ? "none" : out;
}

void Nic::add_address(std::uint32_t low, std::uint32_t high, unsigned slot, PoolSet pools) {
    Mac mac{};
    for (unsigned byte = 0; byte < 6; ++byte)
        mac[byte] = static_cast<std::uint8_t>(byte < 4 ? low >> (8 * byte) : high >> (8 * (byte - 4)));
    const auto [at, fresh] = addresses_.try_emplace(number(mac), Address{.pools = 0, .slot = slot});
    at->second.pools |= pools;
}

void Nic::add_group(std::uint16_t vid, unsigned slot, PoolSet pools) {
    groups_[vid].pools |= pools;
    groups_[vid].slots |= std::uint64_t{1} << slot;
}

void Nic::admit(unsigned word, std::uint32_t vids) {
    for (std::uint32_t left = vids; left != 0; left &= left - 1)
        groups_[32 * word + static_cast<unsigned>(std::countr_zero(left))].admitted = true;
}

const Nic::Address* Nic::address(const Mac& mac) const {
    const auto found = addresses_.find(number(mac));
    return found == addresses_.end() ? nullptr : &found->second;
}

bool Nic::in_hash(Hash table, const Mac& mac) const {
    const unsigned hash = ((mac[4] | unsigned{mac[5]} << 8) >> hash_shift_) & 0xfff;
    return ((table == Hash::unicast ? unicast_ : multicast_)[hash / 32] >> (hash % 32) & 1U) != 0;
}

std::optional<unsigned> Nic::first_hash(Hash table, bool set) const {
    const auto& words = table == Hash::unicast ? unicast_ : multicast_;
    for (unsigned word = 0; word < words.size(); ++word) {
        const std::uint32_t value = set ? words[word] : ~words[word];
        if (value != 0) return 32 * word + static_cast<unsigned>(std::countr_zero(value));
    }
    return std::nullopt;
}

Mac Nic::with_hash(Mac mac, unsigned hash) const {
    const unsigned bytes = hash << hash_shift_;
    mac[4] = static_cast<std::uint8_t>(bytes);
    mac[5] = static_cast<std::uint8_t>(bytes >> 8);
    return mac;
}

PoolSet Nic::taking_tag(const std::optional<Tag>& tag) const {
    if (!filters_vlans_) return ~PoolSet{0};
    return tag ? groups_[tag->vid()].pools : aupe_;
}

void Nic::note_tag(const std::optional<Tag>& tag, PoolSet before, PoolSet after, Trail* trail) const {
    if (trail == nullptr || before == 0) return;
    if (!filters_vlans_)
        note(trail, "{} is 0: any VLAN", words_.filter);
    else if (!tag)
        note(trail, "no tag, {}.AUPE of pools {}: pools {} of {}", words_.flags, names(aupe_), names(after),
             names(before));
    else if (const Group& group = groups_[tag->vid()]; group.slots == 0)
        note(trail, "no {} has VID {}", words_.groups, tag->vid());
    else
        note(trail, "{}[{}] has VID {} for pools {}: pools {} of {}", words_.groups, std::countr_zero(group.slots),
             tag->vid(), names(group.pools), names(after), names(before));
}

bool Nic::is_spoofed(unsigned pool, const Mac& source, const std::optional<Tag>& tag, Doubts& doubts,
                     Trail* trail) const {
    const Checks on = checks(pool);
    if (on.addresses) {
        const Address* held = address(source);
        if (held == nullptr || (held->pools & pool_bit(pool)) == 0) {
            note(trail, "{} of pool {}: the source is no address of it", words_.address_check, pool);
            return true;
        }
    }
    if (!on.vlans) return false;
    const bool foreign =
        tag ? (groups_[tag->vid()].pools & pool_bit(pool)) == 0 : doubts.ask(&Uncertain::spoof_check_untagged);
    if (foreign) note(trail, "{} of pool {}: it is no member of the VID", words_.vlan_check, pool);
    return foreign;
}

PoolSet Nic::by_address(const Frame& frame, const Address* address, Doubts& doubts, Trail* trail) const {
    PoolSet list = 0;
    if (address != nullptr) {
        list = address->pools;
        note(trail, "{}[{}] is the destination: pools {}", words_.addresses, address->slot, names(list));
        if ((list & ~receiving_) != 0 && doubts.ask(&Uncertain::early_vfre)) list &= receiving_;
    }
    const auto add = [&](PoolSet more, std::string_view table, std::string_view flag) {
        if (trail != nullptr && (more & ~list) != 0)
            note(trail, "{}{}{}.{}: pools {}", table, table.empty() ? "" : " has the destination, ", words_.flags,
                 flag, names(more));
        list |= more;
    };
    if (frame.is_unicast()) {
        if (list == 0 && in_hash(Hash::unicast, frame.dst)) add(rope_, words_.unicast, "ROPE");
    } else if (replicates_ && frame.is_broadcast()) {
        add(bam_, "", "BAM");
    } else if (replicates_) {
        if (list == 0 && hashes_multicast_ && in_hash(Hash::multicast, frame.dst))
            add(rompe_, words_.multicast, "ROMPE");
        add(mpe_, "", "MPE");
    }
    return list;
}

std::vector<Nic::Slot> Nic::slots() const {
    std::map<unsigned, Slot> macs;
    for (const auto& [value, address] : addresses_) {
        Mac mac{};
        for (unsigned i = 0; i < 6; ++i) mac[i] = static_cast<std::uint8_t>(value >> (8 * (5 - i)));
        macs[address.slot] = {.table = std::string(words_.addresses),
                              .slot = address.slot,
                              .text = fmt::format("{}: pools {}", format_mac(mac), names(address.pools))};
    }
    std::map<unsigned, Slot> vlans;
    std::vector<Slot> out;
    for (unsigned vid = 0; vid < groups_.size(); ++vid) {
        const Group& group = groups_[vid];
        for (std::uint64_t left = group.slots; left != 0; left &= left - 1) {
            const auto slot = static_cast<unsigned>(std::countr_zero(left));
            vlans[slot] = {.table = std::string(words_.groups),
                           .slot = slot,
                           .text = fmt::format("VID {}: pools {}{}", vid, names(group.pools),
                                               group.admitted ? "" : ", and is not taken from the wire")};
        }
    }
    out.reserve(macs.size() + vlans.size());
    for (auto& [slot, row] : macs) out.push_back(std::move(row));
    for (auto& [slot, row] : vlans) out.push_back(std::move(row));
    for (unsigned vid = 0; vid < groups_.size(); ++vid)
        if (groups_[vid].admitted)
            out.push_back({.table = "VFTA", .slot = vid, .text = fmt::format("VID {} is taken from the wire", vid)});
    for (unsigned pool = 0; pool < pools_; ++pool) {
        const PoolSet bit = pool_bit(pool);
        if (((receiving_ | sending_) & bit) == 0) continue;
        std::string text = (receiving_ & sending_ & bit) != 0 ? "on" : (receiving_ & bit) != 0 ? "receives" : "sends";
        if (const auto tag = adds_tag(pool)) text += fmt::format(", adds VID {}", *tag);
        const auto [addresses, vlan_ids] = checks(pool);
        if (addresses || vlan_ids)
            text += fmt::format(", checks {}{}{}", addresses ? "addresses" : "", addresses && vlan_ids ? " and " : "",
                                vlan_ids ? "VLANs" : "");
        std::string takes;
        for (const auto& [set, name] : {std::pair{aupe_, "untagged (AUPE)"},
                                        {bam_, "broadcast (BAM)"},
                                        {mpe_, "all multicast"},
                                        {rompe_, "multicast by hash (ROMPE)"},
                                        {rope_, "unicast by hash (ROPE)"}})
            if ((set & bit) != 0) takes += fmt::format("{}{}", takes.empty() ? "" : ", ", name);
        if (!takes.empty()) text += "; takes " + takes;
        out.push_back({.table = "pools", .slot = pool, .text = std::move(text)});
    }
    return out;
}

Result<std::unique_ptr<Nic>> read_nic(const Chip& chip, Registers& registers) {
    if (chip.name == i82599::chip().name) {
        auto image = Nic82599::read(registers);
        if (!image) return std::unexpected(image.error());
        return std::make_unique<Nic82599>(std::move(*image));
    }
    if (chip.name == i82576::chip().name) {
        auto image = Nic82576::read(registers);
        if (!image) return std::unexpected(image.error());
        return std::make_unique<Nic82576>(std::move(*image));
    }
    return fail(Code::unsupported, "IVDS-O036", fmt::format("frames are not walked through a NIC {}", chip.name),
                "82599 and 82576 are");
}

}  // namespace ivds::offload::verify
