"""The command line tools/testbed."""

import argparse
import shlex
import signal
import sys
import threading

from . import binaries, network, remote_node, state
from .bed import Testbed
from .errors import TestbedError
from .network import MEMBERS
from .progress import say, set_quiet
from .signer import MODES, AppServingSigner


def main(argv=None):
    arguments = _parser().parse_args(argv)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    set_quiet(getattr(arguments, "quiet", False))
    try:
        return arguments.run(arguments) or 0
    except TestbedError as error:
        print(error.explain(), file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _parser():
    parser = argparse.ArgumentParser(
        prog="tools/testbed",
        description="Starts and stops throwaway Kubernetes clusters on this machine, for tests and for trying things out.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    def command(name, run, help_):
        added = commands.add_parser(name, help=help_, description=help_)
        added.add_argument("--name", default="default", help="which test bed (several can run side by side); 'default' unless given")
        added.set_defaults(run=run)
        return added

    up = command("up", _up, "start a test bed: a local control plane and, where containers can run, a remote cluster with a real node")
    up.add_argument("--minor", help=f"Kubernetes minor of the local cluster: {', '.join(binaries.minors())} (the newest)")
    up.add_argument("--remote", action=argparse.BooleanOptionalAction, help="insist on, or leave out, the remote cluster")
    up.add_argument("--remote-minor", help="Kubernetes minor of the remote cluster (the local one's)")
    up.add_argument(
        "--netns",
        action=argparse.BooleanOptionalAction,
        help="insist on, or do without, network namespaces (needs root; without: the local control plane only)",
    )
    up.add_argument("--audit", action="store_true", help="write every request to <folder>/<cluster>/log/audit.log")
    up.add_argument("--quiet", action="store_true", help="no progress lines")

    down = command("down", _down, "remove a test bed and everything that it started")
    down.add_argument("--all", action="store_true", help="remove all of yours")
    command("env", _env, 'print shell exports, for: eval "$(tools/testbed env)"')
    command("status", _status, "list the test beds and their processes")

    link = command("link", _link, "break and mend a cluster's or the agent's network link")
    link.add_argument("action", choices=("cut", "restore", "slow", "drop-in", "drop-out"))
    link.add_argument("member", choices=tuple(MEMBERS))

    component = command("component", _component, "stop, start, freeze or thaw one program")
    component.add_argument("action", choices=("stop", "kill", "start", "pause", "resume"))
    component.add_argument("component", help="as local.kube-apiserver, remote.kubelet; `status` lists them")

    user = command("kubeconfig", _kubeconfig, "write a kubeconfig for a user or a service account and print its path")
    user.add_argument("--cluster", choices=("local", "remote"), default="local")
    user.add_argument("--user", help="any user name, by client certificate")
    user.add_argument("--group", action="append", default=[], help="with --user, may be repeated")
    user.add_argument("--service-account", metavar="NAMESPACE/NAME", help="one that exists, by token")
    user.add_argument("--duration", default="1h", help="life of the token (1h)")

    signer = command("signer", _signer, "play the EKS signer beta.eks.amazonaws.com/app-serving until interrupted")
    signer.add_argument("--mode", choices=MODES, default="issue")

    fetch = command("fetch", _fetch, "find, fetch or build the programs of a minor, without starting anything")
    fetch.add_argument("--minor", action="append", help="may be repeated; all that are known unless given")
    fetch.add_argument("--remote", action=argparse.BooleanOptionalAction, default=True)
    return parser


def _up(arguments):
    netns, remote = arguments.netns, arguments.remote
    if netns is None:
        reason = network.unavailable_reason()
        netns = reason is None or bool(remote)  # who insists on the remote cluster is told what it lacks
        if not netns:
            say(f"without network namespaces: {reason}")
    if remote is None:
        reason = remote_node.unavailable_reason() if netns else "it needs network namespaces"
        remote = reason is None
        if reason:
            say(f"without the remote cluster: {reason}")
    bed = Testbed.up(arguments.name, arguments.minor, remote, arguments.remote_minor, netns, arguments.audit)
    say(f"test bed '{bed.name}' is up")
    suffix = "" if arguments.name == "default" else f" --name {arguments.name}"
    print(f'use it:     eval "$(tools/testbed env{suffix})"\nremove it:  tools/testbed down{suffix}')


def _down(arguments):
    failed = False
    state.remove_kept_logs(None if arguments.all else arguments.name)
    for name in state.names() if arguments.all else [arguments.name]:
        try:
            print(f"test bed '{name}' removed" if Testbed.down(name) else f"there is no test bed '{name}'")
        except TestbedError as error:
            print(error.explain(), file=sys.stderr)
            failed = True
    return 1 if failed else 0


def _env(arguments):
    bed = Testbed.attach(arguments.name)
    for name, value in bed.environment().items():
        print(f"export {name}={shlex.quote(value)}")
    print(f'export PATH={shlex.quote(str(bed.folder / "bin"))}:"$PATH"')


def _status(_):
    names = state.names()
    if not names:
        print("no test bed is up; tools/testbed up starts one")
    for name in names:
        try:
            bed = Testbed.attach(name)
        except TestbedError:
            print(f"{name}: half made; tools/testbed down --name {name} removes it")
            continue
        remote = f", remote {binaries.release(bed.remote_minor)} at {bed.remote.server}" if bed.remote else ""
        print(f"{name}: local {binaries.release(bed.minor)} at {bed.local.server}{remote}")
        for component in bed.components():
            if component.alive():
                print(f"  {component.name:34} pid {component.pid:<8} {_resident(component.pid):5.0f} MB")
            else:
                print(f"  {component.name:34} not running; its log: {component.log}")


def _resident(pid):
    try:
        with open(f"/proc/{pid}/statm") as file:
            return int(file.read().split()[1]) * 4096 / 1e6
    except OSError:
        return 0.0


def _link(arguments):
    Testbed.attach(arguments.name).link(arguments.action, arguments.member)


def _component(arguments):
    component = Testbed.attach(arguments.name).component(arguments.component)
    if arguments.action == "kill":
        component.stop(grace=0)
    else:
        getattr(component, arguments.action)()


def _kubeconfig(arguments):
    bed = Testbed.attach(arguments.name)
    cluster = bed.component(f"{arguments.cluster}.kube-apiserver") and getattr(bed, arguments.cluster)
    if bool(arguments.user) == bool(arguments.service_account):
        raise TestbedError("who is it for?", "say either --user NAME or --service-account NAMESPACE/NAME")
    if arguments.user:
        print(cluster.user_kubeconfig(f"user-{arguments.user.replace('/', '-')}", arguments.user, arguments.group))
    else:
        namespace, _, account = arguments.service_account.partition("/")
        if not account:
            raise TestbedError(f"'{arguments.service_account}' names no service account", "write NAMESPACE/NAME")
        print(cluster.service_account_kubeconfig(namespace, account, arguments.duration))


def _signer(arguments):
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    with AppServingSigner(Testbed.attach(arguments.name).local, arguments.mode) as signer:
        say(f"signing requests for {signer.signer_name} ({arguments.mode}); Ctrl-C ends it")
        try:
            ended.wait()
        except KeyboardInterrupt:
            pass


def _fetch(arguments):
    for minor in arguments.minor or binaries.minors():
        found = binaries.resolve(minor, binaries.CONTROL_PLANE + (binaries.NODE if arguments.remote else ()))
        for program, path in found.items():
            print(f"{minor} {program:24} {path}")
