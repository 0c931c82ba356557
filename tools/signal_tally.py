"""Sends SIGINT or SIGTERM to commands at random moments, and counts how often each ended as it should.

    python -m tools.signal_tally --times 50

Writes made-up walkers, runs `vrstc complete` and `vrstc fit --size smoke` on them undisturbed, and then, 50 times,
starts one of them in a new directory and sends it one signal at a random moment, from the import of its libraries to
its end. It must end with 130 or 75 and one line, without a traceback, and the same command must then leave what the
undisturbed one left. A signal that comes when a command has said its last word, and ends with 0, came too late, and
another is sent earlier. The seed is printed; `--seed` repeats its moments.

Each time takes as long as one to two runs, some 20 seconds on two cores. Expected: `50 signals: 50 ended by them, 50
end results are the same`. `--times 2` tries it out.
"""

import functools
import hashlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro

from vrstc_jax.runtime.errors import InputError, require_range
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command
from vrstc_jax.runtime.signals import CODES

_PATIENCE = 600  # seconds for a whole run
_ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Arguments:
    """The number of signals, and the directory."""

    times: int = 50
    """Number of signals."""
    seed: int | None = None
    """Seed of the moments; default: a random one, which is printed."""
    workdir: Path | None = None
    """Directory of the runs; default: a temporary one, removed at the end."""


@dataclass(frozen=True)
class Job:
    """A command of `vrstc`.

    Attributes:
      words: of the command, without --output.
      output: the name of what it writes.
      cache: directory of compiled programs.
    """

    words: tuple[str, ...]
    output: str
    cache: Path

    def start(self, directory: Path) -> subprocess.Popen:
        """Starts it in a directory, with its stderr and stdout in the files log and said there."""
        directory.mkdir(parents=True, exist_ok=True)
        environment = os.environ | {
            "PYTHONPATH": str(_ROOT), "JAX_PLATFORMS": "cpu", "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_COMPILATION_CACHE_DIR": str(self.cache)}
        command = [sys.executable, "-m", "vrstc_jax", *self.words, "--output", self.output]
        with open(directory / "log", "wb") as log, open(directory / "said", "wb") as said:
            return subprocess.Popen(
                command, cwd=directory, env=environment, stdout=said, stderr=log,
                # A shell's background jobs ignore SIGINT, and pass that on.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler))

    def result(self, directory: Path) -> dict[str, str]:
        """The digests of the files that the command leaves to its user."""
        output = directory / self.output
        files = sorted(output.rglob("*")) if output.is_dir() else [output]
        # What the report and the record say of the command's time and paths is no result.
        return {str(file.relative_to(directory)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files
                if file.is_file() and (file.suffix in (".png", ".safetensors") or "scores" in file.parts)}


def main(arguments: Arguments) -> bool:
    """Sends the signals and prints the tally; returns whether all ended as they should."""
    require_flags(arguments)
    require_range(arguments, "times", least=1)
    seed = random.randrange(10 ** 6) if arguments.seed is None else arguments.seed
    draw = random.Random(seed)
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.workdir or Path(temporary)).absolute()
        listed = jobs(work)
        expected, seconds = {}, {}
        for number, job in enumerate(listed):
            for again in range(2):  # the second run finds compiled programs, as those to be disturbed do
                directory, began = work / f"whole{number}-{again}", time.monotonic()
                _require_zero(job.start(directory), directory)
                seconds[number], expected[number] = time.monotonic() - began, job.result(directory)
        print(f"undisturbed: {', '.join(f'{took:.0f} s' for took in seconds.values())}; seed {seed}", flush=True)
        rows = []
        for time_ in range(arguments.times):
            number, directory = time_ % len(listed), work / "disturbed"
            kind, when = draw.choice(list(CODES)), draw.uniform(0, 1) * seconds[number]
            ended = send_once(listed[number], directory, kind, when)
            _require_zero(listed[number].start(directory), directory)
            same = listed[number].result(directory) == expected[number]
            rows.append((ended, same))
            print(f"{listed[number].words[0]}: {kind.name} after {when:.2f} s: {'ended' if ended else 'DID NOT END'}; "
                  f"again: {'the same' if same else 'ANOTHER RESULT'}", flush=True)
    ended, same = (sum(column) for column in zip(*rows))
    print(f"{len(rows)} signals: {ended} ended by them, {same} end results are the same.")
    return ended == same == len(rows)


def send_once(job: Job, directory: Path, kind: signal.Signals, when: float) -> bool:
    """Starts a job in an empty directory, and sends a signal some seconds after it began to handle signals.

    A job that ends before that, or had nothing more to do, is repeated with an earlier moment.

    Returns:
      Whether it ended with the signal's code, and its line as the last one, without a traceback.
    """
    while True:
        shutil.rmtree(directory, ignore_errors=True)
        process = job.start(directory)
        _wait(process, functools.partial(_handles_sigterm, process.pid))
        moment = time.monotonic() + when
        _wait(process, lambda moment=moment: time.monotonic() >= moment)
        if process.poll() is None:
            finished = _has_finished(directory)
            process.send_signal(kind)
            if _end(process) or not finished:
                break
        when *= 0.8
    code, said = _end(process), (directory / "log").read_text(errors="replace")
    last = next(reversed(said.replace("\r", "\n").splitlines()), "")
    as_it_should = (code == CODES[kind] and last.startswith("vrstc: ")
                    and ("interrupted" if kind == signal.SIGINT else "preempted") in last
                    and "Traceback" not in said and "ignored" not in said)
    if not as_it_should:
        print(f"code {code}:\n{said}", flush=True)
    return as_it_should


def jobs(work: Path) -> list[Job]:
    """(completing, fitting), on walkers that are written to WORK/frames."""
    from vrstc_jax.data.images import write_png
    from vrstc_jax.data.walkers import WalkerConfig, make_tracklets, people

    for tracklet in make_tracklets(people("test", 2), cameras=2, config=WalkerConfig(height=40, width=20, frames=8)):
        for name, frame in zip(tracklet.frame_names, tracklet.frames):
            write_png(work / "frames" / tracklet.name / f"{name}.png", frame)
    frames, cache = str(work / "frames"), work / "compiled"
    return [Job(("complete", frames), "done", cache),
            Job(("fit", frames, "--size", "smoke", "--steps", "4", "--reid-steps", "4"), "model.safetensors", cache)]


def _has_finished(directory: Path) -> bool:
    """Whether the command has printed its summary, the last that it does."""
    return (directory / "said").read_text(errors="replace").endswith("\n")


def _handles_sigterm(process: int) -> bool:
    """Whether a process has a handler for SIGTERM; before the command's first import it has none."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    caught = next(line.split()[1] for line in status.splitlines() if line.startswith("SigCgt"))
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def _wait(process: subprocess.Popen, ready: Callable[[], bool]) -> None:
    while process.poll() is None and not ready():
        time.sleep(0.002)


def _end(process: subprocess.Popen) -> int:
    try:
        return process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait()


def _require_zero(process: subprocess.Popen, directory: Path) -> None:
    if _end(process):
        raise InputError(f"{directory}: a run that nothing disturbed ended with {process.returncode}; see its log.")


if __name__ == "__main__":
    run_as_command(lambda: sys.exit(0 if main(tyro.cli(Arguments, description=__doc__)) else 1))
