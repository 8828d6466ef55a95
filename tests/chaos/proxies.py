"""Starts the proxies between an agent and the API servers, tells them how to behave, and points kubeconfigs at them."""

import json
import subprocess
from pathlib import Path

import yaml

from testbed import state


class Proxy:
    """One running proxy program. `kind` is link_proxy or http_proxy; `settings` are described there."""

    def __init__(self, kind, settings, log):
        self._log = open(log, "a")
        self._process = subprocess.Popen(
            ["/usr/bin/python3", Path(__file__).with_name(f"{kind}.py"), json.dumps(settings)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,  # Ctrl-C is for the run, which ends them itself
        )
        answer = self._process.stdout.readline()
        if answer.strip() != "ready":
            raise RuntimeError(f"the {kind} did not start; its log: {log}")

    def tell(self, line):
        """Sends one command and returns the answer's line."""
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()

    def stop(self):
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            stream.close()


def through(kubeconfig, port):
    """A copy of a kubeconfig for the agent, whose server is a proxy on the agent's host."""
    config = yaml.safe_load(Path(kubeconfig).read_text())
    config["clusters"][0]["cluster"]["server"] = f"https://127.0.0.1:{port}"  # API servers' certificates carry this address, too
    path = Path(kubeconfig).with_suffix(f".via-{port}.kubeconfig")
    state.write_file(path, yaml.safe_dump(config, sort_keys=False))
    return path
