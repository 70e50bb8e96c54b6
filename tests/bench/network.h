// SPDX-License-Identifier: Apache-2.0
// network.h -- the benchmark's world: anonymous network namespaces, which vanish with the process however it
// ends, joined by veth pairs. Two hosts with one uplink cable, two VMs on the first host, one on the second.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace ivds::bench {

using Mac = std::array<std::uint8_t, 6>;

class Fd {
public:
    explicit Fd(int fd = -1) : fd_(fd) {}
    Fd(Fd&& other) noexcept : fd_(std::exchange(other.fd_, -1)) {}
    Fd& operator=(Fd&& other) noexcept {
        std::swap(fd_, other.fd_);
        return *this;
    }
    Fd(const Fd&) = delete;
    Fd& operator=(const Fd&) = delete;
    ~Fd();
    [[nodiscard]] int get() const { return fd_; }

private:
    int fd_;
};

// A network namespace without IPv6, whose own chatter would be counted with the frames.
class Namespace {
public:
    Namespace();
    void enter() const;
    // Runs a command in it (no shell); throws with the command and its exit status when it fails.
    void run(const std::string& command) const;
    [[nodiscard]] std::uint32_t ifindex(const std::string& netdev) const;
    // GRO on a veth makes it poll its ring, without which frames that come by XDP redirect are lost.
    void gro_on(const std::string& netdev) const;
    // A frame that XDP redirects takes no checksum offload with it, so its sender must write the checksum itself.
    void tx_checksum_off(const std::string& netdev) const;
    // What other commands call it by, in this process and its children.
    [[nodiscard]] std::string path() const;

private:
    void set_feature(const std::string& netdev, std::uint32_t command, std::uint32_t value) const;

    Fd fd_;
};

// Enters a namespace, and goes back to where the process was when the scope ends.
class Inside {
public:
    explicit Inside(const Namespace& where);
    Inside(const Inside&) = delete;
    Inside& operator=(const Inside&) = delete;
    ~Inside();

private:
    Fd back_;
};

// Runs a command and waits for it; its output goes to `output`, or is thrown away. Throws when it fails.
void run_command(const std::string& command, std::string* output = nullptr);

// A command that runs beside this process: started in the namespace that the process is in, killed with the scope or
// with the process, whichever ends first.
class Process {
public:
    explicit Process(const std::string& command, const std::string& log = "/dev/null");
    Process(const Process&) = delete;
    Process& operator=(const Process&) = delete;
    ~Process();
    [[nodiscard]] pid_t pid() const { return pid_; }

private:
    pid_t pid_ = 0;
};

struct Vm {
    std::string port;  // host side of its veth; the VM's own side is always "eth0"
    Mac mac{};
    std::string ip;
};

struct Network {
    Network();

    Namespace host_a, host_b, vm1, vm2, vm3;
    // vm1 and vm2 are at host_a, vm3 is at host_b; both hosts call their end of the cable "uplink".
    static const std::array<Vm, 3> vms;
};
inline constexpr int uplink_mtu = 1600;  // of the cable: the VM's 1500 and both tags

}  // namespace ivds::bench
