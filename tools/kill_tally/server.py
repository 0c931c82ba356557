"""Starts `vrstc` commands by a `tools.fork_server`, which is

    python -m tools.kill_tally.server
"""

import os
import runpy
import signal
import sys
import time
from pathlib import Path

from tools import fork_server

_IMPORTS = ("vrstc_jax.cli", "vrstc_jax.inference.complete", "vrstc_jax.recipes.fit", "vrstc_jax.recipes.complete",
            "vrstc_jax.recipes.demo", "vrstc_jax.report.render", "vrstc_jax.data.tracklet_set", "tensorboardX")
_INTERVALS = {"log": 1, "checkpoint": 2, "pictures": 4}  # of trainings, so that short ones write checkpoints too
_PATIENCE, _POLL = 600, 0.01  # seconds for a command, and between two looks at it


class Commands(fork_server.Server):
    """A running server.

    Args:
      cache: directory of compiled programs, which the commands share.
    """

    def __init__(self, cache: Path):
        # In a session to itself: Ctrl-C ends the tally, which then ends the server.
        super().__init__(["-m", "tools.kill_tally.server"], cache, environment={"TF_CPP_MIN_LOG_LEVEL": "3"},
                         own_session=True)

    def start(self, words: tuple[str, ...], directory: Path, log: str = "log") -> "Child":
        """Starts `vrstc WORDS` in a directory, with its stderr in the file `log` there."""
        directory.mkdir(parents=True, exist_ok=True)
        return Child(self, self.ask(words=words, directory=str(directory), log=str(directory / log)),
                     directory / log)

    def code(self, process: int) -> int | None:
        """The exit code of a child, or minus the signal that killed it; None while it runs."""
        return self.ask(process=process)


class Child:
    """A command that was started."""

    def __init__(self, commands: Commands, process: int, log: Path):
        self._commands, self._process, self._log = commands, process, log
        self._code: int | None = None

    def code(self) -> int | None:
        """Its exit code, or minus the signal that killed it; None while it runs."""
        if self._code is None:
            self._code = self._commands.code(self._process)
        return self._code

    def kill(self) -> int:
        """Kills it as `kill -9` does, and waits."""
        if self.code() is None:
            os.kill(self._process, signal.SIGKILL)  # not reaped yet, so no other process has its number
        return self.wait()

    def wait(self) -> int:
        """Waits for its end; one that takes too long is killed."""
        # Counted, not by the clock: whoever stops the tally for a while (SIGSTOP) stops its patience, too.
        for _ in range(round(_PATIENCE / _POLL)):
            if (code := self.code()) is not None:
                return code
            time.sleep(_POLL)
        return self.kill()

    def said(self) -> str:
        """What it wrote to stderr."""
        return self._log.read_text(errors="replace")


def main() -> None:
    """Serves until stdin is closed."""
    children = fork_server.Children()

    def answer(process: int | None = None, words: tuple[str, ...] = (), directory: str = "", log: str = "",
               ) -> int | None:
        if process is not None:
            return children.code(process)
        return children.start(lambda: _run(words, directory), err=log)

    fork_server.serve(answer, _IMPORTS)
    children.kill()


def _run(words: tuple[str, ...], directory: str) -> None:
    os.chdir(directory)
    from vrstc_jax.recipes.fit import fit
    from vrstc_jax.training.loop import Intervals

    assert fit.__kwdefaults__ is not None
    fit.__kwdefaults__["intervals"] = Intervals(**_INTERVALS)
    sys.argv = ["vrstc", *words]
    runpy.run_module("vrstc_jax", run_name="__main__", alter_sys=False)


if __name__ == "__main__":
    main()
