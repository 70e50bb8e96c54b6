// SPDX-License-Identifier: Apache-2.0
// flow_export.h -- the exporters at work. Each has a thread that looks at the flow table, and one that takes samples
// of frames if it wants any; neither holds a lock of the agent's while it reads or sends. Messages go by UDP and wait
// for nobody: a collector that is away costs records, which are counted, and nothing else.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "agent/capture.h"
#include "agent/store.h"
#include "ivds.pb.h"
#include "loader/switch.h"

namespace ivds {

// Reads the flow table, as MapsView::flows() does.
using FlowReader = std::function<Result<>(const std::function<bool(const FlowRow&)>&)>;
// Runs a capture until its sink says false, as Agent::capture() does.
using Sampler = std::function<Result<>(const Capture&, const std::function<bool(const pb::CapturePacket&)>&)>;

class FlowExport;

class FlowExports {
public:
    FlowExports(FlowReader reader, Sampler sampler);
    FlowExports(const FlowExports&) = delete;
    FlowExports& operator=(const FlowExports&) = delete;
    // Each exporter tells what it has not told yet.
    ~FlowExports();

    // The exporters are those of the intent from now on; one that goes tells the rest by itself. Returns at once.
    void follow(const std::shared_ptr<const Intent>& intent);
    // Lets go of those that have ended.
    void reap();
    [[nodiscard]] std::vector<pb::ExporterState> states() const;

private:
    const FlowReader reader_;
    const Sampler sampler_;
    std::map<std::string, std::unique_ptr<FlowExport>> running_;
    std::vector<std::unique_ptr<FlowExport>> ending_;
};

}  // namespace ivds
