// SPDX-License-Identifier: Apache-2.0
// agent.h -- what the rows about agents share: where one runs, and what it takes.
#pragma once

#include <grpcpp/grpcpp.h>
#include <sys/types.h>

#include <filesystem>
#include <string>

#include "ivds.grpc.pb.h"

namespace ivds::bench {

namespace pb = ivds::v1;

[[nodiscard]] double wall_seconds();

// A folder on disk, for the state that agents save, with a bpffs in it, `bpf`, that only this process and its
// children see. Gone with the scope.
class Place {
public:
    Place();
    Place(const Place&) = delete;
    Place& operator=(const Place&) = delete;
    ~Place();
    [[nodiscard]] std::string file(const std::string& name) const { return path_ / name; }

private:
    std::filesystem::path path_;
};

[[nodiscard]] double resident_megabytes(pid_t pid);

// Throws with the call's own message.
void check(const grpc::Status& status, const std::string& what);

// The end of a log, to be told with a failure.
[[nodiscard]] std::string tail(const std::string& path);

}  // namespace ivds::bench
