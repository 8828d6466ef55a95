"""One test bed as a whole: brought up, found again by name from another process, taken down without leftovers."""

import concurrent.futures
import os
import shutil
import signal
import subprocess
import threading
import time
from pathlib import Path

from . import binaries, cgroups, control_plane, images, network, remote_node, state
from .errors import TestbedError
from .process import Component, is_same, send, start_time, wait_gone
from .progress import say


class Testbed:
    """`local` and `remote` are control_plane.Cluster; `remote` is None without one. Made by up() or attach()."""

    __test__ = False

    def __init__(self, name):
        facts = state.load(name)
        if "index" not in facts:
            known = ", ".join(state.names()) or "none"
            raise TestbedError(f"no test bed named '{name}' (there are: {known})", f"tools/testbed up --name {name}")
        self.name = name
        self.folder = state.base_folder() / name
        self.minor = facts["minor"]
        self.remote_minor = facts["remote_minor"]
        self.index = facts["index"]
        self.net = network.Network(name, self.index) if facts["netns"] else None
        self._facts = facts
        self._give_up = threading.Event()
        self.local = self._cluster("local")
        self.remote = self._cluster("remote") if facts["remote"] else None
        self.node = None
        if self.remote:
            self.node = remote_node.RemoteNode(name, self.index, self.remote_minor, self.remote, self.net, self._programs("remote"))

    def _programs(self, role):
        return {program: Path(path) for program, path in self._facts["programs"][role].items()}

    def _cluster(self, role):
        enter = self.net.enter(role) if self.net else []
        return control_plane.Cluster(
            role,
            self.folder,
            self._facts["addresses"][role],
            enter,
            self._facts["ports"],
            self._programs(role),
            self._give_up,
            self._facts["audit"],
            self._facts.get("history", False),
        )

    # --- life ---

    @classmethod
    def attach(cls, name="default"):
        """The running test bed of this name, started by whomever."""
        return cls(name)

    @classmethod
    def up(cls, name="default", minor=None, remote=True, remote_minor=None, netns=True, audit=False, history=False):
        """Starts a test bed. `audit`: the API servers log every request; `history`: etcd forgets nothing and stores JSON. On failure
        (and on Ctrl-C) everything is removed again, except log files named in the error."""
        state.check_name(name)
        minor = minor or binaries.minors()[-1]
        remote_minor = remote_minor or minor
        reason = network.unavailable_reason() if netns else None
        if reason:
            raise TestbedError(f"network namespaces are needed: {reason}", "run as root, or use --no-netns (local control plane only)")
        if remote and not netns:
            raise TestbedError("the remote cluster needs network namespaces", "leave out --no-netns, or say --no-remote")
        reason = remote_node.unavailable_reason() if remote else None
        if reason:
            raise TestbedError(f"the remote cluster cannot run here: {reason}", "--no-remote starts the local control plane alone")
        programs = {"local": binaries.resolve(minor, binaries.CONTROL_PLANE)}
        if remote:
            programs["remote"] = binaries.resolve(remote_minor, binaries.CONTROL_PLANE + binaries.NODE)
            images.archives(programs["remote"]["agnhost"])
        if netns:
            taken = [member for member in network.MEMBERS if os.path.exists(f"/run/netns/{name}-{member}")]
            if taken and not (state.base_folder() / name).exists():
                raise TestbedError(f"there is a network namespace {name}-{taken[0]} of somebody else's", "choose another --name")
        index = state.claim(name, {}, network.addresses_in_use())
        try:
            return cls._bring_up(name, index, minor, remote_minor, remote, netns, audit, history, programs)
        except BaseException as error:
            if isinstance(error, TestbedError) and error.log is not None:
                error.log = state.keep_log(name, error.log)
            say("failed; removing what was started")
            cls.down(name)
            raise

    @classmethod
    def _bring_up(cls, name, index, minor, remote_minor, remote, netns, audit, history, programs):
        net = network.Network(name, index) if netns else None
        roles = ["local"] + (["remote"] if remote else [])
        addresses = {role: net.address(role) if net else network.host_address() for role in roles}
        state.save(
            name,
            {
                "name": name,
                "index": index,
                "minor": minor,
                "remote_minor": remote_minor,
                "remote": remote,
                "netns": netns,
                "audit": audit,
                "history": history,
                "addresses": addresses,
                "ports": control_plane.fixed_ports() if netns else control_plane.free_ports(addresses["local"]),
                "programs": {role: {program: str(path) for program, path in found.items()} for role, found in programs.items()},
            },
        )
        bed = cls(name)
        (bed.folder / "bin").mkdir()
        (bed.folder / "bin" / "kubectl").symlink_to(programs["local"]["kubectl"])
        if net:
            net.create(["local", "agent"] + (["remote"] if remote else []))
        say(
            f"starting the control plane{'s' if remote else ''} of Kubernetes {binaries.release(minor)}"
            + (f" and {binaries.release(remote_minor)}" if remote and remote_minor != minor else "")
        )
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            jobs = [pool.submit(bed._start_local)] + ([pool.submit(bed._start_remote)] if remote else [])
            try:
                for job in concurrent.futures.as_completed(jobs):
                    job.result()
            except BaseException:
                bed._give_up.set()  # the pool is left only when the other cluster's start has ended, too
                raise
        return bed

    def _start_local(self):
        self.local.prepare()
        self.local.start()
        say(f"local control plane is ready at {self.local.server}")

    def _start_remote(self):
        self.remote.prepare()
        self.node.prepare()
        self.remote.start()
        say(f"remote control plane is ready at {self.remote.server}")
        self.node.start()
        say("remote node is Ready")

    @classmethod
    def down(cls, name="default"):
        """Ends every process and removes every namespace, link, mount, control group and file of this test bed. Works on what
        is left of one whose creation failed. Returns whether there was anything; TestbedError names what would not go."""
        state.check_name(name)
        folder = state.base_folder() / name
        if not folder.exists():
            return False
        facts = state.load(name)
        net = network.Network(name, facts["index"]) if facts.get("netns") else None
        problems = []
        _kill_all(folder, net, problems)
        left = cgroups.remove(remote_node.cgroup_path(name)) if facts.get("remote") else []
        problems += [f"control group {path}" for path in left]
        problems += _unmount_below(folder)
        if net:
            try:
                net.remove()
            except TestbedError as error:
                problems.append(error.problem)
        if not problems:
            shutil.rmtree(folder, onerror=lambda _, path, error: problems.append(f"{path}: {error[1]}"))
        if problems:
            raise TestbedError(
                f"test bed '{name}' is not completely removed: " + "; ".join(problems[:5]), f"tools/testbed down --name {name} tries again"
            )
        state.remove_base_if_empty()
        return True

    # --- use ---

    def kubectl(self, *arguments, cluster="local", **options):
        """Output of kubectl as administrator of a cluster; TestbedError with its message when it fails."""
        return self._by_role(cluster).kubectl(*arguments, **options)

    def _by_role(self, role):
        cluster = {"local": self.local, "remote": self.remote}.get(role)
        if cluster is None:
            raise TestbedError(f"this test bed has no {role} cluster", "start it with --remote")
        return cluster

    def agent_command(self, argv):
        """argv as it is to be run on the agent's host (here itself, without namespaces)."""
        return (self.net.enter("agent") if self.net else []) + [str(part) for part in argv]

    def run_in_agent_ns(self, argv, **options):
        return subprocess.run(self.agent_command(argv), **options)

    def popen_in_agent_ns(self, argv, **options):
        # nsenter without a pid namespace becomes the program: the pid is the program's own.
        return subprocess.Popen(self.agent_command(argv), **options)

    def link(self, action, member):
        if self.net is None:
            raise TestbedError("without namespaces there are no links to cut")
        self.net.link(action, member)

    def component(self, name):
        """A component by its full name, as local.kube-apiserver or remote.kubelet."""
        role, _, program = name.partition(".")
        return self._by_role(role).component(program)

    def components(self):
        return [Component.load(path) for path in sorted((self.folder / "run").glob("*.json"))]

    @property
    def agent_address(self):
        return self.net.address("agent") if self.net else self.local.address

    def environment(self):
        """Variables for a shell or a child process."""
        values = {
            "KUBECONFIG": self.local.kubeconfig,
            "LOCAL_KUBECONFIG": self.local.kubeconfig,
            "CLUSTER_CA": self.local.ca.certificate,
            "KUBECACHEDIR": self.folder / "kubectl-cache",
            "K8S_MINOR": self.minor,
            "TESTBED_NAME": self.name,
            "TESTBED_DIR": self.folder,
            "TESTBED_AGENT_IP": self.agent_address,
        }
        if self.net:
            values["TESTBED_AGENT_NETNS"] = f"/run/netns/{self.net.namespace('agent')}"
        if self.remote:
            values |= {
                "REMOTE_KUBECONFIG": self.remote.kubeconfig,
                "REMOTE_CLUSTER_CA": self.remote.ca.certificate,
                "REMOTE_K8S_MINOR": self.remote_minor,
            }
        return {name: str(value) for name, value in values.items()}


def remote_unavailable_reason():
    """None where the remote cluster can run; else one line for a skipped test."""
    return remote_node.unavailable_reason()


def _kill_all(folder, net, problems):
    """Kills components by record and whatever else lives in the namespaces, until nothing new turns up."""
    components = []
    for record in sorted((folder / "run").glob("*.json")):
        try:
            components.append(Component.load(record))
        except (OSError, ValueError, KeyError):
            problems.append(f"unreadable {record}")
    for component in components:
        component.signal(signal.SIGKILL)
    known = [pair for component in components for pair in component.pids]
    deadline = time.monotonic() + 15
    while net and (pids := net.processes()):
        pairs = [[pid, start_time(pid)] for pid in pids]
        pairs = [pair for pair in pairs if is_same(*pair)]
        if not pairs:
            break
        for pid, _ in pairs:
            send(pid, signal.SIGKILL)
        if time.monotonic() > deadline:
            problems += [f"process {pid}" for pid, _ in pairs]
            return
        wait_gone(pairs, 1)
    problems += [f"process {pid}" for pid in wait_gone(known, 10)]


def _unmount_below(folder):
    """Normally nothing: the node's mounts live in its own namespace."""
    mounts = [line.split(" ")[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    problems = []
    for mount in sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), reverse=True):
        done = subprocess.run(["umount", mount], capture_output=True, text=True)
        if done.returncode != 0:
            problems.append(f"mount {mount}: {done.stderr.strip()}")
    return problems
