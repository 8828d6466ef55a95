"""One cluster's control plane: etcd, kube-apiserver, kube-controller-manager, kube-scheduler, as kubeadm would set them up.

One authority signs everything, as in kubeadm clusters: client certificates, kubelet serving certificates, and those that the
controller manager issues. kube-apiserver verifies kubelets against it and hands it out in
kube-system/extension-apiserver-authentication.
"""

import base64
import concurrent.futures
import json
import socket
import time

from . import certs, kubeconfigs, state
from .api import Api, ApiError
from .errors import TestbedError
from .process import Component, run

_PROGRAMS = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler")


class Cluster:
    """`role` is local or remote. `programs` maps program names to paths. `enter` is the command prefix that leads into the
    cluster's network namespace, empty without one; `ports` are fixed inside a namespace and free ones without. Setting the event
    `give_up` ends a start that is under way."""

    def __init__(self, role, folder, address, enter, ports, programs, give_up, audit=False, history=False):
        self.role = role
        self.folder = folder / role
        self.run_folder = folder / "run"
        self.address = address
        self.enter = enter
        self.ports = ports
        self.programs = programs
        self.give_up = give_up
        self.audit = audit
        self.history = history
        self.server = f"https://{address}:{ports['apiserver']}"
        self.kubeconfig = self.folder / "admin.kubeconfig"
        self.ca = certs.Authority(self.folder / "pki", "ca")

    # --- setting up ---

    def prepare(self):
        """Makes certificates and kubeconfigs. Touches nothing outside the cluster's folder."""
        pki = self.folder / "pki"
        self.ca = certs.Authority(pki, "ca", f"{self.role}-ca")
        front_proxy = certs.Authority(pki, "front-proxy-ca", f"{self.role}-front-proxy-ca")
        etcd = certs.Authority(pki, "etcd-ca", f"{self.role}-etcd-ca")
        certs.make_key(pki / "sa.key")
        certs.public_key(pki / "sa.key", pki / "sa.pub")
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            jobs = [
                pool.submit(
                    self.ca.issue,
                    "apiserver",
                    "kube-apiserver",
                    server=True,
                    addresses=[self.address, "127.0.0.1", "10.96.0.1"],
                    names=[
                        "localhost",
                        "kubernetes",
                        "kubernetes.default",
                        "kubernetes.default.svc",
                        "kubernetes.default.svc.cluster.local",
                    ],
                ),
                pool.submit(self.ca.issue, "apiserver-kubelet-client", "kube-apiserver-kubelet-client", ["system:masters"]),
                pool.submit(front_proxy.issue, "front-proxy-client", "front-proxy-client"),
                pool.submit(etcd.issue, "etcd", "etcd", server=True, addresses=["127.0.0.1"]),
                pool.submit(etcd.issue, "etcd-client", "kube-apiserver"),
                pool.submit(self.user_kubeconfig, "admin", "kubernetes-admin", ["system:masters"]),
                pool.submit(self.user_kubeconfig, "kube-controller-manager", "system:kube-controller-manager"),
                pool.submit(self.user_kubeconfig, "kube-scheduler", "system:kube-scheduler"),
            ]
            for job in jobs:
                job.result()

    def user_kubeconfig(self, file_name, user, groups=(), namespace="default"):
        """A kubeconfig with a fresh client certificate for any user and groups. Returns its path."""
        certificate, key = self.ca.issue(f"client-{file_name}", user, groups)
        return kubeconfigs.write(
            self.folder / f"{file_name}.kubeconfig", self.server, self.ca.certificate, certificate, key, namespace=namespace
        )

    def service_account_kubeconfig(self, namespace, name, duration="1h", file_name=None):
        """A kubeconfig with a token of this ServiceAccount, which must exist. Returns its path."""
        token = self.kubectl("create", "token", name, "-n", namespace, f"--duration={duration}").strip()
        path = self.folder / f"{file_name or f'sa-{namespace}-{name}'}.kubeconfig"
        return kubeconfigs.write(path, self.server, self.ca.certificate, token=token, namespace=namespace)

    def _argv(self, program):
        pki, ports = self.folder / "pki", self.ports
        etcd_url = f"https://127.0.0.1:{ports['etcd']}"
        peer_url = f"https://127.0.0.1:{ports['etcd-peer']}"
        if program == "etcd":
            tls = [
                f"--{side}{option}={pki / file}"
                for side in ("", "peer-")
                for option, file in (("cert-file", "etcd.crt"), ("key-file", "etcd.key"), ("trusted-ca-file", "etcd-ca.crt"))
            ]
            return [
                self.programs["etcd"],
                "--name=testbed",
                f"--data-dir={self.folder / 'etcd'}",
                "--unsafe-no-fsync",
                "--log-level=warn",
                f"--listen-client-urls={etcd_url}",
                f"--advertise-client-urls={etcd_url}",
                f"--listen-peer-urls={peer_url}",
                f"--initial-advertise-peer-urls={peer_url}",
                f"--initial-cluster=testbed={peer_url}",
                "--client-cert-auth",
                "--peer-client-cert-auth",
                *(["--quota-backend-bytes=8589934592"] if self.history else []),
                *tls,
            ]
        if program == "kube-apiserver":
            argv = [
                self.programs["kube-apiserver"],
                f"--bind-address={self.address}",
                f"--advertise-address={self.address}",
                f"--secure-port={ports['apiserver']}",
                f"--etcd-servers={etcd_url}",
                f"--etcd-cafile={pki}/etcd-ca.crt",
                f"--etcd-certfile={pki}/etcd-client.crt",
                f"--etcd-keyfile={pki}/etcd-client.key",
                f"--tls-cert-file={pki}/apiserver.crt",
                f"--tls-private-key-file={pki}/apiserver.key",
                f"--client-ca-file={pki}/ca.crt",
                "--authorization-mode=Node,RBAC",
                "--enable-admission-plugins=NodeRestriction",
                "--allow-privileged=true",
                "--profiling=false",
                f"--kubelet-client-certificate={pki}/apiserver-kubelet-client.crt",
                f"--kubelet-client-key={pki}/apiserver-kubelet-client.key",
                f"--kubelet-certificate-authority={pki}/ca.crt",
                "--kubelet-preferred-address-types=InternalIP,ExternalIP,Hostname",
                "--service-cluster-ip-range=10.96.0.0/16",
                "--service-account-issuer=https://kubernetes.default.svc.cluster.local",
                f"--service-account-key-file={pki}/sa.pub",
                f"--service-account-signing-key-file={pki}/sa.key",
                f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
                "--requestheader-allowed-names=front-proxy-client",
                "--requestheader-username-headers=X-Remote-User",
                "--requestheader-group-headers=X-Remote-Group",
                "--requestheader-extra-headers-prefix=X-Remote-Extra-",
                f"--proxy-client-cert-file={pki}/front-proxy-client.crt",
                f"--proxy-client-key-file={pki}/front-proxy-client.key",
            ]
            if self.audit:
                policy = self.folder / "audit-policy.json"
                state.write_file(
                    policy,
                    json.dumps(
                        {
                            "apiVersion": "audit.k8s.io/v1",
                            "kind": "Policy",
                            "omitStages": ["RequestReceived"],
                            "rules": [{"level": "Metadata"}],
                        }
                    ),
                )
                argv += [f"--audit-policy-file={policy}", f"--audit-log-path={self.folder / 'log' / 'audit.log'}"]
            if self.history:
                argv += ["--etcd-compaction-interval=0", "--storage-media-type=application/json"]
            return argv
        kubeconfig = self.folder / f"{program}.kubeconfig"
        common = [
            self.programs[program],
            f"--kubeconfig={kubeconfig}",
            f"--authentication-kubeconfig={kubeconfig}",
            f"--authorization-kubeconfig={kubeconfig}",
            "--leader-elect=false",
            "--bind-address=127.0.0.1",
            f"--secure-port={ports[program]}",
            "--profiling=false",
        ]
        if program == "kube-controller-manager":
            # The default of 20 requests a second would make every test with hundreds of pods wait for it.
            return common + [
                "--use-service-account-credentials=true",
                f"--flex-volume-plugin-dir={self.folder / 'flexvolumes'}",
                "--kube-api-qps=300",
                "--kube-api-burst=600",
                f"--cluster-signing-cert-file={pki}/ca.crt",
                f"--cluster-signing-key-file={pki}/ca.key",
                f"--root-ca-file={pki}/ca.crt",
                f"--service-account-private-key-file={pki}/sa.key",
                f"--requestheader-client-ca-file={pki}/front-proxy-ca.crt",
            ]
        return common + ["--kube-api-qps=300", "--kube-api-burst=600"]

    # --- running ---

    def record(self, program):
        return self.run_folder / f"{self.role}.{program}.json"

    def component(self, program):
        """A component by its program's name, as last started."""
        try:
            return Component.load(self.record(program))
        except FileNotFoundError:
            known = sorted(path.name[len(self.role) + 1 : -len(".json")] for path in self.run_folder.glob(f"{self.role}.*.json"))
            raise TestbedError(f"the {self.role} cluster has no component '{program}'", "it has: " + ", ".join(known)) from None

    def start(self):
        """Starts all four and returns when the apiserver is ready and pods can be created."""
        for program in _PROGRAMS:
            Component(
                self.run_folder, f"{self.role}.{program}", self._argv(program), self.folder / "log" / f"{program}.log", self.enter
            ).start()
        self.wait_ready()

    def stop_component(self, program, grace=5.0):
        self.component(program).stop(grace)

    def start_component(self, program):
        self.component(program).start()

    def pause_component(self, program):
        self.component(program).pause()

    def resume_component(self, program):
        self.component(program).resume()

    def wait_ready(self, timeout=90.0):
        api = self.api()
        self._wait("answers /readyz", timeout, "kube-apiserver", lambda: api.get("/readyz", timeout=2) == "ok")
        # Pods are refused before the controller manager has made their service account.
        self._wait(
            "has made the default service account",
            timeout,
            "kube-controller-manager",
            lambda: api.get("/api/v1/namespaces/default/serviceaccounts/default", timeout=2) is not None,
        )

    def _wait(self, what, timeout, blame, condition):
        deadline = time.monotonic() + timeout
        watched = [(program, self.component(program)) for program in _PROGRAMS]
        while True:
            problem = "no answer"
            try:
                if condition():
                    return
            except (ApiError, OSError) as error:
                problem = str(error)
            # The controller manager and the scheduler may give up on an apiserver that is not ready yet: start them again.
            for program, component in watched:
                if not component.alive():
                    if program in ("etcd", "kube-apiserver"):
                        raise TestbedError(f"the {self.role} cluster's {program} ended by itself", "the log says why", component.log)
                    component.start()
            if self.give_up.wait(0.1):
                raise TestbedError(f"the start of the {self.role} cluster was given up")
            if time.monotonic() > deadline:
                raise TestbedError(
                    f"the {self.role} cluster: no {blame} that {what} after {timeout:.0f} s ({problem})",
                    "see its log",
                    self.component(blame).log,
                )

    # --- using ---

    def api(self):
        return Api(self.kubeconfig)

    def kubectl(self, *arguments, **options):
        """Output of kubectl as the cluster's administrator."""
        # Addresses are used again by the next test bed: what kubectl remembers of a server must not outlive it.
        return run(
            [self.programs["kubectl"], f"--kubeconfig={self.kubeconfig}", f"--cache-dir={self.folder / 'kubectl-cache'}", *arguments],
            f"kubectl {' '.join(str(argument) for argument in arguments)}",
            **options,
        )

    def token_kubeconfig(self, token, file_name, namespace="default"):
        return kubeconfigs.write(
            self.folder / f"{file_name}.kubeconfig", self.server, self.ca.certificate, token=token, namespace=namespace
        )


def fixed_ports():
    return {"apiserver": 6443, "etcd": 2379, "etcd-peer": 2380, "kube-controller-manager": 10257, "kube-scheduler": 10259}


def free_ports(address):
    """Ports that are free now. Another program may take one before we do; `up` then fails and says so."""
    sockets, ports = [], {}
    for name in fixed_ports():
        sockets.append(socket.socket())
        sockets[-1].bind((address if name == "apiserver" else "127.0.0.1", 0))
        ports[name] = sockets[-1].getsockname()[1]
    for opened in sockets:
        opened.close()
    return ports


def decode_request(object_):
    """The PEM text of a CertificateSigningRequest object."""
    return base64.b64decode(object_["spec"]["request"]).decode()
