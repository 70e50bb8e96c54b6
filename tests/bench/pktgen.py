# SPDX-License-Identifier: Apache-2.0
"""pktgen.py -- the kernel's packet generator, on interfaces of a namespace."""
import os
import pathlib
import re
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts/lib"))
from lab import LabError  # noqa: E402  pylint: disable=wrong-import-position


class Generator:
    """pktgen on an interface of a place."""

    def __init__(self, place, netdev, **options):
        self.place, self.file = place, netdev
        options = {"pkt_size": 60, "clone_skb": 0, "delay": 0, "udp_src_min": 1000, "udp_src_max": 1000,
                   "udp_dst_min": 2000, "udp_dst_max": 2000, **options}
        self.write("kpktgend_0", f"add_device {netdev}")
        self.write(self.file, *(f"{name} {value}" for name, value in options.items()))

    def write(self, file, *lines):
        with self.place.within():
            # A line a write; "start" returns once all is sent.
            opened = os.open(f"/proc/thread-self/net/pktgen/{file}", os.O_WRONLY)
            try:
                for line in lines:
                    os.write(opened, f"{line}\n".encode())
            finally:
                os.close(opened)

    def told(self):
        with self.place.within():
            return pathlib.Path(f"/proc/thread-self/net/pktgen/{self.file}").read_text(encoding="ascii")

    def send(self, frames):
        """Returns the nanoseconds that it took, down to whole microseconds."""
        self.write(self.file, f"count {frames}")
        self.write("pgctrl", "start")
        said = self.told()
        result = re.search(r"Result: OK: (\d+)\(.*usec, (\d+) ", said)
        if not result or int(result[2]) != frames:
            raise LabError(f"pktgen did not send {frames} frames:\n{said}")
        return 1000 * int(result[1])
