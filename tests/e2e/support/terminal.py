"""A person at a terminal, for `kubectl exec -it`: a pseudo-terminal that types and reads."""

import fcntl
import os
import select
import struct
import subprocess
import termios
import time


class Terminal:
    def __init__(self, argv, rows=33, columns=101):
        self._ours, theirs = os.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

        def adopt():
            os.setsid()
            fcntl.ioctl(0, termios.TIOCSCTTY, 0)

        self.process = subprocess.Popen(argv, stdin=theirs, stdout=theirs, stderr=theirs, preexec_fn=adopt)
        os.close(theirs)
        self.seen = ""

    def type(self, text):
        os.write(self._ours, text.encode())

    def resize(self, rows, columns):
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def read_until(self, text, timeout=20):
        """What was shown since the last call, up to and with `text`."""
        deadline = time.monotonic() + timeout
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"waited {timeout} s for {text!r} on the terminal; shown: {self.seen!r}"
            if select.select([self._ours], [], [], left)[0]:
                try:
                    block = os.read(self._ours, 65536)
                except OSError:  # how Linux says that the other side has closed
                    block = b""
                assert block, f"the terminal was closed before it showed {text!r}; shown: {self.seen!r}"
                self.seen += block.decode(errors="replace")
        found, self.seen = self.seen.split(text, 1)
        return found + text

    def end(self, timeout=20):
        """Exit code of the program, once it has ended."""
        deadline = time.monotonic() + timeout
        while self.process.poll() is None:
            assert time.monotonic() < deadline, f"kubectl did not end; shown: {self.seen!r}"
            if select.select([self._ours], [], [], 0.1)[0]:
                try:
                    self.seen += os.read(self._ours, 65536).decode(errors="replace")
                except OSError:
                    pass
        os.close(self._ours)
        return self.process.returncode

    def kill(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
