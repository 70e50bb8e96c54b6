// SPDX-License-Identifier: Apache-2.0
// etcd.h -- a client of etcd's v3 API, as far as the registry needs it: one connection, calls that wait. Every call
// has a deadline; etcd that is away, or has no leader, is Code::unavailable. Safe to call from several threads.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loader/error.h"

namespace ivds::etcd {

struct KeyValue {
    std::string key;
    std::string value;
    std::int64_t create_revision = 0;
    std::int64_t mod_revision = 0;
    std::int64_t lease = 0;  // 0: none
};

// What etcd says of itself beside each answer.
struct Header {
    std::uint64_t cluster = 0;
    std::int64_t revision = 0;
};

// A key that must have this revision for a transaction to hold; 0: that must not be there.
struct Guard {
    std::string key;
    std::int64_t mod_revision = 0;
};

struct Write {
    std::string key;
    std::optional<std::string> value;  // none: the key goes
    std::int64_t lease = 0;
};

struct Change {
    KeyValue kv;
    bool deleted = false;  // kv has the key alone
};

// What a watch says. `compacted`: what comes after the revision asked for is no longer known, and nothing follows.
struct Changes {
    std::vector<Change> changes;
    std::int64_t revision = 0;  // up to which all has been told; 0: as before
    bool compacted = false;
};

// PEM files; empty: without TLS, or for ca: the system's.
struct Tls {
    bool on = false;
    std::string ca;
    std::string cert;
    std::string key;
};

// A user of etcd's; empty: etcd asks for none, or takes the certificate's name for it.
struct Login {
    std::string user;
    std::string password_file;  // its first line
};

class Client {
public:
    // `endpoint` is HOST:PORT. Fails on files alone: whether etcd is there, and knows the user, is for the calls to
    // find out.
    [[nodiscard]] static Result<std::unique_ptr<Client>> open(const std::string& endpoint, const Tls& tls,
                                                              const Login& login = {});
    ~Client();
    Client(const Client&) = delete;
    Client& operator=(const Client&) = delete;

    [[nodiscard]] Result<Header> get(const std::string& key, std::optional<KeyValue>& out);
    // All keys with the prefix as they were at one revision, which it returns. Between two pages `pause` is called.
    [[nodiscard]] Result<Header> list(const std::string& prefix, const std::function<void(KeyValue)>& sink,
                                      const std::function<void()>& pause);
    // The revision at which all was written; 0: a guard did not hold, and nothing was. Code::not_found: a lease is
    // gone. At most kMaxOperations guards and writes.
    [[nodiscard]] Result<std::int64_t> transact(const std::vector<Guard>& guards, const std::vector<Write>& writes);
    // A new lease of so many seconds.
    [[nodiscard]] Result<std::int64_t> grant(std::int64_t ttl_s);
    // Seconds that the lease has from now; 0: it is gone.
    [[nodiscard]] Result<std::int64_t> keep_alive(std::int64_t lease);
    // Calls `sink` from this thread with what happens to keys with the prefix from `revision` on, until `stop_watch`
    // is called (no error), or the connection fails.
    [[nodiscard]] Result<> watch(const std::string& prefix, std::int64_t revision,
                                 const std::function<void(Changes)>& sink);
    void stop_watch();

private:
    struct Impl;
    explicit Client(std::unique_ptr<Impl> impl);
    std::unique_ptr<Impl> impl_;
};

// etcd's own limit is 128 operations, each guard counting as well as each write.
constexpr std::size_t kMaxOperations = 100;

}  // namespace ivds::etcd
