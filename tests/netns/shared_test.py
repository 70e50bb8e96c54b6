# SPDX-License-Identifier: Apache-2.0
"""shared_test.py -- hosts that share sets, profiles and pools through etcd: what one changes acts on the others' traffic,
and what stays when etcd, or a host, is gone."""
import json
import signal

from etcd import Etcd, findings, says, start
from harness import case, check, check_equal, main
from scene import Scene, learning_switch, mac, network, plug_in

SET = "/ivds/v1/sets/friends"
PROFILE = "/ivds/v1/profiles/closed"
# Its vPorts hear friends alone. The members are written without the VM that is to be let in.
FRIENDS = {"name": "friends", "addresses": ["10.0.0.99"], "shared": True}
CLOSED = {"name": "closed", "default_out": "drop", "shared": True,
          "rules": [{"name": "arp", "ethertype": "arp"},
                    {"name": "in", "direction": "out", "ethertype": "ip", "src_set": "friends"}]}


def hosts(lab, names="ab"):
    """Hosts with a VM each on a bridge, and etcd. What `own` has of a host is added to its configuration: a has the set
    and the profile, which the last host's VM is given."""
    scene, fabric, etcd = Scene(lab, {"red": network()}), learning_switch(lab), Etcd(lab)
    plain, scene.own = scene.config, {name: {} for name in names}
    scene.own["a"] = {"sets": [FRIENDS], "profiles": [CLOSED]}
    scene.config = lambda host: {**plain(host), **scene.own[host]}
    for number, name in enumerate(names, 1):
        host = scene.host(name)
        plug_in(lab, fabric, host)
        etcd.connect(host, 10 + number)
        scene.vm(name, "red", number)
        start(host)
    scene.start()
    for name in names:
        lab.wait(lambda name=name: says(scene, name, "synced"), 60, f"{name} is not synced")
    for name in names[1:]:
        lab.wait(lambda name=name: has(scene, name, "profile", "closed"), 60, f"{name} does not know the profile")
    scene.vport_fields[f"red-{len(names)}"] = {"profile": "closed"}
    scene.apply(names[-1])
    return scene, etcd


def has(scene, host, kind, name):
    """What the host says of an object, or None."""
    done = scene.hosts[host].ctl("--json", kind, "get", name, check=False)
    return next(value for value in json.loads(done.stdout).values() if value) if done.returncode == 0 else None


def let_in(scene, host, *addresses):
    scene.own[host]["sets"] = [dict(FRIENDS, addresses=list(addresses))]
    scene.apply(host)


def hears(scene, count, one="red-1", other="red-2"):
    return scene.ping(one, other, count=1) == count


@case("a set and a profile of one host are used on another: a change of the set acts on traffic there, and both are "
      "read-only there [R53][R149]")
def _(bench):
    with bench.lab() as lab:
        scene, etcd = hosts(lab)
        told = has(scene, "b", "profile", "closed")
        check_equal((told["shared"], told["shared_by"], len(told["rules"])), (True, "a", 2), "the profile on b")
        check_equal(has(scene, "a", "profile", "closed")["shared_by"], "", "whose it is, on a")
        check("shared_by: a" in scene.hosts["b"].ctl("set", "get", "friends"), "b does not say whose the set is")
        check("friends" not in scene.hosts["b"].ctl("export"), "b exports what is a's")
        value = json.loads(etcd.keys()[SET])
        check_equal((value["host"], value["set"]["addresses"]), ("a", ["10.0.0.99"]), "what etcd holds")

        check_equal(scene.ping("red-1", "red-2"), 0, "answers to who is not in the set")
        let_in(scene, "a", "10.0.0.1")
        lab.wait(lambda: hears(scene, 1), 60, "the set's change on a does not act on b")
        let_in(scene, "a", "10.0.0.99")
        lab.wait(lambda: hears(scene, 0), 60, "the set's change back does not act on b")
        # So does a change of the profile's rules.
        scene.own["a"]["profiles"] = [dict(CLOSED, rules=CLOSED["rules"] + [{"name": "all", "direction": "out"}])]
        scene.apply("a")
        lab.wait(lambda: hears(scene, 1), 60, "the profile's change on a does not act on b")

        for words in (("set", "update", "friends", "--addresses", "10.0.0.0/8"), ("profile", "delete", "closed")):
            done = scene.hosts["b"].ctl(*words, check=False)
            check(done.returncode != 0 and "IVDS-M090" in done.stderr and "host a" in done.stderr,
                  f"{words}: exit {done.returncode}: {done.stderr}")
        # A fabric's file gives each host its own: there it is one or the other.
        done = scene.hosts["a"].ctl("fabric", "diff", "-f", "-", check=False, stdin=json.dumps({"sets": [FRIENDS]}))
        check(done.returncode != 0 and "IVDS-U040" in done.stderr and "shared by the registry" in done.stderr,
              f"exit {done.returncode}: {done.stderr}")
        # Nothing is written for a change that is none, and etcd holds one key for each.
        revision = etcd.revision()
        scene.apply("a")
        scene.apply("b")
        check_equal(etcd.revision(), revision, "etcd's revision")
        check_equal([key for key in etcd.keys() if "/sets/" in key or "/profiles/" in key], [PROFILE, SET], "keys")


@case("two hosts share one name: the first keeps it, the other is told, also when it comes out later, and has it once it is "
      "free [R53][R79]")
def _(bench):
    with bench.lab() as lab:
        scene, etcd = hosts(lab)
        scene.vport_fields["red-2"] = {}
        own = dict(scene.config("b"), sets=[dict(FRIENDS, addresses=["192.0.2.1"])])
        done = scene.hosts["b"].ctl("apply", "-f", "-", stdin=json.dumps(own), check=False)
        check(done.returncode != 0 and "IVDS-R017" in done.stderr and "host a" in done.stderr,
              f"exit {done.returncode}: {done.stderr}")
        # Its own, not shared, takes the place of a's.
        own["sets"][0]["shared"] = False
        scene.hosts["b"].apply(own)
        check_equal(has(scene, "b", "set", "friends")["shared_by"], "", "whose the set is")

        etcd.place.ip("link set mgmt-b down")
        lab.wait(lambda: findings(scene, "b", "IVDS-R001"), 60, "b does not say that etcd is away")
        late = {"name": "late", "addresses": ["192.0.2.1"], "shared": True}
        scene.own["a"]["sets"] = [FRIENDS, late]
        scene.apply("a")
        lab.wait(lambda: "/ivds/v1/sets/late" in etcd.keys(), 60, "a does not share its new set")
        own["sets"] = [dict(late, addresses=["192.0.2.2"])]
        scene.hosts["b"].apply(own)
        etcd.place.ip("link set mgmt-b up")
        lab.wait(lambda: findings(scene, "b", "IVDS-R017"), 60, "b does not say that a shares the set")
        check_equal(json.loads(etcd.keys()["/ivds/v1/sets/late"])["host"], "a", "who shares it")
        check_equal(has(scene, "b", "set", "late")["addresses"], ["192.0.2.2"], "b's own, on b")
        scene.own["a"]["sets"] = [FRIENDS]
        scene.apply("a")
        lab.wait(lambda: json.loads(etcd.keys().get("/ivds/v1/sets/late", "{}")).get("host") == "b", 60,
                 "b does not share what is free")
        lab.wait(lambda: not findings(scene, "b", "IVDS-R017"), 60, "b still tells of it")


@case("etcd away, a host that shares no more, an agent that starts again: what is in use stays in force, and doctor tells "
      "what is gone [R53][R82][R147]")
def _(bench):
    with bench.lab() as lab:
        scene, etcd = hosts(lab)
        let_in(scene, "a", "10.0.0.1")
        lab.wait(lambda: hears(scene, 1), 60, "the set's change on a does not act on b")
        etcd.stop()
        lab.wait(lambda: findings(scene, "b", "IVDS-R001"), 60, "b does not say that etcd is away")
        scene.hosts["b"].stop_agent(signal.SIGKILL)
        start(scene.hosts["b"])
        check_equal(has(scene, "b", "profile", "closed")["shared_by"], "a", "the profile after a restart without etcd")
        check_equal(scene.ping("red-1", "red-2"), 3, "answers without etcd")
        # A change meanwhile waits for etcd.
        let_in(scene, "a", "10.0.0.99")
        etcd.start()
        lab.wait(lambda: hears(scene, 0), 60, "the change of meanwhile does not act on b")

        # The owner refuses while itself uses it, and may take back what others use: those keep what they know.
        scene.vport_fields["red-1"] = {"profile": "closed"}
        scene.apply("a")
        done = scene.hosts["a"].ctl("profile", "delete", "closed", check=False)
        check(done.returncode != 0 and "IVDS-M007" in done.stderr, f"exit {done.returncode}: {done.stderr}")
        scene.vport_fields["red-1"], scene.own["a"] = {}, {}
        scene.apply("a")
        lab.wait(lambda: PROFILE not in etcd.keys() and SET not in etcd.keys(), 60, "the keys stay")
        lab.wait(lambda: len(findings(scene, "b", "IVDS-R019")) == 2, 60, "b does not tell that both are gone")
        check_equal(scene.ping("red-1", "red-2"), 0, "answers to who was not in the set")
        scene.apply("b")
        scene.vport_fields["red-2"] = {}
        scene.apply("b")
        lab.wait(lambda: not has(scene, "b", "profile", "closed") and not has(scene, "b", "set", "friends"), 60,
                 "b keeps what nothing names")
        check_equal(findings(scene, "b", "IVDS-R019"), [], "what b tells")
        check_equal(scene.ping("red-1", "red-2"), 3, "answers to a vPort without a profile")


@case("keys by strangers: malformed, huge, of a newer version, or of what cannot be here: told, what was known stays in "
      "force, and a controller's own set is taken [R53][R174]")
def _(bench):
    with bench.lab() as lab:
        scene, etcd = hosts(lab)
        let_in(scene, "a", "10.0.0.1")
        lab.wait(lambda: hears(scene, 1), 60, "the set's change on a does not act on b")
        # What takes the place of a good one is not understood; a rights it at once, so it stops first.
        scene.hosts["a"].stop_agent(signal.SIGKILL)
        for bad in ("{not json", json.dumps({"host": "a", "set": {"name": "friends", "colour": "red"}}), "x" * 1_200_000):
            etcd.ctl("put", SET, stdin=bad)
            lab.wait(lambda: findings(scene, "b", "IVDS-R004") and findings(scene, "b", "IVDS-R019"), 60,
                     f"b does not tell of {bad[:60]}")
            check_equal(scene.ping("red-1", "red-2"), 3, f"answers with {bad[:60]}")
        for key in ("sets/No", "pools/web", "pools/web/a/b", "profiles/"):
            etcd.ctl("put", f"/ivds/v1/{key}", "{}")
        lab.wait(lambda: says(scene, "b", "7 keys refused"), 60, f"b counts {findings(scene, 'b', 'IVDS-R007')}")
        # A profile that names what is not here is told, and is not in force; with the set it is.
        rules = [{"name": "r", "ethertype": "ip", "src_set": "partners"}]
        etcd.ctl("put", "/ivds/v1/profiles/guest", json.dumps({"host": "machine", "profile": {"name": "guest", "rules": rules}}))
        lab.wait(lambda: findings(scene, "b", "IVDS-R020"), 60, "b does not tell that the profile names what is not there")
        check(not has(scene, "b", "profile", "guest"), "b has a profile that names what is not there")
        etcd.ctl("put", "/ivds/v1/sets/partners", json.dumps({"host": "machine", "set": {"name": "partners", "addresses": ["192.0.2.9"]}}))
        lab.wait(lambda: has(scene, "b", "profile", "guest"), 60, "b does not have the controller's profile")
        check_equal(has(scene, "b", "set", "partners")["shared_by"], "machine", "whose set it is")
        start(scene.hosts["a"])
        lab.wait(lambda: findings(scene, "a", "IVDS-R017"), 60, "a does not tell what is in its key's place")
        etcd.ctl("del", SET)
        lab.wait(lambda: SET in etcd.keys(), 60, "a does not share its set again")
        lab.wait(lambda: not findings(scene, "b", "IVDS-R019"), 60, "b does not take it")


@case("a VM moves to a host that has the shared profile: it is not carried, and both hosts still have a's [R53][R83]")
def _(bench):
    with bench.lab() as lab:
        scene, _ = hosts(lab, "abc")
        export = scene.hosts["c"].ctl("migrate", "export", "red-3")
        vm = lab.vm(scene.hosts["b"], "moved", mac(3), address="10.0.0.3")
        scene.hosts["b"].ctl("migrate", "prepare", "-f", "-", "--netdev", vm.netdev, stdin=export)
        scene.hosts["b"].ctl("migrate", "commit", "red-3")
        told = has(scene, "b", "vport", "red-3")
        check_equal((told["profile"], has(scene, "b", "profile", "closed")["shared_by"]), ("closed", "a"), "the vPort on b")
        check_equal(scene.hosts["b"].ctl("export").count("closed"), 1, "what b has of its own: the vPort's word")
        scene.vms["red-3"] = vm
        check_equal(scene.ping("red-1", "red-3"), 0, "answers to who is not in the set")
        let_in(scene, "a", "10.0.0.1")
        lab.wait(lambda: hears(scene, 1, other="red-3"), 60, "a's change does not act on the vPort that moved")


@case("a pool has members on two hosts: a change on one is seen on the other, and a host that dies takes its members along "
      "[R52][R53]")
def _(bench):
    with bench.lab() as lab:
        scene, etcd = hosts(lab, "abc")

        def pool(host, *vports):
            scene.own[host] = {**scene.own[host], "vport_pools": [{"name": "web", "vports": list(vports), "shared": True}]}
            scene.apply(host)

        def members(host):
            told = has(scene, host, "vport-pool", "web")
            return {(each["host"], each["vport"]) for each in told["members"]} if told else None

        scene.vm("b", "red", 12)
        pool("a", "red-1")
        pool("b", "red-2")
        for name, seen in {"a": {("b", "red-2")}, "b": {("a", "red-1")}, "c": {("a", "red-1"), ("b", "red-2")}}.items():
            lab.wait(lambda name=name, seen=seen: members(name) == seen, 60, f"{name} sees {members(name)}")
        value = json.loads(etcd.keys()["/ivds/v1/pools/web/b"])
        check_equal((value["network"], value["vlan"], value["members"]), ("100.10", 100, [{"vport": "red-2", "vmac": mac(2)}]),
                    "what etcd holds of b's")
        pool("b", "red-2", "red-12")
        for name in "ac":
            lab.wait(lambda name=name: ("b", "red-12") in members(name), 60, f"{name} does not see b's change")
        # A rule on a spreads over a's own; members elsewhere are shown, and nothing is sent to them.
        scene.vm("a", "red", 11)
        scene.vport_fields["red-11"] = {"rules": [{"name": "spread", "direction": "in", "ethertype": "ip", "action": "redirect",
                                                   "to_pool": "web"}]}
        scene.apply("a")
        before = scene.counters("a", "red-1")["tx_packets"]
        scene.ping("red-11", "red-2", count=5)
        check(scene.counters("a", "red-1")["tx_packets"] >= before + 5, "a's member gets nothing")
        # Where no host's vPorts are here, what is redirected is dropped, and told.
        scene.vport_fields["red-3"] = scene.vport_fields["red-11"]
        scene.apply("c")
        lab.wait(lambda: findings(scene, "c", "IVDS-R022"), 60, "c does not tell that its rule leads nowhere")
        check_equal(scene.ping("red-3", "red-1"), 0, "answers to what is redirected to nobody")
        check(scene.dropped("c", "no_member") >= 3, f"drops on c: {scene.drops('c')}")

        scene.hosts["b"].stop_agent(signal.SIGKILL)
        scene.hosts["b"].ip("link set mgmt0 down")
        for name, seen in {"a": set(), "c": {("a", "red-1")}}.items():
            lab.wait(lambda name=name, seen=seen: members(name) == seen, 60, f"{name} still sees {members(name)}")
        # With the last host that has vPorts in it, its members go; the rule still leads to nobody.
        scene.vport_fields["red-11"] = {}
        scene.own["a"].pop("vport_pools")
        scene.apply("a")
        lab.wait(lambda: members("c") == set(), 60, f"c still sees {members('c')}")
        check_equal(scene.ping("red-3", "red-1"), 0, "answers to what is redirected to nobody")


main()
