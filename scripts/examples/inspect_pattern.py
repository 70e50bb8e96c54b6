#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""inspect_pattern.py -- a small inspector: blocks each flow in which a pattern is seen, from that frame on, both ways.

    ip link add ips0 mtu 9216 type veth peer ips0-in mtu 9216
    ivds-ctl inspector create ips --netdev ips0 --fail closed
    ivds-ctl vport update web1 --inspector ips
    inspect_pattern.py ips0-in 'attack at dawn'

Frames come with an inspection of eight bytes behind their MAC addresses: the EtherType 0x88B5, the id of the vPort
(`ivds-ctl status` knows its name), 0 for a frame from the VM and 1 for one to it, a verdict, and a sequence. What is
sent back as it came goes on. With the verdict 1 it is dropped, and only the first 20 bytes have to be sent. A hello,
which is an inspection with the verdict 2, says several times a timeout that the inspector lives.
"""
import argparse
import select
import signal
import socket
import struct
import sys
import time

INSPECTION = 0x88B5
INSPECTION_AT, FRAME_AT = 12, 20
BLOCK, HELLO = 1, 2
VERDICT_AT = INSPECTION_AT + 5
TAGS = (0x8100, 0x88A8, 0x9100)
HELLO_S = 0.1


def flow_of(data):
    """What identifies the flow of a frame behind its inspection, the same for both ways; None: it is no whole IP."""
    vport, at = data[14:16], FRAME_AT
    while len(data) >= at + 4 and int.from_bytes(data[at:at + 2], "big") in TAGS:
        at += 4
    kind, ip = int.from_bytes(data[at:at + 2], "big"), data[at + 2:]
    if kind == 0x0800 and len(ip) >= 20:
        proto, ends, l4 = ip[9], (ip[12:16], ip[16:20]), ip[(ip[0] & 15) * 4:]
    elif kind == 0x86DD and len(ip) >= 40:
        proto, ends, l4 = ip[6], (ip[8:24], ip[24:40]), ip[40:]
    else:
        return None
    ports = (l4[0:2], l4[2:4]) if proto in (socket.IPPROTO_TCP, socket.IPPROTO_UDP) else (b"", b"")
    return vport, proto, *sorted(zip(ends, ports))


class Inspector:
    def __init__(self, netdev, pattern):
        self.pattern, self.blocked = pattern, set()
        self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(INSPECTION))
        self.socket.bind((netdev, INSPECTION))
        # Room for all that may be unanswered: the inspector's `queue` of whole frames.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.hello_due = 0.0

    def say_hello(self):
        self.socket.send(bytes(12) + struct.pack("!HHBBH", INSPECTION, 0, 0, HELLO, 0))

    def passes(self, data):
        flow = flow_of(data)
        if flow in self.blocked:
            return False
        if self.pattern not in data[FRAME_AT:]:
            return True
        if flow is not None:
            self.blocked.add(flow)
        return False

    def answer(self, data):
        if self.passes(data):
            self.socket.send(data)
        else:
            self.socket.send(data[:VERDICT_AT] + bytes([BLOCK]) + data[VERDICT_AT + 1:FRAME_AT])

    def run(self):
        while True:
            now = time.monotonic()
            if now >= self.hello_due:
                self.say_hello()
                self.hello_due = now + HELLO_S
            if select.select([self.socket], [], [], self.hello_due - now if self.hello_due > now else 0)[0]:
                self.answer(self.socket.recv(1 << 16))


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("netdev", help="the inspector's end of the interface")
    parser.add_argument("pattern", help="the bytes to look for")
    arguments = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    Inspector(arguments.netdev, arguments.pattern.encode()).run()


if __name__ == "__main__":
    main()
