# SPDX-License-Identifier: Apache-2.0
"""rate_figures.py -- measures how near to its rate a vPort comes, with UDP and with TCP, by iperf3. Not a test.

    sudo python3 tests/lab/rate_figures.py --binaries build/release/bin [--mbps 1,10,100] [--protocols udp,cubic]
    sudo scripts/lab.sh --timeout 900 python3 tests/lab/rate_figures.py …      with fq too: Linux 6.12 has it

It prints a line for each rate, way, protocol, kind of hook and qdisc. The rate is that of the frames without the tags,
as the switch counts it. The rate 0 is none: what the machine itself carries by TCP, to hold the others against. With UDP the receiver's interface tells the bytes, with TCP, whose frames it sees whole, iperf3
tells those of the payload, and the headers are added to that.
"""
import argparse
import json
import os
import pathlib
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "netns"))
import harness  # noqa: E402, F401  pylint: disable=wrong-import-position,unused-import
from lab import Lab  # noqa: E402  pylint: disable=wrong-import-position
from scene import Scene, network  # noqa: E402  pylint: disable=wrong-import-position

TCP_PAYLOAD, TCP_FRAME = 1448, 1448 + 12 + 20 + 20 + 14  # of a full segment


def passed_bytes(vm, way):
    """Of whole frames; a TCP segment that is not cut yet counts once, and not as the frames that it stands for."""
    for line in vm.run("cat", "/proc/net/dev").stdout.splitlines():
        if line.strip().startswith("eth0:"):
            return int(line.split(":")[1].split()[0 if way == "in" else 8])
    return 0


def dropped(scene):
    return scene.dropped("a", "rate") + scene.dropped("a", "rate_out")


def start(scene, seconds, *options):
    sender, receiver = scene.vms["red-1"], scene.vms["red-2"]
    server = receiver.start("iperf3", "-s", "-1", stdout=-3, stderr=-3)
    scene.lab.wait(lambda: receiver.run("ss", "-ltnH", "sport = 5201").stdout, 60, "iperf3 does not listen")
    return server, sender.start("iperf3", "-J", "-c", receiver.address, "-t", seconds, *options, stdout=-1, stderr=-3)


def udp(scene, mbps, seconds):
    """Megabits a second of frames that reached red-2 once the burst was gone; and those that red-1 sent."""
    sender, receiver = scene.vms["red-1"], scene.vms["red-2"]
    server, client = start(scene, 3600, "-u", "-b", f"{(4 if mbps < 100 else 1.5) * mbps}M", "-l", "1448")
    # What is dropped says that the burst is gone; a sender that is too slow never uses it up.
    until = time.monotonic() + 60
    before = dropped(scene)
    while dropped(scene) == before and time.monotonic() < until:
        time.sleep(0.2)
    at, got, sent = time.monotonic(), passed_bytes(receiver, "in"), passed_bytes(sender, "out")
    time.sleep(seconds)
    spent = time.monotonic() - at
    got, sent = passed_bytes(receiver, "in") - got, passed_bytes(sender, "out") - sent
    for process in (client, server):
        process.kill()
        process.communicate()
    return got * 8 / spent / 1e6, sent * 8 / spent / 1e6


def tcp(scene, mbps, seconds, congestion):
    """The same of what the receiver's iperf3 got, without the first seconds, in which the burst goes."""
    server, client = start(scene, seconds, "-C", congestion, "-O", 2 + int(256 * 8192 / (mbps or 1e6) / 1e6))
    end = json.loads(client.communicate(timeout=10 * seconds + 120)[0])["end"]
    server.wait(30)
    return end["sum_received"]["bits_per_second"] * TCP_FRAME / TCP_PAYLOAD / 1e6, None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--binaries", type=pathlib.Path, required=True)
    parser.add_argument("--mbps", default="1,10,50,100")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--ways", default="in,out")
    parser.add_argument("--attach", default="tcx")
    parser.add_argument("--protocols", default="udp,cubic,reno,bbr", help="udp, or TCP by its congestion control")
    parser.add_argument("--qdiscs", default="none,fq")
    arguments = parser.parse_args()
    has_fq = os.system("modprobe -q sch_fq 2>/dev/null") == 0
    print(f"{'Mbit/s':>8} {'way':4} {'proto':5} {'hook':8} {'qdisc':6} {'rates':8} {'measured':>10} {'off by':>8} "
          f"{'drops':>8}")
    for attach in arguments.attach.split(","):
        for mbps in map(int, arguments.mbps.split(",")):
            for way in arguments.ways.split(","):
                with Lab(arguments.binaries) as lab:
                    scene = Scene(lab, {"red": network()}, attach=attach)
                    scene.profiles = [{"name": "slow", f"rate_{way}_mbps": mbps}]
                    host, _ = scene.host_on_wire()
                    for number in (1, 2):
                        slow = number == (1 if way == "in" else 2)
                        scene.vm("a", "red", number, **({"profile": "slow"} if slow else {}))
                    scene.start()
                    netdev = scene.vms["red-2"].netdev
                    for qdisc in arguments.qdiscs.split(","):
                        if qdisc == "fq" and has_fq:
                            host.run("tc", "qdisc", "replace", "dev", netdev, "root", "fq")
                        elif qdisc != "none":
                            continue
                        for protocol in [each for each in arguments.protocols.split(",") if mbps or each != "udp"]:
                            rates = lambda: scene.ports("a")["red-2"].get("rates", "none") if mbps else "none"
                            lab.wait(lambda: rates() == ("shaped" if qdisc == "fq" else "policed") or not mbps, 5, "rates")
                            before = dropped(scene)
                            got, sent = (udp(scene, mbps, arguments.seconds) if protocol == "udp" else
                                         tcp(scene, mbps, arguments.seconds, protocol))
                            short = sent is not None and sent < mbps
                            drops = dropped(scene) - before
                            is_idle = mbps and protocol != "udp" and rates() == "policed" and not drops
                            off = f"{100 * (got / mbps - 1):+7.2f}%" if mbps else " " * 8
                            print(f"{mbps:8} {way:4} {protocol:5} {attach:8} {qdisc:6} {rates():8} {got:10.3f} "
                                  f"{off} {drops:8}"
                                  + (f"  (only {sent:.0f} were sent)" if short else "")
                                  + ("  (nothing was over the rate: the sender is the limit)" if is_idle else ""), flush=True)


main()
