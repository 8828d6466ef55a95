"""The short version of tools/chaos: two clusters' agents in one tenant namespace, killed and cut off for a minute, then the verdict."""

import shutil
import tempfile
from pathlib import Path

import pytest

from support.agent import binary
from testbed import TestbedError, remote_unavailable_reason

from chaos.run import Plan, chaos, run

_SEED = 20
_FAULTS = ("kill-agent", "cut-local", "cut-remote", "hole-remote", "restart-local-api", "restart-remote-api")


def test_no_pod_is_lost_doubled_or_leaked_when_everything_fails():
    reason = remote_unavailable_reason()
    if reason:
        pytest.skip(f"remote cluster: {reason}")
    if not binary().exists():
        pytest.fail(f"{binary()} is not there: build it with tools/build, or name it in K8SGPU_BINARY", pytrace=False)
    folder = Path(tempfile.mkdtemp(prefix="k8sgpu-chaos-"))
    plan = Plan(_SEED, seconds=40, pods=24, faults=_FAULTS, folder=folder, name="chaos-test", fronts=2, settle_seconds=300)
    try:
        result = run(plan, chaos)
    except TestbedError as error:
        pytest.fail(error.explain(), pytrace=False)
    print(result.text())
    assert result.ok, f"{result.text()}\njournal and logs: {folder}"
    shutil.rmtree(folder)
