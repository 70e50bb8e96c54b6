// SPDX-License-Identifier: Apache-2.0
// trace.cpp -- what the switch would do with a frame, step by step, or does with those that pass.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <memory>
#include <ostream>

#include "capture.h"
#include "command.h"
#include "frame.h"

namespace ivds::cli {
namespace {

struct TraceWanted {
    std::string port;
    std::string words;  // the frame's layers, or with `live` a filter
    std::string hex;
    std::string pcap;
    bool live = false;
    std::uint64_t count = 0;
};

const char* stage_name(std::uint32_t stage) {
    switch (stage) {
        case 1:
            return "1 VLAN filter";
        case 2:
            return "2 V.VLAN look-up";
        case 3:
            return "3 tuple mapping";
        default:
            return "4 forwarding";
    }
}

// The MAC that frames of the port usually come from: its vMAC, or one of the documentation range for an uplink.
Result<Mac> usual_source(const Context& context, const std::string& name) {
    const auto status = context.agent.status();
    if (!status) return std::unexpected(status.error());
    const auto port = std::ranges::find(status->ports(), name, [](const pb::PortState& p) { return p.name(); });
    if (port == status->ports().end() || port->vmac().empty()) return Mac{0x02, 0x00, 0x5e, 0x00, 0x53, 0x01};
    return parse_mac(port->vmac());
}

Result<std::vector<std::vector<std::uint8_t>>> frames_of(const Context& context, const TraceWanted& wanted) {
    const int given = int{!wanted.words.empty()} + int{!wanted.hex.empty()} + int{!wanted.pcap.empty()};
    if (given != 1)
        return fail(Code::invalid, "IVDS-U001", "which frame?", "give its layers, or --hex, or --pcap: one of them");
    if (!wanted.pcap.empty()) return frames_from_pcap(wanted.pcap);
    Result<Mac> source = Mac{};
    if (wanted.hex.empty()) source = usual_source(context, wanted.port);
    if (!source) return std::unexpected(source.error());
    auto frame = wanted.hex.empty() ? frame_from_words(wanted.words, *source) : frame_from_hex(wanted.hex);
    if (!frame) return std::unexpected(frame.error());
    std::vector<std::vector<std::uint8_t>> frames;
    frames.push_back(std::move(*frame));
    return frames;
}

// What the NIC decides comes before what software then gets, and after what it sends.
void print_nic(std::ostream& out, const pb::NicTrace& nic) {
    out << fmt::format("nic of uplink {}\n", nic.uplink());
    if (!nic.error().empty()) {
        out << fmt::format("  {:17} {}\n", "not known", nic.error());
        return;
    }
    for (const std::string& step : nic.steps()) out << fmt::format("  {:17} {}\n", "", step);
    const auto list = [&](const char* title, const auto& places) {
        out << fmt::format("  {:17} {}\n", title,
                           places.empty() ? std::string("nobody") : fmt::format("{}", fmt::join(places, "; ")));
    };
    list("NIC and software", nic.together());
    list("the switch alone", nic.alone());
    for (const std::string& doubt : nic.doubts()) out << fmt::format("  {:17} {}\n", "", doubt);
}

void print(std::ostream& out, const pb::TraceReply& reply) {
    if (reply.has_nic()) print_nic(out, reply.nic());
    std::string rung;
    std::uint32_t stage = 0;
    for (const pb::TraceStep& step : reply.steps()) {
        if (step.rung() != rung) {
            out << fmt::format("{}\n", step.rung());
            rung = step.rung();
            stage = 0;
        }
        out << fmt::format("  {:17} {}\n", step.stage() != stage ? stage_name(step.stage()) : "", step.text());
        stage = step.stage();
        if (!step.change().empty()) out << fmt::format("  {:17}   change: {}\n", "", step.change());
    }
}

// "forwarded to web2", "dropped: acl"
std::string outcome_of(const pb::TraceReply& reply) {
    if (reply.has_nic() && reply.verdict().empty())
        return reply.nic().together().empty() ? "dropped by the NIC" : "carried by the NIC alone";
    return fmt::format("{}{}{}", reply.verdict(),
                       reply.drop_reason().empty() ? "" : fmt::format(": {}", reply.drop_reason()),
                       reply.sent().empty() ? "" : fmt::format(" to {}", fmt::join(reply.sent(), ", ")));
}

std::string more_text(std::uint64_t untraced) {
    return fmt::format("{} more frame{} matched and {} not traced\n", untraced, untraced == 1 ? "" : "s",
                       untraced == 1 ? "was" : "were");
}

Result<int> trace_live(const Context& context, const TraceWanted& wanted) {
    if (!wanted.hex.empty() || !wanted.pcap.empty())
        return fail(Code::invalid, "IVDS-U001", "--live traces the frames that pass, and no others",
                    "leave out --hex and --pcap, or --live");
    pb::CaptureRequest request;
    request.set_target(wanted.port);
    request.set_filter(wanted.words);
    request.set_trace(true);
    std::uint64_t told = 0;
    std::ostream& out = context.io.out;
    const auto ended =
        follow_capture(context, request, "tracing", wanted.count, [&](const pb::CapturePacket& packet) {
            if (context.options.json) {
                if (!packet.port().empty()) context.json(packet);
                return out.good();
            }
            if (packet.untraced() > told) {
                out << more_text(packet.untraced() - told) << '\n' << std::flush;
                told = packet.untraced();
            }
            if (packet.port().empty()) return out.good();
            const bool traced = packet.trace_error().empty();
            out << fmt::format("{}: {}\n", line_of(packet),
                               traced ? outcome_of(packet.trace()) : "not traced: " + packet.trace_error());
            if (traced) print(out, packet.trace());
            out << '\n' << std::flush;
            return out.good();
        });
    if (ended.begun) {
        context.io.err << fmt::format("{} frames traced, {} lost\n", ended.taken, ended.lost);
        if (ended.untraced != 0) context.io.err << more_text(ended.untraced);
    }
    if (!ended.done) return std::unexpected(ended.done.error());
    return exit_ok;
}

Result<int> trace(const Context& context, const TraceWanted& wanted) {
    if (wanted.live) return trace_live(context, wanted);
    const auto frames = frames_of(context, wanted);
    if (!frames) return std::unexpected(frames.error());
    for (std::size_t i = 0; i < frames->size(); ++i) {
        pb::TraceRequest request;
        request.set_port(wanted.port);
        request.set_frame((*frames)[i].data(), (*frames)[i].size());
        const auto reply = context.agent.trace(request);
        if (!reply) return std::unexpected(reply.error());
        if (context.options.json) {
            context.json(*reply);
            continue;
        }
        if (frames->size() > 1) context.io.out << fmt::format("frame {}\n", i + 1);
        print(context.io.out, *reply);
        context.io.out << outcome_of(*reply) << '\n';
    }
    return exit_ok;
}

}  // namespace

void add_trace_command(Commands& commands) {
    auto wanted = std::make_shared<TraceWanted>();
    CLI::App& app = commands.leaf(
        commands.root(), "trace",
        "Say what the switch would do with a frame that comes in by a port, rung by rung and stage by stage, which\n"
        "entry decided, and how to change it. The data plane's sources, compiled to tell and to do nothing, run\n"
        "over the tables in force.",
        "ivds-ctl trace web1 'eth dst=02:00:00:00:00:02 / ip dst=10.0.0.2 / tcp dport=443'\n"
        "ivds-ctl trace up0 'eth dst=02:00:00:00:00:01 / vlan id=100 / vlan id=10 / arp'\n"
        "ivds-ctl trace web1 --pcap lost.pcap --json\n"
        "ivds-ctl trace --live web1 'tcp port 443' --count 3\n" +
            frame_words_help(),
        [wanted](const Context& context) { return trace(context, *wanted); });
    add_value(app, "port", "PORT", wanted->port, "vPort or uplink that it comes in by").required();
    add_value(app, "frame", "TEXT", wanted->words,
              "the frame's layers; with --live which frames, as pcap-filter(7) says it");
    add_value(app, "--hex", "TEXT", wanted->hex, "the frame's bytes, from the destination address on, without FCS");
    add_value(app, "--pcap", "FILE", wanted->pcap, "every frame of a capture file");
    CLI::Option* live = app.add_flag("--live", wanted->live, "the frames that come in by the port now, as they come");
    add_value(app, "--count", "N", wanted->count, "with --live: end after so many frames").needs(live);
}

}  // namespace ivds::cli
