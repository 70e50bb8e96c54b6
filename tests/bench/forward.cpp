// SPDX-License-Identifier: Apache-2.0
// forward.cpp -- live frames from a BPF test run go into the sender's veth as if the sender had made them; an
// XDP program at the receiver's veth counts and drops them. The whole way runs on one core.
#include "forward.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/bpf.h>
#include <sched.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <map>
#include <memory>
#include <numeric>

#include "bench.skel.h"
#include "setup.h"

namespace ivds::bench {

namespace {

constexpr std::uint32_t batch = 64;  // frames that the kernel makes at a time, a NAPI budget's worth

// The generator and the sink of one way through one setup.
class Traffic {
public:
    Traffic(const Setup& setup, Way way, Frame sent, Frame received);

    // Sends a few frames and compares every byte of what arrives; throws when anything differs.
    void verify();
    struct Sample {
        double mpps = 0;  // that arrived, in a second of the core
        double lost = 0;  // share of what was sent
    };
    [[nodiscard]] Sample measure(double seconds);
    // From now on the frames go to so many vPorts in turn; 0: to vm2's.
    void spread(std::uint32_t vports);
    // The same with frames that are each of a flow of its own.
    [[nodiscard]] Sample measure_new_flows(Setup& setup);

private:
    [[nodiscard]] std::uint64_t count() const;
    void send(std::uint32_t frames) const;

    const Namespace& sender_;
    Frame sent_;
    Frame received_;
    std::string name_;
    BenchObject object_;
    Link sink_;
};

struct Captured {  // as in bench.bpf.c
    std::uint32_t length;
    std::array<std::uint8_t, 60> bytes;
};

Traffic::Traffic(const Setup& setup, Way way, Frame sent, Frame received)
    : sender_(way == Way::from_wire ? setup.network().host_b : setup.network().vm1),
      sent_(std::move(sent)),
      received_(std::move(received)),
      name_(baseline_name(setup.forwarder())),
      object_(load_bench()) {
    std::copy_n(sent_.begin(), sizeof object_->bss->header, std::begin(object_->bss->header));
    {
        const Inside inside(sender_);
        const std::uint32_t zero = 0;
        const std::uint32_t ifindex = sender_.ifindex(way == Way::from_wire ? "uplink" : "eth0");
        check(bpf_map__update_elem(object_->maps.into, &zero, sizeof zero, &ifindex, sizeof ifindex, BPF_ANY),
              "point the generator at the sender's veth");
    }
    const Namespace& receiver = way == Way::to_wire ? setup.network().host_b : setup.network().vm2;
    const Inside inside(receiver);
    sink_ = Link(bpf_program__attach_xdp(
        object_->progs.bench_capture, static_cast<int>(receiver.ifindex(way == Way::to_wire ? "uplink" : "eth0"))));
    if (!sink_) throw Failure(fmt::format("attach the sink: {}", std::strerror(errno)));
}

std::uint64_t Traffic::count() const {
    std::vector<std::uint64_t> each(static_cast<std::size_t>(libbpf_num_possible_cpus()));
    const std::uint32_t zero = 0;
    check(
        bpf_map__lookup_elem(object_->maps.counted, &zero, sizeof zero, each.data(), each.size() * sizeof each[0], 0),
        "read the sink's count");
    return std::accumulate(each.begin(), each.end(), std::uint64_t{0});
}

void Traffic::send(std::uint32_t frames) const {
    LIBBPF_OPTS(bpf_test_run_opts, options);
    options.data_in = sent_.data();
    options.data_size_in = static_cast<std::uint32_t>(sent_.size());
    options.repeat = static_cast<int>(frames);
    options.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
    options.batch_size = std::min(batch, frames);
    check(bpf_prog_test_run_opts(bpf_program__fd(object_->progs.bench_generate), &options), "send live frames");
}

void Traffic::verify() {
    struct Seen {
        const Traffic& traffic;
        std::uint32_t good = 0;
        std::string wrong;
    } seen{.traffic = *this, .good = 0, .wrong = {}};
    const auto look = [](void* context, void* data, std::size_t) {
        auto& all = *static_cast<Seen*>(context);
        const auto& frame = *static_cast<const Captured*>(data);
        const Frame& want = all.traffic.received_;
        const std::size_t bytes = std::min(want.size(), frame.bytes.size());
        if (frame.length == want.size() &&
            std::equal(want.begin(), want.begin() + static_cast<std::ptrdiff_t>(bytes), frame.bytes.begin())) {
            ++all.good;
        } else {
            all.wrong = fmt::format("got {} B {:02x}, want {} B {:02x}", frame.length,
                                    fmt::join(frame.bytes.begin(), frame.bytes.begin() + 32, ""), want.size(),
                                    fmt::join(want.begin(), want.begin() + 32, ""));
        }
        return 0;
    };
    const std::unique_ptr<ring_buffer, void (*)(ring_buffer*)> ring(
        ring_buffer__new(bpf_map__fd(object_->maps.captures), look, &seen, nullptr), ring_buffer__free);
    if (!ring) throw Failure("open the sink's ring buffer");
    constexpr std::uint32_t frames = 16;
    const Inside inside(sender_);
    // Links that were set up a moment ago may not pass frames yet: then none arrives, and it is tried again.
    for (int sendings = 0; sendings < 5 && seen.good == 0 && seen.wrong.empty(); ++sendings) {
        send(frames);
        // The last softirq may still be under way on another core.
        for (int tries = 0; tries < 100 && seen.good < frames && seen.wrong.empty(); ++tries) {
            check(ring_buffer__poll(ring.get(), 10), "read the sink's ring buffer");
        }
    }
    if (seen.good != frames || !seen.wrong.empty()) {
        throw Failure(
            fmt::format("{}: {} of {} frames arrived as they should; {}", name_, seen.good, frames, seen.wrong));
    }
    check(bpf_link__update_program(sink_.get(), object_->progs.bench_count), "put the counting sink in place");
}

Traffic::Sample Traffic::measure(double seconds) {
    const Inside inside(sender_);
    const Pinned pinned;
    constexpr std::uint32_t warm_up = 512 * batch;
    double start = cpu_seconds();
    send(warm_up);
    // All of a sample is one system call: each makes the kernel patch its code and wait for all cores.
    const double batches = seconds / (cpu_seconds() - start) * warm_up / batch;
    const std::uint32_t frames = batch * static_cast<std::uint32_t>(std::clamp(batches, 1.0, 1e7));
    const std::uint64_t before = count();
    start = cpu_seconds();
    send(frames);
    const double spent = cpu_seconds() - start;
    const auto arrived = static_cast<double>(count() - before);
    return {.mpps = arrived / spent / 1e6, .lost = std::max(0.0, 1 - arrived / frames)};
}

void Traffic::spread(std::uint32_t vports) {
    if (vports == 0) return;
    const Mac first = spread_mac(0);
    std::copy(first.begin(), first.end(), std::begin(object_->bss->header));
    object_->bss->spread = vports;
}

Traffic::Sample Traffic::measure_new_flows(Setup& setup) {
    constexpr std::uint32_t flows = 100'000;
    setup.forget_flows();
    const Inside inside(sender_);
    const Pinned pinned;
    object_->bss->is_varied = 1;
    const std::uint64_t before = count();
    const double start = cpu_seconds();
    send(flows);
    const double spent = cpu_seconds() - start;
    object_->bss->is_varied = 0;
    const auto arrived = static_cast<double>(count() - before);
    return {.mpps = arrived / spent / 1e6, .lost = std::max(0.0, 1 - arrived / flows)};
}

struct Spec {
    const char* name;
    Way way;
    Forwarder subject;
    Forwarder bare;
    std::vector<Bar> bars;
};

const std::vector<Spec>& specs() {
    static const std::vector<Spec> all{
        {"xdp-local", Way::local, Forwarder::ivds_xdp, Forwarder::bare_xdp, {{"bare-xdp", 0.75}, {"bridge", 2}}},
        {"xdp-to-wire", Way::to_wire, Forwarder::ivds_xdp, Forwarder::bare_xdp, {}},
        {"xdp-from-wire", Way::from_wire, Forwarder::ivds_xdp, Forwarder::bare_xdp, {}},
        {"tc-local", Way::local, Forwarder::ivds_tc, Forwarder::bare_tc, {{"bare-tc", 0.85}}},
    };
    return all;
}

Row forward_row(const Options& options, const Spec& spec, const std::string& name, std::size_t vm_bytes) {
    const std::array<Forwarder, 3> forwarders{spec.bare, spec.subject, Forwarder::bridge};
    std::vector<std::unique_ptr<Setup>> setups;
    std::vector<std::unique_ptr<Traffic>> traffic;
    for (const Forwarder forwarder : forwarders) {
        const Tags sent = spec.way == Way::from_wire ? Tags::both : Tags::none;
        Tags received = sent;
        if (forwarder == spec.subject) {
            received = spec.way == Way::to_wire ? Tags::both : Tags::none;
        } else if (forwarder == Forwarder::bridge && sent == Tags::both) {
            received = Tags::inner;
        }
        setups.push_back(std::make_unique<Setup>(forwarder, spec.way));
        traffic.push_back(std::make_unique<Traffic>(*setups.back(), spec.way, make_frame(spec.way, vm_bytes, sent),
                                                    make_frame(spec.way, vm_bytes, received)));
        traffic.back()->verify();
    }
    std::array<std::vector<double>, forwarders.size()> mpps;
    double lost = 0;
    for (int repetition = 0; repetition < options.repetitions; ++repetition) {
        for (std::size_t i = 0; i < forwarders.size(); ++i) {
            const Traffic::Sample sample = traffic[i]->measure(options.seconds);
            if (sample.mpps <= 0)
                throw Failure(fmt::format("{}: no frame arrived through {}", name, baseline_name(forwarders[i])));
            mpps[i].push_back(sample.mpps);
            lost = std::max(lost, sample.lost);
        }
    }
    Row row{.name = name, .value = median(mpps[1]), .unit = "Mpps", .ratios = {}, .bars = spec.bars, .note = {}};
    row.ratios[baseline_name(spec.bare)] = ratio(mpps[1], mpps[0]);
    row.ratios["bridge"] = ratio(mpps[1], mpps[2]);
    row.note =
        fmt::format("{} {:.3f}, bridge {:.3f} Mpps", baseline_name(spec.bare), median(mpps[0]), median(mpps[2]));
    if (lost > 0.001) row.note += fmt::format(", up to {:.1f} % of the frames lost on a full ring", lost * 100);
    return row;
}

// What rules and full tables cost: XDP from VM to VM, each contender in turn with the bare redirect.
struct Contender {
    const char* name;
    Policy policy{};
    bool is_new_flows = false;
    Fill fill{};
    bool is_mirrored = false;
    std::vector<Bar> bars{};
};

// A table of a million may cost 1.3 times what one of ten does.
constexpr double kFullTable = 1 / 1.3;

const std::vector<Contender>& contenders() {
    static const std::vector<Contender> all{
        {.name = "rules-10", .policy = {.rules = 10}},
        {.name = "rules-1000", .policy = {.rules = 1000}, .bars = {{"bare-xdp", 0.75}}},
        {.name = "rules-10000", .policy = {.rules = 10'000}, .bars = {{"rules-10", 0.95}}},
        {.name = "rules-1000-both", .policy = {.rules = 1000, .is_both = true}},
        {.name = "rules-stateful", .policy = {.rules = 1000, .is_stateful = true}},
        {.name = "new-flows-10", .policy = {.rules = 10}, .is_new_flows = true},
        {.name = "new-flows-10000",
         .policy = {.rules = 10'000},
         .is_new_flows = true,
         .bars = {{"new-flows-10", 0.5}}},
        {.name = "new-flows-stateful", .policy = {.rules = 1000, .is_stateful = true}, .is_new_flows = true},
        {.name = "fdb-10", .fill = {.fdb_entries = 10}},
        {.name = "fdb-1000000", .fill = {.fdb_entries = 1'000'000}, .bars = {{"fdb-10", kFullTable}}},
        {.name = "flows-10", .policy = {.rules = 10}, .fill = {.flows = 10}},
        {.name = "flows-1000000",
         .policy = {.rules = 10},
         .fill = {.flows = 1'000'000},
         .bars = {{"flows-10", kFullTable}}},
        {.name = "vports-1", .fill = {.vports = 1}},
        {.name = "vports-16", .fill = {.vports = 16}},
        {.name = "vports-256", .fill = {.vports = 256}},
        {.name = "vports-4096", .fill = {.vports = 4096}},
        {.name = "rate", .policy = {.has_rate = true}},
        {.name = "mirror-span", .is_mirrored = true},
    };
    return all;
}

std::vector<Row> rules_rows(const Options& options) {
    const Frame frame = make_frame(Way::local, 60, Tags::none);
    std::vector<const Contender*> wanted;
    for (const Contender& contender : contenders())
        if (options.wanted(contender.name)) wanted.push_back(&contender);
    if (wanted.empty()) return {};
    options.progress("rules, new-flows, fdb, flows, vports, rate, mirror");

    Setup bare(Forwarder::bare_xdp);
    Traffic bare_traffic(bare, Way::local, frame, frame);
    bare_traffic.verify();
    std::map<std::string, std::vector<double>> mpps;
    std::map<std::string, double> lost;
    std::vector<std::pair<std::unique_ptr<Setup>, std::unique_ptr<Traffic>>> all;
    for (const Contender* contender : wanted) {
        auto setup = std::make_unique<Setup>(Forwarder::ivds_xdp);
        if (contender->policy.rules != 0 || contender->policy.has_rate) setup->set_policy(contender->policy);
        setup->fill(contender->fill);
        if (contender->is_mirrored) setup->mirror();
        auto traffic = std::make_unique<Traffic>(*setup, Way::local, frame, frame);
        traffic->verify();
        traffic->spread(contender->fill.vports);
        all.emplace_back(std::move(setup), std::move(traffic));
    }
    for (int repetition = 0; repetition < options.repetitions; ++repetition) {
        mpps["bare-xdp"].push_back(bare_traffic.measure(options.seconds).mpps);
        for (std::size_t i = 0; i < wanted.size(); ++i) {
            auto& [setup, traffic] = all[i];
            const Traffic::Sample sample =
                wanted[i]->is_new_flows ? traffic->measure_new_flows(*setup) : traffic->measure(options.seconds);
            if (sample.mpps <= 0) throw Failure(fmt::format("{}: no frame arrived", wanted[i]->name));
            mpps[wanted[i]->name].push_back(sample.mpps);
            lost[wanted[i]->name] = std::max(lost[wanted[i]->name], sample.lost);
        }
    }
    std::vector<Row> rows;
    for (const Contender* contender : wanted) {
        const std::string name = contender->name;
        Row row{.name = name,
                .value = median(mpps[name]),
                .unit = "Mpps",
                .ratios = {{"bare-xdp", ratio(mpps[name], mpps["bare-xdp"])}},
                .bars = contender->bars,
                .note = {}};
        for (const Bar& bar : contender->bars)
            if (bar.against != "bare-xdp") row.ratios[bar.against] = ratio(mpps[name], mpps[bar.against]);
        if (lost[name] > 0.001) row.note = fmt::format("up to {:.1f} % of the frames lost", lost[name] * 100);
        rows.push_back(row);
    }
    return rows;
}

}  // namespace

Ahead::Ahead() {
    const sched_param first{.sched_priority = 1};
    // Without the right to it the numbers are only noisier.
    static_cast<void>(sched_setscheduler(0, SCHED_FIFO, &first));
}

Ahead::~Ahead() {
    const sched_param none{.sched_priority = 0};
    static_cast<void>(sched_setscheduler(0, SCHED_OTHER, &none));
}

Pinned::Pinned() {
    cpu_set_t last;
    CPU_ZERO(&last);
    CPU_SET(static_cast<std::size_t>(sysconf(_SC_NPROCESSORS_ONLN) - 1), &last);
    check(sched_setaffinity(0, sizeof last, &last) < 0 ? -errno : 0, "pin the process to a core");
}

Pinned::~Pinned() {
    cpu_set_t all;
    std::memset(&all, 0xff, sizeof all);
    static_cast<void>(sched_setaffinity(0, sizeof all, &all));
}

double cpu_seconds() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

std::vector<Row> forward_rows(const Options& options) {
    std::vector<Row> rows;
    for (const Spec& spec : specs()) {
        for (const std::size_t bytes : {60, 1500}) {
            const std::string name = bytes == 60 ? spec.name : fmt::format("{}-{}", spec.name, bytes);
            if (!options.wanted(name)) continue;
            options.progress(name);
            rows.push_back(forward_row(options, spec, name, bytes));
        }
    }
    for (Row& row : rules_rows(options)) rows.push_back(std::move(row));
    return rows;
}

}  // namespace ivds::bench
