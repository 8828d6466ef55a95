"""exec, attach, run and port-forward in every protocol, for both providers. Modules inherit this with an `agent` of their own and
`ports`, what the containers listen on."""

import hashlib
import http.client
import json
import os
import re
import socket
import subprocess
import threading
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest

from . import pods, raw_streams
from .clusters import kubectl_command
from .raw_streams import Door, Refused
from .waiting import wait_for

SPDY_VERSIONS = ["v4.channel.k8s.io", "v3.channel.k8s.io", "v2.channel.k8s.io", "channel.k8s.io"]
CHANNEL_PROTOCOLS = ["v4.channel.k8s.io", "v4.base64.channel.k8s.io", "channel.k8s.io", "base64.channel.k8s.io", ""]
FORMS = pytest.mark.parametrize("websockets", ["true", "false"], ids=["websocket", "spdy"])


def environment(websockets):
    return {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": websockets, "KUBECTL_PORT_FORWARD_WEBSOCKETS": websockets, "HOME": "/nonexistent"}


class Way:
    """How a raw client gets to the pod: through the API server, or straight to port 10250."""

    def __init__(self, door, direct, pod, uid):
        self.door, self.direct, self._pod, self._uid = door, direct, pod, uid
        self.ns = pod["metadata"]["namespace"]
        self.name = pod["metadata"]["name"]

    def command(self, *words, stdin=True, stdout=True, stderr=True, tty=False, verb="exec", container="main"):
        names = ("input", "output", "error", "tty") if self.direct else ("stdin", "stdout", "stderr", "tty")
        flags = [(name, "1" if self.direct else "true") for name, on in zip(names, (stdin, stdout, stderr, tty)) if on]
        query = urlencode([("command", word) for word in words] + flags)
        if not self.direct:
            return f"/api/v1/namespaces/{self.ns}/pods/{self.name}/{verb}?container={container}&{query}"
        uid = f"/{self._uid}" if self._uid else ""
        return f"/{verb}/{self.ns}/{self.name}{uid}/{container}?{query}"

    def ports(self, *ports):
        if not self.direct:
            return f"/api/v1/namespaces/{self.ns}/pods/{self.name}/portforward" + (f"?{urlencode([('ports', p) for p in ports])}" if ports else "")
        query = "&".join(f"port={port}" for port in ports)
        return f"/portForward/{self.ns}/{self.name}" + (f"/{self._uid}" if self._uid else "") + (f"?{query}" if query else "")


class Resources:
    """Threads, descriptors and children of a process, as the kernel counts them."""

    def __init__(self, pid):
        self._folder = Path(f"/proc/{pid}")

    def count(self):
        tasks = list((self._folder / "task").iterdir())
        return len(tasks), len(list((self._folder / "fd").iterdir()))

    def resident(self):
        return int(re.search(r"VmRSS:\s+(\d+)", (self._folder / "status").read_text())[1])

    def threads(self):
        return sorted((task / "comm").read_text().strip() for task in (self._folder / "task").iterdir())

    def wait_back_to(self, before, timeout=30):
        """Both counts not above what they were, give or take what a keep-alive of the API server holds."""
        wait_for(
            lambda: all(now <= then + 6 for now, then in zip(self.count(), before)),
            timeout,
            lambda: f"threads and descriptors {self.count()} to be {before} again: {self.threads()}",
        )


class Forwarder:
    """A `kubectl port-forward` and the local port that it listens on."""

    def __init__(self, local, pod, port, websockets):
        command = kubectl_command(local.cluster, "port-forward", f"pod/{pod}", f":{port}", "-n", local.namespace)
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment(websockets))
        line = self.process.stdout.readline()
        assert "Forwarding from 127.0.0.1:" in line, line + self.process.stderr.read()
        self.port = int(line.split(":")[1].split()[0])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def get(connection, message):
    """One HTTP request to agnhost's /echo over a raw stream or socket; the bytes to expect at the end of the answer."""
    connection(f"GET /echo?msg={message} HTTP/1.1\r\nHost: pod\r\n\r\n".encode())
    return f"\r\n\r\n{message}".encode()


class StreamTests:
    @pytest.fixture(scope="class")
    def pod(self, local, ports, http_server):
        """`main` has a shell and echoes on one port, `http` is a web server on another."""
        echo = f"busybox nc -ll -p {ports['echo']} -e cat & trap 'kill $!; exit 0' TERM; echo started; while :; do sleep 0.2; done"
        made = pods.pod("streams", "", containers=[pods.container(echo), http_server(ports["http"])])
        local.create_pod(made)
        yield local.wait_ready("streams", 40)
        local.delete_pod("streams", 1)
        local.wait_pod_gone("streams", 30)

    @pytest.fixture(scope="class")
    def doors(self, bed, agent, local):
        pair = bed.local.ca.issue("raw-streams", "kube-apiserver-kubelet-client", ["system:masters"])
        return {"direct": Door.of_agent(agent, pair), "apiserver": Door.of_cluster(local)}

    @pytest.fixture(params=["direct", "apiserver"])
    def way(self, request, doors, pod):
        return Way(doors[request.param], request.param == "direct", pod, "")

    @pytest.fixture
    def direct(self, doors, pod):
        return Way(doors["direct"], True, pod, "")

    @pytest.fixture
    def resources(self, agent):
        return Resources(agent.process.pid)

    @pytest.fixture(scope="class")
    def can_forward(self, doors, pod):
        """Skips what needs a provider's ability to forward ports where it has none."""
        self._skip_unless(Way(doors["direct"], True, pod, "").ports(), doors["direct"], ["portforward.k8s.io"])

    @pytest.fixture(scope="class")
    def can_attach(self, doors, pod):
        path = Way(doors["direct"], True, pod, "").command(verb="attach", stdin=False)
        self._skip_unless(path, doors["direct"], ["v4.channel.k8s.io"])

    @staticmethod
    def _skip_unless(path, door, versions):
        try:
            raw_streams.spdy(door, path, versions).cut()
        except Refused as refused:
            if refused.status != 501:
                raise
            pytest.skip(refused.body)

    # --- exec: raw clients ---

    @pytest.mark.parametrize("method", ["POST", "GET"])
    @pytest.mark.parametrize("version", SPDY_VERSIONS)
    def test_exec_over_spdy(self, way, version, method):
        session = raw_streams.spdy(way.door, way.command("sh", "-c", "cat; echo words >&2; exit 3"), [version], method)
        assert session.protocol == version
        streams = raw_streams.command(session)
        streams["stdin"].write(b"some input\n")
        streams["stdin"].end()
        assert streams["stdout"].read_all() == b"some input\n"
        assert streams["stderr"].read_all() == b"words\n"
        said = streams["error"].read_all().decode()
        if version == "v4.channel.k8s.io":
            status = json.loads(said)
            assert (status["reason"], status["details"]["causes"]) == ("NonZeroExitCode", [{"reason": "ExitCode", "message": "3"}])
        else:
            assert said.startswith("error executing command in container: "), said
            assert "exit code 3" in said, said
        session.close()

    @pytest.mark.parametrize("code", [0, 3, 137])
    def test_exit_codes(self, way, code):
        session = raw_streams.spdy(way.door, way.command("sh", "-c", f"exit {code}", stdin=False), ["v5.channel.k8s.io", *SPDY_VERSIONS])
        assert session.protocol == "v4.channel.k8s.io"
        status = json.loads(raw_streams.command(session, stdin=False)["error"].read_all())
        session.close()
        web = raw_streams.websocket(way.door, way.command("sh", "-c", f"exit {code}", stdin=False), "v5.channel.k8s.io")
        web.wait_end()
        for seen in (status, web.status()):
            if code == 0:
                assert seen["status"] == "Success"
            else:
                assert seen["details"]["causes"] == [{"reason": "ExitCode", "message": str(code)}], seen

    @pytest.mark.parametrize("protocol", CHANNEL_PROTOCOLS)
    def test_exec_over_websocket(self, way, protocol):
        script = "read line; echo got $line; echo words >&2; exit 3"
        session = raw_streams.websocket(way.door, way.command("sh", "-c", script), *([protocol] if protocol else []))
        assert session.protocol == protocol
        session.send(0, b"a line\n")
        session.wait_end()
        assert session.channel(1) == b"got a line\n" and session.channel(2) == b"words\n"
        opcode = 1 if "base64" in protocol else 2
        assert {kind for kind, _ in session.messages} == {opcode}
        if protocol.startswith("v4."):
            assert session.status()["details"]["causes"] == [{"reason": "ExitCode", "message": "3"}]
        else:
            assert b"exit code 3" in session.channel(3)

    def test_success_is_silent_before_version_4(self, way):
        session = raw_streams.websocket(way.door, way.command("echo", "hi", stdin=False), "channel.k8s.io")
        session.wait_end()
        assert session.channel(1) == b"hi\n" and session.channel(3) == b""

    def test_version_5_ends_standard_input_alone(self, way):
        session = raw_streams.websocket(way.door, way.command("sort"), "v5.channel.k8s.io", "v4.channel.k8s.io")
        assert session.protocol == "v5.channel.k8s.io"
        session.send(0, b"b\n")
        session.send(0, b"a\n")
        session.close_channel(0)
        session.wait_end()
        assert session.channel(1) == b"a\nb\n" and session.status()["status"] == "Success"

    def test_a_terminal_and_its_size(self, way):
        script = "until [ \"$(stty size)\" = '44 122' ]; do sleep 0.1; done; echo now it is; tty >/dev/null && exit 7"
        session = raw_streams.spdy(way.door, way.command("sh", "-c", script, tty=True, stderr=False), ["v4.channel.k8s.io"])
        streams = raw_streams.command(session, tty=True)
        streams["resize"].write(b'{"Width":0,"Height":0}{"Width":80,"Height":24}')
        streams["resize"].write(b'{"Width":122,"Height":44}')
        # A shell may be quicker than its terminal, and stty says so.
        assert streams["stdout"].read_all().endswith(b"now it is\r\n")
        assert b'"7"' in streams["error"].read_all()
        session.close()
        web = raw_streams.websocket(way.door, way.command("sh", "-c", script, tty=True, stderr=False), "v4.channel.k8s.io")
        web.send(4, b'{"Width":122,"Height":44}')
        web.wait_end()
        assert web.channel(1).endswith(b"now it is\r\n") and web.status()["details"]["causes"][0]["message"] == "7"

    def test_pings_are_answered(self, direct):
        session = raw_streams.spdy(direct.door, direct.command("sleep", "20"), ["v4.channel.k8s.io"])
        raw_streams.command(session)
        session.ping(77)
        session.wait(lambda: 77 in session.pings, what="the answer to a ping")
        session.close()
        web = raw_streams.websocket(direct.door, direct.command("sleep", "20"), "v4.channel.k8s.io")
        web.ping(b"hello?")
        web.wait(lambda: b"hello?" in web.pongs, what="a pong")
        web.close()

    def test_the_uid_may_stand_in_the_path(self, doors, pod):
        uid = pod["metadata"]["uid"]
        way = Way(doors["direct"], True, pod, uid)
        web = raw_streams.websocket(way.door, way.command("echo", "hi", stdin=False), "v4.channel.k8s.io")
        web.wait_end()
        assert web.channel(1) == b"hi\n"
        with pytest.raises(Refused) as refused:
            raw_streams.websocket(way.door, Way(doors["direct"], True, pod, "other").command("id"), "v4.channel.k8s.io")
        assert (refused.value.status, refused.value.body) == (404, "pod does not exist")

    def test_refusals(self, direct):
        spdy = lambda path, versions: lambda: raw_streams.spdy(direct.door, path, versions)  # noqa: E731
        command = direct.command("id")
        rows = [
            (spdy(direct.command("id", stdin=False, stdout=False, stderr=False), SPDY_VERSIONS), 400, "you must specify at least 1 of stdin, stdout, stderr"),
            (spdy(command, []), 400, "unable to upgrade: X-Stream-Protocol-Version is required"),
            (spdy(command, ["v9"]), 403, "unable to upgrade: unable to negotiate protocol: client supports [v9], server accepts"),
            (spdy(direct.command("id", container="nobody"), SPDY_VERSIONS), 500, 'container not found ("nobody")'),
            (spdy(command.replace("/streams/", "/stranger/"), SPDY_VERSIONS), 404, "pod does not exist"),
            (lambda: raw_streams.websocket(direct.door, command, "v9.channel.k8s.io"), 403, "unable to upgrade"),
        ]
        for attempt, status, text in rows:
            with pytest.raises(Refused) as refused:
                attempt()
            assert refused.value.status == status and refused.value.body.startswith(text), (refused.value, status, text)

    def test_run(self, agent, direct):
        path = lambda command: f"/run/{direct.ns}/streams/main?" + urlencode({"cmd": command})  # noqa: E731

        def run(command):
            connection = http.client.HTTPSConnection(agent.address, agent.port, context=direct.door.tls, timeout=20)
            connection.request("POST", path(command))
            response = connection.getresponse()
            return response.status, response.read().decode()

        assert run("echo some words") == (200, "some words\n")
        status, text = run("ls /not-there")
        assert status == 500 and text.startswith("command 'ls /not-there' exited with ") and "No such file" in text, text
        assert run("no-such-program")[0] == 500

    # --- attach ---

    def test_attach_over_spdy_and_websocket(self, local, doors, can_attach):
        made = pods.pod("attached", "", containers=[{**pods.container("while read line; do echo got $line; done; echo end"), "stdin": True}])
        local.create_pod(made)
        pod = local.wait_ready("attached")
        for way in (Way(doors["direct"], True, pod, ""), Way(doors["apiserver"], False, pod, "")):
            session = raw_streams.spdy(way.door, way.command(verb="attach"), ["v4.channel.k8s.io"])
            streams = raw_streams.command(session)
            streams["stdin"].write(b"one\n")
            streams["stdout"].read_until(8)
            assert bytes(streams["stdout"].data) == b"got one\n"
            session.close()
            web = raw_streams.websocket(way.door, way.command(verb="attach"), "v4.channel.k8s.io")
            web.send(0, b"two\n")
            web.wait(lambda: web.channel(1) == b"got two\n", what="the answer")
            web.close()
        local.delete_pod("attached", 1)
        local.wait_pod_gone("attached", 20)

    @FORMS
    def test_kubectl_run_with_standard_input(self, local, can_attach, websockets):
        overrides = json.dumps({"spec": {"runtimeClassName": pods.CLASS, "terminationGracePeriodSeconds": 1}})
        arguments = ["run", "passing", f"--image={pods.IMAGE}", "-i", "--rm", "--restart=Never", "-n", local.namespace, f"--overrides={overrides}"]
        done = local.run(*arguments, "--quiet", "--command", "--", "sort", input="b\na\n", env=environment(websockets), timeout=60)
        assert done.returncode == 0 and done.stdout == "a\nb\n", done
        local.wait_pod_gone("passing", 20)

    # --- port-forward ---

    @pytest.mark.parametrize("form", ["spdy", "tunnel"])
    def test_port_forward(self, way, ports, can_forward, form):
        if form == "spdy":
            session = raw_streams.spdy(way.door, way.ports(), ["portforward.k8s.io"])
            assert session.protocol == "portforward.k8s.io"
        else:
            session = raw_streams.tunnel(way.door, way.ports())
            assert session.protocol == "SPDY/3.1+portforward.k8s.io"
        block = os.urandom(300_000)
        for number in range(3):
            data, error = raw_streams.forward(session, ports["echo"], number)
            data.write(block)
            data.end()
            assert data.read_all() == block
            assert error.read_all() == b""
        data, error = raw_streams.forward(session, 9, "nobody")
        said = error.read_all().decode()
        assert said.startswith("error forwarding port 9 to pod ") and "refused" in said, said
        session.close()

    @pytest.mark.parametrize("protocol", ["v4.channel.k8s.io", "v4.base64.channel.k8s.io"])
    def test_port_forward_in_websocket_channels(self, way, ports, can_forward, protocol):
        session = raw_streams.websocket(way.door, way.ports(ports["echo"]), protocol)
        number = ports["echo"].to_bytes(2, "little")
        session.wait(lambda: session.channel(0) == number and session.channel(1) == number, what="the port on both channels")
        session.send(0, b"ping")
        session.wait(lambda: session.channel(0) == number + b"ping", what="the echo")
        session.close()

    def test_a_thousand_streams_at_once_and_then_none(self, direct, ports, resources, can_forward):
        before, memory = resources.count(), resources.resident()
        sessions = [raw_streams.spdy(direct.door, direct.ports(), ["portforward.k8s.io"]) for _ in range(10)]
        streams = []
        for number in range(1000):
            data, _ = raw_streams.forward(sessions[number % 10], ports["http"], number, wait=False)
            streams.append((data, get(data.write, f"stream-{number}-{hashlib.sha1(str(number).encode()).hexdigest()}")))
        for data, expected in streams:
            data.session.wait(lambda: data.data.endswith(expected) or data.reset, 60, f"{expected}, got {bytes(data.data)}")
            assert data.data.endswith(expected)
        during = resources.count()
        print(f"\n1000 streams: threads {before[0]} -> {during[0]}, descriptors {before[1]} -> {during[1]}, {(resources.resident() - memory) / 1000:.1f} KiB each")
        assert during[0] - before[0] <= 10 * 6, resources.threads()
        # All of them again, so that none has stalled.
        for data, _ in streams:
            expected = get(data.write, f"again-{data.number}")
            data.session.wait(lambda: data.data.endswith(expected), 60, "a second answer")
        for session in sessions:
            session.cut()
        resources.wait_back_to(before)

    def test_a_stream_that_the_pod_does_not_read_stalls_no_other(self, local, direct, ports, can_forward):
        session = raw_streams.spdy(direct.door, direct.ports(), ["portforward.k8s.io"])
        # The web server reads a request of unknown length no further than it must.
        stuck, _ = raw_streams.forward(session, ports["http"], "stuck")
        lively, _ = raw_streams.forward(session, ports["http"], "lively")
        stuck.write(b"GET /echo?msg=x HTTP/1.1\r\nHost: pod\r\n\r\n" * 1000)
        for number in range(5):
            stuck.write(os.urandom(1 << 20))
            expected = get(lively.write, f"turn-{number}")
            session.wait(lambda: lively.data.endswith(expected), 10, "the other stream's answer")
        session.cut()

    @FORMS
    def test_kubectl_port_forward_with_200_connections_at_once(self, local, ports, can_forward, websockets):
        with Forwarder(local, "streams", ports["http"], websockets) as forwarder:
            wrong, barrier = [], threading.Barrier(200)

            def ask(number):
                try:
                    with socket.create_connection(("127.0.0.1", forwarder.port), timeout=60) as connection:
                        barrier.wait(60)  # all are open at once
                        expected = get(connection.sendall, f"number-{number}")
                        got = b""
                        while not got.endswith(expected):
                            block = connection.recv(65536)
                            if not block:
                                break
                            got += block
                        if not got.endswith(expected):
                            wrong.append((number, got))
                except OSError as error:
                    wrong.append((number, error))

            threads = [threading.Thread(target=ask, args=(number,)) for number in range(200)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(120)
            assert not wrong, wrong[:3]

    # --- kubectl: bulk ---

    @FORMS
    def test_kubectl_cp_of_200_MiB_both_ways(self, local, pod, websockets, tmp_path):
        big, back = tmp_path / "big", tmp_path / "back"
        block = os.urandom(1 << 20)
        digest = hashlib.sha256()
        with open(big, "wb") as file:
            for number in range(200):
                piece = block[number:] + block[:number]
                file.write(piece)
                digest.update(piece)
        there = f"/tmp/k8sgpu-cp-{os.getpid()}-{websockets}"
        try:
            local.kubectl("cp", str(big), f"{local.namespace}/streams:{there}", "-c", "main", "--retries=0", env=environment(websockets), timeout=300)
            said = local.kubectl("exec", "streams", "-c", "main", "-n", local.namespace, "--", "sha256sum", there, timeout=60)
            assert said.split()[0] == digest.hexdigest()
            local.kubectl("cp", f"{local.namespace}/streams:{there}", str(back), "-c", "main", "--retries=0", env=environment(websockets), timeout=300)
            assert hashlib.sha256(back.read_bytes()).hexdigest() == digest.hexdigest()
        finally:
            local.run("exec", "streams", "-c", "main", "-n", local.namespace, "--", "rm", "-f", there)

    @FORMS
    def test_cat_into_sort(self, local, pod, websockets):
        lines = [f"{(n * 7919) % 100000:06d}" for n in range(100000)]
        done = local.run(
            "exec", "-i", "streams", "-c", "main", "-n", local.namespace, "--", "sort", input="\n".join(lines) + "\n", env=environment(websockets), timeout=60
        )
        assert done.returncode == 0, done.stderr
        assert done.stdout.splitlines() == sorted(lines)

    def test_what_an_idle_stream_costs(self, direct, resources):
        """Printed for the documentation; the limits are far above what was measured."""

        def follow():
            connection = direct.door.connect()
            connection.sendall(f"GET /containerLogs/{direct.ns}/{direct.name}/main?follow=true HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert connection.recv(4096).startswith(b"HTTP/1.1 200")
            return connection

        def execute():
            session = raw_streams.spdy(direct.door, direct.command("cat"), ["v4.channel.k8s.io"])
            raw_streams.command(session)
            return session

        before = resources.count()
        for kind, make, limit in (("logs -f", follow, 300), ("exec", execute, 700)):
            made = [make() for _ in range(10)]  # what is allocated once
            memory, counted = resources.resident(), resources.count()
            made += [make() for _ in range(60)]
            time.sleep(1)
            each = (resources.resident() - memory) / 60
            now = resources.count()
            print(f"\n{kind}: {each:.0f} KiB, {(now[0] - counted[0]) / 60:.1f} threads, {(now[1] - counted[1]) / 60:.1f} descriptors each")
            assert each < limit
            for one in made:
                one.close()
            resources.wait_back_to(before)

    # --- ends ---

    def test_clients_that_vanish_leave_nothing(self, direct, resources, marks):
        """In the midst of output that nobody reads, of input, of a terminal, of nothing."""
        before = resources.count()
        mark = marks()
        opened = []
        for number in range(5):
            for script, tty in ((f"echo {mark}; yes {mark}", False), (f"cat; sleep 1 {mark}", False), (f"sleep 600; echo {mark}", True)):
                session = raw_streams.spdy(direct.door, direct.command("sh", "-c", script, tty=tty, stderr=not tty), ["v4.channel.k8s.io"])
                raw_streams.command(session, tty=tty)
                opened.append(session)
                opened.append(raw_streams.websocket(direct.door, direct.command("sh", "-c", script, tty=tty, stderr=not tty), "v5.channel.k8s.io"))
        wait_for(lambda: marks.running(mark), 20, "the commands to run")
        assert resources.count()[0] > before[0]
        for session in opened:
            session.cut()
        resources.wait_back_to(before)
        marks.wait_gone(mark)

    def test_the_end_of_the_container_ends_its_sessions_and_leaves_nothing(self, local, doors, resources):
        before = resources.count()
        local.create_pod(pods.pod("ending", pods.UNTIL_TERM, grace=1))
        pod = local.wait_ready("ending")
        way = Way(doors["direct"], True, pod, "")
        sessions = []
        for _ in range(5):
            session = raw_streams.spdy(way.door, way.command("sh", "-c", "sleep 600"), ["v4.channel.k8s.io"])
            sessions.append((session, raw_streams.command(session)))
        local.delete_pod("ending", 1)
        for session, streams in sessions:
            assert streams["error"].read_all(40) not in (b"", b'{"metadata":{},"status":"Success"}'), "an end that is not the command's own is no success"
            session.close()
        local.wait_pod_gone("ending", 20)
        resources.wait_back_to(before)

    def test_a_followed_log_gets_its_last_lines_though_the_pod_is_deleted_at_once(self, local):
        script = "trap 'i=0; while [ $i -lt 20000 ]; do echo last words $i; i=$((i+1)); done; echo the end; exit 0' TERM; echo started; while :; do sleep 0.1; done"
        local.create_pod(pods.pod("talkative", script, grace=20))
        local.wait_ready("talkative")
        follower = local.popen("logs", "-f", "talkative", "-n", local.namespace, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        assert follower.stdout.readline() == "started\n"
        local.delete_pod("talkative")
        said, errors = follower.communicate(timeout=60)
        # A shell may add that its sleep was terminated.
        words = [line for line in said.splitlines() if line.startswith("last words")]
        assert words == [f"last words {n}" for n in range(20000)] and said.splitlines()[-1] == "the end", (said[-200:], errors)
        local.wait_pod_gone("talkative", 20)

    # --- limits ---

    def test_heads_and_bodies_that_are_too_large_are_refused_in_words(self, direct):
        def send(text):
            connection = direct.door.connect()
            try:
                connection.sendall(text)
            except OSError:
                pass
            answer = b""
            while True:
                try:
                    block = connection.recv(65536)
                except OSError:
                    break
                if not block:
                    break
                answer += block
            connection.close()
            return int(answer.split()[1]), answer.split(b"\r\n\r\n", 1)[1].decode()

        status, text = send(b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * (2 << 20) + b"\r\n\r\n")
        assert status == 431 and text.strip(), text
        status, text = send(b"POST /run/a/b/c HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n" + b"a" * 100000)
        assert status == 413 and "99999999 bytes" in text, text
        status, text = send(b"GET /healthz HTTP/9.9\r\n\r\n")
        assert status in (400, 505), text
        assert direct.door.connect().close() is None
