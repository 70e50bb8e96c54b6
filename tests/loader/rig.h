// SPDX-License-Identifier: Apache-2.0
// rig.h -- a private little world for tests of the loader: own mount and network namespaces, a bpffs, and
// veths whose far ends lie in namespaces of their own. All of it ends with the process.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "switch.h"

namespace ivds::rig {

// Enters the private world; false with a reason if this process may not.
bool enter(std::string& reason);
// The pin root of a fresh switch: a folder on the private bpffs that no other call gave.
std::string fresh_root();

// Runs a shell command and requires that it succeeds.
void sh(const std::string& command);
// Runs `work` with this thread in the named namespace.
void in_netns(const std::string& name, const std::function<void()>& work);

// veth `name` here with its far end `name` + "p" in namespace "ns-" + name; both up.
void add_veth(const std::string& name);
void remove_veth(const std::string& name);
bool is_admin_up(const std::string& name);
std::uint32_t ifindex_of(const std::string& name);

// Tables: instance 1 with the named vPorts (ids from 1, MAC 02:00:00:00:00:<id>), no wire.
Tables one_instance(const std::vector<std::string>& netdevs, AttachMode mode = AttachMode::automatic);
Mac mac_of(std::uint32_t port);

// Handles the watch's input until `done` or the time is over.
bool watch_until(Switch& sw, const std::function<bool()>& done, std::vector<PortChange>* changes = nullptr,
                 int limit_ms = 3000);

// Raw frames on an interface of a namespace.
class RawSocket {
public:
    RawSocket(const std::string& netns, const std::string& interface);
    ~RawSocket();
    RawSocket(const RawSocket&) = delete;
    RawSocket& operator=(const RawSocket&) = delete;
    bool send(const std::vector<std::uint8_t>& frame) const;
    // The next frame that came in, or nothing within `wait_ms`.
    std::vector<std::uint8_t> receive(int wait_ms) const;

private:
    int fd_ = -1;
};
// Type 0x88b5 (local experiments) with `number` as payload.
std::vector<std::uint8_t> numbered_frame(const Mac& to, const Mac& from, std::uint32_t number);
// The number in such a frame, or -1 if it is another.
std::int64_t number_of(const std::vector<std::uint8_t>& frame);

}  // namespace ivds::rig
