# SPDX-License-Identifier: Apache-2.0
"""access_test.py -- who may call what: agents that listen by TCP with mutual TLS, certificates of each role and of
none, and the audit log."""
import json
import os
import pathlib
import re
import shutil
import socket
import tempfile

from etcd import ETCD, Etcd
from harness import case, check, check_equal, main
from lab import LabError
from pki import Authority
from scene import Scene, mac, network

TOP = pathlib.Path(__file__).resolve().parents[2]
PORT = 7443
ROLES = ("read", "operate", "administer")

# What changes something, or shows tenants' frames. All other calls read.
MORE_THAN_READ = {"Apply": 3, "Create": 2, "Update": 2, "Delete": 2, "ReserveVmac": 2, "ReleaseVmac": 2, "Flush": 2,
                  "FlushFlows": 2, "Capture": 3, "Migrate": 3}

# Makes every call of the schema with an empty request, and prints how each ended: {call: status}.
EVERY_CALL = """
import json, sys
sys.path.insert(0, sys.argv[1])
import grpc, ivds_pb2 as pb, ivds_pb2_grpc as rpc
from google.protobuf import symbol_database
address, files = sys.argv[2], [open(name, "rb").read() for name in sys.argv[3:]]
credentials = grpc.ssl_channel_credentials(files[0], files[2], files[1]) if files else None
options = [("grpc.enable_http_proxy", 0)]
channel = grpc.secure_channel(address, credentials, options) if files else grpc.insecure_channel(address, options)
stub, said = rpc.SwitchStub(channel), {}
for method in pb.DESCRIPTOR.services_by_name["Switch"].methods:
    request = symbol_database.Default().GetSymbol(method.input_type.full_name)()
    call = getattr(stub, method.name)
    try:
        answer = call(request, timeout=20)
        if hasattr(answer, "code"):
            list(answer)
        said[method.name] = "OK"
    except grpc.RpcError as error:
        said[method.name] = error.code().name
print(json.dumps([said, {m.name: m.GetOptions().Extensions[pb.role] for m in
                         pb.DESCRIPTOR.services_by_name["Switch"].methods}]))
"""


# Makes calls of any kind with anything in their requests, numbered from COUNT on, and prints what none may end with.
ANY_CALL = """
import json, random, sys
sys.path.insert(0, sys.argv[1])
import grpc, ivds_pb2 as pb, ivds_pb2_grpc as rpc
from google.protobuf import symbol_database
WORDS = ["", "red", "blue", "red-1", "red-1-nic", "uplink", "wire0", "none", "02:00:00:00:00:01", "02:00:00:00:ff:01", "10.0.0.1",
         "10.0.0.0/8", "tcp", "80", "1000-2000", "any", "a" * 5000, "\\x01", "../x", "%s%n", "eth dst=02:00:00:00:00:02 / ip", "tcp port 80",
         "vports: [", "{}", "65536", "-1", "0x8100"]
NUMBERS = [0, 1, 2, 3, 10, 64, 100, 4094, 4095, 65535, 65536, 2**31 - 1, 2**31, 2**32 - 1]
def fill(message, depth, rnd):
    for field in message.DESCRIPTOR.fields:
        if rnd.random() < 0.5:
            continue
        many = field.label == field.LABEL_REPEATED
        if field.cpp_type == field.CPPTYPE_MESSAGE:
            if depth < 4:
                for _ in range(rnd.randrange(3) if many else 1):
                    within = getattr(message, field.name)
                    if not many:
                        within.SetInParent()
                    fill(within.add() if many else within, depth + 1, rnd)
            continue
        def value():
            if field.cpp_type == field.CPPTYPE_STRING:
                if field.type == field.TYPE_BYTES:
                    return rnd.randbytes(rnd.choice((0, 1, 6, 14, 60, 64, 400)))
                return rnd.choice(WORDS)
            if field.cpp_type == field.CPPTYPE_BOOL:
                return rnd.random() < 0.5
            if field.cpp_type == field.CPPTYPE_ENUM:
                return rnd.randrange(len(field.enum_type.values) + 1)
            if field.cpp_type in (field.CPPTYPE_DOUBLE, field.CPPTYPE_FLOAT):
                return rnd.choice((0.0, -1.0, 1e300, float("nan")))
            most = 2**31 - 1 if field.cpp_type == field.CPPTYPE_INT32 else 2**64
            return min(rnd.choice(NUMBERS), most)
        if many:
            getattr(message, field.name).extend([value() for _ in range(rnd.randrange(3))])
        else:
            setattr(message, field.name, value())
channel = grpc.insecure_channel(sys.argv[2], [("grpc.enable_http_proxy", 0)])
stub, methods, ends = rpc.SwitchStub(channel), pb.DESCRIPTOR.services_by_name["Switch"].methods, {}
for seed in range(int(sys.argv[3]), int(sys.argv[3]) + int(sys.argv[4])):
    rnd = random.Random(seed)
    method = methods[seed % len(methods)]
    request = symbol_database.Default().GetSymbol(method.input_type.full_name)()
    fill(request, 0, rnd)
    try:
        answer = getattr(stub, method.name)(request, timeout=2 if method.server_streaming else 20)
        if method.server_streaming:
            for _, _ in zip(range(20), answer):
                pass
            answer.cancel()
        end = "OK"
    except grpc.RpcError as error:
        end = error.code().name
        if end in ("UNAVAILABLE", "UNKNOWN", "INTERNAL") or not (error.details() or end == "CANCELLED"):
            print(json.dumps([seed, method.name, end, error.details(), str(request)[:2000]]))
    ends[end] = ends.get(end, 0) + 1
print(json.dumps(ends))
"""


class Fabric:
    """Hosts whose agents listen on a network that a control center is on as well."""

    def __init__(self, lab, folder, hosts, options=()):
        self.lab, self.center, self.folder = lab, lab.place("center"), pathlib.Path(folder)
        self.ca = Authority(folder)
        self.center.ip("link add mgmt type bridge", "link set mgmt up", "addr add 10.9.0.1/24 dev mgmt")
        self.address = {}
        for number, host in enumerate(hosts, 11):
            lab.cable(host, "mgmt0", self.center, f"mgmt-{host.name}", 1500)
            self.center.ip(f"link set mgmt-{host.name} master mgmt")
            host.ip(f"addr add 10.9.0.{number}/24 dev mgmt0")
            self.address[host.name] = f"10.9.0.{number}:{PORT}"
            self.ca.issue(host.name, f"IP:10.9.0.{number}")
            host.start_agent(*self.listen(host), *options)
        for role in ROLES:
            self.ca.issue(role, f"URI:urn:ivds:role:{role}")

    def listen(self, host):
        return ["--listen", self.address[host.name], "--listen-cert", self.ca.cert(host.name), "--listen-key",
                self.ca.key(host.name), "--listen-ca", self.ca.cert()]

    def ctl(self, host, files, *words, stdin=None):
        return self.center.run("ivds-ctl", "--address", self.address[host], *files, *words, check=False, stdin=stdin)

    def as_role(self, role, *words, stdin=None):
        return self.ctl("a", self.ca.words(role), *words, stdin=stdin)


def one_host(lab, folder, *options):
    scene = Scene(lab, {"red": {}})
    host, _ = scene.host_on_wire()
    return scene, host, Fabric(lab, folder, [host], options)


def refused(done, ident, *texts):
    said = done.stderr
    check(done.returncode != 0 and f"[{ident}]" in said and "fix: " in said, f"exit {done.returncode}: {said}")
    for text in texts:
        check(text in said, f"{text!r} is not in: {said}")


@case("calls with anything in their requests end with a status and a cause, and the agent and its VMs go on [R160][R174]")
def _(bench):
    with bench.lab() as lab:
        scene = Scene(lab, {"red": network()})
        host, _ = scene.host_on_wire()
        scene.vm("a", "red", 1)
        scene.vm("a", "red", 2)
        scene.start()
        first, count = int(os.environ.get("IVDS_SEED", 0)), int(os.environ.get("IVDS_ROUNDS", 600))
        done = host.run("/usr/bin/python3", "-c", ANY_CALL, lab.environment["IVDS_STUBS"], "unix:/run/ivds/ivdsd.sock", first,
                        count, timeout=60 + count)
        said = [json.loads(line) for line in done.stdout.splitlines()]
        print(f"{count} calls ended with {said[-1]}")
        check(said[:-1] == [] and host.agent.poll() is None, f"{said[:-1]}\n{host.agent_said()[-4000:]}")
        check(len(said[-1]) > 3, f"all calls ended alike: {said[-1]}")
        scene.apply("a")
        scene.check_pings()


@case("each call of the API passes for the roles that may make it, is refused for those below, and none has no role "
      "[R142][R160]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
        _, host, fabric = one_host(lab, folder)

        def every_call(address, files=()):
            done = fabric.center.run("/usr/bin/python3", "-c", EVERY_CALL, lab.environment["IVDS_STUBS"], address, *files,
                                     timeout=240)
            return json.loads(done.stdout)

        for level, role in enumerate(ROLES, 1):
            said, needed = every_call(fabric.address["a"], fabric.ca.words(role)[1::2])
            check(len(said) > 20 and all(0 < each <= 3 for each in needed.values()), f"the roles of calls: {needed}")
            check_equal({call: each for call, each in needed.items() if each > 1}, MORE_THAN_READ, "more than read")
            check_equal({call for call, how in said.items() if how == "PERMISSION_DENIED"},
                        {call for call, each in needed.items() if each > level}, f"refused to {role}")
            check(not {"UNAVAILABLE", "UNIMPLEMENTED", "DEADLINE_EXCEEDED"} & set(said.values()), f"{role}: {said}")
        said, _ = every_call(f"unix:{host.path('/run/ivds/ivdsd.sock')}")
        check("PERMISSION_DENIED" not in said.values(), f"the Unix socket: {said}")


@case("ivds-ctl over TCP: a role that is too low changes nothing and is told which it needs, a host's own objects need "
      "administer, and the audit log has who, from where, what and how it ended [R142][R160]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
        audit = pathlib.Path(folder) / "audit"
        _, host, fabric = one_host(lab, folder, "--audit", audit)

        def lines():
            return [json.loads(line) for line in audit.read_text().splitlines()] if audit.exists() else []

        def wait_for(count):
            lab.wait(lambda: len(lines()) >= count, 10, f"{count} lines of the audit log")
            check_equal(len(lines()), count, f"lines of the audit log {lines()}")
            return lines()[-1]

        check_equal(fabric.as_role("read", "status").returncode, 0, "status for read")
        refused(fabric.as_role("read", "uplink", "create", "uplink", "--netdev", "wire0"), "IVDS-A011",
                "read at ipv4:10.9.0.1:", "Create of uplink uplink", "URI:urn:ivds:role:administer")
        check_equal(json.loads(fabric.as_role("read", "--json", "status").stdout)["ports"], [], "what a refused call made")
        last = wait_for(1)
        check_equal([last[key] for key in ("who", "role", "call", "object", "result", "lost")],
                    ["read", "read", "Create", "uplink uplink", "IVDS-A011", 0], "the refusal in the audit log")
        check(last["from"].startswith("ipv4:10.9.0.1:") and last["time"].endswith("Z"), f"{last}")
        # To look for what is wrong is to read; to mend it is not.
        check_equal(fabric.as_role("read", "doctor").returncode, 0, "doctor for read")
        refused(fabric.as_role("read", "doctor", "--mend"), "IVDS-A011", "may not call Doctor", "URI:urn:ivds:role:operate")
        check_equal(fabric.as_role("operate", "doctor", "--mend").returncode, 0, "doctor --mend for operate")
        check_equal([(each["who"], each["call"], each["result"]) for each in (wait_for(3), lines()[1])],
                    [("operate", "Doctor", "ok"), ("read", "Doctor", "IVDS-A011")], "doctor in the audit log")
        # Networks are an operator's; the NIC, quotas and copies of frames are not.
        refused(fabric.as_role("operate", "uplink", "create", "uplink", "--netdev", "wire0"), "IVDS-A011",
                "it has the role operate, and that needs administer")
        refused(fabric.as_role("operate", "tenant", "create", "acme", "--max-vports", "9"), "IVDS-A011")
        refused(fabric.as_role("operate", "apply", "-f", "-", stdin="{}"), "IVDS-A011", "may not call Apply")
        check_equal(fabric.as_role("administer", "uplink", "create", "uplink", "--netdev", "wire0").returncode, 0, "administer")
        done = fabric.as_role("operate", "instance", "create", "red", "--uplink", "uplink", "--vlan", "100", "--vvlan", "10")
        check_equal(done.returncode, 0, f"operate: {done.stderr}")
        last = wait_for(8)
        check_equal([last[key] for key in ("who", "role", "call", "object", "result", "text")],
                    ["operate", "operate", "Create", "instance red", "ok", ""], "a change in the audit log")
        # An error of the agent is what it is over the socket, and is in the log too.
        words = ("instance", "create", "blue", "--uplink", "nowhere", "--vlan", "100", "--vvlan", "11")
        done, local = fabric.as_role("operate", *words), host.ctl(*words, check=False)
        check_equal((done.returncode, done.stderr), (local.returncode, local.stderr), "an error by TCP and by the socket")
        lab.wait(lambda: len(lines()) == 10, 10, "two more lines")
        check_equal([(each["who"], each["from"]) for each in lines()[-1:]], [("", "unix:")], "the socket's peer")
        check(lines()[-1]["result"] == lines()[-2]["result"] != "ok", f"{lines()[-2:]}")

        # Rotated, the file is begun anew; while it cannot be written, calls go on and the next line counts.
        audit.rename(audit.with_suffix(".1"))
        host.ctl("instance", "update", "red", "--mtu-bytes", "1400")
        wait_for(1)
        audit.unlink()
        audit.mkdir()
        for size in (1401, 1402, 1403):
            host.ctl("instance", "update", "red", "--mtu-bytes", size)
        lab.wait(lambda: host.agent_said().count("[IVDS-A012]") >= 1, 10, "the agent does not say that its log fails")
        lab.wait(lambda: "1403" in host.ctl("--json", "instance", "get", "red"), 10, "the change is not in force")
        audit.rmdir()
        # What waits may be written after the folder went; the sum is what counts.
        host.ctl("instance", "update", "red", "--mtu-bytes", "1404")
        lab.wait(lambda: sum(1 + each["lost"] for each in lines()) == 4, 10, "four changes, written or counted as lost")
        check(any(each["lost"] for each in lines()), f"{lines()}")
        check_equal(host.stop_agent(), 0, "exit code")


@case("a certificate of an unknown authority, of another host, of no role, of two, or none at all is refused, with what "
      "to do; and without the agent nothing else answers for it [R142][R160]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as elsewhere:
        _, host, fabric = one_host(lab, folder)
        good, stranger = fabric.ca, Authority(elsewhere, "stranger")
        mallory = stranger.issue("mallory", "URI:urn:ivds:role:administer")
        check_equal(fabric.ctl("a", good.words("administer"), "status").returncode, 0, "the right certificate")
        # Whose certificate the agent does not know, and who does not know the agent's.
        refused(fabric.ctl("a", ["--ca", good.cert(), *mallory[2:]], "status"), "IVDS-U013", "--listen-ca")
        refused(fabric.ctl("a", ["--ca", stranger.cert(), *good.words("administer")[2:]], "status"), "IVDS-U013", "--ca")
        for name, alternatives, text in (
                ("none", (), "its certificate names no role"),
                ("king", ("URI:urn:ivds:role:king",), "urn:ivds:role:king, which is no role"),
                ("both", ("URI:urn:ivds:role:read", "URI:urn:ivds:role:administer"), "more than one role"),
                ("words", ("DNS:urn.ivds.role.administer", "email:urn:ivds:role:administer@x"), "names no role")):
            refused(fabric.ctl("a", good.issue(name, *alternatives), "status"), "IVDS-A011", text, "URI:urn:ivds:role:read")
        # The agent's certificate names another address.
        host.stop_agent()
        good.issue("a", "IP:10.9.0.99")
        host.start_agent(*fabric.listen(host))
        refused(fabric.ctl("a", good.words("administer"), "status"), "IVDS-U013", "name this host")
        # Neither plain text nor TLS without a certificate gets an answer.
        with fabric.center.within():
            plain = socket.create_connection(("10.9.0.11", PORT), timeout=10)
        plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0")
        try:
            answer = plain.recv(4096)
        except ConnectionError:
            answer = b""
        check(not answer.startswith(b"\0\0"), f"HTTP/2 without TLS: {answer!r}")
        plain.close()
        refused(fabric.ctl("a", ["--ca", good.cert()], "status"), "IVDS-U018")
        refused(host.ctl(*good.words("read"), "status", check=False), "IVDS-U018", "--address")
        refused(fabric.ctl("a", ["--ca", good.cert(), "--cert", good.folder / "nothing", "--key", good.key()], "status"),
                "IVDS-U018", "nothing")
        # The pins of the host that asks do not stand in for another's.
        host.stop_agent()
        done = host.run("ivds-ctl", "--address", fabric.address["a"], *good.words("read"), "status", check=False)
        refused(done, "IVDS-U013")
        check_equal((done.returncode, done.stdout), (7, ""), "status of a host whose agent is away")

        # What is wrong with the files is said at the start.
        def start(*options):
            try:
                host.start_agent(*options)
            except LabError as error:
                return str(error)
            return "it started"

        right = fabric.listen(host)
        for options, ident in ((right[:2], "IVDS-A014"), ([*right[:5], good.key("read"), *right[6:]], "IVDS-A014"),
                               ([*right[:3], good.key("a"), *right[4:]], "IVDS-A014"),
                               ([*right[:7], good.key("a")], "IVDS-A014"),
                               ([*right[:7], good.folder / "nothing"], "IVDS-A005"),
                               (["--listen", "a:1", *right[2:]], "IVDS-A008")):
            check(f"[{ident}]" in start(*options), f"{options}: {start(*options)}")
        with host.within():
            taken = socket.create_server(("10.9.0.11", PORT))
        said = start(*right)
        check("cannot listen on 10.9.0.11:7443 [IVDS-A015]" in said, f"a taken port: {said}")
        taken.close()


@case("certificates that are put in others' place are taken up by who connects from then on, while calls go on; what cannot "
      "be used changes nothing, and doctor says so [R142][R160]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as elsewhere:
        _, host, fabric = one_host(lab, folder)
        good, renewed = fabric.ca, Authority(elsewhere)
        renewed.issue("a", "IP:10.9.0.11")
        new = renewed.issue("administer", "URI:urn:ivds:role:administer")

        def put(*files):
            for file in files:
                shutil.copy(file, f"{folder}/new")
                os.replace(f"{folder}/new", f"{folder}/{file.name}")

        def told():
            return [each["text"] for each in json.loads(host.ctl("--json", "doctor", check=False).stdout)["findings"]
                    if each["id"] == "IVDS-A024"]

        def passes(words):
            return fabric.ctl("a", words, "status").returncode == 0

        said = pathlib.Path(folder, "events")
        with open(said, "w", encoding="utf-8") as log:
            follower = fabric.center.start("ivds-ctl", "--address", fabric.address["a"], *good.words("administer"), "events",
                                           "--follow", stdout=log)
        old = {name: (good.folder / name).read_bytes() for name in ("ca.pem", "administer.pem", "administer.key")}
        kept = pathlib.Path(elsewhere, "kept")
        kept.mkdir()
        for name, data in old.items():
            (kept / name).write_bytes(data)
        before = ["--ca", kept / "ca.pem", "--cert", kept / "administer.pem", "--key", kept / "administer.key"]
        check(passes(before) and not passes(new) and not told(), "who may connect at first")
        # A certificate without its key, then a file that is none.
        put(renewed.cert("a"))
        lab.wait(told, 10, "doctor does not tell of the key that is not the certificate's")
        check("not the key of the certificate" in told()[0], f"{told()}")
        (good.folder / "a.pem").write_text("nothing\n", encoding="ascii")
        lab.wait(lambda: "no certificate" in told()[0], 10, lambda: f"{told()}")
        check(passes(before) and not passes(new), "who may connect while the files cannot be used")
        check("[IVDS-A014]" in host.agent_said() and "IVDS-A024" in host.agent_said(), "the agent's log")
        put(renewed.cert("a"), renewed.key("a"), renewed.cert())
        lab.wait(lambda: passes(new), 10, "who has a certificate of the new authority cannot connect")
        check_equal(told(), [], "what doctor tells of files that are right again")
        refused(fabric.ctl("a", before, "status"), "IVDS-U013")
        # It was connected all the time.
        host.ctl("uplink", "create", "uplink", "--netdev", "wire0")
        lab.wait(lambda: "applied" in said.read_text(encoding="utf-8"), 10, lambda: f"events: {said.read_text()}")
        check_equal(follower.poll(), None, "exit code of who follows events")


@case("ivds-ctl fabric asks the registry for hosts that its file does not have, or has without an address, and tells which "
      "it cannot reach [R142][R157][R79]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
        scene, etcd, ca = Scene(lab, {"red": {}}), Etcd(lab), Authority(folder)
        a, b = hosts = scene.two_hosts()
        words = ca.issue("operate", "URI:urn:ivds:role:operate")

        def start_agent(host, listen, *more):
            host.start_agent("--registry", "etcd", "--etcd", ETCD, "--host-name", host.name, "--listen", f"{listen}:{PORT}",
                             "--listen-cert", ca.cert(host.name), "--listen-key", ca.key(host.name), "--listen-ca", ca.cert(),
                             *more)

        for number, host in enumerate(hosts, 11):
            etcd.connect(host, number)
            ca.issue(host.name, f"IP:10.9.0.{number}")
        start_agent(a, "10.9.0.11")
        start_agent(b, "0.0.0.0")
        for host in hosts:
            host.ctl("uplink", "create", "uplink", "--netdev", "wire0")
        listed = lambda: [(each["name"], each["address"], each["self"])  # noqa: E731
                          for each in json.loads(a.ctl("--json", "host", "list", check=False).stdout or "{}").get("hosts", [])]
        lab.wait(lambda: listed() == [("a", "10.9.0.11:7443", True), ("b", "", False)], 60, lambda: f"hosts: {listed()}")
        members = [{"host": name, "uplink": "uplink", "vlan": 100} for name in "ab"]
        intent = {"networks": [{"name": "red", "vvlan": 10, "members": members}]}

        def run(*line, place=a, want=None, options=()):
            return place.run("ivds-ctl", *options, *words, "fabric", *line, "-f", "-", check=False,
                             stdin=json.dumps(want or intent))

        refused(run("create"), "IVDS-U043", "host b", "none in the registry", "--advertise")
        refused(run("create", want={"networks": [{"name": "red", "vvlan": 10, "members": members[:1] + [
            {"host": "c", "uplink": "uplink", "vlan": 100}]}]}), "IVDS-U043", "host c", "is not in the registry")
        b.stop_agent()
        start_agent(b, "0.0.0.0", "--advertise", f"10.9.0.12:{PORT}")
        lab.wait(lambda: listed()[1][1] == f"10.9.0.12:{PORT}", 60, lambda: f"hosts: {listed()}")
        says(run("create"), 0, "a: network red: created", "b: network red: created")
        says(run("diff", want={**intent, "hosts": [{"name": "a"}, {"name": "b"}]}), 0, "no differences")
        says(run("diff", want={**intent, "hosts": [{"name": "b"}, {"name": "a", "address": f"10.9.0.11:{PORT}"}]}), 0,
             "no differences")
        # From elsewhere, by any of the hosts; where no host is asked for, there is nobody to name.
        far = ("--address", f"10.9.0.12:{PORT}")
        says(run("diff", place=etcd.place, options=far), 0, "no differences")
        refused(run("diff", place=etcd.place, options=far, want={**intent, "hosts": [
            {"name": name, "address": f"10.9.0.1{number}:{PORT}"} for number, name in enumerate("ab", 1)]}), "IVDS-U040")
        says(run("drain", "b"), 0, "b: network red: deleted", "a: network red: there")
        says(run("delete", "red"), 0, "a: network red: deleted", "b: network red: absent")
        b.stop_agent()
        for options, text in ((("--advertise", "0.0.0.0:7443"), "others can connect to"),
                              (("--advertise", "b"), "no HOST:PORT"), (("--advertise", "b:"), "no HOST:PORT")):
            try:
                start_agent(b, "0.0.0.0", *options)
                check(False, f"it started with {options}")
            except LabError as error:
                check("[IVDS-A025]" in str(error) and text in str(error), str(error))


@case("the control center of the examples makes, compares and removes a network on two hosts over TLS [R142][R157]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
        scene = Scene(lab, {"red": {}})
        hosts = scene.two_hosts()
        scene.vm("a", "red", 1)
        scene.vm("b", "red", 2)
        fabric = Fabric(lab, folder, hosts)
        wanted = {"name": "red", "tenant": "acme", "vvlan": 10, "hosts": {
            "a": {"netdev": "wire0", "vlan": 100, "vms": {"red-1": {"netdev": "red-1", "vmac": mac(1)}}},
            "b": {"netdev": "wire0", "vlan": 200, "vms": {"red-2": {"netdev": "red-2", "vmac": mac(2)}}}}}
        file = pathlib.Path(folder) / "red.json"
        file.write_text(json.dumps(wanted), encoding="ascii")

        def run(role, *words):
            pairs = [word for name, address in fabric.address.items() for word in ("--host", f"{name}={address}")]
            return fabric.center.run("/usr/bin/python3", TOP / "scripts/examples/control_center.py", *pairs,
                                     *fabric.ca.words(role), *words, check=False)

        check_equal(run("read", "diff", file).returncode, 1, "exit code of diff before")
        denied = run("operate", "create", file)
        check(denied.returncode == 1 and "IVDS-A011" in denied.stderr, f"{denied.stderr}")
        check_equal(run("administer", "create", file).returncode, 0, "create")
        lab.wait(lambda: all(port["up"] for name in "ab" for port in scene.ports(name).values()), 10, "ports are down")
        scene.check_pings()
        done = run("read", "diff", file)
        check_equal((done.returncode, done.stdout.strip()), (0, "no differences"), "diff")
        check_equal(len(run("read", "list").stdout.splitlines()), 2, "list")
        check_equal(run("administer", "remove", file).returncode, 0, "remove")


def two_bare_hosts(lab, folder):
    """Two hosts with an uplink each, and a VM each that no vPort is for yet."""
    scene = Scene(lab, {"red": {}})
    hosts = scene.two_hosts()
    scene.vm("a", "red", 1)
    scene.vm("b", "red", 2)
    fabric = Fabric(lab, folder, hosts)
    for host in hosts:
        host.ctl("uplink", "create", "uplink", "--netdev", "wire0")
    return scene, hosts, fabric


def join_red(scene, hosts):
    """Gives the VMs their vPorts in network red, where they then reach each other."""
    for number, host in enumerate(hosts, 1):
        host.ctl("vnic", "create", f"red-{number}-nic", "--vmac", mac(number))
        host.ctl("vport", "create", f"red-{number}", "--instance", "red", "--netdev", f"red-{number}", "--vnic",
                 f"red-{number}-nic")
    scene.lab.wait(lambda: all(port["up"] for name in "ab" for port in scene.ports(name).values()), 10, "ports are down")
    scene.check_pings()


def says(done, code, *lines):
    check_equal((done.returncode, done.stdout.splitlines()), (code, list(lines)), f"said: {done.stderr}")


@case("ivds-ctl fabric makes a network on two hosts with different VLANs, on all or on none, tells where one differs, and "
      "leaves alone what is a host's own [R142][R157][R160]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
        scene, hosts, fabric = two_bare_hosts(lab, folder)
        intent = {"hosts": [{"name": name, "address": address} for name, address in fabric.address.items()],
                  "networks": [{"name": "red", "tenant": "acme", "vvlan": 10, "members": [
                      {"host": "a", "uplink": "uplink", "vlan": 100}, {"host": "b", "uplink": "uplink", "vlan": 200}]}]}

        def run(*words, role="operate", want=None):
            text = json.dumps(want or intent)
            return fabric.center.run("ivds-ctl", *fabric.ca.words(role), "fabric", *words, "-f", "-", stdin=text, check=False)

        says(run("diff", role="read"), 1, "a: network red: missing", "b: network red: missing")
        # What it would do, before anything is there; the JSON is that of each step.
        nothing = "dry run: nothing was changed"
        says(run("create", "--dry-run", role="read"), 0, "a: network red: create", "b: network red: create", nothing)
        said = fabric.center.run("ivds-ctl", "--json", *fabric.ca.words("read"), "fabric", "create", "--dry-run", "-f", "-",
                                 stdin=json.dumps(intent)).stdout
        check_equal([(each["host"], each["object"], each["what"], each["text"]) for each in map(json.loads, said.splitlines())],
                    [("a", "network red", "create", ""), ("b", "network red", "create", "")], "a dry run in JSON")
        says(run("delete", "red", "--dry-run", role="read"), 0, "a: network red: absent", "b: network red: absent", nothing)
        refused(run("create", role="read"), "IVDS-A011", "host a: ")
        # The second host refuses: the first one has nothing either.
        broken = json.loads(json.dumps(intent))
        broken["networks"][0]["members"][1]["uplink"] = "nowhere"
        done = run("create", want=broken)
        check(done.returncode != 0 and "host b: " in done.stderr, f"{done.stderr}")
        for host in hosts:
            check_equal(host.ctl_json("instance", "list")["objects"], [], f"instances of {host.name}")
        says(run("create"), 0, "a: network red: created", "b: network red: created")
        says(run("create"), 0, "a: network red: there", "b: network red: there")
        says(run("diff", role="read"), 0, "no differences")
        join_red(scene, hosts)
        listed = [json.loads(line) for line in fabric.center.run(
            "ivds-ctl", "--json", *fabric.ca.words("read"), "fabric", "list", "-f", "-", stdin=json.dumps(intent)).stdout.splitlines()]
        check_equal([(each["host"], each["instance"]["name"], each["instance"]["vlan"], each["instance"]["vports"])
                     for each in listed], [("a", "red", 100, 1), ("b", "red", 200, 1)], "list")

        # What a host has of its own is no difference; what the file says and somebody changed is.
        hosts[0].ctl("instance", "update", "red", "--mtu-bytes", "1400")
        says(run("diff"), 0, "no differences")
        hosts[1].ctl("instance", "update", "red", "--tenant", "other")
        says(run("diff"), 1, "b: network red: differs: tenant: other, wanted tenant: acme")
        says(run("create", "--dry-run"), 0, "a: network red: there",
             "b: network red: update: tenant: other, wanted tenant: acme", nothing)
        # It foretells a refusal, and which vPorts are the reason.
        says(run("delete", "red", "--dry-run"), 1, "a: network red: in use: red-1", "b: network red: in use: red-2",
             "dry run: it would be refused")
        # A change that one host refuses is on none: another tenant on a, a VLAN on b that there is not.
        both = json.loads(json.dumps(intent))
        both["networks"][0].update(tenant="emca")
        both["networks"][0]["members"][1]["vlan"] = 4095
        done = run("create", want=both)
        check(done.returncode != 0 and "host a: " in done.stderr and "IVDS-M0" in done.stderr, f"{done.stderr}")
        both["networks"][0]["members"][1].update(vlan=300, uplink="nowhere")
        done = run("create", want=both)
        check(done.returncode != 0 and "host b: " in done.stderr and "nowhere" in done.stderr, f"{done.stderr}")
        check_equal([hosts[n].ctl_json("instance", "get", "red")["instance"]["vlan"] for n in (0, 1)], [100, 200], "VLANs")
        check_equal([hosts[n].ctl_json("instance", "get", "red")["instance"]["tenant"] for n in (0, 1)], ["acme", "other"],
                    "the tenants after it")
        says(run("create"), 0, "a: network red: there", "b: network red: updated")
        check_equal(hosts[0].ctl_json("instance", "get", "red")["instance"]["mtu_bytes"], 1400, "a's own MTU")
        scene.check_pings()

        # With a host away nothing is begun; the list has the others.
        hosts[1].stop_agent()
        both["networks"][0]["members"][1]["vlan"] = 200
        refused(run("create", want=both), "IVDS-U013", "host b: ")
        check_equal(hosts[0].ctl_json("instance", "get", "red")["instance"]["tenant"], "acme", "the tenant on a")
        done = run("list")
        check(done.returncode == 7 and "red" in done.stdout and "host b: " in done.stderr, f"{done.stdout}{done.stderr}")
        for want, text in (({"hosts": [{"address": "a:1"}]}, "a host without a name"), ({**intent, "hosts": intent["hosts"][:1]}, "is on host b"),
                           ({**intent, "hosts": intent["hosts"] * 2}, "host a is there twice"),
                           ({**intent, "networks": [{"name": "red"}]}, "has no members"), ({"nets": []}, "nets")):
            done = run("diff", want=want)
            check(done.returncode == 2 and text in done.stderr, f"{want}: {done.stderr}")


@case("ivds-ctl fabric brings a network to one VLAN under its VMs' connections and back, takes a host out of what it no longer "
      "uses, and deletes a network from all hosts or from none [R156][R159][R160]")
def _(bench):
    with bench.lab() as lab, tempfile.TemporaryDirectory() as folder:
        scene, hosts, fabric = two_bare_hosts(lab, folder)
        members = [{"host": "a", "uplink": "uplink", "vlan": 100}, {"host": "b", "uplink": "uplink", "vlan": 200}]
        intent = {"hosts": [{"name": name, "address": address} for name, address in fabric.address.items()],
                  "networks": [{"name": "red", "vvlan": 10, "members": members},
                               {"name": "blue", "vvlan": 20, "members": members},
                               {"name": "green", "vvlan": 10, "members": [{"host": "a", "uplink": "uplink", "vlan": 300}]}]}

        def run(*words, want=None):
            return fabric.center.run("ivds-ctl", *fabric.ca.words("operate"), "fabric", *words, "-f", "-",
                                     stdin=want or json.dumps(intent), check=False)

        def vlans(network):
            got = [host.ctl_json("instance", "get", network)["instance"] for host in hosts]
            return [(each["vlan"], each.get("peer_vlans", []), each.get("draining", False)) for each in got]

        check_equal(run("create").returncode, 0, "create")
        join_red(scene, hosts)
        with scene.vms["red-2"].within():
            server = socket.create_server(("0.0.0.0", 80))
        with scene.vms["red-1"].within():
            client = socket.create_connection((scene.vms["red-2"].address, 80), 3)
        there, _ = server.accept()
        for end in (client, there):
            end.settimeout(10)

        def talks(what):
            client.sendall(what)
            check_equal(there.recv(100), what, "what came by the connection")

        talks(b"two VLANs")
        one = run("normalize", "red")
        check_equal(one.returncode, 0, one.stderr)
        says(run("diff", "red", want=one.stdout), 1, "a: network red: differs: peer_vlans: [200], wanted no peer_vlans",
             "b: network red: differs: vlan: 200, wanted vlan: 100",
             "b: network red: differs: peer_vlans: [100], wanted no peer_vlans")
        says(run("create", "red", want=one.stdout), 0, "a: network red: updated", "b: network red: updated")
        check_equal(vlans("red"), [(100, [], False), (100, [], False)], "one VLAN")
        talks(b"one VLAN")
        scene.check_pings()
        says(run("create", "red", want=one.stdout), 0, "a: network red: there", "b: network red: there")
        # Another is the choice of who asks, and is refused where the V.VLAN is another network's.
        check_equal(run("normalize", "red", "--vlan", "400").stdout.count("vlan: 400"), 2, "members in VLAN 400")
        refused(run("normalize", "red", "--vlan", "300"), "IVDS-U042", "green", "V.VLAN 10")
        # Also where that is on another host: on the wire the two would be one.
        apart = json.loads(json.dumps(intent))
        apart["networks"] = [{"name": "red", "vvlan": 10, "members": members[:1]},
                             {"name": "pink", "vvlan": 10, "members": members[1:]}]
        refused(run("normalize", "red", "--vlan", "200", want=json.dumps(apart)), "IVDS-U042", "pink", "V.VLAN 10")
        apart["networks"][0]["members"] = [{**members[0], "vlan": 200}]
        before = [host.ctl("export") for host in hosts]
        for words in (("create",), ("create", "red"), ("create", "pink", "--dry-run"), ("diff",)):
            refused(run(*words, want=json.dumps(apart)), "IVDS-U042", "red", "pink", "V.VLAN 10 in VLAN 200")
        # A dry run says what is wrong with the file, as the hosts would.
        for change, ident in (({"vlan": 4095}, "IVDS-M003"), ({"uplink": "nowhere"}, "IVDS-M027")):
            wrong = json.loads(json.dumps(intent))
            wrong["networks"][0]["members"][1].update(change)
            refused(run("create", "red", "--dry-run", want=json.dumps(wrong)), ident)
        check_equal([host.ctl("export") for host in hosts], before, "the hosts after refusals")
        # A host that refuses in the middle: all have what they had, and forward.
        hosts[1].ctl("instance", "create", "mine", "--uplink", "uplink", "--vlan", "200", "--vvlan", "10")
        done = run("create", "red")
        check(done.returncode != 0 and "host b: " in done.stderr and "mine" in done.stderr, done.stderr)
        check_equal(vlans("red"), [(100, [], False), (100, [], False)], "VLANs after a refusal")
        talks(b"after a refusal")
        hosts[1].ctl("instance", "delete", "mine")
        says(run("create", "red"), 0, "a: network red: updated", "b: network red: updated")
        check_equal(vlans("red"), [(100, [200], False), (200, [100], False)], "VLANs taken back")
        talks(b"two VLANs again")

        says(run("drain", "b"), 1, "b: network red: in use: red-2", "b: network blue: deleted", "a: network blue: updated")
        check_equal(hosts[0].ctl_json("instance", "get", "blue")["instance"].get("peer_vlans", []), [], "blue's peers on a")
        talks(b"in use")
        says(run("drain", "b", "--dry-run"), 1, "b: network red: in use: red-2", "b: network blue: absent", "a: network blue: there",
             "dry run: nothing was changed")
        refused(run("delete", "red"), "IVDS-M007", "host a: ")
        check_equal(vlans("red"), [(100, [200], False), (200, [100], False)], "red after a refusal")
        # Of two vPorts one is of a VM that moved: that one is in nobody's way.
        hosts[1].ctl("vport", "create", "gone", "--instance", "red", "--netdev", "gone")
        hosts[1].apply(re.sub(r"(?m)^( *)- name: gone$", r"\1- name: gone\n\1  state: moved\n\1  peer_host: a",
                              hosts[1].ctl("export")))
        says(run("drain", "b"), 1, "b: network red: in use: red-2, gone (moved to host a)", "b: network blue: absent",
             "a: network blue: there")
        hosts[1].ctl("vport", "delete", "red-2")
        before = hosts[1].ctl("export")
        says(run("drain", "b", "--dry-run"), 0, "b: vport gone: delete", "b: network red: delete",
             "a: network red: update: peer_vlans: [200], wanted no peer_vlans", "b: network blue: absent", "a: network blue: there",
             "dry run: nothing was changed")
        check_equal(hosts[1].ctl("export"), before, "b after a dry run")
        says(run("drain", "b"), 0, "b: vport gone: deleted", "b: network red: deleted", "a: network red: updated",
             "b: network blue: absent", "a: network blue: there")
        says(run("delete", "green"), 0, "a: network green: deleted")
        says(run("delete", "green"), 0, "a: network green: absent")
        refused(run("drain", "c"), "IVDS-U041", "no host c")

        # Sets and profiles of the file are the same on all hosts, before the networks whose rules name them.
        shared = {"hosts": intent["hosts"], "sets": [{"name": "bad", "addresses": ["192.0.2.0/24"]}],
                  "profiles": [{"name": "web", "rules": [{"name": "no", "direction": "in", "dst_set": "bad", "action": "drop"}]}]}

        def share(code, *lines):
            says(run("create", want=json.dumps(shared)), code, *lines)

        share(0, *[f"{host}: {what}: created" for what in ("set bad", "profile web") for host in "ab"])
        share(0, *[f"{host}: {what}: there" for what in ("set bad", "profile web") for host in "ab"])
        hosts[1].ctl("set", "update", "bad", "--addresses", "198.51.100.1")
        says(run("diff", want=json.dumps(shared)), 1,
             'b: set bad: differs: addresses: ["198.51.100.1"], wanted addresses: ["192.0.2.0/24"]')
        shared["sets"][0]["addresses"] = ["192.0.2.0/24", "2001:db8::/32"]
        shared["profiles"][0]["rules"][0]["dst_set"] = "nowhere"
        done = run("create", want=json.dumps(shared))
        check(done.returncode != 0 and "host a: " in done.stderr and "nowhere" in done.stderr, done.stderr)
        check_equal([host.ctl_json("set", "get", "bad")["set"]["addresses"] for host in hosts],
                    [["192.0.2.0/24"], ["198.51.100.1"]], "the sets after a refusal")
        shared["profiles"][0]["rules"][0]["dst_set"] = "bad"
        share(0, "a: set bad: updated", "b: set bad: updated", "a: profile web: there", "b: profile web: there")


main()
