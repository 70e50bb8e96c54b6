// SPDX-License-Identifier: Apache-2.0
// client.h -- the agent's API as calls that return a Result. gRPC stays inside client.cpp.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <string>

#include "ivds.pb.h"
#include "loader/error.h"

namespace ivds {
namespace pb = ::ivds::v1;
}

namespace ivds::cli {

// Where an agent is: behind a socket, or at HOST:PORT by TLS, with these texts in PEM.
struct Target {
    std::string socket;
    std::string address;  // empty: the socket
    std::string ca;
    std::string cert;
    std::string key;
};

// Reads the files of a client's certificate. An empty address is the socket, and needs none.
[[nodiscard]] Result<Target> target_of(const std::string& socket, const std::string& address, const std::string& ca,
                                       const std::string& cert, const std::string& key);

class Client {
public:
    // `timeout` 0 takes each call's own default: 10 s, and 60 s for those that move a whole configuration.
    Client(const Target& target, std::chrono::milliseconds timeout);
    ~Client();
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    // Every call fails with Code::unavailable when the agent is away or does not answer in time.
    [[nodiscard]] Result<pb::ApplyReply> apply(const pb::ApplyRequest& request);
    [[nodiscard]] Result<pb::Config> export_config();
    [[nodiscard]] Result<pb::Object> create(const pb::Object& object);
    [[nodiscard]] Result<pb::Object> update(const pb::Object& object);
    [[nodiscard]] Result<pb::Done> remove(const pb::Ref& ref);
    [[nodiscard]] Result<pb::Object> get(const pb::Ref& ref);
    [[nodiscard]] Result<pb::ObjectList> list(pb::Kind kind);
    [[nodiscard]] Result<pb::VmacReply> reserve_vmac(const pb::VmacRequest& request);
    [[nodiscard]] Result<pb::Done> release_vmac(const pb::VmacRequest& request);
    [[nodiscard]] Result<pb::StatusReply> status();
    [[nodiscard]] Result<pb::StatsReply> stats();
    [[nodiscard]] Result<pb::FlushReply> flush(const pb::FlushRequest& request);
    [[nodiscard]] Result<pb::DoctorReply> doctor(const pb::DoctorRequest& request);
    [[nodiscard]] Result<pb::HostsReply> hosts();
    [[nodiscard]] Result<pb::NicReply> nics(const pb::NicRequest& request);
    [[nodiscard]] Result<pb::MapReply> map(const pb::MapRequest& request);
    [[nodiscard]] Result<pb::RulesReply> rules(const pb::RulesRequest& request);
    [[nodiscard]] Result<pb::MirrorsReply> mirrors(const pb::MirrorsRequest& request);
    [[nodiscard]] Result<pb::VerifyReply> verify(const pb::VerifyRequest& request);
    [[nodiscard]] Result<pb::OffloadReply> offload(const pb::OffloadRequest& request);
    [[nodiscard]] Result<pb::InspectorsReply> inspectors(const pb::InspectorsRequest& request);
    [[nodiscard]] Result<pb::ExportersReply> exporters(const pb::ExportersRequest& request);
    [[nodiscard]] Result<pb::TraceReply> trace(const pb::TraceRequest& request);
    [[nodiscard]] Result<pb::MigrateReply> migrate(const pb::MigrateRequest& request);
    [[nodiscard]] Result<pb::FlushReply> flush_flows(const pb::FlowsRequest& request);

    // Streams end early when the sink says false; `follow` has no deadline.
    [[nodiscard]] Result<> fdb(const pb::FdbRequest& request, const std::function<bool(const pb::FdbEntry&)>& sink);
    [[nodiscard]] Result<> bindings(const pb::BindingsRequest& request,
                                    const std::function<bool(const pb::BindingEntry&)>& sink);
    [[nodiscard]] Result<> neighbours(const pb::NeighboursRequest& request,
                                      const std::function<bool(const pb::NeighbourEntry&)>& sink);
    [[nodiscard]] Result<> flows(const pb::FlowsRequest& request,
                                 const std::function<bool(const pb::FlowState&)>& sink);
    [[nodiscard]] Result<> capture(const pb::CaptureRequest& request,
                                   const std::function<bool(const pb::CapturePacket&)>& sink);
    [[nodiscard]] Result<> events(const pb::EventsRequest& request,
                                  const std::function<bool(const pb::Event&)>& sink);

private:
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

}  // namespace ivds::cli
