// SPDX-License-Identifier: Apache-2.0
// nic_rig.h -- a modelled 82599 brought up as its maker asks, with short ways to set its tables. A register access
// that the maker does not allow fails the test, unless the test takes the violations itself.
#pragma once

#include <functional>
#include <initializer_list>
#include <stdexcept>
#include <string>

#include "nic/model_82599.h"
#include "packet.h"

namespace ivds::test {

using namespace offload;
namespace reg = offload::i82599;
using Reg = reg::Reg;
using Kind = Violation::Kind;
using Reason = Drop::Reason;
using Step = Because::Step;

// Pool 8 is the PF and the default pool; pools 0 to 7 are VFs. All 64 have their queues.
inline constexpr unsigned pf = 8;

struct Setup {
    Uncertain uncertain{};
    std::uint32_t queue_mode = reg::mrqc::vt64_rss;
    bool replicate = true;
    bool default_pool = true;
    bool switching = true;  // PFDTXGSWC.LBE
    bool two_tags = false;  // with 0x88a8 outside
    bool pools_on = true;   // PFVFRE, PFVFTE
    std::uint32_t fctrl = reg::fctrl::bam.put();
};

// For what a test does not go on without.
inline void must(const Result<>& done) {
    if (!done) throw std::runtime_error(done.error().text());
}

// Registers behind which somebody looks after each write.
class Watched final : public Registers {
public:
    explicit Watched(Registers& registers) : registers_(registers) {}
    Result<std::uint32_t> read(std::uint32_t offset) override { return registers_.read(offset); }
    Result<> write(std::uint32_t offset, std::uint32_t value) override {
        auto done = registers_.write(offset, value);
        if (after_write) after_write();
        return done;
    }
    std::function<void()> after_write;

private:
    Registers& registers_;
};

class Nic {
public:
    explicit Nic(const Setup& setup = {});
    ~Nic();  // no violation is left
    Nic(const Nic&) = delete;
    Nic& operator=(const Nic&) = delete;

    [[nodiscard]] std::uint32_t get(Reg reg, unsigned element = 0);
    void put(Reg reg, unsigned element, std::uint32_t value);
    void put(Reg reg, std::uint32_t value) { put(reg, 0, value); }
    void set_bits(Reg reg, unsigned element, std::uint32_t bits);

    void mac(unsigned slot, const Mac& address, std::initializer_list<unsigned> pools);
    void forget_mac(unsigned slot);
    void vlan(unsigned slot, unsigned vid, std::initializer_list<unsigned> pools);  // PFVLVF and VFTA
    void accept(unsigned pool, std::initializer_list<Field> flags);                 // PFVML2FLT
    void hash(Reg table, const Mac& address);                                       // sets its bit, with MO = 0
    void port_vlan(unsigned pool, std::uint16_t tci);                               // PFVMVIR
    void spoof_check(unsigned pool, bool vlan);
    void mirror(unsigned rule, Field type, unsigned to);

    Outcome wire(const Bytes& frame) { return model.receive_from_wire(frame); }
    Outcome send(unsigned pool, const Bytes& frame, const Transmit& with = {}) {
        return model.send_from(pool, frame, with);
    }
    // The violations so far, which are then forgotten.
    std::vector<Violation> take();

    Model82599 model;
};

// "wire 1 pf" or "drop l2_filter": who got a frame, pools by number.
[[nodiscard]] std::string who(const Outcome& outcome);
[[nodiscard]] const Delivery& to(const Outcome& outcome, unsigned pool);
[[nodiscard]] Reason why_dropped(const Outcome& outcome);  // of the whole frame

// VM n's address, and one that nobody has.
[[nodiscard]] Mac vm(unsigned n);
inline constexpr Mac outside{0x02, 0, 0, 0, 0xee, 1};
inline constexpr Mac unknown{0x02, 0, 0, 0, 0xdd, 9};
inline constexpr Mac all{0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
inline constexpr Mac group{0x01, 0, 0x5e, 1, 2, 3};

[[nodiscard]] Bytes frame(const Mac& dst, const Mac& src);                     // untagged UDP
[[nodiscard]] Bytes frame(const Mac& dst, const Mac& src, std::uint16_t tci);  // with one 0x8100 tag
// 0x88a8 outside, 0x8100 inside.
[[nodiscard]] Bytes qinq(const Mac& dst, const Mac& src, std::uint16_t outer, std::uint16_t inner);

}  // namespace ivds::test
