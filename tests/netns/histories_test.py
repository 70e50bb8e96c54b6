# SPDX-License-Identifier: Apache-2.0
"""histories_test.py -- random histories of binding changes and migrations over three hosts with a real etcd, whose agents
die, are cut off and start again meanwhile, on a switch that learns in each outer VLAN, as those of the fabric do.

After every few steps all is made whole, and each commit whose answer is owed is made again, as whoever made it was told
to: then each VM has one host, and its frames go only there. Frames go at any other time too, also while a step is being
done. None may ever come to another tenant, nor to one VM at two places or twice. While something is broken, frames may
be lost alone that
- are from or to a VM that was made, deleted or moved, or whose host had another VLAN, since all was whole;
- are for a host that etcd may have given up: it was cut off, its agent was dead, or etcd came back.
A VM that went from a host that cannot hear of it is there twice until it hears: nobody can tell it.

--seed says which history (0: another one each time). IVDS_ROUNDS says how many rounds of a few steps it has (5)."""
import json
import os
import random
import select
import signal
import threading
import time

from etcd import Etcd, start
from harness import case, check, main
from lab import LabError
from scene import BROADCAST, MARK, Scene, frame, mac, network, raw

ROUNDS = int(os.environ.get("IVDS_ROUNDS", "5"))
HOSTS = "abc"
NETWORKS = {"red": 10, "blue": 20}  # and their V.VLANs
VLANS = {"red": (100, 200, 300), "blue": (110, 210, 310)}
VMS = {f"{net}-{number}": (net, mac(number)) for net in NETWORKS for number in (1, 2, 3)}
LEASE_S = 3
SETTLE_S = 60


class VlanSwitch:
    """The fabric: it learns behind which port a MAC is, in each outer VLAN by itself, and never forgets. Not every kernel
    that the tests run on has VLANs in its bridge."""

    def __init__(self, lab):
        self.lab, self.place = lab, lab.place("fabric")
        self.ports, self.learned, self.flaps, self.stopping = {}, {}, [], threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)

    def plug_in(self, host):
        self.lab.cable(host, "wire0", self.place, f"port-{host.name}")
        self.ports[host.name] = self.place.port(f"port-{host.name}")

    def run(self):
        by_socket = {port.socket: name for name, port in self.ports.items()}
        while not self.stopping.is_set():
            for ready in select.select(list(by_socket), [], [], 0.1)[0]:
                name = by_socket[ready]
                for data in self.ports[name].receive():
                    self.forward(name, data)

    def forward(self, name, data):
        vlan = int.from_bytes(data[14:16], "big") & 0xFFF if data[12:14] == b"\x81\x00" else 0
        if not data[6] & 1:
            if self.learned.get((vlan, data[6:12]), name) != name:
                self.flaps.append(f"VLAN {vlan}: {data[6:12].hex(':')} went from {self.learned[vlan, data[6:12]]} to {name}, by "
                                  f"{data[:24].hex()}")
            self.learned[vlan, data[6:12]] = name
        behind = None if data[0] & 1 else self.learned.get((vlan, data[:6]))
        for other in self.ports if behind is None else (behind,):
            if other != name:
                self.ports[other].send(data)

    def stop(self):
        self.stopping.set()
        if self.thread.is_alive():
            self.thread.join()
        for port in self.ports.values():
            port.close()


class History:
    """The hosts and their VMs, which are interfaces in one place: `VM.HOST` is where the VM is on that host, whether it
    is there now or not. VMs of the two tenants have the same MACs."""

    def __init__(self, lab, seed):
        self.lab, self.random = lab, random.Random(seed)
        self.etcd, self.fabric = Etcd(lab), VlanSwitch(lab)
        self.scene = Scene(lab, {name: network(vvlan=vvlan) for name, vvlan in NETWORKS.items()})
        self.steps = []
        self.place = lab.place("vms")
        for number, name in enumerate(HOSTS, 1):
            host = self.scene.host(name)
            self.fabric.plug_in(host)
            self.etcd.connect(host, 10 + number)
            for vm, (_, vmac) in VMS.items():
                host.ip(f"link add {vm} type veth peer name {vm}.{name} address {vmac} netns {self.place.pid}",
                        f"link set {vm} up")
                self.place.ip(f"link set {vm}.{name} up")
            start(host, LEASE_S)
            host.apply({"uplinks": [{"name": "uplink", "netdev": "wire0"}],
                        "instances": [{"name": net, "uplink": "uplink", **network(VLANS[net][number - 1], vvlan),
                                       "peer_vlans": [vlan for vlan in VLANS[net] if vlan != VLANS[net][number - 1]]}
                                      for net, vvlan in NETWORKS.items()]})
        self.fabric.thread.start()
        self.ports = {(vm, name): self.place.port(f"{vm}.{name}") for vm in VMS for name in HOSTS}
        # What is known of each VM: the hosts of which one has it; none: it is nowhere; "?" among them: or nowhere.
        self.owners = {vm: set() for vm in VMS}
        self.exports = {}     # VM -> what some host exported of it, perhaps long ago
        self.cut, self.frozen, self.stopped = set(), False, False
        # A host missed that its VM went: until it has heard of it, etcd must not lose what tells it.
        self.is_missed = False
        self.number = self.frames = 0
        # Since all was whole: VMs that changed, and hosts that etcd may have given up.
        self.changed, self.shaken = set(), set()
        # VMs that may be at two places, as a host that one left may not know, and those hosts.
        self.doubtful = {}
        self.still = set()  # VMs that stand still while they move
        self.owed = set()   # (VM, host) of commits that were not answered
        self.sent, self.got = {}, {}  # number -> what it is of and for; number -> places that it came to
        self.wrong, self.due, self.arrived, self.exempt = [], 0, 0, 0
        self.lock, self.ending = threading.Lock(), threading.Event()
        self.chatter = threading.Thread(target=self.talk, daemon=True)

    def host(self, name):
        return self.scene.hosts[name]

    def up(self):
        return [name for name in HOSTS if self.host(name).agent is not None]

    def ctl(self, name, *words, **options):
        """Whether it was done: refused is right too, as long as it says why."""
        done = self.host(name).ctl(*words, check=False, **options)
        self.steps.append(f"{name}: {' '.join(words)}" + (f" -> {done.stderr.splitlines()[0]}" if done.returncode else ""))
        check(done.returncode == 0 or "IVDS-" in done.stderr, f"exit {done.returncode}: {done.stderr}")
        return done

    # -------------------------------------------------------------------------------------------- steps

    def create(self):
        # Only who knows that another host has it can refuse it: it is asked for where it is nowhere.
        nowhere = [vm for vm, owners in self.owners.items() if not owners]
        if not nowhere:
            return
        vm, name = self.random.choice(nowhere), self.random.choice(self.up())
        net, vmac = VMS[vm]
        self.changed.add(vm)
        self.ctl(name, "vport", "delete", vm)  # what is left of it from another time
        self.host(name).ip(f"link set {vm} up")  # which goes down with a vPort that is deleted
        self.ctl(name, "vnic", "create", f"{vm}-nic", "--vmac", vmac)
        if self.ctl(name, "vport", "create", vm, "--instance", net, "--netdev", vm, "--vnic", f"{vm}-nic").returncode == 0:
            self.owners[vm] = {name}

    def delete(self):
        vm, name = self.random.choice(list(VMS)), self.random.choice(self.up())
        # A VM shall live longer than it takes to find it.
        if name in self.owners[vm] and self.random.random() < 0.5:
            return
        if name in self.owners[vm]:
            self.changed.add(vm)
        if self.ctl(name, "vport", "delete", vm).returncode == 0 and name in self.owners[vm]:
            self.owners[vm] = set() if self.owners[vm] == {name} else self.owners[vm] | {"?"}

    def some_vm(self):
        return self.random.choice([vm for vm, owners in self.owners.items() if owners] or list(VMS))

    def prepare(self):
        vm, name = self.some_vm(), self.random.choice(self.up())
        owners = [owner for owner in self.owners[vm] if owner in self.up()]
        if owners and self.random.random() < 0.8:
            done = self.ctl(self.random.choice(owners), "migrate", "export", vm)
            if done.returncode == 0:
                self.exports[vm] = done.stdout
        if vm in self.exports:
            self.host(name).ip(f"link set {vm} up")
            self.ctl(name, "migrate", "prepare", "-f", "-", "--netdev", vm, stdin=self.exports[vm])

    def hears(self, vm):
        """Whether those that have the VM hear at once that it went."""
        return all(owner in self.up() and self.is_synced(owner) for owner in self.owners[vm] - {"?"})

    def is_synced(self, name):
        report = json.loads(self.host(name).ctl("--json", "doctor", check=False).stdout)
        return any(finding["id"] == "IVDS-R007" and "synced" in finding["text"] for finding in report.get("findings", []))

    def moves(self, vm, name):
        self.changed.add(vm)
        with self.lock:
            self.still.add(vm)
            self.doubtful[vm] = self.doubtful.get(vm, set()) | self.owners[vm] - {"?"} | {name}

    def commit_on(self, vm, name):
        hears = self.hears(vm)
        self.moves(vm, name)
        done = self.ctl(name, "migrate", "commit", vm)
        if done.returncode in (0, 7) and self.owners[vm] != {name}:
            self.is_missed = self.is_missed or not hears
        self.owed.discard((vm, name))
        if done.returncode == 0:
            self.owners[vm] = {name}
        elif done.returncode == 7:  # it may have been done
            self.owners[vm] = self.owners[vm] | {name}
            self.owed.add((vm, name))

    def commit(self):
        self.commit_on(self.some_vm(), self.random.choice(self.up()))

    def commit_and_die(self):
        vm, name = self.some_vm(), self.random.choice(self.up())
        self.is_missed = self.is_missed or not self.hears(vm)
        self.moves(vm, name)
        client = self.host(name).start("ivds-ctl", "migrate", "commit", vm, stdout=-3, stderr=-3)
        time.sleep(self.random.uniform(0.01, 0.09))
        self.host(name).stop_agent(signal.SIGKILL)
        client.wait(60)
        self.shaken.add(name)
        self.steps.append(f"{name}: migrate commit {vm}, and killed in it")
        self.owed.add((vm, name))
        if self.owners[vm]:
            self.owners[vm] = self.owners[vm] | {name}

    def move(self):
        """All of it, from a host that has it."""
        vm = self.some_vm()
        owners = [owner for owner in self.owners[vm] if owner in self.up()]
        targets = [name for name in self.up() if name not in self.owners[vm]]
        if not owners or not targets:
            return
        target = self.random.choice(targets)
        done = self.ctl(owners[0], "migrate", "export", vm)
        if done.returncode == 0:
            self.exports[vm] = done.stdout
            self.host(target).ip(f"link set {vm} up")
            if self.ctl(target, "migrate", "prepare", "-f", "-", "--netdev", vm, stdin=done.stdout).returncode == 0:
                self.lab.wait(lambda: self.port_is_up(target, vm), 10, f"{vm} on {target} is not up")
                self.commit_on(vm, target)

    def port_is_up(self, name, vm):
        return any(port["name"] == vm and port.get("up") for port in self.host(name).ctl_json("status").get("ports", []))

    def abort(self):
        vm, name = self.some_vm(), self.random.choice(self.up())
        self.ctl(name, "migrate", "abort", vm)

    def change_vlan(self):
        """A host's network is on another VLAN from now on, by way of draining."""
        net, name = self.random.choice(list(NETWORKS)), self.random.choice(self.up())
        vlan = self.random.choice(VLANS[net])
        self.changed |= {vm for vm, owners in self.owners.items() if VMS[vm][0] == net and name in owners}
        peers = [word for each in VLANS[net] if each != vlan for word in ("--peer-vlans", str(each))]
        self.ctl(name, "instance", "update", net, "--draining")
        self.ctl(name, "instance", "update", net, "--vlan", str(vlan), *peers)
        self.ctl(name, "instance", "update", net, "--draining=false")

    def kill(self):
        if len(self.up()) > 1:
            name, how = self.random.choice(self.up()), self.random.choice((signal.SIGKILL, signal.SIGTERM))
            self.steps.append(f"{name}: killed")
            self.shaken.add(name)
            self.host(name).stop_agent(how)

    def start_again(self):
        down = [name for name in HOSTS if self.host(name).agent is None]
        if down:
            self.steps.append(f"{down[0]}: started")
            start(self.host(down[0]), LEASE_S)

    def cut_or_join(self):
        name = self.random.choice(HOSTS)
        self.cut ^= {name}
        self.shaken.add(name)
        self.steps.append(f"{name}: {'cut off from etcd' if name in self.cut else 'joined'}")
        self.etcd.place.ip(f"link set mgmt-{name} {'down' if name in self.cut else 'up'}")

    def freeze_etcd(self):
        if not self.stopped:
            self.frozen = not self.frozen
            self.steps.append(f"etcd: {'stopped' if self.frozen else 'continued'}")
            # What it gives up for the time that it stood still it gives up when it goes on.
            self.shaken |= set() if self.frozen else set(HOSTS)
            self.etcd.process.send_signal(signal.SIGSTOP if self.frozen else signal.SIGCONT)

    def kill_etcd(self):
        if not self.frozen:
            self.steps.append(f"etcd: {'started' if self.stopped else 'killed'}")
            if self.stopped:
                self.shaken |= set(HOSTS)
                self.etcd.start()
            elif self.random.random() < 0.2 and not self.is_missed:
                self.steps.append("etcd: lost all it had")
                self.etcd.wipe()
            else:
                self.etcd.stop()
            self.stopped = not self.stopped

    def wait_out_a_lease(self):
        self.steps.append("waited for leases to end")
        time.sleep(LEASE_S + 1)

    def step(self):
        weights = {self.create: 3, self.delete: 1, self.prepare: 2, self.commit: 2, self.commit_and_die: 1, self.move: 4,
                   self.abort: 1, self.change_vlan: 1, self.kill: 1, self.start_again: 2, self.cut_or_join: 1,
                   self.freeze_etcd: 1, self.kill_etcd: 1, self.wait_out_a_lease: 0.3}
        if not self.up():
            self.start_again()
            return
        self.random.choices(list(weights), list(weights.values()))[0]()
        self.still = set()

    # -------------------------------------------------------------------------------------------- what must hold

    def mend(self):
        """What is broken is whole again; VMs and what is prepared stay as they are."""
        if self.frozen:
            self.freeze_etcd()
        if self.stopped:
            self.kill_etcd()
        for name in self.cut:
            self.etcd.place.ip(f"link set mgmt-{name} up")
        self.cut = set()
        for name in HOSTS:
            if self.host(name).agent is None:
                start(self.host(name), LEASE_S)
        self.steps.append("all is whole again")

    def commit_again(self):
        """What was not answered: it was done and is completed, or is done now, or is refused."""
        for vm, name in sorted(self.owed):
            self.lab.wait(lambda name=name: self.is_synced(name), SETTLE_S, lambda name=name: f"{name} is not synced")
            self.commit_on(vm, name)
        self.still = set()
        check(not self.owed, f"not answered though all is whole: {self.owed}")

    def bindings(self):
        """{(V.VLAN, vMAC): [(host, VLAN)]} as etcd has them."""
        found = {}
        for value in map(json.loads, self.etcd.keys("/ivds/v1/bindings/").values()):
            found.setdefault((value["vvlan"], value["vmac"]), []).append((value["host"], value["vlan"]))
        return found

    def unsettled(self):
        """The first that is not as it must be in the end; nothing: it is settled. Fills in where each VM is."""
        held, wrong = self.bindings(), []
        for vm, (net, vmac) in VMS.items():
            owners = held.pop((NETWORKS[net], vmac), [])
            wanted = self.owners[vm]
            if len(owners) != 1 and (owners or wanted - {"?"} and "?" not in wanted):
                wrong.append(f"{vm} is of {wanted}, and etcd has it at {owners}")
            if owners and owners[0][0] not in wanted:
                wrong.append(f"{vm} is of {wanted}, and etcd has it at {owners}")
            self.at[vm] = owners[0] if len(owners) == 1 else None
        if held:
            wrong.append(f"etcd has {held} besides")
        for name in HOSTS:
            if wrong:
                break
            host = self.host(name)
            report = json.loads(host.ctl("--json", "doctor", check=False).stdout)
            told = [finding for finding in report.get("findings", []) if finding["id"] == "IVDS-R007"]
            if not told or "synced" not in told[0]["text"] or " 0 changes wait" not in told[0]["text"]:
                wrong.append(f"{name} says {told}")
            wrong += [f"{name}: {finding['text']}" for finding in report.get("findings", [])
                      if finding["id"] in ("IVDS-R003", "IVDS-R005", "IVDS-D001", "IVDS-D002", "IVDS-D003")]
            if wrong:
                break
            shown = {(row["vvlan"], row["vmac"]): (row["host"], row["vlan"]) for row in host.ctl_json_lines("binding", "show")}
            wanted = {(NETWORKS[VMS[vm][0]], VMS[vm][1]): at for vm, at in self.at.items() if at}
            if shown != wanted:
                wrong.append(f"{name} has bindings {shown}, etcd {wanted}")
            states = {each["vport"]["name"]: each["vport"]["state"]
                      for each in host.ctl_json("vport", "list").get("objects", [])}
            ways = {(row["instance"], row["mac"]): (row["port"], row["vlan"]) for row in host.ctl_json_lines("fdb", "show")
                    if row.get("static")}
            for vm, (net, vmac) in VMS.items():
                is_here = self.at[vm] is not None and self.at[vm][0] == name
                state = states.get(vm, "none")
                if is_here != (state == "active"):
                    wrong.append(f"{vm} is {state} on {name}, and at {self.at[vm]}")
                way = (vm, 0) if is_here else ("uplink", self.at[vm][1]) if self.at[vm] else None
                if ways.get((net, vmac)) != way:
                    wrong.append(f"{name} sends to {vm} by {ways.get((net, vmac))}, not {way}")
        return wrong

    def settle(self):
        self.at, last = {}, []

        def settled():
            last[:] = self.unsettled()
            return not last
        self.is_missed = False
        self.lab.wait(settled, SETTLE_S, lambda: "not settled:\n  " + "\n  ".join(last))
        with self.lock:
            self.owners = {vm: {at[0]} if at else set() for vm, at in self.at.items()}
            self.changed, self.shaken, self.doubtful = set(), set(), {}

    # -------------------------------------------------------------------------------------------- frames meanwhile

    def send(self, vm, here, aim, reached, needed=frozenset()):
        """One frame to an aim; those of the network that it is for, and the places where it must come. A VM that is nowhere
        is looked for everywhere in its network."""
        self.number += 1
        if len(needed) < len(reached):
            reached = {other for other in VMS if other != vm and VMS[other][0] == VMS[vm][0]}
        self.sent[self.number] = (vm, reached, set(needed), set(self.doubtful))
        self.ports[vm, here].send(frame(aim, VMS[vm][1], MARK + b"%d " % self.number))
        return self.number

    def receive(self):
        """Takes what came in, and looks whether it may; how many."""
        count = 0
        for place, port in self.ports.items():
            for data in port.receive():
                at = data.find(MARK)
                if at < 0:
                    continue
                count += 1
                number = int(data[at + len(MARK):].split(b" ")[0])
                (sender, reached, _, doubtful), places = self.sent[number], self.got.setdefault(number, [])
                what = f"frame {number} of {sender} for {sorted(reached)} came to {place}, and to {places} before"
                if place[0] not in reached:
                    self.wrong.append(what)
                elif place in places:
                    self.wrong.append(f"{what}: twice")
                elif any(place[0] == other for other, _ in places):
                    if place[0] in doubtful or place[0] in self.doubtful:
                        self.exempt += 1
                    else:
                        self.wrong.append(f"{what}: the VM is there twice")
                places.append(place)
        return count

    def running(self):
        """{VM: host} of those of which it is known."""
        return {vm: next(iter(owners)) for vm, owners in self.owners.items()
                if len(owners) == 1 and "?" not in owners and vm not in self.still}

    def frames_of(self, present):
        """From each VM one frame to each other of its network, whose vMAC the other tenant has too, and one to all."""
        for vm, here in present.items():
            others = {other for other in VMS if other != vm and VMS[other][0] == VMS[vm][0]}
            for aim, reached in [*((raw(VMS[other][1]), {other}) for other in others), (BROADCAST, others)]:
                yield vm, here, aim, reached

    def talk(self):
        """All talk to all, whatever is being done."""
        while not self.ending.wait(0.05):
            with self.lock:
                for vm, here, aim, reached in list(self.frames_of(self.running())):
                    self.send(vm, here, aim, reached)
                self.receive()

    def clear_doubts(self):
        """A VM is at two places no more once all that may have it can hear whose it is."""
        def active(vm, names):
            return [name for name in names
                    if '"active"' in self.host(name).ctl("--json", "vport", "get", vm, check=False).stdout]

        for vm, names in list(self.doubtful.items()):
            if any(self.host(name).agent is None for name in names):
                continue
            if len(active(vm, names)) > 1:
                if self.stopped or self.frozen or names & self.cut:
                    continue
                self.lab.wait(lambda vm=vm, names=names: len(active(vm, names)) <= 1, SETTLE_S,
                              lambda vm=vm, names=names: f"{vm} is active on {active(vm, names)}")
            with self.lock:
                del self.doubtful[vm]

    def probe(self):
        """What did not change goes on, whatever else is broken."""
        self.clear_doubts()
        with self.lock:
            present = self.running()
            steady = {vm: here for vm, here in present.items() if vm not in self.changed}
            numbers = []
            for vm, here, aim, reached in list(self.frames_of(present)):
                needed = {(other, steady[other]) for other in reached & set(steady)
                          if vm in steady and (steady[other] == here or steady[other] not in self.shaken)}
                numbers.append(self.send(vm, here, aim, reached, needed))
            missing = self.wait_for(numbers)
        check(not missing, "\n  ".join(["frames of what did not change were lost:", *missing]))
        self.check_no_wrong()

    def wait_for(self, numbers):
        """Waits until the frames came where they must: those that did not."""
        end = time.monotonic() + 5
        while True:
            self.receive()
            missing = [(number, self.sent[number][2] - set(self.got.get(number, []))) for number in numbers]
            missing = [f"frame {number} of {self.sent[number][0]}: not at {sorted(places)}" for number, places in missing if places]
            if not missing or time.monotonic() > end:
                break
            time.sleep(0.005)
        self.due += sum(len(self.sent[number][2]) for number in numbers)
        return missing

    def check_no_wrong(self):
        check(not self.wrong, "\n  ".join(["frames went elsewhere:", *self.wrong[:20]]))

    def check_frames(self):
        """When all is whole, every frame comes where it is for, and nowhere else."""
        with self.lock:
            present = {vm: at[0] for vm, at in self.at.items() if at}
            numbers = [self.send(vm, here, aim, reached, {(other, present[other]) for other in reached & set(present)})
                       for vm, here, aim, reached in list(self.frames_of(present))]
            missing = self.wait_for(numbers)
            for _ in range(5):
                time.sleep(0.02)
                self.receive()
            # Who may get it at all is looked at as it comes: a VM that is nowhere is looked for everywhere.
            missing += [f"frame {number} of {self.sent[number][0]} came to {places}"
                        for number, places in ((number, self.got.get(number, [])) for number in numbers)
                        if any(present.get(vm) != here for vm, here in places)]
        self.frames += len(numbers)
        check(not missing, "\n  ".join(["frames went elsewhere:", *missing]))
        self.check_no_wrong()
        return len(numbers)

    def run(self):
        self.chatter.start()
        for number in range(ROUNDS):
            self.steps.append(f"--- round {number + 1}")
            for _ in VMS if number == 0 else ():
                self.create()
            for _ in range(self.random.randint(4, 9)):
                self.step()
                self.probe()
            self.mend()
            self.commit_again()
            self.settle()
            arrived = self.check_frames()
            if (number + 1) % 20 == 0:
                print(f"{number + 1} rounds, {len(self.steps)} steps, {arrived} frames in the last", flush=True)


@case("random histories of vPorts, migrations and faults on three hosts: each VM has exactly one host, and frames go only there, "
      "once each [R79][R83][R154][R164][R165]")
def _(bench):
    begun = time.monotonic()
    with bench.lab() as lab:
        history = History(lab, bench.seed)
        print(f"seed {bench.seed}, {ROUNDS} rounds", flush=True)
        try:
            history.run()
        except (AssertionError, LabError):
            print("the history:\n  " + "\n  ".join(history.steps))
            print("what the fabric learned anew:\n  " + "\n  ".join(history.fabric.flaps))
            raise
        finally:
            history.ending.set()
            history.fabric.stop()
            if history.chatter.is_alive():
                history.chatter.join()
        print(f"{len(history.steps)} steps, {history.number} frames, {history.due} of them had to come, {history.exempt} came to a "
              f"VM at two places that could not know; {time.monotonic() - begun:.0f} s")
        check(history.due > 0, "no frame had to come")
        for port in history.ports.values():
            port.close()


main()
