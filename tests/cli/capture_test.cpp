// SPDX-License-Identifier: Apache-2.0
// capture_test.cpp -- capture and trace --live on the command line: what they ask of the agent, and what they say of
// what comes.
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <fstream>

#include "fake_agent.h"

namespace ivds::test {
namespace {

using Catch::Matchers::ContainsSubstring;
using Catch::Matchers::StartsWith;

pb::CapturePacket frame(const std::string& direction = "in") {
    pb::CapturePacket packet;
    packet.set_port("web1");
    packet.set_direction(direction);
    packet.set_bytes(60);
    packet.set_data(std::string("\x02\0\0\0\0\x02\x02\0\0\0\0\x01\x08\0", 14) + std::string(46, 'x'));
    return packet;
}

pb::CapturePacket traced(std::uint64_t untraced) {
    pb::CapturePacket packet = frame();
    packet.set_untraced(untraced);
    pb::TraceReply& reply = *packet.mutable_trace();
    pb::TraceStep& step = *reply.add_steps();
    step.set_rung("tc");
    step.set_stage(4);
    step.set_text("to vPort web2, on this host");
    step.set_change("a change");
    reply.set_verdict("forwarded");
    reply.add_sent("web2");
    return packet;
}

pb::CapturePacket pulse(std::uint64_t lost, std::uint64_t untraced) {
    pb::CapturePacket packet;
    packet.set_lost(lost);
    packet.set_untraced(untraced);
    return packet;
}

const Error kWrongFilter{Code::invalid, "IVDS-A020", "the filter 'tcp prt' is none: syntax error", "write it well",
                         0};

}  // namespace

TEST_CASE("capture hands its filter to the agent, and tells of frames and of those that were lost") {
    Shell shell;
    shell.agent.packets = {pulse(0, 0), frame(), frame("out"), pulse(7, 0)};
    const Outcome done = shell({"capture", "web1", "tcp port 80", "--snap", "60"});
    CHECK(done.code == 0);
    CHECK(shell.agent.capture_request.target() == "web1");
    CHECK(shell.agent.capture_request.filter() == "tcp port 80");
    CHECK(shell.agent.capture_request.snap_bytes() == 60);
    CHECK_FALSE(shell.agent.capture_request.trace());
    CHECK_THAT(done.out,
               ContainsSubstring(" in web1: 02:00:00:00:00:01 > 02:00:00:00:00:02, type 0x0800, 60 bytes\n"));
    CHECK_THAT(done.out, ContainsSubstring(" out web1: "));
    CHECK_THAT(done.err, ContainsSubstring("2 frames captured, 7 lost"));

    shell.agent.packets = {frame(), frame(), frame()};
    CHECK_THAT(shell({"capture", "web1", "--count", "2"}).err, ContainsSubstring("2 frames captured, 0 lost"));
    CHECK(shell.agent.capture_request.filter().empty());
}

TEST_CASE("a capture that the agent refuses says why in two lines, and leaves the file that it would write") {
    Shell shell;
    shell.agent.failure = kWrongFilter;
    const std::string path = shell.directory() + "/old.pcapng";
    std::ofstream(path) << "kept";
    const Outcome done = shell({"capture", "web1", "tcp prt", "-w", path});
    CHECK(done.code == 2);
    CHECK(done.err == "ivds-ctl: the filter 'tcp prt' is none: syntax error [IVDS-A020]\nfix: write it well\n");
    std::string content;
    std::getline(std::ifstream(path), content);
    CHECK(content == "kept");
    CHECK(shell({"trace", "--live", "web1", "tcp prt"}).err == done.err);
}

TEST_CASE("a capture that cannot write its file says so") {
    Shell shell;
    shell.agent.packets = {pulse(0, 0), frame()};
    const Outcome done = shell({"capture", "web1", "-w", shell.directory() + "/none/x.pcapng"});
    CHECK(done.code == 8);
    CHECK_THAT(done.err, ContainsSubstring("IVDS-X010"));
}

TEST_CASE("trace --live tells of each frame when it came, its outcome and its steps, and how many were not traced") {
    Shell shell;
    pb::CapturePacket large = frame();
    large.set_trace_error("a frame of 9000 bytes cannot be traced [IVDS-L064]");
    shell.agent.packets = {pulse(0, 0), traced(0), large, pulse(0, 1), traced(40), pulse(3, 41)};
    const Outcome done = shell({"trace", "--live", "web1", "icmp"});
    INFO(done.out << done.err);
    CHECK(done.code == 0);
    CHECK(shell.agent.capture_request.target() == "web1");
    CHECK(shell.agent.capture_request.filter() == "icmp");
    CHECK(shell.agent.capture_request.trace());
    CHECK_THAT(done.out,
               ContainsSubstring("type 0x0800, 60 bytes: forwarded to web2\ntc\n  4 forwarding      to vPort "
                                 "web2, on this host\n                      change: a change\n"));
    CHECK_THAT(done.out, ContainsSubstring("60 bytes: not traced: a frame of 9000 bytes cannot be traced"));
    CHECK_THAT(done.out, ContainsSubstring("\n1 more frame matched and was not traced\n"));
    CHECK_THAT(done.out, ContainsSubstring("\n39 more frames matched and were not traced\n"));
    CHECK_THAT(done.err, StartsWith("tracing web1; end it with Ctrl-C\n"));
    CHECK_THAT(done.err, ContainsSubstring("3 frames traced, 3 lost\n41 more frames matched and were not traced\n"));
}

TEST_CASE("trace --live ends after --count frames, and with --json prints a line for each") {
    Shell shell;
    shell.agent.packets = {pulse(0, 0), traced(0), pulse(0, 2), traced(5), traced(5)};
    const Outcome done = shell({"trace", "--live", "web1", "--count", "2", "--json"});
    CHECK(done.code == 0);
    CHECK(shell.agent.capture_request.filter().empty());
    CHECK(std::ranges::count(done.out, '\n') == 2);
    CHECK_THAT(done.out, StartsWith("{\"port\":\"web1\""));
    CHECK_THAT(done.out, ContainsSubstring("\"data\":\"0200000000020200000000010800787878"));
    CHECK_THAT(done.out, ContainsSubstring("\"verdict\":\"forwarded\""));
    CHECK_THAT(done.err, ContainsSubstring("2 frames traced, 0 lost\n5 more frames matched and were not traced\n"));
}

TEST_CASE("trace --live takes no frames of other kinds, and --count belongs to it") {
    Shell shell;
    for (const std::vector<std::string>& words : {std::vector<std::string>{"trace", "--live", "web1", "--hex", "00"},
                                                  {"trace", "--live", "web1", "--pcap", "x.pcap"},
                                                  {"trace", "web1", "--hex", "00", "--count", "2"}}) {
        const Outcome done = shell(words);
        CHECK(done.code == 2);
        CHECK_THAT(done.err, ContainsSubstring("--live"));
        CHECK_THAT(done.err, ContainsSubstring("fix: "));
    }
    CHECK(shell.agent.calls.empty());
}

}  // namespace ivds::test
