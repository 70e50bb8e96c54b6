# SPDX-License-Identifier: Apache-2.0
"""life_test.py -- what forwarding survives: the agent killed, stopped, started again; interfaces that vanish and return;
ports that come and go by the thousand; a boot with no agent at all."""
import json
import os
import signal
import time

from harness import case, check, check_equal, main
from scene import Scene, Stream, Tally, mac, network


def two_hosts(lab, attach="auto"):
    scene = Scene(lab, {"red": network(), "blue": network(vvlan=20)}, attach=attach)
    scene.two_hosts()
    for name in ("red", "blue"):
        scene.vm("a", name, 1)
        scene.vm("a", name, 2)
        scene.vm("b", name, 3)
    scene.start()
    scene.check_pings()
    return scene


def links(host):
    """What is in the hooks of the host's interfaces: the same programs by the same links, or it flapped."""
    found = json.loads(host.run("bpftool", "-j", "net", "show").stdout)[0]
    return sorted((hook["devname"], hook.get("kind", hook.get("mode")), hook.get("prog_id", hook.get("id")),
                   hook.get("link_id")) for kind in ("xdp", "tc") for hook in found.get(kind, []))


def totals(scene, host):
    """Every counter there is, flat."""
    stats = scene.hosts[host].ctl_json("stats")
    flat = {}
    for port in stats.get("ports", []):
        for key, value in port.get("counters", {}).items():
            flat[port["name"], key] = int(value)
    for drop in stats.get("drops", []):
        flat[drop["port"], drop["reason"]] = int(drop["packets"])
    return flat


@case("kill -9 of the agents under numbered frames: none lost; the next start adopts all with no flap [R4][R83]")
def _(bench):
    for attach in ("auto", "native"):
        with bench.lab() as lab:
            scene = two_hosts(lab, attach)
            before = {name: (links(host), totals(scene, name)) for name, host in scene.hosts.items()}
            check(all(ids for ids, _ in before.values()), "no BPF links found")
            streams = [Stream(scene, "red-1", "red-2"), Stream(scene, "red-1", "red-3"), Stream(scene, "blue-3", "blue-1")]
            for _ in range(3):
                time.sleep(0.2)
                for host in scene.hosts.values():
                    host.stop_agent(signal.SIGKILL)
                time.sleep(0.2)
                for host in scene.hosts.values():
                    host.start_agent()
            time.sleep(0.2)
            for stream in streams:
                stream.check_whole()
            for name, host in scene.hosts.items():
                check_equal(links(host), before[name][0], f"{name}: links and programs")
                after = totals(scene, name)
                fell = {key: (value, after.get(key, 0)) for key, value in before[name][1].items()
                        if after.get(key, 0) < value}
                check_equal(fell, {}, f"{name}: counters that fell")
                check_equal(json.loads(host.ctl("--json", "apply", "--dry-run", "-f", "-",
                                                stdin=json.dumps(scene.config(name)))).get("changes", []), [],
                            f"{name}: what apply would change after the restart")


@case("with every process of ours stopped, forwarding goes on, learning and flooding too [R178]")
def _(bench):
    with bench.lab() as lab:
        scene = two_hosts(lab)
        for host in scene.hosts.values():
            host.agent.send_signal(signal.SIGSTOP)
            lab.wait(lambda host=host: "T (stopped)" in open(f"/proc/{host.agent.pid}/status", encoding="ascii").read(), 5,
                     "not stopped")
        stream = Stream(scene, "red-1", "red-3")
        scene.check_pings()
        # A VM that no neighbour table knows yet, so that ARP floods.
        for vm in scene.vms.values():
            vm.run("ip", "neigh", "flush", "all")
        scene.check_pings()
        stream.check_whole()
        for host in scene.hosts.values():
            host.agent.send_signal(signal.SIGCONT)


@case("a vPort whose interface vanishes is withdrawn within a second, with its FDB and an event, and returns by itself [R50]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        scene.profiles = [{"name": "open", "allow_spoof": True, "fdb_limit": 64}]
        a, _ = scene.host_on_wire()
        scene.vm("a", "red", 1)
        vm = scene.vm("a", "red", 2, profile="open")
        scene.start()
        scene.check_pings()
        times = []
        for _ in range(5):
            with vm.port("eth0") as port:
                for number in range(100, 110):
                    port.send(b"\xff" * 6 + bytes.fromhex(mac(number).replace(":", "")) + b"\x88\xb5" + b"." * 46)
            lab.wait(lambda: int(scene.ports("a")["red-2"].get("learned", 0)) >= 10, 5, "nothing was learned")
            lab.unplug(a, vm)
            started = time.monotonic()
            lab.wait(lambda: not scene.ports("a")["red-2"].get("up"), 10, "red-2 is still up")
            gone = time.monotonic() - started
            check_equal(int(scene.ports("a")["red-2"].get("learned", 0)), 0, "learned MACs of a port that is away")
            lab.plug(a, vm)
            started = time.monotonic()
            lab.wait(lambda: scene.ports("a")["red-2"].get("up"), 10, "red-2 did not return")
            times.append((gone, time.monotonic() - started))
            scene.check_pings()
        print("withdrawn and back after, in s: " + ", ".join(f"{gone:.2f} {back:.2f}" for gone, back in times))
        # On a busy machine one may be late, but not the best of five.
        check(min(gone for gone, _ in times) < 1.0, f"never within a second: {times}")
        kinds = [json.loads(line)["kind"] for line in a.ctl("--json", "events").splitlines()
                 if json.loads(line).get("port") == "red-2"]
        check(kinds.count("port_down") >= 5 and kinds.count("port_up") >= 5, f"events of red-2: {kinds}")


@case("a thousand vPorts created and deleted leave nothing behind and disturb nobody [R57]")
def _(bench):
    with bench.lab() as lab:
        scene = two_hosts(lab)
        a = scene.hosts["a"]
        crowd = lab.place("crowd")
        names = [f"extra-{number}" for number in range(50)]
        a.ip(*(f"link add {name} type veth peer name {name} netns {crowd.pid}" for name in names),
             *(f"link set {name} up" for name in names))
        crowd.ip(*(f"link set {name} up" for name in names))
        small = scene.config("a")
        large = scene.config("a")
        for number, name in enumerate(names):
            large["vnics"].append({"name": f"{name}-nic", "vmac": mac(1000 + number)})
            large["vports"].append({"name": name, "instance": "red", "netdev": name, "vnic": f"{name}-nic"})
        before = (links(a), a.ctl("--json", "export"), sorted(scene.ports("a")))
        files = len(os.listdir(f"/proc/{a.agent.pid}/fd"))
        streams = [Stream(scene, "red-1", "red-2", 500), Stream(scene, "red-1", "red-3", 500)]
        for _ in range(20):
            a.apply(large)
            check_equal(len(scene.ports("a")), len(before[2]) + len(names), "ports")
            a.apply(small)
        for stream in streams:
            stream.check_whole()
        check_equal((links(a), a.ctl("--json", "export"), sorted(scene.ports("a"))), before,
                    "hooks, configuration and ports")
        check(len(os.listdir(f"/proc/{a.agent.pid}/fd")) <= files + 4, "the agent's open files grew")
        pins = a.run("find", "/sys/fs/bpf/ivds", "-name", "*extra*").stdout
        check_equal(pins, "", "pins left behind")
        scene.check_pings()


@case("ivds-loader brings the saved state up at boot with no agent, again and again")
def _(bench):
    with bench.lab() as lab:
        scene = two_hosts(lab)
        for name, host in scene.hosts.items():
            host.stop_agent()
            # A boot: pins and hooks are gone, the saved state is there.
            host.run("umount", "/sys/fs/bpf")
            host.run("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")
            lab.wait(lambda host=host: not links(host), 10, f"{name}: links outlive their pins")
        check_equal(scene.ping("red-1", "red-2"), 0, "answers with nothing attached")
        for host in scene.hosts.values():
            netdevs = [vm.netdev for vm in scene.vms.values() if scene.hosts[scene.host_of[vm.name]] is host]
            for netdev in ("wire0", *netdevs):
                host.run("ivds-loader", netdev)
        scene.check_pings()
        tally = Tally(scene)
        tally.send("red-1", b"\xff" * 6)
        tally.settle(2)
        tally.close()
        check_equal(tally.got, {("red-1", "red-2"): 1, ("red-1", "red-3"): 1}, "who got the broadcast of red-1")
        before = {name: links(host) for name, host in scene.hosts.items()}
        stream = Stream(scene, "red-1", "red-3")
        for host in scene.hosts.values():
            host.run("ivds-loader", "wire0")
        stream.check_whole()
        check_equal({name: links(host) for name, host in scene.hosts.items()}, before, "links after running it twice")
        for host in scene.hosts.values():
            host.start_agent()
        check_equal({name: links(host) for name, host in scene.hosts.items()}, before, "links after the agent came")
        scene.check_pings()


main()
