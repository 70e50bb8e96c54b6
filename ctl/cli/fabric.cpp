// SPDX-License-Identifier: Apache-2.0
// fabric.cpp -- one tenant network on many hosts, through each host's agent.
#include <fmt/format.h>
#include <google/protobuf/util/field_mask_util.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <ranges>
#include <set>
#include <utility>
#include <vector>

#include "api/codec.h"
#include "command.h"
#include "fabric.pb.h"
#include "fields.h"
#include "table.h"

namespace ivds::cli {
namespace {

namespace fb = ::ivds::fabric::v1;

// The fields of an instance that a network says; all others are the host's own.
constexpr const char* kSaid[] = {"tenant", "uplink", "vlan", "vvlan", "scope", "peer_vlans"};

std::unexpected<Error> wrong(const std::string& file, const std::string& what, const std::string& fix) {
    return fail(Code::invalid, "IVDS-U040", file + ": " + what, fix);
}

// The file, in which every name that is used is there, and none twice.
Result<fb::Fabric> read_fabric(Io& io, const std::string& file) {
    const auto text = read_file(io, file);
    if (!text) return std::unexpected(text.error());
    fb::Fabric fabric;
    if (auto read = message_from_yaml(*text, file, fabric); !read) return std::unexpected(read.error());
    std::set<std::string> hosts;
    for (const fb::Host& host : fabric.hosts()) {
        if (host.name().empty() || host.address().empty())
            return wrong(file, "a host without a name or an address",
                         "give both, as in {name: a, address: 192.0.2.1:7443}");
        if (!hosts.insert(host.name()).second)
            return wrong(file, fmt::format("host {} is there twice", host.name()),
                         "give each host a name of its own");
    }
    std::set<std::string> networks;
    for (const fb::Network& network : fabric.networks()) {
        if (network.name().empty()) return wrong(file, "a network without a name", "give it one");
        if (!networks.insert(network.name()).second)
            return wrong(file, fmt::format("network {} is there twice", network.name()),
                         "give all its members in one");
        if (network.members().empty())
            return wrong(file, fmt::format("network {} has no members", network.name()),
                         "name its hosts, as in members: [{host: a, uplink: wire, vlan: 100}]");
        std::set<std::string> members;
        for (const fb::Network::Member& member : network.members()) {
            if (!hosts.contains(member.host()))
                return wrong(file,
                             fmt::format("network {} is on host {}, which is not among the hosts", network.name(),
                                         member.host()),
                             "add the host with its address");
            if (!members.insert(member.host()).second)
                return wrong(file, fmt::format("network {} has host {} twice", network.name(), member.host()),
                             "a network has one VLAN on a host");
        }
    }
    return fabric;
}

// One network, or all with an empty name.
Result<std::vector<const fb::Network*>> networks_of(const fb::Fabric& fabric, const std::string& name) {
    std::vector<const fb::Network*> found;
    for (const fb::Network& network : fabric.networks())
        if (name.empty() || network.name() == name) found.push_back(&network);
    if (!name.empty() && found.empty())
        return fail(Code::not_found, "IVDS-U041", fmt::format("the file has no network {}", name),
                    "name one of its networks, or none for all");
    return found;
}

using Hosts = std::map<std::string, std::unique_ptr<Client>>;

// A client for each host. Nobody is asked yet.
Result<Hosts> hosts_of(const Context& context, const fb::Fabric& fabric) {
    constexpr std::string_view kUnix = "unix:";
    const Options& options = context.options;
    if (!options.address.empty())
        return fail(Code::invalid, "IVDS-U040", "--address with fabric", "the hosts' addresses are in its file");
    Hosts hosts;
    for (const fb::Host& host : fabric.hosts()) {
        const auto target = host.address().starts_with(kUnix)
                                ? target_of(host.address().substr(kUnix.size()), "", "", "", "")
                                : target_of("", host.address(), options.ca, options.cert, options.key);
        if (!target) return std::unexpected(target.error().in("host " + host.name()));
        hosts.emplace(host.name(),
                      std::make_unique<Client>(
                          *target, std::chrono::milliseconds(static_cast<std::int64_t>(options.timeout_s * 1000))));
    }
    return hosts;
}

// `now` as the network has it on this member's host.
pb::Instance wanted(const fb::Network& network, const fb::Network::Member& member, pb::Instance now) {
    std::set<std::uint32_t> peers;
    for (const fb::Network::Member& other : network.members())
        if (other.vlan() != member.vlan()) peers.insert(other.vlan());
    now.set_name(network.name());
    now.set_tenant(network.tenant());
    now.set_uplink(member.uplink());
    now.set_vlan(member.vlan());
    now.set_vvlan(network.vvlan());
    now.set_scope(pb::DISTRIBUTED);
    now.clear_peer_vlans();
    for (const std::uint32_t vlan : peers) now.add_peer_vlans(vlan);
    return now;
}

Result<std::optional<pb::Object>> instance_on(Client& host, const std::string& name) {
    pb::Ref ref;
    ref.set_kind(pb::INSTANCE);
    ref.set_name(name);
    auto found = host.get(ref);
    if (found) return std::move(*found);
    if (found.error().code == Code::not_found) return std::nullopt;
    return std::unexpected(found.error());
}

// What a host has of a network, and what it is to have.
struct Place {
    std::string host;
    std::string network;
    std::optional<pb::Object> before;
    pb::Object after;

    [[nodiscard]] bool same() const { return before && to_yaml(*before) == to_yaml(after); }
};

// Asks every host, so that one that does not answer is known before anything changes.
Result<std::vector<Place>> look(const Hosts& hosts, const std::vector<const fb::Network*>& networks) {
    std::vector<Place> places;
    for (const fb::Network* network : networks) {
        for (const fb::Network::Member& member : network->members()) {
            Place place{.host = member.host(), .network = network->name(), .before = std::nullopt, .after = {}};
            auto before = instance_on(*hosts.at(member.host()), network->name());
            if (!before) return std::unexpected(before.error().in("host " + member.host()));
            place.before = std::move(*before);
            *place.after.mutable_instance() =
                wanted(*network, member, place.before ? place.before->instance() : pb::Instance{});
            places.push_back(std::move(place));
        }
    }
    return places;
}

Result<> put(Client& host, const Place& place) {
    auto done = place.before ? host.update(place.after) : host.create(place.after);
    if (!done) return std::unexpected(done.error());
    return {};
}

Result<> take_back(Client& host, const Place& place) {
    if (place.before) {
        auto done = host.update(*place.before);
        if (!done) return std::unexpected(done.error());
        return {};
    }
    pb::Ref ref;
    ref.set_kind(pb::INSTANCE);
    ref.set_name(place.network);
    auto done = host.remove(ref);
    if (!done) return std::unexpected(done.error());
    return {};
}

// Puts all of them, or none: after an error what was put is taken back, in reverse. Each step is acknowledged by its
// host when it is in force and saved.
Result<> put_all(const Hosts& hosts, const std::vector<Place>& places) {
    std::vector<const Place*> done;
    for (const Place& place : places) {
        if (place.same()) continue;
        auto step = put(*hosts.at(place.host), place);
        if (step) {
            done.push_back(&place);
            continue;
        }
        Error error = step.error().in("host " + place.host);
        // A call that got no answer may have been done.
        if (step.error().code == Code::unavailable) done.push_back(&place);
        std::string left;
        for (const auto* each : std::views::reverse(done)) {
            auto back = take_back(*hosts.at(each->host), *each);
            if (!back)
                left += fmt::format("; host {} keeps network {}: {}", each->host, each->network, back.error().what);
        }
        if (!left.empty()) {
            error.what += left;
            error.fix +=
                (error.fix.empty() ? "" : "; then ") + std::string("run fabric create again, or fabric diff");
        }
        return std::unexpected(std::move(error));
    }
    return {};
}

void print(const Context& context, const fb::Step& step) {
    if (context.options.json)
        context.json(step);
    else
        context.io.out << fmt::format("{}: network {}: {}{}{}\n", step.host(), step.network(), step.what(),
                                      step.text().empty() ? "" : ": ", step.text());
}

fb::Step step_of(const Place& place, const std::string& what, const std::string& text = {}) {
    fb::Step step;
    step.set_host(place.host);
    step.set_network(place.network);
    step.set_what(what);
    step.set_text(text);
    return step;
}

struct Words {
    std::string file;
    std::string network;
};

struct Opened {
    Hosts hosts;
    std::vector<Place> places;
};

Result<Opened> open(const Context& context, const Words& words) {
    const auto fabric = read_fabric(context.io, words.file);
    if (!fabric) return std::unexpected(fabric.error());
    const auto networks = networks_of(*fabric, words.network);
    if (!networks) return std::unexpected(networks.error());
    auto hosts = hosts_of(context, *fabric);
    if (!hosts) return std::unexpected(hosts.error());
    auto places = look(*hosts, *networks);
    if (!places) return std::unexpected(places.error());
    return Opened{.hosts = std::move(*hosts), .places = std::move(*places)};
}

Result<int> create(const Context& context, const Words& words) {
    const auto opened = open(context, words);
    if (!opened) return std::unexpected(opened.error());
    if (auto done = put_all(opened->hosts, opened->places); !done) return std::unexpected(done.error());
    for (const Place& place : opened->places)
        print(context, step_of(place, place.same() ? "there" : place.before ? "updated" : "created"));
    return exit_ok;
}

std::string value_of(const pb::Object& object, const char* field) {
    // One field alone, as the file format writes it.
    pb::Instance alone = object.instance();
    google::protobuf::FieldMask mask;
    mask.add_paths(field);
    google::protobuf::util::FieldMaskUtil::TrimMessage(mask, &alone);
    std::string text = to_yaml(alone);
    while (text.ends_with('\n')) text.pop_back();
    std::ranges::replace(text, '\n', ' ');
    return text.empty() ? fmt::format("no {}", field) : text;
}

Result<int> diff(const Context& context, const Words& words) {
    const auto opened = open(context, words);
    if (!opened) return std::unexpected(opened.error());
    bool differs = false;
    for (const Place& place : opened->places) {
        if (place.same()) continue;
        differs = true;
        if (!place.before) {
            print(context, step_of(place, "missing"));
            continue;
        }
        for (const char* field : kSaid) {
            const std::string is = value_of(*place.before, field);
            const std::string shall = value_of(place.after, field);
            if (is != shall) print(context, step_of(place, "differs", fmt::format("{}, wanted {}", is, shall)));
        }
    }
    if (!differs && !context.options.json) context.io.out << "no differences\n";
    return differs ? exit_findings : exit_ok;
}

// Hosts that do not answer are told last, and the others all the same.
Result<int> list(const Context& context, const std::string& file) {
    const auto fabric = read_fabric(context.io, file);
    if (!fabric) return std::unexpected(fabric.error());
    const auto hosts = hosts_of(context, *fabric);
    if (!hosts) return std::unexpected(hosts.error());
    Table table(
        {"HOST", "INSTANCE", "TENANT", ">VLAN", ">V.VLAN", "STATE", ">VPORTS", ">PORT_PACKETS", ">WIRE_PACKETS"});
    std::optional<Error> away;
    for (const auto& [name, client] : *hosts) {
        const auto status = client->status();
        if (!status) {
            if (!away) away = status.error().in("host " + name);
            continue;
        }
        for (const pb::InstanceState& instance : status->instances()) {
            if (context.options.json) {
                fb::HostInstance line;
                line.set_host(name);
                *line.mutable_instance() = instance;
                context.json(line);
                continue;
            }
            table.row({{name},
                       {instance.name()},
                       {instance.tenant()},
                       Cell::number_or_none(instance.vlan()),
                       Cell::number_or_none(instance.vvlan()),
                       {instance.state()},
                       Cell::number(instance.vports()),
                       Cell::number(instance.port_packets()),
                       Cell::number(instance.wire_packets())});
        }
    }
    if (!context.options.json) table.print(context.io.out, context.io.color);
    if (away) return std::unexpected(std::move(*away));
    return exit_ok;
}

}  // namespace

void add_fabric_commands(Commands& commands) {
    CLI::App& group =
        Commands::group(commands.root(), "fabric", "One network on many hosts, by a file that names both");
    auto words = std::make_shared<Words>();
    const auto add = [&](const char* name, const char* help, const char* examples, Action action) {
        CLI::App& app = commands.leaf(group, name, help, examples, std::move(action));
        add_value(app, "-f,--file", "FILE", words->file, "hosts and networks in YAML; - reads standard input")
            .required();
        return &app;
    };
    CLI::App* const create_app =
        add("create", "Make networks on all their hosts, or on none; again changes nothing",
            "ivds-ctl fabric create -f fabric.yaml red --ca ca.pem --cert me.pem --key me.key",
            [words](const Context& context) { return create(context, *words); });
    CLI::App* const diff_app =
        add("diff", "Where hosts are not as the file wants them; exit 1 if they are not",
            "ivds-ctl fabric diff -f fabric.yaml", [words](const Context& context) { return diff(context, *words); });
    for (CLI::App* app : {create_app, diff_app})
        add_value(*app, "NETWORK", "TEXT", words->network, "this network of the file alone");
    add("list", "Every instance of every host of the file", "ivds-ctl fabric list -f fabric.yaml",
        [words](const Context& context) { return list(context, words->file); });
}

}  // namespace ivds::cli
