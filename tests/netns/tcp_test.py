# SPDX-License-Identifier: Apache-2.0
"""tcp_test.py -- large TCP with the offloads of the guests on, through tag push and pop, by each way to attach."""
from harness import case, check, main
from scene import Scene, network


def both_ways(bench, attach, mib, uplink_features=()):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()}, attach=attach)
        hosts = scene.two_hosts()
        for host, number in (("a", 1), ("a", 2), ("b", 3)):
            scene.vm(host, "red", number)
        for host in hosts:
            if uplink_features:
                host.run("ethtool", "-K", "wire0", *uplink_features)
        scene.start()
        features = scene.vms["red-1"].run("ethtool", "-k", "eth0").stdout
        print(f"{attach}: {scene.ports('a')['red-1']['got']}; in the guest " +
              ", ".join(line.strip() for line in features.splitlines()
                        if line.startswith(("tx-checksumming", "tcp-segmentation-offload"))))
        scene.transfer("red-1", "red-2", mib)
        scene.transfer("red-1", "red-3", mib)
        scene.transfer("red-3", "red-1", mib)
        # Small segments and a last one of odd length come out of an ordinary stream too.
        check(scene.ping("red-1", "red-3", "-s", "1472", "-M", "do") == 3, "full-sized frames after the transfer")


@case("1 GiB arrives with the right hash, local and across the wire, attached as auto picks [R21]")
def _(bench):
    both_ways(bench, "auto", 1024)


@case("1 GiB arrives with the right hash, local and across the wire, by native XDP [R21]")
def _(bench):
    both_ways(bench, "native", 1024)


for mode in ("generic", "tcx", "clsact"):
    @case(f"128 MiB arrive with the right hash, local and across the wire, by {mode} [R21]")
    def _(bench, mode=mode):
        both_ways(bench, mode, 128)


for state in ("on", "off"):
    @case(f"128 MiB arrive with the uplink's VLAN offloads {state}: the outer tag in metadata or in the bytes [R21][R104]")
    def _(bench, state=state):
        both_ways(bench, "tcx", 128, ("tx-vlan-hw-insert", state, "tx-vlan-stag-hw-insert", state))


main()
