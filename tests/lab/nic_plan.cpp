// SPDX-License-Identifier: Apache-2.0
// nic-plan -- makes a plan for the NIC of this machine and carries it out, as the agent does, without a data plane:
//
//   nic-plan PF vfs COUNT    that many VFs
//   nic-plan PF show [TPID]  the PF, its VFs and what its switch holds; with the outer TPID of a wire with two tags
//   nic-plan PF apply        the plan of the switch on standard input, from what the NIC holds
//   nic-plan PF clear [TPID]
//   nic-plan PF counters     frames that each pool has received and sent, as the NIC counts them
//   nic-plan PF peek OFFSET, poke OFFSET VALUE     a register, as a second writer reaches it, and what it reads then
//   nic-plan PF ways         by which way registers are reached, and why not by the others
//
// The switch is told in lines: "instance ID VVLAN", "vf VPORT INSTANCE INDEX MAC [MBPS [PCP]]", "software VPORT
// INSTANCE MAC". With two tags "tags 2 TPID" is first, and then come "uplink PORT INDEX" for a VF that is one, and
// "network INSTANCE UPLINK VLAN VVLAN"; uplink 1 is the PF. Prints JSON. Ends with 1 and the error's text if
// something fails.
#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <iomanip>
#include <iostream>
#include <ranges>
#include <sstream>
#include <string>

#include "apply/kernel.h"
#include "apply/nics.h"
#include "apply/pf_link.h"
#include "apply/regs.h"
#include "nic/82576.h"
#include "plan/plan.h"
#include "plan/uplink.h"

using namespace ivds;
using namespace ivds::offload;

namespace {

constexpr std::uint32_t uplink = 1;

[[noreturn]] void end(const Error& error) {
    std::cout << error.text() << '\n';
    std::exit(1);
}
template <class T>
T must(Result<T> result) {
    if (!result) end(result.error());
    if constexpr (!std::is_void_v<T>) return std::move(*result);
}

struct Switch {
    Snapshot tables;
    Device device{.uplink = uplink, .pools = {}};

    ivds_port& port(std::uint32_t id, unsigned kind) {
        ivds_port& port = tables.ports[id];
        port.kind = static_cast<decltype(port.kind)>(kind);
        port.flags = IVDS_PF_UP;
        port.mtu_bytes = 1500;
        return port;
    }
    void vport(std::uint32_t id, std::uint32_t instance, const Mac& mac) {
        ivds_port& added = port(id, IVDS_PORT_VPORT);
        added.flags |= IVDS_PF_ANTI_SPOOF;
        added.instance = instance;
        std::memcpy(added.vmac, mac.data(), mac.size());
        FdbRow row;
        row.key.instance = instance;
        std::ranges::copy(mac, row.key.mac);
        row.entry.port = id;
        row.entry.flags = IVDS_FDB_STATIC;
        tables.fdb.push_back(row);
    }
};

Switch read_switch(std::istream& in) {
    Switch all;
    ivds_port& wire = all.port(uplink, IVDS_PORT_UPLINK);
    wire.outer_tpid_be = 0x0081;
    std::string line;
    while (std::getline(in, line)) {
        std::istringstream words(line);
        std::string what;
        std::string mac;
        std::uint32_t id = 0;
        std::uint32_t instance = 0;
        if (!(words >> what >> std::setbase(0) >> id >> instance)) continue;
        if (what == "tags") {
            wire.outer_tpid_be = htons(static_cast<std::uint16_t>(instance));
            wire.inner_tpid_be = htons(0x8100);
        } else if (what == "uplink") {
            ivds_port& added = all.port(id, IVDS_PORT_UPLINK);
            added.outer_tpid_be = wire.outer_tpid_be;
            added.inner_tpid_be = wire.inner_tpid_be;
            all.device.uplinks[id] = instance;
        } else if (what == "network") {
            ivds_instance& added = all.tables.instances[id];
            added.uplink = instance;
            words >> added.vlan >> added.vvlan;
            added.flags = IVDS_IF_ACTIVE | IVDS_IF_WIRE;
            all.tables.vvlans[{added.uplink, added.vlan, added.vvlan}] = id;
        } else if (what == "instance") {
            ivds_instance& added = all.tables.instances[id];
            added.uplink = uplink;
            added.vlan = static_cast<std::uint16_t>(instance);  // the one tag on the wire
            added.flags = IVDS_IF_ACTIVE | IVDS_IF_WIRE;
            all.tables.vvlans[{uplink, added.vlan, 0}] = id;
        } else if (what == "vf") {
            unsigned index = 0;
            std::uint64_t mbps = 0;
            unsigned pcp = 0;
            words >> index >> mac >> mbps >> pcp;
            all.vport(id, instance, must(parse_mac(mac)));
            all.device.pools[id] = index;
            ivds_port& added = all.tables.ports[id];
            added.pcp = static_cast<std::uint8_t>(pcp);
            if (mbps != 0)
                added.rate[IVDS_WAY_IN].ns_per_mib = static_cast<std::uint32_t>((8ULL << 20) * 1000 / mbps);
        } else {
            words >> mac;
            all.vport(id, instance, must(parse_mac(mac)));
        }
    }
    return all;
}

std::string json(const NicState& state) {
    std::string pools, uplinks, macs, vlans, admitted;
    const auto add = [](std::string& to, const std::string& item) { to += (to.empty() ? "" : ", ") + item; };
    for (const auto& [pool, as] : state.pools)
        add(pools,
            fmt::format(R"("{}": {{"vvlan": {}, "pcp": {}, "rate": {}}})", pool, as.vvlan, as.pcp, as.rate_mbps));
    for (const unsigned pool : state.uplinks) add(uplinks, std::to_string(pool));
    for (const auto& [mac, entry] : state.macs) add(macs, fmt::format(R"("{}": {})", format_mac(mac), entry.pool));
    for (const auto& [vid, entry] : state.vlans) add(vlans, fmt::format(R"("{}": {})", vid, entry.members));
    for (const std::uint16_t vid : state.admitted) add(admitted, std::to_string(vid));
    return fmt::format(
        R"({{"pools": {{{}}}, "uplinks": [{}], "macs": {{{}}}, "vlans": {{{}}}, "admitted": [{}], "unknown_to_pf": {}}})",
        pools, uplinks, macs, vlans, admitted, state.unknown_to_pf);
}

std::string quoted(const std::string& words) {
    return '"' + words + '"';
}

std::string json(const Pf& pf) {
    std::string vfs;
    for (const Vf& vf : pf.vfs)
        vfs += fmt::format(
            R"({}{{"index": {}, "address": "{}", "driver": "{}", "netdev": "{}", "queues": {}, "interrupts": {}}})",
            vfs.empty() ? "" : ", ", vf.index, vf.address, vf.driver, vf.netdev, vf.rx_queues, vf.interrupts);
    return fmt::format(
        R"({{"address": "{}", "driver": "{}", "chip": "{}", "why": "{}", "total": {}, "vfs": [{}], "link": {}}})",
        pf.address, pf.driver, pf.chip != nullptr ? pf.chip->name : "", pf.why, pf.total_vfs, vfs, pf.link);
}

// What a pool has received and sent, as the NIC counts it.
std::string counters(const Pf& pf) {
    auto open = must(open_registers(pf.device, "/sys/kernel/debug"));
    std::string out;
    for (unsigned pool = 0; pool < i82576::chip().pools; ++pool)
        out += fmt::format("{}[{}, {}]", pool == 0 ? "" : ", ",
                           must(open.registers->read(i82576::offset(i82576::Reg::pvfgprc, pool))),
                           must(open.registers->read(i82576::offset(i82576::Reg::pvfgptc, pool))));
    return '[' + out + ']';
}

void apply(const Pf& pf) {
    Switch all = read_switch(std::cin);
    const auto opened = must(open_kernel(pf, wire_tags(all.tables, uplink)));
    Backend& backend = *opened;
    must(backend.prepare());
    all.device.chip = &backend.chip();
    all.device.pf = backend.pf();
    const Choices choices;
    // What an agent that just started believes in: what a plan of the tables wants.
    const NicState wanted = must(make_plan(all.tables, all.device, choices, {})).state;
    const auto steps_from = [&](const NicState& present) {
        Plan plan = must(make_plan(all.tables, all.device, choices, present));
        std::erase_if(plan.steps, [](const Step& step) { return std::holds_alternative<Software>(step); });
        return plan;
    };
    Plan plan = steps_from(named(must(backend.read()), wanted));
    std::string made;
    for (const Step& step : plan.steps) {
        made += (made.empty() ? "" : ", ") + quoted(text(step));
        if (auto done = backend.apply(step); !done) end(done.error().in(text(step)));
    }
    const NicState after = named(must(backend.read()), wanted);
    std::string left;
    for (const Step& step : steps_from(after).steps) left += (left.empty() ? "" : ", ") + quoted(text(step));
    std::cout << fmt::format(R"({{"steps": [{}], "wanted": {}, "state": {}, "left": [{}]}})", made, json(plan.state),
                             json(after), left)
              << '\n';
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    if (words.size() < 2) return 2;
    const Pf pf = must(find_pf("/sys", words[0]));
    if (words[1] == "vfs") {
        must(set_num_vfs(pf, static_cast<unsigned>(std::stoul(words.at(2)))));
        return 0;
    }
    if (words[1] == "poke") {
        auto open = must(open_registers(pf.device, "/sys/kernel/debug"));
        const auto offset = static_cast<std::uint32_t>(std::stoul(words.at(2), nullptr, 0));
        must(open.registers->write(offset, static_cast<std::uint32_t>(std::stoul(words.at(3), nullptr, 0))));
        std::cout << must(open.registers->read(offset)) << '\n';
        return 0;
    }
    if (words[1] == "peek") {
        auto open = must(open_registers(pf.device, "/sys/kernel/debug"));
        std::cout << must(open.registers->read(static_cast<std::uint32_t>(std::stoul(words.at(2), nullptr, 0))))
                  << '\n';
        return 0;
    }
    if (words[1] == "ways") {
        const auto open = must(open_registers(pf.device, "/sys/kernel/debug"));
        std::cout << fmt::format("{}\n{}\n", open.way, fmt::join(open.refused, "\n"));
        return 0;
    }
    if (words[1] == "counters") {
        std::cout << counters(pf) << '\n';
        return 0;
    }
    if (words[1] == "apply") {
        apply(pf);
        return 0;
    }
    WireTags tags;
    if (words.size() > 2)
        tags = {.two = true, .outer_tpid = static_cast<std::uint16_t>(std::stoul(words[2], nullptr, 0))};
    const auto backend = must(open_kernel(pf, tags));
    if (words[1] == "clear") {
        must(backend->clear());
        std::cout << json(must(backend->read())) << '\n';
    } else {
        std::string short_of;
        for (const std::string& words_of : backend->shortcomings())
            short_of += (short_of.empty() ? "" : ", ") + quoted(words_of);
        const auto state = backend->read();
        std::cout << fmt::format(R"({{"pf": {}, "state": {}, "error": "{}", "shortcomings": [{}]}})", json(pf),
                                 state ? json(*state) : "null", state ? "" : state.error().id, short_of)
                  << '\n';
    }
    return 0;
}
