"""What goes wrong, when and for how long: drawn from a seed before the run begins, so that the same seed means the same schedule."""

import threading
from dataclasses import dataclass

KILL = "kill-agent"
DISRUPTIONS = (
    "restart-local-api",
    "restart-remote-api",
    "pause-local-etcd",
    "pause-remote-etcd",
    "cut-local",
    "cut-remote",
    "cut-both",
    "slow-local",
    "slow-remote",
    "hole-local",
    "hole-remote",
    "unplug-remote",
)
ALL = (KILL, *DISRUPTIONS)
_REMOTE_ONLY = ("restart-remote-api", "pause-remote-etcd", "unplug-remote")


@dataclass(frozen=True)
class Fault:
    at: float  # seconds after the begin
    name: str
    lasts: float  # seconds
    variant: float  # 0…1, for choices within the fault

    def __str__(self):
        return f"{self.name} for {self.lasts:.1f} s"


def schedule(random, seconds, faults):
    """Kills every 5 to 15 s; of the others one at a time, each kind as often as the others, some of them long. In less than two minutes
    everything comes quicker, so that each kind has its turn."""
    pace = 1.0 if seconds >= 120 else 0.5
    plan = []
    at = random.uniform(5, 15) * pace
    while KILL in faults and at < seconds:
        plan.append(Fault(at, KILL, random.choice((0, 0, random.uniform(0, 3))), random.random()))
        at += random.uniform(5, 15) * pace
    kinds, deck = [name for name in DISRUPTIONS if name in faults], []
    at = random.uniform(3, 8) * pace
    while kinds and at < seconds:
        deck = deck or random.sample(kinds, len(kinds))
        lasts = random.uniform(20, 45) if pace == 1.0 and random.random() < 0.15 else random.uniform(2, 12) * pace
        name = deck.pop()
        if name.startswith("pause-"):
            lasts = min(lasts, 12)
        lasts = min(lasts, max(1.0, seconds - at))
        plan.append(Fault(at, name, lasts, random.random()))
        at += lasts + random.uniform(3, 10) * pace
    return sorted(plan, key=lambda fault: fault.at)


class Saboteur:
    """Carries a schedule out on a stage: kills on one thread, disruptions on another. start(), then join() or stop()."""

    def __init__(self, stage, plan, journal):
        self.stage = stage
        self.journal = journal
        self.happened = {}  # name → how often
        self.unexpected = []  # what should not have been
        self._stop = threading.Event()
        self._begin = None
        self._threads = [
            threading.Thread(target=self._run, args=([f for f in plan if f.name == KILL],), name="kills", daemon=True),
            threading.Thread(target=self._run, args=([f for f in plan if f.name != KILL],), name="disruptions", daemon=True),
        ]

    def start(self):
        self._begin = self.journal.seconds()
        for thread in self._threads:
            thread.start()

    def stop(self):
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, plan):
        for fault in plan:
            if self._stop.wait(max(0.0, self._begin + fault.at - self.journal.seconds())):
                return
            # One front's agent, links or local cluster: which one, the seed says as well.
            front = self.stage.fronts[int(fault.variant * 997) % len(self.stage.fronts)]
            where = f" (front {front.number})" if len(self.stage.fronts) > 1 and fault.name not in _REMOTE_ONLY else ""
            self.journal.say(f"{fault}{where}")
            try:
                self._do(fault, front)
            except Exception as error:  # a fault that cannot be made is a finding, not the end of the run
                self.unexpected.append(f"{fault.name}: {error!r}")
                self.journal.say(f"{fault.name} did not work: {error!r}")
            self.happened[fault.name] = self.happened.get(fault.name, 0) + 1

    def _do(self, fault, front):
        action, _, target = fault.name.partition("-")
        side = target.partition("-")[0]
        if fault.name == KILL:
            self._kill(front.agent, fault.lasts)
            return
        cluster = front.local if side == "local" else self.stage.remote
        if action == "restart":
            self.stage.restart_api(cluster, 0 if fault.variant < 0.5 else 5, fault.lasts if fault.variant < 0.25 else 0)
        elif action == "pause":
            cluster.cluster.pause_component("etcd")
            self._stop.wait(fault.lasts)
            cluster.cluster.resume_component("etcd")
        elif action == "unplug":
            self.stage.beds[0].link("cut", "remote")
            self._stop.wait(fault.lasts)
            self.stage.beds[0].link("restore", "remote")
        else:
            links = [link for name, link in front.links.items() if side in (name, "both")]
            for link in links:
                link.tell(action)
            self._stop.wait(fault.lasts)
            for link in links:
                link.tell("pass")
        self.journal.say(f"{fault.name} is over")

    def _kill(self, agent, pause):
        if not agent.running():
            self.unexpected.append(f"the agent had ended by itself with {agent.process.returncode}")
            self.journal.say(self.unexpected[-1])
        agent.kill()
        self._stop.wait(pause)
        agent.start()
