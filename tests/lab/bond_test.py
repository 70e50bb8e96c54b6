# SPDX-License-Identifier: Apache-2.0
"""bond_test.py -- the kernel's bonds as uplinks, on Linux 6.12; scripts/lab.sh boots it."""
import contextlib
import json
import os
import socket
import struct
import threading
import time

import nics  # noqa: F401  pylint: disable=unused-import
from harness import case, check, check_equal, main
from lab import RawPort
from scene import BROADCAST, MARK, Scene, frame, mac, network

os.system("modprobe -q bonding max_bonds=0; modprobe -aq bridge")
MEMBERS = ("m0", "m1")


class BondScene(Scene):
    """Hosts whose uplink, wire0, is a bond of two cables."""

    def bond(self, host, mode, *options):
        host.ip(f"link add wire0 type bond mode {mode} miimon 50 {' '.join(options)}",
                *(line for member in MEMBERS for line in (f"link set {member} down", f"link set {member} master wire0",
                                                          f"link set {member} up")),
                f"link set wire0 mtu {self.wire_mtu} up")
        self.lab.wait(lambda: host.run("cat", "/sys/class/net/wire0/carrier").stdout == "1\n", 30, "no carrier")

    def two_bonds(self, mode, *options):
        """Two hosts; a bond on each, member to member."""
        a, b = self.host("a"), self.host("b")
        for member in MEMBERS:
            self.lab.cable(a, member, b, member, self.wire_mtu)
        for host in (a, b):
            self.bond(host, mode, *options)
        return a, b

    def bond_on_bridge(self, mode, *options):
        """A host with a bond whose members are two ports of a bridge; a second one has one cable to it. The bridge
        learns nothing, so that every frame comes to both members."""
        a, fabric, b = self.host("a"), self.lab.place("fabric"), self.host("b")
        fabric.ip(f"link add fabric mtu {self.wire_mtu} type bridge", "link set fabric up")
        for member in MEMBERS:
            self.lab.cable(a, member, fabric, member, self.wire_mtu)
        self.lab.cable(b, "wire0", fabric, "port-b", self.wire_mtu)
        fabric.run("sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done")
        fabric.ip(*(line for port in (*MEMBERS, "port-b") for line in (
            f"link set {port} master fabric", f"link set {port} type bridge_slave learning off")))
        self.bond(a, mode, *options)
        return a, b, fabric


class Flows:
    """Numbered UDP frames of many flows from one VM to another, and what passed each member's far end. Each frame says
    when it was sent, so that how long a flow was out is read off the frames."""
    COUNT = 16

    def __init__(self, scene, sender, receiver, far, per_second=400):
        self.out, self.into = scene.vms[sender].port("eth0"), scene.vms[receiver].port("eth0")
        self.wire = {member: RawPort(far, member) for member in MEMBERS}
        self.head = (mac(int(receiver[-1])), mac(int(sender[-1])))
        self.pause, self.stopping, self.sent = 1 / per_second, threading.Event(), 0
        self.arrived = {flow: [] for flow in range(self.COUNT)}          # of (number, when it was sent)
        self.on = {flow: [] for flow in range(self.COUNT)}               # of (number, member)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _frame(self, flow, number):
        payload = MARK + b"flow %d %d %.6f " % (flow, number, time.monotonic())
        udp = struct.pack("!HHHH", 20000 + 7 * flow, 9, 8 + len(payload), 0) + payload
        # An address that nobody has: the VM's stack does not answer.
        ip = struct.pack("!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, socket.inet_aton("10.0.0.1"),
                         socket.inet_aton("10.0.9.9"))
        total = sum(struct.unpack("!10H", ip))
        total = (total & 0xFFFF) + (total >> 16)
        ip = ip[:10] + struct.pack("!H", 0xFFFF - ((total & 0xFFFF) + (total >> 16))) + ip[12:]
        return frame(*self.head, ip + udp, ethertype=0x0800)

    def _run(self):
        due = time.monotonic()
        while not self.stopping.is_set():
            self.out.send(self._frame(self.sent % self.COUNT, self.sent // self.COUNT))
            self.sent += 1
            if self.sent % 32 == 0:
                self._take()
            due = max(due + self.pause, time.monotonic() - 0.05)
            time.sleep(max(0.0, due - time.monotonic()))

    @staticmethod
    def _marks(port):
        for data in port.receive():
            at = data.find(MARK + b"flow ")
            if at >= 0:
                flow, number, when = data[at + len(MARK) + 5:].split(b" ")[:3]
                yield int(flow), int(number), float(when)

    def _take(self):
        for member, port in self.wire.items():
            with contextlib.suppress(OSError):  # a link that is set down says so once
                for flow, number, _ in self._marks(port):
                    self.on[flow].append((number, member))
        for flow, number, when in self._marks(self.into):
            self.arrived[flow].append((number, when))

    def now(self):
        """How many frames of each flow were sent by now, at least."""
        return self.sent // self.COUNT

    def newest(self, flow):
        return self.arrived[flow][-1][0] if self.arrived[flow] else -1

    def wait_for(self, lab, flows, number, what):
        """Returns once each of the flows has brought a frame of at least this number."""
        lab.wait(lambda: all(self.newest(flow) >= number for flow in flows), 60, what)

    def stop(self):
        self.stopping.set()
        self.thread.join()
        end = time.monotonic() + 2
        while sum(map(len, self.arrived.values())) < self.sent and time.monotonic() < end:
            time.sleep(0.02)
            self._take()
        for port in (self.out, self.into, *self.wire.values()):
            port.close()

    def members(self, upto):
        """The member that each flow took in its first `upto` frames; a flow takes one."""
        taken = {flow: {member for number, member in seen if number < upto} for flow, seen in self.on.items()}
        check(all(len(members) == 1 for members in taken.values()), f"members by flow: {taken}")
        return {flow: next(iter(members)) for flow, members in taken.items()}

    def check_whole(self, flows, what):
        """Every frame of these flows has arrived, once and in its order."""
        for flow in flows:
            numbers = [number for number, _ in self.arrived[flow]]
            check_equal(numbers, list(range(len(numbers))), f"flow {flow}, {what}")
            check(len(numbers) >= self.now(), f"flow {flow}, {what}: {len(numbers)} frames of {self.now()} arrived")

    def outage(self, flow):
        """The frames of a flow arrived in order, and those lost were one after the other; returns how long."""
        numbers = [number for number, _ in self.arrived[flow]]
        check_equal(numbers, sorted(set(numbers)), f"flow {flow} is in order")
        gaps = [(second[1] - first[1], second[0] - first[0] - 1)
                for first, second in zip(self.arrived[flow], self.arrived[flow][1:]) if second[0] != first[0] + 1]
        check(len(gaps) <= 1, f"flow {flow} was out more than once: {gaps}")
        return gaps[0] if gaps else (0.0, 0)


def count_floods(scene, sender, receivers, far, destination, text):
    """Sends 20 frames; returns how many passed each far end of a member, and how many each receiver got."""
    wire = {member: RawPort(far, member) for member in MEMBERS}
    into = {name: scene.vms[name].port("eth0") for name in receivers}
    label = MARK + text + b" "
    seen = dict.fromkeys([*wire, *into], 0)

    def look():
        for name, port in (*wire.items(), *into.items()):
            with contextlib.suppress(OSError):  # a link that is down says so once
                seen[name] += sum(label in data for data in port.receive())
        return dict(seen)

    with scene.vms[sender].port("eth0") as out:
        for number in range(20):
            out.send(frame(destination, scene.vms[sender].mac, label + b"%d" % number))
    scene.lab.wait(lambda: all(look()[name] >= 20 for name in receivers), 10, f"{text}: {seen}")
    before = None
    while before != look():  # those that should not come
        before = dict(seen)
        time.sleep(0.2)
    for port in (*wire.values(), *into.values()):
        port.close()
    return seen


def wait_members(lab, host, states):
    """Returns once the host's bond has its members so: up and active, or not."""
    def is_so():
        links = {member: json.loads(host.run("ip", "-j", "-d", "link", "show", member).stdout)[0]["linkinfo"]
                 ["info_slave_data"] for member in MEMBERS}
        return all((links[member]["mii_status"] == "UP") == up for member, up in states.items())
    lab.wait(is_so, 30, f"the members of {host.name} never were {states}")


@case("active-backup on two ports of a switch: what is flooded to both members reaches a VM once, what is flooded from "
      "here is on the wire once, and a lost member is out")
def _(bench):
    with bench.lab() as lab:
        scene = BondScene(lab, {"red": network()})
        a, _, fabric = scene.bond_on_bridge("active-backup")
        for host, number in (("a", 1), ("a", 2), ("b", 3)):
            scene.vm(host, "red", number)
        scene.start()
        check_equal({name: port["got"] for name, port in scene.ports("a").items()}, dict.fromkeys(scene.ports("a"), "tcx"),
                    "hooks")
        scene.check_pings()
        for destination, text, receivers in ((BROADCAST, b"broadcast", ("red-1", "red-2")),
                                             (mac(77), b"unknown", ("red-1", "red-2")), (mac(1), b"known", ("red-1",))):
            seen = count_floods(scene, "red-3", receivers, fabric, destination, text)
            check_equal({name: seen[name] for name in receivers}, dict.fromkeys(receivers, 20), f"{text} from the wire")
        for destination, text in ((BROADCAST, b"broadcast"), (mac(77), b"unknown")):
            seen = count_floods(scene, "red-1", ("red-2", "red-3"), fabric, destination, text)
            check_equal(seen, {"m0": 20, "m1": 0, "red-2": 20, "red-3": 20}, f"{text} to the wire")
        for member, other in (("m1", "m0"), ("m0", "m1")):
            flows = Flows(scene, "red-1", "red-3", fabric)
            flows.wait_for(lab, range(flows.COUNT), 5, "the flows do not run")
            fabric.ip(f"link set {member} down")
            wait_members(lab, a, {member: False})
            flows.wait_for(lab, range(flows.COUNT), flows.now() + 5, f"the flows do not run again without {member}")
            if member == "m1":  # the backup
                fabric.ip(f"link set {member} up")
                wait_members(lab, a, {member: True})
                flows.wait_for(lab, range(flows.COUNT), flows.now() + 5, f"the flows do not run with {member} back")
            flows.stop()
            if member == "m1":
                flows.check_whole(range(flows.COUNT), "while the backup went and came")
            else:
                print_outages(flows, range(flows.COUNT), "the active member's loss")
        check_equal(count_floods(scene, "red-1", ("red-2", "red-3"), fabric, BROADCAST, b"left"),
                    {"m0": 0, "m1": 20, "red-2": 20, "red-3": 20}, "broadcast to the wire that is left")
        scene.check_pings()


def print_outages(flows, which, what):
    outages = [flows.outage(flow) for flow in which]
    print(f"{what}: {len(outages)} flows out for up to {1000 * max(outages)[0]:.0f} ms, {sum(lost for _, lost in outages)} "
          f"frames of {flows.sent} lost")


for mode, options in (("balance-xor", ("xmit_hash_policy", "encap3+4")),
                      ("802.3ad", ("xmit_hash_policy", "encap3+4", "lacp_rate", "fast"))):
    @case(f"{mode} by the flows behind the tags: each has its member, a lost one is out, and the flows of the other lose "
          "nothing and stay in order [R136]")
    def _(bench, mode=mode, options=options):
        with bench.lab() as lab:
            scene = BondScene(lab, {"red": network()})
            a, b = scene.two_bonds(mode, *options)
            scene.vm("a", "red", 1)
            scene.vm("a", "red", 2)
            scene.vm("b", "red", 3)
            scene.start()
            scene.check_pings()
            for sender, receivers in (("red-1", ("red-2", "red-3")), ("red-3", ("red-1", "red-2"))):
                far = b if sender == "red-1" else a
                seen = count_floods(scene, sender, receivers, far, BROADCAST, b"broadcast of " + sender.encode())
                check_equal(seen["m0"] + seen["m1"], 20, f"broadcasts of {sender} on the wire")
                check_equal({name: seen[name] for name in receivers}, dict.fromkeys(receivers, 20), "who got them")
            scene.transfer("red-1", "red-3", 1)
            flows = Flows(scene, "red-1", "red-3", b)
            flows.wait_for(lab, range(flows.COUNT), 20, "the flows do not run")
            taken = flows.members(20)
            print(f"{mode}: flows by member: {taken}")
            check_equal(set(taken.values()), set(MEMBERS), "members that flows took")
            b.ip("link set m1 down")
            for host in (a, b):
                wait_members(lab, host, {"m0": True, "m1": False})
            flows.wait_for(lab, range(flows.COUNT), flows.now() + 20, "the flows do not run again")
            flows.stop()
            flows.check_whole([flow for flow in taken if taken[flow] == "m0"], "whose member stayed")
            print_outages(flows, [flow for flow in taken if taken[flow] == "m1"], f"{mode}, a member's loss")
            scene.check_pings()


@case("the policies of a bond that look behind the tags are those of encapsulation; the others know the MACs alone")
def _(bench):
    with bench.lab() as lab:
        scene = BondScene(lab, {"red": network()})
        a, b = scene.two_bonds("balance-xor")
        scene.vm("a", "red", 1)
        scene.vm("b", "red", 3)
        scene.start()
        spread = {}
        for policy in ("layer2", "layer2+3", "layer3+4", "encap2+3", "encap3+4", "vlan+srcmac"):
            a.ip(f"link set wire0 type bond xmit_hash_policy {policy}")
            flows = Flows(scene, "red-1", "red-3", b)
            flows.wait_for(lab, range(flows.COUNT), 3, "the flows do not run")
            flows.stop()
            spread[policy] = len(set(flows.members(3).values()))
        print(f"members that 16 flows between two VMs took: {spread}")
        check_equal({policy for policy, members in spread.items() if members == 2}, {"encap3+4"}, "policies that spread")


main()
