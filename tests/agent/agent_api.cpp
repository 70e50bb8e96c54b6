// SPDX-License-Identifier: Apache-2.0
// The agent's process from outside: what it answers, what it leaves behind, how it comes back. The test moves itself
// into mount and network namespaces of its own, which end with it.
#include <fcntl.h>
#include <fmt/format.h>
#include <grpcpp/grpcpp.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch_session.hpp>
#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <functional>
#include <sstream>
#include <thread>

#include "agent/store.h"
#include "api/codec.h"
#include "api/status.h"
#include "loader/switch.h"

using namespace ivds;
using Catch::Matchers::ContainsSubstring;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

namespace {

void sh(const std::string& command) {
    INFO(command);
    REQUIRE(std::system(command.c_str()) == 0);
}

bool eventually(const std::function<bool()>& done, milliseconds limit = milliseconds(10'000)) {
    const auto end = steady_clock::now() + limit;
    while (!done()) {
        if (steady_clock::now() > end) return false;
        std::this_thread::sleep_for(milliseconds(10));
    }
    return true;
}

std::string slurp(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

// A switch of its own: pin root, state directory, interfaces. One at a time.
class Scene {
public:
    Scene() {
        std::string name = "/tmp/ivds-agent-api-XXXXXX";
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        dir_ = name;
        static int serial = 0;
        root_ = fmt::format("/sys/fs/bpf/scene{}", ++serial);
        REQUIRE(::mkdir(root_.c_str(), 0755) == 0);
        for (const char* interface : {"v1", "v2", "v3", "up0"}) add(interface);
    }
    ~Scene() {
        if (pid_ > 0) end(SIGKILL);
        for (const char* interface : {"v1", "v2", "v3", "up0"})
            (void)std::system(fmt::format("ip link del {} 2>/dev/null", interface).c_str());
        std::filesystem::remove_all(dir_);
    }
    Scene(const Scene&) = delete;
    Scene& operator=(const Scene&) = delete;

    void add(const std::string& interface) const {
        sh(fmt::format("ip link add {0} type veth peer name {0}p && ip link set {0} up && ip link set {0}p up",
                       interface));
    }

    // Starts the agent and waits until it answers, or has ended.
    void start(const std::vector<std::string>& more = {}) {
        std::vector<std::string> words = {IVDSD, "--socket", socket(), "--root", root_, "--state-dir", state()};
        words.insert(words.end(), more.begin(), more.end());
        std::filesystem::remove(socket());  // of an agent that was killed
        pid_ = ::fork();
        REQUIRE(pid_ >= 0);
        if (pid_ == 0) {
            const int log = ::open((dir_ + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600);
            ::dup2(log, 2);
            std::vector<char*> arguments;
            for (std::string& word : words) arguments.push_back(word.data());
            arguments.push_back(nullptr);
            ::execv(IVDSD, arguments.data());
            ::_exit(127);
        }
        // A client that comes too early waits a second before it tries again.
        REQUIRE(eventually([&] { return ended() || std::filesystem::exists(socket()); }, milliseconds(30'000)));
        channel_ = grpc::CreateChannel("unix:" + socket(), grpc::InsecureChannelCredentials());
        stub_ = pb::Switch::NewStub(channel_);
        REQUIRE(eventually([&] { return ended() || answers(); }, milliseconds(30'000)));
    }
    [[nodiscard]] bool answers() const {
        grpc::ClientContext context;
        context.set_deadline(std::chrono::system_clock::now() + milliseconds(500));
        pb::StatusReply reply;
        return stub_->Status(&context, {}, &reply).ok();
    }
    // Whether the process is gone by itself; code() then is its exit code.
    bool ended() {
        if (pid_ <= 0) return true;
        if (::waitpid(pid_, &status_, WNOHANG) != pid_) return false;
        pid_ = 0;
        return true;
    }
    void end(int signal) {
        ::kill(pid_, signal);
        ::waitpid(pid_, &status_, 0);
        pid_ = 0;
    }
    [[nodiscard]] int code() const { return WIFEXITED(status_) ? WEXITSTATUS(status_) : -1; }

    // A call that must succeed, and one that must fail.
    template <class Request, class Reply>
    Reply ok(grpc::Status (pb::Switch::Stub::*call)(grpc::ClientContext*, const Request&, Reply*),
             const Request& request) {
        grpc::ClientContext context;
        Reply reply;
        const grpc::Status status = (stub_.get()->*call)(&context, request, &reply);
        INFO(status.error_message());
        REQUIRE(status.ok());
        return reply;
    }
    template <class Request, class Reply>
    Error error(grpc::Status (pb::Switch::Stub::*call)(grpc::ClientContext*, const Request&, Reply*),
                const Request& request, grpc::StatusCode code) {
        grpc::ClientContext context;
        Reply reply;
        const grpc::Status status = (stub_.get()->*call)(&context, request, &reply);
        REQUIRE(!status.ok());
        CHECK(status.error_code() == code);
        Error error = from_status(context, status);
        CHECK(status.error_message() == error.text());
        return error;
    }
    pb::ApplyReply apply(const std::string& text) { return ok(&pb::Switch::Stub::Apply, request(text)); }
    static pb::ApplyRequest request(const std::string& text) {
        pb::ApplyRequest request;
        *request.mutable_config() = config_from_yaml(text, "t").value();
        return request;
    }
    pb::StatusReply status() { return ok(&pb::Switch::Stub::Status, pb::StatusRequest()); }
    pb::PortState port(const std::string& name) {
        const pb::StatusReply reply = status();
        const auto found = std::ranges::find(reply.ports(), name, &pb::PortState::name);
        REQUIRE(found != reply.ports().end());
        return *found;
    }

    [[nodiscard]] pb::Switch::Stub& stub() { return *stub_; }
    [[nodiscard]] std::string socket() const { return dir_ + "/socket"; }
    [[nodiscard]] std::string state() const { return dir_ + "/state"; }
    [[nodiscard]] std::string log() const { return slurp(dir_ + "/log"); }
    [[nodiscard]] const std::string& root() const { return root_; }

private:
    std::string dir_;
    std::string root_;
    pid_t pid_ = 0;
    int status_ = 0;
    std::shared_ptr<grpc::Channel> channel_;
    std::unique_ptr<pb::Switch::Stub> stub_;
};

const std::string kHost = R"(
uplinks: [{name: up, netdev: up0}]
vmac_pools: [{name: pool, uplink: up}]
instances:
- {name: blue, tenant: a, uplink: up, vlan: 10, scope: distributed, fdb: [{mac: "02:00:00:00:00:99", vlan: 10}]}
- {name: red, tenant: b, uplink: up, vlan: 10}
vnics: [{name: n1, pool: pool}, {name: n2, pool: pool}, {name: n3, vmac: "02:00:00:00:00:03"}]
vports:
- {name: p1, netdev: v1, vnic: n1, instance: blue}
- {name: p2, netdev: v2, vnic: n2, instance: blue}
- {name: p3, netdev: v3, vnic: n3, instance: red}
)";

}  // namespace

TEST_CASE("apply over the socket: ports come up, export gives it back, and again changes nothing",
          "[R41][R55][R142]") {
    Scene scene;
    scene.start();
    struct stat info{};
    REQUIRE(::stat(scene.socket().c_str(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0660);

    const pb::ApplyReply reply = scene.apply(kHost);
    CHECK(reply.changes_size() == 10);
    CHECK(reply.findings().empty());
    for (const char* name : {"up", "p1", "p2", "p3"}) {
        const pb::PortState port = scene.port(name);
        CAPTURE(name, port.reason());
        CHECK(port.up());
        CHECK(port.got() != "none");
        CHECK(port.ifindex() != 0);
    }
    CHECK(scene.port("p1").vmac() != scene.port("p2").vmac());

    const pb::Config exported = scene.ok(&pb::Switch::Stub::Export, pb::ExportRequest());
    CHECK(scene.apply(to_yaml(exported)).changes().empty());
    CHECK(scene.apply(kHost).changes().empty());
    CHECK(scene.status().generation() == reply.generation());

    const pb::StatusReply status = scene.status();
    REQUIRE(status.instances_size() == 2);
    CHECK(status.instances(0).state() == "active");
    CHECK(status.instances(0).vports() == 2);
    CHECK(status.uptime_s() > 0);
    CHECK(status.layout_major() == IVDS_LAYOUT_MAJOR);
}

TEST_CASE("the FDB over the socket holds the static MACs of ports and lists") {
    Scene scene;
    scene.start();
    scene.apply(kHost);
    const auto read = [&](const std::string& instance, const std::string& port) {
        pb::FdbRequest request;
        request.set_instance(instance);
        request.set_port(port);
        grpc::ClientContext context;
        auto reader = scene.stub().Fdb(&context, request);
        std::map<std::string, pb::FdbEntry> entries;
        for (pb::FdbEntry entry; reader->Read(&entry);) entries[entry.mac()] = entry;
        REQUIRE(reader->Finish().ok());
        return entries;
    };
    const auto blue = read("blue", "");
    REQUIRE(blue.size() == 3);
    CHECK(blue.at("02:00:00:00:00:99").port() == "up");
    CHECK(blue.at("02:00:00:00:00:99").vlan() == 10);
    CHECK(blue.at("02:00:00:00:00:99").static_());
    CHECK(read("", "p3").size() == 1);
    CHECK(read("", "").size() == 4);

    pb::FdbRequest wrong;
    wrong.set_instance("no");
    grpc::ClientContext context;
    auto reader = scene.stub().Fdb(&context, wrong);
    pb::FdbEntry entry;
    CHECK(!reader->Read(&entry));
    CHECK(reader->Finish().error_code() == grpc::StatusCode::NOT_FOUND);
}

TEST_CASE("errors arrive whole, and a refused file changes nothing", "[R41]") {
    Scene scene;
    scene.start();
    scene.apply(kHost);
    const auto generation = scene.status().generation();
    const Error invalid = scene.error(&pb::Switch::Stub::Apply, Scene::request("vnics: [{name: n}]"),
                                      grpc::StatusCode::INVALID_ARGUMENT);
    CHECK(invalid.code == Code::invalid);
    CHECK(invalid.id == "IVDS-M002");
    CHECK_THAT(invalid.what, ContainsSubstring("vnic n"));
    CHECK(!invalid.fix.empty());

    pb::Ref ref;
    ref.set_kind(pb::INSTANCE);
    ref.set_name("blue");
    CHECK(scene.error(&pb::Switch::Stub::Delete, ref, grpc::StatusCode::FAILED_PRECONDITION).code == Code::conflict);
    ref.set_name("no");
    CHECK(scene.error(&pb::Switch::Stub::Get, ref, grpc::StatusCode::NOT_FOUND).code == Code::not_found);
    pb::PutRequest put;
    put.mutable_object()->mutable_vnic()->set_name("n3");
    put.mutable_object()->mutable_vnic()->set_vmac("02:00:00:00:00:04");
    CHECK(scene.error(&pb::Switch::Stub::Create, put, grpc::StatusCode::ALREADY_EXISTS).id == "IVDS-M026");
    CHECK(scene.status().generation() == generation);
}

TEST_CASE("strict fails on an interface that is away and leaves nothing; else the port waits for it", "[R41][R50]") {
    Scene scene;
    scene.start();
    scene.apply(kHost);
    const std::string more = "vports: [{name: p4, netdev: nowhere}]\n";
    pb::ApplyRequest strict = Scene::request(more);
    strict.set_strict(true);
    grpc::ClientContext context;
    pb::ApplyReply reply;
    CHECK(!scene.stub().Apply(&context, strict, &reply).ok());
    CHECK(scene.status().ports_size() == 4);
    CHECK(scene.port("p1").up());

    const pb::ApplyReply applied = scene.apply(more);
    REQUIRE(applied.findings_size() == 1);
    CHECK(applied.findings(0).object() == "p4");
    scene.add("nowhere");
    CHECK(eventually([&] { return scene.port("p4").up(); }));
    sh("ip link del nowhere");
    CHECK(eventually([&] { return !scene.port("p4").up(); }));
}

TEST_CASE("kill -9 and a restart: the same ids, links and generation", "[R4][R83]") {
    Scene scene;
    scene.start();
    scene.apply(kHost);
    const pb::StatusReply before = scene.status();
    scene.end(SIGKILL);
    auto maps = MapsView::open(scene.root());
    REQUIRE(maps);
    for (const pb::PortState& port : before.ports()) CHECK((maps->port(port.id())->flags & IVDS_PF_UP) != 0);

    scene.start();
    const pb::StatusReply after = scene.status();
    CHECK(after.generation() == before.generation());
    REQUIRE(after.ports_size() == before.ports_size());
    for (int i = 0; i < before.ports_size(); ++i) {
        CHECK(after.ports(i).name() == before.ports(i).name());
        CHECK(after.ports(i).id() == before.ports(i).id());
        CHECK(after.ports(i).got() == before.ports(i).got());
        CHECK(after.ports(i).vmac() == before.ports(i).vmac());
        CHECK(after.ports(i).up());
    }
}

TEST_CASE("an acknowledged change survives kill -9 at once after it", "[R83]") {
    Scene scene;
    scene.start();
    scene.apply(kHost);
    pb::PutRequest put;
    put.mutable_object()->mutable_instance()->set_name("green");
    (void)scene.ok(&pb::Switch::Stub::Create, put);
    scene.end(SIGKILL);
    scene.start();
    pb::Ref ref;
    ref.set_kind(pb::INSTANCE);
    ref.set_name("green");
    CHECK(scene.ok(&pb::Switch::Stub::Get, ref).instance().name() == "green");
}

TEST_CASE("SIGTERM ends the agent with its followers, exit code 0, and the tables for the next boot are right") {
    Scene scene;
    scene.start();
    scene.apply(kHost);
    grpc::ClientContext context;
    pb::EventsRequest follow;
    follow.set_follow(true);
    auto reader = scene.stub().Events(&context, follow);
    pb::Event event;
    REQUIRE(reader->Read(&event));
    pb::PutRequest put;
    put.mutable_object()->mutable_instance()->set_name("green");
    (void)scene.ok(&pb::Switch::Stub::Create, put);
    scene.end(SIGTERM);
    CHECK(scene.code() == 0);
    while (reader->Read(&event)) {
    }
    (void)reader->Finish();
    CHECK(!std::filesystem::exists(scene.socket()));
    const auto tables = load_tables(tables_path(scene.state()));
    REQUIRE(tables);
    CHECK(tables->ports.size() == 4);
    CHECK(std::ranges::any_of(tables->instances, [](const auto& entry) { return entry.second.name == "green"; }));
    auto maps = MapsView::open(scene.root());
    REQUIRE(maps);
    for (const auto& [id, row] : tables->ports) CHECK((maps->port(id)->flags & IVDS_PF_UP) != 0);
}

TEST_CASE("a follower hears of an interface that goes and comes back", "[R50][R150]") {
    Scene scene;
    scene.start();
    scene.apply(kHost);
    grpc::ClientContext context;
    context.set_deadline(std::chrono::system_clock::now() + std::chrono::seconds(20));
    pb::EventsRequest follow;
    follow.set_follow(true);
    auto reader = scene.stub().Events(&context, follow);
    const auto wait_for = [&](const std::string& kind, const std::string& port) {
        for (pb::Event event; reader->Read(&event);)
            if (event.kind() == kind && event.port() == port) return true;
        return false;
    };
    REQUIRE(wait_for("port_up", "p1"));
    sh("ip link del v1");
    REQUIRE(wait_for("port_down", "p1"));
    scene.add("v1");
    REQUIRE(wait_for("port_up", "p1"));
    context.TryCancel();
    for (pb::Event event; reader->Read(&event);) {
    }
    (void)reader->Finish();
}

TEST_CASE("a second agent on the same pins is refused, and the first goes on") {
    Scene scene;
    scene.start();
    scene.apply(kHost);
    const std::string command = fmt::format("{} --socket {}.2 --root {} --state-dir {}2 2> {}.err", IVDSD,
                                            scene.socket(), scene.root(), scene.state(), scene.socket());
    CHECK(WEXITSTATUS(std::system(command.c_str())) == 1);
    CHECK_THAT(slurp(scene.socket() + ".err"), ContainsSubstring("[IVDS-"));
    CHECK(scene.port("p1").up());
}

TEST_CASE(
    "a damaged state refuses the start and names the file; --discard-state sets it aside, and the file brings all "
    "back without a flap") {
    Scene scene;
    scene.start();
    scene.apply(kHost);
    const pb::StatusReply before = scene.status();
    const pb::Config exported = scene.ok(&pb::Switch::Stub::Export, pb::ExportRequest());
    scene.end(SIGTERM);
    {
        std::fstream file(intent_path(scene.state()), std::ios::in | std::ios::out | std::ios::binary);
        file.seekp(40);
        file.put('\x7f');
    }
    const std::string damaged = slurp(intent_path(scene.state()));
    scene.start();
    CHECK(scene.ended());
    CHECK(scene.code() == 1);
    CHECK_THAT(scene.log(), ContainsSubstring(intent_path(scene.state())) && ContainsSubstring("IVDS-S001"));
    CHECK(slurp(intent_path(scene.state())) == damaged);

    scene.start({"--discard-state"});
    REQUIRE(!scene.ended());
    CHECK(slurp(intent_path(scene.state()) + ".damaged") == damaged);
    auto maps = MapsView::open(scene.root());
    REQUIRE(maps);
    for (const pb::PortState& port : before.ports()) CHECK((maps->port(port.id())->flags & IVDS_PF_UP) != 0);
    scene.apply(to_yaml(exported));
    const pb::StatusReply after = scene.status();
    CHECK(after.generation() == before.generation());
    REQUIRE(after.ports_size() == before.ports_size());
    for (int i = 0; i < before.ports_size(); ++i) CHECK(after.ports(i).id() == before.ports(i).id());
}

TEST_CASE("--config is applied at a start without a saved state, and only then") {
    Scene scene;
    const std::string file = scene.socket() + ".yaml";
    std::ofstream(file) << kHost;
    scene.start({"--config", file});
    CHECK(scene.status().ports_size() == 4);
    scene.apply("vnics: [{name: n3, vmac: 02:00:00:00:00:03}]\n");
    scene.end(SIGTERM);
    scene.start({"--config", file});
    CHECK(scene.status().ports_size() == 0);
}

TEST_CASE("clients that change things at once do not lose each other's changes", "[R57]") {
    Scene scene;
    scene.start();
    std::vector<std::thread> clients;
    std::atomic<int> failed = 0;
    for (int c = 0; c < 4; ++c)
        clients.emplace_back([&, c] {
            for (int i = 0; i < 25; ++i) {
                grpc::ClientContext context;
                pb::PutRequest put;
                pb::Object reply;
                put.mutable_object()->mutable_instance()->set_name(fmt::format("c{}-{}", c, i));
                if (!scene.stub().Create(&context, put, &reply).ok()) ++failed;
            }
        });
    for (std::thread& client : clients) client.join();
    CHECK(failed == 0);
    pb::ListRequest list;
    list.set_kind(pb::INSTANCE);
    CHECK(scene.ok(&pb::Switch::Stub::List, list).objects_size() == 100);
    CHECK(load_intent(scene.state()).value()->model.instances.size() == 100);
}

TEST_CASE("a vMAC is reserved and given back over the socket", "[R61]") {
    Scene scene;
    scene.start();
    scene.apply(kHost);
    pb::VmacRequest request;
    request.set_pool("pool");
    const std::string vmac = scene.ok(&pb::Switch::Stub::ReserveVmac, request).vmac();
    request.set_vmac(vmac);
    (void)scene.ok(&pb::Switch::Stub::ReleaseVmac, request);
    request.set_pool("no");
    CHECK(scene.error(&pb::Switch::Stub::ReserveVmac, request, grpc::StatusCode::NOT_FOUND).id == "IVDS-M027");
}

int main(int argc, char** argv) {
    if (::geteuid() != 0 || ::unshare(CLONE_NEWNS | CLONE_NEWNET) != 0) {
        std::puts("SKIP: the agent needs root, and private namespaces");
        return 77;
    }
    // Nothing that is mounted here is seen outside.
    if (::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) != 0 ||
        ::mount("sysfs", "/sys", "sysfs", 0, nullptr) != 0 || ::mount("bpf", "/sys/fs/bpf", "bpf", 0, nullptr) != 0) {
        std::puts("SKIP: no bpffs can be mounted here");
        return 77;
    }
    return Catch::Session().run(argc, argv);
}
