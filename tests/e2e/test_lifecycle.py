"""The agent's own life: an end by SIGTERM in the midst of work, files that change under it, and the node's removal."""

import os
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest

from support import access, pods
from support.agent import binary, environment
from support.clusters import Cluster, condition, states
from support.waiting import wait_for

pytestmark = pytest.mark.needs_remote

NODE = "/api/v1/nodes/k8s.gpu"
LEASE = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/k8s.gpu"
CSRS = "/apis/certificates.k8s.io/v1/certificatesigningrequests"
OURS = "k8s.gpu/pod-uid"


def replace(path, text):
    """As a careful administrator does it: another file, renamed over the old one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(text)
    fresh.chmod(0o600)
    fresh.rename(path)


class Mounted:
    """A folder that changes as the kubelet changes a mounted Secret: by swapping the link ..data."""

    def __init__(self, folder, name, text):
        self.folder, self.name, self.version = Path(folder), name, 0
        self.folder.mkdir(parents=True)
        self.write(text)
        (self.folder / name).symlink_to(f"..data/{name}")
        self.path = self.folder / name

    def write(self, text):
        self.version += 1
        version = self.folder / f"..2026_{self.version}"
        version.mkdir()
        (version / self.name).write_text(text)
        (version / self.name).chmod(0o440)
        link = self.folder / "..data_tmp"
        link.symlink_to(version.name)
        link.rename(self.folder / "..data")


@pytest.fixture(scope="module")
def predecessor(bed, remote_kubeconfig):
    """A kubeconfig of another ServiceAccount with the same role."""
    cluster = Cluster(bed.remote, access.TENANT)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "predecessor", "namespace": access.TENANT}}
    role = next(o for o in access.manifest("tenant-role.yaml") if o["kind"] == "RoleBinding")
    cluster.apply(account, {**role, "metadata": account["metadata"], "subjects": [{**role["subjects"][0], "name": "predecessor"}]})
    return bed.remote.service_account_kubeconfig(access.TENANT, "predecessor")


@pytest.fixture(scope="module")
def files(work_folder, kubeconfig, predecessor):
    folder = work_folder / "lifecycle-files"
    remote = Mounted(folder / "remote", "kubeconfig", Path(predecessor).read_text())
    own = folder / "local.kubeconfig"
    replace(own, Path(kubeconfig).read_text())
    config = folder / "config.yaml"
    replace(config, "capacity: cpu=64,memory=256Gi,nvidia.com/gpu=8\nlog-level: info\n")
    return remote, own, config


@pytest.fixture(scope="module")
def agent(agents, bed, files):
    remote, own, config = files
    return agents.make(bed, "lifecycle", kubeconfig=own, remote_kubeconfig=remote.path, config=config).start().wait_ready()


@pytest.fixture(scope="module")
def remote(bed):
    return Cluster(bed.remote, access.TENANT)


def copies(remote):
    return {pod["metadata"]["labels"].get(OURS): pod["metadata"]["uid"] for pod in remote.pods()}


def follow(local, name):
    """`kubectl logs -f`, and the lines it has shown."""
    process = local.popen("logs", "-f", name, "-n", local.namespace, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    lines = []
    threading.Thread(target=lambda: lines.extend(iter(process.stdout.readline, "")), daemon=True).start()
    wait_for(lambda: lines, 20, "the first line of the log")
    return process, lines


TICKING = "trap 'exit 0' TERM; i=0; while :; do echo tick $i; i=$((i+1)); sleep 0.5; done"


def test_rotated_remote_credentials_are_used_and_a_followed_log_goes_on(agent, local, remote, files, remote_kubeconfig):
    remote_file = files[0]
    local.create_pod(pods.pod("talking", TICKING))
    local.wait_ready("talking")
    process, lines = follow(local, "talking")
    try:
        remote_file.write("clusters: [")
        event = local.wait_event("k8s.gpu", "ConfigNotReloaded", 20, kind="Node", namespace="")[-1]
        assert "--remote-kubeconfig" in event["message"] and event["type"] == "Warning"
        local.create_pod(pods.pod("meanwhile", pods.UNTIL_TERM))
        local.wait_ready("meanwhile")  # the old one stays in use

        remote_file.write(Path(remote_kubeconfig).read_text())
        local.wait_event("k8s.gpu", "ConfigReloaded", 20, kind="Node", namespace="")
        # Revokes the token that the followed log was opened with.
        remote.kubectl("delete", "serviceaccount", "predecessor", "-n", access.TENANT)
        time.sleep(12)  # API servers believe a token for ten seconds
        seen = len(lines)
        local.create_pod(pods.pod("afterwards", pods.UNTIL_TERM))
        local.wait_ready("afterwards")
        wait_for(lambda: len(lines) > seen + 2, 10, "the log to go on")
        assert process.poll() is None, "the stream must survive"
        numbers = [int(line.split()[1]) for line in lines]
        assert numbers == list(range(len(numbers))), "no line lost, none twice"
    finally:
        process.kill()
    for name in ("talking", "meanwhile", "afterwards"):
        local.delete_pod(name, 1)


def test_rotated_local_credentials_are_used_and_another_clusters_are_refused(agent, local, files, bed, kubeconfig):
    own = files[1]
    before = len(agent.log())
    # Pods of a cluster that is not ours are not there: believing it would end all copies.
    replace(own, Path(bed.remote.kubeconfig).read_text())
    wait_for(lambda: "leads to another cluster" in agent.log()[before:], 20, "the refusal")
    local.create_pod(pods.pod("unmoved", pods.UNTIL_TERM))
    local.wait_ready("unmoved")
    namespace, name = access.service_account(access.manifest("rbac.yaml"))
    replace(own, Path(bed.local.service_account_kubeconfig(namespace, name, file_name="rotated")).read_text())
    wait_for(lambda: "--kubeconfig: changed, and in use now" in agent.log()[before:], 20, "the new one to be in use")
    # One that others may write is refused as at the start.
    own_remote = files[0]
    now = own_remote.path.read_text()
    own_remote.path.resolve().chmod(0o666)
    wait_for(lambda: "others may write this file" in agent.log()[before:], 20, "the refusal of a file that others may write")
    own_remote.write(now)
    local.delete_pod("unmoved", 1)
    local.wait_pod_gone("unmoved", 20)


def test_options_that_may_change_do_and_the_others_are_named(agent, local, files):
    config = files[2]
    before = len(agent.log())
    replace(config, "capacity: cpu=64,memory=256Gi,nvidia.com/gpu=5\nlog-level: debug\ntls-min-version: VersionTLS13\n")
    agent.process.send_signal(signal.SIGHUP)
    wait_for(lambda: local.get(NODE)["status"]["capacity"]["nvidia.com/gpu"] == "5", 10, "the new capacity")
    wait_for(lambda: "needs a restart: tls-min-version" in agent.log()[before:], 5, "the option that needs a restart")
    assert agent.running(), "SIGHUP is no end"
    local.create_pod(pods.pod("noisy", pods.UNTIL_TERM))
    local.wait_ready("noisy")
    assert re.search(r" D \d+\]", agent.log()[before:]), "lines at the new level"
    local.delete_pod("noisy", 1)
    replace(config, "capacity: cpu=64,memory=256Gi,nvidia.com/gpu=8\nlog-level: info\n")
    wait_for(lambda: local.get(NODE)["status"]["capacity"]["nvidia.com/gpu"] == "8", 15, "the capacity to be back")


def test_sigterm_in_the_midst_of_work_ends_in_time_and_the_next_start_adopts_everything(agent, local, remote, bed):
    for number in range(20):
        local.create_pod(pods.pod(f"busy-{number}", TICKING))
    for number in range(20):
        local.wait_ready(f"busy-{number}", 90)
    before, there = {p["metadata"]["name"]: p for p in local.pods()}, copies(remote)
    process, _ = follow(local, "busy-0")
    shell = local.popen("exec", "busy-1", "-n", local.namespace, "--", "sh", "-c", "echo in; sleep 600", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert shell.stdout.readline() == "in\n"
    ready_since = condition(local.get(NODE), "Ready")["lastTransitionTime"]
    pid = agent.process.pid
    began = time.monotonic()
    assert agent.stop(30) == 0
    took = time.monotonic() - began
    assert took < 20, f"the end took {took:.1f} s"
    assert not Path(f"/proc/{pid}").exists()
    shell.wait(10)
    process.wait(10)
    assert shell.returncode != 0, "an exec that was cut did not succeed"
    assert copies(remote) == there, "pods run on"
    agent.start().wait_ready()
    assert condition(local.get(NODE), "Ready")["lastTransitionTime"] == ready_since, "the restart went unnoticed"
    assert copies(remote) == there
    for pod in local.pods():
        assert states(pod) == states(before[pod["metadata"]["name"]])
    local.clear()


def test_a_second_signal_ends_the_agent_at_once(agent, local, bed):
    bed.local.pause_component("kube-apiserver")  # the last status writes and the lease have nobody to talk to
    try:
        agent.process.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        agent.process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        code = agent.process.wait(5)
        assert time.monotonic() - began < 1.5 and code in (0, 1)
    finally:
        bed.local.resume_component("kube-apiserver")
    agent.start().wait_ready()


def test_without_free_descriptors_the_port_waits_and_recovers(agent, local):
    pid = agent.process.pid
    limits = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    used = len(os.listdir(f"/proc/{pid}/fd"))

    def cpu():
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 2, limits[1]))
    try:
        waiting = [socket.create_connection((agent.address, agent.port), 5) for _ in range(20)]
        before = cpu()
        time.sleep(3)
        assert cpu() - before < 1.0, "waiting for a descriptor must not spin"
        assert agent.running()
        for connection in waiting:
            connection.close()
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)
    wait_for(lambda: agent.certificate(), 20, "the port to answer again")
    wait_for(lambda: agent.health("/readyz")[0] == 200, 20, "the node to be ready")
    local.create_pod(pods.pod("after-shortage", pods.UNTIL_TERM))
    local.wait_ready("after-shortage", 60)
    local.delete_pod("after-shortage", 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounts a file system")
def test_a_full_disk_costs_the_stored_certificate_and_nothing_else(agents, bed, kubeconfig, work_folder):
    small = work_folder / "full"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8k,mode=700", "tmpfs", small], check=True)
    try:
        (small / "filler").write_bytes(b"x" * 8192)
        node = "full.gpu"
        cluster = Cluster(bed.local, "default")
        own = access.local_kubeconfig(cluster, node, suffix="-full")
        known = {request["metadata"]["name"] for request in cluster.api.get(CSRS)["items"]}
        options = {"provider": "process", "kubeconfig": own, "cert_dir": small}
        made = agents.make(bed, "full-disk", node=node, port=10270, health_port=8093, **options).start().wait_ready()
        assert made.certificate()
        warning = wait_for(lambda: [e for e in cluster.events(node, "Node", "") if "No space left" in e["message"]], 20, "an Event")[0]
        assert warning["type"] == "Warning"
        agents.end(made)
        for request in cluster.api.get(CSRS)["items"]:
            if request["metadata"]["name"] not in known:
                cluster.delete(f"{CSRS}/{request['metadata']['name']}")
    finally:
        subprocess.run(["umount", small], check=True)


# --- drain and uninstall ---


@pytest.fixture(scope="module")
def operator(bed):
    """Who may drain and uninstall by manifests/operator-role.yaml, and nothing else."""
    cluster = Cluster(bed.local, "default")
    cluster.apply(*access.manifest("operator-role.yaml"))
    subject = {"kind": "ServiceAccount", "name": "operator", "namespace": "default"}
    cluster.apply({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "operator", "namespace": "default"}})
    role = next(o for o in access.manifest("operator-role.yaml") if o["kind"] == "ClusterRole")["metadata"]["name"]
    cluster.apply(
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRoleBinding",
            "metadata": {"name": "e2e-operator"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": role},
            "subjects": [subject],
        }
    )
    return bed.local.service_account_kubeconfig("default", "operator")


def command(bed, name, *arguments, timeout=120):
    return bed.run_in_agent_ns(
        [binary(), name, *arguments], capture_output=True, text=True, timeout=timeout, env=environment(), stdin=subprocess.DEVNULL
    )


def deployment(local, name, replicas):
    template = {"metadata": {"labels": {"app": name}}, "spec": pods.spec(pods.container(pods.UNTIL_TERM), restartPolicy=None)}
    spec = {"replicas": replicas, "selector": {"matchLabels": {"app": name}}, "template": template}
    local.apply({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": local.namespace}, "spec": spec})
    local.kubectl("rollout", "status", f"deployment/{name}", "-n", local.namespace, "--timeout=60s")


def test_drain_respects_budgets_and_says_what_kubectl_says(agent, local, remote, bed, operator):
    deployment(local, "guarded", 2)
    local.create_pod(pods.pod("single", pods.UNTIL_TERM))
    local.wait_ready("single")
    budget = {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": "guarded", "namespace": local.namespace},
        "spec": {"minAvailable": 2, "selector": {"matchLabels": {"app": "guarded"}}},
    }
    local.apply(budget)
    path = f"/apis/policy/v1/namespaces/{local.namespace}/poddisruptionbudgets/guarded"
    wait_for(lambda: local.get(path).get("status", {}).get("currentHealthy") == 2, 20, "the budget to be counted")
    access_ = f"--kubeconfig={operator}"
    refused = command(bed, "drain", access_)
    assert refused.returncode == 1
    assert "cannot delete Pods that declare no controller (use --force to override)" in refused.stderr
    local.kubectl("uncordon", "k8s.gpu")
    dry = command(bed, "drain", access_, "--force", "--dry-run")
    assert dry.returncode == 0 and "node/k8s.gpu drained (dry run)" in dry.stdout, dry
    assert not local.get(NODE)["spec"].get("unschedulable")
    held = command(bed, "drain", access_, "--force", "--timeout=8s")
    assert held.returncode == 1 and "Cannot evict pod as it would violate the pod's disruption budget" in held.stderr, held
    assert len(local.pods("app=guarded")) == 2 and local.pod("single") is None
    local.delete(path)
    done = command(bed, "drain", access_, "--force")
    assert done.returncode == 0, done
    assert done.stdout.splitlines()[0] == "node/k8s.gpu already cordoned"
    assert done.stdout.splitlines()[-1] == "node/k8s.gpu drained"
    wait_for(lambda: not copies(remote), 20, "the copies to be gone")
    local.kubectl("delete", "deployment", "guarded", "-n", local.namespace)


def test_uninstall_waits_for_copies_and_agent_and_leaves_nothing(agent, local, remote, bed, files, operator):
    local.kubectl("uncordon", "k8s.gpu")
    local.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys", "namespace": local.namespace}, "stringData": {"k": "v"}})
    pod = pods.pod("last", pods.UNTIL_TERM)
    pod["spec"]["containers"][0]["envFrom"] = [{"secretRef": {"name": "keys"}}]
    local.create_pod(pod)
    local.wait_ready("last")
    flags = [f"--kubeconfig={operator}", f"--remote-kubeconfig={files[0].path}", "--force", "--timeout=3m"]
    argv = bed.agent_command([binary(), "uninstall", *flags])
    running = subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment())
    for line in iter(running.stderr.readline, ""):
        if "the agent still runs" in line:
            break
    assert local.get(NODE), "the Node stays while its agent runs"
    assert not copies(remote)
    assert agent.stop(30) == 0
    out, err = running.communicate(timeout=90)
    assert running.returncode == 0, (out, err)
    assert "node/k8s.gpu deleted" in out and "lease.coordination.k8s.io/k8s.gpu deleted" in out
    assert "certificatesigningrequest.certificates.k8s.io/" in out
    assert local.get(NODE) is None and local.get(LEASE) is None
    assert not [r for r in local.api.get(CSRS)["items"] if r["spec"]["signerName"] == "kubernetes.io/kubelet-serving"]
    for kind in ("configmaps", "secrets"):
        left = remote.api.get(f"/api/v1/namespaces/{access.TENANT}/{kind}?labelSelector=k8s.gpu/node")["items"]
        assert not left, [item["metadata"]["name"] for item in left]
    again = command(bed, "uninstall", *flags)
    assert again.returncode == 0 and "does not exist" in again.stderr, again
