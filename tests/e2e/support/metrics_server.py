"""The real metrics-server in front of a cluster of the test bed, with the ClusterRole that its own manifest ships."""

import socket

from testbed import binaries
from testbed.process import Component

from .waiting import wait_for

PORT = 4443
NAMESPACE = "kube-system"
NAME = "metrics-server"

_RULES = [
    {"apiGroups": [""], "resources": ["nodes/metrics"], "verbs": ["get"]},
    {"apiGroups": [""], "resources": ["pods", "nodes"], "verbs": ["get", "list", "watch"]},
]


def _binding(kind, name, role, role_kind, namespace=None):
    metadata = {"name": name} | ({"namespace": namespace} if namespace else {})
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": kind,
        "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": role_kind, "name": role},
        "subjects": [{"kind": "ServiceAccount", "name": NAME, "namespace": NAMESPACE}],
    }


class MetricsServer:
    """`cluster` is a support.clusters.Cluster. Runs on the host of that cluster's API server, which reaches it by the
    address in a Service of type ExternalName."""

    def __init__(self, cluster):
        self.cluster = cluster
        self.bed_cluster = cluster.cluster
        self.address = self.bed_cluster.address
        self.component = None

    def start(self):
        program = binaries.resolve(binaries.minors()[-1], [NAME])[NAME]
        self.cluster.apply(
            {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": NAME, "namespace": NAMESPACE}},
            {
                "apiVersion": "rbac.authorization.k8s.io/v1",
                "kind": "ClusterRole",
                "metadata": {"name": "system:metrics-server"},
                "rules": _RULES,
            },
            _binding("ClusterRoleBinding", "system:metrics-server", "system:metrics-server", "ClusterRole"),
            _binding("ClusterRoleBinding", "metrics-server:system:auth-delegator", "system:auth-delegator", "ClusterRole"),
            _binding("RoleBinding", "metrics-server-auth-reader", "extension-apiserver-authentication-reader", "Role", NAMESPACE),
            {
                "apiVersion": "v1",
                "kind": "Service",
                "metadata": {"name": NAME, "namespace": NAMESPACE},
                "spec": {"type": "ExternalName", "externalName": self.address, "ports": [{"port": PORT}]},
            },
            {
                "apiVersion": "apiregistration.k8s.io/v1",
                "kind": "APIService",
                "metadata": {"name": "v1beta1.metrics.k8s.io"},
                "spec": {
                    "service": {"name": NAME, "namespace": NAMESPACE, "port": PORT},
                    "group": "metrics.k8s.io",
                    "version": "v1beta1",
                    "insecureSkipTLSVerify": True,
                    "groupPriorityMinimum": 100,
                    "versionPriority": 100,
                },
            },
        )
        kubeconfig = self.bed_cluster.service_account_kubeconfig(NAMESPACE, NAME)
        folder = self.bed_cluster.folder
        argv = [
            program,
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            f"--bind-address={self.address}",
            f"--secure-port={PORT}",
            f"--cert-dir={folder / 'metrics-server'}",
            f"--kubelet-certificate-authority={self.bed_cluster.ca.certificate}",
            "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
            "--kubelet-use-node-status-port",
            "--metric-resolution=10s",
            "--kubelet-request-timeout=8s",
        ]
        log = folder / "log" / "metrics-server.log"
        self.component = Component(
            self.bed_cluster.run_folder, f"{self.bed_cluster.role}.{NAME}", argv, log, enter=self.bed_cluster.enter
        )
        self.component.start()
        wait_for(self._listens, 60, lambda: f"metrics-server to listen; {self.log()}")
        wait_for(self._available, 60, lambda: f"metrics.k8s.io to be available; {self.log()}")
        return self

    def stop(self):
        self.cluster.delete("/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io")
        if self.component:
            self.component.stop(1)

    def log(self, lines=30):
        return "\n".join(self.component.log.read_text(errors="replace").splitlines()[-lines:])

    def _listens(self):
        assert self.component.alive(), f"metrics-server ended; {self.log()}"
        try:
            with socket.create_connection((self.address, PORT), 2):
                return True
        except OSError:
            return False

    def _available(self):
        service = self.cluster.get("/apis/apiregistration.k8s.io/v1/apiservices/v1beta1.metrics.k8s.io")
        return any(c["type"] == "Available" and c["status"] == "True" for c in service.get("status", {}).get("conditions", []))
