// SPDX-License-Identifier: Apache-2.0
// fabric.cpp -- one tenant network on many hosts, through each host's agent.
#include <fmt/format.h>
#include <fmt/ranges.h>
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
#include "interrupt.h"
#include "model/model.h"
#include "table.h"

namespace ivds::cli {
namespace {

namespace fb = ::ivds::fabric::v1;

constexpr std::string_view kUnix = "unix:";

// The fields of an instance that a network says; all others are the host's own.
constexpr const char* kSaid[] = {"tenant", "uplink", "vlan", "vvlan", "scope", "peer_vlans", "draining"};

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
        if (host.name().empty())
            return wrong(file, "a host without a name", "give it one, as in {name: a, address: 192.0.2.1:7443}");
        if (!hosts.insert(host.name()).second)
            return wrong(file, fmt::format("host {} is there twice", host.name()),
                         "give each host a name of its own");
    }
    const auto twice = [&](const char* kind, const auto& objects) -> Result<> {
        std::set<std::string> names;
        for (const auto& object : objects)
            if (!names.insert(object.name()).second)
                return wrong(file, fmt::format("{} {} is there twice", kind, object.name()), "give it once");
            else if (object.shared() || !object.shared_by().empty())
                return wrong(file,
                             fmt::format("{} {} is shared by the registry, and given to each host by this file", kind,
                                         object.name()),
                             "leave shared out here, or define it on one host alone");
        return {};
    };
    if (auto once = twice("set", fabric.sets()); !once) return std::unexpected(once.error());
    if (auto once = twice("profile", fabric.profiles()); !once) return std::unexpected(once.error());
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
            if (member.host().empty())
                return wrong(file, fmt::format("network {} has a member without a host", network.name()),
                             "name its host, as in {host: a, uplink: wire, vlan: 100}");
            if (!hosts.empty() && !hosts.contains(member.host()))
                return wrong(file,
                             fmt::format("network {} is on host {}, which is not among the hosts", network.name(),
                                         member.host()),
                             "add the host, or leave out hosts, and they are those of the networks");
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

// Whether any host's address is the registry's to tell.
bool asks_registry(const fb::Fabric& fabric) {
    return std::ranges::any_of(fabric.hosts(), [](const fb::Host& host) { return host.address().empty(); });
}

// A file without hosts has those that its networks name; and addresses that the file does not have are those of the
// registry, which the agent of the command line's own options keeps to. By these that agent is asked itself.
Result<> complete(const Context& context, fb::Fabric& fabric) {
    const Options& options = context.options;
    if (fabric.hosts().empty()) {
        std::set<std::string> named;
        for (const fb::Network& network : fabric.networks())
            for (const fb::Network::Member& member : network.members())
                if (named.insert(member.host()).second) fabric.add_hosts()->set_name(member.host());
    }
    if (!asks_registry(fabric)) {
        if (options.address.empty()) return {};
        return fail(Code::invalid, "IVDS-U040", "--address with fabric", "the hosts' addresses are in its file");
    }
    const auto known = context.agent.hosts();
    if (!known) return std::unexpected(known.error().in("the addresses of hosts that the file does not have"));
    for (fb::Host& host : *fabric.mutable_hosts()) {
        if (!host.address().empty()) continue;
        const auto found = std::ranges::find(known->hosts(), host.name(), &pb::HostState::name);
        if (found == known->hosts().end())
            return fail(Code::not_found, "IVDS-U043",
                        fmt::format("host {} has no address in the file, and is not in the registry", host.name()),
                        "see `ivds-ctl host list`: start its agent with --registry etcd, or give its address");
        if (found->self())
            host.set_address(options.address.empty() ? std::string(kUnix) + options.socket : options.address);
        else if (!found->address().empty())
            host.set_address(found->address());
        else
            return fail(Code::not_found, "IVDS-U043",
                        fmt::format("host {} has no address in the file, and none in the registry", host.name()),
                        "start its agent with --listen, and --advertise where that is not one address that others "
                        "reach, or give its address");
    }
    return {};
}

// Another network that has the V.VLAN in this VLAN on the fabric that this member's uplink leads to, whichever host
// it is there on: frames of the two are the same on the wire, so the two would be one. Uplinks of one name lead to
// one fabric.
const fb::Network* clash(const fb::Fabric& fabric, const fb::Network& network, const fb::Network::Member& member,
                         std::uint32_t vlan) {
    for (const fb::Network& other : fabric.networks()) {
        if (other.name() == network.name() || other.vvlan() != network.vvlan()) continue;
        for (const fb::Network::Member& its : other.members())
            if (its.uplink() == member.uplink() && its.vlan() == vlan) return &other;
    }
    return nullptr;
}

// Whether these networks of the file are apart from all others in it.
Result<> are_apart(const fb::Fabric& fabric, const std::vector<const fb::Network*>& networks) {
    for (const fb::Network* network : networks)
        for (const fb::Network::Member& member : network->members())
            if (const auto* other = clash(fabric, *network, member, member.vlan()); other != nullptr)
                return fail(Code::conflict, "IVDS-U042",
                            fmt::format("networks {} and {} would be one: both have V.VLAN {} in VLAN {}",
                                        network->name(), other->name(), network->vvlan(), member.vlan()),
                            "give one of them another V.VLAN, or another VLAN");
    return {};
}

// A client for each host. None but the registry's is asked yet.
Result<Hosts> hosts_of(const Context& context, fb::Fabric& fabric) {
    const Options& options = context.options;
    if (auto done = complete(context, fabric); !done) return std::unexpected(done.error());
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

void set_peers(pb::Instance& instance, const std::set<std::uint32_t>& vlans) {
    instance.clear_peer_vlans();
    for (const std::uint32_t vlan : vlans)
        if (vlan != instance.vlan()) instance.add_peer_vlans(vlan);
}

// `now` as the network has it on this member's host.
pb::Instance wanted(const fb::Network& network, const fb::Network::Member& member, pb::Instance now) {
    std::set<std::uint32_t> peers;
    for (const fb::Network::Member& other : network.members()) peers.insert(other.vlan());
    now.set_name(network.name());
    now.set_tenant(network.tenant());
    now.set_uplink(member.uplink());
    now.set_vlan(member.vlan());
    now.set_vvlan(network.vvlan());
    now.set_scope(pb::DISTRIBUTED);
    now.set_draining(false);
    set_peers(now, peers);
    return now;
}

std::string text_of(const pb::Ref& what) {
    return fmt::format("{} {}",
                       what.kind() == pb::SET       ? "set"
                       : what.kind() == pb::PROFILE ? "profile"
                       : what.kind() == pb::VPORT   ? "vport"
                                                    : "network",
                       what.name());
}

// What a host has of something, and what it is to have: nothing, where there is no object.
struct Place {
    std::string host;
    pb::Ref what;  // an instance, a set, a profile or a vPort
    std::optional<pb::Object> before = {};
    std::optional<pb::Object> after = {};

    [[nodiscard]] bool same() const {
        return before && after ? to_yaml(*before) == to_yaml(*after) : !before && !after;
    }
};

// What is there by this name on a host, as the place of something that is to stay as it is.
Result<Place> place_on(const Hosts& hosts, const std::string& host, const pb::Ref& what) {
    auto found = hosts.at(host)->get(what);
    if (!found && found.error().code != Code::not_found) return std::unexpected(found.error().in("host " + host));
    Place place{.host = host, .what = what, .before = {}, .after = {}};
    if (found) place.before = place.after = std::move(*found);
    return place;
}

// Asks every host, so that one that does not answer is known before anything changes.
Result<std::vector<Place>> look(const Hosts& hosts, const std::vector<const fb::Network*>& networks) {
    std::vector<Place> places;
    for (const fb::Network* network : networks) {
        for (const fb::Network::Member& member : network->members()) {
            auto place = place_on(hosts, member.host(), ref_to(pb::INSTANCE, network->name()));
            if (!place) return std::unexpected(place.error());
            if (!place->after) place->after.emplace();
            pb::Instance& instance = *place->after->mutable_instance();
            instance = wanted(*network, member, instance);
            places.push_back(std::move(*place));
        }
    }
    return places;
}

// The same for what is on all hosts alike.
Result<std::vector<Place>> look_everywhere(const Hosts& hosts, const fb::Fabric& fabric) {
    std::vector<pb::Object> objects;
    for (const pb::Set& set : fabric.sets()) *objects.emplace_back().mutable_set() = set;
    for (const pb::Profile& profile : fabric.profiles()) *objects.emplace_back().mutable_profile() = profile;
    std::vector<Place> places;
    for (const pb::Object& object : objects) {
        const pb::Ref what =
            object.has_set() ? ref_to(pb::SET, object.set().name()) : ref_to(pb::PROFILE, object.profile().name());
        for (const fb::Host& host : fabric.hosts()) {
            auto place = place_on(hosts, host.name(), what);
            if (!place) return std::unexpected(place.error());
            place->after = object;
            places.push_back(std::move(*place));
        }
    }
    return places;
}

// Gives the host `after` where it has `before`.
Result<> put(Client& host, const pb::Ref& what, const std::optional<pb::Object>& before,
             const std::optional<pb::Object>& after) {
    if (!after) {
        auto done = host.remove(what);
        if (!done) return std::unexpected(done.error());
        return {};
    }
    auto done = before ? host.update(*after) : host.create(*after);
    if (!done) return std::unexpected(done.error());
    return {};
}

// The steps from what the hosts have to what they are to have. Where an instance's VLAN changes, the others learn of
// it first and forget the old one last, so that at no moment a host sends to where nobody listens for longer than its
// own change takes; that is made while its instance drains, as the agent demands.
std::vector<Place> steps_to(const std::vector<Place>& places) {
    std::map<std::string, std::set<std::uint32_t>> vlans;  // by network that changes a VLAN: all, old and new
    for (const Place& place : places)
        if (place.what.kind() == pb::INSTANCE && place.before && place.after &&
            place.before->instance().vlan() != place.after->instance().vlan())
            vlans[place.what.name()] = {};
    for (const Place& place : places)
        if (const auto found = vlans.find(place.what.name()); found != vlans.end())
            for (const auto* each : {&place.before, &place.after})
                if (*each) {
                    found->second.insert((*each)->instance().vlan());
                    found->second.insert((*each)->instance().peer_vlans().begin(),
                                         (*each)->instance().peer_vlans().end());
                }
    const auto moves = [&](const Place& place) {
        return place.what.kind() == pb::INSTANCE ? vlans.find(place.what.name()) : vlans.end();
    };
    std::vector<Place> steps;
    std::map<const Place*, std::optional<pb::Object>> now;
    const auto step = [&](const Place& place, std::optional<pb::Object> after) {
        steps.push_back({place.host, place.what, now.at(&place), after});
        now.at(&place) = std::move(after);
    };
    for (const Place& place : places) {
        now.emplace(&place, place.before);
        if (const auto found = moves(place); found != vlans.end() && place.before && place.after) {
            auto both = place.before;
            set_peers(*both->mutable_instance(), found->second);
            step(place, std::move(both));
        }
    }
    for (const Place& place : places) {
        const auto found = moves(place);
        if (found == vlans.end() || !place.after) {
            step(place, place.after);
            continue;
        }
        auto both = place.after;
        set_peers(*both->mutable_instance(), found->second);
        if (place.before && place.before->instance().vlan() != place.after->instance().vlan()) {
            auto still = now.at(&place);
            still->mutable_instance()->set_draining(true);
            step(place, std::move(still));
            auto changed = both;
            changed->mutable_instance()->set_draining(true);
            step(place, std::move(changed));
        }
        step(place, std::move(both));
    }
    for (const Place& place : places)
        if (moves(place) != vlans.end()) step(place, place.after);
    return steps;
}

// Puts all of them, or none: after an error what was put is taken back, in reverse. Each step is acknowledged by its
// host when it is in force and saved.
Result<> put_all(const Hosts& hosts, const std::vector<Place>& places) {
    std::vector<const Place*> done;
    const std::vector<Place> steps = steps_to(places);
    const Interrupt interrupt;
    for (const Place& place : steps) {
        if (place.same()) continue;
        auto step = interrupt.none();
        if (step) step = put(*hosts.at(place.host), place.what, place.before, place.after);
        if (step) {
            done.push_back(&place);
            continue;
        }
        Error error = interrupt.none() ? step.error().in("host " + place.host) : interrupt.none().error();
        // A call that got no answer may have been done.
        if (step.error().code == Code::unavailable) done.push_back(&place);
        std::string left;
        for (const auto* each : std::views::reverse(done)) {
            auto back = put(*hosts.at(each->host), each->what, each->after, each->before);
            if (!back)
                left += fmt::format("; host {} keeps {}: {}", each->host, text_of(each->what), back.error().what);
        }
        if (!left.empty()) {
            error.what += left;
            error.fix += (error.fix.empty() ? "" : "; then ") + std::string("do the same again, or see fabric diff");
        }
        return std::unexpected(std::move(error));
    }
    return {};
}

void print(const Context& context, const fb::Step& step) {
    if (context.options.json)
        context.json(step);
    else
        context.io.out << fmt::format("{}: {}: {}{}{}\n", step.host(), step.object(), step.what(),
                                      step.text().empty() ? "" : ": ", step.text());
}

fb::Step step_of(const Place& place, const std::string& what, const std::string& text = {}) {
    fb::Step step;
    step.set_host(place.host);
    step.set_object(text_of(place.what));
    step.set_what(what);
    step.set_text(text);
    return step;
}

// The object in its envelope.
const google::protobuf::Message& within(const pb::Object& object) {
    const auto* field =
        object.GetReflection()->GetOneofFieldDescriptor(object, object.GetDescriptor()->oneof_decl(0));
    return object.GetReflection()->GetMessage(object, field);
}

// The fields that the file says of it.
std::vector<std::string> said_of(const pb::Object& object) {
    if (object.has_instance()) return {std::begin(kSaid), std::end(kSaid)};
    std::vector<std::string> out;
    const auto* type = within(object).GetDescriptor();
    out.reserve(static_cast<std::size_t>(type->field_count()));
    for (int i = 0; i < type->field_count(); ++i) out.emplace_back(type->field(i)->name());
    return out;
}

std::string value_of(const pb::Object& object, const std::string& field) {
    // One field alone, as the file format writes it.
    const std::unique_ptr<google::protobuf::Message> alone(within(object).New());
    alone->CopyFrom(within(object));
    google::protobuf::FieldMask mask;
    mask.add_paths(field);
    google::protobuf::util::FieldMaskUtil::TrimMessage(mask, alone.get());
    std::string text = to_yaml(*alone);
    while (text.ends_with('\n')) text.pop_back();
    std::ranges::replace(text, '\n', ' ');
    return text.empty() ? fmt::format("no {}", field) : text;
}

// Each field that is to be another, and how.
std::vector<std::string> differences(const Place& place) {
    std::vector<std::string> texts;
    for (const std::string& field : said_of(*place.after)) {
        const std::string is = value_of(*place.before, field);
        const std::string shall = value_of(*place.after, field);
        if (is != shall) texts.push_back(fmt::format("{}, wanted {}", is, shall));
    }
    return texts;
}

struct Words {
    std::string file;
    std::string network;
    std::string host;
    std::uint32_t vlan = 0;
    bool dry_run = false;
};

struct Opened {
    Hosts hosts;
    std::vector<Place> places;
};

// `wanted`: the file's networks are to be there, and not only named.
Result<Opened> open(const Context& context, const Words& words, bool wanted) {
    auto fabric = read_fabric(context.io, words.file);
    if (!fabric) return std::unexpected(fabric.error());
    const auto networks = networks_of(*fabric, words.network);
    if (!networks) return std::unexpected(networks.error());
    if (wanted)
        if (auto apart = are_apart(*fabric, *networks); !apart) return std::unexpected(apart.error());
    auto hosts = hosts_of(context, *fabric);
    if (!hosts) return std::unexpected(hosts.error());
    // First what rules and vPorts of the networks name.
    Result<std::vector<Place>> places;
    if (words.network.empty()) places = look_everywhere(*hosts, *fabric);
    if (!places) return std::unexpected(places.error());
    auto of_networks = look(*hosts, *networks);
    if (!of_networks) return std::unexpected(of_networks.error());
    std::ranges::move(*of_networks, std::back_inserter(*places));
    return Opened{.hosts = std::move(*hosts), .places = std::move(*places)};
}

Result<int> put_and_tell(const Context& context, const Opened& opened) {
    if (auto done = put_all(opened.hosts, opened.places); !done) return std::unexpected(done.error());
    for (const Place& place : opened.places)
        print(context, step_of(place, place.same()    ? place.after ? "there" : "absent"
                                      : !place.after  ? "deleted"
                                      : !place.before ? "created"
                                                      : "updated"));
    return exit_ok;
}

// The same, and nothing is changed.
Result<int> tell_plan(const Context& context, const Opened& opened) {
    for (const Place& place : opened.places)
        if (place.same())
            print(context, step_of(place, place.after ? "there" : "absent"));
        else if (place.before && place.after)
            print(context, step_of(place, "update", fmt::format("{}", fmt::join(differences(place), "; "))));
        else
            print(context, step_of(place, place.after ? "create" : "delete"));
    if (!context.options.json) context.io.out << "dry run: nothing was changed\n";
    return exit_ok;
}

// What can be said of a host's answer without asking for the change: whether each object is one, and its uplink
// there.
Result<> would_take(const Opened& opened) {
    for (const Place& place : opened.places) {
        if (!place.after || place.same()) continue;
        const pb::Object& object = *place.after;
        const auto valid = object.has_instance()  ? validate_object(object.instance())
                           : object.has_profile() ? validate_object(object.profile())
                                                  : validate_object(object.set());
        if (!valid) return std::unexpected(valid.error().in("host " + place.host));
        if (!object.has_instance()) continue;
        const std::string& uplink = object.instance().uplink();
        const auto found = opened.hosts.at(place.host)->get(ref_to(pb::UPLINK, uplink));
        if (!found) return std::unexpected(found.error().in("host " + place.host));
    }
    return {};
}

Result<int> create(const Context& context, const Words& words) {
    const auto opened = open(context, words, true);
    if (!opened) return std::unexpected(opened.error());
    if (!words.dry_run) return put_and_tell(context, *opened);
    if (auto would = would_take(*opened); !would) return std::unexpected(would.error());
    return tell_plan(context, *opened);
}

// The vPorts of an instance on a host.
Result<std::vector<pb::VPort>> users_of(const Hosts& hosts, const std::string& host, const std::string& instance) {
    const auto all = hosts.at(host)->list(pb::VPORT);
    if (!all) return std::unexpected(all.error().in("host " + host));
    std::vector<pb::VPort> users;
    for (const pb::Object& object : all->objects())
        if (object.vport().instance() == instance) users.push_back(object.vport());
    return users;
}

bool has_moved(const pb::VPort& vport) {
    return vport.state() == pb::VPort::MOVED;
}

// A few by name, those first that keep the instance in use.
std::string text_of(std::vector<pb::VPort> users) {
    constexpr std::size_t kNamed = 5;
    std::ranges::stable_partition(users, [](const pb::VPort& vport) { return !has_moved(vport); });
    std::vector<std::string> texts;
    for (const pb::VPort& vport : users | std::views::take(kNamed)) {
        std::string text = vport.name();
        if (has_moved(vport)) text += fmt::format(" (moved to host {})", vport.peer_host());
        if (vport.state() == pb::VPort::PREPARED) text += fmt::format(" (to come from host {})", vport.peer_host());
        texts.push_back(std::move(text));
    }
    if (users.size() > kNamed) texts.back() += fmt::format(" and {} more", users.size() - kNamed);
    return fmt::format("{}", fmt::join(texts, ", "));
}

Result<int> remove(const Context& context, const Words& words) {
    auto opened = open(context, words, false);
    if (!opened) return std::unexpected(opened.error());
    for (Place& place : opened->places) place.after.reset();
    if (!words.dry_run) return put_and_tell(context, *opened);
    // Hosts whose vPorts are in it would refuse.
    bool is_used = false;
    for (const Place& place : opened->places) {
        const auto users = users_of(opened->hosts, place.host, place.what.name());
        if (!users) return std::unexpected(users.error());
        if (users->empty()) continue;
        is_used = true;
        print(context, step_of(place, "in use", text_of(*users)));
    }
    if (!is_used) return tell_plan(context, *opened);
    if (!context.options.json) context.io.out << "dry run: it would be refused\n";
    return exit_findings;
}

// Takes the host out of the networks that none of its VMs is in, and tells of the others: once these have moved, the
// next call takes them. What a VM that moved has left behind, which forwards nothing, goes with the network. On the
// hosts that stay, its VLANs are no more among the peers'.
Result<int> drain(const Context& context, const Words& words) {
    auto fabric = read_fabric(context.io, words.file);
    if (!fabric) return std::unexpected(fabric.error());
    auto hosts = hosts_of(context, *fabric);
    if (!hosts) return std::unexpected(hosts.error());
    if (!hosts->contains(words.host))
        return fail(Code::not_found, "IVDS-U041", fmt::format("the file has no host {}", words.host),
                    "name one of its hosts");
    std::vector<Place> places;
    bool is_left = false;
    for (const fb::Network& network : fabric->networks()) {
        fb::Network without = network;
        const auto gone = std::ranges::remove(*without.mutable_members(), words.host, &fb::Network::Member::host);
        without.mutable_members()->erase(gone.begin(), gone.end());
        if (without.members_size() == network.members_size()) continue;
        const pb::Ref what = ref_to(pb::INSTANCE, network.name());
        auto users = users_of(*hosts, words.host, network.name());
        if (!users) return std::unexpected(users.error());
        if (!std::ranges::all_of(*users, has_moved)) {
            is_left = true;
            const Place place{.host = words.host, .what = what, .before = {}, .after = {}};
            print(context, step_of(place, "in use", text_of(*std::move(users))));
            continue;
        }
        for (pb::VPort& vport : *users) {
            Place& place = places.emplace_back(words.host, ref_to(pb::VPORT, vport.name()));
            *place.before.emplace().mutable_vport() = std::move(vport);
        }
        auto here = place_on(*hosts, words.host, what);
        if (!here) return std::unexpected(here.error());
        here->after.reset();
        places.push_back(std::move(*here));
        auto others = look(*hosts, {&without});
        if (!others) return std::unexpected(others.error());
        std::ranges::copy_if(*others, std::back_inserter(places),
                             [](const Place& place) { return place.before.has_value(); });
    }
    const Opened opened{.hosts = std::move(*hosts), .places = std::move(places)};
    auto done = words.dry_run ? tell_plan(context, opened) : put_and_tell(context, opened);
    return done && is_left ? Result<int>(exit_findings) : done;
}

// The file in which each network has one VLAN on all its hosts: the one that most of them have now, so that the
// fewest change. No host is asked: `fabric diff` with that file shows the plan, `fabric create` carries it out, and
// `fabric create` with the old file takes it back.
Result<int> normalize(const Context& context, const Words& words) {
    auto fabric = read_fabric(context.io, words.file);
    if (!fabric) return std::unexpected(fabric.error());
    const auto networks = networks_of(*fabric, words.network);
    if (!networks) return std::unexpected(networks.error());
    for (const fb::Network* network : *networks) {
        std::map<std::uint32_t, int> votes;
        for (const fb::Network::Member& member : network->members()) ++votes[member.vlan()];
        if (words.vlan != 0) votes = {{words.vlan, 1}};
        std::string taken;  // by which network
        std::optional<std::uint32_t> best;
        for (const auto& [vlan, count] : votes) {
            const fb::Network* at = nullptr;
            for (const fb::Network::Member& member : network->members())
                if (at == nullptr) at = clash(*fabric, *network, member, vlan);
            if (at != nullptr)
                taken = at->name();
            else if (!best || count > votes.at(*best))
                best = vlan;
        }
        if (!best)
            return fail(Code::conflict, "IVDS-U042",
                        fmt::format("network {} has no VLAN for all its hosts: there, network {} has V.VLAN {}",
                                    network->name(), taken, network->vvlan()),
                        "name a VLAN with --vlan that the fabric carries to all of them");
        auto& changed = *std::ranges::find(*fabric->mutable_networks(), network->name(), &fb::Network::name);
        for (fb::Network::Member& member : *changed.mutable_members()) member.set_vlan(*best);
    }
    if (context.options.json)
        context.json(*fabric);
    else
        context.io.out << to_yaml(*fabric);
    return exit_ok;
}

Result<int> diff(const Context& context, const Words& words) {
    const auto opened = open(context, words, true);
    if (!opened) return std::unexpected(opened.error());
    bool differs = false;
    for (const Place& place : opened->places) {
        if (place.same()) continue;
        differs = true;
        if (!place.before) {
            print(context, step_of(place, "missing"));
            continue;
        }
        for (const std::string& text : differences(place)) print(context, step_of(place, "differs", text));
    }
    if (!differs && !context.options.json) context.io.out << "no differences\n";
    return differs ? exit_findings : exit_ok;
}

// Hosts that do not answer are told last, and the others all the same.
Result<int> list(const Context& context, const std::string& file) {
    auto fabric = read_fabric(context.io, file);
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

Result<int> list_hosts(const Context& context) {
    const auto reply = context.agent.hosts();
    if (!reply) return std::unexpected(reply.error());
    if (context.options.json) {
        context.json(*reply);
        return exit_ok;
    }
    Table table({"HOST", "ADDRESS", "VERSION", ">INSTANCES", "SELF"});
    for (const pb::HostState& host : reply->hosts())
        table.row({{host.name()},
                   {host.address()},
                   {host.version()},
                   Cell::number(static_cast<std::uint64_t>(host.instances_size())),
                   {host.self() ? "self" : ""}});
    table.print(context.io.out, context.io.color);
    return exit_ok;
}

// The networks of one host, or of all with an empty name.
Result<int> show_hosts(const Context& context, const std::string& name) {
    auto reply = context.agent.hosts();
    if (!reply) return std::unexpected(reply.error());
    if (!name.empty()) {
        const auto found = std::ranges::find(reply->hosts(), name, &pb::HostState::name);
        if (found == reply->hosts().end())
            return fail(Code::not_found, "IVDS-U043", fmt::format("host {} is not in the registry", name),
                        "see `ivds-ctl host list`");
        pb::HostsReply one;
        *one.add_hosts() = *found;
        *reply = std::move(one);
    }
    if (context.options.json) {
        context.json(*reply);
        return exit_ok;
    }
    Table table({"HOST", "INSTANCE", "NETWORK", ">V.VLAN", ">VLAN", "PEER_VLANS", "TENANT"});
    for (const pb::HostState& host : reply->hosts())
        for (const pb::HostState::Instance& instance : host.instances())
            table.row({{host.name()},
                       {instance.name()},
                       {instance.network()},
                       Cell::number_or_none(instance.vvlan()),
                       Cell::number_or_none(instance.vlan()),
                       {fmt::format("{}", fmt::join(instance.peer_vlans(), " "))},
                       {instance.tenant()}});
    table.print(context.io.out, context.io.color);
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
            "ivds-ctl fabric create -f fabric.yaml red --ca ca.pem --cert me.pem --key me.key\n"
            "ivds-ctl fabric create -f fabric.yaml --dry-run",
            [words](const Context& context) { return create(context, *words); });
    CLI::App* const diff_app =
        add("diff", "Where hosts are not as the file wants them; exit 1 if they are not",
            "ivds-ctl fabric diff -f fabric.yaml", [words](const Context& context) { return diff(context, *words); });
    CLI::App* const delete_app =
        add("delete", "Delete a network from all its hosts, or from none: none may have vPorts in it",
            "ivds-ctl fabric delete -f fabric.yaml red\nivds-ctl fabric delete -f fabric.yaml red --dry-run",
            [words](const Context& context) { return remove(context, *words); });
    CLI::App* const drain_app = add(
        "drain", "Take a host out of the networks that no VM of it is in; exit 1 while one is in some",
        "ivds-ctl fabric drain -f fabric.yaml c", [words](const Context& context) { return drain(context, *words); });
    CLI::App* const normalize_app =
        add("normalize", "The file with one VLAN for each network, for fabric diff and fabric create",
            "ivds-ctl fabric normalize -f fabric.yaml red > one.yaml",
            [words](const Context& context) { return normalize(context, *words); });
    for (CLI::App* app : {create_app, diff_app, normalize_app})
        add_value(*app, "NETWORK", "TEXT", words->network, "this network of the file alone");
    add_value(*delete_app, "NETWORK", "TEXT", words->network, "of the file").required();
    for (CLI::App* app : {create_app, delete_app, drain_app})
        app->add_flag("--dry-run", words->dry_run, "show what each host would do, and change nothing");
    add_value(*drain_app, "HOST", "TEXT", words->host, "of the file").required();
    add_value(*normalize_app, "--vlan", "VLAN", words->vlan, "this VLAN, 1 to 4094, not the one that most hosts have")
        .check(CLI::Range(1, 4094));
    CLI::App& host_app = Commands::group(commands.root(), "host", "The hosts that share a registry");
    commands.leaf(host_app, "list", "Print the hosts that are registered, and where their agents serve the API",
                  "ivds-ctl host list\nA host without an address serves no other host; ivdsd(8) says how one does.",
                  list_hosts);
    auto shown = std::make_shared<std::string>();
    CLI::App& show_app = commands.leaf(
        host_app, "show", "Print which networks are on which host, also without a vPort, and on which VLAN",
        "ivds-ctl host show b\nBinding show tells which of them have vMACs there.",
        [shown](const Context& context) { return show_hosts(context, *shown); });
    add_value(show_app, "HOST", "HOST", *shown, "this host alone");
    add("list", "Every instance of every host of the file", "ivds-ctl fabric list -f fabric.yaml",
        [words](const Context& context) { return list(context, words->file); });
}

}  // namespace ivds::cli
