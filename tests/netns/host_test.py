# SPDX-License-Identifier: Apache-2.0
"""host_test.py -- the host's own stack: it never sees a tenant's frame, and its own traffic on the uplink is untouched.

What the stack sees is asked with a packet socket of one EtherType: unlike a sniffer's, it gets what passes the hooks.
"""
from harness import case, check, check_equal, main
from lab import Lab, LabError
from scene import BROADCAST, MULTICAST, Scene, StackSocket, Tally, frame, mac, network, raw, tag

ARP, IPV4, LLDP, EAPOL, SLOW = 0x0806, 0x0800, 0x88CC, 0x888E, 0x8809


@case("the host's stack never gets a frame of a VM: not IP, not ARP, not even to an address of its own [R84][R178]")
def _(bench):
    for attach in ("native", "generic", "tcx", "clsact"):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network()}, attach=attach)
            a, _ = scene.two_hosts()
            for number in (1, 2):
                scene.vm("a", "red", number)
            scene.vm("b", "red", 3)
            scene.start()
            # The host has an address in the tenant's network, on the very interfaces of the vPorts and the uplink.
            a.ip("addr add 10.0.0.101/24 dev red-1", "addr add 10.0.0.102/24 dev wire0")
            host_mac = a.run("cat", "/sys/class/net/red-1/address").stdout.strip()
            ears = [StackSocket(a, netdev, kind) for netdev in ("red-1", "red-2", "wire0")
                    for kind in (ARP, IPV4, 0x88B5)]
            scene.check_pings()
            vm = scene.vms["red-1"]
            for address in ("10.0.0.101", "10.0.0.102"):
                done = vm.run("ping", "-c", "3", "-i", "0.05", "-W", "1", address, check=False)
                check(done.returncode != 0, f"the host answered a VM's ping to {address} ({attach})")
            vm.ip(f"neigh replace 10.0.0.101 lladdr {host_mac} dev eth0")
            done = vm.run("ping", "-c", "3", "-i", "0.05", "-W", "1", "10.0.0.101", check=False)
            check(done.returncode != 0, f"the host answered a VM that knew its MAC ({attach})")
            tally = Tally(scene)
            for destination in (raw(host_mac), BROADCAST, MULTICAST, raw(mac(2)), raw(mac(99))):
                for tags in (b"", tag(100) + tag(10), tag(5)):
                    tally.send("red-1", destination, tags=tags)
            tally.settle(1)
            tally.close()
            check_equal([ear.count() for ear in ears], [0] * len(ears), f"frames in the host's stack ({attach})")
            # The ears do hear: what the host is meant to get on the uplink arrives at one of them.
            with scene.hosts["b"].port("wire0") as wire:
                wire.send(frame(BROADCAST, mac(200), "for the host"))
                lab.wait(lambda: ears[-1].count() == 1, 5, "the ear on wire0 is deaf")
            for ear in ears:
                ear.close()


@case("the host's own traffic on the uplink is as if the switch were not there: IP, LLDP, EAPOL, its own VLANs [R95][R96][R118]")
def _(bench):
    for attach in ("native", "generic", "tcx", "clsact"):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network()}, attach=attach)
            a, b = scene.two_hosts()
            scene.vm("a", "red", 1)
            scene.vm("b", "red", 2)
            scene.start()
            a.ip("addr add 192.0.2.1/24 dev wire0")
            b.ip("addr add 192.0.2.2/24 dev wire0")
            done = a.run("ping", "-q", "-c", "5", "-i", "0.05", "-s", "1472", "-M", "do", "192.0.2.2")
            check("5 received" in done.stdout, done.stdout)
            scene.check_pings()
            controls = {LLDP: "01:80:c2:00:00:0e", EAPOL: "01:80:c2:00:00:03", SLOW: "01:80:c2:00:00:02"}
            ears = {kind: StackSocket(a, "wire0", kind) for kind in controls}
            single = StackSocket(a, "wire0", 0x8100)
            vms = Tally(scene)
            with b.port("wire0") as wire:
                for kind, destination in controls.items():
                    wire.send(frame(destination, mac(200), "ivds-mark b ", ethertype=kind))
            for kind, ear in ears.items():
                lab.wait(lambda ear=ear: ear.count() == 1, 5, f"EtherType {kind:#x} did not reach the host ({attach})")
                ear.close()
            single.close()
            scene.network_of["b"] = "nobody"
            vms.settle(0)
            check_equal(vms.got, {}, "control frames from the wire that reached VMs")
            vms.close()
            check(scene.counters("a", "uplink")["rx_host"] >= 8, "rx_host of the uplink")


@case("PAUSE, PFC, BPDUs and LACP from a VM are dropped and counted, and reach nobody [R96]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        _, far = scene.host_on_wire()
        scene.vm("a", "red", 1)
        scene.vm("a", "red", 2)
        scene.start()
        tally = Tally(scene)
        sent = 0
        with far.port("wire0") as wire:
            for destination, kind in (("01:80:c2:00:00:01", 0x8808), ("01:80:c2:00:00:00", 0x0026), (mac(2), 0x8808),
                                      ("01:80:c2:00:00:02", SLOW), ("01:80:c2:00:00:0e", LLDP)):
                tally.ports["red-1"].send(frame(destination, mac(1), "ivds-mark red-1 ", ethertype=kind))
                sent += 1
            tally.send("red-1", mac(2))
            tally.settle(1)
            check_equal(tally.got, {("red-1", "red-2"): 1}, "frames that arrived")
            check_equal([f for f in wire.receive() if b"ivds-mark" in f], [], "control frames of a VM on the wire")
        check_equal(scene.drops("a").get(("red-1", "vm_control"), 0), sent, "counted as vm_control")
        tally.close()


@case("frames with a switched VLAN and no V.VLAN follow the uplink's policy: host, or drop and count [R95]")
def _(bench):
    for plain, reaches in (("host", 1), ("drop", 0)):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network()}, uplink={"plain": plain}, attach="tcx")
            a, far = scene.host_on_wire()
            scene.vm("a", "red", 1)
            scene.start()
            # A VLAN device would take it; without one the kernel keeps it as "other host", which the socket still gets.
            ear = StackSocket(a, "wire0", 0x0003)
            tally = Tally(scene)
            with far.port("wire0") as wire:
                wire.send(frame(BROADCAST, mac(9), "ivds-mark wire ", tag(100)))
            scene.network_of["wire"] = "nobody"
            tally.settle(0)
            check_equal(tally.got, {}, "plain frames that reached VMs")
            tally.close()
            ear.close()
            check_equal(scene.counters("a", "uplink")["rx_host"], reaches, f"rx_host with plain: {plain}")
            check_equal(scene.drops("a").get(("uplink", "no_vvlan"), 0), 1 - reaches, f"no_vvlan with plain: {plain}")


main()
