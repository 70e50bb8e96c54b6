// SPDX-License-Identifier: Apache-2.0
// agent.cpp -- the agent at the size it is held to: what it keeps in memory, how long a whole switch takes to apply,
// and how long one changed vPort takes, on real interfaces and through the API.
#include "agent.h"

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mount.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "forward.h"
#include "ivds/abi.h"
#include "network.h"

namespace ivds::bench {

double wall_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Place::Place() {
    std::string name = std::filesystem::temp_directory_path() / "ivds-bench-XXXXXX";
    if (mkdtemp(name.data()) == nullptr) throw Failure(fmt::format("make {}: {}", name, std::strerror(errno)));
    path_ = name;
    std::filesystem::create_directory(path_ / "bpf");
    if (unshare(CLONE_NEWNS) != 0 || mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        mount("bpf", (path_ / "bpf").c_str(), "bpf", 0, nullptr) != 0) {
        throw Failure(fmt::format("mount a bpffs: {}", std::strerror(errno)));
    }
}

Place::~Place() {
    std::error_code none;
    umount2((path_ / "bpf").c_str(), MNT_DETACH);
    std::filesystem::remove_all(path_, none);
}

double resident_megabytes(pid_t pid) {
    std::ifstream file(fmt::format("/proc/{}/status", pid));
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("VmRSS:")) return std::stod(line.substr(6)) * 1024 / 1e6;
    }
    throw Failure("the agent has ended");
}

void check(const grpc::Status& status, const std::string& what) {
    if (!status.ok()) throw Failure(fmt::format("{}: {}", what, status.error_message()));
}

std::string tail(const std::string& path) {
    std::ifstream file(path);
    const std::string all{std::istreambuf_iterator<char>(file), {}};
    return all.size() > 2000 ? all.substr(all.size() - 2000) : all;
}

namespace {

struct Size {
    int instances;
    int vports_each;
    int macs_each;  // static FDB entries of an instance, beside its vMACs
    int changes;    // how often the one vPort is changed
};

// Veth pairs whose far ends are in another namespace, as VMs' are, and a cable.
void make_interfaces(const Namespace& host, const Namespace& far, const Size& size, const std::string& batch) {
    std::ofstream file(batch);
    file << fmt::format("link add wire type veth peer name wire netns {0}\nlink set wire up\n", far.path());
    for (int i = 0; i < size.instances * size.vports_each; ++i) {
        file << fmt::format("link add p{0} type veth peer name p{0} netns {1}\nlink set p{0} up\n", i, far.path());
    }
    file.close();
    host.run("ip -batch " + batch);
    file.open(batch, std::ios::trunc);
    file << "link set wire up\n";
    for (int i = 0; i < size.instances * size.vports_each; ++i) file << fmt::format("link set p{} up\n", i);
    file.close();
    far.run("ip -batch " + batch);
}

void write_config(const std::string& path, const Size& size) {
    std::string instances = "instances:\n";
    std::string vnics = "vnics:\n";
    std::string vports = "vports:\n";
    for (int i = 0; i < size.instances; ++i) {
        instances += fmt::format(
            "  - name: i{}\n    uplink: wire\n    vlan: 100\n    vvlan: {}\n    scope: distributed\n    fdb:\n", i,
            i + 1);
        for (int j = 0; j < size.macs_each; ++j) {
            instances +=
                fmt::format("      - {{mac: \"06:00:00:{:02x}:{:02x}:{:02x}\", vlan: 100}}\n", i, j >> 8, j & 0xff);
        }
        for (int j = 0; j < size.vports_each; ++j) {
            const int port = i * size.vports_each + j;
            vnics += fmt::format("  - {{name: n{0}, vmac: \"02:00:00:00:{1:02x}:{2:02x}\"}}\n", port, port >> 8,
                                 port & 0xff);
            vports += fmt::format("  - {{name: p{0}, instance: i{1}, netdev: p{0}, vnic: n{0}}}\n", port, i);
        }
    }
    std::ofstream file(path);
    file << "uplinks:\n  - {name: wire, netdev: wire}\n" << instances << vnics << vports;
    file.close();
    if (!file) throw Failure("write " + path);
}

// All vPorts there, attached and forwarding; and the FDB full. What follows would otherwise measure less than it
// says.
void verify(pb::Switch::Stub& agent, const Size& size, const std::string& fdb_pin) {
    grpc::ClientContext context;
    pb::StatusReply status;
    check(agent.Status(&context, pb::StatusRequest{}, &status), "status");
    const int up =
        static_cast<int>(std::ranges::count_if(status.ports(), [](const pb::PortState& port) { return port.up(); }));
    const int want = size.instances * size.vports_each + 1;
    if (up != want) {
        throw Failure(fmt::format("{} of {} ports are up; {}", up, want,
                                  status.ports_size() > 0 ? status.ports(0).reason() : ""));
    }
    const Fd fdb(bpf_obj_get(fdb_pin.c_str()));
    if (fdb.get() < 0) throw Failure(fmt::format("open {}: {}", fdb_pin, std::strerror(errno)));
    ivds_fdb_key key{};
    int entries = 0;
    for (const ivds_fdb_key* at = nullptr; bpf_map_get_next_key(fdb.get(), at, &key) == 0; at = &key) ++entries;
    const int macs = size.instances * (size.macs_each + size.vports_each);
    if (entries != macs) throw Failure(fmt::format("{} of {} MACs are in the FDB", entries, macs));
}

// Changes the MTU of one vPort again and again. In milliseconds.
std::vector<double> change_vport(pb::Switch::Stub& agent, int changes) {
    grpc::ClientContext context;
    pb::Ref ref;
    ref.set_kind(pb::VPORT);
    ref.set_name("p0");
    pb::Object object;
    check(agent.Get(&context, ref, &object), "get vport p0");
    std::vector<double> took;
    for (int i = 0; i < changes; ++i) {
        object.mutable_vport()->set_mtu_bytes(1400 + static_cast<std::uint32_t>(i % 2));
        pb::PutRequest request;
        *request.mutable_object() = object;
        pb::Object reply;
        grpc::ClientContext update;
        const double start = wall_seconds();
        check(agent.Update(&update, request, &reply), "update vport p0");
        took.push_back((wall_seconds() - start) * 1e3);
    }
    return took;
}

}  // namespace

std::vector<Row> agent_rows(const Options& options) {
    if (!options.wanted("agent-rss") && !options.wanted("agent-apply") && !options.wanted("agent-change")) return {};
    options.progress("agent");
    const Size size = options.smoke ? Size{2, 5, 100, 3} : Size{100, 10, 1000, 51};
    const std::filesystem::path bin = std::filesystem::read_symlink("/proc/self/exe").parent_path();
    const Place place;
    const Namespace host;
    const Namespace far;
    make_interfaces(host, far, size, place.file("interfaces"));
    write_config(place.file("config.yaml"), size);

    const Inside inside(host);
    const Ahead ahead;
    const std::string log = place.file("log");
    const std::string where = fmt::format("--socket {} --root {} --state-dir {}", place.file("socket"),
                                          place.file("bpf/ivds"), place.file("state"));
    const Process agent(fmt::format("{} {}", (bin / "ivdsd").string(), where), log);
    try {
        const auto channel = grpc::CreateChannel("unix:" + place.file("socket"), grpc::InsecureChannelCredentials());
        if (!channel->WaitForConnected(std::chrono::system_clock::now() + std::chrono::seconds(20))) {
            throw Failure("the agent does not answer");
        }
        const double start = wall_seconds();
        run_command(fmt::format("{} {} apply -f {}", (bin / "ivds-ctl").string(), where, place.file("config.yaml")));
        const double apply_s = wall_seconds() - start;
        const auto stub = pb::Switch::NewStub(channel);
        verify(*stub, size, place.file("bpf/ivds/v1/maps/fdb"));
        const std::vector<double> change_ms = change_vport(*stub, size.changes);
        const auto [fastest, slowest] = std::ranges::minmax(change_ms);
        const std::string what = fmt::format("{} vPorts, {} FDB entries", size.instances * size.vports_each,
                                             size.instances * (size.macs_each + size.vports_each));
        std::vector<Row> rows;
        rows.push_back({"agent-rss", resident_megabytes(agent.pid()), "MB", {}, {{"", 60, true}}, what});
        rows.push_back({"agent-apply", apply_s, "s", {}, {{"", 5, true}}, what});
        rows.push_back({"agent-change",
                        median(change_ms),
                        "ms",
                        {},
                        {{"", 10, true}},
                        fmt::format("{:.1f} .. {:.1f} ms", fastest, slowest)});
        std::erase_if(rows, [&options](const Row& row) { return !options.wanted(row.name); });
        return rows;
    } catch (const Failure& failure) {
        throw Failure(fmt::format("agent: {}\n{}", failure.what(), tail(log)));
    }
}

}  // namespace ivds::bench
