// SPDX-License-Identifier: Apache-2.0
// interrupt.h -- Ctrl-C and SIGTERM in the midst of steps that belong together: asked for between two of them.
#pragma once

#include "loader/error.h"

namespace ivds::cli {

// While one lives, the first such signal ends nothing and is remembered; a second one ends the program at once.
class Interrupt {
public:
    Interrupt();
    ~Interrupt();
    Interrupt(const Interrupt&) = delete;
    Interrupt& operator=(const Interrupt&) = delete;

    // An error once one came.
    [[nodiscard]] Result<> none() const;

private:
    void (*before_int_)(int);
    void (*before_term_)(int);
};

}  // namespace ivds::cli
