// SPDX-License-Identifier: Apache-2.0
// xdp_count -- what another user of libxdp does on an interface: puts a counting XDP program there, reads its count,
// takes it off. With LIBXDP_SKIP_DISPATCHER=1 the program is alone on the hook.
//
//   xdp-count attach INTERFACE native|generic PRIORITY    prints the id of the program
//   xdp-count read ID                                     prints the frames that it has seen
//   xdp-count detach INTERFACE ID
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <net/if.h>
#include <xdp/libxdp.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "xdp_count.skel.h"

namespace {

int failed(const char* what, int err) {
    std::fprintf(stderr, "xdp-count: %s: %s\n", what, std::strerror(-err));
    return 1;
}

int attach(const std::string& netdev, const std::string& mode, unsigned priority) {
    auto* skeleton = xdp_count_bpf__open();
    if (skeleton == nullptr) {
        return failed("open", -errno);
    }
    xdp_program_opts opts{};
    opts.sz = sizeof(opts);
    opts.obj = skeleton->obj;
    opts.prog_name = "xdp_count";
    auto* program = xdp_program__create(&opts);
    if (program == nullptr) {
        return failed("create", -errno);
    }
    (void)xdp_program__set_xdp_frags_support(program, true);
    (void)xdp_program__set_run_prio(program, priority);
    const int err = xdp_program__attach(program, static_cast<int>(::if_nametoindex(netdev.c_str())),
                                        mode == "generic" ? XDP_MODE_SKB : XDP_MODE_NATIVE, 0);
    if (err != 0) {
        return failed("attach", err);
    }
    std::printf("%u\n", xdp_program__id(program));
    return 0;
}

int read(unsigned id) {
    __u32 map = 0;
    bpf_prog_info info{};
    __u32 size = sizeof(info);
    info.nr_map_ids = 1;
    info.map_ids = reinterpret_cast<std::uintptr_t>(&map);
    if (const int err = bpf_prog_get_info_by_fd(bpf_prog_get_fd_by_id(id), &info, &size); err != 0) {
        return failed("program", err);
    }
    const __u32 key = 0;
    __u64 frames = 0;
    if (const int err = bpf_map_lookup_elem(bpf_map_get_fd_by_id(map), &key, &frames); err != 0) {
        return failed("read", err);
    }
    std::printf("%llu\n", frames);
    return 0;
}

int detach(const std::string& netdev, unsigned id) {
    auto* program = xdp_program__from_id(id);
    if (libxdp_get_error(program) != 0) {
        return failed("program", -errno);
    }
    const int err =
        xdp_program__detach(program, static_cast<int>(::if_nametoindex(netdev.c_str())), XDP_MODE_UNSPEC, 0);
    return err == 0 ? 0 : failed("detach", err);
}

}  // namespace

int main(int argc, char** argv) {
    const std::vector<std::string> words(argv + 1, argv + argc);
    const auto number = [](const std::string& word) {
        return static_cast<unsigned>(std::strtoul(word.c_str(), nullptr, 10));
    };
    if (words.size() == 4 && words[0] == "attach") {
        return attach(words[1], words[2], number(words[3]));
    }
    if (words.size() == 2 && words[0] == "read") {
        return read(number(words[1]));
    }
    if (words.size() == 3 && words[0] == "detach") {
        return detach(words[1], number(words[2]));
    }
    std::fputs("usage: see the top of xdp_count.cpp\n", stderr);
    return 2;
}
