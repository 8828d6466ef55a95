"""The command line tools/chaos."""

import argparse
import os
import random
import shlex
import signal
import sys
import tempfile
from pathlib import Path

from support.agent import binary
from testbed import TestbedError, binaries, remote_unavailable_reason

from . import degrade, faults, http_proxy, soak
from .run import Plan, chaos, run

_LONGEST = 45  # minutes: the agent's tokens live for an hour


def main(argv=None):
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    reason = remote_unavailable_reason()
    if reason:
        sys.exit(f"error: the remote cluster cannot run here: {reason}")
    if not binary().exists():
        sys.exit(f"error: {binary()} is not there\n       build it with tools/build, or name it in K8SGPU_BINARY")
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 31)
    folder = Path(arguments.folder or tempfile.mkdtemp(prefix="k8sgpu-chaos-"))
    folder.mkdir(parents=True, exist_ok=True)
    plan = Plan(
        seed,
        arguments.minutes * 60,
        arguments.pods,
        tuple(arguments.faults),
        folder,
        name=arguments.name,
        fronts=arguments.agents,
        minor=arguments.minor,
        keep=arguments.keep,
    )
    if arguments.no_kills:
        act, http = soak.act, False
    else:
        http = any(name in http_proxy.FAULTS for name in arguments.faults)
        act = degrade.act if http else chaos
    try:
        result = run(plan, act, http)
    except TestbedError as error:
        print(error.explain(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    print(result.text())
    print(f"\nseed {seed}, {os.cpu_count()} processors; journal, logs and verdict: {folder}")
    if not result.ok:
        print(f"replay the schedule: {_replay(arguments, seed)}")
    return 0 if result.ok else 1


def _replay(arguments, seed):
    command = ["tools/chaos", f"--minutes={arguments.minutes:g}", f"--seed={seed}", f"--pods={arguments.pods}", f"--agents={arguments.agents}"]
    return shlex.join(command + (["--no-kills"] if arguments.no_kills else [f"--faults={','.join(arguments.faults)}"]))


def _parser():
    parser = argparse.ArgumentParser(
        prog="tools/chaos",
        description="A churn of real pods on real clusters while the agent, both clusters and the links fail on a seeded schedule. "
        "The verdict says whether a pod was lost, doubled or leaked; the exit status, too.",
    )
    parser.add_argument("--minutes", type=_minutes, default=10.0, help=f"how long things fail (10); at most {_LONGEST}")
    parser.add_argument("--seed", type=int, help="of the schedule and of the churn's choices; a random one unless given")
    parser.add_argument("--pods", type=int, default=60, help="how many pods there are at a time (60)")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--no-kills", action="store_true", help="churn alone; looks at descriptors, threads and memory of the agent")
    what.add_argument(
        "--faults",
        type=_faults,
        default=faults.ALL,
        help=f"which, with commas: some of {', '.join(faults.ALL)} (all of these); or some of {', '.join(http_proxy.FAULTS)}, one after another",
    )
    parser.add_argument("--agents", type=int, default=1, choices=(1, 2, 3), help="local clusters with an agent each, in one tenant namespace (1)")
    parser.add_argument("--name", default="chaos", help="of the test bed, for several runs side by side")
    parser.add_argument("--minor", help=f"of both clusters: {', '.join(binaries.minors())} (the newest)")
    parser.add_argument("--folder", help="for journal, logs and verdict; a new one in /tmp unless given")
    parser.add_argument("--keep", action="store_true", help="leave the test bed up")
    return parser


def _minutes(text):
    minutes = float(text)
    if not 0 < minutes <= _LONGEST:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and {_LONGEST}")
    return minutes


def _faults(text):
    names = [name for name in text.split(",") if name]
    unknown = [name for name in names if name not in (*faults.ALL, *http_proxy.FAULTS)]
    if unknown:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is unknown; there are: {', '.join((*faults.ALL, *http_proxy.FAULTS))}")
    if len({name in http_proxy.FAULTS for name in names}) > 1:
        raise argparse.ArgumentTypeError(f"{', '.join(http_proxy.FAULTS)} go with one another only: they need another kind of proxy")
    return names
