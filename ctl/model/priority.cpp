// SPDX-License-Identifier: Apache-2.0
#include "model/priority.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <string_view>

#include "ivds/abi.h"

namespace ivds {
namespace {

struct Name {
    std::string_view text;
    std::uint8_t dscp;
};
constexpr auto kNames = std::to_array<Name>({
    {"be", 0},    {"df", 0},    {"le", 1},    {"cs0", 0},   {"cs1", 8},   {"cs2", 16},  {"cs3", 24},
    {"cs4", 32},  {"cs5", 40},  {"cs6", 48},  {"cs7", 56},  {"af11", 10}, {"af12", 12}, {"af13", 14},
    {"af21", 18}, {"af22", 20}, {"af23", 22}, {"af31", 26}, {"af32", 28}, {"af33", 30}, {"af41", 34},
    {"af42", 36}, {"af43", 38}, {"va", 44},   {"ef", 46},
});

std::optional<std::uint8_t> parse_number(const std::string& text, std::uint8_t high) {
    std::uint8_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || value > high) return std::nullopt;
    return value;
}

}  // namespace

std::optional<std::uint8_t> parse_pcp(const std::string& text) {
    if (text.empty()) return std::uint8_t{0};
    if (text == "keep") return std::uint8_t{IVDS_PCP_KEEP};
    return parse_number(text, 7);
}

std::optional<std::uint8_t> parse_dscp(const std::string& text) {
    if (text.empty()) return std::uint8_t{0};
    const auto name = std::ranges::find(kNames, text, &Name::text);
    const auto value = name != kNames.end() ? std::optional(name->dscp) : parse_number(text, 63);
    if (!value) return std::nullopt;
    return static_cast<std::uint8_t>(*value + 1);
}

}  // namespace ivds
