// SPDX-License-Identifier: Apache-2.0
#include "fabric/registry.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <google/protobuf/util/json_util.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <climits>
#include <fstream>
#include <map>
#include <ranges>

#include "compile/rules.h"
#include "model/shared.h"

namespace ivds::fabric {
namespace {

constexpr auto kRetry = std::chrono::seconds(1);
constexpr auto kSharedRetry = std::chrono::seconds(10);
constexpr auto kTakeOver = std::chrono::seconds(10);
constexpr auto kNewStart = std::chrono::milliseconds(100);
constexpr std::size_t kToldKeys = 5;

std::int64_t steady_s() {
    return std::chrono::duration_cast<std::chrono::seconds>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

std::string text_of(const Conflict& conflict) {
    const std::string what = fmt::format("vMAC {} of vport {} in network {}", format_mac(conflict.key.vmac),
                                         conflict.vport, to_text(conflict.key.network));
    const registry::Binding& other = conflict.other.binding;
    if (other.host().empty())
        return fmt::format("{} is not bound: what {} holds is not understood", what, key_text(conflict.key));
    return fmt::format("{} is bound by host {}{}", what, other.host(),
                       other.vport().empty() ? "" : fmt::format(" (vport {})", other.vport()));
}
std::string text_of(const Unusable& each) {
    const std::string& host = each.entry.binding.host();
    return each.is_over ? fmt::format("host {} is refused as a peer: {}", host, each.why)
                        : fmt::format("{} of host {} is not used: {}", key_text(each.key), host, each.why);
}

std::string owner_text(const registry::Binding& binding) {
    return fmt::format("{}vMAC {} of host {}",
                       binding.vport().empty() ? "" : fmt::format("vport {} with ", binding.vport()), binding.vmac(),
                       binding.host());
}

std::string text_of(const ShareConflict& each) {
    return each.host.empty() ? fmt::format("{} is not shared: what {} holds is not understood", each.label, each.key)
                             : fmt::format("{} is shared by host {} already: this host's own stays its alone",
                                           each.label, each.host);
}

constexpr const char* kShareConflictFix =
    "leave out shared, give it another name, or delete this host's own to use the other's";
constexpr const char* kConflictFix = "give one of the two vNICs another vMAC, or delete the vPort that is no more";

}  // namespace

bool is_host_port(const std::string& text) {
    const auto colon = text.rfind(':');
    return colon != std::string::npos && colon != 0 && colon + 1 != text.size() &&
           std::ranges::all_of(text.substr(colon + 1), [](unsigned char c) { return std::isdigit(c) != 0; });
}

Result<Settings> settings_of(const std::string& endpoints, etcd::Tls tls, etcd::Login login, const std::string& host,
                             std::int64_t lease_s) {
    Settings settings;
    settings.lease_s = lease_s;
    if (tls.cert.empty() != tls.key.empty())
        return fail(Code::invalid, "IVDS-R008", "a certificate for etcd without its key, or a key without it",
                    "give --etcd-cert and --etcd-key");
    if (login.user.empty() != login.password_file.empty())
        return fail(Code::invalid, "IVDS-R008", "a user of etcd without a password, or a password without a user",
                    "give --etcd-user and --etcd-password-file");
    settings.login = std::move(login);
    if (endpoints.empty())
        return fail(Code::invalid, "IVDS-R008", "--etcd names no endpoint", "give HOST:PORT, like 192.0.2.1:2379");
    bool plain = false;
    bool secure = !tls.ca.empty() || !tls.cert.empty();
    for (const auto part : std::views::split(endpoints, ',')) {
        std::string endpoint(part.begin(), part.end());
        if (endpoint.starts_with("https://")) {
            secure = true;
            endpoint.erase(0, 8);
        } else if (endpoint.starts_with("http://")) {
            plain = true;
            endpoint.erase(0, 7);
        }
        if (!is_host_port(endpoint))
            return fail(Code::invalid, "IVDS-R008", fmt::format("--etcd {}: no HOST:PORT", printable(endpoint)),
                        "write it like 192.0.2.1:2379 or https://etcd1:2379, several with commas between");
        settings.endpoints.push_back(std::move(endpoint));
    }
    if (plain && secure)
        return fail(Code::invalid, "IVDS-R008", "some of etcd's endpoints are without TLS, and some are with it",
                    "use https:// for all, or leave --etcd-ca, --etcd-cert and --etcd-key out");
    tls.on = secure;
    settings.tls = std::move(tls);
    settings.host = host;
    if (host.empty()) {
        std::array<char, HOST_NAME_MAX + 1> name{};
        if (::gethostname(name.data(), name.size() - 1) != 0) return os_error(errno, "IVDS-R008", "this host's name");
        settings.host = name.data();
        std::ranges::transform(settings.host, settings.host.begin(),
                               [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    }
    if (auto right = validate_name("host", settings.host); !right) {
        Error error = right.error();
        error.fix += "; --host-name gives the host another in the registry";
        return std::unexpected(error);
    }
    return settings;
}

Error no_registry() {
    return {Code::unsupported, "IVDS-R011", "this agent keeps no registry, and knows of no other host",
            "run the agents with --registry etcd", 0};
}

namespace {

// The file holds this text, or what it held before.
Result<> write_file(const std::string& path, const std::string& text) {
    const std::string temporary = path + ".new";
    const int fd = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0640);
    if (fd < 0) return os_error(errno, "IVDS-R008", "write " + temporary);
    const bool written =
        ::write(fd, text.data(), text.size()) == static_cast<ssize_t>(text.size()) && ::fsync(fd) == 0;
    const int err = errno;
    ::close(fd);
    if (!written) return os_error(err, "IVDS-R008", "write " + temporary);
    if (::rename(temporary.c_str(), path.c_str()) != 0) return os_error(errno, "IVDS-R008", "write " + path);
    return {};
}

// Bindings, one a line. What does not read back is as if it were not there.
std::vector<registry::Binding> read_came(const std::string& path) {
    std::vector<registry::Binding> out;
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);)
        if (registry::Binding binding; google::protobuf::util::JsonStringToMessage(line, &binding).ok())
            out.push_back(std::move(binding));
    return out;
}

}  // namespace

Result<std::string> host_id(const std::string& state_dir) {
    const std::string path = state_dir + "/host-id";
    {
        std::ifstream file(path);
        std::string id;
        if (file >> id) {
            if (id.size() == 32 && std::ranges::all_of(id, [](unsigned char c) { return std::isxdigit(c) != 0; }))
                return id;
            return fail(Code::invalid, "IVDS-R008", path + " does not hold 32 hex digits",
                        "remove it once no other agent runs by this host's name: a new one is drawn");
        }
    }
    std::array<unsigned char, 16> bytes{};
    if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
        return os_error(errno, "IVDS-R008", "draw an id for this host");
    std::string id;
    for (const unsigned char byte : bytes) id += fmt::format("{:02x}", byte);
    if (auto done = write_file(path, id + "\n"); !done) return std::unexpected(done.error());
    return id;
}

Registry::Registry(Settings settings, std::string id, Remotes remotes, Sink sink, TakeShared take_shared, Tell tell,
                   Withdraw withdraw, Bound bound)
    : settings_(std::move(settings)),
      id_(std::move(id)),
      sink_(std::move(sink)),
      take_shared_(std::move(take_shared)),
      tell_(std::move(tell)),
      withdraw_(std::move(withdraw)),
      bound_(std::move(bound)),
      mirror_(settings_.host),
      remotes_(std::move(remotes)) {
    if (!settings_.came_path.empty())
        for (const registry::Binding& binding : read_came(settings_.came_path)) mirror_.remember(binding);
    thread_ = std::thread([this] { run(); });
}

Registry::~Registry() {
    {
        const std::lock_guard lock(mutex_);
        stopping_ = true;
        if (client_ != nullptr) client_->stop_watch();
    }
    wake_.notify_all();
    answered_.notify_all();
    thread_.join();
}

void Registry::follow(std::shared_ptr<const Model> model, UplinkMacs macs, std::vector<registry::Nic> nics) {
    auto claims = claims_of(*model, settings_.host, macs);
    const std::lock_guard lock(mutex_);
    model_ = std::move(model);
    macs_ = std::move(macs);
    const auto text = [](const auto& list) {
        std::string all;
        for (const registry::Nic& nic : list) all += value_text(nic);
        return all;
    };
    nics_changed_ = nics_changed_ || text(nics) != text(nics_);
    nics_ = std::move(nics);
    claims_ = std::move(claims);
    auto shares = shares_of(*model_, settings_.host, shares_);
    std::ranges::move(instances_of(*model_, settings_.host, shares_), std::back_inserter(shares));
    shares_ = std::move(shares);
    claims_changed_ = model_changed_ = shared_stale_ = true;
    wake_.notify_all();
}

Result<> Registry::check(const Model& next, const Model& now) const {
    const auto wanted = claims_of(next, settings_.host, {});
    std::set<BindingKey> before;
    for (const Claim& claim : claims_of(now, settings_.host, {}))
        if (!claim.waits) before.insert(claim.key);
    const std::lock_guard lock(mutex_);
    for (const Share& share : shares_of(next, settings_.host, shares_)) {
        if (share.value.size() > kMaxSharedBytes)
            return fail(Code::exhausted, "IVDS-R018",
                        fmt::format("{} has {} bytes as it is shared, and the registry takes {}", share.label,
                                    share.value.size(), kMaxSharedBytes),
                        "make several of it, use prefixes, or leave out shared");
        const ParsedKey key = parse_key(share.key);
        const auto* shared = std::get_if<SharedKey>(&key);
        if (!listed_ || shared == nullptr || std::ranges::find(shares_, share.key, &Share::key) != shares_.end())
            continue;
        if (const std::string host = mirror_.sharer(*shared); !host.empty())
            return fail(Code::conflict, "IVDS-R017",
                        fmt::format("{} is shared by host {} already", share.label, host), kShareConflictFix);
    }
    if (!listed_) return {};
    for (const Claim& claim : wanted) {
        if (claim.waits || before.contains(claim.key)) continue;
        if (const Entry* other = mirror_.holder(claim))
            return fail(Code::conflict, "IVDS-R003", text_of({claim.key, claim.binding.vport(), *other}),
                        kConflictFix);
    }
    // Nobody is refused what he has, nor a VM that came from another host: its bindings are this host's by then.
    const auto is_new = [&](const Claim& claim) {
        if (claim.waits || before.contains(claim.key)) return false;
        const auto* in = mirror_.bindings(claim.key.network);
        if (in == nullptr) return true;
        const auto held = in->find(claim.key.vmac);
        return held == in->end() || held->second.binding.host() != settings_.host;
    };
    for (const auto& [name, tenant] : next.tenants) {
        if (tenant->max_fabric_bindings() == 0) continue;
        const std::uint64_t here = claims_of_tenant(wanted, name);
        const std::uint64_t all = here + mirror_.others_of(name);
        if (all <= tenant->max_fabric_bindings() || std::ranges::none_of(wanted, [&, &of = name](const Claim& claim) {
                return claim.binding.tenant() == of && is_new(claim);
            }))
            continue;
        return fail(Code::exhausted, "IVDS-R024",
                    fmt::format("tenant {}: {} bindings of all hosts, {} of them here, are more than its quota of {}",
                                name, all, here, tenant->max_fabric_bindings()),
                    fmt::format("delete a vPort of its distributed instances, here or elsewhere, or raise the quota: "
                                "`ivds-ctl tenant update {} --max-fabric-bindings {}`",
                                name, all));
    }
    return {};
}

std::unordered_set<std::uint64_t> Registry::macs_of_others() const {
    const std::lock_guard lock(mutex_);
    return mirror_.macs_of_others();
}

// ---------------------------------------------------------------------------------------- a VM that moves

Result<> Registry::may_take_over(const std::vector<Claim>& claims, const std::string& from) const {
    const std::lock_guard lock(mutex_);
    if (auto plan = mirror_.takeover(claims, from, lease_); !plan) return std::unexpected(plan.error());
    return {};
}

Result<std::optional<registry::Binding>> Registry::holder(const std::vector<Claim>& claims) const {
    const std::lock_guard lock(mutex_);
    if (state_ != "synced")
        return fail(Code::unavailable, "IVDS-R009",
                    fmt::format("the registry is {}{}: who has a vMAC is not known", state_,
                                reason_ ? " (" + reason_->what + ")" : ""),
                    "call again once `ivds-ctl doctor` says that it is synced");
    for (const Claim& claim : claims) {
        if (const Entry* other = mirror_.holder(claim)) return other->binding;
        const auto* in = mirror_.bindings(claim.key.network);
        if (in == nullptr) continue;
        if (const auto own = in->find(claim.key.vmac); own != in->end() && own->second.gone_at_s == 0)
            return own->second.binding;
    }
    return std::nullopt;
}

bool Registry::owns(const std::vector<Claim>& claims) const {
    const std::lock_guard lock(mutex_);
    return std::ranges::any_of(claims, [&](const Claim& claim) { return mirror_.owns(claim); });
}

std::vector<std::pair<BindingKey, registry::Binding>> Registry::page(const BindingKey* after,
                                                                     std::size_t most) const {
    const std::lock_guard lock(mutex_);
    return mirror_.page(after, most);
}

Result<std::uint64_t> Registry::take_over(std::vector<Claim> claims, const std::string& from) {
    if (auto known = holder(claims); !known) return std::unexpected(known.error());
    std::unique_lock lock(mutex_);
    call_ = Call{std::move(claims), from, std::nullopt};
    wake_.notify_all();
    (void)answered_.wait_for(lock, kTakeOver, [&] { return call_->answer.has_value() || stopping_; });
    auto answer = std::exchange(call_, std::nullopt)->answer;
    if (answer) return std::move(*answer);
    return fail(
        Code::unavailable, "IVDS-R009",
        fmt::format("etcd {} does not answer in time: whether the vMAC is this host's is not known", endpoint_),
        "call again: it is completed then, or refused");
}

Result<bool> Registry::answer(etcd::Client& client) {
    Result<Mirror::Takeover> plan;
    {
        const std::lock_guard lock(mutex_);
        if (!call_ || call_->answer) return false;
        plan = mirror_.takeover(call_->claims, call_->from, lease_);
    }
    if (!plan) {
        answer_with(std::unexpected(plan.error()));
        return false;
    }
    if (!plan->steps.empty()) {
        auto done = write(client, plan->steps);
        if (!done) {
            // What etcd refuses for want of room it did not do.
            Error error = done.error();
            if (error.code != Code::exhausted) {
                error = error.in("whether the vMAC is this host's is not known");
                error.code = Code::unavailable;
            }
            answer_with(std::unexpected(std::move(error)));
            return std::unexpected(done.error());
        }
        if (!*done) {
            answer_with(
                fail(Code::busy, "IVDS-R010", "the binding was changed by another at the same moment", "call again"));
            return false;
        }
    }
    answer_with(plan->generation);
    return true;
}

void Registry::answer_with(Result<std::uint64_t> answer) {
    const std::lock_guard lock(mutex_);
    if (!call_ || call_->answer) return;
    call_->answer = std::move(answer);
    answered_.notify_all();
}

// ---------------------------------------------------------------------------------------- the thread

void Registry::set_state(const std::string& state, const Error* reason) {
    std::string told;
    {
        const std::lock_guard lock(mutex_);
        const bool same = state_ == state && (reason == nullptr ? !reason_ : reason_ && reason_->id == reason->id);
        state_ = state;
        reason_ = reason != nullptr ? std::optional(*reason) : std::nullopt;
        if (same) return;
        told = reason != nullptr ? fmt::format("{}: {}", state, reason->text())
                                 : fmt::format("{} with etcd {}", state, endpoint_);
    }
    tell_("", told);
}

void Registry::run() {
    {
        // Without an intent the host claims nothing, and would take back what it holds.
        std::unique_lock lock(mutex_);
        wake_.wait(lock, [&] { return stopping_ || model_ != nullptr; });
        if (stopping_) return;
    }
    for (;;) {
        const auto done = session();
        auto pause = kNewStart;
        answer_with(fail(Code::unavailable, "IVDS-R009", "the registry is read anew", "call again"));
        if (!done) {
            set_state(done.error().code == Code::exists ? "refused" : "away", &done.error());
            ++next_endpoint_;
            pause = std::chrono::duration_cast<std::chrono::milliseconds>(kRetry);
        }
        std::unique_lock lock(mutex_);
        if (wake_.wait_for(lock, pause, [&] { return stopping_; })) return;
    }
}

Result<> Registry::session() {
    const std::string endpoint = settings_.endpoints[next_endpoint_ % settings_.endpoints.size()];
    auto opened = etcd::Client::open(endpoint, settings_.tls, settings_.login);
    if (!opened) return std::unexpected(opened.error());
    etcd::Client& client = **opened;
    {
        const std::lock_guard lock(mutex_);
        endpoint_ = endpoint;
        queue_.clear();
        watch_ended_.reset();
        if (stopping_) return {};
    }

    auto enrolled = enroll(client);
    if (!enrolled) return std::unexpected(enrolled.error());
    // A host whose lease went may have missed that everything went.
    if (!*enrolled || !listed_)
        if (auto done = resync(client); !done) return done;

    std::thread watch([&, from = revision_ + 1] {
        auto ended = client.watch(std::string(kRoot), from, [this](etcd::Changes changes) {
            const std::lock_guard lock(mutex_);
            queue_.push_back(std::move(changes));
            wake_.notify_all();
        });
        const std::lock_guard lock(mutex_);
        watch_ended_ = std::move(ended);
        wake_.notify_all();
    });
    {
        const std::lock_guard lock(mutex_);
        client_ = &client;
        claims_changed_ = model_changed_ = true;
    }
    const auto work = [&]() -> Result<> {
        for (;;) {
            auto more = take_changes();
            if (!more) return std::unexpected(more.error());
            if (!*more) return {};
            if (auto read = take_waiting(client); !read) return read;
            if (Clock::now() >= next_keep_alive_) {
                const auto left_s = client.keep_alive(lease_);
                if (!left_s) return std::unexpected(left_s.error());
                if (*left_s == 0) return {};
                next_keep_alive_ = Clock::now() + std::chrono::seconds(settings_.lease_s) / 3;
            }
            const auto answered = answer(client);
            // Who took a VM over puts it into the FDB at once; this does not get before that.
            const bool took_over = answered && *answered;
            // Where a VM went is in the FDB before its vPort here withdraws: no frame for it is flooded in between.
            if (!took_over) {
                deliver_shared();
                deliver();
            }
            auto done = answered ? publish(client) : Result<>(std::unexpected(answered.error()));
            if (!done) {
                // The lease went: the host enrols anew.
                if (done.error().code == Code::not_found) return {};
                return done;
            }
            keep_came();
            set_state("synced", nullptr);
            std::unique_lock lock(mutex_);
            auto until = next_keep_alive_;
            if (retry_) until = std::min(until, *retry_);
            until = std::min(until, Clock::now() + kRetry);  // what is to go looks at the clock
            wake_.wait_until(lock, until, [&] {
                return stopping_ || !queue_.empty() || watch_ended_ || claims_changed_ || model_changed_ ||
                       shared_stale_ || nics_changed_ || (call_ && !call_->answer);
            });
            if (stopping_ || nics_changed_) return {};
        }
    };
    auto result = work();
    client.stop_watch();
    watch.join();
    const std::lock_guard lock(mutex_);
    client_ = nullptr;
    return result;
}

Result<bool> Registry::enroll(etcd::Client& client) {
    registry::Host host;
    host.set_name(settings_.host);
    host.set_id(id_);
    host.set_version(IVDS_VERSION);
    host.set_address(settings_.address);
    {
        const std::lock_guard lock(mutex_);
        for (const registry::Nic& nic : nics_) *host.add_nics() = nic;
        nics_changed_ = false;
    }
    const std::string key = host_key(settings_.host);
    const std::string value = value_text(host);
    std::optional<etcd::KeyValue> there;
    const auto header = client.get(key, there);
    if (!header) return std::unexpected(header.error());
    const bool same_registry = header->cluster == cluster_ && header->revision >= revision_;
    cluster_ = header->cluster;

    std::int64_t lease = 0;
    if (there) {
        const auto held = parse_host(settings_.host, there->value);
        if (const auto* refused = std::get_if<Refused>(&held))
            return fail(Code::exists, "IVDS-R002",
                        fmt::format("{} is there, and no agent wrote it: {}", key, refused->text),
                        fmt::format("delete it with `etcdctl del {}`, or use another --host-name", key));
        if (std::get<registry::Host>(held).id() != id_)
            return fail(
                Code::exists, "IVDS-R002",
                fmt::format("another host is in the registry by the name {}", settings_.host),
                fmt::format("give one of the two another --host-name; of a host that is gone the name is free "
                            "{} s after its end",
                            settings_.lease_s));
        if (there->lease != 0) {
            const auto left_s = client.keep_alive(there->lease);
            if (!left_s) return std::unexpected(left_s.error());
            // A lease of another length is let go of: it ends by itself.
            if (*left_s == settings_.lease_s) lease = there->lease;
        }
    }
    const bool kept = lease != 0;
    if (!kept) {
        const auto granted = client.grant(settings_.lease_s);
        if (!granted) return std::unexpected(granted.error());
        lease = *granted;
    }
    if (!kept || there->value != value) {
        const auto written = client.transact({{key, there ? there->mod_revision : 0}}, {{key, value, lease}});
        if (!written) return std::unexpected(written.error());
        if (*written == 0)
            return fail(Code::unavailable, "IVDS-R002", key + " was written by another at the same moment");
        const std::lock_guard lock(mutex_);
        ++writes_;
    }
    next_keep_alive_ = Clock::now() + std::chrono::seconds(settings_.lease_s) / 3;
    const std::lock_guard lock(mutex_);
    lease_ = lease;
    return kept && same_registry;
}

Result<> Registry::resync(etcd::Client& client) {
    std::vector<etcd::KeyValue> keys;
    // A list of a hundred thousand takes its seconds: the lease must not end meanwhile.
    Result<> kept;
    const auto header = client.list(
        std::string(kRoot), [&](etcd::KeyValue kv) { keys.push_back(std::move(kv)); },
        [&] {
            if (Clock::now() < next_keep_alive_) return;
            if (const auto left_s = client.keep_alive(lease_); !left_s) kept = std::unexpected(left_s.error());
            next_keep_alive_ = Clock::now() + std::chrono::seconds(settings_.lease_s) / 3;
        });
    if (!header) return std::unexpected(header.error());
    if (!kept) return kept;
    const std::lock_guard lock(mutex_);
    mirror_.relist(std::move(keys), steady_s() + settings_.lease_s);
    revision_ = header->revision;
    listed_ = true;
    ++resyncs_;
    return {};
}

Result<bool> Registry::take_changes() {
    const std::lock_guard lock(mutex_);
    for (const etcd::Changes& changes : std::exchange(queue_, {})) {
        if (changes.compacted) {
            listed_ = false;
            return false;
        }
        for (const etcd::Change& change : changes.changes) mirror_.apply(change);
        if (!changes.changes.empty()) claims_changed_ = true;
        revision_ = std::max(revision_, changes.revision);
    }
    mirror_.expire(steady_s());
    if (watch_ended_) {
        if (!*watch_ended_) return std::unexpected(watch_ended_->error());
        return false;
    }
    // Somebody removed or took this host's key, or its lease ended.
    const auto host = mirror_.hosts().find(settings_.host);
    if (host == mirror_.hosts().end() || host->second.id() != id_) {
        listed_ = false;
        return false;
    }
    return true;
}

Result<> Registry::take_waiting(etcd::Client& client) {
    for (;;) {
        std::optional<std::string> key;
        {
            const std::lock_guard lock(mutex_);
            key = mirror_.take_waiting();
        }
        if (!key) return {};
        std::optional<etcd::KeyValue> there;
        if (const auto read = client.get(*key, there); !read) return std::unexpected(read.error());
        const std::lock_guard lock(mutex_);
        if (there) mirror_.apply({std::move(*there), false});
    }
}

Result<> Registry::publish(etcd::Client& client) {
    Publication publication;
    std::vector<std::pair<std::string, std::string>> told;
    {
        const std::lock_guard lock(mutex_);
        const bool due = retry_ && Clock::now() >= *retry_;
        if (!claims_changed_ && !due) return {};
        claims_changed_ = false;
        retry_.reset();
        mirror_.forget_but(model_->vports);
        publication = mirror_.publication(claims_, lease_, shares_);
        for (const ShareConflict& conflict : publication.share_conflicts)
            if (std::ranges::none_of(share_conflicts_,
                                     [&](const ShareConflict& old) { return text_of(old) == text_of(conflict); }))
                told.emplace_back("", "IVDS-R017 " + text_of(conflict));
        share_conflicts_ = publication.share_conflicts;
        for (const Conflict& conflict : publication.conflicts)
            if (std::ranges::none_of(conflicts_, [&](const Conflict& old) {
                    return old.key == conflict.key && old.other.binding.host() == conflict.other.binding.host();
                }))
                told.emplace_back(conflict.vport, "IVDS-R003 " + text_of(conflict));
        conflicts_ = publication.conflicts;
    }
    for (const auto& [vport, text] : told) tell_(vport, text);

    bool all = true;
    for (const auto& [vport, host] : publication.went)
        if (auto done = withdraw_(vport, host); !done) {
            std::string text = "cannot be withdrawn: " + done.error().text();
            if (text != withdraw_error_) tell_(vport, text);
            withdraw_error_ = std::move(text);
            all = false;
        }
    std::vector<Step> batch;
    std::size_t operations = 0;
    std::size_t bytes = 0;
    const auto flush = [&]() -> Result<> {
        if (batch.empty()) return {};
        operations = bytes = 0;
        auto steps = std::exchange(batch, {});
        auto done = write(client, steps);
        if (!done) return std::unexpected(done.error());
        if (*done) return {};
        // One of them did not hold: the others go alone.
        for (Step& step : steps) {
            auto one = write(client, {std::move(step)});
            if (!one) return std::unexpected(one.error());
            all = all && *one;
        }
        return {};
    };
    for (Step& step : publication.steps) {
        const std::size_t cost = step.guards.size() + 1;
        const std::size_t length = step.write.value ? step.write.value->size() : 0;
        if (operations + cost > etcd::kMaxOperations || bytes + length > kMaxSharedBytes)
            if (auto done = flush(); !done) return done;
        operations += cost;
        bytes += length;
        batch.push_back(std::move(step));
    }
    if (auto done = flush(); !done) return done;
    // What did not hold was changed by somebody: the watch will say.
    if (!all) retry_ = Clock::now() + kRetry;
    return {};
}

Result<bool> Registry::write(etcd::Client& client, std::vector<Step> steps) {
    std::vector<etcd::Guard> guards;
    std::vector<etcd::Write> writes;
    for (const Step& step : steps) {
        guards.insert(guards.end(), step.guards.begin(), step.guards.end());
        writes.push_back(step.write);
    }
    const auto revision = client.transact(guards, writes);
    if (!revision) return std::unexpected(revision.error());
    if (*revision == 0) return false;
    {
        const std::lock_guard lock(mutex_);
        writes_ += writes.size();
        // The watch brings it too; until then it is not written once more.
        for (const etcd::Write& each : writes)
            mirror_.apply({{each.key, each.value.value_or(""), *revision, *revision, each.lease}, !each.value});
    }
    for (const Step& step : steps)
        if (!step.bound.empty()) bound_(step.bound);
    return true;
}

// A host that does not get to write it still knows it until its agent ends.
void Registry::keep_came() {
    if (settings_.came_path.empty()) return;
    std::string text;
    {
        const std::lock_guard lock(mutex_);
        if (!mirror_.take_came_changed()) return;
        for (const registry::Binding& binding : mirror_.came()) text += value_text(binding) + "\n";
    }
    if (text == came_text_) return;
    if (auto done = write_file(settings_.came_path, text); !done)
        tell_("", "where VMs came from is not kept: " + done.error().text());
    came_text_ = std::move(text);
}

void Registry::deliver_shared() {
    Shared shared;
    {
        const std::lock_guard lock(mutex_);
        const bool changed = mirror_.take_shared_changed();
        const bool due = shared_retry_ && Clock::now() >= *shared_retry_;
        if (!std::exchange(shared_stale_, false) && !changed && !due) return;
        shared = mirror_.shared(*model_, foreign_members_);
        shared_retry_.reset();
    }
    auto failed = take_shared_(std::move(shared));
    std::vector<std::string> told;
    {
        const std::lock_guard lock(mutex_);
        for (const NotTaken& each : failed)
            if (std::ranges::none_of(not_taken_, [&](const NotTaken& old) {
                    return old.label == each.label && old.error.text() == each.error.text();
                }))
                told.push_back(fmt::format("IVDS-R020 {} is not in force here: {}", each.label, each.error.text()));
        not_taken_ = std::move(failed);
        if (!not_taken_.empty()) shared_retry_ = Clock::now() + kSharedRetry;
    }
    for (const std::string& text : told) tell_("", text);
}

void Registry::deliver() {
    Remotes next;
    std::vector<std::string> refused;  // peers that were not before
    bool same = false;
    {
        const std::lock_guard lock(mutex_);
        auto changed = mirror_.take_changed();
        if (std::exchange(model_changed_, false)) stale_.reset();
        if (stale_) stale_->merge(changed);
        if (stale_ && stale_->empty()) return;
        const auto before = unusable_;
        next = remotes_of(*model_, mirror_, settings_.host, remotes_, stale_ ? &*stale_ : nullptr, unusable_);
        for (const Unusable& each : unusable_)
            if (each.is_over && std::ranges::none_of(before, [&](const Unusable& old) {
                    return old.is_over && text_of(old) == text_of(each);
                }))
                refused.push_back("IVDS-R016 " + text_of(each));
        same = next == remotes_ && !sink_error_;
        if (same) stale_.emplace();
    }
    for (const std::string& text : refused) tell_("", text);
    if (same) return;
    auto done = sink_(next);
    const std::lock_guard lock(mutex_);
    if (done) {
        remotes_ = std::move(next);
        stale_.emplace();
        sink_error_.reset();
    } else {
        sink_error_ = done.error();
        retry_ = Clock::now() + kRetry;
    }
}

// ---------------------------------------------------------------------------------------- views

std::vector<Finding> Registry::findings() const {
    const State now = state();
    const std::lock_guard lock(mutex_);
    std::vector<Finding> out;
    const auto add = [&](Finding::Severity severity, const char* id, std::string object, std::string text,
                         std::string fix) {
        out.push_back({.severity = severity,
                       .id = id,
                       .object = std::move(object),
                       .text = std::move(text),
                       .fix = std::move(fix)});
    };
    add(Finding::Severity::info, "IVDS-R007", "registry",
        fmt::format(
            "etcd {}: {} as host {}, revision {}; hosts: {}; bindings: {} own, {} of others, {} remote MACs in "
            "the FDB; shared: {} own, {} of others; {} keys written, {} changes wait; {} resyncs, {} keys refused",
            now.endpoint, now.state, now.host, now.revision, fmt::join(now.hosts, " "), now.own_bindings,
            now.other_bindings, now.remote_macs, now.own_shared, now.other_shared, now.writes, now.pending,
            now.resyncs, now.refused_keys),
        "");
    if (reason_) add(Finding::Severity::error, reason_->id.c_str(), "registry", reason_->what, reason_->fix);
    for (const Conflict& conflict : conflicts_)
        add(Finding::Severity::error, "IVDS-R003", conflict.vport, text_of(conflict),
            conflict.other.binding.host().empty() ? "delete the key, or write there what registry.proto says"
                                                  : kConflictFix);
    for (const ShareConflict& conflict : share_conflicts_)
        add(Finding::Severity::error, "IVDS-R017", conflict.label, text_of(conflict),
            conflict.host.empty() ? "delete the key, or write there what registry.proto says" : kShareConflictFix);
    for (const NotTaken& each : not_taken_)
        add(Finding::Severity::error, "IVDS-R020", each.label,
            fmt::format("it is not in force here as its host shares it: {}", each.error.what), each.error.fix);
    for (const ForeignMembers& each : foreign_members_)
        add(Finding::Severity::warning, "IVDS-R021", "vport_pool " + each.key.pool,
            fmt::format("members of host {} are of network {}, and those here of {}: they are not taken",
                        each.key.host, each.network, each.here),
            "give one of the two pools another name");
    if (listed_ && model_ != nullptr) {
        const Model& model = *model_;
        for_each_shared_kind([&](auto kind) {
            if constexpr (kind.kind != pb::VPORT_POOL)
                for (const auto& [name, object] : model.shared.*kind.shared)
                    if (mirror_.sharer(SharedKey{kind.kind, name}).empty())
                        add(Finding::Severity::warning, "IVDS-R019", fmt::format("{} {}", kind.label, name),
                            fmt::format("host {} shares it no more, or in a way that is not understood; what it "
                                        "last was stays in force, as it is in use here",
                                        object->shared_by()),
                            "define it here, have a host share it, or take its name out of rules and vPorts");
        });
        std::set<std::string> told;
        for (const OwnedRule& owned : all_rules(model)) {
            const auto pool = model.vport_pools.find(owned.rule->to_pool());
            if (pool == model.vport_pools.end() || !pool->second->vports().empty() ||
                !told.insert(pool->first).second)
                continue;
            add(Finding::Severity::warning, "IVDS-R022", "vport_pool " + pool->first,
                fmt::format("it has no vPorts here, and {} on other hosts, to which nothing is redirected: what "
                            "rules lead to it is dropped",
                            pool->second->members_size()),
                "define it here, shared and with vPorts of this host");
        }
    }
    if (!mirror_.refused().empty()) {
        std::string keys;
        std::size_t told = 0;
        for (const auto& [key, refused] : mirror_.refused()) {
            if (told++ == kToldKeys) break;
            keys += fmt::format("{}{} ({}: {})", keys.empty() ? "" : ", ", key, to_text(refused.why), refused.text);
        }
        add(Finding::Severity::warning, "IVDS-R004", "registry",
            fmt::format("{}{} keys are not understood, and nothing comes of them: {}{}", mirror_.refused().size(),
                        mirror_.refused().size() == kMaxRefused ? " or more" : "", keys,
                        told > kToldKeys ? ", …" : ""),
            "whoever wrote them keeps to layout 1, or to a prefix of its own");
    }
    for (const Unusable& each : unusable_)
        if (each.is_over)
            add(Finding::Severity::error, "IVDS-R016", each.instance, text_of(each),
                "raise max_peers of the instance, or take its V.VLAN from a host that does not need it");
        else
            add(Finding::Severity::warning, "IVDS-R005", each.instance, text_of(each),
                "add the VLAN to the instance's peer_vlans, or have the binding's owner right it");
    if (model_ != nullptr)
        for (const AddressClash& each : address_clashes(*model_, mirror_, claims_, settings_.host))
            add(Finding::Severity::warning, "IVDS-R023", each.instance,
                fmt::format("address {} is claimed twice in its network: by {} and by {}{}", each.address,
                            owner_text(each.one), owner_text(each.other),
                            model_->instances.at(each.instance)->answer_neighbours()
                                ? "; the switch answers nobody who asks for it"
                                : ""),
                "take it out of the addresses of the vPort whose VM does not have it");
    if (sink_error_)
        add(Finding::Severity::error, "IVDS-R006", "registry", "remote MACs are not in the FDB: " + sink_error_->what,
            sink_error_->fix);
    return out;
}

std::uint64_t Registry::bindings_of(const std::string& tenant) const {
    const std::lock_guard lock(mutex_);
    return claims_of_tenant(claims_, tenant) + mirror_.others_of(tenant);
}

Result<pb::HostsReply> Registry::hosts() const {
    const std::lock_guard lock(mutex_);
    if (!listed_)
        return fail(Code::unavailable, "IVDS-R009",
                    fmt::format("the registry is {}{}: which hosts there are is not known", state_,
                                reason_ ? " (" + reason_->what + ")" : ""),
                    "call again once `ivds-ctl doctor` says that it is synced");
    std::map<std::string, pb::HostState> hosts;
    for (const auto& [name, host] : mirror_.hosts()) {
        pb::HostState& out = hosts[name];
        if (is_host_port(host.address())) out.set_address(host.address());
        out.set_version(host.version());
        out.set_self(name == settings_.host);
    }
    // Of a host without an agent a controller may have told what it has.
    for (const auto& [key, entry] : mirror_.instances()) {
        pb::HostState::Instance& out = *hosts[key.host].add_instances();
        out.set_name(key.name);
        out.set_network(entry.instance.network());
        out.set_vvlan(entry.instance.vvlan());
        out.set_vlan(entry.instance.vlan());
        *out.mutable_peer_vlans() = entry.instance.peer_vlans();
        out.set_tenant(entry.instance.tenant());
    }
    pb::HostsReply reply;
    for (auto& [name, host] : hosts) {
        host.set_name(name);
        *reply.add_hosts() = std::move(host);
    }
    return reply;
}

State Registry::state() const {
    const std::lock_guard lock(mutex_);
    State out;
    out.state = state_;
    if (reason_) out.reason = reason_->text();
    out.endpoint = endpoint_;
    out.host = settings_.host;
    out.lease = lease_;
    out.revision = revision_;
    out.own_bindings = mirror_.own();
    out.other_bindings = mirror_.others();
    for (const auto& [instance, list] : remotes_) out.remote_macs += list->size();
    out.own_shared = static_cast<std::uint64_t>(
        std::ranges::count_if(shares_, [](const Share& each) { return !each.key.starts_with(kInstances); }));
    out.other_shared = mirror_.others_shared();
    out.pending = mirror_.publication(claims_, lease_, shares_).steps.size();
    out.refused_keys = mirror_.refused_total();
    out.writes = writes_;
    out.resyncs = resyncs_;
    for (const auto& [name, host] : mirror_.hosts()) out.hosts.push_back(name);
    return out;
}

}  // namespace ivds::fabric
