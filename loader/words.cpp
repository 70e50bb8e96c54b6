// SPDX-License-Identifier: Apache-2.0
// words.cpp -- the callbacks of libbpf and libxdp.
#include "words.h"

#include <bpf/libbpf.h>
#include <xdp/libxdp.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <utility>

namespace ivds {
namespace {

thread_local std::string* listener = nullptr;
constexpr std::size_t kWordsKept = 2000;

void keep(const char* format, va_list args) {
    if (listener == nullptr) {
        return;
    }
    std::array<char, 4096> line{};
    (void)std::vsnprintf(line.data(), line.size(), format, args);
    *listener += line.data();
    if (listener->size() > kWordsKept) {
        listener->erase(0, listener->size() - kWordsKept);
    }
}

int keep_libbpf(libbpf_print_level level, const char* format, va_list args) {
    if (level == LIBBPF_WARN) {
        keep(format, args);
    }
    return 0;
}

int keep_libxdp(libxdp_print_level level, const char* format, va_list args) {
    if (level == LIBXDP_WARN) {
        keep(format, args);
    }
    return 0;
}

}  // namespace

Words::Words() : outer_(std::exchange(listener, &words_)) {
    libbpf_set_print(keep_libbpf);
    libxdp_set_print(keep_libxdp);
}

Words::~Words() {
    listener = outer_;
}

std::string Words::last() const {
    auto line = words_;
    std::ranges::replace(line, '\n', ' ');
    while (line.ends_with(' ')) {
        line.pop_back();
    }
    return line.empty() ? "" : " (" + line + ")";
}

}  // namespace ivds
