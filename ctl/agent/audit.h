// SPDX-License-Identifier: Apache-2.0
// audit.h -- who changed what: entries become lines of JSON in a file, or in the log, by a thread of its own, so that
// no call waits for a disk. What finds no room, or cannot be written, is counted, and the next line says how many.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <mutex>
#include <string>
#include <thread>

#include "api/codec.h"

namespace ivds {

class AuditLog {
public:
    // An empty path: the log. The file is opened anew for each batch, so that it may be rotated; it is made with mode
    // 0640.
    explicit AuditLog(std::string path);
    // Writes what waits.
    ~AuditLog();
    AuditLog(const AuditLog&) = delete;
    AuditLog& operator=(const AuditLog&) = delete;

    // Sets time and lost. Never waits for a disk.
    void add(pb::AuditEntry entry);

private:
    void run();
    [[nodiscard]] bool write(const std::string& lines) const;

    const std::string path_;
    std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<pb::AuditEntry> waiting_;
    std::uint64_t lost_ = 0;
    bool ending_ = false;
    std::thread thread_;  // last: it uses the others
};

}  // namespace ivds
