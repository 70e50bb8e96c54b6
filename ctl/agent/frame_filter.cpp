// SPDX-License-Identifier: Apache-2.0
#include "agent/frame_filter.h"

#include <fmt/format.h>
#include <pcap/pcap.h>

namespace ivds {
namespace {

constexpr int kWholeFrame = 262144;  // what the program says of a frame that matches: take so many bytes

}  // namespace

struct FrameFilter::Program {
    bpf_program code{};
    Program() = default;
    Program(const Program&) = delete;
    Program& operator=(const Program&) = delete;
    ~Program() { pcap_freecode(&code); }
};

Result<FrameFilter> FrameFilter::compile(const std::string& text) {
    FrameFilter filter;
    if (text.empty()) return filter;
    const std::unique_ptr<pcap_t, decltype(&pcap_close)> nowhere(pcap_open_dead(DLT_EN10MB, kWholeFrame), pcap_close);
    auto program = std::make_shared<Program>();
    if (nowhere == nullptr || pcap_compile(nowhere.get(), &program->code, text.c_str(), 1, PCAP_NETMASK_UNKNOWN) != 0)
        return fail(Code::invalid, "IVDS-A020",
                    fmt::format("the filter '{}' is none: {}", text,
                                nowhere == nullptr ? "out of memory" : pcap_geterr(nowhere.get())),
                    "write it as for tcpdump, in quotes: 'tcp port 80'; see pcap-filter(7)");
    filter.program_ = std::move(program);
    return filter;
}

bool FrameFilter::matches(std::span<const std::uint8_t> captured, std::uint32_t bytes) const {
    if (program_ == nullptr) return true;
    pcap_pkthdr header{};
    header.caplen = static_cast<bpf_u_int32>(captured.size());
    header.len = bytes;
    return pcap_offline_filter(&program_->code, &header, captured.data()) != 0;
}

}  // namespace ivds
