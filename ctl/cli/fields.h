// SPDX-License-Identifier: Apache-2.0
// fields.h -- the objects of ivds.proto by reflection: which kinds there are, and their fields as flags and as
// cells of a table. A field that the schema gains is a flag at once.
#pragma once

#include <CLI/CLI.hpp>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "client.h"

namespace ivds::cli {

// Every kind of object, in the schema's order, and its name in commands and messages: "vmac-pool".
[[nodiscard]] std::vector<pb::Kind> all_kinds();
[[nodiscard]] std::string kind_name(pb::Kind kind);
[[nodiscard]] const google::protobuf::Descriptor& descriptor_of(pb::Kind kind);

// "vport web1", and an attach mode as the file format spells it.
[[nodiscard]] std::string label(pb::Kind kind, const std::string& name);
[[nodiscard]] std::string mode_name(pb::AttachMode mode);

// A field's value as a cell of a table; empty if it is not set. Lists are joined with commas.
[[nodiscard]] std::string field_text(const google::protobuf::Message& message,
                                     const google::protobuf::FieldDescriptor& field);

// What the help says of a field: the name of its value and a sentence. Null if the table has no entry.
struct FieldHelp {
    const char* field;  // "Uplink.netdev"
    const char* value;  // null for choices and switches
    const char* text;
};
[[nodiscard]] const FieldHelp* field_help(const google::protobuf::FieldDescriptor& field);

// Whether the agent alone says what is in the field: no flag gives it.
[[nodiscard]] bool is_told(const google::protobuf::FieldDescriptor& field);

// The flags of an object or a rule on a command, and the values that they were given.
class FieldFlags {
public:
    // Adds a flag for every field of the message that is not told, but for `name` unless it is asked for, or for
    // those in `only`. FieldFlags must stay where it is while `app` parses.
    FieldFlags(CLI::App& app, const google::protobuf::Descriptor& descriptor, bool with_name = false,
               std::span<const std::string_view> only = {});
    FieldFlags(const FieldFlags&) = delete;
    FieldFlags& operator=(const FieldFlags&) = delete;

    [[nodiscard]] bool any() const { return !given_.empty(); }
    // Sets the given fields in `message`; a list that is given replaces the list that is there.
    [[nodiscard]] Result<> set(google::protobuf::Message& message) const;

private:
    std::map<const google::protobuf::FieldDescriptor*, std::vector<std::string>> given_;
};

}  // namespace ivds::cli
