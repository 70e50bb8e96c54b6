# SPDX-License-Identifier: Apache-2.0
"""nic_test.py -- the whole switch on a NIC that carries a part of it: the agent's plans on an 82576 (driver igb), VMs
with VFs beside one with a veth, and what passes between them and the wire. scripts/lab.sh boots it."""
import contextlib
import json
import signal
import time

from nics import Here, Nic, Root, physical, wire_frames, wire_position
from harness import case, check, check_equal, main
from lab import RawPort, Vm
from scene import BROADCAST, frame, mac, tag

RED, BLUE = 10, 20
VMS = {"red-0": 0, "red-1": 1, "blue-2": 2}  # VF of each
SOFT = "red-4"
CONFIG = {
    "uplinks": [{"name": "up0", "netdev": "wire0", "tags": "single", "transport_vlan": 100, "offload": "on"}],
    "instances": [{"name": name, "uplink": "up0", "mode": "independent", "vvlan": vvlan, "scope": "distributed"}
                  for name, vvlan in (("red", RED), ("blue", BLUE))],
    "vnics": [{"name": name, "vmac": mac(int(name[-1]) + 1)} for name in (*VMS, SOFT)],
    "vports": [*({"name": name, "instance": name[:-2], "vnic": name, "vf": {"pf": "up0", "index": number}}
                 for name, number in VMS.items()),
               {"name": SOFT, "instance": "red", "vnic": SOFT, "netdev": SOFT}],
}


class Rack:
    """A host with a PF as its uplink, its VMs, and a second NIC on the wire."""

    def __init__(self, lab):
        self.lab, self.number, self.vms, self.ports = lab, 0, {}, {}
        self.pf, self.far = physical(2)
        Root.ip(f"link set {self.pf.netdev()} up", f"link set {self.far.netdev()} up promisc on")
        self.host = lab.host("a")
        self.make_vfs()
        self.host.start_agent()
        self.soft = lab.vm(self.host, SOFT, mac(5), address="10.0.0.4")
        self.host.apply(CONFIG)
        self.wait_for_nic("on")
        self.plug()

    def make_vfs(self):
        (self.pf.device / "sriov_numvfs").write_text(str(len(VMS)))
        self.pf.give(self.host, "wire0")
        self.host.ip("link set wire0 up")

    def nic(self):
        return self.host.ctl_json("offload", "show")["nics"][0]

    def wait_for_nic(self, state):
        self.lab.wait(lambda: self.nic()["state"] == state, 60, f"the NIC is not {state}: {self.nic()}")

    def where(self):
        return {at["name"]: (at["where"], at["reason"]) for at in self.nic()["objects"] if at["kind"] == "vport"}

    def plug(self):
        """Gives each VM its VF, whose driver takes its address when it starts."""
        for name, number in VMS.items():
            nic = Nic((self.pf.device / f"virtfn{number}").resolve().name)
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
                      f"red's VMs do not reach each other: {self.nic()} {self.host.agent_said()}")
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
def rack(bench):
    with bench.lab() as lab:
        made = Rack(lab)
        try:
            yield made
        finally:
            made.close()


def check_paths(made):
    red, blue = tag(RED), tag(BLUE)
    before = made.uplink_packets()
    for _ in range(5):
        check_equal(made.send("red-0", made.vms["red-1"].mac), {"red-1": b""}, "VF to VF")
    check_equal(made.uplink_packets(), before, "frames that software saw of those from VF to VF")
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
        made.send(sender, mac(0x6666))
        sent = frame(mac(0x6666), made.vms[sender].mac, b"ivds-mark %d." % made.number)
        check_equal([data for data in wire_frames(position) if b"ivds-mark" in data],
                    [sent[:12] + tag(vvlan) + sent[12:]], f"of {sender} on the wire")


@case("the agent has the NIC carry its VFs: VF to VF by the NIC alone, to and from software's vPorts and the wire with "
      "one tag, instances apart; and it survives the agent, and what others do to the NIC "
      "[R9][R94][R98][R106][R110][R111][R113]")
def _(bench):
    with rack(bench) as made:
        check_equal(made.where(), {**{name: ("hw", "fits") for name in VMS}, SOFT: ("sw", "not_a_vf")}, "placement")
        check_paths(made)
        # No process is needed to forward.
        made.host.stop_agent(signal.SIGKILL)
        check_paths_without_agent(made)
        made.host.ip(f"link set wire0 vf 1 vlan {BLUE}")
        made.host.start_agent()
        made.wait_for_nic("on")
        made.lab.wait(lambda: made.ping("red-0", "red-1"), 60, "red-1 is not back in red")
        # Somebody else, with the agent looking.
        made.host.ip("link set wire0 vf 0 spoofchk off")
        made.lab.wait(lambda: made.nic()["drifts"] > 0, 30, "nothing was found")
        told = json.loads(made.host.run("ip", "-j", "link", "show", "wire0").stdout)[0]["vfinfo_list"][0]
        check_equal(told["spoofchk"], True, "spoof check of VF 0")
        check("NIC" in made.host.ctl("events"), "no event tells of it")
        made.wait_until_it_works()
        check_paths(made)
        # What the NIC cannot do: the VF is off, and says why; and what is required is refused.
        made.host.ctl("rule", "add", "vport", "red-1", "--name", "no-udp", "--protocol", "udp", "--action", "drop")
        check_equal(made.where()["red-1"], ("sw", "rules"), "a VF with a rule")
        check(not made.ping("red-0", "red-1"), "red-1 is reached though the NIC cannot hold its rule")
        made.host.ctl("rule", "remove", "vport", "red-1", "no-udp")
        made.lab.wait(lambda: made.ping("red-0", "red-1"), 60, "red-1 does not come back")
        made.host.ctl("vport", "update", "red-1", "--offload", "require")
        refused = made.host.ctl("rule", "add", "vport", "red-1", "--name", "no-udp", "--protocol", "udp", "--action",
                                "drop", check=False)
        check(refused.returncode != 0 and "IVDS-O004" in refused.stderr, f"not refused: {refused}")
        check(made.ping("red-0", "red-1"), "a refused change took something down")


def check_paths_without_agent(made):
    check_equal(made.send("red-0", made.vms["red-1"].mac), {"red-1": b""}, "VF to VF without an agent")
    check_equal(made.send("red-0", made.soft.mac), {SOFT: b""}, "a VF to software's without an agent")
    check_equal(made.send(SOFT, made.vms["red-0"].mac), {"red-0": b""}, "and back without an agent")


@case("VFs that go and come are told, and carried again [R9]")
def _(bench):
    with rack(bench) as made:
        address = made.pf.address
        netdev_back = f"{address} is not back"
        made.host.ip("link set wire0 down")
        (made.pf.device / "sriov_numvfs").write_text("0")
        made.wait_for_nic("failed")
        (made.pf.device / "sriov_numvfs").write_text(str(len(VMS)))
        made.host.ip("link set wire0 up")
        made.lab.wait(lambda: made.where().get("red-0") == ("hw", "fits"), 60, netdev_back)
        made.plug()
        check_paths(made)


SORTED = {
    "uplinks": [{"name": "up0", "netdev": "wire0", "outer_tpid": "0x88a8", "offload": "on"},
                {"name": "red-up", "netdev": "wire0v0", "outer_tpid": "0x88a8", "vf": {"pf": "up0", "index": 0}}],
    "instances": [{"name": name, "uplink": uplink, "vlan": 100, "vvlan": vvlan, "scope": "distributed"}
                  for name, uplink, vvlan in (("red", "red-up", RED), ("blue", "up0", BLUE))],
    "vnics": [{"name": name, "vmac": mac(number)} for number, name in enumerate(("red-1", "blue-2"), 1)],
    "vports": [{"name": name, "instance": name[:-2], "vnic": name, "netdev": name} for name in ("red-1", "blue-2")],
}


class SortedRack(Rack):
    """A host with a PF and one of its VFs as uplinks, a VM behind each, and a second NIC on the wire."""

    def __init__(self, lab):  # pylint: disable=super-init-not-called
        self.lab, self.number, self.vms, self.ports = lab, 0, {}, {}
        self.pf, self.far = physical(2)
        Root.ip(f"link set {self.pf.netdev()} up", f"link set {self.far.netdev()} up promisc on")
        self.host = lab.host("a")
        (self.pf.device / "sriov_numvfs").write_text("2")
        Nic((self.pf.device / "virtfn0").resolve().name).give(self.host, "wire0v0")
        self.pf.give(self.host, "wire0")
        self.host.ip("link set wire0 up", "link set wire0v0 mtu 1508 up")
        self.host.start_agent()
        for number, name in enumerate(("red-1", "blue-2"), 1):
            self.vms[name] = lab.vm(self.host, name, mac(number), address=f"10.0.0.{number}")
        self.host.apply(SORTED)
        self.wait_for_nic("on")
        self.ports = {name: vm.port("eth0") for name, vm in self.vms.items()}
        self.ports["far"] = RawPort(Here, self.far.netdev())
        self.wait_until_it_works()

    def wait_until_it_works(self):
        self.lab.wait(lambda: self.send("far", BROADCAST, both(100, RED)) and self.send("far", mac(2), both(100, BLUE)),
                      90, f"nothing comes from the wire: {self.nic()} {self.host.agent_said()}")

    def received(self):
        ports = {port["name"]: port["counters"]["rx_packets"] for port in self.host.ctl_json("status")["ports"]}
        return [ports["red-up"], ports["up0"]]


def both(vlan, vvlan):
    return tag(vlan, 0x88A8) + tag(vvlan)


def check_sorted_paths(made):
    before = made.received()
    for destination in (BROADCAST, mac(1), mac(0x6666)):
        check_equal(made.send("far", destination, both(100, RED)), {"red-1": b""}, f"the wire to {destination} in red")
    check_equal([after - earlier for after, earlier in zip(made.received(), before)], [3, 0], "frames by the VF and by the PF")
    check_equal(made.send("far", mac(2), both(100, BLUE)), {"blue-2": b""}, "the wire to blue, by the PF")
    check_equal([after - earlier for after, earlier in zip(made.received(), before)], [3, 1], "frames by the VF and by the PF")
    # The V.VLAN of one and the outer VLAN of nobody, and each other's addresses.
    for destination in (BROADCAST, mac(1), mac(2)):
        check_equal(made.send("far", destination, both(300, RED)), {}, f"the wire to {destination} in another VLAN")
    check_equal(made.send("far", mac(1), both(100, BLUE)), {"blue-2": b""}, "red-1's address in blue: unknown there")
    for sender, vvlan in (("red-1", RED), ("blue-2", BLUE)):
        for destination in (BROADCAST, mac(1), mac(2), mac(0x6666)):
            if destination == made.vms[sender].mac:
                continue
            position = wire_position()
            check_equal(made.send(sender, destination), {"far": both(100, vvlan)}, f"{sender} to {destination}")
            sent = frame(destination, made.vms[sender].mac, b"ivds-mark %d." % made.number)
            check_equal([data for data in wire_frames(position) if b"ivds-mark" in data],
                        [sent[:12] + both(100, vvlan) + sent[12:]], "on the wire")


@case("with two tags the agent has the NIC sort to a VF that is an uplink: the wire reaches the VM behind it by the VF, and "
      "its frames have both tags on the wire; through the agent's death and the VF's reset [R94][R98][R106][R113]")
def _(bench):
    with bench.lab() as lab:
        made = SortedRack(lab)
        try:
            at = {(at["kind"], at["name"]): (at["where"], at["reason"]) for at in made.nic()["objects"]}
            check_equal([at["uplink", "red-up"], at["instance", "red"], at["instance", "blue"]],
                        [("mixed", "sorted"), ("mixed", "sorted"), ("sw", "outer_tag")], "placement")
            check_sorted_paths(made)
            made.host.stop_agent(signal.SIGKILL)
            check_equal(made.send("far", BROADCAST, both(100, RED)), {"red-1": b""}, "the wire without an agent")
            made.host.start_agent()
            made.wait_for_nic("on")
            made.wait_until_it_works()
            made.host.ip("link set wire0v0 down")
            made.host.ip("link set wire0v0 up")
            made.wait_until_it_works()
            check("NIC" in made.host.ctl("events"), "no event tells of what the VF's reset took away")
            check_sorted_paths(made)
        finally:
            made.close()


main()
