// SPDX-License-Identifier: Apache-2.0
// source.h -- where reading commands read: the agent or, when it is down, the pinned maps and the saved state.
#pragma once

#include <functional>
#include <iosfwd>
#include <string>

#include "client.h"

namespace ivds::cli {

struct Options {
    std::string socket = "/run/ivds/ivdsd.sock";
    std::string address;  // HOST:PORT instead of the socket, by TLS with these files
    std::string ca;
    std::string cert;
    std::string key;
    std::string root;       // of the pins
    std::string state_dir;  // of the agent's saved state
    double timeout_s = 0;   // 0: each call's own
    bool json = false;
};

// Without an answer from the agent each call reads anew what is pinned and saved, and announces it on `note`
// the first time.
class Source {
public:
    Source(const Options& options, Client& agent, std::ostream& note)
        : options_(options), agent_(agent), note_(note) {}
    Source(const Source&) = delete;
    Source& operator=(const Source&) = delete;

    [[nodiscard]] Result<pb::Config> export_config();
    [[nodiscard]] Result<pb::Object> get(const pb::Ref& ref);
    [[nodiscard]] Result<pb::ObjectList> list(pb::Kind kind);
    [[nodiscard]] Result<pb::StatusReply> status();
    [[nodiscard]] Result<pb::StatsReply> stats();
    [[nodiscard]] Result<pb::NicReply> nics(const pb::NicRequest& request);
    [[nodiscard]] Result<pb::MapReply> map(const pb::MapRequest& request);
    [[nodiscard]] Result<pb::RulesReply> rules(const pb::RulesRequest& request);
    [[nodiscard]] Result<> flows(const pb::FlowsRequest& request,
                                 const std::function<bool(const pb::FlowState&)>& sink);
    [[nodiscard]] Result<> fdb(const pb::FdbRequest& request, const std::function<bool(const pb::FdbEntry&)>& sink);
    [[nodiscard]] Result<> neighbours(const pb::NeighboursRequest& request,
                                      const std::function<bool(const pb::NeighbourEntry&)>& sink);

    // What doctor finds without the agent: whether pins and saved state read back.
    [[nodiscard]] pb::DoctorReply doctor() const;
    // "down" or "does not answer" once an answer came from elsewhere than the agent; else empty.
    [[nodiscard]] const std::string& agent_away() const { return away_; }

private:
    // Whether to read elsewhere after this error, and from where.
    bool fall_back(const Error& error, const char* where);
    template <class Request, class Entry, class Ask, class View>
    [[nodiscard]] Result<> stream(const Request& request, const std::function<bool(const Entry&)>& sink, Ask&& ask,
                                  View&& view);

    const Options& options_;
    Client& agent_;
    std::ostream& note_;
    std::string away_;
};

}  // namespace ivds::cli
