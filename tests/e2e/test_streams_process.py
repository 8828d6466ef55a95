"""exec, attach, run and port-forward in every protocol, into processes of this host."""

import os
import subprocess
from pathlib import Path

import pytest

from support import pods
from support.stream_tests import StreamTests
from support.waiting import wait_for
from testbed import binaries


@pytest.fixture(scope="module")
def agent(agents, bed, kubeconfig):
    return agents.make(bed, "streams-process", provider="process", kubeconfig=kubeconfig).start().wait_ready()


@pytest.fixture(scope="module")
def ports():
    return {"echo": 18090, "http": 18080}


@pytest.fixture(scope="module")
def http_server(bed):
    """The same web server as in the remote cluster's image."""
    agnhost = str(binaries.resolve(bed.minor, ["agnhost"])["agnhost"])
    return lambda port: {
        "name": "http",
        "image": pods.IMAGE,
        "command": [agnhost, "netexec", f"--http-port={port}", "--udp-port=-1"],
    }


class Marks:
    """Processes that were started with a word of their own."""

    def __init__(self):
        self._count = 0

    def __call__(self):
        self._count += 1
        return f"mark-{os.getpid()}-{self._count}"

    def running(self, mark):
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                if mark.encode() in path.read_bytes() and int(path.parent.name) != os.getpid():
                    found.append(path.parent.name)
            except OSError:
                continue
        return found

    def wait_gone(self, mark, timeout=20):
        describe = lambda: subprocess.run(["ps", "-o", "pid,args", "-p", ",".join(self.running(mark)) or "1"], capture_output=True, text=True).stdout  # noqa: E731
        wait_for(lambda: not self.running(mark), timeout, lambda: f"the processes of {mark} to end: {describe()}")


@pytest.fixture(scope="module")
def marks():
    return Marks()


class TestStreams(StreamTests):
    pass
