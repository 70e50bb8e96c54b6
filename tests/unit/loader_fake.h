// SPDX-License-Identifier: Apache-2.0
// loader_fake.h -- a Kernel in memory. It fails on demand at the n-th call that can fail, and notes every moment
// at which the switch's safety rules did not hold.
#pragma once

#include <array>
#include <cstring>
#include <map>
#include <set>
#include <string>
#include <vector>

#include "kernel.h"
#include "tables.h"

namespace ivds::test {

class FakeKernel final : public Kernel {
public:
    struct Link {
        std::uint32_t ifindex = 0;
        Point point = Point::tcx;
        int program = -1;
        bool operator==(const Link&) const = default;
        auto operator<=>(const Link&) const = default;
    };
    struct Interface {
        Netdev netdev;
        Features own;
        Features peer;
    };
    // All that a failed change must leave as it was.
    struct State {
        std::array<std::map<std::string, std::string>, kMapCount> maps;
        std::set<Link> links;
        std::map<std::string, std::tuple<bool, bool, std::map<std::string, bool>>> interfaces;
        std::map<std::uint32_t, std::string> foreign;
        std::string running;
        std::uint32_t tap = 0;
        int tap_program = -1;
        std::map<std::string, std::pair<std::uint32_t, std::uint32_t>> rings;
        bool operator==(const State&) const = default;
    };

    FakeKernel();
    void add(const std::string& name, const std::string& kind, const std::string& driver = "");
    void remove(const std::string& name);
    // Somebody else's program, in a dispatcher of libxdp or alone on the hook.
    void add_foreign(const std::string& name, bool in_dispatcher, bool generic = false);
    [[nodiscard]] std::vector<int> shared_on(const std::string& name) const;  // our programs in its dispatcher
    [[nodiscard]] State state() const;

    int fail_at = 0;  // the call that fails, counted from 1; 0: none does
    int calls = 0;
    int writes = 0;                        // to maps and hooks
    std::array<int, kMapCount> touched{};  // reads and writes, by map
    bool dead_from_then = false;           // not only that call fails but all from it on, as if the process ended
    void revive();
    int tcx = 1;
    std::vector<std::string> violations;
    std::map<std::string, Interface> interfaces;
    std::map<std::string, std::string> drivers;
    std::set<Point> refused;  // link_create and join of these fail as a driver does
    std::string cannot_share;
    std::string own_build = "fake-1";
    std::uint32_t tap = 0;  // ifindex of the mirrors' tap
    int tap_program = -1;
    std::map<std::string, std::pair<std::uint32_t, std::uint32_t>> rings;  // {session, bytes} by name

    // Contents by structure.
    template <class T, class Key>
    T get(Map map, const Key& key) const {
        T value{};
        const auto& rows = maps_[static_cast<std::size_t>(map)];
        const auto found = rows.find(bytes(&key, sizeof(key)));
        if (found != rows.end()) {
            std::memcpy(&value, found->second.data(), sizeof(value));
        }
        return value;
    }
    template <class T, class Key>
    void set(Map map, const Key& key, const T& value) {
        maps_[static_cast<std::size_t>(map)][bytes(&key, sizeof(key))] = bytes(&value, sizeof(value));
    }
    template <class Key>
    void unset(Map map, const Key& key) {
        maps_[static_cast<std::size_t>(map)].erase(bytes(&key, sizeof(key)));
    }
    [[nodiscard]] std::size_t rows(Map map) const { return maps_[static_cast<std::size_t>(map)].size(); }
    [[nodiscard]] const Link* link_on(std::uint32_t ifindex, bool xdp) const;
    [[nodiscard]] int learned_of(std::uint32_t port) const;

    Result<bool> lookup(Map map, const void* key, void* value) override;
    Result<> put(Map map, const void* key, const void* value) override;
    Result<bool> put_new(Map map, const void* key, const void* value) override;
    Result<bool> take(Map map, const void* key, void* value) override;
    Result<> erase(Map map, const void* key) override;
    Result<> each(Map map, const std::function<void(const void*, const void*)>& sink) override;
    void learned(std::uint32_t port, std::uint32_t instance, int by) override;
    bool has_learned(std::uint32_t port, std::uint32_t instance) override {
        return port != 0 ? learned_of(port) != 0
                         : get<ivds_instance_state>(Map::instance_state, instance).learned != 0;
    }
    void count_flows(std::uint32_t port, int by) override;
    Result<> set_port_stats(std::uint32_t port, const ivds_port_stats& stats) override;
    void forget_port(std::uint32_t) override {}
    void forget_instance(std::uint32_t) override {}
    void forget_rules(const std::set<std::uint32_t>& rules) override;
    void forget_mirror(std::uint32_t) override {}
    Result<> keep_ring(std::uint32_t session, const std::string& name, std::uint32_t bytes) override;
    void forget_rings(const std::set<std::string>& but) override;
    Result<std::uint32_t> make_tap() override;
    Result<> remove_tap() override;
    Result<int> swap_tap(int program) override;
    Result<Swept> sweep(std::uint32_t port, std::uint32_t instance, ivds_sweep_only only) override;
    std::string build() const override { return own_build; }
    std::string running() const override { return running_; }
    Programs current() const override { return current_; }
    Result<Programs> load() override;
    void unload(const Programs& programs) override;
    Result<> pin_next(const Programs&) override;
    void unpin_next() override { next_pinned_ = false; }
    Result<> adopt(const Programs& programs) override;
    void hurry(bool) override {}
    Result<int> link_create(const Netdev& netdev, Point point, int program) override;
    Result<> link_pin(int link, const Netdev& netdev, Point point) override;
    void link_close(int link) override;
    Result<> link_remove(std::uint32_t ifindex, const std::string& netdev, Point point) override;
    Result<int> swap(std::uint32_t ifindex, const std::string& netdev, Point point, int program) override;
    void close_program(int) override {}
    Result<> can_share() override;
    Dispatcher dispatcher(std::uint32_t ifindex) override;
    Result<std::uint32_t> join(std::uint32_t ifindex, const std::string& netdev, Point point) override;
    Result<> leave(std::uint32_t ifindex, const std::string& netdev,
                   const std::vector<std::uint32_t>& programs) override;
    Result<> clsact_attach(const Netdev& netdev, int program) override;
    Result<> clsact_detach(std::uint32_t ifindex) override;
    bool clsact_ours(std::uint32_t ifindex) override;
    Result<std::map<std::uint32_t, Hooks>> hooks() override;
    bool has_tcx() override { return tcx != 0; }
    ForeignProgram program_info(std::uint32_t id) override { return {id, "other", "0011223344556677"}; }
    std::vector<ForeignProgram> foreign_tcx(std::uint32_t) override { return {}; }
    Result<std::vector<Netdev>> netdevs() override;
    Result<std::optional<Netdev>> netdev(const std::string& name) override;
    Result<> set_up(std::uint32_t ifindex, bool up) override;
    Result<> set_promiscuous(std::uint32_t ifindex, const std::string& netdev, bool on) override;
    Result<std::string> driver(const std::string& name) override;
    Result<Features> features(const Netdev& netdev, bool peer) override;
    Result<> set_features(const Netdev& netdev, bool peer, const std::map<std::string, bool>& wanted) override;
    Result<> remove_pins() override;

private:
    static std::string bytes(const void* data, std::size_t size) { return {static_cast<const char*>(data), size}; }
    static std::size_t key_size(Map map);
    static std::size_t value_size(Map map);
    static bool is_array(Map map);
    bool fails();
    bool fails(Map map);
    Result<> failed() const;
    Interface* by_index(std::uint32_t ifindex);
    Netdev shown(const Interface& interface) const;
    void note(std::string text);
    void check();
    [[nodiscard]] bool is_live(std::uint32_t acl) const;
    void check_list_row(Map map, const void* key);
    void check_lists(Map map, const void* key);

    std::array<std::map<std::string, std::string>, kMapCount> maps_;
    std::map<int, Link> links_;  // by handle; pinned and open alike, and what is in dispatchers
    struct Foreign {
        bool in_dispatcher = false;
        bool generic = false;
    };
    std::map<std::uint32_t, Foreign> foreign_;  // by ifindex
    int own_xdp_ = 1;                           // this binary's program, which dispatchers get
    std::set<int> pinned_;
    std::map<std::uint32_t, int> filters_;  // ifindex -> program
    std::set<std::uint32_t> hooked_;        // vPort interfaces that had a TC hook once
    Programs current_{1, 2, 4, 3};
    std::string running_ = "fake-1";
    bool next_pinned_ = false;
    bool undoing_ = false;
    int last_handle_ = 100;
    std::uint32_t last_ifindex_ = 1;
};

}  // namespace ivds::test
