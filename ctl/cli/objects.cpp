// SPDX-License-Identifier: Apache-2.0
// objects.cpp -- create, update, delete, get and list for every kind of object, and the vMACs of a pool.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <memory>

#include "api/codec.h"
#include "command.h"
#include "fields.h"
#include "table.h"

namespace ivds::cli {

pb::Ref ref_to(pb::Kind kind, const std::string& name) {
    pb::Ref ref;
    ref.set_kind(kind);
    ref.set_name(name);
    return ref;
}

namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;

// Says what happened, and what the agent filled in beside what was asked for.
Result<int> report(const Context& context, pb::Kind kind, const std::string& verb, const pb::Object& asked,
                   const Result<pb::Object>& got) {
    if (!got) return std::unexpected(got.error());
    if (context.options.json) {
        context.json(*got);
        return exit_ok;
    }
    std::vector<std::string> filled;
    const Message* before = message_of(asked);
    const Message* after = message_of(*got);
    for (int i = 0; before != nullptr && after != nullptr && i < after->GetDescriptor()->field_count(); ++i) {
        const FieldDescriptor& field = *after->GetDescriptor()->field(i);
        const std::string text = field_text(*after, field);
        if (text != field_text(*before, field)) filled.push_back(fmt::format("{} {}", field.name(), text));
    }
    context.io.out << label(kind, name_of(*got)) << ' ' << verb;
    if (!filled.empty()) context.io.out << fmt::format(" ({})", fmt::join(filled, ", "));
    context.io.out << '\n';
    return exit_ok;
}

Result<int> create(const Context& context, pb::Kind kind, const std::string& name, const FieldFlags& flags) {
    pb::Object object;
    Message& message = *message_of(object, kind);
    if (auto done = set_field(message, "name", name); !done) return std::unexpected(done.error());
    if (auto done = flags.set(message); !done) return std::unexpected(done.error());
    return report(context, kind, "created", object, context.agent.create(object));
}

Result<int> update(const Context& context, pb::Kind kind, const std::string& name, const FieldFlags& flags) {
    if (!flags.any()) {
        return fail(Code::invalid, "IVDS-U001", "update needs at least one field to change",
                    fmt::format("see 'ivds-ctl {} update --help'", kind_name(kind)));
    }
    auto object = context.agent.get(ref_to(kind, name));
    if (!object) return std::unexpected(object.error());
    if (auto done = flags.set(*message_of(*object, kind)); !done) return std::unexpected(done.error());
    return report(context, kind, "updated", *object, context.agent.update(*object));
}

Result<int> remove(const Context& context, pb::Kind kind, const std::string& name) {
    const auto done = context.agent.remove(ref_to(kind, name));
    if (!done) return std::unexpected(done.error());
    if (context.options.json) {
        context.json(*done);
    } else {
        context.io.out << label(kind, name) << " deleted\n";
    }
    return exit_ok;
}

Result<int> get(const Context& context, pb::Kind kind, const std::string& name) {
    const auto object = context.source.get(ref_to(kind, name));
    if (!object) return std::unexpected(object.error());
    if (context.options.json) {
        context.json(*object);
    } else if (const Message* message = message_of(*object); message != nullptr) {
        context.io.out << to_yaml(*message);
    }
    return exit_ok;
}

// One column for every field that any of the objects has set.
Result<int> list(const Context& context, pb::Kind kind, bool names) {
    const auto objects = context.source.list(kind);
    if (!objects) return std::unexpected(objects.error());
    if (context.options.json) {
        context.json(*objects);
        return exit_ok;
    }
    if (names) {
        for (const pb::Object& object : objects->objects()) context.io.out << name_of(object) << '\n';
        return exit_ok;
    }
    std::vector<const FieldDescriptor*> fields;
    std::vector<std::string> titles;
    for (int i = 0; i < descriptor_of(kind).field_count(); ++i) {
        const FieldDescriptor* field = descriptor_of(kind).field(i);
        const bool used = std::ranges::any_of(objects->objects(), [&](const pb::Object& object) {
            const Message* message = message_of(object);
            return message != nullptr && message->GetDescriptor() == field->containing_type() &&
                   !field_text(*message, *field).empty();
        });
        if (!used && field->name() != "name") continue;
        fields.push_back(field);
        std::string title = field->name();
        std::ranges::transform(title, title.begin(),
                               [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
        const bool number = field->cpp_type() == FieldDescriptor::CPPTYPE_UINT32 && !field->is_repeated();
        titles.push_back((number ? ">" : "") + title);
    }
    Table table(titles);
    for (const pb::Object& object : objects->objects()) {
        const Message* message = message_of(object);
        if (message == nullptr || message->GetDescriptor() != &descriptor_of(kind)) continue;
        std::vector<Cell> cells;
        cells.reserve(fields.size());
        for (const FieldDescriptor* field : fields) cells.push_back({field_text(*message, *field)});
        table.row(std::move(cells));
    }
    table.print(context.io.out, context.io.color);
    return exit_ok;
}

// What a kind is, and how one is made, for the help.
struct About {
    pb::Kind kind;
    const char* what;
    const char* value;  // what its name is called in the help
    const char* create;
    const char* update;
};
constexpr std::array abouts{
    About{pb::UPLINK, "the physical NIC, or PF, under the switch", "UPLINK", "up0 --netdev eth1 --transport-vlan 100",
          "up0 --plain drop"},
    About{pb::PROFILE, "settings that many vPorts share", "PROFILE", "trunk --guest-tags carry",
          "trunk --mtu-bytes 9000"},
    About{pb::VMAC_POOL, "a supply of vMACs derived from a physical MAC", "POOL", "pool0 --uplink up0 --size 64",
          "pool0 --size 128"},
    About{pb::INSTANCE, "one network of a tenant on this host", "INSTANCE",
          "red --tenant acme --uplink up0 --vlan 10 --vvlan 100 --scope distributed", "red --mtu-bytes 9000"},
    About{pb::VNIC, "what the VM sees: a vMAC", "VNIC", "web1-nic --pool pool0", "web1-nic --vmac 02:00:00:00:00:01"},
    About{pb::TENANT, "whom instances belong to, and its quota", "TENANT", "acme --max-instances 8 --max-vports 64",
          "acme --max-vports 128"},
    About{pb::VPORT, "a port of an instance, bound to a vNIC", "VPORT",
          "web1 --instance red --netdev veth0 --vnic web1-nic", "web1 --profile trunk"},
    About{pb::SET, "addresses that rules name together", "SET",
          "office --addresses 192.0.2.0/24 --addresses fd00:1::/64", "office --addresses 192.0.2.0/25"},
    About{pb::VPORT_POOL, "vPorts that are the target of a redirect together", "VPORT_POOL",
          "filters --vports fw1 --vports fw2", "filters --vports fw1"},
    About{pb::MIRROR, "copies of frames for somebody who watches", "MIRROR",
          "watch --sources vport=web1,direction=in --to-vport probe1", "watch --sample 100"},
    About{pb::INSPECTOR, "a program that lets frames of vPorts pass or not", "INSPECTOR",
          "ips --netdev ips0 --fail open --timeout-ms 200", "ips --fail closed"},
    About{pb::EXPORTER, "flow records for a collector", "EXPORTER",
          "flows --collector 192.0.2.9:4739 --instances red", "flows --sample-flows 10"},
};

const About& about(pb::Kind kind) {
    static constexpr About unknown{pb::KIND_NONE, "an object", "NAME", "name", "name"};
    const auto* found = std::ranges::find(abouts, kind, &About::kind);
    return found == abouts.end() ? unknown : *found;
}

// The words of a command on one object.
struct ObjectWords {
    std::string name;
    bool names = false;
    std::unique_ptr<FieldFlags> flags;
};

void add_kind(Commands& commands, pb::Kind kind) {
    const About& facts = about(kind);
    const std::string noun = kind_name(kind);
    CLI::App& group = Commands::group(commands.root(), noun, fmt::format("Objects: {}", facts.what));
    const auto example = [&](const std::string& words) { return fmt::format("ivds-ctl {} {}", noun, words); };
    const auto verb = [&](const std::string& name, const std::string& description, const std::string& examples,
                          auto&& action) -> std::pair<CLI::App*, std::shared_ptr<ObjectWords>> {
        auto words = std::make_shared<ObjectWords>();
        CLI::App& app =
            commands.leaf(group, name, description, examples,
                          [words, kind, action](const Context& context) { return action(context, kind, *words); });
        return {&app, words};
    };

    auto [create_app, create_words] = verb("create",
                                           fmt::format("Create {} {}",
                                                       noun == "uplink"      ? "an"
                                                       : noun == "instance"  ? "an"
                                                       : noun == "exporter"  ? "an"
                                                       : noun == "inspector" ? "an"
                                                                             : "a",
                                                       noun),
                                           example(fmt::format("create {}", facts.create)),
                                           [](const Context& context, pb::Kind k, const ObjectWords& w) {
                                               return create(context, k, w.name, *w.flags);
                                           });
    add_value(*create_app, "NAME", "NAME", create_words->name, "its name, new among its kind").required();
    create_words->flags = std::make_unique<FieldFlags>(*create_app, descriptor_of(kind));

    auto [update_app, update_words] = verb("update", "Change the given fields and keep the others",
                                           example(fmt::format("update {}", facts.update)) +
                                               "\nA list that is given replaces the list that was; '' empties it.",
                                           [](const Context& context, pb::Kind k, const ObjectWords& w) {
                                               return update(context, k, w.name, *w.flags);
                                           });
    add_value(*update_app, "NAME", facts.value, update_words->name, "which one").required();
    update_words->flags = std::make_unique<FieldFlags>(*update_app, descriptor_of(kind));

    auto [delete_app, delete_words] =
        verb("delete", "Delete it; what others still refer to stays, with an error", example("delete NAME"),
             [](const Context& context, pb::Kind k, const ObjectWords& w) { return remove(context, k, w.name); });
    add_value(*delete_app, "NAME", facts.value, delete_words->name, "which one").required();

    auto [get_app, get_words] =
        verb("get", "Print its configuration", example("get NAME"),
             [](const Context& context, pb::Kind k, const ObjectWords& w) { return get(context, k, w.name); });
    add_value(*get_app, "NAME", facts.value, get_words->name, "which one").required();

    auto [list_app, list_words] =
        verb("list", "Print the configuration of all", example("list"),
             [](const Context& context, pb::Kind k, const ObjectWords& w) { return list(context, k, w.names); });
    list_app->add_flag("--names", list_words->names, "names alone, one a line");
}

void add_vmac(Commands& commands) {
    CLI::App& group = Commands::group(commands.root(), "vmac", "Reserve vMACs of a pool, and give them back");

    auto reserve = std::make_shared<pb::VmacRequest>();
    CLI::App& reserve_app =
        commands.leaf(group, "reserve", "Take a vMAC out of a pool and print it; it stays taken over restarts",
                      "ivds-ctl vmac reserve pool0\nivds-ctl vmac reserve pool0 --vmac 02:00:5e:00:00:07",
                      [reserve](const Context& context) -> Result<int> {
                          const auto reply = context.agent.reserve_vmac(*reserve);
                          if (!reply) return std::unexpected(reply.error());
                          if (context.options.json) {
                              context.json(*reply);
                          } else {
                              context.io.out << reply->vmac() << '\n';
                          }
                          return exit_ok;
                      });
    add_value(reserve_app, "POOL", "POOL", *reserve->mutable_pool(), "from this pool").required();
    add_value(reserve_app, "--vmac", "MAC", *reserve->mutable_vmac(), "this one; else the first that is free");

    auto release = std::make_shared<pb::VmacRequest>();
    CLI::App& release_app = commands.leaf(group, "release", "Give a reserved vMAC back to its pool",
                                          "ivds-ctl vmac release pool0 02:00:5e:00:00:07",
                                          [release](const Context& context) -> Result<int> {
                                              const auto done = context.agent.release_vmac(*release);
                                              if (!done) return std::unexpected(done.error());
                                              if (context.options.json) {
                                                  context.json(*done);
                                              } else {
                                                  context.io.out << "vMAC " << release->vmac() << " released\n";
                                              }
                                              return exit_ok;
                                          });
    add_value(release_app, "POOL", "POOL", *release->mutable_pool(), "its pool").required();
    add_value(release_app, "MAC", "MAC", *release->mutable_vmac(), "which one").required();
}

}  // namespace

void add_object_commands(Commands& commands) {
    for (const pb::Kind kind : all_kinds()) add_kind(commands, kind);
    add_vmac(commands);
}

void add_offload_set(Commands& commands, CLI::App& offload) {
    static constexpr std::array<std::string_view, 5> of_uplink{"tags", "offload", "reserved_macs", "reserved_vlans",
                                                               "vfs"};
    static constexpr std::array<std::string_view, 1> of_vport{"offload"};
    CLI::App& group =
        Commands::group(offload, "set", "What NICs shall carry: 'update' of the object, of these fields alone");
    const auto leaf = [&](pb::Kind kind, const std::string& description, const std::string& examples,
                          std::span<const std::string_view> fields) {
        auto words = std::make_shared<ObjectWords>();
        CLI::App& app = commands.leaf(
            group, kind_name(kind), description, examples,
            [words, kind](const Context& context) { return update(context, kind, words->name, *words->flags); });
        add_value(app, "NAME", about(kind).value, words->name, "which one").required();
        words->flags = std::make_unique<FieldFlags>(app, descriptor_of(kind), false, fields);
    };
    leaf(pb::UPLINK, "Whether its NIC carries anything, what of it stays free, and the tags on its wire",
         "ivds-ctl offload set uplink up0 --offload on --reserved-macs 8\n"
         "ivds-ctl offload set uplink up0 --offload off",
         of_uplink);
    leaf(pb::VPORT, "Whether the NIC carries it if it can, must, or never does",
         "ivds-ctl offload set vport web1 --offload require\nivds-ctl offload set vport web1 --offload forbid",
         of_vport);
}

}  // namespace ivds::cli
