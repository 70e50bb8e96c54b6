# SPDX-License-Identifier: Apache-2.0
"""nic_life_test.py -- what befalls a NIC that carries a part of the switch, with the agent looking after it: VFs that
the agent makes and takes away, drivers that go and come, resets, other writers, boot. scripts/lab.sh boots it."""
import json
import pathlib
import re
import subprocess

from nics import Bar0, Root, members_of_vlan, physical
from foreign import Counter, our_dispatcher
from harness import Skip, case, check, check_equal, main
from rack import BLUE, RED, SOFT, VMS, check_paths, rack
from scene import mac, tag


def needs_native_xdp_with_vfs():
    if physical(1)[0].driver().name == "ixgbe":
        raise Skip("ixgbe has no native XDP while it has VFs")


def vfs_of(made):
    return int((made.pf.device / "sriov_numvfs").read_text())


def states(made):
    """The VFs as `nic show` has them."""
    return made.host.ctl_json("nic", "show", "up0")["nics"][0]["vfs"]


def hooks(made):
    return {port["name"]: port for port in made.host.ctl_json("status")["ports"]}["up0"]["got"]


def told(made):
    """What the agent has said of the NIC."""
    return [line for line in made.host.ctl("events").splitlines() if "NIC: " in line]


def end_vms(made):
    """The VMs end, and give their VFs back."""
    for name in VMS:
        made.ports.pop(name).close()
        vm = made.vms.pop(name)
        made.lab.places.remove(vm)
        vm.end()


def mended(made, what, change):
    """Somebody changes something; the agent finds it, says so and sets it right."""
    before = len(told(made))
    change()
    made.lab.wait(lambda: len(told(made)) > before, 60, lambda: f"{what}: nothing was found: {made.nic()}")
    made.wait_until_carried()
    made.wait_until_it_works()
    print(f"{what}: {told(made)[before:]}")


@case("the agent makes the VFs of a PF, and makes them again when the PF's driver goes and comes; what misses the NIC is "
      "native XDP's [R9][R94][R106][R111]")
def _(bench):
    needs_native_xdp_with_vfs()
    with rack(bench, vfs=len(VMS), attach="native") as made:
        check_equal(hooks(made), "native+tcx", "hooks of the PF with VFs on")
        check_equal([(vf["index"], vf["address"], vf["driver"], vf["role"], vf.get("vport")) for vf in states(made)],
                    [(number, made.vf(name).address, "igbvf", "netns", name) for name, number in VMS.items()], "VFs")
        check(all(vf["interrupts"] > 0 for vf in states(made)), f"a VF without interrupts: {states(made)}")
        check_paths(made)
        driver = made.pf.driver()
        (driver / "unbind").write_text(made.pf.address)
        made.lab.wait(lambda: "IVDS-O018" in made.nic().get("error", ""), 60, lambda: f"the NIC is not gone: {made.nic()}")
        check_equal(made.nic()["state"], "failed", "the state of a NIC that is gone")
        away = {port["name"]: port for port in made.host.ctl_json("status")["ports"]}
        for name in VMS:
            check_equal([away[name]["up"], away[name]["reason"]],
                        [False, "a VF that its VM has, and the NIC does not carry it"], f"{name} without the NIC")
        check_equal([away["up0"]["up"], away[SOFT]["up"]], [False, True], "the uplink and software's vPort")
        (driver / "bind").write_text(made.pf.address)
        check_equal(vfs_of(made), 0, "VFs of a driver that is bound anew")
        made.give()
        made.wait_until_carried()
        said = told(made)
        check(any("IVDS-O018" in line for line in said) and f"NIC: {made.nic()['chip']} by kernel" in said[-1],
              f"the events are {said}")
        made.plug()
        check_equal(hooks(made), "native+tcx", "hooks of the PF that is back")
        check_paths(made)


@case("a reset of the PF or of a VF, a link that goes, another MTU, other VFs and another writer of registers are found "
      "and mended; what misses the NIC is TC's [R9][R98][R106][R111]")
def _(bench):
    with rack(bench, vfs=len(VMS), attach="tcx") as made:
        check_equal(hooks(made), "tcx", "hooks of the PF")
        check_paths(made)

        def register(verb, *words):
            done = subprocess.run([bench.binaries / "nic-plan", made.pf.address, verb, *map(str, words)],
                                  capture_output=True, text=True, check=True)
            return json.loads(done.stdout) if done.stdout else None

        members, first = members_of_vlan(made.pf, RED, lambda offset: register("peek", offset))
        value = register("peek", members)
        mended(made, "blue's VF in red", lambda: register("poke", members, value | first << VMS["blue-2"]))
        check_equal(register("peek", members), value, "the members of red")
        mended(made, "another VLAN for a VF", lambda: made.host.ip(f"link set wire0 vf 1 vlan {BLUE}"))
        mended(made, "another MTU", lambda: made.host.ip("link set wire0 mtu 1600"))
        mended(made, "the link", lambda: made.host.ip("link set wire0 down", "link set wire0 up"))

        def reset_vf():
            nic = made.vf("red-1")
            nic.restart()
            nic.give(made.vms["red-1"], "eth0")
            made.vms["red-1"].ip("link set eth0 up")
            made.vms["red-1"].set_address(made.vms["red-1"].address)
        mended(made, "a VF that starts anew", reset_vf)
        check_paths(made)
        # Somebody takes the VFs away: the agent makes them again.
        (made.pf.device / "sriov_numvfs").write_text("0")
        made.lab.wait(lambda: vfs_of(made) == len(VMS), 60, "the VFs do not come back")
        made.wait_until_carried()
        made.plug()
        check_paths(made)


@case("a program of somebody else on the PF counts on beside native XDP, with VFs that the agent makes under it [R4][R9]")
def _(bench):
    needs_native_xdp_with_vfs()
    counters = []
    with rack(bench, ["--xdp-coexist"], lambda host: counters.append(Counter(host, "wire0", **our_dispatcher(bench))),
              vfs=len(VMS), attach="native") as made:
        check_equal(hooks(made), "native-libxdp+tcx", "hooks of the PF")
        with counters[0].counts(5, "from the wire to software's vPort"):
            for _ in range(5):
                check_equal(made.send("far", made.soft.mac, tag(RED)), {SOFT: b""}, "the wire to software's")
        check_paths(made)
        counters[0].detach()
        check_paths(made)


@case("at boot the programs forward for software's vPorts before there is an agent, no VF is there, and the agent then "
      "makes them [R9]")
def _(bench):
    with rack(bench, vfs=len(VMS)) as made:
        made.host.stop_agent()
        made.host.run("ivds-loader", "down", "--detach")
        for name in VMS:
            made.ports.pop(name).close()
        (made.pf.device / "sriov_numvfs").write_text("0")
        made.host.ip("link set wire0 down", "link set wire0 promisc off", "link set wire0 up")
        made.host.run("ivds-loader", "up")
        made.lab.wait(lambda: made.send("far", made.soft.mac, tag(RED)) == {SOFT: b""}, 60, "the wire to software's")
        made.lab.wait(lambda: made.send(SOFT, mac(0x6666)) == {"far": tag(RED)}, 60, "software's to the wire")
        check_equal(vfs_of(made), 0, "VFs before the agent")
        made.host.start_agent()
        made.wait_until_carried()
        made.plug()
        check_paths(made)


@case("VFs that are in use are not taken away, and those that are not go with the uplink [R9]")
def _(bench):
    with rack(bench, vfs=len(VMS)) as made:
        def refused(*words, **options):
            done = made.host.ctl(*words, check=False, **options)
            check(done.returncode != 0 and "IVDS-O025" in done.stderr, f"not refused: {done}")
            return done.stderr

        first = made.vf("red-0").address
        for words, options in ((["uplink", "update", "up0", "--vfs", "4"], {}),
                               (["apply", "-f", "-"], {"stdin": '{"uplinks": []}'})):
            check(f"VF 0 ({first}) is in use: its interface is in another network namespace" in refused(*words, **options),
                  "the error does not say who has the VF")
        check_paths(made)
        end_vms(made)
        nics = [made.vf(name) for name in VMS]
        for nic in nics:
            nic.netdev()
            (nic.driver() / "unbind").write_text(nic.address)
        check_equal({vf["role"] for vf in states(made)}, {"free"}, "VFs without drivers")
        made.host.ctl("uplink", "update", "up0", "--vfs", "4")
        check_equal(vfs_of(made), 4, "VFs")
        made.lab.wait(lambda: made.where()["red-0"] == ("hw", "fits"), 60, lambda: f"not carried: {made.nic()}")
        fewer = made.host.ctl("uplink", "update", "up0", "--vfs", "2", check=False)
        check(fewer.returncode != 0 and "IVDS-M084" in fewer.stderr, f"fewer VFs than vPorts: {fewer}")
        for number in range(4):
            device = (made.pf.device / f"virtfn{number}").resolve()
            if (device / "driver").exists():
                (device / "driver/unbind").write_text(device.name)
        made.host.apply({"uplinks": []})
        check_equal(vfs_of(made), 0, "VFs once the uplink is gone")


def available_kib():
    pathlib.Path("/proc/sys/vm/drop_caches").write_text("3", encoding="ascii")
    return int(re.search(r"MemAvailable: +(\d+)", pathlib.Path("/proc/meminfo").read_text(encoding="ascii"))[1])


@case("the memory of a VF's rings is its driver's while a VM has it, and none is held once vPorts and VFs are gone, "
      "however often [R19][R25]")
def _(bench):
    if physical(1)[0].driver().name != "igb":
        raise Skip("where the rings of a VF are is known here of the 82576")
    with rack(bench, vfs=len(VMS)) as made:
        bar = Bar0(made.pf)

        def rings():
            """Of the first queue of each VF: whether its ring of reception is on."""
            return [bool(bar.word(0xC028 + 0x40 * number).value & 1 << 25) for number in VMS.values()]
        check_equal(rings(), [True] * len(VMS), "rings while the VMs have the VFs")
        check(all(bar.word(0xC000 + 0x40 * number).value for number in VMS.values()), "a ring without memory")
        end_vms(made)
        free = []
        for _ in range(9):
            nics = [made.vf(name) for name in VMS]
            for nic in nics:
                nic.netdev()
                (nic.driver() / "unbind").write_text(nic.address)
            made.host.apply({"uplinks": []})
            # The first queue is the PF's own, where there are no VFs.
            check_equal((vfs_of(made), rings()[1:]), (0, [False] * (len(VMS) - 1)), "VFs and their rings, the uplink gone")
            free.append(available_kib())
            made.apply()
            made.wait_until_carried()
            for name in VMS:
                Root.ip(f"link set {made.vf(name).netdev()} up")
            made.lab.wait(lambda: all(rings()), 60, lambda: f"the rings of VFs that are up are {rings()}")
        print(f"KiB available without VFs, each time: {free}")
        # The first times fill what the kernel keeps; a ring's buffers are half a megabyte, and 18 VFs came and went since.
        check(free[-1] > free[2] - 4096, f"memory goes with the VFs that go: {free}")


main()
