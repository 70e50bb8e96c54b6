# SPDX-License-Identifier: Apache-2.0
"""etcd.py -- a real etcd for tests, agents that keep their registry there, and what they say of it."""
import json
import signal
import tempfile

ETCD = "10.9.0.1:2379"
LEASE_S = 10


class Etcd:
    """A real etcd, reached by all hosts over a network of its own. With an authority it speaks TLS alone, to clients
    that have a certificate of it."""

    def __init__(self, lab, authority=None):
        self.lab, self.place, self.authority, self.login = lab, lab.place("etcd"), authority, []
        self.url = f"{'https' if authority else 'http'}://{ETCD}"
        if authority:
            self.trust(authority)
        self.data = tempfile.TemporaryDirectory()
        self.place.ip("link add mgmt type bridge", "link set mgmt up", "addr add 10.9.0.1/24 dev mgmt")
        self.process = None
        self.start()

    def trust(self, authority):
        """Of that one are its own certificate and its clients', from its next start on."""
        self.authority = authority
        authority.issue("etcd", "IP:10.9.0.1")
        authority.issue("etcdctl")

    def connect(self, host, number):
        self.lab.cable(host, "mgmt0", self.place, f"mgmt-{host.name}", 1500)
        self.place.ip(f"link set mgmt-{host.name} master mgmt")
        host.ip(f"addr add 10.9.0.{number}/24 dev mgmt0")

    def start(self, *more):
        secure = []
        if self.authority:
            secure = ["--cert-file", self.authority.cert("etcd"), "--key-file", self.authority.key("etcd"),
                      "--client-cert-auth", "--trusted-ca-file", self.authority.cert()]
        self.process = self.place.start(
            "etcd", "--data-dir", self.data.name, "--listen-client-urls", self.url, "--advertise-client-urls", self.url,
            "--listen-peer-urls", "http://127.0.0.1:2380", *secure, *more, stdout=-3, stderr=-3)
        self.lab.wait(lambda: self.ctl("endpoint", "health", check=False).returncode == 0, 60, "etcd does not answer")

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait(30)
        self.place.processes.remove(self.process)

    def wipe(self):
        """Stops it, and it has nothing when it starts again."""
        self.stop()
        self.data.cleanup()
        self.data = tempfile.TemporaryDirectory()

    def ctl(self, *words, **options):
        secure = []
        if self.authority:
            secure = ["--cacert", self.authority.cert(), "--cert", self.authority.cert("etcdctl"), "--key",
                      self.authority.key("etcdctl")]
        return self.place.run("env", "ETCDCTL_API=3", "etcdctl", "--endpoints", self.url, *secure, *self.login, *words,
                              **options)

    def ask_for_users(self, **passwords):
        """From now on etcd knows these alone, who have all below /ivds/, and root."""
        for user, password in {"root": "secret", **passwords}.items():
            self.ctl("user", "add", f"{user}:{password}")
        self.ctl("role", "add", "ivds")
        self.ctl("role", "grant-permission", "ivds", "--prefix=true", "readwrite", "/ivds/")
        for user in passwords:
            self.ctl("user", "grant-role", user, "ivds")
        self.ctl("user", "grant-role", "root", "root")
        self.ctl("auth", "enable")
        self.login = ["--user", "root:secret"]

    def keys(self, prefix="/ivds/"):
        """What is there, as etcdctl reads it: {key: value}."""
        lines = self.ctl("get", "--prefix", prefix).stdout.splitlines()
        return dict(zip(lines[::2], lines[1::2]))

    def revision(self):
        return json.loads(self.ctl("endpoint", "status", "-w", "json").stdout)[0]["Status"]["header"]["revision"]


def start(host, lease_s=LEASE_S, name=None):
    host.start_agent("--registry", "etcd", "--etcd", ETCD, "--host-name", name or host.name, "--lease-s", lease_s)


def remote(scene, host):
    """Static entries behind the uplink."""
    return sum(1 for entry in scene.hosts[host].ctl_json_lines("fdb", "show")
               if entry.get("static") and entry["port"] == "uplink")


def findings(scene, host, ident):
    report = json.loads(scene.hosts[host].ctl("--json", "doctor", check=False).stdout)
    return [finding for finding in report.get("findings", []) if finding["id"] == ident]


def says(scene, host, text):
    """Whether the registry's state on the host has this text."""
    return any(text in finding["text"] for finding in findings(scene, host, "IVDS-R007"))
