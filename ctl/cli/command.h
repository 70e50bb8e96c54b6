// SPDX-License-Identifier: Apache-2.0
// command.h -- what the files of commands share: how a command is added to the tree, and what it gets to run.
#pragma once

#include <CLI/CLI.hpp>
#include <functional>
#include <map>
#include <string>

#include "cli.h"
#include "client.h"
#include "source.h"

namespace ivds::cli {

// What a running command gets.
struct Context {
    Io& io;
    const Options& options;
    Client& agent;   // for what only the agent can do
    Source& source;  // for reading, with or without the agent

    // One message as JSON, on one line, pushed out at once so that a stream can be followed.
    void json(const google::protobuf::Message& message) const;
};

// A command's work; the value is its exit code.
using Action = std::function<Result<int>(const Context&)>;

// The command tree while it is built: leaves are bound to actions.
class Commands {
public:
    explicit Commands(CLI::App& root) : root_(&root) {}
    [[nodiscard]] CLI::App& root() const { return *root_; }

    // A command that has commands below it, of which one must be given. The same again is the same one.
    [[nodiscard]] static CLI::App& group(CLI::App& parent, const std::string& name, const std::string& description);
    // A command that runs `action`. `examples` are lines for the end of its help.
    CLI::App& leaf(CLI::App& parent, const std::string& name, const std::string& description,
                   const std::string& examples, Action action);
    // The action of the command that was parsed.
    [[nodiscard]] const Action& parsed() const;

private:
    CLI::App* root_;
    std::map<const CLI::App*, Action> actions_;
};

// The command that the words led to: the root itself if none.
[[nodiscard]] const CLI::App& deepest(const CLI::App& root);

// Value names of options tell what they take, in the help and to the completion: the names of a kind of
// object (UPLINK, INSTANCE, VPORT, VNIC, PROFILE, POOL, TENANT, SET, VPORT_POOL, MIRROR, EXPORTER, INSPECTOR), any
// port (PORT), what has rules (OWNER), an interface (NETDEV), a file (FILE), or words to choose from ("auto|native");
// others (MAC, N, TEXT) are free.
template <class Value>
CLI::Option& add_value(CLI::App& app, const std::string& name, const std::string& type, Value& value,
                       const std::string& description) {
    return *app.add_option(name, value, description)->type_name(type);
}

// An object by its kind and name.
[[nodiscard]] pb::Ref ref_to(pb::Kind kind, const std::string& name);

// Findings as lines for people: "error IVDS-P001 eth1: text", and the fix below.
void print_findings(std::ostream& out, bool color, const google::protobuf::RepeatedPtrField<pb::Finding>& findings);

// A file's text, or with "-" that of standard input.
[[nodiscard]] Result<std::string> read_file(Io& io, const std::string& file);
// Writes the text into a file, or on standard output if `file` is empty.
[[nodiscard]] Result<> write_file(Io& io, const std::string& file, const std::string& text);
// The configuration in a file, or with "-" on standard input.
[[nodiscard]] Result<pb::Config> read_config(Io& io, const std::string& file);

void add_config_commands(Commands& commands);  // apply, export
void add_object_commands(Commands& commands);  // uplink … exporter, vmac
void add_offload_set(Commands& commands, CLI::App& offload);
void add_show_commands(Commands& commands);      // show, status
void add_stats_command(Commands& commands);      // stats
void add_top_command(Commands& commands);        // top
void add_fdb_commands(Commands& commands);       // fdb
void add_binding_command(Commands& commands);    // binding show
void add_neighbour_command(Commands& commands);  // neighbour show
void add_flow_commands(Commands& commands);      // flow
void add_events_command(Commands& commands);     // events
void add_trace_command(Commands& commands);      // trace
void add_doctor_commands(Commands& commands);    // doctor, version
void add_plane_commands(Commands& commands);     // nic, map, vlan, tenant show
void add_rule_commands(Commands& commands);      // rule
void add_mirror_commands(Commands& commands);    // mirror state
void add_capture_command(Commands& commands);    // capture
void add_exporter_command(Commands& commands);   // exporter state
void add_inspector_command(Commands& commands);  // inspector state
void add_offload_commands(Commands& commands);   // offload show, offload plan
void add_fabric_commands(Commands& commands);    // fabric, host
void add_boot_command(Commands& commands);       // boot
void add_migrate_commands(Commands& commands);   // migrate

}  // namespace ivds::cli
