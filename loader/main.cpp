// SPDX-License-Identifier: Apache-2.0
// main.cpp -- ivds-loader: brings the last saved state of the switch up at boot, before and without an agent.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdio>
#include <set>
#include <string>
#include <vector>

#include "kernel_linux.h"
#include "switch.h"

namespace {

using namespace ivds;

// Exit codes, as --help lists them.
enum Exit : int {
    kOk = 0,
    kFailed = 1,     // the kernel or a file refused
    kUsage = 2,      // wrong command line
    kNoState = 3,    // nothing saved, nothing pinned
    kPortsDown = 4,  // the switch is up, but a port asked for is not attached
    kLayout = 5,     // pinned maps of another layout, or somebody else's program in the way
    kFindings = 6,   // check found an error
};

constexpr auto kFooter =
    "Exit codes:\n"
    "  0  done, or nothing to do: `up` also when an agent is in charge\n"
    "  1  the kernel or a file refused; the message says which\n"
    "  2  wrong command line\n"
    "  3  there is no saved state, or no switch is pinned\n"
    "  4  the switch is up, but an interface that was asked for is not attached\n"
    "  5  pinned maps of another layout, or somebody else's program in the way; nothing was changed\n"
    "  6  check: at least one finding is an error";

int exit_of(const Error& error) {
    std::fprintf(stderr, "ivds-loader: %s\n", error.text().c_str());
    switch (error.code) {
        case Code::not_found:
        case Code::unavailable:
            return kNoState;
        case Code::layout:
        case Code::foreign:
            return kLayout;
        default:
            return kFailed;
    }
}

struct Arguments {
    std::string root = IVDS_PIN_ROOT;
    std::string state = "/var/lib/ivds/tables.state";
    std::vector<std::string> interfaces;
    bool json = false;
    bool xdp_coexist = false;
    bool again = false;
    bool detach = false;
};

Result<std::unique_ptr<Switch>> open_switch(const Arguments& arguments) {
    SwitchOptions options;
    options.root = arguments.root;
    options.assume_carrier = true;
    options.xdp_coexist = arguments.xdp_coexist;
    return Switch::open(options);
}

// What a whole run of the tables is needed for; `missing` is fine where the pins alone can tell.
Result<std::unique_ptr<Switch>> open_with_state(const Arguments& arguments) {
    auto tables = load_tables(arguments.state);
    if (!tables) {
        return std::unexpected(tables.error());
    }
    auto sw = open_switch(arguments);
    if (!sw) {
        return sw;
    }
    const std::set<std::string> only(arguments.interfaces.begin(), arguments.interfaces.end());
    if (auto r = (*sw)->apply(std::move(*tables), false, only.empty() ? nullptr : &only); !r) {
        return std::unexpected(r.error());
    }
    return sw;
}

int up(const Arguments& arguments) {
    auto sw = open_with_state(arguments);
    if (!sw) {
        if (sw.error().code == Code::busy) {
            fmt::print("an agent is in charge of {}; it attaches interfaces by itself\n", arguments.root);
            return kOk;
        }
        return exit_of(sw.error());
    }
    int result = kOk;
    const std::set<std::string> only(arguments.interfaces.begin(), arguments.interfaces.end());
    std::set<std::string> known;
    for (const auto& port : (*sw)->status()) {
        known.insert(port.netdev);
        if (!only.empty() && !only.contains(port.netdev)) {
            continue;
        }
        fmt::print("{} on {}: {}{}\n", port.name, port.netdev, port.got,
                   port.reason.empty() ? "" : " (" + port.reason + ")");
        // At boot an interface may come later; only one that was named has to be there.
        if (!only.empty() && port.got == "none") {
            result = kPortsDown;
        }
    }
    for (const auto& name : only) {
        if (!known.contains(name)) {
            fmt::print("{} is no port of the saved state\n", name);
        }
    }
    return result;
}

std::string quoted(const std::string& text) {
    std::string out = "\"";
    for (const char c : text) {
        if (c == '"' || c == '\\') {
            out += '\\';
            out += c;
        } else if (static_cast<unsigned char>(c) < 0x20) {
            out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
        } else {
            out += c;
        }
    }
    return out + "\"";
}

// From the pinned maps and links alone, so that it works beside an agent.
int status(const Arguments& arguments) {
    auto view = MapsView::open(arguments.root);
    if (!view) {
        return exit_of(view.error());
    }
    auto meta = view->meta();
    if (!meta) {
        return exit_of(meta.error());
    }
    const auto saved = load_tables(arguments.state);
    const std::string build(reinterpret_cast<const char*>(meta->build),
                            ::strnlen(reinterpret_cast<const char*>(meta->build), sizeof(meta->build)));
    struct Line {
        std::uint32_t id;
        ivds_port port;
        std::string name;
        std::string netdev;
    };
    std::vector<Line> lines;
    for (std::uint32_t id = 1; id < IVDS_MAX_PORTS; ++id) {
        auto port = view->port(id);
        if (!port) {
            return exit_of(port.error());
        }
        if (port->kind == IVDS_PORT_NONE) {
            continue;
        }
        Line line{id, *port, "", ""};
        if (saved && saved->ports.contains(id)) {
            line.name = saved->ports.at(id).name;
            line.netdev = saved->ports.at(id).netdev;
        }
        lines.push_back(std::move(line));
    }
    const auto kind = [](const ivds_port& port) {
        return port.kind == IVDS_PORT_UPLINK ? "uplink" : port.kind == IVDS_PORT_INSPECTOR ? "inspector" : "vport";
    };
    if (arguments.json) {
        fmt::print("{{\"root\": {}, \"layout\": \"{}.{}\", \"generation\": {}, \"build\": {}, \"ports\": [",
                   quoted(arguments.root), meta->layout_major, meta->layout_minor, meta->generation, quoted(build));
        const char* comma = "";
        for (const auto& line : lines) {
            fmt::print(
                "{}{{\"id\": {}, \"kind\": \"{}\", \"name\": {}, \"netdev\": {}, \"ifindex\": {}, \"instance\": {}, "
                "\"up\": {}, \"tc\": {}, \"xdp_target\": {}}}",
                comma, line.id, kind(line.port), quoted(line.name), quoted(line.netdev), line.port.ifindex,
                line.port.instance, (line.port.flags & IVDS_PF_UP) != 0, (line.port.flags & IVDS_PF_TC) != 0,
                (line.port.flags & IVDS_PF_XDP_TARGET) != 0);
            comma = ", ";
        }
        fmt::print("]}}\n");
        return kOk;
    }
    fmt::print("pins {}/{}, layout {}.{}, generation {}, programs {}\n", arguments.root, IVDS_PIN_DIR,
               meta->layout_major, meta->layout_minor, meta->generation, build);
    fmt::print("{:>5} {:<9} {:<20} {:<16} {:>7} {:>8} {}\n", "ID", "KIND", "NAME", "INTERFACE", "IFINDEX", "INSTANCE",
               "STATE");
    for (const auto& line : lines) {
        fmt::print("{:>5} {:<9} {:<20} {:<16} {:>7} {:>8} {}\n", line.id, kind(line.port),
                   line.name.empty() ? "-" : line.name, line.netdev.empty() ? "-" : line.netdev, line.port.ifindex,
                   line.port.instance,
                   (line.port.flags & IVDS_PF_UP) != 0   ? "up"
                   : (line.port.flags & IVDS_PF_TC) != 0 ? "attached, down"
                                                         : "away");
    }
    return kOk;
}

int upgrade(const Arguments& arguments) {
    auto sw = open_switch(arguments);
    if (!sw) {
        return exit_of(sw.error());
    }
    if (auto r = (*sw)->upgrade(arguments.again); !r) {
        return exit_of(r.error());
    }
    fmt::print("every hook runs build {}\n", built_in_build());
    return kOk;
}

int down(const Arguments& arguments) {
    if (!arguments.detach) {
        fmt::print("the switch goes on forwarding; `ivds-loader down --detach` takes it down\n");
        return kOk;
    }
    // Opening would make a switch where there is none.
    if (auto view = MapsView::open(arguments.root); !view && view.error().code == Code::unavailable) {
        fmt::print("no switch is pinned under {}\n", arguments.root);
        return kOk;
    }
    auto sw = open_switch(arguments);
    if (!sw) {
        return exit_of(sw.error());
    }
    if (auto r = (*sw)->tear_down(); !r) {
        return exit_of(r.error());
    }
    fmt::print("detached; the vPorts' interfaces are down, the pins are gone\n");
    return kOk;
}

int check(const Arguments& arguments) {
    auto tables = load_tables(arguments.state);
    if (!tables) {
        return exit_of(tables.error());
    }
    auto findings = doctor({.root = arguments.root, .xdp_coexist = arguments.xdp_coexist}, *tables);
    if (!findings) {
        return exit_of(findings.error());
    }
    int result = kOk;
    for (const auto& finding : *findings) {
        const auto* severity = "info";
        if (finding.severity == Finding::Severity::warning) {
            severity = "warning";
        } else if (finding.severity == Finding::Severity::error) {
            severity = "error";
            result = kFindings;
        }
        fmt::print("{} {} {}: {}{}\n", severity, finding.id, finding.object, finding.text,
                   finding.fix.empty() ? "" : "\n    fix: " + finding.fix);
    }
    if (findings->empty()) {
        fmt::print("nothing found\n");
    }
    return result;
}

}  // namespace

int main(int argc, char** argv) {
    Arguments arguments;
    CLI::App app(
        "Brings the switch up from its last saved state: maps, programs and hooks, pinned, so that it forwards with "
        "no "
        "process. Safe to run again at any time; needs root. `ivds-loader IFACE...` is short for `ivds-loader up "
        "IFACE...`.",
        "ivds-loader");
    app.footer(kFooter);
    app.set_version_flag("--version", built_in_build());
    app.require_subcommand(1);
    const auto common = [&](CLI::App* command) {
        command->add_option("--root", arguments.root, "Where the switch is pinned, on a bpffs")
            ->capture_default_str();
        command->add_option("--state", arguments.state, "The saved state")->capture_default_str();
        return command;
    };
    auto* up_command = common(app.add_subcommand(
        "up", "Bring the saved state up; heal what went away. With interfaces named, hooks go on these alone."));
    up_command->add_option("IFACE", arguments.interfaces, "Interfaces of ports");
    const auto coexist = [&](CLI::App* command) {
        command
            ->add_flag("--xdp-coexist", arguments.xdp_coexist,
                       "XDP goes through libxdp's dispatcher, beside other programs")
            ->envname("IVDS_XDP_COEXIST");
    };
    coexist(up_command);
    auto* status_command = common(app.add_subcommand("status", "Show what is pinned; works beside an agent."));
    status_command->add_flag("--json", arguments.json, "As one JSON object");
    auto* upgrade_command =
        common(app.add_subcommand("upgrade", "Put this build's programs into every hook, without a lost frame."));
    upgrade_command->add_flag("--force", arguments.again, "Also if this build runs there already");
    auto* down_command =
        common(app.add_subcommand("down", "Leave the switch forwarding; with --detach take it down."));
    down_command->add_flag("--detach", arguments.detach, "Set vPorts' interfaces down, detach, remove all pins");
    auto* check_command =
        common(app.add_subcommand("check", "Look for known traps of drivers and kernel. Changes nothing."));
    coexist(check_command);
    // `ivds-loader IFACE…`, as a unit or a person at boot writes it, is short for `ivds-loader up IFACE…`.
    std::vector<std::string> words(argv + 1, argv + argc);
    if (!words.empty() && !words.front().starts_with('-') &&
        std::ranges::none_of(app.get_subcommands(nullptr),
                             [&](const auto* c) { return c->get_name() == words.front(); })) {
        words.insert(words.begin(), "up");
    }
    try {
        std::ranges::reverse(words);  // as CLI11 wants them
        app.parse(std::move(words));
    } catch (const CLI::ParseError& error) {
        return app.exit(error) == 0 ? kOk : kUsage;
    }
    if (up_command->parsed()) {
        return up(arguments);
    }
    if (status_command->parsed()) {
        return status(arguments);
    }
    if (upgrade_command->parsed()) {
        return upgrade(arguments);
    }
    if (down_command->parsed()) {
        return down(arguments);
    }
    return check_command->parsed() ? check(arguments) : kUsage;
}
