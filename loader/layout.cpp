// SPDX-License-Identifier: Apache-2.0
// layout.cpp -- shapes of maps compared.
#include "layout.h"

#include <bpf/bpf.h>
#include <fmt/format.h>
#include <linux/bpf.h>
#include <zlib.h>

#include <algorithm>

namespace ivds {

std::string to_string(const MapShape& shape) {
    return fmt::format("{}: type {}, key {}, value {}, flags {:#x}, {} entries", shape.name, shape.type,
                       shape.key_size, shape.value_size, shape.flags, shape.max_entries);
}

std::uint32_t layout_digest(std::vector<MapShape> shapes) {
    std::ranges::sort(shapes, {}, &MapShape::name);
    std::string text;
    for (const auto& shape : shapes) {
        text += to_string(shape) + "\n";
    }
    return static_cast<std::uint32_t>(::crc32_z(0, reinterpret_cast<const unsigned char*>(text.data()), text.size()));
}

Result<> same_layout(const std::vector<MapShape>& pinned, const std::vector<MapShape>& built_in,
                     const std::string& where) {
    for (const auto& ours : built_in) {
        const auto theirs = std::ranges::find(pinned, ours.name, &MapShape::name);
        if (theirs != pinned.end() && *theirs == ours) {
            continue;
        }
        return fail(Code::layout, "IVDS-L010",
                    fmt::format("the maps pinned under {} have another layout ({:#010x}) than this build ({:#010x}): "
                                "pinned {}; built in {}",
                                where, layout_digest(pinned), layout_digest(built_in),
                                theirs == pinned.end() ? ours.name + ": none" : to_string(*theirs), to_string(ours)),
                    "run the build that made them, or remove them with its `ivds-loader down` and apply anew");
    }
    return {};
}

Result<MapShape> shape_of(int map_fd, const std::string& name) {
    bpf_map_info info{};
    __u32 size = sizeof(info);
    if (const int err = bpf_map_get_info_by_fd(map_fd, &info, &size); err != 0) {
        return os_error(err, "IVDS-L011", "ask for the shape of the map " + name);
    }
    MapShape shape{name, info.type, info.key_size, info.value_size, info.map_flags, info.max_entries};
    if (shape.type == BPF_MAP_TYPE_DEVMAP || shape.type == BPF_MAP_TYPE_DEVMAP_HASH) {
        shape.flags &= ~static_cast<std::uint32_t>(BPF_F_RDONLY_PROG);  // the kernel adds it by itself
    }
    return shape;
}

}  // namespace ivds
