# SPDX-License-Identifier: Apache-2.0
"""bringup_test.py -- from nothing to a switch under traffic, what is counted on the way, and a vPort that moves."""
import threading
import time

from harness import case, check, check_equal, main
from lab import LabError
from scene import BROADCAST, Scene, Tally, frame, mac, network, tag


class Noise:
    """VMs that send all the time, from before the switch is there: honest broadcasts, and forged tags."""

    def __init__(self, tally):
        self.tally, self.stopping = tally, threading.Event()
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        foreign = [tag(n["vvlan"]) for n in self.tally.scene.networks.values()]
        foreign += [tag(n["vlan"]) + tag(n["vvlan"]) for n in self.tally.scene.networks.values()]
        while not self.stopping.is_set():
            for sender in self.tally.scene.vms:
                self.tally.send(sender, BROADCAST)
                for tags in foreign:
                    self.tally.send(sender, BROADCAST, tags=tags)
            time.sleep(0.001)

    def stop(self):
        self.stopping.set()
        self.thread.join()


@case("VMs send before, while and after vPorts are made and unmade: nothing leaks, and nothing passes before [R105][R172]")
def _(bench):
    for attach in ("auto", "native"):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network(), "blue": network(vvlan=20)}, attach=attach)
            scene.two_hosts()
            for name in ("red", "blue"):
                scene.vm("a", name, 1)
                scene.vm("a", name, 2)
                scene.vm("b", name, 3)
            tally = Tally(scene)
            noise = Noise(tally)
            for host in scene.hosts.values():
                host.start_agent()
            time.sleep(0.3)
            check_equal(tally.look(), 0, "frames that arrived before there was a vPort")
            full = {name: scene.config(name) for name in scene.hosts}
            # Ports and whole networks come and go, one by one and all at once, in orders that mix the tenants.
            for round_number in range(6):
                for name, host in scene.hosts.items():
                    ports = full[name]["vports"]
                    for kept in (ports[round_number % len(ports):], ports[:1], ports):
                        host.apply({**full[name], "vports": kept})
                    if round_number % 2:
                        host.apply({"uplinks": full[name]["uplinks"]})
                        host.apply(full[name])
                tally.look()
            noise.stop()
            tally.settle(tally.total)
            tally.close()
            print(f"{attach}: {tally.sent} frames sent, {tally.total} arrived in their networks")
            check(tally.total > 100, f"only {tally.total} frames arrived at all")
            check_equal(tally.leaks(), {}, "frames that reached another network")
            check_equal(tally.tagged, 0, "frames that reached a VM with a tag on")
            said = scene.hosts["a"].agent_said()
            order = [said.find(words) for words in ("serves on", "applied: ", "port_up red-1")]
            check(0 <= order[0] < order[1] and order[2] > order[0], f"the order of the start in the log: {order}\n{said}")


@case("what enters at a vPort, leaves at the uplink, enters at the other and reaches the VM is one number, frame by frame "
      "[R144][R176]")
def _(bench):
    for attach in ("tcx", "native"):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network()}, attach=attach)
            scene.two_hosts()
            scene.vm("a", "red", 1)
            scene.vm("b", "red", 2)
            scene.start()
            scene.check_pings()
            # With neighbours that they know, the VMs would ask after each other while the counters are read.
            for vm in scene.vms.values():
                vm.ip("neigh flush all")
            places = (("a", "red-1"), ("a", "uplink"), ("b", "uplink"), ("b", "red-2"))
            before = {place: scene.counters(*place) for place in places}
            tally = Tally(scene)
            for _ in range(500):
                tally.send("red-1", mac(2))
            tally.settle(500)
            tally.close()
            after = {place: scene.counters(*place) for place in places}
            grown = {place: {key: after[place][key] - before[place][key] for key in after[place]} for place in places}
            size = len(frame(mac(2), mac(1), "ivds-mark red-1 plain "))
            check_equal([grown["a", "red-1"]["rx_packets"], grown["a", "uplink"]["tx_packets"],
                         grown["b", "uplink"]["rx_packets"], grown["b", "red-2"]["tx_packets"]], [500] * 4, "frames")
            check_equal([grown["a", "red-1"]["rx_bytes"], grown["a", "uplink"]["tx_bytes"],
                         grown["b", "uplink"]["rx_bytes"], grown["b", "red-2"]["tx_bytes"]],
                        [500 * size, 500 * (size + 8), 500 * (size + 8), 500 * size], "bytes, with the tags on the wire")
            check_equal([grown["a", "red-1"]["drops"], grown["b", "uplink"]["drops"]], [0, 0], "drops")


@case("a vPort bound to another interface takes its traffic along; an interface is bound to one vPort alone [R54]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        a, _ = scene.host_on_wire()
        scene.vm("a", "red", 1)
        scene.vm("a", "red", 2)
        scene.start()
        scene.check_pings()
        # The VM's new home: the same vMAC and address on another interface.
        moved = lab.vm(a, "new-home", mac(2), address="10.0.0.2")
        started = time.monotonic()
        a.ctl("vport", "update", "red-2", "--netdev", "new-home")
        scene.vms["red-1"].run("ping", "-c", "1", "-W", "2", "10.0.0.2")
        print(f"moved and answering after {time.monotonic() - started:.2f} s")
        with scene.vms["red-2"].port("eth0") as old, moved.port("eth0") as new:
            for _ in range(20):
                scene.vms["red-1"].run("ping", "-c", "1", "-W", "1", "10.0.0.2")
            check_equal([len([f for f in port.receive() if f[12:14] == b"\x08\0"]) for port in (old, new)], [0, 20],
                        "pings at the old and the new interface")
        a.ctl("vnic", "create", "third-nic", "--vmac", mac(3))
        try:
            a.ctl("vport", "create", "third", "--instance", "red", "--netdev", "new-home", "--vnic", "third-nic")
            check(False, "an interface was bound twice")
        except LabError as error:
            check("IVDS-" in str(error) and "red-2" in str(error), f"the refusal does not name who has it: {error}")


main()
