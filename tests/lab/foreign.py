# SPDX-License-Identifier: Apache-2.0
"""foreign.py -- somebody else who uses libxdp beside the switch. `xdp-count` is among the binaries: a program that
counts frames, and must go on counting whatever the switch does beside it."""
import contextlib
import time

from harness import check


class Counter:
    """A counting program of somebody else on an interface of a host, attached through libxdp."""

    def __init__(self, host, netdev, mode="native", priority=50, **environment):
        self.host, self.netdev, self.environment = host, netdev, [f"{key}={value}" for key, value in environment.items()]
        self.id = self._run("attach", netdev, mode, priority).strip()

    def _run(self, *words, check_exit=True):
        done = self.host.run("env", *self.environment, "xdp-count", *words, check=check_exit)
        return done.stdout if check_exit else done

    def read(self):
        return int(self._run("read", self.id))

    def detach(self, check_exit=True):
        return self._run("detach", self.netdev, self.id, check_exit=check_exit)

    @contextlib.contextmanager
    def counts(self, frames, what):
        """In the block at least so many frames come to the interface, and the program sees them."""
        before, end = self.read(), None
        yield
        while (seen := self.read() - before) < frames and time.monotonic() < (end := end or time.monotonic() + 5):
            time.sleep(0.05)
        print(f"{self.netdev}: the other program saw {seen} frames: {what}")
        check(seen >= frames, f"the other program on {self.netdev} saw {seen} frames, not {frames}: {what}")


def our_dispatcher(bench):
    """The environment of a user of libxdp with a dispatcher that takes programs which change frames, as of 1.5.5."""
    return {"LIBXDP_OBJECT_PATH": str((bench.binaries / "../lib/ivds").resolve())}
