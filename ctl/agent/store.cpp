// SPDX-License-Identifier: Apache-2.0
#include "agent/store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <utility>

#include "api/codec.h"
#include "model/kinds.h"
#include "state.pb.h"

namespace ivds {
namespace {

// The first bytes of a journal; the digit is the version of the format.
constexpr std::string_view kMagic = "IVDS intent 1\n";
constexpr std::size_t kFrameBytes = 8;  // length and CRC-32 of what follows, little endian
// A tail that is shorter than this is never worth a rewrite.
constexpr std::uint64_t kShortTail = 4U << 20;

void put_u32(std::string& out, std::uint32_t value) {
    for (int shift = 0; shift < 32; shift += 8) out += static_cast<char>(value >> shift & 0xff);
}

std::uint32_t get_u32(const char* bytes) {
    std::uint32_t value = 0;
    for (int i = 3; i >= 0; --i) value = value << 8 | static_cast<unsigned char>(bytes[i]);
    return value;
}

// The CRC covers the length too, so that a run of zeros is no valid record.
std::uint32_t checksum(const char* payload, std::uint32_t length) {
    std::string head;
    put_u32(head, length);
    uLong crc = crc32(0, reinterpret_cast<const Bytef*>(head.data()), static_cast<uInt>(head.size()));
    crc = crc32(crc, reinterpret_cast<const Bytef*>(payload), length);
    return static_cast<std::uint32_t>(crc);
}

Result<std::string> frame(const state::Record& record) {
    const std::string payload = record.SerializeAsString();
    if (payload.empty() || payload.size() > 0x7fffffff)
        return fail(Code::system, "IVDS-S002", fmt::format("a record of {} bytes cannot be saved", payload.size()));
    const auto length = static_cast<std::uint32_t>(payload.size());
    std::string out;
    out.reserve(kFrameBytes + payload.size());
    put_u32(out, length);
    put_u32(out, checksum(payload.data(), length));
    out += payload;
    return out;
}

Result<> write_all(int fd, const std::string& bytes, const std::string& path) {
    for (std::size_t done = 0; done < bytes.size();) {
        const ssize_t n = ::write(fd, bytes.data() + done, bytes.size() - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return os_error(errno, "IVDS-S002", "write " + path, "make room, or use another --state-dir");
        done += static_cast<std::size_t>(n);
    }
    return {};
}

void put_ids(const std::map<std::string, std::uint32_t>& now, const std::map<std::string, std::uint32_t>& next,
             google::protobuf::RepeatedPtrField<state::Id>* out) {
    const auto add = [&](const std::string& name, std::uint32_t id) {
        state::Id* entry = out->Add();
        entry->set_name(name);
        entry->set_id(id);
    };
    for (const auto& [name, id] : next) {
        const auto old = now.find(name);
        if (old == now.end() || old->second != id) add(name, id);
    }
    for (const auto& [name, id] : now)
        if (!next.contains(name)) add(name, 0);
}

// An id of 0 says in a record that there is none.
std::map<std::string, std::uint32_t> from_one(std::map<std::string, std::uint32_t> ids) {
    for (auto& [name, id] : ids) ++id;
    return ids;
}

void put_times(const std::map<std::string, std::uint64_t>& now, const std::map<std::string, std::uint64_t>& next,
               google::protobuf::RepeatedPtrField<state::Time>* out) {
    const auto add = [&](const std::string& name, std::uint64_t time_s) {
        state::Time* entry = out->Add();
        entry->set_name(name);
        entry->set_time_s(time_s);
    };
    for (const auto& [name, time_s] : next) {
        const auto old = now.find(name);
        if (old == now.end() || old->second != time_s) add(name, time_s);
    }
    for (const auto& [name, time_s] : now)
        if (!next.contains(name)) add(name, 0);
}

state::Record change(const Intent& now, const Intent& next) {
    state::Record record;
    for_each_kind([&](auto kind) {
        const auto& before = now.model.*kind.objects;
        const auto& after = next.model.*kind.objects;
        for (const auto& [name, object] : after) {
            const auto old = before.find(name);
            if (old == before.end() || old->second != object) *(record.add_put()->*kind.mutable_object)() = *object;
        }
        for (const auto& [name, object] : before) {
            if (after.contains(name)) continue;
            pb::Ref* removed = record.add_removed();
            removed->set_kind(kind.kind);
            removed->set_name(name);
        }
    });
    put_ids(now.ids.ports, next.ids.ports, record.mutable_ports());
    put_ids(now.ids.instances, next.ids.instances, record.mutable_instances());
    put_ids(now.ids.rules, next.ids.rules, record.mutable_rules());
    put_ids(now.ids.acls, next.ids.acls, record.mutable_acls());
    put_ids(now.ids.pools, next.ids.pools, record.mutable_pools());
    put_ids(from_one(now.ids.mirrors), from_one(next.ids.mirrors), record.mutable_mirrors());
    put_times(now.came_s, next.came_s, record.mutable_came());
    for (const auto& [name, prepared] : next.prepared) {
        const auto old = now.prepared.find(name);
        if (old != now.prepared.end() && old->second == prepared) continue;
        state::Prepared* entry = record.add_prepared();
        entry->set_vport(name);
        *entry->mutable_migration() = prepared->migration;
        *entry->mutable_found() = prepared->found;
    }
    for (const auto& [name, prepared] : now.prepared)
        if (!next.prepared.contains(name)) record.add_prepared()->set_vport(name);
    record.set_next_port(next.ids.next_port);
    record.set_next_instance(next.ids.next_instance);
    record.set_next_rule(next.ids.next_rule);
    record.set_next_acl(next.ids.next_acl);
    record.set_next_pool(next.ids.next_pool);
    record.set_next_mirror(next.ids.next_mirror);
    return record;
}

// Reading: objects as they will be, before a Model is made of them.
struct Fold {
    std::map<std::pair<int, std::string>, pb::Object> objects;
    Ids ids;  // those of mirrors from 1, as in the records
    std::map<std::string, std::uint64_t> came_s;
    std::map<std::string, std::shared_ptr<const Prepared>> prepared;

    void apply(state::Record& record) {
        for (pb::Object& object : *record.mutable_put()) {
            std::pair<int, std::string> key{kind_of(object), name_of(object)};
            objects[std::move(key)].Swap(&object);
        }
        for (const pb::Ref& ref : record.removed()) objects.erase({ref.kind(), ref.name()});
        const auto fold_ids = [](std::map<std::string, std::uint32_t>& ids_now, const auto& changes) {
            for (const state::Id& entry : changes) {
                if (entry.id() == 0)
                    ids_now.erase(entry.name());
                else
                    ids_now[entry.name()] = entry.id();
            }
        };
        fold_ids(ids.ports, record.ports());
        fold_ids(ids.instances, record.instances());
        fold_ids(ids.rules, record.rules());
        fold_ids(ids.acls, record.acls());
        fold_ids(ids.pools, record.pools());
        fold_ids(ids.mirrors, record.mirrors());
        for (const state::Time& entry : record.came()) {
            if (entry.time_s() == 0)
                came_s.erase(entry.name());
            else
                came_s[entry.name()] = entry.time_s();
        }
        for (state::Prepared& entry : *record.mutable_prepared()) {
            if (entry.has_migration())
                prepared[entry.vport()] = std::make_shared<const Prepared>(std::move(*entry.mutable_migration()),
                                                                           std::move(*entry.mutable_found()));
            else
                prepared.erase(entry.vport());
        }
        ids.next_port = record.next_port();
        ids.next_instance = record.next_instance();
        ids.next_rule = record.next_rule();
        ids.next_acl = record.next_acl();
        ids.next_pool = record.next_pool();
        ids.next_mirror = record.next_mirror();
    }

    Intent finish() {
        pb::Config config;
        for (auto& entry : objects) {
            pb::Object& object = entry.second;
            for_each_kind([&](auto kind) {
                if (kind_of(object) == kind.kind)
                    (config.*kind.mutable_list)()->Add()->Swap((object.*kind.mutable_object)());
            });
        }
        objects.clear();
        for (auto& [name, id] : ids.mirrors) --id;
        return {model_from_saved(std::move(config)), std::move(ids), std::move(came_s), std::move(prepared)};
    }
};

struct Loaded {
    Intent intent;
    std::uint64_t size = 0;  // of the intact part
    std::uint64_t head_size = 0;
    bool dropped_tail = false;
};

std::unexpected<Error> damaged(const std::string& path, const std::string& what) {
    return fail(Code::system, "IVDS-S001", fmt::format("{}: {}", path, what),
                "restore the file, or start with --discard-state (it is kept as intent.damaged) and apply your "
                "configuration again; forwarding goes on meanwhile");
}

Result<Loaded> parse(const std::string& bytes, const std::string& path) {
    if (!bytes.starts_with(kMagic)) return damaged(path, "not a saved intent of this version");
    Loaded loaded;
    Fold fold;
    std::size_t place = kMagic.size();
    bool first = true;
    while (place < bytes.size()) {
        const std::size_t left = bytes.size() - place;
        const std::uint32_t length = left >= kFrameBytes ? get_u32(bytes.data() + place) : 0;
        if (left < kFrameBytes || length > left - kFrameBytes) {
            if (first) break;
            loaded.dropped_tail = true;
            break;
        }
        const char* payload = bytes.data() + place + kFrameBytes;
        state::Record record;
        if (get_u32(bytes.data() + place + 4) != checksum(payload, length) ||
            !record.ParseFromArray(payload, static_cast<int>(length)))
            return damaged(path, fmt::format("damaged at byte {}", place));
        fold.apply(record);
        place += kFrameBytes + length;
        if (first) loaded.head_size = place;
        first = false;
    }
    if (first) return damaged(path, "the file is cut short");
    loaded.size = place;
    loaded.intent = fold.finish();
    return loaded;
}

// No value: there is no such file.
Result<std::optional<std::string>> read_file(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT) return std::nullopt;
    if (fd < 0) return os_error(errno, "IVDS-S003", "open " + path);
    std::string bytes;
    struct stat info{};
    if (::fstat(fd, &info) == 0) bytes.reserve(static_cast<std::size_t>(info.st_size));
    char buffer[65536];
    for (;;) {
        const ssize_t n = ::read(fd, buffer, sizeof buffer);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            const int err = errno;
            ::close(fd);
            return os_error(err, "IVDS-S003", "read " + path);
        }
        if (n == 0) break;
        bytes.append(buffer, static_cast<std::size_t>(n));
    }
    ::close(fd);
    return bytes;
}

Result<std::optional<Loaded>> load(const std::string& path) {
    auto bytes = read_file(path);
    if (!bytes) return std::unexpected(bytes.error());
    if (!*bytes) return std::nullopt;
    auto loaded = parse(**bytes, path);
    if (!loaded) return std::unexpected(loaded.error());
    return std::move(*loaded);
}

}  // namespace

std::string intent_path(const std::string& state_dir) {
    return state_dir + "/intent";
}

std::string tables_path(const std::string& state_dir) {
    return state_dir + "/tables.state";
}

Result<std::optional<Intent>> load_intent(const std::string& state_dir) {
    auto loaded = load(intent_path(state_dir));
    if (!loaded) return std::unexpected(loaded.error());
    if (!*loaded) return std::nullopt;
    return std::move((*loaded)->intent);
}

Store::Store(Store&& other) noexcept
    : dir_(std::move(other.dir_)),
      fd_(std::exchange(other.fd_, -1)),
      size_(other.size_),
      head_size_(other.head_size_),
      dropped_tail_(other.dropped_tail_),
      loaded_(std::move(other.loaded_)) {}

Store::~Store() {
    if (fd_ >= 0) ::close(fd_);
}

Result<Store> Store::open(const std::string& state_dir, bool discard) {
    if (::mkdir(state_dir.c_str(), 0750) != 0 && errno != EEXIST)
        return os_error(errno, "IVDS-S003", "make the state directory " + state_dir);
    Store store;
    store.dir_ = state_dir;
    const std::string path = intent_path(state_dir);
    auto loaded = load(path);
    if (!loaded) {
        if (!discard || loaded.error().id != "IVDS-S001") return std::unexpected(loaded.error());
        const std::string aside = path + ".damaged";
        if (::rename(path.c_str(), aside.c_str()) != 0) return os_error(errno, "IVDS-S003", "rename " + path);
        return store;
    }
    if (!*loaded) return store;
    store.fd_ = ::open(path.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
    if (store.fd_ < 0) return os_error(errno, "IVDS-S003", "open " + path);
    store.size_ = (*loaded)->size;
    store.head_size_ = (*loaded)->head_size;
    store.dropped_tail_ = (*loaded)->dropped_tail;
    store.loaded_ = std::move((*loaded)->intent);
    if (store.dropped_tail_ && ::ftruncate(store.fd_, static_cast<off_t>(store.size_)) != 0)
        return os_error(errno, "IVDS-S003", "truncate " + path);
    return store;
}

std::optional<Intent> Store::take_loaded() {
    return std::exchange(loaded_, std::nullopt);
}

Result<> Store::save(const Intent& now, const Intent& next) {
    if (fd_ < 0) return rewrite(next);
    auto bytes = frame(change(now, next));
    if (!bytes) return std::unexpected(bytes.error());
    const std::string path = intent_path(dir_);
    auto written = write_all(fd_, *bytes, path);
    if (written && ::fdatasync(fd_) != 0) written = os_error(errno, "IVDS-S002", "sync " + path);
    if (!written) {
        // Take back what may have reached the file. Where even that fails, the next save writes it anew.
        if (::ftruncate(fd_, static_cast<off_t>(size_)) != 0 || ::fdatasync(fd_) != 0) {
            ::close(fd_);
            fd_ = -1;
        }
        return written;
    }
    size_ += bytes->size();
    return {};
}

Result<> Store::compact_if_long(const Intent& now) {
    if (fd_ < 0 || size_ - head_size_ < std::max(kShortTail, head_size_)) return {};
    return rewrite(now);
}

Result<> Store::rewrite(const Intent& intent) {
    auto record = frame(change({}, intent));
    if (!record) return std::unexpected(record.error());
    const std::string path = intent_path(dir_);
    const std::string fresh = path + ".new";
    const int fd = ::open(fresh.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0) return os_error(errno, "IVDS-S002", "create " + fresh);
    auto written = write_all(fd, std::string(kMagic), fresh);
    if (written) written = write_all(fd, *record, fresh);
    if (written && ::fsync(fd) != 0) written = os_error(errno, "IVDS-S002", "sync " + fresh);
    if (written && ::rename(fresh.c_str(), path.c_str()) != 0)
        written = os_error(errno, "IVDS-S002", "rename " + fresh);
    if (!written) {
        ::close(fd);
        ::unlink(fresh.c_str());
        return written;
    }
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
    size_ = head_size_ = kMagic.size() + record->size();
    // The name must be durable too. If it may not be, the next save writes the file once more.
    const int dir = ::open(dir_.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0 || ::fsync(dir) != 0) {
        written = os_error(errno, "IVDS-S002", "sync " + dir_);
        ::close(fd_);
        fd_ = -1;
    }
    if (dir >= 0) ::close(dir);
    return written;
}

}  // namespace ivds
