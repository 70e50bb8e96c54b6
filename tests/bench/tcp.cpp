// SPDX-License-Identifier: Apache-2.0
// tcp.cpp -- iperf3 between two VMs of one host and across the wire, through the switch and through bridges.
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>

#include "forward.h"
#include "setup.h"

namespace ivds::bench {

namespace {

double gigabits(const std::string& report) {
    const std::size_t sum = report.find("\"sum_received\"");
    const std::size_t rate = sum == std::string::npos ? sum : report.find("\"bits_per_second\":", sum);
    if (rate == std::string::npos) throw Failure("iperf3 reported no throughput: " + report.substr(0, 300));
    return std::strtod(report.c_str() + rate + std::strlen("\"bits_per_second\":"), nullptr) / 1e9;
}

// Until the namespace's iperf3 takes connections. On a busy machine its start alone takes seconds.
void await_listener() {
    for (int tries = 0; tries < 600; ++tries) {
        std::string listening;
        run_command("ss -ltnH sport = 5201", &listening);
        if (!listening.empty()) return;
        usleep(100'000);
    }
    throw Failure("iperf3 does not listen within a minute");
}

double transfer(const Namespace& from, const Namespace& to, const Vm& receiver, double seconds) {
    const Ahead ahead;
    std::optional<Process> server;
    {
        const Inside inside(to);
        server.emplace("iperf3 -s -1");
        await_listener();
    }
    // Client and server on a core each where there are two, so that the scheduler's choice is not measured.
    const char* cores = sysconf(_SC_NPROCESSORS_ONLN) > 1 ? " -A 0,1" : "";
    const std::string command =
        seconds < 1 ? fmt::format("iperf3 -J --connect-timeout 1000 -c {} -n 20M{}", receiver.ip, cores)
                    : fmt::format("iperf3 -J --connect-timeout 1000 -c {} -t {:.0f}{}", receiver.ip, seconds, cores);
    std::string report;
    const Inside inside(from);
    run_command(command, &report);
    return gigabits(report);
}

}  // namespace

std::vector<Row> tcp_rows(const Options& options) {
    // The mode that `auto` picks for a veth is tcx; native XDP is what an operator may ask for instead.
    constexpr std::array<Forwarder, 3> forwarders{Forwarder::bridge, Forwarder::ivds_tc, Forwarder::ivds_xdp};
    std::vector<Row> rows;
    for (const bool wire : {false, true}) {
        const std::string name = wire ? "tcp-wire" : "tcp-local";
        const std::string native = name + "-native";
        if (!options.wanted(name) && !options.wanted(native)) continue;
        options.progress(name);
        std::vector<std::unique_ptr<Setup>> setups;
        for (const Forwarder forwarder : forwarders) {
            setups.push_back(std::make_unique<Setup>(forwarder, Way::local, true));
            if (forwarder != Forwarder::ivds_xdp) continue;
            const Network& network = setups.back()->network();
            for (const Namespace* vm : {&network.vm1, &network.vm2, &network.vm3}) {
                vm->gro_on("eth0");
                vm->tx_checksum_off("eth0");
            }
        }
        std::array<std::vector<double>, forwarders.size()> rates;
        for (int repetition = 0; repetition < options.repetitions; ++repetition) {
            for (std::size_t i = 0; i < forwarders.size(); ++i) {
                const Network& network = setups[i]->network();
                try {
                    rates[i].push_back(transfer(network.vm1, wire ? network.vm3 : network.vm2,
                                                Network::vms[wire ? 2 : 1], options.seconds));
                } catch (const Failure& failure) {
                    throw Failure(
                        fmt::format("{} through {}: {}", name, baseline_name(forwarders[i]), failure.what()));
                }
            }
        }
        for (const std::size_t i : {1U, 2U}) {
            Row row{.name = i == 1 ? name : native,
                    .value = median(rates[i]),
                    .unit = "Gbit/s",
                    .ratios = {},
                    .bars = {},
                    .note = {}};
            row.ratios["bridge"] = ratio(rates[i], rates[0]);
            if (i == 1) row.bars = {{.against = "bridge", .limit = 0.9}};
            row.note = fmt::format("bridge {:.1f} Gbit/s", median(rates[0]));
            rows.push_back(row);
        }
    }
    return rows;
}

}  // namespace ivds::bench
