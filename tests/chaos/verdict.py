"""Judges a run by its evidence. Pure functions: what they are given was collected by evidence.py, verdict_test.py shows that each can fail."""

import collections
import re
from dataclasses import dataclass

from . import marks

_ORDER = {None: 0, "": 0, "Pending": 1, "Running": 2, "Succeeded": 3, "Failed": 3}
_DEATH = re.compile(
    r"terminate called|panic|abort|assert|segmentation|sanitizer|runtime error:|core dumped|uncaught|std::\w+_error|\[critical\]", re.I
)
_SHOWN = 4


@dataclass
class Check:
    name: str
    ok: bool
    said: str


def sentence(name, broken, fine):
    """`broken` lists what contradicts the sentence `name`; `fine` says in numbers what was looked at."""
    more = f" and {len(broken) - _SHOWN} more" if len(broken) > _SHOWN else ""
    return Check(name, not broken, "; ".join(map(str, broken[:_SHOWN])) + more if broken else fine)


def one_copy_per_uid(local, remote, mark):
    """`local`, `remote`: UID → history.Life; `mark`: the local cluster's. Every copy that ever was belongs to a pod that was, and no pod
    ever had two."""
    made = collections.defaultdict(list)
    for life in remote.values():
        cluster, uid = marks.of(life.first)
        if cluster == mark:
            made[uid].append(life.name)
    broken = [f"{_title(local, uid)} was created {len(names)} times" for uid, names in made.items() if len(names) > 1]
    broken += [f"{', '.join(names)}: a copy of no known pod ({uid})" for uid, names in made.items() if uid not in local]
    return sentence("no pod had a second copy", broken, f"{len(local)} local pods, {len(made)} copies in etcd's whole history")


def nothing_lost(local, exit_label):
    """A pod ends by itself only as its script says; all others end after somebody asked for their deletion."""
    broken = []
    for life in local.values():
        if life.ended is None or "deletionTimestamp" in life.ended["metadata"]:
            continue
        wanted = life.first["metadata"].get("labels", {}).get(exit_label)
        codes = [
            str(status["state"]["terminated"].get("exitCode"))
            for status in life.ended["status"].get("containerStatuses", [])
            if "terminated" in status.get("state", {})
        ]
        if wanted is None or codes != [wanted]:
            status = life.ended["status"]
            broken.append(f"{life.name} {life.uid} {status['phase']} {status.get('reason', '')} (exit codes {codes}, meant: {wanted})")
    ended = sum(life.ended is not None for life in local.values())
    return sentence("no pod ended but by its own end or a deletion", broken, f"{ended} pods ended")


def only_forward(local):
    """Pending, Running, ended: never back, and an end is never replaced by another."""
    broken = [
        f"{life.name} {life.uid}: {' → '.join(map(str, life.phases))}"
        for life in local.values()
        if any(_ORDER[after] < _ORDER[before] or _ORDER[before] == 3 for before, after in zip(life.phases, life.phases[1:]))
    ]
    return sentence("phases only went forward", broken, f"{sum(len(life.phases) for life in local.values())} phases")


def ran_once(remote):
    broken = [
        f"remote {life.name} restarted {status['restartCount']} times"
        for life in remote.values()
        for status in life.last.get("status", {}).get("containerStatuses", [])
        if status["restartCount"] > 0
    ]
    return sentence("no container ran twice", broken, f"{len(remote)} remote pods")


def jobs_counted_once(jobs, local):
    """`jobs`: UID → Life. Each index of each complete Job has one pod that succeeded, and the Job counts as many."""
    succeeded = collections.Counter()
    for life in local.values():
        if life.ended and life.ended["status"]["phase"] == "Succeeded":
            for owner in life.first["metadata"].get("ownerReferences", []):
                index = life.first["metadata"].get("annotations", {}).get("batch.kubernetes.io/job-completion-index")
                succeeded[owner["uid"], index] += 1
    broken, counted = [], 0
    for job in jobs.values():
        completions, status = job.first["spec"]["completions"], job.last.get("status", {})
        if status.get("succeeded", 0) != completions or status.get("failed", 0) != 0:
            broken.append(f"{job.name}: {status.get('succeeded', 0)} of {completions} succeeded, {status.get('failed', 0)} failed")
        times = [succeeded[job.uid, str(index)] for index in range(completions)]
        if times != [1] * completions:
            broken.append(f"{job.name}: its indexes succeeded {times} times")
        counted += completions
    return sentence("every Job completion was counted once", broken, f"{counted} completions of {len(jobs)} Jobs")


def strangers_untouched(remote, names):
    broken = []
    for name in names:
        lives = [life for life in remote.values() if life.name == name]
        if len(lives) != 1 or lives[0].deleted or "deletionTimestamp" in lives[0].last["metadata"]:
            broken.append(f"{name}: {len(lives)} lives, the last one {'deleted' if lives and lives[-1].deleted else 'there'}")
    return sentence("pods of others were left alone", broken, f"{len(names)} pods without our mark")


def sets_agree(sight, waited):
    """`sight`: facts.Sight after everything settled, `waited` seconds for that."""
    broken = [f"no copy of {uid}" for uid in sight.missing] + [f"two copies of {uid}" for uid in sight.doubled]
    return sentence("remote pods = live local pods, by UID", broken, f"{len(sight.live)} live, {len(sight.copies)} copies; agreed after {waited:.0f} s")


def no_orphans(sight, sweeps_seconds):
    return sentence("no orphan after two sweeps", sight.orphans, f"looked {sweeps_seconds:.0f} s after the last fault")


def nothing_stuck(sight):
    return sentence("nothing is stuck", sight.open, "every pod runs or has ended, every Job is complete")


def own_copies_only(calls, remote, mark):
    """`calls`: one agent's of the remote cluster. It never wrote to a pod with another mark than its own."""
    owners = {life.name: marks.of(life.first)[0] for life in remote.values()}
    writes = [call for call in calls if call.writes and call.resource == "pods" and call.name]
    broken = [f"{call.verb} {call.name} of {owners[call.name]} at {call.at}" for call in writes if owners.get(call.name, mark) != mark]
    return sentence("the agent wrote to its own copies alone", broken, f"{len(writes)} creates, patches and deletes")


def nothing_denied(counted, excused, calls):
    """`counted`: "verb resource" → denials, by side; `excused`: while an API server was starting."""
    broken = [f"{side}: {what} {times} times" for side, denials in counted.items() for what, times in denials.items()]
    fine = ", ".join(f"{calls[side]} calls {side}" for side in calls)
    if excused:
        fine += f"; {excused} refused by an API server that had not read its roles yet"
    return sentence("no call was denied by RBAC", broken, fine)


def agent_well(log):
    broken = [line[:200] for line in log.splitlines() if _DEATH.search(line)]
    return sentence("the agent's log tells of no death", broken, f"{len(log.splitlines())} lines")


def nothing_unexpected(unexpected):
    return sentence("the agent ended only by our hand", unexpected, "and every fault could be made")


def _title(local, uid):
    return f"{local[uid].name} ({uid})" if uid in local else uid


def table(rows, head):
    """Rows of texts as a Markdown table with aligned columns."""
    rows = [head, ["-" * len(cell) for cell in head], *rows]
    widths = [max(len(str(row[column])) for row in rows) for column in range(len(head))]
    return "\n".join("| " + " | ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip() + " |" for row in rows)


def show(checks):
    return table([[check.name, "yes" if check.ok else "NO", check.said] for check in checks], ["what must hold", "held", "seen"])
