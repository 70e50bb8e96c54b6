# SPDX-License-Identifier: Apache-2.0
"""mirror_test.py -- copies of frames: to a vPort, on a VLAN of the wire, in ERSPAN, and as a capture; as a receiver and
tshark see them, beside what the switch counts."""
import time

from harness import case, check, check_equal, main
from scene import BROADCAST, MARK, Scene, frame, mac, network, tag


class Watched:
    """Two VMs of `red` on host a and one on b, and a probe in a network of its own that gets copies."""

    def __init__(self, lab, mode="auto", **vport):
        self.lab = lab
        self.scene = Scene(lab, {"red": network(), "watch": network(vvlan=99)}, attach=mode, wire_mtu=9000)
        self.scene.profiles = [{"name": "carry", "guest_tags": "carry", "mtu_bytes": 1500}]
        self.a, self.b = self.scene.two_hosts()
        for number, host in ((1, "a"), (2, "a"), (3, "b")):
            self.scene.vm(host, "red", number, profile="carry", **vport)
        self.scene.vm("a", "watch", 8, mtu=9000)
        self.scene.start()
        self.ports = self.scene.raw_ports()

    def mirror(self, *mirrors):
        config = self.scene.config("a")
        config["mirrors"] = list(mirrors)
        self.a.apply(config)

    def send(self, sender, data):
        self.ports[sender].send(data)

    def marked(self, port, wanted, pause=0.3):
        """The marked frames that have come to a VM, or a raw port, once there are `wanted`."""
        port = self.ports[port] if isinstance(port, str) else port
        got = []

        def look():
            got.extend(data for data in port.receive() if MARK in data)
            return len(got) >= wanted

        try:
            self.lab.wait(look, 5, "")
        except Exception:
            pass
        time.sleep(pause)
        look()
        return got

    def state(self, name):
        states = {state["name"]: state for state in self.a.ctl_json("mirror", "state").get("mirrors", [])}
        return {key: int(states[name].get(key, 0)) for key in ("packets", "bytes", "refused", "cut")}


def red(destination, source, text, tags=b""):
    return frame(mac(destination) if isinstance(destination, int) else destination, mac(source), MARK + text.encode(), tags)


for mode in ("auto", "native"):
    @case(f"a vPort gets copies that are byte for byte what VMs send and get, tags and all, once each, by {mode} [R137][R138]")
    def _(bench, mode=mode):
        with bench.lab() as lab:
            w = Watched(lab, mode)
            sources = {"in": ["out to a VM", "tagged", "flood", "to the wire"], "out": ["from a VM", "from the wire"]}
            frames = {
                "out to a VM": ("red-1", red(2, 1, "red-1 out ")),
                "tagged": ("red-1", red(2, 1, "red-1 tagged ", tag(7))),
                "flood": ("red-1", red(BROADCAST, 1, "red-1 flood ")),
                "to the wire": ("red-1", red(3, 1, "red-1 away ")),
                "from a VM": ("red-2", red(1, 2, "red-2 back ")),
                "from the wire": ("red-3", red(1, 3, "red-3 back ")),
            }
            for direction in ("in", "out", "both"):
                w.mirror({"name": "m", "sources": [{"vport": "red-1", "direction": direction}], "to_vport": "watch-8"})
                for port in w.ports.values():
                    port.receive()
                before = w.state("m")
                for sender, data in frames.values():
                    w.send(sender, data)
                names = sources["in"] + sources["out"] if direction == "both" else sources[direction]
                wanted = sorted(frames[name][1] for name in names)
                got = w.marked("watch-8", len(wanted))
                check_equal(sorted(got), wanted, f"copies, {direction}")
                after = w.state("m")
                check_equal({key: after[key] - before[key] for key in after},
                            {"packets": len(got), "bytes": sum(map(len, got)), "refused": 0, "cut": 0}, "counters")
                check_equal(sorted(w.marked("red-2", 3, 0)), sorted(frames[name][1] for name in ("out to a VM", "tagged", "flood")),
                            "the originals")
            # A frame between two VMs of a mirrored instance is copied once, and so is a flood to several of them.
            w.mirror({"name": "m", "sources": [{"instance": "red"}], "to_vport": "watch-8"})
            for sender, data in frames.values():
                w.send(sender, data)
            check_equal(sorted(w.marked("watch-8", 6)), sorted(data for _, data in frames.values()), "copies of the instance")


main()
