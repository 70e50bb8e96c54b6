// SPDX-License-Identifier: Apache-2.0
// verify.cpp -- how long the offload's verifier takes for a full 82599: 64 pools, 63 V.VLANs in the NIC, all
// addresses that it has room for, an FDB of 4,096 entries and 256 instances.
#include "offload/verify/verify.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>

#include "forward.h"
#include "offload/apply/model.h"
#include "offload/nic/writer_82599.h"

namespace ivds::bench {

namespace {

using namespace ivds::offload;
using namespace ivds::offload::i82599;
using i82599::Reg;

constexpr std::uint32_t uplink = 1;
constexpr std::uint32_t first_vf = 10;
constexpr std::uint32_t first_soft = 100;
constexpr unsigned vfs = 63;  // the PF has the last pool
constexpr unsigned instances = 256;
constexpr std::size_t fdb_entries = 4096;

void add_mac(Snapshot& tables, std::uint32_t instance, std::uint32_t number, std::uint32_t port) {
    FdbRow row;
    row.key.instance = instance;
    const std::uint8_t mac[6] = {0x02,
                                 0x10,
                                 static_cast<std::uint8_t>(number >> 24),
                                 static_cast<std::uint8_t>(number >> 16),
                                 static_cast<std::uint8_t>(number >> 8),
                                 static_cast<std::uint8_t>(number)};
    std::ranges::copy(mac, row.key.mac);
    row.entry.port = port;
    row.entry.flags = port == uplink ? IVDS_FDB_PLAIN : IVDS_FDB_STATIC;
    row.entry.vlan = port == uplink ? static_cast<std::uint16_t>(instance) : std::uint16_t{0};
    tables.fdb.push_back(row);
    if (const auto at = tables.ports.find(port); port != uplink && at != tables.ports.end())
        std::ranges::copy(mac, at->second.vmac);
}

void add_vport(Snapshot& tables, std::uint32_t id, std::uint32_t instance) {
    ivds_port port{};
    port.kind = IVDS_PORT_VPORT;
    port.flags = IVDS_PF_UP | IVDS_PF_ANTI_SPOOF;
    port.instance = instance;
    port.mtu_bytes = 1500;
    tables.ports[id] = port;
    add_mac(tables, instance, id, id);
}

// A VF in each of the first 63 instances, a vPort of software's in all.
Snapshot make_tables() {
    Snapshot tables;
    ivds_port pf{};
    pf.kind = IVDS_PORT_UPLINK;
    pf.flags = IVDS_PF_UP | IVDS_PF_PLAIN_IN;
    pf.mtu_bytes = 9216;
    pf.outer_tpid_be = 0x0081;
    tables.ports[uplink] = pf;
    for (std::uint32_t id = 1; id <= instances; ++id) {
        ivds_instance instance{};
        instance.uplink = uplink;
        instance.vlan = static_cast<std::uint16_t>(id);  // the one tag on the wire
        instance.mtu_bytes = 9000;
        instance.flags = IVDS_IF_ACTIVE | IVDS_IF_WIRE | IVDS_IF_LEARN_WIRE;
        tables.instances[id] = instance;
        tables.vvlans[{uplink, id, 0}] = id;
    }
    for (unsigned n = 0; n < vfs; ++n) add_vport(tables, first_vf + n, 1 + n);
    for (unsigned n = 0; n < instances; ++n) add_vport(tables, first_soft + n, 1 + n);
    for (std::uint32_t n = 0; tables.fdb.size() < fdb_entries; ++n)
        add_mac(tables, 1 + n % instances, (1U << 20) + n, uplink);
    return tables;
}

// A modelled card with the plan in it; what the maker asks of the order is not looked at here.
verify::Image make_image(const Snapshot& tables, const Device& device, offload::Software& told) {
    Model82599 card;
    if (auto done = set_up_as_driver(card, device.pf); !done) throw Failure(done.error().text());
    const auto plan = make_plan(tables, device, {}, {});
    if (!plan) throw Failure(plan.error().text());
    if (plan->state.pools.size() != vfs) throw Failure("not all VFs are in the NIC");
    Writer82599 writer(card, device.pf);
    const auto must = [](const Result<>& done) {
        if (!done) throw Failure(done.error().text());
    };
    must(writer.clear());
    for (const Step& step : plan->steps) {
        must(writer.apply(step));
        if (const auto* software = std::get_if<offload::Software>(&step)) told = *software;
    }
    const auto image = verify::read_image(card);
    if (!image) throw Failure(image.error().text());
    return *image;
}

}  // namespace

std::vector<Row> verify_rows(const Options& options) {
    if (!options.wanted("verify")) return {};
    options.progress("verify");
    const Snapshot tables = make_tables();
    Device device{.chip = &i82599::chip(), .uplink = uplink, .pf = vfs, .pools = {}};
    for (unsigned n = 0; n < vfs; ++n) device.pools[first_vf + n] = n;
    offload::Software told;
    const verify::Image image = make_image(tables, device, told);
    std::vector<double> took;
    verify::Verdict verdict;
    const Ahead ahead;
    for (int repetition = 0; repetition < options.repetitions; ++repetition) {
        const auto begin = std::chrono::steady_clock::now();
        const verify::Verifier verifier({.tables = tables, .device = device, .told = told});
        verdict = verifier.check(image);
        took.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
        if (!verdict.holds()) throw Failure(text(verdict));
    }
    return {
        {.name = "verify",
         .value = median(took),
         .unit = "s",
         .ratios = {},
         .bars = {{.against = "", .limit = 10, .at_most = true}},
         .note = fmt::format("64 pools, 63 V.VLANs in the NIC, {} FDB entries, {} instances; {} classes of frames",
                             fdb_entries, instances, verdict.classes)}};
}

}  // namespace ivds::bench
