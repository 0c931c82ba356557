"""Starts `vrstc` commands quickly: a process that has imported the libraries forks a child for each command.

    python -m tools.kill_tally.server

reads requests and writes answers, JSON, one a line. JAX starts in the children, as in a command that a user starts.
"""

import importlib
import json
import os
import runpy
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_IMPORTS = ("vrstc_jax.cli", "vrstc_jax.inference.complete", "vrstc_jax.recipes.fit", "vrstc_jax.recipes.complete",
            "vrstc_jax.recipes.demo", "vrstc_jax.report.render", "vrstc_jax.data.tracklet_set", "tensorboardX")
_INTERVALS = {"log": 1, "checkpoint": 2, "pictures": 4}  # of trainings, so that short ones write checkpoints too
_PATIENCE, _POLL = 600, 0.01  # seconds for a command, and between two looks at it


class Commands:
    """A running server.

    Args:
      cache: directory of compiled programs, which the commands share.
    """

    def __init__(self, cache: Path):
        environment = os.environ | {
            "PYTHONPATH": str(_ROOT), "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1", "JAX_COMPILATION_CACHE_DIR": str(cache)}
        # In a session to itself: Ctrl-C ends the tally, which then ends the server.
        self._server = subprocess.Popen([sys.executable, "-m", "tools.kill_tally.server"], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True)

    def start(self, words: tuple[str, ...], directory: Path, log: str = "log") -> "Child":
        """Starts `vrstc WORDS` in a directory, with its stderr in the file `log` there."""
        directory.mkdir(parents=True, exist_ok=True)
        return Child(self, self._ask(words=words, directory=str(directory), log=str(directory / log)),
                     directory / log)

    def _ask(self, **request: Any) -> Any:
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def code(self, process: int) -> int | None:
        """The exit code of a child, or minus the signal that killed it; None while it runs."""
        return self._ask(process=process)

    def close(self) -> None:
        """Ends the server, which kills the commands that still run."""
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()


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
    for module in _IMPORTS:
        importlib.import_module(module)
    running: dict[int, int | None] = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "process" in request:
            answer = running[request["process"]] = _code(request["process"], running)
        else:
            answer = os.fork()
            if not answer:
                _run(**request)
            running[answer] = None
        print(json.dumps(answer), flush=True)
    for process in running:
        if _code(process, running) is None:
            os.kill(process, signal.SIGKILL)


def _code(process: int, running: dict[int, int | None]) -> int | None:
    if running[process] is None:
        ended, status = os.waitpid(process, os.WNOHANG)
        running[process] = os.waitstatus_to_exitcode(status) if ended else None
    return running[process]


def _run(words: list[str], directory: str, log: str) -> None:
    """In a child: runs the command, and exits as a program does."""
    code = 70
    try:
        for target, path, how in ((0, os.devnull, os.O_RDONLY), (1, os.devnull, os.O_WRONLY),
                                  (2, log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)):
            os.dup2(os.open(path, how, 0o666), target)
        os.chdir(directory)
        from vrstc_jax.recipes.fit import fit
        from vrstc_jax.training.loop import Intervals

        assert fit.__kwdefaults__ is not None
        fit.__kwdefaults__["intervals"] = Intervals(**_INTERVALS)
        sys.argv = ["vrstc", *words]
        runpy.run_module("vrstc_jax", run_name="__main__", alter_sys=False)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()
