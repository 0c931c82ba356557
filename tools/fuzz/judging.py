"""Runs one try, and decides how it ended."""

import contextlib
import io
import os
import re
import shutil
import signal
import stat
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from tools.fuzz.tries import Try
from vrstc_jax.runtime import lock, signals
from vrstc_jax.runtime.errors import InputError

GOOD, BAD = ("error", "accepted", "warned"), ("traceback", "hang", "memory", "leftover", "wrong pixel")
SECONDS, MEGABYTES = 20.0, 500
_BUSY = 6  # times the seconds, at which any call hangs
_TEMPORARY = re.compile(r"\.partial$|^\..*\.lock$|\.unfinished$|incomplete|\.removed$|^work$|orbax-checkpoint-tmp")
# A progress bar's lines.
_BAR = re.compile(r"^(?!vrstc: )[\w ,:.-]*: +(\d+%\|.*|\d+\w*(/\d+)? .*)$|^$")
Snapshot = dict[str, tuple]


class Hang(BaseException):
    """A try took too long."""


@dataclass
class Ended:
    """How a try ended: one of `GOOD` or `BAD`, and why."""

    outcome: str
    why: str
    output: str = ""


def run(each: Try, folder: Path, *, seconds: float = SECONDS, megabytes: int = MEGABYTES) -> Ended:
    """Runs a try whose input is in `folder`."""
    temporary = folder.parent / "tmp"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    before, memory = snapshot(folder), _Memory()
    with _in(folder, temporary), captured() as output:
        code, error = _call(each.call, seconds)
    text = output.getvalue() + (error if code is None else "")
    if code == "hang":
        return Ended("hang", f"more than {seconds:g} s", text + error)
    accepted = code == 0
    grown = memory.grown()
    problem = _words_problem(code, output.getvalue(), error)
    if problem:
        return Ended("traceback", problem, text)
    if grown > megabytes:
        return Ended("memory", f"{grown} MB more", text)
    left = leftovers(each, before, snapshot(folder), accepted, folder) or [
        f"TMPDIR/{entry.name}" for entry in temporary.iterdir()]
    if left:
        return Ended("leftover", ", ".join(left[:5]), text)
    if accepted and each.check is not None:
        try:
            wrong = each.check()
        except Exception as found:  # the results cannot be read
            wrong = f"{type(found).__name__}: {found}"
        if wrong:
            return Ended("wrong pixel", wrong, text)
    if not accepted:
        return Ended("error", _last_line(output.getvalue()) or error, text)
    return Ended("warned" if "vrstc: warning: " in output.getvalue() else "accepted", _last_line(output.getvalue()),
                 text)


def silently(call: Callable[[], object], folder: Path) -> None:
    """Calls, in a folder, a command that must succeed, without its output."""
    with _in(folder, folder.parent), captured() as output:
        code, error = _call(call, 600)
    if code != 0:
        raise RuntimeError(f"a good input was refused: {output.getvalue()}{error}")


def snapshot(folder: Path) -> Snapshot:
    """{path below the folder: what identifies its content} of all files, links and folders."""
    found: Snapshot = {}
    for root, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(root, name)
            status = os.lstat(path)
            if stat.S_ISDIR(status.st_mode):
                about: tuple = ("folder",)
            elif stat.S_ISLNK(status.st_mode):
                about = ("link", os.readlink(path))
            else:
                about = (stat.S_IFMT(status.st_mode), status.st_ino, status.st_size, status.st_mtime_ns)
            found[os.path.relpath(path, folder)] = about
    return found


def leftovers(each: Try, before: Snapshot, after: Snapshot, accepted: bool, folder: Path) -> list[str]:
    """What a try changed that it must not change."""
    changed = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    outputs = [os.path.normpath(path) for path in each.outputs]
    given = {os.path.basename(path) for path in (*before, *outputs)}  # which may be called as temporary files are

    def inside(path: str) -> bool:
        return any(path == output or path.startswith(output + os.sep) for output in outputs)

    # An error after the first result keeps what was made, and the same command goes on from there.
    kept = accepted or each.resumed or any(
        "scores" in Path(path).parts or "reid" in Path(path).parts for path in changed if inside(path))
    wrong = [path for path in changed if not (kept and inside(path) or path in _parents(outputs) and kept)]
    if accepted:
        wrong += [path for path in changed if path in after and path not in before and inside(path)
                  and _TEMPORARY.search(os.path.basename(path)) and os.path.basename(path) not in given]
    return [f"{path} ({'new' if path not in before else 'gone' if path not in after else 'changed'})"
            for path in wrong]


def _parents(outputs: list[str]) -> set[str]:
    return {str(parent) for output in outputs for parent in Path(output).parents}


@contextlib.contextmanager
def captured() -> Iterator[io.StringIO]:
    """Collects what is written to both streams, by libraries in C too; the text is there after the block."""
    found = io.StringIO()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="backslashreplace") as file:
        streams = sys.stdout, sys.stderr
        for stream in streams:
            stream.flush()
        kept = [os.dup(1), os.dup(2)]
        both = io.TextIOWrapper(os.fdopen(os.dup(file.fileno()), "wb", 0), encoding="utf-8",
                                errors="backslashreplace", write_through=True)
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
        sys.stdout = sys.stderr = both
        try:
            yield found
        finally:
            both.flush()
            sys.stdout, sys.stderr = streams
            for number, copy in zip((1, 2), kept):
                os.dup2(copy, number)
                os.close(copy)
            both.close()
            file.seek(0)
            found.write(file.read())


@contextlib.contextmanager
def _in(folder: Path, temporary: Path) -> Iterator[None]:
    here, arguments, before, named = os.getcwd(), sys.argv, tempfile.tempdir, os.environ.get("TMPDIR")
    os.chdir(folder)
    os.environ["TMPDIR"] = tempfile.tempdir = str(temporary)
    try:
        yield
    finally:
        os.chdir(here)
        sys.argv, tempfile.tempdir = arguments, before
        os.environ.pop("TMPDIR")
        if named is not None:
            os.environ["TMPDIR"] = named


def _call(call: Callable[[], object], seconds: float) -> tuple[int | str | None, str]:
    """(exit code, error): 0 if it returned, 2 for an InputError, 'hang', or None for another error."""
    began = time.monotonic(), time.process_time()
    last = began[1]

    def on_alarm(_: int, __: FrameType | None) -> None:
        nonlocal last
        wall, used = time.monotonic() - began[0], time.process_time()
        waits, last = used - last < 0.01 * tick, used
        # On a busy machine a call may take long, and not hang.
        if wall >= seconds and (waits or used - began[1] >= seconds or wall >= _BUSY * seconds):
            raise Hang

    tick = seconds / 10
    before = signal.signal(signal.SIGALRM, on_alarm)
    # Again and again, since code that handles every error swallows one.
    signal.setitimer(signal.ITIMER_REAL, tick, tick)
    try:
        try:
            with lock.releasing():
                call()
            return 0, ""
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except Hang:
        signal.setitimer(signal.ITIMER_REAL, 0)
        return "hang", traceback.format_exc()
    except SystemExit as error:
        if error.code in signals.CODES.values():  # the session's signal, which the command took for its own
            raise KeyboardInterrupt from None
        return (error.code if isinstance(error.code, int) else int(error.code is not None)), str(error.code)
    except InputError as error:
        return 2, f"vrstc: {error}"
    except KeyboardInterrupt:
        raise
    except BaseException:
        return None, traceback.format_exc()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _words_problem(code: int | str | None, output: str, error: str) -> str | None:
    """What is wrong with how a call ended and with what it printed."""
    if code is None:
        return error.strip().splitlines()[-1]
    if code not in (0, 2) and not (code == 1 and "vrstc: " in _last_line(output)):
        return f"exit code {code}"
    if "Traceback (most recent call last)" in output:
        return "a traceback on the terminal"
    if code == 0:
        return None
    if "╭─" in output or error.startswith("vrstc: "):  # the command line's own box of wrong flags
        return None
    return None if _last_line(output).startswith("vrstc: ") else f"no line that says why: {_last_line(output)!r}"


def _last_line(output: str) -> str:
    lines = [line for line in re.split("[\r\n]+", output) if line.strip() and not _BAR.match(line)]
    return lines[-1] if lines else ""


class _Memory:
    """How much the process' resident memory grows, at its highest, in MB; always 0 where the system does not tell."""

    def __init__(self) -> None:
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # the highest begins again
        self._before = _status("VmHWM")

    def grown(self) -> int:
        """In MB."""
        return max(0, _status("VmHWM") - self._before) // 1024


def _status(key: str) -> int:
    with contextlib.suppress(OSError):
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith(key):
                return int(line.split()[1])
    return 0
