# SPDX-License-Identifier: Apache-2.0
"""kinds_test.py -- one configuration for all kinds of vNICs, a VF among them, on Linux 6.12; scripts/lab.sh boots it."""
import os
import time

import nics
from harness import case, check, check_equal, main
from nics import NicScene
from scene import BROADCAST, Scene, Tally, frame, mac, network, tag

os.system("modprobe -aq tun 8021q sch_fq")


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
        # Generic XDP there would not see the tag that a guest put on, and a guest's tag would be the wire's outer one.
        scene.hosts["a"].ctl("vport", "update", "blue-3", "--attach", "generic")
        check("IVDS-P021" in scene.ports("a")["blue-3"]["reason"], f"generic on a macvlan: {scene.ports('a')['blue-3']}")
        scene.hosts["a"].ctl("vport", "update", "blue-3", "--attach", "auto")
        check_equal(hooks(scene, "a")["blue-3"], "tcx", "the macvlan is back on TC")
        for mode in ("generic", "native"):
            scene.hosts["a"].ctl("vport", "update", "blue-2", "--attach", mode)
            check_equal(hooks(scene, "a")["blue-2"], f"{mode}+tcx", f"{mode} XDP on a tap")
            check_equal([scene.ping("blue-2", "blue-3"), scene.ping("blue-3", "blue-2"), scene.ping("blue-5", "blue-2")],
                        [3, 3, 3], f"answers with {mode} XDP on a tap")


@case("over its rate, what a vPort is sent waits where fq is behind it, or behind each queue of mq, and is dropped elsewhere; "
      "status says which [R132]")
def _(bench):
    for mode in ("tcx", "native"):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network()}, attach=mode)
            scene.profiles = [{"name": "slow", "rate_out_mbps": 1, "burst_out_kib": 16}]
            scene.host_on_wire()
            scene.vm("a", "red", 1)
            vm = scene.vm("a", "red", 2, profile="slow")
            host, netdev = scene.hosts["a"], vm.netdev
            lab.unplug(host, vm)
            host.ip(f"link add {netdev} numtxqueues 2 type veth peer name eth0 address {vm.mac} numrxqueues 2 netns {vm.pid}",
                    f"link set {netdev} up")
            vm.ip("link set eth0 up")
            vm.set_address(vm.address)
            scene.start()

            def arrive(text, frames=26):
                """A burst beyond what the vPort may be sent at once, and within what fq may hold."""
                with scene.vms["red-1"].port("eth0") as sender, scene.vms["red-2"].port("eth0") as receiver:
                    for number in range(frames):
                        sender.send(frame(mac(2), mac(1), (b"ivds-mark %s %d " % (text, number)).ljust(986, b".")))
                    got = receiver.receive_until(lambda got: sum(text in data for data in got) == frames, 3)
                    return sum(text in data for data in got)

            def becomes(rates, when):
                lab.wait(lambda: scene.ports("a")["red-2"]["rates"] == rates, 10, f"status does not say {rates} {when}")

            def qdisc(verb, *words):
                host.run("tc", "qdisc", verb, "dev", netdev, *words)

            becomes("policed", "without fq")
            arrived = arrive(b"policed")
            dropped = scene.drops("a").get(("red-2", "rate_out"), 0)
            check(dropped > 0, f"nothing was dropped: {arrived} arrived")
            check_equal(arrived + dropped, 26, "arrived and dropped")
            qdisc("replace", "root", "fq")
            becomes("shaped", "with fq")
            time.sleep(1)  # until nothing is owed
            check_equal(arrive(b"shaped"), 26, "arrived through fq")
            qdisc("delete", "root")
            becomes("policed", "without fq again")
            qdisc("replace", "root", "handle", "1:", "mq")
            qdisc("replace", "parent", "1:1", "fq")
            becomes("policed", "with fq behind one queue of two")
            qdisc("replace", "parent", "1:2", "fq")
            becomes("shaped", "with fq behind both")
            time.sleep(1)
            check_equal(arrive(b"queues"), 26, "arrived through mq and fq")
            check_equal(scene.drops("a")["red-2", "rate_out"], dropped, "dropped since fq is there")
            if mode == "tcx":
                host.stop_agent()
                host.start_agent()
                becomes("shaped", "as an agent finds it")
            qdisc("replace", "parent", "1:2", "pfifo")
            becomes("policed", "with another qdisc behind one")


main()
