// SPDX-License-Identifier: Apache-2.0
// nic.h -- what a NIC makes of a frame, by its registers as read back, for the walk of verify.h. Here is what the
// chips have in common: how frames are told apart, and the tables that decide; what a chip does with them, and in
// which order, is in the file of its own (nic_82599.h, nic_82576.h).
//
// The link is up, and no queue is full.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <vector>

#include "nic/chip.h"
#include "nic/registers.h"
#include "plan/state.h"
#include "verify/doubts.h"
#include "verify/frame.h"
#include "verify/image.h"

namespace ivds::offload::verify {

class Nic {
public:
    Nic(const Nic&) = delete;
    Nic& operator=(const Nic&) = delete;
    virtual ~Nic() = default;

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
    virtual void from_wire(const Frame& frame, Doubts& doubts, Passage& out, Trail* trail = nullptr) const = 0;
    virtual void from_pool(unsigned pool, const Frame& frame, Doubts& doubts, Passage& out,
                           Trail* trail = nullptr) const = 0;

    // What classes of frames are made by.
    struct Address {
        PoolSet pools = 0;
        unsigned slot = 0;
    };
    struct Group {
        PoolSet pools = 0;
        std::uint64_t slots = 0;
        bool admitted = false;  // by the VLAN filter of the port
        auto operator<=>(const Group&) const = default;
    };
    [[nodiscard]] unsigned pools() const { return pools_; }
    [[nodiscard]] const std::unordered_map<std::uint64_t, Address>& addresses() const { return addresses_; }
    [[nodiscard]] const Address* address(const Mac& mac) const;
    [[nodiscard]] const Group& group(std::uint16_t vid) const { return groups_[vid]; }
    // The tables of hashes, of 4096 bits each. The low bits of what is hashed are the last two bytes of the address.
    enum class Hash : std::uint8_t { unicast, multicast };
    [[nodiscard]] bool in_hash(Hash table, const Mac& mac) const;
    // The lowest hash whose bit is set, or is not.
    [[nodiscard]] std::optional<unsigned> first_hash(Hash table, bool set) const;
    // An address of the hash: `mac` with other last bytes.
    [[nodiscard]] Mac with_hash(Mac mac, unsigned hash) const;
    [[nodiscard]] virtual bool can_send(unsigned pool) const = 0;  // its first queue, the pool and the port are on
    [[nodiscard]] virtual bool has_vlan_mirror() const { return false; }
    // The TPIDs of the tag that the filters look at: of what is received, and of what is sent.
    [[nodiscard]] virtual std::uint16_t type_in() const = 0;
    [[nodiscard]] virtual std::uint16_t type_out() const = 0;
    [[nodiscard]] virtual bool looks_at_cfi() const = 0;
    // The VID of the tag that is added to all that the pool sends.
    [[nodiscard]] virtual std::optional<std::uint16_t> adds_tag(unsigned pool) const = 0;

    // Whether each VM's driver says which multicast its VF gets, and not whoever programs the NIC.
    [[nodiscard]] virtual bool vms_choose_multicast() const { return false; }

    struct Queues {
        bool sends = true;            // the first one is on
        bool receives = true;         // likewise
        std::vector<unsigned> off{};  // those that flows are hashed to and that are off, by their number in the pool
        std::vector<unsigned> unlike{};  // those that take off the tag where the first does not, or the other way
    };
    [[nodiscard]] virtual Queues queues(unsigned pool) const = 0;

    // Frames that filters of queues look for; nothing else is looked at behind the tags.
    [[nodiscard]] virtual std::vector<Payload> filtered_payloads() const { return {}; }

    // Registers that contradict each other, or hold what the maker does not allow: what the chip then does is not
    // written anywhere. And, apart from that, what cannot be read back.
    [[nodiscard]] virtual std::vector<std::string> contradictions() const = 0;
    [[nodiscard]] virtual std::vector<std::string> hidden() const { return {}; }

    [[nodiscard]] const Image& image() const { return image_; }
    // What the tables hold, in words; what is empty or off is left out.
    struct Slot {
        std::string table;  // "RAL/RAH"
        unsigned slot = 0;
        std::string text;
    };
    [[nodiscard]] std::vector<Slot> slots() const;

protected:
    // The chip's words for its tables, as trails have them.
    struct Words {
        std::string_view addresses;  // "RAL/RAH"
        std::string_view groups;     // "PFVLVF"
        std::string_view flags;      // of pools: "PFVML2FLT"
        std::string_view unicast;    // hashes: "PFUTA"
        std::string_view multicast;
        std::string_view filter;         // the bit that turns on the VLAN filter: "VLNCTRL.VFE"
        std::string_view address_check;  // "PFVFSPOOF.MACAS"
        std::string_view vlan_check;
    };
    Nic(Image image, const Words& words)
        : image_(std::move(image)), words_(words), groups_(4096), unicast_(128), multicast_(128) {}

    // The address is that of RAL and RAH; pools in RAH are not looked at.
    void add_address(std::uint32_t low, std::uint32_t high, unsigned slot, PoolSet pools);
    void add_group(std::uint16_t vid, unsigned slot, PoolSet pools);
    void admit(unsigned word, std::uint32_t vids);  // 32 of them

    // Whom the frame is for by its destination alone.
    [[nodiscard]] PoolSet by_address(const Frame& frame, const Address* address, Doubts& doubts, Trail* trail) const;
    // The pools that take frames with this tag, or without one.
    [[nodiscard]] PoolSet taking_tag(const std::optional<Tag>& tag) const;
    void note_tag(const std::optional<Tag>& tag, PoolSet before, PoolSet after, Trail* trail) const;

    // What of the frames that a pool sends is held against the tables.
    struct Checks {
        bool addresses = false;
        bool vlans = false;
    };
    [[nodiscard]] virtual Checks checks(unsigned pool) const = 0;
    [[nodiscard]] bool is_spoofed(unsigned pool, const Mac& source, const std::optional<Tag>& tag, Doubts& doubts,
                                  Trail* trail) const;

    const Image image_;
    const Words words_;
    unsigned pools_ = 0;
    unsigned hash_shift_ = 4;  // of the last two bytes of an address
    bool replicates_ = false;
    bool filters_vlans_ = false;
    bool hashes_multicast_ = true;
    PoolSet receiving_ = 0, sending_ = 0;
    PoolSet aupe_ = 0, bam_ = 0, rompe_ = 0, rope_ = 0, mpe_ = 0;  // pools by the flags of that name
    std::unordered_map<std::uint64_t, Address> addresses_;
    std::vector<Group> groups_;
    std::vector<std::uint32_t> unicast_, multicast_;
};

// What the two chips' files share.
[[nodiscard]] std::string names(PoolSet pools);
inline constexpr unsigned first_bits_of_hash[]{4, 3, 2, 0};  // of the last two bytes, by MO

// Reads each register of the chip that decides about frames once. Fails where the chip has no walk, where an access
// does not reach the NIC, or where all registers read as all ones: then it is gone.
[[nodiscard]] Result<std::unique_ptr<Nic>> read_nic(const Chip& chip, Registers& registers);

}  // namespace ivds::offload::verify
