// SPDX-License-Identifier: Apache-2.0
// PFs and VFs as sysfs shows them, on a made-up tree.
#include "offload/apply/nics.h"

#include <unistd.h>

#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>
#include <string>

#include "offload/apply/kernel.h"
#include "offload/apply/regs.h"

namespace fs = std::filesystem;
using namespace ivds::offload;

namespace {

class Tree {
public:
    Tree() {
        std::string name = (fs::temp_directory_path() / "ivds-nics-XXXXXX").string();
        REQUIRE(::mkdtemp(name.data()) != nullptr);
        top_ = name;
    }
    ~Tree() { fs::remove_all(top_); }
    Tree(const Tree&) = delete;
    Tree& operator=(const Tree&) = delete;

    [[nodiscard]] std::string top() const { return top_.string(); }
    [[nodiscard]] fs::path device(const std::string& address) const { return top_ / "bus/pci/devices" / address; }
    void file(const fs::path& path, const std::string& words) const {
        fs::create_directories(path.parent_path());
        std::ofstream(path) << words << '\n';
    }
    void link(const fs::path& path, const std::string& to) const {
        fs::create_directories(path.parent_path());
        fs::create_symlink(to, path);
    }
    void pf(const std::string& address, const std::string& vendor, const std::string& id,
            const std::string& driver) const {
        file(device(address) / "vendor", vendor);
        file(device(address) / "device", id);
        file(device(address) / "sriov_totalvfs", "7");
        file(device(address) / "sriov_numvfs", "0");
        if (!driver.empty()) link(device(address) / "driver", "../../../bus/pci/drivers/" + driver);
    }

private:
    fs::path top_;
};

}  // namespace

TEST_CASE("PFs are found with their VFs, by address and by interface", "[unit]") {
    const Tree tree;
    tree.pf("0000:01:00.0", "0x8086", "0x10c9", "igb");
    const fs::path pf = tree.device("0000:01:00.0");
    tree.file(pf / "net/eth7/carrier", "1");
    tree.file(pf / "net/eth7/flags", "0x1003");
    for (const char* queue : {"rx-0", "tx-0", "tx-1"}) tree.file(pf / "net/eth7/queues" / queue / "x", "");
    tree.file(pf / "msi_irqs/30", "msix");
    tree.file(pf / "sriov_numvfs", "2");
    tree.link(pf / "virtfn0", "../0000:01:10.0");
    tree.link(pf / "virtfn1", "../0000:01:10.2");
    const fs::path vf = tree.device("0000:01:10.0");
    tree.link(vf / "driver", "../../../bus/pci/drivers/igbvf");
    tree.link(vf / "iommu_group", "../../../kernel/iommu_groups/14");
    for (const char* queue : {"rx-0", "rx-1", "tx-0"}) tree.file(vf / "net/eth9/queues" / queue / "x", "");
    for (const char* vector : {"40", "41", "42"}) tree.file(vf / "msi_irqs" / vector, "msix");
    tree.link(tree.device("0000:01:10.2") / "driver", "../../../bus/pci/drivers/vfio-pci");
    tree.file(tree.device("0000:00:03.0") / "vendor", "0x1af4");  // no VFs at all

    const auto all = find_pfs(tree.top());
    REQUIRE(all);
    REQUIRE(all->size() == 1);
    const auto found = find_pf(tree.top(), "eth7");
    REQUIRE(found);
    CHECK(found->address == "0000:01:00.0");
    CHECK(find_pf(tree.top(), "0000:01:00.0")->netdev == "eth7");
    REQUIRE(found->chip != nullptr);
    CHECK(found->chip->name == "82576");
    CHECK(found->link);
    CHECK(found->up);
    CHECK(found->rx_queues == 1);
    CHECK(found->tx_queues == 2);
    CHECK(found->interrupts == 1);
    CHECK(found->total_vfs == 7);
    REQUIRE(found->vfs.size() == 2);
    CHECK(found->vfs[0].address == "0000:01:10.0");
    CHECK(found->vfs[0].driver == "igbvf");
    CHECK(found->vfs[0].netdev == "eth9");
    CHECK(found->vfs[0].rx_queues == 2);
    CHECK(found->vfs[0].tx_queues == 1);
    CHECK(found->vfs[0].interrupts == 3);
    CHECK(found->vfs[0].iommu_group == 14U);
    CHECK(holder_of(found->vfs[0]) == VfHolder::host);
    CHECK(holder_of(found->vfs[1]) == VfHolder::vm);
    CHECK(found->vfs[1].driver == "vfio-pci");
    CHECK(found->vfs[1].netdev.empty());
    CHECK(!found->vfs[1].iommu_group);
    CHECK(find_pf(tree.top(), "eth9").error().id == "IVDS-O018");
}

TEST_CASE("a NIC that no plan can be made for says why", "[unit]") {
    const Tree tree;
    tree.pf("0000:02:00.0", "0x15b3", "0x1015", "mlx5_core");
    tree.pf("0000:03:00.0", "0x8086", "0x1572", "i40e");
    tree.pf("0000:04:00.0", "0x8086", "0x10fb", "vfio-pci");
    tree.pf("0000:05:00.0", "0x8086", "0x10fb", "");
    const auto why = [&](const char* address) {
        const auto pf = find_pf(tree.top(), address);
        REQUIRE(pf);
        CHECK(pf->chip == nullptr);
        CHECK(open_kernel(*pf).error().id == "IVDS-O023");
        return pf->why;
    };
    CHECK(why("0000:02:00.0") == "it is not Intel's (vendor 0x15b3)");
    CHECK(why("0000:03:00.0") == "it is neither an 82599 nor an 82576 (device 0x1572)");
    CHECK(why("0000:04:00.0") ==
          "it is on vfio-pci, a VM's or a program's, and software has no interface on it; ixgbe is needed");
    CHECK(why("0000:05:00.0") == "no driver is bound to it; ixgbe is needed");
}

TEST_CASE("VFs are made within what the NIC has, on an interface that is up, the present ones going first",
          "[unit][R9]") {
    const Tree tree;
    tree.pf("0000:01:00.0", "0x8086", "0x10c9", "igb");
    const fs::path device = tree.device("0000:01:00.0");
    const auto pf = [&] { return find_pf(tree.top(), "0000:01:00.0").value(); };
    CHECK(set_num_vfs(pf(), 4).error().id == "IVDS-O017");  // it has no interface
    CHECK(pf().num_vfs == 0);
    tree.file(device / "net/eth7/flags", "0x1003");
    CHECK(pf().up);
    CHECK(set_num_vfs(pf(), 8).error().id == "IVDS-O017");
    CHECK(pf().num_vfs == 0);
    REQUIRE(set_num_vfs(pf(), 4));
    CHECK(pf().num_vfs == 4);
    REQUIRE(set_num_vfs(pf(), 2));
    CHECK(pf().num_vfs == 2);
    REQUIRE(set_num_vfs(pf(), 0));
    tree.file(device / "net/eth7/flags", "0x1002");
    CHECK(set_num_vfs(pf(), 2).error().id == "IVDS-O017");  // it is down, and cannot be set up
    CHECK(pf().num_vfs == 0);
}

TEST_CASE("VFs that somebody uses are not taken away, and the error says who has which", "[unit][R9]") {
    const Tree tree;
    tree.pf("0000:01:00.0", "0x8086", "0x10c9", "igb");
    const fs::path device = tree.device("0000:01:00.0");
    tree.file(device / "net/eth7/flags", "0x1003");
    tree.file(device / "sriov_numvfs", "1");
    tree.link(device / "virtfn0", "../0000:01:10.0");
    const fs::path vf = tree.device("0000:01:10.0");
    fs::create_directories(vf);
    const auto pf = [&] { return find_pf(tree.top(), "0000:01:00.0").value(); };
    const auto refused = [&](const std::string& why) {
        const auto done = set_num_vfs(pf(), 2);
        REQUIRE(!done);
        CHECK(done.error().id == "IVDS-O025");
        CHECK(done.error().what.find("VF 0 (0000:01:10.0) is in use: " + why) != std::string::npos);
        CHECK(check_num_vfs(pf(), 0).error().id == "IVDS-O025");
        CHECK(check_num_vfs(pf(), 1));
        CHECK(pf().num_vfs == 1);
        fs::remove(vf / "driver");
    };
    tree.link(vf / "driver", "../../../bus/pci/drivers/vfio-pci");
    refused("vfio-pci holds it");
    tree.link(vf / "driver", "../../../bus/pci/drivers/igbvf");
    refused("its interface is in another network namespace");
    tree.link(vf / "driver", "../../../bus/pci/drivers/igbvf");
    tree.file(vf / "net/eth9/flags", "0x1003");
    refused("its interface eth9 is up");
    tree.link(vf / "driver", "../../../bus/pci/drivers/igbvf");
    tree.file(vf / "net/eth9/flags", "0x1002");
    CHECK(holder_of(pf().vfs.at(0)) == VfHolder::host);
    REQUIRE(set_num_vfs(pf(), 0));
}

TEST_CASE("registers that are out of reach are refused with the reason of each way", "[unit][R192]") {
    const Tree tree;
    tree.pf("0000:01:00.0", "0x8086", "0x10c9", "igb");
    const auto open = open_registers(tree.device("0000:01:00.0").string(), tree.top());
    REQUIRE(!open);
    CHECK(open.error().id == "IVDS-O016");
    CHECK(open.error().what.find("resource0: there is no such file") != std::string::npos);
    CHECK(open.error().what.find("reg_ops: the driver has none") != std::string::npos);
    CHECK(open.error().what.find("vfio: igb is bound to it") != std::string::npos);
    // A file does as a BAR.
    tree.file(tree.device("0000:01:00.0") / "resource0", std::string(0x100, '\0'));
    fs::resize_file(tree.device("0000:01:00.0") / "resource0", 0x20000);
    const auto bar = open_registers(tree.device("0000:01:00.0").string(), tree.top());
    REQUIRE(bar);
    CHECK(bar->way == "BAR0 by resource0");
    REQUIRE(bar->refused.size() == 2);
    REQUIRE(bar->registers->write(0x5400, 0x12345678));
    CHECK(bar->registers->read(0x5400) == 0x12345678);
    CHECK(bar->registers->read(0x20000).error().id == "IVDS-O015");
    CHECK(bar->registers->write(0x5401, 0).error().id == "IVDS-O015");
    // On vfio-pci, without an IOMMU, and in a group that nobody has.
    tree.pf("0000:02:00.0", "0x8086", "0x10fb", "vfio-pci");
    const auto asleep = open_registers(tree.device("0000:02:00.0").string(), tree.top());
    REQUIRE(!asleep);
    CHECK(asleep.error().what.find("vfio: it is in no IOMMU group") != std::string::npos);
    tree.link(tree.device("0000:02:00.0") / "iommu_group", "../../../kernel/iommu_groups/99999");
    const auto away = open_registers(tree.device("0000:02:00.0").string(), tree.top());
    REQUIRE(!away);
    CHECK(away.error().what.find("vfio: /dev/vfio/") != std::string::npos);
}
