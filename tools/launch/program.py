"""What is to be run, the checkout it is from, and the names that it gets."""

import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tools.launch.steps import Command
from vrstc_jax.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
PREEMPTED = 75
"""EX_TEMPFAIL: training wrote a checkpoint after SIGTERM and ended; the same command goes on from there."""
STORAGE = "etils[epath-gcs]"
"""Reads and writes gs:// paths."""


@dataclass(frozen=True)
class Program:
    """`python -m module *arguments`."""

    module: str
    arguments: tuple[str, ...]

    @property
    def words(self) -> tuple[str, ...]:
        """The module and its arguments."""
        return self.module, *self.arguments


def program_of(words: list[str]) -> Program:
    """What stands after `--`: the experiment's module, then its arguments.

    Raises:
      InputError: if there is no such experiment in this checkout, or an argument is not text.
    """
    known = sorted(f"experiments.{path.stem}" for path in (ROOT / "experiments").glob("*.py")
                   if '__name__ == "__main__"' in path.read_text(encoding="utf-8"))
    if not words:
        raise InputError(f"say what to run after --: one of {', '.join(known)}, and its flags.")
    module, *arguments = words
    if module not in known:
        raise InputError(f"there is no experiment '{module}'; choose one of {', '.join(known)}.")
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise InputError(f"the argument {argument!r} is not UTF-8 text; rename what it names.") from None
    return Program(module, tuple(arguments))


@dataclass(frozen=True)
class Source:
    """An archive of what is committed in this checkout."""

    path: Path
    commands: tuple[Command, ...]
    """Makes it."""


def dist(name: str) -> Path:
    """Where a file of that name goes that is made to be sent; Git ignores the folder."""
    return ROOT / "dist" / name


def source(*extra: Path) -> Source:
    """The archive to send: the commit's files in a folder `vrstc_jax`, and the extra files beside it.

    Warns on stderr where files differ from the commit.

    Raises:
      InputError: if this is no Git checkout.
    """
    top, commit = _git("rev-parse", "--show-toplevel", "--verify", "HEAD").splitlines()
    if Path(top) != ROOT.resolve():
        raise _no_checkout()
    changed = _git("status", "--porcelain", "--untracked-files=no").splitlines()
    if changed:
        print(f"launch: warning: {len(changed)} changed files go as they are in the commit, such as "
              f"{changed[0][3:]}", file=sys.stderr)
    path = dist(f"vrstc_jax-{commit[:12]}-{'image' if extra else 'source'}.tar.gz")
    words = ("git", "-C", str(ROOT), "archive", "--format=tar.gz", f"--output={path}",
             *(f"--add-file={file}" for file in extra), "--prefix=vrstc_jax/", commit)
    return Source(path, (Command(("mkdir", "-p", str(path.parent))), Command(words)))


def _git(*words):
    try:
        done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        raise _no_checkout() from None
    return done.stdout


def _no_checkout():
    return InputError(f"{ROOT}: is not a Git checkout with a commit; what is committed is what is sent, so "
                      "git clone the repository and start from there.")


def require_name(name: str, *, longest: int, of: str) -> None:
    """Raises InputError unless Google Cloud and Kubernetes take the name."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name) or len(name) > longest:
        raise InputError(f"'{name}' cannot be the name of {of}: lower-case letters, digits and dashes, a "
                         f"letter first, no dash last, at most {longest} characters.")


def require_positive(**values: int) -> None:
    """Raises InputError unless all are 1 or more."""
    for name, value in values.items():
        if value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be 1 or more. Got {value}.")


def require_not_negative(**values: int) -> None:
    """Raises InputError unless all are 0 or more."""
    for name, value in values.items():
        if value < 0:
            raise InputError(f"--{name.replace('_', '-')} must be 0 or more. Got {value}.")


def require_worker(worker: str) -> None:
    """Raises InputError unless it is a number or `all`."""
    if worker != "all" and not re.fullmatch(r"[0-9]+", worker):
        raise InputError(f"--worker is a number from 0, or all. Got '{worker}'.")
