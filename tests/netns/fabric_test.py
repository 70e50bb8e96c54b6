# SPDX-License-Identifier: Apache-2.0
"""fabric_test.py -- hosts joined by a learning switch that knows nothing of V.VLANs: a plain Linux bridge."""
from harness import case, check, check_equal, main
from scene import BROADCAST, EXPERIMENTAL, MARK, Scene, Tally, frame, learning_switch, mac, network, plug_in, tag


def three_hosts(lab, attach, networks, uplink=None):
    """Three hosts on a bridge, a VM of each network on each."""
    scene = Scene(lab, networks, attach=attach, uplink=uplink)
    fabric = learning_switch(lab)
    for number, name in enumerate("abc", 1):
        host = scene.host(name)
        plug_in(lab, fabric, host)
        for tenant in networks:
            scene.vm(name, tenant, number)
    scene.start()
    return scene, fabric


for mode in ("auto", "native"):
    @case(f"three hosts on a switch that only learns MACs: networks work and stay apart, attached by {mode} [R88][R89][R152]")
    def _(bench, mode=mode):
        with bench.lab() as lab:
            # The tenants' vMACs differ here: one learning table for all is what such a switch has.
            scene, _ = three_hosts(lab, mode, {"red": network()})
            scene.check_pings()
            tally = Tally(scene)
            for sender in scene.vms:
                for other in scene.vms:
                    if other != sender:
                        tally.send(sender, scene.vms[other].mac)
            tally.settle(6)
            tally.close()
            check_equal(tally.got, {(one, other): 1 for one in scene.vms for other in scene.vms if one != other},
                        "who got whose frame")


@case("all hosts share one transport VLAN through one switch, and every V.VLAN is reachable over it [R77][R88]")
def _(bench):
    with bench.lab() as lab:
        networks = {"red": network(vvlan=10, independent=True)}
        scene, fabric = three_hosts(lab, "auto", networks, {"transport_vlan": 300})
        scene.check_pings()
        with fabric.port("port-a") as port:
            check_equal(scene.ping("red-1", "red-3"), 3, "answers")
            frames = [f for f in port.receive() if f[12:14] == b"\x81\0"]
            check(frames, "nothing tagged on the switch's port")
            check_equal({int.from_bytes(f[14:16], "big") & 4095 for f in frames}, {300}, "outer VLANs on the switch")


for mode in ("auto", "native"):
    @case(f"a host on the VLAN that knows no V.VLAN is in the network that lets it in, and in no other, by {mode} [R95][R115]")
    def _(bench, mode=mode):
        with bench.lab() as lab:
            networks = {"red": network(plain_access=True), "blue": network(vvlan=20)}
            scene, fabric = three_hosts(lab, mode, networks)
            old = lab.place("old")
            lab.cable(old, "eth0", fabric, "port-old", 1508)
            fabric.ip("link set port-old master fabric")
            scene.network_of["old"] = "red"
            tally = Tally(scene)
            old_mac, payload = mac(99), MARK + b"old plain "
            with old.port("eth0") as port:
                # Every VM of the one network hears it once, on all hosts, and can answer.
                port.send(frame(BROADCAST, old_mac, payload, tag(100)))
                tally.settle(3)
                check_equal(tally.got, {("old", f"red-{n}"): 1 for n in (1, 2, 3)}, "who got the plain broadcast")
                check_equal(tally.tagged, 0, "frames with a tag at a VM")
                port.receive()
                for sender in scene.vms:
                    tally.send(sender, old_mac)
                for number in (1, 2, 3):
                    port.send(frame(mac(number), old_mac, payload, tag(100)))
                tally.settle(12)
                tally.close()
                plain = tag(100) + EXPERIMENTAL.to_bytes(2, "big") + MARK
                heard = sorted(f[len(plain) + 12:].split(b" ")[0].decode() for f in port.receive() if f[12:].startswith(plain))
                check_equal(heard, ["red-1", "red-2", "red-3"], "whose plain frames came to the host on the VLAN")
                check_equal({pair: n for pair, n in tally.got.items() if pair[0] == "old"},
                            {("old", f"red-{n}"): 2 for n in (1, 2, 3)}, "who got the plain unicast as well")
                check_equal(tally.leaks(), {}, "frames in another network")
                # A flood goes out in both forms, and a host that knows V.VLANs takes one.
                tally = Tally(scene)
                tally.send("red-1", BROADCAST)
                tally.settle(2)
                tally.close()
                check_equal(tally.got, {("red-1", "red-2"): 1, ("red-1", "red-3"): 1}, "who got the VM's broadcast")
                check_equal(len([f for f in port.receive() if f[12:].startswith(plain)]), 1, "plain copies of it")


main()
