# SPDX-License-Identifier: Apache-2.0
"""transfer.py -- one TCP transfer between two VMs; each end prints what it hashed.

transfer.py receive PORT            prints "ready" once it listens, then bytes and SHA-256
transfer.py send ADDRESS PORT MIB   prints bytes and SHA-256
"""
import hashlib
import os
import socket
import sys

BLOCK = 1 << 20


def receive(port):
    with socket.create_server(("0.0.0.0", int(port))) as server:
        print("ready", flush=True)
        connection, _ = server.accept()
        total, digest, buffer = 0, hashlib.sha256(), bytearray(BLOCK)
        with connection:
            while size := connection.recv_into(buffer):
                digest.update(memoryview(buffer)[:size])
                total += size
    print(total, digest.hexdigest(), flush=True)


def send(address, port, mib):
    block, digest = bytearray(os.urandom(BLOCK)), hashlib.sha256()
    with socket.create_connection((address, int(port)), timeout=60) as connection:
        for number in range(int(mib)):
            block[:8] = number.to_bytes(8, "big")  # no two blocks are the same
            digest.update(block)
            connection.sendall(block)
    print(int(mib) * BLOCK, digest.hexdigest(), flush=True)


{"receive": receive, "send": send}[sys.argv[1]](*sys.argv[2:])
