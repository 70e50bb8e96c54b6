// SPDX-License-Identifier: Apache-2.0
// nic_82599.h -- what an 82599 makes of a frame. Written from the datasheets' steps (the sections are named in
// nic/82599.h and beside the behavioural model), with no code of the planner, the writer or the model, so that a
// mistake of one shows at another.
//
// Not looked at, as no read shows it: Flow Director's filters (whether there are any is), what a queue does when it
// is full, and rates.
#pragma once

#include <cstdint>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <vector>

#include "nic/82599.h"
#include "verify/image.h"
#include "verify/nic.h"

namespace ivds::offload::verify {

class Nic82599 final : public Nic {
public:
    explicit Nic82599(Image image);

    // The registers that decide, each of one element or many; and what they hold. Those that raise an ECC error
    // before they were written are read where their filter is on.
    [[nodiscard]] static std::span<const i82599::Reg> deciding();
    [[nodiscard]] static Result<Image> read(Registers& registers);

    void from_wire(const Frame& frame, Doubts& doubts, Passage& out, Trail* trail = nullptr) const override;
    void from_pool(unsigned pool, const Frame& frame, Doubts& doubts, Passage& out,
                   Trail* trail = nullptr) const override;
    [[nodiscard]] bool can_send(unsigned pool) const override;
    [[nodiscard]] bool has_vlan_mirror() const override { return vlan_mirrors_; }
    [[nodiscard]] std::uint16_t type_in() const override;
    [[nodiscard]] std::uint16_t type_out() const override;
    [[nodiscard]] bool looks_at_cfi() const override;
    [[nodiscard]] std::optional<std::uint16_t> adds_tag(unsigned pool) const override;
    [[nodiscard]] Queues queues(unsigned pool) const override;
    [[nodiscard]] std::vector<Payload> filtered_payloads() const override;
    [[nodiscard]] std::vector<std::string> contradictions() const override;
    [[nodiscard]] std::vector<std::string> hidden() const override;

private:
    [[nodiscard]] Checks checks(unsigned pool) const override;
    using Reg = i82599::Reg;
    static constexpr unsigned queues_of_port = 128;

    struct Seen {  // by the parser
        bool outer = false;
        bool known = true;
        std::optional<Tag> tag{};
        unsigned tag_at = 0;
        std::uint16_t ethertype = 0;
        bool has_flow = false;
    };
    struct Candidates {
        PoolSet pools = 0;
        PoolSet mirrored = 0;
    };
    struct FiveTuple {
        unsigned number;
        std::uint32_t filter, source, destination, ports;
        unsigned queue;
    };
    struct Mirror {
        unsigned rule;
        std::uint32_t control;
        PoolSet pools;
        std::uint64_t slots;
    };

    [[nodiscard]] Seen parse(const Frame& frame, std::uint16_t type, Doubts& doubts) const;
    [[nodiscard]] PoolSet with_flag(Field flag) const;
    [[nodiscard]] bool passes_port(const Frame& frame, const Address* address) const;
    [[nodiscard]] unsigned queues_of_pool() const { return queues_of_port / pools_; }
    // Queues of the pool that a frame of some flow is hashed to, besides the first: offsets within the pool.
    [[nodiscard]] std::vector<unsigned> hashed_queues(unsigned pool) const;
    // … or a filter gives it to.
    [[nodiscard]] std::set<unsigned> used_queues(unsigned pool) const;
    [[nodiscard]] bool strips(unsigned queue) const;
    [[nodiscard]] std::optional<unsigned> ethertype_filter(std::uint16_t ethertype) const;
    void mirror(const Seen& seen, bool from_wire, bool to_wire, Doubts& doubts, Candidates& list, Trail* trail) const;
    void copy(const Frame& frame, const Tags& tags, const Seen& seen, const Candidates& list, bool loopback,
              Doubts& doubts, Passage& out, Trail* trail) const;
    [[nodiscard]] unsigned queue_of(const Frame& frame, const Seen& seen, unsigned pool, bool loopback,
                                    Doubts& doubts, Trail* trail) const;
    [[nodiscard]] std::optional<unsigned> five_tuple(const Payload& payload, unsigned pool, Doubts& doubts) const;
    [[nodiscard]] unsigned owner(unsigned queue) const { return virtualized_ ? queue / queues_of_pool() : 0; }
    void switch_between(unsigned pool, const Frame& frame, const Tags& tags, const Seen& seen, Doubts& doubts,
                        Passage& out, Trail* trail) const;

    bool virtualized_;
    PoolSet existing_;  // bits of pools that there are
    std::vector<Mirror> mirrors_;
    bool vlan_mirrors_ = false;
    std::vector<std::pair<std::uint16_t, unsigned>> ethertypes_;  // filters that are on
    std::vector<FiveTuple> five_tuples_;
};

}  // namespace ivds::offload::verify
