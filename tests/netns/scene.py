# SPDX-License-Identifier: Apache-2.0
"""scene.py -- a lab with the switch in it: networks of tenants, VMs on hosts, and the agents' configuration for them."""
import itertools
import json
import pathlib
import socket
import sys
import threading
import time

from harness import check, check_equal
from lab import LabError, RawPort

MARK = b"ivds-mark "
TRANSFER = pathlib.Path(__file__).with_name("transfer.py")


def mac(number):
    return f"02:00:00:00:{number >> 8:02x}:{number & 255:02x}"


def raw(text):
    """A MAC as bytes."""
    return bytes.fromhex(text.replace(":", ""))


def learning_switch(lab):
    """The fabric between hosts: a bridge that learns MACs and is no more than that, so that the tags of two fit."""
    fabric = lab.place("fabric")
    fabric.ip("link add fabric mtu 1508 type bridge", "link set fabric up")
    # It must not hand frames to a packet filter.
    fabric.run("sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done")
    return fabric


def plug_in(lab, fabric, host):
    """The host's wire0 is on the fabric, as port-HOST."""
    lab.cable(host, "wire0", fabric, f"port-{host.name}")
    fabric.ip(f"link set port-{host.name} master fabric")


BROADCAST = raw("ff:ff:ff:ff:ff:ff")
MULTICAST = raw("01:00:5e:00:00:01")
EXPERIMENTAL = 0x88B5  # the local experimental EtherType: nothing else sends it


def tag(vlan, tpid=0x8100):
    return tpid.to_bytes(2, "big") + vlan.to_bytes(2, "big")


def frame(destination, source, payload, tags=b"", ethertype=EXPERIMENTAL):
    destination = destination if isinstance(destination, bytes) else raw(destination)
    source = source if isinstance(source, bytes) else raw(source)
    payload = payload if isinstance(payload, bytes) else payload.encode()
    return destination + source + tags + ethertype.to_bytes(2, "big") + payload.ljust(46, b".")


def armed(host):
    """What the pinned maps of a host copy: {port id: (in, out, drop)} and the kinds of mirrors, both without zeros."""
    def rows(name):
        dump = json.loads(host.run("bpftool", "-j", "map", "dump", "pinned", f"/sys/fs/bpf/ivds/v1/maps/{name}").stdout)
        return [(row["formatted"]["key"], row["formatted"]["value"]) for row in dump]

    masks = {key: (value["mirror_in"], value["mirror_out"], value["mirror_drop"]) for key, value in rows("ports")}
    kinds = {key: value["kind"] for key, value in rows("mirrors")}
    return {key: mask for key, mask in masks.items() if any(mask)}, {key: kind for key, kind in kinds.items() if kind}


def network(vlan=100, vvlan=10, **fields):
    """The fields of an instance; `independent=True` makes the V.VLAN alone the identity."""
    if fields.pop("independent", False):
        return {"mode": "independent", "vvlan": vvlan, "scope": "distributed", **fields}
    return {"mode": "piggyback", "vlan": vlan, "vvlan": vvlan, "scope": "distributed", **fields}


class Scene:
    """Networks are there on every host that has a VM in them. VMs of one network count from 1: their vMAC and their
    address (10.0.0.x) follow from the number, so VMs of different networks collide in both on purpose."""

    def __init__(self, lab, networks, attach="auto", uplink=None, instance=None, wire_mtu=1508):
        self.lab, self.networks, self.attach = lab, networks, attach
        self.uplink_fields, self.instance_fields, self.wire_mtu = uplink or {}, instance or {}, wire_mtu
        self.hosts, self.vms, self.network_of, self.host_of = {}, {}, {}, {}
        self.profiles, self.vport_fields = [], {}

    def host(self, name):
        self.hosts[name] = self.lab.host(name)
        return self.hosts[name]

    def two_hosts(self):
        a, b = self.host("a"), self.host("b")
        self.lab.cable(a, "wire0", b, "wire0", self.wire_mtu)
        return a, b

    def host_on_wire(self):
        """One host, and a place that holds the other end of its cable."""
        a, far = self.host("a"), self.lab.place("far")
        self.lab.cable(a, "wire0", far, "wire0", self.wire_mtu)
        return a, far

    def vm(self, host, network_name, number, mtu=1500, **vport):
        name = f"{network_name}-{number}"
        vm = self.lab.vm(self.hosts[host], name, mac(number), mtu=mtu, address=f"10.0.0.{number}")
        self.vms[name], self.network_of[name], self.host_of[name] = vm, network_name, host
        self.vport_fields[name] = vport
        return vm

    def config(self, host):
        mine = [name for name in self.vms if self.host_of[name] == host]
        uplinks = [{"name": "uplink", "netdev": "wire0", "attach": self.attach, **self.uplink_fields}]
        return {
            "uplinks": uplinks,
            "profiles": self.profiles,
            "instances": [{"name": name, "uplink": "uplink", **self.networks[name], **self.instance_fields}
                          for name in dict.fromkeys(self.network_of[vm] for vm in mine)],
            "vnics": [{"name": f"{name}-nic", "vmac": self.vms[name].mac} for name in mine],
            "vports": [{"name": name, "instance": self.network_of[name], "netdev": self.vms[name].netdev,
                        "vnic": f"{name}-nic", "attach": self.attach, **self.vport_fields[name]} for name in mine],
        }

    def start(self):
        """Starts the agents, applies, and waits until every port is up."""
        for name, host in self.hosts.items():
            if host.agent is None:
                host.start_agent()
            self.apply(name)

    def apply(self, host):
        self.hosts[host].apply(self.config(host))
        # A NIC that resets when it gets its first program takes its seconds.
        self.lab.wait(lambda: all(port.get("up") for port in self.ports(host).values()), 40,
                      f"{host}: not every port is up")

    def ports(self, host):
        """State of each port by name, as `status` gives it."""
        return {port["name"]: port for port in self.hosts[host].ctl_json("status").get("ports", [])}

    def drops(self, host):
        """Dropped packets by {port, reason}."""
        return {(drop["port"], drop["reason"]): int(drop["packets"])
                for drop in self.hosts[host].ctl_json("stats").get("drops", [])}

    def dropped(self, host, reason):
        return sum(count for (_, why), count in self.drops(host).items() if why == reason)

    def counters(self, host, port):
        counters = {key: 0 for key in ("rx_packets", "tx_packets", "rx_bytes", "tx_bytes", "rx_local", "rx_wire",
                                       "rx_flood", "rx_host", "drops")}
        for state in self.hosts[host].ctl_json("stats").get("ports", []):
            if state["name"] == port:
                counters.update({key: int(value) for key, value in state.get("counters", {}).items()})
        return counters

    def burst(self, sender, receiver, host, frames=400, size=1000):
        """UDP from one VM to another as fast as it goes: {bytes that arrived, drops of the host by port and reason, how
        long sender and switch had for it}. What neither arrived nor was dropped is an error."""
        before, begun = self.drops(host), time.monotonic()
        with self.vms[receiver].within():
            into = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        into.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        into.bind((self.vms[receiver].address, 9000))
        into.settimeout(0.3)
        with self.vms[sender].within():
            out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for _ in range(frames):
            out.sendto(bytes(size - 42), (self.vms[receiver].address, 9000))
        spent, arrived = time.monotonic() - begun, 0
        try:
            while True:
                into.recv(2000)
                arrived += 1
        except (TimeoutError, socket.timeout):
            pass
        out.close()
        into.close()
        after = self.drops(host)
        grown = {key: after[key] - before.get(key, 0) for key in after if after[key] != before.get(key, 0)}
        check_equal(arrived + sum(grown.values()), frames, f"{sender} to {receiver}: arrived and dropped, {grown}")
        return arrived * size, grown, spent

    def ping(self, one, other, *options, count=3):
        """How many of `count` pings were answered."""
        done = self.vms[one].run("ping", "-q", "-c", count, "-i", "0.02", "-W", "1", *options,
                                 self.vms[other].address, check=False)
        return int(done.stdout.split(" received")[0].split()[-1]) if " received" in done.stdout else 0

    def check_pings(self):
        """Every VM reaches every other of its network."""
        pairs = [(one, other) for one, other in itertools.permutations(self.vms, 2)
                 if self.network_of[one] == self.network_of[other]]
        check(pairs, "no two VMs in one network")
        running = [(pair, self.vms[pair[0]].start("ping", "-q", "-c", "2", "-i", "0.1", "-W", "2",
                                                  self.vms[pair[1]].address, stdout=-3, stderr=-3)) for pair in pairs]
        silent = [f"{one} to {other}" for (one, other), process in running if process.wait(30) != 0]
        check(not silent, f"no answer: {', '.join(silent)}")

    def transfer(self, one, other, mib):
        """Sends so much by TCP from one VM to the other; both ends must agree on it, byte for byte."""
        receiver = self.vms[other].start(sys.executable, TRANSFER, "receive", 7000, stdout=-1)
        check_equal(receiver.stdout.readline().strip(), "ready", f"{other} listens")
        sent = self.vms[one].run(sys.executable, TRANSFER, "send", self.vms[other].address, 7000, mib,
                                 timeout=240).stdout.strip()
        got = receiver.stdout.readline().strip()
        receiver.wait(30)
        receiver.stdout.close()
        check_equal(got, sent, f"{one} to {other}, {mib} MiB")
        check_equal(int(got.split()[0]), mib << 20, "bytes")

    def raw_ports(self):
        return {name: RawPort(vm, "eth0") for name, vm in self.vms.items()}


class Tally:
    """Who got whose frames. A frame says who sent it; every VM's frames are looked at, whole."""

    def __init__(self, scene):
        self.scene, self.ports, self.sent = scene, scene.raw_ports(), 0
        self.got = {}     # (sender, receiver) -> frames
        self.tagged = 0   # frames that reached a VM with a tag on
        self.total = 0

    def send(self, sender, destination, source=None, tags=b"", kind="plain"):
        vm = self.scene.vms[sender]
        self.ports[sender].send(frame(destination, source or vm.mac, MARK + f"{sender} {kind} ".encode(), tags))
        self.sent += 1

    def look(self):
        for receiver, port in self.ports.items():
            for data in port.receive():
                at = data.find(MARK)
                if at < 0:
                    continue
                sender = data[at + len(MARK):].split(b" ")[0].decode()
                self.got[sender, receiver] = self.got.get((sender, receiver), 0) + 1
                self.tagged += data[12:14] != EXPERIMENTAL.to_bytes(2, "big")
                self.total += 1
        return self.total

    def settle(self, expected):
        """Waits for `expected` frames, and then for those that should not come."""
        try:
            self.scene.lab.wait(lambda: self.look() >= expected, 10, "")
        except LabError:
            pass  # the caller compares
        quiet = 0
        while quiet < 5:
            before = self.total
            time.sleep(0.03)
            quiet = quiet + 1 if self.look() == before else 0

    def leaks(self):
        """Frames that reached a VM of another network, by {sender, receiver}."""
        network_of = self.scene.network_of
        return {pair: count for pair, count in self.got.items() if network_of[pair[0]] != network_of[pair[1]]}

    def close(self):
        for port in self.ports.values():
            port.close()


class StackSocket:
    """Frames of one EtherType that the host's stack gets from an interface."""

    def __init__(self, host, netdev, ethertype):
        with host.within():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ethertype))
            self.socket.bind((netdev, ethertype))
        self.socket.setblocking(False)

    def count(self):
        count = 0
        while True:
            try:
                self.socket.recv(1 << 16)
                count += 1
            except BlockingIOError:
                return count

    def close(self):
        self.socket.close()


class Stream:
    """Numbered frames at a steady rate from one VM to another, and which of them arrived. Runs beside the test."""

    def __init__(self, scene, sender, receiver, per_second=2000):
        self.name = f"{sender} to {receiver}"
        self.label = MARK + f"{sender} stream ".encode()
        self.out, self.into = scene.vms[sender].port("eth0"), scene.vms[receiver].port("eth0")
        self.head = (scene.vms[receiver].mac, scene.vms[sender].mac)
        self.pause = 1.0 / per_second
        self.sent, self.arrived, self.stopping = 0, [], threading.Event()
        self.sent_s = []  # when each was sent
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        due = time.monotonic()
        while not self.stopping.is_set():
            self.out.send(frame(*self.head, self.label + b"%d " % self.sent))
            self.sent += 1
            self.sent_s.append(time.monotonic())
            if self.sent % 64 == 0:
                self._take()
            due = max(due + self.pause, time.monotonic() - 0.05)
            time.sleep(max(0.0, due - time.monotonic()))

    def _take(self):
        for data in self.into.receive():
            at = data.find(self.label)
            if at >= 0:
                self.arrived.append(int(data[at + len(self.label):].split(b" ")[0]))

    def stop(self):
        """Ends it; returns the numbers that were lost and those that came twice."""
        self.stopping.set()
        self.thread.join()
        end = time.monotonic() + 2
        while len(set(self.arrived)) < self.sent and time.monotonic() < end:
            time.sleep(0.01)
            self._take()
        self.out.close()
        self.into.close()
        seen = set(self.arrived)
        return [n for n in range(self.sent) if n not in seen], len(self.arrived) - len(seen)

    def check_whole(self):
        lost, doubled = self.stop()
        print(f"{self.name}: {self.sent} frames sent, {len(lost)} lost, {doubled} doubled")
        check(self.sent > 100, f"{self.name}: only {self.sent} frames were sent")
        check(not lost and not doubled, f"{self.name}: lost {lost[:20]}, doubled {doubled}")
