// SPDX-License-Identifier: Apache-2.0
#include "apply/regs.h"

#include <fcntl.h>
#include <fmt/format.h>
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
    Bar0(volatile std::uint32_t* memory, std::size_t size) : memory_(memory), size_(size) {}
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
    volatile std::uint32_t* memory_;
    std::size_t size_;
};

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

std::expected<std::unique_ptr<Registers>, std::string> map_bar0(const std::string& device) {
    const std::string path = device + "/resource0";
    const Fd file(::open(path.c_str(), O_RDWR | O_SYNC | O_CLOEXEC));
    if (!file) return std::unexpected(why_not_mapped(errno));
    struct stat about{};
    if (::fstat(file.get(), &about) != 0) return std::unexpected(why_not_mapped(errno));
    const auto size = static_cast<std::size_t>(about.st_size);
    void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_SHARED, file.get(), 0);
    if (memory == MAP_FAILED) return std::unexpected(why_not_mapped(errno));
    return std::make_unique<Bar0>(static_cast<volatile std::uint32_t*>(memory), size);
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
    auto bar0 = map_bar0(device);
    if (bar0) {
        open.registers = std::move(*bar0);
        open.way = "BAR0 by resource0";
    } else {
        open.refused.push_back("BAR0 by resource0: " + bar0.error());
    }
    std::error_code ignored;
    const std::string address = std::filesystem::weakly_canonical(device, ignored).filename().string();
    open.refused.push_back("debugfs reg_ops: " + why_no_debugfs(debugfs, address));
    if (open.registers) return open;
    return fail(
        Code::unsupported, "IVDS-O016",
        fmt::format("the registers of {} are out of reach: {}; {}", address, open.refused[0], open.refused[1]),
        "let software carry it, or open one of the ways");
}

}  // namespace ivds::offload
