// SPDX-License-Identifier: Apache-2.0
// switch.cpp -- Switch: the core over the real kernel, the watch and the events.
#include "switch.h"

#include <bpf/libbpf.h>

#include <cerrno>

#include "core.h"
#include "kernel_linux.h"
#include "netdev.h"

namespace ivds {
namespace {

Result<std::uint32_t> count(const Result<Swept>& swept, std::uint32_t Swept::* which) {
    return swept ? Result<std::uint32_t>((*swept).*which) : std::unexpected(swept.error());
}

}  // namespace

struct Switch::Impl {
    std::unique_ptr<LinuxKernel> kernel;
    std::unique_ptr<Core> core;
    std::optional<NetdevWatch> watch;
    ring_buffer* events = nullptr;
    const std::function<void(const ivds_event&)>* sink = nullptr;  // of the on_events() that runs

    Impl() = default;
    Impl(const Impl&) = delete;
    Impl& operator=(const Impl&) = delete;
    ~Impl() { ring_buffer__free(events); }

    static int on_event(void* context, void* data, std::size_t size) {
        const auto* self = static_cast<const Impl*>(context);
        if (self->sink != nullptr && size >= sizeof(ivds_event)) {
            (*self->sink)(*static_cast<const ivds_event*>(data));
        }
        return 0;
    }
};

Switch::Switch(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Switch::~Switch() = default;

Result<std::unique_ptr<Switch>> Switch::open(const SwitchOptions& options) {
    auto impl = std::make_unique<Impl>();
    // The watch comes first, so that nothing that changes while the rest is opened is missed.
    auto watch = NetdevWatch::open();
    if (!watch) {
        return std::unexpected(watch.error());
    }
    impl->watch = std::move(*watch);
    auto kernel = LinuxKernel::open(options.root);
    if (!kernel) {
        return std::unexpected(kernel.error());
    }
    impl->kernel = std::move(*kernel);
    impl->core = std::make_unique<Core>(*impl->kernel, options.assume_carrier, options.xdp_coexist);
    if (auto r = impl->core->adopt(); !r) {
        return std::unexpected(r.error());
    }
    impl->events = ring_buffer__new(impl->kernel->map_fd(Map::events), Impl::on_event, impl.get(), nullptr);
    if (impl->events == nullptr) {
        return os_error(errno, "IVDS-L007", "open the ring buffer of events");
    }
    return std::unique_ptr<Switch>(new Switch(std::move(impl)));
}

Result<> Switch::apply(Tables next, bool strict, const std::set<std::string>* only) {
    return impl_->core->apply(std::move(next), strict, only);
}
const Tables& Switch::tables() const {
    return impl_->core->tables();
}
std::vector<Finding> Switch::doctor() {
    return impl_->core->doctor();
}
Result<> Switch::mend() {
    return impl_->core->mend();
}
std::vector<PortStatus> Switch::status() const {
    return impl_->core->status();
}

int Switch::watch_fd() const {
    return impl_->watch->fd();
}

std::vector<PortChange> Switch::on_watch() {
    std::vector<PortChange> changes;
    const auto add = [&](std::vector<PortChange> more) {
        changes.insert(changes.end(), std::make_move_iterator(more.begin()), std::make_move_iterator(more.end()));
    };
    const bool complete =
        impl_->watch->read([&](const NetdevWatch::Change& change) { add(impl_->core->on_change(change)); });
    if (!complete) {
        add(impl_->core->resync());
    }
    return changes;
}

int Switch::event_fd() const {
    return ring_buffer__epoll_fd(impl_->events);
}

void Switch::on_events(const std::function<void(const ivds_event&)>& sink) {
    impl_->sink = &sink;
    (void)ring_buffer__consume(impl_->events);
    impl_->sink = nullptr;
}

Result<int> Switch::make_ring(std::uint32_t session, std::uint32_t bytes) {
    auto ring = impl_->kernel->make_ring(session, bytes);
    if (!ring) {
        return std::unexpected(ring.error());
    }
    return ring->release();
}

Result<std::uint32_t> Switch::sweep() {
    return count(impl_->core->sweep(0, 0), &Swept::fdb);
}
Result<std::uint32_t> Switch::flush_port(std::uint32_t port) {
    return count(impl_->core->sweep(port, 0, IVDS_SWEEP_FDB), &Swept::fdb);
}
Result<std::uint32_t> Switch::flush_instance(std::uint32_t instance) {
    return count(impl_->core->sweep(0, instance, IVDS_SWEEP_FDB), &Swept::fdb);
}
Result<std::uint32_t> Switch::flush_flows(std::uint32_t port, std::uint32_t instance) {
    return count(impl_->core->sweep(port, instance, IVDS_SWEEP_FLOWS), &Swept::flows);
}
Result<> Switch::forget(std::uint32_t instance, const Mac& mac) {
    return impl_->core->forget(instance, mac);
}
Result<> Switch::send_on(std::uint32_t instance, const Mac& mac, std::uint32_t until_s) {
    return impl_->core->send_on(instance, mac, until_s);
}
Result<> Switch::carry_over(std::uint32_t port, const ivds_port_stats& stats, const std::vector<FlowRow>& flows) {
    return impl_->core->carry_over(port, stats, flows);
}
Result<> Switch::set_nic_stats(std::uint32_t port, const ivds_nic_stats& stats) {
    return impl_->kernel->put(Map::nic_stats, &port, &stats);
}
Result<> Switch::upgrade(bool again) {
    return impl_->core->upgrade(again);
}
Result<> Switch::tear_down() {
    return impl_->core->tear_down();
}

Result<std::vector<Finding>> doctor(const SwitchOptions& options, const Tables& tables) {
    auto kernel = LinuxKernel::look(options.root);
    if (!kernel) {
        return std::unexpected(kernel.error());
    }
    Core core(**kernel, options.assume_carrier, options.xdp_coexist);
    if ((*kernel)->pinned()) {
        if (auto r = core.adopt(); !r) {
            return std::unexpected(r.error());
        }
    }
    core.suppose(tables);
    return core.doctor();
}

}  // namespace ivds
