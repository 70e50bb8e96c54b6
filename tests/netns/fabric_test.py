# SPDX-License-Identifier: Apache-2.0
"""fabric_test.py -- hosts joined by a learning switch that knows nothing of V.VLANs: a plain Linux bridge."""
from harness import case, check, check_equal, main
from scene import Scene, Tally, network


def three_hosts(lab, attach, networks, uplink=None):
    """Three hosts on a bridge, a VM of each network on each."""
    scene = Scene(lab, networks, attach=attach, uplink=uplink)
    fabric = lab.place("fabric")
    fabric.ip("link add fabric mtu 1508 type bridge", "link set fabric up")
    for number, name in enumerate("abc", 1):
        host = scene.host(name)
        lab.cable(host, "wire0", fabric, f"port-{name}")
        fabric.ip(f"link set port-{name} master fabric")
        for tenant in networks:
            scene.vm(name, tenant, number)
    # The bridge must not hand frames to a packet filter.
    fabric.run("sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done")
    scene.start()
    return scene, fabric


for mode in ("auto", "native"):
    @case(f"three hosts on a switch that only learns MACs: networks work and stay apart, attached by {mode} [R88][R89]")
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


main()
