"""Runs `vrstc` commands in processes of their own, and kills them where a test says.

    python tests/support/commands.py

is a server that has the libraries imported, without having started JAX: it forks a child for each command,
which saves the seconds that every start costs. Requests and answers are JSON, one a line. Children see one
device, and share what they compile.
"""

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Done:
    """How a command ended. `code` is its exit code, or minus the signal that killed it."""

    code: int
    out: str
    err: str


class Commands:
    """A running server; `commands("complete", …)` is `vrstc complete …`."""

    def __init__(self, cache):
        environment = os.environ | {
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),  # this package, installed or not
            "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            # What one child compiled, the others read.
            "JAX_COMPILATION_CACHE_DIR": str(cache), "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1", "TF_CPP_MIN_LOG_LEVEL": "3"}
        self._server = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True, env=environment)

    def __call__(self, *arguments, kill=None, intervals=None) -> Done:
        """Runs a command.

        Args:
          kill: ('module:function', n): the process kills itself, as `kill -9` does, in the n-th call of that
            function, from 1.
          intervals: (log, checkpoint), in steps, of `vrstc fit` in this process.
        """
        request = {"arguments": [str(a) for a in arguments], "kill": kill, "intervals": intervals}
        self._server.stdin.write(json.dumps(request) + "\n")
        self._server.stdin.flush()
        return Done(**json.loads(self._server.stdout.readline()))

    def close(self):
        self._server.stdin.close()
        self._server.wait(30)


def _serve():
    for module in ("vrstc_jax.inference.complete", "vrstc_jax.recipes.fit", "vrstc_jax.recipes.complete",
                   "vrstc_jax.report.render", "tensorboardX"):
        importlib.import_module(module)  # what commands import when they need it
    for line in sys.stdin:
        request = json.loads(line)
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
            child = os.fork()
            if not child:
                os.dup2(out.fileno(), 1)
                os.dup2(err.fileno(), 2)
                _run(**request)
            status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read())
        print(json.dumps({"code": status, "out": texts[0], "err": texts[1]}), flush=True)


def _run(arguments, kill, intervals):
    import vrstc_jax.cli
    from vrstc_jax.recipes.fit import fit
    from vrstc_jax.training.loop import Intervals

    code = 70
    try:
        if intervals:
            fit.__kwdefaults__["intervals"] = Intervals(*intervals)
        if kill:
            _kill_in(*kill)
        sys.argv = ["vrstc", *arguments]
        vrstc_jax.cli.main(arguments)
        code = 0
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _kill_in(name, call, number=signal.SIGKILL):
    """The process sends itself a signal in a call of a function."""
    holder, last = _find(name)
    original, calls = getattr(holder, last), [0]

    def counted(*args, **kwargs):
        calls[0] += 1
        if calls[0] == call:
            os.kill(os.getpid(), number)
        return original(*args, **kwargs)

    setattr(holder, last, counted)


def _find(name):
    """'package.module:Class.function' to (what holds it, its name)."""
    module, path = name.split(":")
    holder = importlib.import_module(module)
    *outer, last = path.split(".")
    for part in outer:
        holder = getattr(holder, part)
    return holder, last


if __name__ == "__main__":
    _serve()
