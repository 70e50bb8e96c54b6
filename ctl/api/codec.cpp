// SPDX-License-Identifier: Apache-2.0
// codec.cpp -- the walker over a message's fields, once for reading YAML and once each for writing YAML and JSON.
#include "api/codec.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <limits>
#include <set>

namespace ivds {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;

std::string lower(std::string text) {
    for (char& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return text;
}

std::unexpected<Error> at(const std::string& file, const YAML::Mark& mark, std::string id, const std::string& what,
                          std::string fix = {}) {
    // A node that was made in memory has no mark.
    if (mark.is_null()) return fail(Code::invalid, std::move(id), fmt::format("{}: {}", file, what), std::move(fix));
    return fail(Code::invalid, std::move(id), fmt::format("{}:{}:{}: {}", file, mark.line + 1, mark.column + 1, what),
                std::move(fix));
}

std::string did_you_mean(const std::string& word, const std::vector<std::string>& candidates) {
    const std::string near = nearest(word, candidates);
    return near.empty() ? fmt::format("one of: {}", fmt::join(candidates, ", "))
                        : fmt::format("did you mean {}?", near);
}

std::vector<std::string> field_names(const Descriptor& type) {
    std::vector<std::string> names;
    names.reserve(static_cast<std::size_t>(type.field_count()));
    for (int i = 0; i < type.field_count(); ++i) names.push_back(type.field(i)->name());
    return names;
}

std::vector<std::string> value_names(const EnumDescriptor& type) {
    std::vector<std::string> names;
    names.reserve(static_cast<std::size_t>(type.value_count()));
    for (int i = 0; i < type.value_count(); ++i) names.push_back(lower(type.value(i)->name()));
    return names;
}

// No message of the schema is within itself.
bool mentions_enums(const Descriptor& type) {
    for (int i = 0; i < type.field_count(); ++i)
        if (type.field(i)->enum_type() != nullptr ||
            (type.field(i)->message_type() != nullptr && mentions_enums(*type.field(i)->message_type())))
            return true;
    return false;
}

// What the schema wants a field to be, in words.
std::string wanted(const FieldDescriptor& field) {
    switch (field.cpp_type()) {
        case FieldDescriptor::CPPTYPE_MESSAGE:
            return "a map of fields";
        case FieldDescriptor::CPPTYPE_BOOL:
            return "true or false";
        case FieldDescriptor::CPPTYPE_STRING:
            return "a text";
        case FieldDescriptor::CPPTYPE_ENUM:
            return "a word";
        default:
            return "a number";
    }
}

std::string found(const YAML::Node& node) {
    if (node.IsMap()) return "a map";
    if (node.IsSequence()) return "a list";
    if (node.IsScalar()) return fmt::format("\"{}\"", node.Scalar());
    return "nothing";
}

template <class T>
bool parse_number(const std::string& text, T& value) {
    const bool hex = text.size() > 2 && text[0] == '0' && (text[1] == 'x' || text[1] == 'X');
    const char* begin = text.data() + (hex ? 2 : 0);
    const char* end = text.data() + text.size();
    const auto result = std::from_chars(begin, end, value, hex ? 16 : 10);
    return result.ec == std::errc{} && result.ptr == end;
}

// Reads one YAML tree onto one message; `path` in errors is the field's name, as the mark says where.
class Reader {
public:
    explicit Reader(const std::string& file) : file_(file) {}

    Result<> message(const YAML::Node& node, Message& out) {
        const Descriptor& type = *out.GetDescriptor();
        if (!node.IsMap())
            return at(file_, node.Mark(), "IVDS-C003",
                      fmt::format("expected a map with fields of {}, found {}", type.name(), found(node)),
                      fmt::format("fields are: {}", fmt::join(field_names(type), ", ")));
        std::set<const FieldDescriptor*> seen;
        for (const auto& pair : node) {
            if (!pair.first.IsScalar())
                return at(file_, pair.first.Mark(), "IVDS-C003", "a key must be a field's name",
                          fmt::format("fields are: {}", fmt::join(field_names(type), ", ")));
            const std::string& key = pair.first.Scalar();
            const FieldDescriptor* field = type.FindFieldByName(key);
            if (field == nullptr)
                return at(file_, pair.first.Mark(), "IVDS-C002",
                          fmt::format("{} has no field \"{}\"", type.name(), key),
                          did_you_mean(key, field_names(type)));
            if (!seen.insert(field).second)
                return at(file_, pair.first.Mark(), "IVDS-C004", fmt::format("\"{}\" is given twice", key),
                          "keep one of them; two objects begin with \"- \" each");
            if (const auto* oneof = field->real_containing_oneof();
                oneof != nullptr && out.GetReflection()->HasOneof(out, oneof) &&
                out.GetReflection()->GetOneofFieldDescriptor(out, oneof) != field)
                return at(file_, pair.first.Mark(), "IVDS-C004",
                          fmt::format("\"{}\" and \"{}\" exclude each other", key,
                                      out.GetReflection()->GetOneofFieldDescriptor(out, oneof)->name()),
                          "keep one of them");
            // A field without a position of its own (`key:` and nothing) is reported at its key.
            const YAML::Mark mark = pair.second.Mark().is_null() ? pair.first.Mark() : pair.second.Mark();
            if (auto done = this->field(pair.second, mark, *field, out); !done) return done;
        }
        return {};
    }

    Result<> field(const YAML::Node& node, const YAML::Mark& mark, const FieldDescriptor& field, Message& out) {
        const Reflection& reflection = *out.GetReflection();
        const bool is_map = field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
        if (!field.is_repeated() && !(is_map && node.IsNull())) return value(node, mark, field, out);
        reflection.ClearField(&out, &field);
        if (node.IsNull()) return {};  // `vports:` with nothing below it is an empty list, and null no map
        if (!node.IsSequence())
            return at(file_, mark, "IVDS-C003", fmt::format("{} is a list, found {}", field.name(), found(node)),
                      "write each entry on a line of its own after \"- \", or all in [ ]");
        for (const auto& item : node)
            if (auto done = value(item, item.Mark(), field, out); !done) return done;
        return {};
    }

private:
    std::unexpected<Error> wrong(const YAML::Node& node, const YAML::Mark& mark, const FieldDescriptor& field) {
        return at(file_, mark, "IVDS-C003",
                  fmt::format("{} is {}, found {}", field.name(), wanted(field), found(node)),
                  fmt::format("give {}, or leave {} out", wanted(field), field.name()));
    }

    template <class T>
    Result<T> number(const YAML::Node& node, const YAML::Mark& mark, const FieldDescriptor& field) {
        T parsed{};
        if (parse_number(node.Scalar(), parsed)) return parsed;
        // Digits alone that did not fit are out of range; all else is not a number.
        const std::string& text = node.Scalar();
        const bool digits = !text.empty() && std::ranges::all_of(text.substr(text[0] == '-' ? 1 : 0),
                                                                 [](char c) { return c >= '0' && c <= '9'; });
        if (!digits || text == "-") return wrong(node, mark, field);
        return at(file_, mark, "IVDS-C006",
                  fmt::format("{} = {} is out of range ({} to {})", field.name(), text, std::numeric_limits<T>::min(),
                              std::numeric_limits<T>::max()),
                  "give a number in this range, or leave it out");
    }

    // One value: sets a singular field, appends to a repeated one.
    Result<> value(const YAML::Node& node, const YAML::Mark& mark, const FieldDescriptor& field, Message& out) {
        const Reflection& reflection = *out.GetReflection();
        if (field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE) {
            if (!node.IsMap()) return wrong(node, mark, field);
            return message(node, field.is_repeated() ? *reflection.AddMessage(&out, &field)
                                                     : *reflection.MutableMessage(&out, &field));
        }
        if (!node.IsScalar()) return wrong(node, mark, field);

        const auto put = [&](auto set, auto add, const auto& parsed) {
            if (field.is_repeated())
                (reflection.*add)(&out, &field, parsed);
            else
                (reflection.*set)(&out, &field, parsed);
            return Result<>{};
        };
        switch (field.cpp_type()) {
            case FieldDescriptor::CPPTYPE_STRING:
                return put(&Reflection::SetString, &Reflection::AddString, node.Scalar());
            case FieldDescriptor::CPPTYPE_BOOL: {
                bool parsed = false;
                if (!YAML::convert<bool>::decode(node, parsed)) return wrong(node, mark, field);
                return put(&Reflection::SetBool, &Reflection::AddBool, parsed);
            }
            case FieldDescriptor::CPPTYPE_UINT32: {
                auto parsed = number<std::uint32_t>(node, mark, field);
                if (!parsed) return std::unexpected(parsed.error());
                return put(&Reflection::SetUInt32, &Reflection::AddUInt32, *parsed);
            }
            case FieldDescriptor::CPPTYPE_UINT64: {
                auto parsed = number<std::uint64_t>(node, mark, field);
                if (!parsed) return std::unexpected(parsed.error());
                return put(&Reflection::SetUInt64, &Reflection::AddUInt64, *parsed);
            }
            case FieldDescriptor::CPPTYPE_ENUM: {
                auto parsed = enum_value(*field.enum_type(), node.Scalar());
                if (!parsed)
                    return at(file_, mark, parsed.error().id,
                              fmt::format("{}: {}", field.name(), parsed.error().what), parsed.error().fix);
                return put(&Reflection::SetEnumValue, &Reflection::AddEnumValue, *parsed);
            }
            default:
                return fail(
                    Code::unsupported, "IVDS-C007",
                    fmt::format("{}: the schema uses a type that the codec does not know", field.full_name()));
        }
    }

    const std::string& file_;
};

// Parses `text` and calls `use` with every document in it; yaml-cpp's exceptions end here.
Result<> each_document(const std::string& text, const std::string& file, auto&& use) {
    // A file of zeros (a crash can leave one) is no empty configuration, and neither is UTF-16.
    if (text.find('\0') != std::string::npos || text.starts_with('\xff') || text.starts_with('\xfe'))
        return fail(Code::invalid, "IVDS-C001", fmt::format("{}: not UTF-8 text", file),
                    "give a file of text, like `ivds-ctl export` writes");
    try {
        for (const YAML::Node& document : YAML::LoadAll(text)) {
            if (document.IsNull()) continue;
            if (auto done = use(document); !done) return done;
        }
        return {};
    } catch (const YAML::Exception& error) {
        return at(file, error.mark, "IVDS-C001", error.msg, "see there, or the lines before it: this is no YAML");
    }
}

// Refuses two objects of a kind by one name, at the second one's place.
Result<> refuse_duplicates(const YAML::Node& document, const std::string& file,
                           std::map<std::string, std::set<std::string>>& names) {
    for (const auto& kind : document) {
        if (!kind.second.IsSequence()) continue;
        for (const auto& object : kind.second) {
            for (const auto& pair : object) {
                if (pair.first.Scalar() != "name" || !pair.second.IsScalar()) continue;
                if (!names[kind.first.Scalar()].insert(pair.second.Scalar()).second)
                    return at(file, pair.second.Mark(), "IVDS-C004",
                              fmt::format("{} holds \"{}\" twice", kind.first.Scalar(), pair.second.Scalar()),
                              "give each a name of its own, or keep one of them");
            }
        }
    }
    return {};
}

// Text that any YAML reader takes for a string without quotes; all else is quoted, so that a MAC of digits
// alone is no base-60 number to somebody else's reader.
bool plain(const std::string& text) {
    static const std::set<std::string> words = {"true", "false", "yes", "no", "on", "off", "null", "y", "n", "nan"};
    if (text.empty() || std::isalpha(static_cast<unsigned char>(text[0])) == 0) return false;
    if (!std::ranges::all_of(text, [](char c) {
            return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || c == '-' || c == '.' || c == '/';
        }))
        return false;
    return !words.contains(lower(text));
}

bool is_default(const Message& message, const FieldDescriptor& field) {
    return field.is_repeated() ? message.GetReflection()->FieldSize(message, &field) == 0
                               : !message.GetReflection()->HasField(message, &field);
}

void emit_message(YAML::Emitter& out, const Message& message, int depth);

void emit_value(YAML::Emitter& out, const Message& message, const FieldDescriptor& field, int index, int depth) {
    const Reflection& reflection = *message.GetReflection();
    const bool many = index >= 0;
    switch (field.cpp_type()) {
        case FieldDescriptor::CPPTYPE_MESSAGE:
            emit_message(
                out,
                many ? reflection.GetRepeatedMessage(message, &field, index) : reflection.GetMessage(message, &field),
                depth + 1);
            break;
        case FieldDescriptor::CPPTYPE_STRING: {
            const std::string text =
                many ? reflection.GetRepeatedString(message, &field, index) : reflection.GetString(message, &field);
            if (plain(text))
                out << text;
            else
                out << YAML::DoubleQuoted << text;
            break;
        }
        case FieldDescriptor::CPPTYPE_BOOL:
            out << (many ? reflection.GetRepeatedBool(message, &field, index) : reflection.GetBool(message, &field));
            break;
        case FieldDescriptor::CPPTYPE_UINT64:
            out << (many ? reflection.GetRepeatedUInt64(message, &field, index)
                         : reflection.GetUInt64(message, &field));
            break;
        case FieldDescriptor::CPPTYPE_ENUM:
            out << enum_text(*field.enum_type(), many ? reflection.GetRepeatedEnumValue(message, &field, index)
                                                      : reflection.GetEnumValue(message, &field));
            break;
        default:
            out << (many ? reflection.GetRepeatedUInt32(message, &field, index)
                         : reflection.GetUInt32(message, &field));
            break;
    }
}

// Objects are blocks; what is inside an object (static MACs) is one line an entry.
void emit_message(YAML::Emitter& out, const Message& message, int depth) {
    const Descriptor& type = *message.GetDescriptor();
    if (depth > 1) out << YAML::Flow;
    out << YAML::BeginMap;
    for (int i = 0; i < type.field_count(); ++i) {
        const FieldDescriptor& field = *type.field(i);
        if (is_default(message, field)) continue;
        out << YAML::Key << field.name() << YAML::Value;
        if (!field.is_repeated()) {
            emit_value(out, message, field, -1, depth);
            continue;
        }
        if (field.cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) out << YAML::Flow;
        out << YAML::BeginSeq;
        for (int n = 0; n < message.GetReflection()->FieldSize(message, &field); ++n)
            emit_value(out, message, field, n, depth);
        out << YAML::EndSeq;
    }
    out << YAML::EndMap;
}

void append_json(std::string& out, const Message& message);

void append_json_string(std::string& out, const std::string& text) {
    out += '"';
    for (const char c : text) {
        switch (c) {
            case '"':
                out += "\\\"";
                break;
            case '\\':
                out += "\\\\";
                break;
            case '\n':
                out += "\\n";
                break;
            case '\t':
                out += "\\t";
                break;
            default:
                if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f)
                    out += fmt::format("\\u{:04x}", static_cast<unsigned char>(c));
                else
                    out += c;
        }
    }
    out += '"';
}

void append_json_hex(std::string& out, const std::string& bytes) {
    static constexpr char digits[] = "0123456789abcdef";
    out += '"';
    for (const char c : bytes) {
        const auto byte = static_cast<unsigned char>(c);
        out += digits[byte >> 4];
        out += digits[byte & 15];
    }
    out += '"';
}

void append_json_value(std::string& out, const Message& message, const FieldDescriptor& field, int index) {
    const Reflection& reflection = *message.GetReflection();
    const bool many = index >= 0;
    switch (field.cpp_type()) {
        case FieldDescriptor::CPPTYPE_MESSAGE:
            if (many)
                append_json(out, reflection.GetRepeatedMessage(message, &field, index));
            else if (reflection.HasField(message, &field))
                append_json(out, reflection.GetMessage(message, &field));
            else
                out += "null";
            break;
        case FieldDescriptor::CPPTYPE_STRING: {
            const std::string text =
                many ? reflection.GetRepeatedString(message, &field, index) : reflection.GetString(message, &field);
            if (field.type() == FieldDescriptor::TYPE_BYTES)
                append_json_hex(out, text);
            else
                append_json_string(out, text);
            break;
        }
        case FieldDescriptor::CPPTYPE_BOOL:
            out += (many ? reflection.GetRepeatedBool(message, &field, index) : reflection.GetBool(message, &field))
                       ? "true"
                       : "false";
            break;
        case FieldDescriptor::CPPTYPE_UINT64:
            out += std::to_string(many ? reflection.GetRepeatedUInt64(message, &field, index)
                                       : reflection.GetUInt64(message, &field));
            break;
        case FieldDescriptor::CPPTYPE_DOUBLE:
            out += fmt::format("{}", many ? reflection.GetRepeatedDouble(message, &field, index)
                                          : reflection.GetDouble(message, &field));
            break;
        case FieldDescriptor::CPPTYPE_ENUM:
            append_json_string(
                out, enum_text(*field.enum_type(), many ? reflection.GetRepeatedEnumValue(message, &field, index)
                                                        : reflection.GetEnumValue(message, &field)));
            break;
        default:
            out += std::to_string(many ? reflection.GetRepeatedUInt32(message, &field, index)
                                       : reflection.GetUInt32(message, &field));
            break;
    }
}

void append_json(std::string& out, const Message& message) {
    const Descriptor& type = *message.GetDescriptor();
    out += '{';
    bool first = true;
    for (int i = 0; i < type.field_count(); ++i) {
        const FieldDescriptor& field = *type.field(i);
        if (field.real_containing_oneof() != nullptr && !message.GetReflection()->HasField(message, &field)) continue;
        if (!first) out += ',';
        first = false;
        append_json_string(out, field.name());
        out += ':';
        if (!field.is_repeated()) {
            append_json_value(out, message, field, -1);
            continue;
        }
        out += '[';
        for (int n = 0; n < message.GetReflection()->FieldSize(message, &field); ++n) {
            if (n > 0) out += ',';
            append_json_value(out, message, field, n);
        }
        out += ']';
    }
    out += '}';
}

}  // namespace

Result<pb::Config> config_from_yaml(const std::string& text, const std::string& file) {
    pb::Config config;
    std::map<std::string, std::set<std::string>> names;
    auto done = each_document(text, file, [&](const YAML::Node& document) -> Result<> {
        pb::Config part;
        if (auto read = from_yaml(document, part, file); !read) return read;
        if (auto unique = refuse_duplicates(document, file, names); !unique) return unique;
        if (config.ByteSizeLong() == 0)
            config.Swap(&part);
        else
            config.MergeFrom(part);
        return {};
    });
    if (!done) return std::unexpected(done.error());
    return config;
}

Result<> message_from_yaml(const std::string& text, const std::string& file, Message& message) {
    int documents = 0;
    return each_document(text, file, [&](const YAML::Node& document) -> Result<> {
        if (++documents > 1)
            return at(file, document.Mark(), "IVDS-C004", "the text holds several documents where one object belongs",
                      "keep one of them");
        return from_yaml(document, message, file);
    });
}

Result<> from_yaml(const YAML::Node& node, Message& message, const std::string& file) {
    return Reader(file).message(node, message);
}

Result<> set_field(Message& message, const std::string& field, const std::string& value) {
    const Descriptor& type = *message.GetDescriptor();
    const FieldDescriptor* known = type.FindFieldByName(field);
    if (known == nullptr)
        return fail(Code::invalid, "IVDS-C002", fmt::format("{} has no field \"{}\"", type.name(), field),
                    did_you_mean(field, field_names(type)));
    YAML::Node node;
    if (!known->is_repeated() && known->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE) {
        node = value;
    } else {
        auto parsed = each_document(value, field, [&](const YAML::Node& document) -> Result<> {
            node = document;
            return {};
        });
        if (!parsed) return parsed;
        if (known->is_repeated() && node.IsScalar()) {
            YAML::Node list(YAML::NodeType::Sequence);
            for (std::size_t begin = 0; begin <= value.size();) {
                const std::size_t end = std::min(value.find(',', begin), value.size());
                list.push_back(value.substr(begin, end - begin));
                begin = end + 1;
            }
            node = list;
        }
    }
    const std::string source = "--" + field;
    return Reader(source).field(node, YAML::Mark::null_mark(), *known, message);
}

std::string to_yaml(const Message& message) {
    YAML::Emitter out;
    // A list of objects is what depth 1 is for: a lone object is a block as well.
    const int depth = message.GetDescriptor() == pb::Config::descriptor() ? 0 : 1;
    if (message.ByteSizeLong() == 0) return "";
    emit_message(out, message, depth);
    return std::string(out.c_str(), out.size()) + "\n";
}

std::string to_json(const Message& message) {
    std::string out;
    append_json(out, message);
    return out;
}

std::string json_string(const std::string& text) {
    std::string out;
    append_json_string(out, text);
    return out;
}

std::string enum_text(const EnumDescriptor& type, int value) {
    const auto* known = type.FindValueByNumber(value);
    return known != nullptr ? lower(known->name()) : std::to_string(value);
}

Result<int> enum_value(const EnumDescriptor& type, const std::string& text) {
    for (int i = 0; i < type.value_count(); ++i)
        if (lower(type.value(i)->name()) == text) return type.value(i)->number();
    return fail(Code::invalid, "IVDS-C005", fmt::format("\"{}\" is no {}", text, type.name()),
                did_you_mean(text, value_names(type)));
}

Result<> check_enums(const Message& message) {
    const Reflection& reflection = *message.GetReflection();
    std::vector<const FieldDescriptor*> fields;
    reflection.ListFields(message, &fields);
    for (const FieldDescriptor* field : fields) {
        const bool is_enum = field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM;
        if (!is_enum &&
            (field->cpp_type() != FieldDescriptor::CPPTYPE_MESSAGE || !mentions_enums(*field->message_type())))
            continue;
        const int count = field->is_repeated() ? reflection.FieldSize(message, field) : 1;
        for (int i = 0; i < count; ++i) {
            if (is_enum) {
                const int value = field->is_repeated() ? reflection.GetRepeatedEnumValue(message, field, i)
                                                       : reflection.GetEnumValue(message, field);
                if (field->enum_type()->FindValueByNumber(value) != nullptr) continue;
                return fail(Code::invalid, "IVDS-C005",
                            fmt::format("{}: {} is no {}", field->name(), value, field->enum_type()->name()),
                            fmt::format("one of: {}", fmt::join(value_names(*field->enum_type()), ", ")));
            }
            if (auto known = check_enums(field->is_repeated() ? reflection.GetRepeatedMessage(message, field, i)
                                                              : reflection.GetMessage(message, field));
                !known)
                return known;
        }
    }
    return {};
}

std::string nearest(const std::string& word, const std::vector<std::string>& candidates) {
    const std::string lowered = lower(word);
    std::string best;
    std::size_t best_distance = std::max<std::size_t>(2, word.size() / 3) + 1;
    for (const std::string& candidate : candidates) {
        // Levenshtein's distance, one row at a time.
        std::vector<std::size_t> row(candidate.size() + 1);
        for (std::size_t i = 0; i < row.size(); ++i) row[i] = i;
        for (std::size_t i = 0; i < lowered.size(); ++i) {
            std::size_t diagonal = row[0];
            row[0] = i + 1;
            for (std::size_t j = 0; j < candidate.size(); ++j) {
                const std::size_t replaced = diagonal + (lowered[i] == candidate[j] ? 0 : 1);
                diagonal = row[j + 1];
                row[j + 1] = std::min({replaced, row[j] + 1, diagonal + 1});
            }
        }
        if (row.back() < best_distance) {
            best_distance = row.back();
            best = candidate;
        }
    }
    return best;
}

pb::Kind kind_of(const pb::Object& object) {
    return static_cast<pb::Kind>(object.kind_case());
}

std::string name_of(const pb::Object& object) {
    const Message* message = message_of(object);
    if (message == nullptr) return "";
    return message->GetReflection()->GetString(*message, message->GetDescriptor()->FindFieldByName("name"));
}

const Message* message_of(const pb::Object& object) {
    const FieldDescriptor* field = pb::Object::descriptor()->FindFieldByNumber(object.kind_case());
    return field == nullptr ? nullptr : &object.GetReflection()->GetMessage(object, field);
}

Message* message_of(pb::Object& object, pb::Kind kind) {
    const FieldDescriptor* field = pb::Object::descriptor()->FindFieldByNumber(kind);
    return field == nullptr ? nullptr : object.GetReflection()->MutableMessage(&object, field);
}

}  // namespace ivds
