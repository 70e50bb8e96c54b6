// SPDX-License-Identifier: Apache-2.0
// error.cpp -- making errors and putting them into words.
#include "error.h"

#include <cstring>

namespace ivds {

std::string Error::text() const {
    std::string out = what;
    if (os_errno != 0) {
        out += std::string(": ") + std::strerror(os_errno);
    }
    if (!id.empty()) {
        out += " [" + id + "]";
    }
    if (!fix.empty()) {
        out += "; " + fix;
    }
    return out;
}

Error Error::in(const std::string& context) const& {
    Error outer = *this;
    outer.what = context + ": " + what;
    return outer;
}

std::unexpected<Error> os_error(int err, std::string id, std::string what, std::string fix) {
    return std::unexpected(Error{Code::system, std::move(id), std::move(what), std::move(fix), err < 0 ? -err : err});
}

std::unexpected<Error> fail(Code code, std::string id, std::string what, std::string fix) {
    return std::unexpected(Error{code, std::move(id), std::move(what), std::move(fix), 0});
}

}  // namespace ivds
