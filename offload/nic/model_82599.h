// SPDX-License-Identifier: Apache-2.0
// model_82599.h -- the 82599 as a model at register level: what one port makes of each frame, by what its registers
// hold. No I/O, no clock, no chance. It is written from the datasheets and the drivers' view of the registers, apart
// from everything that plans register values, so that each can catch the other.
//
// A register access that the maker does not allow is noted as a violation; the model then goes on as silicon most
// likely does. Not modelled: descriptors and rings beyond "has room", DCB and its traffic classes, FCoE, IPsec, RSC,
// large sends, manageability but for the BMC's own addresses, the mailbox, signature filters, IPv6 in Flow Director.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "nic/82599.h"
#include "nic/frame.h"
#include "nic/registers.h"

namespace ivds::offload {

// What the texts at hand leave open. Each flag is off where the model does what they most likely mean; a plan that is
// right must hold for both values of each.
struct Uncertain {
    // The X550 takes disabled pools (PFVFRE) off the list right after the exact match, so that the hash tables or the
    // default pool may then take the frame; the 82599's list of steps could not be read at that place.
    bool early_vfre = false;
    // On the X550 an address whose pool is disabled counts as unknown, and the frame goes to the wire; whether the
    // 82599 does so is not known.
    bool disabled_pool_is_unknown = false;
    // "The default pool is used only for broadcast and multicast" when a pool sends, but the steps do not say where.
    bool tx_default_pool = false;
    // Without replication, one section sends a pool's broadcast and multicast to the wire alone, another also to the
    // default pool.
    bool tx_default_pool_unreplicated = false;
    // Whether a mirror rule sees the copies that an earlier rule added.
    bool mirrors_chain = false;
    // Whether a VLAN mirror needs a frame that some pool received; the text says so of uplink mirrors only.
    bool vlan_mirror_needs_pool = false;
    // Whether a frame that the anti-spoof checks dropped still reaches a VLAN mirror.
    bool vlan_mirror_sees_spoofed = false;
    // Whether a Flow Director or five-tuple filter without a pool moves a frame to a queue of another pool: the
    // datasheet forbids it, users of DPDK report it.
    bool filters_cross_pools = false;
    // Whether Flow Director is asked before the five-tuple filters; their order comes from memory.
    bool flow_director_first = false;
    // Of two five-tuple filters that match, the one with the higher number as its priority wins; that 7 is the
    // highest comes from memory.
    bool low_priority_wins = false;
    // Whether frames from pool to pool are hashed to a queue; without what the X550 added they seem to go to the
    // first queue of the pool.
    bool loopback_rss = false;
    // Whether they pass the filters on L3 and L4, which on the X550 takes a bit that the 82599 does not have.
    bool loopback_flows = false;
    // Whether they pass the EtherType filters; the list of steps for transmission does not name these.
    bool loopback_ethertype = false;
    // Whether the VLAN filter table (VFTA) holds for them, or the VLAN groups (PFVLVF) alone.
    bool loopback_vfta = false;
    // Whether the global address filter (FCTRL, exact and hash tables) holds for them.
    bool loopback_l2_filter = false;
    // Whether a pool that has a VLAN inserted, or never, may send a frame with a tag in its buffer: "should be
    // dropped", the text says.
    bool vmvir_passes_tagged = false;
    // Whether the VLAN anti-spoof check drops frames without a tag; the X550 does not check them, and the 82599's
    // clarification 15 on it could not be read.
    bool spoof_check_untagged = false;
    // With two tags: whether a frame with the inner tag alone is taken for tagged, not for an unknown untagged one.
    bool inner_tag_alone_counts = false;
    // With two tags: whether RSS works; DPDK names it a limitation of the family.
    bool rss_with_two_tags = false;
};

// An access, or a state in which a frame found the chip, that the maker does not allow.
struct Violation {
    enum class Kind : std::uint8_t {
        unaligned,
        unknown_offset,   // no register of the table
        read_only,        // written
        write_only,       // read
        reserved_bits,    // not written as after a reset
        forbidden_value,  // a value that the maker excludes
        order,            // before or after something else, or while something is on
        contradiction,    // registers that must agree do not, when a frame comes
        not_modelled,     // allowed, but the model does not do it
    };
    Kind kind;
    std::uint32_t offset = 0;
    std::uint32_t value = 0;
    std::string what;
};

// Why a pool is in a frame's list, or the frame on the wire.
struct Because {
    enum class Step : std::uint8_t {
        only_pool,        // virtualization is off
        exact,            // slot: RAL/RAH
        broadcast,        // PFVML2FLT.BAM
        unicast_hash,     // PFUTA and ROPE
        multicast_hash,   // MTA and ROMPE
        all_multicast,    // MPE
        default_pool,     // PFVTCTL.DEF_PL
        ethertype,        // slot: ETQF
        mirror,           // slot: PFMRCTL
        unknown_unicast,  // to the wire: no exact match
        group,            // to the wire: broadcast or multicast
        no_switching,     // to the wire: PFDTXGSWC.LBE is 0
    };
    Step step = Step::exact;
    unsigned slot = 0;
};

// What chose the queue within a pool.
enum class QueueBy : std::uint8_t { pool, rss, ethertype, syn, five_tuple, flow_director };

struct Delivery {
    bool to_wire = false;
    unsigned pool = 0;   // unless to_wire
    unsigned queue = 0;  // absolute
    QueueBy queue_by = QueueBy::pool;
    Bytes bytes{};
    std::optional<std::uint16_t> stripped{};  // the tag, as the receive descriptor tells it (STATUS.VP)
    bool outer_tag = false;                   // the descriptor's VEXT
    bool loopback = false;                    // the descriptor's LB
    Because because{};
};

struct Drop {
    enum class Reason : std::uint8_t {
        runt,                // shorter than an Ethernet header
        link_down,           //
        receive_off,         // RXCTRL.RXEN
        transmit_off,        // DMATXCTL.TE
        transmit_queue_off,  // TXDCTL.ENABLE
        transmit_pool_off,   // PFVFTE
        oversize,            // MAXFRS, HLREG0.JUMBOEN
        mac_control,         // PAUSE and its like, consumed by the MAC
        manageability,       // the BMC's, and not for the host
        l2_filter,           // FCTRL, RAL/RAH, MTA, PFUTA
        vlan_filter,         // VLNCTRL.VFE and VFTA
        cfi,                 // VLNCTRL.CFIEN
        no_pool,             // an empty pool list, and no default pool or wire
        pools_off,           // PFVFRE left none of the list
        queue_off,           // of one pool: RXDCTL.ENABLE
        filtered,            // of one pool: Flow Director's drop queue
        no_descriptor,       // of one pool: its queue is full and drops
        stalled,             // the packet buffer waits for a full queue that does not drop
        tagged,              // PFVMVIR does not allow a tag in the buffer
        spoofed_mac,         // PFVFSPOOF.MACAS
        spoofed_vlan,        // PFVFSPOOF.VLANAS
        end_of_list,
    };
    Reason reason;
    std::optional<unsigned> pool;  // that would have got the copy; none: the whole frame
};

struct Outcome {
    std::vector<Delivery> deliveries{};
    std::vector<Drop> drops{};
    bool to_bmc = false;
    std::optional<unsigned> stalled_queue{};  // since this frame the packet buffer waits for this queue
    // What the tables said, for a trace.
    std::optional<unsigned> mac_slot{};   // RAL/RAH that matched the destination
    std::optional<unsigned> vlan_slot{};  // PFVLVF that matched the VID

    [[nodiscard]] bool on_wire() const;
    [[nodiscard]] std::uint64_t pools() const;  // that received a copy
};

// What a transmit descriptor says besides where the frame is.
struct Transmit {
    unsigned queue = 0;                   // of the pool's
    std::optional<std::uint16_t> vlan{};  // VLE: the tag to insert
};

class Model82599 final : public Registers {
public:
    using Reg = i82599::Reg;
    static constexpr unsigned queues = 128;

    explicit Model82599(Uncertain uncertain = {});

    Result<std::uint32_t> read(std::uint32_t offset) override;
    Result<> write(std::uint32_t offset, std::uint32_t value) override;
    // Looks at a register without the effects of a read.
    [[nodiscard]] std::uint32_t peek(Reg reg, unsigned element = 0) const;
    // From here on, until it is called with null: each register that is looked at is marked, by its slot of
    // i82599::map(). On those that stay unmarked nothing depended.
    void mark_looks(std::vector<bool>* slots) { looks_ = slots; }

    // A frame from the wire, and one that a pool sends; without virtualization pool 0 is all of the host.
    Outcome receive_from_wire(const Bytes& bytes);
    Outcome send_from(unsigned pool, const Bytes& bytes, const Transmit& descriptor = {});

    // The device's surroundings.
    void set_link(bool up, unsigned mbps = 10'000);
    // The manageability filters, reduced to addresses: the BMC sets them over a bus of its own, and the host cannot.
    // What is for one of them is the BMC's, and the host's besides only where MANC2H says so.
    void set_bmc(std::vector<MacAddress> addresses, bool host_too = false);
    void set_queue_full(unsigned queue, bool full);  // no receive descriptors; emptied, it ends a stall for it
    void reset_function(unsigned vf);                // FLR of a VF
    void reset();                                    // PCIe reset: everything, as after power on

    [[nodiscard]] const std::vector<Violation>& violations() const { return violations_; }
    void forget_violations() { violations_.clear(); }
    // To be asked when a sequence of accesses is complete: notes what was begun and not finished.
    void check_settled();

    [[nodiscard]] unsigned pools() const;
    [[nodiscard]] unsigned queues_of_pool() const { return queues / pools(); }
    [[nodiscard]] std::uint64_t drops(Drop::Reason reason) const { return drops_[static_cast<std::size_t>(reason)]; }
    // What a transmit queue is held to at the present link speed; none: not limited.
    [[nodiscard]] std::optional<double> rate_mbps(unsigned queue) const;
    [[nodiscard]] std::size_t flow_filters() const { return flows_.size(); }

private:
    using PoolSet = std::uint64_t;
    static constexpr PoolSet pool_bit(unsigned pool) { return PoolSet{1} << pool; }

    // Pools, and what first put each of them there.
    struct PoolList {
        PoolSet pools = 0;
        std::vector<std::pair<PoolSet, Because>> added{};

        void add(PoolSet more, Because because);
        [[nodiscard]] Because why(unsigned pool) const;
    };
    struct Exact {
        PoolSet pools = 0;
        std::optional<unsigned> slot{};
    };
    struct Groups {
        PoolSet pools = 0;
        std::uint64_t slots = 0;  // of PFVLVF
    };
    struct QueueChoice {
        unsigned queue;
        QueueBy by = QueueBy::pool;
        bool drop = false;
    };
    // A Flow Director filter as the command register programmed it.
    struct FlowFilter {
        std::uint32_t source, destination, ports, vlan, command;
        std::uint32_t hash;  // bucket and software index: its name
    };

    // model_82599.cpp: the register file
    [[nodiscard]] std::uint32_t get(Reg reg, unsigned element = 0) const {
        const std::size_t at = slot(reg, element);
        if (looks_ != nullptr) (*looks_)[at] = true;
        return values_[at];
    }
    [[nodiscard]] std::uint64_t get64(Reg reg, unsigned pair) const;
    [[nodiscard]] static std::size_t slot(Reg reg, unsigned element);
    void set(Reg reg, unsigned element, std::uint32_t value) { values_[slot(reg, element)] = value; }
    [[nodiscard]] bool virtualized() const { return i82599::pfvtctl::vt_en(get(Reg::pfvtctl)) != 0; }
    [[nodiscard]] bool receive_on() const { return i82599::rxctrl::rxen(get(Reg::rxctrl)) != 0; }
    [[nodiscard]] bool transmit_on() const { return i82599::dmatxctl::te(get(Reg::dmatxctl)) != 0; }
    void reset_registers(bool with_pcie);
    void violate(Violation::Kind kind, std::uint32_t offset, std::uint32_t value, std::string what);
    void violate(Violation::Kind kind, Reg reg, unsigned element, std::uint32_t value, std::string what);
    void violate(std::string contradiction);
    std::uint32_t read_register(Reg reg, unsigned element);
    void after_write(Reg reg, unsigned element, std::uint32_t value);
    void show_link();

    // model_82599_rules.cpp: what the maker allows
    void check_write(Reg reg, unsigned element, std::uint32_t before, std::uint32_t after);
    void check_write_of_filter(Reg reg, unsigned element, std::uint32_t before, std::uint32_t after);
    void check_write_of_flow(Reg reg, std::uint32_t before, std::uint32_t after);
    void check_unicast_pools(unsigned entry, std::uint64_t pools, std::uint32_t high, std::uint32_t low);
    void check_initialized();
    void check_state();

    // Counters
    void count(Reg reg, unsigned element = 0, std::uint32_t by = 1);
    void count36(Reg low, Reg high, unsigned element, std::size_t bytes);

    // model_82599_rx.cpp: pool selection, mirrors and copies
    [[nodiscard]] TagMode tag_mode(std::uint16_t type) const;
    [[nodiscard]] PoolSet enabled(Reg reg) const;
    [[nodiscard]] PoolSet with_flag(Field flag) const;
    [[nodiscard]] Exact exact_match(const MacAddress& mac) const;
    [[nodiscard]] bool hash_match(Reg table, const MacAddress& mac) const;
    [[nodiscard]] bool multicast_hash_match(const MacAddress& mac) const;
    [[nodiscard]] bool in_vfta(std::uint16_t vid) const;
    [[nodiscard]] Groups groups_of(const Frame& frame) const;
    [[nodiscard]] bool passes_l2_filter(const Frame& frame, const Exact& exact) const;
    [[nodiscard]] PoolSet accepting_tag(const Frame& frame, const Groups& groups) const;
    void select_by_address(const Frame& frame, const Exact& exact, PoolList& list) const;
    struct Port {
        bool from_wire;
        bool to_wire;
    };
    void add_mirrors(const Frame& frame, const Groups& groups, Port port, PoolList& list) const;
    void deliver(const Frame& frame, const Bytes& bytes, const PoolList& list, bool loopback, Outcome& outcome);
    void deliver_copy(const Frame& frame, const Bytes& bytes, unsigned pool, Because because, bool loopback,
                      Outcome& outcome);
    void drop(Outcome& outcome, Drop::Reason reason, std::optional<unsigned> pool = std::nullopt);

    // model_82599_tx.cpp
    bool apply_tag(unsigned pool, const Transmit& descriptor, Bytes& bytes, Outcome& outcome);
    [[nodiscard]] std::optional<Drop::Reason> spoofed(unsigned pool, const Frame& frame) const;
    void switch_frame(unsigned pool, const Frame& frame, const Bytes& bytes, Outcome& outcome);

    // model_82599_queue.cpp: the queue of a copy
    [[nodiscard]] QueueChoice choose_queue(const Frame& frame, const Bytes& bytes, unsigned pool, bool mirrored,
                                           bool loopback);
    [[nodiscard]] std::optional<unsigned> ethertype_filter(std::uint16_t ethertype) const;
    [[nodiscard]] std::optional<QueueChoice> by_ethertype(const Frame& frame, unsigned pool) const;
    [[nodiscard]] std::optional<QueueChoice> by_syn(const Frame& frame, unsigned pool) const;
    [[nodiscard]] std::optional<QueueChoice> by_five_tuple(const Frame& frame, unsigned pool);
    [[nodiscard]] std::optional<QueueChoice> by_flow(const Frame& frame, const Bytes& bytes, unsigned pool);
    [[nodiscard]] std::optional<QueueChoice> by_rss(const Frame& frame, unsigned pool) const;
    [[nodiscard]] bool flow_matches(const FlowFilter& filter, const Frame& frame, const Bytes& bytes,
                                    unsigned pool) const;
    // Whose a queue is; without virtualization all are pool 0's.
    [[nodiscard]] unsigned owner_of(unsigned queue) const { return virtualized() ? queue / queues_of_pool() : 0; }
    void command_flow(std::uint32_t command);

    Uncertain uncertain_;
    std::vector<std::uint32_t> values_;
    std::vector<bool> written_;  // since the last reset
    std::vector<bool>* looks_ = nullptr;
    std::vector<Violation> violations_;
    std::array<std::uint64_t, static_cast<std::size_t>(Drop::Reason::end_of_list)> drops_{};

    // Behind registers that only select or command.
    std::array<bool, queues> drop_enable_{};
    std::array<std::uint32_t, queues> rate_{};
    std::array<std::uint32_t, queues> credits_{};
    std::vector<FlowFilter> flows_;
    bool flow_tables_clear_ = true;  // since CLEARHT was set and cleared
    bool clearing_flows_ = false;    // CLEARHT is set
    bool read_queue_drop_ = false;   // PFQDE was written with RE

    // Begun and not finished.
    bool unread_queue_drop_ = false;  // PFQDE was written and nothing was read since
    bool unread_flow_hash_ = false;   // the same of FDIRHASH
    unsigned rewrite_rar0_ = 0;       // MPSAR changed: RAL[0] (1) and RAH[0] (2) are to be written again
    bool unchecked_ = true;           // registers changed since the last frame

    std::vector<MacAddress> bmc_;
    bool bmc_and_host_ = false;
    std::array<bool, queues> full_{};
    std::optional<unsigned> stalled_on_;
    bool link_ = true;
    unsigned link_mbps_ = 10'000;
};

// For people: "MAC entry 3", "mirror rule 0"; and the stage that dropped, with the register that says so.
[[nodiscard]] std::string text(const Because& because);
[[nodiscard]] std::string_view text(Drop::Reason reason);
[[nodiscard]] std::string_view text(Violation::Kind kind);

}  // namespace ivds::offload
