// SPDX-License-Identifier: Apache-2.0
// migrate.cpp -- a VM's vPort goes from one host to another: the steps one by one, and all of them in a row.
#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>

#include <chrono>
#include <cstdlib>
#include <memory>
#include <ostream>

#include "command.h"
#include "fields.h"
#include "interrupt.h"

namespace ivds::cli {
namespace {

using Clock = std::chrono::steady_clock;

double ms_since(Clock::time_point start) {
    return std::chrono::duration<double, std::milli>(Clock::now() - start).count();
}

Result<pb::Migration> read_migration(Io& io, const std::string& file) {
    const auto text = read_file(io, file);
    if (!text) return std::unexpected(text.error());
    pb::Migration migration;
    const auto read = google::protobuf::util::JsonStringToMessage(*text, &migration);
    if (!read.ok())
        return fail(Code::invalid, "IVDS-U005",
                    fmt::format("{} is nothing that migrate export prints: {}", file == "-" ? "standard input" : file,
                                std::string(read.message())),
                    "give the file as `ivds-ctl migrate export` on the other host made it");
    return migration;
}

void print_changes(const Io& io, const pb::MigrateReply& reply) {
    for (const pb::Change& change : reply.changes()) {
        io.out << fmt::format("{} {}\n", change.verb(), label(change.kind(), change.name()));
        for (const std::string& field : change.fields()) io.out << "    " << field << '\n';
    }
    if (reply.changes().empty()) io.out << "nothing to change\n";
}

std::string committed_text(const std::string& vport, const pb::MigrateReply& reply) {
    return fmt::format(
        "vport {} is here: from host {}, generation {}, {} connections{}; the registry took {:.1f} ms, the "
        "switch {:.1f} ms",
        vport, reply.from_host(), reply.generation(), reply.flows(),
        reply.lost().empty() ? "" : fmt::format(" (others, if it had any, are lost: {})", reply.lost()),
        static_cast<double>(reply.registry_us()) / 1000, static_cast<double>(reply.forwarding_us()) / 1000);
}

// Asks for a step, and prints the answer as JSON or by `print`.
template <class Print>
Result<int> step(const Context& context, const pb::MigrateRequest& request, Print print) {
    const auto reply = context.agent.migrate(request);
    if (!reply) return std::unexpected(reply.error());
    if (context.options.json)
        context.json(*reply);
    else
        print(*reply);
    return exit_ok;
}

Result<int> export_vport(const Context& context, const std::string& vport, const std::string& file) {
    pb::MigrateRequest request;
    request.set_vport(vport);
    const auto reply = context.agent.migrate(request);
    if (!reply) return std::unexpected(reply.error());
    google::protobuf::util::JsonPrintOptions options;
    options.preserve_proto_field_names = true;
    std::string text;
    (void)google::protobuf::util::MessageToJsonString(reply->migration(), &text, options);
    text += '\n';
    if (auto done = write_file(context.io, file, text); !done) return std::unexpected(done.error());
    return exit_ok;
}

struct RunWords {
    std::string vport;
    std::string to;
    std::string netdev;
    std::string instance;
    std::string stop;
    std::string start;
    bool dry_run = false;
    bool replug = false;
};

Result<> shell(const std::string& what, const std::string& command) {
    if (command.empty()) return {};
    const int status = std::system(command.c_str());
    if (status == 0) return {};
    return fail(Code::system, "IVDS-U006", fmt::format("the command to {} the VM failed: {}", what, command));
}

// All steps in a row. What fails before the commit is taken back; a commit whose outcome is not known is left to be
// repeated, as the VM may be the other host's.
Result<int> run(const Context& context, const RunWords& words) {
    Client& source = context.agent;
    const Options& options = context.options;
    const auto to = words.to.contains('/') ? target_of(words.to, "", "", "", "")
                                           : target_of("", words.to, options.ca, options.cert, options.key);
    if (!to) return std::unexpected(to.error().in("--to"));
    Client target(*to, std::chrono::milliseconds(static_cast<std::int64_t>(options.timeout_s * 1000)));
    std::ostream& progress = context.io.err;
    const auto begun = Clock::now();
    const auto say = [&](const std::string& text) {
        progress << fmt::format("{:9.1f} ms  {}\n", ms_since(begun), text) << std::flush;
    };

    pb::MigrateRequest exporting;
    exporting.set_vport(words.vport);
    const auto exported = source.migrate(exporting);
    if (!exported) return std::unexpected(exported.error());
    say(fmt::format("host {} has it, with {} connections", exported->migration().host(),
                    exported->migration().flows_size()));

    pb::MigrateRequest request;
    request.set_vport(words.vport);
    request.set_dry_run(words.dry_run);
    request.set_step(pb::MigrateRequest::PREPARE);
    *request.mutable_migration() = exported->migration();
    request.set_netdev(words.netdev);
    request.set_instance(words.instance);
    const Interrupt interrupt;
    const auto prepared = target.migrate(request);
    if (!prepared) return std::unexpected(prepared.error().in("prepare"));
    if (words.dry_run) {
        if (options.json) {
            context.json(*prepared);
        } else {
            print_changes(context.io, *prepared);
            context.io.out << "dry run: nothing was changed\n";
        }
        return exit_ok;
    }
    say("prepared");
    pb::MigrateRequest undo;
    undo.set_step(pb::MigrateRequest::ABORT);
    undo.set_vport(words.vport);
    std::string stopped;
    const auto taken_back = [&](Error error) -> Result<int> {
        const auto done = target.migrate(undo);
        error.what += done ? "; the vPort is as it was" : "; and taking it back failed: " + done.error().text();
        error.what += stopped;
        return std::unexpected(std::move(error));
    };

    if (auto none = interrupt.none(); !none) return taken_back(none.error());
    const auto stopping = Clock::now();
    if (auto done = shell("stop", words.stop); !done) return taken_back(done.error());
    if (!words.stop.empty()) stopped = "; the VM was stopped: have it go on where it was";
    if (auto none = interrupt.none(); !none) return taken_back(none.error());
    request.set_step(pb::MigrateRequest::COMMIT);
    request.set_replug(words.replug);
    // Connections of the last moment; if the other host cannot say any more, those of before.
    if (auto last = source.migrate(exporting)) *request.mutable_migration() = last->migration();
    const auto committed = target.migrate(request);
    if (!committed) {
        if (committed.error().code == Code::unavailable && committed.error().id != "IVDS-R014")
            return std::unexpected(committed.error().in("commit, which may have happened: repeat it, or abort"));
        return taken_back(committed.error().in("commit"));
    }
    const double gap_ms = ms_since(stopping);
    say("committed");
    if (auto done = shell("start", words.start); !done) return std::unexpected(done.error());
    if (context.options.json) {
        context.json(*committed);
        return exit_ok;
    }
    context.io.out << committed_text(words.vport, *committed)
                   << fmt::format("; it stood still for {:.1f} ms, as seen from here\n", gap_ms);
    return exit_ok;
}

}  // namespace

void add_migrate_commands(Commands& commands) {
    CLI::App& group = Commands::group(commands.root(), "migrate", "A VM's vPort goes from one host to another");

    struct Words {
        pb::MigrateRequest request;
        std::string file;
        bool dry_run = false;
        bool replug = false;
    };
    constexpr const char* replug_help = "the VM sees its link drop, and return once its vPort forwards";
    auto exported = std::make_shared<Words>();
    CLI::App& export_app =
        commands.leaf(group, "export", "Print all that belongs to a vPort, for the host that it is to go to",
                      "ivds-ctl migrate export web1 -o web1.json\nivds-ctl migrate export web1 | ssh host-b ivds-ctl "
                      "migrate commit "
                      "web1 -f -",
                      [exported](const Context& context) {
                          return export_vport(context, exported->request.vport(), exported->file);
                      });
    add_value(export_app, "NAME", "VPORT", *exported->request.mutable_vport(), "the vPort").required();
    add_value(export_app, "-o,--output", "FILE", exported->file, "write here rather than to standard output");

    auto prepared = std::make_shared<Words>();
    prepared->request.set_step(pb::MigrateRequest::PREPARE);
    CLI::App& prepare_app =
        commands.leaf(group, "prepare", "Make a vPort of another host ready here; it forwards nothing yet",
                      "ivds-ctl migrate prepare -f web1.json --netdev tap7\n"
                      "ivds-ctl migrate prepare -f web1.json --netdev tap7 --dry-run",
                      [prepared](const Context& context) -> Result<int> {
                          auto migration = read_migration(context.io, prepared->file);
                          if (!migration) return std::unexpected(migration.error());
                          *prepared->request.mutable_migration() = std::move(*migration);
                          prepared->request.set_dry_run(prepared->dry_run);
                          return step(context, prepared->request, [&](const pb::MigrateReply& reply) {
                              print_changes(context.io, reply);
                              if (prepared->dry_run) context.io.out << "dry run: nothing was changed\n";
                          });
                      });
    add_value(prepare_app, "-f,--file", "FILE", prepared->file, "what export printed; - reads standard input")
        .required();
    add_value(prepare_app, "--netdev", "NETDEV", *prepared->request.mutable_netdev(),
              "this host's side of the VM's interface")
        .required();
    add_value(prepare_app, "--instance", "INSTANCE", *prepared->request.mutable_instance(),
              "its instance here, if that has another name");
    prepare_app.add_flag("--dry-run", prepared->dry_run, "show what would change, and change nothing");

    auto committed = std::make_shared<Words>();
    committed->request.set_step(pb::MigrateRequest::COMMIT);
    CLI::App& commit_app = commands.leaf(
        group, "commit", "Take a prepared vPort over from its host, and forward; then the VM may go on",
        "ivds-ctl migrate commit web1\nivds-ctl migrate commit web1 -f -",
        [committed](const Context& context) -> Result<int> {
            if (!committed->file.empty()) {
                auto migration = read_migration(context.io, committed->file);
                if (!migration) return std::unexpected(migration.error());
                *committed->request.mutable_migration() = std::move(*migration);
            }
            committed->request.set_dry_run(committed->dry_run);
            committed->request.set_replug(committed->replug);
            return step(context, committed->request, [&](const pb::MigrateReply& reply) {
                context.io.out << (committed->dry_run ? fmt::format("vport {} is ready\ndry run: nothing was changed",
                                                                    committed->request.vport())
                                                      : committed_text(committed->request.vport(), reply))
                               << '\n';
            });
        });
    add_value(commit_app, "NAME", "VPORT", *committed->request.mutable_vport(), "the vPort").required();
    add_value(commit_app, "-f,--file", "FILE", committed->file,
              "what export printed once the VM stood still: its last connections; - reads standard input");
    commit_app.add_flag("--replug", committed->replug, replug_help);
    commit_app.add_flag("--dry-run", committed->dry_run, "say whether it would be refused, and change nothing");

    auto aborted = std::make_shared<Words>();
    aborted->request.set_step(pb::MigrateRequest::ABORT);
    CLI::App& abort_app = commands.leaf(
        group, "abort", "Take prepare back; the vPort stays where it is", "ivds-ctl migrate abort web1",
        [aborted](const Context& context) {
            aborted->request.set_dry_run(aborted->dry_run);
            return step(context, aborted->request, [&](const pb::MigrateReply& reply) {
                if (reply.changes().empty())
                    context.io.out << fmt::format("there is no vport {} here: ", aborted->request.vport());
                print_changes(context.io, reply);
                if (aborted->dry_run) context.io.out << "dry run: nothing was changed\n";
            });
        });
    add_value(abort_app, "NAME", "VPORT", *aborted->request.mutable_vport(), "the vPort").required();
    abort_app.add_flag("--dry-run", aborted->dry_run, "show what would change, and change nothing");

    auto words = std::make_shared<RunWords>();
    CLI::App& run_app = commands.leaf(
        group, "run", "All steps in a row, from this agent to another that can be reached from here",
        "ivds-ctl migrate run web1 --to /mnt/host-b/run/ivds/ivdsd.sock --netdev tap7 --stop 'virsh suspend web1' "
        "--start '…'\nWhat fails before the commit is taken back. Progress goes to standard error.",
        [words](const Context& context) { return run(context, *words); });
    add_value(run_app, "NAME", "VPORT", words->vport, "the vPort").required();
    add_value(run_app, "--to", "FILE", words->to, "the other agent: its socket, or HOST:PORT by TLS").required();
    add_value(run_app, "--netdev", "NETDEV", words->netdev, "the other host's side of the VM's interface").required();
    add_value(run_app, "--instance", "INSTANCE", words->instance, "its instance there, if that has another name");
    add_value(run_app, "--stop", "COMMAND", words->stop, "stops the VM and plugs it in on the other host; for sh");
    add_value(run_app, "--start", "COMMAND", words->start, "has it go on there; for sh");
    run_app.add_flag("--replug", words->replug, replug_help);
    run_app.add_flag("--dry-run", words->dry_run, "show what would change, and change nothing");
}

}  // namespace ivds::cli
