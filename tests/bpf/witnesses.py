#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Outside witnesses of the frame format.

usage: witnesses.py SWITCH_PIPE [RECORD]

scapy builds the frames, in and out, knowing nothing of the tests' own packet
builder; the real programs switch them (switch_pipe, on the world that
vectors.h describes); scapy compares the bytes and tshark decodes what went to
the wire. RECORD gets the cases in the form of Catch2's XML.
"""
import logging
import os
import re
import subprocess
import sys
import tempfile
from xml.etree import ElementTree

logging.getLogger("scapy.runtime").setLevel(logging.ERROR)
from scapy.all import (ARP, IP, LLC, STP, TCP, UDP, Dot1AD, Dot1Q, Dot3, Ether, ICMPv6ND_NS, IPv6, Raw,  # noqa: E402
                       wrpcap)

VM2, VM3, VM4, VM10 = (f"02:00:00:00:00:{number:02x}" for number in (2, 3, 4, 10))
REMOTE1, REMOTE2 = "02:00:00:00:01:01", "02:00:00:00:01:02"
BROADCAST = "ff:ff:ff:ff:ff:ff"
HOST = 0


def udp():
    return IP(src="10.0.0.1", dst="10.0.0.2") / UDP(sport=4096, dport=5001) / Raw(b"ivds" * 8)


def tcp6():
    return IPv6(src="fe80::1", dst="fe80::2") / TCP(sport=4096, dport=5001, flags="S") / Raw(b"x" * 100)


def red(vlan, **outer):
    return Dot1Q(vlan=vlan, **outer) / Dot1Q(vlan=100)


def white(vlan):
    return Dot1AD(vlan=vlan, type=0x8100) / Dot1Q(vlan=100)


def cases():
    """(name, port in, frame in, [(port out, frame out)])"""
    ask = ARP(op="who-has", hwsrc=VM2, psrc="10.0.0.1", pdst="10.0.0.2")
    neighbour = IPv6(src="fe80::1", dst="ff02::1:ff00:2", hlim=255) / ICMPv6ND_NS(tgt="fe80::2")
    return [
        ("local unicast stays as it is [R111]", 2, Ether(dst=VM3, src=VM2) / udp(), [(3, Ether(dst=VM3, src=VM2) / udp())]),
        ("the wire frame is VLAN, V.VLAN, payload [R68][R91][R93]", 2, Ether(dst=REMOTE1, src=VM2) / udp(),
         [(1, Ether(dst=REMOTE1, src=VM2) / red(10) / udp())]),
        ("IPv6 and TCP on another outer VLAN [R91]", 2, Ether(dst=REMOTE2, src=VM2) / tcp6(),
         [(1, Ether(dst=REMOTE2, src=VM2) / red(30) / tcp6())]),
        ("a service tag outside is 802.1ad [R86]", 10, Ether(dst=REMOTE1, src=VM10) / udp(),
         [(12, Ether(dst=REMOTE1, src=VM10) / white(10) / udp())]),
        ("plain QinQ of any sender reaches the VM untagged [R86][R103][R104]", 1,
         Ether(dst=VM2, src=REMOTE1) / red(10, prio=5) / udp(), [(2, Ether(dst=VM2, src=REMOTE1) / udp())]),
        ("802.1ad of any sender reaches the VM untagged [R86][R103]", 12,
         Ether(dst=VM10, src=REMOTE1) / white(10) / tcp6(), [(10, Ether(dst=VM10, src=REMOTE1) / tcp6())]),
        ("ARP floods, twice to the wire [R110]", 2, Ether(dst=BROADCAST, src=VM2) / ask,
         [(port, Ether(dst=BROADCAST, src=VM2) / ask) for port in (3, 4)]
         + [(1, Ether(dst=BROADCAST, src=VM2) / red(vlan) / ask) for vlan in (10, 30)]),
        ("neighbour discovery from the wire floods to the members [R109]", 1,
         Ether(dst="33:33:ff:00:00:02", src=REMOTE1) / red(10) / neighbour,
         [(port, Ether(dst="33:33:ff:00:00:02", src=REMOTE1) / neighbour) for port in (2, 3, 4)]),
        ("a priority tag of the guest is the third [R93]", 2, Ether(dst=REMOTE1, src=VM2) / Dot1Q(vlan=0, prio=6) / udp(),
         [(1, Ether(dst=REMOTE1, src=VM2) / red(10) / Dot1Q(vlan=0, prio=6) / udp())]),
        ("a forged V.VLAN frame of a guest goes nowhere [R3][R67]", 2, Ether(dst=REMOTE1, src=VM2) / red(10) / udp(), []),
        ("a spanning tree BPDU of a VM goes nowhere [R96]", 2, Dot3(dst="01:80:c2:00:00:00", src=VM2) / LLC() / STP(), []),
        ("a spanning tree BPDU from the wire is the host's [R96]", 1,
         Dot3(dst="01:80:c2:00:00:00", src=REMOTE1) / LLC() / STP(),
         [(HOST, Dot3(dst="01:80:c2:00:00:00", src=REMOTE1) / LLC() / STP())]),
        ("a plain VLAN is the host's [R95][R118]", 1, Ether(dst=VM2, src=REMOTE1) / Dot1Q(vlan=10) / udp(),
         [(HOST, Ether(dst=VM2, src=REMOTE1) / Dot1Q(vlan=10) / udp())]),
        ("a foreign V.VLAN goes nowhere [R107]", 1, Ether(dst=VM2, src=REMOTE1) / Dot1Q(vlan=10) / Dot1Q(vlan=101) / udp(), []),
    ]


def switch(pipe, rung, frames):
    """What came out for each (port, frame): sorted [(port, bytes)]."""
    lines = "".join(f"{port} {bytes(frame).hex()}\n" for port, frame in frames)
    run = subprocess.run([pipe, rung], input=lines, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        print(run.stdout + run.stderr, end="")
        sys.exit(run.returncode)
    outcomes = []
    for line in run.stdout.splitlines():
        words = line.split()[1:]
        outcomes.append(sorted((int(port), bytes.fromhex(frame)) for port, frame in zip(words[::2], words[1::2])))
    return outcomes


def decode(frames):
    """tshark's reading of frames: a dictionary of fields each."""
    fields = ("frame.protocols", "eth.dst", "eth.src", "vlan.id", "ieee8021ad.id", "ip.checksum.status", "udp.dstport",
              "tcp.dstport", "arp.opcode")
    with tempfile.TemporaryDirectory() as folder:
        capture = os.path.join(folder, "wire.pcap")
        wrpcap(capture, [Ether(frame) for frame in frames])
        command = ["tshark", "-r", capture, "-o", "ip.check_checksum:TRUE", "-T", "fields", "-E", "occurrence=a"]
        for field in fields:
            command += ["-e", field]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
    return [dict(zip(fields, line.split("\t"))) for line in run.stdout.splitlines()]


def wire_faults(frame, fields):
    """What tshark reads differently from what scapy built."""
    expected = Ether(frame)
    vlans, services = [], []
    layer = expected
    while layer := layer.payload:
        if isinstance(layer, Dot1AD):
            services.append(str(layer.vlan))
        elif isinstance(layer, Dot1Q):
            vlans.append(str(layer.vlan))
    wanted = {"eth.dst": expected.dst, "eth.src": expected.src, "vlan.id": ",".join(vlans),
              "ieee8021ad.id": ",".join(services)}
    if UDP in expected:
        wanted |= {"udp.dstport": "5001", "ip.checksum.status": "1"}
    if TCP in expected:
        wanted["tcp.dstport"] = "5001"
    if ARP in expected:
        wanted["arp.opcode"] = "1"
    return [f"tshark reads {name} {fields[name]!r}, not {value!r} ({fields['frame.protocols']})"
            for name, value in wanted.items() if fields[name] != value]


def main(pipe, record=None):
    table = cases()
    faults = {name: [] for name, *_ in table}
    for rung in ("tc", "ladder"):
        outcomes = switch(pipe, rung, [(port, frame) for _, port, frame, _ in table])
        assert len(outcomes) == len(table), "a frame without an answer"
        wire = []
        for (name, _, _, out), got in zip(table, outcomes):
            expected = sorted((port, bytes(frame)) for port, frame in out)
            if got != expected:
                faults[name].append(f"{rung}: expected {[(p, f.hex()) for p, f in expected]}\n"
                                    f"{rung}: got      {[(p, f.hex()) for p, f in got]}")
            wire += [(name, frame) for port, frame in got if port in (1, 12)]
        decoded = decode([frame for _, frame in wire])
        assert len(decoded) == len(wire) > 0, "tshark did not read every frame"
        for (name, frame), fields in zip(wire, decoded):
            faults[name] += [f"{rung}: {fault}" for fault in wire_faults(frame, fields)]

    root = ElementTree.Element("Catch2TestRun", name="witnesses")
    for name, found in faults.items():
        print("FAILED" if found else "passed", name, *found, sep="\n    " if found else " ")
        case = ElementTree.SubElement(root, "TestCase", name=name, tags="".join(re.findall(r"\[\w+\]", name)))
        ElementTree.SubElement(case, "OverallResult", success="false" if found else "true", skips="0")
    if record:
        os.makedirs(os.path.dirname(record), exist_ok=True)
        ElementTree.ElementTree(root).write(record)
    return 1 if any(faults.values()) else 0


if len(sys.argv) not in (2, 3):
    sys.exit(__doc__)
sys.exit(main(*sys.argv[1:]))
