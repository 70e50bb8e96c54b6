// SPDX-License-Identifier: Apache-2.0
#include "apply/nics.h"

#include <fmt/format.h>
#include <net/if.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <fstream>

#include "loader/fd.h"
#include "nic/82576.h"
#include "nic/82599.h"

namespace ivds::offload {

namespace fs = std::filesystem;

namespace {

std::string line_of(const fs::path& file) {
    std::ifstream in(file);
    std::string line;
    std::getline(in, line);
    return line;
}

std::optional<unsigned> number_in(const fs::path& file, int base = 10) {
    std::string line = line_of(file);
    if (base == 16 && line.starts_with("0x")) line.erase(0, 2);
    unsigned value = 0;
    const auto [end, error] = std::from_chars(line.data(), line.data() + line.size(), value, base);
    return error == std::errc{} && end != line.data() ? std::optional(value) : std::nullopt;
}

// The last part of where a link leads; empty: there is none.
std::string name_behind(const fs::path& link) {
    std::error_code error;
    const fs::path target = fs::read_symlink(link, error);
    return error ? "" : target.filename().string();
}

std::vector<std::string> entries(const fs::path& folder) {
    std::vector<std::string> names;
    std::error_code error;
    for (fs::directory_iterator at(folder, error), end; !error && at != end; at.increment(error))
        names.push_back(at->path().filename().string());
    std::ranges::sort(names);
    return names;
}

std::string netdev_of(const fs::path& device) {
    const std::vector<std::string> names = entries(device / "net");
    return names.empty() ? "" : names.front();
}

// Of an interface, and of the function behind it.
template <class Function>
void look_at_use(const fs::path& device, Function& out) {
    out.interrupts = static_cast<unsigned>(entries(device / "msi_irqs").size());
    if (out.netdev.empty()) return;
    const fs::path netdev = device / "net" / out.netdev;
    out.up = (number_in(netdev / "flags", 16).value_or(0) & IFF_UP) != 0;
    for (const std::string& queue : entries(netdev / "queues"))
        ++(queue.starts_with("rx-") ? out.rx_queues : out.tx_queues);
}

struct Known {
    const Chip* chip;
    const char* driver;
};

// By PCI device id; the vendor is Intel.
std::optional<Known> known(unsigned device) {
    static constexpr std::array ids_82576{0x10c9U, 0x10e6U, 0x10e7U, 0x10e8U, 0x150aU, 0x150dU, 0x1518U, 0x1526U};
    static constexpr std::array ids_82599{0x10f7U, 0x10f8U, 0x10f9U, 0x10fbU, 0x10fcU, 0x1507U, 0x1514U,
                                          0x1517U, 0x151cU, 0x1529U, 0x152aU, 0x154aU, 0x154dU, 0x1557U};
    if (std::ranges::find(ids_82576, device) != ids_82576.end()) return Known{&i82576::chip(), "igb"};
    if (std::ranges::find(ids_82599, device) != ids_82599.end()) return Known{&i82599::chip(), "ixgbe"};
    return std::nullopt;
}

void judge(Pf& pf, const fs::path& device) {
    const auto vendor = number_in(device / "vendor", 16);
    const auto id = number_in(device / "device", 16);
    if (vendor != 0x8086U || !id) {
        pf.why = fmt::format("it is not Intel's (vendor {:#06x})", vendor.value_or(0));
        return;
    }
    const auto chip = known(*id);
    if (!chip) {
        pf.why = fmt::format("it is neither an 82599 nor an 82576 (device {:#06x})", *id);
        return;
    }
    if (pf.driver == "vfio-pci") {
        pf.why =
            fmt::format("it is on vfio-pci, a VM's or a program's, and software has no interface on it; {} is needed",
                        chip->driver);
        return;
    }
    if (pf.driver != chip->driver) {
        pf.why = pf.driver.empty() ? fmt::format("no driver is bound to it; {} is needed", chip->driver)
                                   : fmt::format("its driver is {}; {} is needed", pf.driver, chip->driver);
        return;
    }
    pf.chip = chip->chip;
}

Vf look_at_vf(const fs::path& device, unsigned index) {
    Vf vf;
    vf.index = index;
    vf.address = device.filename().string();
    vf.driver = name_behind(device / "driver");
    vf.netdev = netdev_of(device);
    look_at_use(device, vf);
    const std::string group = name_behind(device / "iommu_group");
    unsigned number = 0;
    if (std::from_chars(group.data(), group.data() + group.size(), number).ec == std::errc{} && !group.empty())
        vf.iommu_group = number;
    return vf;
}

Pf look_at_pf(const fs::path& device) {
    Pf pf;
    pf.address = device.filename().string();
    pf.device = device.string();
    pf.netdev = netdev_of(device);
    pf.driver = name_behind(device / "driver");
    pf.total_vfs = number_in(device / "sriov_totalvfs").value_or(0);
    pf.num_vfs = number_in(device / "sriov_numvfs").value_or(0);
    look_at_use(device, pf);
    if (!pf.netdev.empty()) pf.link = line_of(device / "net" / pf.netdev / "carrier") == "1";
    judge(pf, device);
    for (unsigned i = 0; i < pf.num_vfs; ++i)
        if (const std::string name = name_behind(device / fmt::format("virtfn{}", i)); !name.empty())
            pf.vfs.push_back(look_at_vf(device.parent_path() / name, i));
    return pf;
}

// VFs find their PF only while its driver runs, which it does with its interface.
Result<> set_up(const Pf& pf) {
    const auto why = [&](int err) {
        return os_error(err, "IVDS-O017", fmt::format("set the interface of {} up", pf.address),
                        "VFs are made on an interface that is up, in this network namespace");
    };
    if (pf.netdev.empty()) return why(ENODEV);
    const Fd socket(::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    ifreq request{};
    pf.netdev.copy(request.ifr_name, sizeof request.ifr_name - 1);
    if (!socket || ::ioctl(socket.get(), SIOCGIFFLAGS, &request) != 0) return why(errno);
    request.ifr_flags = static_cast<short>(request.ifr_flags | IFF_UP);
    return ::ioctl(socket.get(), SIOCSIFFLAGS, &request) == 0 ? Result<>{} : why(errno);
}

Result<> write_number(const fs::path& file, unsigned number, const Pf& pf) {
    const auto why = [&](int err) {
        std::string fix = "see the kernel's log";
        if (err == EBUSY) fix = "end the VMs and programs that use its VFs";
        if (err == EINVAL && pf.driver == "ixgbe")
            fix = "ixgbe makes no VFs while its interface has an XDP program: give the uplink attach: tcx";
        if (err == ENOMEM)
            fix = "the PCI bridge above it has no bus numbers or memory for VFs: see the firmware's setup";
        return os_error(err, "IVDS-O017", fmt::format("set {} VFs on {}", number, pf.address), fix);
    };
    std::FILE* out = std::fopen(file.c_str(), "we");
    if (out == nullptr) return why(errno);
    const bool written = std::fprintf(out, "%u\n", number) > 0 && std::fflush(out) == 0;
    const int err = errno;
    std::fclose(out);
    return written ? Result<>{} : why(err);
}

}  // namespace

Result<std::vector<Pf>> find_pfs(const std::string& sysfs) {
    const fs::path folder = fs::path(sysfs) / "bus/pci/devices";
    std::vector<Pf> found;
    for (const std::string& name : entries(folder)) {
        std::error_code error;
        const fs::path device = folder / name;
        if (fs::exists(device / "sriov_totalvfs", error) && !error) found.push_back(look_at_pf(device));
    }
    return found;
}

Result<Pf> find_pf(const std::string& sysfs, const std::string& name) {
    auto all = find_pfs(sysfs);
    if (!all) return std::unexpected(all.error());
    for (Pf& pf : *all)
        if (pf.address == name || (!pf.netdev.empty() && pf.netdev == name)) return std::move(pf);
    return fail(Code::not_found, "IVDS-O018", fmt::format("{} is no PF of a NIC with virtual functions", name),
                "name its PCI address or its interface in this network namespace");
}

VfHolder holder_of(const Vf& vf) {
    if (vf.driver.empty()) return VfHolder::nobody;
    if (vf.driver.starts_with("vfio") || vf.driver.starts_with("uio") || vf.driver.starts_with("igb_uio"))
        return VfHolder::vm;
    return vf.netdev.empty() ? VfHolder::netns : VfHolder::host;
}

Result<> check_num_vfs(const Pf& pf, unsigned count) {
    if (count > pf.total_vfs)
        return fail(Code::invalid, "IVDS-O017", fmt::format("{} has {} VFs at most", pf.address, pf.total_vfs),
                    "ask for fewer");
    if (pf.num_vfs == 0 || pf.num_vfs == count) return {};
    const auto user_of = [](const Vf& vf) -> std::string {
        switch (holder_of(vf)) {
            case VfHolder::vm:
                return fmt::format("{} holds it for a VM or a program", vf.driver);
            case VfHolder::netns:
                return "its interface is in another network namespace";
            case VfHolder::host:
                return vf.up ? fmt::format("its interface {} is up", vf.netdev) : "";
            case VfHolder::nobody:
                break;
        }
        return "";
    };
    for (const Vf& vf : pf.vfs)
        if (const std::string user = user_of(vf); !user.empty())
            return fail(Code::conflict, "IVDS-O025",
                        fmt::format("{} has {} VFs, which all go before it can have {}, and VF {} ({}) is in use: {}",
                                    pf.address, pf.num_vfs, count, vf.index, vf.address, user),
                        "end who uses its VFs, set their interfaces down or unbind their drivers");
    return {};
}

Result<> set_num_vfs(const Pf& pf, unsigned count) {
    if (pf.num_vfs == count) return {};
    if (auto may = check_num_vfs(pf, count); !may) return may;
    const fs::path file = fs::path(pf.device) / "sriov_numvfs";
    if (pf.num_vfs != 0)
        if (auto done = write_number(file, 0, pf); !done) return done;
    if (count == 0) return {};
    if (!pf.up)
        if (auto done = set_up(pf); !done) return done;
    return write_number(file, count, pf);
}

}  // namespace ivds::offload
