// SPDX-License-Identifier: Apache-2.0
#include "fabric/etcd.h"

#include <fmt/format.h>
#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <ctime>
#include <mutex>
#include <utility>

#include "etcd.grpc.pb.h"
#include "fabric/validity.h"
#include "loader/file.h"

namespace ivds::etcd {
namespace {

namespace pb = ::etcdserverpb;

constexpr auto kDeadline = std::chrono::seconds(3);
// etcd takes values of 1.5 MiB unless it was told otherwise: one of those always fits.
constexpr int kMaxMessageBytes = 16 << 20;
constexpr std::int64_t kPageKeys = 1024;
// A connection on which nothing comes back is given up: etcd allows a ping each 5 s.
constexpr int kPingMs = 10'000;
constexpr int kPingTimeoutMs = 5'000;

Result<std::string> read_pem(const std::string& path) {
    return path.empty() ? std::string() : read_text(path, "IVDS-R001");
}

std::string end_of(std::string prefix) {
    ++prefix.back();  // never 0xff: prefixes end in '/'
    return prefix;
}

KeyValue from_pb(pb::KeyValue& kv) {
    return {std::move(*kv.mutable_key()), std::move(*kv.mutable_value()), kv.create_revision(), kv.mod_revision(),
            kv.lease()};
}

std::unexpected<Error> failure(const grpc::Status& status, const std::string& endpoint, const std::string& call,
                               bool by_tls) {
    const auto code = status.error_code();
    // What is wrong with the time of certificates is not told otherwise.
    const std::string clock = by_tls ? fmt::format(
                                           "; and whether the certificates of both are valid at {}, which this "
                                           "host's clock says",
                                           calendar_text(std::time(nullptr)))
                                     : "";
    return fail(code == grpc::StatusCode::NOT_FOUND            ? Code::not_found
                : code == grpc::StatusCode::RESOURCE_EXHAUSTED ? Code::exhausted
                : code == grpc::StatusCode::UNAUTHENTICATED || code == grpc::StatusCode::PERMISSION_DENIED
                    ? Code::foreign
                    : Code::unavailable,
                "IVDS-R001", fmt::format("etcd {}: {}: {}", endpoint, call, status.error_message()),
                code == grpc::StatusCode::RESOURCE_EXHAUSTED
                    ? "make room in etcd: compact and defragment it, or raise --quota-backend-bytes; then `etcdctl "
                      "alarm disarm`"
                : code == grpc::StatusCode::UNAUTHENTICATED || code == grpc::StatusCode::PERMISSION_DENIED ||
                        code == grpc::StatusCode::INVALID_ARGUMENT
                    ? "give --etcd-user and --etcd-password-file, of a user that may read and write /ivds/"
                    : "see whether etcd runs there, has a leader, and can be reached from this host" + clock);
}

}  // namespace

struct Client::Impl {
    std::string endpoint;
    bool by_tls = false;
    std::shared_ptr<grpc::Channel> channel;
    std::unique_ptr<pb::KV::Stub> kv;
    std::unique_ptr<pb::Watch::Stub> watch;
    std::unique_ptr<pb::Lease::Stub> lease;
    std::unique_ptr<pb::Auth::Stub> auth;
    std::string user;  // empty: none
    std::string password;

    std::mutex token_mutex;
    std::string token;  // empty: to be asked for

    std::mutex mutex;
    grpc::ClientContext* watching = nullptr;
    bool stopped = false;

    // Makes the call one of the user's, who logs in where he is not.
    Result<> sign(grpc::ClientContext& context) {
        if (user.empty()) return {};
        const std::lock_guard lock(token_mutex);
        if (token.empty()) {
            grpc::ClientContext asking;
            asking.set_deadline(std::chrono::system_clock::now() + kDeadline);
            pb::AuthenticateRequest request;
            request.set_name(user);
            request.set_password(password);
            pb::AuthenticateResponse reply;
            const grpc::Status status = auth->Authenticate(&asking, request, &reply);
            if (!status.ok()) return failure(status, endpoint, "log in as " + user, by_tls);
            token = reply.token();
        }
        context.AddMetadata("token", token);
        return {};
    }

    template <class Request, class Reply>
    Result<Reply> call(grpc::Status (pb::KV::Stub::*method)(grpc::ClientContext*, const Request&, Reply*),
                       const Request& request, const char* name) {
        for (bool again = user.empty();; again = true) {
            grpc::ClientContext context;
            context.set_deadline(std::chrono::system_clock::now() + kDeadline);
            if (auto signed_in = sign(context); !signed_in) return std::unexpected(signed_in.error());
            Reply reply;
            const grpc::Status status = (kv.get()->*method)(&context, request, &reply);
            if (status.ok()) return reply;
            // A token is for some minutes, and for one run of etcd.
            if (status.error_code() != grpc::StatusCode::UNAUTHENTICATED || again)
                return failure(status, endpoint, name, by_tls);
            const std::lock_guard lock(token_mutex);
            token.clear();
        }
    }
};

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;

Result<std::unique_ptr<Client>> Client::open(const std::string& endpoint, const Tls& tls, const Login& login) {
    std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
    if (tls.on) {
        auto ca = read_pem(tls.ca);
        if (!ca) return std::unexpected(ca.error());
        auto cert = read_pem(tls.cert);
        if (!cert) return std::unexpected(cert.error());
        auto key = read_pem(tls.key);
        if (!key) return std::unexpected(key.error());
        // Of its own certificate etcd's clock decides, not this host's.
        if (const std::time_t now = std::time(nullptr); const auto why = why_not_valid(*ca, now))
            return fail(Code::unavailable, "IVDS-R001",
                        fmt::format("etcd {}: the authority {} is not valid now: {}, and this host's clock says {}",
                                    endpoint, tls.ca, *why, calendar_text(now)),
                        "set this host's clock, or give --etcd-ca an authority that is valid");
        credentials = grpc::SslCredentials({*ca, *key, *cert});
    }
    grpc::ChannelArguments arguments;
    arguments.SetMaxReceiveMessageSize(kMaxMessageBytes);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kPingMs);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kPingTimeoutMs);
    arguments.SetInt(GRPC_ARG_ENABLE_HTTP_PROXY, 0);
    // A connection of its own, that no earlier one's back-off delays.
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    auto impl = std::make_unique<Impl>();
    impl->endpoint = endpoint;
    impl->by_tls = tls.on;
    impl->channel = grpc::CreateCustomChannel(endpoint, credentials, arguments);
    impl->kv = pb::KV::NewStub(impl->channel);
    impl->watch = pb::Watch::NewStub(impl->channel);
    impl->lease = pb::Lease::NewStub(impl->channel);
    impl->auth = pb::Auth::NewStub(impl->channel);
    if (!login.user.empty()) {
        auto password = read_text(login.password_file, "IVDS-R001");
        if (!password) return std::unexpected(password.error());
        impl->user = login.user;
        impl->password = password->substr(0, password->find('\n'));
    }
    return std::unique_ptr<Client>(new Client(std::move(impl)));
}

Result<Header> Client::get(const std::string& key, std::optional<KeyValue>& out) {
    pb::RangeRequest request;
    request.set_key(key);
    auto reply = impl_->call(&pb::KV::Stub::Range, request, "get");
    if (!reply) return std::unexpected(reply.error());
    out.reset();
    if (reply->kvs_size() != 0) out = from_pb(*reply->mutable_kvs(0));
    return Header{reply->header().cluster_id(), reply->header().revision()};
}

Result<Header> Client::list(const std::string& prefix, const std::function<void(KeyValue)>& sink,
                            const std::function<void()>& pause) {
    Header header;
    std::int64_t limit = kPageKeys;
    pb::RangeRequest request;
    request.set_key(prefix);
    request.set_range_end(end_of(prefix));
    for (;;) {
        request.set_limit(limit);
        auto reply = impl_->call(&pb::KV::Stub::Range, request, "list");
        // Large values: fewer at once.
        if (!reply && reply.error().code == Code::exhausted && limit > 1) {
            limit = std::max<std::int64_t>(limit / 8, 1);
            continue;
        }
        if (!reply) return std::unexpected(reply.error());
        if (request.revision() == 0) {
            header = {reply->header().cluster_id(), reply->header().revision()};
            request.set_revision(header.revision);
        }
        if (reply->more() && reply->kvs_size() > 0)
            request.set_key(reply->kvs(reply->kvs_size() - 1).key() + std::string(1, '\0'));
        for (pb::KeyValue& kv : *reply->mutable_kvs()) sink(from_pb(kv));
        if (!reply->more() || reply->kvs_size() == 0) return header;
        pause();
    }
}

Result<std::int64_t> Client::transact(const std::vector<Guard>& guards, const std::vector<Write>& writes) {
    pb::TxnRequest request;
    for (const Guard& guard : guards) {
        pb::Compare& compare = *request.add_compare();
        compare.set_target(pb::Compare::MOD);
        compare.set_key(guard.key);
        compare.set_mod_revision(guard.mod_revision);
    }
    for (const Write& write : writes) {
        pb::RequestOp& op = *request.add_success();
        if (write.value) {
            op.mutable_request_put()->set_key(write.key);
            op.mutable_request_put()->set_value(*write.value);
            op.mutable_request_put()->set_lease(write.lease);
        } else {
            op.mutable_request_delete_range()->set_key(write.key);
        }
    }
    auto reply = impl_->call(&pb::KV::Stub::Txn, request, "write");
    if (!reply) return std::unexpected(reply.error());
    return reply->succeeded() ? reply->header().revision() : 0;
}

Result<std::int64_t> Client::grant(std::int64_t ttl_s) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kDeadline);
    if (auto signed_in = impl_->sign(context); !signed_in) return std::unexpected(signed_in.error());
    pb::LeaseGrantRequest request;
    request.set_ttl(ttl_s);
    pb::LeaseGrantResponse reply;
    const grpc::Status status = impl_->lease->LeaseGrant(&context, request, &reply);
    if (!status.ok()) return failure(status, impl_->endpoint, "make a lease", impl_->by_tls);
    return reply.id();
}

Result<std::int64_t> Client::keep_alive(std::int64_t lease) {
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + kDeadline);
    if (auto signed_in = impl_->sign(context); !signed_in) return std::unexpected(signed_in.error());
    const auto stream = impl_->lease->LeaseKeepAlive(&context);
    pb::LeaseKeepAliveRequest request;
    request.set_id(lease);
    pb::LeaseKeepAliveResponse reply;
    const bool answered = stream->Write(request) && stream->Read(&reply);
    stream->WritesDone();
    if (answered) context.TryCancel();
    const grpc::Status status = stream->Finish();
    if (!answered) return failure(status, impl_->endpoint, "keep the lease", impl_->by_tls);
    return std::max<std::int64_t>(reply.ttl(), 0);
}

Result<> Client::watch(const std::string& prefix, std::int64_t revision, const std::function<void(Changes)>& sink) {
    grpc::ClientContext context;
    if (auto signed_in = impl_->sign(context); !signed_in) return signed_in;
    {
        const std::lock_guard lock(impl_->mutex);
        if (impl_->stopped) return {};
        impl_->watching = &context;
    }
    const auto stream = impl_->watch->Watch(&context);
    pb::WatchRequest request;
    pb::WatchCreateRequest& create = *request.mutable_create_request();
    create.set_key(prefix);
    create.set_range_end(end_of(prefix));
    create.set_start_revision(revision);
    create.set_fragment(true);
    std::string why;
    if (stream->Write(request)) {
        pb::WatchResponse response;
        while (stream->Read(&response)) {
            Changes changes;
            changes.compacted = response.compact_revision() != 0;
            // The header's revision may be ahead of what was sent: only the last event says how far this is.
            if (!response.fragment() && response.events_size() > 0)
                changes.revision = response.events(response.events_size() - 1).kv().mod_revision();
            for (pb::Event& event : *response.mutable_events())
                changes.changes.push_back({from_pb(*event.mutable_kv()), event.type() == pb::Event::DELETE});
            if (response.canceled()) why = response.cancel_reason();
            sink(std::move(changes));
            if (response.canceled()) break;
        }
    }
    {
        const std::lock_guard lock(impl_->mutex);
        impl_->watching = nullptr;
    }
    context.TryCancel();
    const grpc::Status status = stream->Finish();
    const std::lock_guard lock(impl_->mutex);
    if (impl_->stopped) return {};
    return fail(Code::unavailable, "IVDS-R001",
                fmt::format("etcd {}: watch: {}", impl_->endpoint, why.empty() ? status.error_message() : why));
}

void Client::stop_watch() {
    const std::lock_guard lock(impl_->mutex);
    impl_->stopped = true;
    if (impl_->watching != nullptr) impl_->watching->TryCancel();
}

}  // namespace ivds::etcd
