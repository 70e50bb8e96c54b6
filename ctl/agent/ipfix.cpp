// SPDX-License-Identifier: Apache-2.0
#include "agent/ipfix.h"

#include <arpa/inet.h>
#include <fixbuf/public.h>
#include <fmt/format.h>
#include <netinet/in.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>
#include <tuple>
#include <utility>
#include <vector>

namespace ivds {
namespace {

// Numbers of the templates: a collector keeps what it knows of one for as long as the exporter lives.
enum Template : std::uint16_t {
    kFlow4 = 256,
    kFlow6 = 257,
    kPacket = 258,
    kInterface = 259,
    kFlowSampling = 260,
    kPacketSampling = 261,
};

// Fields with this flag fill gaps of the struct, and are not sent.
constexpr std::uint32_t kGap = 1;

constexpr std::uint8_t kForwarded = 64;   // forwardingStatus, RFC 7270
constexpr std::uint8_t kDenied = 129;     // dropped by an ACL
constexpr std::uint16_t kEthernet = 1;    // dataLinkFrameType
constexpr std::uint16_t kCountBased = 1;  // selectorAlgorithm: systematic, every so many frames
constexpr std::uint64_t kSelection = 1;   // the one selection of frames there is
constexpr std::uint8_t kEcho = 8;
constexpr std::uint8_t kEchoReply = 0;
constexpr std::uint8_t kEcho6 = 128;
constexpr std::uint8_t kEchoReply6 = 129;

struct Ends4 {
    std::uint32_t src = 0;  // host order, as libfixbuf wants it
    std::uint32_t dst = 0;
};
struct Ends6 {
    std::uint8_t src[16] = {};
    std::uint8_t dst[16] = {};
};
template <class Ends>
struct Flow {
    std::uint64_t start_ms = 0;
    std::uint64_t end_ms = 0;
    std::uint64_t bytes = 0;
    std::uint64_t packets = 0;
    Ends ends;
    std::uint32_t ingress = 0;
    std::uint32_t egress = 0;
    std::uint16_t sport = 0;
    std::uint16_t dport = 0;
    std::uint16_t icmp = 0;
    std::uint16_t vlan = 0;
    std::uint16_t vvlan = 0;
    std::uint8_t src_mac[6] = {};
    std::uint8_t dst_mac[6] = {};
    std::uint8_t protocol = 0;
    std::uint8_t direction = 0;
    std::uint8_t end = 0;
    std::uint8_t status = 0;
    std::uint8_t gap[6] = {};
};
static_assert(sizeof(Flow<Ends4>) == 80 && sizeof(Flow<Ends6>) == 104);
struct Packet {
    std::uint64_t time_ms = 0;
    std::uint64_t selection = 0;
    std::uint32_t ingress = 0;
    std::uint32_t egress = 0;
    std::uint16_t frame_bytes = 0;
    std::uint16_t frame_type = 0;
    std::uint16_t vlan = 0;
    std::uint16_t vvlan = 0;
    fbVarfield_t section{};
};
static_assert(sizeof(Packet) == 48);
struct InterfaceName {
    std::uint32_t port = 0;
    std::uint8_t gap[4] = {};
    fbVarfield_t name{};
    fbVarfield_t description{};
};
static_assert(sizeof(InterfaceName) == 40);
struct FlowSampling {
    std::uint16_t of = 0;
    std::uint8_t gap[6] = {};
    double probability = 1;
};
static_assert(sizeof(FlowSampling) == 16);
struct PacketSampling {
    std::uint64_t selection = 0;
    std::uint64_t selector = 0;
    std::uint32_t interval = 0;
    std::uint32_t space = 0;
    std::uint16_t algorithm = 0;
    std::uint8_t gap[6] = {};
};
static_assert(sizeof(PacketSampling) == 32);

// A field of a template; libfixbuf takes names as text that may change, and changes none.
fbInfoElementSpec_t field(const char* name, std::uint16_t bytes, std::uint32_t flags = 0) {
    return {const_cast<char*>(name), bytes, flags};
}

using Fields = std::vector<fbInfoElementSpec_t>;

Fields flow_fields(const char* src, const char* dst, std::uint16_t address_bytes, const char* icmp) {
    return {field("flowStartMilliseconds", 8),
            field("flowEndMilliseconds", 8),
            field("octetDeltaCount", 8),
            field("packetDeltaCount", 8),
            field(src, address_bytes),
            field(dst, address_bytes),
            field("ingressInterface", 4),
            field("egressInterface", 4),
            field("sourceTransportPort", 2),
            field("destinationTransportPort", 2),
            field(icmp, 2),
            field("dot1qVlanId", 2),
            field("dot1qCustomerVlanId", 2),
            field("sourceMacAddress", 6),
            field("destinationMacAddress", 6),
            field("protocolIdentifier", 1),
            field("flowDirection", 1),
            field("flowEndReason", 1),
            field("forwardingStatus", 1),
            field("paddingOctets", 6, kGap)};
}

fbVarfield_t text(const std::string& from) {
    // It is read alone.
    return {from.size(), reinterpret_cast<std::uint8_t*>(const_cast<char*>(from.data()))};
}

std::string message_of(GError*& error) {
    std::string message = error != nullptr ? error->message : "for no stated reason";
    g_clear_error(&error);
    return message;
}

// Type and code as the frames of this way had them: an entry tells an echo by its request.
std::uint16_t icmp_of(const FlowRecord& record) {
    const ivds_fields& f = record.key.fields;
    std::uint8_t type = f.icmp_type;
    if (f.proto != IPPROTO_ICMP && f.proto != IPPROTO_ICMPV6) return 0;
    if (record.way == IVDS_WAY_OUT && f.proto == IPPROTO_ICMP && type == kEcho) type = kEchoReply;
    if (record.way == IVDS_WAY_OUT && f.proto == IPPROTO_ICMPV6 && type == kEcho6) type = kEchoReply6;
    return static_cast<std::uint16_t>(type << 8 | f.icmp_code);
}

void put_ends(Ends4& ends, const std::uint8_t (&src)[16], const std::uint8_t (&dst)[16]) {
    std::uint32_t word = 0;
    std::memcpy(&word, src + 12, sizeof(word));
    ends.src = ntohl(word);
    std::memcpy(&word, dst + 12, sizeof(word));
    ends.dst = ntohl(word);
}
void put_ends(Ends6& ends, const std::uint8_t (&src)[16], const std::uint8_t (&dst)[16]) {
    std::ranges::copy(src, ends.src);
    std::ranges::copy(dst, ends.dst);
}

template <class Ends>
Flow<Ends> flow_of(const FlowRecord& record, std::uint64_t epoch_ns) {
    constexpr std::uint64_t ms_ns = 1'000'000;
    const ivds_fields& f = record.key.fields;
    const bool out = record.way == IVDS_WAY_OUT;
    Flow<Ends> flow;
    flow.start_ms = (epoch_ns + record.start_ns) / ms_ns;
    flow.end_ms = (epoch_ns + record.end_ns) / ms_ns;
    flow.bytes = record.bytes;
    flow.packets = record.packets;
    put_ends(flow.ends, out ? f.dst : f.src, out ? f.src : f.dst);
    flow.ingress = out ? 0 : record.key.port;
    flow.egress = out ? record.key.port : record.target;
    flow.icmp = icmp_of(record);
    // An echo's identifier, which stands where ports are, is neither of them.
    if (flow.icmp == 0 && f.proto != IPPROTO_ICMP && f.proto != IPPROTO_ICMPV6) {
        flow.sport = ntohs(out ? f.dport_be : f.sport_be);
        flow.dport = ntohs(out ? f.sport_be : f.dport_be);
    }
    flow.vlan = record.vlan;
    flow.vvlan = record.vvlan;
    std::ranges::copy(out ? f.dst_mac : f.src_mac, flow.src_mac);
    std::ranges::copy(out ? f.src_mac : f.dst_mac, flow.dst_mac);
    flow.protocol = f.proto;
    flow.direction = out ? 1 : 0;
    flow.end = static_cast<std::uint8_t>(record.end);
    flow.status = record.action == IVDS_ACL_DROP ? kDenied : record.action != 0 ? kForwarded : 0;
    return flow;
}

}  // namespace

struct IpfixWriter::Impl {
    Send send;
    std::array<std::uint8_t, kIpfixMessageBytes> bytes{};
    fbInfoModel_t* model = nullptr;
    fbSession_t* session = nullptr;
    fBuf_t* buffer = nullptr;  // owns session and exporter once it is there
    fbExporter_t* exporter = nullptr;
    Content content;
    bool empty = true;

    explicit Impl(Send to) : send(std::move(to)) {}
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;
    ~Impl() {
        if (buffer != nullptr)
            ::fBufFree(buffer);
        else if (session != nullptr)
            ::fbSessionFree(session);
        if (model != nullptr) ::fbInfoModelFree(model);
    }

    // A template as it is in memory and as it is sent: the same, but for gaps. The first `scope` fields are those
    // that the others tell something about.
    Result<> add(std::uint16_t id, Fields fields, std::uint16_t scope = 0) {
        fields.push_back(FB_IESPEC_NULL);
        GError* error = nullptr;
        for (const bool internal : {true, false}) {
            fbTemplate_t* made = ::fbTemplateAlloc(model);
            if (!::fbTemplateAppendSpecArray(made, fields.data(), internal ? kGap : 0, &error) ||
                (scope != 0 && (::fbTemplateSetOptionsScope(made, scope), false)) ||
                ::fbSessionAddTemplate(session, internal ? TRUE : FALSE, id, made, &error) == 0)
                return fail(Code::system, "IVDS-A010", fmt::format("IPFIX template {}: {}", id, message_of(error)),
                            "report it: libfixbuf is another one than the agent was built for");
        }
        return {};
    }

    void emit() {
        if (empty) return;
        empty = true;
        GError* error = nullptr;
        const Content held = std::exchange(content, {});
        if (::fBufEmit(buffer, &error)) send(std::span(bytes.data(), ::fbExporterGetMsgLen(exporter)), held);
        g_clear_error(&error);
    }

    template <class Record>
    bool append(std::uint16_t id, Record record) {
        GError* error = nullptr;
        if (!::fBufSetInternalTemplate(buffer, id, &error) || !::fBufSetExportTemplate(buffer, id, &error)) {
            g_clear_error(&error);
            return false;
        }
        auto* at = reinterpret_cast<std::uint8_t*>(&record);
        bool done = ::fBufAppend(buffer, at, sizeof(record), &error);
        if (!done) {
            g_clear_error(&error);
            emit();
            done = ::fBufSetInternalTemplate(buffer, id, &error) && ::fBufSetExportTemplate(buffer, id, &error) &&
                   ::fBufAppend(buffer, at, sizeof(record), &error);
            g_clear_error(&error);
        }
        if (done) empty = false;
        return done;
    }
};

IpfixWriter::IpfixWriter(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
IpfixWriter::~IpfixWriter() = default;

Result<std::unique_ptr<IpfixWriter>> IpfixWriter::open(std::uint32_t domain_id, Send send) {
    auto impl = std::make_unique<Impl>(std::move(send));
    impl->model = ::fbInfoModelAlloc();
    impl->session = ::fbSessionAlloc(impl->model);
    ::fbSessionSetDomain(impl->session, domain_id);
    const auto var = static_cast<std::uint16_t>(FB_IE_VARLEN);
    for (auto& [id, fields, scope] : std::initializer_list<std::tuple<std::uint16_t, Fields, std::uint16_t>>{
             {kFlow4, flow_fields("sourceIPv4Address", "destinationIPv4Address", 4, "icmpTypeCodeIPv4"), 0},
             {kFlow6, flow_fields("sourceIPv6Address", "destinationIPv6Address", 16, "icmpTypeCodeIPv6"), 0},
             {kPacket,
              {field("observationTimeMilliseconds", 8), field("selectionSequenceId", 8), field("ingressInterface", 4),
               field("egressInterface", 4), field("dataLinkFrameSize", 2), field("dataLinkFrameType", 2),
               field("dot1qVlanId", 2), field("dot1qCustomerVlanId", 2), field("dataLinkFrameSection", var)},
              0},
             {kInterface,
              {field("ingressInterface", 4), field("paddingOctets", 4, kGap), field("interfaceName", var),
               field("interfaceDescription", var)},
              1},
             {kFlowSampling,
              {field("templateId", 2), field("paddingOctets", 6, kGap), field("samplingProbability", 8)},
              1},
             {kPacketSampling,
              {field("selectionSequenceId", 8), field("selectorId", 8), field("samplingPacketInterval", 4),
               field("samplingPacketSpace", 4), field("selectorAlgorithm", 2), field("paddingOctets", 6, kGap)},
              1}})
        if (auto done = impl->add(id, fields, scope); !done) return std::unexpected(done.error());
    // Last: a session with a buffer writes each template into it at once.
    impl->exporter = ::fbExporterAllocBuffer(impl->bytes.data(), kIpfixMessageBytes);
    impl->buffer = ::fBufAllocForExport(impl->session, impl->exporter);
    ::fBufSetAutomaticMode(impl->buffer, FALSE);
    return std::unique_ptr<IpfixWriter>(new IpfixWriter(std::move(impl)));
}

void IpfixWriter::templates() {
    impl_->emit();
    for (const std::uint16_t id : {kFlow4, kFlow6, kPacket, kInterface, kFlowSampling, kPacketSampling}) {
        GError* error = nullptr;
        bool done = ::fbSessionExportTemplate(impl_->session, id, &error);
        g_clear_error(&error);
        if (!done) {
            // Templates have messages of their own: the first attempt ends what there is, also where that is nothing.
            impl_->emit();
            done = ::fbSessionExportTemplate(impl_->session, id, &error);
            g_clear_error(&error);
        }
        if (done) impl_->empty = false;
    }
}

void IpfixWriter::sampling(std::uint32_t flows, std::uint32_t packets) {
    if (flows > 1)
        for (const std::uint16_t of : {kFlow4, kFlow6})
            impl_->append(kFlowSampling, FlowSampling{.of = of, .probability = 1.0 / flows});
    if (packets > 0)
        impl_->append(kPacketSampling, PacketSampling{.selection = kSelection,
                                                      .selector = kSelection,
                                                      .interval = 1,
                                                      .space = packets - 1,
                                                      .algorithm = kCountBased});
}

void IpfixWriter::interface(std::uint32_t port, const std::string& name, const std::string& instance) {
    impl_->append(kInterface, InterfaceName{.port = port, .name = text(name), .description = text(instance)});
}

void IpfixWriter::flow(const FlowRecord& record, std::uint64_t epoch_ns) {
    constexpr std::uint16_t ip6 = 0x86dd;
    const bool done = ntohs(record.key.fields.type_be) == ip6
                          ? impl_->append(kFlow6, flow_of<Ends6>(record, epoch_ns))
                          : impl_->append(kFlow4, flow_of<Ends4>(record, epoch_ns));
    if (done) ++impl_->content.flows;
}

void IpfixWriter::packet(const PacketSample& sample) {
    Packet packet;
    packet.time_ms = sample.time_ms;
    packet.selection = kSelection;
    packet.ingress = sample.is_out ? 0 : sample.port;
    packet.egress = sample.is_out ? sample.port : 0;
    packet.frame_bytes = static_cast<std::uint16_t>(std::min<std::uint32_t>(sample.frame_bytes, 65535));
    packet.frame_type = kEthernet;
    packet.vlan = sample.vlan;
    packet.vvlan = sample.vvlan;
    packet.section = {std::min<std::size_t>(sample.data.size(), kSampleBytes),
                      const_cast<std::uint8_t*>(sample.data.data())};
    if (impl_->append(kPacket, packet)) ++impl_->content.packets;
}

void IpfixWriter::flush() {
    impl_->emit();
}

}  // namespace ivds
