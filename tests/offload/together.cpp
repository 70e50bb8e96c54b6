// SPDX-License-Identifier: Apache-2.0
#include "nic_rig.h"  // first: its Outcome is the model's
// clang-format off
#include "together.h"
// clang-format on

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <stdexcept>

#include "offload/nic/writer_82599.h"

namespace ivds::test {

struct Together::Hardware {
    explicit Hardware(const Uncertain& uncertain)
        : nic({.uncertain = uncertain,
               .pools_on = false,
               .fctrl = reg::fctrl::bam.put() | reg::fctrl::mpe.put() | reg::fctrl::upe.put()}),
          registers(nic.model),
          writer(registers, together_pf) {
        // As drivers of VFs do, for a tag that they did not ask for.
        for (unsigned queue = 0; queue < 2 * together_pf; ++queue)
            nic.put(Reg::rxdctl, queue, reg::rxdctl::enable.put() | reg::rxdctl::vme.put());
        nic.set_bits(Reg::hlreg0, 0, reg::hlreg0::jumboen.put());
        nic.put(Reg::maxfrs, reg::maxfrs::mfs.put(reg::chip().max_frame));
        must(writer.check_setup());
        must(writer.clear());
    }
    Nic nic;
    Watched registers;
    Writer82599 writer;
};

Together::Together(const Uncertain& uncertain, Device device)
    : device_(std::move(device)), hardware_(std::make_unique<Hardware>(uncertain)) {}

Together::~Together() = default;

void Together::apply(const offload::Step& step) {
    if (const auto* told = std::get_if<offload::Software>(&step)) {
        if (told->take_tables) tables_ = next_;
        told_ = *told;
        view_ = as_software_sees(tables_, told_);
    }
    must(hardware_->writer.apply(step));
    hardware_->nic.model.check_settled();
}

void Together::apply(const std::vector<offload::Step>& steps) {
    for (const offload::Step& step : steps) apply(step);
}

void Together::watch(std::function<void()> after_write) {
    hardware_->registers.after_write = std::move(after_write);
}

std::vector<std::string> Together::violations() const {
    std::vector<std::string> out;
    for (const Violation& violation : hardware_->nic.model.violations())
        out.push_back(fmt::format("{}: {}", text(violation.kind), violation.what));
    return out;
}

double Together::rate_mbps(unsigned pool) const {
    double sum = 0;
    for (unsigned i = 0; i < 2; ++i) sum += hardware_->nic.model.rate_mbps(2 * pool + i).value_or(0);
    return sum;
}

std::vector<Sent> Together::send(std::uint32_t port, const Bytes& frame) {
    std::vector<Sent> sent;
    const auto sort_out = [&](const offload::Outcome& outcome) {
        for (const Delivery& delivery : outcome.deliveries) {
            if (delivery.to_wire) {
                sent.push_back({together_uplink, delivery.bytes});
            } else if (delivery.pool == together_pf) {
                to_software(together_uplink, delivery.bytes, sent);
            } else {
                const auto vf =
                    std::ranges::find_if(device_.pools, [&](const auto& row) { return row.second == delivery.pool; });
                // A VM that is not on its VF does not listen there.
                if (vf != device_.pools.end() && is_in_nic(vf->first)) sent.push_back({vf->first, delivery.bytes});
                filtered_ += delivery.queue == 2 * delivery.pool + 1 ? 1 : 0;
            }
        }
    };
    if (port == together_uplink) {
        sort_out(hardware_->nic.wire(frame));
    } else if (is_in_nic(port)) {
        sort_out(hardware_->nic.send(device_.pools.at(port), frame));
    } else {
        to_software(port, frame, sent);
    }
    std::ranges::sort(sent);
    return sent;
}

void Together::to_software(std::uint32_t port, const Bytes& frame, std::vector<Sent>& sent) {
    ++seen_by_software_;
    if (!view_.ports.contains(port)) return;
    ReferenceSwitch software(view_);
    for (const Sent& copy : software.forward(port, frame).sent) {
        if (copy.port == together_uplink)
            from_pf(copy.bytes, sent);
        else
            sent.push_back(copy);
    }
}

void Together::from_pf(const Bytes& frame, std::vector<Sent>& sent) {
    for (const Delivery& delivery : hardware_->nic.send(together_pf, frame).deliveries) {
        if (delivery.to_wire) {
            sent.push_back({together_uplink, delivery.bytes});
            continue;
        }
        const auto vf =
            std::ranges::find_if(device_.pools, [&](const auto& row) { return row.second == delivery.pool; });
        if (vf != device_.pools.end() && is_in_nic(vf->first)) sent.push_back({vf->first, delivery.bytes});
    }
}

World as_software_sees(const World& tables, const offload::Software& told) {
    World view = tables;
    for (const std::uint32_t vport : told.vports)
        if (const auto found = view.ports.find(vport); found != view.ports.end())
            found->second.flags &= static_cast<std::uint16_t>(~IVDS_PF_UP);
    for (auto& [key, entry] : view.fdb) {
        const auto port = view.ports.find(entry.port);
        if (!told.vports.contains(entry.port) || port == view.ports.end() || port->second.instance != key.instance)
            continue;
        const ivds_instance& in = view.instances.at(key.instance);
        entry = {.port = in.uplink,
                 .last_seen_s = 0,
                 .vlan = in.vlan,
                 .flags = IVDS_FDB_STATIC | IVDS_FDB_PLAIN,
                 .pad0 = 0,
                 .vport = entry.port};
    }
    return view;
}

}  // namespace ivds::test
