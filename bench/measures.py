"""What is measured. Each measure takes one value of one side: seconds or bytes a second or bytes."""

import contextlib
import dataclasses
import http.client
import os
import re
import socket
import statistics
import subprocess
import threading
import time
from typing import Callable

import sides

MIB = 1 << 20


class Unsupported(Exception):
    """This side cannot do it; the message says why."""


@dataclasses.dataclass(frozen=True)
class Measure:
    title: str
    unit: str  # "s", "B/s" or "B"
    take: Callable = dataclasses.field(compare=False)
    once: bool = False

    def show(self, value):
        if self.unit == "s":
            return f"{value * 1000:.1f} ms" if value < 10 else f"{value:.1f} s"
        return f"{value / MIB:.0f} MiB/s" if self.unit == "B/s" else f"{value / 1024:.0f} KiB"


def run(side, *arguments, given=None, timeout=300):
    """Seconds that a kubectl took, how many bytes it printed, and the first of them."""
    started = time.monotonic()
    with subprocess.Popen(side.kubectl(*arguments), stdin=given or subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as kubectl:
        stop = threading.Timer(timeout, kubectl.kill)
        stop.start()
        count, first = 0, b""
        while piece := os.read(kubectl.stdout.fileno(), MIB):
            count, first = count + len(piece), first or piece[:64]
        said = kubectl.stderr.read().decode(errors="replace").strip()
        kubectl.wait()
        stop.cancel()
    if kubectl.returncode != 0:
        raise Unsupported(said or f"kubectl {arguments[0]}: exit code {kubectl.returncode}")
    return time.monotonic() - started, count, first


def whole_exec(count):
    return lambda side: statistics.median(run(side, "exec", side.pod, "--", "busybox", "true")[0] for _ in range(count))


def throughput(amount, once, attempts=5):
    """Bytes a second of once(side) → (seconds, bytes moved). An attempt that moved less than all does not count: on a busy machine the
    kubelet's exec may end a command's stdin early, and a part would look like great speed."""

    def take(side):
        why = "it moved less than it was given"
        for _ in range(attempts):
            try:
                took, moved = once(side)
            except Unsupported as error:
                why = error
                continue
            if moved == amount:
                return amount / took
        raise Unsupported(f"{attempts} attempts: {why}")

    return take


def exec_echo(count):
    """One line there and back through a running `exec -i cat`."""

    def take(side):
        with subprocess.Popen(side.kubectl("exec", "-i", side.pod, "--", "busybox", "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                              bufsize=0) as cat:
            times = []
            for number in range(count + 5):
                started = time.monotonic()
                cat.stdin.write(b"%d\n" % number)
                if not cat.stdout.readline():
                    raise Unsupported("the command ended")
                times.append(time.monotonic() - started)
            cat.stdin.close()
            cat.wait(20)
        return statistics.median(times[5:])

    return take


def exec_in(amount):
    def once(side):
        with subprocess.Popen(["head", "-c", str(amount), "/dev/zero"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as zeros:
            took, _, counted = run(side, "exec", "-i", side.pod, "--", "busybox", "wc", "-c", given=zeros.stdout)
            return took, int(counted or 0)

    return throughput(amount, once)


def exec_out(amount):
    def once(side):
        return run(side, "exec", side.pod, "--", "busybox", "dd", "if=/dev/zero", "bs=64k", f"count={amount // 65536}")[:2]

    return throughput(amount, once)


class ApiConnection:
    """Plain HTTPS to the side's API server, kept alive: no start of kubectl in the numbers."""

    def __init__(self, side):
        api = side.cluster.api
        self._headers = api._headers
        self._connection = http.client.HTTPSConnection(api._host, api._port, context=api._tls, timeout=120)
        self._path = f"/api/v1/namespaces/{side.cluster.namespace}/pods/{side.pod}/log"

    def log(self, query):
        self._connection.request("GET", f"{self._path}?{query}", headers=self._headers)
        response = self._connection.getresponse()
        if response.status != 200:
            raise Unsupported(f"logs: {response.status} {response.read(300)!r}")
        return response

    def close(self):
        self._connection.close()


def logs(total):
    def take(side):
        connection = ApiConnection(side)
        got = 0
        buffer = bytearray(MIB)
        started = time.monotonic()
        while got < total:
            response, size = connection.log("container=main"), 0
            while piece := response.readinto(buffer):
                size += piece
            if size != sides.LINES * sides.LINE:
                raise Unsupported(f"the log has {size} bytes, not {sides.LINES * sides.LINE}")
            got += size
        took = time.monotonic() - started
        connection.close()
        return got / took

    return take


@contextlib.contextmanager
def forwarded(side, port):
    process = subprocess.Popen(side.kubectl("port-forward", side.pod, f"0:{port}"), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        match = re.search(r"127\.0\.0\.1:(\d+)", line)
        if not match:
            raise Unsupported(process.stderr.read().strip() or "port-forward does not start")
        yield socket.create_connection(("127.0.0.1", int(match[1])), timeout=60)
    finally:
        process.kill()
        process.communicate()


def forward_out(amount):
    def take(side):
        with forwarded(side, sides.SOURCE_PORT) as connection:
            buffer, got, started = bytearray(MIB), 0, time.monotonic()
            while got < amount:
                piece = connection.recv_into(buffer)
                if piece == 0:
                    raise Unsupported("the forwarded connection ended")
                got += piece
            took = time.monotonic() - started
            connection.close()
            return got / took

    return take


def forward_echo(count):
    def take(side):
        with forwarded(side, sides.ECHO_PORT) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            times = []
            for _ in range(count + 5):
                started = time.monotonic()
                connection.sendall(b"x")
                if not connection.recv(1):
                    raise Unsupported("the forwarded connection ended")
                times.append(time.monotonic() - started)
            connection.close()
            return statistics.median(times[5:])

    return take


def resident(pid):
    """Anonymous memory of a process in bytes: what it holds itself, without the pages of its program."""
    with open(f"/proc/{pid}/status") as status:
        return int(re.search(r"^RssAnon:\s+(\d+) kB", status.read(), re.M)[1]) * 1024


def memory_per_follower(count):
    """Growth of the serving process over `count` idle followers, per follower."""

    def take(side):
        warm = [ApiConnection(side) for _ in range(3)]
        for connection in warm:
            connection.log("container=main&follow=true&tailLines=1")
        time.sleep(1)
        pid = side.server()
        before = resident(pid)
        followers = [ApiConnection(side) for _ in range(count)]
        try:
            for follower in followers:
                follower.log("container=main&follow=true&tailLines=1").readline()
            time.sleep(3)
            return max(0, resident(pid) - before) / count
        finally:
            for connection in followers + warm:
                connection.close()

    return take


def all_measures(quick):
    amount = 16 * MIB if quick else 256 * MIB
    return [
        Measure("exec: the whole of `kubectl exec POD -- true`", "s", whole_exec(2 if quick else 5)),
        Measure("exec: a line there and back", "s", exec_echo(20 if quick else 200)),
        Measure("exec: stdin", "B/s", exec_in(amount)),
        Measure("exec: stdout", "B/s", exec_out(amount)),
        Measure(f"logs: {16 if quick else 300} MB", "B/s", logs(16_000_000 if quick else 300_000_000)),
        Measure("port-forward: from the pod", "B/s", forward_out(amount)),
        Measure("port-forward: an octet there and back", "s", forward_echo(20 if quick else 200)),
        Measure("memory of an idle `logs -f`", "B", memory_per_follower(20 if quick else 100), once=True),
    ]
