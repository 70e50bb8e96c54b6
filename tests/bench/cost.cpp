// SPDX-License-Identifier: Apache-2.0
// cost.cpp -- what one run of a program costs, by BPF_PROG_TEST_RUN, without the kernel's way around it.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <ivds.skel.h>
#include <linux/bpf.h>

#include <algorithm>
#include <array>
#include <optional>

#include "bench.skel.h"
#include "forward.h"
#include "setup.h"

namespace ivds::bench {

namespace {

constexpr int tc_act_redirect = 7;
constexpr int tc_act_shot = 2;

// One program on one frame; its verdict is checked, for a frame that is dropped early costs little.
struct Subject {
    const char* name;
    int program;  // what is run: the XDP wrapper, or the TC program itself
    int wrapped;  // what the wrapper calls; -1 for TC
    Frame frame;
    std::uint32_t ifindex;
    std::uint32_t verdict;
};

double nanoseconds(const Subject& subject, int repeat) {
    std::array<std::uint8_t, 2048> out{};
    xdp_md xdp{};
    xdp.data_end = static_cast<std::uint32_t>(subject.frame.size());
    xdp.ingress_ifindex = subject.ifindex;
    __sk_buff skb{};
    skb.ifindex = subject.ifindex;
    LIBBPF_OPTS(bpf_test_run_opts, options);
    options.data_in = subject.frame.data();
    options.data_size_in = static_cast<std::uint32_t>(subject.frame.size());
    options.data_out = out.data();
    options.data_size_out = out.size();
    const bool tc = subject.wrapped < 0;
    options.ctx_in = tc ? static_cast<void*>(&skb) : &xdp;
    options.ctx_size_in = tc ? sizeof skb : sizeof xdp;
    options.repeat = repeat;
    check(bpf_prog_test_run_opts(subject.program, &options), fmt::format("test run of {}", subject.name));
    if (options.retval != subject.verdict) {
        throw Failure(fmt::format("{}: verdict {} instead of {}", subject.name, options.retval, subject.verdict));
    }
    return options.duration;
}

}  // namespace

std::vector<Row> cost_rows(const Options& options) {
    if (!options.wanted("cost")) return {};
    options.progress("cost");
    const Setup setup(Forwarder::ivds_xdp);
    const Namespace& host = setup.network().host_a;
    const Inside inside(host);
    const BenchObject tools = load_bench();
    const ivds_bpf* ivds = setup.switch_a();
    const std::uint32_t vm_port = host.ifindex("p1");
    const std::uint32_t uplink = host.ifindex("uplink");
    const std::uint32_t zero = 0;
    check(bpf_map__update_elem(tools->maps.bare_out, &zero, sizeof zero, &vm_port, sizeof vm_port, BPF_ANY),
          "set the bare redirect");
    tools->bss->bare_ifindex = vm_port;

    const int wrapper = bpf_program__fd(tools->progs.bench_cost);
    const int xdp = bpf_program__fd(ivds->progs.ivds_xdp);
    const Frame local = make_frame(Way::local, 60, Tags::none);
    const std::vector<Subject> subjects{
        {"cost-empty", wrapper, bpf_program__fd(tools->progs.bench_cost_empty), local, vm_port, XDP_DROP},
        {"cost-bare-xdp", wrapper, bpf_program__fd(tools->progs.bench_bare_xdp), local, vm_port, XDP_REDIRECT},
        {"cost-xdp-local", wrapper, xdp, local, vm_port, XDP_REDIRECT},
        {"cost-xdp-to-wire", wrapper, xdp, make_frame(Way::to_wire, 60, Tags::none), vm_port, XDP_REDIRECT},
        {"cost-xdp-from-wire", wrapper, xdp, make_frame(Way::from_wire, 60, Tags::both), uplink, XDP_REDIRECT},
        {"cost-empty-tc", bpf_program__fd(tools->progs.bench_cost_tc_empty), -1, local, vm_port, tc_act_shot},
        {"cost-bare-tc", bpf_program__fd(tools->progs.bench_bare_tc), -1, local, vm_port, tc_act_redirect},
        {"cost-tc-local", bpf_program__fd(ivds->progs.ivds_tc), -1, local, vm_port, tc_act_redirect},
    };
    std::vector<std::vector<double>> measured(subjects.size());
    const int repeat = std::max(1000, static_cast<int>(options.seconds * 1e6));
    for (int repetition = 0; repetition < options.repetitions; ++repetition) {
        for (std::size_t i = 0; i < subjects.size(); ++i) {
            const Subject& subject = subjects[i];
            if (subject.wrapped >= 0) {
                check(bpf_map__update_elem(tools->maps.subject, &zero, sizeof zero, &subject.wrapped,
                                           sizeof subject.wrapped, BPF_ANY),
                      "wrap a program");
                std::copy_n(subject.frame.begin(), sizeof tools->bss->header, std::begin(tools->bss->header));
                tools->bss->frame_bytes = static_cast<std::uint32_t>(subject.frame.size());
            }
            const Pinned pinned;
            measured[i].push_back(nanoseconds(subject, repeat));
        }
    }
    std::vector<Row> rows;
    for (std::size_t i = 0; i < subjects.size(); ++i) {
        Row row{.name = subjects[i].name,
                .value = median(measured[i]),
                .unit = "ns",
                .ratios = {},
                .bars = {},
                .note = {}};
        const std::size_t empty = subjects[i].wrapped >= 0 ? 0 : 5;
        if (i != empty)
            row.note = fmt::format("{:+.0f} ns over an empty program", row.value - median(measured[empty]));
        rows.push_back(row);
    }
    return rows;
}

}  // namespace ivds::bench
