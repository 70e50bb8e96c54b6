// SPDX-License-Identifier: Apache-2.0
// loader_tables.cpp -- MACs, modes and the saved state.
#include <rapidcheck.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "plan.h"
#include "tables.h"

using namespace ivds;

namespace {

class Folder {
public:
    Folder() {
        std::string name = (std::filesystem::temp_directory_path() / "ivds-tables-XXXXXX").string();
        path_ = ::mkdtemp(name.data());
    }
    ~Folder() { std::filesystem::remove_all(path_); }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    [[nodiscard]] std::string file() const { return path_ + "/tables.state"; }
    [[nodiscard]] const std::string& path() const { return path_; }

private:
    std::string path_;
};

Tables sample() {
    Tables tables;
    auto& port = tables.ports[3];
    port.name = "web";
    port.netdev = "tap0";
    port.wanted = AttachMode::tcx;
    port.value.kind = IVDS_PORT_VPORT;
    port.value.instance = 9;
    port.value.mtu_bytes = 9000;
    port.macs = {Mac{2, 0, 0, 0, 0, 1}, Mac{2, 0, 0, 0, 0, 2}};
    tables.ports[5].name = "up";
    tables.ports[5].value.kind = IVDS_PORT_UPLINK;
    auto& instance = tables.instances[9];
    instance.name = "tenant";
    instance.value.vlan = 100;
    instance.value.peer_vlans[0] = 101;
    instance.fdb =
        std::make_shared<const std::vector<StaticMac>>(std::vector<StaticMac>{{Mac{2, 1, 1, 1, 1, 1}, 5, 101}});
    instance.neighbours = std::make_shared<const std::vector<Neighbour>>(
        std::vector<Neighbour>{{{0xfd, 1}, Mac{2, 1, 1, 1, 1, 1}}, {{0xfe, 0x80}, Mac{2, 0, 0, 0, 0, 1}}});
    tables.instances[10].name = "empty";
    tables.vvlans[{5, 100, 0}] = 0;
    tables.vvlans[{5, 100, 7}] = 9;
    tables.peer_rates[{9, 100}].rate[IVDS_WAY_OUT] = {.ns_per_mib = 5, .burst_ns = 6};
    AclRow list;
    list.default_action = IVDS_ACL_DROP;
    list.masks.resize(2);
    list.masks[1].fields.proto = 0xff;
    list.masks[1].first = 1;
    ivds_acl_key key{};
    key.fields.proto = 6;
    key.mask = 1;
    list.rules = {{ivds_acl_key{}, {0, 17, 0, 0, IVDS_ACL_ALLOW, IVDS_ACL_LOG, {}}},
                  {key, {1, 18, IVDS_TARGET_POOL | 6, 3, IVDS_ACL_REDIRECT, IVDS_ACL_STATEFUL, {}}}};
    tables.acls[3] = std::make_shared<const AclRow>();
    tables.acls[4] = std::make_shared<const AclRow>(std::move(list));
    tables.ports[3].value.acl_out = 4;
    tables.pools[6].name = "filters";
    tables.pools[6].value.count = 1;
    tables.pools[6].value.member[0] = 3;
    auto& patch = tables.ports[11];
    patch.name = "patch";
    patch.value.kind = IVDS_PORT_PATCH;
    patch.value.flags = IVDS_PF_UP;
    patch.value.peer = 12;
    return tables;
}

bool same(const Tables& a, const Tables& b) {
    const auto same_list = [](const auto& x, const auto& y) {
        return x.first == y.first && same(*rows_of(0, *x.second), *rows_of(0, *y.second));
    };
    if (!std::ranges::equal(a.acls, b.acls, same_list) || a.vvlans != b.vvlans || a.ports.size() != b.ports.size() ||
        a.instances.size() != b.instances.size()) {
        return false;
    }
    for (const auto& [id, row] : a.ports) {
        const auto other = b.ports.find(id);
        if (other == b.ports.end() || row.name != other->second.name || row.netdev != other->second.netdev ||
            row.wanted != other->second.wanted || row.macs != other->second.macs ||
            std::memcmp(&row.value, &other->second.value, sizeof(row.value)) != 0) {
            return false;
        }
    }
    const auto same_pool = [](const auto& x, const auto& y) {
        return x.first == y.first && x.second.name == y.second.name &&
               std::memcmp(&x.second.value, &y.second.value, sizeof(x.second.value)) == 0;
    };
    const auto same_rates = [](const auto& x, const auto& y) {
        return x.first == y.first && std::memcmp(&x.second, &y.second, sizeof(x.second)) == 0;
    };
    if (!std::ranges::equal(a.pools, b.pools, same_pool) ||
        !std::ranges::equal(a.peer_rates, b.peer_rates, same_rates)) {
        return false;
    }
    for (const auto& [id, row] : a.instances) {
        const auto other = b.instances.find(id);
        static const std::vector<StaticMac> none;
        static const std::vector<Neighbour> nobody;
        if (other == b.instances.end() || row.name != other->second.name ||
            std::memcmp(&row.value, &other->second.value, sizeof(row.value)) != 0 ||
            (row.fdb ? *row.fdb : none) != (other->second.fdb ? *other->second.fdb : none) ||
            (row.neighbours ? *row.neighbours : nobody) !=
                (other->second.neighbours ? *other->second.neighbours : nobody)) {
            return false;
        }
    }
    return true;
}

std::string read(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}
void write(const std::string& path, const std::string& bytes) {
    std::ofstream(path, std::ios::binary | std::ios::trunc)
        .write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}

}  // namespace

TEST_CASE("a MAC is read in either case and written in lower") {
    const auto mac = parse_mac("02:00:5E:ab:CD:0f");
    REQUIRE(mac);
    CHECK(format_mac(*mac) == "02:00:5e:ab:cd:0f");
    for (const char* wrong : {"", "02:00:5e:ab:cd", "02:00:5e:ab:cd:0", "02-00-5e-ab-cd-0f", "02:00:5e:ab:cd:0g",
                              "02:00:5e:ab:cd:0f:", " 2:00:5e:ab:cd:0f"}) {
        const auto r = parse_mac(wrong);
        REQUIRE_FALSE(r);
        CHECK(r.error().code == Code::invalid);
    }
}

TEST_CASE("every MAC survives as text") {
    CHECK(rc::check([](const Mac& mac) { RC_ASSERT(parse_mac(format_mac(mac)).value() == mac); }));
}

TEST_CASE("attach modes have names") {
    for (const char* name : {"auto", "native", "generic", "tcx", "clsact"}) {
        const auto mode = parse_attach_mode(name);
        REQUIRE(mode);
        CHECK(to_string(*mode) == name);
    }
    CHECK_FALSE(parse_attach_mode("offload"));
}

TEST_CASE("a saved state reads back as it was, and replaces the one before") {
    const Folder folder;
    REQUIRE(save_tables(folder.file(), Tables{}));
    REQUIRE(save_tables(folder.file(), sample()));
    const auto loaded = load_tables(folder.file());
    INFO((loaded ? "" : loaded.error().text()));
    REQUIRE(loaded);
    CHECK(same(*loaded, sample()));
    CHECK(std::distance(std::filesystem::directory_iterator(folder.path()), {}) == 1);
    struct stat info{};
    REQUIRE(::stat(folder.file().c_str(), &info) == 0);
    CHECK((info.st_mode & 0777) == 0600);
}

TEST_CASE("a saved state that is not there is not found; one that cannot be written names the file") {
    const Folder folder;
    const auto r = load_tables(folder.file());
    REQUIRE_FALSE(r);
    CHECK(r.error().code == Code::not_found);
    const auto w = save_tables(folder.path() + "/none/tables.state", sample());
    REQUIRE_FALSE(w);
    CHECK(w.error().what.find("none/tables.state") != std::string::npos);
}

TEST_CASE("a saved state cut at any byte is refused, never half read") {
    const Folder folder;
    REQUIRE(save_tables(folder.file(), sample()));
    const auto bytes = read(folder.file());
    for (std::size_t size = 0; size < bytes.size(); ++size) {
        write(folder.file(), bytes.substr(0, size));
        const auto r = load_tables(folder.file());
        INFO("cut at " << size);
        REQUIRE_FALSE(r);
        CHECK(r.error().what.find(folder.file()) != std::string::npos);
    }
}

TEST_CASE("a saved state with any byte changed is refused") {
    const Folder folder;
    REQUIRE(save_tables(folder.file(), sample()));
    const auto bytes = read(folder.file());
    for (std::size_t at = 0; at < bytes.size(); ++at) {
        auto broken = bytes;
        broken[at] = static_cast<char>(broken[at] ^ 0x10);
        write(folder.file(), broken);
        INFO("byte " << at);
        CHECK_FALSE(load_tables(folder.file()));
    }
}

TEST_CASE("a saved state whose counts exceed what is there is refused, also with the right checksum") {
    const Folder folder;
    REQUIRE(save_tables(folder.file(), sample()));
    const auto bytes = read(folder.file());
    constexpr std::size_t header = 40;
    constexpr std::size_t crc_at = 28;
    const auto load_with = [&](std::size_t at, std::uint32_t number) {
        auto broken = bytes;
        std::memcpy(broken.data() + at, &number, sizeof(number));
        const auto crc = static_cast<std::uint32_t>(
            ::crc32_z(0, reinterpret_cast<const unsigned char*>(broken.data()) + header, broken.size() - header));
        std::memcpy(broken.data() + crc_at, &crc, sizeof(crc));
        write(folder.file(), broken);
        return load_tables(folder.file());
    };
    // From the end: the count of mirrors, the last list's two rules, their count, two masks, their count, the
    // default, the id.
    const auto rules = bytes.size() - 4 - 2 * (sizeof(ivds_acl_key) + sizeof(ivds_acl_rule)) - 4;
    const auto masks = rules - 2 * sizeof(ivds_acl_mask) - 4;
    const auto lists = masks - 1 - 4 - (4 + 1 + 4 + 4) - 4;
    for (const auto at : {rules, masks, lists}) {
        INFO("at " << at);
        std::uint32_t count = 0;
        std::memcpy(&count, bytes.data() + at, sizeof(count));
        REQUIRE(count == 2);
        CHECK(load_with(at, 2));
        for (const std::uint32_t number : {0u, 1u, 3u, 0x7fffffffu, 0xffffffffu}) {
            const auto r = load_with(at, number);
            REQUIRE_FALSE(r);
            CHECK(r.error().what.find("contradicts itself") != std::string::npos);
        }
    }
}

TEST_CASE("mirrors, and the sizes of their rings, come back from the file as they were") {
    const Folder folder;
    Tables tables = sample();
    tables.mirrors[3].name = "watch";
    tables.mirrors[3].value.kind = IVDS_MIRROR_RING;
    tables.mirrors[3].value.snap_bytes = 128;
    tables.mirrors[3].ring_bytes = 65536;
    REQUIRE(save_tables(folder.file(), tables));
    const auto loaded = load_tables(folder.file());
    REQUIRE(loaded);
    REQUIRE(loaded->mirrors.size() == 1);
    const MirrorRow& row = loaded->mirrors.at(3);
    CHECK(row.name == "watch");
    CHECK(row.value.kind == IVDS_MIRROR_RING);
    CHECK(row.value.snap_bytes == 128);
    CHECK(row.ring_bytes == 65536);
}

TEST_CASE("an error's line holds cause, reason, id and fix") {
    const auto r = os_error(-2, "IVDS-X001", "open a file", "make it");
    CHECK(r.error().text() == "open a file: No such file or directory [IVDS-X001]; make it");
    CHECK(r.error().in("at boot").text() == "at boot: open a file: No such file or directory [IVDS-X001]; make it");
    CHECK(r.error().os_errno == 2);
    CHECK(fail(Code::busy, "", "taken").error().text() == "taken");
}
