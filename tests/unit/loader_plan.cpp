// SPDX-License-Identifier: Apache-2.0
// loader_plan.cpp -- properties of the plan between any two tables.
#include <rapidcheck.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <iterator>

#include "plan.h"

using namespace ivds;

namespace {

// The one content of a list of rules under its id.
std::shared_ptr<const AclRow> list_of(std::uint32_t id) {
    AclRow list;
    list.default_action = id % 2 == 0 ? IVDS_ACL_DROP : IVDS_ACL_ALLOW;
    for (std::uint32_t n = 0; n < id; ++n) {
        list.masks.push_back({{}, n, 0});
        ivds_acl_key key{};
        key.fields.proto = static_cast<std::uint8_t>(id);
        key.mask = n;
        // Some rules are in more lists than one.
        list.rules.emplace_back(key, ivds_acl_rule{n, n + id / 2, 0, 0, IVDS_ACL_DROP, 0, {}});
    }
    return std::make_shared<const AclRow>(std::move(list));
}

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
    std::vector<std::uint32_t> lists = {0};
    for (std::uint32_t id = 1; id <= 4; ++id) {
        if (*rc::gen::arbitrary<bool>()) {
            tables.acls[id] = list_of(id);
            lists.push_back(id);
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
        row.value.acl_in = *rc::gen::elementOf(lists);
        row.value.acl_out = *rc::gen::elementOf(lists);
        if (*rc::gen::inRange(0, 4) == 0) {
            row.value.kind = IVDS_PORT_PATCH;
            row.value.flags = *rc::gen::element<std::uint16_t>(0, IVDS_PF_UP);
            row.netdev.clear();
            row.macs.clear();
        }
    }
    std::vector<std::uint32_t> vports;
    for (const auto& [id, row] : tables.ports) {
        if (row.value.kind != IVDS_PORT_UPLINK) {
            vports.push_back(id);
        }
    }
    // The list under the id 5 leads to a pool that always looks the same from there, and so is always the same.
    if (!vports.empty() && *rc::gen::arbitrary<bool>()) {
        auto& pool = tables.pools[1];
        pool.value.count = 1;
        pool.value.member[0] = *rc::gen::elementOf(vports);
        AclRow list;
        list.masks.resize(1);
        ivds_acl_rule rule{};
        rule.rule = 9;
        rule.action = IVDS_ACL_REDIRECT;
        rule.target = IVDS_TARGET_POOL | 1;
        list.rules.emplace_back(ivds_acl_key{}, rule);
        tables.acls[5] = std::make_shared<const AclRow>(std::move(list));
        tables.ports.at(vports.front()).value.acl_in = 5;
    }
    return tables;
}

struct World {
    Content content;
    Bulk bulk;
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
            const auto found = world.bulk.fdb.find(change.key);
            RC_ASSERT((found == world.bulk.fdb.end() ? FdbTarget{} : found->second) == change.before);
            world.bulk.fdb[change.key] = change.after;
        }
    } else if (std::holds_alternative<ClearFdb>(step)) {
        for (const auto& change : plan.fdb_clears) {
            RC_ASSERT(world.bulk.fdb.erase(change.key) == 1);
        }
    } else if (const auto* p = std::get_if<PutPool>(&step)) {
        content.pools[p->pool] = p->value;
    } else if (const auto* cp = std::get_if<ClearPool>(&step)) {
        RC_ASSERT(content.pools.erase(cp->pool) == 1);
    } else if (const auto* a = std::get_if<PutAcl>(&step)) {
        RC_ASSERT(world.bulk.acls.emplace(a->acl, a->rows).second);
    } else if (const auto* ca = std::get_if<ClearAcl>(&step)) {
        const auto found = world.bulk.acls.find(ca->acl);
        RC_ASSERT(found != world.bulk.acls.end());
        RC_ASSERT(same(*found->second, *ca->rows));
        world.bulk.acls.erase(found);
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
    for (const auto& [id, list] : world.bulk.acls) {
        for (const auto& [key, rule] : list->rules) {
            RC_ASSERT((rule.target & IVDS_TARGET_POOL) == 0 ||
                      world.content.pools.contains(rule.target & ~IVDS_TARGET_POOL));
        }
    }
    for (const auto& [id, port] : world.content.ports) {
        RC_ASSERT(port.kind != IVDS_PORT_PATCH || port.ifindex == 0);
        for (const auto acl : {port.acl_in, port.acl_out}) {
            RC_ASSERT(acl == 0 || world.bulk.acls.contains(acl));
        }
    }
}

bool same(const AclContent& a, const AclContent& b) {
    return std::ranges::equal(
        a, b, [](const auto& x, const auto& y) { return x.first == y.first && ivds::same(*x.second, *y.second); });
}

std::set<std::uint32_t> rules_of(const Tables& tables) {
    std::set<std::uint32_t> rules;
    for (const auto& [id, list] : tables.acls) {
        for (const auto& [key, rule] : list->rules) {
            rules.insert(rule.rule);
        }
    }
    rules.erase(0);
    return rules;
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
        RC_ASSERT(validate(next, old));
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
                    was->second.value.instance == row.value.instance && row.value.kind == IVDS_PORT_VPORT &&
                    was->second.value.kind == IVDS_PORT_VPORT) {
                    RC_ASSERT(members(world.content, row.value.instance).contains(id));
                }
            }
        }

        World direct;
        run(direct, make_plan({}, {}, nullptr, next));
        RC_ASSERT(world.bulk.fdb == direct.bulk.fdb);
        RC_ASSERT(same(world.bulk.acls, direct.bulk.acls));
        std::set<std::uint32_t> gone;
        std::ranges::set_difference(rules_of(old), rules_of(next), std::inserter(gone, gone.end()));
        RC_ASSERT(plan.gone_rules == gone);
        RC_ASSERT(world.content.vvlans == direct.content.vvlans);
        RC_ASSERT(std::ranges::equal(world.content.pools, direct.content.pools, [](const auto& x, const auto& y) {
            return x.first == y.first && std::memcmp(&x.second, &y.second, sizeof(x.second)) == 0;
        }));
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
        run(adopted, make_plan(between.content, {}, &between.bulk, next));
        RC_ASSERT(adopted.bulk.fdb == direct.bulk.fdb);
        RC_ASSERT(same(adopted.bulk.acls, direct.bulk.acls));
        RC_ASSERT(adopted.content.vvlans == direct.content.vvlans);
    }));
}

TEST_CASE("nothing is planned where nothing changed") {
    CHECK(rc::check([] {
        const auto tables = arbitrary_tables();
        World world;
        run(world, make_plan({}, {}, nullptr, tables));
        RC_ASSERT(make_plan(world.content, tables, nullptr, tables).empty());
        RC_ASSERT(make_plan(world.content, {}, &world.bulk, tables).empty());
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
            CHECK(world.bulk.fdb.size() == 1);
            CHECK(world.content.instances.at(1).first_member == 2);
        }
    }
    CHECK((world.content.instances.at(1).flags & IVDS_IF_ACTIVE) != 0);
}

TEST_CASE("a list of rules that is made anew under ports that name it is off until they name what they shall") {
    Tables tables;
    for (const std::uint32_t id : {1u, 2u}) {
        tables.acls[id] = list_of(id);
        auto& port = tables.ports[id];
        port.netdev = "v" + std::to_string(id);
        port.value.kind = IVDS_PORT_VPORT;
        port.value.acl_in = id;
    }
    World world;
    run(world, make_plan({}, {}, nullptr, tables));
    // The maps hold the lists under each other's ids.
    std::swap(world.bulk.acls[1], world.bulk.acls[2]);
    const auto foreign = world.bulk;
    auto next = tables;
    next.ports[1].value.acl_in = 2;
    next.ports[2].value.acl_in = 1;
    for (const auto& step : make_plan(world.content, {}, &foreign, next).steps) {
        take(world, {}, step);
        for (const auto& [id, port] : world.content.ports) {
            const auto list = world.bulk.acls.find(port.acl_in);
            if (list != world.bulk.acls.end() && port.acl_in == id) {
                CHECK(list->second == foreign.acls.at(port.acl_in));  // what the port met before
            }
        }
    }
    CHECK(world.content.ports.at(1).acl_in == 2);
    CHECK(same(*world.bulk.acls.at(1), *rows_of(1, *list_of(1))));
    CHECK(same(*world.bulk.acls.at(2), *rows_of(2, *list_of(2))));
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
        tables.acls[1] = list_of(1);
        tables.ports[2].value.acl_in = 1;
        tables.ports[2].value.inspector = 3;
        tables.ports[3].netdev = "i0";
        tables.ports[3].value.kind = IVDS_PORT_INSPECTOR;
        tables.ports[3].value.inspector = 3;
        tables.ports[3].value.timeout_ms = 1;
        tables.ports[3].value.queue = 1;
        const auto before = tables;
        REQUIRE(validate(tables));
        REQUIRE(validate(tables, before));
        change(tables);
        const auto r = validate(tables, before);
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
    CHECK(wrong([](Tables& t) { t.ports[2].value.acl_in = 7; }));
    CHECK(wrong([](Tables& t) { t.ports[2].value.acl_out = 7; }));
    CHECK(wrong([](Tables& t) { t.ports[1].value.acl_in = 1; }));
    CHECK(wrong([](Tables& t) { t.ports[1].value.acl_out = 1; }));
    CHECK(wrong([](Tables& t) { t.acls[0] = list_of(1); }));
    CHECK(wrong([](Tables& t) { t.acls[IVDS_MAX_ACLS] = list_of(1); }));
    CHECK(wrong([](Tables& t) { t.acls[2] = nullptr; }));
    CHECK(wrong([](Tables& t) { t.acls[1] = list_of(2); }));
    CHECK(wrong([](Tables& t) { t.ports[2].value.inspector = 1; }));
    CHECK(wrong([](Tables& t) { t.ports[2].value.inspector = 7; }));
    CHECK(wrong([](Tables& t) { t.ports[2].value.queue = 1; }));
    CHECK(wrong([](Tables& t) { t.ports[2].value.flags = IVDS_PF_FAIL_OPEN; }));
    CHECK(wrong([](Tables& t) { t.ports[1].value.inspector = 3; }));
    CHECK(wrong([](Tables& t) { t.ports[3].value.inspector = 0; }));
    CHECK(wrong([](Tables& t) { t.ports[3].value.instance = 1; }));
    CHECK(wrong([](Tables& t) { t.ports[3].value.timeout_ms = 0; }));
    CHECK(wrong([](Tables& t) { t.ports[3].value.queue = IVDS_MAX_QUEUE + 1; }));
    const auto wrong_list = [&](const std::function<void(AclRow&)>& change) {
        return wrong([&](Tables& t) {
            auto list = *list_of(3);
            t.acls[2] = std::make_shared<const AclRow>(list);
            REQUIRE(validate(t));
            change(list);
            t.acls[2] = std::make_shared<const AclRow>(list);
        });
    };
    CHECK(wrong_list([](AclRow& list) { list.default_action = 0; }));
    CHECK(wrong_list([](AclRow& list) { list.masks.resize(IVDS_MAX_ACL_MASKS + 1); }));
    CHECK(wrong_list([](AclRow& list) { list.rules[0].first.acl = 2; }));
    CHECK(wrong_list([](AclRow& list) { list.rules[0].first.mask = 3; }));
    CHECK(wrong_list([](AclRow& list) { list.rules[0].second.action = 3; }));
    CHECK(wrong_list([](AclRow& list) { list.rules.push_back(list.rules[0]); }));
}
