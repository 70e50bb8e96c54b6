# SPDX-License-Identifier: Apache-2.0
"""nic_test.py -- the whole switch on a NIC that carries a part of it: the agent's plans on an 82576 (driver igb), VMs
with VFs beside one with a veth, and what passes between them and the wire. scripts/lab.sh boots it."""
import json
import os
import signal
import tempfile

from nics import WIRE, Bar0, Here, Nic, Root, physical, wire_frames, wire_position
from harness import Skip, case, check, check_equal, main
from lab import RawPort
from rack import BLUE, RED, SOFT, VMS, Rack, check_paths, rack
from scene import BROADCAST, frame, mac, tag


def needs_igb(why):
    if physical(1)[0].driver().name != "igb":
        raise Skip(why)


@case("the agent has the NIC carry its VFs: VF to VF by the NIC alone, to and from software's vPorts and the wire with "
      "one tag, instances apart; and it survives the agent, and what others do to the NIC "
      "[R2][R9][R94][R98][R106][R110][R111][R113]")
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
        check_equal(made.where()["red-1"], ("sw", "rules_from_vm"), "a VF with a rule")
        check(not made.ping("red-0", "red-1"), "red-1 is reached though the NIC cannot hold its rule")
        made.host.ctl("rule", "remove", "vport", "red-1", "no-udp")
        made.lab.wait(lambda: made.ping("red-0", "red-1"), 60, "red-1 does not come back")
        made.host.ctl("offload", "set", "vport", "red-1", "--offload", "require")
        refused = made.host.ctl("rule", "add", "vport", "red-1", "--name", "no-udp", "--protocol", "udp", "--action",
                                "drop", check=False)
        check(refused.returncode != 0 and "IVDS-O004" in refused.stderr, f"not refused: {refused}")
        check(made.ping("red-0", "red-1"), "a refused change took something down")


def check_paths_without_agent(made):
    check_equal(made.send("red-0", made.vms["red-1"].mac), {"red-1": b""}, "VF to VF without an agent")
    check_equal(made.send("red-0", made.soft.mac), {SOFT: b""}, "a VF to software's without an agent")
    check_equal(made.send(SOFT, made.vms["red-0"].mac), {"red-0": b""}, "and back without an agent")


def carried(made, name):
    """What the NIC counted of a vPort so far: (frames from its VM, their bytes, frames to it, their bytes)."""
    ports = {port["name"]: port for port in made.host.ctl_json("stats")["ports"]}
    own = ports[name].get("nic_counters", {})
    every = ports[name]["counters"]
    fields = ("rx_packets", "rx_bytes", "tx_packets", "tx_bytes")
    check_equal([every.get(field, 0) for field in fields], [own.get(field, 0) for field in fields],
                f"counters of {name}, which the NIC alone carries")
    return [int(own.get(field, 0)) for field in fields]


def check_counters(made):
    sent = 14 + 46  # of frame()

    def five_frames():
        before = carried(made, "red-0"), carried(made, "red-1")
        for _ in range(5):
            made.send("red-0", made.vms["red-1"].mac)
        after = carried(made, "red-0"), carried(made, "red-1")
        from_0, to_1 = (after[0][0] - before[0][0], after[0][1] - before[0][1]), \
            (after[1][2] - before[1][2], after[1][3] - before[1][3])
        check(from_0[0] >= 5 and to_1[0] >= 5, f"frames from VF to VF were not counted: {from_0} {to_1}")
        return from_0 == to_1 == (5, 5 * sent)
    # A VM may have something of its own to say meanwhile.
    made.lab.wait(five_frames, 30, "five frames of 60 bytes are never counted as that")
    table = made.host.ctl("offload", "show")
    check("CARRIED" in table and "within the NIC" in table, f"offload show has no counters: {table}")
    if WIRE.exists():
        check_what_stays(made)


def check_what_stays(made):
    """What VFs and software sent, less what was on the wire, stayed within the NIC. The wire is asked and not the port's
    own counter: the emulated card counts there what it passes from VF to VF too."""
    def sent():
        nic = made.nic()
        return sum(int(of["counters"].get("rx_packets", 0)) for of in nic["traffic"]) + \
            int(nic["software"].get("tx_packets", 0))

    own = [bytes.fromhex(vm.mac.replace(":", "")) for vm in made.vms.values()]

    def three_stay():
        before, position = sent(), wire_position()
        for sender, destination in (("red-0", made.vms["red-1"].mac), ("red-0", made.soft.mac),
                                    (SOFT, made.vms["red-0"].mac), ("red-0", mac(0x6666)), (SOFT, mac(0x6666))):
            made.send(sender, destination)
        on_wire = sum(data[6:12] in own for data in wire_frames(position))
        return (sent() - before - on_wire, on_wire) == (3, 2)
    # A VM may have something of its own to say meanwhile.
    made.lab.wait(three_stay, 30, "of five frames from VF to VF and software and back, and two to the wire, not three stay")


def check_trace(made):
    told = made.host.ctl("trace", "red-0", f"eth dst={made.vms['red-1'].mac}")
    for words in ("VMVIR[0] adds VID 10", "RAL/RAH[", "VLVF[", "red-1 of instance red (VF 1)",
                  "carried by the NIC alone"):
        check(words in told, f"a trace from VF to VF lacks {words!r}:\n{told}")
    told = made.host.ctl("trace", "red-0", f"eth dst={made.soft.mac}")
    for words in ("VMVIR[0] adds VID 10", "V.VLAN look-up", f"forwarded to {SOFT}"):
        check(words in told, f"a trace from a VF to software lacks {words!r}:\n{told}")
    told = made.host.ctl_json("trace", "blue-2", f"eth dst={made.vms['red-0'].mac}")
    check_equal(told["nic"].get("together", []), [], "who gets a frame of blue's for red")


def check_verify(made):
    def verdict():
        done = made.host.ctl("verify", "--json", check=False)
        return json.loads(done.stdout)["verdicts"][0]
    good = verdict()
    check(good.get("holds"), f"NIC and software do not agree:\n{good['text']}")
    check(int(good["classes"]) > 1000, f"only {good['classes']} classes of frames")
    # Somebody lets blue's VF into red's V.VLAN. The agent mends it every 5 s, so that it may come first.
    shown = made.host.ctl_json("offload", "show", "--registers")["nics"][0]
    slot = next(row["slot"] for row in shown["slots"]
                if row["table"] == "VLVF" and row["text"].startswith(f"VID {RED}:"))
    offset = next(row["offset"] for row in shown["registers"] if row["name"] == f"VLVF[{slot}]")
    entry = Bar0(made.pf).word(offset)

    def found():
        entry.value = entry.value | 1 << 12 + VMS["blue-2"]
        broken = verdict()
        leaks = [one for one in broken.get("examples", []) if one["fault"] == "leak"]
        return leaks and leaks[0]["text"]
    leak = made.lab.wait(found, 60, "a VF in another V.VLAN is not found")
    check(f"VLVF[{slot}]" in leak and "blue-2" in leak, f"the counterexample does not say where: {leak}")
    made.lab.wait(lambda: verdict().get("holds"), 30, "the agent does not mend it")
    # The same from a dump, without the agent.
    with tempfile.NamedTemporaryFile("w") as dump:
        dump.write(made.host.ctl("offload", "dump", "up0"))
        dump.flush()
        done = made.host.ctl("verify", "--nic", "82576", "--vfs", str(len(VMS)), "--registers", dump.name, "-",
                             check=False, stdin=made.host.ctl("export"))
        check_equal(done.returncode, 0, f"the exit code of the dump's verdict: {done.stdout}{done.stderr}")


@case("the NIC's counters are its vPorts', traces say what it does with a frame, and verify walks its registers and finds "
      "what somebody breaks there [R98][R113][R124]")
def _(bench):
    needs_igb("it names registers of the 82576")
    with rack(bench) as made:
        check_counters(made)
        check_trace(made)
        check_verify(made)
        # Totals stay when the driver resets the NIC, and when the agent ends.
        before = carried(made, "red-0")
        made.host.ip("link set wire0 down", "link set wire0 up")
        made.wait_until_it_works()
        after = carried(made, "red-0")
        check(all(new >= old for new, old in zip(after, before)), f"totals went back: {before} {after}")
        made.host.stop_agent(signal.SIGKILL)
        made.send("red-0", made.vms["red-1"].mac)
        made.host.start_agent()
        made.wait_for_nic("on")
        again = carried(made, "red-0")
        check(all(new >= old for new, old in zip(again, after)) and again[0] > after[0],
              f"the agent's end lost counts: {after} {again}")


def check_vectors(made):
    """Each VF has queues of its own and a vector for each that no other function has; nic show tells how many."""
    shown = {vf["address"]: vf for vf in made.host.ctl_json("nic", "show")["nics"][0]["vfs"]}
    taken = os.listdir(made.pf.device / "msi_irqs")
    for name in VMS:
        vf = made.vf(name)
        vectors = os.listdir(vf.device / "msi_irqs")
        link = json.loads(made.vms[name].run("ip", "-d", "-j", "link", "show", "eth0").stdout)[0]
        queues = [link["num_rx_queues"], link["num_tx_queues"]]
        check(min(queues) > 0 and len(vectors) >= sum(queues), f"{name} has {queues} queues and the vectors {vectors}")
        check_equal(shown[vf.address]["interrupts"], len(vectors), f"vectors of {name} in nic show")
        taken += vectors
    check_equal(len(set(taken)), len(taken), "vectors that two functions have")


@case("VFs that go and come are told, and carried again; each has queues and vectors that are its own [R9][R24][R35]")
def _(bench):
    with rack(bench) as made:
        check_vectors(made)
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
                      90, lambda: f"nothing comes from the wire: {self.nic()} {self.host.agent_said()}")

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
            if not WIRE.exists():
                continue  # on hardware nobody but the far NIC sees the wire
            sent = frame(destination, made.vms[sender].mac, b"ivds-mark %d." % made.number)
            check_equal([data for data in wire_frames(position) if b"ivds-mark" in data],
                        [sent[:12] + both(100, vvlan) + sent[12:]], "on the wire")


@case("with two tags the agent has the NIC sort to a VF that is an uplink: the wire reaches the VM behind it by the VF, and "
      "its frames have both tags on the wire; through the agent's death and the VF's reset [R94][R98][R106][R113]")
def _(bench):
    needs_igb("the agent sets two tags up beside igb alone")
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
