"""Where a test bed keeps its files, and which names and networks are taken.

One folder per test bed below one folder per user. Everything that `down` needs is on disk before the thing itself is
created, so that a test bed whose creator was killed can still be removed.
"""

import contextlib
import fcntl
import ipaddress
import json
import os
import re
import shutil
import stat
from pathlib import Path

from .errors import TestbedError
from .progress import say

# 10.217.<index>.0/24 is the network between the clusters of one test bed.
NETWORK = "10.217"
HIGHEST_INDEX = 250


def base_folder():
    return Path(os.environ.get("K8SGPU_TESTBED_DIR") or f"/tmp/k8sgpu-testbed-{os.getuid()}")


def cache_folder():
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(os.environ.get("K8SGPU_CACHE") or os.path.join(cache, "k8sgpu"))


def check_name(name):
    # Unix socket paths (108 bytes) and namespace names are made from it.
    if not re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,22}[a-z0-9])?", name):
        raise TestbedError(f"test bed name '{name}' is not usable", "use 1 to 24 lower-case letters, digits and inner dashes")


def ensure_base():
    base = base_folder()
    base.mkdir(mode=0o700, parents=True, exist_ok=True)
    info = base.lstat()
    if not stat.S_ISDIR(info.st_mode) or info.st_uid != os.getuid():
        raise TestbedError(f"{base} is not a folder of yours", "set K8SGPU_TESTBED_DIR to one that is")
    return base


@contextlib.contextmanager
def locked(what):
    """Holds a lock that all test beds of this user share. `what` is builds or testbeds."""
    path = cache_folder() / f".lock-{what}"
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if what == "builds":
                say("waiting for another test bed's build")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield


def claim(name, facts, addresses_in_use):
    """Makes the folder of a new test bed and gives it a network index that nothing else here uses."""
    check_name(name)
    with locked("testbeds"):
        folder = ensure_base() / name
        if folder.exists():
            raise TestbedError(f"a test bed named '{name}' exists already", f"tools/testbed down --name {name}, or choose another --name")
        taken = {load(other).get("index") for other in names()}
        index = next((i for i in range(1, HIGHEST_INDEX) if i not in taken and not _overlaps(i, addresses_in_use)), None)
        if index is None:
            raise TestbedError("no free network for another test bed", "tools/testbed down --all removes them")
        folder.mkdir(mode=0o700)
        save(name, {**facts, "name": name, "index": index})
    return index


def _overlaps(index, addresses_in_use):
    ours = ipaddress.ip_network(f"{NETWORK}.{index}.0/24")
    return any(ours.overlaps(other) for other in addresses_in_use)


def names():
    base = base_folder()
    return sorted(entry.name for entry in base.iterdir() if entry.is_dir()) if base.is_dir() else []


def keep_log(name, log):
    """Copies the log that explains a failed creation to where the clean-up leaves it, until the next `down` of that name."""
    kept = ensure_base() / f"{name}.failed-{Path(log).name}"
    with contextlib.suppress(OSError):
        shutil.copyfile(log, kept)
        return kept
    return log


def remove_kept_logs(name):
    """Of all test beds if `name` is None."""
    for kept in base_folder().glob(f"{name or '*'}.failed-*"):
        kept.unlink(missing_ok=True)
    remove_base_if_empty()


def remove_base_if_empty():
    with locked("testbeds"), contextlib.suppress(OSError):
        base_folder().rmdir()


def load(name):
    try:
        return json.loads((base_folder() / name / "state.json").read_text())
    except (OSError, ValueError):
        return {}


def save(name, facts):
    write_file(base_folder() / name / "state.json", json.dumps(facts, indent=1))


def write_file(path, text, mode=0o600):
    """Replaces a file in one step, so that a reader in another process never sees half of it."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.{os.getpid()}")
    with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w") as file:
        file.write(text)
    os.replace(part, path)
