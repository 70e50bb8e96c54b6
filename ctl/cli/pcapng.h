// SPDX-License-Identifier: Apache-2.0
// pcapng.h -- frames with a comment each as a pcapng file (draft-ietf-opsawg-pcapng), which libpcap cannot write:
// one section, an interface for each port, and nanoseconds.
#pragma once

#include <cstdint>
#include <map>
#include <ostream>
#include <string>

namespace ivds::cli {

class Pcapng {
public:
    explicit Pcapng(std::ostream& out);
    // `outbound`: the frame left the port, else it came in by it.
    void packet(const std::string& port, std::uint64_t time_ns, std::uint32_t bytes, const std::string& data,
                bool outbound, const std::string& comment);

private:
    void block(std::uint32_t type, const std::string& body);

    std::ostream& out_;
    std::map<std::string, std::uint32_t> interfaces_;
};

}  // namespace ivds::cli
