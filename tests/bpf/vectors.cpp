// SPDX-License-Identifier: Apache-2.0
#include "vectors.h"

#include <fmt/format.h>

#include <algorithm>

namespace ivds::test {

namespace {

constexpr Mac broadcast = mac(0xffffffffffff);
constexpr Mac ip6_all_nodes = mac(0x333300000001);
constexpr Mac bridge_group = mac(0x0180c2000000);
constexpr Mac slow_protocols = mac(0x0180c2000002);
constexpr Mac pae_group = mac(0x0180c2000003);
constexpr Mac lldp_group = mac(0x0180c200000e);
constexpr Mac pause_group = mac(0x0180c2000001);
constexpr Mac stranger = mac(0x02000000beef);

constexpr std::uint16_t all_tpids[] = {tpid_c, tpid_s, tpid_q};

// A frame on the wire of uplink 1, with both tags and whatever follows them.
Packet wire(const Mac& dst, const Mac& src, std::uint16_t vlan, std::uint16_t vvlan) {
    return eth(dst, src) / tag(tpid_c, vlan) / tag(tpid_c, vvlan);
}

Vector& add(std::vector<Vector>& table, const std::string& name, const std::string& tags, const World& world) {
    return table.emplace_back(Vector{.name = name, .tags = tags, .world = world, .steps = {}, .expected = {}});
}

World without_spoof_check(std::initializer_list<std::uint32_t> ports) {
    World world = house();
    for (const std::uint32_t id : ports) {
        world.ports.at(id).flags &= static_cast<std::uint16_t>(~IVDS_PF_ANTI_SPOOF);
    }
    return world;
}

World carrying_tags(std::initializer_list<std::uint32_t> ports) {
    World world = house();
    for (const std::uint32_t id : ports) {
        world.ports.at(id).flags |= IVDS_PF_CARRY_TAGS;
    }
    return world;
}

void add_unicast(std::vector<Vector>& table) {
    const Packet local = eth(vm(3), vm(2)) / ip4_udp(46);
    add(table, "loops known unicast back to the local port and sends nothing to the wire", "[R46][R111][R112]",
        house())
        .send(2, local)
        .arrives(3, local)
        .counts("port 2 rx_local", 1)
        .counts("port 2 rx_packets", 1)
        .counts("port 2 rx_bytes", 60)
        .counts("port 3 tx_packets", 1)
        .counts("port 3 tx_bytes", 60)
        .counts("instance 1 port_packets", 1)
        .counts("instance 1 port_bytes", 60);

    const Packet far = eth(remote(1), vm(2)) / ip4_udp(46);
    add(table, "sends a remote MAC to the wire with the outer VLAN and the V.VLAN",
        "[R68][R69][R91][R93][R110][R112][R115]", house())
        .send(2, far)
        .arrives(1, wire(remote(1), vm(2), 10, 100) / ip4_udp(46))
        .counts("port 2 rx_wire", 1)
        .counts("port 1 tx_packets", 1)
        .counts("port 1 tx_bytes", 68)
        .counts("instance 1 port_bytes", 60);
    add(table, "sends a MAC of a peer on another outer VLAN with that VLAN", "[R115]", house())
        .send(2, eth(remote(2), vm(2)) / ip4_udp(46))
        .arrives(1, wire(remote(2), vm(2), 30, 100) / ip4_udp(46));
    add(table, "sends a remote MAC without a VLAN of its own with the instance's VLAN", "", house())
        .send(2, eth(remote(3), vm(2)) / ip4_udp(46))
        .arrives(1, wire(remote(3), vm(2), 10, 100) / ip4_udp(46));
    add(table, "writes the uplink's own TPIDs", "[R86]", house())
        .send(10, eth(remote(1), vm(10)) / ip4_udp(46))
        .arrives(12, eth(remote(1), vm(10)) / tag(tpid_s, 10) / tag(tpid_c, 100) / ip4_udp(46));
    for (const std::uint16_t outer : all_tpids) {
        for (const std::uint16_t inner : all_tpids) {
            World world = house();
            world.uplink(12, 9216, outer, inner);
            const Packet tagged = eth(remote(1), vm(10)) / tag(outer, 10) / tag(inner, 100) / ip4_udp(46);
            const Packet back = eth(vm(10), remote(1)) / tag(outer, 10) / tag(inner, 100) / ip4_udp(46);
            add(table, fmt::format("speaks TPIDs {:04x} and {:04x} in both directions", outer, inner), "[R86]", world)
                .send(10, eth(remote(1), vm(10)) / ip4_udp(46))
                .arrives(12, tagged)
                .send(12, back)
                .arrives(10, eth(vm(10), remote(1)) / ip4_udp(46));
        }
    }

    const Packet only_in_blue = eth(vm(9), vm(2)) / ip4_udp(46);
    World elsewhere = house();
    elsewhere.local_mac(blue, vm(9), 6);
    add(table, "floods a MAC that is local in another instance only, within its own", "[R113][R3][R114]", elsewhere)
        .send(2, only_in_blue)
        .arrives(3, only_in_blue)
        .arrives(4, only_in_blue)
        .arrives(1, wire(vm(9), vm(2), 10, 100) / ip4_udp(46))
        .arrives(1, wire(vm(9), vm(2), 30, 100) / ip4_udp(46));
    const Packet twin = eth(vm(3), vm(2)) / ip4_udp(50);
    add(table, "keeps tenants with the same MACs apart", "[R3][R74][R84][R114]", house())
        .send(2, twin)
        .arrives(3, twin)
        .send(5, twin)
        .arrives(6, twin);
    add(table, "drops what is meant for its own source's port", "[R16]", house())
        .send(2, eth(vm(2), vm(2)) / ip4_udp(46))
        .drops(2, IVDS_DROP_SAME_PORT);
    const Packet llc = eth(vm(3), vm(2)) / llc_stp();
    add(table, "carries an 802.3 frame with a length instead of a type", "[R16]", house())
        .send(2, llc)
        .arrives(3, llc);
    for (const std::size_t size : {14U, 15U, 17U, 18U, 33U, 59U}) {
        const Packet runt = (eth(vm(3), vm(2)) / raw(0x88b5, 60)).sized(size);
        add(table, fmt::format("forwards a runt of {} bytes unpadded", size), "", house())
            .send(2, runt)
            .arrives(3, runt);
    }
}

void add_flood(std::vector<Vector>& table) {
    const auto to_all_of_red = [&](const std::string& name, const std::string& tags, const Layer& layer,
                                   const Mac& dst) {
        const Packet frame = eth(dst, vm(2)) / layer;
        add(table, name, tags, house())
            .send(2, frame)
            .arrives(3, frame)
            .arrives(4, frame)
            .arrives(1, wire(dst, vm(2), 10, 100) / layer)
            .arrives(1, wire(dst, vm(2), 30, 100) / layer)
            .counts("port 2 rx_flood", 1)
            .counts("port 2 rx_packets", 1)
            .counts("port 1 tx_packets", 2)
            .counts("instance 1 port_packets", 1);
    };
    to_all_of_red("floods unknown unicast to the members and once to each outer VLAN", "[R16][R110][R112]",
                  ip4_udp(46), stranger);
    to_all_of_red("floods ARP within the instance only", "[R84][R16][R3]", arp_request(vm(2)), broadcast);
    to_all_of_red("floods IPv6 neighbour discovery within the instance only", "[R84][R16][R3]",
                  ip6_neighbour_solicitation(), ip6_all_nodes);

    const Packet hello = eth(broadcast, vm(8)) / arp_request(vm(8));
    add(table, "floods a local instance to its members and to no wire", "[R45][R46]", house())
        .send(8, hello)
        .arrives(9, hello);
    World lone = house();
    lone.ports.at(9).flags = 0;
    add(table, "counts a flood that reaches nobody", "", lone).send(8, hello).drops(8, IVDS_DROP_LONE_FLOOD);
    World down = house();
    down.ports.at(4).flags &= static_cast<std::uint16_t>(~IVDS_PF_UP);
    down.ports.at(1).flags &= static_cast<std::uint16_t>(~IVDS_PF_UP);
    const Packet frame = eth(broadcast, vm(2)) / arp_request(vm(2));
    add(table, "leaves ports that are down out of a flood", "", down).send(2, frame).arrives(3, frame);
    World other_member = house();
    other_member.ports.at(4).mtu_bytes = 1000;
    const Packet big = eth(broadcast, vm(2)) / ip4_udp(1001);
    add(table, "leaves a member out of a flood whose MTU is too small, and counts it there", "[R145]", other_member)
        .send(2, big)
        .arrives(3, big)
        .arrives(1, wire(broadcast, vm(2), 10, 100) / ip4_udp(1001))
        .arrives(1, wire(broadcast, vm(2), 30, 100) / ip4_udp(1001))
        .drops(4, IVDS_DROP_OVERSIZE_OUT);
    World many_peers = house();
    for (std::uint16_t vlan = 31; vlan < 38; ++vlan) {
        many_peers.peer_vlan(red, vlan);
    }
    Vector& many = add(table, "floods to all eight further outer VLANs of the peers", "", many_peers);
    many.send(2, frame).arrives(3, frame).arrives(4, frame);
    for (const int vlan : {10, 30, 31, 32, 33, 34, 35, 36, 37}) {
        many.arrives(1, wire(broadcast, vm(2), static_cast<std::uint16_t>(vlan), 100) / arp_request(vm(2)));
    }
}

// What 10.0.0.1 asks for 10.0.0.2 is answered with.
Layer arp_reply(const Mac& owner, const Mac& asker) {
    Layer reply = arp_request(owner);
    reply.bytes[7] = 2;
    reply.bytes[17] = 2;
    std::ranges::copy(asker, reply.bytes.begin() + 18);
    reply.bytes[27] = 1;
    return reply;
}

void add_answers(std::vector<Vector>& table) {
    const Packet arp = eth(broadcast, vm(2)) / arp_request(vm(2));
    const Packet solicitation = eth(mac(0x3333ff000009), vm(2)) / ip6_question(vm(2), 9);
    // As scapy builds it.
    const Bytes advertisement = from_hex(
        "020000000002"
        "020000000101"
        "86dd"
        "6000000000203aff"
        "fe800000000000000000000000000009"
        "fe800000000000000000000000000001"
        "8800370d40000000"
        "fe800000000000000000000000000009"
        "0201020000000101");
    World far = house();
    far.answers(red, 2, remote(1)).answers(red, 9, remote(1));
    add(table, "answers for the address of a remote VM, and sends nothing to anybody else", "[R84][R153]", far)
        .send(2, arp)
        .arrives(2, eth(vm(2), remote(1)) / arp_reply(remote(1), vm(2)))
        .counts("port 2 rx_answered", 1)
        .counts("port 2 rx_packets", 1)
        .counts("port 2 tx_packets", 1)
        .counts("port 2 tx_bytes", 60)
        .counts("instance 1 port_packets", 1)
        .send(2, solicitation)
        .arrives(2, advertisement)
        .counts("port 2 rx_answered", 1)
        .counts("port 2 tx_bytes", 86);
    World near = house();
    near.answers(red, 2, vm(3));
    add(table, "answers for the address of a VM of this host", "[R84]", near)
        .send(2, arp)
        .arrives(2, eth(vm(2), vm(3)) / arp_reply(vm(3), vm(2)));

    const auto floods = [&](const std::string& name, const World& world, const Packet& frame) {
        const Bytes tags{0x81, 0x00, 0, 10, 0x81, 0x00, 0, 100};
        Bytes other = tags;
        other[3] = 30;
        const auto with = [&](const Bytes& words) {
            Bytes out = frame;
            out.insert(out.begin() + 12, words.begin(), words.end());
            return out;
        };
        add(table, name, "[R84]", world)
            .send(2, frame)
            .arrives(3, frame)
            .arrives(4, frame)
            .arrives(1, with(tags))
            .arrives(1, with(other))
            .counts("port 2 rx_flood", 1);
    };
    const auto changed = [](const Packet& frame, std::size_t at, std::uint8_t value) {
        Bytes bytes = frame;
        bytes.at(at) = value;
        Mac dst{};
        Mac src{};
        std::copy_n(bytes.begin(), 6, dst.begin());
        std::copy_n(bytes.begin() + 6, 6, src.begin());
        const auto type = static_cast<std::uint16_t>(bytes[12] << 8U | bytes[13]);
        return eth(dst, src) / raw(type, Bytes(bytes.begin() + 14, bytes.end()));
    };
    World off = far;
    off.instances.at(red).flags &= static_cast<std::uint16_t>(~IVDS_IF_ANSWER);
    floods("floods a request where the switch does not answer in the instance", off, arp);
    World other = house();
    other.answers(red, 77, remote(1)).answers(blue, 2, remote(1)).answers(blue, 9, remote(1));
    floods("floods a request for what only another instance knows", other, arp);
    floods("floods a solicitation for what only another instance knows", other, solicitation);
    floods("floods an address probe, which is from nobody", far, changed(changed(arp, 28, 0), 31, 0));
    World own = house();
    own.answers(red, 2, vm(2)).answers(red, 1, remote(1));
    floods("floods a request for the asker's own address", own, arp);
    floods("floods an announcement, whoever the address is said to be of", own, changed(arp, 41, 1));
    floods("floods an ARP reply", far, changed(arp, 21, 2));
    floods("floods a request whose sender is not the frame's", far, changed(arp, 27, 0x77));
    floods("floods a solicitation with a wrong checksum", far, changed(solicitation, 57, 1));
    floods("floods a solicitation that came over a router", far, changed(solicitation, 21, 254));
    floods("floods a solicitation without its sender's MAC", far,
           eth(mac(0x3333ff000009), vm(2)) / ip6_neighbour(135, 9));
    floods("floods an advertisement", far, changed(solicitation, 54, 136));
    World gone = house();
    gone.answers(red, 2, stranger);
    floods("floods a request for a MAC that is not known for good", gone, arp);

    World down = house();
    down.answers(red, 2, vm(3));
    down.ports.at(3).flags &= static_cast<std::uint16_t>(~IVDS_PF_UP);
    down.ports.at(1).flags &= static_cast<std::uint16_t>(~IVDS_PF_UP);
    add(table, "does not answer for a VM whose port is down", "[R84]", down).send(2, arp).arrives(4, arp);
    add(table, "takes a forged request for what it is", "[R59]", far)
        .send(2, eth(broadcast, stranger) / arp_request(stranger))
        .drops(2, IVDS_DROP_SPOOF)
        .tells("spoof 2 from 0 in 1: 02:00:00:00:be:ef");
    const auto ruled = [&](std::uint32_t way_out, std::uint8_t operation) {
        World world = far;
        AclRule rule;
        rule.id = 1;
        rule.action = IVDS_ACL_DROP;
        rule.ethertypes = {0x0806};
        rule.proto = operation;
        world.acls[1] = {.rules = {rule}};
        (way_out != 0 ? world.ports.at(2).acl_out : world.ports.at(2).acl_in) = 1;
        return world;
    };
    add(table, "answers no request that the asker's rules drop", "[R130]", ruled(0, 1))
        .send(2, arp)
        .drops(2, IVDS_DROP_ACL)
        .counts("rule 1 packets", 1);
    add(table, "holds the answer against the rules of what the asker gets", "[R130]", ruled(1, 2))
        .send(2, arp)
        .drops(2, IVDS_DROP_ACL_OUT)
        .counts("rule 1 packets", 1)
        .counts("port 2 rx_answered", 1);
    World trunk = house();
    trunk.behind(2, 200, 13, blue, vm(5)).answers(blue, 2, vm(3));
    add(table, "answers what asks behind a trunk with its tag", "[R116]", trunk)
        .send(2, eth(vm(3), vm(2)) / arp_request(vm(2)))
        .arrives(3, eth(vm(3), vm(2)) / arp_request(vm(2)))
        .send(2, eth(broadcast, vm(5)) / tag(tpid_c, 200, 3) / arp_request(vm(5)))
        .arrives(2, eth(vm(5), vm(3)) / tag(tpid_c, 200, 3) / arp_reply(vm(3), vm(5)))
        .counts("port 13 rx_answered", 1);
    add(table, "floods a request with a tag of the guest's", "[R67]", carrying_tags({2, 3, 4}))
        .send(2, eth(broadcast, vm(2)) / tag(tpid_c, 7) / arp_request(vm(2)))
        .arrives(3, eth(broadcast, vm(2)) / tag(tpid_c, 7) / arp_request(vm(2)))
        .arrives(4, eth(broadcast, vm(2)) / tag(tpid_c, 7) / arp_request(vm(2)))
        .arrives(1, wire(broadcast, vm(2), 10, 100) / tag(tpid_c, 7) / arp_request(vm(2)))
        .arrives(1, wire(broadcast, vm(2), 30, 100) / tag(tpid_c, 7) / arp_request(vm(2)));
    table.back().world.answers(red, 2, remote(1));
    Packet from_wire = wire(broadcast, remote(1), 10, 100) / arp_request(remote(1));
    World asked = house();
    asked.answers(red, 2, vm(3));
    add(table, "answers nobody behind the wire", "[R84]", asked)
        .send(1, from_wire)
        .arrives(2, eth(broadcast, remote(1)) / arp_request(remote(1)))
        .arrives(3, eth(broadcast, remote(1)) / arp_request(remote(1)))
        .arrives(4, eth(broadcast, remote(1)) / arp_request(remote(1)));
}

// Who is a peer of the instance, by what is registered.
void add_peers(std::vector<Vector>& table) {
    const Packet frame = eth(broadcast, vm(2)) / ip4_udp(46);
    World elsewhere = house();
    elsewhere.peer_vlan(red, 31).instances.at(red).flags |= IVDS_IF_SKIP_OWN;
    add(table, "floods to the VLANs of its peers alone", "[R80][R109][R110]", elsewhere)
        .send(2, frame)
        .arrives(3, frame)
        .arrives(4, frame)
        .arrives(1, wire(broadcast, vm(2), 30, 100) / ip4_udp(46))
        .arrives(1, wire(broadcast, vm(2), 31, 100) / ip4_udp(46))
        .counts("port 1 tx_packets", 2);
    World full = house();
    for (std::uint16_t vlan = 31; vlan < 38; ++vlan) {
        full.peer_vlan(red, vlan);
    }
    full.instances.at(red).flags |= IVDS_IF_SKIP_OWN;
    Vector& many = add(table, "floods to eight VLANs of its peers, and not to its own", "[R80][R110]", full);
    many.send(2, frame).arrives(3, frame).arrives(4, frame);
    for (std::uint16_t vlan = 30; vlan < 38; ++vlan) {
        many.arrives(1, wire(broadcast, vm(2), vlan, 100) / ip4_udp(46));
    }
    World alone = house();
    alone.instances.at(red).peer_vlans[0] = 0;
    alone.instances.at(red).flags |= IVDS_IF_SKIP_OWN;
    add(table, "floods to no wire where no peer is", "[R80][R109][R110]", alone)
        .send(2, frame)
        .arrives(3, frame)
        .arrives(4, frame)
        .counts("port 2 rx_flood", 1);
    World lone = alone;
    lone.ports.at(3).flags = lone.ports.at(4).flags = 0;
    add(table, "counts a flood that no member and no peer gets", "[R80]", lone)
        .send(2, frame)
        .drops(2, IVDS_DROP_LONE_FLOOD);
    World plain = alone;
    plain.plain_access(red);
    add(table, "floods to plain hosts where no peer is", "[R80][R115]", plain)
        .send(2, frame)
        .arrives(3, frame)
        .arrives(4, frame)
        .arrives(1, eth(broadcast, vm(2)) / tag(tpid_c, 10) / ip4_udp(46))
        .counts("port 1 tx_bytes", 64);

    World strict = house();
    strict.instances.at(red).flags |= IVDS_IF_REGISTERED;
    const auto from = [&](const Mac& source, std::uint16_t vlan) {
        return wire(vm(2), source, vlan, 100) / ip4_udp(46);
    };
    add(table, "takes frames of registered sources by the VLAN that they are behind, and drops all others and tells",
        "[R80][R107][R158]", strict)
        .send(1, from(remote(1), 10))
        .arrives(2, eth(vm(2), remote(1)) / ip4_udp(46))
        .send(1, from(remote(2), 30))
        .arrives(2, eth(vm(2), remote(2)) / ip4_udp(46))
        .send(1, from(stranger, 10))
        .drops(1, IVDS_DROP_UNREGISTERED)
        .tells("unregistered 1 from 0 in 1: 02:00:00:00:be:ef")
        .send(1, from(remote(1), 30))
        .drops(1, IVDS_DROP_UNREGISTERED)
        .send(1, from(remote(2), 10))
        .drops(1, IVDS_DROP_UNREGISTERED)
        .send(1, from(vm(3), 10))
        .drops(1, IVDS_DROP_WIRE_SOURCE);
    World learned = strict;
    learned.learned_mac(red, stranger, 1, 10);
    add(table, "drops a source that was learned before only the registered were let in", "[R80]", learned)
        .send(1, from(stranger, 10))
        .drops(1, IVDS_DROP_UNREGISTERED)
        .tells("unregistered 1 from 0 in 1: 02:00:00:00:be:ef");
    add(table, "lets anybody into an instance that does not say so", "[R80]", strict)
        .send(1, wire(vm(2), stranger, 10, 200) / ip4_udp(46))
        .arrives(5, eth(vm(2), stranger) / ip4_udp(46));
}

void add_sources(std::vector<Vector>& table) {
    add(table, "drops a forged source and tells of it", "[R59][R3]", house())
        .send(2, eth(vm(3), stranger) / ip4_udp(46))
        .drops(2, IVDS_DROP_SPOOF)
        .tells("spoof 2 from 0 in 1: 02:00:00:00:be:ef");
    add(table, "tells of forged sources once a second and counts each", "[R59]", house())
        .send(2, eth(vm(3), stranger) / ip4_udp(46))
        .drops(2, IVDS_DROP_SPOOF)
        .tells("spoof 2 from 0 in 1: 02:00:00:00:be:ef")
        .send(2, eth(vm(3), stranger) / ip4_udp(46))
        .drops(2, IVDS_DROP_SPOOF);
    add(table, "drops a neighbour's MAC as source", "[R59][R3]", house())
        .send(2, eth(vm(4), vm(3)) / ip4_udp(46))
        .drops(2, IVDS_DROP_SPOOF)
        .tells("spoof 2 from 0 in 1: 02:00:00:00:00:03");
    add(table, "drops a neighbour's static MAC as source without anti-spoof as well", "[R59]",
        without_spoof_check({2}))
        .send(2, eth(vm(4), vm(3)) / ip4_udp(46))
        .drops(2, IVDS_DROP_SPOOF)
        .tells("spoof 2 from 0 in 1: 02:00:00:00:00:03");
    World extra = house();
    extra.local_mac(red, stranger, 2);
    const Packet from_extra = eth(vm(3), stranger) / ip4_udp(46);
    add(table, "lets a listed further MAC through", "[R59]", extra).send(2, from_extra).arrives(3, from_extra);
    for (const auto& [what, source] :
         {std::pair{"multicast", mac(0x030000000001)}, {"broadcast", broadcast}, {"zero", Mac{}}}) {
        add(table, fmt::format("drops a {} source from a VM", what), "", house())
            .send(2, eth(vm(3), source) / ip4_udp(46))
            .drops(2, IVDS_DROP_BAD_SOURCE);
        add(table, fmt::format("drops a {} source from the wire", what), "", house())
            .send(1, wire(vm(3), source, 10, 100) / ip4_udp(46))
            .drops(1, IVDS_DROP_BAD_SOURCE);
    }
    add(table, "drops a static local MAC as source from the wire", "[R3]", house())
        .send(1, wire(vm(3), vm(2), 10, 100) / ip4_udp(46))
        .drops(1, IVDS_DROP_WIRE_SOURCE);
}

void add_control_frames(std::vector<Vector>& table) {
    struct Control {
        const char* name;
        Mac dst;
        Layer layer;
    };
    const Control controls[] = {
        {"PAUSE", pause_group, pause()},         {"PFC", pause_group, pfc()},
        {"a BPDU", bridge_group, llc_stp()},     {"LACP", slow_protocols, lacp()},
        {"EAPOL", pae_group, eapol()},           {"LLDP", lldp_group, lldp()},
        {"PAUSE to a VM's MAC", vm(3), pause()}, {"a frame to 01:80:c2:00:00:0f", mac(0x0180c200000f), ip4_udp(46)},
    };
    for (const Control& control : controls) {
        const Packet frame = eth(control.dst, vm(2)) / control.layer;
        add(table, fmt::format("drops {} from a VM", control.name), "[R96]", house())
            .send(2, frame)
            .drops(2, IVDS_DROP_VM_CONTROL);
        add(table, fmt::format("gives {} from the wire to the host", control.name), "[R95][R96]", house())
            .send(1, eth(control.dst, remote(1)) / control.layer)
            .reaches_the_host()
            .counts("port 1 rx_host", 1);
    }
    add(table, "drops a tagged PAUSE from a VM", "[R96]", carrying_tags({2}))
        .send(2, eth(vm(3), vm(2)) / tag(tpid_c, 5) / pause())
        .drops(2, IVDS_DROP_VM_CONTROL);
    add(table, "drops a BPDU that comes inside a V.VLAN", "[R96]", house())
        .send(1, wire(bridge_group, remote(1), 10, 100) / llc_stp())
        .drops(1, IVDS_DROP_VM_CONTROL);
    const Packet next_group = eth(mac(0x0180c2000010), vm(8)) / ip4_udp(46);
    add(table, "floods 01:80:c2:00:00:10, which is no link-local address", "", house())
        .send(8, next_group)
        .arrives(9, next_group);
}

void add_guest_tags(std::vector<Vector>& table) {
    for (const std::uint16_t tpid : all_tpids) {
        const Packet tagged = eth(vm(3), vm(2)) / tag(tpid, 100) / ip4_udp(46);
        add(table, fmt::format("drops the guest's {:04x} tag by profile", tpid), "[R67]", house())
            .send(2, tagged)
            .drops(2, IVDS_DROP_GUEST_TAG);
        add(table, fmt::format("carries the guest's {:04x} tag as payload by profile", tpid), "[R67]",
            carrying_tags({2, 3}))
            .send(2, tagged)
            .arrives(3, tagged);
        add(table, fmt::format("carries the guest's {:04x} tag as the third on the wire", tpid), "[R67][R93]",
            carrying_tags({2}))
            .send(2, eth(remote(1), vm(2)) / tag(tpid, 7) / ip4_udp(46))
            .arrives(1, wire(remote(1), vm(2), 10, 100) / tag(tpid, 7) / ip4_udp(46));
        add(table, fmt::format("gives a third tag {:04x} from the wire to a guest that takes tags", tpid), "[R93]",
            carrying_tags({2}))
            .send(1, wire(vm(2), remote(1), 10, 100) / tag(tpid, 7, 3) / ip4_udp(46))
            .arrives(2, eth(vm(2), remote(1)) / tag(tpid, 7, 3) / ip4_udp(46));
        add(table, fmt::format("drops a third tag {:04x} from the wire at a guest that takes none", tpid), "[R67]",
            house())
            .send(1, wire(vm(2), remote(1), 10, 100) / tag(tpid, 7) / ip4_udp(46))
            .drops(2, IVDS_DROP_GUEST_TAG_OUT);
        const Packet priority = eth(vm(3), vm(2)) / tag(tpid, 0, 5) / ip4_udp(46);
        add(table, fmt::format("passes a priority tag {:04x} from guest to guest", tpid), "[R93]", house())
            .send(2, priority)
            .arrives(3, priority);
        add(table, fmt::format("passes a priority tag {:04x} to the wire and back", tpid), "[R93]", house())
            .send(2, eth(remote(1), vm(2)) / tag(tpid, 0, 5) / ip4_udp(46))
            .arrives(1, wire(remote(1), vm(2), 10, 100) / tag(tpid, 0, 5) / ip4_udp(46))
            .send(1, wire(vm(2), remote(1), 10, 100) / tag(tpid, 0, 5) / ip4_udp(46))
            .arrives(2, eth(vm(2), remote(1)) / tag(tpid, 0, 5) / ip4_udp(46));
        add(table, fmt::format("drops a guest's forged V.VLAN frame with {:04x}", tpid), "[R3][R67]", house())
            .send(2, eth(vm(3), vm(2)) / tag(tpid, 10) / tag(tpid, 200) / ip4_udp(46))
            .drops(2, IVDS_DROP_GUEST_TAG);
        add(table, fmt::format("carries a guest's forged {:04x} V.VLAN frame inside its own V.VLAN", tpid),
            "[R3][R67]", carrying_tags({2}))
            .send(2, eth(remote(1), vm(2)) / tag(tpid, 10) / tag(tpid, 200) / ip4_udp(46))
            .arrives(1, wire(remote(1), vm(2), 10, 100) / tag(tpid, 10) / tag(tpid, 200) / ip4_udp(46));
    }
    add(table, "drops a tag behind a priority tag by profile", "[R67]", house())
        .send(2, eth(vm(3), vm(2)) / tag(tpid_c, 0) / tag(tpid_c, 5) / ip4_udp(46))
        .drops(2, IVDS_DROP_GUEST_TAG);
    const Packet vid_4095 = eth(vm(3), vm(2)) / tag(tpid_c, 4095) / ip4_udp(46);
    add(table, "takes a guest's VID 4095 as a tag like any other", "", carrying_tags({2, 3}))
        .send(2, vid_4095)
        .arrives(3, vid_4095);
    const Packet tagged = eth(vm(3), vm(2)) / tag(tpid_c, 5) / ip4_udp(46);
    add(table, "drops a guest's tag at a neighbour that takes none", "[R67]", carrying_tags({2}))
        .send(2, tagged)
        .drops(3, IVDS_DROP_GUEST_TAG_OUT);
    const Packet flooded = eth(broadcast, vm(8)) / tag(tpid_c, 5) / ip4_udp(46);
    World mixed = carrying_tags({8, 10});
    mixed.vport(10, grey, vm(10));
    mixed.ports.at(10).flags |= IVDS_PF_CARRY_TAGS;
    add(table, "floods a guest's tag to the members that take tags", "[R67]", mixed)
        .send(8, flooded)
        .arrives(10, flooded)
        .drops(9, IVDS_DROP_GUEST_TAG_OUT);
    const Packet four =
        eth(vm(3), vm(2)) / tag(tpid_c, 0) / tag(tpid_s, 0) / tag(tpid_q, 0) / tag(tpid_c, 9) / ip4_udp(46);
    add(table, "takes a fourth tag as payload", "", house()).send(2, four).arrives(3, four);
}

void add_truncated(std::vector<Vector>& table) {
    for (std::size_t tags = 0; tags <= 4; ++tags) {
        Packet full = eth(vm(3), vm(2));
        for (std::size_t i = 0; i < tags; ++i) {
            full = full / tag(all_tpids[i % 3], static_cast<std::uint16_t>(5 + i));
        }
        full = full / raw(0x88b5, 8);
        const std::size_t whole = 14 + 4 * std::min<std::size_t>(tags, 3);
        for (std::size_t length = 0; length <= full.size(); ++length) {
            const Packet cut = full.sized(length);
            Vector& vector = add(table, fmt::format("handles {} guest tags cut at {} bytes", tags, length), "",
                                 carrying_tags({2, 3}));
            vector.send(2, cut);
            if (length < whole) {
                vector.drops(2, IVDS_DROP_TRUNCATED);
            } else {
                vector.arrives(3, cut);
            }
        }
    }
    for (std::size_t tags = 0; tags <= 3; ++tags) {
        Packet full = eth(vm(2), remote(1));
        const std::uint16_t vids[] = {10, 100, 0};
        for (std::size_t i = 0; i < tags; ++i) {
            full = full / tag(tpid_c, vids[i]);
        }
        full = full / raw(0x88b5, 8);
        for (std::size_t length = 0; length <= full.size(); ++length) {
            const Bytes cut = full.sized(length);
            Vector& vector =
                add(table, fmt::format("handles {} tags from the wire cut at {} bytes", tags, length), "", house());
            vector.send(1, cut);
            if (length < 14 + 4 * tags) {
                vector.drops(1, IVDS_DROP_TRUNCATED);
            } else if (tags < 2) {
                vector.reaches_the_host();
            } else {
                Bytes inner = cut;
                inner.erase(inner.begin() + 12, inner.begin() + 20);
                vector.arrives(2, inner);
            }
        }
    }
}

void add_sizes(std::vector<Vector>& table) {
    World jumbo = house();
    for (const std::uint32_t id : {2U, 3U}) {
        jumbo.ports.at(id).mtu_bytes = 9000;
    }
    struct Size {
        std::uint16_t mtu;
        const World& world;
    };
    const World plain = house();
    for (const auto& [mtu, world] : {Size{1500, plain}, Size{9000, jumbo}}) {
        const Packet fits = eth(vm(3), vm(2)) / ip4_udp(mtu);
        const Packet over = eth(vm(3), vm(2)) / ip4_udp(mtu + 1U);
        add(table, fmt::format("forwards a frame of exactly the MTU of {}", mtu), "[R145]", world)
            .send(2, fits)
            .arrives(3, fits);
        add(table, fmt::format("drops a frame one byte over the MTU of {}", mtu), "[R145]", world)
            .send(2, over)
            .drops(2, IVDS_DROP_OVERSIZE);
        const Packet priority = eth(vm(3), vm(2)) / tag(tpid_c, 0) / ip4_udp(mtu);
        add(table, fmt::format("does not count a guest's tag towards the MTU of {}", mtu), "[R145]", world)
            .send(2, priority)
            .arrives(3, priority);
        World exact = world;
        exact.ports.at(1).mtu_bytes = static_cast<std::uint16_t>(mtu + 8);
        World small = world;
        small.ports.at(1).mtu_bytes = static_cast<std::uint16_t>(mtu + 7);
        const Packet to_wire = eth(remote(1), vm(2)) / ip4_udp(mtu);
        add(table, fmt::format("sends {} bytes and two tags through an uplink that just takes them", mtu), "[R145]",
            exact)
            .send(2, to_wire)
            .arrives(1, wire(remote(1), vm(2), 10, 100) / ip4_udp(mtu));
        add(table, fmt::format("drops {} bytes and two tags that an uplink does not take", mtu), "[R145]", small)
            .send(2, to_wire)
            .drops(1, IVDS_DROP_OVERSIZE_OUT);
        add(table, fmt::format("counts the guest's tag towards the uplink's MTU for {}", mtu), "[R145]", exact)
            .send(2, eth(remote(1), vm(2)) / tag(tpid_c, 0) / ip4_udp(mtu))
            .drops(1, IVDS_DROP_OVERSIZE_OUT);
        add(table, fmt::format("takes a frame of {} and two tags from the wire", mtu), "[R145]", world)
            .send(1, wire(vm(2), remote(1), 10, 100) / ip4_udp(mtu))
            .arrives(2, eth(vm(2), remote(1)) / ip4_udp(mtu));
        World low_instance = world;
        low_instance.instances.at(red).mtu_bytes = static_cast<std::uint16_t>(mtu - 1);
        add(table, fmt::format("drops {} bytes over the instance's MTU from a VM", mtu), "[R145]", low_instance)
            .send(2, fits)
            .drops(2, IVDS_DROP_OVERSIZE);
        add(table, fmt::format("drops {} bytes over the instance's MTU from the wire", mtu), "[R145]", low_instance)
            .send(1, wire(vm(2), remote(1), 10, 100) / ip4_udp(mtu))
            .drops(1, IVDS_DROP_OVERSIZE);
        World low_port = world;
        low_port.ports.at(3).mtu_bytes = static_cast<std::uint16_t>(mtu - 1);
        add(table, fmt::format("drops {} bytes over the MTU of the port they are meant for", mtu), "[R145]", low_port)
            .send(2, fits)
            .drops(3, IVDS_DROP_OVERSIZE_OUT);
    }

    // 4 segments of 600 bytes of TCP: a frame of 2454 bytes that each port may take by its segments.
    const Gso gso{.segments = 4, .size = 600, .headers = 40};
    const Packet large = eth(vm(3), vm(2)) / ip4_tcp(40 + 4 * 600);
    World segments_fit = house();
    segments_fit.ports.at(2).mtu_bytes = 640;
    add(table, "forwards a large TCP frame whose segments fit, and counts the segments", "[R21][R145]", segments_fit)
        .send(2, large, gso)
        .arrives(3, large)
        .counts("port 2 rx_packets", 4)
        .counts("port 3 tx_packets", 4)
        .counts("port 2 rx_bytes", 4 * (14 + 40 + 600));
    World segments_over = house();
    segments_over.ports.at(2).mtu_bytes = 639;
    add(table, "drops a large TCP frame whose segments do not fit", "[R145]", segments_over)
        .send(2, large, gso)
        .counts("drop 2 oversize packets", 4)
        .counts("drop 2 oversize bytes", 4 * (14 + 40 + 600));
    const Packet large_far = eth(remote(1), vm(2)) / ip4_tcp(40 + 4 * 600);
    add(table, "sends a large TCP frame to the wire and counts both tags of each segment", "[R21]", house())
        .send(2, large_far, gso)
        .arrives(1, wire(remote(1), vm(2), 10, 100) / ip4_tcp(40 + 4 * 600))
        .counts("port 1 tx_packets", 4)
        .counts("port 1 tx_bytes", 4 * (14 + 8 + 40 + 600));
}

void add_states(std::vector<Vector>& table) {
    const Packet frame = eth(vm(3), vm(2)) / ip4_udp(46);
    const Packet from_wire = wire(vm(2), remote(1), 10, 100) / ip4_udp(46);
    World freed = house();
    freed.ports[2] = ivds_port{};
    add(table, "drops everything from an interface whose port is gone", "", freed)
        .send(2, frame)
        .drops(2, IVDS_DROP_NO_PORT);
    World unbound = house();
    unbound.ports.at(2).instance = 0;
    add(table, "drops everything from a port without an instance", "[R172]", unbound)
        .send(2, frame)
        .drops(2, IVDS_DROP_NO_INSTANCE);
    World inactive = house();
    inactive.instances.at(red).flags &= static_cast<std::uint16_t>(~IVDS_IF_ACTIVE);
    add(table, "drops everything of an instance that is not active", "[R42]", inactive)
        .send(2, frame)
        .drops(2, IVDS_DROP_INSTANCE_DOWN)
        .send(1, from_wire)
        .drops(1, IVDS_DROP_INSTANCE_DOWN);
    World local_scope = house();
    local_scope.instances.at(red).flags &= static_cast<std::uint16_t>(~IVDS_IF_WIRE);
    add(table, "keeps an instance of local scope off the wire in both directions", "[R45]", local_scope)
        .send(2, eth(remote(1), vm(2)) / ip4_udp(46))
        .drops(2, IVDS_DROP_NO_UPLINK)
        .send(1, from_wire)
        .drops(1, IVDS_DROP_INSTANCE_DOWN);
    World other_uplink = house();
    other_uplink.vvlans[{12, 10, 100}] = red;
    add(table, "drops frames of an instance that come by an uplink that is not its own", "[R3]", other_uplink)
        .send(12, eth(vm(2), remote(1)) / tag(tpid_s, 10) / tag(tpid_c, 100) / ip4_udp(46))
        .drops(12, IVDS_DROP_INSTANCE_DOWN);
    World strange = house();
    strange.strangers = {2};
    add(table, "leaves an interface that is no port of the switch alone", "", strange)
        .send(2, frame)
        .reaches_the_host();
    World down = house();
    down.ports.at(3).flags &= static_cast<std::uint16_t>(~IVDS_PF_UP);
    add(table, "drops unicast to a port that is down, counted there", "[R50]", down)
        .send(2, frame)
        .drops(3, IVDS_DROP_PORT_DOWN);
    World uplink_down = house();
    uplink_down.ports.at(1).flags &= static_cast<std::uint16_t>(~IVDS_PF_UP);
    add(table, "drops what is meant for the wire when the uplink is down, counted there", "[R50]", uplink_down)
        .send(2, eth(remote(1), vm(2)) / ip4_udp(46))
        .drops(1, IVDS_DROP_PORT_DOWN);
    World gone = house();
    gone.ports[3] = ivds_port{};
    add(table, "drops unicast to a port that is gone, counted there", "[R50]", gone)
        .send(2, frame)
        .drops(3, IVDS_DROP_PORT_DOWN);
    World moved = house();
    moved.ports.at(3).instance = blue;
    add(table, "drops unicast to a port that has become another instance's", "[R3]", moved)
        .send(2, frame)
        .drops(3, IVDS_DROP_PORT_DOWN);
    World no_target = house();
    no_target.ports.at(3).flags &= static_cast<std::uint16_t>(~IVDS_PF_XDP_TARGET);
    add(table, "reaches a port that takes no XDP redirects through TC", "", no_target)
        .send(2, frame)
        .arrives(3, frame);
}

void add_from_wire(std::vector<Vector>& table) {
    add(table, "strips both tags of a known pair for the VM", "[R98][R99][R100][R103][R104][R115]", house())
        .send(1, wire(vm(2), remote(1), 10, 100) / ip4_udp(46))
        .arrives(2, eth(vm(2), remote(1)) / ip4_udp(46))
        .counts("port 1 rx_wire", 1)
        .counts("port 1 rx_packets", 1)
        .counts("port 1 rx_bytes", 68)
        .counts("port 2 tx_packets", 1)
        .counts("port 2 tx_bytes", 60)
        .counts("instance 1 wire_packets", 1)
        .counts("instance 1 wire_bytes", 60);
    add(table, "reads the VIDs of tags with priority and drop eligibility", "[R86]", house())
        .send(1, eth(vm(2), remote(1)) / tag(tpid_c, 10, 7, true) / tag(tpid_c, 100, 5, true) / ip4_udp(46))
        .arrives(2, eth(vm(2), remote(1)) / ip4_udp(46));
    add(table, "tells instances on one VLAN apart by the V.VLAN", "[R3][R74][R124]", house())
        .send(1, wire(vm(2), remote(1), 10, 200) / ip4_udp(46))
        .arrives(5, eth(vm(2), remote(1)) / ip4_udp(46));
    add(table, "tells the same V.VLAN under two VLANs apart", "[R3][R74][R124]", house())
        .send(1, wire(vm(7), remote(5), 20, 100) / ip4_udp(46))
        .arrives(7, eth(vm(7), remote(5)) / ip4_udp(46));
    add(table, "takes frames from a peer on another outer VLAN", "[R115]", house())
        .send(1, wire(vm(2), remote(2), 30, 100) / ip4_udp(46))
        .arrives(2, eth(vm(2), remote(2)) / ip4_udp(46));
    const Packet flooded = eth(broadcast, remote(1)) / arp_request(remote(1));
    add(table, "floods from the wire to the members only", "[R109][R16]", house())
        .send(1, wire(broadcast, remote(1), 10, 100) / arp_request(remote(1)))
        .arrives(2, flooded)
        .arrives(3, flooded)
        .arrives(4, flooded)
        .counts("port 1 rx_flood", 1)
        .counts("instance 1 wire_packets", 1);
    const Packet unknown = eth(stranger, remote(1)) / ip4_udp(46);
    add(table, "floods unknown unicast from the wire to the members only", "[R109][R16]", house())
        .send(1, wire(stranger, remote(1), 10, 100) / ip4_udp(46))
        .arrives(2, unknown)
        .arrives(3, unknown)
        .arrives(4, unknown);
    add(table, "does not send back to the wire what belongs there", "[R16]", house())
        .send(1, wire(remote(2), remote(1), 10, 100) / ip4_udp(46))
        .drops(1, IVDS_DROP_SAME_PORT);
    // remote(2) is behind VLAN 30, and went there from here.
    const World moved = house().moved_mac(red, remote(2), 30);
    const auto late = [](std::uint16_t vlan, std::uint8_t pcp, bool dei) {
        return eth(remote(2), remote(1)) / tag(tpid_c, vlan, pcp) / tag(tpid_c, 100, pcp, dei);
    };
    add(table, "sends on what comes late for a VM that went to another outer VLAN, marked by DEI", "[R154][R161]",
        moved)
        .send(1, late(10, 0, false) / ip4_udp(46))
        .arrives(1, late(30, 0, true) / ip4_udp(46))
        .counts("port 1 rx_wire", 1)
        .counts("port 1 tx_packets", 1);
    add(table, "sends it on with its priority, its third tag and in full size", "[R154][R161]", moved)
        .send(1, late(10, 5, false) / tag(tpid_c, 7, 3) / ip4_udp(1492))
        .arrives(1, late(30, 5, true) / tag(tpid_c, 7, 3) / ip4_udp(1492));
    add(table, "does not send on what was sent on before", "[R161]", moved)
        .send(1, late(10, 0, true) / ip4_udp(46))
        .drops(1, IVDS_DROP_SAME_PORT);
    add(table, "does not send on by the outer VLAN that it came by", "[R161]", moved)
        .send(1, late(30, 0, false) / ip4_udp(46))
        .drops(1, IVDS_DROP_SAME_PORT);
    add(table, "does not send on by the outer VLAN that leads to the sender", "[R154][R161]",
        house().moved_mac(red, remote(2), 30).remote_mac(red, remote(1), 30))
        .send(1, late(10, 0, false) / ip4_udp(46))
        .drops(1, IVDS_DROP_SAME_PORT);
    add(table, "sends nothing on once the time is over", "[R161]", house().moved_mac(red, remote(2), 30, true))
        .send(1, late(10, 0, false) / ip4_udp(46))
        .drops(1, IVDS_DROP_SAME_PORT);
    add(table, "sends what a VM here has for one that went as for any other", "[R154]", moved)
        .send(2, eth(remote(2), vm(2)) / ip4_udp(46))
        .arrives(1, wire(remote(2), vm(2), 30, 100) / ip4_udp(46));
    World one_takes_tags = carrying_tags({2});
    const Packet tagged = eth(broadcast, remote(1)) / tag(tpid_c, 7) / ip4_udp(46);
    add(table, "floods a third tag from the wire to the members that take tags", "[R67][R109]", one_takes_tags)
        .send(1, wire(broadcast, remote(1), 10, 100) / tag(tpid_c, 7) / ip4_udp(46))
        .arrives(2, tagged)
        .drops(3, IVDS_DROP_GUEST_TAG_OUT)
        .drops(4, IVDS_DROP_GUEST_TAG_OUT);
    World empty = house();
    empty.ports[7] = ivds_port{};
    add(table, "counts a flood from the wire that reaches nobody", "", empty)
        .send(1, wire(broadcast, remote(1), 20, 100) / arp_request(remote(1)))
        .drops(1, IVDS_DROP_LONE_FLOOD);

    add(table, "drops an unknown outer VLAN and counts the pair", "[R107]", house())
        .send(1, wire(vm(2), remote(1), 11, 100) / ip4_udp(46))
        .drops(1, IVDS_DROP_UNKNOWN_VLAN)
        .counts("miss 1 11 100 packets", 1)
        .counts("miss 1 11 100 bytes", 68);
    add(table, "drops an unknown V.VLAN and counts the pair", "[R107]", house())
        .send(1, wire(vm(2), remote(1), 10, 101) / ip4_udp(46))
        .drops(1, IVDS_DROP_UNKNOWN_VVLAN)
        .counts("miss 1 10 101 packets", 1)
        .counts("miss 1 10 101 bytes", 68);
    add(table, "drops a V.VLAN that only exists under another VLAN", "[R74][R107]", house())
        .send(1, wire(vm(5), remote(1), 20, 200) / ip4_udp(46))
        .drops(1, IVDS_DROP_UNKNOWN_VVLAN)
        .counts("miss 1 20 200 packets", 1);
    for (const auto& [vlan, vvlan] : {std::pair{0, 100}, {4095, 100}, {10, 0}, {10, 4095}, {0, 0}, {4095, 4095}}) {
        add(table, fmt::format("drops the reserved pair of VLAN {} and V.VLAN {}", vlan, vvlan), "[R71]", house())
            .send(1, wire(vm(2), remote(1), static_cast<std::uint16_t>(vlan), static_cast<std::uint16_t>(vvlan)) /
                         ip4_udp(46))
            .drops(1, IVDS_DROP_BAD_VID);
    }
    for (const auto& [vlan, vvlan] : {std::pair{1, 1}, {1, 4094}, {4094, 1}, {4094, 4094}}) {
        const auto outer = static_cast<std::uint16_t>(vlan);
        const auto inner = static_cast<std::uint16_t>(vvlan);
        World corner = house();
        corner.instance(9, 1, outer, inner).vport(11, 9, vm(11)).remote_mac(9, remote(9), outer);
        add(table, fmt::format("switches the corner pair of VLAN {} and V.VLAN {}", vlan, vvlan), "[R72]", corner)
            .send(1, wire(vm(11), remote(9), outer, inner) / ip4_udp(46))
            .arrives(11, eth(vm(11), remote(9)) / ip4_udp(46))
            .send(11, eth(remote(9), vm(11)) / ip4_udp(46))
            .arrives(1, wire(remote(9), vm(11), outer, inner) / ip4_udp(46));
    }

    const auto to_host = [&](const std::string& what, const std::string& tags, std::uint32_t uplink,
                             const Packet& frame) {
        add(table, "gives the host " + what, tags, house())
            .send(uplink, frame)
            .reaches_the_host()
            .counts(fmt::format("port {} rx_host", uplink), 1);
    };
    to_host("an untagged frame", "[R95][R118]", 1, eth(vm(2), remote(1)) / ip4_udp(46));
    to_host("an untagged broadcast", "[R95]", 1, eth(broadcast, remote(1)) / arp_request(remote(1)));
    to_host("a frame of its own VLAN", "[R95][R118]", 1, eth(vm(2), remote(1)) / tag(tpid_c, 99, 3) / ip4_udp(46));
    to_host("a frame of a switched VLAN without a V.VLAN", "[R95][R118]", 1,
            eth(vm(2), remote(1)) / tag(tpid_c, 10) / ip4_udp(46));
    to_host("a priority-tagged frame", "[R95]", 1, eth(vm(2), remote(1)) / tag(tpid_c, 0, 6) / ip4_udp(46));
    to_host("a frame with VID 4095 and no V.VLAN", "[R95]", 1,
            eth(vm(2), remote(1)) / tag(tpid_c, 4095) / ip4_udp(46));
    to_host("two tags under a foreign outer TPID", "[R95]", 1,
            eth(vm(2), remote(1)) / tag(tpid_s, 10) / tag(tpid_c, 100) / ip4_udp(46));
    to_host("two tags with a foreign inner TPID", "[R95]", 1,
            eth(vm(2), remote(1)) / tag(tpid_c, 10) / tag(tpid_s, 100) / ip4_udp(46));
    to_host("two tags under 9100", "[R95]", 1,
            eth(vm(2), remote(1)) / tag(tpid_q, 10) / tag(tpid_c, 100) / ip4_udp(46));
    to_host("two customer tags on an uplink with service tags", "[R95]", 12,
            eth(vm(10), remote(1)) / tag(tpid_c, 10) / tag(tpid_c, 100) / ip4_udp(46));
    to_host("an 802.3 frame", "[R95]", 1, eth(mac(0x01000ccccccc), remote(1)) / llc_stp());

    World strict = house();
    strict.ports.at(1).flags |= IVDS_PF_PLAIN_DROP;
    add(table, "drops a frame of a switched VLAN without a V.VLAN where the uplink says so", "[R95]", strict)
        .send(1, eth(vm(2), remote(1)) / tag(tpid_c, 10) / ip4_udp(46))
        .drops(1, IVDS_DROP_NO_VVLAN);
    add(table, "drops a frame of a switched VLAN with a foreign inner tag where the uplink says so", "[R95]", strict)
        .send(1, eth(vm(2), remote(1)) / tag(tpid_c, 10) / tag(tpid_s, 100) / ip4_udp(46))
        .drops(1, IVDS_DROP_NO_VVLAN);
    add(table, "gives the host its own VLANs where the uplink drops plain frames of switched ones", "[R95][R118]",
        strict)
        .send(1, eth(vm(2), remote(1)) / tag(tpid_c, 99) / ip4_udp(46))
        .reaches_the_host()
        .send(1, eth(lldp_group, remote(1)) / lldp())
        .reaches_the_host();
}

// Hosts on the physical VLAN that know no V.VLAN, let into one instance.
void add_plain_access(std::vector<Vector>& table) {
    World open = house();
    open.instances.at(red).peer_vlans[0] = 0;
    open.plain_access(red);
    constexpr Mac host = mac(0x0200000000f0);
    const auto plain = [&](const Mac& dst, const Mac& src) { return eth(dst, src) / tag(tpid_c, 10); };

    add(table, "takes a plain frame into the instance that has the VLAN, and its answer goes back plain",
        "[R95][R115]", open)
        .send(1, plain(vm(2), host) / ip4_udp(46))
        .arrives(2, eth(vm(2), host) / ip4_udp(46))
        .counts("port 1 rx_wire", 1)
        .counts("port 1 rx_bytes", 64)
        .counts("instance 1 wire_bytes", 60)
        .send(2, eth(host, vm(2)) / ip4_udp(47))
        .arrives(1, plain(host, vm(2)) / ip4_udp(47))
        .counts("port 2 rx_wire", 1)
        .counts("port 1 tx_bytes", 65);
    add(table, "floods a plain broadcast to the members and not back to the wire", "[R95][R115]", open)
        .send(1, plain(broadcast, host) / arp_request(host))
        .arrives(2, eth(broadcast, host) / arp_request(host))
        .arrives(3, eth(broadcast, host) / arp_request(host))
        .arrives(4, eth(broadcast, host) / arp_request(host))
        .counts("port 1 rx_flood", 1);
    add(table, "floods to the wire with the V.VLAN, then plain", "[R110][R115]", open)
        .send(2, eth(broadcast, vm(2)) / arp_request(vm(2)))
        .arrives(3, eth(broadcast, vm(2)) / arp_request(vm(2)))
        .arrives(4, eth(broadcast, vm(2)) / arp_request(vm(2)))
        .arrives(1, wire(broadcast, vm(2), 10, 100) / arp_request(vm(2)))
        .arrives(1, plain(broadcast, vm(2)) / arp_request(vm(2)))
        .counts("port 1 tx_packets", 2)
        .counts("port 1 tx_bytes", 132);
    add(table, "drops the plain copy of a flood that came with its V.VLAN before", "[R110][R115]", open)
        .send(1, wire(broadcast, remote(9), 10, 100) / arp_request(remote(9)))
        .arrives(2, eth(broadcast, remote(9)) / arp_request(remote(9)))
        .arrives(3, eth(broadcast, remote(9)) / arp_request(remote(9)))
        .arrives(4, eth(broadcast, remote(9)) / arp_request(remote(9)))
        .send(1, plain(broadcast, remote(9)) / arp_request(remote(9)))
        .drops(1, IVDS_DROP_PLAIN_SOURCE);
    add(table, "believes a plain host no address of a VM, here or elsewhere", "[R3][R115]", open)
        .send(1, plain(vm(3), vm(2)) / ip4_udp(46))
        .drops(1, IVDS_DROP_WIRE_SOURCE)
        .send(1, plain(vm(3), remote(1)) / ip4_udp(46))
        .drops(1, IVDS_DROP_PLAIN_SOURCE);
    World moved = open;
    moved.learned_plain_mac(red, host);
    add(table, "follows a plain host that becomes a VM, and tells of it", "[R115][R120]", moved)
        .send(1, wire(vm(2), host, 10, 100) / ip4_udp(46))
        .arrives(2, eth(vm(2), host) / ip4_udp(46))
        .tells(fmt::format("move 1 from 1 in 1: {}", to_text(host)))
        .send(2, eth(host, vm(2)) / ip4_udp(46))
        .arrives(1, wire(host, vm(2), 10, 100) / ip4_udp(46));
    add(table, "lets no plain host reach another instance of the VLAN", "[R3][R113][R115]", open)
        .send(1, plain(vm(9), host) / ip4_udp(46))
        .arrives(2, eth(vm(9), host) / ip4_udp(46))
        .arrives(3, eth(vm(9), host) / ip4_udp(46))
        .arrives(4, eth(vm(9), host) / ip4_udp(46));
    add(table, "treats what follows the outer VLAN of a plain frame as the guest's tags", "[R95]", open)
        .send(1, plain(vm(2), host) / tag(tpid_s, 7) / ip4_udp(46))
        .drops(2, IVDS_DROP_GUEST_TAG_OUT);
    add(table, "gives the host link-local frames of a VLAN with plain access", "[R95][R96]", open)
        .send(1, plain(lldp_group, host) / lldp())
        .reaches_the_host();
    World closed = open;
    closed.instances.at(red).flags &= static_cast<std::uint16_t>(~IVDS_IF_ACTIVE);
    add(table, "drops plain frames of an instance that drains", "[R42][R95]", closed)
        .send(1, plain(vm(2), host) / ip4_udp(46))
        .drops(1, IVDS_DROP_INSTANCE_DOWN);
    World small = open;
    small.learned_plain_mac(red, host);
    small.ports.at(1).mtu_bytes = 1504;
    World carrying = open;
    carrying.learned_plain_mac(red, host);
    carrying.ports.at(2).flags |= IVDS_PF_CARRY_TAGS;
    carrying.ports.at(3).flags |= IVDS_PF_CARRY_TAGS;
    add(table, "sends no guest's tag behind the outer VLAN alone, where it would be another tenant's V.VLAN",
        "[R3][R113][R115]", carrying)
        .send(2, eth(host, vm(2)) / tag(tpid_c, 200) / ip4_udp(46))
        .drops(1, IVDS_DROP_GUEST_TAG_OUT)
        .send(2, eth(broadcast, vm(2)) / tag(tpid_c, 200) / arp_request(vm(2)))
        .arrives(3, eth(broadcast, vm(2)) / tag(tpid_c, 200) / arp_request(vm(2)))
        .arrives(1, wire(broadcast, vm(2), 10, 100) / tag(tpid_c, 200) / arp_request(vm(2)))
        .drops(1, IVDS_DROP_GUEST_TAG_OUT)
        .drops(4, IVDS_DROP_GUEST_TAG_OUT);
    add(table, "adds one tag to what goes to a plain host, and two to the rest", "[R145]", small)
        .send(2, eth(host, vm(2)) / ip4_udp(1500))
        .arrives(1, plain(host, vm(2)) / ip4_udp(1500))
        .send(2, eth(remote(1), vm(2)) / ip4_udp(1500))
        .drops(1, IVDS_DROP_OVERSIZE_OUT);
}

// The V.VLAN is the one tag on the wire, as NICs tag what their VFs send; some addresses are VFs' of this host.
void add_single_tag(std::vector<Vector>& table) {
    constexpr std::uint32_t vf = 13;
    constexpr Mac host = mac(0x0200000000f0), of_vf = mac(0x0200000000f1);
    World single;
    single.uplink(1, 9216, tpid_c, 0)
        .instance(red, 1, 100, 1)
        .single_tag(red)
        .instance(blue, 1, 200, 1)
        .single_tag(blue);
    single.vport(2, red, vm(2)).vport(3, red, vm(3)).vport(5, blue, vm(2));
    const auto tagged = [](const Mac& dst, const Mac& src, std::uint16_t vvlan) {
        return eth(dst, src) / tag(tpid_c, vvlan);
    };
    add(table, "takes a frame with the V.VLAN alone, learns its sender, and answers the same way", "[R98][R119]",
        single)
        .send(1, tagged(vm(2), host, 100) / ip4_udp(46))
        .arrives(2, eth(vm(2), host) / ip4_udp(46))
        .counts("port 1 rx_wire", 1)
        .counts("port 1 rx_bytes", 64)
        .counts("instance 1 wire_bytes", 60)
        .send(2, eth(host, vm(2)) / ip4_udp(47))
        .arrives(1, tagged(host, vm(2), 100) / ip4_udp(47))
        .counts("port 1 tx_bytes", 65);
    add(table, "floods to the wire once, with one tag", "[R98][R110]", single)
        .send(2, eth(broadcast, vm(2)) / arp_request(vm(2)))
        .arrives(3, eth(broadcast, vm(2)) / arp_request(vm(2)))
        .arrives(1, tagged(broadcast, vm(2), 100) / arp_request(vm(2)))
        .counts("port 1 tx_packets", 1)
        .counts("port 1 tx_bytes", 64);
    add(table, "tells instances apart by the one tag", "[R3][R113]", single)
        .send(1, tagged(vm(2), host, 200) / ip4_udp(46))
        .arrives(5, eth(vm(2), host) / ip4_udp(46));
    add(table, "leaves a VLAN that is no V.VLAN of the uplink to the host", "[R95]", single)
        .send(1, tagged(vm(2), host, 300) / ip4_udp(46))
        .reaches_the_host();
    add(table, "gives the host no link-local frame of a V.VLAN", "[R98][R113]", single)
        .send(1, tagged(lldp_group, host, 100) / lldp())
        .drops(1, IVDS_DROP_VM_CONTROL);
    World moving = single;
    moving.learned_mac(red, host, 3, 0);
    add(table, "follows an address from a vPort to the wire", "[R119]", moving)
        .send(1, tagged(vm(2), host, 100) / ip4_udp(46))
        .arrives(2, eth(vm(2), host) / ip4_udp(46))
        .tells(fmt::format("move 1 from 3 in 1: {}", to_text(host)));
    World carrying = single;
    carrying.ports.at(2).flags |= IVDS_PF_CARRY_TAGS;
    add(table, "takes what follows the V.VLAN's tag for the guest's", "[R98]", carrying)
        .send(1, tagged(vm(2), host, 100) / tag(tpid_c, 7) / ip4_udp(46))
        .arrives(2, eth(vm(2), host) / tag(tpid_c, 7) / ip4_udp(46))
        .send(1, tagged(vm(3), host, 100) / tag(tpid_c, 7) / ip4_udp(46))
        .drops(3, IVDS_DROP_GUEST_TAG_OUT)
        .send(2, eth(host, vm(2)) / tag(tpid_c, 7) / ip4_udp(46))
        .arrives(1, tagged(host, vm(2), 100) / tag(tpid_c, 7) / ip4_udp(46));
    World tight = single;
    tight.ports.at(1).mtu_bytes = 1504;
    add(table, "adds the four bytes of one tag to what an uplink must take", "[R145]", tight)
        .send(2, eth(broadcast, vm(2)) / ip4_udp(1500))
        .arrives(3, eth(broadcast, vm(2)) / ip4_udp(1500))
        .arrives(1, tagged(broadcast, vm(2), 100) / ip4_udp(1500));

    World carried = single;
    carried.vport(vf, red, of_vf);
    carried.ports.at(vf).kind = IVDS_PORT_VF;
    carried.fdb.at({red, of_vf}) = {
        .port = 1, .last_seen_s = 0, .vlan = 100, .flags = IVDS_FDB_STATIC | IVDS_FDB_PLAIN, .pad0 = 0, .vport = vf};
    add(table, "sends to a VF that the NIC carries by the uplink, and takes its frames from there", "[R98][R110]",
        carried)
        .send(2, eth(of_vf, vm(2)) / ip4_udp(46))
        .arrives(1, tagged(of_vf, vm(2), 100) / ip4_udp(46))
        .send(1, tagged(vm(2), of_vf, 100) / ip4_udp(46))
        .arrives(2, eth(vm(2), of_vf) / ip4_udp(46))
        .send(1, tagged(broadcast, of_vf, 100) / arp_request(of_vf))
        .arrives(2, eth(broadcast, of_vf) / arp_request(of_vf))
        .arrives(3, eth(broadcast, of_vf) / arp_request(of_vf));
    add(table, "believes no vPort the address of a VF", "[R3][R59]", carried)
        .send(2, eth(vm(3), of_vf) / ip4_udp(46))
        .drops(2, IVDS_DROP_SPOOF)
        .tells(fmt::format("spoof 2 from 0 in 1: {}", to_text(of_vf)));
    World away = single;
    away.vport(vf, red, of_vf);
    away.ports.at(vf).kind = IVDS_PORT_VF;
    away.ports.at(vf).flags &= static_cast<std::uint16_t>(~IVDS_PF_UP);
    add(table, "drops what is for a VF that the NIC does not carry, and floods it nothing", "[R98]", away)
        .send(2, eth(of_vf, vm(2)) / ip4_udp(46))
        .drops(vf, IVDS_DROP_PORT_DOWN)
        .send(2, eth(broadcast, vm(2)) / arp_request(vm(2)))
        .arrives(3, eth(broadcast, vm(2)) / arp_request(vm(2)))
        .arrives(1, tagged(broadcast, vm(2), 100) / arp_request(vm(2)));
}

PrefixMatch prefix(std::initializer_list<std::uint8_t> ip4, unsigned bits) {
    PrefixMatch match{.value = {}, .bits = 96 + bits};
    match.value[10] = match.value[11] = 0xff;
    std::ranges::copy(ip4, match.value.begin() + 12);
    return match;
}

// The red world with one list on what VM 2 sends, or on what VM 3 gets.
World with_rules(bool out, std::vector<AclRule> rules, ivds_acl_action otherwise) {
    World world = house();
    world.acls[7] = {.rules = std::move(rules), .default_action = otherwise};
    if (out) {
        world.ports.at(3).acl_out = 7;
    } else {
        world.ports.at(2).acl_in = 7;
    }
    return world;
}

// IPv4 with these bytes behind its header; 10.0.0.1 to 10.0.0.2, as ip4_udp.
Layer ip4_of(std::uint8_t protocol, std::uint16_t fragment, Bytes behind) {
    Bytes bytes{0x45,
                0,
                0,
                0,
                0,
                0,
                static_cast<std::uint8_t>(fragment >> 8U),
                static_cast<std::uint8_t>(fragment),
                64,
                protocol,
                0,
                0,
                10,
                0,
                0,
                1,
                10,
                0,
                0,
                2};
    bytes.insert(bytes.end(), behind.begin(), behind.end());
    bytes[3] = static_cast<std::uint8_t>(bytes.size());
    return raw(0x0800, bytes);
}

// IPv6 with so many destination options of 8 bytes in front of a UDP header to port 5001.
Layer ip6_behind(std::size_t extensions) {
    Bytes bytes(40);
    bytes[0] = 0x60;
    bytes[6] = extensions == 0 ? 17 : 60;
    bytes[23] = 1;
    bytes[39] = 2;
    for (std::size_t i = 1; i <= extensions; ++i) {
        bytes.insert(bytes.end(), {static_cast<std::uint8_t>(i == extensions ? 17 : 60), 0, 1, 4, 0, 0, 0, 0});
    }
    bytes.insert(bytes.end(), {0x10, 0, 0x13, 0x89, 0, 8, 0, 0});
    return raw(0x86dd, bytes);
}

AclRule rule(std::uint32_t id, ivds_acl_action action, std::vector<std::uint16_t> ethertypes = {}) {
    AclRule out;
    out.id = id;
    out.action = action;
    out.ethertypes = std::move(ethertypes);
    return out;
}

AclRule to_port(AclRule out, std::uint8_t proto, std::uint16_t port) {
    out.proto = proto;
    out.dports = {{port, port}};
    return out;
}

AclRule redirect_to(std::uint32_t id, std::uint32_t target) {
    AclRule out = rule(id, IVDS_ACL_REDIRECT);
    out.target = target;
    return out;
}

// vPort 2 may open connections by TCP and UDP to port 5001 and ping; nothing else passes it, in or out.
World secured() {
    World world = house();
    Acl& in = world.acls[1];
    Acl& out = world.acls[2];
    in.default_action = out.default_action = IVDS_ACL_DROP;
    for (const std::uint8_t proto : std::initializer_list<std::uint8_t>{6, 17}) {
        in.rules.push_back(to_port(rule(proto, IVDS_ACL_ALLOW, {0x0800}), proto, 5001));
    }
    in.rules.push_back(rule(1, IVDS_ACL_ALLOW, {0x0800}));
    in.rules.back().proto = 1;
    for (AclRule& each : in.rules) {
        each.flags = IVDS_ACL_STATEFUL;
    }
    world.ports.at(2).acl_in = 1;
    world.ports.at(2).acl_out = 2;
    return world;
}

void add_flows(std::vector<Vector>& table) {
    const auto from_vm = [](const Layer& layer) -> Bytes { return eth(vm(3), vm(2)) / layer; };
    const auto to_vm = [&](const Layer& layer) { return answer_to(from_vm(layer)); };
    const Layer syn = ip4_tcp(46, 0x02);
    const Layer syn_ack = ip4_tcp(46, 0x12);
    const Layer ack = ip4_tcp(46, 0x10);
    const Layer fin = ip4_tcp(46, 0x11);
    const Layer reset = ip4_tcp(46, 0x04);
    const auto pass = [](Vector& vector, std::uint32_t from, const Bytes& frame) -> Vector& {
        return vector.send(from, frame).arrives(from == 2 ? 3 : 2, frame);
    };

    Vector& opens =
        add(table, "opens the way back with a stateful rule, and nothing else", "[R51][R121][R124][R130]", secured());
    opens.send(3, to_vm(syn_ack)).drops(2, IVDS_DROP_ACL_OUT);
    pass(opens, 2, from_vm(syn)).counts("rule 6 packets", 1).counts("flows 2 in packets", 1);
    pass(opens, 3, to_vm(syn_ack)).counts("rule 6 packets", 1).counts("flows 2 out packets", 1);
    pass(opens, 2, from_vm(ack));
    opens.send(3, to_vm(ip4_udp(46))).drops(2, IVDS_DROP_ACL_OUT);

    Vector& closes =
        add(table, "closes a connection after both FINs, and a new one may be opened by its opener alone",
            "[R121][R130]", secured());
    pass(closes, 2, from_vm(syn));
    pass(closes, 3, to_vm(fin));
    pass(closes, 2, from_vm(fin));
    pass(closes, 3, to_vm(ack));
    closes.send(3, to_vm(syn)).drops(2, IVDS_DROP_ACL_OUT);
    pass(closes, 2, from_vm(syn));

    // What XDP cannot send to VM 2 it takes back from the entry, which owes its rule nothing for it.
    World listed = secured();
    listed.ports.at(2).acl_out = 0;
    listed.ports.at(2).flags &= static_cast<std::uint16_t>(~IVDS_PF_XDP_TARGET);
    Vector& reopened =
        add(table, "counts for no rule what no list is asked about, after a connection", "[R130]", listed);
    pass(reopened, 2, from_vm(syn)).counts("rule 6 packets", 1);
    pass(reopened, 3, to_vm(fin)).counts("rule 6 packets", 1);
    pass(reopened, 2, from_vm(fin)).counts("rule 6 packets", 1);
    pass(reopened, 3, to_vm(syn)).counts("flows 2 out packets", 1);
    pass(reopened, 2, from_vm(ack)).counts("rule 6 packets", 1);

    Vector& resets = add(table, "takes a reset for the end, unless both sides go on", "[R130]", secured());
    pass(resets, 2, from_vm(syn));
    pass(resets, 3, to_vm(reset));
    pass(resets, 2, from_vm(ack));
    resets.send(2, from_vm(reset)).arrives(3, from_vm(reset));
    resets.send(3, to_vm(syn)).drops(2, IVDS_DROP_ACL_OUT);

    Vector& pings = add(table, "lets an echo reply back to who asked, by its identifier", "[R130]", secured());
    pass(pings, 2, from_vm(ip4_echo(8, 7)));
    pass(pings, 3, to_vm(ip4_echo(8, 7)));
    pings.send(3, to_vm(ip4_echo(8, 8))).drops(2, IVDS_DROP_ACL_OUT);
    pings.send(3, Bytes(eth(vm(2), vm(3)) / ip4_echo(8, 7))).drops(2, IVDS_DROP_ACL_OUT);

    Vector& errors = add(table, "lets in the ICMP error about a connection, and no other", "[R130]", secured());
    errors.send(3, icmp_error_about(from_vm(ip4_udp(46)))).drops(2, IVDS_DROP_ACL_OUT);
    pass(errors, 2, from_vm(ip4_udp(46)));
    pass(errors, 3, icmp_error_about(from_vm(ip4_udp(46))));
    errors.send(3, icmp_error_about(from_vm(ip4_tcp(46)))).drops(2, IVDS_DROP_ACL_OUT);

    World full = secured();
    full.ports.at(2).flow_limit = 1;
    Vector& limit = add(table, "refuses a connection beyond the vPort's flow entries, and keeps those there are",
                        "[R121][R127]", full);
    pass(limit, 2, from_vm(syn));
    limit.send(2, from_vm(ip4_udp(46)))
        .drops(2, IVDS_DROP_FLOW_LIMIT)
        .tells("flow_limit 2 from 0 in 1: 00:00:00:00:00:00 rule 17");
    pass(limit, 3, to_vm(syn_ack));

    World aside = house();
    aside.acls[1].rules = {redirect_to(1, 4)};
    aside.ports.at(2).acl_in = 1;
    const Bytes udp = from_vm(ip4_udp(46));
    add(table, "redirects to a vPort, whatever the destination", "[R51][R52]", aside)
        .send(2, udp)
        .arrives(4, udp)
        .counts("rule 1 packets", 1)
        .send(2, eth(broadcast, vm(2)) / arp_request(vm(2)))
        .arrives(4, eth(broadcast, vm(2)) / arp_request(vm(2)));
    World pooled = aside;
    pooled.acls[1].rules = {redirect_to(1, IVDS_TARGET_POOL | 9)};
    pooled.pools[9] = {3, 4};
    pooled.ports.at(3).flags &= static_cast<std::uint16_t>(~IVDS_PF_UP);
    add(table, "redirects to the member of a pool that is up", "[R52]", pooled).send(2, udp).arrives(4, udp);
    World nobody = pooled;
    nobody.ports.at(4).flags &= static_cast<std::uint16_t>(~IVDS_PF_UP);
    add(table, "drops what goes to a pool with no member up", "[R52]", nobody)
        .send(2, udp)
        .drops(2, IVDS_DROP_NO_MEMBER);
    World connected = nobody;
    connected.acls[1].rules[0].flags |= IVDS_ACL_STATEFUL;
    connected.acls[2].default_action = IVDS_ACL_DROP;
    connected.ports.at(2).acl_out = 2;
    add(table, "lets answers go on while the pool of a connection has no member up", "[R52][R130]", connected)
        .send(2, udp)
        .drops(2, IVDS_DROP_NO_MEMBER)
        .counts("rule 1 packets", 1)
        .send(3, answer_to(udp))
        .arrives(2, answer_to(udp))
        .counts("rule 1 packets", 1)
        .send(2, udp)
        .drops(2, IVDS_DROP_NO_MEMBER)
        .counts("rule 1 packets", 1);

    // From red into blue, where the same vMACs live behind other vPorts.
    World patched = house();
    patched.patch(13, red, 14, blue);
    patched.acls[1].rules = {redirect_to(1, 13)};
    patched.ports.at(2).acl_in = 1;
    add(table, "goes through a patch into another instance by a rule, and never without", "[R49][R116]", patched)
        .send(2, udp)
        .arrives(6, udp)
        .counts("port 13 tx_packets", 1)
        .counts("port 14 rx_packets", 1)
        .counts("port 14 rx_local", 1)
        .counts("instance 2 port_packets", 1)
        .send(3, eth(vm(4), vm(3)) / ip4_udp(46))
        .arrives(4, eth(vm(4), vm(3)) / ip4_udp(46))
        .send(2, eth(broadcast, vm(2)) / arp_request(vm(2)))
        .arrives(5, eth(broadcast, vm(2)) / arp_request(vm(2)))
        .arrives(6, eth(broadcast, vm(2)) / arp_request(vm(2)))
        .arrives(1, wire(broadcast, vm(2), 10, 200) / arp_request(vm(2)));
    World barred = patched;
    barred.acls[2].default_action = IVDS_ACL_ALLOW;
    barred.acls[2].rules = {rule(2, IVDS_ACL_DROP, {0x0800})};
    barred.ports.at(14).acl_in = 2;
    add(table, "a patch's rules judge each frame of a known flow by itself, whatever came between", "[R49][R51]",
        barred)
        .send(2, udp)
        .drops(14, IVDS_DROP_ACL)
        .send(2, eth(vm(3), vm(2)) / raw(0x88b5, 46))
        .arrives(6, eth(vm(3), vm(2)) / raw(0x88b5, 46))
        .send(2, udp)
        .drops(14, IVDS_DROP_ACL);
    World torn = patched;
    torn.ports.at(14).flags = 0;
    add(table, "drops what goes to a patch whose other end is away", "[R49]", torn)
        .send(2, udp)
        .drops(2, IVDS_DROP_PATCH);
    World within = patched;  // and the destination is the source
    within.ports.at(14).instance = red;
    add(table, "drops what goes to a patch within one instance", "[R49]", within)
        .send(2, eth(vm(2), vm(2)) / ip4_udp(46))
        .drops(2, IVDS_DROP_PATCH);
    World looped = patched;
    looped.acls[2].rules = {redirect_to(2, 14)};
    looped.ports.at(14).acl_in = 2;
    add(table, "never redirects twice", "[R49]", looped).send(2, udp).drops(14, IVDS_DROP_PATCH);
}

// IPv6's ARP: rules look at what the message is about, wherever it is sent to.
void add_neighbour_discovery(std::vector<Vector>& table) {
    const auto frame = [](std::uint8_t type, std::uint8_t target, std::size_t l3) {
        Layer layer = ip6_neighbour(type, target);
        layer.bytes.resize(l3);
        return eth(vm(3), vm(2)) / layer;
    };
    const auto about = [](std::uint32_t id, ivds_acl_action action, unsigned bits) {
        AclRule made = rule(id, action, {0x86dd});
        made.proto = 58;
        made.nd_target = PrefixMatch{.value = {0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2}, .bits = bits};
        return made;
    };
    constexpr std::size_t whole = 40 + 24;
    AclRule advertised = about(1, IVDS_ACL_DROP, 128);
    advertised.icmp_type = 136;
    add(table, "lets a VM advertise addresses that are its own alone", "[R130]",
        with_rules(false, {about(2, IVDS_ACL_ALLOW, 128), about(1, IVDS_ACL_DROP, 0)}, IVDS_ACL_ALLOW))
        .send(2, frame(136, 2, whole))
        .arrives(3, frame(136, 2, whole))
        .counts("rule 2 packets", 1)
        .send(2, frame(136, 3, whole))
        .drops(2, IVDS_DROP_ACL)
        .counts("rule 1 packets", 1)
        .send(2, frame(135, 3, whole))
        .drops(2, IVDS_DROP_ACL)
        .counts("rule 1 packets", 1)
        .send(2, frame(128, 3, whole))
        .arrives(3, frame(128, 3, whole));
    add(table, "tells what neighbour discovery is about at its receiver, type by type", "[R130]",
        with_rules(true, {advertised}, IVDS_ACL_ALLOW))
        .send(1, wire(vm(3), remote(1), 10, 100) / ip6_neighbour(136, 2))
        .drops(3, IVDS_DROP_ACL_OUT)
        .counts("rule 1 packets", 1)
        .send(2, frame(136, 3, whole))
        .arrives(3, frame(136, 3, whole))
        .send(2, frame(135, 2, whole))
        .arrives(3, frame(135, 2, whole));
    add(table, "never takes another message of the same addresses for one that was let through", "[R130]",
        with_rules(false, {about(1, IVDS_ACL_ALLOW, 128)}, IVDS_ACL_DROP))
        .send(2, frame(135, 2, whole))
        .arrives(3, frame(135, 2, whole))
        .counts("rule 1 packets", 1)
        .send(2, frame(135, 3, whole))
        .drops(2, IVDS_DROP_ACL)
        .send(2, frame(135, 2, whole))
        .arrives(3, frame(135, 2, whole))
        .counts("rule 1 packets", 1);
    AclRule with_ports = about(1, IVDS_ACL_ALLOW, 128);
    with_ports.dports = {{5001, 5001}};
    add(table, "takes no neighbour discovery for what a rule's ports are of", "[R130]",
        with_rules(false, {with_ports}, IVDS_ACL_DROP))
        .send(2, frame(135, 2, whole))
        .drops(2, IVDS_DROP_ACL);
    AclRule asked = rule(3, IVDS_ACL_ALLOW, {0x86dd});
    asked.proto = 58;
    asked.icmp_type = 135;
    Vector& cut = add(table, "lets no neighbour discovery pass for a rule about it that ends before its target",
                      "[R130]", with_rules(false, {about(1, IVDS_ACL_ALLOW, 0), asked}, IVDS_ACL_DROP));
    Vector& held =
        add(table, "holds neighbour discovery that ends before its target against every rule that drops it", "[R130]",
            with_rules(false, {about(1, IVDS_ACL_DROP, 128)}, IVDS_ACL_ALLOW));
    for (const std::size_t l3 : {whole - 1, std::size_t{48}}) {
        cut.send(2, frame(135, 3, l3)).drops(2, IVDS_DROP_ACL);
        held.send(2, frame(135, 3, l3)).drops(2, IVDS_DROP_ACL).counts("rule 1 packets", 1);
    }
    cut.send(2, frame(135, 3, whole)).arrives(3, frame(135, 3, whole)).counts("rule 1 packets", 1);
    held.send(2, frame(135, 3, whole)).arrives(3, frame(135, 3, whole));
}

void add_rules(std::vector<Vector>& table) {
    const Packet udp = eth(vm(3), vm(2)) / ip4_udp(46);  // 10.0.0.1:4096 to 10.0.0.2:5001
    const Packet tcp = eth(vm(3), vm(2)) / ip4_tcp(46);
    const AclRule to_5001 = to_port(rule(1, IVDS_ACL_DROP, {0x0800}), 17, 5001);
    AclRule allow_5001 = to_5001;
    allow_5001.action = IVDS_ACL_ALLOW;

    add(table, "drops what a rule of the sender drops, and counts for the rule", "[R51][R130]",
        with_rules(false, {to_5001}, IVDS_ACL_ALLOW))
        .send(2, udp)
        .drops(2, IVDS_DROP_ACL)
        .counts("rule 1 packets", 1)
        .counts("rule 1 bytes", 60)
        .send(2, tcp)
        .arrives(3, tcp);
    add(table, "drops what a rule of the receiver drops, counted there", "[R51][R130]",
        with_rules(true, {to_5001}, IVDS_ACL_ALLOW))
        .send(2, udp)
        .drops(3, IVDS_DROP_ACL_OUT)
        .counts("rule 1 packets", 1)
        .send(1, wire(vm(3), remote(1), 10, 100) / ip4_udp(46))
        .drops(3, IVDS_DROP_ACL_OUT)
        .counts("rule 1 bytes", 60);
    add(table, "lets pass what a rule allows where the default drops", "[R51][R130]",
        with_rules(false, {allow_5001}, IVDS_ACL_DROP))
        .send(2, udp)
        .arrives(3, udp)
        .counts("rule 1 packets", 1)
        .send(2, tcp)
        .drops(2, IVDS_DROP_ACL)
        .send(2, eth(broadcast, vm(2)) / arp_request(vm(2)))
        .drops(2, IVDS_DROP_ACL);
    World told = with_rules(false, {allow_5001}, IVDS_ACL_DROP);
    told.acls[2] = {.rules = {}, .default_action = IVDS_ACL_ALLOW};
    told.ports.at(2).acl_out = 2;
    const Bytes answer = answer_to(udp);
    told.ports.at(3).flags &= static_cast<std::uint16_t>(~IVDS_PF_XDP_TARGET);
    add(table, "takes back from a rule what XDP counted and could not send", "[R51][R130]", told)
        .send(2, udp)
        .arrives(3, udp)
        .counts("rule 1 packets", 1)
        .counts("rule 1 bytes", 60)
        .send(3, answer)
        .arrives(2, answer);
    AclRule near_by = rule(1, IVDS_ACL_ALLOW, {0x0800});
    near_by.dst = prefix({10, 0, 0, 2}, 32);
    AclRule wide = rule(2, IVDS_ACL_DROP, {0x0800});
    wide.src = prefix({10, 0, 0, 0}, 8);
    add(table, "takes the first rule that matches, whatever it looks at", "[R51][R130]",
        with_rules(false, {near_by, wide, rule(3, IVDS_ACL_ALLOW)}, IVDS_ACL_DROP))
        .send(2, udp)
        .arrives(3, udp)
        .counts("rule 1 packets", 1);
    add(table, "leaves a member out of a flood whose rules drop it", "[R51][R130]",
        with_rules(true, {rule(9, IVDS_ACL_DROP, {0x0806})}, IVDS_ACL_ALLOW))
        .send(4, eth(broadcast, vm(4)) / arp_request(vm(4)))
        .arrives(2, eth(broadcast, vm(4)) / arp_request(vm(4)))
        .arrives(1, wire(broadcast, vm(4), 10, 100) / arp_request(vm(4)))
        .arrives(1, wire(broadcast, vm(4), 30, 100) / arp_request(vm(4)))
        .drops(3, IVDS_DROP_ACL_OUT)
        .counts("rule 9 packets", 1);
    const Packet request = eth(broadcast, vm(2)) / arp_request(vm(2));
    AclRule asking = rule(1, IVDS_ACL_DROP, {0x0806});
    asking.proto = 1;
    add(table, "tells ARP by its operation", "[R130]", with_rules(false, {asking}, IVDS_ACL_ALLOW))
        .send(2, request)
        .drops(2, IVDS_DROP_ACL)
        .counts("rule 1 packets", 1);
    add_neighbour_discovery(table);
    add(table, "looks at what is behind the guest's own tags", "[R130]",
        [&] {
            World world = with_rules(false, {to_5001}, IVDS_ACL_ALLOW);
            world.ports.at(2).flags |= IVDS_PF_CARRY_TAGS;
            return world;
        }())
        .send(2, eth(vm(3), vm(2)) / tag(tpid_c, 5) / ip4_udp(46))
        .drops(2, IVDS_DROP_ACL)
        .counts("rule 1 packets", 1);

    World deep = with_rules(false, {}, IVDS_ACL_ALLOW);
    deep.ports.at(2).flags |= IVDS_PF_CARRY_TAGS;
    deep.ports.at(3).flags |= IVDS_PF_CARRY_TAGS;
    add(table, "lets nothing pass any list that hides behind a fourth tag", "[R130]", deep)
        .send(2, eth(vm(3), vm(2)) / tag(tpid_c, 1) / tag(tpid_c, 2) / tag(tpid_c, 3) / tag(tpid_c, 4) / ip4_udp(46))
        .drops(2, IVDS_DROP_ACL);

    // What cannot be read is never a way around: an allow rule that looks at it does not match, a drop rule does.
    const Packet later = eth(vm(3), vm(2)) / ip4_of(17, 0x0005, Bytes(26));
    const Packet first = eth(vm(3), vm(2)) / ip4_of(17, 0x2000, {0x10, 0, 0x13, 0x89, 0, 8, 0, 0});
    const Packet cut = eth(vm(3), vm(2)) / ip4_of(6, 0, {0x10, 0, 0x13, 0x89});
    const Packet broken = eth(vm(3), vm(2)) / raw(0x0800, Bytes(26, 0x99));
    const AclRule telnet = to_port(rule(1, IVDS_ACL_DROP, {0x0800}), 6, 23);
    add(table, "holds a later fragment against a rule with ports as if it matched, if the rule drops", "[R130]",
        with_rules(false, {to_5001}, IVDS_ACL_ALLOW))
        .send(2, later)
        .drops(2, IVDS_DROP_ACL)
        .counts("rule 1 packets", 1)
        .send(2, first)
        .drops(2, IVDS_DROP_ACL)
        .counts("rule 1 packets", 1);
    add(table, "lets no later fragment pass for a rule with ports that allows", "[R130]",
        with_rules(false, {allow_5001}, IVDS_ACL_DROP))
        .send(2, first)
        .arrives(3, first)
        .counts("rule 1 packets", 1)
        .send(2, later)
        .drops(2, IVDS_DROP_ACL);
    add(table, "holds a TCP header that is cut off against a rule with ports, if the rule drops", "[R130]",
        with_rules(false, {telnet}, IVDS_ACL_ALLOW))
        .send(2, cut)
        .drops(2, IVDS_DROP_ACL)
        .counts("rule 1 packets", 1);
    add(table, "holds what says IP and is none against every rule about IP that drops", "[R130]",
        with_rules(false, {telnet}, IVDS_ACL_ALLOW))
        .send(2, broken)
        .drops(2, IVDS_DROP_ACL)
        .counts("rule 1 packets", 1);
    for (const std::size_t extensions : {0U, 1U, 6U, 7U}) {
        AclRule six = allow_5001;
        six.ethertypes = {0x86dd};
        const Packet frame = eth(vm(3), vm(2)) / ip6_behind(extensions);
        Vector& vector = add(table, fmt::format("follows {} IPv6 extension headers, and six at most", extensions),
                             "[R130]", with_rules(false, {six}, IVDS_ACL_DROP));
        if (extensions <= 6) {
            vector.send(2, frame).arrives(3, frame).counts("rule 1 packets", 1);
        } else {
            vector.send(2, frame).drops(2, IVDS_DROP_ACL);
        }
    }
    add(table, "learns no source of a frame that the rules drop", "[R120][R130]",
        [&] {
            World world = with_rules(false, {to_5001}, IVDS_ACL_ALLOW);
            world.ports.at(2).flags &= static_cast<std::uint16_t>(~IVDS_PF_ANTI_SPOOF);
            return world;
        }())
        .send(2, eth(vm(3), mac(0x020000000bad)) / ip4_udp(46))
        .drops(2, IVDS_DROP_ACL)
        .counts("rule 1 packets", 1)
        .send(4, eth(mac(0x020000000bad), vm(4)) / raw(0x88b5, 46))
        .arrives(2, eth(mac(0x020000000bad), vm(4)) / raw(0x88b5, 46))
        .arrives(3, eth(mac(0x020000000bad), vm(4)) / raw(0x88b5, 46))
        .arrives(1, wire(mac(0x020000000bad), vm(4), 10, 100) / raw(0x88b5, 46))
        .arrives(1, wire(mac(0x020000000bad), vm(4), 30, 100) / raw(0x88b5, 46));
}

// Another DSCP in a valid IPv4 header: with the sum that goes with it.
Layer marked(Layer layer, std::uint8_t tos) {
    layer.bytes[1] = tos;
    layer.bytes[10] = layer.bytes[11] = 0;
    std::uint32_t sum = 0;
    for (std::size_t i = 0; i < 20; i += 2) {
        sum += static_cast<std::uint32_t>(layer.bytes[i] << 8U | layer.bytes[i + 1]);
    }
    sum = ((sum & 0xffffU) + (sum >> 16U)) ^ 0xffffU;
    layer.bytes[10] = static_cast<std::uint8_t>(sum >> 8U & 0xffU);
    layer.bytes[11] = static_cast<std::uint8_t>(sum & 0xffU);
    return layer;
}

void add_priorities(std::vector<Vector>& table) {
    World set = house();
    set.ports.at(2).pcp = 5;
    const auto wired = [](std::uint8_t pcp, std::uint16_t vlan) {
        return eth(remote(1), vm(2)) / tag(tpid_c, vlan, pcp) / tag(tpid_c, 100, pcp);
    };
    add(table, "puts the PCP of the profile into both tags of the wire", "[R132]", set)
        .send(2, eth(remote(1), vm(2)) / ip4_udp(46))
        .arrives(1, wired(5, 10) / ip4_udp(46))
        .send(3, eth(remote(1), vm(3)) / ip4_udp(46))
        .arrives(1, wire(remote(1), vm(3), 10, 100) / ip4_udp(46));
    World keep = house();
    keep.ports.at(2).pcp = IVDS_PCP_KEEP;
    keep.ports.at(2).flags |= IVDS_PF_CARRY_TAGS;
    add(table, "keeps the priority of the guest's own tag where the profile says so", "[R132][R93]", keep)
        .send(2, eth(remote(1), vm(2)) / tag(tpid_c, 0, 3) / ip4_udp(46))
        .arrives(1, wired(3, 10) / tag(tpid_c, 0, 3) / ip4_udp(46))
        .send(2, eth(remote(1), vm(2)) / tag(tpid_c, 7, 6) / ip4_udp(46))
        .arrives(1, wired(6, 10) / tag(tpid_c, 7, 6) / ip4_udp(46))
        .send(2, eth(remote(1), vm(2)) / ip4_udp(46))
        .arrives(1, wired(0, 10) / ip4_udp(46));
    World dscp = house();
    dscp.ports.at(2).dscp = 1 + 46;
    Layer ip6 = ip6_neighbour_solicitation();
    Layer marked6 = ip6;
    marked6.bytes[0] = 0x6b;
    marked6.bytes[1] = static_cast<std::uint8_t>(0x80U | (ip6.bytes[1] & 0x3fU));
    add(table, "marks the DSCP of what a VM sends, its ECN kept and its header's sum right", "[R132]", dscp)
        .send(2, eth(vm(3), vm(2)) / marked(ip4_udp(46), 0x03))
        .arrives(3, eth(vm(3), vm(2)) / marked(ip4_udp(46), 46 << 2 | 3))
        .send(2, eth(remote(1), vm(2)) / ip4_tcp(60))
        .arrives(1, wire(remote(1), vm(2), 10, 100) / marked(ip4_tcp(60), 46 << 2))
        .send(2, eth(vm(3), vm(2)) / ip6)
        .arrives(3, eth(vm(3), vm(2)) / marked6)
        .send(2, eth(vm(3), vm(2)) / raw(0x88b5, 46))
        .arrives(3, eth(vm(3), vm(2)) / raw(0x88b5, 46));
}

void add_trunks(std::vector<Vector>& table) {
    // The VM of port 2 of red knows blue behind tag 200 and green behind 77.
    World world = house();
    world.behind(2, 200, 13, blue, vm(5)).behind(2, 77, 14, green, vm(6));
    const Bytes untagged(eth(vm(3), vm(2)) / ip4_udp(46));
    add(table, "knows the vPorts behind a trunk by their tags, which go and come with the VM alone", "[R116]", world)
        .send(2, untagged)
        .arrives(3, untagged)
        .send(2, eth(vm(3), vm(5)) / tag(tpid_c, 200) / ip4_udp(46))
        .arrives(6, eth(vm(3), vm(5)) / ip4_udp(46))
        .send(6, eth(vm(5), vm(3)) / ip4_udp(46))
        .arrives(2, eth(vm(5), vm(3)) / tag(tpid_c, 200) / ip4_udp(46))
        .send(2, eth(remote(1), vm(5)) / tag(tpid_c, 200) / ip4_udp(46))
        .arrives(1, wire(remote(1), vm(5), 10, 200) / ip4_udp(46))
        .send(1, wire(vm(6), remote(4), 20, 100) / ip4_udp(46))
        .arrives(2, eth(vm(6), remote(4)) / tag(tpid_c, 77) / ip4_udp(46));
    add(table, "floods to and from what is behind a trunk, each copy with its tag", "[R116]", world)
        .send(2, eth(broadcast, vm(5)) / tag(tpid_c, 200) / ip4_udp(46))
        .arrives(5, eth(broadcast, vm(5)) / ip4_udp(46))
        .arrives(6, eth(broadcast, vm(5)) / ip4_udp(46))
        .arrives(1, wire(broadcast, vm(5), 10, 200) / ip4_udp(46))
        .send(7, eth(broadcast, vm(7)) / ip4_udp(46))
        .arrives(2, eth(broadcast, vm(7)) / tag(tpid_c, 77) / ip4_udp(46))
        .arrives(1, wire(broadcast, vm(7), 20, 100) / ip4_udp(46));
    add(table, "holds a trunk to its tags and each of its vPorts to its own MAC", "[R116]", world)
        .send(2, eth(vm(3), vm(2)) / tag(tpid_c, 100) / ip4_udp(46))
        .drops(2, IVDS_DROP_GUEST_TAG)
        .send(2, eth(vm(3), vm(2)) / tag(tpid_c, 200) / ip4_udp(46))
        .drops(13, IVDS_DROP_SPOOF)
        .tells("spoof 13 from 0 in 2: 02:00:00:00:00:02")
        .send(2, eth(vm(3), vm(5)) / ip4_udp(46))
        .drops(2, IVDS_DROP_SPOOF)
        .tells("spoof 2 from 0 in 1: 02:00:00:00:00:05")
        .send(2, eth(vm(3), vm(5)) / tag(tpid_c, 200) / tag(tpid_c, 9) / ip4_udp(46))
        .drops(13, IVDS_DROP_GUEST_TAG);
    World down = world;
    down.ports.at(2).flags &= static_cast<std::uint16_t>(~IVDS_PF_UP);
    add(table, "sends nothing to what is behind a trunk that is down", "[R116]", down)
        .send(6, eth(vm(5), vm(3)) / ip4_udp(46))
        .drops(13, IVDS_DROP_PORT_DOWN);
}

void add_rates(std::vector<Vector>& table) {
    const Bytes local(eth(vm(3), vm(2)) / ip4_udp(46));
    const Bytes wired(eth(remote(1), vm(2)) / ip4_udp(46));
    const Bytes flood(eth(broadcast, vm(2)) / ip4_udp(46));

    World sender = house();
    sender.rate(2, IVDS_WAY_IN);
    add(table, "drops what a vPort sends over its rate, and lets others send", "[R132]", sender)
        .send(2, local)
        .arrives(3, local)
        .send(2, local)
        .drops(2, IVDS_DROP_RATE)
        .send(2, wired)
        .drops(2, IVDS_DROP_RATE)
        .send(2, flood)
        .drops(2, IVDS_DROP_RATE);

    World receiver = house();
    receiver.rate(3, IVDS_WAY_OUT);
    const Bytes back(eth(vm(2), vm(3)) / ip4_udp(46));
    add(table, "drops what is sent to a vPort over its rate, and lets it send", "[R132]", receiver)
        .send(2, local)
        .arrives(3, local)
        .send(2, local)
        .drops(3, IVDS_DROP_RATE_OUT)
        .send(3, back)
        .arrives(2, back);
}

void add_peer_rates(std::vector<Vector>& table) {
    const Bytes local(eth(vm(3), vm(2)) / ip4_udp(46));
    const Bytes wired(eth(remote(1), vm(2)) / ip4_udp(46));
    const Bytes further(eth(remote(2), vm(2)) / ip4_udp(46));
    const Bytes flood(eth(broadcast, vm(2)) / ip4_udp(46));
    const auto to_wire = [](const Mac& dst, std::uint16_t vlan) { return wire(dst, vm(2), vlan, 100) / ip4_udp(46); };
    const auto from = [](const Mac& src, std::uint16_t vlan, std::uint16_t vvlan) {
        return wire(vm(2), src, vlan, vvlan) / ip4_udp(46);
    };

    add(table, "drops what is sent to peers on a VLAN over their rate, and nothing to others", "[R81]",
        house().peer_rate(red, 30, IVDS_WAY_OUT))
        .send(2, further)
        .arrives(1, to_wire(remote(2), 30))
        .send(3, eth(remote(2), vm(3)) / ip4_udp(46))
        .drops(1, IVDS_DROP_RATE_PEER_OUT)
        .send(2, wired)
        .arrives(1, to_wire(remote(1), 10))
        .send(2, local)
        .arrives(3, local)
        .send(2, flood)
        .arrives(3, flood)
        .arrives(4, flood)
        .arrives(1, to_wire(broadcast, 10))
        .drops(1, IVDS_DROP_RATE_PEER_OUT)
        .send(5, wired)
        .arrives(1, wire(remote(1), vm(2), 10, 200) / ip4_udp(46));
    add(table, "drops what peers on a VLAN send over their rate, and nothing of others", "[R81]",
        house().peer_rate(red, 30, IVDS_WAY_IN))
        .send(1, from(remote(2), 10, 100))
        .arrives(2, eth(vm(2), remote(2)) / ip4_udp(46))
        .send(1, from(remote(2), 10, 100))
        .drops(1, IVDS_DROP_RATE_PEER)
        .send(1, wire(broadcast, remote(2), 10, 100) / ip4_udp(46))
        .drops(1, IVDS_DROP_RATE_PEER)
        .send(1, from(remote(1), 10, 100))
        .arrives(2, eth(vm(2), remote(1)) / ip4_udp(46))
        .send(1, from(remote(1), 10, 200))
        .arrives(5, eth(vm(2), remote(1)) / ip4_udp(46))
        .send(2, further)
        .arrives(1, to_wire(remote(2), 30));
    add(table, "takes who is not known for a peer on the VLAN that its frames come by", "[R81]",
        house().peer_rate(red, 10, IVDS_WAY_IN).peer_rate(red, 10, IVDS_WAY_OUT))
        .send(1, from(remote(9), 10, 100))
        .arrives(2, eth(vm(2), remote(9)) / ip4_udp(46))
        .send(1, from(remote(3), 10, 100))
        .drops(1, IVDS_DROP_RATE_PEER)
        .send(2, eth(remote(3), vm(2)) / ip4_udp(46))
        .arrives(1, to_wire(remote(3), 10))
        .send(2, wired)
        .drops(1, IVDS_DROP_RATE_PEER_OUT);
}

// The frame on the link of an inspector.
Bytes inspected(const Bytes& frame, std::uint16_t port, ivds_way way, std::uint16_t sequence,
                ivds_inspect verdict = IVDS_INSPECT_PASS) {
    Bytes out(frame.begin(), frame.begin() + 12);
    for (const unsigned word :
         {unsigned{IVDS_TYPE_INSPECTION}, unsigned{port}, unsigned{way} << 8U | verdict, unsigned{sequence}}) {
        out.push_back(static_cast<std::uint8_t>(word >> 8U));
        out.push_back(static_cast<std::uint8_t>(word & 0xffU));
    }
    out.insert(out.end(), frame.begin() + 12, frame.end());
    return out;
}

void add_inspection(std::vector<Vector>& table) {
    constexpr std::uint32_t inspector = 13;
    World world = house();
    world.inspector(inspector);
    world.ports.at(2).inspector = inspector;
    const Bytes out = eth(vm(3), vm(2)) / ip4_udp(46);
    const Bytes back = eth(vm(2), vm(3)) / ip4_udp(46);
    const auto in_way = [](const Bytes& frame, std::uint16_t sequence) {
        return inspected(frame, 2, IVDS_WAY_IN, sequence);
    };
    add(table, "sends what a vPort's VM sends to its inspector, and goes on with what comes back", "[R169]", world)
        .send(2, out)
        .arrives(inspector, in_way(out, 1))
        .counts("inspector 13 sent", 1)
        .send(inspector, in_way(out, 1))
        .arrives(3, out)
        .counts("inspector 13 answered", 1)
        .counts("inspector 13 passed", 1)
        .counts("port 2 rx_local", 1)
        .counts("port 3 tx_packets", 1);
    add(table, "sends what goes to a vPort's VM to its inspector, and the VM what comes back", "[R169]", world)
        .send(3, back)
        .arrives(inspector, inspected(back, 2, IVDS_WAY_OUT, 1))
        .counts("port 2 tx_packets", 1)
        .send(inspector, inspected(back, 2, IVDS_WAY_OUT, 1))
        .arrives(2, back)
        .counts("inspector 13 passed", 1)
        .send(1, wire(vm(2), remote(1), 10, 100) / ip4_udp(46))
        .arrives(inspector, inspected(eth(vm(2), remote(1)) / ip4_udp(46), 2, IVDS_WAY_OUT, 2));
    add(table, "drops what an inspector blocks, by its first 20 bytes", "[R169]", world)
        .send(2, out)
        .arrives(inspector, in_way(out, 1))
        .send(inspector, inspected(Bytes(out.begin(), out.begin() + 12), 2, IVDS_WAY_IN, 1, IVDS_INSPECT_BLOCK))
        .counts("inspector 13 blocked", 1)
        .counts("inspector 13 answered", 1)
        .counts("drop 2 blocked packets", 1)
        .counts("drop 2 blocked bytes", 12);
    const Bytes flood = eth(broadcast, vm(3)) / ip4_udp(46);
    const Bytes on_wire = wire(broadcast, vm(3), 10, 100) / ip4_udp(46);
    const Bytes on_peers = wire(broadcast, vm(3), 30, 100) / ip4_udp(46);
    add(table, "sends an inspector the copy of a flood that its vPort gets", "[R169]", world)
        .send(3, flood)
        .arrives(inspector, inspected(flood, 2, IVDS_WAY_OUT, 1))
        .arrives(4, flood)
        .arrives(1, on_wire)
        .arrives(1, on_peers);
    World both = world;
    both.ports.at(3).inspector = inspector;
    add(table, "sends a frame between two vPorts of one inspector to it once", "[R169]", both)
        .send(2, out)
        .arrives(inspector, in_way(out, 1))
        .send(inspector, in_way(out, 1))
        .arrives(3, out);
    add(table, "takes nothing from an inspector for a vPort that has another or none", "[R169][R23]", world)
        .send(inspector, inspected(back, 3, IVDS_WAY_IN, 0))
        .drops(inspector, IVDS_DROP_FORGED)
        .send(inspector, inspected(out, 3, IVDS_WAY_OUT, 0))
        .drops(inspector, IVDS_DROP_FORGED)
        .send(inspector, inspected(back, inspector, IVDS_WAY_IN, 0))
        .drops(inspector, IVDS_DROP_FORGED)
        .send(inspector, inspected(back, 0, IVDS_WAY_IN, 0))
        .drops(inspector, IVDS_DROP_FORGED)
        .send(inspector, out)
        .drops(inspector, IVDS_DROP_FORGED);
    add(table, "holds what comes back from an inspector to the rules of its vPort", "[R169]", world)
        .send(inspector, in_way(back, 0))
        .counts("inspector 13 passed", 1)
        .counts("drop 2 spoof packets", 1)
        .counts("drop 2 spoof bytes", 60)
        .tells("spoof 2 from 0 in 1: 02:00:00:00:00:03");
    World trunk = world;
    trunk.behind(2, 77, 14, green, vm(6));
    const Bytes of_sub = eth(vm(7), vm(6)) / tag(tpid_c, 77) / ip4_udp(46);
    add(table, "lets no inspector of a trunk reach the vPorts behind it", "[R169][R116]", trunk)
        .send(2, of_sub)
        .arrives(7, eth(vm(7), vm(6)) / ip4_udp(46))
        .send(inspector, inspected(of_sub, 2, IVDS_WAY_IN, 0))
        .counts("drop 13 forged packets", 1)
        .counts("drop 13 forged bytes", 64)
        .send(inspector, inspected(eth(vm(6), vm(7)) / tag(tpid_c, 77) / ip4_udp(46), 2, IVDS_WAY_OUT, 0))
        .counts("drop 13 forged packets", 1)
        .counts("drop 13 forged bytes", 64);
    trunk.ports.at(2).inspector = 0;
    trunk.ports.at(14).inspector = inspector;
    add(table, "inspects what is behind a trunk, with its tag", "[R169][R116]", trunk)
        .send(2, of_sub)
        .arrives(inspector, inspected(of_sub, 14, IVDS_WAY_IN, 1))
        .send(inspector, inspected(of_sub, 14, IVDS_WAY_IN, 1))
        .arrives(7, eth(vm(7), vm(6)) / ip4_udp(46))
        .send(7, eth(vm(6), vm(7)) / ip4_udp(46))
        .arrives(inspector, inspected(eth(vm(6), vm(7)) / tag(tpid_c, 77) / ip4_udp(46), 14, IVDS_WAY_OUT, 2))
        .send(inspector, inspected(eth(vm(6), vm(7)) / tag(tpid_c, 77) / ip4_udp(46), 14, IVDS_WAY_OUT, 2))
        .arrives(2, eth(vm(6), vm(7)) / tag(tpid_c, 77) / ip4_udp(46));
    World tagged = world;
    tagged.ports.at(2).flags |= IVDS_PF_CARRY_TAGS;
    tagged.ports.at(3).flags |= IVDS_PF_CARRY_TAGS;
    const Bytes of_guest = eth(vm(3), vm(2)) / tag(tpid_c, 7) / tag(tpid_s, 8) / ip4_udp(46);
    add(table, "sends an inspector the guest's own tags, and takes them back", "[R169]", tagged)
        .send(2, of_guest)
        .arrives(inspector, in_way(of_guest, 1))
        .send(inspector, in_way(of_guest, 1))
        .arrives(3, of_guest);

    World silent = world;
    silent.listening.clear();
    const Bytes hello = inspected(Bytes(12, 2), 0, IVDS_WAY_IN, 0, IVDS_INSPECT_HELLO);
    add(table, "drops the frames of a vPort whose inspector is silent and fails closed, until it is heard", "[R169]",
        silent)
        .send(2, out)
        .drops(2, IVDS_DROP_INSPECTOR)
        .counts("inspector 13 refused", 1)
        .send(3, back)
        .drops(2, IVDS_DROP_INSPECTOR)
        .send(3, flood)
        .arrives(4, flood)
        .arrives(1, on_wire)
        .arrives(1, on_peers)
        .drops(2, IVDS_DROP_INSPECTOR)
        .send(inspector, hello)
        .send(2, out)
        .arrives(inspector, in_way(out, 1));
    silent.ports.at(inspector).flags |= IVDS_PF_FAIL_OPEN;
    add(table, "goes on without an inspector that is silent and fails open, until it is heard", "[R169][R171]",
        silent)
        .send(2, out)
        .arrives(3, out)
        .counts("inspector 13 uninspected", 1)
        .send(3, back)
        .arrives(2, back)
        .counts("inspector 13 uninspected", 1)
        .send(3, flood)
        .arrives(2, flood)
        .arrives(4, flood)
        .arrives(1, on_wire)
        .arrives(1, on_peers)
        .send(inspector, hello)
        .send(2, out)
        .arrives(inspector, in_way(out, 1));
    World slow = world;
    slow.ports.at(inspector).queue = 2;
    slow.ports.at(inspector).flags |= IVDS_PF_FAIL_OPEN;
    add(table, "goes on without an inspector that has too much unanswered, until it answers", "[R169]", slow)
        .send(2, out)
        .arrives(inspector, in_way(out, 1))
        .send(2, out)
        .arrives(inspector, in_way(out, 2))
        .send(2, out)
        .arrives(3, out)
        .counts("inspector 13 uninspected", 1)
        .send(inspector, in_way(out, 2))
        .arrives(3, out)
        .counts("inspector 13 answered", 2)
        .send(2, out)
        .arrives(inspector, in_way(out, 3));
    World away = world;
    away.ports.at(inspector).flags = 0;
    add(table, "drops the frames of a vPort whose inspector's interface is down, where it fails closed", "[R169]",
        away)
        .send(2, out)
        .drops(2, IVDS_DROP_INSPECTOR);
}

void add_learning(std::vector<Vector>& table) {
    const World open = without_spoof_check({2, 3});
    constexpr Mac nested = mac(0x020000000aaa);
    const Packet out = eth(vm(4), nested) / ip4_udp(46);
    const Packet back = eth(nested, vm(4)) / ip4_udp(46);
    add(table, "learns a source behind a port without anti-spoof and finds it again", "[R16][R120]", open)
        .send(2, out)
        .arrives(4, out)
        .send(4, back)
        .arrives(2, back)
        .counts("port 4 rx_local", 1);
    const Packet again = eth(vm(4), nested) / ip4_udp(47);
    add(table, "follows a source that moves to another port and tells of it", "[R16][R120]", open)
        .send(2, out)
        .arrives(4, out)
        .send(3, again)
        .arrives(4, again)
        .tells("move 3 from 2 in 1: 02:00:00:00:0a:aa")
        .send(4, back)
        .arrives(3, back);
    World full_port = open;
    full_port.ports.at(2).fdb_limit = 1;
    full_port.learned_mac(red, mac(0x020000000bbb), 2);
    add(table, "forwards but does not learn beyond the port's limit", "[R120]", full_port)
        .send(2, out)
        .arrives(4, out)
        .tells("limit 2 from 0 in 1: 02:00:00:00:0a:aa");
    World full_instance = open;
    full_instance.instances.at(red).fdb_limit = 1;
    full_instance.learned_mac(red, mac(0x020000000bbb), 3);
    add(table, "forwards but does not learn beyond the instance's limit", "[R120]", full_instance)
        .send(2, out)
        .arrives(4, out)
        .tells("limit 2 from 0 in 1: 02:00:00:00:0a:aa");
    World full_new_port = open;
    full_new_port.ports.at(3).fdb_limit = 0;
    full_new_port.learned_mac(red, nested, 2);
    add(table, "does not move a source to a port that is at its limit", "[R120]", full_new_port)
        .send(3, out)
        .arrives(4, out)
        .tells("limit 3 from 2 in 1: 02:00:00:00:0a:aa");
    World known = open;
    known.learned_mac(red, nested, 2);
    add(table, "refreshes a learned source", "[R120]", known).send(2, out).arrives(4, out);

    add(table, "learns a source from the wire with its outer VLAN and answers by it", "[R16][R120][R115]", house())
        .send(1, wire(vm(2), stranger, 30, 100) / ip4_udp(46))
        .arrives(2, eth(vm(2), stranger) / ip4_udp(46))
        .send(2, eth(stranger, vm(2)) / ip4_udp(46))
        .arrives(1, wire(stranger, vm(2), 30, 100) / ip4_udp(46));
    add(table, "follows a source on the wire to another outer VLAN", "[R16][R120]", house())
        .send(1, wire(vm(2), stranger, 30, 100) / ip4_udp(46))
        .arrives(2, eth(vm(2), stranger) / ip4_udp(46))
        .send(1, wire(vm(2), stranger, 10, 100) / ip4_udp(46))
        .arrives(2, eth(vm(2), stranger) / ip4_udp(46))
        .tells(fmt::format("move 1 from 1 in 1: {}", to_text(stranger)))
        .send(2, eth(stranger, vm(2)) / ip4_udp(46))
        .arrives(1, wire(stranger, vm(2), 10, 100) / ip4_udp(46));
    World unlearning = house();
    unlearning.instances.at(red).flags &= static_cast<std::uint16_t>(~IVDS_IF_LEARN_WIRE);
    add(table, "learns nothing from the wire where the instance does not", "[R120]", unlearning)
        .send(1, wire(vm(2), stranger, 10, 100) / ip4_udp(46))
        .arrives(2, eth(vm(2), stranger) / ip4_udp(46));
    World from_port_to_wire = open;
    from_port_to_wire.learned_mac(red, nested, 2);
    add(table, "follows a source from a port to the wire", "[R120]", from_port_to_wire)
        .send(1, wire(vm(4), nested, 10, 100) / ip4_udp(46))
        .arrives(4, eth(vm(4), nested) / ip4_udp(46))
        .tells("move 1 from 2 in 1: 02:00:00:00:0a:aa");
    World guarded = house();
    guarded.remote_mac(red, stranger, 10);
    add(table, "drops a static remote MAC as source from a VM", "[R59]", guarded)
        .send(2, eth(vm(3), stranger) / ip4_udp(46))
        .drops(2, IVDS_DROP_SPOOF)
        .tells("spoof 2 from 0 in 1: 02:00:00:00:be:ef");
}

}  // namespace

Vector& Vector::send(std::uint32_t port, const Bytes& frame, const Gso& gso) {
    steps.push_back({.port = port, .frame = frame, .gso = gso});
    expected.emplace_back();
    return *this;
}

Vector& Vector::arrives(std::uint32_t port, const Bytes& frame) {
    expected.back().sent.push_back({port, frame});
    std::ranges::sort(expected.back().sent);
    return *this;
}

Vector& Vector::reaches_the_host() {
    return arrives(to_host, steps.back().frame);
}

Vector& Vector::drops(std::uint32_t port, ivds_drop reason) {
    const Step& step = steps.back();
    const bool is_stripped = port != step.port && world.ports.at(step.port).kind == IVDS_PORT_UPLINK;
    const auto on_wire = parse(step.frame).tags;
    const bool is_plain =
        on_wire.size() < 2 || on_wire[1].tpid != __builtin_bswap16(world.ports.at(step.port).inner_tpid_be);
    const std::size_t bytes = step.frame.size() - (!is_stripped ? 0U : is_plain ? 4U : IVDS_TAGS_BYTES);
    counts(fmt::format("drop {} {} packets", port, drop_name(reason)), 1);
    // A frame of no bytes at all counts none.
    return bytes == 0 ? *this : counts(fmt::format("drop {} {} bytes", port, drop_name(reason)), bytes);
}

Vector& Vector::counts(const std::string& counter, std::uint64_t value) {
    expected.back().counts[counter] = value;
    return *this;
}

Vector& Vector::tells(const std::string& event) {
    expected.back().events.push_back(event);
    return *this;
}

Mac vm(std::uint8_t number) {
    return mac(0x020000000000U + number);
}
Mac remote(std::uint8_t number) {
    return mac(0x020000000100U + number);
}

World house() {
    World world;
    world.uplink(1).uplink(12, 9216, tpid_s, tpid_c);
    world.instance(red, 1, 10, 100).peer_vlan(red, 30).instance(blue, 1, 10, 200).instance(green, 1, 20, 100);
    world.instance(grey, 0, 0, 0).instance(white, 12, 10, 100);
    world.vport(2, red, vm(2)).vport(3, red, vm(3)).vport(4, red, vm(4));
    world.vport(5, blue, vm(2)).vport(6, blue, vm(3)).vport(7, green, vm(7));
    world.vport(8, grey, vm(8)).vport(9, grey, vm(9)).vport(10, white, vm(10)).vport(11, white, vm(11));
    for (const std::uint32_t instance : {red, blue, white}) {
        world.remote_mac(instance, remote(1), 10);
    }
    world.remote_mac(red, remote(2), 30).remote_mac(red, remote(3), 0);
    return world;
}

std::vector<Vector> all_vectors() {
    std::vector<Vector> table;
    add_unicast(table);
    add_flood(table);
    add_answers(table);
    add_peers(table);
    add_sources(table);
    add_control_frames(table);
    add_guest_tags(table);
    add_truncated(table);
    add_sizes(table);
    add_states(table);
    add_from_wire(table);
    add_plain_access(table);
    add_single_tag(table);
    add_rules(table);
    add_flows(table);
    add_rates(table);
    add_peer_rates(table);
    add_priorities(table);
    add_trunks(table);
    add_inspection(table);
    add_learning(table);
    return table;
}

}  // namespace ivds::test
