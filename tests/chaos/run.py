"""One run: churn and faults for a while, then peace, then the evidence and the verdict."""

import collections
import contextlib
import random
import time
from dataclasses import dataclass, field
from pathlib import Path

from . import audit, facts, history, verdict
from .churn import EXIT, NAMESPACE, Churn
from .faults import Saboteur, schedule
from .journal import Journal
from .stage import LOCAL_USER, STRANGERS, TROUBLE, Stage

SWEEPS = 70.0  # seconds: two of the agent's complete lists of the provider, 30 s apart, and what they take


@dataclass
class Plan:
    seed: int
    seconds: float
    pods: int  # of the first front; each further one has a quarter of them
    faults: tuple
    folder: Path
    name: str = "chaos"
    fronts: int = 1
    minor: str = None
    keep: bool = False
    quiet: bool = False
    settle_seconds: float = 300.0


@dataclass
class Result:
    checks: list = field(default_factory=list)
    tables: list = field(default_factory=list)  # texts, besides the table of checks

    @property
    def ok(self):
        return bool(self.checks) and all(check.ok for check in self.checks)

    def text(self):
        return "\n\n".join([*self.tables, verdict.show(self.checks)])


@dataclass
class Outcome:
    """What an act adds to the verdict. `unexpected`: what should not have been, in words."""

    checks: list = field(default_factory=list)
    tables: list = field(default_factory=list)
    unexpected: list = field(default_factory=list)


def run(plan, act, http=False):
    """Brings everything up, lets `act(stage, plan, churns, journal)` happen, judges, takes everything down. The Result is also written to
    <folder>/verdict.md. `http`: with http_proxy in between."""
    journal = Journal(plan.folder / "journal.log", plan.quiet)
    result, stage = Result(), None
    try:
        stage = Stage.up(plan.name, plan.minor, plan.fronts, plan.folder, http)
        journal.say(f"seed {plan.seed}, {plan.seconds:.0f} s, {plan.pods} pods; the agent is ready")
        churns = make_churns(stage, plan, journal)
        outcome = act(stage, plan, churns, journal)
        stage.mend()
        journal.say("no more faults, no more churn")
        judge(stage, plan, result, journal, outcome.unexpected)
        result.checks += outcome.checks
        result.tables += [*outcome.tables, summary(churns)]
    finally:
        if result.checks:
            (plan.folder / "verdict.md").write_text(result.text() + "\n")
        if stage:
            if not result.ok:
                stage.keep_logs()
            stage.down(plan.keep)
        journal.close()
    return result


def chaos(stage, plan, churns, journal):
    """The act with the saboteur: everything fails by the schedule of the seed."""
    saboteur = Saboteur(stage, schedule(random.Random(f"faults {plan.seed}"), plan.seconds, plan.faults), journal)
    with churning(churns):
        _wait(lambda: len(churns[0].running_at) >= plan.pods // 2, 120)  # faults meet pods that run
        journal.say("the faults begin")
        saboteur.start()
        try:
            pass_time(stage, plan.seconds, churns, journal)
        finally:
            saboteur.stop()
    rows = sorted(saboteur.happened.items())
    return Outcome(tables=[verdict.table(rows, ["fault", "times"])], unexpected=saboteur.unexpected)


@contextlib.contextmanager
def churning(churns):
    for churn in churns:
        churn.start()
    try:
        yield churns
    finally:
        for churn in churns:
            churn.stop()


def make_churns(stage, plan, journal):
    return [
        Churn(front.local, plan.pods if front.number == 1 else plan.pods // 4, random.Random(f"churn {front.number} {plan.seed}"), journal)
        for front in stage.fronts
    ]


def pass_time(stage, seconds, churns, journal):
    end, told = journal.seconds() + seconds, journal.seconds()
    while journal.seconds() < end:
        time.sleep(min(1.0, max(0.1, end - journal.seconds())))
        stage.revive()
        if journal.seconds() - told < 30:
            continue
        told = journal.seconds()
        made, most = sum(len(churn.created_at) for churn in churns), sum(churn.most for churn in churns)
        journal.say(f"{made} pods made, at most {most} ran at a time")


def judge(stage, plan, result, journal, unexpected):
    """Waits until everything has settled and two sweeps have passed, then fills `result` from what etcd and the audit logs remember."""
    waited, mended = {}, journal.seconds()
    for front in stage.fronts:
        sight, waited[front] = settle(front, stage, plan.settle_seconds, journal)
        journal.say(f"settled after {waited[front]:.0f} s" if sight.settled else "does NOT settle: " + "; ".join(sight.problems()[:8]))
    time.sleep(max(5.0, mended + SWEEPS - journal.seconds()))
    sights = {front: settle(front, stage, 20, journal)[0] for front in stage.fronts}
    journal.say("reading etcd's history and the audit logs")
    remote = history.pods(stage.remote.cluster, stage.remote.namespace)
    for front in stage.fronts:
        checks = _judge_front(stage, front, remote, sights[front], waited[front], result)
        for check in checks if len(stage.fronts) > 1 else []:
            check.name += f" ({front.number})"
        result.checks += checks
    result.checks += [verdict.ran_once(remote), verdict.strangers_untouched(remote, STRANGERS), verdict.nothing_unexpected(unexpected)]


def _judge_front(stage, front, remote, sight, waited, result):
    local, jobs = history.pods(front.local.cluster, NAMESPACE), history.jobs(front.local.cluster, NAMESPACE)
    calls, denied, excused = {}, {}, 0
    for side, cluster, user in (("local", front.local.cluster, LOCAL_USER), ("remote", stage.remote.cluster, front.remote_user)):
        calls[side] = audit.calls(cluster, user)
        denied[side], excused_here = audit.denials(calls[side], stage.starting.get(cluster.server, ()))
        excused += excused_here
        most = ", ".join(f"{what} {times}" for what, times in audit.summary(calls[side])[:8])
        result.tables.append(f"Calls of agent {front.number}, {side} cluster: {most}.")
    return [
        verdict.sets_agree(sight, waited),
        verdict.one_copy_per_uid(local, remote, front.mark),
        verdict.nothing_lost(local, EXIT),
        verdict.only_forward(local),
        verdict.jobs_counted_once(jobs, local),
        verdict.no_orphans(sight, SWEEPS),
        verdict.nothing_stuck(sight),
        verdict.own_copies_only(calls["remote"], remote, front.mark),
        verdict.nothing_denied(denied, excused, {side: len(made) for side, made in calls.items()}),
        verdict.agent_well(front.agent.log()),
    ]


def settle(front, stage, seconds, journal):
    """Waits until both sides of a front agree. The last Sight and how long that took."""
    began, told = journal.seconds(), journal.seconds()
    while True:
        stage.revive()
        try:
            sight = facts.look(front, stage.remote)
        except TROUBLE as error:
            sight = facts.Sight(open=[repr(error)])
        passed = journal.seconds() - began
        if sight.settled or passed > seconds:
            return sight, passed
        if journal.seconds() - told > 15:
            told = journal.seconds()
            journal.say("not settled yet: " + "; ".join(sight.problems()[:4]))
        time.sleep(1)


def summary(churns):
    done = collections.Counter()
    for churn in churns:
        done.update(churn.done)
    rows = sorted(done.items()) + [["most pods running at a time", sum(churn.most for churn in churns)]]
    return verdict.table(rows, ["churn", "times"])


def rest(seconds):
    time.sleep(seconds)


def _wait(condition, seconds):
    end = time.monotonic() + seconds
    while not condition() and time.monotonic() < end:
        time.sleep(0.5)
