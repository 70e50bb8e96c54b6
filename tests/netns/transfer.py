# SPDX-License-Identifier: Apache-2.0
"""transfer.py -- one TCP transfer between two VMs; each end prints what it hashed.

transfer.py receive PORT            prints "ready" once it listens, then bytes and SHA-256
transfer.py send ADDRESS PORT MIB   prints bytes and SHA-256
transfer.py serve PORT              the same the other way: sends at a steady rate until its standard input ends
transfer.py fetch ADDRESS PORT
"""
import hashlib
import os
import select
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


def serve(port):
    block, digest, total = bytearray(os.urandom(1 << 16)), hashlib.sha256(), 0
    with socket.create_server(("0.0.0.0", int(port))) as server:
        print("ready", flush=True)
        connection, _ = server.accept()
        with connection:
            while not select.select([sys.stdin], [], [], 0.005)[0]:
                block[:8] = total.to_bytes(8, "big")
                connection.sendall(block)
                digest.update(block)
                total += len(block)
    print(total, digest.hexdigest(), flush=True)


def fetch(address, port):
    total, digest = 0, hashlib.sha256()
    with socket.create_connection((address, int(port)), timeout=60) as connection:
        print("connected", flush=True)
        while block := connection.recv(BLOCK):
            digest.update(block)
            total += len(block)
    print(total, digest.hexdigest(), flush=True)


{"receive": receive, "send": send, "serve": serve, "fetch": fetch}[sys.argv[1]](*sys.argv[2:])
