"""What a verb does, as a list of files to write and commands to run; printed, or carried out.

`sketch` prints a plan so that a shell does the same with it; `carry_out` does it, and where a step fails it
takes back what the plan says.
"""

import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from vrstc_jax.errors import InputError

_INSTALL = {
    "gcloud": "install the Google Cloud CLI, https://cloud.google.com/sdk/docs/install",
    "kubectl": "install it with: gcloud components install kubectl gke-gcloud-auth-plugin",
    "git": "install Git",
    "sbatch": "run this on a login node of a Slurm cluster",
    "squeue": "run this on a login node of a Slurm cluster",
    "scancel": "run this on a login node of a Slurm cluster",
}


class CommandFailed(RuntimeError):
    """A command ended with an error. The message is one line: which command, and what was done about it."""


@dataclass(frozen=True)
class File:
    """A file to write, with the folder it lies in."""

    path: Path
    text: str


@dataclass(frozen=True)
class Command:
    """A command to run, as words."""

    words: tuple[str, ...]
    note: str = ""
    """For the reader of the dry run: what is looked for in its output."""
    check: Callable[[str], bool] | None = None
    """Given its output: is it as wanted? Raises InputError or CommandFailed if it will never be."""
    patience: float = 0
    """Seconds for which it is run again until `check` holds."""
    pause: float = 10
    """Seconds in between."""
    optional: bool = False
    """It may fail, and `check` may never hold."""

    def __str__(self):
        return shlex.join(self.words)


@dataclass(frozen=True)
class Plan:
    """What is to be done, and what to do when that fails."""

    steps: tuple[File | Command, ...]
    undo: tuple[Command, ...] = ()
    """Takes back what was made, where a step from `made` on failed."""
    made: int = 0
    """The first step that makes something that `undo` takes back."""
    hint: str = ""
    """Told with a failure: what the user may do."""


def sketch(plan: Plan) -> str:
    """The plan as shell: files as here-documents, commands quoted, what is done on failure as comments."""
    lines = []
    for step in plan.steps:
        if isinstance(step, File):
            end = _delimiter(step.text)
            lines += [shlex.join(["mkdir", "-p", str(step.path.parent)]),
                      f"cat >{shlex.quote(str(step.path))} <<'{end}'", step.text.removesuffix("\n"), end]
        else:
            lines.append(f"{step}  # {step.note}" if step.note else str(step))
    if plan.undo:
        lines.append("# where one of these fails:")
        lines += [f"# {line}" for step in plan.undo for line in str(step).splitlines()]
    return "\n".join(lines)


def carry_out(plan: Plan, *, keep: bool = False) -> None:
    """Does it, telling each command on stderr.

    Args:
      plan: what to do.
      keep: leave what was made where a step fails.

    Raises:
      InputError: if a program is missing, or an output says that the input will not do.
      CommandFailed: if a command fails, or its output does not come to what is wanted.
    """
    _require({step.words[0] for step in (*plan.steps, *plan.undo) if isinstance(step, Command)})
    for number, step in enumerate(plan.steps):
        try:
            _do(step)
        except BaseException as error:  # whatever it is, what was made costs money
            undone = ""
            if plan.undo and number >= plan.made:
                undone = "; what was made is kept, as --keep says" if keep else _undo(plan.undo)
            if not isinstance(error, CommandFailed):
                if undone:
                    how = "interrupted" if isinstance(error, KeyboardInterrupt) else "failed"
                    print(f"launch: {how}{undone}", file=sys.stderr)
                raise
            hint = f"; {plan.hint}" if plan.hint else ""
            raise CommandFailed(f"{error}{undone}{hint}.") from None


def _do(step):
    if isinstance(step, File):
        try:
            step.path.parent.mkdir(parents=True, exist_ok=True)
            step.path.write_text(step.text, encoding="utf-8", newline="")
        except OSError as error:
            raise CommandFailed(f"{step.path}: could not be written, {error.strerror}") from None
        return
    print(f"+ {step}", file=sys.stderr, flush=True)
    until = time.monotonic() + step.patience
    while True:
        try:
            done = subprocess.run(step.words, stdout=subprocess.PIPE if step.check else None, check=False,
                                  encoding="utf-8", errors="replace")
        except OSError as error:
            raise CommandFailed(f"{_name(step)} could not be started, {error.strerror}") from None
        if done.returncode and not step.optional:
            raise CommandFailed(f"{_name(step)} failed with exit code {done.returncode}")
        if step.check is None or (not done.returncode and step.check(done.stdout)):
            return
        if time.monotonic() >= until:
            if step.optional:
                return
            raise CommandFailed(f"{_name(step)} still printed '{done.stdout.strip()}' after "
                                f"{step.patience:.0f} s, where this was wanted: {step.note}")
        time.sleep(step.pause)


def _undo(commands):
    for command in commands:
        print(f"+ {command}", file=sys.stderr, flush=True)
        code = subprocess.run(command.words, check=False).returncode
        if code and not command.optional:
            return f"; what was made is perhaps still there, since taking it back failed: {command}"
    return "; what was made has been taken back"


def _require(programs):
    for program in sorted(programs):
        # A path may be one that an earlier step makes.
        if "/" not in program and shutil.which(program) is None:
            raise InputError(f"{program} is not on the PATH; {_INSTALL.get(program, 'install it')}.")


def _name(command):
    """The command up to its flags, as people call it."""
    words = []
    for word in command.words:
        if word.startswith("-"):
            break
        words.append(word)
    return shlex.join(words[:6])


def _delimiter(text):
    """A line that is not in the text."""
    end = "END"
    while end in text.split("\n"):
        end += "_"
    return end
