// SPDX-License-Identifier: Apache-2.0
#include "interrupt.h"

#include <unistd.h>

#include <csignal>
#include <string_view>

namespace ivds::cli {
namespace {

volatile std::sig_atomic_t signals_came = 0;

void on_signal(int which) {
    if (signals_came != 0) {
        std::signal(which, SIG_DFL);
        std::raise(which);
        return;
    }
    signals_came = 1;
    constexpr std::string_view kText =
        "interrupted: after this step, what still can be is taken back; once more ends it\n";
    [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kText.data(), kText.size());
}

}  // namespace

Interrupt::Interrupt() {
    signals_came = 0;
    before_int_ = std::signal(SIGINT, on_signal);
    before_term_ = std::signal(SIGTERM, on_signal);
}

Interrupt::~Interrupt() {
    std::signal(SIGINT, before_int_);
    std::signal(SIGTERM, before_term_);
}

Result<> Interrupt::none() const {
    if (signals_came == 0) return {};
    return fail(Code::system, "IVDS-U044", "interrupted, and taken back", "call it again to have it done");
}

}  // namespace ivds::cli
