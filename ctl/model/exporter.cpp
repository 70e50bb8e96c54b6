// SPDX-License-Identifier: Apache-2.0
// exporter.cpp -- what an exporter of flows must hold to, and whose flows it tells.
#include "model/exporter.h"

#include <arpa/inet.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cstring>

namespace ivds {
namespace {

constexpr std::uint32_t kMaxActiveTimeoutS = 3600;
constexpr std::uint32_t kMaxTemplateRefreshS = 86400;

std::unexpected<Error> wrong(const pb::Exporter& exporter, const char* id, const std::string& what,
                             const std::string& fix) {
    return fail(Code::invalid, id, fmt::format("exporter {}: {}", exporter.name(), what), fix);
}

bool has(const google::protobuf::RepeatedPtrField<std::string>& names, const std::string& name) {
    return std::ranges::find(names, name) != names.end();
}

}  // namespace

std::optional<Collector> parse_collector(const std::string& text) {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos) return std::nullopt;
    const char* const end = text.data() + text.size();
    std::uint16_t port = 0;
    const auto [last, error] = std::from_chars(text.data() + colon + 1, end, port);
    if (error != std::errc() || last != end || port == 0) return std::nullopt;

    Collector collector;
    const std::string host = text.substr(0, colon);
    if (host.size() > 2 && host.front() == '[' && host.back() == ']') {
        sockaddr_in6 address{};
        address.sin6_family = AF_INET6;
        address.sin6_port = htons(port);
        if (::inet_pton(AF_INET6, host.substr(1, host.size() - 2).c_str(), &address.sin6_addr) != 1)
            return std::nullopt;
        std::memcpy(&collector.address, &address, sizeof(address));
        collector.size = sizeof(address);
    } else {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(port);
        if (::inet_pton(AF_INET, host.c_str(), &address.sin_addr) != 1) return std::nullopt;
        std::memcpy(&collector.address, &address, sizeof(address));
        collector.size = sizeof(address);
    }
    return collector;
}

bool is_exported(const pb::Exporter& exporter, const pb::Instance& instance) {
    if (exporter.instances().empty() && exporter.tenants().empty()) return true;
    return has(exporter.instances(), instance.name()) || has(exporter.tenants(), instance.tenant());
}

Result<> validate_object(const pb::Exporter& exporter) {
    if (auto named = validate_name("exporter", exporter.name()); !named) return named;
    if (!parse_collector(exporter.collector()))
        return wrong(exporter, "IVDS-M066",
                     fmt::format("collector \"{}\" is not an address and a port", exporter.collector()),
                     "write it in numbers, like 192.0.2.9:4739 or [fd00::9]:4739");
    const auto check = [&](const char* field, std::uint32_t value, std::uint32_t most) -> Result<> {
        if (value <= most) return {};
        return wrong(exporter, "IVDS-M003", fmt::format("{} = {} is out of range (1 to {})", field, value, most),
                     "0 is the default");
    };
    if (auto done = check("active_timeout_s", exporter.active_timeout_s(), kMaxActiveTimeoutS); !done) return done;
    return check("template_refresh_s", exporter.template_refresh_s(), kMaxTemplateRefreshS);
}

Result<> validate_exporters(const Model& model) {
    if (model.exporters.size() > kMaxExporters)
        return fail(
            Code::exhausted, "IVDS-M020",
            fmt::format("{} exporters are too many: a host has up to {}", model.exporters.size(), kMaxExporters),
            "let one exporter tell several instances");
    for (const auto& [name, exporter] : model.exporters) {
        for (const std::string& tenant : exporter->tenants())
            if (!model.tenants.contains(tenant) && std::ranges::none_of(model.instances, [&](const auto& known) {
                    return known.second->tenant() == tenant;
                }))
                return fail(Code::not_found, "IVDS-M006",
                            fmt::format("exporter {} names tenant {}, which does not exist", name, tenant),
                            "create the tenant or an instance of it first, or in the same file");
    }
    return {};
}

}  // namespace ivds
