"""The few HTTPS calls that the test bed itself makes to an apiserver, without starting a kubectl for each."""

import base64
import http.client
import json
import os
import ssl
import tempfile
from urllib.parse import urlsplit

import yaml

from .errors import TestbedError


class ApiError(TestbedError):
    __test__ = False

    def __init__(self, status, message):
        super().__init__(f"{status} {message}")
        self.status = status


class Api:
    """A cluster as its kubeconfig describes it. Certificates must be inline, as the test bed writes them. One connection per
    call: slow and simple. Safe to use from several threads."""

    def __init__(self, kubeconfig):
        config = yaml.safe_load(open(kubeconfig))
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        address = urlsplit(cluster["server"])
        self._host, self._port = address.hostname, address.port
        self._tls = ssl.create_default_context(cadata=base64.b64decode(cluster["certificate-authority-data"]).decode())
        self._headers = {"Accept": "application/json"}
        if "token" in user:
            self._headers["Authorization"] = f"Bearer {user['token']}"
        else:
            with tempfile.NamedTemporaryFile("wb", dir=os.path.dirname(kubeconfig)) as pair:
                pair.write(base64.b64decode(user["client-certificate-data"]) + base64.b64decode(user["client-key-data"]))
                pair.flush()
                self._tls.load_cert_chain(pair.name)

    def _open(self, method, path, body, content_type, timeout):
        connection = http.client.HTTPSConnection(self._host, self._port, context=self._tls, timeout=timeout)
        headers = dict(self._headers)
        if body is not None:
            headers["Content-Type"] = content_type
        connection.request(method, path, None if body is None else json.dumps(body), headers)
        return connection, connection.getresponse()

    def call(self, method, path, body=None, content_type="application/json", timeout=10.0):
        """The decoded answer (text where it is no JSON). ApiError for a status of 400 and above, OSError for the network."""
        connection, response = self._open(method, path, body, content_type, timeout)
        try:
            text = response.read().decode(errors="replace")
        finally:
            connection.close()
        try:
            answer = json.loads(text)
        except ValueError:
            answer = text
        if response.status >= 400:
            raise ApiError(response.status, answer.get("message", text) if isinstance(answer, dict) else text)
        return answer

    def get(self, path, **options):
        return self.call("GET", path, **options)

    def watch(self, path, stop, timeout=2.0):
        """Yields watch events until the server ends the watch, `stop` (a threading.Event) is set, or `timeout` seconds pass
        without one. The caller lists again afterwards."""
        connection, response = self._open("GET", path, None, None, timeout)
        try:
            if response.status >= 400:
                raise ApiError(response.status, response.read().decode(errors="replace"))
            while not stop.is_set():
                line = response.readline()
                if not line:
                    return
                yield json.loads(line)
        except TimeoutError:
            return
        finally:
            connection.close()
