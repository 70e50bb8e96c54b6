// SPDX-License-Identifier: Apache-2.0
#include "frame.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <pcap/pcap.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <sstream>
#include <string_view>

namespace ivds::cli {
namespace {

using Bytes = std::vector<std::uint8_t>;

constexpr std::size_t smallest_frame = 60;

enum class Form { number, mac, ip4, ip6 };

// A field of a layer: where it is, how wide, and what it holds when the words say nothing.
struct Field {
    const char* name;
    Form form;
    std::size_t at;     // byte
    std::size_t bytes;  // of the word that holds it
    unsigned shift;     // numbers: bits below it …
    unsigned bits;      // … and its own
    const char* usual;
};

// A layer: its header without options, and how the layer before it names it.
struct Layer {
    const char* name;
    std::size_t bytes;
    std::uint16_t ethertype;  // 0: none names it
    int protocol;             // IP protocol, -1: none
    std::size_t next_at;      // where it names the next layer, 0: nowhere
    std::size_t next_bytes;
    std::vector<Field> fields;
};

const std::vector<Layer>& layers() {
    static const std::vector<Layer> all = {
        {"eth",
         14,
         0,
         -1,
         12,
         2,
         {{"dst", Form::mac, 0, 6, 0, 0, "ff:ff:ff:ff:ff:ff"},
          {"src", Form::mac, 6, 6, 0, 0, ""},
          {"type", Form::number, 12, 2, 0, 16, ""}}},
        {"vlan",
         4,
         0x8100,
         -1,
         2,
         2,
         {{"id", Form::number, 0, 2, 0, 12, "1"},
          {"pcp", Form::number, 0, 2, 13, 3, "0"},
          {"tpid", Form::number, 0, 0, 0, 16, ""},
          {"type", Form::number, 2, 2, 0, 16, ""}}},
        {"arp",
         28,
         0x0806,
         -1,
         0,
         0,
         {{"hw", Form::number, 0, 2, 0, 16, "1"},
          {"proto", Form::number, 2, 2, 0, 16, "0x800"},
          {"sizes", Form::number, 4, 2, 0, 16, "0x604"},
          {"op", Form::number, 6, 2, 0, 16, "1"},
          {"sha", Form::mac, 8, 6, 0, 0, ""},
          {"spa", Form::ip4, 14, 4, 0, 0, "192.0.2.1"},
          {"tha", Form::mac, 18, 6, 0, 0, "00:00:00:00:00:00"},
          {"tpa", Form::ip4, 24, 4, 0, 0, "192.0.2.2"}}},
        {"ip",
         20,
         0x0800,
         4,
         9,
         1,
         {{"version_ihl", Form::number, 0, 1, 0, 8, "0x45"},
          {"tos", Form::number, 1, 1, 0, 8, "0"},
          {"length", Form::number, 2, 2, 0, 16, ""},
          {"more", Form::number, 6, 2, 13, 1, "0"},
          {"offset", Form::number, 6, 2, 0, 13, "0"},
          {"ttl", Form::number, 8, 1, 0, 8, "64"},
          {"proto", Form::number, 9, 1, 0, 8, ""},
          {"src", Form::ip4, 12, 4, 0, 0, "192.0.2.1"},
          {"dst", Form::ip4, 16, 4, 0, 0, "192.0.2.2"}}},
        {"ip6",
         40,
         0x86dd,
         41,
         6,
         1,
         {{"version", Form::number, 0, 4, 28, 4, "6"},
          {"class", Form::number, 0, 4, 20, 8, "0"},
          {"length", Form::number, 4, 2, 0, 16, ""},
          {"next", Form::number, 6, 1, 0, 8, ""},
          {"hops", Form::number, 7, 1, 0, 8, "64"},
          {"src", Form::ip6, 8, 16, 0, 0, "2001:db8::1"},
          {"dst", Form::ip6, 24, 16, 0, 0, "2001:db8::2"}}},
        {"tcp",
         20,
         0,
         6,
         0,
         0,
         {{"sport", Form::number, 0, 2, 0, 16, "40000"},
          {"dport", Form::number, 2, 2, 0, 16, "80"},
          {"words", Form::number, 12, 1, 4, 4, "5"},
          {"flags", Form::number, 13, 1, 0, 8, "2"}}},
        {"udp",
         8,
         0,
         17,
         0,
         0,
         {{"sport", Form::number, 0, 2, 0, 16, "40000"},
          {"dport", Form::number, 2, 2, 0, 16, "53"},
          {"length", Form::number, 4, 2, 0, 16, "8"}}},
        {"sctp",
         12,
         0,
         132,
         0,
         0,
         {{"sport", Form::number, 0, 2, 0, 16, "40000"}, {"dport", Form::number, 2, 2, 0, 16, "80"}}},
        {"icmp", 8, 0, 1, 0, 0, {{"type", Form::number, 0, 1, 0, 8, "8"}, {"code", Form::number, 1, 1, 0, 8, "0"}}},
        {"icmp6",
         8,
         0,
         58,
         0,
         0,
         {{"type", Form::number, 0, 1, 0, 8, "128"}, {"code", Form::number, 1, 1, 0, 8, "0"}}},
        {"nd",
         24,
         0,
         58,
         0,
         0,
         {{"type", Form::number, 0, 1, 0, 8, "135"},
          {"code", Form::number, 1, 1, 0, 8, "0"},
          {"target", Form::ip6, 8, 16, 0, 0, "2001:db8::2"}}},
    };
    return all;
}

std::unexpected<Error> wrong(const std::string& what, const std::string& fix) {
    return fail(Code::invalid, "IVDS-U020", what, fix);
}

std::vector<std::string> split(const std::string& text, char by) {
    std::vector<std::string> parts;
    std::istringstream in(text);
    for (std::string part; std::getline(in, part, by);) parts.push_back(part);
    return parts;
}

std::optional<std::uint64_t> number(const std::string& text) {
    const bool hex = text.starts_with("0x") || text.starts_with("0X");
    const char* begin = text.data() + (hex ? 2 : 0);
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(begin, text.data() + text.size(), value, hex ? 16 : 10);
    return error == std::errc() && end == text.data() + text.size() && begin != end ? std::optional(value)
                                                                                    : std::nullopt;
}

void put(std::span<std::uint8_t> header, std::size_t at, std::size_t bytes, std::uint64_t value, unsigned shift = 0) {
    value <<= shift;
    for (std::size_t i = 0; i < bytes; ++i)
        header[at + i] |= static_cast<std::uint8_t>(value >> (8 * (bytes - 1 - i)));
}

Result<> put_field(std::span<std::uint8_t> header, const Layer& layer, const Field& field, const std::string& value) {
    const auto bad = [&](const char* what) {
        return wrong(fmt::format("{} {}: '{}' is not {}", layer.name, field.name, value, what),
                     "see 'ivds-ctl trace --help'");
    };
    switch (field.form) {
        case Form::mac: {
            const auto mac = parse_mac(value);
            if (!mac) return bad("a MAC address");
            std::ranges::copy(*mac, header.begin() + static_cast<std::ptrdiff_t>(field.at));
            return {};
        }
        case Form::ip4:
            return ::inet_pton(AF_INET, value.c_str(), &header[field.at]) == 1 ? Result<>{} : bad("an IPv4 address");
        case Form::ip6:
            return ::inet_pton(AF_INET6, value.c_str(), &header[field.at]) == 1 ? Result<>{} : bad("an IPv6 address");
        case Form::number:
            break;
    }
    const auto n = number(value);
    if (!n || *n >> field.bits != 0) return bad(fmt::format("a number below 2^{}", field.bits).c_str());
    put(header, field.at, field.bytes, *n, field.shift);
    return {};
}

// A layer in the words of the caller.
struct Spoken {
    const Layer* layer = nullptr;
    std::map<std::string, std::string> values;

    [[nodiscard]] std::string value(const std::string& field) const {
        const auto found = values.find(field);
        return found == values.end() ? "" : found->second;
    }
};

Result<std::vector<Spoken>> listen(const std::string& words) {
    std::vector<Spoken> spoken;
    for (const std::string& part : split(words, '/')) {
        Spoken one;
        std::istringstream in(part);
        std::string name;
        in >> name;
        const auto layer = std::ranges::find(layers(), name, &Layer::name);
        if (layer == layers().end())
            return wrong(fmt::format("'{}' is no layer of a frame", name), "see 'ivds-ctl trace --help'");
        one.layer = &*layer;
        for (std::string word; in >> word;) {
            const std::size_t equals = word.find('=');
            const std::string field = word.substr(0, equals);
            if (equals == std::string::npos ||
                std::ranges::find(layer->fields, field, &Field::name) == layer->fields.end())
                return wrong(fmt::format("'{}' is no field of {}", word, name), "see 'ivds-ctl trace --help'");
            one.values[field] = word.substr(equals + 1);
        }
        spoken.push_back(std::move(one));
    }
    if (spoken.empty() || spoken.front().layer->name != std::string_view("eth"))
        return wrong("a frame begins with its Ethernet header", "begin with 'eth dst=MAC'");
    return spoken;
}

// How a layer names the one behind it, by EtherType or IP protocol; 0 if it has no name there.
std::uint64_t name_of_next(const Layer& layer, const Spoken& next) {
    if (layer.next_bytes == 1) return next.layer->protocol < 0 ? 0 : static_cast<std::uint64_t>(next.layer->protocol);
    if (const auto tpid = number(next.value("tpid"))) return *tpid;
    return next.layer->ethertype;
}

}  // namespace

Result<std::vector<std::uint8_t>> frame_from_words(const std::string& words, const Mac& source) {
    const auto spoken = listen(words);
    if (!spoken) return std::unexpected(spoken.error());
    Bytes frame;
    std::vector<std::size_t> begins;
    for (std::size_t i = 0; i < spoken->size(); ++i) {
        const Spoken& one = (*spoken)[i];
        const Layer& layer = *one.layer;
        const std::size_t begin = frame.size();
        begins.push_back(begin);
        frame.resize(begin + layer.bytes);
        const std::span header(frame.data() + begin, layer.bytes);
        for (const Field& field : layer.fields) {
            std::string value = one.value(field.name);
            const bool names_next =
                field.at == layer.next_at && field.bytes == layer.next_bytes && layer.next_at != 0;
            if (value.empty() && names_next && i + 1 < spoken->size()) {
                put(header, field.at, field.bytes, name_of_next(layer, (*spoken)[i + 1]));
                continue;
            }
            if (value.empty() && field.form == Form::mac && field.usual[0] == '\0') value = format_mac(source);
            if (value.empty()) value = field.usual;
            if (value.empty()) continue;
            if (auto done = put_field(header, layer, field, value); !done) return std::unexpected(done.error());
        }
    }
    frame.resize(std::max(frame.size(), smallest_frame));
    for (std::size_t i = 0; i < spoken->size(); ++i) {
        const Layer& layer = *(*spoken)[i].layer;
        const std::size_t all = frame.size() - begins[i];
        const auto length = std::ranges::find(layer.fields, std::string_view("length"), &Field::name);
        if (layer.next_bytes == 1 && length != layer.fields.end() && (*spoken)[i].value("length").empty())
            put(std::span(frame.data() + begins[i], layer.bytes), length->at, 2, all - (layer.bytes == 40 ? 40 : 0));
    }
    return frame;
}

Result<std::vector<std::uint8_t>> frame_from_hex(const std::string& hex) {
    Bytes frame;
    std::string digits;
    for (const char c : hex)
        if (std::string_view(" :\t\n").find(c) == std::string_view::npos) digits += c;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2) {
        std::uint8_t byte = 0;
        const auto [end, error] = std::from_chars(&digits[i], &digits[i] + 2, byte, 16);
        if (error != std::errc() || end != &digits[i] + 2)
            return wrong(fmt::format("'{}' is no byte in hexadecimal", digits.substr(i, 2)),
                         "give the frame's bytes");
        frame.push_back(byte);
    }
    if (digits.size() % 2 != 0) return wrong("the last byte has one digit alone", "give two digits a byte");
    return frame;
}

Result<std::vector<std::vector<std::uint8_t>>> frames_from_pcap(const std::string& path) {
    std::array<char, PCAP_ERRBUF_SIZE> error{};
    const std::unique_ptr<pcap_t, decltype(&pcap_close)> file(pcap_open_offline(path.c_str(), error.data()),
                                                              pcap_close);
    if (!file) return wrong(fmt::format("read {}: {}", path, error.data()), "give a pcap or pcapng file");
    if (pcap_datalink(file.get()) != DLT_EN10MB)
        return wrong(fmt::format("{} holds no Ethernet frames", path), "capture on an Ethernet interface");
    std::vector<Bytes> frames;
    pcap_pkthdr* header = nullptr;
    const u_char* data = nullptr;
    int got = 0;
    while ((got = pcap_next_ex(file.get(), &header, &data)) == 1) frames.emplace_back(data, data + header->caplen);
    if (got == PCAP_ERROR)
        return wrong(fmt::format("read {}: {}", path, pcap_geterr(file.get())), "give a whole file");
    return frames;
}

std::string frame_words_help() {
    std::string help = "Layers and their fields (field=value; all have a usual value):\n";
    for (const Layer& layer : layers()) {
        help += fmt::format("  {:6}", layer.name);
        for (const Field& field : layer.fields) help += fmt::format(" {}", field.name);
        help += '\n';
    }
    return help;
}

}  // namespace ivds::cli
