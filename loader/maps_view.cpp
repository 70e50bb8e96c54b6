// SPDX-License-Identifier: Apache-2.0
// maps_view.cpp -- read-only access to pinned maps, and the names of what is in them.
#include <bpf/bpf.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <linux/bpf.h>

#include <array>
#include <cerrno>
#include <cstring>
#include <ctime>

#include "fd.h"
#include "kernel_linux.h"
#include "layout.h"
#include "pin.h"
#include "switch.h"

namespace ivds {

struct MapsView::Impl {
    std::array<Fd, kMapCount> maps;
    std::array<MapShape, kMapCount> shapes;

    [[nodiscard]] int fd(Map map) const { return maps[static_cast<std::size_t>(map)].get(); }

    // The value of `key` in `map`; zeros if there is none.
    template <class T, class Key>
    [[nodiscard]] Result<T> get(Map map, const Key& key) const {
        T value{};
        if (const int err = bpf_map_lookup_elem(fd(map), &key, &value); err != 0 && err != -ENOENT) {
            return os_error(err, "IVDS-M001", fmt::format("read the map {}", map_name(map)));
        }
        return value;
    }

    static std::size_t cpus() { return static_cast<std::size_t>(libbpf_num_possible_cpus()); }

    // The value of `key` in `map`, if there is one.
    template <class T, class Key>
    [[nodiscard]] Result<std::optional<T>> find(Map map, const Key& key) const {
        T value{};
        if (const int err = bpf_map_lookup_elem(fd(map), &key, &value); err != 0) {
            if (err == -ENOENT) {
                return std::nullopt;
            }
            return os_error(err, "IVDS-M001", fmt::format("read the map {}", map_name(map)));
        }
        return std::optional(value);
    }

    // Sums structures of 64-bit counters, one per CPU.
    template <class T>
    static T sum(const void* values) {
        static_assert(sizeof(T) % sizeof(std::uint64_t) == 0);
        constexpr std::size_t words = sizeof(T) / sizeof(std::uint64_t);
        std::array<std::uint64_t, words> total{};
        const auto* at = static_cast<const char*>(values);
        for (std::size_t i = 0; i < cpus() * words; ++i) {
            std::uint64_t word = 0;
            std::memcpy(&word, at + i * sizeof(word), sizeof(word));
            total[i % words] += word;
        }
        T out;
        std::memcpy(&out, total.data(), sizeof(out));
        return out;
    }
    // Counts add up; of times the latest counts.
    static ivds_rule_count of_rule(const void* values) {
        auto out = sum<ivds_rule_count>(values);
        out.last_ns = 0;
        for (std::size_t cpu = 0; cpu < cpus(); ++cpu) {
            ivds_rule_count one;
            std::memcpy(&one, static_cast<const char*>(values) + cpu * sizeof(one), sizeof(one));
            out.last_ns = std::max<std::uint64_t>(out.last_ns, one.last_ns);
        }
        return out;
    }
    template <class T, class Key>
    [[nodiscard]] Result<T> get_sum(Map map, const Key& key) const {
        std::vector<T> values(cpus());
        if (const int err = bpf_map_lookup_elem(fd(map), &key, values.data()); err != 0 && err != -ENOENT) {
            return os_error(err, "IVDS-M001", fmt::format("read the map {}", map_name(map)));
        }
        return sum<T>(values.data());
    }
    [[nodiscard]] Result<> each(Map map, std::size_t value_size,
                                const std::function<void(const void*, const void*)>& sink) const {
        return each_of_map(fd(map), shapes[static_cast<std::size_t>(map)], value_size, sink);
    }
};

MapsView::MapsView(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
MapsView::MapsView(MapsView&&) noexcept = default;
MapsView& MapsView::operator=(MapsView&&) noexcept = default;
MapsView::~MapsView() = default;

Result<MapsView> MapsView::open(const std::string& root) {
    auto impl = std::make_unique<Impl>();
    const PinPaths paths{root};
    LIBBPF_OPTS(bpf_obj_get_opts, opts, .file_flags = BPF_F_RDONLY);
    for (std::size_t i = 0; i < kMapCount; ++i) {
        const auto map = static_cast<Map>(i);
        if (map == Map::events || map == Map::captures) {
            continue;  // rings have one reader, the agent
        }
        const auto path = paths.map(map_name(map));
        impl->maps[i].reset(bpf_obj_get_opts(path.c_str(), &opts));
        if (!impl->maps[i]) {
            if (errno == ENOENT) {
                return fail(Code::unavailable, "IVDS-V001", "no switch is pinned under " + root,
                            "start the agent, or run ivds-loader up");
            }
            return os_error(errno, "IVDS-V001", "open " + path, "run as root or in the group ivds");
        }
        auto shape = shape_of(impl->maps[i].get(), map_name(map));
        if (!shape) {
            return std::unexpected(shape.error());
        }
        impl->shapes[i] = std::move(*shape);
        if (map == Map::meta) {
            // A larger meta begins like ours: the layout is refused by its number, before sizes are relied on.
            std::vector<char> bytes(std::max<std::size_t>(impl->shapes[i].value_size, sizeof(ivds_meta)));
            const std::uint32_t zero = 0;
            ivds_meta meta{};
            if (const int err = bpf_map_lookup_elem(impl->maps[i].get(), &zero, bytes.data()); err != 0) {
                return os_error(err, "IVDS-V001", "read " + path);
            }
            std::memcpy(&meta, bytes.data(), sizeof(meta));
            if (meta.magic != IVDS_MAGIC || meta.layout_major != IVDS_LAYOUT_MAJOR) {
                return fail(
                    Code::layout, "IVDS-L010",
                    fmt::format("the maps under {} are of layout {}.{} (magic {:#x}), this program reads {}.{}", root,
                                meta.layout_major, meta.layout_minor, meta.magic, IVDS_LAYOUT_MAJOR,
                                IVDS_LAYOUT_MINOR),
                    "use the program of the version that made them");
            }
        }
    }
    const std::array<std::pair<Map, std::size_t>, 17> sizes = {{{Map::ports, sizeof(ivds_port)},
                                                                {Map::instances, sizeof(ivds_instance)},
                                                                {Map::port_state, sizeof(ivds_port_state)},
                                                                {Map::instance_state, sizeof(ivds_instance_state)},
                                                                {Map::port_stats, sizeof(ivds_port_stats)},
                                                                {Map::nic_stats, sizeof(ivds_nic_stats)},
                                                                {Map::instance_stats, sizeof(ivds_instance_stats)},
                                                                {Map::fdb, sizeof(ivds_fdb_entry)},
                                                                {Map::neighbours, sizeof(ivds_neighbour)},
                                                                {Map::vvlans, sizeof(ivds_vvlan)},
                                                                {Map::tx, sizeof(std::uint32_t)},
                                                                {Map::drops, sizeof(ivds_count)},
                                                                {Map::misses, sizeof(ivds_count)},
                                                                {Map::rule_stats, sizeof(ivds_rule_count)},
                                                                {Map::flows, sizeof(ivds_flow)},
                                                                {Map::mirror_stats, sizeof(ivds_mirror_stats)},
                                                                {Map::inspectors, sizeof(ivds_inspector)}}};
    for (const auto& [map, size] : sizes) {
        const auto& shape = impl->shapes[static_cast<std::size_t>(map)];
        if (shape.value_size != size) {
            return fail(Code::layout, "IVDS-L010",
                        fmt::format("the map {} under {} has another layout ({}) than this program (value {})",
                                    map_name(map), root, to_string(shape), size),
                        "use the program of the version that made them");
        }
    }
    return MapsView(std::move(impl));
}

Result<ivds_meta> MapsView::meta() const {
    return impl_->get<ivds_meta>(Map::meta, std::uint32_t{0});
}
Result<ivds_port> MapsView::port(std::uint32_t id) const {
    return impl_->get<ivds_port>(Map::ports, id);
}
Result<ivds_instance> MapsView::instance(std::uint32_t id) const {
    return impl_->get<ivds_instance>(Map::instances, id);
}
Result<ivds_port_stats> MapsView::port_stats(std::uint32_t id) const {
    return impl_->get_sum<ivds_port_stats>(Map::port_stats, id);
}
Result<std::optional<ivds_nic_stats>> MapsView::nic_stats(std::uint32_t id) const {
    return impl_->find<ivds_nic_stats>(Map::nic_stats, id);
}
Result<ivds_instance_stats> MapsView::instance_stats(std::uint32_t id) const {
    return impl_->get_sum<ivds_instance_stats>(Map::instance_stats, id);
}
Result<ivds_port_state> MapsView::port_state(std::uint32_t id) const {
    return impl_->get<ivds_port_state>(Map::port_state, id);
}
Result<ivds_instance_state> MapsView::instance_state(std::uint32_t id) const {
    return impl_->get<ivds_instance_state>(Map::instance_state, id);
}

Result<std::vector<DropRow>> MapsView::drops() const {
    std::vector<DropRow> rows;
    auto r = impl_->each(Map::drops, sizeof(ivds_count) * Impl::cpus(), [&](const void* key, const void* values) {
        ivds_drop_key k;
        std::memcpy(&k, key, sizeof(k));
        rows.push_back({k.port, k.reason, Impl::sum<ivds_count>(values)});
    });
    if (!r) {
        return std::unexpected(r.error());
    }
    return rows;
}

Result<std::vector<MissRow>> MapsView::misses() const {
    std::vector<MissRow> rows;
    auto r = impl_->each(Map::misses, sizeof(ivds_count) * Impl::cpus(), [&](const void* key, const void* values) {
        MissRow row;
        std::memcpy(&row.key, key, sizeof(row.key));
        row.count = Impl::sum<ivds_count>(values);
        rows.push_back(row);
    });
    if (!r) {
        return std::unexpected(r.error());
    }
    return rows;
}

Result<ivds_mirror_stats> MapsView::mirror_stats(std::uint32_t session) const {
    return impl_->get_sum<ivds_mirror_stats>(Map::mirror_stats, session);
}

Result<ivds_inspector> MapsView::inspector(std::uint32_t port) const {
    return impl_->get<ivds_inspector>(Map::inspectors, port);
}

Result<std::map<std::uint32_t, ivds_rule_count>> MapsView::rule_stats() const {
    std::map<std::uint32_t, ivds_rule_count> counts;
    auto r = impl_->each(Map::rule_stats, sizeof(ivds_rule_count) * Impl::cpus(),
                         [&](const void* key, const void* values) {
                             std::uint32_t rule = 0;
                             std::memcpy(&rule, key, sizeof(rule));
                             counts[rule] = Impl::of_rule(values);
                         });
    if (!r) {
        return std::unexpected(r.error());
    }
    return counts;
}

Result<std::uint64_t> MapsView::rule_packets(std::uint32_t rule) const {
    const auto count = impl_->get_sum<ivds_rule_count>(Map::rule_stats, rule);
    return count ? Result<std::uint64_t>(count->packets) : std::unexpected(count.error());
}

Result<> MapsView::flows(const std::function<bool(const FlowRow&)>& sink) const {
    bool more = true;
    return impl_->each(Map::flows, sizeof(ivds_flow), [&](const void* key, const void* value) {
        if (!more) {
            return;
        }
        FlowRow row;
        std::memcpy(&row.key, key, sizeof(row.key));
        std::memcpy(&row.flow, value, sizeof(row.flow));
        more = sink(row);
    });
}

Result<> MapsView::fdb(const std::function<bool(const FdbRow&)>& sink) const {
    bool more = true;
    return impl_->each(Map::fdb, sizeof(ivds_fdb_entry), [&](const void* key, const void* value) {
        if (!more) {
            return;
        }
        FdbRow row;
        std::memcpy(&row.key, key, sizeof(row.key));
        std::memcpy(&row.entry, value, sizeof(row.entry));
        more = sink(row);
    });
}

Result<> MapsView::neighbours(const std::function<bool(const NeighbourRow&)>& sink) const {
    bool more = true;
    return impl_->each(Map::neighbours, sizeof(ivds_neighbour), [&](const void* key, const void* value) {
        if (!more) {
            return;
        }
        NeighbourRow row;
        std::memcpy(&row.key, key, sizeof(row.key));
        std::memcpy(&row.owner, value, sizeof(row.owner));
        more = sink(row);
    });
}

Result<std::optional<ivds_fdb_entry>> MapsView::fdb_entry(std::uint32_t instance, const Mac& mac) const {
    ivds_fdb_key key{};
    key.instance = instance;
    std::memcpy(key.mac, mac.data(), sizeof(key.mac));
    return impl_->find<ivds_fdb_entry>(Map::fdb, key);
}

Result<std::optional<std::uint32_t>> MapsView::vvlan(std::uint32_t uplink, std::uint16_t vlan,
                                                     std::uint16_t vvlan) const {
    const auto found = impl_->find<ivds_vvlan>(Map::vvlans, ivds_vvlan_key{uplink, vlan, vvlan});
    if (!found) {
        return std::unexpected(found.error());
    }
    return *found ? std::optional((*found)->instance) : std::nullopt;
}

Result<std::uint32_t> MapsView::vvlan_count() const {
    std::uint32_t count = 0;
    if (auto r = impl_->each(Map::vvlans, sizeof(ivds_vvlan), [&](const void*, const void*) { ++count; }); !r) {
        return std::unexpected(r.error());
    }
    return count;
}

Result<> MapsView::vvlans(const std::function<void(const ivds_vvlan_key&, std::uint32_t)>& sink) const {
    return impl_->each(Map::vvlans, sizeof(ivds_vvlan), [&](const void* key, const void* value) {
        ivds_vvlan_key k{};
        ivds_vvlan v{};
        std::memcpy(&k, key, sizeof(k));
        std::memcpy(&v, value, sizeof(v));
        sink(k, v.instance);
    });
}

Result<std::optional<std::uint32_t>> MapsView::xdp_target(std::uint32_t port) const {
    return impl_->find<std::uint32_t>(Map::tx, port);
}

std::string drop_id(std::uint32_t reason) {
    switch (reason) {
#define IVDS_X(name, number, side, id, text) \
    case number:                             \
        return id;
        IVDS_DROPS(IVDS_X)
#undef IVDS_X
        default:
            return fmt::format("reason-{}", reason);
    }
}

std::string drop_text(std::uint32_t reason) {
    switch (reason) {
#define IVDS_X(name, number, side, id, text) \
    case number:                             \
        return text;
        IVDS_DROPS(IVDS_X)
#undef IVDS_X
        default:
            return fmt::format("reason-{}", reason);
    }
}

std::string event_id(std::uint32_t kind) {
    switch (kind) {
        case IVDS_EVENT_SPOOF:
            return "spoof";
        case IVDS_EVENT_MOVE:
            return "move";
        case IVDS_EVENT_LIMIT:
            return "limit";
        case IVDS_EVENT_FDB_FULL:
            return "fdb_full";
        case IVDS_EVENT_FLOW_LIMIT:
            return "flow_limit";
        case IVDS_EVENT_RULE:
            return "rule";
        case IVDS_EVENT_UNREGISTERED:
            return "unregistered";
        default:
            return fmt::format("reason-{}", kind);
    }
}

std::uint32_t coarse_now_s() {
    timespec now{};
    ::clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return static_cast<std::uint32_t>(now.tv_sec);
}

}  // namespace ivds
