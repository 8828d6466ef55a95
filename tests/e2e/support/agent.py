"""The agent as a program on its own host: started with options, killed, asked over its ports, its log kept on failure."""

import http.client
import os
import re
import signal
import ssl
import subprocess
from pathlib import Path

from .waiting import wait_for

REPOSITORY = Path(__file__).resolve().parents[3]
NODE = "k8s.gpu"


def binary():
    return Path(os.environ.get("K8SGPU_BINARY") or REPOSITORY / "build" / "k8sgpu").resolve()


def environment(**more):
    """What a fresh service would have: nothing of this shell's kubeconfigs, proxies or options."""
    return {"PATH": os.environ["PATH"], "HOME": "/nonexistent", "LANG": "C.UTF-8", **more}


def run_to_end(bed, *arguments, timeout=20, env=None):
    """The program with arguments that it should refuse (or answer): returncode, stdout, stderr."""
    return bed.run_in_agent_ns(
        [binary(), *arguments], capture_output=True, text=True, timeout=timeout, env=environment(**(env or {})), stdin=subprocess.DEVNULL
    )


class Agent:
    """`folder` holds its state and its log. `options` are flags in place of the defaults below; a value of None leaves one out."""

    def __init__(self, bed, folder, options, node=NODE, port=10250, health_port=8081, env=None, program=None):
        self.bed = bed
        self.program = program or binary()
        self.folder = Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state = self.folder / "state"
        self.log_path = self.folder / "agent.log"
        self.node = node
        self.port = port
        self.health_port = health_port
        self.address = bed.agent_address
        self.env = env or {}
        # POD_IP and --node-ip are left alone: finding the address that faces the API server is the agent's work.
        flags = {"node-name": node, "port": port, "health-probe-bind-address": f":{health_port}", "state-dir": self.state, **options}
        self.arguments = [f"--{name}={value}" for name, value in flags.items() if value is not None]
        self.process = None

    # --- life ---

    def start(self):
        assert not self.running()
        with open(self.log_path, "a") as log:
            self.process = self.bed.popen_in_agent_ns(
                [self.program, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment(**self.env),
                start_new_session=True,
            )
        return self

    def running(self):
        return self.process is not None and self.process.poll() is None

    def stop(self, timeout=15):
        """SIGTERM, as a cluster does it. The exit code."""
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"the agent did not end within {timeout} s of SIGTERM; the end of its log:\n{self.tail()}") from None

    def kill(self):
        """SIGKILL: no time for anything."""
        if self.running():
            self.process.kill()
            self.process.wait()

    def wait_ready(self, timeout=30):
        """Until /readyz says so, and the scheduler may use the node."""

        def ready():
            assert self.running(), f"the agent ended with {self.process.returncode}; the end of its log:\n{self.tail()}"
            return self.health("/readyz")[0] == 200

        wait_for(ready, timeout, lambda: f"readyz ({self.health('/readyz?verbose')}); the end of the log:\n{self.tail()}")
        api = self.bed.local.api()

        def schedulable():
            node = api.get(f"/api/v1/nodes/{self.node}")
            taints = [taint["key"] for taint in node["spec"].get("taints", [])]
            is_ready = any(c["type"] == "Ready" and c["status"] == "True" for c in node["status"]["conditions"])
            return is_ready and not any(key.startswith("node.kubernetes.io/") for key in taints)

        wait_for(schedulable, 30, f"node {self.node} to be Ready and free of the cluster's own taints")
        return self

    # --- what it says ---

    def log(self):
        return self.log_path.read_text(errors="replace")

    def tail(self, lines=60):
        return "\n".join(self.log().splitlines()[-lines:])

    def denials(self):
        """Lines of the log in which an API server refused something for want of a permission."""
        return [
            line
            for line in self.log().splitlines()
            if re.search(r"forbidden|cannot (get|list|watch|create|update|patch|delete)", line, re.I)
        ]

    def health(self, path):
        """Status and text of the plain probe port."""
        connection = http.client.HTTPConnection(self.address, self.health_port, timeout=5)
        try:
            connection.request("GET", path)
            response = connection.getresponse()
            return response.status, response.read().decode()
        finally:
            connection.close()

    def tls(self, client=None, authority=None):
        """A context that trusts the cluster's authority and nothing else."""
        context = ssl.create_default_context(cafile=str(authority or self.bed.local.ca.certificate))
        if client:
            context.load_cert_chain(*map(str, client))
        return context

    def call(self, path, method="GET", token=None, client=None, headers=None):
        """Status, headers and body of the kubelet API, the server's certificate verified."""
        connection = http.client.HTTPSConnection(self.address, self.port, context=self.tls(client), timeout=10)
        all_headers = dict(headers or {})
        if token is not None:
            all_headers["Authorization"] = f"Bearer {token}"
        try:
            connection.request(method, path, headers=all_headers)
            response = connection.getresponse()
            return response.status, response.headers, response.read().decode()
        finally:
            connection.close()

    def certificate(self):
        """The serving certificate as ssl.getpeercert() shows it, verified against the cluster's authority."""
        connection = http.client.HTTPSConnection(self.address, self.port, context=self.tls(), timeout=5)
        try:
            connection.connect()
            return connection.sock.getpeercert()
        finally:
            connection.close()

    # --- pods of the process provider ---

    def processes_of(self, uid):
        """Pids of this host's processes that belong to a pod: its shim's children, found by their environment."""
        mark = f"K8SGPU_POD_UID={uid}".encode()
        found = set()
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes().split(b"\0"):
                    found.add(int(path.parent.name))
            except OSError:
                continue
        return found
