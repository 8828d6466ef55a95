"""exec, attach, run and port-forward in every protocol, through the remote API server into pods of a real kubelet."""

import pytest

from support import access, raw_streams
from support.clusters import Cluster
from support.stream_tests import Resources, StreamTests, Way
from support.waiting import wait_for

pytestmark = pytest.mark.needs_remote


@pytest.fixture(scope="module")
def agent(agents, bed, kubeconfig, remote_kubeconfig):
    options = {"remote_kubeconfig": remote_kubeconfig, "capacity": "cpu=64,memory=256Gi"}
    return agents.make(bed, "streams-kubernetes", kubeconfig=kubeconfig, **options).start().wait_ready()


@pytest.fixture(scope="module")
def remote(bed):
    return Cluster(bed.remote, access.TENANT)


@pytest.fixture(scope="module")
def ports():
    return {"echo": 18090, "http": 18080}


@pytest.fixture(scope="module")
def http_server():
    return lambda port: {"name": "http", "image": "k8sgpu.test/agnhost:1", "args": ["netexec", f"--http-port={port}", "--udp-port=-1"]}


class Marks:
    """A remote kubelet lets a command run on whose client has left; what must go is ours."""

    def __call__(self):
        return "mark"

    def running(self, mark):
        return True

    def wait_gone(self, mark):
        pass


@pytest.fixture(scope="module")
def marks():
    return Marks()


class TestStreams(StreamTests):
    def test_the_loss_of_the_remote_api_server_ends_sessions_and_leaves_nothing(self, bed, direct, ports, resources, remote):
        before = resources.count()
        session = raw_streams.spdy(direct.door, direct.command("sleep", "600"), ["v4.channel.k8s.io"])
        streams = raw_streams.command(session)
        forwarding = raw_streams.spdy(direct.door, direct.ports(), ["portforward.k8s.io"])
        data, error = raw_streams.forward(forwarding, ports["echo"], "1")
        data.write(b"here")
        assert data.read_until(4) == b"here"
        bed.remote.stop_component("kube-apiserver")
        try:
            assert b"Success" not in streams["error"].read_all(40)
            assert error.read_all(40) != b""
            forwarding.close()
            session.close()
            resources.wait_back_to((before[0], before[1] + 10))
        finally:
            bed.remote.start_component("kube-apiserver")
            bed.remote.wait_ready()
        wait_for(lambda: remote.pods(), 30, "the remote API server to be back")
        # A new session works, and so does the next connection of an old one.
        web = raw_streams.websocket(direct.door, direct.command("echo", "hi", stdin=False), "v4.channel.k8s.io")
        web.wait_end()
        assert web.channel(1) == b"hi\n"
