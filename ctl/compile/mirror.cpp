// SPDX-License-Identifier: Apache-2.0
#include "compile/mirror.h"

#include <arpa/inet.h>

#include <algorithm>

namespace ivds {
namespace {

constexpr std::uint32_t kRingKib = 4096;

ivds_mirror mirror_value(const pb::Mirror& mirror, const Ids& ids) {
    ivds_mirror value{};
    if (mirror.to_ring()) {
        value.kind = IVDS_MIRROR_RING;
    } else if (!mirror.to_vport().empty()) {
        value.kind = IVDS_MIRROR_SPAN;
        value.target = ids.ports.at(mirror.to_vport());
    } else if (!mirror.to_uplink().empty()) {
        value.kind = IVDS_MIRROR_RSPAN;
        value.target = ids.ports.at(mirror.to_uplink());
        value.vlan = static_cast<std::uint16_t>(mirror.rspan_vlan());
    } else {
        value.kind = mirror.erspan() == pb::Mirror::III ? IVDS_MIRROR_ERSPAN_III : IVDS_MIRROR_ERSPAN_II;
        value.session_id = static_cast<std::uint16_t>(mirror.session_id());
        value.index = mirror.index();
        std::ranges::copy(mapped_address(mirror.erspan_remote()), value.remote);
        std::ranges::copy(mapped_address(mirror.erspan_local()), value.local);
    }
    value.snap_bytes = mirror.snap_bytes();
    value.sample = mirror.sample() > 1 ? mirror.sample() : 0;
    if (mirror.strip_tags()) value.flags |= IVDS_MF_STRIP_TAGS;
    return value;
}

void watch(ivds_port& port, const pb::Mirror::Source& source, std::uint32_t session) {
    if (source.drops()) {
        port.mirror_drop |= session;
        return;
    }
    if (source.direction() != pb::Mirror::OUT) port.mirror_in |= session;
    if (source.direction() != pb::Mirror::IN) port.mirror_out |= session;
}

}  // namespace

std::array<std::uint8_t, 16> mapped_address(const std::string& text) {
    std::array<std::uint8_t, 16> bytes{};
    if (::inet_pton(AF_INET, text.c_str(), bytes.data() + 12) == 1) {
        bytes[10] = bytes[11] = 0xff;
    } else if (::inet_pton(AF_INET6, text.c_str(), bytes.data()) != 1) {
        bytes = {};
    }
    return bytes;
}

Result<> put_mirrors(const Model& model, const Ids& ids, RuleLists& lists, const Tables& tables_now, Tables& tables) {
    for (const auto& [name, mirror] : model.mirrors) {
        const std::uint32_t id = ids.mirrors.at(name);
        MirrorRow& row = tables.mirrors[id];
        row.name = name;
        row.value = mirror_value(*mirror, ids);
        if (mirror->to_ring()) row.ring_bytes = (mirror->ring_kib() == 0 ? kRingKib : mirror->ring_kib()) << 10U;
        if (const std::string digest = lists.filter_digest(*mirror); !digest.empty()) {
            row.value.filter = ids.acls.at(digest);
            auto done = put_list(row.value.filter, tables_now, tables, [&] { return lists.compile_filter(*mirror); });
            if (!done) return done;
        }
        const std::uint32_t session = 1U << id;
        for (const pb::Mirror::Source& source : mirror->sources()) {
            const std::string& port = source.vport().empty() ? source.uplink() : source.vport();
            if (!port.empty()) {
                watch(tables.ports.at(ids.ports.at(port)).value, source, session);
                continue;
            }
            for (const auto& [vport_name, vport] : model.vports)
                if (vport->instance() == source.instance())
                    watch(tables.ports.at(ids.ports.at(vport_name)).value, source, session);
        }
    }
    return {};
}

}  // namespace ivds
