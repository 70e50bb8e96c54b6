# SPDX-License-Identifier: Apache-2.0
"""isolation_test.py -- nothing crosses between networks, whichever way the switch is attached."""
from harness import case, check, check_equal, main
from isolation import NETWORKS, attempt, build, judge
from scene import Scene, Tally, frame, mac, tag


for mode in ("auto", "native", "generic", "tcx", "clsact"):
    @case(f"nothing crosses between networks, attached by {mode} [R3][R5][R67][R74][R84][R85][R113][R114]")
    def _(bench, mode=mode):
        judge(mode, bench)


@case("the tally sees a leak when a VM is plugged into the wrong network")
def _(bench):
    with bench.lab() as lab:
        scene = build(lab, "auto")
        # blue-1 is put into red by a mistake of configuration, and has a MAC that red does not.
        scene.vms["blue-1"].mac = mac(4)
        scene.vms["blue-1"].ip("link set eth0 address " + mac(4))
        scene.network_of["blue-1"] = "red"
        scene.start()
        scene.network_of["blue-1"] = "blue"
        tally, _, _ = attempt(scene)
        check(tally.leaks().get(("blue-1", "red-2"), 0) > 0, "blue-1 to red-2 was not seen")
        check(tally.leaks().get(("red-3", "blue-1"), 0) > 0, "red-3 to blue-1, across the wire, was not seen")


@case("from the wire, 4092 foreign V.VLANs and as many foreign VLANs reach no VM and are counted [R107]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {name: NETWORKS[name] for name in ("red", "blue")})
        _, far = scene.host_on_wire()
        for name in ("red", "blue"):
            scene.vm("a", name, 1)
        scene.start()
        tally = Tally(scene)
        sent = 0
        with far.port("wire0") as wire:
            for vid in range(1, 4095):
                if vid not in (10, 20):
                    wire.send(frame(mac(1), mac(3), "ivds-mark wire ", tag(100) + tag(vid)))
                    sent += 1
            check_equal(sent, 4092, "foreign V.VLANs")
            unknown = 0
            for vid in range(1, 4095):
                if vid != 100:
                    wire.send(frame(mac(1), mac(3), "ivds-mark wire ", tag(vid) + tag(10)))
                    unknown += 1
            # The witness: the right pair arrives, at red alone.
            scene.network_of["wire"] = "red"
            wire.send(frame(mac(1), mac(3), "ivds-mark wire ", tag(100) + tag(10)))
        tally.settle(1)
        check_equal(tally.got, {("wire", "red-1"): 1}, "frames that reached VMs")
        drops = scene.drops("a")
        check_equal(drops.get(("uplink", "unknown_vvlan"), 0), sent, "counted as unknown V.VLAN")
        check_equal(drops.get(("uplink", "unknown_vlan"), 0), unknown, "counted as unknown VLAN")
        misses = scene.hosts["a"].ctl_json("stats").get("misses", [])
        check(len(misses) > 1000, f"misses by pair: {len(misses)}")
        tally.close()


main()
