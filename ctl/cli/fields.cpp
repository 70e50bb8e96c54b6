// SPDX-License-Identifier: Apache-2.0
#include "fields.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <array>

#include "api/codec.h"

namespace ivds::cli {
namespace {

using google::protobuf::FieldDescriptor;

// A kind's number is its field's number in Object; the functions below rest on that.
static_assert(int{pb::UPLINK} == int{pb::Object::kUplinkFieldNumber} &&
              int{pb::PROFILE} == int{pb::Object::kProfileFieldNumber} &&
              int{pb::VMAC_POOL} == int{pb::Object::kVmacPoolFieldNumber} &&
              int{pb::INSTANCE} == int{pb::Object::kInstanceFieldNumber} &&
              int{pb::VNIC} == int{pb::Object::kVnicFieldNumber} &&
              int{pb::VPORT} == int{pb::Object::kVportFieldNumber} &&
              int{pb::TENANT} == int{pb::Object::kTenantFieldNumber} &&
              int{pb::SET} == int{pb::Object::kSetFieldNumber} &&
              int{pb::VPORT_POOL} == int{pb::Object::kVportPoolFieldNumber} &&
              int{pb::MIRROR} == int{pb::Object::kMirrorFieldNumber} &&
              int{pb::EXPORTER} == int{pb::Object::kExporterFieldNumber} &&
              int{pb::INSPECTOR} == int{pb::Object::kInspectorFieldNumber});

constexpr std::array help_table{
    FieldHelp{"Uplink.netdev", "NETDEV", "the physical NIC or PF under the switch"},
    FieldHelp{"Uplink.attach", nullptr, "hooks to use; auto decides by the kind of interface"},
    FieldHelp{"Uplink.outer_tpid", "0x8100|0x88a8|0x9100", "TPID of the outer VLAN tag (0x8100)"},
    FieldHelp{"Uplink.inner_tpid", "0x8100|0x88a8|0x9100", "TPID of the V.VLAN tag (0x8100)"},
    FieldHelp{"Uplink.transport_vlan", "VLAN", "VLAN that carries the independent instances; 0: none"},
    FieldHelp{"Uplink.plain", nullptr, "frames of a switched VLAN without a V.VLAN: up to the host, or dropped"},
    FieldHelp{"Uplink.fdb_limit", "N", "learned remote MACs (1000000)"},
    FieldHelp{"Uplink.tags", nullptr, "frames on the wire have both tags, or the V.VLAN's alone"},
    FieldHelp{"Uplink.offload", nullptr, "netdev is a PF: its NIC carries what it can"},
    FieldHelp{"Uplink.reserved_macs", "N", "entries of the NIC's table of addresses that stay free"},
    FieldHelp{"Uplink.reserved_vlans", "N", "entries of the NIC's table of VLANs that stay free"},
    FieldHelp{"Uplink.vf", "pf=UPLINK,index=N", "netdev is this VF: the NIC sorts its instances' V.VLANs to it"},
    FieldHelp{"Uplink.vfs", "N", "VFs that the agent makes on the PF; 0: it leaves them as they are"},
    FieldHelp{"Instance.tenant", "TENANT",
              "whom it belongs to: groups instances, and counts against the tenant's quota"},
    FieldHelp{"Instance.uplink", "UPLINK", "uplink to the other hosts; may be empty with scope local"},
    FieldHelp{"Instance.mode", nullptr, "{vlan, vvlan} is the identity, or the V.VLAN alone"},
    FieldHelp{"Instance.vlan", "VLAN", "outer VLAN, one that the fabric trunks; piggyback only"},
    FieldHelp{"Instance.vvlan", "VLAN", "V.VLAN; 0: the agent assigns a free one"},
    FieldHelp{"Instance.scope", nullptr, "nothing to or from the wire, or spans hosts"},
    FieldHelp{"Instance.mtu_bytes", "N", "largest L3 packet, 68 to 65535 (1500)"},
    FieldHelp{"Instance.age_s", "N", "learned MACs go after so many seconds unseen (300)"},
    FieldHelp{"Instance.fdb_limit", "N", "learned MACs (16384)"},
    FieldHelp{"Instance.peer_vlans", "VLAN", "further outer VLANs that peers are on; at most 8"},
    FieldHelp{"Instance.fdb", "mac=MAC,vport=VPORT", "a MAC known without learning; or mac=MAC,vlan=VLAN"},
    FieldHelp{"Instance.plain_access", nullptr, "hosts on its VLAN that know no V.VLAN belong to it"},
    FieldHelp{"Instance.rules", "protocol=P,action=A", "a rule for all its vPorts; see 'rule add' for its fields"},
    FieldHelp{"Instance.inspector", "INSPECTOR", "who lets the frames of its vPorts pass or not"},
    FieldHelp{"Instance.draining", nullptr, "forward nothing, keep the configuration"},
    FieldHelp{"Instance.answer_neighbours", nullptr, "answer ARP and ND for addresses of its vPorts here"},
    FieldHelp{"Instance.unregistered", nullptr,
              "peers that are not registered: taken, flooded to as well, or dropped"},
    FieldHelp{"Instance.max_peers", "N", "other hosts of the registry that it takes, 1 to 65535; 0: all"},
    FieldHelp{"Instance.peer_rates", "vlan=VLAN,rate_out_mbps=N",
              "what its peers on a VLAN may send (rate_in_mbps) and be sent; no vlan: on each other one"},
    FieldHelp{"Profile.guest_tags", nullptr, "what happens to frames with a tag of the guest's own"},
    FieldHelp{"Profile.allow_spoof", nullptr, "any source MAC, and sources are learned"},
    FieldHelp{"Profile.mtu_bytes", "N", "largest L3 packet; 0: the instance's"},
    FieldHelp{"Profile.fdb_limit", "N", "learned MACs a vPort (16 with allow-spoof)"},
    FieldHelp{"Profile.rules", "protocol=P,action=A", "a rule for its vPorts; see 'rule add' for its fields"},
    FieldHelp{"Profile.default_in", nullptr, "frames from the VM that no rule matches (allow)"},
    FieldHelp{"Profile.default_out", nullptr, "frames to the VM that no rule matches (allow)"},
    FieldHelp{"Profile.flow_limit", "N", "flow entries a vPort (16384)"},
    FieldHelp{"Profile.rate_in_mbps", "N", "Mbit/s that a vPort's VM may send, 1 to 100000; 0: no limit"},
    FieldHelp{"Profile.burst_in_kib", "N", "KiB of it at once (half a second, at least 256)"},
    FieldHelp{"Profile.rate_out_mbps", "N", "Mbit/s that may be sent to a vPort's VM; 0: no limit"},
    FieldHelp{"Profile.burst_out_kib", "N", "KiB of it at once (half a second, at least 256)"},
    FieldHelp{"Profile.pcp", "0..7|keep", "priority in the wire's tags on what the VM sends; keep: its own (0)"},
    FieldHelp{"Profile.dscp", "0..63|NAME",
              "DSCP that its IP packets get, or a name like ef; none: they keep theirs"},
    FieldHelp{"Profile.shared", nullptr, "all hosts of the registry have it that define none of this name"},
    FieldHelp{"Profile.shared_by", nullptr, "told by the agent: the host whose it is"},
    FieldHelp{"VmacPool.physical_mac", "MAC", "MAC that the vMACs derive from"},
    FieldHelp{"VmacPool.uplink", "UPLINK", "derive them from the MAC of this uplink's interface"},
    FieldHelp{"VmacPool.size", "N", "vMACs in the pool, 1 to 65536 (256)"},
    FieldHelp{"VmacPool.reserved", "MAC", "vMACs handed out and bound to no vNIC; see 'vmac reserve'"},
    FieldHelp{"Vnic.vmac", "MAC", "the MAC that the VM has"},
    FieldHelp{"Vnic.pool", "POOL", "take the vMAC from this pool"},
    FieldHelp{"VPort.instance", "INSTANCE", "the instance that it is a port of"},
    FieldHelp{"VPort.netdev", "NETDEV", "host side of the VM's interface: veth, tap, VF"},
    FieldHelp{"VPort.vf", "pf=UPLINK,index=N", "no interface here: a VF that its VM has itself"},
    FieldHelp{"VPort.offload", nullptr, "the NIC carries it if it can, must, or never does"},
    FieldHelp{"VPort.vnic", "VNIC", "the vNIC behind it"},
    FieldHelp{"VPort.profile", "PROFILE", "the settings that it shares with others"},
    FieldHelp{"VPort.attach", nullptr, "hooks to use; auto decides by the kind of interface"},
    FieldHelp{"VPort.extra_macs", "MAC", "further source MACs allowed beside the vMAC"},
    FieldHelp{"VPort.addresses", "ADDRESS", "IPv4 and IPv6 addresses of its VM, to answer for; at most 64"},
    FieldHelp{"VPort.mtu_bytes", "N", "largest L3 packet; 0: the profile's, then the instance's"},
    FieldHelp{"VPort.trunk", "VPORT", "no interface of its own: behind a tag of this vPort's VM"},
    FieldHelp{"VPort.vid", "VID", "the tag, with trunk, 1 to 4094; 0: the V.VLAN of its instance"},
    FieldHelp{"VPort.patch", "VPORT", "no interface: the vPort at the other end, of another instance"},
    FieldHelp{"VPort.rx_filters", "protocol=P,dst_port=N,queue=Q",
              "frames that a receive queue of its VF gets: also src, dst, src_port"},
    FieldHelp{"VPort.state", nullptr, "active, or its VM is to come or went; see 'migrate'"},
    FieldHelp{"VPort.peer_host", "HOST", "the other host of a VM that moves"},
    FieldHelp{"VPort.rules", "protocol=P,action=A", "a rule of its own; see 'rule add' for its fields"},
    FieldHelp{"Rule.name", "RULE", "its name, new in its list"},
    FieldHelp{"Rule.priority", "N", "higher first; equal: in the order of the list (0)"},
    FieldHelp{"Rule.direction", nullptr, "in: from the VM, out: to the VM (both)"},
    FieldHelp{"Rule.ethertype", "ip|ip6|arp|0xNNNN", "EtherType behind all tags"},
    FieldHelp{"Rule.src_mac", "MAC[/MASK]", "source MAC"},
    FieldHelp{"Rule.dst_mac", "MAC[/MASK]", "destination MAC"},
    FieldHelp{"Rule.src", "PREFIX", "source address or prefix, IPv4 or IPv6; ARP: the sender's"},
    FieldHelp{"Rule.dst", "PREFIX", "destination address or prefix; ARP: the target's"},
    FieldHelp{"Rule.protocol", "tcp|udp|sctp|icmp|icmp6", "or a number; ARP: request, reply or a number"},
    FieldHelp{"Rule.src_ports", "PORT[-PORT]", "any of these source ports; at most 16 ranges"},
    FieldHelp{"Rule.dst_ports", "PORT[-PORT]", "any of these destination ports; at most 16 ranges"},
    FieldHelp{"Rule.icmp", "TYPE[/CODE]", "ICMP type, and code"},
    FieldHelp{"Rule.nd_target", "PREFIX", "what IPv6's Neighbour Discovery is about"},
    FieldHelp{"Rule.tcp_flags", "FLAGS[/MASK]", "of the flags in the mask these are set: syn, syn/syn+ack"},
    FieldHelp{"Rule.action", nullptr, "what becomes of the frame (allow)"},
    FieldHelp{"Rule.stateful", nullptr, "allow, redirect: the rest of the connection passes too, both ways"},
    FieldHelp{"Rule.log", nullptr, "an event for what it decides; at most one a vPort and second"},
    FieldHelp{"Rule.mirror", "MIRROR", "a mirror that gets a copy of what it decides"},
    FieldHelp{"Rule.to_vport", "VPORT", "redirect: to this vPort of the same instance, or a patch of it"},
    FieldHelp{"Rule.to_pool", "VPORT_POOL", "redirect: to one of the pool's vPorts, picked by flow"},
    FieldHelp{"Rule.src_set", "SET", "any of the set's addresses, instead of --src and --src-mac"},
    FieldHelp{"Rule.dst_set", "SET", "any of the set's addresses, instead of --dst and --dst-mac"},
    FieldHelp{"Rule.idle_s", "N", "the rule goes when it decided nothing for so long; 0: never"},
    FieldHelp{"Rule.hard_s", "N", "the rule goes so long after it came; 0: never"},
    FieldHelp{"Tenant.max_instances", "N", "instances, each one V.VLAN; 0: unlimited"},
    FieldHelp{"Tenant.max_vports", "N", "vPorts of its instances; 0: unlimited"},
    FieldHelp{"Set.addresses", "PREFIX", "IPv4 and IPv6 addresses and prefixes"},
    FieldHelp{"Set.macs", "MAC[/MASK]", "MAC addresses"},
    FieldHelp{"Set.vports", "VPORT", "vPorts, for their vMACs"},
    FieldHelp{"Set.shared", nullptr, "all hosts of the registry have it that define none of this name"},
    FieldHelp{"Set.shared_by", nullptr, "told by the agent: the host whose it is"},
    FieldHelp{"VPortPool.vports", "VPORT", "its vPorts, of one instance; at most 32"},
    FieldHelp{"VPortPool.shared", nullptr, "other hosts may add vPorts of theirs; all see each other's"},
    FieldHelp{"VPortPool.shared_by", nullptr, "told by the agent: the host whose it is"},
    FieldHelp{"VPortPool.members", nullptr, "told by the agent: vPorts of other hosts in it"},
    FieldHelp{"Mirror.sources", "vport=VPORT,direction=in",
              "what is copied: a vport, instance or uplink; drops=true"},
    FieldHelp{"Mirror.to_vport", "VPORT", "SPAN: this vPort gets the copies"},
    FieldHelp{"Mirror.to_uplink", "UPLINK", "RSPAN: the copies go out here, in rspan-vlan"},
    FieldHelp{"Mirror.to_ring", nullptr, "another program reads the copies from a ring, pinned as rings/MIRROR"},
    FieldHelp{"Mirror.ring_kib", "N", "the ring's size in KiB, a power of two, 64 to 262144 (4096)"},
    FieldHelp{"Mirror.rspan_vlan", "VLAN", "the VLAN of the copies, with to-uplink"},
    FieldHelp{"Mirror.erspan_remote", "ADDRESS", "ERSPAN: the copies go to this IPv4 or IPv6 address"},
    FieldHelp{"Mirror.erspan_local", "ADDRESS", "their source; empty: the one that the host's routes give"},
    FieldHelp{"Mirror.erspan", nullptr, "the version of ERSPAN"},
    FieldHelp{"Mirror.session_id", "N", "ERSPAN: 0 to 1023"},
    FieldHelp{"Mirror.index", "N", "ERSPAN II: 0 to 1048575; III: hardware id, 0 to 63"},
    FieldHelp{"Mirror.snap_bytes", "N", "bytes of a copy; 0: all"},
    FieldHelp{"Mirror.sample", "N", "one of so many frames; 0, 1: all"},
    FieldHelp{"Mirror.strip_tags", nullptr, "leave the wire's tags out of copies of an uplink's frames"},
    FieldHelp{"Mirror.filter", "protocol=P,action=A", "a rule: what is allowed is copied; none: all"},
    FieldHelp{"VPort.inspector", "INSPECTOR", "who lets its frames pass or not; empty: the instance's"},
    FieldHelp{"Inspector.netdev", "NETDEV", "the switch's end of the interface that leads to it"},
    FieldHelp{"Inspector.fail", nullptr, "frames while it does not listen: they drop, or go on without it"},
    FieldHelp{"Inspector.timeout_ms", "N", "silent for longer, it does not listen, 10 to 60000 (500)"},
    FieldHelp{"Inspector.queue", "N", "nor with so many frames unanswered, 1 to 16384 (1024)"},
    FieldHelp{"Exporter.collector", "ADDRESS:PORT", "where the messages go, by UDP: 192.0.2.9:4739, [fd00::9]:4739"},
    FieldHelp{"Exporter.domain_id", "N", "observation domain in the messages (0)"},
    FieldHelp{"Exporter.instances", "INSTANCE", "watch the vPorts of these; with no tenants either: of all"},
    FieldHelp{"Exporter.tenants", "TENANT", "watch the vPorts of their instances"},
    FieldHelp{"Exporter.sample_flows", "N", "one of so many flows; 0, 1: all"},
    FieldHelp{"Exporter.sample_packets", "N", "one of so many frames as a sample; 0: none"},
    FieldHelp{"Exporter.active_timeout_s", "N", "a flow that goes on is told so often, 1 to 3600 (60)"},
    FieldHelp{"Exporter.template_refresh_s", "N", "templates and names are sent again, 1 to 86400 (60)"},
    FieldHelp{"Tenant.max_vfs", "N", "VFs that a NIC carries for it; 0: unlimited"},
    FieldHelp{"Tenant.max_nic_macs", "N", "entries of a NIC's table of addresses; 0: unlimited"},
    FieldHelp{"Tenant.max_nic_vlans", "N", "entries of a NIC's table of VLANs; 0: unlimited"},
    FieldHelp{"Tenant.max_nic_rates", "N", "VFs whose rate a NIC limits; 0: unlimited"},
    FieldHelp{"Tenant.max_nic_filters", "N", "filters of a NIC that choose queues of its vPorts; 0: unlimited"},
    FieldHelp{"Tenant.max_nic_mirrors", "N", "mirrors of a NIC whose copies go to its vPorts; 0: unlimited"},
    FieldHelp{"Tenant.max_bindings", "N", "vMACs in its distributed instances, and fixed MACs; 0: unlimited"},
    FieldHelp{"Tenant.max_fabric_bindings", "N", "vMACs in distributed instances of all hosts; 0: unlimited"},
    FieldHelp{"Tenant.max_rate_mbps", "N", "Mbit/s each way: the rates of its vPorts together; 0: unlimited"},
    FieldHelp{"Tenant.max_fdb", "N", "learned MACs: the fdb-limits of its instances together; 0: unlimited"},
};

std::string dashed(std::string text) {
    std::ranges::replace(text, '_', '-');
    return text;
}

bool is_message(const FieldDescriptor& field) {
    return field.cpp_type() == FieldDescriptor::CPPTYPE_MESSAGE;
}

std::string choices_of(const FieldDescriptor& field) {
    std::string choices;
    for (int i = 0; i < field.enum_type()->value_count(); ++i) {
        if (i > 0) choices += '|';
        choices += enum_text(*field.enum_type(), field.enum_type()->value(i)->number());
    }
    return choices;
}

// "mac=…,vlan=…" as "{mac: …,vlan: …}".
std::string map_text(const std::string& value) {
    std::string entry;
    for (const char c : value) {
        if (c == '=') {
            entry += ": ";
        } else {
            entry += c;
        }
    }
    return entry.starts_with('{') ? entry : "{" + entry + "}";
}

// The values of a list's flag as the one text that the codec takes: "a,b", or "[{mac: …}]" where an entry has fields.
std::string list_text(const FieldDescriptor& field, std::vector<std::string> values) {
    std::erase(values, "");
    if (values.empty()) return "[]";
    if (!is_message(field)) return fmt::format("{}", fmt::join(values, ","));
    for (std::string& value : values) value = map_text(value);
    return fmt::format("[{}]", fmt::join(values, ", "));
}

}  // namespace

std::vector<pb::Kind> all_kinds() {
    std::vector<pb::Kind> kinds;
    kinds.reserve(static_cast<std::size_t>(pb::Object::descriptor()->field_count()));
    for (int i = 0; i < pb::Object::descriptor()->field_count(); ++i) {
        kinds.push_back(static_cast<pb::Kind>(pb::Object::descriptor()->field(i)->number()));
    }
    return kinds;
}

std::string kind_name(pb::Kind kind) {
    const FieldDescriptor* field = pb::Object::descriptor()->FindFieldByNumber(kind);
    return field == nullptr ? "object" : dashed(field->name());
}

const google::protobuf::Descriptor& descriptor_of(pb::Kind kind) {
    return *pb::Object::descriptor()->FindFieldByNumber(kind)->message_type();
}

std::string label(pb::Kind kind, const std::string& name) {
    return kind_name(kind) + " " + name;
}

std::string mode_name(pb::AttachMode mode) {
    return to_text(mode);
}

std::string field_text(const google::protobuf::Message& message, const FieldDescriptor& field) {
    const google::protobuf::Reflection& reflection = *message.GetReflection();
    if (field.is_repeated()) {
        const int size = reflection.FieldSize(message, &field);
        if (size > 0 && is_message(field)) return fmt::format("{} entries", size);
        std::string text;
        for (int i = 0; i < size; ++i) {
            if (i > 0) text += ',';
            text += field.cpp_type() == FieldDescriptor::CPPTYPE_STRING
                        ? reflection.GetRepeatedString(message, &field, i)
                        : std::to_string(reflection.GetRepeatedUInt32(message, &field, i));
        }
        return text;
    }
    switch (field.cpp_type()) {
        case FieldDescriptor::CPPTYPE_STRING:
            return reflection.GetString(message, &field);
        case FieldDescriptor::CPPTYPE_UINT32: {
            const std::uint32_t number = reflection.GetUInt32(message, &field);
            return number == 0 ? "" : std::to_string(number);
        }
        case FieldDescriptor::CPPTYPE_BOOL:
            return reflection.GetBool(message, &field) ? "yes" : "";
        case FieldDescriptor::CPPTYPE_ENUM:
            return enum_text(*field.enum_type(), reflection.GetEnumValue(message, &field));
        case FieldDescriptor::CPPTYPE_MESSAGE: {
            if (!reflection.HasField(message, &field)) return "";
            const google::protobuf::Message& part = reflection.GetMessage(message, &field);
            std::string text;
            for (int i = 0; i < part.GetDescriptor()->field_count(); ++i) {
                const FieldDescriptor& of_part = *part.GetDescriptor()->field(i);
                const std::string value = field_text(part, of_part);
                text += fmt::format("{}{}={}", i > 0 ? "," : "", of_part.name(), value.empty() ? "0" : value);
            }
            return text;
        }
        default:
            return "";
    }
}

bool is_told(const FieldDescriptor& field) {
    return field.name() == "shared_by" || field.full_name() == "ivds.v1.VPortPool.members";
}

const FieldHelp* field_help(const FieldDescriptor& field) {
    const std::string key = field.containing_type()->name() + "." + field.name();
    const auto* found = std::ranges::find_if(help_table, [&](const FieldHelp& help) { return key == help.field; });
    return found == help_table.end() ? nullptr : found;
}

FieldFlags::FieldFlags(CLI::App& app, const google::protobuf::Descriptor& descriptor, bool with_name,
                       std::span<const std::string_view> only) {
    for (int i = 0; i < descriptor.field_count(); ++i) {
        const FieldDescriptor* field = descriptor.field(i);
        if (field->name() == "name" && !with_name) continue;
        if (!only.empty() && std::ranges::find(only, field->name()) == only.end()) continue;
        if (is_told(*field)) continue;
        const FieldHelp* help = field_help(*field);
        const std::string text = help == nullptr ? "" : help->text;
        const std::string flag = dashed(field->name());
        if (field->cpp_type() == FieldDescriptor::CPPTYPE_BOOL) {
            app.add_flag_function(
                fmt::format("--{0},!--no-{0}", flag),
                [this, field](std::int64_t count) { given_[field] = {count > 0 ? "true" : "false"}; }, text);
            continue;
        }
        CLI::Option* option = app.add_option(
            "--" + flag,
            [this, field](const CLI::results_t& values) {
                given_[field] = values;
                return true;
            },
            text + (field->is_repeated() ? "; may be repeated" : ""));
        if (field->cpp_type() == FieldDescriptor::CPPTYPE_ENUM) {
            option->type_name(choices_of(*field));
        } else {
            option->type_name(help == nullptr || help->value == nullptr ? "VALUE" : help->value);
        }
        if (field->is_repeated()) option->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    }
}

Result<> FieldFlags::set(google::protobuf::Message& message) const {
    for (const auto& [field, values] : given_) {
        const std::string value = field->is_repeated() ? list_text(*field, values)
                                  : is_message(*field) ? map_text(values.front())
                                                       : values.front();
        if (auto done = set_field(message, field->name(), value); !done) {
            // The codec speaks of fields; here they are flags.
            Error error = done.error();
            const std::string flag = "--" + dashed(field->name());
            if (const std::string prefix = fmt::format("--{}: ", field->name()); error.what.starts_with(prefix)) {
                error.what = flag + ": " + error.what.substr(prefix.size());
            }
            const FieldHelp* help = field_help(*field);
            if (error.fix.empty() && help != nullptr) error.fix = fmt::format("{} is: {}", flag, help->text);
            return std::unexpected(std::move(error));
        }
    }
    return {};
}

}  // namespace ivds::cli
