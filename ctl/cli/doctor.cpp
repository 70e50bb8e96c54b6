// SPDX-License-Identifier: Apache-2.0
// doctor.cpp -- what is wrong and how to mend it; and which versions are at work.
#include <fmt/format.h>

#include <memory>
#include <ostream>

#include "api/codec.h"
#include "command.h"
#include "ivds/abi.h"
#include "table.h"

namespace ivds::cli {
namespace {

Color color_of(const std::string& severity) {
    if (severity == "error") return Color::bad;
    return severity == "info" ? Color::dim : Color::none;
}

pb::Finding finding(const std::string& severity, const Error& error, const std::string& object) {
    pb::Finding result;
    result.set_severity(severity);
    result.set_id(error.id);
    result.set_object(object);
    result.set_text(error.what);
    result.set_fix(error.fix);
    return result;
}

Result<int> doctor(const Context& context, const pb::DoctorRequest& request) {
    auto reply = context.agent.doctor(request);
    pb::DoctorReply found;
    if (reply) {
        found.Swap(&*reply);
        const auto status = context.agent.status();
        if (status && status->version() != IVDS_VERSION) {
            *found.add_findings() =
                finding("warning",
                        {.id = "IVDS-U014",
                         .what = fmt::format("ivds-ctl is {}, the agent is {}", IVDS_VERSION, status->version()),
                         .fix = "restart the one that is older: systemctl restart ivdsd"},
                        "ivdsd");
        }
    } else if (reply.error().code == Code::unavailable && !request.mend() && context.options.address.empty()) {
        found = context.source.doctor();
        *found.add_findings() = finding("error", reply.error(), "ivdsd");
    } else {
        return std::unexpected(reply.error());
    }
    int errors = 0;
    int warnings = 0;
    for (const pb::Finding& each : found.findings()) {
        errors += each.severity() == "error" ? 1 : 0;
        warnings += each.severity() == "warning" ? 1 : 0;
    }
    if (context.options.json) {
        context.json(found);
    } else {
        print_findings(context.io.out, context.io.color, found.findings());
        context.io.out << fmt::format("{} error{}, {} warning{}\n", errors, errors == 1 ? "" : "s", warnings,
                                      warnings == 1 ? "" : "s");
    }
    return errors > 0 ? exit_findings : exit_ok;
}

Result<int> version(const Context& context) {
    const auto status = context.agent.status();
    const std::string agent = status ? status->version() : "";
    const std::string programs = status ? status->programs() : "";
    if (context.options.json) {
        context.io.out << fmt::format(
            "{{\"ivds_ctl\":{},\"layout_major\":{},\"layout_minor\":{},\"agent\":{},\"programs\":{}}}\n",
            json_string(IVDS_VERSION), IVDS_LAYOUT_MAJOR, IVDS_LAYOUT_MINOR, json_string(agent),
            json_string(programs));
        return exit_ok;
    }
    context.io.out << fmt::format("ivds-ctl  {} (map layout {}.{})\n", IVDS_VERSION, IVDS_LAYOUT_MAJOR,
                                  IVDS_LAYOUT_MINOR);
    context.io.out << fmt::format("agent     {}\n", status ? agent : "does not answer");
    if (status) context.io.out << fmt::format("programs  {}\n", programs);
    return exit_ok;
}

}  // namespace

void print_findings(std::ostream& out, bool color, const google::protobuf::RepeatedPtrField<pb::Finding>& findings) {
    for (const pb::Finding& each : findings) {
        out << paint(each.severity(), color ? color_of(each.severity()) : Color::none) << ' ' << each.id() << ' '
            << (each.object().empty() ? "" : each.object() + ": ") << each.text() << '\n';
        if (!each.fix().empty()) out << "    fix: " << each.fix() << '\n';
    }
}

void add_doctor_commands(Commands& commands) {
    auto request = std::make_shared<pb::DoctorRequest>();
    CLI::App& app =
        commands.leaf(commands.root(), "doctor", "Look for what is wrong and say how to mend it; exit 1 on an error",
                      "ivds-ctl doctor\nivds-ctl doctor --mend\n"
                      "The pinned maps are compared with the intent, entry by entry: an entry that somebody else\n"
                      "wrote is an error IVDS-D001 (missing), IVDS-D002 (different) or IVDS-D003 (unwanted).",
                      [request](const Context& context) { return doctor(context, *request); });
    app.add_flag_function(
        "--mend", [request](std::int64_t count) { request->set_mend(count > 0); },
        "first write the entries anew that differ from the intent");
    commands.leaf(commands.root(), "version", "Versions of this program, the agent and the programs in the hooks",
                  "ivds-ctl version", version);
}

}  // namespace ivds::cli
