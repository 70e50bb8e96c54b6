# SPDX-License-Identifier: Apache-2.0
"""modes_test.py -- piggyback and independent networks, several VLANs for one network, and sizes of frames."""
from harness import case, check, check_equal, main
from lab import LabError
from scene import Scene, Tally, frame, mac, network, tag


def tags_on_wire(wire, seconds=2):
    """The {outer, inner} pairs of the frames with our mark that come in at a raw port."""
    frames = wire.receive_until(lambda got: any(b"ivds-mark" in data for data in got), seconds)
    return {(int.from_bytes(data[12:14], "big"), int.from_bytes(data[14:16], "big") & 4095,
             int.from_bytes(data[16:18], "big"), int.from_bytes(data[18:20], "big") & 4095)
            for data in frames if b"ivds-mark" in data}


@case("eight V.VLANs on one VLAN, and the same V.VLAN under two VLANs, are networks of their own [R73][R74]")
def _(bench):
    with bench.lab() as lab:
        networks = {f"n{v}": network(vlan=100, vvlan=v) for v in range(1, 9)}
        networks["other"] = network(vlan=101, vvlan=1)
        scene = Scene(lab, networks)
        scene.two_hosts()
        for name in networks:
            scene.vm("a", name, 1)
            scene.vm("b", name, 2)
        scene.start()
        scene.check_pings()
        tally = Tally(scene)
        for name in networks:
            tally.send(f"{name}-1", mac(2))
        tally.settle(len(networks))
        tally.close()
        check_equal(tally.got, {(f"{name}-1", f"{name}-2"): 1 for name in networks}, "who got whose frame")


@case("a frame on the wire is DA SA outer-TPID VLAN inner-TPID V.VLAN type payload [R68][R69][R86][R91][R191]")
def _(bench):
    for outer, inner in (("0x8100", "0x8100"), ("0x88a8", "0x8100"), ("0x9100", "0x88a8")):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network(vlan=4094, vvlan=1)},
                          uplink={"outer_tpid": outer, "inner_tpid": inner})
            _, far = scene.host_on_wire()
            vm = scene.vm("a", "red", 1)
            scene.start()
            with far.port("wire0") as wire, vm.port("eth0") as port:
                sent = frame(mac(9), mac(1), "ivds-mark out ")
                port.send(sent)
                got = wire.receive_until(lambda frames: any(b"ivds-mark out" in f for f in frames))
                wanted = sent[:12] + tag(4094, int(outer, 16)) + tag(1, int(inner, 16)) + sent[12:]
                check_equal([f for f in got if b"ivds-mark" in f], [wanted], f"on the wire with {outer}, {inner}")
                back = frame(mac(1), mac(9), "ivds-mark back ")
                wire.send(back[:12] + tag(4094, int(outer, 16)) + tag(1, int(inner, 16)) + back[12:])
                got = port.receive_until(lambda frames: any(b"ivds-mark back" in f for f in frames))
                check_equal([f for f in got if b"ivds-mark" in f], [back], "at the VM, without tags")


@case("independent networks share one transport VLAN, and it may change without touching their members [R76][R77]")
def _(bench):
    with bench.lab() as lab:
        networks = {"red": network(vvlan=10, independent=True), "blue": network(vvlan=20, independent=True)}
        scene = Scene(lab, networks, uplink={"transport_vlan": 300})
        scene.two_hosts()
        for name in networks:
            scene.vm("a", name, 1)
            scene.vm("b", name, 2)
        scene.start()
        scene.check_pings()
        before = {name: port["instance"] for name, port in scene.ports("a").items()}
        scene.uplink_fields = {"transport_vlan": 301}
        for host in scene.hosts:
            scene.apply(host)
        scene.check_pings()
        check_equal({name: port["instance"] for name, port in scene.ports("a").items()}, before, "members")


@case("one network spans hosts on different outer VLANs: floods go to each, and the FDB says which VLAN reaches whom")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": {}})
        a, b = scene.two_hosts()
        scene.vm("a", "red", 1)
        scene.vm("b", "red", 2)
        here = {"a": network(vlan=10, vvlan=7, peer_vlans=[20]), "b": network(vlan=20, vvlan=7, peer_vlans=[10])}
        for host, fields in here.items():
            scene.networks["red"] = fields
            scene.hosts[host].start_agent()
            scene.apply(host)
        scene.check_pings()
        here["a"]["fdb"] = [{"mac": mac(2), "vlan": 20}]
        here["b"]["fdb"] = [{"mac": mac(1), "vlan": 10}]
        for host, fields in here.items():
            scene.networks["red"] = fields
            scene.apply(host)
        with a.port("wire0") as at_a, b.port("wire0") as at_b:
            check_equal(scene.ping("red-1", "red-2"), 3, "answers")
            for name, port, vlan in (("a", at_a, 10), ("b", at_b, 20)):
                vlans = [int.from_bytes(f[14:16], "big") & 4095 for f in port.receive() if f[20:22] == b"\x08\0"]
                check_equal(vlans, [vlan] * 3, f"outer VLANs of the pings that came in at host {name}")


@case("two VMs on one host talk in a network of scope local, which is the default, with an uplink or none [R45][R46][R151]")
def _(bench):
    for uplink in ("uplink", ""):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": {"mode": "piggyback", "vlan": 100, "vvlan": 10, "uplink": uplink}})
            _, far = scene.host_on_wire()
            scene.vm("a", "red", 1)
            scene.vm("a", "red", 2)
            scene.start()
            with far.port("wire0") as wire:
                scene.check_pings()
                # Not even an unknown destination goes to the wire, nor comes in from it.
                tally = Tally(scene)
                tally.send("red-1", mac(50))
                wire.send(frame(mac(1), mac(3), "ivds-mark wire ", tag(100) + tag(10)))
                tally.settle(1)
                tally.close()
                check_equal(tally.got, {("red-1", "red-2"): 1}, "who got whose frame")
                check_equal(wire.receive(), [], "frames on the wire")


@case("traffic between VMs of one host never appears on the wire [R111][R112][R184]")
def _(bench):
    for attach in ("native", "tcx"):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network()}, attach=attach)
            _, far = scene.host_on_wire()
            scene.vm("a", "red", 1)
            scene.vm("a", "red", 2)
            scene.start()
            scene.check_pings()
            with far.port("wire0") as wire:
                check_equal(scene.ping("red-1", "red-2", count=20), 20, "answers")
                tally = Tally(scene)
                for _ in range(100):
                    tally.send("red-1", mac(2))
                tally.settle(100)
                tally.close()
                check_equal(tally.got, {("red-1", "red-2"): 100}, "frames that arrived")
                on_wire = [data for data in wire.receive() if b"ivds-mark" in data]
                check_equal(len(on_wire), 0, f"frames on the wire ({attach})")
            counters = scene.counters("a", "red-1")
            check(counters["rx_local"] >= 120, f"rx_local: {counters}")
            check_equal(counters["rx_packets"], counters["rx_local"] + counters["rx_wire"] + counters["rx_flood"],
                        f"the ways sum up: {counters}")


@case("jumbo frames pass where MTUs allow, and what is larger is dropped and counted [R145]")
def _(bench):
    for attach in ("tcx", "generic"):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network(mtu_bytes=9000), "blue": network(vvlan=20, mtu_bytes=1500)},
                          attach=attach, wire_mtu=9008)
            scene.two_hosts()
            for name in ("red", "blue"):
                scene.vm("a", name, 1, mtu=9000)
                scene.vm("a", name, 2, mtu=9000)
                scene.vm("b", name, 3, mtu=9000)
            scene.start()
            scene.check_pings()
            for other in ("red-2", "red-3"):
                check_equal(scene.ping("red-1", other, "-s", "8972", "-M", "do"), 3, f"jumbo pings to {other}")
            check_equal(scene.ping("blue-1", "blue-3", "-s", "1472", "-M", "do"), 3, "pings of 1500 B")
            before = scene.dropped("a", "oversize")
            for other in ("blue-2", "blue-3"):
                check_equal(scene.ping("blue-1", other, "-s", "1473", "-M", "do"), 0, f"pings of 1501 B to {other}")
            check_equal(scene.dropped("a", "oversize") - before, 6, "frames counted as oversize")


@case("an uplink without room for the two tags is named, and full frames to it are counted [R145]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()}, attach="tcx", wire_mtu=1500)
        a, _ = scene.two_hosts()
        scene.vm("a", "red", 1)
        scene.vm("b", "red", 2)
        scene.start()
        check_equal(scene.ping("red-1", "red-2", "-s", "1464", "-M", "do"), 3, "pings that fit with the tags")
        check_equal(scene.ping("red-1", "red-2", "-s", "1472", "-M", "do"), 0, "pings that do not")
        check(scene.dropped("a", "oversize_out") >= 3, f"counted as oversize_out: {scene.drops('a')}")
        done = a.ctl("doctor", check=False)
        check("mtu" in done.stdout.lower(), f"doctor says nothing of the MTU:\n{done.stdout}")


@case("the mode of a network with ports is not changed under way: it must drain first [R78]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()}, uplink={"transport_vlan": 300})
        a, _ = scene.host_on_wire()
        scene.vm("a", "red", 1)
        scene.vm("a", "red", 2)
        scene.start()
        scene.networks["red"] = network(vvlan=10, independent=True)
        try:
            a.apply(scene.config("a"))
            check(False, "the mode changed under way")
        except LabError as error:
            check("drain" in str(error), f"the refusal does not say what to do: {error}")
        scene.networks["red"] = network(draining=True)
        a.apply(scene.config("a"))
        check_equal(scene.ping("red-1", "red-2"), 0, "answers while it drains")
        scene.networks["red"] = network(vvlan=10, independent=True, draining=True)
        a.apply(scene.config("a"))
        scene.networks["red"] = network(vvlan=10, independent=True)
        a.apply(scene.config("a"))
        scene.check_pings()


main()
