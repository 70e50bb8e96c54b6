# SPDX-License-Identifier: Apache-2.0
"""peers_test.py -- what hosts that share etcd spare each other: questions for addresses that are known, floods to where
nobody is, and frames of peers that are not registered."""
import errno
import json
import signal
import socket
import time

from etcd import Etcd, findings, remote, start
from harness import case, check, check_equal, main
from scene import BROADCAST, EXPERIMENTAL, MARK, Scene, Tally, frame, learning_switch, mac, network, plug_in, tag

VLANS = {"a": 100, "b": 200, "c": 300}


class Hosts(Scene):
    """Hosts on a bridge with etcd, each on a VLAN of its own, or all on one."""

    def __init__(self, lab, names, vlans=None, **fields):
        super().__init__(lab, {"red": network(**fields)})
        self.vlans, self.more = vlans, {}
        self.fabric, self.etcd = learning_switch(lab), Etcd(lab)
        for number, name in enumerate(names, 1):
            host = self.host(name)
            plug_in(lab, self.fabric, host)
            self.etcd.connect(host, 10 + number)
            start(host)

    def config(self, host):
        config = super().config(host)
        for instance in config["instances"]:
            instance.update(self.more.get(host, {}))
            if self.vlans:
                instance.update(vlan=self.vlans[host], peer_vlans=[v for v in self.vlans.values() if v != self.vlans[host]])
        return config

    def knows(self, host, count):
        self.lab.wait(lambda: remote(self, host) == count, 60, f"{host} does not know {count} remote vMACs")


def behind_tags(port):
    """Frames with both tags: {outer VLAN, what is behind the tags with its EtherType, whether it is for a group}."""
    return [(int.from_bytes(f[14:16], "big") & 4095, f[20:], bool(f[0] & 1)) for f in port.receive()
            if f[12:14] == b"\x81\0" and f[16:18] == b"\x81\0"]


def questions(port):
    """Group ARP requests and Neighbour Solicitations among them."""
    arp, nd = 0, 0
    for _, inner, is_group in behind_tags(port):
        arp += is_group and inner[:2] == b"\x08\x06"
        nd += is_group and inner[:2] == b"\x86\xdd" and inner[8] == 58 and inner[42] == 135
    return arp, nd


@case("VMs on two hosts find each other by ARP and Neighbour Discovery with no question on the wire, where it is on [R84][R153]")
def _(bench):
    with bench.lab() as lab:
        scene = Hosts(lab, "ab")
        for number, host in enumerate("ab", 1):
            vm = scene.vm(host, "red", number, addresses=[f"10.0.0.{number}", f"fd00::{number}"])
            vm.run("sysctl", "-qw", "net.ipv6.conf.eth0.disable_ipv6=0")
            vm.ip(f"addr add fd00::{number}/64 dev eth0 nodad")
        scene.start()
        for host in "ab":
            scene.knows(host, 1)
        value = json.loads(scene.etcd.keys()["/ivds/v1/bindings/100.10/" + mac(2)])
        check_equal(value["addresses"], ["10.0.0.2", "fd00::2"], "the addresses in the binding of b's VM")

        def pings():
            """Answers by IPv4 and IPv6 with nothing remembered, and what was asked on the wire meanwhile."""
            for vm in scene.vms.values():
                vm.ip("neigh flush all")
            with scene.fabric.port("port-a") as a, scene.fabric.port("port-b") as b:
                got = scene.ping("red-1", "red-2"), 0
                done = scene.vms["red-1"].run("ping", "-6", "-q", "-c", 3, "-i", "0.05", "-W", "1", "fd00::2", check=False)
                got = got[0], int(done.stdout.split(" received")[0].split()[-1])
                asked = [sum(pair) for pair in zip(questions(a), questions(b))]
            return got, asked

        got, asked = pings()
        check_equal(got, (3, 3), "answers while the switch answers nobody")
        check(asked[0] > 0 and asked[1] > 0, f"questions on the wire while it does not answer: {asked}")
        for host in "ab":
            scene.more[host] = {"answer_neighbours": True}
            scene.apply(host)
        got, asked = pings()
        check_equal(got, (3, 3), "answers while the switch answers")
        check_equal(asked, [0, 0], "ARP requests and Neighbour Solicitations on the wire")
        for host, vm in (("a", "red-1"), ("b", "red-2")):
            check(scene.counters(host, vm).get("rx_answered", 0) >= 2, f"{vm} was answered: {scene.counters(host, vm)}")
        # Who is answered for, and where it is; the same from the pinned maps.
        def neighbours(*words):
            return sorted((each["address"], each["mac"], each["port"], each["vlan"])
                          for each in scene.hosts["a"].ctl_json_lines("neighbour", "show", *words))
        own = [("10.0.0.1", mac(1), "red-1", 0), ("fd00::1", mac(1), "red-1", 0)]
        others = [("10.0.0.2", mac(2), "uplink", 100), ("fd00::2", mac(2), "uplink", 100)]
        check_equal(neighbours(), sorted(own + others), "what the switch answers for")
        check_equal(neighbours("--instance", "red", "--port", "uplink"), others, "of the uplink")
        check_equal(neighbours("--address", "fd00:0::1"), own[1:], "of one address")
        refused = scene.hosts["a"].ctl("neighbour", "show", "--address", "10.0.0.0/8", check=False)
        check(refused.returncode == 2 and "IVDS-A023" in refused.stderr, refused.stderr)
        scene.hosts["a"].stop_agent()
        check_equal(neighbours(), sorted(own + others), "what the maps say without the agent")
        start(scene.hosts["a"])
        scene.knows("a", 1)
        # Two VMs that claim one address are told on both hosts, and nobody is answered for it.
        scene.hosts["b"].ctl("vport", "update", "red-2", *(word for each in ("10.0.0.2", "fd00::2", "10.0.0.1")
                                                           for word in ("--addresses", each)))
        for host in "ab":
            lab.wait(lambda host=host: findings(scene, host, "IVDS-R023"), 30, f"{host} does not tell of the address")
            told = findings(scene, host, "IVDS-R023")
            check(len(told) == 1 and told[0]["object"] == "red" and told[0]["fix"] and
                  all(text in told[0]["text"] for text in ("10.0.0.1", "vport red-1", "of host a", "vport red-2", "of host b",
                                                           "answers nobody")), f"{host}: {told}")
        check_equal(neighbours("--address", "10.0.0.1"), [], "who is answered for, of those who claim it")
        scene.apply("b")
        for host in "ab":
            lab.wait(lambda host=host: not findings(scene, host, "IVDS-R023"), 30, f"{host} still tells of the address")
        lab.wait(lambda: neighbours() == sorted(own + others), 30, lambda: f"what the switch answers for: {neighbours()}")
        # What nobody has is asked everywhere, as ever.
        with scene.fabric.port("port-a") as a:
            scene.vms["red-1"].run("ping", "-c", 1, "-W", "1", "10.0.0.77", check=False)
            check(questions(a)[0] > 0, "no question on the wire for an address that nobody has")
        # The VM that goes is answered for no more.
        config = scene.config("b")
        config["vports"], config["vnics"] = [], []
        scene.hosts["b"].apply(config)
        scene.knows("a", 0)
        scene.vms["red-1"].ip("neigh flush all")
        before = scene.counters("a", "red-1")["rx_answered"]
        check_equal(scene.ping("red-1", "red-2", count=1), 0, "answers of a VM that has no vPort any more")
        check_equal(scene.counters("a", "red-1")["rx_answered"], before, "questions answered for it")


@case("of a host that died a VM is told in seconds: its new connection has no route, nobody answers for the other VM, and frames "
      "to it are dropped and counted, not flooded [R82][R83][R84]")
def _(bench):
    with bench.lab() as lab:
        scene = Hosts(lab, "ab", VLANS)
        scene.more = {host: {"answer_neighbours": True} for host in "ab"}
        for number, host in enumerate("ab", 1):
            scene.vm(host, "red", number, addresses=[f"10.0.0.{number}"])
        scene.start()
        for host in "ab":
            scene.knows(host, 1)
        b, caller, server = scene.hosts["b"], scene.vms["red-1"], scene.vms["red-2"]
        # What a VM's kernel remembers of another's MAC it asks for anew some seconds after the last answer, not half a minute.
        caller.run("sysctl", "-qw", "net.ipv4.neigh.eth0.base_reachable_time_ms=1000", "net.ipv4.neigh.eth0.delay_first_probe_time=1")
        with server.within():
            listener = socket.create_server(("0.0.0.0", 7000))

        def call():
            """0, or the error that the VM's own stack has for a new connection."""
            with caller.within():
                out = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            out.settimeout(60)
            begun = time.monotonic()
            try:
                out.connect((server.address, 7000))
                return 0, time.monotonic() - begun
            except OSError as error:
                return error.errno or str(error), time.monotonic() - begun
            finally:
                out.close()

        check_equal(call()[0], 0, "a connection while the host lives")
        answered = lambda: scene.counters("a", "red-1")["rx_answered"]  # noqa: E731
        before = answered()
        check(before > 0, "the switch answered nobody")
        listener.close()
        b.stop_agent(signal.SIGKILL)
        b.ip("link set wire0 down", "link set mgmt0 down")
        scene.knows("a", 0)
        # With the other's MAC remembered, and with nothing remembered.
        before = answered()
        for _ in range(2):
            error, took_s = call()
            check_equal(error, errno.EHOSTUNREACH, "what a new connection to a VM of the dead host comes to")
            print(f"no route after {took_s:.1f} s")
            caller.ip("neigh flush all")
        check_equal(answered(), before, "questions for the dead host's VM that were answered")
        dropped = lambda: scene.drops("a").get(("red-1", "lone_flood"), 0)  # noqa: E731
        lost, flooded = dropped(), scene.counters("a", "red-1")["rx_flood"]
        with scene.fabric.port("port-a") as wire, caller.port("eth0") as out:
            for number in range(20):
                out.send(frame(server.mac, caller.mac, MARK + b"dead %d " % number))
            lab.wait(lambda: dropped() >= lost + 20, 10, lambda: f"drops of a: {scene.drops('a')}")
            check_equal([inner for _, inner, _ in behind_tags(wire) if MARK in inner], [], "frames on the wire")
        check_equal((dropped() - lost, scene.counters("a", "red-1")["rx_flood"] - flooded), (20, 0),
                    "frames to it that were dropped, and that were flooded")
        # It lives again.
        b.ip("link set wire0 up", "link set mgmt0 up")
        start(b)
        for host in "ab":
            scene.knows(host, 1)
        with server.within(), socket.create_server(("0.0.0.0", 7000)):
            check_equal(call()[0], 0, "a connection when the host lives again")


@case("floods go to the VLANs where a host has a member of the V.VLAN, from the moment that it has [R80][R109][R110]")
def _(bench):
    with bench.lab() as lab:
        scene = Hosts(lab, "abc", VLANS)
        scene.vm("a", "red", 1)
        scene.start()
        lab.wait(lambda: scene.etcd.keys("/ivds/v1/bindings/"), 60, "a's binding is not in etcd")

        def vlans_of_flood():
            with scene.fabric.port("port-a") as port:
                tally = Tally(scene)
                tally.send("red-1", BROADCAST)
                tally.settle(len(scene.vms) - 1)
                tally.close()
                return sorted(vlan for vlan, inner, _ in behind_tags(port) if inner[2:].startswith(MARK)), tally.got

        lab.wait(lambda: not vlans_of_flood()[0], 60, "a floods to the wire, where nobody is")
        scene.vm("b", "red", 2)
        scene.apply("b")
        scene.knows("a", 1)
        check_equal(vlans_of_flood(), ([200], {("red-1", "red-2"): 1}), "outer VLANs of a flood with a member on b")
        scene.vm("c", "red", 3)
        scene.apply("c")
        scene.knows("a", 2)
        check_equal(vlans_of_flood(), ([200, 300], {("red-1", "red-2"): 1, ("red-1", "red-3"): 1}), "and with one on c")
        # etcd away changes nothing.
        scene.etcd.stop()
        check_equal(vlans_of_flood()[0], [200, 300], "outer VLANs while etcd is away")
        # The operator's choice: peers that no registry knows are flooded to.
        scene.more["a"] = {"unregistered": "flooded"}
        scene.apply("a")
        check_equal(vlans_of_flood()[0], [100, 200, 300], "outer VLANs where unregistered peers are flooded to")


@case("frames of peers that are not registered are dropped where an instance says so, and a peer too many is refused [R79][R80][R158]")
def _(bench):
    with bench.lab() as lab:
        scene = Hosts(lab, "abc")
        for number, host in enumerate("abc", 1):
            scene.vm(host, "red", number)
        stranger = lab.place("stranger")
        lab.cable(stranger, "eth0", scene.fabric, "port-old", 1508)
        scene.fabric.ip("link set port-old master fabric")
        scene.network_of["stranger"] = "red"
        scene.start()
        for host in "abc":
            scene.knows(host, 2)

        def heard(expected):
            tally = Tally(scene)
            with stranger.port("eth0") as port:
                port.send(frame(mac(1), mac(99), MARK + b"stranger plain ", tag(100) + tag(10)))
                tally.settle(expected)
            tally.close()
            return tally.got.get(("stranger", "red-1"), 0)

        check_equal(heard(1), 1, "frames of a peer that is not registered, where all are heard")
        scene.more["a"] = {"unregistered": "dropped"}
        scene.apply("a")
        check_equal(heard(0), 0, "its frames where unregistered ones are dropped")
        check(scene.dropped("a", "unregistered") > 0, f"drops of a: {scene.drops('a')}")
        scene.check_pings()
        key = "/ivds/v1/bindings/100.10/" + mac(99)
        scene.etcd.ctl("put", key, json.dumps({"vvlan": 10, "vmac": mac(99), "vlan": 100, "host": "machine"}))
        scene.knows("a", 3)
        check_equal(heard(1), 1, "its frames once a controller has registered it")
        scene.etcd.ctl("del", key)
        scene.knows("a", 2)
        check_equal(heard(0), 0, "its frames once it is registered no more")

        check_equal(findings(scene, "a", "IVDS-R016"), [], "peers refused where there is no limit")
        scene.more["a"]["max_peers"] = 1
        scene.apply("a")
        scene.knows("a", 1)
        refused = findings(scene, "a", "IVDS-R016")
        check_equal([(f["severity"], f["object"]) for f in refused], [("error", "red")], "what doctor says of a peer too many")
        check("takes 1 peers" in refused[0]["text"], f"doctor says {refused}")
        answers = {other: scene.ping("red-1", other, count=2) for other in ("red-2", "red-3")}
        check_equal(sorted(answers.values()), [0, 2], f"answers of the peer that counts and the one too many: {answers}")


@case("one call gives a V.VLAN its affinity, its mode and both VLANs of its frames, and all of it is in force [R44][R79][R143]")
def _(bench):
    with bench.lab() as lab:
        scene = Hosts(lab, "abc", VLANS)
        for number, host in enumerate("abc", 1):
            scene.vm(host, "red", number)
        scene.start()
        a, vm = scene.hosts["a"], scene.vms["red-1"]
        a.ctl("vport", "delete", "red-1")
        a.ctl("instance", "delete", "red")
        a.ctl("uplink", "update", "uplink", "--transport-vlan", "900")

        def bind(instance):
            a.ctl("vport", "create", "red-1", "--instance", instance, "--netdev", "red-1", "--vnic", "red-1-nic")
            lab.wait(lambda: scene.ports("a")["red-1"].get("up"), 10, "the port is not up")

        def sent_as():
            """The tags of a broadcast of the VM's on the wire."""
            label = MARK + b"tags "
            with scene.fabric.port("port-a") as wire, vm.port("eth0") as out:
                out.send(frame(BROADCAST, mac(1), label))
                frames = wire.receive_until(lambda all_: any(label in data for data in all_))
            return {(int.from_bytes(f[14:16], "big"), int.from_bytes(f[18:20], "big")) for f in frames if label in f}

        def taken(outer, inner):
            """Whether the VM gets a frame from the wire with these tags."""
            label = MARK + b"%d %d " % (outer, inner)
            with scene.fabric.port("port-a") as wire, vm.port("eth0") as into:
                wire.send(frame(mac(1), mac(3), label, tag(outer) + tag(inner)))
                wire.send(frame(BROADCAST, mac(3), label + b"last ", tag(100) + tag(10)))
                wire.send(frame(BROADCAST, mac(3), label + b"last ", tag(900) + tag(20)))
                frames = into.receive_until(lambda all_: any(label + b"last " in data for data in all_))
            return any(label in data and label + b"last " not in data for data in frames)

        # Affinity: of two peers on two VLANs it takes one.
        a.ctl("instance", "create", "red", "--uplink", "uplink", "--scope", "distributed", "--mode", "piggyback", "--vlan", "100",
              "--vvlan", "10", "--peer-vlans", "200", "--peer-vlans", "300", "--max-peers", "1", "--unregistered", "flooded")
        bind("red")
        scene.knows("a", 1)
        check_equal(len(findings(scene, "a", "IVDS-R016")), 1, "peers too many")
        check_equal(sent_as(), {(100, 10), (200, 10), (300, 10)}, "tags of what the VM sends to all")
        check_equal([taken(100, 10), taken(100, 11), taken(400, 10)], [True, False, False], "frames with the tags of others")
        # The other mode: the V.VLAN alone says whose a frame is, in the uplink's transport VLAN.
        a.ctl("vport", "delete", "red-1")
        a.ctl("instance", "delete", "red")
        a.ctl("instance", "create", "green", "--uplink", "uplink", "--scope", "distributed", "--mode", "independent", "--vvlan", "20",
              "--max-peers", "2", "--unregistered", "flooded")
        bind("green")
        check_equal(sent_as(), {(900, 20)}, "tags of what the VM sends to all")
        check_equal([taken(900, 20), taken(900, 10), taken(100, 20)], [True, False, False], "frames with the tags of others")
        made = a.ctl_json("instance", "get", "green")["instance"]
        check_equal((made["mode"], made["vvlan"], made["max_peers"]), ("independent", 20, 2), "what the agent has")


@case("what an instance and its peers on a VLAN send each other is held to their rate, and nothing else is [R81]")
def _(bench):
    with bench.lab() as lab:
        scene = Hosts(lab, "abc", VLANS)
        for number, host in enumerate("aabc", 1):
            scene.vm(host, "red", number)
        slow = {"vlan": VLANS["b"], "rate_in_mbps": 2, "burst_in_kib": 16, "rate_out_mbps": 2, "burst_out_kib": 16}
        scene.more["a"] = {"peer_rates": [slow]}
        scene.start()
        for host, others in (("a", 2), ("b", 3), ("c", 3)):
            scene.knows(host, others)
        scene.check_pings()

        def held(sender, receiver, where):
            arrived, grown, spent = scene.burst(sender, receiver, "a")
            check_equal(set(grown), {("uplink", where)}, f"{sender} to {receiver}: where frames were lost, and why")
            check(arrived <= 2e6 / 8 * spent + (16 << 10) + 1000,
                  f"{sender} to {receiver}: {arrived} bytes in {spent:.3f} s")

        def free(*pairs):
            for sender, receiver in pairs:
                check_equal(scene.burst(sender, receiver, "a")[1], {}, f"{sender} to {receiver}: drops")
        held("red-1", "red-3", "rate_peer_out")
        held("red-3", "red-2", "rate_peer")
        free(("red-1", "red-4"), ("red-4", "red-1"), ("red-1", "red-2"))
        # Another rate for each of the others, and none for this one.
        scene.more["a"] = {"peer_rates": [{**slow, "vlan": 0}, {"vlan": VLANS["b"]}]}
        scene.apply("a")
        free(("red-1", "red-3"), ("red-3", "red-1"))
        held("red-1", "red-4", "rate_peer_out")
        held("red-4", "red-2", "rate_peer")
        scene.more["a"] = {}
        scene.apply("a")
        free(("red-1", "red-4"), ("red-4", "red-1"))


main()
