"""Fixtures of the end-to-end suite: test beds for the session, agents for a module, logs of what failed.

Environment: K8SGPU_BINARY (default build/k8sgpu); K8SGPU_E2E_KEEP=1 leaves the test beds up, for the next run to find.
"""

import fcntl
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).resolve().parent), str(Path(__file__).resolve().parents[1])]
pytest.register_assert_rewrite("support")

from support import access, pods  # noqa: E402
from support.agent import NODE, Agent, binary  # noqa: E402
from support.clusters import Cluster  # noqa: E402
from support.waiting import wait_for  # noqa: E402
from testbed import Testbed, TestbedError, remote_unavailable_reason  # noqa: E402
from testbed import network, state  # noqa: E402

KEEP = os.environ.get("K8SGPU_E2E_KEEP") == "1"


def pytest_configure(config):
    config.addinivalue_line("markers", "oldest_minor: runs against the oldest Kubernetes minor that is supported")
    config.addinivalue_line("markers", "needs_remote: needs the remote cluster with its real kubelet")
    config.addinivalue_line("markers", "needs_namespaces: needs network namespaces: cuts links or changes addresses")


def pytest_collection_modifyitems(items):
    # tools/test_summary.py knows these words.
    for marker, kind, unavailable in (
        ("needs_remote", "remote cluster", remote_unavailable_reason),
        ("needs_namespaces", "network namespaces", network.unavailable_reason),
    ):
        marked = [item for item in items if item.get_closest_marker(marker)]
        reason = unavailable() if marked else None
        for item in marked if reason else []:
            item.add_marker(pytest.mark.skip(reason=f"{kind}: {reason}"))


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item):
    outcome = yield
    report = outcome.get_result()
    if not report.failed:
        return
    item.session.failed_once = True
    for agent in getattr(item.session, "agents", []):
        if agent.log_path.exists() and agent.log():
            report.sections.append((f"end of {agent.log_path}", agent.tail()))


@pytest.fixture(scope="session")
def work_folder(request):
    """Logs and state of all agents. Kept when a test failed. Short, for the sockets below it."""
    folder = Path(tempfile.mkdtemp(prefix="k8sgpu-e2e-"))
    yield folder
    if getattr(request.session, "failed_once", False):
        print(f"\nlogs of the agents are kept in {folder}")
    else:
        shutil.rmtree(folder)


def _own(name):
    """`name`, or with a number behind it where another run of this suite has it. The lock ends with this process."""
    for number in range(1, 20):
        mine = name if number == 1 else f"{name}-{number}"
        lock = open(Path(tempfile.gettempdir()) / f"k8sgpu-{os.getuid()}-{mine}.lock", "a")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.close()
            continue
        _locks.append(lock)
        return mine
    pytest.fail(f"too many runs of this suite at once: {name}", pytrace=False)


_locks = []


def _bring_up(name, minor):
    if not binary().exists():
        pytest.fail(f"{binary()} is not there: build it with tools/build, or name it in K8SGPU_BINARY", pytrace=False)
    if KEEP and name in state.names():
        return Testbed.attach(name)
    Testbed.down(name)  # of a run that was killed
    without_namespaces = network.unavailable_reason() is not None
    try:
        return Testbed.up(name, minor=minor, remote=remote_unavailable_reason() is None, netns=not without_namespaces)
    except TestbedError as error:
        pytest.fail(error.explain(), pytrace=False)


def _bed(name, minor):
    name = _own(name)
    bed = _bring_up(name, minor)
    access.grant(Cluster(bed.local, "default"), "runtimeclass.yaml")
    if bed.remote:
        Cluster(bed.remote, "default").apply(pods.REMOTE_CLASS)
    yield bed
    if not KEEP:
        Testbed.down(name)


@pytest.fixture(scope="session")
def bed():
    yield from _bed("e2e-136", "1.36")


@pytest.fixture(scope="session")
def oldest_bed():
    yield from _bed("e2e-130", "1.30")


@pytest.fixture(scope="session")
def kubeconfig(bed):
    """The agent's own: a ServiceAccount under manifests/rbac.yaml."""
    return access.local_kubeconfig(Cluster(bed.local, "default"))


@pytest.fixture(scope="session")
def remote_kubeconfig(bed):
    """The tenant's: a ServiceAccount under manifests/tenant-role.yaml."""
    return access.tenant_kubeconfig(Cluster(bed.remote, access.TENANT))


class Agents:
    """Makes agents and sees to it that none outlives its module, nor a process or a Node of it."""

    def __init__(self, session, folder):
        self._folder = folder
        self._session = session
        if not hasattr(session, "agents"):
            session.agents = []
        self._mine = []

    def make(self, bed, name, node=NODE, port=10250, health_port=8081, env=None, **options):
        flags = {key.replace("_", "-"): value for key, value in options.items()}
        agent = Agent(bed, self._folder / f"{bed.minor}-{name}", flags, node, port, health_port, env)
        self._mine.append(agent)
        self._session.agents.append(agent)
        return agent

    def end(self, *agents):
        """Ends agents for good and removes their Nodes, so that the next ones register afresh."""
        for agent in agents:
            agent.kill()
            if agent in self._session.agents:
                self._session.agents.remove(agent)
        for bed, node in {(agent.bed, agent.node) for agent in agents}:
            local = Cluster(bed.local, "default")
            local.delete(f"/api/v1/nodes/{node}")
            wait_for(lambda: local.get(f"/api/v1/nodes/{node}") is None, 10, f"node {node} to be gone")
            local.delete(f"/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/{node}")

    def end_all(self):
        self.end(*self._mine)
        self._mine.clear()


@pytest.fixture(scope="module")
def agents(request, work_folder):
    made = Agents(request.session, work_folder)
    yield made
    made.end_all()


@pytest.fixture(scope="session")
def never_issued(request, work_folder, oldest_bed):
    """An agent whose signer does not exist in its cluster. It takes minutes until it says so: started early, looked at late."""
    made = Agents(request.session, work_folder)
    node = "never.gpu"
    kubeconfig = access.local_kubeconfig(Cluster(oldest_bed.local, "default"), node, suffix="-never")
    agent = made.make(
        oldest_bed, "never", node=node, port=10260, health_port=8091, provider="process", kubeconfig=kubeconfig, csr_signer="aws"
    )
    yield agent.start()
    made.end_all()


@pytest.fixture(scope="module")
def local(agent, request):
    """The local cluster of the module's `agent`, with a namespace of the module's own that is empty again in the end."""
    name = request.module.__name__.split(".")[-1].replace("test_", "e2e-").replace("_", "-")
    cluster = Cluster(agent.bed.local, name)
    cluster.create_namespace(name)
    yield cluster
    cluster.clear(agent.running())
    cluster.delete(f"/api/v1/namespaces/{name}")
