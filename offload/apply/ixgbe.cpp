// SPDX-License-Identifier: Apache-2.0
#include "apply/ixgbe.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <map>
#include <set>
#include <utility>

#include "apply/parking.h"
#include "apply/vfta.h"
#include "nic/82599.h"
#include "nic/access.h"
#include "nic/writer_82599.h"

namespace ivds::offload {

using namespace i82599;

namespace {

constexpr unsigned uta_words = 128;
// The last entry of the address table: on cards with an address for storage the driver keeps it for that.
constexpr unsigned storage_slot = 127;
constexpr unsigned full_speed_mbps = 10'000;

constexpr std::uint32_t bit(unsigned pool) {
    return 1U << (pool % 32);
}

class Ixgbe final : public Backend {
public:
    Ixgbe(std::unique_ptr<PfLink> link, std::unique_ptr<Registers> registers, std::vector<std::string> shortcomings,
          const PfView& view)
        : link_(std::move(link)),
          registers_(std::move(registers)),
          nic_(*registers_, "82599"),
          shortcomings_(std::move(shortcomings)),
          vfs_(static_cast<unsigned>(view.vfs.size())),
          writer_(*registers_, vfs_),
          chip_(i82599::chip()) {
        chip_.virtual_functions = vfs_;
        chip_.one_mac_per_vf = true;
        // A VF has an entry also while it is off, and a plan must not count on it.
        chip_.mac_entries = storage_slot - std::min(vfs_, storage_slot);
        chip_.kept_mac_entries =
            std::min(chip_.kept_mac_entries + static_cast<unsigned>(view.device_addresses.size()), chip_.mac_entries);
        shortcomings_.emplace_back("this way was shown on a model of the driver alone, and on no card");
        shortcomings_.emplace_back(
            "a VF gets the multicast groups that its own driver asks for, as the driver of the PF decides on that");
        shortcomings_.emplace_back("the rate is that of each of a VF's queues");
        shortcomings_.emplace_back(
            "the addresses of the PF's interface are the plan's, but for those of devices on it in this network "
            "namespace; VLANs of such devices in others are not seen");
    }

    [[nodiscard]] std::string_view name() const override { return "kernel"; }
    [[nodiscard]] const Chip& chip() const override { return chip_; }
    [[nodiscard]] unsigned pf() const override { return vfs_; }
    [[nodiscard]] std::vector<std::string> shortcomings() const override { return shortcomings_; }

    Result<> prepare() override;
    Result<NicState> read() override;
    Result<> apply(const Step& step) override;
    Result<CountersOfPools> counters() override { return writer_.counters(); }
    [[nodiscard]] Registers* registers() override { return registers_.get(); }
    Result<> clear() override;

private:
    // An address in RAL, RAH and MPSAR.
    struct Entry {
        unsigned slot = 0;
        Mac mac{};
        PoolSet pools = 0;
    };
    struct Vlans {
        std::array<std::uint32_t, vfta_words> vfta{};
        std::array<std::uint32_t, 64> vlvf{};
        std::array<std::uint32_t, 128> members{};
    };

    Result<PoolSet> get64(Reg reg, unsigned pair = 0);
    Result<PfView> view() { return view_of(*link_, vfs_); }

    // All entries that a plan may want otherwise: not those of the PF itself, of devices on it and of storage, nor
    // where VFs are parked.
    Result<std::vector<Entry>> table(const PfView& view);
    Result<> clear_entry(unsigned slot);
    // The address means the PF, a VF (its pool), or nobody (no_pool). What else it means is taken back after that.
    static constexpr unsigned no_pool = 64;
    Result<> move(const Mac& mac, unsigned pool);

    Result<Vlans> vlans();
    // Gives the PF an address or takes it back, which makes the driver write the PF's modes anew.
    Result<> set_address(const Mac& mac, bool on);
    // Asks the driver for a VF's VLAN, which moves no other VLAN's entries.
    Result<> set_vlan(unsigned vf, std::uint16_t vlan, std::uint8_t pcp);
    Result<> park(unsigned vf, const PfView& view);
    Result<> turn(unsigned vf, bool on);
    Result<bool> is_proper(unsigned vf, const VfSettings& settings);
    Result<> set_rate(unsigned vf, unsigned mbps);

    Result<> write(const SetMac& step) { return move(step.mac, step.entry.pool); }
    Result<> write(const ClearMac& step) { return move(step.mac, no_pool); }
    Result<> write(const SetPool& step);
    Result<> write(const ClearPool& step);
    Result<> write(const SetUplink& step);
    Result<> write(const SetRate& step) { return set_rate(step.pool, step.rate_mbps); }
    Result<> write(const UnknownToPf& step);
    // What is no VF's and no address is registers alone.
    template <class Other>
    Result<> write(const Other& step) {
        return writer_.apply(step);
    }

    std::unique_ptr<PfLink> link_;
    std::unique_ptr<Registers> registers_;
    ChipRegisters<Reg> nic_;
    std::vector<std::string> shortcomings_;
    unsigned vfs_;
    Writer82599 writer_;
    Chip chip_;
};

Result<PoolSet> Ixgbe::get64(Reg reg, unsigned pair) {
    const auto low = nic_.get(reg, 2 * pair);
    if (!low) return std::unexpected(low.error());
    const auto high = nic_.get(reg, 2 * pair + 1);
    if (!high) return std::unexpected(high.error());
    return PoolSet{*high} << 32 | *low;
}

Result<std::vector<Ixgbe::Entry>> Ixgbe::table(const PfView& view) {
    std::vector<Entry> out;
    for (unsigned slot = 1; slot <= storage_slot; ++slot) {
        const auto high = nic_.get(Reg::rah, slot);
        if (!high) return std::unexpected(high.error());
        if (rah::av(*high) == 0) continue;
        const auto low = nic_.get(Reg::ral, slot);
        if (!low) return std::unexpected(low.error());
        const auto pools = get64(Reg::mpsar, slot);
        if (!pools) return std::unexpected(pools.error());
        const Entry entry{.slot = slot, .mac = mac_of(*low, *high), .pools = *pools};
        if (entry.pools == pool_bit(vfs_) && (view.device_addresses.contains(entry.mac) ||
                                              (slot == storage_slot && !view.addresses.contains(entry.mac))))
            continue;
        const auto vf = static_cast<unsigned>(std::countr_zero(entry.pools));
        if (std::has_single_bit(entry.pools) && vf < vfs_ && entry.mac == parking_address(view.mac, vf)) continue;
        out.push_back(entry);
    }
    return out;
}

Result<> Ixgbe::clear_entry(unsigned slot) {
    return in_turn([&] { return nic_.put(Reg::rah, slot, 0); }, [&] { return nic_.put(Reg::ral, slot, 0); },
                   [&] { return nic_.put(Reg::mpsar, 2 * slot, 0); },
                   [&] { return nic_.put(Reg::mpsar, 2 * slot + 1, 0); });
}

Result<> Ixgbe::set_address(const Mac& mac, bool on) {
    const auto modes = nic_.get(Reg::pfvml2flt, vfs_);
    if (!modes) return std::unexpected(modes.error());
    return in_turn([&] { return link_->set_address(mac, on); },
                   [&] { return nic_.change(Reg::pfvml2flt, vfs_, pfvml2flt::rope.put(), *modes); });
}

Result<> Ixgbe::move(const Mac& mac, unsigned pool) {
    const auto before = this->view();
    if (!before) return std::unexpected(before.error());
    const auto held = table(*before);
    if (!held) return std::unexpected(held.error());
    const auto means = [&mac](const std::vector<Entry>& entries, PoolSet pools) {
        return std::ranges::any_of(entries, [&](const Entry& at) { return at.mac == mac && at.pools == pools; });
    };
    // Where it is to be, it is asked for again also where the driver believes it to be: the NIC may not hold it.
    if (pool == vfs_ && !before->device_addresses.contains(mac) && !means(*held, pool_bit(vfs_))) {
        if (before->addresses.contains(mac))
            if (auto done = set_address(mac, false); !done) return done;
        if (auto done = set_address(mac, true); !done) return done;
    }
    if (pool < vfs_ && (before->vfs[pool].mac != mac || !means(*held, pool_bit(pool)))) {
        const Mac& now = before->vfs[pool].mac;
        if (now != mac &&
            std::ranges::any_of(*held, [&](const Entry& at) { return at.mac == now && at.pools == pool_bit(pool); }))
            return fail(Code::unsupported, "IVDS-O014",
                        fmt::format("VF {} has {} and cannot have {} too: ixgbe gives a VF one address", pool,
                                    format_mac(now), format_mac(mac)),
                        "give its vPort one address");
        if (auto done = link_->set_vf_mac(pool, mac); !done) return done;
    }
    if (pool != vfs_ && before->addresses.contains(mac) && !before->device_addresses.contains(mac))
        if (auto done = set_address(mac, false); !done) return done;
    for (unsigned vf = 0; vf < vfs_; ++vf)
        if (vf != pool && before->vfs[vf].mac == mac)
            if (auto done = link_->set_vf_mac(vf, parking_address(before->mac, vf)); !done) return done;
    // What is left was written by somebody else.
    const auto after = this->view();
    if (!after) return std::unexpected(after.error());
    const auto now = table(*after);
    if (!now) return std::unexpected(now.error());
    bool meant = pool == no_pool || (pool == vfs_ && after->device_addresses.contains(mac));
    for (const Entry& entry : *now) {
        if (entry.mac != mac) continue;
        if (pool != no_pool && entry.pools == pool_bit(pool) && !meant)
            meant = true;
        else if (auto done = clear_entry(entry.slot); !done)
            return done;
    }
    if (meant) return {};
    return fail(Code::conflict, "IVDS-O012",
                fmt::format("{} was given to pool {}, and is not", format_mac(mac), pool),
                "look for another writer of the NIC, and at the kernel's log");
}

Result<Ixgbe::Vlans> Ixgbe::vlans() {
    Vlans out;
    const auto take = [this](Reg reg, auto& into) -> Result<> {
        for (unsigned i = 0; i < into.size(); ++i) {
            const auto word = nic_.get(reg, i);
            if (!word) return std::unexpected(word.error());
            into[i] = *word;
        }
        return {};
    };
    auto done = in_turn([&] { return take(Reg::vfta, out.vfta); }, [&] { return take(Reg::pfvlvf, out.vlvf); },
                        [&] { return take(Reg::pfvlvfb, out.members); });
    return done ? Result<Vlans>(out) : std::unexpected(done.error());
}

Result<> Ixgbe::set_vlan(unsigned vf, std::uint16_t vlan, std::uint8_t pcp) {
    const auto before = vlans();
    if (!before) return std::unexpected(before.error());
    if (auto done = link_->set_vf_vlan(vf, vlan, pcp); !done) return done;
    // Slot 0 is VLAN 0's, and the driver's.
    for (unsigned i = 1; i < before->vlvf.size(); ++i)
        if (auto done =
                in_turn([&] { return nic_.change(Reg::pfvlvfb, 2 * i, all_ones, before->members[2 * i]); },
                        [&] { return nic_.change(Reg::pfvlvfb, 2 * i + 1, all_ones, before->members[2 * i + 1]); },
                        [&] { return nic_.change(Reg::pfvlvf, i, all_ones, before->vlvf[i]); });
            !done)
            return done;
    for (unsigned i = 0; i < before->vfta.size(); ++i)
        if (auto done = nic_.change(Reg::vfta, i, all_ones, before->vfta[i]); !done) return done;
    return {};
}

Result<> Ixgbe::turn(unsigned vf, bool on) {
    const std::uint32_t value = on ? bit(vf) : 0;
    const auto link = [&]() -> Result<> {
        auto done = link_->set_vf_link(vf, on);
        // A driver that does not know it turns the VF on when its VM resets it; it is parked then.
        return done || done.error().code == Code::unsupported ? Result<>{} : done;
    };
    // Nothing is sent before replies could be received, nor after. Without a link the driver leaves the VF off.
    return on ? in_turn(
                    link, [&] { return nic_.change(Reg::pfvfre, vf / 32, bit(vf), value); },
                    [&] { return nic_.change(Reg::pfvfte, vf / 32, bit(vf), value); })
              : in_turn([&] { return nic_.change(Reg::pfvfte, vf / 32, bit(vf), value); },
                        [&] { return nic_.change(Reg::pfvfre, vf / 32, bit(vf), value); }, link);
}

Result<> Ixgbe::park(unsigned vf, const PfView& view) {
    const VfSettings& now = view.vfs.at(vf);
    return in_turn(
        [&] { return turn(vf, false); },
        [&] { return now.spoof_check ? Result<>{} : link_->set_vf_spoof_check(vf, true); },
        [&] { return now.trusted ? link_->set_vf_trusted(vf, false) : Result<>{}; },
        // The driver knows rates only while there is a link; one that is left harms nobody while the VF is off.
        [&] { return now.rate_mbps != 0 && view.carrier ? link_->set_vf_rate(vf, 0) : Result<>{}; },
        [&] { return now.vlan == parking_vlan && now.pcp == 0 ? Result<>{} : set_vlan(vf, parking_vlan, 0); });
}

Result<> Ixgbe::prepare() {
    auto view = this->view();
    if (!view) return std::unexpected(view.error());
    if (vfs_ == 0) return fail(Code::conflict, "IVDS-O010", "the PF has no VFs, and the NIC no pools", "create VFs");
    if (!view->up) return fail(Code::conflict, "IVDS-O010", "the PF's interface is down", "set it up");
    if (!view->promiscuous)
        if (auto done = link_->set_promiscuous(true); !done) return done;
    const auto switching = nic_.get(Reg::pfdtxgswc);
    if (!switching) return std::unexpected(switching.error());
    if (pfdtxgswc::lbe(*switching) == 0)
        if (auto done = link_->set_veb(); !done) return done;
    // A VF that is in no VLAN was never ours: it is new. Its VM could choose any address, and VLANs too.
    for (unsigned vf = 0; vf < vfs_; ++vf) {
        if (view->vfs[vf].vlan != 0) continue;
        auto done = in_turn([&] { return park(vf, *view); },
                            [&] { return link_->set_vf_mac(vf, parking_address(view->mac, vf)); });
        if (!done) return done;
    }
    return in_turn([&] { return writer_.check_switching(); }, [&] { return close_vfta(nic_, view->vlans); });
}

// A VF is proper if it is as SetPool leaves it, and stays so when it resets.
Result<bool> Ixgbe::is_proper(unsigned vf, const VfSettings& settings) {
    std::array<PoolSet, 4> pools{};
    constexpr std::array<Reg, 4> sets{Reg::pfvfre, Reg::pfvfte, Reg::pfvmtxsw, Reg::pfvlvfb};  // of VLAN 0's entry
    for (unsigned i = 0; i < sets.size(); ++i) {
        const auto value = get64(sets[i]);
        if (!value) return std::unexpected(value.error());
        pools[i] = *value;
    }
    const auto [receives, sends, to_itself, no_vlan] = pools;
    const auto checks = nic_.get(Reg::pfvfspoof, vf / 8);
    if (!checks) return std::unexpected(checks.error());
    const auto takes = nic_.get(Reg::pfvml2flt, vf);
    if (!takes) return std::unexpected(takes.error());
    const auto tag = nic_.get(Reg::pfvmvir, vf);
    if (!tag) return std::unexpected(tag.error());
    return (receives & sends & ~to_itself & ~no_vlan & pool_bit(vf)) != 0 &&
           (pfvfspoof::macas(*checks) & pfvfspoof::vlanas(*checks) & 1U << (vf % 8)) != 0 &&
           pfvml2flt::aupe(*takes) == 0 && pfvml2flt::rope(*takes) == 0 && pfvml2flt::bam(*takes) == 1 &&
           pfvmvir::vlana(*tag) == pfvmvir::always && settings.spoof_check && !settings.trusted &&
           pfvmvir::port_vlan(*tag) == (settings.vlan | static_cast<std::uint32_t>(settings.pcp << 13));
}

Result<NicState> Ixgbe::read() {
    const auto view = this->view();
    if (!view) return std::unexpected(view.error());
    if (auto ok = writer_.check_switching(); !ok) return std::unexpected(ok.error());
    NicState state;
    const auto receives = get64(Reg::pfvfre);
    if (!receives) return std::unexpected(receives.error());
    const auto sends = get64(Reg::pfvfte);
    if (!sends) return std::unexpected(sends.error());
    for (unsigned vf = 0; vf < vfs_; ++vf) {
        if (((*receives | *sends) & pool_bit(vf)) == 0 && is_parked(view->vfs[vf])) continue;
        const auto tag = nic_.get(Reg::pfvmvir, vf);
        if (!tag) return std::unexpected(tag.error());
        const auto proper = is_proper(vf, view->vfs[vf]);
        if (!proper) return std::unexpected(proper.error());
        NicPool& as = state.pools[vf];
        if (*proper) as.vvlan = static_cast<std::uint16_t>(pfvmvir::port_vlan(*tag) & 0xfff);
        as.pcp = static_cast<std::uint8_t>(pfvmvir::port_vlan(*tag) >> 13);
        as.rate_mbps = view->vfs[vf].rate_mbps;
    }
    const auto all = table(*view);
    if (!all) return std::unexpected(all.error());
    for (const Entry& entry : *all) {
        const auto pool = static_cast<unsigned>(std::countr_zero(entry.pools));
        const NicMac found{.slot = entry.slot, .pool = std::has_single_bit(entry.pools) ? pool : chip_.pools};
        const auto [at, fresh] = state.macs.try_emplace(entry.mac, found);
        if (!fresh && at->second.pool != found.pool) at->second.pool = chip_.pools;
    }
    if (auto done = writer_.read_tables(state); !done) return std::unexpected(done.error());
    std::erase_if(state.admitted, [&](std::uint16_t vid) { return vid == 0 || view->vlans.contains(vid); });
    return state;
}

Result<> Ixgbe::apply(const Step& step) {
    return std::visit([this](const auto& one) { return write(one); }, step);
}

Result<> Ixgbe::write(const SetPool& step) {
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
            return nic_.change(Reg::pfvml2flt, step.pool,
                               pfvml2flt::aupe.put() | pfvml2flt::rope.put() | pfvml2flt::bam.put(),
                               pfvml2flt::bam.put());
        },
        [&] { return nic_.change(Reg::pfvmtxsw, step.pool / 32, bit(step.pool), 0); },
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

Result<> Ixgbe::write(const ClearPool& step) {
    const auto view = this->view();
    return view ? park(step.pool, *view) : Result<>(std::unexpected(view.error()));
}

// A plan has these with two tags alone.
Result<> Ixgbe::write(const SetUplink& step) {
    return fail(Code::unsupported, "IVDS-O014", fmt::format("{}: ixgbe sets up single tags", text(step)),
                "let software carry it");
}

// The driver limits at full speed alone. A limit at that speed or above is none.
Result<> Ixgbe::set_rate(unsigned vf, unsigned mbps) {
    const unsigned limit = mbps < full_speed_mbps ? mbps : 0;
    const auto now = nic_.get(Reg::links);
    if (!now) return std::unexpected(now.error());
    if (limit != 0 && (links::up(*now) == 0 || links::speed(*now) != 3))
        return fail(Code::conflict, "IVDS-O026",
                    fmt::format("ixgbe limits VF {} to {} Mb/s only while the link is up at 10 Gb/s", vf, limit),
                    "bring the link up at 10 Gb/s, or leave the rate out");
    return link_->set_vf_rate(vf, limit);
}

Result<> Ixgbe::write(const UnknownToPf& step) {
    for (unsigned i = 0; i < uta_words; ++i)
        if (auto done = nic_.change(Reg::pfuta, i, all_ones, step.on ? all_ones : 0); !done) return done;
    return nic_.change(Reg::pfvml2flt, vfs_, pfvml2flt::rope.put(), pfvml2flt::rope.put(step.on ? 1 : 0));
}

Result<> Ixgbe::clear() {
    Result<> first;
    const auto note = [&](const Result<>& done) {
        if (!done && first) first = done;
    };
    const auto view = this->view();
    if (!view) return std::unexpected(view.error());
    for (unsigned vf = 0; vf < vfs_; ++vf) {
        note(park(vf, *view));
        // Also where the NIC does not hold it: the driver would bring it back.
        if (const Mac parked = parking_address(view->mac, vf); view->vfs[vf].mac != parked)
            note(link_->set_vf_mac(vf, parked));
    }
    if (const auto all = table(*view)) {
        std::set<Mac> macs;
        for (const Entry& entry : *all) macs.insert(entry.mac);
        for (const Mac& mac : macs) note(move(mac, no_pool));
    } else {
        note(std::unexpected(all.error()));
    }
    for (unsigned i = 0; i < chip_.mirror_rules; ++i) note(writer_.apply(ClearMirror{.target = 0, .slot = i}));
    note(writer_.clear_filters());
    for (unsigned slot = 1; slot < chip_.vlan_entries; ++slot) {
        note(nic_.change(Reg::pfvlvf, slot, all_ones, 0));
        note(nic_.change(Reg::pfvlvfb, 2 * slot, all_ones, 0));
        note(nic_.change(Reg::pfvlvfb, 2 * slot + 1, all_ones, 0));
    }
    note(empty_vfta(nic_, view->vlans));
    note(write(UnknownToPf{.on = false}));
    return first;
}

}  // namespace

Result<std::unique_ptr<Backend>> make_ixgbe(std::unique_ptr<PfLink> link, std::unique_ptr<Registers> registers,
                                            std::vector<std::string> shortcomings, WireTags tags) {
    if (tags.two)
        return fail(Code::unsupported, "IVDS-O014",
                    "two tags are a mode of the 82599 that ixgbe neither sets nor keeps when it resets the NIC",
                    "let software carry the uplink: offload: off");
    const auto view = link->view();
    if (!view) return std::unexpected(view.error());
    return std::make_unique<Ixgbe>(std::move(link), std::move(registers), std::move(shortcomings), *view);
}

}  // namespace ivds::offload
