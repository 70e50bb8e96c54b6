// SPDX-License-Identifier: Apache-2.0
// fake_ixgbe.h -- the registers of an 82599 with the driver ixgbe on top, as far as that touches the chip's switch:
// what it writes when it is asked for something by rtnetlink, when a VF resets and when the interface does. After the
// text of the in-tree driver (ixgbe_main.c, ixgbe_sriov.c, ixgbe_common.c of Linux 5.18 to 6.9).
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <vector>

#include "offload/apply/pf_link.h"
#include "offload/nic/82599.h"
#include "offload/nic/registers.h"

namespace ivds::test {

class FakeIxgbe {
public:
    explicit FakeIxgbe(unsigned vfs);

    // What a backend is made of; the fake outlives both.
    [[nodiscard]] std::unique_ptr<offload::PfLink> link();
    [[nodiscard]] std::unique_ptr<offload::Registers> registers();

    void reset_vf(unsigned vf);  // its VM's driver starts
    void reset_pf();             // as when the interface goes down and up
    void take_vfs(unsigned count);
    void change_lists();                       // another multicast group of the interface, say
    void give_device_address(const Mac& mac);  // of a macvlan on the PF
    void add_vlan_device(std::uint16_t vlan) { view.vlans.insert(vlan); }

    [[nodiscard]] std::uint32_t get(offload::i82599::Reg reg, unsigned element = 0) const;
    void put(offload::i82599::Reg reg, unsigned element, std::uint32_t value);

    offload::PfView view;
    std::function<Result<>(std::uint32_t offset)> before_write;  // an error: the write does not happen
    bool gone = false;                                           // reads give all ones
    bool knows_link_state = true;                                // from Linux 5.18 on

private:
    class Link;
    class Bar;
    // The driver's own table of addresses.
    struct Filter {
        Mac mac{};
        unsigned pool = 0;
        bool used = false;
        bool modified = false;
    };
    [[nodiscard]] unsigned pf() const { return static_cast<unsigned>(view.vfs.size()); }
    void set_bits(offload::i82599::Reg reg, unsigned element, std::uint32_t mask, std::uint32_t value);
    void set_pool_bit(offload::i82599::Reg reg, unsigned pool, bool on, unsigned pair = 0);
    [[nodiscard]] bool pool_bit_of(offload::i82599::Reg reg, unsigned pool, unsigned pair = 0) const;
    bool add_filter(const Mac& mac, unsigned pool);
    void remove_filter(const Mac& mac, unsigned pool);
    void write_filters(bool all);
    void set_rx_mode();
    void let_all_vlans_in();
    [[nodiscard]] unsigned vlvf_slot(std::uint16_t vid, bool or_free) const;
    void join(std::uint16_t vid, unsigned vf, bool on);
    void leave_to_default_pool(std::uint16_t vid);
    void leave_all(unsigned vf);
    void write_tag(unsigned vf);
    void accept_untagged(unsigned vf, bool on);
    void spoof_check(unsigned vf, bool on);
    void turn_as_link_says(unsigned vf);

    std::map<std::uint32_t, std::uint32_t> values_;
    std::array<Filter, 127> filters_{};  // the last entry is storage's
    std::vector<bool> link_enable_;
    bool all_vlans_ = false;
};

}  // namespace ivds::test
