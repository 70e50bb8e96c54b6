// SPDX-License-Identifier: Apache-2.0
#include "client.h"

#include <grpcpp/grpcpp.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>
#include <tuple>
#include <utility>

#include "api/status.h"
#include "fabric/validity.h"
#include "ivds.grpc.pb.h"
#include "loader/file.h"

namespace ivds::cli {
namespace {

// A configuration may hold 100,000 FDB entries; gRPC's own limit is 4 MB.
constexpr int max_message_bytes = 256 * 1024 * 1024;
constexpr std::chrono::seconds short_call{10};
constexpr std::chrono::seconds long_call{60};

std::shared_ptr<grpc::Channel> channel_to(const Target& target) {
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(max_message_bytes);
    arguments.SetMaxSendMessageSize(max_message_bytes);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    if (target.address.empty())
        return grpc::CreateCustomChannel("unix:" + target.socket, grpc::InsecureChannelCredentials(), arguments);
    return grpc::CreateCustomChannel(target.address, grpc::SslCredentials({target.ca, target.key, target.cert}),
                                     arguments);
}

Result<std::string> read_pem(const char* option, const std::string& path) {
    auto text = read_text(path, "IVDS-U018", "name a file in PEM that you may read");
    if (!text) return std::unexpected(text.error().in(option));
    if (text->find("-----BEGIN ") == std::string::npos)
        return fail(
            Code::invalid, "IVDS-U018", std::string(option) + " " + path + " is not in PEM",
            "give a file that begins with -----BEGIN CERTIFICATE----- or, for --key, ends with a PRIVATE KEY");
    return text;
}

}  // namespace

struct Client::Impl {
    std::string socket;
    std::string address;
    std::chrono::milliseconds timeout;
    std::unique_ptr<pb::Switch::Stub> stub;

    void bound(grpc::ClientContext& context, std::chrono::milliseconds usual) const {
        context.set_deadline(std::chrono::system_clock::now() + (timeout.count() > 0 ? timeout : usual));
    }

    [[nodiscard]] std::unexpected<Error> failed(const grpc::ClientContext& context,
                                                const grpc::Status& status) const {
        Error error = from_status(context, status);
        // What the agent says itself has an id of its own.
        if (error.id != "IVDS-G001" || error.code != Code::unavailable) return std::unexpected(std::move(error));
        if (!address.empty())
            return fail(
                Code::unavailable, "IVDS-U013",
                "no agent at " + address + " answers this certificate: " + status.error_message(),
                "see on that host whether ivdsd runs with --listen; its certificate must be signed by --ca and "
                "name this host, and --cert be signed by its --listen-ca; both must be valid at " +
                    calendar_text(std::time(nullptr)) + ", which this host's clock says");
        if (status.error_code() == grpc::DEADLINE_EXCEEDED) {
            return fail(Code::unavailable, "IVDS-U011", "the agent at " + socket + " does not answer in time",
                        "see 'systemctl status ivdsd' and 'journalctl -u ivdsd'; a change that was asked for may "
                        "still happen");
        }
        if (::access(socket.c_str(), W_OK) != 0 && errno == EACCES) {
            return fail(Code::system, "IVDS-U012", "no permission to use the agent's socket " + socket,
                        "be root, or a member of the group ivds");
        }
        return fail(Code::unavailable, "IVDS-U010", "no agent answers at " + socket, "systemctl start ivdsd");
    }

    template <class Request, class Reply>
    [[nodiscard]] Result<Reply> call(grpc::Status (pb::Switch::Stub::*method)(grpc::ClientContext*, const Request&,
                                                                              Reply*),
                                     const Request& request, std::chrono::seconds usual = short_call) const {
        grpc::ClientContext context;
        bound(context, usual);
        Reply reply;
        const grpc::Status status = (stub.get()->*method)(&context, request, &reply);
        if (!status.ok()) return failed(context, status);
        return reply;
    }

    template <class Message>
    [[nodiscard]] Result<> drain(grpc::ClientContext& context, grpc::ClientReader<Message>& reader,
                                 const std::function<bool(const Message&)>& sink) const {
        Message message;
        bool wanted = true;
        while (wanted && reader.Read(&message)) wanted = sink(message);
        if (!wanted) context.TryCancel();
        const grpc::Status status = reader.Finish();
        if (wanted && !status.ok()) return failed(context, status);
        return {};
    }
};

Result<Target> target_of(const std::string& socket, const std::string& address, const std::string& ca,
                         const std::string& cert, const std::string& key) {
    if (address.empty()) {
        if (ca.empty() && cert.empty() && key.empty()) return Target{socket, "", "", "", ""};
        return fail(Code::invalid, "IVDS-U018", "--ca, --cert and --key are for an agent at --address",
                    "give --address HOST:PORT, or leave them out for the agent of this host");
    }
    if (ca.empty() || cert.empty() || key.empty())
        return fail(Code::invalid, "IVDS-U018", "--address without --ca, --cert and --key",
                    "give all three; there is no access by TCP without TLS");
    Target target{"", address, "", "", ""};
    for (const auto& [option, path, text] :
         {std::tuple("--ca", &ca, &target.ca), std::tuple("--cert", &cert, &target.cert),
          std::tuple("--key", &key, &target.key)}) {
        auto read = read_pem(option, *path);
        if (!read) return std::unexpected(read.error());
        *text = std::move(*read);
    }
    return target;
}

Client::Client(const Target& target, std::chrono::milliseconds timeout)
    : impl_(std::make_unique<Impl>(target.socket, target.address, timeout, pb::Switch::NewStub(channel_to(target)))) {
}
Client::~Client() = default;

Result<pb::ApplyReply> Client::apply(const pb::ApplyRequest& request) {
    return impl_->call(&pb::Switch::Stub::Apply, request, long_call);
}
Result<pb::Config> Client::export_config() {
    return impl_->call(&pb::Switch::Stub::Export, pb::ExportRequest{}, long_call);
}
Result<pb::Object> Client::create(const pb::Object& object) {
    pb::PutRequest request;
    *request.mutable_object() = object;
    return impl_->call(&pb::Switch::Stub::Create, request);
}
Result<pb::Object> Client::update(const pb::Object& object) {
    pb::PutRequest request;
    *request.mutable_object() = object;
    return impl_->call(&pb::Switch::Stub::Update, request);
}
Result<pb::Done> Client::remove(const pb::Ref& ref) {
    return impl_->call(&pb::Switch::Stub::Delete, ref);
}
Result<pb::Object> Client::get(const pb::Ref& ref) {
    return impl_->call(&pb::Switch::Stub::Get, ref);
}
Result<pb::ObjectList> Client::list(pb::Kind kind) {
    pb::ListRequest request;
    request.set_kind(kind);
    return impl_->call(&pb::Switch::Stub::List, request);
}
Result<pb::VmacReply> Client::reserve_vmac(const pb::VmacRequest& request) {
    return impl_->call(&pb::Switch::Stub::ReserveVmac, request);
}
Result<pb::Done> Client::release_vmac(const pb::VmacRequest& request) {
    return impl_->call(&pb::Switch::Stub::ReleaseVmac, request);
}
Result<pb::StatusReply> Client::status() {
    return impl_->call(&pb::Switch::Stub::Status, pb::StatusRequest{});
}
Result<pb::StatsReply> Client::stats() {
    return impl_->call(&pb::Switch::Stub::Stats, pb::StatsRequest{});
}
Result<pb::FlushReply> Client::flush(const pb::FlushRequest& request) {
    return impl_->call(&pb::Switch::Stub::Flush, request);
}
Result<pb::DoctorReply> Client::doctor(const pb::DoctorRequest& request) {
    return impl_->call(&pb::Switch::Stub::Doctor, request);
}
Result<pb::HostsReply> Client::hosts() {
    return impl_->call(&pb::Switch::Stub::Hosts, pb::HostsRequest());
}

Result<pb::NicReply> Client::nics(const pb::NicRequest& request) {
    return impl_->call(&pb::Switch::Stub::Nics, request);
}
Result<pb::MapReply> Client::map(const pb::MapRequest& request) {
    return impl_->call(&pb::Switch::Stub::Map, request);
}
Result<pb::RulesReply> Client::rules(const pb::RulesRequest& request) {
    return impl_->call(&pb::Switch::Stub::Rules, request);
}
Result<pb::MirrorsReply> Client::mirrors(const pb::MirrorsRequest& request) {
    return impl_->call(&pb::Switch::Stub::Mirrors, request);
}
Result<pb::VerifyReply> Client::verify(const pb::VerifyRequest& request) {
    return impl_->call(&pb::Switch::Stub::Verify, request);
}
Result<pb::OffloadReply> Client::offload(const pb::OffloadRequest& request) {
    return impl_->call(&pb::Switch::Stub::Offload, request);
}
Result<pb::InspectorsReply> Client::inspectors(const pb::InspectorsRequest& request) {
    return impl_->call(&pb::Switch::Stub::Inspectors, request);
}
Result<pb::ExportersReply> Client::exporters(const pb::ExportersRequest& request) {
    return impl_->call(&pb::Switch::Stub::Exporters, request);
}
Result<> Client::capture(const pb::CaptureRequest& request,
                         const std::function<bool(const pb::CapturePacket&)>& sink) {
    grpc::ClientContext context;
    return impl_->drain(context, *impl_->stub->Capture(&context, request), sink);
}
Result<pb::TraceReply> Client::trace(const pb::TraceRequest& request) {
    return impl_->call(&pb::Switch::Stub::Trace, request);
}

Result<pb::MigrateReply> Client::migrate(const pb::MigrateRequest& request) {
    return impl_->call(&pb::Switch::Stub::Migrate, request, long_call);
}

Result<pb::FlushReply> Client::flush_flows(const pb::FlowsRequest& request) {
    return impl_->call(&pb::Switch::Stub::FlushFlows, request);
}

Result<> Client::fdb(const pb::FdbRequest& request, const std::function<bool(const pb::FdbEntry&)>& sink) {
    grpc::ClientContext context;
    impl_->bound(context, long_call);
    return impl_->drain(context, *impl_->stub->Fdb(&context, request), sink);
}

Result<> Client::bindings(const pb::BindingsRequest& request,
                          const std::function<bool(const pb::BindingEntry&)>& sink) {
    grpc::ClientContext context;
    impl_->bound(context, long_call);
    return impl_->drain(context, *impl_->stub->Bindings(&context, request), sink);
}

Result<> Client::neighbours(const pb::NeighboursRequest& request,
                            const std::function<bool(const pb::NeighbourEntry&)>& sink) {
    grpc::ClientContext context;
    impl_->bound(context, long_call);
    return impl_->drain(context, *impl_->stub->Neighbours(&context, request), sink);
}

Result<> Client::flows(const pb::FlowsRequest& request, const std::function<bool(const pb::FlowState&)>& sink) {
    grpc::ClientContext context;
    impl_->bound(context, long_call);
    return impl_->drain(context, *impl_->stub->Flows(&context, request), sink);
}

Result<> Client::events(const pb::EventsRequest& request, const std::function<bool(const pb::Event&)>& sink) {
    grpc::ClientContext context;
    if (!request.follow()) impl_->bound(context, short_call);
    return impl_->drain(context, *impl_->stub->Events(&context, request), sink);
}

}  // namespace ivds::cli
