// SPDX-License-Identifier: Apache-2.0
// verify.cpp -- how long the offload's verifier takes for a full 82599: 64 pools, 63 V.VLANs in the NIC, all
// addresses that it has room for, an FDB of 4,096 entries and 256 instances.
#include "offload/verify/verify.h"

#include <fmt/format.h>

#include <chrono>

#include "forward.h"
#include "nic.h"
#include "offload/apply/model.h"
#include "offload/nic/writer_82599.h"
#include "offload/verify/nic_82599.h"

namespace ivds::bench {

namespace {

using namespace ivds::offload;

constexpr unsigned instances = 256;

// A modelled card with the plan in it; what the maker asks of the order is not looked at here.
verify::Image make_image(const Snapshot& tables, const Device& device, offload::Software& told) {
    Model82599 card;
    if (auto done = set_up_as_driver(card, device.pf); !done) throw Failure(done.error().text());
    const auto plan = make_plan(tables, device, {}, {});
    if (!plan) throw Failure(plan.error().text());
    if (plan->state.pools.size() != nic_vfs) throw Failure("not all VFs are in the NIC");
    Writer82599 writer(card, device.pf);
    const auto must = [](const Result<>& done) {
        if (!done) throw Failure(done.error().text());
    };
    must(writer.clear());
    for (const Step& step : plan->steps) {
        must(writer.apply(step));
        if (const auto* software = std::get_if<offload::Software>(&step)) told = *software;
    }
    const auto image = verify::Nic82599::read(card);
    if (!image) throw Failure(image.error().text());
    return *image;
}

}  // namespace

std::vector<Row> verify_rows(const Options& options) {
    if (!options.wanted("verify")) return {};
    options.progress("verify");
    const Snapshot tables = nic_tables(instances, instances);
    const Device device = nic_device();
    offload::Software told;
    const verify::Image image = make_image(tables, device, told);
    std::vector<double> took;
    verify::Verdict verdict;
    const Ahead ahead;
    for (int repetition = 0; repetition < options.repetitions; ++repetition) {
        const auto begin = std::chrono::steady_clock::now();
        const verify::Verifier verifier({.tables = tables, .device = device, .told = told});
        verdict = verifier.check(verify::Nic82599(image));
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
                             nic_fdb_entries, instances, verdict.classes)}};
}

}  // namespace ivds::bench
