# SPDX-License-Identifier: Apache-2.0
"""vfio_test.py -- a PF and a VF on vfio-pci, the driver that hands NICs to VMs and programs: what is then reached of
them, and what is refused, with the reason. scripts/lab.sh --iommu boots it."""
import contextlib
import os
import pathlib
import subprocess

from nics import PCI, Nic, Root, physical
from harness import Skip, case, check, check_equal, main

RAL, VLVF = 0x5400, 0x5D00


class Plan:
    """nic-plan, which reaches the NIC as the agent does."""

    def __init__(self, bench, address):
        self.words = [str(pathlib.Path(bench.binaries) / "nic-plan"), address]

    def __call__(self, *words):
        return subprocess.run([*self.words, *map(str, words)], capture_output=True, text=True, check=False)

    def told(self, *words):
        done = self(*words)
        check_equal(done.returncode, 0, f"the exit code of {words}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def refused(self, *words):
        done = self(*words)
        check(done.returncode != 0, f"{words} was not refused: {done.stdout}")
        return done.stdout


@contextlib.contextmanager
def on_vfio(nic):
    """A function on vfio-pci; gives its group's file, and the function back to its driver in the end."""
    if not (nic.device / "iommu_group").exists():
        raise Skip("needs an IOMMU; scripts/lab.sh --iommu has one")
    os.system("modprobe vfio-pci")
    driver = nic.driver()
    (driver / "unbind").write_text(nic.address)
    (nic.device / "driver_override").write_text("vfio-pci")
    try:
        (PCI / "drivers_probe").write_text(nic.address)
        yield pathlib.Path("/dev/vfio") / (nic.device / "iommu_group").resolve().name
    finally:
        (nic.driver() / "unbind").write_text(nic.address)
        (nic.device / "driver_override").write_text("\n")
        (driver / "bind").write_text(nic.address)
        nic.netdev()


@contextlib.contextmanager
def opened(path):
    file = os.open(path, os.O_RDWR)
    try:
        yield
    finally:
        os.close(file)


def low_word(address):
    return int.from_bytes(bytes.fromhex(address.replace(":", ""))[:4], "little")


@case("a PF on vfio-pci is reached by vfio: its registers are the driver's, keep what is written, and are as new when who had "
      "it open ends; no plan is made for it, and each way that is closed says why [R38]")
def _(bench):
    nic = physical(1)[0]
    plan = Plan(bench, nic.address)
    address = (nic.device / "net" / nic.netdev() / "address").read_text().strip()
    ways = plan.told("ways").splitlines()
    check_equal(ways[0], "BAR0 by resource0", "the way to registers under igb")
    check("vfio: igb is bound to it" in ways[1], f"why not by vfio: {ways}")
    check_equal(int(plan.told("peek", RAL)), low_word(address), "the PF's own address by resource0")
    with on_vfio(nic) as group:
        check_equal(plan.told("ways").splitlines()[0], "BAR0 by vfio", "the way to registers under vfio-pci")
        check_equal(int(plan.told("peek", RAL)), low_word(address), "the PF's own address by vfio")
        check_equal(int(plan.told("poke", VLVF + 4, 0x8000100A)), 0x8000100A, "what was written reads")
        check_equal(int(plan.told("peek", VLVF + 4)), 0, "what the next finds there")
        for words in (("show",), ("apply",)):
            said = plan.refused(*words)
            check("IVDS-O023" in said and "it is on vfio-pci" in said, f"no plan, but no reason: {said}")
        with opened(group):
            said = plan.told("ways")
            check("vfio: somebody has group" in said, f"a group that another has: {said}")
    check_equal(plan.told("ways").splitlines()[0], "BAR0 by resource0", "the way once igb is back")
    check_equal((nic.device / "net" / nic.netdev() / "address").read_text().strip(), address, "the address of its interface")


@case("a VF that a VM has by vfio-pci is told as that, and no other number of VFs takes it away [R9][R23][R25]")
def _(bench):
    nic = physical(1)[0]
    plan = Plan(bench, nic.address)
    Root.ip(f"link set {nic.netdev()} up")
    plan.told("vfs", 2)
    with on_vfio(Nic((nic.device / "virtfn1").resolve().name)) as group, opened(group):
        said = plan.refused("vfs", 1)
        check("IVDS-O025" in said and "VF 1" in said and "vfio-pci holds it" in said, f"why not fewer: {said}")
        check_equal((nic.device / "sriov_numvfs").read_text().strip(), "2", "VFs")
    plan.told("vfs", 0)


main()
