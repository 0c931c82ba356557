"""Runs commands one after another, or prints them as shell where nothing is to be run."""

import shlex
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import takewhile

from vrstc_jax.runtime.errors import InputError

_POLL_SECONDS = 30


class CommandFailed(RuntimeError):
    """A command failed. The message is one line without its full stop: which command, and what was done about it."""


@dataclass(frozen=True)
class Shell:
    """Runs commands and prints each on stderr first. On a dry run prints them on stdout, quoted, and runs none."""

    dry_run: bool = False

    def run(self, *words: str) -> None:
        """Runs a command. Raises InputError if it is not installed, and CommandFailed if it ends with an error."""
        if self._say(words):
            _run(words)

    def read(self, *words: str, note: str) -> str:
        """Runs a command and returns its output; "" on a dry run, which prints `note` beside it. Raises as `run`."""
        return _run(words, stdout=subprocess.PIPE) if self._say(words, note) else ""

    def wait(self, *words: str, wanted: str, never: Collection[str], seconds: float) -> None:
        """Repeats a command until it prints `wanted`. Raises as `run`, and CommandFailed if it prints one of `never` or
        has not printed `wanted` after so many seconds."""
        if not self._say(words, f"repeat until it prints {wanted}"):
            return
        until = time.monotonic() + seconds
        while (state := _run(words, stdout=subprocess.PIPE).strip()) != wanted:
            if state in never:
                raise CommandFailed(f"{_name(words)} printed {state}, not {wanted}")
            if time.monotonic() >= until:
                raise CommandFailed(f"{_name(words)} still printed {state}, not {wanted}, after {seconds:.0f} s")
            time.sleep(_POLL_SECONDS)

    @contextmanager
    def undo_by(self, *words: str, keep: bool) -> Iterator[None]:
        """Runs a command if the block fails, whatever the reason, unless told to keep what the block created."""
        if self.dry_run:
            yield
            print(f"# if one of these fails: {shlex.join(words)}")
            return
        try:
            yield
        except BaseException as error:  # also an interrupt: what was created costs money
            if keep:
                outcome = "what was created is kept, because of --keep"
            else:
                self._say(words)
                gone = subprocess.run(words, check=False).returncode == 0
                outcome = ("what was created has been deleted" if gone else
                           f"what was created may still exist, because deleting it failed: {shlex.join(words)}")
            if isinstance(error, CommandFailed):
                raise CommandFailed(f"{error}; {outcome}") from None
            print(f"launch: {outcome}.", file=sys.stderr)
            raise

    def _say(self, words: tuple[str, ...], note: str = "") -> bool:
        """Prints a command; returns whether to run it."""
        line = shlex.join(words)
        if self.dry_run:
            print(f"{line}  # {note}" if note else line)
        else:
            print(f"+ {line}", file=sys.stderr, flush=True)
        return not self.dry_run


def _run(words: tuple[str, ...], stdout: int | None = None) -> str:
    try:
        done = subprocess.run(words, stdout=stdout, check=False, encoding="utf-8", errors="replace")
    except FileNotFoundError:
        where = ", https://cloud.google.com/sdk/docs/install" if words[0] == "gcloud" else ""
        raise InputError(f"{words[0]} is not on the PATH; install it{where}.") from None
    except OSError as error:
        raise CommandFailed(f"{_name(words)} could not be started: {error.strerror}") from None
    if done.returncode:
        raise CommandFailed(f"{_name(words)} failed with exit code {done.returncode}")
    return done.stdout or ""


def _name(words: tuple[str, ...]) -> str:
    """A command up to its flags, as a reader knows it."""
    return shlex.join(takewhile(lambda word: not word.startswith("-"), words))
