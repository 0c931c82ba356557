"""Runs `vrstc` commands in separate processes, and kills them where a test says.

    python tests/support/commands.py

is a `tools.fork_server`. Children see one device, and share what they compile.
"""

import contextlib
import io
import itertools
import os
import pkgutil
import runpy
import signal
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tools import fork_server

ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Done:
    """How a command ended. `code` is its exit code, or minus the signal that killed it."""

    code: int
    out: str
    err: str


class Server(fork_server.Server):
    """A running script of this folder."""

    def __init__(self, script, cache, **environment):
        super().__init__([script], cache, environment=environment, paths=[ROOT / "tests"])


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


_CHILDREN = fork_server.Children()


def _answer(pid=None, words=None, **request):
    if pid is not None:
        return _CHILDREN.code(pid)
    return _start(words, **request) if words else _run(**request)


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

    return _CHILDREN.start(run, out=log)


def _run(arguments, kill, intervals):
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        child = os.fork()
        if not child:
            fork_server.end_process_with(lambda: _command(arguments, kill, intervals), out.fileno(), err.fileno())
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
    fork_server.serve(_answer, (  # what commands import when they need it
        "vrstc_jax.inference.complete", "vrstc_jax.recipes.fit", "vrstc_jax.recipes.complete",
        "vrstc_jax.report.render", "vrstc_jax.data.tracklet_set", "PIL.GifImagePlugin", "tensorboardX"))
