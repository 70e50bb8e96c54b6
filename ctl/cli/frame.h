// SPDX-License-Identifier: Apache-2.0
// frame.h -- frames from words, for trace: "eth dst=02:00:00:00:00:02 / ip dst=10.0.0.2 / udp dport=53".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "loader/error.h"
#include "loader/tables.h"

namespace ivds::cli {

// Layers are separated by "/", and a layer's fields by spaces: "field=value". What is left out has a value that makes
// a plausible frame: addresses of documentation ranges, `source` as the source MAC, the EtherType or protocol of the
// next layer, 60 bytes in all. Checksums stay 0: no rung looks at them.
[[nodiscard]] Result<std::vector<std::uint8_t>> frame_from_words(const std::string& words, const Mac& source);
// "02 00 5e…", with or without spaces and colons.
[[nodiscard]] Result<std::vector<std::uint8_t>> frame_from_hex(const std::string& hex);
// All frames of a pcap or pcapng file of Ethernet frames; "-" is standard input.
[[nodiscard]] Result<std::vector<std::vector<std::uint8_t>>> frames_from_pcap(const std::string& path);
// The layers and their fields, for the help.
[[nodiscard]] std::string frame_words_help();

}  // namespace ivds::cli
