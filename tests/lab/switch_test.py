# SPDX-License-Identifier: Apache-2.0
"""switch_test.py -- the switch on Linux 6.12 with NICs that have virtual functions; scripts/lab.sh boots them."""
import os

import nics
from harness import case, check, check_equal, main
from isolation import judge
from nics import NicScene, wire_frames, wire_position
from scene import BROADCAST, Scene, Tally, frame, mac, network, tag

os.system("modprobe -aq tun 8021q")


def hooks(scene, host):
    """What each port got, by name."""
    return {name: port["got"] for name, port in scene.ports(host).items()}


def everyone_to_everyone(scene):
    """Known and unknown unicast, broadcast and forged tags from each VM; returns the tally and what should arrive."""
    tally, expected = Tally(scene), {}
    for sender in scene.vms:
        for other in scene.vms:
            if other == sender or scene.network_of[other] != scene.network_of[sender]:
                continue
            tally.send(sender, scene.vms[other].mac)
            for tags in (tag(20), tag(100) + tag(20), tag(100) + tag(10), tag(nics.HIDDEN_VLAN)):
                tally.send(sender, scene.vms[other].mac, tags=tags, kind="forged")
            expected[sender, other] = 3
        tally.send(sender, BROADCAST)
        tally.send(sender, mac(77))
    tally.settle(sum(expected.values()))
    tally.close()
    # The emulated NIC gives a VF its own broadcasts back, which a real one prunes.
    tally.got = {pair: count for pair, count in tally.got.items() if pair[0] != pair[1]}
    return tally, expected


@case("one configuration serves a veth, a tap, a macvlan and a VF, with a NIC as the uplink that has native XDP and VFs "
      "[R6][R85]")
def _(bench):
    with bench.lab() as lab:
        scene = NicScene(lab, {"red": network(), "blue": network(vvlan=20)}, vf_number=4)
        scene.two_hosts()
        # Each kind is in a network with others, on this host and across the wire.
        scene.vm("a", "red", 1)
        scene.tap("a", "red", 2)
        scene.vf("red", [mac(1), mac(2)])
        scene.vm("b", "red", 5)
        scene.tap("a", "blue", 2)
        scene.macvlan("a", "blue", 3)
        scene.vm("b", "blue", 5)
        scene.start()
        for name, port in scene.ports("a").items():
            print(f"{name}: {port['got']}: {port.get('reason', '')}")
        # What the README's table says of these kinds.
        check_equal(hooks(scene, "a"), {"uplink": "native+tcx", "red-1": "tcx", "red-2": "tcx", "red-4": "tcx",
                                        "blue-2": "tcx", "blue-3": "tcx"}, "hooks that auto picked")
        reasons = {name: port["reason"] for name, port in scene.ports("a").items()}
        for name, words in (("uplink", "igb has native XDP"), ("red-1", "veth"), ("red-2", "tun"), ("blue-3", "macvlan"),
                            ("red-4", "IVDS-P002")):
            check(words in reasons[name], f"the reason of {name} does not say {words!r}: {reasons[name]}")
        check("IVDS-P005 red-4" in scene.hosts["a"].ctl("doctor", check=False).stdout, "doctor is silent about the VF")
        scene.check_pings()
        tally, expected = everyone_to_everyone(scene)
        check_equal(tally.leaks(), {}, "frames that reached another network")
        # With a forged frame that arrived, a number would be larger.
        check_equal(tally.got, expected, "frames that arrived, by sender and receiver")
        for one, other in (("red-1", "red-2"), ("red-2", "red-4"), ("red-4", "red-5"), ("red-5", "red-2"),
                           ("blue-2", "blue-3"), ("blue-3", "blue-5")):
            scene.transfer(one, other, 1)
        # What auto did not pick is had where the table says so, and refused with the trap's id where it says no.
        for mode, trap in (("native", "IVDS-P002"), ("generic", "IVDS-P008")):
            scene.hosts["a"].ctl("vport", "update", "red-4", "--attach", mode)
            port = scene.ports("a")["red-4"]
            check(trap in port["reason"] and mode not in port["got"], f"{mode} on a VF: {port}")
        scene.hosts["a"].ctl("vport", "update", "red-4", "--attach", "auto")
        check_equal(hooks(scene, "a")["red-4"], "tcx", "the VF is back on TC")
        check_equal(scene.ping("red-1", "red-4"), 3, "answers after what was refused")
        scene.hosts["a"].ctl("vport", "update", "blue-3", "--attach", "native")
        check("IVDS-P016" in scene.ports("a")["blue-3"]["reason"], f"native on a macvlan: {scene.ports('a')['blue-3']}")
        scene.hosts["a"].ctl("vport", "update", "blue-3", "--attach", "generic")
        check_equal(hooks(scene, "a")["blue-3"], "generic+tcx", "generic XDP on a macvlan")
        for mode in ("generic", "native"):
            scene.hosts["a"].ctl("vport", "update", "blue-2", "--attach", mode)
            check_equal(hooks(scene, "a")["blue-2"], f"{mode}+tcx", f"{mode} XDP on a tap")
            check_equal([scene.ping("blue-2", "blue-3"), scene.ping("blue-3", "blue-2"), scene.ping("blue-5", "blue-2")],
                        [3, 3, 3], f"answers with {mode} XDP on a tap")


def own_vlan(a, b, link):
    """A VLAN device of each host's own on its uplink, beside the switch."""
    for number, host in enumerate((a, b), 1):
        host.ip(f"link add link {link} name own type vlan id 400", f"addr add 192.0.2.{number}/24 dev own",
                "link set own up")


@case("with the NIC's VLAN offloads on and off, frames on the wire carry both tags, and the host's own VLAN device works "
      "beside the switch [R68][R104][R118]")
def _(bench):
    with bench.lab() as lab:
        scene = NicScene(lab, {"red": network()}, attach="tcx")
        a, b = scene.two_hosts()
        scene.vm("a", "red", 1)
        scene.vm("b", "red", 2)
        own_vlan(a, b, "wire0")
        scene.start()
        for state in ("on", "off"):
            for host in (a, b):
                # The checksums are the card's where one tag is left in the bytes.
                host.run("ethtool", "-K", "wire0", "rxvlan", state, "txvlan", state, "tx", state)
                said = host.run("ethtool", "-k", "wire0").stdout
                for feature in ("rx-vlan-offload", "tx-vlan-offload"):
                    check(f"{feature}: {state}" in said, f"{feature} is not {state}")
            # Changing it may reset the NIC.
            lab.wait(lambda: scene.ping("red-1", "red-2", count=1) == 1, 30, f"no answer with VLAN offload {state}")
            scene.transfer("red-1", "red-2", 1)
            done = a.run("ping", "-q", "-c", "3", "-i", "0.05", "-s", "1472", "-M", "do", "192.0.2.2")
            check("3 received" in done.stdout, done.stdout)
            position = wire_position()
            tally = Tally(scene)
            tally.send("red-1", mac(2), kind=state)
            tally.settle(1)
            tally.close()
            check_equal(tally.got, {("red-1", "red-2"): 1}, "who got whose frame")
            check_equal(tally.tagged, 0, "frames that reached a VM with a tag on")
            sent = frame(mac(2), mac(1), f"ivds-mark red-1 {state} ")
            seen = [data for data in wire_frames(position) if b"ivds-mark" in data]
            check_equal(seen, [sent[:12] + tag(100) + tag(10) + sent[12:]], f"on the wire with VLAN offload {state}")


for mode in ("native", "generic", "tcx", "clsact"):
    @case(f"nothing crosses between networks over NICs, attached by {mode} [R3][R67][R84][R85][R113][R114]")
    def _(bench, mode=mode):
        judge(mode, bench, NicScene, rounds=1)


@case("a VLAN-filtering switch that is told the outer VLANs alone carries the networks; a VLAN taken off its trunk takes all "
      "its V.VLANs and no other [R75][R89][R118]")
def _(bench):
    with bench.lab() as lab:
        # On one VLAN the switch has one table of MACs for all, so those networks' VMs differ; green's do not.
        scene = Scene(lab, {"red": network(100, 10), "blue": network(100, 20), "green": network(200, 10)})
        fabric = lab.place("fabric")
        fabric.ip("link add fabric mtu 1508 type bridge vlan_filtering 1 vlan_default_pvid 0", "link set fabric up")
        for name in "ab":
            host = scene.host(name)
            lab.cable(host, "wire0", fabric, f"port-{name}")
            fabric.ip(f"link set port-{name} master fabric")
            for vlan in (100, 200, 400):
                fabric.run("bridge", "vlan", "add", "dev", f"port-{name}", "vid", vlan)
        fabric.run("sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done")
        for tenant, numbers in (("red", (1, 2, 3)), ("blue", (4, 5, 6)), ("green", (1, 2, 3))):
            for host, number in zip("aab", numbers):
                scene.vm(host, tenant, number)
        own_vlan(*scene.hosts.values(), "wire0")
        scene.start()

        def reach():
            """Who answers across the switch and on one host, and whether the host's own VLAN does."""
            pairs = (("red-1", "red-3"), ("blue-4", "blue-6"), ("green-1", "green-3"), ("red-1", "red-2"),
                     ("blue-4", "blue-5"))
            own = scene.hosts["a"].run("ping", "-q", "-c", "1", "-W", "1", "192.0.2.2", check=False).returncode == 0
            return [scene.ping(*pair, count=1) for pair in pairs] + [own]

        scene.check_pings()
        check_equal(reach(), [1, 1, 1, 1, 1, True], "answers with all VLANs on the trunk")
        fabric.run("bridge", "vlan", "del", "dev", "port-b", "vid", 100)
        check_equal(reach(), [0, 0, 1, 1, 1, True], "answers with VLAN 100 off the trunk")
        fabric.run("bridge", "vlan", "add", "dev", "port-b", "vid", 100)
        check_equal(reach(), [1, 1, 1, 1, 1, True], "answers with VLAN 100 back")


main()
