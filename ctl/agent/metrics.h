// SPDX-License-Identifier: Apache-2.0
// metrics.h -- the switch's counters and gauges for Prometheus: what Status, Stats, Mirrors and Exporters answer,
// under names and units by its conventions, over HTTP or HTTPS. Labels are names of the configuration and fixed
// words, so that the number of series follows from the configuration; frames cannot make any.
#pragma once

#include <prometheus/metric_family.h>

#include <memory>
#include <string>
#include <vector>

#include "agent/agent.h"
#include "ivds.pb.h"
#include "loader/error.h"

namespace ivds {

// What one scrape is made of.
struct MetricsReading {
    pb::StatusReply status;
    pb::StatsReply stats;
    pb::MirrorsReply mirrors;
    pb::ExportersReply exporters;
    pb::InspectorsReply inspectors;
};

[[nodiscard]] std::vector<prometheus::MetricFamily> metric_families(const MetricsReading& reading);

// "127.0.0.1:9464" or "[::1]:9464": in numbers, so that starting depends on no name service. `option` is for the
// error.
[[nodiscard]] Result<> check_address(const std::string& option, const std::string& address);

// Answers GET /metrics until it is destroyed. A scrape asks the agent like any client of the API does, from threads
// of its own; the agent must outlive the server.
class MetricsServer {
public:
    // `pem`: the server's certificate, those that vouch for it, and its key; empty: plain HTTP.
    [[nodiscard]] static Result<std::unique_ptr<MetricsServer>> start(const Agent& agent, const std::string& address,
                                                                      std::string pem);
    // Who connects from now on meets this certificate; scrapes that are under way come to their end. An error: all is
    // as before, unless it says otherwise.
    [[nodiscard]] Result<> renew(std::string pem);
    // Lets go of what only served scrapes that were under way at renew().
    void reap();
    MetricsServer(const MetricsServer&) = delete;
    MetricsServer& operator=(const MetricsServer&) = delete;
    ~MetricsServer();

private:
    struct Impl;
    explicit MetricsServer(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

}  // namespace ivds
