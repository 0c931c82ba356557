"""Runs `vrstc` commands in separate processes, and kills them where a test says.

    python tests/support/commands.py

is a server that has the libraries imported, without having started JAX: it forks a child for each command,
which saves the seconds that every start costs. Requests and answers are JSON, one a line. Children see one
device, and share what they compile.
"""

import atexit
import contextlib
import importlib
import io
import itertools
import json
import os
import pkgutil
import runpy
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Server:
    """A running script that calls `serve`."""

    def __init__(self, script, cache, **environment):
        environment = os.environ | environment | {
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}",  # this package, installed or not
            "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            # What one child compiled, the others read.
            "JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}
        self._server = subprocess.Popen([sys.executable, script], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        text=True, env=environment)

    def ask(self, **request):
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())

    def close(self):
        self._server.stdin.close()
        self._server.wait(30)


def serve(answer, modules):
    """Imports modules, and answers each request by a function of its fields."""
    for module in modules:
        importlib.import_module(module)
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), flush=True)


def end_process_with(function, out, err):
    """In a forked child: calls a function whose output goes to two file descriptors, and exits as a program does."""
    os.dup2(out, 1)
    os.dup2(err, 2)
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


@dataclass(frozen=True)
class Done:
    """How a command ended. `code` is its exit code, or minus the signal that killed it."""

    code: int
    out: str
    err: str


class Commands(Server):
    """A running server; `commands("complete", …)` is `vrstc complete …`."""

    def __init__(self, cache):
        super().__init__(__file__, cache, TF_CPP_MIN_LOG_LEVEL="3")

    def __call__(self, *arguments, kill=None, intervals=None) -> Done:
        """Runs a command.

        Args:
          kill: ('module:function', n): the process kills itself, as `kill -9` does, in the n-th call of that
            function, from 1.
          intervals: (log, checkpoint), in steps, of `vrstc fit` in this process.
        """
        return Done(**self.ask(arguments=[str(a) for a in arguments], kill=kill, intervals=intervals))

    def start(self, words, *, log, stop=None, folder=ROOT) -> int:
        """Starts `python -m words…`, or `python words…` if the first is a file: the process' id, for `code`.

        Args:
          log: the file for what it prints.
          stop: ('module:function', n): the process stops itself (SIGSTOP) in the n-th call of that function, from 1.
          folder: its working directory.
        """
        return self.ask(words=[str(word) for word in words], log=str(log), stop=stop, folder=str(folder))

    def code(self, pid) -> int | None:
        """The exit code of a process that `start` started, or minus the signal that killed it; None while it runs."""
        return self.ask(pid=pid)


_CODES: dict[int, int] = {}  # of started processes that have ended


def _answer(pid=None, words=None, **request):
    if pid is None:
        return _start(words, **request) if words else _run(**request)
    if pid not in _CODES:
        ended, status = os.waitpid(pid, os.WNOHANG)
        if not ended:
            return None
        _CODES[pid] = os.waitstatus_to_exitcode(status)
    return _CODES[pid]


def _start(words, log, stop, folder):
    def run():
        os.chdir(folder)
        signal.signal(signal.SIGINT, signal.default_int_handler)  # which what starts the tests may ignore
        if stop:
            kill_in(*stop, signal.SIGSTOP)
        sys.argv = words
        if words[0].endswith(".py"):
            runpy.run_path(words[0], run_name="__main__")
        else:
            runpy.run_module(words[0], run_name="__main__", alter_sys=True)

    if pid := os.fork():
        return pid
    file = os.open(log, os.O_WRONLY | os.O_CREAT)
    end_process_with(run, file, file)


def _run(arguments, kill, intervals):
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            end_process_with(lambda: _command(arguments, kill, intervals), out.fileno(), err.fileno())
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        for file in (out, err):
            file.seek(0)
        return {"code": status, "out": out.read(), "err": err.read()}


def _command(arguments, kill, intervals):
    import vrstc_jax.cli
    from vrstc_jax.recipes.fit import fit
    from vrstc_jax.training.loop import Intervals

    if intervals:
        fit.__kwdefaults__["intervals"] = Intervals(*intervals)
    if kill:
        kill_in(*kill)
    sys.argv = ["vrstc", *arguments]
    vrstc_jax.cli.main(arguments)


def kill_in(name, call, number=signal.SIGKILL):
    """The process sends itself a signal in a call of 'package.module:Class.function'."""
    holder, last = find(name)
    original, calls = getattr(holder, last), itertools.count(1)

    def counted(*args, **kwargs):
        if next(calls) == call:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    setattr(holder, last, counted)


def find(name):
    """'package.module:Class.function' to (what holds it, its name)."""
    path, _, last = name.replace(":", ".").rpartition(".")
    return pkgutil.resolve_name(path), last


def _prepare():
    """Does what most commands begin with, so that children inherit what it leaves in caches.

    Parsing imports a fifth of a second of tyro. The shapes of a model's tensors, with which its file is checked, take
    most of a second to trace; that starts no device, which a fork would not survive.
    """
    from vrstc_jax import cli, config
    from vrstc_jax.models.expected import completion_shapes, reid_shapes

    with contextlib.redirect_stdout(io.StringIO()), contextlib.suppress(SystemExit):
        cli.main(["complete", "--help"])
    smoke = config.get("smoke")
    completion_shapes(smoke)
    reid_shapes(smoke.reid, 3, "ReidNet")  # as many people as `people.random_model` knows


if __name__ == "__main__":
    _prepare()
    serve(_answer, (  # what commands import when they need it
        "vrstc_jax.inference.complete", "vrstc_jax.recipes.fit", "vrstc_jax.recipes.complete",
        "vrstc_jax.report.render", "vrstc_jax.data.tracklet_set", "PIL.GifImagePlugin", "tensorboardX"))
