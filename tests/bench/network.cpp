// SPDX-License-Identifier: Apache-2.0
// network.cpp -- namespaces by system call, links by iproute2.
#include "network.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/ethtool.h>
#include <linux/sockios.h>
#include <net/if.h>
#include <sched.h>
#include <spawn.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>
#include <fstream>
#include <sstream>

#include "report.h"

namespace ivds::bench {

namespace {

[[noreturn]] void fail(const std::string& what) {
    throw Failure(fmt::format("{}: {}", what, std::strerror(errno)));
}

// The namespace of the calling thread.
Fd current() {
    const int fd = open("/proc/thread-self/ns/net", O_RDONLY | O_CLOEXEC);
    if (fd < 0) fail("open the network namespace");
    return Fd(fd);
}

void write_sysctl(const std::string& path, const std::string& value) {
    std::ofstream file(path);
    file << value;
}

// Starts a command, with what it says going to `output`.
pid_t start(const std::string& command, int output) {
    std::istringstream words(command);
    std::vector<std::string> args;
    for (std::string word; words >> word;) args.push_back(word);
    std::vector<char*> argv;
    argv.reserve(args.size() + 1);
    for (std::string& arg : args) argv.push_back(arg.data());
    argv.push_back(nullptr);

    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, output, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, output, STDERR_FILENO);
    pid_t pid = 0;
    const int err = posix_spawnp(&pid, argv[0], &actions, nullptr, argv.data(), environ);
    posix_spawn_file_actions_destroy(&actions);
    if (err != 0) {
        errno = err;
        fail("start " + command);
    }
    return pid;
}

}  // namespace

Fd::~Fd() {
    if (fd_ >= 0) close(fd_);
}

Namespace::Namespace() {
    const Fd back = current();
    if (unshare(CLONE_NEWNET) != 0) fail("make a network namespace");
    fd_ = current();
    // Each is absent on a kernel without the feature, and then there is nothing to switch off.
    write_sysctl("/proc/sys/net/ipv6/conf/all/disable_ipv6", "1");
    write_sysctl("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1");
    for (const char* name : {"iptables", "ip6tables", "arptables"}) {
        write_sysctl(fmt::format("/proc/sys/net/bridge/bridge-nf-call-{}", name), "0");
    }
    run_command("ip link set lo up");
    if (setns(back.get(), CLONE_NEWNET) != 0) fail("go back to the network namespace");
}

void Namespace::enter() const {
    if (setns(fd_.get(), CLONE_NEWNET) != 0) fail("enter a network namespace");
}

void Namespace::run(const std::string& command) const {
    const Inside inside(*this);
    run_command(command);
}

std::uint32_t Namespace::ifindex(const std::string& netdev) const {
    const Inside inside(*this);
    const std::uint32_t index = if_nametoindex(netdev.c_str());
    if (index == 0) fail("find interface " + netdev);
    return index;
}

void Namespace::gro_on(const std::string& netdev) const {
    set_feature(netdev, ETHTOOL_SGRO, 1);
}

void Namespace::tx_checksum_off(const std::string& netdev) const {
    set_feature(netdev, ETHTOOL_STXCSUM, 0);
}

void Namespace::set_feature(const std::string& netdev, std::uint32_t command, std::uint32_t value) const {
    const Inside inside(*this);
    const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ethtool_value request{.cmd = command, .data = value};
    ifreq interface{};
    netdev.copy(interface.ifr_name, IFNAMSIZ - 1);
    interface.ifr_data = reinterpret_cast<char*>(&request);
    if (ioctl(socket.get(), SIOCETHTOOL, &interface) != 0) fail("set an offload of " + netdev);
}

std::string Namespace::path() const {
    return fmt::format("/proc/{}/fd/{}", getpid(), fd_.get());
}

Inside::Inside(const Namespace& where) : back_(current()) {
    where.enter();
}

Inside::~Inside() {
    // The namespace that the process came from lives as long as back_ does; there is no way for this to fail.
    static_cast<void>(setns(back_.get(), CLONE_NEWNET));
}

void run_command(const std::string& command, std::string* output) {
    std::array<int, 2> ends{};
    if (pipe2(ends.data(), O_CLOEXEC) != 0) fail("pipe");
    const Fd reader(ends[0]);
    Fd writer(ends[1]);
    const pid_t pid = start(command, writer.get());
    writer = Fd();
    std::string text;
    std::array<char, 4096> buffer{};
    for (ssize_t got = 0; (got = read(reader.get(), buffer.data(), buffer.size())) > 0;) {
        text.append(buffer.data(), static_cast<std::size_t>(got));
    }
    int status = 0;
    if (waitpid(pid, &status, 0) != pid || status != 0) throw Failure(fmt::format("`{}` failed: {}", command, text));
    if (output != nullptr) *output = text;
}

Process::Process(const std::string& command, const std::string& log) {
    const Fd out(open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
    if (out.get() < 0) fail("open " + log);
    pid_ = start("setpriv --pdeathsig KILL " + command, out.get());
}

Process::~Process() {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
}

const std::array<Vm, 3> Network::vms{
    Vm{.port = "p1", .mac = {0x02, 0, 0, 0, 0, 1}, .ip = "10.0.0.1"},
    Vm{.port = "p2", .mac = {0x02, 0, 0, 0, 0, 2}, .ip = "10.0.0.2"},
    Vm{.port = "p3", .mac = {0x02, 0, 0, 0, 0, 3}, .ip = "10.0.0.3"},
};

Network::Network() {
    host_a.run(fmt::format("ip link add uplink mtu {} type veth peer name uplink mtu {} netns {}", uplink_mtu,
                           uplink_mtu, host_b.path()));
    host_a.run("ip link set uplink up");
    host_b.run("ip link set uplink up");
    const std::array<const Namespace*, 3> inner{&vm1, &vm2, &vm3};
    for (std::size_t i = 0; i < vms.size(); ++i) {
        const Vm& vm = vms[i];
        const Namespace& host = i < 2 ? host_a : host_b;
        host.run(fmt::format("ip link add {} type veth peer name eth0 address 02:00:00:00:00:{:02x} netns {}",
                             vm.port, i + 1, inner[i]->path()));
        host.run(fmt::format("ip link set {} up", vm.port));
        inner[i]->run("ip link set eth0 up");
        inner[i]->run(fmt::format("ip address add {}/24 dev eth0", vm.ip));
        // Known neighbours, so that nothing but the measured frames crosses the switch.
        for (std::size_t j = 0; j < vms.size(); ++j) {
            if (j == i) continue;
            inner[i]->run(
                fmt::format("ip neigh add {} lladdr 02:00:00:00:00:{:02x} dev eth0 nud permanent", vms[j].ip, j + 1));
        }
    }
}

}  // namespace ivds::bench
