"""Pods as processes of this host: the whole of the pod's life, and the agent's death in the midst of it."""

import json
import os
import subprocess
import time

import pytest

from support import access, pods
from support.clusters import condition, parse_time, states
from support.pod_tests import PodTests
from support.waiting import wait_for


@pytest.fixture(scope="module")
def agent(agents, bed, kubeconfig):
    return agents.make(bed, "process", provider="process", kubeconfig=kubeconfig).start().wait_ready()


def shim_of(agent, uid):
    """Pid and start of a pod's shim, which owns its processes."""
    return json.loads((agent.state / "pods" / uid / "shim.json").read_text())


def requests_for_certificates(cluster):
    return {item["metadata"]["name"] for item in cluster.api.get("/apis/certificates.k8s.io/v1/certificatesigningrequests")["items"]}


ORPHAN = {}


def test_kill_9_of_the_agent_leaves_pods_running_and_a_new_one_adopts_them(agent, local):
    count = "n=0; trap 'exit 0' TERM; while :; do n=$((n+1)); echo $n; sleep 0.2; done"
    local.create_pod(pods.pod("counting", count))
    local.create_pod(
        pods.pod("two-of-them", count, restartPolicy="Always", containers=[pods.container(count, "a"), pods.container(count, "b")])
    )
    local.create_pod(pods.pod("ending-meanwhile", "sleep 4; echo done; exit 6"))
    local.create_pod(pods.pod("deleted-meanwhile", count, grace=1))
    local.create_pod(pods.pod("orphaned", count))
    names = ["counting", "two-of-them", "ending-meanwhile", "deleted-meanwhile", "orphaned"]
    for name in names:
        local.wait_ready(name)
    # Once all are Ready no further status is under way.
    before = {name: local.pod(name) for name in names}
    uids = {name: before[name]["metadata"]["uid"] for name in names}
    shims = {name: shim_of(agent, uids[name]) for name in names}
    processes = {name: agent.processes_of(uids[name]) for name in ("counting", "two-of-them")}
    serial = agent.certificate()["serialNumber"]
    requests = requests_for_certificates(local)

    agent.kill()
    local.delete_pod("deleted-meanwhile")
    local.delete_pod("orphaned", 0)
    ORPHAN.update(uid=uids["orphaned"])
    wait_for(lambda: not agent.processes_of(uids["ending-meanwhile"]), 10, "a pod to end while nobody looks")
    agent.start().wait_ready()

    ended = local.wait_phase("ending-meanwhile", "Failed")
    result = states(ended)["main"]["state"]["terminated"]
    assert (result["exitCode"], result["reason"]) == (6, "Error")
    assert (parse_time(result["finishedAt"]) - parse_time(result["startedAt"])).total_seconds() in (3, 4, 5)
    assert local.kubectl("logs", "ending-meanwhile", "-n", local.namespace) == "done\n"
    local.wait_pod_gone("deleted-meanwhile", 15)

    for name in ("counting", "two-of-them"):
        after = local.pod(name)
        assert after["status"]["phase"] == "Running"
        assert condition(after, "Ready") == condition(before[name], "Ready"), "Ready must not have wavered"
        assert states(after) == states(before[name]), "the same containers, as they were"
        assert shim_of(agent, uids[name]) == shims[name]
        # The counting shells start a `sleep` five times a second: the shells themselves must be the same.
        now = agent.processes_of(uids[name])
        assert len(now & processes[name]) >= len(states(after)), (now, processes[name])
        numbers = [int(line) for line in local.kubectl("logs", name, "-n", local.namespace, "-c", next(iter(states(after)))).split()]
        assert numbers == list(range(1, len(numbers) + 1)), "lines of the time without an agent are missing, or something ran twice"
    assert agent.certificate()["serialNumber"] == serial, "the serving certificate must be used again"
    assert requests_for_certificates(local) == requests
    for name in ("counting", "two-of-them", "ending-meanwhile"):
        local.delete_pod(name, 1)
    local.wait_pod_gone("counting", 15)


def test_kill_9_right_after_creation_never_starts_a_pod_twice(agent, local):
    marker = agent.folder / "starts"
    marker.mkdir()
    for round_, delay in enumerate((0.05, 0.15, 0.3, 0.6)):
        name = f"hasty-{round_}"
        local.create_pod(pods.pod(name, f"mktemp {marker}/{name}.XXXXXX; {pods.UNTIL_TERM}"))
        time.sleep(delay)
        agent.kill()
        agent.start()
    agent.wait_ready()
    for round_ in range(4):
        local.wait_ready(f"hasty-{round_}")
    assert sorted(path.name.split(".")[0] for path in marker.iterdir()) == [f"hasty-{round_}" for round_ in range(4)]
    for round_ in range(4):
        local.delete_pod(f"hasty-{round_}", 1)


class TestProcessPods(PodTests):
    @pytest.fixture(autouse=True)
    def _agent(self, agent):
        self.agent = agent

    def anywhere(self, uid):
        return self.agent.processes_of(uid) or (self.agent.state / "pods" / uid).exists()

    def test_what_the_command_finds(self, local):
        pod = pods.pod("curious", 'pwd; id -u; echo $HOSTNAME $GREETING $NAME "$1"')
        container = pod["spec"]["containers"][0]
        container["workingDir"] = "/usr"
        container["args"] = ["zero", "$(GREETING), $$(GREETING)"]
        container["env"] = [
            {"name": "GREETING", "value": "hello"},
            {"name": "NAME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        ]
        local.create_pod(pod)
        local.wait_phase("curious", "Succeeded")
        lines = local.kubectl("logs", "curious", "-n", local.namespace).splitlines()
        assert lines == ["/usr", str(os.getuid()), "curious hello curious hello, $(GREETING)"]
        local.delete_pod("curious")

    def test_the_shipped_example_runs(self, local):
        local.kubectl("apply", "-n", local.namespace, "-f", access.MANIFESTS / "examples" / "pod.yaml")
        local.wait_ready("hello")
        assert local.kubectl("logs", "hello", "-n", local.namespace) == "hello from pod hello on node k8s.gpu\n"
        local.delete_pod("hello")
        local.wait_pod_gone("hello", 10)

    def test_the_automatic_token_volume_does_not_stop_a_pod(self, local):
        local.create_pod(pods.pod("with-token-volume", "echo ran"))
        pod = local.wait_phase("with-token-volume", "Succeeded")
        assert [volume["name"].startswith("kube-api-access-") for volume in pod["spec"]["volumes"]] == [True]
        local.delete_pod("with-token-volume")

    def test_children_left_behind_end_with_the_pod(self, local):
        local.create_pod(pods.pod("parent", "sleep 300 & sleep 301 & echo started; wait"))
        uid = local.wait_ready("parent")["metadata"]["uid"]
        wait_for(lambda: len(self.agent.processes_of(uid)) >= 3, 5, "the children")
        local.delete_pod("parent")
        local.wait_pod_gone("parent", 15)
        assert not self.agent.processes_of(uid)

    def test_a_pod_without_a_command_is_refused(self, local):
        pod = pods.pod("without-command", "")
        del pod["spec"]["containers"][0]["command"]
        local.create_pod(pod)
        failed = local.wait_phase("without-command", "Failed")
        assert "spec.containers[0].command" in failed["status"]["message"]
        local.delete_pod("without-command")


def test_the_orphan_of_the_kill_is_ended(agent):
    """Force-deleted while no agent ran. Two complete looks at all pods agree before anything is ended."""
    uid = ORPHAN.get("uid")
    if uid is None:
        pytest.skip("the test that makes the orphan did not run")
    wait_for(lambda: not agent.processes_of(uid), 90, "the orphan's processes to end", interval=0.5)
    wait_for(lambda: not (agent.state / "pods" / uid).exists(), 10, "the orphan's files to be removed")


def test_nothing_is_left_and_nothing_was_denied(agent, local):
    local.clear()
    wait_for(lambda: not list((agent.state / "pods").iterdir()), 15, lambda: f"no traces in {list((agent.state / 'pods').iterdir())}")
    assert subprocess.run(["pgrep", "-af", str(agent.state / "pods")], capture_output=True, text=True).stdout == ""
    assert agent.denials() == []
