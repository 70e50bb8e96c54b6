# SPDX-License-Identifier: Apache-2.0
"""control_test.py -- what the control plane shows is what the data plane does: NICs, the map of vPorts, VLANs, tenants,
the audit of the tables; and the switch brought up from outside, by boot and by a control center."""
import fcntl
import http.client
import importlib.util
import json
import os
import pathlib
import pty
import re
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import termios
import threading
import time

from harness import case, check, check_equal, main
from lab import LabError
from scene import BROADCAST, Scene, StackSocket, Stream, Tally, frame, mac, network, raw

TOP = pathlib.Path(__file__).resolve().parents[2]


def vport_map(scene, host, vport):
    return scene.hosts[host].ctl_json("map", "show", vport)["vports"][0]


def stage(shown, number):
    return next(each for each in shown["stages"] if each["number"] == number)


def netdev_counters(host, netdev):
    stats = json.loads(host.run("ip", "-s", "-j", "link", "show", netdev).stdout)[0]["stats64"]
    return stats["rx"]["packets"], stats["tx"]["packets"]


def xdp_redirects(host, netdev):
    """How many frames the kernel counted as taken off this veth by an XDP redirect."""
    lines = host.run("ethtool", "-S", netdev).stdout.splitlines()
    return sum(int(line.split(":")[1]) for line in lines if "xdp_redirect:" in line)


class Trunk:
    """The fabric between two hosts: it carries these outer VLANs and knows nothing of what is in them."""

    def __init__(self, place, netdevs, vlans):
        self.ports, self.vlans, self.stopping = [place.port(netdev) for netdev in netdevs], set(vlans), False
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        while not self.stopping:
            for port, other in (self.ports, self.ports[::-1]):
                for data in port.receive():
                    if data[12:14] == b"\x81\0" and int.from_bytes(data[14:16], "big") & 4095 in self.vlans:
                        other.send(data)
            time.sleep(0.0005)

    def stop(self):
        self.stopping = True
        self.thread.join()
        for port in self.ports:
            port.close()


METRICS = "127.0.0.1:9464"
LABELS = r'(?:[a-z_]+="(?:[^"\\\n]|\\[\\"n])*"(?:,(?=[a-z]))?)*'
SAMPLE = re.compile(r"([a-z_]+)(?:\{(" + LABELS + r")\})? (\d+(?:\.\d+)?(?:e[+-]\d+)?|Nan)")


def http_get(host, path):
    with host.within():
        connection = http.client.HTTPConnection(METRICS, timeout=10)
        connection.connect()
    connection.request("GET", path)
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer.status, text


def tls_connection(host, port, address, trust):
    """To an address whose certificate must be the one that is trusted."""
    with host.within():
        plain = socket.create_connection((address, port), timeout=10)
    return ssl.create_default_context(cafile=str(trust)).wrap_socket(plain, server_hostname=address)


def get_by_tls(host, port, address, trust):
    """GET /metrics by HTTPS."""
    with tls_connection(host, port, address, trust) as secure:
        secure.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        return b"".join(iter(lambda: secure.recv(1 << 16), b"")).decode()


def scrape(host):
    """What /metrics says: {family: {labels as a frozenset of pairs: value}}. Anything that is not the text format as
    it should be is a failure: a family in one piece behind its HELP and TYPE, and no series twice."""
    status, text = http_get(host, "/metrics")
    check_equal(status, 200, "the status of GET /metrics")
    check(text.endswith("\n"), "the last line does not end")
    families, current = {}, None
    lines = iter(text.splitlines())
    for line in lines:
        if line.startswith("# HELP "):
            current = line.split(" ")[2]
            check(line.split(" ", 3)[3] and current not in families, line)
            kinds = ("counter", "gauge") if current.startswith("ivds_") else ("counter", "gauge", "summary")
            kind = next(lines).removeprefix(f"# TYPE {current} ")
            check(kind in kinds, f"the type of {current}: {kind}")
            families[current] = {}
            continue
        sample = SAMPLE.fullmatch(line)
        check(sample and sample[1].removeprefix(current) in ("", *(("_sum", "_count") if kind == "summary" else ())),
              f"not a sample of {current}: {line}")
        if kind == "summary":  # the HTTP server's own
            continue
        labels = frozenset(re.findall(r'([a-z_]+)="([^"]*)"', sample[2] or ""))
        check(labels not in families[current], f"twice: {line}")
        families[current][labels] = int(float(sample[3]))
    return families


@case("map show agrees with the data plane: interface, queues, table entries, and the hook that forwards "
      "[R1][R8][R10][R14][R58][R102]")
def _(bench):
    for attach in ("tcx", "clsact", "generic", "native"):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network()}, attach=attach)
            a, far = scene.host_on_wire()
            scene.vm("a", "red", 1)
            scene.vm("a", "red", 2)
            scene.start()
            port = scene.ports("a")["red-1"]
            shown = vport_map(scene, "a", "red-1")
            link = json.loads(a.run("ip", "-d", "-j", "link", "show", "red-1").stdout)[0]
            check_equal((shown["placement"], shown["reason"]), ("sw", "no_offload"), "placement")
            check_equal((shown["vnic"], shown["vmac"], shown["id"]), ("red-1-nic", mac(1), port["id"]), "the vNIC")
            check_equal((shown["netdev"]["ifindex"], shown["netdev"]["mac"]), (link["ifindex"], link["address"]),
                        "the interface")
            check_equal(shown["netdev"]["driver"], "veth", "driver")
            queues = a.run("sh", "-c", "ls -d /sys/class/net/red-1/queues/rx-* | wc -l").stdout.strip()
            check_equal(str(shown["netdev"]["rx_queues"]), queues, "receive queues")
            check_equal([(each["name"], each["plane"]) for each in shown["stages"]],
                        [("VLAN filter", "physical"), ("V.VLAN look-up", "virtual"), ("tuple to vPort", "physical"),
                         ("forwarding", "physical")], "stages")
            check(stage(shown, 3)["entry"].endswith(f"{mac(1)}}} -> port {port['id']}"), stage(shown, 3))
            hook = {"tcx": "ivds_tc at tcx of wire0", "clsact": "ivds_tc at clsact of wire0",
                    "native": "ivds_xdp at native XDP of wire0", "generic": "ivds_xdp at generic XDP of wire0"}[attach]
            for number in (1, 2, 3):
                check(stage(shown, number)["executor"].startswith(hook), f"{attach}: {stage(shown, number)}")
            # The kernel's own count of XDP redirects says whether stage 4 is what it is said to be.
            said_xdp = stage(shown, 4)["executor"].startswith("XDP redirect")
            check_equal(said_xdp, attach in ("native", "generic"), f"stage 4 with {attach}: {stage(shown, 4)}")
            before = (scene.counters("a", "red-1"), scene.counters("a", "red-2"), xdp_redirects(a, "wire0"))
            tally = Tally(scene)
            with far.port("wire0") as wire:
                for _ in range(100):
                    data = frame(mac(1), mac(9), "ivds-mark wire ")
                    wire.send(data[:12] + struct.pack("!HHHH", 0x8100, 100, 0x8100, 10) + data[12:])
                scene.network_of["wire"] = "red"
                tally.settle(100)
            tally.close()
            check_equal(tally.got, {("wire", "red-1"): 100}, "frames from the wire, by who got them")
            grown = {key: scene.counters("a", name)[key] - old[key] for name, old, key in
                     (("red-1", before[0], "tx_packets"), ("red-2", before[1], "tx_bytes"))}
            check_equal(grown, {"tx_packets": 100, "tx_bytes": 0}, "counters of the mapped vPort and of the other")
            redirected = xdp_redirects(a, "wire0") - before[2]
            check_equal(redirected, 100 if attach == "native" else 0, f"XDP redirects of the driver with {attach}")


@case("a vNIC bound to another vPort: the map, the FDB and the frames move together [R54][R58]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        a, _ = scene.host_on_wire()
        scene.vm("a", "red", 1)
        scene.vm("a", "red", 2)
        scene.vm("a", "red", 3)
        scene.start()
        entry = stage(vport_map(scene, "a", "red-2"), 3)["entry"]
        config = scene.config("a")
        for vport in config["vports"]:
            vport["vnic"] = {"red-2": "red-3-nic", "red-3": "red-2-nic"}.get(vport["name"], vport["vnic"])
        a.apply(config)
        third = vport_map(scene, "a", "red-3")
        check_equal((third["vnic"], third["vmac"]), ("red-2-nic", mac(2)), "the vNIC of red-3")
        check_equal(stage(third, 3)["entry"].split(" -> ")[0], entry.split(" -> ")[0], "the same key")
        check(stage(third, 3)["entry"] != entry, "the entry still leads to the old port")
        tally = Tally(scene)
        for _ in range(20):
            tally.send("red-1", mac(2))
        tally.settle(20)
        tally.close()
        check_equal(tally.got, {("red-1", "red-3"): 20}, "frames to the vNIC that moved")


@case("a vPort out of its instance is shown without a way, and keeps its V.VLAN for when it returns [R1]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        a, _ = scene.host_on_wire()
        scene.vm("a", "red", 1)
        scene.vm("a", "red", 2)
        scene.start()
        whole = vport_map(scene, "a", "red-1")
        a.ctl("vport", "update", "red-1", "--instance", "")
        shown = vport_map(scene, "a", "red-1")
        check_equal([each["entry"] for each in shown["stages"][:3]], ["", "", ""], "table entries of an unbound vPort")
        check_equal(scene.ping("red-1", "red-2"), 0, "answers to an unbound vPort")
        a.ctl("vport", "update", "red-1", "--instance", "red")
        check_equal(vport_map(scene, "a", "red-1")["stages"], whole["stages"], "the way, after it came back")
        check_equal(scene.ping("red-1", "red-2"), 3, "answers after it came back")


@case("nic show tells what the kernel says of the uplink's NIC, and what of the host is used over it [R7][R43][R65][R66]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network(), "blue": network(vvlan=20)}, attach="native")
        a, far = scene.host_on_wire()
        scene.vm("a", "red", 1)
        scene.vm("a", "blue", 1)
        scene.start()
        nic = a.ctl_json("nic", "show", "uplink")["nics"][0]
        check_equal(a.ctl_json("nic", "show", "wire0")["nics"][0]["port"]["name"], "uplink", "by its interface")
        link = json.loads(a.run("ip", "-s", "-d", "-j", "link", "show", "wire0").stdout)[0]
        settings = a.run("ethtool", "wire0").stdout
        netdev = nic["netdev"]
        check_equal((netdev["mac"], netdev["mtu_bytes"], netdev["ifindex"], netdev["link"], netdev["kind"]),
                    (link["address"], link["mtu"], link["ifindex"], "up", "veth"), "the interface")
        check(f"Speed: {netdev['speed_mbps']}Mb/s" in settings, f"{netdev['speed_mbps']} is not in {settings}")
        check_equal((netdev["native_xdp"], netdev["redirect_target"]), ("yes", "yes"), "XDP of a veth under ours")
        strip = a.run("ethtool", "-k", "wire0").stdout.split("rx-vlan-offload: ")[1].split()[0]
        check_equal(netdev["vlan_strip"], {"on": "yes", "off": "no"}[strip], "VLAN strip")
        check_equal(sorted((each["name"], each["vlan"], each["vvlan"], each["vports"]) for each in nic["instances"]),
                    [("blue", 100, 20, 1), ("red", 100, 10, 1)], "instances")
        check_equal((nic["ports"]["used"], nic["instance_entries"]["used"]), (3, 2), "ports and instances in use")
        check_equal(nic["vvlan_entries"]["used"], 3, "V.VLAN entries in use: two, and the VLAN's own")
        before = netdev["counters"]["rx_packets"]
        with far.port("wire0") as wire:
            for _ in range(50):
                wire.send(frame(BROADCAST, mac(9), "ivds-mark "))
        lab.wait(lambda: a.ctl_json("nic", "show")["nics"][0]["netdev"]["counters"]["rx_packets"] >= before + 50, 5,
                 "the netdev's counter does not grow")
        # An interface that is away has nothing to tell, and that is what is shown.
        lab.unplug(a, scene.vms["red-1"])
        lab.wait(lambda: scene.ports("a")["red-1"]["link"] == "away", 5, "red-1 is not shown as away")
        gone = a.ctl_json("nic", "show", "red-1")["nics"][0]["netdev"]
        check_equal((gone["link"], gone["speed_mbps"], gone["driver"], gone["native_xdp"]), ("away", 0, "", "unknown"),
                    "an interface that is away")
        done = a.ctl("nic", "show", "nothing", check=False)
        check_equal(done.returncode, 3, "the exit code for what is no NIC")


@case("link, speed and the netdev's errors of a vPort are shown; losing the link is an event with its cause, and kept "
      "[R65][R66][R150]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        a, _ = scene.host_on_wire()
        vm = scene.vm("a", "red", 1)
        scene.start()
        port = scene.ports("a")["red-1"]
        check_equal((port["link"], port["last_error"]), ("up", ""), "a port that never failed")
        check(port["speed_mbps"] > 0 and port["netdev_counters"]["rx_errors"] == 0, f"{port}")
        for command, link, cause in (("set eth0 down", "no_carrier", "carrier lost"), (None, "down", "interface set down")):
            if command:
                vm.ip(f"link {command}")
            else:
                a.ip("link set red-1 down")
            lab.wait(lambda: not scene.ports("a")["red-1"]["up"], 5, f"{cause}: the port stays up")
            port = scene.ports("a")["red-1"]
            check_equal((port["link"], port["last_error"]), (link, cause), "link and last error")
            check(port["last_error_time"].startswith("20"), port["last_error_time"])
            events = a.ctl("events")
            check(f"red-1: {cause}" in events, f"no event with the cause {cause}:\n{events}")
            vm.ip("link set eth0 up")
            a.ip("link set red-1 up")
            lab.wait(lambda: scene.ports("a")["red-1"]["up"], 5, "the port does not come back")
            check_equal(scene.ports("a")["red-1"]["last_error"], cause, "the last error after the port came back")


@case("a tenant's quota holds across objects and files, and its use and counters are shown [R87]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network(tenant="acme", fdb_limit=100), "blue": network(vvlan=20, tenant="other")})
        a, _ = scene.host_on_wire()
        for number in (1, 2):
            scene.vm("a", "red", number)
            scene.vm("a", "blue", number)
        scene.start()
        a.ctl("tenant", "create", "acme", "--max-instances", "1", "--max-vports", "2", "--max-fdb", "100")
        refused = (("instance", "create", "more", "--tenant", "acme"),
                   ("vport", "create", "third", "--netdev", "none", "--instance", "red"),
                   ("instance", "update", "red", "--fdb-limit", "101"),
                   ("tenant", "update", "acme", "--max-vports", "1"))
        for words in refused:
            done = a.ctl(*words, check=False)
            check_equal(done.returncode, 5, f"exit code of {words}: {done.stderr}")
            check("[IVDS-M028]" in done.stderr and "\nfix: " in done.stderr, done.stderr)
        config = {**scene.config("a"), "tenants": [{"name": "acme", "max_vports": 1}]}
        check("IVDS-M028" in a.run("ivds-ctl", "apply", "-f", "-", stdin=json.dumps(config), check=False).stderr,
              "a file over the quota was applied")
        scene.check_pings()
        acme = a.ctl_json("tenant", "show", "acme")["tenants"][0]
        check_equal((acme["declared"], acme["instances"], acme["vports"], acme["vports_up"], acme["fdb"]),
                    (True, 1, 2, 2, 100), "what acme uses")
        sums = {key: sum(scene.counters("a", f"red-{number}")[key] for number in (1, 2)) for key in ("rx_packets", "drops")}
        check(sums["rx_packets"] > 0, "red's VMs sent nothing")
        check_equal((acme["port_packets"], acme["drops"]), (sums["rx_packets"] - sums["drops"], sums["drops"]),
                    "the tenant's counters against those of its vPorts")
        other = a.ctl_json("tenant", "show", "other")["tenants"][0]
        check_equal((other["declared"], other["max_vports"]), (False, 0), "a tenant that is only named")


@case("before a VLAN leaves the fabric, vlan list names all it carries; after, exactly that is cut off [R75]")
def _(bench):
    with bench.lab() as lab:
        networks = {"red": network(vlan=100, vvlan=10, tenant="acme"), "blue": network(vlan=100, vvlan=20),
                    "green": network(vlan=200, vvlan=10)}
        scene = Scene(lab, networks)
        a, b = scene.host("a"), scene.host("b")
        fabric = lab.place("fabric")
        lab.cable(a, "wire0", fabric, "to-a")
        lab.cable(b, "wire0", fabric, "to-b")
        trunk = Trunk(fabric, ("to-a", "to-b"), {100, 200})
        for name in networks:
            scene.vm("a", name, 1)
            scene.vm("b", name, 2)
        scene.start()
        scene.check_pings()
        listed = {(each["uplink"], each["vlan"]): each for each in a.ctl_json("vlan", "list")["vlans"]}
        check_equal(sorted(listed), [("uplink", 100), ("uplink", 200)], "VLANs")
        check_equal([(net["vvlan"], net["instance"], net["tenant"], net["vports"])
                     for net in listed["uplink", 100]["networks"]], [(10, "red", "acme", 1), (20, "blue", "", 1)],
                    "what VLAN 100 carries")
        check(all(net["wire_packets"] > 0 for net in listed["uplink", 100]["networks"]), "no packets are counted")
        trunk.vlans.discard(100)
        cut = {net["instance"] for net in listed["uplink", 100]["networks"]}
        for name in networks:
            check_equal(scene.ping(f"{name}-1", f"{name}-2"), 0 if name in cut else 3, f"answers in {name}")
        trunk.stop()


@case("an entry of a pinned map that somebody else writes is found, named and mended [R106]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network(), "blue": network(vvlan=20)})
        a, _ = scene.host_on_wire()
        for number in (1, 2):
            scene.vm("a", "red", number)
        scene.vm("a", "blue", 1)
        scene.start()

        def drift():
            done = a.run("ivds-ctl", "--json", "doctor", check=False)
            found = [each for each in json.loads(done.stdout)["findings"] if each["id"].startswith("IVDS-D")]
            check_equal(done.returncode, 0 if found[0]["severity"] == "info" else 1, "doctor's exit code")
            return found

        whole = drift()
        check(whole[0]["id"] == "IVDS-D000" and "match the intent" in whole[0]["text"], f"{whole}")
        red, blue = (next(each["id"] for each in a.ctl_json("status")["instances"] if each["name"] == name)
                     for name in ("red", "blue"))
        port = scene.ports("a")["red-2"]["id"]
        maps = "/sys/fs/bpf/ivds/v1/maps"

        def write(verb, name, key, value=b""):
            words = ["bpftool", "map", verb, "pinned", f"{maps}/{name}", "key", "hex", *(f"{each:02x}" for each in key)]
            if value:
                words += ["value", "hex", *(f"{each:02x}" for each in value)]
            a.run(*words)

        uplink = scene.ports("a")["uplink"]["id"]
        vvlan_key = struct.pack("=IHH", uplink, 100, 20)
        fdb_key = struct.pack("=I6sH", red, raw(mac(2)), 0)
        faults = {
            # blue's frames from the wire would reach red.
            "vvlans": (lambda: write("update", "vvlans", vvlan_key, struct.pack("=I", red)), "IVDS-D002", f"[{uplink}, 100, 20]"),
            "missing": (lambda: write("delete", "fdb", fdb_key), "IVDS-D001", mac(2)),
            "unwanted": (lambda: write("update", "fdb", struct.pack("=I6sH", blue, raw(mac(77)), 0),
                                       struct.pack("=IIHBBI", port, 0, 0, 1, 0, 0)), "IVDS-D003", mac(77)),
        }
        for mend in ("doctor", "apply"):
            for name, (make, kind, key) in faults.items():
                make()
                found = drift()
                check_equal([each["id"] for each in found], [kind], f"{name}: {found}")
                check(key in found[0]["object"] and found[0]["fix"], f"{name}: {found[0]}")
                if mend == "doctor":
                    a.ctl("doctor", "--mend")
                else:
                    a.apply(scene.config("a"))
                check_equal(drift(), whole, f"{name} after {mend}")
        check_equal(scene.ping("red-1", "red-2"), 3, "answers at the end")
        # Learned MACs come and go by themselves and are no drift.
        scene.vms["red-1"].run("ping", "-c", "1", "-W", "1", "10.0.0.99", check=False)
        check_equal(drift(), whole, "after traffic")


@case("boot from nothing: the VMs send from the start, and reach each other only after the map step; a failed boot "
      "leaves nothing [R172][R173]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        a, _ = scene.host_on_wire()
        for number in (1, 2):
            scene.vm("a", "red", number)
        a.start_agent()
        tally = Tally(scene)
        config = scene.config("a")
        broken = {**config, "vports": config["vports"] + [{"name": "third", "netdev": "third0", "instance": "red",
                                                            "vnic": "red-1-nic"}]}
        done = a.run("ivds-ctl", "boot", "-f", "-", stdin=json.dumps(broken), check=False)
        check_equal(done.returncode, 4, f"exit code of a boot with a vNIC bound twice: {done.stderr}")
        check("taken_back" in done.stdout and "taken back" in done.stderr, done.stdout + done.stderr)
        check_equal(a.ctl("export").strip(), "", "what a failed boot leaves")
        hooks = json.loads(a.run("bpftool", "-j", "net", "show").stdout)[0]
        check_equal((hooks["xdp"], hooks["tc"]), ([], []), "hooks that a failed boot leaves")
        # It set the interfaces down that it took its programs off, so that nothing of the VMs reaches the host.
        for number in (1, 2):
            a.ip(f"link set red-{number} up")

        process = subprocess.Popen(a.enter(["ivds-ctl", "--json", "boot", "-f", "-"]), stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE, text=True, env=lab.environment)
        process.stdin.write(json.dumps(config))
        process.stdin.close()
        phases, before_map = [], 0
        for line in process.stdout:
            step = json.loads(line)
            if step["phase"] == "map" and "map" not in phases:
                before_map = tally.look()
            phases.append(step["phase"])
            tally.send("red-1", BROADCAST)
        check_equal(process.wait(10), 0, "exit code of boot")
        check_equal(before_map, 0, "frames that arrived before the map step")
        check_equal(list(dict.fromkeys(phases)), ["control_plane", "uplink", "vnic", "instance", "vport", "map"], "phases")
        lab.wait(lambda: all(port["up"] for port in scene.ports("a").values()), 5, "not every port is up")
        tally.send("red-1", BROADCAST)
        tally.settle(1)
        tally.close()
        check(tally.got.get(("red-1", "red-2"), 0) >= 1, "nothing arrives after the map step")
        plan = [json.loads(line)["phase"] for line in
                a.run("ivds-ctl", "--json", "boot", "--plan", "-f", "-", stdin=json.dumps(config)).stdout.splitlines()]
        check_equal(plan, phases, "the plan against what was done")


@case("VMs that start after the configuration get their vPorts by themselves [R56]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        a, _ = scene.host_on_wire()
        numbers = range(1, 11)
        names = [f"red-{number}" for number in numbers]
        config = {"uplinks": [{"name": "uplink", "netdev": "wire0"}],
                  "instances": [{"name": "red", "uplink": "uplink", **network()}],
                  "vnics": [{"name": f"red-{number}-nic", "vmac": mac(number)} for number in numbers],
                  "vports": [{"name": name, "instance": "red", "netdev": name, "vnic": f"{name}-nic"} for name in names]}
        a.start_agent()
        a.apply(config)
        check(not any(scene.ports("a")[name]["up"] for name in names), "a vPort is up without its VM")
        for number in numbers:
            scene.vm("a", "red", number)
        lab.wait(lambda: all(scene.ports("a")[name]["up"] for name in names), 10, "not every VM has its vPort")
        check_equal([scene.ping("red-1", f"red-{number}") for number in range(2, 11)], [3] * 9, "answers of each VM")


@case("what the slow path says of a packet reaches the agent by its ring, and nobody else sees the packet [R11]")
def _(bench):
    for attach in ("tcx", "native"):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network()}, attach=attach)
            a, far = scene.host_on_wire()
            for number in (1, 2):
                scene.vm("a", "red", number)
            scene.start()
            ears = [StackSocket(a, netdev, 0x88B5) for netdev in ("red-1", "red-2", "wire0")]
            tally = Tally(scene)
            with far.port("wire0") as wire:
                for _ in range(10):
                    tally.send("red-1", mac(2), source=mac(66))
                lab.wait(lambda: scene.drops("a").get(("red-1", "spoof"), 0) == 10, 5, "the drops are not counted")

                def told():
                    return [each for each in map(json.loads, a.ctl("--json", "events").splitlines())
                            if each["kind"] == "spoof"]

                lab.wait(told, 5, "no event of the forged source")
                check_equal({(each["port"], each["instance"], each["mac"]) for each in told()},
                            {("red-1", "red", mac(66))}, "what the events say")
                tally.settle(0)
                check_equal(tally.got, {}, "forged frames at VMs")
                check_equal([f for f in wire.receive() if b"ivds-mark" in f], [], "forged frames on the wire")
            check_equal([ear.count() for ear in ears], [0, 0, 0], f"forged frames in the host's stack ({attach})")
            for ear in ears:
                ear.close()
            tally.close()


@case("what goes through the uplink's NIC is what the switch sent and received, and what is the host's own [R177]")
def _(bench):
    for attach in ("tcx", "native"):
        with bench.lab() as lab:
            scene = Scene(lab, {"red": network(), "blue": network(vvlan=20)}, attach=attach)
            a, far = scene.host_on_wire()
            for name in ("red", "blue"):
                for number in (1, 2):
                    scene.vm("a", name, number)
            scene.start()
            scene.check_pings()

            def totals():
                switch = scene.counters("a", "uplink")
                return (*netdev_counters(a, "wire0"), switch["rx_packets"] + switch["rx_host"] + switch["drops"],
                        switch["tx_packets"], switch["rx_packets"], switch["rx_host"], switch["drops"])

            before = totals()
            tally = Tally(scene)
            with far.port("wire0") as wire:
                for number in range(40):
                    data = frame(BROADCAST if number % 2 else mac(1), mac(9), "ivds-mark wire ")
                    wire.send(data[:12] + struct.pack("!HHHH", 0x8100, 100, 0x8100, 10 if number % 4 else 99) + data[12:])
                for _ in range(15):
                    wire.send(frame(BROADCAST, mac(9), "for the host"))
            for _ in range(25):
                tally.send("red-1", BROADCAST)
                tally.send("blue-1", mac(50))
                tally.send("blue-1", mac(2))
            scene.network_of["wire"] = "red"
            tally.settle(25 + 25 + 30)
            tally.close()
            lab.wait(lambda: totals()[5] - before[5] >= 15, 5, "the host's frames are not counted")
            grown = [late - early for late, early in zip(totals(), before)]
            check_equal((grown[0], grown[1]), (grown[2], grown[3]), f"{attach}: packets of the NIC and of the switch")
            check_equal(tuple(grown[number] for number in (1, 4, 5, 6)), (50, 30, 15, 10),
                        "sent; received for tenants; the host's own; of no V.VLAN here")


def control_center():
    path = TOP / "scripts/examples/control_center.py"
    spec = importlib.util.spec_from_file_location("control_center", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@case("a control center makes a network on two hosts with different VLANs, binds its VMs, sees drift, and removes it; "
      "and its client makes every call there is [R142][R147][R148][R157][R160]")
def _(bench):
    center_module = control_center()
    grpc, pb = center_module.grpc, center_module.pb
    called = set()

    class Recorder(grpc.UnaryUnaryClientInterceptor, grpc.UnaryStreamClientInterceptor):
        def intercept_unary_unary(self, continuation, details, request):
            called.add(details.method.rsplit("/", 1)[1])
            return continuation(details, request)

        intercept_unary_stream = intercept_unary_unary

    with bench.lab() as lab:
        scene = Scene(lab, {"red": {}})
        a, b = scene.two_hosts()
        scene.vm("a", "red", 1)
        scene.vm("b", "red", 2)
        for host in (a, b):
            host.start_agent()
        wanted = {"name": "red", "tenant": "acme", "vvlan": 10, "hosts": {
            "a": {"netdev": "wire0", "vlan": 100, "vms": {"red-1": {"netdev": "red-1", "vmac": mac(1)}}},
            "b": {"netdev": "wire0", "vlan": 200, "vms": {"red-2": {"netdev": "red-2", "vmac": mac(2)}}}}}
        center = center_module.connect([f"{host.name}=unix:{host.path('/run/ivds/ivdsd.sock')}" for host in (a, b)],
                                       (Recorder(),))
        net = center_module.Network(json.dumps(wanted))
        check(len(list(center.diff(net))) >= 8, "an empty host does not differ from the intent")
        done = center.create(net)
        check("there" not in {how for *_, how in done}, f"{done}")
        check_equal({how for *_, how in center.create(net)}, {"there"}, "creating it once more")
        check_equal(list(center.diff(net)), [], "differences")
        lab.wait(lambda: all(port["up"] for name in "ab" for port in scene.ports(name).values()), 5, "ports are down")
        scene.check_pings()
        listed = {(host, each.name, each.vlan, each.vvlan, each.state) for host, each in center.list()}
        check_equal(listed, {("a", "red", 100, 10, "active"), ("b", "red", 200, 10, "active")}, "list")
        stats = {host: (each.port_packets, each.wire_packets) for host, each in center.stats("red")}
        check(all(count > 0 for pair in stats.values() for count in pair), f"stats: {stats}")
        # Each host knows where the other's VM is, by the VLAN that reaches it.
        for host, vm, vlan in (("a", 2, 200), ("b", 1, 100)):
            entries = center.hosts[host].stub.Fdb(pb.FdbRequest(instance="red"))
            check_equal([(each.port, each.vlan, each.static) for each in entries if each.mac == mac(vm)],
                        [("uplink", vlan, True)], f"the binding at {host}")
        # Somebody changes a host by hand.
        a.ctl("instance", "update", "red", "--mtu-bytes", "1400")
        check_equal(list(center.diff(net)), ["a: instance red: mtu_bytes is 1400, wanted 0"], "drift")
        center.create(net)
        check_equal(list(center.diff(net)), [], "differences after it was put right")

        # The other calls, so that a client in Python has made each.
        stub = center.hosts["a"].stub
        config = stub.Export(pb.ExportRequest())
        check_equal(len(stub.Apply(pb.ApplyRequest(config=config)).changes), 0, "changes of applying the export")
        check_equal(stub.Nics(pb.NicRequest()).nics[0].netdev.name, "wire0", "the NIC")
        check_equal(stub.Map(pb.MapRequest(vport="red-1")).vports[0].vmac, mac(1), "the map")
        check_equal([(each.name, each.rule.action) for each in stub.Rules(pb.RulesRequest(
            owner=pb.Ref(kind=pb.VPORT, name="red-1"))).rules], [("", pb.Rule.ALLOW)] * 2, "rules of a vPort without any")
        traced = stub.Trace(pb.TraceRequest(port="red-1", frame=frame(mac(2), mac(1), "ivds-mark ")))
        check_equal((traced.verdict, list(traced.sent)), ("forwarded", ["uplink"]), "the trace of a frame to the other host")
        stub.Create(pb.PutRequest(object=pb.Object(vmac_pool=pb.VmacPool(name="pool", uplink="uplink"))))
        vmac = stub.ReserveVmac(pb.VmacRequest(pool="pool")).vmac
        stub.ReleaseVmac(pb.VmacRequest(pool="pool", vmac=vmac))
        check_equal(stub.Flush(pb.FlushRequest(instance="red")).removed, 0, "learned where all is bound")
        check("IVDS-D000" in {each.id for each in stub.Doctor(pb.DoctorRequest()).findings}, "no audit in doctor")
        check("applied" in {each.kind for each in stub.Events(pb.EventsRequest())}, "no events")
        check_equal(list(stub.Flows(pb.FlowsRequest(vport="red-1"))), [], "flows of a vPort without rules")
        check_equal(stub.FlushFlows(pb.FlowsRequest(vport="red-1")).removed, 0, "flushed flows")
        check_equal(list(stub.Neighbours(pb.NeighboursRequest())), [], "addresses answered for, where nobody is")
        check_equal([(each.vport, each.vvlan, each.vlan, each.instance) for each in stub.Bindings(pb.BindingsRequest())],
                    [("red-1", 10, 100, "red")], "bindings of a host without a registry")
        check_equal(list(stub.Mirrors(pb.MirrorsRequest()).mirrors), [], "mirrors")
        check_equal(list(stub.Exporters(pb.ExportersRequest()).exporters), [], "exporters")
        check_equal(list(stub.Inspectors(pb.InspectorsRequest()).inspectors), [], "inspectors")
        check_equal(list(stub.Offload(pb.OffloadRequest()).nics), [], "NICs with offload")
        try:
            stub.Migrate(pb.MigrateRequest(step=pb.MigrateRequest.ABORT, vport="red-1"))
            check(False, "a host without a registry takes part in a migration")
        except grpc.RpcError as error:
            check("IVDS-R011" in error.details(), error.details())
        try:
            stub.Hosts(pb.HostsRequest())
            check(False, "a host without a registry knows of others")
        except grpc.RpcError as error:
            check("IVDS-R011" in error.details(), error.details())
        check_equal(list(stub.Verify(pb.VerifyRequest()).verdicts), [], "NICs to verify")
        packets = stub.Capture(pb.CaptureRequest(target="red-1"), timeout=20)
        check_equal(next(packets).port, "", "the port of a capture's first message")
        scene.ping("red-1", "red-2")
        first = next(packet for packet in packets if packet.port)
        check_equal((first.port, first.direction, first.data[6:12].hex(":")), ("red-1", "in", mac(1)), "captured first")
        packets.cancel()

        stub.Delete(pb.Ref(kind=pb.VMAC_POOL, name="pool"))
        center.remove(net)
        check_equal([host.ctl("export").strip() for host in (a, b)], ["", ""], "what is left on the hosts")
        check_equal(scene.ping("red-1", "red-2"), 0, "answers after the network is gone")
        every = {method.name for method in pb.DESCRIPTOR.services_by_name["Switch"].methods}
        check_equal(every - called, set(), "calls that the client did not make")

        # The same by its command line.
        file = pathlib.Path(f"/proc/{a.pid}/root/run/red.json")
        file.write_text(json.dumps(wanted))
        words = ["/usr/bin/python3", str(TOP / "scripts/examples/control_center.py")]
        for host in (a, b):
            words += ["--host", f"{host.name}=unix:{host.path('/run/ivds/ivdsd.sock')}"]

        def run(*more):
            return subprocess.run([*words, *more], capture_output=True, text=True, check=False, env=lab.environment)

        check_equal(run("diff", str(file)).returncode, 1, "exit code of diff before")
        for more in (("create", str(file)), ("diff", str(file)), ("list",), ("stats", "red"), ("remove", str(file))):
            done = run(*more)
            check_equal(done.returncode, 0, f"{more}: {done.stdout}{done.stderr}")


@case("what a control center pushes through the API is in force on its hosts: bindings, rules, shared pools, statistics, MTU, "
      "errors, and vPorts that come and go [R142][R148][R149]")
def _(bench):
    center_module = control_center()
    pb = center_module.pb
    with bench.lab() as lab:
        scene = Scene(lab, {"red": {}})
        a, b = scene.two_hosts()
        for number, host in enumerate("abbba", 1):
            scene.vm(host, "red", number)
        for host in (a, b):
            host.start_agent()

        def intent(*numbers):
            hosts = {name: {"netdev": "wire0", "vlan": vlan, "vms": {}} for name, vlan in (("a", 100), ("b", 200))}
            for number in numbers:
                hosts[scene.host_of[f"red-{number}"]]["vms"][f"red-{number}"] = {"netdev": f"red-{number}", "vmac": mac(number)}
            return center_module.Network(json.dumps({"name": "red", "tenant": "acme", "vvlan": 10, "hosts": hosts}))

        center = center_module.connect([f"{host.name}=unix:{host.path('/run/ivds/ivdsd.sock')}" for host in (a, b)])
        at = center.hosts
        center.create(intent(1, 2, 3, 4))
        lab.wait(lambda: all(port["up"] for name in "ab" for port in scene.ports(name).values()), 10, "ports are down")

        # Bindings: the first frame to a VM that has said nothing yet goes to it alone, by its host's VLAN.
        tally = Tally(scene)
        tally.send("red-1", mac(3))
        tally.settle(1)
        tally.close()
        check_equal(tally.got, {("red-1", "red-3"): 1}, "who got the frame")
        check_equal(scene.counters("a", "red-1")["rx_flood"], 0, "frames that were flooded")

        # Rules.
        def put_vport(host, number, **fields):
            name = f"red-{number}"
            at[host].put("vport", pb.VPort(name=name, instance="red", netdev=name, vnic=f"{name}-nic", **fields))

        check_equal(scene.ping("red-1", "red-2"), 3, "answers without a rule")
        put_vport("a", 1, rules=[pb.Rule(name="no-ping", protocol="icmp", ethertype="ip", action=pb.Rule.DROP)])
        check_equal(scene.ping("red-1", "red-2"), 0, "answers with a rule that drops them")
        put_vport("a", 1)
        check_equal(scene.ping("red-1", "red-2"), 3, "answers once the rule is gone")

        # A pool that vPorts share: flows are spread over it.
        at["b"].put("vport_pool", pb.VPortPool(name="web", vports=["red-3", "red-4"]))
        put_vport("b", 2, rules=[pb.Rule(name="spread", direction=pb.Rule.IN, ethertype="ip", protocol="udp",
                                         dst_ports=["9999"], action=pb.Rule.REDIRECT, to_pool="web")])
        before = [scene.counters("b", name)["tx_packets"] for name in ("red-3", "red-4")]
        with scene.vms["red-2"].within():
            for port in range(20000, 20060):
                with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
                    sender.bind(("0.0.0.0", port))
                    sender.sendto(b"flow", (scene.vms["red-1"].address, 9999))
        grown = [scene.counters("b", name)["tx_packets"] - old for name, old in zip(("red-3", "red-4"), before)]
        check(min(grown) > 0 and sum(grown) >= 60, f"flows that red-3 and red-4 got of 60: {grown}")

        # Statistics, as the control center reads them of each host.
        def counted():
            return {(host, port.name): port.counters.rx_packets for host in at
                    for port in at[host].stub.Stats(pb.StatsRequest()).ports if port.kind == pb.VPORT}

        before = counted()
        with scene.vms["red-1"].port("eth0") as out:
            for _ in range(7):
                out.send(frame(mac(3), mac(1), "ivds-mark stats "))
        lab.wait(lambda: counted()["a", "red-1"] >= before["a", "red-1"] + 7, 5, "the frames are not counted")
        check_equal({key: count - before[key] for key, count in counted().items() if count != before[key]},
                    {("a", "red-1"): 7}, "what the control center sees of 7 frames")

        # MTU: on both hosts, and only what is larger is dropped.
        for host in at:
            instance = at[host].get("instance", "red")
            instance.mtu_bytes = 1000
            at[host].put("instance", instance)
        sizes = [scene.ping("red-1", "red-2", "-M", "do", "-s", size - 28) for size in (1000, 1001)]
        check_equal(sizes, [3, 0], "answers to pings of 1000 and of 1001 bytes")

        # Errors: counted by cause, told as events, in what the control center asks.
        def dropped():
            return {(drop.port, drop.reason): drop.packets for drop in at["a"].stub.Stats(pb.StatsRequest()).drops}

        check_equal(dropped().get(("red-1", "oversize")), 3, "drops of what was too large")
        with scene.vms["red-1"].port("eth0") as out:
            for _ in range(5):
                out.send(frame(mac(3), mac(77), "ivds-mark forged "))
        lab.wait(lambda: dropped().get(("red-1", "spoof")) == 5, 5, lambda: f"drops: {dropped()}")
        def told():  # by a ring that the agent reads a moment after the drop is counted
            return {(each.kind, each.port, each.mac) for each in at["a"].stub.Events(pb.EventsRequest())}

        lab.wait(lambda: ("spoof", "red-1", mac(77)) in told(), 5, lambda: f"no event of the forged frames in {told()}")

        # A vPort that comes, and one that goes.
        check_equal(scene.ping("red-2", "red-5"), 0, "answers of a VM that has no vPort")
        center.create(intent(1, 2, 3, 4, 5))
        lab.wait(lambda: scene.ports("a")["red-5"].get("up"), 10, "the new port is not up")
        check_equal(scene.ping("red-2", "red-5"), 3, "answers of a VM that came")
        at["a"].remove("vport", "red-1")
        check_equal([scene.ping("red-2", name) for name in ("red-1", "red-5")], [0, 3], "answers of a VM that went, and of one that stays")


@case("a scrape of the agent's metrics says what stats says, and a port that is taken is an error with its cause "
      "[R144][R146]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        a, far = scene.host_on_wire()
        scene.vm("a", "red", 1)
        scene.vm("a", "red", 2)

        def refused(address):
            try:
                a.start_agent("--metrics", address)
            except LabError as error:
                return str(error)
            return "it started"

        check("[IVDS-A008]" in refused("9464"), "a port without an address is not refused")
        with a.within():
            taken = socket.create_server(("127.0.0.1", 9464))
        check("cannot listen on 127.0.0.1:9464 for metrics [IVDS-A009]" in refused(METRICS), "a taken port")
        taken.close()

        a.start_agent("--metrics", METRICS)
        scene.start()
        config = scene.config("a")
        config["mirrors"] = [{"name": "watch", "sources": [{"vport": "red-1", "direction": "in"}], "to_uplink": "uplink",
                              "rspan_vlan": 900}]
        a.apply(config)
        check_equal(scene.ping("red-1", "red-2"), 3, "pings")
        with far.port("wire0") as wire, scene.vms["red-1"].port("eth0") as vm:
            for _ in range(25):
                vm.send(frame(BROADCAST, mac(1), "ivds-mark "))
                vm.send(frame(mac(2), mac(77), "ivds-mark forged "))
                data = frame(mac(1), mac(9), "ivds-mark wire ")
                wire.send(data[:12] + struct.pack("!HHHH", 0x8100, 100, 0x8100, 10) + data[12:])
        said = []

        def still():
            """Until nothing moved between two readings, and so not during the scrape between them."""
            before = a.ctl_json("stats")
            said[:] = [before, scrape(a), a.ctl_json("mirror", "state")]
            return a.ctl_json("stats") == before

        lab.wait(still, 20, "the counters do not come to rest")
        stats, families, mirrors = said

        def series(family, **labels):
            return families[family].get(frozenset(labels.items()))

        check_equal(len(stats["ports"]), 3, "ports")
        for port in stats["ports"]:
            who = {"uplink": "uplink"} if port["name"] == "uplink" else {"vport": port["name"], "instance": "red"}
            kind = "uplink" if port["name"] == "uplink" else "vport"
            for direction in ("rx", "tx"):
                for what in ("packets", "bytes"):
                    check_equal(series(f"ivds_{kind}_{what}_total", **who, direction=direction),
                                int(port["counters"][f"{direction}_{what}"]), f"{port['name']} {direction} {what}")
            check_equal(series(f"ivds_{kind}_up", **who), 1, f"{port['name']} is up")
        check(series("ivds_vport_packets_total", vport="red-1", instance="red", direction="rx") >= 28, "traffic")
        red = stats["instances"][0]
        for source, field in (("vport", "port"), ("wire", "wire")):
            check_equal(series("ivds_instance_packets_total", instance="red", tenant="", uplink="uplink",
                               **{"from": source}), int(red[f"{field}_packets"]), f"packets of red from the {source}")
        check_equal(series("ivds_fdb_entries", instance="red", tenant="", uplink="uplink"), red["learned"], "learned")
        drops = {frozenset({("port", drop["port"]), ("reason", drop["reason"])}): int(drop["packets"])
                 for drop in stats["drops"]}
        check_equal(families["ivds_drops_total"], drops, "drops")
        check_equal(series("ivds_drops_total", port="red-1", reason="spoof"), 25, "forged frames")
        watch = mirrors["mirrors"][0]
        check(int(watch["packets"]) >= 25, f"copies: {watch}")
        check_equal(series("ivds_mirror_packets_total", mirror="watch"), int(watch["packets"]), "copies of the mirror")
        check_equal(series("ivds_scrape_ok"), 1, "the scrape")
        version = a.run("ivdsd", "--version").stdout.split()[1]
        check_equal([dict(labels)["version"] for labels in families["ivds_build_info"]], [version], "the version")
        text = http_get(a, "/metrics")[1]
        check(not re.search(r"02:00:00|10\.0\.0", text), "an address of a VM is in the metrics")
        for path in ("/", "/etc/passwd", "/../etc/passwd"):
            check(http_get(a, path)[0] in (400, 404), f"GET {path} is answered")


@case("metrics are there by IPv6 and by HTTPS, and then not without it; a certificate that takes the other's place is met by who "
      "connects from then on, and what cannot be used changes nothing [R144]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
        a = lab.host("a")
        a.run("sysctl", "-qw", "net.ipv6.conf.lo.disable_ipv6=0")
        a.run("ip", "-6", "addr", "replace", "::1/128", "dev", "lo", "nodad")
        key, certificate, both, renewed = (pathlib.Path(folder) / name for name in ("key", "certificate", "both", "renewed"))

        def make(file):
            a.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                  "-subj", "/CN=ivds", "-addext", "subjectAltName=IP:::1", "-keyout", key, "-out", file)

        make(certificate)
        try:
            a.start_agent("--metrics", "[::1]:9464", "--metrics-tls", certificate)
            check(False, "a certificate without a key is enough")
        except LabError as error:
            check("IVDS-A080" in str(error), f"{error}")
        both.write_text(certificate.read_text() + key.read_text(), encoding="ascii")
        a.start_agent("--metrics", "[::1]:9464", "--metrics-tls", both)
        answer = get_by_tls(a, 9464, "::1", certificate)
        check(answer.startswith("HTTP/1.1 200") and "ivds_scrape_ok 1" in answer, f"{answer[:400]}")
        with a.within():
            plain = socket.create_connection(("::1", 9464), timeout=10)
        plain.sendall(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        try:
            check(b"ivds_" not in plain.recv(4096), "metrics without TLS")
        except ConnectionError:
            pass
        plain.close()

        def told():
            return [each["text"] for each in json.loads(a.ctl("--json", "doctor", check=False).stdout)["findings"]
                    if each["id"] == "IVDS-A024" and each["object"] == "--metrics-tls"]

        def served(by):
            try:
                return "ivds_scrape_ok 1" in get_by_tls(a, 9464, "::1", by)
            except ssl.SSLError:
                return False

        make(renewed)
        both.write_text(certificate.read_text() + key.read_text(), encoding="ascii")
        lab.wait(lambda: any("not the key of the certificate" in text for text in told()), 10, lambda: f"doctor tells {told()}")
        check_equal((served(certificate), served(renewed)), (True, False), "which certificate is met while the file is wrong")
        open_before = tls_connection(a, 9464, "::1", certificate)
        both.write_text(renewed.read_text() + key.read_text(), encoding="ascii")
        lab.wait(lambda: served(renewed), 10, "the new certificate is not met")
        check_equal((told(), served(certificate)), ([], False), "what doctor tells, and whether the old certificate is met")
        open_before.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        check(b"200" in open_before.recv(64), "who was connected before is not served")
        open_before.close()
        check_equal(a.stop_agent(), 0, "exit code")
        a.start_agent("--metrics", "[::1]:9464")
        with a.within():
            connection = http.client.HTTPConnection("::1", 9464, timeout=10)
            connection.connect()
        connection.request("GET", "/metrics")
        check("ivds_scrape_ok 1" in connection.getresponse().read().decode(), "metrics by IPv6")
        connection.close()


class Terminal:
    """A program on a terminal of its own."""

    def __init__(self, host, *words):
        self.lab, self.said = host.lab, ""
        self.master, self.slave = pty.openpty()
        self.resize(24, 100)
        self.modes = termios.tcgetattr(self.slave)
        self.process = host.start(*words, stdin=self.slave, stdout=self.slave, stderr=self.slave)
        os.set_blocking(self.master, False)

    def resize(self, rows, columns):
        fcntl.ioctl(self.slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def look(self):
        try:
            self.said += os.read(self.master, 1 << 16).decode()
        except BlockingIOError:
            pass
        return self.said

    def shows(self, text, what):
        """Waits until it shows this from now on."""
        self.said = ""
        self.lab.wait(lambda: text in self.look(), 20, f"{what}: {text!r} is not shown")

    def press(self, keys):
        os.write(self.master, keys.encode())

    def end(self, what):
        """Its exit code, once the terminal is seen to be as it was."""
        code = self.process.wait(20)
        self.look()
        check(self.said.endswith("\033[?25h\033[?1049l"), f"{what}: the screen is left as {self.said[-40:]!r}")
        check_equal(termios.tcgetattr(self.slave), self.modes, f"{what}: the modes of the terminal")
        os.close(self.master)
        os.close(self.slave)
        return code


@case("top counts every frame and drop once, draws on a terminal, and gives it back however it ends [R144][R146]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        a, _ = scene.host_on_wire()
        scene.vm("a", "red", 1)
        scene.vm("a", "red", 2)
        scene.start()
        # The intervals of one run follow each other: what they say together is what was sent while it ran.
        process = a.start("ivds-ctl", "--json", "top", "--interval", "0.5", "--vport", "red-*", stdout=subprocess.PIPE)
        json.loads(process.stdout.readline())
        with scene.vms["red-1"].port("eth0") as vm:
            for _ in range(200):
                vm.send(frame(mac(2), mac(1), "ivds-mark "))
            for _ in range(50):
                vm.send(frame(mac(2), mac(77), "ivds-mark forged "))
        sums = {"rx": 0, "tx": 0, "spoof": 0}
        for _ in range(20):
            top = json.loads(process.stdout.readline())
            rows = {row["vport"]: row for row in top["vports"]}
            sums["rx"] += rows["red-1"]["rx_pps"] * top["seconds"]
            sums["tx"] += rows["red-2"]["tx_pps"] * top["seconds"]
            sums["spoof"] += sum(drop["pps"] for drop in rows["red-1"].get("drops", [])
                                 if drop["reason"] == "spoof") * top["seconds"]
            if sums["spoof"] > 49 and sums["tx"] > 199:
                break
        process.kill()
        counters = scene.counters("a", "red-1")
        check_equal({key: round(value) for key, value in sums.items()},
                    {"rx": counters["rx_packets"], "tx": 200, "spoof": 50}, "frames in all intervals together")

        stream = Stream(scene, "red-2", "red-1", per_second=200)
        for how in ("q", signal.SIGINT, signal.SIGTERM):
            terminal = Terminal(a, "ivds-ctl", "top", "--interval", "0.3")
            terminal.shows("\033[?1049h", "the other screen")
            terminal.shows("red-2", "a row")
            terminal.shows("by rx_bps", "the column to sort by")
            terminal.press(">r")
            terminal.shows("by tx_pps, reversed", "after two keys")
            terminal.resize(3, 19)
            terminal.process.send_signal(signal.SIGWINCH)
            terminal.shows("\033[H2 vPorts, 2 up; rx \033", "cut to nineteen columns")
            if how == "q":
                terminal.press("q")
            else:
                terminal.process.send_signal(how)
            check_equal(terminal.end(how), 0, f"the exit code after {how}")
        stream.stop()


main()
