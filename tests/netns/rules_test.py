# SPDX-License-Identifier: Apache-2.0
"""rules_test.py -- rules of vPorts, profiles and instances on real ports: what they let pass, drop and count."""
import re
import socket
import time

from harness import case, check, check_equal, main
from scapy.all import ICMPv6ND_NA, ICMPv6ND_NS, Ether, ICMPv6NDOptDstLLAddr, IPv6
from scene import Scene, Stream, Tally, mac, network


def two_vms(lab, mode):
    scene = Scene(lab, {"red": network()}, attach=mode)
    scene.two_hosts()
    for number, host in ((1, "a"), (2, "a"), (3, "b")):
        scene.vm(host, "red", number)
    scene.start()
    return scene


def rules(scene, host, vport):
    """What the vPort's frames are held against, in order: (owner, name, action, packets)."""
    reply = scene.hosts[host].ctl_json("rule", "list", "--vport", vport)
    return [(state.get("owner", ""), state.get("name", ""), state["rule"].get("action", "allow"),
             int(state.get("packets", 0))) for state in reply["rules"]]


def counted(scene, host, vport, name):
    return next(packets for _, rule, _, packets in rules(scene, host, vport) if rule == name)


def reach(scene, sender, receiver, port):
    """Whether a TCP connection from one VM to another comes about."""
    with scene.vms[receiver].within():
        server = socket.socket()
        server.bind(("0.0.0.0", port))
        server.listen()
    with scene.vms[sender].within():
        client = socket.socket()
    client.settimeout(1.5)
    try:
        client.connect((scene.vms[receiver].address, port))
        return True
    except (TimeoutError, socket.timeout, ConnectionError):
        return False
    finally:
        client.close()
        server.close()


for mode in ("auto", "native"):
    @case(f"a vPort's rules are set, read, ordered and counted, and its traffic follows each change at once, by {mode} [R51][R130][R131]")
    def _(bench, mode=mode):
        with bench.lab() as lab:
            scene = two_vms(lab, mode)
            a = scene.hosts["a"]
            check(reach(scene, "red-1", "red-2", 23) and reach(scene, "red-1", "red-3", 23), "no connection without rules")
            a.ctl("rule", "add", "vport", "red-1", "--name", "no-telnet", "--direction", "in", "--protocol", "tcp",
                  "--dst-ports", "23", "--action", "drop")
            check(not reach(scene, "red-1", "red-2", 23), "a local connection in spite of the rule")
            check(not reach(scene, "red-1", "red-3", 23), "a connection across the wire in spite of the rule")
            check(reach(scene, "red-1", "red-2", 80), "the rule drops another port as well")
            check(counted(scene, "a", "red-1", "no-telnet") >= 2, "the rule counts nothing")
            check_equal(scene.drops("a").get(("red-1", "acl")), counted(scene, "a", "red-1", "no-telnet"), "drops of the vPort")

            # The first rule that matches decides: put before the other, an allow rule opens the port to one address.
            a.ctl("rule", "add", "vport", "red-1", "--name", "to-2", "--direction", "in", "--dst",
                  scene.vms["red-2"].address, "--action", "allow", "--before", "no-telnet")
            check_equal([row[1] for row in rules(scene, "a", "red-1")][:2], ["to-2", "no-telnet"], "the order of the rules")
            check(reach(scene, "red-1", "red-2", 23), "the rule in front does not open the port")
            check(not reach(scene, "red-1", "red-3", 23), "it opens the port to others")
            a.ctl("rule", "set", "vport", "red-1", "no-telnet", "--before", "to-2")
            check(not reach(scene, "red-1", "red-2", 23), "the order changed, and the traffic did not")

            # What came of the commands is a file, and the file gives it back.
            exported = a.ctl("export")
            check("no-telnet" in exported and "to-2" in exported, f"export lacks the rules:\n{exported}")
            a.apply(exported)
            check_equal([row[1] for row in rules(scene, "a", "red-1")][:2], ["no-telnet", "to-2"], "after export and apply")
            a.ctl("rule", "remove", "vport", "red-1", "no-telnet")
            check(reach(scene, "red-1", "red-2", 23) and reach(scene, "red-1", "red-3", 23), "the rule is gone, and works")


@case("the rules of a vPort, its profile and its instance apply in this order, and the profile's default last [R51][R130]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network(rules=[{"name": "arp", "ethertype": "arp"}])})
        scene.profiles = [{"name": "closed", "default_in": "drop", "default_out": "drop",
                           "rules": [{"name": "icmp", "protocol": "icmp"}]}]
        scene.two_hosts()
        scene.vm("a", "red", 1, profile="closed")
        scene.vm("a", "red", 2)
        scene.vm("b", "red", 3)
        scene.start()
        check_equal([row[:3] for row in rules(scene, "a", "red-1")][:2],
                    [("closed", "icmp", "allow"), ("red", "arp", "allow")], "the rules in effect")
        check_equal(scene.ping("red-1", "red-2"), 3, "pings on the host")
        check_equal(scene.ping("red-3", "red-1"), 3, "pings from the other host")
        check(not reach(scene, "red-1", "red-2", 80), "TCP out of the closed VM")
        check(not reach(scene, "red-2", "red-1", 80), "TCP into the closed VM")
        check(reach(scene, "red-2", "red-3", 80), "TCP of the others")
        check(scene.drops("a").get(("red-1", "acl_out"), 0) > 0, "nothing is counted as acl_out")
        scene.vport_fields["red-1"]["rules"] = [{"name": "web", "protocol": "tcp"}]
        scene.apply("a")
        check(reach(scene, "red-1", "red-2", 80) and reach(scene, "red-2", "red-1", 80), "the vPort's own rule does not come first")


for mode in ("auto", "native"):
    @case(f"two thousand rules are replaced under numbered frames: none is lost, and none sees half a list, by {mode} [R130]")
    def _(bench, mode=mode):
        with bench.lab() as lab:
            scene = two_vms(lab, mode)
            # Both lists allow the stream and drop all else; the allowing rule is the last of many in both, under other
            # masks, so that a frame which met parts of both would meet no rule that allows it.
            lists = []
            for net in (10, 20):
                many = [{"src": f"{net}.{i >> 8}.{i & 255}.0/24", "action": "drop"} for i in range(1000)]
                lists.append(many + [{"name": "stream", "ethertype": "0x88b5", "src_mac": mac(1)} if net == 10 else
                                     {"name": "stream", "ethertype": "0x88b5", "dst_mac": mac(3)}])
            scene.profiles = [{"name": "closed", "default_in": "drop", "rules": lists[0]}]
            scene.vport_fields["red-1"] = {"profile": "closed"}
            scene.apply("a")
            stream = Stream(scene, "red-1", "red-3")
            for turn in range(8):
                scene.profiles[0]["rules"] = lists[(turn + 1) % 2]
                scene.apply("a")
                time.sleep(0.1)
            stream.check_whole()
            check_equal(scene.drops("a").get(("red-1", "acl"), 0), 0, "frames of the stream that a rule dropped")


@case("rules hold against forged frames in every form: tags, fragments, broken headers [R130]")
def _(bench):
    with bench.lab() as lab:
        scene = two_vms(lab, "auto")
        scene.vport_fields["red-1"] = {"rules": [{"name": "no-udp", "direction": "in", "protocol": "udp", "dst_ports": ["53"],
                                                  "action": "drop"}]}
        scene.apply("a")
        tally = Tally(scene)
        eth = bytes.fromhex("020000000002") + bytes.fromhex("020000000001")
        ip = bytes.fromhex("4500002e00000000401100000a0000010a000002")
        dns = bytes.fromhex("10000035001a0000")
        pad = b"ivds-mark red-1 plain "
        frames = {
            "whole": b"\x08\0" + ip + dns + pad,
            "priority tag": b"\x81\0\xe0\0\x08\0" + ip + dns + pad,
            "first fragment": b"\x08\0" + ip[:6] + b"\x20\0" + ip[8:] + dns + pad,
            "later fragment": b"\x08\0" + ip[:6] + b"\0\x05" + ip[8:] + dns + pad,
            "options": b"\x08\0" + b"\x46" + ip[1:] + b"\x01\x01\x01\x01" + dns + pad,
            "no IP at all": b"\x08\0" + b"\x00" * 28 + pad,
        }
        for data in frames.values():
            tally.ports["red-1"].send((eth + data).ljust(80, b"\0"))
        tally.settle(0)
        tally.close()
        check_equal(tally.got, {}, "forged frames that arrived")
        check_equal(counted(scene, "a", "red-1", "no-udp"), len(frames), "frames that the rule dropped")



for mode in ("auto", "native"):
    @case(f"a VM advertises the IPv6 addresses that its rules name, and no others, as scapy makes them, by {mode} [R130][R101]")
    def _(bench, mode=mode):
        with bench.lab() as lab:
            scene = two_vms(lab, mode)
            a = scene.hosts["a"]
            scene.vport_fields["red-1"] = {"rules": [
                {"name": "its-own", "direction": "in", "nd_target": "fd00::1", "protocol": "icmp6", "icmp": "136"},
                {"name": "asks", "direction": "in", "nd_target": "fd00::/64", "protocol": "icmp6", "icmp": "135"},
                {"name": "no-other", "direction": "in", "nd_target": "::/0", "action": "drop"},
                {"name": "unused", "direction": "in", "ethertype": "0x88b7"}]}
            scene.apply("a")
            ports = scene.raw_ports()

            def message(kind, target, cut=0):
                data = bytes(Ether(src=mac(1), dst=mac(2)) / IPv6(src="fe80::1", dst="ff02::1") /
                             kind(tgt=target) / ICMPv6NDOptDstLLAddr(lladdr=mac(1)))
                return data[:len(data) - cut] if cut else data

            # The same addresses in the header each time: what one of them was allowed is nothing to the next.
            passing = [message(ICMPv6ND_NA, "fd00::1"), message(ICMPv6ND_NS, "fd00::2"), message(ICMPv6ND_NA, "fd00::1")]
            dropped = [message(ICMPv6ND_NA, "fd00::2"), message(ICMPv6ND_NS, "fd01::2"), message(ICMPv6ND_NA, "fd00::1", cut=9)]
            for pair in zip(passing, dropped):
                for data in pair:
                    ports["red-1"].send(data)
            got = []
            lab.wait(lambda: got.extend(data for data in ports["red-2"].receive() if data in passing + dropped) or
                     len(got) >= 3, 10, "what the rules allow does not arrive")
            time.sleep(0.3)
            got += [data for data in ports["red-2"].receive() if data in passing + dropped]
            check_equal(sorted(got), sorted(passing), "messages that arrived")
            check_equal([counted(scene, "a", "red-1", name) for name in ("its-own", "asks", "no-other")], [2, 1, 3], "counters")
            told = a.ctl_json_lines("trace", "red-1", f"eth dst={mac(2)} / ip6 src=fe80::1 / nd type=136 target=fd00::9")[0]
            check_equal((told["verdict"], told.get("drop_reason")), ("dropped", "acl"), "the trace of another's address")
            check(any("no-other" in step["text"] for step in told["steps"]), f"the trace does not name the rule: {told}")
            told = a.ctl_json_lines("trace", "red-1", f"eth dst={mac(2)} / ip6 src=fe80::1 / nd type=136 target=fd00::1")[0]
            check_equal(told["verdict"], "forwarded", "the trace of its own address")
            last = {line.split()[3]: re.search(r"(never|\d+ s ago)$", line.strip()) for line in
                    a.ctl("rule", "list", "--vport", "red-1").splitlines() if "vport red-1" in line}
            check_equal(last["unused"].group(1), "never", "when the rule that matched nothing decided last")
            check(int(last["no-other"].group(1).split()[0]) < 60, f"when it decided last: {last['no-other'].group(1)}")


main()
