// SPDX-License-Identifier: Apache-2.0
// fake_igb.h -- the registers of an 82576 with the driver igb on top, as far as that touches the chip's switch: what
// it writes when it is asked for something by rtnetlink, when a VF resets and when the interface does.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <set>

#include "offload/apply/pf_link.h"
#include "offload/nic/82576.h"
#include "offload/nic/registers.h"

namespace ivds::test {

class FakeIgb {
public:
    explicit FakeIgb(unsigned vfs);

    // What a backend is made of; the fake outlives both.
    [[nodiscard]] std::unique_ptr<offload::PfLink> link();
    [[nodiscard]] std::unique_ptr<offload::Registers> registers();

    void reset_vf(unsigned vf);  // its VM's driver starts
    void reset_pf();             // as when the interface goes down and up
    void take_vfs(unsigned count);
    void give_address(const Mac& mac);  // of a macvlan on the PF, say
    void add_vlan_device(std::uint16_t vlan) { view.vlans.insert(vlan); }

    [[nodiscard]] std::uint32_t get(offload::i82576::Reg reg, unsigned element = 0) const;
    void put(offload::i82576::Reg reg, unsigned element, std::uint32_t value);

    offload::PfView view;
    std::function<Result<>(std::uint32_t offset)> before_write;  // an error: the write does not happen
    bool gone = false;                                           // reads give all ones

private:
    class Link;
    class Bar;
    [[nodiscard]] unsigned pf() const { return static_cast<unsigned>(view.vfs.size()); }
    void set_bits(offload::i82576::Reg reg, unsigned element, std::uint32_t mask, std::uint32_t value);
    void write_vfta(std::uint16_t vid, bool on);
    void join(std::uint16_t vid, unsigned pool, bool on);
    void write_modes();
    void write_vf(unsigned vf);
    void write_entry(unsigned slot, const Mac& mac, unsigned pool, bool valid);

    std::map<std::uint32_t, std::uint32_t> values_;
    std::array<std::uint32_t, 128> believed_vfta_{};
    std::map<unsigned, Mac> address_slots_;
};

}  // namespace ivds::test
