"""One try: a command that is killed and run again, or two of them at once on one output."""

import random
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from tools.kill_tally.jobs import Job, Whole, wait_for
from tools.kill_tally.server import Child, Commands
from vrstc_jax.runtime.errors import InputError

_REFUSED = "another process is writing here"


@dataclass(frozen=True)
class Try:
    """How a try went.

    Attributes:
      kind: 'kill' or 'pair'.
      job: its name.
      phase: what the command did when it was killed; '' of a pair.
      moment: when it was killed, or when the second one was started.
      problems: whatever was not as it should be; none if all was.
    """

    kind: str
    job: str
    phase: str
    moment: str
    problems: list[str]

    def line(self) -> str:
        """For the terminal."""
        what = f"killed {self.moment} ({self.phase})" if self.kind == "kill" else f"twice, {self.moment}"
        return f"{self.job}: {what}: {'; '.join(self.problems) or 'the same'}"


def kill_once(job: Job, commands: Commands, whole: Whole, directory: Path, draw: random.Random) -> Try:
    """Kills a job at a random moment, or when it wrote a random file, and runs it again.

    What the killed one leaves must be whole, and what the other leaves must be as if nothing had been. A job that ends
    before the moment is started again with an earlier one.

    Raises:
      InputError: the job failed before it was killed.
    """
    by_file = draw.random() < 0.5
    seconds, count = draw.uniform(0, whole.seconds), draw.randint(1, whole.files)
    while True:
        shutil.rmtree(directory, ignore_errors=True)
        child = commands.start(job.words, directory, "log0")
        if wait_for(child, directory, seconds=seconds, count=count if by_file else None):
            break
        if child.wait():
            raise InputError(f"{directory}: the command failed before it was killed; see log0.")
        seconds, count = 0.8 * seconds, max(1, count - 5)
    child.kill()
    phase = job.phase(directory)
    problems = [f"{problem} after the kill" for problem in whole.problems(job.left(directory), partly=True)]
    again = commands.start(job.words, directory, "log1")
    if again.wait():
        problems.append(f"again: exit code {again.wait()}: {_last(again)}")
    problems += whole.problems(job.left(directory))
    return Try("kill", job.name, phase, f"at file {count}" if by_file else f"after {seconds:.2f} s", problems)


def pair_once(job: Job, commands: Commands, whole: Whole, directory: Path, draw: random.Random) -> Try:
    """Starts a job twice on one output, the second one a moment later: one of the two must be refused, in one line."""
    shutil.rmtree(directory, ignore_errors=True)
    # So early that the first one cannot have ended before the second one asks for the lock.
    later = draw.choice([0.0, draw.uniform(0, 0.3) * whole.seconds])
    both = [commands.start(job.words, directory, "log0")]
    time.sleep(later)
    both.append(commands.start(job.words, directory, "log1"))
    codes = [child.wait() for child in both]
    problems = whole.problems(job.left(directory))
    if sorted(codes) != [0, 2]:
        problems.append(f"exit codes {codes}: {'; '.join(_last(child) for child in both)}")
    else:
        refused = both[codes.index(2)]
        errors = [line for line in _lines(refused) if _REFUSED in line]
        if len(errors) != 1 or errors[0] != _last(refused) or "Traceback" in refused.said():
            problems.append(f"the refused one said: {_last(refused)}")
    return Try("pair", job.name, "", f"{later:.2f} s apart", problems)


def _lines(child: Child) -> list[str]:
    return child.said().replace("\r", "\n").splitlines()


def _last(child: Child) -> str:
    return next(reversed(_lines(child)), "")
