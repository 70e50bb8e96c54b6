# SPDX-License-Identifier: Apache-2.0
"""policy_test.py -- connections, sets, redirects, pools and patches on real ports, by the files and commands that set them."""
import json
import socket

from harness import case, check, check_equal, main
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Dot1Q, Ether
from scene import BROADCAST, Scene, frame, mac, network, tag

CLOSED = {"name": "closed", "default_in": "drop", "default_out": "drop",
          "rules": [{"name": "arp", "ethertype": "arp"},
                    {"name": "out", "direction": "in", "ethertype": "ip", "stateful": True}]}


def connect(scene, sender, address, port, timeout=1.5):
    """A TCP connection from a VM, or None."""
    with scene.vms[sender].within():
        client = socket.socket()
    client.settimeout(timeout)
    try:
        client.connect((address, port))
        return client
    except OSError:
        client.close()
        return None


def serve(scene, vm, port):
    with scene.vms[vm].within():
        server = socket.socket()
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("0.0.0.0", port))
        server.listen()
    return server


def reach(scene, sender, receiver, port):
    with serve(scene, receiver, port):
        client = connect(scene, sender, scene.vms[receiver].address, port)
        if client:
            client.close()
        return client is not None


def flows(scene, host, vport):
    return scene.hosts[host].ctl_json_lines("flow", "list", "--vport", vport)


for mode in ("auto", "native"):
    @case(f"a stateful rule lets the answers in and nothing else, on the host and across the wire, by {mode} [R51][R121][R124][R130]")
    def _(bench, mode=mode):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network()}, attach=mode)
            scene.profiles = [CLOSED]
            scene.two_hosts()
            scene.vm("a", "red", 1, profile="closed")
            scene.vm("a", "red", 2)
            scene.vm("b", "red", 3)
            scene.start()
            for peer in ("red-2", "red-3"):
                check(reach(scene, "red-1", peer, 80), f"no connection to {peer}")
                check(not reach(scene, peer, "red-1", 80), f"{peer} opened a connection")
                check_equal(scene.ping("red-1", peer), 3, f"pings to {peer}")
                check_equal(scene.ping(peer, "red-1"), 0, f"pings from {peer}")
            known = flows(scene, "a", "red-1")
            check(any(flow["tuple"].get("dst_port") == 80 and int(flow["in"]["packets"]) > 0 and
                      int(flow["out"]["packets"]) > 0 for flow in known), f"the flow table holds no connection: {known}")

            # A connection under way lives through a change of rules that still allows it, and ends with one that does not.
            with serve(scene, "red-3", 81) as server:
                client = connect(scene, "red-1", scene.vms["red-3"].address, 81)
                check(client, "no connection to port 81")
                there, _ = server.accept()
                there.settimeout(1)
                client.sendall(b"one")
                check_equal(there.recv(10), b"one", "data before the change")
                scene.profiles = [dict(CLOSED, rules=CLOSED["rules"] + [{"name": "more", "protocol": "sctp"}])]
                scene.apply("a")
                there.sendall(b"two")
                client.settimeout(1)
                check_equal(client.recv(10), b"two", "data after a change that allows it")
                scene.profiles = [dict(CLOSED, rules=CLOSED["rules"][:1])]
                scene.apply("a")
                there.sendall(b"three")
                try:
                    check(not client.recv(10), "data after its rule was gone")
                except (TimeoutError, socket.timeout):
                    pass
                client.close()
                there.close()


@case("a vPort that scans fills its own flow entries and no other's [R121][R127]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        scene.profiles = [dict(CLOSED, flow_limit=64)]
        scene.two_hosts()
        scene.vm("a", "red", 1, profile="closed")
        scene.vm("a", "red", 2, profile="closed")
        scene.vm("b", "red", 3)
        scene.start()
        with scene.vms["red-1"].within():
            scanner = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for port in range(1000, 1400):
            scanner.sendto(b"scan", (scene.vms["red-3"].address, port))
        lab.wait(lambda: scene.drops("a").get(("red-1", "flow_limit"), 0) >= 300, 5, "no drops for want of flow entries")
        check(len(flows(scene, "a", "red-1")) <= 64, "more flow entries than the limit")
        check(reach(scene, "red-2", "red-3", 80), "the other vPort suffers")
        scanner.close()
        scene.hosts["a"].ctl("flow", "flush", "--vport", "red-1")
        check_equal(flows(scene, "a", "red-1"), [], "flows after the flush")
        check(reach(scene, "red-1", "red-3", 80), "no connection after the flush")


@case("rules name sets, and a change of the set is a change of the rules [R51][R130]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        scene.two_hosts()
        for number, host in ((1, "a"), (2, "a"), (3, "b")):
            scene.vm(host, "red", number)
        scene.vport_fields["red-1"] = {"rules": [{"name": "no", "direction": "in", "dst_set": "bad", "protocol": "tcp",
                                                  "action": "drop"}]}
        config = scene.config
        bad = [["10.0.0.2"], ["10.0.0.3/32", "192.0.2.0/24"], []]
        scene.config = lambda host: {**config(host), "sets": [{"name": "bad", "addresses": bad[0]}]}
        scene.start()
        for expected in ((False, True), (True, False), (True, True)):
            scene.apply("a")
            check_equal((reach(scene, "red-1", "red-2", 80), reach(scene, "red-1", "red-3", 80)), expected,
                        f"who is reached with {bad[0]} in the set")
            bad.pop(0)
            bad.append([])


@case("a patch joins two instances for what a rule sends through it, and for nothing else [R49][R116]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network(), "blue": network(vvlan=20)})
        scene.two_hosts()
        scene.vm("a", "red", 1)
        scene.vm("a", "blue", 2)
        scene.vm("a", "red", 3)
        config = scene.config

        def with_patch(host):
            whole = config(host)
            if host == "a":
                whole["vports"] += [{"name": "to-blue", "instance": "red", "patch": "to-red"},
                                    {"name": "to-red", "instance": "blue", "patch": "to-blue"}]
            return whole

        scene.config = with_patch
        for vm, way, other in (("red-1", "to-blue", "10.0.0.2"), ("blue-2", "to-red", "10.0.0.1")):
            scene.vport_fields[vm] = {"rules": [
                {"name": "through", "direction": "in", "ethertype": kind, "dst": other, "action": "redirect", "to_vport": way}
                for kind in ("ip",)] + [{"name": "ask", "direction": "in", "ethertype": "arp", "dst": other,
                                         "action": "redirect", "to_vport": way}]}
        scene.start()
        check_equal(scene.ping("red-1", "blue-2"), 3, "pings through the patch")
        check(reach(scene, "blue-2", "red-1", 80), "no TCP through the patch")
        check_equal(scene.ping("red-3", "blue-2"), 0, "pings of a vPort without the rule")
        counters = scene.counters("a", "to-blue")
        check(counters["tx_packets"] >= 3 and counters["rx_packets"] >= 3, f"the patch counts {counters}")


@case("an instance's redirects are for its VMs, not again for what comes by its patch; its other rules are for both [R51][R116]")
def _(bench):
    with bench.lab() as lab:
        def away(to, *rules):
            return [*rules, {"name": "away", "direction": "in", "action": "redirect", "to_vport": to}]

        no_telnet = {"name": "no-telnet", "direction": "in", "protocol": "tcp", "dst_ports": ["23"], "action": "drop"}
        scene = Scene(lab, {"red": network(rules=away("to-blue")), "blue": network(vvlan=20, rules=away("to-red", no_telnet))})
        scene.host_on_wire()
        scene.vm("a", "red", 1)
        scene.vm("a", "blue", 2)
        config = scene.config

        def with_patch(host):
            whole = config(host)
            whole["vports"] += [{"name": "to-blue", "instance": "red", "patch": "to-red"},
                                {"name": "to-red", "instance": "blue", "patch": "to-blue"}]
            return whole

        scene.config = with_patch
        scene.start()
        check_equal(scene.ping("red-1", "blue-2"), 3, "pings through the patch")
        check(reach(scene, "red-1", "blue-2", 80) and reach(scene, "blue-2", "red-1", 80), "no TCP through the patch")
        check(not reach(scene, "red-1", "blue-2", 23), "TCP that the other instance drops")
        check_equal({key: count for key, count in scene.drops("a").items() if key[1] == "patch"}, {}, "drops of patches")
        check(scene.drops("a").get(("to-red", "acl"), 0) > 0, f"what its rule dropped at the patch: {scene.drops('a')}")
        listed = scene.hosts["a"].ctl_json("rule", "list", "--vport", "to-red")["rules"]
        check_equal([rule["name"] for rule in listed if rule.get("name")], ["no-telnet"], "the patch's rules")


@case("a VM reaches several networks through one trunk, each by its tag and none by another's [R116]")
def _(bench):
    for mode in ("auto", "native"):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network(), "blue": network(vvlan=20)}, attach=mode)
            scene.two_hosts()
            scene.vm("a", "red", 1)
            scene.vm("a", "red", 2)
            scene.vm("a", "blue", 3)
            scene.vm("b", "blue", 4)
            config = scene.config

            def with_trunk(host, config=config):
                whole = config(host)
                if host == "a":
                    whole["vports"].append({"name": "red-1.blue", "trunk": "red-1", "vid": 7, "instance": "blue"})
                return whole

            scene.config = with_trunk
            scene.start()
            check_equal(scene.ports("a")["red-1.blue"]["got"], "trunk", "how it is attached")
            with scene.vms["red-1"].port("eth0") as trunk, scene.vms["blue-3"].port("eth0") as near, \
                    scene.vms["blue-4"].port("eth0") as far, scene.vms["red-2"].port("eth0") as red:
                def got(port, text):
                    frames = port.receive_until(lambda frames: any(text.encode() in f for f in frames), 2)
                    return [f for f in frames if text.encode() in f]

                for number, port in ((3, near), (4, far)):
                    asked = frame(BROADCAST, mac(1), f"ivds-mark to {number} ", tags=tag(7))
                    trunk.send(asked)
                    check_equal(got(port, f"ivds-mark to {number} "), [asked[:12] + asked[16:]], f"at blue-{number}")
                    answer = frame(mac(1), mac(number), f"ivds-mark from {number} ")
                    port.send(answer)
                    check_equal(got(trunk, f"ivds-mark from {number} "), [answer[:12] + tag(7) + answer[12:]],
                                f"of blue-{number} at the trunk")
                plain = frame(mac(2), mac(1), "ivds-mark native ")
                trunk.send(plain)
                check_equal(got(red, "ivds-mark native "), [plain], "without a tag, at red-2")
                trunk.send(frame(BROADCAST, mac(1), "ivds-mark stray ", tags=tag(8)))
                lab.wait(lambda scene=scene: scene.dropped("a", "guest_tag") == 1, 5, "the frame with a stray tag is not dropped")
                scene.hosts["a"].ctl("vport", "delete", "red-1.blue")
                trunk.send(frame(BROADCAST, mac(1), "ivds-mark gone ", tags=tag(7)))
                lab.wait(lambda scene=scene: scene.dropped("a", "guest_tag") == 2, 5, "its tag still leads somewhere")


@case("what a VM sends has the PCP and the DSCP of its profile on the wire [R132]")
def _(bench):
    for mode in ("auto", "native"):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network()}, attach=mode)
            scene.profiles = [{"name": "voice", "pcp": "5", "dscp": "ef"}, {"name": "own", "pcp": "keep"}]
            _, far = scene.host_on_wire()
            scene.vm("a", "red", 1, profile="voice")
            scene.vm("a", "red", 2, profile="own")
            scene.start()
            ip = IP(src="10.0.0.1", dst="10.0.0.9", tos=2) / UDP(sport=1, dport=2) / (b"ivds-mark voice" + bytes(20))
            with far.port("wire0") as wire, scene.vms["red-1"].port("eth0") as one, scene.vms["red-2"].port("eth0") as two:
                def on_wire(text):
                    frames = wire.receive_until(lambda frames: any(text in f for f in frames), 2)
                    return [Ether(f) for f in frames if text in f]

                one.send(bytes(Ether(src=mac(1), dst=mac(9)) / ip))
                arrived = on_wire(b"ivds-mark voice")
                check_equal(len(arrived), 1, "frames of the first VM")
                tags = (arrived[0][Dot1Q], arrived[0][Dot1Q].payload)
                check_equal([(tag.vlan, tag.prio) for tag in tags], [(100, 5), (10, 5)], "its tags")
                check_equal(arrived[0][IP].tos, 46 << 2 | 2, "its DSCP and ECN")
                ip.tos = 46 << 2 | 2
                check_equal(bytes(arrived[0][IP])[:20], bytes(ip)[:20], "its IP header, with the sum that scapy gives it")
                two.send(bytes(Ether(src=mac(2), dst=mac(9)) / Dot1Q(vlan=0, prio=3) / IP(src="10.0.0.2", dst="10.0.0.9") /
                               (b"ivds-mark own" + bytes(20))))
                arrived = on_wire(b"ivds-mark own")
                check_equal([tag.prio for tag in (arrived[0][Dot1Q], arrived[0][Dot1Q].payload)], [3, 3], "the second VM's tags")


@case("a change of a profile reaches all vPorts that have it, whole or not at all [R48]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        shared = {"name": "shared", "mtu_bytes": 1400}
        scene.profiles = [shared]
        scene.host_on_wire()
        for number in (1, 2, 3):
            scene.vm("a", "red", number, profile="shared")
        scene.vm("a", "red", 4)
        scene.start()

        def pings(size):
            """Of each VM with the profile, whether a ping of that size to the one without it was answered."""
            return [scene.ping(f"red-{number}", "red-4", "-s", str(size), "-M", "do", count=1) for number in (1, 2, 3)]

        check_equal(pings(1372), [1, 1, 1], "pings of 1400 bytes")
        check_equal(pings(1373), [0, 0, 0], "pings of 1401 bytes")
        shared.update(mtu_bytes=1200, rules=[{"name": "no-dns", "protocol": "udp", "dst_ports": ["53"], "action": "drop"}])
        scene.apply("a")
        check_equal(pings(1172), [1, 1, 1], "pings of 1200 bytes")
        check_equal(pings(1173), [0, 0, 0], "pings of 1201 bytes")
        ask = IP(dst="10.0.0.4") / UDP(sport=1, dport=53) / b"ivds-mark"
        for number in (1, 2, 3):
            before = scene.drops("a").get((f"red-{number}", "acl"), 0)
            with scene.vms[f"red-{number}"].port("eth0") as vm:
                vm.send(bytes(Ether(src=mac(number), dst=mac(4)) / ask))
            lab.wait(lambda before=before, number=number: scene.drops("a").get((f"red-{number}", "acl"), 0) == before + 1,
                     5, f"red-{number}: what the profile's rule drops")
        # One part of the change is right, the other cannot be: neither is made, at no vPort.
        shared.update(mtu_bytes=1400, rules=[{"name": "bad", "mirror": "nowhere"}])
        refused = scene.hosts["a"].ctl("apply", "-f", "-", stdin=json.dumps(scene.config("a")), check=False)
        check(refused.returncode != 0 and "nowhere" in refused.stderr, f"the change is not refused: {refused}")
        check_equal(pings(1172), [1, 1, 1], "pings of 1200 bytes after a change that was refused")
        check_equal(pings(1173), [0, 0, 0], "pings of 1201 bytes after a change that was refused")


@case("a pool's vPorts share the flows that a rule gives them, and one that goes loses only its own [R52]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        scene.host_on_wire()
        for number in range(1, 5):
            scene.vm("a", "red", number)
        config = scene.config
        scene.config = lambda host: {**config(host), "vport_pools": [{"name": "web", "vports": ["red-2", "red-3", "red-4"]}]}
        scene.vport_fields["red-1"] = {"rules": [{"name": "spread", "direction": "in", "protocol": "udp", "dst_ports": ["9999"],
                                                  "action": "redirect", "to_pool": "web"}]}
        scene.start()

        def spread():
            """Who got which of 90 flows, told by the frames' source port."""
            before = {vm: scene.counters("a", vm)["tx_packets"] for vm in ("red-2", "red-3", "red-4")}
            check_equal(scene.ping("red-1", "red-2"), 3, "pings, which are no one's to spread")
            with scene.vms["red-1"].within():
                for port in range(20000, 20090):
                    sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                    sender.bind(("0.0.0.0", port))
                    sender.sendto(b"flow", (scene.vms["red-2"].address, 9999))
                    sender.close()
            targets = {flow["tuple"]["src_port"]: flow["in"].get("to") for flow in flows(scene, "a", "red-1")
                       if flow["tuple"].get("dst_port") == 9999}
            after = {vm: scene.counters("a", vm)["tx_packets"] - before[vm] for vm in before}
            check_equal(len(targets), 90, f"flows in the table; frames sent: {after}")
            return targets

        first = spread()
        check_equal(set(first.values()), {"red-2", "red-3", "red-4"}, "who got flows")
        scene.vms["red-3"].run("ip", "link", "set", "eth0", "down")
        lab.wait(lambda: not scene.ports("a")["red-3"].get("up"), 5, "red-3 is still up")
        second = spread()
        check("red-3" not in second.values(), "flows for the one that is gone")
        moved = {port for port in first if first[port] != second[port]}
        check_equal(moved, {port for port in first if first[port] == "red-3"}, "flows that moved")

@case("a vPort loses what it sends, or is sent, over its rate, counted, and its neighbour loses nothing [R132]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        scene.profiles = [{"name": "slow", "rate_in_mbps": 2, "burst_in_kib": 16},
                          {"name": "deaf", "rate_out_mbps": 2, "burst_out_kib": 16}]
        scene.two_hosts()
        for number, host, more in ((1, "a", {"profile": "slow"}), (2, "a", {"profile": "deaf"}), (3, "b", {}),
                                   (4, "a", {})):
            scene.vm(host, "red", number, **more)
        scene.start()

        scene.check_pings()
        for sender, receiver, where in (("red-1", "red-3", ("red-1", "rate")), ("red-1", "red-4", ("red-1", "rate")),
                                        ("red-3", "red-2", ("red-2", "rate_out")),
                                        ("red-4", "red-2", ("red-2", "rate_out"))):
            arrived, grown, spent = scene.burst(sender, receiver, "a")
            check_equal(set(grown), {where}, f"{sender} to {receiver}: who lost frames, and why")
            # What the rate gives in the time, the burst, and the frame that goes beyond it.
            check(arrived <= 2e6 / 8 * spent + (16 << 10) + 1000,
                  f"{sender} to {receiver}: {arrived} bytes in {spent:.3f} s")
        for sender, receiver in (("red-4", "red-3"), ("red-3", "red-4"), ("red-2", "red-4")):
            check_equal(scene.burst(sender, receiver, "a")[1], {}, f"{sender} to {receiver}: drops")


main()
