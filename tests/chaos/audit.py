"""What an agent asked of an API server, from that server's audit log."""

import collections
import json
from dataclasses import dataclass

_WRITES = ("create", "update", "patch", "delete", "deletecollection")


@dataclass(frozen=True)
class Call:
    at: str  # RFC 3339 with microseconds, UTC: sorts as text
    verb: str
    resource: str  # with its subresource: pods/status
    namespace: str
    name: str
    code: int

    @property
    def writes(self):
        return self.verb in _WRITES


def calls(cluster, user):
    """Every finished call of one user, oldest first. Lines that a killed server left half written are skipped."""
    found = []
    needle = json.dumps(user)
    for path in sorted((cluster.folder / "log").glob("audit*.log")):
        with open(path, errors="replace") as lines:
            for line in lines:
                if needle not in line:
                    continue
                try:
                    event = json.loads(line)
                except ValueError:
                    continue
                if event.get("user", {}).get("username") != user or event.get("stage") == "ResponseStarted":
                    continue
                about = event.get("objectRef", {})
                resource = "/".join(part for part in (about.get("resource", event["requestURI"]), about.get("subresource")) if part)
                found.append(
                    Call(
                        event["requestReceivedTimestamp"],
                        event["verb"],
                        resource,
                        about.get("namespace", ""),
                        about.get("name", ""),
                        event.get("responseStatus", {}).get("code", 0),
                    )
                )
    return sorted(found, key=lambda call: call.at)


def denials(calls_, starting=()):
    """(verb, resource) → how often it was answered with 403, without the times (pairs of RFC 3339) in which that API server was starting:
    until it has read its roles it refuses everybody."""
    counted, excused = collections.Counter(), 0
    for call in calls_:
        if call.code == 403:
            if any(begin <= call.at <= end for begin, end in starting):
                excused += 1
            else:
                counted[f"{call.verb} {call.resource}"] += 1
    return counted, excused


def summary(calls_):
    """(verb, resource) → number of calls, most frequent first."""
    return collections.Counter(f"{call.verb} {call.resource}" for call in calls_).most_common()
