// SPDX-License-Identifier: Apache-2.0
// tables.cpp -- MACs and attach modes as text, and the saved state as one checked file.
//
// The file: a header of fixed size (magic, version, its own size and those of the ABI structures inside, length and
// CRC-32 of the body), then the body in host byte order. It is a cache for this host's next boot, no exchange format;
// a host of another byte order reads a wrong magic and refuses.
#include "tables.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/stat.h>
#include <zlib.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <limits>
#include <type_traits>

#include "fd.h"

namespace ivds {
namespace {

constexpr std::uint32_t kMagic = 0x53564449u;
constexpr std::uint32_t kVersion = 7;

struct Header {
    std::uint32_t magic;
    std::uint32_t version;
    std::array<std::uint16_t, 10> sizes;
    std::uint32_t crc;
    std::uint64_t length;
};
static_assert(sizeof(Header) == 40);
constexpr std::array<std::uint16_t, 10> kSizes = {sizeof(Header),        sizeof(ivds_port),    sizeof(ivds_instance),
                                                  sizeof(ivds_acl_mask), sizeof(ivds_acl_key), sizeof(ivds_acl_rule),
                                                  sizeof(ivds_pool),     sizeof(ivds_mirror)};

class Writer {
public:
    template <class T>
    void value(const T& value) {
        static_assert(std::is_trivially_copyable_v<T>);
        out_.append(reinterpret_cast<const char*>(&value), sizeof(value));
    }
    void text(const std::string& text) {
        value(static_cast<std::uint32_t>(text.size()));
        out_ += text;
    }
    void count(std::size_t n) { value(static_cast<std::uint32_t>(n)); }
    [[nodiscard]] const std::string& out() const { return out_; }

private:
    std::string out_;
};

// Reads what Writer wrote; after the first short read everything reads as zero and ok() is false.
class Reader {
public:
    explicit Reader(const std::string& in) : in_(in) {}

    template <class T>
    T value() {
        static_assert(std::is_trivially_copyable_v<T>);
        T value{};
        if (take(sizeof(T))) {
            std::memcpy(&value, in_.data() + at_ - sizeof(T), sizeof(T));
        }
        return value;
    }
    std::string text() {
        const auto size = value<std::uint32_t>();
        return take(size) ? in_.substr(at_ - size, size) : std::string();
    }
    // A count of things of at least `least` bytes each: never more than what is left can hold.
    std::uint32_t count(std::size_t least) {
        const auto n = value<std::uint32_t>();
        if (n > (in_.size() - at_) / least) {
            ok_ = false;
        }
        return ok_ ? n : 0;
    }
    [[nodiscard]] bool ok() const { return ok_; }
    [[nodiscard]] bool done() const { return ok_ && at_ == in_.size(); }

private:
    bool take(std::size_t size) {
        if (!ok_ || in_.size() - at_ < size) {
            ok_ = false;
            return false;
        }
        at_ += size;
        return true;
    }
    const std::string& in_;
    std::size_t at_ = 0;
    bool ok_ = true;
};

void write_body(Writer& out, const Tables& tables) {
    out.count(tables.ports.size());
    for (const auto& [id, row] : tables.ports) {
        out.value(id);
        out.text(row.name);
        out.text(row.netdev);
        out.value(row.wanted);
        out.value(row.value);
        out.count(row.macs.size());
        for (const auto& mac : row.macs) {
            out.value(mac);
        }
    }
    out.count(tables.instances.size());
    for (const auto& [id, row] : tables.instances) {
        out.value(id);
        out.text(row.name);
        out.value(row.value);
        out.count(row.fdb ? row.fdb->size() : 0);
        if (row.fdb) {
            for (const auto& entry : *row.fdb) {
                out.value(entry.mac);
                out.value(entry.port);
                out.value(entry.vlan);
                out.value(entry.vport);
            }
        }
        out.count(row.neighbours ? row.neighbours->size() : 0);
        if (row.neighbours) {
            for (const auto& neighbour : *row.neighbours) {
                out.value(neighbour.address);
                out.value(neighbour.mac);
            }
        }
    }
    out.count(tables.vvlans.size());
    for (const auto& [key, instance] : tables.vvlans) {
        out.value(key);
        out.value(instance);
    }
    out.count(tables.peer_rates.size());
    for (const auto& [key, rates] : tables.peer_rates) {
        out.value(key);
        out.value(rates);
    }
    out.count(tables.pools.size());
    for (const auto& [id, row] : tables.pools) {
        out.value(id);
        out.text(row.name);
        out.value(row.value);
    }
    out.count(tables.acls.size());
    for (const auto& [id, list] : tables.acls) {
        out.value(id);
        out.value(list->default_action);
        out.count(list->masks.size());
        for (const auto& mask : list->masks) {
            out.value(mask);
        }
        out.count(list->rules.size());
        for (const auto& [key, rule] : list->rules) {
            out.value(key);
            out.value(rule);
        }
    }
    out.count(tables.mirrors.size());
    for (const auto& [session, row] : tables.mirrors) {
        out.value(session);
        out.text(row.name);
        out.value(row.value);
        out.value(row.ring_bytes);
    }
}

bool read_body(Reader& in, Tables& tables) {
    for (auto n = in.count(4); n > 0 && in.ok(); --n) {
        const auto id = in.value<std::uint32_t>();
        PortRow row;
        row.name = in.text();
        row.netdev = in.text();
        const auto wanted = in.value<std::uint8_t>();
        if (wanted > static_cast<std::uint8_t>(AttachMode::clsact)) {
            return false;
        }
        row.wanted = static_cast<AttachMode>(wanted);
        row.value = in.value<ivds_port>();
        for (auto m = in.count(sizeof(Mac)); m > 0; --m) {
            row.macs.push_back(in.value<Mac>());
        }
        tables.ports.emplace(id, std::move(row));
    }
    for (auto n = in.count(4); n > 0 && in.ok(); --n) {
        const auto id = in.value<std::uint32_t>();
        InstanceRow row;
        row.name = in.text();
        row.value = in.value<ivds_instance>();
        std::vector<StaticMac> fdb;
        const auto entries = in.count(16);
        fdb.reserve(entries);
        for (std::uint32_t m = 0; m < entries; ++m) {
            StaticMac entry;
            entry.mac = in.value<Mac>();
            entry.port = in.value<std::uint32_t>();
            entry.vlan = in.value<std::uint16_t>();
            entry.vport = in.value<std::uint32_t>();
            fdb.push_back(entry);
        }
        if (!fdb.empty()) {
            row.fdb = std::make_shared<const std::vector<StaticMac>>(std::move(fdb));
        }
        std::vector<Neighbour> neighbours;
        const auto addresses = in.count(sizeof(Neighbour));
        neighbours.reserve(addresses);
        for (std::uint32_t m = 0; m < addresses; ++m) {
            Neighbour neighbour;
            neighbour.address = in.value<decltype(neighbour.address)>();
            neighbour.mac = in.value<Mac>();
            neighbours.push_back(neighbour);
        }
        if (!neighbours.empty()) {
            row.neighbours = std::make_shared<const std::vector<Neighbour>>(std::move(neighbours));
        }
        tables.instances.emplace(id, std::move(row));
    }
    for (auto n = in.count(16); n > 0 && in.ok(); --n) {
        const auto key = in.value<std::array<std::uint32_t, 3>>();
        tables.vvlans.emplace(key, in.value<std::uint32_t>());
    }
    for (auto n = in.count(8 + sizeof(ivds_peer_rate)); n > 0 && in.ok(); --n) {
        const auto key = in.value<std::array<std::uint32_t, 2>>();
        tables.peer_rates.emplace(key, in.value<ivds_peer_rate>());
    }
    for (auto n = in.count(4); n > 0 && in.ok(); --n) {
        const auto id = in.value<std::uint32_t>();
        PoolRow row;
        row.name = in.text();
        row.value = in.value<ivds_pool>();
        tables.pools.emplace(id, std::move(row));
    }
    for (auto n = in.count(4); n > 0 && in.ok(); --n) {
        const auto id = in.value<std::uint32_t>();
        auto list = std::make_shared<AclRow>();
        list->default_action = in.value<std::uint8_t>();
        for (auto m = in.count(sizeof(ivds_acl_mask)); m > 0; --m) {
            list->masks.push_back(in.value<ivds_acl_mask>());
        }
        for (auto m = in.count(sizeof(ivds_acl_key) + sizeof(ivds_acl_rule)); m > 0; --m) {
            const auto key = in.value<ivds_acl_key>();
            list->rules.emplace_back(key, in.value<ivds_acl_rule>());
        }
        tables.acls.emplace(id, std::move(list));
    }
    for (auto n = in.count(4); n > 0 && in.ok(); --n) {
        const auto session = in.value<std::uint32_t>();
        MirrorRow row;
        row.name = in.text();
        row.value = in.value<ivds_mirror>();
        row.ring_bytes = in.value<std::uint32_t>();
        tables.mirrors.emplace(session, std::move(row));
    }
    return in.done();
}

std::uint32_t crc(const std::string& body) {
    return static_cast<std::uint32_t>(::crc32_z(0, reinterpret_cast<const unsigned char*>(body.data()), body.size()));
}

Result<> write_all(int fd, const void* data, std::size_t size, const std::string& path) {
    const auto* at = static_cast<const char*>(data);
    while (size > 0) {
        const ssize_t n = ::write(fd, at, size);
        if (n < 0 && errno != EINTR) {
            return os_error(errno, "IVDS-S001", "write the saved state " + path);
        }
        if (n > 0) {
            at += n;
            size -= static_cast<std::size_t>(n);
        }
    }
    return {};
}

std::unexpected<Error> damaged(const std::string& path, const std::string& why) {
    return fail(Code::invalid, "IVDS-S002", fmt::format("saved state {} is not usable: {}", path, why),
                "remove the file and apply the configuration again; the agent writes a new one");
}

}  // namespace

Result<Mac> parse_mac(const std::string& text) {
    const auto wrong = [&] {
        return fail(Code::invalid, "IVDS-C001", fmt::format("'{}' is not a MAC address", text),
                    "write six bytes like 02:00:5e:00:00:01");
    };
    if (text.size() != 17) {
        return wrong();
    }
    const auto digit = [](char c) {
        return c >= '0' && c <= '9'   ? c - '0'
               : c >= 'a' && c <= 'f' ? c - 'a' + 10
               : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                      : -1;
    };
    Mac mac{};
    for (std::size_t i = 0; i < 6; ++i) {
        const int high = digit(text[i * 3]);
        const int low = digit(text[i * 3 + 1]);
        if (high < 0 || low < 0 || (i < 5 && text[i * 3 + 2] != ':')) {
            return wrong();
        }
        mac[i] = static_cast<std::uint8_t>(high * 16 + low);
    }
    return mac;
}

std::string format_mac(const Mac& mac) {
    return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]);
}

Result<AttachMode> parse_attach_mode(const std::string& text) {
    for (const auto mode :
         {AttachMode::automatic, AttachMode::native, AttachMode::generic, AttachMode::tcx, AttachMode::clsact}) {
        if (text == to_string(mode)) {
            return mode;
        }
    }
    return fail(Code::invalid, "IVDS-C002", fmt::format("'{}' is not an attach mode", text),
                "use auto, native, generic, tcx or clsact");
}

std::string to_string(AttachMode mode) {
    switch (mode) {
        case AttachMode::automatic:
            return "auto";
        case AttachMode::native:
            return "native";
        case AttachMode::generic:
            return "generic";
        case AttachMode::tcx:
            return "tcx";
        case AttachMode::clsact:
            return "clsact";
    }
    return "unknown";
}

Result<> save_tables(const std::string& path, const Tables& tables) {
    Writer body;
    write_body(body, tables);
    const Header header{kMagic, kVersion, kSizes, crc(body.out()), body.out().size()};

    const std::string temporary = path + ".new";
    const Fd fd(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
    if (!fd) {
        return os_error(errno, "IVDS-S001", "write the saved state " + temporary);
    }
    if (auto r = write_all(fd.get(), &header, sizeof(header), temporary); !r) {
        return r;
    }
    if (auto r = write_all(fd.get(), body.out().data(), body.out().size(), temporary); !r) {
        return r;
    }
    if (::fsync(fd.get()) != 0 || ::rename(temporary.c_str(), path.c_str()) != 0) {
        return os_error(errno, "IVDS-S001", "replace the saved state " + path);
    }
    // The rename is durable only once the directory is.
    auto folder = std::filesystem::path(path).parent_path();
    const Fd directory(::open(folder.empty() ? "." : folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (directory && ::fsync(directory.get()) != 0) {
        return os_error(errno, "IVDS-S001", "sync the folder of the saved state " + path);
    }
    return {};
}

Result<Tables> load_tables(const std::string& path) {
    const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (!fd) {
        if (errno == ENOENT) {
            return fail(Code::not_found, "IVDS-S003", "there is no saved state " + path,
                        "apply a configuration first; the agent saves it there");
        }
        return os_error(errno, "IVDS-S001", "read the saved state " + path);
    }
    struct stat info{};
    if (::fstat(fd.get(), &info) != 0) {
        return os_error(errno, "IVDS-S001", "read the saved state " + path);
    }
    if (!S_ISREG(info.st_mode)) {
        return damaged(path, "not a regular file");
    }
    Header header{};
    const auto size = static_cast<std::size_t>(info.st_size);
    if (size < sizeof(header) || ::pread(fd.get(), &header, sizeof(header), 0) != sizeof(header)) {
        return damaged(path, "shorter than its header");
    }
    if (header.magic != kMagic) {
        return damaged(path, "wrong magic");
    }
    if (header.version != kVersion || header.sizes != kSizes) {
        return damaged(path,
                       fmt::format("version {} with structures of {} bytes; this build reads version {} with {}",
                                   header.version, header.sizes, kVersion, kSizes));
    }
    if (header.length != size - sizeof(header)) {
        return damaged(path, fmt::format("{} bytes where {} belong", size - sizeof(header), header.length));
    }
    std::string body(size - sizeof(header), '\0');
    for (std::size_t at = 0; at < body.size();) {
        const ssize_t n =
            ::pread(fd.get(), body.data() + at, body.size() - at, static_cast<off_t>(sizeof(header) + at));
        if (n == 0 || (n < 0 && errno != EINTR)) {
            return damaged(path, "it ended while being read");
        }
        at += n > 0 ? static_cast<std::size_t>(n) : 0;
    }
    if (crc(body) != header.crc) {
        return damaged(path, "wrong checksum");
    }
    Tables tables;
    Reader in(body);
    if (!read_body(in, tables)) {
        return damaged(path, "its content contradicts itself");
    }
    return tables;
}

}  // namespace ivds
