// SPDX-License-Identifier: Apache-2.0
// kernel.h -- the seam between the switch's logic and the operating system: everything that changes or asks
// the kernel goes through it, one call a step, so that a fake can stand in and fail at any step.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "error.h"
#include "ivds/abi.h"
#include "netdev.h"

namespace ivds {

enum class Map : std::uint8_t {
    meta,
    ifports,
    ports,
    port_state,
    instances,
    instance_state,
    vvlans,
    fdb,
    neighbours,
    peer_rates,
    tx,
    port_stats,
    nic_stats,
    instance_stats,
    drops,
    misses,
    acls,
    acl_masks,
    acl_rules,
    rule_stats,
    flows,
    pools,
    mirrors,
    mirror_state,
    mirror_stats,
    captures,
    capture_room,
    recents,
    inspectors,
    scratch,
    events,
};
constexpr std::size_t kMapCount = 31;
[[nodiscard]] const char* map_name(Map map);

// A place on an interface that one of our programs can run at. The shared ones are XDP in the same two modes, as one
// of several programs in libxdp's dispatcher instead of alone on the hook.
enum class Point : std::uint8_t { native, generic, tcx, clsact, shared_native, shared_generic };
[[nodiscard]] constexpr bool is_shared(Point point) {
    return point == Point::shared_native || point == Point::shared_generic;
}
[[nodiscard]] constexpr bool is_xdp(Point point) {
    return point == Point::native || point == Point::generic || is_shared(point);
}
[[nodiscard]] std::string to_string(Point point);

// What is hooked on one interface.
struct Hooks {
    std::string netdev;
    std::optional<Point> tc;                // tcx or clsact
    std::optional<Point> xdp;               // native or generic, alone or shared
    [[nodiscard]] std::string got() const;  // "native+tcx", "native-libxdp+tcx" …, "none"
};

// The programs of one build, as handles that the Kernel knows.
struct Programs {
    int xdp = -1;
    int tc = -1;
    int mirror = -1;
    int sweep = -1;
};

struct ForeignProgram {
    std::uint32_t id = 0;
    std::string name;
    std::string tag;
};

// What is in libxdp's dispatcher on an interface, in no order.
struct Dispatcher {
    bool there = false;               // the program on the XDP hook is a dispatcher that libxdp keeps
    std::vector<std::uint32_t> ours;  // ids of our programs: one, or two in the middle of an upgrade
    std::vector<ForeignProgram> others;
};

// How many entries a sweep removed.
struct Swept {
    std::uint32_t fdb = 0;
    std::uint32_t flows = 0;
};

class Kernel {
public:
    Kernel() = default;
    Kernel(const Kernel&) = delete;
    Kernel& operator=(const Kernel&) = delete;
    virtual ~Kernel() = default;

    // ---- maps. Keys and values have the sizes that abi.h gives them.
    [[nodiscard]] virtual Result<bool> lookup(Map map, const void* key, void* value) = 0;  // false: absent
    [[nodiscard]] virtual Result<> put(Map map, const void* key, const void* value) = 0;
    [[nodiscard]] virtual Result<bool> put_new(Map map, const void* key, const void* value) = 0;  // false: is there
    [[nodiscard]] virtual Result<bool> take(Map map, const void* key, void* value) = 0;  // removes; false: absent
    [[nodiscard]] virtual Result<> erase(Map map, const void* key) = 0;                  // absent is fine
    [[nodiscard]] virtual Result<> each(Map map, const std::function<void(const void*, const void*)>& sink) = 0;
    // Adds to the counts of learned entries, atomically beside the data plane.
    virtual void learned(std::uint32_t port, std::uint32_t instance, int by) = 0;
    // Whether anything is counted as learned at `port`, or if that is 0 by `instance`; or as a flow of the port.
    [[nodiscard]] virtual bool has_learned(std::uint32_t port, std::uint32_t instance) = 0;
    // Adds to the count of a port's flow entries, in the same way.
    virtual void count_flows(std::uint32_t port, int by) = 0;
    // The counters of a port that no frame passes meanwhile are these.
    [[nodiscard]] virtual Result<> set_port_stats(std::uint32_t port, const ivds_port_stats& stats) = 0;
    // Counters, state and drop rows of a slot that nothing uses any more.
    virtual void forget_port(std::uint32_t port) = 0;
    virtual void forget_instance(std::uint32_t instance) = 0;
    // Counters of rules that no list holds any more.
    virtual void forget_rules(const std::set<std::uint32_t>& rules) = 0;
    // Counters, state and ring of a session that nothing uses any more.
    virtual void forget_mirror(std::uint32_t session) = 0;
    // Sees to it that the session's copies go into a ring of this size that is pinned under `name`. One of another
    // size is no more: whoever reads it opens the new one.
    [[nodiscard]] virtual Result<> keep_ring(std::uint32_t session, const std::string& name, std::uint32_t bytes) = 0;
    // Removes all such rings but those of these names.
    virtual void forget_rings(const std::set<std::string>& but) = 0;
    [[nodiscard]] virtual Result<Swept> sweep(std::uint32_t port, std::uint32_t instance, ivds_sweep_only only) = 0;

    // ---- programs
    [[nodiscard]] virtual std::string build() const = 0;    // of this binary
    [[nodiscard]] virtual std::string running() const = 0;  // of the programs that `current` gives
    [[nodiscard]] virtual Programs current() const = 0;
    [[nodiscard]] virtual Result<Programs> load() = 0;             // this binary's programs over the same maps
    virtual void unload(const Programs& programs) = 0;             // closes what load() gave
    [[nodiscard]] virtual Result<> pin_next(const Programs&) = 0;  // beside the current ones
    virtual void unpin_next() = 0;
    [[nodiscard]] virtual Result<> adopt(const Programs&) = 0;  // the pinned next ones become `current`

    // Many hooks are about to change (true), or were changed (false): each waits for an RCU grace period.
    virtual void hurry(bool on) = 0;

    // ---- hooks. A link made is gone when closed unless it was pinned.
    [[nodiscard]] virtual Result<int> link_create(const Netdev& netdev, Point point, int program) = 0;
    [[nodiscard]] virtual Result<> link_pin(int link, const Netdev& netdev, Point point) = 0;
    virtual void link_close(int link) = 0;
    // Detaches and unpins; an interface or link that is gone already is fine.
    [[nodiscard]] virtual Result<> link_remove(std::uint32_t ifindex, const std::string& netdev, Point point) = 0;
    // Puts `program` into the hook in place of what runs there, and gives a handle of that (unload() it).
    [[nodiscard]] virtual Result<int> swap(std::uint32_t ifindex, const std::string& netdev, Point point,
                                           int program) = 0;
    virtual void close_program(int program) = 0;
    [[nodiscard]] virtual Result<> clsact_attach(const Netdev& netdev, int program) = 0;
    [[nodiscard]] virtual Result<> clsact_detach(std::uint32_t ifindex) = 0;
    [[nodiscard]] virtual bool clsact_ours(std::uint32_t ifindex) = 0;
    // Whether this kernel and libxdp can share an XDP hook; tried for real, the error says what failed.
    [[nodiscard]] virtual Result<> can_share() = 0;
    [[nodiscard]] virtual Dispatcher dispatcher(std::uint32_t ifindex) = 0;
    // Adds the program of this build to the dispatcher, which is made if the hook is empty; gives its id. The
    // dispatcher is exchanged as a whole, so that no frame misses the others.
    [[nodiscard]] virtual Result<std::uint32_t> join(std::uint32_t ifindex, const std::string& netdev,
                                                     Point point) = 0;
    // Takes these programs of ours out of it, the same way; with none named, all of ours. What is gone is fine.
    [[nodiscard]] virtual Result<> leave(std::uint32_t ifindex, const std::string& netdev,
                                         const std::vector<std::uint32_t>& programs) = 0;
    // What runs by interface index: pinned links and dispatchers with a program of ours. What is dead (its
    // interface is gone) is removed on the way.
    [[nodiscard]] virtual Result<std::map<std::uint32_t, Hooks>> hooks() = 0;
    [[nodiscard]] virtual bool has_tcx() = 0;
    [[nodiscard]] virtual ForeignProgram program_info(std::uint32_t id) = 0;
    [[nodiscard]] virtual std::vector<ForeignProgram> foreign_tcx(std::uint32_t ifindex) = 0;

    // ---- the tap: a pair of interfaces that copies pass, with the mirror program at its other end
    // (bpf/mirror_send.h) Makes what is missing of it, and gives the ifindex of the sending end.
    [[nodiscard]] virtual Result<std::uint32_t> make_tap() = 0;
    [[nodiscard]] virtual Result<> remove_tap() = 0;  // absent is fine
    // Puts `program` into its hook in place of what runs there, and gives a handle of that; -1: there is no tap.
    [[nodiscard]] virtual Result<int> swap_tap(int program) = 0;

    // ---- interfaces
    [[nodiscard]] virtual Result<std::vector<Netdev>> netdevs() = 0;
    [[nodiscard]] virtual Result<std::optional<Netdev>> netdev(const std::string& name) = 0;
    [[nodiscard]] virtual Result<> set_up(std::uint32_t ifindex, bool up) = 0;
    // Off takes back only what on did, also if that was another process; gone interfaces are fine.
    [[nodiscard]] virtual Result<> set_promiscuous(std::uint32_t ifindex, const std::string& netdev, bool on) = 0;
    [[nodiscard]] virtual Result<std::string> driver(const std::string& netdev) = 0;
    [[nodiscard]] virtual Result<Features> features(const Netdev& netdev, bool peer) = 0;
    [[nodiscard]] virtual Result<> set_features(const Netdev& netdev, bool peer,
                                                const std::map<std::string, bool>& wanted) = 0;

    // ---- the end
    [[nodiscard]] virtual Result<> remove_pins() = 0;
};

}  // namespace ivds
