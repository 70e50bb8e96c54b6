# SPDX-License-Identifier: Apache-2.0
"""trace_test.py -- `ivds-ctl trace` beside the traffic that it tells of; frames built by scapy."""
import json
import re
import signal
import tempfile
import time

from harness import case, check, check_equal, main
from scapy.all import (ARP, ICMP, SCTP, TCP, UDP, AH, Dot1Q, Ether, ICMPv6EchoRequest, IP, IPv6, IPv6ExtHdrDestOpt,
                       IPv6ExtHdrFragment, IPv6ExtHdrHopByHop, IPv6ExtHdrRouting, IPOption_Router_Alert, Raw,
                       fragment, fragment6, raw, wrpcap)
from scene import Scene, armed, mac, network, tag

STAGES = {1, 2, 3, 4}


def trace(scene, host, port, *arguments):
    """The replies of `ivds-ctl trace`, one a frame."""
    return scene.hosts[host].ctl_json_lines("trace", port, *arguments)


def counted(scene):
    """The counters that VMs which talk among themselves, ARP and all, leave alone."""
    stats = scene.hosts["a"].ctl_json("stats")
    return [(drop["port"], drop["reason"], drop["packets"]) for drop in stats.get("drops", [])], stats.get("misses", []), [
        (port["name"], port.get("counters", {}).get("rx_host", 0)) for port in stats["ports"]]


def known(scene, host):
    return sorted((entry["mac"], entry["port"]) for entry in scene.hosts[host].ctl_json_lines("fdb", "show"))


for mode in ("auto", "native"):
    @case(f"trace tells each stage of a frame's path and what decides, and the traffic does the same, by {mode} [R101]")
    def _(bench, mode=mode):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network(), "blue": network(vvlan=20)}, attach=mode)
            scene.two_hosts()
            scene.vm("a", "red", 1)
            scene.vm("a", "red", 2)
            scene.vm("b", "red", 3)
            scene.vm("a", "blue", 1)
            scene.start()
            scene.ping("red-1", "red-3")
            before = counted(scene)
            fdb = known(scene, "a")

            def told(port, frame):
                replies = trace(scene, "a", port, frame)
                check_equal(len(replies), 1, "replies")
                return replies[0]

            here = told("red-1", f"eth dst={mac(2)} / ip / udp")
            check_equal((here["verdict"], here.get("sent")), ("forwarded", ["red-2"]), "a VM on this host")
            check_equal({step["stage"] for step in here["steps"]}, STAGES, "stages that are told of")
            check_equal({step["rung"] for step in here["steps"]}, {"xdp"} if mode == "native" else {"tc"}, "rungs")
            away = told("red-1", f"eth dst={mac(3)} / ip / tcp")
            check_equal((away["verdict"], away.get("sent")), ("forwarded", ["uplink"]), "a VM on the other host")
            check(any("VLAN 100 and V.VLAN 10" in step["text"] for step in away["steps"]), "the tags are not told")
            group = told("red-1", "eth / arp")
            check_equal((group["verdict"], sorted(group["sent"])), ("flooded", ["red-2", "uplink"]), "a broadcast")
            wire = told("uplink", f"eth src={mac(3)} dst={mac(1)} / vlan id=100 / vlan id=10 / ip / udp")
            check_equal((wire["verdict"], wire.get("sent")), ("forwarded", ["red-1"]), "from the wire")
            host = told("uplink", f"eth src={mac(3)} dst={mac(1)} / ip")
            check_equal(host["verdict"], "host", "untagged from the wire")
            forged = told("red-1", f"eth src={mac(9)} dst={mac(2)} / ip / udp")
            check_equal((forged["verdict"], forged.get("drop_reason")), ("dropped", "spoof"), "a forged source")
            check(any("extra-macs" in step.get("change", "") for step in forged["steps"]), "no word on how to change it")
            other = told("uplink", f"eth src={mac(3)} dst={mac(1)} / vlan id=100 / vlan id=30 / ip")
            check_equal(other.get("drop_reason"), "unknown_vvlan", "a V.VLAN that is nobody's")
            bare = told("red-1", f"eth dst={mac(2)} / vlan id=7 / ip")
            check_equal(bare.get("drop_reason"), "guest_tag", "a guest's tag")

            # Nothing of that was counted, learned or sent.
            check_equal(counted(scene), before, "what was dropped and passed to the host after nine traces")
            check_equal(known(scene, "a"), fdb, "the FDB after them")

            # What a trace says how to change is changed by that.
            scene.vport_fields["red-1"] = {"extra_macs": [mac(9)]}
            scene.apply("a")
            again = told("red-1", f"eth src={mac(9)} dst={mac(2)} / ip / udp")
            check_equal((again["verdict"], again.get("sent")), ("forwarded", ["red-2"]), "the source that is now allowed")


@case("wrong frames, ports and files are refused by trace with a reason and a fix")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        scene.host("a")
        scene.networks["red"] = {"mode": "piggyback", "vlan": 100, "vvlan": 10, "scope": "local"}
        scene.vm("a", "red", 1)
        a = scene.hosts["a"]
        a.start_agent()
        config = scene.config("a")
        config["uplinks"] = []
        config["instances"][0].pop("uplink")
        a.apply(config)
        for arguments, code, words in ((("nobody", "eth"), 3, "no uplink or vport nobody"),
                                       (("red-1",), 2, "which frame"),
                                       (("red-1", "ip"), 2, "begins with its Ethernet header"),
                                       (("red-1", "eth dst=1"), 2, "not a MAC"),
                                       (("red-1", "eth / vlan id=4096"), 2, "below 2^12"),
                                       (("red-1", "eth / ipx"), 2, "no layer"),
                                       (("red-1", "--hex", "0"), 2, "one digit"),
                                       (("red-1", "--hex", "00"), 2, "a frame of 1 bytes"),
                                       (("red-1", "--pcap", "/dev/null"), 2, "/dev/null")):
            done = a.ctl("trace", *arguments, check=False)
            check_equal(done.returncode, code, f"exit code of trace {' '.join(arguments)}")
            check(words in done.stderr, f"trace {' '.join(arguments)} says {done.stderr!r}, not {words!r}")
            check("fix:" in done.stderr, f"trace {' '.join(arguments)} tells no fix")


def six_tuples():
    """Frames, and their {protocol, src, dst, sport, dport, fragment, cut} as scapy knows them."""
    four = {"src": "192.0.2.1", "dst": "198.51.100.7"}
    six = {"src": "2001:db8::1", "dst": "2001:db8::2"}
    eth = Ether(src=mac(1), dst=mac(2))
    tcp, udp = TCP(sport=1234, dport=443), UDP(sport=5353, dport=53)
    sctp = SCTP(sport=7, dport=9)
    big = Raw(b"x" * 2000)
    yield eth / IP(**four) / tcp, (6, "192.0.2.1", "198.51.100.7", 1234, 443, False, False)
    yield eth / IP(**four) / udp, (17, "192.0.2.1", "198.51.100.7", 5353, 53, False, False)
    yield eth / IP(**four) / sctp, (132, "192.0.2.1", "198.51.100.7", 7, 9, False, False)
    yield eth / IP(**four) / ICMP(), (1, "192.0.2.1", "198.51.100.7", 0, 0, False, False)
    yield eth / IP(**four, options=[IPOption_Router_Alert()]) / udp, (17, "192.0.2.1", "198.51.100.7", 5353, 53, False, False)
    yield eth / Dot1Q(vlan=0) / IP(**four) / udp, (17, "192.0.2.1", "198.51.100.7", 5353, 53, False, False)
    for at, piece in enumerate(fragment(IP(**four) / udp / big, fragsize=1000)):
        ports = (5353, 53) if at == 0 else (0, 0)
        yield eth / piece, (17, "192.0.2.1", "198.51.100.7", *ports, True, False)
    yield eth / IP(**four, proto=6) / Raw(b"\1\2"), None  # padded below 60 bytes by nobody: ports are cut
    yield eth / IPv6(**six) / tcp, (6, "2001:db8::1", "2001:db8::2", 1234, 443, False, False)
    yield eth / IPv6(**six) / ICMPv6EchoRequest(), (58, "2001:db8::1", "2001:db8::2", 0, 0, False, False)
    yield (eth / IPv6(**six) / IPv6ExtHdrHopByHop() / IPv6ExtHdrDestOpt() / IPv6ExtHdrRouting(addresses=["2001:db8::9"]) /
           AH(nh=17, payloadlen=4, icv=b"0" * 12) / udp), (17, "2001:db8::1", "2001:db8::2", 5353, 53, False, False)
    for at, piece in enumerate(fragment6(IPv6(**six) / IPv6ExtHdrFragment(id=5) / udp / big, 1200)):
        ports = (5353, 53) if at == 0 else (0, 0)
        yield eth / piece, (17, "2001:db8::1", "2001:db8::2", *ports, True, False)
    long = eth / IPv6(**six)
    for _ in range(9):
        long = long / IPv6ExtHdrDestOpt()
    yield long / udp, (0, "2001:db8::1", "2001:db8::2", 0, 0, False, True)
    yield eth / ARP(), (0, "", "", 0, 0, False, False)


@case("the six-tuple of every kind of IP frame is read as scapy built it: extensions, options, fragments, cut ones [R92]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        scene.host_on_wire()
        scene.vm("a", "red", 1)
        scene.vm("a", "red", 2)
        scene.start()
        rows = list(six_tuples())
        for port, tags, vmac in (("red-1", b"", mac(1)), ("uplink", b"\x81\0\0\x64\x81\0\0\x0a", mac(2))):
            with tempfile.NamedTemporaryFile(suffix=".pcap") as file:
                frames = [raw(frame) for frame, _ in rows]
                wrpcap(file.name, [Ether(frame[:12] + tags + frame[12:]) for frame in frames])
                replies = trace(scene, "a", port, "--pcap", file.name)
            check_equal(len(replies), len(rows), "replies")
            for (frame, wanted), reply in zip(rows, replies):
                tuple_ = reply["tuple"]
                got = (tuple_.get("protocol", 0), tuple_.get("src", ""), tuple_.get("dst", ""), tuple_.get("src_port", 0),
                       tuple_.get("dst_port", 0), tuple_.get("fragment", False), tuple_.get("cut", False))
                if wanted is None:
                    check(tuple_.get("cut"), f"{frame.summary()} is not told to be cut")
                    continue
                check_equal(got, wanted, f"{frame.summary()} at {port}")
                check_equal(tuple_["vmac"], vmac, f"vMAC of {frame.summary()} at {port}")


class Live:
    """A running `ivds-ctl trace --live` on host a."""

    def __init__(self, scene, port, *words):
        self.process = scene.hosts["a"].start("ivds-ctl", "--json", "trace", "--live", port, *words, stdout=-1, stderr=-1)
        check_equal(self.process.stderr.readline(), f"tracing {port}; end it with Ctrl-C\n", "the beginning")

    def next(self):
        """The next frame's {bytes, direction with reason} and trace."""
        said = json.loads(self.process.stdout.readline())
        return bytes.fromhex(said["data"]), (said["direction"], said["drop_reason"]), said["trace"]

    def end(self, how=signal.SIGINT):
        """Ends it; what it printed of further frames, and its last words."""
        self.process.send_signal(how)
        rest = [json.loads(line) for line in self.process.stdout.readlines()]
        words = self.process.stderr.read()
        self.process.wait(20)
        return rest, words


for mode in ("auto", "native"):
    @case(f"trace --live tells of each frame that passes what a trace of it tells, and leaves nothing armed, by {mode} [R101]")
    def _(bench, mode=mode):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network()}, attach=mode)
            scene.two_hosts()
            scene.vm("a", "red", 1)
            scene.vm("a", "red", 2)
            scene.vm("b", "red", 3)
            scene.start()
            scene.ping("red-1", "red-3")
            a, ports = scene.hosts["a"], scene.raw_ports()
            check_equal(armed(a), ({}, {}), "what is armed before")

            def built(source, destination, layer=None):
                return raw(Ether(src=mac(source), dst=mac(destination)) / IP(src="10.0.0.1", dst="10.0.0.2") /
                           (layer or UDP(sport=5353, dport=53)) / Raw(b"x" * 40))

            here, away, forged, other = built(1, 2), built(1, 3), built(9, 2), built(1, 2, TCP(dport=80))
            wanted = [(here, ("in", ""), "forwarded", ["red-2"]), (away, ("in", ""), "forwarded", ["uplink"]),
                      (forged, ("drop", "spoof"), "dropped", [])]
            live = Live(scene, "red-1", "udp port 53")
            sessions = armed(a)
            check_equal((list(sessions[0].values()), list(sessions[1].values())), ([(1 << 31, 0, 0)], [5]),
                        "masks and kinds while it runs")
            for data, *fate in wanted:
                ports["red-1"].send(other)
                ports["red-2"].send(built(2, 1))  # sent to red-1, not by it
                ports["red-1"].send(data)
                got, direction, told = live.next()
                check_equal([got, direction, told["verdict"], told["sent"]], [data, *fate], "a frame and its fate")
                check_equal(told, trace(scene, "a", "red-1", "--hex", data.hex())[0], "its trace, and one of its bytes")
                check_equal({step["stage"] for step in told["steps"]} - STAGES, set(), "stages")
                check(told["steps"], "no steps")
            rest, words = live.end()
            check_equal((rest, words), ([], "3 frames traced, 0 lost\n"), "the end")
            lab.wait(lambda: armed(a) == ({}, {}), 10, "something stays armed after an interrupt")

            # From the wire, with its tags; killed, it is gone all the same, with no frame to notice it by.
            live = Live(scene, "uplink", "vlan 100 and vlan 10 and udp")
            data = built(3, 1)
            ports["red-3"].send(data)
            got, direction, told = live.next()
            check_equal((got, direction, told["verdict"], told["sent"]),
                        (data[:12] + tag(100) + tag(10) + data[12:], ("in", ""), "forwarded", ["red-1"]), "from the wire")
            check(armed(a) != ({}, {}), "nothing is armed")
            live.end(signal.SIGKILL)
            lab.wait(lambda: armed(a) == ({}, {}), 10, "something stays armed after a kill")

            # For people, and to its end by itself.
            process = a.start("ivds-ctl", "trace", "--live", "red-1", "udp", "--count", "1", stdout=-1, stderr=-1)
            check("tracing" in process.stderr.readline(), "no beginning")
            ports["red-1"].send(here)
            out = process.stdout.read()
            check_equal(process.wait(20), 0, "exit code")
            check(re.match(rf"\d\d:\d\d:\d\d\.\d{{6}} in red-1: {mac(1)} > {mac(2)}, type 0x0800, {len(here)} bytes: "
                           r"forwarded to red-2\n", out), f"the first line: {out!r}")
            told = a.ctl("trace", "red-1", "--hex", here.hex())
            plain = [line for line in told.splitlines() if line.startswith("  ")]
            check(set(plain) <= set(out.splitlines()), f"steps are missing: {plain} of {out}")
            lab.wait(lambda: armed(a) == ({}, {}), 10, "something stays armed after --count")
            for target in ("red", "drops", "nobody"):
                done = a.ctl("trace", "--live", target, check=False)
                check_equal(done.returncode, 3, f"exit code of trace --live {target}")
                check("no uplink or vport" in done.stderr and "fix:" in done.stderr, f"{done.stderr!r}")
            check_equal(a.ctl("trace", "--live", "red-1", "tcp prt", check=False).returncode, 2, "a wrong filter")
            check_equal(armed(a), ({}, {}), "what refused ones arm")


@case("of frames that come faster than they are traced trace --live counts the rest")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryFile("w+") as file:
        scene = Scene(lab, {"red": network()})
        scene.host_on_wire()
        scene.vm("a", "red", 1)
        scene.vm("a", "red", 2)
        scene.start()
        port = scene.raw_ports()["red-1"]
        # Into a file, which takes all that comes.
        process = scene.hosts["a"].start("ivds-ctl", "--json", "trace", "--live", "red-1", "udp port 53", stdout=file, stderr=-1)
        check("tracing" in process.stderr.readline(), "no beginning")
        data, other = (raw(Ether(src=mac(1), dst=mac(2)) / IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=5353, dport=dport) / Raw(b"x" * 40))
                       for dport in (53, 54))
        for _ in range(12):  # in bursts that no queue on the way is too short for
            for _ in range(50):
                port.send(data)
                port.send(other)
            time.sleep(0.02)
        time.sleep(3)  # what waits for longer than a second is counted
        process.send_signal(signal.SIGINT)
        words = process.stderr.read()
        check_equal(process.wait(20), 0, "exit code")
        file.seek(0)
        told = [json.loads(line) for line in file]
        found = re.fullmatch(r"(\d+) frames traced, 0 lost\n(\d+) more frames matched and were not traced\n", words)
        check(found, f"last words: {words!r}")
        traced, more = map(int, found.groups())
        check_equal(traced, len(told), "frames that were printed")
        check_equal({each["data"] for each in told}, {data.hex()}, "which frames they are")
        check_equal(traced + more, 600, "all frames that matched")
        lab.wait(lambda: armed(scene.hosts["a"]) == ({}, {}), 10, "something stays armed")


main()
