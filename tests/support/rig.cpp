// SPDX-License-Identifier: Apache-2.0
#include "rig.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/if_ether.h>
#include <linux/if_packet.h>
#include <linux/pkt_cls.h>
#include <net/if.h>
#include <sched.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <fstream>
#include <functional>
#include <numeric>
#include <optional>
#include <stdexcept>
#include <utility>

#include "fd.h"
#include "ivds.skel.h"
#include "witness.h"
#include "witness.skel.h"

namespace ivds::test {

namespace {

// A port that a redirect was made for, though no counter says which.
constexpr std::uint32_t to_unknown_port = to_stack - 1;
constexpr std::size_t longest_test_run = 3000;  // what is linear in a test run of either program
constexpr std::size_t shortest_received_tagged =
    28;  // 20, below which the kernel itself drops it, and two tags to lose
constexpr int barrier_rounds = 4;

[[noreturn]] void give_up(const std::string& what, int error = errno) {
    throw std::runtime_error(fmt::format("{}: {}", what, std::strerror(error)));
}

std::uint32_t now_s() {
    timespec time{};
    clock_gettime(CLOCK_MONOTONIC_COARSE, &time);
    return static_cast<std::uint32_t>(time.tv_sec);
}

// A raw packet socket on one interface that reports the tag in a frame's metadata.
Fd open_packet_socket(std::uint32_t ifindex) {
    Fd fd(socket(AF_PACKET, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const int on = 1;
    sockaddr_ll address{};
    address.sll_family = AF_PACKET;
    address.sll_protocol = __builtin_bswap16(ETH_P_ALL);
    address.sll_ifindex = static_cast<int>(ifindex);
    if (fd.get() < 0 || setsockopt(fd.get(), SOL_PACKET, PACKET_AUXDATA, &on, sizeof(on)) != 0 ||
        setsockopt(fd.get(), SOL_PACKET, PACKET_IGNORE_OUTGOING, &on, sizeof(on)) != 0 ||
        bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
        give_up("packet socket");
    }
    return fd;
}

void insert_tag(Bytes& frame, std::uint16_t tpid, std::uint16_t tci) {
    const std::array<std::uint8_t, 4> tag = {
        static_cast<std::uint8_t>(tpid >> 8U), static_cast<std::uint8_t>(tpid & 0xffU),
        static_cast<std::uint8_t>(tci >> 8U), static_cast<std::uint8_t>(tci & 0xffU)};
    frame.insert(frame.begin() + 12, tag.begin(), tag.end());
}

std::optional<Bytes> receive(int fd) {
    Bytes frame(20000);
    iovec io{.iov_base = frame.data(), .iov_len = frame.size()};
    alignas(cmsghdr) std::array<char, 256> control{};
    msghdr message{};
    message.msg_iov = &io;
    message.msg_iovlen = 1;
    message.msg_control = control.data();
    message.msg_controllen = control.size();
    const ssize_t length = recvmsg(fd, &message, 0);
    if (length < 0) {
        if (errno == EAGAIN) {
            return std::nullopt;
        }
        give_up("receive");
    }
    frame.resize(static_cast<std::size_t>(length));
    for (cmsghdr* header = CMSG_FIRSTHDR(&message); header != nullptr; header = CMSG_NXTHDR(&message, header)) {
        if (header->cmsg_level == SOL_PACKET && header->cmsg_type == PACKET_AUXDATA) {
            tpacket_auxdata aux{};
            std::memcpy(&aux, CMSG_DATA(header), sizeof(aux));
            if ((aux.tp_status & TP_STATUS_VLAN_VALID) != 0) {
                const bool has_tpid = (aux.tp_status & TP_STATUS_VLAN_TPID_VALID) != 0;
                insert_tag(frame, has_tpid ? aux.tp_vlan_tpid : tpid_c, aux.tp_vlan_tci);
            }
        }
    }
    return frame;
}

void run_ip_batch(const std::string& commands) {
    FILE* pipe = popen("ip -batch -", "w");
    if (pipe == nullptr) {
        give_up("run ip");
    }
    std::fwrite(commands.data(), 1, commands.size(), pipe);
    if (pclose(pipe) != 0) {
        throw std::runtime_error("ip -batch failed");
    }
}

void write_file(const std::string& path, const std::string& text) {
    std::ofstream file(path);
    file << text;
    if (!file.flush()) {
        throw std::runtime_error("write " + path);
    }
}

template <class Key>
std::vector<Key> keys_of(const bpf_map* map) {
    std::vector<Key> keys;
    Key key{};
    Key next{};
    for (const Key* from = nullptr; bpf_map__get_next_key(map, from, &next, sizeof(Key)) == 0; from = &key) {
        key = next;
        keys.push_back(key);
    }
    return keys;
}

template <class Key>
void clear(const bpf_map* map) {
    for (const Key& key : keys_of<Key>(map)) {
        bpf_map__delete_elem(map, &key, sizeof(key), 0);
    }
}

template <class Key, class Value>
void put(const bpf_map* map, const Key& key, const Value& value) {
    const int error = bpf_map__update_elem(map, &key, sizeof(key), &value, sizeof(value), BPF_ANY);
    if (error != 0) {
        give_up(fmt::format("update {}", bpf_map__name(map)), -error);
    }
}

// A record of 64-bit counters, one a CPU, added up.
template <class Value>
Value sum_of(const std::vector<Value>& values) {
    std::array<std::uint64_t, sizeof(Value) / sizeof(std::uint64_t)> total{};
    for (const Value& value : values) {
        const auto words = std::bit_cast<decltype(total)>(value);
        std::ranges::transform(total, words, total.begin(), std::plus{});
    }
    return std::bit_cast<Value>(total);
}

template <class Value = ivds_count, class Key>
Value count_of(const bpf_map* map, const Key& key) {
    std::vector<Value> values(static_cast<std::size_t>(libbpf_num_possible_cpus()));
    bpf_map__lookup_elem(map, &key, sizeof(key), values.data(), values.size() * sizeof(Value), 0);
    return sum_of(values);
}

// The first `count` elements of an array map in one call; one a CPU, in a row, where the map is per CPU.
template <class Value>
std::vector<Value> read_array(const bpf_map* map, std::uint32_t count) {
    const bool is_per_cpu = bpf_map__type(map) == BPF_MAP_TYPE_PERCPU_ARRAY;
    std::vector<Value> values(count * static_cast<std::size_t>(is_per_cpu ? libbpf_num_possible_cpus() : 1));
    std::vector<std::uint32_t> keys(count);
    std::uint32_t next = 0;
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    const int error =
        bpf_map_lookup_batch(bpf_map__fd(map), nullptr, &next, keys.data(), values.data(), &count, &options);
    if (error != 0) {
        give_up(fmt::format("read {}", bpf_map__name(map)), -error);
    }
    return values;
}

template <class Value>
void write_array(const bpf_map* map, const std::vector<Value>& values, std::uint32_t count) {
    std::vector<std::uint32_t> keys(count);
    std::iota(keys.begin(), keys.end(), 0U);
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    const int error = bpf_map_update_batch(bpf_map__fd(map), keys.data(), values.data(), &count, &options);
    if (error != 0) {
        give_up(fmt::format("write {}", bpf_map__name(map)), -error);
    }
}

template <class Value>
void zero_per_cpu_array(const bpf_map* map, std::uint32_t count) {
    write_array(map, std::vector<Value>(count * static_cast<std::size_t>(libbpf_num_possible_cpus())), count);
}

// Element `index` of what read_array() gave for a per-CPU map, all CPUs together.
template <class Value>
Value sum_at(const std::vector<Value>& values, std::uint32_t index) {
    const auto cpus = static_cast<std::size_t>(libbpf_num_possible_cpus());
    const auto first = values.begin() + static_cast<std::ptrdiff_t>(index * cpus);
    return sum_of(std::vector<Value>(first, first + static_cast<std::ptrdiff_t>(cpus)));
}

std::map<std::string, std::uint64_t> difference_of(const std::map<std::string, std::uint64_t>& before,
                                                   const std::map<std::string, std::uint64_t>& after) {
    std::map<std::string, std::uint64_t> out;
    for (const auto& [name, value] : after) {
        const auto old = before.find(name);
        const std::uint64_t grown = value - (old == before.end() ? 0 : old->second);
        if (grown != 0) {
            out[name] = grown;
        }
    }
    return out;
}

// One end of a cable: `near` carries the programs, `far` is the VM's or the fabric's.
struct Cable {
    std::uint32_t near = 0;
    std::uint32_t far = 0;
    Fd socket;  // on far
};

struct TestRun {
    std::uint32_t verdict = 0;
    Bytes bytes;
};

}  // namespace

const char* to_string(Rung rung) {
    switch (rung) {
        case Rung::xdp_then_tc:
            return "XDP, then TC";
        case Rung::xdp_alone:
            return "XDP alone";
        case Rung::tc_inline:
            return "TC, tags in the bytes";
        case Rung::tc_live:
            return "TC, received";
        case Rung::ladder_live:
            return "XDP and TC, received";
    }
    return "";
}

struct Rig::Impl {
    std::unique_ptr<ivds_bpf, decltype(&ivds_bpf__destroy)> skeleton{nullptr, &ivds_bpf__destroy};
    std::unique_ptr<witness_bpf, decltype(&witness_bpf__destroy)> witness{nullptr, &witness_bpf__destroy};
    std::unique_ptr<ring_buffer, decltype(&ring_buffer__free)> rings{nullptr, &ring_buffer__free};
    std::vector<std::unique_ptr<bpf_link, decltype(&bpf_link__destroy)>> links;
    std::uint32_t ports = 0;           // the last id
    std::uint32_t instances = 0;       // the last id
    std::vector<Cable> tc_cables;      // index: port id
    std::vector<Cable> ladder_cables;  // index: port id
    Fd sentinel_in;
    Fd sentinel_out;
    Fd epoll;

    World world;
    Rung rung = Rung::tc_live;
    std::uint32_t flow_epoch = 0;
    std::uint32_t applied_s = 0;
    std::map<std::string, std::uint64_t> counts_before;
    std::vector<std::string> events;
    std::vector<witness_frame> passed;

    [[nodiscard]] std::vector<Cable>& cables() { return rung == Rung::ladder_live ? ladder_cables : tc_cables; }

    void load(const Options& options);
    void make_cables();
    void attach();
    Outcome run(const Step& step);
    TestRun test_run(const bpf_program* program, const Step& step);
    void run_xdp(const Step& step, Outcome& outcome);
    void run_tc(const Step& step, Outcome& outcome);
    void send(const Step& step);
    void drain(Outcome& outcome);
    void barrier() const;
    void add_redirected(const TestRun& run, const Step& step, Outcome& outcome) const;
    [[nodiscard]] ivds_sweep sweep(ivds_sweep arguments) const;
    [[nodiscard]] std::map<std::string, std::uint64_t> read_counts() const;
    void read_state(Outcome& outcome);
    void consume_rings() const;
};

void Rig::Impl::load(const Options& options) {
    skeleton.reset(ivds_bpf__open());
    if (!skeleton) {
        give_up("open the programs");
    }
    const auto& maps = skeleton->maps;
    if (options.entries != 0) {
        for (bpf_map* map : {maps.fdb, maps.flows, maps.vvlans, maps.acl_masks, maps.acl_rules, maps.rule_stats}) {
            bpf_map__set_max_entries(map, options.entries);
        }
    }
    if (options.fdb_entries != 0) {
        bpf_map__set_max_entries(maps.fdb, options.fdb_entries);
    }
    if (const int error = ivds_bpf__load(skeleton.get()); error != 0) {
        give_up("load the programs", -error);
    }
    witness.reset(witness_bpf__open_and_load());
    if (!witness) {
        give_up("load the witness");
    }
    const auto on_event = [](void* self, void* data, std::size_t) {
        ivds_event event{};
        std::memcpy(&event, data, sizeof(event));
        static_cast<Impl*>(self)->events.push_back(event_text(event));
        return 0;
    };
    const auto on_passed = [](void* self, void* data, std::size_t) {
        std::memcpy(&static_cast<Impl*>(self)->passed.emplace_back(), data, sizeof(witness_frame));
        return 0;
    };
    rings.reset(ring_buffer__new(bpf_map__fd(skeleton->maps.events), on_event, this, nullptr));
    if (!rings || ring_buffer__add(rings.get(), bpf_map__fd(witness->maps.passed), on_passed, this) != 0) {
        give_up("open the ring buffers");
    }
}

void Rig::Impl::make_cables() {
    for (const char* which : {"all", "default"}) {
        // The kernel's own neighbour discovery would be frames that no test sent.
        write_file(fmt::format("/proc/sys/net/ipv6/conf/{}/disable_ipv6", which), "1");
    }
    std::string commands;
    const auto pair = [&](const std::string& near, const std::string& far) {
        commands +=
            fmt::format("link add {0} mtu 12000 arp off type veth peer name {1} mtu 12000 arp off\n", near, far);
        commands += fmt::format("link set {} up\nlink set {} up\n", near, far);
    };
    for (std::uint32_t id = 1; id <= ports; ++id) {
        pair(fmt::format("tcn{}", id), fmt::format("tcf{}", id));
        pair(fmt::format("xdn{}", id), fmt::format("xdf{}", id));
    }
    pair("sentin", "sentout");
    run_ip_batch(commands);

    epoll = Fd(epoll_create1(EPOLL_CLOEXEC));
    const auto cable = [&](const std::string& kind, std::uint32_t id, std::uint32_t tag) {
        Cable out;
        out.near = if_nametoindex(fmt::format("{}n{}", kind, id).c_str());
        out.far = if_nametoindex(fmt::format("{}f{}", kind, id).c_str());
        out.socket = open_packet_socket(out.far);
        epoll_event event{};
        event.events = EPOLLIN;
        event.data.u32 = tag;
        epoll_ctl(epoll.get(), EPOLL_CTL_ADD, out.socket.get(), &event);
        return out;
    };
    tc_cables.resize(1);
    ladder_cables.resize(1);
    for (std::uint32_t id = 1; id <= ports; ++id) {
        tc_cables.push_back(cable("tc", id, id));
        ladder_cables.push_back(cable("xd", id, id));
    }
    sentinel_in = open_packet_socket(if_nametoindex("sentin"));
    sentinel_out = open_packet_socket(if_nametoindex("sentout"));
}

void Rig::Impl::attach() {
    const auto keep = [&](bpf_link* link) {
        if (link == nullptr) {
            give_up("attach");
        }
        links.emplace_back(link, &bpf_link__destroy);
    };
    for (std::uint32_t id = 1; id <= ports; ++id) {
        for (const Cable* cable : {&tc_cables[id], &ladder_cables[id]}) {
            const int near = static_cast<int>(cable->near);
            keep(bpf_program__attach_tcx(skeleton->progs.ivds_tc, near, nullptr));
            keep(bpf_program__attach_tcx(witness->progs.witness_host, near, nullptr));
        }
        keep(bpf_program__attach_xdp(skeleton->progs.ivds_xdp, static_cast<int>(ladder_cables[id].near)));
        keep(bpf_program__attach_xdp(witness->progs.witness_pass, static_cast<int>(ladder_cables[id].far)));
    }
}

// Until every frame that is under way in the kernel has arrived. The sentinels queue up behind it, and a frame
// takes fewer turns (receive, redirect, receive at the far end) than there are rounds.
void Rig::Impl::barrier() const {
    const Bytes sentinel = eth(mac(0x02ffffffffff), mac(0x02fffffffffe)) / raw(0x88b5, 46);
    for (int round = 0; round < barrier_rounds; ++round) {
        if (::send(sentinel_in.get(), sentinel.data(), sentinel.size(), 0) < 0) {
            give_up("send the sentinel");
        }
        const timespec nap{.tv_sec = 0, .tv_nsec = 20000};
        for (int tries = 0; !receive(sentinel_out.get()); ++tries) {
            if (tries > 100000) {
                throw std::runtime_error("the sentinel does not arrive");
            }
            nanosleep(&nap, nullptr);
        }
    }
}

void Rig::Impl::drain(Outcome& outcome) {
    barrier();
    std::array<epoll_event, 64> ready{};
    for (int count = 0; (count = epoll_wait(epoll.get(), ready.data(), ready.size(), 0)) > 0;) {
        for (std::size_t i = 0; i < static_cast<std::size_t>(count); ++i) {
            const std::uint32_t port = ready.at(i).data.u32;
            for (auto* which : {&tc_cables, &ladder_cables}) {
                while (auto frame = receive((*which)[port].socket.get())) {
                    outcome.sent.push_back({port, std::move(*frame)});
                }
            }
        }
    }
    consume_rings();
    for (const witness_frame& seen : std::exchange(passed, {})) {
        Bytes frame(seen.bytes, seen.bytes + std::min<std::size_t>(seen.length, sizeof(seen.bytes)));
        if (seen.vlan_present != 0) {
            insert_tag(frame, __builtin_bswap16(static_cast<std::uint16_t>(seen.vlan_proto_be)),
                       static_cast<std::uint16_t>(seen.vlan_tci));
        }
        outcome.sent.push_back({to_host, frame});
    }
}

void Rig::Impl::consume_rings() const {
    if (ring_buffer__consume(rings.get()) < 0) {
        throw std::runtime_error("consume the ring buffers");
    }
}

void Rig::Impl::send(const Step& step) {
    const int fd = cables()[step.port].socket.get();
    if (::send(fd, step.frame.data(), step.frame.size(), 0) != static_cast<ssize_t>(step.frame.size())) {
        give_up(fmt::format("send {} bytes into port {}", step.frame.size(), step.port));
    }
}

TestRun Rig::Impl::test_run(const bpf_program* program, const Step& step) {
    const std::uint32_t near = cables()[step.port].near;
    xdp_md xdp{};
    xdp.data_end = static_cast<std::uint32_t>(step.frame.size());
    xdp.ingress_ifindex = near;
    __sk_buff skb{};
    skb.ifindex = near;
    skb.gso_segs = step.gso.segments;
    skb.gso_size = step.gso.size;
    const bool is_xdp = bpf_program__type(program) == BPF_PROG_TYPE_XDP;

    TestRun run;
    run.bytes.resize(step.frame.size() + 64);
    LIBBPF_OPTS(bpf_test_run_opts, options);
    options.data_in = step.frame.data();
    options.data_size_in = static_cast<std::uint32_t>(step.frame.size());
    options.data_out = run.bytes.data();
    options.data_size_out = static_cast<std::uint32_t>(run.bytes.size());
    options.ctx_in = is_xdp ? static_cast<void*>(&xdp) : static_cast<void*>(&skb);
    options.ctx_size_in = is_xdp ? sizeof(xdp) : sizeof(skb);
    if (is_xdp) {
        options.ctx_out = &xdp;
        options.ctx_size_out = sizeof(xdp);
    }
    if (const int error = bpf_prog_test_run_opts(bpf_program__fd(program), &options); error != 0) {
        give_up(fmt::format("test run of {} on {} bytes", bpf_program__name(program), step.frame.size()), -error);
    }
    run.bytes.resize(options.data_size_out);
    // What XDP put in front of the frame for TC is not of the frame; a test run drops it.
    if (is_xdp) {
        run.bytes.erase(run.bytes.begin(), run.bytes.begin() + static_cast<std::ptrdiff_t>(xdp.data));
    }
    run.verdict = options.retval;
    return run;
}

// A test run makes no redirect, so the frame is where a counter says it went and no copy was caught. The kernel
// leaves out of a TC test run's bytes what is in the metadata; the reader of the outcome allows for that.
void Rig::Impl::add_redirected(const TestRun& run, const Step& step, Outcome& outcome) const {
    const std::uint64_t packets = std::max<std::uint64_t>(step.gso.segments, 1);
    const auto grown = difference_of(counts_before, read_counts());
    Sent sent{.port = to_unknown_port, .bytes = run.bytes};
    for (std::uint32_t id = 1; id <= ports; ++id) {
        const auto count = grown.find(fmt::format("port {} tx_packets", id));
        const auto caught = std::ranges::count(outcome.sent, id, &Sent::port);
        const auto port = world.ports.find(id);
        if (port != world.ports.end() && port->second.kind == IVDS_PORT_PATCH) {
            continue;  // what it counts as sent has gone on to another port
        }
        if (count != grown.end() && count->second / packets > static_cast<std::uint64_t>(caught)) {
            // A trunk's interface is that of the vPorts behind it.
            sent.port = port != world.ports.end() && port->second.kind == IVDS_PORT_SUB ? port->second.peer : id;
        }
    }
    outcome.sent.push_back(sent);
}

void Rig::Impl::run_tc(const Step& step, Outcome& outcome) {
    TestRun run = test_run(skeleton->progs.ivds_tc, step);
    drain(outcome);
    switch (static_cast<int>(run.verdict)) {
        case TC_ACT_REDIRECT: {
            add_redirected(run, step, outcome);
            outcome.sent.back().is_tag_hidden = true;
            break;
        }
        case TC_ACT_UNSPEC:
            outcome.sent.push_back({to_host, run.bytes});
            break;
        case TC_ACT_SHOT:
            break;
        default:
            outcome.sent.push_back({to_stack, run.bytes});
    }
}

void Rig::Impl::run_xdp(const Step& step, Outcome& outcome) {
    const TestRun run = test_run(skeleton->progs.ivds_xdp, step);
    switch (run.verdict) {
        case XDP_REDIRECT:
            add_redirected(run, step, outcome);
            break;
        case XDP_PASS:
            if (rung == Rung::xdp_then_tc) {
                run_tc({.port = step.port, .frame = run.bytes}, outcome);
            } else {
                outcome.sent.push_back({to_host, run.bytes});
            }
            break;
        case XDP_DROP:
            break;
        default:
            outcome.sent.push_back({to_stack, run.bytes});
    }
}

Outcome Rig::Impl::run(const Step& step) {
    Outcome outcome;
    switch (rung) {
        case Rung::xdp_then_tc:
        case Rung::xdp_alone:
            run_xdp(step, outcome);
            break;
        case Rung::tc_inline:
            run_tc(step, outcome);
            break;
        case Rung::tc_live:
        case Rung::ladder_live:
            send(step);
            drain(outcome);
            break;
    }
    std::ranges::sort(outcome.sent);
    read_state(outcome);
    return outcome;
}

ivds_sweep Rig::Impl::sweep(ivds_sweep arguments) const {
    LIBBPF_OPTS(bpf_test_run_opts, options, .ctx_in = &arguments, .ctx_size_in = sizeof(arguments));
    if (bpf_prog_test_run_opts(bpf_program__fd(skeleton->progs.ivds_sweep), &options) != 0 || options.retval != 0) {
        give_up("run the sweep");
    }
    return arguments;
}

std::map<std::string, std::uint64_t> Rig::Impl::read_counts() const {
    const auto& maps = skeleton->maps;
    // Nothing is too old at second 0: the sweep tells flows and rules what they are owed, and removes nothing.
    (void)sweep({});
    std::map<std::string, std::uint64_t> counts;
    const auto port_stats = read_array<ivds_port_stats>(maps.port_stats, ports + 1);
    for (std::uint32_t id = 0; id <= ports; ++id) {
        add_counts(counts, fmt::format("port {}", id), sum_at(port_stats, id));
    }
    const auto instance_stats = read_array<ivds_instance_stats>(maps.instance_stats, instances + 1);
    for (std::uint32_t id = 0; id <= instances; ++id) {
        add_counts(counts, fmt::format("instance {}", id), sum_at(instance_stats, id));
    }
    for (const auto& key : keys_of<ivds_drop_key>(maps.drops)) {
        add_counts(counts, fmt::format("drop {} {}", key.port, drop_name(key.reason)), count_of(maps.drops, key));
    }
    for (const auto& rule : keys_of<std::uint32_t>(maps.rule_stats)) {
        const auto count = count_of<ivds_rule_count>(maps.rule_stats, rule);
        add_counts(counts, fmt::format("rule {}", rule), ivds_count{count.packets, count.bytes});
    }
    for (const auto& key : keys_of<ivds_flow_key>(maps.flows)) {
        ivds_flow flow{};
        bpf_map__lookup_elem(maps.flows, &key, sizeof(key), &flow, sizeof(flow), 0);
        for (const auto& [way, name] : {std::pair(IVDS_WAY_IN, "in"), std::pair(IVDS_WAY_OUT, "out")}) {
            const ivds_flow_way& one = flow.way[way];
            add_counts(counts, fmt::format("flows {} {}", key.port, name), ivds_count{one.packets, one.bytes});
        }
    }
    for (const auto& id : keys_of<std::uint32_t>(maps.inspectors)) {
        ivds_inspector inspector{};
        bpf_map__lookup_elem(maps.inspectors, &id, sizeof(id), &inspector, sizeof(inspector), 0);
        add_counts(counts, fmt::format("inspector {}", id), inspector);
    }
    for (const auto& key : keys_of<ivds_vvlan_key>(maps.misses)) {
        add_counts(counts, fmt::format("miss {} {} {}", key.uplink, key.vlan, key.vvlan), count_of(maps.misses, key));
    }
    return counts;
}

void Rig::Impl::read_state(Outcome& outcome) {
    auto counts = read_counts();
    outcome.counts = difference_of(counts_before, counts);
    counts_before = std::move(counts);
    consume_rings();
    outcome.events = std::exchange(events, {});
    for (const auto& key : keys_of<ivds_fdb_key>(skeleton->maps.fdb)) {
        ivds_fdb_entry entry{};
        if (bpf_map__lookup_elem(skeleton->maps.fdb, &key, sizeof(key), &entry, sizeof(entry), 0) == 0) {
            FdbKey name{.instance = key.instance};
            std::ranges::copy(key.mac, name.mac.begin());
            outcome.fdb.insert(fdb_text(name, entry, entry.last_seen_s >= applied_s));
        }
    }
    const auto note_learned = [&](const char* what, std::uint32_t id, std::uint32_t learned) {
        if (learned != 0) {
            outcome.learned[fmt::format("{} {}", what, id)] = learned;
        }
    };
    const auto port_state = read_array<ivds_port_state>(skeleton->maps.port_state, ports + 1);
    for (std::uint32_t id = 0; id <= ports; ++id) {
        note_learned("port", id, port_state[id].learned);
        note_learned("flows", id, port_state[id].flows);
    }
    const auto instance_state = read_array<ivds_instance_state>(skeleton->maps.instance_state, instances + 1);
    for (std::uint32_t id = 0; id <= instances; ++id) {
        note_learned("instance", id, instance_state[id].learned);
    }
}

Rig::Rig(const Options& options) : impl_(std::make_unique<Impl>()) {
    if (unshare(CLONE_NEWNET) != 0) {
        give_up("make a network namespace");
    }
    cpu_set_t one{};
    CPU_SET(static_cast<std::size_t>(sched_getcpu()), &one);
    sched_setaffinity(0, sizeof(one), &one);
    impl_->ports = options.ports;
    impl_->load(options);
    impl_->make_cables();
    impl_->attach();
}

Rig::~Rig() = default;

ivds_bpf& Rig::programs() {
    return *impl_->skeleton;
}

bool Rig::can_run(Rung rung, const Step& step) {
    const Bytes& frame = step.frame;
    if (frame.size() < ETH_HLEN) {
        return false;
    }
    if (rung == Rung::tc_live || rung == Rung::ladder_live) {
        const bool is_tag_moved =
            (frame[12] == 0x81 && frame[13] == 0x00) || (frame[12] == 0x88 && frame[13] == 0xa8);
        const std::size_t shortest = is_tag_moved ? shortest_received_tagged : ETH_HLEN;
        return step.gso.segments == 0 && frame.size() >= shortest;
    }
    return frame.size() <= longest_test_run && (step.gso.segments == 0 || rung == Rung::tc_inline);
}

void Rig::apply(const World& world, Rung rung) {
    Impl& rig = *impl_;
    const auto& maps = rig.skeleton->maps;
    Outcome leftovers;
    rig.drain(leftovers);
    rig.events.clear();

    clear<std::uint32_t>(maps.ifports);
    clear<ivds_vvlan_key>(maps.vvlans);
    clear<ivds_fdb_key>(maps.fdb);
    clear<ivds_neighbour_key>(maps.neighbours);
    clear<ivds_peer_key>(maps.peer_rates);
    clear<ivds_drop_key>(maps.drops);
    clear<ivds_vvlan_key>(maps.misses);
    clear<ivds_acl_mask_key>(maps.acl_masks);
    clear<ivds_acl_key>(maps.acl_rules);
    clear<std::uint32_t>(maps.rule_stats);
    clear<ivds_flow_key>(maps.flows);
    clear<std::uint32_t>(maps.pools);
    clear<std::uint32_t>(maps.inspectors);
    for (const std::uint32_t id : world.listening) {
        timespec now{};
        clock_gettime(CLOCK_MONOTONIC, &now);
        ivds_inspector heard{};
        heard.heard_ns = static_cast<std::uint64_t>(now.tv_sec) * 1'000'000'000U;
        put(maps.inspectors, id, heard);
    }

    rig.world = world;
    rig.world.link_members();
    rig.rung = rung;
    rig.counts_before.clear();
    std::vector<ivds_port> ports(rig.ports + 1);
    std::vector<ivds_port_state> port_state(rig.ports + 1);
    for (std::uint32_t id = 1; id <= rig.ports; ++id) {
        bpf_map__delete_elem(maps.tx, &id, sizeof(id), 0);
    }
    // What a CPU knows of the flows of the world before holds no more, whatever that counted up to.
    rig.flow_epoch += 1U << 16U;
    for (ivds_port_state& state : port_state) {
        state.flow_epoch = rig.flow_epoch;
    }
    for (const auto& [id, port] : rig.world.ports) {
        ivds_port& value = ports.at(id);
        value = port;
        if (rig.world.is_stateful(id)) {
            value.flags |= IVDS_PF_STATEFUL;
        }
        if (value.kind == IVDS_PORT_PATCH || value.kind == IVDS_PORT_SUB) {
            port_state[id].learned = rig.world.learned_at_port(id);
            continue;  // it has no interface
        }
        const std::uint32_t ifindex = rig.cables().at(id).near;
        if (value.kind != IVDS_PORT_NONE) {
            // A port names an interface exactly where ifports names the port.
            value.ifindex = rig.world.strangers.contains(id) ? 0 : ifindex;
            if (rung != Rung::xdp_alone) {
                value.flags |= IVDS_PF_TC;
            }
        }
        port_state[id].learned = rig.world.learned_at_port(id);
        if (!rig.world.strangers.contains(id)) {
            put(maps.ifports, ifindex, id);
        }
        if ((value.flags & IVDS_PF_XDP_TARGET) != 0) {
            put(maps.tx, id, ifindex);
        }
    }
    write_array(maps.ports, ports, rig.ports + 1);
    write_array(maps.port_state, port_state, rig.ports + 1);
    zero_per_cpu_array<ivds_port_stats>(maps.port_stats, rig.ports + 1);

    // As many as this world or the one before it has.
    const std::uint32_t last = world.instances.empty() ? 0 : world.instances.rbegin()->first;
    const std::uint32_t written = std::max(rig.instances, last) + 1;
    rig.instances = last;
    std::vector<ivds_instance> instances(written);
    std::vector<ivds_instance_state> instance_state(written);
    for (const auto& [id, instance] : rig.world.instances) {
        instances.at(id) = instance;
        instance_state.at(id).learned = rig.world.learned_in_instance(id);
    }
    write_array(maps.instances, instances, written);
    write_array(maps.instance_state, instance_state, written);
    zero_per_cpu_array<ivds_instance_stats>(maps.instance_stats, written);

    for (const auto& [key, instance] : rig.world.vvlans) {
        const ivds_vvlan_key name{.uplink = key[0],
                                  .vlan = static_cast<std::uint16_t>(key[1]),
                                  .vvlan = static_cast<std::uint16_t>(key[2])};
        put(maps.vvlans, name, ivds_vvlan{.instance = instance});
    }
    for (const auto& [key, entry] : rig.world.fdb) {
        ivds_fdb_key name{};
        name.instance = key.instance;
        std::memcpy(name.mac, key.mac.data(), key.mac.size());
        put(maps.fdb, name, entry);
    }
    for (const auto& [key, mac] : rig.world.neighbours) {
        ivds_neighbour_key name{};
        name.instance = key.first;
        std::ranges::copy(key.second, name.address);
        ivds_neighbour value{};
        std::memcpy(value.mac, mac.data(), sizeof(value.mac));
        put(maps.neighbours, name, value);
    }
    for (const auto& [key, peer] : rig.world.peer_rates) {
        put(maps.peer_rates, ivds_peer_key{.instance = key.first, .vlan = key.second, .pad0 = 0}, peer);
    }
    for (const auto& [id, acl] : rig.world.acls) {
        const auto row = compile_acl(acl.rules, acl.default_action);
        if (!row) {
            throw std::runtime_error(row.error().what);
        }
        for (std::uint32_t index = 0; index < row->masks.size(); ++index) {
            put(maps.acl_masks, ivds_acl_mask_key{.acl = id, .index = index}, row->masks[index]);
        }
        for (auto [key, rule] : row->rules) {
            key.acl = id;
            put(maps.acl_rules, key, rule);
        }
        std::uint8_t tcp_flags = 0;
        for (const ivds_acl_mask& mask : row->masks) tcp_flags |= mask.fields.tcp_flags;
        put(maps.acls, id,
            ivds_acl{.masks = static_cast<std::uint32_t>(row->masks.size()),
                     .default_action = row->default_action,
                     .tcp_flags = tcp_flags,
                     .pad0 = {}});
    }
    for (const auto& [id, members] : rig.world.pools) {
        ivds_pool pool{};
        pool.count = static_cast<std::uint32_t>(members.size());
        std::ranges::copy(members, pool.member);
        put(maps.pools, id, pool);
    }
    rig.applied_s = now_s();
}

std::vector<Outcome> Rig::play(const World& world, Rung rung, const std::vector<Step>& steps) {
    for (;;) {
        apply(world, rung);
        std::vector<Outcome> outcomes(steps.size());
        std::ranges::transform(steps, outcomes.begin(), [&](const Step& step) { return impl_->run(step); });
        if (now_s() == impl_->applied_s) {
            return outcomes;
        }
    }
}

int Rig::tc_verdict(const Step& step) {
    return static_cast<int>(impl_->test_run(impl_->skeleton->progs.ivds_tc, step).verdict);
}

ivds_sweep Rig::sweep(ivds_sweep arguments) const {
    return impl_->sweep(arguments);
}

Outcome Rig::state() {
    Outcome outcome;
    impl_->read_state(outcome);
    return outcome;
}

std::vector<Outcome> play_reference(const World& world, Rung rung, const std::vector<Step>& steps,
                                    std::size_t fdb_capacity) {
    ReferenceSwitch reference(world, fdb_capacity);
    std::vector<Outcome> outcomes(steps.size());
    std::ranges::transform(steps, outcomes.begin(), [&](const Step& step) {
        return rung == Rung::xdp_alone ? reference.forward_by_xdp_alone(step.port, step.frame)
                                       : reference.forward(step.port, step.frame, step.gso);
    });
    return outcomes;
}

}  // namespace ivds::test
