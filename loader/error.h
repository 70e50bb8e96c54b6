// SPDX-License-Identifier: Apache-2.0
// error.h -- how anything here fails: a Result that holds either the value or one Error with a cause,
// a stable id and a fix. No exceptions cross a module's border; bad_alloc may end the process.
#pragma once

#include <expected>
#include <string>
#include <utility>

namespace ivds {

// What kind of failure it is. The API maps these to gRPC status codes and the CLI to exit codes.
enum class Code {
    invalid,      // the caller's words are wrong: a flag, a file, a value out of range
    not_found,    // it names something that does not exist
    exists,       // it would create what exists, or bind what is bound
    conflict,     // it contradicts something else that is configured
    exhausted,    // a pool, table or limit is full
    unsupported,  // this kernel, driver or interface cannot do it
    foreign,      // somebody else's program or state is in the way
    layout,       // pinned maps of another layout
    busy,         // another writer holds the lock, or a resource is momentarily taken
    unavailable,  // the agent, the interface or the pins are not there
    system,       // the operating system refused; os_errno says why
};

struct Error {
    Code code = Code::system;
    std::string id;    // stable, "IVDS-…"; README and `ivds-ctl doctor` explain it
    std::string what;  // "attach native XDP on ens1f0 (ixgbe): SR-IOV is enabled on this PF"
    std::string fix;   // what the operator can do; empty if there is nothing to say
    int os_errno = 0;  // positive errno, 0 if none

    // The error as a line for people: "what: strerror [id]; fix".
    [[nodiscard]] std::string text() const;
    // The same error with "context: " before its cause.
    [[nodiscard]] Error in(const std::string& context) const&;
};

template <class T = void>
using Result = std::expected<T, Error>;

// An Error made from errno (or a library's negative errno), with its strerror in the text.
[[nodiscard]] std::unexpected<Error> os_error(int err, std::string id, std::string what, std::string fix = {});
[[nodiscard]] std::unexpected<Error> fail(Code code, std::string id, std::string what, std::string fix = {});

}  // namespace ivds
