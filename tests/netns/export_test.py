# SPDX-License-Identifier: Apache-2.0
"""export_test.py -- flows and samples of frames as collectors of others read them, nfdump's and tshark, beside what the
switch counts."""
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

from harness import case, check, check_equal, main
from scene import Scene, mac, network, raw

PORT = 4739
UDP_SEND = """
import socket, sys
out = socket.socket(socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET, socket.SOCK_DGRAM)
out.bind(("", int(sys.argv[3])))
for number in range(int(sys.argv[4])):
    out.sendto(b"x" * int(sys.argv[5]), (sys.argv[1], int(sys.argv[2])))
"""


class Collected:
    """Two VMs of `red` on host a and one on b, one of `blue`, and a collector that a has a cable to."""

    def __init__(self, lab, folder, family="IPv4"):
        self.lab, self.folder = lab, pathlib.Path(folder)
        self.scene = Scene(lab, {"red": network(vlan=100, vvlan=10), "blue": network(vlan=100, vvlan=20)})
        self.a, self.b = self.scene.two_hosts()
        for number, host in ((1, "a"), (2, "a"), (3, "b")):
            self.scene.vm(host, "red", number)
        for number in (1, 2):
            self.scene.vm("a", "blue", number)
        self.scene.start()
        self.vms = self.scene.vms
        self.collector = lab.place("collector")
        lab.cable(self.a, "flow0", self.collector, "eth0", 1500)
        for place, netdev, number in ((self.a, "flow0", 1), (self.collector, "eth0", 2)):
            place.run("sysctl", "-qw", f"net.ipv6.conf.{netdev}.disable_ipv6=0")
            place.ip(f"addr add 198.51.100.{number}/24 dev {netdev}", f"addr add fd00:5::{number}/64 dev {netdev} nodad")
        self.address = f"198.51.100.2:{PORT}" if family == "IPv4" else f"[fd00:5::2]:{PORT}"
        self.pcap = self.folder / "messages.pcap"
        self.capture = self.collector.start("tcpdump", "-Z", "root", "-U", "-i", "eth0", "-w", self.pcap, "udp", "and", "dst",
                                            "port", PORT, stderr=-1)
        check("listening" in self.capture.stderr.readline(), "tcpdump does not begin")
        self.start_collector(family)

    def start_collector(self, family="IPv4"):
        (self.folder / "flows").mkdir(exist_ok=True)
        self.nfcapd = self.collector.start("nfcapd", "-6" if family == "IPv6" else "-4", "-p", PORT, "-w", self.folder / "flows",
                                           "-t", 3600, stderr=-3, stdout=-3)
        file = "udp6" if family == "IPv6" else "udp"
        self.lab.wait(lambda: f":{PORT:04X} " in self.collector.run("cat", f"/proc/self/net/{file}").stdout, 10,
                      "nfcapd does not listen")

    def export(self, *exporters, rules=()):
        config = self.scene.config("a")
        config["exporters"] = list(exporters)
        for vport in config["vports"]:
            vport["rules"] = list(rules)
        self.a.apply(config)

    def state(self, name="e"):
        states = {one["name"]: one for one in self.a.ctl_json("exporter", "state").get("exporters", [])}
        return states[name]

    def records(self):
        return int(self.state().get("flow_records", 0))

    def settle(self):
        """Waits until all is told: looks come each second, as the active timeout is one."""
        seen = [-1, -1, -1]
        def quiet():
            seen.append(self.records())
            time.sleep(1.1)
            return seen[-1] == seen[-2] == seen[-3]
        self.lab.wait(quiet, 30, "the exporter does not come to rest")

    def udp(self, sender, address, port, sport, count, size):
        self.vms[sender].run(sys.executable, "-c", UDP_SEND, address, port, sport, count, size)

    def nfdump(self, names=None):
        """Ends nfcapd and sums up what it took, as one row by {way, vPort, addresses, ports, protocol}."""
        self.nfcapd.send_signal(signal.SIGTERM)
        check_equal(self.nfcapd.wait(20), 0, "nfcapd's exit code")
        done = subprocess.run(["nfdump", "-R", str(self.folder / "flows"), "-o", "json"], capture_output=True, text=True, check=True)
        names = names or {port["id"]: name for name, port in self.scene.ports("a").items()}
        flows = {}
        self.raw = json.loads(done.stdout)
        for row in self.raw:
            way = row["direction"]
            check_equal(row["input_snmp" if way else "output_snmp"], 0, "the other interface")
            key = (way, names[row["output_snmp" if way else "input_snmp"]], row.get("src4_addr", row.get("src6_addr")), row.get("src_port", 0),
                   row.get("dst4_addr", row.get("dst6_addr")), row.get("dst_port", 0), row["proto"])
            packets, bytes_ = flows.get(key, (0, 0))
            flows[key] = (packets + row["in_packets"], bytes_ + row["in_bytes"])
        return flows


def wanted(flows):
    """The same of what `flow list` says."""
    rows = {}
    for flow in flows:
        ends = flow["tuple"]
        one, other = (ends["src"], ends["src_port"]), (ends["dst"], ends["dst_port"])
        for way, (src, dst) in enumerate(((one, other), (other, one))):
            count = flow[("in", "out")[way]]
            if int(count["packets"]):
                rows[way, flow["vport"], *src, *dst, ends["protocol"]] = (int(count["packets"]), int(count["bytes"]))
    return rows


def of_traffic(rows):
    """Without what hosts send by themselves: neighbour discovery and the like."""
    return {key: count for key, count in rows.items() if key[6] in (6, 17)}


for family in ("IPv4", "IPv6"):
    @case(f"nfdump reads every flow of the instance as the switch counts it, over {family} [R171]")
    def _(bench, family=family):
        with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
            c = Collected(lab, folder, family)
            c.export({"name": "e", "collector": c.address, "domain_id": 7, "instances": ["red"], "active_timeout_s": 1},
                     rules=[{"protocol": "udp", "dst_ports": ["999"], "direction": "in", "action": "drop"}])
            for name, number in (("red-1", 1), ("red-2", 2)):
                c.vms[name].run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0")
                c.vms[name].ip(f"addr add fd00:1::{number}/64 dev eth0 nodad")
            c.scene.transfer("red-1", "red-2", 1)
            c.udp("red-1", "10.0.0.3", 5001, 4001, 20, 100)
            c.udp("red-1", "10.0.0.2", 999, 4002, 5, 200)
            c.udp("red-2", "fd00:1::1", 5001, 4004, 6, 300)
            c.udp("blue-1", "10.0.0.2", 5001, 4003, 5, 100)
            # What an entry counted shows as long as it is there.
            rows = of_traffic(wanted(c.a.ctl_json_lines("flow", "list", "--instance", "red")))
            check(len(rows) >= 7, f"flows: {rows}")
            check(any(key[6] == 17 and key[5] == 999 for key in rows) and any(":" in key[2] for key in rows), f"flows: {rows}")
            c.settle()
            state = c.state()
            told = c.nfdump()
            check_equal(of_traffic(told), rows, "flows at the collector and at the switch")
            check_equal((int(state["failed_records"]), state["error"]), (0, ""), "failures")
            # Neighbour discovery may have added some since.
            check(7 <= int(state["flow_records"]) <= len(c.raw), f"{state['flow_records']} records sent, {len(c.raw)} taken")


def tshark(path):
    """The records of all messages, each as what tshark calls its fields."""
    done = subprocess.run(["tshark", "-r", path, "-V"], capture_output=True, text=True, check=True)
    records = []
    for line in done.stdout.splitlines():
        if re.fullmatch(r" +Flow \d+", line):
            records.append({})
        elif ": " in line and records:
            name, value = line.strip().split(": ", 1)
            records[-1].setdefault(name.split("= ")[-1], value)
    return records


def sections(path):
    """The sampled bytes of frames."""
    done = subprocess.run(["tshark", "-r", path, "-T", "fields", "-e", "cflow.data_link_frame_section"], capture_output=True,
                          text=True, check=True)
    return [bytes.fromhex(one.replace(":", "")) for line in done.stdout.splitlines() for one in line.split(",") if one]


@case("tshark reads networks, names, verdicts and sampling of flows, and samples that are the frames [R171]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
        c = Collected(lab, folder)
        c.export({"name": "e", "collector": c.address, "domain_id": 7, "sample_packets": 5, "sample_flows": 2, "active_timeout_s": 1},
                 rules=[{"protocol": "udp", "dst_ports": ["999"], "direction": "in", "action": "drop"}])
        lab.wait(lambda: "ivds-mirror" in c.a.run("ip", "-o", "link").stdout, 20, "no session for samples")
        for number in range(40):
            c.udp("blue-1", "10.0.0.2", 999 if number % 2 else 5001, 4100 + number, 5, 200)
        c.settle()
        state = c.state()
        ids = {str(port["id"]): name for name, port in c.scene.ports("a").items()}
        c.a.ctl("exporter", "delete", "e")
        lab.wait(lambda: "ivds-mirror" not in c.a.run("ip", "-o", "link").stdout, 20, "the session for samples stays")
        c.capture.send_signal(signal.SIGINT)
        c.capture.wait(10)
        records = tshark(c.pcap)

        told = {row["InputInt"]: (row["IfName"], row["IfDescr"]) for row in records if "IfName" in row}
        check_equal({key: value for key, value in told.items()},
                    {key: (name, c.scene.network_of[name]) for key, name in ids.items() if name in c.scene.network_of
                     and c.scene.host_of[name] == "a"}, "names of vPorts")
        check_equal({row["Sampling Probability"] for row in records if "Sampling Probability" in row}, {"0.5"}, "sampling of flows")
        check_equal({(row["Sampling Packet Interval"], row["Sampling Packet Space"]) for row in records
                     if "Sampling Packet Space" in row}, {("1", "4")}, "sampling of frames")

        seen = {}
        for row in records:
            if "Octets" not in row or row.get("Protocol") != "UDP (17)":
                continue
            out = row["Direction"].startswith("Egress")
            check_equal((row["Dot1q Vlan Id"], row["Dot1q Customer Vlan Id"]), ("100", "20"), "VLAN and V.VLAN")
            check_equal(row["ForwardingStatus"], "Drop (2)" if row["DstPort"] == "999" else "Forward (1)", "verdict")
            check_equal(row["Source Mac Address"].split()[0], mac(1), "source MAC")
            check_equal(ids[row["OutputInt" if out else "InputInt"]], "blue-2" if out else "blue-1", "vPort")
            count = seen.setdefault((row["SrcPort"], row["DstPort"]), [0, 0])
            count[out] += int(row["Packets"])
        check(0 < len(seen) < 40, f"{len(seen)} of 40 flows were sampled")
        for (_, port), count in seen.items():
            check_equal(count, [5, 0] if port == "999" else [5, 5], "packets of a sampled flow at both vPorts")

        samples = sections(c.pcap)
        check_equal(len(samples), int(state["packet_records"]), "samples")
        check(40 <= len(samples) <= 60, f"{len(samples)} samples of 200 frames and some more")
        of_udp = [data for data in samples if data[23:24] == b"\x11" and len(data) == 128]
        check(len(of_udp) >= 30, f"{len(of_udp)} samples of datagrams")
        for data in of_udp:
            check_equal((data[:12], data[42:]), (raw(mac(2)) + raw(mac(1)), b"x" * 86), "a sample")
        check_equal({row["Data Link Frame Size"] for row in records if row.get("Data Link Frame Size", "") == "242"}, {"242"},
                    "length of the frames")


@case("a collector that is away costs counted records and nothing else, and what comes after it is back arrives, the last at the agent's end [R171]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
        c = Collected(lab, folder)
        c.nfcapd.send_signal(signal.SIGTERM)
        c.nfcapd.wait(20)
        c.export({"name": "e", "collector": c.address, "active_timeout_s": 1, "template_refresh_s": 1})
        c.udp("red-1", "10.0.0.2", 5001, 4001, 3, 100)
        lab.wait(lambda: int(c.state()["failed_records"]) > 0, 20, "nothing failed")
        check("refuses" in c.state()["error"], f"error: {c.state()}")
        check_equal(c.scene.ping("red-1", "red-2"), 3, "pings")
        c.a.ip("link set flow0 down")
        before = int(c.state()["failed_records"])
        c.udp("red-1", "10.0.0.2", 5001, 4002, 3, 100)
        lab.wait(lambda: int(c.state()["failed_records"]) > before, 20, "nothing failed without a way")
        check_equal(c.scene.ping("red-1", "red-2"), 3, "pings")
        c.a.ip("link set flow0 up")
        c.start_collector()
        lab.wait(lambda: c.state()["error"] == "", 20, "the exporter does not find the collector again")
        c.udp("red-1", "10.0.0.2", 5001, 4003, 7, 100)
        c.settle()
        # The agent's end leaves nothing untold.
        ids = {port["id"]: name for name, port in c.scene.ports("a").items()}
        c.udp("red-1", "10.0.0.2", 5001, 4004, 9, 100)
        check_equal(c.a.stop_agent(), 0, "the agent's exit code")
        told = c.nfdump(ids)
        for port, count in ((4003, (7, 994)), (4004, (9, 1278))):
            check_equal([told[key] for key in told if key[3] == port], [count, count], f"flows from port {port}, at both vPorts")


main()
