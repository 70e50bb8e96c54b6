// SPDX-License-Identifier: Apache-2.0
#include "agent/flow_view.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <net/ethernet.h>
#include <netinet/in.h>

#include <unordered_map>

#include "agent/names.h"

namespace ivds {
namespace {

std::string protocol_text(std::uint8_t protocol) {
    switch (protocol) {
        case 1:
            return "icmp";
        case IPPROTO_TCP:
            return "tcp";
        case 17:
            return "udp";
        case 58:
            return "icmp6";
        case 132:
            return "sctp";
        default:
            return fmt::format("protocol {}", protocol);
    }
}

std::string end_text(const std::string& address, std::uint32_t port) {
    if (port == 0) return address;
    return address.find(':') == std::string::npos ? fmt::format("{}:{}", address, port)
                                                  : fmt::format("[{}]:{}", address, port);
}

const char* action_text(std::uint8_t action) {
    switch (action) {
        case IVDS_ACL_ALLOW:
            return "allow";
        case IVDS_ACL_DROP:
            return "drop";
        case IVDS_ACL_REDIRECT:
            return "redirect";
        default:
            return "";
    }
}

const char* state_text(std::uint8_t state) {
    switch (state) {
        case IVDS_FLOW_OPENING:
            return "opening";
        case IVDS_FLOW_OPEN:
            return "open";
        case IVDS_FLOW_CLOSING:
            return "closing";
        default:
            return "verdict";
    }
}

// Puts entries into words. What it looks up of a port it looks up once.
class FlowTeller {
public:
    explicit FlowTeller(const ViewSource& source)
        : source_(source),
          ports_(names_by_id(source.ids.ports)),
          instances_(names_by_id(source.ids.instances)),
          rules_(names_by_id(source.ids.rules)) {}

    Result<pb::FlowState> tell(const FlowRow& row, std::uint32_t idle_s, std::uint32_t timeout_s,
                               std::uint32_t now_s) {
        const auto lists = lists_of(row.key.port);
        if (!lists) return std::unexpected(lists.error());
        pb::FlowState state;
        state.set_vport(name_or_number(ports_, row.key.port));
        state.set_instance(name_or_number(instances_, row.key.instance));
        if (const auto found = source_.model.instances.find(state.instance());
            found != source_.model.instances.end()) {
            state.set_vlan(outer_vlan(source_.model, *found->second));
            state.set_vvlan(found->second->vvlan());
        }
        *state.mutable_tuple() = tuple_of(row.key.fields);
        state.set_peer_mac(mac_text(row.key.fields.dst_mac));
        way(row.flow.way[IVDS_WAY_IN], lists->first, *state.mutable_in());
        way(row.flow.way[IVDS_WAY_OUT], lists->second, *state.mutable_out());
        state.set_state(state_text(row.flow.state));
        state.set_age_s(now_s > row.flow.since_s ? now_s - row.flow.since_s : 0);
        state.set_idle_s(idle_s);
        state.set_expires_s(timeout_s - idle_s);
        state.set_where(pb::FlowState::SW);
        return state;
    }

private:
    using Lists = std::pair<std::uint32_t, std::uint32_t>;  // in, out

    Result<Lists> lists_of(std::uint32_t port) {
        if (const auto known = lists_.find(port); known != lists_.end()) return known->second;
        const auto pinned = source_.maps.port(port);
        if (!pinned) return std::unexpected(pinned.error());
        return lists_.emplace(port, Lists{pinned->acl_in, pinned->acl_out}).first->second;
    }

    // A list that is not the vPort's any more decides nothing: the next frame asks the one that is.
    void way(const ivds_flow_way& from, std::uint32_t list, pb::FlowState::Way& to) const {
        to.set_packets(from.packets);
        to.set_bytes(from.bytes);
        if (from.action == 0 || from.acl != list) return;
        to.set_action(action_text(from.action));
        to.set_rule_id(from.rule);
        if (from.rule != 0) to.set_rule(name_or_number(rules_, from.rule));
        if (from.action == IVDS_ACL_REDIRECT) to.set_to(name_or_number(ports_, from.target));
    }

    const ViewSource& source_;
    const std::map<std::uint32_t, std::string> ports_;
    const std::map<std::uint32_t, std::string> instances_;
    const std::map<std::uint32_t, std::string> rules_;
    std::unordered_map<std::uint32_t, Lists> lists_;
};

}  // namespace

pb::FrameTuple tuple_of(const ivds_fields& fields) {
    pb::FrameTuple tuple;
    tuple.set_vmac(mac_text(fields.src_mac));
    const std::uint16_t type = ntohs(fields.type_be);
    if (type != ETHERTYPE_IP && type != ETHERTYPE_IPV6 && type != ETHERTYPE_ARP) return tuple;
    tuple.set_src(address_text(fields.src, type != ETHERTYPE_IPV6));
    tuple.set_dst(address_text(fields.dst, type != ETHERTYPE_IPV6));
    if (type == ETHERTYPE_ARP) return tuple;
    tuple.set_protocol(fields.proto);
    tuple.set_src_port(ntohs(fields.sport_be));
    tuple.set_dst_port(ntohs(fields.dport_be));
    tuple.set_fragment((fields.unknown & IVDS_L4_FRAGMENT) != 0);
    tuple.set_cut((fields.unknown & IVDS_L3_UNKNOWN) != 0 ||
                  ((fields.unknown & IVDS_L4_UNKNOWN) != 0 && !tuple.fragment()));
    return tuple;
}

std::string fields_text(const ivds_fields& fields) {
    const pb::FrameTuple tuple = tuple_of(fields);
    const std::uint16_t type = ntohs(fields.type_be);
    if (tuple.src().empty())
        return fmt::format("{} ethertype {:#06x} -> {}", tuple.vmac(), type, mac_text(fields.dst_mac));
    std::string text =
        fmt::format("{} {} {} -> {}", tuple.vmac(), type == ETHERTYPE_ARP ? "arp" : protocol_text(fields.proto),
                    end_text(tuple.src(), tuple.src_port()), end_text(tuple.dst(), tuple.dst_port()));
    if (tuple.fragment()) text += ", a fragment";
    if (tuple.cut()) text += ", headers cut";
    return text;
}

std::uint32_t flow_timeout_s(const ivds_flow_key& key, const ivds_flow& flow) {
    switch (flow.state) {
        case IVDS_FLOW_OPENING:
            return IVDS_FLOW_OPENING_S;
        case IVDS_FLOW_OPEN:
            return key.fields.proto == IPPROTO_TCP ? IVDS_FLOW_TCP_OPEN_S : IVDS_FLOW_OPEN_S;
        case IVDS_FLOW_CLOSING:
            return IVDS_FLOW_CLOSING_S;
        default:
            return IVDS_FLOW_VERDICT_S;
    }
}

Result<> view_flows(const ViewSource& source, const pb::FlowsRequest& request,
                    const std::function<bool(const pb::FlowState&)>& sink) {
    std::uint32_t port = 0;
    std::uint32_t instance = 0;
    if (!request.vport().empty()) {
        if (!source.model.vports.contains(request.vport()))
            return fail(Code::not_found, "IVDS-M027", fmt::format("there is no vport {}", request.vport()),
                        "`ivds-ctl vport list` shows all");
        port = source.ids.ports.at(request.vport());
    }
    if (!request.instance().empty()) {
        const auto found = source.ids.instances.find(request.instance());
        if (found == source.ids.instances.end())
            return fail(Code::not_found, "IVDS-M027", fmt::format("there is no instance {}", request.instance()),
                        "`ivds-ctl instance list` shows all");
        instance = found->second;
    }
    FlowTeller teller(source);
    const std::uint32_t now_s = coarse_now_s();
    Result<> failed;
    auto done = source.maps.flows([&](const FlowRow& row) {
        if ((port != 0 && row.key.port != port) || (instance != 0 && row.key.instance != instance)) return true;
        const auto seen_s = static_cast<std::uint32_t>(row.flow.last_seen_ns / 1'000'000'000);
        const std::uint32_t idle_s = now_s > seen_s ? now_s - seen_s : 0;
        const std::uint32_t timeout_s = flow_timeout_s(row.key, row.flow);
        if (idle_s > timeout_s) return true;
        const auto state = teller.tell(row, idle_s, timeout_s, now_s);
        if (!state) failed = std::unexpected(state.error());
        return state && sink(*state);
    });
    if (!done) return done;
    return failed;
}

}  // namespace ivds
