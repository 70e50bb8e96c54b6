// SPDX-License-Identifier: Apache-2.0
// setup.cpp -- fills the switch's tables by hand, as the agent would, so that the data plane is measured alone.
#include "setup.h"

#include <arpa/inet.h>
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <ivds.skel.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>

#include "bench.skel.h"
#include "ctl/compile/acl.h"
#include "ivds/abi.h"
#include "report.h"

namespace ivds::bench {

namespace {

constexpr std::uint32_t instance_id = 1;
constexpr std::uint32_t uplink_id = 1;
constexpr std::uint32_t first_vport_id = 2;
constexpr std::uint32_t first_spread_id = 4;  // behind the uplink, vm1 and vm2

template <class Key, class Value>
void put(const bpf_map* map, const Key& key, const Value& value) {
    check(bpf_map__update_elem(map, &key, sizeof key, &value, sizeof value, BPF_ANY),
          fmt::format("write to map {}", bpf_map__name(map)));
}

ivds_fdb_key fdb_key(const Mac& mac) {
    ivds_fdb_key key{};
    key.instance = instance_id;
    std::copy(mac.begin(), mac.end(), std::begin(key.mac));
    return key;
}

Mac filler_mac(std::uint32_t i) {
    return {0x06,
            0,
            0,
            static_cast<std::uint8_t>(i >> 16),
            static_cast<std::uint8_t>(i >> 8),
            static_cast<std::uint8_t>(i)};
}

void fill_fdb(const bpf_map* fdb, std::uint32_t wanted) {
    std::vector<ivds_fdb_key> keys;
    std::vector<ivds_fdb_entry> entries(wanted);
    for (std::uint32_t i = 0; i < wanted; ++i) {
        keys.push_back(fdb_key(filler_mac(i)));
        entries[i].port = uplink_id;
        entries[i].vlan = bench_vlan;
        entries[i].flags = IVDS_FDB_STATIC;
    }
    std::uint32_t count = wanted;
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    check(bpf_map_update_batch(bpf_map__fd(fdb), keys.data(), entries.data(), &count, &options), "fill the FDB");
}

}  // namespace

Mac spread_mac(std::uint32_t vport) {
    return {0x02, 0, 0, 1, static_cast<std::uint8_t>(vport >> 8), static_cast<std::uint8_t>(vport)};
}

const char* baseline_name(Forwarder forwarder) {
    switch (forwarder) {
        case Forwarder::ivds_xdp:
            return "ivds-xdp";
        case Forwarder::ivds_tc:
            return "ivds-tc";
        case Forwarder::bare_xdp:
            return "bare-xdp";
        case Forwarder::bare_tc:
            return "bare-tc";
        case Forwarder::bridge:
            return "bridge";
    }
    return "";
}

Frame make_frame(Way way, std::size_t vm_bytes, Tags tags) {
    const Vm& from = Network::vms[way == Way::from_wire ? 2 : 0];
    const Vm& to = Network::vms[way == Way::to_wire ? 2 : 1];
    Frame frame;
    for (const Mac& mac : {to.mac, from.mac}) {
        for (const std::uint8_t byte : mac) frame.push_back(byte);
    }
    const auto word = [&frame](std::size_t value) {
        frame.push_back(static_cast<std::uint8_t>(value >> 8));
        frame.push_back(static_cast<std::uint8_t>(value));
    };
    if (tags == Tags::both) {
        word(0x8100);
        word(bench_vlan);
    }
    if (tags != Tags::none) {
        word(0x8100);
        word(bench_vvlan);
    }
    const std::size_t ip_bytes = vm_bytes - 14;
    word(0x0800);
    const std::size_t ip = frame.size();
    word(0x4500);
    word(ip_bytes);
    word(0);
    word(0);
    word(0x4011);  // 64 hops, UDP
    word(0);
    for (const std::string& address : {from.ip, to.ip}) {
        in_addr binary{};
        inet_pton(AF_INET, address.c_str(), &binary);
        word(ntohl(binary.s_addr) >> 16);
        word(ntohl(binary.s_addr) & 0xffff);
    }
    std::uint32_t sum = 0;
    for (std::size_t i = ip; i < frame.size(); i += 2)
        sum += static_cast<std::uint32_t>(frame[i] << 8 | frame[i + 1]);
    while (sum > 0xffff) sum = (sum & 0xffff) + (sum >> 16);
    frame[ip + 10] = static_cast<std::uint8_t>(~sum >> 8);
    frame[ip + 11] = static_cast<std::uint8_t>(~sum);
    word(1000);
    word(2000);
    word(ip_bytes - 20);
    word(0);
    while (frame.size() < ip + ip_bytes) frame.push_back(static_cast<std::uint8_t>(frame.size() - ip));
    return frame;
}

void LinkDeleter::operator()(bpf_link* link) const {
    bpf_link__destroy(link);
}
void BenchDeleter::operator()(bench_bpf* skeleton) const {
    bench_bpf::destroy(skeleton);
}
void IvdsDeleter::operator()(ivds_bpf* skeleton) const {
    ivds_bpf::destroy(skeleton);
}

void check(int result, const std::string& what) {
    if (result < 0) throw Failure(fmt::format("{}: {}", what, std::strerror(-result)));
}

BenchObject load_bench() {
    BenchObject object(bench_bpf::open_and_load());
    if (!object) throw Failure(fmt::format("load the benchmark's programs: {}", std::strerror(errno)));
    return object;
}

namespace {

Link attach(bpf_link* link, const std::string& what) {
    if (link == nullptr) throw Failure(fmt::format("attach {}: {}", what, std::strerror(errno)));
    return Link(link);
}

// A bridge that knows behind which port each VM is, so that it never floods what is measured.
void make_bridge(const Namespace& host, const std::map<std::string, std::size_t>& ports) {
    host.run("ip link add bridge type bridge stp_state 0 mcast_snooping 0");
    host.run("ip link set bridge up");
    for (const auto& [port, vm] : ports) {
        host.run(fmt::format("ip link set {} master bridge", port));
        host.run(fmt::format("bridge fdb replace 02:00:00:00:00:{:02x} dev {} master static", vm + 1, port));
    }
}

}  // namespace

IvdsHost::IvdsHost(const Namespace& host, std::vector<std::size_t> local_vms, Hooks hooks)
    : host_(&host), object_(ivds_bpf::open_and_load()) {
    if (!object_) throw Failure(fmt::format("load the switch: {}", std::strerror(errno)));
    const Inside inside(host);
    const auto& maps = object_->maps;

    const bool xdp = hooks == Hooks::xdp_and_tc;
    const auto port_flags = static_cast<std::uint16_t>(IVDS_PF_UP | IVDS_PF_TC | (xdp ? IVDS_PF_XDP_TARGET : 0U));
    const auto add_port = [&](std::uint32_t id, const std::string& netdev, ivds_port port) {
        port.ifindex = host.ifindex(netdev);
        put(maps.ports, id, port);
        put(maps.ifports, port.ifindex, id);
        if (xdp) put(maps.tx, id, port.ifindex);
    };

    ivds_port uplink{};
    uplink.kind = IVDS_PORT_UPLINK;
    uplink.flags = port_flags;
    uplink.mtu_bytes = uplink_mtu;
    uplink.outer_tpid_be = htons(0x8100);
    uplink.inner_tpid_be = htons(0x8100);
    uplink.fdb_limit = IVDS_MAX_FDB;
    add_port(uplink_id, "uplink", uplink);

    fill_fdb(maps.fdb, filler_entries);
    std::uint32_t next_local = first_vport_id;
    for (std::size_t i = 0; i < Network::vms.size(); ++i) {
        const Vm& vm = Network::vms[i];
        ivds_fdb_entry entry{};
        entry.flags = IVDS_FDB_STATIC;
        if (std::find(local_vms.begin(), local_vms.end(), i) == local_vms.end()) {
            entry.port = uplink_id;
            entry.vlan = bench_vlan;
        } else {
            ivds_port port{};
            port.kind = IVDS_PORT_VPORT;
            port.instance = instance_id;
            port.flags = static_cast<std::uint16_t>(port_flags | IVDS_PF_ANTI_SPOOF);
            port.mtu_bytes = 1500;
            port.next_member = next_local + 1 < first_vport_id + local_vms.size() ? next_local + 1 : 0;
            std::copy(vm.mac.begin(), vm.mac.end(), std::begin(port.vmac));
            add_port(next_local, vm.port, port);
            entry.port = next_local++;
        }
        put(maps.fdb, fdb_key(vm.mac), entry);
    }

    ivds_instance instance{};
    instance.uplink = uplink_id;
    instance.first_member = first_vport_id;
    instance.fdb_limit = 1000;
    instance.vlan = bench_vlan;
    instance.vvlan = bench_vvlan;
    instance.mtu_bytes = 1500;
    instance.flags = IVDS_IF_ACTIVE | IVDS_IF_WIRE | IVDS_IF_LEARN_WIRE;
    instance.age_s = 300;
    put(maps.instances, instance_id, instance);
    put(maps.vvlans, ivds_vvlan_key{.uplink = uplink_id, .vlan = bench_vlan, .vvlan = 0}, ivds_vvlan{.instance = 0});
    put(maps.vvlans, ivds_vvlan_key{.uplink = uplink_id, .vlan = bench_vlan, .vvlan = bench_vvlan},
        ivds_vvlan{.instance = instance_id});

    std::vector<std::string> netdevs{"uplink"};
    for (const std::size_t i : local_vms) netdevs.push_back(Network::vms[i].port);
    for (const std::string& netdev : netdevs) {
        const auto ifindex = static_cast<int>(host.ifindex(netdev));
        links_.push_back(
            attach(bpf_program__attach_tcx(object_->progs.ivds_tc, ifindex, nullptr), "ivds_tc to " + netdev));
        if (xdp)
            links_.push_back(
                attach(bpf_program__attach_xdp(object_->progs.ivds_xdp, ifindex), "ivds_xdp to " + netdev));
    }
}

namespace {

// Rules as a tenant with many services writes them: who (prefixes of five lengths) may not reach what (hosts, nets,
// all) by which port. None is about the benchmark's frames, so that all of the list is searched for a new flow.
std::vector<AclRule> make_rules(const Policy& policy) {
    constexpr std::array<unsigned, 5> source_bits{0, 8, 16, 24, 32};
    constexpr std::array<unsigned, 3> destination_bits{0, 24, 32};
    std::vector<AclRule> rules;
    for (std::uint32_t i = 0; rules.size() < policy.rules; ++i) {
        const auto prefix = [&](std::uint8_t net, unsigned bits) {
            PrefixMatch match{.value = {}, .bits = 96 + bits};
            match.value[10] = match.value[11] = 0xff;
            match.value[12] = net;
            for (unsigned byte = 0; byte < 3; ++byte)
                match.value[13 + byte] = static_cast<std::uint8_t>((i * 7919U) >> (8 * byte));
            return match;
        };
        AclRule rule;
        rule.id = i + 1;
        rule.action = IVDS_ACL_DROP;
        rule.ethertypes = {0x0800};
        rule.proto = i % 3 == 0 ? 17 : 6;
        rule.src = prefix(172, source_bits.at(i % 5));
        rule.dst = prefix(192, destination_bits.at(i / 5 % 3));
        const auto port = static_cast<std::uint16_t>(3000 + i % 20000);
        rule.dports = {{port, i % 8 == 7 ? static_cast<std::uint16_t>(port | 0x7) : port}};
        rules.push_back(rule);
    }
    if (policy.is_stateful) {
        AclRule last;
        last.id = policy.rules;
        last.flags = IVDS_ACL_STATEFUL;
        rules.back() = last;
    }
    return rules;
}

}  // namespace

void IvdsHost::set_policy(const Policy& policy) {
    const auto& maps = object_->maps;
    const auto row = compile_acl(make_rules(policy), IVDS_ACL_ALLOW);
    if (!row) throw Failure(row.error().what);
    const std::uint32_t id = 1;
    for (std::uint32_t index = 0; index < row->masks.size(); ++index)
        put(maps.acl_masks, ivds_acl_mask_key{.acl = id, .index = index}, row->masks[index]);
    for (auto [key, rule] : row->rules) {
        key.acl = id;
        put(maps.acl_rules, key, rule);
    }
    ivds_acl list{};
    list.masks = static_cast<std::uint32_t>(row->masks.size());
    list.default_action = row->default_action;
    put(maps.acls, id, list);
    for (const std::uint32_t vport : {first_vport_id, first_vport_id + 1}) {
        ivds_port port{};
        check(bpf_map__lookup_elem(maps.ports, &vport, sizeof vport, &port, sizeof port, 0), "read a vPort");
        if (vport == first_vport_id && policy.rules != 0) port.acl_in = id;
        if (vport != first_vport_id && policy.is_both) port.acl_out = id;
        if (policy.is_stateful && (port.acl_in != 0 || port.acl_out != 0)) port.flags |= IVDS_PF_STATEFUL;
        port.flow_limit = policy.flow_limit;
        if (policy.has_rate) {
            constexpr std::uint64_t ns_per_mib = (8ULL << 20) / 100;
            port.rate[vport == first_vport_id ? IVDS_WAY_IN : IVDS_WAY_OUT] = {.ns_per_mib = ns_per_mib,
                                                                               .burst_ns = 250'000'000};
        }
        put(maps.ports, vport, port);
    }
}

void IvdsHost::fill(const Fill& fill) {
    const Inside inside(*host_);  // an ifindex in `tx` is one of the namespace that the writer is in
    const auto& maps = object_->maps;
    for (std::uint32_t i = fill.fdb_entries; i < filler_entries; ++i) {
        const ivds_fdb_key key = fdb_key(filler_mac(i));
        check(bpf_map__delete_elem(maps.fdb, &key, sizeof key, 0), "take an entry out of the FDB");
    }
    if (fill.fdb_entries > filler_entries) fill_fdb(maps.fdb, fill.fdb_entries);

    std::vector<ivds_flow_key> keys(fill.flows);
    std::vector<ivds_flow> flows(fill.flows);
    for (std::uint32_t i = 0; i < fill.flows; ++i) {
        keys[i].port = first_vport_id;
        keys[i].instance = instance_id;
        keys[i].fields.type_be = htons(0x0800);
        keys[i].fields.proto = 6;
        std::memcpy(keys[i].fields.src, &i, sizeof i);
        flows[i].state = IVDS_FLOW_OPEN;
    }
    std::uint32_t count = fill.flows;
    LIBBPF_OPTS(bpf_map_batch_opts, options);
    if (count != 0)
        check(bpf_map_update_batch(bpf_map__fd(maps.flows), keys.data(), flows.data(), &count, &options),
              "fill the flow table");

    constexpr std::uint32_t vm2_id = first_vport_id + 1;
    ivds_port vm2{};
    check(bpf_map__lookup_elem(maps.ports, &vm2_id, sizeof vm2_id, &vm2, sizeof vm2, 0), "read vm2's vPort");
    for (std::uint32_t i = 0; i < fill.vports; ++i) {
        const std::uint32_t id = first_spread_id + i;
        const Mac mac = spread_mac(i);
        ivds_port port = vm2;
        port.next_member = 0;
        std::copy(mac.begin(), mac.end(), std::begin(port.vmac));
        put(maps.ports, id, port);
        put(maps.tx, id, port.ifindex);
        ivds_fdb_entry entry{};
        entry.flags = IVDS_FDB_STATIC;
        entry.port = id;
        put(maps.fdb, fdb_key(mac), entry);
    }
}

void IvdsHost::mirror() {
    const auto& maps = object_->maps;
    const Inside inside(*host_);
    for (const char* pair : {"tap0 type veth peer name tap1", "span0 type veth peer name span1"})
        host_->run(fmt::format("ip link add {}", pair));
    for (const char* netdev : {"tap0", "tap1", "span0", "span1"})
        host_->run(fmt::format("ip link set {} up", netdev));
    links_.push_back(
        attach(bpf_program__attach_tcx(object_->progs.ivds_mirror, static_cast<int>(host_->ifindex("tap1")), nullptr),
               "ivds_mirror to tap1"));
    constexpr std::uint32_t span_id = first_spread_id;
    ivds_port span{};
    span.kind = IVDS_PORT_VPORT;
    span.flags = IVDS_PF_UP | IVDS_PF_TC;
    span.ifindex = host_->ifindex("span0");
    put(maps.ports, span_id, span);
    ivds_mirror mirror{};
    mirror.kind = IVDS_MIRROR_SPAN;
    mirror.tap = host_->ifindex("tap0");
    mirror.target = span_id;
    put(maps.mirrors, std::uint32_t{0}, mirror);
    ivds_port vm1{};
    check(bpf_map__lookup_elem(maps.ports, &first_vport_id, sizeof first_vport_id, &vm1, sizeof vm1, 0),
          "read vm1's vPort");
    vm1.mirror_in = 1;
    put(maps.ports, first_vport_id, vm1);
}

void IvdsHost::forget_flows() {
    ivds_sweep sweep{};
    sweep.port = first_vport_id;
    LIBBPF_OPTS(bpf_test_run_opts, options);
    options.ctx_in = &sweep;
    options.ctx_size_in = sizeof sweep;
    check(bpf_prog_test_run_opts(bpf_program__fd(object_->progs.ivds_sweep), &options), "flush the flows");
}

Setup::Setup(Forwarder forwarder, Way way, bool both_hosts) : forwarder_(forwarder) {
    const bool xdp = forwarder == Forwarder::ivds_xdp || forwarder == Forwarder::bare_xdp;
    // The generator's frames reach a port without XDP only if it polls; a VM's own need no help.
    if (!xdp && !both_hosts) {
        for (const char* port : {"p1", "p2", "uplink"}) network_.host_a.gro_on(port);
    }
    switch (forwarder) {
        case Forwarder::ivds_xdp:
        case Forwarder::ivds_tc: {
            const auto hooks = xdp ? IvdsHost::Hooks::xdp_and_tc : IvdsHost::Hooks::tc;
            switches_.emplace_back(network_.host_a, std::vector<std::size_t>{0, 1}, hooks);
            if (both_hosts) switches_.emplace_back(network_.host_b, std::vector<std::size_t>{2}, hooks);
            break;
        }
        case Forwarder::bare_xdp:
        case Forwarder::bare_tc:
            attach_bare(way);
            break;
        case Forwarder::bridge:
            make_bridge(network_.host_a, {{"p1", 0}, {"p2", 1}, {"uplink", 2}});
            if (both_hosts) make_bridge(network_.host_b, {{"uplink", 0}, {"p3", 2}});
            break;
    }
}

void Setup::attach_bare(Way way) {
    const char* in = way == Way::from_wire ? "uplink" : "p1";
    const char* out = way == Way::to_wire ? "uplink" : "p2";
    const Inside inside(network_.host_a);
    bare_ = load_bench();
    const auto in_index = static_cast<int>(network_.host_a.ifindex(in));
    bare_->bss->bare_ifindex = network_.host_a.ifindex(out);
    if (forwarder_ == Forwarder::bare_xdp) {
        put(bare_->maps.bare_out, std::uint32_t{0}, bare_->bss->bare_ifindex);
        links_.push_back(
            attach(bpf_program__attach_xdp(bare_->progs.bench_bare_xdp, in_index), "the bare XDP redirect"));
    } else {
        links_.push_back(
            attach(bpf_program__attach_tcx(bare_->progs.bench_bare_tc, in_index, nullptr), "the bare TC redirect"));
    }
}

}  // namespace ivds::bench
