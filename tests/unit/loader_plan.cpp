// SPDX-License-Identifier: Apache-2.0
// loader_plan.cpp -- properties of the plan between any two tables.
#include <rapidcheck.h>

#include <catch2/catch_test_macros.hpp>
#include <cstring>

#include "plan.h"

using namespace ivds;

namespace {

// Tables over few ids, so that two of them often meet.
Tables arbitrary_tables() {
    Tables tables;
    tables.ports[1].name = "up";
    tables.ports[1].netdev = "up0";
    tables.ports[1].value.kind = IVDS_PORT_UPLINK;
    for (std::uint32_t id = 1; id <= 3; ++id) {
        if (*rc::gen::arbitrary<bool>()) {
            auto& row = tables.instances[id];
            row.value.flags = IVDS_IF_ACTIVE;
            row.value.uplink = 1;
            row.value.vvlan = static_cast<std::uint16_t>(id);
            row.value.mtu_bytes = *rc::gen::element<std::uint16_t>(1400, 1500);
            tables.vvlans[{1, 10, id}] = id;
            std::vector<StaticMac> fdb;
            for (std::uint8_t n = 0; n < *rc::gen::inRange(0, 4); ++n) {
                fdb.push_back({Mac{6, 0, 0, 0, 0, n}, 1, *rc::gen::element<std::uint16_t>(10, 11)});
            }
            row.fdb = std::make_shared<const std::vector<StaticMac>>(std::move(fdb));
        }
    }
    for (std::uint32_t id = 2; id <= 7; ++id) {
        const auto instance = *rc::gen::inRange<std::uint32_t>(0, 5);
        if (instance == 4) {
            continue;
        }
        auto& row = tables.ports[id];
        row.netdev = "v" + std::to_string(id);
        row.value.kind = IVDS_PORT_VPORT;
        row.value.instance = tables.instances.contains(instance) ? instance : 0;
        row.value.mtu_bytes = *rc::gen::element<std::uint16_t>(1400, 1500);
        row.macs = {Mac{2, 0, 0, 0, 0, static_cast<std::uint8_t>(id)}};
    }
    return tables;
}

struct World {
    Content content;
    FdbContent fdb;
};

void take(World& world, const Plan& plan, const Step& step) {
    auto& content = world.content;
    if (const auto* s = std::get_if<PutPort>(&step)) {
        content.ports[s->port] = s->value;
    } else if (const auto* c = std::get_if<ClearPort>(&step)) {
        content.ports.erase(c->port);
    } else if (const auto* i = std::get_if<PutInstance>(&step)) {
        content.instances[i->instance] = i->value;
    } else if (const auto* ci = std::get_if<ClearInstance>(&step)) {
        content.instances.erase(ci->instance);
    } else if (const auto* v = std::get_if<PutVvlan>(&step)) {
        content.vvlans[v->key] = v->instance;
    } else if (const auto* cv = std::get_if<ClearVvlan>(&step)) {
        content.vvlans.erase(cv->key);
    } else if (std::holds_alternative<PutFdb>(step)) {
        for (const auto& change : plan.fdb_puts) {
            const auto found = world.fdb.find(change.key);
            RC_ASSERT((found == world.fdb.end() ? FdbTarget{} : found->second) == change.before);
            world.fdb[change.key] = change.after;
        }
    } else if (std::holds_alternative<ClearFdb>(step)) {
        for (const auto& change : plan.fdb_clears) {
            RC_ASSERT(world.fdb.erase(change.key) == 1);
        }
    }
}

// What a frame could meet between two steps.
void must_be_safe(const World& world) {
    for (const auto& [id, instance] : world.content.instances) {
        std::set<std::uint32_t> seen;
        for (auto member = instance.first_member; member != 0;) {
            RC_ASSERT(seen.insert(member).second);
            const auto port = world.content.ports.find(member);
            RC_ASSERT(port != world.content.ports.end());
            RC_ASSERT(port->second.instance == id);
            member = port->second.next_member;
        }
    }
    for (const auto& [key, instance] : world.content.vvlans) {
        RC_ASSERT(world.content.instances.contains(instance));
    }
}

std::set<std::uint32_t> members(const Content& content, std::uint32_t instance) {
    std::set<std::uint32_t> out;
    for (auto id = content.instances.at(instance).first_member; id != 0; id = content.ports.at(id).next_member) {
        out.insert(id);
    }
    return out;
}

void run(World& world, const Plan& plan) {
    for (const auto& step : plan.steps) {
        take(world, plan, step);
        must_be_safe(world);
    }
}

}  // namespace

TEST_CASE("the plan from any tables to any others is safe at every step and ends there", "[R105][R119]") {
    CHECK(rc::check([] {
        const auto old = arbitrary_tables();
        const auto next = arbitrary_tables();
        RC_ASSERT(validate(old));
        RC_ASSERT(validate(next));
        World world;
        run(world, make_plan({}, {}, nullptr, old));
        const World between = world;

        // A member that stays is in its list at every step: no flood misses it.
        const auto plan = make_plan(world.content, old, nullptr, next);
        for (const auto& step : plan.steps) {
            take(world, plan, step);
            must_be_safe(world);
            for (const auto& [id, row] : next.ports) {
                const auto was = old.ports.find(id);
                if (row.value.instance != 0 && was != old.ports.end() &&
                    was->second.value.instance == row.value.instance && row.value.kind == IVDS_PORT_VPORT) {
                    RC_ASSERT(members(world.content, row.value.instance).contains(id));
                }
            }
        }

        World direct;
        run(direct, make_plan({}, {}, nullptr, next));
        RC_ASSERT(world.fdb == direct.fdb);
        RC_ASSERT(world.content.vvlans == direct.content.vvlans);
        RC_ASSERT(world.content.ports.size() == direct.content.ports.size());
        for (const auto& [id, port] : direct.content.ports) {
            RC_ASSERT(std::memcmp(&world.content.ports.at(id), &port, sizeof(port)) == 0);
        }
        for (const auto& [id, instance] : direct.content.instances) {
            RC_ASSERT(std::memcmp(&world.content.instances.at(id), &instance, sizeof(instance)) == 0);
        }
        RC_ASSERT(world.content.instances.size() == direct.content.instances.size());

        // From the same state read out of the maps the plan does the same.
        World adopted = between;
        run(adopted, make_plan(between.content, {}, &between.fdb, next));
        RC_ASSERT(adopted.fdb == direct.fdb);
        RC_ASSERT(adopted.content.vvlans == direct.content.vvlans);
    }));
}

TEST_CASE("nothing is planned where nothing changed") {
    CHECK(rc::check([] {
        const auto tables = arbitrary_tables();
        World world;
        run(world, make_plan({}, {}, nullptr, tables));
        RC_ASSERT(make_plan(world.content, tables, nullptr, tables).empty());
        RC_ASSERT(make_plan(world.content, {}, &world.fdb, tables).empty());
    }));
}

TEST_CASE("a new instance forwards only when everything of it is there") {
    Tables tables;
    tables.ports[1].value.kind = IVDS_PORT_UPLINK;
    tables.instances[1].value.uplink = 1;
    tables.instances[1].value.flags = IVDS_IF_ACTIVE | IVDS_IF_WIRE;
    tables.vvlans[{1, 10, 20}] = 1;
    auto& port = tables.ports[2];
    port.netdev = "a";
    port.value.kind = IVDS_PORT_VPORT;
    port.value.instance = 1;
    port.macs = {Mac{2}};
    const auto plan = make_plan({}, {}, nullptr, tables);
    World world;
    for (const auto& step : plan.steps) {
        take(world, plan, step);
        if (world.content.instances.contains(1) && (world.content.instances.at(1).flags & IVDS_IF_ACTIVE) != 0) {
            CHECK(world.content.vvlans.size() == 1);
            CHECK(world.fdb.size() == 1);
            CHECK(world.content.instances.at(1).first_member == 2);
        }
    }
    CHECK((world.content.instances.at(1).flags & IVDS_IF_ACTIVE) != 0);
}

TEST_CASE("tables that contradict themselves are refused") {
    const auto wrong = [](const std::function<void(Tables&)>& change) {
        Tables tables;
        tables.ports[1].netdev = "up0";
        tables.ports[1].value.kind = IVDS_PORT_UPLINK;
        tables.ports[2].netdev = "v0";
        tables.ports[2].value.kind = IVDS_PORT_VPORT;
        tables.ports[2].value.instance = 1;
        tables.instances[1].value.uplink = 1;
        tables.vvlans[{1, 10, 20}] = 1;
        REQUIRE(validate(tables));
        change(tables);
        const auto r = validate(tables);
        return !r && r.error().code == Code::invalid;
    };
    CHECK(wrong([](Tables& t) { t.ports[0].value.kind = IVDS_PORT_VPORT; }));
    CHECK(wrong([](Tables& t) { t.ports[IVDS_MAX_PORTS].value.kind = IVDS_PORT_VPORT; }));
    CHECK(wrong([](Tables& t) { t.ports[2].value.kind = 9; }));
    CHECK(wrong([](Tables& t) { t.ports[2].value.flags = IVDS_PF_UP; }));
    CHECK(wrong([](Tables& t) { t.ports[2].value.instance = 5; }));
    CHECK(wrong([](Tables& t) { t.ports[2].netdev = "up0"; }));
    CHECK(wrong([](Tables& t) { t.instances[IVDS_MAX_INSTANCES] = {}; }));
    CHECK(wrong([](Tables& t) { t.instances[1].value.uplink = 2; }));
    CHECK(wrong([](Tables& t) { t.instances[1].value.first_member = 2; }));
    CHECK(wrong([](Tables& t) { t.vvlans[{2, 10, 20}] = 1; }));
    CHECK(wrong([](Tables& t) { t.vvlans[{1, 4095, 20}] = 1; }));
    CHECK(wrong([](Tables& t) { t.vvlans[{1, 10, 21}] = 7; }));
}
