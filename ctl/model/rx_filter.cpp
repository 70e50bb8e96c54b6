// SPDX-License-Identifier: Apache-2.0
#include "model/rx_filter.h"

#include <fmt/format.h>

#include <vector>

#include "model/address.h"
#include "offload/plan/steps.h"

namespace ivds {

namespace {

std::unexpected<Error> wrong(std::string what, std::string fix) {
    return fail(Code::invalid, "IVDS-M095", std::move(what), std::move(fix));
}

Result<std::uint32_t> address_of(const char* field, const std::string& text) {
    if (text.empty()) return 0U;
    const auto address = host_address(text);
    if (!address || !is_ip4(*address))
        return wrong(fmt::format("{} \"{}\" is no host's IPv4 address", field, text),
                     "the NIC's filters look at whole IPv4 addresses: write it like 10.0.0.1, without a prefix");
    const Address& bytes = *address;
    return std::uint32_t{bytes[12]} << 24 | std::uint32_t{bytes[13]} << 16 | std::uint32_t{bytes[14]} << 8 |
           bytes[15];
}

bool may_match_both(const offload::RxMatch& a, const offload::RxMatch& b) {
    const auto meet = [](std::uint32_t one, std::uint32_t other) { return one == 0 || other == 0 || one == other; };
    return meet(a.src, b.src) && meet(a.dst, b.dst) && meet(a.protocol, b.protocol) && meet(a.src_port, b.src_port) &&
           meet(a.dst_port, b.dst_port);
}

}  // namespace

Result<offload::RxMatch> parse_rx_match(const pb::RxFilter& filter) {
    offload::RxMatch match;
    const bool has_match = !filter.src().empty() || !filter.dst().empty() || !filter.protocol().empty() ||
                           filter.src_port() != 0 || filter.dst_port() != 0;
    if (filter.queue() > kMaxRxQueue)
        return wrong(fmt::format("queue {} is none that a VF has", filter.queue()),
                     fmt::format("count from 0, up to {} at most", kMaxRxQueue));
    if (!has_match)
        return wrong("it names nothing to match", "give some of src, dst, protocol, src_port and dst_port");
    const std::string& protocol = filter.protocol();
    match.protocol = protocol == "tcp" ? 6 : protocol == "udp" ? 17 : protocol == "sctp" ? 132 : 0;
    if (match.protocol == 0 && !protocol.empty())
        return wrong(fmt::format("protocol \"{}\" is none that it can match", protocol), "use tcp, udp or sctp");
    for (const auto& [field, port] :
         {std::pair("src_port", filter.src_port()), std::pair("dst_port", filter.dst_port())}) {
        if (port > 0xffff) return wrong(fmt::format("{} {} is none", field, port), "use 1 to 65535, or 0 for any");
        if (port != 0 && protocol.empty())
            return wrong(fmt::format("{} without a protocol", field), "give protocol: tcp, udp or sctp");
    }
    match.src_port = static_cast<std::uint16_t>(filter.src_port());
    match.dst_port = static_cast<std::uint16_t>(filter.dst_port());
    const auto src = address_of("src", filter.src());
    if (!src) return std::unexpected(src.error());
    const auto dst = address_of("dst", filter.dst());
    if (!dst) return std::unexpected(dst.error());
    match.src = *src;
    match.dst = *dst;
    return match;
}

Result<> validate_rx_filters(const google::protobuf::RepeatedPtrField<pb::RxFilter>& filters) {
    if (filters.size() > kMaxRxFilters)
        return wrong(fmt::format("{} rx_filters are too many", filters.size()),
                     fmt::format("a vPort has at most {}", kMaxRxFilters));
    std::vector<offload::RxMatch> before;
    for (const pb::RxFilter& filter : filters) {
        const auto match = parse_rx_match(filter);
        if (!match) return std::unexpected(match.error().in(fmt::format("rx_filter {}", before.size() + 1)));
        for (std::size_t other = 0; other < before.size(); ++other)
            if (may_match_both(*match, before[other]))
                return wrong(fmt::format("a frame may match rx_filter {} ({}) and {} ({})", other + 1,
                                         offload::text(before[other]), before.size() + 1, offload::text(*match)),
                             "leave one out, or let them differ in a field that both name");
        before.push_back(*match);
    }
    return {};
}

}  // namespace ivds
