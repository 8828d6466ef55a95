"""Waiting for something to become true, with a deadline and a message that says what was seen instead."""

import time

from testbed import TestbedError


def wait_for(predicate, timeout, what, interval=0.1):
    """The first true value of predicate(). Errors of the API and the network count as "not yet". `what` ends the sentence
    "waited … for …"; it may be a function, called only when the wait was in vain."""
    deadline = time.monotonic() + timeout
    while True:
        seen = None
        try:
            seen = predicate()
            if seen:
                return seen
        except (TestbedError, OSError) as error:
            seen = error
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {timeout} s in vain for {what() if callable(what) else what}; last seen: {seen!r}")
        time.sleep(interval)


def stays(predicate, seconds, what, interval=0.2):
    """Fails as soon as predicate() is false within `seconds`."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        assert predicate(), f"no longer: {what}"
        time.sleep(interval)
