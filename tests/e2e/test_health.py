"""/healthz and /readyz: the one asks for a restart, the other says whether the node can do its work."""

import http.client
import json

import pytest

from support import pods
from support.waiting import stays, wait_for


@pytest.fixture(scope="module")
def agent(agents, bed, kubeconfig):
    return agents.make(bed, "health", provider="process", kubeconfig=kubeconfig).start().wait_ready()


def test_both_say_ok_and_list_their_checks_when_asked(agent):
    assert agent.health("/healthz") == (200, "ok")
    assert agent.health("/readyz") == (200, "ok")
    status, text = agent.health("/readyz?verbose")
    assert status == 200
    assert {line.split("]")[1].split()[0] for line in text.splitlines() if line.startswith("[+]")} >= {
        "node",
        "lease",
        "pods",
        "certificate",
    }


def test_nothing_else_is_served_there(agent):
    for path in ("/", "/pods", "/metrics/../pods", "/exec/a/b/c"):
        assert agent.health(path)[0] == 404
    connection = http.client.HTTPConnection(agent.address, agent.health_port, timeout=5)
    connection.request("POST", "/healthz", body="x" * 5000)
    assert connection.getresponse().status >= 400
    connection.close()


def test_without_the_api_server_pods_run_on_and_readiness_ends(agent, local, bed):
    """The lease is 40 seconds long: once it has run out, the cluster counts the node as lost, and readiness must say so."""
    local.create_pod(pods.pod("enduring", "n=0; trap 'exit 0' TERM; while :; do n=$((n+1)); echo $n; sleep 0.2; done"))
    local.create_pod(pods.pod("ending", "sleep 5; exit 4"))
    before = local.wait_ready("enduring")
    local.wait_ready("ending")
    uid = before["metadata"]["uid"]
    bed.local.pause_component("kube-apiserver")
    try:
        wait_for(lambda: agent.health("/readyz")[0] == 503, 60, "readiness to end", interval=0.5)
        assert "[-]lease failed: last renewed" in agent.health("/readyz")[1]
        assert agent.health("/healthz") == (200, "ok")
        assert agent.processes_of(uid), "pods run on"
    finally:
        bed.local.resume_component("kube-apiserver")
    wait_for(lambda: agent.health("/readyz")[0] == 200, 40, "readiness to come back", interval=0.5)
    failed = local.wait_phase("ending", "Failed", 30)
    assert failed["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"] == 4
    after = local.wait_ready("enduring")
    assert after["metadata"]["uid"] == uid
    assert after["status"]["containerStatuses"] == before["status"]["containerStatuses"], json.dumps(after["status"])
    numbers = [int(line) for line in local.kubectl("logs", "enduring", "-n", local.namespace).split()]
    assert numbers == list(range(1, len(numbers) + 1))
    agent.wait_ready()
    stays(lambda: agent.health("/readyz")[0] == 200, 2, "readiness")
    for name in ("enduring", "ending"):
        local.delete_pod(name, 1)
        local.wait_pod_gone(name, 15)


def test_it_can_be_switched_off(agents, agent, bed, kubeconfig):
    agents.end(agent)
    quiet = agents.make(bed, "health-off", provider="process", kubeconfig=kubeconfig, **{"health-probe-bind-address": "0"}).start()
    wait_for(lambda: "registered node k8s.gpu" in quiet.log(), 20, "the node to be registered")
    with pytest.raises(OSError):
        quiet.health("/healthz")
    agents.end(quiet)
