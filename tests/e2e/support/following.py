"""Watches one pod until it is gone, and notes when."""

import threading
import time


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
