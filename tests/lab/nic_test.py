# SPDX-License-Identifier: Apache-2.0
"""nic_test.py -- the whole switch on a NIC that carries a part of it: the agent's plans on an 82576 (driver igb), VMs
with VFs beside one with a veth, and what passes between them and the wire. scripts/lab.sh boots it."""
import json
import signal

from rack import BLUE, SOFT, VMS, check_paths, rack
from harness import case, check, check_equal, main

@case("the agent has the NIC carry its VFs: VF to VF by the NIC alone, to and from software's vPorts and the wire with "
      "one tag, instances apart; and it survives the agent, and what others do to the NIC "
      "[R9][R94][R98][R106][R110][R111][R113]")
def _(bench):
    with rack(bench) as made:
        check_equal(made.where(), {**{name: ("hw", "fits") for name in VMS}, SOFT: ("sw", "not_a_vf")}, "placement")
        check_paths(made)
        # No process is needed to forward.
        made.host.stop_agent(signal.SIGKILL)
        check_paths_without_agent(made)
        made.host.ip(f"link set wire0 vf 1 vlan {BLUE}")
        made.host.start_agent()
        made.wait_for_nic("on")
        made.lab.wait(lambda: made.ping("red-0", "red-1"), 60, "red-1 is not back in red")
        # Somebody else, with the agent looking.
        made.host.ip("link set wire0 vf 0 spoofchk off")
        made.lab.wait(lambda: made.nic()["drifts"] > 0, 30, "nothing was found")
        told = json.loads(made.host.run("ip", "-j", "link", "show", "wire0").stdout)[0]["vfinfo_list"][0]
        check_equal(told["spoofchk"], True, "spoof check of VF 0")
        check("NIC" in made.host.ctl("events"), "no event tells of it")
        made.wait_until_it_works()
        check_paths(made)
        # What the NIC cannot do: the VF is off, and says why; and what is required is refused.
        made.host.ctl("rule", "add", "vport", "red-1", "--name", "no-udp", "--protocol", "udp", "--action", "drop")
        check_equal(made.where()["red-1"], ("sw", "rules"), "a VF with a rule")
        check(not made.ping("red-0", "red-1"), "red-1 is reached though the NIC cannot hold its rule")
        made.host.ctl("rule", "remove", "vport", "red-1", "no-udp")
        made.lab.wait(lambda: made.ping("red-0", "red-1"), 60, "red-1 does not come back")
        made.host.ctl("vport", "update", "red-1", "--offload", "require")
        refused = made.host.ctl("rule", "add", "vport", "red-1", "--name", "no-udp", "--protocol", "udp", "--action",
                                "drop", check=False)
        check(refused.returncode != 0 and "IVDS-O004" in refused.stderr, f"not refused: {refused}")
        check(made.ping("red-0", "red-1"), "a refused change took something down")


def check_paths_without_agent(made):
    check_equal(made.send("red-0", made.vms["red-1"].mac), {"red-1": b""}, "VF to VF without an agent")
    check_equal(made.send("red-0", made.soft.mac), {SOFT: b""}, "a VF to software's without an agent")
    check_equal(made.send(SOFT, made.vms["red-0"].mac), {"red-0": b""}, "and back without an agent")


@case("VFs that go and come are told, and carried again [R9]")
def _(bench):
    with rack(bench) as made:
        address = made.pf.address
        netdev_back = f"{address} is not back"
        made.host.ip("link set wire0 down")
        (made.pf.device / "sriov_numvfs").write_text("0")
        made.wait_for_nic("failed")
        (made.pf.device / "sriov_numvfs").write_text(str(len(VMS)))
        made.host.ip("link set wire0 up")
        made.lab.wait(lambda: made.where().get("red-0") == ("hw", "fits"), 60, netdev_back)
        made.plug()
        check_paths(made)


main()
