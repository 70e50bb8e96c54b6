// SPDX-License-Identifier: Apache-2.0
#include "agent/trace_view.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <net/ethernet.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <span>
#include <string>

#include "agent/names.h"
#include "loader/switch.h"

namespace ivds {
namespace {

// By kind, which are numbered from 1 on without a gap.
constexpr std::uint32_t kStages[] = {0,
#define IVDS_X(name, number, stage) stage,
                                     IVDS_TRACE_KINDS(IVDS_X)
#undef IVDS_X
};

std::uint32_t stage_of(std::uint32_t kind) {
    return kind < std::size(kStages) ? kStages[kind] : 0;
}

// Turns steps into sentences. Keeps what earlier steps said, as later ones mean it: which port, which instance.
class TraceTeller {
public:
    TraceTeller(const Model& model, const Ids& ids)
        : model_(model),
          ports_(names_by_id(ids.ports)),
          instances_(names_by_id(ids.instances)),
          rules_(names_by_id(ids.rules)),
          mirrors_(names_by_id(ids.mirrors)) {}

    void tell(const RungTrace& rung, pb::TraceReply& reply) {
        reply.clear_verdict();
        reply.clear_drop_reason();
        reply.clear_sent();
        flooded_ = false;
        forwarding_ = false;
        for (auto step = rung.steps.begin(); step != rung.steps.end(); ++step) {
            text_.clear();
            change_.clear();
            if (step->kind == IVDS_TRACE_ACL)
                acl(*step, std::span(step + 1, rung.steps.end()));
            else
                words(*step, rung.fields, reply);
            pb::TraceStep& out = *reply.add_steps();
            out.set_rung(rung.rung);
            out.set_stage(stage_of(step->kind));
            out.set_text(text_);
            out.set_change(change_);
        }
        if (rung.more_steps != 0) {
            pb::TraceStep& out = *reply.add_steps();
            out.set_rung(rung.rung);
            out.set_stage(4);
            out.set_text(fmt::format("and {} steps more", rung.more_steps));
        }
    }

private:
    void words(const ivds_trace_step& step, const ivds_fields& fields, pb::TraceReply& reply) {
        const auto& a = step.arg;
        switch (step.kind) {
            case IVDS_TRACE_PORT:
                port_ = a[0];
                from_wire_ = a[1] == IVDS_PORT_UPLINK;
                text_ = fmt::format("came in by {} {}", a[1] == IVDS_PORT_UPLINK ? "uplink" : "vPort", port(a[0]));
                break;
            case IVDS_TRACE_FRAME:
                text_ = fmt::format("{} bytes, {} tag{}, EtherType 0x{:04x}, {} bytes of L3", a[3], a[0],
                                    a[0] == 1 ? "" : "s", a[1], a[2]);
                break;
            case IVDS_TRACE_TAG:
                text_ = fmt::format("tag {}: TPID 0x{:04x}, VID {}", a[0] + 1, a[1], a[2]);
                break;
            case IVDS_TRACE_HOST:
                host(a[0]);
                reply.set_verdict("host");
                break;
            case IVDS_TRACE_VVLAN:
                vlan(a);
                break;
            case IVDS_TRACE_INSTANCE:
                instance_ = a[0];
                text_ = fmt::format("instance {}{}: {}, {}, MTU {}", instance(a[0]), tenant(a[0]),
                                    (a[1] & IVDS_IF_ACTIVE) != 0 ? "active" : "draining",
                                    (a[1] & IVDS_IF_WIRE) != 0 ? "on the wire" : "local", a[2]);
                break;
            case IVDS_TRACE_FIELDS:
                six_tuple(fields, *reply.mutable_tuple());
                break;
            case IVDS_TRACE_VMAC:
                text_ = "the source is the vPort's vMAC";
                break;
            case IVDS_TRACE_SOURCE:
            case IVDS_TRACE_DESTINATION:
                forwarding_ = forwarding_ || step.kind == IVDS_TRACE_DESTINATION;
                lookup(step);
                break;
            case IVDS_TRACE_LEARN:
                learn(step);
                break;
            case IVDS_TRACE_EVENT:
                text_ = fmt::format("event {} for {}, at most one a second", event_id(a[0]), mac_text(step.mac));
                break;
            case IVDS_TRACE_GROUP:
                flooded_ = true;
                forwarding_ = true;
                text_ = "a group address: flooded";
                break;
            case IVDS_TRACE_ANSWER:
                forwarding_ = true;
                text_ = fmt::format("answered for port {}, which has the address; the answer goes back", port(a[0]));
                change_ = "answer_neighbours of the instance says so";
                break;
            case IVDS_TRACE_EGRESS:
                text_ = a[1] == 0   ? fmt::format("to vPort {}, on this host", port(a[0]))
                        : a[2] == 0 ? fmt::format("to uplink {} with VLAN {} alone", port(a[0]), a[1])
                                    : fmt::format("to uplink {} with VLAN {} and V.VLAN {}", port(a[0]), a[1], a[2]);
                break;
            case IVDS_TRACE_TO_TC:
                text_ = "left to TC: it needs a copy, is the host's, or XDP cannot send it there";
                break;
            case IVDS_TRACE_MIRROR:
                text_ = fmt::format("copied for {} as it {} {}", mirrors(a[0]),
                                    a[1] == IVDS_DIRECTION_IN    ? "comes in by"
                                    : a[1] == IVDS_DIRECTION_OUT ? "goes out of"
                                                                 : "is dropped at",
                                    port(a[2]));
                change_ = "ivds-ctl mirror list shows what is copied, and where to";
                break;
            case IVDS_TRACE_SEND:
                text_ = fmt::format("sent to {}: {} frame{}, {} bytes", port(a[0]), a[1], a[1] == 1 ? "" : "s", a[2]);
                reply.add_sent(port(a[0]));
                break;
            case IVDS_TRACE_DROP:
                text_ = fmt::format("dropped at {}, {}: {}", port(a[0]), drop_id(a[1]), drop_text(a[1]));
                change_ = fix_of(a[1], a[0]);
                reply.set_verdict("dropped");
                reply.set_drop_reason(drop_id(a[1]));
                break;
            case IVDS_TRACE_ACCEPT:
                // Behind all copies: what one of them met with at its port is not the frame's fate.
                text_ = fmt::format("counted as received from {}", port(a[1]));
                reply.set_verdict(flooded_ ? "flooded" : "forwarded");
                reply.clear_drop_reason();
                break;
            case IVDS_TRACE_FLOW:
                text_ = fmt::format("a known flow, {}: {}", flow_state(a[0], a[1]), rule_text(a[3]));
                change_ = "ivds-ctl flow list shows it, ivds-ctl flow flush forgets it";
                break;
            case IVDS_TRACE_FLOW_NEW:
                text_ = fmt::format("a new flow entry, {}", flow_state(a[0], a[1]));
                break;
            case IVDS_TRACE_TARGET:
                forwarding_ = true;
                text_ = a[0] == 0 ? "redirected to a pool none of whose vPorts is up"
                                  : fmt::format("redirected to vPort {}", port(a[0]));
                break;
            case IVDS_TRACE_INSPECT: {
                const std::string& inspector = port(a[1]);
                const auto facts = model_.inspectors.find(inspector);
                const bool opens = facts != model_.inspectors.end() && facts->second->fail() == pb::Inspector::OPEN;
                text_ = fmt::format(
                    "{} vPort {}: {}", a[2] == IVDS_WAY_IN ? "from the VM of" : "to the VM of", port(a[0]),
                    a[3] != 0 ? fmt::format("goes to inspector {}; what follows is if that lets it pass", inspector)
                              : fmt::format("inspector {} does not listen, and fails {}", inspector,
                                            opens ? "open: it goes on without" : "closed"));
                change_ = fmt::format("ivds-ctl inspector state {} shows it", inspector);
                break;
            }
            case IVDS_TRACE_RATE:
                text_ = fmt::format(
                    "vPort {} {} at no more than the rate of its profile: what is over it is dropped ({})",
                    port(a[0]), a[1] == IVDS_WAY_IN ? "sends" : "is sent to",
                    drop_id(a[1] == IVDS_WAY_IN ? IVDS_DROP_RATE : IVDS_DROP_RATE_OUT));
                change_ = "ivds-ctl profile update sets the rates of a profile";
                break;
            case IVDS_TRACE_PEER_RATE:
                text_ = fmt::format(
                    "the peers of instance {} on VLAN {} {} at no more than their rate: what is over it is dropped "
                    "({})",
                    instance(a[0]), a[1], a[2] == IVDS_WAY_IN ? "send" : "are sent to",
                    drop_id(a[2] == IVDS_WAY_IN ? IVDS_DROP_RATE_PEER : IVDS_DROP_RATE_PEER_OUT));
                change_ = "ivds-ctl instance update sets the peer_rates of an instance";
                break;
            case IVDS_TRACE_TRUNK:
                text_ = fmt::format("tag {} of trunk {} is vPort {}", a[1], port(a[0]), port(a[2]));
                break;
            case IVDS_TRACE_MARK:
                text_ = a[1] == 0 ? fmt::format("priority {} in the tags of the wire", a[0])
                                  : fmt::format("priority {} in the tags of the wire, DSCP {} in its IP header", a[0],
                                                a[1] - 1);
                change_ = "pcp and dscp of the vPort's profile say so: ivds-ctl profile update";
                break;
            case IVDS_TRACE_MOVED:
                text_ = a[0] == 0 ? "its VM went from here to another host: for some seconds, its frames go on there"
                        : a[0] == 1 ? "its VM went from here to another host, and so did the frame before: no further"
                                    : "its VM went from here to another host, on the VLAN of the frame's sender: not "
                                      "sent on, or the fabric would look for the sender here";
                break;
            case IVDS_TRACE_PATCH:
                text_ = fmt::format("through the patch: out by {}, in by {} of instance {}", port(a[0]), port(a[1]),
                                    instance(a[2]));
                break;
            default:
                text_ = fmt::format("a step of kind {}", step.kind);
        }
    }

    static std::string flow_state(std::uint32_t state, std::uint32_t opener) {
        if (state == IVDS_FLOW_VERDICT) return "no connection";
        const char* what = state == IVDS_FLOW_OPENING ? "a connection that opens"
                           : state == IVDS_FLOW_OPEN  ? "an open connection"
                                                      : "a connection that closes";
        return fmt::format("{}, opened {} the VM", what, opener == IVDS_WAY_IN ? "by" : "towards");
    }

    // "rule no-telnet of vport web1"; 0 is a default.
    std::string rule_text(std::uint32_t rule) const {
        const auto key = rules_.find(rule);
        if (rule == 0) return "by the default";
        if (key == rules_.end()) return fmt::format("by rule #{}", rule);
        const std::size_t first = key->second.find('/');
        const std::size_t last = key->second.rfind('/');
        return fmt::format("by rule {} of {} {}", key->second.substr(last + 1), key->second.substr(0, first),
                           key->second.substr(first + 1, last - first - 1));
    }

    // Which rule decided, or whose default. `rest` is what follows: it names the port that the frame is for.
    void acl(const ivds_trace_step& step, std::span<const ivds_trace_step> rest) {
        const std::uint32_t rule = step.arg[1];
        const bool drop = step.arg[2] == IVDS_ACL_DROP;
        const bool stateful = (step.arg[3] & IVDS_ACL_STATEFUL) != 0 && !drop;
        const std::string action = std::string(drop                               ? "drop"
                                               : step.arg[2] == IVDS_ACL_REDIRECT ? "redirect"
                                                                                  : "allow") +
                                   (stateful ? ", and its connection" : "");
        const char* other = drop ? "allow" : "drop";
        if (rule != 0) {
            const auto key = rules_.find(rule);
            if (key == rules_.end()) {
                text_ = fmt::format("rule #{}: {}", rule, action);
                return;
            }
            // "vport/web1/no-telnet": no part holds a slash.
            const std::size_t first = key->second.find('/');
            const std::size_t last = key->second.rfind('/');
            const std::string owner =
                fmt::format("{} {}", key->second.substr(0, first), key->second.substr(first + 1, last - first - 1));
            const std::string name = key->second.substr(last + 1);
            text_ = fmt::format("rule {} of {}: {}", name, owner, action);
            change_ = fmt::format("ivds-ctl rule set {} {} --action {}", owner, name, other);
            return;
        }
        std::uint32_t at = port_;
        if (forwarding_) {
            const auto next = std::ranges::find_if(rest, [](const ivds_trace_step& later) {
                return later.kind == IVDS_TRACE_EGRESS || later.kind == IVDS_TRACE_SEND ||
                       later.kind == IVDS_TRACE_DROP;
            });
            at = next == rest.end() ? 0 : next->arg[0];
        }
        const auto vport = model_.vports.find(port(at));
        const std::string profile = vport == model_.vports.end() ? "" : vport->second->profile();
        const char* way = forwarding_ ? "to" : "from";
        if (profile.empty()) {
            text_ = fmt::format("no rule matches, and vport {} has no profile: {}", port(at), action);
            change_ = fmt::format("ivds-ctl rule add vport {}", port(at));
        } else {
            text_ = fmt::format("default of profile {} for frames {} the VM: {}", profile, way, action);
            change_ =
                fmt::format("ivds-ctl profile update {} --default-{} {}", profile, forwarding_ ? "out" : "in", other);
        }
    }

    void host(std::uint32_t why) {
        switch (why) {
            case IVDS_TRACE_HOST_UNTAGGED:
                text_ = "the host's: no outer tag with this uplink's TPID";
                change_ = fmt::format("ivds-ctl uplink update {} --outer-tpid TPID, if the tag is one", port(port_));
                break;
            case IVDS_TRACE_HOST_LINK_LOCAL:
                text_ = "the host's: a link-local group, without a V.VLAN";
                break;
            default:
                text_ = "the host's: no V.VLAN tag with this uplink's TPID, and no policy against it";
                change_ = fmt::format("ivds-ctl uplink update {} --plain drop, or plain_access of an instance",
                                      port(port_));
        }
    }

    void vlan(const std::uint32_t (&a)[4]) {
        const char* found = a[3] != 0 ? "names" : "names no";
        if (a[2] == 0) {
            text_ = a[3] != 0 ? fmt::format("VLAN {} without a V.VLAN {} instance {}, by its plain_access", a[1],
                                            found, instance(a[3]))
                              : fmt::format("VLAN {} carries V.VLANs, and {} instance for plain frames", a[1], found);
            if (a[3] == 0) change_ = "ivds-ctl instance update INSTANCE --plain-access lets them into one";
            return;
        }
        text_ = fmt::format("{{VLAN {}, V.VLAN {}}} {} instance{}", a[1], a[2], found,
                            a[3] != 0 ? " " + instance(a[3]) : "");
        if (a[3] == 0)
            change_ =
                fmt::format("ivds-ctl instance create NAME --uplink {} --vlan {} --vvlan {} --scope distributed",
                            port(port_), a[1], a[2]);
    }

    void six_tuple(const ivds_fields& fields, pb::FrameTuple& out) {
        const std::uint16_t type = ntohs(fields.type_be);
        const bool known = (fields.unknown & IVDS_L3_UNKNOWN) == 0;
        out.set_vmac(mac_text(from_wire_ ? fields.dst_mac : fields.src_mac));
        out.set_fragment((fields.unknown & IVDS_L4_FRAGMENT) != 0);
        out.set_cut(!known || ((fields.unknown & IVDS_L4_UNKNOWN) != 0 && !out.fragment()));
        if (type == ETHERTYPE_IP || type == ETHERTYPE_IPV6) {
            out.set_protocol(fields.proto);
            out.set_src(address_text(fields.src, type == ETHERTYPE_IP));
            out.set_dst(address_text(fields.dst, type == ETHERTYPE_IP));
            out.set_src_port(ntohs(fields.sport_be));
            out.set_dst_port(ntohs(fields.dport_be));
            text_ = fmt::format("six-tuple: vMAC {}, protocol {}, {} port {} to {} port {}", out.vmac(), fields.proto,
                                out.src(), out.src_port(), out.dst(), out.dst_port());
        } else {
            text_ = fmt::format("six-tuple: vMAC {}, no IP", out.vmac());
        }
        if (out.fragment())
            text_ += (fields.unknown & IVDS_L4_UNKNOWN) != 0 ? ", a later fragment" : ", first fragment";
        if (out.cut()) text_ += ", headers cut";
    }

    void lookup(const ivds_trace_step& step) {
        const bool source = step.kind == IVDS_TRACE_SOURCE;
        const auto& [in, at, outer, flags] = step.arg;
        const std::string mac = mac_text(step.mac);
        const std::string who = fmt::format("{} {}", source ? "source" : "destination", mac);
        if (at == 0) {
            flooded_ = flooded_ || !source;
            text_ = fmt::format("{} is not in the FDB of {}{}", who, instance(in), source ? "" : ": flooded");
            if (!source) change_ = fmt::format("a static entry: fdb of instance {}, or a vPort's MACs", instance(in));
            return;
        }
        const bool fixed = (flags & IVDS_FDB_STATIC) != 0;
        text_ = fmt::format("{} is {} at {}{}{}", who, fixed ? "static" : "learned", port(at),
                            outer != 0 ? fmt::format(", VLAN {}", outer) : "",
                            (flags & IVDS_FDB_PLAIN) != 0 ? ", without a V.VLAN" : "");
        if (!fixed) change_ = fmt::format("ivds-ctl fdb flush --instance {} --mac {}", instance(in), mac);
    }

    void learn(const ivds_trace_step& step) {
        const std::string who = mac_text(step.mac);
        switch (step.arg[0]) {
            case IVDS_TRACE_LEARN_NEW:
                text_ = fmt::format("{} would be learned at {}", who, port(step.arg[1]));
                break;
            case IVDS_TRACE_LEARN_SEEN:
                text_ = fmt::format("{} would be seen again at {}", who, port(step.arg[1]));
                break;
            case IVDS_TRACE_LEARN_MOVE:
                text_ = fmt::format("{} would move from {} to {}", who, port(step.arg[2]), port(step.arg[1]));
                break;
            default:
                text_ = fmt::format("{} would not be learned: the limit of {} or of its instance is reached", who,
                                    port(step.arg[1]));
                change_ = "fdb_limit of the profile, uplink or instance";
        }
    }

    [[nodiscard]] std::string fix_of(std::uint32_t reason, std::uint32_t at) const {
        switch (reason) {
            case IVDS_DROP_NO_INSTANCE:
                return fmt::format("ivds-ctl vport update {} --instance INSTANCE", port(port_));
            case IVDS_DROP_INSTANCE_DOWN:
                return fmt::format("ivds-ctl instance update {} --no-draining, and scope distributed for the wire",
                                   instance(instance_));
            case IVDS_DROP_SPOOF:
                return fmt::format("ivds-ctl vport update {} --extra-macs MAC, or a profile with allow_spoof",
                                   port(port_));
            case IVDS_DROP_GUEST_TAG:
            case IVDS_DROP_GUEST_TAG_OUT:
                return "a profile with guest_tags carry";
            case IVDS_DROP_OVERSIZE:
                return "mtu_bytes of the vPort, its profile or the instance";
            case IVDS_DROP_OVERSIZE_OUT:
                return "mtu_bytes of that vPort; on an uplink, the MTU of its interface: the VMs' and 8 bytes";
            case IVDS_DROP_NO_VVLAN:
                return fmt::format("ivds-ctl uplink update {} --plain host, or plain_access of an instance",
                                   port(port_));
            case IVDS_DROP_PORT_DOWN:
                return "ivds-ctl status says why that port is down";
            case IVDS_DROP_ACL:
            case IVDS_DROP_ACL_OUT:
                return fmt::format("ivds-ctl rule list --vport {} shows the rules in their order", port(at));
            case IVDS_DROP_INSPECTOR:
                return "ivds-ctl inspector state shows whether it listens; --fail open lets frames go on without it";
            case IVDS_DROP_NO_UPLINK:
                return fmt::format("ivds-ctl instance update {} --scope distributed", instance(instance_));
            default:
                return "";
        }
    }

    [[nodiscard]] std::string port(std::uint32_t id) const { return name_or_number(ports_, id); }
    [[nodiscard]] std::string instance(std::uint32_t id) const { return name_or_number(instances_, id); }
    // "mirror watch and a capture"
    [[nodiscard]] std::string mirrors(std::uint32_t sessions) const {
        std::string text;
        for (std::uint32_t session = 0; session < IVDS_MAX_MIRRORS; ++session) {
            if ((sessions >> session & 1U) == 0) continue;
            const auto found = mirrors_.find(session);
            text += fmt::format("{}{}", text.empty() ? "" : " and ",
                                found == mirrors_.end() ? "a capture" : "mirror " + found->second);
        }
        return text;
    }
    [[nodiscard]] std::string tenant(std::uint32_t id) const {
        const auto found = model_.instances.find(instance(id));
        return found == model_.instances.end() || found->second->tenant().empty()
                   ? ""
                   : fmt::format(" of tenant {}", found->second->tenant());
    }
    const Model& model_;
    std::map<std::uint32_t, std::string> ports_;
    std::map<std::uint32_t, std::string> instances_;
    std::map<std::uint32_t, std::string> rules_;  // keys of Ids::rules
    std::map<std::uint32_t, std::string> mirrors_;
    std::uint32_t port_ = 0;
    std::uint32_t instance_ = 0;
    bool from_wire_ = false;
    bool flooded_ = false;
    bool forwarding_ = false;  // past what the ingress port decides: rules are those of the port it is for
    std::string text_;
    std::string change_;
};

}  // namespace

pb::TraceReply view_trace(const Model& model, const Ids& ids, const std::vector<RungTrace>& rungs) {
    pb::TraceReply reply;
    TraceTeller teller(model, ids);
    for (const RungTrace& rung : rungs) teller.tell(rung, reply);
    return reply;
}

}  // namespace ivds
