// SPDX-License-Identifier: Apache-2.0
#include "agent/service.h"

#include <utility>

#include "api/codec.h"
#include "api/status.h"

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

template <class T>
grpc::Status answer(grpc::ServerContext& context, Result<T> result, T* reply) {
    if (!result) return to_status(context, result.error());
    *reply = std::move(*result);
    return grpc::Status::OK;
}

}  // namespace

grpc::Status Service::Apply(grpc::ServerContext* context, const pb::ApplyRequest* request, pb::ApplyReply* reply) {
    // The request is this call's own and not looked at again; taking its 100,000 entries instead of copying them
    // halves what a large apply needs.
    return answer(*context, agent_.apply(std::move(*const_cast<pb::ApplyRequest*>(request))), reply);
}

grpc::Status Service::Export(grpc::ServerContext*, const pb::ExportRequest*, pb::Config* reply) {
    *reply = agent_.export_config();
    return grpc::Status::OK;
}

grpc::Status Service::Create(grpc::ServerContext* context, const pb::PutRequest* request, pb::Object* reply) {
    return answer(*context, agent_.create(request->object()), reply);
}

grpc::Status Service::Update(grpc::ServerContext* context, const pb::PutRequest* request, pb::Object* reply) {
    return answer(*context, agent_.update(request->object()), reply);
}

grpc::Status Service::Delete(grpc::ServerContext* context, const pb::Ref* request, pb::Done* reply) {
    return answer(*context, agent_.remove(*request), reply);
}

grpc::Status Service::Get(grpc::ServerContext* context, const pb::Ref* request, pb::Object* reply) {
    return answer(*context, agent_.get(*request), reply);
}

grpc::Status Service::List(grpc::ServerContext*, const pb::ListRequest* request, pb::ObjectList* reply) {
    *reply = agent_.list(request->kind());
    return grpc::Status::OK;
}

grpc::Status Service::ReserveVmac(grpc::ServerContext* context, const pb::VmacRequest* request,
                                  pb::VmacReply* reply) {
    return answer(*context, agent_.reserve_vmac(*request), reply);
}

grpc::Status Service::ReleaseVmac(grpc::ServerContext* context, const pb::VmacRequest* request, pb::Done* reply) {
    return answer(*context, agent_.release_vmac(*request), reply);
}

grpc::Status Service::Status(grpc::ServerContext* context, const pb::StatusRequest*, pb::StatusReply* reply) {
    return answer(*context, agent_.status(), reply);
}

grpc::Status Service::Stats(grpc::ServerContext* context, const pb::StatsRequest*, pb::StatsReply* reply) {
    return answer(*context, agent_.stats(), reply);
}

grpc::Status Service::Fdb(grpc::ServerContext* context, const pb::FdbRequest* request,
                          grpc::ServerWriter<pb::FdbEntry>* writer) {
    // No buffer hint: with it, gRPC 1.51 now and then keeps a short stream's last writes for ever.
    const auto done = agent_.fdb(*request, [&](const pb::FdbEntry& entry) { return writer->Write(entry); });
    return done ? grpc::Status::OK : to_status(*context, done.error());
}

grpc::Status Service::Flush(grpc::ServerContext* context, const pb::FlushRequest* request, pb::FlushReply* reply) {
    return answer(*context, agent_.flush(*request), reply);
}

grpc::Status Service::Flows(grpc::ServerContext* context, const pb::FlowsRequest* request,
                            grpc::ServerWriter<pb::FlowState>* writer) {
    const auto done = agent_.flows(*request, [&](const pb::FlowState& flow) { return writer->Write(flow); });
    return done ? grpc::Status::OK : to_status(*context, done.error());
}

grpc::Status Service::FlushFlows(grpc::ServerContext* context, const pb::FlowsRequest* request,
                                 pb::FlushReply* reply) {
    return answer(*context, agent_.flush_flows(*request), reply);
}

grpc::Status Service::Events(grpc::ServerContext* context, const pb::EventsRequest* request,
                             grpc::ServerWriter<pb::Event>* writer) {
    const Seat seat(followers_);
    if (seat.number > kMaxFollowers) return to_status(*context, too_many());

    std::uint64_t since = request->since();
    do {
        // Waits in short turns, to see that the client has gone.
        const auto timeout = request->follow() ? std::chrono::milliseconds(500) : std::chrono::milliseconds(0);
        for (const pb::Event& event : agent_.events().wait(since, timeout)) {
            if (!writer->Write(event)) return grpc::Status::OK;
            since = event.sequence();
        }
    } while (request->follow() && !context->IsCancelled() && !agent_.events().closed());
    return grpc::Status::OK;
}

grpc::Status Service::Trace(grpc::ServerContext* context, const pb::TraceRequest* request, pb::TraceReply* reply) {
    return answer(*context, agent_.trace(*request), reply);
}

grpc::Status Service::Doctor(grpc::ServerContext* context, const pb::DoctorRequest* request, pb::DoctorReply* reply) {
    return answer(*context, agent_.doctor(*request), reply);
}

grpc::Status Service::Nics(grpc::ServerContext* context, const pb::NicRequest* request, pb::NicReply* reply) {
    return answer(*context, agent_.nics(*request), reply);
}

grpc::Status Service::Map(grpc::ServerContext* context, const pb::MapRequest* request, pb::MapReply* reply) {
    return answer(*context, agent_.map(*request), reply);
}

grpc::Status Service::Rules(grpc::ServerContext* context, const pb::RulesRequest* request, pb::RulesReply* reply) {
    return answer(*context, agent_.rules(*request), reply);
}

grpc::Status Service::Exporters(grpc::ServerContext* context, const pb::ExportersRequest* request,
                                pb::ExportersReply* reply) {
    return answer(*context, agent_.exporters(*request), reply);
}

grpc::Status Service::Inspectors(grpc::ServerContext* context, const pb::InspectorsRequest* request,
                                 pb::InspectorsReply* reply) {
    return answer(*context, agent_.inspectors(*request), reply);
}

grpc::Status Service::Verify(grpc::ServerContext* context, const pb::VerifyRequest* request, pb::VerifyReply* reply) {
    return answer(*context, agent_.verify(*request), reply);
}
grpc::Status Service::Offload(grpc::ServerContext* context, const pb::OffloadRequest* request,
                              pb::OffloadReply* reply) {
    return answer(*context, agent_.offload(*request), reply);
}

grpc::Status Service::Migrate(grpc::ServerContext* context, const pb::MigrateRequest* request,
                              pb::MigrateReply* reply) {
    return answer(*context, agent_.migrate(*request), reply);
}

grpc::Status Service::Mirrors(grpc::ServerContext* context, const pb::MirrorsRequest* request,
                              pb::MirrorsReply* reply) {
    return answer(*context, agent_.mirrors(*request), reply);
}

grpc::Status Service::Capture(grpc::ServerContext* context, const pb::CaptureRequest* request,
                              grpc::ServerWriter<pb::CapturePacket>* writer) {
    const Seat seat(followers_);
    if (seat.number > kMaxFollowers) return to_status(*context, too_many());
    const auto done = agent_.capture(*request, [&](const pb::CapturePacket& packet) {
        return !context->IsCancelled() && !agent_.events().closed() && writer->Write(packet);
    });
    return done ? grpc::Status::OK : to_status(*context, done.error());
}

}  // namespace ivds
