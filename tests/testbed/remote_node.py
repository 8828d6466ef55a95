"""The remote cluster's only node: a real containerd and kubelet in mount and pid namespaces of their own.

The namespaces are what makes the clean-up certain: when their first process is killed, the kernel ends every pod and removes
every mount with it. Control groups are a tree of the test bed's own (cgroups.py).
"""

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

from . import cgroups, images, kubeconfigs, network, state
from .api import ApiError
from .errors import TestbedError
from .process import Component, run

NODE_NAME = "remote-node"
GPUS = 8
_NOT_FOR_FILES = ("/run/", "/var/lib/", "/var/log/")  # the node gets its own of these

_CONTAINERD = """version = 2
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper",
  "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.tracing", "io.containerd.tracing.processor.v1.otlp"]
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{folder}/opt"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  stream_server_address = "127.0.0.1"
  stream_server_port = "0"
  restrict_oom_score_adj = true
  tolerate_missing_hugetlb_controller = true
  disable_hugetlb_controller = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{cni}"
    conf_dir = "{folder}/cni"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "{snapshotter}"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
      runtime_type = "io.containerd.runc.v2"
"""


def unavailable_reason():
    """None when real pods can run here; else one line saying why not, for skipped tests."""
    reason = network.unavailable_reason() or cgroups.unavailable_reason()
    if reason:
        return reason
    probe = subprocess.run(
        ["unshare", "--mount", "--pid", "--fork", "--mount-proc", "--", "sh", "-c", "mount -t tmpfs tmpfs /run"],
        capture_output=True,
        text=True,
    )
    if probe.returncode != 0:
        return "mount and pid namespaces cannot be made: " + (probe.stderr.strip().splitlines() or ["no reason given"])[-1]
    missing = [program for program in ("containerd", "containerd-shim-runc-v2", "ctr", "runc") if not shutil.which(program)]
    missing += images.missing_programs()
    if not _cni_folder():
        missing.append("containernetworking-plugins")
    if missing:
        return f"not installed: {', '.join(missing)} (tools/setup remote installs them)"
    if str(state.base_folder()).startswith(_NOT_FOR_FILES):
        return f"{state.base_folder()} lies in one of {', '.join(_NOT_FOR_FILES)}; set K8SGPU_TESTBED_DIR to a folder elsewhere"
    return None


def _cni_folder():
    return next((folder for folder in ("/usr/lib/cni", "/opt/cni/bin") if os.path.exists(f"{folder}/bridge")), None)


def cgroup_path(testbed_name):
    return f"/k8sgpu-testbed-{testbed_name}"


class RemoteNode:
    """`cluster` is the remote control plane, already prepared; `net` the test bed's Network."""

    def __init__(self, testbed_name, index, minor, cluster, net, programs):
        self.cgroup = cgroup_path(testbed_name)
        self.minor = minor
        self.cluster = cluster
        self.net = net
        self.programs = programs
        self.pod_network = f"10.218.{index}.0/24"
        self.folder = cluster.folder / "node"
        self.socket = self.folder / "containerd.sock"

    def prepare(self):
        (self.folder / "cni").mkdir(parents=True, exist_ok=True)
        pki = self.cluster.ca
        address = self.cluster.address
        pki.issue("kubelet", f"system:node:{NODE_NAME}", ["system:nodes"], addresses=[address], names=[NODE_NAME], server=True)
        kubeconfigs.write(
            self.folder / "kubelet.kubeconfig", self.cluster.server, pki.certificate, pki.folder / "kubelet.crt", pki.folder / "kubelet.key"
        )
        state.write_file(self.folder / "resolv.conf", "nameserver 127.0.0.1\n", 0o644)
        state.write_file(self.folder / "kubelet.json", json.dumps(self._kubelet_config(), indent=1))
        state.write_file(
            self.folder / "containerd.toml",
            _CONTAINERD.format(
                socket=self.socket, folder=self.folder, pause=images.PAUSE, cni=_cni_folder(), snapshotter=_snapshotter(self.folder)
            ),
        )
        state.write_file(
            self.folder / "cni" / "10-pods.conflist",
            json.dumps(
                {
                    "cniVersion": "0.4.0",
                    "name": "pods",
                    "plugins": [
                        {
                            "type": "bridge",
                            "bridge": "cni0",
                            "isGateway": True,
                            "ipMasq": False,
                            "hairpinMode": True,
                            "ipam": {"type": "host-local", "ranges": [[{"subnet": self.pod_network}]], "routes": [{"dst": "0.0.0.0/0"}]},
                        }
                    ],
                }
            ),
        )

    def _kubelet_config(self):
        pki = self.cluster.folder / "pki"
        config = {
            "kind": "KubeletConfiguration",
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "address": self.cluster.address,
            "port": 10250,
            "healthzPort": 10248,
            "authentication": {"anonymous": {"enabled": False}, "webhook": {"enabled": True}, "x509": {"clientCAFile": f"{pki}/ca.crt"}},
            "authorization": {"mode": "Webhook"},
            "tlsCertFile": f"{pki}/kubelet.crt",
            "tlsPrivateKeyFile": f"{pki}/kubelet.key",
            "containerRuntimeEndpoint": f"unix://{self.socket}",
            "imageServiceEndpoint": f"unix://{self.socket}",
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": self.cgroup,
            "cgroupsPerQOS": True,
            "enforceNodeAllocatable": [],
            "failSwapOn": False,
            "oomScoreAdj": 0,
            "maxPods": 110,
            "clusterDomain": "cluster.local",
            "clusterDNS": ["10.96.0.10"],
            "resolvConf": f"{self.folder}/resolv.conf",
            "volumePluginDir": "/var/lib/kubelet/volumeplugins",
            "makeIPTablesUtilChains": False,
            "serializeImagePulls": False,
            "registryPullQPS": 0,
            "eventRecordQPS": 0,
            "kubeAPIQPS": 300,
            "kubeAPIBurst": 600,
            "syncFrequency": "10s",
            "configMapAndSecretChangeDetectionStrategy": "Watch",
            # A full disk of the developer's machine is no reason to evict test pods or drop images.
            "imageGCHighThresholdPercent": 100,
            "imageGCLowThresholdPercent": 99,
            "evictionHard": {
                "memory.available": "50Mi",
                "nodefs.available": "0%",
                "nodefs.inodesFree": "0%",
                "imagefs.available": "0%",
                "imagefs.inodesFree": "0%",
            },
        }
        if int(self.minor.split(".")[1]) >= 31:
            config["failCgroupV1"] = False  # 1.31 introduced the field, later releases refuse cgroup v1 without it
        return config

    def start(self):
        """Starts the node and returns when it is Ready and has the images."""
        log = self.cluster.folder / "log"
        (self.folder / "ready").unlink(missing_ok=True)
        cgroups.create(self.cgroup)
        init = Component(
            self.cluster.run_folder,
            "remote.node-init",
            [
                "unshare",
                "--mount",
                "--propagation=private",
                "--pid",
                "--fork",
                "--kill-child=KILL",
                "--mount-proc",
                "--",
                Path(__file__).parent / "node-init.sh",
                self.folder,
            ],
            log / "node-init.log",
            self.net.enter("remote"),
            enter_forks=True,
        )
        init.start()
        _until(lambda: (self.folder / "ready").exists(), 10, "the remote node's namespaces are not set up", init, self.cluster.give_up)
        enter = [
            "nsenter",
            f"--net=/run/netns/{self.net.namespace('remote')}",
            f"--mount=/proc/{init.pid}/ns/mnt",
            f"--pid=/proc/{init.pid}/ns/pid",
            "--",
        ]
        containerd = Component(
            self.cluster.run_folder,
            "remote.containerd",
            ["containerd", "--config", self.folder / "containerd.toml"],
            log / "containerd.log",
            enter,
            enter_forks=True,
        )
        containerd.start()
        ctr = enter + ["ctr", "--address", self.socket, "--namespace", "k8s.io"]
        _until(
            lambda: self.socket.exists() and subprocess.run(ctr + ["version"], capture_output=True).returncode == 0,
            20,
            "containerd does not answer",
            containerd,
            self.cluster.give_up,
        )
        for archive in images.archives(self.programs["agnhost"]):
            run(
                ctr + ["images", "import", "--snapshotter", _snapshotter(self.folder), archive],
                f"containerd does not take the image {archive.name}",
            )
        kubelet = Component(
            self.cluster.run_folder,
            "remote.kubelet",
            [
                self.programs["kubelet"],
                f"--config={self.folder / 'kubelet.json'}",
                f"--kubeconfig={self.folder / 'kubelet.kubeconfig'}",
                f"--hostname-override={NODE_NAME}",
                f"--node-ip={self.cluster.address}",
            ],
            log / "kubelet.log",
            enter,
            enter_forks=True,
        )
        kubelet.start()
        _until(self._ready, 60, "the remote node does not become Ready", kubelet, self.cluster.give_up)
        self._furnish()

    def _ready(self):
        try:
            node = self.cluster.api().get(f"/api/v1/nodes/{NODE_NAME}", timeout=3)
        except (ApiError, OSError):
            return False
        ready = any(condition["type"] == "Ready" and condition["status"] == "True" for condition in node["status"].get("conditions", []))
        return ready and not node["spec"].get("taints")

    def _furnish(self):
        """What an administrator would add: GPUs (in name only: nothing is behind them) and the class that selects them."""
        api = self.cluster.api()
        # The kubelet would derive allocatable from capacity with its next status, up to 10 s later.
        api.call(
            "PATCH",
            f"/api/v1/nodes/{NODE_NAME}/status",
            [{"op": "add", "path": f"/status/{kind}/nvidia.com~1gpu", "value": str(GPUS)} for kind in ("capacity", "allocatable")],
            "application/json-patch+json",
        )
        api.call(
            "POST",
            "/apis/node.k8s.io/v1/runtimeclasses",
            {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "nvidia"},
        )


def _snapshotter(folder):
    """overlayfs, unless the folder itself is on one (a container's file system), where it cannot be stacked."""
    kind = subprocess.run(["stat", "--file-system", "--format=%T", str(folder)], capture_output=True, text=True).stdout.strip()
    return "native" if kind == "overlayfs" else "overlayfs"


def _until(condition, seconds, problem, component, give_up):
    deadline = time.monotonic() + seconds
    while not condition():
        if give_up.wait(0.1):
            raise TestbedError("the start of the remote node was given up")
        if not component.alive():
            raise TestbedError(f"{problem}: {component.name} ended", "its log says why", component.log)
        if time.monotonic() > deadline:
            raise TestbedError(f"{problem} after {seconds} s", f"see the log of {component.name}", component.log)
