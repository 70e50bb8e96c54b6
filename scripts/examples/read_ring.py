#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""read_ring.py -- reads the copies of a mirror to a ring, and says of each its direction, its port, how long the frame
is, and its bytes.

    ivds-ctl mirror create watch --sources vport=web1 --to-ring
    read_ring.py /sys/fs/bpf/ivds/v1/rings/watch

A record is `struct ivds_capture` of ivds/abi.h with as many bytes of the frame behind it as it says: time
(CLOCK_MONOTONIC), the port's id (`ivds-ctl status` knows its name), the frame's length, the bytes of it that are there,
the direction (0: from the port into the switch, 1: out of it, 2: dropped), and the reason of a drop. libbpf reads them.
"""
import ctypes
import errno
import os
import struct
import sys

HEAD = struct.Struct("=QIIIBBxx")
DIRECTIONS = {0: "in", 1: "out", 2: "drop"}
PATIENCE_MS = 1000
ON_RECORD = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


@ON_RECORD
def print_copy(_context, data, size):
    record = ctypes.string_at(data, size)
    _time_ns, port, length, captured, direction, _reason = HEAD.unpack_from(record)
    frame = record[HEAD.size:HEAD.size + captured]
    print(f"{DIRECTIONS.get(direction, '?')} port {port}, {length} bytes: {frame.hex()}", flush=True)
    return 0


def main():
    if len(sys.argv) != 2:
        sys.exit("usage: read_ring.py PIN")
    bpf = ctypes.CDLL("libbpf.so.1", use_errno=True)
    bpf.ring_buffer__new.restype = ctypes.c_void_p
    bpf.ring_buffer__new.argtypes = [ctypes.c_int, ON_RECORD, ctypes.c_void_p, ctypes.c_void_p]
    bpf.ring_buffer__poll.argtypes = [ctypes.c_void_p, ctypes.c_int]
    fd = bpf.bpf_obj_get(sys.argv[1].encode())
    ring = bpf.ring_buffer__new(fd, print_copy, None, None) if fd >= 0 else None
    if not ring:
        sys.exit(f"{sys.argv[1]}: {os.strerror(ctypes.get_errno())}")
    print("reading", file=sys.stderr, flush=True)
    try:
        # A process that was stopped goes on where it was: that interrupts its wait, and is no error.
        while (done := bpf.ring_buffer__poll(ring, PATIENCE_MS)) >= 0 or done == -errno.EINTR:
            pass
        sys.exit(f"{sys.argv[1]}: {os.strerror(-done)}")
    except KeyboardInterrupt:
        pass


if __name__ == "__main__":
    main()
