// SPDX-License-Identifier: Apache-2.0
// Who may call what: the roles in certificates and in the schema, and the audit log.
#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "agent/audit.h"
#include "agent/gate.h"

using namespace ivds;

namespace {

std::vector<pb::AuditEntry> entries_of(const std::string& path) {
    std::vector<pb::AuditEntry> entries;
    std::ifstream file(path);
    // A line that does not end yet is still being written.
    for (std::string line; std::getline(file, line) && !file.eof();) {
        const auto read = message_from_yaml(line, path, entries.emplace_back());
        INFO(line);
        REQUIRE(read);
    }
    return entries;
}

pb::AuditEntry entry(const std::string& object) {
    pb::AuditEntry it;
    it.set_object(object);
    return it;
}

class Folder {
public:
    Folder() {
        std::string pattern = (std::filesystem::temp_directory_path() / "ivds-audit-XXXXXX").string();
        path_ = ::mkdtemp(pattern.data());
    }
    ~Folder() { std::filesystem::remove_all(path_); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    [[nodiscard]] std::string operator/(const char* name) const { return path_ + "/" + name; }

private:
    std::string path_;
};

}  // namespace

TEST_CASE("a certificate has a role if it names just one that there is", "[R142]") {
    CHECK(role_in({"urn:ivds:role:read"}).first == pb::READ);
    CHECK(role_in({"https://example.com/x", "urn:ivds:role:operate"}).first == pb::OPERATE);
    CHECK(role_in({"urn:ivds:role:administer"}).first == pb::ADMINISTER);
    using Uris = std::vector<std::string>;
    for (const Uris& uris :
         {Uris{}, Uris{"urn:ivds:role:"}, Uris{"urn:ivds:role:king"}, Uris{"urn:ivds:role:no_role"},
          Uris{"urn:ivds:role:administer "}, Uris{"urn:ivds:role:read/administer"}, Uris{"xurn:ivds:role:administer"},
          Uris{"urn:ivds:role:read", "urn:ivds:role:administer"}, Uris{"urn:ivds:role:read", "urn:ivds:role:king"}}) {
        INFO((uris.empty() ? "none" : uris.back()));
        const auto [role, why] = role_in(uris);
        CHECK(role == pb::NO_ROLE);
        CHECK(why.starts_with("its certificate names "));
    }
}

TEST_CASE("every call of the schema has a role, and some kinds ask for more to be changed", "[R142]") {
    const auto* service = pb::AuditEntry::descriptor()->file()->FindServiceByName("Switch");
    REQUIRE(service->method_count() > 20);
    for (int i = 0; i < service->method_count(); ++i) {
        INFO(service->method(i)->name());
        CHECK(role_for(service->method(i)->name(), pb::KIND_NONE) != pb::NO_ROLE);
    }
    CHECK(role_for("NoSuchCall", pb::KIND_NONE) == pb::NO_ROLE);
    const std::set<int> host = {pb::UPLINK, pb::TENANT, pb::MIRROR, pb::EXPORTER, pb::INSPECTOR};
    for (int kind = pb::UPLINK; kind <= pb::INSPECTOR; ++kind) {
        INFO(to_text(static_cast<pb::Kind>(kind)));
        for (const char* call : {"Create", "Update", "Delete"})
            CHECK(role_for(call, static_cast<pb::Kind>(kind)) ==
                  (host.contains(kind) ? pb::ADMINISTER : pb::OPERATE));
        CHECK(role_for("Get", static_cast<pb::Kind>(kind)) == pb::READ);
    }
    // What a field of the request asks for beside the call.
    pb::DoctorRequest look;
    CHECK(role_for("Doctor", pb::KIND_NONE, look) == pb::READ);
    look.set_mend(true);
    CHECK(role_for("Doctor", pb::KIND_NONE, look) == pb::OPERATE);
    CHECK(role_for("NoSuchCall", pb::KIND_NONE, look) == pb::NO_ROLE);
    // A number that is no kind asks for no less than the call does.
    CHECK(role_for("Delete", static_cast<pb::Kind>(99)) == pb::OPERATE);
}

TEST_CASE("the audit log has a line for each entry, or counts it in a later one", "[R142][R160]") {
    const Folder folder;
    const std::string path = folder / "audit";
    std::uint64_t added = 20'000;
    {
        AuditLog log(path);
        log.add(entry("vport \"two\nlines\""));
        for (std::uint64_t i = 1; i < added; ++i) log.add(entry("vport x"));
        // Once one of these is written, there is room again, and the one after it is not lost.
        const auto seen = [&] { return std::ranges::count(entries_of(path), "after", &pb::AuditEntry::object); };
        for (int i = 0; i < 500 && seen() == 0; ++i, ++added) {
            log.add(entry("after"));
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
        }
        log.add(entry("last"));
    }
    const auto entries = entries_of(path);
    REQUIRE(!entries.empty());
    CHECK(entries.front().object() == "vport \"two\nlines\"");
    CHECK(entries.back().object() == "last");
    std::uint64_t all = 0;
    for (const pb::AuditEntry& each : entries) all += 1 + each.lost();
    CHECK(all == added + 1);
    CHECK(entries.front().time().size() == std::string("2025-01-31T12:00:00.000Z").size());
}

TEST_CASE("what the audit log cannot write is counted in the next line that it can", "[R142][R160]") {
    const Folder folder;
    const std::string path = folder / "missing/audit";
    AuditLog log(path);
    log.add(entry("one"));
    log.add(entry("two"));
    std::this_thread::sleep_for(std::chrono::milliseconds(200));
    std::filesystem::create_directory(folder / "missing");
    const auto total = [&] {
        std::uint64_t all = 0;
        for (const pb::AuditEntry& each : entries_of(path)) all += 1 + each.lost();
        return all;
    };
    log.add(entry("three"));
    for (int i = 0; i < 500 && total() < 3; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(10));
    CHECK(total() == 3);
    CHECK(entries_of(path).back().object() == "three");
}
