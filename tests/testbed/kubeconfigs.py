"""Writes kubeconfigs, with everything inline as clusters hand them out."""

import base64
from pathlib import Path

import yaml

from . import state


def write(path, server, ca_file, certificate=None, key=None, token=None, namespace="default"):
    if token is not None:
        user = {"token": token}
    else:
        user = {"client-certificate-data": _inline(certificate), "client-key-data": _inline(key)}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "testbed",
        "clusters": [{"name": "testbed", "cluster": {"server": server, "certificate-authority-data": _inline(ca_file)}}],
        "users": [{"name": "testbed", "user": user}],
        "contexts": [{"name": "testbed", "context": {"cluster": "testbed", "user": "testbed", "namespace": namespace}}],
    }
    state.write_file(path, yaml.safe_dump(config, sort_keys=False))
    return Path(path)


def _inline(path):
    return base64.b64encode(Path(path).read_bytes()).decode()
