// SPDX-License-Identifier: Apache-2.0
// service.h -- the gRPC service over the Agent: words of the schema in, words of the schema out, nothing decided.
// Each call goes through the gate, which has the agent.
#pragma once

#include <atomic>

#include "agent/gate.h"
#include "ivds.grpc.pb.h"

namespace ivds {

class Service final : public pb::Switch::Service {
public:
    explicit Service(Gate& gate) : gate_(gate) {}

    grpc::Status Apply(grpc::ServerContext* context, const pb::ApplyRequest* request, pb::ApplyReply* reply) override;
    grpc::Status Export(grpc::ServerContext* context, const pb::ExportRequest* request, pb::Config* reply) override;
    grpc::Status Create(grpc::ServerContext* context, const pb::PutRequest* request, pb::Object* reply) override;
    grpc::Status Update(grpc::ServerContext* context, const pb::PutRequest* request, pb::Object* reply) override;
    grpc::Status Delete(grpc::ServerContext* context, const pb::Ref* request, pb::Done* reply) override;
    grpc::Status Get(grpc::ServerContext* context, const pb::Ref* request, pb::Object* reply) override;
    grpc::Status List(grpc::ServerContext* context, const pb::ListRequest* request, pb::ObjectList* reply) override;
    grpc::Status ReserveVmac(grpc::ServerContext* context, const pb::VmacRequest* request,
                             pb::VmacReply* reply) override;
    grpc::Status ReleaseVmac(grpc::ServerContext* context, const pb::VmacRequest* request, pb::Done* reply) override;
    grpc::Status Status(grpc::ServerContext* context, const pb::StatusRequest* request,
                        pb::StatusReply* reply) override;
    grpc::Status Stats(grpc::ServerContext* context, const pb::StatsRequest* request, pb::StatsReply* reply) override;
    grpc::Status Fdb(grpc::ServerContext* context, const pb::FdbRequest* request,
                     grpc::ServerWriter<pb::FdbEntry>* writer) override;
    grpc::Status Bindings(grpc::ServerContext* context, const pb::BindingsRequest* request,
                          grpc::ServerWriter<pb::BindingEntry>* writer) override;
    grpc::Status Neighbours(grpc::ServerContext* context, const pb::NeighboursRequest* request,
                            grpc::ServerWriter<pb::NeighbourEntry>* writer) override;
    grpc::Status Flush(grpc::ServerContext* context, const pb::FlushRequest* request, pb::FlushReply* reply) override;
    grpc::Status Events(grpc::ServerContext* context, const pb::EventsRequest* request,
                        grpc::ServerWriter<pb::Event>* writer) override;
    grpc::Status Trace(grpc::ServerContext* context, const pb::TraceRequest* request, pb::TraceReply* reply) override;
    grpc::Status Doctor(grpc::ServerContext* context, const pb::DoctorRequest* request,
                        pb::DoctorReply* reply) override;
    grpc::Status Hosts(grpc::ServerContext* context, const pb::HostsRequest* request, pb::HostsReply* reply) override;
    grpc::Status Nics(grpc::ServerContext* context, const pb::NicRequest* request, pb::NicReply* reply) override;
    grpc::Status Rules(grpc::ServerContext* context, const pb::RulesRequest* request, pb::RulesReply* reply) override;
    grpc::Status Flows(grpc::ServerContext* context, const pb::FlowsRequest* request,
                       grpc::ServerWriter<pb::FlowState>* writer) override;
    grpc::Status FlushFlows(grpc::ServerContext* context, const pb::FlowsRequest* request,
                            pb::FlushReply* reply) override;
    grpc::Status Mirrors(grpc::ServerContext* context, const pb::MirrorsRequest* request,
                         pb::MirrorsReply* reply) override;
    grpc::Status Exporters(grpc::ServerContext* context, const pb::ExportersRequest* request,
                           pb::ExportersReply* reply) override;
    grpc::Status Verify(grpc::ServerContext* context, const pb::VerifyRequest* request,
                        pb::VerifyReply* reply) override;
    grpc::Status Offload(grpc::ServerContext* context, const pb::OffloadRequest* request,
                         pb::OffloadReply* reply) override;
    grpc::Status Inspectors(grpc::ServerContext* context, const pb::InspectorsRequest* request,
                            pb::InspectorsReply* reply) override;
    grpc::Status Capture(grpc::ServerContext* context, const pb::CaptureRequest* request,
                         grpc::ServerWriter<pb::CapturePacket>* writer) override;
    grpc::Status Migrate(grpc::ServerContext* context, const pb::MigrateRequest* request,
                         pb::MigrateReply* reply) override;
    grpc::Status Map(grpc::ServerContext* context, const pb::MapRequest* request, pb::MapReply* reply) override;

private:
    // The call by this name, which is __func__ of its function, and whose value is the reply.
    template <class Request, class Reply, class Work>
    grpc::Status answer(grpc::ServerContext& context, const char* call, const Request& request, Reply* reply,
                        Work&& work);

    Gate& gate_;
    std::atomic<int> followers_ = 0;
};

}  // namespace ivds
