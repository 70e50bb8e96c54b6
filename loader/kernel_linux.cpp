// SPDX-License-Identifier: Apache-2.0
// kernel_linux.cpp -- bpf(2) by libbpf, pins, links and filters.
#include "kernel_linux.h"

#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <ivds.skel.h>
#include <linux/bpf.h>
#include <linux/if_link.h>
#include <malloc.h>
#include <net/if.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "dispatcher.h"
#include "switch.h"
#include "words.h"

namespace ivds {
namespace {

// uapi that is younger than Debian 12's headers.
constexpr auto kTcxIngress = static_cast<bpf_attach_type>(46);
constexpr std::uint32_t kBefore = 1u << 3;

// Our place among clsact filters: late enough for a policer of somebody else, early enough for the rest.
constexpr std::uint32_t kClsactPriority = 0x1d5;
constexpr std::uint32_t kClsactHandle = 1;
constexpr auto kTcName = "ivds_tc";
constexpr auto kMirrorName = "ivds_mirror";
constexpr auto kXdpName = "ivds_xdp";
constexpr auto kPromiscuous = "promisc";
constexpr auto kTap = "mirror";
const std::string kTapAlias = "mirror tap of ";

Result<Skeleton> open_skeleton() {
    const Words words;
    Skeleton skeleton(ivds_bpf__open());
    if (!skeleton) {
        return os_error(errno, "IVDS-L030", "open the built-in programs" + words.last());
    }
    return skeleton;
}

MapShape shape_in(const bpf_map* map) {
    return {bpf_map__name(map),      static_cast<std::uint32_t>(bpf_map__type(map)),
            bpf_map__key_size(map),  bpf_map__value_size(map),
            bpf_map__map_flags(map), bpf_map__max_entries(map)};
}

std::vector<MapShape> shapes_in(const ivds_bpf* skeleton) {
    std::vector<MapShape> shapes;
    bpf_map* map = nullptr;
    bpf_object__for_each_map(map, skeleton->obj) {
        if (!bpf_map__is_internal(map)) {
            shapes.push_back(shape_in(map));
        }
    }
    return shapes;
}

int dup_fd(int fd) {
    return ::fcntl(fd, F_DUPFD_CLOEXEC, 3);
}

Programs programs_of(const ivds_bpf& object) {
    return {dup_fd(bpf_program__fd(object.progs.ivds_xdp)), dup_fd(bpf_program__fd(object.progs.ivds_tc)),
            dup_fd(bpf_program__fd(object.progs.ivds_mirror)), dup_fd(bpf_program__fd(object.progs.ivds_sweep))};
}

std::array<std::pair<int, const char*>, 4> by_pin(const Programs& programs) {
    return {{{programs.xdp, "xdp"}, {programs.tc, "tc"}, {programs.mirror, "mirror"}, {programs.sweep, "sweep"}}};
}

std::uint32_t link_ifindex(int fd, std::uint32_t& program) {
    bpf_link_info info{};
    __u32 size = sizeof(info);
    if (bpf_link_get_info_by_fd(fd, &info, &size) != 0) {
        return 0;
    }
    program = info.prog_id;
    // XDP and tcx links both begin their part with the interface index; 0 after it is gone.
    return info.xdp.ifindex;
}

std::string program_name(std::uint32_t id) {
    const Fd fd(bpf_prog_get_fd_by_id(id));
    return dispatcher::describe(fd.get()).name;
}

struct Filter {
    bpf_tc_hook hook{};
    bpf_tc_opts opts{};
};
Filter filter_of(std::uint32_t ifindex) {
    Filter filter;
    filter.hook.sz = sizeof(filter.hook);
    filter.hook.ifindex = static_cast<int>(ifindex);
    filter.hook.attach_point = BPF_TC_INGRESS;
    filter.opts.sz = sizeof(filter.opts);
    filter.opts.handle = kClsactHandle;
    filter.opts.priority = kClsactPriority;
    return filter;
}

const char* pin_of(Point point) {
    return is_xdp(point) ? "xdp" : "tc";
}

std::optional<bpf_map_info> ring_pinned(const std::string& path) {
    const Fd ring(bpf_obj_get(path.c_str()));
    bpf_map_info info{};
    std::uint32_t size = sizeof(info);
    if (!ring || bpf_map_get_info_by_fd(ring.get(), &info, &size) != 0) {
        return std::nullopt;
    }
    return info;
}

}  // namespace

void SkeletonFree::operator()(ivds_bpf* skeleton) const {
    ivds_bpf__destroy(skeleton);
}

const char* map_name(Map map) {
    static constexpr std::array names = {
        "meta",       "ifports",    "ports",        "port_state",   "instances",  "instance_state", "vvlans",
        "fdb",        "neighbours", "peer_rates",   "tx",           "port_stats", "nic_stats",      "instance_stats",
        "drops",      "misses",     "acls",         "acl_masks",    "acl_rules",  "rule_stats",     "flows",
        "pools",      "mirrors",    "mirror_state", "mirror_stats", "captures",   "capture_room",   "recents",
        "inspectors", "scratch",    "events"};
    static_assert(names.size() == kMapCount);
    return names[static_cast<std::size_t>(map)];
}

std::string to_string(Point point) {
    switch (point) {
        case Point::native:
            return "native";
        case Point::generic:
            return "generic";
        case Point::tcx:
            return "tcx";
        case Point::clsact:
            return "clsact";
        case Point::shared_native:
            return "native-libxdp";
        case Point::shared_generic:
            return "generic-libxdp";
    }
    return "none";
}

std::string Hooks::got() const {
    if (!tc) {
        return xdp ? to_string(*xdp) : "none";
    }
    return xdp ? to_string(*xdp) + "+" + to_string(*tc) : to_string(*tc);
}

Result<std::vector<MapShape>> built_in_layout() {
    auto skeleton = open_skeleton();
    if (!skeleton) {
        return std::unexpected(skeleton.error());
    }
    return shapes_in(skeleton->get());
}

const std::string& built_in_build() {
    static const std::string build = [] {
        std::size_t size = 0;
        const auto* bytes = static_cast<const unsigned char*>(ivds_bpf__elf_bytes(&size));
        return fmt::format(IVDS_VERSION "+{:08x}", static_cast<std::uint32_t>(::crc32_z(0, bytes, size)));
    }();
    return build;
}

// ------------------------------------------------------------------ open

Result<std::unique_ptr<LinuxKernel>> LinuxKernel::open(const std::string& root) {
    auto query = NetdevQuery::open();
    if (!query) {
        return std::unexpected(query.error());
    }
    dispatcher::use_ours();
    std::unique_ptr<LinuxKernel> kernel(new LinuxKernel(PinPaths{root}, std::move(*query)));
    if (auto r = make_root(root); !r) {
        return std::unexpected(r.error());
    }
    if (auto r = kernel->lock(); !r) {
        return std::unexpected(r.error());
    }
    // What a crash left half made was never in use.
    if (auto r = remove_tree(kernel->paths_.fresh()); !r) {
        return std::unexpected(r.error());
    }
    auto r = exists(kernel->paths_.top()) ? kernel->adopt_pinned() : kernel->make();
    if (!r) {
        return std::unexpected(r.error());
    }
    if (r = kernel->open_state(); !r) {
        return std::unexpected(r.error());
    }
    ::malloc_trim(0);  // libbpf's working memory of a load is much and not needed again
    return kernel;
}

Result<std::unique_ptr<LinuxKernel>> LinuxKernel::look(const std::string& root) {
    auto query = NetdevQuery::open();
    if (!query) {
        return std::unexpected(query.error());
    }
    dispatcher::use_ours();
    std::unique_ptr<LinuxKernel> kernel(new LinuxKernel(PinPaths{root}, std::move(*query)));
    kernel->looking_ = true;
    if (exists(kernel->paths_.top())) {
        if (auto r = kernel->open_pinned(BPF_F_RDONLY); !r) {
            return std::unexpected(r.error());
        }
    }
    return kernel;
}

LinuxKernel::~LinuxKernel() {
    hurry(false);
    unload(current_);
    if (port_state_ != nullptr) {
        ::munmap(port_state_, sizeof(ivds_port_state) * IVDS_MAX_PORTS);
    }
    if (instance_state_ != nullptr) {
        ::munmap(instance_state_, sizeof(ivds_instance_state) * IVDS_MAX_INSTANCES);
    }
}

// The lock is on the folder ROOT itself, so that whoever means the same pins means the same lock.
Result<> LinuxKernel::lock() {
    lock_.reset(::open(paths_.root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (!lock_) {
        return os_error(errno, "IVDS-L001", "open the pin root " + paths_.root);
    }
    if (::flock(lock_.get(), LOCK_EX | LOCK_NB) != 0) {
        if (errno == EWOULDBLOCK) {
            return fail(Code::busy, "IVDS-L005", "another process is the writer of " + paths_.root,
                        "that is the agent, as a rule: use ivds-ctl, or stop it first");
        }
        return os_error(errno, "IVDS-L005", "lock the pin root " + paths_.root);
    }
    return {};
}

Result<> LinuxKernel::make() {
    auto skeleton = open_skeleton();
    if (!skeleton) {
        return std::unexpected(skeleton.error());
    }
    {
        const Words words;
        if (const int err = ivds_bpf__load(skeleton->get()); err != 0) {
            return os_error(err, "IVDS-L031", "load the built-in programs" + words.last(),
                            "run as root with CAP_BPF and CAP_NET_ADMIN on Linux 5.15 or newer");
        }
    }
    const auto& object = **skeleton;
    current_ = programs_of(object);
    running_ = built_in_build();

    const PinPaths fresh{paths_.root};
    const auto base = fresh.fresh();
    const auto programs = base + "/progs/" + escape_pin(running_);
    for (const auto& folder : {base, base + "/maps", base + "/links", base + "/progs", programs}) {
        if (auto r = make_folder(folder); !r) {
            return r;
        }
    }
    const auto pin = [](int fd, const std::string& path) -> Result<> {
        if (const int err = bpf_obj_pin(fd, path.c_str()); err != 0) {
            return os_error(err, "IVDS-L004", "pin " + path);
        }
        return {};
    };
    for (std::size_t i = 0; i < kMapCount; ++i) {
        const auto* name = map_name(static_cast<Map>(i));
        const auto* map = bpf_object__find_map_by_name(object.obj, name);
        if (map == nullptr) {
            return fail(Code::layout, "IVDS-L010", fmt::format("the built-in programs have no map {}", name));
        }
        maps_[i].reset(dup_fd(bpf_map__fd(map)));
        shapes_[i] = shape_in(map);
        if (auto r = pin(maps_[i].get(), base + "/maps/" + name); !r) {
            return r;
        }
    }
    for (const auto& [fd, name] : by_pin(current_)) {
        if (auto r = pin(fd, programs + "/" + name); !r) {
            return r;
        }
    }
    ivds_meta meta{};
    meta.layout_major = IVDS_LAYOUT_MAJOR;
    meta.layout_minor = IVDS_LAYOUT_MINOR;
    meta.layout_digest = layout_digest(shapes_in(skeleton->get()));
    std::memcpy(meta.build, running_.data(), std::min(running_.size(), sizeof(meta.build) - 1));
    const std::uint32_t zero = 0;
    for (const std::uint32_t magic : {0u, IVDS_MAGIC}) {
        meta.magic = magic;
        if (auto r = put(Map::meta, &zero, &meta); !r) {
            return r;
        }
    }
    restrict_access(base);
    return rename_pin(base, paths_.top());
}

// Opens the pinned maps if they are what this build knows.
Result<> LinuxKernel::open_pinned(std::uint32_t file_flags) {
    auto built_in = built_in_layout();
    if (!built_in) {
        return std::unexpected(built_in.error());
    }
    std::vector<MapShape> pinned;
    for (std::size_t i = 0; i < kMapCount; ++i) {
        const std::string name = map_name(static_cast<Map>(i));
        LIBBPF_OPTS(bpf_obj_get_opts, opts, .file_flags = file_flags);
        maps_[i].reset(bpf_obj_get_opts(paths_.map(name).c_str(), &opts));
        if (!maps_[i]) {
            if (errno == ENOENT) {
                continue;  // the comparison of layouts says so
            }
            return os_error(errno, "IVDS-L006", "open the pinned map " + paths_.map(name));
        }
        auto shape = shape_of(maps_[i].get(), name);
        if (!shape) {
            return std::unexpected(shape.error());
        }
        shapes_[i] = *shape;
        pinned.push_back(*shape);
    }
    if (auto r = same_layout(pinned, *built_in, paths_.maps()); !r) {
        return r;
    }
    ivds_meta meta{};
    const std::uint32_t zero = 0;
    if (auto r = lookup(Map::meta, &zero, &meta); !r) {
        return std::unexpected(r.error());
    }
    if (meta.magic != IVDS_MAGIC || meta.layout_major != IVDS_LAYOUT_MAJOR) {
        return fail(
            Code::layout, "IVDS-L010",
            fmt::format("the maps pinned under {} are of layout {}.{} (magic {:#x}), this build has {}.{} (magic "
                        "{:#x})",
                        paths_.maps(), meta.layout_major, meta.layout_minor, meta.magic, IVDS_LAYOUT_MAJOR,
                        IVDS_LAYOUT_MINOR, IVDS_MAGIC),
            "run the build that made them, or remove them with its `ivds-loader down` and apply anew");
    }
    running_ = std::string(reinterpret_cast<const char*>(meta.build),
                           ::strnlen(reinterpret_cast<const char*>(meta.build), sizeof(meta.build)));
    return {};
}

Result<> LinuxKernel::adopt_pinned() {
    if (auto r = open_pinned(0); !r) {
        return r;
    }
    const auto folder = paths_.programs(running_);
    const auto get = [&](const char* name) { return bpf_obj_get((folder + "/" + name).c_str()); };
    current_ = {get("xdp"), get("tc"), get("mirror"), get("sweep")};
    if (current_.xdp >= 0 && current_.tc >= 0 && current_.mirror >= 0 && current_.sweep >= 0) {
        unpin_next();
        return {};
    }
    // A crash in the middle of an upgrade. Which programs the hooks run is not known, so that the next upgrade
    // goes over all of them; until then new hooks get this build's programs.
    unload(current_);
    auto programs = load();
    if (!programs) {
        return std::unexpected(programs.error());
    }
    if (auto r = pin_next(*programs); !r) {
        unload(*programs);
        return r;
    }
    if (auto r = adopt(*programs); !r) {
        unload(*programs);
        return r;
    }
    running_.clear();
    return {};
}

Result<> LinuxKernel::open_state() {
    const auto map = [&](Map which, std::size_t size) {
        return ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, map_fd(which), 0);
    };
    void* ports = map(Map::port_state, sizeof(ivds_port_state) * IVDS_MAX_PORTS);
    if (ports == MAP_FAILED) {
        return os_error(errno, "IVDS-L006", "map port_state into memory");
    }
    port_state_ = static_cast<ivds_port_state*>(ports);
    void* instances = map(Map::instance_state, sizeof(ivds_instance_state) * IVDS_MAX_INSTANCES);
    if (instances == MAP_FAILED) {
        return os_error(errno, "IVDS-L006", "map instance_state into memory");
    }
    instance_state_ = static_cast<ivds_instance_state*>(instances);
    return {};
}

// ------------------------------------------------------------------ maps

Result<bool> LinuxKernel::lookup(Map map, const void* key, void* value) {
    if (const int err = bpf_map_lookup_elem(map_fd(map), key, value); err != 0) {
        if (err == -ENOENT) {
            return false;
        }
        return os_error(err, "IVDS-M001", fmt::format("read the map {}", map_name(map)));
    }
    return true;
}

Result<> LinuxKernel::put(Map map, const void* key, const void* value) {
    if (const int err = bpf_map_update_elem(map_fd(map), key, value, BPF_ANY); err != 0) {
        return os_error(err, "IVDS-M002", fmt::format("write the map {}", map_name(map)));
    }
    return {};
}

Result<bool> LinuxKernel::put_new(Map map, const void* key, const void* value) {
    if (const int err = bpf_map_update_elem(map_fd(map), key, value, BPF_NOEXIST); err != 0) {
        if (err == -EEXIST) {
            return false;
        }
        return os_error(err, "IVDS-M002", fmt::format("write the map {}", map_name(map)));
    }
    return true;
}

Result<bool> LinuxKernel::take(Map map, const void* key, void* value) {
    if (const int err = bpf_map_lookup_and_delete_elem(map_fd(map), key, value); err != 0) {
        if (err == -ENOENT) {
            return false;
        }
        return os_error(err, "IVDS-M003", fmt::format("take from the map {}", map_name(map)));
    }
    return true;
}

Result<> LinuxKernel::erase(Map map, const void* key) {
    if (const int err = bpf_map_delete_elem(map_fd(map), key); err != 0 && err != -ENOENT) {
        return os_error(err, "IVDS-M003", fmt::format("delete from the map {}", map_name(map)));
    }
    return {};
}

Result<> each_of_map(int fd, const MapShape& shape, std::size_t value_size,
                     const std::function<void(const void*, const void*)>& sink) {
    constexpr std::uint32_t kBatch = 4096;
    std::vector<std::uint64_t> keys(kBatch * shape.key_size / 8 + 1);
    std::vector<std::uint64_t> values(kBatch * value_size / 8 + 1);
    std::array<std::uint64_t, 8> position{};  // the kernel's, at least as large as a key
    bool started = false;
    for (;;) {
        std::uint32_t count = kBatch;
        const int err = bpf_map_lookup_batch(fd, started ? position.data() : nullptr, position.data(), keys.data(),
                                             values.data(), &count, nullptr);
        if (err != 0 && err != -ENOENT) {
            return os_error(err, "IVDS-M001", "read the map " + shape.name);
        }
        for (std::uint32_t i = 0; i < count; ++i) {
            sink(reinterpret_cast<const char*>(keys.data()) + std::size_t{i} * shape.key_size,
                 reinterpret_cast<const char*>(values.data()) + i * value_size);
        }
        if (err != 0) {
            return {};
        }
        started = true;
    }
}

Result<> LinuxKernel::each(Map map, const std::function<void(const void*, const void*)>& sink) {
    const auto& shape = shapes_[static_cast<std::size_t>(map)];
    return each_of_map(map_fd(map), shape, shape.value_size, sink);
}

namespace {

// Counts never go below zero, whatever raced.
void add_clamped(std::uint32_t& count, int by) {
    std::uint32_t now = __atomic_load_n(&count, __ATOMIC_RELAXED);
    std::uint32_t then = 0;
    do {
        const std::int64_t sum = static_cast<std::int64_t>(now) + by;
        then = sum < 0 ? 0 : static_cast<std::uint32_t>(sum);
    } while (!__atomic_compare_exchange_n(&count, &now, then, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
}

}  // namespace

void LinuxKernel::learned(std::uint32_t port, std::uint32_t instance, int by) {
    if (port < IVDS_MAX_PORTS) {
        add_clamped(port_state_[port].learned, by);
    }
    if (instance < IVDS_MAX_INSTANCES) {
        add_clamped(instance_state_[instance].learned, by);
    }
}

void LinuxKernel::count_flows(std::uint32_t port, int by) {
    if (port < IVDS_MAX_PORTS) {
        add_clamped(port_state_[port].flows, by);
    }
}

Result<> LinuxKernel::set_port_stats(std::uint32_t port, const ivds_port_stats& stats) {
    // Readers sum over CPUs: it may be any CPU's.
    std::vector<ivds_port_stats> all(static_cast<std::size_t>(libbpf_num_possible_cpus()));
    all.front() = stats;
    return put(Map::port_stats, &port, all.data());
}

bool LinuxKernel::has_learned(std::uint32_t port, std::uint32_t instance) {
    if (port == 0) {
        return __atomic_load_n(&instance_state_[instance].learned, __ATOMIC_RELAXED) != 0;
    }
    return __atomic_load_n(&port_state_[port].learned, __ATOMIC_RELAXED) != 0 ||
           __atomic_load_n(&port_state_[port].flows, __ATOMIC_RELAXED) != 0;
}

Result<> LinuxKernel::zero(Map map, std::uint32_t key) {
    const auto size = (shapes_[static_cast<std::size_t>(map)].value_size + 7u) / 8u;
    const std::vector<std::uint64_t> zeros(size * static_cast<std::size_t>(libbpf_num_possible_cpus()));
    return put(map, &key, zeros.data());
}

void LinuxKernel::forget_port(std::uint32_t port) {
    (void)zero(Map::port_stats, port);
    for (std::uint32_t reason = 1; reason < IVDS_DROP_MAX; ++reason) {
        const ivds_drop_key key{port, reason};
        (void)erase(Map::drops, &key);
    }
    (void)erase(Map::inspectors, &port);
    (void)erase(Map::nic_stats, &port);
    // Never what it was: what a CPU knows of the flows of the port before shall not hold for the next one of the id.
    const std::uint32_t epoch = port_state_[port].flow_epoch + 1;
    port_state_[port] = {};
    port_state_[port].flow_epoch = epoch;
}

void LinuxKernel::forget_instance(std::uint32_t instance) {
    (void)zero(Map::instance_stats, instance);
    instance_state_[instance] = {};
}

void LinuxKernel::forget_rules(const std::set<std::uint32_t>& rules) {
    for (const std::uint32_t rule : rules) {
        (void)erase(Map::rule_stats, &rule);
    }
}

void LinuxKernel::forget_mirror(std::uint32_t session) {
    (void)zero(Map::mirror_stats, session);
    const ivds_mirror_state none{};
    (void)put(Map::mirror_state, &session, &none);
    (void)erase(Map::captures, &session);
}

Result<Fd> LinuxKernel::make_ring(std::uint32_t session, std::uint32_t bytes) {
    Fd ring(bpf_map_create(BPF_MAP_TYPE_RINGBUF, "ivds_capture", 0, 0, bytes, nullptr));
    if (!ring) {
        return os_error(errno, "IVDS-L007", "make a ring for captured frames");
    }
    const int fd = ring.get();
    if (auto r = put(Map::captures, &session, &fd); !r) {
        return std::unexpected(r.error());
    }
    return ring;
}

Result<> LinuxKernel::keep_ring(std::uint32_t session, const std::string& name, std::uint32_t bytes) {
    const auto path = paths_.ring(name);
    // Of a map of maps the kernel tells ids.
    std::uint32_t id = 0;
    auto known = lookup(Map::captures, &session, &id);
    if (!known) {
        return std::unexpected(known.error());
    }
    const auto pinned = ring_pinned(path);
    if (pinned && pinned->max_entries == bytes) {
        if (*known && pinned->id == id) {
            return {};
        }
        const Fd ring(bpf_obj_get(path.c_str()));
        const int fd = ring.get();
        return put(Map::captures, &session, &fd);
    }
    auto ring = make_ring(session, bytes);
    if (!ring) {
        return std::unexpected(ring.error());
    }
    if (auto r = make_folder(paths_.rings()); !r) {
        return r;
    }
    if (auto r = remove_pin(path); !r) {
        return r;
    }
    if (const int err = bpf_obj_pin(ring->get(), path.c_str()); err != 0) {
        return os_error(err, "IVDS-L004", "pin " + path);
    }
    restrict_access(paths_.rings());
    for (const auto& each : list_folder(paths_.rings())) {
        allow_writing(paths_.rings() + "/" + each);
    }
    return {};
}

void LinuxKernel::forget_rings(const std::set<std::string>& but) {
    for (const auto& component : list_folder(paths_.rings())) {
        const auto name = unescape_pin(component);
        if (name && but.contains(*name)) {
            continue;
        }
        const auto path = paths_.rings() + "/" + component;
        const auto pinned = ring_pinned(path);
        for (std::uint32_t session = 0; pinned && session < IVDS_MAX_MIRRORS; ++session) {
            std::uint32_t id = 0;
            const auto known = lookup(Map::captures, &session, &id);
            if (known && *known && id == pinned->id) {
                (void)erase(Map::captures, &session);
            }
        }
        (void)remove_pin(path);
    }
}

Result<Swept> LinuxKernel::sweep(std::uint32_t port, std::uint32_t instance, ivds_sweep_only only) {
    ivds_sweep args{};
    args.now_s = coarse_now_s();
    args.port = port;
    args.instance = instance;
    args.only = only;
    LIBBPF_OPTS(bpf_test_run_opts, opts, .ctx_in = &args, .ctx_size_in = sizeof(args));
    if (const int err = bpf_prog_test_run_opts(current_.sweep, &opts); err != 0) {
        return os_error(err, "IVDS-M004", "run the sweep over the FDB and the flow table");
    }
    return Swept{args.removed, args.removed_flows};
}

// ------------------------------------------------------------------ programs

Result<> LinuxKernel::reuse_maps(bpf_object* object) const {
    for (std::size_t i = 0; i < kMapCount; ++i) {
        auto* map = bpf_object__find_map_by_name(object, map_name(static_cast<Map>(i)));
        if (map == nullptr || bpf_map__reuse_fd(map, maps_[i].get()) != 0) {
            return fail(Code::layout, "IVDS-L010",
                        fmt::format("the pinned map {} cannot be reused", map_name(static_cast<Map>(i))));
        }
    }
    return {};
}

Result<Programs> LinuxKernel::load() {
    auto skeleton = open_skeleton();
    if (!skeleton) {
        return std::unexpected(skeleton.error());
    }
    const auto& object = **skeleton;
    if (auto r = reuse_maps(object.obj); !r) {
        return std::unexpected(r.error());
    }
    const Words words;
    if (const int err = ivds_bpf__load(skeleton->get()); err != 0) {
        return os_error(err, "IVDS-L031", "load the built-in programs over the pinned maps" + words.last());
    }
    return programs_of(object);
}

void LinuxKernel::unload(const Programs& programs) {
    for (const auto& [fd, name] : by_pin(programs)) {
        close_program(fd);
    }
}

void LinuxKernel::close_program(int program) {
    if (program >= 0) {
        ::close(program);
    }
}

Result<> LinuxKernel::pin_next(const Programs& programs) {
    unpin_next();
    const auto folder = paths_.programs() + "/next";
    if (auto r = make_folder(folder); !r) {
        return r;
    }
    for (const auto& [fd, name] : by_pin(programs)) {
        if (const int err = bpf_obj_pin(fd, (folder + "/" + name).c_str()); err != 0) {
            unpin_next();
            return os_error(err, "IVDS-L004", "pin " + folder + "/" + name);
        }
    }
    restrict_access(folder);
    return {};
}

void LinuxKernel::unpin_next() {
    (void)remove_tree(paths_.programs() + "/next");
}

Result<> LinuxKernel::adopt(const Programs& programs) {
    const auto folder = paths_.programs(built_in_build());
    for (const auto& name : list_folder(paths_.programs())) {
        if (name != "next") {
            if (auto r = remove_tree(paths_.programs() + "/" + name); !r) {
                return r;
            }
        }
    }
    if (auto r = rename_pin(paths_.programs() + "/next", folder); !r) {
        return r;
    }
    unload(current_);
    current_ = programs;
    running_ = built_in_build();
    return {};
}

// ------------------------------------------------------------------ hooks

std::string LinuxKernel::link_path(std::uint32_t ifindex, const std::string& netdev, Point point) const {
    return paths_.link(ifindex, netdev) + "/" + pin_of(point);
}

// The kernel waits 10 to 30 ms for a grace period at each tcx attach; expedited ones take well under one, at
// the price of interrupts on all CPUs meanwhile. Where somebody set it, or /sys is read-only, it stays as it is.
void LinuxKernel::hurry(bool on) {
    constexpr auto kKnob = "/sys/kernel/rcu_expedited";
    if (on == hurried_) {
        return;
    }
    const Fd knob(::open(kKnob, O_RDWR | O_CLOEXEC));
    char now = 0;
    if (knob && ::pread(knob.get(), &now, 1, 0) == 1 && now == (on ? '0' : '1') &&
        ::pwrite(knob.get(), on ? "1" : "0", 1, 0) == 1) {
        hurried_ = on;
    }
}

Result<int> LinuxKernel::link_create(const Netdev& netdev, Point point, int program) {
    LIBBPF_OPTS(bpf_link_create_opts, opts);
    if (is_xdp(point)) {
        opts.flags = point == Point::native ? XDP_FLAGS_DRV_MODE : XDP_FLAGS_SKB_MODE;
    } else {
        opts.flags = kBefore;  // with no anchor: before all that is there
    }
    const int fd =
        bpf_link_create(program, static_cast<int>(netdev.ifindex), is_xdp(point) ? BPF_XDP : kTcxIngress, &opts);
    if (fd < 0) {
        if (fd == -EBUSY && is_xdp(point)) {
            return fail(
                Code::foreign, "IVDS-P012",
                fmt::format("attach {} XDP on {}: another program is on the hook", to_string(point), netdev.name),
                "detach it by the tool that attached it, or use mode tcx; it is never replaced");
        }
        return os_error(fd, "IVDS-A001", fmt::format("attach {} on {}", to_string(point), netdev.name));
    }
    return fd;
}

Result<> LinuxKernel::link_pin(int link, const Netdev& netdev, Point point) {
    const auto folder = paths_.link(netdev.ifindex, netdev.name);
    if (auto r = make_folder(folder); !r) {
        return r;
    }
    const auto path = link_path(netdev.ifindex, netdev.name, point);
    // A pin in the way is of a link that is dead, or it would be among the adopted hooks. The tc pin of a switch
    // between tcx and clsact is removed before the next is made.
    int err = bpf_obj_pin(link, path.c_str());
    if (err == -EEXIST) {
        if (auto r = remove_pin(path); !r) {
            return r;
        }
        err = bpf_obj_pin(link, path.c_str());
    }
    if (err != 0) {
        (void)::rmdir(folder.c_str());
        return os_error(err, "IVDS-L004", "pin " + path);
    }
    restrict_access(folder);
    return {};
}

void LinuxKernel::link_close(int link) {
    ::close(link);
}

Result<> LinuxKernel::link_remove(std::uint32_t ifindex, const std::string& netdev, Point point) {
    const auto path = link_path(ifindex, netdev, point);
    const Fd link(bpf_obj_get(path.c_str()));
    if (link) {
        // Detached here and now; the last reference alone would do it some time later.
        const int err = bpf_link_detach(link.get());
        std::uint32_t program = 0;
        if (err != 0 && link_ifindex(link.get(), program) != 0) {
            return os_error(err, "IVDS-A002", fmt::format("detach {} from {}", to_string(point), netdev));
        }
    } else if (errno != ENOENT) {
        return os_error(errno, "IVDS-L006", "open the pin " + path);
    }
    if (auto r = remove_pin(path); !r) {
        return r;
    }
    (void)::rmdir(paths_.link(ifindex, netdev).c_str());
    return {};
}

namespace {

Result<int> swap_filter(std::uint32_t ifindex, const std::string& netdev, int program) {
    auto filter = filter_of(ifindex);
    if (const int err = bpf_tc_query(&filter.hook, &filter.opts); err != 0) {
        return os_error(err, "IVDS-A003", "find our clsact filter on " + netdev);
    }
    Fd old(bpf_prog_get_fd_by_id(filter.opts.prog_id));
    if (!old) {
        return os_error(errno, "IVDS-A003", "open the running program of " + netdev);
    }
    auto next = filter_of(ifindex);
    next.opts.prog_fd = program;
    next.opts.flags = BPF_TC_F_REPLACE;
    if (const int err = bpf_tc_attach(&next.hook, &next.opts); err != 0) {
        return os_error(err, "IVDS-A003", "replace our clsact filter on " + netdev);
    }
    return old.release();
}

Result<int> swap_link(const std::string& path, const std::string& netdev, int program) {
    const Fd link(bpf_obj_get(path.c_str()));
    if (!link) {
        return os_error(errno, "IVDS-L006", "open the pin " + path);
    }
    std::uint32_t id = 0;
    if (link_ifindex(link.get(), id) == 0) {
        return os_error(ENOLINK, "IVDS-A003", "update the link of " + netdev);
    }
    Fd old(bpf_prog_get_fd_by_id(id));
    if (!old) {
        return os_error(errno, "IVDS-A003", "open the running program of " + netdev);
    }
    // With the old program named the kernel refuses if somebody else was faster.
    LIBBPF_OPTS(bpf_link_update_opts, opts, .flags = BPF_F_REPLACE, .old_prog_fd = static_cast<__u32>(old.get()));
    if (const int err = bpf_link_update(link.get(), program, &opts); err != 0) {
        return os_error(err, "IVDS-A003", fmt::format("update the link of {}", netdev));
    }
    return old.release();
}

// Our filter, with the program of this name.
Result<> clsact_put(const Netdev& netdev, int program, std::string_view expected) {
    auto filter = filter_of(netdev.ifindex);
    const Words words;
    if (const int err = bpf_tc_hook_create(&filter.hook); err != 0 && err != -EEXIST) {
        return os_error(err, "IVDS-A001", "add a clsact qdisc to " + netdev.name);
    }
    if (bpf_tc_query(&filter.hook, &filter.opts) == 0) {
        const auto name = program_name(filter.opts.prog_id);
        if (name != expected) {
            return fail(Code::foreign, "IVDS-P019",
                        fmt::format("the clsact filter with our priority {} on {} is somebody else's: id {}, {}",
                                    kClsactPriority, netdev.name, filter.opts.prog_id, name),
                        "remove it by the tool that made it, or use mode tcx");
        }
    }
    auto ours = filter_of(netdev.ifindex);
    ours.opts.prog_fd = program;
    ours.opts.flags = BPF_TC_F_REPLACE;
    if (const int err = bpf_tc_attach(&ours.hook, &ours.opts); err != 0) {
        return os_error(err, "IVDS-A001", "attach clsact on " + netdev.name);
    }
    return {};
}

}  // namespace

Result<int> LinuxKernel::swap(std::uint32_t ifindex, const std::string& netdev, Point point, int program) {
    return point == Point::clsact ? swap_filter(ifindex, netdev, program)
                                  : swap_link(link_path(ifindex, netdev, point), netdev, program);
}

// Our program as a component of libxdp's dispatcher, loaded over the same maps. Each dispatcher gets one of its own.
Result<Skeleton> LinuxKernel::load_component() const {
    auto skeleton = open_skeleton();
    if (!skeleton) {
        return std::unexpected(skeleton.error());
    }
    const auto& object = **skeleton;
    if (pinned()) {
        if (auto r = reuse_maps(object.obj); !r) {
            return std::unexpected(r.error());
        }
    }
    bpf_program* program = nullptr;
    bpf_object__for_each_program(program, object.obj) {
        (void)bpf_program__set_autoload(program, program == object.progs.ivds_xdp);
    }
    object.rodata->in_dispatcher = 1;
    if (auto r = dispatcher::load(object.obj, kXdpName); !r) {
        return std::unexpected(r.error());
    }
    return skeleton;
}

Result<> LinuxKernel::can_share() {
    if (!can_share_) {
        const auto component = load_component();
        can_share_ =
            component ? dispatcher::try_out((*component)->obj, kXdpName) : std::unexpected(component.error());
    }
    return *can_share_;
}

// By name, and by a map that no other switch has. A link pin would tell nothing: libxdp makes the links anew whenever
// a program comes or goes.
bool LinuxKernel::is_ours(int program) const {
    std::array<__u32, 64> maps{};
    bpf_prog_info info{};
    __u32 size = sizeof(info);
    info.nr_map_ids = maps.size();
    info.map_ids = reinterpret_cast<std::uintptr_t>(maps.data());
    if (bpf_prog_get_info_by_fd(program, &info, &size) != 0 ||
        std::string_view(static_cast<const char*>(info.name)) != kXdpName) {
        return false;
    }
    bpf_map_info map{};
    size = sizeof(map);
    return pinned() && bpf_map_get_info_by_fd(map_fd(Map::ports), &map, &size) == 0 &&
           std::ranges::find(maps, map.id) != maps.end();
}

Dispatcher LinuxKernel::dispatcher(std::uint32_t ifindex) {
    __u32 on_hook = 0;
    if (bpf_xdp_query_id(static_cast<int>(ifindex), 0, &on_hook) != 0) {
        return {};
    }
    return dispatcher::look(ifindex, on_hook, [this](int program) { return is_ours(program); });
}

Result<std::uint32_t> LinuxKernel::join(std::uint32_t ifindex, const std::string& netdev, Point point) {
    const auto component = load_component();
    if (!component) {
        return std::unexpected(component.error());
    }
    auto id = dispatcher::join((*component)->obj, kXdpName, ifindex, point == Point::shared_generic);
    if (!id) {
        return std::unexpected(id.error().in(fmt::format("attach {} XDP on {}", to_string(point), netdev)));
    }
    return id;
}

Result<> LinuxKernel::leave(std::uint32_t ifindex, const std::string& netdev,
                            const std::vector<std::uint32_t>& programs) {
    auto there = dispatcher(ifindex).ours;
    if (!programs.empty()) {
        std::erase_if(there, [&](auto id) { return std::ranges::find(programs, id) == programs.end(); });
    }
    if (!there.empty()) {
        auto r = dispatcher::leave(ifindex, there);
        return r ? r : std::unexpected(r.error().in("detach XDP from " + netdev));
    }
    dispatcher::bury([this](int program) { return is_ours(program); }, false);
    return {};
}

Result<> LinuxKernel::clsact_attach(const Netdev& netdev, int program) {
    return clsact_put(netdev, program, kTcName);
}

Result<> LinuxKernel::clsact_detach(std::uint32_t ifindex) {
    if (!clsact_ours(ifindex)) {
        return {};
    }
    auto filter = filter_of(ifindex);
    const Words words;
    if (const int err = bpf_tc_detach(&filter.hook, &filter.opts); err != 0 && err != -ENOENT && err != -ENODEV) {
        return os_error(err, "IVDS-A002", fmt::format("detach clsact from interface {}", ifindex));
    }
    return {};
}

bool LinuxKernel::clsact_ours(std::uint32_t ifindex) {
    auto filter = filter_of(ifindex);
    const Words words;
    return bpf_tc_query(&filter.hook, &filter.opts) == 0 && program_name(filter.opts.prog_id) == kTcName;
}

Result<std::map<std::uint32_t, Hooks>> LinuxKernel::hooks() {
    std::map<std::uint32_t, Hooks> found;
    for (const auto& component : list_folder(paths_.links())) {
        const auto folder = parse_link_folder(component);
        const auto path = paths_.links() + "/" + component;
        for (const auto& pin : list_folder(path)) {
            if (pin == kTap) {
                const Fd link(bpf_obj_get((path + "/" + pin).c_str()));
                std::uint32_t program = 0;
                if (!looking_ && (!link || link_ifindex(link.get(), program) == 0)) {
                    (void)remove_pin(path + "/" + pin);
                }
                continue;
            }
            if (pin == kPromiscuous) {
                if (!looking_ && folder && ::if_nametoindex(folder->netdev.c_str()) != folder->ifindex) {
                    (void)::rmdir((path + "/" + pin).c_str());
                }
                continue;
            }
            std::uint32_t program = 0;
            const Fd link(bpf_obj_get((path + "/" + pin).c_str()));
            if (!folder || !link || link_ifindex(link.get(), program) != folder->ifindex) {
                if (!looking_) {
                    (void)remove_pin(path + "/" + pin);
                }
                continue;
            }
            auto& hooks = found[folder->ifindex];
            hooks.netdev = folder->netdev;
            if (pin == "xdp") {
                hooks.xdp = Point::native;
            } else {
                hooks.tc = Point::tcx;
            }
        }
        if (!looking_) {
            (void)::rmdir(path.c_str());  // stays unless empty
        }
    }
    auto all = query_.all();
    if (!all) {
        return std::unexpected(all.error());
    }
    for (const auto& netdev : *all) {
        const auto hooks = found.find(netdev.ifindex);
        if (hooks != found.end() && hooks->second.xdp) {
            hooks->second.xdp = netdev.xdp_generic ? Point::generic : Point::native;
        } else if (netdev.xdp_program != 0) {
            auto ours = dispatcher(netdev.ifindex).ours;
            if (!ours.empty()) {
                found[netdev.ifindex].netdev = netdev.name;
                found[netdev.ifindex].xdp = netdev.xdp_generic ? Point::shared_generic : Point::shared_native;
            }
            if (ours.size() > 1 && !looking_) {
                // An upgrade was cut off, before or after its programs became the current ones. The tag is the same
                // for all loads of a program, also as a component.
                const auto current = dispatcher::describe(current_.xdp).tag;
                const auto stays =
                    std::ranges::find_if(ours, [&](auto id) { return program_info(id).tag == current; });
                ours.erase(stays != ours.end() ? stays : std::ranges::max_element(ours));
                (void)leave(netdev.ifindex, netdev.name, ours);
            }
        }
    }
    if (!looking_) {
        dispatcher::bury([this](int program) { return is_ours(program); }, true);
    }
    return found;
}

bool LinuxKernel::has_tcx() {
    if (!has_tcx_) {
        // Asking what is on the loopback interface, which every namespace has as index 1, changes nothing.
        LIBBPF_OPTS(bpf_prog_query_opts, opts);
        has_tcx_ = bpf_prog_query_opts(1, kTcxIngress, &opts) == 0;
    }
    return *has_tcx_;
}

ForeignProgram LinuxKernel::program_info(std::uint32_t id) {
    const Fd fd(bpf_prog_get_fd_by_id(id));
    auto program = dispatcher::describe(fd.get());
    program.id = id;
    return program;
}

std::vector<ForeignProgram> LinuxKernel::foreign_tcx(std::uint32_t ifindex) {
    std::array<__u32, 64> ids{};
    LIBBPF_OPTS(bpf_prog_query_opts, opts, .prog_ids = ids.data(), .prog_cnt = ids.size());
    std::vector<ForeignProgram> programs;
    if (bpf_prog_query_opts(static_cast<int>(ifindex), kTcxIngress, &opts) == 0) {
        for (std::size_t i = 0; i < std::min<std::size_t>(opts.prog_cnt, ids.size()); ++i) {
            if (auto program = program_info(ids[i]); program.name != kTcName) {
                programs.push_back(std::move(program));
            }
        }
    }
    return programs;
}

// ------------------------------------------------------------------ the tap

namespace {

void set_knob(const char* family, const std::string& netdev, const char* knob, char value) {
    const Fd fd(::open(fmt::format("/proc/sys/net/{}/conf/{}/{}", family, netdev, knob).c_str(), O_WRONLY));
    [[maybe_unused]] const auto done = ::pwrite(fd.get(), &value, 1, 0);
}

}  // namespace

// The sending end is told by its alias, which names the switch: names of interfaces may be taken by others.
Result<std::optional<std::pair<Netdev, Netdev>>> LinuxKernel::find_tap() {
    auto all = query_.all();
    if (!all) {
        return std::unexpected(all.error());
    }
    const auto one = std::ranges::find(*all, kTapAlias + paths_.root, &Netdev::alias);
    if (one == all->end()) {
        return std::nullopt;
    }
    const auto other = std::ranges::find(*all, one->peer_ifindex, &Netdev::ifindex);
    if (!one->is_veth() || one->peer_nsid >= 0 || other == all->end()) {
        return fail(Code::foreign, "IVDS-L022",
                    fmt::format("the interface {} is named as the tap of mirrors and is none", one->name),
                    "remove it, or its alias");
    }
    return std::pair(*one, *other);
}

std::string LinuxKernel::tap_pin(const Netdev& end) const {
    return paths_.link(end.ifindex, end.name) + "/" + kTap;
}

Result<std::uint32_t> LinuxKernel::make_tap() {
    auto tap = find_tap();
    if (tap && !*tap) {
        int number = 0;
        const auto name = [&](int at) { return fmt::format("ivds-mirror{}", at); };
        while (::if_nametoindex(name(number).c_str()) != 0 || ::if_nametoindex(name(number + 1).c_str()) != 0) {
            number += 2;
        }
        if (auto r = query_.make_pair(name(number), name(number + 1), kTapAlias + paths_.root); !r) {
            return std::unexpected(r.error());
        }
        tap = find_tap();
    }
    if (!tap) {
        return std::unexpected(tap.error());
    }
    if (!*tap) {
        return os_error(ENODEV, "IVDS-L022", "find the tap of mirrors that was just made");
    }
    const auto& [sending, receiving] = **tap;
    // The kernel does what the sending end cannot: it cuts large frames into segments, computes their checksums and
    // puts tags into the bytes, so that a copy is what the frame is on a wire.
    auto features = query_.features(sending, false);
    if (!features) {
        return std::unexpected(features.error());
    }
    std::map<std::string, bool> off;
    for (const auto& [feature, state] : *features) {
        if (feature.starts_with("tx-") && state.on && !state.fixed) {
            off[feature] = false;
        }
    }
    if (auto r = query_.set_features(sending, false, off); !r) {
        return std::unexpected(r.error());
    }
    // Both ends keep quiet. And the kernel tells a program the way to an address only on an interface that forwards;
    // nothing else comes in here. Where /proc/sys cannot be written, copies in ERSPAN are counted as refused.
    set_knob("ipv6", sending.name, "addr_gen_mode", '1');
    set_knob("ipv6", receiving.name, "addr_gen_mode", '1');
    set_knob("ipv4", receiving.name, "forwarding", '1');
    set_knob("ipv6", receiving.name, "forwarding", '1');
    // Before it is up, so that nothing ever passes it to the host.
    if (has_tcx()) {
        const Fd old(bpf_obj_get(tap_pin(receiving).c_str()));
        std::uint32_t program = 0;
        if (!old || link_ifindex(old.get(), program) != receiving.ifindex) {
            const auto link = link_create(receiving, Point::tcx, current_.mirror);
            if (!link) {
                return std::unexpected(link.error());
            }
            const Fd held(*link);
            if (auto r = make_folder(paths_.link(receiving.ifindex, receiving.name)); !r) {
                return std::unexpected(r.error());
            }
            if (auto r = remove_pin(tap_pin(receiving)); !r) {
                return std::unexpected(r.error());
            }
            if (const int err = bpf_obj_pin(held.get(), tap_pin(receiving).c_str()); err != 0) {
                return os_error(err, "IVDS-L004", "pin " + tap_pin(receiving));
            }
            restrict_access(paths_.link(receiving.ifindex, receiving.name));
        }
    } else if (auto r = clsact_put(receiving, current_.mirror, kMirrorName); !r) {
        return std::unexpected(r.error());
    }
    for (const auto& end : {receiving, sending}) {
        if (auto r = query_.set_flag(end.ifindex, IFF_UP, true); !r) {
            return std::unexpected(r.error());
        }
    }
    return sending.ifindex;
}

Result<> LinuxKernel::remove_tap() {
    auto tap = find_tap();
    if (!tap) {
        return std::unexpected(tap.error());
    }
    if (!*tap) {
        return {};
    }
    const auto& receiving = (*tap)->second;
    if (auto r = query_.remove((*tap)->first.ifindex); !r) {
        return r;
    }
    if (auto r = remove_pin(tap_pin(receiving)); !r) {
        return r;
    }
    (void)::rmdir(paths_.link(receiving.ifindex, receiving.name).c_str());
    return {};
}

Result<int> LinuxKernel::swap_tap(int program) {
    auto tap = find_tap();
    if (!tap) {
        return std::unexpected(tap.error());
    }
    if (!*tap) {
        return -1;
    }
    const auto& receiving = (*tap)->second;
    return has_tcx() ? swap_link(tap_pin(receiving), receiving.name, program)
                     : swap_filter(receiving.ifindex, receiving.name, program);
}

// ------------------------------------------------------------------ interfaces and the end

Result<> LinuxKernel::set_up(std::uint32_t ifindex, bool up) {
    return query_.set_flag(ifindex, IFF_UP, up);
}

// An empty folder beside the link pins remembers that it was us, for whichever process takes it back.
Result<> LinuxKernel::set_promiscuous(std::uint32_t ifindex, const std::string& netdev, bool on) {
    const auto folder = paths_.link(ifindex, netdev);
    const auto marker = folder + "/" + kPromiscuous;
    if (on) {
        if (auto r = make_folder(folder); !r) {
            return r;
        }
        if (auto r = make_folder(marker); !r) {
            return r;
        }
        restrict_access(folder);
    } else if (!exists(marker)) {
        return {};
    }
    auto r = query_.set_flag(ifindex, IFF_PROMISC, on);
    if (!r && !on && r.error().os_errno == ENODEV) {
        r = {};
    }
    if (r.has_value() != on) {
        (void)::rmdir(marker.c_str());
        (void)::rmdir(folder.c_str());
    }
    return r;
}

Result<> LinuxKernel::remove_pins() {
    if (auto r = remove_tap(); !r) {
        return r;
    }
    if (auto r = remove_tree(paths_.top()); !r) {
        return r;
    }
    (void)::rmdir(paths_.root.c_str());
    return {};
}

}  // namespace ivds
