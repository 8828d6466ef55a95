"""The three sides that are compared: where each one's pod is, and which process serves it."""

import contextlib
import os
from pathlib import Path

from support import access, pods
from support.agent import Agent, binary
from support.clusters import Cluster, kubectl_command
from testbed import Testbed, TestbedError

REFERENCE, PROCESS, KUBERNETES = "kubelet", "process", "kubernetes"
LINES, LINE = 38000, 200  # of the log; with the runtime's prefix it stays below the 10 MiB at which kubelets rotate
ECHO_PORT, SOURCE_PORT = 18080, 18081

# `busybox` on all sides, so that the program inside the pod is the same.
SCRIPT = f"""
busybox nc -ll -p {ECHO_PORT} -e busybox cat &
busybox nc -ll -p {SOURCE_PORT} -e busybox dd if=/dev/zero bs=64k count=1000000 &
line=$(printf '%0{LINE - 1}d' 0)
busybox yes "$line" | busybox head -n {LINES}
while :; do busybox sleep 1; done
"""


class Side:
    """`cluster` is where kubectl asks, `server` gives the pid of the program that serves the pod's streams."""

    def __init__(self, name, cluster, node, server):
        self.name, self.cluster, self.node, self.server = name, cluster, node, server
        self.pod = f"bench-{name}"

    def kubectl(self, *arguments):
        return kubectl_command(self.cluster.cluster, f"--namespace={self.cluster.namespace}", *arguments)

    def start_pod(self):
        self.cluster.create_namespace(self.cluster.namespace)
        wanted = pods.pod(self.pod, SCRIPT, runtimeClassName=None, nodeName=self.node, tolerations=[pods.TOLERATION])
        self.cluster.create_pod(wanted)

    def wait_pod(self):
        self.cluster.wait_ready(self.pod, timeout=120)


def _kubelet_pid(bed):
    """The kubelet of this test bed: the program of that name with the bed's folder in its arguments."""
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            arguments = entry.read_bytes().split(b"\0")
            if arguments[0].endswith(b"/kubelet") and str(bed.folder).encode() in b" ".join(arguments):
                return int(entry.parent.name)
    raise TestbedError("the kubelet of the test bed is not to be found", "tools/testbed status")


def _agent(bed, folder, name, node, port, health_port, **options):
    local = Cluster(bed.local, "default")
    kubeconfig = access.local_kubeconfig(local, node, suffix="" if node == "k8s.gpu" else f"-{name}")
    flags = {key.replace("_", "-"): value for key, value in options.items()}
    return Agent(bed, folder / name, {"provider": name, "kubeconfig": kubeconfig, **flags}, node, port, health_port).start()


@contextlib.contextmanager
def prepared(name, folder, say):
    if not binary().exists():
        raise TestbedError(f"{binary()} is not there", "tools/build release, then K8SGPU_BINARY=build-release/k8sgpu bench/run")
    Testbed.down(name)
    bed = Testbed.up(name)
    agents = []
    try:
        access.grant(Cluster(bed.local, "default"), "runtimeclass.yaml")
        remote_node = bed.remote.api().get("/api/v1/nodes")["items"][0]["metadata"]["name"]
        agents.append(_agent(bed, folder, PROCESS, "k8s.gpu", 10250, 8081))
        agents.append(
            _agent(bed, folder, KUBERNETES, "tenant.gpu", 10260, 8082, remote_kubeconfig=access.tenant_kubeconfig(Cluster(bed.remote, "default")))
        )
        for agent in agents:
            agent.wait_ready(60)
        say(f"agents are ready: {binary()}")
        made = [
            Side(REFERENCE, Cluster(bed.remote, "bench"), remote_node, lambda: _kubelet_pid(bed)),
            Side(PROCESS, Cluster(bed.local, "bench"), "k8s.gpu", lambda: agents[0].process.pid),
            Side(KUBERNETES, Cluster(bed.local, "bench"), "tenant.gpu", lambda: agents[1].process.pid),
        ]
        for side in made:
            side.start_pod()
        for side in made:
            side.wait_pod()
        say("pods are ready")
        yield made
    finally:
        for agent in agents:
            agent.kill()
        if os.environ.get("K8SGPU_BENCH_KEEP") != "1":
            # Processes of pods outlive their agent, by design; the test bed's end takes them along.
            Testbed.down(name)
