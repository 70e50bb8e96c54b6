// SPDX-License-Identifier: Apache-2.0
#include "agent/offload.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <iterator>
#include <utility>

#include "agent/capture.h"
#include "agent/names.h"
#include "agent/offload_view.h"
#include "offload/plan/uplink.h"

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
    std::set<unsigned> uplinks;
    std::ranges::set_symmetric_difference(shall.uplinks, is.uplinks, std::inserter(uplinks, uplinks.end()));
    const std::size_t mirrors = count(shall.mirrors, is.mirrors);
    return fmt::format("{} VFs, {} addresses{} and {} VLANs were not as they shall be",
                       count(shall.pools, is.pools) + uplinks.size(), count(shall.macs, is.macs),
                       mirrors == 0 ? "" : fmt::format(", {} mirrors", mirrors), count(shall.vlans, is.vlans));
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
    // A program's first attachment resets the NIC below it.
    next_look_ = {};
    return {};
}

void Offload::tick() {
    if (!intents_.empty() && std::chrono::steady_clock::now() >= next_look_) look();
}

void Offload::look() {
    take_heat();
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
        if (!stays && nic->second.backend != nullptr) {
            if (auto done = nic->second.backend->clear(); !done)
                spdlog::warn("{}: {}", nic->first, done.error().text());
            count(nic->second, nic->second.known.pools, Reading::last);
        }
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
    count();
    return failed ? tell_software(tables, false) : Result<>{};
}

Result<std::vector<Offload::Work>> Offload::plan_all(const Tables& tables, const std::vector<NicIntent>& intents,
                                                     bool refuse) {
    std::vector<Work> works;
    if (intents.empty()) return works;
    const offload::Snapshot snapshot = look_at(tables);
    for (const NicIntent& intent : intents) {
        Nic& nic = nics_[intent.netdev];
        nic.uplink = intent.port;
        offload::NicState present;
        const offload::WireTags tags = offload::wire_tags(snapshot, intent.port);
        if (nic.backend != nullptr && nic.tags != tags) close(intent, nic);
        if (auto done = open(intent, nic, tags); done)
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
        // What somebody else turned off has counted for the last time, too.
        std::map<unsigned, offload::NicPool> gone = nic.known.pools;
        std::erase_if(gone, [&](const auto& was) {
            const auto now = present.pools.find(was.first);
            return now != present.pools.end() && now->second.vport == was.second.vport;
        });
        count(nic, gone, Reading::last);
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

Result<> Offload::open(const NicIntent& intent, Nic& nic, offload::WireTags tags) {
    Result<> provided;
    if (const unsigned wanted = intent.num_vfs;
        wanted != 0 && (nic.backend == nullptr || nic.backend->pf() != wanted)) {
        provided = access_.check_vfs(intent.netdev, wanted);
        if (provided && nic.backend != nullptr) close(intent, nic);
        if (provided) provided = access_.set_vfs(intent.netdev, wanted);
    }
    if (nic.backend != nullptr) return provided;
    auto opened = access_.open(intent.netdev, tags);
    if (opened)
        if (auto ready = (*opened)->prepare(); !ready) opened = std::unexpected(ready.error());
    // That it has not its VFs also says why it cannot be opened.
    if (!opened) return provided ? Result<>(std::unexpected(opened.error())) : provided;
    nic.backend = std::move(*opened);
    nic.tags = tags;
    nic.known = {};
    tell_(intent.uplink, fmt::format("NIC: {} by {}", nic.backend->chip().name, nic.backend->name()));
    return provided;
}

Result<offload::NicState> Offload::read(const NicIntent& intent, Nic& nic) {
    auto found = nic.backend->read();
    if (!found && found.error().code == Code::conflict) {
        const std::string why = "it was not set up: " + found.error().what;
        // Its driver has reset it, which a program's first attachment does as well: what prepare() did is gone.
        if (auto ready = nic.backend->prepare(); !ready) return std::unexpected(ready.error());
        found = nic.backend->read();
        if (!found && found.error().code == Code::conflict) {
            // It holds what no plan makes.
            if (auto cleared = nic.backend->clear(); !cleared) return std::unexpected(cleared.error());
            found = nic.backend->read();
        }
        if (found) {
            ++nic.drifts;
            nic.last_drift = why;
            tell_(intent.uplink, "NIC: " + why);
        }
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
    Nic& nic = *work.nic;
    if (nic.backend == nullptr) return;
    // A VF counts for its vPort from before it is on until after it is off. No run of steps turns one off and on.
    const auto& steps = work.plan.steps;
    std::map<unsigned, offload::NicPool> on;
    std::map<unsigned, offload::NicPool> off;
    for (std::size_t i = work.done; i < steps.size() && !std::holds_alternative<offload::Software>(steps[i]); ++i) {
        if (const auto* set = std::get_if<offload::SetPool>(&steps[i])) on[set->pool] = set->as;
        if (const auto* clear = std::get_if<offload::ClearPool>(&steps[i]))
            if (const auto was = nic.known.pools.find(clear->pool); was != nic.known.pools.end())
                off[clear->pool] = was->second;
    }
    count(nic, on, Reading::next);
    for (; work.done < steps.size(); ++work.done) {
        if (const auto* told = std::get_if<offload::Software>(&steps[work.done])) {
            nic.vports = told->vports;
            ++work.done;
            break;
        }
        if (auto done = nic.backend->apply(steps[work.done]); !done) {
            give_up(*work.intent, nic, done.error().in(text(steps[work.done])));
            return;
        }
        offload::advance(nic.known, steps[work.done]);
    }
    count(nic, off, Reading::last);
}

void Offload::count() const {
    for (const auto& [netdev, nic] : nics_) count(nic, nic.known.pools, Reading::next);
}

// A NIC that does not answer is found at the next look at what it holds; here its vPorts only leave it.
void Offload::count(const Nic& nic, const std::map<unsigned, offload::NicPool>& vfs, Reading reading) const {
    if (nic.backend == nullptr || vfs.empty()) return;
    const auto counters = nic.backend->counters();
    for (const auto& [pool, as] : vfs) {
        if (as.vport == 0) continue;
        const auto before = plane_.nic_stats(as.vport);
        if (!before) return spdlog::warn("counters of NICs: {}", before.error().text());
        ivds_nic_stats sum = before->value_or(offload::uncounted());
        if (counters)
            if (const auto now = counters->find(pool); now != counters->end())
                sum = offload::add_up(sum, {.uplink = nic.uplink, .pool = pool}, now->second);
        if (reading == Reading::last) sum.pool = IVDS_NO_POOL;
        if (auto done = plane_.set_nic_stats(as.vport, sum); !done)
            return spdlog::warn("counters of NICs: {}", done.error().text());
    }
}

void Offload::close(const NicIntent& intent, Nic& nic) {
    if (auto cleared = nic.backend->clear(); !cleared) spdlog::warn("{}: {}", intent.netdev, cleared.error().text());
    count(nic, nic.known.pools, Reading::last);
    nic.backend.reset();
    nic.known = {};
    nic.vports.clear();
}

void Offload::give_up(const NicIntent& intent, Nic& nic, const Error& error) {
    close(intent, nic);
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
    // A capture changes nothing about what it looks at: its vPorts stay in the NIC, where it does not see them.
    const bool has_captures =
        std::ranges::any_of(tables.mirrors, [](const auto& row) { return is_capture(row.second); });
    offload::Snapshot snapshot = offload::snapshot_of(has_captures ? without_captures(tables) : tables);
    std::set<std::string> netdevs;
    for (const auto& [id, row] : tables.ports)
        if (row.value.kind == IVDS_PORT_UPLINK) netdevs.insert(row.netdev);
    if (const auto seen = plane_.look(netdevs, false))
        for (const auto& [id, row] : tables.ports) {
            if (row.value.kind != IVDS_PORT_UPLINK) continue;
            const auto found = seen->find(row.netdev);
            if (found != seen->end())
                snapshot.ports.at(id).mtu_bytes =
                    static_cast<std::uint16_t>(std::min(found->second.netdev.mtu, 65535U));
        }
    snapshot.heat = heat_.by_port();
    plane_.learned([&](const FdbRow& row) { snapshot.fdb.push_back({.key = row.key, .entry = row.entry}); });
    return snapshot;
}

// A NIC that does not answer has no heat, and says why when it is read.
void Offload::take_heat() {
    std::map<std::uint32_t, std::uint64_t> software;
    for (const auto& [id, row] : tables_.ports)
        if (row.value.instance != 0) software[id] = plane_.frames(id);
    std::map<std::uint32_t, offload::PoolCounters> vfs;
    for (const NicIntent& intent : intents_) {
        const auto nic = nics_.find(intent.netdev);
        if (nic == nics_.end() || nic->second.backend == nullptr) continue;
        const auto counters = nic->second.backend->counters();
        if (!counters) continue;
        for (const auto& [vport, vf] : intent.vfs)
            if (const auto found = counters->find(vf); found != counters->end()) vfs[vport] = found->second;
    }
    heat_.look(software, vfs);
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
        if (auto done = view_traffic(intent, nic, ids, out); !done) return std::unexpected(done.error());
        if (request.registers()) {
            const auto looks = look(intent.uplink);
            if (!looks) return std::unexpected(looks.error());
            view_registers(*looks->front()->nic, out);
        }
        if (!request.fdb()) continue;
        // As it is now: what was learned since the last look is in no NIC yet.
        const offload::Snapshot snapshot = look_at(tables_);
        const auto plan = plan_one(snapshot, intent, *nic.backend, nic.known, false);
        if (!plan) return std::unexpected(plan.error());
        view_plan_fdb(*plan, snapshot, ids, out);
    }
    return reply;
}

bool Offload::is_on(std::uint32_t uplink) const {
    return std::ranges::any_of(intents_, [&](const NicIntent& intent) {
        return intent.port == uplink && nics_.at(intent.netdev).backend != nullptr;
    });
}

Result<std::vector<std::unique_ptr<Offload::Look>>> Offload::look(const std::string& uplink) const {
    std::vector<std::unique_ptr<Look>> looks;
    for (const NicIntent& intent : intents_) {
        if (!uplink.empty() && uplink != intent.uplink) continue;
        const Nic& nic = nics_.at(intent.netdev);
        const auto refuse = [&](const std::string& why) {
            return fail(Code::unavailable, "IVDS-O035", fmt::format("uplink {}: {}", intent.uplink, why),
                        "ivds-ctl offload show says what is in the way");
        };
        if (nic.backend == nullptr) return refuse("its NIC carries nothing: " + nic.error);
        offload::Registers* registers = nic.backend->registers();
        if (registers == nullptr) return refuse("its NIC's registers are not reached by this backend");
        auto look = std::make_unique<Look>();
        look->uplink = intent.uplink;
        look->chip = nic.backend->chip();
        look->device = device_of(intent, look->chip, nic.backend->pf());
        std::erase_if(look->device.uplinks, [&](const auto& row) { return !nic.known.uplinks.contains(row.second); });
        auto read = offload::verify::read_nic(look->chip, *registers);
        if (!read) return std::unexpected(read.error().in("uplink " + intent.uplink));
        look->nic = std::move(*read);
        looks.push_back(std::move(look));
    }
    return looks;
}

Result<> Offload::view_traffic(const NicIntent& intent, const Nic& nic, const Ids& ids, pb::OffloadNic& out) const {
    count(nic, nic.known.pools, Reading::next);
    const auto names = names_by_id(ids.ports);
    for (const auto& [vport, vf] : intent.vfs) {
        const auto stats = plane_.nic_stats(vport);
        if (!stats) return std::unexpected(stats.error());
        if (!*stats) continue;
        pb::NicTraffic& traffic = *out.add_traffic();
        traffic.set_vport(name_or_number(names, vport));
        traffic.set_vf(vf);
        *traffic.mutable_counters() = counters_of(**stats);
    }
    return {};
}

}  // namespace ivds
