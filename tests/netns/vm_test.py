# SPDX-License-Identifier: Apache-2.0
"""vm_test.py -- libvirt's hook registers the vNICs of a VM when it starts, and releases them at its end; the hook is
called as libvirt calls it, with a domain's XML."""
import json
import pathlib

from harness import case, check, check_equal, main
from scene import Scene, mac, network

HOOK = pathlib.Path(__file__).resolve().parents[2] / "scripts/libvirt/qemu"
DOMAIN = """
<domain type='kvm' id='3'>
  <name>web</name>
  <uuid>dd8c8ce1-9a1f-4e4c-8a4f-1f6cb1d6e0c2</uuid>
  <metadata>
    <ivds:ports xmlns:ivds="urn:ivds:ports:1">{ports}</ivds:ports>
  </metadata>
  <devices>
    <interface type='bridge'>
      <mac address='52:54:00:aa:bb:cc'/><source bridge='virbr0'/><target dev='vnet1'/>
    </interface>
    <interface type='ethernet'>
      <mac address='{mac}'/>{target}<model type='virtio'/><alias name='net1'/>
    </interface>
  </devices>
</domain>"""
PORT = "<ivds:port mac='{mac}' instance='red' profile='web'/>"


def hook(host, operation, sub, ports=PORT.format(mac=mac(1)), target="<target dev='red-1'/>", text=None, domain="web"):
    if text is None:
        text = DOMAIN.format(ports=ports, mac=mac(1), target=target)
    return host.run(HOOK, domain, operation, sub, "-", stdin=text, check=False)


def has(host, kind, name):
    return host.ctl(kind, "get", name, check=False).returncode == 0


@case("a VM's vNIC has no traffic before libvirt's hook registered it, has it then, and has none after its end [R63][R64]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        a, _ = scene.two_hosts()
        scene.vm("a", "red", 2)
        scene.vm("b", "red", 3)
        scene.profiles = [{"name": "web"}]
        scene.start()
        vm = scene.vms["red-1"] = lab.vm(a, "red-1", mac(1), address="10.0.0.1")
        check_equal(scene.ping("red-1", "red-2"), 0, "answers to a VM that is not registered")

        # libvirt's order: the interface has no device before the domain started.
        for operation, sub, target in (("prepare", "begin", ""), ("start", "begin", ""),
                                       ("started", "begin", "<target dev='red-1'/>")):
            done = hook(a, operation, sub, target=target)
            check_equal((done.returncode, done.stdout), (0, ""), f"{operation} {sub}: {done.stderr}")
        shown = a.ctl_json("vport", "get", "web-1")["vport"]
        check_equal((shown["netdev"], shown["instance"], shown["profile"], shown["vnic"]),
                    ("red-1", "red", "web", "web-1-nic"), "the vPort")
        lab.wait(lambda: scene.ports("a")["web-1"].get("up"), 10, "its port is not up")
        vm.ip("neigh flush all")  # nobody answered so far, and the VM's kernel remembers
        check_equal([scene.ping("red-1", other) for other in ("red-2", "red-3")], [3, 3], "answers")
        exported = a.ctl("export")
        check_equal(hook(a, "reconnect", "begin").returncode, 0, "libvirtd starts again")
        check_equal(a.ctl("export"), exported, "the configuration after that")

        for operation, sub in (("stopped", "end"), ("release", "end"), ("release", "end")):
            done = hook(a, operation, sub)
            check_equal(done.returncode, 0, f"{operation} {sub}: {done.stderr}")
        check(not has(a, "vport", "web-1") and not has(a, "vnic", "web-1-nic"), "what was registered is still there")
        check_equal(scene.ping("red-1", "red-2"), 0, "answers after the end")

        # A vPort that is prepared for the VM to come stays so.
        a.ctl("vnic", "create", "web-1-nic", "--vmac", vm.mac)
        a.ctl("vport", "create", "web-1", "--instance", "red", "--netdev", "red-1", "--vnic", "web-1-nic", "--state",
              "prepared", "--peer-host", "b")
        check_equal(hook(a, "started", "begin").returncode, 0, "started")
        check_equal(json.loads(a.ctl("--json", "vport", "get", "web-1"))["vport"]["state"], "prepared", "its state")
        lab.wait(lambda: scene.ports("a")["web-1"].get("up"), 10, "its port is not up")
        vm.ip("neigh flush all")
        check_equal(scene.ping("red-1", "red-2"), 0, "answers while it is prepared")


@case("what the hook cannot register it refuses with a reason, and libvirt does not start the VM; other domains are not its [R63]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        a, _ = scene.two_hosts()
        scene.vm("a", "red", 2)
        scene.start()
        for operation, options, words in (
                ("prepare", {}, "profile web"),
                ("prepare", {"ports": f"<ivds:port mac='{mac(1)}' instance='blue'/>"}, "instance blue"),
                ("prepare", {"ports": f"<ivds:port mac='{mac(1)}'/>"}, "names no instance"),
                ("prepare", {"ports": f"<ivds:port mac='{mac(9)}' instance='red'/>"}, "no interface"),
                ("started", {"ports": f"<ivds:port mac='{mac(1)}' instance='red'/>", "target": ""}, "no target device"),
                # Names that the switch cannot have are told before the domain runs, and are no options of ivds-ctl.
                ("prepare", {"ports": f"<ivds:port mac='{mac(1)}' instance='red' vport='My VM-1'/>"}, '"My VM-1" cannot be'),
                ("started", {"ports": f"<ivds:port mac='{mac(1)}' instance='red' vport='--help'/>"}, '"--help" cannot be'),
                ("prepare", {"ports": f"<ivds:port mac='{mac(1)}' instance='--help'/>"}, '"--help" cannot be'),
                ("prepare", {"text": "\0\x01"}, "ivds: domain web"),
                ("prepare", {"text": "<domain"}, "ivds: domain web")):
            done = hook(a, operation, "begin", **options)
            check(done.returncode != 0 and words in done.stderr and "Traceback" not in done.stderr,
                  f"{operation} {options}: {done.returncode} {done.stderr}")
        exported = a.ctl("export")
        check_equal(hook(a, "started", "begin", ports="").returncode, 0, "a domain without ports")
        check_equal(hook(a, "migrate", "begin", text="").returncode, 0, "an operation that is not its")
        check_equal(a.ctl("export"), exported, "the configuration")


main()
