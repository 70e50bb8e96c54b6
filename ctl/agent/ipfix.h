// SPDX-License-Identifier: Apache-2.0
// ipfix.h -- records of flows and samples of frames as IPFIX messages (RFC 7011, RFC 5477), by libfixbuf. No message
// is larger than what any path takes in one datagram.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>

#include "agent/flow_track.h"
#include "loader/error.h"

namespace ivds {

constexpr std::uint16_t kIpfixMessageBytes = 1400;
constexpr std::uint16_t kSampleBytes = 128;  // of a frame: its headers

// The first bytes of a frame at a vPort.
struct PacketSample {
    std::uint64_t time_ms = 0;  // since 1970
    std::uint32_t port = 0;
    bool is_out = false;  // to the VM
    std::uint32_t frame_bytes = 0;
    std::span<const std::uint8_t> data;
    std::uint16_t vlan = 0;
    std::uint16_t vvlan = 0;
};

class IpfixWriter {
public:
    // What a message holds beside templates and options.
    struct Content {
        std::uint32_t flows = 0;
        std::uint32_t packets = 0;
    };
    // Gets each message as soon as it is full, and what is left on flush().
    using Send = std::function<void(std::span<const std::uint8_t>, const Content&)>;

    [[nodiscard]] static Result<std::unique_ptr<IpfixWriter>> open(std::uint32_t domain_id, Send send);
    IpfixWriter(const IpfixWriter&) = delete;
    IpfixWriter& operator=(const IpfixWriter&) = delete;
    ~IpfixWriter();

    // A collector reads nothing before it has the templates; by UDP they are told again and again.
    void templates();
    // What the sampling is; 0, 1: of flows all, of frames none.
    void sampling(std::uint32_t flows, std::uint32_t packets);
    // What the number of a vPort in records means.
    void interface(std::uint32_t port, const std::string& name, const std::string& instance);
    // `epoch_ns` is when CLOCK_MONOTONIC was 0.
    void flow(const FlowRecord& record, std::uint64_t epoch_ns);
    void packet(const PacketSample& sample);
    void flush();

private:
    struct Impl;
    explicit IpfixWriter(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace ivds
