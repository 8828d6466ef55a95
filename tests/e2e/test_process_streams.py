"""attach, run and port-forward to pods that are processes: real kubectl through the real API server, in both its forms."""

import hashlib
import json
import os
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from support import pods
from support.clusters import kubectl_command, states
from support.terminal import Terminal
from support.waiting import wait_for

FORMS = {"websocket": "true", "spdy": "false"}
SERVER = (
    "import socketserver,sys\n"
    "class H(socketserver.BaseRequestHandler):\n"
    "  def handle(self):\n"
    "    heard=b''\n"
    "    while (b:=self.request.recv(65536)): heard+=b\n"
    "    self.request.sendall(b'heard '+heard)\n"
    "class S(socketserver.ThreadingTCPServer):\n"
    "  request_queue_size=256\n"
    "s=S(('127.0.0.1',0),H)\n"
    "print(s.server_address[1],flush=True)\n"
    "s.serve_forever()\n"
)


@pytest.fixture(scope="module")
def agent(agents, bed, kubeconfig):
    return agents.make(bed, "streams", provider="process", kubeconfig=kubeconfig).start().wait_ready()


@pytest.fixture(params=FORMS)
def form(request):
    """kubectl's environment for one of the two protocols."""
    value = FORMS[request.param]
    return {"KUBECTL_REMOTE_COMMAND_WEBSOCKETS": value, "KUBECTL_PORT_FORWARD_WEBSOCKETS": value, "HOME": "/nonexistent"}


def shim_descriptors(agent, uid):
    pid = json.loads((agent.state / "pods" / uid / "shim.json").read_text())["pid"]
    return len(os.listdir(f"/proc/{pid}/fd"))


def agent_holds(agent):
    """Descriptors and threads of the agent."""
    pid = agent.process.pid
    return len(os.listdir(f"/proc/{pid}/fd")), len(os.listdir(f"/proc/{pid}/task"))


def overrides():
    return json.dumps({"spec": {"runtimeClassName": pods.CLASS, "terminationGracePeriodSeconds": 2}})


def run_arguments(local, name, *flags):
    return ["run", name, "-n", local.namespace, f"--image={pods.IMAGE}", "--restart=Never", f"--overrides={overrides()}", *flags, "--command", "--"]


def test_run_with_input_prints_what_the_process_makes_of_it(local, form):
    text = "".join(f"line {n}\n" for n in range(1000, 0, -1))
    done = local.run(*run_arguments(local, "sorter", "-i", "--rm", "--quiet"), "sort", input=text, env=form)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:1000] == sorted(text.splitlines()), done.stdout[-300:]
    local.wait_pod_gone("sorter", 15)


def test_run_returns_the_exit_code_of_the_process(local, form):
    done = local.run(*run_arguments(local, "failing", "-i", "--rm", "--quiet"), "sh", "-c", "read a; echo got $a; exit 7", input="x\n", env=form)
    assert "got x\n" in done.stdout, done
    assert done.returncode == 7, done
    local.wait_pod_gone("failing", 15)


def test_run_with_a_terminal(local):
    command = kubectl_command(local.cluster, *run_arguments(local, "terminal", "-it", "--rm"), "sh")
    terminal = Terminal(command, rows=33, columns=101)
    try:
        terminal.read_until("try pressing enter")
        terminal.type("\ntty > /dev/null && echo is a' 'terminal\n")
        terminal.read_until("is a terminal\r\n")
        terminal.type("until [ \"$(stty size)\" = '33 101' ]; do sleep 0.1; done; echo size' 'arrived\n")
        terminal.read_until("size arrived\r\n")
        terminal.resize(44, 122)
        terminal.type("until [ \"$(stty size)\" = '44 122' ]; do sleep 0.1; done; echo size' 'changed\n")
        terminal.read_until("size changed\r\n")
        terminal.type("sleep 1000\n")
        time.sleep(0.5)
        terminal.type("\x03")
        terminal.type("echo still' 'here\n")
        terminal.read_until("still here\r\n")
        terminal.type("exit 5\n")
        assert terminal.end() == 5
    finally:
        terminal.kill()
    local.wait_pod_gone("terminal", 15)


def interactive(name, script, **fields):
    pod = pods.pod(name, script)
    pod["spec"]["containers"][0].update(stdin=True, **fields)
    return pod


def test_attach_to_a_running_process_and_once_more_after_the_agents_death(agent, local, form):
    local.create_pod(interactive("listener", "while read a; do echo got $a; [ $a != end ] || exit 3; done"))
    uid = local.wait_ready("listener")["metadata"]["uid"]

    def attached(text, expected):
        follower = local.popen("attach", "-i", "listener", "-n", local.namespace, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=form)
        try:
            time.sleep(1)  # kubectl says nothing once it is attached without a terminal
            follower.stdin.write(text)
            follower.stdin.flush()
            assert follower.stdout.readline() == expected
        finally:
            follower.kill()
            follower.communicate()

    attached("one\n", "got one\n")
    agent.kill()
    agent.start().wait_ready()
    attached("two\n", "got two\n")
    done = local.run("attach", "-i", "listener", "-n", local.namespace, input="end\n", env=form)
    assert done.returncode == 0, done.stderr
    pod = local.wait_phase("listener", "Failed")
    assert states(pod)["main"]["state"]["terminated"]["exitCode"] == 3
    assert local.kubectl("logs", "listener", "-n", local.namespace).splitlines() == ["got one", "got two", "got end"]
    assert uid == pod["metadata"]["uid"]
    local.delete_pod("listener")
    local.wait_pod_gone("listener", 15)


def test_clients_killed_while_attached_leave_nothing_behind(agent, local, form):
    local.create_pod(interactive("chatty", "trap 'exit 0' TERM; while :; do echo tick; sleep 0.05; done"))
    uid = local.wait_ready("chatty")["metadata"]["uid"]
    wait_for(lambda: agent_holds(agent) == agent_holds(agent), 5, "a quiet moment")
    time.sleep(1)
    before, shim_before = agent_holds(agent), shim_descriptors(agent, uid)
    clients = [
        local.popen("attach", "chatty", "-n", local.namespace, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=form)
        for _ in range(4)
    ]
    for client in clients:
        assert client.stdout.readline() == "tick\n"
    assert shim_descriptors(agent, uid) == shim_before + 4
    for client in clients:
        client.kill()
        client.communicate()
    wait_for(lambda: shim_descriptors(agent, uid) == shim_before, 15, lambda: f"the shim to close {shim_descriptors(agent, uid)} > {shim_before}")

    def as_before():
        fds, threads = agent_holds(agent)
        return fds <= before[0] + 2 and threads <= before[1] + 2

    # Connections that the API server keeps for its next call are not ours to close.
    wait_for(as_before, 30, lambda: f"descriptors and threads {agent_holds(agent)} to be {before} again")
    local.delete_pod("chatty", 1)
    local.wait_pod_gone("chatty", 15)


@pytest.fixture(scope="module")
def server(agent, local):
    """Name and port of a pod that answers, once a client has said all, with what it heard."""
    pod = pods.pod("server", "")
    pod["spec"]["containers"][0]["command"] = ["/usr/bin/python3", "-c", SERVER]
    local.create_pod(pod)
    local.wait_ready("server")
    port = wait_for(lambda: local.kubectl("logs", "server", "-n", local.namespace).strip(), 10, "the server's port")
    yield "server", int(port)
    local.delete_pod("server", 1)


class Forward:
    """kubectl port-forward from a port of its own."""

    def __init__(self, local, name, port, env):
        self.process = local.popen("port-forward", name, f":{port}", "-n", local.namespace, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
        line = self.process.stdout.readline()
        assert "Forwarding from" in line, line + self.process.stderr.read()
        self.port = int(line.split("127.0.0.1:")[1].split()[0])

    def ask(self, data):
        with socket.create_connection(("127.0.0.1", self.port), timeout=30) as connection:
            connection.sendall(data)
            connection.shutdown(socket.SHUT_WR)
            answer = b""
            while block := connection.recv(65536):
                answer += block
            return answer

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate()


def test_port_forward_carries_connections_and_half_closes(local, server, form):
    name, port = server
    data = os.urandom(3_000_000)
    with Forward(local, name, port, form) as forward:
        assert forward.ask(b"x") == b"heard x"
        assert hashlib.sha256(forward.ask(data)).digest() == hashlib.sha256(b"heard " + data).digest()
        with ThreadPoolExecutor(50) as pool:
            assert list(pool.map(lambda n: forward.ask(b"%d" % n), range(200))) == [b"heard %d" % n for n in range(200)]


def test_port_forward_to_what_is_not_the_pods_is_refused(local, agent, server, form):
    with Forward(local, server[0], agent.health_port, form) as forward:
        try:
            assert forward.ask(b"GET /healthz HTTP/1.0\r\n\r\n") == b""
        except ConnectionError:
            pass
        line = ""
        while "connection refused" not in line:
            line = forward.process.stderr.readline()
            assert line, "kubectl said nothing of the refusal"


def test_nothing_is_left_and_nothing_was_denied(agent, local):
    local.clear()
    wait_for(lambda: not list((agent.state / "pods").iterdir()), 15, "no traces of pods")
    assert agent.denials() == []
