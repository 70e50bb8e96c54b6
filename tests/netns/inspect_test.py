# SPDX-License-Identifier: Apache-2.0
"""inspect_test.py -- inspectors beside the switch: the samples in C and Python block a flow by a pattern, and an inspector
that dies, hangs, is too slow or loses its interface costs what its setting says and no more."""
import os
import pathlib
import signal
import struct
import sys
import time

from harness import case, check, check_equal, main
from scene import BROADCAST, MARK, Scene, frame, mac, network

TOP = pathlib.Path(__file__).resolve().parents[2]
BLOCK, HELLO = 1, 2
SHORT_MS, LONG_MS = 1500, 60000  # a machine under load may let an inspector wait for a CPU: the long one forgives that


class Inspected:
    """Three VMs of `red` on host a, one on b, and an inspector of red-1 whose end is in a place of its own."""

    def __init__(self, bench, lab, mode="auto", fail="closed", queue=0, timeout_ms=LONG_MS, whole=False):
        self.bench, self.lab = bench, lab
        self.scene = Scene(lab, {"red": network()}, attach=mode)
        self.a, self.b = self.scene.two_hosts()
        for number, host in ((1, "a"), (2, "a"), (3, "a"), (4, "b")):
            self.scene.vm(host, "red", number, mtu=1500)
        self.place = lab.place("inspector")
        self.plug()
        self.inspector = {"name": "ips", "netdev": "ips0", "fail": fail, "timeout_ms": timeout_ms, "queue": queue}
        self.whole = whole
        for host in (self.a, self.b):
            host.start_agent()
        self.apply()
        self.scene.apply("b")
        lab.wait(lambda: self.state()["up"] and all(port.get("up") for port in self.scene.ports("a").values()), 40,
                 "not every port is up")

    def plug(self):
        self.a.ip(f"link add ips0 mtu 9216 type veth peer name ips1 mtu 9216 netns {self.place.pid}")
        self.place.ip("link set ips1 up")

    def config(self, **fields):
        config = self.scene.config("a")
        config["inspectors"] = [{**self.inspector, **fields}]
        if self.whole:
            for instance in config["instances"]:
                instance["inspector"] = "ips"
        else:
            for vport in config["vports"]:
                if vport["name"] == "red-1":
                    vport["inspector"] = "ips"
        return config

    def apply(self, **fields):
        self.a.apply(self.config(**fields))

    def state(self):
        state = self.a.ctl_json("inspector", "state", "ips")["inspectors"][0]
        numbers = ("sent", "passed", "blocked", "unanswered", "uninspected", "refused")
        return {"up": state.get("up", False), "listening": state.get("listening", False),
                **{key: int(state.get(key, 0)) for key in numbers}}

    def sample(self, language, pattern):
        """Starts a sample and waits until it is heard."""
        program = ([self.bench.binaries / "inspect_pattern"] if language == "C" else
                   [sys.executable, TOP / "scripts/examples/inspect_pattern.py"])
        process = self.place.start(*program, "ips1", pattern)
        self.lab.wait(lambda: self.state()["listening"], 15, f"the sample in {language} is not heard")
        return process

    def pings(self, count=2):
        return self.scene.ping("red-1", "red-2", count=count)

    def check_reached(self, when):
        """A VM whose first pings time out under load is given more of them."""
        self.lab.wait(lambda: self.pings() > 0, 30, f"no answer {when}")


def hello(port):
    port.send(bytes(12) + struct.pack("!HHBBH", 0x88B5, 0, 0, HELLO, 0))


def deaf(inspected):
    """Waits until the switch takes the inspector for silent."""
    inspected.lab.wait(lambda: not inspected.state()["listening"], 15, "an inspector that is silent counts as listening")


for language in ("C", "Python"):
    @case(f"the sample inspector in {language} blocks the flow that its pattern is seen in, and no other [R169][R170]")
    def _(bench, language=language):
        with bench.lab() as lab:
            i = Inspected(bench, lab)
            i.sample(language, "attack at dawn")
            check_equal([i.pings(), i.scene.ping("red-1", "red-4", count=2)], [2, 2], "pings through the inspector")
            i.scene.transfer("red-1", "red-2", 4)
            i.scene.transfer("red-2", "red-1", 4)
            i.scene.transfer("red-4", "red-1", 2)
            server = ("import socket,sys\n"
                      "s=socket.create_server(('10.0.0.2', int(sys.argv[1])))\nprint('ready', flush=True)\n"
                      "c=s.accept()[0]\n"
                      "while True:\n d=c.recv(4096)\n if not d: break\n c.sendall(d)\n")
            client = ("import socket,sys\n"
                      "c=socket.create_connection(('10.0.0.2', int(sys.argv[1])), 5)\nc.settimeout(2)\n"
                      "for word in sys.argv[2:]:\n"
                      " c.sendall(word.encode())\n"
                      " try: print(c.recv(4096).decode(), flush=True)\n"
                      " except TimeoutError: print('silence', flush=True)\n")
            for port in (8001, 8002):
                served = i.scene.vms["red-2"].start(sys.executable, "-c", server, port, stdout=-1)
                check_equal(served.stdout.readline().strip(), "ready", "the server")
            said = i.scene.vms["red-1"].run(sys.executable, "-c", client, 8001, "hello", "xx attack at dawn xx", "anyone")
            check_equal(said.stdout.split("\n")[:3], ["hello", "silence", "silence"], "the answers in the flow that is blocked")
            said = i.scene.vms["red-1"].run(sys.executable, "-c", client, 8002, "hello", "again")
            check_equal(said.stdout.split(), ["hello", "again"], "the answers in another flow")
            state = i.state()
            check(state["blocked"] >= 3 and state["passed"] > 100, f"counters: {state}")
            check_equal((state["refused"], state["uninspected"]), (0, 0), "frames without the inspector")
            check_equal(i.scene.drops("a").get(("red-1", "blocked"), 0), state["blocked"], "drops for it")
            # Who is not inspected was never in its way.
            check_equal(i.scene.ping("red-2", "red-3", count=2), 2, "pings beside it")


@case("an inspector that reads and writes by AF_XDP lets frames pass [R169]")
def _(bench):
    with bench.lab() as lab:
        i = Inspected(bench, lab)
        # Native XDP takes frames of a page.
        i.a.run("ip", "link", "set", "ips0", "mtu", "2000")
        i.place.run("ip", "link", "set", "ips1", "mtu", "2000")
        i.place.start(bench.binaries.resolve() / "xsk-end", "ips1", "inspect", stderr=-3)
        lab.wait(lambda: i.state()["listening"], 15, "it is not heard")
        before = i.state()
        check_equal([i.pings(), i.scene.ping("red-1", "red-4", count=2)], [2, 2], "pings through AF_XDP")
        i.scene.transfer("red-1", "red-2", 2)
        i.scene.transfer("red-4", "red-1", 2)
        after = i.state()
        check(after["passed"] - before["passed"] > 1000, f"frames that passed it: {after}")
        check_equal((after["refused"], after["uninspected"]), (0, 0), "frames without the inspector")


for mode in ("auto", "native"):
    @case(f"an inspector sees a vPort's frames as a wire would carry them, once, and no others, by {mode} [R169]")
    def _(bench, mode=mode):
        with bench.lab() as lab:
            i = Inspected(bench, lab, mode)
            ports, end = i.scene.raw_ports(), i.place.port("ips1")
            ids = {port["name"]: port["id"] for port in i.scene.ports("a").values()}
            text = [MARK + f"frame {n} ".encode() for n in range(4)]
            sent = {"out": frame(mac(2), mac(1), text[0]), "in": frame(mac(1), mac(2), text[1]),
                    "flood": frame(BROADCAST, mac(3), text[2]), "beside": frame(mac(3), mac(2), text[3])}
            hello(end)
            lab.wait(lambda: i.state()["listening"], 10, "a hello is not heard")
            for sender, name in (("red-1", "out"), ("red-2", "in"), ("red-3", "flood"), ("red-2", "beside")):
                ports[sender].send(sent[name])
                time.sleep(0.05)  # so that they come in this order
            got = [data for data in end.receive_until(lambda all_: sum(MARK in data for data in all_) >= 3) if MARK in data]
            ways = {"out": 0, "in": 1, "flood": 1}
            wanted = [sent[name][:12] + struct.pack("!HHBBH", 0x88B5, ids["red-1"], way, 0, n + 1) + sent[name][12:]
                      for n, (name, way) in enumerate(ways.items())]
            check_equal(got, wanted, "what the inspector sees")
            check(not any(text[0] in data for data in ports["red-2"].receive()), "a frame was there before its verdict")
            # It says yes to one, no to one, and forges one of a vPort that is none of its own.
            forged = got[0][:14] + struct.pack("!H", ids["red-2"]) + got[0][16:]
            for answer in (got[0], got[2][:17] + bytes([BLOCK]) + got[2][18:20], forged, forged[:16] + b"\\x01" + forged[17:]):
                end.send(answer)
            seen = ports["red-2"].receive_until(lambda all_: any(text[0] in data for data in all_))
            time.sleep(0.2)
            seen += ports["red-2"].receive()
            check_equal([data for data in seen if text[0] in data], [sent["out"]], "what goes on")
            check(not any(MARK in data for data in ports["red-1"].receive()), "a frame passed without a verdict")
            drops = i.scene.drops("a")
            check_equal((drops.get(("ips", "forged")), drops.get(("red-1", "blocked"))), (2, 1), "drops")


for fail in ("open", "closed"):
    @case(f"an inspector that hangs or dies costs its timeout where it fails {fail}, and is back when it is heard [R169][R171]")
    def _(bench, fail=fail):
        with bench.lab() as lab:
            i = Inspected(bench, lab, fail=fail, timeout_ms=SHORT_MS)
            what = "refused" if fail == "closed" else "uninspected"

            def check_without(when):
                if fail == "open":
                    return i.check_reached(when)
                return check_equal(i.pings(), 0, f"pings {when}")

            check_without("before it is there")
            check(i.state()[what] > 0, f"none is {what}: {i.state()}")
            sample = i.sample("Python", "attack at dawn")
            i.check_reached("through it")

            os.kill(sample.pid, signal.SIGSTOP)
            deaf(i)
            before = i.state()[what]
            check_without("while it hangs")
            check(i.state()[what] > before, f"none is {what}: {i.state()}")
            lab.wait(lambda: i.scene.ping("red-2", "red-3") > 0, 30, "no answer beside it")
            os.kill(sample.pid, signal.SIGCONT)
            lab.wait(lambda: i.state()["listening"], 15, "it is not heard after it hung")
            i.check_reached("when it goes on")

            sample.kill()
            sample.wait()
            deaf(i)
            check_without("when it is dead")
            i.sample("C", "attack at dawn")
            i.check_reached("through another")

            # Its interface goes, with the agent or without it, and comes back.
            i.place.ip("link del ips1")
            lab.wait(lambda: not i.state()["up"], 15, "an interface that is away is up")
            check_without("without the interface")
            i.plug()
            lab.wait(lambda: i.state()["up"], 15, "the interface is not taken when it is back")
            i.sample("C", "attack at dawn")
            i.check_reached("when it is back")
            i.a.stop_agent(signal.SIGKILL)
            i.check_reached("through it without the agent")
            i.place.ip("link del ips1")
            check_without("without the interface and the agent")


@case("an inspector that does not answer is sent no more than its queue in a timeout, and fails open beyond it [R169]")
def _(bench):
    with bench.lab() as lab:
        i = Inspected(bench, lab, fail="open", queue=8)
        end, out, into = i.place.port("ips1"), i.scene.vms["red-1"].port("eth0"), i.scene.vms["red-2"].port("eth0")
        hello(end)
        lab.wait(lambda: i.state()["listening"], 10, "a hello is not heard")
        for number in range(40):
            out.send(frame(mac(2), mac(1), MARK + b"%d " % number))
        got = [data for data in into.receive_until(lambda all_: sum(MARK in data for data in all_) >= 32) if MARK in data]
        held = [data for data in end.receive() if MARK in data]
        check_equal((len(held), len(got)), (8, 32), "frames with the inspector, and past it")
        check(not i.state()["listening"], "it listens with a full queue")
        end.send(held[-1])
        lab.wait(lambda: i.state()["unanswered"] == 0, 10, "an answer to the last is none to all")
        state = i.state()
        check_equal((state["sent"], state["passed"], state["uninspected"]), (8, 1, 32), "counters")


@case("an instance's inspector sees what passes between two of its vPorts once, and what goes to the wire [R169]")
def _(bench):
    with bench.lab() as lab:
        i = Inspected(bench, lab, whole=True)
        i.sample("C", "attack at dawn")
        before = i.state()
        check_equal(i.scene.ping("red-2", "red-3", "-s", 900, count=3), 3, "pings between two vPorts")
        check_equal(i.scene.ping("red-2", "red-4", "-s", 900, count=3), 3, "pings to the wire")
        after = i.state()
        # Six requests and six answers, and ARP on the way.
        check(12 <= after["sent"] - before["sent"] <= 24, f"frames with the inspector: {before}, {after}")
        i.scene.transfer("red-1", "red-2", 8)
        i.scene.transfer("red-4", "red-3", 8)
        check_equal(i.state()["refused"], 0, "frames without it")


@case("a trace tells of the inspector, whether it listens or not [R169][R145]")
def _(bench):
    with bench.lab() as lab:
        i = Inspected(bench, lab)
        words = ("trace", "red-1", "--hex", frame(mac(2), mac(1), "x").hex())
        silent = i.a.ctl(*words)
        check("inspector ips does not listen, and fails closed" in silent and "dropped at" in silent, silent)
        i.sample("C", "attack at dawn")
        said = i.a.ctl(*words)
        check("goes to inspector ips" in said and "sent to red-2" in said, said)
        check_equal(i.state()["refused"], 0, "frames without it: a trace counts none")


main()
