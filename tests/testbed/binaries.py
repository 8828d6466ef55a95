"""Finds the real Kubernetes programs of one minor, or makes them.

Each program comes from the first place that has it in the right minor: $KUBEBUILDER_ASSETS, $PATH, our cache, the published
archives (where they can be reached), a build from Go modules.
"""

import os
import re
import shutil
import signal
import subprocess
from pathlib import Path

from . import published, state
from .errors import TestbedError
from .progress import say

CONTROL_PLANE = ("etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubectl")
NODE = ("kubelet", "agnhost")

_GO = Path(__file__).parent / "go"


def minors():
    return sorted((path.name for path in _GO.iterdir() if re.fullmatch(r"\d+\.\d+", path.name)), key=lambda minor: int(minor.split(".")[1]))


def release(minor):
    """The release that is built for a minor, as v1.36.3."""
    if minor not in minors():
        raise TestbedError(
            f"no Kubernetes '{minor}' in this test bed", f"--minor takes one of: {', '.join(minors())}; tests/testbed/go/new-minor adds one"
        )
    return re.search(r"^\s*(?:require )?k8s\.io/kubernetes (v\S+)", (_GO / minor / "go.mod").read_text(), re.MULTILINE).group(1)


def etcd_release():
    return re.search(r"go\.etcd\.io/etcd/server/v3 (v\S+)", (_GO / "etcd" / "go.mod").read_text()).group(1)


def metrics_server_release():
    return re.search(r"sigs\.k8s\.io/metrics-server (v\S+)", (_GO / "metrics-server" / "go.mod").read_text()).group(1)


def resolve(minor, wanted):
    """A path for each wanted program. Takes minutes when something has to be built, and says so."""
    found = {}
    release(minor)
    for program in wanted:
        path = _installed(program, minor) or _cached(program, minor)
        if path:
            found[program] = path
    missing = [program for program in wanted if program not in found]
    if not missing:
        return found
    # One builder at a time: another test bed that waits here finds everything in the cache.
    with state.locked("builds"):
        missing = [program for program in missing if not _cached(program, minor)]
        if missing:
            published.fetch(minor, release(minor), missing, lambda program: _cache_path(program, minor))
            missing = [program for program in missing if not _cached(program, minor)]
        if missing:
            _build(minor, missing)
    for program in wanted:
        found.setdefault(program, _cached(program, minor))
    return found


def _installed(program, minor):
    assets = os.environ.get("KUBEBUILDER_ASSETS")
    candidates = ([Path(assets) / program] if assets else []) + ([Path(path)] if (path := shutil.which(program)) else [])
    for candidate in candidates:
        if os.access(candidate, os.X_OK) and _fits(program, candidate, minor):
            return candidate
    return None


def _fits(program, path, minor):
    if program in ("agnhost", "metrics-server"):
        return False  # have no version of their own that says enough
    arguments = ["version", "--client"] if program == "kubectl" else ["--version"]
    try:
        said = subprocess.run([path, *arguments], capture_output=True, text=True, timeout=10, stdin=subprocess.DEVNULL).stdout
    except (OSError, subprocess.TimeoutExpired):
        return False
    if program == "etcd":
        # Debian's 3.4 lets the apiserver's watch caches fall behind under load.
        version = re.search(r"etcd Version: (\d+)\.(\d+)", said)
        return version is not None and (int(version[1]), int(version[2])) >= (3, 5)
    version = re.search(r"v(\d+\.\d+)\.\d+", said)
    return version is not None and version[1] == minor


def _cache_path(program, minor):
    cache = state.cache_folder() / "bin"
    if program == "etcd":
        return cache / f"etcd-{etcd_release()}" / program
    if program == "metrics-server":
        return cache / f"metrics-server-{metrics_server_release()}" / program
    if program == "agnhost":
        return cache / f"agnhost-{release(minors()[-1])}" / program
    return cache / release(minor) / program


def _cached(program, minor):
    path = _cache_path(program, minor)
    return path if os.access(path, os.X_OK) else None


def _build(minor, missing):
    say(f"building {', '.join(missing)} from Go modules; the first time this takes minutes (about 6 on two cores)")
    kubernetes = [program for program in missing if program not in ("etcd", "agnhost", "metrics-server")]
    alone = [(program, [program]) for program in ("etcd", "agnhost", "metrics-server")]
    for what, programs in (*alone, (minor, kubernetes)):
        if not any(program in missing for program in programs):
            continue
        folder = _cache_path(programs[0], minor).parent
        # A process group of its own, so that the compilers end with us however we are ended.
        builder = subprocess.Popen(
            [_GO / "build", what, folder, *(programs if what == minor else [])], stdin=subprocess.DEVNULL, process_group=0
        )
        try:
            failed = builder.wait() != 0
        except BaseException:
            os.killpg(builder.pid, signal.SIGTERM)
            raise
        if failed:
            raise TestbedError(
                f"{', '.join(programs)} could not be built",
                "the lines above say why; or put the programs on PATH or into $KUBEBUILDER_ASSETS",
            )
