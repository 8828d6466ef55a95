#!/usr/bin/python3
"""Writes the hand-made seeds of the corpus: small inputs that reach every branch a decoder is known to have.

Run it after adding some; what fuzzing or a recording added beside them stays.
"""

import base64
import json
import re
import struct
import subprocess
import tempfile
import zlib
from pathlib import Path

HERE = Path(__file__).resolve().parent
CORPUS = HERE / "corpus"


def seed(target, name, content):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)


def crlf(text):
    return text.strip("\n").replace("\n", "\r\n").encode() + b"\r\n\r\n"


# HTTP ------------------------------------------------------------------------------------------------------------------------------

WEBSOCKET = """
GET {} HTTP/1.1
Host: 10.0.0.1:10250
Connection: Upgrade
Upgrade: websocket
Sec-WebSocket-Version: 13
Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==
Sec-WebSocket-Protocol: {}
"""
SPDY = """
POST {} HTTP/1.1
Host: 10.0.0.1:10250
Connection: Upgrade
Upgrade: SPDY/3.1
X-Stream-Protocol-Version: v4.channel.k8s.io
X-Stream-Protocol-Version: v3.channel.k8s.io
"""
EXEC = "/exec/default/p/main?command=sh&command=-c&command=echo+%24A%2fb&input=1&output=1&error=1&tty=0"
LOGS = "/containerLogs/default/p/main?follow=true&tailLines=5&limitBytes=100&sinceSeconds=9&timestamps=true&previous=0&stream=Stdout"


def http():
    heads = {
        "websocket": crlf(WEBSOCKET.format(EXEC, "v5.channel.k8s.io, v4.channel.k8s.io")),
        "tunnel": crlf(WEBSOCKET.format("/portForward/default/p", "SPDY/3.1+portforward.k8s.io")),
        "token": crlf(WEBSOCKET.format(EXEC, "base64url.bearer.authorization.k8s.io.dG9rZW4, base64.channel.k8s.io")),
        "old_version": crlf(WEBSOCKET.format(EXEC, "x").replace(": 13", ": 8")),
        "spdy": crlf(SPDY.format(EXEC)),
        "logs": crlf(f"GET {LOGS} HTTP/1.1\nHost: a"),
        "log_errors": crlf("GET /containerLogs/a/b/c?tailLines=-1&limitBytes=0&sinceTime=yesterday HTTP/1.0\nHost: a"),
        "ports": crlf("GET /portForward/default/p/uid?ports=80&ports=65536&ports=&port=0x1 HTTP/1.1\nHost: a"),
        "odd_path": crlf("GET /exec/%2e%2e/a%2Fb/%zz/?a=%&b;c&=d HTTP/1.1\nHost: a"),
        "folded": b"GET / HTTP/1.1\r\nA: b\r\n c\r\n\r\n",
        "bare_lf": b"GET / HTTP/1.1\nA: b\n\n",
        "answer": crlf("HTTP/1.1 101 Switching Protocols\nUpgrade: websocket\nConnection: Upgrade\n"
                       "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\nSec-WebSocket-Protocol: v5.channel.k8s.io"),
        "refusal": crlf("HTTP/1.1 403 Forbidden\nContent-Length: 9\nContent-Type: text/plain") + b"forbidden",
    }
    for name, head in heads.items():
        seed("net_http_head", name, head)
        if name in ("websocket", "tunnel", "token", "old_version", "answer", "refusal"):
            seed("net_ws_handshake", name, head)
        if name not in ("answer", "refusal", "bare_lf", "folded"):
            seed("kubelet_api_request", name, head)
    seed("kubelet_api_request", "sizes", '{"Width":80,"Height":24}{"Width":0,"Height":0}\n{"Width":65536,"Height":-1}')


# SPDY ------------------------------------------------------------------------------------------------------------------------------

def spdy_dictionary():
    source = (HERE.parent.parent / "net/spdy/header_codec.cc").read_text()
    words = re.search(r"kWords = \{(.*?)\};", source, re.S)[1]
    tail = re.search(r"kTail\w* =\s*((?:\"[^\"]*\"\s*)+);", source, re.S)
    text = b"".join(struct.pack(">I", len(w)) + w.encode() for w in re.findall(r'"([^"]*)"', words))
    return text + "".join(re.findall(r'"([^"]*)"', tail[1])).encode()


class SpdyPeer:
    def __init__(self):
        self.zlib = zlib.compressobj(zdict=spdy_dictionary())

    def block(self, pairs):
        plain = struct.pack(">I", len(pairs)) + b"".join(
            struct.pack(">I", len(part)) + part for pair in pairs for part in pair)
        return self.compressed(plain)

    def compressed(self, plain):
        return self.zlib.compress(plain) + self.zlib.flush(zlib.Z_SYNC_FLUSH)

    @staticmethod
    def control(kind, payload, flags=0):
        return struct.pack(">HHI", 0x8003, kind, flags << 24 | len(payload)) + payload

    def syn(self, stream, pairs, flags=0):
        return self.control(1, struct.pack(">IIH", stream, 0, 0) + self.block(pairs), flags)

    def reply(self, stream, pairs=()):
        return self.control(2, struct.pack(">I", stream) + self.block(pairs))


def data(stream, payload, fin=False):
    return struct.pack(">II", stream, int(fin) << 24 | len(payload)) + payload


def spdy():
    peer = SpdyPeer()
    streams = b"".join(peer.syn(1 + 2 * i, [(b"streamtype", kind)]) for i, kind in enumerate((b"error", b"stdin", b"stdout")))
    exec_session = streams + data(3, b"hello\n") + data(3, b"", fin=True) + SpdyPeer.control(6, struct.pack(">I", 1))
    peer = SpdyPeer()
    forward = b"".join(peer.syn(1 + 2 * i, [(b"port", b"80"), (b"requestid", b"0"), (b"streamtype", kind)])
                       for i, kind in enumerate((b"error", b"data")))
    forward += data(1, b"", fin=True) + data(3, b"GET / HTTP/1.0\r\n\r\n") + SpdyPeer.control(3, struct.pack(">II", 3, 5))
    answers = SpdyPeer().reply(1) + data(1, b"{}", fin=True) + SpdyPeer.control(7, struct.pack(">II", 1, 0))
    peer = SpdyPeer()
    bomb = SpdyPeer.control(1, struct.pack(">IIH", 1, 0, 0) + peer.compressed(struct.pack(">III", 1, 1, 1 << 20) + b"a" + b"x" * (1 << 20)))
    peer = SpdyPeer()
    others = (SpdyPeer.control(4, struct.pack(">III", 1, 7, 9)) + SpdyPeer.control(9, struct.pack(">II", 0, 65536)) +
              peer.syn(1, [(b"a", b"b")], flags=2) + SpdyPeer.control(8, struct.pack(">I", 1) + peer.block([(b"c", b"d\0e")])))
    inputs = {
        "exec": exec_session, "forward": forward, "answers": answers, "bomb": bomb, "others": others,
        "zero_stream": SpdyPeer().syn(0, []), "even_stream": SpdyPeer().syn(2, []), "twice": SpdyPeer().syn(1, []) * 2,
        "version_2": b"\x80\x02\x00\x01\x00\x00\x00\x00", "huge_control": b"\x80\x03\x00\x01\x00\xff\xff\xff",
        "no_dictionary": SpdyPeer.control(1, struct.pack(">IIH", 1, 0, 0) + zlib.compress(b"\0\0\0\0")),
        "many_pings": SpdyPeer.control(6, struct.pack(">I", 1)) * 200,
    }
    for name, content in inputs.items():
        seed("net_spdy", name, b"\x05" + content)
        seed("net_spdy_session", name, (b"\1" if name == "answers" else b"\0") + content)
    seed("net_spdy_headers", "pairs", struct.pack(">I", 2) + b"".join(
        struct.pack(">I", len(p)) + p for p in (b"streamtype", b"error", b"port", b"80")))
    seed("net_spdy_headers", "too_many", struct.pack(">I", 0xFFFFFFFF) + b"\0" * 64)
    seed("net_spdy_headers", "upper_case", struct.pack(">II", 1, 1) + b"A" + struct.pack(">I", 0))


def recorded():
    """What kubectl and the kubelet really sent (tests/golden)."""
    for file in sorted(HERE.parent.glob("golden/1.36/*.client")):
        head, rest = file.read_bytes().split(b"\r\n\r\n", 1)
        name = f"recorded_{file.stem}"
        seed("net_http_head", name, head + b"\r\n\r\n")
        seed("kubelet_api_request", name, head + b"\r\n\r\n")
        answer = file.with_suffix(".server").read_bytes().split(b"\r\n\r\n", 1)[1]
        if b"SPDY" in head:
            seed("net_spdy", name, b"\x05" + rest)
            seed("net_spdy_session", name, b"\0" + rest)
            seed("net_spdy_session", f"{name}_answer", b"\1" + answer)
        elif b"channel" in head:
            seed("net_ws", name, b"\6" + rest)
            seed("net_channel_session", name, (b"\6" if b"base64" in head else b"\2") + rest)


# WebSocket -------------------------------------------------------------------------------------------------------------------------

def frame(opcode, payload, masked=True, fin=True, claim=None):
    length = len(payload) if claim is None else claim
    head = bytes([(0x80 if fin else 0) | opcode])
    mask_bit = 0x80 if masked else 0
    if length < 126:
        head += bytes([mask_bit | length])
    elif length < 65536:
        head += bytes([mask_bit | 126]) + struct.pack(">H", length)
    else:
        head += bytes([mask_bit | 127]) + struct.pack(">Q", length)
    if not masked:
        return head + payload
    mask = b"\x11\x22\x33\x44"
    return head + mask + bytes(b ^ mask[i % 4] for i, b in enumerate(payload))


def websocket():
    def shapes(masked):
        def f(opcode, payload, **more):
            return frame(opcode, payload, masked=masked, **more)
        b64 = base64.b64encode
        return {
            "stdin": f(2, b"\0hello\n") + f(2, b'\4{"Width":80,"Height":24}') + f(2, b"\xff\0") + f(8, b"\x03\xe8"),
            "output": f(2, b"\1") + f(2, b"\1out") + f(2, b"\2err") + f(2, b'\3{"metadata":{},"status":"Success"}') + f(8, b"\x03\xe8bye"),
            "base64": f(1, b"0" + b64(b"hello")) + f(1, b"1" + b64(b"out")) + f(1, b"3!!"),
            "pieces": f(2, b"\0he", fin=False) + f(9, b"ping") + f(0, b"llo", fin=False) + f(0, b"") + f(10, b""),
            "long": f(2, b"\0" + b"x" * 200) + f(2, b"", claim=1 << 40),
            "no_channel": f(2, b"") + f(2, b"\x09x"),
            "bad_close": f(8, b"\x03"), "big_ping": f(9, b"x" * 126), "reserved": f(11, b""),
            "cut": f(2, b"\0hello")[:-2], "lone_rest": f(0, b"x"), "wrong_mask": frame(2, b"\0x", masked=not masked),
            "many_pings": f(9, b"x" * 100) * 100,
        }
    for masked, role in ((True, 0), (False, 1)):
        side = "server" if masked else "client"
        for name, content in shapes(masked).items():
            seed("net_ws", f"{side}_{name}", bytes([role | 6]) + content)
            protocol = 3 if name == "base64" else 2
            seed("net_channel_session", f"{side}_{name}", bytes([role + 2 * protocol]) + content)
            if name not in ("base64", "output"):
                seed("net_message_stream", f"{side}_{name}", bytes([role, 3]) + content)


# Kubernetes ------------------------------------------------------------------------------------------------------------------------

STATUS = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure", "message": "pods \"a\" is forbidden: exceeded quota",
          "reason": "Forbidden", "code": 403, "details": {"name": "a", "kind": "pods", "retryAfterSeconds": 2,
                                                          "causes": [{"reason": "ExitCode", "message": "3"}]}}
POD = {
    "apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": "train-0", "namespace": "default", "uid": "0a1b2c3d-0000-4000-8000-000000000001", "labels": {"app": "a"},
                 "annotations": {"note": "n"}, "deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30},
    "spec": {
        "nodeName": "k8s.gpu", "restartPolicy": "OnFailure", "activeDeadlineSeconds": 600, "hostname": "h", "subdomain": "s",
        "terminationGracePeriodSeconds": 5, "runtimeClassName": "nvidia", "priority": 0, "serviceAccountName": "default",
        "securityContext": {"runAsUser": 1000, "runAsGroup": 1000, "supplementalGroups": [1], "sysctls": []},
        "tolerations": [{"key": "node.kubernetes.io/not-ready", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}],
        "imagePullSecrets": [{"name": "pull"}],
        "initContainers": [{"name": "init", "image": "i", "command": ["true"], "restartPolicy": "Always"}],
        "containers": [{
            "name": "main", "image": "busybox", "command": ["sh", "-c", "echo $(A)"], "args": ["$$(A)"], "workingDir": "/tmp",
            "env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "C", "valueFrom": {"configMapKeyRef": {"name": "c", "key": "k", "optional": True}}},
                    {"name": "D", "valueFrom": {"secretKeyRef": {"name": "s", "key": "k"}}},
                    {"name": "E", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}}],
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "c"}}, {"secretRef": {"name": "s", "optional": False}}],
            "resources": {"limits": {"cpu": "500m", "memory": "1Gi", "nvidia.com/gpu": "1"}, "requests": {"cpu": "250m"}},
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "volumeMounts": [{"name": "v", "mountPath": "/v"}, {"name": "token", "mountPath": "/var/run/secrets/kubernetes.io/serviceaccount"}],
            "securityContext": {"capabilities": {"drop": ["ALL"], "add": ["NET_ADMIN"]}, "allowPrivilegeEscalation": False},
            "livenessProbe": {"exec": {"command": ["true"]}}, "lifecycle": {"preStop": {"sleep": {"seconds": 1}}},
            "terminationMessagePolicy": "FallbackToLogsOnError",
        }],
        "volumes": [{"name": "v", "configMap": {"name": "c", "items": [{"key": "k", "path": "p"}]}}, {"name": "e", "emptyDir": {}},
                    {"name": "d", "downwardAPI": {"items": [{"path": "x", "fieldRef": {"fieldPath": "metadata.name"}}]}},
                    {"name": "token", "projected": {"sources": [{"serviceAccountToken": {"path": "token"}},
                                                                {"configMap": {"name": "kube-root-ca.crt"}}, {"secret": {"name": "s"}}]}}],
    },
    "status": {"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "True"}, {"type": "k8s.gpu/Forwarded", "status": "True"}]},
}
SMALL_POD = {**POD, "metadata": {k: v for k, v in POD["metadata"].items() if not k.startswith("deletion")},
             "spec": {"nodeName": "k8s.gpu", "restartPolicy": "Never", "containers": [
                 {"name": "main", "image": "x", "command": ["sh", "-c", "echo $(A)"], "env": POD["spec"]["containers"][0]["env"][:4],
                  "envFrom": POD["spec"]["containers"][0]["envFrom"], "resources": {"limits": {"nvidia.com/gpu": "1", "cpu": "1"}}}]}}
REMOTE = {
    "metadata": {"name": "train-0-0a1b2c3d-0000-4000-8000-000000000001", "namespace": "gpu", "uid": "r-1", "resourceVersion": "7",
                 "labels": {"k8s.gpu/cluster": "11111111-2222-4333-8444-555555555555", "k8s.gpu/node": "k8s.gpu",
                            "k8s.gpu/pod-uid": "0a1b2c3d-0000-4000-8000-000000000001"},
                 "annotations": {"k8s.gpu/pod-namespace": "default", "k8s.gpu/pod-name": "train-0", "k8s.gpu/carried": "app;note"}},
    "spec": {"containers": [{"name": "main", "image": "busybox"}], "nodeName": "gpu-1"},
    "status": {"phase": "Running", "podIP": "10.1.0.7", "podIPs": [{"ip": "10.1.0.7"}], "startTime": "2026-01-01T00:00:00Z",
               "qosClass": "Burstable", "conditions": [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}],
               "initContainerStatuses": [{"name": "init", "ready": True, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}],
               "containerStatuses": [{"name": "main", "ready": False, "restartCount": 3, "image": "busybox", "containerID": "c://1",
                                      "state": {"waiting": {"reason": "CrashLoopBackOff",
                                                            "message": "back-off 10s restarting failed container=main pod=x_gpu(r-1)"}},
                                      "lastState": {"terminated": {"exitCode": 137, "signal": 9, "finishedAt": "2026-01-01T00:00:00Z"}}}]},
}


def kubernetes():
    seed("kube_watch", "pods", b"\x20" + b"".join(
        json.dumps({"type": kind, "object": obj}).encode() + b"\n" for kind, obj in (
            ("ADDED", {"metadata": {"name": "a", "resourceVersion": "1"}}), ("MODIFIED", {"metadata": {"name": "a"}}),
            ("BOOKMARK", {"metadata": {"resourceVersion": "9"}}), ("DELETED", {}), ("ERROR", STATUS))))
    seed("kube_watch", "no_event", b"\3" + b'{"type":"OTHER","object":{}}\n')
    seed("kube_watch", "blank_lines", b"\3" + b'\n\n{"type":"ADDED","object":{}}\n\n{"type":"ADD')
    seed("kube_watch", "no_object", b"\3" + b'{"type":"ADDED","object":[]}\n')
    seed("kube_status", "forbidden", json.dumps(STATUS))
    seed("kube_status", "success", '{"metadata":{},"status":"Success"}')
    seed("kube_status", "exit_code", '{"status":"Failure","reason":"NonZeroExitCode","details":{"causes":[{"reason":"ExitCode","message":"137"}]}}')
    seed("kube_status", "proxy", "<html>\n502 Bad Gateway\x01</html>")
    seed("kube_status", "deep", "[" * 3000)
    seed("pod_objects", "full", json.dumps({"pod": POD, "remote": REMOTE, "object": {"data": {"k": "dg=="}}}))
    seed("pod_objects", "process", json.dumps({"pod": SMALL_POD, "remote": REMOTE, "object": {"data": {"k": "dg=="}, "binaryData": {}}}))
    quota = {"spec": {"hard": {"requests.cpu": "4", "limits.cpu": "8", "count/pods": "10", "requests.nvidia.com/gpu": "2"}}}
    seed("pod_objects", "quota", json.dumps({"pod": {}, "remote": {"spec": {"hard": {"cpu": "1"}, "scopes": ["Terminating"]}}, "object": quota}))
    for i, text in enumerate(("100m", "1.5Gi", "2e3", "-1", "+.5", "9223372036854775807", "1n", "0.0000000001", "1E", "12345678901234567890Ei",
                              "1e-9", "0Ki", "1e+2147483647", "")):
        seed("kube_quantity", f"{i:02}", text)
    seed("kube_exec_credential", "token", json.dumps({
        "kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1",
        "status": {"token": "t", "expirationTimestamp": "2026-01-01T00:00:00Z"}}))
    seed("kube_exec_credential", "certificate", json.dumps({
        "kind": "ExecCredential", "apiVersion": "client.authentication.k8s.io/v1",
        "status": {"clientCertificateData": "-----BEGIN CERTIFICATE-----\n", "clientKeyData": "-----BEGIN PRIVATE KEY-----\n"}}))
    seed("kube_kubeconfig", "exec", """apiVersion: v1
kind: Config
current-context: c
contexts: [{name: c, context: {cluster: k, user: u, namespace: n}}]
clusters:
- name: k
  cluster: {server: "https://10.0.0.1:6443", certificate-authority-data: TFMw, tls-server-name: x, proxy-url: "http://p:1"}
users:
- name: u
  user:
    exec: {apiVersion: client.authentication.k8s.io/v1, command: aws, args: [a], env: [{name: A, value: b}], provideClusterInfo: true}
""")
    seed("kube_kubeconfig", "token", """{apiVersion: v1, kind: Config, current-context: c,
contexts: [{name: c, context: {cluster: k, user: u}}], clusters: [{name: k, cluster: {server: 'http://a', insecure-skip-tls-verify: true}}],
users: [{name: u, user: {token: t, username: n, password: p, as: x, client-certificate: c.pem, client-key-data: eA==, tokenFile: f}}]}
""")
    seed("kube_kubeconfig", "aliases", "a: &a [x, x, x, x]\nb: &b [*a, *a, *a, *a]\nc: &c [*b, *b, *b, *b]\nd: [*c, *c, *c, *c]\n")
    seed("kube_kubeconfig", "scalars", "a: [1, -0x1f, 1e9, .inf, ~, yes, 'q', \"\\x41\", 2026-01-01]\nb: |\n  text\n  more\n? k\n: v\na: twice\n")
    seed("kube_kubeconfig", "deep", "[" * 200)


# Ours ------------------------------------------------------------------------------------------------------------------------------

def process():
    stamp = "2026-01-01T00:00:0{}.000000000Z"
    lines = [f"{stamp.format(i)} {stream} {tag} text {i}" for i, (stream, tag) in enumerate(
        (("stdout", "F"), ("stderr", "F"), ("stdout", "P"), ("stderr", "P"), ("stdout", "F"), ("stderr", "F")))]
    lines += ["", "2026", stamp.format(1) + " other F x", stamp.format(1) + " stdout X y", stamp.format(1) + " stdout F", "\0" * 8]
    for choice in range(8):
        seed("process_log", f"options_{choice}", bytes([choice | 40 << 3 & 255]) + "\n".join(lines).encode())
    intent = {"version": 1, "namespace": "default", "name": "p", "uid": "u-1", "restartPolicy": "OnFailure", "graceSeconds": 30,
              "activeDeadlineSeconds": 60, "podIPs": ["10.0.0.1"], "limits": {"backoffInitialMs": 10, "logFiles": 5, "logBytes": 1000},
              "containers": [{"name": "init", "init": True, "argv": ["true"]},
                             {"name": "main", "image": "x", "argv": ["sh", "-c", "exit 3"], "environment": ["A=1"], "directory": "/",
                              "messageFromLog": True, "gpus": [0], "noNewPrivileges": True, "droppedCapabilities": [1],
                              "user": {"uid": 1000, "gid": 1000, "groups": [1]}}]}
    seed("process_state", "intent", json.dumps(intent))
    seed("process_state", "stat", "42 (a) b) (c) S 1 42 42 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 12345 1 1")
    seed("process_state", "orders", json.dumps({"version": 1, "stopGraceSeconds": 30, "activeDeadlineSeconds": 5}))
    seed("process_state", "report", json.dumps({
        "version": 1, "podStatus": REMOTE["status"], "ended": False, "removing": True, "written": "2026-01-01T00:00:00Z",
        "processes": [{"container": "main", "pid": 7, "startTime": 9, "run": 0}]}))
    seed("process_state", "cut", json.dumps(intent)[:-40])


def attach():
    def message(kind, payload=b"", claim=None):
        return struct.pack("<BI", kind, len(payload) if claim is None else claim) + payload

    agent = message(1, b"\1\7main") + message(4, struct.pack("<HH", 80, 24)) + message(2, b"hello\n") + message(3)
    shim = message(16, b"\1\1") + message(17, b"out") + message(18, b"err") + message(19, struct.pack("<I", 65536)) + message(20, b"\0bye")
    for name, content in {"agent": agent, "shim": shim, "cut": agent[:-3], "unknown": message(9, b"x"), "too_large": message(2, b"", 65537),
                          "no_name": message(1, b"\1\7"), "odd_size": message(4, b"\1"), "unknown_reason": message(20, b"\xff")}.items():
        seed("process_attach", name, content)


def common():
    for i, text in enumerate(("aGVsbG8=", "aGVsbG8", "_-8", "a%2fb+c%", "2026-02-30T00:00:00Z", "2026-01-01T23:59:60.123456789+05:30",
                              "0000-01-01T00:00:00-23:59", '{"a":[1,2.5e-7,null,"\\ud83d\\ude00"],"b":{}}', '"\\u0000\xff"', "9" * 40)):
        seed("common_encoding", f"{i:02}", text)
    seed("common_encoding", "deep", "[" * 2000 + "]" * 2000)


def pem():
    if (CORPUS / "csr_pem" / "key").exists():
        return  # another key would be another seed, and no better one
    with tempfile.TemporaryDirectory() as folder:
        def openssl(*arguments):
            subprocess.run(["openssl", *arguments], cwd=folder, check=True, capture_output=True)
        openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem")
        openssl("req", "-new", "-key", "key.pem", "-subj", "/O=system:nodes/CN=system:node:k8s.gpu", "-addext",
                "subjectAltName=DNS:k8s.gpu,IP:10.0.0.1", "-out", "request.pem")
        openssl("req", "-x509", "-key", "key.pem", "-subj", "/O=system:nodes/CN=system:node:k8s.gpu", "-days", "1", "-addext",
                "subjectAltName=DNS:k8s.gpu,IP:::1,email:a@b", "-out", "certificate.pem")
        openssl("ec", "-in", "key.pem", "-aes128", "-passout", "pass:x", "-out", "encrypted.pem")
        texts = {name: Path(folder, f"{name}.pem").read_text() for name in ("key", "request", "certificate", "encrypted")}
    for name, text in texts.items():
        seed("csr_pem", name, text)
    seed("csr_pem", "both", texts["certificate"] + texts["key"])
    seed("csr_pem", "chain", "# a comment\n" + texts["certificate"] * 2)
    seed("csr_pem", "cut", texts["certificate"][:-80])
    seed("csr_pem", "not_der", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


if __name__ == "__main__":
    for part in (http, spdy, recorded, websocket, kubernetes, process, attach, common, pem):
        part()
