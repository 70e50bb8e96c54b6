// SPDX-License-Identifier: Apache-2.0
// software.h -- where the data plane's tables send a frame, for the walk of verify.h: VLANs, addresses, tags, and the
// checks of senders. Written from the pipeline (bpf/classify.h, bpf/tc.h) and apart from the reference switch.
//
// Lists of rules, rates, inspectors and mirrors are taken to let everything pass: where the ports that have them are
// software's they say the same with and without a NIC, and a vPort in the NIC must not have them (verify.h, policy).
// Copies of mirrors that are the NIC's are the walk's to add. Nothing is learned: the walk is about the tables of one
// moment. Members of an instance are the ports that name it.
#pragma once

#include <cstdint>
#include <map>
#include <unordered_map>
#include <vector>

#include "plan/plan.h"
#include "plan/snapshot.h"
#include "verify/frame.h"

namespace ivds::offload::verify {

inline constexpr std::uint32_t to_host = 0;  // as a port: up to the host, as if the switch were not there

struct Out {
    std::uint32_t port = 0;  // whose interface it goes out by
    std::uint32_t via = 0;   // the vPort: `port`, or one behind it
    Tags tags{};
    auto operator<=>(const Out&) const = default;
};

class Software {
public:
    explicit Software(const Snapshot& tables);

    struct Told {
        std::vector<Out> outs{};
        std::uint32_t instance = 0;  // that the frame came in by; 0: none
        std::uint32_t reason = 0;    // enum ivds_drop, of a frame that is dropped where it came in
        bool control = false;        // …, or would be by a port behind the NIC: link-local or MAC control
        bool too_long = false;       // dropped, there or where it was to go out, for its length
        void clear() {
            outs.clear();
            instance = reason = 0;
            control = too_long = false;
        }
    };
    // In by an interface: of a vPort, a trunk or an uplink.
    void from_port(std::uint32_t port, const Frame& frame, Told& told, Trail* trail = nullptr) const;
    // Out of the far end of a patch, let in already.
    void from_patch(std::uint32_t port, const Frame& frame, Told& told, Trail* trail = nullptr) const;

    [[nodiscard]] const Snapshot& tables() const { return tables_; }
    [[nodiscard]] const ivds_port* port(std::uint32_t id) const;
    [[nodiscard]] const ivds_instance* instance(std::uint32_t id) const;
    [[nodiscard]] const ivds_fdb_entry* entry(std::uint32_t instance, const Mac& mac) const;

private:
    struct Key {
        std::uint32_t instance = 0;
        std::uint64_t mac = 0;
        bool operator==(const Key&) const = default;
    };
    struct Hash {
        std::size_t operator()(const Key& key) const {
            return (key.mac ^ std::uint64_t{key.instance} << 40) * 0x9e3779b97f4a7c15ULL >> 20;
        }
    };
    struct Under {  // a frame that was let in
        std::uint32_t port = 0;
        std::uint32_t instance = 0;
        const ivds_instance* of = nullptr;
        Tags guest{};             // as the VM sees it
        unsigned guest_tags = 0;  // that the pipeline reads
        unsigned l3_bytes = 0;    // what is behind those
        std::uint16_t pcp = 0;
        bool guest_tagged = false;  // one of them names a VLAN
        bool from_wire = false;
    };

    // What of the frame is behind the first `own` tags.
    static void look_behind(const Frame& frame, unsigned own, Under& under);
    void from_vport(std::uint32_t port, const Frame& frame, unsigned trunk_tags, Told& told, Trail* trail) const;
    void from_uplink(std::uint32_t port, const Frame& frame, Told& told, Trail* trail) const;
    void forward(const Under& under, const Frame& frame, Told& told, Trail* trail) const;
    // 0, or why the vPort does not get it (enum ivds_drop).
    [[nodiscard]] std::uint32_t refusal(const ivds_port& to, const Under& under) const;
    void to_vport(std::uint32_t id, const ivds_port& to, const Under& under, Told& told) const;
    bool to_wire(const Under& under, std::uint16_t vlan, std::uint16_t vvlan, unsigned headroom, Told& told) const;

    const Snapshot& tables_;
    std::unordered_map<std::uint32_t, const ivds_port*> ports_;
    std::unordered_map<std::uint32_t, const ivds_instance*> instances_;
    std::unordered_map<Key, const ivds_fdb_entry*, Hash> fdb_;
    std::unordered_map<std::uint32_t, std::vector<std::pair<std::uint32_t, const ivds_port*>>> members_;
};

// The tables without a NIC, where a VF is a vPort like others, and as software has them beside it. What `told` says
// is in the NIC is in the second behind the uplink; other VFs are down in both.
struct Views {
    Snapshot alone;
    Snapshot beside;
};
[[nodiscard]] Views views_of(const Snapshot& tables, const offload::Software& told);

// The uplink's wire, which the NIC has as it is.
class Cable {
public:
    Cable(const Snapshot& tables, const Device& device);
    // The V.VLAN's tag is the only one that frames of the switch have; else there is an outer VLAN's before it.
    [[nodiscard]] bool is_single() const { return single_; }
    // Tags of the wire's in front of a VM's own.
    [[nodiscard]] unsigned own_tags() const { return single_ ? 1 : 2; }
    // TPID of the V.VLAN's.
    [[nodiscard]] std::uint16_t tpid() const { return tpid_; }
    [[nodiscard]] std::uint16_t outer_tpid() const { return outer_tpid_; }
    // V.VLANs that are registered behind some outer VLAN.
    [[nodiscard]] const std::set<std::uint16_t>& inners() const { return inners_; }
    // What can be in front of the V.VLAN's tag: one of each class.
    [[nodiscard]] std::vector<Tags> outers() const;
    // The instances by their V.VLAN, where that alone tells them.
    [[nodiscard]] const std::map<std::uint16_t, std::uint32_t>& vvlans() const { return vvlans_; }

private:
    bool single_ = true;
    std::uint16_t tpid_ = tpid_c;
    std::uint16_t outer_tpid_ = tpid_c;
    std::set<std::uint16_t> vlans_;
    std::set<std::uint16_t> inners_;
    std::map<std::uint16_t, std::uint32_t> vvlans_;
};

}  // namespace ivds::offload::verify
