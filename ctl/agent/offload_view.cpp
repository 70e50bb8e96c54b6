// SPDX-License-Identifier: Apache-2.0
#include "agent/offload_view.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "agent/names.h"

namespace ivds {

namespace {

void add(pb::OffloadNic& out, const char* kind, std::string name, const offload::Placement& at) {
    pb::Placement& placement = *out.add_objects();
    placement.set_kind(kind);
    placement.set_name(std::move(name));
    placement.set_where(std::string(offload::name(at.where)));
    placement.set_reason(std::string(offload::name(at.reason)));
    placement.set_text(std::string(offload::text(at.reason)));
}

void add_table(pb::OffloadNic& out, const char* name, const offload::Use& use) {
    pb::NicTable& table = *out.add_tables();
    table.set_name(name);
    table.set_used(use.used);
    table.set_reserved(use.reserved);
    table.set_size(use.size);
}

}  // namespace

void view_plan(const offload::Plan& plan, const Ids& ids, pb::OffloadNic& out) {
    add_table(out, "pools", plan.pools);
    add_table(out, "addresses", plan.macs);
    add_table(out, "vlans", plan.vlans);
    add_table(out, "mirrors", plan.mirror_rules);
    add_table(out, "five-tuples", plan.five_tuples);
    const auto ports = names_by_id(ids.ports);
    const auto instances = names_by_id(ids.instances);
    const auto mirrors = names_by_id(ids.mirrors);
    for (const auto& [id, at] : plan.uplinks) add(out, "uplink", name_or_number(ports, id), at);
    for (const auto& [id, at] : plan.instances) add(out, "instance", name_or_number(instances, id), at);
    for (const auto& [id, at] : plan.vports) add(out, "vport", name_or_number(ports, id), at);
    for (const auto& [id, at] : plan.rates) add(out, "rate", name_or_number(ports, id), at);
    for (const auto& [id, at] : plan.rules) add(out, "rules", name_or_number(ports, id), at);
    for (const auto& [key, at] : plan.rx_filters)
        add(out, "rx_filter", fmt::format("{}/{}", name_or_number(ports, key.first), key.second + 1), at);
    for (const auto& [session, at] : plan.mirrors) add(out, "mirror", name_or_number(mirrors, session), at);
}

pb::Counters counters_of(const ivds_nic_stats& stats) {
    pb::Counters out;
    out.set_rx_packets(stats.rx_packets);
    out.set_rx_bytes(stats.rx_bytes);
    out.set_tx_packets(stats.tx_packets);
    out.set_tx_bytes(stats.tx_bytes);
    return out;
}

void view_registers(const offload::verify::Nic& nic, pb::OffloadNic& out) {
    for (offload::verify::Nic::Slot& slot : nic.slots()) {
        pb::NicSlot& shown = *out.add_slots();
        shown.set_table(std::move(slot.table));
        shown.set_slot(slot.slot);
        shown.set_text(std::move(slot.text));
    }
    const offload::verify::Image& image = nic.image();
    for (std::size_t row = 0; row < image.map().rows().size(); ++row) {
        const unsigned count = image.map().row(row).count();
        for (unsigned i = 0; i < count; ++i) {
            const std::uint32_t value = image.at(row, i);
            if (value == 0) continue;
            pb::NicRegister& shown = *out.add_registers();
            const std::string_view name = image.map().row(row).name;
            shown.set_name(count == 1 ? std::string(name) : fmt::format("{}[{}]", name, i));
            shown.set_offset(image.map().offset(row, i));
            shown.set_value(value);
        }
    }
}

pb::Verdict view_verdict(const std::string& uplink, const offload::verify::Verdict& verdict) {
    pb::Verdict out;
    out.set_uplink(uplink);
    out.set_holds(verdict.holds());
    out.set_classes(verdict.classes);
    out.set_found(verdict.found);
    out.set_text(text(verdict));
    for (const auto& example : verdict.examples) {
        pb::Verdict::Example& shown = *out.add_examples();
        shown.set_fault(std::string(name(example.fault)));
        shown.set_text(text(example));
        shown.set_frame(std::string(example.frame.begin(), example.frame.end()));
    }
    return out;
}

void view_nic_trace(const offload::verify::Verifier& verifier, const offload::verify::Nic& nic,
                    const offload::verify::Probe& probe, pb::NicTrace& out) {
    namespace verify = offload::verify;
    verify::Software::Told alone;
    verifier.alone(probe, alone);
    for (const verify::Out& one : alone.outs) out.add_alone(verifier.place(one));
    verify::Doubts doubts;
    verify::Trail trail;
    std::vector<verify::Out> likely;
    verifier.together(nic, probe, doubts, likely, &trail);
    for (std::string& step : trail) out.add_steps(std::move(step));
    for (const verify::Out& one : likely) out.add_together(verifier.place(one));
    std::vector<verify::Out> other;
    while (doubts.next()) {
        verifier.together(nic, probe, doubts, other);
        if (other == likely) continue;
        std::vector<std::string> places;
        places.reserve(other.size() + 1);
        for (const verify::Out& one : other) places.push_back(verifier.place(one));
        if (places.empty()) places.emplace_back("nobody");
        out.add_doubts(fmt::format("if {}: {}", fmt::join(doubts.assumed(), ", "), fmt::join(places, "; ")));
    }
}

void view_plan_fdb(const offload::Plan& plan, const offload::Snapshot& tables, const Ids& ids, pb::OffloadNic& out) {
    const auto instances = names_by_id(ids.instances);
    for (std::size_t i = 0; i < plan.fdb.size(); ++i)
        add(out, "fdb",
            fmt::format("{} {}", name_or_number(instances, tables.fdb[i].key.instance),
                        mac_text(tables.fdb[i].key.mac)),
            plan.fdb[i]);
}

}  // namespace ivds
