#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""control_center.py -- a small control center: one tenant network on many hosts, through the agents' API.

    control_center.py --host a=unix:/run/ivds/ivdsd.sock COMMAND …
    control_center.py --host a=192.0.2.1:7443 --host b=192.0.2.2:7443 --ca CA --cert CERT --key KEY COMMAND …

    create FILE    make the network on its hosts; again changes nothing
    list           every network of every host
    diff FILE      where the hosts differ from the file; exit code 1 if they do
    stats NETWORK  its packets, host by host
    remove FILE    take the network off its hosts

A network is a JSON file. Each host may have another VLAN of the fabric; the V.VLAN is one. Where each VM is, every host
is told as a static MAC (a binding), so that no frame to a known VM is flooded:

    {"name": "red", "tenant": "acme", "vvlan": 10,
     "hosts": {"a": {"netdev": "wire0", "vlan": 100,
                     "vms": {"web1": {"netdev": "vnet0", "vmac": "02:00:00:00:00:01"}}},
               "b": {"netdev": "wire0", "vlan": 200,
                     "vms": {"web2": {"netdev": "vnet0", "vmac": "02:00:00:00:00:02"}}}}}

The stubs are generated from ivds.proto when the project is built; IVDS_STUBS, or build/dev/python, says where they are.
"""
import argparse
import json
import os
import pathlib
import sys

import grpc

sys.path.insert(0, os.environ.get("IVDS_STUBS", str(pathlib.Path(__file__).resolve().parents[2] / "build/dev/python")))
import ivds_pb2 as pb  # noqa: E402  pylint: disable=wrong-import-position
import ivds_pb2_grpc as rpc  # noqa: E402  pylint: disable=wrong-import-position

UPLINK = "uplink"
TIMEOUT_S = 10


class Host:
    """One agent. Changes are acknowledged: a call that returns is in force and saved on the host."""

    def __init__(self, name, channel):
        self.name, self.stub = name, rpc.SwitchStub(channel)

    def put(self, kind, message):
        """Makes the object be as `message` says; returns "created", "updated" or "there"."""
        request = pb.PutRequest(object=pb.Object(**{kind: message}))
        current = self.get(kind, message.name)
        if current is None:
            self.stub.Create(request, timeout=TIMEOUT_S)
            return "created"
        if current == message:
            return "there"
        self.stub.Update(request, timeout=TIMEOUT_S)
        return "updated"

    def get(self, kind, name):
        try:
            return getattr(self.stub.Get(self.ref(kind, name), timeout=TIMEOUT_S), kind)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return None
            raise

    def remove(self, kind, name):
        self.stub.Delete(self.ref(kind, name), timeout=TIMEOUT_S)

    @staticmethod
    def ref(kind, name):
        return pb.Ref(kind=pb.Kind.Value(kind.upper()), name=name)


class Network:
    """What a file wants, as the objects of each host."""

    def __init__(self, text):
        self.__dict__.update(json.loads(text))

    def objects(self, host):
        """The objects of a host, in the order in which they refer to each other, but for the bindings."""
        mine = self.hosts[host]
        yield "uplink", pb.Uplink(name=UPLINK, netdev=mine["netdev"])
        yield "instance", self.instance(host, bindings=False)
        for vm, fields in mine["vms"].items():
            yield "vnic", pb.Vnic(name=f"{vm}-nic", vmac=fields["vmac"])
            yield "vport", pb.VPort(name=vm, instance=self.name, netdev=fields["netdev"], vnic=f"{vm}-nic")

    def instance(self, host, bindings=True):
        vlan = self.hosts[host]["vlan"]
        peers = sorted({other["vlan"] for other in self.hosts.values()} - {vlan})
        remote = [pb.StaticMac(mac=vm["vmac"], vlan=other["vlan"]) for name, other in sorted(self.hosts.items())
                  if name != host for vm in other["vms"].values()]
        return pb.Instance(name=self.name, tenant=self.tenant, uplink=UPLINK, vlan=vlan, vvlan=self.vvlan,
                           scope=pb.DISTRIBUTED, peer_vlans=peers, fdb=remote if bindings else [])


class ControlCenter:
    def __init__(self, hosts):
        self.hosts = hosts

    def create(self, network):
        """First every host has the network, then every host learns where the VMs are. Returns what was done."""
        done = []
        for name in network.hosts:
            for kind, message in network.objects(name):
                if kind == "instance" and self.hosts[name].get(kind, message.name) is not None:
                    continue  # its bindings stay in force while the others are put
                done.append((name, kind, message.name, self.hosts[name].put(kind, message)))
        for name in network.hosts:
            instance = network.instance(name)
            done.append((name, "bindings", instance.name, self.hosts[name].put("instance", instance)))
        return done

    def remove(self, network):
        for name in network.hosts:
            objects = list(network.objects(name))
            for kind, message in reversed(objects):
                if kind == "uplink" and self._uplink_used(name):
                    continue
                self.hosts[name].remove(kind, message.name)

    def _uplink_used(self, name):
        listed = self.hosts[name].stub.List(pb.ListRequest(kind=pb.INSTANCE), timeout=TIMEOUT_S)
        return any(item.instance.uplink == UPLINK for item in listed.objects)

    def list(self):
        """{host, instance's state} of every network on every host."""
        for name, host in self.hosts.items():
            for instance in host.stub.Status(pb.StatusRequest(), timeout=TIMEOUT_S).instances:
                yield name, instance

    def diff(self, network):
        """Lines that say where a host is not as the network wants it."""
        for name in network.hosts:
            wanted = dict(((kind, message.name), message) for kind, message in network.objects(name))
            wanted["instance", network.name] = network.instance(name)
            for (kind, label), message in wanted.items():
                found = self.hosts[name].get(kind, label)
                if found is None:
                    yield f"{name}: {kind} {label} is missing"
                    continue
                for field in message.DESCRIPTOR.fields:
                    if getattr(found, field.name) != getattr(message, field.name):
                        yield (f"{name}: {kind} {label}: {field.name} is {text_of(getattr(found, field.name))}, "
                               f"wanted {text_of(getattr(message, field.name))}")

    def stats(self, network):
        for name, host in self.hosts.items():
            for instance in host.stub.Stats(pb.StatsRequest(), timeout=TIMEOUT_S).instances:
                if instance.name == network:
                    yield name, instance


def text_of(value):
    return " ".join(str(value).split()) or "empty"


def connect(pairs, interceptors=(), tls=None):
    """`tls` has the authority of the agents' certificates, and this client's key and certificate, in PEM."""
    hosts = {}
    for pair in pairs:
        name, _, address = pair.partition("=")
        options = [("grpc.enable_http_proxy", 0)]
        if tls:
            channel = grpc.secure_channel(address, grpc.ssl_channel_credentials(*tls), options)
        else:
            channel = grpc.insecure_channel(address, options)
        hosts[name] = Host(name, grpc.intercept_channel(channel, *interceptors))
    return ControlCenter(hosts)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--host", action="append", required=True, metavar="NAME=ADDRESS", help="a host's agent")
    for option, text in (("--ca", "the authority that signed the agents' certificates"),
                         ("--cert", "this client's certificate, which names its role"), ("--key", "the certificate's key")):
        parser.add_argument(option, type=pathlib.Path, help=f"PEM file: {text}; all three, or none for Unix sockets")
    commands = parser.add_subparsers(dest="command", required=True)
    for name in ("create", "diff", "remove"):
        commands.add_parser(name).add_argument("file", type=pathlib.Path)
    commands.add_parser("list")
    commands.add_parser("stats").add_argument("network")
    words = parser.parse_args()
    files = (words.ca, words.key, words.cert)
    if any(files) and not all(files):
        parser.error("--ca, --cert and --key belong together")
    center = connect(words.host, tls=[file.read_bytes() for file in files] if all(files) else None)
    try:
        if words.command == "create":
            for step in center.create(Network(words.file.read_text())):
                print(*step)
        elif words.command == "remove":
            center.remove(Network(words.file.read_text()))
        elif words.command == "diff":
            lines = list(center.diff(Network(words.file.read_text())))
            print("\n".join(lines) or "no differences")
            return 1 if lines else 0
        elif words.command == "list":
            for host, instance in center.list():
                print(host, instance.name, instance.tenant or "-", f"VLAN {instance.vlan}",
                      f"V.VLAN {instance.vvlan}", instance.state, f"{instance.vports} vPorts")
        else:
            for host, instance in center.stats(words.network):
                print(host, f"{instance.port_packets} packets from VMs", f"{instance.wire_packets} from the wire")
    except grpc.RpcError as error:
        print(f"control_center.py: {error.details()}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
