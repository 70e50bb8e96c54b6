// SPDX-License-Identifier: Apache-2.0
// cli.cpp -- the command tree, its options and its help, and how errors become lines and exit codes.
#include "cli.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstring>
#include <ostream>

#include "api/codec.h"
#include "command.h"
#include "complete.h"
#include "ivds/abi.h"

namespace ivds::cli {
namespace {

constexpr const char* main_footer =
    "Examples:\n"
    "  ivds-ctl apply -f host-a.yaml --dry-run     what would a file change?\n"
    "  ivds-ctl vnic create web1-nic --pool pool0\n"
    "  ivds-ctl vport create web1 --instance red --netdev veth0 --vnic web1-nic\n"
    "  ivds-ctl status                             which hooks each port got, and why\n"
    "  ivds-ctl stats --port web1 --watch 1        is it passing frames? what drops?\n"
    "\n"
    "Without the agent, show, status, stats, top, nic, map, vlan, fdb show, neighbour show, get, list,\n"
    "rule list, flow list and export read the pinned maps and the saved state, and say so.\n"
    "\n"
    "Exit codes:\n"
    "  0  done                                5  a pool, table or limit is full\n"
    "  1  doctor found an error               6  not possible here, or someone else's program\n"
    "  2  wrong command, flag, file or value  7  the agent does not answer\n"
    "  3  not found                           8  the system refused\n"
    "  4  exists, conflicts, or busy\n"
    "\n"
    "See ivds-ctl(8) and ivds.yaml(5).";

int exit_code(Code code) {
    switch (code) {
        case Code::invalid:
            return exit_usage;
        case Code::not_found:
            return exit_not_found;
        case Code::exists:
        case Code::conflict:
        case Code::busy:
            return exit_conflict;
        case Code::exhausted:
            return exit_exhausted;
        case Code::unsupported:
        case Code::foreign:
        case Code::layout:
            return exit_unsupported;
        case Code::unavailable:
            return exit_unavailable;
        case Code::system:
            return exit_refused;
    }
    return exit_refused;
}

int report(std::ostream& err, const Error& error) {
    err << "ivds-ctl: " << error.what;
    if (error.os_errno != 0) err << ": " << std::strerror(error.os_errno);
    err << " [" << error.id << "]\n";
    if (!error.fix.empty()) err << "fix: " << error.fix << '\n';
    return exit_code(error.code);
}

// "ivds-ctl vport create", for hints.
std::string path_of(const CLI::App& app) {
    return app.get_parent() == nullptr ? app.get_name() : path_of(*app.get_parent()) + " " + app.get_name();
}

}  // namespace

void Context::json(const google::protobuf::Message& message) const {
    io.out << to_json(message) << '\n' << std::flush;
}

CLI::App& Commands::group(CLI::App& parent, const std::string& name, const std::string& description) {
    const auto known = parent.get_subcommands([&](const CLI::App* each) { return each->get_name() == name; });
    if (!known.empty()) return *known.front();
    CLI::App& app = *parent.add_subcommand(name, description);
    app.require_subcommand(1);
    return app;
}

CLI::App& Commands::leaf(CLI::App& parent, const std::string& name, const std::string& description,
                         const std::string& examples, Action action) {
    CLI::App& app = *parent.add_subcommand(name, description);
    std::string footer = "Examples:\n";
    for (std::size_t begin = 0; begin < examples.size();) {
        const std::size_t end = std::min(examples.find('\n', begin), examples.size());
        const std::string line = examples.substr(begin, end - begin);
        footer += (line.starts_with("ivds-ctl") ? "  " : "") + line + "\n";
        begin = end + 1;
    }
    app.footer(footer + "Options of all commands (--json, --socket …): see 'ivds-ctl --help'.");
    actions_.emplace(&app, std::move(action));
    return app;
}

const CLI::App& deepest(const CLI::App& root) {
    const CLI::App* app = &root;
    while (!app->get_subcommands().empty()) app = app->get_subcommands().front();
    return *app;
}

const Action& Commands::parsed() const {
    return actions_.at(&deepest(*root_));
}

namespace {

// What the command line got wrong, with the nearest command for a word that is none.
Error usage_error(const CLI::App& root, const CLI::ParseError& error) {
    const CLI::App& app = deepest(root);
    std::vector<std::string> commands;
    for (const CLI::App* each : app.get_subcommands([](const CLI::App*) { return true; })) {
        commands.push_back(each->get_name());
    }
    Error result{.code = Code::invalid, .id = "IVDS-U001", .what = error.what(), .fix = {}, .os_errno = 0};
    result.fix = fmt::format("see '{} --help'", path_of(app));
    if (const auto rest = root.remaining(true);
        !commands.empty() && !rest.empty() && !rest.front().starts_with('-')) {
        result.what = fmt::format("'{}' has no command '{}'", path_of(app), rest.front());
        if (const std::string near = nearest(rest.front(), commands); !near.empty()) {
            result.fix = fmt::format("did you mean '{} {}'? {}", path_of(app), near, result.fix);
        }
    } else if (!commands.empty() && error.get_exit_code() == static_cast<int>(CLI::ExitCodes::RequiredError)) {
        result.what = fmt::format("'{}' needs a command: {}", path_of(app), fmt::join(commands, ", "));
    }
    return result;
}

// Prints what the shell may offer for a command line whose last word, perhaps empty, is still being typed.
void complete(const CLI::App& root, std::vector<std::string> words, Options options, const Io& io) {
    const std::string begun = words.empty() ? "" : words.back();
    if (!words.empty()) words.pop_back();
    const Completion at = follow(root, words);
    const auto given = [&](const char* name, std::string& value) {
        if (const auto found = at.root_values.find(name); found != at.root_values.end()) value = found->second;
    };
    given("--socket", options.socket);
    given("--address", options.address);
    given("--ca", options.ca);
    given("--cert", options.cert);
    given("--key", options.key);
    given("--root", options.root);
    given("--state-dir", options.state_dir);
    // Nobody waits long for a TAB, and notes have no place on the line.
    const auto target = target_of(options.socket, options.address, options.ca, options.cert, options.key);
    Client agent(target.value_or(Target{options.socket, "", "", "", ""}), std::chrono::seconds(1));
    std::ostream nowhere(nullptr);
    Source source(options, agent, nowhere);
    const auto names = [&](pb::Kind kind) {
        std::vector<std::string> result;
        if (const auto objects = source.list(kind); objects) {
            for (const pb::Object& object : objects->objects()) result.push_back(name_of(object));
        }
        return result;
    };
    for (const std::string& word : candidates(at, begun, names)) io.out << word << '\n';
}

}  // namespace

int run(const std::vector<std::string>& arguments, Io io) {
    CLI::App root("Control the in-server virtual distributed switch on this host.", "ivds-ctl");
    root.set_help_flag("-h,--help", "this help; every command has its own");
    root.require_subcommand(1);
    root.fallthrough();
    root.footer(main_footer);
    Options options;
    options.root = IVDS_PIN_ROOT;
    options.state_dir = "/var/lib/ivds";
    add_value(root, "--socket", "FILE", options.socket, "the agent's socket").capture_default_str();
    add_value(root, "--address", "HOST:PORT", options.address, "the agent of another host, by TCP with TLS");
    add_value(root, "--ca", "FILE", options.ca, "with --address: the authority of the agent's certificate");
    add_value(root, "--cert", "FILE", options.cert, "with --address: the certificate that says who you are");
    add_value(root, "--key", "FILE", options.key, "with --address: the certificate's key");
    add_value(root, "--root", "DIR", options.root, "directory of the pins, read when the agent is down")
        .capture_default_str();
    add_value(root, "--state-dir", "DIR", options.state_dir, "the agent's saved state, read when it is down")
        .capture_default_str();
    add_value(root, "--timeout", "SECS", options.timeout_s, "wait so long for the agent (10; apply, export, fdb: 60)")
        .check(CLI::Range(0.01, 86400.0).description(""));
    root.add_flag("--json", options.json, "print JSON: the messages of ivds.proto, one a line");

    Commands commands(root);
    add_config_commands(commands);
    add_object_commands(commands);
    add_show_commands(commands);
    add_stats_command(commands);
    add_top_command(commands);
    add_fdb_commands(commands);
    add_binding_command(commands);
    add_neighbour_command(commands);
    add_flow_commands(commands);
    add_events_command(commands);
    add_trace_command(commands);
    add_doctor_commands(commands);
    add_plane_commands(commands);
    add_rule_commands(commands);
    add_mirror_commands(commands);
    add_capture_command(commands);
    add_exporter_command(commands);
    add_inspector_command(commands);
    add_offload_commands(commands);
    add_fabric_commands(commands);
    add_boot_command(commands);
    add_migrate_commands(commands);

    if (!arguments.empty() && arguments.front() == "__complete") {
        complete(root, {arguments.begin() + 1, arguments.end()}, options, io);
        return exit_ok;
    }

    try {
        // CLI11 takes the words from the back.
        root.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    } catch (const CLI::CallForHelp&) {
        io.out << root.help();
        return exit_ok;
    } catch (const CLI::ParseError& error) {
        return report(io.err, usage_error(root, error));
    }

    // Of fabric, the certificate is for its hosts, also where the agent that it asks for them is behind the socket.
    const auto target = root.got_subcommand("fabric") && options.address.empty()
                            ? Result<Target>(Target{options.socket, "", "", "", ""})
                            : target_of(options.socket, options.address, options.ca, options.cert, options.key);
    if (!target) return report(io.err, target.error());
    Client agent(*target, std::chrono::milliseconds(static_cast<std::int64_t>(options.timeout_s * 1000)));
    Source source(options, agent, io.err);
    const auto code = commands.parsed()(Context{io, options, agent, source});
    if (!code) {
        io.out.flush();
        return report(io.err, code.error());
    }
    io.out.flush();
    if (!io.out) {
        return report(io.err,
                      {.code = Code::system, .id = "IVDS-U004", .what = "write to standard output", .fix = {}});
    }
    return *code;
}

}  // namespace ivds::cli
