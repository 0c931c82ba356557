"""Kills one of the two processes of a run: training, locating and completing, each in its share.

A run has two processes of two CPU devices each (`tools.killed_job`). They train the re-ID network and STCnet, size
`smoke`, on made-up walkers, write a checkpoint every few steps, and then locate in a data set and complete it with
these networks. One of the two is killed; the other must end with a message. A third of the kills are at random moments,
a third during the writing of a checkpoint, and a third in the middle of completing.
"""

import hashlib
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from vrstc_jax.runtime.errors import InputError

_PATIENCE = 900  # seconds for a whole run
Moment = tuple[int, str, float]
"""(process, kind, when) of a kill, see `moments`."""


def undisturbed(run: "Run") -> tuple[dict[Any, Any], float]:
    """(end result, seconds) of a run that starts in an empty directory.

    Raises:
      InputError: the run failed.
    """
    shutil.rmtree(run.directory, ignore_errors=True)
    began = time.monotonic()
    codes = run.start().wait()
    if any(codes):
        raise InputError(f"{run.directory}: the undisturbed run ended with {codes}; see its log files.")
    return result(run.directory), time.monotonic() - began


def moments(times: int, seed: int, *, seconds: float, checkpoints: int, tracklets: int = 0) -> list[Moment]:
    """(process, 'any', 'writing' or 'completing', when) of each kill.

    'any': `when` is in seconds after the start, of a run that takes `seconds`; 'writing': during the writing of the
    `when`-th of its checkpoints; 'completing': when this number of its tracklets is completed, if there are any.
    """
    draw, kinds = random.Random(seed), ("any", "writing", *(["completing"] if tracklets else []))

    def when(kind: str) -> float:
        if kind == "any":
            return draw.uniform(0.2, 0.95) * seconds
        return draw.randint(1, checkpoints) if kind == "writing" else draw.randint(1, tracklets - 1)

    return [(draw.randrange(2), kind, when(kind)) for kind in (kinds[n % len(kinds)] for n in range(times))]


def kill_once(run: "Run", moment: Moment, expected: dict[Any, Any]) -> dict[str, bool]:
    """Kills one process of a run at a moment, waits for the other to end, and starts the run again.

    A run that ends before the moment is repeated with an earlier one.

    Returns:
      {'same': the end result is the expected one, 'ended': the other process ended by itself, with a message,
      'writing': a checkpoint was half-written at that moment, 'completing': the data set was half-completed}.

    Raises:
      InputError: the run failed before the kill.
    """
    which, kind, when = moment
    while not _reached(run, kind, when):
        if any(run.wait()):
            raise InputError(f"{run.directory}: the run failed before it was killed; see its log files.")
        # Runs differ in speed, so a moment near the end may never come.
        when = when - 1 if kind != "any" and when > 1 else when * 0.8
    run.processes[which].kill()
    writing, completing = bool(_half_written(run)), _completed(run) > 0 and not (run.directory / "completed").exists()
    began = time.monotonic()
    codes = run.wait()
    waited = time.monotonic() - began
    # 0: it had finished before it needed the killed process again.
    ended = codes[1 - which] == 0 or codes[1 - which] != -signal.SIGKILL and bool(
        re.search("another (task died|process of this run is gone)", run.log(1 - which)))
    again = run.start().wait()
    same = not any(again) and result(run.directory) == expected
    if not (same and ended):
        print(f"{run.directory}: process {which} killed ({kind} {when:.4g}); the other ended after {waited:.0f} s with "
              f"{codes[1 - which]}; again: {again}, {'the same' if same else 'ANOTHER RESULT'}", flush=True)
    return {"same": same, "ended": ended, "writing": writing, "completing": completing}


def _reached(run: "Run", kind: str, when: float) -> bool:
    """Starts a run in an empty directory; whether the moment comes before its end."""
    shutil.rmtree(run.directory, ignore_errors=True)
    run.start()
    began, seen = time.monotonic(), set()
    while run.going():
        unfinished = _half_written(run)
        seen |= unfinished
        if (kind == "any" and time.monotonic() - began >= when
                or kind == "writing" and unfinished and len(seen) >= when
                or kind == "completing" and _completed(run) >= when):
            return True
        time.sleep(0.002)
    return False


def _half_written(run: "Run") -> set[tuple[str, str]]:
    """(network, step) of the checkpoints that have no digests yet."""
    return {(path.parts[-3], path.name.split(".")[0]) for path in run.directory.glob("*/checkpoints/[0-9]*")
            if not (path / "digests.json").exists()}


def _completed(run: "Run") -> int:
    """The number of completed tracklets; 0 when the set is finished."""
    return len(list(run.directory.glob("completed_details/scores/**/*.json")))


class Run:
    """A run by two processes of two CPU devices each, in a directory; their outputs are in log0 and log1 there.

    Args:
      steps: of each training.
      cache: directory of compiled programs.
    """

    def __init__(self, directory: Path, *, steps: int, cache: Path):
        self.directory, self.processes = directory, []
        self._words = [sys.executable, "-m", "tools.killed_job",
                       json.dumps({"directory": str(directory), "steps": steps, "heartbeat": 20})]
        self._environment = os.environ | {
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]), "JAX_PLATFORMS": "cpu", "JAX_NUM_CPU_DEVICES": "2",
            "JAX_DISABLE_MOST_OPTIMIZATIONS": "1", "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_COMPILATION_CACHE_DIR": str(cache), "VRSTC_PROCESSES": "2"}

    def start(self) -> "Run":
        """Starts both processes."""
        self.directory.mkdir(parents=True, exist_ok=True)
        # Another port each time: the killed run's may still be in use.
        port, self.processes = _free_port(), []
        for index in range(2):
            own = {"VRSTC_COORDINATOR": f"127.0.0.1:{port}", "VRSTC_PROCESS": str(index)}
            with open(self.directory / f"log{index}", "wb") as log:
                self.processes.append(subprocess.Popen(
                    self._words, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                    env=self._environment | own, cwd=self._environment["PYTHONPATH"]))
        return self

    def going(self) -> bool:
        """Whether both processes are alive."""
        return all(process.poll() is None for process in self.processes)

    def wait(self, seconds: float = _PATIENCE) -> list[int]:
        """The exit codes of both processes; one that takes longer is killed."""
        end = time.monotonic() + seconds
        for process in self.processes:
            try:
                process.wait(max(0.1, end - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        return [process.returncode for process in self.processes]

    def log(self, index: int) -> str:
        """The output of a process."""
        return (self.directory / f"log{index}").read_text(errors="replace")


def result(directory: Path) -> dict[Any, Any]:
    """A run's end result: the digest of each network with its optimiser, the lines of its metrics, and the digest of
    each file that locating and completing made."""
    digests = directory / "result.json"
    left: dict[Any, Any] = json.loads(digests.read_text()) if digests.exists() else {}
    for path in sorted(directory.glob("*/metrics.jsonl")):
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        left[path.parent.name, "metrics"] = [{k: v for k, v in line.items() if k != "steps_per_second"}
                                             for line in lines]
    for path in (directory / "scores.npz", *sorted((directory / "completed").glob("*"))):
        left[path.name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
    return left


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]

