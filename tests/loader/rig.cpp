// SPDX-License-Identifier: Apache-2.0
// rig.cpp -- namespaces, veths and raw sockets for the loader's tests.
#include "rig.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/if_packet.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <thread>

namespace ivds::rig {
namespace {

constexpr auto kBpfFs = "/sys/fs/bpf";
constexpr std::uint16_t kType = 0x88b5;

}  // namespace

bool enter(std::string& reason) {
    if (::geteuid() != 0) {
        reason = "needs root";
        return false;
    }
    if (::unshare(CLONE_NEWNS | CLONE_NEWNET) != 0 ||
        ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0) {
        reason = std::string("cannot make private namespaces: ") + std::strerror(errno);
        return false;
    }
    (void)::mkdir("/run/netns", 0755);
    if (::mount("none", "/run/netns", "tmpfs", 0, nullptr) != 0 || ::mount("bpf", kBpfFs, "bpf", 0, nullptr) != 0) {
        reason = std::string("cannot mount a private bpffs: ") + std::strerror(errno);
        return false;
    }
    return true;
}

std::string fresh_root() {
    static int count = 0;
    return fmt::format("{}/test{}", kBpfFs, ++count);
}

void sh(const std::string& command) {
    INFO(command);
    REQUIRE(std::system(command.c_str()) == 0);
}

void in_netns(const std::string& name, const std::function<void()>& work) {
    std::thread([&] {
        const int fd = ::open(("/run/netns/" + name).c_str(), O_RDONLY | O_CLOEXEC);
        if (fd < 0 || ::setns(fd, CLONE_NEWNET) != 0) {
            std::abort();
        }
        ::close(fd);
        work();
    }).join();
}

void add_veth(const std::string& name) {
    sh(fmt::format(
        "ip netns add ns-{0} && ip link add {0} type veth peer name {0}p netns ns-{0} && ip link set {0} up && "
        "nsenter --net=/run/netns/ns-{0} sysctl -qw net.ipv6.conf.all.disable_ipv6=1 && "
        "nsenter --net=/run/netns/ns-{0} ip link set {0}p up",
        name));
}

void remove_veth(const std::string& name) {
    sh(fmt::format("ip link del {0}; ip netns del ns-{0}", name));
}

bool is_admin_up(const std::string& name) {
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq request{};
    std::strncpy(static_cast<char*>(request.ifr_name), name.c_str(), IFNAMSIZ - 1);
    const bool up = ::ioctl(fd, SIOCGIFFLAGS, &request) == 0 && (request.ifr_flags & IFF_UP) != 0;
    ::close(fd);
    return up;
}

std::uint32_t ifindex_of(const std::string& name) {
    return ::if_nametoindex(name.c_str());
}

Mac mac_of(std::uint32_t port) {
    return {2, 0, 0, 0, 0, static_cast<std::uint8_t>(port)};
}

Tables one_instance(const std::vector<std::string>& netdevs, AttachMode mode) {
    Tables tables;
    auto& instance = tables.instances[1];
    instance.name = "tenant";
    instance.value.flags = IVDS_IF_ACTIVE;
    instance.value.mtu_bytes = 1500;
    instance.value.fdb_limit = 1000;
    instance.value.vlan = 10;
    instance.value.vvlan = 20;
    std::uint32_t id = 0;
    for (const auto& netdev : netdevs) {
        auto& row = tables.ports[++id];
        row.name = fmt::format("vport{}", id);
        row.netdev = netdev;
        row.wanted = mode;
        row.value.kind = IVDS_PORT_VPORT;
        row.value.instance = 1;
        row.value.mtu_bytes = 1500;
        row.value.flags = IVDS_PF_ANTI_SPOOF;
        row.value.fdb_limit = 16;
        const auto mac = mac_of(id);
        std::memcpy(row.value.vmac, mac.data(), mac.size());
        row.macs = {mac};
    }
    return tables;
}

bool watch_until(Switch& sw, const std::function<bool()>& done, std::vector<PortChange>* changes, int limit_ms) {
    const auto end = std::chrono::steady_clock::now() + std::chrono::milliseconds(limit_ms);
    while (!done()) {
        const auto left =
            std::chrono::duration_cast<std::chrono::milliseconds>(end - std::chrono::steady_clock::now());
        if (left.count() <= 0) {
            return false;
        }
        pollfd poll{sw.watch_fd(), POLLIN, 0};
        if (::poll(&poll, 1, static_cast<int>(std::min<std::int64_t>(left.count(), 100))) > 0) {
            auto more = sw.on_watch();
            if (changes != nullptr) {
                changes->insert(changes->end(), more.begin(), more.end());
            }
        }
    }
    return true;
}

RawSocket::RawSocket(const std::string& netns, const std::string& interface) {
    const auto open = [&] {
        fd_ = ::socket(AF_PACKET, SOCK_RAW | SOCK_CLOEXEC, htons(kType));
        sockaddr_ll address{};
        address.sll_family = AF_PACKET;
        address.sll_protocol = htons(kType);
        address.sll_ifindex = static_cast<int>(::if_nametoindex(interface.c_str()));
        if (fd_ < 0 || ::bind(fd_, reinterpret_cast<const sockaddr*>(&address), sizeof(address)) != 0) {
            std::abort();
        }
        const int size = 8 * 1024 * 1024;
        (void)::setsockopt(fd_, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof(size));
    };
    netns.empty() ? open() : in_netns(netns, open);
}

RawSocket::~RawSocket() {
    ::close(fd_);
}

bool RawSocket::send(const std::vector<std::uint8_t>& frame) const {
    return ::send(fd_, frame.data(), frame.size(), 0) == static_cast<ssize_t>(frame.size());
}

std::vector<std::uint8_t> RawSocket::receive(int wait_ms) const {
    for (;;) {
        pollfd poll{fd_, POLLIN, 0};
        if (::poll(&poll, 1, wait_ms) <= 0) {
            return {};
        }
        std::array<std::uint8_t, 2048> buffer{};
        sockaddr_ll from{};
        socklen_t size = sizeof(from);
        const ssize_t n = ::recvfrom(fd_, buffer.data(), buffer.size(), 0, reinterpret_cast<sockaddr*>(&from), &size);
        if (n > 0 && from.sll_pkttype != PACKET_OUTGOING) {
            return {buffer.begin(), buffer.begin() + n};
        }
    }
}

std::vector<std::uint8_t> numbered_frame(const Mac& to, const Mac& from, std::uint32_t number) {
    std::vector<std::uint8_t> frame(60);
    std::memcpy(frame.data(), to.data(), to.size());
    std::memcpy(frame.data() + 6, from.data(), from.size());
    frame[12] = kType >> 8;
    frame[13] = kType & 0xff;
    std::memcpy(frame.data() + 14, &number, sizeof(number));
    return frame;
}

std::int64_t number_of(const std::vector<std::uint8_t>& frame) {
    if (frame.size() < 18 || frame[12] != kType >> 8 || frame[13] != (kType & 0xff)) {
        return -1;
    }
    std::uint32_t number = 0;
    std::memcpy(&number, frame.data() + 14, sizeof(number));
    return number;
}

}  // namespace ivds::rig
