// SPDX-License-Identifier: Apache-2.0
// kernel_linux.h -- the Kernel that is one: pinned maps, programs and links under ROOT, and this network
// namespace's interfaces.
#pragma once

#include <array>
#include <memory>

#include "fd.h"
#include "kernel.h"
#include "layout.h"
#include "pin.h"

struct bpf_object;
struct ivds_bpf;  // the built-in programs, as bpftool makes a structure of them

namespace ivds {

struct SkeletonFree {
    void operator()(ivds_bpf* skeleton) const;
};
using Skeleton = std::unique_ptr<ivds_bpf, SkeletonFree>;

// The shapes of the maps in the object that is built in, by opening it without loading.
[[nodiscard]] Result<std::vector<MapShape>> built_in_layout();
// "0.1.0+1a2b3c4d": version and a digest of the built-in object.
[[nodiscard]] const std::string& built_in_build();

// Hands every element of an array or hash map to `sink`, read in batches. `value_size`: of all CPUs together.
[[nodiscard]] Result<> each_of_map(int fd, const MapShape& shape, std::size_t value_size,
                                   const std::function<void(const void*, const void*)>& sink);

class LinuxKernel final : public Kernel {
public:
    // Takes the writer's lock of `root` and adopts what is pinned, or makes and pins it.
    [[nodiscard]] static Result<std::unique_ptr<LinuxKernel>> open(const std::string& root);
    // For questions beside a writer: no lock, nothing made, nothing changed. Without pins there are no maps.
    [[nodiscard]] static Result<std::unique_ptr<LinuxKernel>> look(const std::string& root);
    ~LinuxKernel() override;
    [[nodiscard]] bool pinned() const { return static_cast<bool>(maps_[0]); }

    [[nodiscard]] int map_fd(Map map) const { return maps_[static_cast<std::size_t>(map)].get(); }

    Result<bool> lookup(Map map, const void* key, void* value) override;
    Result<> put(Map map, const void* key, const void* value) override;
    Result<bool> put_new(Map map, const void* key, const void* value) override;
    Result<bool> take(Map map, const void* key, void* value) override;
    Result<> erase(Map map, const void* key) override;
    Result<> each(Map map, const std::function<void(const void*, const void*)>& sink) override;
    void learned(std::uint32_t port, std::uint32_t instance, int by) override;
    bool has_learned(std::uint32_t port, std::uint32_t instance) override;
    void count_flows(std::uint32_t port, int by) override;
    Result<> set_port_stats(std::uint32_t port, const ivds_port_stats& stats) override;
    void forget_port(std::uint32_t port) override;
    void forget_instance(std::uint32_t instance) override;
    void forget_rules(const std::set<std::uint32_t>& rules) override;
    void forget_mirror(std::uint32_t session) override;
    Result<Swept> sweep(std::uint32_t port, std::uint32_t instance, ivds_sweep_only only) override;

    std::string build() const override { return built_in_build(); }
    std::string running() const override { return running_; }
    Programs current() const override { return current_; }
    Result<Programs> load() override;
    void unload(const Programs& programs) override;
    Result<> pin_next(const Programs& programs) override;
    void unpin_next() override;
    Result<> adopt(const Programs& programs) override;

    void hurry(bool on) override;
    Result<int> link_create(const Netdev& netdev, Point point, int program) override;
    Result<> link_pin(int link, const Netdev& netdev, Point point) override;
    void link_close(int link) override;
    Result<> link_remove(std::uint32_t ifindex, const std::string& netdev, Point point) override;
    Result<int> swap(std::uint32_t ifindex, const std::string& netdev, Point point, int program) override;
    void close_program(int program) override;
    Result<> can_share() override;
    Dispatcher dispatcher(std::uint32_t ifindex) override;
    Result<std::uint32_t> join(std::uint32_t ifindex, const std::string& netdev, Point point) override;
    Result<> leave(std::uint32_t ifindex, const std::string& netdev,
                   const std::vector<std::uint32_t>& programs) override;
    Result<> clsact_attach(const Netdev& netdev, int program) override;
    Result<> clsact_detach(std::uint32_t ifindex) override;
    bool clsact_ours(std::uint32_t ifindex) override;
    Result<std::map<std::uint32_t, Hooks>> hooks() override;
    bool has_tcx() override;
    ForeignProgram program_info(std::uint32_t id) override;
    std::vector<ForeignProgram> foreign_tcx(std::uint32_t ifindex) override;

    Result<std::uint32_t> make_tap() override;
    Result<> remove_tap() override;
    Result<int> swap_tap(int program) override;

    Result<std::vector<Netdev>> netdevs() override { return query_.all(); }
    Result<std::optional<Netdev>> netdev(const std::string& name) override { return query_.by_name(name); }
    Result<> set_up(std::uint32_t ifindex, bool up) override;
    Result<> set_promiscuous(std::uint32_t ifindex, const std::string& netdev, bool on) override;
    Result<std::string> driver(const std::string& netdev) override { return query_.driver(netdev); }
    Result<Features> features(const Netdev& netdev, bool peer) override { return query_.features(netdev, peer); }
    Result<> set_features(const Netdev& netdev, bool peer, const std::map<std::string, bool>& wanted) override {
        return query_.set_features(netdev, peer, wanted);
    }

    Result<> remove_pins() override;

    Result<> keep_ring(std::uint32_t session, const std::string& name, std::uint32_t bytes) override;
    void forget_rings(const std::set<std::string>& but) override;
    // A ring of so many bytes for the session's copies; it goes with the session, or with another in its place.
    [[nodiscard]] Result<Fd> make_ring(std::uint32_t session, std::uint32_t bytes);

private:
    LinuxKernel(PinPaths paths, NetdevQuery query) : paths_(std::move(paths)), query_(std::move(query)) {}

    Result<> lock();
    Result<> make();  // loads and pins what was not there
    Result<> open_pinned(std::uint32_t file_flags);
    Result<> adopt_pinned();  // checks and opens what was there
    Result<> open_state();
    Result<> zero(Map map, std::uint32_t key);
    Result<> reuse_maps(bpf_object* object) const;
    [[nodiscard]] Result<Skeleton> load_component() const;
    [[nodiscard]] bool is_ours(int program) const;
    // Both ends of the tap, the sending one first.
    [[nodiscard]] Result<std::optional<std::pair<Netdev, Netdev>>> find_tap();
    [[nodiscard]] std::string tap_pin(const Netdev& end) const;
    [[nodiscard]] std::string link_path(std::uint32_t ifindex, const std::string& netdev, Point point) const;

    PinPaths paths_;
    NetdevQuery query_;
    bool looking_ = false;
    bool hurried_ = false;
    Fd lock_;
    std::array<Fd, kMapCount> maps_;
    std::array<MapShape, kMapCount> shapes_;
    Programs current_;
    std::string running_;
    ivds_port_state* port_state_ = nullptr;
    ivds_instance_state* instance_state_ = nullptr;
    std::optional<bool> has_tcx_;
    std::optional<Result<>> can_share_;
};

}  // namespace ivds
