// SPDX-License-Identifier: Apache-2.0
// plane.h -- what the agent needs of the data plane: the seam behind which tests put a plane that fails on demand.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "loader/netdev.h"
#include "loader/switch.h"
#include "loader/trace.h"

namespace ivds {

class Plane {
public:
    virtual ~Plane() = default;

    // These do what the functions of Switch by the same name do.
    virtual Result<> apply(Tables next, bool strict) = 0;
    [[nodiscard]] virtual const Tables& tables() const = 0;
    [[nodiscard]] virtual std::vector<PortStatus> status() const = 0;
    virtual std::vector<Finding> doctor() = 0;
    virtual Result<> mend() = 0;
    virtual std::vector<PortChange> on_watch() = 0;
    virtual void on_events(const std::function<void(const ivds_event&)>& sink) = 0;
    virtual Result<std::uint32_t> sweep() = 0;
    virtual Result<std::uint32_t> flush_port(std::uint32_t port) = 0;
    virtual Result<std::uint32_t> flush_instance(std::uint32_t instance) = 0;
    virtual Result<> forget(std::uint32_t instance, const Mac& mac) = 0;
    virtual Result<std::uint32_t> flush_flows(std::uint32_t port, std::uint32_t instance) = 0;
    virtual Result<> carry_over(std::uint32_t port, const ivds_port_stats& stats,
                                const std::vector<FlowRow>& flows) = 0;
    virtual Result<> send_on(std::uint32_t instance, const Mac& mac, std::uint32_t until_s) = 0;

    // What NetdevQuery::set_link() does.
    virtual Result<> set_link(const std::string& netdev, bool on) = 0;

    // A ring for a session of kind RING, as a descriptor that the caller closes.
    virtual Result<int> make_ring(std::uint32_t session, std::uint32_t bytes) = 0;

    // What NetdevQuery::look() says.
    [[nodiscard]] virtual Result<std::map<std::string, Interface>> look(const std::set<std::string>& names,
                                                                        bool thorough) const = 0;

    // What NICs counted of a vPort: the map nic_stats.
    [[nodiscard]] virtual Result<std::optional<ivds_nic_stats>> nic_stats(std::uint32_t port) const = 0;
    virtual Result<> set_nic_stats(std::uint32_t port, const ivds_nic_stats& stats) = 0;

    // Calls `sink` with every learned entry of the FDB.
    virtual void learned(const std::function<void(const FdbRow&)>& sink) const = 0;

    // Read-only eyes on what it holds, and on what it would do.
    [[nodiscard]] virtual const MapsView& maps() const = 0;
    virtual Result<std::vector<RungTrace>> trace(std::uint32_t port, std::span<const std::uint8_t> frame,
                                                 bool xdp) = 0;
    // How many frames a port had, both ways.
    [[nodiscard]] virtual std::uint64_t frames(std::uint32_t port) const = 0;
    // How many frames a rule decided about.
    [[nodiscard]] virtual std::uint64_t decided(std::uint32_t rule) const = 0;
    [[nodiscard]] virtual std::uint64_t generation() const = 0;
};

// The real one.
class SwitchPlane final : public Plane {
public:
    SwitchPlane(Switch& sw, const MapsView& maps, NetdevQuery& netdevs, std::string root)
        : switch_(sw), maps_(maps), netdevs_(netdevs), root_(std::move(root)) {}

    Result<> apply(Tables next, bool strict) override { return switch_.apply(std::move(next), strict); }
    [[nodiscard]] const Tables& tables() const override { return switch_.tables(); }
    [[nodiscard]] std::vector<PortStatus> status() const override { return switch_.status(); }
    std::vector<Finding> doctor() override { return switch_.doctor(); }
    Result<> mend() override { return switch_.mend(); }
    std::vector<PortChange> on_watch() override { return switch_.on_watch(); }
    void on_events(const std::function<void(const ivds_event&)>& sink) override { switch_.on_events(sink); }
    Result<std::uint32_t> sweep() override { return switch_.sweep(); }
    Result<std::uint32_t> flush_port(std::uint32_t port) override { return switch_.flush_port(port); }
    Result<std::uint32_t> flush_instance(std::uint32_t instance) override { return switch_.flush_instance(instance); }
    Result<> forget(std::uint32_t instance, const Mac& mac) override { return switch_.forget(instance, mac); }
    Result<std::uint32_t> flush_flows(std::uint32_t port, std::uint32_t instance) override {
        return switch_.flush_flows(port, instance);
    }
    Result<> carry_over(std::uint32_t port, const ivds_port_stats& stats,
                        const std::vector<FlowRow>& flows) override {
        return switch_.carry_over(port, stats, flows);
    }
    Result<> send_on(std::uint32_t instance, const Mac& mac, std::uint32_t until_s) override {
        return switch_.send_on(instance, mac, until_s);
    }
    Result<> set_link(const std::string& netdev, bool on) override {
        auto query = NetdevQuery::open();  // look() may be under way in another thread
        return query ? query->set_link(netdev, on) : Result<>(std::unexpected(query.error()));
    }
    Result<int> make_ring(std::uint32_t session, std::uint32_t bytes) override {
        return switch_.make_ring(session, bytes);
    }
    [[nodiscard]] Result<std::map<std::string, Interface>> look(const std::set<std::string>& names,
                                                                bool thorough) const override {
        return netdevs_.look(names, thorough);
    }
    [[nodiscard]] Result<std::optional<ivds_nic_stats>> nic_stats(std::uint32_t port) const override {
        return maps_.nic_stats(port);
    }
    Result<> set_nic_stats(std::uint32_t port, const ivds_nic_stats& stats) override {
        return switch_.set_nic_stats(port, stats);
    }
    void learned(const std::function<void(const FdbRow&)>& sink) const override {
        (void)maps_.fdb([&](const FdbRow& row) {
            if ((row.entry.flags & IVDS_FDB_STATIC) == 0) sink(row);
            return true;
        });
    }
    [[nodiscard]] const MapsView& maps() const override { return maps_; }
    Result<std::vector<RungTrace>> trace(std::uint32_t port, std::span<const std::uint8_t> frame, bool xdp) override {
        if (tracer_ == nullptr) {
            auto opened = Tracer::open(root_);
            if (!opened) return std::unexpected(opened.error());
            tracer_ = std::move(*opened);
        }
        return tracer_->trace(port, frame, xdp);
    }
    [[nodiscard]] std::uint64_t frames(std::uint32_t port) const override {
        const auto stats = maps_.port_stats(port);
        return stats ? stats->rx_packets + stats->tx_packets : 0;
    }
    [[nodiscard]] std::uint64_t decided(std::uint32_t rule) const override {
        return maps_.rule_packets(rule).value_or(0);
    }
    [[nodiscard]] std::uint64_t generation() const override {
        const auto meta = maps_.meta();
        return meta ? meta->generation : 0;
    }

private:
    Switch& switch_;
    const MapsView& maps_;
    NetdevQuery& netdevs_;
    const std::string root_;
    std::unique_ptr<Tracer> tracer_;  // loaded by the first trace, and kept
};

}  // namespace ivds
