// SPDX-License-Identifier: Apache-2.0
#include "agent/offload.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <utility>

#include "agent/offload_view.h"

namespace ivds {

namespace {

constexpr std::chrono::seconds kLook{5};

// In few words, what the NIC holds beside what it shall.
std::string difference(const offload::NicState& shall, const offload::NicState& is) {
    const auto count = [](const auto& a, const auto& b) {
        std::size_t n = 0;
        for (const auto& [key, entry] : a)
            if (const auto found = b.find(key); found == b.end() || !(found->second == entry)) ++n;
        for (const auto& [key, entry] : b)
            if (!a.contains(key)) ++n;
        return n;
    };
    return fmt::format("{} VFs, {} addresses and {} VLANs were not as they shall be", count(shall.pools, is.pools),
                       count(shall.macs, is.macs), count(shall.vlans, is.vlans));
}

}  // namespace

Result<> Offload::put(Tables tables, std::vector<NicIntent> intents, bool strict, bool refuse) {
    told_.reset();
    if (auto done = carry_out(tables, intents, strict, refuse); !done) {
        // What NICs gave up on the way to what was refused they take up again, and software what it held.
        told_.reset();
        if (holds_ && !nics_.empty())
            if (auto back = carry_out(tables_, intents_, false, false); !back)
                spdlog::error("the NICs are not as they were: {}", back.error().text());
        return done;
    }
    holds_ = true;
    tables_ = std::move(tables);
    intents_ = std::move(intents);
    return {};
}

void Offload::tick() {
    if (intents_.empty() || std::chrono::steady_clock::now() < next_look_) return;
    if (auto done = carry_out(tables_, intents_, false, false); !done) spdlog::warn("NICs: {}", done.error().text());
}

Result<> Offload::carry_out(const Tables& tables, const std::vector<NicIntent>& intents, bool strict, bool refuse) {
    next_look_ = std::chrono::steady_clock::now() + kLook;
    if (refuse)
        if (auto may = check_vfs(intents); !may) return may;
    auto works = plan_all(tables, intents, refuse);
    if (!works) return std::unexpected(works.error());
    for (auto nic = nics_.begin(); nic != nics_.end();) {
        const bool stays =
            std::ranges::any_of(intents, [&](const NicIntent& intent) { return intent.netdev == nic->first; });
        if (!stays && nic->second.backend != nullptr)
            if (auto done = nic->second.backend->clear(); !done)
                spdlog::warn("{}: {}", nic->first, done.error().text());
        if (!stays)
            for (const NicIntent& intent : intents_)
                if (intent.netdev == nic->first && intent.num_vfs != 0)
                    if (auto done = access_.set_vfs(nic->first, 0); !done)
                        spdlog::warn("{}: {}", nic->first, done.error().text());
        nic = stays ? std::next(nic) : nics_.erase(nic);
    }
    for (Work& work : *works) advance(work);
    if (auto done = tell_software(tables, strict); !done) return done;
    for (Work& work : *works) advance(work);
    if (auto done = tell_software(tables, false); !done) return done;
    bool failed = false;
    for (Work& work : *works) {
        advance(work);
        failed = failed || work.nic->backend == nullptr;
        work.plan.steps.clear();
        work.nic->plan = std::move(work.plan);
    }
    return failed ? tell_software(tables, false) : Result<>{};
}

Result<std::vector<Offload::Work>> Offload::plan_all(const Tables& tables, const std::vector<NicIntent>& intents,
                                                     bool refuse) {
    std::vector<Work> works;
    if (intents.empty()) return works;
    const offload::Snapshot snapshot = look_at(tables);
    for (const NicIntent& intent : intents) {
        Nic& nic = nics_[intent.netdev];
        offload::NicState present;
        if (auto done = open(intent, nic); done)
            nic.error.clear();
        else
            note(intent, nic, done.error());
        if (nic.backend != nullptr) {
            auto state = read(intent, nic);
            if (state)
                present = std::move(*state);
            else
                give_up(intent, nic, state.error());
        }
        if (nic.backend == nullptr) {
            if (refuse && !intent.choices.must.empty())
                return fail(Code::unavailable, "IVDS-O020",
                            fmt::format("uplink {}: vPorts must be in its NIC, and {}", intent.uplink, nic.error),
                            "set the NIC right, or leave offload: require out");
            works.push_back({.intent = &intent, .nic = &nic, .plan = {}});
            continue;
        }
        auto plan = plan_one(snapshot, intent, *nic.backend, present, refuse);
        if (!plan) return std::unexpected(plan.error());
        nic.known = std::move(present);
        works.push_back({.intent = &intent, .nic = &nic, .plan = std::move(*plan)});
    }
    return works;
}

Result<offload::Plan> Offload::plan_one(const offload::Snapshot& snapshot, const NicIntent& intent,
                                        const offload::Backend& backend, const offload::NicState& present,
                                        bool refuse) {
    offload::Choices choices = intent.choices;
    if (!refuse) choices.must.clear();
    auto plan = offload::make_plan(snapshot, device_of(intent, backend.chip(), backend.pf()), choices, present);
    if (!plan) return std::unexpected(plan.error().in("uplink " + intent.uplink));
    return plan;
}

Result<> Offload::check_vfs(const std::vector<NicIntent>& next) const {
    const auto of = [](const std::vector<NicIntent>& intents, const NicIntent& one) {
        const auto found = std::ranges::find(intents, one.netdev, &NicIntent::netdev);
        return found == intents.end() ? 0U : found->num_vfs;
    };
    const auto check = [&](const NicIntent& intent, unsigned count) -> Result<> {
        const auto may = access_.check_vfs(intent.netdev, count);
        // A NIC that is not there is no reason to refuse: it gets its VFs when it comes.
        if (may || (may.error().code != Code::conflict && may.error().code != Code::invalid)) return {};
        return std::unexpected(may.error().in("uplink " + intent.uplink));
    };
    for (const NicIntent& intent : next)
        if (intent.num_vfs != 0 && intent.num_vfs != of(intents_, intent))
            if (auto may = check(intent, intent.num_vfs); !may) return may;
    for (const NicIntent& intent : intents_)
        if (intent.num_vfs != 0 && std::ranges::find(next, intent.netdev, &NicIntent::netdev) == next.end())
            if (auto may = check(intent, 0); !may) return may;
    return {};
}

Result<> Offload::open(const NicIntent& intent, Nic& nic) {
    Result<> provided;
    if (const unsigned wanted = intent.num_vfs;
        wanted != 0 && (nic.backend == nullptr || nic.backend->pf() != wanted)) {
        provided = access_.check_vfs(intent.netdev, wanted);
        if (provided && nic.backend != nullptr)
            give_up(intent, nic,
                    fail(Code::unavailable, "IVDS-O021", fmt::format("it is given {} VFs", wanted)).error());
        if (provided) provided = access_.set_vfs(intent.netdev, wanted);
    }
    if (nic.backend != nullptr) return provided;
    auto opened = access_.open(intent.netdev);
    if (opened)
        if (auto ready = (*opened)->prepare(); !ready) opened = std::unexpected(ready.error());
    // That it has not its VFs also says why it cannot be opened.
    if (!opened) return provided ? Result<>(std::unexpected(opened.error())) : provided;
    nic.backend = std::move(*opened);
    nic.known = {};
    tell_(intent.uplink, fmt::format("NIC: {} by {}", nic.backend->chip().name, nic.backend->name()));
    return provided;
}

Result<offload::NicState> Offload::read(const NicIntent& intent, Nic& nic) {
    auto found = nic.backend->read();
    if (!found && found.error().code == Code::conflict) {
        // It holds what no plan makes.
        if (auto cleared = nic.backend->clear(); !cleared) return std::unexpected(cleared.error());
        found = nic.backend->read();
    }
    if (!found) return std::unexpected(found.error());
    offload::NicState state = offload::named(std::move(*found), nic.known);
    // Where the driver chooses an address's slot, that it chose another one than the plan is no news.
    for (auto& [mac, entry] : nic.known.macs)
        if (const auto held = state.macs.find(mac); held != state.macs.end()) entry.slot = held->second.slot;
    // A NIC that was never looked at is what somebody before left.
    if (!(state == nic.known) && !(nic.known == offload::NicState{})) {
        ++nic.drifts;
        nic.last_drift = difference(nic.known, state);
        tell_(intent.uplink, "NIC: " + nic.last_drift);
    }
    return state;
}

void Offload::advance(Work& work) {
    const auto& steps = work.plan.steps;
    if (work.nic->backend == nullptr) return;
    for (; work.done < steps.size(); ++work.done) {
        if (const auto* told = std::get_if<offload::Software>(&steps[work.done])) {
            work.nic->vports = told->vports;
            ++work.done;
            return;
        }
        if (auto done = work.nic->backend->apply(steps[work.done]); !done) {
            give_up(*work.intent, *work.nic, done.error().in(text(steps[work.done])));
            return;
        }
        offload::advance(work.nic->known, steps[work.done]);
    }
}

void Offload::give_up(const NicIntent& intent, Nic& nic, const Error& error) {
    if (auto cleared = nic.backend->clear(); !cleared) spdlog::warn("{}: {}", intent.netdev, cleared.error().text());
    nic.backend.reset();
    nic.known = {};
    nic.vports.clear();
    note(intent, nic, error);
}

void Offload::note(const NicIntent& intent, Nic& nic, const Error& error) {
    if (nic.error != error.text()) tell_(intent.uplink, "NIC: " + error.text());
    nic.error = error.text();
}

Result<> Offload::tell_software(const Tables& tables, bool strict) {
    std::set<std::uint32_t> vports;
    for (const auto& [netdev, nic] : nics_) vports.insert(nic.vports.begin(), nic.vports.end());
    if (told_ == vports) return {};
    if (auto done = plane_.apply(offload::as_software_sees(tables, vports), strict); !done) return done;
    told_ = std::move(vports);
    return {};
}

offload::Snapshot Offload::look_at(const Tables& tables) const {
    offload::Snapshot snapshot = offload::snapshot_of(tables);
    plane_.learned([&](const FdbRow& row) { snapshot.fdb.push_back({.key = row.key, .entry = row.entry}); });
    return snapshot;
}

Result<pb::OffloadReply> Offload::view(const pb::OffloadRequest& request, const Model& model, const Ids& ids) const {
    if (!request.uplink().empty() && !model.uplinks.contains(request.uplink()))
        return fail(Code::not_found, "IVDS-O024", fmt::format("there is no uplink {}", request.uplink()),
                    "ivds-ctl uplink list");
    pb::OffloadReply reply;
    for (const NicIntent& intent : intents_) {
        if (!request.uplink().empty() && request.uplink() != intent.uplink) continue;
        const Nic& nic = nics_.at(intent.netdev);
        pb::OffloadNic& out = *reply.add_nics();
        out.set_uplink(intent.uplink);
        out.set_netdev(intent.netdev);
        out.set_drifts(nic.drifts);
        out.set_last_drift(nic.last_drift);
        if (nic.backend == nullptr) {
            out.set_state("failed");
            out.set_error(nic.error);
            continue;
        }
        out.set_state("on");
        out.set_error(nic.error);
        out.set_chip(std::string(nic.backend->chip().name));
        out.set_backend(std::string(nic.backend->name()));
        out.set_vfs(nic.backend->pf());
        for (std::string& text : nic.backend->shortcomings()) out.add_shortcomings(std::move(text));
        view_plan(nic.plan, ids, out);
        if (!request.fdb()) continue;
        // As it is now: what was learned since the last look is in no NIC yet.
        const offload::Snapshot snapshot = look_at(tables_);
        const auto plan = plan_one(snapshot, intent, *nic.backend, nic.known, false);
        if (!plan) return std::unexpected(plan.error());
        view_fdb(*plan, snapshot, ids, out);
    }
    return reply;
}

}  // namespace ivds
