// SPDX-License-Identifier: Apache-2.0
#include "trace.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <trace.skel.h>

#include <algorithm>
#include <mutex>
#include <utility>

#include "pin.h"

namespace ivds {
namespace {

struct Destroy {
    void operator()(trace_bpf* skeleton) const { trace_bpf__destroy(skeleton); }
};

}  // namespace

struct Tracer::Impl {
    std::unique_ptr<trace_bpf, Destroy> skeleton;
    std::mutex one_frame;  // the programs note into one map

    Result<RungTrace> run(const std::string& rung, const bpf_program* program, std::uint32_t port,
                          std::span<const std::uint8_t> frame) const {
        constexpr std::uint32_t only = 0;
        const int notes_fd = bpf_map__fd(skeleton->maps.trace);
        ivds_trace notes{};
        notes.port = port;
        if (bpf_map_update_elem(notes_fd, &only, &notes, BPF_ANY) != 0) {
            return os_error(errno, "IVDS-L060", "prepare a trace");
        }
        LIBBPF_OPTS(bpf_test_run_opts, options, .data_in = frame.data(),
                    .data_size_in = static_cast<__u32>(frame.size()), .repeat = 1);
        if (const int error = bpf_prog_test_run_opts(bpf_program__fd(program), &options); error != 0) {
            return os_error(-error, "IVDS-L061", fmt::format("run the traced {} program on the frame", rung),
                            "give a whole frame: an IP frame ends behind its IP header at the earliest");
        }
        if (bpf_map_lookup_elem(notes_fd, &only, &notes) != 0) {
            return os_error(errno, "IVDS-L060", "read a trace");
        }
        RungTrace result;
        result.rung = rung;
        const std::uint32_t kept = std::min(notes.steps, IVDS_TRACE_STEPS);
        result.steps.assign(notes.step, notes.step + kept);
        result.more_steps = notes.steps - kept;
        result.fields = notes.fields;
        return result;
    }
};

Tracer::Tracer(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Tracer::~Tracer() = default;

Result<std::unique_ptr<Tracer>> Tracer::open(const std::string& root) {
    const PinPaths paths{root};
    return over([&](const std::string& name) -> Result<Fd> {
        const std::string path = paths.map(name);
        Fd fd(bpf_obj_get(path.c_str()));
        if (!fd) {
            return os_error(errno, "IVDS-L063", "open the pinned map " + path,
                            "a trace needs a switch that is up, and the right to write its maps (root)");
        }
        return fd;
    });
}

Result<std::unique_ptr<Tracer>> Tracer::over(const std::function<Result<Fd>(const std::string&)>& map_of) {
    auto impl = std::make_unique<Impl>();
    impl->skeleton.reset(trace_bpf__open());
    if (!impl->skeleton) {
        return os_error(errno, "IVDS-L062", "open the traced programs");
    }
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, impl->skeleton->obj) {
        if (map == impl->skeleton->maps.trace || bpf_map__is_internal(map)) {
            continue;
        }
        const std::string name = bpf_map__name(map);
        const auto fd = map_of(name);
        if (!fd) {
            return std::unexpected(fd.error());
        }
        // libbpf keeps a copy of its own.
        if (const int error = bpf_map__reuse_fd(map, fd->get()); error != 0) {
            return os_error(-error, "IVDS-L063", "use the pinned map " + name,
                            "the maps are of another layout than this program's: see 'ivds-ctl doctor'");
        }
    }
    if (const int error = trace_bpf__load(impl->skeleton.get()); error != 0) {
        return os_error(-error, "IVDS-L062", "load the traced programs", "it takes the rights of root");
    }
    return std::unique_ptr<Tracer>(new Tracer(std::move(impl)));
}

Result<std::vector<RungTrace>> Tracer::trace(std::uint32_t port, std::span<const std::uint8_t> frame, bool xdp) {
    if (frame.size() < kTraceFrameMin || frame.size() > kTraceFrameMax) {
        return fail(Code::invalid, "IVDS-L064", fmt::format("a frame of {} bytes cannot be traced", frame.size()),
                    fmt::format("give {} to {} bytes, from the destination address on, without FCS", kTraceFrameMin,
                                kTraceFrameMax));
    }
    const std::lock_guard lock(impl_->one_frame);
    std::vector<RungTrace> rungs;
    const auto climbs = [](const RungTrace& rung) {
        return std::ranges::any_of(rung.steps,
                                   [](const ivds_trace_step& step) { return step.kind == IVDS_TRACE_TO_TC; });
    };
    if (xdp) {
        auto run = impl_->run("xdp", impl_->skeleton->progs.trace_xdp, port, frame);
        if (!run) {
            return std::unexpected(run.error());
        }
        rungs.push_back(std::move(*run));
        if (!climbs(rungs.back())) {
            return rungs;
        }
    }
    auto run = impl_->run("tc", impl_->skeleton->progs.trace_tc, port, frame);
    if (!run) {
        return std::unexpected(run.error());
    }
    rungs.push_back(std::move(*run));
    return rungs;
}

}  // namespace ivds
