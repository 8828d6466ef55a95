"""Fetches published programs where their servers can be reached: dl.k8s.io for Kubernetes, the envtest archive for etcd.

Much faster than building. Quiet when unreachable: a build follows. K8SGPU_DOWNLOAD=no skips the attempt.
"""

import hashlib
import io
import os
import platform
import tarfile
import urllib.error
import urllib.request

import yaml

from .progress import say

_CONNECT_SECONDS = 4
_KUBERNETES = os.environ.get("K8SGPU_KUBERNETES_DOWNLOADS", "https://dl.k8s.io")
_ENVTEST_INDEX = os.environ.get(
    "K8SGPU_ENVTEST_INDEX", "https://raw.githubusercontent.com/kubernetes-sigs/controller-tools/HEAD/envtest-releases.yaml"
)
_LARGEST = 400 << 20
_PLATFORM = {"x86_64": "amd64", "aarch64": "arm64"}.get(platform.machine())


def fetch(minor, release, programs, path_of):
    """Fetches what it can of `programs` to path_of(program). Says what it fetched; never fails."""
    if os.environ.get("K8SGPU_DOWNLOAD") == "no" or _PLATFORM is None:
        return
    for program in programs:
        if program in ("agnhost", "metrics-server"):
            continue  # built anyway: the one is published as an image only
        try:
            content = _etcd(minor) if program == "etcd" else _kubernetes(release, program)
        except (OSError, ValueError, KeyError, tarfile.TarError, yaml.YAMLError, urllib.error.URLError) as error:
            say(f"{program} cannot be fetched ({error})")
            return
        path = path_of(program)
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f".{program}.part")
        part.write_bytes(content)
        part.chmod(0o755)
        part.rename(path)
        say(f"fetched {program}")


def _kubernetes(release, program):
    url = f"{_KUBERNETES}/{release}/bin/linux/{_PLATFORM}/{program}"
    wanted = _read(url + ".sha256").decode().split()[0]
    content = _read(url)
    if hashlib.sha256(content).hexdigest() != wanted:
        raise ValueError("its checksum is wrong")
    return content


def _etcd(minor):
    releases = yaml.safe_load(_read(_ENVTEST_INDEX))["releases"]
    fitting = [name for name in releases if name.startswith(f"v{minor}.")]
    if not fitting:
        raise ValueError(f"no envtest archive for {minor}")
    newest = max(fitting, key=lambda name: [int(part) if part.isdigit() else -1 for part in name[1:].split(".")])
    archive = releases[newest][f"envtest-{newest}-linux-{_PLATFORM}.tar.gz"]
    content = _read(archive["selfLink"])
    if hashlib.sha512(content).hexdigest() != archive["hash"]:
        raise ValueError("its checksum is wrong")
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:
        member = next(entry for entry in tar.getmembers() if entry.isfile() and entry.name.split("/")[-1] == "etcd")
        return tar.extractfile(member).read()


def _read(url):
    with urllib.request.urlopen(url, timeout=_CONNECT_SECONDS) as answer:
        content = answer.read(_LARGEST + 1)
    if len(content) > _LARGEST:
        raise ValueError(f"{url} is larger than expected")
    return content
