"""API servers at their worst, one manner after another, while the churn goes on: how much slower, and how soon it is over afterwards."""

import json
import statistics

from . import churn, run, verdict
from .http_proxy import FAULTS
from .stage import TROUBLE

# The longest back-off of the agent (docs/safety.md), and what starting or ending a pod may take a busy node besides.
BACK_OFF = 60.0
_SLOW_NODE = 45.0


def act(stage, plan, churns, journal):
    """A minute without faults, a share of the time with each, a minute without again; after each one everything that waited is watched until it is done."""
    front, rows, waits = stage.fronts[0], [], []
    names = ["", *[name for name in FAULTS if name in plan.faults], ""]
    calm = min(60.0, plan.seconds / len(names))
    each_lasts = (plan.seconds - 2 * calm) / (len(names) - 2)
    with run.churning(churns):
        run.rest(20)  # the first pods and their images
        for name in names:
            journal.say(f"now: {name or 'no faults'}")
            counters = _tell(front, name)
            began = journal.seconds()
            run.rest(each_lasts if name else calm)
            ended = journal.seconds()
            waiting = _waiting(front)
            made = {key: value - counters.get(key, 0) for key, value in _tell(front, "").items()}
            waited = _until_done(front, waiting, journal) if name else 0.0
            if name:
                waits.append((name, len(waiting), waited))
                journal.say(f"{name} is over; {len(waiting)} pods were waiting, the last one for {waited:.0f} s more")
            rows.append(_row(name, churns[0], began, ended, made, len(waiting), waited))
    head = ["fault", "seconds", "pods made", "started", "a minute", "median wait", "longest", "calls", "answered by us", "waiting at its end", "for another"]
    return run.Outcome(checks=[soon_over(waits), _all_progressed(rows)], tables=[verdict.table(rows, head)])


def soon_over(waits):
    """`waits`: (fault, how many pods waited when it ended, seconds until the last of them was done)."""
    broken = [f"{name}: {seconds:.0f} s" for name, _, seconds in waits if seconds > BACK_OFF + _SLOW_NODE]
    longest = max((seconds for _, _, seconds in waits), default=0)
    return verdict.sentence("no pod waited for more than one back-off after a fault", broken, f"at most {longest:.0f} s")


def _all_progressed(rows):
    # With every call 5 s late, a pod needs half a minute to start.
    broken = [row[0] for row in rows if row[3] == 0 and float(row[1]) >= 60]
    return verdict.sentence("pods started under every fault that lasted for a minute", broken, "see the table")


def _tell(front, names):
    """Sets the faults of both sides. The sum of the counters so far."""
    total = {}
    for link in front.links.values():
        for key, value in json.loads(link.tell(names)).items():
            total[key] = total.get(key, 0) + value
    return total


def _waiting(front):
    """UIDs of pods that are to start or to end."""
    for _ in range(10):
        try:
            return {pod["metadata"]["uid"] for pod in front.local.pods() if _is_open(pod)}
        except TROUBLE:
            run.rest(1)
    return set()


def _is_open(pod):
    return churn.is_going(pod) or not (churn.runs(pod) or churn.is_over(pod))


def _until_done(front, uids, journal):
    began = journal.seconds()
    while journal.seconds() - began < 300:
        try:
            if not any(pod["metadata"]["uid"] in uids and _is_open(pod) for pod in front.local.pods()):
                break
        except TROUBLE:
            pass
        run.rest(0.5)
    return journal.seconds() - began


def _row(name, churn_, began, ended, made, waiting, waited):
    created = [uid for uid, at in churn_.created_at.items() if began <= at < ended]
    started = [at - churn_.created_at[uid] for uid, at in churn_.running_at.items() if began <= at < ended]
    ours = ", ".join(f"{key} {made[key]}" for key in ("watches ended", "410", "429", "delayed") if made.get(key))
    return [
        name or "none",
        f"{ended - began:.0f}",
        len(created),
        len(started),
        f"{60 * len(started) / (ended - began):.0f}",
        f"{statistics.median(started):.1f} s" if started else "",
        f"{max(started):.1f} s" if started else "",
        made.get("requests", 0),
        ours,
        waiting,
        f"{waited:.0f} s" if name else "",
    ]
