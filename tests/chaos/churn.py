"""Pods that come and go: bare ones under names that are used again at once, a Deployment, a StatefulSet, Jobs that count.

Decides by what the cluster lists, with random numbers of its seed. Creates no faster than the node starts pods, so that a slow machine
gets fewer of them and not a queue. Calls that fail are repeated by chance later: what really happened stands in etcd.
"""

import http.client
import threading

from support import pods
from support.clusters import condition
from testbed import TestbedError

NAMESPACE = "churn"
EXIT = "chaos/exit"  # label: the exit code that a pod ends with by itself
_QUICK_END = "trap 'exit 0' TERM; "
FOREVER = f"{_QUICK_END}sleep 1000000 & wait"  # costs nothing while it runs


def _owner(pod):
    return next((owner["kind"] for owner in pod["metadata"].get("ownerReferences", [])), "")


def runs(pod):
    return pod["status"].get("phase") == "Running" and condition(pod, "Ready").get("status") == "True"


def is_over(pod):
    return pod["status"].get("phase") in ("Succeeded", "Failed")


def is_going(pod):
    return "deletionTimestamp" in pod["metadata"]


class Churn:
    """`count` pods in all, roughly: half bare, a quarter Deployment, the rest StatefulSet and Jobs. start(), then stop()."""

    def __init__(self, cluster, count, random, journal, most_pending=12):
        self.cluster = cluster
        self.random = random
        self.journal = journal
        self.most_pending = most_pending
        self.done = {}  # what → how often
        self.failed_calls = 0
        self.running_at = {}  # UID → when it was first seen running, in seconds of the journal
        self.created_at = {}
        self.count = count
        self._may_take = False
        self.most = 0  # pods that ran at one time
        self._bare = [f"solo-{number:02}" for number in range(count - count // 4 - count // 8 - count // 8)]
        self._deployed = count // 4
        self._stateful = count // 8
        self._jobs_wanted = max(1, count // 16)  # two pods each
        self._jobs_made = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="churn", daemon=True)

    def start(self):
        self._thread.start()

    def stop(self):
        """No more changes. What is there stays."""
        self._stop.set()
        self._thread.join()

    def _run(self):
        controllers = False
        while not self._stop.wait(0.7):
            try:
                controllers = controllers or self._make_controllers()
                self._tick()
            except (TestbedError, OSError, http.client.HTTPException, ValueError) as error:
                self.failed_calls += 1
                self.journal.note(f"churn: {error!r}")

    def _count(self, what, name):
        self.done[what] = self.done.get(what, 0) + 1
        self.journal.note(f"churn: {what} {name}")

    def _make_controllers(self):
        for kind, replicas in (("Deployment", self._deployed), ("StatefulSet", self._stateful)):
            name = kind.lower()
            self.cluster.apply(
                {
                    "apiVersion": "apps/v1",
                    "kind": kind,
                    "metadata": {"name": name, "namespace": NAMESPACE},
                    "spec": {
                        "replicas": replicas,
                        "selector": {"matchLabels": {"app": name}},
                        **({"podManagementPolicy": "Parallel", "serviceName": name} if kind == "StatefulSet" else {}),
                        "template": {
                            "metadata": {"labels": {"app": name}},
                            "spec": pods.spec(pods.container(FOREVER), restartPolicy=None),
                        },
                    },
                }
            )
        return True

    def _tick(self):
        listed = self.cluster.pods()
        now = self.journal.seconds()
        for pod in listed:
            self.created_at.setdefault(pod["metadata"]["uid"], now)
            if runs(pod) or is_over(pod):
                self.running_at.setdefault(pod["metadata"]["uid"], now)
        self.most = max(self.most, sum(map(runs, listed)))
        pending = sum(not runs(pod) and not is_over(pod) for pod in listed)
        running = sum(map(runs, listed))
        # Taking away no faster than the node starts anew keeps the number up; now and then it happens all the same.
        self._may_take = self.random.random() < 0.15 or (pending < self.most_pending // 2 and running > 0.75 * self.count)
        by_name = {pod["metadata"]["name"]: pod for pod in listed}
        for name in self.random.sample(self._bare, min(6, len(self._bare))):
            pending += self._bare_pod(name, by_name.get(name), pending < self.most_pending)
        chance = self.random.random()
        if pending >= self.most_pending:
            return
        self._jobs()
        if not self._may_take:
            return
        if chance < 0.25:
            self._delete_one_of(listed, "ReplicaSet" if chance < 0.15 else "StatefulSet")
        elif chance < 0.30:
            self._scale()
        elif chance < 0.32:
            self._roll_out()

    # --- bare pods ---

    def _bare_pod(self, name, pod, may_create):
        """Takes the next step of one name's life. Returns how many pods it made."""
        if pod is None:
            return self._create(name) if may_create else 0
        if is_going(pod):
            if self.random.random() < 0.05:
                self._delete(name, 0, "force-delete a pod that is ending")
            return 0
        chance = self.random.random()
        if is_over(pod):
            self._delete(name, None, "delete a pod that has ended")
        elif not self._may_take:
            return 0
        elif chance < 0.10:
            self._delete(name, self.random.choice((1, 2, 5)), "delete")
        elif chance < 0.17:
            self._delete(name, 0, "force-delete")
            return self._create(name) if may_create else 0
        return 0

    def _create(self, name):
        chance = self.random.random()
        if chance < 0.6:
            script, code = FOREVER, None
        elif chance < 0.85:
            script, code = f"{_QUICK_END}sleep {self.random.randint(0, 8)} & wait; exit 0", 0
        else:
            script, code = f"{_QUICK_END}sleep {self.random.randint(0, 4)} & wait; exit 3", 3
        pod = pods.pod(name, script, {} if code is None else {EXIT: str(code)}, grace=self.random.choice((1, 2, 5)))
        self.cluster.create_pod(pod)
        self._count("create", name)
        return 1

    def _delete(self, name, grace, what):
        self.cluster.delete_pod(name, grace)
        self._count(what, name)

    # --- controllers ---

    def _delete_one_of(self, listed, kind):
        mine = [pod["metadata"]["name"] for pod in listed if _owner(pod) == kind and not is_going(pod)]
        if mine:
            self._delete(self.random.choice(mine), self.random.choice((0, None)), f"delete a pod of a {kind}")

    def _scale(self):
        wanted = self.random.randint(self._deployed // 2, self._deployed)
        self.cluster.patch(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/deployment", {"spec": {"replicas": wanted}})
        self._count("scale the Deployment", wanted)

    def _roll_out(self):
        template = {"metadata": {"annotations": {"chaos/round": str(self.random.random())}}}
        self.cluster.patch(f"/apis/apps/v1/namespaces/{NAMESPACE}/deployments/deployment", {"spec": {"template": template}})
        self._count("roll the Deployment out", "")

    # --- Jobs ---

    def _jobs(self):
        path = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
        open_ = 0
        for job in self.cluster.api.get(path)["items"]:
            if condition(job, "Complete").get("status") == "True":
                if not is_going(job):
                    self.cluster.delete(f"{path}/{job['metadata']['name']}?propagationPolicy=Background")
                    self._count("delete a complete Job", job["metadata"]["name"])
            else:
                open_ += 1
        if open_ < self._jobs_wanted:
            self._jobs_made += 1
            self.cluster.api.call("POST", path, self._job(f"job-{self._jobs_made:03}"))
            self._count("create a Job", f"job-{self._jobs_made:03}")

    def _job(self, name):
        script = f"{_QUICK_END}sleep {self.random.randint(0, 6)} & wait; exit 0"
        return {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": {"name": name},
            "spec": {
                "completions": self.random.choice((2, 3)),
                "parallelism": 2,
                "completionMode": "Indexed",
                "backoffLimit": 20,  # a lost pod must show as a second run, not as a failed Job
                "template": {"metadata": {"labels": {EXIT: "0"}}, "spec": pods.spec(pods.container(script))},
            },
        }
