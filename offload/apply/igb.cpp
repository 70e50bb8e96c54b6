// SPDX-License-Identifier: Apache-2.0
#include "apply/igb.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "apply/parking.h"
#include "apply/vfta.h"
#include "nic/82576.h"
#include "nic/access.h"

namespace ivds::offload {

using namespace i82576;

namespace {

constexpr unsigned uta_words = 128;
// Entries of the address table that others may still give the PF after the backend was opened.
constexpr unsigned spare_addresses = 2;
// What a VF gets is counted with its CRC, and without the tag that was taken off: seen on QEMU's 82576.
constexpr unsigned rx_beside_bytes = 4;

constexpr std::uint32_t bit(unsigned pool) {
    return 1U << pool;
}

// What a VF that is an uplink takes: all frames of its V.VLANs, with their tags. UTA is full then (UnknownToPf).
constexpr std::uint32_t uplink_takes = vmolr::rompe.put() | vmolr::rope.put() | vmolr::bam.put() | vmolr::mpme.put();
constexpr std::uint32_t uplink_mask = uplink_takes | vmolr::aupe.put() | vmolr::strvlan.put();

class Igb final : public Backend {
public:
    Igb(std::unique_ptr<PfLink> link, std::unique_ptr<Registers> registers, std::vector<std::string> shortcomings,
        WireTags tags, const PfView& view)
        : link_(std::move(link)),
          registers_(std::move(registers)),
          nic_(*registers_, "82576"),
          shortcomings_(std::move(shortcomings)),
          vfs_(static_cast<unsigned>(view.vfs.size())),
          tags_(tags),
          chip_(i82576::chip()) {
        chip_.virtual_functions = vfs_;
        chip_.mac_entries -= vfs_;  // the driver's, one for each VF
        chip_.kept_mac_entries += static_cast<unsigned>(view.addresses.size()) + spare_addresses;
        chip_.kept_mac_entries = std::min(chip_.kept_mac_entries, chip_.mac_entries);
        shortcomings_.emplace_back(
            tags.two ? "a VF loses all multicast whenever the PF's driver writes its lists, until the next look"
                     : "a VF gets the multicast groups that its own driver asks for, as the driver of the PF decides "
                       "on that");
        if (tags.two)
            shortcomings_.emplace_back(
                "two tags stay the NIC's mode, in which it does not switch between VFs, until its driver is bound "
                "anew");
        shortcomings_.emplace_back("the rate is that of a VF's first queue");
        shortcomings_.emplace_back("VLANs of the host's own VLAN devices in other network namespaces are not seen");
    }

    [[nodiscard]] std::string_view name() const override { return "kernel"; }
    [[nodiscard]] const Chip& chip() const override { return chip_; }
    [[nodiscard]] unsigned pf() const override { return vfs_; }
    [[nodiscard]] std::vector<std::string> shortcomings() const override { return shortcomings_; }

    Result<> prepare() override;
    Result<NicState> read() override;
    Result<> apply(const Step& step) override;
    Result<CountersOfPools> counters() override;
    [[nodiscard]] Registers* registers() override { return registers_.get(); }
    Result<> clear() override;

private:
    // An address in RAL and RAH.
    struct Entry {
        Mac mac{};
        std::uint32_t pools = 0;
    };
    struct Vlans {
        std::array<std::uint32_t, vfta_words> vfta{};
        std::array<std::uint32_t, 32> vlvf{};
    };

    Result<PfView> view() { return view_of(*link_, vfs_); }

    [[nodiscard]] unsigned entries() const { return i82576::chip().mac_entries; }
    // The entry that the driver keeps for a VF.
    [[nodiscard]] unsigned own_entry(unsigned vf) const { return entries() - (vf + 1); }
    Result<std::optional<Entry>> entry(unsigned slot) const;
    // All entries but the station's and those that the driver made for addresses of the PF's interface. It takes the
    // lowest slot that is free, so of two with the same such address the first is its own.
    Result<std::map<unsigned, Entry>> table(const PfView& view) const;
    Result<> put_entry(unsigned slot, const Entry& entry);
    Result<> clear_entry(unsigned slot);
    // All entries of the address but the one in `slot`.
    Result<> clear_others(const Mac& mac, unsigned slot, const PfView& view);

    Result<> check_setup() const;
    Result<Vlans> vlans() const;
    // Asks the driver for a VF's VLAN, which moves no other VLAN's entries.
    Result<> set_vlan(unsigned vf, std::uint16_t vlan, std::uint8_t pcp);
    // Sets the address that a VF's VM finds, and takes the driver's entry for it back.
    Result<> set_address(unsigned vf, const Mac& mac);
    Result<> park(unsigned vf, const PfView& view);
    Result<> turn(unsigned pool, bool on);
    Result<bool> is_proper(unsigned pool, const VfSettings& settings) const;
    Result<bool> is_uplink(unsigned pool, const VfSettings& settings) const;
    // Which tags the parser knows; both ways are still while that changes.
    Result<> set_tags();
    [[nodiscard]] std::uint32_t types() const {
        return vet::inner.put(0x8100) | vet::outer.put(tags_.two ? tags_.outer_tpid : 0x8100U);
    }

    // The driver refuses a limit above the link's speed, at which none is needed.
    Result<> set_rate(unsigned vf, unsigned mbps);

    Result<> write(const SetMac& step);
    Result<> write(const ClearMac& step);
    Result<> write(const SetVlan& step);
    Result<> write(const ClearVlan& step);
    Result<> write(const Admit& step);
    Result<> write(const SetPool& step);
    Result<> write(const SetUplink& step);
    Result<> write(const ClearPool& step);
    Result<> write(const SetRate& step);
    Result<> write(const SetMirror& step);
    Result<> write(const ClearMirror& step);
    Result<> write(const SetFilter& step);
    Result<> write(const ClearFilter& step);
    Result<> write(const UnknownToPf& step);
    Result<> write(const Software& step);

    std::unique_ptr<PfLink> link_;
    std::unique_ptr<Registers> registers_;
    ChipRegisters<Reg> nic_;
    std::vector<std::string> shortcomings_;
    unsigned vfs_;
    WireTags tags_;
    Chip chip_;
};

Result<std::optional<Igb::Entry>> Igb::entry(unsigned slot) const {
    const auto high = nic_.get(Reg::rah, slot);
    if (!high) return std::unexpected(high.error());
    if (rah::av(*high) == 0) return std::nullopt;
    const auto low = nic_.get(Reg::ral, slot);
    if (!low) return std::unexpected(low.error());
    return Entry{.mac = mac_of(*low, *high), .pools = rah::pools(*high)};
}

// An address that stays changes its pools in one write; another one is not valid while half of it is there.
Result<> Igb::put_entry(unsigned slot, const Entry& entry) {
    const auto now = this->entry(slot);
    if (!now) return std::unexpected(now.error());
    const std::uint32_t high = high_of(entry.mac) | rah::pools.put(entry.pools) | rah::av.put();
    if (*now && (*now)->mac == entry.mac)
        return (*now)->pools == entry.pools ? Result<>{} : nic_.put(Reg::rah, slot, high);
    return in_turn([&] { return nic_.put(Reg::rah, slot, 0); },
                   [&] { return nic_.put(Reg::ral, slot, low_of(entry.mac)); },
                   [&] { return nic_.put(Reg::rah, slot, high); });
}

Result<> Igb::clear_entry(unsigned slot) {
    return in_turn([&] { return nic_.put(Reg::rah, slot, 0); }, [&] { return nic_.put(Reg::ral, slot, 0); });
}

Result<std::map<unsigned, Igb::Entry>> Igb::table(const PfView& view) const {
    std::map<unsigned, Entry> out;
    std::set<Mac> drivers;
    for (unsigned slot = 1; slot < entries(); ++slot) {
        const auto found = entry(slot);
        if (!found) return std::unexpected(found.error());
        if (!*found) continue;
        const auto& [mac, pools] = **found;
        if (pools == bit(vfs_) && view.addresses.contains(mac) && drivers.insert(mac).second) continue;
        out[slot] = **found;
    }
    return out;
}

Result<> Igb::clear_others(const Mac& mac, unsigned slot, const PfView& view) {
    const auto all = table(view);
    if (!all) return std::unexpected(all.error());
    for (const auto& [at, entry] : *all)
        if (at != slot && entry.mac == mac)
            if (auto done = clear_entry(at); !done) return done;
    return {};
}

Result<> Igb::check_setup() const {
    struct Wanted {
        Reg reg;
        Field field;
        std::uint32_t value;
        const char* what;
    };
    const std::uint32_t two = tags_.two ? 1 : 0;
    // Of no meaning with one tag, or the driver's.
    const auto types_now = nic_.get(Reg::vet);
    if (!types_now) return std::unexpected(types_now.error());
    const auto replicated = nic_.get(Reg::rplolr);
    if (!replicated) return std::unexpected(replicated.error());
    const std::uint32_t outer = vet::outer(*types_now);
    const std::uint32_t stripped = rplolr::strvlan(*replicated);
    for (const auto& [reg, field, value, what] : {
             Wanted{Reg::rctl, rctl::rxen, 1, "reception on"},
             Wanted{Reg::rctl, rctl::vfe, 1, "the VLAN filter on"},
             Wanted{Reg::rctl, rctl::cfien, 0, "no filter on CFI"},
             Wanted{Reg::rctl, rctl::upe, 1, "all unicast taken in"},
             Wanted{Reg::rctl, rctl::mpe, 1, "all multicast taken in"},
             Wanted{Reg::vt_ctl, vt_ctl::rpl_en, 1, "replication to pools on"},
             Wanted{Reg::vt_ctl, vt_ctl::dis_def_pl, 0, "a default pool"},
             Wanted{Reg::vt_ctl, vt_ctl::def_pl, vfs_, "the PF as default pool"},
             Wanted{Reg::dtxswc, dtxswc::loopback, 1 - two,
                    tags_.two ? "no switching between pools" : "switching between pools on"},
             Wanted{Reg::ctrl_ext, ctrl_ext::extended_vlan, two, tags_.two ? "two tags" : "single tags"},
             Wanted{Reg::vet, vet::inner, 0x8100, "V.VLAN tags of TPID 0x8100"},
             Wanted{Reg::vet, vet::outer, tags_.two ? vet::outer(types()) : outer, "the wire's outer TPID"},
             // Software has both tags of what it gets.
             Wanted{Reg::rplolr, rplolr::strvlan, tags_.two ? 0 : stripped, "tags left on frames for several pools"},
         }) {
        const auto now = nic_.get(reg);
        if (!now) return std::unexpected(now.error());
        if (field(*now) != value)
            return fail(Code::conflict, "IVDS-O010",
                        fmt::format("{} is {:#010x}: a plan needs {}", describe(reg).name, *now, what),
                        "set the PF's interface up and promiscuous, and create VFs");
    }
    const auto mode = nic_.get(Reg::mrqc);
    if (!mode) return std::unexpected(mode.error());
    if (mrqc::enable(*mode) != mrqc::vmdq && mrqc::enable(*mode) != mrqc::vmdq_rss)
        return fail(Code::conflict, "IVDS-O010", fmt::format("MRQC is {:#010x}: a plan needs pools", *mode),
                    "create VFs");
    return {};
}

Result<Igb::Vlans> Igb::vlans() const {
    Vlans out;
    for (unsigned i = 0; i < out.vfta.size(); ++i) {
        const auto word = nic_.get(Reg::vfta, i);
        if (!word) return std::unexpected(word.error());
        out.vfta[i] = *word;
    }
    for (unsigned i = 0; i < out.vlvf.size(); ++i) {
        const auto word = nic_.get(Reg::vlvf, i);
        if (!word) return std::unexpected(word.error());
        out.vlvf[i] = *word;
    }
    return out;
}

Result<> Igb::set_vlan(unsigned vf, std::uint16_t vlan, std::uint8_t pcp) {
    const auto before = vlans();
    if (!before) return std::unexpected(before.error());
    if (auto done = link_->set_vf_vlan(vf, vlan, pcp); !done) return done;
    // Slot 0 is VLAN 0's, and the driver's.
    for (unsigned i = 1; i < before->vlvf.size(); ++i)
        if (auto done = nic_.change(Reg::vlvf, i, all_ones, before->vlvf[i]); !done) return done;
    for (unsigned i = 0; i < before->vfta.size(); ++i)
        if (auto done = nic_.change(Reg::vfta, i, all_ones, before->vfta[i]); !done) return done;
    return {};
}

Result<> Igb::set_address(unsigned vf, const Mac& mac) {
    const auto before = entry(own_entry(vf));
    if (!before) return std::unexpected(before.error());
    return in_turn([&] { return link_->set_vf_mac(vf, mac); },
                   [&] { return *before ? put_entry(own_entry(vf), **before) : clear_entry(own_entry(vf)); });
}

Result<> Igb::turn(unsigned pool, bool on) {
    const std::uint32_t value = on ? bit(pool) : 0;
    // Nothing is sent before replies could be received, nor after.
    return on ? in_turn([&] { return nic_.change(Reg::vfre, 0, bit(pool), value); },
                        [&] { return nic_.change(Reg::vfte, 0, bit(pool), value); })
              : in_turn([&] { return nic_.change(Reg::vfte, 0, bit(pool), value); },
                        [&] { return nic_.change(Reg::vfre, 0, bit(pool), value); });
}

Result<> Igb::park(unsigned vf, const PfView& view) {
    const VfSettings& now = view.vfs.at(vf);
    return in_turn(
        [&] { return turn(vf, false); },
        [&] { return now.spoof_check ? Result<>{} : link_->set_vf_spoof_check(vf, true); },
        [&] { return now.trusted ? link_->set_vf_trusted(vf, false) : Result<>{}; },
        // The driver knows rates only while there is a link; one that is left harms nobody while the VF is off.
        [&] { return now.rate_mbps != 0 && view.carrier ? link_->set_vf_rate(vf, 0) : Result<>{}; },
        [&] { return now.vlan == parking_vlan && now.pcp == 0 ? Result<>{} : set_vlan(vf, parking_vlan, 0); },
        [&] { return nic_.change(Reg::vmolr, vf, vmolr::rope.put() | vmolr::mpme.put(), 0); });
}

Result<> Igb::set_tags() {
    const std::uint32_t two = tags_.two ? 1 : 0;
    const auto mode = nic_.get(Reg::ctrl_ext);
    if (!mode) return std::unexpected(mode.error());
    const auto now = nic_.get(Reg::vet);
    if (!now) return std::unexpected(now.error());
    if (ctrl_ext::extended_vlan(*mode) != two || (tags_.two && *now != types())) {
        const auto run = [&](bool on) {
            return in_turn([&] { return nic_.change(Reg::tctl, 0, tctl::en.put(), tctl::en.put(on ? 1 : 0)); },
                           [&] { return nic_.change(Reg::rctl, 0, rctl::rxen.put(), rctl::rxen.put(on ? 1 : 0)); });
        };
        const auto done = in_turn([&] { return run(false); }, [&] { return nic_.put(Reg::vet, 0, types()); },
                                  [&] {
                                      return nic_.change(Reg::ctrl_ext, 0, ctrl_ext::extended_vlan.put(),
                                                         ctrl_ext::extended_vlan.put(two));
                                  });
        // Whatever came of it, the port must not stay silent.
        const auto running = run(true);
        if (!done) return done;
        if (!running) return running;
    }
    return in_turn([&] { return nic_.change(Reg::dtxswc, 0, dtxswc::loopback.put(), dtxswc::loopback.put(1 - two)); },
                   [&] { return tags_.two ? nic_.change(Reg::rplolr, 0, rplolr::strvlan.put(), 0) : Result<>{}; });
}

Result<> Igb::prepare() {
    auto view = this->view();
    if (!view) return std::unexpected(view.error());
    if (vfs_ == 0) return fail(Code::conflict, "IVDS-O010", "the PF has no VFs, and the NIC no pools", "create VFs");
    if (!view->up) return fail(Code::conflict, "IVDS-O010", "the PF's interface is down", "set it up");
    if (!view->promiscuous)
        if (auto done = link_->set_promiscuous(true); !done) return done;
    // A VF that is in no VLAN was never ours: it is new. Its VM could choose any address, and VLANs too.
    for (unsigned vf = 0; vf < vfs_; ++vf) {
        const VfSettings& now = view->vfs[vf];
        if (now.vlan != 0) continue;
        const auto uplink = is_uplink(vf, now);
        if (!uplink) return std::unexpected(uplink.error());
        if (*uplink) continue;
        const Mac mac = now.mac == Mac{} ? parking_address(view->mac, vf) : now.mac;
        auto done = in_turn([&] { return park(vf, *view); }, [&] { return set_address(vf, mac); },
                            [&] { return clear_entry(own_entry(vf)); });
        if (!done) return done;
    }
    return in_turn([&] { return set_tags(); }, [&] { return check_setup(); },
                   [&] { return close_vfta(nic_, view->vlans); });
}

// A VF is proper if it is as SetPool leaves it, and stays so when it resets.
Result<bool> Igb::is_proper(unsigned pool, const VfSettings& settings) const {
    std::array<std::uint32_t, 6> values{};
    constexpr std::array<Reg, 6> regs{Reg::vfre, Reg::vfte, Reg::dtxswc, Reg::vmolr, Reg::vmvir, Reg::vlvf};
    for (unsigned i = 0; i < regs.size(); ++i) {
        const auto value = nic_.get(regs[i], regs[i] == Reg::vmolr || regs[i] == Reg::vmvir ? pool : 0);
        if (!value) return std::unexpected(value.error());
        values[i] = *value;
    }
    const auto [receives, sends, checks, takes, tag, no_vlan] = values;
    return (receives & sends & bit(pool)) != 0 && (dtxswc::mac_check(checks) & bit(pool)) != 0 &&
           (dtxswc::vlan_check(checks) & bit(pool)) != 0 && (dtxswc::local_loopback(checks) & bit(pool)) == 0 &&
           vmolr::aupe(takes) == 0 && vmolr::rope(takes) == 0 && vmolr::bam(takes) == 1 &&
           vmvir::vlana(tag) == vmvir::always && (vlvf::pools(no_vlan) & bit(pool)) == 0 && settings.spoof_check &&
           !settings.trusted &&
           vmvir::port_vlan(tag) == (settings.vlan | static_cast<std::uint32_t>(settings.pcp << 13));
}

// As SetUplink leaves it.
Result<bool> Igb::is_uplink(unsigned pool, const VfSettings& settings) const {
    if (!tags_.two) return false;
    std::array<std::uint32_t, 5> values{};
    constexpr std::array<Reg, 5> regs{Reg::vfre, Reg::vfte, Reg::dtxswc, Reg::vmolr, Reg::vmvir};
    for (unsigned i = 0; i < regs.size(); ++i) {
        const auto value = nic_.get(regs[i], regs[i] == Reg::vmolr || regs[i] == Reg::vmvir ? pool : 0);
        if (!value) return std::unexpected(value.error());
        values[i] = *value;
    }
    const auto [receives, sends, checks, takes, tag] = values;
    return (receives & sends & bit(pool)) != 0 &&
           ((dtxswc::mac_check(checks) | dtxswc::vlan_check(checks)) & bit(pool)) == 0 &&
           (takes & uplink_mask) == uplink_takes && vmvir::vlana(tag) == vmvir::by_descriptor && settings.vlan == 0 &&
           !settings.spoof_check && settings.rate_mbps == 0;
}

Result<NicState> Igb::read() {
    const auto view = this->view();
    if (!view) return std::unexpected(view.error());
    if (auto ok = check_setup(); !ok) return std::unexpected(ok.error());
    NicState state;

    const auto receives = nic_.get(Reg::vfre);
    if (!receives) return std::unexpected(receives.error());
    const auto sends = nic_.get(Reg::vfte);
    if (!sends) return std::unexpected(sends.error());
    for (unsigned pool = 0; pool < vfs_; ++pool) {
        const bool off = ((*receives | *sends) & bit(pool)) == 0;
        if (off && is_parked(view->vfs[pool])) continue;
        const auto uplink = is_uplink(pool, view->vfs[pool]);
        if (!uplink) return std::unexpected(uplink.error());
        if (*uplink) {
            state.uplinks.insert(pool);
            continue;
        }
        const auto tag = nic_.get(Reg::vmvir, pool);
        if (!tag) return std::unexpected(tag.error());
        const auto proper = is_proper(pool, view->vfs[pool]);
        if (!proper) return std::unexpected(proper.error());
        NicPool& as = state.pools[pool];
        if (*proper) as.vvlan = static_cast<std::uint16_t>(vmvir::port_vlan(*tag) & 0xfff);
        as.pcp = static_cast<std::uint8_t>(vmvir::port_vlan(*tag) >> 13);
        as.rate_mbps = view->vfs[pool].rate_mbps;
    }

    const auto all = table(*view);
    if (!all) return std::unexpected(all.error());
    std::map<Mac, std::uint32_t> pools_of;
    std::set<unsigned> taken;
    for (const auto& [slot, entry] : *all) {
        taken.insert(slot);
        pools_of[entry.mac] |= entry.pools;
        state.macs.try_emplace(entry.mac, NicMac{.slot = slot});  // a VF's own entry comes after the plans'
    }
    for (auto& [mac, entry] : state.macs) {
        const std::uint32_t pools = pools_of.at(mac);
        entry.pool = std::has_single_bit(pools) ? static_cast<unsigned>(std::countr_zero(pools)) : chip_.pools;
        // A VF's own entry is outside of a plan's table, so it goes by a slot of that table that is free.
        if (entry.slot < chip_.mac_entries) continue;
        unsigned slot = chip_.kept_mac_entries;
        while (taken.contains(slot)) ++slot;
        if (slot >= chip_.mac_entries)
            return fail(Code::conflict, "IVDS-O013", fmt::format("there is no room for {}", format_mac(mac)),
                        "clear the NIC");
        taken.insert(entry.slot = slot);
    }

    const auto vlans = this->vlans();
    if (!vlans) return std::unexpected(vlans.error());
    for (unsigned slot = 1; slot < vlans->vlvf.size(); ++slot) {
        const std::uint32_t value = vlans->vlvf[slot];
        if (vlvf::vi_en(value) == 0) continue;
        const auto vid = static_cast<std::uint16_t>(vlvf::vlan_id(value));
        if (!state.vlans.try_emplace(vid, NicVlan{.slot = slot, .members = vlvf::pools(value)}).second)
            return fail(Code::conflict, "IVDS-O013", fmt::format("VLAN {} has two entries in VLVF", vid),
                        "clear the NIC, and look for another writer");
    }
    for (std::uint16_t vid = 1; vid < 32 * vfta_words; ++vid)
        if ((vlans->vfta[vid / 32U] & (1U << (vid % 32))) != 0 && !view->vlans.contains(vid))
            state.admitted.insert(vid);

    const auto own = nic_.get(Reg::vmolr, vfs_);
    if (!own) return std::unexpected(own.error());
    state.unknown_to_pf = vmolr::rope(*own) != 0;
    return state;
}

Result<> Igb::apply(const Step& step) {
    return std::visit([this](const auto& one) { return write(one); }, step);
}

Result<> Igb::write(const SetMac& step) {
    const auto view = this->view();
    if (!view) return std::unexpected(view.error());
    const auto [slot, pool] = step.entry;
    const auto held = entry(slot);
    if (!held) return std::unexpected(held.error());
    if (*held && (*held)->mac != step.mac && view->addresses.contains((*held)->mac))
        return fail(Code::exhausted, "IVDS-O022",
                    fmt::format("the driver has taken MAC slot {} for {}", slot, format_mac((*held)->mac)),
                    "give the PF fewer addresses, or offload less");
    auto done = in_turn([&] { return put_entry(slot, {.mac = step.mac, .pools = bit(pool)}); },
                        [&] { return clear_others(step.mac, slot, *view); });
    if (!done || pool == vfs_) return done;
    // The VM finds an address of the VF's: of several, the one that came first.
    const Mac& now = view->vfs.at(pool).mac;
    if (now == step.mac) return {};
    const auto all = table(*view);
    if (!all) return std::unexpected(all.error());
    for (const auto& [at, entry] : *all)
        if (at < chip_.mac_entries && entry.mac == now && entry.pools == bit(pool)) return {};
    return set_address(pool, step.mac);
}

Result<> Igb::write(const ClearMac& step) {
    const auto view = this->view();
    if (!view) return std::unexpected(view.error());
    return clear_others(step.mac, 0, *view);
}

Result<> Igb::write(const SetVlan& step) {
    return nic_.put(Reg::vlvf, step.entry.slot,
                    vlvf::vlan_id.put(step.vvlan) | vlvf::pools.put(static_cast<std::uint32_t>(step.entry.members)) |
                        vlvf::vi_en.put());
}

Result<> Igb::write(const ClearVlan& step) {
    return nic_.put(Reg::vlvf, step.slot, 0);
}

Result<> Igb::write(const Admit& step) {
    const std::uint32_t vid = 1U << (step.vvlan % 32);
    return nic_.change(Reg::vfta, step.vvlan / 32U, vid, step.on ? vid : 0);
}

Result<> Igb::write(const SetPool& step) {
    const auto view = this->view();
    if (!view) return std::unexpected(view.error());
    const VfSettings& now = view->vfs.at(step.pool);
    return in_turn(
        [&] { return turn(step.pool, false); },
        // Asked again also where the driver believes so: the NIC may hold something else.
        [&] { return link_->set_vf_spoof_check(step.pool, true); },
        [&] { return now.trusted ? link_->set_vf_trusted(step.pool, false) : Result<>{}; },
        [&] { return set_vlan(step.pool, step.as.vvlan, step.as.pcp); },
        [&] { return now.rate_mbps == step.as.rate_mbps ? Result<>{} : set_rate(step.pool, step.as.rate_mbps); },
        [&] {
            return nic_.change(Reg::vmolr, step.pool, vmolr::aupe.put() | vmolr::rope.put() | vmolr::bam.put(),
                               vmolr::bam.put());
        },
        [&] { return nic_.change(Reg::dtxswc, 0, dtxswc::local_loopback.put(bit(step.pool)), 0); },
        [&] { return turn(step.pool, true); },
        [&]() -> Result<> {
            const auto after = this->view();
            if (!after) return std::unexpected(after.error());
            const auto proper = is_proper(step.pool, after->vfs.at(step.pool));
            if (!proper) return std::unexpected(proper.error());
            if (*proper && after->vfs.at(step.pool).vlan == step.as.vvlan) return {};
            (void)turn(step.pool, false);
            return fail(Code::conflict, "IVDS-O012",
                        fmt::format("VF {} was set to V.VLAN {}, and is not", step.pool, step.as.vvlan),
                        "look for another writer of the NIC, and at the kernel's log");
        });
}

Result<> Igb::write(const SetUplink& step) {
    const auto view = this->view();
    if (!view) return std::unexpected(view.error());
    const VfSettings& now = view->vfs.at(step.pool);
    return in_turn([&] { return turn(step.pool, false); },
                   // Asked again also where the driver believes so: the NIC may hold something else.
                   [&] { return link_->set_vf_spoof_check(step.pool, false); },
                   [&] { return set_vlan(step.pool, 0, 0); },
                   [&] { return now.rate_mbps == 0 ? Result<>{} : set_rate(step.pool, 0); },
                   [&] { return nic_.change(Reg::vmolr, step.pool, uplink_mask, uplink_takes); },
                   [&] { return turn(step.pool, true); },
                   [&]() -> Result<> {
                       const auto after = this->view();
                       if (!after) return std::unexpected(after.error());
                       const auto proper = is_uplink(step.pool, after->vfs.at(step.pool));
                       if (!proper) return std::unexpected(proper.error());
                       if (*proper) return {};
                       (void)turn(step.pool, false);
                       return fail(Code::conflict, "IVDS-O012",
                                   fmt::format("VF {} was set up as an uplink, and is not", step.pool),
                                   "look for another writer of the NIC, and at the kernel's log");
                   });
}

Result<> Igb::write(const ClearPool& step) {
    const auto view = this->view();
    return view ? park(step.pool, *view) : Result<>(std::unexpected(view.error()));
}

Result<> Igb::set_rate(unsigned vf, unsigned mbps) {
    constexpr std::array<unsigned, 4> speeds{10, 100, 1000, 1000};
    const auto now = nic_.get(Reg::status);
    if (!now) return std::unexpected(now.error());
    return link_->set_vf_rate(vf, mbps < speeds[status::speed(*now)] ? mbps : 0);
}

Result<> Igb::write(const SetRate& step) {
    return set_rate(step.pool, step.rate_mbps);
}

// The chip has none, so no plan has these.
Result<> Igb::write(const SetMirror& step) {
    return fail(Code::unsupported, "IVDS-O014", fmt::format("{}: the NIC has no mirrors", text(step)),
                "let software carry it");
}

Result<> Igb::write(const ClearMirror& /*step*/) {
    return {};
}

// Its VFs have one receive queue, so no plan has these either.
Result<> Igb::write(const SetFilter& step) {
    return fail(Code::unsupported, "IVDS-O014", fmt::format("{}: a VF has one queue", text(Step(step))),
                "leave it out");
}

Result<> Igb::write(const ClearFilter& /*step*/) {
    return {};
}

Result<> Igb::write(const UnknownToPf& step) {
    const auto fill = [&]() -> Result<> {
        for (unsigned i = 0; i < uta_words; ++i)
            if (auto done = nic_.put_unread(Reg::uta, i, step.on ? all_ones : 0); !done) return done;
        return {};
    };
    const auto use = [&] {
        return nic_.change(Reg::vmolr, vfs_, vmolr::rope.put(), vmolr::rope.put(step.on ? 1 : 0));
    };
    // ROPE is what read() finds: it is set only while UTA is full.
    return step.on ? in_turn(fill, use) : in_turn(use, fill);
}

Result<> Igb::write(const Software& /*step*/) {
    return {};
}

Result<CountersOfPools> Igb::counters() {
    CountersOfPools out;
    for (unsigned vf = 0; vf < vfs_; ++vf) {
        PoolCounters& of = out[vf];
        of.rx_beside_bytes = rx_beside_bytes;
        for (const auto& [reg, counter] : {std::pair{Reg::pvfgprc, &of.rx_packets},
                                           {Reg::pvfgorc, &of.rx_bytes},
                                           {Reg::pvfgptc, &of.tx_packets},
                                           {Reg::pvfgotc, &of.tx_bytes}}) {
            const auto value = nic_.get(reg, vf);
            if (!value) return std::unexpected(value.error());
            counter->value = *value;
        }
    }
    return out;
}

Result<> Igb::clear() {
    Result<> first;
    const auto note = [&](const Result<>& done) {
        if (!done && first) first = done;
    };
    const auto view = this->view();
    if (!view) return std::unexpected(view.error());
    for (unsigned vf = 0; vf < vfs_; ++vf) note(park(vf, *view));
    if (const auto all = table(*view))
        for (const auto& [slot, entry] : *all) note(clear_entry(slot));
    else
        note(std::unexpected(all.error()));
    for (unsigned slot = 1; slot < chip_.vlan_entries; ++slot) note(nic_.change(Reg::vlvf, slot, all_ones, 0));
    note(empty_vfta(nic_, view->vlans));
    note(write(UnknownToPf{.on = false}));
    return first;
}

}  // namespace

Result<std::unique_ptr<Backend>> make_igb(std::unique_ptr<PfLink> link, std::unique_ptr<Registers> registers,
                                          std::vector<std::string> shortcomings, WireTags tags) {
    const auto view = link->view();
    if (!view) return std::unexpected(view.error());
    return std::make_unique<Igb>(std::move(link), std::move(registers), std::move(shortcomings), tags, *view);
}

}  // namespace ivds::offload
