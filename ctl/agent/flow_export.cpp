// SPDX-License-Identifier: Apache-2.0
#include "agent/flow_export.h"

#include <fmt/format.h>
#include <spdlog/spdlog.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <set>
#include <thread>
#include <unordered_map>
#include <utility>

#include "agent/clock.h"
#include "agent/flow_track.h"
#include "agent/ipfix.h"
#include "model/exporter.h"

namespace ivds {
namespace {

using std::chrono::steady_clock;

// Looks come closer together than an entry lives on behind its last frame.
constexpr std::uint32_t kLookS = IVDS_FLOW_CLOSING_S / 2;
// A collector's buffer takes so many messages at once, and its program takes them out meanwhile.
constexpr std::uint32_t kBurst = 64;
constexpr std::chrono::milliseconds kBreath{2};
// How long a capture for samples that could not begin waits for its next try.
constexpr std::chrono::seconds kPatience{10};

// Where messages go.
class Outlet {
public:
    Outlet() = default;
    Outlet(const Outlet&) = delete;
    Outlet& operator=(const Outlet&) = delete;
    ~Outlet() { close(); }

    void aim(const std::string& collector) {
        if (collector == to_) return;
        to_ = collector;
        close();
    }

    // What the host's ICMP said of an earlier message is told when the next is sent, and that is then sent.
    struct Sent {
        int error = 0;
        bool refused = false;  // an earlier one
    };
    Sent send(std::span<const std::uint8_t> message) {
        if (fd_ < 0 && !open()) return {.error = errno};
        Sent sent;
        for (int tries = 0; tries < 2; ++tries) {
            if (::send(fd_, message.data(), message.size(), MSG_DONTWAIT | MSG_NOSIGNAL) >= 0) return sent;
            if (errno != ECONNREFUSED) break;
            sent.refused = true;
        }
        sent.error = errno;
        // The way to the collector, and with it the source address, may be another by now.
        if (sent.error != EAGAIN && sent.error != ECONNREFUSED) close();
        return sent;
    }

private:
    bool open() {
        const auto collector = parse_collector(to_);
        if (!collector) {
            errno = EDESTADDRREQ;
            return false;
        }
        fd_ = ::socket(collector->address.ss_family, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd_ < 0) return false;
        if (::connect(fd_, reinterpret_cast<const sockaddr*>(&collector->address), collector->size) == 0) return true;
        const int error = errno;
        close();
        errno = error;
        return false;
    }
    void close() {
        if (fd_ >= 0) ::close(fd_);
        fd_ = -1;
    }

    std::string to_;
    int fd_ = -1;
};

struct Network {
    std::uint16_t vlan = 0;
    std::uint16_t vvlan = 0;
};

Network network_of(const Model& model, const pb::Instance& instance) {
    return {static_cast<std::uint16_t>(outer_vlan(model, instance)), static_cast<std::uint16_t>(instance.vvlan())};
}

}  // namespace

class FlowExport {
public:
    struct Job {
        std::shared_ptr<const Intent> intent;
        std::shared_ptr<const pb::Exporter> exporter;
        bool operator==(const Job&) const = default;
    };

    FlowExport(const FlowReader& reader, const Sampler& sampler, Job job)
        : reader_(reader), sampler_(sampler), job_(std::move(job)), domain_(job_.exporter->domain_id()) {
        auto writer = IpfixWriter::open(domain_, [this](std::span<const std::uint8_t> message,
                                                        const IpfixWriter::Content& held) { send(message, held); });
        if (!writer) {
            spdlog::error("exporter {}: {}", job_.exporter->name(), writer.error().text());
            error_ = writer.error().text();
            return;
        }
        writer_ = std::move(*writer);
        outlet_.aim(job_.exporter->collector());
        running_ = 2;
        flows_thread_ = std::thread([this] {
            tell_flows();
            --running_;
        });
        samples_thread_ = std::thread([this] {
            tell_samples();
            --running_;
        });
    }
    FlowExport(const FlowExport&) = delete;
    FlowExport& operator=(const FlowExport&) = delete;
    ~FlowExport() {
        stop();
        if (flows_thread_.joinable()) flows_thread_.join();
        if (samples_thread_.joinable()) samples_thread_.join();
    }

    // The domain is all that an exporter keeps for its life: it is in the messages' sequence.
    [[nodiscard]] bool can_follow(const Job& job) const { return job.exporter->domain_id() == domain_; }
    void follow(Job job) {
        const std::lock_guard lock(mutex_);
        if (job == job_) return;
        // Other changes are seen at the next look.
        changed_ = changed_ || job.exporter != job_.exporter;
        job_ = std::move(job);
        wake_.notify_all();
    }
    void stop() {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        wake_.notify_all();
    }
    // Whether destroying it waits for nothing: the thread of samples may want the lock of whoever does.
    [[nodiscard]] bool ended() const { return running_ == 0; }

    [[nodiscard]] pb::ExporterState state() const {
        pb::ExporterState state;
        const std::lock_guard lock(mutex_);
        state.set_name(job_.exporter->name());
        state.set_collector(job_.exporter->collector());
        state.set_flows(flows_);
        state.set_flow_records(flow_records_);
        state.set_packet_records(packet_records_);
        state.set_messages(messages_);
        state.set_failed_records(failed_records_);
        state.set_lost_samples(lost_samples_);
        state.set_error(error_);
        return state;
    }

private:
    [[nodiscard]] Job job() const {
        const std::lock_guard lock(mutex_);
        return job_;
    }
    [[nodiscard]] bool stopping() const {
        const std::lock_guard lock(mutex_);
        return stopping_;
    }

    // Called by the writer, whose lock is held.
    void send(std::span<const std::uint8_t> message, const IpfixWriter::Content& held) {
        const Outlet::Sent sent = outlet_.send(message);
        {
            const std::lock_guard lock(mutex_);
            if (sent.refused) failed_records_ += last_.flows + last_.packets;
            if (sent.error == 0) {
                flow_records_ += held.flows;
                packet_records_ += held.packets;
                ++messages_;
                last_ = held;
            } else {
                failed_records_ += held.flows + held.packets;
                last_ = {};
            }
            error_ = sent.refused      ? "the collector's host refuses the messages: nobody listens on the port"
                     : sent.error != 0 ? std::strerror(sent.error)
                                       : "";
        }
        if (++burst_ % kBurst == 0) std::this_thread::sleep_for(kBreath);
    }

    // ------------------------------------------------------------------------------------ flows

    void tell_flows() {
        FlowTracker tracker(now_ns(CLOCK_MONOTONIC));
        auto next_refresh = steady_clock::now();
        Job done;
        for (;;) {
            const Job now = job();
            const bool last = stopping();
            const pb::Exporter& exporter = *now.exporter;
            const auto of_default = [](std::uint32_t value, std::uint32_t other) {
                return value != 0 ? value : other;
            };
            const std::uint32_t active_s = of_default(exporter.active_timeout_s(), kDefaultActiveTimeoutS);
            {
                const std::lock_guard lock(writer_mutex_);
                outlet_.aim(exporter.collector());
            }
            if (now.intent != done.intent || now.exporter != done.exporter) read_networks(now);
            const bool refresh = steady_clock::now() >= next_refresh || now.exporter != done.exporter;
            if (refresh)
                next_refresh = steady_clock::now() + std::chrono::seconds(of_default(exporter.template_refresh_s(),
                                                                                     kDefaultTemplateRefreshS));
            tell_names(now, refresh);
            done = now;
            look(tracker, exporter, active_s);
            if (last) {
                tell(tracker, [](FlowTracker& of, const FlowTracker::Sink& sink) { of.finish(sink); });
                break;
            }
            std::unique_lock lock(mutex_);
            flows_ = tracker.size();
            wake_.wait_for(lock, std::chrono::seconds(std::min(kLookS, active_s)),
                           [&] { return stopping_ || changed_; });
            changed_ = false;
        }
    }

    void read_networks(const Job& now) {
        networks_.clear();
        const Model& model = now.intent->model;
        for (const auto& [name, instance] : model.instances)
            if (is_exported(*now.exporter, *instance))
                networks_.emplace(now.intent->ids.instances.at(name), network_of(model, *instance));
    }

    // What the collector must know to read records: all of it with `refresh`, else what it was not told yet.
    void tell_names(const Job& now, bool refresh) {
        const std::lock_guard lock(writer_mutex_);
        if (refresh) {
            told_names_.clear();
            writer_->templates();
            writer_->sampling(now.exporter->sample_flows(), now.exporter->sample_packets());
        }
        const Model& model = now.intent->model;
        for (const auto& [name, vport] : model.vports) {
            const auto instance = now.intent->ids.instances.find(vport->instance());
            if (instance == now.intent->ids.instances.end() || !networks_.contains(instance->second)) continue;
            const std::uint32_t id = now.intent->ids.ports.at(name);
            std::string& told = told_names_[id];
            std::string words = name + "\n" + vport->instance();
            if (told == words) continue;
            writer_->interface(id, name, vport->instance());
            told = std::move(words);
        }
        writer_->flush();
    }

    void look(FlowTracker& tracker, const pb::Exporter& exporter, std::uint32_t active_s) {
        tell(tracker, [&](FlowTracker& of, const FlowTracker::Sink& sink) {
            of.begin(now_ns(CLOCK_MONOTONIC), active_s);
            const auto read = reader_([&](const FlowRow& row) {
                const auto network = networks_.find(row.key.instance);
                if (network != networks_.end() && is_sampled(row.key, exporter.sample_flows()))
                    of.see(row, network->second.vlan, network->second.vvlan, sink);
                return true;
            });
            if (read)
                of.end(sink);
            else
                spdlog::warn("exporter {}: {}", exporter.name(), read.error().text());
        });
    }

    // Hands what `step` tells to the writer.
    template <class Step>
    void tell(FlowTracker& tracker, Step&& step) {
        const std::uint64_t epoch = epoch_ns();
        step(tracker, [&](const FlowRecord& record) {
            const std::lock_guard lock(writer_mutex_);
            writer_->flow(record, epoch);
        });
        const std::lock_guard lock(writer_mutex_);
        writer_->flush();
    }

    // ------------------------------------------------------------------------------------ samples

    static Capture wanted_samples(const Job& job) {
        Capture capture;
        capture.snap_bytes = kSampleBytes;
        capture.sample = job.exporter->sample_packets();
        capture.without_drops = true;
        if (capture.sample == 0) return capture;
        for (const auto& [name, instance] : job.intent->model.instances)
            if (is_exported(*job.exporter, *instance)) capture.instances.insert(name);
        return capture;
    }

    // A capture for as long as what it watches stays the same.
    void tell_samples() {
        bool warned = false;
        std::unique_lock lock(mutex_);
        while (!stopping_) {
            Job begun = job_;
            lock.unlock();
            const Capture capture = wanted_samples(begun);
            if (capture.sample == 0 || capture.instances.empty()) {
                lock.lock();
                wake_.wait(lock, [&] { return stopping_ || job_ != begun; });
                continue;
            }
            std::uint64_t lost = 0;
            const auto done = sampler_(capture, [&](const pb::CapturePacket& packet) {
                warned = false;
                if (!packet.port().empty()) {
                    tell_sample(packet);
                    return true;
                }
                if (packet.lost() > lost) lost_samples_ += packet.lost() - std::exchange(lost, packet.lost());
                {
                    const std::lock_guard writing(writer_mutex_);
                    writer_->flush();
                }
                const Job now = job();
                if (stopping()) return false;
                if (now == begun) return true;
                const Capture next = wanted_samples(now);
                begun = now;
                return next.sample == capture.sample && next.instances == capture.instances;
            });
            lock.lock();
            if (done) continue;
            if (!warned) spdlog::warn("exporter {}: no samples: {}", job_.exporter->name(), done.error().text());
            warned = true;
            wake_.wait_for(lock, kPatience, [&] { return stopping_; });
        }
    }

    void tell_sample(const pb::CapturePacket& packet) {
        const Job now = job();
        const auto port = now.intent->ids.ports.find(packet.port());
        const auto vport = now.intent->model.vports.find(packet.port());
        if (port == now.intent->ids.ports.end() || vport == now.intent->model.vports.end()) return;
        PacketSample sample;
        if (const auto instance = now.intent->model.instances.find(vport->second->instance());
            instance != now.intent->model.instances.end()) {
            const Network network = network_of(now.intent->model, *instance->second);
            sample.vlan = network.vlan;
            sample.vvlan = network.vvlan;
        }
        sample.time_ms = packet.time_ns() / 1'000'000;
        sample.port = port->second;
        sample.is_out = packet.direction() == "out";
        sample.frame_bytes = packet.bytes();
        sample.data = {reinterpret_cast<const std::uint8_t*>(packet.data().data()), packet.data().size()};
        const std::lock_guard lock(writer_mutex_);
        writer_->packet(sample);
    }

    const FlowReader& reader_;
    const Sampler& sampler_;

    mutable std::mutex mutex_;  // what follows, down to the next lock; never held for long
    std::condition_variable wake_;
    Job job_;
    bool changed_ = false;
    bool stopping_ = false;
    std::uint64_t flows_ = 0;
    std::uint64_t flow_records_ = 0;
    std::uint64_t packet_records_ = 0;
    std::uint64_t messages_ = 0;
    std::uint64_t failed_records_ = 0;
    IpfixWriter::Content last_;  // of the last message that was sent
    std::string error_;

    std::mutex writer_mutex_;  // writer and outlet
    std::unique_ptr<IpfixWriter> writer_;
    Outlet outlet_;
    std::uint32_t burst_ = 0;

    const std::uint32_t domain_;
    std::unordered_map<std::uint32_t, Network> networks_;        // by instance id; of the thread of flows
    std::unordered_map<std::uint32_t, std::string> told_names_;  // by port id; of the thread of flows
    std::atomic<std::uint64_t> lost_samples_ = 0;
    std::atomic<int> running_ = 0;  // threads
    std::thread flows_thread_;
    std::thread samples_thread_;
};

FlowExports::FlowExports(FlowReader reader, Sampler sampler)
    : reader_(std::move(reader)), sampler_(std::move(sampler)) {}

FlowExports::~FlowExports() {
    // All at once, so that they end together.
    for (auto& [name, exporter] : running_) exporter->stop();
}

void FlowExports::follow(const std::shared_ptr<const Intent>& intent) {
    for (auto& [name, exporter] : intent->model.exporters) {
        const FlowExport::Job job{intent, exporter};
        auto& place = running_[name];
        if (place != nullptr && !place->can_follow(job)) {
            place->stop();
            ending_.push_back(std::exchange(place, nullptr));
        }
        if (place == nullptr)
            place = std::make_unique<FlowExport>(reader_, sampler_, job);
        else
            place->follow(job);
    }
    for (auto& [name, exporter] : running_)
        if (!intent->model.exporters.contains(name)) {
            exporter->stop();
            ending_.push_back(std::move(exporter));
        }
    std::erase_if(running_, [](const auto& item) { return item.second == nullptr; });
    reap();
}

void FlowExports::reap() {
    std::erase_if(ending_, [](const auto& exporter) { return exporter->ended(); });
}

std::vector<pb::ExporterState> FlowExports::states() const {
    std::vector<pb::ExporterState> states;
    states.reserve(running_.size());
    for (const auto& [name, exporter] : running_) states.push_back(exporter->state());
    return states;
}

}  // namespace ivds
