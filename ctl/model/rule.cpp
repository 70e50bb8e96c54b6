// SPDX-License-Identifier: Apache-2.0
#include "model/rule.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <cstring>
#include <numeric>
#include <set>
#include <string_view>
#include <utility>

#include "api/codec.h"

namespace ivds {
namespace {

constexpr std::uint16_t kIp = 0x0800;
constexpr std::uint16_t kArp = 0x0806;
constexpr std::uint16_t kIp6 = 0x86dd;
constexpr std::uint32_t kMinEtherType = 0x0600;  // below it is a length (IEEE 802.3)

constexpr std::uint8_t kIcmp = 1;
constexpr std::uint8_t kTcp = 6;
constexpr std::uint8_t kUdp = 17;
constexpr std::uint8_t kIcmp6 = 58;
constexpr std::uint8_t kSctp = 132;

// ICMPv6 types with a target: solicitation, advertisement, redirect (RFC 4861).
constexpr std::uint8_t kNdFirst = 135;
constexpr std::uint8_t kNdLast = 137;

template <class T>
struct Word {
    const char* text;
    T value;
};
constexpr std::array<Word<std::uint16_t>, 3> ethertype_words{{{"ip", kIp}, {"ip6", kIp6}, {"arp", kArp}}};
constexpr std::array<Word<std::uint8_t>, 5> protocol_words{
    {{"tcp", kTcp}, {"udp", kUdp}, {"sctp", kSctp}, {"icmp", kIcmp}, {"icmp6", kIcmp6}}};
constexpr std::array<Word<std::uint8_t>, 2> arp_words{{{"request", 1}, {"reply", 2}}};
constexpr std::array<Word<std::uint8_t>, 9> flag_words{{{"none", 0x00},
                                                        {"fin", 0x01},
                                                        {"syn", 0x02},
                                                        {"rst", 0x04},
                                                        {"psh", 0x08},
                                                        {"ack", 0x10},
                                                        {"urg", 0x20},
                                                        {"ece", 0x40},
                                                        {"cwr", 0x80}}};

template <class T, std::size_t N>
std::optional<T> find_word(const std::array<Word<T>, N>& words, std::string_view text) {
    const auto found = std::ranges::find(words, text, &Word<T>::text);
    return found == words.end() ? std::nullopt : std::optional(found->value);
}

// "use tcp, udp, sctp", behind the nearest one where the word was mistyped.
template <class T, std::size_t N>
std::string choices(const std::array<Word<T>, N>& words, const std::string& text) {
    std::vector<std::string> all;
    all.reserve(N);
    for (const auto& word : words) all.emplace_back(word.text);
    const std::string near = nearest(text, all);
    return fmt::format("{}use {}", near.empty() ? "" : fmt::format("did you mean {}? ", near), fmt::join(all, ", "));
}

std::optional<std::uint32_t> number(std::string_view text, std::uint32_t most, int base = 10) {
    std::uint32_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (error != std::errc{} || end != text.data() + text.size() || value > most) return std::nullopt;
    return value;
}

std::vector<std::string> split(const std::string& text, char by) {
    std::vector<std::string> parts;
    for (std::size_t begin = 0; begin <= text.size();) {
        const std::size_t end = std::min(text.find(by, begin), text.size());
        parts.push_back(text.substr(begin, end - begin));
        begin = end + 1;
    }
    return parts;
}

// An address or a prefix as it is written.
struct Prefix {
    bool v4 = false;
    std::array<std::uint8_t, 16> bytes{};  // IPv4: the first four
    unsigned bits = 0;

    [[nodiscard]] unsigned width() const { return v4 ? 32 : 128; }
    // The same without the bits behind the prefix.
    [[nodiscard]] Prefix network() const {
        Prefix out = *this;
        for (unsigned i = 0; i < 16; ++i) {
            const unsigned kept = bits > i * 8 ? std::min(bits - i * 8, 8U) : 0;
            out.bytes[i] = static_cast<std::uint8_t>(bytes[i] & 0xff00U >> kept);
        }
        return out;
    }
    [[nodiscard]] std::string text() const {
        std::array<char, INET6_ADDRSTRLEN> address{};
        ::inet_ntop(v4 ? AF_INET : AF_INET6, bytes.data(), address.data(), address.size());
        return bits == width() ? address.data() : fmt::format("{}/{}", address.data(), bits);
    }
};

std::optional<Prefix> parse_prefix(const std::string& text) {
    const std::size_t slash = text.find('/');
    const std::string address = text.substr(0, slash);
    Prefix out;
    out.v4 = ::inet_pton(AF_INET, address.c_str(), out.bytes.data()) == 1;
    if (!out.v4 && ::inet_pton(AF_INET6, address.c_str(), out.bytes.data()) != 1) return std::nullopt;
    out.bits = out.width();
    if (slash != std::string::npos) {
        const auto bits = number(std::string_view(text).substr(slash + 1), out.width());
        if (!bits) return std::nullopt;
        out.bits = *bits;
    }
    return out;
}

// An address or a prefix without a bit behind it.
Result<Prefix> network_prefix(const char* field, const std::string& text) {
    const auto prefix = parse_prefix(text);
    if (!prefix)
        return fail(Code::invalid, "IVDS-M042", fmt::format("{} \"{}\" is no address and no prefix", field, text),
                    "write it like 10.0.0.1, 10.0.0.0/8, fd00::1 or fd00::/8");
    if (const Prefix network = prefix->network(); network.bytes != prefix->bytes)
        return fail(Code::invalid, "IVDS-M048", fmt::format("{} {} has bits set behind its prefix", field, text),
                    fmt::format("write {}, or the address without the prefix", network.text()));
    return *prefix;
}

PrefixMatch to_match(const Prefix& prefix) {
    PrefixMatch match;
    match.bits = prefix.bits;
    match.value = prefix.bytes;
    if (prefix.v4) {
        // As the data plane has it: ::ffff:a.b.c.d.
        match.bits += 96;
        match.value = {0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff};
        std::copy_n(prefix.bytes.begin(), 4, match.value.begin() + 12);
    }
    return match;
}

Result<MacMatch> mac_match(const char* field, const std::string& text) {
    const std::size_t slash = text.find('/');
    MacMatch match;
    const auto value = parse_mac(text.substr(0, slash));
    const auto mask = slash == std::string::npos ? Result<Mac>(match.mask) : parse_mac(text.substr(slash + 1));
    if (!value || !mask)
        return fail(Code::invalid, "IVDS-M042", fmt::format("{} \"{}\" is no MAC address", field, text),
                    "write it like 02:00:5e:00:00:01, or with a mask like 02:00:5e:00:00:00/ff:ff:ff:00:00:00");
    match.value = *value;
    match.mask = *mask;
    Mac masked{};
    for (std::size_t i = 0; i < masked.size(); ++i)
        masked[i] = static_cast<std::uint8_t>(match.value[i] & match.mask[i]);
    if (masked != match.value)
        return fail(Code::invalid, "IVDS-M048", fmt::format("{} {} has bits that its mask leaves out", field, text),
                    fmt::format("write {}/{}", format_mac(masked), format_mac(match.mask)));
    return match;
}

// Reads one rule, field by field; later fields look at what earlier ones said.
class RuleReader {
public:
    explicit RuleReader(const pb::Rule& rule) : rule_(rule) {}

    Result<AclRule> read() {
        for (const auto step : {&RuleReader::words, &RuleReader::ethertype, &RuleReader::macs, &RuleReader::addresses,
                                &RuleReader::protocol, &RuleReader::ports, &RuleReader::icmp, &RuleReader::nd_target,
                                &RuleReader::tcp_flags, &RuleReader::deeds, &RuleReader::sets})
            if (auto done = (this->*step)(); !done) return std::unexpected(done.error());
        if (type_ != 0) {
            out_.ethertypes = {type_};
        } else if (version_ != 0) {
            out_.ethertypes = {version_ == 4 ? kIp : kIp6};
        } else if (out_.proto) {
            out_.ethertypes = {kIp, kIp6};
        }
        return std::move(out_);
    }

private:
    static std::unexpected<Error> wrong(const char* id, const std::string& what, const std::string& fix) {
        return fail(Code::invalid, id, what, fix);
    }

    [[nodiscard]] bool is_arp() const { return type_ == kArp; }
    [[nodiscard]] bool is_other() const { return type_ != 0 && type_ != kIp && type_ != kIp6 && type_ != kArp; }

    // All fields that tell the IP version must tell the same.
    Result<> narrow(unsigned version, const std::string& by) {
        if (version_ == 0) {
            version_ = version;
            by_ = by;
        }
        if (version_ == version) return {};
        return wrong("IVDS-M043", fmt::format("{} is IPv{}, and {} is IPv{}", by_, version_, by, version),
                     "no frame is both: make two rules of it, or leave one out");
    }

    Result<> words() {
        if (!pb::Rule::Action_IsValid(rule_.action()) || !pb::Rule::Direction_IsValid(rule_.direction()))
            return wrong("IVDS-M042", "unknown action or direction",
                         "action is allow, drop or redirect; direction is both, in or out");
        out_.action = rule_.action() == pb::Rule::DROP       ? IVDS_ACL_DROP
                      : rule_.action() == pb::Rule::REDIRECT ? IVDS_ACL_REDIRECT
                                                             : IVDS_ACL_ALLOW;
        return {};
    }

    // What it does beside allowing or dropping.
    Result<> deeds() {
        const bool redirect = rule_.action() == pb::Rule::REDIRECT;
        const bool has_vport = !rule_.to_vport().empty();
        const bool has_pool = !rule_.to_pool().empty();
        if (redirect && !has_vport && !has_pool)
            return wrong("IVDS-M050", "action redirect does not say where to", "give to_vport or to_pool");
        if (has_vport && has_pool)
            return wrong("IVDS-M050", "to_vport and to_pool exclude each other", "leave one of them out");
        if (!redirect && (has_vport || has_pool))
            return wrong("IVDS-M050", fmt::format("{} without action redirect", has_vport ? "to_vport" : "to_pool"),
                         "use action redirect, or leave it out");
        if (redirect && rule_.direction() != pb::Rule::IN)
            return wrong("IVDS-M051", "action redirect is for frames from the VM alone",
                         "give direction in; what shall be redirected on its way to the VM is redirected where it "
                         "comes from");
        if (rule_.stateful()) {
            if (rule_.action() == pb::Rule::DROP)
                return wrong("IVDS-M052", "stateful with action drop: what is dropped opens no connection",
                             "use action allow or redirect, or leave stateful out");
            if (is_arp() || is_other())
                return wrong("IVDS-M052",
                             fmt::format("stateful with ethertype {}, which has no connections", rule_.ethertype()),
                             "use ethertype ip or ip6, or leave stateful out");
            out_.flags |= IVDS_ACL_STATEFUL;
        }
        if (rule_.log()) out_.flags |= IVDS_ACL_LOG;
        if ((rule_.idle_s() != 0 || rule_.hard_s() != 0) && rule_.name().empty())
            return wrong("IVDS-M053", "a rule that goes by itself needs a name",
                         "give it one: rule-N is another rule once one before it went");
        return {};
    }

    Result<> sets() {
        if (!rule_.src_set().empty() && (!rule_.src().empty() || !rule_.src_mac().empty()))
            return wrong("IVDS-M054", "src_set excludes src and src_mac", "leave one out, or put it into the set");
        if (!rule_.dst_set().empty() && (!rule_.dst().empty() || !rule_.dst_mac().empty()))
            return wrong("IVDS-M054", "dst_set excludes dst and dst_mac", "leave one out, or put it into the set");
        return {};
    }

    Result<> ethertype() {
        const std::string& text = rule_.ethertype();
        if (text.empty()) return {};
        if (const auto word = find_word(ethertype_words, text)) {
            type_ = *word;
        } else {
            const auto value = text.starts_with("0x") ? number(std::string_view(text).substr(2), 0xffff, 16)
                                                      : std::optional<std::uint32_t>();
            if (!value || *value < kMinEtherType)
                return wrong("IVDS-M042", fmt::format("ethertype \"{}\" is none", text),
                             choices(ethertype_words, text) + ", or a number from 0x0600 to 0xffff");
            type_ = static_cast<std::uint16_t>(*value);
        }
        if (type_ == kIp) return narrow(4, "ethertype " + text);
        if (type_ == kIp6) return narrow(6, "ethertype " + text);
        return {};
    }

    static Result<std::optional<MacMatch>> mac(const char* field, const std::string& text) {
        if (text.empty()) return std::nullopt;
        return mac_match(field, text);
    }

    Result<> macs() {
        auto source = mac("src_mac", rule_.src_mac());
        if (!source) return std::unexpected(source.error());
        if (*source && ((*source)->value[0] & 1U) != 0)
            return wrong("IVDS-M081",
                         fmt::format("src_mac {} is of a group, and no frame comes from one", rule_.src_mac()),
                         "use dst_mac, or an address whose first byte is even");
        auto destination = mac("dst_mac", rule_.dst_mac());
        if (!destination) return std::unexpected(destination.error());
        out_.src_mac = *source;
        out_.dst_mac = *destination;
        return {};
    }

    Result<std::optional<PrefixMatch>> address(const char* field, const std::string& text) {
        if (text.empty()) return std::nullopt;
        const auto prefix = network_prefix(field, text);
        if (!prefix) return std::unexpected(prefix.error());
        if (is_other())
            return wrong("IVDS-M043",
                         fmt::format("{} with ethertype {}, which has no addresses", field, rule_.ethertype()),
                         "use ethertype ip, ip6 or arp, or leave it out");
        if (is_arp() && !prefix->v4)
            return wrong("IVDS-M043", fmt::format("{} {} is IPv6, and ethertype arp is of IPv4", field, text),
                         "IPv6 has no ARP: match nd_target instead");
        if (!is_arp())
            if (auto done = narrow(prefix->v4 ? 4 : 6, fmt::format("{} {}", field, text)); !done)
                return std::unexpected(done.error());
        return to_match(*prefix);
    }

    Result<> addresses() {
        auto source = address("src", rule_.src());
        if (!source) return std::unexpected(source.error());
        auto destination = address("dst", rule_.dst());
        if (!destination) return std::unexpected(destination.error());
        out_.src = *source;
        out_.dst = *destination;
        return {};
    }

    Result<> protocol() {
        const std::string& text = rule_.protocol();
        if (text.empty()) return {};
        if (is_other())
            return wrong("IVDS-M043", fmt::format("protocol with ethertype {}, which has none", rule_.ethertype()),
                         "use ethertype ip, ip6 or arp, or leave it out");
        out_.proto = is_arp() ? find_word(arp_words, text) : find_word(protocol_words, text);
        if (!out_.proto)
            if (const auto value = number(text, 255)) out_.proto = static_cast<std::uint8_t>(*value);
        if (!out_.proto)
            return wrong(
                "IVDS-M042", fmt::format("protocol \"{}\" is none{}", text, is_arp() ? " of ARP" : ""),
                (is_arp() ? choices(arp_words, text) : choices(protocol_words, text)) + ", or a number up to 255");
        if (is_arp()) return {};
        if (out_.proto == kIcmp) return narrow(4, "protocol " + text);
        if (out_.proto == kIcmp6) return narrow(6, "protocol " + text);
        return {};
    }

    [[nodiscard]] bool carries(std::initializer_list<std::uint8_t> protocols) const {
        return !is_arp() && out_.proto && std::ranges::find(protocols, *out_.proto) != protocols.end();
    }

    static std::string range_text(const PortRange& range) {
        return range.first == range.last ? fmt::format("{}", range.first)
                                         : fmt::format("{}-{}", range.first, range.last);
    }

    Result<std::vector<PortRange>> ranges(const char* field,
                                          const google::protobuf::RepeatedPtrField<std::string>& texts) {
        std::vector<PortRange> out;
        if (texts.empty()) return out;
        if (!carries({kTcp, kUdp, kSctp}))
            return wrong("IVDS-M044", fmt::format("{} without a protocol that has ports", field),
                         "give protocol tcp, udp or sctp");
        if (texts.size() > kMaxPortRanges)
            return wrong("IVDS-M046", fmt::format("{} holds {} ranges", field, texts.size()),
                         fmt::format("at most {} fit in one rule: make two rules of it", kMaxPortRanges));
        for (const std::string& text : texts) {
            const auto parts = split(text, '-');
            const auto first = number(parts.front(), 0xffff);
            const auto last = number(parts.back(), 0xffff);
            if (parts.size() > 2 || !first || !last)
                return wrong("IVDS-M045", fmt::format("{} \"{}\" is no port and no range", field, text),
                             "write it like 80 or 1000-2000; ports go from 0 to 65535");
            if (*first > *last)
                return wrong("IVDS-M045", fmt::format("{} {} is an empty range", field, text),
                             fmt::format("write {}-{}", *last, *first));
            for (const PortRange& other : out)
                if (*first <= other.last && *last >= other.first)
                    return wrong(
                        "IVDS-M080", fmt::format("{} {} overlaps with {} before it", field, text, range_text(other)),
                        fmt::format("write {}",
                                    range_text({static_cast<std::uint16_t>(std::min<unsigned>(*first, other.first)),
                                                static_cast<std::uint16_t>(std::max<unsigned>(*last, other.last))})));
            out.push_back({static_cast<std::uint16_t>(*first), static_cast<std::uint16_t>(*last)});
        }
        return out;
    }

    Result<> ports() {
        auto source = ranges("src_ports", rule_.src_ports());
        if (!source) return std::unexpected(source.error());
        auto destination = ranges("dst_ports", rule_.dst_ports());
        if (!destination) return std::unexpected(destination.error());
        out_.sports = std::move(*source);
        out_.dports = std::move(*destination);
        return {};
    }

    Result<> icmp() {
        const std::string& text = rule_.icmp();
        if (text.empty()) return {};
        if (!carries({kIcmp, kIcmp6}))
            return wrong("IVDS-M044", "icmp without a protocol that has types", "give protocol icmp or icmp6");
        const auto parts = split(text, '/');
        const auto type = number(parts.front(), 255);
        const auto code = number(parts.back(), 255);
        if (parts.size() > 2 || !type || !code)
            return wrong("IVDS-M042", fmt::format("icmp \"{}\" is no type", text),
                         "write TYPE or TYPE/CODE, like 8 or 3/4; both go up to 255");
        out_.icmp_type = static_cast<std::uint8_t>(*type);
        if (parts.size() == 2) out_.icmp_code = static_cast<std::uint8_t>(*code);
        return {};
    }

    // What Neighbour Discovery is about: IPv6's ARP. It says by itself what else the frame is.
    Result<> nd_target() {
        const std::string& text = rule_.nd_target();
        if (text.empty()) return {};
        const auto prefix = network_prefix("nd_target", text);
        if (!prefix) return std::unexpected(prefix.error());
        if (prefix->v4)
            return wrong("IVDS-M043", fmt::format("nd_target {} is IPv4, and Neighbour Discovery is of IPv6", text),
                         "match ethertype arp with dst instead");
        if (is_arp() || is_other())
            return wrong("IVDS-M043", fmt::format("nd_target with ethertype {}, which has none", rule_.ethertype()),
                         "use ethertype ip6, or leave it out");
        if (auto done = narrow(6, "nd_target " + text); !done) return done;
        if (!out_.proto) out_.proto = kIcmp6;
        if (out_.proto != kIcmp6)
            return wrong("IVDS-M044", fmt::format("nd_target with protocol {}", rule_.protocol()),
                         "give protocol icmp6, or leave it out");
        if (out_.icmp_type && (*out_.icmp_type < kNdFirst || *out_.icmp_type > kNdLast))
            return wrong(
                "IVDS-M044", fmt::format("nd_target with icmp {}, which has no target", rule_.icmp()),
                "give icmp 135 (solicitation), 136 (advertisement) or 137 (redirect), or leave it out for all");
        if (!rule_.dst().empty() || !rule_.dst_set().empty())
            return wrong("IVDS-M054", fmt::format("nd_target excludes {}", rule_.dst().empty() ? "dst_set" : "dst"),
                         "leave one out: what a message is about says more than where it is sent to");
        if (rule_.stateful())
            return wrong("IVDS-M052", "stateful with nd_target: Neighbour Discovery opens no connection",
                         "leave stateful out");
        out_.nd_target = to_match(*prefix);
        return {};
    }

    static std::optional<std::uint8_t> flags(const std::string& text) {
        std::uint8_t all = 0;
        for (const std::string& word : split(text, '+')) {
            const auto flag = find_word(flag_words, word);
            if (!flag) return std::nullopt;
            all |= *flag;
        }
        return all;
    }

    Result<> tcp_flags() {
        const std::string& text = rule_.tcp_flags();
        if (text.empty()) return {};
        if (!carries({kTcp})) return wrong("IVDS-M044", "tcp_flags without protocol tcp", "give protocol tcp");
        const auto parts = split(text, '/');
        const auto value = flags(parts.front());
        const auto mask = flags(parts.back());
        if (parts.size() > 2 || !value || !mask || *mask == 0)
            return wrong(
                "IVDS-M042", fmt::format("tcp_flags \"{}\" are none", text),
                "write FLAGS or FLAGS/MASK of fin, syn, rst, psh, ack, urg, ece, cwr, joined by +, like syn or "
                "syn/syn+ack; none/MASK: none of these");
        if ((*value & ~*mask) != 0)
            return wrong("IVDS-M049", fmt::format("tcp_flags {} match nothing: the mask leaves out a flag", text),
                         "name every flag that shall be set in the mask too");
        out_.tcp_flags = FlagsMatch{.value = *value, .mask = *mask};
        return {};
    }

    const pb::Rule& rule_;
    AclRule out_;
    std::uint16_t type_ = 0;  // 0: not given
    unsigned version_ = 0;    // of IP; 0: either
    std::string by_;          // which field said so
};

bool good_name(const std::string& name) {
    const auto good = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == '-';
    };
    return name.size() <= 63 && std::ranges::all_of(name, good) && name[0] != '.' && name[0] != '_' && name[0] != '-';
}

}  // namespace

Result<AclRule> parse_rule(const pb::Rule& rule) {
    return RuleReader(rule).read();
}

Result<> validate_rules(const RuleList& rules) {
    if (rules.size() > kMaxRules)
        return fail(Code::invalid, "IVDS-M046", fmt::format("{} rules are too many for one list", rules.size()),
                    fmt::format("a list holds at most {}: use prefixes, or lists of ports", kMaxRules));
    std::set<std::string> names;
    for (int place = 0; place < rules.size(); ++place) {
        const std::string name = rule_name(rules, place);
        if (!good_name(name))
            return fail(Code::invalid, "IVDS-M047", fmt::format("rule \"{}\": not a name", name),
                        "a name has up to 63 of a-z 0-9 . _ - and starts with a letter or a digit");
        if (!names.insert(name).second)
            return fail(Code::invalid, "IVDS-M047", fmt::format("two rules are named {}", name),
                        "give each its own name; rule-N is the name of the N-th where it has none");
        if (const auto parsed = parse_rule(rules[place]); !parsed)
            return std::unexpected(parsed.error().in("rule " + name));
    }
    return {};
}

Result<SetMatch> parse_set(const pb::Set& set) {
    if (set.addresses_size() + set.macs_size() + set.vports_size() > kMaxSetMembers)
        return fail(Code::invalid, "IVDS-M055",
                    fmt::format("{} members are too many for one set",
                                set.addresses_size() + set.macs_size() + set.vports_size()),
                    fmt::format("a set holds at most {}: use prefixes", kMaxSetMembers));
    SetMatch out;
    for (const std::string& text : set.addresses()) {
        const auto prefix = network_prefix("address", text);
        if (!prefix) return std::unexpected(prefix.error());
        (prefix->v4 ? out.v4 : out.v6).push_back(to_match(*prefix));
    }
    for (const std::string& text : set.macs()) {
        const auto mac = mac_match("MAC", text);
        if (!mac) return std::unexpected(mac.error());
        out.macs.push_back(*mac);
    }
    return out;
}

void to_lower(std::string& text) {
    std::ranges::transform(text, text.begin(),
                           [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + ('a' - 'A')) : c; });
}

void normalise_rules(RuleList& rules) {
    for (pb::Rule& rule : rules) {
        for (std::string* text : {rule.mutable_ethertype(), rule.mutable_src_mac(), rule.mutable_dst_mac(),
                                  rule.mutable_protocol(), rule.mutable_tcp_flags()})
            to_lower(*text);
        for (std::string* text : {rule.mutable_src(), rule.mutable_dst(), rule.mutable_nd_target()})
            if (const auto prefix = parse_prefix(*text)) *text = prefix->text();
    }
}

void normalise_set(pb::Set& set) {
    for (std::string& text : *set.mutable_macs()) to_lower(text);
    for (std::string& text : *set.mutable_addresses())
        if (const auto prefix = parse_prefix(text)) text = prefix->text();
}

std::string rule_name(const RuleList& rules, int place) {
    const std::string& name = rules[place].name();
    return name.empty() ? fmt::format("rule-{}", place + 1) : name;
}

std::vector<int> by_priority(const RuleList& rules) {
    std::vector<int> places(static_cast<std::size_t>(rules.size()));
    std::iota(places.begin(), places.end(), 0);
    std::ranges::stable_sort(places, std::ranges::greater(), [&](int place) { return rules[place].priority(); });
    return places;
}

std::string action_text(const pb::Rule& rule) {
    std::string text = to_text(rule.action());
    if (!rule.to_vport().empty()) text += " " + rule.to_vport();
    if (!rule.to_pool().empty()) text += " pool " + rule.to_pool();
    if (rule.stateful()) text += ", stateful";
    if (rule.log()) text += ", log";
    if (!rule.mirror().empty()) text += ", mirror " + rule.mirror();
    if (rule.idle_s() != 0) text += fmt::format(", idle {} s", rule.idle_s());
    if (rule.hard_s() != 0) text += fmt::format(", hard {} s", rule.hard_s());
    return text;
}

std::string match_text(const pb::Rule& rule) {
    std::vector<std::string> words;
    const auto say = [&](const std::string& label, const std::string& value) {
        if (!value.empty()) words.push_back(label + value);
    };
    const auto end = [&](const char* preposition, const std::string& mac, const std::string& address,
                         const std::string& set, const google::protobuf::RepeatedPtrField<std::string>& ports) {
        if (mac.empty() && address.empty() && set.empty() && ports.empty()) return;
        words.emplace_back(preposition);
        say("", mac);
        say("", address);
        say("set ", set);
        if (mac.empty() && address.empty() && set.empty()) words.emplace_back("any");
        if (!ports.empty()) words.push_back(fmt::format("port {}", fmt::join(ports, ",")));
    };
    say("", rule.ethertype());
    say("", rule.protocol());
    say("type ", rule.icmp());
    say("flags ", rule.tcp_flags());
    say("about ", rule.nd_target());
    end("from", rule.src_mac(), rule.src(), rule.src_set(), rule.src_ports());
    end("to", rule.dst_mac(), rule.dst(), rule.dst_set(), rule.dst_ports());
    return words.empty() ? "any" : fmt::format("{}", fmt::join(words, " "));
}

}  // namespace ivds
