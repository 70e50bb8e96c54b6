// SPDX-License-Identifier: Apache-2.0
// pin.cpp -- names and file work of pins.
#include "pin.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <grp.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <filesystem>
#include <memory>

#include "ivds/abi.h"

namespace ivds {
namespace {

constexpr auto kBpfFs = 0xcafe4a11u;

bool plain(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

}  // namespace

std::string escape_pin(const std::string& name) {
    std::string out;
    for (const char c : name) {
        if (plain(c)) {
            out += c;
        } else {
            out += fmt::format("%{:02X}", static_cast<unsigned char>(c));
        }
    }
    return out;
}

std::optional<std::string> unescape_pin(const std::string& component) {
    std::string out;
    for (std::size_t i = 0; i < component.size(); ++i) {
        if (component[i] != '%') {
            out += component[i];
            continue;
        }
        unsigned byte = 0;
        const char* first = component.data() + i + 1;
        if (component.size() - i < 3 || std::from_chars(first, first + 2, byte, 16).ptr != first + 2) {
            return std::nullopt;
        }
        out += static_cast<char>(byte);
        i += 2;
    }
    // Only the one form that escape_pin makes counts, so that two names never share a pin.
    return escape_pin(out) == component ? std::optional(out) : std::nullopt;
}

std::string PinPaths::top() const {
    return root + "/" IVDS_PIN_DIR;
}
std::string PinPaths::fresh() const {
    return root + "/" IVDS_PIN_DIR "-new";
}
std::string PinPaths::maps() const {
    return top() + "/maps";
}
std::string PinPaths::map(const std::string& name) const {
    return maps() + "/" + name;
}
std::string PinPaths::programs() const {
    return top() + "/progs";
}
std::string PinPaths::programs(const std::string& build) const {
    return programs() + "/" + escape_pin(build);
}
std::string PinPaths::links() const {
    return top() + "/links";
}
std::string PinPaths::rings() const {
    return top() + "/rings";
}
std::string PinPaths::ring(const std::string& mirror) const {
    return rings() + "/" + escape_pin(mirror);
}
std::string PinPaths::link(std::uint32_t ifindex, const std::string& netdev) const {
    return fmt::format("{}/{}-{}", links(), ifindex, escape_pin(netdev));
}

std::optional<LinkFolder> parse_link_folder(const std::string& component) {
    LinkFolder folder;
    const char* end = component.data() + component.size();
    const auto [at, error] = std::from_chars(component.data(), end, folder.ifindex);
    if (error != std::errc() || folder.ifindex == 0 || at == end || *at != '-') {
        return std::nullopt;
    }
    const auto name = unescape_pin(std::string(at + 1, end));
    if (!name || name->empty()) {
        return std::nullopt;
    }
    folder.netdev = *name;
    return folder;
}

Result<> make_root(const std::string& root) {
    struct statfs info{};
    std::string probe = root;
    while (::statfs(probe.c_str(), &info) != 0) {
        const auto parent = std::filesystem::path(probe).parent_path().string();
        if (errno != ENOENT || parent.empty() || parent == probe) {
            return os_error(errno, "IVDS-L001", "look at the pin root " + root);
        }
        probe = parent;
    }
    if (static_cast<std::uint32_t>(info.f_type) != kBpfFs) {
        return fail(Code::unavailable, "IVDS-L002", fmt::format("the pin root {} is not on a bpffs", root),
                    "mount -t bpf bpf /sys/fs/bpf, or name a folder on a mounted bpffs");
    }
    if (root.find('.') != std::string::npos && ::access(root.c_str(), F_OK) != 0) {
        const auto below = root.substr(probe.size());
        if (below.find('.') != std::string::npos) {
            return fail(Code::invalid, "IVDS-L003", fmt::format("the pin root {} has a dot in its name", root),
                        "names on a bpffs hold no dots; choose another");
        }
    }
    std::error_code error;
    std::filesystem::create_directories(root, error);
    if (error) {
        return os_error(error.value(), "IVDS-L001", "make the pin root " + root);
    }
    return {};
}

Result<> make_folder(const std::string& path) {
    if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) {
        return os_error(errno, "IVDS-L004", "make the folder " + path);
    }
    return {};
}

Result<> rename_pin(const std::string& from, const std::string& to) {
    if (::rename(from.c_str(), to.c_str()) != 0) {
        return os_error(errno, "IVDS-L004", fmt::format("rename the pin {} to {}", from, to));
    }
    return {};
}

Result<> remove_pin(const std::string& path) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) {
        return os_error(errno, "IVDS-L004", "remove the pin " + path);
    }
    return {};
}

Result<> remove_tree(const std::string& path) {
    for (const auto& name : list_folder(path)) {
        const auto below = path + "/" + name;
        struct stat info{};
        if (::lstat(below.c_str(), &info) != 0) {
            continue;
        }
        if (auto r = S_ISDIR(info.st_mode) ? remove_tree(below) : remove_pin(below); !r) {
            return r;
        }
    }
    if (::rmdir(path.c_str()) != 0 && errno != ENOENT) {
        return os_error(errno, "IVDS-L004", "remove the folder " + path);
    }
    return {};
}

std::vector<std::string> list_folder(const std::string& path) {
    std::vector<std::string> names;
    const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir(path.c_str()), ::closedir);
    if (!folder) {
        return names;
    }
    while (const dirent* entry = ::readdir(folder.get())) {
        const std::string name = static_cast<const char*>(entry->d_name);
        if (name != "." && name != "..") {
            names.push_back(name);
        }
    }
    return names;
}

bool exists(const std::string& path) {
    return ::access(path.c_str(), F_OK) == 0;
}

void restrict_access(const std::string& path) {
    struct stat info{};
    if (::lstat(path.c_str(), &info) != 0) {
        return;
    }
    // Asked once: a look into the group database opens a dozen files, and a thousand ports are pinned in a row.
    static const std::optional<gid_t> readers = [] {
        const group* found = ::getgrnam("ivds");
        return found != nullptr ? std::optional(found->gr_gid) : std::nullopt;
    }();
    const bool folder = S_ISDIR(info.st_mode);
    // Permission on pins is a convenience for readers; without it root still works, so failures are no errors.
    if (readers) {
        (void)!::chown(path.c_str(), static_cast<uid_t>(-1), *readers);
    }
    (void)::chmod(path.c_str(), folder ? (readers ? 0750 : 0700) : (readers ? 0640 : 0600));
    if (folder) {
        for (const auto& name : list_folder(path)) {
            restrict_access(path + "/" + name);
        }
    }
}

void allow_writing(const std::string& path) {
    struct stat info{};
    if (::lstat(path.c_str(), &info) == 0 && (info.st_mode & S_IRGRP) != 0) {
        (void)::chmod(path.c_str(), 0660);
    }
}

}  // namespace ivds
