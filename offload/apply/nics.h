// SPDX-License-Identifier: Apache-2.0
// nics.h -- the NICs of this host that have virtual functions, from sysfs. A PF is known by its PCI address, a VF by
// its PF's address and its own number: names of interfaces change, and a VF that a VM has, has none.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "loader/error.h"
#include "nic/chip.h"

namespace ivds::offload {

struct Vf {
    unsigned index = 0;
    std::string address;                    // "0000:01:10.0"
    std::string driver;                     // "igbvf", "vfio-pci"; empty: none is bound
    std::string netdev;                     // empty where this network namespace has no interface of it
    bool up = false;                        // that interface, as it was set
    unsigned rx_queues = 0, tx_queues = 0;  // of that interface
    unsigned interrupts = 0;                // vectors in use
    std::optional<unsigned> iommu_group;
};

struct Pf {
    std::string address;
    std::string device;  // its folder in sysfs
    std::string netdev;  // empty where this network namespace has no interface of it
    std::string driver;
    const Chip* chip = nullptr;  // none: `why` says why the NIC is none that a plan can be made for
    std::string why;
    unsigned total_vfs = 0;  // that it can have
    unsigned num_vfs = 0;
    bool up = false;  // its interface, as it was set
    bool link = false;
    unsigned rx_queues = 0, tx_queues = 0;  // of that interface
    unsigned interrupts = 0;                // vectors in use
    std::vector<Vf> vfs;                    // by index; one that sysfs does not show is left out
};

// All PCI functions under `sysfs` (on a host, /sys) that may have VFs, by address.
[[nodiscard]] Result<std::vector<Pf>> find_pfs(const std::string& sysfs);
// One, by its PCI address or the name of its interface.
[[nodiscard]] Result<Pf> find_pf(const std::string& sysfs, const std::string& name);

// Who has a VF.
enum class VfHolder : std::uint8_t {
    nobody,  // no driver is bound
    host,    // this network namespace has its interface
    netns,   // another one has it, as far as its driver tells: a container's
    vm,      // a driver that gives it to a VM or a program has it (vfio-pci)
};
[[nodiscard]] VfHolder holder_of(const Vf& vf);
// Whether the PF can have so many VFs now: it has room for them, and where it has another number, of which all go
// first, none of these is used: in a VM or another network namespace, or in this one with its interface up. Changes
// nothing.
[[nodiscard]] Result<> check_num_vfs(const Pf& pf, unsigned count);
// Creates or removes VFs, where check_num_vfs() lets it. Where there are others already, those are removed first, as
// the kernel asks for. The PF's interface is set up before VFs are made: a driver answers its VFs only then. Takes as
// long as the kernel does to start or to stop their drivers, and resets the NIC's switch: backends of the PF are to
// be opened anew.
[[nodiscard]] Result<> set_num_vfs(const Pf& pf, unsigned count);

}  // namespace ivds::offload
