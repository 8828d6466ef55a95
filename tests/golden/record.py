#!/usr/bin/python3
"""Records what a real kube-apiserver and a real kubelet say to each other for kubectl: the vectors of this folder.

    tests/golden/record.py [--minor 1.36] [--keep]

A test bed's node `recorder` has this program's address, which ends TLS and passes everything on to the kubelet of the same cluster, under
the name of a pod that runs there. Each connection becomes <minor>/<form>[-<n>].client and .server, the bytes in their order. Needs root.
"""

import argparse
import base64
import json
import os
import re
import socket
import ssl
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]
sys.dont_write_bytecode = True

from testbed import Testbed, TestbedError  # noqa: E402

PORT = 10250
IMAGE = "k8sgpu.test/busybox:1"
# The pod that the API server asks for is <name>-r on the node `recorder`; the one that runs is <name>.
TARGET = re.compile(rb"^([A-Z]+ /[A-Za-z]+/default/[a-z0-9]+)-r(?=[/? ])")


class Recorder:
    """Ends TLS towards the API server; one pair of threads per connection. `form` names what is being recorded."""

    def __init__(self, address, server_context, upstream, client_context, folder):
        self.form = None
        self._upstream, self._client_context, self._folder = upstream, client_context, folder
        self._listener = socket.create_server((address, 0))
        self.port = self._listener.getsockname()[1]
        self._server_context = server_context
        self._count = {}
        self._open = []
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while True:
            connection, _ = self._listener.accept()
            worker = threading.Thread(target=self._serve, args=(connection,), daemon=True)
            self._open.append(worker)
            worker.start()

    def _serve(self, plain):
        try:
            client = self._server_context.wrap_socket(plain, server_side=True)
        except OSError:
            return
        said = {"client": bytearray(), "server": bytearray()}
        head = b""
        while b"\r\n\r\n" not in head:
            piece = client.recv(65536)
            if not piece:
                return
            head += piece
        said["client"] += head
        form = self.form
        with self._client_context.wrap_socket(socket.create_connection(self._upstream)) as server:
            server.sendall(TARGET.sub(rb"\1", head, count=1))
            # An SSLSocket may be read by one thread and written by another, and shut down by none of them.
            pumps = [threading.Thread(target=pump, args=(a, b, said[name]), daemon=True)
                     for a, b, name in ((client, server, "client"), (server, client, "server"))]
            for thread in pumps:
                thread.start()
            for thread in pumps:
                thread.join(6)
        if form:
            self._keep(form, said)

    def _keep(self, form, said):
        number = self._count[form] = self._count.get(form, 0) + 1
        name = form if number == 1 else f"{form}-{number}"
        heads = b"\n".join(bytes(part).split(b"\r\n\r\n")[0] for part in said.values()).lower()
        if b"authorization:" in heads or b"bearer" in heads:
            raise SystemExit(f"error: {name} holds a credential; it is not kept")
        for side, content in said.items():
            (self._folder / f"{name}.{side}").write_bytes(content)
        print(f"{name}: {len(said['client'])} bytes of the client, {len(said['server'])} of the server", flush=True)

    def wait_quiet(self):
        for worker in self._open:
            worker.join(30)
        self._open.clear()


def pump(source, sink, record):
    try:
        while True:
            piece = source.recv(65536)
            if not piece:
                break
            record += piece
            sink.sendall(piece)
    except OSError:
        pass
    for end in (source, sink):
        try:
            end.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


class WebSocket:
    """The least of a client: what kubectl does not speak any more."""

    def __init__(self, cluster, context, path, protocol):
        host, port = re.match(r"https://([^:]+):(\d+)", cluster.server).groups()
        self._socket = context.wrap_socket(socket.create_connection((host, int(port))))
        key = base64.b64encode(os.urandom(16)).decode()
        self._socket.sendall(
            f"GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Protocol: {protocol}\r\n\r\n".encode()
        )
        self._socket.settimeout(2)

    def send(self, payload, opcode=2):
        mask = b"\1\2\3\4"
        head = bytes([0x80 | opcode, 0x80 | len(payload)])
        self._socket.sendall(head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload)))

    def drain(self):
        try:
            while self._socket.recv(65536):
                pass
        except OSError:
            pass
        self._socket.close()


def pod(name, node, command, container="main"):
    # 60 s of grace would only delay the end.
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name},
        "spec": {"nodeName": node, "terminationGracePeriodSeconds": 0, "automountServiceAccountToken": False,
                 "containers": [{"name": container, "image": IMAGE, "command": command, "stdin": True, "stdinOnce": True}]},
    }


WEB = "while true; do printf 'HTTP/1.0 200 OK\\r\\n\\r\\nhello' | busybox nc -l -p 8080 -w 2; done"
PODS = {"exec": ["sh", "-c", "sleep 3600"], "web": ["sh", "-c", WEB], "attach1": ["cat"], "attach2": ["cat"],
        "run1": ["cat"], "logs": ["sh", "-c", "echo one; echo two; sleep 3600"]}


class Recording:
    def __init__(self, bed, folder):
        self.bed, self.cluster, self.api = bed, bed.remote, bed.remote.api()
        address = bed.net.root_address
        address = address() if callable(address) else address
        authority = self.cluster.ca
        serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        serving.load_cert_chain(*map(str, authority.issue("recorder", "system:node:recorder", ["system:nodes"], [address], server=True)))
        self.admin = ssl.create_default_context(cafile=str(authority.certificate))
        self.admin.check_hostname = False
        self.admin.load_cert_chain(*map(str, authority.issue("recorder-admin", "admin", ["system:masters"])))
        upstream = (self.kubelet_address(), PORT)
        self.recorder = Recorder(address, serving, upstream, self.admin, folder)
        self.make_node(address)

    def kubelet_address(self):
        self.node = self.api.get("/api/v1/nodes")["items"][0]
        return next(a["address"] for a in self.node["status"]["addresses"] if a["type"] == "InternalIP")

    def make_node(self, address):
        self.api.call("POST", "/api/v1/nodes", {"metadata": {"name": "recorder"}, "spec": {"unschedulable": True}})
        self.patch_status("/api/v1/nodes/recorder", {
            "addresses": [{"type": "InternalIP", "address": address}], "daemonEndpoints": {"kubeletEndpoint": {"Port": self.recorder.port}},
            "conditions": [{"type": "Ready", "status": "True"}]})

    def patch_status(self, path, status):
        self.api.call("PATCH", path + "/status", {"status": status}, content_type="application/strategic-merge-patch+json")

    def make_pods(self):
        pods = "/api/v1/namespaces/default/pods"
        for name, command in PODS.items():
            container = f"{name}-r" if name == "run1" else "main"
            self.api.call("POST", pods, pod(name, self.node["metadata"]["name"], command, container))
            if name != "run1":
                self.api.call("POST", pods, pod(f"{name}-r", "recorder", command, container))
                self.show_running(f"{name}-r", "main")
        for name in PODS:
            deadline = time.monotonic() + 60
            while self.api.get(f"{pods}/{name}")["status"].get("phase") != "Running":
                if time.monotonic() > deadline:
                    raise SystemExit(f"error: pod {name} does not run")
                time.sleep(0.3)

    def show_running(self, name, container):
        self.patch_status(f"/api/v1/namespaces/default/pods/{name}", {
            "phase": "Running", "conditions": [{"type": "Ready", "status": "True"}], "containerStatuses": [
                {"name": container, "ready": True, "restartCount": 0, "image": IMAGE, "imageID": "", "containerID": "x://y",
                 "started": True, "state": {"running": {"startedAt": "2026-01-01T00:00:00Z"}}}]})

    def kubectl(self, *arguments, websockets, **options):
        env = {**os.environ, "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": str(websockets).lower(),
               "KUBECTL_PORT_FORWARD_WEBSOCKETS": str(websockets).lower()}
        command = [str(self.cluster.programs["kubectl"]), f"--kubeconfig={self.cluster.kubeconfig}", *arguments]
        return subprocess.Popen(command, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)

    def form(self, name, *arguments, websockets, given=b"", expected=None, terminal=False):
        self.recorder.form = name
        if terminal:
            # `script` gives kubectl a terminal of 24 lines by 80 columns.
            inner = " ".join(arguments)
            env = {**os.environ, "KUBECTL_REMOTE_COMMAND_WEBSOCKETS": str(websockets).lower()}
            command = f"stty rows 24 cols 80; {self.cluster.programs['kubectl']} --kubeconfig={self.cluster.kubeconfig} {inner}"
            process = subprocess.Popen(["script", "-qec", command, "/dev/null"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.PIPE)
        else:
            process = self.kubectl(*arguments, websockets=websockets)
        try:
            out, err = process.communicate(given, timeout=40)
        except subprocess.TimeoutExpired:
            process.kill()
            out, err = process.communicate()
        if expected is not None and expected not in out:
            print(f"warning: {name}: {out!r} {err!r}", flush=True)
        self.recorder.wait_quiet()
        self.recorder.form = None

    def forward(self, name, websockets):
        self.recorder.form = name
        process = self.kubectl("port-forward", "web-r", "0:8080", websockets=websockets)
        line = process.stdout.readline().decode()
        port = re.search(r"127\.0\.0\.1:(\d+)", line)[1]
        try:
            answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10).read()
        except OSError as error:
            answer = repr(error)
        if answer != b"hello":
            print(f"warning: {name}: {answer!r}", flush=True)
        process.terminate()
        process.wait()
        self.recorder.wait_quiet()
        self.recorder.form = None

    def run(self, name, websockets):
        self.recorder.form = name
        overrides = json.dumps({"spec": {"nodeName": "recorder", "terminationGracePeriodSeconds": 0}})
        process = self.kubectl("run", "run1-r", "-i", "--rm", f"--image={IMAGE}", "--restart=Never", f"--overrides={overrides}",
                               "--", "cat", websockets=websockets)
        deadline = time.monotonic() + 20
        while time.monotonic() < deadline:
            try:
                self.show_running("run1-r", "run1-r")
                break
            except Exception:  # not there yet
                time.sleep(0.2)
        try:
            process.communicate(b"from run\n", timeout=8)
        except subprocess.TimeoutExpired:
            process.terminate()  # it waits for the pod's end, which this node never tells
            process.communicate()
        self.recorder.wait_quiet()
        self.recorder.form = None

    def channels(self, name, path, protocol, messages, opcode=2):
        self.recorder.form = name
        client = WebSocket(self.cluster, self.admin, path, protocol)
        time.sleep(0.5)
        for message in messages:
            client.send(message, opcode)
        client.drain()
        self.recorder.wait_quiet()
        self.recorder.form = None

    def all(self):
        self.make_pods()
        for websockets, suffix in ((True, "ws"), (False, "spdy")):
            self.form(f"exec-{suffix}", "exec", "exec-r", "--", "sh", "-c", "echo out; echo err >&2; exit 3", websockets=websockets,
                      expected=b"out")
            self.form(f"exec-stdin-{suffix}", "exec", "-i", "exec-r", "--", "cat", websockets=websockets, given=b"hello\n",
                      expected=b"hello")
            self.form(f"exec-tty-{suffix}", "exec", "-it", "exec-r", "--", "sh", "-c", "'stty size; exit 0'", websockets=websockets,
                      terminal=True, expected=b"24 80")
            self.form(f"attach-{suffix}", "attach", "-i", "attach1-r" if websockets else "attach2-r", websockets=websockets,
                      given=b"to attach\n", expected=b"to attach")
            self.forward(f"port-forward-{suffix}", websockets)
        self.form("cp-ws", "cp", "exec-r:/etc/passwd", str(self.bed.folder / "passwd"), websockets=True)
        self.form("logs", "logs", "logs-r", "--tail=1", "--timestamps", websockets=True, expected=b"two")
        self.run("run-ws", True)
        exec_path = "/api/v1/namespaces/default/pods/exec-r/exec?stdin=1&stdout=1&stderr=1&command=cat"
        self.channels("channel-v4", exec_path, "v4.channel.k8s.io", [b"\0raw\n"])
        self.channels("channel-base64", exec_path, "base64.channel.k8s.io", [b"0" + base64.b64encode(b"raw\n")], opcode=1)
        self.channels("channel-port-forward", "/api/v1/namespaces/default/pods/web-r/portforward?ports=8080", "v4.channel.k8s.io",
                      [b"\0GET / HTTP/1.0\r\n\r\n"])


def main():
    arguments = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    arguments.add_argument("--minor", default="1.36")
    arguments.add_argument("--keep", action="store_true", help="leave the test bed `golden` up")
    options = arguments.parse_args()
    folder = HERE / options.minor
    folder.mkdir(exist_ok=True)
    try:
        Testbed.down("golden")
        bed = Testbed.up("golden", minor=options.minor)
        try:
            Recording(bed, folder).all()
        finally:
            if not options.keep:
                Testbed.down("golden")
    except TestbedError as error:
        sys.exit(error.explain())


if __name__ == "__main__":
    main()
