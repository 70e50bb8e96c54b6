// SPDX-License-Identifier: Apache-2.0
// mirror.cpp -- what became of mirrors' copies, and frames as they pass, for people and for other programs.
#include <fmt/format.h>

#include <csignal>
#include <ctime>
#include <fstream>
#include <memory>
#include <optional>
#include <ostream>

#include "command.h"
#include "pcapng.h"
#include "table.h"

namespace ivds::cli {
namespace {

Result<int> state(const Context& context, const std::string& name) {
    pb::MirrorsRequest request;
    request.set_name(name);
    const auto reply = context.agent.mirrors(request);
    if (!reply) return std::unexpected(reply.error());
    if (context.options.json) {
        context.json(*reply);
        return exit_ok;
    }
    Table table({"NAME", ">SESSION", "TO", "FROM", ">PACKETS", ">BYTES", ">REFUSED", ">CUT"});
    for (const pb::MirrorState& mirror : reply->mirrors())
        table.row({{mirror.name()},
                   Cell::number(mirror.session()),
                   {mirror.to()},
                   {mirror.local()},
                   Cell::number(mirror.packets()),
                   Cell::number(mirror.bytes()),
                   Cell::number(mirror.refused()),
                   Cell::number(mirror.cut())});
    table.print(context.io.out, context.io.color);
    return exit_ok;
}

struct CaptureWords {
    std::string target;
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
    return fmt::format("{:02}:{:02}:{:02}.{:06} {}: {} > {}, type {:#06x}, {} bytes\n", local.tm_hour, local.tm_min,
                       local.tm_sec, packet.time_ns() / 1000 % 1'000'000, words_of(packet), mac(6), mac(0),
                       byte(12) << 8 | byte(13), packet.bytes());
}

Result<int> capture(const Context& context, const CaptureWords& words) {
    pb::CaptureRequest request;
    request.set_target(words.target);
    request.set_snap_bytes(words.snap);
    std::ofstream file;
    std::ostream* out = &context.io.out;
    if (!words.file.empty() && words.file != "-") {
        file.open(words.file, std::ios::binary);
        if (!file) return fail(Code::system, "IVDS-X010", "cannot write " + words.file, "is the folder there?");
        out = &file;
    }
    std::optional<Pcapng> pcapng;
    if (!words.file.empty()) pcapng.emplace(*out);
    interrupted = 0;
    const auto before = std::signal(SIGINT, on_interrupt);
    std::uint64_t lost = 0;
    std::uint64_t taken = 0;
    bool armed = false;
    const auto done = context.agent.capture(request, [&](const pb::CapturePacket& packet) {
        if (interrupted != 0) return false;
        lost = std::max(lost, packet.lost());
        if (!armed) {
            armed = true;
            context.io.err << "capturing " << words.target << "; end it with Ctrl-C\n" << std::flush;
        }
        if (packet.port().empty()) return out->good();
        ++taken;
        if (pcapng)
            pcapng->packet(packet.port(), packet.time_ns(), packet.bytes(), packet.data(),
                           packet.direction() == "out", words_of(packet));
        else if (context.options.json)
            context.json(packet);
        else
            *out << line_of(packet) << std::flush;
        return out->good() && (words.count == 0 || taken < words.count);
    });
    std::signal(SIGINT, before);
    context.io.err << fmt::format("{} frames captured, {} lost\n", taken, lost);
    if (!done && interrupted == 0) return std::unexpected(done.error());
    return exit_ok;
}

}  // namespace

void add_mirror_commands(Commands& commands) {
    CLI::App& group =
        Commands::group(commands.root(), "mirror", "Objects: copies of frames for somebody who watches");
    auto name = std::make_shared<std::string>();
    CLI::App& state_app = commands.leaf(group, "state", "What became of the copies",
                                        "ivds-ctl mirror state\nivds-ctl mirror state watch",
                                        [name](const Context& context) { return state(context, *name); });
    add_value(state_app, "NAME", "MIRROR", *name, "this one alone");
    auto words = std::make_shared<CaptureWords>();
    CLI::App& app = commands.leaf(commands.root(), "capture",
                                  "Frames of a vPort, an uplink or an instance, or dropped ones, as they pass",
                                  "ivds-ctl capture web1 -w - | tcpdump -r -\nivds-ctl capture drops\nivds-ctl "
                                  "capture red -w red.pcapng --count 100",
                                  [words](const Context& context) { return capture(context, *words); });
    add_value(app, "TARGET", "PORT", words->target, "a vPort, an uplink, an instance, or drops").required();
    add_value(app, "-w", "FILE", words->file, "write pcapng, - to standard output; without it a line a frame");
    add_value(app, "--snap", "N", words->snap, "bytes of a frame; 0: all");
    add_value(app, "--count", "N", words->count, "end after so many frames");
}

}  // namespace ivds::cli
