// SPDX-License-Identifier: Apache-2.0
// nic_82599.h -- what an 82599 makes of a frame, by its registers as read back, for the walk of verify.h. Written
// from the datasheets' steps (the sections are named in nic/82599.h and beside the behavioural model), with no code
// of the planner, the writer or the model, so that a mistake of one shows at another.
//
// The link is up, and no queue is full.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include "plan/state.h"
#include "verify/doubts.h"
#include "verify/frame.h"
#include "verify/image.h"

namespace ivds::offload::verify {

class Nic82599 {
public:
    explicit Nic82599(const Image& image);  // which outlives it

    struct Copy {
        unsigned pool = 0;
        Tags tags{};                    // as the pool sees the frame
        std::optional<Tag> stripped{};  // taken off, as the descriptor tells
        bool listens = true;            // the pool's queue is on; else it gets nothing
        bool operator==(const Copy&) const = default;
    };
    struct Passage {
        std::optional<Tags> wire{};
        std::vector<Copy> copies{};
        void clear() {
            wire.reset();
            copies.clear();
        }
    };
    void from_wire(const Frame& frame, Doubts& doubts, Passage& out, Trail* trail = nullptr) const;
    void from_pool(unsigned pool, const Frame& frame, Doubts& doubts, Passage& out, Trail* trail = nullptr) const;

    // What classes of frames are made by.
    struct Address {
        PoolSet pools = 0;
        unsigned slot = 0;
    };
    struct Group {
        PoolSet pools = 0;
        std::uint64_t slots = 0;
        bool admitted = false;  // in VFTA
        auto operator<=>(const Group&) const = default;
    };
    [[nodiscard]] unsigned pools() const { return pools_; }
    [[nodiscard]] const Image& image() const { return image_; }
    [[nodiscard]] const std::unordered_map<std::uint64_t, Address>& addresses() const { return addresses_; }
    [[nodiscard]] const Address* address(const Mac& mac) const;
    [[nodiscard]] const Group& group(std::uint16_t vid) const { return groups_[vid]; }
    // The bit of the table (PFUTA, MTA) that the address falls on.
    [[nodiscard]] bool in_hash(i82599::Reg table, const Mac& mac) const;
    // The lowest hash whose bit is set, or is not.
    [[nodiscard]] std::optional<unsigned> first_hash(i82599::Reg table, bool set) const;
    // An address of the hash: `mac` with other last bytes.
    [[nodiscard]] Mac with_hash(Mac mac, unsigned hash) const;
    [[nodiscard]] bool can_send(unsigned pool) const;  // its first queue, the pool and the port are on
    [[nodiscard]] bool can_receive(unsigned pool) const;
    [[nodiscard]] bool has_vlan_mirror() const { return vlan_mirrors_; }
    [[nodiscard]] unsigned queues_of_pool() const { return queues / pools_; }
    // Queues of the pool that a frame of some flow is hashed to, besides the first: offsets within the pool.
    [[nodiscard]] std::vector<unsigned> hashed_queues(unsigned pool) const;
    [[nodiscard]] bool strips(unsigned queue) const;

    // Frames that filters of queues look for; nothing else is looked at behind the tags.
    [[nodiscard]] std::vector<Payload> filtered_payloads() const;

    // Registers that contradict each other, or hold what the maker does not allow: what the chip then does is not
    // written anywhere. And, apart from that, what cannot be read back.
    [[nodiscard]] std::vector<std::string> contradictions() const;
    [[nodiscard]] std::vector<std::string> hidden() const;

private:
    using Reg = i82599::Reg;
    static constexpr unsigned queues = 128;

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
    [[nodiscard]] PoolSet by_address(const Frame& frame, const Address* address, Doubts& doubts, Trail* trail) const;
    [[nodiscard]] PoolSet taking_tag(const Seen& seen) const;
    void note_tag(const Seen& seen, PoolSet before, PoolSet after, Trail* trail) const;
    [[nodiscard]] std::optional<unsigned> ethertype_filter(std::uint16_t ethertype) const;
    void mirror(const Seen& seen, bool from_wire, bool to_wire, Doubts& doubts, Candidates& list, Trail* trail) const;
    void copy(const Frame& frame, const Tags& tags, const Seen& seen, const Candidates& list, bool loopback,
              Doubts& doubts, Passage& out, Trail* trail) const;
    [[nodiscard]] unsigned queue_of(const Frame& frame, const Seen& seen, unsigned pool, bool loopback,
                                    Doubts& doubts, Trail* trail) const;
    [[nodiscard]] std::optional<unsigned> five_tuple(const Payload& payload, unsigned pool, Doubts& doubts) const;
    [[nodiscard]] unsigned owner(unsigned queue) const { return virtualized_ ? queue / queues_of_pool() : 0; }
    [[nodiscard]] bool is_spoofed(unsigned pool, const Frame& frame, const Seen& seen, Doubts& doubts,
                                  Trail* trail) const;
    void switch_between(unsigned pool, const Frame& frame, const Tags& tags, const Seen& seen, Doubts& doubts,
                        Passage& out, Trail* trail) const;

    const Image& image_;
    bool virtualized_;
    bool replicates_;
    unsigned pools_;
    PoolSet existing_;  // bits of pools that there are
    PoolSet receiving_;
    PoolSet sending_;
    PoolSet aupe_ = 0, bam_ = 0, rompe_ = 0, rope_ = 0, mpe_ = 0;
    unsigned hash_shift_;
    std::unordered_map<std::uint64_t, Address> addresses_;
    std::vector<Group> groups_;
    std::vector<Mirror> mirrors_;
    bool vlan_mirrors_ = false;
    std::vector<std::pair<std::uint16_t, unsigned>> ethertypes_;  // filters that are on
    std::vector<FiveTuple> five_tuples_;
};

}  // namespace ivds::offload::verify
