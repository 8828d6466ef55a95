"""Watches of pods: one until it is gone, or the creations of a whole namespace."""

import collections
import threading
import time

from testbed import TestbedError


class PodWatch:
    """`events` are (time.time(), type, object); `gone_at` is set at the DELETED of the pod."""

    def __init__(self, cluster, name):
        self._api = cluster.api
        self._path = f"{cluster.pod_path()}?watch=1&fieldSelector=metadata.name={name}"
        listed = cluster.api.get(cluster.pod_path())
        self._version = listed["metadata"]["resourceVersion"]
        self._stop = threading.Event()
        self.events = []
        self.gone_at = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set() and self.gone_at is None:
            for event in self._api.watch(f"{self._path}&resourceVersion={self._version}", self._stop, timeout=5):
                now = time.time()
                self.events.append((now, event["type"], event["object"]))
                self._version = event["object"]["metadata"]["resourceVersion"]
                if event["type"] == "DELETED":
                    self.gone_at = now
                    return

    def wait_gone(self, timeout):
        self._thread.join(timeout)
        assert self.gone_at is not None, f"not gone after {timeout} s; seen: {[(kind, pod['status']) for _, kind, pod in self.events[-2:]]}"
        return self.gone_at

    def stop(self):
        self._stop.set()
        self._thread.join()


class CreationWatch:
    """Counts how often each pod of a namespace was created, by name, over interruptions of the network."""

    def __init__(self, cluster):
        self._api = cluster.api
        self._path = f"{cluster.pod_path()}?watch=1"
        self._version = cluster.api.get(cluster.pod_path())["metadata"]["resourceVersion"]
        self._stop = threading.Event()
        self.created = collections.Counter()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        while not self._stop.is_set():
            try:
                for event in self._api.watch(f"{self._path}&resourceVersion={self._version}", self._stop, timeout=5):
                    self._version = event["object"]["metadata"]["resourceVersion"]
                    if event["type"] == "ADDED":
                        self.created[event["object"]["metadata"]["name"]] += 1
            except (OSError, TestbedError):
                self._stop.wait(0.5)

    def stop(self):
        self._stop.set()
        self._thread.join()
