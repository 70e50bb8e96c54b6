// SPDX-License-Identifier: Apache-2.0
// report.cpp -- medians, the table with its bars, the JSON and the record of the machine.
#include "report.h"

#include <fmt/format.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <string_view>

namespace ivds::bench {

namespace {

std::string first_line(const std::filesystem::path& path) {
    std::ifstream file(path);
    std::string line;
    std::getline(file, line);
    return line;
}

std::string cpu_model() {
    std::ifstream file("/proc/cpuinfo");
    for (std::string line; std::getline(file, line);) {
        if (line.starts_with("model name")) return line.substr(line.find(':') + 2);
    }
    return "unknown";
}

// "spectre_v2: Mitigation: Retpolines …" for each that this CPU is not free of; they decide what a call costs.
std::string mitigations() {
    std::string all;
    std::error_code none;
    std::vector<std::filesystem::path> files;
    for (const auto& entry : std::filesystem::directory_iterator("/sys/devices/system/cpu/vulnerabilities", none)) {
        files.push_back(entry.path());
    }
    std::sort(files.begin(), files.end());
    for (const auto& file : files) {
        const std::string line = first_line(file);
        if (line.starts_with("Not affected")) continue;
        all += fmt::format("\n               {}: {}", file.filename().string(), line);
    }
    return all.empty() ? "none needed" : all;
}

bool met(const Row& row, const Bar& bar) {
    double value = row.value;
    if (!bar.against.empty()) {
        const auto found = row.ratios.find(bar.against);
        if (found == row.ratios.end()) return false;
        value = found->second.median;
    }
    return bar.at_most ? value <= bar.limit : value >= bar.limit;
}

std::string cell(double value) {
    return value >= 100  ? fmt::format("{:.0f}", value)
           : value >= 10 ? fmt::format("{:.1f}", value)
                         : fmt::format("{:.3f}", value);
}

}  // namespace

double median(std::vector<double> values) {
    if (values.empty()) return 0;
    std::sort(values.begin(), values.end());
    const std::size_t half = values.size() / 2;
    return values.size() % 2 == 1 ? values[half] : (values[half - 1] + values[half]) / 2;
}

Ratio ratio(const std::vector<double>& row, const std::vector<double>& baseline) {
    std::vector<double> each;
    for (std::size_t i = 0; i < std::min(row.size(), baseline.size()); ++i) {
        if (baseline[i] > 0) each.push_back(row[i] / baseline[i]);
    }
    if (each.empty()) return {};
    const auto [low, high] = std::minmax_element(each.begin(), each.end());
    return {.median = median(each), .low = *low, .high = *high};
}

std::string environment() {
    utsname name{};
    uname(&name);
    return fmt::format(
        "kernel         {} {} {}\n"
        "cpu            {} x {}\n"
        "mitigations    {}\n"
        "bpf jit        {} (harden {})\n"
        "load average   {}\n"
        "frames         60 and 1500 B at the VM, without FCS; on the wire 8 B of tags more\n",
        name.release, name.version, name.machine, sysconf(_SC_NPROCESSORS_ONLN), cpu_model(), mitigations(),
        first_line("/proc/sys/net/core/bpf_jit_enable"), first_line("/proc/sys/net/core/bpf_jit_harden"),
        first_line("/proc/loadavg"));
}

std::string table(const std::vector<Row>& rows) {
    std::string out = fmt::format("{:<22}{:>10} {:<6}  {}\n", "row", "value", "unit",
                                  "ratio to baseline (lowest .. highest repetition), bars");
    std::size_t bars = 0;
    std::size_t kept = 0;
    for (const Row& row : rows) {
        out += fmt::format("{:<22}{:>10} {:<6}", row.name, cell(row.value), row.unit);
        for (const auto& [name, value] : row.ratios) {
            out += fmt::format("  {} {:.2f} ({:.2f} .. {:.2f})", name, value.median, value.low, value.high);
        }
        for (const Bar& bar : row.bars) {
            const bool good = met(row, bar);
            ++bars;
            kept += good ? 1 : 0;
            out += fmt::format("  [{}{}{} {}: {}]", bar.against, bar.against.empty() ? "" : " ",
                               bar.at_most ? "<=" : ">=", bar.limit, good ? "met" : "SHORT");
        }
        if (!row.note.empty()) out += "  " + row.note;
        out += '\n';
    }
    if (bars > 0) out += fmt::format("bars: {} of {} met\n", kept, bars);
    return out;
}

std::string json(const std::vector<Row>& rows) {
    std::string out = "[";
    for (const Row& row : rows) {
        if (out.size() > 1) out += ',';
        out += fmt::format("\n  {{\"name\": \"{}\", \"value\": {:.6g}, \"unit\": \"{}\", \"ratio\": {{", row.name,
                           row.value, row.unit);
        bool first = true;
        for (const auto& [name, value] : row.ratios) {
            out += fmt::format("{}\"{}\": {:.4g}", first ? "" : ", ", name, value.median);
            first = false;
        }
        out += "}}";
    }
    return out + "\n]\n";
}

}  // namespace ivds::bench
