"""The agent's use of descriptors, threads and memory over a long churn, read from /proc."""

import dataclasses
import os
import statistics
import threading
from dataclasses import dataclass
from pathlib import Path

from . import run, verdict

_EVERY = 2.0  # seconds
_WARM_UP = 60.0
_MOST_GROWTH = 0.05


@dataclass(frozen=True)
class Sample:
    at: float  # seconds of the journal
    descriptors: int
    sockets: int  # of the descriptors
    threads: int
    resident: int  # bytes
    ticks: int  # of a processor, so far


def sample(pid, at):
    status = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    targets = _descriptors(pid)
    return Sample(
        at,
        len(targets),
        sum(target.startswith("socket:") for target in targets),
        int(status["Threads"]),
        int(status["VmRSS"].split()[0]) * 1024,
        int(fields[11]) + int(fields[12]),
    )


def _descriptors(pid):
    """What each descriptor leads to."""
    found = []
    for entry in os.scandir(f"/proc/{pid}/fd"):
        try:
            found.append(os.readlink(entry.path))
        except FileNotFoundError:
            continue  # closed meanwhile
    return found


def act(stage, plan, churns, journal):
    """Churn and nothing else, after a minute of it that does not count: connections are opened when they are first needed and kept. What is
    there at rest is compared with what was there at rest before; memory within the churn."""
    with run.churning(run.make_churns(stage, dataclasses.replace(plan, seed=plan.seed + 1), journal)) as first:
        run.pass_time(stage, _WARM_UP, first, journal)
    run.settle(stage.fronts[0], stage, plan.settle_seconds, journal)
    pid = stage.fronts[0].agent.process.pid
    stop, samples = threading.Event(), []

    def follow():
        while not stop.wait(_EVERY):
            samples.append(sample(pid, journal.seconds()))

    follower = threading.Thread(target=follow, name="soak", daemon=True)
    before = _at_rest(pid, journal)
    began = journal.seconds()
    follower.start()
    with run.churning(churns):
        run.pass_time(stage, plan.seconds, churns, journal)
    ended = journal.seconds()
    stop.set()
    follower.join()
    run.settle(stage.fronts[0], stage, plan.settle_seconds, journal)
    after = _at_rest(pid, journal)
    return run.Outcome(
        checks=[
            at_rest_as_before("descriptors", before.descriptors, after.descriptors),
            at_rest_as_before("threads", before.threads, after.threads),
            memory_stays(_minute(samples, began, 1), _minute(samples, began, int((ended - began) // 60) - 1)),
        ],
        tables=[_table(before, samples, after, began)],
    )


def _at_rest(pid, journal):
    """After half a minute of rest, when idle connections have been closed or not: the smallest of some samples."""
    run.rest(30)
    seen = []
    for _ in range(5):
        seen.append(sample(pid, journal.seconds()))
        run.rest(1)
    return min(seen, key=lambda each: (each.descriptors, each.threads))


def _minute(samples, began, number):
    """Resident bytes of all samples of a minute of the churn, counted from 0."""
    return [each.resident for each in samples if number * 60 <= each.at - began < (number + 1) * 60]


def at_rest_as_before(what, before, after):
    return verdict.Check(f"{what} at rest as before", after <= before, f"{before} before, {after} after")


def memory_stays(second_minute, last_minute):
    """Means of resident bytes."""
    if not second_minute or not last_minute:
        return verdict.Check("memory of the last minute within 5 % of the second", False, "the run was too short to say: at least 3 minutes")
    second, last = statistics.mean(second_minute), statistics.mean(last_minute)
    said = f"{second / 1e6:.1f} MB, then {last / 1e6:.1f} MB: {100 * (last / second - 1):+.1f} %"
    return verdict.Check("memory of the last minute within 5 % of the second", last <= second * (1 + _MOST_GROWTH), said)


def _table(before, samples, after, began):
    def row(title, some):
        return [
            title,
            max(each.descriptors for each in some),
            max(each.sockets for each in some),
            max(each.threads for each in some),
            f"{statistics.mean(each.resident for each in some) / 1e6:.1f}",
            f"{100 * (some[-1].ticks - some[0].ticks) / os.sysconf('SC_CLK_TCK') / max(1e-9, some[-1].at - some[0].at):.1f}" if len(some) > 1 else "",
        ]

    rows, number = [row("at rest, before", [before])], 0
    while some := [each for each in samples if number * 60 <= each.at - began < (number + 1) * 60]:
        number += 1
        rows.append(row(f"minute {number}", some))
    rows.append(row("at rest, after", [after]))
    return verdict.table(rows, ["when", "descriptors (most)", "sockets", "threads (most)", "resident, MB (mean)", "processor, %"])
