// SPDX-License-Identifier: Apache-2.0
#include "complete.h"

#include <filesystem>
#include <map>

namespace ivds::cli {
namespace {

const CLI::App* find_command(const CLI::App& app, const std::string& name) {
    const auto found = app.get_subcommands([&](const CLI::App* each) { return each->get_name() == name; });
    return found.empty() ? nullptr : found.front();
}

// The option of `app`, or of a command above it, by this name.
const CLI::Option* find_option(const CLI::App* app, const std::string& name) {
    for (; app != nullptr; app = app->get_parent()) {
        if (const CLI::Option* option = app->get_option_no_throw(name); option != nullptr) return option;
    }
    return nullptr;
}

// Words that fit a value by the name that the help gives it; see add_value().
std::set<std::string> values(const std::string& type,
                             const std::function<std::vector<std::string>(pb::Kind)>& names) {
    static const std::map<std::string, std::vector<pb::Kind>> kinds = {
        {"UPLINK", {pb::UPLINK}},
        {"PROFILE", {pb::PROFILE}},
        {"POOL", {pb::VMAC_POOL}},
        {"VNIC", {pb::VNIC}},
        {"INSTANCE", {pb::INSTANCE}},
        {"VPORT", {pb::VPORT}},
        {"PORT", {pb::VPORT, pb::UPLINK}},
        {"TENANT", {pb::TENANT}},
        {"SET", {pb::SET}},
        {"VPORT_POOL", {pb::VPORT_POOL}},
        {"MIRROR", {pb::MIRROR}},
        {"EXPORTER", {pb::EXPORTER}},
        {"INSPECTOR", {pb::INSPECTOR}},
        {"OWNER", {pb::VPORT, pb::PROFILE, pb::INSTANCE}},
    };
    std::set<std::string> found;
    if (const auto known = kinds.find(type); known != kinds.end()) {
        for (const pb::Kind kind : known->second) {
            const std::vector<std::string> some = names(kind);
            found.insert(some.begin(), some.end());
        }
    } else if (type == "NETDEV") {
        std::error_code error;
        for (const auto& entry : std::filesystem::directory_iterator("/sys/class/net", error)) {
            found.insert(entry.path().filename());
        }
    } else if (type.find('|') != std::string::npos) {
        for (std::size_t begin = 0; begin <= type.size();) {
            const std::size_t end = std::min(type.find('|', begin), type.size());
            found.insert(type.substr(begin, end - begin));
            begin = end + 1;
        }
    }
    return found;
}

}  // namespace

Completion follow(const CLI::App& root, const std::vector<std::string>& words) {
    Completion at{.app = &root, .positionals = 0, .open = nullptr, .root_values = {}};
    for (const std::string& word : words) {
        if (at.open != nullptr) {
            if (root.get_option_no_throw(at.open->get_name()) == at.open) at.root_values[at.open->get_name()] = word;
            at.open = nullptr;
        } else if (word.starts_with('-')) {
            const CLI::Option* option = find_option(at.app, word);
            if (option != nullptr && option->get_items_expected_max() > 0) at.open = option;
        } else if (const CLI::App* next = find_command(*at.app, word); next != nullptr) {
            at.app = next;
        } else {
            ++at.positionals;
        }
    }
    return at;
}

std::set<std::string> candidates(const Completion& at, const std::string& begun,
                                 const std::function<std::vector<std::string>(pb::Kind)>& names) {
    std::set<std::string> found;
    if (at.open != nullptr) {
        found = values(at.open->get_type_name(), names);
    } else if (begun.starts_with('-')) {
        for (const CLI::App* app = at.app; app != nullptr; app = app->get_parent()) {
            for (const CLI::Option* option : app->get_options()) {
                for (const std::string& name : option->get_lnames()) found.insert("--" + name);
            }
        }
    } else {
        const auto wanted = at.app->get_options([](const CLI::Option* option) { return option->get_positional(); });
        if (at.positionals < wanted.size()) found = values(wanted[at.positionals]->get_type_name(), names);
        for (const CLI::App* next : at.app->get_subcommands([](const CLI::App*) { return true; })) {
            found.insert(next->get_name());
        }
    }
    std::erase_if(found, [&](const std::string& word) { return !word.starts_with(begun); });
    return found;
}

}  // namespace ivds::cli
