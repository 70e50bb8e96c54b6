# SPDX-License-Identifier: Apache-2.0
"""switch_test.py -- the switch on Linux 6.12 over NICs of the driver igb; scripts/lab.sh boots them."""
import os

import nics
from harness import case, check, check_equal, main
from isolation import judge
from nics import NicScene, wire_frames, wire_position
from scene import Scene, Tally, frame, mac, network, tag

os.system("modprobe -q 8021q")


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
