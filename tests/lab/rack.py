# SPDX-License-Identifier: Apache-2.0
"""rack.py -- a host whose agent has an 82576 (driver igb) carry a part of the switch: VMs with VFs beside one with a
veth, a second NIC on the wire, and what has to pass between them."""
import contextlib
import time

from nics import WIRE, Here, Nic, Root, physical, wire_frames, wire_position
from harness import check, check_equal
from lab import RawPort, Vm
from scene import BROADCAST, frame, mac, tag

RED, BLUE = 10, 20
VMS = {"red-0": 0, "red-1": 1, "blue-2": 2}  # VF of each
SOFT = "red-4"
UPLINK = {"name": "up0", "netdev": "wire0", "tags": "single", "transport_vlan": 100, "offload": "on"}
CONFIG = {
    "uplinks": [UPLINK],
    "instances": [{"name": name, "uplink": "up0", "mode": "independent", "vvlan": vvlan, "scope": "distributed"}
                  for name, vvlan in (("red", RED), ("blue", BLUE))],
    "vnics": [{"name": name, "vmac": mac(int(name[-1]) + 1)} for name in (*VMS, SOFT)],
    "vports": [*({"name": name, "instance": name[:-2], "vnic": name, "vf": {"pf": "up0", "index": number}}
                 for name, number in VMS.items()),
               {"name": SOFT, "instance": "red", "vnic": SOFT, "netdev": SOFT}],
}


class Rack:
    """A host with a PF as its uplink, its VMs, and a second NIC on the wire."""

    def __init__(self, lab, options=(), prepare=lambda host: None, **uplink):
        """`uplink`: more of its fields; with `vfs` the agent makes the VFs. `options`: the agent's. `prepare` gets the
        host before the agent starts."""
        self.lab, self.number, self.vms, self.ports, self.options = lab, 0, {}, {}, options
        self.pf, self.far = physical(2)
        self.uplink = {**UPLINK, **uplink}
        Root.ip(f"link set {self.pf.netdev()} up", f"link set {self.far.netdev()} up promisc on")
        self.host = lab.host("a")
        if "vfs" not in uplink:
            (self.pf.device / "sriov_numvfs").write_text(str(len(VMS)))
        self.give()
        prepare(self.host)
        self.host.start_agent(*options)
        self.soft = lab.vm(self.host, SOFT, mac(5), address="10.0.0.4")
        self.apply()
        self.wait_until_carried()
        self.plug()

    def give(self):
        """Gives the host the PF's interface, with room for a tag beside full frames, and sets it up."""
        self.pf.give(self.host, "wire0")
        self.host.ip("link set wire0 mtu 1508 up")

    def config(self, **uplink):
        return {**CONFIG, "uplinks": [{**self.uplink, **uplink}]}

    def apply(self, **uplink):
        self.host.apply(self.config(**uplink))

    def wait_until_carried(self):
        self.lab.wait(lambda: all(self.where().get(name) == ("hw", "fits") for name in VMS), 60,
                      lambda: f"the NIC does not carry its VFs: {self.nic()}")

    def nic(self):
        return self.host.ctl_json("offload", "show")["nics"][0]

    def wait_for_nic(self, state):
        self.lab.wait(lambda: self.nic()["state"] == state, 60, lambda: f"the NIC is not {state}: {self.nic()}")

    def where(self):
        return {at["name"]: (at["where"], at["reason"]) for at in self.nic().get("objects", ())
                if at["kind"] == "vport"}

    def vf(self, name):
        return Nic((self.pf.device / f"virtfn{VMS[name]}").resolve().name)

    def plug(self):
        """Gives each VM its VF, whose driver takes its address when it starts."""
        for name, number in VMS.items():
            nic = self.vf(name)
            nic.restart()
            if name not in self.vms:
                vm = self.vms[name] = Vm(self.lab, name, name, mac(number + 1))
                self.lab.places.append(vm)
                vm.up()
            vm = self.vms[name]
            nic.give(vm, "eth0")
            vm.ip("link set eth0 up")
            vm.set_address(f"10.0.0.{number + 10}")
        self.vms[SOFT] = self.soft
        self.wait_until_it_works()

    def ping(self, one, other):
        return self.vms[one].run("ping", "-qc1", "-W1", self.vms[other].address, check=False).returncode == 0

    def wait_until_it_works(self):
        pairs = (("red-0", "red-1"), ("red-0", SOFT), (SOFT, "red-1"))
        self.lab.wait(lambda: all(self.ping(*pair) for pair in pairs), 90,
                      lambda: f"red's VMs do not reach each other: {self.nic()} {self.host.agent_said()}")
        for port in self.ports.values():
            port.close()
        self.ports = {name: vm.port("eth0") for name, vm in self.vms.items()}
        self.ports["far"] = RawPort(Here, self.far.netdev())

    def send(self, sender, destination, tags=b"", source=None):
        """Who got the frame: {name: the bytes between its addresses and its type}."""
        self.number += 1
        mark = b"ivds-mark %d." % self.number
        source = source or (self.vms[sender].mac if sender in self.vms else mac(0x7777))
        self.ports[sender].send(frame(destination, source, mark, tags=tags))
        got = {}
        end = time.monotonic() + 0.4
        while time.monotonic() < end:
            for name, port in self.ports.items():
                for data in port.receive():
                    if mark in data and name != sender:  # the emulated NIC gives a VF its own broadcasts back
                        check(name not in got, f"{name} got a frame twice")
                        got[name] = data[12:data.index(mark) - 2]
            time.sleep(0.01)
        return got

    def uplink_packets(self):
        ports = {port["name"]: port["counters"] for port in self.host.ctl_json("status")["ports"]}
        return [ports["up0"]["rx_packets"], ports["up0"]["tx_packets"]]

    def close(self):
        for port in self.ports.values():
            port.close()


@contextlib.contextmanager
def rack(bench, *arguments, **fields):
    with bench.lab() as lab:
        made = Rack(lab, *arguments, **fields)
        try:
            yield made
        finally:
            made.close()


def check_paths(made):
    red, blue = tag(RED), tag(BLUE)

    def by_the_nic_alone():
        before = made.uplink_packets()
        for _ in range(5):
            check_equal(made.send("red-0", made.vms["red-1"].mac), {"red-1": b""}, "VF to VF")
        return made.uplink_packets() == before
    # A VM may have something of its own to say to software's meanwhile.
    made.lab.wait(by_the_nic_alone, 30, "software sees frames from VF to VF")
    check_equal(made.send("red-0", made.soft.mac), {SOFT: b""}, "a VF to a vPort of software's")
    check_equal(made.send(SOFT, made.vms["red-0"].mac), {"red-0": b""}, "and back")
    check_equal(made.send("far", made.vms["red-0"].mac, red), {"red-0": b""}, "the wire to a VF")
    check_equal(made.send("far", made.soft.mac, red), {SOFT: b""}, "the wire to software's")
    check_equal(made.send("red-0", BROADCAST), {"red-1": b"", SOFT: b"", "far": red}, "a VF to all")
    check_equal(made.send(SOFT, BROADCAST), {"red-0": b"", "red-1": b"", "far": red}, "software's to all")
    check_equal(made.send("far", BROADCAST, red), {"red-0": b"", "red-1": b"", SOFT: b""}, "the wire to all of red")
    # Between instances: nothing, whatever is tried.
    for destination in (made.vms["red-0"].mac, made.soft.mac, BROADCAST):
        for tags in (b"", red, blue + red):
            got = set(made.send("blue-2", destination, tags))
            check(not got & {"red-0", "red-1", SOFT}, f"blue-2 to {destination} with tags {tags.hex()}: {got}")
    got = set(made.send("far", made.vms["red-0"].mac, blue))
    check(not got & {"red-0", "red-1", SOFT}, f"the wire to red-0 with blue's tag: {got}")
    for sender, vvlan in (("red-1", RED), (SOFT, RED), ("blue-2", BLUE)):
        position = wire_position()
        got = made.send(sender, mac(0x6666)).get("far")
        check_equal(got, tag(vvlan), f"what the far NIC gets from {sender} to an address that nobody here has")
        if not WIRE.exists():
            continue  # on hardware nobody but the far NIC sees the wire
        sent = frame(mac(0x6666), made.vms[sender].mac, b"ivds-mark %d." % made.number)
        check_equal([data for data in wire_frames(position) if b"ivds-mark" in data],
                    [sent[:12] + tag(vvlan) + sent[12:]], f"of {sender} on the wire")
