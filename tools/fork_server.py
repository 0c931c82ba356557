"""A process that has imported the libraries and forks a child for each program: every start of Python costs seconds.

Requests and answers are JSON, one a line, on stdin and stdout. JAX must start in the children alone: it does not
survive a fork.
"""

import atexit
import importlib
import json
import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[1]


class Server:
    """A running server.

    Args:
      words: how Python starts it, such as ('-m', 'package.module'); it calls `serve`.
      cache: directory of compiled programs, which the children share.
      environment: further variables.
      paths: further folders to import from.
      own_session: whether Ctrl-C in the terminal does not reach it.
    """

    def __init__(self, words: Iterable[str], cache: str | Path, *, environment: Mapping[str, str] = {},
                 paths: Iterable[str | Path] = (), own_session: bool = False):
        found = os.environ | environment | {
            "PYTHONPATH": os.pathsep.join(map(str, (_ROOT, *paths))),  # this package, installed or not
            "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_COMPILATION_CACHE_DIR": str(cache),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
        self._server = subprocess.Popen([sys.executable, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=found, start_new_session=own_session)

    def ask(self, **request: Any) -> Any:
        """Its answer to a request."""
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def close(self) -> None:
        """Ends the server, and with it the children that still run."""
        assert self._server.stdin is not None and self._server.stdout is not None
        self._server.stdin.close()
        self._server.wait(30)
        self._server.stdout.close()


class Children:
    """In the server: the processes that it has forked."""

    def __init__(self) -> None:
        self._codes: dict[int, int | None] = {}

    def start(self, function: Callable[[], object], *, out: str = os.devnull, err: str | None = None) -> int:
        """Calls a function in a child, which ends as a program does; returns the child's process number.

        Args:
          out: the file for its output.
          err: that for its error output; None: the same.
        """
        process = os.fork()
        if not process:
            flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
            first = os.open(out, flags, 0o666)
            end_process_with(function, first, first if err is None else os.open(err, flags, 0o666))
        self._codes[process] = None
        return process

    def code(self, process: int) -> int | None:
        """The exit code of a child, or minus the signal that killed it; None while it runs."""
        if self._codes[process] is None:
            ended, status = os.waitpid(process, os.WNOHANG)
            self._codes[process] = os.waitstatus_to_exitcode(status) if ended else None
        return self._codes[process]

    def kill(self) -> None:
        """Kills those that still run."""
        for process in self._codes:
            if self.code(process) is None:
                os.kill(process, signal.SIGKILL)


def serve(answer: Callable[..., Any], modules: Iterable[str]) -> None:
    """Imports modules, and answers each request by a function of its fields, until stdin is closed."""
    for module in modules:
        importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)


def end_process_with(function: Callable[[], object], out: int, err: int) -> None:
    """In a child: calls a function whose output goes to two file descriptors, and exits as a program does."""
    for target, source in ((0, os.open(os.devnull, os.O_RDONLY)), (1, out), (2, err)):
        os.dup2(source, target)
    code = 70
    try:
        function()
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
