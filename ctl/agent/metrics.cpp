// SPDX-License-Identifier: Apache-2.0
#include "agent/metrics.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <microhttpd.h>
#include <prometheus/text_serializer.h>
#include <spdlog/spdlog.h>

#include <charconv>
#include <cstdint>
#include <exception>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

namespace ivds {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Labels = std::vector<ClientMetric::Label>;

// Clients that connect and say nothing are no longer than this among the few that may be there.
constexpr unsigned kTimeoutS = 5;
constexpr unsigned kThreads = 2;
constexpr unsigned kConnections = 32;

class Families {
public:
    // A family that is asked for again is the same one. What these give holds until the next family is asked for.
    MetricFamily& counter(const std::string& name, const char* help) {
        return family(name, help, MetricType::Counter);
    }
    MetricFamily& gauge(const std::string& name, const char* help) { return family(name, help, MetricType::Gauge); }
    std::vector<MetricFamily> take() { return std::move(families_); }

private:
    MetricFamily& family(const std::string& name, const char* help, MetricType type) {
        for (MetricFamily& known : families_)
            if (known.name == name) return known;
        MetricFamily& made = families_.emplace_back();
        made.name = name;
        made.help = help;
        made.type = type;
        return made;
    }

    std::vector<MetricFamily> families_;
};

void add(MetricFamily& family, Labels labels, std::uint64_t value) {
    ClientMetric& metric = family.metric.emplace_back();
    metric.label = std::move(labels);
    (family.type == MetricType::Counter ? metric.counter.value : metric.gauge.value) = static_cast<double>(value);
}

// One series for each value of the label `name`.
void add_each(MetricFamily& family, const Labels& who, const char* name,
              std::initializer_list<std::pair<const char*, std::uint64_t>> values) {
    for (const auto& [value, count] : values) {
        Labels labels = who;
        labels.push_back({name, value});
        add(family, std::move(labels), count);
    }
}

// What ports have in common: `kind` is the name's part for theirs.
void add_traffic(Families& to, const std::string& kind, const Labels& who, const pb::Counters& c, const char* packets,
                 const char* bytes) {
    add_each(to.counter(fmt::format("ivds_{}_packets_total", kind), packets), who, "direction",
             {{"rx", c.rx_packets()}, {"tx", c.tx_packets()}});
    add_each(to.counter(fmt::format("ivds_{}_bytes_total", kind), bytes), who, "direction",
             {{"rx", c.rx_bytes()}, {"tx", c.tx_bytes()}});
}

void add_vport(Families& to, const pb::PortState& port) {
    const Labels who = {{"vport", port.name()}, {"instance", port.instance()}};
    const pb::Counters& c = port.counters();
    add_traffic(to, "vport", who, c, "Packets from the vPort into the switch (rx) and to it (tx).",
                "Bytes from the vPort into the switch (rx) and to it (tx).");
    if (port.has_nic_counters())
        add_traffic(to, "vport_nic", who, port.nic_counters(), "Of the vPort's packets those that a NIC carried.",
                    "Of the vPort's bytes those that a NIC carried.");
    add_each(
        to.counter(
            "ivds_vport_switched_packets_total",
            "Packets from the vPort by where software sent them: a local vPort, the wire, flooded, or answered."),
        who, "to",
        {{"local", c.rx_local()}, {"wire", c.rx_wire()}, {"flood", c.rx_flood()}, {"answer", c.rx_answered()}});
    add(to.gauge("ivds_vport_up", "1 if the vPort is up, else 0."), who, port.up() ? 1 : 0);
    add(to.gauge("ivds_vport_fdb_entries", "Learned MACs that the vPort owns."), who, port.learned());
    add(to.gauge("ivds_vport_fdb_limit", "How many MACs the vPort may own."), who, port.fdb_limit());
    add(to.gauge("ivds_flow_entries", "Entries of the flow table that the vPort owns."), who, port.flows());
}

void add_uplink(Families& to, const pb::PortState& port) {
    const Labels who = {{"uplink", port.name()}};
    const pb::Counters& c = port.counters();
    add_traffic(to, "uplink", who, c, "Packets of instances from the wire (rx) and to it (tx).",
                "Bytes of instances from the wire (rx) and to it (tx).");
    add(to.counter("ivds_uplink_host_packets_total", "Packets from the wire that were passed to the host untouched."),
        who, c.rx_host());
    add(to.gauge("ivds_uplink_up", "1 if the uplink is up, else 0."), who, port.up() ? 1 : 0);
    if (port.speed_mbps() != 0)
        add(to.gauge("ivds_uplink_speed_bytes", "Speed of the uplink's link in bytes per second."), who,
            std::uint64_t{port.speed_mbps()} * 125'000);
    if (!port.has_netdev_counters()) return;
    const pb::NetdevCounters& n = port.netdev_counters();
    add_each(to.counter("ivds_uplink_netdev_errors_total", "What the uplink's interface counted as errors."), who,
             "reason",
             {{"rx_errors", n.rx_errors()},
              {"tx_errors", n.tx_errors()},
              {"rx_dropped", n.rx_dropped()},
              {"tx_dropped", n.tx_dropped()},
              {"rx_missed", n.rx_missed()},
              {"rx_crc", n.rx_crc()}});
}

void add_instance(Families& to, const pb::InstanceState& instance) {
    const Labels who = {{"instance", instance.name()}, {"tenant", instance.tenant()}, {"uplink", instance.uplink()}};
    add_each(to.counter("ivds_instance_packets_total", "Packets that the instance accepted, by where from."), who,
             "from", {{"vport", instance.port_packets()}, {"wire", instance.wire_packets()}});
    add_each(to.counter("ivds_instance_bytes_total", "Bytes that the instance accepted, by where from."), who, "from",
             {{"vport", instance.port_bytes()}, {"wire", instance.wire_bytes()}});
    add(to.gauge("ivds_instance_vports", "vPorts of the instance."), who, instance.vports());
    add(to.gauge("ivds_fdb_entries", "MACs that the instance learned."), who, instance.learned());
    add(to.gauge("ivds_fdb_limit", "How many MACs the instance may learn."), who, instance.fdb_limit());
}

// A quota of 0 is none.
void add_tenant(Families& to, const pb::TenantState& tenant) {
    const auto used_of = [&](const char* used, const char* help, std::uint64_t count, const char* quota,
                             const char* quota_help, std::uint32_t most) {
        add(to.gauge(used, help), {{"tenant", tenant.name()}}, count);
        if (most != 0) add(to.gauge(quota, quota_help), {{"tenant", tenant.name()}}, most);
    };
    used_of("ivds_tenant_instances", "Instances of the tenant.", tenant.instances(), "ivds_tenant_instances_quota",
            "How many instances the tenant may have.", tenant.max_instances());
    used_of("ivds_tenant_vports", "vPorts of the tenant.", tenant.vports(), "ivds_tenant_vports_quota",
            "How many vPorts the tenant may have.", tenant.max_vports());
    used_of("ivds_tenant_fdb_reserved", "MACs that the tenant's instances may learn together.", tenant.fdb(),
            "ivds_tenant_fdb_quota", "How many MACs the tenant's instances may be given.", tenant.max_fdb());
    used_of("ivds_tenant_bindings", "Bindings and fixed MACs of the tenant.", tenant.bindings(),
            "ivds_tenant_bindings_quota", "How many bindings and fixed MACs the tenant may have.",
            tenant.max_bindings());
    used_of("ivds_tenant_fabric_bindings", "Bindings of the tenant on all hosts of the registry.",
            tenant.fabric_bindings(), "ivds_tenant_fabric_bindings_quota",
            "How many bindings the tenant may have on all hosts.", tenant.max_fabric_bindings());
}

void add_mirror(Families& to, const pb::MirrorState& mirror) {
    const Labels who = {{"mirror", mirror.name()}};
    add(to.counter("ivds_mirror_packets_total", "Copies that the mirror sent."), who, mirror.packets());
    add(to.counter("ivds_mirror_bytes_total", "Bytes of the copies, without what carries them."), who,
        mirror.bytes());
    add(to.counter("ivds_mirror_refused_total", "Copies that could not be sent."), who, mirror.refused());
    add(to.counter("ivds_mirror_cut_total", "Copies that were sent shortened to what the way takes."), who,
        mirror.cut());
}

void add_exporter(Families& to, const pb::ExporterState& exporter) {
    const Labels who = {{"exporter", exporter.name()}};
    add(to.gauge("ivds_exporter_flows", "Flows that the exporter follows."), who, exporter.flows());
    add_each(to.counter("ivds_exporter_records_total", "Records that the exporter sent."), who, "kind",
             {{"flow", exporter.flow_records()}, {"packet", exporter.packet_records()}});
    add(to.counter("ivds_exporter_messages_total", "Messages that the exporter sent."), who, exporter.messages());
    add(to.counter("ivds_exporter_failed_records_total",
                   "Records that could not be sent, or that the collector's host refused."),
        who, exporter.failed_records());
    add(to.counter("ivds_exporter_lost_samples_total", "Sampled frames for which there was no room."), who,
        exporter.lost_samples());
}

void add_inspector(Families& to, const pb::InspectorState& inspector) {
    const Labels who = {{"inspector", inspector.name()}};
    add(to.gauge("ivds_inspector_listening", "1 while frames go to the inspector, else 0."), who,
        inspector.listening() ? 1 : 0);
    add(to.counter("ivds_inspector_sent_total", "Frames that were sent to the inspector."), who, inspector.sent());
    add_each(to.counter("ivds_inspector_verdicts_total", "Frames that the inspector decided."), who, "verdict",
             {{"pass", inspector.passed()}, {"block", inspector.blocked()}});
    add_each(to.counter("ivds_inspector_missed_total", "Frames that went on or were dropped without the inspector."),
             who, "fate", {{"uninspected", inspector.uninspected()}, {"refused", inspector.refused()}});
}

MetricFamily scrape_ok(bool ok) {
    Families families;
    add(families.gauge("ivds_scrape_ok", "1 if the switch could be read for this scrape, else 0."), {}, ok ? 1 : 0);
    return families.take().front();
}

Result<MetricsReading> read(const Agent& agent) {
    auto status = agent.status();
    if (!status) return std::unexpected(status.error());
    auto stats = agent.stats();
    if (!stats) return std::unexpected(stats.error());
    auto mirrors = agent.mirrors({});
    if (!mirrors) return std::unexpected(mirrors.error());
    auto exporters = agent.exporters({});
    if (!exporters) return std::unexpected(exporters.error());
    auto inspectors = agent.inspectors({});
    if (!inspectors) return std::unexpected(inspectors.error());
    return MetricsReading{std::move(*status), std::move(*stats), std::move(*mirrors), std::move(*exporters),
                          std::move(*inspectors)};
}

std::string scrape(const Agent& agent) {
    const auto reading = read(agent);
    std::vector<MetricFamily> families;
    if (reading)
        families = metric_families(*reading);
    else
        spdlog::warn("metrics: {}", reading.error().text());
    families.push_back(scrape_ok(reading.has_value()));
    return prometheus::TextSerializer().Serialize(families);
}

MHD_Result reply(MHD_Connection* to, unsigned status, const std::string& text, const char* type) {
    // The library writes to no text that it copies.
    MHD_Response* response =
        ::MHD_create_response_from_buffer(text.size(), const_cast<char*>(text.data()), MHD_RESPMEM_MUST_COPY);
    if (response == nullptr) return MHD_NO;
    ::MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
    const MHD_Result queued = ::MHD_queue_response(to, status, response);
    ::MHD_destroy_response(response);
    return queued;
}

MHD_Result on_request(void* agent, MHD_Connection* from, const char* path, const char* method,
                      const char* /*version*/, const char* /*body*/, std::size_t* /*bytes*/, void** /*state*/) {
    try {
        if (std::string_view(path) != "/metrics")
            return reply(from, MHD_HTTP_NOT_FOUND, "see /metrics\n", "text/plain");
        if (std::string_view(method) != MHD_HTTP_METHOD_GET)
            return reply(from, MHD_HTTP_METHOD_NOT_ALLOWED, "GET alone\n", "text/plain");
        return reply(from, MHD_HTTP_OK, scrape(*static_cast<const Agent*>(agent)),
                     "text/plain; version=0.0.4; charset=utf-8");
    } catch (const std::exception& error) {
        spdlog::warn("metrics: {}", error.what());
        return MHD_NO;
    }
}

union SocketAddress {
    sockaddr any;
    sockaddr_in four;
    sockaddr_in6 six;
};

std::optional<SocketAddress> parse_address(const std::string& text) {
    const std::size_t colon = text.rfind(':');
    if (colon == std::string::npos || colon == 0) return std::nullopt;
    const char* const end = text.data() + text.size();
    std::uint16_t port = 0;
    const auto [last, error] = std::from_chars(text.data() + colon + 1, end, port);
    if (error != std::errc() || last != end || port == 0) return std::nullopt;
    SocketAddress address{};
    if (text[0] == '[' && text[colon - 1] == ']') {
        address.six.sin6_family = AF_INET6;
        address.six.sin6_port = htons(port);
        if (::inet_pton(AF_INET6, text.substr(1, colon - 2).c_str(), &address.six.sin6_addr) == 1) return address;
        return std::nullopt;
    }
    address.four.sin_family = AF_INET;
    address.four.sin_port = htons(port);
    if (::inet_pton(AF_INET, text.substr(0, colon).c_str(), &address.four.sin_addr) == 1) return address;
    return std::nullopt;
}

}  // namespace

std::vector<MetricFamily> metric_families(const MetricsReading& reading) {
    const pb::StatusReply& status = reading.status;
    Families to;
    add(to.gauge("ivds_build_info", "Versions of the agent and of the programs in the hooks; always 1."),
        {{"version", status.version()}, {"programs", status.programs()}}, 1);
    add(to.gauge("ivds_agent_uptime_seconds", "How long the agent runs; forwarding may be older."), {},
        status.uptime_s());
    add(to.gauge("ivds_generation", "Grows by every change of the tables in force."), {}, status.generation());
    for (const pb::PortState& port : reading.stats.ports()) {
        if (port.kind() == pb::VPORT)
            add_vport(to, port);
        else
            add_uplink(to, port);
    }
    for (const pb::InstanceState& instance : reading.stats.instances()) add_instance(to, instance);
    for (const pb::Drop& drop : reading.stats.drops()) {
        const Labels where = {{"port", drop.port()}, {"reason", drop.reason()}};
        add(to.counter("ivds_drops_total", "Dropped packets by port and reason."), where, drop.packets());
        add(to.counter("ivds_drops_bytes_total", "Bytes of dropped packets by port and reason."), where,
            drop.bytes());
    }
    for (const pb::TenantState& tenant : status.tenants()) add_tenant(to, tenant);
    for (const pb::MirrorState& mirror : reading.mirrors.mirrors()) add_mirror(to, mirror);
    for (const pb::ExporterState& exporter : reading.exporters.exporters()) add_exporter(to, exporter);
    for (const pb::InspectorState& inspector : reading.inspectors.inspectors()) add_inspector(to, inspector);
    return to.take();
}

Result<> check_address(const std::string& option, const std::string& address) {
    if (parse_address(address)) return {};
    return fail(Code::invalid, "IVDS-A008", fmt::format("{} {}: not an IP address and a port", option, address),
                "give one like 127.0.0.1:9464 or [::1]:9464");
}

// The library reads a certificate when a daemon starts. So another one takes the listening socket over, and the one
// before it ends with its last connection.
struct MetricsServer::Impl {
    const Agent& agent;
    SocketAddress here;
    std::string address;
    std::string pem;
    MHD_Daemon* daemon = nullptr;
    std::vector<MHD_Daemon*> retired;

    Impl(const Agent& of, const SocketAddress& at, std::string text)
        : agent(of), here(at), address(std::move(text)) {}
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;
    ~Impl() {
        // Those that may still use the socket first: the last one closes it.
        for (MHD_Daemon* each : retired) ::MHD_stop_daemon(each);
        if (daemon != nullptr) ::MHD_stop_daemon(daemon);
    }

    // On a socket that listens already, or on one of its own.
    [[nodiscard]] bool start(MHD_socket listening) {
        unsigned flags = MHD_USE_AUTO_INTERNAL_THREAD | MHD_USE_ITC;
        if (here.any.sa_family == AF_INET6) flags |= MHD_USE_IPv6;
        std::vector<MHD_OptionItem> more;
        if (!pem.empty()) {
            flags |= MHD_USE_TLS;
            more.push_back({MHD_OPTION_HTTPS_MEM_CERT, 0, pem.data()});
            more.push_back({MHD_OPTION_HTTPS_MEM_KEY, 0, pem.data()});
        }
        if (listening != MHD_INVALID_SOCKET)
            more.push_back({MHD_OPTION_LISTEN_SOCKET, listening, nullptr});
        else
            more.push_back({MHD_OPTION_SOCK_ADDR, 0, &here.any});
        more.push_back({MHD_OPTION_END, 0, nullptr});
        // The agent is only read.
        daemon = ::MHD_start_daemon(flags, 0, nullptr, nullptr, on_request, const_cast<Agent*>(&agent),
                                    MHD_OPTION_THREAD_POOL_SIZE, kThreads, MHD_OPTION_CONNECTION_LIMIT, kConnections,
                                    MHD_OPTION_CONNECTION_TIMEOUT, kTimeoutS, MHD_OPTION_ARRAY, more.data(),
                                    MHD_OPTION_END);
        return daemon != nullptr;
    }
};

MetricsServer::MetricsServer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MetricsServer::~MetricsServer() = default;

Result<std::unique_ptr<MetricsServer>> MetricsServer::start(const Agent& agent, const std::string& address,
                                                            std::string pem) {
    if (auto right = check_address("--metrics", address); !right) return std::unexpected(right.error());
    auto impl = std::make_unique<Impl>(agent, *parse_address(address), address);
    impl->pem = std::move(pem);
    if (!impl->start(MHD_INVALID_SOCKET))
        return fail(
            Code::system, "IVDS-A009", fmt::format("cannot listen on {} for metrics", address),
            "see with 'ss -ltnp' whether another program has the port, and whether the address is this host's");
    return std::unique_ptr<MetricsServer>(new MetricsServer(std::move(impl)));
}

Result<> MetricsServer::renew(std::string pem) {
    const auto wrong = [&](const std::string& what) {
        return fail(Code::system, "IVDS-A009", fmt::format("metrics at {}: {}", impl_->address, what),
                    "restart ivdsd");
    };
    if (impl_->daemon != nullptr) {
        const MHD_socket listening = ::MHD_quiesce_daemon(impl_->daemon);
        if (listening == MHD_INVALID_SOCKET) return wrong("the certificate from before stays in use");
        impl_->retired.push_back(impl_->daemon);
        std::swap(impl_->pem, pem);
        if (impl_->start(listening)) return {};
        std::swap(impl_->pem, pem);
        if (impl_->start(listening)) return wrong("the certificate from before stays in use");
    }
    return wrong("nobody is served any more");
}

void MetricsServer::reap() {
    std::erase_if(impl_->retired, [](MHD_Daemon* each) {
        const auto* info = ::MHD_get_daemon_info(each, MHD_DAEMON_INFO_CURRENT_CONNECTIONS);
        if (info != nullptr && info->num_connections != 0) return false;
        ::MHD_stop_daemon(each);
        return true;
    });
}

}  // namespace ivds
