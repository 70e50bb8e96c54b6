// SPDX-License-Identifier: Apache-2.0
// verifier_stats -- loads each program of the data plane and prints, as JSON, what the kernel's verifier says of it:
// instructions processed, the deepest stack, and the time it took. verifier_budget.py compares that with budget.json.
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <iterator>
#include <map>
#include <string>
#include <vector>

#include "ivds.skel.h"

namespace {

constexpr std::uint32_t log_stats = 4;  // BPF_LOG_STATS: the summary alone

// The number behind `text` in the log, 0 if it is not there.
unsigned long number_after(const std::string& log, const std::string& text) {
    const auto at = log.find(text);
    return at == std::string::npos ? 0 : std::strtoul(log.c_str() + at + text.size(), nullptr, 10);
}

// "stack depth 128+0+56": the frames of the program and its subprograms, which never all lie on one another.
unsigned long deepest_stack(const std::string& log) {
    const std::string text = "stack depth ";
    const auto at = log.find(text);
    unsigned long sum = 0;
    for (auto from = at + text.size(); at != std::string::npos && from < log.size(); ++from) {
        char* end = nullptr;
        sum += std::strtoul(log.c_str() + from, &end, 10);
        from = static_cast<std::size_t>(end - log.c_str());
        if (log[from] != '+') {
            break;
        }
    }
    return sum;
}

}  // namespace

int main() {
    if (geteuid() != 0) {
        std::puts("SKIP: loading BPF programs needs root");
        return 77;
    }
    libbpf_set_print(nullptr);
    ivds_bpf* skeleton = ivds_bpf__open();
    if (skeleton == nullptr) {
        std::perror("open the programs");
        return 1;
    }
    std::map<std::string, std::vector<char>> logs;
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, skeleton->obj) {
        auto& log = logs[bpf_program__name(program)];
        log.resize(64UL * 1024);
        bpf_program__set_log_level(program, log_stats);
        bpf_program__set_log_buf(program, log.data(), log.size());
    }
    const int error = ivds_bpf__load(skeleton);
    std::puts("{");
    for (auto at = logs.begin(); at != logs.end(); ++at) {
        const std::string log = at->second.data();
        fmt::print("  \"{}\": {{\"instructions\": {}, \"stack_bytes\": {}, \"load_us\": {}}}{}\n", at->first,
                   number_after(log, "processed "), deepest_stack(log), number_after(log, "verification time "),
                   std::next(at) == logs.end() ? "" : ",");
    }
    std::puts("}");
    ivds_bpf__destroy(skeleton);
    if (error != 0) {
        fmt::print(stderr, "load the programs: error {}\n", -error);
        return 1;
    }
    return 0;
}
