// SPDX-License-Identifier: Apache-2.0
#include "plan/steps.h"

#include <fmt/format.h>

#include <utility>

namespace ivds::offload {

namespace {

// The pools that mean the same before and after.
PoolSet staying_pools(const NicState& present, const NicState& wanted, unsigned pf) {
    PoolSet stay = pool_bit(pf);
    for (const auto& [pool, now] : present.pools)
        if (const auto next = wanted.pools.find(pool); next != wanted.pools.end() && next->second.same_place(now))
            stay |= pool_bit(pool);
    for (const unsigned pool : present.uplinks)
        if (wanted.uplinks.contains(pool)) stay |= pool_bit(pool);
    return stay;
}

// Builds the list, and keeps the state that it leads to.
class Builder {
public:
    Builder(NicState state, const NicState& wanted, unsigned pf)
        : state_(std::move(state)), wanted_(wanted), pf_(pf), stay_(staying_pools(state_, wanted, pf)) {}

    // Before its target is off, as copies for a pool that does not receive may hold up the others.
    void give_up_mirrors() {
        const std::map<unsigned, NicMirror> mirrors = state_.mirrors;
        for (const auto& [target, entry] : mirrors) {
            const auto next = wanted_.mirrors.find(target);
            if (next == wanted_.mirrors.end() || !is_staying(target) || next->second.slot != entry.slot) {
                add(ClearMirror{.target = target, .slot = entry.slot});
                continue;
            }
            const PoolSet sources = entry.sources & next->second.sources & stay_;
            if (sources != entry.sources)
                add(SetMirror{.target = target, .entry = {.slot = entry.slot, .sources = sources}});
        }
    }

    // Before its pool is another's.
    void give_up_filters() {
        const std::map<RxKey, NicFilter> filters = state_.filters;
        for (const auto& [key, entry] : filters) {
            const auto next = wanted_.filters.find(key);
            if (next == wanted_.filters.end() || next->second != entry || !is_staying(key.first))
                add(ClearFilter{.key = key, .slot = entry.slot});
        }
    }

    void give_up_macs() {
        const std::map<Mac, NicMac> macs = state_.macs;
        for (const auto& [mac, entry] : macs) {
            const auto next = wanted_.macs.find(mac);
            const bool stays =
                next != wanted_.macs.end() && next->second.pool == entry.pool && is_staying(entry.pool);
            if (!stays && entry.pool != pf_) add(SetMac{.mac = mac, .entry = {.slot = entry.slot, .pool = pf_}});
        }
    }

    void give_up_the_rest() {
        const NicState now = state_;
        for (const auto& [pool, as] : now.pools)
            if (!is_staying(pool)) add(ClearPool{.pool = pool});
        for (const unsigned pool : now.uplinks)
            if (!is_staying(pool)) add(ClearPool{.pool = pool});
        // Later than VFs that are uplinks: what is unknown would go to them and not to the PF.
        if (state_.unknown_to_pf && !wanted_.unknown_to_pf) add(UnknownToPf{.on = false});
        const std::set<std::uint16_t> admitted = state_.admitted;
        for (const std::uint16_t vvlan : admitted)
            if (!wanted_.admitted.contains(vvlan)) add(Admit{.vvlan = vvlan, .on = false});
        const std::map<std::uint16_t, NicVlan> vlans = state_.vlans;
        for (const auto& [vvlan, entry] : vlans) {
            const auto next = wanted_.vlans.find(vvlan);
            if (next == wanted_.vlans.end()) {
                add(ClearVlan{.vvlan = vvlan, .slot = entry.slot});
                continue;
            }
            const PoolSet members = entry.members & next->second.members & stay_;
            if (members != entry.members)
                add(SetVlan{.vvlan = vvlan, .entry = {.slot = entry.slot, .members = members}});
        }
    }

    void forget_macs() {
        const std::map<Mac, NicMac> macs = state_.macs;
        for (const auto& [mac, entry] : macs)
            if (!wanted_.macs.contains(mac)) add(ClearMac{.mac = mac, .slot = entry.slot});
        for (const auto& [mac, entry] : wanted_.macs)
            if (!state_.macs.contains(mac)) add(SetMac{.mac = mac, .entry = {.slot = entry.slot, .pool = pf_}});
    }

    void take_up() {
        for (const std::uint16_t vvlan : wanted_.admitted)
            if (!state_.admitted.contains(vvlan)) add(Admit{.vvlan = vvlan, .on = true});
        for (const auto& [vvlan, entry] : wanted_.vlans) {
            const auto now = state_.vlans.find(vvlan);
            if (now == state_.vlans.end() || now->second != entry) add(SetVlan{.vvlan = vvlan, .entry = entry});
        }
        if (wanted_.unknown_to_pf && !state_.unknown_to_pf) add(UnknownToPf{.on = true});
        for (const auto& [target, entry] : wanted_.mirrors) {
            const auto now = state_.mirrors.find(target);
            if (now == state_.mirrors.end() || now->second != entry) add(SetMirror{.target = target, .entry = entry});
        }
        for (const auto& [pool, as] : wanted_.pools) {
            const auto now = state_.pools.find(pool);
            if (now == state_.pools.end())
                add(SetPool{.pool = pool, .as = as});
            else if (now->second.rate_mbps != as.rate_mbps)
                add(SetRate{.pool = pool, .rate_mbps = as.rate_mbps});
        }
        for (const unsigned pool : wanted_.uplinks)
            if (!state_.uplinks.contains(pool)) add(SetUplink{.pool = pool});
        for (const auto& [key, entry] : wanted_.filters)
            if (!state_.filters.contains(key)) add(SetFilter{.key = key, .entry = entry});
        for (const auto& [mac, entry] : wanted_.macs)
            if (state_.macs.at(mac).pool != entry.pool) add(SetMac{.mac = mac, .entry = entry});
    }

    // The pools that are on now.
    void tell_software(bool take_tables) {
        Software told{.take_tables = take_tables};
        for (const auto& [pool, as] : state_.pools) told.vports.insert(as.vport);
        add(std::move(told));
    }
    // Those that will be on.
    void hand_over() {
        Software told;
        for (const auto& [pool, as] : wanted_.pools) told.vports.insert(as.vport);
        add(std::move(told));
    }

    [[nodiscard]] std::vector<Step> take() { return std::move(steps_); }

private:
    [[nodiscard]] bool is_staying(unsigned pool) const { return (stay_ & pool_bit(pool)) != 0; }
    void add(Step step) {
        advance(state_, step);
        steps_.push_back(std::move(step));
    }

    NicState state_;
    const NicState& wanted_;
    unsigned pf_;
    PoolSet stay_;
    std::vector<Step> steps_;
};

template <class... F>
struct Overloaded : F... {
    using F::operator()...;
};

}  // namespace

std::vector<Step> make_steps(const NicState& present, const NicState& wanted, unsigned pf) {
    Builder builder(present, wanted, pf);
    builder.give_up_mirrors();
    builder.give_up_filters();
    builder.give_up_macs();
    builder.give_up_the_rest();
    builder.tell_software(true);
    builder.forget_macs();
    builder.hand_over();
    builder.take_up();
    return builder.take();
}

void advance(NicState& state, const Step& step) {
    std::visit(Overloaded{
                   [&](const SetMac& set) { state.macs[set.mac] = set.entry; },
                   [&](const ClearMac& clear) { state.macs.erase(clear.mac); },
                   [&](const SetVlan& set) { state.vlans[set.vvlan] = set.entry; },
                   [&](const ClearVlan& clear) { state.vlans.erase(clear.vvlan); },
                   [&](const Admit& admit) {
                       if (admit.on)
                           state.admitted.insert(admit.vvlan);
                       else
                           state.admitted.erase(admit.vvlan);
                   },
                   [&](const SetPool& set) { state.pools[set.pool] = set.as; },
                   [&](const SetUplink& set) { state.uplinks.insert(set.pool); },
                   [&](const ClearPool& clear) {
                       state.pools.erase(clear.pool);
                       state.uplinks.erase(clear.pool);
                   },
                   [&](const SetRate& set) { state.pools.at(set.pool).rate_mbps = set.rate_mbps; },
                   [&](const SetMirror& set) { state.mirrors[set.target] = set.entry; },
                   [&](const ClearMirror& clear) { state.mirrors.erase(clear.target); },
                   [&](const SetFilter& set) { state.filters[set.key] = set.entry; },
                   [&](const ClearFilter& clear) { state.filters.erase(clear.key); },
                   [&](const UnknownToPf& set) { state.unknown_to_pf = set.on; },
                   [](const Software&) {},
               },
               step);
}

std::string text(const RxMatch& match) {
    const auto address = [](std::uint32_t of) {
        return fmt::format("{}.{}.{}.{}", of >> 24, of >> 16 & 0xff, of >> 8 & 0xff, of & 0xff);
    };
    std::string out = match.protocol == 6     ? "tcp"
                      : match.protocol == 17  ? "udp"
                      : match.protocol == 132 ? "sctp"
                                              : "ip";
    if (match.src != 0) out += " from " + address(match.src);
    if (match.src_port != 0) out += fmt::format(" from port {}", match.src_port);
    if (match.dst != 0) out += " to " + address(match.dst);
    if (match.dst_port != 0) out += fmt::format(" to port {}", match.dst_port);
    return out;
}

std::string text(const Step& step) {
    return std::visit(
        Overloaded{
            [](const SetMac& set) {
                return fmt::format("MAC slot {}: {} to pool {}", set.entry.slot, format_mac(set.mac), set.entry.pool);
            },
            [](const ClearMac& clear) {
                return fmt::format("MAC slot {}: free, was {}", clear.slot, format_mac(clear.mac));
            },
            [](const SetVlan& set) {
                return fmt::format("VLAN slot {}: V.VLAN {} with pools {:#x}", set.entry.slot, set.vvlan,
                                   set.entry.members);
            },
            [](const ClearVlan& clear) {
                return fmt::format("VLAN slot {}: free, was V.VLAN {}", clear.slot, clear.vvlan);
            },
            [](const Admit& admit) {
                return fmt::format("V.VLAN {} is {} from the wire", admit.vvlan, admit.on ? "taken" : "refused");
            },
            [](const SetPool& set) {
                return fmt::format("pool {}: on, V.VLAN {}, priority {}{}", set.pool, set.as.vvlan, set.as.pcp,
                                   set.as.rate_mbps != 0 ? fmt::format(", {} Mb/s", set.as.rate_mbps) : "");
            },
            [](const SetUplink& set) { return fmt::format("pool {}: on, an uplink", set.pool); },
            [](const ClearPool& clear) { return fmt::format("pool {}: off", clear.pool); },
            [](const SetRate& set) {
                return set.rate_mbps != 0 ? fmt::format("pool {}: {} Mb/s", set.pool, set.rate_mbps)
                                          : fmt::format("pool {}: no rate", set.pool);
            },
            [](const SetMirror& set) {
                return fmt::format("mirror {}: what reaches pools {:#x} to pool {} too", set.entry.slot,
                                   set.entry.sources, set.target);
            },
            [](const ClearMirror& clear) {
                return fmt::format("mirror {}: off, was to pool {}", clear.slot, clear.target);
            },
            [](const SetFilter& set) {
                return fmt::format("five-tuple filter {}: {} for pool {} to its queue {}", set.entry.slot,
                                   text(set.key.second), set.key.first, set.entry.queue);
            },
            [](const ClearFilter& clear) {
                return fmt::format("five-tuple filter {}: off, was {} for pool {}", clear.slot,
                                   text(clear.key.second), clear.key.first);
            },
            [](const UnknownToPf& set) {
                return fmt::format("unknown addresses {} to the PF", set.on ? "also" : "no more");
            },
            [](const Software& told) {
                return fmt::format("software{}: {} vPorts are in the NIC",
                                   told.take_tables ? " takes the tables" : "", told.vports.size());
            },
        },
        step);
}

}  // namespace ivds::offload
