// SPDX-License-Identifier: Apache-2.0
// core.h -- the switch's logic over the Kernel seam: carries a plan out with undo, attaches and detaches,
// follows interfaces, upgrades. It mirrors what the maps hold and never writes what is there already.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "kernel.h"
#include "plan.h"
#include "preflight.h"
#include "switch.h"

namespace ivds {

// What undoes the steps taken so far. Nothing is undone that was committed.
class Journal {
public:
    Journal() = default;
    Journal(const Journal&) = delete;
    Journal& operator=(const Journal&) = delete;
    ~Journal() { undo(); }
    void add(std::function<void()> inverse) { inverses_.push_back(std::move(inverse)); }
    [[nodiscard]] std::size_t mark() const { return inverses_.size(); }
    void undo(std::size_t to = 0) {
        while (inverses_.size() > to) {
            auto inverse = std::move(inverses_.back());
            inverses_.pop_back();
            inverse();
        }
    }
    void commit() { inverses_.clear(); }

private:
    std::vector<std::function<void()>> inverses_;
};

class Core {
public:
    // `assume_carrier`: for a process that ends and cannot follow the carrier.
    Core(Kernel& kernel, bool assume_carrier, bool coexist = false)
        : kernel_(kernel), assume_carrier_(assume_carrier), coexist_(coexist) {}

    [[nodiscard]] Result<> adopt();  // once, first: takes what is in the maps and pins as the current state
    void suppose(Tables tables) { tables_ = std::move(tables); }  // for doctor() alone: as if they were applied
    [[nodiscard]] Result<> apply(Tables next, bool strict, const std::set<std::string>* only = nullptr);
    [[nodiscard]] const Tables& tables() const { return tables_; }
    [[nodiscard]] const Content& content() const { return content_; }
    [[nodiscard]] std::vector<PortStatus> status() const;
    // Also looks for entries of the maps that somebody else changed; the next apply() writes those anew.
    [[nodiscard]] std::vector<Finding> doctor();
    [[nodiscard]] Result<> mend();  // writes them anew now

    [[nodiscard]] std::vector<PortChange> on_change(const NetdevWatch::Change& change);
    [[nodiscard]] std::vector<PortChange> resync();

    // Ages everything out, and forgets what `only` says of a port or an instance, where one is given.
    [[nodiscard]] Result<Swept> sweep(std::uint32_t port, std::uint32_t instance,
                                      ivds_sweep_only only = IVDS_SWEEP_BOTH);
    [[nodiscard]] Result<> forget(std::uint32_t instance, const Mac& mac);

    [[nodiscard]] Result<> send_on(std::uint32_t instance, const Mac& mac, std::uint32_t until_s);
    [[nodiscard]] Result<> carry_over(std::uint32_t port, const ivds_port_stats& stats,
                                      const std::vector<FlowRow>& flows);

    [[nodiscard]] Result<> upgrade(bool again);
    [[nodiscard]] Result<> tear_down();

private:
    struct PortLife {
        std::string reason;
        bool failed = false;
    };

    [[nodiscard]] Result<> carry_out(const Plan& plan, const Tables& next, bool strict,
                                     const std::set<std::string>* only, Journal& journal);
    [[nodiscard]] Result<> hooks_on(const Tables& next, bool strict, const std::set<std::string>* only,
                                    Journal& journal);
    // Brings the hooks of one port to what they shall be. An error is of the port, not of the switch.
    [[nodiscard]] Result<> converge(std::uint32_t id, const PortRow& row, const Netdev& netdev, Journal& journal);
    [[nodiscard]] Result<> attach(std::uint32_t id, const PortRow& row, const Netdev& netdev,
                                  const Decision& decision, bool fall_back, Journal& journal);
    [[nodiscard]] Result<> release(std::uint32_t id, Journal& journal);
    [[nodiscard]] Result<> refresh(std::uint32_t id, const Netdev& netdev, Journal& journal);
    void fence(std::uint32_t id, const PortRow& row, const Netdev& netdev, Journal& journal);

    [[nodiscard]] Result<> hook(const Netdev& netdev, Point point, Journal& journal);
    [[nodiscard]] Result<> hook(const Netdev& netdev, Point point);
    [[nodiscard]] Result<> unhook(const Netdev& netdev, Point point, Journal& journal);
    [[nodiscard]] Result<> unhook(const Netdev& netdev, Point point);
    void note_hook(const Netdev& netdev, Point point, bool there);

    [[nodiscard]] Result<> put_port(std::uint32_t id, const ivds_port& value, Journal& journal);
    [[nodiscard]] Result<> put_instance(std::uint32_t id, const ivds_instance& value, Journal& journal);
    template <class MirrorMap, class AbiKey>
    [[nodiscard]] Result<> put_row(Map map, MirrorMap& mirror, const typename MirrorMap::key_type& key,
                                   const AbiKey& abi_key, const typename MirrorMap::mapped_type* value,
                                   Journal& journal);
    [[nodiscard]] Result<> put_mirror(std::uint32_t session, const ivds_mirror& value, Journal& journal);
    // Each mirror to a ring of its own has it, and no other ring is kept.
    [[nodiscard]] Result<> rings_on(const Tables& next, Journal& journal);
    // There is a tap as long as there is a mirror.
    [[nodiscard]] Result<> tap_on(Journal& journal);
    [[nodiscard]] Result<> tap_off(Journal& journal);
    [[nodiscard]] Result<> change_acl(std::uint32_t id, const std::shared_ptr<const AclRows>& rows, bool there,
                                      Journal& journal);
    [[nodiscard]] Result<> put_fdb(const std::vector<FdbChange>& changes, Journal& journal);
    [[nodiscard]] Result<> put_neighbours(const std::vector<NeighbourChange>& changes, Journal& journal);
    [[nodiscard]] Result<> put_static(const FdbChange& change,
                                      std::vector<std::pair<FdbKey, ivds_fdb_entry>>& learned);
    [[nodiscard]] Result<> bump_generation(Journal& journal, const std::string* build);
    [[nodiscard]] Result<Content> read_content();
    [[nodiscard]] Result<FdbContent> static_fdb();
    [[nodiscard]] Result<NeighbourContent> read_neighbours();
    [[nodiscard]] Result<AclContent> read_acls();
    [[nodiscard]] Result<Bulk> read_bulk();
    [[nodiscard]] Result<> reconcile();
    void flush_pending();

    [[nodiscard]] Facts facts_of(std::uint32_t id, const PortRow& row, const Netdev& netdev,
                                 const Tables& tables) const;
    [[nodiscard]] bool is_up(std::uint32_t id) const;
    [[nodiscard]] PortChange change_of(std::uint32_t id) const;
    [[nodiscard]] const Tables& wanted_tables() const { return applying_ != nullptr ? *applying_ : tables_; }

    Kernel& kernel_;
    bool assume_carrier_;
    bool coexist_;           // asked to share XDP hooks
    bool adopted_ = false;   // the maps' content did not come from `tables_`
    bool live_ = false;      // there are maps
    bool drifted_ = false;   // somebody else wrote to them
    std::uint32_t tap_ = 0;  // ifindex of its sending end
    Tables tables_;
    const Tables* applying_ = nullptr;
    Content content_;
    std::map<std::uint32_t, Hooks> hooks_;     // by ifindex
    std::map<std::uint32_t, Netdev> netdevs_;  // by ifindex, of bound ports
    std::map<std::uint32_t, PortLife> lives_;  // by port
    std::map<std::string, std::uint32_t> by_netdev_;
    std::set<std::uint32_t> flush_ports_;
    std::set<std::uint32_t> flush_instances_;
};

}  // namespace ivds
