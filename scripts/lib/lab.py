# SPDX-License-Identifier: Apache-2.0
"""lab.py -- hosts, VMs and the cables between them, made of namespaces; for the demo and for the tests in tests/netns.

A VM is a network namespace. A host is one too, with mounts of its own beside: /sys with a bpffs at /sys/fs/bpf, and
empty /run and /var/lib, so that the programs of two hosts run on one machine with their default paths.

Nothing here has a name that outlives it: each namespace is kept by a process that the kernel kills when the one that
made it ends, however it ends; interfaces, pins, programs, sockets and saved state go with the namespaces.
"""
import ctypes
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import tempfile
import time

TOP = pathlib.Path(__file__).resolve().parents[2]
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


def _dies_with_parent():
    _libc.prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class LabError(Exception):
    """A step of setting a lab up, or a command in it, failed."""


def written(file):
    """The text in a file that a program still writes to. It is opened anew: to seek in it would move the program too."""
    return pathlib.Path(f"/proc/self/fd/{file.fileno()}").read_text(encoding="utf-8")


class Place:
    """A network namespace and the process that keeps it."""

    def __init__(self, lab, name, flags=CLONE_NEWNET):
        self.lab, self.name = lab, name

        def unshare():
            _dies_with_parent()
            if _libc.unshare(flags) != 0:
                os._exit(1)

        # The process shows up as "ivds-lab NAME" in a list of processes.
        self.keeper = subprocess.Popen([f"ivds-lab {name}", "infinity"], executable="/usr/bin/sleep",
                                       stdin=subprocess.DEVNULL, preexec_fn=unshare)
        self.netns = os.open(f"/proc/{self.keeper.pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        self.processes = []

    @property
    def pid(self):
        return self.keeper.pid

    def enter(self, words):
        """The command line that runs `words` in here."""
        return ["/usr/bin/nsenter", f"--net=/proc/{self.pid}/ns/net", "--", *self.lab.words(words)]

    def start(self, *words, **options):
        """Starts a program in here; the lab ends it."""
        options.setdefault("stdin", subprocess.DEVNULL)
        process = subprocess.Popen(self.enter(words), preexec_fn=_dies_with_parent, env=self.lab.environment,
                                   text=True, **options)
        self.processes.append(process)
        return process

    def run(self, *words, check=True, timeout=60, stdin=None):
        """Runs a program in here to its end."""
        done = subprocess.run(self.enter(words), input=stdin if stdin is not None else "", capture_output=True,
                              text=True, check=False, timeout=timeout, env=self.lab.environment)
        if check and done.returncode != 0:
            raise LabError(f"{self.name}: {' '.join(map(str, words))}: exit {done.returncode}\n"
                           f"{done.stdout}{done.stderr}")
        return done

    def ip(self, *lines):
        """Runs lines of ip(8) as one batch."""
        self.run("ip", "-batch", "-", stdin="".join(f"{line}\n" for line in lines))

    def sysctl(self, **values):
        """Sets net.* sysctls; a dot is written as two underscores."""
        self.run("sysctl", "-qw", *(f"net.{key.replace('__', '.')}={value}" for key, value in values.items()))

    def within(self):
        """A `with` block whose system calls (sockets, netlink) happen in this network namespace."""
        return _Within(self.netns)

    def port(self, netdev):
        """A raw socket on an interface in here."""
        return RawPort(self, netdev)

    def up(self):
        self.ip("link set lo up")
        self.sysctl(ipv6__conf__all__disable_ipv6=1, ipv6__conf__default__disable_ipv6=1)

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
            process.wait()
        self.processes = []
        self.keeper.kill()
        self.keeper.wait()
        os.close(self.netns)


class _Within:
    def __init__(self, netns):
        self.netns = netns

    def __enter__(self):
        self.home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        if _libc.setns(self.netns, CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")

    def __exit__(self, *_):
        _libc.setns(self.home, CLONE_NEWNET)
        os.close(self.home)


class Vm(Place):
    """A VM: one network namespace with eth0, the vNIC."""

    def __init__(self, lab, name, netdev, mac):
        super().__init__(lab, name)
        self.netdev, self.mac = netdev, mac  # `netdev` is the host's side of the vNIC
        self.address = None

    def set_address(self, address, prefix=24):
        self.address = address
        self.ip(f"addr replace {address}/{prefix} dev eth0")


class Host(Place):
    """A host with its own bpffs, /run and /var/lib, for the agent and the other programs."""

    def __init__(self, lab, name):
        super().__init__(lab, name, CLONE_NEWNET | CLONE_NEWNS)
        self.agent = None
        self.agent_log = None
        mounts = ["mount --make-rprivate /", "mount -t sysfs sysfs /sys", "mount -t bpf bpf /sys/fs/bpf",
                  "mount -t tmpfs -o mode=755 tmpfs /run", "mount -t tmpfs -o mode=755 tmpfs /var/lib",
                  "mkdir /run/ivds /var/lib/ivds"]
        self.run("sh", "-ec", "\n".join(mounts))
        self.up()

    def enter(self, words):
        return ["/usr/bin/nsenter", f"--net=/proc/{self.pid}/ns/net", f"--mount=/proc/{self.pid}/ns/mnt", "--",
                *self.lab.words(words)]

    def path(self, inside):
        """Where a path of this host is, seen from outside."""
        return pathlib.Path(f"/proc/{self.pid}/root{inside}")

    def start_agent(self, *options, program="ivdsd"):
        """Starts the agent and returns once it answers."""
        self.agent_log = tempfile.TemporaryFile("w+")
        self.agent = self.start(program, *options, stdout=self.agent_log, stderr=subprocess.STDOUT)
        self.lab.wait(self._agent_answers, 120, f"{self.name}: ivdsd does not answer")

    def _agent_answers(self):
        if self.agent.poll() is not None:
            raise LabError(f"{self.name}: ivdsd ended with {self.agent.returncode}\n{self.agent_said()}")
        with socket.socket(socket.AF_UNIX) as probe:
            return probe.connect_ex(str(self.path("/run/ivds/ivdsd.sock"))) == 0

    def agent_said(self):
        if self.agent_log is None:
            return ""
        return written(self.agent_log)

    def stop_agent(self, how=signal.SIGTERM):
        self.agent.send_signal(how)
        code = self.agent.wait(30)
        self.processes.remove(self.agent)
        self.agent = None
        return code

    def ctl(self, *words, check=True, stdin=None):
        """Runs ivds-ctl and returns what it printed."""
        done = self.run("ivds-ctl", *words, check=check, stdin=stdin)
        return done.stdout if check else done

    def ctl_json(self, *words):
        return json.loads(self.ctl("--json", *words))

    def ctl_json_lines(self, *words):
        """What a command prints one object a line."""
        return [json.loads(line) for line in self.ctl("--json", *words).splitlines()]

    def apply(self, config):
        """Applies a configuration: YAML text, or a value to be written as JSON, which YAML is a superset of."""
        text = config if isinstance(config, str) else json.dumps(config)
        return self.ctl("apply", "-f", "-", stdin=text)


class Lab:
    """All hosts, VMs and cables of one scene. A context manager: what it made is gone at the end of the block."""

    def __init__(self, binaries, ctl=None):
        """Programs are those in `binaries`; `ctl`, where given, is the ivds-ctl instead."""
        self.places, self.ctl = [], ctl
        binaries = pathlib.Path(binaries).resolve()
        self.environment = dict(os.environ, PATH=f"{binaries}:/usr/sbin:/usr/bin:/sbin:/bin", LC_ALL="C.UTF-8")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def words(self, words):
        """A command line as it is run."""
        words = [str(word) for word in words]
        return [str(self.ctl), *words[1:]] if self.ctl and words[0] == "ivds-ctl" else words

    def end(self):
        # VMs first: a host's agent then sees what it would see of VMs that stop.
        for place in reversed(self.places):
            place.end()
        self.places = []

    @staticmethod
    def wait(condition, seconds, otherwise):
        """Waits until `condition()` is true. The limit only bounds a failure; it is no part of what is tested.
        `otherwise` is what is said then, or makes it of what there is then."""
        end = time.monotonic() + seconds
        while True:
            asked = time.monotonic()
            value = condition()
            if value:
                return value
            if time.monotonic() > end:
                raise LabError(otherwise() if callable(otherwise) else otherwise)
            # What takes long to ask is asked half of the time: the core is also that of what is waited for.
            time.sleep(max(0.01, time.monotonic() - asked))

    def place(self, name):
        place = Place(self, name)
        self.places.append(place)
        place.up()
        return place

    def host(self, name):
        host = Host(self, name)
        self.places.append(host)
        return host

    def vm(self, host, name, mac, netdev=None, mtu=1500, address=None):
        """A VM on a host. Its vNIC is plugged in; what the host's side is called is up to the configuration."""
        vm = Vm(self, name, netdev or name, mac)
        self.places.append(vm)
        vm.up()
        self.plug(host, vm, mtu)
        if address:
            vm.set_address(address)
        return vm

    @staticmethod
    def plug(host, vm, mtu=1500):
        """Connects (or, after unplug, connects again) a VM's vNIC."""
        host.ip(f"link add {vm.netdev} mtu {mtu} type veth peer name eth0 address {vm.mac} mtu {mtu} netns {vm.pid}")
        vm.ip("link set eth0 up")
        host.ip(f"link set {vm.netdev} up")
        if vm.address:
            vm.set_address(vm.address)

    @staticmethod
    def unplug(host, vm):
        host.ip(f"link del {vm.netdev}")

    @staticmethod
    def cable(one, one_netdev, other, other_netdev, mtu=1508):
        """A cable between two places. Its MTU has room for the outer VLAN tag and the V.VLAN tag."""
        one.ip(f"link add {one_netdev} mtu {mtu} type veth peer name {other_netdev} mtu {mtu} netns {other.pid}",
               f"link set {one_netdev} up")
        other.ip(f"link set {other_netdev} up")


# ---------------------------------------------------------------------------------------------- raw frames

_SOL_PACKET, _PACKET_AUXDATA, _PACKET_IGNORE_OUTGOING, _SO_RCVBUFFORCE = 263, 8, 23, 33
_VLAN_VALID, _TPID_VALID = 0x10, 0x40


class RawPort:
    """Sends and receives frames as they are on an interface, outer tag included."""

    def __init__(self, place, netdev):
        with place.within():
            self.socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(3))
            self.socket.setsockopt(_SOL_PACKET, _PACKET_AUXDATA, 1)
            self.socket.setsockopt(_SOL_PACKET, _PACKET_IGNORE_OUTGOING, 1)
            self.socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, 64 << 20)
            self.socket.bind((netdev, 3))
        self.socket.setblocking(False)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, frame):
        while True:
            try:
                return self.socket.send(frame)
            except (BlockingIOError, OSError) as error:
                if error.errno not in (11, 105):  # EAGAIN, ENOBUFS: the queue is full, it empties by itself
                    raise
                time.sleep(0.001)

    def receive(self):
        """All frames that have come in by now."""
        frames = []
        while True:
            try:
                data, control, _, _ = self.socket.recvmsg(1 << 17, 64)
            except BlockingIOError:
                return frames
            for level, kind, value in control:
                if level == _SOL_PACKET and kind == _PACKET_AUXDATA:
                    status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", value[:20])
                    if status & _VLAN_VALID:
                        tpid = tpid if status & _TPID_VALID else 0x8100
                        data = data[:12] + struct.pack("!HH", tpid, tci) + data[12:]
            frames.append(data)

    def receive_until(self, enough, seconds=5.0):
        """Frames until `enough(frames)`, or what has come when the time is up; the caller judges."""
        frames, end = [], time.monotonic() + seconds
        while True:
            frames += self.receive()
            if enough(frames) or time.monotonic() > end:
                return frames
            time.sleep(0.002)
