#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demo behind demo-migration.sh: a guest of QEMU's that moves between hosts while its connection lives on.

demo_migration.py [--binaries DIR] [--moves N]
"""
import argparse
import fcntl
import json
import os
import pathlib
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

from lab import TOP, Lab, LabError

CACHE = pathlib.Path(os.environ.get("IVDS_LAB_CACHE", "/var/cache/ivds-lab"))
HOOK = TOP / "scripts/libvirt/qemu"
ETCD = "10.9.0.1:2379"
VVLAN, VLANS = 10, {"a": 100, "b": 200, "c": 100}
DOMAIN, VMAC, ADDRESS, TAP = "guest", "02:00:00:00:00:01", "10.0.0.1", "vnet0"
PORT = 7
FOLDER = "ivds-demo-migration"
BOLD, GREEN, RED, PLAIN = ("\033[1m", "\033[32m", "\033[31m", "\033[0m") if sys.stdout.isatty() else ("",) * 4

# What libvirt hands to its hook.
XML = f"""<domain type="qemu"><name>{DOMAIN}</name>
  <metadata><ivds:ports xmlns:ivds="urn:ivds:ports:1">
    <ivds:port mac="{VMAC}" instance="red" vport="{DOMAIN}"/>
  </ivds:ports></metadata>
  <devices><interface type="ethernet"><mac address="{VMAC}"/><target dev="{TAP}"/></interface></devices>
</domain>"""

INIT = f"""#!/bin/busybox sh
b=/bin/busybox
$b mount -t proc proc /proc
$b mount -t sysfs sys /sys
$b mount -t devtmpfs dev /dev
while read -r m; do $b insmod /modules/$m; done </modules/order
$b ip link set lo up
$b ip addr add {ADDRESS}/24 dev eth0
$b ip link set eth0 up
echo the guest is up
$b nc -ll -p {PORT} -e $b cat
"""


def title(text):
    print(f"\n{BOLD}== {text}{PLAIN}", flush=True)


def hold_cache():
    """A lock on what lab.sh fetched and unpacked, without which another run may put another version in its place."""
    while True:
        done = subprocess.run([TOP / "scripts/lab.sh", "--prepare"], capture_output=True, text=True, check=False)
        if done.returncode == 77:
            print(done.stdout.strip())
            sys.exit(77)
        if done.returncode != 0:
            raise LabError(f"lab.sh --prepare: {done.stdout}{done.stderr}")
        lock = open(CACHE / "lock", "rb")
        fcntl.flock(lock, fcntl.LOCK_SH)
        if (CACHE / "stamp").exists():
            return lock
        lock.close()


def make_boot(folder):
    """The guest's kernel and first and only file system."""
    version = (CACHE / "version").read_text(encoding="ascii").strip()
    tree = folder / "guest"
    for name in ("bin", "modules", "proc", "sys", "dev"):
        (tree / name).mkdir(parents=True)
    shutil.copy(CACHE / "tools/bin/busybox", tree / "bin/busybox")
    (tree / "init").write_text(INIT, encoding="ascii")
    (tree / "init").chmod(0o755)
    shown = subprocess.run(["modprobe", "-d", CACHE / "kernel", "-S", version, "--show-depends", "virtio_net"],
                           capture_output=True, text=True, check=True).stdout
    order = []
    for line in shown.splitlines():
        if line.startswith("insmod"):
            module = pathlib.Path(line.split()[1])
            order.append(module.name.removesuffix(".xz"))
            (tree / "modules" / order[-1]).write_bytes(
                subprocess.run(["xz", "-dc", module], capture_output=True, check=True).stdout)
    (tree / "modules/order").write_text("".join(f"{name}\n" for name in order), encoding="ascii")
    with open(folder / "initrd", "wb") as initrd:
        subprocess.run("find . | cpio -o -H newc --quiet | gzip -1", shell=True, cwd=tree, stdout=initrd, check=True)
    return CACHE / f"kernel/boot/vmlinuz-{version}", folder / "initrd"


class Qemu:
    """A QEMU on a host, and what one can tell it (QMP)."""

    def __init__(self, demo, host, incoming=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=demo.folder))
        self.console = self.folder / "console"
        kernel, initrd = demo.boot
        words = ["qemu-system-x86_64", "-machine", "q35", "-accel", "tcg", "-cpu", "max", "-smp", "1", "-m", "128M",
                 "-nodefaults", "-no-user-config", "-display", "none", "-no-reboot", "-kernel", kernel, "-initrd", initrd,
                 "-append", "console=ttyS0 quiet panic=-1 net.ifnames=0 no_timer_check", "-serial", f"file:{self.console}",
                 "-netdev", f"tap,id=net0,ifname={TAP},script=no,downscript=no",
                 "-device", f"virtio-net-pci,netdev=net0,mac={VMAC},romfile=",
                 "-qmp", f"unix:{self.folder}/qmp,server=on,wait=off"]
        self.process = host.start(*words, *(["-incoming", incoming] if incoming else []), stdout=subprocess.DEVNULL,
                                  stderr=open(self.folder / "said", "w", encoding="utf-8"))
        self.host, self.socket, self.rest = host, socket.socket(socket.AF_UNIX), b""
        demo.lab.wait(lambda: self.process.poll() is not None or self._connects(), 120, "QEMU does not start")
        if self.process.poll() is not None:
            raise LabError(f"QEMU ended: {(self.folder / 'said').read_text(encoding='utf-8')}")
        self._read()  # its greeting
        self.ask("qmp_capabilities")

    def _connects(self):
        return self.socket.connect_ex(str(self.folder / "qmp")) == 0

    def _read(self):
        while b"\n" not in self.rest:
            more = self.socket.recv(1 << 16)
            if not more:
                raise LabError("QEMU ended")
            self.rest += more
        line, self.rest = self.rest.split(b"\n", 1)
        return json.loads(line)

    def ask(self, command, **arguments):
        self.socket.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
        while True:
            answer = self._read()
            if "error" in answer:
                raise LabError(f"QEMU, {command}: {answer['error']['desc']}")
            if "return" in answer:
                return answer["return"]

    def wait_for(self, status):
        """Until its migration is so far."""
        end = time.monotonic() + 300
        while True:
            state = self.ask("query-migrate")
            if state.get("status") == status:
                return state
            if state.get("status") in ("failed", "cancelled") or time.monotonic() > end:
                raise LabError(f"QEMU's migration is {state.get('status')}, not {status}: {state.get('error-desc', '')}")
            time.sleep(0.002)

    def end(self):
        self.process.kill()
        self.process.wait()
        self.host.processes.remove(self.process)
        self.socket.close()


class Echo(threading.Thread):
    """A connection to the guest, over which numbered lines go there and back."""

    def __init__(self, place):
        super().__init__(daemon=True)
        self.socket = Lab.wait(lambda: self._connect(place), 60, "the guest takes no connection")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.answers_s, self.sent, self.stopping, self.error = [], 0, threading.Event(), None

    def run(self):
        try:
            answers = self.socket.makefile("rb")
            while not self.stopping.is_set():
                line = b"%d\n" % self.sent
                self.socket.sendall(line)
                self.sent += 1
                answer = answers.readline()
                if answer != line:
                    raise LabError(f"{line!r} came back as {answer!r}")
                self.answers_s.append(time.monotonic())
                time.sleep(0.005)
        except (OSError, LabError) as error:
            self.error = error

    @staticmethod
    def _connect(place):
        try:
            with place.within():
                return socket.create_connection((ADDRESS, PORT), timeout=60)
        except ConnectionRefusedError:
            return None  # it answers pings before its server listens

    def longest_gap_ms(self, since_s):
        """Between two answers."""
        times = [at for at in self.answers_s if at >= since_s]
        return max((later - earlier for earlier, later in zip(times, times[1:])), default=0.0) * 1000


class Demo:
    def __init__(self, lab, folder):
        self.lab, self.folder = lab, folder
        self.held = []
        self.hosts, self.boot, self.moves = {}, None, []

    def claim(self, text, held):
        self.held.append(bool(held))
        print(f"{GREEN + 'ok  ' if held else RED + 'FAIL'}{PLAIN} {text}", flush=True)

    def set_up(self):
        title("three hosts on two VLANs of a fabric, agents with one etcd, and a client on the third")
        lab = self.lab
        self.boot = make_boot(self.folder)
        fabric, registry = lab.place("fabric"), lab.place("etcd")
        fabric.ip("link add fabric mtu 1508 type bridge", "link set fabric up")
        fabric.run("sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done")
        registry.ip("link add mgmt type bridge", "link set mgmt up", "addr add 10.9.0.1/24 dev mgmt")
        registry.start("etcd", "--data-dir", self.folder / "etcd", "--listen-client-urls", f"http://{ETCD}",
                       "--advertise-client-urls", f"http://{ETCD}", "--listen-peer-urls", "http://127.0.0.1:2380",
                       stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for number, name in enumerate(VLANS, 11):
            host = self.hosts[name] = lab.host(name)
            lab.cable(host, "wire0", fabric, f"port-{name}")
            fabric.ip(f"link set port-{name} master fabric")
            lab.cable(host, "mgmt0", registry, f"mgmt-{name}", 1500)
            registry.ip(f"link set mgmt-{name} master mgmt")
            host.ip(f"addr add 10.9.0.{number}/24 dev mgmt0")
            host.start_agent("--registry", "etcd", "--etcd", ETCD, "--host-name", name)
            host.apply({"uplinks": [{"name": "uplink", "netdev": "wire0"}],
                        "instances": [{"name": "red", "uplink": "uplink", "mode": "piggyback", "vlan": VLANS[name],
                                       "peer_vlans": [300 - VLANS[name]], "vvlan": VVLAN, "scope": "distributed"}]})
        self.client = lab.vm(self.hosts["c"], "client", "02:00:00:00:00:03", address="10.0.0.3")
        self.hosts["c"].ctl("vnic", "create", "client-nic", "--vmac", self.client.mac)
        self.hosts["c"].ctl("vport", "create", "client", "--instance", "red", "--netdev", "client", "--vnic", "client-nic")
        self.wait_synced()

    def wait_synced(self):
        """A machine that is short of time keeps etcd from answering in time, now and then."""
        for host in self.hosts.values():
            self.lab.wait(lambda host=host: "synced" in host.ctl("doctor", check=False).stdout, 60,
                          f"{host.name} is not synced with etcd")

    def hook(self, host, operation, sub_operation):
        host.run("/usr/bin/python3", HOOK, DOMAIN, operation, sub_operation, "-", stdin=XML)

    def plug_in(self, host):
        host.ip(f"tuntap add {TAP} mode tap vnet_hdr", f"link set {TAP} up")

    def boot_guest(self):
        title("the guest boots on host a")
        host = self.hosts["a"]
        self.plug_in(host)
        self.hook(host, "prepare", "begin")
        qemu = Qemu(self, host)
        self.hook(host, "started", "begin")

        def answers():
            if qemu.process.poll() is not None:
                raise LabError("QEMU ended")
            return self.client.run("ping", "-q", "-c", "1", "-W", "1", ADDRESS, check=False).returncode == 0
        self.lab.wait(answers, 300, "the guest does not answer")
        self.claim("the client on host c reaches the guest", True)
        return qemu

    def move(self, qemu, origin, target, echo):
        """Returns the QEMU that has the guest now."""
        source, there = self.hosts[origin], self.hosts[target]
        self.wait_synced()
        title(f"QEMU moves the guest from host {origin} (VLAN {VLANS[origin]}) to host {target} (VLAN {VLANS[target]})")
        begun = time.monotonic()
        said = lambda text: print(f"{(time.monotonic() - begun) * 1000:9.1f} ms  {text}", flush=True)  # noqa: E731
        self.plug_in(there)
        there.ctl("migrate", "prepare", "-f", "-", "--netdev", TAP, stdin=source.ctl("migrate", "export", DOMAIN))
        said(f"its vPort is prepared on host {target}")
        channel = f"unix:{self.folder}/migration-{len(self.moves)}"
        self.hook(there, "prepare", "begin")
        incoming = Qemu(self, there, incoming=channel)
        self.hook(there, "started", "begin")  # finds the vPort prepared, and leaves it
        self.lab.wait(lambda: f"vport {DOMAIN} is ready" in there.ctl("migrate", "commit", DOMAIN, "--dry-run", check=False)
                      .stdout, 60, "the port on the other host is not ready")
        for each in (qemu, incoming):
            each.ask("migrate-set-capabilities", capabilities=[{"capability": "pause-before-switchover", "state": True}])
        qemu.ask("migrate-set-parameters", **{"max-bandwidth": 0, "downtime-limit": 100})
        # It reads what is left to know from its standard input, and so starts while the guest runs.
        commit = there.start("ivds-ctl", "migrate", "commit", DOMAIN, "-f", "-", stdin=subprocess.PIPE,
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        qemu.ask("migrate", uri=channel)
        qemu.wait_for("pre-switchover")
        paused = time.monotonic()
        said("its memory is there, and it stands still")
        answer, _ = commit.communicate(source.ctl("migrate", "export", DOMAIN), timeout=60)
        if commit.returncode != 0:
            raise LabError(f"migrate commit: {answer}")
        said(answer.strip())
        qemu.ask("migrate-continue", state="pre-switchover")
        state = qemu.wait_for("completed")
        said(f"it runs on host {target}: QEMU says that it stood still for {state['downtime']} ms")
        self.lab.wait(lambda: incoming.ask("query-status")["status"] == "running", 30, "the guest does not go on")
        self.claim("the guest runs on the other host", True)
        answered = len(echo.answers_s)
        self.lab.wait(lambda: echo.error or len(echo.answers_s) > answered + 20, 120, "no more answers from the guest")
        self.claim("its connection goes on: no answer is missing, none is wrong", not echo.error)
        qemu.end()
        self.hook(source, "stopped", "end")
        self.hook(source, "release", "end")
        source.ip(f"link del {TAP}")
        binding = there.ctl_json("vport", "get", DOMAIN)["vport"]
        self.claim(f"the vPort is active on host {target}, and gone from host {origin}",
                   binding["state"] == "active" and source.ctl("vport", "get", DOMAIN, check=False).returncode != 0)
        self.moves.append({"stood_still_ms": state["downtime"], "gap_ms": echo.longest_gap_ms(paused - 1)})
        return incoming

    def run(self, moves):
        self.set_up()
        qemu = self.boot_guest()
        echo = Echo(self.client)
        echo.start()
        self.lab.wait(lambda: echo.error or len(echo.answers_s) > 50, 60, "the guest does not echo")
        for number in range(moves):
            qemu = self.move(qemu, "ab"[number % 2], "ba"[number % 2], echo)
        echo.stopping.set()
        echo.join(60)
        title("what came of it")
        self.claim(f"one TCP connection carried {len(echo.answers_s)} lines there and back over {moves} moves",
                   not echo.error and len(echo.answers_s) == echo.sent)
        for number, move in enumerate(self.moves, 1):
            print(f"     move {number}: the guest stood still for {move['stood_still_ms']} ms, the longest wait for an answer "
                  f"was {move['gap_ms']:.0f} ms")
        usual = statistics.median((later - earlier) * 1000
                                  for earlier, later in zip(echo.answers_s, echo.answers_s[1:]))
        print(f"     an answer otherwise took {usual:.0f} ms, of which 5 ms are the client's pause; the guest is emulated")
        if echo.error:
            print(f"     {echo.error}")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", type=lambda p: pathlib.Path(p).resolve(), default=TOP / "build/release/bin")
    parser.add_argument("--moves", type=int, default=2)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("SKIP: making network namespaces and loading BPF programs need root")
        sys.exit(77)
    if not os.path.exists("/dev/net/tun"):
        print("SKIP: there is no /dev/net/tun for the guest's tap")
        sys.exit(77)
    # However it is ended, what it made ends with it.
    for how in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(how, lambda *_: sys.exit(130))
    # Of one that was killed its files alone are left.
    for left in pathlib.Path(tempfile.gettempdir()).glob(f"{FOLDER}.*.*"):
        if not os.path.exists(f"/proc/{left.name.split('.')[1]}"):
            shutil.rmtree(left, ignore_errors=True)
    with hold_cache(), tempfile.TemporaryDirectory(prefix=f"{FOLDER}.{os.getpid()}.") as folder, \
            Lab(arguments.binaries) as lab:
        demo = Demo(lab, pathlib.Path(folder))
        try:
            demo.run(arguments.moves)
        except LabError as error:
            demo.claim(str(error), False)
            for host in demo.hosts.values():
                print(f"--- ivdsd on {host.name} said:\n{host.agent_said()[-2000:]}")
        sys.exit(0 if demo.held and all(demo.held) else 1)


if __name__ == "__main__":
    main()
