# SPDX-License-Identifier: Apache-2.0
"""mirror_test.py -- copies of frames: to a vPort, on a VLAN of the wire, in ERSPAN, and as a capture; as a receiver and
tshark see them, beside what the switch counts."""
import subprocess
import tempfile
import time

from harness import case, check, check_equal, main
from scapy.all import IP, TCP, Ether, rdpcap, wrpcap
from scene import BROADCAST, MARK, Scene, armed, frame, mac, network, tag


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
            check_equal(w.scene.ping("red-1", "red-3"), 3, "pings, so that both hosts know where the VMs are")
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



def tshark(path, *fields, decode=()):
    """The packets of a file as tshark reads them: a row of these fields each."""
    words = ["tshark", "-r", path, "-T", "fields", "-E", "separator=|", "-E", "occurrence=a"]
    for field in fields:
        words += ["-e", field]
    done = subprocess.run([*words, *decode], capture_output=True, text=True, check=True)
    return [line.split("|") for line in done.stdout.splitlines()]


def save(path, frames):
    wrpcap(path, [Ether(data) for data in frames])


@case("copies go out in a VLAN of their own on the wire, the frame's tags behind it [R137]")
def _(bench):
    with bench.lab() as lab:
        w = Watched(lab)
        w.mirror({"name": "m", "sources": [{"vport": "red-1", "direction": "in"}], "to_uplink": "uplink", "rspan_vlan": 900})
        wire = w.b.port("wire0")
        data, tagged = red(2, 1, "red-1 out "), red(2, 1, "red-1 tagged ", tag(7))
        w.send("red-1", data)
        w.send("red-1", tagged)
        wanted = [one[:12] + tag(900) + one[12:] for one in (data, tagged)]
        check_equal(w.marked(wire, 2), wanted, "frames on the wire")
        check_equal(w.state("m"), {"packets": 2, "bytes": len(data) + len(tagged), "refused": 0, "cut": 0}, "counters")


for version in ("II", "III"):
    for family, local, remote in (("IPv4", "192.0.2.1", "192.0.2.2"), ("IPv6", "fd00:2::1", "fd00:2::2")):
        @case(f"copies arrive in ERSPAN {version} over {family} as tshark reads it, and count [R137][R138]")
        def _(bench, version=version, family=family, local=local, remote=remote):
            with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
                w = Watched(lab)
                for host, address in ((w.a, local), (w.b, remote)):
                    host.run("sysctl", "-qw", "net.ipv6.conf.wire0.disable_ipv6=0")
                    host.ip(f"addr add {address}/{24 if family == 'IPv4' else 64} dev wire0"
                            + ("" if family == "IPv4" else " nodad"))
                w.mirror({"name": "m", "sources": [{"vport": "red-1", "direction": "in"}], "erspan_remote": remote,
                          "erspan": version.lower(), "session_id": 77, "index": 21})
                wire = w.b.port("wire0")
                frames = [red(2, 1, "red-1 out "), red(2, 1, "red-1 tagged ", tag(7)), red(BROADCAST, 1, "red-1 flood ")]
                # The first finds the neighbour.
                for data in frames:
                    w.send("red-1", data)
                    time.sleep(0.2)
                got = [data for data in w.marked(wire, 4) if data[12:14] in (b"\x08\0", b"\x86\xdd")]
                check_equal(len(got), len(frames), "packets")
                for data, inner in zip(got, frames):
                    check(data.endswith(inner), f"the copy is not the frame: {data.hex()} for {inner.hex()}")
                save(f"{folder}/erspan.pcap", got)
                ip = "ip" if family == "IPv4" else "ipv6"
                rows = tshark(f"{folder}/erspan.pcap", f"{ip}.src", f"{ip}.dst", "erspan.version", "erspan.spanid",
                              "erspan.index" if version == "II" else "erspan.hw", "gre.sequence_number", "eth.src", "ip.checksum.status",
                              decode=("-o", "ip.check_checksum:TRUE"))
                print(rows)
                for number, row in enumerate(rows):
                    check_equal(row[:2], [local, remote], "addresses")
                    check_equal([int(value, 0) for value in row[2:6]], [1 if version == "II" else 2, 77, 21, number],
                                "version, session, index and sequence number")
                    check(row[6].endswith(mac(1)), f"the source inside is {row[6]}")
                    check_equal(row[7], "1" if family == "IPv4" else "", "the outer checksum")
                check_equal(w.state("m"), {"packets": 3, "bytes": sum(map(len, frames)), "refused": 0, "cut": 0}, "counters")


@case("filter, snap and sampling leave out what they shall, also of TCP in large pieces, and count the rest [R137]")
def _(bench):
    with bench.lab() as lab:
        w = Watched(lab)
        source = {"sources": [{"vport": "red-1", "direction": "in"}], "to_vport": "watch-8"}
        w.mirror({"name": "m", **source, "filter": [{"dst_mac": mac(2), "action": "allow"}], "snap_bytes": 64})
        long = red(2, 1, "red-1 long " + "x" * 500)
        w.send("red-1", red(3, 1, "red-1 other "))
        w.send("red-1", long)
        check_equal(w.marked("watch-8", 1), [long[:64]], "what the filter allows, cut")
        check_equal(w.state("m"), {"packets": 1, "bytes": 64, "refused": 0, "cut": 0}, "counters")
        w.mirror({"name": "n", **source, "sample": 5, "filter": [{"ethertype": "0x88b5", "action": "allow"}]})
        for _ in range(50):
            w.send("red-1", red(2, 1, "red-1 sampled "))
        check_equal(len(w.marked("watch-8", 10)), 10, "one of five")
        # TCP with segmentation left to the NIC: each copy is one frame of the wire, with its checksum.
        w.mirror({"name": "t", **source, "filter": [{"protocol": "tcp", "action": "allow"}]})
        w.ports["watch-8"].receive()
        w.scene.transfer("red-1", "red-2", 1)
        time.sleep(0.5)
        got = [data for data in w.ports["watch-8"].receive() if data[6:12] == bytes.fromhex(mac(1).replace(":", ""))]
        sizes = [len(data) for data in got]
        check(max(sizes) == 1514, f"the largest copy has {max(sizes)} bytes")
        check(sum(sizes) > 1 << 20, f"{sum(sizes)} bytes of copies")
        for data in got[:200]:
            packet = IP(data[14:])
            wanted = packet[TCP].chksum
            del packet[TCP].chksum
            check_equal(IP(bytes(packet))[TCP].chksum, wanted, "checksum of a segment")
        state = w.state("t")
        check_equal((state["packets"], state["bytes"], state["refused"]), (len(got), sum(sizes), 0), "counters")


@case("what is dropped is copied with its reason; a capture is read by tshark and tcpdump, and leaves nothing behind [R140]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
        w = Watched(lab)

        def capture(target, *words):
            path = f"{folder}/{target}.pcapng"
            process = w.a.start("ivds-ctl", "capture", target, "-w", path, *words, stderr=-1)
            check("capturing" in process.stderr.readline(), "the capture does not begin")
            return path, process

        path, process = capture("red-1", "--count", "2")
        data, back = red(2, 1, "red-1 out "), red(1, 2, "red-2 back ", tag(7))
        w.send("red-1", data)
        time.sleep(0.1)
        w.send("red-2", back)
        check_equal(process.wait(20), 0, "exit code")
        rows = tshark(path, "frame.comment", "frame.interface_name", "frame.len", "eth.src")
        check_equal(rows, [["in red-1", "red-1", str(len(data)), mac(1)], ["out red-1", "red-1", str(len(back)), mac(2)]],
                    "the capture of a vPort")
        check_equal([bytes(p) for p in rdpcap(path)], [data, back], "bytes")
        read = subprocess.run(["tcpdump", "-Z", "root", "-nr", path], capture_output=True, text=True)
        check_equal(sum(not line.startswith("\t") for line in read.stdout.splitlines()), 2, f"lines of tcpdump: {read.stderr}")

        path, process = capture("drops", "--count", "1")
        forged = red(2, 9, "red-1 forged ")
        w.send("red-1", forged)
        check_equal(process.wait(20), 0, "exit code")
        check_equal(tshark(path, "frame.comment", "frame.len"), [["drop spoof red-1", str(len(forged))]], "the capture of drops")

        # Killed, it is gone as well: no session, no tap.
        _, process = capture("red")
        check("ivds-mirror" in w.a.run("ip", "-o", "link").stdout, "no tap")
        process.kill()
        process.wait(10)
        lab.wait(lambda: "ivds-mirror" not in w.a.run("ip", "-o", "link").stdout, 10, "the capture outlives its reader")
        check_equal(w.scene.ping("red-1", "red-2"), 3, "pings")


@case("a capture's filter takes what it names, tags as they are there, whatever is cut; a wrong one arms nothing [R140]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
        w = Watched(lab)
        path = f"{folder}/x.pcapng"
        out, back, away = red(2, 1, "red-1 out "), red(1, 2, "red-2 back "), red(3, 1, "red-1 away ")
        tagged, forged = red(2, 1, "red-1 tagged ", tag(7)), red(2, 9, "red-1 forged ")
        near, far = red(2, 1, "red-1 near " + "n" * 500), red(2, 1, "red-1 far " + "f" * 500)
        all_frames = [("red-1", out), ("red-2", back), ("red-1", away), ("red-1", tagged), ("red-1", forged), ("red-1", near),
                      ("red-1", far)]

        def captured(target, text, count, *words):
            process = w.a.start("ivds-ctl", "capture", target, text, "-w", path, "--count", count, *words, stderr=-1)
            check("capturing" in process.stderr.readline(), f"the capture of {target} does not begin")
            for sender, data in all_frames:
                w.send(sender, data)
                time.sleep(0.02)
            check_equal(process.wait(20), 0, "exit code")
            check_equal(process.stderr.read(), f"{count} frames captured, 0 lost\n", f"the end of '{text}'")
            return [bytes(packet) for packet in rdpcap(path)]

        # Asked for one more than match, it would not end; were others taken, they would be among the first.
        check_equal(captured("red-1", f"ether src {mac(2)}", 1), [back], "what red-1 is sent")
        check_equal(captured("red", f"ether src {mac(1)} and not vlan and greater 400", 2), [near, far], "large ones of red")
        check_equal(captured("red-1", "vlan 7", 1), [tagged], "the VM's own tag")
        check_equal(captured("drops", f"ether src {mac(9)}", 1), [forged], "what is dropped")
        wire = away[:12] + tag(100) + tag(10) + away[12:]
        check_equal(captured("uplink", f"vlan 100 and vlan 10 and ether proto 0x88b5 and ether dst {mac(3)}", 1), [wire],
                    "both tags of the wire")
        # The filter looks behind what is kept.
        check_equal(captured("red-1", "ether[300] = 0x66", 1, "--snap", "20"), [far[:20]], "the first bytes")
        check_equal(tshark(path, "frame.len", "frame.cap_len"), [[str(len(far)), "20"]], "lengths")
        lab.wait(lambda: armed(w.a) == ({}, {}), 10, "a capture outlives its reader")

        for text in ("tcp prt 80", "ip and arp"):
            done = w.a.ctl("capture", "red-1", text, check=False)
            check_equal(done.returncode, 2, f"exit code of '{text}'")
            check(f"the filter '{text}' is none: " in done.stderr and "IVDS-A020" in done.stderr and "fix: " in done.stderr,
                  f"{done.stderr!r}")
            check_equal(len(done.stderr.splitlines()), 2, "lines")
        check_equal(armed(w.a), ({}, {}), "what wrong filters arm")


main()
