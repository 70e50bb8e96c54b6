// SPDX-License-Identifier: Apache-2.0
#include "agent/service.h"

#include <utility>

namespace ivds {
namespace {

// Each follower of events and each reader of a capture holds a thread for as long as it follows.
constexpr int kMaxFollowers = 16;

struct Seat {
    explicit Seat(std::atomic<int>& seats) : taken(seats), number(++seats) {}
    Seat(const Seat&) = delete;
    Seat& operator=(const Seat&) = delete;
    ~Seat() { --taken; }
    std::atomic<int>& taken;
    const int number;
};
Error too_many() {
    return {Code::exhausted, "IVDS-A003", "too many clients follow events and captures already", "end some of them",
            0};
}

}  // namespace

template <class Request, class Reply, class Work>
grpc::Status Service::answer(grpc::ServerContext& context, const char* call, const Request& request, Reply* reply,
                             Work&& work) {
    return gate_.pass(context, call, request, [&](Agent& agent) -> Result<> {
        Result<Reply> result = work(agent);
        if (!result) return std::unexpected(std::move(result.error()));
        *reply = std::move(*result);
        return {};
    });
}

grpc::Status Service::Apply(grpc::ServerContext* context, const pb::ApplyRequest* request, pb::ApplyReply* reply) {
    // The request is this call's own and not looked at again; taking its 100,000 entries instead of copying them
    // halves what a large apply needs.
    return answer(*context, __func__, *request, reply,
                  [&](Agent& agent) { return agent.apply(std::move(*const_cast<pb::ApplyRequest*>(request))); });
}

grpc::Status Service::Export(grpc::ServerContext* context, const pb::ExportRequest* request, pb::Config* reply) {
    return answer(*context, __func__, *request, reply,
                  [&](Agent& agent) -> Result<pb::Config> { return agent.export_config(); });
}

grpc::Status Service::Create(grpc::ServerContext* context, const pb::PutRequest* request, pb::Object* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.create(request->object()); });
}

grpc::Status Service::Update(grpc::ServerContext* context, const pb::PutRequest* request, pb::Object* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.update(request->object()); });
}

grpc::Status Service::Delete(grpc::ServerContext* context, const pb::Ref* request, pb::Done* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.remove(*request); });
}

grpc::Status Service::Get(grpc::ServerContext* context, const pb::Ref* request, pb::Object* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.get(*request); });
}

grpc::Status Service::List(grpc::ServerContext* context, const pb::ListRequest* request, pb::ObjectList* reply) {
    return answer(*context, __func__, *request, reply,
                  [&](Agent& agent) -> Result<pb::ObjectList> { return agent.list(request->kind()); });
}

grpc::Status Service::ReserveVmac(grpc::ServerContext* context, const pb::VmacRequest* request,
                                  pb::VmacReply* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.reserve_vmac(*request); });
}

grpc::Status Service::ReleaseVmac(grpc::ServerContext* context, const pb::VmacRequest* request, pb::Done* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.release_vmac(*request); });
}

grpc::Status Service::Status(grpc::ServerContext* context, const pb::StatusRequest* request, pb::StatusReply* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.status(); });
}

grpc::Status Service::Stats(grpc::ServerContext* context, const pb::StatsRequest* request, pb::StatsReply* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.stats(); });
}

grpc::Status Service::Fdb(grpc::ServerContext* context, const pb::FdbRequest* request,
                          grpc::ServerWriter<pb::FdbEntry>* writer) {
    // No buffer hint: with it, gRPC 1.51 now and then keeps a short stream's last writes for ever.
    return gate_.pass(*context, __func__, *request, [&](Agent& agent) {
        return agent.fdb(*request, [&](const pb::FdbEntry& entry) { return writer->Write(entry); });
    });
}

grpc::Status Service::Bindings(grpc::ServerContext* context, const pb::BindingsRequest* request,
                               grpc::ServerWriter<pb::BindingEntry>* writer) {
    return gate_.pass(*context, __func__, *request, [&](Agent& agent) {
        return agent.bindings(*request, [&](const pb::BindingEntry& entry) { return writer->Write(entry); });
    });
}

grpc::Status Service::Neighbours(grpc::ServerContext* context, const pb::NeighboursRequest* request,
                                 grpc::ServerWriter<pb::NeighbourEntry>* writer) {
    return gate_.pass(*context, __func__, *request, [&](Agent& agent) {
        return agent.neighbours(*request, [&](const pb::NeighbourEntry& entry) { return writer->Write(entry); });
    });
}

grpc::Status Service::Flush(grpc::ServerContext* context, const pb::FlushRequest* request, pb::FlushReply* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.flush(*request); });
}

grpc::Status Service::Flows(grpc::ServerContext* context, const pb::FlowsRequest* request,
                            grpc::ServerWriter<pb::FlowState>* writer) {
    return gate_.pass(*context, __func__, *request, [&](Agent& agent) {
        return agent.flows(*request, [&](const pb::FlowState& flow) { return writer->Write(flow); });
    });
}

grpc::Status Service::FlushFlows(grpc::ServerContext* context, const pb::FlowsRequest* request,
                                 pb::FlushReply* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.flush_flows(*request); });
}

grpc::Status Service::Events(grpc::ServerContext* context, const pb::EventsRequest* request,
                             grpc::ServerWriter<pb::Event>* writer) {
    return gate_.pass(*context, __func__, *request, [&](Agent& agent) -> Result<> {
        const Seat seat(followers_);
        if (seat.number > kMaxFollowers) return std::unexpected(too_many());

        std::uint64_t since = request->since();
        do {
            // Waits in short turns, to see that the client has gone.
            const auto timeout = request->follow() ? std::chrono::milliseconds(500) : std::chrono::milliseconds(0);
            for (const pb::Event& event : agent.events().wait(since, timeout)) {
                if (!writer->Write(event)) return {};
                since = event.sequence();
            }
        } while (request->follow() && !context->IsCancelled() && !agent.events().closed());
        return {};
    });
}

grpc::Status Service::Trace(grpc::ServerContext* context, const pb::TraceRequest* request, pb::TraceReply* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.trace(*request); });
}

grpc::Status Service::Doctor(grpc::ServerContext* context, const pb::DoctorRequest* request, pb::DoctorReply* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.doctor(*request); });
}

grpc::Status Service::Hosts(grpc::ServerContext* context, const pb::HostsRequest* request, pb::HostsReply* reply) {
    return answer(*context, __func__, *request, reply, [](Agent& agent) { return agent.hosts(); });
}

grpc::Status Service::Nics(grpc::ServerContext* context, const pb::NicRequest* request, pb::NicReply* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.nics(*request); });
}

grpc::Status Service::Map(grpc::ServerContext* context, const pb::MapRequest* request, pb::MapReply* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.map(*request); });
}

grpc::Status Service::Rules(grpc::ServerContext* context, const pb::RulesRequest* request, pb::RulesReply* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.rules(*request); });
}

grpc::Status Service::Exporters(grpc::ServerContext* context, const pb::ExportersRequest* request,
                                pb::ExportersReply* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.exporters(*request); });
}

grpc::Status Service::Inspectors(grpc::ServerContext* context, const pb::InspectorsRequest* request,
                                 pb::InspectorsReply* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.inspectors(*request); });
}

grpc::Status Service::Verify(grpc::ServerContext* context, const pb::VerifyRequest* request, pb::VerifyReply* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.verify(*request); });
}

grpc::Status Service::Offload(grpc::ServerContext* context, const pb::OffloadRequest* request,
                              pb::OffloadReply* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.offload(*request); });
}

grpc::Status Service::Migrate(grpc::ServerContext* context, const pb::MigrateRequest* request,
                              pb::MigrateReply* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.migrate(*request); });
}

grpc::Status Service::Mirrors(grpc::ServerContext* context, const pb::MirrorsRequest* request,
                              pb::MirrorsReply* reply) {
    return answer(*context, __func__, *request, reply, [&](Agent& agent) { return agent.mirrors(*request); });
}

grpc::Status Service::Capture(grpc::ServerContext* context, const pb::CaptureRequest* request,
                              grpc::ServerWriter<pb::CapturePacket>* writer) {
    return gate_.pass(*context, __func__, *request, [&](Agent& agent) -> Result<> {
        const Seat seat(followers_);
        if (seat.number > kMaxFollowers) return std::unexpected(too_many());
        return agent.capture(*request, [&](const pb::CapturePacket& packet) {
            return !context->IsCancelled() && !agent.events().closed() && writer->Write(packet);
        });
    });
}

}  // namespace ivds
