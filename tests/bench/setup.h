// SPDX-License-Identifier: Apache-2.0
// setup.h -- who forwards: the switch on one of its rungs, or what it is compared with. Each setup is a
// network of its own, so that all contenders of a row stand side by side and are measured in turn.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "ivds/abi.h"
#include "network.h"

struct bench_bpf;
struct bpf_link;
struct ivds_bpf;

namespace ivds::bench {

enum class Way { local, to_wire, from_wire };  // vm1 to vm2; vm1 to the cable; the cable to vm2
enum class Forwarder { ivds_xdp, ivds_tc, bare_xdp, bare_tc, bridge };
[[nodiscard]] const char* baseline_name(Forwarder forwarder);  // as in "ratio"

// The tags of the one instance that the setups have.
inline constexpr std::uint16_t bench_vlan = 100;
inline constexpr std::uint16_t bench_vvlan = 200;

using Frame = std::vector<std::uint8_t>;
// Of a frame's two tags, those that are in its bytes. The stack keeps an outer tag beside them.
enum class Tags { none, inner, both };
// A UDP frame from vm1 to vm2, or between one of them and vm3; `vm_bytes` long without the tags.
[[nodiscard]] Frame make_frame(Way way, std::size_t vm_bytes, Tags tags);

// bpf_link, skeleton: destroyed with their owner, which detaches.
struct LinkDeleter {
    void operator()(bpf_link* link) const;
};
using Link = std::unique_ptr<bpf_link, LinkDeleter>;
struct BenchDeleter {
    void operator()(bench_bpf* skeleton) const;
};
using BenchObject = std::unique_ptr<bench_bpf, BenchDeleter>;
struct IvdsDeleter {
    void operator()(ivds_bpf* skeleton) const;
};
using IvdsObject = std::unique_ptr<ivds_bpf, IvdsDeleter>;

[[nodiscard]] BenchObject load_bench();
// With the return value of a libbpf call, which is negative when it failed.
void check(int result, const std::string& what);

// What vm1's frames are held against, and vm2's too where there is an `is_both`.
struct Policy {
    std::uint32_t rules = 0;   // 0: no list
    bool is_stateful = false;  // the last rule opens a connection; else the default lets the frames pass
    bool is_both = false;
    std::uint32_t flow_limit = IVDS_MAX_FLOWS;
    bool has_rate = false;  // vm1 sends, and vm2 is sent to, at no more than 100 Gbit/s
};

// Further MACs in the FDB, so that its size in the cache is that of a switch in use.
inline constexpr std::uint32_t filler_entries = 100'000;

// Of the vPorts that vm1's frames are spread over: the generator counts in the last two bytes.
[[nodiscard]] Mac spread_mac(std::uint32_t vport);

// How much else the tables hold.
struct Fill {
    std::uint32_t fdb_entries = filler_entries;
    std::uint32_t flows = 0;  // of vm1
    // vPorts that vm1's frames go to in turn, besides vm2's: each with its MAC, its counters and its place in the
    // tables, all on vm2's interface.
    std::uint32_t vports = 0;
};

// The switch of one host: its programs attached to its ports, and its tables filled.
class IvdsHost {
public:
    enum class Hooks { tc, xdp_and_tc };
    IvdsHost(const Namespace& host, std::vector<std::size_t> local_vms, Hooks hooks);
    [[nodiscard]] ivds_bpf* object() const { return object_.get(); }
    void set_policy(const Policy& policy);
    void fill(const Fill& fill);
    // vm1's frames are copied to an interface that drops them.
    void mirror();
    void forget_flows();

private:
    const Namespace* host_;
    IvdsObject object_;
    std::vector<Link> links_;
};

class Setup {
public:
    // A bare redirect goes one way only; the others forward every way. With `both_hosts`, vm3's host forwards
    // too; without, its end of the cable is left to a sink or a generator.
    explicit Setup(Forwarder forwarder, Way way = Way::local, bool both_hosts = false);
    [[nodiscard]] const Network& network() const { return network_; }
    [[nodiscard]] Forwarder forwarder() const { return forwarder_; }
    [[nodiscard]] ivds_bpf* switch_a() const { return switches_.front().object(); }
    void set_policy(const Policy& policy) { switches_.front().set_policy(policy); }
    void fill(const Fill& fill) { switches_.front().fill(fill); }
    void mirror() { switches_.front().mirror(); }
    void forget_flows() { switches_.front().forget_flows(); }

private:
    void attach_bare(Way way);

    Forwarder forwarder_;
    Network network_;
    BenchObject bare_;
    std::vector<Link> links_;
    std::vector<IvdsHost> switches_;
};

}  // namespace ivds::bench
