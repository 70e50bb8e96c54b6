// SPDX-License-Identifier: Apache-2.0
#include "verify_rig.h"

#include <fmt/format.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <stdexcept>
#include <string_view>

#include "offload/nic/writer_82599.h"

namespace ivds::test {

namespace {

using offload::verify::Enter;
using offload::verify::Probe;
using offload::verify::Verifier;

constexpr std::size_t tag_at = 12;

void put_tag(Bytes& frame, std::uint16_t tci) {
    const std::array<std::uint8_t, 4> tag{0x81, 0x00, static_cast<std::uint8_t>(tci >> 8),
                                          static_cast<std::uint8_t>(tci & 0xff)};
    frame.insert(frame.begin() + tag_at, tag.begin(), tag.end());
}
World forgetful(World world) {
    for (auto& [id, port] : world.ports) port.fdb_limit = 0;
    return world;
}

World as_told(World world, const offload::Software& told) {
    for (const std::uint32_t vport : told.vports)
        if (const auto found = world.ports.find(vport); found != world.ports.end())
            found->second.flags &= static_cast<std::uint16_t>(~IVDS_PF_UP);
    for (auto& [key, entry] : world.fdb) {
        const auto in = world.instances.find(key.instance);
        const auto port = world.ports.find(entry.port);
        if (in == world.instances.end() || !told.vports.contains(entry.port) || port == world.ports.end() ||
            port->second.instance != key.instance)
            continue;
        entry = {.port = in->second.uplink,
                 .last_seen_s = 0,
                 .vlan = in->second.vlan,
                 .flags = static_cast<std::uint8_t>(IVDS_FDB_STATIC | (in->second.vvlan == 0 ? IVDS_FDB_PLAIN : 0)),
                 .pad0 = 0,
                 .vport = entry.port};
    }
    return world;
}

bool is_link_local(const Mac& mac) {
    return mac[0] == 1 && mac[1] == 0x80 && mac[2] == 0xc2 && mac[3] == 0 && mac[4] == 0 && mac[5] < 16;
}

std::uint32_t instance_of(const World& world, const Probe& probe) {
    const verify::Tags& tags = probe.frame.tags;
    const auto at = [&](const VvlanKey& key) {
        const auto found = world.vvlans.find(key);
        return found == world.vvlans.end() ? 0U : found->second;
    };
    if (probe.enter.by == Enter::By::host || !world.ports.contains(probe.enter.port)) return 0;
    const ivds_port& port = world.ports.at(probe.enter.port);
    if (probe.enter.by == Enter::By::uplink) {
        const bool tagged = port.inner_tpid_be != 0 && tags.size() > 1 && tags[1].tpid == tpid_c;
        const bool has_policy = (port.flags & (IVDS_PF_PLAIN_IN | IVDS_PF_PLAIN_DROP)) != 0;
        if (tags.empty() || tags[0].tpid != tpid_c || (!tagged && !has_policy)) return 0;
        const std::uint32_t in = at({probe.enter.port, tags[0].vid(), tagged ? tags[1].vid() : 0U});
        const auto found = world.instances.find(in);
        const bool is_single = found != world.instances.end() && found->second.vvlan == 0;
        return !tagged && !is_single && is_link_local(probe.frame.dst) ? 0 : in;
    }
    if ((port.flags & IVDS_PF_TRUNK) != 0 && !tags.empty() && tags[0].tpid == tpid_c && tags[0].vid() != 0)
        if (const std::uint32_t sub = at({probe.enter.port, tags[0].vid(), 0}); world.ports.contains(sub))
            return world.ports.at(sub).instance;
    return port.instance;
}

// Whether a mirror sends frames of the instance there.
bool is_mirrored_to(const World& world, std::uint32_t port, std::uint32_t instance) {
    return std::ranges::any_of(world.mirrors, [&](const auto& row) {
        return row.second.target == port && std::ranges::any_of(world.ports, [&](const auto& source) {
                   return source.second.instance == instance && (source.second.mirror_out >> row.first & 1U) != 0;
               });
    });
}

// What a frame did that it may not do, whatever the limits; empty: nothing.
std::string leak(const World& world, const Probe& probe, const std::vector<Sent>& got) {
    const std::uint32_t instance = instance_of(world, probe);
    std::map<std::uint32_t, unsigned> times;
    for (const Sent& copy : got) {
        if (probe.enter.by == Enter::By::host && (copy.port == witness_uplink || copy.port == to_host)) continue;
        bool may = false;
        unsigned most = 1;
        if (copy.port == to_host) {
            may = probe.enter.by == Enter::By::uplink && instance == 0;
        } else if (world.ports.contains(copy.port) && world.ports.at(copy.port).kind == IVDS_PORT_UPLINK) {
            const Parsed out = parse(copy.bytes);
            const auto in = world.instances.find(instance);
            may = probe.enter.by != Enter::By::uplink && in != world.instances.end() && !out.tags.empty() &&
                  out.tags[0].tpid == tpid_c && in->second.vvlan == 0 && out.tags[0].vid == in->second.vlan;
            may |= probe.enter.by != Enter::By::uplink && in != world.instances.end() && out.tags.size() >= 2 &&
                   out.tags[1].tpid == tpid_c && in->second.vvlan != 0 && out.tags[1].vid == in->second.vvlan;
            const auto entry = world.fdb.find({instance, probe.frame.dst});
            may |= in != world.instances.end() && (in->second.flags & IVDS_IF_PLAIN_OUT) != 0;
            may |= entry != world.fdb.end() && (entry->second.flags & IVDS_FDB_PLAIN) != 0;
            most = 9;
        } else if (const auto port = world.ports.find(copy.port); port != world.ports.end()) {
            may = instance != 0 && port->second.instance == instance;
            if (instance != 0 && is_mirrored_to(world, copy.port, instance)) {
                may = true;
                most = 2;
            }
            for (const auto& [id, sub] : world.ports)
                if (sub.kind == IVDS_PORT_SUB && sub.peer == copy.port && sub.instance == instance && instance != 0) {
                    may = true;
                    most = 2;
                }
        }
        if (!may) return fmt::format("leaks to {:#x}", copy.port);
        if (++times[copy.port] > most) return fmt::format("comes twice to {}", copy.port);
    }
    return {};
}

// Whether a limit of the plan is about the frame.
bool is_excused(const World& world, const offload::Software& told, const Probe& probe, const Witness::Alone& expected,
                const std::vector<Sent>& got) {
    const std::uint32_t instance = instance_of(world, probe);
    const auto in_nic = [&](const Sent& copy) { return told.vports.contains(copy.port); };
    const auto known = world.fdb.find({instance, probe.frame.dst});
    const auto source = world.fdb.find({instance, probe.frame.src});
    const bool unicast = (probe.frame.dst[0] & 1U) == 0;
    const bool from_wire = probe.enter.by == Enter::By::uplink;
    const bool local_elsewhere = std::ranges::any_of(world.fdb, [&](const auto& row) {
        const auto port = world.ports.find(row.second.port);
        return row.first.mac == probe.frame.dst &&
               (port == world.ports.end() || port->second.kind != IVDS_PORT_UPLINK);
    });
    const bool is_part = std::ranges::includes(expected.sent, got);
    if (!from_wire && unicast && known == world.fdb.end() && (local_elsewhere || probe.frame.dst == Mac{}) && is_part)
        return true;
    const bool touches = probe.enter.by == Enter::By::pool || std::ranges::any_of(expected.sent, in_nic) ||
                         std::ranges::any_of(got, in_nic) ||
                         (known != world.fdb.end() && told.vports.contains(known->second.port));
    const bool forged = source != world.fdb.end() && told.vports.contains(source->second.port);
    if (from_wire && (touches || forged))
        for (const char* reason : {"wire_source", "bad_source", "plain_source"})
            if (expected.drops.contains(reason)) return true;
    if (!touches) return false;
    if (probe.frame.tags.size() > (from_wire ? 1U : 0U)) return true;
    for (const char* reason : {"oversize", "oversize_out", "vm_control"})
        if (expected.drops.contains(reason)) return true;
    return is_link_local(probe.frame.dst) || probe.frame.payload.ethertype == 0x8808;
}

// Limit::unknown: a copy of unknown unicast for a vPort that cannot have the address says nothing to its VM.
void leave_out_useless(std::vector<Sent>& sent, const World& world, const Probe& probe) {
    if ((probe.frame.dst[0] & 1U) != 0 || world.fdb.contains({instance_of(world, probe), probe.frame.dst})) return;
    std::erase_if(sent, [&](const Sent& copy) {
        if (copy.port == to_host || copy.port == witness_uplink || copy.port == 2) return false;
        const Parsed out = parse(copy.bytes);
        const bool is_behind = copy.port == witness_trunk && !out.tags.empty() && out.tags[0].vid == witness_vid;
        const auto port = world.ports.find(is_behind ? witness_behind : copy.port);
        return port != world.ports.end() && (port->second.flags & IVDS_PF_ANTI_SPOOF) != 0;
    });
}

std::vector<Sent> forwarded(ReferenceSwitch& by, std::uint32_t port, const Bytes& frame) {
    if (!by.world().ports.contains(port)) return {};
    return by.forward(port, frame).sent;
}

}  // namespace

std::string harm(const World& world, const offload::Software& told, const Probe& probe,
                 const Witness::Alone& expected, std::vector<Sent> got) {
    if (std::string leaked = leak(world, probe, got); !leaked.empty()) return leaked;
    if (probe.enter.by == Enter::By::host || is_excused(world, told, probe, expected, got)) return {};
    std::vector<Sent> wanted = expected.sent;
    // The driver lets in the VLANs that the host has, which no table tells.
    if (probe.enter.by == Enter::By::uplink && !probe.frame.tags.empty() && instance_of(world, probe) == 0)
        for (std::vector<Sent>* copies : {&wanted, &got})
            std::erase_if(*copies, [](const Sent& copy) { return copy.port == to_host; });
    leave_out_useless(wanted, world, probe);
    leave_out_useless(got, world, probe);
    leave_out_seconds(wanted, world);
    return wanted == got ? std::string{} : std::string("differs");
}

Witness::Witness(World tables, offload::Device device, offload::Software told)
    : device_(std::move(device)),
      told_(std::move(told)),
      alone_(forgetful(tables)),
      beside_(forgetful(as_told(std::move(tables), told_))) {}

Witness::Alone Witness::alone(const Probe& probe) {
    Alone out;
    if (probe.enter.by == Enter::By::host || !alone_.world().ports.contains(probe.enter.port)) return out;
    auto outcome = alone_.forward(probe.enter.port, offload::verify::bytes(probe.frame));
    out.sent = std::move(outcome.sent);
    std::set<std::uint32_t> of_nic;
    for (const auto& [session, mirror] : alone_.world().mirrors)
        if (told_.vports.contains(mirror.target)) of_nic.insert(session);
    add_copies(out.sent, alone_.world(), of_nic);
    for (const auto& [name, count] : outcome.counts) {
        if (!name.starts_with("drop ")) continue;
        const std::size_t at = name.find(' ', 5) + 1;
        out.drops.insert(name.substr(at, name.rfind(' ') - at));
    }
    return out;
}

std::vector<Sent> Witness::software(const Probe& probe) {
    return forwarded(beside_, probe.enter.port, offload::verify::bytes(probe.frame));
}

std::vector<Witness::Input> Witness::into_nic(const Probe& probe) {
    Bytes frame = offload::verify::bytes(probe.frame);
    if (probe.enter.by == Enter::By::pool) return {{.pool = probe.enter.pool, .bytes = frame}};
    if (probe.enter.by == Enter::By::host) return {{.pool = device_.pf, .bytes = frame}};
    if (probe.enter.by == Enter::By::uplink && probe.enter.port == witness_uplink)
        return {{.from_wire = true, .bytes = frame}};
    std::vector<Input> inputs;
    for (const Sent& copy : software(probe))
        if (copy.port == witness_uplink) inputs.push_back({.pool = device_.pf, .bytes = copy.bytes});
    return inputs;
}

std::vector<offload::Delivery> Witness::by_nic(offload::Model82599& model, const Input& input) {
    return input.from_wire ? model.receive_from_wire(input.bytes).deliveries
                           : model.send_from(input.pool, input.bytes).deliveries;
}

std::vector<Sent> Witness::onwards(offload::Model82599& model, const Probe& probe,
                                   const std::vector<offload::Delivery>& deliveries) {
    std::vector<Sent> sent;
    if (probe.enter.by == Enter::By::port ||
        (probe.enter.by == Enter::By::uplink && probe.enter.port != witness_uplink))
        for (const Sent& copy : software(probe))
            if (copy.port != witness_uplink) sent.push_back(copy);
    from_nic(model, deliveries, sent, 0);
    std::ranges::sort(sent);
    return sent;
}

std::vector<Sent> Witness::together(offload::Model82599& model, const Probe& probe) {
    std::vector<offload::Delivery> deliveries;
    for (const Input& input : into_nic(probe))
        for (offload::Delivery& delivery : by_nic(model, input)) deliveries.push_back(std::move(delivery));
    return onwards(model, probe, deliveries);
}

void Witness::from_nic(offload::Model82599& model, const std::vector<offload::Delivery>& deliveries,
                       std::vector<Sent>& sent, unsigned depth) {
    for (const offload::Delivery& delivery : deliveries) {
        Bytes frame = delivery.bytes;
        if (delivery.to_wire) {
            sent.push_back({witness_uplink, frame});
        } else if (delivery.pool == device_.pf) {
            if (depth == 2) continue;
            if (delivery.stripped) put_tag(frame, *delivery.stripped);
            from_software(model, forwarded(beside_, witness_uplink, frame), sent, depth + 1);
        } else {
            const auto vf =
                std::ranges::find_if(device_.pools, [&](const auto& row) { return row.second == delivery.pool; });
            const bool in_nic = vf != device_.pools.end() && told_.vports.contains(vf->first);
            sent.push_back({in_nic ? vf->first : Verifier::stray(delivery.pool), frame});
        }
    }
}

void Witness::from_software(offload::Model82599& model, const std::vector<Sent>& out, std::vector<Sent>& sent,
                            unsigned depth) {
    for (const Sent& copy : out) {
        if (copy.port != witness_uplink) {
            sent.push_back(copy);
            continue;
        }
        from_nic(model, model.send_from(device_.pf, copy.bytes).deliveries, sent, depth);
    }
}

offload::Device witness_device(unsigned vfs) {
    offload::Device device{.chip = &reg::chip(), .uplink = witness_uplink, .pf = witness_pf, .pools = {}};
    for (unsigned n = 0; n < vfs; ++n) device.pools[first_vf + n] = n;
    return device;
}

Card::Card(const offload::Snapshot& tables, const offload::Device& device, const offload::Uncertain& uncertain,
           const offload::Choices& choices)
    : nic({.uncertain = uncertain,
           .pools_on = false,
           .fctrl = reg::fctrl::bam.put() | reg::fctrl::mpe.put() | reg::fctrl::upe.put()}) {
    // As drivers of VFs do, for a tag that they did not ask for.
    for (unsigned queue = 0; queue < 2 * device.pf; ++queue)
        nic.put(Reg::rxdctl, queue, reg::rxdctl::enable.put() | reg::rxdctl::vme.put());
    nic.put(Reg::pfvtctl,
            reg::pfvtctl::vt_en.put() | reg::pfvtctl::def_pl.put(device.pf) | reg::pfvtctl::rpl_en.put());
    nic.set_bits(Reg::hlreg0, 0, reg::hlreg0::jumboen.put());
    nic.put(Reg::maxfrs, reg::maxfrs::mfs.put(reg::chip().max_frame));
    auto plan = offload::make_plan(tables, device, choices, {});
    if (!plan) throw std::runtime_error(plan.error().text());
    offload::Writer82599 writer(nic.model, device.pf);
    must(writer.check_setup());
    must(writer.clear());
    for (const offload::Step& step : plan->steps) {
        must(writer.apply(step));
        if (const auto* software = std::get_if<offload::Software>(&step)) told = *software;
    }
}

offload::verify::Image Card::image() {
    auto read = offload::verify::Nic82599::read(nic.model);
    if (!read) throw std::runtime_error(read.error().text());
    return std::move(*read);
}

std::vector<Sent> sent_of(const offload::verify::Frame& frame, const std::vector<offload::verify::Out>& outs) {
    std::vector<Sent> sent;
    for (const offload::verify::Out& out : outs) {
        offload::verify::Frame copy = frame;
        copy.tags = out.tags;
        sent.push_back({out.port, offload::verify::bytes(copy)});
    }
    std::ranges::sort(sent);
    return sent;
}

offload::Uncertain all_doubts() {
    offload::Uncertain doubts;
    for (std::size_t i = 0; i < sizeof(doubts); ++i) reinterpret_cast<bool*>(&doubts)[i] = true;
    return doubts;
}

namespace {

// Which of all bits; of how many parts 0: a sample.
struct Part {
    unsigned number = 1, of = 0;
};
Part part() {
    const char* wanted = std::getenv("IVDS_ALL_BITS");
    if (wanted == nullptr || *wanted == '\0' || *wanted == '0') return {};
    Part out{.number = 1, .of = 1};
    if (std::string_view(wanted) != "1")
        REQUIRE((std::sscanf(wanted, "%u/%u", &out.number, &out.of) == 2 && out.number - 1 < out.of));
    return out;
}

}  // namespace

bool takes_all_bits() {
    return part().of != 0;
}

std::string Tally::text() const {
    return fmt::format("found {} ({} of them leaks), harmless {} by {} frames, missed {}", leaks + others, leaks,
                       harmless, frames, missed.size());
}

void check_found(const Tally& tally) {
    std::string words = tally.text();
    for (std::size_t i = 0; i < std::min<std::size_t>(20, tally.missed.size()); ++i) words += "\n" + tally.missed[i];
    INFO(words);
    CHECK(tally.missed.empty());
    CHECK(tally.leaks > 0);
    CHECK(tally.others > 0);
    CHECK(tally.harmless > 0);
}

Tally break_each_bit(const offload::verify::Image& image,
                     const std::function<void(Reg, unsigned, unsigned, Tally&)>& flip) {
    const auto [number, parts] = part();
    const bool every = parts != 0;
    Tally sum;
    unsigned turn = 0;
    for (const Reg which : offload::verify::Nic82599::deciding()) {
        if (which == Reg::fdirfree || which == Reg::fdirctrl) continue;  // of filters that no read shows
        Tally tally;
        const unsigned count = reg::describe(which).count();
        unsigned unused = 0;
        for (unsigned element = 0; element < count; ++element) {
            const bool is_used = image(which, element) != 0 && which != Reg::pfuta && which != Reg::rxdctl &&
                                 which != Reg::txdctl && (which != Reg::l34timir || image(Reg::ftqf, element) != 0);
            const bool is_sample = is_used || count <= 4 || unused++ == 3;
            if (every ? ++turn % parts != number % parts : !is_sample) continue;
            for (unsigned bit = 0; bit < 32; ++bit)
                if (every || is_used || bit % 8 == 1 || bit % 8 == 6 || bit == 31) flip(which, element, bit, tally);
        }
        fmt::print("{:<10} {}\n", reg::describe(which).name, tally.text());
        std::fflush(stdout);
        sum.leaks += tally.leaks;
        sum.others += tally.others;
        sum.harmless += tally.harmless;
        sum.frames += tally.frames;
        sum.missed.insert(sum.missed.end(), tally.missed.begin(), tally.missed.end());
    }
    return sum;
}

}  // namespace ivds::test
