"""The main job: pods of one real cluster run on another one's real kubelet, the agent under the shipped permissions on both sides."""

import base64
import json
import re
import subprocess
import time

import pytest

from support import access, pods
from support.clusters import Cluster, condition, parse_time, states
from support.following import CreationWatch, PodWatch
from support.pod_tests import PodTests
from support.waiting import stays, wait_for

pytestmark = pytest.mark.needs_remote

OURS = "k8s.gpu/pod-uid"


@pytest.fixture(scope="module")
def agent(agents, bed, kubeconfig, remote_kubeconfig):
    options = {"remote_kubeconfig": remote_kubeconfig, "k8sgpu_tenant_name": "acme", "capacity": "cpu=64,memory=256Gi,nvidia.com/gpu=8"}
    return agents.make(bed, "kubernetes", kubeconfig=kubeconfig, **options).start().wait_ready()


@pytest.fixture(scope="module")
def remote(bed):
    return Cluster(bed.remote, access.TENANT)


@pytest.fixture(scope="module", autouse=True)
def creations(remote):
    """From before the first test: a remote pod that is made a second time after it has gone would otherwise not be noticed."""
    watch = CreationWatch(remote)
    yield watch
    watch.stop()


def copies_of(remote, uid):
    return remote.pods(f"{OURS}={uid}")


def copy_of(remote, pod):
    found = copies_of(remote, pod["metadata"]["uid"])
    assert len(found) == 1, [copy["metadata"]["name"] for copy in found]
    return found[0]


def deployment(local, name, replicas, script=pods.UNTIL_TERM):
    local.apply(
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {"name": name, "namespace": local.namespace},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": {"app": name}},
                "template": {"metadata": {"labels": {"app": name}}, "spec": pods.spec(pods.container(script), restartPolicy=None)},
            },
        }
    )
    local.kubectl("rollout", "status", f"deployment/{name}", "-n", local.namespace, "--timeout=40s")


ORPHAN = {}


def test_kill_9_of_the_agent_keeps_the_same_remote_pods(agent, local, remote):
    deployment(local, "steady", 3)
    local.create_pod(pods.pod("ending-meanwhile", "sleep 3; exit 6"))
    local.create_pod(pods.pod("deleted-meanwhile", pods.UNTIL_TERM))
    local.create_pod(pods.pod("orphaned", pods.UNTIL_TERM))
    for name in ("ending-meanwhile", "deleted-meanwhile", "orphaned"):
        local.wait_ready(name)
    before = {pod["metadata"]["name"]: pod for pod in local.pods()}
    copies = {name: copy_of(remote, pod)["metadata"]["uid"] for name, pod in before.items()}
    serial = agent.certificate()["serialNumber"]

    agent.kill()
    local.delete_pod("deleted-meanwhile")
    local.delete_pod("orphaned", 0)
    ORPHAN.update(uid=before["orphaned"]["metadata"]["uid"])
    ended = copy_of(remote, before["ending-meanwhile"])["metadata"]["name"]
    remote.wait_phase(ended, "Failed", 20)
    agent.start().wait_ready()

    result = states(local.wait_phase("ending-meanwhile", "Failed"))["main"]["state"]["terminated"]
    assert (result["exitCode"], result["reason"]) == (6, "Error")
    local.wait_pod_gone("deleted-meanwhile", 20)
    wait_for(lambda: not copies_of(remote, before["deleted-meanwhile"]["metadata"]["uid"]), 20, "the remote pod to go, too")
    steady = local.pods("app=steady")
    assert {pod["metadata"]["uid"] for pod in steady} == {
        pod["metadata"]["uid"] for name, pod in before.items() if name.startswith("steady-")
    }
    for pod in steady:
        name = pod["metadata"]["name"]
        assert pod["status"]["phase"] == "Running"
        assert condition(pod, "Ready") == condition(before[name], "Ready"), "Ready must not have wavered"
        assert states(pod) == states(before[name]), "the same containers, as they were"
        assert copy_of(remote, pod)["metadata"]["uid"] == copies[name]
    assert agent.certificate()["serialNumber"] == serial, "the serving certificate must be used again"
    local.kubectl("delete", "deployment", "steady", "-n", local.namespace)
    local.delete_pod("ending-meanwhile")


def test_kill_9_right_after_creation_never_makes_a_second_copy(agent, local, remote):
    uids = []
    for round_, delay in enumerate((0.02, 0.1, 0.25)):
        uids.append(local.create_pod(pods.pod(f"hasty-{round_}", pods.UNTIL_TERM))["metadata"]["uid"])
        time.sleep(delay)
        agent.kill()
        agent.start()
    agent.wait_ready()
    for round_, uid in enumerate(uids):
        local.wait_ready(f"hasty-{round_}", 40)
        assert len(copies_of(remote, uid)) == 1
        assert states(local.pod(f"hasty-{round_}"))["main"]["restartCount"] == 0
        local.delete_pod(f"hasty-{round_}")


class TestForwardedPods(PodTests):
    @pytest.fixture(autouse=True)
    def _remote(self, remote):
        self.remote = remote

    def anywhere(self, uid):
        return copies_of(self.remote, uid)


def test_a_job_loses_and_doubles_nothing_while_the_agent_is_killed_again_and_again(agent, local, remote, creations):
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "harried", "namespace": local.namespace},
        "spec": {
            "completions": 12,
            "parallelism": 6,
            "backoffLimit": 0,
            "template": {"spec": pods.spec(pods.container("echo $HOSTNAME; sleep 1"))},
        },
    }
    local.apply(job)
    for pause in (0.3, 1.1, 0.7, 1.7, 0.5, 1.3):
        time.sleep(pause)
        agent.kill()
        agent.start()
    local.kubectl("wait", "--for=condition=Complete", "job/harried", "-n", local.namespace, "--timeout=90s")
    made = local.pods("job-name=harried")
    assert [pod["status"]["phase"] for pod in made] == ["Succeeded"] * 12, "a pod was lost and replaced"
    for pod in made:
        name = pod["metadata"]["name"]
        assert creations.created[f"{name}-{pod['metadata']['uid']}"] == 1
        assert local.kubectl("logs", name, "-n", local.namespace) == f"{name}\n"
    agent.wait_ready()
    local.kubectl("delete", "job", "harried", "-n", local.namespace)
    local.wait_no_pods_of("job-name=harried")


def test_a_deployment_of_three_is_scheduled_here_and_run_there(agent, local, remote):
    deployment(local, "three", 3)
    made = local.pods("app=three")
    assert len(made) == 3
    for pod in made:
        name = pod["metadata"]["name"]
        assert pod["spec"]["nodeName"] == "k8s.gpu" and pod["spec"]["runtimeClassName"] == pods.CLASS
        scheduled = local.wait_event(name, "Scheduled")[0]["message"]
        assert scheduled == f"Successfully assigned {local.namespace}/{name} to k8s.gpu"
        copy = copy_of(remote, pod)
        assert copy["spec"]["nodeName"] == "remote-node"
        assert copy["metadata"]["name"] == f"{name}-{pod['metadata']['uid']}"
        assert states(pod)["main"]["containerID"] == states(copy)["main"]["containerID"], "the remote kubelet runs it"
        assert states(pod)["main"]["imageID"], states(pod)
        assert pod["status"]["podIP"] == copy["status"]["podIP"]
        assert pod["status"]["hostIP"] == agent.address
    # Rolling to another image: new pods run before the old ones go.
    local.kubectl("set", "image", "deployment/three", "main=k8sgpu.test/agnhost:1", "-n", local.namespace)
    local.kubectl("rollout", "status", "deployment/three", "-n", local.namespace, "--timeout=60s")
    local.kubectl("scale", "deployment/three", "--replicas=0", "-n", local.namespace)
    local.wait_no_pods_of("app=three")
    wait_for(lambda: not [pod for pod in remote.pods() if pod["metadata"]["name"].startswith("three-")], 20, "the remote pods to go")


def test_a_pod_bound_without_a_class_runs_too(local, remote):
    local.create_pod(pods.pod("bound", pods.UNTIL_TERM, runtimeClassName=None, nodeName="k8s.gpu"))
    local.create_pod(pods.pod("tolerant", pods.UNTIL_TERM, runtimeClassName=None, tolerations=[pods.TOLERATION]))
    for name in ("bound", "tolerant"):
        pod = local.wait_ready(name)
        assert "runtimeClassName" not in copy_of(remote, pod)["spec"]
        local.delete_pod(name)
    for name in ("bound", "tolerant"):
        local.wait_pod_gone(name, 15)


def test_gpus_are_counted_on_both_sides(local, remote):
    resources = {"limits": {"nvidia.com/gpu": 2, "cpu": "100m", "memory": "64Mi"}}
    local.create_pod(pods.pod("with-gpus", "", containers=[pods.container(pods.UNTIL_TERM, resources=resources)]))
    pod = local.wait_ready("with-gpus")
    assert copy_of(remote, pod)["spec"]["containers"][0]["resources"]["limits"]["nvidia.com/gpu"] == "2"
    described = local.kubectl("describe", "node", "k8s.gpu")
    assert [line.split() for line in described.splitlines() if line.strip().startswith("nvidia.com/gpu ")][-1][1:] == ["2", "2"], described
    local.create_pod(pods.pod("too-many", "", containers=[pods.container(pods.UNTIL_TERM, resources={"limits": {"nvidia.com/gpu": 7}})]))
    event = local.wait_event("too-many", "FailedScheduling")[0]
    assert "Insufficient nvidia.com/gpu" in event["message"], "8 GPUs, 2 of them taken"
    for name in ("with-gpus", "too-many"):
        local.delete_pod(name)


def test_deletion_reaches_the_local_pod_within_two_seconds_of_the_last_containers_end(local, remote):
    # Containers say themselves when they end; the second one takes its time.
    script = "trap 'sleep {}; echo end $EPOCHREALTIME; exit 0' TERM; echo up; while :; do sleep 0.1; done"
    containers = [pods.container(script.format(0), "quick"), pods.container(script.format(1.5), "slow")]
    local.create_pod(pods.pod("measured", "", grace=20, containers=containers))
    pod = local.wait_ready("measured")
    copy = copy_of(remote, pod)["metadata"]["name"]
    remote_watch, local_watch = PodWatch(remote, copy), PodWatch(local, "measured")
    follower = remote.popen("logs", "-f", copy, "-c", "slow", "-n", remote.namespace, stdout=subprocess.PIPE)
    assert follower.stdout.readline() == "up\n"
    local.delete_pod("measured")
    ended = float(follower.stdout.readline().split()[1])
    follower.communicate(timeout=20)
    local_gone, remote_gone = local_watch.wait_gone(20), remote_watch.wait_gone(20)
    assert local_gone > ended, "the local pod went while a container could still run"
    assert local_gone - ended <= 2.0, f"{local_gone - ended:.2f} s; the remote pod took {remote_gone - ended:.2f} s"
    final = [pod for _, kind, pod in local_watch.events if kind == "DELETED"][0]
    assert final["status"]["phase"] == "Succeeded"
    assert [states(final)[name]["state"]["terminated"]["exitCode"] for name in ("quick", "slow")] == [0, 0]


def test_configuration_comes_along(agent, local, remote):
    data = lambda text: base64.b64encode(text.encode()).decode()  # noqa: E731
    ns = {"namespace": local.namespace}
    auths = json.dumps({"auths": {"registry.example.com": {"username": "u", "password": "p", "auth": data("u:p")}}})
    local.apply(
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": "settings", **ns},
            "data": {"COLOR": "green", "file.txt": "from a file\n"},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "keys", **ns},
            "data": {"TOKEN": data("s3cr3t"), "key.pem": data("a key\n")},
        },
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "registry", **ns},
            "type": "kubernetes.io/dockerconfigjson",
            "data": {".dockerconfigjson": data(auths)},
        },
    )
    script = (
        "echo $COLOR $TOKEN $ONE $WHERE; cat /cm/file.txt /keys/sub/key.pem /all/file.txt /all/TOKEN; echo; "
        "cat /all/labels; echo; stat -c %a /keys/..data/sub/key.pem; "
    )
    pod = pods.pod("furnished", script + pods.UNTIL_TERM)
    pod["metadata"]["labels"] = {"team": "blue"}
    container = pod["spec"]["containers"][0]
    container["envFrom"] = [{"configMapRef": {"name": "settings"}}, {"configMapRef": {"name": "not-there", "optional": True}}]
    container["env"] = [
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "keys", "key": "TOKEN"}}},
        {"name": "ONE", "value": "$(COLOR)-$(TOKEN)"},
        {"name": "WHERE", "valueFrom": {"fieldRef": {"fieldPath": "metadata.namespace"}}},
    ]
    container["volumeMounts"] = [
        {"name": "cm", "mountPath": "/cm"},
        {"name": "keys", "mountPath": "/keys"},
        {"name": "all", "mountPath": "/all"},
    ]
    pod["spec"]["volumes"] = [
        {"name": "cm", "configMap": {"name": "settings"}},
        {"name": "keys", "secret": {"secretName": "keys", "items": [{"key": "key.pem", "path": "sub/key.pem", "mode": 0o400}]}},
        {
            "name": "all",
            "projected": {
                "sources": [
                    {"configMap": {"name": "settings"}},
                    {"secret": {"name": "keys"}},
                    {"downwardAPI": {"items": [{"path": "labels", "fieldRef": {"fieldPath": "metadata.labels['team']"}}]}},
                ]
            },
        },
    ]
    pod["spec"]["imagePullSecrets"] = [{"name": "registry"}]
    local.create_pod(pod)
    made = local.wait_ready("furnished")
    lines = local.kubectl("logs", "furnished", "-n", local.namespace).splitlines()
    assert lines[:8] == [
        f"green s3cr3t green-s3cr3t {local.namespace}",
        "from a file",
        "a key",
        "from a file",
        "s3cr3t",
        "blue",
        "400",
        "started",
    ]

    copy = copy_of(remote, made)
    pull_secret = copy["spec"]["imagePullSecrets"][0]["name"]
    copied = remote.get(f"/api/v1/namespaces/{access.TENANT}/secrets/{pull_secret}")
    assert copied["type"] == "kubernetes.io/dockerconfigjson" and copied["data"][".dockerconfigjson"] == data(auths)
    # Secrets stay secrets: neither the remote pod's object nor the agent's log has the value.
    assert "s3cr3t" not in json.dumps(copy) and "s3cr3t" not in agent.log()
    assert copy["spec"]["automountServiceAccountToken"] is False
    assert not [volume for volume in copy["spec"]["volumes"] if volume["name"].startswith("kube-api-access-")]
    local.delete_pod("furnished")
    local.wait_pod_gone("furnished", 15)


def test_a_volume_of_a_missing_config_map_is_waited_for(local, remote):
    pod = pods.pod("mounting", "cat /cm/word; " + pods.UNTIL_TERM, volumes=[{"name": "words", "configMap": {"name": "words"}}])
    pod["spec"]["containers"][0]["volumeMounts"] = [{"name": "words", "mountPath": "/cm"}]
    uid = local.create_pod(pod)["metadata"]["uid"]
    event = local.wait_event("mounting", "FailedMount")[0]
    assert event["message"] == 'MountVolume.SetUp failed for volume "words" : configmap "words" not found'
    seen = local.pod("mounting")
    assert seen["status"]["phase"] == "Pending"
    assert states(seen)["main"]["state"]["waiting"]["reason"] == "ContainerCreating"
    assert not copies_of(remote, uid), "nothing is made before all of it is there"
    local.apply(
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "words", "namespace": local.namespace}, "data": {"word": "late\n"}}
    )
    local.wait_ready("mounting", 20)
    assert local.kubectl("logs", "mounting", "-n", local.namespace).splitlines()[0] == "late"
    local.delete_pod("mounting")
    local.wait_pod_gone("mounting", 15)


def test_an_image_that_cannot_be_pulled_is_shown_as_the_kubelet_shows_it(local):
    pod = pods.pod("imageless", "echo never", containers=[{"name": "main", "image": "k8sgpu.test/nothing:9", "imagePullPolicy": "Never"}])
    local.create_pod(pod)
    waiting = lambda pod: states(pod).get("main", {}).get("state", {}).get("waiting", {})  # noqa: E731
    seen = local.wait_pod("imageless", lambda pod: waiting(pod).get("reason") == "ErrImageNeverPull", "to say why it waits")
    assert waiting(seen)["message"] == 'Container image "k8sgpu.test/nothing:9" is not present with pull policy of Never'
    assert local.wait_event("imageless", "ErrImageNeverPull")
    done = local.run("logs", "imageless", "-n", local.namespace)
    assert 'container "main" in pod "imageless" is waiting to start: ErrImageNeverPull' in done.stderr, done.stderr
    local.delete_pod("imageless")
    local.wait_pod_gone("imageless", 15)


def test_a_remote_pod_removed_by_somebody_else_is_lost_and_its_deployment_replaces_it(local, remote, creations):
    deployment(local, "replaced", 1)
    pod = local.pods("app=replaced")[0]
    name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
    watch = PodWatch(local, name)
    remote.delete_pod(copy_of(remote, pod)["metadata"]["name"], 1)

    def lost():
        now = local.pod(name)
        return now and now["status"]["phase"] == "Failed" and now

    failed = wait_for(lost, 20, lambda: f"the local pod to be lost: {json.dumps((local.pod(name) or {}).get('status'))}")
    assert failed["status"]["reason"] == "RemotePodLost", failed["status"]
    assert condition(failed, "DisruptionTarget").get("status") == "True"
    assert [event["type"] for event in local.wait_event(name, "RemotePodLost")] == ["Warning"]
    local.kubectl("rollout", "status", "deployment/replaced", "-n", local.namespace, "--timeout=30s")
    running = [pod for pod in local.pods("app=replaced") if pod["status"]["phase"] == "Running"]
    assert len(running) == 1 and running[0]["metadata"]["uid"] != uid
    wait_for(lambda: not copies_of(remote, uid), 15, "the remote pod to be gone")
    assert creations.created[f"{name}-{uid}"] == 1, "a lost pod is not run a second time"
    watch.stop()
    local.kubectl("delete", "deployment", "replaced", "-n", local.namespace)
    local.delete_pod(name)


def test_force_deletion_takes_the_remote_pod_along(local, remote):
    local.create_pod(pods.pod("forced", pods.UNTIL_TERM, grace=30))
    pod = local.wait_ready("forced")
    uid = pod["metadata"]["uid"]
    local.kubectl("delete", "pod", "forced", "--force", "--grace-period=0", "-n", local.namespace)
    assert local.pod("forced") is None
    wait_for(lambda: not copies_of(remote, uid), 15, "the remote pod to go")


def test_a_secret_that_goes_while_the_pod_runs_does_no_harm(local, remote):
    local.apply(
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "passing", "namespace": local.namespace}, "stringData": {"k": "v"}}
    )
    pod = pods.pod("unharmed", pods.UNTIL_TERM)
    pod["spec"]["containers"][0]["envFrom"] = [{"secretRef": {"name": "passing"}}]
    local.create_pod(pod)
    before = local.wait_ready("unharmed")
    local.delete(f"/api/v1/namespaces/{local.namespace}/secrets/passing")
    stays(lambda: local.pod("unharmed")["status"]["phase"] == "Running", 3, "the pod runs on")
    assert copy_of(remote, before)["status"]["phase"] == "Running"
    local.delete_pod("unharmed")
    local.wait_pod_gone("unharmed", 15)


def test_changed_labels_reach_the_remote_pod(local, remote):
    local.create_pod(pods.pod("relabelled", pods.UNTIL_TERM, labels={"stage": "one"}))
    pod = local.wait_ready("relabelled")
    assert copy_of(remote, pod)["metadata"]["labels"]["stage"] == "one"
    local.kubectl("label", "pod", "relabelled", "stage=two", "--overwrite", "-n", local.namespace)
    wait_for(lambda: copy_of(remote, pod)["metadata"]["labels"].get("stage") == "two", 10, "the label to arrive")
    assert copy_of(remote, pod)["metadata"]["labels"]["k8s.gpu/tenant"] == "acme"
    local.delete_pod("relabelled")


def test_a_debug_container_joins_the_remote_pod(local, remote):
    local.create_pod(pods.pod("debugged", pods.UNTIL_TERM, shareProcessNamespace=True))
    pod = local.wait_ready("debugged")
    command = ["debug", "debugged", "-n", local.namespace, f"--image={pods.IMAGE}", "--image-pull-policy=Never", "-c", "probe", "--target=main"]
    local.kubectl(*command, "--", "sh", "-c", "echo from the side; exec sleep 3600")
    ephemeral = lambda: [s for s in local.pod("debugged")["status"].get("ephemeralContainerStatuses", []) if "running" in s["state"]]
    wait_for(ephemeral, 20, "the debug container to run")
    assert local.kubectl("logs", "debugged", "-c", "probe", "-n", local.namespace) == "from the side\n"
    assert local.kubectl("exec", "debugged", "-c", "probe", "-n", local.namespace, "--", "echo", "there") == "there\n"
    assert [c["name"] for c in copy_of(remote, pod)["spec"]["ephemeralContainers"]] == ["probe"]
    # One that the tenant may not have: the pod runs on, an Event names the field.
    privileged = {"spec": {"ephemeralContainers": [{"name": "root", "image": pods.IMAGE, "securityContext": {"privileged": True}}]}}
    local.kubectl("patch", "pod", "debugged", "-n", local.namespace, "--subresource=ephemeralcontainers", "-p", json.dumps(privileged))
    events = lambda: [e["message"] for e in local.events("debugged") if e["reason"] == "UpdateFailed"]
    assert re.search(r"spec\.ephemeralContainers\[\d\]\.securityContext\.privileged: ", wait_for(events, 20, "an Event")[0])
    assert local.pod("debugged")["status"]["phase"] == "Running"
    local.delete_pod("debugged")
    local.wait_pod_gone("debugged", 15)


def test_resources_are_resized_in_place(local, remote):
    wanted = pods.pod("resized", pods.UNTIL_TERM)
    wanted["spec"]["containers"][0]["resources"] = {"requests": {"cpu": "10m"}}
    local.create_pod(wanted)
    before = local.wait_ready("resized")
    patch = {"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "20m"}}}]}}
    local.kubectl("patch", "pod", "resized", "-n", local.namespace, "--subresource=resize", "-p", json.dumps(patch))
    wait_for(lambda: copy_of(remote, before)["spec"]["containers"][0]["resources"]["requests"]["cpu"] == "20m", 20, "the resize over there")
    done = lambda: states(local.pod("resized"))["main"].get("resources", {}).get("requests", {}).get("cpu") == "20m"
    wait_for(done, 60, "the remote kubelet's word that it is done")
    assert states(local.pod("resized"))["main"]["restartCount"] == 0
    local.delete_pod("resized")
    local.wait_pod_gone("resized", 15)


def test_what_others_have_in_the_tenant_namespace_is_left_alone(local, remote):
    remote.create_pod(pods.pod("stranger", pods.UNTIL_TERM))
    labels = {"k8s.gpu/node": "k8s.gpu", "k8s.gpu/pod-uid": "11111111-2222-3333-4444-555555555555"}
    remote.create_pod(pods.pod("half-marked", pods.UNTIL_TERM, labels=labels))
    for name in ("stranger", "half-marked"):
        remote.wait_ready(name)
    stays(lambda: all(remote.pod(name)["status"]["phase"] == "Running" for name in ("stranger", "half-marked")), 3, "foreign pods run on")
    for name in ("stranger", "half-marked"):
        remote.delete_pod(name, 1)
        remote.wait_pod_gone(name, 20)


def test_a_cut_link_to_the_remote_cluster_is_shown_and_heals(agent, local, remote, bed):
    local.create_pod(pods.pod("enduring", pods.UNTIL_TERM))
    before = local.wait_ready("enduring")
    copy = copy_of(remote, before)["metadata"]["uid"]
    bed.link("cut", "remote")
    try:

        def reachable():
            return condition(local.get("/api/v1/nodes/k8s.gpu"), "RemoteReachable").get("status")

        wait_for(lambda: reachable() == "False", 60, "the Node to say that its provider cannot be reached", interval=0.5)
        assert local.pod("enduring")["status"]["phase"] == "Running", "not being heard of is no reason to fail"
        local.create_pod(pods.pod("patient", pods.UNTIL_TERM))
        assert agent.health("/healthz")[0] == 200
    finally:
        bed.link("restore", "remote")
    wait_for(lambda: reachable() == "True", 60, "the Node to say that its provider is back", interval=0.5)
    local.wait_ready("patient", 60)
    after = local.pod("enduring")
    assert states(after) == states(before)
    assert copy_of(remote, after)["metadata"]["uid"] == copy
    for name in ("enduring", "patient"):
        local.delete_pod(name, 1)


def test_the_orphan_of_the_kill_is_ended(remote):
    """Force-deleted while no agent ran. Two complete looks at all remote pods agree before anything is removed."""
    uid = ORPHAN.get("uid")
    if uid is None:
        pytest.skip("the test that makes the orphan did not run")
    wait_for(lambda: not copies_of(remote, uid), 90, "the orphan to be removed", interval=0.5)


def test_nothing_was_made_twice_nothing_is_left_and_nothing_was_denied(agent, local, remote, creations):
    local.clear()
    assert len(creations.created) > 40 and max(creations.created.values()) == 1, creations.created.most_common(5)

    def left():
        names = [f"pod {pod['metadata']['name']}" for pod in remote.pods()]
        for kind in ("configmaps", "secrets"):
            items = remote.api.get(f"/api/v1/namespaces/{access.TENANT}/{kind}")["items"]
            names += [f"{kind} {item['metadata']['name']}" for item in items if item["metadata"]["name"] != "kube-root-ca.crt"]
        return names

    wait_for(lambda: not left(), 30, lambda: f"the tenant namespace to be empty: {left()}", interval=0.5)
    assert agent.denials() == []
