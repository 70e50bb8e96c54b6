// SPDX-License-Identifier: Apache-2.0
// writer_82599.h -- the steps of a plan as register accesses of an 82599, in the maker's order. What is written is
// read back at once; a step that fails leaves the registers where it failed, each step being safe at each of its
// writes.
#pragma once

#include <cstdint>

#include "nic/82599.h"
#include "nic/access.h"
#include "nic/counters.h"
#include "nic/registers.h"
#include "plan/steps.h"

namespace ivds::offload {

class Writer82599 {
public:
    // `registers` outlives the writer. The PF's pool is `pf`.
    Writer82599(Registers& registers, unsigned pf, WireTags tags = {})
        : nic_(registers, "82599"), pf_(pf), tags_(tags) {}

    // Checks what the driver must have set up: pools, replication, the PF as default pool, the wire's tags, switching
    // between pools (with one tag), and a port filter that takes in all broadcast, multicast and unicast; and that
    // there are 64 pools, each with two queues. Changes nothing.
    Result<> check_setup();
    // All of that but for the number of pools, which says nothing but how many queues each has.
    Result<> check_switching();
    // Turns all VFs off and empties the tables, so that the NIC holds an empty NicState and all is the PF's. The
    // station address in RAL[0] stays.
    Result<> clear();
    Result<> clear_filters();
    // What the registers hold, as Backend::read() tells it (apply/backend.h).
    Result<NicState> read();
    // Of that, all but VFs and addresses: V.VLANs, mirrors, filters, and what the PF takes.
    Result<> read_tables(NicState& state);
    // What it counts of the pools before the PF's, which are the VFs'.
    Result<CountersOfPools> counters();
    // A step of software's does nothing here.
    Result<> apply(const Step& step);

private:
    using Reg = i82599::Reg;
    // A pool's bit in one of the pairs of registers with a bit for each.
    Result<> put_bit(Reg reg, unsigned pool, bool on);

    // A register with a bit or an entry for each pool, in pairs of words.
    Result<PoolSet> get64(Reg reg, unsigned pair);
    // One of the counters of bytes, whose upper bits are in a register of their own.
    Result<Counter> get36(Reg low, Reg high, unsigned pool);
    // How a VF's frames are held, as both SetPool and SetUplink set it.
    struct PoolBits {
        std::uint32_t tag = 0;    // PFVMVIR
        std::uint32_t takes = 0;  // PFVML2FLT
        bool on = false;          // receives and sends
        bool checks_mac = false;
        bool checks_vlan = false;
        unsigned rate_mbps = 0;
    };
    Result<PoolBits> read_bits(unsigned pool);
    Result<NicPool> read_pool(unsigned pool, const PoolBits& bits);
    Result<bool> is_uplink(unsigned pool, const PoolBits& bits);
    Result<unsigned> read_rate(unsigned pool);
    Result<> read_mirrors(NicState& state);
    Result<> read_filters(NicState& state);
    // As the NIC is laid out now.
    Result<unsigned> pool_queues();

    Result<> write(const SetMac& step);
    Result<> write(const ClearMac& step);
    Result<> write(const SetVlan& step);
    Result<> write(const ClearVlan& step);
    Result<> write(const Admit& step);
    Result<> write(const SetPool& step);
    Result<> write(const SetUplink& step);
    Result<> write(const ClearPool& step);
    Result<> write(const SetRate& step);
    Result<> write(const SetMirror& step);
    Result<> write(const ClearMirror& step);
    Result<> write(const SetFilter& step);
    Result<> write(const ClearFilter& step);
    Result<> write(const UnknownToPf& step);
    Result<> write(const Software& step);
    Result<> put_pools_of_mac(unsigned slot, PoolSet pools);
    Result<> put_rate(unsigned pool, unsigned mbps);
    Result<std::uint64_t> link_mbps();

    ChipRegisters<Reg> nic_;
    unsigned pf_;
    WireTags tags_;
};

}  // namespace ivds::offload
