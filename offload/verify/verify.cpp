// SPDX-License-Identifier: Apache-2.0
// The classes of frames, and what is said of each.
#include "verify/verify.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <tuple>
#include <unordered_set>

namespace ivds::offload::verify {

namespace {

constexpr Mac everyone{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr Mac some_group{0x01, 0x00, 0x5e, 0x7f, 0x00, 0x01};
constexpr Mac nobody{0x02, 0xaa, 0x55, 0x01, 0x00, 0x01};    // as a destination
constexpr Mac stranger{0x02, 0xbb, 0x55, 0x01, 0x00, 0x01};  // as a source
constexpr std::uint16_t guest_vid = 7;

// What is known of an address in an instance's table.
using Known = std::tuple<bool, std::uint32_t, std::uint16_t, std::uint8_t>;
Known known(const ivds_fdb_entry* entry) {
    return entry == nullptr ? Known{} : Known{true, entry->port, entry->vlan, entry->flags};
}

std::string name_in(const std::map<std::uint32_t, std::string>* names, std::uint32_t id) {
    if (names != nullptr)
        if (const auto found = names->find(id); found != names->end()) return found->second;
    return std::to_string(id);
}

unsigned kind_of(const Mac& mac) {
    if ((mac[0] & 1U) == 0) return 0;
    if (mac == everyone) return 1;
    return number(mac) >> 4 == 0x0180c200000 ? 2 : 3;
}

}  // namespace

std::string_view name(Fault fault) {
    switch (fault) {
#define IVDS_X(id, words) \
    case Fault::id:       \
        return #id;
        IVDS_VERIFY_FAULTS(IVDS_X)
#undef IVDS_X
    }
    return {};
}

std::string_view text(Fault fault) {
    switch (fault) {
#define IVDS_X(id, words) \
    case Fault::id:       \
        return words;
        IVDS_VERIFY_FAULTS(IVDS_X)
#undef IVDS_X
    }
    return {};
}

// One check of one image.
class Verifier::Run {
public:
    Run(const Verifier& of, const Nic& nic, const Options& options)
        : of_(of), options_(options), nic_(nic), device_(of.subject_.device) {}

    Verdict run() {
        say_of_registers();
        for (const auto& [port, what] : of_.policies_)
            report({.fault = Fault::policy,
                    .what = fmt::format("port {}: {}", of_.port_name(port), what),
                    .port = port});
        make_payloads();
        from_the_wire();
        for (unsigned pool = 0; pool < nic_.pools() && !done_; ++pool)
            if (pool != device_.pf && !of_.uplink_of_.contains(pool)) from_pool(pool);
        from_ports();
        from_the_host();
        return std::move(verdict_);
    }

private:
    [[nodiscard]] bool is_in_nic(std::uint32_t port) const { return of_.subject_.told.vports.contains(port); }
    [[nodiscard]] const Snapshot& tables() const { return of_.subject_.tables; }

    void report(Counterexample example) {
        ++verdict_.found;
        if (options_.stop_at_first) done_ = true;
        const bool first = told_.emplace(example.fault, example.port).second;
        if (first && verdict_.examples.size() < options_.examples) verdict_.examples.push_back(std::move(example));
    }

    // An interface of the host's: its queues are all on, and leave the tags where they are alike.
    void say_of_uplink(std::uint32_t uplink, unsigned pool) {
        const Nic::Queues queues = nic_.queues(pool);
        for (const unsigned queue : queues.off)
            report({.fault = Fault::lost,
                    .what = fmt::format("flows are hashed to queue {} of pool {}, which is off", queue, pool),
                    .port = uplink});
        for (const unsigned queue : queues.unlike)
            report({.fault = Fault::altered,
                    .what = fmt::format("queues 0 and {} of pool {} differ in whether they take the tag off", queue,
                                        pool),
                    .port = uplink});
    }

    void say_of_registers() {
        for (std::string& what : nic_.contradictions()) report({.fault = Fault::undefined, .what = std::move(what)});
        for (std::string& what : nic_.hidden()) report({.fault = Fault::hidden, .what = std::move(what)});
        for (const unsigned queue : nic_.queues(device_.pf).off)
            report({.fault = Fault::lost,
                    .what = fmt::format("flows are hashed to queue {} of the PF, which is off", queue)});
        for (const auto& [uplink, pool] : device_.uplinks) say_of_uplink(uplink, pool);
        for (const std::uint32_t vport : of_.subject_.told.vports) {
            const auto pool = device_.pools.find(vport);
            if (pool == device_.pools.end() || pool->second >= nic_.pools()) continue;
            const Nic::Queues queues = nic_.queues(pool->second);
            if (!queues.sends || !queues.receives || !queues.off.empty()) verdict_.idle.insert(pool->second);
            for (const unsigned queue : queues.unlike)
                report({.fault = Fault::altered,
                        .what = fmt::format("queues 0 and {} of pool {} differ in whether they take the tag off",
                                            queue, pool->second),
                        .port = vport});
        }
    }

    // Besides the first, which no filter is for.
    void make_payloads() {
        payloads_ = nic_.filtered_payloads();
        payloads_.push_back({.ethertype = 0x8808});
        std::set<std::uint16_t> taken;
        for (const Payload& payload : payloads_) taken.insert(payload.ethertype);
        while (taken.contains(neutral_.ethertype)) ++neutral_.ethertype;
    }

    // Where a frame is: the instance that it is of, and the one that software behind the NIC takes it for, by its
    // tag. They differ where something is wrong.
    struct In {
        std::uint32_t of = 0;
        std::uint32_t taken_for = 0;
        explicit In(std::uint32_t instance) : of(instance), taken_for(instance) {}
        In(std::uint32_t instance, std::uint32_t behind) : of(instance), taken_for(behind) {}
        auto operator<=>(const In&) const = default;
    };

    // An address that the instance and the NIC do not know; `hash`: what it falls on.
    [[nodiscard]] Mac fresh(Mac mac, const In& in, std::optional<unsigned> hash) const {
        for (unsigned n = 0; n < 256; ++n) {
            mac[2] = static_cast<std::uint8_t>(mac[2] + 1);
            const Mac one = hash ? nic_.with_hash(mac, *hash) : mac;
            if (nic_.address(one) == nullptr && of_.alone_.entry(in.of, one) == nullptr &&
                of_.beside_.entry(in.taken_for, one) == nullptr)
                return one;
        }
        return mac;
    }

    [[nodiscard]] std::vector<Mac> candidates(const In& in) const {
        std::vector<Mac> out;
        for (const std::uint32_t instance : std::set<std::uint32_t>{in.of, in.taken_for})
            if (const auto found = of_.macs_.find(instance); found != of_.macs_.end())
                out.insert(out.end(), found->second.begin(), found->second.end());
        for (const auto& [value, address] : nic_.addresses()) {
            Mac mac{};
            for (unsigned i = 0; i < 6; ++i) mac[i] = static_cast<std::uint8_t>(value >> (8 * (5 - i)));
            out.push_back(mac);
        }
        return out;
    }

    // One destination of each class.
    const std::vector<Mac>& destinations(const In& in) {
        const auto [at, fresh_one] = destinations_.try_emplace(in);
        if (!fresh_one) return at->second;
        std::vector<Mac> all = candidates(in);
        all.push_back(everyone);
        for (std::uint8_t last = 0; last < 16; ++last) all.push_back({0x01, 0x80, 0xc2, 0, 0, last});
        for (const bool set : {false, true}) {
            if (const auto hash = nic_.first_hash(Nic::Hash::unicast, set)) all.push_back(fresh(nobody, in, hash));
            if (const auto hash = nic_.first_hash(Nic::Hash::multicast, set))
                all.push_back(fresh(some_group, in, hash));
        }
        std::set<std::tuple<unsigned, bool, bool, bool, PoolSet, Known, Known>> seen;
        for (const Mac& mac : all) {
            const unsigned kind = kind_of(mac);
            const Nic::Address* address = nic_.address(mac);
            const bool in_hash = nic_.in_hash(kind == 0 ? Nic::Hash::unicast : Nic::Hash::multicast, mac);
            const bool is_unicast = kind == 0;
            if (seen.emplace(kind, address != nullptr, in_hash, is_neighbour(mac),
                             address == nullptr ? 0 : address->pools,
                             is_unicast ? known(of_.alone_.entry(in.of, mac)) : Known{},
                             is_unicast ? known(of_.beside_.entry(in.taken_for, mac)) : Known{})
                    .second)
                at->second.push_back(mac);
        }
        return at->second;
    }

    // Whether a frame for an address that its instance does not know may be kept from the wire by the NIC: another
    // instance has it on this host, or the driver has it for the port.
    [[nodiscard]] bool is_neighbour(const Mac& mac) const {
        const Nic::Address* address = nic_.address(mac);
        return address != nullptr &&
               (of_.local_.contains(number(mac)) || address->slot < device_.chip->kept_mac_entries);
    }

    // One source of each class, for frames that come in by `port`, or by a pool. The first is a good one.
    [[nodiscard]] std::vector<Mac> sources(const In& in, std::uint32_t port, std::optional<unsigned> pool) const {
        std::vector<Mac> all;
        Mac vmac{};
        const ivds_port* at = of_.alone_.port(port);
        const bool is_vport = at != nullptr && at->kind != IVDS_PORT_UPLINK;
        if (is_vport) {
            std::ranges::copy(at->vmac, vmac.begin());
            all.push_back(vmac);
        }
        all.push_back(fresh(stranger, in, std::nullopt));
        std::ranges::copy(candidates(in), std::back_inserter(all));
        all.push_back(some_group);
        all.push_back({});
        std::set<std::tuple<bool, bool, bool, bool, Known, Known>> seen;
        std::vector<Mac> out;
        // Of an entry counts whether it is there, static, here, plain, or of a vPort in the NIC.
        const auto shape = [&](const ivds_fdb_entry* entry) {
            if (entry == nullptr) return Known{};
            const std::uint32_t where = entry->port == port ? 1 : is_in_nic(entry->port) ? 2 : 3;
            return Known{true, where, std::uint16_t{0}, entry->flags};
        };
        for (const Mac& mac : all) {
            const Nic::Address* address = nic_.address(mac);
            const bool of_pool = pool && address != nullptr && (address->pools & pool_bit(*pool)) != 0;
            if (seen.emplace((mac[0] & 1U) != 0, number(mac) == 0, is_vport && mac == vmac, of_pool,
                             shape(of_.alone_.entry(in.of, mac)), shape(of_.beside_.entry(in.taken_for, mac)))
                    .second)
                out.push_back(mac);
        }
        return out;
    }

    // A VID of each class: the same to the NIC, and of one instance or none.
    const std::vector<std::uint16_t>& vids() {
        if (!vids_.empty()) return vids_;
        std::set<std::tuple<bool, PoolSet, std::uint64_t, std::uint32_t, bool>> seen;
        for (unsigned n = 0; n < 4096; ++n) {
            const auto vid = static_cast<std::uint16_t>(n);
            const Nic::Group& group = nic_.group(vid);
            // With two tags each registered one is a class of its own.
            const auto row = of_.cable_.vvlans().find(vid);
            const std::uint32_t registered = row != of_.cable_.vvlans().end()    ? row->second + 1
                                             : of_.cable_.inners().contains(vid) ? vid
                                                                                 : 0U;
            if (seen.emplace(group.admitted, group.pools, nic_.has_vlan_mirror() ? group.slots : 0, registered,
                             vid == 0 || vid > IVDS_VLAN_MAX)
                    .second)
                vids_.push_back(vid);
        }
        return vids_;
    }

    // Tags behind whatever the fabric's port adds; of a type that somebody here knows each class of VIDs.
    [[nodiscard]] std::vector<Tags> stacks(std::uint16_t type) {
        std::vector<Tags> out{{}};
        for (const std::uint16_t tpid : std::set<std::uint16_t>{of_.cable_.tpid(), type, tpid_c, tpid_s, tpid_q}) {
            if (tpid != of_.cable_.tpid() && tpid != type) {
                out.push_back({{.tpid = tpid, .tci = guest_vid}});
                continue;
            }
            for (const std::uint16_t vid : vids()) out.push_back({{.tpid = tpid, .tci = vid}});
        }
        return out;
    }

    void from_the_wire() {
        const Enter enter{.by = Enter::By::uplink, .port = device_.uplink};
        const bool counts_cfi = nic_.looks_at_cfi();
        for (const Tags& outer : of_.cable_.outers())
            for (const Tags& inner : stacks(nic_.type_in())) {
                if (done_) return;
                Tags tags = outer;
                for (unsigned i = 0; i < inner.size(); ++i) tags.insert(tags.size(), inner[i]);
                walk_wire(enter, tags, true);
                if (inner.empty()) continue;
                Tags guest = tags;
                guest.insert(guest.size(), {.tpid = tpid_c, .tci = guest_vid});
                walk_wire(enter, guest, false);
                guest[guest.size() - 1].tci = 0;
                walk_wire(enter, guest, false);
                if (!counts_cfi) continue;
                tags[tags.size() - 1].tci |= 0x1000;
                walk_wire(enter, tags, false);
            }
        for (const auto& [id, port] : tables().ports) {
            if (port.kind != IVDS_PORT_UPLINK || of_.is_on_wire(id)) continue;
            for (const auto& [key, instance] : tables().vvlans)
                if (key[0] == id && !done_)
                    walk_wire({.by = Enter::By::uplink, .port = id},
                              {{.tpid = ntohs(port.outer_tpid_be), .tci = static_cast<std::uint16_t>(key[1])},
                               {.tpid = ntohs(port.inner_tpid_be), .tci = static_cast<std::uint16_t>(key[2])}},
                              true);
        }
    }

    // From every kind of source, with every payload; or from one and with one.
    void walk_wire(const Enter& enter, const Tags& tags, bool all) {
        Probe probe{.enter = enter, .frame = {.tags = tags}};
        Software::Told told;
        probe.frame.dst = everyone;
        probe.frame.src = stranger;
        of_.alone(probe, told);
        const In in(told.instance);
        const ivds_instance* of = of_.alone_.instance(told.instance);
        // What is the host's is as long as its interface takes.
        const ivds_port* uplink = of_.alone_.port(enter.port);
        unsigned longest = of == nullptr ? 0 : of->mtu_bytes;
        if (of == nullptr && uplink != nullptr && uplink->mtu_bytes > 4 * tags.size())
            longest = uplink->mtu_bytes - 4 * tags.size();
        walk(probe, in, all ? sources(in, enter.port, std::nullopt) : std::vector{fresh(stranger, in, std::nullopt)},
             all, longest);
    }

    // Each destination from each source, and the other payloads from the first of them.
    void walk(Probe& probe, const In& in, const std::vector<Mac>& from, bool all_payloads, unsigned longest) {
        const std::vector<Mac>& to = destinations(in);
        probe.frame.payload = neutral_;
        for (const Mac& source : from) {
            probe.frame.src = source;
            for (const Mac& destination : to) {
                if (done_) return;
                probe.frame.dst = destination;
                judge(probe);
            }
        }
        if (!all_payloads || from.empty()) return;
        const auto each = [&](const Payload& payload) {
            probe.frame.payload = payload;
            probe.frame.src = from.front();
            for (const Mac& destination : to) {
                if (done_) return;
                probe.frame.dst = destination;
                judge(probe);
            }
        };
        for (const Payload& payload : payloads_) each(payload);
        if (longest <= neutral_.l3_bytes) return;
        Payload longer = neutral_;
        longer.l3_bytes = longest;
        each(longer);
    }

    void from_pool(unsigned pool) {
        const auto vf = of_.vport_of_.find(pool);
        const bool in_nic = vf != of_.vport_of_.end() && is_in_nic(vf->second);
        // Where its own queue is off nothing comes from it, and nothing is missed.
        if (!nic_.can_send(pool) && (!in_nic || !nic_.queues(pool).sends)) return;
        const Enter enter{.by = Enter::By::pool, .port = in_nic ? vf->second : 0, .pool = pool};
        const ivds_port* port = in_nic ? of_.alone_.port(enter.port) : nullptr;
        const std::uint32_t instance = port == nullptr ? 0 : port->instance;
        const ivds_instance* of = of_.alone_.instance(instance);
        const unsigned longest = port == nullptr || of == nullptr ? 0U : std::min(port->mtu_bytes, of->mtu_bytes);
        const std::optional<std::uint16_t> adds = nic_.adds_tag(pool);
        std::vector<Tags> tags{{}};
        for (const std::uint16_t tpid : std::set<std::uint16_t>{nic_.type_out(), tpid_c, tpid_s}) {
            tags.push_back({{.tpid = tpid, .tci = 0}});
            tags.push_back({{.tpid = tpid, .tci = of == nullptr ? guest_vid : of->vvlan}});
        }
        if (!adds) tags = stacks(nic_.type_out());
        for (const Tags& stack : tags) {
            const std::uint16_t vid = adds ? *adds : stack.empty() ? std::uint16_t{0} : stack[0].vid();
            const auto behind = of_.cable_.vvlans().find(vid);
            const In in(instance, behind == of_.cable_.vvlans().end() ? instance : behind->second);
            Probe probe{.enter = enter, .frame = {.tags = stack}};
            walk(probe, in, sources(in, enter.port, pool), true, longest);
        }
    }

    // A VM's own tags, of a port of software's. Where frames leave without a V.VLAN they are what the NIC then sees.
    [[nodiscard]] std::vector<Tags> guest_stacks(std::uint32_t instance) {
        const ivds_instance* of = of_.beside_.instance(instance);
        bool plain =
            of != nullptr && ((of->flags & IVDS_IF_PLAIN_OUT) != 0 || (of->vvlan == 0 && !of_.cable_.is_single()));
        if (const auto macs = of_.macs_.find(instance); macs != of_.macs_.end())
            for (const Mac& mac : macs->second) {
                const ivds_fdb_entry* entry = of_.beside_.entry(instance, mac);
                plain |= entry != nullptr && (entry->flags & IVDS_FDB_PLAIN) != 0;
            }
        if (plain) return stacks(nic_.type_out());
        return {{},
                {{.tpid = tpid_c, .tci = 0}},
                {{.tpid = tpid_c, .tci = guest_vid}},
                {{.tpid = tpid_s, .tci = guest_vid}}};
    }

    void from_ports() {
        for (const auto& [id, port] : tables().ports) {
            if (done_) return;
            if (port.kind == IVDS_PORT_PATCH) {
                for (const Tags& tags : guest_stacks(port.instance)) {
                    Probe probe{.enter = {.by = Enter::By::patch, .port = id}, .frame = {.tags = tags}};
                    walk(probe, In(port.instance), {fresh(stranger, In(port.instance), std::nullopt)}, false, 0);
                }
                continue;
            }
            if (port.kind != IVDS_PORT_VPORT || is_in_nic(id)) continue;
            const In in(port.instance);
            const std::vector<Mac> from = sources(in, id, device_.pf);
            const ivds_instance* of = of_.alone_.instance(port.instance);
            const unsigned longest = of == nullptr ? 0U : std::min(port.mtu_bytes, of->mtu_bytes);
            const Enter enter{.by = Enter::By::port, .port = id};
            for (const Tags& tags : guest_stacks(port.instance)) {
                Probe probe{.enter = enter, .frame = {.tags = tags}};
                walk(probe, in, from, tags.empty(), longest);
            }
            if ((port.flags & IVDS_PF_TRUNK) == 0) continue;
            for (const auto& [key, sub] : tables().vvlans) {
                const ivds_port* behind = key[0] == id ? of_.alone_.port(sub) : nullptr;
                if (behind == nullptr || behind->kind != IVDS_PORT_SUB) continue;
                const In within(behind->instance);
                const ivds_instance* its = of_.alone_.instance(behind->instance);
                const std::vector<Mac> senders = sources(within, sub, device_.pf);
                for (Tags tags : guest_stacks(behind->instance)) {
                    const bool all = tags.empty();
                    tags.insert(0, {.tpid = tpid_c, .tci = static_cast<std::uint16_t>(key[1])});
                    Probe probe{.enter = enter, .frame = {.tags = tags}};
                    walk(probe, within, senders, all,
                         its == nullptr ? 0U : std::min(behind->mtu_bytes, its->mtu_bytes));
                }
            }
        }
    }

    // The host's own frames, in no V.VLAN of the switch.
    void from_the_host() {
        for (const Tags& tags : stacks(nic_.type_out())) {
            if (done_) return;
            if (!tags.empty() && tags[0].tpid == of_.cable_.tpid() && of_.cable_.vvlans().contains(tags[0].vid()))
                continue;
            Probe probe{.enter = {.by = Enter::By::host}, .frame = {.tags = tags}};
            walk(probe, In(0), {fresh(stranger, In(0), std::nullopt)}, true, 0);
        }
    }

    // Whether the frame's instance lets it go there.
    [[nodiscard]] bool is_allowed(const Probe& probe, std::uint32_t instance, const Out& out) const {
        const bool from_wire = probe.enter.by == Enter::By::uplink;
        if (probe.enter.by == Enter::By::host) return out.port == device_.uplink || out.port == to_host;
        if (out.port == to_host) return from_wire && instance == 0;
        const ivds_port* port = of_.alone_.port(out.via);
        if (instance == 0 || port == nullptr) return false;
        if (port->kind != IVDS_PORT_UPLINK)
            return port->instance == instance || of_.is_mirrored_to(out.via, instance);
        const ivds_instance* of = of_.alone_.instance(instance);
        if (of == nullptr || of->uplink != out.port || (of->flags & IVDS_IF_WIRE) == 0 || out.tags.empty())
            return false;
        const std::uint16_t vlan = out.tags[0].vid();
        const ivds_fdb_entry* entry = of_.alone_.entry(instance, probe.frame.dst);
        const bool is_vlan = vlan == of->vlan ||
                             (vlan != 0 && std::ranges::find(of->peer_vlans, vlan) != std::end(of->peer_vlans)) ||
                             (entry != nullptr && vlan == entry->vlan);
        if (out.tags[0].tpid != ntohs(port->outer_tpid_be) || !is_vlan) return false;
        if (of->vvlan == 0) return true;
        const bool tagged =
            out.tags.size() > 1 && out.tags[1].tpid == ntohs(port->inner_tpid_be) && out.tags[1].vid() == of->vvlan;
        return tagged || (of->flags & IVDS_IF_PLAIN_OUT) != 0 ||
               (entry != nullptr && (entry->flags & IVDS_FDB_PLAIN) != 0);
    }

    // Whether the vPort, or one behind it, is the NIC's business.
    [[nodiscard]] bool touches(const Probe& probe, const Software::Told& alone, const std::vector<Out>& outs) const {
        const auto in_nic = [&](const Out& out) { return is_in_nic(out.via); };
        if (probe.enter.by == Enter::By::pool || std::ranges::any_of(outs, in_nic) ||
            std::ranges::any_of(alone.outs, in_nic))
            return true;
        const ivds_fdb_entry* entry = of_.alone_.entry(alone.instance, probe.frame.dst);
        return entry != nullptr && is_in_nic(entry->port);
    }

    // The limit that is the cause of a copy too much.
    [[nodiscard]] std::optional<Limit> why_extra(const Probe& probe, const Software::Told& alone,
                                                 const std::vector<Out>& outs) const {
        const bool from_wire = probe.enter.by == Enter::By::uplink;
        const bool near = touches(probe, alone, outs);
        const ivds_fdb_entry* source = of_.alone_.entry(alone.instance, probe.frame.src);
        const bool forged = source != nullptr && is_in_nic(source->port);
        if (from_wire && (near || forged) &&
            (alone.reason == IVDS_DROP_WIRE_SOURCE || alone.reason == IVDS_DROP_BAD_SOURCE ||
             alone.reason == IVDS_DROP_PLAIN_SOURCE))
            return Limit::wire_source;
        if (!near) return std::nullopt;
        if (has_guest_tags(probe)) return Limit::guest_tags;
        if (alone.control) return Limit::control;
        if (alone.too_long) return Limit::oversize;
        return std::nullopt;
    }
    [[nodiscard]] std::optional<Limit> why_missing(const Probe& probe, const Software::Told& alone,
                                                   const std::vector<Out>& outs, const Out& missing) const {
        if (has_guest_tags(probe) && touches(probe, alone, outs)) return Limit::guest_tags;
        if (probe.frame.is_multicast() && is_in_nic(missing.via) && nic_.vms_choose_multicast())
            return Limit::multicast;
        const bool is_unknown =
            probe.frame.is_unicast() && of_.alone_.entry(alone.instance, probe.frame.dst) == nullptr;
        if (!is_unknown) return std::nullopt;
        const ivds_port* port = of_.alone_.port(missing.via);
        if (port != nullptr && port->kind != IVDS_PORT_UPLINK && (port->flags & IVDS_PF_ANTI_SPOOF) != 0)
            return Limit::unknown;
        if (probe.enter.by != Enter::By::uplink && is_neighbour(probe.frame.dst)) return Limit::foreign;
        return std::nullopt;
    }
    // Tags that are neither the wire's nor a trunk's.
    [[nodiscard]] bool has_guest_tags(const Probe& probe) const {
        if (probe.enter.by == Enter::By::uplink) return probe.frame.tags.size() > of_.cable_.own_tags();
        const ivds_port* port = of_.alone_.port(probe.enter.port);
        const bool is_behind = probe.enter.by == Enter::By::port && port != nullptr && !probe.frame.tags.empty() &&
                               (port->flags & IVDS_PF_TRUNK) != 0 &&
                               tables().vvlans.contains({probe.enter.port, probe.frame.tags[0].vid(), 0});
        return probe.frame.tags.size() > (is_behind ? 1U : 0U);
    }

    void judge(const Probe& probe) {
        ++verdict_.classes;
        if (options_.each) options_.each(probe);
        of_.alone(probe, expected_);
        Doubts doubts;
        do {
            ++verdict_.walks;
            of_.together(nic_, probe, doubts, got_);
            leave_out_hosts(probe);
            if (probe.enter.by != Enter::By::host && got_ == expected_.outs) continue;
            compare(probe, doubts);
        } while (!done_ && doubts.next());
    }

    // A frame with a tag that is no V.VLAN of the uplink is the host's, if the driver lets its VLAN in: it does for
    // VLANs that the host has on the PF, and no table tells which.
    void leave_out_hosts(const Probe& probe) {
        if (probe.enter.by != Enter::By::uplink || probe.enter.port != device_.uplink || probe.frame.tags.empty() ||
            expected_.instance != 0)
            return;
        const auto is_host = [](const Out& out) { return out.port == to_host; };
        std::erase_if(expected_.outs, is_host);
        std::erase_if(got_, is_host);
    }

    void compare(const Probe& probe, const Doubts& doubts) {
        const auto fault = [&](Fault what, std::uint32_t port) { report(describe(probe, doubts, what, port)); };
        for (const Out& out : got_)
            if (!is_allowed(probe, expected_.instance, out)) return fault(Fault::leak, out.via);
        if (probe.enter.by == Enter::By::host) return;
        for (std::size_t i = 1; i < got_.size(); ++i) {
            const bool same = of_.is_on_wire(got_[i].via) ? got_[i] == got_[i - 1] : got_[i].via == got_[i - 1].via;
            if (same && std::ranges::count(expected_.outs, got_[i]) < 2) return fault(Fault::twice, got_[i].via);
        }
        std::set<Limit> excused;
        const auto has = [](const std::vector<Out>& outs, std::uint32_t via) {
            return std::ranges::find(outs, via, &Out::via) != outs.end();
        };
        for (const Out& out : got_) {
            if (std::ranges::binary_search(expected_.outs, out)) continue;
            const auto why = why_extra(probe, expected_, got_);
            if (!why) return fault(has(expected_.outs, out.via) ? Fault::altered : Fault::extra, out.via);
            excused.insert(*why);
        }
        for (const Out& out : expected_.outs) {
            if (std::ranges::binary_search(got_, out)) continue;
            const auto why = why_missing(probe, expected_, got_, out);
            if (!why) return fault(has(got_, out.via) ? Fault::altered : Fault::lost, out.via);
            excused.insert(*why);
        }
        for (const Out& out : expected_.outs) {
            if (std::ranges::count(expected_.outs, out) == std::ranges::count(got_, out) || !excused.empty())
                continue;
            if (!of_.is_mirrored_to(out.via, expected_.instance)) return fault(Fault::lost, out.via);
            excused.insert(Limit::one_copy);
        }
        for (const Limit limit : excused) ++verdict_.limits[limit];
    }

    [[nodiscard]] std::string place_of_entry(const Enter& enter) const {
        switch (enter.by) {
            case Enter::By::uplink:
                return fmt::format("by uplink {}", of_.port_name(enter.port));
            case Enter::By::pool:
                return enter.port == 0 ? fmt::format("by pool {}, which is no vPort's", enter.pool)
                                       : fmt::format("by vPort {} (VF {})", of_.port_name(enter.port), enter.pool);
            case Enter::By::port:
                return fmt::format("by vPort {}", of_.port_name(enter.port));
            case Enter::By::patch:
                return fmt::format("by patch {}", of_.port_name(enter.port));
            case Enter::By::host:
                break;
        }
        return "from the host by the PF";
    }

    [[nodiscard]] Counterexample describe(const Probe& probe, const Doubts& doubts, Fault fault, std::uint32_t port) {
        Counterexample out{.fault = fault,
                           .enter = probe.enter,
                           .frame = bytes(probe.frame),
                           .frame_text = text(probe.frame),
                           .port = (port & stray(0)) != 0 ? 0 : port,
                           .assumed = doubts.assumed()};
        for (const Out& one : expected_.outs) out.expected.push_back(of_.place(one));
        for (const Out& one : got_) out.got.push_back(of_.place(one));
        const auto about = std::ranges::find(got_, port, &Out::via);
        const auto missed = std::ranges::find(expected_.outs, port, &Out::via);
        const std::string where = about != got_.end()              ? of_.place(*about)
                                  : missed != expected_.outs.end() ? of_.place(*missed)
                                                                   : fmt::format("port {}", of_.port_name(port));
        const std::string whose = expected_.instance == 0
                                      ? "in no instance"
                                      : fmt::format("of instance {}", of_.instance_name(expected_.instance));
        constexpr std::array<std::string_view, 5> verbs{"reaches", "comes twice to", "comes also to",
                                                        "does not come to", "comes with other tags to"};
        out.what = fmt::format("a frame {} that comes in {} {} {}", whose, place_of_entry(probe.enter),
                               verbs[static_cast<std::size_t>(fault)], where);
        // Once more, with notes.
        Doubts same = doubts;
        std::vector<Out> outs;
        of_.together(nic_, probe, same, outs, &out.trail);
        return out;
    }

    const Verifier& of_;
    const Options& options_;
    const Nic& nic_;
    const Device& device_;
    Verdict verdict_;
    bool done_ = false;
    std::set<std::pair<Fault, std::uint32_t>> told_;
    Payload neutral_;
    std::vector<Payload> payloads_;
    std::map<In, std::vector<Mac>> destinations_;
    std::vector<std::uint16_t> vids_;
    Software::Told expected_;
    std::vector<Out> got_;
};

std::string Verifier::port_name(std::uint32_t port) const {
    return name_in(subject_.port_names, port);
}

std::string Verifier::instance_name(std::uint32_t instance) const {
    return name_in(subject_.instance_names, instance);
}

std::string Verifier::place(const Out& out) const {
    if (out.port == to_host) return "the host";
    if (is_on_wire(out.port)) return fmt::format("the wire, tags {}", text(out.tags));
    const std::string tags = out.tags.empty() ? "" : fmt::format(", tags {}", text(out.tags));
    if ((out.port & stray(0)) != 0) return fmt::format("pool {}, which is no vPort's{}", out.port & ~stray(0), tags);
    const ivds_port* port = alone_.port(out.via);
    const std::string in = port == nullptr || port->kind == IVDS_PORT_UPLINK
                               ? std::string{}
                               : fmt::format(" of instance {}", instance_name(port->instance));
    const auto pool = subject_.device.pools.find(out.via);
    const std::string vf = subject_.told.vports.contains(out.via) && pool != subject_.device.pools.end()
                               ? fmt::format(" (VF {})", pool->second)
                               : std::string{};
    return fmt::format("port {}{}{}{}", port_name(out.via), in, vf, tags);
}

Verdict Verifier::check(const Nic& nic, const Options& options) const {
    return Run(*this, nic, options).run();
}

std::string text(const Counterexample& example) {
    std::string out = fmt::format("{}: {}\n", text(example.fault), example.what);
    if (!example.enter) return out;
    const auto list = [&](std::string_view title, const std::vector<std::string>& items) {
        out += fmt::format("  {:<10}", title);
        for (std::size_t i = 0; i < items.size(); ++i) out += fmt::format("{}{}", i == 0 ? "" : "; ", items[i]);
        out += items.empty() ? "nobody\n" : "\n";
    };
    out += fmt::format("  {:<10}{}\n  {:<10}", "frame", example.frame_text, "bytes");
    constexpr std::size_t shown = 64;
    for (std::size_t i = 0; i < std::min(shown, example.frame.size()); ++i)
        out += fmt::format("{:02x}", example.frame[i]);
    out += example.frame.size() > shown ? fmt::format(" and {} bytes more\n", example.frame.size() - shown) : "\n";
    list("alone", example.expected);
    list("together", example.got);
    for (std::size_t i = 0; i < example.trail.size(); ++i)
        out += fmt::format("  {:<10}{}\n", i == 0 ? "as" : "", example.trail[i]);
    if (!example.assumed.empty()) list("if", example.assumed);
    return out;
}

std::string text(const Verdict& verdict) {
    std::string out;
    if (verdict.holds())
        out =
            fmt::format("NIC and software agree: {} classes of frames, none leaves its instance\n", verdict.classes);
    else
        out = fmt::format("NIC and software do not agree: {} counterexamples in {} classes of frames\n",
                          verdict.found, verdict.classes);
    for (const auto& [limit, times] : verdict.limits)
        out += fmt::format("but for {} of them: {}\n", times, text(limit));
    for (const unsigned pool : verdict.idle) out += fmt::format("VF {} does not listen just now\n", pool);
    for (const Counterexample& example : verdict.examples) out += "\n" + text(example);
    if (verdict.found > verdict.examples.size())
        out += fmt::format("\nand {} more of the same kinds and ports, or beyond these\n",
                           verdict.found - verdict.examples.size());
    return out;
}

}  // namespace ivds::offload::verify
