"""Plays the signer beta.eks.amazonaws.com/app-serving, which only EKS has: issues, refuses, or never answers.

    with AppServingSigner(testbed.local, "issue"): …

As in EKS only approved requests are looked at. The certificates come from the cluster's authority, so that kube-apiserver
verifies them like those of its own signer.
"""

import base64
import datetime
import threading
import urllib.parse

from .api import ApiError
from .control_plane import decode_request
from .errors import TestbedError

NAME = "beta.eks.amazonaws.com/app-serving"
MODES = ("issue", "refuse", "never")
_PATH = "/apis/certificates.k8s.io/v1/certificatesigningrequests"


class AppServingSigner:
    """One thread, from start() to stop(). `mode` may be changed while it runs. `seen` counts the requests by name."""

    def __init__(self, cluster, mode="issue", signer_name=NAME, days=30):
        if mode not in MODES:
            raise TestbedError(f"no signer mode '{mode}'", "one of: " + ", ".join(MODES))
        self.mode = mode
        self.signer_name = signer_name
        self.days = days
        self.seen = set()
        self.error = None  # the last thing that went wrong, for a test that waits in vain
        self._cluster = cluster
        self._api = cluster.api()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="app-serving-signer", daemon=True)

    def start(self):
        self._thread.start()
        return self

    def stop(self):
        self._stop.set()
        self._thread.join()

    __enter__ = start

    def __exit__(self, *_):
        self.stop()

    def _run(self):
        selector = urllib.parse.quote(f"spec.signerName={self.signer_name}")
        while not self._stop.is_set():
            try:
                requests = self._api.get(f"{_PATH}?fieldSelector={selector}")
                for request in requests["items"]:
                    self._answer(request)
                version = requests["metadata"]["resourceVersion"]
                for event in self._api.watch(
                    f"{_PATH}?watch=1&resourceVersion={version}&fieldSelector={selector}", self._stop, timeout=0.5
                ):
                    if event["type"] in ("ADDED", "MODIFIED"):
                        self._answer(event["object"])
            except (ApiError, OSError, TestbedError) as error:
                self.error = error
                self._stop.wait(0.2)

    def _answer(self, request):
        self.seen.add(request["metadata"]["name"])
        conditions = request["status"].get("conditions", [])
        kinds = {condition["type"] for condition in conditions}
        if self.mode == "never" or "Approved" not in kinds or kinds & {"Denied", "Failed"} or request["status"].get("certificate"):
            return
        if self.mode == "refuse":
            now = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
            conditions.append(
                {
                    "type": "Failed",
                    "status": "True",
                    "reason": "SignerValidationFailure",
                    "message": "the test bed's signer refuses every request",
                    "lastUpdateTime": now,
                    "lastTransitionTime": now,
                }
            )
            request["status"]["conditions"] = conditions
        else:
            certificate = self._cluster.ca.sign_request(
                decode_request(request), self._cluster.folder / "signer", request["spec"]["usages"], self.days
            )
            request["status"]["certificate"] = base64.b64encode(certificate.encode()).decode()
        self._api.call("PUT", f"{_PATH}/{request['metadata']['name']}/status", request)
