"""The remote cluster's images, made from what this machine has: no registry is asked.

Each is a docker-archive tar in the cache, named after what went into it, for `ctr images import`.
"""

import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

from . import state
from .errors import TestbedError
from .progress import say

BUSYBOX = "k8sgpu.test/busybox:1"
AGNHOST = "k8sgpu.test/agnhost:1"
PAUSE = "k8sgpu.test/pause:1"

# PID 1 of every pod: ends on SIGTERM and, by waiting, collects what processes of the pod leave behind.
_PAUSE_SCRIPT = "trap 'exit 0' TERM INT; while :; do sleep 86400 & wait $!; done"

_LAYOUT = "1"  # change it when the way images are put together changes


def archives(agnhost):
    """Paths of the image archives, made now if the cache does not have them."""
    busybox, bash = _program("busybox", "busybox-static"), _program("bash-static", "bash-static")
    curl = _program("curl", "curl")
    applets = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout.split()
    base = _base_files(busybox, bash, applets)
    environment = ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"]
    wanted = [
        (PAUSE, {"bin/busybox": busybox, "bin/sh": "->busybox"}, {"Entrypoint": ["/bin/sh", "-c", _PAUSE_SCRIPT]}),
        (BUSYBOX, base, {"Cmd": ["sh"], "Env": environment}),
        (
            AGNHOST,
            {**base, **_with_libraries("usr/bin/curl", curl), "agnhost": agnhost, "agnhost-2": "->agnhost"},
            {"Entrypoint": ["/agnhost"], "Cmd": ["pause"], "Env": environment},
        ),
    ]
    return [_archive(name, files, config) for name, files, config in wanted]


def missing_programs():
    return [
        package
        for program, package in (("busybox", "busybox-static"), ("bash-static", "bash-static"), ("curl", "curl"))
        if not shutil.which(program)
    ]


def _program(program, package):
    path = shutil.which(program)
    if path is None:
        raise TestbedError(f"no {program} to put into images", f"install the package {package} (tools/setup remote)")
    return Path(path)


def _base_files(busybox, bash, applets):
    # Values are a file of this machine, "->target" for a link, or "text:…".
    files = {f"bin/{applet}": "->busybox" for applet in applets if applet not in ("busybox", "sh", "bash")}
    files |= {
        "bin/busybox": busybox,
        "bin/bash": bash,
        "bin/sh": "->bash",
        "tmp/": None,
        "root/": None,
        "etc/passwd": "text:root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n",
        "etc/group": "text:root:x:0:\nnogroup:x:65534:\n",
        "usr/bin/env": "->../../bin/busybox",
    }
    return files


def _with_libraries(target, program):
    listed = subprocess.run(["ldd", program], capture_output=True, text=True).stdout
    libraries = [word for line in listed.splitlines() for word in line.split() if word.startswith("/")]
    return {target: program, **{library.lstrip("/"): Path(library) for library in libraries}}


def _archive(name, files, config):
    recipe = hashlib.sha256(f"{_LAYOUT}{name}{json.dumps(config)}".encode())
    for target, source in sorted(files.items()):
        recipe.update(f"{target}={source}".encode())
        if isinstance(source, Path):
            info = source.stat()
            recipe.update(f"{info.st_size},{info.st_mtime_ns}".encode())
    path = state.cache_folder() / "images" / f"{name.split('/')[-1].replace(':', '-')}-{recipe.hexdigest()[:16]}.tar"
    if path.exists():
        return path
    with state.locked("builds"):
        if not path.exists():
            say(f"making image {name}")
            for old in path.parent.glob(f"{name.split('/')[-1].replace(':', '-')}-*.tar"):
                old.unlink()
            _write(path, name, files, config)
    return path


def _write(path, name, files, config):
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}")
    layer = part.with_suffix(".layer")
    with tarfile.open(layer, "w") as tar:
        for target, source in sorted(files.items()):
            _add(tar, target, source)
    digest = hashlib.sha256()
    with open(layer, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    image = json.dumps(
        {
            "architecture": _architecture(),
            "os": "linux",
            "config": config,
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{digest.hexdigest()}"]},
        }
    ).encode()
    config_name = hashlib.sha256(image).hexdigest() + ".json"
    manifest = json.dumps([{"Config": config_name, "RepoTags": [name], "Layers": ["layer.tar"]}]).encode()
    with tarfile.open(part, "w") as tar:
        for member, content in ((config_name, image), ("manifest.json", manifest)):
            info = tarfile.TarInfo(member)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        tar.add(layer, "layer.tar")
    layer.unlink()
    os.replace(part, path)


def _add(tar, target, source):
    info = tarfile.TarInfo(target.rstrip("/"))
    if source is None:
        info.type, info.mode = tarfile.DIRTYPE, 0o1777 if target == "tmp/" else 0o700
        tar.addfile(info)
    elif isinstance(source, str) and source.startswith("->"):
        info.type, info.linkname = tarfile.SYMTYPE, source[2:]
        tar.addfile(info)
    elif isinstance(source, str):
        content = source.removeprefix("text:").encode()
        info.size, info.mode = len(content), 0o644
        tar.addfile(info, io.BytesIO(content))
    else:
        info.size, info.mode = source.stat().st_size, 0o755
        with open(source, "rb") as file:
            tar.addfile(info, file)


def _architecture():
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
