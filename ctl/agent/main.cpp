// SPDX-License-Identifier: Apache-2.0
// ivdsd -- the agent's process: options, the socket, the main loop, the service manager. It may end or be killed at
// any moment: what it made is pinned and forwards on, and the next start adopts it.
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>
#include <malloc.h>
#include <net/if.h>
#include <poll.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <array>
#include <chrono>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <thread>

#include "agent/agent.h"
#include "agent/audit.h"
#include "agent/certificates.h"
#include "agent/gate.h"
#include "agent/metrics.h"
#include "agent/service.h"
#include "api/codec.h"
#include "loader/file.h"
#include "offload/apply/kernel.h"
#include "offload/apply/nics.h"

namespace ivds {
namespace {

constexpr int kMaxMessageBytes = 256 << 20;
constexpr int kMaxThreads = 32;
constexpr int kTickMs = 500;
constexpr auto kRegistryWait = std::chrono::seconds(10);
constexpr int kHandshakeMs = 10'000;
constexpr int kPingMs = 30'000;
constexpr int kPingTimeoutMs = 10'000;

struct Options {
    std::string socket = "/run/ivds/ivdsd.sock";
    std::string root = IVDS_PIN_ROOT;
    std::string state_dir = kStateDir;
    std::string config;
    std::string metrics;
    std::string metrics_tls;
    std::string listen;
    std::string listen_cert;
    std::string listen_key;
    std::string listen_ca;
    std::string advertise;
    std::string audit;
    std::string registry = "local";
    std::string etcd = "127.0.0.1:2379";
    etcd::Tls etcd_tls;
    etcd::Login etcd_login;
    std::string host_name;
    std::int64_t lease_s = 15;
    std::string log_level = "info";
    bool discard_state = false;
    bool xdp_coexist = false;
};

Result<Mac> interface_mac(const std::string& netdev) {
    ifreq request{};
    netdev.copy(request.ifr_name, sizeof request.ifr_name - 1);
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return os_error(errno, "IVDS-A004", "socket");
    const int result = ::ioctl(fd, SIOCGIFHWADDR, &request);
    const int err = errno;
    ::close(fd);
    if (result != 0)
        return os_error(err, "IVDS-A004", "read the MAC of interface " + netdev,
                        "bring the interface up, or give the pool a physical_mac");
    Mac mac{};
    std::memcpy(mac.data(), request.ifr_hwaddr.sa_data, mac.size());
    return mac;
}

// The socket is a door: whoever may write to it commands the switch. umask makes it right from its first moment. The
// other, if any, is TCP with `tls`.
Result<std::unique_ptr<grpc::Server>> serve(Service& service, const std::string& path, const std::string& listen,
                                            const std::shared_ptr<grpc::ServerCredentials>& tls) {
    std::error_code error;
    const std::filesystem::path directory = std::filesystem::path(path).parent_path();
    if (!directory.empty()) std::filesystem::create_directories(directory, error);
    if (error) return os_error(error.value(), "IVDS-A006", "make " + directory.string());

    grpc::ResourceQuota quota("ivdsd");
    quota.SetMaxThreads(kMaxThreads);
    grpc::ServerBuilder builder;
    builder.SetResourceQuota(quota);
    builder.SetSyncServerOption(grpc::ServerBuilder::NUM_CQS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MIN_POLLERS, 1);
    builder.SetSyncServerOption(grpc::ServerBuilder::MAX_POLLERS, 2);
    builder.SetMaxReceiveMessageSize(kMaxMessageBytes);
    builder.SetMaxSendMessageSize(kMaxMessageBytes);
    int port = 0;
    if (tls != nullptr) {
        // A second agent on the same port is an error; who connects and says nothing, or vanishes, holds nothing for
        // long.
        builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
        builder.AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeMs);
        builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kPingMs);
        builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeoutMs);
        builder.AddListeningPort(listen, tls, &port);
    }
    // Last: where the other cannot be, nobody finds a socket that goes at once.
    builder.AddListeningPort("unix:" + path, grpc::InsecureServerCredentials());
    builder.RegisterService(&service);
    const mode_t mask = ::umask(0117);
    std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
    ::umask(mask);
    if (tls != nullptr && port == 0)
        return fail(
            Code::system, "IVDS-A015", "cannot listen on " + listen,
            "see with 'ss -ltnp' whether another program has the port, and whether the address is this host's");
    if (server == nullptr)
        return fail(Code::system, "IVDS-A006", "cannot listen on " + path, "see whether the directory is writable");
    if (const group* readers = ::getgrnam("ivds"); readers != nullptr)
        if (::chown(path.c_str(), static_cast<uid_t>(-1), readers->gr_gid) != 0)
            spdlog::warn("{}: cannot give it to group ivds: {}", path, std::strerror(errno));
    return server;
}

Result<> first_config(Agent& agent, const std::string& path, bool has_registry) {
    if (path.empty()) return {};
    if (agent.has_intent()) {
        spdlog::info("{} is not applied: there is a saved state", path);
        return {};
    }
    auto text = read_text(path, "IVDS-A005");
    if (!text) return std::unexpected(text.error());
    auto config = config_from_yaml(*text, path);
    if (!config) return std::unexpected(config.error());
    for (const auto until = std::chrono::steady_clock::now() + kRegistryWait;;) {
        pb::ApplyRequest request;
        *request.mutable_config() = *config;
        const auto applied = agent.apply(std::move(request));
        if (applied) return {};
        // It may name what other hosts share, which is here once the registry was read.
        if (!has_registry || applied.error().id != "IVDS-M006" || std::chrono::steady_clock::now() >= until)
            return std::unexpected(applied.error().in(path));
        std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
}

// Whether others can be told to connect to ADDRESS:PORT.
bool is_for_others(const std::string& address) {
    return !address.starts_with("0.0.0.0:") && !address.starts_with("[::]:") && !address.starts_with("127.") &&
           !address.starts_with("[::1]:");
}

Result<> check_advertised(const Options& options) {
    const std::string& text = options.advertise;
    if (text.empty()) return {};
    const bool is_right = fabric::is_host_port(text) && is_for_others(text);
    if (is_right && !options.listen.empty() && options.registry == "etcd") return {};
    return fail(Code::invalid, "IVDS-A025",
                is_right ? "--advertise without --listen and --registry etcd"
                         : fmt::format("--advertise {}: no HOST:PORT that others can connect to", text),
                "write it like 192.0.2.1:7443 or a.example:7443, beside --listen and --registry etcd");
}

// The NICs of this host. What a PF has is looked up at each call.
Nics host_nics() {
    Nics nics;
    nics.open = [](const std::string& netdev, offload::WireTags tags) -> Result<std::unique_ptr<offload::Backend>> {
        const auto pf = offload::find_pf("/sys", netdev);
        return pf ? offload::open_kernel(*pf, tags) : std::unexpected(pf.error());
    };
    nics.check_vfs = [](const std::string& netdev, unsigned count) -> Result<> {
        const auto pf = offload::find_pf("/sys", netdev);
        return pf ? offload::check_num_vfs(*pf, count) : Result<>(std::unexpected(pf.error()));
    };
    nics.set_vfs = [](const std::string& netdev, unsigned count) -> Result<> {
        const auto pf = offload::find_pf("/sys", netdev);
        return pf ? offload::set_num_vfs(*pf, count) : Result<>(std::unexpected(pf.error()));
    };
    return nics;
}

// Runs until SIGTERM or SIGINT.
Result<> loop(Agent& agent, const Switch& sw, const std::function<void()>& look_at_files, int signals) {
    std::uint64_t watchdog_us = 0;
    const bool watched = sd_watchdog_enabled(0, &watchdog_us) > 0;
    std::string said;
    for (;;) {
        std::array<pollfd, 3> fds = {{{sw.watch_fd(), POLLIN, 0}, {sw.event_fd(), POLLIN, 0}, {signals, POLLIN, 0}}};
        if (::poll(fds.data(), fds.size(), kTickMs) < 0 && errno != EINTR)
            return os_error(errno, "IVDS-A007", "poll");
        if ((fds[0].revents & POLLIN) != 0) agent.on_watch();
        if ((fds[1].revents & POLLIN) != 0) agent.on_events();
        if ((fds[2].revents & POLLIN) != 0) return {};
        agent.tick();
        look_at_files();
        if (watched) sd_notify(0, "WATCHDOG=1");
        if (std::string line = agent.summary(); line != said) {
            sd_notifyf(0, "STATUS=%s", line.c_str());
            said = std::move(line);
        }
    }
}

Result<> run(const Options& options, int signals) {
    // A wrong word is refused before anything is touched.
    std::shared_ptr<Certificates> metrics_certificates;
    if (!options.metrics.empty()) {
        if (auto right = check_address("--metrics", options.metrics); !right) return right;
        if (!options.metrics_tls.empty()) {
            auto opened = Certificates::open(
                {.cert = options.metrics_tls, .key = options.metrics_tls, .ca = {}, .metrics = true});
            if (!opened) return std::unexpected(opened.error());
            metrics_certificates = std::move(*opened);
        }
    }
    std::shared_ptr<Certificates> certificates;
    std::shared_ptr<grpc::ServerCredentials> tls;
    if (!options.listen.empty()) {
        if (auto right = check_address("--listen", options.listen); !right) return right;
        auto opened = Certificates::open({options.listen_cert, options.listen_key, options.listen_ca, false});
        if (!opened) return std::unexpected(opened.error());
        certificates = std::move(*opened);
        tls = Certificates::credentials(certificates);
    }
    if (auto right = check_advertised(options); !right) return right;
    std::optional<fabric::Settings> registry;
    if (options.registry == "etcd") {
        auto settings = fabric::settings_of(options.etcd, options.etcd_tls, options.etcd_login, options.host_name,
                                            options.lease_s);
        if (!settings) return std::unexpected(settings.error());
        registry = std::move(*settings);
        registry->address = options.advertise;
        if (options.advertise.empty() && is_for_others(options.listen)) registry->address = options.listen;
    }
    auto opened = Switch::open({.root = options.root, .xdp_coexist = options.xdp_coexist});
    if (!opened) return std::unexpected(opened.error());
    Switch& sw = **opened;
    // After an update of the package, what is in the hooks is still the old build's.
    if (auto done = sw.upgrade(); !done) return done;
    auto maps = MapsView::open(options.root);
    if (!maps) return std::unexpected(maps.error());
    auto netdevs = NetdevQuery::open();
    if (!netdevs) return std::unexpected(netdevs.error());
    SwitchPlane plane(sw, *maps, *netdevs, options.root);

    auto store = Store::open(options.state_dir, options.discard_state);
    if (!store) return std::unexpected(store.error());
    auto started = Agent::start(plane, host_nics(), std::move(*store), interface_mac, options.state_dir, registry);
    if (!started) return std::unexpected(started.error());
    Agent& agent = **started;
    for (const auto& each : {certificates, metrics_certificates})
        if (each != nullptr) agent.look_too([each] { return each->finding(); });
    if (auto done = first_config(agent, options.config, registry.has_value()); !done) return done;

    std::unique_ptr<MetricsServer> metrics;
    if (!options.metrics.empty()) {
        auto listening = MetricsServer::start(
            agent, options.metrics, metrics_certificates == nullptr ? "" : metrics_certificates->now().first.cert);
        if (!listening) return std::unexpected(listening.error());
        metrics = std::move(*listening);
        spdlog::info("metrics at {}://{}/metrics", options.metrics_tls.empty() ? "http" : "https", options.metrics);
    }
    AuditLog audit(options.audit);
    Gate gate(agent, audit);
    Service service(gate);
    auto server = serve(service, options.socket, options.listen, tls);
    if (!server) return std::unexpected(server.error());
    spdlog::info("ivdsd {} serves on {}{}: {}", IVDS_VERSION, options.socket,
                 tls == nullptr ? "" : " and, by TLS, on " + options.listen, agent.summary());
    sd_notify(0, "READY=1");

    const auto look_at_files = [&] {
        if (certificates != nullptr) certificates->look();
        if (metrics_certificates == nullptr) return;
        metrics->reap();
        if (!metrics_certificates->look()) return;
        if (auto done = metrics->renew(metrics_certificates->now().first.cert); !done)
            spdlog::error("{}", done.error().text());
    };
    auto result = loop(agent, sw, look_at_files, signals);

    sd_notify(0, "STOPPING=1");
    agent.events().close();
    // Calls that run come to their end; a client that merely stays connected is not waited for.
    (*server)->Shutdown(std::chrono::system_clock::now() + std::chrono::seconds(1));
    agent.tick();  // what the last calls changed must be there at the next boot
    ::unlink(options.socket.c_str());
    spdlog::info("ivdsd ends; forwarding goes on");
    return result;
}

int main_of(int argc, char** argv) {
    Options options;
    CLI::App app{"ivdsd -- the agent of the in-server virtual distributed switch"};
    app.set_version_flag("--version", "ivdsd " IVDS_VERSION);
    app.add_option("--socket", options.socket, "Unix socket to serve on")->capture_default_str();
    app.add_option("--root", options.root, "directory on a bpffs that holds the pins")->capture_default_str();
    app.add_option("--state-dir", options.state_dir, "where the configuration is kept")->capture_default_str();
    app.add_option("--config", options.config, "YAML file to apply at a start without a saved state")
        ->check(CLI::ExistingFile);
    app.add_option("--metrics", options.metrics,
                   "ADDRESS:PORT to serve metrics for Prometheus on; without it: nowhere")
        ->envname("IVDS_METRICS");
    app.add_option("--metrics-tls", options.metrics_tls,
                   "PEM file with a certificate and its key: the metrics are served by HTTPS alone")
        ->envname("IVDS_METRICS_TLS");
    app.add_option("--listen", options.listen, "ADDRESS:PORT to serve on by TCP with mutual TLS; without it: nowhere")
        ->envname("IVDS_LISTEN");
    app.add_option("--listen-cert", options.listen_cert,
                   "PEM file: this host's certificate, and those that vouch for it")
        ->envname("IVDS_LISTEN_CERT");
    app.add_option("--listen-key", options.listen_key, "PEM file: the certificate's key")->envname("IVDS_LISTEN_KEY");
    app.add_option("--listen-ca", options.listen_ca,
                   "PEM file: the authorities that signed the clients' certificates")
        ->envname("IVDS_LISTEN_CA");
    app.add_option("--advertise", options.advertise,
                   "HOST:PORT by which other hosts reach --listen, for the registry; without it: --listen's own, "
                   "if they can")
        ->envname("IVDS_ADVERTISE");
    app.add_option("--audit", options.audit, "file for the audit log; without it: the agent's own log")
        ->envname("IVDS_AUDIT");
    app.add_option("--registry", options.registry, "where this host shares its bindings with others")
        ->check(CLI::IsMember({"local", "etcd"}))
        ->envname("IVDS_REGISTRY")
        ->capture_default_str();
    app.add_option("--etcd", options.etcd, "HOST:PORT of etcd, or https://HOST:PORT; several with commas between")
        ->envname("IVDS_ETCD")
        ->capture_default_str();
    app.add_option("--etcd-ca", options.etcd_tls.ca, "PEM file: the authority that signed etcd's certificate")
        ->envname("IVDS_ETCD_CA");
    app.add_option("--etcd-cert", options.etcd_tls.cert, "PEM file: this host's certificate for etcd")
        ->envname("IVDS_ETCD_CERT");
    app.add_option("--etcd-key", options.etcd_tls.key, "PEM file: the certificate's key")->envname("IVDS_ETCD_KEY");
    app.add_option("--etcd-user", options.etcd_login.user, "this host's user of etcd, where etcd asks for one")
        ->envname("IVDS_ETCD_USER");
    app.add_option("--etcd-password-file", options.etcd_login.password_file, "file with the user's password")
        ->envname("IVDS_ETCD_PASSWORD_FILE");
    app.add_option("--host-name", options.host_name, "this host's name in the registry; without it: its own")
        ->envname("IVDS_HOST_NAME");
    app.add_option("--lease-s", options.lease_s, "seconds of silence after which the registry forgets this host")
        ->check(CLI::Range(3, 600))
        ->envname("IVDS_LEASE_S")
        ->capture_default_str();
    app.add_option("--log-level", options.log_level, "what is worth a line")
        ->check(CLI::IsMember({"trace", "debug", "info", "warning", "error"}))
        ->capture_default_str();
    app.add_flag("--discard-state", options.discard_state, "set a damaged state aside and start without one");
    app.add_flag("--xdp-coexist", options.xdp_coexist, "XDP goes through libxdp's dispatcher, beside other programs")
        ->envname("IVDS_XDP_COEXIST");
    try {
        app.parse(argc, argv);
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? 0 : 2;
    }

    // Few arenas: the memory that one thread frees is there for the others.
    ::mallopt(M_ARENA_MAX, 2);
    spdlog::set_default_logger(spdlog::stderr_logger_mt("ivdsd"));
    // The journal has the time and the level of its own.
    spdlog::set_pattern(std::getenv("JOURNAL_STREAM") != nullptr ? "%v" : "%Y-%m-%dT%H:%M:%S.%e %l: %v");
    spdlog::set_level(spdlog::level::from_str(options.log_level));
    spdlog::flush_on(spdlog::level::trace);

    // Before any thread starts, so that all inherit the mask and the signals arrive at the loop alone.
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
    ::signal(SIGPIPE, SIG_IGN);
    const int signals = ::signalfd(-1, &set, SFD_CLOEXEC);

    if (auto done = run(options, signals); !done) {
        spdlog::error("{}", done.error().text());
        sd_notifyf(0, "STATUS=%s", done.error().what.c_str());
        return 1;
    }
    return 0;
}

}  // namespace
}  // namespace ivds

int main(int argc, char** argv) {
    return ivds::main_of(argc, argv);
}
