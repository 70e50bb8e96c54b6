// SPDX-License-Identifier: Apache-2.0
#include "capture.h"

#include <fmt/format.h>

#include <algorithm>
#include <csignal>
#include <ctime>
#include <fstream>
#include <memory>
#include <optional>
#include <ostream>

#include "pcapng.h"

namespace ivds::cli {
namespace {

struct CaptureWords {
    std::string target;
    std::string filter;
    std::string file;
    std::uint32_t snap = 0;
    std::uint64_t count = 0;
};

volatile std::sig_atomic_t interrupted = 0;
void on_interrupt(int) {
    interrupted = 1;
}

// "in web1", "out web2", "drop acl web1"
std::string words_of(const pb::CapturePacket& packet) {
    return packet.direction() + (packet.drop_reason().empty() ? "" : " " + packet.drop_reason()) + " " +
           packet.port();
}

Result<int> capture(const Context& context, const CaptureWords& words) {
    pb::CaptureRequest request;
    request.set_target(words.target);
    request.set_filter(words.filter);
    request.set_snap_bytes(words.snap);
    std::ofstream file;
    std::ostream* out = &context.io.out;
    std::optional<Pcapng> pcapng;
    // Where the agent refuses, a file that is there stays as it is.
    const auto begin = [&] {
        if (words.file.empty() || pcapng) return true;
        if (words.file != "-") {
            file.open(words.file, std::ios::binary);
            out = &file;
        }
        pcapng.emplace(*out);
        return out->good();
    };
    const auto ended =
        follow_capture(context, request, "capturing", words.count, [&](const pb::CapturePacket& packet) {
            if (!begin() || packet.port().empty()) return out->good();
            if (pcapng)
                pcapng->packet(packet.port(), packet.time_ns(), packet.bytes(), packet.data(),
                               packet.direction() == "out", words_of(packet));
            else if (context.options.json)
                context.json(packet);
            else
                *out << line_of(packet) << '\n' << std::flush;
            return out->good();
        });
    if (!out->good() && out == &file)
        return fail(Code::system, "IVDS-X010", "cannot write " + words.file, "is the folder there?");
    if (ended.begun) context.io.err << fmt::format("{} frames captured, {} lost\n", ended.taken, ended.lost);
    if (!ended.done) return std::unexpected(ended.done.error());
    return exit_ok;
}

}  // namespace

std::string line_of(const pb::CapturePacket& packet) {
    const auto seconds = static_cast<std::time_t>(packet.time_ns() / 1'000'000'000U);
    std::tm local{};
    ::localtime_r(&seconds, &local);
    const std::string& data = packet.data();
    const auto byte = [&](std::size_t at) {
        return static_cast<unsigned>(at < data.size() ? static_cast<unsigned char>(data[at]) : 0);
    };
    const auto mac = [&](std::size_t at) {
        return fmt::format("{:02x}:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}", byte(at), byte(at + 1), byte(at + 2),
                           byte(at + 3), byte(at + 4), byte(at + 5));
    };
    return fmt::format("{:02}:{:02}:{:02}.{:06} {}: {} > {}, type {:#06x}, {} bytes", local.tm_hour, local.tm_min,
                       local.tm_sec, packet.time_ns() / 1000 % 1'000'000, words_of(packet), mac(6), mac(0),
                       byte(12) << 8 | byte(13), packet.bytes());
}

CaptureEnd follow_capture(const Context& context, const pb::CaptureRequest& request, const std::string& what,
                          std::uint64_t count, const std::function<bool(const pb::CapturePacket&)>& sink) {
    interrupted = 0;
    const auto before = std::signal(SIGINT, on_interrupt);
    CaptureEnd ended;
    ended.done = context.agent.capture(request, [&](const pb::CapturePacket& packet) {
        if (interrupted != 0) return false;
        ended.lost = std::max(ended.lost, packet.lost());
        ended.untraced = std::max(ended.untraced, packet.untraced());
        if (!ended.begun) {
            ended.begun = true;
            context.io.err << what << ' ' << request.target() << "; end it with Ctrl-C\n" << std::flush;
        }
        ended.taken += packet.port().empty() ? 0 : 1;
        return sink(packet) && (count == 0 || ended.taken < count);
    });
    std::signal(SIGINT, before);
    if (interrupted != 0) ended.done = {};
    return ended;
}

void add_capture_command(Commands& commands) {
    auto words = std::make_shared<CaptureWords>();
    CLI::App& app = commands.leaf(commands.root(), "capture",
                                  "Frames of a vPort, an uplink or an instance, or dropped ones, as they pass",
                                  "ivds-ctl capture web1 -w - | tcpdump -r -\nivds-ctl capture drops\nivds-ctl "
                                  "capture red 'tcp port 443' -w red.pcapng --count 100\nivds-ctl capture up0 'vlan "
                                  "100 and vlan 10 and icmp'",
                                  [words](const Context& context) { return capture(context, *words); });
    add_value(app, "TARGET", "PORT", words->target, "a vPort, an uplink, an instance, or drops").required();
    add_value(app, "FILTER", "TEXT", words->filter, "which frames, as pcap-filter(7) says it; all, without it");
    add_value(app, "-w", "FILE", words->file, "write pcapng, - to standard output; without it a line a frame");
    add_value(app, "--snap", "N", words->snap, "bytes of a frame; 0: all");
    add_value(app, "--count", "N", words->count, "end after so many frames");
}

}  // namespace ivds::cli
