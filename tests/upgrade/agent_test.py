# SPDX-License-Identifier: Apache-2.0
"""agent_test.py -- agents of two builds take over from each other under numbered frames, also when killed on the way."""
import pathlib
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "netns"))
from harness import case, check, check_equal, main  # noqa: E402  pylint: disable=wrong-import-position
from scene import EXPERIMENTAL, Scene, Stream, network  # noqa: E402  pylint: disable=wrong-import-position


def two_hosts(lab, attach):
    scene = Scene(lab, {"red": network()}, attach=attach)
    scene.two_hosts()
    for host, number in (("a", 1), ("a", 2), ("b", 3)):
        scene.vm(host, "red", number)
    scene.start()
    scene.check_pings()
    return scene


def programs(host):
    return host.ctl_json("status")["programs"]


for mode in ("auto", "native"):
    @case(f"agents of two builds take over from each other, attached by {mode}: no frame lost, none doubled [R4]")
    def _(bench, mode=mode):
        with bench.lab() as lab:
            scene = two_hosts(lab, mode)
            a = scene.hosts["a"]
            seen = [programs(a)]
            before = {port["name"]: port["got"] for port in scene.ports("a").values()}
            streams = [Stream(scene, "red-1", "red-2"), Stream(scene, "red-1", "red-3"), Stream(scene, "red-3", "red-1")]
            for round_number in range(10):
                a.stop_agent(signal.SIGKILL if round_number % 3 == 2 else signal.SIGTERM)
                a.start_agent(program="ivdsd" if round_number % 2 else "ivdsd-other")
                seen.append(programs(a))
            for stream in streams:
                stream.check_whole()
            check(seen[0] != seen[1], f"both agents have the same programs: {seen}")
            check_equal(seen, [seen[0], seen[1]] * 5 + [seen[0]], "programs in the hooks, by round")
            check_equal({port["name"]: port["got"] for port in scene.ports("a").values()}, before, "hooks")
            check(all(port["up"] for port in scene.ports("a").values()), "not every port is up")
            scene.check_pings()


@case("while agents of two builds take over from each other, a mirror copies every frame once, and the original is untouched [R4][R138]")
def _(bench):
    with bench.lab() as lab:
        scene = two_hosts(lab, "auto")
        scene.vm("a", "red", 4)
        config = scene.config
        scene.config = lambda host: {**config(host), "mirrors": [
            {"name": "m", "sources": [{"vport": "red-1", "direction": "in"}], "to_vport": "red-4",
             "filter": [{"ethertype": f"{EXPERIMENTAL:#x}"}]}]} if host == "a" else config(host)
        scene.start()
        a = scene.hosts["a"]
        seen = [programs(a)]
        with scene.vms["red-4"].port("eth0") as probe:
            stream, copies = Stream(scene, "red-1", "red-2", per_second=500), []
            for round_number in range(4):
                a.stop_agent(signal.SIGKILL if round_number % 2 else signal.SIGTERM)
                a.start_agent(program="ivdsd" if round_number % 2 else "ivdsd-other")
                seen.append(programs(a))
                copies += probe.receive()
            stream.check_whole()
            copies = [data for data in copies + probe.receive_until(lambda more: False, 0.5) if stream.label in data]
        check(seen[0] != seen[1], f"both agents have the same programs: {seen}")
        numbers = [int(data[data.find(stream.label) + len(stream.label):].split(b" ")[0]) for data in copies]
        check_equal(sorted(numbers), list(range(stream.sent)), "numbers of the copies")
        state = a.ctl_json("mirror", "state")["mirrors"][0]
        check_equal((int(state["packets"]), int(state.get("refused", 0))), (stream.sent, 0), "counters")


@case("an agent killed in the middle of an upgrade leaves a switch that forwards, and the next one finishes it [R4]")
def _(bench):
    with bench.lab() as lab:
        scene = two_hosts(lab, "auto")
        a = scene.hosts["a"]
        old = programs(a)
        streams = [Stream(scene, "red-1", "red-2"), Stream(scene, "red-1", "red-3")]
        a.stop_agent()
        for delay_ms in range(0, 240, 15):
            half = a.start("ivdsd-other", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            time.sleep(delay_ms / 1000)
            half.kill()
            half.wait()
        a.start_agent(program="ivdsd-other")
        for stream in streams:
            stream.check_whole()
        check(programs(a) != old, "the programs are still the old ones")
        check(all(port["up"] for port in scene.ports("a").values()), "not every port is up")
        pinned = a.run("ls", "/sys/fs/bpf/ivds/v1/progs").stdout.split()
        check_equal(len(pinned), 1, f"sets of pinned programs: {pinned}")
        scene.check_pings()


main()
