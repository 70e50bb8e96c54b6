#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The demo behind demo.sh: sets the scene up, shows what happens in it, and says at the end what held.

demo.py [--binaries DIR] [--keep]   run it
demo.py on PLACE COMMAND…           run a command in a kept one
demo.py down                        remove a kept one
"""
import argparse
import itertools
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time

from lab import TOP, Lab, LabError, RawPort

KEPT = pathlib.Path("/run/ivds-demo.json")
VLAN = 100
VVLAN = {"red": 10, "blue": 20}
HOST_OF = {"red-1": "host-a", "red-2": "host-a", "red-3": "host-b",
           "blue-1": "host-a", "blue-2": "host-b", "blue-3": "host-b"}
ROUNDS = 50
BOLD, GREEN, RED, PLAIN = ("\033[1m", "\033[32m", "\033[31m", "\033[0m") if sys.stdout.isatty() else ("",) * 4


def vmac(number):
    return f"02:00:00:00:00:0{number}"


def title(text):
    print(f"\n{BOLD}== {text}{PLAIN}", flush=True)


class Demo:
    def __init__(self, lab):
        self.lab = lab
        self.held = []  # (what was claimed, whether it held)
        self.vms = {}

    def claim(self, text, held):
        self.held.append((text, bool(held)))
        print(f"{GREEN + 'ok  ' if held else RED + 'FAIL'}{PLAIN} {text}", flush=True)

    def tenant(self, name):
        return [vm for vm in self.vms.values() if vm.name.startswith(name)]

    # ------------------------------------------------------------------------------------------ the scene

    def set_up(self):
        title("two hosts, one cable, two tenants with the same addresses")
        self.a, self.b = self.lab.host("host-a"), self.lab.host("host-b")
        self.lab.cable(self.a, "wire0", self.b, "wire0")
        hosts = {"host-a": self.a, "host-b": self.b}
        for name, host in HOST_OF.items():
            number = int(name[-1])
            self.vms[name] = self.lab.vm(hosts[host], name, vmac(number), address=f"10.0.0.{number}")
        print("""
        host-a                                     host-b
        red-1   red-2   blue-1                     red-3   blue-2   blue-3
        .1      .2      .1        10.0.0.x         .3      .2       .3
        :01     :02     :01       vMAC …:0x        :03     :02      :03
        └───────┴───────┴─ wire0 ═══ VLAN 100 ═══ wire0 ─┴───────┴───────┘
                           V.VLAN 10 red, 20 blue
""")
        for host, letter in ((self.a, "a"), (self.b, "b")):
            host.start_agent()
            print(f"{host.name}$ ivds-ctl apply -f scripts/examples/host-{letter}.yaml")
            print(host.ctl("apply", "-f", TOP / f"scripts/examples/host-{letter}.yaml"), end="")

    # ------------------------------------------------------------------------------------------ what is shown

    def pings(self):
        """Every VM pings every other of its tenant; a frame's payload says whose it is."""
        running = {}
        for tenant in VVLAN:
            for one, other in itertools.permutations(self.tenant(tenant), 2):
                running[one.name, other.name] = one.start(
                    "ping", "-q", "-c", "3", "-i", "0.05", "-W", "2", "-p", tenant.encode().hex(), other.address,
                    stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return {pair: process.wait(20) == 0 for pair, process in running.items()}

    def show_pings(self, answered):
        title("ping: every VM to every VM of its own tenant")
        for tenant in VVLAN:
            names = [vm.name for vm in self.tenant(tenant)]
            print(f"{'':8}" + "".join(f"{name:>10}" for name in names))
            for one in names:
                row = ["-" if one == other else "answers" if answered[one, other] else "SILENT" for other in names]
                print(f"{one:8}" + "".join(f"{cell:>10}" for cell in row))
        self.claim("ping works inside each tenant, on one host and across the wire", all(answered.values()))

    def barrage(self, ports):
        """Frames that stay inside a tenant, and frames that try to get out of it; counted at every VM."""
        title("isolation: frames counted at every VM")
        honest = forged = 0
        for count in range(ROUNDS):
            for vm in self.vms.values():
                tenant = vm.name.split("-")[0]
                foreign = next(v for t, v in VVLAN.items() if t != tenant)
                own = bytes.fromhex(vm.mac.replace(":", ""))
                stranger = bytes.fromhex("0200000000ee")
                peers = [bytes.fromhex(vmac(n).replace(":", "")) for n in (1, 2, 3) if vmac(n) != vm.mac]
                everyone = [b"\xff" * 6, bytes.fromhex("01005e000001")]
                body = b"\x88\xb5" + f"ivds-demo {tenant} {vm.name} {count} ".encode().ljust(60, b".")
                inner, outer = b"\x81\0" + foreign.to_bytes(2, "big"), b"\x81\0" + VLAN.to_bytes(2, "big")
                for destination in peers + everyone:
                    ports[vm.name].send(destination + own + body)
                    for frame in (destination + own + inner + body, destination + own + outer + inner + body,
                                  destination + stranger + body):
                        ports[vm.name].send(frame)
                        forged += 1
                honest += len(peers) + 2 * len(everyone)  # a broadcast reaches both others
            time.sleep(0.002)
        seen = {name: [] for name in self.vms}

        def collect():
            for name, port in ports.items():
                seen[name] += [frame for frame in port.receive() if b"ivds-demo" in frame or
                               any(tenant.encode() * 4 in frame for tenant in VVLAN)]
            return sum(b"ivds-demo" in frame for frames in seen.values() for frame in frames) >= honest

        try:
            self.lab.wait(collect, 5, "")
        except LabError:
            pass  # the claim below says so
        time.sleep(0.2)
        collect()

        leaks = own = pings = 0
        print(f"{'at':8}{'of its tenant':>15}{'of the other':>15}{'with a tag':>12}")
        for name, frames in seen.items():
            tenant = name.split("-")[0]
            other = next(t for t in VVLAN if t != tenant)
            mine = sum(f"ivds-demo {tenant}".encode() in frame for frame in frames)
            pings += sum(tenant.encode() * 4 in frame for frame in frames)
            foreign = sum(f"ivds-demo {other}".encode() in frame or other.encode() * 4 in frame for frame in frames)
            tagged = sum(frame[12:14] in (b"\x81\0", b"\x88\xa8", b"\x91\0") for frame in frames)
            print(f"{name:8}{mine:>15}{foreign:>15}{tagged:>12}")
            own += mine
            leaks += foreign + tagged
        self.claim(f"{own} of {honest} frames arrived inside their tenants, and {pings} pings",
                   own == honest and pings > 0)
        self.claim(f"{leaks} frames crossed between the tenants, of {honest + forged} deliveries tried", leaks == 0)
        dropped = {}
        for host in (self.a, self.b):
            for drop in host.ctl_json("stats").get("drops", []):
                dropped[drop["reason"]] = dropped.get(drop["reason"], 0) + int(drop["packets"])
        tags, spoofs = dropped.get("guest_tag", 0), dropped.get("spoof", 0)
        self.claim(f"the switch counted what was forged: {tags} guest_tag + {spoofs} spoof = {forged} frames",
                   tags + spoofs == forged)

    def tcp(self, one, other):
        server = other.start("iperf3", "-s", "-1", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        listening = pathlib.Path(f"/proc/{other.pid}/net/tcp")
        listening6 = pathlib.Path(f"/proc/{other.pid}/net/tcp6")
        self.lab.wait(lambda: any(":1451 " in f.read_text() for f in (listening, listening6)), 10,
                      f"iperf3 does not listen in {other.name}")
        done = one.run("iperf3", "-c", other.address, "-t", "1", "-J", check=False)
        server.wait(10)
        report = json.loads(done.stdout) if done.stdout else {}
        rate = report.get("end", {}).get("sum_received", {}).get("bits_per_second", 0) / 1e9
        where = "on one host" if HOST_OF[one.name] == HOST_OF[other.name] else "across the wire"
        self.claim(f"TCP {one.name} to {other.name}, {where}: {rate:.1f} Gbit/s", rate > 0)

    def show_wire(self, capture):
        title("the wire, as tshark decodes it (outer VLAN, then V.VLAN)")
        fields = ["frame.number", "eth.src", "eth.dst", "vlan.id", "_ws.col.Protocol", "_ws.col.Info"]
        words = ["tshark", "-n", "-r", capture, "-T", "fields"] + [w for f in fields for w in ("-e", f)]
        lines = subprocess.run(words, capture_output=True, text=True, check=False,
                               env=self.lab.environment).stdout.splitlines()
        vlans = {}
        for line in lines:
            cells = line.split("\t")
            tags = cells[3] if len(cells) > 3 else ""
            vlans.setdefault(tags, []).append(cells)
        print(f"{'from':19}{'to':19}{'VLAN,V.VLAN':13}")
        for tags in sorted(vlans):
            for cells in vlans[tags][:3]:
                print(f"{cells[1]:19}{cells[2]:19}{tags:13}{' '.join(cells[4:])}")
        wanted = {f"{VLAN},{vvlan}" for vvlan in VVLAN.values()}
        self.claim(f"all {len(lines)} frames on the wire carry VLAN {VLAN} and a V.VLAN of theirs",
                   lines and set(vlans) == wanted)

    def show_tables(self):
        for words in (["status"], ["fdb", "show"], ["stats"]):
            title(f"host-a$ ivds-ctl {' '.join(words)}")
            print(self.a.ctl(*words), end="", flush=True)

    def run(self):
        started = time.monotonic()
        self.set_up()
        ports = {name: RawPort(vm, "eth0") for name, vm in self.vms.items()}
        with tempfile.NamedTemporaryFile(suffix=".pcap") as capture:
            os.chmod(capture.name, 0o666)  # tcpdump writes it with privileges dropped
            tcpdump = self.a.start("tcpdump", "--immediate-mode", "-Uni", "wire0", "-w", capture.name, "-Z", "root",
                                   stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
            tcpdump.stderr.readline()  # "listening on …"
            self.show_pings(self.pings())
            tcpdump.terminate()
            tcpdump.communicate(timeout=10)
            self.show_wire(capture.name)
        self.barrage(ports)
        for port in ports.values():
            port.close()
        title("TCP (iperf3, one second each)")
        for one, other in (("red-1", "red-2"), ("blue-2", "blue-3"), ("red-1", "red-3"), ("blue-1", "blue-2")):
            self.tcp(self.vms[one], self.vms[other])
        self.show_tables()
        good = sum(held for _, held in self.held)
        title(f"summary: {good} of {len(self.held)} claims held, {time.monotonic() - started:.0f} s")
        for text, held in self.held:
            print(f"{GREEN + 'ok  ' if held else RED + 'FAIL'}{PLAIN} {text}")
        return good == len(self.held)


def run(binaries):
    """Runs the demo; returns the lab that is still up and whether all held."""
    lab = Lab(binaries)
    demo = Demo(lab)
    try:
        return lab, demo.run()
    except (LabError, OSError, subprocess.SubprocessError, KeyError, ValueError) as error:
        print(f"{RED}FAIL{PLAIN} {error}", file=sys.stderr)
        for place in lab.places:
            said = getattr(place, "agent_said", lambda: "")()
            if said:
                print(f"--- ivdsd on {place.name} said:\n{said}", file=sys.stderr)
        return lab, False
    except BaseException:
        lab.end()
        raise


def kept():
    """What `--keep` left running, or nothing."""
    try:
        record = json.loads(KEPT.read_text())
        command = pathlib.Path(f"/proc/{record['keeper']}/cmdline").read_bytes()
    except (OSError, ValueError):
        return None
    return record if b"demo.py" in command else None


def keep(binaries):
    """Runs the demo in a process of its own that stays, as everything goes when its maker ends."""
    if kept():
        sys.exit("the demo is already running: 'sudo scripts/demo.sh down' removes it")
    reading, writing = os.pipe()
    if os.fork() == 0:
        os.setsid()
        lab, good = run(binaries)
        if not good:
            lab.end()
            os._exit(1)
        KEPT.write_text(json.dumps({"keeper": os.getpid(), "binaries": str(binaries),
                                    "places": {place.name: place.enter([]) for place in lab.places}}))
        title("it is still running; try")
        for line in ("on red-1 ping 10.0.0.3", "on host-a ivds-ctl stats --watch 1", "on host-b ivds-ctl fdb show",
                     "on host-a tcpdump -eni wire0 vlan", "on host-a ivds-ctl vport delete red-2"):
            print(f"  sudo scripts/demo.sh {line}")
        agents = " ".join(str(place.agent.pid) for place in lab.places if getattr(place, "agent", None))
        print(f"  sudo kill -9 {agents:<23} # both agents: the pings go on\n  sudo scripts/demo.sh down")
        sys.stdout.flush()
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
        os.write(writing, b"k")
        os.close(writing)
        signal.sigwait({signal.SIGTERM, signal.SIGINT})
        lab.end()
        KEPT.unlink(missing_ok=True)
        os._exit(0)
    os.close(writing)
    return os.read(reading, 1) == b"k"


def down():
    record = kept()
    if record:
        os.kill(record["keeper"], signal.SIGTERM)
        Lab.wait(lambda: not kept(), 20, "the demo does not end")
        print("the demo is gone")
    else:
        KEPT.unlink(missing_ok=True)
        print("no demo is running")


def on(place, words):
    record = kept() or sys.exit("no demo is running: 'sudo scripts/demo.sh --keep' starts one")
    if place not in record["places"]:
        sys.exit(f"no place '{place}'; there are {', '.join(record['places'])}")
    enter = record["places"][place]
    environment = dict(os.environ, PATH=f"{record['binaries']}:{os.environ['PATH']}")
    os.execvpe(enter[0], enter + words, environment)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", type=lambda p: pathlib.Path(p).resolve(), default=TOP / "build/release/bin")
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("words", nargs=argparse.REMAINDER)
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        print("SKIP: making network namespaces and loading BPF programs need root")
        sys.exit(77)
    match arguments.words:
        case []:
            if arguments.keep:
                sys.exit(0 if keep(arguments.binaries) else 1)
            lab, good = run(arguments.binaries)
            lab.end()
            sys.exit(0 if good else 1)
        case ["down"]:
            down()
        case ["on", place, *words] if words:
            on(place, words)
        case _:
            sys.exit("usage: demo.sh [--keep | on PLACE COMMAND… | down]")


if __name__ == "__main__":
    main()
