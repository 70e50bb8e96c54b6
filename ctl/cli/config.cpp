// SPDX-License-Identifier: Apache-2.0
// config.cpp -- apply and export: the switch as a file.
#include <fmt/format.h>

#include <cerrno>
#include <fstream>
#include <iterator>

#include "api/codec.h"
#include "command.h"
#include "fields.h"
#include "table.h"

namespace ivds::cli {

Result<std::string> read_file(Io& io, const std::string& file) {
    if (file == "-") return std::string(std::istreambuf_iterator<char>(io.in), {});
    std::ifstream stream(file, std::ios::binary);
    std::string text(std::istreambuf_iterator<char>(stream), {});
    if (!stream.is_open() || stream.bad()) {
        return std::unexpected(Error{.code = Code::invalid,
                                     .id = "IVDS-U003",
                                     .what = "read " + file,
                                     .fix = "give the name of a file, or - for standard input",
                                     .os_errno = errno});
    }
    return text;
}

Result<> write_file(Io& io, const std::string& file, const std::string& text) {
    if (file.empty()) {
        io.out << text;
        return {};
    }
    std::ofstream stream(file, std::ios::binary | std::ios::trunc);
    stream << text;
    stream.close();
    if (!stream) return os_error(errno, "IVDS-U004", "write " + file);
    return {};
}

Result<pb::Config> read_config(Io& io, const std::string& file) {
    auto text = read_file(io, file);
    if (!text) return std::unexpected(text.error());
    return config_from_yaml(*text, file == "-" ? "standard input" : file);
}

namespace {

void print_changes(const Io& io, const pb::ApplyReply& reply) {
    std::map<std::string, int> count;
    for (const pb::Change& change : reply.changes()) {
        ++count[change.verb()];
        const bool created = change.verb() == "create";
        const bool deleted = change.verb() == "delete";
        const Color color = created ? Color::good : deleted ? Color::bad : Color::none;
        const std::string line = fmt::format("{} {}",
                                             created   ? '+'
                                             : deleted ? '-'
                                                       : '~',
                                             label(change.kind(), change.name()));
        io.out << paint(line, io.color ? color : Color::none) << '\n';
        for (const std::string& field : change.fields()) io.out << "    " << field << '\n';
    }
    if (reply.changes().empty()) {
        io.out << "nothing to change\n";
    } else {
        io.out << fmt::format("{} to create, {} to update, {} to delete\n", count["create"], count["update"],
                              count["delete"]);
    }
}

Result<int> apply(const Context& context, const std::string& file, pb::ApplyRequest request) {
    auto config = read_config(context.io, file);
    if (!config) return std::unexpected(config.error());
    request.mutable_config()->Swap(&*config);
    const auto reply = context.agent.apply(request);
    if (!reply) return std::unexpected(reply.error());
    if (context.options.json) {
        context.json(*reply);
        return exit_ok;
    }
    print_changes(context.io, *reply);
    if (!reply->changes().empty()) {
        context.io.out << (request.dry_run() ? "dry run: nothing was changed\n"
                                             : fmt::format("applied: generation {}\n", reply->generation()));
    }
    print_findings(context.io.err, false, reply->findings());
    return exit_ok;
}

Result<int> export_config(const Context& context, const std::string& file) {
    const auto config = context.source.export_config();
    if (!config) return std::unexpected(config.error());
    const std::string text = context.options.json ? to_json(*config) + "\n" : to_yaml(*config);
    if (auto done = write_file(context.io, file, text); !done) return std::unexpected(done.error());
    return exit_ok;
}

}  // namespace

void add_config_commands(Commands& commands) {
    struct Words {
        std::string file;
        bool dry_run = false;
        bool strict = false;
    };
    auto words = std::make_shared<Words>();
    CLI::App& apply_app = commands.leaf(
        commands.root(), "apply", "Make the switch match a file: create, change and remove, all or nothing",
        "ivds-ctl apply -f host-a.yaml --dry-run\nivds-ctl export | sed s/1500/9000/ | ivds-ctl apply -f -",
        [words](const Context& context) {
            pb::ApplyRequest request;
            request.set_dry_run(words->dry_run);
            request.set_strict(words->strict);
            return apply(context, words->file, std::move(request));
        });
    add_value(apply_app, "-f,--file", "FILE", words->file, "configuration in YAML; - reads standard input")
        .required();
    apply_app.add_flag("--dry-run", words->dry_run, "show what would change, and change nothing");
    apply_app.add_flag("--strict", words->strict, "fail as a whole if an interface cannot be attached");

    auto output = std::make_shared<std::string>();
    CLI::App& export_app =
        commands.leaf(commands.root(), "export", "Print the configuration as a file that apply takes",
                      "ivds-ctl export -o host-a.yaml",
                      [output](const Context& context) { return export_config(context, *output); });
    add_value(export_app, "-o,--output", "FILE", *output, "write here rather than to standard output");
}

}  // namespace ivds::cli
