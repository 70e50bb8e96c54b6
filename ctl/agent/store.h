// SPDX-License-Identifier: Apache-2.0
// store.h -- the intent on disk: a journal of changed objects, so that one changed vPort costs one short write and
// one fdatasync however large the rest is. The file starts with a record that holds everything; each acknowledged
// change is one record behind it, framed by its length and a CRC; when the tail has grown long the file is
// written anew beside the old one and takes its place by rename.
//
// A record that the file ends within was being written when the machine went down: it was never acknowledged, and
// is dropped. Anything else that does not read back (a changed byte, a hole) is an error that names the file.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "compile/ids.h"
#include "ivds.pb.h"
#include "loader/error.h"
#include "model/model.h"

namespace ivds {

// Of a vPort that is prepared for a VM from another host.
struct Prepared {
    pb::Migration migration;  // as that host exported it: for hosts that cannot say it again by the commit
    pb::ObjectList found;     // as in found_by_prepare(): what taking it back restores
};

struct Intent {
    Model model;
    Ids ids;
    std::map<std::string, std::uint64_t> came_s;  // when rules with a hard timeout came, by rule_key(): since 1970
    std::map<std::string, std::shared_ptr<const Prepared>> prepared = {};  // by vPort
};

constexpr const char* kStateDir = "/var/lib/ivds";
[[nodiscard]] std::string intent_path(const std::string& state_dir);  // the journal
[[nodiscard]] std::string tables_path(const std::string& state_dir);  // for ivds-loader, see save_tables()

// Reads the saved intent without touching anything, also while the agent runs (it then sees a whole state of
// some moment); nothing there: no value.
[[nodiscard]] Result<std::optional<Intent>> load_intent(const std::string& state_dir);

class Store {
public:
    // Makes the directory (0750) if it is missing, and reads what is there. With `discard`, a file that does
    // not read back is set aside as "intent.damaged" and the store is empty.
    [[nodiscard]] static Result<Store> open(const std::string& state_dir, bool discard = false);
    Store(Store&& other) noexcept;
    Store& operator=(Store&&) = delete;
    ~Store();

    // The saved intent, once; the store keeps none of it.
    [[nodiscard]] std::optional<Intent> take_loaded();
    // Whether the file ended in a change that was never acknowledged.
    [[nodiscard]] bool dropped_tail() const { return dropped_tail_; }

    // Makes `next` durable, as the change from `now`. On an error the file says `now`, as before.
    [[nodiscard]] Result<> save(const Intent& now, const Intent& next);
    // Writes the whole state anew if the tail has grown long.
    [[nodiscard]] Result<> compact_if_long(const Intent& now);

private:
    Store() = default;
    [[nodiscard]] Result<> rewrite(const Intent& intent);

    std::string dir_;
    int fd_ = -1;  // of the journal, for appending; -1: there is none, or it must be written anew
    std::uint64_t size_ = 0;
    std::uint64_t head_size_ = 0;  // up to the end of the first record
    bool dropped_tail_ = false;
    std::optional<Intent> loaded_;
};

}  // namespace ivds
