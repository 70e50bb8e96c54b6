# SPDX-License-Identifier: Apache-2.0
"""scale_test.py -- what a frame, an answer and the agent cost as VMs and queues grow in number, and what the NIC saves.
It runs in a guest whose clock counts instructions (scripts/lab.sh --count), so that the figures, which it prints, are of
work and not of a machine's speed; they are the same again to within a percent or two.
"""
import contextlib
import json
import pathlib
import re
import statistics
import subprocess
import sys
import time

from nics import physical
from harness import check, case, main
from rack import rack
from scene import mac

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "bench"))
from pktgen import Generator  # noqa: E402  pylint: disable=wrong-import-position

FRAMES = 3072
VLAN, VVLAN = 100, 10
COUNTS = (6, 66, 258)
FLAT = 0.2  # R179: what it is among the fewest, give or take so much


def sink(bench, host, place, *netdevs):
    """What comes in at a place's interfaces is dropped by XDP in their driver, and ends the frames' way."""
    program = "/sys/fs/bpf/sink/bench_cost_empty"
    if not host.path(program).exists():
        host.run("bpftool", "prog", "loadall", bench.binaries.resolve().parent / "tests/bench/bench.bpf.o",
                 "/sys/fs/bpf/sink")
    host.run("nsenter", f"--net=/proc/{place.pid}/ns/net", "ip", "-batch", "-",
             stdin="".join(f"link set {netdev} xdpdrv pinned {program}\n" for netdev in netdevs))


class Crowd:
    """Many VMs' vNICs in one namespace, each of which sends to the next one."""

    def __init__(self, lab, host, count):
        self.host, self.count, self.place = host, count, lab.place("vms")
        lines = [f"link add p{n} type veth peer name eth{n} address {mac(n + 1)} netns {self.place.pid}"
                 for n in range(count)]
        host.ip(*lines, *(f"link set p{n} up" for n in range(count)))
        self.place.ip(*(f"link set eth{n} up" for n in range(count)))
        self.generators = [Generator(self.place, f"eth{n}", dst_mac=mac((n + 1) % count + 1), src_min=f"10.0.{n}.1",
                                     src_max=f"10.0.{n}.1", dst="10.0.0.2") for n in range(count)]

    def vports(self):
        return [{"name": f"p{n}", "instance": "red", "netdev": f"p{n}", "vnic": f"n{n}"} for n in range(self.count)]

    def vnics(self):
        return [{"name": f"n{n}", "vmac": mac(n + 1)} for n in range(self.count)]

    def netdevs(self, prefix):
        return [f"{prefix}{n}" for n in range(self.count)]

    def sunk(self):
        said = "".join(place.run("sh", "-ec", 'for at; do ethtool -S "$at"; done', "sh", *self.netdevs(prefix)).stdout
                       for place, prefix in ((self.place, "eth"), (self.host, "p")))
        return sum(int(count) for count in re.findall(r"rx_queue_\d+_xdp_drops: (\d+)", said))

    def bare(self, bench, frames):
        """As send(), with no switch: the frames are dropped where they leave the VMs. The generator looks at all its
        interfaces for each frame, and so takes longer among many."""
        sink(bench, self.host, self.host, *self.netdevs("p"))
        self.send(frames)
        taken = statistics.median(self.send(frames) for _ in range(3))
        self.host.ip(*(f"link set {netdev} xdpdrv off" for netdev in self.netdevs("p")))
        sink(bench, self.host, self.place, *self.netdevs("eth"))
        return taken

    def send(self, frames):
        """Instructions a frame of that many, which the VMs send in turn."""
        for generator in self.generators:
            generator.write(generator.file, f"count {frames // self.count}")
        before = self.sunk()
        self.generators[0].write("pgctrl", "start")
        spans = [re.search(r"started: (\d+)us +stopped: (\d+)us", each.told()) for each in self.generators]
        taken = 1000 * (max(int(span[2]) for span in spans) - min(int(span[1]) for span in spans))
        sunk = self.sunk() - before
        check(sunk == frames, f"{sunk} of {frames} frames came to a VM")
        return taken / frames


def spent(process):
    """Milliseconds that a process has had the CPU."""
    fields = pathlib.Path(f"/proc/{process.pid}/schedstat").read_text(encoding="ascii").split()
    return int(fields[0]) / 1e6


def round_trips(one, other, count=200):
    """Microseconds of each of that many pings."""
    said = one.run("ping", "-c", count, "-i", "0.002", "-W1", other.address).stdout
    times = sorted(1000 * float(value) for value in re.findall(r"time=([\d.]+) ms", said))
    check(len(times) == count, f"{len(times)} of {count} answers")
    return times


@contextlib.contextmanager
def crowded(bench, count):
    with bench.lab() as lab:
        host, far = lab.host("host"), lab.place("far")
        lab.cable(host, "wire0", far, "wire0")
        crowd = Crowd(lab, host, count - 2)
        bare = crowd.bare(bench, crowd.count * (FRAMES // crowd.count))
        host.start_agent()
        pair = [lab.vm(host, name, mac(0x700 + n), address=f"10.1.0.{n + 1}") for n, name in enumerate(("q0", "q1"))]
        host.apply({
            "uplinks": [{"name": "uplink", "netdev": "wire0"}],
            "instances": [{"name": "red", "uplink": "uplink", "vlan": VLAN, "vvlan": VVLAN, "scope": "distributed"}],
            "vnics": [*crowd.vnics(), *({"name": f"{vm.name}-nic", "vmac": vm.mac} for vm in pair)],
            "vports": [*crowd.vports(), *({"name": vm.name, "instance": "red", "netdev": vm.netdev,
                                           "vnic": f"{vm.name}-nic"} for vm in pair)]})
        lab.wait(lambda: all(port.get("up") for port in host.ctl_json("status")["ports"]), 300, "not every port is up")
        crowd.send(crowd.count * 4)  # they make flows and fill caches
        pair[0].run("ping", "-qc2", pair[1].address)
        yield host, crowd, pair, bare


@case("among 64 and 256 VMs a frame takes what it takes among a few, an answer comes as soon, and the agent leaves the "
      "CPU alone [R134][R179][R181]")
def _(bench):
    figures = {}
    for count in COUNTS:
        with crowded(bench, count) as (host, crowd, pair, bare):
            frames = crowd.count * (FRAMES // crowd.count)
            cost = statistics.median(crowd.send(frames) for _ in range(3)) - bare
            times = round_trips(*pair)
            median, p99 = times[len(times) // 2], times[int(0.99 * len(times))]
            before, started = spent(host.agent), time.monotonic()
            time.sleep(10)
            idle = (spent(host.agent) - before) / (time.monotonic() - started) / 10
        print(f"{count:>4} VMs: {cost:.0f} of the host's instructions a frame; round trip {median:.1f} us at the median, "
              f"{p99:.1f} at p99; the agent takes {idle:.2f} % of a CPU of 10^9 instructions a second")
        figures[count] = {"instructions a frame": cost, "us of a round trip at p99": p99, "% of a CPU": idle}
    for count, now in figures.items():
        for what, value in now.items():
            few = figures[min(figures)][what]
            check(abs(value / few - 1) <= FLAT, f"among {count} VMs {value:.2f} {what}, among {min(figures)} {few:.2f}")


def runs(host):
    """How often each program of the switch ran; the kernel counts while kernel.bpf_stats_enabled is set."""
    told = json.loads(host.run("bpftool", "-j", "prog", "show").stdout)
    return sum(program.get("run_cnt", 0) for program in told if program.get("name", "").startswith("ivds"))


def interrupts(pattern):
    """Of each vector whose name has that in it: how often it came."""
    rows = (line.split() for line in pathlib.Path("/proc/interrupts").read_text(encoding="ascii").splitlines())
    return {row[-1]: int(row[1]) for row in rows if row and re.search(pattern, row[-1])}


def switches():
    """Context switches of the guest so far."""
    return int(re.search(r"^ctxt (\d+)$", pathlib.Path("/proc/stat").read_text(encoding="ascii"), re.MULTILINE)[1])


def packets(place, netdev, way):
    with place.within():
        rows = pathlib.Path("/proc/thread-self/net/dev").read_text(encoding="ascii").split(f"{netdev}:")[1].split()
    return int(rows[{"rx": 1, "tx": 9}[way]])


@case("a frame from VF to VF takes none of the host's instructions, beside those of software, the "
      "Linux bridge and OVS [R180][R182]")
def _(bench):
    with rack(bench) as made:
        one, other = made.vms["red-0"], made.vms["red-1"]
        generator = Generator(one, "eth0", dst_mac=other.mac, src_min="10.0.0.10", src_max="10.0.0.10", dst="10.0.0.11")
        generator.send(64)
        made.host.run("sysctl", "-qw", "kernel.bpf_stats_enabled=1")
        before = runs(made.host), sum(interrupts("wire0").values()), packets(other, "eth0", "rx"), switches()
        taken = generator.send(FRAMES)
        after = runs(made.host), sum(interrupts("wire0").values()), packets(other, "eth0", "rx"), switches()
        programs, vectors, came, turns = (late - early for late, early in zip(after, before))
        check(came >= FRAMES, f"{came} of {FRAMES} frames came to the other VF")
        # A few frames of a VM's own, or a look of the driver's at its link, may come meanwhile.
        check(programs <= 10 and vectors <= 10,
              f"the host ran its programs {programs} times and had {vectors} interrupts of the PF for {FRAMES} frames")
    rows = {row["name"]: row["value"] for row in json.loads(
        (pathlib.Path(__file__).resolve().parents[1] / "bench/exact.json").read_text(encoding="ascii"))}
    print(f"VF to VF by the NIC: 0 of the host's instructions a frame; {taken / FRAMES:.0f} of the two VMs' own; "
          f"{programs} runs of the switch's programs, {vectors} interrupts of the PF, {turns} context switches "
          f"for {FRAMES} frames")
    for name in ("xdp", "tc", "bridge-vlan", "ovs"):
        print(f"veth to veth by {name}: {rows[f'{name}-exact'] - rows['drop-exact']:.0f} of the host's instructions a frame")


@case("what comes by the wire to a VM takes no more context switches with more queues, far fewer than three a batch of "
      "64 frames [R18][R183]")
def _(bench):
    with bench.lab() as lab:
        pf, far = physical(2)
        host, wire = lab.host("host"), lab.place("far")
        far.give(wire, "wire0")
        pf.give(host, "wire0")
        for place in (host, wire):
            place.ip("link set wire0 up")
        vm = lab.vm(host, "p0", mac(1))
        sink(bench, host, vm, "eth0")
        host.start_agent()
        host.apply({
            "uplinks": [{"name": "uplink", "netdev": "wire0", "attach": "native", "tags": "single", "transport_vlan": VLAN}],
            "instances": [{"name": "red", "uplink": "uplink", "mode": "independent", "vvlan": VVLAN,
                           "scope": "distributed"}],
            "vnics": [{"name": "n0", "vmac": vm.mac}],
            "vports": [{"name": "p0", "instance": "red", "netdev": "p0", "vnic": "n0"}]})
        generator = Generator(wire, "wire0", dst_mac=vm.mac, src_min="10.0.0.1", src_max="10.0.0.250", dst="10.0.1.1",
                              src_mac=mac(0x999), vlan_id=VVLAN, delay=30_000)  # slow enough for the ring of one queue
        for queues in (1, 2, 4, 8):
            host.run("ethtool", "-L", "wire0", "combined", queues)
            lab.wait(lambda: came(vm, generator), 60,
                     "nothing passes the wire")
            before = packets(vm, "eth0", "rx"), interrupts("wire0-(TxRx|rx)-"), switches()
            generator.send(FRAMES)
            lab.wait(lambda: packets(vm, "eth0", "rx") - before[0] >= FRAMES, 60,
                     lambda: f"{packets(vm, 'eth0', 'rx') - before[0]} of {FRAMES} frames came to the VM")
            turns = switches() - before[2]
            used = sum(count > before[1].get(name, 0) for name, count in interrupts("wire0-(TxRx|rx)-").items())
            print(f"{queues} queues, {used} of them with interrupts: {turns} context switches for {FRAMES} frames, "
                  f"{1e6 * turns / FRAMES:.0f} a million")
            check(turns <= 3 * FRAMES / 64, f"{turns} context switches for {FRAMES} frames by {queues} queues")


def came(vm, generator):
    before = packets(vm, "eth0", "rx")
    generator.send(8)
    time.sleep(0.1)
    return packets(vm, "eth0", "rx") - before >= 8


subprocess.run(["modprobe", "pktgen"], check=True)
main()
