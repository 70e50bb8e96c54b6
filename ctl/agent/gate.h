// SPDX-License-Identifier: Apache-2.0
// gate.h -- the only way to the agent: a call passes if its client's role is the one that ivds.proto asks for, and
// what needs more than reading, or is refused, is in the audit log.
#pragma once

#include <grpcpp/grpcpp.h>

#include <string>
#include <utility>
#include <vector>

#include "agent/agent.h"
#include "agent/audit.h"
#include "api/status.h"

namespace ivds {

// A client that comes by TCP has the role that its certificate names, in a subject alternative name of kind URI:
// urn:ivds:role:read, urn:ivds:role:operate or urn:ivds:role:administer, and just one such name. The Unix socket's
// own permissions say who is on its other end, and whoever is administers.
struct Caller {
    std::string who;   // the certificate's common name; empty: a peer of the Unix socket
    std::string from;  // as gRPC writes it
    pb::Role role = pb::NO_ROLE;
    std::string why;  // there is no role
};
[[nodiscard]] Caller caller_of(const grpc::ServerContext& context);

// The role in the names of a certificate, or NO_ROLE and why.
[[nodiscard]] std::pair<pb::Role, std::string> role_in(const std::vector<std::string>& uris);

// What a call needs; `kind` for those that change one object, else KIND_NONE. NO_ROLE: there is no such call, or the
// schema does not say.
[[nodiscard]] pb::Role role_for(const std::string& call, pb::Kind kind);
// The same of this very request, some fields of which ask for more.
[[nodiscard]] pb::Role role_for(const std::string& call, pb::Kind kind, const google::protobuf::Message& request);

// Whether a call answers with a stream.
[[nodiscard]] bool streams(const std::string& call);

// What a request is about, for the audit log.
struct Subject {
    pb::Kind kind = pb::KIND_NONE;
    std::string text;
};
template <class Request>
[[nodiscard]] Subject subject_of(const Request&) {
    return {};
}
[[nodiscard]] Subject subject_of(const pb::PutRequest& request);
[[nodiscard]] Subject subject_of(const pb::Ref& request);
[[nodiscard]] Subject subject_of(const pb::VmacRequest& request);
[[nodiscard]] Subject subject_of(const pb::FlushRequest& request);
[[nodiscard]] Subject subject_of(const pb::FlowsRequest& request);
[[nodiscard]] Subject subject_of(const pb::CaptureRequest& request);
[[nodiscard]] Subject subject_of(const pb::MigrateRequest& request);

class Gate {
public:
    Gate(Agent& agent, AuditLog& audit) : agent_(agent), audit_(audit) {}

    // Runs `work`, which gets the agent and returns a Result<>, if the client may make this call.
    template <class Request, class Work>
    grpc::Status pass(grpc::ServerContext& context, const char* call, const Request& request, Work&& work) {
        const Subject subject = subject_of(request);
        const Caller caller = caller_of(context);
        const pb::Role needed = role_for(call, subject.kind, request);
        if (const Result<> may = allowed(caller, call, subject, needed); !may) {
            note(caller, call, subject, may);
            return {grpc::StatusCode::PERMISSION_DENIED, to_status(context, may.error()).error_message()};
        }
        // What goes on for long is noted when it begins, too.
        if (needed > pb::READ && streams(call)) note(caller, call, subject, {}, "begun");
        const Result<> done = work(agent_);
        if (needed > pb::READ) note(caller, call, subject, done);
        return done ? grpc::Status::OK : to_status(context, done.error());
    }

private:
    [[nodiscard]] static Result<> allowed(const Caller& caller, const char* call, const Subject& subject,
                                          pb::Role needed);
    void note(const Caller& caller, const char* call, const Subject& subject, const Result<>& done,
              const char* good = "ok");

    Agent& agent_;
    AuditLog& audit_;
};

}  // namespace ivds
