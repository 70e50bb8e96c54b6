// SPDX-License-Identifier: Apache-2.0
// registry.cpp -- hosts that share a registry, at the size that they are held to: how long a fresh host takes until
// all bindings are in its FDB, what its agent then keeps in memory, and how long a new binding takes until every host
// forwards to it. A real etcd, and an agent for each host on an uplink of its own, in one namespace.
#include <bpf/bpf.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <fstream>
#include <memory>
#include <optional>

#include "agent.h"
#include "ctl/fabric/bindings.h"
#include "forward.h"
#include "ivds/abi.h"
#include "network.h"

namespace ivds::bench {

namespace {

constexpr const char* etcd_at = "127.0.0.1:2379";
constexpr int outer_vlan = 100;

struct Size {
    int instances;
    int bindings_each;
    int hosts;
    int changes;
};

ivds::Mac mac_of(int network, int number) {
    return {0x06,
            0,
            static_cast<std::uint8_t>(network >> 8),
            static_cast<std::uint8_t>(network),
            static_cast<std::uint8_t>(number >> 8),
            static_cast<std::uint8_t>(number)};
}

// A binding of a host that has no agent, as a controller writes it.
etcd::Write write_of(int network, int number) {
    const fabric::BindingKey key{{outer_vlan, static_cast<std::uint16_t>(network)}, mac_of(network, number)};
    fabric::registry::Binding binding;
    binding.set_vvlan(key.network.vvlan);
    binding.set_vmac(format_mac(key.vmac));
    binding.set_vport(fmt::format("vm-{}-{}", network, number));
    binding.set_physical_mac("02:00:00:00:00:fe");
    binding.set_vlan(outer_vlan);
    binding.set_host("elsewhere");
    binding.set_generation(1);
    return {fabric::key_text(key), fabric::value_text(binding), 0};
}

void put(etcd::Client& client, const std::vector<etcd::Write>& writes) {
    if (const auto done = client.transact({}, writes); !done) throw Failure("write to etcd: " + done.error().text());
}

std::unique_ptr<etcd::Client> connect() {
    auto client = etcd::Client::open(etcd_at, {});
    if (!client) throw Failure("etcd: " + client.error().text());
    for (int tries = 0; tries < 300; ++tries) {
        std::optional<etcd::KeyValue> none;
        if ((*client)->get("/", none)) return std::move(*client);
        usleep(100'000);
    }
    throw Failure("etcd does not answer within half a minute");
}

void fill(etcd::Client& client, const Size& size) {
    std::vector<etcd::Write> writes;
    for (int network = 1; network <= size.instances; ++network) {
        for (int number = 0; number < size.bindings_each; ++number) {
            writes.push_back(write_of(network, number));
            if (writes.size() == etcd::kMaxOperations) {
                put(client, writes);
                writes.clear();
            }
        }
    }
    if (!writes.empty()) put(client, writes);
}

// A host's agent, its state and pins at a place of their own.
class Host {
public:
    Host(const Place& place, int number) : name_(fmt::format("h{}", number)), place_(place) {
        std::filesystem::create_directory(place.file(name_));
        const std::filesystem::path bin = std::filesystem::read_symlink("/proc/self/exe").parent_path();
        ctl_ = fmt::format("{} {}", (bin / "ivds-ctl").string(), where());
        command_ = fmt::format("{} {} --registry etcd --etcd {} --host-name {} --lease-s 600",
                               (bin / "ivdsd").string(), where(), etcd_at, name_);
        start();
    }
    void start() {
        agent_.emplace(command_, log());
        const auto channel =
            grpc::CreateChannel("unix:" + place_.file(name_ + "/socket"), grpc::InsecureChannelCredentials());
        if (!channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(60)))
            throw Failure("the agent does not answer\n" + tail(log()));
    }
    void stop() { agent_.reset(); }
    void apply(const std::string& file) const { run_command(fmt::format("{} apply -f {}", ctl_, file)); }
    // To be asked once the agent has made its maps.
    void open_fdb() {
        fdb_ = Fd(bpf_obj_get(place_.file("bpf/" + name_ + "/v1/maps/fdb").c_str()));
        if (fdb_.get() < 0) throw Failure("open the FDB of " + name_);
    }
    // By the instance's id: an agent gives them in the order of their names.
    [[nodiscard]] bool knows(std::uint32_t instance, const ivds::Mac& mac) const {
        ivds_fdb_key key{};
        key.instance = instance;
        std::ranges::copy(mac, key.mac);
        ivds_fdb_entry entry{};
        return bpf_map_lookup_elem(fdb_.get(), &key, &entry) == 0;
    }
    [[nodiscard]] int entries() const {
        ivds_fdb_key key{};
        int count = 0;
        for (const ivds_fdb_key* at = nullptr; bpf_map_get_next_key(fdb_.get(), at, &key) == 0; at = &key) ++count;
        return count;
    }
    [[nodiscard]] double megabytes() const { return resident_megabytes(agent_->pid()); }
    [[nodiscard]] std::string log() const { return place_.file(name_ + "/log"); }

private:
    [[nodiscard]] std::string where() const {
        return fmt::format("--socket {} --root {} --state-dir {}", place_.file(name_ + "/socket"),
                           place_.file("bpf/" + name_), place_.file(name_ + "/state"));
    }

    std::string name_;
    const Place& place_;
    std::string ctl_;
    std::string command_;
    std::optional<Process> agent_;
    Fd fdb_;
};

std::string config(const Place& place, int host, int instances) {
    const std::string path = place.file(fmt::format("h{}.yaml", host));
    std::ofstream file(path);
    file << fmt::format("uplinks:\n  - {{name: wire, netdev: w{}}}\ninstances:\n", host);
    for (int network = 1; network <= instances; ++network) {
        file << fmt::format(
            "  - {{name: i{:04}, uplink: wire, vlan: {}, vvlan: {}, scope: distributed, mtu_bytes: 1400}}\n", network,
            outer_vlan, network);
    }
    file.close();
    if (!file) throw Failure("write " + path);
    return path;
}

double until_all_are_there(const Host& host, int bindings, double start) {
    while (host.entries() < bindings) {
        if (wall_seconds() - start > 120)
            throw Failure(
                fmt::format("{} of {} bindings are in the FDB\n{}", host.entries(), bindings, tail(host.log())));
        usleep(100'000);
    }
    return wall_seconds() - start;
}

// New bindings of a network that all hosts have, one after another. In milliseconds until all hosts forward to it.
std::vector<double> changes(etcd::Client& client, const std::vector<std::unique_ptr<Host>>& hosts, const Size& size) {
    constexpr std::uint32_t instance = 1;
    std::vector<double> took;
    for (int i = 0; i < size.changes; ++i) {
        const int number = size.bindings_each + i;
        const double start = wall_seconds();
        put(client, {write_of(1, number)});
        for (const auto& host : hosts) {
            while (!host->knows(instance, mac_of(1, number))) {
                if (wall_seconds() - start > 30) throw Failure("a binding does not arrive\n" + tail(host->log()));
                usleep(200);
            }
        }
        took.push_back((wall_seconds() - start) * 1e3);
        usleep(20'000);
    }
    std::ranges::sort(took);
    return took;
}

}  // namespace

std::vector<Row> registry_rows(const Options& options) {
    if (!options.wanted("registry-converge") && !options.wanted("registry-rss") && !options.wanted("registry-change"))
        return {};
    options.progress("registry");
    const Size size = options.smoke ? Size{2, 50, 2, 3} : Size{100, 1000, 16, 201};
    const Place place;
    const Namespace net;
    const Namespace far;
    for (int host = 0; host < size.hosts; ++host) {
        net.run(fmt::format("ip link add w{0} type veth peer name w{0} netns {1}", host, far.path()));
        net.run(fmt::format("ip link set w{} up", host));
        far.run(fmt::format("ip link set w{} up", host));
    }
    const Inside inside(net);
    const Process etcd(
        fmt::format("etcd --data-dir {} --listen-client-urls http://{} --advertise-client-urls http://{} "
                    "--listen-peer-urls http://127.0.0.1:2380",
                    place.file("etcd"), etcd_at, etcd_at),
        place.file("etcd.log"));
    const auto client = connect();

    // The first host has its networks before there is a binding, and starts anew when all are there.
    std::vector<std::unique_ptr<Host>> hosts;
    hosts.push_back(std::make_unique<Host>(place, 0));
    hosts[0]->apply(config(place, 0, size.instances));
    hosts[0]->open_fdb();
    hosts[0]->stop();
    fill(*client, size);
    const int bindings = size.instances * size.bindings_each;
    if (hosts[0]->entries() != 0) throw Failure("a host without an agent learned of bindings");
    const double start = wall_seconds();
    hosts[0]->start();
    const double converged_s = until_all_are_there(*hosts[0], bindings, start);
    const double megabytes = hosts[0]->megabytes();

    for (int host = 1; host < size.hosts; ++host) {
        hosts.push_back(std::make_unique<Host>(place, host));
        hosts.back()->apply(config(place, host, 1));
        hosts.back()->open_fdb();
        until_all_are_there(*hosts.back(), size.bindings_each, wall_seconds());
    }
    const std::vector<double> took = changes(*client, hosts, size);
    const double late = took[static_cast<std::size_t>(std::ceil(0.99 * static_cast<double>(took.size()))) - 1];

    const std::string what = fmt::format("{} bindings in {} networks", bindings, size.instances);
    const std::string spread =
        fmt::format("{:.1f} .. {:.1f} ms, {} hosts, {}", took.front(), took.back(), size.hosts, what);
    std::vector<Row> rows;
    rows.push_back({"registry-converge", converged_s, "s", {}, {{"", 5, true}}, what});
    rows.push_back({"registry-rss", megabytes, "MB", {}, {{"", 150, true}}, what});
    rows.push_back({"registry-change", median(took), "ms", {}, {{"", 50, true}}, spread});
    rows.push_back({"registry-change-p99", late, "ms", {}, {{"", 250, true}}, spread});
    std::erase_if(rows, [&options](const Row& row) { return !options.wanted(row.name); });
    return rows;
}

}  // namespace ivds::bench
