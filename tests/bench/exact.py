# SPDX-License-Identifier: Apache-2.0
"""exact.py -- the instructions that a frame takes through the switch, and through others beside it. It runs in a guest
whose clock counts instructions (scripts/lab.sh --count): how long something takes there is how many it takes, and is the
same again on a busy machine. scripts/bench.sh --exact runs it.

    exact.py --binaries DIR --sink FILE [--json FILE] [--record FILE]

One VM sends 60 B frames of one flow to another of its host: pktgen of the kernel's, veth, switch, veth, XDP_DROP, all on
one CPU. Each contender has the same generator and the same sink, in namespaces of its own, one after the other. The
switch is the agent with a configuration: two vPorts (anti-spoof), 100 rules, none of them about that flow, and 10,000
MACs that were learned from the wire.

With --record the figures are held to those in FILE, which --json once wrote: the switch may not take over 2 % more than
there, at what the Linux bridge takes now. Exit 1 if it does.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "scripts/lib"))
from lab import Lab, LabError  # noqa: E402  pylint: disable=wrong-import-position
from pktgen import Generator  # noqa: E402  pylint: disable=wrong-import-position

FRAMES, ROUNDS = 3_000, 3
MACS, RULES = 10_000, 100
VLAN, VVLAN = 100, 10
GROWTH = 1.02
OURS = ("xdp-exact", "tc-exact")
# What ours are held to beside the peers.
BARS = {"xdp-exact": {"bridge-vlan": 0.85, "ovs": 0.74}, "tc-exact": {"bridge-vlan": 0.92, "ovs": 0.80}}


class Scene:
    """A host with two VMs, and nothing between them yet."""

    def __init__(self, lab, sink):
        self.lab, self.host = lab, lab.host("host")
        self.host.run("bpftool", "prog", "loadall", sink, "/sys/fs/bpf/sink")
        self.vms = [lab.vm(self.host, f"p{number}", f"02:00:00:00:00:0{number}") for number in (1, 2)]
        self.end = (self.vms[1], "eth0")
        self.generator = Generator(self.vms[0], "eth0", dst_mac=self.vms[1].mac, src_min="10.0.0.1",
                                   src_max="10.0.0.1", dst="10.0.0.2")

    def sink(self, place, netdev):
        """What comes in there is dropped, and ends the frames' way."""
        self.end = (place, netdev)
        self.host.run("nsenter", f"--net=/proc/{place.pid}/ns/net", "ip", "link", "set", netdev, "xdpdrv", "pinned",
                      "/sys/fs/bpf/sink/bench_cost_empty")

    def sunk(self):
        place, netdev = self.end
        said = place.run("ethtool", "-S", netdev).stdout
        return sum(int(count) for count in re.findall(r"rx_queue_\d+_xdp_drops: (\d+)", said))

    def measure(self):
        """Instructions a frame, of each round."""
        self.generator.send(100)  # they make flows and fill caches
        figures = []
        for _ in range(ROUNDS):
            before = self.sunk()
            taken = self.generator.send(FRAMES)
            sunk = self.sunk() - before
            if sunk != FRAMES:
                raise LabError(f"{sunk} of {FRAMES} frames came to the other end")
            figures.append(taken / FRAMES)
        return figures


def nothing(scene):
    """The frames are dropped where they leave the sender: what is no switch's in the other figures."""
    scene.sink(scene.host, "p1")
    yield "drop-exact"


def rules():
    """Rules as a tenant with many services writes them: who may not reach what by which port."""
    for i in range(RULES):
        source = ("172.0.0.0/8", f"172.16.{i}.0/24", f"172.16.{i}.1/32", "172.16.0.0/16")[i % 4]
        target = ("192.0.0.0/8", f"192.168.{i}.0/24", f"192.168.{i}.1/32")[i // 4 % 3]
        yield {"direction": "in", "action": "drop", "protocol": "udp" if i % 3 == 0 else "tcp", "src": source,
               "dst": target, "dst_ports": [str(3000 + i)]}


def configure(scene, attach, got):
    """Applies the configuration with these hooks, and waits until every port has them."""
    scene.host.apply({
        "uplinks": [{"name": "uplink", "netdev": "wire0", "attach": attach}],
        "profiles": [{"name": "ruled", "rules": list(rules())}],
        "instances": [{"name": "red", "uplink": "uplink", "vlan": VLAN, "vvlan": VVLAN, "scope": "distributed"}],
        "vnics": [{"name": f"{vm.name}-nic", "vmac": vm.mac} for vm in scene.vms],
        "vports": [{"name": vm.name, "instance": "red", "netdev": vm.netdev, "vnic": f"{vm.name}-nic",
                    "attach": attach, **({"profile": "ruled"} if vm is scene.vms[0] else {})} for vm in scene.vms],
    })

    def ready():
        ports = scene.host.ctl_json("status").get("ports", [])
        return len(ports) == 3 and all(port.get("up") and port["got"] == got for port in ports)
    scene.lab.wait(ready, 60, f"not every port is up and has {got}")


def switch(scene):
    far = scene.lab.place("far")
    scene.lab.cable(scene.host, "wire0", far, "wire0")
    scene.sink(scene.vms[1], "eth0")
    scene.host.start_agent()
    configure(scene, "native", "native+tcx")
    Generator(far, "wire0", pkt_size=68, dst_mac=scene.vms[1].mac, dst="10.0.0.2", src_mac="02:00:00:01:00:00",
              src_mac_count=MACS, vlan_id=VVLAN, svlan_id=VLAN).send(MACS)
    known = len(scene.host.ctl("fdb", "show").splitlines())
    if known < MACS:
        raise LabError(f"only {known} MACs are known")
    yield "xdp-exact"
    configure(scene, "tcx", "tcx")
    yield "tc-exact"


def bridge(scene):
    """The Linux bridge with VLAN filtering: both VMs are in a VLAN, and it knows where they are."""
    scene.sink(scene.vms[1], "eth0")
    scene.host.ip("link add bridge type bridge vlan_filtering 1 vlan_default_pvid 0 stp_state 0 mcast_snooping 0",
                  "link set bridge up", *(f"link set {vm.netdev} master bridge" for vm in scene.vms))
    scene.host.run("sh", "-c", "for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 >$f; done")
    for vm in scene.vms:
        scene.host.run("bridge", "vlan", "add", "dev", vm.netdev, "vid", VLAN, "pvid", "untagged")
        scene.host.run("bridge", "fdb", "replace", vm.mac, "dev", vm.netdev, "master", "static", "vlan", VLAN)
    yield "bridge-vlan-exact"


def ovs(scene):
    """The kernel's datapath of OVS, both VMs with an access VLAN. vswitchd puts the flow there and then stands still, so
    that none of its own work is counted."""
    scene.sink(scene.vms[1], "eth0")
    # Started earlier, vswitchd has no thread to take what the kernel asks it.
    scene.lab.wait(lambda: time.monotonic() > 10, 20, "the clock stands")
    scene.host.run("sh", "-ec", "\n".join((
        "mkdir -p /run/openvswitch /var/log/openvswitch",
        "cd /run/openvswitch",
        "ovsdb-tool create conf.db /usr/share/openvswitch/vswitch.ovsschema",
        "ovsdb-server conf.db --remote=punix:/run/openvswitch/db.sock --pidfile --detach >/dev/null 2>&1",
        "ovs-vsctl --no-wait init",
        "/usr/lib/openvswitch-switch/ovs-vswitchd --pidfile --detach >/dev/null 2>&1",
        "ovs-vsctl add-br bridge",
        *(f"ovs-vsctl add-port bridge {vm.netdev} tag={VLAN}" for vm in scene.vms))))
    # It floods what it does not know: it learns where the receiver is before the flow is made.
    Generator(scene.vms[1], "eth0", dst_mac=scene.vms[0].mac, dst="10.0.0.1").send(1)
    scene.generator.send(1)
    scene.lab.wait(lambda: scene.vms[1].mac in scene.host.run("ovs-appctl", "dpctl/dump-flows").stdout, 20,
                   "vswitchd made no flow")
    scene.host.run("sh", "-c", "kill -STOP $(cat /run/openvswitch/ovs-vswitchd.pid)")
    yield "ovs-exact"


def measure(binaries, sink):
    """Figures of all rounds, by row."""
    figures = {}
    for contender in (nothing, switch, bridge, ovs):
        with Lab(binaries) as lab:
            scene = Scene(lab, sink)
            for name in contender(scene):
                figures[name] = scene.measure()
    return figures


def rows_of(figures):
    value = {name: statistics.median(each) for name, each in figures.items()}
    return [{"name": name, "value": round(value[name], 1), "unit": "instructions",
             "ratio": {peer: round(value[name] / value[f"{peer}-exact"], 4) for peer in BARS.get(name, {})}}
            for name in value]


def table(rows, figures):
    bare = next(row["value"] for row in rows if row["name"] == "drop-exact")
    print(f"{'row':<18} {'instructions':>12} {'its own':>8} {'spread':>7}  ratio to a peer, bars")
    for row in rows:
        each = figures[row["name"]]
        line = (f"{row['name']:<18} {row['value']:>12.0f} {row['value'] - bare:>8.0f} "
                f"{100 * (max(each) - min(each)) / row['value']:>6.2f}%")
        for peer, ratio in row["ratio"].items():
            bar = BARS[row["name"]][peer]
            line += f"  {peer} {ratio:.3f} [<= {bar}: {'met' if ratio <= bar else 'SHORT'}]"
        print(line)


def grown(rows, record):
    """Says how ours stand to the record. Returns whether one has grown too much."""
    now, then = ({row["name"]: row["value"] for row in each} for each in (rows, record))
    too_much = False
    for name in OURS:
        expected = then[name] * now["bridge-vlan-exact"] / then["bridge-vlan-exact"]
        growth = now[name] / expected
        over = growth > GROWTH
        too_much |= over
        print(f"{name}: {now[name]:.0f}, by the record {expected:.0f}: {100 * (growth - 1):+.2f} %"
              + (f", over the {100 * (GROWTH - 1):.0f} % that are allowed. If it is meant to: "
                 "sudo scripts/bench.sh --exact --record" if over else ""))
    return too_much


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", type=pathlib.Path, required=True)
    parser.add_argument("--sink", type=pathlib.Path, required=True, help="the object with the program that drops all")
    parser.add_argument("--json", type=pathlib.Path, help="write the rows to this file")
    parser.add_argument("--record", type=pathlib.Path, help="hold the figures to those in this file")
    arguments = parser.parse_args()
    if os.sched_getaffinity(0) != {0}:
        sys.exit("exact.py: needs a guest of one CPU; see scripts/lab.sh --count")
    subprocess.run(["modprobe", "-a", "pktgen", "bridge", "openvswitch"], check=True)
    figures = measure(arguments.binaries, arguments.sink.resolve())
    rows = rows_of(figures)
    table(rows, figures)
    if arguments.json:
        arguments.json.write_text("[\n" + ",\n".join(f"  {json.dumps(row)}" for row in rows) + "\n]\n")
    if arguments.record and grown(rows, json.loads(arguments.record.read_text())):
        sys.exit(1)


main()
