"""Runs a command that stops itself (SIGSTOP) in a call of a function, for tests of what others do meanwhile.

    python tests/support/stopping.py MODULE:FUNCTION CALL MODULE [ARGUMENT …]

runs `python -m MODULE ARGUMENT …`.
"""

import os
import runpy
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


class Stopping:
    """A started command.

    Args:
      words: MODULE and its arguments.
      at: 'package.module:function', in whose call it stops; '' for nowhere.
      call: which of its calls, from 1.
    """

    def __init__(self, words, *, at="", call=1, cache=None):
        environment = os.environ | {
            "PYTHONPATH": f"{ROOT}:{ROOT / 'tests/support'}", "JAX_PLATFORMS": "cpu", "TF_CPP_MIN_LOG_LEVEL": "3",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", **({"JAX_COMPILATION_CACHE_DIR": str(cache)} if cache else {})}
        self.process = subprocess.Popen(
            [sys.executable, __file__, at, str(call), *map(str, words)], stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT, text=True, env=environment, cwd=ROOT)

    def wait_until_stopped(self, seconds=240):
        """Returns when it has stopped itself."""
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"ended with {self.process.returncode}:\n{self.process.stdout.read()}")
            state = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()[0]
            if state == "T":
                return self
            time.sleep(0.02)
        raise AssertionError("did not come to where it stops")

    def go_on(self):
        """Lets it go on; its exit code."""
        self.process.send_signal(signal.SIGCONT)
        return self.end()

    def end(self, seconds=240):
        """Its exit code, when it has ended; `said` is what it printed."""
        self.said, _ = self.process.communicate(timeout=seconds)
        return self.process.returncode

    def kill(self):
        """`kill -9`."""
        self.process.kill()
        self.process.communicate()


@contextmanager
def stopped(words, **options):
    """A command that has stopped itself; it is killed in the end."""
    command = Stopping(words, **options)
    try:
        yield command.wait_until_stopped()
    finally:
        command.kill()


def main(at, call, module, *arguments):
    from commands import kill_in

    if at:
        kill_in(at, int(call), signal.SIGSTOP)
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
