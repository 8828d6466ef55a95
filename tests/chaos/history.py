"""Everything that ever happened to the pods of a cluster, read from etcd itself.

A watch of the API can miss what happens while it is interrupted, an audit log loses its last lines when the API server is killed. etcd keeps
every revision (the test bed is told not to compact and to store JSON), so the whole history can be read afterwards, in order, with nothing
missing.
"""

import base64
import json
import subprocess
from dataclasses import dataclass, field

END_MARK = "zz-end-of-history"


@dataclass
class Life:
    """One object from its creation to its deletion. `states` are its successive distinct (phase, deletion asked for); `ended` is the object
    as it was when it first had a terminal phase."""

    uid: str
    namespace: str
    name: str
    first: dict
    last: dict
    states: list = field(default_factory=list)
    ended: dict = None
    deleted: bool = False

    def see(self, object_):
        self.last = object_
        seen = (object_.get("status", {}).get("phase"), "deletionTimestamp" in object_["metadata"])
        if not self.states or self.states[-1] != seen:
            self.states.append(seen)
        if self.ended is None and seen[0] in ("Succeeded", "Failed"):
            self.ended = object_

    @property
    def phases(self):
        """Successive distinct phases."""
        found = []
        for phase, _ in self.states:
            if not found or found[-1] != phase:
                found.append(phase)
        return found


def pods(cluster, namespace):
    """UID → Life of every pod that a namespace ever had. Leaves a pod behind that marks the end and never runs."""
    marker = {
        "metadata": {"name": END_MARK, "namespace": namespace},
        "spec": {"schedulingGates": [{"name": "chaos/never"}], "containers": [{"name": "never", "image": "none"}]},
    }
    _replace(cluster, f"/api/v1/namespaces/{namespace}/pods", marker)
    return _lives(cluster, f"/registry/pods/{namespace}/")


def jobs(cluster, namespace):
    """UID → Life of every Job that a namespace ever had."""
    marker = {
        "metadata": {"name": END_MARK, "namespace": namespace},
        "spec": {
            "suspend": True,
            "template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "never", "image": "none"}]}},
        },
    }
    _replace(cluster, f"/apis/batch/v1/namespaces/{namespace}/jobs", marker)
    return _lives(cluster, f"/registry/jobs/{namespace}/")


def _replace(cluster, path, object_):
    cluster.api().call("POST", path, object_, timeout=30)


def _lives(cluster, prefix):
    lives, at = {}, {}
    for kind, key, version, object_ in _events(cluster, prefix):
        if kind == "DELETE":
            if key in at:
                at.pop(key).deleted = True
            continue
        uid = object_["metadata"]["uid"]
        if version == 1:
            lives[uid] = at[key] = Life(uid, object_["metadata"].get("namespace", ""), object_["metadata"]["name"], object_, object_)
        at[key].see(object_)
        if object_["metadata"]["name"] == END_MARK:
            del lives[uid]
            return lives
    raise RuntimeError(f"etcd's history of {prefix} ended early")


def _events(cluster, prefix):
    """(kind, key, version of the key, object) of every revision, oldest first."""
    pki = cluster.folder / "pki"
    request = {
        "create_request": {
            "key": base64.b64encode(prefix.encode()).decode(),
            "range_end": base64.b64encode((prefix[:-1] + chr(ord(prefix[-1]) + 1)).encode()).decode(),
            "start_revision": "1",
        }
    }
    reader = subprocess.Popen(
        cluster.enter
        + ["curl", "--silent", "--show-error", "--no-buffer", "--max-time", "600", "--cacert", str(pki / "etcd-ca.crt")]
        + ["--cert", str(pki / "etcd-client.crt"), "--key", str(pki / "etcd-client.key")]
        + ["--data", json.dumps(request), f"https://127.0.0.1:{cluster.ports['etcd']}/v3/watch"],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
    )
    try:
        for line in reader.stdout:
            result = json.loads(line).get("result", {})
            if result.get("canceled"):
                raise RuntimeError(f"etcd ends the history of {prefix}: {result}")
            for event in result.get("events", []):
                kv = event["kv"]
                value = json.loads(base64.b64decode(kv["value"])) if kv.get("value") else None
                yield event.get("type", "PUT"), base64.b64decode(kv["key"]).decode(), int(kv.get("version", 0)), value
    finally:
        reader.kill()
        reader.wait()


