# SPDX-License-Identifier: Apache-2.0
"""old_kernel.py PROGRAM WORDS… -- runs a program on this kernel as if it were one before 6.6, which has no tcx: a question
for the programs of a hook is an error, as it is there for the hooks that the kernel does not know."""
import ctypes
import errno
import os
import platform
import struct
import sys

BPF_SYSCALL = {"x86_64": 321, "aarch64": 280}
BPF_PROG_QUERY = 16
_PR_SET_SECCOMP, _PR_SET_NO_NEW_PRIVS, _SECCOMP_MODE_FILTER = 22, 38, 2


def main():
    number = BPF_SYSCALL.get(platform.machine())
    if number is None:
        sys.exit(f"the number of bpf(2) on {platform.machine()} is not known here")
    load, equal, give = 0x20, 0x15, 0x06  # classic BPF: a word of seccomp_data, a jump, the verdict
    code = [(load, 0, 0, 0), (equal, 0, 3, number),          # which system call
            (load, 0, 0, 16), (equal, 0, 1, BPF_PROG_QUERY),  # its first argument
            (give, 0, 0, 0x00050000 | errno.EINVAL), (give, 0, 0, 0x7FFF0000)]
    room = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *one) for one in code))
    program = ctypes.create_string_buffer(struct.pack("@HP", len(code), ctypes.addressof(room)))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) or libc.prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, program, 0, 0):
        sys.exit(f"seccomp: {os.strerror(ctypes.get_errno())}")
    os.execvp(sys.argv[1], sys.argv[1:])


main()
