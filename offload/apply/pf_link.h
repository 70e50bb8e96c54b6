// SPDX-License-Identifier: Apache-2.0
// pf_link.h -- a PF as its driver shows it to rtnetlink, and what the driver can be told of its VFs there. A seam:
// tests put a driver of their own behind it.
#pragma once

#include <cstdint>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "loader/error.h"
#include "loader/tables.h"

namespace ivds::offload {

// What the driver believes of a VF; it writes that into the NIC again when it or the VF resets.
struct VfSettings {
    Mac mac{};  // all zero: none
    std::uint16_t vlan = 0;
    std::uint8_t pcp = 0;
    bool spoof_check = false;
    bool trusted = false;
    bool link_off = false;  // the driver keeps it off, also when it resets
    unsigned rate_mbps = 0;
};

struct PfView {
    Mac mac{};
    bool up = false;
    bool carrier = false;
    bool promiscuous = false;
    std::vector<VfSettings> vfs;
    std::set<Mac> addresses;  // unicast, that the interface has beside its own: the driver has entries for them
    std::set<Mac> device_addresses;  // of devices on it, such as a macvlan
    std::set<std::uint16_t> vlans;   // of VLAN devices on it
};

class PfLink {
public:
    PfLink() = default;
    PfLink(const PfLink&) = delete;
    PfLink& operator=(const PfLink&) = delete;
    virtual ~PfLink() = default;

    virtual Result<PfView> view() = 0;
    // Each is done when it returns, or has failed and done nothing.
    virtual Result<> set_vf_mac(unsigned vf, const Mac& mac) = 0;
    virtual Result<> set_vf_vlan(unsigned vf, std::uint16_t vlan, std::uint8_t pcp) = 0;  // 0, 0: none
    virtual Result<> set_vf_spoof_check(unsigned vf, bool on) = 0;
    virtual Result<> set_vf_trusted(unsigned vf, bool on) = 0;
    virtual Result<> set_vf_rate(unsigned vf, unsigned mbps) = 0;  // 0: none
    // On: as the PF's link is. Code::unsupported of a driver that does not know it.
    virtual Result<> set_vf_link(unsigned vf, bool on) = 0;
    virtual Result<> set_promiscuous(bool on) = 0;
    // One of `addresses`, which comes or goes; it may be there, or gone, already.
    virtual Result<> set_address(const Mac& mac, bool on) = 0;
    // The NIC switches between its VFs (bridge mode VEB) instead of leaving that to what is on the wire (VEPA).
    virtual Result<> set_veb() = 0;
};

// The interface of the PF with this folder in sysfs, which it is looked up in at each call.
[[nodiscard]] Result<std::unique_ptr<PfLink>> open_pf_link(const std::string& device);

// What it shows, if it has as many VFs as when it was opened; Code::unavailable: it has not.
[[nodiscard]] Result<PfView> view_of(PfLink& link, unsigned vfs);

}  // namespace ivds::offload
