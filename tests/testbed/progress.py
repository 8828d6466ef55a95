"""Progress lines on stderr with the time since the start, so that a person sees what is being waited for."""

import sys
import time

_started = time.monotonic()
_quiet = False


def set_quiet(quiet):
    global _quiet
    _quiet = quiet


def say(text):
    if not _quiet:
        print(f"[{time.monotonic() - _started:5.1f}s] {text}", file=sys.stderr, flush=True)
