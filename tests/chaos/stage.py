"""The stage of a run: clusters that remember everything, and agents under the shipped permissions behind links that can fail.

A front is a local cluster with its agent. Several fronts share the tenant's namespace of one remote cluster.
"""

import concurrent.futures
import http.client
import shutil
import time

from support import access, pods
from support.agent import NODE, Agent, binary
from support.clusters import Cluster
from testbed import Testbed, TestbedError

from . import churn, marks
from .proxies import Proxy, through

_PORTS = {"local": 16443, "remote": 26443}
LOCAL_USER = "system:serviceaccount:kube-system:k8sgpu"
_ANOTHER = "00000000-0000-4000-8000-000000000000"
STRANGERS = ("unmarked", f"stranger-{_ANOTHER}")

# What calls of a cluster that is failing may raise.
TROUBLE = (TestbedError, OSError, http.client.HTTPException, ValueError)


class Front:
    """`local`: the cluster as its users see it; `links`: proxies of the agent by side; `mark`: what its copies carry; `remote_user`: who
    its agent is over there."""

    def __init__(self, number, bed, remote, folder, http):
        self.number = number
        self.bed = bed
        self.local = Cluster(bed.local, churn.NAMESPACE)
        self.remote_user = f"system:serviceaccount:{access.TENANT}:k8sgpu" + (f"-{number}" if number > 1 else "")
        self.links = {}
        self.agent = None
        try:
            self._furnish(remote, folder, http)
        except BaseException:
            self.end_programs()
            raise

    def _furnish(self, remote, folder, http):
        default = Cluster(self.bed.local, "default")
        access.grant(default, "runtimeclass.yaml")
        self.local.create_namespace(churn.NAMESPACE)
        self.mark = default.get("/api/v1/namespaces/kube-system")["metadata"]["uid"]
        kubeconfigs = {"local": access.local_kubeconfig(default), "remote": _tenant(remote, self.number)}
        for side, cluster in (("local", self.bed.local), ("remote", remote.cluster)):
            self.links[side] = self._link(side, cluster, folder, http)
            kubeconfigs[side] = through(kubeconfigs[side], _PORTS[side])
        options = {
            "kubeconfig": kubeconfigs["local"],
            "remote-kubeconfig": kubeconfigs["remote"],
            "k8sgpu-tenant-name": "chaos",
            "capacity": "cpu=640,memory=2560Gi,pods=500,nvidia.com/gpu=8",
            "node-ip": self.bed.agent_address,  # towards a proxy of its own host it would find loopback
        }
        self.agent = Agent(self.bed, folder / f"agent-{self.number}", options, program=folder / "k8sgpu")
        self.agent.start().wait_ready(60)

    def _link(self, side, cluster, folder, http):
        settings = {
            "netns": f"/run/netns/{self.bed.net.namespace('agent')}",
            "port": _PORTS[side],
            "upstream": [cluster.address, cluster.ports["apiserver"]],
        }
        if http:
            pki = cluster.folder / "pki"
            settings |= {"certificate": str(pki / "apiserver.crt"), "key": str(pki / "apiserver.key"), "authority": str(pki / "ca.crt")}
        return Proxy("http_proxy" if http else "link_proxy", settings, folder / f"link-{side}-{self.number}.log")

    def end_programs(self):
        if self.agent:
            self.agent.kill()
        for link in self.links.values():
            link.stop()


class Stage:
    """`fronts`, `remote` (support.clusters.Cluster) and `beds`. With `http`, http_proxy stands in between instead of link_proxy."""

    def __init__(self, beds, folder, http):
        self.folder = folder
        self.beds = beds
        self.remote = Cluster(beds[0].remote, access.TENANT)
        shutil.copy2(binary(), folder / "k8sgpu")  # a build meanwhile must not change what is tested
        self.starting = {}  # server of an API → when it was starting, as pairs of RFC 3339
        self.fronts = []
        Cluster(beds[0].remote, "default").apply(pods.REMOTE_CLASS)
        access.tenant_kubeconfig(Cluster(beds[0].remote, access.TENANT))
        self._place_strangers()
        try:
            for number, bed in enumerate(beds, 1):
                self.fronts.append(Front(number, bed, self.remote, folder, http))
        except BaseException:
            self.end_programs()
            raise

    @classmethod
    def up(cls, name, minor, fronts, folder, http=False):
        names = [name] + [f"{name}-{number}" for number in range(2, fronts + 1)]
        try:
            for each in names:
                Testbed.down(each)  # of a run that was killed
            with concurrent.futures.ThreadPoolExecutor(len(names)) as pool:
                jobs = [pool.submit(Testbed.up, each, minor=minor, remote=each == name, audit=True, history=True) for each in names]
                beds = [job.result() for job in jobs]
            return cls(beds, folder, http)
        except BaseException:
            for each in names:
                Testbed.down(each)
            raise

    def _place_strangers(self):
        """Pods of others in the tenant's namespace, one of them marked in every point as ours are, but for another cluster."""
        plain, marked = STRANGERS
        self.remote.create_pod(pods.pod(plain, churn.FOREVER))
        pod = pods.pod(marked, churn.FOREVER, {marks.CLUSTER: _ANOTHER, marks.NODE: NODE, marks.POD_UID: _ANOTHER})
        pod["metadata"]["annotations"] = {marks.POD_NAMESPACE: churn.NAMESPACE, marks.POD_NAME: "stranger"}
        self.remote.create_pod(pod)

    @property
    def clusters(self):
        return [front.local for front in self.fronts] + [self.remote]

    # --- what happens to it ---

    def restart_api(self, cluster, grace, pause):
        """Stops an API server (grace 0: kill -9), starts it `pause` seconds later, returns when it is ready again."""
        control_plane = cluster.cluster
        control_plane.stop_component("kube-apiserver", grace)
        begin = _now()
        time.sleep(pause)
        control_plane.start_component("kube-apiserver")
        control_plane.wait_ready(180)
        self.starting.setdefault(control_plane.server, []).append((begin, _now()))

    def revive(self):
        """Starts what gave up on an API server that was away: controller managers and schedulers, as a kubelet would."""
        for bed in self.beds:
            for component in bed.components():
                if component.name.endswith(("kube-controller-manager", "kube-scheduler")) and not component.alive():
                    component.start()

    def mend(self):
        """Everything as it should be: nothing paused, links whole, whatever gave up meanwhile started again."""
        self.beds[0].link("restore", "remote")
        for bed in self.beds:
            for component in bed.components():
                component.resume()
        for cluster in self.clusters:
            cluster.cluster.wait_ready(180)
        self.revive()
        for front in self.fronts:
            for link in front.links.values():
                link.tell("pass")
            if not front.agent.running():
                front.agent.start()

    # --- the end ---

    def end_programs(self):
        for front in self.fronts:
            front.end_programs()

    def keep_logs(self):
        """Copies what explains a failure to the run's folder, since the test beds go."""
        for cluster in self.clusters:
            folder = cluster.cluster.folder
            shutil.copytree(folder / "log", self.folder / f"log-{folder.parent.name}-{folder.name}", dirs_exist_ok=True)

    def down(self, keep=False):
        self.end_programs()
        (self.folder / "k8sgpu").unlink(missing_ok=True)
        for bed in [] if keep else self.beds:
            Testbed.down(bed.name)


def _tenant(remote, number):
    """The kubeconfig of one agent for the tenant's namespace. The second and later ones have a ServiceAccount of their own, so that the audit
    log tells them apart, bound to the same shipped Role."""
    name = "k8sgpu" + (f"-{number}" if number > 1 else "")
    objects = [object_ for object_ in access.manifest("tenant-role.yaml") if object_["kind"] in ("ServiceAccount", "RoleBinding")]
    for object_ in objects if number > 1 else []:
        object_["metadata"]["name"] = name
        for subject in object_.get("subjects", []):
            subject["name"] = name
    remote.apply(*objects)
    return remote.cluster.service_account_kubeconfig(access.TENANT, name)


def _now():
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + ".000000Z"
