"""Runs a command that stops itself (SIGSTOP) in a call of a function, for tests of what others do meanwhile."""

import os
import signal
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path


class Stopping:
    """A started command.

    Args:
      vrstc: the server that forks it, `commands.Commands`.
      words: MODULE and its arguments, as of `python -m`.
      at: 'package.module:function', in whose call it stops; '' for nowhere.
      call: which of its calls, from 1.
    """

    def __init__(self, vrstc, words, *, at="", call=1):
        self._vrstc, self._folder = vrstc, tempfile.TemporaryDirectory()
        self._log = Path(self._folder.name) / "log"
        self._pid = vrstc.start(words, log=self._log, stop=(at, call) if at else None)

    @property
    def said(self):
        """What it has printed."""
        return self._log.read_text()

    def wait_until_stopped(self, seconds=240):
        """Returns when it has stopped itself."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if (code := self._vrstc.code(self._pid)) is not None:
                raise AssertionError(f"ended with {code}:\n{self.said}")
            state = Path(f"/proc/{self._pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "T":
                return self
            time.sleep(0.02)
        raise AssertionError("did not come to where it stops")

    def go_on(self):
        """Lets it go on; its exit code."""
        os.kill(self._pid, signal.SIGCONT)
        return self.end()

    def end(self, seconds=240):
        """Its exit code, when it has ended."""
        deadline = time.monotonic() + seconds
        while (code := self._vrstc.code(self._pid)) is None:
            assert time.monotonic() < deadline, self.said
            time.sleep(0.02)
        return code

    def kill(self):
        """`kill -9`, unless it has ended."""
        if self._vrstc.code(self._pid) is None:
            os.kill(self._pid, signal.SIGKILL)
            self.end()


@contextmanager
def stopped(vrstc, words, **options):
    """A command that has stopped itself; it is killed in the end."""
    command = Stopping(vrstc, words, **options)
    try:
        yield command.wait_until_stopped()
    finally:
        command.kill()
