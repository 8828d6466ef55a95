"""Programs of a test bed: started in their namespaces, remembered on disk, stopped for certain.

A component's record (argv, pid, start time of the pid) is enough for another process to stop, freeze or restart it, and the
start time keeps a reused pid from being mistaken for it.
"""

import json
import os
import signal
import subprocess
import time
from pathlib import Path

from . import state
from .errors import TestbedError


class Component:
    """One long-running program. `enter` is the nsenter command that it is started through; where that forks (pid
    namespaces) `enter_forks` says so, and the program is nsenter's only child."""

    def __init__(self, run_folder, name, argv, log, enter=(), enter_forks=False, env=None):
        self.name = name
        self.record_path = Path(run_folder) / f"{name}.json"
        self.argv = [str(part) for part in argv]
        self.log = Path(log)
        self.enter = [str(part) for part in enter]
        self.enter_forks = enter_forks
        self.env = env or {}
        self.pids = []  # [[pid, start time], …]: the program first, then what it was started through

    @classmethod
    def load(cls, record_path):
        record = json.loads(Path(record_path).read_text())
        component = cls(
            Path(record_path).parent, record["name"], record["argv"], record["log"], record["enter"], record["enter_forks"], record["env"]
        )
        component.pids = record["pids"]
        return component

    def _save(self):
        state.write_file(
            self.record_path,
            json.dumps(
                {
                    "name": self.name,
                    "argv": self.argv,
                    "log": str(self.log),
                    "enter": self.enter,
                    "enter_forks": self.enter_forks,
                    "env": self.env,
                    "pids": self.pids,
                }
            ),
        )

    @property
    def pid(self):
        return self.pids[0][0] if self.pids else None

    def start(self):
        if self.alive():
            return
        self.pids = []
        self._save()
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with open(self.log, "ab") as log:
            child = subprocess.Popen(
                self.enter + self.argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env={**os.environ, **self.env},
                start_new_session=True,
                cwd="/",
            )
        self.pids = [[child.pid, start_time(child.pid)]]
        self._save()
        if self.enter_forks:
            program = _only_child(child.pid, 10)
            if program is None:
                raise TestbedError(f"{self.name} did not start", log=self.log)
            self.pids.insert(0, [program, start_time(program)])
            self._save()

    def alive(self):
        return bool(self.pids) and is_same(*self.pids[0])

    def signal(self, number):
        for pid, started in self.pids:
            if is_same(pid, started):
                send(pid, number)

    def stop(self, grace=5.0):
        """SIGTERM, then SIGKILL after `grace` seconds (0: at once). Returns when the program is gone."""
        if grace > 0 and self.alive():
            send(self.pid, signal.SIGCONT)
            send(self.pid, signal.SIGTERM)
            wait_gone(self.pids, grace)
        self.signal(signal.SIGKILL)
        left = wait_gone(self.pids, 10)
        if left:
            raise TestbedError(f"{self.name} (pid {left[0]}) survives SIGKILL", "a process stuck in the kernel; see its /proc/<pid>/stack")

    def pause(self):
        self.signal(signal.SIGSTOP)

    def resume(self):
        self.signal(signal.SIGCONT)


def send(pid, number):
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        pass


def _stat(pid):
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None
    return text[text.rindex(")") + 2 :].split()


def start_time(pid):
    fields = _stat(pid)
    return int(fields[19]) if fields else 0


def is_same(pid, started):
    """Whether that very process still runs. A zombie does not, unless other threads of it are still on their way out."""
    fields = _stat(pid)
    return fields is not None and int(fields[19]) == started and (fields[0] not in "ZX" or int(fields[17]) > 1)


def reap(pid):
    """Collects a dead child of ours: a pytest run that starts and stops test beds would otherwise gather zombies."""
    try:
        os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        pass


def wait_gone(pids, seconds):
    """Waits until none of the [pid, start time] pairs runs; returns the pids that still do."""
    deadline = time.monotonic() + seconds
    while True:
        left = [pid for pid, started in pids if is_same(pid, started)]
        if not left or time.monotonic() > deadline:
            for pid, _ in pids:
                reap(pid)
            return left
        time.sleep(0.02)


def _only_child(pid, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        try:
            children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return None
        if children:
            return int(children[0])
        if not is_same(pid, start_time(pid)):
            return None
        time.sleep(0.01)
    return None


def run(argv, problem, advice="", **options):
    """Runs a short command to its end; its stderr becomes part of the error."""
    if "input" not in options:
        options.setdefault("stdin", subprocess.DEVNULL)
    done = subprocess.run([str(part) for part in argv], capture_output=True, text=True, **options)
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines()
        raise TestbedError(f"{problem}: {said[-1] if said else 'exit status ' + str(done.returncode)}", advice)
    return done.stdout
