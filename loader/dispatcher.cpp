// SPDX-License-Identifier: Apache-2.0
// dispatcher.cpp -- libxdp's calls, and around them what version 1.3 of it leaves to do.
#include "dispatcher.h"

#include <bpf/bpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <net/if.h>
#include <sys/file.h>
#include <unistd.h>
#include <xdp/libxdp.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <optional>
#include <set>
#include <thread>

#include "fd.h"
#include "pin.h"
#include "words.h"

namespace ivds::dispatcher {
namespace {

constexpr auto kObject = "xdp-dispatcher.o";
constexpr auto kMain = "xdp_dispatcher";
constexpr auto kPass = "xdp_pass";

// What the switch redirects or drops never comes to a later program, so those that count, filter or police frames
// must be earlier: libxdp's default priority is 50, that of AF_XDP sockets 20, of xdp-filter 10. A program after ours
// sees what we pass, which is what goes on to TC and to the host.
constexpr unsigned kPriority = 80;

struct Close {
    void operator()(xdp_program* program) const { xdp_program__close(program); }
};
using Program = std::unique_ptr<xdp_program, Close>;

// libxdp 1.3 forgets to close the descriptors of the programs that it looks at, and with them the programs live on.
// Whatever program is open at the end of a call and was not before it is such a one: nobody else opens programs here,
// and what other threads open meanwhile is of another kind.
class NoLeftovers {
public:
    NoLeftovers() : before_(open_programs()) {}
    ~NoLeftovers() {
        for (const int fd : open_programs()) {
            if (!before_.contains(fd)) {
                ::close(fd);
            }
        }
    }
    NoLeftovers(const NoLeftovers&) = delete;
    NoLeftovers& operator=(const NoLeftovers&) = delete;

private:
    static std::set<int> open_programs() {
        std::set<int> fds;
        for (const auto& name : list_folder("/proc/self/fd")) {
            std::error_code error;
            if (std::filesystem::read_symlink("/proc/self/fd/" + name, error) == "anon_inode:bpf-prog") {
                fds.insert(std::atoi(name.c_str()));
            }
        }
        return fds;
    }
    std::set<int> before_;
};

// Where libxdp pins, which is also the folder that it locks.
std::string folder() {
    const char* bpffs = ::secure_getenv(XDP_BPFFS_ENVVAR);
    return fmt::format("{}/xdp", bpffs != nullptr ? bpffs : "/sys/fs/bpf");
}

struct Name {
    std::uint32_t ifindex = 0;
    std::uint32_t program = 0;
};
std::optional<Name> parse(const std::string& component) {
    constexpr std::string_view kPrefix = "dispatch-";
    if (!component.starts_with(kPrefix)) {
        return std::nullopt;
    }
    Name name;
    const char* end = component.data() + component.size();
    const auto index = std::from_chars(component.data() + kPrefix.size(), end, name.ifindex);
    if (index.ec != std::errc() || index.ptr == end || *index.ptr != '-') {
        return std::nullopt;
    }
    const auto id = std::from_chars(index.ptr + 1, end, name.program);
    return id.ec == std::errc() && id.ptr == end ? std::optional(name) : std::nullopt;
}

std::vector<Fd> components(const std::string& path) {
    std::vector<Fd> programs;
    for (const auto& pin : list_folder(path)) {
        if (pin.ends_with("-prog")) {
            if (Fd program(bpf_obj_get((path + "/" + pin).c_str())); program) {
                programs.push_back(std::move(program));
            }
        }
    }
    return programs;
}

Result<Program> of(bpf_object* object, const char* program) {
    xdp_program_opts opts{};
    opts.sz = sizeof(opts);
    opts.obj = object;
    opts.prog_name = program;
    Program out(xdp_program__create(&opts));
    if (!out) {
        return os_error(errno, "IVDS-A001", "hand the program to libxdp");
    }
    int err = xdp_program__set_run_prio(out.get(), kPriority);
    if (err == 0) {
        err = xdp_program__set_chain_call_enabled(out.get(), XDP_PASS, true);
    }
    if (err != 0) {
        return os_error(err, "IVDS-A001", "give the program its place among others");
    }
    return out;
}

int aim(bpf_program* component, const bpf_program* target) {
    int err = bpf_program__set_type(component, BPF_PROG_TYPE_EXT);
    if (err == 0) {
        err = bpf_program__set_expected_attach_type(component, bpf_attach_type{});
    }
    return err != 0 ? err
                    : bpf_program__set_attach_target(component, bpf_program__fd(target), bpf_program__name(target));
}

Result<Program> open_dispatcher(const char* program) {
    const Words words;
    xdp_program_opts opts{};
    opts.sz = sizeof(opts);
    opts.find_filename = kObject;
    opts.prog_name = program;
    Program out(xdp_program__create(&opts));
    if (!out) {
        return os_error(errno, "IVDS-A001", fmt::format("open libxdp's {}{}", kObject, words.last()),
                        "install libxdp with its BPF objects");
    }
    return out;
}

// Whether this kernel lets any program be replaced: the smallest one, by itself.
bool can_replace(const bpf_object* dispatcher) {
    const Words words;
    const auto copy = open_dispatcher(kPass);
    if (!copy) {
        return false;
    }
    bpf_object* object = xdp_program__bpf_obj(copy->get());
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, object) {
        (void)bpf_program__set_autoload(program, std::string_view(bpf_program__name(program)) == kPass);
    }
    return aim(bpf_object__find_program_by_name(object, kPass),
               bpf_object__find_program_by_name(dispatcher, kPass)) == 0 &&
           bpf_object__load(object) == 0;
}

Result<> try_out(xdp_program* program, const Words& words) {
    // Ethernet addresses and an unused type, as from the loopback interface, which is never a port.
    std::array<unsigned char, 64> frame{};
    LIBBPF_OPTS(bpf_test_run_opts, opts, .data_in = frame.data(), .data_size_in = frame.size(), .repeat = 1);
    // Of all calls of libxdp, only this one takes a program as it was loaded elsewhere together with its claim to
    // understand frames of several buffers.
    if (const int err = xdp_program__test_run(program, &opts, 0); err != 0) {
        return os_error(err, "IVDS-A001", "run a frame through libxdp's dispatcher" + words.last());
    }
    if (opts.retval != XDP_PASS) {
        return fail(Code::unsupported, "IVDS-A001",
                    fmt::format("a frame of no port came out of libxdp's dispatcher with verdict {}", opts.retval));
    }
    return {};
}

}  // namespace

ForeignProgram describe(int program) {
    ForeignProgram out;
    bpf_prog_info info{};
    __u32 size = sizeof(info);
    if (bpf_prog_get_info_by_fd(program, &info, &size) == 0) {
        out.id = info.id;
        out.name = static_cast<const char*>(info.name);
        for (const auto byte : info.tag) {
            out.tag += fmt::format("{:02x}", byte);
        }
    }
    return out;
}

void use_ours() {
    // The same place in an installed tree (sbin) and in a build tree (bin).
    std::error_code error;
    const auto self = std::filesystem::read_symlink("/proc/self/exe", error);
    const auto ours = self.parent_path().parent_path() / "lib" / "ivds";
    if (!error && exists(ours / kObject)) {
        (void)::setenv(XDP_OBJECT_ENVVAR, ours.c_str(), 0);
    }
}

// libxdp would load the program itself and then leave out the flag for frames of several buffers, as the dispatcher
// has it too. The kernel then refuses the map `tx`, which all programs must use with the same flag.
Result<> load(bpf_object* object, const char* program) {
    const Words words;
    const auto target = open_dispatcher(kMain);
    if (!target) {
        return std::unexpected(target.error());
    }
    bpf_object* dispatcher = xdp_program__bpf_obj(target->get());
    if (const int err = bpf_object__load(dispatcher); err != 0) {
        return os_error(err, "IVDS-A001", "load libxdp's dispatcher" + words.last());
    }
    auto* component = bpf_object__find_program_by_name(object, program);
    int err = aim(component, bpf_object__find_program_by_name(dispatcher, kMain));
    if (err == 0) {
        err = bpf_program__set_flags(component, BPF_F_XDP_HAS_FRAGS);
    }
    if (err == 0) {
        err = bpf_object__load(object);
    }
    if (err != 0) {
        if (!can_replace(dispatcher)) {
            return os_error(err, "IVDS-P020", "this kernel lets no BPF program be replaced (freplace)");
        }
        return os_error(err, "IVDS-A001", "load the program as a component of libxdp's dispatcher" + words.last());
    }
    return {};
}

Result<> try_out(bpf_object* object, const char* program) {
    const Words words;
    const NoLeftovers guard;
    auto component = of(object, program);
    if (!component) {
        return std::unexpected(component.error());
    }
    return try_out(component->get(), words);
}

Result<std::uint32_t> join(bpf_object* object, const char* program, std::uint32_t ifindex, bool generic) {
    const Words words;
    const NoLeftovers guard;
    auto component = of(object, program);
    if (!component) {
        return std::unexpected(component.error());
    }
    // Where this fails, libxdp would put the program on the hook alone.
    if (auto r = try_out(component->get(), words); !r) {
        return std::unexpected(r.error());
    }
    const int err =
        xdp_program__attach(component->get(), static_cast<int>(ifindex), generic ? XDP_MODE_SKB : XDP_MODE_NATIVE, 0);
    if (err != 0) {
        auto error = os_error(err, "IVDS-A001", "join libxdp's dispatcher" + words.last()).error();
        if (err == -EBUSY || err == -EEXIST) {
            error.code = Code::foreign;
            error.id = "IVDS-P012";
            error.fix =
                "detach what is on the hook by the tool that attached it, or use mode tcx; it is never replaced";
        } else if (err == -E2BIG) {
            error.code = Code::exhausted;
            error.fix = "a dispatcher takes ten programs: take one out (xdp-loader unload), or use mode tcx";
        }
        return std::unexpected(error);
    }
    return xdp_program__id(component->get());
}

Result<> leave(std::uint32_t ifindex, const std::vector<std::uint32_t>& programs) {
    const Words words;
    const NoLeftovers guard;
    std::vector<Program> open;
    std::vector<xdp_program*> list;
    for (const auto id : programs) {
        const Fd fd(bpf_prog_get_fd_by_id(id));
        Program program(fd ? xdp_program__from_fd(fd.get()) : nullptr);
        if (!program) {
            return os_error(errno, "IVDS-A002", fmt::format("open program {} of libxdp's dispatcher", id));
        }
        list.push_back(program.get());
        open.push_back(std::move(program));
    }
    LIBBPF_OPTS(bpf_xdp_query_opts, query);
    if (const int err = bpf_xdp_query(static_cast<int>(ifindex), 0, &query); err != 0) {
        return os_error(err, "IVDS-A002", fmt::format("ask for the XDP program of interface {}", ifindex));
    }
    // Named, as for a dispatcher that goes on without us libxdp would otherwise let the kernel choose the mode.
    const auto mode = query.attach_mode == XDP_ATTACHED_SKB ? XDP_MODE_SKB : XDP_MODE_NATIVE;
    if (const int err = xdp_program__detach_multi(list.data(), list.size(), static_cast<int>(ifindex), mode, 0);
        err != 0) {
        return os_error(err, "IVDS-A002",
                        fmt::format("leave libxdp's dispatcher on interface {}{}", ifindex, words.last()));
    }
    return {};
}

Dispatcher look(std::uint32_t ifindex, std::uint32_t on_hook, const IsOurs& is_ours) {
    Dispatcher dispatcher;
    const auto path = fmt::format("{}/dispatch-{}-{}", folder(), ifindex, on_hook);
    dispatcher.there = on_hook != 0 && exists(path);
    if (dispatcher.there) {
        for (const auto& program : components(path)) {
            auto description = describe(program.get());
            if (is_ours(program.get())) {
                dispatcher.ours.push_back(description.id);
            } else {
                dispatcher.others.push_back(std::move(description));
            }
        }
    }
    return dispatcher;
}

void bury(const IsOurs& is_ours, bool replaced) {
    const auto top = folder();
    const auto dead = [&](bool on_interfaces) {
        std::vector<std::string> found;
        for (const auto& component : list_folder(top)) {
            const auto name = parse(component);
            std::array<char, IF_NAMESIZE> interface{};
            if (!name || (::if_indextoname(name->ifindex, interface.data()) != nullptr) != on_interfaces) {
                continue;
            }
            __u32 on_hook = 0;
            if (on_interfaces &&
                (bpf_xdp_query_id(static_cast<int>(name->ifindex), 0, &on_hook) != 0 || on_hook == name->program)) {
                continue;
            }
            if (std::ranges::any_of(components(top + "/" + component),
                                    [&](const Fd& program) { return is_ours(program.get()); })) {
                found.push_back(component);
            }
        }
        return found;
    };
    auto list = dead(false);
    if (replaced) {
        // libxdp pins a dispatcher shortly before it puts it on the hook, and takes the old one's pins off shortly
        // after. What another process is about to do is done when it is looked at again.
        if (const auto first = dead(true); !first.empty()) {
            std::this_thread::sleep_for(std::chrono::seconds(1));
            for (auto& component : dead(true)) {
                if (std::ranges::find(first, component) != first.end()) {
                    list.push_back(std::move(component));
                }
            }
        }
    }
    const Fd lock(list.empty() ? -1 : ::open(top.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (lock && ::flock(lock.get(), LOCK_EX) == 0) {
        for (const auto& component : list) {
            (void)remove_tree(top + "/" + component);
        }
    }
}

}  // namespace ivds::dispatcher
