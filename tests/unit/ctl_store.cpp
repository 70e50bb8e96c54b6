// SPDX-License-Identifier: Apache-2.0
// The store: what was acknowledged comes back, whatever the file went through; else the start is refused.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <sstream>

#include "agent/store.h"
#include "api/codec.h"
#include "ctl_directory.h"

using namespace ivds;
using Catch::Matchers::ContainsSubstring;

namespace {

Intent intent(const std::string& text, const Intent& now = {}) {
    auto model = next_from_config(now.model, config_from_yaml(text, "t").value(), {});
    INFO((model ? "" : model.error().text()));
    REQUIRE(model);
    auto ids = assign_ids(*model, now.ids).value();
    return {std::move(*model), std::move(ids), {}, {}};
}

std::string text_of(const Intent& intent) {
    return to_yaml(to_config(intent.model));
}

std::string slurp(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

void spill(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc) << bytes;
}

const Intent& nothing() {
    static const Intent none;
    return none;
}

}  // namespace

TEST_CASE("the store gives back what was saved, ids included", "[R83]") {
    const Directory dir;
    const Intent one = intent(
        "instances: [{name: a, fdb: [{mac: 02:00:00:00:00:01, vport: p}]}]\nvports: [{name: p, netdev: d, instance: "
        "a}, {name: q, netdev: e}]");
    const Intent two =
        intent("instances: [{name: a}]\nvports: [{name: q, netdev: e, mtu_bytes: 900}, {name: r, netdev: f}]", one);
    {
        Store store = Store::open(dir.path).value();
        CHECK(!store.take_loaded());
        REQUIRE(store.save(nothing(), one));
        REQUIRE(store.save(one, two));
        const auto read = load_intent(dir.path).value();
        REQUIRE(read);
        CHECK(text_of(*read) == text_of(two));
    }
    Store store = Store::open(dir.path).value();
    CHECK(!store.dropped_tail());
    const auto loaded = store.take_loaded();
    REQUIRE(loaded);
    CHECK(text_of(*loaded) == text_of(two));
    CHECK(loaded->ids == two.ids);
    CHECK(loaded->model.static_macs.empty());
    CHECK(!store.take_loaded());
}

TEST_CASE("what is prepared comes back with what was there before, until it is prepared no more", "[R163][R165]") {
    const Directory dir;
    const Intent one = intent("vports: [{name: q, netdev: e}]");
    Intent two = intent("vports: [{name: p, netdev: d}, {name: q, netdev: e}]", one);
    auto prepared = std::make_shared<Prepared>();
    prepared->migration.set_host("a");
    prepared->migration.mutable_vport()->set_name("p");
    prepared->migration.add_flows()->set_key(std::string("\0\xff", 2));
    prepared->found.add_objects()->mutable_vnic()->set_name("n");
    two.prepared["p"] = prepared;
    Store store = Store::open(dir.path).value();
    REQUIRE(store.save(nothing(), one));
    REQUIRE(store.save(one, two));
    auto read = load_intent(dir.path).value();
    REQUIRE(read->prepared.contains("p"));
    CHECK(read->prepared.at("p")->migration.SerializeAsString() == prepared->migration.SerializeAsString());
    CHECK(read->prepared.at("p")->found.objects(0).vnic().name() == "n");
    // Another change writes nothing of it.
    Intent three = intent("vports: [{name: p, netdev: d}]", two);
    three.prepared = two.prepared;
    const auto before = std::filesystem::file_size(intent_path(dir.path));
    REQUIRE(store.save(two, three));
    CHECK(std::filesystem::file_size(intent_path(dir.path)) - before < 60);
    CHECK(load_intent(dir.path).value()->prepared.size() == 1);
    REQUIRE(store.save(three, one));
    CHECK(load_intent(dir.path).value()->prepared.empty());
}

TEST_CASE("a static list's index is there again after a load") {
    const Directory dir;
    const Intent one = intent(
        "instances: [{name: a, fdb: [{mac: 02:00:00:00:00:01, vport: p}]}]\nvports: [{name: p, netdev: d, instance: "
        "a}]");
    REQUIRE(Store::open(dir.path).value().save(nothing(), one));
    const auto loaded = load_intent(dir.path).value();
    REQUIRE(loaded->model.static_macs.contains("a"));
    CHECK(loaded->model.static_macs.at("a")->vports == std::vector<std::string>{"p"});
}

TEST_CASE("a change costs its own size, not the state's") {
    const Directory dir;
    std::string text = "vports:\n";
    for (int i = 0; i < 500; ++i) text += fmt::format("- {{name: p{}, netdev: d{}}}\n", i, i);
    const Intent one = intent(text);
    const Intent two = intent(text + "- {name: one-more, netdev: e}\n", one);
    Store store = Store::open(dir.path).value();
    REQUIRE(store.save(nothing(), one));
    const auto before = std::filesystem::file_size(intent_path(dir.path));
    REQUIRE(store.save(one, two));
    CHECK(std::filesystem::file_size(intent_path(dir.path)) - before < 100);
}

TEST_CASE("a file cut at any byte is refused, or is the state before the change that was cut, never a half") {
    const Directory dir;
    const Intent one = intent("vports: [{name: p, netdev: d}]");
    const Intent two = intent(
        "vports: [{name: p, netdev: d}, {name: q, netdev: e}]\nvnics: [{name: n, vmac: 02:00:00:00:00:01}]", one);
    std::size_t first = 0;
    {
        Store store = Store::open(dir.path).value();
        REQUIRE(store.save(nothing(), one));
        first = std::filesystem::file_size(intent_path(dir.path));
        REQUIRE(store.save(one, two));
    }
    const std::string whole = slurp(intent_path(dir.path));
    for (std::size_t cut = 0; cut <= whole.size(); ++cut) {
        CAPTURE(cut);
        spill(intent_path(dir.path), whole.substr(0, cut));
        auto store = Store::open(dir.path);
        if (cut < first) {
            REQUIRE(!store);
            CHECK(store.error().id == "IVDS-S001");
            CHECK_THAT(store.error().what, ContainsSubstring(intent_path(dir.path)));
            CHECK_THAT(store.error().fix, ContainsSubstring("--discard-state"));
            CHECK(slurp(intent_path(dir.path)) == whole.substr(0, cut));
            continue;
        }
        REQUIRE(store);
        const auto loaded = store->take_loaded();
        REQUIRE(loaded);
        CHECK(text_of(*loaded) == text_of(cut == whole.size() ? two : one));
        CHECK(store->dropped_tail() == (cut != first && cut != whole.size()));
        // And what is saved next is there the time after.
        if (cut == whole.size()) continue;
        REQUIRE(store->save(one, two));
        CHECK(text_of(*load_intent(dir.path).value()) == text_of(two));
    }
}

TEST_CASE("a file with any byte changed is refused, or loses at most the change that was cut, never a half") {
    const Directory dir;
    const Intent one = intent("vports: [{name: p, netdev: d}]");
    const Intent two = intent("vports: [{name: p, netdev: d}, {name: q, netdev: e}]", one);
    {
        Store store = Store::open(dir.path).value();
        REQUIRE(store.save(nothing(), one));
        REQUIRE(store.save(one, two));
    }
    const std::string whole = slurp(intent_path(dir.path));
    for (std::size_t place = 0; place < whole.size(); ++place) {
        CAPTURE(place);
        std::string changed = whole;
        changed[place] = static_cast<char>(changed[place] ^ 0x41);
        spill(intent_path(dir.path), changed);
        const auto loaded = load_intent(dir.path);
        // Only a length that then points behind the end of the file looks like a cut.
        if (loaded) CHECK(text_of(**loaded) == text_of(one));
    }
}

TEST_CASE("a file of another version is refused") {
    const Directory dir;
    spill(intent_path(dir.path), "IVDS intent 2\nwhatever");
    CHECK(Store::open(dir.path).error().id == "IVDS-S001");
}

TEST_CASE("a damaged file is set aside on demand, and not lost") {
    const Directory dir;
    spill(intent_path(dir.path), "garbage");
    Store store = Store::open(dir.path, true).value();
    CHECK(!store.take_loaded());
    CHECK(slurp(intent_path(dir.path) + ".damaged") == "garbage");
    const Intent one = intent("vports: [{name: p, netdev: d}]");
    REQUIRE(store.save(nothing(), one));
    CHECK(text_of(*load_intent(dir.path).value()) == text_of(one));
}

TEST_CASE("a save that the disk refuses leaves the state before it, and the next one works") {
    const Directory dir;
    const Intent one = intent("vports: [{name: p, netdev: d}]");
    std::string many = "vports:\n- {name: p, netdev: d}\n";
    for (int i = 0; i < 300; ++i) many += fmt::format("- {{name: many{}, netdev: m{}}}\n", i, i);
    const Intent large = intent(many, one);
    const Intent two = intent("vports: [{name: q, netdev: e}]", one);
    Store store = Store::open(dir.path).value();
    REQUIRE(store.save(nothing(), one));

    // A file size limit in the middle of the record: the first write is short, the second fails.
    rlimit old{};
    REQUIRE(::getrlimit(RLIMIT_FSIZE, &old) == 0);
    rlimit tight = old;
    tight.rlim_cur = std::filesystem::file_size(intent_path(dir.path)) + 100;
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &tight) == 0);
    const auto saved = store.save(one, large);
    REQUIRE(::setrlimit(RLIMIT_FSIZE, &old) == 0);
    (void)std::signal(SIGXFSZ, handler);

    REQUIRE(!saved);
    CHECK(saved.error().id == "IVDS-S002");
    CHECK(text_of(*load_intent(dir.path).value()) == text_of(one));
    REQUIRE(store.save(one, two));
    CHECK(text_of(*load_intent(dir.path).value()) == text_of(two));
}

TEST_CASE("a long tail is folded into a new file, and nothing is lost") {
    const Directory dir;
    // A large object that changes often makes a long tail fast.
    std::string base = "instances:\n- name: a\n  fdb:\n";
    for (int i = 0; i < 20'000; ++i)
        base += fmt::format("  - {{mac: \"02:00:00:00:{:02x}:{:02x}\", vport: p}}\n", i >> 8, i & 255);
    const std::string port = "vports: [{name: p, netdev: d, instance: a}]\n";
    Intent now = intent(base + port);
    Store store = Store::open(dir.path).value();
    REQUIRE(store.save(nothing(), now));
    const auto first = std::filesystem::file_size(intent_path(dir.path));
    for (int i = 1; i <= 10; ++i) {
        Intent next = intent(base + fmt::format("  age_s: {}\n", i) + port, now);
        REQUIRE(store.save(now, next));
        now = std::move(next);
    }
    CHECK(std::filesystem::file_size(intent_path(dir.path)) > 10 * first);
    REQUIRE(store.compact_if_long(now));
    CHECK(std::filesystem::file_size(intent_path(dir.path)) < 2 * first);
    CHECK(!std::filesystem::exists(intent_path(dir.path) + ".new"));
    const auto loaded = load_intent(dir.path).value();
    CHECK(text_of(*loaded) == text_of(now));
    CHECK(loaded->ids == now.ids);
}

TEST_CASE("nothing saved is no error, an unreadable directory is one") {
    const Directory dir;
    CHECK(!load_intent(dir.path).value());
    CHECK(!load_intent(dir.path + "/missing").value());
    CHECK(!Store::open(dir.path + "/missing/deeper"));
}
