# SPDX-License-Identifier: Apache-2.0
"""isolation.py -- N×N: every VM tries to reach every VM of every other network, with honest and with forged frames.

All networks use the same vMACs and addresses, on the same two hosts: what keeps them apart is the switch alone.
"""
from harness import check, check_equal
from scene import BROADCAST, MULTICAST, Scene, Tally, mac, network, raw, tag

ROUNDS = 5
# One VLAN with two V.VLANs, the same V.VLAN under another VLAN, and a network whose V.VLAN is its whole identity.
NETWORKS = {
    "red": network(vlan=100, vvlan=10),
    "blue": network(vlan=100, vvlan=20),
    "green": network(vlan=200, vvlan=10),
    "grey": network(vvlan=30, independent=True),
}
TRANSPORT = 300


def build(lab, attach, scene_class=Scene):
    scene = scene_class(lab, NETWORKS, attach=attach, uplink={"transport_vlan": TRANSPORT})
    scene.two_hosts()
    for name in NETWORKS:
        scene.vm("a", name, 1)
        scene.vm("a", name, 2)
        scene.vm("b", name, 3)
    return scene


def attempt(scene, rounds=ROUNDS):
    """Every VM sends what it may and what it may not; returns the tally and what should have arrived, by pair."""
    tally = Tally(scene)
    expected = {}
    # First each tells its MAC to the others, so that what follows is known unicast.
    for sender in scene.vms:
        tally.send(sender, BROADCAST)
    peers = {one: [other for other in scene.vms if other != one and scene.network_of[other] == scene.network_of[one]]
             for one in scene.vms}
    for one, others in peers.items():
        for other in others:
            expected[one, other] = 1
    tally.settle(sum(expected.values()))
    forged = 0
    pairs = [(n.get("vlan", TRANSPORT), n["vvlan"]) for n in scene.networks.values()]
    for _ in range(rounds):
        for sender in scene.vms:
            targets = [raw(mac(n)) for n in (1, 2, 3)] + [raw(mac(77)), BROADCAST, MULTICAST]
            for other in peers[sender]:
                tally.send(sender, scene.vms[other].mac)
                tally.send(sender, BROADCAST)
                tally.send(sender, MULTICAST)
                tally.send(sender, mac(77))  # unknown: flooded
            for other in peers[sender]:
                expected[sender, other] += 1 + 3 * len(peers[sender])
            for destination in targets:
                for vlan, vvlan in pairs:
                    for tags in (tag(vvlan), tag(vlan) + tag(vvlan), tag(vlan, 0x88A8) + tag(vvlan),
                                 tag(vlan) + tag(vvlan) + tag(5)):
                        tally.send(sender, destination, tags=tags, kind="forged-tag")
                        forged += 1
                tally.send(sender, destination, source=mac(99), kind="forged-source")
                forged += 1
        tally.look()
    tally.settle(sum(expected.values()))
    tally.close()
    return tally, expected, forged


def judge(attach, bench, scene_class=Scene, rounds=ROUNDS):
    with bench.lab() as lab:
        scene = build(lab, attach, scene_class)
        scene.start()
        for port in (*scene.ports("a").values(), *scene.ports("b").values()):
            if attach != "auto":
                check(port["got"].startswith(attach), f"{port['name']}: wanted {attach}, got {port['got']}: "
                                                      f"{port.get('reason', '')}")
        tally, expected, forged = attempt(scene, rounds)
        print(f"{attach}: {tally.sent} frames sent, {tally.total} arrived, {forged} of them forged; "
              f"leaks {sum(tally.leaks().values())}, with a tag {tally.tagged}")
        check_equal(tally.leaks(), {}, "frames that reached another network")
        check_equal(tally.tagged, 0, "frames that reached a VM with a tag on")
        check_equal(tally.got, expected, "frames that arrived, by sender and receiver")
        counted = sum(scene.dropped(host, reason) for host in "ab" for reason in ("guest_tag", "spoof"))
        check_equal(counted, forged, "forged frames that the switch counted")
