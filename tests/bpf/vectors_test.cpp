// SPDX-License-Identifier: Apache-2.0
// Each vector of the table is a test case of its own, and is run on every rung that can take its frames.
#include "vectors.h"

#include <algorithm>
#include <catch2/catch_test_case_info.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/internal/catch_test_registry.hpp>
#include <fstream>
#include <set>
#include <sstream>
#include <string>

namespace ivds::test {

namespace {

Rig& rig() {
    static Rig the_rig(Rig::Options{});
    return the_rig;
}

// What differs between the table and an outcome; of the outcome's counts, the ones that the table names and all
// drops.
std::string difference_from_table(const Expected& expected, const Outcome& got) {
    const Outcome table{
        .sent = expected.sent, .counts = expected.counts, .events = expected.events, .fdb = {}, .learned = {}};
    Outcome seen{.sent = got.sent, .counts = {}, .events = got.events, .fdb = {}, .learned = {}};
    for (const auto& [name, value] : got.counts) {
        if (name.starts_with("drop ") || expected.counts.contains(name)) {
            seen.counts[name] = value;
        }
    }
    return difference(table, seen);
}

class VectorTest : public Catch::ITestInvoker {
public:
    explicit VectorTest(Vector vector) : vector_(std::move(vector)) {}

    void invoke() const override {
        const auto reference = play_reference(vector_.world, Rung::tc_live, vector_.steps);
        for (std::size_t i = 0; i < reference.size(); ++i) {
            const std::string wrong = difference_from_table(vector_.expected[i], reference[i]);
            INFO("the reference switch, frame " << i << "\n" << wrong);
            CHECK(wrong.empty());
        }
        for (const Rung rung : all_rungs) {
            if (!std::ranges::all_of(vector_.steps, [&](const Step& step) { return Rig::can_run(rung, step); })) {
                continue;
            }
            const auto expected = play_reference(vector_.world, rung, vector_.steps);
            const auto got = rig().play(vector_.world, rung, vector_.steps);
            for (std::size_t i = 0; i < got.size(); ++i) {
                const std::string wrong = difference(expected[i], got[i]);
                INFO(to_string(rung) << ", frame " << i << " into port " << vector_.steps[i].port << "\n" << wrong);
                CHECK(wrong.empty());
            }
        }
    }

private:
    Vector vector_;
};

const bool are_registered = [] {
    for (const Vector& vector : all_vectors()) {
        Catch::AutoReg(Catch::Detail::make_unique<VectorTest>(vector), CATCH_INTERNAL_LINEINFO, Catch::StringRef(),
                       Catch::NameAndTags(vector.name, vector.tags));
    }
    return true;
}();

// The quoted names in the paragraphs of the text that begin with "Vectors:".
std::vector<std::string> cited_in(const std::string& file) {
    std::vector<std::string> names;
    std::ifstream text(file);
    bool citing = false;
    for (std::string line; std::getline(text, line);) {
        citing = line.starts_with("Vectors:") || (citing && !line.empty());
        if (!citing) continue;
        std::istringstream words(line);
        std::string part;
        for (bool inside = false; std::getline(words, part, '"'); inside = !inside)
            if (inside) names.push_back(part);
    }
    return names;
}

}  // namespace

TEST_CASE("the written rules of tags and relay are those of the vectors", "[R141]") {
    std::set<std::string> known;
    for (const Vector& vector : all_vectors()) known.insert(vector.name);
    const auto cited = cited_in(IVDS_RELAY_MD);
    CHECK(cited.size() > 30);
    for (const std::string& name : cited) {
        INFO(name);
        CHECK(known.contains(name));
    }
}

}  // namespace ivds::test
