# SPDX-License-Identifier: Apache-2.0
"""coexist_test.py -- the switch shares XDP hooks with a program of somebody else, through libxdp's dispatcher.

Needs a kernel that lets BPF programs be replaced (freplace).
"""
import json
import os
import pathlib
import signal
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "netns"))
from harness import Skip, case, check, check_equal, main  # noqa: E402  pylint: disable=wrong-import-position
from foreign import Counter, our_dispatcher  # noqa: E402  pylint: disable=wrong-import-position
from scene import BROADCAST, Scene, Stream, frame, mac, network  # noqa: E402  pylint: disable=wrong-import-position

SHARED = {"native": "native-libxdp+tcx", "generic": "generic-libxdp+tcx"}


def got(scene, host="a"):
    return {name: port["got"] for name, port in scene.ports(host).items()}


def all_shared(scene, mode="native"):
    check_equal(got(scene), {name: SHARED[mode] for name in got(scene)},
                "hooks, of " + str({name: port.get("reason") for name, port in scene.ports("a").items()}))


def components(host, netdev, halfway=False):
    """Names and ids of the programs in the dispatcher on an interface, in the order in which they run. `halfway`: pins
    of a dispatcher that is not on the interface may be there too."""
    link = json.loads(host.run("ip", "-j", "-d", "link", "show", netdev).stdout)[0]
    on_hook = link["xdp"]["prog"]["id"]
    folders = host.run("ls", "/sys/fs/bpf/xdp").stdout.split()
    mine = [folder for folder in folders if folder.startswith(f"dispatch-{link['ifindex']}-")]
    folder = f"dispatch-{link['ifindex']}-{on_hook}"
    check(folder in mine and (halfway or len(mine) == 1), f"dispatchers of {netdev}: {mine}, on the hook {on_hook}")
    found = []
    for number in range(10):
        pin = f"/sys/fs/bpf/xdp/{folder}/prog{number}-prog"
        done = host.run("bpftool", "-j", "prog", "show", "pinned", pin, check=False)
        if done.returncode == 0:
            found.append(json.loads(done.stdout))
    return [(program["name"], program["id"]) for program in found]


def program_fds(process):
    folder = f"/proc/{process.pid}/fd"
    return sum(os.readlink(f"{folder}/{fd}") == "anon_inode:bpf-prog" for fd in os.listdir(folder))


def scene_of(lab, mode="native", foreign=("wire0", "red-1"), **fields):
    """Two hosts; on the first, agents that share, beside a counter on the interfaces in `foreign`."""
    scene = Scene(lab, {"red": network()}, attach=mode, **fields)
    a, b = scene.two_hosts()
    for host, number in (("a", 1), ("a", 2), ("b", 3)):
        scene.vm(host, "red", number)
    counters = {netdev: Counter(a, netdev, mode) for netdev in foreign}
    a.start_agent("--xdp-coexist")
    b.start_agent()
    scene.start()
    if any(port["got"] == "none" and "IVDS-P020" in port.get("reason", "") for port in scene.ports("a").values()):
        raise Skip("this kernel cannot share XDP hooks")
    return scene, a, counters


for attach in ("native", "generic"):
    @case(f"{attach} XDP beside a program of somebody else: it counts before, while and after, through restarts and "
          "upgrades without a frame lost or doubled [R4]")
    def _(bench, mode=attach):
        with bench.lab() as lab:
            scene, a, counters = scene_of(lab, mode)
            all_shared(scene, mode)
            check_equal([name for name, _ in components(a, "red-1")], ["xdp_count", "ivds_xdp"], "order on red-1")
            check_equal([name for name, _ in components(a, "red-2")], ["ivds_xdp"], "alone in its dispatcher on red-2")
            scene.check_pings()

            ours = components(a, "red-1")
            a.stop_agent(signal.SIGKILL)
            a.start_agent("--xdp-coexist")
            all_shared(scene, mode)
            check_equal(components(a, "red-1"), ours, "programs on red-1 after an agent took over from one killed")

            with counters["red-1"].counts(200, "under upgrades"), counters["wire0"].counts(200, "under upgrades"):
                streams = [Stream(scene, *pair, per_second=200)
                           for pair in (("red-1", "red-2"), ("red-1", "red-3"), ("red-3", "red-1"))]
                for round_number in range(2):
                    a.stop_agent(signal.SIGKILL if round_number % 2 else signal.SIGTERM)
                    a.start_agent("--xdp-coexist", program="ivdsd" if round_number % 2 else "ivdsd-other")
                    now = components(a, "red-1")
                    check_equal([name for name, _ in now], ["xdp_count", "ivds_xdp"], "programs after an upgrade")
                    check_equal(now[0], ours[0], "the other program is still the same")
                    check(now[1] not in ours, "ours was not exchanged")
                    ours = now
                for stream in streams:
                    stream.check_whole()
            all_shared(scene, mode)
            scene.check_pings()
            # Its own: XDP, TC, mirror and sweep. What libxdp leaves open would show as one more for each that it has
            # looked at.
            check(program_fds(a.agent) <= 4, f"the agent holds {program_fds(a.agent)} programs open")

            a.stop_agent()
            a.run("ivds-loader", "down", "--detach")
            check_equal([name for name, _ in components(a, "wire0")], ["xdp_count"], "left on the uplink")
            # Unicast: what TC redirects, as it does with a broadcast, generic XDP of the kernel does not look at.
            with counters["wire0"].counts(50, "after ours is detached"), scene.vms["red-3"].port("eth0") as out:
                for number in range(50):
                    out.send(frame(mac(1), mac(3), f"{number}"))
            left = a.run("ip", "-o", "link", "show", "red-2").stdout
            check("xdp" not in left, f"something is left on red-2: {left}")

            check_equal(a.run("ivds-loader", "up", "--xdp-coexist").stdout.count(SHARED[mode]), 3, "brought up at boot")
            scene.check_pings()
            a.start_agent("--xdp-coexist")
            all_shared(scene, mode)
            with counters["red-1"].counts(2, "after boot"):
                scene.check_pings()


@case("an agent killed while two builds of ours are in a dispatcher leaves a switch that forwards, and the next one "
      "takes the other one out [R4]")
def _(bench):
    with bench.lab() as lab:
        scene, a, _ = scene_of(lab)
        pins = a.path("/sys/fs/bpf/xdp")
        before = {netdev: components(a, netdev) for netdev in ("wire0", "red-1", "red-2")}

        def has_three():
            # Only the one with the foreign program can have a third: the foreign one, the old build and the new.
            return any((pins / folder / "prog2-link").exists() for folder in os.listdir(pins))

        stream = Stream(scene, "red-1", "red-2", per_second=200)
        a.stop_agent()
        half = a.start("ivdsd-other", "--xdp-coexist", stdout=-3, stderr=-3)
        lab.wait(has_three, 30, "no dispatcher ever had both builds")
        half.kill()
        half.wait()
        now = [name for netdev in ("wire0", "red-1") for name, _ in components(a, netdev, halfway=True)]
        print(f"left in the dispatchers: {now}")
        check(now.count("ivds_xdp") > 2, f"the agent was killed too late, there is {now}")
        scene.check_pings()
        a.start_agent("--xdp-coexist")
        for netdev, programs in before.items():
            check_equal(components(a, netdev), programs, f"programs on {netdev} under the old build's agent")
        a.stop_agent()
        a.start_agent("--xdp-coexist", program="ivdsd-other")
        for netdev, programs in before.items():
            now = components(a, netdev)
            check_equal([name for name, _ in now], [name for name, _ in programs], f"programs on {netdev}")
            check(now[-1] != programs[-1], f"the program on {netdev} is still the old one")
        stream.check_whole()
        all_shared(scene)
        scene.check_pings()


@case("a program that is alone on the hook is refused and left alone; TC runs beside it")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()}, attach="native")
        a = scene.host("a")
        scene.vm("a", "red", 1)
        scene.vm("a", "red", 2)
        other = Counter(a, "red-1", LIBXDP_SKIP_DISPATCHER="1")
        a.start_agent("--xdp-coexist")
        config = {**scene.config("a"), "uplinks": []}
        for instance in config["instances"]:
            del instance["uplink"]
            instance["scope"] = "local"
        a.run("ivds-ctl", "apply", "-f", "-", stdin=json.dumps(config), check=False)
        port = scene.ports("a").get("red-1")
        if port is not None:
            check_equal(port["got"], "none", "hooks of red-1")
            check("IVDS-P012" in port["reason"], f"the reason is {port['reason']}")
        for vport in config["vports"]:
            vport["attach"] = "auto"
        a.apply(config)
        check_equal(got(scene), {"red-1": "tcx", "red-2": "tcx"}, "hooks")
        with other.counts(2, "beside TC"):
            scene.check_pings()


@case("a program that comes after ours sees what we pass on and nothing else, and goes without harm")
def _(bench):
    with bench.lab() as lab:
        scene, a, _ = scene_of(lab, "native", foreign=())
        all_shared(scene)
        ours = components(a, "red-1")
        # The stock dispatcher of libxdp 1.3 cannot take ours over where the kernel minds; then nothing may change.
        stock = a.run("xdp-count", "attach", "red-1", "native", "90", check=False)
        print(f"with libxdp's own dispatcher: exit {stock.returncode} {stock.stderr.strip()[-200:]}")
        if stock.returncode == 0:
            a.run("xdp-count", "detach", "red-1", stock.stdout.strip())
        check_equal(components(a, "red-1"), ours, "programs on red-1")
        scene.check_pings()

        late = Counter(a, "red-1", priority=90, **our_dispatcher(bench))
        check_equal([name for name, _ in components(a, "red-1")], ["ivds_xdp", "xdp_count"], "order on red-1")
        stream = Stream(scene, "red-1", "red-2", per_second=300)
        lab.wait(lambda: stream.sent > 200, 20, "the stream does not run")
        stream.check_whole()
        seen = late.read()
        check(seen < 50, f"a program after ours saw {seen} frames, of which nearly all were redirected")
        with late.counts(50, "broadcasts, which go on to TC"), scene.vms["red-1"].port("eth0") as out:
            for number in range(50):
                out.send(frame(BROADCAST, mac(1), f"{number}"))
        late.detach()
        check_equal(components(a, "red-1"), ours, "programs on red-1 once the other is gone")
        scene.check_pings()


@case("an interface that goes and returns shares its hook again, and leaves no pins of the one that went")
def _(bench):
    with bench.lab() as lab:
        scene, a, _ = scene_of(lab, "native")
        before = a.run("ls", "/sys/fs/bpf/xdp").stdout.split()
        lab.unplug(a, scene.vms["red-1"])
        lab.wait(lambda: got(scene)["red-1"] == "none", 10, "red-1 is still there")
        lab.wait(lambda: len(a.run("ls", "/sys/fs/bpf/xdp").stdout.split()) == len(before) - 1, 10, "pins are left")
        lab.plug(a, scene.vms["red-1"])
        lab.wait(lambda: scene.ports("a")["red-1"].get("up"), 10, "red-1 does not come back")
        all_shared(scene)
        scene.check_pings()


@case("a dispatcher that is full is a reason, and leaves the port as it was")
def _(bench):
    with bench.lab() as lab:
        scene, a, _ = scene_of(lab, "native", foreign=())
        lab.unplug(a, scene.vms["red-2"])
        lab.wait(lambda: got(scene)["red-2"] == "none", 10, "red-2 is still there")
        a.stop_agent()
        lab.plug(a, scene.vms["red-2"])
        counters = [Counter(a, "red-2") for _ in range(10)]
        a.start_agent("--xdp-coexist")
        port = scene.ports("a")["red-2"]
        check_equal(port["got"], "none", "hooks of red-2")
        check("ten programs" in port["reason"], f"the reason is {port['reason']}")
        check_equal(len(components(a, "red-2")), 10, "programs on red-2")
        check_equal(got(scene)["red-1"], SHARED["native"], "hooks of red-1")
        counters[0].detach()


@case("frames over several buffers pass a dispatcher whose programs all take them")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network(mtu_bytes=8900)}, attach="native", wire_mtu=9000)
        a, b = scene.two_hosts()
        scene.vm("a", "red", 1, mtu=8900)
        scene.vm("b", "red", 3, mtu=8900)
        counter = Counter(a, "wire0")
        a.start_agent("--xdp-coexist")
        b.start_agent("--xdp-coexist")
        scene.start()
        all_shared(scene)
        with counter.counts(3, "large pings"):
            check_equal(scene.ping("red-1", "red-3", "-s", "8800", "-M", "do"), 3, "large pings that were answered")


main()
