"""Kills commands at random moments and starts them in pairs, and counts how often the result is the same.

    python -m tools.kill_tally --times 200 --pairs 50 --workdir DIR

The jobs are `vrstc complete` with a data set, the same of a video that is rendered too, `vrstc fit` and `vrstc demo`,
size `smoke` on a few made-up walkers, and a run of two processes (`tools.kill_tally.two_processes`). Each is run twice
undisturbed, which must give the same. Then they are killed in turn, as by `kill -9`, half of them at random moments and
half when they wrote a random file. What a killed one leaves must be whole. The same command runs again, and must leave
what the undisturbed runs left, bit for bit, and no other file. After that two of one command are started on one output,
0 s to a third of a run apart: one must end with that same result, the other with exit code 2 and one line.

With `--workdir` the tally goes on where it was interrupted, and a larger `--times` adds to it. The seed is printed;
`--seed` repeats its moments. A directory of a try that went wrong is kept there. The exit code is 1 if any did.

On two cores a kill takes some 10 to 20 seconds, of the run of two processes one to three minutes, and a pair 10.
Expected: `20 kills: 20 end results are the same; 10 pairs: in 10 one ended and the other was refused`.
`--times 4 --pairs 2` tries it out.
"""

import dataclasses
import json
import math
import random
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import tyro

from tools.kill_tally import two_processes
from tools.kill_tally.jobs import jobs, whole
from tools.kill_tally.server import Commands
from tools.kill_tally.tries import Try, kill_once, pair_once
from tools.killed_job import EVERY, PEOPLE
from vrstc_jax.runtime.errors import InputError, require_range
from vrstc_jax.runtime.flags import require_flags
from vrstc_jax.runtime.lifecycle import run_as_command
from vrstc_jax.runtime.records import read_record
from vrstc_jax.runtime.storage import replace_file
from vrstc_jax.runtime.text_tables import text_table
from vrstc_jax.runtime.workdir import Workdir

Name = Literal["complete", "video", "fit", "demo", "processes"]
_RECORD, _TRIES = "tally.json", "tries.jsonl"


@dataclass(frozen=True)
class Arguments:
    """How often, what, and where."""

    times: int = 20
    """Number of kills."""
    pairs: int = 10
    """Number of pairs of processes on one output."""
    jobs: tuple[Name, ...] = ("complete", "video", "fit", "demo", "processes")
    """What to kill, in turn."""
    seed: int | None = None
    """Seed of the moments; default: a random one, which is printed."""
    steps: int = 6
    """Steps of each training of two processes."""
    workdir: Path | None = None
    """Directory of the runs, with which the same command goes on; default: a temporary one, removed at the end."""


def main(arguments: Arguments) -> bool:
    """Kills, starts pairs and compares; prints the tally. Returns whether nothing went wrong."""
    require_flags(arguments)
    require_range(arguments, "steps", least=4)
    if not arguments.jobs:
        raise InputError("--jobs: name at least one.")
    with tempfile.TemporaryDirectory() as temporary:
        work = (arguments.workdir or Path(temporary)).absolute()
        seed = _claimed(Workdir(work, _RECORD, "a tally with other jobs, steps or seed"), arguments)
        print(f"seed {seed}", flush=True)
        commands = Commands(work / "compiled")
        try:
            tries = _tried(arguments, work, seed, commands)
        finally:
            commands.close()
    print(tally(tries))
    return not any(each.problems for each in tries)


def _claimed(folder: Workdir, arguments: Arguments) -> int:
    """The seed: the given one, that of the tally which goes on, or a random one."""
    record = folder.path / _RECORD
    before = read_record(record, fits=lambda found: isinstance(found["seed"], int))["seed"] if record.exists() else None
    seed = before if arguments.seed is None else arguments.seed
    seed = random.randrange(10 ** 6) if seed is None else seed
    folder.claim({"seed": seed, "jobs": arguments.jobs, "steps": arguments.steps})
    return seed


def _tried(arguments: Arguments, work: Path, seed: int, commands: Commands) -> list[Try]:
    """The tries of earlier calls, then those that are still to be made; each is kept in a file at once."""
    file, found = work / _TRIES, _earlier(work / _TRIES)
    known = jobs(work)
    undisturbed = cache(lambda name: whole(known[name], commands, work))
    killed_alone = cache(lambda: _TwoProcesses(work, arguments.steps))

    def attempt(kind: str, number: int, name: str, directory: Path) -> Try:
        draw = random.Random(f"{seed} {kind} {number}")
        if name == "processes":
            return killed_alone().kill_once(directory, seed, number)
        once: Callable[..., Try] = kill_once if kind == "kill" else pair_once
        return once(known[name], commands, undisturbed(name), directory, draw)

    for kind, times in (("kill", arguments.times), ("pair", arguments.pairs)):
        # Process 0 alone takes the locks of a run of two, as the single process of the other jobs does.
        names = [name for name in arguments.jobs if kind == "kill" or name != "processes"]
        for number in range(times if names else 0):
            if (kind, number) in found:
                continue
            directory = work / f"{kind}{number}"
            done = found[kind, number] = attempt(kind, number, names[number % len(names)], directory)
            with file.open("a") as kept:
                kept.write(json.dumps([number, *dataclasses.astuple(done)]) + "\n")
            print(f"{kind} {number + 1}/{times} {done.line()}", flush=True)
            if not done.problems:
                shutil.rmtree(directory)
    return [found[key] for key in sorted(found)]


def _earlier(file: Path) -> dict[tuple[str, int], Try]:
    """The tries in a file, by kind and number; a line that was cut off, and what follows it, is removed."""
    found, kept = {}, []
    for line in file.read_text().splitlines() if file.exists() else ():
        try:
            number, *rest = json.loads(line)
        except ValueError:
            break
        found[rest[0], number] = Try(*rest)
        kept.append(line + "\n")
    if kept:
        replace_file(file, "".join(kept).encode())
    return found


class _TwoProcesses:
    """A run of two processes, with what undisturbed ones leave."""

    def __init__(self, work: Path, steps: int):
        self._run = lambda directory: two_processes.Run(directory, steps=steps, cache=work / "compiled2")
        self._steps, kept = steps, work / "processes.json"
        if kept.exists():  # of an earlier call
            self.expected, self.seconds = two_processes.result(work / "whole"), json.loads(kept.read_text())["seconds"]
            return
        self.expected, _ = two_processes.undisturbed(self._run(work / "whole"))
        # Time the second run: as the runs to be killed, it finds the programs that the first one compiled.
        again, self.seconds = two_processes.undisturbed(self._run(work / "again"))
        if again != self.expected:
            raise InputError(f"{work}: two undisturbed runs gave different results; there is nothing to compare with.")
        kept.write_text(json.dumps({"seconds": self.seconds}))

    def kill_once(self, directory: Path, seed: int, number: int) -> Try:
        """Kills one of the processes at the moment that the seed and the number of the kill give."""
        moment = two_processes.moments(number + 1, seed, seconds=self.seconds, tracklets=2 * PEOPLE,
                                       checkpoints=2 * math.ceil(self._steps / EVERY))[-1]
        done = two_processes.kill_once(self._run(directory), moment, self.expected)
        problems = [problem for problem, is_so in (("ANOTHER RESULT", not done["same"]),
                                                   ("the other process did not end by itself", not done["ended"]))
                    if is_so]
        phase = ("writing a checkpoint" if done["writing"] else "completing" if done["completing"] else "other work")
        return Try("kill", "processes", phase, f"process {moment[0]}, {moment[1]} {moment[2]:.4g}", problems)


def tally(tries: list[Try]) -> str:
    """The tally of all tries, by job and by what it did when it was killed, and the lines of those that went wrong."""
    kills, pairs = ([each for each in tries if each.kind == kind] for kind in ("kill", "pair"))
    all_of, good = (Counter((each.job, each.phase) for each in kills if not (only_good and each.problems))
                    for only_good in (False, True))
    rows = [(f"{job}: {phase}", count, good[job, phase]) for (job, phase), count in sorted(all_of.items())]
    wrong = [each.line() for each in tries if each.problems]
    table = text_table(("killed", "times", "the same"), rows) + "\n" if rows else ""
    return "\n".join([
        table, *wrong,
        f"{len(kills)} kills: {good.total()} end results are the same; {len(pairs)} pairs: in "
        f"{sum(not each.problems for each in pairs)} one ended and the other was refused"])


if __name__ == "__main__":
    run_as_command(lambda: sys.exit(0 if main(tyro.cli(Arguments, description=__doc__)) else 1))
