// SPDX-License-Identifier: Apache-2.0
// layout.h -- the shape of the pinned maps, and whether two shapes are the same.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "error.h"

namespace ivds {

struct MapShape {
    std::string name;
    std::uint32_t type = 0;
    std::uint32_t key_size = 0;
    std::uint32_t value_size = 0;
    std::uint32_t flags = 0;
    std::uint32_t max_entries = 0;
    bool operator==(const MapShape&) const = default;
};

// "fdb: hash, key 12, value 16, flags 0x1, 1048576 entries".
[[nodiscard]] std::string to_string(const MapShape& shape);
// Independent of the order of `shapes`.
[[nodiscard]] std::uint32_t layout_digest(std::vector<MapShape> shapes);
// Code::layout that names, for the first map that differs, what is pinned and what this build has.
[[nodiscard]] Result<> same_layout(const std::vector<MapShape>& pinned, const std::vector<MapShape>& built_in,
                                   const std::string& where);
// What the kernel says of an open map.
[[nodiscard]] Result<MapShape> shape_of(int map_fd, const std::string& name);

}  // namespace ivds
