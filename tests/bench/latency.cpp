// SPDX-License-Identifier: Apache-2.0
// latency.cpp -- round trips of a datagram between two VMs, by how many vPorts the switch has beside theirs (R134).
#include <arpa/inet.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <sys/time.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <memory>

#include "forward.h"
#include "setup.h"

namespace ivds::bench {

namespace {

constexpr std::uint16_t port = 9000;

// A datagram socket of a VM that talks to the other VM alone.
class Talker {
public:
    Talker(const Namespace& vm, const Vm& own, const Vm& other) {
        const Inside inside(vm);
        fd_ = Fd(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
        const timeval patience{.tv_sec = 1, .tv_usec = 0};
        const sockaddr_in here = address(own);
        const sockaddr_in there = address(other);
        if (fd_.get() < 0 || setsockopt(fd_.get(), SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) != 0 ||
            bind(fd_.get(), reinterpret_cast<const sockaddr*>(&here), sizeof here) != 0 ||
            connect(fd_.get(), reinterpret_cast<const sockaddr*>(&there), sizeof there) != 0)
            throw Failure(fmt::format("a socket of {}: {}", own.ip, std::strerror(errno)));
    }
    [[nodiscard]] bool send() const {
        const std::array<char, 18> payload{};
        return ::send(fd_.get(), payload.data(), payload.size(), 0) == static_cast<ssize_t>(payload.size());
    }
    [[nodiscard]] bool receive() const {
        std::array<char, 64> payload{};
        return recv(fd_.get(), payload.data(), payload.size(), 0) > 0;
    }

private:
    static sockaddr_in address(const Vm& vm) {
        sockaddr_in out{};
        out.sin_family = AF_INET;
        out.sin_port = htons(port);
        inet_pton(AF_INET, vm.ip.c_str(), &out.sin_addr);
        return out;
    }
    Fd fd_;
};

struct Pair {
    std::unique_ptr<Setup> setup;
    Talker one, other;

    explicit Pair(std::unique_ptr<Setup> made)
        : setup(std::move(made)),
          one(setup->network().vm1, Network::vms[0], Network::vms[1]),
          other(setup->network().vm2, Network::vms[1], Network::vms[0]) {}

    // Both ends are this thread's: what is measured is the way, not the scheduler.
    [[nodiscard]] bool round_trip() const { return one.send() && other.receive() && other.send() && one.receive(); }

    // The 99th percentile, in microseconds.
    [[nodiscard]] double p99_us(double seconds) const {
        using std::chrono::steady_clock;
        const Pinned pinned;
        std::vector<double> trips;
        const auto end = steady_clock::now() + std::chrono::duration<double>(seconds);
        for (auto begun = steady_clock::now(); begun < end;) {
            if (!round_trip()) throw Failure("a datagram between the VMs was lost");
            const auto now = steady_clock::now();
            trips.push_back(std::chrono::duration<double, std::micro>(now - begun).count());
            begun = now;
        }
        const auto place = trips.begin() + static_cast<std::ptrdiff_t>(trips.size() * 99 / 100);
        std::ranges::nth_element(trips, place);
        return *place;
    }
};

}  // namespace

std::vector<Row> latency_rows(const Options& options) {
    constexpr std::array<std::uint32_t, 4> vports{1, 16, 256, 4096};
    if (!options.wanted("latency")) return {};
    options.progress("latency");
    std::vector<std::unique_ptr<Pair>> pairs;  // the bridge, and the switch by vports
    pairs.push_back(std::make_unique<Pair>(std::make_unique<Setup>(Forwarder::bridge)));
    for (const std::uint32_t count : vports) {
        auto setup = std::make_unique<Setup>(Forwarder::ivds_tc);
        setup->fill({.vports = count});
        pairs.push_back(std::make_unique<Pair>(std::move(setup)));
    }
    for (const auto& pair : pairs)
        if (!pair->round_trip()) throw Failure("the VMs do not reach each other");
    std::vector<std::vector<double>> p99_us(pairs.size());
    for (int repetition = 0; repetition < options.repetitions; ++repetition)
        for (std::size_t i = 0; i < pairs.size(); ++i) p99_us[i].push_back(pairs[i]->p99_us(options.seconds));
    std::vector<Row> rows;
    for (std::size_t i = 1; i < pairs.size(); ++i) {
        Row row{.name = fmt::format("latency-{}", vports[i - 1]),
                .value = median(p99_us[i]),
                .unit = "us p99",
                .ratios = {{"bridge", ratio(p99_us[i], p99_us[0])}},
                .bars = {},
                .note = fmt::format("bridge {:.1f} us", median(p99_us[0]))};
        if (i > 1) {
            row.ratios["latency-1"] = ratio(p99_us[i], p99_us[1]);
            row.bars = {{.against = "latency-1", .limit = 1.3, .at_most = true}};
        }
        rows.push_back(row);
    }
    return rows;
}

}  // namespace ivds::bench
