# SPDX-License-Identifier: Apache-2.0
"""migration_test.py -- a VM goes from one host to another and back, on a plain Linux bridge and with a real etcd: what it
has open stays open, and whatever dies on the way, it has one host.

The VM's address and vMAC are on a bridge of its own, which is plugged into one host or the other: its sockets know
nothing of the move but that the link was gone for a moment. IVDS_MIGRATIONS says how often it moves (5), and IVDS_GAP_MS,
of the benchmark bench-moves, how long the gap may be at the median; without it no time decides."""
import fcntl
import itertools
import json
import os
import re
import signal
import statistics
import struct
import sys
import tempfile
import threading
import time

from etcd import Etcd, findings, says, start
from harness import case, check, check_equal, main
from lab import RawPort, Vm, written
from scene import MARK, TRANSFER, Scene, Stream, frame, learning_switch, mac, network, plug_in, raw, tag

MOVES = int(os.environ.get("IVDS_MIGRATIONS", "5"))
GAP_MS = float(os.environ.get("IVDS_GAP_MS", "inf"))
VLANS = {"a": 100, "b": 200, "c": 100}
LEASE_S = 4
NAME, VMAC = "red-1", mac(1)
DEI = 0x1000
TUNSETIFF, IFF_TAP, IFF_NO_PI = 0x400454CA, 0x0002, 0x1000


class MovingScene(Scene):
    """Hosts a and c are on one VLAN and b on another. red-1 moves between a and b; it may only open connections, and be
    sent the probes. On each host is a VM of another tenant."""

    def config(self, host):
        config = super().config(host)
        for instance in config["instances"]:
            instance.update(vlan=VLANS[host], peer_vlans=[300 - VLANS[host]])
        for vport in config["vports"]:
            if vport["name"] == NAME:
                vport["profile"] = "guarded"
        config["profiles"] = [] if host != "a" else [{
            "name": "guarded", "default_in": "drop", "default_out": "drop", "rules": [
                {"name": "syn", "direction": "in", "ethertype": "ip", "protocol": "tcp", "tcp_flags": "syn/syn+ack",
                 "stateful": True},
                {"name": "ping", "ethertype": "ip", "protocol": "icmp"},
                {"name": "arp", "ethertype": "arp"},
                {"name": "probes", "ethertype": "0x88b5"}]}]
        return config


class Moving:
    """The scene, and the VM that moves in it."""

    def __init__(self, lab):
        self.lab, self.etcd = lab, Etcd(lab)
        self.fabric = fabric = learning_switch(lab)
        self.scene = scene = MovingScene(lab, {"red": network(), "blue": network(vvlan=20)})
        for number, name in enumerate("abc", 1):
            host = scene.host(name)
            plug_in(lab, fabric, host)
            self.etcd.connect(host, 10 + number)
            start(host, LEASE_S)
        self.vm = vm = Vm(lab, NAME, NAME, VMAC)
        lab.places.append(vm)
        vm.up()
        vm.run("sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done")
        vm.ip(f"link add eth0 address {VMAC} type bridge mcast_snooping 0", "link set eth0 up")
        for name in "ab":
            scene.hosts[name].ip(f"link add {NAME} type veth peer name to-{name} netns {vm.pid}", f"link set {NAME} up")
            vm.ip(f"link set to-{name} up")
        vm.ip("link set to-a master eth0")
        vm.set_address("10.0.0.1")
        scene.vms[NAME], scene.network_of[NAME], scene.host_of[NAME] = vm, "red", "a"
        scene.vport_fields[NAME] = {}
        scene.vm("b", "red", 3)
        scene.vm("c", "red", 2)
        for number, name in enumerate("abc", 11):
            scene.vm(name, "blue", number)
        scene.start()
        self.at = "a"
        self.settle()

    def other(self, host=None):
        return {"a": "b", "b": "a"}[host or self.at]

    def host(self, name):
        return self.scene.hosts[name]

    def plug(self, host):
        self.vm.ip(f"link set to-{self.other(host)} nomaster", f"link set to-{host} master eth0")
        self.at = host

    def state(self, host):
        """(state, peer_host) of the vPort there; none if there is none."""
        done = self.host(host).ctl("--json", "vport", "get", NAME, check=False)
        if done.returncode != 0:
            return None
        vport = json.loads(done.stdout)["vport"]
        return vport["state"], vport["peer_host"]

    def bindings(self):
        return [json.loads(value) for key, value in self.etcd.keys("/ivds/v1/bindings/").items()
                if key.endswith(".10/" + VMAC)]

    def settle(self, owner=None):
        """Waits until one host has the VM, in etcd and by the states of the vPorts, and both other hosts send there."""
        owner = owner or self.at

        def settled():
            states = {name: (self.state(name) or ("none",))[0] for name in "ab"}
            held = self.bindings()
            return ([binding["host"] for binding in held] == [owner] and states.pop(owner) == "active"
                    and set(states.values()) <= {"moved", "none"} and all(says(self.scene, n, "synced") for n in "abc")
                    and all(self.way(n) == VLANS[owner] for n in "abc" if n != owner))
        self.lab.wait(settled, 30, lambda: f"not settled on {owner}: {self.bindings()}, "
                                   f"{[(name, self.state(name), self.way(name)) for name in 'abc']}")
        check_equal(len(self.bindings()), 1, "owners")

    def way(self, host):
        """The outer VLAN by which the host reaches the VM; 0: it is the host's own."""
        for entry in self.host(host).ctl_json_lines("fdb", "show"):
            if entry["mac"] == VMAC and entry["instance"] == "red":
                return entry["vlan"]
        return None

    def works(self):
        """The VM, plugged in where it belongs, is reached from the other hosts and reaches them."""
        check_equal([self.scene.ping(NAME, other) for other in ("red-2", "red-3")], [3, 3], f"answers to the VM at {self.at}")

    def learned(self):
        """The port of the fabric behind which its bridge has the VM."""
        for entry in json.loads(self.fabric.run("bridge", "-j", "fdb", "show", "br", "fabric").stdout):
            if entry["mac"] == VMAC and entry.get("state") != "permanent":
                return entry["ifname"]
        return None

    def export(self, host=None):
        return self.host(host or self.at).ctl("migrate", "export", NAME)

    def prepare(self, exported=None, check=True, more=()):
        return self.host(self.other()).ctl("migrate", "prepare", "-f", "-", "--netdev", NAME, *more, check=check,
                                           stdin=exported or self.export())

    def commit(self, check=True, exported=None, more=()):
        words = ("-f", "-") if exported else ()
        return self.host(self.other()).ctl("migrate", "commit", NAME, *words, *more, check=check, stdin=exported)

    def abort(self, check=True):
        return self.host(self.other()).ctl("migrate", "abort", NAME, check=check)

    def went(self):
        """After a commit on the other host: the VM goes on there."""
        self.plug(self.other())
        self.settle()
        self.works()

    def home(self):
        """Back to a, where each fault begins."""
        if self.at != "a":
            self.prepare()
            self.commit()
            self.went()

    def run(self):
        """The whole way, as one command, with the VM's link changed in between. It does not stand still: what it sends
        before the commit is lost."""
        target = self.other()
        replug = (f"printf '%s\\n' 'link set to-{self.at} nomaster' 'link set to-{target} master eth0' | "
                  f"nsenter --net=/proc/{self.vm.pid}/ns/net ip -batch -")
        done = self.host(self.at).ctl("migrate", "run", NAME, "--to", self.host(target).path("/run/ivds/ivdsd.sock"),
                                      "--netdev", NAME, "--stop", replug, check=False)
        check_equal(done.returncode, 0, f"migrate run said {done.stderr}")
        self.at = target
        return done.stdout.strip()

    def restart(self, name):
        start(self.host(name), LEASE_S)


def refused(done, ident):
    check(done.returncode != 0 and ident in done.stderr, f"wanted {ident}, got exit {done.returncode}: {done.stderr}")


def gaps_ms(stream, lost):
    """How long the probes that were lost in a row took, for each such row of more than one probe."""
    gaps = []
    for _, run in itertools.groupby(enumerate(lost), lambda pair: pair[1] - pair[0]):
        numbers = [number for _, number in run]
        gaps.append((stream.sent_s[min(numbers[-1] + 1, stream.sent - 1)] - stream.sent_s[numbers[0]]) * 1000)
    return gaps


@case("a VM moves between hosts on different VLANs: its TCP connection goes on, nothing comes twice, and other tenants get nothing [R85][R154][R157][R161][R162][R163][R166][R168]")
def _(bench):
    with bench.lab() as lab:
        moving = Moving(lab)
        scene, vms = moving.scene, moving.scene.vms
        watched = {name: RawPort(vm, "eth0") for name, vm in vms.items() if name.startswith("blue")}
        server = vms["red-2"].start(sys.executable, TRANSFER, "serve", 7000, stdin=-1, stdout=-1)
        check_equal(server.stdout.readline().strip(), "ready", "red-2 listens")
        client = vms[NAME].start(sys.executable, TRANSFER, "fetch", vms["red-2"].address, 7000, stdout=-1)
        check_equal(client.stdout.readline().strip(), "connected", "the connection")
        probes = Stream(scene, "red-2", NAME, 1000)
        time.sleep(0.2)
        received = scene.counters("a", NAME)["tx_packets"]
        for _ in range(MOVES):
            said = moving.run()
            check("1 connections" in said, said)
            print(said)
            moving.settle()
            flows = [flow for flow in scene.hosts[moving.at].ctl_json_lines("flow", "list", "--vport", NAME)
                     if flow["tuple"]["protocol"] == 6]
            check_equal([flow["state"] for flow in flows], ["open"], "the connection in the new host's table")
            counted = scene.counters(moving.at, NAME)["tx_packets"]
            check(counted > received, f"{counted} frames to the VM, of all hosts together, after {received}")
            received = counted
        time.sleep(0.2)
        lost, doubled = probes.stop()
        gaps = gaps_ms(probes, lost)
        server.stdin.close()
        sent, got = server.stdout.readline().strip(), client.stdout.readline().strip()
        check_equal((server.wait(60), client.wait(60)), (0, 0), "exit codes of the two ends")
        check_equal(got, sent, "bytes and hash at the VM that moved")
        check(int(got.split()[0]) > 0, "no byte came")
        check_equal(doubled, 0, "probes that came twice")
        check(len(probes.arrived) > probes.sent // 2, f"{len(probes.arrived)} of {probes.sent} probes came")
        longest = (sorted(gaps, reverse=True) + [0.0] * MOVES)[:MOVES]
        print(f"{MOVES} moves, {got.split()[0]} bytes by one connection, {len(lost)} of {probes.sent} probes lost; gap "
              f"median {statistics.median(longest):.1f} ms, of one in ten {longest[MOVES // 10]:.1f} ms or more, longest "
              f"{longest[0]:.1f} ms; the machine's load was {os.getloadavg()[0]:.1f}")
        check(statistics.median(longest) <= GAP_MS, f"gap at the median: {statistics.median(longest):.1f} ms, {GAP_MS} wanted")
        leaked = sum(MARK + b"red" in data for port in watched.values() for data in port.receive())
        check_equal(leaked, 0, "probes at VMs of the other tenant")
        for port in watched.values():
            port.close()
        moving.works()


@case("what goes along is what was there: vPort, vNIC, profile with rules; and what contradicts the other host is refused [R163][R164]")
def _(bench):
    with bench.lab() as lab:
        moving = Moving(lab)
        a, b = moving.host("a"), moving.host("b")
        exported = moving.export()
        said = moving.prepare(more=("--dry-run",))
        check("create vport red-1" in said and "create profile guarded" in said, said)
        check_equal(moving.state("b"), None, "the vPort after a dry run")

        b.ctl("profile", "create", "guarded", "--default-in", "allow")
        refused(moving.prepare(exported, check=False), "IVDS-R012")
        b.ctl("profile", "delete", "guarded")
        b.ctl("vnic", "create", f"{NAME}-nic", "--vmac", mac(99))
        refused(moving.prepare(exported, check=False), "IVDS-R012")
        b.ctl("vnic", "delete", f"{NAME}-nic")
        refused(a.ctl("migrate", "prepare", "-f", "-", "--netdev", NAME, check=False, stdin=exported), "IVDS-R012")
        refused(b.ctl("migrate", "prepare", "-f", "-", "--netdev", NAME, "--instance", "blue", check=False,
                      stdin=exported), "IVDS-R012")
        refused(b.ctl("migrate", "prepare", "-f", "-", "--netdev", NAME, check=False, stdin="{}"), "IVDS-R012")
        refused(b.ctl("migrate", "prepare", "-f", "-", "--netdev", NAME, check=False, stdin="no JSON"), "IVDS-U005")
        b.ctl("instance", "update", "red", "--peer-vlans", "300")
        refused(moving.prepare(exported, check=False), "IVDS-R012")
        b.ctl("instance", "update", "red", "--peer-vlans", "100")
        b.ctl("tenant", "create", "full", "--max-vports", "1")
        b.ctl("instance", "update", "red", "--tenant", "full")
        refused(moving.prepare(exported, check=False), "IVDS-M028")
        b.ctl("tenant", "update", "full", "--max-vports", "2")
        done = b.ctl("migrate", "prepare", "-f", "-", "--netdev", "nonesuch", check=False, stdin=exported)
        refused(done, "IVDS-P011")
        check("strict" not in done.stderr, f"a fix for another command: {done.stderr}")
        refused(moving.commit(check=False), "IVDS-M027")
        check_equal(moving.state("b"), None, "the vPort after all that was refused")

        moving.prepare(exported)
        check_equal(moving.state("b"), ("prepared", "a"), "the vPort on b")
        check("host a" in findings(moving.scene, "b", "IVDS-R015")[0]["text"], "doctor does not say that it is prepared")
        # It is not in the network yet: the VM is reached at a, and what would come in at b goes nowhere.
        moving.works()
        check_equal([binding["host"] for binding in moving.bindings()], ["a"], "who has it")
        b.ip(f"link set {NAME} down")
        lab.wait(lambda: not moving.scene.ports("b")[NAME].get("up"), 10, "the port is still up")
        refused(moving.commit(check=False), "IVDS-R014")
        b.ip(f"link set {NAME} up")
        lab.wait(lambda: moving.scene.ports("b")[NAME].get("up"), 10, "the port is not up")
        moving.commit(more=("--dry-run",))
        moving.works()
        counted = json.loads(moving.export())["counters"]["rx_packets"]
        moving.commit(exported=moving.export())
        check_equal(moving.scene.counters("b", NAME)["rx_packets"], int(counted), "frames from the VM, as b has them")
        moving.went()
        for kind, name in (("vnic", f"{NAME}-nic"), ("profile", "guarded")):
            check_equal(b.ctl_json(kind, "get", name), a.ctl_json(kind, "get", name), f"{kind} on both hosts")
        done = b.ctl("migrate", "commit", NAME)
        check("from host a, generation 2" in done, done)
        refused(b.ctl("migrate", "abort", NAME, check=False), "IVDS-R012")
        refused(a.ctl("migrate", "export", NAME, check=False), "IVDS-R012")
        # a's vPort can be deleted, and not be had back.
        saved = a.ctl("export")
        a.ctl("vport", "delete", NAME)
        refused(a.ctl("vport", "create", NAME, "--instance", "red", "--netdev", NAME, "--vnic", f"{NAME}-nic",
                      check=False), "IVDS-R003")
        a.apply(saved)
        check_equal(moving.state("a"), ("moved", "b"), "a's vPort")
        # Back at a: what a counted of it before is in what b tells, and counts once.
        moving.vm.ip("link set to-b nomaster")
        moving.prepare()
        counted = json.loads(moving.export())["counters"]["rx_packets"]
        moving.commit(exported=moving.export())
        check_equal(moving.scene.counters("a", NAME)["rx_packets"], int(counted), "frames from the VM, as a has them")
        moving.commit(exported=json.dumps({**json.loads(exported), "host": "b"}))
        check_equal(moving.scene.counters("a", NAME)["rx_packets"], int(counted), "frames from the VM after a second commit")
        moving.went()


@case("prepare once more, by an interface that is not there, changes nothing; and abort brings back what prepare found: a vPort "
      "whose VM had been here, its vNIC and mirrors, over the agent's restart too [R164][R165]")
def _(bench):
    with bench.lab() as lab:
        moving = Moving(lab)
        a, b = moving.host("a"), moving.host("b")
        exported = moving.export()
        moving.prepare(exported)
        before = b.ctl("export")
        for more in ((), ("--dry-run",)):
            refused(b.ctl("migrate", "prepare", "-f", "-", "--netdev", "nonesuch", *more, check=False, stdin=exported),
                    "IVDS-P011")
            check_equal(b.ctl("export"), before, "b's objects after a second prepare that was refused")
        check_equal(moving.scene.ports("b")[NAME]["up"], True, "whether the prepared port is up")
        moving.commit()
        moving.went()
        # On a it is one that was here, on an interface that is another than the one it is to come back by.
        a.ctl("mirror", "create", "seen", "--to-vport", "blue-11", "--sources", f"vport={NAME}")
        before = a.ctl("export")
        with a.within():
            tap = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH", b"tap7", IFF_TAP | IFF_NO_PI))
        a.ip("link set tap7 up")
        for restarted in (False, True):
            exported = moving.export()
            for netdev in ("tap7", NAME):
                a.ctl("migrate", "prepare", "-f", "-", "--netdev", netdev, stdin=exported)
            check_equal(moving.state("a"), ("prepared", "b"), "the vPort on a")
            if restarted:
                a.stop_agent(signal.SIGKILL)
                moving.restart("a")
                lab.wait(lambda: says(moving.scene, "a", "synced"), 30, "a is not synced")
            said = a.ctl("migrate", "abort", NAME)
            check(f"update vport {NAME}" in said and "delete" not in said, said)
            check_equal(a.ctl("export"), before, f"a's objects after abort, restarted: {restarted}")
            check_equal(moving.state("a"), ("moved", "b"), "the vPort on a after abort")
            moving.settle("b")
            moving.works()
        refused(a.ctl("migrate", "abort", NAME, check=False), "IVDS-R012")
        os.close(tap)
        moving.home()


@case("connections and counters are at the new host before the VM is: they stay though its agent dies then [R161][R163][R164]")
def _(bench):
    with bench.lab() as lab:
        moving = Moving(lab)
        scene, vms = moving.scene, moving.scene.vms
        moving.prepare()
        server = vms["red-2"].start(sys.executable, TRANSFER, "serve", 7000, stdin=-1, stdout=-1)
        check_equal(server.stdout.readline().strip(), "ready", "red-2 listens")
        client = vms[NAME].start(sys.executable, TRANSFER, "fetch", vms["red-2"].address, 7000, stdout=-1)
        check_equal(client.stdout.readline().strip(), "connected", "the connection")
        exported = moving.export()
        check_equal(len(json.loads(exported)["flows"]), 1, "connections in what a exports")
        # etcd takes the call, and dies before it answers.
        moving.etcd.process.send_signal(signal.SIGSTOP)
        done = moving.commit(check=False, exported=exported)
        check_equal(done.returncode, 7, f"exit code without an answer of etcd's: {done.stderr}")
        moving.host("b").stop_agent(signal.SIGKILL)
        moving.etcd.stop()
        moving.etcd.start()
        moving.restart("b")
        for name in "abc":
            lab.wait(lambda name=name: says(scene, name, "synced"), 30, f"{name} is not synced")
        said = moving.commit()
        check("1 connections" in said, said)
        counted = int(json.loads(exported)["counters"]["rx_packets"])
        check(scene.counters("b", NAME)["rx_packets"] >= counted, "b counts less than a did")
        moving.plug("b")
        moving.settle()
        # What prepare brought is there over the agent's restart, for a commit that brings nothing.
        moving.prepare()
        moving.host("a").stop_agent(signal.SIGKILL)
        moving.restart("a")
        lab.wait(lambda: says(scene, "a", "synced"), 30, "a is not synced")
        said = moving.commit()
        check("1 connections;" in said, said)
        moving.plug("a")
        moving.settle()
        server.stdin.close()
        sent, got = server.stdout.readline().strip(), client.stdout.readline().strip()
        check_equal((server.wait(60), client.wait(60)), (0, 0), "exit codes of the two ends")
        check_equal(got, sent, "bytes and hash at the VM that moved")
        # Of one that is prepared by its configuration alone nothing is known, and the report says so.
        moving.prepare()
        config = moving.host("b").ctl("export")
        moving.abort()
        moving.host("b").apply(config)
        said = moving.host("b").ctl_json("migrate", "commit", NAME)
        check_equal((said["flows"], "host a exported is not known" in said["lost"]), (0, True), "a commit of nothing known")
        moving.plug("b")
        moving.settle()
        moving.works()


@case("the fabric has the VM at its new place before the VM says a word there: it is announced four times, with both tags [R166][R168]")
def _(bench):
    with bench.lab() as lab:
        moving = Moving(lab)
        moving.works()
        for target in "ba":
            check_equal(moving.learned(), f"port-{moving.at}", "where the fabric has the VM")
            wire = RawPort(moving.fabric, f"port-{target}")
            moving.prepare()
            check_equal(moving.learned(), f"port-{moving.at}", "where the fabric has the VM that is prepared elsewhere")
            # Nothing that the VM sends gets out where it is still plugged in, as its host withdraws.
            moving.commit()
            lab.wait(lambda target=target: moving.learned() == f"port-{target}", 10,
                     lambda: f"the fabric has the VM at {moving.learned()}")
            announced = (b"\xff" * 6 + raw(VMAC) + tag(VLANS[target]) + tag(10) + bytes.fromhex("8035 0001 0800 0604 0003")
                         + raw(VMAC) + bytes(4) + raw(VMAC) + bytes(4))
            frames = of_vm(wire.receive_until(lambda all_: len(of_vm(all_)) >= 4))
            wire.close()
            check_equal(sorted({data[:len(announced)] for data in frames}), [announced], "what was announced")
            check_equal(len(frames), 4, "announcements")
            moving.went()


def of_vm(frames):
    """Those that come from the VM."""
    return [data for data in frames if data[6:12] == raw(VMAC)]


class Monitor:
    """What `ip monitor` tells of the link of one interface."""

    def __init__(self, lab, place, netdev):
        self.lab, self.netdev, self.log = lab, netdev, tempfile.TemporaryFile("w+")
        self.process = place.start("ip", "-o", "monitor", "link", stdout=self.log)
        # It listens once it tells of a change; of one that is none to the link.
        lab.wait(lambda: place.ip(f"link set {netdev} alias watched") or self.carriers(), 10, "ip monitor is silent")

    def carriers(self):
        """Whether it had a carrier, change by change."""
        said = [line for line in written(self.log).splitlines() if f" {self.netdev}@" in line or f" {self.netdev}:" in line]
        return [has for has, _ in itertools.groupby("NO-CARRIER" not in line and "LOWER_UP" in line for line in said)]

    def stop(self):
        self.process.kill()
        self.process.wait(10)
        self.log.close()


@case("with --replug the VM sees its link drop and return, by a veth and by a tap; without it sees nothing; who cannot says so [R161][R166]")
def _(bench):
    with bench.lab() as lab:
        moving = Moving(lab)
        b, vm = moving.host("b"), moving.vm
        # The VM's end of the cable that is plugged in on b.
        link = Monitor(lab, vm, "to-b")
        moving.prepare()
        moving.commit()
        moving.went()
        check_equal(link.carriers(), [True], "the link's state without --replug")
        moving.home()
        moving.prepare()
        said = b.ctl_json("migrate", "commit", NAME, "--replug")
        check_equal(said["from_host"], "a", "from where it came")
        lab.wait(lambda: link.carriers() == [True, False, True], 10, lambda: f"the link went {link.carriers()}")
        link.stop()
        check_equal(moving.scene.ports("b")[NAME].get("up"), True, "whether the port is up")
        moving.went()
        # Once more is no new move, and leaves the link alone.
        b.ctl("migrate", "commit", NAME, "--replug")
        moving.home()
        b.ctl("vport", "delete", NAME)

        with b.within():
            tap = os.open("/dev/net/tun", os.O_RDWR)
            fcntl.ioctl(tap, TUNSETIFF, struct.pack("16sH", b"tap7", IFF_TAP | IFF_NO_PI))
        b.ip("link set tap7 up")
        b.ctl("migrate", "prepare", "-f", "-", "--netdev", "tap7", stdin=moving.export())
        lab.wait(lambda: moving.scene.ports("b")[NAME].get("up"), 10, "the port is not up")
        link = Monitor(lab, b, "tap7")
        b.ctl("migrate", "commit", NAME, "--replug")
        lab.wait(lambda: link.carriers() == [True, False, True], 10, lambda: f"the tap went {link.carriers()}")
        link.stop()
        moving.at = "b"
        moving.settle()
        moving.prepare()
        moving.commit()
        moving.at = "a"
        moving.settle()
        moving.works()
        b.ctl("vport", "delete", NAME)
        os.close(tap)

        # Its interface went down with the vPort that was deleted.
        b.ip(f"link set {NAME} up", f"link add vlan7 link {NAME} type macvlan mode passthru", "link set vlan7 up")
        b.ctl("migrate", "prepare", "-f", "-", "--netdev", "vlan7", stdin=moving.export())
        lab.wait(lambda: moving.scene.ports("b")[NAME].get("up"), 10, "the port is not up")
        refused(b.ctl("migrate", "commit", NAME, "--replug", check=False), "IVDS-N005")
        check_equal(moving.state("b"), ("prepared", "a"), "the vPort after that")
        moving.abort()
        moving.settle()
        moving.works()


@case("what is still sent to where a VM was goes on to it for some seconds, once each, and then no more [R154][R161]")
def _(bench):
    with bench.lab() as lab:
        moving = Moving(lab)
        a = moving.host("a")
        wire, into = RawPort(moving.fabric, "port-a"), moving.vm.port("eth0")
        label, stopping, sent = MARK + b"late ", threading.Event(), []
        numbers = lambda frames: [int(data[data.find(label) + len(label):].split(b" ")[0])  # noqa: E731
                                  for data in frames if label in data]

        def send():
            # From a station that nobody knows: nothing else comes from it, and the fabric learns it anew each time.
            while not stopping.is_set():
                wire.send(frame(VMAC, mac(77), label + b"%d " % len(sent), tag(VLANS["a"]) + tag(10)))
                sent.append(len(sent))
                time.sleep(0.002)
        sender = threading.Thread(target=send, daemon=True)
        sender.start()
        lab.wait(lambda: len(sent) > 20, 10, "no frame is sent")
        moving.prepare()
        moving.commit()
        moving.plug("b")
        # A drop alone would not say that it is over: between the entry and its mark one may fall.
        marks = lambda: [entry for entry in a.ctl_json_lines("fdb", "show") if entry.get("moved")]  # noqa: E731
        lab.wait(marks, 10, "nothing is marked as what is sent on")
        check_equal({(entry["mac"], entry["vlan"], entry["static"]) for entry in marks()} - {(VMAC, VLANS["b"], True)},
                    set(), "what fdb show tells of it")
        lab.wait(lambda: not marks(), 30, "the mark stays")
        dropped = lambda: moving.scene.drops("a").get(("uplink", "same_port"), 0)  # noqa: E731
        before = dropped()
        lab.wait(lambda: dropped() > before, 10, "what is late is sent on for ever")
        stopping.set()
        sender.join()
        time.sleep(0.1)
        back, arrived = [data for data in wire.receive() if label in data], numbers(into.receive())
        went_on = sorted(numbers(back))
        check_equal({data[12:20] for data in back}, {tag(VLANS["b"]) + tag(10 | DEI)}, "tags of what was sent on")
        check(went_on, "no frame went on")
        check_equal(went_on, list(range(went_on[0], went_on[-1] + 1)), "frames that went on, in a row and once each")
        check(went_on[-1] < sent[-1], "the last frame went on")
        check_equal(len(arrived), len(set(arrived)), "frames that arrived, and different ones of them")
        here = sorted(number for number in arrived if number >= went_on[0])
        check_equal(here, list(range(here[0], went_on[-1] + 1)), "frames that arrived where it is plugged in now")
        check(min(arrived) < went_on[0], "no frame arrived where it was before")
        print(f"{len(sent)} frames sent to the old place, {len(went_on)} went on, {len(here)} of them to the VM")
        for port in (wire, into):
            port.close()
        moving.settle()
        moving.works()


def client_dies_before_commit(moving):
    moving.prepare()
    moving.works()
    moving.abort()
    check_equal(moving.state("b"), None, "the vPort that was prepared")
    moving.settle("a")
    moving.works()
    moving.abort()  # once more is no error
    moving.prepare()
    moving.prepare()
    moving.commit()
    moving.went()


def client_dies_in_commit(moving):
    for delay_s in (0.0, 0.03, 0.05, 0.07):
        moving.prepare()
        client = moving.host(moving.other()).start("ivds-ctl", "migrate", "commit", NAME, stdout=-3, stderr=-3)
        time.sleep(delay_s)
        client.kill()
        client.wait(10)
        moving.commit()
        moving.went()


def target_dies_prepared(moving):
    moving.prepare()
    moving.host("b").stop_agent(signal.SIGKILL)
    moving.works()
    moving.restart("b")
    check_equal(moving.state("b"), ("prepared", "a"), "the vPort after the restart")
    moving.lab.wait(lambda: says(moving.scene, "b", "synced"), 30, "b is not synced")
    moving.commit()
    moving.went()


def target_dies_in_commit(moving):
    for delay_s in (0.02, 0.04, 0.05, 0.06, 0.08):
        target = moving.other()
        moving.prepare()
        client = moving.host(target).start("ivds-ctl", "migrate", "commit", NAME, stdout=-3, stderr=-3)
        time.sleep(delay_s)
        moving.host(target).stop_agent(signal.SIGKILL)
        client.wait(30)
        check(len(moving.bindings()) <= 1, f"owners: {moving.bindings()}")
        moving.restart(target)
        moving.lab.wait(lambda: says(moving.scene, target, "synced"), 30, f"{target} is not synced")
        moving.commit()
        moving.went()


def lease_ends_after_commit_in_doubt(moving):
    moving.prepare()
    moving.etcd.process.send_signal(signal.SIGSTOP)
    done = moving.host("b").ctl("migrate", "commit", NAME, check=False)
    # IVDS-R009 where the agent knew that it is away before it asked.
    check(done.returncode == 7 and re.search("IVDS-R00[19]", done.stderr), f"exit {done.returncode}: {done.stderr}")
    moving.host("b").stop_agent(signal.SIGKILL)
    # What was asked of it waits for it, and it may do it or not.
    moving.etcd.process.send_signal(signal.SIGCONT)
    moving.lab.wait(lambda: "b" not in [binding["host"] for binding in moving.bindings()], LEASE_S + 30, "b's lease does not end")
    moving.restart("b")
    moving.lab.wait(lambda: says(moving.scene, "b", "synced"), 30, "b is not synced")
    if not moving.bindings():
        finding = findings(moving.scene, "b", "IVDS-R015")[0]
        check(finding["severity"] == "warning" and "this host's" in finding["text"], f"doctor says {finding}")
    moving.commit()
    moving.went()


def target_gone_for_good(moving):
    moving.prepare()
    moving.host("b").stop_agent(signal.SIGKILL)
    time.sleep(LEASE_S + 2)
    check_equal([binding["host"] for binding in moving.bindings()], ["a"], "who has it")
    check_equal(moving.scene.ping(NAME, "red-2"), 3, "answers to the VM at a")
    moving.restart("b")
    moving.lab.wait(lambda: says(moving.scene, "b", "synced"), 30, "b is not synced")
    moving.abort()
    moving.settle("a")
    moving.works()


def source_dies_before_commit(moving):
    moving.prepare()
    moving.host("a").stop_agent(signal.SIGKILL)
    moving.commit()
    moving.plug("b")
    check_equal([binding["host"] for binding in moving.bindings()], ["b"], "who has it")
    moving.restart("a")
    moving.settle("b")
    moving.works()


def source_forgotten_before_commit(moving):
    moving.prepare()
    moving.host("a").stop_agent(signal.SIGKILL)
    moving.lab.wait(lambda: not moving.bindings(), 30, "the dead host's binding stays")
    moving.lab.wait(lambda: moving.way("b") is None, 30, "b still knows the dead host's vMAC")
    moving.commit()
    moving.plug("b")
    moving.restart("a")
    moving.settle("b")
    moving.works()


def etcd_gone_before_prepare(moving):
    moving.etcd.stop()
    moving.lab.wait(lambda: findings(moving.scene, "b", "IVDS-R001"), 30, "b does not say that etcd is away")
    refused(moving.prepare(check=False), "IVDS-R009")
    moving.works()
    moving.etcd.start()
    moving.settle("a")


def etcd_gone_before_commit(moving):
    moving.prepare()
    moving.etcd.stop()
    done = moving.commit(check=False)
    check(done.returncode == 7, f"exit {done.returncode}: {done.stderr}")
    moving.works()
    moving.lab.wait(lambda: findings(moving.scene, "b", "IVDS-R001"), 30, "b does not say that etcd is away")
    refused(moving.abort(check=False), "IVDS-R009")
    moving.etcd.start()
    moving.lab.wait(lambda: says(moving.scene, "b", "synced"), 30, "b is not synced")
    moving.commit()
    moving.went()


def etcd_dies_in_commit(moving):
    for delay_s in (0.03, 0.05, 0.06):
        target = moving.other()
        moving.prepare()
        client = moving.host(target).start("ivds-ctl", "migrate", "commit", NAME, stdout=-3, stderr=-3)
        time.sleep(delay_s)
        moving.etcd.stop()
        client.wait(60)
        moving.etcd.start()
        for name in "abc":
            moving.lab.wait(lambda name=name: says(moving.scene, name, "synced"), 30, f"{name} is not synced")
        moving.commit()
        moving.went()


def owner_changes_before_commit(moving):
    moving.prepare()
    key = f"/ivds/v1/bindings/100.10/{VMAC}"
    binding = json.loads(moving.etcd.keys(key)[key])
    binding["host"] = "machine"
    moving.etcd.ctl("put", key, json.dumps(binding))
    moving.lab.wait(lambda: findings(moving.scene, "a", "IVDS-R003"), 30, "a does not say that it lost the vMAC")
    refused(moving.commit(check=False), "IVDS-R012")
    moving.etcd.ctl("del", key)
    moving.abort()
    moving.settle("a")
    moving.works()


def home_from_c(moving):
    """The VM is at c as all hosts see it, and goes back to a."""
    c, vm = moving.host("c"), moving.vm
    moving.lab.wait(lambda: [moving.way(name) for name in "abc"] == [100, 100, 0], 30, "not all hosts send to c")
    check_equal(moving.scene.ping(NAME, "red-3"), 3, "answers to the VM at c")
    exported = moving.export("c")
    moving.host("a").ctl("migrate", "prepare", "-f", "-", "--netdev", NAME, stdin=exported)
    moving.host("a").ctl("migrate", "commit", NAME)
    vm.ip("link set to-c nomaster", "link set to-a master eth0")
    moving.lab.wait(lambda: moving.state("c") == ("moved", "a"), 30, lambda: f"c's vPort is {moving.state('c')}")
    c.ctl("vport", "delete", NAME)
    vm.ip("link del to-c")
    moving.settle("a")
    moving.works()


def source_hears_of_two_moves_at_once(moving):
    c, vm = moving.host("c"), moving.vm
    c.ip(f"link add {NAME} type veth peer name to-c netns {vm.pid}", f"link set {NAME} up")
    vm.ip("link set to-c up")
    moving.prepare()
    moving.host("a").stop_agent(signal.SIGKILL)
    moving.commit()
    exported = moving.export("b")
    c.ctl("migrate", "prepare", "-f", "-", "--netdev", NAME, stdin=exported)
    c.ctl("migrate", "commit", NAME)
    vm.ip("link set to-a nomaster", "link set to-c master eth0")
    moving.restart("a")
    moving.lab.wait(lambda: moving.state("a") == ("moved", "c"), 30, lambda: f"a's vPort is {moving.state('a')}")
    moving.lab.wait(lambda: moving.state("b") == ("moved", "c"), 30, lambda: f"b's vPort is {moving.state('b')}")
    check_equal([binding["host"] for binding in moving.bindings()], ["c"], "who has it")
    home_from_c(moving)


def networks_part_before_commit(moving):
    a, b = moving.host("a"), moving.host("b")
    exported = moving.export()
    moving.prepare(exported)
    # The host that it is to go to loses the other's VLAN.
    b.ctl("instance", "update", "red", "--peer-vlans", "300")
    refused(moving.commit(check=False, more=("--dry-run",)), "IVDS-R012")
    refused(moving.commit(check=False), "IVDS-R012")
    b.stop_agent(signal.SIGKILL)
    moving.restart("b")
    moving.lab.wait(lambda: says(moving.scene, "b", "synced"), 30, "b is not synced")
    refused(moving.commit(check=False), "IVDS-R012")  # it remembers a's VLANs, and sees no binding of a's
    b.ctl("instance", "update", "red", "--peer-vlans", "100")
    # Into another tenant's network it does not come either.
    b.ctl("vport", "update", NAME, "--instance", "blue")
    refused(moving.commit(check=False), "IVDS-R012")
    b.ctl("vport", "update", NAME, "--instance", "red")
    check_equal([binding["host"] for binding in moving.bindings()], ["a"], "who has it")
    moving.works()
    # The host that it comes from loses it, and tells with its export; or is not asked, and sees that its VM went.
    a.ctl("instance", "update", "red", "--peer-vlans", "300")
    refused(moving.commit(check=False, exported=moving.export()), "IVDS-R012")
    moving.prepare(exported)
    moving.commit()
    moving.lab.wait(lambda: moving.state("a") == ("moved", "b"), 30, lambda: f"a's vPort is {moving.state('a')}")
    check_equal([binding["host"] for binding in moving.bindings()], ["b"], "who has it")
    a.ctl("instance", "update", "red", "--peer-vlans", "200")
    moving.went()


def owner_lost_its_lease_before_commit(moving):
    """The VM went to c, whose binding ended with its lease, while b is prepared for it to come from a: b does not get it."""
    c, vm, place = moving.host("c"), moving.vm, moving.etcd.place
    c.ip(f"link add {NAME} type veth peer name to-c netns {vm.pid}", f"link set {NAME} up")
    vm.ip("link set to-c up")
    exported = moving.export("a")
    moving.prepare(exported)
    c.ctl("migrate", "prepare", "-f", "-", "--netdev", NAME, stdin=exported)
    c.ctl("migrate", "commit", NAME)
    vm.ip("link set to-a nomaster", "link set to-c master eth0")
    moving.lab.wait(lambda: moving.state("a") == ("moved", "c"), 30, lambda: f"a's vPort is {moving.state('a')}")
    moving.host("a").stop_agent(signal.SIGKILL)
    place.ip("link set mgmt-c down")
    moving.lab.wait(lambda: list(moving.etcd.keys("/ivds/v1/hosts/")) == ["/ivds/v1/hosts/b"], 30, "leases do not end")
    moving.lab.wait(lambda: moving.way("b") is None, 30, "b still knows c's vMAC")
    check_equal(moving.bindings(), [], "who has it")
    for more in (("--dry-run",), ()):
        refused(moving.commit(check=False, more=more), "IVDS-R012")
    # Nor once etcd had lost what it had, and c has said so anew.
    place.ip("link set mgmt-c up")
    moving.restart("a")
    moving.lab.wait(lambda: [each["host"] for each in moving.bindings()] == ["c"], 30, "c has its binding no more")
    moving.etcd.wipe()
    moving.etcd.start()
    owner = f"/ivds/v1/owners/100.10/{VMAC}"
    moving.lab.wait(lambda: json.loads(moving.etcd.keys(owner).get(owner, "{}")).get("host") == "c", 30, "c does not say it anew")
    moving.abort()
    home_from_c(moving)


FAULTS = [client_dies_before_commit, client_dies_in_commit, target_dies_prepared, target_dies_in_commit, lease_ends_after_commit_in_doubt,
          target_gone_for_good, source_dies_before_commit, source_forgotten_before_commit, etcd_gone_before_prepare,
          etcd_gone_before_commit, etcd_dies_in_commit, owner_changes_before_commit, source_hears_of_two_moves_at_once,
          networks_part_before_commit, owner_lost_its_lease_before_commit]


@case("whatever dies at whichever step, the VM has one host, and the next call completes the move or takes it back [R154][R164][R165]")
def _(bench):
    with bench.lab() as lab:
        moving = Moving(lab)
        for fault in FAULTS:
            begun = time.monotonic()
            fault(moving)
            moving.home()
            print(f"{fault.__name__}: {time.monotonic() - begun:.1f} s", flush=True)


main()
