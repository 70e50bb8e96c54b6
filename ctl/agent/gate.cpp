// SPDX-License-Identifier: Apache-2.0
#include "agent/gate.h"

#include <fmt/format.h>
#include <grpc/grpc_security_constants.h>

#include <algorithm>
#include <string_view>
#include <tuple>
#include <vector>

#include "api/codec.h"

namespace ivds {
namespace {

constexpr std::string_view kRoleUri = "urn:ivds:role:";
// An error may quote much of what a client sent.
constexpr std::size_t kMaxTextBytes = 1024;

std::string joined(const char* kind, const std::string& name) {
    return name.empty() ? std::string() : fmt::format("{} {}", kind, name);
}

const google::protobuf::MethodDescriptor* method_of(const std::string& call) {
    static const google::protobuf::ServiceDescriptor* const service =
        pb::AuditEntry::descriptor()->file()->FindServiceByName("Switch");
    return service->FindMethodByName(call);
}

}  // namespace

std::pair<pb::Role, std::string> role_in(const std::vector<std::string>& uris) {
    pb::Role role = pb::NO_ROLE;
    for (const std::string& uri : uris) {
        if (!uri.starts_with(kRoleUri)) continue;
        const auto found = from_text<pb::Role>(uri.substr(kRoleUri.size()));
        if (!found || *found == pb::NO_ROLE)
            return {pb::NO_ROLE, fmt::format("its certificate names {}, which is no role", uri)};
        if (role != pb::NO_ROLE) return {pb::NO_ROLE, "its certificate names more than one role"};
        role = *found;
    }
    return {role, role == pb::NO_ROLE ? "its certificate names no role" : ""};
}

Caller caller_of(const grpc::ServerContext& context) {
    Caller caller;
    caller.from = context.peer();
    const auto auth = context.auth_context();
    const auto values = [&](const char* property) {
        std::vector<std::string> found;
        for (const grpc::string_ref& value : auth->FindPropertyValues(property))
            found.emplace_back(value.data(), value.size());
        return found;
    };
    // Both say it: a connection that is neither by TLS nor by the socket has no rights.
    if (auth != nullptr && auth->IsPeerAuthenticated()) {
        const auto names = values(GRPC_X509_CN_PROPERTY_NAME);
        caller.who = names.empty() ? "a certificate without a name" : names.front();
        std::tie(caller.role, caller.why) = role_in(values(GRPC_PEER_URI_PROPERTY_NAME));
    } else if (caller.from.starts_with("unix:")) {
        caller.role = pb::ADMINISTER;
    } else {
        caller.why = "it has no certificate";
    }
    return caller;
}

pb::Role role_for(const std::string& call, pb::Kind kind) {
    const google::protobuf::MethodDescriptor* const method = method_of(call);
    if (method == nullptr) return pb::NO_ROLE;
    const pb::Role of_call = method->options().GetExtension(pb::role);
    const google::protobuf::EnumValueDescriptor* const value = pb::Kind_descriptor()->FindValueByNumber(kind);
    if (of_call <= pb::READ || value == nullptr) return of_call;
    return std::max(of_call, value->options().GetExtension(pb::changed_by));
}

pb::Role role_for(const std::string& call, pb::Kind kind, const google::protobuf::Message& request) {
    pb::Role needed = role_for(call, kind);
    if (needed == pb::NO_ROLE) return needed;
    std::vector<const google::protobuf::FieldDescriptor*> fields;
    request.GetReflection()->ListFields(request, &fields);
    for (const auto* field : fields) needed = std::max(needed, field->options().GetExtension(pb::asked_by));
    return needed;
}

bool streams(const std::string& call) {
    const google::protobuf::MethodDescriptor* const method = method_of(call);
    return method != nullptr && method->server_streaming();
}

Subject subject_of(const pb::PutRequest& request) {
    const pb::Kind kind = kind_of(request.object());
    return {kind, joined(to_text(kind).c_str(), name_of(request.object()))};
}
Subject subject_of(const pb::Ref& request) {
    return {request.kind(), joined(to_text(request.kind()).c_str(), request.name())};
}
Subject subject_of(const pb::VmacRequest& request) {
    return {pb::KIND_NONE,
            joined("vmac_pool", request.pool()) + (request.vmac().empty() ? "" : " " + request.vmac())};
}
Subject subject_of(const pb::FlushRequest& request) {
    return {pb::KIND_NONE,
            request.port().empty() ? joined("instance", request.instance()) : joined("port", request.port())};
}
Subject subject_of(const pb::FlowsRequest& request) {
    return {pb::KIND_NONE,
            request.vport().empty() ? joined("instance", request.instance()) : joined("vport", request.vport())};
}
Subject subject_of(const pb::CaptureRequest& request) {
    return {pb::KIND_NONE, request.target()};
}

Subject subject_of(const pb::MigrateRequest& request) {
    const std::string& name = request.vport().empty() ? request.migration().vport().name() : request.vport();
    return {pb::KIND_NONE, fmt::format("{} of {}", to_text(request.step()), joined("vport", name))};
}

Result<> Gate::allowed(const Caller& caller, const char* call, const Subject& subject, pb::Role needed) {
    if (needed == pb::NO_ROLE)
        return fail(Code::unsupported, "IVDS-A013", fmt::format("the schema gives the call {} no role", call),
                    "this build is not whole: install another");
    if (caller.role >= needed) return {};
    const std::string asked = subject.text.empty() ? std::string(call) : fmt::format("{} of {}", call, subject.text);
    const std::string who = fmt::format("{} at {}", caller.who.empty() ? "the client" : caller.who, caller.from);
    const std::string uri = fmt::format("{}{}", kRoleUri, to_text(needed));
    if (caller.role == pb::NO_ROLE)
        return fail(Code::system, "IVDS-A011", fmt::format("{} may not call {}: {}", who, asked, caller.why),
                    fmt::format("use a certificate with one role as a subject alternative name, here URI:{}", uri));
    return fail(Code::system, "IVDS-A011",
                fmt::format("{} may not call {}: it has the role {}, and that needs {}", who, asked,
                            to_text(caller.role), to_text(needed)),
                fmt::format("use a certificate with the subject alternative name URI:{}", uri));
}

void Gate::note(const Caller& caller, const char* call, const Subject& subject, const Result<>& done,
                const char* good) {
    pb::AuditEntry entry;
    entry.set_who(caller.who);
    entry.set_role(caller.role);
    entry.set_from(caller.from);
    entry.set_call(call);
    entry.set_object(subject.text);
    entry.set_result(done ? good : done.error().id);
    if (!done) entry.set_text(done.error().text().substr(0, kMaxTextBytes));
    audit_.add(std::move(entry));
}

}  // namespace ivds
