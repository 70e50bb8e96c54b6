# SPDX-License-Identifier: Apache-2.0
"""systemd_test.py -- the installed units at work on a machine with systemd and udev, which is the lab's guest itself."""
import json
import os
import pathlib
import subprocess

import nics
from harness import case, check, check_equal, main
from lab import Host
from scene import Scene, network


class Machine(Host):
    """The guest as a host: no namespaces, and the agent is a service."""

    def __init__(self, lab):  # pylint: disable=super-init-not-called
        self.lab, self.name, self.agent, self.agent_log, self.processes = lab, "machine", None, None, []
        self.netns = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)

    @property
    def pid(self):
        return os.getpid()

    def enter(self, words):
        return [*map(str, words)]

    def path(self, inside):
        return pathlib.Path(inside)

    def start_agent(self, *_, **__):
        self.run("systemctl", "start", "ivdsd")
        self.agent = "ivdsd.service"

    def stop_agent(self, *_):
        self.run("systemctl", "stop", "ivdsd")
        self.agent = None

    def agent_said(self):
        return subprocess.run(["journalctl", "-b", "--no-pager", "-u", "ivdsd", "-u", "ivds-loader@*"], check=False,
                              capture_output=True, text=True).stdout

    def end(self):
        """What other cases find is what was there before: no agent, no pins, no state."""
        subprocess.run("systemctl stop ivdsd 'ivds-loader@*'; ivds-loader down --detach; rm -rf /var/lib/ivds/*; "
                       "ip link del red-1; ip link del red-2", shell=True, check=False, capture_output=True)
        os.close(self.netns)


def state(unit, *properties):
    said = subprocess.run(["systemctl", "show", unit, *(f"-p{name}" for name in properties)], check=True,
                          capture_output=True, text=True).stdout
    values = dict(line.split("=", 1) for line in said.splitlines())
    return [values[name] for name in properties]


def loader(netdev):
    """The unit for an interface, whatever is in its name."""
    return subprocess.run(["systemd-escape", "--template=ivds-loader@.service", netdev], check=True,
                          capture_output=True, text=True).stdout.strip()


def hooks(netdev):
    """Our programs on an interface, by hook."""
    found = json.loads(subprocess.run(["bpftool", "-j", "net", "show", "dev", netdev], check=True, capture_output=True,
                                      text=True).stdout)[0]
    return sorted(hook.get("kind", hook.get("mode")) for kind in ("xdp", "tc") for hook in found.get(kind, [])
                  if hook.get("devname") == netdev)


def machine(lab):
    """The guest with its first NIC as the uplink, and two VMs."""
    uplink, _ = nics.physical(2)
    nics.Root.ip(f"link set {uplink.netdev()} up")
    scene = Scene(lab, {"red": network()}, uplink={"netdev": uplink.netdev()}, instance={})
    scene.hosts["m"] = Machine(lab)
    lab.places.append(scene.hosts["m"])
    scene.vm("m", "red", 1)
    scene.vm("m", "red", 2)
    # The NIC at the other end of the wire gives the uplink its carrier.
    nics.Root.ip("link set eth1 up")
    return scene, uplink


@case("ivdsd.service is active once the agent says so, and again after a kill; nothing stops forwarding meanwhile [R4][R83]")
def _(bench):
    with bench.lab() as lab:
        scene, uplink = machine(lab)
        scene.start()
        check_equal(state("ivdsd", "Type", "ActiveState", "SubState"), ["notify", "active", "running"], "ivdsd.service")
        check("3 of 3 ports up" in state("ivdsd", "StatusText")[0], f"its status: {state('ivdsd', 'StatusText')}")
        scene.check_pings()
        check_equal(hooks(uplink.netdev()), ["driver", "tcx/ingress"], "hooks on the uplink")
        before = state("ivdsd", "MainPID")
        scene.hosts["m"].run("systemctl", "kill", "-sKILL", "ivdsd")
        check_equal(scene.ping("red-1", "red-2", count=20), 20, "answers while the agent is away")
        lab.wait(lambda: state("ivdsd", "ActiveState", "NRestarts") == ["active", "1"], 30, "it was not started again")
        check(state("ivdsd", "MainPID") != before, "it has the same process")
        check_equal(scene.ping("red-1", "red-2", count=3), 3, "answers after the restart")


@case("ivds-loader@.service brings forwarding up at boot without an agent, and udev starts it for a VF that comes later")
def _(bench):
    with bench.lab() as lab:
        scene, uplink = machine(lab)
        scene.start()
        host, config = scene.hosts["m"], scene.config("m")
        config["vnics"].append({"name": "late-nic", "vmac": "02:00:00:00:00:03"})
        config["vports"].append({"name": "late", "instance": "red", "netdev": "late-vf", "vnic": "late-nic"})
        host.apply(config)
        check(not pathlib.Path("/sys/class/net/late-vf").exists(), "there is a VF already")
        host.stop_agent()
        # A boot: pins and hooks are gone, the saved state is there.
        host.run("umount", "/sys/fs/bpf")
        host.run("mount", "-t", "bpf", "bpf", "/sys/fs/bpf")
        lab.wait(lambda: not hooks("red-1"), 10, "links outlive their pins")
        check_equal(scene.ping("red-1", "red-2"), 0, "answers with nothing attached")
        for netdev in (uplink.netdev(), "red-1", "red-2"):
            host.run("systemctl", "start", loader(netdev))
            check_equal(state(loader(netdev), "ActiveState", "Result"), ["active", "success"], netdev)
        lab.wait(lambda: scene.ping("red-1", "red-2", count=1), 30, "no answer after the loader")
        check_equal(state("ivdsd", "ActiveState"), ["inactive"], "the agent")
        # igb makes VFs while it has an XDP program. A rule of the lab gives the VF its name, dash and all.
        check_equal(hooks(uplink.netdev()), ["driver", "tcx/ingress"], "hooks on the uplink")
        (uplink.device / "sriov_numvfs").write_text("1")
        lab.wait(lambda: state(loader("late-vf"), "ActiveState") == ["active"], 60,
                 lambda: f"udev did not start {loader('late-vf')}")
        check_equal(hooks("late-vf"), ["tcx/ingress"], "hooks on the VF")
        check_equal(state("ivdsd", "ActiveState"), ["inactive"], "the agent")
        uplink.no_virtual_functions()
        lab.wait(lambda: state(loader("late-vf"), "ActiveState") == ["inactive"], 30,
                 "the loader's unit outlives the VF")


main()
