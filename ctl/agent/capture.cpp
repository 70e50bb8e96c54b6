// SPDX-License-Identifier: Apache-2.0
#include "agent/capture.h"

#include <arpa/inet.h>
#include <bpf/libbpf.h>
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <set>
#include <span>

#include "agent/clock.h"
#include "loader/switch.h"
#include "model/address.h"

namespace ivds {
namespace {

constexpr int kPatienceMs = 200;

Address address_of(const std::uint8_t (&bytes)[16]) {
    return std::to_array(bytes);
}

// The host's address towards `remote`, zeros where it has no route.
Address source_towards(const Address& remote) {
    constexpr in_port_t discard = 9;  // nothing is sent
    sockaddr_in6 there{};
    sockaddr_in6 here{};
    socklen_t size = sizeof(here);
    Address source{};
    const bool four = is_ip4(remote);
    const int fd = ::socket(four ? AF_INET : AF_INET6, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) return source;
    if (four) {
        sockaddr_in to{};
        sockaddr_in from{};
        to.sin_family = AF_INET;
        to.sin_port = htons(discard);
        std::memcpy(&to.sin_addr, remote.data() + 12, 4);
        size = sizeof(from);
        if (::connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof(to)) == 0 &&
            ::getsockname(fd, reinterpret_cast<sockaddr*>(&from), &size) == 0) {
            source[10] = source[11] = 0xff;
            std::memcpy(source.data() + 12, &from.sin_addr, 4);
        }
    } else {
        there.sin6_family = AF_INET6;
        there.sin6_port = htons(discard);
        std::memcpy(&there.sin6_addr, remote.data(), 16);
        if (::connect(fd, reinterpret_cast<sockaddr*>(&there), sizeof(there)) == 0 &&
            ::getsockname(fd, reinterpret_cast<sockaddr*>(&here), &size) == 0)
            std::memcpy(source.data(), &here.sin6_addr, 16);
    }
    ::close(fd);
    return source;
}

bool is_erspan(const ivds_mirror& mirror) {
    return mirror.kind == IVDS_MIRROR_ERSPAN_II || mirror.kind == IVDS_MIRROR_ERSPAN_III;
}

int on_record(void* context, void* data, std::size_t size) {
    return (*static_cast<std::function<bool(const void*, std::size_t)>*>(context))(data, size) ? 0 : -ECANCELED;
}

}  // namespace

Result<Capture> plan_capture(const Model& model, const Ids& ids, const pb::CaptureRequest& request) {
    Capture capture;
    capture.in_alone = request.trace();
    if (!request.trace() && request.filter().empty()) capture.snap_bytes = request.snap_bytes();
    if (ids.ports.contains(request.target()))
        capture.vport = request.target();
    else if (request.trace())
        return fail(Code::not_found, "IVDS-M027", fmt::format("there is no uplink or vport {}", request.target()),
                    "'ivds-ctl show all' lists them");
    else if (model.instances.contains(request.target()))
        capture.instances.insert(request.target());
    else if (request.target() != "drops")
        return fail(Code::not_found, "IVDS-M027",
                    fmt::format("there is no vport, uplink or instance {} to capture", request.target()),
                    "name one of them, or say drops");
    const auto vport = model.vports.find(capture.vport);
    if (request.trace() && vport != model.vports.end() && !vport->second->patch().empty())
        return fail(
            Code::invalid, "IVDS-A021",
            fmt::format("vport {} is the end of a patch: frames come through it, and in by others", capture.vport),
            "trace the vPort that sends them, or the uplink");
    return capture;
}

Result<std::uint32_t> free_session(const Tables& tables) {
    // From the top, where mirrors get their sessions last.
    for (std::uint32_t session = IVDS_MAX_MIRRORS; session-- > 0;)
        if (!tables.mirrors.contains(session)) return session;
    return fail(Code::exhausted, "IVDS-M020",
                fmt::format("all {} sessions of mirrors and captures are in use", IVDS_MAX_MIRRORS),
                "end a capture, or delete a mirror");
}

void add_captures(const std::map<std::uint32_t, Capture>& captures, Tables& tables) {
    for (const auto& [session, capture] : captures) {
        MirrorRow row;
        row.name = "capture";
        row.value.kind = IVDS_MIRROR_RING;
        row.value.snap_bytes = capture.snap_bytes;
        row.value.sample = capture.sample > 1 ? capture.sample : 0;
        if (!tables.mirrors.emplace(session, row).second) continue;
        const std::uint32_t bit = 1U << session;
        for (auto& [id, port] : tables.ports) {
            const auto instance = tables.instances.find(port.value.instance);
            const bool watched = !capture.vport.empty() ? port.name == capture.vport
                                                        : instance != tables.instances.end() &&
                                                              capture.instances.contains(instance->second.name);
            if (watched) {
                port.value.mirror_in |= bit;
                if (capture.in_alone) continue;
                port.value.mirror_out |= bit;
            }
            const bool of_drops = capture.vport.empty() && capture.instances.empty();
            if ((watched || of_drops) && !capture.without_drops) port.value.mirror_drop |= bit;
        }
    }
}

bool is_capture(const MirrorRow& row) {
    return row.value.kind == IVDS_MIRROR_RING && row.ring_bytes == 0;
}

Tables without_captures(Tables tables) {
    std::uint32_t stay = 0;
    std::erase_if(tables.mirrors, [](const auto& row) { return is_capture(row.second); });
    for (const auto& [session, row] : tables.mirrors) stay |= 1U << session;
    for (auto& [id, port] : tables.ports)
        for (auto* mask : {&port.value.mirror_in, &port.value.mirror_out, &port.value.mirror_drop}) *mask &= stay;
    return tables;
}

void find_sources(Tables& tables) {
    for (auto& [session, row] : tables.mirrors) {
        if (!is_erspan(row.value) || address_of(row.value.local) != Address{}) continue;
        std::ranges::copy(source_towards(address_of(row.value.remote)), row.value.local);
        row.routed = true;
    }
}

bool sources_changed(const Tables& tables) {
    return std::ranges::any_of(tables.mirrors, [](const auto& item) {
        const MirrorRow& row = item.second;
        return row.routed && source_towards(address_of(row.value.remote)) != address_of(row.value.local);
    });
}

pb::MirrorState mirror_state(const pb::Mirror& mirror, std::uint32_t session, const ivds_mirror& value,
                             const ivds_mirror_stats& stats) {
    pb::MirrorState state;
    state.set_name(mirror.name());
    state.set_session(session);
    if (!mirror.to_vport().empty())
        state.set_to("vport " + mirror.to_vport());
    else if (mirror.to_ring())
        state.set_to("ring " + mirror.name());
    else if (!mirror.to_uplink().empty())
        state.set_to(fmt::format("uplink {} VLAN {}", mirror.to_uplink(), mirror.rspan_vlan()));
    else
        state.set_to(
            fmt::format("erspan {} {}", mirror.erspan() == pb::Mirror::III ? "III" : "II", mirror.erspan_remote()));
    if (const auto local = address_of(value.local); local != Address{}) state.set_local(to_text(local));
    state.set_packets(stats.packets);
    state.set_bytes(stats.bytes);
    state.set_refused(stats.refused);
    state.set_cut(stats.cut);
    return state;
}

bool TraceBudget::take(std::chrono::steady_clock::time_point now, std::chrono::nanoseconds age) {
    if (age > kOldest) return false;
    if (now - second_ >= std::chrono::seconds(1)) {
        second_ = now;
        taken_ = 0;
        spent_ = {};
    }
    return spent_ < kSpentPerSecond && taken_++ < kPerSecond;
}

CaptureReader::~CaptureReader() {
    ring_buffer__free(ring_);
    if (fd_ >= 0) ::close(fd_);
}

Result<> CaptureReader::open(int ring) {
    fd_ = ring;
    ring_ = ring_buffer__new(ring, on_record, &take_, nullptr);
    if (ring_ == nullptr) return os_error(errno, "IVDS-L007", "open the ring of captured frames");
    return {};
}

void CaptureReader::run(const FrameFilter& filter, const std::function<std::string(std::uint32_t)>& name_of,
                        const std::function<std::uint64_t()>& lost,
                        const std::function<bool(pb::CapturePacket&, std::chrono::nanoseconds)>& sink) {
    using Clock = std::chrono::steady_clock;
    const std::uint64_t epoch = epoch_ns();
    std::map<std::uint32_t, std::string> names;
    bool wanted = true;
    Clock::time_point next_pulse{};
    // Also where nothing comes or nothing matches: this is how both ends notice that the other went.
    const auto pulse = [&] {
        const auto now = Clock::now();
        if (!wanted || now < next_pulse) return;
        next_pulse = now + std::chrono::milliseconds(kPatienceMs);
        pb::CapturePacket nothing;
        nothing.set_lost(lost());
        wanted = sink(nothing, {});
    };
    take_ = [&](const void* data, std::size_t size) {
        pulse();
        ivds_capture head;
        if (!wanted || size < sizeof(head)) return wanted;
        std::memcpy(&head, data, sizeof(head));
        const std::span frame(static_cast<const std::uint8_t*>(data) + sizeof(head),
                              std::min<std::size_t>(head.captured, size - sizeof(head)));
        if (!filter.matches(frame, head.bytes)) return true;
        const auto [place, fresh] = names.try_emplace(head.port);
        if (fresh) place->second = name_of(head.port);
        static constexpr std::array directions = {"in", "out", "drop", "?"};
        pb::CapturePacket packet;
        packet.set_port(place->second.empty() ? fmt::format("port-{}", head.port) : place->second);
        packet.set_direction(directions[std::min<std::size_t>(head.direction, 3)]);
        if (head.direction == IVDS_DIRECTION_DROP) packet.set_drop_reason(drop_id(head.reason));
        packet.set_time_ns(epoch + head.time_ns);
        packet.set_bytes(head.bytes);
        packet.set_data(frame.data(), frame.size());
        wanted = sink(packet, std::chrono::nanoseconds(now_ns(CLOCK_MONOTONIC) - head.time_ns));
        return wanted;
    };
    for (pulse(); wanted; pulse()) (void)ring_buffer__poll(ring_, kPatienceMs);
}

}  // namespace ivds
