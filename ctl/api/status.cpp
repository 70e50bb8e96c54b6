// SPDX-License-Identifier: Apache-2.0
#include "api/status.h"

#include <array>
#include <charconv>
#include <string>
#include <utility>

namespace ivds {
namespace {

// Keys that end in -bin may hold any bytes.
constexpr const char* kCodeKey = "ivds-code";
constexpr const char* kIdKey = "ivds-id";
constexpr const char* kWhatKey = "ivds-what-bin";
constexpr const char* kFixKey = "ivds-fix-bin";
constexpr const char* kErrnoKey = "ivds-errno";

constexpr std::array<std::pair<Code, const char*>, 11> kCodeNames = {{
    {Code::invalid, "invalid"},
    {Code::not_found, "not_found"},
    {Code::exists, "exists"},
    {Code::conflict, "conflict"},
    {Code::exhausted, "exhausted"},
    {Code::unsupported, "unsupported"},
    {Code::foreign, "foreign"},
    {Code::layout, "layout"},
    {Code::busy, "busy"},
    {Code::unavailable, "unavailable"},
    {Code::system, "system"},
}};

// The kind of failure behind a status that carries no kind of its own.
Code code_of(grpc::StatusCode status) {
    switch (status) {
        case grpc::StatusCode::INVALID_ARGUMENT:
        case grpc::StatusCode::OUT_OF_RANGE:
            return Code::invalid;
        case grpc::StatusCode::NOT_FOUND:
            return Code::not_found;
        case grpc::StatusCode::ALREADY_EXISTS:
            return Code::exists;
        case grpc::StatusCode::FAILED_PRECONDITION:
            return Code::conflict;
        case grpc::StatusCode::RESOURCE_EXHAUSTED:
            return Code::exhausted;
        case grpc::StatusCode::UNIMPLEMENTED:
            return Code::unsupported;
        case grpc::StatusCode::ABORTED:
            return Code::busy;
        case grpc::StatusCode::UNAVAILABLE:
        case grpc::StatusCode::DEADLINE_EXCEEDED:
        case grpc::StatusCode::CANCELLED:
            return Code::unavailable;
        default:
            return Code::system;
    }
}

}  // namespace

grpc::StatusCode grpc_code(Code code) {
    switch (code) {
        case Code::invalid:
            return grpc::StatusCode::INVALID_ARGUMENT;
        case Code::not_found:
            return grpc::StatusCode::NOT_FOUND;
        case Code::exists:
            return grpc::StatusCode::ALREADY_EXISTS;
        case Code::exhausted:
            return grpc::StatusCode::RESOURCE_EXHAUSTED;
        case Code::conflict:
        case Code::unsupported:
        case Code::foreign:
        case Code::layout:
            return grpc::StatusCode::FAILED_PRECONDITION;
        case Code::busy:
            return grpc::StatusCode::ABORTED;
        case Code::unavailable:
            return grpc::StatusCode::UNAVAILABLE;
        case Code::system:
            return grpc::StatusCode::INTERNAL;
    }
    return grpc::StatusCode::INTERNAL;
}

grpc::Status to_status(grpc::ServerContext& context, const Error& error) {
    for (const auto& [code, name] : kCodeNames)
        if (code == error.code) context.AddTrailingMetadata(kCodeKey, name);
    context.AddTrailingMetadata(kIdKey, error.id);
    context.AddTrailingMetadata(kWhatKey, error.what);
    context.AddTrailingMetadata(kFixKey, error.fix);
    if (error.os_errno != 0) context.AddTrailingMetadata(kErrnoKey, std::to_string(error.os_errno));
    return {grpc_code(error.code), error.text()};
}

Error from_status(const grpc::ClientContext& context, const grpc::Status& status) {
    const auto& metadata = context.GetServerTrailingMetadata();
    const auto get = [&](const char* key) {
        const auto found = metadata.find(key);
        return found == metadata.end() ? std::string() : std::string(found->second.data(), found->second.size());
    };
    const std::string name = get(kCodeKey);
    const std::string number = get(kErrnoKey);
    int os_errno = 0;
    std::from_chars(number.data(), number.data() + number.size(), os_errno);
    for (const auto& [code, known] : kCodeNames)
        if (name == known) return {code, get(kIdKey), get(kWhatKey), get(kFixKey), os_errno};
    return {code_of(status.error_code()), "IVDS-G001", status.error_message(), "", 0};
}

}  // namespace ivds
