# SPDX-License-Identifier: Apache-2.0
"""registry_test.py -- hosts on a plain Linux bridge that share their bindings through etcd, which runs in a place of its
own and is stopped, killed and written to by strangers."""
import json
import os
import pathlib
import shutil
import signal
import sys
import tempfile
import time

from etcd import ETCD, LEASE_S, Etcd, findings, remote, says, start
from harness import case, check, check_equal, main
from pki import Authority
from scene import TRANSFER, Scene, Stream, Tally, learning_switch, mac, network, plug_in


def hosts_with_etcd(lab, names="abc", lease_s=LEASE_S):
    """Hosts on a bridge, a VM of one network on each, and etcd."""
    networks = {"red": network()}
    scene, fabric, etcd = Scene(lab, networks), learning_switch(lab), Etcd(lab)
    for number, name in enumerate(names, 1):
        host = scene.host(name)
        plug_in(lab, fabric, host)
        etcd.connect(host, 10 + number)
        scene.vm(name, "red", number)
        start(host, lease_s)
    scene.start()
    for name in names:
        lab.wait(lambda name=name: remote(scene, name) == len(names) - 1, 60, f"{name} does not know the others' vMACs")
    return scene, fabric, etcd


@case("a vMAC is known before its VM sent a frame: the first unicast is not flooded, and a host without etcd floods it [R79][R80][R88]")
def _(bench):
    for with_etcd in (True, False):
        with bench.lab() as lab:
            if with_etcd:
                scene, fabric, etcd = hosts_with_etcd(lab)
                value = json.loads(etcd.keys()["/ivds/v1/bindings/100.10/" + mac(2)])
                check_equal((value["host"], value["vport"], value["vlan"], value["vvlan"]), ("b", "red-2", 100, 10),
                            "the binding of b's VM")
                check_equal([key for key in etcd.keys("/ivds/v1/hosts/")], [f"/ivds/v1/hosts/{n}" for n in "abc"], "hosts")
            else:
                scene, fabric = Scene(lab, {"red": network()}), learning_switch(lab)
                for number, name in enumerate("abc", 1):
                    plug_in(lab, fabric, scene.host(name))
                    scene.vm(name, "red", number)
                scene.start()
            # The same host has a second VM: a flood reaches it, and the third host's.
            scene.vm("a", "red", 9)
            scene.apply("a")
            tally = Tally(scene)
            for _ in range(5):
                tally.send("red-1", scene.vms["red-2"].mac)
            tally.settle(5)
            check_equal(tally.got.get(("red-1", "red-2")), 5, "frames at the VM that they are for")
            for other in ("red-9", "red-3"):
                check_equal(tally.got.get(("red-1", other), 0), 0 if with_etcd else 5, f"flooded copies at {other}")
            tally.close()
            check_equal(scene.counters("a", "red-1")["rx_flood"], 0 if with_etcd else 5, "frames that a flooded")


@case("any VM of three hosts reaches any other of its V.VLAN, and each host has of each remote VM what its binding says, from "
      "when it is registered to when it is withdrawn; one host is a routed hop away from etcd [R80][R90][R129][R152][R153]")
def _(bench):
    with bench.lab() as lab:
        vlans = {"a": 100, "b": 200, "c": 300}

        class Spread(Scene):
            def config(self, host):
                config = super().config(host)
                for instance in config["instances"]:
                    instance.update(vlan=vlans[host], peer_vlans=sorted(set(vlans.values()) - {vlans[host]}))
                return config

        scene, fabric, etcd = Spread(lab, {"red": network()}), learning_switch(lab), Etcd(lab)
        for number, name in enumerate("abc", 1):
            host = scene.host(name)
            plug_in(lab, fabric, host)
            scene.vm(name, "red", number)
            if name != "c":
                etcd.connect(host, 10 + number)
        router = lab.place("router")
        etcd.connect(router, 9)
        lab.cable(scene.hosts["c"], "mgmt0", router, "mgmt-c", 1500)
        router.run("sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward")
        router.ip("addr add 10.8.0.1/24 dev mgmt-c")
        scene.hosts["c"].ip("addr add 10.8.0.3/24 dev mgmt0", "route add default via 10.8.0.1")
        etcd.place.ip("route add 10.8.0.0/24 via 10.9.0.9")
        for host in scene.hosts.values():
            start(host)
        scene.start()
        for name in "abc":
            lab.wait(lambda name=name: remote(scene, name) == 2, 60, f"{name} does not know the others' vMACs")
        scene.check_pings()

        def ways(name):
            return {entry["mac"]: entry["vlan"] for entry in scene.hosts[name].ctl_json_lines("fdb", "show")
                    if entry.get("static") and entry["port"] == "uplink"}
        scene.vm("c", "red", 9)
        scene.apply("c")
        key = f"/ivds/v1/bindings/300.10/{mac(9)}"
        for name, other in ("ab", "ba"):
            others = {mac({"a": 1, "b": 2}[other]): vlans[other], mac(3): 300, mac(9): 300}
            lab.wait(lambda name=name, others=others: ways(name) == others, 60, lambda name=name: f"{name} has {ways(name)}")
        binding = json.loads(etcd.keys(key)[key])
        physical = scene.hosts["c"].run("cat", "/sys/class/net/wire0/address").stdout.strip()
        check_equal(binding, {"vvlan": 10, "vmac": mac(9), "vport": "red-9", "physical_mac": physical, "vlan": 300, "host": "c",
                              "generation": "1"}, "the binding")
        scene.hosts["c"].ctl("vport", "delete", "red-9")
        for name in "ab":
            lab.wait(lambda name=name: mac(9) not in ways(name), 60, lambda name=name: f"{name} has {ways(name)}")
        check(key not in etcd.keys(), "the binding that was withdrawn")


@case("the table of bindings is the same on all hosts and tells of each vMAC where it is, of a VM in two networks twice, and "
      "nothing of one that was withdrawn [R153][R155]")
def _(bench):
    with bench.lab() as lab:
        scene, _, _ = hosts_with_etcd(lab)
        a, b = scene.hosts["a"], scene.hosts["b"]

        def table(host, *words):
            return [(row["vvlan"], row["vmac"], row["vport"], row["physical_mac"], row["vlan"], row["host"])
                    for row in host.ctl_json_lines("binding", "show", *words)]

        def nic(host):
            return json.loads(host.run("ip", "-j", "link", "show", "wire0").stdout)[0]["address"]
        wanted = [(10, mac(number), f"red-{number}", nic(scene.hosts[name]), 100, name)
                  for number, name in enumerate("abc", 1)]
        for name, host in scene.hosts.items():
            lab.wait(lambda host=host: table(host) == wanted, 10, lambda host=host: f"{name} has {table(host)}")
        check_equal(table(a, "--host", "b"), wanted[1:2], "those of one host")
        check_equal(table(a, "--vmac", mac(2).upper()), wanted[1:2], "that of a vMAC, however it is written")
        # What cannot be, or is not here, is no empty table.
        for words, code, ident in ((("--vmac", "zz"), 2, "zz"), (("--instance", "nowhere"), 3, "IVDS-M027")):
            done = a.ctl("binding", "show", *words, check=False)
            check(done.returncode == code and ident in done.stderr, f"{words}: {done.returncode} {done.stderr}")
        check(all(row["generation"] > 0 and row["instance"] == "red" for row in a.ctl_json_lines("binding", "show")),
              "generations and instances")
        # The VM is in another network too, behind a tag; its MAC is in both.
        b.ctl("instance", "create", "blue", "--uplink", "uplink", "--vlan", "200", "--vvlan", "20", "--scope", "distributed")
        b.ctl("vnic", "create", "red-2-blue", "--vmac", mac(2))
        b.ctl("vport", "create", "red-2.blue", "--trunk", "red-2", "--vid", "7", "--instance", "blue", "--vnic", "red-2-blue")
        both = [wanted[1], (20, mac(2), "red-2.blue", nic(b), 200, "b")]
        lab.wait(lambda: table(a, "--vmac", mac(2)) == both, 10, lambda: f"of the VM a has {table(a, '--vmac', mac(2))}")
        # Withdrawn, it is in no table.
        for vport in ("red-2.blue", "red-2"):
            b.ctl("vport", "delete", vport)
        lab.wait(lambda: table(a) == [wanted[0], wanted[2]], 10, lambda: f"a still has {table(a)}")


@case("which networks a host is in, on which VLAN, is in the registry and shown on all hosts, also where no vPort is in them, "
      "from when it is there to when it is not [R79][R153][R174]")
def _(bench):
    with bench.lab() as lab:
        scene, _, etcd = hosts_with_etcd(lab, "ab")
        a, b = scene.hosts["a"], scene.hosts["b"]
        key = "/ivds/v1/instances/b/empty"

        def shown(host):
            return {(each["name"], instance["name"]): (instance["network"], instance["vvlan"], instance["vlan"],
                                                       instance.get("peer_vlans", []), instance.get("tenant", ""))
                    for each in host.ctl_json("host", "show")["hosts"] for instance in each.get("instances", [])}
        red = {(name, "red"): ("100.10", 10, 100, [], "") for name in "ab"}
        for host in (a, b):
            lab.wait(lambda host=host: shown(host) == red, 10, lambda host=host: f"{host.name} has {shown(host)}")
        b.ctl("tenant", "create", "acme")
        b.ctl("instance", "create", "empty", "--uplink", "uplink", "--vlan", "200", "--vvlan", "20", "--peer-vlans", "300",
              "--scope", "distributed", "--tenant", "acme")
        b.ctl("instance", "create", "own", "--vlan", "201", "--vvlan", "21", "--scope", "local")
        more = red | {("b", "empty"): ("200.20", 20, 200, [300], "acme")}
        for host in (a, b):
            lab.wait(lambda host=host: shown(host) == more, 10, lambda host=host: f"{host.name} has {shown(host)}")
        check_equal(json.loads(etcd.keys(key)[key]), {"name": "empty", "host": "b", "network": "200.20", "vvlan": 20, "vlan": 200,
                                                      "peer_vlans": [300], "tenant": "acme"}, "the key")
        # An agent that starts anew writes nothing, and a stranger's key is told, and in nobody's way.
        revision = etcd.revision()
        b.stop_agent(signal.SIGKILL)
        start(b)
        lab.wait(lambda: says(scene, "b", "synced"), 60, "b is not synced again")
        check_equal(etcd.revision(), revision, "etcd's revision")
        etcd.ctl("put", "/ivds/v1/instances/b/odd", json.dumps({"name": "odd", "host": "b", "network": "300.20", "vvlan": 10}))
        etcd.ctl("put", "/ivds/v1/instances/machine/red", json.dumps(
            {"name": "red", "host": "machine", "network": "100.10", "vvlan": 10, "vlan": 100}))
        machine = more | {("machine", "red"): ("100.10", 10, 100, [], "")}
        for host in (a, b):
            lab.wait(lambda host=host: shown(host) == machine, 10, lambda host=host: f"{host.name} has {shown(host)}")
            told = findings(scene, host.name, "IVDS-R004")
            check(told and "/ivds/v1/instances/b/odd" in told[0]["text"], f"{host.name} tells {told}")
        etcd.ctl("del", "/ivds/v1/instances/machine/red")
        b.ctl("instance", "delete", "empty")
        lab.wait(lambda: shown(a) == red, 10, lambda: f"a has {shown(a)}")
        check(key not in etcd.keys(), "the key of an instance that is no more")


@case("a host that missed the move of a VM sees that it went, also if the VM's host changed its VLAN since, or was away for "
      "longer than its lease [R154][R164]")
def _(bench):
    with bench.lab() as lab:
        scene, _, etcd = hosts_with_etcd(lab, "ab", lease_s=3)
        a, b = scene.hosts["a"], scene.hosts["b"]
        for host in (a, b):
            host.ctl("instance", "update", "red", "--peer-vlans", "200")
        b.ip("link add red-1 type veth peer name there", "link set red-1 up", "link set there up")

        def state():
            return a.ctl_json("vport", "get", "red-1")["vport"]["state"]

        def moved_while_a_is_away(then):
            b.ctl("migrate", "prepare", "-f", "-", "--netdev", "red-1", stdin=a.ctl("migrate", "export", "red-1"))
            lab.wait(lambda: scene.ports("b")["red-1"].get("up"), 10, "the prepared port is not up")
            a.stop_agent(signal.SIGKILL)
            b.ctl("migrate", "commit", "red-1")
            generation = held()["generation"]
            lab.wait(lambda: "/ivds/v1/hosts/a" not in etcd.keys(), 60, "a's lease does not end")
            then()
            lab.wait(held, 60, "b does not bind it anew")
            check_equal((held()["host"], held()["moved_from"]), ("b", "a"), "the binding that was made anew")
            check(int(held()["generation"]) > int(generation), f"generations {generation} and {held()['generation']}")
            start(a, 3)
            lab.wait(lambda: state() == "moved", 60, lambda: f"a's vPort is {state()}")
            check_equal(findings(scene, "a", "IVDS-R003"), [], "conflicts on a")

        def held():
            found = [json.loads(value) for key, value in etcd.keys("/ivds/v1/bindings/").items() if key.endswith(mac(1))]
            check(len(found) < 2, f"bindings of one VM: {found}")
            return found[0] if found else None

        def change_vlan():
            b.ctl("instance", "update", "red", "--draining")
            lab.wait(lambda: not held(), 60, "b does not withdraw its binding")
            b.ctl("instance", "update", "red", "--vlan", "200", "--peer-vlans", "100")
            b.ctl("instance", "update", "red", "--draining=false")
        moved_while_a_is_away(change_vlan)

        # Back to a, and once more.
        a.ctl("migrate", "prepare", "-f", "-", "--netdev", "red-1", stdin=b.ctl("migrate", "export", "red-1"))
        lab.wait(lambda: scene.ports("a")["red-1"].get("up"), 10, "the prepared port is not up")
        a.ctl("migrate", "commit", "red-1")
        lab.wait(lambda: b.ctl_json("vport", "get", "red-1")["vport"]["state"] == "moved", 60, "b keeps the VM")

        def away():
            b.stop_agent(signal.SIGKILL)
            lab.wait(lambda: not held(), 60, "b's lease does not end")
            start(b, 3)
        moved_while_a_is_away(away)
        # Deleted, it has no past: another VM by its name is another VM.
        b.ctl("vport", "delete", "red-1")
        lab.wait(lambda: not held(), 60, "the deleted vPort's binding stays")
        check_equal(b.path("/var/lib/ivds/came").read_text(), "", "what is kept of a vPort that was deleted")


@case("etcd killed and started again under traffic: no frame is lost, and what did not change is not written again [R82][R147]")
def _(bench):
    with bench.lab() as lab:
        scene, _, etcd = hosts_with_etcd(lab)
        stream = Stream(scene, "red-1", "red-3", 500)
        before, revision = etcd.keys(), etcd.revision()
        etcd.stop()
        for name in "abc":
            lab.wait(lambda name=name: findings(scene, name, "IVDS-R001"), 60, f"{name} does not say that etcd is away")
        check_equal([remote(scene, name) for name in "abc"], [2, 2, 2], "remote MACs while etcd is away")
        # A change meanwhile holds here, waits for etcd, and is told.
        scene.vm("a", "red", 9)
        scene.apply("a")
        check(says(scene, "a", "1 changes wait"), f"a says {findings(scene, 'a', 'IVDS-R007')}")
        etcd.start()
        for name in "bc":
            lab.wait(lambda name=name: remote(scene, name) == 3, 60, f"{name} does not learn of the change meanwhile")
        for name in "abc":
            lab.wait(lambda name=name: says(scene, name, "synced"), 60, f"{name} is not synced again")
        stream.check_whole()
        after = etcd.keys()
        check_equal(sorted(set(after) - set(before)), ["/ivds/v1/bindings/100.10/" + mac(9)], "new keys")
        check_equal({key: after[key] for key in before}, before, "the keys from before")
        check_equal(etcd.revision(), revision + 1, "etcd's revision: one write")


@case("an agent that starts again, or applies what holds already, writes nothing, and the others see no change [R81][R147]")
def _(bench):
    with bench.lab() as lab:
        scene, _, etcd = hosts_with_etcd(lab, "ab")
        revision = etcd.revision()
        scene.apply("a")
        for how in (signal.SIGTERM, signal.SIGKILL):
            scene.hosts["a"].stop_agent(how)
            start(scene.hosts["a"])
            lab.wait(lambda: says(scene, "a", "synced"), 60, "a is not synced again")
            check_equal(remote(scene, "a"), 1, "remote MACs of the agent that started again")
        check_equal(etcd.revision(), revision, "etcd's revision")
        check_equal(remote(scene, "b"), 1, "remote MACs on the other host")


@case("what was compacted away meanwhile is read anew, and only what changed is changed [R82]")
def _(bench):
    with bench.lab() as lab:
        scene, _, etcd = hosts_with_etcd(lab, "ab", lease_s=120)
        etcd.place.ip("link set mgmt-b down")
        lab.wait(lambda: findings(scene, "b", "IVDS-R001"), 60, "b does not say that etcd is away")
        stranger = f"/ivds/v1/bindings/100.10/{mac(50)}"
        etcd.ctl("put", stranger, json.dumps({"vvlan": 10, "vmac": mac(50), "vlan": 100, "host": "machine"}))
        etcd.ctl("put", "/elsewhere", 1)
        etcd.ctl("compact", etcd.revision())
        etcd.place.ip("link set mgmt-b up")
        lab.wait(lambda: remote(scene, "b") == 2, 60, "b does not know the vMAC that a controller bound")
        check(says(scene, "b", "2 resyncs"), f"b says {findings(scene, 'b', 'IVDS-R007')}")
        etcd.ctl("del", stranger)
        lab.wait(lambda: remote(scene, "b") == 1, 60, "b keeps a binding that is gone")


@case("etcd that lost all it had is told it again under traffic: no frame is lost, no remote vMAC goes, and each has one host "
      "[R82][R154]")
def _(bench):
    with bench.lab() as lab:
        scene, _, etcd = hosts_with_etcd(lab)
        stream = Stream(scene, "red-1", "red-3", 500)
        before = etcd.keys()
        etcd.wipe()
        etcd.start()
        lab.wait(lambda: set(etcd.keys()) == set(before), 60, lambda: f"etcd has {sorted(etcd.keys())}")
        for name in "abc":
            lab.wait(lambda name=name: says(scene, name, "synced"), 60, f"{name} is not synced again")
            check_equal(remote(scene, name), 2, f"remote MACs on {name}")
        stream.check_whole()
        owner = lambda keys: {key: json.loads(value)["host"] for key, value in keys.items() if "/bindings/" in key}  # noqa: E731
        check_equal(owner(etcd.keys()), owner(before), "who has which vMAC")


@case("etcd that does not answer for a while: the hosts say so, forwarding and the agents go on, and what waited is written [R82]")
def _(bench):
    with bench.lab() as lab:
        scene, _, etcd = hosts_with_etcd(lab, "ab", lease_s=120)
        etcd.process.send_signal(signal.SIGSTOP)
        scene.vm("a", "red", 9)
        scene.apply("a")
        lab.wait(lambda: findings(scene, "a", "IVDS-R001"), 60, "a does not say that etcd does not answer")
        check(says(scene, "a", "1 changes wait"), f"a says {findings(scene, 'a', 'IVDS-R007')}")
        check_equal(scene.ping("red-1", "red-2"), 3, "answers meanwhile")
        etcd.process.send_signal(signal.SIGCONT)
        lab.wait(lambda: remote(scene, "b") == 2, 60, "b does not learn of the change meanwhile")


@case("etcd without room for more: what is there stays, a new vPort waits and doctor says what to do, and nobody takes a VM "
      "over [R79][R164]")
def _(bench):
    with bench.lab() as lab:
        scene, _, etcd = hosts_with_etcd(lab, "ab", lease_s=120)
        etcd.stop()
        etcd.start("--quota-backend-bytes", str(2 << 20))
        for number in range(100):
            if etcd.ctl("put", f"/filler/{number}", stdin="x" * 100_000, check=False).returncode != 0:
                break
        else:
            check(False, "etcd is never full")
        for name in "ab":
            lab.wait(lambda name=name: says(scene, name, "synced"), 60, f"{name} is not synced")
        # The agent of b may come to write its migration, but not a byte.
        b = scene.hosts["b"]
        b.ip("link add red-1 type veth peer name there", "link set red-1 up", "link set there up")
        b.ctl("migrate", "prepare", "-f", "-", "--netdev", "red-1", stdin=scene.hosts["a"].ctl("migrate", "export", "red-1"))
        lab.wait(lambda: scene.ports("b")["red-1"].get("up"), 10, "the prepared port is not up")
        done = b.ctl("migrate", "commit", "red-1", check=False)
        check(done.returncode != 0 and "make room in etcd" in done.stderr and "not known" not in done.stderr, done.stderr)
        lab.wait(lambda: says(scene, "b", "synced"), 60, "b is not synced")
        b.ctl("migrate", "abort", "red-1")
        scene.vm("a", "red", 9)
        scene.apply("a")
        lab.wait(lambda: findings(scene, "a", "IVDS-R001"), 60, "a does not say that it cannot write")
        check("make room in etcd" in findings(scene, "a", "IVDS-R001")[0]["fix"], f"{findings(scene, 'a', 'IVDS-R001')}")
        check_equal([remote(scene, name) for name in "ab"], [1, 1], "remote MACs")
        check_equal(scene.ping("red-1", "red-2"), 3, "answers")
        etcd.stop()
        etcd.start()
        etcd.ctl("del", "--prefix", "/filler/")
        etcd.ctl("compact", etcd.revision())
        etcd.ctl("defrag")
        etcd.ctl("alarm", "disarm")
        lab.wait(lambda: remote(scene, "b") == 2, 60, "b does not hear of the new vPort")


@case("a host that dies loses its bindings with its lease, and the others forget its vMACs [R83]")
def _(bench):
    with bench.lab() as lab:
        scene, _, etcd = hosts_with_etcd(lab)
        scene.hosts["c"].stop_agent(signal.SIGKILL)
        scene.hosts["c"].ip("link set wire0 down", "link set mgmt0 down")
        for name in "ab":
            lab.wait(lambda name=name: remote(scene, name) == 1, 60, f"{name} still knows the dead host's vMAC")
        check_equal(sorted(etcd.keys()), ["/ivds/v1/bindings/100.10/" + mac(1), "/ivds/v1/bindings/100.10/" + mac(2),
                                          "/ivds/v1/hosts/a", "/ivds/v1/hosts/b", "/ivds/v1/instances/a/red",
                                          "/ivds/v1/instances/b/red"], "what is left in etcd")
        check_equal([host["name"] for host in scene.hosts["a"].ctl_json("host", "show")["hosts"]], ["a", "b"], "hosts on a")


def with_clock(bench, offset_s, *options):
    """Words for env(1): the agent with a calendar so many seconds off."""
    sanitizer = ":".join(filter(None, (os.environ.get("ASAN_OPTIONS"), "verify_asan_link_order=0")))
    return (f"LD_PRELOAD={pathlib.Path(bench.binaries).resolve() / 'stale-clock.so'}", f"IVDS_CLOCK_OFFSET_S={offset_s}",
            f"ASAN_OPTIONS={sanitizer}", "ivdsd", *options)


def year(time_text):
    return int(time_text[:4])


@case("a host whose calendar is years off, either way, beside two that are right: bindings, leases, moves, flows with their "
      "ages, rules' timeouts, events and audit are right, but for the years that it writes [R79][R82][R154][R163]")
def _(bench):
    for offset_years in (-20, 15):
        offset_s, this_year = offset_years * 365 * 86400, time.gmtime().tm_year
        with bench.lab() as lab:
            scene, _, etcd = hosts_with_etcd(lab, "ab", lease_s=4)
            a, c = scene.hosts["a"], scene.host("c")
            plug_in(lab, scene.lab.places[[place.name for place in lab.places].index("fabric")], c)
            etcd.connect(c, 13)
            scene.vm("c", "red", 3)
            c.start_agent(*with_clock(bench, offset_s, "--registry", "etcd", "--etcd", ETCD, "--host-name", "c", "--lease-s", 4,
                                      "--audit", "/var/lib/ivds/audit"), program="env")
            scene.apply("c")
            for name in "abc":
                lab.wait(lambda name=name: remote(scene, name) == 2, 60, f"{name} does not know the others' vMACs")
            scene.check_pings()
            # The lease is etcd's to count: it goes on for longer than it is, and ends with its host.
            time.sleep(6)
            check_equal([remote(scene, name) for name in "abc"], [2, 2, 2], "remote MACs after more than the time of a lease")
            # There and back, with an open connection and what is left of its time.
            server = scene.vms["red-2"].start(sys.executable, TRANSFER, "serve", 7000, stdin=-1, stdout=-1)
            check_equal(server.stdout.readline().strip(), "ready", "red-2 listens")
            c.ctl("profile", "create", "stateful", "--default-in", "drop", "--default-out", "drop")
            for words in (("out", "--direction", "in", "--protocol", "tcp", "--stateful"), ("arp", "--ethertype", "arp"),
                          ("short", "--ethertype", "0x88b5", "--hard-s", "2"), ("long", "--ethertype", "0x88b6", "--hard-s", "600")):
                c.ctl("rule", "add", "profile", "stateful", "--name", *words)
            c.ctl("vport", "update", "red-3", "--profile", "stateful")
            client = scene.vms["red-3"].start(sys.executable, TRANSFER, "fetch", scene.vms["red-2"].address, 7000, stdout=-1)
            check_equal(client.stdout.readline().strip(), "connected", "the connection")

            def flow(host):
                found = [each for each in host.ctl_json_lines("flow", "list", "--vport", "red-3") if each["tuple"]["protocol"] == 6]
                check_equal([each["state"] for each in found], ["open"], f"the connection on {host.name}")
                return found[0]
            left_s = int(flow(c)["expires_s"])
            check(0 < left_s <= 86400 * 5, f"{left_s} s are left of the connection on c")
            # A rule goes when its time is over, and not before. It is over before the move: the hosts count anew, and a
            # profile that is not the same on both is not taken along.
            names = lambda: {rule["rule"]["name"] for rule in c.ctl_json("rule", "list", "--profile", "stateful")["rules"]}  # noqa: E731
            lab.wait(lambda: "short" not in names(), 30, lambda: f"rules of c: {names()}")
            check("long" in names(), f"rules of c: {names()}")
            a.ip("link add red-3 type veth peer name there", "link set red-3 up", "link set there up")
            for source, target in ((c, a), (a, c)):
                target.ctl("migrate", "prepare", "-f", "-", "--netdev", "red-3", stdin=source.ctl("migrate", "export", "red-3"))
                lab.wait(lambda: scene.ports(target.name)["red-3"].get("up"), 10, "the prepared port is not up")
                target.ctl("migrate", "commit", "red-3")
                lab.wait(lambda: source.ctl_json("vport", "get", "red-3")["vport"]["state"] == "moved", 30, "it has two hosts")
                now_s = int(flow(target)["expires_s"])
                check(abs(now_s - left_s) <= 60, f"{left_s} s were left of the connection, and {now_s} on {target.name}")
            server.stdin.close()
            sent, got = server.stdout.readline().strip(), client.stdout.readline().strip()
            check_equal((server.wait(60), client.wait(60), got), (0, 0, sent), "the two ends, and what came")
            check("long" in names(), f"rules of c: {names()}")
            # Each host writes its own years, in its own order.
            events = c.ctl_json_lines("events")
            check_equal({year(each["time"]) - this_year for each in events} - {offset_years, offset_years - 1, offset_years + 1},
                        set(), "years of c's events")
            check_equal([int(each["sequence"]) for each in events], sorted(int(each["sequence"]) for each in events), "their order")
            check_equal({year(each["time"]) - this_year for each in a.ctl_json_lines("events")} - {0}, set(), "years of a's events")
            audit = [json.loads(line) for line in c.path("/var/lib/ivds/audit").read_text().splitlines()]
            check({"Create", "Migrate"} <= {entry["call"] for entry in audit}, f"c's audit log: {audit}")
            check_equal({year(entry["time"]) - this_year for entry in audit} - {offset_years, offset_years - 1, offset_years + 1},
                        set(), "years of c's audit log")
            c.stop_agent(signal.SIGKILL)
            c.ip("link set wire0 down", "link set mgmt0 down")
            lab.wait(lambda: remote(scene, "b") == 1, 60, "b still knows the dead host's vMAC")


@case("certificates that are not valid yet, or no more, by this host's calendar: it says so, with its time and theirs, and is in "
      "the registry once its clock is set [R79][R142]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
        ca = Authority(folder)
        scene, etcd = Scene(lab, {"red": network()}), Etcd(lab, ca)
        a = scene.host("a")
        etcd.connect(a, 11)
        ca.issue("a")
        by_tls = ("--registry", "etcd", "--etcd", f"https://{ETCD}", "--etcd-ca", ca.cert(), "--etcd-cert", ca.cert("a"),
                  "--etcd-key", ca.key("a"), "--host-name", "a")
        for offset_years, words in ((-20, "it is valid from"), (20, "it was valid until")):
            a.start_agent(*with_clock(bench, offset_years * 365 * 86400, *by_tls), program="env")
            lab.wait(lambda: findings(scene, "a", "IVDS-R001"), 60, "a does not say that etcd cannot be used")
            told = findings(scene, "a", "IVDS-R001")[0]
            check(words in told["text"] and "this host's clock says " + str(time.gmtime().tm_year + offset_years)[:3] in told["text"]
                  and "set this host's clock" in told["fix"] and str(ca.cert()) in told["text"], f"doctor says {told}")
            a.stop_agent()
        check_equal(sorted(etcd.keys()), [], "keys in etcd")
        a.start_agent(*by_tls)
        lab.wait(lambda: "/ivds/v1/hosts/a" in etcd.keys(), 60, "a is not in etcd")


@case("a vMAC that another host has is refused, and two hosts by one name are told apart [R79][R174]")
def _(bench):
    with bench.lab() as lab:
        scene, _, etcd = hosts_with_etcd(lab, "ab")
        keys = etcd.keys()
        config = scene.config("b")
        config["vnics"][0]["vmac"] = mac(1)
        done = scene.hosts["b"].ctl("apply", "-f", "-", stdin=json.dumps(config), check=False)
        check(done.returncode != 0 and "IVDS-R003" in done.stderr and "host a" in done.stderr,
              f"exit {done.returncode}: {done.stderr}")
        check_equal(etcd.keys(), keys, "what etcd holds")

        # While etcd is away nobody can know; when it is back, who came second is told.
        etcd.place.ip("link set mgmt-b down")
        lab.wait(lambda: findings(scene, "b", "IVDS-R001"), 60, "b does not say that etcd is away")
        scene.vm("a", "red", 9)
        scene.apply("a")
        lab.wait(lambda: "/ivds/v1/bindings/100.10/" + mac(9) in etcd.keys(), 60, "a does not bind its new vMAC")
        config["vnics"][0]["vmac"] = mac(9)
        scene.hosts["b"].apply(config)
        etcd.place.ip("link set mgmt-b up")
        lab.wait(lambda: findings(scene, "b", "IVDS-R003"), 60, "b does not say that its vMAC is bound by a")
        check_equal(json.loads(etcd.keys()["/ivds/v1/bindings/100.10/" + mac(9)])["host"], "a", "who has it")

        # Another machine by the name of a.
        other = scene.lab.host("a2")
        etcd.connect(other, 30)
        start(other, name="a")
        scene.hosts["a2"] = other
        lab.wait(lambda: findings(scene, "a2", "IVDS-R002"), 60, "the second host by one name is not told")
        check(says(scene, "a2", "refused"), "its state")
        check(says(scene, "a", "synced"), "the first one goes on")


@case("keys by strangers: malformed, huge, of a newer layout: counted and told, and the rest goes on [R174]")
def _(bench):
    with bench.lab() as lab:
        scene, _, etcd = hosts_with_etcd(lab, "ab")
        bad = f"/ivds/v1/bindings/100.10/{mac(60)}"
        etcd.ctl("put", bad, "{not json")
        etcd.ctl("put", "/ivds/v1/bindings/nowhere/x", "1")
        etcd.ctl("put", "/ivds/v2/hosts/new", "{}")
        etcd.ctl("put", "/ivds/v1/hosts/huge", stdin="x" * 1_000_000)
        for name in "ab":
            lab.wait(lambda name=name: says(scene, name, "4 keys refused"), 60, f"{name} does not count them")
            told = findings(scene, name, "IVDS-R004")[0]["text"]
            for word in (bad, "malformed", "huge", "newer"):
                check(word in told, f"{word} is not in: {told}")
        etcd.ctl("put", bad, json.dumps({"vvlan": 10, "vmac": mac(60), "vlan": 100, "host": "machine"}))
        for name in "ab":
            lab.wait(lambda name=name: remote(scene, name) == 2, 60, f"{name} does not take the key that was righted")
        check_equal(scene.ping("red-1", "red-2"), 3, "answers")


@case("etcd that asks for certificates: hosts share bindings by TLS, and one that a stranger vouches for is told and gets "
      "nothing [R79][R142]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as elsewhere:
        ca, stranger = Authority(folder), Authority(elsewhere, "stranger")
        scene, etcd = Scene(lab, {"red": network()}), Etcd(lab, ca)
        hosts = scene.two_hosts()
        for number, host in enumerate(hosts, 1):
            etcd.connect(host, 10 + number)
            scene.vm(host.name, "red", number)
            ca.issue(host.name)
        stranger.issue("b")

        def by_tls(host, authority):
            host.start_agent("--registry", "etcd", "--etcd", f"https://{ETCD}", "--etcd-ca", ca.cert(), "--etcd-cert",
                             authority.cert(host.name), "--etcd-key", authority.key(host.name), "--host-name", host.name)

        by_tls(hosts[0], ca)
        by_tls(hosts[1], stranger)
        scene.start()
        lab.wait(lambda: "/ivds/v1/hosts/a" in etcd.keys(), 60, "a is not in etcd")
        lab.wait(lambda: findings(scene, "b", "IVDS-R001"), 60, "b does not say that etcd refuses it")
        check_equal((sorted(etcd.keys("/ivds/v1/hosts/")), remote(scene, "a"), remote(scene, "b")),
                    (["/ivds/v1/hosts/a"], 0, 0), "hosts in etcd, and what a and b know")
        hosts[1].stop_agent()
        by_tls(hosts[1], ca)
        for name in "ab":
            lab.wait(lambda name=name: remote(scene, name) == 1, 60, f"{name} does not know the other's vMAC")
        # All certificates are of another authority now, in the same files: the agents find their way back by themselves.
        with tempfile.TemporaryDirectory() as newer:
            renewed = Authority(newer)
            for name in "ab":
                renewed.issue(name)
            for file in (renewed.cert(), *(each(name) for name in "ab" for each in (renewed.cert, renewed.key))):
                shutil.copy(file, folder)
            etcd.stop()
            etcd.trust(renewed)
            etcd.start()
            hosts[0].ctl("vnic", "create", "late-nic", "--vmac", mac(9))
            hosts[0].ctl("vport", "create", "late", "--instance", "red", "--netdev", "late0", "--vnic", "late-nic")
            lab.wait(lambda: remote(scene, "b") == 2, 60, "b does not hear of the new vPort")


@case("a tenant's quota counts its bindings on all hosts: none adds one beyond, and nobody loses what he has [R87][R79]")
def _(bench):
    with bench.lab() as lab:
        scene, etcd = Scene(lab, {"red": network(tenant="acme")}), Etcd(lab)
        for number, host in enumerate(scene.two_hosts(), 1):
            etcd.connect(host, 10 + number)
            scene.vm(host.name, "red", number)
            start(host)
        scene.start()
        a, b = scene.hosts["a"], scene.hosts["b"]
        for name in "ab":
            lab.wait(lambda name=name: remote(scene, name) == 1, 60, f"{name} does not know the other's vMAC")
            scene.hosts[name].ctl("tenant", "create", "acme", "--max-fabric-bindings", "2")
        shown = lambda host: [(each["fabric_bindings"], each["max_fabric_bindings"])  # noqa: E731
                              for each in host.ctl_json("tenant", "show", "acme")["tenants"]]
        check_equal([[(int(used), most) for used, most in shown(host)] for host in (a, b)], [[(2, 2)]] * 2, "tenant show")
        a.ctl("vnic", "create", "late-nic", "--vmac", mac(9))
        words = ("vport", "create", "late", "--instance", "red", "--netdev", "late0", "--vnic", "late-nic")
        done = a.ctl(*words, check=False)
        check(done.returncode == 5 and "IVDS-R024" in done.stderr and "--max-fabric-bindings 3" in done.stderr, done.stderr)
        # What is no binding is not counted, and what is there may be changed.
        a.ctl("vport", "update", "red-1", "--mtu-bytes", "1400")
        a.ctl("tenant", "update", "acme", "--max-fabric-bindings", "3")
        a.ctl(*words)
        lab.wait(lambda: remote(scene, "b") == 2, 60, "b does not hear of the new vPort")
        # b's own quota is exceeded by a's vPort: b keeps what it has, and gets no more.
        b.ctl("vport", "update", "red-2", "--mtu-bytes", "1400")
        b.ctl("vnic", "create", "more-nic", "--vmac", mac(8))
        done = b.ctl("vport", "create", "more", "--instance", "red", "--netdev", "more0", "--vnic", "more-nic", check=False)
        check(done.returncode == 5 and "4 bindings of all hosts, 2 of them here" in done.stderr, done.stderr)
        # One that goes makes room for one that comes, in one change.
        a.ctl("vport", "delete", "late")
        lab.wait(lambda: remote(scene, "b") == 1, 60, "b still has the vPort that went")


@case("etcd that asks for users: hosts that log in share bindings, also after etcd forgot who they are, and one with another "
      "password is told and gets nothing [R79][R142]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
        scene, etcd = Scene(lab, {"red": network()}), Etcd(lab)
        hosts = scene.two_hosts()
        passwords = {"right": "a secret", "wrong": "a guess"}
        files = {name: pathlib.Path(folder, name) for name in passwords}
        for name, file in files.items():
            file.write_text(passwords[name] + "\n", encoding="ascii")
        for number, host in enumerate(hosts, 1):
            etcd.connect(host, 10 + number)
            scene.vm(host.name, "red", number)
        etcd.ask_for_users(agent=passwords["right"])

        def log_in(host, name):
            host.start_agent("--registry", "etcd", "--etcd", ETCD, "--etcd-user", "agent", "--etcd-password-file", files[name],
                             "--host-name", host.name, "--lease-s", LEASE_S)

        log_in(hosts[0], "right")
        log_in(hosts[1], "wrong")
        scene.start()
        lab.wait(lambda: "/ivds/v1/hosts/a" in etcd.keys(), 60, "a is not in etcd")
        lab.wait(lambda: findings(scene, "b", "IVDS-R001"), 60, "b does not say that etcd refuses it")
        told = findings(scene, "b", "IVDS-R001")[0]
        check("log in as agent" in told["text"] and "--etcd-password-file" in told["fix"], f"{told}")
        check_equal((sorted(etcd.keys("/ivds/v1/hosts/")), remote(scene, "b")), (["/ivds/v1/hosts/a"], 0), "hosts, and what b knows")
        hosts[1].stop_agent()
        log_in(hosts[1], "right")
        for name in "ab":
            lab.wait(lambda name=name: remote(scene, name) == 1, 60, f"{name} does not know the other's vMAC")
        # Who has logged in is in etcd's memory alone.
        etcd.stop()
        etcd.start()
        hosts[0].ctl("vnic", "create", "late-nic", "--vmac", mac(9))
        hosts[0].ctl("vport", "create", "late", "--instance", "red", "--netdev", "late0", "--vnic", "late-nic")
        lab.wait(lambda: remote(scene, "b") == 2, 60, "b does not hear of the new vPort")


main()
