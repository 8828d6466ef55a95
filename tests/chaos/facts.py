"""What is so at this moment, on both sides: whether everything has settled, and which pods have a copy."""

from dataclasses import dataclass, field

from support.clusters import condition

from . import churn, marks
from .history import END_MARK


@dataclass
class Sight:
    """UIDs of local pods: all, and those that are live; of remote copies; and what has not settled yet, in words."""

    local: set = field(default_factory=set)
    live: set = field(default_factory=set)
    copies: list = field(default_factory=list)
    open: list = field(default_factory=list)

    @property
    def missing(self):
        return sorted(self.live - set(self.copies))

    @property
    def orphans(self):
        return sorted(set(self.copies) - self.local)

    @property
    def doubled(self):
        return sorted({uid for uid in self.copies if self.copies.count(uid) > 1})

    @property
    def settled(self):
        return not (self.open or self.missing or self.orphans or self.doubled)

    def problems(self):
        said = list(self.open)
        for what in ("missing", "orphans", "doubled"):
            uids = getattr(self, what)
            if uids:
                said.append(f"{what}: {len(uids)} ({', '.join(uids[:3])})")
        return said


def look(front, remote):
    """A Sight of one front."""
    sight = Sight()
    for pod in front.local.pods():
        metadata = pod["metadata"]
        if metadata["name"] == END_MARK:
            continue
        sight.local.add(metadata["uid"])
        if churn.is_going(pod):
            sight.open.append(f"{metadata['name']} is still ending")
        elif not churn.is_over(pod):
            sight.live.add(metadata["uid"])
            if not churn.runs(pod):
                sight.open.append(f"{metadata['name']} does not run: {pod['status'].get('phase')} {_why(pod)}")
    for pod in remote.pods():
        cluster, uid = marks.of(pod)
        if cluster == front.mark:
            sight.copies.append(uid)
            if churn.is_going(pod):
                sight.open.append(f"remote {pod['metadata']['name']} is still ending")
    for job in front.local.get(f"/apis/batch/v1/namespaces/{churn.NAMESPACE}/jobs")["items"]:
        if condition(job, "Complete").get("status") != "True" and job["metadata"]["name"] != END_MARK:
            sight.open.append(f"{job['metadata']['name']} is not complete: {job.get('status')}")
    return sight


def _why(pod):
    said = [f"{c['type']}={c['status']} {c.get('reason', '')}" for c in pod["status"].get("conditions", []) if c["status"] != "True"]
    return "; ".join(said) or pod["status"].get("reason", "")
