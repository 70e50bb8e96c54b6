// SPDX-License-Identifier: Apache-2.0
#include "agent/audit.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <utility>

#include "agent/event_log.h"

namespace ivds {
namespace {

// A second of calls as fast as they can come.
constexpr std::size_t kMaxWaiting = 4096;

}  // namespace

AuditLog::AuditLog(std::string path) : path_(std::move(path)), thread_([this] { run(); }) {}

AuditLog::~AuditLog() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    wake_.notify_one();
    thread_.join();
    if (lost_ != 0) spdlog::error("audit log: {} entries are lost [IVDS-A012]", lost_);
}

void AuditLog::add(pb::AuditEntry entry) {
    entry.set_time(time_text(std::chrono::system_clock::now()));
    {
        const std::lock_guard lock(mutex_);
        if (waiting_.size() >= kMaxWaiting) {
            ++lost_;
            return;
        }
        entry.set_lost(std::exchange(lost_, 0));
        waiting_.push_back(std::move(entry));
    }
    wake_.notify_one();
}

void AuditLog::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait(lock, [this] { return ending_ || !waiting_.empty(); });
        if (waiting_.empty()) return;
        std::deque<pb::AuditEntry> batch = std::exchange(waiting_, {});
        lock.unlock();
        std::uint64_t unwritten = 0;
        std::string lines;
        for (const pb::AuditEntry& entry : batch) {
            lines += to_json(entry) + "\n";
            unwritten += 1 + entry.lost();
        }
        const bool written = write(lines);
        lock.lock();
        if (!written) lost_ += unwritten;
    }
}

bool AuditLog::write(const std::string& lines) const {
    if (path_.empty()) {
        for (std::size_t begin = 0; begin < lines.size();) {
            const std::size_t end = lines.find('\n', begin);
            spdlog::info("audit {}", lines.substr(begin, end - begin));
            begin = end + 1;
        }
        return true;
    }
    const int fd = ::open(path_.c_str(), O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
    std::size_t done = 0;
    int err = fd < 0 ? errno : 0;
    while (err == 0 && done < lines.size()) {
        const ssize_t count = ::write(fd, lines.data() + done, lines.size() - done);
        if (count > 0)
            done += static_cast<std::size_t>(count);
        else if (errno != EINTR)
            err = errno;
    }
    if (fd >= 0) ::close(fd);
    if (err != 0)
        spdlog::error("audit log {}: {} [IVDS-A012]; the calls go on, and the next line there counts what is lost",
                      path_, std::strerror(err));
    return err == 0;
}

}  // namespace ivds
