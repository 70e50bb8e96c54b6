// SPDX-License-Identifier: Apache-2.0
// netdev.h -- network interfaces as the kernel shows them: rtnetlink, the xdp-features of the "netdev"
// generic netlink family, and ethtool features, also of a veth's peer in another network namespace.
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

struct nl_sock;

namespace ivds {

// xdp-features, as the kernel numbers them.
constexpr std::uint64_t kXdpBasic = 1;
constexpr std::uint64_t kXdpRedirect = 2;
constexpr std::uint64_t kXdpNdoXmit = 4;

// What the kernel counts on an interface.
struct NetdevCounters {
    std::uint64_t rx_packets = 0;
    std::uint64_t tx_packets = 0;
    std::uint64_t rx_bytes = 0;
    std::uint64_t tx_bytes = 0;
    std::uint64_t rx_errors = 0;
    std::uint64_t tx_errors = 0;
    std::uint64_t rx_dropped = 0;
    std::uint64_t tx_dropped = 0;
    std::uint64_t rx_missed = 0;
    std::uint64_t rx_crc = 0;
};

struct Netdev {
    std::uint32_t ifindex = 0;
    std::string name;
    std::string kind;  // "veth", "tun", "macvlan" …; empty for hardware
    std::uint32_t mtu = 0;
    bool admin_up = false;
    bool carrier = false;
    bool promiscuous = false;
    bool has_fq = false;  // as its root qdisc, or as all that mq has below
    bool has_mq = false;  // as its root qdisc
    std::uint32_t num_vf = 0;
    std::uint32_t peer_ifindex = 0;             // of a veth: in the peer's namespace
    int peer_nsid = -1;                         // -1: the peer is in this namespace
    std::uint32_t xdp_program = 0;              // id of the XDP program on it, of whichever mode
    bool xdp_generic = false;                   // that program runs in generic mode
    std::optional<std::uint64_t> xdp_features;  // unknown before Linux 6.3
    std::string alias;                          // a text that somebody gave it
    std::string mac;                            // empty if it has none of six bytes
    std::uint32_t rx_queues = 0;                // that it was made with; DriverFacts knows how many are in use
    std::uint32_t tx_queues = 0;
    NetdevCounters counters;

    [[nodiscard]] bool is_veth() const { return kind == "veth"; }
    [[nodiscard]] bool is_hardware() const { return kind.empty(); }
};

struct Feature {
    bool on = false;
    bool fixed = false;  // the driver does not let it change
};
using Features = std::map<std::string, Feature>;  // by ethtool's names: "rx-gro", "tx-vlan-hw-insert" …

// What the driver says of an interface beside that; what it does not say is empty.
struct DriverFacts {
    std::optional<std::uint32_t> speed_mbps;
    std::string driver;
    std::string bus_info;                    // the PCI address
    std::optional<std::uint32_t> rx_queues;  // in use
    std::optional<std::uint32_t> tx_queues;
    std::uint32_t vfs_total = 0;  // that the NIC can make
    std::optional<Feature> vlan_strip;
};

struct Interface {
    Netdev netdev;
    DriverFacts facts;
};

// Requests about interfaces of the network namespace this process is in.
class NetdevQuery {
public:
    [[nodiscard]] static Result<NetdevQuery> open();
    NetdevQuery(NetdevQuery&&) noexcept;
    NetdevQuery& operator=(NetdevQuery&&) noexcept;
    ~NetdevQuery();

    [[nodiscard]] Result<std::vector<Netdev>> all();
    [[nodiscard]] Result<std::optional<Netdev>> by_name(const std::string& name);
    [[nodiscard]] Result<> set_flag(std::uint32_t ifindex, unsigned flag, bool on);  // IFF_UP, IFF_PROMISC

    // Unplugs the cable of an interface, as who is at the other end sees it, or plugs it in again: a veth is set down
    // or up, others lose or get their carrier. What is plugged in was seen to be out before, if the kernel can say so
    // within two seconds. Code::unsupported: the driver of this kind cannot.
    [[nodiscard]] Result<> set_link(const std::string& name, bool on);

    // A pair of veths that take frames of any length; the first gets the alias.
    // Both are down.
    [[nodiscard]] Result<> make_pair(const std::string& one, const std::string& other, const std::string& alias);
    [[nodiscard]] Result<> remove(std::uint32_t ifindex);  // absent is fine

    // Those of these interfaces that are there, by name, as they are now. Of the driver's facts the speed alone,
    // unless `thorough`.
    [[nodiscard]] Result<std::map<std::string, Interface>> look(const std::set<std::string>& names, bool thorough);

    [[nodiscard]] Result<std::string> driver(const std::string& name);
    // Of `netdev`, or with `peer` of the other end of this veth, whichever namespace that is in.
    [[nodiscard]] Result<Features> features(const Netdev& netdev, bool peer);
    [[nodiscard]] Result<> set_features(const Netdev& netdev, bool peer, const std::map<std::string, bool>& wanted);

private:
    struct Impl;
    explicit NetdevQuery(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// Changes of interfaces in the namespace where open() was called.
class NetdevWatch {
public:
    struct Change {
        Netdev netdev;
        bool gone = false;           // only ifindex and name are set
        bool features_only = false;  // only ifindex and xdp_features are set
    };
    [[nodiscard]] static Result<NetdevWatch> open();
    NetdevWatch(NetdevWatch&&) noexcept;
    NetdevWatch& operator=(NetdevWatch&&) noexcept;
    ~NetdevWatch();

    [[nodiscard]] int fd() const;
    // Delivers what has come in, without waiting. False: the kernel dropped changes, look at everything anew.
    [[nodiscard]] bool read(const std::function<void(const Change&)>& sink);

private:
    struct Impl;
    explicit NetdevWatch(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace ivds
