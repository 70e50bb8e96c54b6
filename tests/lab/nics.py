# SPDX-License-Identifier: Apache-2.0
"""nics.py -- what the lab has more than namespaces: NICs with virtual functions, and other kinds of vNICs than a veth.

The NICs are the machine's, and a namespace that ends gives them back; they are found by their PCI address, because
their names change on the way.
"""
import contextlib
import ctypes
import fcntl
import itertools
import mmap
import os
import pathlib
import select
import struct
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "netns"))
from harness import Skip  # noqa: E402  pylint: disable=wrong-import-position
from lab import Lab, Vm  # noqa: E402  pylint: disable=wrong-import-position
from scene import Scene, mac  # noqa: E402  pylint: disable=wrong-import-position

PCI = pathlib.Path("/sys/bus/pci")
WIRE = pathlib.Path("/lab/wire0.pcap")  # what passes between the first two NICs, written by QEMU
HIDDEN_VLAN = 3000  # between the two VFs of a VM's port; no network uses it


class Root:
    """Commands in the lab's own network namespace, where the NICs are while nobody has them."""

    @staticmethod
    def ip(*lines):
        done = os.popen("ip -batch - 2>&1 <<'END'\n" + "\n".join(lines) + "\nEND\n")
        said = done.read()
        if done.close() is not None:
            raise OSError(f"ip: {said}")


class Here:
    """The lab's own namespace, as a place for raw sockets."""
    within = staticmethod(contextlib.nullcontext)


class Nic:
    """A PCI function with a network interface."""

    def __init__(self, address):
        self.address = address
        self.device = PCI / "devices" / address

    def netdev(self):
        """Its interface's name, once it is in the lab's own namespace."""
        folder = self.device / "net"
        return Lab.wait(lambda: folder.exists() and next(iter(os.listdir(folder)), None), 20,
                        f"{self.address} has no interface here")

    def give(self, place, name):
        """Moves the interface to a host or a VM."""
        Root.ip(f"link set {self.netdev()} down", f"link set {self.netdev()} netns {place.pid} name {name}")

    def driver(self):
        """The folder of the driver that is bound."""
        return (self.device / "driver").resolve()

    def restart(self):
        """Starts a VF's driver anew, which is when it takes the VF's address."""
        driver = self.driver()
        for verb in ("unbind", "bind"):
            (driver / verb).write_text(self.address)

    def virtual_functions(self, macs, spare=0):
        """As many VFs as addresses, and some more that nobody has; returns the former. The interface must be up: igb
        answers its VFs only then."""
        netdev = self.netdev()
        Root.ip(f"link set {netdev} up")
        (self.device / "sriov_numvfs").write_text(str(len(macs) + spare))
        found = [Nic((self.device / f"virtfn{number}").resolve().name) for number in range(len(macs))]
        for number, (nic, address) in enumerate(zip(found, macs)):
            nic.netdev()
            # Its two VFs are a cable of the VM's own: a VLAN that nobody else is in, and all MACs welcome.
            Root.ip(f"link set {netdev} vf {number} mac {address}", f"link set {netdev} vf {number} vlan {HIDDEN_VLAN}",
                    f"link set {netdev} vf {number} spoofchk off", f"link set {netdev} vf {number} trust on")
            nic.restart()
        return found

    def no_virtual_functions(self):
        self.netdev()
        if (self.device / "sriov_numvfs").exists():
            (self.device / "sriov_numvfs").write_text("0")


def physical(count):
    """The lab's NICs, as they were at boot; on hardware, the one under test and the one at the other end of its cable."""
    found = os.environ["IVDS_LAB_NICS"].split() if "IVDS_LAB_NICS" in os.environ else \
        sorted(path.name for path in (PCI / "drivers/igb").glob("0000:*"))
    if len(found) < count:
        raise Skip(f"needs {count} NICs of the driver igb; scripts/lab.sh has them")
    nics = [Nic(address) for address in found[:count]]
    for nic in nics:
        nic.no_virtual_functions()
        netdev = nic.netdev()
        Root.ip(f"link set {netdev} down mtu 1508")
        os.system(f"ethtool -K {netdev} rxvlan on txvlan on >/dev/null 2>&1")
    return nics


class Bar0:
    """A PF's registers, for a writer beside the agent."""

    def __init__(self, nic):
        file = os.open(nic.device / "resource0", os.O_RDWR)
        self.memory = mmap.mmap(file, os.fstat(file).st_size)
        os.close(file)

    def word(self, offset):
        """A register; its `value` is read and written in one access."""
        return ctypes.c_uint32.from_buffer(self.memory, offset)


class Pump(threading.Thread):
    """Moves frames between two taps, as a hypervisor does between a tap and its guest's NIC: with their offload
    headers, so that a frame that is not cut into segments yet stays whole."""

    IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 2, 0x1000, 0x4000
    TUNSETIFF, TUNSETOFFLOAD, CSUM_AND_TSO = 0x400454CA, 0x400454D0, 1 | 2 | 4

    def __init__(self, ends):
        """`ends`: two pairs of a place and an interface to make there."""
        super().__init__(daemon=True)
        self.files = [self._open(*end) for end in ends]
        self.stopping, self.wake = os.pipe()

    def _open(self, place, name):
        with place.within():
            file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
            fcntl.ioctl(file, self.TUNSETIFF,
                        struct.pack("16sH22x", name.encode(), self.IFF_TAP | self.IFF_NO_PI | self.IFF_VNET_HDR))
            fcntl.ioctl(file, self.TUNSETOFFLOAD, self.CSUM_AND_TSO)
        return file

    def run(self):
        other = dict(zip(self.files, reversed(self.files)))
        while True:
            ready, _, _ = select.select([*self.files, self.stopping], [], [])
            if self.stopping in ready:
                return
            for file in ready:
                try:
                    os.write(other[file], os.read(file, 1 << 17))
                except OSError:
                    pass  # the other end is down, and a cable drops too

    def end(self):
        os.write(self.wake, b"x")
        self.join()
        for file in (*self.files, self.stopping, self.wake):
            os.close(file)


class NicScene(Scene):
    """Two hosts, each with a NIC as its uplink; VMs may hang on a tap, a macvlan or a VF."""

    def __init__(self, *arguments, vf_number=None, **fields):
        """`vf_number`: the number of a VM on host a that is to have a VF."""
        super().__init__(*arguments, **fields)
        self.nics, self.vf_number, self.vfs, self.vf_owner = physical(2), vf_number, [], None

    def two_hosts(self):
        a, b = self.host("a"), self.host("b")
        if self.vf_number:
            self.vfs = self.nics[0].virtual_functions([mac(0xFF00), mac(self.vf_number)], len(self.vlans()))
        for nic, host in zip(self.nics, (a, b)):
            nic.give(host, "wire0")
            host.ip("link set wire0 up")
            # The emulated card finds the TCP header behind one tag, not behind two; a real one is told where it is.
            host.run("ethtool", "-K", "wire0", "tx", "off")
        self.lab.wait(lambda: all(host.run("cat", "/sys/class/net/wire0/carrier").stdout == "1\n" for host in (a, b)),
                      30, "no carrier on the wire")
        return a, b

    def vlans(self):
        return sorted({network["vlan"] for network in self.networks.values()})

    def start(self):
        super().start()
        if self.vf_number:
            # With VFs on, igb leaves a VLAN that no VF is in to the card's default pool, and that gets no broadcasts
            # from the emulated card, unlike a real one. So a spare VF is in the VLAN, and the interface joins it there,
            # as it has a VLAN device. It is done now, because the reset that comes with the first program forgets it.
            self.hosts["a"].ip(*(line for number, vlan in enumerate(self.vlans(), 2) for line in (
                f"link add link wire0 name wire0.{vlan} type vlan id {vlan}", f"link set wire0 vf {number} vlan 0",
                f"link set wire0 vf {number} vlan {vlan}")))
            self._wait_for_vf()
        self._wait_for_wire()

    def _wait_for_wire(self):
        """Returns once frames pass the wire both ways. The first native program resets a card, and for a moment the
        carrier is on while nothing passes yet."""
        for one, other in itertools.combinations(self.vms, 2):
            if self.network_of[one] == self.network_of[other] and self.host_of[one] != self.host_of[other]:
                self.lab.wait(lambda: self.ping(one, other, count=1) == 1, 60, f"{one} to {other}: nothing passes the wire")
                return

    def _wait_for_vf(self):
        """Returns once frames pass the VM's two VFs, both ways. The uplink's first program has reset the card, which
        from then on passes nothing of a VF until the VF's driver has started the VF anew. That driver polls: it sees the
        reset up to 2 s late, with the carrier on until then, and starts the VF once 10 s have passed since it last did.
        So neither the carrier nor the port's state tells a VF that is back from one that is about to go; an answer
        does."""
        owner = self.vf_owner
        other = next(name for name in self.vms if name != owner and self.network_of[name] == self.network_of[owner])
        self.lab.wait(lambda: self.ping(owner, other, count=1) == 1, 60, f"{owner}: no frames pass its VFs")

    def _add(self, host, network_name, number, plug):
        name = f"{network_name}-{number}"
        vm = Vm(self.lab, name, name, mac(number))
        self.lab.places.append(vm)
        vm.up()
        plug(self.hosts[host], vm)
        vm.ip("link set eth0 up")
        vm.set_address(f"10.0.0.{number}")
        self.vms[name], self.network_of[name], self.host_of[name] = vm, network_name, host
        self.vport_fields[name] = {}
        return vm

    def tap(self, host, network_name, number):
        def plug(place, vm):
            pump = Pump([(place, vm.netdev), (vm, "eth0")])
            self.lab.places.append(pump)  # it ends with the lab, before the two places that it joins
            pump.start()
            vm.ip(f"link set eth0 address {vm.mac}")
            place.ip(f"link set {vm.netdev} up")
        return self._add(host, network_name, number, plug)

    def macvlan(self, host, network_name, number):
        def plug(place, vm):
            # Passthru is the mode in which a macvlan takes frames for other addresses than its own.
            place.ip(f"link add low-{vm.name} type veth peer name eth0 address {vm.mac} netns {vm.pid}",
                     f"link set low-{vm.name} up",
                     f"link add {vm.netdev} link low-{vm.name} type macvlan mode passthru", f"link set {vm.netdev} up")
        return self._add(host, network_name, number, plug)

    def vf(self, network_name, others):
        """The VM owns a VF; the vPort is another VF of the same NIC, which takes what is for `others`: VMs of this
        host, since what is in the NIC's address filter does not leave for the wire."""
        near, far = self.vfs

        def plug(place, vm):
            near.give(place, vm.netdev)
            far.give(vm, "eth0")
            place.ip(f"link set {vm.netdev} up")
            place.run("bridge", "-batch", "-", stdin="".join(f"fdb add {other} dev {vm.netdev}\n" for other in others))
        vm = self._add("a", network_name, self.vf_number, plug)
        self.vf_owner = vm.name
        return vm


def members_of_vlan(pf, vlan, read):
    """The register that has the VFs of a VLAN, and the bit of the first VF; `read` reads one by its offset."""
    table = 0xF100 if pf.driver().name == "ixgbe" else 0x5D00
    slot = next(slot for slot in range(1, 32) if read(table + 4 * slot) & 0x80000FFF == 0x80000000 | vlan)
    return (0xF200 + 8 * slot, 1) if pf.driver().name == "ixgbe" else (table + 4 * slot, 1 << 12)


def wire_position():
    return WIRE.stat().st_size if WIRE.exists() else 0


def wire_frames(position):
    """The frames that passed the wire since then, whole, as QEMU saw them from outside of the guest."""
    data = WIRE.read_bytes()
    at = max(position, 24)
    frames = []
    while at + 16 <= len(data):
        size = struct.unpack_from("<I", data, at + 8)[0]
        if at + 16 + size > len(data):
            break
        frames.append(data[at + 16:at + 16 + size])
        at += 16 + size
    return frames
