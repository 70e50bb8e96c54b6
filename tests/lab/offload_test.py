# SPDX-License-Identifier: Apache-2.0
"""offload_test.py -- plans carried out on a NIC (82576, driver igb), and what its switch then does with frames; VMs are
namespaces with a VF each, software is a raw socket on the PF, and no data plane runs. scripts/lab.sh boots it."""
import contextlib
import json
import os
import pathlib
import struct
import subprocess
import time

import nics  # noqa: F401  pylint: disable=unused-import
from harness import case, check, check_equal, main
from lab import LabError, RawPort, Vm
from nics import PCI, Here, Nic, Root, physical, wire_frames, wire_position
from scene import BROADCAST, frame, mac, tag

RED, BLUE = 10, 20
VMS = {"red-0": 0, "red-1": 1, "blue-2": 2, "blue-3": 3}  # VF of each
PEERS = {"red-0": "red-1", "red-1": "red-0", "blue-2": "blue-3", "blue-3": "blue-2", "pf": "red-0", "far": "red-0"}
SOFTWARE = mac(0x5001)  # an address of red behind the PF
SWITCH = "\n".join([f"instance 1 {RED}", f"instance 2 {BLUE}", f"software 20 1 {SOFTWARE}",
                    *(f"vf {10 + vf} {1 if name.startswith('red') else 2} {vf} {mac(vf + 1)} {'100 5' if vf == 3 else ''}"
                      for name, vf in VMS.items())])
VLVF, CTRL_EXT, VET, DTXSWC = 0x5D00, 0x18, 0x38, 0x3500
AFTER_RESET = "unknown addresses no more to the PF"


class Bed:
    """A PF with VFs in VMs, a second NIC on its wire, and sockets on all of them."""

    def __init__(self, bench, lab):
        self.lab, self.program = lab, bench.binaries / "nic-plan"
        self.pf, self.far = physical(2)
        for scope in (self.pf.netdev(), self.far.netdev()):  # nothing is sent but what a case sends
            pathlib.Path(f"/proc/sys/net/ipv6/conf/{scope}/disable_ipv6").write_text("1")
        Root.ip(f"link set {self.pf.netdev()} up", f"link set {self.far.netdev()} up promisc on")
        lab.wait(lambda: self.carrier(self.pf) and self.carrier(self.far), 30, "no carrier")
        self.vms, self.ports, self.number = {}, {}, 0

    @staticmethod
    def carrier(nic):
        return (nic.device / "net" / nic.netdev() / "carrier").read_text() == "1\n"

    def plan(self, *words, stdin=""):
        done = subprocess.run([self.program, self.pf.address, *map(str, words)], input=stdin, capture_output=True,
                              text=True, check=False)
        if done.returncode != 0:
            raise LabError(f"nic-plan {' '.join(map(str, words))}: {done.returncode} {done.stdout}{done.stderr}")
        return json.loads(done.stdout) if done.stdout else None

    def make_vfs(self):
        """This resets the NIC, and the driver takes no rate for a VF while the link is down."""
        self.plan("vfs", 4)
        self.lab.wait(lambda: self.carrier(self.pf), 30, "no carrier with VFs")

    def apply(self):
        """The plan of SWITCH; returns the steps that it took. Then the NIC holds what it wants, and no step is left."""
        told = self.plan("apply", stdin=SWITCH)
        check_equal(told["state"], told["wanted"], "what the NIC holds")
        check_equal(told["left"], [], "steps that are left")
        return told["steps"]

    def check_only_modes(self, when):
        """No more is to be mended than what the driver writes whenever a VF resets."""
        steps = self.apply()
        check(set(steps) <= {AFTER_RESET}, f"steps when {when}: {steps}")

    def vf(self, number):
        return Nic((self.pf.device / f"virtfn{number}").resolve().name)

    def plug(self):
        """Gives each VM its VF. The VF's driver takes its address when it starts."""
        for name, number in VMS.items():
            nic = self.vf(number)
            nic.restart()
            vm = self.vms[name] = self.vms.get(name) or self.new_vm(name, number)
            nic.give(vm, "eth0")
            vm.ip("link set eth0 up")
            check_equal(json.loads(vm.run("ip", "-j", "link", "show", "eth0").stdout)[0]["address"], vm.mac,
                        f"the address that {name} finds")
        self.wait_for_carriers()
        self.open()

    def new_vm(self, name, number):
        vm = Vm(self.lab, name, name, mac(number + 1))
        self.lab.places.append(vm)
        vm.up()
        return vm

    def wait_for_carriers(self):
        self.lab.wait(lambda: all(vm.run("cat", "/sys/class/net/eth0/carrier", check=False).stdout == "1\n"
                                  for vm in self.vms.values()), 40, "a VF has no carrier")

    def open(self):
        for port in self.ports.values():
            port.close()
        self.ports = {name: vm.port("eth0") for name, vm in self.vms.items()}
        self.ports["pf"], self.ports["far"] = RawPort(Here, self.pf.netdev()), RawPort(Here, self.far.netdev())

    def send(self, sender, destination, source=None, tags=b"", witness=True):
        """Who got the frame, and what it had there between its addresses and its type: {name: bytes}. A second frame
        after it goes where frames are known to arrive; once it has, what the first one could do is done."""
        self.number += 1
        marks = [b"ivds-mark %d." % self.number, b"ivds-after %d." % self.number]
        source = source or (self.vms[sender].mac if sender in self.vms else mac(0x7777))
        self.ports[sender].send(frame(destination, source, marks[0], tags=tags))
        to = PEERS[sender]
        got = {}

        def arrived():
            seen = False
            for name, port in self.ports.items():
                for data in port.receive():
                    if marks[0] in data and name != sender:
                        check(name not in got, f"{name} got a frame twice")
                        got[name] = data[12:data.index(marks[0]) - 2]
                    seen = seen or name == to and marks[1] in data
            return seen
        if witness:
            tagged = b"" if sender in self.vms else tag(RED)
            self.ports[sender].send(frame(self.vms[to].mac, source, marks[1], tags=tagged))
            self.lab.wait(arrived, 20, f"nothing arrives from {sender} at {to}")
        time.sleep(0.02 if witness else 0.3)
        arrived()
        return got

    def reaches(self, sender, receiver):
        return receiver in self.send(sender, self.vms[receiver].mac, witness=False)

    def wait_until_all_reach(self):
        self.lab.wait(lambda: all(self.reaches(*pair) for pair in (("red-0", "red-1"), ("red-1", "red-0"),
                                                                  ("blue-2", "blue-3"))), 40, "VMs do not reach each other")

    def counters(self):
        """(frames received and sent by VMs' VFs as the NIC counts them, those of the PF's interface)."""
        folder = self.pf.device / "net" / self.pf.netdev() / "statistics"
        return (self.plan("counters")[:4], [int((folder / f"{way}_packets").read_text()) for way in ("rx", "tx")])

    def close(self):
        for port in self.ports.values():
            port.close()


@contextlib.contextmanager
def bed(bench):
    with bench.lab() as lab:
        made = Bed(bench, lab)
        made.make_vfs()
        try:
            yield made
        finally:
            made.close()


def check_switch(made):
    """What the NIC's switch does, frame by frame."""
    red, blue = tag(RED), tag(BLUE)
    # Within an instance, by the NIC alone.
    (before, pf_before), position = made.counters(), wire_position()
    for _ in range(5):
        check_equal(made.send("red-0", made.vms["red-1"].mac), {"red-1": b""}, "red-0 to red-1")
    after, pf_after = made.counters()
    check_equal([after[0][1] - before[0][1], after[1][0] - before[1][0]], [10, 10], "frames that the NIC counted")
    check_equal(pf_after, pf_before, "frames that the PF's interface counted")
    check_equal([data for data in wire_frames(position) if b"ivds-mark" in data], [], "frames that left for the wire")
    # Between instances, known, forged and to all.
    check_equal(made.send("red-0", made.vms["blue-2"].mac), {}, "red-0 to blue-2's address")
    for tags in (blue, red, blue + red):
        got = made.send("red-0", made.vms["blue-2"].mac, tags=tags)
        check(not {"blue-2", "blue-3"} & set(got), f"red-0 to blue-2 with tags {tags.hex()}: {got}")
    got = made.send("red-0", BROADCAST)
    check_equal(got, {"red-1": b"", "pf": red, "far": red}, "red-0 to all")
    check_equal(made.send("blue-2", BROADCAST), {"blue-3": b"", "far": blue}, "blue-2 to all: no software is in blue")
    # Software behind the PF, both ways.
    check_equal(made.send("red-0", SOFTWARE), {"pf": red}, "red-0 to software")
    check_equal(made.send("pf", made.vms["red-0"].mac, SOFTWARE, red), {"red-0": b""}, "software to red-0")
    check_equal(made.send("blue-2", SOFTWARE), {}, "blue-2 to software's address, which is in red")
    check_equal(made.send("pf", made.vms["blue-2"].mac, SOFTWARE, red), {}, "software of red to blue-2")
    # The wire, with one tag.
    check_equal(made.send("far", made.vms["red-0"].mac, tags=red), {"red-0": b""}, "the wire to red-0")
    got = made.send("far", made.vms["red-0"].mac, tags=blue)
    check_equal(got, {"pf": blue}, "the wire to red-0 with blue's tag: the default pool's, which is software's")
    check_equal(made.send("far", made.vms["red-0"].mac, tags=tag(30)), {}, "the wire with a V.VLAN that is not ours")
    check_equal(made.send("far", made.vms["red-0"].mac, tags=tag(100) + red), {}, "the wire with two tags")
    for sender, tci in (("red-0", RED), ("blue-3", 5 << 13 | BLUE)):
        position = wire_position()
        check("far" in made.send(sender, mac(0x6666)), f"{sender} to an address that nobody here has")
        sent = frame(mac(0x6666), made.vms[sender].mac, b"ivds-mark %d." % made.number)
        check_equal([data for data in wire_frames(position) if b"ivds-mark" in data], [sent[:12] + tag(tci) + sent[12:]],
                    "on the wire")


@case("a plan is carried out on an igb NIC: what it holds reads back as planned, VFs reach each other by the NIC alone, "
      "instances are apart, and software and the wire see each V.VLAN's tag [R34][R36][R94][R106][R111][R113][R175]")
def _(bench):
    with bed(bench) as made:
        shown = made.plan("show")
        print("as found:", shown["pf"]["chip"], shown["pf"]["driver"], [vf["driver"] for vf in shown["pf"]["vfs"]],
              shown["error"])
        steps = made.apply()
        print(len(steps), "steps")
        # The driver tells it as well.
        told = json.loads(subprocess.run(["ip", "-j", "link", "show", made.pf.netdev()], capture_output=True, text=True,
                                         check=True).stdout)[0]["vfinfo_list"][3]
        check_equal([told["address"], told["vlan_list"][0]["vlan"], told["vlan_list"][0]["qos"], told["spoofchk"],
                     told["rate"]["max_tx"]], [mac(4), BLUE, 5, True, 100], "what the driver has of VF 3")
        check_equal(made.apply(), [], "steps of a second plan")
        made.plug()
        # A VF that starts is a VF that resets: the driver remembers what the plan says, the PF's own modes aside.
        made.check_only_modes("the VFs have started")
        made.wait_until_all_reach()
        check_switch(made)
        cleared = made.plan("clear")
        check_equal(cleared, {"pools": {}, "uplinks": [], "macs": {}, "vlans": {}, "admitted": [], "unknown_to_pf": False}, "cleared")
        check_equal(made.send("red-0", made.vms["red-1"].mac, witness=False), {}, "red-0 to red-1 once the NIC is cleared")
        check(len(made.apply()) > 0, "nothing was to be done on a NIC that is cleared")
        made.wait_until_all_reach()


@case("what others do to the NIC is found and mended: registers, VF settings, a VF's driver, the interface, the number of "
      "VFs")
def _(bench):
    with bed(bench) as made:
        made.apply()
        made.plug()
        made.wait_until_all_reach()
        netdev = made.pf.netdev()

        def mended(what):
            steps = made.apply()
            print(f"{what}: {len(steps)} steps: {steps[:6]}")
            check(steps, f"{what}: not found")

        made.check_only_modes("the VFs have started")
        # One flipped bit that lets blue's VF into red, and one that keeps red's out.
        slot = next(i for i in range(1, 32) if (made.plan("peek", VLVF + 4 * i) & 0x80000FFF) == 0x80000000 | RED)
        value = made.plan("peek", VLVF + 4 * slot)
        for bit in (1 << 14, 1 << 12):
            made.plan("poke", VLVF + 4 * slot, value ^ bit)
            mended(f"VLVF bit {bit:#x}")
        Root.ip(f"link set {netdev} vf 0 vlan {BLUE}")
        mended("another VLAN for a VF")
        Root.ip(f"link set {netdev} vf 1 spoofchk off")
        mended("spoof check off")
        check_switch(made)
        # A VM that restarts.
        nic = made.vf(1)
        (PCI / "drivers/igbvf/unbind").write_text(nic.address)
        made.check_only_modes("a VF has no driver")
        (PCI / "drivers/igbvf/bind").write_text(nic.address)
        nic.give(made.vms["red-1"], "eth0")
        made.vms["red-1"].ip("link set eth0 up")
        made.wait_for_carriers()
        made.open()
        made.check_only_modes("the VF has its driver again")
        made.wait_until_all_reach()
        # The PF's interface.
        Root.ip(f"link set {netdev} down")
        Root.ip(f"link set {netdev} up")
        made.lab.wait(lambda: made.carrier(made.pf), 30, "no carrier")
        mended("the interface went down and up")
        made.wait_for_carriers()
        made.open()  # the sockets on it have an error to tell
        made.wait_until_all_reach()
        made.check_only_modes("all is mended")
        # Somebody else takes the VFs away and makes new ones.
        made.pf.no_virtual_functions()
        made.make_vfs()
        mended("new VFs")
        made.plug()
        made.wait_until_all_reach()
        check_switch(made)


DOUBLE = "\n".join(["tags 2 0x88a8", "uplink 2 0", "uplink 3 1", f"network 1 2 100 {RED}", f"network 2 3 200 {BLUE}",
                    f"network 3 1 300 {BLUE}", "network 4 1 400 30"])


def stag(vid):
    return struct.pack(">HH", 0x88A8, vid)


@case("with two tags the NIC sorts the wire's frames by the inner one to VFs of the host's, which get both tags, and what "
      "they send goes to the wire alone; registers read back as planned, and what resets take away comes back "
      "[R94][R106][R113]")
def _(bench):
    with bed(bench) as made:
        for number, name in enumerate(("red-0", "red-1")):  # of the host's, in namespaces of their own
            vm = made.vms[name] = made.new_vm(name, number)
            made.vf(number).give(vm, "eth0")
            vm.ip("link set eth0 up")
        made.wait_for_carriers()
        os.system(f"ethtool -K {made.pf.netdev()} rxvlan off >/dev/null")  # as the loader has it on an uplink

        def apply():
            return made.plan("apply", stdin=DOUBLE)

        def applied():
            """What was done and holds; a driver's reset, some time after a change of the link, may have come in between."""
            told = apply()
            return told if told["state"] == told["wanted"] and not told["left"] else None
        told = made.lab.wait(applied, 60, lambda: f"the NIC holds {apply()}")
        check_equal(told["state"], {"pools": {}, "uplinks": [0, 1], "macs": {},
                                    "vlans": {"10": 0b1, "20": 0b10010}, "admitted": [10, 20, 30],
                                    "unknown_to_pf": True}, "the state")
        check_equal([made.plan("peek", VET), made.plan("peek", CTRL_EXT) >> 26 & 1, made.plan("peek", DTXSWC) >> 31],
                    [0x88A88100, 1, 0], "VET, EXTENDED_VLAN and loop back")
        made.open()

        def send(sender, destination, tags, source=mac(0x7777)):
            return made.send(sender, destination, source, tags, witness=False)

        red, blue, other = stag(100) + tag(RED), stag(200) + tag(BLUE), stag(300) + tag(BLUE)

        def settle():
            """A VF's driver starts the VF anew some time after a change of the link, and that takes things away."""
            def settled():
                told = applied()
                return told and not told["steps"]
            made.lab.wait(lambda: settled() and "red-0" in send("far", BROADCAST, red) and
                          "red-1" in send("far", BROADCAST, blue), 60, lambda: f"the VFs get nothing: {apply()}")

        def check_sorting():
            for destination in (BROADCAST, mac(0x4444)):  # to all, and to an address that the NIC never saw
                check_equal(send("far", destination, red), {"red-0": red}, "the wire with red's tags")
            # Blue's V.VLAN is also a network of the PF's, in another VLAN: both get it, with the outer tag that tells.
            check_equal(send("far", BROADCAST, blue), {"red-1": blue, "pf": blue}, "the wire with blue's tags")
            check_equal(send("far", BROADCAST, other), {"red-1": other, "pf": other}, "… of the other VLAN")
            # The PF's own, no V.VLAN of ours, no V.VLAN at all, and the host's.
            check_equal(send("far", mac(0x4444), stag(400) + tag(30)), {"pf": stag(400) + tag(30)}, "the PF's network")
            check_equal(send("far", mac(0x4444), stag(100) + tag(40)), {}, "a V.VLAN that is not ours")
            check_equal(send("far", mac(0x4444), stag(100)), {"pf": stag(100)}, "the outer tag alone")
            check_equal(send("far", mac(0x4444), b""), {"pf": b""}, "no tag")
            # To the wire as it is sent, and to nobody else on the NIC: not to the same V.VLAN's, nor to all.
            for sender, tags in (("red-0", red), ("red-1", blue), ("pf", other), ("pf", b"")):
                for destination in (BROADCAST, made.vms["red-0"].mac, mac(0x4444)):
                    position = wire_position()
                    got = send(sender, destination, tags)
                    check_equal(got, {"far": tags}, f"{sender} to {destination}")
                    sent = frame(destination, mac(0x7777), b"ivds-mark %d." % made.number, tags=tags)
                    check_equal([data for data in wire_frames(position) if b"ivds-mark" in data], [sent], "on the wire")
        settle()
        check_sorting()
        # A VF that its driver starts anew, and a NIC that its driver resets.
        made.vms["red-1"].ip("link set eth0 down")
        made.vms["red-1"].ip("link set eth0 up")
        made.wait_for_carriers()
        check(apply()["steps"], "nothing was to be mended after a VF's reset")
        Root.ip(f"link set {made.pf.netdev()} down")
        Root.ip(f"link set {made.pf.netdev()} up")
        made.lab.wait(lambda: made.carrier(made.pf), 30, "no carrier")
        made.wait_for_carriers()
        made.open()
        settle()
        check_sorting()
        made.plan("clear", "0x88a8")
        check_equal(send("far", BROADCAST, stag(100) + tag(RED)), {}, "red's once the NIC is cleared")
        # Also what clearing took from the PF comes back.
        settle()
        check_sorting()


main()
