// SPDX-License-Identifier: Apache-2.0
// codec.h -- text to messages of ivds.proto and back, by reflection: one walker serves the file format, single
// objects, flags and all JSON output, so a field that is added to the schema is known everywhere at once.
// Keys are the schema's field names; enumerations are written in lower case ("piggyback", "auto"). Pure.
#pragma once

#include <google/protobuf/descriptor.h>
#include <google/protobuf/generated_enum_reflection.h>
#include <google/protobuf/message.h>
#include <yaml-cpp/yaml.h>

#include <string>
#include <vector>

#include "ivds.grpc.pb.h"
#include "loader/error.h"

namespace ivds {

namespace pb = ::ivds::v1;

// A whole configuration. An empty text is an empty Config; several documents in one text add up. Everything
// that is not exactly the schema is an error that starts with "FILE:LINE:COLUMN: ": text that is not YAML,
// an unknown key or value (the nearest known one is suggested), a wrong type, a number out of range, a key
// twice in a map, two objects of a kind by one name.
[[nodiscard]] Result<pb::Config> config_from_yaml(const std::string& text, const std::string& file);

// One document onto one message, with the same rules: `ivds-ctl create vport -f FILE`. JSON is YAML, so
// what to_json prints reads back too. Fields that the text leaves out keep what `message` holds.
[[nodiscard]] Result<> message_from_yaml(const std::string& text, const std::string& file,
                                         google::protobuf::Message& message);
// The same from a parsed node; `file` only names the source in errors.
[[nodiscard]] Result<> from_yaml(const YAML::Node& node, google::protobuf::Message& message, const std::string& file);
// Sets one field from the text of a flag: a scalar as it stands ("1500", "piggyback"), a list as YAML
// ("[10, 20]") or, for a list of scalars, separated by commas ("10,20"). Replaces what the field held.
[[nodiscard]] Result<> set_field(google::protobuf::Message& message, const std::string& field,
                                 const std::string& value);

// Deterministic, in the order of the schema's field numbers. YAML leaves out fields that have their default
// value, and reads back as the same message. JSON prints every field, numbers as numbers (64-bit ones
// too), bytes in hexadecimal, enumerations in lower case; of a oneof it prints the member that is set, and an unset
// message as null.
[[nodiscard]] std::string to_yaml(const google::protobuf::Message& message);
[[nodiscard]] std::string to_json(const google::protobuf::Message& message);
// `text` as a JSON string, quotes included.
[[nodiscard]] std::string json_string(const std::string& text);

// Enumerations as text: "vmac_pool" for VMAC_POOL. Unknown numbers print as numbers.
[[nodiscard]] std::string enum_text(const google::protobuf::EnumDescriptor& type, int value);
[[nodiscard]] Result<int> enum_value(const google::protobuf::EnumDescriptor& type, const std::string& text);
template <class E>
[[nodiscard]] std::string to_text(E value) {
    return enum_text(*google::protobuf::GetEnumDescriptor<E>(), static_cast<int>(value));
}
template <class E>
[[nodiscard]] Result<E> from_text(const std::string& text) {
    auto value = enum_value(*google::protobuf::GetEnumDescriptor<E>(), text);
    if (!value) return std::unexpected(value.error());
    return static_cast<E>(*value);
}

// Whether each enumeration in the message, and in those within it, has a value that the schema names. Text cannot
// bring another, but a client of the API can. Code::invalid names the field.
[[nodiscard]] Result<> check_enums(const google::protobuf::Message& message);

// The candidate that `word` most likely was meant to be, or "" if none is near.
[[nodiscard]] std::string nearest(const std::string& word, const std::vector<std::string>& candidates);

// Objects of any kind. message_of() with a kind makes `object` that kind (emptied, unless it already is).
[[nodiscard]] pb::Kind kind_of(const pb::Object& object);
[[nodiscard]] std::string name_of(const pb::Object& object);
[[nodiscard]] const google::protobuf::Message* message_of(const pb::Object& object);     // null if no kind is set
[[nodiscard]] google::protobuf::Message* message_of(pb::Object& object, pb::Kind kind);  // null for KIND_NONE

}  // namespace ivds
