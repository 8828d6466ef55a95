"""The control groups that the remote kubelet puts its pods into: one tree per test bed, in cgroup v1 or v2."""

import os
import signal
import time
from pathlib import Path

from .errors import TestbedError
from .process import send

_V2_CONTROLLERS = ("cpuset", "cpu", "io", "memory", "pids")


def _roots():
    """Mount points of all hierarchies: one for v2, one per controller for v1."""
    roots = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, where, kind, options, *_ = line.split(" ")
        if kind in ("cgroup", "cgroup2") and "ro" not in options.split(","):
            roots.append(Path(where))
    return roots


def is_v2():
    return Path("/sys/fs/cgroup/cgroup.controllers").exists()


def unavailable_reason():
    if not _roots():
        return "no cgroup file system is mounted writable"
    if is_v2():
        missing = set(_V2_CONTROLLERS) - {"cpuset", "io"} - set(Path("/sys/fs/cgroup/cgroup.controllers").read_text().split())
        if missing:
            return f"the cgroup controllers {', '.join(sorted(missing))} are not delegated to this machine"
    for root in _roots():
        if not os.access(root, os.W_OK):
            return f"{root} cannot be written"
    return None


def create(path):
    """Makes the group `path` (as /name) in every hierarchy."""
    for root in _roots():
        (root / path.lstrip("/")).mkdir(exist_ok=True)
    if is_v2():
        _delegate(Path("/sys/fs/cgroup"))
        _delegate(Path("/sys/fs/cgroup") / path.lstrip("/"))


def _delegate(folder):
    for controller in Path(folder / "cgroup.controllers").read_text().split():
        if controller in _V2_CONTROLLERS:
            try:
                (folder / "cgroup.subtree_control").write_text(f"+{controller}")
            except OSError as error:
                raise TestbedError(
                    f"the cgroup controller {controller} cannot be given to groups below {folder}: {error.strerror}",
                    "processes sit in that group itself; run with a cgroup namespace whose root is empty",
                ) from None


def remove(path, seconds=10.0):
    """Kills what is left in the group and removes the tree. Returns what could not be removed."""
    deadline = time.monotonic() + seconds
    while True:
        left = []
        for root in _roots():
            top = root / path.lstrip("/")
            for folder, _, _ in os.walk(top, topdown=False):
                try:
                    os.rmdir(folder)
                except FileNotFoundError:
                    pass
                except OSError:
                    left.append(folder)
                    for pid in _processes(folder):
                        send(pid, signal.SIGKILL)
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.05)


def _processes(folder):
    try:
        return [int(pid) for pid in (Path(folder) / "cgroup.procs").read_text().split()]
    except OSError:
        return []
