# SPDX-License-Identifier: Apache-2.0
"""mirror_test.py -- copies of frames: to a vPort, on a VLAN of the wire, in ERSPAN, and as a capture; as a receiver and
tshark see them, beside what the switch counts."""
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from harness import case, check, check_equal, main
from lab import written
from scapy.all import IP, TCP, Ether, rdpcap, wrpcap
from scene import BROADCAST, MARK, Scene, armed, frame, mac, network, tag


class Watched:
    """Two VMs of `red` on host a and one on b, and a probe in a network of its own that gets copies."""

    def __init__(self, lab, mode="auto", agent=(), group="", **vport):
        """`agent`: a program, and its words, that host a's agent is started by. `group`: a line more of host a's groups."""
        self.lab = lab
        self.scene = Scene(lab, {"red": network(), "watch": network(vvlan=99)}, attach=mode, wire_mtu=9000)
        self.scene.profiles = [{"name": "carry", "guest_tags": "carry", "mtu_bytes": 1500}]
        self.a, self.b = self.scene.two_hosts()
        for number, host in ((1, "a"), (2, "a"), (3, "b")):
            self.scene.vm(host, "red", number, profile="carry", **vport)
        self.scene.vm("a", "watch", 8, mtu=9000)
        if group:
            self.a.run("sh", "-ec", f"(cat /etc/group; echo '{group}') >/run/group; mount --bind /run/group /etc/group")
        if agent:
            self.a.start_agent(*agent[1:], program=agent[0])
        self.scene.start()
        # A VM's kernel asks a neighbour again five seconds after a ping, which a slow machine would find among the copies.
        for vm in self.scene.vms.values():
            vm.sysctl(ipv4__neigh__eth0__delay_first_probe_time=3600)
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


for mode in ("auto", "native"):
    @case(f"what a vPort loses, what a rule names, and what an uplink carries without the wire's tags are sources, by {mode} [R137][R138]")
    def _(bench, mode=mode):
        with bench.lab() as lab:
            w = Watched(lab, mode)
            check_equal(w.scene.ping("red-1", "red-3"), 3, "pings, so that both hosts know where the VMs are")
            out, away, back = red(2, 1, "red-1 out "), red(3, 1, "red-1 away "), red(1, 3, "red-3 back ")
            across, forged, late = red(2, 3, "red-3 across "), red(2, 9, "red-1 forged "), red(2, 1, "red-1 late ")
            all_frames = [("red-1", out), ("red-1", away), ("red-3", back), ("red-3", across), ("red-1", forged), ("red-1", late)]

            def copies(wanted, what, mirror, rules=()):
                """Sends all, and looks at the copies, the counters and the originals."""
                w.scene.vport_fields["red-1"]["rules"] = [*rules, {"name": "late", "direction": "in", "priority": 9, "action": "drop",
                                                                   "ethertype": "0x88b5", "src_mac": mac(1), "dst_mac": mac(4)}]
                # What the VMs say by themselves, ARP, is left out.
                w.mirror({"name": "m", **mirror, "to_vport": "watch-8", "filter": [{"ethertype": "0x88b5"}]})
                for port in w.ports.values():
                    port.receive()
                before = w.state("m")
                for sender, data in all_frames:
                    w.send(sender, data)
                check_equal(sorted(w.marked("watch-8", len(wanted))), sorted(wanted), f"copies of {what}")
                after = w.state("m")
                check_equal({key: after[key] - before[key] for key in after},
                            {"packets": len(wanted), "bytes": sum(map(len, wanted)), "refused": 0, "cut": 0}, f"counters, {what}")
                check_equal(sorted(w.marked("red-2", 3, 0)), sorted([out, across, late]), f"the originals beside {what}")
                check_equal(w.marked("red-3", 1, 0), [away], f"the original on the other host beside {what}")

            copies([forged], "the drops of a vPort", {"sources": [{"vport": "red-1", "drops": True}]})
            copies([forged], "the drops of an instance", {"sources": [{"instance": "red", "drops": True}]})
            seen = {"name": "seen", "direction": "in", "dst_mac": mac(2), "mirror": "m"}
            copies([out, late], "what a rule lets in", {}, [seen])
            copies([back], "what a rule lets out", {}, [{"name": "seen", "direction": "out", "src_mac": mac(3), "mirror": "m"}])
            wire = {data: data[:12] + tag(100) + tag(10) + data[12:] for data in (away, back, across)}
            copies(list(wire.values()), "an uplink", {"sources": [{"uplink": "uplink"}]})
            copies(list(wire), "an uplink, stripped", {"sources": [{"uplink": "uplink"}], "strip_tags": True})
            copies([away], "what leaves by it, stripped", {"sources": [{"uplink": "uplink", "direction": "out"}], "strip_tags": True})
            # What is lost on the way out, too: over a rate, of which the first frame is within.
            w.scene.profiles = [{"name": "carry", "guest_tags": "carry", "mtu_bytes": 1500}, {"name": "slow", "rate_out_mbps": 1,
                                                                                           "burst_out_kib": 1}]
            w.scene.vport_fields["red-2"]["profile"] = "slow"
            w.mirror({"name": "m", "sources": [{"vport": "red-2", "drops": True}], "to_vport": "watch-8",
                      "filter": [{"ethertype": "0x88b5"}]})
            before, lost = w.state("m")["packets"], w.scene.drops("a").get(("red-2", "rate_out"), 0)
            large = red(2, 1, "red-1 large " + "x" * 1000)
            for _ in range(20):
                w.send("red-1", large)
            got = w.marked("watch-8", 10)
            lost = w.scene.drops("a").get(("red-2", "rate_out"), 0) - lost
            check(lost >= 10 and got == [large] * lost, f"{len(got)} copies of {lost} frames over the rate")
            check_equal(w.state("m")["packets"] - before, lost, "counter of those")


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


@case("cut copies arrive in ERSPAN II and III over IPv4 and IPv6 as tshark reads them, and say that they are cut [R137][R138]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
        w = Watched(lab)
        for host, end in ((w.a, 1), (w.b, 2)):
            host.run("sysctl", "-qw", "net.ipv6.conf.wire0.disable_ipv6=0")
            host.ip(f"addr add 192.0.2.{end}/24 dev wire0", f"addr add fd00:2::{end}/64 dev wire0 nodad")
        kinds = [(version, remote, 10 + number) for number, (version, remote) in enumerate(
            (version, remote) for version in ("ii", "iii") for remote in ("192.0.2.2", "fd00:2::2"))]
        w.mirror(*({"name": f"m{session}", "sources": [{"vport": "red-1", "direction": "in"}], "erspan_remote": remote,
                    "erspan": version, "session_id": session, "snap_bytes": 64} for version, remote, session in kinds))
        wire = w.b.port("wire0")
        frames = [red(2, 1, "red-1 long " + "x" * 500), red(2, 1, "red-1 tagged " + "y" * 300, tag(7)), red(2, 1, "red-1 short ")]
        for data in frames:
            w.send("red-1", data)
            time.sleep(0.2)  # the first finds the neighbour
        got = [data for data in w.marked(wire, 12) if data[12:14] in (b"\x08\0", b"\x86\xdd")]
        save(f"{folder}/erspan.pcap", got)
        rows = tshark(f"{folder}/erspan.pcap", "erspan.spanid", "erspan.version", "erspan.truncated", "frame.len", "ip.version",
                      "eth.src", "vlan.id")
        for version, remote, session in kinds:
            copies = [(row, data) for row, data in zip(rows, got) if int(row[0], 0) == session]
            check_equal(len(copies), len(frames), f"copies of ERSPAN {version} to {remote}")
            headers = 14 + (20 if "." in remote else 40) + (16 if version == "ii" else 20)
            for (row, data), inner in zip(copies, frames):
                check_equal(data[headers:], inner[:64], f"the copy in ERSPAN {version} to {remote}")
                check_equal(int(row[1], 0), 1 if version == "ii" else 2, "version")
                check_equal(row[2] in ("1", "True"), len(inner) > 64, f"whether it is said to be cut: {row}")
                check(row[5].endswith(mac(1)) and ("7" in row[6]) == (b"tagged" in inner), f"what is inside: {row}")
            wanted = [min(len(inner), 64) for inner in frames]
            check_equal(w.state(f"m{session}"), {"packets": 3, "bytes": sum(wanted), "refused": 0, "cut": 0}, "counters")


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


@case("copies that find no room on their way are counted for their session, piece by piece: none is missing [R138]")
def _(bench):
    with bench.lab() as lab:
        w = Watched(lab)
        # A large piece of TCP is so many frames for so many mirrors at once that the kernel's queue cannot hold them.
        names = [f"m{number}" for number in range(30)]
        w.mirror(*({"name": name, "sources": [{"vport": "red-1", "direction": "in"}], "to_vport": "watch-8"} for name in names))
        before = w.scene.counters("a", "red-1")["rx_packets"]
        w.scene.transfer("red-1", "red-2", 1)
        time.sleep(1)  # until the queues are empty
        # What was lost behind the last copy that came out on a CPU shows when the next one does.
        cpus = os.sched_getaffinity(0)
        for cpu in cpus:
            os.sched_setaffinity(0, {cpu})
            w.send("red-1", red(2, 1, "red-1 last "))
        os.sched_setaffinity(0, cpus)
        sent = w.scene.counters("a", "red-1")["rx_packets"] - before

        def states():
            return {state["name"]: {key: int(state.get(key, 0)) for key in ("packets", "bytes", "refused")}
                    for state in w.a.ctl_json("mirror", "state")["mirrors"]}

        time.sleep(1)  # until the queues are empty
        done = states()
        print(f"{sent} frames, copies lost of each: {[state['refused'] for state in done.values()]}")
        check_equal({name: state["packets"] + state["refused"] for name, state in done.items()}, dict.fromkeys(names, sent), "copies")
        check(sum(state["refused"] for state in done.values()) > 0, "no queue was ever full")
        for state in done.values():
            check(state["bytes"] <= 1514 * state["packets"], f"bytes of {state}")
        got = sum(data[6:12] == bytes.fromhex(mac(1).replace(":", "")) for data in w.ports["watch-8"].receive())
        check_equal(got, sum(state["packets"] for state in done.values()), "copies that arrived, and were counted as sent")


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


@case("whoever reads a capture too slowly loses copies, which are counted and said, and nothing else [R138][R140]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
        w = Watched(lab)
        process = w.a.start("ivds-ctl", "capture", "red-1", "-w", "-", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        check("capturing" in process.stderr.readline(), "the capture does not begin")
        sent, data = 16000, red(2, 1, "red-1 much " + "x" * 1400)
        arrived = 0
        for number in range(sent):
            w.send("red-1", data)
            if number % 100 == 99:
                arrived += sum(one == data for one in w.ports["red-2"].receive())
        arrived += len(w.marked("red-2", sent - arrived))
        check_equal(arrived, sent, "the originals")
        # Nobody read so far. What comes from here on finds its way again.
        path = pathlib.Path(folder) / "x.pcapng"
        with path.open("wb") as file:
            reader = w.a.start("cat", stdin=process.stdout, stdout=file)
            time.sleep(1)
            last = red(2, 1, "red-1 last ")
            w.send("red-1", last)
            lab.wait(lambda: last in path.read_bytes(), 20, "the capture does not go on")
            time.sleep(0.5)  # the count of those lost comes some times a second
            process.send_signal(signal.SIGINT)
            process.wait(20)
            process.stdout.close()
            reader.wait(20)
        said = process.stderr.read()
        captured, lost = int(said.split(" frames captured, ")[0].split()[-1]), int(said.split(" captured, ")[1].split()[0])
        print(said)
        check(lost > 0, f"nothing was lost: {said}")
        check_equal(captured + lost, sent + 1, f"captured and lost: {said}")
        check_equal(len(tshark(str(path), "frame.number")), captured, "frames in the file")


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


@case("a vPort behind a trunk gets copies with its tag, as one with an interface gets them without [R116][R137][R138]")
def _(bench):
    with bench.lab() as lab:
        w = Watched(lab)
        config = w.scene.config("a")
        config["vports"].append({"name": "behind", "trunk": "watch-8", "vid": 55, "instance": "red"})
        config["mirrors"] = [{"name": "m", "sources": [{"vport": "red-1"}], "to_vport": "behind", "filter": [{"ethertype": "0x88b5"}]}]
        w.a.apply(config)
        frames = [("red-1", red(2, 1, "red-1 out ")), ("red-1", red(2, 1, "red-1 tagged ", tag(7))), ("red-2", red(1, 2, "red-2 back "))]
        for sender, data in frames:
            w.send(sender, data)
        check_equal(sorted(w.marked("watch-8", 3)), sorted(data[:12] + tag(55) + data[12:] for _, data in frames), "copies")
        check_equal(w.state("m"), {"packets": 3, "bytes": sum(len(data) for _, data in frames), "refused": 0, "cut": 0}, "counters")
        check_equal(sorted(w.marked("red-2", 2, 0)), sorted(data for _, data in frames[:2]), "the originals")


@case("AF_XDP at the interface of a mirror's vPort reads the copies [R138][R169]")
def _(bench):
    with bench.lab() as lab:
        w = Watched(lab)
        w.mirror({"name": "m", "sources": [{"vport": "red-1"}], "to_vport": "watch-8", "filter": [{"ethertype": "0x88b5"}]})
        # Native XDP takes frames of a page, and sees the tags that are in the bytes.
        probe = w.scene.vms["watch-8"]
        probe.run("ip", "link", "set", "eth0", "mtu", "1500")
        w.a.run("ip", "link", "set", probe.netdev, "mtu", "1500")
        w.a.run("ethtool", "-K", probe.netdev, "txvlan", "off")
        said = tempfile.TemporaryFile("w+")
        reader = probe.start(bench.binaries.resolve() / "xsk-end", "eth0", stdout=said, stderr=subprocess.PIPE)
        lab.wait(lambda: reader.stderr.readline() == "reading\n", 10, "AF_XDP does not begin")
        frames = [("red-1", red(2, 1, "red-1 out ")), ("red-2", red(1, 2, "red-2 back ")), ("red-1", red(BROADCAST, 1, "red-1 flood ")),
                  ("red-1", red(2, 1, "red-1 tagged ", tag(7)))]
        for sender, data in frames:
            w.send(sender, data)

        def got():
            return sorted(line for line in written(said).split() if MARK.hex() in line)

        lab.wait(lambda: len(got()) >= len(frames), 10, "not all copies come")
        check_equal(got(), sorted(data.hex() for _, data in frames), "copies")
        check_equal(w.state("m")["packets"], len(frames), "copies that are counted")
        # Another way out of the VM there is none: the socket behind the interface sees nothing of them.
        check_equal(w.marked("watch-8", 1, 0), [], "copies that AF_XDP left")


RINGS = "/sys/fs/bpf/ivds/v1/rings"


class RingReader:
    """A sample that reads the ring of the mirror `watch`."""

    def __init__(self, w, bench, language, *before):
        program = ([bench.binaries.resolve() / "read_ring"] if language == "C" else
                   [sys.executable, pathlib.Path(__file__).resolve().parents[2] / "scripts/examples/read_ring.py"])
        self.lab, self.said = w.lab, tempfile.TemporaryFile("w+")
        self.process = w.a.start(*before, *program, f"{RINGS}/watch", stdout=self.said, stderr=subprocess.PIPE)
        self.first = self.process.stderr.readline()

    def lines(self, wanted=0):
        def read():
            return written(self.said).splitlines()
        if wanted:
            self.lab.wait(lambda: len(read()) >= wanted, 20, lambda: f"no {wanted} copies: {read()}")
            time.sleep(0.3)
        return read()


for language in ("C", "Python"):
    @case(f"a program in {language} reads copies from a ring; what it leaves there is lost, and counted, and nothing else is [R138][R169]")
    def _(bench, language=language):
        with bench.lab() as lab:
            w = Watched(lab)
            ids = {port["name"]: port["id"] for port in w.scene.ports("a").values()}
            mirror = {"name": "watch", "sources": [{"vport": "red-1"}], "to_ring": True, "ring_kib": 64,
                      "filter": [{"ethertype": "0x88b5"}]}
            w.mirror(mirror)
            check_equal(w.a.run("ls", RINGS).stdout.split(), ["watch"], "pins")
            reader = RingReader(w, bench, language)
            check_equal(reader.first, "reading\n", "what the sample says first")
            out, tagged, back = red(2, 1, "red-1 out "), red(2, 1, "red-1 tagged ", tag(7)), red(1, 2, "red-2 back ")

            def line(direction, data):
                return f"{direction} port {ids['red-1']}, {len(data)} bytes: {data.hex()}"

            def copied(wanted):
                for sender, data in (("red-1", out), ("red-1", tagged), ("red-2", back)):
                    w.send(sender, data)
                    time.sleep(0.05)
                check_equal(reader.lines(wanted)[wanted - 3:], [line("in", out), line("in", tagged), line("out", back)], "copies")

            copied(3)
            w.a.stop_agent(signal.SIGKILL)
            copied(6)
            w.a.start_agent()
            w.mirror(mirror)
            copied(9)
            check_equal(w.state("watch")["packets"], 9, "copies in the ring")

            # It hangs: the ring is full after some, and the VMs see nothing of it.
            os.kill(reader.process.pid, signal.SIGSTOP)
            big, sent, arrived = red(2, 1, "red-1 much " + "x" * 1400), 500, 0
            w.ports["red-2"].receive()
            for number in range(sent):
                w.send("red-1", big)
                if number % 50 == 49:
                    arrived += sum(data == big for data in w.ports["red-2"].receive())
            arrived += sum(data == big for data in w.marked("red-2", sent - arrived))
            check_equal(arrived, sent, "the originals while it hangs")
            state = w.state("watch")
            check(state["refused"] > 400, f"a ring of 64 KiB takes it all: {state}")
            check_equal(state["packets"] + state["refused"], 9 + sent, "copies, with those that were lost")
            os.kill(reader.process.pid, signal.SIGCONT)
            check_equal(len(reader.lines(state["packets"])), state["packets"], "what it reads once it goes on")

            # It dies: the next one goes on where it was.
            reader.process.kill()
            reader.process.wait(10)
            w.send("red-1", out)
            w.marked("red-2", 1, 0)
            reader = RingReader(w, bench, language)
            w.send("red-1", tagged)
            check_equal(reader.lines(2), [line("in", out), line("in", tagged)], "what the next one reads")

            w.mirror({**mirror, "ring_kib": 128})
            reader.process.kill()
            reader = RingReader(w, bench, language)
            w.send("red-1", out)
            check_equal(reader.lines(1), [line("in", out)], "what is in a ring of another size")
            w.mirror()
            check_equal(w.a.run("ls", RINGS).stdout, "", "rings of no mirror")
            check("ivds-mirror" not in w.a.run("ip", "-o", "link").stdout, "the tap outlives its mirrors")


@case("the group ivds reads rings, and nobody else does but root [R169]")
def _(bench):
    with bench.lab() as lab:
        w = Watched(lab, group="ivds:x:4242:")
        w.mirror({"name": "watch", "sources": [{"vport": "red-1"}], "to_ring": True, "filter": [{"ethertype": "0x88b5"}]})
        data = red(2, 1, "red-1 out ")
        reader = RingReader(w, bench, "C", "setpriv", "--reuid=65534", "--regid=4242", "--clear-groups")
        check_equal(reader.first, "reading\n", "what a member of the group reads")
        w.send("red-1", data)
        check(reader.lines(1)[0].endswith(data.hex()), "the copy")
        refused = RingReader(w, bench, "C", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
        check("Permission denied" in refused.first, f"what a stranger reads: {refused.first!r}")


@case("where the kernel has no tcx, copies and captures come by clsact all the same, also over a restart of the agent [R137]")
def _(bench):
    with bench.lab() as lab:
        old = (sys.executable, pathlib.Path(__file__).with_name("old_kernel.py"), "ivdsd")
        w = Watched(lab, agent=old)
        check_equal({port["got"] for port in w.scene.ports("a").values()}, {"clsact"}, "hooks")
        w.mirror({"name": "m", "sources": [{"vport": "red-1"}], "to_vport": "watch-8"})
        names = [line.split(": ")[1].split("@")[0] for line in w.a.run("ip", "-o", "link").stdout.splitlines() if "ivds-mirror" in line]
        filters = "".join(w.a.run("tc", "filter", "show", "dev", name, "ingress").stdout for name in names)
        check("ivds_mirror" in filters, f"no filter at the tap: {filters!r}")
        out, tagged, back = red(2, 1, "red-1 out "), red(2, 1, "red-1 tagged ", tag(7)), red(1, 2, "red-2 back ")

        def copied():
            w.send("red-1", out)
            w.send("red-1", tagged)
            w.send("red-2", back)
            check_equal(sorted(w.marked("watch-8", 3)), sorted([out, tagged, back]), "copies")
            check_equal(sorted(w.marked("red-2", 2, 0)), sorted([out, tagged]), "the originals")

        copied()
        w.a.stop_agent(signal.SIGKILL)
        w.a.start_agent(*old[1:], program=old[0])
        copied()
        check_equal(w.state("m"), {"packets": 6, "bytes": 2 * sum(map(len, (out, tagged, back))), "refused": 0, "cut": 0}, "counters")
        w.mirror()
        check("ivds-mirror" not in w.a.run("ip", "-o", "link").stdout, "the tap outlives its mirrors")


main()
