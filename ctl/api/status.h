// SPDX-License-Identifier: Apache-2.0
// status.h -- an Error on its way through gRPC. The status message is Error::text(), for any client; the parts
// (kind, id, what, fix) travel in trailing metadata, so that our own client gets the very Error back.
#pragma once

#include <grpcpp/grpcpp.h>

#include "loader/error.h"

namespace ivds {

[[nodiscard]] grpc::StatusCode grpc_code(Code code);

// For a server: the status to return; adds the metadata to `context`.
[[nodiscard]] grpc::Status to_status(grpc::ServerContext& context, const Error& error);

// For a client: the Error behind a status that is not ok. A status that did not come from ivdsd (no agent,
// deadline) becomes an Error of the nearest kind with the id "IVDS-G001"; no connection is Code::unavailable.
[[nodiscard]] Error from_status(const grpc::ClientContext& context, const grpc::Status& status);

}  // namespace ivds
