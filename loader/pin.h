// SPDX-License-Identifier: Apache-2.0
// pin.h -- where things are pinned, and the little file work on a bpffs that this takes.
//
//   ROOT/v1/maps/NAME                      the maps, under their names
//   ROOT/v1/progs/<build>/{xdp,tc,mirror,sweep}   the programs that hooks run
//   ROOT/v1/rings/<mirror>                 rings of mirrors that other programs read
//   ROOT/v1/links/<ifindex>-<name>/{xdp,tc,mirror}
//
// Sets of pins appear whole: they are made in a folder beside and renamed into place.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "error.h"

namespace ivds {

// A name as one path component of a bpffs, which must not contain a dot: letters, digits, '-' and '_' stay,
// every other byte becomes %XX. unescape_pin() gives the name back, or nothing for what escape_pin never makes.
[[nodiscard]] std::string escape_pin(const std::string& name);
[[nodiscard]] std::optional<std::string> unescape_pin(const std::string& component);

struct PinPaths {
    std::string root;
    [[nodiscard]] std::string top() const;
    [[nodiscard]] std::string fresh() const;  // `top` in the making
    [[nodiscard]] std::string maps() const;
    [[nodiscard]] std::string map(const std::string& name) const;
    [[nodiscard]] std::string programs() const;
    [[nodiscard]] std::string programs(const std::string& build) const;
    [[nodiscard]] std::string links() const;
    [[nodiscard]] std::string rings() const;
    [[nodiscard]] std::string ring(const std::string& mirror) const;
    [[nodiscard]] std::string link(std::uint32_t ifindex, const std::string& netdev) const;  // the folder
};

// What the folder's name of a link's pins says.
struct LinkFolder {
    std::uint32_t ifindex = 0;
    std::string netdev;
};
[[nodiscard]] std::optional<LinkFolder> parse_link_folder(const std::string& component);

// Makes ROOT if its parent lies on a bpffs; refuses any other file system with the mount command as fix.
[[nodiscard]] Result<> make_root(const std::string& root);
[[nodiscard]] Result<> make_folder(const std::string& path);
[[nodiscard]] Result<> rename_pin(const std::string& from, const std::string& to);
[[nodiscard]] Result<> remove_pin(const std::string& path);   // a pin; absent is fine
[[nodiscard]] Result<> remove_tree(const std::string& path);  // a folder with all in it; absent is fine
[[nodiscard]] std::vector<std::string> list_folder(const std::string& path);
[[nodiscard]] bool exists(const std::string& path);
// Lets the group `ivds`, where there is one, read everything below `path`; nobody else but root may.
void restrict_access(const std::string& path);
// Lets the group write the pin as well.
void allow_writing(const std::string& path);

}  // namespace ivds
