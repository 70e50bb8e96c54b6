// SPDX-License-Identifier: Apache-2.0
#include "apply/regs.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/vfio.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <utility>

#include "loader/fd.h"

namespace ivds::offload {

namespace {

class Bar0 final : public Registers {
public:
    // `kept` are what the memory is there by.
    Bar0(void* memory, std::size_t size, std::vector<Fd> kept = {})
        : kept_(std::move(kept)), memory_(static_cast<volatile std::uint32_t*>(memory)), size_(size) {}
    ~Bar0() override { ::munmap(const_cast<std::uint32_t*>(memory_), size_); }
    Bar0(const Bar0&) = delete;
    Bar0& operator=(const Bar0&) = delete;

    Result<std::uint32_t> read(std::uint32_t offset) override {
        if (auto ok = check(offset); !ok) return std::unexpected(ok.error());
        return memory_[offset / 4];
    }
    Result<> write(std::uint32_t offset, std::uint32_t value) override {
        if (auto ok = check(offset); !ok) return ok;
        memory_[offset / 4] = value;
        return {};
    }

private:
    [[nodiscard]] Result<> check(std::uint32_t offset) const {
        if (offset % 4 == 0 && offset + std::size_t{4} <= size_) return {};
        return fail(Code::invalid, "IVDS-O015",
                    fmt::format("{:#x} is no register of a BAR of {} bytes", offset, size_));
    }
    std::vector<Fd> kept_;
    volatile std::uint32_t* memory_;
    std::size_t size_;
};

using Way = std::expected<std::unique_ptr<Registers>, std::string>;

std::string lockdown() {
    std::ifstream file("/sys/kernel/security/lockdown");
    std::string words;
    std::getline(file, words);
    const auto from = words.find('[');
    const auto to = words.find(']');
    return from == std::string::npos || to == std::string::npos ? "none" : words.substr(from + 1, to - from - 1);
}

std::string why_not_mapped(int err) {
    switch (err) {
        case EINVAL:
            return "the kernel keeps a bound driver's memory to the driver (CONFIG_IO_STRICT_DEVMEM): boot with "
                   "iomem=relaxed";
        case EACCES:
        case EPERM:
            if (const std::string mode = lockdown(); mode != "none")
                return fmt::format("the kernel is locked down ({})", mode);
            return "it takes root (CAP_SYS_ADMIN and CAP_SYS_RAWIO)";
        case ENOENT:
            return "there is no such file: the device has no BAR0, or the kernel no PCI mapping";
        default:
            return std::error_code(err, std::generic_category()).message();
    }
}

Way map_bar0(const std::string& device) {
    const std::string path = device + "/resource0";
    const Fd file(::open(path.c_str(), O_RDWR | O_SYNC | O_CLOEXEC));
    if (!file) return std::unexpected(why_not_mapped(errno));
    struct stat about{};
    if (::fstat(file.get(), &about) != 0) return std::unexpected(why_not_mapped(errno));
    const auto size = static_cast<std::size_t>(about.st_size);
    void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (memory == MAP_FAILED) return std::unexpected(why_not_mapped(errno));
    return std::make_unique<Bar0>(memory, size);
}

// The last part of where a link leads; empty: there is none.
std::string name_behind(const std::string& link) {
    std::error_code error;
    const std::filesystem::path target = std::filesystem::read_symlink(link, error);
    return error ? "" : target.filename().string();
}

std::unexpected<std::string> why_not(const std::string& what) {
    return std::unexpected(fmt::format("{}: {}", what, std::error_code(errno, std::generic_category()).message()));
}

// A group's file; without an IOMMU it has another name.
Fd open_group(const std::string& number) {
    Fd group(::open(("/dev/vfio/" + number).c_str(), O_RDWR | O_CLOEXEC));
    if (!group && errno == ENOENT) group.reset(::open(("/dev/vfio/noiommu-" + number).c_str(), O_RDWR | O_CLOEXEC));
    return group;
}

Way map_by_vfio(const std::string& device, const std::string& address) {
    const std::string driver = name_behind(device + "/driver");
    if (driver != "vfio-pci")
        return std::unexpected(driver.empty()
                                   ? "vfio-pci is not bound to it"
                                   : fmt::format("{} is bound to it, and with vfio-pci in its place there is "
                                                 "no interface for software's frames",
                                                 driver));
    const std::string number = name_behind(device + "/iommu_group");
    if (number.empty()) return std::unexpected("it is in no IOMMU group: boot with intel_iommu=on or amd_iommu=on");
    Fd container(::open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC));
    if (!container) return why_not("/dev/vfio/vfio");
    Fd group = open_group(number);
    if (!group && errno == EBUSY)
        return std::unexpected(fmt::format("somebody has group {} open, a VM or a program", number));
    if (!group) return why_not("/dev/vfio/" + number);
    vfio_group_status status{.argsz = sizeof status, .flags = 0};
    if (::ioctl(group.get(), VFIO_GROUP_GET_STATUS, &status) != 0) return why_not("its group");
    if ((status.flags & VFIO_GROUP_FLAGS_VIABLE) == 0)
        return std::unexpected(fmt::format("not all devices of its IOMMU group {} are on vfio-pci", number));
    const int inside = container.get();
    if (::ioctl(group.get(), VFIO_GROUP_SET_CONTAINER, &inside) != 0) return why_not("its group's container");
    if (::ioctl(inside, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU) != 0 &&
        ::ioctl(inside, VFIO_SET_IOMMU, VFIO_NOIOMMU_IOMMU) != 0)
        return why_not("its IOMMU");
    Fd nic(::ioctl(group.get(), VFIO_GROUP_GET_DEVICE_FD, address.c_str()));
    if (!nic) return why_not("the device");
    vfio_region_info bar{};
    bar.argsz = sizeof bar;
    bar.index = VFIO_PCI_BAR0_REGION_INDEX;
    if (::ioctl(nic.get(), VFIO_DEVICE_GET_REGION_INFO, &bar) != 0) return why_not("BAR0");
    if ((bar.flags & VFIO_REGION_INFO_FLAG_MMAP) == 0) return std::unexpected("its BAR0 is not to be mapped");
    void* memory =
        ::mmap(nullptr, bar.size, PROT_READ | PROT_WRITE, MAP_SHARED, nic.get(), static_cast<off_t>(bar.offset));
    if (memory == MAP_FAILED) return why_not("BAR0");
    std::vector<Fd> kept;
    kept.push_back(std::move(container));
    kept.push_back(std::move(group));
    kept.push_back(std::move(nic));
    return std::make_unique<Bar0>(memory, bar.size, std::move(kept));
}

std::string why_no_debugfs(const std::string& debugfs, const std::string& address) {
    std::error_code ignored;
    if (!std::filesystem::exists(fmt::format("{}/ixgbe/{}/reg_ops", debugfs, address), ignored))
        return "the driver has none (only ixgbe has), debugfs is not mounted, or it takes root";
    return "it writes what it reads to the kernel's log alone, and nothing is written that cannot be read back";
}

}  // namespace

Result<OpenRegisters> open_registers(const std::string& device, const std::string& debugfs) {
    OpenRegisters open;
    std::error_code ignored;
    const std::string address = std::filesystem::weakly_canonical(device, ignored).filename().string();
    const auto take = [&](Way way, const std::string& name) {
        if (!way) return open.refused.push_back(name + ": " + way.error());
        open.registers = std::move(*way);
        open.way = name;
    };
    // On vfio-pci the NIC sleeps, and all of resource0 reads as ones, until it is opened there.
    take(map_by_vfio(device, address), "BAR0 by vfio");
    if (!open.registers) take(map_bar0(device), "BAR0 by resource0");
    open.refused.push_back("debugfs reg_ops: " + why_no_debugfs(debugfs, address));
    if (open.registers) return open;
    return fail(Code::unsupported, "IVDS-O016",
                fmt::format("the registers of {} are out of reach: {}", address, fmt::join(open.refused, "; ")),
                "let software carry it, or open one of the ways");
}

}  // namespace ivds::offload
