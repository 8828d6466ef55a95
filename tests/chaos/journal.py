"""What was done and when: one line per action, on disk and on stderr."""

import sys
import threading
import time
from datetime import datetime


class Journal:
    """Safe to use from several threads. `quiet` leaves stderr alone."""

    def __init__(self, path, quiet=False):
        self._file = open(path, "a")
        self._lock = threading.Lock()
        self._started = time.monotonic()
        self._quiet = quiet

    def seconds(self):
        return time.monotonic() - self._started

    def say(self, text):
        line = f"{datetime.now().strftime('%H:%M:%S.%f')[:-3]} [{self.seconds():6.1f}s] {text}"
        with self._lock:
            self._file.write(line + "\n")
            self._file.flush()
            if not self._quiet:
                print(line, file=sys.stderr, flush=True)

    def note(self, text):
        """To the file alone: what happens many times a second."""
        with self._lock:
            self._file.write(f"{datetime.now().strftime('%H:%M:%S.%f')[:-3]} [{self.seconds():6.1f}s]   {text}\n")

    def close(self):
        with self._lock:
            self._file.close()
