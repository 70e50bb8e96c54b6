// SPDX-License-Identifier: Apache-2.0
// dispatcher.h -- an XDP hook that several programs share: libxdp puts a dispatcher on it, whose functions are
// replaced (freplace) by the programs. Everything that is known of libxdp is here.
//
//   BPFFS/xdp/dispatch-<ifindex>-<program id of the dispatcher>/prog<n>-{prog,link}
#pragma once

#include <bpf/libbpf.h>

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "error.h"
#include "kernel.h"

namespace ivds::dispatcher {

// Makes libxdp take the dispatcher that is installed with us. It changes the environment: call it before any thread
// starts. Without that file libxdp takes its own.
void use_ours();

// Id, name and tag of an open program; empty if it is none.
[[nodiscard]] ForeignProgram describe(int program);

// Loads an open object, with `program` as one that can replace a function of a dispatcher.
[[nodiscard]] Result<> load(bpf_object* object, const char* program);

// Runs a frame through the loaded `program` in a dispatcher that is on no interface.
[[nodiscard]] Result<> try_out(bpf_object* object, const char* program);

// try_out(), then onto the interface. Gives the id of the program.
[[nodiscard]] Result<std::uint32_t> join(bpf_object* object, const char* program, std::uint32_t ifindex,
                                         bool generic);
[[nodiscard]] Result<> leave(std::uint32_t ifindex, const std::vector<std::uint32_t>& programs);

// The dispatcher on an interface; `is_ours` tells of an open program whether it is.
using IsOurs = std::function<bool(int program)>;
[[nodiscard]] Dispatcher look(std::uint32_t ifindex, std::uint32_t on_hook, const IsOurs& is_ours);

// Removes the pins of dispatchers with a program of ours that nothing runs any more, and with them the programs:
// their interface is gone, or (if `replaced`) has another one because a process was cut off in the middle.
void bury(const IsOurs& is_ours, bool replaced);

}  // namespace ivds::dispatcher
